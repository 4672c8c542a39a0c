"""What a node says when it is pointed at. Read me beside `dot.py`.

Name and shape, how many parameters a weight has, a small value in full, the gradient, the user's line, and the local
derivative: the pullback itself, written down with the names of the forward pass.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from tinygrad_seq.events import Event
from tinygrad_seq.viz import words
from tinygrad_seq.viz.calls import Calls
from tinygrad_seq.viz.graph import Graph, Node
from tinygrad_seq.viz.hoisted import Value

SMALL = 16  # elements: so many numbers are shown in full
RULES = 400  # nodes: derivatives are written down in pictures of so many, each by running a pullback


def describe(calls: Calls, graph: Graph, shown: dict[Node, list[Value]]) -> None:
    """Set the `tip` of every node.

    Args:
        calls: what the graph was made of.
        graph: whose nodes to describe.
        shown: the values that each node shows.
    """
    events: dict[int, list[Event]] = defaultdict(list)
    if len(graph.nodes) <= RULES:
        for event in calls.events:
            events[event.index].append(event)
    for node in graph.nodes:
        values = shown.get(node, [])
        lines = [_title(node), *_value(calls, values), f"gradient norm: {words.said(node)}"]
        if len(values) == 1 and node.kind not in ("elided", "cell", "gate", "weight"):
            lines += _rules(events[values[0][0]])
        node.tip = "\n".join([*lines, *([node.source] if node.source else [])])


def _title(node: Node) -> str:
    shape = "×".join(map(str, node.shape)) or "a number"
    entries = f"entry {node.entries[0]}" if len(node.entries) == 1 else f"entries {node.entries[0]} to {node.entries[-1]}"
    count = int(np.prod(node.shape))
    learned = f", {count:,} parameter{'s' * (count != 1)}" if node.kind == "weight" else ""
    return f"{node.label} ({shape}{learned}), {entries}".replace("\n", " ")


def _value(calls: Calls, values: list[Value]) -> Iterable[str]:
    """A value of few numbers, in full."""
    if len(values) != 1 or (array := calls.whole[values[0][0]].value) is None:
        return
    array = calls.over_time.slice(array, values[0])
    if 0 < np.size(array) <= SMALL:
        yield np.array2string(np.asarray(array), precision=3, suppress_small=False, separator=", ")


def _rules(events: list[Event]) -> list[str]:
    """What the backward pass does here: `d h<2> += d z<3> @ W_h.T`. The same rule for several passes is said once."""
    return [*dict.fromkeys(line for event in events for line in event.lines)]
