"""Stacks of cells: made by name, and run one step at a time as a layer runs them over all of time."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.models import GRU, LSTM, GRUCell, LanguageModel, LSTMCell, PeepholeLSTMCell, Recurrent
from tinygrad_seq.models.cells import parts_of
from tinygrad_seq.models.stacks import apart, one_step, output_size, recurrent, start, together, top_state

T, B, I, H = 4, 2, 3, 5


class Echo(tg.Module):
    """A user's own cell, whose output is another than its state."""

    def __init__(self, I, H):
        self.hidden_size = H
        self.W = tg.Parameter(tg.init.xavier_uniform((I, H)))

    def step(self, x, h):
        h = 0.5 * h + x @ self.W
        return np.tanh(3 * h), h


STACKS = {
    "rnn": lambda: recurrent("rnn", I, H),
    "lstm": lambda: recurrent("lstm", I, H, 2),
    "class of a layer": lambda: recurrent(GRU, I, H, 2),
    "class of a cell": lambda: recurrent(PeepholeLSTMCell, I, H, 2),
    "function": lambda: recurrent(lambda I, H: LSTMCell(I, H, proj_size=2), I, H),
    "layer": lambda: recurrent(Recurrent(GRUCell(I, H, reset_after=True)), 99, 99),
    "user's": lambda: recurrent(Echo, I, H, 2),
}


@pytest.mark.parametrize("kind", STACKS)
def test_one_step_after_the_other_is_the_layer(kind):
    tg.manual_seed(0)
    layer = STACKS[kind]().to(np.float64)
    x = np.random.default_rng(0).normal(size=(T, B, I))
    outputs, last = layer(x)
    states, stepped = start(layer, B), []
    with tg.record() as tape:
        for t in range(T):
            h, states = one_step(layer, x[t], states, t)
            stepped.append(h.data)
    np.testing.assert_allclose(stepped, outputs.data, rtol=0, atol=1e-13)
    for whole, part in zip(parts_of(last), parts_of(together(states))):
        assert whole.shape == part.shape
        np.testing.assert_allclose(part.data, whole.data, rtol=0, atol=1e-13)
    for one, other in zip(apart(last), states):
        for a, b in zip(parts_of(one), parts_of(other)):
            np.testing.assert_allclose(a.data, b.data, rtol=0, atol=1e-13)
    assert sorted({entry.t for entry in tape if entry.t is not None}) == list(range(T))
    assert {entry.tags["layer"] for entry in tape.at(2)} == set(range(len(layer.cells)))
    assert tape.find("h<2>") and output_size(layer, I) == outputs.shape[-1]


def test_dropout_is_between_layers_only():
    x, before = np.ones((B, I)), tg.random.get_state()
    single = recurrent("gru", I, H, 1, dropout=0.5)
    tg.random.set_state(before)
    one_step(single, x, start(single, B), 0)
    assert tg.random.get_state() == before
    tg.manual_seed(0)
    double = recurrent("gru", I, H, 2, dropout=0.5).to(np.float64)
    states = start(double, B)
    tg.manual_seed(1)
    found, _ = one_step(double, x, states, 0)
    tg.manual_seed(1)
    dropped = tg.dropout(double.cells[0](x, states[0]), 0.5)
    np.testing.assert_array_equal(found.data, double.cells[1](dropped, states[1]).data)
    double.eval()
    state = tg.random.get_state()
    one_step(double, x, states, 0)
    assert tg.random.get_state() == state


def test_the_state_of_an_only_cell_may_come_bare():
    layer = recurrent("lstm", I, H)
    (state,) = start(layer, B)
    for form in (state, together([state])):
        (found,) = apart(form)
        assert [part.shape for part in parts_of(found)] == [(B, H)] * 2


@pytest.mark.parametrize("layer", [GRU(I, H, 2, bidirectional=True), LSTM(I, H, 2), LSTM(I, H, proj_size=2)])
def test_the_top_state_is_the_output_of_each_direction_at_its_end(layer):
    outputs, state = layer(np.random.default_rng(0).normal(size=(T, B, I)))
    found = top_state(layer, state).data
    size = outputs.shape[-1] // layer.directions
    np.testing.assert_array_equal(found[:, :size], outputs.data[-1, :, :size])
    np.testing.assert_array_equal(found[:, size:], outputs.data[0, :, size:])


def test_nothing_is_noticed_of_trying_a_layer_out():
    layer, before = GRU(I, H, input_dropout=0.5), tg.random.get_state()
    assert output_size(layer, I) == H and tg.random.get_state() == before


def test_a_users_cell_is_stepped_as_it_is_trained():
    tg.manual_seed(0)
    model = LanguageModel(5, I, H, cell=Echo).to(np.float64)
    prompt = np.array([[1, 2], [3, 0], [4, 4]])
    written = model.generate(prompt, 6, temperature=0)
    whole = np.concatenate([prompt, np.array(written).T])
    np.testing.assert_array_equal(model.predict(whole[:-1])[2:], whole[3:])
