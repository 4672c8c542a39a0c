"""The way of every edge. Read me after `layout.py`.

A route is made of horizontals at the heights of ports, lanes and buses, and of verticals on the tracks of channels.
No box stands in any of these, so no route crosses a box; the tests look all the same. The forward arrow keeps to the
right of the middle line, seen in its direction, and its twin, going the other way, to its own right.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from tinygrad_seq.viz.graph import Edge, Point
from tinygrad_seq.viz.layout import Layout
from tinygrad_seq.viz.template import TINY, Bus, Wire

APART = 1.9  # half the distance between an arrow and its twin
RADIUS = 6.0  # of the corners
ROUND = 0.5523  # how far a quarter circle's control points are from its ends, in radii


def route(layout: Layout) -> None:
    """Set the points of every edge and of its twin: once for each wire, moved along for every other column."""
    done: dict[tuple[Wire, float], tuple[Edge, float]] = {}
    for edge, (wire, bus) in zip(layout.graph.edges, layout.wires):
        repeats = bus is None and edge not in layout.starts and wire.step is not None
        left = layout.lefts[edge.source.column or 0]
        key = (wire, edge.target.width - edge.source.width)  # boxes of one slot may differ in width
        if repeats and key in done and done[key][0].source.width == edge.source.width:
            first, from_left = done[key]
            by = left - from_left
            edge.points = [(round(x + by, 2), y) for x, y in first.points]
            edge.twin = [(round(x + by, 2), y) for x, y in first.twin]
            continue
        line = middle_line(layout, edge, wire, bus)
        edge.points = rounded(beside(line, APART))
        edge.twin = rounded(beside(line[::-1], APART))
        if repeats:
            done[key] = (edge, left)


def middle_line(layout: Layout, edge: Edge, wire: Wire, bus: Bus | None) -> list[Point]:
    """The corners of an edge's route, from box to box."""
    a, b = edge.source, edge.target
    if wire.vertical:
        down = 1 if a.y > b.y else -1
        return [(a.x, a.y - down * a.height / 2), (b.x, b.y + down * b.height / 2)]
    y0 = wire.source.port(wire, leaving=True) if wire.source else a.y
    y1 = wire.target.port(wire) if wire.target else b.y
    start = layout.starts.get(edge)
    if start is not None and a.column is not None:  # an initial state, drawn into the wire of the state that it stands for
        first, then = (start.start, start.end) if wire.sign > 0 else (start.end, start.start)
        x = layout.lefts[a.column] + start.x
        line = [(a.x + wire.sign * a.width / 2, first), (x, first), (x, then)]
    else:
        line = [(a.x + wire.sign * a.width / 2, y0)]
    for where, node in (("out", a), ("border", b), ("in", b)):
        turn = wire.turns.get(where)
        if turn is not None and node.column is not None and not (start is not None and where == "out"):
            x = layout.lefts[node.column] + turn.x
            end = turn.end if wire.sign > 0 else turn.start
            if bus is not None:
                end = y1 if where == "in" else bus.y
                line.append((x, bus.y if where == "in" else y0))
            else:
                line.append((x, turn.start if wire.sign > 0 else turn.end))
            line.append((x, end))
    line.append((b.x - wire.sign * b.width / 2, y1))
    return _without_doubles(line)


def beside(line: Sequence[Point], distance: float) -> list[Point]:
    """A line of horizontals and verticals, moved to its right by `distance`; its ends stay where they begin and end."""
    moved: list[Point] = []
    before: Point | None = None  # how far the part that ends in this corner is moved; the corner, by both or what they share
    for (x0, y0), (x1, y1) in pairwise(line):
        length = abs(x1 - x0) + abs(y1 - y0)
        after = (distance * (y1 - y0) / length, -distance * (x1 - x0) / length)
        across, up = before = before or after
        moved.append((x0 + (across if across == after[0] else across + after[0]), y0 + (up if up == after[1] else up + after[1])))
        before = after
    if before is not None:
        moved.append((line[-1][0] + before[0], line[-1][1] + before[1]))
    return moved


def rounded(line: Sequence[Point]) -> list[Point]:
    """A line with rounded corners as cubic Bézier curves: 3n + 1 points."""
    (x0, y0), *_ = line
    xs, ys = [x0], [y0]
    lengths = [abs(x2 - x1) + abs(y2 - y1) for (x1, y1), (x2, y2) in pairwise(line)]
    corners = zip(line, line[1:], line[2:], lengths, lengths[1:])
    for (from_x, from_y), (x, y), (to_x, to_y), before, after in corners:
        radius = min(RADIUS, before / 2, after / 2)
        back, on = radius / (before or 1.0), radius / (after or 1.0)
        x1, y1, x2, y2 = x + (from_x - x) * back, y + (from_y - y) * back, x + (to_x - x) * on, y + (to_y - y) * on
        towards = ROUND * radius / (radius or 1.0)
        xs += (x0 + (x1 - x0) / 3, x0 + (x1 - x0) * 2 / 3, x1, x1 + (x - x1) * towards, x2 + (x - x2) * towards, x2)
        ys += (y0 + (y1 - y0) / 3, y0 + (y1 - y0) * 2 / 3, y1, y1 + (y - y1) * towards, y2 + (y - y2) * towards, y2)
        x0, y0 = x2, y2
    x1, y1 = line[-1]
    xs += (x0 + (x1 - x0) / 3, x0 + (x1 - x0) * 2 / 3, x1)
    ys += (y0 + (y1 - y0) / 3, y0 + (y1 - y0) * 2 / 3, y1)
    return [*zip([round(x, 2) for x in xs], _heights(tuple(ys)))]


@lru_cache(maxsize=4096)
def _heights(ys: tuple[float, ...]) -> tuple[float, ...]:
    """Heights to two decimals: most edges pass the same ones as another, at another step."""
    return tuple(round(y, 2) for y in ys)


def _without_doubles(line: Sequence[Point]) -> list[Point]:
    """The line without points that change nothing."""
    kept: list[Point] = []
    for point in line:
        if kept and _distance(kept[-1], point) < TINY:
            continue
        while len(kept) > 1 and (_same(kept[-2], kept[-1], point, 0) or _same(kept[-2], kept[-1], point, 1)):
            kept.pop()
        kept.append(point)
    return kept


def _same(a: Point, b: Point, c: Point, axis: int) -> bool:
    return abs(a[axis] - b[axis]) < TINY and abs(b[axis] - c[axis]) < TINY


def _distance(a: Point, b: Point) -> float:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])
