"""The loop over time. Read `cells.py` first.

`unrolled` is all there is to recurrence: the same cell at every step, each in a scope that says its t.

Padding. Where the rows of a batch differ in length, step t is real for some of them only, `valid[t]`. At the others the
state stays what it was, and the output is zero. That is all, in both directions: going forward, a row's state stops at
its end; going backward, it stays the initial one until that end is reached.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq.dtypes import Array
from tinygrad_seq.models.cells import State, call_by_step, in_words, parts_of
from tinygrad_seq.ops.elementwise import where
from tinygrad_seq.recording import Recording
from tinygrad_seq.scopes import Scope, current, setting

History = dict[str, list[Any]]  # of one cell: its gates and states by name, one for each step


class Run(NamedTuple):
    """What came of running a cell over a sequence: an output for each step, the last state, and all on the way."""

    outputs: list[Any]
    state: State
    history: History


@tg.collector_waiting()
def unrolled(
    cell: Any,
    xs: Sequence[Any],
    state: State,
    valid: Array | None = None,
    *,
    reverse: bool = False,
    mask: tg.Tensor | None = None,
    keep: bool = False,
    **tags: Any,
) -> Run:
    """Run a cell over a sequence, step by step.

    Args:
        cell: see `Cell`.
        xs: for each of T steps what `cell.project` made of it, or else the input itself, (B, ...).
        state: the initial state, an array or a tuple of them.
        valid: (T, B), which rows are real at each step; all by default.
        reverse: from the last step to the first.
        mask: what the state's first array is multiplied by where the cell's products read it.
        keep: whether to keep gates and states in `history`: the last value of every scope that the cell opens.
        **tags: of the scope of each step.
    """
    name, step, single = name_of(cell), getattr(cell, "step", cell), not isinstance(state, tuple | list)
    parts = parts_of(state)
    names = names_of_state(cell, len(parts))
    first = current().scope.steps_from
    call_by_step(parts, names, first - 1 if first and not reverse else "init")
    outputs: list[Any] = [None] * len(xs)
    history: History = {}
    for t in reversed(range(len(xs))) if reverse else range(len(xs)):
        at_t = tags if valid is None else {**tags, "valid": valid[t]}
        watching: AbstractContextManager[dict[str, tg.Tensor]] = values_by_scope() if keep else nullcontext({})
        with tg.scope(name, t=t, role="cell", **at_t) as place, watching as gates:
            seen = {} if mask is None else {"seen": parts[0] * mask}
            output, new = output_and_state(cell, step(xs[t], parts[0] if single else parts, **seen), single)
            _refuse_other_shapes(cell, parts, new)
            if valid is not None and not valid[t].all():
                output, new = _where_real(valid[t], t, output, new, parts)
            call_by_step(new, names, place.t)
        outputs[t], parts = output, new
        if keep:
            for key, value in (*gates.items(), *zip(names, parts)):
                history.setdefault(key, [None] * len(xs))[t] = value
    return Run(outputs, parts[0] if single else parts, history)


def name_of(cell: Any) -> str:
    """The scope of a cell's steps: its `name`, or its class's without "Cell"."""
    name = getattr(cell, "name", None)
    return name if isinstance(name, str) else type(cell).__name__.removesuffix("Cell").lower() or "cell"


def names_of_state(cell: Any, several: int) -> Sequence[str]:
    """What a cell calls the arrays of its state: its `state_names`, or h, c, s2, s3, ..."""
    names: Sequence[str] = getattr(cell, "state_names", ("h", "c", *(f"s{i}" for i in range(2, several))))
    return names


def initial_state_of(cell: Any, batch: int, dtype: Any) -> State:
    """A cell's own initial state, or zeros (B, hidden_size); where it has several `state_names`, as many of them."""
    if hasattr(cell, "initial_state"):
        return cell.initial_state(batch, dtype)
    if not hasattr(cell, "hidden_size"):
        raise TypeError(f"{type(cell).__name__} needs a hidden_size, or initial_state(batch, dtype); see Cell")
    parts = tuple([tg.Tensor(np.zeros((batch, cell.hidden_size), dtype)) for _ in getattr(cell, "state_names", ("h",))])
    return parts if len(parts) > 1 else parts[0]


class LastValues(Recording):
    """A recording of the last value in every scope and of nothing else. All is passed on to the recording around it."""

    def __init__(self, outer: Recording | None) -> None:
        super().__init__(outer)
        self.last: dict[Scope, tg.Tensor] = {}

    def write(self, outputs: Sequence[tg.Tensor], operands: Sequence[Any], source: str) -> None:
        """Note a call that has just run."""
        self.last[outputs[-1].scope] = outputs[-1]
        if self._outer is not None:
            self._outer.write(outputs, operands, source)


@contextmanager
def values_by_scope() -> Iterator[dict[str, tg.Tensor]]:
    """By name, the last value of every scope that is opened inside, whoever's cell opens it. The dict is filled at the end."""
    values: dict[str, tg.Tensor] = {}
    place, recording = current().scope, LastValues(current().tape)
    with setting(tape=recording):
        yield values
    for scope, value in recording.last.items():
        if path := _path(scope, place):
            values[path] = value


def _path(scope: Scope | None, place: Scope) -> str:
    """The names from a place down to a scope: "leak", "attention/score"; "" for the place itself, and for what is elsewhere."""
    parts: list[str] = []
    while scope is not None and scope is not place:
        parts.append(scope.part)
        scope = scope.parent
    return "" if scope is None else "/".join(reversed([part for part in parts if part]))


def output_and_state(cell: Any, made: Any, single: bool) -> tuple[Any, tuple[tg.Tensor, ...]]:
    """(output, arrays of the state) of what a step made: a state, whose first array is the output, or the pair of both.

    Args:
        cell: whose step it was.
        made: what it made.
        single: whether its state is one array, and no tuple.
    """
    if made is None:
        raise TypeError(f"{type(cell).__name__} made nothing of its input and state: does its step return the new state?")
    several = isinstance(made, tuple | list)
    paired = several and len(made) == 2 and (single or isinstance(made[1], tuple | list))
    output, state = made if paired else (made[0] if several else made, made)
    return output, parts_of(state)


def _refuse_other_shapes(cell: Any, old: Sequence[Any], new: Sequence[Any]) -> None:
    before, after = [part.shape for part in old], [part.shape for part in new]
    if before != after:
        raise tg.ShapeError(f"{type(cell).__name__} made a state of {in_words(after)} out of one of {in_words(before)}")


def _where_real(rows: Array, t: int, output: Any, new: Sequence[Any], old: Sequence[Any]) -> tuple[Any, tuple[Any, ...]]:
    """Output and state of a step that is real for these rows only: at the others zeros, and the state as it was.

    An output that is the state's first array is read off the state that is kept, whose gradient would else lack what flows
    back through the output.
    """
    column = {n: tg.tensor(rows.reshape(-1, *(1,) * (n - 1)), name=f"real<{t}>") for n in {part.ndim for part in (output, *new)}}
    state = tuple([where(column[part.ndim], part, before) for part, before in zip(new, old)])
    return where(column[output.ndim], state[0] if output is new[0] else output, 0), state
