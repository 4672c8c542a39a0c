"""Reductions: operations that make one number of many, along some axes. Read `elementwise.py` first.

A reduction takes `axis` (None for all, one number, or a tuple of them; negative ones count from the end) and `keepdims`,
as in NumPy. What their pullbacks have in common is to bring the cotangent g, or the result y, back to as many axes as
the input x had, those that are gone with length 1, so that it broadcasts against x: that is `kept`.
"""
# fmt: off

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_seq.dtypes import Shape, floating
from tinygrad_seq.numpy_like import implements
from tinygrad_seq.ops.samples import Draw, apart, binary, distinct, integers, normal, shaped, view
from tinygrad_seq.ops.special import over
from tinygrad_seq.primitive import Sample, primitive
from tinygrad_seq.pullback import Rule

Axis = int | tuple[int, ...] | None

# ---- shapes, and samples of them ------------------------------------------------------------------------------------


def axes_of(shape: Shape, axis: Axis) -> tuple[int, ...]:
    """The axes that are reduced, counted from the front."""
    if axis is None:
        return tuple(range(len(shape)))
    return tuple([i % len(shape) for i in (axis if isinstance(axis, tuple) else (axis,))])


def kept(reduced: Any, shape: Shape, axis: Axis) -> Any:
    """What was reduced from this shape, with its lost axes back as axes of length 1."""
    gone = axes_of(shape, axis)
    return np.reshape(reduced, tuple([1 if i in gone else n for i, n in enumerate(shape)]))


def spread(g: Any, shape: Shape, axis: Axis) -> Any:
    """The cotangent of each reduced value, given to all elements that it was made of."""
    if axis is None and g.ndim == 0:
        return g + np.zeros(shape, g.dtype)  # a sixth of what broadcasting costs on a small array
    return np.broadcast_to(kept(g, shape, axis), shape)


def count(shape: Shape, axis: Axis) -> int:
    """How many elements each reduced value is made of."""
    return math.prod([shape[i] for i in axes_of(shape, axis)])


def reductions(draw: Draw = normal, *, tuples: bool = True, empty: bool = True, **params: Any) -> list[Sample]:
    """Samples of a reduction: one for each kind of axis; with tuples of axes, and nothing to reduce, where it allows that."""
    made = [
        shaped((3, 4), draw=draw, **params),
        shaped((3, 4), draw=draw, axis=0, **params),
        shaped((2, 3, 4), draw=draw, axis=-2, **params),
        shaped((2, 3), draw=draw, axis=-1, keepdims=True, **params),
        shaped((0, 3), draw=draw, axis=1, **params),
        shaped((), draw=draw, **params),
        view((3, 4), draw=draw, axis=1, **params),
    ]
    if tuples:
        made.append(shaped((2, 3, 4), draw=draw, axis=(0, -1), **params))
        made.append(shaped((3, 2, 2), draw=draw, axis=(2, 1), keepdims=True, **params))
    if empty:
        made += [shaped((0, 3), draw=draw, axis=0, **params), shaped((0, 3), draw=draw, **params)]
    return made


def running(draw: Draw = normal) -> list[Sample]:
    """Samples of an operation that runs along one axis, or along all of a flattened array."""
    shapes = [shaped(shape, draw=draw) for shape in ((5,), (2, 3), (), (0, 3))]
    along = [shaped(shape, draw=draw, axis=axis) for shape, axis in (((3, 4), 0), ((2, 3, 4), -2), ((3, 0), 1), ((3, 1), 1))]
    return [*shapes, *along, view((3, 4), draw=draw, axis=-1)]


# ---- sums -----------------------------------------------------------------------------------------------------------


def _backwards(g: Any, axis: int | None) -> Any:
    """The sums from each element to the end."""
    return np.flip(np.cumsum(np.flip(g, axis), axis), axis)


def _diagonal(shape: Shape, offset: int, axis1: int, axis2: int) -> Any:
    """Whether an element stands on the diagonal; broadcasts against the shape."""
    rows, columns = axes_of(shape, (axis1, axis2))
    mask = np.eye(shape[rows], shape[columns], offset, dtype=bool)
    return (mask if rows < columns else mask.T).reshape([n if i in (rows, columns) else 1 for i, n in enumerate(shape)])


sum = primitive(
    lambda x, axis=None, *, keepdims=False: np.add.reduce(x, axis=axis, keepdims=keepdims),
    vjp=dict(x=lambda g, x_shape, axis: spread(g, x_shape, axis)),
    name="sum", label="Σ", numpy=np.sum, samples=reductions(),
)
mean = primitive(
    lambda x, axis=None, *, keepdims=False: np.mean(x, axis=axis, keepdims=keepdims),
    # times 1 / n: float16 holds that of an n which would be infinite in it
    vjp=dict(x=lambda g, x_shape, axis: spread(g * (1 / (count(x_shape, axis) or 1)), x_shape, axis)),
    name="mean", numpy=np.mean, samples=reductions(empty=False),
)
cumsum = primitive(
    lambda x, axis=None: np.cumsum(x, axis),
    vjp=dict(x=lambda g, x_shape, axis: np.reshape(_backwards(g, axis), x_shape)),
    name="cumsum", numpy=np.cumsum, samples=running(),
)
trace = primitive(
    lambda x, offset=0, axis1=0, axis2=1: np.trace(x, offset, axis1, axis2),
    vjp=dict(x=lambda g, x_shape, offset, axis1, axis2: np.where(
        _diagonal(x_shape, offset, axis1, axis2), kept(g, x_shape, (axis1, axis2)), 0)),
    name="trace", label="tr", numpy=np.trace,
    samples=[shaped((3, 3)), shaped((3, 4), offset=1), shaped((2, 3, 4), offset=-1, axis1=-1, axis2=0), shaped((0, 3)),
             view((4, 3))],
)

# ---- products: what is right with zeros never divides --------------------------------------------------------------


def _before(x: Any) -> Any:
    """The product of all elements before each one, along the last axis: 1, x0, x0 x1, ..."""
    return np.cumprod(np.concatenate([np.ones((*x.shape[:-1], 1), x.dtype), x], axis=-1)[..., :-1], axis=-1)


def _others(x: Any, axis: Axis) -> Any:
    """For each element the product of the others that it is multiplied with: those before it, times those after it."""
    axes = axes_of(x.shape, axis)
    last = tuple(range(x.ndim - len(axes), x.ndim))
    moved = np.moveaxis(x, axes, last)
    line = np.reshape(moved, (*moved.shape[:x.ndim - len(axes)], count(x.shape, axis)))
    others = _before(line) * np.flip(_before(np.flip(line, -1)), -1)
    return np.moveaxis(np.reshape(others, moved.shape), last, axes)


def _cumprod_pullback(g: Any, x: Any, axis: int | None) -> Any:
    """With y_k = x_0 ... x_k, dL/dx_i = x_0 ... x_(i-1) * (g_i + x_(i+1) * (g_(i+1) + x_(i+2) * ...)): Horner's rule."""
    if axis is None or x.ndim == 0:  # along the flattened array
        return np.reshape(_cumprod_pullback(g, np.reshape(x, x.size), -1), x.shape)
    if x.shape[axis] == 0:
        return g
    g, x = np.moveaxis(g, axis, -1), np.moveaxis(x, axis, -1)
    sums = [g[..., -1]]
    for i in reversed(range(x.shape[-1] - 1)):
        sums.append(g[..., i] + x[..., i + 1] * sums[-1])
    return np.moveaxis(_before(x) * np.stack(sums[::-1], axis=-1), -1, axis)


prod = primitive(
    lambda x, axis=None, *, keepdims=False: np.prod(x, axis=axis, keepdims=keepdims),
    vjp=dict(x=lambda g, x, axis: kept(g, x.shape, axis) * _others(x, axis)),
    name="prod", label="Π", numpy=np.prod, samples=[*reductions(), *reductions(integers(0, 2, float))],
)
cumprod = primitive(
    lambda x, axis=None: np.cumprod(x, axis),
    vjp=dict(x=_cumprod_pullback), name="cumprod", numpy=np.cumprod, samples=[*running(), *running(integers(0, 2, float))],
)

# ---- the largest and the smallest -----------------------------------------------------------------------------------


def _shared(g: Any, x: Any, y: Any, axis: Axis) -> Any:
    """The cotangent for the elements that were chosen; where several are equal, they share it evenly."""
    chosen = np.logical_or(x == kept(y, x.shape, axis), np.isnan(x))  # a nan is the largest and the smallest of all
    share = 1 / np.sum(chosen, axis=axis, keepdims=True)  # which float16 holds where it does not hold the number
    return np.where(chosen, kept(g, x.shape, axis) * share.astype(g.dtype), 0)


max = primitive(
    lambda x, axis=None, *, keepdims=False: np.max(x, axis=axis, keepdims=keepdims),
    vjp=dict(x=_shared), name="max", numpy=np.max, samples=reductions(distinct(), empty=False),
)
min = primitive(
    lambda x, axis=None, *, keepdims=False: np.min(x, axis=axis, keepdims=keepdims),
    vjp=dict(x=_shared), name="min", numpy=np.min, samples=reductions(distinct(), empty=False),
)
implements[np.amax] = max
implements[np.amin] = min


def _logsumexp(x: Any, axis: Axis = None, *, keepdims: bool = False) -> Any:
    """log(sum(exp(x))) along the axes, a smooth maximum; no overflow. Nothing to sum, or -inf alone, gives -inf."""
    x = floating(x)
    top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore", over="ignore"):
        y = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return y if keepdims else np.squeeze(y, axis=axes_of(x.shape, axis))


def _softmax(x: Any, y: Any, axis: Axis) -> Any:
    """The share of each element in the sum of exponentials whose logarithm is y, which is dy/dx; 0 for all if the sum is 0."""
    return np.exp(x - kept(np.where(y == -math.inf, 0, y), x.shape, axis))


logsumexp = primitive(
    _logsumexp, vjp=dict(x=lambda g, x, y, axis: kept(g, x.shape, axis) * _softmax(x, y, axis)),
    name="logsumexp", label="log Σ exp", samples=reductions(empty=False),
)

# ---- spread and length: 0 is the subgradient where they are 0 -------------------------------------------------------


def _deviation(x: Any, axis: Axis) -> Any:
    return x - np.mean(x, axis=axis, keepdims=True)


def _freedom(x: Any, axis: Axis, ddof: float) -> float:
    """What the squared deviations are divided by; as in NumPy, not below 0."""
    n = count(x.shape, axis) - ddof
    return n if n > 0 else 0


def _norm(x: Any, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Any:
    """The square root of the sum of squares along the axes: the length of a vector, the Frobenius norm of a matrix.

    The squares neither overflow nor vanish: a power of two, which does not round, is taken out before and put back.

    Args:
        x: any shape.
        ord: None; 2 for vectors; "fro" for matrices. The other orders are not offered.
        axis: None for all of x.
        keepdims: keep the reduced axes, with length 1.
    """
    x = np.asarray(x)
    x = x if x.dtype.kind == "f" else x.astype(float)
    if ord is not None and ord != (2 if len(axes_of(x.shape, axis)) == 1 else "fro"):
        raise TypeError(f"ord={ord!r} is not offered: use None, or 2 along one axis, or 'fro' along two")
    largest = np.max(np.absolute(x), axis=axis, keepdims=True, initial=0)
    exponent = np.frexp(np.where(np.isfinite(largest), largest, 0))[1]  # inf and nan have none that is defined
    y = np.ldexp(np.sqrt(np.sum(np.square(np.ldexp(x, -exponent)), axis=axis, keepdims=True)), exponent)
    return y if keepdims else np.squeeze(y, axis=axes_of(x.shape, axis))


# d(var)/dx_i = 2 (x_i - mean) / (n - ddof), for the deviations add up to 0 and what flows through the mean is nothing. The
# standard deviation y is its square root, d(std)/dx_i = (x_i - mean) / (y (n - ddof)), and a norm y has dy/dx_i = x_i / y.

var = primitive(
    lambda x, axis=None, *, ddof=0, keepdims=False: np.var(x, axis=axis, ddof=ddof, keepdims=keepdims),
    vjp=dict(x=lambda g, x, axis, ddof: kept(g, x.shape, axis) * _deviation(x, axis) * 2 / _freedom(x, axis, ddof)),
    name="var", label="σ²", numpy=np.var,
    samples=[*reductions(empty=False), shaped((3, 4), ddof=1), shaped((3, 4), axis=-1, ddof=1.5)],
)
std = primitive(
    lambda x, axis=None, *, ddof=0, keepdims=False: np.std(x, axis=axis, ddof=ddof, keepdims=keepdims),
    vjp=dict(x=lambda g, x, y, axis, ddof:
             kept(g, x.shape, axis) * over(_deviation(x, axis), kept(y, x.shape, axis)) / _freedom(x, axis, ddof)),
    name="std", numpy=np.std,
    samples=[*reductions(empty=False), shaped((3, 4), ddof=1), shaped((3, 4), axis=-1, ddof=1.5)],
)
norm = primitive(
    _norm, vjp=dict(x=lambda g, x, y, axis: kept(g, x.shape, axis) * over(x, kept(y, x.shape, axis))),
    name="norm", label="‖·‖", numpy=np.linalg.norm,
    samples=[*reductions(), shaped((3, 4), axis=1, ord=2), shaped((3, 4), ord="fro")],
)

# ---- where and how many: no gradient --------------------------------------------------------------------------------

of_one: dict[str, Rule | None] = dict(x=None)
of_two: dict[str, Rule | None] = dict(a=None, b=None)
truths = integers(0, 2, bool)

argmax = primitive(lambda x, axis=None, *, keepdims=False: np.argmax(x, axis=axis, keepdims=keepdims), vjp=of_one,
                   name="argmax", numpy=np.argmax, samples=reductions(distinct(), tuples=False, empty=False))
argmin = primitive(lambda x, axis=None, *, keepdims=False: np.argmin(x, axis=axis, keepdims=keepdims), vjp=of_one,
                   name="argmin", numpy=np.argmin, samples=reductions(distinct(), tuples=False, empty=False))
any = primitive(lambda x, axis=None, *, keepdims=False: np.any(x, axis=axis, keepdims=keepdims), vjp=of_one,
                name="any", numpy=np.any, samples=reductions(truths))
all = primitive(lambda x, axis=None, *, keepdims=False: np.all(x, axis=axis, keepdims=keepdims), vjp=of_one,
                name="all", numpy=np.all, samples=reductions(truths))
count_nonzero = primitive(lambda x, axis=None, *, keepdims=False: np.count_nonzero(x, axis=axis, keepdims=keepdims), vjp=of_one,
                          name="count_nonzero", numpy=np.count_nonzero, samples=reductions(truths))
allclose = primitive(np.allclose, vjp=of_two, samples=binary(*apart))
array_equal = primitive(lambda a, b, equal_nan=False: np.array_equal(a, b, equal_nan=equal_nan), vjp=of_two,
                        name="array_equal", numpy=np.array_equal, samples=binary(*apart))
