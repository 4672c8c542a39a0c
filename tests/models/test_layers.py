"""Layers: unrolling, directions, dropout, and what the tape says of them.

Lengths are in `test_lengths.py`, users' cells in `test_own_cell.py`, bad input in `test_layers_refuse.py`.
"""

import gc
from copy import deepcopy
from weakref import ref

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.models import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    GRUCell,
    LSTMCell,
    OutputRNNCell,
    Recurrent,
    RNNCell,
)
from tinygrad_seq.models.cells import parts_of

from .kinds import CELLS, LAYERS, B, H, I, LeakyCell, T, built, every_layer, inputs, make

# ---- the loop -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CELLS)
def test_a_layer_is_its_cell_step_by_step(kind):
    cell, x = make(kind), np.random.default_rng(0).normal(size=(T, B, I))
    outputs, last = Recurrent(cell)(x)
    state, by_step = None, []
    for t in range(T):
        state = cell(x[t], state)
        by_step.append(parts_of(state)[0].data)
    np.testing.assert_allclose(outputs.data, by_step, rtol=0, atol=1e-13)
    for whole, part in zip(parts_of(last), parts_of(state)):
        np.testing.assert_allclose(whole.data, part.data[None], rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", [kind for kind in LAYERS if not (built(kind).reverse or built(kind).directions > 1)])
def test_states_carry_a_layer_on(kind):
    """One half after the other is the whole: nothing is hidden on the layer."""
    layer = built(kind)
    x = inputs(layer)
    time = 1 if layer.batch_first else 0
    early, late = np.split(x, [2], axis=time)
    first, state = layer(early)
    second, state = layer(late, state)
    whole, last = layer(x)
    np.testing.assert_allclose(np.concatenate([first.data, second.data], time), whole.data, rtol=0, atol=1e-13)
    for a, b in zip(parts_of(state), parts_of(last)):
        np.testing.assert_allclose(a.data, b.data, rtol=0, atol=1e-13)


def test_the_backward_direction_is_the_forward_one_in_reversed_time():
    cell, x = make("lstm"), np.random.default_rng(1).normal(size=(T, B, I))
    outputs, state = Recurrent(cell, reverse=True)(x)
    mirrored, same = Recurrent(cell)(x[::-1])
    np.testing.assert_array_equal(outputs.data, mirrored.data[::-1])
    np.testing.assert_array_equal(state[1].data, same[1].data)


def test_the_input_projection_is_one_product_over_all_of_time():
    layer = LSTM(I, H, num_layers=2)
    with tg.record() as tape:
        layer(inputs(layer).astype(np.float32))
    products = [entry for entry in tape.find("matmul") if entry.t is None]
    assert [entry.shape for entry in products] == [(T, B, 4 * H)] * 2
    assert all(entry.node.scope.time_axis == 0 for entry in products)
    assert len(tape.find("matmul")) == 2 + 2 * T


@every_layer
def test_nothing_is_left_behind_on_a_layer(kind):
    layer = built(kind)
    before = [{name: id(value) for name, value in vars(part).items()} for part in layer.modules()]
    layer(inputs(layer), lengths=[2, T])
    assert [{name: id(value) for name, value in vars(part).items()} for part in layer.modules()] == before


def test_dropping_the_loss_frees_the_graph_at_once():
    layer = LSTM(I, H, num_layers=2, bidirectional=True)
    outputs, _ = layer(inputs(layer), lengths=[2, T])
    node = ref(outputs.node)
    gc.disable()
    try:
        del outputs, _
        assert node() is None
    finally:
        gc.enable()


# ---- what the tape says ---------------------------------------------------------------------------------------------------


def test_scopes_say_layer_direction_and_real_time():
    layer = LSTM(I, H, num_layers=2, bidirectional=True)
    with tg.record() as tape:
        layer(inputs(layer), lengths=[2, T])
    assert sorted({entry.t for entry in tape if entry.t is not None}) == list(range(T))
    by_step = [[entry for entry in tape.at(t) if entry.node.scope.t == t] for t in range(T)]  # without those over all of time
    found = {(entry.tags["layer"], entry.tags["direction"]) for entry in by_step[3]}
    assert found == {(layer, direction) for layer in (0, 1) for direction in ("forward", "backward")}
    for t, entries in enumerate(by_step):
        for entry in entries:
            np.testing.assert_array_equal(entry.tags["valid"], [t < 2, t < T])
    backward = [entry.name for entry in tape if entry.tags.get("direction") == "backward" and entry.t is not None]
    assert [name for name in backward if name and name[0] == "h"] == ["h<4>", "h<3>", "h<2>", "h<1>", "h<0>"] * 2


def test_states_are_named_by_their_step():
    with tg.record() as tape:
        LSTM(I, H)(np.ones((3, B, I)))
        Recurrent(LeakyCell(I, H))(np.ones((3, B, I)))
    for name, t in {"h<init>": None, "c<init>": None, "h<0>": 0, "c<2>": 2}.items():
        assert {entry.t for entry in tape.find(name)} == {t}
    assert len(tape.find("h<2>")) == 2


def test_all_states_and_gates_can_be_had():
    layer, x = LSTM(I, H, num_layers=2, bidirectional=True), np.random.default_rng(5).normal(size=(T, B, I))
    outputs, (h, c), history = layer(x, return_all=True)
    assert [set(of_cell) for of_cell in history] == [{"u", "f", "o", "candidate", "h", "c"}] * 4
    top = [of_cell["h"] for of_cell in history[2:]]
    for t in range(T):
        np.testing.assert_array_equal(outputs.data[t], np.concatenate([top[0][t].data, top[1][t].data], axis=1))
    np.testing.assert_array_equal(h.data[3], history[3]["h"][0].data)  # the backward direction ends at the start
    np.testing.assert_array_equal(c.data[0], history[0]["c"][T - 1].data)
    u, k, f = (history[0][name][2].data for name in ("u", "candidate", "f"))
    np.testing.assert_allclose(history[0]["c"][2].data, u * k + f * history[0]["c"][1].data, rtol=1e-6)


# ---- two directions -------------------------------------------------------------------------------------------------------


def test_two_directions_are_merged_as_told():
    cell, other = make("gru"), make("gru", seed=1)
    x, lengths = np.random.default_rng(8).normal(size=(T, B, I)), [T, 3]
    forward, backward = (Recurrent(c, reverse=r)(x, lengths=lengths)[0].data for c, r in ((cell, False), (other, True)))
    expected = {
        "concat": np.concatenate([forward, backward], axis=2),
        "sum": forward + backward,
        "mul": forward * backward,
        "ave": (forward + backward) / 2,
    }
    for merge, outputs in expected.items():
        np.testing.assert_allclose(Bidirectional(cell, merge, backward=other)(x, lengths=lengths)[0].data, outputs, rtol=1e-14)
    (one, two), state = Bidirectional(cell, None, backward=other, batch_first=True)(np.swapaxes(x, 0, 1), lengths=lengths)
    np.testing.assert_array_equal(np.swapaxes(one.data, 0, 1), forward)
    np.testing.assert_array_equal(np.swapaxes(two.data, 0, 1), backward)
    assert state.shape == (2, B, H)
    larger = Bidirectional(cell, np.maximum, backward=other)(x)[0]
    assert larger.shape == (T, B, H)
    with pytest.raises(ValueError, match="merge is one of"):
        Bidirectional(cell, "multiply")


def test_the_second_cell_is_a_copy_with_weights_of_its_own():
    cell = make("lstm")
    before = cell.state_dict()
    both = Bidirectional(cell)
    assert both.cells[0] is cell
    assert (both.cells[1].W_h.data != cell.W_h.data).any()
    assert all((cell.state_dict()[name] == array).all() for name, array in before.items())
    assert len(list(both.parameters())) == 2 * len(before)


# ---- dropout --------------------------------------------------------------------------------------------------------------


def test_dropout_between_layers_is_for_training_and_not_after_the_last():
    layer, x = RNN(I, H, num_layers=2, dropout=1.0), np.ones((T, B, I))
    with tg.record() as tape:
        outputs, _ = layer(x)
    assert len(tape.find("dropout", t=None)) > 0
    no_input, _ = Recurrent(layer.cells[1])(np.zeros((T, B, H)))
    np.testing.assert_allclose(outputs.data, no_input.data, atol=1e-6)
    kept, _ = layer.eval()(x)
    assert np.abs(kept.data - outputs.data).max() > 1e-3
    single = RNN(I, H, dropout=1.0)
    np.testing.assert_array_equal(single(x)[0].data, single.eval()(x)[0].data)  # no layer before, none after


def test_variational_dropout_draws_one_mask_for_all_steps():
    cell = RNNCell(I, H)
    cell.W_h.overwrite(np.zeros((H, H)))
    layer = Recurrent(cell, input_dropout=0.5)
    tg.manual_seed(3)
    outputs, _ = layer(np.ones((T, 40, I)))
    assert (outputs.data == outputs.data[0]).all()  # the same input through the same mask
    assert len(np.unique(outputs.data[0].round(5), axis=0)) > 4  # and another one for each row
    assert (layer.eval()(np.ones((T, 40, I)))[0].data[0, :, 0] == layer(np.ones((1, 1, I)))[0].data[0, 0, 0]).all()


@pytest.mark.parametrize("kind", CELLS)
def test_state_dropout_hides_the_state_from_products_only(kind):
    """With all of the state dropped, each step's products see the input alone, and what is carried is carried."""
    cell, x = make(kind), np.random.default_rng(9).normal(size=(T, B, I))
    blind = deepcopy(cell)
    blind.W_h.overwrite(np.zeros(blind.W_h.shape))
    dropped, _ = Recurrent(cell, state_dropout=1.0)(x)
    np.testing.assert_allclose(dropped.data, Recurrent(blind)(x)[0].data, rtol=0, atol=1e-12)


def test_a_state_mask_stays_for_the_sequence():
    cell = make("rnn")
    tg.manual_seed(4)
    with tg.record() as tape:
        Recurrent(cell, state_dropout=0.5)(np.random.default_rng(10).normal(size=(T, 20, I)))
    products = [tape.find("multiply", t=t)[0] for t in range(T)]
    masks = [tape.whole[entry.inputs[1]].value for entry in products]
    assert all(mask is masks[0] or (mask == masks[0]).all() for mask in masks)
    assert set(np.unique(masks[0])) == {0.0, 2.0}


# ---- small things ---------------------------------------------------------------------------------------------------------


def test_arguments_stand_where_pytorch_has_them():
    assert LSTM(I, H, 2, False, True, 0.0, True, 2)(np.ones((B, T, I)))[0].shape == (B, T, 4)
    assert GRU(I, H, 2, False, True, 0.0, True)(np.ones((B, T, I)))[0].shape == (B, T, 2 * H)
    assert RNN(I, H, 2, "relu", False, True, 0.0, True)(np.ones((B, T, I)))[0].shape == (B, T, 2 * H)


def test_the_only_cells_state_needs_no_axis_of_layers():
    cell, x, h = make("gru"), np.ones((T, B, I)), np.random.default_rng(11).normal(size=(B, H))
    np.testing.assert_array_equal(Recurrent(cell)(x, h)[0].data, Recurrent(cell)(x, h[None])[0].data)


@pytest.mark.parametrize("state", [lambda h: h.tolist(), lambda h: h[None].tolist(), lambda h: (h,), lambda h: [h[None]]])
def test_a_state_may_be_written_out(state):
    layer, x, h = built("GRU reset after"), np.ones((T, B, I)), np.random.default_rng(11).normal(size=(B, H))
    np.testing.assert_allclose(layer(x, state(h))[0].data, layer(x, h)[0].data, rtol=0, atol=1e-5)  # Python's are float32


def test_the_output_cells_state_is_its_last_output():
    outputs, state = Recurrent(OutputRNNCell(I, 6, H))(np.ones((T, B, I)))
    np.testing.assert_array_equal(outputs.data[-1], state.data[0])
    np.testing.assert_allclose(outputs.data.sum(axis=2), 1, rtol=1e-5)


def test_float32_stays_float32_and_has_forward_derivatives():
    layer, x = LSTM(I, H, num_layers=2), np.random.default_rng(12).normal(size=(T, B, I)).astype(np.float32)
    assert layer(x)[0].dtype == np.float32
    _, (dy, _) = tg.jvp(lambda x: layer(x), (x,), (np.ones_like(x),))
    exact = deepcopy(layer).to(np.float64)
    step, x = 1e-6, x.astype(np.float64)
    expected = (exact(x + step)[0].data - exact(x - step)[0].data) / (2 * step)
    assert dy.dtype == np.float32
    np.testing.assert_allclose(dy.data, expected, rtol=1e-3, atol=1e-5)


def test_without_gradients_nothing_is_taped():
    with tg.no_grad():
        outputs, state = GRU(I, H)(np.ones((T, B, I)), lengths=[T, 1])
    assert not outputs.requires_grad
    assert not state.requires_grad


def test_a_cells_name_is_the_scope_of_its_steps():
    class Cell(GRUCell):
        name = "memory"

    with tg.record() as tape:
        Recurrent(Cell(I, H))(np.ones((2, B, I)))
        Recurrent(LSTMCell(I, H))(np.ones((2, B, I)))
    assert {entry.scope.split("/")[0] for entry in tape.at(1)} == {"memory", "lstm"}
