"""The way of every state from step to step. Read me before `stacks.py`.

A state leaves its box for the next step and comes, through a few operations, to the same box there. The shortest of these ways
is drawn as a straight line: it is the road that a gradient takes back through time, in an LSTM the lane of c.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tinygrad_seq.viz.template import Slot, Template, Wire, inner, lanes_of

Recurrence = tuple[Wire, list[Slot]]  # a state's wire to the next step; the slots from the state back to where it arrives


def recurrences(template: Template, wires: Sequence[Wire]) -> list[Recurrence]:
    """For each state its shortest way, in order from the top: higher layers first, then what passes more boxes."""
    gives = readers(wires)
    found: dict[Slot, Recurrence] = {}
    for wire in wires:
        source, target = wire.source, wire.target
        if wire.step not in (1, -1) or wire.a is not wire.b or source is None or target is None:
            continue
        path = shortest(target, source, gives)
        if path and (source not in found or len(path) < len(found[source][1])):
            found[source] = (wire, path[::-1])
    leads = {state: led_to(state, gives) for state in found}
    beneath = {
        state: sum(chain[-1] in leads[other] and found[other][1][-1] not in leads[state] for other in found if other is not state)
        for state, (_, chain) in found.items()
    }  # how many states a layer below has
    passed = {state: sum(len(lane.ranks) for lane in lanes_of(wire)) for state, (wire, _) in found.items()}
    return [found[state] for state in sorted(found, key=lambda each: (-beneath[each], -passed[each], each.order))]


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
