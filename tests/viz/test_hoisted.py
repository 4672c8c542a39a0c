"""Operations over all of time at once: each step shows its part of them, and the parts add up."""

from collections import defaultdict

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import viz
from tinygrad_seq.models import RNN

from . import modelled


def nodes_of(data):
    return {node["id"]: node for node in data["nodes"]}


def terms_by_step(data, weight):
    """The norms that flow back to a weight, by the step they come from."""
    steps = {node["id"]: node["t"] for node in data["nodes"]}
    arrows = [e for e in data["edges"] if e["kind"] == "backward" and e["to"] in (weight, f"{weight}.sum")]
    return {steps[e["from"]]: e["grad"]["norm"] for e in arrows if steps[e["from"]] is not None}


def hoisted(T=4, dtype=np.float64):
    """A recurrence whose input projection and readout are one product each, over all of time."""
    tg.manual_seed(3)
    rng = np.random.default_rng(3)
    W_x, W_h, W_y = (tg.Parameter(rng.normal(size=(3, 3)).astype(dtype) * 0.6, name=name) for name in ("W_x", "W_h", "W_y"))
    x = tg.tensor(rng.normal(size=(T, 2, 3)).astype(dtype), name="x")
    h = tg.tensor(np.zeros((2, 3), dtype), name="h<init>")
    with tg.record() as tape:
        with tg.scope("rnn", time_axis=0):
            z = x @ W_x
            steps = tg.unstack(z) if hasattr(tg, "unstack") else list(z)
        states = []
        for t in range(T):
            with tg.scope("rnn", t=t, role="cell"):
                h = np.tanh(steps[t] + h @ W_h)
                h.name = f"h<{t}>"
            states.append(h)
        with tg.scope("readout", time_axis=0):
            y = np.stack(states) @ W_y
            squares = y * y
        loss = squares.sum()
    return tape, loss, (W_x, W_h, W_y)


@pytest.mark.parametrize("level", ["op", "gate", "cell"])
def test_each_step_brings_its_own_term(level):
    tape, loss, weights = hoisted()
    expected = {weight.name: tg.bptt.weight_gradients(loss, weight) for weight in weights}
    loss.backward()
    data = viz.draw(tape, level=level).data
    for name, by_step in expected.items():
        found = terms_by_step(data, name)
        assert set(found) == {0, 1, 2, 3}
        for t, norm in found.items():
            assert norm == pytest.approx(np.linalg.norm(by_step[t]) if t in by_step else 0.0, rel=1e-9), (name, t)


def test_the_parts_stand_in_the_columns_of_their_steps():
    tape, loss, _ = hoisted()
    loss.backward()
    nodes = nodes_of(viz.draw(tape, level="op").data)
    product = next(entry for entry in tape if entry.op == "matmul")
    stacked = next(entry for entry in tape if entry.op == "stack")
    for t in range(4):
        part = nodes[f"t{t}.rnn.matmul"]
        assert product.index in part["entries"]
        assert part["shape"] == [2, 3]
        assert part["grad"]["norm"] == pytest.approx(np.linalg.norm(product.grad[t]))
        assert nodes[f"t{t}.rnn.input"]["label"] == f"x<{t}>"
        assert stacked.index in nodes[f"t{t}.rnn.tanh"]["entries"]  # step t of the stack is h<t>
        assert nodes[f"t{t}.readout.multiply"]["t"] == t
    assert not [name for name in nodes if "stack" in name]


def test_gradients_of_the_states_are_those_of_the_tape():
    tape, loss, _ = hoisted()
    loss.backward()
    nodes = nodes_of(viz.draw(tape, level="op").data)
    for entry in tape:
        if entry.name and entry.name.startswith("h<") and entry.t is not None:
            assert nodes[f"t{entry.t}.rnn.tanh"]["grad"]["norm"] == pytest.approx(np.linalg.norm(entry.grad))


@pytest.mark.parametrize("level", ["op", "gate"])
@pytest.mark.parametrize("name", [*modelled.LAYERS, *modelled.TOPOLOGIES])
def test_what_reaches_a_value_adds_up(name, level):
    """Of every weight: the arrows to its sum are terms of its gradient. Of every single value: no arrow is larger than all."""
    tape, _ = (modelled.recorded if name in modelled.LAYERS else modelled.topology)(name, 3)
    data = viz.draw(tape, level=level, steps="all").data
    arriving = defaultdict(list)
    for edge in data["edges"]:
        if edge["kind"] == "backward" and edge["grad"]["norm"] is not None:
            arriving[edge["to"]].append(edge["grad"]["norm"])
    checked = 0
    for node in data["nodes"]:
        norms = arriving[node["id"]]
        if node["grad"]["norm"] and len(norms) == 1 and len(node["entries"]) == 1 and node["kind"] != "gate":
            assert norms[0] == pytest.approx(node["grad"]["norm"], rel=1e-4), node["id"]
            checked += 1
        elif node["kind"] == "sum":
            assert node["grad"]["norm"] <= sum(norms) * (1 + 1e-5), node["id"]
    assert checked > 3


def test_only_the_last_step_is_read_by_a_classifier():
    """outputs[-1] leads to the last state alone, and not to all that were stacked."""
    tape, _ = modelled.recorded("RNN", T=4)
    data = viz.draw(tape, level="cell").data
    assert [edge["from"] for edge in data["edges"] if edge["kind"] == "forward" and edge["to"] == "getitem"] == ["t3.rnn"]


def test_the_axes_of_batch_and_time_may_be_exchanged():
    tape, _ = modelled.recorded("batch first", T=3, every_step=False)
    nodes = nodes_of(viz.draw(tape, level="op").data)
    x = next(entry for entry in tape if entry.name == "x")
    assert [nodes[f"t{t}.gru.input"]["shape"] for t in range(3)] == [[2, 3]] * 3
    assert all(x.index in nodes[f"t{t}.gru.input"]["entries"] for t in range(3))


def test_as_many_features_as_steps_do_not_mislead():
    """T = I = H: the rows of a weight are no steps."""
    tg.manual_seed(0)
    layer = RNN(3, 3)
    for path, parameter in layer.named_parameters():
        parameter.name = path.split(".")[-1]
    with tg.record() as tape:
        outputs, _ = layer(np.ones((3, 3, 3), np.float32))
        loss = outputs.sum()
    loss.backward()
    kinds = {node["label"]: node["kind"] for node in viz.draw(tape, level="op").data["nodes"]}
    assert kinds["W_x"] == kinds["W_h"] == kinds["b"] == "weight"


def test_padding_is_told_from_zero_in_the_parts_too():
    tape, _ = modelled.recorded("RNN", T=4, every_step=True, lengths=[2, 1])
    statuses = {node["t"]: node["grad"]["status"] for node in viz.draw(tape, level="op").data["nodes"]
                if node["slot"] == "rnn.matmul"}  # fmt: skip
    assert statuses == {0: "finite", 1: "finite", 2: "masked", 3: "masked"}


def test_a_part_of_a_tape():
    tape, loss, _ = hoisted()
    loss.backward()
    data = viz.draw(tape.at(t=2), level="op").data
    assert "t2.rnn.tanh" in nodes_of(data)
    assert 2 in data["steps"]


def test_the_work_for_hoisted_operations_grows_with_the_number_of_steps(monkeypatch):
    """Counted, not timed: how many terms are computed for twice the steps."""
    from tinygrad_seq.viz import gradients

    counted = []
    for T in (20, 40):
        calls = []
        real = gradients.term_of
        monkeypatch.setattr(gradients, "term_of", lambda *args, real=real, calls=calls: (calls.append(1), real(*args))[1])
        tape, loss, _ = hoisted(T)
        loss.backward()
        viz.draw(tape, level="op", steps="all")
        counted.append(len(calls))
        monkeypatch.undo()
    assert counted[1] == pytest.approx(2 * counted[0], rel=0.1)
