"""Layers: a cell run over a sequence. Read `cells.py` first; `gated.py` can wait.

`unrolled` is the loop over time, and all there is to recurrence: the same cell at every step, each in a scope that says
its t. `Layer` stacks such loops, in one direction or two, and minds shapes, lengths and dropout. RNN, GRU, LSTM,
`Recurrent` and `Bidirectional` say which cells.

Padding. Where the rows of a batch differ in length, step t is real for some of them only, `valid[t]`. At the others the
state stays what it was, and the output is zero. That is all, in both directions: going forward, a row's state stops at
its end; going backward, it stays the initial one until that end is reached. What stands in the padding is replaced by
zero before the first product, and so reaches nothing, be it NaN.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq.models.cells import Array, RNNCell, State, call_by_step, collected, parts_of
from tinygrad_seq.models.gated import GRUCell, LSTMCell
from tinygrad_seq.ops.elementwise import where
from tinygrad_seq.ops.nn import dropout
from tinygrad_seq.ops.shape import concatenate, stack, swapaxes, unstack

History = dict[str, list[Any]]  # of one cell: its gates and states by name, one for each step
Merge = str | Callable[[Any, Any], Any] | None

MERGES: dict[Any, Callable[[Any, Any], Any]] = {
    "concat": lambda forward, backward: concatenate([forward, backward], axis=-1),
    "sum": lambda forward, backward: forward + backward,
    "mul": lambda forward, backward: forward * backward,
    "ave": lambda forward, backward: (forward + backward) * 0.5,
}


class Run(NamedTuple):
    """What came of running a cell over a sequence: an output for each step, the last state, and all on the way."""

    outputs: list[Any]
    state: State
    history: History


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
        keep: whether to keep gates and states in `history`.
        **tags: of the scope of each step.
    """
    name, step, single = name_of(cell), getattr(cell, "step", cell), not isinstance(state, tuple | list)
    parts = parts_of(state)
    names = getattr(cell, "state_names", ("h", "c", *(f"s{i}" for i in range(2, len(parts)))))
    call_by_step(parts, names, "init")
    outputs: list[Any] = [None] * len(xs)
    history: History = {}
    for t in reversed(range(len(xs))) if reverse else range(len(xs)):
        at_t = tags if valid is None else {**tags, "valid": valid[t]}
        with tg.scope(name, t=t, role="cell", **at_t), collected(keep) as gates:
            seen = {} if mask is None else {"seen": parts[0] * mask}
            output, new = _apart(step(xs[t], parts[0] if single else parts, **seen), single)
            _refuse_other_shapes(cell, parts, new)
            if valid is not None and not valid[t].all():
                new = tuple([where(_column(valid[t], part), part, old) for part, old in zip(new, parts)])
                output = where(_column(valid[t], output), output, 0)
            call_by_step(new, names, t)
        outputs[t], parts = output, new
        if keep:
            for key, value in (*gates.items(), *zip(names, parts)):
                history.setdefault(key, [None] * len(xs))[t] = value
    return Run(outputs, parts[0] if single else parts, history)


def name_of(cell: Any) -> str:
    """The scope of a cell's steps: its `name`, or its class's without "Cell"."""
    name = getattr(cell, "name", None)
    return name if isinstance(name, str) else type(cell).__name__.removesuffix("Cell").lower() or "cell"


def _apart(result: Any, single: bool) -> tuple[Any, tuple[tg.Tensor, ...]]:
    """(output, arrays of the state) of what a step gave: a state, or the pair of an output and a state."""
    several = isinstance(result, tuple | list)
    paired = several and len(result) == 2 and (single or isinstance(result[1], tuple | list))
    output, state = result if paired else (result[0] if several else result, result)
    return output, parts_of(state)


def _refuse_other_shapes(cell: Any, old: Sequence[Any], new: Sequence[Any]) -> None:
    before, after = [part.shape for part in old], [part.shape for part in new]
    if before != after:
        raise tg.ShapeError(f"{type(cell).__name__} made a state of {_in_words(after)} out of one of {_in_words(before)}")


def _column(rows: Array, like: Any) -> Array:
    """A truth value per row, to be broadcast against an array (B, ...)."""
    return rows.reshape(-1, *(1,) * (like.ndim - 1))


# ---- layers ---------------------------------------------------------------------------------------------------------------


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

    def forward(self, x: Any, state: State | None = None, lengths: Any = None, return_all: bool = False) -> Any:
        """Run over a batch of sequences.

        Args:
            x: (T, B, I), or (B, T, I) with `batch_first`.
            state: the initial one, (layers * directions, B, H), or a tuple of such arrays; zeros by default.
            lengths: (B,), how many steps of each row are real, from 0 to T; all by default.
            return_all: whether to return gates and states, too.

        Returns:
            (outputs, state): outputs (T, B, H), with two directions merged (T, B, 2H), zero beyond a row's end; the state
            after the last real step, of the form above. With `return_all` a list besides, for each cell a dict
            of its gates and states by name: `history[0]["u"][3]` is the update gate of step 3.

        Raises:
            ShapeError: x, the state or the lengths do not fit, or there is nothing to run over. Nothing has been run then.
        """
        x = x if isinstance(x, tg.Tensor) else tg.Tensor(x)
        steps, batch = self._checked_size(x)
        valid = _valid(lengths, steps, batch)
        states = self._states(state, batch, x.dtype)
        if self.batch_first:
            with tg.scope("time_first", time_axis=0):
                x = swapaxes(x, 0, 1)
        if valid is not None:
            with tg.scope("padding", time_axis=0):
                x = where(valid[:, :, None], x, 0)  # (T, B, I)
        runs: list[Run] = []
        for first in range(0, len(self.cells), self.directions):
            layer = first // self.directions
            if layer and self.dropout:
                with tg.scope("dropout", time_axis=0, layer=layer):
                    x = dropout(x, self.dropout, self.training)
            sides = [self._run(i, x, states[i], valid, layer, return_all) for i in range(first, first + self.directions)]
            runs += [run for _, run in sides]
            x = self._merged([outputs for outputs, _ in sides], layer)
        result = self._as_given(x), self._gathered([run.state for run in runs])
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

    @staticmethod
    def _gathered(states: list[State]) -> State:
        """The states of all cells as one: their arrays stacked on a new first axis."""
        if not isinstance(states[0], tuple | list):
            return stack(states)
        return tuple([stack(parts) for parts in zip(*states)])

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
        if state is None:
            return initial
        parts, form = parts_of(state), parts_of(initial[0])
        one, wanted = [part.shape for part in form], [(len(self.cells), *part.shape) for part in form]
        got = [part.shape for part in parts]
        if got == one and len(self.cells) == 1:  # the state of the only cell
            return [parts if isinstance(initial[0], tuple | list) else parts[0]]
        if got != wanted:
            raise tg.ShapeError(f"{type(self).__name__} takes a state of {_in_words(wanted)}, got {_in_words(got)}")
        columns = zip(*[unstack(part) for part in parts])
        return [column if isinstance(initial[0], tuple | list) else column[0] for column in columns]


def initial_state_of(cell: Any, batch: int, dtype: Any) -> State:
    """A cell's own initial state, or zeros (B, hidden_size)."""
    if hasattr(cell, "initial_state"):
        return cell.initial_state(batch, dtype)
    if not hasattr(cell, "hidden_size"):
        raise TypeError(f"{type(cell).__name__} needs a hidden_size, or initial_state(batch, dtype); see Cell")
    return tg.Tensor(np.zeros((batch, cell.hidden_size), dtype))


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
    valid: Array = np.arange(steps)[:, None] < lengths
    return valid


def _in_words(shapes: Sequence[tuple[int, ...]]) -> str:
    return f"shape {shapes[0]}" if len(shapes) == 1 else f"shapes {', '.join(map(str, shapes))}"


class Recurrent(Layer):
    """Any cell, run over sequences: ours, or one of your own (see `Cell` for what it needs).

    Args:
        cell: is shared, not copied.
        reverse: whether to run from the end to the start; outputs stay in their places.
        batch_first, input_dropout, state_dropout: see `Layer`.

    Example:
        >>> import numpy as np
        >>> from tinygrad_seq.models import GRUCell, Recurrent
        >>> outputs, state = Recurrent(GRUCell(3, 5))(np.ones((7, 2, 3)))
        >>> outputs.shape, state.shape
        ((7, 2, 5), (1, 2, 5))
    """

    def __init__(
        self,
        cell: Any,
        reverse: bool = False,
        batch_first: bool = False,
        input_dropout: float = 0.0,
        state_dropout: float = 0.0,
    ) -> None:
        super().__init__(
            [cell], reverse=reverse, batch_first=batch_first, input_dropout=input_dropout, state_dropout=state_dropout
        )


class Bidirectional(Layer):
    """A cell run over sequences from both ends, so that an output knows the past and the future.

    Schuster & Paliwal, "Bidirectional recurrent neural networks" (1997).

    Args:
        cell: for the forward direction.
        merge: "concat" (T, B, 2H), "sum", "mul", "ave", a function of both outputs, or None for the pair of them.
        backward: the cell for the backward direction; by default a copy, with weights newly drawn by its
            `reset_parameters`, if it has one.
        batch_first, input_dropout, state_dropout: see `Layer`.
    """

    def __init__(
        self,
        cell: Any,
        merge: Merge = "concat",
        backward: Any = None,
        batch_first: bool = False,
        input_dropout: float = 0.0,
        state_dropout: float = 0.0,
    ) -> None:
        if backward is None:
            backward = deepcopy(cell)
            if hasattr(backward, "reset_parameters"):
                backward.reset_parameters()
        super().__init__(
            [cell, backward],
            2,
            merge=merge,
            batch_first=batch_first,
            input_dropout=input_dropout,
            state_dropout=state_dropout,
        )


# ---- the three that have names --------------------------------------------------------------------------------------------


class _Named(Layer):
    """Layers of one kind of cell, with PyTorch's arguments."""

    def __init__(
        self,
        cell: Callable[[int], Any],
        input_size: int,
        output_size: int,
        num_layers: int,
        bidirectional: bool,
        **options: Any,
    ) -> None:
        if num_layers < 1:
            raise ValueError(f"num_layers is at least 1, got {num_layers}")
        directions = 2 if bidirectional else 1
        sizes = [input_size, *[directions * output_size] * (num_layers - 1)]
        super().__init__([cell(size) for size in sizes for _ in range(directions)], directions, **options)
        self.input_size = input_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional


class RNN(_Named):
    """Layers of `RNNCell`: a<t> = tanh(a<t-1> W_h + x<t> W_x + b).

    Args:
        input_size, hidden_size: I and H.
        num_layers: how many on top of each other.
        nonlinearity: "tanh" or "relu".
        bias: whether there are biases.
        batch_first: whether inputs and outputs are (B, T, ...) instead of (T, B, ...).
        dropout: between layers.
        bidirectional: whether each layer runs in both directions; outputs are (T, B, 2H) then.
        input_dropout, state_dropout: with one mask for all steps of a sequence; see `Layer`.

    Example:
        >>> import numpy as np
        >>> from tinygrad_seq.models import RNN
        >>> outputs, state = RNN(3, 5, num_layers=2)(np.ones((7, 2, 3)), lengths=[7, 4])
        >>> outputs.shape, state.shape
        ((7, 2, 5), (2, 2, 5))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        input_dropout: float = 0.0,
        state_dropout: float = 0.0,
    ) -> None:
        self.hidden_size = hidden_size
        super().__init__(
            lambda size: RNNCell(size, hidden_size, bias, nonlinearity),
            input_size, hidden_size, num_layers, bidirectional,
            batch_first=batch_first, dropout=dropout, input_dropout=input_dropout, state_dropout=state_dropout,
        )  # fmt: skip


class GRU(_Named):
    """Layers of `GRUCell`.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional: as for `RNN`.
        reset_after: reset after the product, as PyTorch does, instead of before it; see `GRUCell`.
        input_dropout, state_dropout: with one mask for all steps of a sequence; see `Layer`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        reset_after: bool = False,
        *,
        input_dropout: float = 0.0,
        state_dropout: float = 0.0,
    ) -> None:
        self.hidden_size = hidden_size
        super().__init__(
            lambda size: GRUCell(size, hidden_size, bias, reset_after),
            input_size, hidden_size, num_layers, bidirectional,
            batch_first=batch_first, dropout=dropout, input_dropout=input_dropout, state_dropout=state_dropout,
        )  # fmt: skip


class LSTM(_Named):
    """Layers of `LSTMCell`; the state is the pair (h, c), (layers * directions, B, H) each.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional: as for `RNN`.
        proj_size: P > 0 makes h and the outputs of length P; see `LSTMCell`.
        input_dropout, state_dropout: with one mask for all steps of a sequence; see `Layer`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        input_dropout: float = 0.0,
        state_dropout: float = 0.0,
    ) -> None:
        self.hidden_size = hidden_size
        self.proj_size = proj_size
        super().__init__(
            lambda size: LSTMCell(size, hidden_size, bias, proj_size),
            input_size, proj_size or hidden_size, num_layers, bidirectional,
            batch_first=batch_first, dropout=dropout, input_dropout=input_dropout, state_dropout=state_dropout,
        )  # fmt: skip
