"""The norms along a state's way in numbers, where nothing else is drawn. Read me beside `dot.py`.

A number stands above or below the lane that it belongs to, as near to its middle as it can without an arrow through it or a box
over it. Where there is no such place, there is none: the arrow's colour tells it, and the arrow says it when it is pointed at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import inf

from tinygrad_seq.viz import words
from tinygrad_seq.viz.graph import Edge, Point
from tinygrad_seq.viz.layout import Layout, text_width
from tinygrad_seq.viz.pen import FAINT, text

SIZE = 8.0
BESIDE = 7.0  # from the lane to the middle of the number
LINE, HEAD = 2.2, 6.0  # half as wide is the thickest arrow, and so far does its head reach
WIDER = 0.85  # of the room, for a viewer whose font is wider than Arial
SIDEWAYS = 9.0  # from one place to the next that is tried
CELL = (96.0, 48.0)

Rectangle = tuple[float, float, float, float]  # left, bottom, right, top


def norms(layout: Layout) -> list[str]:
    """The gradient's norm at every arrow along which a state's goes from step to step."""
    told = [edge for edge in _lanes(layout) if words.drawn_norm(edge)]
    taken = Taken.by(layout, told)
    lines: list[str] = []
    for edge in told:
        said = f"{words.drawn_norm(edge):.2g}"
        place = next((each for each in _places(edge, said) if taken.is_free(_around(each, said))), None)
        if place is not None:
            taken.add(_around(place, said))
            name = f"{edge.id(backward=True)}.norm"
            lines.append(text(name, *place, said, SIZE, {"class": "norm", "fontcolor": FAINT}))
    return lines


def _lanes(layout: Layout) -> Iterator[Edge]:
    """The edges along which a state goes from a step to the next, or to or from steps that are left out."""
    for edge in layout.graph.edges:
        a, b = edge.source.column, edge.target.column
        if a is None or b is None or abs(a - b) != 1:
            continue
        roles = {layout.graph.columns[a].role, layout.graph.columns[b].role}
        state = edge.source.carries or edge.source.kind == "sum" or "elided" in roles
        if state and roles <= {"step", "elided"}:
            yield edge


def _places(edge: Edge, said: str) -> Iterator[Point]:
    """Where a number could stand: at the longest level part of the way first, from its middle outwards, above and then below."""
    room = text_width(said, SIZE) / WIDER + 12
    level = [(p, q, other) for p, q, other in zip(edge.twin[::3], edge.twin[3::3], edge.points[-4::-3]) if p[1] == q[1]]
    for (x0, y), (x1, _), (_, beside) in sorted(level, key=lambda ends: -abs(ends[0][0] - ends[1][0])):
        near = beside if abs(beside - y) < BESIDE else y  # the forward arrow runs along it
        spare = (abs(x1 - x0) - room) / 2
        for n in range(int(spare // SIDEWAYS) + 1 if spare > 0 else 0):
            for x in dict.fromkeys(((x0 + x1) / 2 - n * SIDEWAYS, (x0 + x1) / 2 + n * SIDEWAYS)):
                yield x, max(y, near) + BESIDE
                yield x, min(y, near) - BESIDE


def _around(place: Point, said: str) -> Rectangle:
    x, y = place
    w, h = text_width(said, SIZE) / WIDER / 2, SIZE / 2
    return x - w, y - h, x + w, y + h


class Taken:
    """What arrows, boxes and numbers cover."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, int], list[Rectangle]] = defaultdict(list)
        self._low, self._high = -inf, inf

    @classmethod
    def by(cls, layout: Layout, told: Sequence[Edge]) -> Taken:
        """Of a layout, at the heights at which the numbers of these edges may stand."""
        taken, reach = cls(), 2 * BESIDE + SIZE
        heights = {y for edge in told for way in (edge.points, edge.twin) for _, y in way}
        taken._low, taken._high = min(heights, default=0.0) - reach, max(heights, default=0.0) + reach
        for node in layout.graph.nodes if told else ():
            w, h = node.width / 2, node.height / 2
            taken.add((node.x - w, node.y - h, node.x + w, node.y + h))
        for edge in layout.graph.edges if told else ():
            taken._add_way(edge.points)
            if edge.grad is not None:
                taken._add_way(edge.twin)
        return taken

    def _add_way(self, points: list[Point]) -> None:
        lowest, highest = self._low, self._high
        x0, y0 = points[0]
        for x1, y1 in points[3::3]:
            low, high = (y0, y1) if y0 < y1 else (y1, y0)
            if high >= lowest and low <= highest:
                left, right = (x0, x1) if x0 < x1 else (x1, x0)
                self.add((left - LINE, low - LINE, right + LINE, high + LINE))
            x0, y0 = x1, y1
        if lowest <= y0 <= highest:
            self.add((x0 - HEAD, y0 - HEAD, x0 + HEAD, y0 + HEAD))

    def add(self, covered: Rectangle) -> None:
        """Note that something stands here."""
        for cell in _cells(covered):
            self._cells[cell].append(covered)

    def is_free(self, wanted: Rectangle) -> bool:
        """Whether nothing does."""
        left, low, right, high = wanted
        return not any(
            other[0] < right and left < other[2] and other[1] < high and low < other[3]
            for cell in _cells(wanted)
            for other in self._cells.get(cell, ())
        )


def _cells(covered: Rectangle) -> Iterator[tuple[int, int]]:
    left, low, right, high = covered
    rows = range(int(low // CELL[1]), int(high // CELL[1]) + 1)
    for column in range(int(left // CELL[0]), int(right // CELL[0]) + 1):
        for row in rows:
            yield column, row
