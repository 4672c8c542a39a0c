"""Where gradients meet. Read me beside `extract.py`.

A value that is used several times has for gradient the sum of what flows back from its uses. For a weight, which every
step uses, that sum is back-propagation through time itself, so it is drawn: a node between the weight and its uses. On
the way there it hands the weight to every step, and on the way back it adds up.
"""

from __future__ import annotations

from tinygrad_seq.viz.graph import Edge, Graph, Node


def draw_sums(graph: Graph) -> None:
    """Put a sum between every weight and its uses, where there are several and gradients flow back from them."""
    uses: dict[Node, list[Edge]] = {}
    for edge in graph.edges:
        if edge.source.kind == "weight" and edge.grad is not None:
            uses.setdefault(edge.source, []).append(edge)
    for weight, edges in uses.items():
        if len(edges) < 2:
            continue
        meeting = Node(
            id=f"{weight.id}.sum", kind="sum", label="Σ", t=None, column=weight.column, slot=f"{weight.slot}.sum",
            shape=weight.shape, entries=weight.entries, source=None, grad=weight.grad, sums=weight,
        )  # fmt: skip
        for edge in edges:
            edge.source = meeting
        graph.nodes.insert(graph.nodes.index(weight) + 1, meeting)
        graph.edges.append(Edge(weight, meeting, grad=weight.grad))
