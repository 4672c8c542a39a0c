"""Shapes: the same numbers in another arrangement, joined, cut, repeated or padded. Read `elementwise.py` first.

The pullback of moving numbers is moving them back. Where a number was copied (repeat, tile, a padded edge) its copies'
cotangents add up; where it was dropped (tril, diagonal) its cotangent is zero. `broadcast_to` needs no more than
`g`: summing over broadcast axes is the sweep's own business.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from operator import index as whole
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from tinygrad_seq.calls import as_operands
from tinygrad_seq.dtypes import Shape
from tinygrad_seq.numpy_like import implements
from tinygrad_seq.ops.index import scatter
from tinygrad_seq.ops.samples import shaped, view
from tinygrad_seq.primitive import primitive
from tinygrad_seq.pullback import Rule
from tinygrad_seq.tensor import Tensor, as_array

# ---- what shape it is, and constants of that shape: nothing here has a gradient ------------------------------------------

implements[np.shape] = lambda x: x.shape
implements[np.ndim] = lambda x: x.ndim
implements[np.size] = lambda x, axis=None: x.size if axis is None else x.shape[axis]
implements[np.zeros_like] = lambda x, **params: Tensor(np.zeros_like(x.data, **params))
implements[np.ones_like] = lambda x, **params: Tensor(np.ones_like(x.data, **params))
implements[np.full_like] = lambda x, fill_value, **params: Tensor(np.full_like(x.data, fill_value, **params))
implements[np.empty_like] = lambda x, **params: Tensor(np.empty_like(x.data, **params))

# ---- the same numbers in another arrangement ----------------------------------------------------------------------------


def _reshape(x: Any, shape: Any) -> Any:
    """The numbers of x, in C order, in another shape; one length may be -1. As `np.reshape`."""
    return np.reshape(x, shape)


def _ravel(x: Any) -> Any:
    """The numbers of x on one axis, as `np.ravel`."""
    return np.ravel(x)


def _transpose(x: Any, axes: Any = None) -> Any:
    """x with its axes in the order `axes`; by default in reverse. As `np.transpose`."""
    return x.transpose(axes) if isinstance(x, np.ndarray) else np.transpose(x, axes)


def _swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """x with two axes exchanged, as `np.swapaxes`."""
    return np.swapaxes(x, axis1, axis2)


def _moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """x with some axes moved to other places, the others in their order, as `np.moveaxis`."""
    return np.moveaxis(x, source, destination)


def _squeeze(x: Any, axis: Any = None) -> Any:
    """x without its axes of length 1, or without those named, as `np.squeeze`."""
    return np.squeeze(x, axis)


def _expand_dims(x: Any, axis: Any) -> Any:
    """x with a new axis of length 1 at each place in `axis`, as `np.expand_dims`."""
    return np.expand_dims(x, axis)


def _flip(x: Any, axis: Any = None) -> Any:
    """x in reverse order along the axis or axes; by default all. As `np.flip`."""
    return np.flip(x, axis)


def _roll(x: Any, shift: Any, axis: Any = None) -> Any:
    """x shifted along an axis, what leaves at the end coming in at the start, as `np.roll`."""
    return np.roll(x, shift, axis)


def _inverse(axes: Any) -> Any:
    """The order of axes that undoes a transposition."""
    return None if axes is None else np.argsort([axis % len(axes) for axis in axes]).tolist()


# fmt: off
back_to_shape: dict[str, Rule | None] = dict(x=lambda g, x_shape: g.reshape(x_shape))

reshape     = primitive(_reshape,     name="reshape",     numpy=np.reshape,     moves=True, vjp=back_to_shape, samples=[
    shaped((3, 4), shape=(2, -1)), shaped((), shape=(1, 1)), shaped((1,), shape=()), shaped((0, 3), shape=(3, 0, 2)),
    view((2, 3), shape=6)])
ravel       = primitive(_ravel,       name="ravel",       numpy=np.ravel,       moves=True, vjp=back_to_shape, samples=[
    shaped((3, 4)), shaped(()), shaped((0, 3)), view((2, 3))])
squeeze     = primitive(_squeeze,     name="squeeze",     numpy=np.squeeze,     moves=True, vjp=back_to_shape, samples=[
    shaped((1, 3, 1)), shaped((1, 3, 1), axis=-1), shaped((1, 3, 1), axis=(0, 2)), shaped(()), shaped((1, 0))])
expand_dims = primitive(_expand_dims, name="expand_dims", numpy=np.expand_dims, moves=True, vjp=back_to_shape, samples=[
    shaped((2, 3), axis=1), shaped((2, 3), axis=(0, -1)), shaped((), axis=0), shaped((0, 3), axis=-2), view((2, 3), axis=0)])
transpose   = primitive(_transpose,   name="transpose",   numpy=np.transpose,   moves=True, label="ᵀ",
    vjp=dict(x=lambda g, axes: g.transpose(_inverse(axes))), samples=[
    shaped((3, 4)), shaped((2, 3, 4), axes=(1, 2, 0)), shaped((2, 3, 4), axes=[-1, 0, 1]), shaped(()), shaped((0, 3)),
    view((2, 3))])
swapaxes    = primitive(_swapaxes,    name="swapaxes",    numpy=np.swapaxes,    moves=True, label="ᵀ",
    vjp=dict(x=lambda g, axis1, axis2: g.swapaxes(axis1, axis2)), samples=[
    shaped((2, 3, 4), axis1=0, axis2=-1), shaped((3,), axis1=0, axis2=0), shaped((0, 3), axis1=0, axis2=1),
    view((2, 3), axis1=-1, axis2=-2)])
moveaxis    = primitive(_moveaxis,    name="moveaxis",    numpy=np.moveaxis,    moves=True,
    vjp=dict(x=lambda g, source, destination: np.moveaxis(g, destination, source)), samples=[
    shaped((2, 3, 4), source=0, destination=-1), shaped((2, 3, 4), source=(2, 0), destination=(0, 1)),
    shaped((0, 3), source=1, destination=0), view((2, 3), source=0, destination=1)])
flip        = primitive(_flip,        name="flip",        numpy=np.flip,        moves=True,
    vjp=dict(x=lambda g, axis: np.flip(g, axis)), samples=[
    shaped((3, 4)), shaped((3, 4), axis=-1), shaped((2, 3, 2), axis=(0, 2)), shaped(()), shaped((0, 3), axis=0),
    view((3, 2), axis=0)])
roll        = primitive(_roll,        name="roll",        numpy=np.roll,        moves=True,
    vjp=dict(x=lambda g, shift, axis: np.roll(g, np.negative(shift), axis)), samples=[
    shaped((3, 4), shift=2), shaped((3, 4), shift=-1, axis=-1), shaped((3, 4), shift=(1, 2), axis=(0, 1)), shaped((), shift=1),
    shaped((0, 3), shift=1), view((3, 2), shift=1, axis=0)])
# fmt: on


# ---- joined and cut -----------------------------------------------------------------------------------------------------


def _concatenate(*xs: Any, axis: int, starts: Shape) -> Any:
    return np.concatenate(xs, axis)


def _stack(*xs: Any, axis: int) -> Any:
    return np.stack(xs, axis)


def _along(axis: int, ndim: int, index: Any) -> tuple[Any, ...]:
    """The index that takes `index` along one axis, and all of the axes before and behind it."""
    return (slice(None),) * (axis % ndim) + (index,)


_concatenated = primitive(
    _concatenate,
    name="concatenate",
    vjp={"*xs": lambda g, axis, starts, i: g[_along(axis, g.ndim, slice(starts[i], starts[i + 1]))]},
    samples=[
        shaped((2, 3), (1, 3), (4, 3), axis=0, starts=(0, 2, 3, 7)),
        shaped((2, 3), (2, 2), axis=-1, starts=(0, 3, 5)),
        shaped((0, 3), (2, 3), axis=0, starts=(0, 0, 2)),
        shaped((3,), axis=0, starts=(0, 3)),
    ],
)
_stacked = primitive(
    _stack,
    name="stack",
    vjp={"*xs": lambda g, axis, i: g[_along(axis, g.ndim, i)]},
    samples=[
        shaped((2, 3), (2, 3), axis=0),
        shaped((2, 3), (2, 3), (2, 3), axis=-1),
        shaped((), (), axis=0),
        shaped((0, 2), (0, 2), axis=1),
    ],
)


def concatenate(arrays: Iterable[Any], axis: int | None = 0) -> Tensor:
    """The arrays one behind the other along an axis, as `np.concatenate`.

    Args:
        arrays: tensors or arrays, of equal lengths except along `axis`.
        axis: the axis to join along; None flattens them first.

    Raises:
        ShapeError: if the shapes do not fit together.
    """
    given = list(arrays)
    arrays = [array if isinstance(array, Tensor) else as_array(value) for array, value in zip(given, as_operands(given))]
    if axis is None:
        arrays, axis = [array.reshape(-1) for array in arrays], 0
    lengths = [array.shape[axis] if -array.ndim <= axis < array.ndim else 0 for array in arrays]  # if none, NumPy complains
    return _concatenated(*arrays, axis=axis, starts=tuple(accumulate(lengths, initial=0)))  # type: ignore[no-any-return]


def stack(arrays: Iterable[Any], axis: int = 0) -> Tensor:
    """The arrays side by side along a new axis, as `np.stack`. All have one shape, or it is a ShapeError."""
    return _stacked(*arrays, axis=axis)  # type: ignore[no-any-return]


def vstack(arrays: Iterable[Any]) -> Tensor:
    """The arrays below each other, 1-d ones as rows, as `np.vstack`."""
    arrays = [array if isinstance(array, Tensor) else as_array(array) for array in arrays]
    return concatenate([array.reshape(1, array.size) if array.ndim < 2 else array for array in arrays], axis=0)


def hstack(arrays: Iterable[Any]) -> Tensor:
    """The arrays beside each other, as `np.hstack`: along the second axis, 1-d ones along their only one."""
    arrays = [array if isinstance(array, Tensor) else as_array(array) for array in arrays]
    arrays = [array if array.ndim else array.reshape(1) for array in arrays]
    return concatenate(arrays, axis=0 if arrays and arrays[0].ndim == 1 else 1)


implements[np.concatenate] = concatenate
implements[np.stack] = stack
implements[np.vstack] = vstack
implements[np.hstack] = hstack


@lru_cache(maxsize=1024)
def _cuts(shape: Shape, sections: int | Shape, axis: int) -> tuple[tuple[slice, ...], ...]:
    """The indices of the parts that a split gives. Remembered: a gate split is the same at every step."""
    axis = normalize_axis_index(axis, len(shape))
    length = shape[axis]
    if isinstance(sections, int):
        if sections < 1 or length % sections:
            raise ValueError(f"axis {axis}, of length {length}, cannot be cut into {sections} equal parts")
        bounds = list(range(0, length + 1, length // sections)) if length else [0] * (sections + 1)
    else:
        bounds = [0, *[min(max(at + length if at < 0 else at, 0), length) for at in sections], length]
        if bounds != sorted(bounds):
            raise ValueError(f"the indices to cut at must ascend, got {list(sections)} for an axis of length {length}")
    return tuple((slice(None),) * axis + (slice(start, end),) for start, end in pairwise(bounds))


def _split(x: Any, indices_or_sections: int | Shape, axis: int = 0) -> tuple[Any, ...]:
    return tuple([x[cut] for cut in _cuts(x.shape, indices_or_sections, axis)])


_parted = primitive(
    _split,
    name="split",
    several=True,
    vjp=dict(x=lambda g, axis: np.concatenate(g, axis)),
    samples=[
        shaped((2, 6), indices_or_sections=3, axis=1),
        shaped((6,), indices_or_sections=2),
        shaped((5, 2), indices_or_sections=(1, 1, 4), axis=-2),
        shaped((5,), indices_or_sections=(-2, 9)),
        shaped((0, 2), indices_or_sections=2),
        view((4, 3), indices_or_sections=2, axis=-2),
    ],
)


def split(x: Any, indices_or_sections: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """x cut into parts along an axis, as `np.split`. The parts' cotangents meet again in one pullback.

    Args:
        x: a tensor or array.
        indices_or_sections: how many equal parts, or the ascending indices to cut at.
        axis: the axis to cut.

    Raises:
        ShapeError: if the axis cannot be cut so.

    Example:
        >>> import tinygrad_seq as tg
        >>> u, r, c = tg.split(tg.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]), 3, axis=1)
        >>> r
        Tensor([[3., 4.]], dtype=float32)
    """
    if type(indices_or_sections) is not int:
        several = np.ndim(indices_or_sections) > 0
        indices_or_sections = tuple(map(whole, indices_or_sections)) if several else whole(indices_or_sections)
    return _parted(x, indices_or_sections=indices_or_sections, axis=axis)  # type: ignore[no-any-return]


implements[np.split] = split  # type: ignore[assignment]


def _unstack(x: Any, *, axis: int = 0) -> tuple[Any, ...]:
    """The slices of x along an axis, as `np.unstack`. Reading a whole array so costs less than x[t] for each t."""
    return tuple(x if axis == 0 else np.moveaxis(x, axis, 0))


unstack = primitive(
    _unstack,
    name="unstack",
    several=True,
    numpy=getattr(np, "unstack", None),  # since NumPy 2.1
    vjp=dict(x=lambda g, axis: np.stack(g, axis)),
    samples=[shaped((3, 2)), shaped((2, 3), axis=-1), shaped((3,)), shaped((2, 0)), view((2, 3), axis=1)],
)
implements[Tensor.__iter__] = unstack


# ---- copied ---------------------------------------------------------------------------------------------------------------


def _broadcast_to(x: Any, shape: Any) -> Any:
    """x stretched to a shape by NumPy's rules, as `np.broadcast_to`."""
    return np.broadcast_to(x, shape)


def _tile(x: Any, reps: Any) -> Any:
    """x repeated as a whole, `reps` times along each axis, as `np.tile`."""
    return np.tile(x, reps)


def _untiled(g: Any, reps: Any, shape: Shape) -> Any:
    reps = tuple(reps) if np.ndim(reps) else (whole(reps),)
    ndim = max(len(reps), len(shape))
    reps, lengths = (1,) * (ndim - len(reps)) + reps, (1,) * (ndim - len(shape)) + shape
    copies = g.reshape([n for pair in zip(reps, lengths) for n in pair])  # (copies, length) for every axis
    return copies.sum(axis=tuple(range(0, 2 * ndim, 2))).reshape(shape)


def _repeat(x: Any, repeats: Any, axis: int | None = None) -> Any:
    """Each entry of x several times in a row along an axis (None: flattened), as `np.repeat`.

    `repeats` is one number for all entries along the axis, or one for each.
    """
    return np.repeat(x, repeats, axis)


def _unrepeated(g: Any, repeats: Any, axis: int | None, shape: Shape) -> Any:
    lengths, axis = ((math.prod(shape),), 0) if axis is None else (shape, axis % len(shape))
    if np.size(repeats) == 1:
        copies = g.reshape(*lengths[: axis + 1], int(np.asarray(repeats).item()), *lengths[axis + 1 :])
        return copies.sum(axis=axis + 1).reshape(shape)
    origin = np.repeat(np.arange(lengths[axis]), repeats)
    return scatter([g], [_along(axis, len(lengths), origin)], lengths).reshape(shape)


MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


def _pad(x: Any, pad_width: Any, mode: Any = "constant", constant_values: Any = 0) -> Any:
    """x with a margin on each side, as `np.pad`.

    Args:
        x: an array.
        pad_width: the margin: a number, (before, after), or such a pair for every axis.
        mode: what fills it: "constant", or copies of x as NumPy's "edge", "reflect", "symmetric" and "wrap" say.
        constant_values: the constant, by side as in `pad_width`. It gets no gradient.
    """
    if mode not in MODES:
        raise TypeError(f"mode {mode!r} is not implemented, only {', '.join(MODES)} are; build other margins with concatenate")
    if isinstance(pad_width, dict):
        raise TypeError("pad_width as a dict is not implemented; give a pair (before, after) for every axis")
    if mode == "constant":
        return np.pad(x, pad_width, mode, constant_values=constant_values)
    return np.pad(x, pad_width, mode)


def _unpadded(g: Any, pad_width: Any, mode: Any, shape: Shape) -> Any:
    widths = np.broadcast_to(pad_width, (len(shape), 2)).tolist()
    if mode == "constant":
        return g[tuple(slice(before, before + n) for (before, _), n in zip(widths, shape))]
    origins = [np.pad(np.arange(n), width, mode) for width, n in zip(widths, shape)]  # where each entry was copied from
    return scatter([g], [np.ix_(*origins)], shape)


# fmt: off
broadcast_to = primitive(_broadcast_to, name="broadcast_to", numpy=np.broadcast_to,
    vjp=dict(x=lambda g: g), samples=[
    shaped((3,), shape=(2, 3)), shaped((2, 1), shape=(2, 3)), shaped((), shape=(2, 2)), shaped((1, 3), shape=(0, 3)),
    view((2, 1), shape=(2, 2, 3))])
tile         = primitive(_tile,         name="tile",         numpy=np.tile,
    vjp=dict(x=lambda g, reps, x_shape: _untiled(g, reps, x_shape)), samples=[
    shaped((2, 3), reps=2), shaped((2, 3), reps=(2, 1, 2)), shaped((3,), reps=(2, 2)), shaped((), reps=3), shaped((), reps=()),
    shaped((2, 3), reps=(0, 2)), shaped((0, 3), reps=2), view((2, 3), reps=(2, 1))])
repeat       = primitive(_repeat,       name="repeat",       numpy=np.repeat,
    vjp=dict(x=lambda g, repeats, axis, x_shape: _unrepeated(g, repeats, axis, x_shape)), samples=[
    shaped((2, 3), repeats=2), shaped((2, 3), repeats=2, axis=-1), shaped((2, 3), repeats=(1, 0, 2), axis=1),
    shaped((), repeats=3), shaped((3,), repeats=np.array([2])), shaped((0, 3), repeats=2, axis=0),
    shaped((2, 3), repeats=0, axis=0), view((2, 3), repeats=[2, 1], axis=0)])
pad          = primitive(_pad,          name="pad",          numpy=np.pad,
    vjp=dict(x=lambda g, pad_width, mode, x_shape: _unpadded(g, pad_width, mode, x_shape)), samples=[
    shaped((2, 3), pad_width=1), shaped((2, 3), pad_width=((0, 2), (1, 0)), constant_values=2.5), shaped((3,), pad_width=(2, 1)),
    shaped((0, 2), pad_width=1), shaped((2, 3), pad_width=(3, 1), mode="edge"), shaped((2, 3), pad_width=2, mode="wrap"),
    shaped((3, 4), pad_width=((5, 0), (1, 2)), mode="reflect"), shaped((3,), pad_width=4, mode="symmetric"),
    view((2, 3), pad_width=1, mode="edge")])
# fmt: on


# ---- dropped ----------------------------------------------------------------------------------------------------------------


def _tril(x: Any, k: int = 0) -> Any:
    """x with zeros above its k-th diagonal, as `np.tril`, on the last two axes."""
    return np.tril(x, k)


def _triu(x: Any, k: int = 0) -> Any:
    """x with zeros below its k-th diagonal, as `np.triu`, on the last two axes."""
    return np.triu(x, k)


def _diag(x: Any, k: int = 0) -> Any:
    """The k-th diagonal of a matrix, or the matrix with x on its k-th diagonal, as `np.diag`."""
    return np.diag(x, k)


def _diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """A diagonal of x over two of its axes, which becomes the last axis of the result, as `np.diagonal`."""
    return np.diagonal(x, offset, axis1, axis2)


def _on_diagonal(g: Any, offset: int, axis1: int, axis2: int, shape: Sequence[int]) -> Any:
    """Zeros of a shape with g on a diagonal."""
    others = [n for axis, n in enumerate(shape) if axis not in (axis1 % len(shape), axis2 % len(shape))]
    steps = np.arange(g.shape[-1])
    place = (steps + max(-offset, 0), steps + max(offset, 0))
    front = scatter([np.moveaxis(g, -1, 0)], [place], (shape[axis1], shape[axis2], *others))
    return np.moveaxis(front, (0, 1), (axis1, axis2))


# fmt: off
tril     = primitive(_tril,     name="tril",     numpy=np.tril,     vjp=dict(x=lambda g, k: np.tril(g, k)), samples=[
    shaped((3, 4)), shaped((2, 3, 3), k=-1), shaped((3,), k=1), shaped((0, 3)), view((3, 2), k=1)])
triu     = primitive(_triu,     name="triu",     numpy=np.triu,     vjp=dict(x=lambda g, k: np.triu(g, k)), samples=[
    shaped((3, 4)), shaped((2, 3, 3), k=-1), shaped((3,), k=1), shaped((0, 3)), view((3, 2), k=1)])
diag     = primitive(_diag,     name="diag",     numpy=np.diag,
    vjp=dict(x=lambda g, k, x_shape: np.diagonal(g, k) if len(x_shape) == 1 else _on_diagonal(g, k, 0, 1, x_shape)), samples=[
    shaped((3,)), shaped((3,), k=-1), shaped((3, 4)), shaped((3, 4), k=2), shaped((4, 3), k=-1), shaped((0,)), shaped((0, 3)),
    view((3, 2))])
diagonal = primitive(_diagonal, name="diagonal", numpy=np.diagonal,
    vjp=dict(x=lambda g, offset, axis1, axis2, x_shape: _on_diagonal(g, offset, axis1, axis2, x_shape)), samples=[
    shaped((3, 4)), shaped((2, 3, 4), offset=1, axis1=-1, axis2=0), shaped((2, 3, 3), offset=-1, axis1=1, axis2=2),
    shaped((0, 3)), view((3, 3), offset=1)])
# fmt: on
