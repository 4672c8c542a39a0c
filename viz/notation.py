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
    "→": "->", "←": "<-",
}
# fmt: on
STATE = re.compile(r"\bh(?=[→←]?(?:\[\d+\])?<\w+>)")
WEIGHT = re.compile(r"((?:.+\.)?)(.*?)((?:[→←]|\[\d+\])*)", re.DOTALL)  # whose it is, its name, direction and layer


def rewrite(graph: Graph, notation: str) -> None:
    """Change the labels of a graph.

    Raises:
        ValueError: an unknown notation.
    """
    if notation not in NOTATIONS:
        raise ValueError(f"notation {notation!r} is none of {', '.join(NOTATIONS)}")
    gated = any(re.match(r"Γ_|c~", part) for node in graph.nodes for part in (node.label, *node.names))
    two_states = any(re.fullmatch(r"c<\w+>", part) for node in graph.nodes for part in (node.label, *node.names))
    shown = {node.label for node in graph.nodes}

    def written(text: str) -> str:
        if notation == "ascii":
            return "".join(c if c.isascii() else ASCII.get(c, f"\\u{ord(c):04x}") for c in text)
        text = STATE.sub("c" if gated and not two_states else "a", text)
        whole = WEIGHT.fullmatch(text)
        if gated or whole is None:
            return text
        owner, weight, marks = whole.groups()
        of_the_cell = f"{owner}W_h{marks}" in shown or not owner  # a readout has a b of its own
        return owner + DOCUMENT.get(weight, weight) + marks if of_the_cell else text

    for node in graph.nodes:
        node.label, node.small = written(node.label), written(node.small)
    for edge in graph.edges:
        edge.carries = written(f"{edge.carries}<t>").removesuffix("<t>") if edge.carries else ""
    graph.shares = [each._replace(label=written(each.label)) for each in graph.shares]
