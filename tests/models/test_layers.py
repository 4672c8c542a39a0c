"""Layers: unrolling, lengths, directions, dropout, what the tape says of them, and what they refuse."""

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

from .test_cells import CELLS, B, H, I, make

T = 5


class LeakyCell(tg.Module):
    """A user's own: no base class of ours, a gate that nobody foresaw, and nothing but its equations."""

    def __init__(self, I, H):
        self.hidden_size = H
        self.W, self.V = (tg.Parameter(tg.init.xavier_uniform((I, H))) for _ in range(2))
        self.U = tg.Parameter(tg.init.orthogonal((H, H)))

    def forward(self, x, h):
        with tg.scope("leak"):
            leak = tg.sigmoid(x @ self.V)
        return leak * h + (1 - leak) * np.tanh(x @ self.W + h @ self.U)


class CountingCell(tg.Module):
    """Another: two arrays of different lengths for a state, an output that is neither, no parameters."""

    def initial_state(self, batch, dtype):
        return np.zeros((batch, 1), dtype), np.ones((batch, I), dtype)

    def step(self, x, state):
        count, product = state
        return x + count, (count + 1, product * x)


LAYERS = {
    **{f"Recurrent, {kind}": lambda kind=kind: Recurrent(make(kind)) for kind in CELLS},
    **{f"Bidirectional, {kind}": lambda kind=kind: Bidirectional(make(kind)) for kind in ("rnn", "gru", "lstm")},
    "Recurrent, reverse": lambda: Recurrent(make("gru"), reverse=True),
    "Recurrent, user's": lambda: Recurrent(LeakyCell(I, H)),
    "Bidirectional, user's": lambda: Bidirectional(LeakyCell(I, H)),
    "RNN": lambda: RNN(I, H, num_layers=2, bidirectional=True),
    "RNN batch first": lambda: RNN(I, H, batch_first=True),
    "GRU": lambda: GRU(I, H, num_layers=2, bidirectional=True),
    "GRU reset after": lambda: GRU(I, H, reset_after=True),
    "LSTM": lambda: LSTM(I, H, num_layers=2, bidirectional=True),
    "LSTM projected": lambda: LSTM(I, H, num_layers=2, proj_size=2),
}
every_layer = pytest.mark.parametrize("kind", LAYERS)


def built(kind):
    tg.manual_seed(0)
    return LAYERS[kind]().to(np.float64)


def weighted(values):
    """A sum in which every entry counts differently."""
    return sum(((part * np.cos(np.arange(part.size) * 1.7).reshape(part.shape)).sum() for part in values), start=0.0)


def gradients(layer):
    return {name: parameter.grad.data for name, parameter in layer.named_parameters() if parameter.grad is not None}


def inputs(layer, batch=B, seed=0):
    x = np.random.default_rng(seed).normal(size=(T, batch, I))
    return np.swapaxes(x, 0, 1) if layer.batch_first else x


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


# ---- lengths --------------------------------------------------------------------------------------------------------------

SOME_LENGTHS = [(T, 0, 2, 1), (1, 1, 1, 1), (T, T, T, T), (3, 4, 0, 0)]


@pytest.mark.parametrize("lengths", SOME_LENGTHS, ids=str)
@every_layer
def test_a_row_is_what_it_would_be_alone(kind, lengths):
    """Padded with NaN and beside longer rows, or alone and unpadded: the same outputs, states and gradients."""
    layer = built(kind)
    batch_axis, time_axis = (0, 1) if layer.batch_first else (1, 0)
    x = inputs(layer, batch=4)
    beyond = np.arange(T)[:, None] >= np.array(lengths)
    padded = tg.tensor(np.where((beyond.T if layer.batch_first else beyond)[:, :, None], np.nan, x), requires_grad=True)
    outputs, state = layer(padded, lengths=lengths)
    weighted([outputs, *parts_of(state)]).backward()
    together = gradients(layer)

    assert not outputs.data[beyond.T if layer.batch_first else beyond].any()
    assert not padded.grad.data[beyond.T if layer.batch_first else beyond].any()
    layer.zero_grad()
    factors = [np.cos(np.arange(part.size) * 1.7).reshape(part.shape) for part in (outputs, *parts_of(state))]
    for b, n in enumerate(lengths):
        last = [part.data[:, b] for part in parts_of(state)]
        if n == 0:
            assert not any(part.any() for part in last)
            continue
        alone = tg.tensor(np.take(np.take(x, [b], batch_axis), range(n), time_axis), requires_grad=True)
        y, final = layer(alone)
        np.testing.assert_allclose(
            y.data, np.take(np.take(outputs.data, [b], batch_axis), range(n), time_axis), rtol=0, atol=1e-12
        )
        for a, part in zip(parts_of(final), last):
            np.testing.assert_allclose(a.data[:, 0], part, rtol=0, atol=1e-12)
        weights = [np.take(np.take(factors[0], [b], batch_axis), range(n), time_axis), *(f[:, b : b + 1] for f in factors[1:])]
        sum((part * w).sum() for part, w in zip((y, *parts_of(final)), weights)).backward()
        np.testing.assert_allclose(
            alone.grad.data, np.take(np.take(padded.grad.data, [b], batch_axis), range(n), time_axis), rtol=0, atol=1e-12
        )
    for name, expected in gradients(layer).items():
        np.testing.assert_allclose(together[name], expected, rtol=0, atol=1e-11, err_msg=name)


@every_layer
def test_a_row_without_steps_keeps_its_initial_state(kind):
    layer = built(kind)
    x = np.full_like(inputs(layer), np.nan)
    shapes = [part.shape for part in parts_of(layer(inputs(layer))[1])]
    rng = np.random.default_rng(2)
    initial = [tg.tensor(rng.normal(size=shape), requires_grad=True) for shape in shapes]
    outputs, state = layer(x, tuple(initial) if len(initial) > 1 else initial[0], lengths=[0] * B)
    assert not outputs.data.any()
    weighted(parts_of(state)).backward()
    for part, given in zip(parts_of(state), initial):
        np.testing.assert_array_equal(part.data, given.data)
        np.testing.assert_array_equal(given.grad.data, np.cos(np.arange(part.size) * 1.7).reshape(part.shape))
    assert not any(g.any() for g in gradients(layer).values())


@every_layer
def test_derivatives_with_lengths(kind):
    layer = built(kind)
    x = np.take(inputs(layer), range(3), 1 if layer.batch_first else 0)
    tg.check_grads(lambda x: layer(x, lengths=[3, 1])[0], x, order=2)


# ---- gradients taken apart ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [None, (3, T)], ids=str)
@every_layer
def test_the_parts_of_a_weights_gradient_add_up(kind, lengths):
    layer = built(kind)
    outputs, state = layer(inputs(layer), lengths=lengths)
    loss = weighted([outputs, *parts_of(state)])
    parts = {name: tg.bptt.weight_gradients(loss, parameter) for name, parameter in layer.named_parameters()}
    loss.backward()
    for name, parameter in layer.named_parameters():
        assert set(parts[name]) == set(range(T)), name
        np.testing.assert_allclose(sum(parts[name].values()), parameter.grad.data, rtol=0, atol=1e-11, err_msg=name)


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


# ---- what the tape says ---------------------------------------------------------------------------------------------------


def test_scopes_say_layer_direction_and_real_time():
    layer = LSTM(I, H, num_layers=2, bidirectional=True)
    with tg.record() as tape:
        layer(inputs(layer), lengths=[2, T])
    assert sorted({entry.t for entry in tape if entry.t is not None}) == list(range(T))
    found = {(entry.tags["layer"], entry.tags["direction"]) for entry in tape.at(3)}
    assert found == {(layer, direction) for layer in (0, 1) for direction in ("forward", "backward")}
    for t in range(T):
        for entry in tape.at(t):
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


def test_a_users_gate_is_found_by_its_name():
    cell, x = LeakyCell(I, H).to(np.float64), np.random.default_rng(4).normal(size=(T, B, I))
    with tg.record() as tape:
        outputs, _ = Recurrent(cell)(x, lengths=[T, 2])
    outputs.sum().backward()
    entry = tape.find("leak", t=1)[-1]
    np.testing.assert_allclose(entry.value, 1 / (1 + np.exp(-x[1] @ cell.V.data)), rtol=1e-12)
    assert entry.scope == "leaky/leak"
    assert entry.grad.shape == (B, H)


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


# ---- a user's own cell ----------------------------------------------------------------------------------------------------


def test_a_users_cell_is_run_as_it_stands():
    cell, x = LeakyCell(I, H), np.random.default_rng(6).normal(size=(T, B, I))
    outputs, state = Recurrent(cell)(x)
    h = np.zeros((B, H))
    for t in range(T):
        h = cell(x[t], h)
        np.testing.assert_allclose(outputs.data[t], h.data, rtol=1e-12)
    assert state.shape == (1, B, H)


def test_a_users_state_may_be_anything():
    x = np.random.default_rng(7).normal(size=(T, B, I))
    outputs, (count, product) = Recurrent(CountingCell())(x, lengths=[T, 2])
    np.testing.assert_array_equal(outputs.data[:, 0], x[:, 0] + np.arange(T)[:, None])
    np.testing.assert_array_equal(count.data, [[[T], [2]]])
    np.testing.assert_allclose(product.data[0, 1], x[:2, 1].prod(axis=0), rtol=1e-12)


def test_a_cell_that_asks_too_much_is_refused():
    class Growing(tg.Module):
        hidden_size = H

        def step(self, x, h):
            return tg.concatenate([h, h], axis=1)

    with pytest.raises(tg.ShapeError, match=r"Growing made a state of shape \(2, 8\) out of one of shape \(2, 4\)"):
        Recurrent(Growing())(np.ones((T, B, I)))
    with pytest.raises(TypeError, match="needs a hidden_size, or initial_state"):
        Recurrent(tg.Module())(np.ones((T, B, I)))
    with pytest.raises(TypeError, match="`seen`"):
        Recurrent(LeakyCell(I, H), state_dropout=0.5)


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


@pytest.mark.parametrize("kind", [kind for kind in CELLS if kind != "output rnn"])
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


# ---- what is refused ------------------------------------------------------------------------------------------------------

WRONG = {
    "features": (dict(x=np.ones((T, B, I + 1))), r"takes 3 features, got x of shape \(5, 2, 4\)"),
    "axes": (dict(x=np.ones((T, I))), r"takes x of shape \(T, B, I\), got \(5, 3\)"),
    "empty batch": (dict(x=np.ones((T, 0, I))), "needs a step and a row at least"),
    "no steps": (dict(x=np.ones((0, B, I))), "needs a step and a row at least"),
    "long lengths": (dict(lengths=[T + 1, 1]), r"lengths are from 0 to 5, the number of steps, got \[6, 1\]"),
    "negative lengths": (dict(lengths=[-1, 1]), "lengths are from 0 to 5"),
    "few lengths": (dict(lengths=[1]), r"one entry for each of 2 rows, got shape \(1,\)"),
    "state of another batch": (dict(state=np.zeros((2, B + 1, H))), r"takes a state of shape \(2, 2, 4\), got shape \(2, 3, 4\)"),
    "state of a cell": (dict(state=np.zeros((B, H))), r"takes a state of shape \(2, 2, 4\), got shape \(2, 4\)"),
    "pair of states": (dict(state=(np.zeros((2, B, H)), np.zeros((2, B, H)))), "takes a state of shape"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_fit_is_refused_and_changes_nothing(wrong):
    given, message = WRONG[wrong]
    layer = GRU(I, H, num_layers=2, dropout=0.5, input_dropout=0.5)
    before, draws = layer.state_dict(), tg.random.get_state()
    with tg.record() as tape, pytest.raises(tg.ShapeError, match=message):
        layer(**({"x": np.ones((T, B, I))} | given))
    assert len(tape) == 0
    assert tg.random.get_state() == draws
    assert all((layer.state_dict()[name] == array).all() for name, array in before.items())


def test_lengths_are_integers():
    with pytest.raises(TypeError, match="lengths are integers, not float64"):
        RNN(I, H)(np.ones((T, B, I)), lengths=np.array([1.0, 2.0]))


def test_a_layer_that_cannot_be_is_refused():
    for wrong in (
        lambda: RNN(I, H, num_layers=0),
        lambda: LSTM(I, H, dropout=1.5),
        lambda: GRU(0, H),
        lambda: RNN(I, H, nonlinearity="x"),
    ):
        with pytest.raises(ValueError, match=r"at least 1|probability|is one of"):
            wrong()


# ---- small things ---------------------------------------------------------------------------------------------------------


def test_arguments_stand_where_pytorch_has_them():
    assert LSTM(I, H, 2, False, True, 0.0, True, 2)(np.ones((B, T, I)))[0].shape == (B, T, 4)
    assert GRU(I, H, 2, False, True, 0.0, True)(np.ones((B, T, I)))[0].shape == (B, T, 2 * H)
    assert RNN(I, H, 2, "relu", False, True, 0.0, True)(np.ones((B, T, I)))[0].shape == (B, T, 2 * H)


def test_the_only_cells_state_needs_no_axis_of_layers():
    cell, x, h = make("gru"), np.ones((T, B, I)), np.random.default_rng(11).normal(size=(B, H))
    np.testing.assert_array_equal(Recurrent(cell)(x, h)[0].data, Recurrent(cell)(x, h[None])[0].data)


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
