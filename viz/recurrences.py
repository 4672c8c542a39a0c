"""The way of every state from step to step. Read me before `stacks.py`.

A state leaves its box for the next step and comes, through a few operations, to the same box there. The shortest of these ways
is drawn as a straight line: it is the road that a gradient takes back through time, in an LSTM the lane of c.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tinygrad_seq.viz.template import Lane, Slot, Template, Wire, inner, lanes_of

Recurrence = tuple[Wire, list[Slot]]  # a state's wire to the next step; the slots from the state back to where it arrives


def recurrences(template: Template, wires: Sequence[Wire]) -> list[Recurrence]:
    """For each state the way that it takes at most steps, and of several the shortest, in order from the top: higher layers
    first, then what passes more boxes."""
    gives = readers(wires)
    found: dict[Slot, Recurrence] = {}
    ranks: dict[Slot, tuple[int, int]] = {}
    for wire in wires:
        source, target = wire.source, wire.target
        if wire.step not in (1, -1) or wire.a is not wire.b or source is None or target is None:
            continue
        path = shortest(target, source, gives)
        rank = (-len(wire.starts), len(path))
        if path and (source not in ranks or rank < ranks[source]):
            found[source], ranks[source] = (wire, path[::-1]), rank
    leads = {state: led_to(state, gives) for state in found}
    beneath = {
        state: sum(chain[-1] in leads[other] and found[other][1][-1] not in leads[state] for other in found if other is not state)
        for state, (_, chain) in found.items()
    }  # how many states a layer below has
    passed = {state: sum(len(lane.ranks) for lane in lanes_of(wire)) for state, (wire, _) in found.items()}
    return [found[state] for state in sorted(found, key=lambda each: (-beneath[each], -passed[each], each.order))]


class Band(NamedTuple):
    """What stands by itself, below another band: a direction's cell. `items` are slots and lanes, in the order in which they are
    placed; `found` its recurrences."""

    items: dict[Slot | Lane, None]
    found: list[Recurrence]


def bands_of(template: Template, wires: Sequence[Wire], found: Sequence[Recurrence]) -> list[Band]:
    """Where two directions go through a column, all that lies on the way from step to step of either, the forward one first; then
    everything else."""
    slots: list[Slot] = [slot for rank in template.ranks for slot in rank]
    ways = {chain[0].reverse for _, chain in found}
    bands: list[Band] = []
    taken: set[Slot] = set()
    for reverse in sorted(ways) if len(ways) > 1 else ():
        own = {slot for slot in _on_the_way(wires, reverse) if slot not in taken}
        own |= {each for slot in own if slot.stack is not None for each in slot.stack.slots if each not in taken}
        taken |= own
        items: list[Slot | Lane] = [slot for slot in slots if slot in own]
        items += [lane for wire in wires if {wire.source, wire.target} <= own for lane in lanes_of(wire)]
        bands.append(Band(dict.fromkeys(items), [each for each in found if each[1][0].reverse == reverse and each[1][0] in own]))
    inside = {item for band in bands for item in band.items}
    rest: list[Slot | Lane] = [*slots, *template.lanes]
    rest = [item for item in rest if item not in inside]
    return [*bands, Band(dict.fromkeys(rest), [each for each in found if each[1][0] not in taken])]


def _on_the_way(wires: Sequence[Wire], reverse: bool) -> set[Slot]:
    """The slots of a direction that a state reaches and that lead to one."""
    crossing = [wire for wire in wires if wire.step in (1, -1) and wire.a is wire.b]
    gives, takes = readers(wires), defaultdict[Slot, list[Slot]](list)
    for source, target in inner(wires):
        takes[target].append(source)
    into = {wire.target for wire in crossing if wire.target is not None and wire.target.reverse == reverse}
    out = {wire.source for wire in crossing if wire.source is not None and wire.source.reverse == reverse}
    reached = {slot for start in into for slot in led_to(start, gives)}
    leading = {slot for end in out for slot in led_to(end, takes)}
    return {slot for slot in reached & leading if slot.reverse == reverse}


def readers(wires: Iterable[Wire]) -> dict[Slot, list[Slot]]:
    """What reads each slot within its column."""
    gives: dict[Slot, list[Slot]] = defaultdict(list)
    for source, target in inner(wires):
        gives[source].append(target)
    return gives


def led_to(start: Slot, gives: Mapping[Slot, Sequence[Slot]]) -> set[Slot]:
    """All slots that depend on one, itself included."""
    found, stack = {start}, [start]
    while stack:
        fresh = [slot for slot in gives.get(stack.pop(), ()) if slot not in found]
        found.update(fresh)
        stack += fresh
    return found


def shortest(start: Slot, end: Slot, gives: Mapping[Slot, Sequence[Slot]]) -> list[Slot]:
    """The slots on the shortest way from one to another, both included; none if there is no way."""
    came_from: dict[Slot, Slot] = {start: start}
    row = [start]
    while row and end not in came_from:
        further = []
        for slot in row:
            for reader in gives.get(slot, ()):
                if reader not in came_from:
                    came_from[reader] = slot
                    further.append(reader)
        row = further
    if end not in came_from:
        return []
    path = [end]
    while path[-1] is not start:
        path.append(came_from[path[-1]])
    return path[::-1]
