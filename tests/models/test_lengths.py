"""Padding is invisible: in every layer, with lengths of 0, 1, T and mixed, and with NaN in the padding.

That it is as PyTorch has it, with packed sequences, is in `test_recorded_layers.py` and `tests/oracle`.
"""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.models import GRU, LSTM, Bidirectional, LSTMCell, Recurrent
from tinygrad_seq.models.cells import parts_of

from .cases import weights_like
from .kinds import LENGTHS, B, H, I, T, all_lengths, beyond, built, every_layer, gradients, inputs, padded, weighted


def initial_states(layer, batch):
    """Leaves of a layer's state for so many rows."""
    shapes = [part.shape for part in parts_of(layer(inputs(layer, batch))[1])]
    rng = np.random.default_rng(2)
    return [tg.tensor(rng.normal(size=shape), requires_grad=True) for shape in shapes]


def as_state(parts):
    return tuple(parts) if len(parts) > 1 else parts[0]


def same(found, expected, name=""):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11, err_msg=name)


@all_lengths
@every_layer
def test_a_row_is_what_it_would_be_alone(kind, lengths):
    """Padded with NaN and beside other rows, or alone and unpadded: the same outputs, states and gradients."""
    layer = built(kind)
    batch_axis, time_axis = (0, 1) if layer.batch_first else (1, 0)
    padding = beyond(layer, lengths)

    def of_row(array, b, n):
        return np.take(np.take(array, [b], batch_axis), range(n), time_axis)

    x = tg.tensor(padded(inputs(layer, batch=4), layer, lengths), requires_grad=True)
    initial = initial_states(layer, batch=4)
    outputs, state = layer(x, as_state(initial), lengths=lengths)
    results = [outputs, *parts_of(state)]
    weighted(results).backward()
    together = gradients(layer)
    assert not outputs.data[padding].any()
    assert not x.grad.data[padding].any()

    layer.zero_grad()
    for b, n in enumerate(lengths):
        weights = [weights_like(result.data) for result in results]
        weights = [of_row(weights[0], b, n), *(each[:, b : b + 1] for each in weights[1:])]
        if n == 0:  # no layer runs over no steps: the state stays, and its gradient passes
            for given, last, weight in zip(initial, parts_of(state), weights[1:]):
                np.testing.assert_array_equal(last.data[:, b], given.data[:, b])
                np.testing.assert_array_equal(given.grad.data[:, b : b + 1], weight)
            continue
        x_alone = tg.tensor(of_row(x.data, b, n), requires_grad=True)
        given = [tg.tensor(part.data[:, b : b + 1], requires_grad=True) for part in initial]
        y, last = layer(x_alone, as_state(given))
        same(y.data, of_row(outputs.data, b, n))
        for alone, part in zip(parts_of(last), parts_of(state)):
            same(alone.data, part.data[:, b : b + 1])
        sum((part * w).sum() for part, w in zip((y, *parts_of(last)), weights)).backward()
        same(x_alone.grad.data, of_row(x.grad.data, b, n))
        for alone, part in zip(given, initial):
            same(alone.grad.data, part.grad.data[:, b : b + 1])
    for name, found in together.items():
        parameter = dict(layer.named_parameters())[name]
        same(found, np.zeros(found.shape) if parameter.grad is None else parameter.grad.data, name)


@pytest.mark.parametrize("lengths", [LENGTHS[0], LENGTHS[3]], ids=str)
@every_layer
def test_a_gradient_from_padding_goes_nowhere(kind, lengths):
    """Not even NaN, as a loss gives it that divides by what is not there."""
    layer = built(kind)
    x = tg.tensor(padded(inputs(layer, batch=4), layer, lengths), requires_grad=True)
    outputs, _ = layer(x, lengths=lengths)
    outputs.backward(np.where(beyond(layer, lengths)[:, :, None], np.nan, weights_like(outputs.data)))
    expected = [x.grad.data, *gradients(layer).values()]
    assert all(np.isfinite(array).all() for array in expected)
    x.zero_grad(), layer.zero_grad()
    weighted([layer(x, lengths=lengths)[0]]).backward()
    for found, array in zip([x.grad.data, *gradients(layer).values()], expected):
        np.testing.assert_allclose(found, array, rtol=1e-13, atol=1e-15)


@every_layer
def test_derivatives_with_lengths(kind):
    """First and second order, by inputs and states, and forward; rows of all, no and one step, NaN in the padding."""
    layer, lengths = built(kind), (3, 0, 1)
    x, state = inputs(layer, batch=3, steps=3), as_state([part.data for part in initial_states(layer, batch=3)])

    def f(x, state):
        padding = beyond(layer, lengths, steps=3)[:, :, None]
        return layer(tg.where(padding, np.nan, x), state, lengths=lengths)

    tg.check_grads(f, x, state, order=2)
    _, moved = tg.jvp(f, (x, state), (np.ones_like(x), state))
    assert all(np.isfinite(part.data).all() for part in (moved[0], *parts_of(moved[1])))


@all_lengths
def test_dropout_lets_no_padding_through(lengths):
    for layer in (
        LSTM(I, H, num_layers=2, bidirectional=True, dropout=0.5, input_dropout=0.5, state_dropout=0.5),
        Bidirectional(LSTMCell(I, H), None, input_dropout=0.5, state_dropout=0.5),
    ):
        x = tg.tensor(padded(inputs(layer, batch=4), layer, lengths), requires_grad=True)
        outputs, state = layer(x, lengths=lengths)
        weighted([*parts_of(outputs), *parts_of(state)]).backward()
        padding = beyond(layer, lengths)
        for side in parts_of(outputs):
            assert not side.data[padding].any()
        assert not x.grad.data[padding].any()
        assert all(np.isfinite(array).all() for array in [x.grad.data, *gradients(layer).values()])


@all_lengths
def test_all_that_is_returned_of_padding_is_finite(lengths):
    layer = GRU(I, H, num_layers=2, bidirectional=True)
    _, state, history = layer(padded(inputs(layer, batch=4), layer, lengths), lengths=lengths, return_all=True)
    for cell, of_cell in enumerate(history):
        assert all(np.isfinite(value.data).all() for values in of_cell.values() for value in values)
        last = of_cell["h"][0 if cell % 2 else T - 1]  # a state stays what it was behind a row's end
        np.testing.assert_array_equal(last.data, state.data[cell])


@pytest.mark.parametrize("lengths", [LENGTHS[3], [*LENGTHS[3]], np.array(LENGTHS[3], np.uint8), tg.tensor(LENGTHS[3])], ids=repr)
def test_lengths_may_be_any_integers(lengths):
    layer = Recurrent(LSTMCell(I, H))
    x = inputs(layer, batch=4)
    expected = layer(x, lengths=np.array(LENGTHS[3]))[0].data
    np.testing.assert_array_equal(layer(padded(x, layer, LENGTHS[3]), lengths=lengths)[0].data, expected)


def test_lengths_of_t_are_no_lengths():
    layer = built("LSTM")
    x = inputs(layer)
    for a, b in zip(parts_of(layer(x, lengths=[T] * B)[1]), parts_of(layer(x)[1])):
        np.testing.assert_array_equal(a.data, b.data)
