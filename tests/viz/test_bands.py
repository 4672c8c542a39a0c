"""Two directions in one column: each cell stands by itself, and its lanes run straight."""

import pytest

from tinygrad_seq import viz

from . import modelled
from .test_geometry import look_at


def spans(drawing, t=1):
    """From where to where the boxes of each direction's cell reach, at a step."""
    found = {}
    for reverse in (False, True):
        name = "backward" if reverse else "forward"
        states = [node for node in drawing._graph.nodes if node.carries and node.t == t and node.reverse == reverse]
        cell = states[0].slot.rpartition(".")[0] + "."
        boxes = [node for node in drawing._graph.nodes if node.t == t and node.slot.startswith(cell) and node.kind != "input"]
        boxes = [node for node in boxes if node.reverse == reverse]
        assert len(boxes) >= 2
        found[name] = (min(node.y - node.height / 2 for node in boxes), max(node.y + node.height / 2 for node in boxes))
    return found


def layer(kind, lengths):
    name = f"{kind}, both directions"
    modelled.LAYERS[name] = lambda: modelled.Bidirectional(modelled.CELLS[kind]())
    try:
        return viz.draw(modelled.recorded(name, T=4, every_step=True, lengths=lengths)[0], level="gate")
    finally:
        del modelled.LAYERS[name]


@pytest.mark.parametrize("lengths", [None, [4, 2]])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "Peephole", "LayerNorm", "RNN"])
def test_the_directions_are_not_wound_into_each_other(kind, lengths):
    drawing = layer(kind, lengths)
    found = spans(drawing)
    assert found["forward"][0] > found["backward"][1]
    look_at(drawing.data)


def test_two_layers_of_both():
    tape, _ = modelled.recorded("two layers, two directions", T=3, every_step=True)
    drawing = viz.draw(tape, level="gate")
    cells = {node.slot: node for node in drawing._graph.nodes if node.t == 1 and node.carries}
    assert len(cells) == 4
    assert min(node.y for node in cells.values() if not node.reverse) > max(node.y for node in cells.values() if node.reverse)


@pytest.mark.parametrize(("kind", "product"), [("LSTM", "multiply.2"), ("GRU", "multiply.3")])
@pytest.mark.parametrize("lengths", [None, [4, 2]])
def test_the_lane_of_a_state_is_straight_in_both(kind, product, lengths):
    """From the sum of a state's uses to the × in which the next step carries it on, always at one height."""
    drawing = layer(kind, lengths)
    heights = {False: set(), True: set()}
    for edge in drawing._graph.edges:
        crosses = edge.source.kind == "sum" and edge.target.slot.endswith(product) and None not in (edge.source.t, edge.target.t)
        if crosses and edge.source.t != edge.target.t:
            assert len({round(y, 2) for _, y in edge.points}) == 1
            heights[edge.target.reverse].add(round(edge.points[0][1], 2))
    assert [len(each) for each in heights.values()] == [1, 1]
