"""Elementwise operations: derivatives against closed forms, and the places where other engines give wrong numbers.

Every primitive is checked against finite differences elsewhere, on its samples. Here stands what samples cannot show:
exact values at kinks, ties and zeros, the far tails, dtypes, and what has no gradient.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_seq as tg
from tinygrad_seq.errors import AutodiffError
from tinygrad_seq.numpy_like import implements
from tinygrad_seq.ops import elementwise, special
from tinygrad_seq.primitive import Primitive
from tinygrad_seq.scopes import setting
from tinygrad_seq.tensor import Tensor

inf, nan = math.inf, math.nan
line = np.linspace(-3.0, 3.0, 13)
inside = np.linspace(-0.9, 0.9, 7)
right = np.linspace(0.2, 4.0, 9)
off_zero = line[line != 0]


def derivatives(function: Callable[[Any], Any], x: Any) -> tuple[Any, Any, Any]:
    """y, dy/dx and d2y/dx2 of an elementwise function, as float64 arrays."""
    leaf = tg.tensor(np.asarray(x, float), requires_grad=True)
    y = function(leaf)
    y.backward(np.ones(y.shape), create_graph=True)
    first = leaf.grad
    leaf.zero_grad()
    if first.requires_grad:
        first.backward(np.ones(y.shape))
    second = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.data
    return y.data, first.data, second


def gradients(function: Callable[..., Any], *values: Any) -> tuple[Any, ...]:
    """The gradients of a call's elements, added up, for each of its inputs."""
    leaves = [tg.tensor(np.asarray(value, float), requires_grad=True) for value in values]
    y = function(*leaves)
    y.backward(np.ones(y.shape))
    return tuple(leaf.grad.data for leaf in leaves)


def logistic(x: Any) -> Any:
    return 0.5 * (1 + np.tanh(0.5 * x))


def density(x: Any) -> Any:
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def below(x: Any) -> Any:
    return np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])


# ---- closed forms ---------------------------------------------------------------------------------------------------

# fmt: off
CLOSED: dict[str, tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]] = {   # where, first and second derivative
    "negative":   (line,     lambda x: -1 + 0 * x,                lambda x: 0 * x),
    "positive":   (line,     lambda x: 1 + 0 * x,                 lambda x: 0 * x),
    "square":     (line,     lambda x: 2 * x,                     lambda x: 2 + 0 * x),
    "absolute":   (off_zero, lambda x: np.where(x > 0, 1, -1),    lambda x: 0 * x),
    "fabs":       (off_zero, lambda x: np.where(x > 0, 1, -1),    lambda x: 0 * x),
    "sign":       (off_zero, lambda x: 0 * x,                     lambda x: 0 * x),
    "sqrt":       (right,    lambda x: 0.5 * x**-0.5,             lambda x: -0.25 * x**-1.5),
    "cbrt":       (right,    lambda x: x**(-2 / 3) / 3,           lambda x: -2 / 9 * x**(-5 / 3)),
    "reciprocal": (off_zero, lambda x: -x**-2,                    lambda x: 2 * x**-3),
    "exp":        (line,     np.exp,                              np.exp),
    "expm1":      (line,     np.exp,                              np.exp),
    "exp2":       (line,     lambda x: np.log(2) * 2**x,          lambda x: np.log(2)**2 * 2**x),
    "log":        (right,    lambda x: 1 / x,                     lambda x: -x**-2),
    "log1p":      (right,    lambda x: 1 / (1 + x),               lambda x: -(1 + x)**-2),
    "log2":       (right,    lambda x: 1 / x / np.log(2),         lambda x: -x**-2 / np.log(2)),
    "log10":      (right,    lambda x: 1 / x / np.log(10),        lambda x: -x**-2 / np.log(10)),
    "sin":        (line,     np.cos,                              lambda x: -np.sin(x)),
    "cos":        (line,     lambda x: -np.sin(x),                lambda x: -np.cos(x)),
    "tan":        (inside,   lambda x: np.cos(x)**-2,             lambda x: 2 * np.sin(x) * np.cos(x)**-3),
    "arcsin":     (inside,   lambda x: (1 - x * x)**-0.5,         lambda x: x * (1 - x * x)**-1.5),
    "arccos":     (inside,   lambda x: -(1 - x * x)**-0.5,        lambda x: -x * (1 - x * x)**-1.5),
    "arctan":     (line,     lambda x: 1 / (1 + x * x),           lambda x: -2 * x / (1 + x * x)**2),
    "sinh":       (line,     np.cosh,                             np.sinh),
    "cosh":       (line,     np.sinh,                             np.cosh),
    "tanh":       (line,     lambda x: np.cosh(x)**-2,            lambda x: -2 * np.tanh(x) * np.cosh(x)**-2),
    "arcsinh":    (line,     lambda x: (1 + x * x)**-0.5,         lambda x: -x * (1 + x * x)**-1.5),
    "arccosh":    (right + 1, lambda x: (x * x - 1)**-0.5,        lambda x: -x * (x * x - 1)**-1.5),
    "arctanh":    (inside,   lambda x: 1 / (1 - x * x),           lambda x: 2 * x / (1 - x * x)**2),
    "degrees":    (line,     lambda x: 180 / np.pi + 0 * x,       lambda x: 0 * x),
    "radians":    (line,     lambda x: np.pi / 180 + 0 * x,       lambda x: 0 * x),
    "sigmoid":    (line,     lambda x: 0.25 * np.cosh(x / 2)**-2, lambda x: -0.25 * np.tanh(x / 2) * np.cosh(x / 2)**-2),
    "softplus":   (line,     logistic,                            lambda x: 0.25 * np.cosh(x / 2)**-2),
    "relu":       (off_zero, lambda x: np.where(x > 0, 1, 0),     lambda x: 0 * x),
    "leaky_relu": (off_zero, lambda x: np.where(x > 0, 1, 0.01),  lambda x: 0 * x),
    "elu":        (off_zero, lambda x: np.where(x > 0, 1, np.exp(x)), lambda x: np.where(x > 0, 0, np.exp(x))),
    "silu":       (line,     lambda x: logistic(x) + x * logistic(x) * logistic(-x),
                             lambda x: logistic(x) * logistic(-x) * (2 + x * (logistic(-x) - logistic(x)))),
    "normal_cdf": (line,     density,                             lambda x: -x * density(x)),
    "gelu":       (line,     lambda x: below(x) + x * density(x), lambda x: (2 - x * x) * density(x)),
}
# fmt: on


def operation(name: str) -> Any:
    return getattr(elementwise, name, None) or getattr(special, name)


@pytest.mark.parametrize("name", CLOSED)
def test_first_and_second_derivative(name: str) -> None:
    where, first, second = CLOSED[name]
    _, found, again = derivatives(operation(name), where)
    np.testing.assert_allclose(found, first(where), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(again, second(where), rtol=1e-11, atol=1e-13)


def test_gelus_tanh_form_stays_near_the_exact_one() -> None:
    exact = derivatives(special.gelu, line)
    cheap = derivatives(lambda x: special.gelu(x, approximate="tanh"), line)
    x, u = line, np.sqrt(2 / np.pi) * (line + 0.044715 * line**3)
    np.testing.assert_allclose(cheap[0], 0.5 * x * (1 + np.tanh(u)), rtol=1e-14)
    for ours, other in zip(cheap, exact):
        assert 0 < np.abs(ours - other).max() < 0.02
    with pytest.raises(TypeError, match=r'"none" or "tanh", not .sigmoid.'):
        special.gelu(line, approximate="sigmoid")


def test_parameters_of_activations() -> None:
    x = np.array([-2.0, 3.0])
    y, slope, _ = derivatives(lambda x: special.leaky_relu(x, negative_slope=0.2), x)
    assert y.tolist() == [-0.4, 3.0]
    assert slope.tolist() == [0.2, 1.0]
    y, slope, bend = derivatives(lambda x: special.elu(x, 0.5), x)
    np.testing.assert_allclose(y, [0.5 * math.expm1(-2), 3])
    np.testing.assert_allclose(slope, [0.5 * math.exp(-2), 1])
    np.testing.assert_allclose(bend, [0.5 * math.exp(-2), 0])


# ---- two inputs -----------------------------------------------------------------------------------------------------

PAIRS = {
    "add": (np.add, lambda a, b: 1.0, lambda a, b: 1.0),
    "subtract": (np.subtract, lambda a, b: 1.0, lambda a, b: -1.0),
    "multiply": (np.multiply, lambda a, b: b, lambda a, b: a),
    "divide": (np.divide, lambda a, b: 1 / b, lambda a, b: -a / b**2),
    "power": (np.power, lambda a, b: b * a ** (b - 1), lambda a, b: a**b * np.log(a)),
    "maximum": (np.maximum, lambda a, b: a > b, lambda a, b: b > a),
    "minimum": (np.minimum, lambda a, b: a < b, lambda a, b: b < a),
    "remainder": (np.remainder, lambda a, b: 1.0, lambda a, b: -np.floor(a / b)),
    "logaddexp": (np.logaddexp, lambda a, b: 1 / (1 + np.exp(b - a)), lambda a, b: 1 / (1 + np.exp(a - b))),
    "hypot": (np.hypot, lambda a, b: a / np.sqrt(a * a + b * b), lambda a, b: b / np.sqrt(a * a + b * b)),
    "arctan2": (np.arctan2, lambda a, b: b / (a * a + b * b), lambda a, b: -a / (a * a + b * b)),
}

two_shapes = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3, min_side=0)


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=40)
@given(shapes=two_shapes, seed=st.integers(0, 99))
def test_broadcast_pairs(name: str, shapes: Any, seed: int) -> None:
    function, by_a, by_b = PAIRS[name]
    rng = np.random.default_rng(seed)
    a, b = (rng.uniform(0.2, 3.0, shape) for shape in shapes.input_shapes)
    w = rng.normal(size=shapes.result_shape)
    left, second = tg.tensor(a, requires_grad=True), tg.tensor(b, requires_grad=True)
    y = function(left, second)
    np.testing.assert_allclose(y.data, function(a, b), rtol=1e-15, strict=True)
    y.backward(w)
    for leaf, partial in ((left, by_a(a, b)), (second, by_b(a, b))):
        terms = w * partial  # of the result's shape; along the axes that were stretched they add up
        extra = terms.ndim - leaf.ndim
        stretched = (*range(extra), *[extra + i for i, n in enumerate(leaf.shape) if n == 1])
        wanted = terms.sum(axis=stretched, keepdims=True).reshape(leaf.shape)
        np.testing.assert_allclose(leaf.grad.data, wanted, rtol=1e-11, atol=1e-13, strict=True)


@settings(max_examples=40)
@given(shapes=hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3, min_side=0), seed=st.integers(0, 99))
def test_broadcast_where(shapes: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    condition, a, b = (rng.normal(size=shape) for shape in shapes.input_shapes)
    condition = condition > 0
    left, second = tg.tensor(a, requires_grad=True), tg.tensor(b, requires_grad=True)
    y = np.where(condition, left, second)
    np.testing.assert_array_equal(y.data, np.where(condition, a, b), strict=True)
    y.sum().backward()
    chosen = np.broadcast_to(condition, y.shape)
    assert left.grad.data.sum() == chosen.sum()
    assert second.grad.data.sum() == chosen.size - chosen.sum()
    assert (left.grad.shape, second.grad.shape) == (left.shape, second.shape)


def test_where_keeps_out_what_the_branch_not_taken_would_bring() -> None:
    y, slope, bend = derivatives(lambda x: np.where(x > 0, np.sqrt(np.abs(x)), x), [-1.0, 0.0, 4.0])
    assert y.tolist() == [-1, 0, 2]
    assert slope.tolist() == [1, 1, 0.25]  # at 0 the root's slope is infinite, and not taken
    assert bend.tolist() == [0, 0, -1 / 32]


# ---- powers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "p", "first", "second"),
    [
        (0.0, 2, 0, 2),
        (-3.0, 2, -6, 2),
        (0.0, 1, 1, 0),
        (0.0, 0, 0, 0),
        (-2.0, 0, 0, 0),
        (0.0, 3, 0, 0),
        (-2.0, 3, 12, -12),
        (-2.0, -1, -1 / 4, -2 / 8),
        (-2.0, 2.0, -4, 2),
        (4.0, 0.5, 0.25, -1 / 32),
        (0.0, 1.5, 0, inf),
    ],
)
@pytest.mark.parametrize("as_array", [False, True])
def test_power_of_a_base(x: float, p: float, first: float, second: float, as_array: bool) -> None:
    exponent = np.array([p]) if as_array else p
    for function in (lambda x: x**exponent, lambda x: np.power(x, exponent)):
        y, slope, bend = derivatives(function, [x])
        assert (y[0], slope[0], bend[0]) == (x**p, first, second)


@pytest.mark.parametrize(
    ("a", "b", "by_b"), [(0, 2, 0), (0, 1, 0), (0, 0.5, 0), (0, 0, 0), (2, 0, math.log(2)), (1, 5, 0), (-2, 2, nan)]
)
def test_power_of_an_exponent(a: float, b: float, by_b: float) -> None:
    assert gradients(lambda b: np.power(np.array(a, float), b), b)[0] == pytest.approx(by_b, nan_ok=True)


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_power_has_the_infinities_that_it_has() -> None:
    assert gradients(lambda x: x**0.5, 0.0)[0] == inf
    assert gradients(lambda x: x**-1, 0.0)[0] == -inf
    assert gradients(lambda b: np.power(0.0, b), -1.0)[0] == -inf


def test_power_mixes_its_partials_where_the_exponent_is_zero() -> None:
    a, b = tg.tensor(2.0, requires_grad=True), tg.tensor(0.0, requires_grad=True)
    (a**b).backward(create_graph=True)
    by_a = a.grad
    b.zero_grad()
    by_a.backward()
    assert b.grad.item() == 0.5  # d/db of b * a**(b - 1) is 1/a there, though b * a**(b - 1) is 0 itself


def test_a_number_to_a_tensor() -> None:
    y, slope, bend = derivatives(lambda x: 2**x, [-1.0, 0.0, 3.0])
    np.testing.assert_allclose(slope, y * math.log(2))
    np.testing.assert_allclose(bend, y * math.log(2) ** 2)


# ---- kinks and ties -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [np.maximum, np.minimum])
def test_ties_share_evenly(function: Callable[..., Any]) -> None:
    a, b = gradients(function, [1.0, 1.0, 2.0, inf], [1.0, 3.0, 0.0, inf])
    np.testing.assert_array_equal(a + b, 1)
    assert a[0] == a[3] == 0.5
    assert sorted(a[1:3]) == [0, 1]
    assert gradients(lambda a: function(a, 1.0), [1.0])[0] == 0.5


@pytest.mark.parametrize("function", [np.maximum, np.minimum])
def test_a_nan_is_followed_to_both(function: Callable[..., Any]) -> None:
    a, b = gradients(function, [nan, 1.0], [1.0, nan])
    assert (a.tolist(), b.tolist()) == ([1, 1], [1, 1])


@pytest.mark.parametrize(
    ("name", "slope", "bend"),
    [
        ("absolute", 0, 0),
        ("fabs", 0, 0),
        ("sign", 0, 0),
        ("relu", 0, 0),
        ("leaky_relu", 0.01, 0),
        ("elu", 1, 1),
        ("silu", 0.5, 0.5),
    ],
)
def test_at_zero(name: str, slope: float, bend: float) -> None:
    assert derivatives(operation(name), [0.0])[1:] == ([slope], [bend])


def test_relu_keeps_integers_and_nan() -> None:
    assert elementwise.relu(np.array([-1, 2])).dtype.kind == "i"
    assert math.isnan(elementwise.relu(np.array([nan])).item())
    assert elementwise.relu(np.array([-inf])).item() == 0


def test_clip_passes_at_its_bounds() -> None:
    y, slope, _ = derivatives(lambda x: np.clip(x, -1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0])
    assert y.tolist() == [-1, -1, 0, 1, 1]
    assert slope.tolist() == [0, 1, 1, 1, 0]


def test_clip_gives_to_the_bound_that_was_used() -> None:
    x = [-2.0, 0.0, 2.0]
    by_x, by_low, by_high = gradients(np.clip, x, -1.0, 1.0)
    assert (by_x.tolist(), by_low, by_high) == ([0, 1, 0], 1, 1)
    by_x, by_low, by_high = gradients(np.clip, x, 1.0, -1.0)  # crossed: the upper bound has the last word
    assert (by_x.tolist(), by_low, by_high) == ([0, 0, 0], 0, 3)
    by_x, by_low, by_high = gradients(np.clip, x, 0.0, 0.0)  # every element goes to one of them, and one only
    assert (by_x.tolist(), by_low, by_high) == ([0, 1, 0], 1, 1)


def test_clip_on_one_side_and_by_every_name() -> None:
    x = tg.tensor([-2.0, 0.5, 2.0])
    for y in (np.clip(x, -1, None), x.clip(-1), np.clip(x, a_min=-1, a_max=None), x.clip(min=-1)):
        assert y.tolist() == [-1, 0.5, 2]
    for y in (np.clip(x, None, 1), x.clip(max=1), elementwise.clip(x, a_max=1)):
        assert y.tolist() == [-2, 0.5, 1]
    assert gradients(lambda x: x.clip(max=1), [0.0, 3.0])[0].tolist() == [1, 0]
    assert gradients(lambda x: x.clip(min=1), [0.0, 3.0])[0].tolist() == [0, 1]
    assert gradients(lambda low: np.clip(np.zeros(2), low, None), [1.0, -1.0])[0].tolist() == [1, 0]
    assert gradients(lambda high: np.clip(np.zeros(2), None, high), [1.0, -1.0])[0].tolist() == [0, 1]
    with pytest.raises(TypeError, match="a bound twice"):
        elementwise.clip(x, 0, 1, min=0)


def test_hypot_is_a_length() -> None:
    a, b = gradients(np.hypot, [0.0, 3.0, 0.0, 3e200, 3e-200], [0.0, 4.0, -2.0, 4e200, 4e-200])
    np.testing.assert_allclose(a, [0, 0.6, 0, 0.6, 0.6])  # its subgradient at 0 is 0; squares would overflow at the end
    np.testing.assert_allclose(b, [0, 0.8, -1, 0.8, 0.8])
    x = [0.0, 1.0]
    assert derivatives(lambda x: np.hypot(x, 0.0), x)[2].tolist() == [0, 0]
    assert derivatives(lambda x: np.hypot(x, 2.0), [0.0])[2] == 0.5


@pytest.mark.parametrize("scale", [1.0, 1e200, 1e-200])
def test_arctan2_in_every_quadrant_far_out_and_near(scale: float) -> None:
    a, b = gradients(np.arctan2, np.array([3, 3, -3, -3]) * scale, np.array([4, -4, 4, -4]) * scale)
    np.testing.assert_allclose(a * scale, [0.16, -0.16, 0.16, -0.16])
    np.testing.assert_allclose(b * scale, [-0.12, -0.12, 0.12, 0.12])


# ---- infinite slopes are told, and the tails are exact ---------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize(
    ("function", "x"),
    [(np.sqrt, 0), (np.cbrt, 0), (np.log, 0), (np.log1p, -1), (np.log2, 0), (np.arcsin, 1), (np.arctanh, 1), (np.arccosh, 1)],
)
def test_no_epsilon_hides_an_infinite_slope(function: Callable[..., Any], x: float) -> None:
    assert derivatives(function, [x])[1] == inf


# fmt: off
TAILS = [                           # x, y, dy/dx, d2y/dx2
    ("sigmoid",    1000, 1,           0,           0),
    ("sigmoid",   -1000, 0,           0,           0),
    ("sigmoid",   -700,  math.exp(-700), math.exp(-700), math.exp(-700)),
    ("softplus",   1000, 1000,        1,           0),
    ("softplus",  -1000, 0,           0,           0),
    ("softplus",  -700,  math.exp(-700), math.exp(-700), math.exp(-700)),
    ("silu",       1000, 1000,        1,           0),
    ("silu",      -1000, 0,           0,           0),
    ("elu",        1000, 1000,        1,           0),
    ("elu",       -1000, -1,          0,           0),
    ("gelu",       1000, 1000,        1,           0),
    ("gelu",      -1000, 0,           0,           0),
    ("gelu",       1e200, 1e200,      1,           0),
    ("tanh",       1000, 1,           0,           0),
    ("expm1",     -40,   -1,          math.exp(-40), math.exp(-40)),
    ("arctan",     1e200, math.pi / 2, 0,          0),
    ("arcsinh",    1e200, math.log(2e200), 1e-200, 0),
    ("arccosh",    1e200, math.log(2e200), 1e-200, 0),
    ("normal_cdf", -30,  4.906713927148187e-198, density(-30), 30 * density(-30)),
]
# fmt: on


@pytest.mark.parametrize(("name", "x", "y", "slope", "bend"), TAILS)
def test_tails(name: str, x: float, y: float, slope: float, bend: float) -> None:
    for found, wanted in zip(derivatives(operation(name), [x]), (y, slope, bend)):
        np.testing.assert_allclose(found, [wanted], rtol=1e-13)
    with setting(mask_zeros=False):  # no rule leans on the sweep's taking 0 * inf for 0
        for found, wanted in zip(derivatives(operation(name), [x]), (y, slope, bend)):
            np.testing.assert_allclose(found, [wanted], rtol=1e-13)


@pytest.mark.parametrize("x", [1e15, -1e15, 30.0, -30.0])
def test_gelus_tanh_form_does_not_overflow(x: float) -> None:
    leaf = tg.tensor(np.float32(x), requires_grad=True)
    y = special.gelu(leaf, approximate="tanh")
    y.backward()
    assert (y.item(), leaf.grad.item()) == ((np.float32(x), 1) if x > 0 else (0, 0))


def test_logaddexp_at_the_ends() -> None:
    a, b = gradients(np.logaddexp, [-inf, 0.0, -inf, 1000.0, 1e4, inf], [0.0, -inf, -inf, -1000.0, 1e4, 0.0])
    assert a.tolist() == [0, 1, 0, 1, 0.5, 1]
    assert b.tolist() == [1, 0, 0, 0, 0.5, 0]  # nothing flows to what has no share, and none has where both are zero
    assert derivatives(lambda x: np.logaddexp(x, -inf), [-inf, 0.0])[2].tolist() == [0, 0]


# ---- no gradient ----------------------------------------------------------------------------------------------------

ROUNDING = [np.floor, np.ceil, np.trunc, np.rint, np.round, np.around]
ASKING = [np.isfinite, np.isnan, np.isinf, np.logical_not]
COMPARING = [np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal, np.isclose, np.floor_divide]
LOGICAL = [np.logical_and, np.logical_or, np.logical_xor]


@pytest.mark.parametrize("function", ROUNDING + ASKING)
def test_rounding_and_questions_have_no_gradient(function: Callable[..., Any]) -> None:
    x = np.array([-1.5, -0.2, 0.0, 0.5, 2.5, inf, nan])
    y = function(tg.tensor(x, requires_grad=True))
    np.testing.assert_array_equal(y.data, function(x), strict=True)
    assert not y.requires_grad
    with pytest.raises(AutodiffError, match="does not depend on anything"):
        y.backward(np.ones(7))


@pytest.mark.parametrize("function", COMPARING + LOGICAL)
def test_comparisons_have_no_gradient(function: Callable[..., Any]) -> None:
    a, b = np.array([1.0, 2.0, 0.0]), np.array([2.0, 2.0, 1.0])
    left, other = tg.tensor(a, requires_grad=True), tg.tensor(b, requires_grad=True)
    for x, y in ((left, other), (left, b), (a, other)):
        np.testing.assert_array_equal(function(x, y).data, function(a, b), strict=True)
        assert not function(x, y).requires_grad


def test_rounding_cuts_only_its_own_path() -> None:
    assert gradients(lambda x: x * np.floor(x), [2.5])[0] == 2
    assert np.round(tg.tensor(1.26), 1).item() == pytest.approx(1.3)


def test_bits() -> None:
    a, b = np.array([6, 5]), np.array([3, 4])
    for function in (np.bitwise_and, np.bitwise_or, np.bitwise_xor):
        np.testing.assert_array_equal(function(a, tg.tensor(b)).data, function(a, b), strict=True)
    np.testing.assert_array_equal(np.invert(tg.tensor(a)).data, ~a)
    x = tg.tensor([1.0, -1.0])
    assert ((x > 0) | (x < 5)).tolist() == [True, True]
    assert (~(x > 0) & (x < 5)).tolist() == [False, True]
    assert (np.array([True, True]) & (x > 0)).tolist() == [True, False]


# ---- the same values ------------------------------------------------------------------------------------------------


def test_detach_cuts_the_path() -> None:
    x = tg.tensor([3.0], requires_grad=True)
    y = x.detach()
    assert y.tolist() == [3.0]
    assert not y.requires_grad
    (x * y).sum().backward()
    assert x.grad.tolist() == [3.0]


def test_astype_there_and_back() -> None:
    x = tg.tensor([1.5, 2.5], requires_grad=True, dtype=np.float32)
    y = x.astype(float) ** 3
    assert y.dtype == np.float64
    y.sum().backward(create_graph=True)
    first = x.grad
    assert first.dtype == np.float32
    x.zero_grad()
    first.sum().backward()
    assert x.grad.dtype == np.float32
    np.testing.assert_allclose(x.grad.data, 6 * x.data)
    whole = x.astype(int)
    assert whole.tolist() == [1, 2]
    assert not whole.requires_grad


@pytest.mark.skipif(not hasattr(np, "astype"), reason="np.astype came with NumPy 2.1")
def test_numpys_own_astype() -> None:
    assert np.astype(tg.tensor([1.5]), np.float16).dtype == np.float16


# ---- dtypes ---------------------------------------------------------------------------------------------------------

MADE = {made for module in (elementwise, special) for made in vars(module).values() if isinstance(made, Primitive)}
FLOATING = sorted((made for made in MADE if made.differentiable), key=lambda made: made.name)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("made", FLOATING, ids=lambda made: made.name)
def test_dtypes_are_kept(made: Primitive, dtype: Any) -> None:
    sample = made.samples[0]
    if "dtype" in sample.params:
        return
    values = [np.asarray(value) for value in sample.inputs(np.random.default_rng(7))]
    leaves = [tg.tensor(v.astype(dtype), requires_grad=True) if v.dtype.kind == "f" else tg.tensor(v) for v in values]
    y = made(*leaves, **sample.params)
    assert y.dtype == dtype
    y.backward(np.ones(y.shape, dtype))
    assert all(leaf.grad.dtype == dtype for leaf in leaves if leaf.requires_grad and leaf.grad is not None)


@pytest.mark.parametrize("made", FLOATING, ids=lambda made: made.name)
def test_pullbacks_compute_in_the_dtype_they_are_given(made: Primitive) -> None:
    """The sweep would cast a float64 term back, but by then it has taken twice the memory."""
    for sample in made.samples:
        values = [np.asarray(value) for value in sample.inputs(np.random.default_rng(7))]
        if any(value.dtype.kind == "i" for value in values) or "dtype" in sample.params:
            continue
        singles = [value.astype(np.float32) if value.dtype.kind == "f" else value for value in values]
        y = made(*[tg.tensor(value, requires_grad=value.dtype.kind == "f") for value in singles], **sample.params)
        g = np.ones(y.shape, np.float32)
        for parent, pullback, saved in y.node.edges:
            assert pullback.function(g, *saved).dtype == np.float32, (pullback, parent)


@settings(max_examples=60)
@given(
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    number=st.one_of(st.integers(-3, 3), st.floats(-3, 3), st.booleans()),
    function=st.sampled_from([np.add, np.subtract, np.multiply, np.maximum, np.minimum, np.logaddexp, np.hypot]),
    swapped=st.booleans(),
)
def test_python_numbers_are_weak(dtype: Any, number: Any, function: Callable[..., Any], swapped: bool) -> None:
    x = tg.tensor(np.array([0.5, 1.5], dtype), requires_grad=True)
    y = function(number, x) if swapped else function(x, number)
    assert y.dtype == dtype
    y.backward(np.ones(2))
    assert x.grad.dtype == dtype


def test_integers_become_floats_as_in_numpy() -> None:
    for name in ("sigmoid", "gelu", "softplus", "silu", "elu", "leaky_relu", "exp"):
        made = operation(name)
        assert made(np.array([-1, 0, 2])).dtype == np.float64
        np.testing.assert_allclose(made(np.array([-1, 0, 2])).data, made(np.array([-1.0, 0.0, 2.0])).data)


# ---- NumPy's names --------------------------------------------------------------------------------------------------


def test_numpys_functions_and_their_other_names() -> None:
    x = tg.tensor([0.25, 0.5])
    for name in ("abs", "absolute", "rad2deg", "deg2rad", "true_divide", "around", "mod"):
        function = getattr(np, name)
        inputs = (x, 2.0) if getattr(function, "nin", 1) == 2 else (x,)
        found = function(*inputs)
        assert isinstance(found, Tensor)
        np.testing.assert_array_equal(found.data, function(*[getattr(value, "data", value) for value in inputs]))


def test_every_float_ufunc_of_the_issue_is_there() -> None:
    names = """add subtract multiply divide power abs sign exp expm1 exp2 log log1p log2 log10 logaddexp sqrt cbrt square
        reciprocal sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh arctan2 hypot maximum minimum clip
        where floor ceil trunc rint round equal not_equal less less_equal greater greater_equal remainder floor_divide"""
    missing = [name for name in names.split() if getattr(np, name) not in implements]
    assert not missing


@pytest.mark.parametrize(("call", "name"), [
    (lambda x: np.exp(x, dtype=np.float64), "dtype"),
    (lambda x: np.add(x, 1, where=np.array([True])), "where"),
    (lambda x: elementwise.tanh(x, axis=0), "axis"),
    (lambda x: elementwise.tanh(x, 1), "takes"),
    (lambda x: np.where(x > 0), "'a'"),
    (lambda x: special.elu(x, alpha=1.0, beta=2.0), "beta"),
])  # fmt: skip
def test_what_an_operation_does_not_take_is_refused(call: Callable[..., Any], name: str) -> None:
    with pytest.raises(TypeError, match=name):
        call(tg.tensor([1.0]))
