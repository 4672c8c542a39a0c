"""Reading and writing at places: `x[index]`, take, sort, `x.at[index].set(v)`. Read `elementwise.py` first.

One pair carries the family. Reading x[index] is linear, and its transpose is `scatter`: adding numbers to zeros at
that index. So each is the pullback of the other, at every order.

A loop over time reads one hoisted array at each of its T steps. Had each step's cotangent an array of zeros of its
own, a backward pass would cost T². The uses of one array therefore wait for each other (`together`), and `scatter`
puts all their pieces into a single array.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from tinygrad_seq.numpy_like import Place, implements
from tinygrad_seq.ops.samples import drawn, normal, shaped, strided, view
from tinygrad_seq.primitive import Primitive, primitive, pulled
from tinygrad_seq.tensor import Tensor, as_array

# ---- indices --------------------------------------------------------------------------------------------------------


def plain(index: Any) -> Any:
    """An index of whole numbers, slices, None, ... and arrays: tensors and lists in it become arrays."""
    if type(index) is int or type(index) is slice:
        return index
    return tuple([_plain_part(part) for part in index]) if type(index) is tuple else _plain_part(index)


def _plain_part(part: Any) -> Any:
    if part is None or part is Ellipsis or isinstance(part, (int, slice)):
        return part
    array = part.data if isinstance(part, Tensor) else np.asarray(part)
    if array.size == 0 and isinstance(part, (list, tuple)):
        array = array.astype(np.intp)  # an empty list has no dtype of its own
    if array.dtype.kind not in "iub":
        raise IndexError(f"an index holds integers or truth values, not {array.dtype}; round it with .astype(int) if it is meant")
    return array if array.ndim or array.dtype.kind == "b" else int(array)


def may_repeat(index: Any) -> bool:
    """Whether an index can name a place twice: only arrays of integers can."""
    parts = index if type(index) is tuple else (index,)
    return any(isinstance(part, np.ndarray) and part.dtype.kind != "b" for part in parts)


def _add_at(y: Any, index: Any, piece: Any) -> None:
    """`y[index] += piece`, where a place that the index names twice gets both; y is contiguous."""
    if type(index) is int or not may_repeat(index):
        y[index] += piece
        return
    parts = index if type(index) is tuple else (index,)
    if not all(type(part) is int or may_repeat(part) for part in parts):
        np.add.at(y, index, piece)
        return
    # Integers only, so the index picks rows of a table: np.add.at is several times as fast on a flat array.
    rows = np.asarray(np.ravel_multi_index(parts, y.shape[: len(parts)], mode="wrap"))  # wrap: -1 is the last
    width = math.prod(y.shape[len(parts) :])
    places = rows[..., None] * width + np.arange(width)
    np.add.at(y.reshape(-1), places.reshape(-1), np.broadcast_to(piece, rows.shape + y.shape[len(parts) :]).reshape(-1))


# ---- reading --------------------------------------------------------------------------------------------------------


def _read(x: Any, index: Any) -> Any:
    """x[index]."""
    return x[index]


def _scatter(*pieces: Any, indices: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """Zeros of a shape, to which each of the pieces is added at its own index; repeated places add up."""
    y = np.zeros(shape, pieces[0].dtype)
    for piece, index in zip(pieces, indices):
        _add_at(y, index, piece)
    return y


def scatter(pieces: Sequence[Any], indices: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """The transpose of reading: the pieces added to zeros of `shape`, each at its index. Arrays or tensors, as the pieces are."""
    return pulled(_scattered, *pieces, indices=indices, shape=shape)


def _assembled(uses: Sequence[tuple[Any, Any, tuple[int, ...]]]) -> Any:
    """The cotangent of an array from all the places that it was read at: tuples (g, index, shape of the array)."""
    pieces, indices, shapes = zip(*uses)
    return scatter(pieces, indices, shapes[0])


def _indexed(shape: tuple[int, ...], *indices: Any) -> list[Any]:
    return [shaped(shape, index=index) for index in indices]


_mask = np.array([[True, False, True, False], [False, False, True, True], [True, False, False, False]])
_rows = np.array([2, 0, 2, -1])  # a row twice, one of them counted from the end

_read_samples = [
    *_indexed((3, 4), 1, -1, (), None, (..., 0), slice(1, None), (slice(None), -2), (slice(None, None, -2), None, slice(1, 3))),
    *_indexed((3, 4), _rows, (_rows, np.array([1, 0, 1, 3])), (slice(None), _rows), (_rows[:, None], _rows[:2]), (1, _rows)),
    *_indexed((3, 4), _mask, (slice(None), _mask[0]), (_rows[:2], _mask[0]), np.zeros((0,), int), ~_mask & _mask),
    *_indexed((2, 3, 4), (0, slice(None), _rows), (slice(None), np.array([[0, 1], [1, 1]]))),
    *_indexed((2, 3, 4), (np.array([1, 0]), slice(None), np.array([3, 3]))),
    *_indexed((), (), ..., None, True),
    *_indexed((0, 3), slice(None), (slice(None), 1), (slice(None), np.array([0, 0]))),
    view((3, 4), index=(slice(0, 3, 2), _rows)),
]  # fmt: skip

_got = primitive(
    _read,
    name="getitem",
    label="[ ]",
    vjp=dict(x=lambda g, index, x_shape: _assembled([(g, index, x_shape)])),
    together=dict(x=_assembled),
    samples=_read_samples,
)
_scattered = primitive(
    _scatter,
    name="scatter",
    vjp={"*pieces": lambda g, indices, i: g[indices[i]]},
    samples=[
        shaped((4,), (4,), indices=[0, -1], shape=(3, 4)),
        shaped((4, 2), (), (3,), indices=[_rows, (slice(None), 0), (slice(None), 1)], shape=(3, 2)),
        shaped((5,), (2, 4), indices=[_mask, (slice(None, 2), _rows)], shape=(3, 4)),
        shaped((0, 3), indices=[slice(0, 0)], shape=(2, 3)),
        shaped((), indices=[()], shape=()),
    ],
)


def getitem(x: Any, index: Any) -> Tensor:
    """`x[index]`: basic, integer, boolean and mixed indices, as NumPy's.

    Args:
        x: the tensor or array to read.
        index: whole numbers, slices, None, `...`, arrays or tensors of integers or truth values, or a tuple of them.

    Raises:
        IndexError: if a place does not exist, or the index holds neither integers nor truth values.
    """
    return _got(x, index=plain(index))  # type: ignore[no-any-return]


implements[Tensor.__getitem__] = getitem


def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """The entries at `indices` along an axis, or of the flattened x; as `np.take`.

    The result has the axes of `indices` in the place of that axis. Out of range is an IndexError.
    """
    indices = _whole(indices)
    if axis is None:
        return getitem(np.reshape(x, (-1,)), indices)
    x = x if isinstance(x, Tensor) else as_array(x)
    return getitem(x, (slice(None),) * normalize_axis_index(axis, x.ndim) + (indices,))


def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Tensor:
    """For every line of x along the axis, the entries that the same line of `indices` names; as `np.take_along_axis`.

    Args:
        x: a tensor or array.
        indices: integers, with as many axes as x, of the same lengths except along `axis`.
        axis: the axis; None for the flattened x and 1-d indices.

    Example:
        >>> import tinygrad_seq as tg
        >>> scores = tg.tensor([[0.1, 0.7], [0.6, 0.2]])
        >>> tg.take_along_axis(scores, [[1], [0]], axis=1)
        Tensor([[0.7],
                [0.6]], dtype=float32)
    """
    indices = _whole(indices)
    if axis is None:
        x, axis = np.reshape(x, (-1,)), 0
    x = x if isinstance(x, Tensor) else as_array(x)
    if indices.ndim != x.ndim:
        raise ValueError(f"take_along_axis needs indices with as many axes as x, got shapes {indices.shape} and {x.shape}")
    index = list(np.ix_(*map(np.arange, x.shape)))
    index[normalize_axis_index(axis, x.ndim)] = indices
    return getitem(x, tuple(index))


def _whole(indices: Any) -> Any:
    """Indices as an array of integers; truth values count as 0 and 1 here, as in NumPy's take."""
    array = np.asarray(_plain_part(indices))
    return array.astype(np.intp) if array.dtype.kind == "b" else array


implements[np.take] = take
implements[np.take_along_axis] = take_along_axis


# ---- order ----------------------------------------------------------------------------------------------------------


def _argsort(x: Any, axis: int | None = -1, kind: Any = None) -> Any:
    """The indices that would sort x along the axis (None: flattened), as `np.argsort`. Integers: no gradient."""
    return np.argsort(x, axis=axis, kind=kind)


argsort = primitive(
    _argsort,
    name="argsort",
    numpy=np.argsort,
    vjp=dict(x=None),
    samples=[shaped((3, 4)), shaped((3, 4), axis=0), shaped((3, 4), axis=None), shaped((0, 2)), view((3, 2), axis=-2)],
)


def sort(x: Any, axis: int | None = -1, kind: Any = None) -> Tensor:
    """x in ascending order along the axis (None: flattened), as `np.sort`; each entry's gradient goes where it came from.

    Among equal entries the order, and so the share of each in the gradient, is that of `np.argsort(kind=kind)`.
    """
    x = x if isinstance(x, Tensor) else as_array(x)
    return take_along_axis(x, argsort(x, axis=axis, kind=kind), axis)


implements[np.sort] = sort


# ---- writing --------------------------------------------------------------------------------------------------------


def _place_for(values: Any, x: Any, index: Any) -> Any:
    """A copy of x to write into, if values fit the place."""
    y = np.array(x, order="C")  # also of a transposed x
    place, values = y[index].shape, np.asarray(values)
    if not np.can_cast(values.dtype, y.dtype, "same_kind"):
        raise TypeError(f"values of dtype {values.dtype} would be cut to {y.dtype}; convert x with astype({values.dtype}) first")
    if values.ndim > len(place) or any(n not in (1, m) for n, m in zip(values.shape[::-1], place[::-1])):
        raise ValueError(f"values of shape {values.shape} do not fit the place, of shape {place}")
    return y


def _set(x: Any, values: Any, index: Any) -> Any:
    """x with the values written at the index. At a place that the index names twice, the last value counts."""
    y = _place_for(values, x, index)
    y[index] = values
    return y


def _add(x: Any, values: Any, index: Any) -> Any:
    """x with the values added at the index. At a place that the index names twice, both are added."""
    y = _place_for(values, x, index)
    _add_at(y, index, values)
    return y


def _kept(g: Any, index: Any, shape: tuple[int, ...]) -> Any:
    """The cotangent of written values: what is read there, but zero for a value that a later one was written over."""
    if not may_repeat(index):
        return g[index]
    number = np.zeros(shape, np.intp)
    order = np.arange(number[index].size).reshape(number[index].shape)
    number[index] = order  # written as the values were, so the same ones remain
    return np.where(number[index] == order, g[index], 0)


_write_samples = [
    shaped((3, 4), (4,), index=1),
    shaped((3, 4), (), index=(slice(None), -1)),
    shaped((3, 4), (3, 1), index=(slice(None), slice(1, 3))),
    shaped((3, 4), (4, 4), index=_rows),
    shaped((3, 4), (4,), index=(_rows, np.array([1, 0, 1, 3]))),
    shaped((3, 4), (5,), index=_mask),
    shaped((2, 3), (2, 4), index=(slice(None), np.array([0, 2, 2, -1]))),
    shaped((), (), index=()),
    shaped((0, 3), (0,), index=(slice(None), 0)),
    drawn((normal, normal), ((3, 4), (4, 4)), strided, index=_rows),
]

_written: Primitive = primitive(
    _set,
    name="at_set",
    vjp=dict(x=lambda g, index: pulled(_written, g, 0, index=index), values=lambda g, index, x_shape: _kept(g, index, x_shape)),
    samples=_write_samples,
)
_added = primitive(
    _add,
    name="at_add",
    vjp=dict(x=lambda g: g, values=lambda g, index: g[index]),
    samples=_write_samples,
)


def at_set(x: Any, values: Any, index: Any) -> Tensor:
    """`x.at[index].set(values)`: x with the values written at the index; x itself stays as it is.

    Args:
        x: a tensor, whose shape and dtype the result has.
        values: of the shape of x[index], or broadcast to it.
        index: as for reading. Where it names a place twice the last value counts, in the gradient too.

    Raises:
        IndexError: if a place does not exist.
        ValueError: if the values do not fit the place.
        TypeError: if the values would be cut to x's dtype, floating ones to integers.
    """
    return _written(x, _precise(values, x), index=plain(index))  # type: ignore[no-any-return]


def at_add(x: Any, values: Any, index: Any) -> Tensor:
    """`x.at[index].add(values)`: x with the values added at the index, all of them where it names a place twice.

    Arguments and errors are those of `at_set`.
    """
    return _added(x, _precise(values, x), index=plain(index))  # type: ignore[no-any-return]


def _precise(values: Any, x: Any) -> Any:
    """Lists of numbers as precise as they are: the place has a dtype for them."""
    return as_array(values, x.dtype) if isinstance(values, (list, tuple)) else values


implements[Place.set] = at_set
implements[Place.add] = at_add
