"""What stands above each other. Read me after `template.py` and `recurrences.py`.

In a layered layout all arrows run sideways, and a cell grows as wide as its longest chain of operations. People draw cells more
compactly: what leads from one lane to another stands between the two, an input under what reads it, an output on top. So
some arrows may stand upright, each between two boxes of one rank that are neighbours there:

    between lanes   from a state to another one, or to where the layer above takes it in: in an LSTM c, tanh, ×, h
    inputs          under their only reader
    tributaries     an operation whose only reader stands on a lane: in an LSTM the product of u and c~ under the +
    outputs         what is made of a state and leads to no other: the readout and its loss

Each of these is tried in this order, and given up where a column could not be read from left to right any more.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from tinygrad_seq.viz.recurrences import Recurrence, led_to, readers, recurrences, shortest
from tinygrad_seq.viz.template import Slot, Stack, Template, Wire, inner, is_circular

LONGEST = 6  # slots between two lanes, those on them included


def lay_stacks(template: Template, wires: Sequence[Wire], after: dict[Slot, set[Slot]]) -> None:
    """Choose the stacks of a column, which has been ranked without them. A column without recurrence has none."""
    found = recurrences(template, wires)
    if not found:
        return
    stacking = _Stacking(after, inner(wires))
    _between_lanes(stacking, found, wires)
    _inputs(stacking, template, wires)
    _tributaries(stacking, template, wires, {slot for _, chain in found for slot in chain})
    _outputs(stacking, template, wires, found)
    for slots in stacking.stacks():
        template.stacks.append(Stack(slots))
        for slot in slots:
            slot.stack = template.stacks[-1]


class _Stacking:
    """Stacks in the making."""

    def __init__(self, after: dict[Slot, set[Slot]], pairs: Sequence[tuple[Slot, Slot]]) -> None:
        self.after = after
        self.joined: dict[Slot, set[Slot]] = defaultdict(set)
        for source, target in pairs:
            self.joined[source].add(target)
            self.joined[target].add(source)
        self.of: dict[Slot, list[Slot]] = {slot: [slot] for slot in after}

    def stacks(self) -> list[list[Slot]]:
        """Those with more than one slot."""
        return [slots for slot, slots in self.of.items() if slots[0] is slot and len(slots) > 1]

    def join(self, *path: Slot) -> bool:
        """Put these slots below each other, if each is the end of its stack, and an order from left to right remains."""
        parts = [self.of[slot] for slot in path]
        ends = parts[0][-1] is path[0] and parts[-1][0] is path[-1]
        if not ends or any(len(part) > 1 for part in parts[1:-1]) or len({id(part) for part in parts}) < len(parts):
            return False
        whole = [slot for part in parts for slot in part]
        place = {slot: n for n, slot in enumerate(whole)}
        if any(abs(place[slot] - place[other]) > 1 for slot in whole for other in self.joined[slot] if other in place):
            return False  # an arrow would have to pass a box between
        before = {slot: self.of[slot] for slot in whole}
        self.of.update(dict.fromkeys(whole, whole))
        units: dict[Slot, set[Slot]] = defaultdict(set)
        for slot, left in self.after.items():
            units[self.of[slot][0]] |= {self.of[other][0] for other in left} - {self.of[slot][0]}
        if is_circular(units):
            self.of.update(before)
            return False
        return True


def _between_lanes(stacking: _Stacking, found: Sequence[Recurrence], wires: Sequence[Wire]) -> None:
    """From lane to lane: up into the next layer, else from the higher to the lower of two states of one layer."""
    gives, states = readers(wires), [chain[0] for _, chain in found]
    for n, (_, chain) in enumerate(found):
        for m, (_, other) in enumerate(found):
            start = chain[0]
            if start.reverse != other[0].reverse:  # each direction stands by itself
                continue
            beyond = {slot: () if slot in states and slot is not start else readers_ for slot, readers_ in gives.items()}
            up = shortest(start, other[-1], beyond) if m < n else []
            path = up[::-1] or (shortest(start, other[0], beyond) if m > n else [])
            if 1 < len(path) <= LONGEST:
                stacking.join(*path)


def _inputs(stacking: _Stacking, template: Template, wires: Sequence[Wire]) -> None:
    """What nothing makes, and one box reads, stands below it."""
    uses = Counter(end for wire in wires for end in (wire.source, wire.target))
    reader = dict(inner(wires))
    for slot in template.slots.values():
        if uses[slot] == 1 and slot in reader:
            stacking.join(reader[slot], slot)


def _tributaries(stacking: _Stacking, template: Template, wires: Sequence[Wire], lanes: set[Slot]) -> None:
    """What only feeds an operation on a lane stands below that."""
    out = Counter(wire.source for wire in wires)
    made = {target for _, target in inner(wires)}
    reader = dict(inner(wires))
    for slot in template.slots.values():
        if slot in made and out[slot] == 1 and slot not in lanes and reader.get(slot) in lanes:
            stacking.join(reader[slot], slot)


def _outputs(stacking: _Stacking, template: Template, wires: Sequence[Wire], found: Sequence[Recurrence]) -> None:
    """What is made of one thing on a lane, and leads to no state, stands on top of it, or below."""
    gives, tower = readers(wires), {slot for _, chain in found for slot in chain}
    states = {chain[0] for _, chain in found}
    sources: dict[Slot, list[Slot]] = defaultdict(list)
    for source, target in inner(wires):
        if stacking.after[source] or source in tower:
            sources[target].append(source)
    for slot in sorted(template.slots.values(), key=lambda each: (each.rank, each.order)):
        if len(sources[slot]) != 1 or sources[slot][0] not in tower or led_to(slot, gives) & (states | tower):
            continue
        if stacking.join(slot, sources[slot][0]) or stacking.join(sources[slot][0], slot):
            tower.add(slot)
