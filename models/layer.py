"""What a recurrent layer is: loops over time on top of each other. Read `loop.py` first; `layers.py` has those with names.

`Layer` stacks the loops, in one direction or two, and minds shapes, lengths and dropout. All is checked before anything runs.

What stands in the padding is replaced by zero before the first product, and so reaches nothing, be it NaN.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq.dtypes import Array
from tinygrad_seq.models.cells import State, in_words, numbers, parts_of, parts_that_fit
from tinygrad_seq.models.loop import Run, initial_state_of, name_of, unrolled
from tinygrad_seq.ops.elementwise import where
from tinygrad_seq.ops.nn import dropout
from tinygrad_seq.ops.shape import concatenate, stack, swapaxes, unstack
from tinygrad_seq.truncated import counted_from

Merge = str | Callable[[Any, Any], Any] | None

MERGES: dict[Any, Callable[[Any, Any], Any]] = {
    "concat": lambda forward, backward: concatenate([forward, backward], axis=-1),
    "sum": lambda forward, backward: forward + backward,
    "mul": lambda forward, backward: forward * backward,
    "ave": lambda forward, backward: (forward + backward) * 0.5,
}


class Layer(tg.Module):
    """Cells run over sequences: several on top of each other, each in one direction or two.

    Args:
        cells: those of the first layer, then those of the next; forward before backward.
        directions: how many cells are side by side.
        reverse: whether a single direction is from the end to the start.
        batch_first: whether inputs and outputs are (B, T, ...) instead of (T, B, ...).
        dropout: the probability to drop an output of one layer before the next; drawn anew at every step.
        input_dropout, state_dropout: the same for a layer's inputs, and for what its products read of the previous
            state, with one mask for all steps of a sequence (Gal & Ghahramani, "A theoretically grounded application
            of dropout in recurrent neural networks", 2016). What a cell carries on unmultiplied is not dropped.
        merge: how the outputs of two directions become one: "concat", "sum", "mul", "ave", a function, or None
            for a pair of them.

    Attributes:
        cells: as given.
    """

    def __init__(
        self,
        cells: Sequence[Any],
        directions: int = 1,
        *,
        reverse: bool = False,
        batch_first: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        state_dropout: float = 0.0,
        merge: Merge = "concat",
    ) -> None:
        for what, p in dict(dropout=dropout, input_dropout=input_dropout, state_dropout=state_dropout).items():
            if not 0 <= p <= 1:
                raise ValueError(f"{what} is a probability from 0 to 1, got {p}")
        if not (callable(merge) or merge is None or merge in MERGES):
            raise ValueError(f"merge is one of {', '.join(map(repr, MERGES))}, None or a function, not {merge!r}")
        if merge is None and len(cells) > directions:
            raise ValueError("merge=None gives a pair of outputs, which no layer above can read")
        for cell in cells:
            refuse_what_is_no_cell(cell)
        if state_dropout and not all("seen" in inspect.signature(getattr(cell, "step", cell)).parameters for cell in cells):
            raise TypeError("state_dropout needs a cell whose step takes `seen`, what its products read; see Cell.step")
        self.cells = list(cells)
        self.directions = directions
        self.reverse = reverse
        self.batch_first = batch_first
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.state_dropout = state_dropout
        self.merge = merge

    @property
    def causal(self) -> bool:
        """Whether outputs depend on the steps before them only; `tg.bptt.segments` asks."""
        return self.directions == 1 and not self.reverse

    def forward(self, x: Any, state: State | None = None, lengths: Any = None, return_all: bool = False) -> Any:
        """Run over a batch of sequences.

        Args:
            x: (T, B, I), or (B, T, I) with `batch_first`.
            state: the initial one, (layers * directions, B, H), or a tuple of such arrays; zeros by default.
            lengths: (B,), how many steps of each row are real, from 0 to T; all by default.
            return_all: whether to return gates and states, too.

        Returns:
            (outputs, state): outputs (T, B, H), with two directions merged (T, B, 2H), zero beyond a row's end; the state
            after the last real step, of the form above. With `return_all` a list besides, for each cell a dict of its states
            and gates by name (a gate is a scope that the cell opens): `history[0]["u"][3]` is the update gate of step 3.

        Raises:
            ShapeError: x, the state or the lengths do not fit, or there is nothing to run over. Nothing has been run then.
            TypeError: x or the state do not hold real numbers, or lengths are no integers.
        """
        x = numbers(self, x)
        steps, batch = self._checked_size(x)
        valid = _valid(lengths, steps, batch)
        with counted_from(state):
            return self._over_time(x, self._states(state, batch, x.dtype), valid, return_all)

    def _over_time(self, x: Any, states: list[State], valid: Array | None, return_all: bool) -> Any:
        """What `forward` gives, of an input and initial states that have been checked."""
        if self.batch_first:
            with tg.scope("time_first", time_axis=0):
                x = swapaxes(x, 0, 1)
        if valid is not None:
            with tg.scope("padding", time_axis=0):
                x = where(tg.tensor(valid[:, :, None], name="real"), x, 0)  # (T, B, I)
        runs: list[Run] = []
        for first in range(0, len(self.cells), self.directions):
            layer = first // self.directions
            if layer and self.dropout:
                with tg.scope("dropout", time_axis=0, layer=layer):
                    x = dropout(x, self.dropout, self.training)
            sides = [self._run(i, x, states[i], valid, layer, return_all) for i in range(first, first + self.directions)]
            runs += [run for _, run in sides]
            x = self._merged([outputs for outputs, _ in sides], layer)
        result = self._as_given(x), together([run.state for run in runs])
        return (*result, [run.history for run in runs]) if return_all else result

    def _run(self, i: int, x: Any, state: State, valid: Array | None, layer: int, keep: bool) -> tuple[Any, Run]:
        """Cell number i over the whole sequence: its outputs as one array (T, B, H), and the run."""
        cell = self.cells[i]
        backward = i % self.directions == 1 or self.reverse
        tags: dict[str, Any] = dict(layer=layer, direction="backward" if backward else "forward")
        all_of_time = tg.scope(name_of(cell), time_axis=0, **tags)
        first = parts_of(state)[0]
        mask = self._mask(self.state_dropout, first.shape, first.dtype)
        with all_of_time:
            drop = self._mask(self.input_dropout, x.shape[1:], x.dtype)
            x = x if drop is None else x * drop
            projected = cell.project(x) if hasattr(cell, "project") else x
            xs = unstack(projected)
        run = unrolled(cell, xs, state, valid, reverse=backward, mask=mask, keep=keep, **tags)
        with all_of_time:
            return stack(run.outputs), run

    def _mask(self, p: float, shape: tuple[int, ...], dtype: Any) -> tg.Tensor | None:
        """One dropout mask for all steps, or None where nothing is dropped."""
        return dropout(np.ones(shape, dtype), p) if p and self.training else None

    def _merged(self, sides: list[Any], layer: int) -> Any:
        if len(sides) == 1:
            return sides[0]
        if self.merge is None:
            return tuple(sides)
        merge = self.merge if callable(self.merge) else MERGES[self.merge]
        with tg.scope("merge", time_axis=0, layer=layer):
            return merge(*sides)

    def _as_given(self, outputs: Any) -> Any:
        """Outputs with the axes in the user's order."""
        if not self.batch_first:
            return outputs
        with tg.scope("batch_first", time_axis=1):
            return tuple(swapaxes(y, 0, 1) for y in outputs) if isinstance(outputs, tuple) else swapaxes(outputs, 0, 1)

    # ---- what is given, checked ---------------------------------------------------------------------------------

    def _checked_size(self, x: tg.Tensor) -> tuple[int, int]:
        """(T, B) of an input that fits."""
        who, order = type(self).__name__, "(B, T, I)" if self.batch_first else "(T, B, I)"
        if x.ndim != 3:
            raise tg.ShapeError(f"{who} takes x of shape {order}, got {x.shape}")
        steps, batch = (x.shape[1], x.shape[0]) if self.batch_first else x.shape[:2]
        wanted = getattr(self.cells[0], "input_size", None)
        if wanted not in (None, x.shape[2]):
            raise tg.ShapeError(f"{who} takes {wanted} features, got x of shape {x.shape}, {order}")
        if not steps or not batch:
            raise tg.ShapeError(f"{who} needs a step and a row at least, got x of shape {x.shape}, {order}")
        return steps, batch

    def _states(self, state: State | None, batch: int, dtype: Any) -> list[State]:
        """The initial state of each cell."""
        dtype = np.result_type(dtype, *{parameter.dtype for parameter in self.parameters()})
        initial = [initial_state_of(cell, batch, dtype) for cell in self.cells]
        single, form = not isinstance(initial[0], tuple | list), [part.shape for part in parts_of(initial[0])]
        for cell, other in zip(self.cells, initial):
            if (shapes := [part.shape for part in parts_of(other)]) != form:
                raise tg.ShapeError(
                    f"{type(self).__name__} gives the states of its cells in one array: {type(self.cells[0]).__name__} has a "
                    f"state of {in_words(form)}, {type(cell).__name__} of {in_words(shapes)}"
                )
        if state is None:
            return initial
        forms = [[(len(self.cells), *shape) for shape in form]]
        if len(self.cells) == 1:
            forms += [form]  # that of the only cell, as it is
        parts = parts_that_fit(self, state, *forms)
        given = parts[0] if single else parts
        return [given] if [part.shape for part in parts] == form else by_cell(given)


# ---- the states of several cells in one -----------------------------------------------------------------------------------


def together(states: Sequence[State]) -> State:
    """The states of all cells as a layer has them: their arrays stacked on a new first axis."""
    if not isinstance(states[0], tuple | list):
        return stack(states)
    return tuple([stack(parts) for parts in zip(*states)])


def by_cell(state: State) -> list[State]:
    """A layer's state as the states of its cells."""
    if not isinstance(state, tuple | list):
        return list(unstack(state))
    return list(zip(*[unstack(part) for part in state]))


# ---- what is given, checked -----------------------------------------------------------------------------------------------


def refuse_what_is_no_cell(cell: Any) -> None:
    """TypeError for a class, for a layer, and for what makes no step."""
    if isinstance(cell, type):
        raise TypeError(f"a cell is needed, not a class: {cell.__name__}(input_size, hidden_size)")
    if isinstance(cell, Layer):
        raise TypeError(f"{type(cell).__name__} runs over all of time by itself; what is needed is a cell, which makes one step")
    if not (hasattr(cell, "step") or callable(cell)):
        raise TypeError(f"a cell makes a step(x, state), and {cell!r} has none; see Cell")


def _valid(lengths: Any, steps: int, batch: int) -> Array | None:
    """(T, B): which rows are real at each step; None for all."""
    if lengths is None:
        return None
    lengths = np.asarray(lengths)
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"lengths are integers, not {lengths.dtype}")
    if lengths.shape != (batch,):
        raise tg.ShapeError(f"lengths has one entry for each of {batch} rows, got shape {lengths.shape}")
    if lengths.min() < 0 or lengths.max() > steps:
        raise tg.ShapeError(f"lengths are from 0 to {steps}, the number of steps, got {lengths.tolist()}")
    return tg.data.valid(lengths, steps)
