"""How all plots look: colours that are told apart without seeing colour, whole steps, titles that fit. Needs matplotlib."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from tinygrad_seq.viz.pen import FAINT, INK, RAMP

LINES = ("#2c4875", "#d45087", "#ff7c43", "#5d7350", "#8a97ad")  # dark to light, and told apart by their markers too
MARKERS = "osD^v"
DASHES = ("-", "--", ":", "-.")
GRID = "#e5e9f1"
HATCH = "#b4bfd1"
RED = "#d1001f"  # what is not finite
TITLE = 10.5  # characters to an inch


def look(n: int, steps: int = 0, dash: int = 0) -> dict[str, Any]:
    """Colour, marker and dashes of the n-th line; where it has many steps, a marker at some of them."""
    marks = {"marker": MARKERS[n % len(MARKERS)], "markersize": 4, "markevery": max(1, steps // 20)}
    return marks | {"color": LINES[n % len(LINES)], "linestyle": DASHES[dash % len(DASHES)], "linewidth": 1.4}


def style(axes: Any, title: str, xlabel: str, ylabel: str) -> None:
    """A panel's frame and its words."""
    place, page = axes.get_subplotspec(), axes.figure.bbox.width / axes.figure.dpi
    inches = page * len(place.colspan) / place.get_gridspec().ncols
    title = title.replace(" = ", "\u00a0=\u00a0").replace(" %", "\u00a0%")  # what no line should break
    axes.set_title("\n".join(textwrap.wrap(title, int(TITLE * inches))), color=INK, fontsize=10)
    axes.set_xlabel(xlabel, color=INK, fontsize=9)
    axes.set_ylabel(ylabel, color=INK, fontsize=9)
    axes.tick_params(colors=FAINT, labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


def times(factor: float, digits: int = 2) -> str:
    """A factor in words.

    Example:
        >>> times(0.25), times(203), times(44e-6)
        ('×0.25', '×200', '×4.4e-5')
    """
    mantissa, e, exponent = f"{float(f'{factor:.{digits}g}'):g}".partition("e")
    return f"×{mantissa}{e}{int(exponent) if e else ''}"


def grid(axes: Any) -> None:
    """Faint lines behind."""
    axes.grid(True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def legend(axes: Any, **options: Any) -> None:
    """A legend, if anything has a name."""
    if options.get("handles") or axes.get_legend_handles_labels()[1]:
        axes.legend(framealpha=0.85, edgecolor="none", fontsize=8, labelcolor=INK, **options)


def key(figure: Any, panels: Sequence[Any], handles: Sequence[Any] = ()) -> None:
    """The legend of panels that mean the same by the same look: below them, once, where it hides nothing."""
    if len(panels) == 1:
        options: dict[str, Any] = {"handles": handles} if handles else {}
        legend(panels[0], loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, **options)
        return
    named = {label: each for axes in panels for each, label in zip(*axes.get_legend_handles_labels())}
    named = named or {handle.get_label(): handle for handle in handles}
    if named:
        looks: dict[str, Any] = dict(frameon=False, fontsize=8, labelcolor=INK, loc="outside lower center")
        figure.legend([*named.values()], [*named], ncols=len(named), **looks)


def is_a_row(axes: Any) -> bool:
    """Whether a panel has a row of its own, with others above or below: then there is room beside it."""
    place = axes.get_subplotspec().get_gridspec()
    return bool(place.nrows == place.ncols == 1 and axes.figure is not axes.figure.figure)


def logarithmic(axis_owner: Any, low: float, high: float) -> None:
    """A logarithmic height for what goes from `low` to `high`, of a decade at least, with ticks at whole powers of ten."""
    from matplotlib.ticker import LogFormatterSciNotation, LogLocator

    middle = (low * high) ** 0.5
    low, high = min(low / 1.4, middle / 3.5), max(high * 1.4, middle * 3.5)
    axis_owner.set(yscale="log", ylim=(low, high))
    axis_owner.yaxis.set_major_locator(LogLocator(numticks=8))
    axis_owner.yaxis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(1.5, 0.4)))  # more ticks if there are few
    axis_owner.tick_params(axis="y", which="minor", colors=FAINT, labelsize=7)


def whole_steps(*several: Any) -> None:
    """Ticks of an axis at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    for axis in several:
        axis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))


def in_time(axes: Any, first: int, last: int) -> None:
    """Steps from left to right, each with its place, also where there is only one."""
    axes.set_xlim(first - 0.5, last + 0.5)
    whole_steps(axes.xaxis)


def ramp() -> Any:
    """The drawings' colours, from small to large, as a colour map."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("gradient", RAMP).with_extremes(bad="white")
