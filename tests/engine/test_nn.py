"""Operations of neural networks: no overflow, the right draws, tokens that are checked, and no look into the future."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_seq as tg
from tinygrad_seq.primitive import registry

inf, nan = math.inf, math.nan


def gradient(function: Any, x: Any, dtype: Any = float) -> Any:
    """The gradient of the sum of a function's results."""
    leaf = tg.tensor(np.asarray(x, dtype), requires_grad=True)
    y = function(leaf)
    y.backward(np.ones(y.shape, y.dtype))
    return leaf.grad.data


# ---- softmax --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 1), (-1, 0)])
def test_softmax_and_its_logarithm(axis: Any) -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 2))
    wanted = np.exp(x) / np.exp(x).sum(axis, keepdims=True)
    np.testing.assert_allclose(tg.softmax(x, axis).data, wanted, rtol=1e-13)
    np.testing.assert_allclose(tg.log_softmax(x, axis=axis).data, np.log(wanted), rtol=1e-12)
    u = np.random.default_rng(1).normal(size=x.shape)
    tg.check_grads(lambda x: u * tg.softmax(x, axis), x, order=2)
    tg.check_grads(lambda x: u * tg.log_softmax(x, axis), x, order=2)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_no_overflow_and_no_underflow_in_the_logarithm(dtype: str) -> None:
    x = np.array([1e4, 0.0, -1e4], dtype)
    assert tg.softmax(x).tolist() == [1, 0, 0]
    assert tg.log_softmax(x).tolist() == [0, -1e4, -2e4]
    assert tg.log_softmax(x).dtype == dtype
    assert gradient(lambda x: tg.log_softmax(x)[2], x, dtype).tolist() == [-1, 0, 1]


def test_entries_of_minus_infinity_have_no_probability_and_no_gradient() -> None:
    x = [0.0, -inf, 0.0]
    assert tg.softmax(np.array(x)).tolist() == [0.5, 0, 0.5]
    u = np.array([1.0, 5.0, 0.0])
    np.testing.assert_allclose(gradient(lambda x: u * tg.softmax(x), x), [0.25, 0, -0.25])
    np.testing.assert_allclose(gradient(lambda x: tg.log_softmax(x)[0], x), [0.5, 0, -0.5])


def test_a_row_of_nothing_but_minus_infinity_is_nan_and_not_silent() -> None:
    for function in (tg.softmax, tg.log_softmax):
        with pytest.warns(RuntimeWarning, match="invalid value"):
            y = function(np.array([[-inf, -inf], [0.0, 0.0]]))
        assert np.isnan(y.data[0]).all()
        assert np.isfinite(y.data[1]).all()


def test_softmax_of_nothing_and_of_integers() -> None:
    for function in (tg.softmax, tg.log_softmax):
        assert function(np.ones((0, 3))).shape == (0, 3)
        assert function(np.ones((3, 0), "f4")).dtype == np.float32
        assert function(np.array([1, 2])).dtype == np.float64


# ---- dropout --------------------------------------------------------------------------------------------------------------


def test_dropout_keeps_the_mean_and_passes_the_gradient_where_it_passes_the_value() -> None:
    x = tg.tensor(np.ones((200, 100)), requires_grad=True)
    y = tg.dropout(x, 0.3, rng=np.random.default_rng(0))
    assert set(np.unique(y.data)) == {0, 1 / 0.7}
    assert abs(np.mean(y.data == 0) - 0.3) < 0.02
    y.backward(np.full(x.shape, 2.0))
    np.testing.assert_array_equal(x.grad.data, 2 * y.data)


def test_dropout_draws_from_the_engines_generator_or_from_its_own() -> None:
    x = np.ones(50)
    tg.manual_seed(3)
    first, second = tg.dropout(x).data, tg.dropout(x).data
    assert not np.array_equal(first, second)
    tg.manual_seed(3)
    np.testing.assert_array_equal(tg.dropout(x).data, first)
    own = tg.dropout(x, rng=np.random.default_rng(1)).data  # leaves the engine's where it stands
    np.testing.assert_array_equal(tg.dropout(x).data, second)
    np.testing.assert_array_equal(tg.dropout(x, rng=np.random.default_rng(1)).data, own)


def test_dropout_at_the_ends_of_its_range() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    state = tg.random.get_state()
    assert tg.dropout(x, 0.0) is x
    assert tg.dropout(x, 0.9, training=False) is x
    assert isinstance(tg.dropout(np.ones(2), 0.9, training=False), tg.Tensor)
    assert tg.random.get_state() == state
    y = tg.dropout(x, 1.0)
    assert y.tolist() == [0, 0]
    y.backward(np.ones(2, "f4"))
    assert x.grad.tolist() == [0, 0]
    for p in (-0.1, 1.1, nan):
        with pytest.raises(ValueError, match="probability from 0 to 1, got p="):
            tg.dropout(x, p)


def test_what_is_dropped_is_zero_even_if_it_is_not_finite() -> None:
    x = np.array([nan, inf, 1.0])
    assert tg.dropout(x, 1.0).tolist() == [0, 0, 0]
    keep = np.array([False, False, True])
    assert gradient(lambda x: registry["dropout"](x, keep, scale=2.0), x).tolist() == [0, 0, 2]


def test_dropout_keeps_the_dtype() -> None:
    assert tg.dropout(np.ones(3, "f4"), 0.5).dtype == np.float32


# ---- words ----------------------------------------------------------------------------------------------------------------


def test_embedding_reads_rows_and_adds_up_the_gradients_of_a_repeated_token() -> None:
    table = tg.tensor(np.arange(8.0).reshape(4, 2), requires_grad=True)
    tokens = np.array([[1, 3], [1, 0]])
    y = tg.embedding(table, tokens)
    np.testing.assert_array_equal(y.data, table.data[tokens])
    y.backward(np.array([[[1.0, 2], [3, 4]], [[5, 6], [7, 8]]]))
    assert table.grad.tolist() == [[7, 8], [6, 8], [0, 0], [3, 4]]


@pytest.mark.parametrize("create_graph", [False, True])
def test_the_uses_of_a_table_meet_in_one_array(monkeypatch: pytest.MonkeyPatch, create_graph: bool) -> None:
    made = []
    forward = registry["scatter"].forward

    def counted(*pieces: Any, **params: Any) -> Any:
        made.append(len(pieces))
        return forward(*pieces, **params)

    monkeypatch.setattr(registry["scatter"], "forward", counted)
    rng = np.random.default_rng(0)
    table = tg.tensor(rng.normal(size=(5, 3)), requires_grad=True)
    steps = [tg.tensor(rng.integers(0, 5, shape)) for shape in ((4,), (4,), (2, 3), ())]
    loss = sum(np.sum(np.sin(tg.embedding(table, tokens, padding_index=2))) for tokens in steps)
    loss.backward(create_graph=create_graph)
    assert made == [1]
    wanted = np.zeros((5, 3))
    for tokens in steps:
        np.add.at(wanted, tokens.data, np.cos(table.data[tokens.data]))
    wanted[2] = 0
    np.testing.assert_allclose(table.grad.data, wanted, rtol=1e-12)


def test_the_padding_row_gets_no_gradient_at_any_order() -> None:
    table = tg.tensor(np.array([[0.3], [0.7]]), requires_grad=True)
    y = np.sum(tg.embedding(table, [0, 1, 1], padding_index=0) ** 3)
    assert y.item() == pytest.approx(0.3**3 + 2 * 0.7**3)
    y.backward(create_graph=True)
    first, table.grad = table.grad, None
    np.testing.assert_allclose(first.data, [[0], [6 * 0.49]])
    first.backward(np.ones((2, 1)))
    np.testing.assert_allclose(table.grad.data, [[0], [12 * 0.7]])


@pytest.mark.parametrize(("tokens", "error", "problem"), [
    ([0, 4], IndexError, r"embedding of \(4, 2\) float64, \(2,\) int64, in words, t=1: token 4 is outside of 0 to 3"),
    ([-1], IndexError, "token -1 is outside of 0 to 3"),
    ([0.0], TypeError, "tokens are integers, not float"),
    ([True], TypeError, "tokens are integers, not bool"),
])  # fmt: skip
def test_tokens_that_are_none_are_named(tokens: Any, error: type[Exception], problem: str) -> None:
    table = tg.tensor(np.ones((4, 2)), requires_grad=True)
    with tg.scope("words", t=1), pytest.raises(error, match=problem):
        tg.embedding(table, tokens)
    with pytest.raises(error, match=problem.split(": ")[-1]):
        tg.one_hot(tokens, 4)


def test_a_padding_index_outside_of_the_table_is_refused() -> None:
    with pytest.raises(IndexError, match="padding_index 4 is outside of 0 to 3"):
        tg.embedding(tg.tensor(np.ones((4, 2))), [0], padding_index=4)


def test_one_hot() -> None:
    rows = tg.one_hot(tg.tensor([[2, 0]]), 3)
    assert rows.tolist() == [[[0, 0, 1], [1, 0, 0]]]
    assert rows.dtype == tg.default_dtype()
    assert not rows.requires_grad
    assert tg.one_hot(1, 3, dtype=int).dtype == int
    table = np.random.default_rng(0).normal(size=(3, 2))
    np.testing.assert_array_equal((tg.one_hot([2, 0, 2], 3, dtype=float) @ table).data, tg.embedding(table, [2, 0, 2]).data)


# ---- layer_norm -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [-1, 0, (-1, -2)])
def test_layer_norm(axis: Any) -> None:
    x = np.random.default_rng(0).normal(2.0, 3.0, size=(3, 4, 5))
    y = tg.layer_norm(x, axis=axis, eps=0.0).data
    np.testing.assert_allclose(y.mean(axis), 0, atol=1e-13)
    np.testing.assert_allclose(y.var(axis), 1, rtol=1e-12)
    tg.check_grads(lambda x: np.sin(tg.layer_norm(x, axis=axis)), x, order=2)


def test_layer_norm_with_weight_and_bias() -> None:
    rng = np.random.default_rng(0)
    x, weight, bias = rng.normal(size=(3, 4)), rng.normal(size=4), rng.normal(size=4)
    wanted = weight * (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) + bias
    np.testing.assert_allclose(tg.layer_norm(x, weight, bias).data, wanted, rtol=1e-12)
    tg.check_grads(lambda *xs: np.sin(tg.layer_norm(*xs)), x, weight, bias, order=2)


def test_a_row_without_variance_is_zero_and_its_gradient_finite() -> None:
    x = np.full((2, 4), 3.0)
    assert tg.layer_norm(x).tolist() == np.zeros((2, 4)).tolist()
    u = np.arange(4.0)
    np.testing.assert_allclose(gradient(lambda x: u * tg.layer_norm(x, eps=0.01), x), np.tile((u - 1.5) * 10, (2, 1)), rtol=1e-12)


# ---- causal convolution -----------------------------------------------------------------------------------------------------


@given(st.integers(0, 7), st.integers(1, 4), st.integers(1, 3))
def test_a_kernel_of_k_sees_the_k_latest_steps(steps: int, kernel: int, dilation: int) -> None:
    rng = np.random.default_rng(0)
    x, weight, bias = rng.normal(size=(steps, 2, 3)), rng.normal(size=(kernel, 3, 4)), rng.normal(size=4)
    wanted = np.zeros((steps, 2, 4)) + bias
    for t in range(steps):
        for k in range(kernel):
            past = t - (kernel - 1 - k) * dilation
            if past >= 0:
                wanted[t] += x[past] @ weight[k]
    np.testing.assert_allclose(tg.conv1d_causal(x, weight, bias, dilation).data, wanted, rtol=1e-12, atol=1e-13)
    alone = tg.conv1d_causal(x[:, 0], weight, dilation=dilation).data + bias
    np.testing.assert_allclose(alone, wanted[:, 0], rtol=1e-12, atol=1e-13)


def test_no_step_depends_on_a_later_one() -> None:
    x = tg.tensor(np.random.default_rng(0).normal(size=(6, 1, 2)), requires_grad=True)
    weight = np.random.default_rng(1).normal(size=(3, 2, 2))
    np.sum(tg.conv1d_causal(x, weight)[3]).backward()
    assert np.flatnonzero(np.abs(x.grad.data).sum((1, 2))).tolist() == [1, 2, 3]


@pytest.mark.parametrize(("steps", "kernel", "dilation"), [(5, 3, 1), (6, 2, 3), (2, 4, 2)])
def test_the_convolution_to_second_order(steps: int, kernel: int, dilation: int) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for shape in [(steps, 2, 3), (kernel, 3, 2), (2,)]]
    tg.check_grads(lambda *xs: np.sin(tg.conv1d_causal(*xs, dilation=dilation)), *arrays, order=2)


def test_convolutions_that_do_not_fit_are_refused() -> None:
    x = tg.tensor(np.ones((4, 2, 3)))
    with pytest.raises(tg.ShapeError, match=r"conv1d_causal of \(4, 2, 3\) float64, \(2, 4, 3\) float64: .* x \(T, ..., I\)"):
        tg.conv1d_causal(x, np.ones((2, 4, 3)))
    with pytest.raises(ValueError, match="dilation is at least 1, got 0"):
        tg.conv1d_causal(x, np.ones((2, 3, 3)), dilation=0)


# ---- whole numbers and truth values -----------------------------------------------------------------------------------------

OF_NUMBERS = dict(sigmoid=tg.sigmoid, silu=tg.silu, softmax=tg.softmax, log_softmax=tg.log_softmax, logsumexp=tg.logsumexp)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint64", "int64", "bool"])
@pytest.mark.parametrize("name", OF_NUMBERS)
def test_whole_numbers_give_what_the_same_floating_ones_do(name, dtype):
    smallest = 0 if dtype == "bool" else np.iinfo(dtype).min if dtype != "int64" else -100
    x = np.array([smallest, 1, 0]).astype(dtype)
    found = OF_NUMBERS[name](x)
    assert found.dtype.kind == "f"
    np.testing.assert_allclose(found.data, OF_NUMBERS[name](x.astype(np.float64)).data, rtol=1e-3, atol=1e-6)


def test_a_very_common_maximum_shares_its_gradient_in_float16_too():
    x = tg.tensor(np.ones(70_000, np.float16), requires_grad=True)
    np.max(x).backward()
    np.testing.assert_allclose(x.grad.data, np.float16(1 / 70_000))
    assert x.grad.data.min() > 0
