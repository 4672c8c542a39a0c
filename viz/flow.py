"""Where the gradient goes, as curves and heatmaps. Read me by myself; I need only `extract.py`'s eye for states.

The numbers come from `tg.bptt` or from a tape's own backward pass; here they are only plotted. Needs matplotlib:
`pip install tinygrad_seq[plot]`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinygrad_seq.listing import Tape
from tinygrad_seq.viz.extract import Calls, fold, hidden_states
from tinygrad_seq.viz.pen import FAINT, INK, RAMP

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
Source = Tape | Array

LINES = ("#2c4875", "#d45087", "#ff7c43", "#5d7350", "#8a97ad")  # told apart by their markers too
MARKERS = "osD^v"
PANEL = (4.4, 3.8)  # inches


class Curve(NamedTuple):
    """A state's gradient norm by step; NaN where there is none."""

    name: str
    norms: Array


def gradient_flow(source: Source | Mapping[str, Source], title: str = "") -> Figure:
    """Plot how the gradient flows back through time.

    Args:
        source: what to plot. A tape on which a backward pass has run gives curves of ||dL/dh<t>||, one for each state of
            each layer; so does an array (T,) of norms. An array (T, T) of ||dL<t>/dh<s>||, as `tg.bptt.flow` gives it,
            becomes a heatmap. A mapping from names to these puts them side by side, on one scale:
            `{"RNN": tape, "LSTM": other}`.
        title: above it all.

    Returns:
        A matplotlib figure that belongs to no window: `figure.savefig("flow.png")`. A notebook shows it.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: an array of another shape, or nothing to plot: no backward pass has run, or there are no steps.
    """
    named = source if isinstance(source, Mapping) else {"": source}
    curves = [curve for name, each in named.items() for curve in _curves(name, each)]
    maps = {name: np.asarray(each, np.float64) for name, each in named.items() if np.ndim(_array(each)) == 2}
    if not curves and not maps:
        raise ValueError("nothing to plot: no gradient has reached a state of any step; run backward() under record()")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("viz.gradient_flow needs matplotlib: pip install tinygrad_seq[plot]") from error
    count = len(maps) + bool(curves)
    figure = Figure(figsize=(PANEL[0] * count, PANEL[1]), layout="constrained")
    panels = list(figure.subplots(1, count, squeeze=False)[0])
    if curves:
        _plot_curves(panels.pop(0), curves)
    if maps:
        _plot_maps(figure, panels, maps)
    if title:
        figure.suptitle(title, color=INK)
    return figure


def state_norms(tape: Tape) -> list[Curve]:
    """||dL/dh<t>|| for every value that one step hands to the next, in order of the layers; NaN where none was computed.

    Args:
        tape: on which a backward pass has run.
    """
    calls = Calls(tape)
    times = sorted({t for _, _, t in calls.place.values() if t is not None})
    runs = {part: tuple(times) for _, part, _ in calls.place.values()}
    found = hidden_states(calls, fold(calls, "op"), runs)
    names: dict[str, str] = {}
    for call, slot in calls.slot.items():
        names.setdefault(slot, re.sub(r"<\w+>", "", calls.entry[call].name or slot))
    curves = []
    for slot, grads in found.items():
        norms = np.full(times[-1] + 1, np.nan)
        for t, grad in grads.items():
            norms[t] = np.inf if grad.status == "nonfinite" else np.nan if grad.norm is None else grad.norm
        if not np.isnan(norms).all():
            unique = list(names.values()).count(names[slot]) == 1 or names[slot] == slot
            curves.append(Curve(names[slot] if unique else f"{names[slot]} ({slot})", norms))
    return curves


def _array(source: Source) -> Any:
    return None if isinstance(source, Tape) else source


def _curves(name: str, source: Source) -> list[Curve]:
    """The curves that a source gives: a tape's states, an array's own, none if it is a heatmap."""
    if isinstance(source, Tape):
        return [Curve(f"{name} {curve.name}".strip(), curve.norms) for curve in state_norms(source)]
    array = np.asarray(source, np.float64)
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ValueError(f"norms have shape (T,) or (T, T), not {array.shape}")
    return [Curve(name, array)] if array.ndim == 1 else []


def _plot_curves(axes: Any, curves: list[Curve]) -> None:
    """On a logarithmic scale; what has no place there (exactly 0, not finite) is marked at the lower and the upper edge."""
    for n, curve in enumerate(curves):
        look = {"color": LINES[n % len(LINES)], "marker": MARKERS[n % len(MARKERS)], "markersize": 4}
        steps = np.arange(len(curve.norms))
        plotted = np.where(np.isfinite(curve.norms) & (curve.norms > 0), curve.norms, np.nan)
        axes.plot(steps, plotted, label=curve.name or None, linewidth=1.4, **look)
        marks = ((curve.norms == 0, 0.02, "_", "exactly 0"), (np.isinf(curve.norms), 0.98, "x", "not finite"))
        for where, height, mark, said in marks:
            if where.any():
                label = f"{curve.name}: {said}".lstrip(": ")
                edge = axes.get_xaxis_transform()
                axes.plot(steps[where], np.full(where.sum(), height), mark, color=look["color"], transform=edge, label=label)
    axes.set_yscale("log")
    axes.set_xlabel("step t")
    axes.set_ylabel("gradient norm ‖∂L/∂state‖")
    axes.set_title("What reaches each step")
    axes.grid(True, color="#e5e9f1", linewidth=0.6)
    _style(axes)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize="small")


def _plot_maps(figure: Any, panels: list[Any], maps: dict[str, Array]) -> None:
    """Side by side, on one logarithmic scale: exact zeros white, what is not finite red."""
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    values = np.concatenate([array.ravel() for array in maps.values()])
    positive = values[np.isfinite(values) & (values > 0)]
    low, high = (positive.min(), positive.max()) if positive.size else (0.1, 1.0)
    colours = LinearSegmentedColormap.from_list("gradient", RAMP).with_extremes(bad="white")
    scale = LogNorm(low, high if high > low else low * 10)
    for axes, (name, array) in zip(panels, maps.items()):
        shown = np.ma.masked_where(~(np.isfinite(array) & (array > 0)), array)
        image = axes.imshow(shown, cmap=colours, norm=scale, interpolation="nearest", aspect="auto")
        rows, columns = np.nonzero(~np.isfinite(array))
        if rows.size:
            axes.plot(columns, rows, "x", color="#d1001f", markersize=4, label="not finite")
            axes.legend(frameon=False, fontsize="small")
        axes.set_xlabel("state at step s")
        axes.set_ylabel("loss at step t")
        axes.set_title(name or "From which loss to which step")
        _style(axes)
        _whole_numbers(axes.yaxis)
    figure.colorbar(image, ax=panels, label="‖∂L<t>/∂h<s>‖ (white: exactly 0)")


def _style(axes: Any) -> None:
    _whole_numbers(axes.xaxis)
    axes.tick_params(colors=FAINT)
    axes.title.set_color(INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _whole_numbers(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, nbins=8))
