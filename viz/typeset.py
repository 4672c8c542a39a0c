"""Labels with subscripts and superscripts. Read me with `layout.py`, which asks how wide they are, and `drawing.py`.

Γ_u<3> is drawn as people write it: a small u below, a small <3> above. Only what looks like a symbol is; all other labels stay as
they are, whatever characters they hold. DOT has the plain label. In SVG its letters are moved within the one text that they are,
so that who searches the picture for a label, copies it, or hears it read aloud, gets it whole; even the underscore is there, a
point high. In PNG, where Graphviz makes the letters of its <SUB> and <SUP> neither smaller nor lower, each part of a label is a
text of its own at its place.
"""

from __future__ import annotations

import html
import re
from functools import lru_cache
from typing import NamedTuple

SMALL, HINT = 0.72, 0.1  # of the size of the label: sub- and superscripts, and the underscore

SYMBOL = re.compile(
    r"((?:\w+\.)*)([^\W\d_]{1,2}\u0302?|[^\W\d_]{3,}(?=[→←]?(?:\[\d+\])?<))"
    r"((?<=c)~)?(?:(_)([a-z0-9]{1,3}))?"
    r"([→←]?(?:\[\d+\])?(?:<(?:\d+|t|init)>)?)"
)
"""A path (`cells.0.`), a letter or two or the word before a step, the candidate's tilde, a subscript; direction, layer, step."""

TEXT = re.compile(r'(<text\b[^>]*? font-size="([\d.]+)"[^>]*>)([^<]*)</text>')
RAISED = {"": 0.0, "hint": -0.25, "sub": -0.25, "sup": 0.38, "over": 0.36}  # how far above the line, in sizes of the label

BASELINE = 0.3  # how far below its middle Graphviz puts a text's line, in sizes of the text

ADVANCES = {  # of Arial's letters, in sizes; all others are 0.556 wide
    0.222: "ijl", 0.278: "ft.,:I[]/ ", 0.333: "r()-", 0.5: "ckvxyzsJŷ", 0.584: "<>+=~", 0.611: "FTZ", 0.667: "ABEKPSVXY",
    0.722: "wCDHNRU", 0.778: "GOQ", 0.833: "mM", 0.944: "W", 1.0: "→←…",
}  # fmt: skip


class Piece(NamedTuple):
    """A part of a label: its text, what it is ("", "sub", "sup", "over" or "hint"), and its size as a share of the label's."""

    text: str
    kind: str
    size: float


@lru_cache(maxsize=4096)
def pieces(label: str) -> tuple[Piece, ...]:
    """The parts of a label, in order; one, if there is nothing to set lower or higher.

    Example:
        >>> [(piece.text, piece.kind) for piece in pieces("W_x")]
        [('W', ''), ('_', 'hint'), ('x', 'sub')]
        >>> [piece.text for piece in pieces("readout<3>")], [piece.text for piece in pieces("learning_rate")]
        (['readout', '<3>'], ['learning_rate'])
    """
    symbols = [SYMBOL.fullmatch(part) for part in label.split(", ")]
    if not all(symbols):
        return (Piece(label, "", 1.0),)
    found = []
    for n, symbol in enumerate(symbols):
        assert symbol is not None
        path, base, tilde, underscore, below, above = symbol.groups(default="")
        found += [
            Piece((", " if n else "") + path + base, "", 1.0), Piece(tilde, "over", 1.0),
            Piece(underscore, "hint", HINT), Piece(below, "sub", SMALL), Piece(above, "sup", SMALL),
        ]  # fmt: skip
    return tuple(piece for piece in found if piece.text)


def in_svg(svg: str) -> str:
    """A picture with the symbols in its texts set."""
    return TEXT.sub(_set, svg)


def _set(found: re.Match[str]) -> str:
    parts = pieces(html.unescape(found[3]))
    if len(parts) == 1:
        return found[0]
    size, height, written = float(found[2]), 0.0, ""
    for piece in parts:
        raised = RAISED[piece.kind] * size
        back = f' dx="{-0.57 * size:.2f}"' if piece.kind == "over" else ""  # a letter's width: on top of it
        place = f'{back} dy="{height - raised:.2f}" font-size="{piece.size * size:.2f}"'
        written += f"<tspan{place}>{html.escape(piece.text)}</tspan>"
        height = raised
    return f"{found[1]}{written}</text>"


class Placed(NamedTuple):
    """A part of a label and its size in points; where its middle stands, seen from the label's."""

    text: str
    size: float
    x: float
    y: float


def placed(label: str, size: float) -> list[Placed]:
    """The parts of a label, each at its place; none, if there is nothing to set lower or higher.

    Args:
        label: of a box.
        size: of its text, in points.
    """
    parts = [piece for piece in pieces(label) if piece.kind != "hint"]
    if len(parts) == 1:
        return []
    widths = [0.0 if piece.kind == "over" else advance(piece.text, piece.size * size) for piece in parts]
    x, found = -sum(widths) / 2, []
    for n, (piece, width) in enumerate(zip(parts, widths)):
        middle = x - advance(parts[n - 1].text[-1:], size) / 2 if piece.kind == "over" else x + width / 2
        raised = RAISED[piece.kind] * size - BASELINE * size * (1 - piece.size)
        found.append(Placed(piece.text, piece.size * size, middle, raised))
        x += width
    return found


def advance(text: str, size: float) -> float:
    """How far a text in Arial, or a font that was made to fit in its place, brings the pen on."""
    return size * sum(next((width for width, letters in ADVANCES.items() if c in letters), 0.556) for c in text)
