"""What flows back through a layer, step by step: the parts of every weight's gradient, and its states' gradients."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import models
from tinygrad_seq.models import RNN
from tinygrad_seq.models.cells import parts_of

from .kinds import LENGTHS, B, H, I, T, built, every_layer, inputs, padded, weighted


@pytest.mark.parametrize("lengths", [None, LENGTHS[0], LENGTHS[3]], ids=str)
@every_layer
def test_the_parts_of_every_weights_gradient_add_up(kind, lengths):
    """A part for each of T steps, of the hoisted input projection too, and none outside of time."""
    layer = built(kind)
    x = inputs(layer, batch=4)
    outputs, state = layer(x if lengths is None else padded(x, layer, lengths), lengths=lengths)
    loss = weighted([outputs, *parts_of(state)])
    parts = {name: tg.bptt.weight_gradients(loss, parameter) for name, parameter in layer.named_parameters()}
    loss.backward()
    for name, parameter in layer.named_parameters():
        assert set(parts[name]) == set(range(T)), name
        np.testing.assert_allclose(sum(parts[name].values()), parameter.grad.data, rtol=0, atol=1e-11, err_msg=name)
        if lengths is not None:
            longest = max(lengths)
            assert not any(parts[name][t].any() for t in range(longest, T)), name


@pytest.mark.parametrize("lengths", [None, [3, 0, 2, T]], ids=str)
@every_layer
def test_all_that_flows_back_to_a_state_is_known(kind, lengths):
    """dL/dh<t>: what comes through the output of step t, and what comes through the next state; rows that have ended get none."""
    layer = built(kind)
    x = inputs(layer, batch=4)
    outputs, _, histories = layer(x if lengths is None else padded(x, layer, lengths), lengths=lengths, return_all=True)
    loss = weighted([outputs])
    for cell, history in zip(layer.cells, histories):
        states = history["h"]
        if type(cell).__name__ == "CountingCell" or not states[0].requires_grad:
            continue
        found = tg.bptt.state_gradients(loss, states)
        for t in range(T):
            assert found[t][np.array(lengths or [T] * 4) > t].any(axis=1).all(), t


@pytest.mark.parametrize("lengths", [None, [3, 0, 2, T]], ids=str)
@pytest.mark.parametrize("kind", ["Recurrent, gru", "Recurrent, lstm", "RNN batch first", "LSTM projected"])
def test_slices_of_outputs_stand_for_states(kind, lengths):
    layer = built(kind)
    outputs, _, histories = layer(inputs(layer, batch=4), lengths=lengths, return_all=True)
    slices = [outputs[:, t] if layer.batch_first else outputs[t] for t in range(T)]
    losses = [weighted([each]) for each in slices]
    states = histories[-1]["h"]
    assert (np.diag(tg.bptt.flow(losses, states)) > 0).all()
    np.testing.assert_array_equal(tg.bptt.flow(losses, slices), tg.bptt.flow(losses, states))
    np.testing.assert_array_equal(tg.bptt.flow(losses, outputs), tg.bptt.flow(losses, states))


def test_what_flows_through_a_step_is_that_steps():
    """The hoisted product's part at t is x<t>^T times what reached its row t."""
    layer, x = RNN(I, H).to(np.float64), np.random.default_rng(3).normal(size=(T, B, I))
    outputs, _, (history,) = layer(x, return_all=True)
    loss = weighted([outputs])
    parts = tg.bptt.weight_gradients(loss, layer.cells[0].W_x)
    states = tg.bptt.state_gradients(loss, history["h"])
    for t in range(T):
        expected = x[t].T @ (states[t] * (1 - history["h"][t].data ** 2))
        np.testing.assert_allclose(parts[t], expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("radius", "word"), [(0.5, "vanishes"), (1.0, "carries"), (1.5, "explodes")])
def test_a_linear_recurrent_layer_follows_the_powers_of_its_weight(radius, word):
    """Where no relu bends, dL<t>/dh<s> is W^(t-s), and the verdict is the measured rate's, with the bound beside it."""
    steps, layer = 8, RNN(1, H, nonlinearity="relu").to(np.float64)
    (cell,) = layer.cells
    W = radius * np.roll(np.eye(H), 1, axis=0)  # not symmetric, with a spectral radius that is no norm of an entry
    cell.W_h.overwrite(W), cell.W_x.overwrite(np.ones((1, H))), cell.b.overwrite(np.zeros(H))
    _, _, (history,) = layer(np.ones((steps, 1, 1)), return_all=True)
    states = history["h"]
    found = tg.bptt.flow([state[0, 0] for state in states], states)
    for t in range(steps):
        for s in range(t + 1):
            assert found[t, s] == pytest.approx(np.linalg.norm(np.linalg.matrix_power(W, t - s)[:, 0]), rel=1e-12)
    assert not np.triu(found, 1).any()
    told = tg.bptt.verdict(tg.bptt.jacobians(states), weight=cell.W_h)
    assert told.startswith(f"The gradient {word}: ×{radius:.3g} per step")
    assert f"Bound: the largest singular value of the weight is {radius:.3g}" in told


# ---- a piece of a longer sequence knows where it stands ---------------------------------------------------------------------


def language_model():
    return models.LanguageModel(5, 4, 6, cell="rnn"), np.random.default_rng(0).integers(0, 5, (7, 2))


def forecaster():
    return models.Forecaster(3, 6, cell="rnn"), np.random.default_rng(0).normal(size=(7, 2, 3)).astype(np.float32)


@pytest.mark.parametrize("made", [language_model, forecaster])
def test_windows_of_a_sequence_model_write_their_steps_as_those_of_the_whole(made):
    tg.manual_seed(0)
    model, x = made()
    with tg.record() as tape:
        for window in tg.bptt.Truncated(k1=3)(x[:-1], x[1:]):
            loss, state = model.loss(*window, state=window.state)
            loss.backward()
            window.carry(state)
    for t in range(6):
        parts = {part for entry in tape.at(t) for part in entry.scope.split("/")}
        assert {"rnn", "readout"} <= parts, t
        assert len(tape.at(t).find("readout")) == len(tape.at(0).find("readout"))
    assert not len(tape.at(6).find("readout"))


def test_a_forecaster_that_runs_freely_counts_from_where_its_state_was_carried_to():
    tg.manual_seed(0)
    model, x = forecaster()
    with tg.record() as tape:
        for window in tg.bptt.Truncated(k1=3)(x[:-1], x[1:]):
            _, state = model.loss(*window, state=window.state, teacher=0.0)
            window.carry(state)
    assert [len(tape.at(t).find("readout")) > 0 for t in range(7)] == [True] * 6 + [False]
