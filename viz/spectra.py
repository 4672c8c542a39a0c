"""By which factors a gradient is multiplied at each step: the spectra of the step Jacobians. A panel of `flow.py`.

The largest singular value says how far one step can stretch a gradient, the eigenvalues how the same step, repeated, goes
on: inside the unit circle it dies, outside it grows (Pascanu, Mikolov & Bengio, 2013).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_seq.bptt import Jacobians
from tinygrad_seq.viz import axes as look
from tinygrad_seq.viz.pen import INK
from tinygrad_seq.viz.states import Run

Array = np.ndarray[Any, Any]
POINTS = 4_000  # more would hide each other


class Spectrum(NamedTuple):
    """The Jacobians of a cell's steps, and the matrices that it multiplies its state with.

    Attributes:
        whole: whether they are of all that steps hand on, so that their product is the derivative over several steps.
    """

    name: str
    steps: list[int]
    jacobians: Jacobians
    weights: list[Array]
    whole: bool


def measure(name: str, source: Any) -> list[Spectrum]:
    """The spectra of all cells of a run, or of Jacobians that are given."""
    if isinstance(source, Jacobians):
        return [Spectrum(name, [*range(1, len(source) + 1)], source, [], False)]
    if not isinstance(source, Run):
        return []
    found = []
    for cell, group in source.cells.items():
        measured = source.jacobians(group)
        if measured is not None:
            called = f"{name} {cell}".strip() if name and len(source.cells) > 1 else name or cell
            found.append(Spectrum(called, *measured, source.recurrent_weights(group), True))
    return found


def plot_eigenvalues(figure: Any, panels: Sequence[Any], spectra: Sequence[Spectrum], everything: Sequence[Spectrum]) -> None:
    """In the complex plane with the unit circle, coloured by step; the recurrent weight's own as crosses."""
    from matplotlib.colors import Normalize
    from matplotlib.patches import Circle

    points = [np.abs(each.jacobians.eigenvalues) for each in everything]
    points += [np.abs(np.linalg.eigvals(W)) for each in everything for W in each.weights]
    reach = 1.08 * max(1.0, *(np.nanmax(part, initial=0.0) for part in points))
    times = [t for each in everything for t in each.steps]
    scale = Normalize(min(times), max(times))
    for axes, each in zip(panels, spectra):
        axes.add_patch(Circle((0, 0), 1.0, facecolor="#f4f6fa", edgecolor=INK, linewidth=1.0, zorder=0))
        values, steps = _scattered(each)
        dots: dict[str, Any] = dict(c=steps, cmap=look.ramp(), norm=scale, s=7, alpha=0.75, linewidths=0)
        image = axes.scatter(values.real, values.imag, **dots)
        own = [np.linalg.eigvals(W) for W in each.weights]
        if own:
            together = np.concatenate(own)
            label = "W's own (of each gate's block)" if any(len(other.weights) > 1 for other in spectra) else "W's own"
            axes.scatter(together.real, together.imag, marker="x", s=26, color=INK, linewidths=0.9, label=label)
        axes.axhline(0, color=look.GRID, linewidth=0.6, zorder=0)
        axes.axvline(0, color=look.GRID, linewidth=0.6, zorder=0)
        radius = float(np.nanmean(each.jacobians.spectral_radius))
        beside = f", W's own within {_size(max(float(np.abs(part).max()) for part in own))}" if own else ""
        said = f"a step's eigenvalues lie within {_size(radius)} on average{beside}"
        look.style(axes, f"{each.name}: {said}".lstrip(": "), "real part", "imaginary part" if axes is panels[0] else "")
        _frame(axes, panels, reach)
    look.key(figure, panels)
    if scale.vmin < scale.vmax:
        bar = figure.colorbar(image, ax=list(panels), shrink=0.7)
        bar.solids.set(alpha=1)
        bar.set_label("step t", color=INK, fontsize=9)
        bar.ax.tick_params(labelsize=8)
        look.whole_steps(bar.ax.yaxis)


def _frame(axes: Any, panels: Sequence[Any], reach: float) -> None:
    """Equal units, as far as `reach`. Of several side by side each is as wide as its column, so that it stands below the panel
    above it; they share the height, or Matplotlib would take more of that instead of more width."""
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
    if axes is not panels[0]:
        axes.sharey(panels[0])
    axes.autoscale(len(panels) > 1, axis="x")
    axes.set_xlim(-reach, reach, auto=None)
    axes.set_aspect("equal", adjustable="datalim" if len(panels) > 1 else "box")


def _size(radius: float) -> str:
    return f"{radius:.2f}" if radius < 100 else f"{radius:.3g}"


def _scattered(each: Spectrum) -> tuple[Array, Array]:
    """The eigenvalues of the first rows of the batch and their steps, mixed: else the last steps would hide the first."""
    values = each.jacobians.eigenvalues
    values = values[:, : max(1, POINTS // values[:, 0].size)]
    steps = np.broadcast_to(np.array(each.steps)[:, None, None], values.shape)
    mixed = np.random.default_rng(0).permutation(values.size)
    return values.ravel()[mixed], steps.ravel()[mixed]


def plot_singular_values(figure: Any, panels: Sequence[Any], spectra: Sequence[Spectrum], everything: Sequence[Spectrum]) -> None:
    """By step: the largest and the spread of the others; 1 as a line, and the recurrent weight's own largest."""
    highest = max(float(np.nanmax(each.jacobians.singular_values, initial=1.0)) for each in everything)
    highest = max([highest, *(float(np.linalg.norm(W, 2)) for each in everything for W in each.weights)])
    for axes, each in zip(panels, spectra):
        values = np.nanmean(each.jacobians.singular_values, axis=1)  # (T-1, H), over the batch
        middle, count = np.median(values, axis=1), len(each.steps)
        axes.fill_between(each.steps, values[:, -1], values[:, 0], color="#dde7fb", label="from the smallest up", linewidth=0)
        axes.plot(each.steps, values[:, 0], label="largest", **look.look(0, count))
        axes.plot(each.steps, middle, label="median", **look.look(1, count))
        axes.axhline(1.0, color=INK, linewidth=1.0)
        own = max((float(np.linalg.norm(W, 2)) for W in each.weights), default=None)
        if own is not None:
            axes.axhline(own, color=look.LINES[2], linewidth=1.2, linestyle="--", label="W's own largest")
        axes.set_ylim(0, 1.08 * highest)
        ylabel = "singular values of the step's Jacobian" if axes is panels[0] else ""
        look.style(axes, f"{each.name}: {_stretches(each)}".lstrip(": "), "step t", ylabel)
        look.in_time(axes, min(each.steps), max(each.steps))
        look.grid(axes)
    look.key(figure, panels)


def _stretches(each: Spectrum) -> str:
    """How far a step can stretch a gradient, and how far all of them do, one after the other."""
    one = f"a step stretches a gradient {look.times(np.nanmax(each.jacobians.singular_values), 3)} at most"
    if not each.whole or len(each.steps) < 2:
        return one
    product = each.jacobians.matrices[0].astype(np.float64)
    with np.errstate(all="ignore"):
        for matrix in each.jacobians.matrices[1:]:
            product = matrix @ product
        finite = np.isfinite(product).all(axis=(1, 2))
        most = np.linalg.norm(product[finite], 2, axis=(1, 2)).max(initial=0.0)
    return f"{one}, all {len(each.steps)} together {look.times(most)}" if finite.any() else one
