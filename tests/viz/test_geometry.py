"""Geometry, looked at in `.data`: boxes, and the sampled curves of `points`."""

from collections import defaultdict
from itertools import combinations, pairwise

import pytest

from tinygrad_seq import viz
from tinygrad_seq.viz import channels, heights
from tinygrad_seq.viz.template import TINY, Lane, Slot, Template, Turn

from . import runs

SLACK = 0.05


def drawn(name, T, level, backward=True, steps="all"):
    tape, loss = runs.ALL[name](T=T)
    if backward:
        loss.backward()
    return viz.draw(tape, level=level, steps=steps).data


def curve(points, n=12):
    """Points along a chain of cubic Bézier curves."""
    assert len(points) % 3 == 1
    for k in range(0, len(points) - 1, 3):
        a, b, c, d = points[k : k + 4]
        for i in range(n + 1):
            u = i / n
            v = 1 - u
            yield tuple(v**3 * a[j] + 3 * v * v * u * b[j] + 3 * v * u * u * c[j] + u**3 * d[j] for j in (0, 1))


def inside(point, node):
    return abs(point[0] - node["x"]) < node["width"] / 2 - SLACK and abs(point[1] - node["y"]) < node["height"] / 2 - SLACK


@pytest.mark.parametrize("level", ["op", "gate", "cell"])
@pytest.mark.parametrize("name", runs.ALL)
@pytest.mark.parametrize("T", [1, 2, 3, 5, 8])
def test_geometry(name, T, level):
    look_at(drawn(name, T, level))


@pytest.mark.parametrize("level", ["op", "gate", "cell"])
@pytest.mark.parametrize("name", runs.ALL)
def test_geometry_with_steps_left_out(name, level):
    look_at(drawn(name, 9, level, steps=4))


def look_at(data):
    """No two boxes overlap, no arrow passes through a box, and every arrow goes from box to box."""
    nodes = {node["id"]: node for node in data["nodes"]}
    assert len(nodes) == len(data["nodes"])
    for a, b in combinations(nodes.values(), 2):
        apart = abs(a["x"] - b["x"]) >= (a["width"] + b["width"]) / 2 or abs(a["y"] - b["y"]) >= (a["height"] + b["height"]) / 2
        assert apart, (a["id"], b["id"])
    for edge in data["edges"]:
        sampled = list(curve(edge["points"]))
        for node in nodes.values():
            assert not any(inside(point, node) for point in sampled), (edge["from"], edge["to"], node["id"])
        for end, name in ((sampled[0], edge["from"]), (sampled[-1], edge["to"])):
            node = nodes[name]
            assert abs(end[0] - node["x"]) == pytest.approx(node["width"] / 2, abs=SLACK)
            assert abs(end[1] - node["y"]) <= node["height"] / 2


@pytest.mark.parametrize("level", ["op", "gate", "cell"])
@pytest.mark.parametrize("name", runs.ALL)
def test_a_slot_keeps_its_place_in_every_column(name, level):
    columns = defaultdict(dict)
    for node in drawn(name, 5, level)["nodes"]:
        if node["t"] is not None:
            columns[node["slot"]][node["t"]] = node
    for slot in columns.values():
        assert len({node["y"] for node in slot.values()}) == 1
        pitches = [slot[b]["x"] - slot[a]["x"] for a, b in pairwise(sorted(slot))]
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
        assert all((b[0] - a[0]) * sign >= -SLACK for a, b in pairwise(curve(edge["points"]))), (edge["from"], edge["to"])


def test_the_reversed_direction_is_mirrored():
    data = drawn("both directions", 4, "op")
    reverse = [edge for edge in data["edges"] if "backward" in edge["from"] and "backward" in edge["to"]]
    assert len(reverse) > 10
    for edge in reverse:
        sign = 1 if edge["kind"] == "backward" else -1
        assert all((b[0] - a[0]) * sign >= -SLACK for a, b in pairwise(curve(edge["points"])))


def test_the_states_way_is_straight():
    """From h at one step to the next product the arrow is one horizontal line."""
    for name, ends in (("elman", ("rnn.tanh", "rnn.matmul.2")), ("lstm", ("lstm.add", "lstm.multiply"))):
        (edge,) = [e for e in drawn(name, 4, "op")["edges"] if (e["from"], e["to"]) == (f"t1.{ends[0]}", f"t2.{ends[1]}")]
        assert len({y for _, y in edge["points"]}) == 1


def test_a_backward_pass_moves_nothing():
    before, after = drawn("lstm", 3, "op", backward=False), drawn("lstm", 3, "op")
    places = [[(n["id"], n["x"], n["y"]) for n in data["nodes"] if n["kind"] != "sum"] for data in (before, after)]
    assert places[0] == places[1]


def test_labels_fit_their_boxes():
    for node in drawn("lstm", 12, "op")["nodes"]:
        assert 0.5 * 11 * len(node["label"]) <= node["width"]


@pytest.mark.parametrize("name", ["elman", "lstm", "two layers"])
def test_the_work_grows_with_the_number_of_steps(name, monkeypatch):
    """Counted, not timed: how often a height is searched does not depend on T at all, and points grow with T."""
    searched = []
    put = heights.Room.put
    monkeypatch.setattr(heights.Room, "put", lambda self, item, wanted: (searched.append(item), put(self, item, wanted))[1])
    counts, points = [], []
    for T in (50, 100, 200):
        searched.clear()
        data = drawn(name, T, "op", backward=False)
        counts.append(len(searched))
        points.append(sum(len(edge["points"]) for edge in data["edges"]))
    assert len(set(counts)) == 1 or name == "elman"  # its sum of losses is outside of time: a column that grows
    assert points[2] - points[1] == pytest.approx(2 * (points[1] - points[0]), rel=0.05)


def test_a_long_chain_without_steps():
    data = drawn("without time", 2_000, "op")
    assert len(data["nodes"]) == 2 * 2_000 + 4  # x, W, its sum, the loss


def test_an_item_takes_the_nearest_free_height():
    template = Template(ranks=[[]])
    room = heights.Room(template)
    first, second, lane = Slot("a", 0, False), Slot("b", 1, False), Lane((0,))
    for item, wanted in ((first, 0.0), (second, 1.0), (lane, 0.0)):
        room.put(item, wanted)
    assert first.y == 0.0
    assert second.y == first.height + heights.AIR
    assert lane.y == -(first.height + heights.AIR) / 2 - heights.PITCH / 2


def test_tracks():
    """Turns that overlap get tracks of their own; what comes in where another goes out stands to its left."""
    above, below, apart = Turn(0.0, 50.0), Turn(20.0, 80.0), Turn(200.0, 300.0)
    assert channels._tracks([above, below, apart]) == 2
    assert above.track != below.track
    comes_in, goes_out = Turn(40.0, 90.0), Turn(0.0, 40.0)
    channels._tracks([goes_out, comes_in])
    assert comes_in.track < goes_out.track
    assert TINY < 1
