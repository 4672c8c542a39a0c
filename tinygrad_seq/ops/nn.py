"""Operations of neural networks: softmax, dropout, embedding, normalisation, causal convolution. After `index.py`.

Each primitive is one symbol of somebody's equations. What is random or optional stays outside: a dropout mask is drawn
before the primitive that applies it, so that every primitive gives the same result whenever it is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_seq import random
from tinygrad_seq.dtypes import Shape, default_dtype, floating
from tinygrad_seq.ops.elementwise import add, multiply
from tinygrad_seq.ops.index import scatter
from tinygrad_seq.ops.linalg import rows
from tinygrad_seq.ops.samples import drawn, integers, normal, shaped, strided, view
from tinygrad_seq.primitive import Sample, primitive, pulled
from tinygrad_seq.tensor import Tensor, as_array

Axes = int | tuple[int, ...]

# ---- softmax --------------------------------------------------------------------------------------------------------------


def _below_zero(x: Any, axis: Axes) -> Any:
    """x less its maximum, which changes no softmax and leaves nothing for exp to overflow on."""
    x = floating(x)
    return x - x.max(axis=axis, keepdims=True) if x.size else x


def _softmax(x: Any, axis: Axes = -1) -> Any:
    """exp(x) / sum(exp(x)) along an axis or axes, without overflow; of the shape of x, integers as floating numbers.

    An entry of -inf has probability 0. Where all of a row are -inf there is no distribution: the row is NaN, and NumPy
    warns of an invalid value. Mask such rows with `where` before the softmax.
    """
    e = np.exp(_below_zero(x, axis))
    return e / e.sum(axis=axis, keepdims=True)


def _log_softmax(x: Any, axis: Axes = -1) -> Any:
    """x - log(sum(exp(x))) along an axis, without overflow, and exact where the probability underflows.

    An entry of -inf stays -inf; a row of nothing but -inf is NaN, as for `softmax`.
    """
    z = _below_zero(x, axis)
    return z - np.log(np.exp(z).sum(axis=axis, keepdims=True)) if z.size else z


_along_axes = [
    *[shaped((3, 4)), shaped((3, 4), axis=0), shaped((2, 3, 2), axis=-2), shaped((3, 4), axis=(0, 1))],
    *[shaped((4,)), shaped((0, 3)), shaped((3, 0)), view((3, 2))],
]

# Of y = softmax(x), dy_i/dx_j = y_i (δ_ij - y_j): every entry feels every other, and the cotangent y_j (g_j - sum_i g_i y_i) has
# them all. The logarithm's is simpler, d(log y_i)/dx_j = δ_ij - y_j.

softmax = primitive(
    _softmax,
    name="softmax",
    vjp=dict(x=lambda g, y, axis: y * (g - (g * y).sum(axis=axis, keepdims=True))),
    samples=_along_axes,
)
log_softmax = primitive(
    _log_softmax,
    name="log_softmax",
    vjp=dict(x=lambda g, y, axis: g - np.exp(y) * g.sum(axis=axis, keepdims=True)),
    samples=_along_axes,
)

# ---- dropout --------------------------------------------------------------------------------------------------------------


def _masked(x: Any, keep: Any, scale: float) -> Any:
    """x * scale where `keep` holds, else 0, be x there what it may."""
    return np.where(keep, x * scale, 0)


_dropped = primitive(
    _masked,
    name="dropout",
    elementwise=True,
    vjp=dict(x=lambda g, keep, scale: np.where(keep, g * scale, 0), keep=None),
    samples=[drawn((normal, integers(0, 2, bool)), (shape, shape), scale=1.25) for shape in [(3, 4), (), (0, 3)]],
)


def dropout(x: Any, p: float = 0.5, training: bool = True, rng: np.random.Generator | None = None) -> Tensor:
    """Each entry of x with probability p replaced by 0, the others scaled by 1 / (1 - p), so that the mean stays.

    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.

    Args:
        x: a tensor or array of a floating dtype.
        p: the probability to drop an entry, from 0 to 1.
        training: if false, x is returned as it is, and nothing is drawn.
        rng: draws the mask; the engine's own generator (`tg.manual_seed`) by default.

    Raises:
        ValueError: if p is no probability.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout needs a probability from 0 to 1, got p={p}")
    if not training or p == 0:
        return x if isinstance(x, Tensor) else Tensor(x)
    keep = (rng or random.generator()).random(np.shape(x)) >= p
    return _dropped(x, keep, scale=1 / (1 - p) if p < 1 else 1.0)  # type: ignore[no-any-return]


# ---- words ----------------------------------------------------------------------------------------------------------------


def _tokens(index: Any, n: int) -> Any:
    """Tokens as an array, if they are integers from 0 to n - 1."""
    index = as_array(index)
    if index.dtype.kind not in "iu":
        raise TypeError(f"tokens are integers, not {index.dtype}")
    if index.size and not 0 <= index.min() <= index.max() < n:
        wrong = index[(index < 0) | (index >= n)].flat[0]
        raise IndexError(f"token {wrong} is outside of 0 to {n - 1}")
    return index


def _embedding(table: Any, index: Any, padding_index: int | None = None) -> Any:
    """The table's row for each token: table (V, D), index (...) of integers, result (..., D).

    Args:
        table: one row for each of V tokens.
        index: the tokens, from 0 to V - 1.
        padding_index: a token whose row gets no gradient.

    Raises:
        TypeError: if the tokens are no integers.
        IndexError: if a token is outside of 0 to V - 1; negative ones do not count from the end here.
    """
    if padding_index is not None and not 0 <= padding_index < len(table):
        raise IndexError(f"padding_index {padding_index} is outside of 0 to {len(table) - 1}")
    return table[_tokens(index, len(table))]


def _embedded(uses: Sequence[tuple[Any, Any, int | None, Shape]]) -> Any:
    """The table's cotangent from all its uses: the tokens of all of them on one list, their rows added in one go."""
    pieces, tokens = [], []
    for g, index, padding, shape in uses:
        index = as_array(index)
        if padding is not None:
            g = np.where((index == padding)[..., None], 0, g)
        pieces.append(g.reshape(index.size, shape[1]))
        tokens.append(index.reshape(-1))
    piece = np.concatenate(pieces) if len(pieces) > 1 else pieces[0]
    return scatter([piece], [np.concatenate(tokens)], uses[0][3])


def _lookup(table: Shape, index: Shape, **params: Any) -> Sample:
    return drawn((normal, integers(0, table[0] or 1)), (table, index), **params)


embedding = primitive(
    _embedding,
    name="embedding",
    label="E[ ]",
    vjp=dict(table=lambda g, index, padding_index, table_shape: _embedded([(g, index, padding_index, table_shape)]), index=None),
    together=dict(table=_embedded),
    samples=[
        _lookup((4, 3), (6,)),
        drawn((normal, integers(0, 3)), ((4, 3), (2, 5)), padding_index=3),
        _lookup((4, 3), ()),
        _lookup((4, 3), (0,)),
        _lookup((2, 0), (3,)),
        drawn((normal, integers(0, 3)), ((3, 2), (4, 2)), strided),
    ],
)


def _one_hot(index: Any, n: int, dtype: Any = None) -> Any:
    """A row of n numbers for each token, 1 at its place and 0 elsewhere: index (...), result (..., n).

    Args:
        index: the tokens, integers from 0 to n - 1.
        n: how many tokens there are.
        dtype: of the result; the default dtype by default.

    Raises:
        TypeError: if the tokens are no integers.
        IndexError: if a token is outside of 0 to n - 1.
    """
    return (_tokens(index, n)[..., None] == np.arange(n)).astype(dtype or default_dtype())


one_hot = primitive(
    _one_hot,
    name="one_hot",
    vjp=dict(index=None),
    samples=[drawn((integers(0, 4),), (shape,), n=4) for shape in [(3,), (2, 3), (), (0,)]],
)

# ---- normalisation --------------------------------------------------------------------------------------------------------


def _normalize(x: Any, axis: Axes = -1, eps: float = 1e-5) -> Any:
    """(x - mean) / sqrt(var + eps) over the axis or axes."""
    centred = x - np.mean(x, axis=axis, keepdims=True)
    return centred / np.sqrt(np.mean(centred * centred, axis=axis, keepdims=True) + eps)


def _normalize_back(g: Any, x: Any, y: Any, axis: Axes, eps: float) -> Any:
    """With s = sqrt(var + eps): dy_i/dx_j = (δ_ij - 1/n - y_i y_j / n) / s, since mean and s depend on every entry, too."""

    def mean(values: Any) -> Any:
        return values.mean(axis=axis, keepdims=True)

    centred = x - mean(x)
    return (g - mean(g) - y * mean(g * y)) / np.sqrt(mean(centred * centred) + eps)


normalize = primitive(
    _normalize,
    name="normalize",
    vjp=dict(x=_normalize_back),
    samples=[
        *[shaped((3, 4)), shaped((3, 4), axis=0, eps=0.1), shaped((2, 3, 2), axis=(-1, -2)), shaped((0, 3)), view((3, 4))],
        Sample(lambda rng: (np.full((2, 3), rng.normal()),), dict(eps=0.5)),  # a row without variance
    ],
)


def layer_norm(x: Any, weight: Any = None, bias: Any = None, axis: Axes = -1, eps: float = 1e-5) -> Tensor:
    """weight * (x - mean) / sqrt(var + eps) + bias, of the shape of x (J. Ba, J. Kiros, G. Hinton: Layer Normalization, 2016).

    Args:
        x: a tensor or array.
        weight, bias: of the lengths of the normalised axes, if these are the last ones; else to be broadcast with x.
        axis: the axis or axes over which mean and variance are taken.
        eps: keeps a row without variance from a division by zero.
    """
    y = normalize(x, axis=axis, eps=eps)
    if weight is not None:
        y = multiply(y, weight)
    return y if bias is None else add(y, bias)  # type: ignore[no-any-return]


# ---- causal convolution ---------------------------------------------------------------------------------------------------


def _delays(kernel: int, dilation: int) -> list[int]:
    """How far back each place of a kernel looks; the last one sees the present."""
    return [(kernel - 1 - k) * dilation for k in range(kernel)]


def _convolve(x: Any, weight: Any, dilation: int = 1) -> Any:
    """y[t] = sum over k of x[t - (K - 1 - k) * dilation] @ weight[k], where x is zero before its start.

    x (T, ..., I), weight (K, I, O), y (T, ..., O); van den Oord et al., "WaveNet", 2016, section 2.1.
    """
    if x.ndim < 2 or weight.ndim != 3 or x.shape[-1] != weight.shape[1]:
        raise ValueError("conv1d_causal takes x (T, ..., I) and a weight (K, I, O)")
    if dilation < 1:
        raise ValueError(f"dilation is at least 1, got {dilation}")
    steps = len(x)
    y = np.zeros((*x.shape[:-1], weight.shape[2]), np.result_type(x, weight))
    for delay, w in zip(_delays(len(weight), dilation), weight):
        if delay < steps:
            seen = x[: steps - delay]
            y[delay:] += (rows(seen) @ w).reshape(*seen.shape[:-1], w.shape[1])
    return y


def _convolve_x(g: Any, weight: Any, dilation: int) -> Any:
    """What a step sends on to later ones comes back from them: the same convolution, in reversed time."""
    return np.flip(pulled(_convolved, np.flip(g, 0), weight.swapaxes(1, 2), dilation=dilation), 0)


def _convolve_weight(g: Any, x: Any, dilation: int, weight_shape: Shape) -> Any:
    steps = len(x)
    seen = [(x[: max(steps - delay, 0)], g[delay:]) for delay in _delays(weight_shape[0], dilation)]
    return np.stack([rows(early).T @ rows(late) for early, late in seen]) if seen else np.zeros(weight_shape, g.dtype)


_convolved = primitive(
    _convolve,
    name="conv1d_causal",
    label="∗",
    vjp=dict(x=_convolve_x, weight=_convolve_weight),
    samples=[
        shaped((5, 2, 3), (3, 3, 2)),
        shaped((6, 3), (2, 3, 2), dilation=3),
        shaped((2, 2, 2), (3, 2, 1), dilation=2),
        shaped((0, 2, 3), (2, 3, 2)),
        shaped((4, 3), (1, 3, 2)),
        drawn((normal, normal), ((4, 2, 3), (2, 3, 2)), strided),
    ],
)


def conv1d_causal(x: Any, weight: Any, bias: Any = None, dilation: int = 1) -> Tensor:
    """A convolution over time that sees the present and the past only, time first.

    y[t] = sum over k of x[t - (K - 1 - k) * dilation] @ weight[k] + bias: a kernel of K sees the K latest steps (every
    `dilation`-th of them), weight[K - 1] the present one; x counts as zero before its start.

    Args:
        x: (T, B, I), or (T, I).
        weight: (K, I, O).
        bias: (O,), or None.
        dilation: the distance in time between the steps that a kernel sees.

    Returns:
        (T, B, O), or (T, O).

    Raises:
        ShapeError: if x and weight do not fit together, or dilation is less than 1.
    """
    y = _convolved(x, weight, dilation=dilation)
    return y if bias is None else add(y, bias)  # type: ignore[no-any-return]
