"""Weights to and from Keras's lists, against Keras's equations written in NumPy (`keras_by_hand.py`)."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import interop
from tinygrad_seq.models import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    GRUCell,
    LayerNormLSTMCell,
    Linear,
    LSTMCell,
    Recurrent,
    RNNCell,
    SimplifiedGRUCell,
)

from . import keras_by_hand as keras

T, B, I, H = 5, 2, 3, 4

LAYERS = {  # ours, Keras's step, and the shapes of its list
    "SimpleRNN": (lambda **kw: RNN(I, H, **kw), keras.simple_rnn, [(I, H), (H, H), (H,)]),
    "LSTM": (lambda **kw: LSTM(I, H, **kw), keras.lstm, [(I, 4 * H), (H, 4 * H), (4 * H,)]),
    "GRU": (lambda **kw: GRU(I, H, reset_after=True, **kw), keras.gru_reset_after, [(I, 3 * H), (H, 3 * H), (2, 3 * H)]),
    "GRU reset before": (lambda **kw: GRU(I, H, **kw), keras.gru, [(I, 3 * H), (H, 3 * H), (3 * H,)]),
}
CELLS = {
    "SimpleRNN": lambda: RNNCell(I, H),
    "LSTM": lambda: LSTMCell(I, H),
    "GRU": lambda: GRUCell(I, H, reset_after=True),
    "GRU reset before": lambda: GRUCell(I, H),
}
every_kind = pytest.mark.parametrize("kind", LAYERS)


def drawn(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


def x_of(features=I, seed=1):
    return np.random.default_rng(seed).normal(size=(T, B, features))


def parts(state):
    return state if isinstance(state, tuple) else (state,)


def close(found, expected):
    np.testing.assert_allclose(found.data, expected, rtol=0, atol=1e-12)


# ---- the numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@every_kind
def test_a_layer_with_kerass_weights_gives_kerass_answers(kind, bias):
    make, step, shapes = LAYERS[kind]
    weights = drawn(shapes if bias else shapes[:2])
    layer = interop.load_keras(make(bias=bias).to(np.float64), weights)
    outputs, state = layer(x_of())
    expected, last = keras.run(step, weights, x_of())
    close(outputs, expected)
    for found, part in zip(parts(state), last):
        close(found, part[None])


@every_kind
def test_both_directions_are_in_one_list_forward_first(kind):
    make, step, shapes = LAYERS[kind]
    weights = drawn(shapes * 2)
    named = make(bidirectional=True).to(np.float64)
    wrapped = Bidirectional(CELLS[kind]()).to(np.float64)
    for layer in named, wrapped:
        close(interop.load_keras(layer, weights)(x_of())[0], keras.bidirectional(step, weights, x_of()))
        assert all((a == b).all() for a, b in zip(interop.to_keras(layer), interop.to_keras(named)))


@every_kind
def test_layers_on_top_of_each_other_follow_each_other_in_the_list(kind):
    make, step, shapes = LAYERS[kind]
    above = [(H, shapes[0][1]), *shapes[1:]]
    weights = drawn([*shapes, *above])
    layer = interop.load_keras(make(num_layers=2).to(np.float64), weights)
    low, _ = keras.run(step, weights[:3], x_of())
    close(layer(x_of())[0], keras.run(step, weights[3:], low)[0])


@every_kind
def test_a_cell_and_recurrent_have_the_list_of_the_layer(kind):
    _, step, shapes = LAYERS[kind]
    weights = drawn(shapes)
    cell = interop.load_keras(CELLS[kind]().to(np.float64), weights)
    close(Recurrent(cell)(x_of())[0], keras.run(step, weights, x_of())[0])
    other = interop.load_keras(Recurrent(CELLS[kind](), reverse=True).to(np.float64), weights)
    close(other(x_of())[0], keras.run(step, weights, x_of(), backwards=True)[0])


@pytest.mark.parametrize("both", [False, True])
@every_kind
def test_there_and_back_is_the_same_layer_to_the_bit(kind, both):
    make, _, _ = LAYERS[kind]
    layer, other = make(bidirectional=both, num_layers=2), make(bidirectional=both, num_layers=2)
    for parameter, seed in zip(layer.parameters(), range(100)):
        parameter.overwrite(np.random.default_rng(seed).normal(size=parameter.shape).astype(np.float32))
    assert interop.load_keras(other, interop.to_keras(layer)) is other
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array, err_msg=name)
    assert all(array.dtype == np.float32 for array in interop.to_keras(layer))


@every_kind
def test_what_keras_gets_computes_the_same(kind):
    make, step, shapes = LAYERS[kind]
    layer = make().to(np.float64)
    for parameter in layer.parameters():
        parameter.overwrite(np.random.default_rng(parameter.size).normal(size=parameter.shape))
    weights = interop.to_keras(layer)
    assert [array.shape for array in weights] == shapes
    close(layer(x_of())[0], keras.run(step, weights, x_of())[0])


def test_the_gates_go_where_keras_has_them():
    cell = LSTMCell(1, 1)
    cell.W_x.overwrite([[1, 2, 3, 4]])  # u, f, o, candidate
    np.testing.assert_array_equal(interop.to_keras(cell)[0], [[1, 2, 4, 3]])  # i, f, c, o
    cell = GRUCell(1, 1, reset_after=True)
    cell.W_x.overwrite([[1, 2, 3]])  # u, r, candidate
    cell.b.overwrite([1, 2, 3])
    cell.b_h.overwrite([4])
    np.testing.assert_array_equal(interop.to_keras(cell)[0], [[-1, 2, 3]])  # z = 1 - u, r, h
    np.testing.assert_array_equal(interop.to_keras(cell)[2], [[-1, 2, 3], [0, 0, 4]])


def test_the_rows_of_a_grus_bias_become_their_sum_but_for_the_candidate():
    weights = [np.zeros((1, 3)), np.zeros((1, 3)), [[1.0, 2, 3], [10.0, 20, 30]]]
    cell = interop.load_keras(GRUCell(1, 1, reset_after=True), weights)
    np.testing.assert_array_equal(cell.b.data, [-11, 22, 3])
    np.testing.assert_array_equal(cell.b_h.data, [30])


def test_what_goes_out_is_no_view_and_what_comes_in_is_cast():
    layer = GRU(I, H, reset_after=True)
    before = layer.state_dict()
    for array in interop.to_keras(layer):
        array += 1
    assert all((layer.state_dict()[name] == array).all() for name, array in before.items())
    kernel, recurrent, bias = drawn(LAYERS["GRU"][2])
    interop.load_keras(layer, [tg.tensor(kernel), recurrent.astype(np.float16), bias.tolist()])
    assert {parameter.dtype for parameter in layer.parameters()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(interop.to_keras(layer)[0], kernel, rtol=1e-6)
    interop.load_keras(layer, tuple(np.round(array * 9).astype(np.int8) for array in (kernel, recurrent, bias)))
    np.testing.assert_array_equal(interop.to_keras(layer)[0], np.round(kernel * 9))


# ---- what is refused ------------------------------------------------------------------------------------------------------


def wrong(kind):
    """(weights, what is said of them) for lists that are wrong in one place, the last one where that is possible."""
    shapes = LAYERS[kind][2]
    good = drawn(shapes, seed=5)
    last = f"bias: shape {(*shapes[2], 1)} instead of {shapes[2]}".replace("(", r"\(").replace(")", r"\)")
    yield [*good[:2], good[2][..., None]], last
    yield good[:2], r"2 arrays of Keras's do not fit .*, which takes 3: kernel \(3, .*\), recurrent_kernel \(4, .*\), bias \("
    yield [*good, good[2]], "4 arrays of Keras's do not fit"
    yield [good[1], good[0], good[2]], r"kernel: shape \(4, .*\n  recurrent_kernel: shape \(3, "
    yield [*good[:2], np.full(shapes[2], "x")], "bias: tensors hold numbers and truth values, not <U1"
    yield [*good[:2], good[2] * 1j], "bias: tensors hold numbers and truth values, not complex128"
    yield [*good[:2], None], "bias: "


@every_kind
def test_what_does_not_fit_is_refused_by_name_and_changes_nothing(kind):
    layer = LAYERS[kind][0]()
    before = layer.state_dict()
    for weights, message in wrong(kind):
        with pytest.raises(ValueError, match=message):
            interop.load_keras(layer, weights)
        assert all((layer.state_dict()[name] == array).all() for name, array in before.items())


def test_of_several_cells_the_one_is_named():
    layer = GRU(I, H, num_layers=2, bidirectional=True, reset_after=True)
    weights, before = interop.to_keras(layer), layer.state_dict()
    weights[-1] = weights[-1][0]
    hint = r"layer 1 backward bias: shape \(12,\) instead of \(2, 12\)\n  Keras's GRU has a bias \(2, 3H\) with reset_after=True"
    with pytest.raises(ValueError, match=hint):
        interop.load_keras(layer, weights)
    assert all((layer.state_dict()[name] == array).all() for name, array in before.items())
    both = Bidirectional(LSTMCell(I, H))
    with pytest.raises(ValueError, match=r"6: forward kernel .*, forward bias .*, backward kernel"):
        interop.load_keras(both, [])


def test_what_is_no_list_is_refused():
    layer = LSTM(I, H)
    for weights in ({"kernel": np.zeros((I, 16))}, np.zeros((3, 4)), "kernel", None, 3):
        with pytest.raises(TypeError, match="a list of arrays, as get_weights"):
            interop.load_keras(layer, weights)


def test_what_keras_lacks_is_refused():
    for layer, name in (
        (SimplifiedGRUCell(I, H), "SimplifiedGRUCell"),
        (Recurrent(LayerNormLSTMCell(I, H)), "LayerNormLSTMCell"),
        (Linear(I, H), "Linear"),
    ):
        with pytest.raises(TypeError, match=f"no counterpart of {name}"):
            interop.to_keras(layer)
    with pytest.raises(TypeError, match="no proj_size"):
        interop.to_keras(LSTM(I, H, proj_size=2))
