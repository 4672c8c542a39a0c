"""Level "rolled": a cell once, with a loop for each state."""

import re

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import viz
from tinygrad_seq.viz import dot, words
from tinygrad_seq.viz.pen import colour

from . import modelled, runs
from .test_geometry import look_at


def loops(data, kind="forward"):
    return [edge for edge in data["edges"] if edge["kind"] == kind and "delay" in edge]


def test_one_cell_with_a_loop_for_each_state():
    tape, _ = modelled.recorded("LSTM", T=5)
    data = viz.draw(tape, level="rolled").data
    (cell,) = [node for node in data["nodes"] if node["kind"] == "cell"]
    assert cell["label"] == "c<t>, h<t>"
    assert cell["t"] is None
    assert cell["steps"] == [0, 4]
    assert {tape[i].t for i in cell["entries"] if tape[i].scope.startswith("lstm")} == {None, 0, 1, 2, 3, 4}
    assert sorted((edge["from"], edge["to"], edge["label"], edge["delay"]) for edge in loops(data)) == [
        ("lstm", "lstm", "c", 1), ("lstm", "lstm", "h", 1),
    ]  # fmt: skip
    assert data["steps"] == []


def test_the_loops_gradient_goes_from_the_smallest_to_the_largest_over_time():
    """What flows along the loop of h at step t is the term of d h<t-1> that comes from step t."""
    tape, loss = runs.elman(6)
    loss.backward()
    (back,) = loops(viz.draw(tape, level="rolled").data, "backward")
    states = {entry.index: entry.t for entry in tape if entry.name and entry.name.startswith("h<") and entry.t is not None}
    terms = [g for event in tape.events for i, g in event.terms if i in states and event.entry.t == states[i] + 1]
    norms = [float(np.linalg.norm(term)) for term in terms]
    assert len(norms) == 5
    assert back["norms"] == pytest.approx([min(norms), max(norms)])
    assert back["grad"]["norm"] == pytest.approx(np.hypot.reduce(norms))


def test_weights_stand_beside_it_and_get_their_whole_gradient():
    tape, _ = modelled.recorded("GRU", T=4, every_step=True)
    data = viz.draw(tape, level="rolled").data
    weights = [node for node in data["nodes"] if node["kind"] == "weight"]
    assert sorted(node["label"] for node in weights) == ["W_h", "W_x", "b"]
    for node in weights:
        (back,) = [edge for edge in data["edges"] if edge["kind"] == "backward" and edge["to"] == node["id"]]
        assert back["grad"]["norm"] == pytest.approx(np.linalg.norm(tape[node["entries"][0]].grad), rel=1e-6)


@pytest.mark.parametrize("name", [*modelled.LAYERS, *modelled.TOPOLOGIES])
def test_every_entry_is_in_it_and_it_does_not_grow_with_time(name):
    record = modelled.recorded if name in modelled.LAYERS else modelled.topology
    drawn = []
    for T in (4, 7):
        tape, _ = record(name, T)
        data = viz.draw(tape, level="rolled").data
        assert {i for node in data["nodes"] for i in node["entries"]} == set(range(len(tape)))
        assert loops(data)
        drawn.append([node["id"] for node in data["nodes"]])
    assert drawn[0] == drawn[1]


def test_directions_and_layers_have_cells_of_their_own():
    tape, _ = modelled.recorded("two layers, two directions", T=4)
    found = {(edge["from"], edge["delay"]) for edge in loops(viz.draw(tape, level="rolled").data)}
    assert found == {("rnn", 1), ("rnn.backward", -1), ("rnn.l1", 1), ("rnn.l1.backward", -1)}


def test_parts_have_columns_of_their_own():
    tape, _ = modelled.topology("encoder-decoder", 4)
    nodes = {node["id"]: node for node in viz.draw(tape, level="rolled").data["nodes"]}
    assert nodes["encoder.rnn"]["x"] < nodes["bridge"]["x"] < nodes["decoder.rnn"]["x"]


def test_an_output_fed_back_loops_through_the_readout():
    """y<t-1> is what the cell reads at t: the loop starts behind the readout, and only there."""
    W, V = runs.weight("W", 4, 4), runs.weight("V", 4, 4)
    y = tg.tensor(np.ones((2, 4)), name="y<init>")
    with tg.record() as tape:
        for t in range(4):
            with tg.scope("rnn", t=t):
                h = np.tanh(y @ W)
            with tg.scope("readout", t=t):
                y = h @ V
                y.name = f"y<{t}>"
        loss = (y * y).sum()
    loss.backward()
    (edge,) = loops(viz.draw(tape, level="rolled").data)
    assert (edge["from"], edge["to"], edge["label"]) == ("readout", "rnn", "y")


def test_sums_of_losses_become_one_box():
    tape, loss = runs.elman(8)
    loss.backward()
    (box,) = [node for node in viz.draw(tape, level="rolled").data["nodes"] if node["kind"] == "loss"]
    assert len(box["entries"]) == 7
    assert all(tape[i].op == "add" for i in box["entries"])


def test_before_a_backward_pass_nothing_is_said_of_gradients():
    tape, _ = modelled.recorded("RNN", T=3, backward=False)
    drawing = viz.draw(tape, level="rolled")
    assert not [edge for edge in drawing.data["edges"] if edge["kind"] == "backward"]
    assert "h: 1 step later" in drawing.source
    assert "h: 1 step later, gradient" not in drawing.source


@pytest.mark.parametrize("name", ["LSTM", "Coupled", "Peephole", "bidirectional"])
def test_loops_are_nested_and_do_not_cross(name):
    """The way of one state is all around that of the other, also of another cell that stands above."""
    tape, _ = modelled.recorded(name, T=4)
    ways = [np.array(edge["points"]) for edge in loops(viz.draw(tape, level="rolled").data)]
    inner, outer = sorted(ways, key=lambda points: points[:, 1].max())
    assert outer[:, 0].min() < inner[:, 0].min() < inner[:, 0].max() < outer[:, 0].max()
    assert outer[:, 1].max() > inner[:, 1].max()
    assert outer[0, 1] < inner[0, 1]  # it leaves and arrives below the other
    assert outer[-1, 1] < inner[-1, 1]


def test_colour_and_label_of_a_loop_are_the_same_number():
    """An arrow that stands for several steps has the colour of the largest of them, and the scale is that of the colours."""
    tape, _ = modelled.recorded("LSTM", T=5)
    drawing = viz.draw(tape, level="rolled")
    back = loops(drawing.data, "backward")
    low, high = words.scale(drawing._graph)
    norms = [edge["norms"][1] for edge in back]
    assert low <= min(norms) and max(norms) <= high
    assert min(norms) < min(edge["grad"]["norm"] for edge in back)
    for edge in back:
        name = f"{edge['from']}-{edge['to']}"
        drawn = [line for line in drawing.source.splitlines() if 'class="backward"' in line and f'id="{name}' in line]
        assert any(f'color="{colour(edge["norms"][1], low, high)}"' in line for line in drawn)
        assert f"{edge['label']}: 1 step later, gradient {edge['norms'][0]:.2g} to {edge['norms'][1]:.2g}" in drawing.source
    assert "gradient norm (loops: the largest step's), on a log scale" in drawing.source
    for node in (node for node in drawing.data["nodes"] if node["kind"] == "weight"):  # its terms add up
        (edge,) = [edge for edge in drawing._graph.edges if edge.source.id == node["id"]]
        assert words.drawn_norm(edge) == edge.grad.norm


def test_the_words_have_numbers_too():
    text = viz.draw(modelled.recorded("LSTM", T=5)[0], level="rolled").alt_text
    assert re.search(r"Gradient norm at c, h: t=0: [\d.]+, t=4: [\d.]+\.", text)
    assert "at c, h together falls" in text
    assert "an arrow carries what one step hands another" in text
    assert "together" not in viz.draw(modelled.recorded("LSTM", T=5)[0], level="gate").alt_text


def test_words_beside_a_loop_stand_clear_of_all_loops():
    drawing = viz.draw(modelled.recorded("LSTM", T=4)[0], level="rolled")
    left = min(x for edge in loops(drawing.data) for x, _ in edge["points"])
    told = re.findall(r'id="[^"]*\.label".*? pos="([-\d.]+),.*? width="([\d.]+)"', drawing.source)
    assert len(told) == 2
    assert all(float(x) + 36 * float(width) / dot.CAPTION < left for x, width in told)


def test_loops_are_called_what_their_boxes_call_it():
    source = viz.draw(modelled.recorded("bidirectional", T=4)[0], level="rolled").source
    assert "h→: 1 step later, gradient" in source
    assert "h←: 1 step earlier, gradient" in source


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_where_steps_cut_in_another_order(direction):
    """Even steps cut what they have made, odd ones what they were given: all together they are a circle, and are drawn."""
    W, h = runs.weight("W", 3, 3), tg.tensor(np.ones((2, 3)), name="h<init>")
    with tg.record() as tape:
        for t in range(4) if direction == "forward" else reversed(range(4)):
            with tg.scope("rnn", t=t, direction=direction):
                h = np.tanh((h.detach() if t % 2 else h) @ W)
                h = h if t % 2 else h.detach()
        loss = np.tanh(h @ W).sum()
    loss.backward()
    data = viz.draw(tape, level="rolled").data
    ends = [(edge["from"], edge["to"]) for edge in data["edges"] if edge["kind"] != "backward" and "delay" not in edge]
    assert any((b, a) in ends for a, b in ends), ends
    look_at(data)
