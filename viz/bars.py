"""A weight's gradient by step, as bars below the columns. Read me after `dot.py`.

Under each column the share of dL/dW that came through it, outlined the norm of its term; over the bars a line, their
running sum, which goes as the backward pass goes, from the last step to the first, and ends at the norm of `W.grad`.
"""

from __future__ import annotations

from collections.abc import Iterator

from tinygrad_seq.viz.layout import GAP, Layout, text_width
from tinygrad_seq.viz.pen import FAINT, INK, box, colour, escape, left_text, number, text
from tinygrad_seq.viz.shares import Share, Shares

TALL = 44.0  # from the lowest to the highest value
WIDE = 60.0  # a bar
ABOVE, BELOW = 22.0, 32.0  # room for text
LINE = 1.1
TITLE = (
    "Bars: how much each step adds to the gradient's norm, below the line what it takes away. Outlines: how large its term is by "
    "itself. Line: the sum so far, from the last step back to the first."
)


def bars(layout: Layout, low: float, high: float) -> tuple[list[str], float]:
    """The strips of all weights, on one scale, and how far down they reach. `low` and `high` are the ends of the colours."""
    strips = layout.graph.shares
    values = [x for strip in strips for s in strip.columns for x in (s.norm, s.share, s.total) if x is not None]
    least, most = min([*values, 0.0]), max([*values, 0.0])
    unit = TALL / ((most - least) or 1.0)
    lines: list[str] = []
    floor = layout.floor
    for strip in strips:
        zero = floor - ABOVE - most * unit
        lines += _strip(layout, strip, zero, unit, (low, high))
        floor = zero + least * unit - BELOW
    if strips:
        lines.append(left_text("share.title", 0.0, floor, TITLE, 9, {"fontcolor": FAINT}))
    return lines, floor


def _strip(layout: Layout, strip: Shares, zero: float, unit: float, scale: tuple[float, float]) -> Iterator[str]:
    """One weight: bars and numbers, the running sum, and where it ends."""
    name = f"share.{strip.weight}"
    spans = {share: _span(layout, share) for share in strip.columns}
    first, last = min(left for left, _ in spans.values()) + 6, max(right for _, right in spans.values()) - 6
    yield box(f"{name}.zero", (first + last) / 2, zero, last - first, 0.8, _flat(f"{name}.zero", "#c3cbd9"))
    for n, (share, (left, right)) in enumerate(spans.items()):
        x, wide = (left + right) / 2, min(WIDE, 0.6 * (right - left))
        if share.share is None or share.norm is None:
            yield text(f"{name}.{n}.number", x, zero - 11, "not finite", 9, {"fontcolor": "#d1001f"})
            continue
        tall, full = share.share * unit, share.norm * unit
        shade = colour(share.norm, *scale) if share.norm else FAINT
        sign = -1 if tall < 0 else 1
        below = zero + min(sign * full, 0.0) - 10
        several = f" in {share.hides} steps" if share.hides > 1 else ""
        outline = {
            "class": "share", "color": shade, "fillcolor": "white", "id": f"{name}.{n}.norm", "label": "", "penwidth": "0.6",
            "style": "filled", "fontcolor": INK, "fontsize": "9", "xlabel": _said(share.share) + several,
            "xlp": f"{number(x)},{number(below)}",
        }  # fmt: skip
        yield box(f"{name}.{n}.norm", x, zero + sign * full / 2, wide, full, outline)
        said = f"{strip.label}: share {share.share:.3g} of {strip.norm:.3g}, norm of the term {share.norm:.3g}"
        yield box(f"{name}.{n}", x, zero + tall / 2, wide, abs(tall), _flat(f"{name}.{n}", shade) | {"tooltip": escape(said)})
        if share.largest is not None:
            most = f"most at t = {share.largest[0]}: {_said(share.largest[1])}"
            yield text(f"{name}.{n}.most", x, below - 11, most, 9, {"fontcolor": FAINT})
    yield from _running(strip, spans, zero, unit, name)
    yield from _end(layout, strip, zero, unit, name)


def _running(strip: Shares, spans: dict[Share, tuple[float, float]], zero: float, unit: float, name: str) -> Iterator[str]:
    """The running sum: a level from each column to the one before it, and a step where that one's share comes in."""
    middles = [sum(span) / 2 for span in spans.values()]
    levels = [None if share.total is None else zero + share.total * unit for share in strip.columns]
    for n, (x, level) in enumerate(zip(middles, levels)):
        until = middles[n - 1] if n else -GAP
        after = zero if n + 1 == len(levels) else levels[n + 1]
        if level is None or after is None:
            return
        ink = _flat(f"{name}.{n}.total", INK)
        yield box(f"{name}.{n}.total", (x + until) / 2, level, abs(x - until) + LINE, LINE, ink)
        yield box(f"{name}.{n}.step", x, (level + after) / 2, LINE, abs(level - after), ink | {"id": f"{name}.{n}.step"})


def _end(layout: Layout, strip: Shares, zero: float, unit: float, name: str) -> Iterator[str]:
    """The sum, where the running line arrives: beside the weights."""
    label = f"{strip.label}.grad"
    value = "not finite" if strip.norm is None else _said(strip.norm)
    wide = max(text_width(label, 10), text_width(value, 11)) + 12
    x, y = -GAP - wide / 2, zero + (strip.norm or 0.0) * unit
    look = {"class": "sum", "color": "#c9a227", "fillcolor": "#fffbe6", "fontsize": "10", "id": f"{name}.sum"}
    yield box(f"{name}.sum", x, y, wide, 32, look | {"label": f"{escape(label)}\\n{value}"})


def _span(layout: Layout, share: Share) -> tuple[float, float]:
    """From where to where the share's column stands; what is outside of all columns stands after the last."""
    if share.column is None:
        return layout.right + GAP, layout.right + GAP + WIDE
    left = layout.lefts[share.column]
    return left, left + layout.templates[share.column].width


def _flat(name: str, shade: str) -> dict[str, str]:
    return {"class": "share", "fillcolor": shade, "id": name, "label": "", "penwidth": "0", "style": "filled"}


def _said(value: float) -> str:
    return f"{value:.2g}" if value else "0"
