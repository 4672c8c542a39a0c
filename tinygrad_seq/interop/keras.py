"""Weights between our recurrent layers and Keras's, both ways, as the lists of `get_weights()`. Keras is not imported.

A layer of Keras's has a kernel (I, G*H), a recurrent kernel (H, G*H) and, with `use_bias`, a bias; `Bidirectional` has those
of its forward layer and then those of its backward layer. Matrices multiply from the right there too; what differs is the
order of the gates, and that the GRU's z is 1 - Γ_u, so the update gate's weights change their sign: 1 - σ(a) = σ(-a).

| cell | our columns | Keras's columns | bias |
| --- | --- | --- | --- |
| SimpleRNN | | | (H) |
| LSTM | u, f, o, candidate | i (u), f, c (candidate), o | (4H) |
| GRU, reset_after=False | u, r, candidate | z (1 - u), r, h (candidate) | (3H) |
| GRU, reset_after=True, Keras's default | the same | the same | (2, 3H): of the input, of the state |

The two rows of a GRU's bias are only ever added, but for the candidate; see `torch.py`, where it is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_seq.dtypes import Array
from tinygrad_seq.interop.links import Gates, Link, given_out, in_one_row, in_two_rows, load
from tinygrad_seq.models import GRUCell, LSTMCell, RNNCell
from tinygrad_seq.models.layer import Layer

GATES: dict[type, Gates] = {
    RNNCell:  Gates((0,), (1,)),
    LSTMCell: Gates((0, 1, 3, 2), (1, 1, 1, 1)),       # i = u, f, c = candidate, o
    GRUCell:  Gates((0, 1, 2), (-1, 1, 1)),            # z = 1 - u, r, h = candidate
}  # fmt: skip


def load_keras(layer: Any, weights: Sequence[Any]) -> Any:
    """Take over the weights of Keras's counterpart of a layer.

    Args:
        layer: RNN, GRU, LSTM, Recurrent or Bidirectional of their cells, or one of these cells: RNNCell for SimpleRNN, with
            the nonlinearity of its `activation`; GRUCell with its `reset_after`. Keras's gates must be sigmoids and its
            candidates tanh, as they are by default.
        weights: what `get_weights()` of the counterpart gives: arrays, which are cast to the layer's dtype. For several
            layers, the list of the first, then that of the next; of each, forward before backward.

    Returns:
        The layer.

    Raises:
        TypeError: Keras has no such layer, or these are not the arrays of a list.
        ValueError: their number, shapes or values do not fit; the message lists all of it, and nothing has been changed.
    """
    links = list(_links(layer))
    if isinstance(weights, Mapping | str) or not isinstance(weights, Sequence):
        raise TypeError(f"Keras's weights are a list of arrays, as get_weights() gives them, not a {type(weights).__name__}")
    shapes = {name: shape for link in links for name, shape in link.theirs.items()}
    if len(weights) != len(shapes):
        told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{len(weights)} arrays of Keras's do not fit {type(layer).__name__}, which takes {len(shapes)}: {told}")
    hint = "Keras's GRU has a bias (2, 3H) with reset_after=True, its default, and (3H,) without: make this layer like it"
    load(links, dict(zip(shapes, weights)), layer, "Keras", hint if _has_gru_bias(layer) else "")
    return layer


def to_keras(layer: Any) -> list[Array]:
    """The weights of a layer as its counterpart's `set_weights` takes them.

    Args:
        layer: as for `load_keras`.

    Returns:
        New arrays in Keras's order, in the layer's dtype.
    """
    return list(given_out(_links(layer)).values())


def _links(layer: Any) -> Iterator[Link]:
    """Every parameter of a layer in Keras's order, with Keras's array."""
    cells = layer.cells if isinstance(layer, Layer) else [layer]
    for i, cell in enumerate(cells):
        if type(cell) not in GATES:
            known = "RNN, GRU and LSTM, of their cells, and of Recurrent and Bidirectional with these"
            raise TypeError(f"Keras has no counterpart of {type(cell).__name__}; there are those of {known}")
        if isinstance(cell, LSTMCell) and cell.W_p is not None:
            raise TypeError("Keras's LSTM has no proj_size")
        yield from _links_of_cell(cell, _whose(layer, i))


def _links_of_cell(cell: Any, whose: str) -> Iterator[Link]:
    gates, name = GATES[type(cell)], f"{whose}bias"
    yield _reordered(f"{whose}kernel", cell.W_x, gates)
    yield _reordered(f"{whose}recurrent_kernel", cell.W_h, gates)
    if cell.b is None:
        return
    b, b_h = cell.b, getattr(cell, "b_h", None)
    if b_h is None:
        yield _reordered(name, b, gates)
        return
    rows = {name: (2, *b.shape)}
    yield Link(b, rows, lambda bias: in_one_row(gates, *bias), lambda ours: [np.stack(in_two_rows(gates, ours, b_h.data))])
    yield Link(b_h, rows, lambda bias: bias[1, -len(b_h.data) :], lambda ours: [])


def _reordered(name: str, parameter: Any, gates: Gates) -> Link:
    return Link(parameter, {name: parameter.shape}, gates.inward, lambda ours: [gates.outward(ours)])


def _whose(layer: Any, i: int) -> str:
    """What is said before the names of cell number i: nothing, where it is the only one."""
    if not isinstance(layer, Layer) or len(layer.cells) == 1:
        return ""
    number = f"layer {i // layer.directions} " if len(layer.cells) > layer.directions else ""
    return number + (("forward ", "backward ")[i % 2] if layer.directions == 2 else "")


def _has_gru_bias(layer: Any) -> bool:
    return any(isinstance(cell, GRUCell) and cell.b is not None for cell in getattr(layer, "cells", [layer]))
