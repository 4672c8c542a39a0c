"""How high everything stands within a column. Read me eighth, after `template.py`.

First come the recurrences: the way of a state from step to step runs straight. Then every other box and lane takes the
free height nearest to what it is connected with, and at last, the ports being known, moves to where its wires are
straighter.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

from tinygrad_seq.viz.template import AIR, PITCH, TINY, Lane, Slot, Template, Wire, lanes_of

Item = Slot | Lane
Recurrence = tuple[Wire, list[Slot]]  # a state's wire to the next step; the slots from the state back to where it arrives


class Room:
    """What stands in each rank of a template, from where to where."""

    def __init__(self, template: Template) -> None:
        self.held: list[dict[Item, tuple[float, float]]] = [{} for _ in template.ranks]
        self.own_lanes = set(template.lanes)

    def put(self, item: Item, wanted: float) -> None:
        """Place an item at the free height nearest to the one it wants."""
        ranks = item.ranks if isinstance(item, Lane) else (item.rank,)
        half = PITCH / 2 if isinstance(item, Lane) else (item.height + AIR) / 2
        taken = [span for r in ranks for span in self.held[r].values()]
        heights = [wanted, *(low - half for low, _ in taken), *(high + half for _, high in taken)]
        free = [y for y in heights if all(y + half <= low + TINY or y - half >= high - TINY for low, high in taken)]
        item.y = min(free, key=lambda y: (abs(y - wanted), y))
        for r in ranks:
            self.held[r][item] = (item.y - half, item.y + half)


def place(template: Template, wires: Sequence[Wire], placed: set[Item]) -> None:
    """Give every slot and lane of a template its height, and every slot its ports.

    Args:
        template: whose items to place.
        wires: all that begin or end there.
        placed: items of other templates, which have their heights already. These here are added.
    """
    _give_ports(template, wires)
    for slot in template.slots.values():
        slot.height = max(slot.height, PITCH * max(len(slot.left), len(slot.right)) + 4)
    room = Room(template)
    links = _links(wires)
    recurrences = _recurrences(template, wires)
    _place_first(template, wires, recurrences, room, links, placed)
    _place_rest(template, room, links, placed)
    for _ in range(3):
        _give_ports(template, wires)
        _settle(template, recurrences, placed)
    _give_ports(template, wires)


def _links(wires: Sequence[Wire]) -> dict[Item, list[Item]]:
    """What each item is connected with."""
    links: dict[Item, list[Item]] = defaultdict(list)
    for wire in wires:
        chain = dict.fromkeys(each for each in (wire.source, wire.tail, wire.head, wire.target) if each is not None)
        for one, other in pairwise(chain) if wire.step is not None else ():
            links[one].append(other)
            links[other].append(one)
    return links


def _place_first(
    template: Template,
    wires: Sequence[Wire],
    recurrences: Sequence[Recurrence],
    room: Room,
    links: dict[Item, list[Item]],
    done: set[Item],
) -> None:
    """Recurrences run straight, one above the other with room for what is between. Without any, the longest chain does."""
    stack = max((sum(slot.height + AIR for slot in rank) for rank in template.ranks), default=0.0)
    first: list[tuple[Item, float]] = []
    for n, (wire, chain) in enumerate(recurrences):
        items: list[Item] = [*chain, *lanes_of(wire)]
        first += [(item, -n * 0.75 * stack / max(len(recurrences) - 1, 1)) for item in items]
    anchored = any(link in done for slot in template.slots.values() for link in links[slot])
    if not recurrences and not anchored:
        first = [(slot, 0.0) for slot in _spine(template, wires)]
    for item, height in first:
        if item not in done:
            room.put(item, height)
            done.add(item)


def _place_rest(template: Template, room: Room, links: dict[Item, list[Item]], done: set[Item]) -> None:
    """Everything else near to what it is connected with: boxes before lanes, the best connected first."""
    boxes: list[Item] = [slot for rank in template.ranks for slot in rank]
    number = {item: n for n, item in enumerate([*boxes, *template.lanes])}
    known = Counter({item: sum(link in done for link in links[item]) for item in number})
    pending = [(isinstance(item, Lane), -known[item], n, item) for item, n in number.items()]
    heapify(pending)
    while pending:
        *_, item = heappop(pending)
        if item in done:
            continue
        near = [link.y for link in links[item] if link in done]
        room.put(item, _middle(near) if near else 0.0)
        done.add(item)
        for link in links[item]:
            if link in number and link not in done:
                known[link] += 1
                heappush(pending, (isinstance(link, Lane), -known[link], number[link], link))


def _settle(template: Template, recurrences: Sequence[Recurrence], done: set[Item]) -> None:
    """Place everything anew where its wires are straightest, now that the ports are known: recurrences, boxes, lanes."""
    room = Room(template)
    settled: set[Item] = set()

    def put(item: Item, wanted: float) -> None:
        if item not in settled:
            room.put(item, wanted)
            settled.add(item)

    for wire, slots in recurrences:
        height = next((lane.y for lane in lanes_of(wire)), slots[-1].port(wire))
        for slot in (slots[0], slots[-1]):
            put(slot, height + slot.y - slot.port(wire))
        for lane in lanes_of(wire):
            put(lane, height)
        for before, slot in pairwise(reversed(slots)):
            between = next(each for each in _wires_at(slot) if before in (each.source, each.target))
            put(slot, before.port(between) + slot.y - slot.port(between))
    for slot in (each for rank in template.ranks for each in rank):
        wishes = _wishes(slot, done)
        put(slot, _middle(wishes) if wishes else slot.y)
    for slot in template.slots.values():
        for wire in _wires_at(slot):
            for lane in (each for each in lanes_of(wire) if each in room.own_lanes):
                ends = [end.port(wire) for end in (wire.source, wire.target) if end is not None and end in done]
                put(lane, ends[0] if lane is wire.tail else ends[-1])


def _wires_at(slot: Slot) -> list[Wire]:
    return [wire for port in (*slot.left, *slot.right) for wire in port]


def _recurrences(template: Template, wires: Iterable[Wire]) -> list[Recurrence]:
    """For each state the wire to the next step, and the chain from where it arrives to the state: these run straight.

    Each state has one wire here, the longest; the state with the longest way through other ranks comes first.
    """
    reads = _reads(wires)
    found: dict[Slot, Recurrence] = {}
    for wire in wires:
        source, target = wire.source, wire.target
        if wire.step not in (1, -1) or wire.a is not wire.b or source is None or target is None:
            continue
        chain = [source]
        leads = _led_to(target, reads)
        while chain[-1] is not target and (known := [s for s in reads[chain[-1]] if s in leads]):
            chain.append(max(known, key=lambda s: (s.rank * wire.sign, -s.order)))
        before = found.get(source)
        if chain[-1] is target and (before is None or len(chain) > len(before[1])):
            found[source] = (wire, chain)
    return sorted(found.values(), key=lambda each: (-sum(len(lane.ranks) for lane in lanes_of(each[0])), each[1][0].order))


def _reads(wires: Iterable[Wire]) -> dict[Slot, list[Slot]]:
    """What each slot reads within its column."""
    reads: dict[Slot, list[Slot]] = defaultdict(list)
    for wire in wires:
        if wire.step == 0 and wire.source is not None and wire.target is not None:
            reads[wire.target].append(wire.source)
    return reads


def _led_to(start: Slot, reads: dict[Slot, list[Slot]]) -> set[Slot]:
    """All slots that depend on one, itself included."""
    gives: dict[Slot, list[Slot]] = defaultdict(list)
    for slot, sources in reads.items():
        for source in sources:
            gives[source].append(slot)
    found, stack = {start}, [start]
    while stack:
        fresh = [slot for slot in gives[stack.pop()] if slot not in found]
        found.update(fresh)
        stack += fresh
    return found


def _spine(template: Template, wires: Iterable[Wire]) -> list[Slot]:
    """The longest chain of slots: where there is no recurrence, it runs straight."""
    if not template.ranks:
        return []
    reads = _reads(wires)
    chain = [template.ranks[-1][-1]]
    while reads[chain[-1]] and len(chain) < len(template.ranks):
        chain.append(max(reads[chain[-1]], key=lambda s: (s.rank, -s.order)))
    return chain


def _wishes(slot: Slot, done: set[Item]) -> list[float]:
    """The heights at which the slot's wires would be straight."""
    wishes = []
    for wire in _wires_at(slot):
        if wire.step is None:
            continue
        other = wire.target if wire.source is slot else wire.source
        if other is None or other is slot or other not in done:
            continue
        wishes.append(other.port(wire) - (slot.port(wire) - slot.y))
    return wishes


def _middle(values: Sequence[float]) -> float:
    """The median; the lower of two."""
    return sorted(values)[(len(values) - 1) // 2]


def _give_ports(template: Template, wires: Sequence[Wire]) -> None:
    """Order the wires on both sides of every slot by where they go."""
    sides: dict[tuple[Slot, bool], list[tuple[float, int, Wire]]] = defaultdict(list)
    for n, wire in enumerate(wires):
        for slot, is_source in ((wire.source, True), (wire.target, False)):
            if slot is None or template.slots.get(slot.name) is not slot:
                continue
            lane = wire.tail if is_source else wire.head or wire.tail
            other = wire.target if is_source else wire.source
            if wire.step is None:
                height = 1e6 if wire.above else -1e6
            else:
                height = lane.y if lane is not None else other.y if other is not None else 0.0
            sides[slot, is_source == (wire.sign > 0)].append((-height, n, wire))
    for slot in template.slots.values():
        for is_right in (True, False):
            ports: list[list[Wire]] = []
            for _, _, wire in sorted(sides[slot, is_right], key=lambda each: each[:2]):
                if ports and wire.joins and ports[-1][0].joins:
                    ports[-1].append(wire)
                else:
                    ports.append([wire])
            slot.right, slot.left = (ports, slot.left) if is_right else (slot.right, ports)
        _align(slot)


def _align(slot: Slot) -> None:
    """Where a wire leads from a box to the same box of another step: let it leave as high as it arrives, if that fits."""
    slot.shift = 0.0
    for wire in (each for port in slot.right for each in port):
        if wire.source is wire.target and wire.step is not None:
            on_right = wire.sign > 0
            slot.shift = slot.port(wire, leaving=not on_right) - slot.port(wire, leaving=on_right)
            top = (len(slot.right) - 1) / 2 * PITCH
            if top + abs(slot.shift) > slot.height / 2 - 2:
                slot.shift = 0.0
            return
