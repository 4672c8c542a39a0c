"""What stands above each other within a column, and what must not."""

import pytest

from tinygrad_seq import viz
from tinygrad_seq.viz import recurrences, stacks
from tinygrad_seq.viz.template import Slot, Stack, Template, Wire, order_within, rank

from . import modelled, runs


def template_of(edges, loops=()):
    """A column with these edges, and wires from the first to the second slot of each loop at the next step."""
    template = Template()
    for pair in (*edges, *loops):
        for name in pair:
            template.slots.setdefault(name, Slot(name, len(template.slots), False, 30.0, 24.0))
    slot = template.slots
    wires = [Wire(template, template, slot[a], slot[b], 1, 0) for a, b in edges]
    wires += [Wire(template, template, slot[a], slot[b], 1, 1) for a, b in loops]
    return template, wires


def stacked(edges, loops=()):
    """The stacks, from the top down, by name."""
    template, wires = template_of(edges, loops)
    left = order_within(template, wires)
    rank(template, wires, left)
    stacks.lay_stacks(template, wires, left)
    rank(template, wires, left)
    for wire in wires:
        assert wire.step or wire.vertical or wire.source.rank < wire.target.rank
    return {tuple(slot.name for slot in stack.slots) for stack in template.stacks}


# i, f, g, o: gates of an LSTM; fc, ig: products
LSTM = ["x z", "z f", "z i", "z g", "z o", "f fc", "i ig", "g ig", "fc c", "ig c", "c tanh", "tanh h", "o h"]
LSTM_LOOPS = [("c", "fc"), ("h", "z")]


def pairs(edges):
    return [tuple(edge.split()) for edge in edges]


def test_an_lstm():
    assert stacked(pairs(LSTM), LSTM_LOOPS) == {("c", "tanh", "h"), ("z", "x"), ("fc", "f")}


def test_an_lstm_whose_memory_has_a_sum():
    edges = [edge.replace("c tanh", "sum tanh") for edge in [*LSTM, "c sum"]]
    expected = {("sum", "tanh", "h"), ("c", "ig"), ("z", "x"), ("fc", "f")}
    assert stacked(pairs(edges), [("sum", "fc"), ("h", "z")]) == expected


def test_a_layer_stands_on_the_one_below_it():
    edges = pairs(["x low", "low high"])
    assert stacked(edges, [("low", "low"), ("high", "high")]) == {("high", "low", "x")}


def test_a_readout_stands_on_its_state():
    assert stacked(pairs(["x h", "h y", "y L"]), [("h", "h")]) == {("L", "y", "h", "x")}


def test_without_recurrence_nothing_is_stacked():
    assert stacked(pairs(["x h", "h y", "y L"])) == set()


def test_two_readers_are_too_many():
    found = stacked(pairs(["x a", "x b", "a h", "b h"]), [("h", "a")])
    assert not any("x" in each for each in found)


def test_a_stack_that_an_arrow_would_have_to_go_around_is_given_up():
    """c leads to h through tanh, and directly too."""
    edges = pairs(["fc c", "c tanh", "tanh h", "c h"])
    assert not any({"c", "tanh", "h"} <= {*each} for each in stacked(edges, [("c", "fc"), ("h", "tanh")]))


def test_the_shortest_way_is_the_lane():
    """In a GRU the way that keeps the state, and not the one through the candidate."""
    edges = pairs(["x z", "z u", "u keep", "z c", "u new", "c new", "keep h", "new h"])
    template, wires = template_of(edges, [("h", "z"), ("h", "keep")])
    rank(template, wires, order_within(template, wires))
    ((_, chain),) = recurrences.recurrences(template, wires)
    assert [slot.name for slot in chain] == ["h", "keep"]


def test_higher_layers_come_first():
    template, wires = template_of(pairs(["x low", "low high"]), [("low", "low"), ("high", "high")])
    rank(template, wires, order_within(template, wires))
    assert [chain[0].name for _, chain in recurrences.recurrences(template, wires)] == ["high", "low"]


def test_how_far_below_the_first():
    a, b, c = (Slot(name, n, False, 30.0, 20.0 + 10 * n) for n, name in enumerate("abc"))
    assert [Stack([a, b, c]).below(slot) for slot in (a, b, c)] == [0.0, 45.0, 100.0]
    stretched = Stack([a, b, c], stretch=5.0, lanes=(0, 1))
    assert [stretched.below(slot) for slot in (a, b, c)] == [0.0, 50.0, 105.0]


@pytest.mark.parametrize("name", ["LSTM", "GRU", "stack", "tagger", "a user's own"])
def test_upright_arrows_are_straight_and_between_neighbours(name):
    tape = (modelled.recorded if name in modelled.LAYERS else modelled.topology)(name, 3)[0]
    data = viz.draw(tape, level="gate", steps="all").data
    nodes = {node["id"]: node for node in data["nodes"]}
    upright = 0
    for edge in data["edges"]:
        a, b = nodes[edge["from"]], nodes[edge["to"]]
        if a["t"] is not None and a["t"] == b["t"] and a["x"] == b["x"]:
            assert len({x for x, _ in edge["points"]}) == 1
            low, high = sorted((a["y"], b["y"]))
            assert not [n for n in nodes.values() if n["x"] == a["x"] and low < n["y"] < high]
            upright += 1
    assert upright >= 6


def test_a_reversed_direction_is_stacked_too():
    tape, loss = runs.ALL["both directions"](T=3)
    loss.backward()
    look = {node["id"]: node for node in viz.draw(tape, level="cell").data["nodes"]}
    assert look["t1.rnn.backward"]["y"] != look["t1.rnn"]["y"]
