"""Many steps: what is left out of the picture is still told, and what is drawn stays true."""

import json

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import viz

from . import modelled, runs


def by_kind(data, kind):
    return [node for node in data["nodes"] if node["kind"] == kind]


def arrows(data, kind="backward"):
    return {(edge["from"], edge["to"]): edge for edge in data["edges"] if edge["kind"] == kind}


@pytest.mark.parametrize("level", ["op", "gate", "cell"])
def test_the_first_three_steps_and_the_last_remain(level):
    tape, loss = runs.lstm(41)
    loss.backward()
    data = viz.draw(tape, level=level, steps=4).data
    assert data["steps"] == [0, 1, 2, 40]
    (elided,) = by_kind(data, "elided")
    assert elided["steps"] == [3, 39]
    assert elided["t"] is None
    assert "37 equal steps" in elided["label"]
    held = [tape[i].t for i in elided["entries"] if tape[i].t is not None]
    assert set(held) == set(range(3, 40))


@pytest.mark.parametrize("level", ["op", "cell"])
def test_what_is_shown_and_what_is_hidden_are_the_tapes(level):
    """Arrows beside the gap carry what they carry in the full drawing; the gap's range is that of the hidden states."""
    tape, loss = runs.lstm(12)
    loss.backward()
    full, short = viz.draw(tape, level=level, steps="all").data, viz.draw(tape, level=level, steps=4).data
    in_full, in_short = arrows(full), arrows(short)
    kept = set(in_full) & set(in_short)
    assert len(kept) > 20
    for ends in kept:
        assert in_short[ends]["grad"] == in_full[ends]["grad"]
    states = [node for node in full["nodes"] if node["t"] in range(3, 11) and node["kind"] in ("state", "cell")]
    norms = [node["grad"]["norm"] for node in states]
    (elided,) = by_kind(short, "elided")
    assert elided["norms"] == [min(norms), max(norms)]
    assert f"{min(norms):.2g} to {max(norms):.2g}" in elided["label"]
    for node in by_kind(short, "weight"):  # the hidden steps' terms reach the weight as one sum
        terms = [g for event in tape.events if event.entry.t in range(3, 11) for i, g in event.terms if i == node["entries"][0]]
        assert in_short["elided", f"{node['id']}.sum"]["grad"]["norm"] == pytest.approx(np.linalg.norm(sum(terms)))


def test_shares_of_hidden_steps_add_up():
    tape, loss = runs.elman(12)
    loss.backward()
    (full,) = viz.draw(tape, level="cell", steps="all").data["shares"]
    (short,) = viz.draw(tape, level="cell", steps=4).data["shares"]
    assert [step["t"] for step in short["steps"]] == [0, 1, 2, None, 11]
    assert short["steps"][3]["share"] == pytest.approx(sum(step["share"] for step in full["steps"][3:11]))
    assert short["norm"] == pytest.approx(full["norm"])


def test_the_words_know_the_hidden_steps():
    tape, loss = runs.lstm(41)
    loss.backward()
    short, full = viz.draw(tape, level="cell", steps=4), viz.draw(tape, level="cell", steps="all")
    flow, said = (drawing.alt_text.partition("Back in time")[2].partition("Gradient norm")[0] for drawing in (full, short))
    assert said == f"{flow}Between folded steps and a weight or a loss, an arrow carries what all of them do together. "
    assert short.alt_text.startswith("Computational graph over time. 41 steps")
    assert any(line.startswith("t=3…39 37 equal steps gradient norm") for line in short.text().splitlines())


def test_what_stands_outside_of_time_for_hidden_steps_alone_is_folded_too():
    """The losses of 12 steps are added up by 11 sums: that of t = 1, of t = 2 and of t = 11 remain, 8 become one node."""
    tape, loss = runs.elman(12)
    loss.backward()
    data = viz.draw(tape, level="cell", steps=4).data
    steps, outside = by_kind(data, "elided")
    assert (steps["id"], outside["id"]) == ("elided", "after.elided")
    assert len(outside["entries"]) == 8
    assert all(tape[i].op == "add" for i in outside["entries"])
    held = [i for node in data["nodes"] if node["kind"] != "sum" for i in node["entries"]]
    assert set(held) == set(range(len(tape)))


def test_steps_that_differ_are_not_called_equal():
    tape, loss = runs.split_and_cut(9)  # a detach before step 2
    loss.backward()
    assert "equal" in by_kind(viz.draw(tape, steps=4).data, "elided")[0]["label"]
    (elided,) = by_kind(viz.draw(tape, steps=2).data, "elided")
    assert elided["steps"] == [1, 7]
    assert "7 steps" in elided["label"]


def test_inputs_made_outside_of_the_steps_do_not_make_them_differ():
    tape, loss = runs.both_directions(12)
    loss.backward()
    assert "9 equal steps" in by_kind(viz.draw(tape, steps=3).data, "elided")[0]["label"]


def test_a_gradient_that_is_lost_for_good_is_told():
    """h<t> = h<t-1> times 1 up to step 5, times 0 there: before it, the gradient is exactly 0."""
    h = tg.tensor([1.0], requires_grad=True, name="h<init>")
    with tg.record() as tape:
        for t in range(9):
            with tg.scope("rnn", t=t):
                h = h * tg.tensor([0.0 if t == 5 else 1.0], name=f"x<{t}>")
    h.sum().backward()
    (elided,) = by_kind(viz.draw(tape, steps=4).data, "elided")
    assert elided["steps"] == [3, 7]
    assert elided["norms"] == [1.0, 1.0]
    assert "1 to 1\nsome exactly 0" in elided["label"]


@pytest.mark.parametrize("name", [name for name in runs.ALL if name != "without time"])
@pytest.mark.parametrize("level", ["op", "cell"])
def test_only_what_is_too_large_is_elided(name, level):
    tape, loss = runs.ALL[name](T=8)
    loss.backward()
    drawing = viz.draw(tape, level=level)
    assert not by_kind(drawing.data, "elided")
    assert drawing.json() == viz.draw(tape, level=level, steps="all").json()
    few = viz.draw(tape, level=level, budget=10).data
    assert few["steps"] == [0, 1, 2, 7]
    assert by_kind(few, "elided")
    assert len(viz.draw(tape, level=level, steps=8).data["steps"]) == 8


def test_a_long_run_is_elided_by_itself():
    tape, loss = runs.elman(600)
    loss.backward()
    drawing = viz.draw(tape)
    assert drawing.data["level"] == "cell"
    assert drawing.data["steps"] == [0, 1, 2, 599]
    assert len(drawing.data["nodes"]) < 40
    assert json.loads(drawing.json())["nodes"]


def test_a_named_level_is_kept_and_elided_where_it_is_far_too_large():
    tape, loss = runs.lstm(60)
    loss.backward()
    data = viz.draw(tape, level="op").data
    assert data["level"] == "op"
    assert data["steps"] == [0, 1, 2, 59]
    assert viz.draw(tape, steps=4).data["level"] == "op"  # what is hidden does not count
    assert viz.draw(tape).data["level"] == "cell"


def test_steps_that_make_no_sense():
    tape, _ = runs.elman(5)
    for steps in (1, 0, -3, "some"):
        with pytest.raises(ValueError, match="steps="):
            viz.draw(tape, steps=steps)


@pytest.mark.parametrize("name", ["SimplifiedGRU", "Coupled", "GRU"])
def test_the_bars_belong_to_the_recurrent_weight_whatever_is_hidden(name):
    """Also where every step that the steps shown read is hidden, and where W_x has the larger gradient."""
    tape, _ = modelled.recorded(name, T=4, every_step=True)
    assert [strip.weight for strip in viz.draw(tape, level="gate", steps=2)._graph.shares] == ["W_h"]
    sizes = {entry.name: np.linalg.norm(entry.grad) for entry in tape if entry.name in ("W_x", "W_h")}
    assert name == "GRU" or sizes["W_x"] > sizes["W_h"]


def test_a_lane_is_straight_where_no_two_steps_are_neighbours():
    """The initial state comes to the × from where the uses of all states meet: there the lane is."""
    tape, _ = modelled.recorded("Coupled", T=5)
    nodes = {node["id"]: node for node in viz.draw(tape, level="gate", steps=2).data["nodes"]}
    lane = [nodes[f"{name}.coupled_lstm.add.3{meeting}"]["y"] for name, meeting in (("init", ""), ("t0", ""), ("t0", ".sum"))]
    assert len({*lane}) == 1
