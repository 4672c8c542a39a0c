"""Stacks of recurrent layers, made by name, and run one step at a time. Read `layer.py` first.

Where all inputs are known, a layer runs over all of time, its input projection in one product. Where an input depends on
the last output, as in a decoder, `one_step` runs the same cells once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq.explain import whole
from tinygrad_seq.models.cells import State, call_by_step, parts_of
from tinygrad_seq.models.layer import Layer, by_cell
from tinygrad_seq.models.layer import together as together  # `as`: the way back from `apart`
from tinygrad_seq.models.layers import GRU, LSTM, RNN
from tinygrad_seq.models.loop import initial_state_of, name_of, names_of_state, output_and_state
from tinygrad_seq.ops.nn import dropout
from tinygrad_seq.ops.shape import concatenate, unstack
from tinygrad_seq.scopes import setting

LAYERS: dict[str, Any] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}


def recurrent(
    cell: Any, input_size: int, hidden_size: int, num_layers: int = 1, bidirectional: bool = False, dropout: float = 0.0
) -> Layer:
    """Recurrent layers, whichever way they are named.

    Args:
        cell: "rnn", "gru" or "lstm"; the class of a layer or of a cell, or any function of (input_size, hidden_size) that
            makes a cell; or a layer, which is used as it is, whatever the other arguments say.
        input_size, hidden_size, num_layers, bidirectional, dropout: as for `LSTM`.
    """
    if isinstance(cell, Layer):
        if cell.batch_first or cell.merge is None:
            raise ValueError("a layer inside of a model runs time first and gives one output: no batch_first, no merge=None")
        return cell
    if isinstance(cell, str):
        if cell not in LAYERS:
            raise ValueError(f"cell is one of {', '.join(map(repr, LAYERS))}, a class or a layer, not {cell!r}")
        cell = LAYERS[cell]
    if not callable(cell) or isinstance(cell, tg.Module):
        raise TypeError(f"cell is a name, a class or a layer, not a {type(cell).__name__}; Recurrent(cell) makes it a layer")
    if isinstance(cell, type) and issubclass(cell, Layer):
        named: Any = cell
        layer: Layer = named(input_size, hidden_size, num_layers, dropout=dropout, bidirectional=bidirectional)
        return layer
    if whole("num_layers", num_layers) < 1:
        raise ValueError(f"num_layers is at least 1, got {num_layers}")
    directions = 2 if bidirectional else 1
    sizes = [input_size, *[directions * hidden_size] * (num_layers - 1)]
    return Layer([cell(size, hidden_size) for size in sizes for _ in range(directions)], directions, dropout=dropout)


def forward_only(layer: Layer, why: str) -> Layer:
    """The layer, if it reads from the start to the end; else ValueError."""
    if not layer.causal:
        raise ValueError(f"layers that read from the start to the end only are needed: {why}")
    return layer


def output_size(layer: Layer, input_size: int) -> int:
    """How many features a layer's outputs have: tried out and not asked, so that any cell will do."""
    with setting(grad=False, tape=None), tg.random.replaying(tg.random.get_state()):  # nobody notices
        outputs, _ = layer(np.zeros((1, 1, input_size), np.float32))
    return int(outputs.shape[-1])


def top_state(layer: Layer, state: State) -> Any:
    """Of a layer's last state the part that is its output, (B, H): of the top layer, both directions side by side."""
    sides = unstack(parts_of(state)[0])[-layer.directions :]
    return sides[0] if len(sides) == 1 else concatenate(sides, axis=-1)


def apart(state: State) -> list[State]:
    """A layer's state as a list of its cells' states; that of an only cell may come without the first axis."""
    parts = parts_of(state)
    if parts[0].ndim == 2:
        return [state]
    return by_cell(parts if isinstance(state, tuple | list) else parts[0])


# ---- one step at a time ---------------------------------------------------------------------------------------------------


def start(layer: Layer, batch: int) -> list[State]:
    """The state of each cell before the first step."""
    dtype = np.result_type(*({parameter.dtype for parameter in layer.parameters()} or {tg.default_dtype()}))
    states = [initial_state_of(cell, batch, dtype) for cell in layer.cells]
    for cell, state in zip(layer.cells, states):
        parts = parts_of(state)
        call_by_step(parts, names_of_state(cell, len(parts)), "init")
    return states


def one_step(layer: Layer, x: Any, states: list[State], t: int, **tags: Any) -> tuple[Any, list[State]]:
    """Run every cell of a layer with one direction once, at step t.

    Args:
        layer: its cells, and its dropout between them; dropout with one mask for all steps is for whole sequences.
        x: (B, I).
        states: of each cell.
        **tags: of the scope of each cell.

    Returns:
        The output (B, H) of the top cell, and the new state of each.
    """
    if layer.training and (layer.input_dropout or layer.state_dropout):
        raise ValueError("input_dropout and state_dropout have one mask for all steps of a sequence, and this is one step only")
    after = []
    for i, (cell, state) in enumerate(zip(layer.cells, states)):
        if i and layer.dropout:
            with tg.scope("dropout", t=t, layer=i, **tags):
                x = dropout(x, layer.dropout, layer.training)
        with tg.scope(name_of(cell), t=t, role="cell", layer=i, direction="forward", **tags):
            projected = cell.project(x) if hasattr(cell, "project") else x
            made, single = getattr(cell, "step", cell)(projected, state), not isinstance(state, tuple | list)
            x, parts = output_and_state(cell, made, single)
            call_by_step(parts, names_of_state(cell, len(parts)), t)
        after.append(parts[0] if single else parts)
    return x, after
