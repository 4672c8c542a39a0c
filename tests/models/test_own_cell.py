"""A user's own cell of ten lines, with gates that nobody foresaw: run, inspected and drawn as ours are."""

from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import viz
from tinygrad_seq.models import Bidirectional, GRUCell, LSTMCell, Recurrent

from .kinds import B, CountingCell, H, I, LeakyCell, T, weighted


class TideCell(tg.Module):
    def __init__(self, I, H):
        self.hidden_size = H
        self.W, self.U = tg.Parameter(tg.init.xavier_uniform((I, 3 * H))), tg.Parameter(tg.init.orthogonal((H, H)))

    def step(self, x, h):
        ebb, flood, wave = np.split(x @ self.W, 3, axis=-1)
        with tg.scope("ebb"):
            ebb = tg.sigmoid(ebb)
        with tg.scope("flood"):
            flood = tg.sigmoid(flood + h @ self.U)
        return ebb * h + flood * np.tanh(wave)


CELLS = {  # and the scopes of their gates
    "tide": (lambda: TideCell(I, H), ("ebb", "flood")),
    "leaky": (lambda: LeakyCell(I, H), ("leak",)),
    "gru": (lambda: GRUCell(I, H), ("u", "r", "candidate")),  # ours, for comparison: each promise holds for all of them
    "lstm": (lambda: LSTMCell(I, H), ("u", "f", "o", "candidate")),
}
LAYERS = {"Recurrent": Recurrent, "Bidirectional": Bidirectional}
LENGTHS = (3, 0, 2, 1)  # of T = 5: at the last two steps no row is real
every_cell = pytest.mark.parametrize("name", CELLS)
every_layer = pytest.mark.parametrize("kind", LAYERS)


def recorded(name, kind="Recurrent", lengths=LENGTHS):
    """(tape, x as a leaf, histories, layer) of a run with a backward pass."""
    tg.manual_seed(0)
    layer = LAYERS[kind](CELLS[name][0]()).to(np.float64)
    beyond = np.arange(T)[:, None] >= np.array(lengths)
    x = np.random.default_rng(0).normal(size=(T, len(lengths), I))
    x = tg.tensor(np.where(beyond[:, :, None], np.nan, x), requires_grad=True, name="x")
    with tg.record() as tape:
        outputs, _, histories = layer(x, lengths=lengths, return_all=True)
        loss = (outputs * outputs).sum()  # which asks nothing of the zeros in the padding
    loss.backward()
    return tape, x, histories, layer


# ---- run ------------------------------------------------------------------------------------------------------------------


def test_a_users_cell_is_run_as_it_stands():
    cell, x = LeakyCell(I, H), np.random.default_rng(6).normal(size=(T, B, I))
    outputs, state = Recurrent(cell)(x)
    h = np.zeros((B, H))
    for t in range(T):
        h = cell(x[t], h)
        np.testing.assert_allclose(outputs.data[t], h.data, rtol=1e-12)
    assert state.shape == (1, B, H)


def test_a_users_state_may_be_anything():
    x = np.random.default_rng(7).normal(size=(T, B, I))
    outputs, (count, product) = Recurrent(CountingCell())(x, lengths=[T, 2])
    np.testing.assert_array_equal(outputs.data[:, 0], x[:, 0] + np.arange(T)[:, None])
    np.testing.assert_array_equal(count.data, [[[T], [2]]])
    np.testing.assert_allclose(product.data[0, 1], x[:2, 1].prod(axis=0), rtol=1e-12)


class TwoSpeeds(tg.Module):
    state_names = "fast", "slow"

    def __init__(self, H):
        self.hidden_size, self.W = H, tg.Parameter(tg.init.orthogonal((H, H)))

    def step(self, x, state):
        fast, slow = state
        with tg.scope("mix"):
            mixed = np.tanh(x + fast @ self.W + slow)
        return mixed, 0.9 * slow + 0.1 * mixed


def test_a_state_of_several_arrays_has_a_name_for_each():
    layer, x = Bidirectional(TwoSpeeds(I)), np.random.default_rng(3).normal(size=(T, B, I))
    with tg.record() as tape:
        outputs, (fast, slow), (history, _) = layer(x, lengths=[T, 2], return_all=True)
        loss = (outputs * outputs).sum()
    loss.backward()
    assert fast.shape == slow.shape == (2, B, I)
    assert set(history) == {"mix", "fast", "slow"}
    for name in "fast", "slow":
        np.testing.assert_array_equal(tape.find(name, t=3)[0].value, history[name][3].data)
        for level in "gate", "op":
            shown = [node["label"] for node in viz.draw(tape, level=level, steps="all").data["nodes"]]
            for direction in "→←":
                assert any(f"{name}{direction}<3>" in label for label in shown), (name, level)


@every_layer
@every_cell
def test_padding_reaches_nothing(name, kind):
    tape, x, _, layer = recorded(name, kind)
    assert not x.grad.data[np.arange(T)[:, None] >= np.array(LENGTHS)].any()
    assert all(np.isfinite(parameter.grad.data).all() and parameter.grad.data.any() for parameter in layer.parameters())
    assert all(entry.grad is None or np.isfinite(entry.grad).all() for entry in tape)


# ---- inspected ------------------------------------------------------------------------------------------------------------


@every_layer
@every_cell
def test_gates_are_found_and_returned_under_the_names_that_the_cell_gave_them(name, kind):
    tape, _, histories, layer = recorded(name, kind)
    assert len(histories) == layer.directions
    for history, direction in zip(histories, ("forward", "backward")):
        assert set(CELLS[name][1]) | {"h"} <= set(history)
        for gate in CELLS[name][1]:
            for t in range(T):
                (*_, entry) = [each for each in tape.find(gate, t=t) if each.tags["direction"] == direction]
                np.testing.assert_array_equal(entry.value, history[gate][t].data)
                assert entry.scope.split("/")[-1] == gate
                assert entry.grad.shape == (len(LENGTHS), H)
                np.testing.assert_array_equal(entry.tags["valid"], np.array(LENGTHS) > t)


def test_what_is_returned_is_what_the_gates_computed():
    cell = TideCell(I, H).to(np.float64)
    x = np.random.default_rng(1).normal(size=(T, B, I))
    _, _, (history,) = Recurrent(cell)(x, return_all=True)  # without a recording of the user's
    for t in range(T):
        np.testing.assert_allclose(history["ebb"][t].data, 1 / (1 + np.exp(-x[t] @ cell.W.data[:, :H])), rtol=1e-12)
        before = history["h"][t - 1].data if t else np.zeros((B, H))
        flood = 1 / (1 + np.exp(-x[t] @ cell.W.data[:, H : 2 * H] - before @ cell.U.data))
        np.testing.assert_allclose(history["flood"][t].data, flood, rtol=1e-12)


def test_gates_that_are_returned_are_on_the_graph():
    layer = Recurrent(TideCell(I, H)).to(np.float64)
    outputs, _, (history,) = layer(np.ones((T, B, I)), return_all=True)
    for gate in "ebb", "flood", "h":
        found = tg.bptt.state_gradients(outputs.sum(), history[gate])
        assert all(g.any() for g in found[1:])


def test_scopes_within_scopes_and_scopes_twice_are_returned_too():
    class Nested(tg.Module):
        hidden_size = I

        def step(self, x, h):
            for k in range(2):
                with tg.scope("attention"):
                    with tg.scope("score"):
                        score = tg.sigmoid(x + k)
                    h = h + score * x
            return h

    x = np.ones((2, B, I))
    _, _, (history,) = Recurrent(Nested())(x, return_all=True)
    assert set(history) == {"attention", "attention/score", "h"}
    np.testing.assert_allclose(history["attention/score"][1].data, 1 / (1 + np.exp(-2.0)) * np.ones((B, I)), rtol=1e-6)
    np.testing.assert_array_equal(history["attention"][0].data, history["h"][0].data)


def test_returning_all_changes_nothing_and_leaves_a_recording_whole():
    layer, x = Recurrent(TideCell(I, H)), np.ones((T, B, I), np.float32)
    with tg.record() as plain:
        layer(x)[0].sum().backward()
    gradients = [parameter.grad.data for parameter in layer.parameters()]
    layer.zero_grad()
    with tg.record() as tape:
        layer(x, return_all=True)[0].sum().backward()
    assert [(entry.op, entry.scope, entry.t) for entry in tape] == [(entry.op, entry.scope, entry.t) for entry in plain]
    assert all((a.grad is None) == (b.grad is None) for a, b in zip(tape, plain))
    assert all((parameter.grad.data == g).all() for parameter, g in zip(layer.parameters(), gradients))
    _, _, (history,) = layer(np.ones((1_200, 1, I), np.float32), return_all=True)  # as deep as it likes
    assert len(history["flood"]) == 1_200


# ---- drawn ----------------------------------------------------------------------------------------------------------------


def drawing(name, kind, level):
    tape, _, _, _ = recorded(name, kind)
    return tape, viz.draw(tape, level=level, steps="all").data


def boxes_overlap(a, b):
    return abs(a["x"] - b["x"]) < (a["width"] + b["width"]) / 2 and abs(a["y"] - b["y"]) < (a["height"] + b["height"]) / 2


@pytest.mark.parametrize("level", ["cell", "gate", "op"])
@every_layer
@every_cell
def test_it_is_drawn_as_ours_are(name, kind, level):
    """What is true of a drawing of ours: steps are columns of equal slots, gradients are the tape's, each arrow has its twin."""
    tape, data = drawing(name, kind, level)
    nodes = {node["id"]: node for node in data["nodes"]}
    assert data["level"] == level
    assert data["steps"] == list(range(T))
    assert len(nodes) == len(data["nodes"])
    assert not any(boxes_overlap(a, b) for a, b in combinations(nodes.values(), 2))

    within = f"{name}."
    slots = defaultdict(set)
    for node in nodes.values():
        if node["t"] is not None and f"{node['slot']}.".startswith(within):
            slots[node["t"]].add((node["slot"].removesuffix(".sum"), node["y"] if node["kind"] != "sum" else None))
    columns = [{slot for slot, y in slots[t] if y is not None} for t in range(T)]
    assert all(column == columns[1] for column in columns)  # every step the same,
    assert all(len(slots[t] & slots[1]) >= len(columns[1]) for t in range(T))  # and each slot at its own height

    for node in nodes.values():
        entry = tape[node["entries"][0]]
        if node["kind"] in ("op", "state", "gate", "cell") and len(node["entries"]) == 1 and entry.t is not None:
            assert (node["t"], node["shape"]) == (entry.t, list(entry.shape))
            if node["grad"]["status"] == "finite":
                assert node["grad"]["norm"] == pytest.approx(np.linalg.norm(entry.grad))
            if node["grad"]["status"] == "masked":
                assert not entry.grad.any()

    pairs = Counter((edge["kind"] == "backward", *sorted((edge["from"], edge["to"]))) for edge in data["edges"])
    assert {kind for kind, *_ in pairs} == {False, True}
    for (backward, *ends), _ in pairs.items():  # what flows back flows along an arrow, if not by way of a drawn sum
        assert not backward or pairs[False, *ends] or "sum" in {nodes[end]["kind"] for end in ends}


@every_layer
@every_cell
def test_each_gate_is_a_node_of_each_step_and_says_its_name(name, kind):
    _, data = drawing(name, kind, "gate")
    tracks = [f"{name}.{side}" for side in ("", "backward.")[: 2 if kind == "Bidirectional" else 1]]
    for gate in CELLS[name][1]:
        for track in tracks:
            found = {node["t"]: node for node in data["nodes"] if node["slot"] == track + gate and node["kind"] == "gate"}
            assert sorted(found) == list(range(T))
            for t, node in found.items():
                assert f"<{t}>" in node["label"]
                assert gate in node["label"] or name in ("gru", "lstm")  # ours are called as the document has them


@every_layer
@every_cell
def test_steps_where_no_row_is_real_are_marked(name, kind):
    """Going forward. Going backward they come first, and what reaches the initial state passes them."""
    _, data = drawing(name, kind, "cell")
    for node in data["nodes"]:
        if node["kind"] == "cell" and "backward" not in node["slot"]:
            reached = node["t"] < max(LENGTHS)
            assert node["grad"]["status"] == ("finite" if reached else "masked"), node["id"]


@every_cell
def test_the_shares_of_its_weights_add_up(name):
    """The strip below the drawing: what each step brought to the norm of dL/dW."""
    tg.manual_seed(0)
    layer = Recurrent(CELLS[name][0]()).to(np.float64)
    with tg.record() as tape:
        loss = weighted([layer(np.random.default_rng(0).normal(size=(T, B, I)))[0]])
    loss.backward()
    weights = {path.split(".")[-1]: parameter for path, parameter in layer.named_parameters()}
    strips = viz.draw(tape, level="cell", steps="all").data["shares"]
    assert strips
    for strip in strips:
        norm = np.linalg.norm(weights[strip["weight"]].grad.data)
        assert strip["norm"] == pytest.approx(norm)
        assert sum(step["share"] for step in strip["steps"]) == pytest.approx(norm)
