"""Several drawings on one sheet, side by side or below each other. Read me after `drawing.py`.

All positions in a drawing's DOT text are pinned, so drawings are put together by moving them: each keeps its own layout,
and what it draws keeps its ids, with the part's number before them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import graphviz

from tinygrad_seq.viz.drawing import Drawing
from tinygrad_seq.viz.pen import INK, left_text, number

GAP, ABOVE = 36.0, 26.0  # between parts, and room for a part's title

HEAD = re.compile(r'\s*"([^"]*)"(?: -> "([^"]*)")? \[')
PLACE = re.compile(r'(?<=[ \[])pos="([^"]*)"')
POINT = re.compile(r"(-?[\d.]+),(-?[\d.]+)")
SIZE = re.compile(r'(?<=[ \[])(width|height)="([\d.]+)"')  # in inches
OWN_ID = re.compile(r'(?<=[ \[])id="')


class Part(NamedTuple):
    """A drawing on a sheet: its title, the lines of its DOT text, and the box around them (left, bottom, right, top)."""

    title: str
    lines: list[str]
    box: tuple[float, float, float, float]


class Sheet(Drawing):
    """Drawings with a title each, in rows.

    Args:
        rows: of (title, drawing), from the top row to the lowest.
        captions: whether the drawings keep their own captions and legends.
    """

    def __init__(self, rows: Sequence[Sequence[tuple[str, Drawing]]], captions: bool = True) -> None:
        self._rows = rows
        self._captions = captions

    @cached_property
    def data(self) -> dict[str, Any]:
        """The drawings as plain data: {"schema": 1, "parts": [{"title": ..., "drawing": ...}]}."""
        return {"schema": 1, "parts": [{"title": title, "drawing": each.data} for title, each in self._parts]}

    @property
    def _parts(self) -> list[tuple[str, Drawing]]:
        return [part for row in self._rows for part in row]

    def _pinned(self, apart: bool = False) -> graphviz.Digraph:
        """All drawings as one graph."""
        parts_of = [[(title, each._pinned(apart)) for title, each in row] for row in self._rows]
        graph: graphviz.Digraph = graphviz.Digraph("tinygrad_seq", engine="neato")
        graph.body = [line for line in parts_of[0][0][1].body if not HEAD.match(line)]  # what holds for all
        top, count = 0.0, 0
        for row in parts_of:
            parts = [_part(title, each.body, self._captions) for title, each in row]
            left = 0.0
            for part in parts:
                dx, dy = left - part.box[0], top - ABOVE - part.box[3]
                graph.body += [_moved(line, f"{count}.", dx, dy) for line in part.lines]
                if part.title:
                    title = left_text(f"title.{count}", left, top - 8, part.title, 13, {"fontcolor": INK})
                    graph.body.append(f"\t{title}\n")
                left, count = left + part.box[2] - part.box[0] + GAP, count + 1
            top -= ABOVE + max(part.box[3] - part.box[1] for part in parts) + GAP
        return graph

    @property
    def alt_text(self) -> str:
        """The drawings in words, one after the other."""
        return " ".join(f"{title}: {each.alt_text}" for title, each in self._parts)

    def text(self) -> str:
        """For a terminal, one below the other."""
        return "\n\n".join(f"{title}\n{each.text()}" for title, each in self._parts)

    def __repr__(self) -> str:
        return f"<Sheet of {len(self._parts)} drawings>"


def _part(title: str, body: Sequence[str], captions: bool) -> Part:
    lines = [line for line in body if HEAD.match(line)]
    if not captions:
        lines = [line for line in lines if not line.lstrip().startswith(('"legend.', '"caption.'))]
    boxes = [_box(line) for line in lines]
    return Part(title, lines, (
        min(box[0] for box in boxes), min(box[1] for box in boxes), max(box[2] for box in boxes), max(box[3] for box in boxes),
    ))  # fmt: skip


def _box(line: str) -> tuple[float, float, float, float]:
    """What a statement covers: a node's box, or the points of an edge's route."""
    place = PLACE.search(line)
    assert place is not None, "every statement of a drawing is pinned"
    points = [(float(x), float(y)) for x, y in POINT.findall(place[1])]
    sizes = {key: 72 * float(value) for key, value in SIZE.findall(line)}
    w, h = sizes.get("width", 0.0) / 2, sizes.get("height", 0.0) / 2
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs) - w, min(ys) - h, max(xs) + w, max(ys) + h


def _moved(line: str, prefix: str, dx: float, dy: float) -> str:
    """A statement, moved, with its names and ids under the prefix."""

    def there(point: re.Match[str]) -> str:
        return f"{number(float(point[1]) + dx)},{number(float(point[2]) + dy)}"

    head = HEAD.match(line)
    assert head is not None
    names = f'"{prefix}{head[1]}"' + (f' -> "{prefix}{head[2]}"' if head[2] is not None else "")
    rest = PLACE.sub(lambda place: f'pos="{POINT.sub(there, place[1])}"', line[head.end() :])
    return f"\t{names} [{OWN_ID.sub(lambda _: f'id={chr(34)}{prefix}', rest)}"
