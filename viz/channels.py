"""Buses, and the tracks of the channels. Read me after `heights.py`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any

from tinygrad_seq.viz.graph import Graph, column_of
from tinygrad_seq.viz.template import HEAD, PITCH, TINY, Bus, Slot, Template, Turn, Wire, has_head, has_tail

LABELLED = 20.0  # between two buses with text above them


def lay_buses(graph: Graph, wires: Sequence[Wire], top: float, bottom: float) -> tuple[list[Bus | None], float, float]:
    """A bus for every edge that needs one: below for what stands outside of time, above for the others."""
    floor = bottom - 2 * PITCH
    shared: dict[Any, Bus] = {}
    for node in graph.nodes:
        if node.sums is not None:  # listed after its weight
            node.y = node.sums.y
        elif node.column is None:
            node.y = floor - node.height / 2
            floor -= node.height + 6
        if node.column is None:
            shared[id(node)] = Bus(node.y)
    spans: dict[Any, tuple[int, int]] = {}
    keys: list[Any] = []
    for edge, wire in zip(graph.edges, wires):
        key: Any = None
        if wire.step is None:
            ends = [node for node in (edge.source, edge.target) if node.column is None]
            timeless = [n for n in (edge.source, edge.target) if n.column is not None and graph.columns[n.column].role != "step"]
            outside = ends or timeless
            key = id(edge) if edge.delay else id((outside or [edge.source])[0])
            i, j = sorted((column_of(edge.source), column_of(edge.target)))
            low, high = spans.get(key, (i, j))
            spans[key] = (min(low, i), max(high, j))
        keys.append(key)
    ceiling = top
    pitch = LABELLED if any(edge.delay for edge in graph.edges) else PITCH
    ends_at: list[int] = []  # of the buses above, one above the other: the last column that each has reached
    first = {key: n for n, key in reversed([*enumerate(keys)])}
    loops = {key for key, wire in zip(keys, wires) if wire.loop}
    for key in sorted((key for key in spans if key not in shared), key=lambda k: (k not in loops, spans[k], first[k])):
        low, high = spans[key]
        row = next((n for n, end in enumerate(ends_at) if end < low), len(ends_at))
        ends_at[row : row + 1] = [len(graph.columns) if key in loops else high]  # text stands beside a loop
        shared[key] = Bus(top + pitch * (row + 1))
        ceiling = max(ceiling, shared[key].y)
    return [None if key is None else shared[key] for key in keys], ceiling + pitch, floor


# ---- channels -------------------------------------------------------------------------------------------------------


def note_turns(wire: Wire, bus: Bus | None) -> None:
    """Note where a wire changes its height: "out" where it leaves, "border" between columns, "in" where it enters."""
    if wire.turns:
        for turn in wire.turns.values():
            if bus is not None:
                _reach(turn, bus.y)
        return
    a, b, source, target = wire.a, wire.b, wire.source, wire.target
    right = wire.sign > 0
    if wire.step is None:
        assert bus is not None
        if a is not None and source is not None:
            _turn(wire, "out", a, source.rank + right, source.port(wire, leaving=True), bus.y, source)
        if b is not None and target is not None:
            _turn(wire, "in", b, target.rank + (not right), bus.y, target.port(wire), target)
        return
    if a is None or b is None or source is None or target is None or wire.vertical:
        return
    y0, y1 = source.port(wire, leaving=True), target.port(wire)
    if wire.step == 0:
        if wire.tail is not None:
            _turn(wire, "out", a, source.rank + right, y0, wire.tail.y)
            _turn(wire, "in", b, target.rank + (not right), wire.tail.y, y1)
        else:
            _turn(wire, "in", b, target.rank + (not right), y0, y1)
        return
    border = 0 if right else len(b.ranks)
    y = y0
    if wire.tail is not None and has_tail(wire):
        _turn(wire, "out", a, source.rank + right, y, wire.tail.y)
        y = wire.tail.y
    if wire.head is not None and has_head(wire):
        _turn(wire, "border", b, border, y, wire.head.y)
        y = wire.head.y
    _turn(wire, "in", b, target.rank + (not right), y, y1)


def _turn(wire: Wire, where: str, template: Template, channel: int, start: float, end: float, slot: Slot | None = None) -> None:
    """Note a turn, from left to right. At a slot, all wires to the buses above make the same."""
    if abs(start - end) < TINY:
        return
    if slot is not None and wire.joins and channel in slot.bus:
        turn = slot.bus[channel]
        _reach(turn, max(start, end))
    else:
        turn = Turn(start, end, loop=wire.loop) if wire.sign > 0 else Turn(end, start, loop=wire.loop)
        template.channels[channel].append(turn)
        if slot is not None and wire.joins:
            slot.bus[channel] = turn
    wire.turns[where] = turn


def _reach(turn: Turn, y: float) -> None:
    """The same track serves several buses: it must be free as far as the farthest."""
    if turn.start > turn.end:
        turn.start, turn.end = max(turn.start, y), min(turn.end, y)
    else:
        turn.start, turn.end = min(turn.start, y), max(turn.end, y)


def lay_channels(template: Template) -> None:
    """Give every turn its track, and with that every channel its width and every slot its x."""
    x = 0.0
    for n, channel in enumerate(template.channels):
        tracks = _tracks(channel)
        width = 2 * HEAD + max(tracks - 1, 0) * PITCH
        for turn in channel:
            turn.x = x + HEAD + turn.track * PITCH
        x += width
        if n < len(template.ranks):
            rank = max(slot.width for slot in template.ranks[n])
            for slot in template.ranks[n]:
                slot.x = x + rank / 2
            x += rank
    template.width = x


def _tracks(turns: Sequence[Turn]) -> int:
    """Colour the turns of a channel so that none lies on another, and the horizontals that lead to them neither.

    A turn that ends where another starts must stand to the right of it: else one would run along the other.
    Of turns that go down the lower stands further left, of those that go up the higher: they do not cross then. Loops come from
    the right when they go down: they stand furthest left, and of these the higher, which is around the others.
    """

    def place(turn: Turn) -> tuple[bool, bool, float, float]:
        down = turn.start > turn.end
        from_the_right = down and turn.loop
        return not from_the_right, down, turn.start if down and not from_the_right else -turn.start, turn.end

    order = sorted(turns, key=place)
    ends: dict[int, list[int]] = defaultdict(list)
    for n, turn in enumerate(order):
        ends[round(turn.end)].append(n)
    right_of: dict[int, set[int]] = {n: set() for n in range(len(order))}
    left_of: dict[int, set[int]] = {n: set() for n in range(len(order))}
    for n, turn in enumerate(order):
        for level in range(round(turn.start) - 4, round(turn.start) + 5):
            for m in ends.get(level, ()):
                if m != n and n not in left_of[m]:  # n comes in at the height at which m goes out
                    right_of[n].add(m)
                    left_of[m].add(n)
    blockers = {n: len(left_of[n]) for n in left_of}
    ready = [n for n in blockers if not blockers[n]]
    waiting = set(blockers)
    done: list[Turn] = []
    least: dict[int, int] = defaultdict(int)
    while waiting:
        n = heappop(ready) if ready else min(waiting)  # a circle of such demands cannot be met: the first goes first
        if n not in waiting:
            continue
        waiting.discard(n)
        turn = order[n]
        low, high = sorted((turn.start, turn.end))
        taken = {o.track for o in done if min(o.start, o.end) < high + PITCH / 2 and max(o.start, o.end) > low - PITCH / 2}
        turn.track = next(k for k in range(least[n], least[n] + len(turns) + 1) if k not in taken)
        done.append(turn)
        for m in right_of[n]:
            least[m] = max(least[m], turn.track + 1)
            blockers[m] -= 1
            if not blockers[m]:
                heappush(ready, m)
    return max((turn.track + 1 for turn in turns), default=0)
