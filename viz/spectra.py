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
    """The Jacobians of a cell's steps, and the matrices that it multiplies its state with."""

    name: str
    steps: list[int]
    jacobians: Jacobians
    weights: list[Array]


def measure(name: str, source: Any) -> list[Spectrum]:
    """The spectra of all cells of a run, or of Jacobians that are given."""
    if isinstance(source, Jacobians):
        return [Spectrum(name, [*range(1, len(source) + 1)], source, [])]
    if not isinstance(source, Run):
        return []
    found = []
    for cell, group in source.cells.items():
        measured = source.jacobians(group)
        if measured is not None:
            called = f"{name} {cell}".strip() if name and len(source.cells) > 1 else name or cell
            found.append(Spectrum(called, *measured, source.recurrent_weights(group)))
    return found


def plot_eigenvalues(figure: Any, panels: Sequence[Any], spectra: Sequence[Spectrum]) -> None:
    """In the complex plane with the unit circle, coloured by step; the recurrent weight's own as crosses."""
    from matplotlib.patches import Circle

    points = [np.abs(each.jacobians.eigenvalues) for each in spectra]
    points += [np.abs(np.linalg.eigvals(W)) for each in spectra for W in each.weights]
    reach = 1.08 * max(1.0, *(np.nanmax(part, initial=0.0) for part in points))
    for axes, each in zip(panels, spectra):
        axes.add_patch(Circle((0, 0), 1.0, facecolor="#f4f6fa", edgecolor=INK, linewidth=1.0, zorder=0))
        values = each.jacobians.eigenvalues
        values = values[:, : max(1, POINTS // values[:, 0].size)]  # the first rows of the batch
        steps = np.broadcast_to(np.array(each.steps)[:, None, None], values.shape)
        dots: dict[str, Any] = dict(c=steps.ravel(), cmap=look.ramp(), s=7, alpha=0.75, linewidths=0)
        image = axes.scatter(values.real.ravel(), values.imag.ravel(), **dots)
        own = [np.linalg.eigvals(W) for W in each.weights]
        if own:
            together = np.concatenate(own)
            label = "W's own" if len(own) == 1 else f"W's {len(own)} blocks"
            axes.scatter(together.real, together.imag, marker="x", s=26, color=INK, linewidths=0.9, label=label)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        axes.axhline(0, color=look.GRID, linewidth=0.6, zorder=0)
        axes.axvline(0, color=look.GRID, linewidth=0.6, zorder=0)
        radius = np.nanmean(each.jacobians.spectral_radius)
        beside = f", W's {max(np.abs(part).max() for part in own):.2f}" if own else ""
        said = f"eigenvalues of the steps: radius {radius:.2f} on average{beside}"
        look.style(axes, f"{each.name}: {said}".lstrip(": "), "real part", "imaginary part")
        look.legend(axes, loc="lower right", borderaxespad=0.0, handletextpad=0.0)
        bar = figure.colorbar(image, ax=axes, shrink=0.7)
        bar.set_label("step t", color=INK, fontsize=9)
        bar.ax.tick_params(labelsize=8)
        look.whole_steps(bar.ax.yaxis)


def plot_singular_values(figure: Any, panels: Sequence[Any], spectra: Sequence[Spectrum]) -> None:
    """By step: the largest and the spread of the others; 1 as a line, and the recurrent weight's own largest."""
    highest = max(float(np.nanmax(each.jacobians.singular_values, initial=1.0)) for each in spectra)
    highest = max([highest, *(float(np.linalg.norm(W, 2)) for each in spectra for W in each.weights)])
    for axes, each in zip(panels, spectra):
        values = np.nanmean(each.jacobians.singular_values, axis=1)  # (T-1, H), over the batch
        middle = np.median(values, axis=1)
        axes.fill_between(each.steps, values[:, -1], values[:, 0], color="#dde7fb", label="from the smallest up", linewidth=0)
        axes.plot(each.steps, values[:, 0], label="largest", **look.look(0))
        axes.plot(each.steps, middle, label="median", **look.look(1))
        axes.axhline(1.0, color=INK, linewidth=1.0)
        own = max((float(np.linalg.norm(W, 2)) for W in each.weights), default=None)
        if own is not None:
            axes.axhline(own, color=look.LINES[2], linewidth=1.2, linestyle="--", label=f"W's largest, {own:.2f}")
        axes.set_ylim(0, 1.08 * highest)
        with np.errstate(divide="ignore"):
            typical = float(np.exp(np.nanmean(np.log(each.jacobians.singular_values[..., 0]))))
        verdict = "so it must vanish" if typical < 1 else "so it may grow"
        said = f"a step stretches a gradient ×{typical:.3g} at most, {verdict}"
        look.style(axes, f"{each.name}: {said}".lstrip(": "), "step t", "singular values of the step's Jacobian")
        look.whole_steps(axes.xaxis)
        look.grid(axes)
        look.legend_below(axes)
