"""Where gradients meet. Read me beside `extract.py`.

A value that is used several times has for gradient the sum of what flows back from its uses. For a weight, which every
step uses, that sum is back-propagation through time itself, so it is drawn at every level: a node between the weight and
its uses. On the way there it hands the weight to every step, and on the way back it adds up.

Any other value gets its sum where each operation has a box of its own, at the levels "op" and "gate": there h<t>, which
the next step reads and the readout too, would else have two arrows end in it and none that shows their sum. A box that
holds a whole cell shows several values at once; arrows to different values do not add up, so there is no sum to draw.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial

from tinygrad_seq.viz.calls import Calls
from tinygrad_seq.viz.gradients import Gradients
from tinygrad_seq.viz.graph import Edge, Graph, Node, tell_apart
from tinygrad_seq.viz.hoisted import Value


def draw_sums(calls: Calls, graph: Graph) -> None:
    """Put a sum between a value and its uses, where gradients flow back from several of them."""
    leaving: dict[Node, list[Edge]] = defaultdict(list)
    inside = _used_inside(calls, graph)
    for edge in graph.edges:
        if edge.grad is not None:
            leaving[edge.source].append(edge)
    grad_of = Gradients(calls, graph.level != "op")
    usual = _usual(graph, leaving, inside)
    nodes: list[Node] = []
    meetings: dict[tuple[Node, Value], Node] = {}
    for node in graph.nodes:
        nodes.append(node)
        if node.kind == "weight":
            if len(leaving[node]) > 1:
                nodes.append(_meeting(graph, node, leaving[node], f"{node.id}.sum"))
                nodes[-1].sums = node
        elif graph.level in ("op", "gate"):
            several = len({value for edge in leaving[node] for value in edge.values}) > 1
            for value, edges in _uses(leaving[node], inside[node], 1 if node.slot in usual else 2).items():
                number = f"{value[0] - node.entries[0] + 1}" if several else ""
                meeting = _meeting(graph, node, edges, f"{node.id}.sum{number}")
                meeting.slot += number
                meeting.entries = [value[0]]
                meeting.grad = graph.edges[-1].grad = grad_of.values([value])
                nodes.append(meeting)
                meetings[node, value] = meeting
    tell_apart(nodes)
    _hand_on(leaving, meetings)
    graph.nodes = nodes


def _used_inside(calls: Calls, graph: Graph) -> dict[Node, set[Value]]:
    """The values that a box reads itself and passes a gradient back to: if it made them, the arrows to it are not all of their
    terms, and there is no sum to draw."""
    swept = {event.index for event in calls.events}
    found: dict[Node, set[Value]] = {}
    for node in graph.nodes:
        inside = set(node.calls)
        own = [call for call in node.calls if not swept.isdisjoint(calls.entries[call])]
        own = [call for call in own if not inside & {calls.hands_on.get(call), calls.keeps.get(call)}]
        read = {value for call in own for _, value, _ in calls.reads[call]}
        found[node] = {calls.handed_on(value, partial(_are_inside, inside)) for value in read}
    return found


def _are_inside(inside: set[int], one: int, other: int) -> bool:
    return one in inside and other in inside


def _usual(graph: Graph, leaving: dict[Node, list[Edge]], inside: dict[Node, set[Value]]) -> set[str]:
    """The slots that have a sum at every step but the one that ran last. That has one too, of a single term: the same slot looks
    the same in every column."""
    steps: dict[str, list[bool]] = defaultdict(list)
    for node in graph.nodes:
        if node.t is not None and leaving[node]:
            uses = _uses(leaving[node], inside[node])
            steps[node.slot].append(len(uses) == 1 and len({value for edge in leaving[node] for value in edge.values}) == 1)
    return {slot for slot, each in steps.items() if len(each) > 1 and all(each[:-1])}


def _hand_on(leaving: dict[Node, list[Edge]], meetings: dict[tuple[Node, Value], Node]) -> None:
    """Let a use from which no gradient came leave from the sum, too, where it does at other steps."""
    through = {(node.slot, edge.target.slot) for node, _ in meetings for edge in leaving[node] if edge.source is not node}
    for (node, value), meeting in meetings.items():
        for edge in leaving[node]:
            if edge.source is node and not edge.cut and edge.values == {value} and (node.slot, edge.target.slot) in through:
                edge.source = meeting


def _uses(edges: list[Edge], inside: set[Value], least: int = 2) -> dict[Value, list[Edge]]:
    """The edges from whose ends a value gets its gradient, of values that have at least so many, and no other use."""
    uses: dict[Value, list[Edge]] = defaultdict(list)
    swept = [edge for edge in edges if edge.grad is not None and edge.grad.status != "none"]
    partly = inside.union(*(edge.values for edge in swept if len(edge.values) > 1))
    for edge in swept:
        if len(edge.values) == 1:
            uses[next(iter(edge.values))].append(edge)
    return {value: users for value, users in uses.items() if len(users) >= least and value not in partly}


def _meeting(graph: Graph, node: Node, edges: list[Edge], name: str) -> Node:
    """The node between a value and its uses; the arrow to it is the graph's last."""
    meeting = Node(
        id=name, kind="sum", label="Σ", t=node.t, column=node.column, slot=f"{node.slot}.sum", shape=node.shape,
        entries=node.entries[:1], source=node.source, grad=node.grad, reverse=node.reverse,
        tip=f"the sum of what flows back to {node.label} from {len(edges)} uses",
    )  # fmt: skip
    for edge in edges:
        edge.source = meeting
    graph.edges.append(Edge(node, meeting, grad=node.grad, values=set(edges[0].values)))
    return meeting
