"""Layers without a memory: Linear, Embedding, Dropout, LayerNorm, CausalConv1d."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import models
from tinygrad_seq.models import GRU, CausalConv1d, Dropout, Embedding, LayerNorm, Linear

T, B, I, O = 7, 2, 3, 4


def x_of(*shape):
    return np.random.default_rng(0).normal(size=shape)


def test_linear_is_a_product_and_a_sum():
    layer = Linear(I, O).to(np.float64)
    layer.b.overwrite(np.arange(O))
    for shape in [(I,), (B, I), (T, B, I)]:
        np.testing.assert_allclose(layer(x_of(*shape)).data, x_of(*shape) @ layer.W.data + np.arange(O), rtol=1e-12)
    assert [name for name, _ in Linear(I, O, bias=False).named_parameters()] == ["W"]


def test_embedding_looks_rows_up_and_spares_the_padding():
    layer = Embedding(5, O, padding_index=2)
    assert not layer.W.data[2].any()
    tokens = np.array([[0, 2, 4], [4, 4, 2]])
    y = layer(tokens)
    np.testing.assert_array_equal(y.data, layer.W.data[tokens])
    y.sum().backward()
    np.testing.assert_array_equal(layer.W.grad.data[:, 0], [1, 0, 0, 0, 3])
    with pytest.raises(IndexError, match="token 5 is outside of 0 to 4"):
        layer([5])
    with pytest.raises(TypeError, match="tokens are integers"):
        layer([1.5])
    with pytest.raises(IndexError, match="padding_index 5"):
        Embedding(5, O, padding_index=5)


def test_the_padding_may_be_called_as_in_pytorch():
    tg.manual_seed(0)
    ours, theirs = Embedding(5, O, 2), Embedding(5, O, padding_idx=2)
    assert ours.padding_index == theirs.padding_index == 2 and not theirs.W.data[2].any()


def test_dropout_is_for_training():
    layer, x = Dropout(0.25), np.ones((100, 100))
    y = layer(x).data
    assert set(np.unique(y)) == {0, 4 / 3}
    assert y.mean() == pytest.approx(1, abs=0.05)
    np.testing.assert_array_equal(layer.eval()(x).data, x)
    with pytest.raises(ValueError, match=r"p=1\.5"):
        Dropout(1.5)


def test_layer_norm_normalises_each_row():
    layer, x = LayerNorm(I).to(np.float64), x_of(T, B, I)
    layer.weight.overwrite([1, 2, 3])
    layer.bias.overwrite([4, 5, 6])
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * [1, 2, 3] + [4, 5, 6]
    np.testing.assert_allclose(layer(x).data, expected, rtol=1e-10)


@pytest.mark.parametrize("dilation", [1, 2])
def test_a_kernel_of_k_sees_k_steps_and_a_recurrent_layer_all(dilation):
    """The document's contrast: which inputs reach the last output."""
    K = 3
    conv, recurrent = CausalConv1d(I, O, K, dilation=dilation), GRU(I, O)

    def steps_seen(layer):
        x = tg.tensor(x_of(T, B, I), requires_grad=True)
        y = layer(x)
        (y[0] if isinstance(y, tuple) else y)[T - 1].sum().backward()
        return [t for t in range(T) if x.grad.data[t].any()]

    assert steps_seen(conv) == [T - 1 - k * dilation for k in reversed(range(K))]
    assert steps_seen(recurrent) == list(range(T))


def test_a_convolution_may_have_the_batch_first():
    conv, x = CausalConv1d(I, O, 2, batch_first=True), x_of(B, T, I)
    conv.b.overwrite(np.arange(O))
    y = conv(x)
    conv.batch_first = False
    np.testing.assert_allclose(y.data, np.swapaxes(conv(np.swapaxes(x, 0, 1)).data, 0, 1), rtol=1e-6)
    np.testing.assert_allclose(y.data[:, 0], x[:, 0] @ conv.W.data[1] + np.arange(O), rtol=1e-6)
    with pytest.raises(ValueError, match="at least 1"):
        CausalConv1d(I, O, 0)


@pytest.mark.parametrize("make", [
    lambda: Linear(0, O), lambda: Linear(I, -1), lambda: Embedding(0, O), lambda: Embedding(5, 0), lambda: LayerNorm(0),
    lambda: CausalConv1d(0, O, 2), lambda: CausalConv1d(I, 0, 2), lambda: CausalConv1d(I, O, 2, dilation=0),
])  # fmt: skip
def test_sizes_below_one_are_refused(make):
    with pytest.raises(ValueError, match=r"(Linear|Embedding|LayerNorm|CausalConv1d) needs a \w+ of at least 1, got (0|-1)"):
        make()


@pytest.mark.parametrize("layer", [Linear(I, O), LayerNorm(I), CausalConv1d(I, O, 2)], ids=lambda layer: type(layer).__name__)
def test_other_features_are_refused(layer):
    with pytest.raises(tg.ShapeError, match=rf"{type(layer).__name__} takes x of shape \(..., 3\), got \(2, 4\)"):
        layer(x_of(2, 4))
    with pytest.raises(tg.ShapeError):
        layer(1.0)


@pytest.mark.parametrize("layer", [Linear(I, O), LayerNorm(I), CausalConv1d(I, O, 2)], ids=lambda layer: type(layer).__name__)
def test_derivatives(layer):
    layer.to(np.float64)
    tg.check_grads(layer, x_of(4, B, I), order=2)


def test_the_offered_names_are_these():
    offered = (
        "RNNCell, OutputRNNCell, GRUCell, SimplifiedGRUCell, LSTMCell, PeepholeLSTMCell, CoupledLSTMCell, LayerNormLSTMCell, "
        "RNN, GRU, LSTM, Recurrent, Bidirectional, Linear, Embedding, Dropout, LayerNorm, CausalConv1d"
    )
    assert set(offered.split(", ")) <= set(models.__all__)
    assert all(hasattr(models, name) for name in models.__all__)
