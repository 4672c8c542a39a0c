"""Plots of the gradient's way back: what is plotted is what the tape says."""

import subprocess
import sys

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import viz
from tinygrad_seq.models import GRU, LSTM, RNN, OutputRNNCell, PeepholeLSTMCell, Recurrent
from tinygrad_seq.viz import axes as look
from tinygrad_seq.viz import flow, gates, spectra
from tinygrad_seq.viz.flow import state_norms
from tinygrad_seq.viz.states import Run

from . import modelled, runs


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
    assert figure.axes[0].get_legend() is None  # the title names it


def test_zero_and_not_finite_are_marked_where_a_logarithm_has_no_place(matplotlib):
    figure = viz.gradient_flow(np.array([0.0, np.nan, np.inf, 1.0]))
    marks = {line.get_label(): list(line.get_xdata()) for line in figure.axes[0].get_lines()}
    assert marks["exactly 0"] == [0]
    assert marks["not finite"] == [2]
    figure = viz.gradient_flow(np.array([[1.0, 0.0, 0.0], [np.inf, 1.0, np.nan], [np.nan] * 3]))
    gradients, broken = figure.axes[0].images
    assert gradients.get_array().mask.tolist() == [[False, True, True], [True, False, True], [True] * 3]
    assert broken.get_array().mask.tolist() == [[True] * 3, [False, True, False], [True] * 3]  # red, where white would mean 0
    (hatched,) = [patch for patch in figure.axes[0].patches if patch.get_hatch()]
    assert (hatched.get_y(), hatched.get_height()) == (1.5, 1)
    assert "hatched: no loss" in figure.axes[1].get_ylabel()


def test_it_can_be_saved(matplotlib, tmp_path):
    figure = viz.gradient_flow({"RNN": swept("elman", 3), "flow": np.eye(3)}, panels=["norms", "flow"])
    figure.savefig(tmp_path / "flow.png", dpi=20)
    assert (tmp_path / "flow.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_to_plot(matplotlib):
    tape, loss = runs.elman(3)
    with pytest.raises(ValueError, match="has seen no backward pass"):
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
    with pytest.raises(ImportError, match="pip install matplotlib"):
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
    assert [gate.name for gate in found.gates] == ["Γ_u", "Γ_f", "Γ_o", "c~", "tanh(c)"]


# ---- the figure -----------------------------------------------------------------------------------------------------------


def test_a_tape_has_all_panels_with_titles_from_its_numbers(matplotlib, lstm_run):
    figure = viz.gradient_flow(lstm_run[0])
    titles = [" ".join(axes.get_title().split()) for axes in figure.axes if axes.get_title()]
    assert len(titles) == len(flow.PANELS)
    radius = lstm_run[1].jacobians(lstm_run[1].states)[1].spectral_radius.mean()
    assert f"lie within {radius:.2f} on average" in titles[2]
    share = round(100 * gates.lanes("", lstm_run[1])[0].share)
    assert f"{share} % of ∂c<4>/∂c<0> came along the lane, {100 - share} % through the gates" in titles[5]


def test_several_tapes_share_the_scale_of_each_panel(matplotlib, lstm_run):
    tg.manual_seed(5)
    tapes = {"RNN": layer_run(RNN(3, 4))[0], "LSTM": lstm_run[0]}
    figure = viz.gradient_flow(tapes, panels=["flow", "eigenvalues", "singular values"])
    by_kind = {"losses at": [], "eigenvalues": [], "stretches": []}
    for axes in figure.axes:
        for word, found in by_kind.items():
            if word in " ".join(axes.get_title().split()):
                found.append(axes)
    assert [len(found) for found in by_kind.values()] == [2, 2, 2]
    assert len({axes.images[0].norm.vmax for axes in by_kind["losses at"]}) == 1
    assert len({axes.get_xlim() for axes in by_kind["eigenvalues"]}) == 1
    assert len({axes.get_ylim() for axes in by_kind["stretches"]}) == 1
    circle = by_kind["eigenvalues"][0].patches[0]
    assert (circle.center, circle.radius) == ((0, 0), 1)


def test_panels_of_a_run_stand_below_each_other(matplotlib, lstm_run):
    """The circles below the heatmaps, and round."""
    tg.manual_seed(5)
    tapes = {"RNN": layer_run(RNN(3, 4))[0], "GRU": layer_run(GRU(3, 4))[0], "LSTM": lstm_run[0]}
    figure = viz.gradient_flow(tapes, panels=["flow", "eigenvalues"])
    figure.draw_without_rendering()
    rows = [[axes for axes in part.axes if axes.get_title()] for part in figure.subfigs]
    assert [len(row) for row in rows] == [3, 3]
    for column in zip(*rows):
        frames = [axes.get_window_extent() for axes in column]
        middles = [(frame.x0 + frame.x1) / 2 for frame in frames]
        assert max(middles) - min(middles) < 0.1 * frames[0].width  # their numbers differ in width
    for axes in rows[1]:
        units = np.diff(axes.transData.transform([(0, 0), (1, 1)]), axis=0)[0]
        assert units[0] == pytest.approx(units[1])


def test_jacobians_by_themselves_have_spectra(matplotlib, lstm_run):
    _, _, history, _ = lstm_run
    figure = viz.gradient_flow(tg.bptt.jacobians(history[0]["c"], "h"))
    titles = [" ".join(axes.get_title().split()) for axes in figure.axes if axes.get_title()]
    assert [title.split()[2] for title in titles] == ["eigenvalues", "stretches"]
    assert "together" not in titles[1]  # of h alone: their product is no derivative over several steps


def test_one_gate_alone_is_not_the_most_saturated():
    gate = gates.Gate("h", [0, 1], [0.1, 0.3], [0.0, 0.2])
    assert gates._most([gate]) == "30 % of the units of h are saturated on average"
    assert gates._most([gate, gate._replace(name="u", low=[0.0, 0.0])]).startswith("h is saturated most")


# ---- titles say what is so ------------------------------------------------------------------------------------------------


def titles_of(figure):
    return [" ".join(axes.get_title().split()) for axes in figure.axes if axes.get_title()]


def geometric(factor, T=20):
    return factor ** np.arange(T)[::-1]


@pytest.mark.parametrize(("norms", "said"), [
    (geometric(0.5), "the gradient shrinks, ×0.5 with each step back; 95 % is lost by t = 14"),  # 0.5 ** 5 < 0.05 < 0.5 ** 4
    (geometric(0.99), "the gradient stays about level, ×0.99 with each step back"),
    (geometric(1.5), "the gradient grows, ×1.5 with each step back"),
    (np.where(np.arange(20) == 3, 1.0, geometric(0.5)), "the gradient shrinks, ×0.5 with each step back; 95 % is lost by t = 2"),
    (np.array([0.0, 0.0, np.nan, 1.0]), "the gradient is exactly 0 from t = 1 back"),
    (np.array([np.nan, 1.0, np.nan]), "the gradient reaches one step"),
    (np.zeros(3), "the gradient is exactly 0 at every step"),
    (np.array([np.inf, np.inf, 64.0, 8.0, 1.0]), "the gradient grows, ×8 with each step back; it is not finite from t = 1 back"),
    (np.array([0.0, 0.25, 0.5, 1.0]), "the gradient shrinks, ×0.5 with each step back; it is exactly 0 from t = 0 back"),
])  # fmt: skip
def test_what_a_single_curve_is_said_to_do(matplotlib, norms, said):
    assert titles_of(viz.gradient_flow(norms)) == [said]


def test_what_curves_that_are_compared_are_said_to_do(matplotlib):
    (title,) = titles_of(viz.gradient_flow({"RNN": geometric(0.1, 3), "GRU": geometric(0.5, 3), "LSTM": geometric(15.0, 3)}))
    assert title == "the gradient on its way back from t = 2 to t = 0: RNN ×0.01, GRU ×0.25, LSTM ×220"


def test_a_title_says_in_the_captions_words_that_each_step_has_a_loss(matplotlib):
    tape = modelled.recorded("RNN", T=4, every_step=True)[0]
    (title,) = titles_of(viz.gradient_flow(tape, panels=["norms"]))
    said = "losses at 4 steps bring gradient in on the way"
    norms = flow.state_norms(tape)[0].norms
    rate = look.times((norms[0] / norms[3]) ** (1 / 3), 3)
    assert title == f"the gradient of h goes from {norms[3]:.2g} to {norms[0]:.2g}, {rate} with each step back; {said}"
    assert said in viz.draw(tape).alt_text
    one = modelled.recorded("RNN", T=4)[0]
    (title,) = titles_of(viz.gradient_flow(one, panels=["norms"]))
    assert "bring gradient in" not in title
    (title,) = titles_of(viz.gradient_flow({"all": tape, "last": one}, panels=["norms"]))
    assert title.endswith(f"; {said} of all h")
    (title,) = titles_of(viz.gradient_flow(modelled.recorded("LSTM", T=4, every_step=True)[0], panels=["norms"]))
    assert title.endswith(f"; {said}")


def test_only_the_losses_of_a_states_own_part_are_counted(matplotlib):
    tape, _ = modelled.topology("encoder-decoder")
    counts = {curve.name: curve.losses for curve in flow.state_norms(tape)}
    assert [counts[name] > 1 for name in sorted(counts)] == ["decoder" in name for name in sorted(counts)]


def test_a_title_says_that_it_leaves_curves_out(matplotlib):
    (title,) = titles_of(viz.gradient_flow({f"run {n}": geometric(0.5, 3) for n in range(5)}))
    assert title.endswith("run 3 ×0.25, …") and "run 4" not in title


def test_gradients_of_the_backward_direction_are_said_to_go_forward_in_time(matplotlib):
    curves = [flow.Curve("h (forward)", geometric(0.5, 5)), flow.Curve("h (backward)", geometric(0.1, 5)[::-1])]
    assert flow._changes(curves) == "h (forward) from t = 4 to t = 0 ×0.062; h (backward) from t = 0 to t = 4 ×0.0001"


def matrix(factor, T=20):
    """||dL<t>/dh<s>|| = factor ** (t - s)."""
    back = np.subtract.outer(np.arange(T), np.arange(T))
    return np.where(back >= 0, float(factor) ** back, 0.0)


@pytest.mark.parametrize(("norms", "said"), [
    (matrix(0.5), "losses at 20 steps; of the one at t = 19, less than 5 % reaches farther than s = 15"),
    (matrix(0.5)[::-1, ::-1],  # a backward direction
     "losses at 20 steps; of the one at t = 0, less than 5 % reaches farther than s = 4"),
    (matrix(0.9), "losses at 20 steps; of what the one at t = 19 brings to s = 19, 14 % arrives at s = 0"),
    (matrix(1.2), "losses at 20 steps; of what the one at t = 19 brings to s = 19, ×32 as much arrives at s = 0"),
    (np.where(np.arange(3)[:, None] == 2, [0.25, 0.5, 1.0], np.nan),
     "of what the loss at t = 2 brings to s = 2, 25 % arrives at s = 0"),
    (np.eye(4), "no loss reaches another step"),
    (np.full((3, 3), np.nan), "no loss reaches another step"),
])  # fmt: skip
def test_how_far_a_loss_is_said_to_reach(matplotlib, norms, said):
    assert titles_of(viz.gradient_flow(norms)) == [said]


def test_how_far_steps_are_said_to_stretch_a_gradient(matplotlib, lstm_run):
    _, run, _, _ = lstm_run
    _, measured = run.jacobians(run.states)
    product = np.linalg.multi_dot(measured.matrices[::-1, 0].astype(float))
    together = max(np.linalg.norm(m[3] @ m[2] @ m[1] @ m[0], 2) for m in measured.matrices.astype(float).swapaxes(0, 1))
    assert np.linalg.norm(product, 2) <= together
    (title,) = titles_of(viz.gradient_flow(lstm_run[0], panels=["singular values"]))
    most = measured.singular_values.max()
    assert title == f"h/c: a step stretches a gradient ×{most:.3g} at most, all 4 together ×{together:.2g}"


def test_steps_are_multiplied_in_their_order():
    """[0 1; 0 0] first and [1 0; 0 0] after it pass a gradient on; the other way round they pass nothing."""
    first, second = np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 0.0]])
    together = spectra.Spectrum("", [1, 2], tg.bptt.Jacobians(np.stack([first, second])[:, None]), [], True)
    assert spectra._stretches(together) == "a step stretches a gradient ×1 at most, all 2 together ×1"


def test_ways_that_work_against_each_other_are_said_to():
    lane = gates.Lane("LSTM", "c", [0, 1, 2], *np.ones((3, 3)), 0.25)
    assert gates._ways(lane) == "25 % of ∂c<2>/∂c<0> came along the lane, 75 % through the gates"
    against = "what came along the lane works against ∂c<2>/∂c<0>, which comes from the gates"
    assert gates._ways(lane._replace(share=-0.02)) == against
    assert gates._ways(lane._replace(share=1.3)).startswith("what came along the gates works against")


# ---- where panels stand ---------------------------------------------------------------------------------------------------


def places(figure):
    """Of each panel that has a title its first word and place, once all is laid out; colour bars have none."""
    figure.draw_without_rendering()
    boxes = [(axes.get_title().split()[0], axes.get_window_extent()) for axes in figure.axes if axes.get_title()]
    return [(word, round(box.x0), round(box.y0), round(box.width), round(box.height)) for word, box in boxes]


def test_runs_that_are_compared_have_columns_and_kinds_have_rows(matplotlib, lstm_run):
    tg.manual_seed(5)
    tapes = {"RNN:": layer_run(RNN(3, 4))[0], "GRU:": layer_run(GRU(3, 4))[0], "LSTM:": lstm_run[0]}
    figure = viz.gradient_flow({name.strip(":"): tape for name, tape in tapes.items()})
    found = places(figure)
    assert [word for word, *_ in found] == ["the", *[*tapes] * 4, "GRU:", "LSTM:"]
    for row in (found[1:4], found[4:7], found[7:10], found[10:13]):
        assert len({(y, wide, high) for _, _, y, wide, high in row}) == 1
        assert [x for _, x, *_ in row] == sorted(x for _, x, *_ in row)
        assert row[0][3] > 0.17 * figure.bbox.width  # and they do not shrink to make room for words
    assert len(figure.subfigs) == 6
    assert found[13][1] > found[10][1] + found[10][3]  # an RNN has no lane: its place stays empty
    key = figure.axes[0].get_legend().get_window_extent()
    assert found[0][1] + found[0][3] <= key.x0 < key.x1 <= figure.bbox.x1  # it hides no curve
    assert [len(part.legends) for part in figure.subfigs] == [0, 0, 1, 1, 1, 1]  # one key for a row


def test_layers_stand_side_by_side_on_one_scale(matplotlib):
    figure = viz.gradient_flow(layer_run(LSTM(3, 4, num_layers=2))[0])
    by_row = [[axes for axes in part.axes if axes.get_title()] for part in figure.subfigs]
    assert [len(row) for row in by_row] == [1, 2, 2, 2, 1, 2]
    assert len({axes.images[0].norm.vmin for axes in by_row[1]}) == 1
    for row in (by_row[2], by_row[3], by_row[5]):
        assert len({axes.get_ylim() for axes in row}) == 1
        assert [f"(layer {n})" in axes.get_title().replace("\n", " ") for n, axes in enumerate(row)] == [True, True]


def test_runs_of_several_layers_share_a_scale_from_row_to_row(matplotlib, lstm_run):
    tg.manual_seed(7)
    tapes = {"deep": layer_run(RNN(3, 4, num_layers=4))[0], "LSTM": lstm_run[0]}
    figure = viz.gradient_flow(tapes, panels=["flow", "eigenvalues", "singular values", "gates"])
    rows = [[axes for axes in part.axes if axes.get_title()] for part in figure.subfigs]
    assert [len(row) for row in rows] == [3, 1, 1, 3, 1, 1, 3, 1, 1, 2]  # three across, and each run in rows of its own
    assert len({axes.images[0].norm.vmin for row in rows[:3] for axes in row}) == 1
    assert len({axes.get_xlim() for row in rows[3:6] for axes in row}) == 1
    assert len({axes.get_ylim() for row in rows[6:9] for axes in row}) == 1


@pytest.mark.parametrize("T", [1, 2, 3, 100])
def test_ticks_of_time_are_whole_steps(matplotlib, T):
    tg.manual_seed(3)
    figure = viz.gradient_flow(layer_run(RNN(3, 2), T=T)[0])
    figure.draw_without_rendering()
    timed = [axes for axes in figure.axes if axes.get_xlabel() == "step t"]
    assert len(timed) == (3 if T > 1 else 1)
    for axes in timed:
        ticks = [tick for tick in axes.get_xticks() if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]]
        assert ticks and all(tick == round(tick) for tick in ticks)
        assert axes.get_xlim()[1] == T - 0.5  # each step has its place, the last one too


def test_with_lengths_a_loss_reaches_its_own_step(matplotlib):
    """Of padded rows, too: what a layer shows at a step is its state, where there is one."""
    _, run, _, _ = layer_run(GRU(3, 4), lengths=[5, 2, 4])
    (group,) = run.cells.values()
    assert (np.diag(run.flow(group)) > 0).all()
    assert not np.isnan(run.norms(group[0])).any()


def test_what_would_cost_too_much_is_left_out_and_said(matplotlib, monkeypatch, lstm_run):
    monkeypatch.setattr(flow, "SWEEPS", 10)
    figure = viz.gradient_flow(lstm_run[0])
    assert "more than 10 sweeps: flow, eigenvalues, singular values, lane;" in figure.get_supxlabel()
    assert not any("eigenvalues" in axes.get_title() for axes in figure.axes)
    assert viz.gradient_flow(lstm_run[0], panels=["singular values"]).axes
