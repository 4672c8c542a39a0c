"""What a drawing is made of: nodes, edges, columns. Read me first; I need nothing.

A drawing is made in stages, each a file, each reading only what the one before it left:

    hoisted.py   operations over all of time at once, taken apart by step
    calls.py     the calls on a tape, each in its column
    seen_through.py  those of them that only hand on what another made
    windows.py   losses and cuts before the end of time
    fold.py      what is folded into which box
    boxes.py     the box of each group: its kind, its label, what it shows
    naming.py    labels that are told apart: whose b, which direction's h
    extract.py   tape -> graph: the pieces put together
    gradients.py what flows back along the edges
    cuts.py      what a `detach` keeps away
    sums.py      where the gradients of a shared weight meet
    shares.py    a weight's gradient, taken apart by step
    typeset.py   labels with subscripts and superscripts
    template.py  the ranks of one kind of column: it is laid out once and repeated for every step
    recurrences.py  the way of every state from step to step
    stacks.py    what stands above each other within a rank
    room.py      the room within a rank, and who may stand where
    ports.py     where wires enter and leave a box
    heights.py   how high its boxes and lanes stand
    channels.py  where edges change their height, and the buses above and below
    layout.py    graph -> places: the pieces put together
    route.py     places -> routes: every edge through channels that hold no box
    words.py     graph -> caption, alternative text, the strip for a terminal
    notation.py  labels in the source document's notation, or in ASCII
    tooltips.py  what a node says when it is pointed at
    pen.py       how DOT is written
    dot.py       all of it -> DOT text, with every position pinned
    numbers.py   the norms in numbers, where no arrow passes
    bars.py      a weight's gradient by step, as bars below the columns
    program.py   where to find a Graphviz that draws it
    drawing.py   `Drawing` and `draw`: what a user holds
    dark.py      the picture's colours for dark pages
    flow.py      the gradient's way back as curves and heatmaps
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tinygrad_seq.viz.shares import Shares

Point = tuple[float, float]
"""In points (1/72 inch), y upwards, as Graphviz counts."""


class Grad(NamedTuple):
    """What is known of a cotangent: none computed, exactly zero, finite, not finite, or zero because the step is padding."""

    status: str
    norm: float | None

    @property
    def data(self) -> dict[str, Any]:
        """As plain data."""
        return {"status": self.status, "norm": self.norm}


NO_GRAD = Grad("none", None)


@dataclass(eq=False)
class Node:
    """A box of the picture: one operation, or all of a gate or cell at one step.

    Attributes:
        id: unique, the same in every process: `t1.lstm.u`.
        kind: input, state, cell, gate, op, weight, constant, sum, loss or elided.
        label: what stands in the box.
        small: a second, smaller line: the operation that made a named value.
        column: index into the graph's columns; None for what stands in the lane outside of time.
        slot: the place within a column. The same slot stands at the same place in every column of its kind.
        entries: indices on the tape of what is folded in here.
        calls: what is folded in here, by call: see `calls.py`.
        given: nothing on the tape made it (an initial state, an input); drawn dashed.
        carries: holds a state, a value that the next step reads.
        reverse: belongs to a direction that runs from the last step to the first.
        sums: the weight whose gradient's terms meet here.
        steps: of an elided run, the first and the last step that it hides.
        norms: the smallest and the largest gradient norm of a state there, None if there is none.
        names: of all values inside.
        tip: what it says when it is pointed at.
        width, height, x, y: the box, x and y being its centre; set by `layout`.
    """

    id: str
    kind: str
    label: str
    t: int | None
    column: int | None
    slot: str
    shape: tuple[int, ...]
    entries: list[int]
    source: str | None
    grad: Grad = NO_GRAD
    small: str = ""
    calls: list[int] = field(default_factory=list)
    given: bool = False
    reverse: bool = False
    carries: bool = False
    sums: Node | None = None
    steps: tuple[int, int] | None = None
    norms: tuple[float, float] | None = None
    names: tuple[str, ...] = ()
    tip: str = ""
    width: float = 0.0
    height: float = 0.0
    x: float = 0.0
    y: float = 0.0

    @property
    def round(self) -> bool:
        """Whether it is drawn as a circle: a sum, or an operation with a sign of one character."""
        return self.kind == "sum" or (self.kind == "op" and len(self.label) == 1 and not self.small)

    @property
    def data(self) -> dict[str, Any]:
        """As plain data, schema 1."""
        hides = {} if self.steps is None else {"steps": list(self.steps), "norms": self.norms and list(self.norms)}
        return {
            "id": self.id, "kind": self.kind, "label": self.label, "t": self.t, "slot": self.slot,
            "x": self.x, "y": self.y, "width": self.width, "height": self.height,
            "shape": list(self.shape), "entries": self.entries, "source": self.source, "grad": self.grad.data,
            **hides,
        }  # fmt: skip


def tell_apart(nodes: Iterable[Node]) -> None:
    """Where two nodes have the same id, or two of a column the same slot, since a user's names happen to be ours, give the later
    one another."""
    ids: set[str] = set()
    slots: set[tuple[int | None, str]] = set()
    for node in nodes:
        name, n = node.id, 1
        while node.id in ids:
            n += 1
            node.id = f"{name}~{n}"
        ids.add(node.id)
        while (node.column, node.slot) in slots:
            node.slot += "~"
        slots.add((node.column, node.slot))


def column_of(node: Node) -> int:
    """The node's column, -1 for the lane outside of time, which stands to the left of all."""
    return -1 if node.column is None else node.column


@dataclass(eq=False)
class Edge:
    """A value that one node gives another, and what flows back.

    Attributes:
        cut: the gradient is stopped on purpose here (`detach`).
        grad: what flowed back along the edge; None where no backward pass has run at all.
        points: the forward arrow's route, a chain of cubic Bézier curves (3n + 1 points), set by `route`.
        twin: the route of the backward arrow beside it, from `target` to `source`.
        values: what it carries forward: see `hoisted.py`.
        delay: where all steps are one box: how many steps later the value is read; 0 within a step.
        carries: with a delay, the name of the value.
        norms: where all steps are one box: the smallest and the largest norm that flows back at a step.
        number: from 1, where several edges join the same two nodes, whichever way.
        full: what would flow back if no `detach` cut it off, where that is something else.
    """

    source: Node
    target: Node
    cut: bool = False
    grad: Grad | None = None
    points: list[Point] = field(default_factory=list)
    twin: list[Point] = field(default_factory=list)
    values: set[Any] = field(default_factory=set)
    delay: int = 0
    carries: str = ""
    norms: tuple[float, float] | None = None
    number: int = 1
    full: Grad | None = None

    def id(self, backward: bool = False) -> str:
        """Of the arrow, or of its twin: the same in DOT and SVG."""
        a, b = (self.target.id, self.source.id) if backward else (self.source.id, self.target.id)
        back = "~back" if backward and a == b else ""
        return f"{a}-{b}" + (f"~{self.number}" if self.number > 1 else "") + back

    @property
    def data(self) -> list[dict[str, Any]]:
        """As plain data, schema 1: the forward arrow and, after a backward pass, its twin."""
        a, b = self.source.id, self.target.id
        there: dict[str, Any] = {"from": a, "to": b, "kind": "cut" if self.cut else "forward", "grad": None}
        if self.delay:
            there |= {"delay": self.delay, "label": self.carries}
        arrows = [there | {"points": [list(p) for p in self.points]}]
        if self.grad is not None:
            back = there | {"from": b, "to": a, "kind": "backward", "grad": self.grad.data}
            back |= {"norms": list(self.norms)} if self.norms else {}
            back |= {"full": self.full.data} if self.full else {}
            arrows.append(back | {"points": [list(p) for p in self.twin]})
        return arrows


class Column(NamedTuple):
    """A column of the picture.

    Attributes:
        role: "before" time, "init" (initial states), "step", "elided" (a run of steps), "rolled" (all of them), "after" time,
            "between" two parts.
        part: encoder or decoder, where the scopes say so: columns of their own, side by side.
        t: the step, if it is one.
        hides: the steps of an elided run, or of all that is rolled into one.
    """

    role: str
    part: str
    t: int | None
    hides: tuple[int, ...] = ()

    @property
    def times(self) -> tuple[int, ...]:
        """The steps that stand here."""
        return self.hides if self.t is None else (self.t,)


@dataclass
class Graph:
    """A tape, folded: nodes in order of execution, edges, columns from left to right."""

    level: str
    columns: list[Column]
    nodes: list[Node]
    edges: list[Edge]
    hidden: dict[str, dict[int, Grad]] = field(default_factory=dict)  # of elided states: by slot and step
    shares: list[Shares] = field(default_factory=list)

    @property
    def steps(self) -> list[int]:
        """The steps in time that have a column."""
        return sorted({column.t for column in self.columns if column.t is not None})
