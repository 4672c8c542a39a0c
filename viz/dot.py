"""The DOT text. Read me ninth, after `words.py`.

Every position and every route is written down, so Graphviz (`neato -n2`) only draws. The text depends on the drawing's
numbers alone: the same run gives the same text in every process.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import graphviz

from tinygrad_seq.viz import words
from tinygrad_seq.viz.graph import Edge, Node, Point
from tinygrad_seq.viz.layout import GAP, Layout, text_width

INK, FAINT = "#33415c", "#6b7a99"
RAMP = ("#2c4875", "#5b5f97", "#a05195", "#d45087", "#f95d6a", "#ff7c43", "#ffa600")
"""From small to large norms: from dark to light, so that grey tells it too."""
WIDTHS = (0.8, 4.2)
TINTS = ("#e1f0fd", "#e3f4e6", "#fdf1d6", "#f1e6fb")  # gates, in order of their slots

# fmt: off
BOXES = {           # fill, border
    "input":        ("#ffffff", "#8a97ad"),
    "state":        ("#dde7fb", INK),
    "cell":         ("#dde7fb", INK),
    "gate":         ("#f1e6fb", INK),
    "op":           ("#ffffff", "#4a5a78"),
    "weight":       ("#e9efe2", "#5d7350"),
    "constant":     ("#f6f6f6", "#8a97ad"),
    "sum":          ("#fffbe6", "#c9a227"),
    "loss":         ("#fde4e4", "#b4353a"),
}
MARKS = {           # of a gradient that has no place on the scale: colour, width, style, arrowhead, in words
    "none":         ("#aeb8c8", 0.8, "dotted", "none", "no gradient computed"),
    "zero":         ("#6b7a99", 0.9, "dashed", "tee",  "exactly 0"),
    "nonfinite":    ("#d1001f", 3.0, "bold",   "dot",  "not finite"),
    "masked":       ("#9aa5b8", 0.9, "dotted", "obox", "masked by padding"),
}
# fmt: on
FORWARD = "#9aa5b8"


def escape(text: str) -> str:
    """A label or tooltip as it stands between quotes in DOT, so that the picture shows exactly this text.

    Graphviz reads entities and backslashes in labels. Characters that XML has no place for become U+FFFD.

    Example:
        >>> print(escape('a & "b"'))
        a &amp; \\"b\\"
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join("\ufffd" if c != "\n" and not _is_writable(c) else c for c in text)
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _is_writable(c: str) -> bool:
    return unicodedata.category(c) not in ("Cc", "Cs") and ord(c) & 0xFFFE != 0xFFFE


def dot(layout: Layout) -> graphviz.Digraph:
    """The layout as a graph with everything pinned."""
    graph = layout.graph
    drawing: graphviz.Digraph = graphviz.Digraph("tinygrad_seq", engine="neato")
    low, high = words.scale(graph)
    body = [
        statement("graph", {"bgcolor": "white", "outputorder": "nodesfirst", "pad": "0.15", "fontname": "Arial"}),
        statement("node", {
            "fixedsize": "true", "fontname": "Arial", "fontcolor": INK, "fontsize": "11", "margin": "0", "shape": "box",
            "style": "rounded,filled", "penwidth": "0.9",
        }),
        statement("edge", {"arrowsize": "0.45", "color": FORWARD, "penwidth": "0.8"}),
        *_cards(layout),
        *_boxes(layout),
        *_legend(layout, low, high),
    ]  # fmt: skip
    body += [_arrow(edge, edge.points, "cut" if edge.cut else "forward", {}) for edge in graph.edges]
    back = [edge for edge in graph.edges if edge.grad is not None]
    for edge in sorted(back, key=lambda each: (each.grad.norm or 0.0) if each.grad is not None else 0.0):  # strong ones on top
        assert edge.grad is not None
        body.append(_arrow(edge, edge.twin, "backward", _look(edge.grad.status, edge.grad.norm, low, high)))
    drawing.body = [f"\t{line}\n" for line in body]
    return drawing


def statement(head: str, attributes: dict[str, str]) -> str:
    """A line of DOT; attributes sorted."""
    written = " ".join(f'{key}="{value}"' for key, value in sorted(attributes.items()))
    return f"{head} [{written}]"


def number(x: float) -> str:
    """A coordinate: two decimals, no trailing zeros, no negative zero."""
    text = f"{x:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def colour(norm: float, low: float, high: float) -> str:
    """The colour of a norm on the scale: between the ramp's two nearest."""
    place = words.position(norm, low, high) * (len(RAMP) - 1)
    i = min(int(place), len(RAMP) - 2)
    parts = [[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in RAMP[i : i + 2]]
    return "#" + "".join(f"{round(a + (b - a) * (place - i)):02x}" for a, b in zip(*parts))


def _look(status: str, norm: float | None, low: float, high: float) -> dict[str, str]:
    """How a gradient's arrow looks: width and colour say the same."""
    if status in MARKS:
        shade, width, style, head, _ = MARKS[status]
        return {"color": shade, "penwidth": number(width), "style": style, "arrowhead": head}
    assert norm is not None
    width = WIDTHS[0] + (WIDTHS[1] - WIDTHS[0]) * words.position(norm, low, high)
    return {"color": colour(norm, low, high), "penwidth": number(width), "arrowsize": number(0.42 + 0.05 * width)}


def _arrow(edge: Edge, points: Sequence[Point], kind: str, look: dict[str, str]) -> str:
    a, b = (edge.target, edge.source) if kind == "backward" else (edge.source, edge.target)
    name = f"{a.id}-{b.id}"
    if kind == "cut":
        look = {"style": "dashed", "arrowhead": "tee", "color": "#d1001f"}
    tip = f"{a.label} -> {b.label}" + (f": {words.said(edge)}" if kind == "backward" else "")
    attributes = {"class": kind, "id": name, "pos": _pos(points, look), "edgetooltip": escape(tip)}
    return statement(f'"{a.id}" -> "{b.id}"', attributes | look)


def _pos(points: Sequence[Point], look: dict[str, str]) -> str:
    """A route as Graphviz writes it: the arrow's tip first; the line ends where the head begins."""
    (x0, y0), (x1, y1) = points[-4], points[-1]
    length = abs(x1 - x0) + abs(y1 - y0) or 1.0
    head = 0.0 if look.get("arrowhead") == "none" else min(10 * float(look.get("arrowsize", "0.45")), 0.8 * length)
    if look.get("arrowhead") == "tee":
        head = min(3.0, 0.8 * length)
    back = (head * (x0 - x1) / length, head * (y0 - y1) / length)
    end = (x1 + back[0], y1 + back[1])
    shortened = [*points[:-3], *[(x0 + (end[0] - x0) * share, y0 + (end[1] - y0) * share) for share in (1 / 3, 2 / 3, 1)]]
    tip = "" if not head else f"e,{number(x1)},{number(y1)} "
    return tip + " ".join(f"{number(x)},{number(y)}" for x, y in shortened)


def _box(name: str, x: float, y: float, width: float, height: float, attributes: dict[str, str]) -> str:
    place = {"pos": f"{number(x)},{number(y)}", "width": f"{width / 72:.4f}", "height": f"{height / 72:.4f}"}
    return statement(f'"{name}"', attributes | place)


def _text(name: str, x: float, y: float, text: str, size: float, attributes: dict[str, str] | None = None) -> str:
    """Text by itself, centred at x, y."""
    look = {"shape": "plaintext", "style": "solid", "fontsize": number(size), "label": escape(text), "class": "text", "id": name}
    return _box(name, x, y, text_width(text, size) + 4, size + 4, look | (attributes or {}))


def _left_text(name: str, x: float, y: float, text: str, size: float) -> str:
    """Text that begins at x: `\\l` sets the line to the left of its box."""
    width = text_width(text, size)
    line = _text(name, x + width / 2 + 2, y, text, size)
    return line.replace(f'label="{escape(text)}"', f'label="{escape(text)}\\l"', 1)


def _cards(layout: Layout) -> list[str]:
    """A light card behind every step, with its header."""
    lines = []
    for n, (column, template, left) in enumerate(zip(layout.graph.columns, layout.templates, layout.lefts)):
        if column.role != "step":
            continue
        x, y = left + template.width / 2, (layout.top + layout.bottom) / 2
        fill = "#f6f8fc" if n % 2 else "#eef2f9"
        look = {"class": "card", "color": "#dde4f0", "fillcolor": fill, "id": f"card.{n}", "label": "", "penwidth": "0.6"}
        lines.append(_box(f"card.{n}", x, y, template.width, layout.top - layout.bottom, look))
        part = f"{column.part}, " if column.part else ""
        lines.append(_text(f"header.{n}", x, layout.top - 11, f"{part}t = {column.t}", 11, {"fontcolor": FAINT}))
    return lines


def _boxes(layout: Layout) -> list[str]:
    lines = []
    gates = dict.fromkeys(node.slot for node in layout.graph.nodes if node.kind == "gate")
    tints = {slot: TINTS[n % len(TINTS)] for n, slot in enumerate(gates)}
    for node in layout.graph.nodes:
        fill, border = BOXES[node.kind]
        look = {
            "class": node.kind, "color": border, "fillcolor": tints.get(node.slot, fill) if node.kind == "gate" else fill,
            "id": node.id, "label": escape(node.label), "tooltip": escape(_tooltip(node)),
        }  # fmt: skip
        if node.given and node.kind != "weight":
            look["style"] = "rounded,filled,dashed"
        lines.append(_box(node.id, node.x, node.y, node.width, node.height, look))
        if node.small:
            lines.append(_text(f"{node.id}.small", node.x, node.y - 11, node.small, 8, {"fontcolor": FAINT}))
    return lines


def _tooltip(node: Node) -> str:
    entries = f"{node.entries[0]}" if len(node.entries) == 1 else f"{node.entries[0]}-{node.entries[-1]}"
    shape = "×".join(map(str, node.shape)) or "a number"
    lines = [f"{node.label} ({shape}), entry {entries}", f"gradient norm: {words.said(node)}", node.source or ""]
    return "\n".join(line for line in lines if line)


def _legend(layout: Layout, low: float, high: float) -> list[str]:
    """The scale with its numbers, the marks that occur, and what the picture shows in words."""
    graph = layout.graph
    statuses = {edge.grad.status for edge in graph.edges if edge.grad is not None}
    x, y = layout.left, layout.floor - 22
    lines = []
    if "finite" in statuses:
        label = "gradient norm"
        lines.append(_left_text("legend.title", x, y, label, 10))
        x += text_width(label, 10) + 12
        for n, shade in enumerate(RAMP):
            width = WIDTHS[0] + (WIDTHS[1] - WIDTHS[0]) * n / (len(RAMP) - 1)
            look = {"class": "legend", "fillcolor": shade, "id": f"legend.{n}", "label": "", "style": "filled", "penwidth": "0"}
            lines.append(_box(f"legend.{n}", x + 12 + 24 * n, y + 2, 24, 2 * width, look))
        for name, at, value in (("low", x, low), ("high", x + 24 * len(RAMP), high)):
            lines.append(_text(f"legend.{name}", at, y - 9, f"{value:.2g}", 9, {"fontcolor": FAINT}))
        x += 24 * len(RAMP) + 24
    for status in (each for each in MARKS if each in statuses):
        shade, width, style, head, said = MARKS[status]
        look = {"color": shade, "penwidth": number(width), "style": style, "arrowhead": head}
        for end, at in (("a", x + 26), ("b", x)):
            name = f"legend.{status}.{end}"
            lines.append(_box(name, at, y, 1, 1, {"style": "invis", "label": "", "id": name}))
        route = [(x + 26 - 26 * k / 3, y) for k in range(4)]
        attributes = {"class": "legend", "id": f"legend.{status}", "pos": _pos(route, look)}
        lines.append(statement(f'"legend.{status}.a" -> "legend.{status}.b"', attributes | look))
        lines.append(_left_text(f"legend.{status}.text", x + 32, y, said, 10))
        x += 32 + text_width(said, 10) + GAP
    for n, sentence in enumerate(_wrapped(words.caption(graph), max(layout.right - layout.left, 360.0))):
        lines.append(_left_text(f"caption.{n}", layout.left, y - 30 - 15 * n, sentence, 11))
    return lines


def _wrapped(text: str, width: float) -> list[str]:
    """Text in lines that are not wider."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, 11) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
