"""Shared weights: the sum in which a weight's gradient terms meet, and its shares by step."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import viz
from tinygrad_seq.viz import shares

from . import modelled, runs


def parts_of(tape, W):
    return shares.by_step(tape, tape.entry_of(W).index)


def weights_on(tape):
    return [entry for entry in tape if entry.op == "leaf" and entry.grad is not None]


@pytest.mark.parametrize("level", ["op", "gate", "cell"])
@pytest.mark.parametrize("name", runs.ALL)
def test_a_shared_weights_arrows_meet_in_its_sum(name, level):
    tape, loss = runs.ALL[name](T=4)
    before = viz.draw(tape, level=level).data
    loss.backward()
    data = viz.draw(tape, level=level).data
    assert not [node for node in before["nodes"] if node["kind"] == "sum"]  # nothing flows back yet: nothing to add up
    weights = [node for node in data["nodes"] if node["kind"] == "weight"]
    assert weights
    for weight in weights:
        arrows = [edge for edge in data["edges"] if edge["kind"] == "backward" and edge["to"] == weight["id"]]
        assert len(arrows) == 1
        (trunk,) = arrows
        users = {edge["to"] for edge in before["edges"] if edge["from"] == weight["id"]}
        if len(users) == 1:
            assert {trunk["from"]} == users
            continue
        assert trunk["from"] == f"{weight['id']}.sum"
        assert trunk["grad"]["norm"] == pytest.approx(np.linalg.norm(tape[weight["entries"][0]].grad))
        assert {edge["from"] for edge in data["edges"] if edge["kind"] == "backward" and edge["to"] == trunk["from"]} == users


@pytest.mark.parametrize("name", runs.ALL)
def test_the_terms_by_step_add_up_to_the_gradient(name):
    tape, loss = runs.ALL[name](T=4)
    loss.backward()
    for weight in weights_on(tape):
        parts = shares.by_step(tape, weight.index)
        assert len(parts) == 4 or weight.name not in ("W_h", "W_f", "W_o", "W_b")
        np.testing.assert_allclose(sum(parts.values()), weight.grad, rtol=1e-10, atol=1e-12)


def test_the_terms_are_those_of_bptt_also_where_weights_pass_through_operations_outside_of_time():
    rng = np.random.default_rng(2)
    W, V = runs.weight("W", 3, 4), runs.weight("V", 8, 4)
    x = tg.tensor(rng.normal(size=(3, 2, 3)), name="x")
    with tg.record() as tape:
        with tg.scope("rnn", time_axis=0):
            z = x @ W
        f, u = np.split(V.T, 2, axis=1)
        h = tg.tensor(np.ones((2, 4)), name="h<init>")
        for t in range(3):
            with tg.scope("rnn", t=t):
                h = np.tanh(z[t] + h @ f) * (tg.sigmoid(h @ u) if t else 1.0)
        loss = (h * h).sum() + 0.1 * (V * V).sum()
    expected = {weight: tg.bptt.weight_gradients(loss, weight) for weight in (W, V)}
    loss.backward()
    for weight, by_step in expected.items():
        parts = parts_of(tape, weight)
        assert set(parts) == {None if t is None else ("", t) for t in by_step}
        for t, part in by_step.items():
            np.testing.assert_allclose(parts[None if t is None else ("", t)], part, rtol=1e-10)
        np.testing.assert_allclose(sum(parts.values()), weight.grad.data, rtol=1e-10)


@pytest.mark.parametrize("level", ["op", "cell"])
def test_the_strip_sums_to_the_gradient(level):
    tape, loss = runs.elman(5)
    loss.backward()
    drawing = viz.draw(tape, level=level, weights=["W_h", "W_y"])
    strips = drawing.data["shares"]
    assert [strip["weight"] for strip in strips] == ["W_h", "W_y"]
    for strip in strips:
        gradient = tape.find(strip["weight"])[0].grad
        assert strip["norm"] == pytest.approx(np.linalg.norm(gradient))
        assert [step["t"] for step in strip["steps"]] == [0, 1, 2, 3, 4]
        assert sum(step["share"] for step in strip["steps"]) == pytest.approx(strip["norm"])
        assert strip["steps"][0]["total"] == pytest.approx(strip["norm"])  # the running sum ends where the sweep does
        assert strip["steps"][-1]["total"] == strip["steps"][-1]["share"]
        assert all(abs(step["share"]) <= step["norm"] * (1 + 1e-12) for step in strip["steps"])
        arrows = {edge["from"]: edge["grad"]["norm"] for edge in drawing.data["edges"] if edge["to"] == f"{strip['weight']}.sum"
                  and edge["kind"] == "backward"}  # fmt: skip
        assert sorted(arrows.values()) == pytest.approx(sorted(step["norm"] for step in strip["steps"]))


def test_the_recurrent_weight_is_chosen_by_default():
    tape, loss = runs.elman(3)
    assert viz.draw(tape).data["shares"] == []
    loss.backward()
    assert [strip["weight"] for strip in viz.draw(tape).data["shares"]] == ["W_h"]
    assert viz.draw(tape, weights=[]).data["shares"] == []
    with pytest.raises(ValueError, match=r"no weight 'W'.*W_h, W_x, W_y"):
        viz.draw(tape, weights=["W"])


def test_a_weight_that_is_split_first_is_recurrent_too():
    tape, _ = modelled.recorded("GRU", T=3)  # W_h is cut into the gates' parts at every step
    for level in ("op", "cell"):
        assert [strip["weight"] for strip in viz.draw(tape, level=level).data["shares"]] == ["W_h"]


def test_shares_of_a_readout_over_all_of_time_stand_under_the_decoders_steps():
    tape, _ = modelled.topology("encoder-decoder", 3)
    (strip,) = viz.draw(tape, level="cell", weights=["embedding.W"]).data["shares"]
    assert [step["t"] for step in strip["steps"]] == [0, 1, 2]
    assert sum(step["share"] for step in strip["steps"]) == pytest.approx(strip["norm"], rel=1e-5)


def test_shares_by_hand():
    """Terms (3, 0) and (-1, 4): their sum (2, 4) has norm sqrt(20); shares 6 / sqrt(20) and 14 / sqrt(20)."""
    strip = shares.shares("W", "W", {0: {("", 0): np.array([3.0, 0.0])}, 1: {("", 1): np.array([-1.0, 4.0])}})
    root = np.sqrt(20)
    assert strip.norm == pytest.approx(root)
    assert [each.share for each in strip.columns] == pytest.approx([6 / root, 14 / root])
    assert [each.total for each in strip.columns] == pytest.approx([root, 14 / root])
    assert [each.norm for each in strip.columns] == pytest.approx([3, np.sqrt(17)])


def test_of_several_steps_in_one_column_the_largest_share_is_known():
    terms = {("", 2): np.array([1.0, 0.0]), ("", 3): np.array([2.5, 1.0]), ("", 4): np.array([0.5, -1.0])}
    (several,) = shares.shares("W", "W", {0: terms}).columns
    assert (several.hides, several.share, several.largest) == (3, 4.0, (3, 2.5))
    tape, loss = runs.elman(12)
    loss.backward()
    drawing = viz.draw(tape, level="cell", steps=4)
    hidden = next(step for step in drawing.data["shares"][0]["steps"] if step["hides"] > 1)
    assert hidden["hides"] == 8
    single = {step["t"]: step["share"] for step in viz.draw(tape, level="cell", steps="all").data["shares"][0]["steps"]}
    t, share = hidden["largest"]
    assert share == pytest.approx(max(single[t] for t in range(3, 11))) == single[t]
    assert "in 8 steps" in drawing.source and f"most at t = {t}" in drawing.source


def test_a_step_against_the_others_has_a_negative_share():
    strip = shares.shares("W", "W", {0: {("", 0): np.array([-1.0])}, 1: {("", 1): np.array([3.0])}})
    assert [each.share for each in strip.columns] == [-1.0, 3.0]
    assert strip.norm == 2.0


def test_shares_that_are_not_finite_are_said_to_be():
    strip = shares.shares("W", "W", {0: {("", 0): np.array([1.0])}, 1: {("", 1): np.array([np.nan])}})
    assert strip.norm is None
    assert strip.columns[1] == shares.Share(1, None, None, None)
    w, h = tg.Parameter([[0.0]], name="w"), tg.tensor([[1.0]], name="h<init>")
    with tg.record() as tape:
        for t in range(2):
            with tg.scope("rnn", t=t):
                h = np.sqrt(h @ w)  # the root's derivative at 0 is infinite
        loss = h.sum()
    loss.backward()
    drawing = viz.draw(tape)
    assert "not finite" in drawing.source
    assert drawing.json()


def test_the_numbers_stand_under_their_columns():
    tape, loss = runs.elman(4)
    loss.backward()
    drawing = viz.draw(tape, level="cell")
    svg = drawing.svg()
    written = {group.get("id"): "".join(group.itertext()) for group in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}g")}
    for n, step in enumerate(drawing.data["shares"][0]["steps"]):
        assert (f"{step['share']:.2g}" if step["share"] else "0") in written[f"share.W_h.{n}.norm"]
    assert f"{drawing.data['shares'][0]['norm']:.2g}" in svg


# ---- any value that is used several times ---------------------------------------------------------------------------


def meetings(data):
    return {node["id"]: node for node in data["nodes"] if node["kind"] == "sum" and node["t"] is not None}


@pytest.mark.parametrize("level", ["op", "gate"])
@pytest.mark.parametrize("name", runs.ALL)
def test_gradients_of_a_value_meet_in_a_sum(name, level):
    """Each arrow into a sum is a term, looked up in the events here; together they are the value's gradient."""
    tape, loss = runs.ALL[name](T=3)
    loss.backward()
    data = viz.draw(tape, level=level).data
    nodes = {node["id"]: node for node in data["nodes"]}
    for meeting in meetings(data).values():
        (trunk,) = [e for e in data["edges"] if e["kind"] == "backward" and e["from"] == meeting["id"]]
        arrows = [e for e in data["edges"] if e["kind"] == "backward" and e["to"] == meeting["id"]]
        assert len(arrows) > 1 or meeting["t"] in (0, 2)  # in the last step, either way, the sum may have one term
        (i,) = [i for i in meeting["entries"] if tape[i].op not in ("leaf", "constant")] or meeting["entries"]
        assert trunk["grad"]["norm"] == meeting["grad"]["norm"] == pytest.approx(np.linalg.norm(tape[i].grad), rel=1e-6)
        for arrow in arrows:
            users = set(nodes[arrow["from"]]["entries"])
            terms = [g for event in tape.events if event.index in users for j, g in event.terms if j == i]
            assert arrow["grad"]["norm"] == pytest.approx(np.linalg.norm(sum(terms)), rel=1e-6)


def test_a_state_read_by_the_next_step_and_by_the_loss():
    tape, loss = runs.elman(3)
    loss.backward()
    data = viz.draw(tape, level="op").data
    assert set(meetings(data)) == {f"t{t}.rnn.tanh.sum" for t in range(3)}  # h<2> has one reader, but looks like the others
    into = {edge["from"] for edge in data["edges"] if edge["kind"] == "backward" and edge["to"] == "t0.rnn.tanh.sum"}
    assert into == {"t1.rnn.matmul.2", "t0.loss.matmul"}


def test_a_state_read_several_times_in_one_column_only_has_a_sum_there_only():
    tape, _ = modelled.recorded("RNN", T=4)
    assert set(meetings(viz.draw(tape, level="op").data)) == set()
    h = tg.tensor(np.ones((2, 3)), name="h<init>")
    W = runs.weight("W", 3, 3)
    with tg.record() as tape:
        for t in range(4):
            with tg.scope("rnn", t=t):
                h = np.tanh(h @ W)
        loss = (h * np.exp(h)).sum()
    loss.backward()
    assert set(meetings(viz.draw(tape, level="op").data)) == {"t3.rnn.tanh.sum"}


def test_four_gates_that_read_h_by_themselves():
    """A user's LSTM with a product for every gate: h's four terms meet."""
    W = [runs.weight(name, 3, 3) for name in "fuco"]
    h = tg.tensor(np.ones((2, 3)), name="h<init>", requires_grad=True)
    with tg.record() as tape:
        for t in range(2):
            with tg.scope("cell", t=t):
                gates = [np.tanh(h @ each) for each in W]
                h = gates[0] * gates[1] + gates[2] * gates[3]
                h.name = f"h<{t}>"
        loss = h.sum()
    loss.backward()
    data = viz.draw(tape, level="op").data
    into = [edge["from"] for edge in data["edges"] if edge["kind"] == "backward" and edge["to"] == "t0.cell.add.sum"]
    assert sorted(into) == ["t1.cell.matmul", "t1.cell.matmul.2", "t1.cell.matmul.3", "t1.cell.matmul.4"]
    assert "init.cell.add.sum" in {node["id"] for node in data["nodes"]}  # the initial state, being learned, has one too


def test_different_outputs_of_one_call_do_not_add_up():
    x = tg.tensor(np.ones((2, 4)), requires_grad=True, name="x")
    with tg.record() as tape:
        a, b = np.split(x, 2, axis=1)
        loss = (np.tanh(a) * np.exp(b) * np.sin(b)).sum()
    loss.backward()
    data = viz.draw(tape, level="op").data
    (meeting,) = [node for node in data["nodes"] if node["kind"] == "sum"]
    assert meeting["entries"] == [next(entry.index for entry in tape if entry.op == "split") + 1]  # b alone has two uses


def test_a_cell_as_one_box_has_no_sums_but_those_of_weights():
    tape, loss = runs.elman(3)
    loss.backward()
    for level in ("cell", "rolled"):
        assert not meetings(viz.draw(tape, level=level).data)
