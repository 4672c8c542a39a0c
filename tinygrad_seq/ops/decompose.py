"""Solving and decomposing square matrices: solve, inv, det, slogdet, cholesky, eigh. Rarely used; after `linalg.py`.

All take batches, (..., n, n), as NumPy's do. The rules are those of M. Giles, "Collected matrix derivative results for
forward and reverse mode algorithmic differentiation" (2008), unless a docstring says more.

cholesky and eigh are functions of symmetric matrices: they decompose the symmetric part (a + aᵀ)/2, which for a
symmetric a is a itself, and so their gradients are symmetric (as in JAX and PyTorch).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinygrad_seq.dtypes import Shape
from tinygrad_seq.numpy_like import implements
from tinygrad_seq.ops.samples import Draw, drawn, normal
from tinygrad_seq.primitive import primitive, pulled
from tinygrad_seq.tensor import Tensor


def T(x: Any) -> Any:
    """Each matrix of the batch transposed."""
    return x.swapaxes(-1, -2)


def _regular(rng: np.random.Generator, shape: Shape) -> Any:
    """Matrices far from singular."""
    return 0.3 * normal(rng, shape) + 1.5 * np.eye(shape[-1])


def _positive(rng: np.random.Generator, shape: Shape) -> Any:
    """Positive definite matrices, hardly symmetric, with eigenvalues that are far apart."""
    return 0.3 * normal(rng, shape) + np.diag(3.0 + 2.0 * np.arange(shape[-1]))


def _sparse(rng: np.random.Generator, shape: Shape, draw: Draw) -> Any:
    """Matrices that are not contiguous in memory."""
    return np.repeat(draw(rng, shape), 2, axis=-1)[..., ::2]


def _squares(draw: Draw) -> list[Any]:
    """Samples: one matrix, batches, an empty batch, the smallest matrices, one that is not contiguous."""
    shapes = [(3, 3), (2, 4, 4), (2, 1, 2, 2), (0, 3, 3), (1, 1), (0, 0)]
    return [*[drawn((draw,), (shape,)) for shape in shapes], drawn((draw,), ((3, 3),), _sparse)]


# ---- linear systems -----------------------------------------------------------------------------------------------------


def _solve(a: Any, b: Any) -> Any:
    """The x with a @ x = b, as `np.linalg.solve`.

    Args:
        a: matrices (..., n, n).
        b: one vector (n,), or matrices (..., n, m).

    Raises:
        numpy.linalg.LinAlgError: if a is singular.
    """
    return np.linalg.solve(a, b)


def _solve_b(g: Any, a: Any, b_shape: Shape) -> Any:
    if len(b_shape) == 1:  # g may be a batch of vectors, which NumPy would read as a matrix
        return np.linalg.solve(T(a), g[..., None])[..., 0]
    return np.linalg.solve(T(a), g)


def _solve_a(g: Any, a: Any, y: Any, b_shape: Shape) -> Any:
    through = _solve_b(g, a, b_shape)
    if len(b_shape) == 1:
        return -through[..., :, None] * y[..., None, :]
    return -(through @ T(y))


def _inv(a: Any) -> Any:
    """The inverse of each matrix, as `np.linalg.inv`; a singular one raises numpy.linalg.LinAlgError."""
    return np.linalg.inv(a)


_systems: list[tuple[Shape, Shape]] = [
    *[((3, 3), (3,)), ((3, 3), (3, 2)), ((2, 3, 3), (3,)), ((2, 3, 3), (3, 2))],
    *[((3, 3), (2, 3, 2)), ((2, 1, 2, 2), (3, 2, 1)), ((2, 2), (2, 0)), ((0, 0), (0,))],
]

solve = primitive(
    _solve,
    name="solve",
    numpy=np.linalg.solve,
    vjp=dict(a=_solve_a, b=_solve_b),
    samples=[*[drawn((_regular, normal), shapes) for shapes in _systems], drawn((_regular, normal), ((3, 3), (3, 2)), _sparse)],
)
inv = primitive(
    _inv,
    name="inv",
    label="⁻¹",
    numpy=np.linalg.inv,
    vjp=dict(a=lambda g, y: -(T(y) @ g @ T(y))),
    samples=_squares(_regular),
)


# ---- determinants -------------------------------------------------------------------------------------------------------


def _cofactors(a: Any) -> Any:
    """The cofactors of each matrix: the gradient of its determinant, for singular matrices too.

    From the singular values: if a = u s vᵀ, the cofactors are det(u) det(v) u c vᵀ, where the diagonal c has in each
    place the product of all the other singular values.
    """
    u, s, vt = np.linalg.svd(a)
    ones = np.ones_like(s[..., :1])
    before = np.cumprod(np.concatenate([ones, s[..., :-1]], -1), -1)
    after = np.cumprod(np.concatenate([ones, s[..., :0:-1]], -1), -1)[..., ::-1]
    c = (before * after)[..., : s.shape[-1]]
    sign = np.linalg.det(u) * np.linalg.det(vt)
    return sign[..., None, None] * (u * c[..., None, :]) @ vt


def _cofactors_back(g: Any, y: Any, a: Any) -> Any:
    scale = np.linalg.det(a)[..., None, None]
    return (y * (g * y).sum(axis=(-1, -2), keepdims=True) - y @ T(g) @ y) / scale


def _det(a: Any) -> Any:
    """The determinant of each matrix, as `np.linalg.det`.

    The gradient, the matrix of cofactors, is right for singular matrices too; second derivatives divide by the
    determinant and are not finite where it is zero.
    """
    return np.linalg.det(a)


def _slogdet(a: Any) -> Any:
    return tuple(np.linalg.slogdet(a))


cofactors = primitive(
    _cofactors,
    name="cofactors",
    vjp=dict(a=_cofactors_back),
    samples=_squares(_regular),
)
det = primitive(
    _det,
    name="det",
    numpy=np.linalg.det,
    vjp=dict(a=lambda g, a: g[..., None, None] * pulled(cofactors, a)),
    samples=_squares(_regular),
)
_slogdets = primitive(
    _slogdet,
    name="slogdet",
    several=True,
    vjp=dict(a=lambda g, a: g[1][..., None, None] * T(np.linalg.inv(a))),  # the sign is constant
    samples=_squares(_regular),
)


class SlogdetResult(NamedTuple):
    """What `slogdet` gives: the sign and the logarithm of the size of each determinant, tensors (...)."""

    sign: Tensor
    logabsdet: Tensor


def slogdet(a: Any) -> SlogdetResult:
    """The sign and the logarithm of the size of each determinant, as `np.linalg.slogdet`.

    The gradient is the inverse transposed: the backward pass raises numpy.linalg.LinAlgError where a is singular.
    """
    return SlogdetResult(*_slogdets(a))


implements[np.linalg.slogdet] = slogdet  # type: ignore[assignment]


# ---- decompositions of symmetric matrices -------------------------------------------------------------------------------


def _symmetric(x: Any) -> Any:
    return (x + T(x)) / 2


def _cholesky(a: Any) -> Any:
    """The lower triangular L with L @ Lᵀ = a, for positive definite matrices, as `np.linalg.cholesky`.

    Of an a that is not symmetric, the symmetric part is decomposed (NumPy would read its lower triangle).

    Raises:
        numpy.linalg.LinAlgError: if a is not positive definite.
    """
    return np.linalg.cholesky(_symmetric(a))


def _cholesky_back(g: Any, y: Any) -> Any:
    """L⁻ᵀ Φ(Lᵀ g) L⁻¹, symmetric part; Φ keeps the lower triangle and half of the diagonal (I. Murray, 2016)."""
    half = np.tril(np.ones(y.shape[-2:], y.dtype)) - np.eye(y.shape[-1], dtype=y.dtype) / 2
    inverse = np.linalg.inv(y)
    return _symmetric(T(inverse) @ ((T(y) @ g) * half) @ inverse)


def _eigh(a: Any) -> Any:
    return tuple(np.linalg.eigh(_symmetric(a)))


def _eigh_back(g: Any, y: Any) -> Any:
    (g_values, g_vectors), (values, vectors) = g, y
    same = np.eye(values.shape[-1], dtype=bool)
    turned = T(vectors) @ g_vectors
    gap = values[..., None, :] - values[..., :, None]
    gap = np.where(same | ((gap == 0) & (turned == 0)), 1, gap)  # no cotangent, no need of a derivative
    middle = np.where(same, g_values[..., None, :], turned / gap)
    return _symmetric(vectors @ middle @ T(vectors))


cholesky = primitive(
    _cholesky,
    name="cholesky",
    numpy=np.linalg.cholesky,
    vjp=dict(a=_cholesky_back),
    samples=_squares(_positive),
)
_eighs = primitive(
    _eigh,
    name="eigh",
    several=True,
    vjp=dict(a=_eigh_back),
    samples=_squares(_positive),
)


class EighResult(NamedTuple):
    """What `eigh` gives: eigenvalues (..., n), ascending, and eigenvectors (..., n, n), the columns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


def eigh(a: Any) -> EighResult:
    """The eigenvalues, ascending, and the eigenvectors (columns) of symmetric matrices, as `np.linalg.eigh`.

    Of an a that is not symmetric, the symmetric part is decomposed (NumPy would read its lower triangle).

    Where eigenvalues coincide their eigenvectors have no derivative, and a gradient that flows through these is not
    finite; one through the eigenvalues alone shares itself among them as the eigenvectors happen to lie.
    """
    return EighResult(*_eighs(a))


implements[np.linalg.eigh] = eigh  # type: ignore[assignment]


def eigvalsh(a: Any) -> Tensor:
    """The eigenvalues of symmetric matrices, ascending: the first half of `eigh`. As `np.linalg.eigvalsh`."""
    return eigh(a).eigenvalues


implements[np.linalg.eigvalsh] = eigvalsh
