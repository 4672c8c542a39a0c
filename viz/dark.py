"""The picture in the dark: for readers who prefer dark pages. Read me beside `drawing.py`.

An SVG brings its dark colours with it, as rules that hold on a screen where dark is preferred: wherever it stands, on a page or
by itself, it is as dark as what is around it, and on paper it is white.
"""

from __future__ import annotations

import colorsys
import re

SCALED = {"backward", "legend", "share"}  # classes of what is drawn in the scale's colours: there a colour is a number
GLOW = """.backward :is([stroke^="#2"],[stroke^="#3"],[stroke^="#4"]){filter:drop-shadow(0 0 1px #dfe8ff)}"""
"""Small gradients are dark blue. That is their number and stays, so what is around them is lit up."""


def dark_rules(svg: str) -> str:
    """The picture's colours with their lightness turned over, as a style sheet."""
    _, *groups = re.split(r'<g id="[^"]*" class="([^"]*)">', svg)  # classes and body of each in turn
    plain = "".join(body for classes, body in zip(groups[::2], groups[1::2]) if SCALED.isdisjoint(classes.split()))
    used = {(use, colour) for use in ("fill", "stroke") for colour in re.findall(rf'{use}="(#[0-9a-f]{{6}})"', plain)}
    rules = [f'svg [{use}="{colour}"]{{{use}:{darkened(colour)}}}' for use, colour in sorted({("fill", "white"), *used})]
    return "@media screen and (prefers-color-scheme: dark) {\n" + "\n".join([*rules, GLOW]) + "\n}\n"


def darkened(colour: str) -> str:
    """A colour for a dark page that does what this one does on a white page.

    Example:
        >>> darkened("#ffffff"), darkened("#33415c")
        ('#1f1f1f', '#a4adbf')
    """
    colour = "#ffffff" if colour == "white" else colour
    hue, light, saturation = colorsys.rgb_to_hls(*[int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    mixed = colorsys.hls_to_rgb(hue, 0.12 + 0.8 * (1 - light), 0.6 * saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in mixed)
