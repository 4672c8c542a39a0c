"""Weights between our layers and PyTorch's, both ways, gradients too. PyTorch is not imported.

What differs: PyTorch multiplies from the left, so its matrices are ours transposed, (G*H, I). Its gates have another order,
and its GRU's z is 1 - Γ_u, so the update gate's weights change their sign: 1 - σ(a) = σ(-a). Its recurrent layers have two
biases, b_ih and b_hh, that are only ever added; ours is their sum. Where they are not (the candidate of a GRU that
resets after the product), we have two as well. On the way out ours goes to b_ih, and zeros to b_hh; the gradients of
both are the gradient of the sum.

| cell | our columns | PyTorch's rows |
| --- | --- | --- |
| LSTM | u, f, o, candidate | i (u), f, g (candidate), o |
| GRU | u, r, candidate | r, z (1 - u), n (candidate) |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq.dtypes import Array
from tinygrad_seq.interop.links import Gates, Link, given_out, in_one_row, in_two_rows, load
from tinygrad_seq.models import Embedding, GRUCell, LayerNorm, Linear, LSTMCell, RNNCell
from tinygrad_seq.models.layer import Layer


def load_torch(layer: Any, state_dict: Mapping[str, Any]) -> Any:
    """Take over the weights of PyTorch's counterpart of a layer.

    Args:
        layer: RNN, GRU (with `reset_after`), LSTM, Recurrent or Bidirectional of their cells, one of these cells, Linear,
            Embedding or LayerNorm.
        state_dict: what `state_dict()` of the counterpart gives, with tensors or arrays. Dtypes are cast to the layer's.

    Returns:
        The layer.

    Raises:
        TypeError: PyTorch has no such layer, or this is no state dict.
        ValueError: names or shapes do not fit; the message lists all of it, and nothing has been changed.
    """
    links = list(_links(layer))
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"weights by PyTorch's names are needed, as state_dict() gives them, not a {type(state_dict).__name__}")
    load(links, state_dict, layer, "PyTorch")
    return layer


def to_torch(layer: Any) -> dict[str, Array]:
    """The weights of a layer as its counterpart's `load_state_dict` takes them, once `torch.from_numpy` has wrapped each.

    Args:
        layer: as for `load_torch`.

    Returns:
        New arrays by PyTorch's names, in the layer's dtype.
    """
    return given_out(_links(layer))


def to_torch_grads(layer: Any) -> dict[str, Array | None]:
    """The gradients of a layer's parameters by PyTorch's names and in its shapes; None where none was computed."""
    found: dict[str, Array | None] = {}
    for link in _links(layer):
        grad = link.parameter.grad
        arrays = [None] * len(link.theirs) if grad is None else (link.cotangents or link.outward)(grad.data)
        found |= zip(link.theirs, arrays)
    return found


# ---- which parameter is which ---------------------------------------------------------------------------------------------


GATES: dict[type, Gates] = {
    RNNCell:  Gates((0,), (1,)),
    LSTMCell: Gates((0, 1, 3, 2), (1, 1, 1, 1)),       # i = u, f, g = candidate, o
    GRUCell:  Gates((1, 0, 2), (1, -1, 1)),            # r, z = 1 - u, n = candidate
}  # fmt: skip


def _links(layer: Any) -> Iterator[Link]:
    """Every parameter of a layer, with PyTorch's."""
    if isinstance(layer, Layer) and not _lacking(layer):
        for i, cell in enumerate(layer.cells):
            suffix = f"_l{i // layer.directions}" + ("_reverse" if i % layer.directions else "")
            yield from _links_of_cell(cell, suffix)
    elif type(layer) in GATES:
        yield from _links_of_cell(layer, "")
    elif isinstance(layer, Linear):
        yield _matrix("weight", layer.W)
        yield from _same("bias", layer.b)
    elif isinstance(layer, Embedding):
        yield from _same("weight", layer.W)
    elif isinstance(layer, LayerNorm):
        yield from _same("weight", layer.weight)
        yield from _same("bias", layer.bias)
    else:
        lacking = _lacking(layer) if isinstance(layer, Layer) else ""
        known = "RNN, GRU, LSTM, their cells, Recurrent and Bidirectional of these, Linear, Embedding and LayerNorm"
        raise TypeError(f"PyTorch has no counterpart of {type(layer).__name__}{lacking}; there are those of {known}")


def _lacking(layer: Layer) -> str:
    """What of a recurrent layer PyTorch lacks."""
    unknown = {type(cell).__name__: None for cell in layer.cells if type(cell) not in GATES}
    return f" of {', '.join(unknown)}" if unknown else " with reverse=True" if layer.reverse else ""


def _links_of_cell(cell: Any, suffix: str) -> Iterator[Link]:
    if isinstance(cell, GRUCell) and not cell.reset_after:
        raise TypeError("PyTorch's GRU resets after the product, which is another function: make this one with reset_after=True")
    if isinstance(cell, LSTMCell) and cell.W_p is not None and not suffix:
        raise TypeError("PyTorch's LSTMCell has no proj_size; its LSTM has")
    gates = GATES[type(cell)]
    yield _matrix(f"weight_ih{suffix}", cell.W_x, gates)
    yield _matrix(f"weight_hh{suffix}", cell.W_h, gates)
    if cell.b is not None:
        yield from _biases(cell, suffix, gates)
    if isinstance(cell, LSTMCell) and cell.W_p is not None:
        yield _matrix(f"weight_hr{suffix}", cell.W_p)


def _same(name: str, parameter: tg.Parameter | None) -> Iterator[Link]:
    """A parameter that is the same there; none, if there is none."""
    if parameter is not None:
        yield Link(parameter, {name: parameter.shape}, lambda theirs: theirs, lambda ours: [ours.copy()])


_AS_IT_IS = Gates((0,), (1,))


def _matrix(name: str, parameter: tg.Parameter, gates: Gates = _AS_IT_IS) -> Link:
    """A matrix: theirs is ours transposed, with the gates in their order."""

    def outward(ours: Array) -> list[Array]:
        return [np.ascontiguousarray(gates.outward(ours).T)]

    rows, columns = parameter.shape
    return Link(parameter, {name: (columns, rows)}, lambda theirs: gates.inward(theirs.T), outward)


def _biases(cell: Any, suffix: str, gates: Gates) -> Iterator[Link]:
    """Two biases of theirs, which are added to one of ours; a GRU's candidate keeps two, the second one in b_h."""
    ih, hh, H = f"bias_ih{suffix}", f"bias_hh{suffix}", cell.hidden_size
    b, b_h = cell.b, getattr(cell, "b_h", None)
    if b_h is None:
        yield Link(
            b,
            {ih: b.shape, hh: b.shape},
            lambda b_ih, b_hh: gates.inward(b_ih + b_hh),
            lambda ours: [gates.outward(ours), np.zeros_like(ours)],
            lambda grad: [gates.outward(grad), gates.outward(grad)],
        )
        return
    # b_hh's last H entries are the candidate's second bias; its others are added to those of b_ih. It goes out with b.
    yield Link(b_h, {hh: b.shape}, lambda b_hh: b_hh[-H:], lambda ours: [], lambda grad: [])
    yield Link(
        b,
        {ih: b.shape, hh: b.shape},
        lambda b_ih, b_hh: in_one_row(gates, b_ih, b_hh),
        lambda ours: in_two_rows(gates, ours, b_h.data),
        lambda grad: [
            gates.outward(grad),
            np.concatenate([gates.outward(grad)[:-H], np.zeros(H, grad.dtype) if b_h.grad is None else b_h.grad.data]),
        ],
    )
