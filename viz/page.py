"""The player: a page that steps through a tape, forward and back again. Read me after `film.py`.

The page is one file that loads nothing: the picture, the film as JSON, and the style and script of the folder `player`.
Its script is a function of one number, the step, so that going back is no other thing than going forward.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import tinygrad_seq as tg
from tinygrad_seq.listing import Tape
from tinygrad_seq.serialize import _write_at_once
from tinygrad_seq.tensor import Tensor
from tinygrad_seq.viz import words
from tinygrad_seq.viz.drawing import Drawing, draw
from tinygrad_seq.viz.extract import BUDGET
from tinygrad_seq.viz.film import film
from tinygrad_seq.viz.fold import LEVELS
from tinygrad_seq.viz.graph import Graph
from tinygrad_seq.viz.pen import RAMP

ENDINGS = (".html", ".htm")
LONGEST = 20_000  # steps: a page of about 10 MB


def play(target: Tape | Tensor, level: str = "auto", unfold: bool = True, **options: Any) -> Page:
    """A page that plays a tape: its entries in order of execution, then its backward pass in the order of the sweep.

    Beside the picture stand the line that the tape prints, in the backward pass the incoming cotangent, the local
    derivative and what goes out, and the bytes that the backward pass still needs.

    Args:
        target: a recorded tape, a part of one, or a loss whose graph still exists. The backward pass is there if it has
            run under or after `record()`.
        level: as for `draw`; "auto" is the deepest with at most 400 boxes, however wide: the page follows what is at work.
        unfold: let a click on a cell unfold it into its gates, and on a gate into its operations. The page then holds the
            next finer picture too, if that has no more than 400 boxes.
        **options: as for `draw`.

    Raises:
        ValueError: an empty tape, more than 20,000 steps, or what `draw` refuses.
        NoGraphvizError: no program to draw the picture with.

    Example:
        >>> import numpy as np, tinygrad_seq as tg
        >>> from tinygrad_seq import viz
        >>> w = tg.Parameter([[0.5]], name="w")
        >>> with tg.record() as tape:
        ...     loss = np.tanh(w).sum()
        >>> loss.backward()
        >>> viz.play(tape)
        <Page of 3 steps forward, 3 backward>
    """
    tape = target if isinstance(target, Tape) else tg.tape(target)
    steps = len(tape) + len(tape.events)
    if steps > LONGEST:
        raise ValueError(f"{steps:,} steps are too many to play ({LONGEST:,} at most); play a part: tape[a:b] or tape.at(t)")
    drawing = draw(tape, level, **({"budget": BUDGET} if level == "auto" else {}) | options)
    drawings = [drawing, *(_finer(tape, drawing, options) if unfold else [])]
    return Page(drawings, film(tape, [each.data for each in drawings]))


def _finer(tape: Tape, drawing: Drawing, options: dict[str, Any]) -> list[Drawing]:
    """The picture at the next finer level, if there is one that shows all steps and is not too large."""
    level = drawing.data["level"]
    if level == LEVELS[-1] or _hides_steps(drawing):
        return []
    finer = draw(tape, LEVELS[LEVELS.index(level) + 1], **options | {"steps": "auto", "budget": BUDGET})
    return [] if _hides_steps(finer) or len(finer.data["nodes"]) > BUDGET else [finer]


def _hides_steps(drawing: Drawing) -> bool:
    return any(node["kind"] == "elided" for node in drawing.data["nodes"])


class Page:
    """One self-contained HTML file. Shows itself in a notebook."""

    def __init__(self, drawings: Sequence[Drawing], film: dict[str, Any]) -> None:
        self._drawings = drawings
        self._film = film

    @cached_property
    def html(self) -> str:
        """The page as text, the same in every process."""
        script = _part("player.js")
        pictures = [svg[svg.index("<svg") :] for svg in (drawing.svg() for drawing in self._drawings)]
        return Template(_part("player.html")).substitute(
            policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_digest(script)}'; base-uri 'none'",
            style=_part("player.css"),
            level=self._drawings[0].data["level"],
            scale=_scale(self._drawings[0]._graph),
            picture=pictures[0],
            finer="".join(pictures[1:]).replace('<g id="', '<g id="finer:'),  # an id stands once in a page
            film=as_script_data(self._film),
            script=script,
        )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to a file, as a whole or not at all; missing folders are made.

        Raises:
            ValueError: the name does not end in .html (or .htm); nothing is written.
        """
        path = Path(path).expanduser()
        if path.suffix.lower() not in ENDINGS:
            raise ValueError(
                f"a player is a page: {path.name!r} ends in none of {', '.join(ENDINGS)}; a picture in another format is "
                "viz.draw(tape).save(...)"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_at_once(path, self.html.encode())
        return path

    def _repr_html_(self) -> str:
        look = "width:100%;height:45em;border:0"
        return f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(self.html)}" style="{look}"></iframe>'

    def __repr__(self) -> str:
        return f"<Page of {len(self._film['forward'])} steps forward, {len(self._film['backward'])} backward>"


def _scale(graph: Graph) -> str:
    """The scale of the gradient's colours for the page's key: in a long picture its own is far away."""
    if not any(words.drawn_norm(edge) for edge in graph.edges):
        return ""  # no backward pass, or nothing that the scale could show
    low, high = words.scale(graph)
    ramp = f"linear-gradient(90deg, {', '.join(RAMP)})"
    return f'<li class="scale">gradients, norm {low:.2g} <i style="background: {ramp}"></i> {high:.2g}</li>'


def as_script_data(data: Any) -> str:
    r"""JSON that is safe within <script>: without `<` no text can end the element, and all of it is ASCII.

    Example:
        >>> print(as_script_data(["</script>"]))
        ["\u003c/script>"]
    """
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", r"\u003c")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _part(name: str) -> str:
    return (files("tinygrad_seq.viz") / "player" / name).read_text(encoding="utf-8")
