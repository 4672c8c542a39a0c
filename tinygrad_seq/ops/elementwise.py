"""Elementwise operations that every cell uses: arithmetic, exponentials, tanh, choice. Rarer ones are in `special.py`.

A table of rules, one operation a line or two: forward, pullbacks, samples. `g` is the cotangent of the result, `y`
the result; what else a rule names is an input. Inputs that are broadcast need no care here: the sweep sums. A mask
that a rule computes from values (`x > 0`) has no derivative, and so is a constant when the rule itself is taped.
"""
# fmt: off

from __future__ import annotations

import operator
import threading
from contextvars import Context
from functools import partial
from typing import Any

import numpy as np

from tinygrad_seq.dtypes import floating
from tinygrad_seq.numpy_like import implements
from tinygrad_seq.ops.samples import apart, away_from, binary, integers, normal, ternary, unary, uniform
from tinygrad_seq.primitive import primitive
from tinygrad_seq.pullback import Rule
from tinygrad_seq.tensor import Tensor

elementwise = partial(primitive, elementwise=True)
positives, nonzeros = uniform(0.3, 3.0), away_from(0.3, 2.0)

# ---- arithmetic -----------------------------------------------------------------------------------------------------

add      = elementwise(np.add,      vjp=dict(a=lambda g: g,        b=lambda g: g),             label="+", samples=binary())
subtract = elementwise(np.subtract, vjp=dict(a=lambda g: g,        b=lambda g: -g),            label="-", samples=binary())
multiply = elementwise(np.multiply, vjp=dict(a=lambda g, b: g * b, b=lambda g, a: g * a),      label="×", samples=binary())
divide   = elementwise(np.divide,   vjp=dict(a=lambda g, b: g / b, b=lambda g, b, y: -g * y / b), label="/",
                       samples=binary(normal, nonzeros))
negative = elementwise(np.negative, vjp=dict(x=lambda g: -g),                                  label="-", samples=unary())
square   = elementwise(np.square,   vjp=dict(x=lambda g, x: g * (x + x)),                      samples=unary())
absolute = elementwise(np.absolute, vjp=dict(x=lambda g, x: g * np.sign(x)), name="abs",       samples=unary(nonzeros))
sign     = elementwise(np.sign,     vjp=dict(x=lambda g, x_shape: np.zeros(x_shape, g.dtype)), samples=unary(nonzeros))
abs      = absolute

# ---- powers ---------------------------------------------------------------------------------------------------------


def _through_base(g: Any, a: Any, b: Any) -> Any:
    """g * b * a**(b - 1), which is 0 where the exponent is 0, at the base 0 too, where the formula says 0 * inf."""
    if isinstance(b, (int, float)):
        return g * (b * a ** (b - 1)) if b else np.zeros(a.shape, g.dtype)
    return g * (b * a ** np.where(np.logical_and(a == 0, b == 0), 1, b - 1))


def _through_exponent(g: Any, a: Any, b: Any, y: Any) -> Any:
    """g * y * log(a), which is 0 at the base 0, where the formula says 0 * -inf; a negative exponent's infinity stays."""
    return g * (y * np.log(np.where(np.logical_and(a == 0, b >= 0), 1, a)))


power = elementwise(
    operator.pow,  # NumPy's operator squares and takes roots faster than its np.power does
    vjp=dict(a=_through_base, b=_through_exponent),
    name="power", label="^", numpy=np.power,
    samples=[*binary(positives, normal), *binary(normal, integers(0, 4)), *binary(nonzeros, integers(-3, 4))],
)
sqrt  = elementwise(np.sqrt, vjp=dict(x=lambda g, y: g * 0.5 / y),     samples=unary(positives))

# ---- exponentials ---------------------------------------------------------------------------------------------------

exp   = elementwise(np.exp,  vjp=dict(x=lambda g, y: g * y),           samples=unary())
log   = elementwise(np.log,  vjp=dict(x=lambda g, x: g / x),           samples=unary(positives))


class _Quietly(threading.local):
    """Run a function where an overflow is no news: `np.errstate` at a tenth of its cost.

    NumPy keeps in the context what it does about overflows; here that is set once, in a context of each thread's own.
    """

    def __init__(self) -> None:
        context = Context()
        context.run(np.seterr, all="ignore")
        self.run = context.run


_quietly = _Quietly()

# Adding a 0-d array costs half of adding a Python number. (Where a long double is a double, the double counts: it is later.)
_ONE = {np.dtype(kind).itemsize: np.ones((), kind) for kind in (np.longdouble, np.float16, np.float32, np.float64)}


def _through_tanh(g: Any, y: Any) -> Any:
    """g * (1 - y * y), in one array: with three of them the derivative takes a fifth longer."""
    term = y * y
    if type(term) is not np.ndarray:
        return g * (1 - term)
    np.subtract(_ONE[term.itemsize], term, term)
    return np.multiply(g, term, term)


tanh = elementwise(np.tanh, vjp=dict(x=lambda g, y: g * (1 - y * y)), on_arrays=dict(x=_through_tanh), samples=unary())


def _sigmoid(x: Any) -> Any:
    """The logistic function 1 / (1 + exp(-x)), elementwise; exact in both tails, and never an overflow."""
    if type(x) is not np.ndarray or x.dtype.kind != "f":
        x = floating(x)  # unsigned numbers have no negative ones
    e = _quietly.run(np.exp, -x)  # exp(-x) = inf is right: 1 / inf is 0
    if type(e) is not np.ndarray:
        return 1 / (1 + e)
    np.add(e, _ONE[e.itemsize], e)
    return np.reciprocal(e, e)


def _through_sigmoid(g: Any, y: Any) -> Any:
    """g * (y - y * y), in one array."""
    term = y * y
    if type(term) is not np.ndarray:
        return g * (y - term)
    np.subtract(y, term, term)
    return np.multiply(g, term, term)


# The derivative is y * (1 - y), multiplied out: that saves an operation with a Python number.
sigmoid = elementwise(_sigmoid, vjp=dict(x=lambda g, y: g * (y - y * y)), on_arrays=dict(x=_through_sigmoid),
                      name="sigmoid", label="σ", samples=unary(uniform(-4.0, 4.0)))

# ---- choice ---------------------------------------------------------------------------------------------------------


def _relu(x: Any) -> Any:
    """The positive part, max(x, 0), elementwise."""
    return np.maximum(x, 0)


relu = elementwise(_relu, vjp=dict(x=lambda g, y: g * np.sign(y)), name="relu", samples=unary(nonzeros))  # slope 0 at 0

where = elementwise(
    lambda condition, a, b: np.where(condition, a, b),
    vjp=dict(condition=None, a=lambda g, condition: np.where(condition, g, 0), b=lambda g, condition: np.where(condition, 0, g)),
    name="where", numpy=np.where, samples=ternary(integers(0, 2, bool), normal, normal),
)

# Where both are equal, each is as good a choice as the other, and they share the cotangent. (A nan flows on to both.)
maximum = elementwise(np.maximum, label="max", samples=binary(*apart), vjp=dict(
    a=lambda g, a, b: np.where(a == b, g * 0.5, np.where(a < b, 0, g)),
    b=lambda g, a, b: np.where(a == b, g * 0.5, np.where(b < a, 0, g)),
))
minimum = elementwise(np.minimum, label="min", samples=binary(*apart), vjp=dict(
    a=lambda g, a, b: np.where(a == b, g * 0.5, np.where(a > b, 0, g)),
    b=lambda g, a, b: np.where(a == b, g * 0.5, np.where(b > a, 0, g)),
))


def _within(g: Any, x: Any, low: Any, high: Any) -> Any:
    """g where x is used as it is, which it is at the bounds too."""
    if low is not None:
        g = np.where(x < low, 0, g)
    return g if high is None else np.where(x > high, 0, g)


def _at_low(g: Any, x: Any, low: Any, high: Any) -> Any:
    """g where the lower bound is used; the upper one has the last word."""
    return np.where(x < low if high is None else np.logical_and(x < low, low <= high), g, 0)


def _at_high(g: Any, x: Any, low: Any, high: Any) -> Any:
    """g where the upper bound is used: below x, or below a lower bound that crosses it."""
    return np.where(x > high if low is None else np.logical_or(x > high, low > high), g, 0)


clip_between = elementwise(
    lambda x, low, high: np.clip(x, low, high), vjp=dict(x=_within, low=_at_low, high=_at_high), name="clip",
    samples=ternary(away_from(0.3, 2.0, kinks=(-1.0, 1.0)), uniform(-1.2, -0.8), uniform(0.8, 1.2)),
)


def clip(x: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    """The values of x, not below the lower and not above the upper bound, elementwise.

    Args:
        x: any shape.
        a_min, a_max: the bounds, broadcast against x; None leaves that side open. They may be tensors that require
            gradients: the cotangent goes to x where low <= x <= high, else to the bound that was used.
        min, max: other names for them.

    Example:
        >>> import tinygrad_seq as tg
        >>> tg.clip(tg.tensor([-2.0, 0.5, 3.0]), -1, 1)
        Tensor([-1. ,  0.5,  1. ], dtype=float32)
    """
    if (a_min is not None and min is not None) or (a_max is not None and max is not None):
        raise TypeError("clip got a bound twice: a_min and min are the same, and so are a_max and max")
    return clip_between(x, min if a_min is None else a_min, max if a_max is None else a_max)


implements[np.clip] = clip

# ---- the same values: out of the graph, in another dtype ------------------------------------------------------------

detach = elementwise(lambda x: x, vjp=dict(x=lambda g: g), name="detach", numpy=Tensor.detach, moves=True, cut=True,
                     samples=unary())


def _astype(x: Any, dtype: Any) -> Any:
    """The values of x in another dtype. The gradient comes back in that of x; through integers none does."""
    return np.asarray(x).astype(dtype)


astype = elementwise(_astype, vjp=dict(x=lambda g: g), name="astype", numpy=Tensor.astype,  # back again: the sweep's work
                     samples=unary(dtype=np.dtype(float)))
if hasattr(np, "astype"):  # from NumPy 2.1
    implements[np.astype] = astype
implements[np.copy] = lambda x: astype(x, dtype=x.dtype)

# ---- rounding, comparisons, logic: no gradient ----------------------------------------------------------------------

of_one: dict[str, Rule | None] = dict(x=None)
of_two: dict[str, Rule | None] = dict(a=None, b=None)

floor         = elementwise(np.floor,         vjp=of_one, samples=unary())
ceil          = elementwise(np.ceil,          vjp=of_one, samples=unary())
trunc         = elementwise(np.trunc,         vjp=of_one, samples=unary())
rint          = elementwise(np.rint,          vjp=of_one, samples=unary())
round         = elementwise(lambda x, decimals=0: np.round(x, decimals), vjp=of_one, name="round", numpy=np.round,
                            samples=[*unary(), *unary(decimals=1)])
implements[np.around] = round
floor_divide  = elementwise(np.floor_divide,  vjp=of_two, label="//", samples=binary(positives, uniform(4.0, 5.0)))
remainder     = elementwise(np.remainder, label="%",
                            vjp=dict(a=lambda g: g, b=lambda g, a, b: -g * np.floor_divide(a, b)),
                            samples=[*binary(uniform(3.2, 3.8), uniform(2.2, 2.9)),
                                     *binary(uniform(-3.8, -3.2), uniform(2.2, 2.9))])

equal         = elementwise(np.equal,         vjp=of_two, label="=",  samples=binary(integers(0, 3)))
not_equal     = elementwise(np.not_equal,     vjp=of_two, label="≠",  samples=binary(integers(0, 3)))
less          = elementwise(np.less,          vjp=of_two, label="<",  samples=binary(*apart))
less_equal    = elementwise(np.less_equal,    vjp=of_two, label="≤",  samples=binary(*apart))
greater       = elementwise(np.greater,       vjp=of_two, label=">",  samples=binary(*apart))
greater_equal = elementwise(np.greater_equal, vjp=of_two, label="≥",  samples=binary(*apart))

logical_and   = elementwise(np.logical_and,   vjp=of_two, label="and", samples=binary(integers(0, 2, bool)))
logical_or    = elementwise(np.logical_or,    vjp=of_two, label="or",  samples=binary(integers(0, 2, bool)))
logical_xor   = elementwise(np.logical_xor,   vjp=of_two, label="xor", samples=binary(integers(0, 2, bool)))
logical_not   = elementwise(np.logical_not,   vjp=of_one, label="not", samples=unary(integers(0, 2, bool)))
bitwise_and   = elementwise(np.bitwise_and,   vjp=of_two, label="&",   samples=binary(integers(0, 8)))
bitwise_or    = elementwise(np.bitwise_or,    vjp=of_two, label="|",   samples=binary(integers(0, 8)))
bitwise_xor   = elementwise(np.bitwise_xor,   vjp=of_two, label="⊕",   samples=binary(integers(0, 8)))
invert        = elementwise(np.invert,        vjp=of_one, label="~",   samples=unary(integers(0, 8)))

isfinite      = elementwise(np.isfinite,      vjp=of_one, samples=unary())
isnan         = elementwise(np.isnan,         vjp=of_one, samples=unary())
isinf         = elementwise(np.isinf,         vjp=of_one, samples=unary())
isclose       = elementwise(np.isclose,       vjp=of_two, samples=binary(*apart))
