"""How all plots look: colours that are told apart without seeing colour, whole steps, titles that fit. Needs matplotlib."""

from __future__ import annotations

import textwrap
from typing import Any

from tinygrad_seq.viz.pen import FAINT, INK, RAMP

LINES = ("#2c4875", "#d45087", "#ff7c43", "#5d7350", "#8a97ad")  # dark to light, and told apart by their markers too
MARKERS = "osD^v"
GRID = "#e5e9f1"
RED = "#d1001f"  # what is not finite
TITLE = 46  # characters in a line


def look(n: int) -> dict[str, Any]:
    """Colour and marker of the n-th line."""
    return {"color": LINES[n % len(LINES)], "marker": MARKERS[n % len(MARKERS)], "markersize": 4, "linewidth": 1.4}


def style(axes: Any, title: str, xlabel: str, ylabel: str) -> None:
    """A panel's frame and its words."""
    place = axes.get_subplotspec()
    across = 1 if place is None else len(place.colspan)
    axes.set_title("\n".join(textwrap.wrap(title, TITLE * across)), color=INK, fontsize=10)
    axes.set_xlabel(xlabel, color=INK, fontsize=9)
    axes.set_ylabel(ylabel, color=INK, fontsize=9)
    axes.tick_params(colors=FAINT, labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


def grid(axes: Any) -> None:
    """Faint lines behind."""
    axes.grid(True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def legend(axes: Any, **options: Any) -> None:
    """A legend, if anything has a name."""
    if options.get("handles") or axes.get_legend_handles_labels()[1]:
        axes.legend(framealpha=0.85, edgecolor="none", fontsize=8, labelcolor=INK, **options)


def legend_below(axes: Any, **options: Any) -> None:
    """A legend that hides nothing, two names to a line."""
    legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, **options)


def logarithmic(axis_owner: Any, low: float, high: float) -> None:
    """A logarithmic height for what goes from `low` to `high`, of a decade at least, with ticks at whole powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    middle = (low * high) ** 0.5
    low, high = min(low / 1.4, middle / 3.5), max(high * 1.4, middle * 3.5)
    axis_owner.set(yscale="log", ylim=(low, high))
    axis_owner.yaxis.set_major_locator(LogLocator(numticks=8))
    axis_owner.yaxis.set_minor_formatter(NullFormatter())


def whole_steps(*several: Any) -> None:
    """Ticks of an axis at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    for axis in several:
        axis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def ramp() -> Any:
    """The drawings' colours, from small to large, as a colour map."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("gradient", RAMP).with_extremes(bad="white")
