"""Elementwise operations that cells rarely use: more exponentials, the circle, the hyperbola, more activations.

A table of rules, as in `elementwise.py`, which is to be read before. A derivative that is infinite (`log1p` at -1, `cbrt`
at 0) is given as infinite; no epsilon hides it.
"""
# fmt: off

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from tinygrad_seq.numpy_like import implements
from tinygrad_seq.ops.elementwise import nonzeros, positives, sigmoid
from tinygrad_seq.ops.samples import binary, unary, uniform
from tinygrad_seq.primitive import primitive, pulled

elementwise = partial(primitive, elementwise=True)
within_one, above_one = uniform(-0.9, 0.9), uniform(1.3, 3.0)
LN2, LN10 = math.log(2.0), math.log(10.0)


def over(a: Any, length: Any) -> Any:
    """a / length, and 0 where the length is 0: the subgradient there, to every order."""
    zero = length == 0
    return np.where(zero, 0, a / np.where(zero, 1, length))


# ---- exponentials and logarithms ------------------------------------------------------------------------------------

expm1 = elementwise(np.expm1, vjp=dict(x=lambda g, x: g * np.exp(x)),     samples=unary())  # y + 1 would lose small ones
exp2  = elementwise(np.exp2,  vjp=dict(x=lambda g, y: g * y * LN2),       samples=unary())
log1p = elementwise(np.log1p, vjp=dict(x=lambda g, x: g / (1 + x)),       samples=unary(uniform(-0.7, 3.0)))
log2  = elementwise(np.log2,  vjp=dict(x=lambda g, x: g / (x * LN2)),     samples=unary(positives))
log10 = elementwise(np.log10, vjp=dict(x=lambda g, x: g / (x * LN10)),    samples=unary(positives))

logistic = partial(pulled, sigmoid)


def _share(a: Any, b: Any) -> Any:
    """exp(a) / (exp(a) + exp(b)); where both are 0, so is the share."""
    return logistic(np.where(a == -math.inf, -math.inf, a - b))


logaddexp = elementwise(np.logaddexp, vjp=dict(a=lambda g, a, b: g * _share(a, b), b=lambda g, a, b: g * _share(b, a)),
                        samples=binary())

# ---- powers, signs, units -------------------------------------------------------------------------------------------

cbrt       = elementwise(np.cbrt,       vjp=dict(x=lambda g, y: g / (3 * y * y)),        label="∛", samples=unary(nonzeros))
reciprocal = elementwise(np.reciprocal, vjp=dict(x=lambda g, y: -g * y * y),   label="1/", samples=unary(nonzeros))
positive   = elementwise(np.positive,   vjp=dict(x=lambda g: g),               label="+",  samples=unary())
fabs       = elementwise(np.fabs,       vjp=dict(x=lambda g, x: g * np.sign(x)),           samples=unary(nonzeros))
degrees    = elementwise(np.degrees,    vjp=dict(x=lambda g: g * (180 / math.pi)),         samples=unary())
radians    = elementwise(np.radians,    vjp=dict(x=lambda g: g * (math.pi / 180)),         samples=unary())
implements[np.rad2deg] = degrees
implements[np.deg2rad] = radians

# ---- the circle -----------------------------------------------------------------------------------------------------

sin     = elementwise(np.sin,     vjp=dict(x=lambda g, x: g * np.cos(x)),                        samples=unary())
cos     = elementwise(np.cos,     vjp=dict(x=lambda g, x: -g * np.sin(x)),                       samples=unary())
tan     = elementwise(np.tan,     vjp=dict(x=lambda g, y: g * (1 + y * y)),                      samples=unary(within_one))
arcsin  = elementwise(np.arcsin,  vjp=dict(x=lambda g, x: g / np.sqrt((1 - x) * (1 + x))),       samples=unary(within_one))
arccos  = elementwise(np.arccos,  vjp=dict(x=lambda g, x: -g / np.sqrt((1 - x) * (1 + x))),      samples=unary(within_one))
arctan  = elementwise(np.arctan,  vjp=dict(x=lambda g, x: g / (1 + x * x)),                      samples=unary())

# (a, b) is a point of the plane, at the distance hypot(a, b) and, for arctan2, the angle whose tangent is a / b.
# Dividing by the distance twice does not overflow; the angle has no derivative at the origin, the distance has 0.
hypot   = elementwise(np.hypot,   vjp=dict(a=lambda g, a, y: g * over(a, y), b=lambda g, b, y: g * over(b, y)),
                      samples=binary(nonzeros))
arctan2 = elementwise(np.arctan2, samples=binary(nonzeros), vjp=dict(
    a=lambda g, a, b: g * (b / np.hypot(a, b)) / np.hypot(a, b),
    b=lambda g, a, b: -g * (a / np.hypot(a, b)) / np.hypot(a, b),
))

# ---- the hyperbola --------------------------------------------------------------------------------------------------

sinh    = elementwise(np.sinh,    vjp=dict(x=lambda g, x: g * np.cosh(x)),                       samples=unary())
cosh    = elementwise(np.cosh,    vjp=dict(x=lambda g, x: g * np.sinh(x)),                       samples=unary())
arcsinh = elementwise(np.arcsinh, vjp=dict(x=lambda g, x: g / np.hypot(x, 1)),                   samples=unary())
arccosh = elementwise(np.arccosh, vjp=dict(x=lambda g, x: g / (np.sqrt(x - 1) * np.sqrt(x + 1))), samples=unary(above_one))
arctanh = elementwise(np.arctanh, vjp=dict(x=lambda g, x: g / ((1 - x) * (1 + x))),              samples=unary(within_one))

# ---- activations ----------------------------------------------------------------------------------------------------


def _softplus(x: Any) -> Any:
    """log(1 + exp(x)), elementwise: a smooth relu. Never an overflow."""
    return np.logaddexp(x, 0)


def _silu(x: Any) -> Any:
    """x * sigmoid(x), elementwise (Elfwing et al., 2018; "swish")."""
    return x * sigmoid.forward(x)


def _silu_slope(x: Any) -> Any:
    s = logistic(x)
    return s * (1 + x * (1 - s))


def _leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """x where it is positive, else negative_slope * x, elementwise (Maas et al., 2013)."""
    return np.where(np.greater(x, 0), x, np.multiply(x, negative_slope))


def _elu(x: Any, alpha: float = 1.0) -> Any:
    """x where it is positive, else alpha * (exp(x) - 1), elementwise (Clevert et al., 2016)."""
    return np.where(np.greater(x, 0), x, alpha * np.expm1(np.minimum(x, 0)))


softplus   = elementwise(_softplus,   vjp=dict(x=lambda g, x: g * logistic(x)),    name="softplus", samples=unary())
silu       = elementwise(_silu,       vjp=dict(x=lambda g, x: g * _silu_slope(x)), name="silu",     samples=unary())
leaky_relu = elementwise(_leaky_relu, name="leaky_relu", samples=[*unary(nonzeros), *unary(nonzeros, negative_slope=0.2)],
                         vjp=dict(x=lambda g, x, negative_slope: np.where(x > 0, g, negative_slope * g)))
elu        = elementwise(_elu, name="elu", samples=[*unary(nonzeros), *unary(nonzeros, alpha=0.5)],
                         vjp=dict(x=lambda g, x, alpha: g * np.where(x > 0, 1, alpha * np.exp(np.where(x > 0, 0, x)))))

# ---- gelu: x times the share of a normal distribution that lies below x ---------------------------------------------

_erfc = np.frompyfunc(math.erfc, 1, 1)  # NumPy has no error function; the C library's is exact, and called per element


def _normal_cdf(x: Any) -> Any:
    """The share of a standard normal distribution below x, elementwise; precise in the left tail too."""
    x = np.asarray(x)
    half = np.asarray(_erfc(x * -math.sqrt(0.5)), float) * 0.5
    return half.astype(np.result_type(x, np.float16))


def _normal_density(x: Any) -> Any:
    return np.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))


normal_cdf = elementwise(_normal_cdf, vjp=dict(x=lambda g, x: g * _normal_density(x)), name="normal_cdf", label="Φ",
                         samples=unary())
cdf = partial(pulled, normal_cdf)


def _tanh_and_slope(x: Any) -> tuple[Any, Any]:
    """tanh(u) for u = sqrt(2 / pi) * (x + 0.044715 x**3), and du/dx. Beyond 20 the tanh is 1 and x**3 could overflow."""
    x, scale = np.clip(x, -20, 20), math.sqrt(2 / math.pi)
    return np.tanh(scale * x * (1 + 0.044715 * x * x)), scale * (1 + 3 * 0.044715 * x * x)


def _gelu(x: Any, approximate: str = "none") -> Any:
    """x * Φ(x), elementwise, Φ being the standard normal distribution function (Hendrycks and Gimpel, 2016).

    Args:
        x: any shape.
        approximate: "tanh" for the cheaper form 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))).
    """
    if approximate not in ("none", "tanh"):
        raise TypeError(f'approximate is "none" or "tanh", not {approximate!r}')
    return x * _normal_cdf(x) if approximate == "none" else 0.5 * x * (1 + _tanh_and_slope(x)[0])


def _gelu_slope(x: Any, approximate: str) -> Any:
    if approximate == "none":
        return cdf(x) + x * _normal_density(x)
    t, slope = _tanh_and_slope(x)
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope


gelu = elementwise(_gelu, vjp=dict(x=lambda g, x, approximate: g * _gelu_slope(x, approximate)), name="gelu",
                   samples=[*unary(), *unary(approximate="tanh")])
