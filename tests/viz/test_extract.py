"""What is folded into which node, and which gradient each node and edge shows."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import viz

from . import runs


def nodes_of(drawing):
    return {node["id"]: node for node in drawing.data["nodes"]}


def edges_of(drawing, kind):
    return {(edge["from"], edge["to"]): edge for edge in drawing.data["edges"] if edge["kind"] == kind}


def test_the_smallest_recurrence_at_every_level():
    #           w - Σ
    #            / \          op:   w, its Σ, h<init>, and @ and tanh for each of two steps, loss = 8 nodes
    #  h<init> - @ - tanh     cell: w, its Σ, h<init>, rnn twice, loss                           = 6 nodes
    #               - @ - tanh - sum
    w, h = tg.Parameter([[0.5]], name="w"), tg.tensor([[1.0]], name="h<init>")
    with tg.record() as tape:
        for t in range(2):
            with tg.scope("rnn", t=t):
                h = np.tanh(h @ w)
                h.name = f"h<{t}>"
        loss = h.sum()
    loss.backward()
    op, cell = viz.draw(tape, level="op"), viz.draw(tape, level="cell")
    assert set(nodes_of(op)) == {
        "w", "w.sum", "init.rnn.tanh", "t0.rnn.matmul", "t0.rnn.tanh", "t1.rnn.matmul", "t1.rnn.tanh", "sum",
    }  # fmt: skip
    assert set(edges_of(op, "forward")) == {
        ("init.rnn.tanh", "t0.rnn.matmul"), ("w", "w.sum"), ("w.sum", "t0.rnn.matmul"),
        ("t0.rnn.matmul", "t0.rnn.tanh"), ("t0.rnn.tanh", "t1.rnn.matmul"),
        ("w.sum", "t1.rnn.matmul"), ("t1.rnn.matmul", "t1.rnn.tanh"), ("t1.rnn.tanh", "sum"),
    }  # fmt: skip
    kinds = {name: node["kind"] for name, node in nodes_of(op).items()}
    assert kinds == {
        "w": "weight", "w.sum": "sum", "init.rnn.tanh": "state", "sum": "loss", "t0.rnn.matmul": "op", "t1.rnn.matmul": "op",
        "t0.rnn.tanh": "state", "t1.rnn.tanh": "state",
    }  # fmt: skip
    assert set(nodes_of(cell)) == {"w", "w.sum", "init.rnn.tanh", "t0.rnn", "t1.rnn", "sum"}
    assert nodes_of(cell)["t1.rnn"]["label"] == "h<1>"
    assert nodes_of(cell)["t1.rnn"]["kind"] == "cell"
    assert nodes_of(cell)["w"]["t"] is None


def test_schema():
    tape, loss = runs.elman(2)
    loss.backward()
    data = viz.draw(tape).data
    assert list(data) == ["schema", "level", "steps", "nodes", "edges", "shares"]
    assert (data["schema"], data["level"], data["steps"]) == (1, "op", [0, 1])
    for node in data["nodes"]:
        assert list(node) == [
            "id", "kind", "label", "t", "slot", "x", "y", "width", "height", "shape", "entries", "source", "grad",
        ]  # fmt: skip
    for edge in data["edges"]:
        assert set(edge) == {"from", "to", "kind", "grad", "points"}


@pytest.mark.parametrize("name", runs.ALL)
@pytest.mark.parametrize("level", ["op", "gate", "cell"])
def test_every_entry_is_in_one_node(name, level):
    tape, _ = runs.ALL[name](T=3)
    held = [i for node in viz.draw(tape, level=level).data["nodes"] for i in node["entries"]]
    shared = {i for i in held if held.count(i) > 1}
    assert set(held) == set(range(len(tape)))
    assert all(tape[i].op == "constant" and tape[i].shape == () for i in shared)


@pytest.mark.parametrize("name", runs.ALL)
def test_gradients_at_level_op_are_the_tapes(name):
    tape, loss = runs.ALL[name](T=3)
    loss.backward()
    drawing = viz.draw(tape, level="op")
    norm = {i: None if tape[i].grad is None else np.linalg.norm(tape[i].grad.astype(float)) for i in range(len(tape))}
    for node in drawing.data["nodes"]:
        parts = [norm[i] for i in node["entries"] if tape[i].op == tape[node["entries"][-1]].op or tape[i].op == "split"]
        if len(node["entries"]) == 1 or all(tape[i].op == "split" for i in node["entries"]):
            known = [part for part in parts if part is not None]
            if known:
                assert node["grad"]["norm"] == pytest.approx(np.hypot.reduce(known), rel=1e-9)
            else:
                assert node["grad"] == {"status": "none", "norm": None}


@pytest.mark.parametrize("level", ["op", "gate", "cell"])
@pytest.mark.parametrize("name", ["elman", "lstm"])
def test_what_flows_along_the_edges(name, level):
    """The terms of a weight's gradient: recomputed here from the events, step by step."""
    tape, loss = runs.ALL[name](T=3)
    loss.backward()
    drawing = viz.draw(tape, level=level)
    node_of = {i: node for node in drawing.data["nodes"] for i in node["entries"]}
    checked = 0
    for edge in drawing.data["edges"]:
        target = next(node for node in drawing.data["nodes"] if node["id"] == edge["to"])
        if edge["kind"] != "backward" or target["kind"] not in ("weight", "sum") or edge["from"].endswith(".sum"):
            continue
        (i,) = target["entries"]
        terms = [g for event in tape.events if node_of[event.index]["id"] == edge["from"] for j, g in event.terms if j == i]
        assert edge["grad"]["norm"] == pytest.approx(np.linalg.norm(sum(terms)), rel=1e-6)
        checked += 1
    assert checked >= 3


def test_one_step_of_an_edge_by_hand():
    """loss = sum(2 x), so 1 reaches 2 x in both elements, and 2 reaches x in both."""
    x = tg.tensor([3.0, 4.0], requires_grad=True, name="x")
    with tg.record() as tape:
        y = x * 2
        loss = y.sum()
    loss.backward()
    edges = edges_of(viz.draw(tape, level="op"), "backward")
    assert edges["sum", "multiply"]["grad"]["norm"] == pytest.approx(np.sqrt(2))
    (to_x,) = [edge for (source, target), edge in edges.items() if source == "multiply"]
    assert to_x["grad"]["norm"] == pytest.approx(2 * np.sqrt(2))


def test_terms_to_the_same_value_add_up():
    """d(x x)/dx = x + x: two terms through one operation. And 3 x + 4 x in one cell: 3 and 4 through one node."""
    x = tg.tensor([3.0], requires_grad=True, name="x")
    with tg.record() as tape:
        with tg.scope("square", t=0):
            y = x * x
        with tg.scope("cell", t=1):
            loss = (y * 3 + y * 4).sum()
    loss.backward()
    edges = edges_of(viz.draw(tape, level="cell"), "backward")
    assert edges["t1.cell", "t0.square"]["grad"]["norm"] == pytest.approx(7)
    assert edges["t0.square", "x"]["grad"]["norm"] == pytest.approx(7 * (3 + 3))


def test_no_backward_edges_before_a_backward_pass():
    tape, loss = runs.elman(3)
    drawing = viz.draw(tape)
    assert not edges_of(drawing, "backward")
    assert all(node["grad"] == {"status": "none", "norm": None} for node in drawing.data["nodes"])
    loss.backward()
    drawn = viz.draw(tape)
    twins = {(b, a) for a, b in edges_of(drawn, "backward")}
    assert twins == set(edges_of(drawn, "forward"))


def test_none_zero_nonfinite_and_masked_are_four_things():
    x = tg.tensor([0.0, 4.0], requires_grad=True, name="x")
    with tg.record() as tape:
        with tg.scope("a", t=0):
            root = np.sqrt(x)
        with tg.scope("b", t=1, valid=np.array([False, False])):
            padded = np.tanh(x) * tg.tensor([0.0, 0.0], name="mask")
        with tg.scope("c", t=2):
            nothing = np.tanh(x) * tg.tensor([0.0, 0.0], name="zeros")
        unused = np.exp(x)
        loss = (root + padded + nothing).sum()
    loss.backward()
    assert unused.shape == (2,)
    status = {name: node["grad"]["status"] for name, node in nodes_of(viz.draw(tape, level="op")).items()}
    assert status["t0.a.sqrt"] == "finite"
    assert status["t1.b.tanh"] == "masked"
    assert status["t2.c.tanh"] == "zero"
    assert status["exp"] == "none"
    assert status["x"] == "nonfinite"


def test_tiny_gradients_do_not_vanish_in_the_norm():
    x = tg.tensor([1.0, 1.0], requires_grad=True)
    with tg.record() as tape:
        loss = (x * 1e-30).sum()
    loss.backward()
    (edge,) = [edge for (a, _), edge in edges_of(viz.draw(tape, level="op"), "backward").items() if a == "multiply"]
    assert edge["grad"] == {"status": "finite", "norm": pytest.approx(np.sqrt(2) * 1e-30)}


def test_a_detach_is_a_cut():
    tape, loss = runs.split_and_cut(4)
    loss.backward()
    for level in ("op", "cell"):
        drawing = viz.draw(tape, level=level)
        ((_, behind),) = edges_of(drawing, "cut")
        assert behind.endswith("detach")
        (twin,) = [edge for (a, _), edge in edges_of(drawing, "backward").items() if a == behind]
        assert twin["grad"]["status"] == "none"


def test_the_outputs_of_one_call_are_one_node():
    tape, _ = runs.split_and_cut(1)
    (node,) = [node for node in viz.draw(tape, level="op").data["nodes"] if node["slot"].endswith("split")]
    assert [tape[i].op for i in node["entries"]] == ["split"] * 4


def test_gates_are_folded_and_the_cells_own_operations_are_not():
    tape, _ = runs.lstm(2)
    kinds = {node["slot"]: node["kind"] for node in viz.draw(tape, level="gate").data["nodes"] if node["t"] is not None}
    assert {slot for slot, kind in kinds.items() if kind == "gate"} == {"lstm.f", "lstm.u", "lstm.c~", "lstm.o"}
    assert kinds["lstm.concatenate"] == kinds["lstm.tanh"] == "op"
    assert kinds["lstm.add"] == "state"


def test_a_fold_never_closes_a_circle():
    """The cell's scope is entered again after another scope read it: one node for both would depend on itself."""
    x = tg.tensor([1.0], requires_grad=True)
    with tg.record() as tape:
        with tg.scope("cell", t=0):
            a = np.tanh(x)
        with tg.scope("other", t=0):
            b = np.exp(a)
        with tg.scope("cell", t=0):
            c = np.sin(b)
    assert c.shape == (1,)
    ids = [node["id"] for node in viz.draw(tape, level="cell").data["nodes"] if node["t"] == 0]
    assert ids == ["t0.cell", "t0.other", "t0.cell.2"]


def test_parts_of_a_tape():
    tape, loss = runs.elman(4)
    loss.backward()
    one = viz.draw(tape.at(t=2), level="op")
    assert nodes_of(one)["t2.rnn.tanh"]["grad"] == nodes_of(viz.draw(tape, level="op"))["t2.rnn.tanh"]["grad"]
    assert one.data["steps"] == [1, 2]  # what step 2 was computed from is shown too
    part = viz.draw(tape[10:25], level="op")
    assert {i for node in part.data["nodes"] for i in node["entries"]} >= set(range(10, 25))


def test_a_loss_can_be_drawn_without_recording():
    w, h = tg.Parameter([[0.5]], name="w"), tg.tensor([[1.0]])
    for t in range(3):
        with tg.scope("rnn", t=t):
            h = np.tanh(h @ w)
    loss = h.sum()
    assert viz.draw(loss).data["steps"] == [0, 1, 2]
    loss.backward()
    with pytest.raises(tg.FreedGraphError):
        viz.draw(loss)


def test_auto_takes_the_deepest_level_that_fits():
    tape, _ = runs.lstm(4)
    counts = {level: len(viz.draw(tape, level=level).data["nodes"]) for level in ("cell", "gate", "op")}
    assert counts["cell"] < counts["gate"] < counts["op"]
    for level, count in counts.items():
        assert viz.draw(tape, budget=count).data["level"] == level
    assert viz.draw(tape, budget=1).data["level"] == "cell"


def test_bad_arguments():
    tape, _ = runs.elman(1)
    with pytest.raises(ValueError, match="none of rolled, cell, gate, op, auto"):
        viz.draw(tape, level="layer")
    with pytest.raises(ValueError, match="the tape is empty"):
        viz.draw(tape[0:0])
