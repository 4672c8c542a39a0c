"""A page that shows pictures, with a caption each and the picture in words. Read me with `gallery.py`; I know no figure."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tinygrad_seq.serialize import _write_at_once

READABLE = 0.5  # pixels for a unit of a picture, at least; its text has 11 units
STYLE = """
body { margin: 2rem auto; padding: 0 2vw; max-width: 110rem; color: #33415c; background: #fff }
body { font: 1rem/1.5 Arial, Helvetica, sans-serif }
h1, h2 { font-weight: 600; line-height: 1.2 }
h2 { margin: 0 0 .5rem; font-size: 1.2rem }
a { color: #2c4875 }
nav ol { columns: 20rem; padding: 0; list-style: none }
figure { margin: 3rem 0 }
figcaption { max-width: 60rem }
.picture { display: block; overflow-x: auto; margin-top: .75rem; padding: .75rem }
.picture { background: #fff; border: 1px solid #dde4f0; border-radius: .5rem }
.picture img { display: block; max-width: 100%; height: auto; margin: auto }
details { margin-top: .5rem; color: #6b7a99 }
@media (prefers-color-scheme: dark) {
  body { color: #d5dcea; background: #161a22 }
  a { color: #9db7e8 }
  details { color: #9fabc1 }
  .picture { background: #1f1f1f; border-color: #33415c }
}
""".strip()


class Exhibit(NamedTuple):
    """A picture in the page's folder.

    Attributes:
        file: its name.
        title, caption: what it is called, and what it shows.
        alt: what stands in it, in words.
        width: in its own units; a wide picture is scrolled rather than made so small that nothing can be read.
    """

    file: str
    title: str
    caption: str
    alt: str
    width: float


def write_page(path: Path, title: str, foreword: str, exhibits: Sequence[Exhibit]) -> Path:
    """Write the page, as a whole or not at all. It loads nothing but the pictures beside it; each is a link to itself."""
    links = "\n".join(f'<li><a href="#{_anchor(each)}">{html.escape(each.title)}</a></li>' for each in exhibits)
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>
{STYLE}
</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
<p>{html.escape(foreword)}</p>
<nav aria-label="figures">
<ol>
{links}
</ol>
</nav>
<main>
{"".join(map(_figure, exhibits))}</main>
</body>
</html>
"""
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_at_once(path, page.encode())
    return path


def _figure(exhibit: Exhibit) -> str:
    file, alt, least = html.escape(exhibit.file), html.escape(exhibit.alt), round(READABLE * exhibit.width)
    return f"""<figure id="{_anchor(exhibit)}">
<figcaption><h2>{html.escape(exhibit.title)}</h2>{html.escape(exhibit.caption)}</figcaption>
<a class="picture" href="{file}"><img src="{file}" alt="{alt}" style="min-width:{least}px" loading="lazy"></a>
<details><summary>The picture in words</summary>{alt}</details>
</figure>
"""


def _anchor(exhibit: Exhibit) -> str:
    return html.escape(exhibit.file.partition(".")[0])
