"""Plots of the gradient's way back: what is plotted is what the tape says."""

import subprocess
import sys

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import viz
from tinygrad_seq.models import GRU, LSTM, RNN, OutputRNNCell, PeepholeLSTMCell, Recurrent
from tinygrad_seq.viz import flow, gates, spectra
from tinygrad_seq.viz.flow import state_norms
from tinygrad_seq.viz.states import Run

from . import runs


@pytest.fixture
def matplotlib():
    return pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")


def swept(name, T):
    tape, loss = runs.ALL[name](T=T)
    loss.backward()
    return tape


def test_a_tapes_curves_are_its_gradients(matplotlib):
    tape = swept("lstm", 6)
    figure = viz.gradient_flow(tape)
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].get_lines()}
    assert set(lines) == {"h", "c"}
    for name, norms in lines.items():
        expected = [np.linalg.norm(tape.find(f"{name}<{t}>")[0].grad) for t in range(6)]
        np.testing.assert_allclose(norms, expected, rtol=1e-9)
    assert figure.axes[0].get_yscale() == "log"


def test_layers_have_curves_of_their_own():
    names = [curve.name for curve in state_norms(swept("two layers", 4))]
    assert len(names) == len(set(names)) >= 2
    assert any("layer 1" in name for name in names)


def test_a_matrix_becomes_a_heatmap(matplotlib):
    flow = np.tril(np.full((5, 5), 0.5) ** np.abs(np.subtract.outer(np.arange(5), np.arange(5))))
    figure = viz.gradient_flow(flow, title="h = h / 2")
    image = figure.axes[0].images[0]
    assert image.get_array().shape == (5, 5)
    np.testing.assert_array_equal(image.get_array().mask, flow == 0)
    assert image.norm.vmin == 0.5**4
    assert image.norm.vmax == 1.0


def test_several_are_compared_on_one_scale(matplotlib):
    small, large = np.tril(np.full((3, 3), 1e-4)), np.tril(np.full((3, 3), 10.0))
    figure = viz.gradient_flow({"RNN": small, "LSTM": large, "h": np.array([0.1, 0.2, 0.3])})
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title().partition(":")[0] for axes in panels] == ["RNN", "LSTM"]
    assert {(axes.images[0].norm.vmin, axes.images[0].norm.vmax) for axes in panels} == {(1e-4, 10.0)}
    assert [line.get_label() for line in figure.axes[0].get_lines()] == ["h"]


def test_zero_and_not_finite_are_marked_where_a_logarithm_has_no_place(matplotlib):
    figure = viz.gradient_flow(np.array([0.0, np.nan, np.inf, 1.0]))
    marks = {line.get_label(): list(line.get_xdata()) for line in figure.axes[0].get_lines()}
    assert marks["exactly 0"] == [0]
    assert marks["not finite"] == [2]
    figure = viz.gradient_flow(np.array([[1.0, 0.0], [np.inf, 1.0]]))
    (crosses,) = figure.axes[0].get_lines()
    assert (list(crosses.get_xdata()), list(crosses.get_ydata())) == ([0], [1])


def test_it_can_be_saved(matplotlib, tmp_path):
    figure = viz.gradient_flow({"RNN": swept("elman", 3), "flow": np.eye(3)}, panels=["norms", "flow"])
    figure.savefig(tmp_path / "flow.png", dpi=20)
    assert (tmp_path / "flow.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_to_plot(matplotlib):
    tape, loss = runs.elman(3)
    with pytest.raises(ValueError, match="no backward pass has run"):
        viz.gradient_flow(tape)
    assert viz.gradient_flow(tape, panels=["gates"]).axes  # which needs none
    loss.backward()
    with pytest.raises(ValueError, match="no panel 'heat'; there are norms, flow, eigenvalues"):
        viz.gradient_flow(tape, panels=["heat"])
    timeless, loss = runs.without_time()
    loss.backward()
    with pytest.raises(ValueError, match="give steps a scope"):
        viz.gradient_flow(timeless)
    with pytest.raises(ValueError, match=r"\(2, 2, 2\)"):
        viz.gradient_flow(np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match=r"\(0,\)"):
        viz.gradient_flow(np.ones(0))


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install tinygrad_seq\[plot\]"):
        viz.gradient_flow(np.ones(3))


def test_viz_does_not_load_matplotlib():
    script = "import sys, tinygrad_seq.viz; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_curves_agree_with_bptt():
    W, h = runs.weight("W", 3, 3), tg.tensor(np.ones((2, 3)), name="h<init>")
    states = []
    with tg.record() as tape:
        for t in range(4):
            with tg.scope("rnn", t=t):
                states.append(h := np.tanh(h @ W))
        loss = h.sum()
    expected = [np.linalg.norm(g) for g in tg.bptt.state_gradients(loss, states)]
    loss.backward()
    (curve,) = state_norms(tape)
    np.testing.assert_allclose(curve.norms[:3], expected[:3], rtol=1e-9)


# ---- what a run is measured for -----------------------------------------------------------------------------------------


def layer_run(layer, T=5, B=3, lengths=None):
    """(tape, run, history, losses, x): a layer with a readout over all of time at once and a loss at every step."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(T, B, 3)).astype(np.float32)
    with tg.record() as tape:
        outputs, _, history = layer(x, lengths=lengths, return_all=True)
        with tg.scope("readout", time_axis=0):
            o = outputs @ tg.Parameter(rng.normal(size=(outputs.shape[2], 2)).astype(np.float32), name="W_y")
        loss = (o * o).sum()
    losses = [(o[t] * o[t]).sum() for t in range(T)]
    loss.backward(retain_graph=True)
    return tape, Run(tape), history, losses


@pytest.fixture(scope="module")
def lstm_run():
    tg.manual_seed(1)
    return layer_run(LSTM(3, 4))


def test_states_are_what_steps_hand_on(lstm_run):
    tape, run, _, _ = lstm_run
    assert [state.name for state in run.states] == ["h", "c"]
    for state in run.states:
        assert [tape[i].name for i in state.entries.values()] == [f"{state.name}<{t}>" for t in range(5)]


def test_states_of_padded_rows_and_of_both_directions_are_found():
    _, run, _, _ = layer_run(GRU(3, 4, bidirectional=True), lengths=[5, 2, 4])
    assert {state.name: [*state.entries] for state in run.states} == {
        "h (forward)": [0, 1, 2, 3, 4], "h (backward)": [4, 3, 2, 1, 0],
    }  # fmt: skip
    assert {run.tape[i].name for state in run.states for i in state.entries.values()} == {f"h<{t}>" for t in range(5)}


def test_states_of_layers_that_are_stacked():
    _, run, _, _ = layer_run(LSTM(3, 2, num_layers=2))
    assert [*run.cells] == ["h/c (layer 0)", "h/c (layer 1)"]


def test_the_flow_of_a_tape_is_that_of_its_losses():
    """The readout is one product over all of time; its terms are those of losses that were taken step by step."""
    tg.manual_seed(2)
    _, run, history, losses = layer_run(RNN(3, 4), B=1)
    (group,) = run.cells.values()
    np.testing.assert_allclose(run.flow(group), tg.bptt.flow(losses, history[0]["h"]), rtol=1e-5)


def test_the_flow_adds_up_to_what_reaches_a_state():
    """dL/dh<s> is the sum over t of dL<t>/dh<s>: for one unit and positive weights, so are the norms."""
    w, h = tg.Parameter([[0.5]], name="w"), tg.tensor([[1.0]], name="h<init>")
    with tg.record() as tape:
        terms = []
        for t in range(4):
            with tg.scope("rnn", t=t):
                h = h @ w
                h.name = f"h<{t}>"
            with tg.scope("loss", t=t):
                terms.append(h.sum())
        loss = sum(terms[1:], terms[0])
    loss.backward()
    run = Run(tape)
    flow_ = run.flow(run.states)
    np.testing.assert_allclose(flow_, np.tril(0.5 ** np.abs(np.subtract.outer(np.arange(4), np.arange(4)))))
    np.testing.assert_allclose(flow_.sum(axis=0), run.norms(run.states[0]))


def test_a_single_loss_makes_no_heatmap():
    tape, loss = runs.elman(4, loss_at_every_step=False)
    loss.backward()
    run = Run(tape)
    assert [*run.losses] == [3]
    assert flow.PANELS["flow"].measure("", run) == []


def test_a_step_whose_output_is_not_used_has_no_loss():
    with tg.record() as tape:
        outputs, _ = RNN(3, 4)(np.ones((5, 2, 3), np.float32))
        loss = (outputs[3] * outputs[3]).sum()
    loss.backward()
    assert [*Run(tape).losses] == [3]  # though exact zeros flow back to the others


def test_a_loss_that_is_summed_up_on_the_way_is_no_state():
    W, h, loss = runs.weight("W", 3, 3), tg.tensor(np.ones((2, 3)), name="h<init>"), 0.0
    with tg.record() as tape:
        for t in range(3):
            with tg.scope("rnn", t=t):
                h = np.tanh(h @ W)
                h.name = f"h<{t}>"
                loss = loss + (h * h).sum()
    loss.backward()
    run = Run(tape)
    assert [state.name for state in run.states] == ["h"]
    assert [*run.losses] == [0, 1, 2]


def test_jacobians_of_a_recording_are_those_of_bptt(lstm_run):
    _, run, history, _ = lstm_run
    (group,) = run.cells.values()
    steps, measured = run.jacobians(group)
    expected = tg.bptt.jacobians(list(zip(history[0]["h"], history[0]["c"])))
    assert steps == [1, 2, 3, 4]
    np.testing.assert_allclose(measured.matrices, expected.matrices, atol=1e-7)


def test_a_recording_can_be_measured_after_its_backward_pass():
    tape = swept("elman", 4)
    (group,) = Run(tape).cells.values()
    W = tape.find("W_h")[0].value
    for J, t in zip(Run(tape).jacobians(group)[1], (1, 2, 3)):
        h = tape.find(f"h<{t}>")[0].value
        np.testing.assert_allclose(J, np.stack([np.diag(1 - row**2) @ W.T for row in h]), atol=1e-12)
    np.testing.assert_array_equal(Run(tape).recurrent_weights(group), [W])


def test_a_stop_of_the_gradient_leaves_no_way():
    tape = swept("split and cut", 4)
    run = Run(tape)
    assert [state.name for state in run.states] == ["lstm/multiply", "lstm/add"]
    h_from_h = run.jacobians(run.states)[1].matrices[:, :, :3, :3]
    assert (h_from_h[1] == 0).all()  # h.detach() at t=2
    assert (h_from_h[0] != 0).any()


def test_a_step_that_mixes_the_rows_has_no_jacobian(matplotlib):
    W, h = runs.weight("W", 3, 3), tg.tensor(np.arange(6.0).reshape(2, 3), name="h<init>")
    with tg.record() as tape:
        for t in range(3):
            with tg.scope("rnn", t=t):
                h = np.tanh(h @ W - h.mean(axis=0))
        loss = h.sum()
    loss.backward()
    with pytest.raises(tg.AutodiffError, match="state 1 mixes the rows of the batch"):
        viz.gradient_flow(tape)
    assert viz.gradient_flow(tape, panels=["norms", "gates"]).axes


def test_the_weights_own_spectrum_is_that_of_each_gates_block(lstm_run):
    tape, run, _, _ = lstm_run
    (group,) = run.cells.values()
    W_h = tape.find("W_h")[0].value
    np.testing.assert_array_equal(run.recurrent_weights(group), np.split(W_h, 4, axis=1))
    (spectrum,) = spectra.measure("", run)
    assert spectrum.name == "h/c"


# ---- the lane -------------------------------------------------------------------------------------------------------------


def test_the_lane_of_an_lstm_is_its_forget_gate(lstm_run):
    _, run, history, _ = lstm_run
    h, c = run.states
    assert run.lane(h) is None
    np.testing.assert_allclose(run.lane(c), [gate.data for gate in history[0]["f"][1:]], rtol=1e-6)


def test_peepholes_are_no_part_of_the_lane():
    cell = PeepholeLSTMCell(3, 4)
    for peephole in (cell.p_u, cell.p_f, cell.p_o):  # they start at zero
        peephole.overwrite(np.full(4, 0.5, np.float32))
    _, run, history, _ = layer_run(Recurrent(cell))
    c = next(state for state in run.states if state.name == "c")
    np.testing.assert_allclose(run.lane(c), [gate.data for gate in history[0]["f"][1:]], rtol=1e-6)


def test_the_lane_of_a_gru_is_what_it_keeps_and_an_rnn_has_none():
    _, run, history, _ = layer_run(GRU(3, 4))
    np.testing.assert_allclose(run.lane(run.states[0]), [1 - gate.data for gate in history[0]["u"][1:]], rtol=1e-5)
    for layer in (RNN(3, 4), Recurrent(OutputRNNCell(3, 4, 2))):
        _, run, _, _ = layer_run(layer)
        assert run.lane(run.states[0]) is None


def test_without_gates_that_listen_all_goes_along_the_lane():
    """An LSTM whose W_h is zero: dc<T>/dc<t> is the product of the forget gates, and nothing else."""
    layer = LSTM(3, 4)
    layer.cells[0].W_h.overwrite(np.zeros((4, 16), np.float32))
    _, run, history, _ = layer_run(layer)
    (lane,) = gates.lanes("", run)
    assert lane.share == pytest.approx(1)
    np.testing.assert_allclose(lane.through, 0, atol=1e-7)
    product = np.prod([gate.data for gate in history[0]["f"][1:]], axis=0)
    assert lane.along[0] == pytest.approx(np.sqrt((product**2).sum(axis=1).mean() / 4), rel=1e-5)


def test_the_two_ways_add_up(lstm_run):
    _, run, history, _ = lstm_run
    (lane,) = gates.lanes("", run)
    jacobians = tg.bptt.jacobians(list(zip(history[0]["h"], history[0]["c"]))).matrices.astype(float)
    whole = (jacobians[3] @ jacobians[2] @ jacobians[1] @ jacobians[0])[:, 4:, 4:]
    assert lane.whole[0] == pytest.approx(np.sqrt((whole**2).sum(axis=(1, 2)).mean() / 4))
    assert (lane.whole[-1], lane.along[-1], lane.through[-1]) == (1, 1, 0)
    assert 0 < lane.share < 1


# ---- gates ----------------------------------------------------------------------------------------------------------------


def test_saturation_counts_units_of_real_rows():
    z = np.array([[-5.0, 0.0, 5.0, 5.0], [5.0, 5.0, 5.0, 5.0]])
    with tg.record() as tape:
        h = tg.tensor(np.ones((2, 4)), requires_grad=True)
        for t in range(2):
            with tg.scope("cell", t=t, role="cell", valid=np.array([True, t == 0])):
                with tg.scope("leak"):
                    leak = tg.sigmoid(tg.tensor(z))
                h = leak * h
    (run,) = gates.saturation("", Run(tape))
    (gate,) = run.gates
    assert gate == gates.Gate("leak", [0, 1], [1 / 8, 1 / 4], [6 / 8, 2 / 4])


def test_all_gates_of_an_lstm_are_counted(lstm_run):
    (found,) = gates.saturation("LSTM", lstm_run[1])
    assert [gate.name for gate in found.gates] == ["Γ_u", "Γ_f", "Γ_o", "c~", "tanh"]


# ---- the figure -----------------------------------------------------------------------------------------------------------


def test_a_tape_has_all_panels_with_titles_from_its_numbers(matplotlib, lstm_run):
    figure = viz.gradient_flow(lstm_run[0])
    titles = [" ".join(axes.get_title().split()) for axes in figure.axes if axes.get_title()]
    assert len(titles) == len(flow.PANELS)
    radius = lstm_run[1].jacobians(lstm_run[1].states)[1].spectral_radius.mean()
    assert f"radius {radius:.2f} on average" in titles[2]
    share = round(100 * gates.lanes("", lstm_run[1])[0].share)
    assert f"{share} % of ∂c<4>/∂c<0> came along the lane, {100 - share} % through the gates" in titles[5]


def test_several_tapes_share_the_scale_of_each_panel(matplotlib, lstm_run):
    tg.manual_seed(5)
    tapes = {"RNN": layer_run(RNN(3, 4))[0], "LSTM": lstm_run[0]}
    figure = viz.gradient_flow(tapes, panels=["flow", "eigenvalues", "singular values"])
    by_kind = {"heard": [], "eigenvalues": [], "stretches": []}
    for axes in figure.axes:
        for word, found in by_kind.items():
            if word in axes.get_title():
                found.append(axes)
    assert [len(found) for found in by_kind.values()] == [2, 2, 2]
    assert len({axes.images[0].norm.vmax for axes in by_kind["heard"]}) == 1
    assert len({axes.get_xlim() for axes in by_kind["eigenvalues"]}) == 1
    assert len({axes.get_ylim() for axes in by_kind["stretches"]}) == 1
    circle = by_kind["eigenvalues"][0].patches[0]
    assert (circle.center, circle.radius) == ((0, 0), 1)


def test_jacobians_by_themselves_have_spectra(matplotlib, lstm_run):
    _, _, history, _ = lstm_run
    figure = viz.gradient_flow(tg.bptt.jacobians(history[0]["c"], "h"))
    assert [axes.get_title().split()[0] for axes in figure.axes if axes.get_title()] == ["eigenvalues", "a"]


def test_what_would_cost_too_much_is_left_out_and_said(matplotlib, monkeypatch, lstm_run):
    monkeypatch.setattr(flow, "SWEEPS", 10)
    figure = viz.gradient_flow(lstm_run[0])
    assert "more than 10 sweeps: flow, eigenvalues, singular values, lane;" in figure.get_supxlabel()
    assert not any("eigenvalues" in axes.get_title() for axes in figure.axes)
    assert viz.gradient_flow(lstm_run[0], panels=["singular values"]).axes
