"""Curves and heatmaps: what is plotted is what the tape says."""

import subprocess
import sys

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import viz
from tinygrad_seq.viz.flow import state_norms

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
    assert any("l1" in name for name in names)


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
    assert [axes.get_title() for axes in panels] == ["RNN", "LSTM"]
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
    viz.gradient_flow({"RNN": swept("elman", 5), "LSTM": swept("lstm", 5), "flow": np.eye(3)}).savefig(tmp_path / "flow.png")
    assert (tmp_path / "flow.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_to_plot():
    tape, _ = runs.elman(3)
    with pytest.raises(ValueError, match="backward"):
        viz.gradient_flow(tape)
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
