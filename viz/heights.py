"""How high everything stands within a column. Read me after `ports.py`.

First come the recurrences: the way of a state from step to step runs straight. Then every other box and lane takes the
free height nearest to what it is connected with, and at last, the ports being known, moves to where its wires are
straighter.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from heapq import heapify, heappop, heappush
from itertools import pairwise

from tinygrad_seq.viz.ports import give_ports, wires_at
from tinygrad_seq.viz.recurrences import Band, bands_of, recurrences
from tinygrad_seq.viz.room import Item, Room, Wish, above, in_order, with_stack
from tinygrad_seq.viz.template import AIR, PITCH, Lane, Slot, Template, Wire, inner, lanes_of


def place(template: Template, wires: Sequence[Wire], placed: set[Item]) -> None:
    """Give every slot and lane of a template its height, and every slot its ports.

    Args:
        template: whose items to place.
        wires: all that begin or end there.
        placed: items of other templates, which have their heights already. These here are added.
    """
    _grows(template, wires)
    links = _links(wires)
    found = recurrences(template, wires)
    for wire, chain in found:
        _note_straight(wire, _straight(chain), wires)
    bands = bands_of(template, wires, found)
    room = Room(template)
    for band in bands:
        with room.apart(band.items) if band is not bands[-1] else nullcontext():
            _place_first(template, wires, band, room, links, placed)
            _place_rest(band, room, links, placed)
    for _ in range(3):
        _grows(template, wires)
        _settle(template, bands, placed)
    while _grows(template, wires):  # a taller box needs another place; none grows beyond what its ports need
        _settle(template, bands, placed)


def _grows(template: Template, wires: Sequence[Wire]) -> bool:
    """Give every slot its ports, and whether any had to grow for them."""
    before = [slot.height for slot in template.slots.values()]
    give_ports(template, wires)
    for slot in template.slots.values():
        slot.height = max(slot.height, PITCH * max(len(slot.left), len(slot.right)) + 4)
    return before != [slot.height for slot in template.slots.values()]


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
    band: Band,
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

    found = band.found
    straight = {slot for _, chain in found for slot in _straight(chain)}
    ranks = [[slot for slot in rank if slot in band.items] for rank in template.ranks]
    room_for = [sum((slot.height + AIR) / (2 if slot in straight else 1) for slot in rank) for rank in ranks]
    apart = (max(room_for, default=0.0) + AIR) / max(len(found) - 1, 1)
    _stretch(template, {chain[0] for _, chain in found}, apart)
    for n, (wire, chain) in enumerate(found):
        known = next((slot.y for slot in chain if slot in done), -n * apart)  # in a stack with a lane above
        put([*_straight(chain), *lanes_of(wire)], known)
    slots = template.slots.values()
    if not found and done.isdisjoint(slots) and not any(link in done for slot in slots for link in links[slot]):
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


def _place_rest(band: Band, room: Room, links: dict[Item, list[Item]], done: set[Item]) -> None:
    """Everything else of a band near to what it is connected with: boxes before lanes, the best connected first."""
    number = {item: n for n, item in enumerate(band.items)}
    known = Counter({item: sum(link in done for link in links[item]) for item in number})
    pending = [(isinstance(item, Lane), -known[item], n, item) for item, n in number.items()]
    heapify(pending)
    while pending:
        *_, item = heappop(pending)
        if item in done:
            continue
        near = [
            link.y - above(item, each) for each in with_stack(item) for link in links[each] if link in done and room.sees(link)
        ]
        room.put(item, _middle(near) if near else 0.0)
        done.update(with_stack(item))
        for link in (link for each in with_stack(item) for link in links[each]):
            if link in number and link not in done:
                known[link] += 1
                heappush(pending, (isinstance(link, Lane), -known[link], number[link], link))


def _settle(template: Template, bands: Sequence[Band], done: set[Item]) -> None:
    """Place everything anew where its wires are straightest, now that the ports are known."""
    room = Room(template)
    for band in bands:
        with room.apart(band.items) if band is not bands[-1] else nullcontext():
            _settle_band(template, band, room, done)


def _settle_band(template: Template, band: Band, room: Room, done: set[Item]) -> None:
    """Recurrences, boxes, lanes."""
    found, settled = band.found, set[Item]()

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
            between = next((each for each in wires_at(slot) if before in (each.source, each.target)), None)
            if between is not None:
                put(slot, before.port(between, leaving=before is between.source) + slot.y - slot.port(between))
    for rank in template.ranks:
        loose = list(dict.fromkeys(with_stack(slot)[0] for slot in rank if slot in band.items and slot not in settled))
        for item, height in in_order([_wish(item, done, alone=len(loose) == 1) for item in loose]):
            put(item, height)
    for slot in template.slots.values():
        for wire in wires_at(slot):
            for lane in (each for each in lanes_of(wire) if each in band.items):
                ends = [end.port(wire) for end in (wire.source, wire.target) if end is not None and end in done]
                put(lane, ends[0] if lane is wire.tail else ends[-1])


def _wish(item: Item, done: set[Item], alone: bool) -> Wish:
    """Where the wires of an item and its stack would be straight, all in all; an item alone is straight on one side at least."""
    slots = [each for each in with_stack(item) if isinstance(each, Slot)]
    heights = [height - above(item, each) for each in slots for height in _wishes(each, done)]
    height = item.y
    if heights:
        height = _middle(heights) if alone and len(heights) < 3 else sum(heights) / len(heights)
    return Wish(item, height, _neighbours(item, done))


def _neighbours(item: Item, done: set[Item]) -> float:
    """How high the boxes stand that an item, or its stack, is joined with: their mean, the same whichever port is whose."""
    ends = [
        end.y - above(item, each)
        for each in with_stack(item)
        if isinstance(each, Slot)
        for wire in wires_at(each)
        for end in (wire.source, wire.target)
        if wire.step is not None and not wire.vertical and end is not None and end is not each and end in done
    ]
    return sum(ends) / len(ends) if ends else item.y


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
    for wire in wires_at(slot):
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
