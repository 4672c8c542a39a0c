"""Where wires enter and leave a box. Read me after `room.py`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tinygrad_seq.viz.template import PITCH, Slot, Template, Wire

TALLER = 24.0  # by how much a box may grow for its wires to be straight


def give_ports(template: Template, wires: Sequence[Wire]) -> None:
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


def wires_at(slot: Slot) -> list[Wire]:
    """All wires that have a port at a slot."""
    return [wire for port in (*slot.left, *slot.right) for wire in port]


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
    if fitting[0] <= slot.height + TALLER:
        slot.height, slot.shifts = max(slot.height, fitting[0]), (fitting[1][0], fitting[1][1])
