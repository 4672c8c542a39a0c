"""Reductions: NumPy's values and signatures on every axis, and gradients where zeros, ties and overflow lie in wait.

Every primitive is checked against finite differences elsewhere, on its samples. Here stand the exact values.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_seq as tg
from tinygrad_seq.ops import reduce

inf, nan = math.inf, math.nan


def gradient(function: Callable[[Any], Any], x: Any, dtype: Any = float) -> Any:
    """The gradient of the sum of a function's results."""
    leaf = tg.tensor(np.asarray(x, dtype), requires_grad=True)
    y = function(leaf)
    y.backward(np.ones(y.shape, y.dtype))
    return leaf.grad.data


def hessian_of(function: Callable[[Any], Any], x: Any) -> Any:
    """The second derivatives of a function that gives one number, row by row through the taped gradient."""
    leaf = tg.tensor(np.asarray(x, float), requires_grad=True)
    function(leaf).backward(create_graph=True)
    first, n = leaf.grad, leaf.size
    rows = np.zeros((n, n))
    for i in range(n) if first.requires_grad else ():
        leaf.zero_grad()
        first.backward(np.eye(n)[i].reshape(leaf.shape), retain_graph=True)
        rows[i] = leaf.grad.data.ravel()
    return rows


# ---- NumPy's values and signatures ----------------------------------------------------------------------------------

BY_NAME = {
    "sum": np.sum, "mean": np.mean, "prod": np.prod, "max": np.max, "min": np.min, "var": np.var, "std": np.std,
    "any": np.any, "all": np.all, "count_nonzero": np.count_nonzero,
}  # fmt: skip
FLOATING = ["sum", "mean", "prod", "max", "min", "var", "std"]


@st.composite
def arrays_and_axes(draw: Any) -> tuple[Any, Any]:
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, max_side=3))
    seed = draw(st.integers(0, 99))
    axes = st.integers(-len(shape), len(shape) - 1) if shape else st.none()
    tuples = hnp.valid_tuple_axes(len(shape))
    return np.random.default_rng(seed).normal(size=shape), draw(st.one_of(st.none(), axes, tuples))


@pytest.mark.parametrize("name", BY_NAME)
@settings(max_examples=40)
@given(case=arrays_and_axes(), keepdims=st.booleans(), dtype=st.sampled_from([np.float16, np.float32, np.float64]))
def test_as_in_numpy(name: str, case: Any, keepdims: bool, dtype: Any) -> None:
    x, axis = case
    x, function = x.astype(dtype), BY_NAME[name]
    wanted = np.asarray(function(x, axis=axis, keepdims=keepdims))
    leaf = tg.tensor(x, requires_grad=True)
    y = function(leaf, axis=axis, keepdims=keepdims)
    np.testing.assert_array_equal(y.data, wanted, strict=True)
    np.testing.assert_array_equal(getattr(reduce, name)(leaf, axis, keepdims=keepdims).data, wanted, strict=True)
    assert y.requires_grad == (name in FLOATING)
    if y.requires_grad:
        y.backward(np.ones(y.shape, dtype))
        assert (leaf.grad.shape, leaf.grad.dtype) == (x.shape, x.dtype)


@pytest.mark.parametrize("name", [*FLOATING, "logsumexp", "norm"])
@settings(max_examples=40)
@given(case=arrays_and_axes(), keepdims=st.booleans(), seed=st.integers(0, 9))
def test_gradient_along_any_axis_is_that_of_each_group(name: str, case: Any, keepdims: bool, seed: int) -> None:
    """Reducing along axes is reducing each group of elements by itself: moved to the end, flattened, one by one."""
    x, axis = case
    operation = getattr(reduce, name)
    if axis == () and name in ("var", "std"):
        return  # a group of one has no spread, and which elements it has does not show
    if name == "norm" and isinstance(axis, tuple) and len(axis) > 2:
        axis = axis[:2]
    axes = tuple(range(x.ndim)) if axis is None else np.atleast_1d(np.array(axis, int)) % max(x.ndim, 1)
    ends = tuple(range(x.ndim - len(axes), x.ndim))
    leaf = tg.tensor(x, requires_grad=True)
    y = operation(leaf, axis=axis, keepdims=keepdims)
    w = np.random.default_rng(seed).normal(size=y.shape)
    y.backward(w)
    groups = np.moveaxis(x, tuple(axes), ends).reshape(-1, math.prod(x.shape[i] for i in axes))
    alone = [gradient(lambda group: operation(group) * float(factor), group) for factor, group in zip(w.ravel(), groups)]  # noqa: B023
    found = np.moveaxis(leaf.grad.data, tuple(axes), ends).reshape(groups.shape)
    np.testing.assert_allclose(found, np.array(alone).reshape(groups.shape), rtol=1e-12, atol=1e-14)


def test_methods_take_the_axis_by_place() -> None:
    x = tg.tensor(np.arange(6.0).reshape(2, 3))
    assert x.sum(0).tolist() == [3, 5, 7]
    assert x.mean(-1).tolist() == [1, 4]
    assert x.max((0, 1)).item() == 5
    assert x.prod(axis=1, keepdims=True).tolist() == [[0], [60]]
    assert x.var(0, ddof=1).tolist() == [4.5, 4.5, 4.5]
    assert x.cumsum(1).tolist() == [[0, 1, 3], [3, 7, 12]]
    assert x.argmax(0).tolist() == [1, 1, 1]
    assert x.argmin().item() == 0


@pytest.mark.parametrize("parameter", ["dtype", "out", "where", "initial"])
def test_what_is_not_offered_is_refused_by_name(parameter: str) -> None:
    x = tg.tensor([1.0, 2.0])
    with pytest.raises(TypeError, match=r"np\.sum cannot write" if parameter == "out" else f"sum has no parameter '{parameter}'"):
        np.sum(x, **{parameter: np.zeros(())})


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, bool])
def test_the_norm_of_whole_numbers_is_numpys(dtype: Any) -> None:
    x = np.array([[1, 2, 0], [3, 1, 1]]).astype(dtype)
    found, wanted = np.linalg.norm(tg.tensor(x), axis=1), np.linalg.norm(x, axis=1)
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found.data, wanted, rtol=1e-15)


def test_more_values_than_a_float16_can_count_have_a_gradient() -> None:
    x = tg.tensor(np.ones(70_000, np.float16), requires_grad=True)
    np.mean(x).backward(np.float16(1024))
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.data.astype(float), 1024 / 70_000, rtol=5e-3)


def test_parameters_that_wish_nothing_are_taken() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    for y in (np.sum(x, dtype=None, out=None), np.clip(x, 0, 1, out=None), np.concatenate([x, x], out=None, dtype=None)):
        assert y.requires_grad
    with pytest.raises(TypeError, match=r"np\.concatenate cannot write a tensor into an array"):
        np.concatenate([x, x], out=np.zeros(4))


@pytest.mark.parametrize("choose", [np.max, np.min])
def test_the_gradient_goes_to_a_nan_that_is_chosen(choose: Any) -> None:
    x = tg.tensor([[1.0, np.nan, 2.0], [3.0, 3.0, 3.0]], requires_grad=True)
    choose(x, axis=1).sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.data, [[0, 1, 0], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-6)


@pytest.mark.parametrize("name", ["amax", "amin", "cumsum", "cumprod", "trace", "argmax", "argmin"])
def test_numpys_other_names(name: str) -> None:
    x = np.array([[2.0, -1.0, 3.0], [0.5, 4.0, -2.0]])
    function = getattr(np, name)
    for arguments in ((), (1,)):
        np.testing.assert_array_equal(function(tg.tensor(x), *arguments).data, function(x, *arguments), strict=True)


def test_where_and_how_many_have_no_gradient() -> None:
    x = tg.tensor([[2.0, 0.0], [1.0, 3.0]], requires_grad=True)
    for function in (np.argmax, np.argmin, np.any, np.all, np.count_nonzero):
        for axis in (None, 0, -1):
            y = function(x, axis=axis)
            np.testing.assert_array_equal(y.data, function(x.data, axis=axis), strict=True)
            assert not y.requires_grad


def test_equality_of_whole_arrays() -> None:
    x, near = tg.tensor([1.0, 2.0], requires_grad=True), np.array([1.0, 2.0 + 1e-9])
    assert np.allclose(x, near)
    assert np.allclose(near, x, rtol=0, atol=1e-8)
    assert not np.allclose(x, near, rtol=0, atol=1e-12)
    assert np.array_equal(x, x.data)
    assert not np.array_equal(x, [1.0])


# ---- sums -----------------------------------------------------------------------------------------------------------


def test_sums() -> None:
    x = np.arange(6.0).reshape(2, 3)
    assert gradient(np.sum, x).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert gradient(lambda x: np.mean(x, axis=0), x).tolist() == [[0.5] * 3] * 2
    assert gradient(np.cumsum, x).tolist() == [[6, 5, 4], [3, 2, 1]]
    assert gradient(lambda x: np.cumsum(x, axis=0), x).tolist() == [[2, 2, 2], [1, 1, 1]]
    assert gradient(np.cumsum, 3.0) == 1


def test_trace_of_any_diagonal() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    for offset, axes in itertools.product((-2, -1, 0, 1, 3), ((0, 1), (2, 1), (-1, 0), (1, -1))):
        places = np.arange(x.size).reshape(x.shape)
        wanted = np.isin(places, np.diagonal(places, offset, *axes))
        found = gradient(lambda x: np.trace(x, offset, *axes), x)  # noqa: B023
        np.testing.assert_array_equal(found, wanted.astype(float))


# ---- products with zeros --------------------------------------------------------------------------------------------


def product_gradient(x: Any) -> Any:
    """By definition: for each element, the product of the others."""
    return np.array([math.prod(np.delete(x, i)) for i in range(len(x))])


def product_hessian(x: Any) -> Any:
    n = len(x)
    return np.array([[0 if i == j else math.prod(np.delete(x, [i, j])) for j in range(n)] for i in range(n)])


FEW = [[2.0, 3.0, 5.0, 7.0], [2.0, 0.0, 5.0, 7.0], [0.0, 3.0, 0.0, 7.0], [0.0, 0.0, 0.0, 7.0], [0.0] * 4, [-0.0, 1.0], [3.0]]


@pytest.mark.parametrize("x", FEW)
def test_prod_is_right_with_zeros(x: list[float]) -> None:
    np.testing.assert_array_equal(gradient(np.prod, x), product_gradient(x))
    np.testing.assert_array_equal(hessian_of(np.prod, x), product_hessian(x))


@pytest.mark.parametrize("x", FEW)
def test_cumprod_is_right_with_zeros(x: list[float]) -> None:
    w = np.array([1.0, 10.0, 100.0, 1000.0])[: len(x)]
    n = len(x)
    parts = [np.pad(product_gradient(x[: k + 1]), (0, n - k - 1)) for k in range(n)]
    bends = [np.pad(product_hessian(x[: k + 1]), (0, n - k - 1)) for k in range(n)]
    weighted = lambda x: (np.cumprod(x) * w).sum()
    np.testing.assert_array_equal(gradient(weighted, x), np.tensordot(w, parts, 1))
    np.testing.assert_array_equal(hessian_of(weighted, x), np.tensordot(w, bends, 1))


def test_third_derivative_of_a_product() -> None:
    x = tg.tensor([0.0, 0.0, 0.0, 5.0], requires_grad=True, dtype=float)
    y = np.prod(x)
    for i in range(3):  # d/dx0, then d/dx1, then d/dx2
        x.zero_grad()
        y.backward(create_graph=True)
        y = (x.grad * np.eye(4)[i]).sum()
    assert y.item() == 5


def test_prod_whose_whole_underflows_or_overflows() -> None:
    np.testing.assert_allclose(gradient(np.prod, [1e-200, 1e-200, 2.0]), [2e-200, 2e-200, 0], atol=0)  # dividing gives 0
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(gradient(np.prod, [1e200, 1e200, 2.0]), [2e200, 2e200, inf])  # dividing gives inf


def test_products_along_axes() -> None:
    x = np.array([[[1.0, 2.0], [0.0, 3.0]], [[0.0, 0.0], [4.0, 5.0]]])
    found = gradient(lambda x: np.prod(x, axis=(0, -1)), x)
    assert found.tolist() == [[[0, 0], [60, 0]], [[0, 0], [0, 0]]]
    found = gradient(lambda x: np.cumprod(x, axis=1), x)
    assert found.tolist() == [[[1, 4], [1, 2]], [[5, 6], [0, 0]]]
    assert gradient(lambda x: np.cumprod(x, axis=1), np.zeros((3, 0))).shape == (3, 0)


@pytest.mark.parametrize("function", [np.cumsum, np.cumprod])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_running_along_no_axis_at_all(function: Callable[..., Any], axis: int | None) -> None:
    found = gradient(lambda x: function(x, axis=axis), 2.0)  # NumPy makes one axis of none
    assert (found.shape, found.item()) == ((), 1)


# ---- the largest and the smallest -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "sign"), [(np.max, 1.0), (np.min, -1.0)])
def test_ties_share_evenly(function: Callable[..., Any], sign: float) -> None:
    x = sign * np.array([[3.0, 1.0, 3.0], [2.0, 2.0, 2.0]])
    assert gradient(function, x).tolist() == [[0.5, 0, 0.5], [0, 0, 0]]
    np.testing.assert_allclose(gradient(lambda x: function(x, axis=1), x), [[0.5, 0, 0.5], [1 / 3] * 3])
    assert gradient(lambda x: function(x, axis=0), x).tolist() == [[1, 0, 1], [0, 1, 0]]
    assert gradient(lambda x: function(x, axis=(0, 1), keepdims=True), x).tolist() == [[0.5, 0, 0.5], [0, 0, 0]]
    assert gradient(function, [sign * inf, 0.0, sign * inf]).tolist() == [0.5, 0, 0.5]


def test_second_derivative_through_a_maximum() -> None:
    np.testing.assert_array_equal(hessian_of(lambda x: np.max(x * x), [1.0, 3.0]), [[0, 0], [0, 2]])
    np.testing.assert_array_equal(hessian_of(lambda x: np.min(x * x), [1.0, 3.0]), [[2, 0], [0, 0]])


def test_nothing_has_no_maximum() -> None:
    with pytest.raises(ValueError, match=r"max of \(0, 3\)"):
        np.max(tg.tensor(np.zeros((0, 3))), axis=0)


def test_logsumexp_neither_overflows_nor_loses_what_is_small() -> None:
    for shift in (0.0, 1e4, -1e4):
        x = shift + np.array([0.0, 1.0, 2.0])
        y = reduce.logsumexp(x)
        np.testing.assert_allclose(y.item(), shift + math.log(1 + math.e + math.e**2), rtol=1e-14)
        np.testing.assert_allclose(gradient(reduce.logsumexp, x), np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum(), rtol=1e-11)


def test_logsumexp_of_masked_rows() -> None:
    x = np.array([[-inf, 0.0, 0.0], [-inf, -inf, -inf], [1.0, -inf, -inf]])
    y = reduce.logsumexp(x, axis=1)
    np.testing.assert_array_equal(y.data, [math.log(2), -inf, 1])
    by_row = lambda x: reduce.logsumexp(x, axis=1)
    assert gradient(by_row, x).tolist() == [[0, 0.5, 0.5], [0, 0, 0], [1, 0, 0]]
    bend = hessian_of(lambda x: by_row(x).sum(), x)
    assert np.isfinite(bend).all()
    np.testing.assert_allclose(bend[1:3, 1:3], [[0.25, -0.25], [-0.25, 0.25]])
    assert not bend[3:].any()


def test_logsumexp_of_nothing_and_of_everything() -> None:
    assert reduce.logsumexp(np.zeros((2, 0)), axis=1).tolist() == [-inf, -inf]
    assert reduce.logsumexp(np.array([inf, 0.0])).item() == inf
    assert math.isnan(reduce.logsumexp(np.array([nan, 0.0])).item())
    assert reduce.logsumexp(np.array([0, 0])).item() == math.log(2)


# ---- spread and length ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1)])
@pytest.mark.parametrize("ddof", [0, 1, 0.5])
def test_variance(axis: Any, ddof: float) -> None:
    x = np.random.default_rng(3).normal(size=(3, 4))
    deviation = x - x.mean(axis=axis, keepdims=True)
    n = x.size // x.mean(axis=axis).size - ddof
    np.testing.assert_allclose(gradient(lambda x: np.var(x, axis=axis, ddof=ddof), x), 2 * deviation / n, rtol=1e-13)
    std = x.std(axis=axis, ddof=ddof, keepdims=True)
    np.testing.assert_allclose(gradient(lambda x: np.std(x, axis=axis, ddof=ddof), x), deviation / std / n, rtol=1e-13)


def test_second_derivative_of_a_variance() -> None:
    wanted = 2 / 3 * (np.eye(3) - 1 / 3)
    np.testing.assert_allclose(hessian_of(np.var, [1.0, 5.0, 2.0]), wanted, atol=1e-15)


@pytest.mark.parametrize("function", [np.std, np.linalg.norm])
def test_zero_is_the_subgradient_at_zero(function: Callable[..., Any]) -> None:
    x = np.zeros((2, 3))
    assert not gradient(function, x).any()
    assert not hessian_of(function, x).any()
    x[0] = [3.0, 0.0, 0.0]
    found = gradient(lambda x: function(x, axis=1), x)  # beside a row that is not zero
    assert np.isfinite(found).all()
    assert found[0].any()
    assert not found[1].any()


def test_std_of_a_constant_row() -> None:
    assert gradient(np.std, [0.1] * 8).tolist() == [0] * 8


@pytest.mark.filterwarnings("ignore:Degrees of freedom", "ignore:invalid value", "ignore:divide by zero")
def test_no_degrees_of_freedom_give_no_number() -> None:
    assert np.isnan(gradient(lambda x: np.var(x, ddof=1), [2.0])).all()
    assert np.isnan(gradient(lambda x: np.std(x, ddof=1), [2.0])).all()
    assert gradient(lambda x: np.var(x, ddof=3), [2.0, 5.0]).tolist() == [-inf, inf]  # NumPy takes fewer than none for none


@pytest.mark.parametrize(
    ("shape", "params"),
    [((5,), {}), ((5,), {"ord": 2}), ((2, 3), {}), ((2, 3), {"ord": "fro"}), ((2, 3), {"axis": 0}), ((), {}), ((2, 3, 4), {}),
     ((2, 3), {"axis": -1, "ord": 2, "keepdims": True}), ((2, 3, 4), {"axis": (0, -1), "ord": "fro"}), ((0,), {})],
)  # fmt: skip
def test_norm_is_numpys(shape: Any, params: dict[str, Any]) -> None:
    x = np.random.default_rng(1).normal(size=shape)
    wanted = np.linalg.norm(x, **params)
    y = np.linalg.norm(tg.tensor(x), **params)
    np.testing.assert_allclose(y.data, wanted, rtol=1e-15, strict=True)
    if params.get("axis") is None:
        np.testing.assert_allclose(gradient(lambda x: np.linalg.norm(x, **params), x), x / wanted if x.size else x, rtol=1e-14)


def test_second_derivative_of_a_norm() -> None:
    x = np.array([3.0, 4.0])
    np.testing.assert_allclose(hessian_of(np.linalg.norm, x), (np.eye(2) - np.outer(x, x) / 25) / 5, atol=1e-16)


@pytest.mark.parametrize("scale", [1e-310, 1e-200, 1e200, 1e300])
def test_norm_neither_overflows_nor_vanishes(scale: float) -> None:
    x = np.array([[3.0, 4.0], [0.0, 0.0], [5.0, 12.0]]) * scale
    y = np.linalg.norm(tg.tensor(x), axis=1)
    np.testing.assert_allclose(y.data, np.array([5, 0, 13]) * scale, rtol=1e-12)
    found = gradient(lambda x: np.linalg.norm(x, axis=1), x)
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0], [5 / 13, 12 / 13]], rtol=1e-12)


def test_norm_of_half_precision_and_of_what_is_not_finite() -> None:
    assert np.linalg.norm(tg.tensor(np.full(4, 3e4, np.float16))).item() == np.float16(6e4)
    assert np.linalg.norm(tg.tensor([inf, 1.0])).item() == inf
    assert math.isnan(np.linalg.norm(tg.tensor([nan, 1.0])).item())
    assert np.linalg.norm(tg.tensor([3, 4])).item() == 5


@pytest.mark.parametrize(("shape", "ord"), [((3,), 1), ((3,), inf), ((2, 3), 2), ((2, 3), "nuc"), ((3,), "fro")])
def test_other_norms_are_refused(shape: Any, ord: Any) -> None:
    with pytest.raises(TypeError, match=f"ord={ord!r} is not offered"):
        np.linalg.norm(tg.tensor(np.ones(shape)), ord)


# ---- dtypes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", [*FLOATING, "logsumexp", "norm", "cumsum", "cumprod", "trace"])
def test_dtypes_are_kept(name: str, dtype: Any) -> None:
    operation = getattr(reduce, name)
    x = tg.tensor(np.array([[1.0, 2.0], [3.0, 3.0]], dtype), requires_grad=True)
    y = operation(x)
    assert y.dtype == dtype
    for _, pullback, saved in y.node.edges:
        assert pullback.function(np.ones(y.shape, dtype), *saved).dtype == dtype
    y.backward(np.ones(y.shape))
    assert x.grad.dtype == dtype


def test_integers_are_reduced_as_in_numpy() -> None:
    x = np.array([[3, 1], [2, 5]])
    for function in BY_NAME.values():
        np.testing.assert_array_equal(function(tg.tensor(x), axis=0).data, function(x, axis=0), strict=True)
