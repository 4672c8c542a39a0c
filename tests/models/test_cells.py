"""Cells: differentiable twice and forward, their gates found by name; how they start, are kept, are called and refuse.

Their equations are checked in `test_cells_by_hand.py`.
"""

import pickle
from copy import deepcopy

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.models import CoupledLSTMCell, LSTMCell, OutputRNNCell, Recurrent, RNNCell
from tinygrad_seq.models.cells import parts_of
from tinygrad_seq.nested import leaves, rebuilt

from .cells_by_hand import σ
from .kinds import CELLS, B, H, I, T, a_state, every_cell, make

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


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@every_cell
def test_directional_derivatives(kind, dtype):
    """Along all parameters, inputs and states at once; PyTorch's LSTM has none in float32."""
    cell, rng = make(kind), np.random.default_rng(8)
    x, state = rng.normal(size=(2, B, I)), a_state(cell, rng)
    primals = ({name: parameter.data for name, parameter in cell.named_parameters()}, x, state)
    tangents = (
        {name: rng.normal(size=array.shape) for name, array in primals[0].items()},
        rng.normal(size=x.shape),
        a_state(cell, rng),
    )

    def moved(step):
        shifted = {name: array + step * tangents[0][name] for name, array in primals[0].items()}
        parts = tuple(p.data + step * v.data for p, v in zip(parts_of(state), parts_of(tangents[2])))
        return parts_of(as_function(cell)(shifted, x + step * tangents[1], parts if len(parts) > 1 else parts[0]))

    def cast(tree):
        return rebuilt(tree, [array.astype(dtype) for array in leaves(tree)])

    expected = [(plus.data - minus.data) / 2e-6 for plus, minus in zip(moved(1e-6), moved(-1e-6))]
    y, dy = tg.jvp(as_function(cell.to(dtype)), cast(primals), cast(tangents))
    tolerance = dict(rtol=1e-5, atol=1e-7) if dtype == np.float64 else dict(rtol=1e-3, atol=1e-4)
    for value, found, wanted in zip(parts_of(y), parts_of(dy), expected):
        assert value.dtype == found.dtype == dtype
        np.testing.assert_allclose(found.data, wanted, **tolerance)


# ---- what can be seen -----------------------------------------------------------------------------------------------------

NAMES = {
    "gru": {"u": "u", "r": "r", "candidate": "candidate", "n": "candidate", "c~": "candidate"},
    "gru reset after": {"u": "u", "r": "r", "n": "candidate"},
    "simplified gru": {"u": "u", "candidate": "candidate"},
    "lstm": {"u": "u", "i": "u", "f": "f", "o": "o", "g": "candidate", "c~": "candidate"},
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


@every_cell
def test_states_are_found_by_their_name_and_step(kind):
    cell, x = make(kind), np.random.default_rng(9).normal(size=(T, B, I))
    with tg.record() as tape:
        outputs, _, (history,) = Recurrent(cell)(x, return_all=True)
    for name in cell.state_names:
        for t in range(T):
            (entry,) = tape.find(name, t=t)
            assert entry.name == f"{name}<{t}>"
            np.testing.assert_array_equal(entry.value, history[name][t].data)
    np.testing.assert_array_equal(tape.find("h", t=3)[0].value, outputs.data[3])


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
        np.testing.assert_allclose(tape.find(name)[-1].value, σ(z[name]), rtol=0, atol=1e-14)


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
def test_a_state_may_be_written_out(kind):
    """As nested lists of numbers; and as a list or tuple of arrays, be it one."""
    cell, rng = make(kind), np.random.default_rng(14)
    x, state = rng.normal(size=(B, I)), a_state(cell, rng)
    expected = [part.data for part in parts_of(cell(x, state))]
    parts = [part.data for part in parts_of(state)]
    written = [part.tolist() for part in parts] if len(parts) > 1 else parts[0].tolist()
    for form in (written, parts, tuple(parts), [tg.tensor(part) for part in parts]):
        for found, wanted in zip(parts_of(cell(x.tolist(), form)), expected):
            np.testing.assert_allclose(found.data, wanted, rtol=1e-5, atol=1e-6)  # Python's numbers are float32 here


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
    with pytest.raises(tg.ShapeError, match=r"needs a row at least, got x of shape \(0, 3\)"):
        cell(np.ones((0, I)))
    with pytest.raises(TypeError, match=f"{type(cell).__name__} takes real numbers, got complex128"):
        cell(rng.normal(size=(B, I)), np.ones((B, H)) * 1j)
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
