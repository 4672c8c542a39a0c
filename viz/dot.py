"""The DOT text. Read me after `pen.py`.

Every position and every route is written down, so Graphviz (`neato -n2`) only draws. The text depends on the drawing's
numbers alone: the same run gives the same text in every process.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache

import graphviz

from tinygrad_seq.viz import words
from tinygrad_seq.viz.bars import bars
from tinygrad_seq.viz.graph import Edge, Graph, Node, Point
from tinygrad_seq.viz.layout import GAP, LABEL, Layout, text_width
from tinygrad_seq.viz.numbers import norms
from tinygrad_seq.viz.pen import FAINT, INK, RAMP, box, colour, escape, left_text, number, statement, symbol, text

WIDTHS = (0.8, 4.2)
TINTS = ("#dff3f1", "#fdf1d6", "#fde7ea", "#eeeae3", "#e1f0fd", "#e3f4e6", "#f1e6fb")  # of gates; see `_tints`

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
    "elided":       ("#ffffff", FAINT),
}
MARKS = {           # of a gradient that has no place on the scale: colour, width, style, arrowhead, in words
    "none":         ("#909cb2", 1.0, "dotted", "none", "no gradient computed"),
    "zero":         ("#6b7a99", 0.9, "dashed", "tee",  "exactly 0"),
    "nonfinite":    ("#d1001f", 3.0, "bold",   "dot",  "not finite"),
    "masked":       ("#58aaa1", 1.0, "dashed", "obox", "0: masked by padding"),
}
# fmt: on
FORWARD = "#9aa5b8"
TRUNK = {"color": "#c3cbd9", "penwidth": "2.4", "arrowsize": "0.5"}
JOIN = 9.0  # how far a weight's term is drawn along its trunk
CAPTION = 0.85  # of the picture's width, for a viewer whose font is wider than Arial
CUT = {"style": "dashed", "arrowhead": "tee", "color": "#d1001f"}


def dot(layout: Layout, apart: bool = False) -> graphviz.Digraph:
    """The layout as a graph with everything pinned; each part of a symbol a text of its own, if asked for (see `typeset.py`)."""
    graph = layout.graph
    drawing: graphviz.Digraph = graphviz.Digraph("tinygrad_seq", engine="neato")
    low, high = words.scale(graph)
    strips, floor = bars(layout, low, high)
    body = [
        statement("graph", {"bgcolor": "white", "outputorder": "nodesfirst", "pad": "0.15", "fontname": "Arial"}),
        statement("node", {
            "fixedsize": "true", "fontname": "Arial", "fontcolor": INK, "fontsize": number(LABEL), "margin": "0", "shape": "box",
            "style": "rounded,filled", "penwidth": "0.9",
        }),
        statement("edge", {"arrowsize": "0.45", "color": FORWARD, "penwidth": "0.8"}),
        *_trunks(graph),
        *_cards(layout),
        *_boxes(layout, apart),
        *_loops(layout),
        *strips,
        *_legend(layout, floor, low, high),
    ]  # fmt: skip
    body += [_arrow(edge, edge.points, "cut" if edge.cut else "forward", {}) for edge in graph.edges]
    back = [edge for edge in graph.edges if edge.grad is not None]
    for edge in sorted(back, key=lambda each: words.drawn_norm(each) or 0.0):  # strong ones on top
        assert edge.grad is not None
        route = _to_trunk(edge) if edge.source.sums is not None else edge.twin
        body.append(_arrow(edge, route, "backward", _look(edge.grad.status, words.drawn_norm(edge), low, high)))
    body += norms(layout)
    drawing.body = [f"\t{line}\n" for line in body]
    return drawing


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
    name = edge.id(backward=kind == "backward")
    if kind == "cut":
        look = CUT
    tip = f"{a.label} -> {b.label}" + (f": {words.said(edge)}" if kind == "backward" else "")
    if kind == "backward" and edge.full is not None:
        tip += f"; the gradient stops at a cut, full BPTT would have carried {words.said_grad(edge.full)}"
    attributes = {"class": kind, "id": name, "pos": _pos(points, look), "edgetooltip": escape(tip)}
    return statement(f'"{a.id}" -> "{b.id}"', attributes | look)


def _pos(points: Sequence[Point], look: dict[str, str]) -> str:
    """A route as Graphviz writes it: the arrow's tip first; the line ends where the head begins."""
    (x0, y0), (x1, y1) = points[-4], points[-1]
    length = abs(x1 - x0) + abs(y1 - y0) or 1.0
    head = 0.0 if look.get("arrowhead") == "none" else min(10 * float(look.get("arrowsize", "0.45")), 0.8 * length)
    if look.get("arrowhead") == "tee":
        head = min(3.0, 0.8 * length)
    x2, y2 = x1 + head * (x0 - x1) / length, y1 + head * (y0 - y1) / length
    tip = "" if not head else f"e,{number(x1)},{_height(y1)} "
    before = [f"{x:.12g},{_height(y)}" for x, y in points[:-3]]  # rounded already
    shortened = [f"{number(x0 + (x2 - x0) * share)},{_height(y0 + (y2 - y0) * share)}" for share in (1 / 3, 2 / 3, 1)]
    return tip + " ".join(before + shortened)


_height = lru_cache(maxsize=4096)(number)  # the same ones come again at every step


# ---- where a weight's terms come together -----------------------------------------------------------------------------
#
# All terms of a weight's gradient arrive along one line. Drawn in their own colours they would hide each other there, and the
# strongest would seem to flow past all steps before it. So each ends where it joins the line, which has no colour: what is on
# it is a sum in the making, and only the arrow from the Σ to the weight says how large it has become.


def _to_trunk(edge: Edge) -> list[Point]:
    """The route of a weight's term, as far as the trunk and a little along it."""
    (x0, y0), (x1, _) = edge.twin[-4], edge.twin[-1]
    end = max(x0 - JOIN, x1)
    return [*edge.twin[:-4], *[(x0 + (end - x0) * k / 3, y0) for k in range(4)]]


def _trunks(graph: Graph) -> list[str]:
    """For each sum of a weight the line along which its terms arrive.

    Graphviz draws edges in the order of the nodes that they begin at. So that the terms' heads and marks lie above it, the line
    has ends of its own, that are not seen and come before all boxes.
    """
    terms: dict[Node, list[Edge]] = {}
    for edge in graph.edges:
        if edge.source.sums is not None and edge.grad is not None:
            terms.setdefault(edge.source, []).append(edge)
    lines = []
    for meeting, edges in terms.items():
        farthest = max(edges, key=lambda edge: edge.twin[-4][0])
        (x0, y0), (x1, y1) = farthest.twin[-4], farthest.twin[-1]
        route = [(x0 + (x1 - x0) * k / 3, y0 + (y1 - y0) * k / 3) for k in range(4)]
        tip = f"the terms of {len(edges)} uses on their way to their sum"
        attributes = {"class": "trunk", "id": f"{meeting.id}.trunk", "pos": _pos(route, TRUNK), "edgetooltip": escape(tip)}
        lines += _between(f"{meeting.id}.trunk", (x0, y0), (x1, y1), attributes | TRUNK)
    return lines


def _cards(layout: Layout) -> list[str]:
    """A light card behind every step, with its header."""
    lines = []
    for n, (column, template, left) in enumerate(zip(layout.graph.columns, layout.templates, layout.lefts)):
        if column.role not in ("step", "elided", "rolled"):
            continue
        x, y = left + template.width / 2, (layout.top + layout.bottom) / 2
        fill = "#f6f8fc" if n % 2 else "#eef2f9"
        part = f"{column.part}, " if column.part else ""
        times = " … ".join(map(str, dict.fromkeys((column.times[0], column.times[-1]))))
        size = 9 if column.role == "rolled" else 11  # between the loops
        look = {
            "class": "card", "color": "#dde4f0", "fillcolor": fill, "id": f"card.{n}", "label": "", "penwidth": "0.6",
            "xlabel": escape(f"{part}t = {times}"), "xlp": f"{number(x)},{number(layout.top - 11)}", "fontcolor": FAINT,
            "fontsize": number(size),
        }  # fmt: skip
        lines.append(box(f"card.{n}", x, y, template.width, layout.top - layout.bottom, look))
    return lines


def _loops(layout: Layout) -> list[str]:
    """What goes round to a later step, in words beside its way."""
    lines = []
    for edge in layout.graph.edges:
        if edge.delay:
            back = f", gradient {words.said(edge)}" if edge.grad is not None else ""
            later = "1 step later" if edge.delay == 1 else f"{abs(edge.delay)} steps {'later' if edge.delay > 0 else 'earlier'}"
            if edge.delay == -1:
                later = "1 step earlier"
            top = max(y for _, y in edge.points)
            around = [each.points for each in layout.graph.edges if each.delay and each.source.column == edge.source.column]
            left = min(x for points in around for x, _ in points)  # of all loops there: one is around another
            said = f"{_called(edge)}: {later}{back}"
            x = left - 10 - text_width(said, 9) / CAPTION / 2
            lines.append(text(f"{edge.id()}.label", x, top, said, 9, {"fontcolor": FAINT}))
    return lines


def _called(edge: Edge) -> str:
    """What a loop carries, as its box calls it: with direction and layer, where there are several."""
    names = [re.sub(r"<\w+>$", "", name) for name in edge.source.label.split(", ")]
    plain = {re.sub(r"^.*\.|[→←]|\[\d+\]", "", name): name for name in names}
    return plain.get(edge.carries, edge.carries)


def _boxes(layout: Layout, apart: bool) -> list[str]:
    lines = []
    tints = _tints({node.slot.rpartition(".")[2] for node in layout.graph.nodes if node.kind == "gate"})
    for node in layout.graph.nodes:
        fill, border = BOXES[node.kind]
        fill = tints[node.slot.rpartition(".")[2]] if node.kind == "gate" else fill
        letters = symbol(node.id, node.x, node.y, node.label, LABEL, INK) if apart else []
        look = {
            "class": node.kind, "color": border, "fillcolor": fill,
            "id": node.id, "label": "" if letters else escape(node.label), "tooltip": escape(node.tip),
        }  # fmt: skip
        if node.round:
            look["shape"] = "ellipse"  # a circle, if its ports leave it so
        if (node.given and node.kind != "weight") or node.kind == "elided":
            look["style"] = "rounded,filled,dashed"
        lines += [box(node.id, node.x, node.y, node.width, node.height, look), *letters]
        if node.small:
            small = symbol(f"{node.id}.small", node.x, node.y - 11, node.small, 8, FAINT) if apart else []
            lines += small or [text(f"{node.id}.small", node.x, node.y - 11, node.small, 8, {"fontcolor": FAINT})]
    return lines


def _tints(gates: Collection[str]) -> dict[str, str]:
    """A colour for each name of a gate, which hangs on its letters, so that a gate looks the same in all pictures.

    Where two names would have the same colour, the longer one takes the next that is free.
    """
    found: dict[str, str] = {}
    for name in sorted(gates, key=lambda name: (len(name), name)):
        own = sum(name.encode()) % len(TINTS)
        turned = TINTS[own:] + TINTS[:own]
        found[name] = next((tint for tint in turned if tint not in found.values()), turned[0])
    return found


def _legend(layout: Layout, floor: float, low: float, high: float) -> list[str]:
    """The scale with its numbers, the marks that occur, and what the picture shows in words."""
    graph = layout.graph
    statuses = {edge.grad.status for edge in graph.edges if edge.grad is not None}
    x, y = layout.left, floor - 22
    lines = []
    if "finite" in statuses:
        lines += _sample("legend.forward", x, y, {"color": FORWARD, "penwidth": "0.8", "arrowsize": "0.45"}, back=False)
        lines.append(left_text("legend.forward.text", x + 32, y, "forward", 10))
        x += 32 + text_width("forward", 10) / CAPTION + GAP
        loops = " (loops: the largest step's)" if any(words.by_steps(edge) for edge in graph.edges) else ""
        title = f"gradient norm{loops}, on a log scale"
        lines.append(left_text("legend.title", x, y, title, 10))
        x += text_width(title, 10) + 12
        for n, shade in enumerate(RAMP):
            width = WIDTHS[0] + (WIDTHS[1] - WIDTHS[0]) * n / (len(RAMP) - 1)
            look = {"class": "legend", "fillcolor": shade, "id": f"legend.{n}", "label": "", "style": "filled", "penwidth": "0"}
            lines.append(box(f"legend.{n}", x + 12 + 24 * n, y + 2, 24, 2 * width, look))
        ends = (("low", x, low), ("middle", x + 12 * len(RAMP), (low * high) ** 0.5), ("high", x + 24 * len(RAMP), high))
        for name, at, value in ends if high > low else ends[-1:]:
            lines.append(text(f"legend.{name}", at, y - 9, f"{value:.2g}", 9, {"fontcolor": FAINT}))
        x += 24 * len(RAMP) + 24
    marks = [(status, _look(status, None, low, high), MARKS[status][4]) for status in MARKS if status in statuses]
    marks += [("cut", CUT, "cut: the gradient stops here")] if any(edge.cut for edge in graph.edges) else []
    for status, look, said in marks:
        lines += _sample(f"legend.{status}", x, y, look)
        lines.append(left_text(f"legend.{status}.text", x + 32, y, said, 10))
        x += 32 + text_width(said, 10) / CAPTION + GAP
    if any(node.kind == "sum" for node in graph.nodes):
        fill, border = BOXES["sum"]
        look = {"class": "legend", "color": border, "fillcolor": fill, "id": "legend.sum", "label": "Σ", "shape": "ellipse"}
        lines.append(box("legend.sum", x + 8, y, 16, 16, look | {"fontsize": "10"}))
        lines.append(left_text("legend.sum.text", x + 22, y, "gradients of several uses add up", 10))
    for n, sentence in enumerate(_wrapped(words.caption(graph), CAPTION * max(layout.right - layout.left, 360.0))):
        lines.append(left_text(f"caption.{n}", layout.left, y - 30 - 15 * n, sentence, 11))
    return lines


def _sample(name: str, x: float, y: float, look: dict[str, str], back: bool = True) -> list[str]:
    """A short arrow that shows what is meant, back to the left or forward to the right."""
    start, end = (x + 26, x) if back else (x, x + 26)
    route = [(start + (end - start) * k / 3, y) for k in range(4)]
    attributes = {"class": "legend", "id": name, "pos": _pos(route, look)}
    return _between(name, (start, y), (end, y), attributes | look)


def _between(name: str, start: Point, end: Point, attributes: dict[str, str]) -> list[str]:
    """An arrow between places where no box is."""
    unseen = {"style": "invis", "label": ""}
    ends = [box(f"{name}.{k}", x, y, 1, 1, unseen | {"id": f"{name}.{k}"}) for k, (x, y) in (("a", start), ("b", end))]
    return [*ends, statement(f'"{name}.a" -> "{name}.b"', attributes)]


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
