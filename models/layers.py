"""Layers: a cell run over a sequence. Read `cells.py` first; `gated.py` can wait.

`unrolled` is the loop over time, and all there is to recurrence: the same cell at every step, each in a scope that says
its t. `Layer` stacks such loops, in one direction or two, and minds shapes, lengths and dropout. RNN, GRU, LSTM,
`Recurrent` and `Bidirectional` say which cells.

Padding. Where a batch has rows of several lengths, step t is real for some rows only, `valid[t]`. At the other rows the
state stays what it was, and the output is zero. That is all, in both directions: going forward, a row's state stops
at its end; going backward, it stays the initial one until its end is reached. What stands in the padding is replaced by
zero before the first product, and so reaches nothing, be it NaN.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq.models.cells import Array, RNNCell, State, collected, parts_of
from tinygrad_seq.models.gated import GRUCell, LSTMCell

Parts = tuple[tg.Tensor, ...]
History = dict[str, list[tg.Tensor]]  # of one cell: gates and states by name, one for each step


class Run(NamedTuple):
    """What came of running a cell over a sequence: an output for each step, the last state, and all on the way."""

    outputs: list[tg.Tensor]
    state: Parts
    history: History


def unrolled(
    cell: Any,
    xs: Sequence[Any],
    state: Parts,
    valid: Array | None = None,
    reverse: bool = False,
    mask: tg.Tensor | None = None,
    tags: dict[str, Any] | None = None,
) -> Run:
    """Run a cell over a sequence, step by step.

    Args:
        cell: see `Cell`.
        xs: for each of T steps what `cell.project` made of it, or the input itself, (B, ...).
        state: the arrays of the initial state.
        valid: (T, B), which rows are real at each step; all by default.
        reverse: from the last step to the first.
        mask: what the state's first array is multiplied by where the cell's products read it.
        tags: for the scope of each step.
    """
    steps = range(len(xs))
    outputs: list[Any] = [None] * len(xs)
    history: History = defaultdict(lambda: [None] * len(xs))  # type: ignore[arg-type]
    name, step, state_names = name_of(cell), getattr(cell, "step", cell), state_names_of(cell, len(state))
    _call(state, state_names, "init")
    single = isinstance(cell_state(cell, state), tg.Tensor)
    for t in reversed(steps) if reverse else steps:
        rows = None if valid is None else valid[t]
        with tg.scope(name, t=t, **(tags or {}), **({} if rows is None else {"valid": rows})), collected() as gates:
            seen = {} if mask is None else {"seen": state[0] * mask}
            output, new = _apart(step(xs[t], state[0] if single else state, **seen), len(state), single)
            if rows is not None and not rows.all():
                new = tuple([tg.where(_column(rows, part), part, old) for part, old in zip(new, state)])
                output = tg.where(_column(rows, output), output, 0)
            _call(new, state_names, t)
        state, outputs[t] = new, output
        for key, value in (*gates.items(), *zip(state_names, state)):
            history[key][t] = value
    return Run(outputs, state, dict(history))
