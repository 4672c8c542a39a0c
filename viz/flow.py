"""Where the gradient goes, in plots. Read `states.py` before me; `spectra.py` and `gates.py` have panels of their own.

A figure is made of panels, each an answer to one question: what reaches each step (`norms`), from which loss (`flow`), by
which factors on the way (`eigenvalues`, `singular values`), through which gates (`gates`), along which way (`lane`). Where
several runs are compared, they share the scale of each panel. Needs matplotlib: `pip install tinygrad_seq[plot]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinygrad_seq.bptt import Jacobians
from tinygrad_seq.listing import Tape
from tinygrad_seq.viz import axes as look
from tinygrad_seq.viz import gates, spectra
from tinygrad_seq.viz.pen import INK
from tinygrad_seq.viz.states import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
Source = Tape | Jacobians | Array

PANEL = (4.4, 3.7)  # inches
ACROSS = 3  # panels side by side
SWEEPS = 50_000  # over one step: as many may a kind of panel cost, unless it is asked for


class Curve(NamedTuple):
    """A state's gradient norm by step; NaN where there is none."""

    name: str
    norms: Array


class Map(NamedTuple):
    """||dL<t>/dh<s>|| by loss and state."""

    name: str
    norms: Array


class Panel(NamedTuple):
    """A kind of panel: what it shows of a run, or of numbers that are given, and how.

    Attributes:
        measure: (name, source) -> the items to plot; none if the source does not have that.
        plot: (figure, axes, items), one axes for each item, or one for all of them.
        together: whether all items stand in one axes.
    """

    measure: Callable[[str, Any], list[Any]]
    plot: Callable[[Any, Sequence[Any], Sequence[Any]], None]
    together: bool = False


def gradient_flow(
    source: Source | Mapping[str, Source], title: str = "", panels: Sequence[str] | None = None
) -> Figure:
    """Plot how the gradient flows back through time.

    Args:
        source: what to plot. A recorded tape on which a backward pass has run has all panels; an array (T,) of norms has
            "norms", an array (T, T) of ||dL<t>/dh<s>||, as `tg.bptt.flow` gives it, "flow", and `tg.bptt.jacobians` the
            two of the spectra. A mapping from names to these compares them on one scale: `{"RNN": tape, "LSTM": other}`.
        title: above it all.
        panels: which of these to show; by default all that there are.

            - "norms": ||dL/dh<t>|| by step, a curve for each state of each layer.
            - "flow": the heatmap of ||dL<t>/dh<s>||, if there are losses at several steps.
            - "eigenvalues": those of the step Jacobians dh<t>/dh<t-1>, and of the recurrent weight itself, with the unit circle.
            - "singular values": of the step Jacobians, by step, beside those of the recurrent weight.
            - "gates": which share of each gate's units is nearly closed or nearly open.
            - "lane": how much of dc<T>/dc<t> went along the lane of c, as the product of its forget gates (or of a GRU's
              1 - u), and how much through the gates.

    Returns:
        A matplotlib figure that belongs to no window: `figure.savefig("flow.png")`. A notebook shows it.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: an unknown panel, an array of another shape, or nothing to plot: no backward pass has run, or there
            are no steps.
        AutodiffError: a step mixes the rows of the batch, so it has no Jacobian row by row; name other panels.

    Norms are over the whole batch. The spectra and the lane cost a sweep over one step for each unit of each step, the heatmap
    one for each pair of steps; what would cost more than 50,000 such sweeps is left out unless it is named.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("viz.gradient_flow needs matplotlib: pip install tinygrad_seq[plot]") from error
    if unknown := [name for name in panels or () if name not in PANELS]:
        raise ValueError(f"no panel {unknown[0]!r}; there are {', '.join(PANELS)}")
    named = source if isinstance(source, Mapping) else {"": source}
    swept = all(each.events for each in named.values() if isinstance(each, Tape))
    if not swept and not {"norms", "flow"}.isdisjoint(panels or PANELS):
        raise ValueError("no gradients to plot: no backward pass has run over the tape; call loss.backward()")
    runs = {name: Run(each) if isinstance(each, Tape) else _checked(each) for name, each in named.items()}
    wanted, left_out = _affordable(panels, runs)
    found = {kind: [(name, item) for name, run in runs.items() for item in PANELS[kind].measure(name, run)] for kind in wanted}
    found = {kind: items for kind, items in found.items() if items}
    if not found:
        raise ValueError("nothing to plot: nothing is handed from step to step here; give steps a scope: tg.scope(name, t=t)")
    rows = _rows(found, [*runs])
    across = max(len(row) for row in rows)
    figure = Figure(figsize=(PANEL[0] * max(across, 1), PANEL[1] * len(rows)), layout="constrained")
    _fill(figure, found, rows, across, wide=len(named) > 1)
    if left_out:
        figure.supxlabel(f"left out, at more than {SWEEPS:,} sweeps: {left_out}; panels= brings them", fontsize=8)
    if title:
        figure.suptitle(title, color=INK)
    return figure


def state_norms(tape: Tape) -> list[Curve]:
    """||dL/dh<t>|| for every value that one step hands to the next; NaN where none was computed.

    Args:
        tape: on which a backward pass has run.
    """
    run = Run(tape)
    return [curve for curve in (Curve(state.name, run.norms(state)) for state in run.states) if not np.isnan(curve.norms).all()]


# ---- which panels, and where ------------------------------------------------------------------------------------------


def _checked(source: Any) -> Any:
    """An array of norms as float64, or Jacobians."""
    if isinstance(source, Jacobians):
        return source
    array = np.asarray(source, np.float64)
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise ValueError(f"norms have shape (T,) or (T, T), not {array.shape}")
    return array


def _affordable(panels: Sequence[str] | None, runs: Mapping[str, Any]) -> tuple[list[str], str]:
    """The panels to measure, and in words those that would cost too much."""
    if panels is not None:
        return [*panels], ""
    recorded = [run for run in runs.values() if isinstance(run, Run)]
    spectra_, maps = sum(run.cost_of_jacobians for run in recorded), sum(run.cost_of_flow for run in recorded)
    costs = {"flow": maps, "eigenvalues": spectra_, "singular values": spectra_, "lane": spectra_}
    dear = [kind for kind, cost in costs.items() if cost > SWEEPS]
    return [kind for kind in PANELS if kind not in dear], ", ".join(dear)


Found = Mapping[str, Sequence[tuple[str, Any]]]  # for each kind of panel, its items with the names of their runs
Cell = tuple[str, int]  # a panel's kind, and which of its items it shows


def _rows(found: Found, names: Sequence[str]) -> list[list[Cell | None]]:
    """Which item stands where: of one run one after the other; of several, each kind has its row, each run its column."""
    if len(names) == 1:
        cells: list[Cell | None] = []
        for kind, items in found.items():
            cells += [(kind, n) for n in range(1 if PANELS[kind].together else len(items))]
        across = 2 if len(cells) == 4 else ACROSS
        return [cells[n : n + across] for n in range(0, len(cells), across)]
    rows: list[list[Cell | None]] = []
    for kind, items in found.items():
        owners = [name for name, _ in items]
        if PANELS[kind].together:
            rows.append([(kind, 0)])
        elif len(set(owners)) == len(owners):  # at most one of each: columns
            rows.append([(kind, owners.index(name)) if name in owners else None for name in names])
        else:
            rows += [[(kind, n) for n, owner in enumerate(owners) if owner == name] for name, _ in groupby(owners)]
    return rows


def _fill(figure: Any, found: Found, rows: Sequence[Sequence[Cell | None]], across: int, wide: bool) -> None:
    """Make the axes, and plot. With `wide`, a panel for all runs takes its whole row."""
    places = figure.add_gridspec(len(rows), across)
    axes_of: dict[Cell, Any] = {}
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            if cell is not None:
                whole_row = wide and PANELS[cell[0]].together
                axes_of[cell] = figure.add_subplot(places[y, :] if whole_row else places[y, x])
    for kind, items in found.items():
        panel = PANELS[kind]
        axes = [axes_of[kind, n] for n in range(1 if panel.together else len(items))]
        panel.plot(figure, axes, [item for _, item in items])


# ---- what reaches each step -------------------------------------------------------------------------------------------


def _curves(name: str, source: Any) -> list[Curve]:
    if isinstance(source, Run):
        return [curve._replace(name=f"{name} {curve.name}".strip()) for curve in state_norms(source.tape)]
    return [Curve(name, source)] if np.ndim(source) == 1 else []


def _plot_curves(figure: Any, panels: Sequence[Any], curves: Sequence[Curve]) -> None:
    """On a logarithmic scale; what has no place there (exactly 0, not finite) is marked at the lower and the upper edge."""
    (axes,) = panels
    edge = axes.get_xaxis_transform()
    for n, curve in enumerate(curves):
        shade, steps = look.look(n)["color"], np.arange(len(curve.norms))
        plotted = np.where(np.isfinite(curve.norms) & (curve.norms > 0), curve.norms, np.nan)
        axes.plot(steps, plotted, label=curve.name or None, **look.look(n))
        marks = ((curve.norms == 0, 0.02, "_", "exactly 0"), (np.isinf(curve.norms), 0.98, "x", "not finite"))
        for where, height, mark, said in marks:
            if where.any():
                label = f"{curve.name}: {said}".lstrip(": ")
                axes.plot(steps[where], np.full(where.sum(), height), mark, color=shade, transform=edge, label=label)
    scaled = np.concatenate([curve.norms[np.isfinite(curve.norms) & (curve.norms > 0)] for curve in curves])
    look.logarithmic(axes, *((scaled.min(), scaled.max()) if scaled.size else (1.0, 1.0)))
    sentences = [sentence for sentence in map(_falls, curves[:3]) if sentence]
    look.style(axes, "; ".join(sentences) or "What reaches each step", "step t", "gradient norm ‖∂L/∂state‖")
    look.whole_steps(axes.xaxis)
    look.grid(axes)
    look.legend(axes)


def _falls(curve: Curve) -> str:
    """How a curve goes on its way back, by its ends: "h: ×0.7 a step, 95 % lost by t = 31"."""
    steps = np.flatnonzero(np.isfinite(curve.norms) & (curve.norms > 0))
    if len(steps) < 2:
        return ""
    first, last = int(steps[0]), int(steps[-1])
    if curve.norms[first] > curve.norms[last] and "backward" in curve.name:
        first, last = last, first  # steps from the last to the first: its gradient goes forward in time
    rate = (curve.norms[first] / curve.norms[last]) ** (1 / abs(last - first))
    lost = steps[curve.norms[steps] <= 0.05 * curve.norms[last]]
    reached = f", 95 % lost by t = {max(lost) if first < last else min(lost)}" if len(lost) else ""
    return f"{curve.name or 'norm'}: ×{rate:.3g} a step{reached}"


# ---- from which loss --------------------------------------------------------------------------------------------------


def _maps(name: str, source: Any) -> list[Map]:
    if not isinstance(source, Run):
        return [Map(name, source)] if np.ndim(source) == 2 else []
    if len(source.losses) < 2:
        return []
    return [
        Map(f"{name} {cell}".strip() if name and len(source.cells) > 1 else name or cell, source.flow(group))
        for cell, group in source.cells.items()
    ]


def _plot_maps(figure: Any, panels: Sequence[Any], maps: Sequence[Map]) -> None:
    """On one logarithmic scale: exact zeros white, what is not finite red, what does not exist hatched."""
    from matplotlib.colors import LogNorm

    values = np.concatenate([each.norms.ravel() for each in maps])
    positive = values[np.isfinite(values) & (values > 0)]
    low, high = (positive.min(), positive.max()) if positive.size else (0.1, 1.0)
    scale = LogNorm(low, high if high > low else low * 10)
    for axes, (name, norms) in zip(panels, maps):
        shown = np.ma.masked_where(~(np.isfinite(norms) & (norms > 0)), norms)
        image = axes.imshow(shown, cmap=look.ramp(), norm=scale, interpolation="nearest", aspect="auto")
        rows, columns = np.nonzero(np.isinf(norms))
        if rows.size:
            axes.plot(columns, rows, "x", color=look.RED, markersize=4, label="not finite")
            look.legend(axes)
        for row in np.flatnonzero(np.isnan(norms).all(axis=1)):
            axes.axhspan(row - 0.5, row + 0.5, facecolor="none", edgecolor=look.GRID, hatch="///", linewidth=0)
        look.style(axes, f"{name}: {_reach(norms)}".lstrip(": "), "state at step s", "loss at step t")
        look.whole_steps(axes.xaxis, axes.yaxis)
    bar = figure.colorbar(image, ax=list(panels))
    bar.set_label("‖∂L<t>/∂h<s>‖ (white: exactly 0)", color=INK, fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _reach(norms: Array) -> str:
    """How far back the last loss is heard."""
    heard = norms[~np.isnan(norms).all(axis=1)]
    row = np.where(np.isfinite(heard[-1]), heard[-1], 0.0) if len(heard) else np.zeros(0)
    if not row.any():
        return "From which loss to which step"
    near = int(np.argmax(row))
    far = np.flatnonzero(row > 0.05 * row[near])
    t = int(np.flatnonzero(~np.isnan(norms).all(axis=1))[-1])
    edge = int(far[np.argmax(np.abs(far - near))])
    return f"the loss at t = {t} is heard (above 5 %) as far as s = {edge}"


# ---- all panels ---------------------------------------------------------------------------------------------------------

PANELS: dict[str, Panel] = {
    "norms": Panel(_curves, _plot_curves, together=True),
    "flow": Panel(_maps, _plot_maps),
    "eigenvalues": Panel(spectra.measure, spectra.plot_eigenvalues),
    "singular values": Panel(spectra.measure, spectra.plot_singular_values),
    "gates": Panel(gates.saturation, gates.plot_saturation),
    "lane": Panel(gates.lanes, gates.plot_lanes),
}
