"""What a user holds: `draw` and `Drawing`. Read me last."""

from __future__ import annotations

import html
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import graphviz

import tinygrad_seq as tg
from tinygrad_seq.listing import Tape
from tinygrad_seq.tensor import Tensor
from tinygrad_seq.viz import dot, program, typeset, words
from tinygrad_seq.viz.dark import dark_rules
from tinygrad_seq.viz.extract import extract
from tinygrad_seq.viz.graph import Graph
from tinygrad_seq.viz.layout import layout
from tinygrad_seq.viz.notation import rewrite
from tinygrad_seq.viz.pen import escape
from tinygrad_seq.viz.route import route

PAGE = 2_400.0  # points: what a screen or a page shows at once so that it can still be read
COLUMN = 80.0  # the least that a step takes of it
FEWER = (4, 3)  # steps, if all would be too wide
COARSER = {"op": "gate", "gate": "cell"}
FORMATS = ("svg", "png", "dot", "json", "html", "pdf")


def draw(
    target: Tape | Tensor,
    level: str = "auto",
    labels: Mapping[str, str] | None = None,
    budget: int | None = None,
    weights: Sequence[str] | None = None,
    steps: int | str = "auto",
    notation: str | None = None,
) -> Drawing:
    """Draw a tape: steps in time as columns, forward arrows to the right, gradients back to the left.

    Args:
        target: a recorded tape, a part of one (`tape[a:b]`, `tape.at(3)`), or a loss whose graph still exists.
        level: "op" (every operation), "gate", "cell", "rolled" (one cell, with a loop for each state), or "auto": the deepest
            of the first three with at most `budget` nodes. Where nothing else is asked for, the deepest that fits a page
            of 2,400 points.
        labels: other labels for nodes, by label or id: `{"h<0>": "a<0>"}`.
        budget: how many nodes there may be, however wide the picture is then; by default 400 if the level is "auto", and 1,000
            if it is named.
        weights: labels or ids of the weights whose gradients are shown by step, as bars below the columns; by default
            one that is multiplied with a state.
        steps: how many steps to show: the first ones and the last; those between become one box, which says how many
            they are and from where to where their gradients go. "all"; or "auto": 4 if `budget` would not do, and
            4 or 3 if the page would not.
        notation: "document" (a<t>, W_aa: the source document's), or "ascii"; by default as on the tape.

    Raises:
        TypeError: the target is none of these.
        ValueError: an unknown level, notation or weight, fewer than two steps, or an empty tape.
        FreedGraphError: the loss's graph was freed by a backward pass; draw a tape from `record()` instead.

    Example:
        >>> import numpy as np, tinygrad_seq as tg
        >>> from tinygrad_seq import viz
        >>> w, h = tg.Parameter([[0.5]], name="w"), tg.tensor([[1.0]], name="h<init>")
        >>> with tg.record() as tape:
        ...     for t in range(3):
        ...         with tg.scope("rnn", t=t):
        ...             h = np.tanh(h @ w)
        ...             h.name = f"h<{t}>"
        ...     loss = h.sum()
        >>> loss.backward()
        >>> viz.draw(tape, level="cell").data["steps"]
        [0, 1, 2]
    """
    if not isinstance(target, (Tape, Tensor)):
        raise TypeError(f"draw takes a recorded tape, a part of one, or a loss, not a {type(target).__name__}")

    def drawn(level: str, steps: int | str) -> Drawing:
        graph = extract(tape, level, budget, weights, steps)
        if notation is not None:
            rewrite(graph, notation)
        for node in graph.nodes:
            node.label = (labels or {}).get(node.id, (labels or {}).get(node.label, node.label))
        return Drawing(graph)

    with tg.collector_waiting():
        tape = target if isinstance(target, Tape) else tg.tape(target)
        return _fitting(tape, drawn) if level == steps == "auto" and budget is None else drawn(level, steps)


def _fitting(tape: Tape, drawn: Callable[[str, int | str], Drawing]) -> Drawing:
    """The first drawing that fits a page: of all steps, from the deepest level to the coarsest, then of some; else the last.

    Args:
        tape: what to draw.
        drawn: makes a drawing, given its level and how many steps to show.
    """
    in_time = len({entry.t for entry in tape} - {None})
    fewer: list[int | str] = [steps for steps in FEWER if in_time > steps + 1]  # else none would be hidden
    drawing: Drawing | None = None
    for steps in fewer if in_time * COLUMN > PAGE else ["all", *fewer]:
        level = "auto"
        while drawing is None or level != drawing._graph.level:
            drawing = drawn(level, steps)
            if drawing._width <= PAGE:
                return drawing
            level = COARSER.get(drawing._graph.level, drawing._graph.level)
    assert drawing is not None
    return drawing


class Drawing:
    """A picture of a tape, in every form. Shows itself in a notebook."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._layout = layout(graph)
        route(self._layout)

    @cached_property
    def data(self) -> dict[str, Any]:
        """The drawing as plain data (schema 1): nodes, edges, positions, gradients, a weight's gradient by step."""
        graph = self._graph
        return {
            "schema": 1,
            "level": graph.level,
            "steps": graph.steps,
            "nodes": [node.data for node in graph.nodes],
            "edges": [arrow for edge in graph.edges for arrow in edge.data],
            "shares": [each.data(graph) for each in graph.shares],
        }

    @property
    def _width(self) -> float:
        """In points."""
        return self._layout.right - self._layout.left

    @cached_property
    def graph(self) -> graphviz.Digraph:
        """The drawing for the `graphviz` package, with every position pinned: draw it with `neato_no_op=2`."""
        return self._pinned()

    def _pinned(self, apart: bool = False) -> graphviz.Digraph:
        """The DOT graph; for PNG and PDF with the parts of symbols as texts of their own, see `typeset.py`."""
        return dot.dot(self._layout, apart)

    @property
    def source(self) -> str:
        """The DOT text: the same in every process and for every Graphviz."""
        text: str = self.graph.source
        return text

    @property
    def alt_text(self) -> str:
        """The picture in words."""
        return words.alternative(self._graph)

    def text(self) -> str:
        """For a terminal: a header that says what is drawn, and a line for each step, with a bar for the gradient norm."""
        return words.strip(self._graph)

    def svg(self) -> str:
        """The picture as SVG. It has a viewBox and shrinks to the page it stands on.

        Raises:
            NoGraphvizError: no program to draw it with.
        """
        return self._svg

    @cached_property
    def _svg(self) -> str:
        drawn = program.render(self.graph, "svg").decode("utf-8")
        head = re.search(r"<svg\b[^>]*>", drawn)
        assert head is not None, "Graphviz wrote no SVG"
        opened = re.sub(r'(width|height)="([\d.]+)pt"', r'\1="\2"', head[0])
        words_ = html.escape(escape(self.alt_text).replace("&amp;", "&"), quote=True)
        opened = opened[:-1] + f' role="img" aria-label="{words_}" style="max-width:100%;height:auto">'
        body = typeset.in_svg(drawn[head.end() :])
        return f"{drawn[: head.start()]}{opened}\n<style>\n{dark_rules(body)}</style>{body}"

    def html(self) -> str:
        """A page of its own around the picture, which loads nothing."""
        svg = self.svg()
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>tinygrad_seq</title>\n'
            "<style>:root { color-scheme: light dark } body { margin: 1em; font-family: Arial, sans-serif }</style></head>\n"
            f"<body>\n{svg[svg.index('<svg') :]}\n</body>\n</html>\n"
        )

    def json(self) -> str:
        """`data` as text."""
        return json.dumps(self.data, ensure_ascii=False, allow_nan=False, indent=1) + "\n"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the drawing to a file: svg, png, dot, json, html or (with a system Graphviz) pdf, by the name's ending.

        The file is there as a whole or not at all; missing folders are made.

        Raises:
            ValueError: another ending.
            NoGraphvizError: no program for this format.
        """
        path = Path(path).expanduser()
        kind = path.suffix.lower().lstrip(".")
        if kind not in FORMATS:
            raise ValueError(f"{path.name!r} ends in none of {', '.join('.' + each for each in FORMATS)}")
        if kind in ("png", "pdf"):
            content = program.render(self._pinned(apart=True), kind)
        else:
            text = {"svg": self.svg, "dot": lambda: self.source, "json": self.json, "html": self.html}[kind]()
            content = text.encode("utf-8", errors="replace")
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
        return path

    def _repr_svg_(self) -> str:
        return self.svg()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"image/svg+xml": self.svg(), "text/plain": self.alt_text}

    def __repr__(self) -> str:
        return f"<Drawing of {len(self._graph.nodes)} nodes, level {self._graph.level}>"
