"""How DOT is written: boxes and text at fixed places, safe labels, numbers, colours. Read me after `words.py`."""

from __future__ import annotations

import unicodedata

from tinygrad_seq.viz import typeset, words
from tinygrad_seq.viz.layout import text_width

INK, FAINT = "#33415c", "#6b7a99"
RAMP = ("#2c4875", "#5b5f97", "#a05195", "#d45087", "#f95d6a", "#ff7c43", "#ffa600")
"""From small to large norms: from dark to light, so that grey tells it too."""


def escape(text: str) -> str:
    """A label or tooltip as it stands between quotes in DOT, so that the picture shows exactly this text.

    Graphviz reads entities and backslashes in labels. Characters that XML has no place for become U+FFFD.

    Example:
        >>> print(escape('a & "b"'))
        a &amp; \\"b\\"
    """
    if not text.replace("\n", "").isprintable():
        text = "".join("\ufffd" if c != "\n" and not _is_writable(c) else c for c in text)
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _is_writable(c: str) -> bool:
    return unicodedata.category(c) not in ("Cc", "Cs") and ord(c) & 0xFFFE != 0xFFFE


def statement(head: str, attributes: dict[str, str]) -> str:
    """A line of DOT; attributes sorted."""
    written = [f'{key}="{attributes[key]}"' for key in sorted(attributes)]
    return f"{head} [{' '.join(written)}]"


def number(x: float) -> str:
    """A coordinate: two decimals, no trailing zeros, no negative zero."""
    written = f"{x:.2f}".rstrip("0").rstrip(".")
    return "0" if written == "-0" else written


def colour(norm: float, low: float, high: float) -> str:
    """The colour of a norm on the scale: between the ramp's two nearest."""
    place = words.position(norm, low, high) * (len(RAMP) - 1)
    i = min(int(place), len(RAMP) - 2)
    parts = [[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in RAMP[i : i + 2]]
    return "#" + "".join(f"{round(a + (b - a) * (place - i)):02x}" for a, b in zip(*parts))


def box(name: str, x: float, y: float, width: float, height: float, attributes: dict[str, str]) -> str:
    """A node at x, y."""
    place = {"pos": f"{number(x)},{number(y)}", "width": f"{width / 72:.4f}", "height": f"{height / 72:.4f}"}
    return statement(f'"{name}"', attributes | place)


def text(name: str, x: float, y: float, line: str, size: float, attributes: dict[str, str] | None = None) -> str:
    """Text by itself, centred at x, y."""
    look = {"shape": "plaintext", "style": "solid", "fontsize": number(size), "label": escape(line), "class": "text", "id": name}
    return box(name, x, y, text_width(line, size) + 4, size + 4, look | (attributes or {}))


def symbol(name: str, x: float, y: float, label: str, size: float, shade: str) -> list[str]:
    """A label around x, y in as many texts as it has parts that are set lower or higher; none, if it is one text."""
    parts = enumerate(typeset.placed(label, size))
    return [text(f"{name}.letter{n}", x + part.x, y + part.y, part.text, part.size, {"fontcolor": shade}) for n, part in parts]


def left_text(name: str, x: float, y: float, line: str, size: float, attributes: dict[str, str] | None = None) -> str:
    """Text that begins at x: `\\l` sets the line to the left of its box."""
    look = {"label": escape(line) + "\\l"} | (attributes or {})
    return text(name, x + text_width(line, size) / 2 + 2, y, line, size, look)
