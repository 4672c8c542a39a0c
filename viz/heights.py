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

from tinygrad_seq.viz.recurrences import Recurrence, recurrences
from tinygrad_seq.viz.template import AIR, CLEAR, PITCH, TINY, Lane, Slot, Template, Wire, inner, lanes_of

ROOM = 24.0  # how much taller a box may become for its wires to be straight

Item = Slot | Lane


class Room:
    """What stands in each rank of a template, from where to where."""

    def __init__(self, template: Template) -> None:
        self.held: list[dict[Item, tuple[float, float]]] = [{} for _ in template.ranks]
        self.own_lanes = set(template.lanes)

    def put(self, item: Item, wanted: float) -> None:
        """Place an item, and the stack that it belongs to, at the free height nearest to the one it wants."""
        ranks = item.ranks if isinstance(item, Lane) else (item.rank,)
        parts = [(_above(item, part), half_of(part), part) for part in with_stack(item)]
        taken = [(low, high, other) for r in ranks for other, (low, high) in self.held[r].items()]
        heights, barred = [wanted], []  # heights at which the item would touch another, and those between
        for low, high, other in taken:
            for up, half, part in parts:
                gap = between(part, other)
                heights += [low - gap - half - up, high + gap + half - up]
                barred.append((low - gap - half - up + TINY, high + gap + half - up - TINY))
        free = [y for y in heights if not any(low < y < high for low, high in barred)]
        item.y = min(free, key=lambda y: (abs(y - wanted), y))
        for up, half, part in parts:
            part.y = item.y + up
            for r in ranks:
                self.held[r][part] = (part.y - half, part.y + half)


def half_of(item: Item) -> float:
    """Half the height that an item takes."""
    return PITCH / 2 if isinstance(item, Lane) else item.height / 2


def between(one: Item, other: Item) -> float:
    """How far apart two items of a rank must be: boxes so far that a lane can pass between them."""
    lanes = isinstance(one, Lane) + isinstance(other, Lane)
    return (AIR, CLEAR, 0.0)[lanes]


def _above(item: Item, other: Item) -> float:
    """How much higher than an item another one of its stack stands."""
    if isinstance(item, Lane) or isinstance(other, Lane) or item.stack is None:
        return 0.0
    return item.stack.below(item) - item.stack.below(other)


def with_stack(item: Item) -> Sequence[Item]:
    """The item, or all slots of its stack."""
    return item.stack.slots if isinstance(item, Slot) and item.stack is not None else (item,)


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
    found = recurrences(template, wires)
    for wire, chain in found:
        _note_straight(wire, _straight(chain), wires)
    _place_first(template, wires, found, room, links, placed)
    _place_rest(template, room, links, placed)
    for _ in range(3):
        _give_ports(template, wires)
        _settle(template, found, placed)
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
    found: Sequence[Recurrence],
    room: Room,
    links: dict[Item, list[Item]],
    done: set[Item],
) -> None:
    """Recurrences run straight, one above the other with room for what is between. Without any, the longest chain does."""

    def put(items: Iterable[Item], wanted: float) -> None:
        for item in items:
            if item not in done:
                room.put(item, wanted)
                done.update(with_stack(item))

    straight = {slot for _, chain in found for slot in _straight(chain)}
    room_for = [sum((slot.height + AIR) / (2 if slot in straight else 1) for slot in rank) for rank in template.ranks]
    apart = (max(room_for, default=0.0) + AIR) / max(len(found) - 1, 1)
    _stretch(template, {chain[0] for _, chain in found}, apart)
    for n, (wire, chain) in enumerate(found):
        known = next((slot.y for slot in chain if slot in done), -n * apart)  # in a stack with a lane above
        put([*_straight(chain), *lanes_of(wire)], known)
    if not found and not any(link in done for slot in template.slots.values() for link in links[slot]):
        put(_spine(template, wires), 0.0)


def _stretch(template: Template, states: set[Slot], apart: float) -> None:
    """Make every stack that joins two lanes as long as these are apart."""
    for stack in template.stacks:
        on_lanes = [n for n, slot in enumerate(stack.slots) if slot in states]
        if len(on_lanes) > 1:
            upper, lower = stack.lanes = (on_lanes[0], on_lanes[-1])
            way = stack.below(stack.slots[lower]) - stack.below(stack.slots[upper])
            stack.stretch = max(apart - way, 0.0) / (lower - upper)


def _note_straight(wire: Wire, slots: Sequence[Slot], wires: Sequence[Wire]) -> None:
    """Tell the slots on a lane which of their wires run along it."""
    along = {wire} | {each for each in wires if each.step == 0 and {each.source, each.target} <= {*slots} and not each.vertical}
    for slot in slots:
        slot.straight |= {each for each in along if slot in (each.source, each.target)}


def _straight(chain: Sequence[Slot]) -> list[Slot]:
    """What can stand on one height with the state: all that is between, or only where it arrives, if that goes up or down."""
    ranks = [slot.rank for slot in chain]
    return list(chain) if len(set(ranks)) == len(ranks) else [*dict.fromkeys((chain[0], chain[-1]))]


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
        near = [link.y - _above(item, each) for each in with_stack(item) for link in links[each] if link in done]
        room.put(item, _middle(near) if near else 0.0)
        done.update(with_stack(item))
        for link in (link for each in with_stack(item) for link in links[each]):
            if link in number and link not in done:
                known[link] += 1
                heappush(pending, (isinstance(link, Lane), -known[link], number[link], link))


def _settle(template: Template, found: Sequence[Recurrence], done: set[Item]) -> None:
    """Place everything anew where its wires are straightest, now that the ports are known: recurrences, boxes, lanes."""
    room = Room(template)
    settled: set[Item] = set()

    def put(item: Item, wanted: float) -> None:
        if item not in settled:
            room.put(item, wanted)
            settled.update(with_stack(item))

    for wire, chain in found:
        slots = _straight(chain)
        height = next((lane.y for lane in lanes_of(wire)), slots[-1].port(wire))
        if slots[0] in settled:  # in a stack with a lane above
            height = slots[0].port(wire, leaving=True)
        for slot in (slots[0], slots[-1]):
            put(slot, height + slot.y - slot.port(wire, leaving=slot is wire.source))
        for lane in lanes_of(wire):
            put(lane, height)
        for before, slot in pairwise(reversed(slots)):
            between = next((each for each in _wires_at(slot) if before in (each.source, each.target)), None)
            if between is not None:
                put(slot, before.port(between, leaving=before is between.source) + slot.y - slot.port(between))
    for rank in template.ranks:
        loose = list(dict.fromkeys(with_stack(slot)[0] for slot in rank if slot not in settled))
        wishes, neighbours = [_wishes_of(item, done) for item in loose], [_neighbours(item, done) for item in loose]
        for item, height in _apart(loose, wishes, neighbours):
            put(item, height)
    for slot in template.slots.values():
        for wire in _wires_at(slot):
            for lane in (each for each in lanes_of(wire) if each in room.own_lanes):
                ends = [end.port(wire) for end in (wire.source, wire.target) if end is not None and end in done]
                put(lane, ends[0] if lane is wire.tail else ends[-1])


def _wishes_of(item: Item, done: set[Item]) -> list[float]:
    """The heights at which the wires of an item, or of its stack, would be straight; where it stands, if it has none."""
    found = [wish - _above(item, each) for each in with_stack(item) if isinstance(each, Slot) for wish in _wishes(each, done)]
    return found or [item.y]


def _neighbours(item: Item, done: set[Item]) -> float:
    """How high the boxes stand that an item, or its stack, is joined with: their mean, the same whichever port is whose."""
    ends = [
        end.y - _above(item, each)
        for each in with_stack(item)
        if isinstance(each, Slot)
        for wire in _wires_at(each)
        for end in (wire.source, wire.target)
        if wire.step is not None and not wire.vertical and end is not None and end is not each and end in done
    ]
    return sum(ends) / len(ends) if ends else item.y


def _apart(items: Sequence[Item], wishes: Sequence[Sequence[float]], order_by: Sequence[float]) -> list[tuple[Item, float]]:
    """Items of a rank, from the top in this order, as near to the means of their wishes as they can.

    Pool adjacent violators: items that want the same place form a block, which stands where their wishes are on average.
    """
    order = sorted(range(len(items)), key=lambda n: (-round(order_by[n], 3), n))
    way, offsets = 0.0, []  # of each item, below the first
    for k, n in enumerate(order):
        if k:
            before, item = with_stack(items[order[k - 1]])[-1], with_stack(items[n])[0]
            way += half_of(before) + between(before, item) + half_of(item)
            way += _above(items[order[k - 1]], items[order[k - 1]]) - _above(items[order[k - 1]], before) + _above(items[n], item)
        offsets.append(way)
    blocks: list[tuple[float, int]] = []  # the height that the block's items would have if their offsets were 0; how many
    for n, offset in zip(order, offsets):
        alone = len(items) == 1 and len(wishes[n]) < 3  # straight on one side at least
        height, count = (_middle(wishes[n]) if alone else sum(wishes[n]) / len(wishes[n])) + offset, 1
        while blocks and blocks[-1][0] < height:
            before, more = blocks.pop()
            height, count = (height * count + before * more) / (count + more), count + more
        blocks.append((height, count))
    heights = [height for height, count in blocks for _ in range(count)]
    return [(items[n], height - offset) for n, height, offset in zip(order, heights, offsets)]


def _wires_at(slot: Slot) -> list[Wire]:
    return [wire for port in (*slot.left, *slot.right) for wire in port]


def _reads(wires: Iterable[Wire]) -> dict[Slot, list[Slot]]:
    """What each slot reads within its column."""
    reads: dict[Slot, list[Slot]] = defaultdict(list)
    for source, target in inner(wires):
        reads[target].append(source)
    return reads


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
        if wire.step is None or wire.vertical:
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
            if slot is None or template.slots.get(slot.name) is not slot or wire.vertical:
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
    """Shift the ports of each side, so that a wire on a lane is at the middle, or leaves as high as it arrives, if they fit."""
    slot.shifts = (0.0, 0.0)
    for wire in (each for port in slot.right for each in port):
        if wire.source is wire.target and wire.step is not None:  # from a box to the same box of another step
            on_right = wire.sign > 0
            shift = slot.port(wire, leaving=not on_right) - slot.port(wire, leaving=on_right)
            slot.height = max(slot.height, (len(slot.right) - 1) * PITCH + 2 * abs(shift) + 6)
            slot.shifts = (0.0, shift)
            return
    sides = (slot.left, slot.right)
    places = [[n for n, port in enumerate(side) if slot.straight & {*port}] for side in sides]
    at = [((len(side) - 1) / 2 - place[0]) * PITCH if len(place) == 1 else None for side, place in zip(sides, places)]
    needs = []  # for each height that the wire may have: how tall the box must be, and the shifts
    for height in (0.0, *(each for each in at if each is not None)):  # in the middle, or where one side has it
        shifts = [0.0 if each is None else height - each for each in at]
        needs.append((max((len(side) - 1) * PITCH + 2 * abs(shift) for side, shift in zip(sides, shifts)) + 4, (*shifts,)))
    fitting = next((each for each in needs if each[0] <= slot.height), needs[0])
    if fitting[0] <= slot.height + ROOM:
        slot.height, slot.shifts = max(slot.height, fitting[0]), (fitting[1][0], fitting[1][1])
