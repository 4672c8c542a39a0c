"""What the columns of a kind have in common, and in which rank everything stands. Read me after `extract.py`.

Time is a coordinate: a column for each step. All columns of one kind share one `Template`, which is laid out once and
repeated, so the work grows with the number of steps and no faster, and the same slot stands at the same place in
every column. A template is a layered layout:

    rank      the layer of a slot, by longest path: what a slot reads stands to the left of it (to the right, where the
              direction is reversed). Slots of one rank stand above each other.
    lane      the height at which an edge passes the ranks between its ends. A lane is an item like a box: where it
              passes a rank, no box stands, so no edge crosses a box.
    channel   the gap between two ranks, as wide as its tracks need. All that changes its height does so here.
    stack     slots of one rank, each joined with the one below by a vertical arrow; see `stacks.py`.

Edges between columns that are not neighbours, and those of weights, run along buses: lines above or below all boxes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any

PITCH = 10.0  # between two tracks, lanes or ports: room for an arrow, its twin and some air
BOX = 24.0  # the least height of a box with text
AIR = 20.0  # between boxes, above each other: so much that a lane can pass there
CLEAR = 4.0  # between a box and a lane's room
DROP = 20.0  # between the boxes of a stack: room for an arrow
HEAD = 13.0  # before and after the tracks of a channel: room for an arrowhead
TINY = 0.01


@dataclass(eq=False)
class Slot:
    """A box of a template. `x` is its centre, counted from the column's left edge."""

    name: str
    order: int
    reverse: bool
    width: float = 0.0
    height: float = 0.0
    rank: int = 0
    x: float = 0.0
    y: float = 0.0
    left: list[list[Wire]] = field(default_factory=list)  # the wires at each of its ports, from the top
    right: list[list[Wire]] = field(default_factory=list)
    straight: set[Wire] = field(default_factory=set)  # wires on a lane: these ports stand in the middle, if there is room
    shifts: tuple[float, float] = (0.0, 0.0)  # how much higher the ports on the left and on the right stand for that
    bus: dict[int, Turn] = field(default_factory=dict)  # the turn to the buses above, which all wires to them share
    stack: Stack | None = None

    def port(self, wire: Wire, leaving: bool = False) -> float:
        """The height at which a wire enters; or leaves, where it does both."""
        both = ((self.left, self.shifts[0]), (self.right, self.shifts[1]))
        for side, shift in both[::-1] if leaving == (wire.sign > 0) else both:
            for n, wires in enumerate(side):
                if wire in wires:
                    return self.y + ((len(side) - 1) / 2 - n) * PITCH + shift
        return self.y


@dataclass(eq=False)
class Stack:
    """Slots above each other, from the top down, each joined with the next by a vertical arrow.

    `stretch` is how much longer than it must be each arrow is between two slots that stand on lanes, those numbered in `lanes`.
    """

    slots: list[Slot]
    stretch: float = 0.0
    lanes: tuple[int, int] = (0, 0)

    def below(self, slot: Slot) -> float:
        """How far a slot stands below the first."""
        way = 0.0
        for n, (upper, lower) in enumerate(pairwise(self.slots[: self.slots.index(slot) + 1])):
            stretch = self.stretch if self.lanes[0] <= n < self.lanes[1] else 0.0
            way += (upper.height + lower.height) / 2 + DROP + stretch
        return way


@dataclass(eq=False)
class Lane:
    """The height at which a wire passes some ranks of a template."""

    ranks: tuple[int, ...]
    y: float = 0.0


@dataclass(eq=False)
class Bus:
    """A line above or below all boxes, for wires with a common end outside of time, or for one long wire."""

    y: float = 0.0


@dataclass(eq=False)
class Wire:
    """All edges that have the same shape: from this slot to that one, in the same, the next or any other column.

    `sign` is 1 if it runs to the right, else -1. At its ends outside of any template `a` or `b` is None.
    """

    a: Template | None
    b: Template | None
    source: Slot | None
    target: Slot | None
    sign: int
    step: int | None  # how many columns it goes on: 0, 1 or -1; None along a bus
    loop: bool = False  # from one step of a box for all steps to a later one: along a bus of its own
    tail: Lane | None = None
    head: Lane | None = None
    turns: dict[str, Turn] = field(default_factory=dict)
    starts: set[int] = field(default_factory=set)  # the columns in which it begins
    ends: set[int] = field(default_factory=set)  # and those in which it ends

    @property
    def vertical(self) -> bool:
        """Whether it joins two boxes of a stack."""
        return self.step == 0 and self.source is not None and self.target is not None and self.source.rank == self.target.rank

    @property
    def above(self) -> bool:
        """Whether it runs along a bus above all boxes, and not along a weight's below."""
        return self.step is None and self.a is not None and self.b is not None

    @property
    def joins(self) -> bool:
        """Whether it shares its way to the bus with all others above."""
        return self.above and not self.loop


@dataclass(eq=False)
class Turn:
    """A change of height in a channel: the track's number and, once the channel is laid out, its x in the column. A loop's comes
    back from the other side."""

    start: float
    end: float
    track: int = 0
    x: float = 0.0
    loop: bool = False


@dataclass(eq=False)
class Template:
    """What all columns of a kind have in common."""

    slots: dict[str, Slot] = field(default_factory=dict)
    ranks: list[list[Slot]] = field(default_factory=list)
    stacks: list[Stack] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)
    channels: list[list[Turn]] = field(default_factory=list)
    width: float = 0.0


def order_within(template: Template, wires: Sequence[Wire]) -> dict[Slot, set[Slot]]:
    """For every slot of a template those that stand to the left of it: what it reads, or what reads it in a reversed direction.

    If the two directions make a circle together, nothing is mirrored. If the column is a circle by itself, as all steps
    together may be where each is none, the wires that would close it run back.
    """
    for mirrored in (True, False):
        after: dict[Slot, set[Slot]] = {slot: set() for slot in template.slots.values()}
        for source, target in inner(wires):
            if mirrored and source.reverse and target.reverse:
                after[source].add(target)
            else:
                after[target].add(source)
        if not is_circular(after):
            return after
    after = {slot: set() for slot in template.slots.values()}
    for source, target in inner(wires):
        left, right = (target, source) if source.reverse and target.reverse else (source, target)
        if right not in _all_before(left, after):
            after[right].add(left)
    return after


def _all_before(slot: Slot, after: Mapping[Slot, Collection[Slot]]) -> set[Slot]:
    """All slots that stand to the left of one, itself included."""
    found, stack = {slot}, [slot]
    while stack:
        fresh = set(after[stack.pop()]) - found
        found |= fresh
        stack += fresh
    return found


def inner(wires: Iterable[Wire]) -> list[tuple[Slot, Slot]]:
    """Source and target of the wires within a column."""
    return [(w.source, w.target) for w in wires if w.step == 0 and w.source is not None and w.target is not None]


def is_circular(after: Mapping[Any, Collection[Any]]) -> bool:
    """Whether this is no order."""
    try:
        TopologicalSorter(after).prepare()
    except CycleError:
        return True
    return False


def rank(template: Template, wires: Sequence[Wire], after: dict[Slot, set[Slot]]) -> None:
    """Give every slot its rank: longest path, then what reads nothing in the column moves close to its reader.

    The slots of a stack have one rank together.
    """
    unit = {slot: slot.stack.slots[0] if slot.stack is not None else slot for slot in after}
    left: dict[Slot, set[Slot]] = {first: set() for first in unit.values()}
    for slot, sources in after.items():
        left[unit[slot]] |= {unit[source] for source in sources} - {unit[slot]}
    order = list(TopologicalSorter(left).static_order())
    before: dict[Slot, list[Slot]] = defaultdict(list)
    for slot in order:
        slot.rank = max((s.rank + 1 for s in left[slot]), default=0)
        for s in left[slot]:
            before[s].append(slot)
    for slot in reversed(order):
        if not left[slot] and before[slot]:
            slot.rank = min(s.rank for s in before[slot]) - 1
    for slot, first in unit.items():
        slot.rank = first.rank
    count = max((slot.rank for slot in unit), default=-1) + 1
    template.ranks = [[] for _ in range(count)]
    for slot in sorted(unit, key=lambda s: s.order):
        template.ranks[slot.rank].append(slot)
    template.channels = [[] for _ in range(count + 1)]
    for wire in wires:
        if wire.step == 0 and wire.source is not None and wire.target is not None:
            wire.sign = 1 if wire.target.rank > wire.source.rank else -1


def lay_lanes(wire: Wire) -> None:
    """Find the ranks that a wire passes on its way."""
    if wire.step is None or wire.source is None or wire.target is None or wire.a is None or wire.b is None:
        return
    start, stop, n = wire.source.rank, wire.target.rank, len(wire.a.ranks)
    if wire.step == 0:
        passed = tuple(range(min(start, stop) + 1, max(start, stop)))
        wire.tail = _lane(wire.a, passed)
        return
    if wire.sign > 0:
        tail, head = tuple(range(start + 1, n)), tuple(range(stop))
    else:
        tail, head = tuple(range(start)), tuple(range(stop + 1, len(wire.b.ranks)))
    if wire.a is wire.b and not set(tail) & set(head):
        wire.tail = wire.head = _lane(wire.a, tail + head)  # one height on both sides of the columns' border
    else:
        wire.tail, wire.head = _lane(wire.a, tail), _lane(wire.b, head)


def _lane(template: Template, ranks: tuple[int, ...]) -> Lane | None:
    if not ranks:
        return None
    lane = Lane(ranks)
    template.lanes.append(lane)
    return lane


def has_tail(wire: Wire) -> bool:
    """Whether the wire passes ranks in its source's column, and not only in its target's."""
    if wire.tail is None or wire.source is None or wire.a is None:
        return False
    beyond = range(wire.source.rank + 1, len(wire.a.ranks)) if wire.sign > 0 else range(wire.source.rank)
    return any(rank in beyond for rank in wire.tail.ranks)


def has_head(wire: Wire) -> bool:
    """Whether the wire passes ranks in its target's column."""
    if wire.head is None or wire.target is None or wire.b is None:
        return False
    beyond = range(wire.target.rank) if wire.sign > 0 else range(wire.target.rank + 1, len(wire.b.ranks))
    return any(rank in beyond for rank in wire.head.ranks)


def lanes_of(wire: Wire) -> list[Lane]:
    """The lanes of a wire: none, one, or one on each side of the columns' border."""
    return [lane for lane in dict.fromkeys((wire.tail, wire.head)) if lane is not None]
