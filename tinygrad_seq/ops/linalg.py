"""Products: matmul, which every cell uses, and its kin dot, inner, outer, tensordot, einsum, kron. Read `elementwise.py` first.

For y = a @ b the cotangents are g bᵀ and aᵀ g, with care for vectors and batches. A weight b that T steps share has
the gradient sum_t a[t]ᵀ g[t] = [a[1]; ..; a[T]]ᵀ [g[1]; ..; g[T]]: one product of stacked matrices, for which the
uses of b wait for each other (`together`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, reduce
from operator import add
from string import ascii_letters
from typing import Any

import numpy as np

from tinygrad_seq.calls import as_operands
from tinygrad_seq.dtypes import Shape
from tinygrad_seq.numpy_like import implements
from tinygrad_seq.ops.elementwise import multiply
from tinygrad_seq.ops.index import scatter
from tinygrad_seq.ops.samples import shaped, strided, view
from tinygrad_seq.primitive import Sample, primitive
from tinygrad_seq.sweep import unbroadcast
from tinygrad_seq.tensor import Tensor

# ---- matmul -------------------------------------------------------------------------------------------------------------


def rows(x: Any) -> Any:
    """x as a matrix: all axes but the last on one. A vector is one row."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _matmul(a: Any, b: Any, *, out: Any = None) -> Any:
    """The matrix product a @ b as `np.matmul`: (..., m, k) @ (..., k, n), where a or b may be a vector (k,)."""
    if out is None and type(a) is np.ndarray and a.ndim > 2 and np.ndim(b) == 2:
        return np.matmul(rows(a), b).reshape(*a.shape[:-1], b.shape[1])  # one product, not one for each matrix of the batch
    return np.matmul(a, b, out)


def _matmul_a(g: Any, b: Any) -> Any:
    if b.ndim == 2:
        return g @ b.T if g.ndim < 3 else (rows(g) @ b.T).reshape(*g.shape[:-1], b.shape[0])
    if b.ndim == 1:
        return g[..., None] * b
    return g @ b.swapaxes(-1, -2) if g.ndim >= b.ndim else (g[..., None, :] @ b.swapaxes(-1, -2))[..., 0, :]


def _matmul_b(g: Any, a: Any, b_shape: Shape) -> Any:
    if len(b_shape) == 2:
        return a.T @ g if a.ndim == 2 else rows(a).T @ rows(g)
    if len(b_shape) == 1:
        return rows(a).T @ g.reshape(-1)
    return a.swapaxes(-1, -2) @ g if a.ndim > 1 else a[:, None] * g[..., None, :]


def _matmul_b_together(uses: Sequence[tuple[Any, Any, Shape]]) -> Any:
    if len(uses[0][2]) != 2:
        return reduce(add, [_matmul_b(*use) for use in uses])
    return np.concatenate([rows(a) for _, a, _ in uses]).T @ np.concatenate([rows(g) for g, _, _ in uses])


def _pairs(*pairs: tuple[Shape, Shape]) -> list[Sample]:
    return [shaped(a, b) for a, b in pairs]


_strided_pair = Sample(lambda rng: (strided(rng, (3, 4)), strided(rng, (4, 2))))

matmul = primitive(
    _matmul,
    name="matmul",
    label="@",
    numpy=np.matmul,
    vjp=dict(a=_matmul_a, b=_matmul_b),
    together=dict(b=_matmul_b_together),
    samples=[
        *_pairs(((3, 4), (4, 2)), ((4,), (4, 2)), ((3, 4), (4,)), ((4,), (4,))),
        *_pairs(((2, 3, 4), (4, 2)), ((2, 3, 4), (2, 4, 2)), ((3, 4), (2, 4, 2)), ((4,), (2, 4, 3)), ((2, 3, 4), (4,))),
        *_pairs(((2, 1, 3, 4), (3, 4, 2)), ((1, 3, 4), (2, 4, 2))),
        *_pairs(((3, 0), (0, 2)), ((0, 4), (4, 2)), ((2, 0, 4), (4, 2)), ((2, 3, 0), (0, 2))),
        _strided_pair,
    ],
)


def dot(a: Any, b: Any) -> Tensor:
    """The product of `np.dot`: of numbers, vectors and matrices as usual; in more axes, over a's last and b's last but one."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return multiply(a, b)  # type: ignore[no-any-return]
    return matmul(a, b) if np.ndim(b) < 3 else tensordot(a, b, (-1, -2))  # type: ignore[no-any-return]


def inner(a: Any, b: Any) -> Tensor:
    """The product over the last axes of a and b, as `np.inner`."""
    scaled = np.ndim(a) == 0 or np.ndim(b) == 0
    return multiply(a, b) if scaled else tensordot(a, b, (-1, -1))  # type: ignore[no-any-return]


def vdot(a: Any, b: Any) -> Tensor:
    """The sum of the products of all entries, of the flattened a and b, as `np.vdot`."""
    left, right = (x if isinstance(x, Tensor) else array for x, array in zip((a, b), as_operands([a, b])))
    return matmul(np.ravel(left), np.ravel(right))  # type: ignore[no-any-return]


implements[np.dot] = dot
implements[np.inner] = inner
implements[np.vdot] = vdot


# ---- outer, tensordot, kron -------------------------------------------------------------------------------------------------


def _outer(a: Any, b: Any) -> Any:
    """The products of all entries of a (rows) with all of b (columns), as `np.outer`."""
    return np.outer(a, b)


outer = primitive(
    _outer,
    name="outer",
    label="⊗",
    numpy=np.outer,
    vjp=dict(
        a=lambda g, b, a_shape: (g @ b.reshape(-1)).reshape(a_shape),
        b=lambda g, a, b_shape: (a.reshape(-1) @ g).reshape(b_shape),
    ),
    samples=_pairs(((3,), (4,)), ((2, 2), (3,)), ((), (3,)), ((0,), (3,)), ((3,), (0,))),
)


def _tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """The sum of products over pairs of axes, as `np.tensordot`.

    The result has the other axes of a, then the other axes of b.

    Args:
        a: an array.
        b: an array.
        axes: n for the last n axes of a with the first n of b, or a pair: axes of a, axes of b.
    """
    return np.tensordot(a, b, axes)


def _summed(axes: Any, a_ndim: int, b_ndim: int) -> tuple[list[int], list[int]]:
    """The axes of a and of b that a tensordot sums over, in pairs, counted from 0."""
    if np.ndim(axes) == 0:
        return list(range(a_ndim - int(axes), a_ndim)), list(range(int(axes)))
    of_a, of_b = (np.atleast_1d(np.asarray(part, int)) for part in axes)
    return (of_a % max(a_ndim, 1)).tolist(), (of_b % max(b_ndim, 1)).tolist()


def _others(axes: list[int], ndim: int) -> list[int]:
    return [axis for axis in range(ndim) if axis not in axes]


def _tensordot_a(g: Any, b: Any, axes: Any, a_shape: Shape) -> Any:
    of_a, of_b = _summed(axes, len(a_shape), b.ndim)
    kept, rest = _others(of_a, len(a_shape)), _others(of_b, b.ndim)
    term = np.tensordot(g, b, (list(range(len(kept), g.ndim)), rest))  # a's kept axes, then the summed ones as b orders them
    order = kept + [axis for _, axis in sorted(zip(of_b, of_a))]
    return term.transpose(np.argsort(order).tolist())


def _tensordot_b(g: Any, a: Any, axes: Any, b_shape: Shape) -> Any:
    of_a, of_b = _summed(axes, a.ndim, len(b_shape))
    kept, rest = _others(of_a, a.ndim), _others(of_b, len(b_shape))
    term = np.tensordot(a, g, (kept, list(range(len(kept)))))  # the summed axes as a orders them, then b's kept ones
    order = [axis for _, axis in sorted(zip(of_a, of_b))] + rest
    return term.transpose(np.argsort(order).tolist())


tensordot = primitive(
    _tensordot,
    name="tensordot",
    label="@",
    numpy=np.tensordot,
    vjp=dict(a=_tensordot_a, b=_tensordot_b),
    samples=[
        shaped((2, 3, 4), (3, 4, 2)),
        shaped((2, 3), (3, 2), axes=1),
        shaped((2,), (3,), axes=0),
        shaped((2, 3, 4), (4, 5, 2), axes=([0, -1], [2, 0])),
        shaped((2, 3), (4, 3), axes=(-1, -1)),
        shaped((), (3,), axes=0),
        shaped((2, 0), (0, 3), axes=1),
        Sample(lambda rng: (strided(rng, (2, 3)), strided(rng, (3, 2))), dict(axes=1)),
    ],
)


def _kron(a: Any, b: Any) -> Any:
    """The Kronecker product: a block a[i, j] * b for every entry of a, as `np.kron`."""
    return np.kron(a, b)


def _kron_back(g: Any, other: Any, mine: Shape, first: bool) -> Any:
    """The cotangent of one factor: g times the other, summed over the other's axes."""
    ndim = max(len(mine), other.ndim)
    wide = [(1,) * (ndim - len(shape)) + shape for shape in (mine, other.shape)]
    pairs = zip(*(wide if first else wide[::-1]))
    blocks = g.reshape([n for pair in pairs for n in pair])  # for every axis (a's, b's)
    spread = other.reshape([n for m in wide[1] for n in ((1, m) if first else (m, 1))])
    return (blocks * spread).sum(axis=tuple(range(int(first), 2 * ndim, 2))).reshape(mine)


kron = primitive(
    _kron,
    name="kron",
    label="⊗",
    numpy=np.kron,
    vjp=dict(a=lambda g, b, a_shape: _kron_back(g, b, a_shape, True), b=lambda g, a, b_shape: _kron_back(g, a, b_shape, False)),
    samples=_pairs(((2, 3), (3, 2)), ((2,), (3,)), ((2,), (2, 3)), ((2, 1, 2), (3,)), ((), (2, 2)), ((), ()), ((0, 2), (2, 2))),
)


# ---- einsum -----------------------------------------------------------------------------------------------------------------


def _einsum(*xs: Any, subscripts: str) -> Any:
    return np.einsum(subscripts, *xs, optimize=len(xs) > 1)


@lru_cache(maxsize=1024)
def _labels(subscripts: str, ndims: Shape) -> tuple[tuple[str, ...], str]:
    """A letter for every axis of each operand and of the result, those behind an ellipsis spelt out.

    Example:
        >>> _labels("...ij,jk", (3, 2))
        (('aij', 'jk'), 'aik')
    """
    given, arrow, result = subscripts.replace(" ", "").partition("->")
    terms = given.split(",")
    hidden = [ndim - len(term.replace("...", "")) if "..." in term else 0 for term, ndim in zip(terms, ndims)]
    spare = "".join(letter for letter in ascii_letters if letter not in subscripts)[: max(hidden)]
    if not arrow:  # NumPy's rule: what occurs once, in alphabetical order
        written = given.replace(",", "").replace("...", "")
        result = "..." + "".join(sorted(letter for letter in set(written) if written.count(letter) == 1))
    spelt = tuple(term.replace("...", spare[len(spare) - n :]) for term, n in zip(terms, hidden))
    return spelt, result.replace("...", spare)


def _einsum_back(g: Any, xs: Sequence[Any], subscripts: str, i: int) -> Any:
    """The cotangent of an operand: the einsum of g with the other operands, indexed as this one is."""
    terms, result = _labels(subscripts, tuple(np.ndim(x) for x in xs))
    shape = np.shape(xs[i])
    mine = "".join(dict.fromkeys(terms[i]))  # each of its letters once
    others = [*terms[:i], *terms[i + 1 :]]
    known = {*result, *"".join(others)}
    asked = "".join(letter for letter in mine if letter in known)
    term = np.einsum(",".join([result, *others]) + "->" + asked, g, *xs[:i], *xs[i + 1 :], optimize=True)
    if asked != mine:  # a letter that it alone has, not even the result: a plain sum, whose pullback is a broadcast
        term = term[tuple(slice(None) if letter in known else None for letter in mine)]
    own = dict(zip(terms[i], shape))
    stretched = tuple([own[letter] if n == 1 else n for letter, n in zip(mine, term.shape)])  # the others may be of length 1
    if stretched != term.shape:
        term = np.broadcast_to(term, stretched)
    if mine == terms[i]:
        return term
    # It has a letter twice: a diagonal, outside of which the cotangent is zero.
    term = unbroadcast(term, tuple(own[letter] for letter in mine))
    places = dict(zip(mine, np.ix_(*[np.arange(own[letter]) for letter in mine])))
    return scatter([term], [tuple(places[letter] for letter in terms[i])], shape)


def _summing(subscripts: str, *shapes: Shape) -> Sample:
    return shaped(*shapes, subscripts=subscripts)


_einsummed = primitive(
    _einsum,
    name="einsum",
    label="Σ",
    vjp={"*xs": _einsum_back},
    samples=[
        _summing("ij,jk->ik", (3, 4), (4, 2)),
        _summing("ij,jk", (3, 4), (4, 2)),
        _summing("ba,b", (3, 4), (3,)),
        _summing("i,ij,j->", (3,), (3, 4), (4,)),
        _summing("bij,bjk,k->bi", (2, 3, 4), (2, 4, 2), (2,)),
        _summing("...ij,...jk->...ik", (2, 3, 4), (4, 2)),
        _summing("...i,i...", (2, 3), (3, 2)),
        _summing("...i,...i->...", (1, 2, 3), (4, 1, 3)),
        _summing("ii->i", (3, 3)),
        _summing("ii", (3, 3)),
        _summing("iij,jj->ji", (2, 2, 3), (3, 3)),
        _summing("ij->j", (3, 4)),
        _summing("ijk,k->k", (2, 3, 4), (4,)),
        _summing("i,i->i", (1,), (3,)),
        _summing("i,i->", (1,), (3,)),
        _summing("bi,bi->b", (2, 1), (2, 3)),
        _summing("ij,kj->ik", (2, 3), (4, 1)),
        _summing("ii,i->", (3, 3), (1,)),
        _summing(",i->i", (), (3,)),
        _summing("->", ()),
        _summing("ij,jk->ik", (0, 3), (3, 2)),
        _summing("ij,jk->ik", (2, 0), (0, 3)),
        view((3, 2), subscripts="ij->ji"),
    ],
)


def einsum(subscripts: str, *operands: Any, optimize: Any = True) -> Tensor:
    """Sums of products by Einstein's convention, as `np.einsum`.

    Args:
        subscripts: "ij,jk->ik" and the like: letters for the axes of the operands and of the result. A letter may occur
            twice in an operand (its diagonal); "..." stands for further axes, broadcast; without "->" the result has
            the letters that occur once, in alphabetical order.
        *operands: tensors or arrays.
        optimize: taken for NumPy's sake; the order of the products is always chosen well.

    Raises:
        TypeError: for NumPy's other form, with lists of numbers in place of letters.
        ShapeError: if the shapes do not fit the subscripts.

    Example:
        >>> import tinygrad_seq as tg
        >>> tg.einsum("ij,j->i", tg.tensor([[1.0, 2.0], [3.0, 4.0]]), tg.tensor([1.0, 10.0]))
        Tensor([21., 43.], dtype=float32)
    """
    if not isinstance(subscripts, str):
        raise TypeError(f"einsum takes its subscripts as letters, such as 'ij,jk->ik', not {type(subscripts).__name__}")
    return _einsummed(*operands, subscripts=subscripts)  # type: ignore[no-any-return]


implements[np.einsum] = einsum
