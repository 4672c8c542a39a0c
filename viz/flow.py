"""Where the gradient goes, in plots. Read `states.py` before me; `spectra.py` and `gates.py` have panels of their own.

A figure is made of panels, each an answer to one question: what reaches each step (`norms`), from which loss (`flow`), by
which factors on the way (`eigenvalues`, `singular values`), through which gates (`gates`), along which way (`lane`). Where
several runs are compared, they share the scale of each panel. Needs the extra `plot` (`pip install matplotlib`).
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
from tinygrad_seq.viz.words import entering

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
Source = Tape | Jacobians | Array

PANEL = (4.4, 3.7)  # inches
LOW = 3.0  # as high is a panel that takes a whole row
ACROSS = 3  # panels side by side
NAMED = 4  # curves that a title tells of
SWEEPS = 50_000  # over one step: as many may a kind of panel cost, unless it is asked for


class Curve(NamedTuple):
    """A state's gradient norm by step; NaN where there is none.

    Attributes:
        run: of which run, where several are compared.
        losses: at how many steps a loss brings gradient in; 0 where that is not known.
    """

    name: str
    norms: Array
    run: str = ""
    losses: int = 0


class Map(NamedTuple):
    """||dL<t>/dh<s>|| by loss and state."""

    name: str
    norms: Array


class Panel(NamedTuple):
    """A kind of panel: what it shows of a run, or of numbers that are given, and how.

    Attributes:
        measure: (name, source) -> the items to plot; none if the source does not have that.
        plot: (figure, axes, items, all items), one axes for each item, or one for all of them. The scale is that of all.
        together: whether all items stand in one axes.
    """

    measure: Callable[[str, Any], list[Any]]
    plot: Callable[[Any, Sequence[Any], Sequence[Any], Sequence[Any]], None]
    together: bool = False


def gradient_flow(source: Source | Mapping[str, Source], title: str = "", panels: Sequence[str] | None = None) -> Figure:
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
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise ImportError("viz.gradient_flow needs Matplotlib: pip install matplotlib") from error
    if unknown := [name for name in panels or () if name not in PANELS]:
        raise ValueError(f"no panel {unknown[0]!r}; there are {', '.join(PANELS)}")
    named = source if isinstance(source, Mapping) else {"": source}
    swept = all(each.events for each in named.values() if isinstance(each, Tape))
    if not swept and not {"norms", "flow"}.isdisjoint(panels or PANELS):
        raise ValueError(
            "no gradients to plot: the tape has seen no backward pass; run the forward pass under `with tg.record() as tape`, "
            "and call loss.backward()"
        )
    runs = {name: Run(each) if isinstance(each, Tape) else _checked(each) for name, each in named.items()}
    wanted, left_out = _affordable(panels, runs)
    found = {kind: [(name, item) for name, run in runs.items() for item in PANELS[kind].measure(name, run)] for kind in wanted}
    found = {kind: items for kind, items in found.items() if items}
    if not found:
        raise ValueError("nothing to plot: nothing is handed from step to step here; give steps a scope: tg.scope(name, t=t)")
    figure = Figure(layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
    _fill(figure, found, _rows(found, [*runs]))
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
    curves = [Curve(state.name, run.norms(state), losses=run.losses_beside(state)) for state in run.states]
    return [curve for curve in curves if not np.isnan(curve.norms).all()]


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
    """Which item stands where.

    If there is one panel of each kind, one after the other. Else each kind has a row, and where runs are compared each
    run a column; more than one panel of a run and of a kind stand side by side, in a row of their own.
    """
    counts = {kind: 1 if PANELS[kind].together else len(items) for kind, items in found.items()}
    if max(counts.values()) == 1 and len(names) == 1:
        cells: list[Cell | None] = [(kind, 0) for kind in found]
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
            by_owner = [[n for n, owner in enumerate(owners) if owner == name] for name, _ in groupby(owners)]
            rows += [[(kind, n) for n in own[k : k + ACROSS]] for own in by_owner for k in range(0, len(own), ACROSS)]
    return rows


def _fill(figure: Any, found: Found, rows: Sequence[Sequence[Cell | None]]) -> None:
    """Make the axes, and plot: rows of several kinds in one grid; a row of one kind is a figure of its own, with one key."""
    across = max(len(row) for row in rows)
    mixed = any(len({cell[0] for cell in row if cell}) > 1 for row in rows)
    high = [PANEL[1] if mixed or len(row) > 1 or across == 1 else LOW for row in rows]
    figure.set_size_inches(PANEL[0] * across, sum(high))
    if mixed:
        places = figure.add_gridspec(len(rows), across)
        cells = {cell: places[y, x] for y, row in enumerate(rows) for x, cell in enumerate(row) if cell}
        for (kind, n), place in cells.items():
            _plot(figure, kind, [figure.add_subplot(place)], found[kind], [n])
        return
    below = figure.subfigures(len(rows), 1, height_ratios=high, squeeze=False)[:, 0]
    for part, row in zip(below, rows):
        cells_ = {x: cell for x, cell in enumerate(row) if cell}
        kind = next(iter(cells_.values()))[0]
        alone = PANELS[kind].together or len(found[kind]) == 1
        places = part.add_gridspec(1, 1 if alone else across)
        axes = [part.add_subplot(places[0, 0 if alone else x]) for x in cells_]
        _plot(part, kind, axes, found[kind], [n for _, n in cells_.values()])


def _plot(figure: Any, kind: str, axes: Sequence[Any], named: Sequence[tuple[str, Any]], which: Sequence[int]) -> None:
    """Some items of a kind, or all of them where they stand together."""
    items = [item for _, item in named]
    shown = items if PANELS[kind].together else [items[n] for n in which]
    PANELS[kind].plot(figure, axes, shown, items)


# ---- what reaches each step -------------------------------------------------------------------------------------------


def _curves(name: str, source: Any) -> list[Curve]:
    if isinstance(source, Run):
        return [curve._replace(name=f"{name} {curve.name}".strip(), run=name) for curve in state_norms(source.tape)]
    return [Curve(name, source, name)] if np.ndim(source) == 1 else []


def _plot_curves(figure: Any, panels: Sequence[Any], curves: Sequence[Curve], everything: Sequence[Curve]) -> None:
    """On a logarithmic scale; what has no place there (exactly 0, not finite) is marked at the lower and the upper edge."""
    (axes,) = panels
    edge = axes.get_xaxis_transform()
    for curve, (shade, dash) in zip(curves, _looks(curves)):
        steps = np.arange(len(curve.norms))
        plotted = np.where(np.isfinite(curve.norms) & (curve.norms > 0), curve.norms, np.nan)
        drawn = look.look(shade, len(steps), dash)
        axes.plot(steps, plotted, label=curve.name or None, **drawn)
        marks = ((curve.norms == 0, 0.02, "_", "exactly 0"), (np.isinf(curve.norms), 0.98, "x", "not finite"))
        for where, height, mark, said in marks:
            if where.any():
                label = f"{curve.name}: {said}".lstrip(": ")
                axes.plot(steps[where], np.full(where.sum(), height), mark, color=drawn["color"], transform=edge, label=label)
    scaled = np.concatenate([curve.norms[np.isfinite(curve.norms) & (curve.norms > 0)] for curve in curves])
    look.logarithmic(axes, *((scaled.min(), scaled.max()) if scaled.size else (1.0, 1.0)))
    look.style(axes, _changes(curves), "step t", "gradient norm ‖∂L/∂state‖")
    look.in_time(axes, 0, max(len(curve.norms) for curve in curves) - 1)
    look.grid(axes)
    beside: dict[str, Any] = dict(loc="center left", bbox_to_anchor=(1.0, 0.5)) if look.is_a_row(axes) else {}
    if len(axes.get_lines()) > 1:
        look.legend(axes, **beside)


def _looks(curves: Sequence[Curve]) -> list[tuple[int, int]]:
    """(colour, dashes) of each curve: where runs are compared, each has its colour, and its states have other dashes."""
    runs = list(dict.fromkeys(curve.run for curve in curves))
    if len(runs) == 1:
        return [(n, 0) for n in range(len(curves))]
    seen = [[other.run for other in curves[:n]].count(curve.run) for n, curve in enumerate(curves)]
    return [(runs.index(curve.run), before) for curve, before in zip(curves, seen)]


def _changes(curves: Sequence[Curve]) -> str:
    """How the gradient changes on its way back, in words."""
    ends = {curve.name: _ends(curve) for curve in curves[:NAMED]}
    told = {name: found for name, found in ends.items() if found}
    if len(curves) == 1:
        return f"the gradient {f'of {curves[0].name} ' if curves[0].name else ''}{_goes(curves[0])}"
    if not told:
        return "what reaches each step"
    rest = ", …" * (len(curves) > NAMED)
    if len({found[:2] for found in told.values()}) > 1:
        said = "; ".join(f"{name} from t = {near} to t = {far} {look.times(by)}" for name, (near, far, by) in told.items())
        return said + rest + _entering(curves)
    near, far, _ = next(iter(told.values()))
    changed = ", ".join(f"{name} {look.times(change)}" for name, (_, _, change) in told.items())
    return f"the gradient on its way back from t = {near} to t = {far}: {changed}{rest}{_entering(curves)}"


def _entering(curves: Sequence[Curve]) -> str:
    """At how many steps losses bring gradient in, where it is several: at those of which runs, where they differ in that."""
    told: dict[int, list[str]] = {}
    for curve in curves:
        told.setdefault(curve.losses, []).append(curve.name)
    whose = {losses: f" of {', '.join(names)}" if len(told) > 1 else "" for losses, names in told.items() if losses > 1}
    return "".join(f"; {entering(losses)}{of}" for losses, of in whose.items())


def _goes(curve: Curve) -> str:
    """What becomes of a curve on its way back."""
    gone = _gone(curve)
    found = _ends(curve)
    if found is None:
        return f"is {gone}" if gone else "reaches one step"
    near, far, change = found
    rate = change ** (1 / abs(far - near))
    if curve.losses > 1:  # then a norm says how much there is at a step, not what is left of what was
        ends = f"from {curve.norms[near]:.2g} to {curve.norms[far]:.2g}"
        ending = f"; it is {gone}" if gone else ""
        return f"goes {ends}, {look.times(rate, 3)} with each step back; {entering(curve.losses)}{ending}"
    word = "stays about level" if abs(rate - 1) < 0.02 else "grows" if rate > 1 else "shrinks"
    ending = f"; it is {gone}" if gone else _lost(curve, near, far)
    return f"{word}, {look.times(rate, 3)} with each step back{ending}"


def _gone(curve: Curve) -> str:
    """From which step on, going back, a curve has no place on a logarithmic scale."""
    steps = np.flatnonzero(~np.isnan(curve.norms))
    way = steps if "backward" in curve.name else steps[::-1]
    for said, lost in (("not finite", np.isinf(curve.norms)), ("exactly 0", curve.norms == 0)):
        kept = np.flatnonzero(~lost[way])
        after = way[kept[-1] + 1 :] if len(kept) else way
        if len(after):
            return f"{said} from t = {after[0]} back" if len(kept) else f"{said} at every step"
    return ""


def _ends(curve: Curve) -> tuple[int, int, float] | None:
    """Where a curve begins and ends on its way back, and what it has been multiplied by there."""
    steps = np.flatnonzero(np.isfinite(curve.norms) & (curve.norms > 0))
    if len(steps) < 2:
        return None
    far, near = int(steps[0]), int(steps[-1])
    if "backward" in curve.name:
        far, near = near, far  # steps from the last to the first: its gradient goes forward in time
    return near, far, float(curve.norms[far] / curve.norms[near])


def _lost(curve: Curve, near: int, far: int) -> str:
    """The step from which on all the way back less than 5 % of the first norm is left."""
    way = range(near, far, 1 if far > near else -1)
    heard = [t for t in [*way, far] if curve.norms[t] > 0.05 * curve.norms[near]]
    if not heard or heard[-1] == far:
        return ""
    return f"; 95 % is lost by t = {heard[-1] + (1 if far > near else -1)}"


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


def _plot_maps(figure: Any, panels: Sequence[Any], maps: Sequence[Map], everything: Sequence[Map]) -> None:
    """On one logarithmic scale: exact zeros white, what is not finite red, what does not exist hatched."""
    from matplotlib.colors import ListedColormap, LogNorm
    from matplotlib.patches import Patch

    values = np.concatenate([each.norms.ravel() for each in everything])
    positive = values[np.isfinite(values) & (values > 0)]
    low, high = (positive.min(), positive.max()) if positive.size else (0.1, 1.0)
    scale = LogNorm(low, high if high > low else low * 10)
    hatched = False
    for axes, (name, norms) in zip(panels, maps):
        shown = np.ma.masked_where(~(np.isfinite(norms) & (norms > 0)), norms)
        image = axes.imshow(shown, cmap=look.ramp(), norm=scale, interpolation="nearest", aspect="auto")
        without = np.isnan(norms).all(axis=1, keepdims=True)
        broken = ~np.isfinite(norms) & ~without
        if broken.any():
            lost = np.ma.masked_where(~broken, np.ones(norms.shape))
            axes.imshow(lost, cmap=ListedColormap([look.RED]), interpolation="nearest", aspect="auto")
            look.legend(axes, handles=[Patch(color=look.RED, label="not finite")], loc="upper right")
        for row in np.flatnonzero(without):
            axes.axhspan(row - 0.5, row + 0.5, facecolor="none", edgecolor=look.HATCH, hatch="////", linewidth=0)
            hatched = True
        ylabel = "loss at step t" if axes is panels[0] else ""
        look.style(axes, f"{name}: {_reach(norms)}".lstrip(": "), "state at step s", ylabel)
        look.whole_steps(axes.xaxis, axes.yaxis)
    bar = figure.colorbar(image, ax=list(panels))
    bar.set_label("‖∂L<t>/∂state<s>‖ (white: 0" + "; hatched: no loss" * hatched + ")", color=INK, fontsize=9)
    bar.ax.tick_params(labelsize=8, which="both")


def _reach(norms: Array) -> str:
    """How far back a loss is heard: of those that reach the most states, the last; and at how many steps there is one."""
    positive: Array = np.isfinite(norms) & (norms > 0)
    counts = positive.sum(axis=1)
    if counts.max(initial=0) < 2:
        return "no loss reaches another step"
    t = int(np.flatnonzero(counts == counts.max())[-1])
    reached = np.flatnonzero(positive[t])
    way = reached[np.argsort(np.abs(reached - t), kind="stable")]  # from the nearest to the farthest
    left = norms[t, way] / norms[t, way[0]]
    heard = np.flatnonzero(left > 0.05)[-1]
    near, far = int(way[0]), int(way[-1])
    losses = int((~np.isnan(norms).all(axis=1)).sum())
    several, one = (f"losses at {losses} steps; ", "one") if losses > 1 else ("", "loss")
    if heard + 1 < len(way):
        return f"{several}of the {one} at t = {t}, less than 5 % reaches farther than s = {way[heard]}"
    amount = f"{100 * left[-1]:.0f} % arrives" if left[-1] < 1 else f"{look.times(left[-1])} as much arrives"
    return f"{several}of what the {one} at t = {t} brings to s = {near}, {amount} at s = {far}"


# ---- all panels ---------------------------------------------------------------------------------------------------------

PANELS: dict[str, Panel] = {
    "norms": Panel(_curves, _plot_curves, together=True),
    "flow": Panel(_maps, _plot_maps),
    "eigenvalues": Panel(spectra.measure, spectra.plot_eigenvalues),
    "singular values": Panel(spectra.measure, spectra.plot_singular_values),
    "gates": Panel(gates.saturation, gates.plot_saturation),
    "lane": Panel(gates.lanes, gates.plot_lanes),
}
