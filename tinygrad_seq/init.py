"""Initial weights: functions of a shape that give an array. Needs `random.py`.

Weights multiply from the right (x @ W), so W has shape (fan_in, fan_out). A recurrent cell keeps the matrices of its
gates side by side in one array (H, G*H); `blocks=G` draws each of them on its own, as if they were separate: the
fan-out is then one gate's, and each gate's square matrix is orthogonal by itself. Axes before the last two are a
convolution's window and count into both fans.

All draws are made in float64, so that a seed gives the same weights in every dtype. Every function takes

    rng     the generator to draw from; the engine's own by default
    dtype   of the result; the default dtype by default
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt
from typing import Any

import numpy as np

from tinygrad_seq.dtypes import Array, Shape, default_dtype
from tinygrad_seq.explain import told
from tinygrad_seq.random import generator

Rng = np.random.Generator | None


def xavier_uniform(shape: Shape, gain: float = 1.0, blocks: int = 1, rng: Rng = None, dtype: Any = None) -> Array:
    """U(-b, b) with b = gain sqrt(6 / (fan_in + fan_out)): keeps the variance of values and of gradients even.

    Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010), equation 16.

    Example:
        >>> from tinygrad_seq import init
        >>> init.xavier_uniform((64, 4 * 32), blocks=4).shape
        (64, 128)
    """
    rng = rng or generator()

    def draw(one: Shape) -> Array:
        bound = gain * sqrt(6 / max(sum(fans(one)), 1))
        return rng.uniform(-bound, bound, one)

    return _side_by_side(draw, shape, blocks, dtype)


def xavier_normal(shape: Shape, gain: float = 1.0, blocks: int = 1, rng: Rng = None, dtype: Any = None) -> Array:
    """N(0, s²) with s = gain sqrt(2 / (fan_in + fan_out)): the variance of `xavier_uniform`."""
    rng = rng or generator()
    return _side_by_side(lambda one: rng.normal(0, gain * sqrt(2 / max(sum(fans(one)), 1)), one), shape, blocks, dtype)


def he_uniform(shape: Shape, gain: float = sqrt(2), blocks: int = 1, rng: Rng = None, dtype: Any = None) -> Array:
    """U(-b, b) with b = gain sqrt(3 / fan_in): keeps the variance even through layers of relus, for gain = sqrt(2).

    He et al., "Delving deep into rectifiers" (2015), equation 10. Also known as Kaiming initialisation.
    """
    rng = rng or generator()

    def draw(one: Shape) -> Array:
        bound = gain * sqrt(3 / max(fans(one)[0], 1))
        return rng.uniform(-bound, bound, one)

    return _side_by_side(draw, shape, blocks, dtype)


def he_normal(shape: Shape, gain: float = sqrt(2), blocks: int = 1, rng: Rng = None, dtype: Any = None) -> Array:
    """N(0, s²) with s = gain / sqrt(fan_in): the variance of `he_uniform`."""
    rng = rng or generator()
    return _side_by_side(lambda one: rng.normal(0, gain / sqrt(max(fans(one)[0], 1)), one), shape, blocks, dtype)


def orthogonal(shape: Shape, gain: float = 1.0, blocks: int = 1, rng: Rng = None, dtype: Any = None) -> Array:
    """A random matrix with orthonormal rows or columns, whichever are fewer, times `gain`.

    All singular values equal the gain, so a state that it multiplies step after step neither vanishes nor explodes by
    its doing. Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks" (2014).
    """
    rng = rng or generator()

    def draw(one: Shape) -> Array:
        _refuse_flat(one)
        rows, columns = prod(one[:-1]), one[-1]
        q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
        q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)  # undo the signs that QR prefers: every rotation is as likely as any
        return (gain * (q if rows >= columns else q.T)).reshape(one)

    return _side_by_side(draw, shape, blocks, dtype)


def identity(shape: Shape, gain: float = 1.0, blocks: int = 1, dtype: Any = None) -> Array:
    """The identity matrix times `gain`: a relu network then starts by remembering (the IRNN).

    Le, Jaitly & Hinton, "A simple way to initialize recurrent networks of rectified linear units" (2015).
    """

    def draw(one: Shape) -> Array:
        if len(one) != 2:
            raise ValueError(f"an identity matrix has two axes, not shape {one}")
        return gain * np.eye(*one)

    return _side_by_side(draw, shape, blocks, dtype)


def uniform(shape: Shape, bound: float, rng: Rng = None, dtype: Any = None) -> Array:
    """U(-bound, bound). PyTorch's recurrent layers start so, biases included, with bound = 1 / sqrt(H)."""
    return _as(dtype, (rng or generator()).uniform(-bound, bound, shape))


def normal(shape: Shape, deviation: float, rng: Rng = None, dtype: Any = None) -> Array:
    """N(0, deviation²)."""
    return _as(dtype, (rng or generator()).normal(0, deviation, shape))


def zeros(shape: Shape, dtype: Any = None) -> Array:
    """All 0: biases."""
    return constant(shape, 0.0, dtype)


def constant(shape: Shape, value: float, dtype: Any = None) -> Array:
    """All `value`: 1 for a forget gate's bias, so that an LSTM starts by remembering (Gers et al., 2000)."""
    return np.full(shape, value, _dtype(dtype))


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight: how many inputs each output sums over, and how many outputs each input reaches."""
    _refuse_flat(shape)
    window = prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def _side_by_side(draw: Callable[[Shape], Array], shape: Shape, blocks: int, dtype: Any) -> Array:
    """As many draws as there are blocks, next to each other along the last axis."""
    shape = _tuple(shape)
    if blocks < 1 or not shape or shape[-1] % blocks:
        raise ValueError(f"a last axis cannot be cut into {blocks} blocks of the same size in shape {shape}")
    one = (*shape[:-1], shape[-1] // blocks)
    return _as(dtype, np.concatenate([draw(one) for _ in range(blocks)], axis=-1))


def _tuple(shape: Any) -> Shape:
    if not isinstance(shape, tuple | list):
        raise TypeError(f"a shape is a tuple, (fan_in, fan_out), and not {told(shape)}")
    return tuple(shape)


def _as(dtype: Any, array: Array) -> Array:
    return array.astype(_dtype(dtype))


def _dtype(dtype: Any) -> Any:
    if isinstance(dtype, int):
        raise TypeError(f"{dtype} is no dtype: a shape is one argument, a tuple such as (2, 3)")
    return default_dtype() if dtype is None else dtype


def _refuse_flat(shape: Shape) -> None:
    if len(shape) < 2:
        raise ValueError(f"a weight needs two axes, (fan_in, fan_out), and shape {shape} has not; use zeros, constant or uniform")
