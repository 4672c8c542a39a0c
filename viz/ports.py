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
            for wire in _by_height(slot, sides[slot, is_right]):
                port = next((port for port in ports if _may_share(slot, wire, port)), None)
                if port is None:
                    ports.append([wire])
                else:
                    port.append(wire)
            slot.right, slot.left = (ports, slot.left) if is_right else (slot.right, ports)
        _align(slot)


def _by_height(slot: Slot, side: list[tuple[float, int, Wire]]) -> list[Wire]:
    """The wires of a side from the top down; those that may share a port with one on a lane come with that one."""
    lane = next((each for each in side if each[2] in slot.straight), None)
    if lane is None:
        return [wire for _, _, wire in sorted(side, key=lambda each: each[:2])]

    def place(each: tuple[float, int, Wire]) -> tuple[float, int]:
        return lane[:2] if _may_share(slot, each[2], [lane[2]]) else each[:2]

    return [each[2] for each in sorted(side, key=place)]


def _may_share(slot: Slot, wire: Wire, port: Sequence[Wire]) -> bool:
    """Whether a wire can have the port of others: of those to the buses above, or of those that it never meets.

    A state comes to a box from the step before, from the initial state, or from steps that are left out: never from two.
    """
    if wire.joins and port[0].joins:
        return True
    if any(each.step == 0 or each.a is None or each.b is None or each.above for each in (wire, *port)):
        return False
    arrives = wire.target is slot
    columns = wire.ends if arrives else wire.starts
    return all((each.target is slot) == arrives and not columns & (each.ends if arrives else each.starts) for each in port)


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
