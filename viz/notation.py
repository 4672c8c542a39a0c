"""Labels in another notation. Read me beside `words.py`.

Labels come from the tape: tensors' names, operations' signs. The source document writes a<t> where we write h<t> (c<t>
in a GRU, whose memory is its only state), and W_aa, W_ax, W_ya for the matrices of the simple cell. Plain ASCII serves a
terminal, or a font that has no Greek.
"""

from __future__ import annotations

import re

from tinygrad_seq.viz.graph import Graph

NOTATIONS = ("document", "ascii")

# fmt: off
DOCUMENT = {"W_h": "W_aa", "W_x": "W_ax", "W_y": "W_ya", "b": "b_a"}  # of the cell without gates
ASCII = {
    "Γ": "G", "σ": "sigmoid", "Σ": "sum", "×": "*", "÷": "/", "·": "*", "−": "-", "√": "sqrt", "∂": "d", "ᵀ": ".T", "…": "...",
    "²": "^2", "³": "^3", "|": "|", "‖": "||", "≤": "<=", "≥": ">=", "≠": "!=", "ŷ": "y^", "∞": "inf", "Δ": "D", "θ": "theta",
}
# fmt: on


def rewrite(graph: Graph, notation: str) -> None:
    """Change the labels of a graph.

    Raises:
        ValueError: an unknown notation.
    """
    if notation not in NOTATIONS:
        raise ValueError(f"notation {notation!r} is none of {', '.join(NOTATIONS)}")
    gated = any(re.match(r"Γ_|c~", part) for node in graph.nodes for part in (node.label, *node.names))
    two_states = any(re.fullmatch(r"c<\w+>", part) for node in graph.nodes for part in (node.label, *node.names))

    def written(text: str) -> str:
        if notation == "ascii":
            return "".join(c if c.isascii() else ASCII.get(c, f"\\u{ord(c):04x}") for c in text)
        text = re.sub(r"\bh(?=<\w+>)", "c" if gated and not two_states else "a", text)
        return text if gated else DOCUMENT.get(text, text)

    for node in graph.nodes:
        node.label, node.small = written(node.label), written(node.small)
    for edge in graph.edges:
        edge.carries = written(f"{edge.carries}<t>").removesuffix("<t>") if edge.carries else ""
    graph.shares = [each._replace(label=written(each.label)) for each in graph.shares]
