"""Cells: equal to their equations by hand, differentiable twice and forward, gates found by name."""

import pickle
from copy import deepcopy

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.models import (
    CoupledLSTMCell,
    GRUCell,
    LayerNormLSTMCell,
    LSTMCell,
    OutputRNNCell,
    PeepholeLSTMCell,
    Recurrent,
    RNNCell,
    SimplifiedGRUCell,
)
from tinygrad_seq.models.cells import parts_of

from . import cells_by_hand as by_hand

T, B, I, H = 5, 2, 3, 4

CELLS = {
    "rnn": lambda: RNNCell(I, H),
    "rnn without bias": lambda: RNNCell(I, H, bias=False),
    "rnn relu": lambda: RNNCell(I, H, nonlinearity="relu"),
    "output rnn": lambda: OutputRNNCell(I, 6, H),
    "output rnn, linear": lambda: OutputRNNCell(I, 6, H, bias=False, output_activation=None),
    "gru": lambda: GRUCell(I, H),
    "gru reset after": lambda: GRUCell(I, H, reset_after=True),
    "gru reset after, without bias": lambda: GRUCell(I, H, bias=False, reset_after=True),
    "simplified gru": lambda: SimplifiedGRUCell(I, H),
    "lstm": lambda: LSTMCell(I, H),
    "lstm projected": lambda: LSTMCell(I, H, proj_size=2),
    "peephole lstm": lambda: PeepholeLSTMCell(I, H),
    "coupled lstm": lambda: CoupledLSTMCell(I, H),
    "layer norm lstm": lambda: LayerNormLSTMCell(I, H),
    "layer norm lstm without bias": lambda: LayerNormLSTMCell(I, H, bias=False),
}
TWINS = {  # the twin's two functions, and its names for the columns
    "rnn": (by_hand.rnn, by_hand.rnn_back, "a"),
    "gru": (by_hand.gru, by_hand.gru_back, "urc"),
    "gru reset after": (by_hand.gru_after, by_hand.gru_after_back, "urc"),
    "simplified gru": (by_hand.simplified_gru, by_hand.simplified_gru_back, "uc"),
    "lstm": (by_hand.lstm, by_hand.lstm_back, "ufoc"),
}
every_cell = pytest.mark.parametrize("kind", CELLS)


def make(kind, seed=0):
    """A cell in float64 whose parameters are all of a general kind, none of them zero."""
    tg.manual_seed(seed)
    cell = CELLS[kind]().to(np.float64)
    rng = np.random.default_rng(seed)
    for parameter in cell.parameters():
        parameter.overwrite(parameter.data + rng.normal(size=parameter.shape) * 0.3)
    return cell


def a_state(cell, rng, rows=(B,)):
    state = tuple(rng.normal(size=(*rows, size)) for size in cell.state_sizes)
    return state if len(state) > 1 else state[0]


# ---- the equations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TWINS)
def test_a_cell_is_its_equations_differentiated_by_hand(kind):
    forward, back, gates = TWINS[kind]
    cell, rng = make(kind), np.random.default_rng(1)
    x, dy = rng.normal(size=(T, B, I)), rng.normal(size=(T, B, H))
    initial = parts_of(a_state(cell, rng))
    leaves = [tg.tensor(part.data, requires_grad=True) for part in initial]
    x_leaf = tg.tensor(x, requires_grad=True)
    state, outputs = (tuple(leaves) if len(leaves) > 1 else leaves[0]), []
    for t in range(T):
        state = cell(x_leaf[t], state)
        outputs.append(parts_of(state)[0])
    y = tg.stack(outputs)
    (y * dy).sum().backward()

    def columns(array):
        return dict(zip(gates, np.split(array, len(gates), axis=-1)))

    W = {(g, "x"): block.T for g, block in columns(cell.W_x.data).items()}
    W |= {(g, "h"): block.T for g, block in columns(cell.W_h.data).items()}
    b = columns(cell.b.data) | ({"h": cell.b_h.data} if kind == "gru reset after" else {})
    dW, db = dict.fromkeys(W, 0), dict.fromkeys(b, 0)
    for row in range(B):
        found = by_hand.through_time(forward, back, W, b, x[:, row], tuple(part.data[row] for part in initial), dy[:, row])
        np.testing.assert_allclose(y.data[:, row], found[0], rtol=0, atol=1e-10)
        np.testing.assert_allclose(x_leaf.grad.data[:, row], found[1], rtol=0, atol=1e-10)
        for leaf, expected in zip(leaves, found[4]):
            np.testing.assert_allclose(leaf.grad.data[row], expected, rtol=0, atol=1e-10)
        for total, of_row in ((dW, found[2]), (db, found[3])):
            for key, term in of_row.items():
                total[key] = total[key] + term
    for source, parameter in (("x", cell.W_x), ("h", cell.W_h)):
        for g, block in columns(parameter.grad.data).items():
            np.testing.assert_allclose(block.T, dW[g, source], rtol=0, atol=1e-10)
    for g, block in columns(cell.b.grad.data).items():
        np.testing.assert_allclose(block, db[g], rtol=0, atol=1e-10)
    if "h" in db:
        np.testing.assert_allclose(cell.b_h.grad.data, db["h"], rtol=0, atol=1e-10)


def test_the_output_cell_is_its_equations():
    cell, rng = make("output rnn"), np.random.default_rng(2)
    x, y_ = rng.normal(size=(B, I)), rng.dirichlet(np.ones(H), size=B)
    a = np.tanh(y_ @ cell.W_h.data + x @ cell.W_x.data + cell.b.data)
    e = np.exp(a @ cell.W_y.data + cell.b_y.data)
    np.testing.assert_allclose(cell(x, y_).data, e / e.sum(axis=1, keepdims=True), rtol=0, atol=1e-12)


def test_with_the_target_as_its_state_the_output_cell_needs_no_loop():
    cell, rng = make("output rnn"), np.random.default_rng(3)
    x, y = rng.normal(size=(T, B, I)), rng.dirichlet(np.ones(H), size=(T, B))
    forced = np.concatenate([np.zeros((1, B, H)), y[:-1]])
    at_once = cell(x, forced)
    np.testing.assert_allclose(at_once.data, [cell(x[t], forced[t]).data for t in range(T)], rtol=0, atol=1e-14)
    tangents = np.zeros_like(y)
    tangents[0] = 1
    moved = tg.jvp(lambda y: cell(x, tg.concatenate([np.zeros((1, B, H)), y[:-1]])), (y,), (tangents,))[1].data
    assert np.abs(moved[1]).max() > 1e-3
    assert not moved[2:].any()  # the past is cut off


def peephole(cell, x, a, c, gates):
    u, f, o, k = gates
    u, f = (by_hand.σ(z + p.data * c) for z, p in ((u, cell.p_u), (f, cell.p_f)))
    c = u * np.tanh(k) + f * c
    return by_hand.σ(o + cell.p_o.data * c) * np.tanh(c), c


def coupled(cell, x, a, c, gates):
    u, o, k = gates
    u = by_hand.σ(u)
    c = u * np.tanh(k) + (1 - u) * c
    return by_hand.σ(o) * np.tanh(c), c


@pytest.mark.parametrize(("kind", "equations", "G"), [("peephole lstm", peephole, 4), ("coupled lstm", coupled, 3)])
def test_a_variant_of_the_lstm_is_its_equations(kind, equations, G):
    cell, rng = make(kind), np.random.default_rng(4)
    x, (a, c) = rng.normal(size=(B, I)), a_state(cell, rng)
    gates = np.split(x @ cell.W_x.data + a @ cell.W_h.data + cell.b.data, G, axis=1)
    for found, expected in zip(cell(x, (a, c)), equations(cell, x, a, c, gates)):
        np.testing.assert_allclose(found.data, expected, rtol=0, atol=1e-12)


def test_the_layer_norm_lstm_is_its_equations():
    cell, rng = make("layer norm lstm"), np.random.default_rng(5)
    x, (a, c) = rng.normal(size=(B, I)), a_state(cell, rng)
    found = cell(x, (a, c))

    def LN(v, g):
        return g.data * (v - v.mean(axis=1, keepdims=True)) / np.sqrt(v.var(axis=1, keepdims=True) + cell.eps)

    u, f, o, k = np.split(LN(a @ cell.W_h.data, cell.g_h) + LN(x @ cell.W_x.data, cell.g_x) + cell.b.data, 4, axis=1)
    c = by_hand.σ(u) * np.tanh(k) + by_hand.σ(f) * c
    a = by_hand.σ(o) * np.tanh(LN(c, cell.g_c) + cell.b_c.data)
    np.testing.assert_allclose(found[0].data, a, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found[1].data, c, rtol=0, atol=1e-12)


def test_the_gates_do_what_the_document_says():
    """Errata E9 and E10: with its update gate at 0 a GRU copies, with both gates at 1 it is the basic RNN."""
    cell, rng = make("gru"), np.random.default_rng(6)
    x, c = rng.normal(size=(B, I)), rng.normal(size=(B, H))

    def with_gates(u, r):
        return cell.b.overwrite(np.concatenate([np.full(H, u), np.full(H, r), np.zeros(H)])) or cell(x, c).data

    np.testing.assert_allclose(with_gates(-1e3, 0), c, rtol=0, atol=1e-14)
    basic = np.tanh(c @ cell.W_h.data[:, 2 * H :] + x @ cell.W_x.data[:, 2 * H :])
    np.testing.assert_allclose(with_gates(1e3, 1e3), basic, rtol=0, atol=1e-14)


# ---- derivatives ----------------------------------------------------------------------------------------------------------


def as_function(cell, steps=2):
    """The cell as a function of its parameters, inputs and state."""

    def f(parameters, x, state):
        stand_in = deepcopy(cell)
        for name, value in parameters.items():
            vars(stand_in)[name] = value
        for t in range(steps):
            state = stand_in(x[t], state)
        return state

    return f


@every_cell
def test_first_and_second_derivatives(kind):
    cell, rng = make(kind), np.random.default_rng(7)
    parameters = {name: parameter.data for name, parameter in cell.named_parameters()}
    tg.check_grads(as_function(cell), parameters, rng.normal(size=(2, B, I)), a_state(cell, rng), order=2)


@every_cell
def test_directional_derivatives(kind):
    cell, rng = make(kind), np.random.default_rng(8)
    x, state = rng.normal(size=(2, B, I)), a_state(cell, rng)
    f = as_function(cell)
    primals = ({name: parameter.data for name, parameter in cell.named_parameters()}, x, state)
    tangents = (
        {name: rng.normal(size=array.shape) for name, array in primals[0].items()},
        rng.normal(size=x.shape),
        a_state(cell, rng),
    )

    def moved(step):
        shifted = {name: array + step * tangents[0][name] for name, array in primals[0].items()}
        parts = tuple(p.data + step * v.data for p, v in zip(parts_of(state), parts_of(tangents[2])))
        return parts_of(f(shifted, x + step * tangents[1], parts if len(parts) > 1 else parts[0]))

    _, dy = tg.jvp(f, primals, tangents)
    for found, plus, minus in zip(parts_of(dy), moved(1e-6), moved(-1e-6)):
        np.testing.assert_allclose(found.data, (plus.data - minus.data) / 2e-6, rtol=1e-5, atol=1e-7)


# ---- what can be seen -----------------------------------------------------------------------------------------------------

NAMES = {
    "gru": {"u": "u", "r": "r", "candidate": "candidate", "n": "candidate", "c~": "candidate"},
    "gru reset after": {"u": "u", "r": "r", "n": "candidate"},
    "simplified gru": {"u": "u", "candidate": "candidate"},
    "lstm": {"u": "u", "i": "u", "f": "f", "o": "o", "g": "candidate", "c": "candidate"},
    "peephole lstm": {"i": "u", "f": "f", "o": "o", "g": "candidate"},
    "coupled lstm": {"i": "u", "o": "o", "g": "candidate"},
    "layer norm lstm": {"i": "u", "f": "f", "o": "o", "g": "candidate"},
    "output rnn": {"hidden": "hidden", "output": "output"},
}


@pytest.mark.parametrize("kind", NAMES)
def test_gates_are_found_by_name_and_by_pytorchs_name(kind):
    cell, x = make(kind), np.random.default_rng(9).normal(size=(T, B, I))
    with tg.record() as tape:
        _, _, (history,) = Recurrent(cell)(x, return_all=True)
    for asked, name in NAMES[kind].items():
        entry = tape.find(asked, t=3)[-1]
        assert entry.value is not None
        np.testing.assert_array_equal(entry.value, history[name][3].data)
        assert entry.name.endswith("<3>")
        assert entry.scope == f"{cell.name}/{name}"


def test_gates_are_named_after_the_document():
    with tg.record() as tape:
        Recurrent(LSTMCell(I, H))(np.ones((2, B, I)))
    names = [entry.name for entry in tape.at(1) if entry.name]
    assert names == ["Γ_u<1>", "Γ_f<1>", "Γ_o<1>", "c~<1>", "c<1>", "h<1>"]


def test_a_loop_of_ones_own_has_the_names_of_a_layer():
    cell, state = LSTMCell(I, H), None
    with tg.record() as tape:
        for t in range(2):
            with tg.scope("mine", t=t):
                state = cell(np.ones((B, I)), state)
    assert [entry.name for entry in tape.at(1) if entry.name] == ["Γ_u<1>", "Γ_f<1>", "Γ_o<1>", "c~<1>", "c<1>", "h<1>"]
    with tg.record() as tape:
        cell(np.ones((B, I)))
    assert {entry.name for entry in tape} == {None, "W_x", "W_h", "b"}  # no step, no name


def test_the_gates_are_the_gates():
    cell, rng = make("lstm"), np.random.default_rng(10)
    x, (a, c) = rng.normal(size=(B, I)), a_state(cell, rng)
    z = dict(zip(cell.gates, np.split(x @ cell.W_x.data + a @ cell.W_h.data + cell.b.data, 4, axis=1)))
    with tg.record() as tape:
        cell(x, (a, c))
    for name in "ufo":
        np.testing.assert_allclose(tape.find(name)[-1].value, by_hand.σ(z[name]), rtol=0, atol=1e-14)


# ---- how they start -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gru", "gru reset after", "simplified gru", "lstm", "peephole lstm", "layer norm lstm"])
def test_each_gates_recurrent_matrix_starts_orthogonal(kind):
    cell = CELLS[kind]().to(np.float64)
    blocks = np.split(cell.W_h.data, len(cell.gates), axis=1)
    for block in blocks:
        np.testing.assert_allclose(block.T @ block, np.eye(H), atol=1e-6)
    assert np.abs(blocks[0] - blocks[1]).max() > 0.1


def test_an_lstm_starts_by_remembering():
    for kind in ("lstm", "peephole lstm", "layer norm lstm"):
        cell = CELLS[kind]()
        biases = dict(zip(cell.gates, np.split(cell.b.data, 4)))
        assert (biases.pop("f") == 1).all()
        assert not any(part.any() for part in biases.values())
    np.testing.assert_array_equal(CoupledLSTMCell(I, H).b.data, [-1] * H + [0] * 2 * H)
    np.testing.assert_array_equal(RNNCell(I, H, nonlinearity="relu").W_h.data, np.eye(H))


@every_cell
def test_reset_parameters_draws_anew(kind):
    cell = CELLS[kind]()
    tg.manual_seed(1)
    cell.reset_parameters()
    first = cell.state_dict()
    tg.manual_seed(1)
    cell.reset_parameters()
    assert all((first[name] == array).all() for name, array in cell.state_dict().items())
    tg.manual_seed(2)
    cell.reset_parameters()
    assert (first["W_x"] != cell.W_x.data).any()


@every_cell
def test_a_cell_is_saved_copied_and_pickled(kind, tmp_path):
    cell, x = make(kind), np.random.default_rng(11).normal(size=(B, I))
    expected = [part.data for part in parts_of(cell(x))]
    other = CELLS[kind]().to(np.float64)
    tg.save(tmp_path / "cell.safetensors", cell)
    tg.load(tmp_path / "cell.safetensors", other)
    kept = [other, deepcopy(cell)] + ([pickle.loads(pickle.dumps(cell))])
    for twin in kept:
        assert all((part.data == wanted).all() for part, wanted in zip(parts_of(twin(x)), expected))


# ---- how they are called --------------------------------------------------------------------------------------------------


@every_cell
def test_a_missing_state_is_zeros_and_a_single_sample_needs_no_batch(kind):
    cell, x = make(kind), np.random.default_rng(12).normal(size=(B, I))
    zeros = tuple(np.zeros((B, size)) for size in cell.state_sizes)
    given, missing = cell(x, zeros if len(zeros) > 1 else zeros[0]), cell(x)
    for a, b, one in zip(parts_of(given), parts_of(missing), parts_of(cell(x[0]))):
        np.testing.assert_array_equal(a.data, b.data)
        np.testing.assert_allclose(one.data, a.data[0], rtol=1e-12, atol=1e-14)


@every_cell
def test_the_state_has_the_form_that_it_came_in(kind):
    cell = CELLS[kind]()
    state = cell(np.ones((B, I), np.float32))
    assert isinstance(state, tuple) == ("lstm" in kind)
    assert [part.shape for part in parts_of(state)] == [(B, size) for size in cell.state_sizes]
    assert all(part.dtype == np.float32 for part in parts_of(state))


@every_cell
def test_what_does_not_fit_is_refused(kind):
    cell, rng = CELLS[kind](), np.random.default_rng(13)
    with pytest.raises(tg.ShapeError, match=rf"{type(cell).__name__} takes x of shape \(B, 3\), got \(2, 4\)"):
        cell(rng.normal(size=(B, I + 1)))
    with pytest.raises(tg.ShapeError, match="takes x"):
        cell(1.0)
    with pytest.raises(tg.ShapeError, match="takes a state of"):
        cell(rng.normal(size=(B, I)), a_state(cell, rng, rows=(B + 1,)))
    with pytest.raises(tg.ShapeError, match="takes a state of"):
        cell(rng.normal(size=(B, I)), (*parts_of(a_state(cell, rng)), np.zeros((B, H))))


def test_a_cell_that_cannot_be_is_refused():
    for wrong in (
        lambda: RNNCell(0, 3),
        lambda: LSTMCell(3, -1),
        lambda: RNNCell(3, 4, nonlinearity="gelu"),
        lambda: LSTMCell(3, 4, proj_size=4),
        lambda: OutputRNNCell(3, 4, 0),
        lambda: OutputRNNCell(3, 4, 5, output_activation="relu6"),
    ):
        with pytest.raises(ValueError, match=r"at least 1|is one of|less than"):
            wrong()


def test_an_output_activation_may_be_a_function():
    cell = OutputRNNCell(I, 6, H, output_activation=lambda o: o * 0 + 7)
    assert (cell(np.ones((B, I))).data == 7).all()
