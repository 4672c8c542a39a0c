"""Labels with subscripts and superscripts. Read me with `layout.py`, which asks how wide they are, and `drawing.py`.

Γ_u<3> is drawn as people write it: a small u below, a small <3> above. Only what looks like a symbol is; all other labels stay as
they are, whatever characters they hold. DOT has the plain label. In SVG its letters are moved within the one text that they are,
so that who searches the picture for a label, copies it, or hears it read aloud, gets it whole; even the underscore is there, a
point high. For PNG, Graphviz's own markup makes them small.
"""

from __future__ import annotations

import html
import re
from functools import lru_cache
from typing import NamedTuple

SMALL, HINT = 0.72, 0.1  # of the size of the label: sub- and superscripts, and the underscore

SYMBOL = re.compile(
    r"((?:\w+\.)*)([^\W\d_]{1,2}\u0302?)((?<=c)~)?(?:(_)([a-z0-9]{1,3}))?([→←]?(?:\[\d+\])?(?:<(?:\d+|t|init)>)?)"
)
"""A path (`cells.0.`), one or two letters, in the candidate's case a tilde, a subscript; direction, layer and step."""

TEXT = re.compile(r'(<text\b[^>]*? font-size="([\d.]+)"[^>]*>)([^<]*)</text>')
RAISED = {"": 0.0, "hint": -0.25, "sub": -0.25, "sup": 0.38, "over": 0.36}  # how far above the line, in sizes of the label


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
        >>> [piece.text for piece in pieces("learning_rate")]
        ['learning_rate']
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


def in_dot(label: str, size: float, fill: str) -> str | None:
    """The label in Graphviz's markup, which stands between < and >; None if there is nothing to set.

    Args:
        label: of a box.
        size: of its text, in points.
        fill: the colour of the box, in which the underscore is not seen.
    """
    parts = pieces(label)
    return None if len(parts) == 1 else "".join(_written(piece, size, fill) for piece in parts)


def _written(piece: Piece, size: float, fill: str) -> str:
    text = html.escape(piece.text)
    if piece.size < 1:
        shade = f' COLOR="{fill}"' if piece.kind == "hint" else ""
        text = f'<FONT POINT-SIZE="{piece.size * size:.3g}"{shade}>{text}</FONT>'
    tag = {"sub": "SUB", "sup": "SUP", "over": "SUP", "hint": "SUB"}.get(piece.kind)
    return f"<{tag}>{text}</{tag}>" if tag else text
