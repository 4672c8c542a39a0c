"""Clipping gradients: what keeps a recurrent network's update small where its gradient explodes. Public in `tg.optim`.

Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent neural networks", 2013, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite, sqrt
from typing import Any

import numpy as np

from tinygrad_seq.dtypes import Array
from tinygrad_seq.explain import first_nonfinite
from tinygrad_seq.parameters import called, listed
from tinygrad_seq.tensor import Tensor


def clip_grad_norm_(parameters: Iterable[Tensor] | Tensor, max_norm: float, error_if_nonfinite: bool = True) -> float:
    """Shrink the gradients together, if their norm is above `max_norm`, so that it becomes that; the direction stays.

    g = g max_norm / |g|, where |g| is over all parameters at once: Pascanu, Mikolov & Bengio (2013, algorithm 1);
    "Deep Learning", equations 10.48 and 10.49. The norm is computed in float64, and no square in it overflows.

    Args:
        parameters: tensors; those without a gradient are passed over, and one that is listed twice counts once.
        max_norm: above 0; infinity only measures.
        error_if_nonfinite: raise if the norm is not finite. If False, the gradients are then left as they are.

    Returns:
        The norm before clipping.

    Raises:
        FloatingPointError: the norm is not finite; the message says which gradient is not. None has been changed.
        TypeError: what was given are no parameters (a module, say, instead of `module.parameters()`).
        ValueError: an iterator that has nothing left to give.
    """
    refuse_limit("max_norm", max_norm)
    clipped = _with_gradients(parameters)
    norm = _norm([gradient.data for _, gradient in clipped])
    if not isfinite(norm):
        if error_if_nonfinite:
            bad = [f"{called(p)} has {first_nonfinite(g.data)}" for p, g in clipped if not np.isfinite(g.data).all()]
            cause = f"the gradient of {bad[0]}" if bad else "the squares add up to more than float64 can hold"
            raise FloatingPointError(
                f"the gradients' norm is {norm}, and no clipping can help: {cause}; tg.detect_anomaly() finds where it comes from"
            )
        return norm
    if norm > max_norm:
        for parameter, gradient in clipped:  # in new arrays: someone else may hold the old ones
            shrunk = np.multiply(gradient.data, max_norm / norm, dtype=np.promote_types(gradient.dtype, np.float64))
            parameter.grad = Tensor(shrunk.astype(gradient.dtype))
    return norm


def clip_grad_value_(parameters: Iterable[Tensor] | Tensor, clip_value: float) -> None:
    """Bring every element of every gradient into [-clip_value, clip_value]; the direction may change. NaN stays NaN."""
    refuse_limit("clip_value", clip_value)
    for parameter, gradient in _with_gradients(parameters):
        parameter.grad = Tensor(np.clip(gradient.data, -clip_value, clip_value))


def _norm(arrays: list[Array]) -> float:
    """The Euclidean norm over all elements of all arrays, scaled by the largest so that no square overflows or vanishes."""
    largest = float(np.max([np.abs(array).max(initial=0) for array in arrays], initial=0))  # NaN, if there is one
    if largest == 0 or not isfinite(largest):
        return largest
    total = 0.0
    for array in arrays:
        scaled = np.divide(array, largest, dtype=np.float64).ravel()
        total += float(scaled @ scaled)
    return largest * sqrt(total)


def _with_gradients(parameters: Iterable[Tensor] | Tensor) -> list[tuple[Tensor, Tensor]]:
    """(parameter, gradient), each once, where there is one."""
    given = [parameters] if isinstance(parameters, Tensor) else listed("clipping", parameters)
    once = {id(parameter): parameter for parameter in given}.values()
    return [(parameter, gradient) for parameter in once if (gradient := parameter.grad) is not None]


def refuse_limit(name: str, limit: Any) -> None:
    """Raise on a limit of clipping that is no number above 0."""
    if not isinstance(limit, int | float | np.number):
        raise TypeError(f"{name} must be a number above 0, not {limit!r}")
    if not limit > 0:
        raise ValueError(f"{name} must be above 0, not {limit}")
