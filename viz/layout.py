"""Where everything stands. Read me third, after `extract.py`.

Time is a coordinate: a column for each step. All columns of one kind share one `Template`, which is laid out once and
repeated, so the work grows with the number of steps and no faster, and the same slot stands at the same place in
every column. A template is a layered layout:

    rank      the layer of a slot, by longest path: what a slot reads stands to the left of it (to the right, where the
              direction is reversed). Slots of one rank stand above each other.
    lane      the height at which an edge passes the ranks between its ends. A lane is an item like a box: where it
              passes a rank, no box stands, so no edge crosses a box.
    channel   the gap between two ranks, as wide as its tracks need. All that changes its height does so here.

Edges between columns that are not neighbours, and those of weights, run along buses: lines above or below all boxes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from graphlib import CycleError, TopologicalSorter
from typing import Any

from tinygrad_seq.viz.graph import Edge, Graph, Node

PITCH = 10.0  # between two tracks, lanes or ports: room for an arrow, its twin and some air
BOX = 24.0  # the least height of a box
AIR = 12.0  # between boxes, above each other
HEAD = 13.0  # before and after the tracks of a channel: room for an arrowhead
MARGIN = 12.0  # between a column's card and what is in it
HEADER = 14.0  # the line with t, within the card
GAP = 14.0  # between two cards
TINY = 0.01


@dataclass(eq=False)
class Slot:
    """A box of a template. `x` is its centre, counted from the column's left edge."""

    name: str
    order: int
    reverse: bool
    width: float = 0.0
    height: float = BOX
    rank: int = 0
    x: float = 0.0
    y: float = 0.0
    left: list[list[Wire]] = field(default_factory=list)  # the wires at each of its ports, from the top
    right: list[list[Wire]] = field(default_factory=list)
    bus: dict[int, Turn] = field(default_factory=dict)  # the turn to the buses above, which all wires to them share

    def port(self, wire: Wire) -> float:
        """The height at which a wire leaves or enters."""
        for side in (self.left, self.right):
            for n, wires in enumerate(side):
                if wire in wires:
                    return self.y + ((len(side) - 1) / 2 - n) * PITCH
        return self.y


@dataclass(eq=False)
class Lane:
    """The height at which a wire passes some ranks of a template."""

    ranks: tuple[int, ...]
    y: float = 0.0


@dataclass(eq=False)
class Bus:
    """A line above or below all boxes, for wires with a common end outside of time, or for one long wire."""

    y: float = 0.0


@dataclass(eq=False)
class Wire:
    """All edges that have the same shape: from this slot to that one, in the same, the next or any other column.

    `sign` is 1 if it runs to the right, else -1. At its ends outside of any template `a` or `b` is None.
    """

    a: Template | None
    b: Template | None
    source: Slot | None
    target: Slot | None
    sign: int
    step: int | None  # how many columns it goes on: 0, 1 or -1; None along a bus
    tail: Lane | None = None
    head: Lane | None = None
    turns: dict[str, Turn] = field(default_factory=dict)

    @property
    def above(self) -> bool:
        """Whether it runs along a bus above all boxes, and not along a weight's below."""
        return self.step is None and self.a is not None and self.b is not None


@dataclass(eq=False)
class Turn:
    """A change of height in a channel: the track's number and, once the channel is laid out, its x in the column."""

    start: float
    end: float
    track: int = 0
    x: float = 0.0


@dataclass(eq=False)
class Template:
    """What all columns of a kind have in common."""

    slots: dict[str, Slot] = field(default_factory=dict)
    ranks: list[list[Slot]] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)
    channels: list[list[Turn]] = field(default_factory=list)
    width: float = 0.0


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
        _rank(each, wires_of[each])
    for wire in dict.fromkeys(wires):
        _lay_lanes(wire)
    placed: set[Slot | Lane] = set()
    for each in kinds:
        _place(each, wires_of[each], placed)
    starts = _place_initial(graph, templates, wires)
    heights = [(s.y, s.height / 2) for each in kinds for s in each.slots.values()] + [(lane.y, 0.0) for each in kinds for lane in each.lanes]
    top = max((y + half for y, half in heights), default=0.0) + MARGIN + HEADER
    bottom = min((y - half for y, half in heights), default=0.0) - MARGIN
    buses, ceiling, floor = _buses(graph, wires, top, bottom)
    for wire, bus in zip(wires, buses):
        _turns(wire, bus)
    for each in kinds:
        _lay_channels(each)
    lefts, x = [], 0.0
    for each in templates:
        lefts.append(round(x, 2))
        x += each.width + GAP
    right, left = max(x - GAP, 0.0), 0.0
    for node in graph.nodes:
        if node.column is None:
            node.x = -GAP - node.width / 2
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
    return size * sum(0.34 if c in NARROW else 0.86 if c in WIDE else 0.72 if c.isupper() else 0.57 if c.isascii() else 1.0 for c in text)


def box_of(node: Node) -> tuple[float, float]:
    """Width and least height of a node's box."""
    lines = node.label.splitlines() or [""]
    width = max(text_width(line, 11) for line in lines)
    height = 14.0 * len(lines)
    if node.small:
        width, height = max(width, text_width(node.small, 8)), height + 10
    return round(max(width + 12, 26.0), 2), max(height + 8, BOX)


# ---- templates and wires --------------------------------------------------------------------------------------------


def _templates(graph: Graph) -> list[Template]:
    """A template for each column: one for the steps of a part, one for each other column.

    If the steps differ so much that together they would make a circle, each step has its own.
    """
    shared: dict[Any, Template] = {}
    within: dict[Any, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    keys = [(c.role, c.part) if c.role == "step" else i for i, c in enumerate(graph.columns)]
    for edge in graph.edges:
        if edge.source.column is not None and edge.source.column == edge.target.column:
            within[keys[edge.source.column]][edge.target.slot].add(edge.source.slot)
    circular = {key for key, reads in within.items() if _is_circular(reads)}
    templates = [shared.setdefault((key, i) if key in circular else key, Template()) for i, key in enumerate(keys)]
    for node in graph.nodes:
        if node.column is not None:
            slots = templates[node.column].slots
            slot = slots.setdefault(node.slot, Slot(node.slot, len(slots), node.reverse))
            slot.width, slot.height = max(slot.width, node.width), max(slot.height, node.height)
    return templates


def _is_circular(reads: dict[str, set[str]]) -> bool:
    try:
        TopologicalSorter(reads).prepare()
    except CycleError:
        return True
    return False


def _wires(graph: Graph, templates: Sequence[Template]) -> list[Wire]:
    """The wire of every edge. Edges of the same shape share theirs; an initial state stands for the state before it."""
    shapes = [_shape(edge, graph, templates) for edge in graph.edges]
    pairs: dict[Any, set[tuple[int, int]]] = defaultdict(set)
    for edge, shape in zip(graph.edges, shapes):
        pairs[shape].add((_column(edge.source), _column(edge.target)))
    fans = {shape: len({i for i, _ in ends}) < len(ends) or len({j for _, j in ends}) < len(ends) for shape, ends in pairs.items()}
    shared: dict[Any, Wire] = {}
    wires = []
    for edge, shape in zip(graph.edges, shapes):
        a, from_slot, b, to_slot, distance = shape
        near = a is not None and b is not None and distance is not None and abs(distance) <= 1
        step = distance if near and not fans[shape] else None
        if shape not in shared:
            sign = 1 if _column(edge.target) > _column(edge.source) else -1
            source = None if a is None else a.slots[from_slot]
            target = None if b is None else b.slots[to_slot]
            shared[shape] = Wire(a, b, source, target, sign, step)
        wires.append(shared[shape])
    return wires


def _column(node: Node) -> int:
    return -1 if node.column is None else node.column


Shape = tuple["Template | None", str, "Template | None", str, "int | None"]


def _shape(edge: Edge, graph: Graph, templates: Sequence[Template]) -> Shape:
    """Template and slot of both ends, and how many columns lie between, as far as edges differ by that."""
    source, target = edge.source, edge.target
    a, b = (None if node.column is None else templates[node.column] for node in (source, target))
    distance: int | None = _column(target) - _column(source)
    if _is_initial(source, graph) and b is not None and source.slot in b.slots and abs(_column(target) - _column(source)) == 1:
        a = b
    elif a is not b and abs(_column(target) - _column(source)) > 1:
        distance = None if _column(target) > _column(source) else -2
    return a, source.slot, b, target.slot, distance


def _is_initial(node: Node, graph: Graph) -> bool:
    return node.column is not None and graph.columns[node.column].role == "init"


# ---- ranks ----------------------------------------------------------------------------------------------------------


def _rank(template: Template, wires: Sequence[Wire]) -> None:
    """Give every slot its rank: longest path, then what reads nothing in the column moves close to its reader."""
    inner = [(wire, wire.source, wire.target) for wire in wires if wire.step == 0 and wire.a is template and wire.source and wire.target]
    for mirrored in (True, False):
        after: dict[Slot, set[Slot]] = {slot: set() for slot in template.slots.values()}
        for _, source, target in inner:
            if mirrored and source.reverse and target.reverse:
                after[source].add(target)
            else:
                after[target].add(source)
        try:
            order = list(TopologicalSorter(after).static_order())
            break
        except CycleError:
            continue
    before: dict[Slot, list[Slot]] = defaultdict(list)
    for slot in order:
        slot.rank = max((s.rank + 1 for s in after[slot]), default=0)
        for s in after[slot]:
            before[s].append(slot)
    for slot in reversed(order):
        if not after[slot] and before[slot]:
            slot.rank = min(s.rank for s in before[slot]) - 1
    count = max((slot.rank for slot in order), default=-1) + 1
    template.ranks = [[] for _ in range(count)]
    for slot in sorted(order, key=lambda s: s.order):
        template.ranks[slot.rank].append(slot)
    template.channels = [[] for _ in range(count + 1)]
    for wire, source, target in inner:
        wire.sign = 1 if target.rank > source.rank else -1


def _lay_lanes(wire: Wire) -> None:
    """Find the ranks that a wire passes on its way."""
    if wire.step is None or wire.source is None or wire.target is None or wire.a is None or wire.b is None:
        return
    start, stop, n = wire.source.rank, wire.target.rank, len(wire.a.ranks)
    if wire.step == 0:
        passed = tuple(range(min(start, stop) + 1, max(start, stop)))
        wire.tail = _lane(wire.a, passed)
        return
    if wire.sign > 0:
        tail, head = tuple(range(start + 1, n)), tuple(range(stop))
    else:
        tail, head = tuple(range(start)), tuple(range(stop + 1, len(wire.b.ranks)))
    if wire.a is wire.b and not set(tail) & set(head):
        wire.tail = wire.head = _lane(wire.a, tail + head)  # one height on both sides of the columns' border
    else:
        wire.tail, wire.head = _lane(wire.a, tail), _lane(wire.b, head)


def _lane(template: Template, ranks: tuple[int, ...]) -> Lane | None:
    if not ranks:
        return None
    lane = Lane(ranks)
    template.lanes.append(lane)
    return lane


# ---- heights --------------------------------------------------------------------------------------------------------


class _Room:
    """What stands in each rank of a template, from where to where."""

    def __init__(self, template: Template) -> None:
        self.held: list[dict[Slot | Lane, tuple[float, float]]] = [{} for _ in template.ranks]

    def put(self, item: Slot | Lane, wanted: float) -> None:
        """Place an item at the free height nearest to the one it wants."""
        ranks = item.ranks if isinstance(item, Lane) else (item.rank,)
        half = PITCH / 2 if isinstance(item, Lane) else (item.height + AIR) / 2
        for r in ranks:
            self.held[r].pop(item, None)
        taken = [span for r in ranks for span in self.held[r].values()]
        heights = [wanted, *(low - half for low, _ in taken), *(high + half for _, high in taken)]
        free = [y for y in heights if all(y + half <= low + TINY or y - half >= high - TINY for low, high in taken)]
        item.y = min(free, key=lambda y: (abs(y - wanted), y))
        for r in ranks:
            self.held[r][item] = (item.y - half, item.y + half)


def _place(template: Template, wires: Sequence[Wire], placed: set[Slot | Lane]) -> None:
    """Give every slot and lane its height, near to what it is connected with.

    First along the longest chain, then by order of connection; then ports are given, and everything is allowed to
    move to a free height where its wires are straighter.
    """
    _give_ports(template, wires)
    for slot in template.slots.values():
        slot.height = max(slot.height, PITCH * max(len(slot.left), len(slot.right)) + 4)
    room = _Room(template)
    links: dict[Slot | Lane, list[Slot | Lane]] = defaultdict(list)
    for wire in wires:
        chain: list[Slot | Lane] = [each for each in (wire.source, wire.tail, wire.head, wire.target) if each is not None]
        chain = list(dict.fromkeys(chain))
        if wire.step is not None:
            for one, other in zip(chain, chain[1:]):
                links[one].append(other)
                links[other].append(one)
    here: set[Slot | Lane] = {*template.slots.values(), *template.lanes}
    done = placed - here
    stack = max((sum(slot.height + AIR for slot in rank) for rank in template.ranks), default=0.0)
    chains = _recurrences(template, wires)
    for n, (wire, chain) in enumerate(chains):
        height = -n * 0.75 * stack / max(len(chains) - 1, 1)
        for item in (*chain, *dict.fromkeys((wire.tail, wire.head))):
            if item is not None and item not in done:
                room.put(item, height)
                done.add(item)
    for slot in [] if chains or done & {link for s in here for link in links[s]} else _spine(template, wires):
        room.put(slot, 0.0)
        done.add(slot)
    pending: list[tuple[bool, int, int, Slot | Lane]] = []  # boxes before lanes, the best connected first
    known = Counter(each for item in done for each in links[item])
    numbered = {item: n for n, item in enumerate([*sorted(template.slots.values(), key=lambda s: (s.rank, s.order)), *template.lanes])}
    for item, n in numbered.items():
        heappush(pending, (isinstance(item, Lane), -known[item], n, item))
    while pending:
        _, _, _, item = heappop(pending)
        if item in done:
            continue
        near = [link.y for link in links[item] if link in done]
        room.put(item, _middle(near) if near else 0.0)
        done.add(item)
        for link in links[item]:
            if link in numbered and link not in done:
                known[link] += 1
                heappush(pending, (isinstance(link, Lane), -known[link], numbered[link], link))
    straight = {slot for _, chain in chains for slot in chain}
    for _ in range(3):
        _give_ports(template, wires)
        for wire, _ in chains:
            for slot in (wire.source, wire.target):
                if slot is not None and wire.source is not None and wire.target is not None:
                    height = next((lane.y for lane in _lanes(wire)), wire.target.port(wire))
                    room.put(slot, height + slot.y - slot.port(wire))
        for rank in template.ranks:
            for slot in (each for each in rank if each not in straight):
                wishes = _wishes(slot, wires, template, done)
                if wishes:
                    room.put(slot, _middle(wishes))
        for wire in wires:
            for lane in dict.fromkeys((wire.tail, wire.head)):
                if lane is not None and lane in here:
                    ends = [s.port(wire) for s in (wire.source, wire.target) if s is not None and s in done]
                    room.put(lane, ends[0] if len(ends) == 1 or lane is wire.tail else ends[-1])
    _give_ports(template, wires)
    placed |= here


def _place_initial(graph: Graph, templates: Sequence[Template], wires: Sequence[Wire]) -> dict[Edge, Turn]:
    """Place initial states where the states that they stand for would be, one column earlier, and join them to these wires."""
    stands: dict[Node, Slot] = {}
    for edge, wire in zip(graph.edges, wires):
        if _is_initial(edge.source, graph) and wire.source is not None and edge.source.column is not None:
            stands.setdefault(edge.source, wire.source)
    for column, template in enumerate(templates):
        if graph.columns[column].role == "init":
            room = _Room(template)
            for node, slot in stands.items():
                if node.column == column:
                    own = template.slots[node.slot]
                    own.height = slot.height
                    room.put(own, slot.y)
    starts = {}
    for edge, wire in zip(graph.edges, wires):
        if edge.source in stands and wire.source is not None and edge.source.column is not None and wire.step is not None:
            template = templates[edge.source.column]
            if template is wire.a:
                continue
            port = wire.source.port(wire)
            start, end = template.slots[edge.source.slot].y + port - wire.source.y, wire.tail.y if _has_tail(wire) and wire.tail else port
            starts[edge] = Turn(start, end) if wire.sign > 0 else Turn(end, start)
            if abs(start - end) > TINY:
                template.channels[1 if wire.sign > 0 else 0].append(starts[edge])
    return starts


def _has_tail(wire: Wire) -> bool:
    """Whether the wire passes ranks in its source's column, and not only in its target's."""
    if wire.tail is None or wire.source is None or wire.a is None:
        return False
    return bool(set(wire.tail.ranks) & set(range(wire.source.rank + 1, len(wire.a.ranks)) if wire.sign > 0 else range(wire.source.rank)))


def _has_head(wire: Wire) -> bool:
    """Whether the wire passes ranks in its target's column."""
    if wire.head is None or wire.target is None or wire.b is None:
        return False
    return bool(set(wire.head.ranks) & set(range(wire.target.rank) if wire.sign > 0 else range(wire.target.rank + 1, len(wire.b.ranks))))


def _recurrences(template: Template, wires: Iterable[Wire]) -> list[tuple[Wire, list[Slot]]]:
    """For each state the wire to the next step, and the chain from where it arrives to the state: these run straight.

    Each state has one wire here, the longest; the state with the longest way through other ranks comes first.
    """
    reads = _reads(wires)
    found: dict[Slot, tuple[Wire, list[Slot]]] = {}
    for wire in wires:
        if wire.step not in (1, -1) or wire.a is not wire.b or wire.source is None or wire.target is None:
            continue
        chain = [wire.source]
        leads = _led_to(wire.target, reads)
        while chain[-1] is not wire.target and (known := [s for s in reads[chain[-1]] if s in leads]):
            chain.append(max(known, key=lambda s: (abs(s.rank - wire.source.rank) == 1, -s.order)))
        before = found.get(wire.source)
        if chain[-1] is wire.target and (before is None or len(chain) > len(before[1])):
            found[wire.source] = (wire, chain)
    return sorted(found.values(), key=lambda each: (-sum(len(lane.ranks) for lane in _lanes(each[0])), each[0].source.order if each[0].source else 0))


def _lanes(wire: Wire) -> list[Lane]:
    return [lane for lane in dict.fromkeys((wire.tail, wire.head)) if lane is not None]


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


def _wishes(slot: Slot, wires: Sequence[Wire], template: Template, done: set[Any]) -> list[float]:
    """The heights at which the slot's wires would be straight."""
    wishes = []
    for wire in (wire for port in (*slot.left, *slot.right) for wire in port):
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
    """Order the wires on both sides of every slot by where they go, and make the box high enough."""
    sides: dict[tuple[Slot, bool], list[tuple[float, int, Wire]]] = defaultdict(list)
    for n, wire in enumerate(wires):
        for slot, is_source in ((wire.source, True), (wire.target, False)):
            if slot is None or template.slots.get(slot.name) is not slot:
                continue
            lane = wire.tail if is_source else wire.head or wire.tail
            other = wire.target if is_source else wire.source
            height = 1e6 if wire.above else -1e6 if wire.step is None else lane.y if lane is not None else other.y if other is not None else 0.0
            sides[slot, is_source == (wire.sign > 0)].append((-height, n, wire))
    for slot in template.slots.values():
        for is_right in (True, False):
            ports: list[list[Wire]] = []
            for _, _, wire in sorted(sides[slot, is_right], key=lambda each: each[:2]):
                if ports and wire.above and ports[-1][0].above:
                    ports[-1].append(wire)
                else:
                    ports.append([wire])
            slot.right, slot.left = (ports, slot.left) if is_right else (slot.right, ports)


# ---- buses ----------------------------------------------------------------------------------------------------------


def _buses(graph: Graph, wires: Sequence[Wire], top: float, bottom: float) -> tuple[list[Bus | None], float, float]:
    """A bus for every edge that needs one: below for what stands outside of time, above for the others."""
    floor = bottom - 2 * PITCH
    shared: dict[Any, Bus] = {}
    for node in graph.nodes:
        if node.column is None:
            node.y = floor - node.height / 2
            floor -= node.height + 6
            shared[id(node)] = Bus(node.y)
    spans: dict[Any, tuple[int, int]] = {}
    keys: list[Any] = []
    for edge, wire in zip(graph.edges, wires):
        key: Any = None
        if wire.step is None:
            ends = [node for node in (edge.source, edge.target) if node.column is None]
            outside = ends or [n for n in (edge.source, edge.target) if n.column is not None and graph.columns[n.column].role != "step"]
            key = id((outside or [edge.source])[0])
            i, j = sorted((_column(edge.source), _column(edge.target)))
            low, high = spans.get(key, (i, j))
            spans[key] = (min(low, i), max(high, j))
        keys.append(key)
    ceiling = top
    ends_at: list[int] = []  # of the buses above, one above the other: the last column that each has reached
    for key in sorted((key for key in spans if key not in shared), key=lambda k: (spans[k], keys.index(k))):
        low, high = spans[key]
        row = next((n for n, end in enumerate(ends_at) if end < low), len(ends_at))
        ends_at[row:row + 1] = [high]
        shared[key] = Bus(top + PITCH * (row + 1))
        ceiling = max(ceiling, shared[key].y)
    return [None if key is None else shared[key] for key in keys], ceiling + PITCH, floor


# ---- channels -------------------------------------------------------------------------------------------------------


def _turns(wire: Wire, bus: Bus | None) -> None:
    """Note in which channels a wire changes its height. "out" is where it leaves, "border" between columns, "in" where it enters."""
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
            _turn(wire, "out", a, source.rank + right, source.port(wire), bus.y, source)
        if b is not None and target is not None:
            _turn(wire, "in", b, target.rank + (not right), bus.y, target.port(wire), target)
        return
    assert a is not None and b is not None and source is not None and target is not None
    y0, y1 = source.port(wire), target.port(wire)
    if wire.step == 0:
        if wire.tail is not None:
            _turn(wire, "out", a, source.rank + right, y0, wire.tail.y)
            _turn(wire, "in", b, target.rank + (not right), wire.tail.y, y1)
        else:
            _turn(wire, "in", b, target.rank + (not right), y0, y1)
        return
    border = 0 if right else len(b.ranks)
    y = y0
    if wire.tail is not None and _has_tail(wire):
        _turn(wire, "out", a, source.rank + right, y, wire.tail.y)
        y = wire.tail.y
    if wire.head is not None and _has_head(wire):
        _turn(wire, "border", b, border, y, wire.head.y)
        y = wire.head.y
    _turn(wire, "in", b, target.rank + (not right), y, y1)


def _turn(wire: Wire, where: str, template: Template, channel: int, start: float, end: float, slot: Slot | None = None) -> None:
    """Note a turn, from left to right. At a slot, all wires to the buses above make the same."""
    if abs(start - end) < TINY:
        return
    if slot is not None and wire.above and channel in slot.bus:
        turn = slot.bus[channel]
        _reach(turn, max(start, end))
    else:
        turn = Turn(start, end) if wire.sign > 0 else Turn(end, start)
        template.channels[channel].append(turn)
        if slot is not None and wire.above:
            slot.bus[channel] = turn
    wire.turns[where] = turn


def _reach(turn: Turn, y: float) -> None:
    """The same track serves several buses: it must be free as far as the farthest."""
    if turn.start > turn.end:
        turn.start, turn.end = max(turn.start, y), min(turn.end, y)
    else:
        turn.start, turn.end = min(turn.start, y), max(turn.end, y)


def _lay_channels(template: Template) -> None:
    """Give every turn its track, and with that every channel its width and every slot its x."""
    x = 0.0
    for n, channel in enumerate(template.channels):
        tracks = _tracks(channel)
        width = 2 * HEAD + max(tracks - 1, 0) * PITCH if tracks else HEAD * 2
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
    Of turns that go down the lower stands further left, of those that go up the higher: they do not cross then.
    """
    order = sorted(turns, key=lambda t: (t.start > t.end, t.start if t.start > t.end else -t.start, t.end))
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
