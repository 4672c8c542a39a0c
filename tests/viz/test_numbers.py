"""The norms in numbers: each where no arrow passes and no box stands, looked at in the DOT text and in `.data`."""

import re

import pytest

from tinygrad_seq import viz
from tinygrad_seq.viz import dot, numbers

from . import modelled, runs
from .test_geometry import curve

NAMES = (
    "RNN", "GRU", "SimplifiedGRU", "LSTM", "Coupled", "two layers, two directions", "tagger, two directions", "Bahdanau",
)  # fmt: skip


def recorded(name):
    return (modelled.recorded if name in modelled.LAYERS else modelled.topology)(name, 4)[0]


def told(drawing):
    """Of each number its text and the box around it, as wide as the text is in a font wider than Arial."""
    found = re.findall(
        r'"([^"\n]+)~?\.norm" \[class="norm".*? label="([^"]*)".*? pos="([-\d.]+),([-\d.]+)".*? width="([\d.]+)"', drawing.source
    )
    return {name: (label, (float(x), float(y)), (36 * float(width) - 2, numbers.SIZE / 2)) for name, label, x, y, width in found}


@pytest.mark.parametrize("level", ["cell", "gate", "op"])
@pytest.mark.parametrize("name", NAMES)
def test_no_arrow_passes_through_a_number(name, level):
    for steps in ("all", 2):
        drawing = viz.draw(recorded(name), level=level, steps=steps)
        found = told(drawing)
        assert found
        ways = [curve(edge["points"]) for edge in drawing.data["edges"]]
        for _, (x, y), (w, h) in found.values():
            for way in ways:
                assert not ((abs(way[:, 0] - x) < w) & (abs(way[:, 1] - y) < h)).any()
            for node in drawing.data["nodes"]:
                assert abs(node["x"] - x) >= w + node["width"] / 2 or abs(node["y"] - y) >= h + node["height"] / 2
        for a, (_, (x, y), (w, h)) in found.items():
            for b, (_, (x2, y2), (w2, h2)) in found.items():
                assert a == b or abs(x - x2) >= w + w2 or abs(y - y2) >= h + h2


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_every_way_of_a_state_has_its_number(name):
    """From the next step back to this one, in two digits."""
    drawing = viz.draw(recorded(name), level="gate")
    found = told(drawing)
    crossing = [
        edge for edge in drawing.data["edges"]
        if edge["kind"] == "backward" and re.match(r"t[123]\.", edge["from"]) and edge["grad"]["norm"]
        and edge["to"].startswith(f"t{int(edge['from'][1]) - 1}.")
    ]  # fmt: skip
    assert len(crossing) >= 6
    for edge in crossing:
        assert found[f"{edge['from']}-{edge['to']}"][0] == f"{edge['grad']['norm']:.2g}"


def test_a_number_stands_beside_its_own_arrow():
    drawing = viz.draw(recorded("LSTM"), level="cell")
    for edge in drawing.data["edges"]:
        place = told(drawing).get(f"{edge['from']}-{edge['to']}")
        if edge["kind"] == "backward" and place is not None:
            way, (_, (x, y), _) = curve(edge["points"]), place
            assert way[:, 0].min() < x < way[:, 0].max()
            assert min(abs(way[:, 1] - y)) < 12


def test_where_there_is_no_room_there_is_no_number():
    taken = numbers.Taken()
    taken.add((0, 0, 100, 10))
    assert not taken.is_free((99, 9, 200, 20))
    assert taken.is_free((100, 10, 200, 20))
    assert not taken.is_free((-1000, -1000, 1000, 1000))


def test_no_number_covers_another():
    """Twice the same arrow: its second number stands elsewhere."""
    layout = viz.draw(recorded("LSTM"), level="cell")._layout
    layout.graph.edges = layout.graph.edges * 2
    places = [re.search(r' pos="([^"]*)"', line)[1] for line in numbers.norms(layout)]
    assert len(places) == len(set(places)) == 6


# ---- what lies above what, and the key to it --------------------------------------------------------------------------


def test_a_trunk_lies_below_what_it_collects():
    """Graphviz draws edges in the order of the nodes that they begin at: the heads and marks of the terms stay in sight."""
    tape, loss = runs.elman(4)
    loss.backward()
    svg = viz.draw(tape, level="cell").svg()
    drawn = re.findall(r'class="edge (\w+)"', svg)
    assert "trunk" in drawn and "backward" in drawn
    assert drawn.index("trunk") == 0
    assert "trunk" not in drawn[drawn.index("backward") :]
    assert svg.index('class="edge trunk"') > svg.rindex('class="node card"')  # else the cards would cover it


def test_looks_are_told_apart_without_their_colours():
    looks = [(mark[2], mark[3]) for mark in dot.MARKS.values()]
    assert len(set(looks)) == len(looks)
    assert len({mark[0] for mark in dot.MARKS.values()}) == len(looks)
    none, masked = dot.MARKS["none"], dot.MARKS["masked"]
    assert none[2] != masked[2] and none[3] != masked[3]  # the line and the head: a head alone is small


def test_the_legend_has_what_occurs():
    def legend(drawing):
        return set(re.findall(r'id="legend\.(\w+)"', drawing.source))

    tape, loss = runs.elman(2)
    assert "sum" not in legend(viz.draw(tape, level="cell"))
    loss.backward()
    assert "sum" in legend(viz.draw(tape, level="cell"))
    assert "gradients of several uses add up" in viz.draw(tape, level="cell").source
