"""Whatever somebody records can be drawn, and what is drawn is true: programs chosen at random, and what they have found."""

import re
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tinygrad_seq as tg
from tinygrad_seq import viz
from tinygrad_seq.primitive import registry
from tinygrad_seq.tape import Output
from tinygrad_seq.viz import heights, layout, room
from tinygrad_seq.viz.fold import MOVES, PRODUCTS, SUMS
from tinygrad_seq.viz.template import Slot, Stack, Template

from . import programs, runs
from .test_geometry import look_at, runs_one_way

LEVELS = ("rolled", "cell", "gate", "op")


@settings(max_examples=12, derandomize=True)
@given(st.integers(0, 100_000))
@example(5)
@example(18)
@example(1003)
def test_any_program(seed):
    tape, _ = programs.numbered(seed)
    for level in LEVELS:
        drawing = viz.draw(tape, level=level, steps="all")
        look_at(drawing.data)
        look_at_order(drawing)
        look_at_labels(drawing)
        if level != "rolled":  # there an arrow may be one of several between the same boxes
            look_at_numbers(tape, drawing.data)
        if level == "gate":
            look_at_products(tape, drawing)
        assert {i for node in drawing.data["nodes"] for i in node["entries"]} == {*range(len(tape))}
        assert viz.draw(tape, level=level, steps="all").source == drawing.source
        assert drawing.alt_text and isinstance(drawing.text(), str)
    short = viz.draw(tape, level=("cell", "gate", "op")[seed % 3], steps=3 + seed % 3)
    look_at(short.data)
    look_at_order(short)
    look_at_numbers(tape, short.data)


@settings(max_examples=6, derandomize=True)
@given(st.integers(0, 100_000))
def test_any_program_in_svg(seed):
    tape, _ = programs.numbered(seed)
    drawing = viz.draw(tape, level=LEVELS[seed % 4], steps="all")
    root = ET.fromstring(drawing.svg())
    ids = Counter(element.get("id") for element in root.iter() if element.get("id"))
    assert max(ids.values()) == 1
    groups = {group.get("id"): group for group in root.iter("{http://www.w3.org/2000/svg}g")}
    for node in drawing.data["nodes"]:
        texts = groups[node["id"]].iter("{http://www.w3.org/2000/svg}text")
        assert "\n".join("".join(text.itertext()) for text in texts).replace("\xa0", " ") == node["label"]


@pytest.mark.parametrize("seed", [1, 2, 3, 7])
def test_the_work_grows_with_the_number_of_steps(seed, monkeypatch):
    """For 40 steps a height is searched no more than twice as often as for 20: that much only outside of time."""
    searched = []
    put = room.Room.put
    monkeypatch.setattr(room.Room, "put", lambda self, item, wanted: (searched.append(item), put(self, item, wanted))[1])
    counts = []
    for T in (20, 40):
        searched.clear()
        tape, _ = programs.numbered(seed, T)
        viz.draw(tape, level="gate", steps="all")
        counts.append(len(searched))
    assert counts[1] <= 2.1 * counts[0]


# ---- what is looked at ------------------------------------------------------------------------------------------------


def look_at_order(drawing):
    """Forward never runs left and backward never right, mirrored in a reversed direction; a slot keeps its height."""
    graph, places = drawing._graph, drawing._layout.templates
    for edge in graph.edges:
        a, b = edge.source, edge.target
        if a.column is None or b.column is None or edge.delay or "elided" in (a.kind, b.kind):
            continue
        if a.reverse == b.reverse and graph.columns[a.column].part == graph.columns[b.column].part:
            for arrow in edge.data:
                sign = -1 if a.reverse != (arrow["kind"] == "backward") else 1
                assert runs_one_way(arrow, sign), (arrow["from"], arrow["to"])
    heights_of = defaultdict(set)
    for node in graph.nodes:
        if node.t is not None:
            heights_of[id(places[node.column]), node.slot].add(node.y)
    assert all(len(each) == 1 for each in heights_of.values())


def look_at_labels(drawing):
    for node in drawing._graph.nodes:
        for line in node.label.split("\n"):
            assert node.kind == "sum" or layout.label_width(line, layout.LABEL) <= node.width, node.id
        assert layout.text_width(node.small, 8) <= node.width, node.id


def look_at_numbers(tape, data):
    """Each backward arrow has the norm of what the sweep took along it, and into a sum they add up to the value's gradient."""
    nodes = {node["id"]: node for node in data["nodes"]}
    hoisted = {e.index for e in tape if e.node.scope.time_axis is not None}
    hoisted |= {i for index in hoisted for i in tape[index].inputs}
    terms = {event.index: list(event.terms) for event in tape.events}
    arriving, taken_apart = defaultdict(list), set()
    seen = {node["id"]: {*node["entries"]} for node in data["nodes"]}
    learned = {node["id"] for node in data["nodes"] if node["kind"] == "weight"}
    for edge in data["edges"]:
        if edge["from"] in learned and nodes[edge["to"]]["kind"] == "sum":
            seen[edge["to"]] |= seen[edge["from"]]
    learned |= {name for name, node in nodes.items() if node["kind"] == "sum" and node["t"] is None}
    for edge in data["edges"]:
        a, b = nodes[edge["from"]], nodes[edge["to"]]
        if edge["kind"] != "backward" or "delay" in edge or hoisted.intersection(a["entries"] + b["entries"]):
            taken_apart.add(edge["to"])
            continue
        if a["kind"] == "sum":
            assert edge["grad"] == a["grad"]
            continue
        flowing = {}
        for i, term in (each for index in a["entries"] for each in terms.get(index, ()) if each[0] in seen[b["id"]]):
            i, term = of_whole_weight(tape, i, term) if edge["to"] in learned else (i, term)
            flowing[i] = flowing[i] + term if i in flowing else term
        assert_norm(edge["grad"], [*flowing.values()])
        arriving[b["id"]] += [*flowing.values()]
    for node in nodes.values():
        if node["kind"] == "sum" and node["id"] not in taken_apart and arriving[node["id"]] and node["grad"]["norm"] is not None:
            (i,) = [i for i in node["entries"] if tape[i].requires_grad]
            assert_norm(node["grad"], [tape[i].grad])
            whole, tiny = sum(arriving[node["id"]]), 1e-8 * node["grad"]["norm"] + 1e-30
            np.testing.assert_allclose(whole, tape[i].grad, rtol=1e-4, atol=tiny)


def of_whole_weight(tape, i, term):
    """A gradient at a part of a weight as one of the weight: each number at the place from which it was taken."""
    while tape[i].op not in ("leaf", "constant"):
        (below,) = tape[i].inputs
        size = int(np.prod(tape[below].shape))
        places = registry[tape[i].op].forward(np.arange(size).reshape(tape[below].shape), **tape[i].params)
        if isinstance(tape[i].node, Output):
            places = places[tape[i].node.position]
        whole = np.zeros(size, term.dtype)
        np.add.at(whole, np.ravel(places), np.ravel(term))
        i, term = below, whole.reshape(tape[below].shape)
    return i, term


def assert_norm(grad, arrays):
    with np.errstate(all="ignore"):
        norm = np.linalg.norm(np.concatenate([np.ravel(array).astype(float) for array in arrays])) if arrays else None
    if norm is None:
        assert grad["status"] == "none"
    elif np.isfinite(norm):
        assert grad["norm"] == pytest.approx(norm, rel=1e-5, abs=1e-30)
    else:
        assert grad["status"] == "nonfinite" or not all(np.isfinite(array).all() for array in arrays) or grad["norm"] > 1e150


def look_at_products(tape, drawing):
    """A box of products holds products with weights, what adds them up, moves them, or is made of weights alone; no state."""
    readers = defaultdict(set)
    alone = set()
    for entry in tape:
        learned = entry.op == "leaf" and entry.requires_grad
        if learned or (entry.inputs and alone.issuperset(entry.inputs)):
            alone.add(entry.index)
        for i in entry.inputs:
            readers[i].add(entry.index)
    for node in drawing._graph.nodes:
        held = [tape[i] for i in node.entries if tape[i].op not in ("leaf", "constant")]
        if node.kind != "op" or node.t is None or not re.search(r"\blinear(\.\d+)?$", node.slot):
            continue
        for entry in held:
            others = {tape[i].t for i in readers[entry.index]} - {None, entry.t}
            assert not others or entry.t is None, node.id
            beside = (readers[entry.index] | {*entry.inputs}) & {*node.entries}
            product = entry.op in PRODUCTS and alone.intersection(entry.inputs)
            assert entry.index in alone or product or (entry.op in SUMS | MOVES and beside), (node.id, entry.op)


# ---- what they have found ---------------------------------------------------------------------------------------------


def network(T=3, cell="rnn", gates=("u", "f"), learned=False, finish=lambda h: h.sum()):
    """h<t> = tanh(x<t> W + h<t-1> U) in a cell of this name, with gates of these."""
    W, U, V = (runs.weight(name, 3, 3) for name in "WUV")
    h = tg.tensor(np.ones((2, 3)), name="h<init>", requires_grad=learned)
    with tg.record() as tape:
        for t in range(T):
            with tg.scope(cell, t=t):
                x = tg.tensor(np.full((2, 3), 0.1 * t), name=f"x<{t}>")
                with tg.scope(gates[0]):
                    u = tg.sigmoid(x @ V)
                with tg.scope(gates[1]):
                    f = tg.sigmoid(h @ V)
                h = np.tanh(x @ W + h @ U) * u + f * h
                h.name = f"h<{t}>"
        loss = finish(h)
    loss.backward()
    return tape


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "names", [("rnn", "input", "forget"), ("elided", "linear", "sum"), ("linear", "init", "elided"), ("x", "tanh", "x")]
)
def test_users_names_may_be_ours(names, level):
    """A gate called `input` is not what it reads, and one called `linear` no product."""
    cell, *gates = names
    tape = network(8, cell, gates)
    for steps in ("all", 4):
        data = viz.draw(tape, level=level, steps=steps).data
        look_at(data)
        assert {i for node in data["nodes"] for i in node["entries"]} == {*range(len(tape))}
    if level == "gate":
        nodes = {node["id"]: node for node in viz.draw(tape, level="gate").data["nodes"]}
        assert [nodes[f"t1.{cell}.{gate}"]["kind"] for gate in gates] == ["gate", "gate"]
        assert [nodes[f"t1.{cell}.{gate}"]["label"] for gate in gates] == [f"{gate}<1>" for gate in gates]


def test_products_in_a_gates_scope_make_no_box_of_the_sum_beside_it():
    W, b = runs.weight("W", 3, 3), runs.weight("b", 3)
    h = tg.tensor(np.ones((2, 3)), name="h<init>")
    with tg.record() as tape:
        for t in range(2):
            with tg.scope("rnn", t=t):
                with tg.scope("f"):
                    product = h @ W
                h = np.tanh(product + b)
        h.sum()
    assert not [node for node in viz.draw(tape, level="gate").data["nodes"] if node["label"] == "linear"]
    labels = {node["label"] for node in viz.draw(tape, level="gate").data["nodes"]}
    assert {"f<0>", "+", "tanh"} <= labels


def test_no_sum_where_the_box_itself_uses_the_value():
    """Of h<3>, a hidden step's, some uses are hidden with it: the arrows are not all of its terms."""
    W = runs.weight("W", 3, 3)
    h, seen = tg.tensor(np.ones((2, 3)), name="h<init>"), []
    with tg.record() as tape:
        for t in range(8):
            with tg.scope("rnn", t=t):
                back = seen[t - 3] if t > 2 else h
                h = np.tanh(h @ W + back * np.exp(back))
                seen.append(h)
        loss = h.sum()
    loss.backward()
    data = viz.draw(tape, level="op", steps=3).data
    look_at_numbers(tape, data)
    assert not [node for node in data["nodes"] if node["id"].startswith("elided.sum") and tape[node["entries"][0]].t == 4]


def test_what_stands_outside_of_the_scopes_and_reads_what_no_step_made():
    """On the way from one step to the next: a state with an array put beside it."""
    W, h, extra = runs.weight("W", 6, 3), tg.tensor(np.ones((2, 3)), name="h<init>"), tg.tensor(np.ones((2, 3)), name="e")
    with tg.record() as tape:
        for t in range(3):
            beside = tg.concatenate([extra, h], axis=1)
            with tg.scope("rnn", t=t):
                h = np.tanh(beside @ W)
        loss = h.sum()
    loss.backward()
    for level in LEVELS:
        look_at(viz.draw(tape, level=level).data)


def test_an_initial_state_that_only_a_later_step_reads_stands_before_all():
    """A skip over two steps: step 1 reads the initial state too, as step 0 does."""
    W, h, seen = runs.weight("W", 3, 3), tg.tensor(np.ones((2, 3)), name="h<init>"), []
    other = tg.tensor(np.zeros((2, 3)), name="o<init>")
    with tg.record() as tape:
        for t in range(4):
            with tg.scope("rnn", t=t):
                h = np.tanh(h @ W + (other * seen[t - 1] if t == 1 else seen[t - 1] * seen[t - 2] if t else 1.0))
                seen.append(h)
        loss = h.sum()
    loss.backward()
    drawing = viz.draw(tape, level="op")
    look_at_order(drawing)
    columns = [(column.role, column.t) for column in drawing._graph.columns]
    assert ("init", None) not in columns[1:]


@pytest.mark.parametrize("level", LEVELS)
def test_infinite_gradients_of_an_operation_over_all_of_time(level):
    """The root's derivative at 0 is infinite: that is drawn, and nobody is warned."""
    W, V, h = runs.weight("W", 3, 3), tg.Parameter(np.zeros((3, 3)), name="V"), tg.tensor(np.ones((2, 3)), name="h<init>")
    states = []
    with tg.record() as tape:
        for t in range(8):
            with tg.scope("rnn", t=t):
                h = np.tanh(h @ W)
            states.append(h)
        with tg.scope("readout", time_axis=0):
            roots = np.sqrt(tg.stack(states) @ V)
        loss = roots.sum()
    loss.backward()
    statuses = {edge["grad"]["status"] for edge in viz.draw(tape, level=level).data["edges"] if edge["kind"] == "backward"}
    assert "nonfinite" in statuses


def test_forward_and_backward_loops_have_ids_of_their_own():
    drawing = viz.draw(network(4), level="rolled")
    ids = Counter(element.get("id") for element in ET.fromstring(drawing.svg()).iter() if element.get("id"))
    assert max(ids.values()) == 1
    assert {"rnn-rnn", "rnn-rnn~back"} <= {*ids}


def test_nothing_stands_between_two_slots_of_a_stack():
    template = Template(ranks=[[]])
    upper, lower, other = (Slot(name, n, False, height=20.0) for n, name in enumerate("abc"))
    stack = Stack([upper, lower], stretch=200.0, lanes=(0, 1))
    upper.stack = lower.stack = stack
    for order in ((upper, other), (other, upper)):
        rank = room.Room(template)
        for item in order:
            rank.put(item, -100.0 if item is other else 0.0)
        assert not lower.y < other.y < upper.y


def test_a_box_that_grows_for_its_ports_is_placed_anew(monkeypatch):
    """Ports are given last; a box that is taller then would stand in a lane, or on the next."""
    calls, give_ports = Counter(), heights.give_ports

    def taller(template, wires):
        give_ports(template, wires)
        calls[id(template)] += 1
        if calls[id(template)] == 5:  # after the last of the settling
            for slot in template.slots.values():
                slot.height += 60.0

    monkeypatch.setattr(heights, "give_ports", taller)
    look_at(viz.draw(network(3), level="op").data)
