"""Geometry, looked at in `.data`: boxes, and the sampled curves of `points`."""

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest

from tinygrad_seq import viz
from tinygrad_seq.viz import channels, room
from tinygrad_seq.viz.template import TINY, Lane, Slot, Template, Turn

from . import modelled, runs

SLACK = 0.05


def drawn(name, T, level, backward=True, steps="all"):
    tape, loss = runs.ALL[name](T=T)
    if backward:
        loss.backward()
    return viz.draw(tape, level=level, steps=steps).data


def curve(points, n=12):
    """Points along a chain of cubic Bézier curves, (N, 2)."""
    assert len(points) % 3 == 1
    points, u = np.array(points), np.linspace(0, 1, n + 1)[:, None]
    pieces = [points[k : len(points) - 3 + k : 3, None] for k in range(4)]
    a, b, c, d = pieces
    return ((1 - u) ** 3 * a + 3 * (1 - u) ** 2 * u * b + 3 * (1 - u) * u**2 * c + u**3 * d).reshape(-1, 2)


def boxes(nodes):
    """Centres and half sizes of nodes, (N, 2) each."""
    centres = np.array([(node["x"], node["y"]) for node in nodes])
    return centres, np.array([(node["width"] / 2, node["height"] / 2) for node in nodes])


@pytest.mark.parametrize("level", ["op", "gate", "cell"])
@pytest.mark.parametrize("name", runs.ALL)
@pytest.mark.parametrize("T", [1, 2, 5])
def test_geometry(name, T, level):
    look_at(drawn(name, T, level))


@pytest.mark.parametrize("level", ["op", "gate", "cell"])
@pytest.mark.parametrize("name", runs.ALL)
def test_geometry_with_steps_left_out(name, level):
    look_at(drawn(name, 9, level, steps=4))


def modelled_run(name, T):
    record = modelled.recorded if name in modelled.LAYERS else modelled.topology
    return record(name, T)[0]


@pytest.mark.parametrize("name", [*modelled.LAYERS, *modelled.TOPOLOGIES])
@pytest.mark.parametrize("T", [1, 3])
def test_geometry_of_models(name, T):
    tape = modelled_run(name, T)
    for level in ("rolled", "cell", "gate", "op"):
        data = viz.draw(tape, level=level, steps="all").data
        look_at(data)
        if level != "rolled":
            look_along_time(data)


@pytest.mark.parametrize("T", range(1, 9))
def test_geometry_at_every_length(T):
    for name, levels in (("LSTM", ("cell", "gate", "op")), ("a user's own", ("gate",))):
        tape = modelled_run(name, T)
        for level in levels:
            data = viz.draw(tape, level=level, steps="all").data
            look_at(data)
            look_along_time(data)


def look_along_time(data):
    """Forward never left and backward never right, but for weights, and mirrored within a reversed direction; equal heights."""
    timeless, checked = lane(data), 0
    for edge in data["edges"]:
        ends = (edge["from"], edge["to"])
        reverse = any(".backward" in end for end in ends)
        if timeless & set(ends) or (reverse and not all(within_reverse(end) for end in ends)):
            continue
        sign = -1 if (edge["kind"] == "backward") != reverse else 1
        assert runs_one_way(edge, sign), ends
        checked += 1
    assert checked
    heights = defaultdict(set)
    for node in data["nodes"]:
        if node["t"] is not None:
            heights[node["id"].partition(".")[2]].add(node["y"])
    assert all(len(each) == 1 for each in heights.values())


def within_reverse(end):
    return (".backward" in end or end.startswith("init")) and ".input" not in end


def lane(data):
    """What stands in the lane outside of time, left of all columns."""
    left = min((node["x"] for node in data["nodes"] if node["t"] is not None), default=0.0)
    return {node["id"] for node in data["nodes"] if node["t"] is None and node["x"] < min(left, 0.0)}


def look_at(data):
    """No two boxes overlap, no arrow passes through a box, and every arrow goes from box to box."""
    nodes = data["nodes"]
    number = {node["id"]: n for n, node in enumerate(nodes)}
    assert len(number) == len(nodes)
    centres, halves = boxes(nodes)
    apart = (np.abs(centres[:, None] - centres) >= halves[:, None] + halves).any(axis=2)
    for a, b in zip(*np.nonzero(~apart)):
        assert a == b, (nodes[a]["id"], nodes[b]["id"])
    for edge in data["edges"]:
        sampled = curve(edge["points"])
        inside = (np.abs(sampled[:, None] - centres) < halves - SLACK).all(axis=2)  # (samples, nodes)
        for n in np.nonzero(inside.any(axis=0))[0]:
            raise AssertionError(f"{edge['from']} -> {edge['to']} passes through {nodes[n]['id']}")
        for end, name in ((sampled[0], edge["from"]), (sampled[-1], edge["to"])):
            beyond = np.abs(end - centres[number[name]]) - halves[number[name]]  # of the box's border, to the side and up or down
            assert np.max(beyond) == pytest.approx(0.0, abs=SLACK), (edge["from"], edge["to"])


def runs_one_way(edge, sign):
    """Whether an edge never turns back: to the right with sign 1, to the left with -1."""
    return bool((np.diff(curve(edge["points"])[:, 0]) * sign >= -SLACK).all())


@pytest.mark.parametrize("level", ["op", "gate", "cell"])
@pytest.mark.parametrize("name", runs.ALL)
def test_a_slot_keeps_its_place_in_every_column(name, level):
    columns = defaultdict(dict)
    for node in drawn(name, 5, level)["nodes"]:
        if node["t"] is not None:
            columns[node["slot"]][node["t"]] = node
    for slot in columns.values():
        assert len({node["y"] for node in slot.values()}) == 1
        pitches = [(slot[b]["x"] - slot[a]["x"]) / (b - a) for a, b in pairwise(sorted(slot))]
        assert not pitches or max(pitches) - min(pitches) < SLACK


@pytest.mark.parametrize("level", ["op", "gate", "cell"])
@pytest.mark.parametrize("name", runs.FORWARD_ONLY)
@pytest.mark.parametrize("T", [1, 2, 5])
def test_forward_never_runs_left_and_backward_never_right(name, T, level):
    data = drawn(name, T, level)
    kinds = {node["id"]: node["kind"] for node in data["nodes"]}
    for edge in data["edges"]:
        if "weight" in (kinds[edge["from"]], kinds[edge["to"]]):
            continue
        sign = -1 if edge["kind"] == "backward" else 1
        assert runs_one_way(edge, sign), (edge["from"], edge["to"])


def test_the_reversed_direction_is_mirrored():
    data = drawn("both directions", 4, "op")
    reverse = [edge for edge in data["edges"] if "backward" in edge["from"] and "backward" in edge["to"]]
    assert len(reverse) > 10
    for edge in reverse:
        sign = 1 if edge["kind"] == "backward" else -1
        assert runs_one_way(edge, sign), (edge["from"], edge["to"])


def test_the_states_way_is_straight():
    """From h at one step to the next product the arrow is one horizontal line."""
    for name, ends in (("elman", ("rnn.tanh.sum", "rnn.matmul.2")), ("lstm", ("lstm.add.sum", "lstm.multiply"))):
        (edge,) = [e for e in drawn(name, 4, "op")["edges"] if (e["from"], e["to"]) == (f"t1.{ends[0]}", f"t2.{ends[1]}")]
        assert len({y for _, y in edge["points"]}) == 1


def test_a_backward_pass_moves_nothing():
    """But at the levels where the sums of gradients have places of their own within a step."""
    before, after = drawn("lstm", 3, "cell", backward=False), drawn("lstm", 3, "cell")
    places = [[(n["id"], n["x"], n["y"]) for n in data["nodes"] if n["kind"] != "sum"] for data in (before, after)]
    assert places[0] == places[1]


def test_labels_fit_their_boxes():
    for node in drawn("lstm", 12, "op")["nodes"]:
        assert 0.5 * 11 * len(node["label"]) <= node["width"]


@pytest.mark.parametrize("name", ["elman", "lstm", "two layers"])
def test_the_work_grows_with_the_number_of_steps(name, monkeypatch):
    """Counted, not timed: how often a height is searched does not depend on T at all, and points grow with T."""
    searched = []
    put = room.Room.put
    monkeypatch.setattr(room.Room, "put", lambda self, item, wanted: (searched.append(item), put(self, item, wanted))[1])
    counts, points = [], []
    for T in (25, 50, 100):
        searched.clear()
        data = drawn(name, T, "op", backward=False)
        counts.append(len(searched))
        points.append(sum(len(edge["points"]) for edge in data["edges"]))
    assert len(set(counts)) == 1 or name == "elman"  # its sum of losses is outside of time: a column that grows
    assert points[2] - points[1] == pytest.approx(2 * (points[1] - points[0]), rel=0.05)


def test_a_long_chain_without_steps():
    data = drawn("without time", 800, "op")
    assert len(data["nodes"]) == 2 * 800 + 4  # x, W, its sum, the loss


def test_an_item_takes_the_nearest_free_height():
    template = Template(ranks=[[]])
    rank = room.Room(template)
    first, second, lane = Slot("a", 0, False, height=24.0), Slot("b", 1, False, height=24.0), Lane((0,))
    for item, wanted in ((first, 0.0), (second, 1.0), (lane, 0.0)):
        rank.put(item, wanted)
    assert first.y == 0.0
    assert second.y == first.height + room.AIR
    assert lane.y == -first.height / 2 - room.CLEAR - room.PITCH / 2


def test_a_lane_passes_between_two_boxes():
    template = Template(ranks=[[]])
    rank = room.Room(template)
    first, second, lane = Slot("a", 0, False, height=24.0), Slot("b", 1, False, height=24.0), Lane((0,))
    for item, wanted in ((first, 0.0), (second, -20.0), (lane, -12.0)):
        rank.put(item, wanted)
    assert second.y < lane.y < first.y


def test_boxes_of_a_rank_stand_in_order_as_near_to_their_wishes_as_they_can():
    a, b, c = (Slot(name, n, False, height=20.0) for n, name in enumerate("abc"))
    pitch = 20.0 + room.AIR
    placed = dict(room.in_order([room.Wish(a, 0.0, 0.0), room.Wish(b, 0.0, 0.0), room.Wish(c, -500.0, -500.0)]))
    assert placed == {a: pitch / 2, b: -pitch / 2, c: -500.0}
    assert [slot for slot, _ in room.in_order([room.Wish(slot, 0.0, slot.order) for slot in (a, b, c)])] == [c, b, a]


def test_what_leads_from_lane_to_lane_stands_between_them():
    """In an LSTM c, its sum, tanh and h above each other, the input under its reader: see `stacks.py`."""
    at = {node["id"]: node for node in drawn("lstm", 3, "gate")["nodes"] if node["t"] == 1}
    column = [at[f"t1.lstm.{slot}"] for slot in ("add.sum", "tanh", "multiply.3")]
    assert len({node["x"] for node in column}) == 1
    assert [node["y"] for node in column] == sorted((node["y"] for node in column), reverse=True)
    below, reader = at["t1.lstm.input"], at["t1.lstm.concatenate"]
    assert below["x"] == reader["x"] and below["y"] < reader["y"]


def test_tracks():
    """Turns that overlap get tracks of their own; what comes in where another goes out stands to its left."""
    above, below, apart = Turn(0.0, 50.0), Turn(20.0, 80.0), Turn(200.0, 300.0)
    assert channels._tracks([above, below, apart]) == 2
    assert above.track != below.track
    comes_in, goes_out = Turn(40.0, 90.0), Turn(0.0, 40.0)
    channels._tracks([goes_out, comes_in])
    assert comes_in.track < goes_out.track
    assert TINY < 1
