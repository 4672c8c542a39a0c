"""Where everything stands. Read me after `channels.py`: I put the pieces together.

Columns get their templates and edges their wires; ranks, heights and channels are laid out once for each template; then
every node takes the place of its slot in its column.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinygrad_seq.viz.channels import lay_buses, lay_channels, note_turns
from tinygrad_seq.viz.graph import Edge, Graph, Node, column_of
from tinygrad_seq.viz.heights import place
from tinygrad_seq.viz.room import Room
from tinygrad_seq.viz.stacks import lay_stacks
from tinygrad_seq.viz.template import (
    BOX,
    TINY,
    Bus,
    Lane,
    Slot,
    Template,
    Turn,
    Wire,
    has_tail,
    is_circular,
    lay_lanes,
    order_within,
    rank,
)
from tinygrad_seq.viz.typeset import pieces

MARGIN = 12.0  # between a column's card and what is in it
HEADER = 14.0  # the line with t, within the card
GAP = 14.0  # between two cards
SUM = 18.0  # the circle in which a weight's gradients meet
ROUND = 22.0  # the circle of an operation with a sign of one character
LABEL = 12.0  # the size of a label, in points
TRUNK = 22.0  # from there to the weight


@dataclass
class Layout:
    """A graph with its places.

    Attributes:
        wires: for each edge its wire and, along a bus, the bus.
        starts: for each edge that leaves an initial state, the turn that it makes in that state's own column.
        templates, lefts: for each column its template and its left edge.
        top, bottom: of what stands in the columns.
        left, right, floor, ceiling: of everything, the buses and the lane outside of time included.
    """

    graph: Graph
    wires: list[tuple[Wire, Bus | None]]
    starts: dict[Edge, Turn]
    templates: list[Template]
    lefts: list[float]
    top: float
    bottom: float
    left: float
    right: float
    floor: float
    ceiling: float


def layout(graph: Graph) -> Layout:
    """Place the nodes of a graph (their x, y, width and height are set) and find the way of every edge."""
    for node in graph.nodes:
        node.width, node.height = box_of(node)
    templates = _templates(graph)
    wires = _wires(graph, templates)
    uses = Counter(templates)
    kinds = sorted(uses, key=lambda each: -uses[each])  # the steps first: others align with them
    wires_of: dict[Template, list[Wire]] = {each: [] for each in kinds}
    for wire in dict.fromkeys(wires):
        for each in dict.fromkeys((wire.a, wire.b)):
            if each is not None:
                wires_of[each].append(wire)
    for each in kinds:
        after = order_within(each, wires_of[each])
        rank(each, wires_of[each], after)
        lay_stacks(each, wires_of[each], after)
        rank(each, wires_of[each], after)
    for wire in dict.fromkeys(wires):
        lay_lanes(wire)
    placed: set[Slot | Lane] = set()
    for each in kinds:
        place(each, wires_of[each], placed)
    starts = _place_initial(graph, templates, wires)
    heights = [(s.y, s.height / 2) for each in kinds for s in each.slots.values()]
    heights += [(lane.y, 0.0) for each in kinds for lane in each.lanes]
    top = max((y + half for y, half in heights), default=0.0) + MARGIN + HEADER
    bottom = min((y - half for y, half in heights), default=0.0) - MARGIN
    buses, ceiling, floor = lay_buses(graph, wires, top, bottom)
    for wire, bus in zip(wires, buses):
        note_turns(wire, bus)
    for each in kinds:
        lay_channels(each)
    lefts, x = [], 0.0
    for each in templates:
        lefts.append(round(x, 2))
        x += each.width + GAP
    right, left = max(x - GAP, 0.0), 0.0
    for node in graph.nodes:
        if node.column is None:
            node.x = -GAP - (node.width if node.sums else SUM + TRUNK + node.width) + node.width / 2
            left = min(left, node.x - node.width / 2)
        else:
            slot = templates[node.column].slots[node.slot]
            node.x, node.y, node.height = lefts[node.column] + slot.x, slot.y, slot.height
        node.x, node.y = round(node.x, 2), round(node.y, 2)
    return Layout(graph, list(zip(wires, buses)), starts, templates, lefts, top, bottom, left, right, floor, ceiling)


# ---- boxes ----------------------------------------------------------------------------------------------------------

NARROW, WIDE = frozenset(" !'()*,-./:;I[\\]`fijlrt|{}\""), frozenset("@%MWmw×<>=+~ΓΣ")


def text_width(text: str, size: float) -> float:
    """An upper estimate of a line's width in Arial; exact metrics would differ from machine to machine."""

    def share(c: str) -> float:
        return 0.34 if c in NARROW else 0.86 if c in WIDE else 0.72 if c.isupper() else 0.57 if c.isascii() else 1.0

    return size * sum(map(share, text))


def label_width(label: str, size: float) -> float:
    """The same of a label, parts of which may be smaller."""
    return sum(text_width(piece.text, piece.size * size) for piece in pieces(label))


def box_of(node: Node) -> tuple[float, float]:
    """Width and least height of a node's box."""
    if node.kind == "sum":
        return SUM, SUM
    if node.round:
        return ROUND, ROUND
    lines = node.label.splitlines() or [""]
    width = max(label_width(line, LABEL) for line in lines)
    height = 14.0 * len(lines)
    if node.small:
        width, height = max(width, text_width(node.small, 8)), height + 10
    return round(max(width + 12, 28.0), 2), max(height + 8, BOX)


# ---- templates and wires --------------------------------------------------------------------------------------------


def _templates(graph: Graph) -> list[Template]:
    """A template for each column: one for the steps of a part, one for each other column.

    If the steps differ so much that together they would make a circle, each step has its own.
    """
    shared: dict[Any, Template] = {}
    within: dict[Any, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    keys = [(c.role, c.part) if c.role == "step" else i for i, c in enumerate(graph.columns)]
    for edge in graph.edges:
        if edge.source.column is not None and edge.source.column == edge.target.column and not edge.delay:
            within[keys[edge.source.column]][edge.target.slot].add(edge.source.slot)
    circular = {key for key, reads in within.items() if is_circular(reads)}
    templates = [shared.setdefault((key, i) if key in circular else key, Template()) for i, key in enumerate(keys)]
    for node in graph.nodes:
        if node.column is not None:
            slots = templates[node.column].slots
            slot = slots.setdefault(node.slot, Slot(node.slot, len(slots), node.reverse))
            slot.width, slot.height = max(slot.width, node.width), max(slot.height, node.height)
    return templates


def _wires(graph: Graph, templates: Sequence[Template]) -> list[Wire]:
    """The wire of every edge. Edges of the same shape share theirs; an initial state stands for the state before it."""
    crossing = {(e.source.slot, e.target.slot) for e in graph.edges if e.source.t is not None and e.source.t != e.target.t}
    shapes = [_shape(edge, graph, templates, crossing) for edge in graph.edges]
    pairs: dict[Any, set[tuple[int, int]]] = defaultdict(set)
    for edge, shape in zip(graph.edges, shapes):
        pairs[shape].add((column_of(edge.source), column_of(edge.target)))
    fans = {shape: any(len({pair[side] for pair in ends}) < len(ends) for side in (0, 1)) for shape, ends in pairs.items()}
    shared: dict[Any, Wire] = {}
    wires = []
    for edge, shape in zip(graph.edges, shapes):
        a, from_slot, b, to_slot, distance, loop = shape
        near = a is not None and b is not None and distance is not None and abs(distance) <= 1
        step = distance if near and not fans[shape] and not loop else None
        if shape not in shared:
            sign = 1 if column_of(edge.target) > column_of(edge.source) or edge.target.sums or loop else -1
            source = None if a is None else a.slots[from_slot]
            target = None if b is None else b.slots[to_slot]
            shared[shape] = Wire(a, b, source, target, sign, step, bool(loop))
        wires.append(shared[shape])
        wires[-1].starts.add(column_of(edge.source))
        wires[-1].ends.add(column_of(edge.target))
    return wires


Shape = tuple["Template | None", str, "Template | None", str, "int | None", str]


def _shape(edge: Edge, graph: Graph, templates: Sequence[Template], crossing: set[tuple[str, str]]) -> Shape:
    """Template and slot of both ends, and how many columns lie between, as far as edges differ by that.

    An initial state's edges are like those of the state that it stands for: `crossing` has the slots that these join.
    """
    source, target = edge.source, edge.target
    a, b = (None if node.column is None else templates[node.column] for node in (source, target))
    distance: int | None = column_of(target) - column_of(source)
    far = abs(column_of(target) - column_of(source)) > 1
    slot = source.slot
    if _is_initial(source, graph) and b is not None and source.slot in b.slots and not far:
        a = b
        own = source.kind == "sum" or source.column == target.column  # it has a sum of its own
        if not own and f"{slot}.sum" in b.slots and (slot, target.slot) not in crossing:
            slot = f"{slot}.sum"  # where the state's uses meet
    elif a is not b and far:
        distance = None if column_of(target) > column_of(source) else -2
    return a, slot, b, target.slot, distance, f"{edge.delay} {edge.carries}" if edge.delay else ""


def _is_initial(node: Node, graph: Graph) -> bool:
    return node.column is not None and graph.columns[node.column].role == "init"


# ---- initial states ----


def _place_initial(graph: Graph, templates: Sequence[Template], wires: Sequence[Wire]) -> dict[Edge, Turn]:
    """Place initial states where the states that they stand for would be, one column earlier, and join them to these wires."""
    stands: dict[Node, Slot] = {}
    offsets: dict[Node, tuple[float, float]] = {}  # of the lowest and the highest port, from the middle of that slot
    for edge, wire in zip(graph.edges, wires):
        column = edge.source.column
        if _is_initial(edge.source, graph) and wire.source is not None and column is not None and wire.a is not templates[column]:
            stands.setdefault(edge.source, wire.source)
            offset = wire.source.port(wire, leaving=True) - wire.source.y
            low, high = offsets.get(edge.source, (offset, offset))
            offsets[edge.source] = (min(low, offset), max(high, offset))
    leaving = [(edge, wire) for edge, wire in zip(graph.edges, wires) if edge.source in stands and wire.step is not None]
    for column, template in enumerate(templates):
        if graph.columns[column].role == "init":
            here = {node.slot: node for node in stands if node.column == column}
            out = [(edge, wire) for edge, wire in leaving if edge.source.column == column]
            _place_by_rank(template, here, stands, offsets, out)
    starts = {}
    for edge, wire in leaving:
        if wire.source is not None and edge.source.column is not None:
            template = templates[edge.source.column]
            if template is wire.a:
                continue
            port = wire.source.port(wire, leaving=True)
            start = template.slots[edge.source.slot].y + port - wire.source.y - sum(offsets[edge.source]) / 2
            end = wire.tail.y if wire.tail is not None and has_tail(wire) else port
            starts[edge] = Turn(start, end) if wire.sign > 0 else Turn(end, start)
            if abs(start - end) > TINY:
                template.channels[-1 if wire.sign > 0 else 0].append(starts[edge])
    return starts


def _place_by_rank(
    template: Template,
    here: Mapping[str, Node],
    stands: Mapping[Node, Slot],
    offsets: Mapping[Node, tuple[float, float]],
    leaving: Sequence[tuple[Edge, Wire]],
) -> None:
    """Place a column of initial states, those farthest from the steps first: what leaves them passes the other ranks as it is."""
    room = Room(template)
    sign = next((wire.sign for _, wire in leaving), 1)
    ranks = range(len(template.ranks))[::sign]
    for n, r in enumerate(ranks):
        for own in sorted(template.ranks[r], key=lambda slot: slot.name in here):
            if own.name not in here:
                room.put(own, own.y)
                continue
            node = here[own.name]
            slot, (low, high) = stands[node], offsets[node]
            own.height = max(BOX, high - low + 14)
            room.put(own, slot.y + (low + high) / 2)
            for edge, wire in leaving:
                if edge.source is node and wire.a is not template and wire.source is not None:
                    y = own.y + wire.source.port(wire, leaving=True) - wire.source.y - (low + high) / 2
                    room.hold(Lane(tuple(ranks[n + 1 :]), y))
