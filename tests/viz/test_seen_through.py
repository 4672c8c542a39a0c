"""A part of a weight is the weight, and a state is one box at every step, whether some rows are over there or none."""

import re
from collections import defaultdict

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import viz

from . import modelled, runs
from .test_any_program import look_at_numbers

T = 4


def flowing(data):
    return {(edge["from"], edge["to"]): edge["grad"]["norm"] for edge in data["edges"] if edge["kind"] == "backward"}


# ---- parts of weights ---------------------------------------------------------------------------------------------------


def test_a_part_of_a_weight_leads_to_what_multiplies_with_it_and_to_nothing_else():
    """The GRU's candidate multiplies with the last third of W_h; what the first box makes of x has none of its gradient."""
    tape, _ = modelled.recorded("GRU", T=T)
    drawing = viz.draw(tape, level="gate")
    last = {node.slot: node for node in drawing._graph.nodes if node.t == T - 1}
    first, second = last["gru.linear"], last["gru.linear.2"]
    assert (first.small, second.small) == ("W_x, b, W_h", "W_h")
    third = [e for e in tape if e.op == "split" and e.t == T - 1 and tape[e.inputs[0]].op == "leaf"][-1]
    sums = [tape[i] for i in second.entries if tape[i].op == "add"]
    back = flowing(drawing.data)
    assert back[second.id, "W_h.sum"] == pytest.approx(np.linalg.norm(third.grad), rel=1e-6)
    assert back[second.id, first.id] == pytest.approx(np.linalg.norm(sums[0].grad), rel=1e-6)  # x W_x + b is added as it is


def cut_up(parts):
    """h<t> = tanh of what a function makes of h<t-1> and the parts of one weight."""
    W, h = runs.weight("W", 3, 6), tg.tensor(np.ones((2, 3)), name="h<init>")
    with tg.record() as tape:
        for t in range(T):
            with tg.scope("cell", t=t):
                h = np.tanh(parts(h, W))
                h.name = f"h<{t}>"
        loss = (h * h).sum()
    loss.backward()
    return tape, viz.draw(tape, level="gate")


def test_parts_that_overlap_add_up():
    tape, drawing = cut_up(lambda h, W: h @ W[:, :3] + h @ W[:, 2:5] + h @ W.T[1:4])
    assert not {node.label for node in drawing._graph.nodes} & {"getitem", "transpose", "split"}
    assert len([edge for edge in drawing._graph.edges if edge.source.sums is not None]) == T  # one box reads it at each step
    look_at_numbers(tape, drawing.data)


def test_parts_that_two_gates_read():
    def gates(h, W):
        left, right = np.split(W, 2, axis=1)
        with tg.scope("u"):
            u = tg.sigmoid(h @ left)
        with tg.scope("v"):
            v = np.tanh(h @ right)
        return u * v

    tape, drawing = cut_up(gates)
    assert {edge.target.slot for edge in drawing._graph.edges if edge.source.sums is not None} == {"cell.u", "cell.v"}
    look_at_numbers(tape, drawing.data)


def test_at_level_op_a_part_has_a_box():
    tape, _ = modelled.recorded("GRU", T=2)
    boxes = [node for node in viz.draw(tape, level="op").data["nodes"] if node["label"] == "split"]
    assert len(boxes) == 2 * len({"W_h", "x W_x + b", "h W_ur + x_ur"})


@pytest.mark.parametrize("look_up", [lambda E, k: E[k], lambda E, k: E[[k]]])
def test_a_row_of_a_table_is_no_part_of_a_weight(look_up):
    E, h = runs.weight("E", 5, 3), tg.tensor(np.ones((2, 3)), name="h<init>")
    with tg.record() as tape:
        for t in range(T):
            with tg.scope("cell", t=t):
                h = np.tanh(h * look_up(E, t))
        loss = h.sum()
    loss.backward()
    data = viz.draw(tape, level="gate").data
    weight = next(node for node in data["nodes"] if node["kind"] == "weight")
    assert [tape[i].op for i in weight["entries"]] == ["leaf"]


# ---- rows that are over -------------------------------------------------------------------------------------------------

LAYERS = ("RNN", "OutputRNN", "GRU", "SimplifiedGRU", "LSTM", "Coupled", "reverse", "bidirectional", "with a projection")


def columns_of(drawing):
    """By step: slot, kind, label without its step and small print of every box."""
    columns = defaultdict(set)
    for node in drawing._graph.nodes:
        if node.t is not None:
            columns[node.t].add((node.slot, node.kind, re.sub(r"<\d+>", "", node.label), node.small))
    return columns


@pytest.mark.parametrize("level", ["cell", "gate"])
@pytest.mark.parametrize("name", LAYERS)
def test_all_steps_look_alike(name, level):
    """Two steps are everybody's, then one row is over, and at the last step all are."""
    tape, _ = modelled.recorded(name, T=5, every_step=True, lengths=[4, 2])
    columns = columns_of(viz.draw(tape, level=level, steps="all"))
    boxes = [{each for each in columns[t] if each[1] != "sum"} for t in range(5)]
    assert all(each == boxes[0] for each in boxes[1:])
    assert len(columns[1] ^ columns[2]) <= 1  # at most a sum of one use


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_a_states_gradient_is_what_each_row_would_have_by_itself(name):
    lengths = [4, 2]
    together, _ = modelled.recorded(name, T=5, every_step=True, lengths=lengths)
    alone, squares = [], defaultdict(float)
    for row, length in enumerate(lengths):
        tg.manual_seed(0)
        layer = modelled.LAYERS[name]()
        x = np.random.default_rng(0).normal(size=(5, 2, 3))[:length, row : row + 1]
        with tg.record() as tape:
            outputs, _ = layer(tg.tensor(x, name="x"))
            loss = (outputs * outputs).sum()
        loss.backward()
        alone.append(tape)
        for entry in tape:
            if re.fullmatch(r"[hc]<\d>", entry.name or ""):
                squares[entry.name] += float((entry.grad**2).sum()) if entry.grad is not None else 0.0
    nodes = viz.draw(together, level="gate").data["nodes"]
    states = {node["label"]: node["grad"] for node in nodes if node["kind"] == "state" and node["t"] in range(4)}
    assert len(states) >= 4
    assert {state: grad["norm"] for state, grad in states.items()} == {
        state: pytest.approx(np.sqrt(squares[state]), rel=1e-5) for state in states
    }


def test_arrows_to_a_state_add_up_where_rows_are_over():
    tape, _ = modelled.recorded("LSTM", T=4, every_step=True, lengths=[4, 2])
    graph = viz.draw(tape, level="gate")._graph
    met = {edge.target: edge.source for edge in graph.edges if edge.target.kind == "sum" and edge.source.kind == "state"}
    assert {(meeting.t, state.label) for meeting, state in met.items()} >= {(2, "c<2>"), (2, "h<2>")}
    for meeting in met:
        norms = [edge.grad.norm or 0.0 for edge in graph.edges if edge.source is meeting]
        assert max(norms) - 1e-7 <= meeting.grad.norm + sum(norms) - max(norms)  # no side of a triangle is longer than the others
        assert meeting.grad.norm <= sum(norms) + 1e-7


def test_the_state_of_rows_that_are_over_goes_from_box_to_box():
    tape, _ = modelled.recorded("LSTM", T=4, lengths=[4, 2])
    edges = {(edge["from"], edge["to"]) for edge in viz.draw(tape, level="gate").data["edges"]}
    for slot in ("lstm.add.3", "lstm.multiply.3"):
        (there,) = {a for a, b in edges if b == f"t2.{slot}" and a.startswith("t1.")}
        assert there == f"t1.{slot}.sum"


def test_at_level_op_it_is_an_operation_like_all_others():
    tape, _ = modelled.recorded("LSTM", T=4, lengths=[4, 2])
    nodes = viz.draw(tape, level="op", steps="all").data["nodes"]
    own = [node for node in nodes if node["t"] == 2 and node["slot"].startswith("lstm.") and node["kind"] != "sum"]
    assert len([node for node in own if "where" in {tape[i].op for i in node["entries"]}]) == 3
    assert [node["slot"] for node in own if node["label"] == "c<2>"] == ["lstm.add.3"]  # where it is at all other steps, too


def test_a_layers_states_are_the_same_for_the_words_below_the_picture():
    tape, _ = modelled.recorded("LSTM", T=5, every_step=True, lengths=[5, 2])
    for level, states in (("gate", 2), ("cell", 1)):
        said = viz.draw(tape, level=level).alt_text
        assert len(re.findall(r"Gradient norm at [^:]*: t=0: \S+ t=1: \S+ t=2: \S+ t=3: ", said)) == states, said
        assert "where" not in said


@pytest.mark.parametrize("level", ["rolled", "gate"])
def test_steps_that_are_hidden(level):
    tape, _ = modelled.recorded("LSTM", T=8, every_step=True, lengths=[8, 2])
    drawing = viz.draw(tape, level=level, steps=3)
    expected = {"c<7>", "h<7>"} if level == "gate" else {"c<t>, h<t>"}
    assert {node.label for node in drawing._graph.nodes if node.carries} >= expected
    if level == "rolled":
        assert {edge["label"] for edge in drawing.data["edges"] if "delay" in edge} == {"c", "h"}


def test_other_truth_values_than_the_lengths_are_data():
    """A `where` that only looks like padding: its mask is another one than the scope's."""
    W, h = runs.weight("W", 3, 3), tg.tensor(np.ones((2, 3)), name="h<init>")
    with tg.record() as tape:
        for t in range(T):
            with tg.scope("cell", t=t, valid=np.array([True, t < 2])):
                h = tg.where(np.array([[False], [True]]), np.tanh(h @ W), h)
                h.name = f"h<{t}>"
        loss = h.sum()
    loss.backward()
    nodes = viz.draw(tape, level="gate").data["nodes"]
    assert [node["slot"] for node in nodes if node["label"] == "h<1>"] == ["cell.where"]


def test_what_is_kept_leaves_from_the_same_place_at_every_step():
    """At the last step nothing reads the state that is kept, so no gradient comes back to the one before."""
    tape, _ = modelled.recorded("LSTM", T=4, every_step=True, lengths=[4, 1])
    graph = viz.draw(tape, level="gate")._graph
    kept = [edge for edge in graph.edges if edge.target.carries and edge.source.t is not None and edge.source.t != edge.target.t]
    assert "none" in {edge.grad.status for edge in kept}
    assert {edge.source.kind for edge in kept} == {"sum"}
