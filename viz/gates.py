"""Through which gates the gradient went. Panels of `flow.py`.

A sigmoid near 0 or 1, or a tanh near -1 or 1, has a derivative near 0: nothing is learned through it at that step. What a
forget gate near 1 does let pass is the gradient on the lane of c, which goes from step to step through no matrix at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_seq.listing import Entry
from tinygrad_seq.viz import axes as look
from tinygrad_seq.viz.fold import folds_into
from tinygrad_seq.viz.pen import INK
from tinygrad_seq.viz.states import Run, base_name

Array = np.ndarray[Any, Any]

SATURATED = {"sigmoid": (0.1, 0.9), "tanh": (-0.9, 0.9)}  # below the one and above the other the slope is below 0.19
LOW, HIGH = "#a05195", "#ff7c43"
ROW = 0.46  # how high the largest share of a gate's units is drawn,
FULL = (0.05, 0.1, 0.25, 0.5, 1.0)  # which is one of these


class Gate(NamedTuple):
    """Which share of a gate's units is nearly closed, and nearly open, at each step."""

    name: str
    steps: list[int]
    low: list[float]
    high: list[float]


class Gates(NamedTuple):
    """All gates of a run."""

    name: str
    gates: list[Gate]


class Lane(NamedTuple):
    """How dc<T>/dc<t> came about, by step t: its norm, that of the part along the lane, and of the rest.

    Attributes:
        share: of the whole that went along the lane from the first step on; the rest went through the gates.
    """

    name: str
    state: str
    steps: list[int]
    whole: Array
    along: Array
    through: Array
    share: float


# ---- gates that are nearly open or closed -----------------------------------------------------------------------------


def saturation(name: str, source: Any) -> list[Gates]:
    """The gates of a run: the sigmoids and tanhs of its steps, real rows only."""
    if not isinstance(source, Run):
        return []
    found: dict[tuple[str, str], dict[int, Entry]] = defaultdict(dict)
    for entry in source.tape:
        if entry.op in SATURATED and entry.t is not None:
            found[_label(entry), entry.op][entry.t] = entry
    gates = [_gate(label, steps) for (label, _), steps in found.items()]
    return [Gates(name, gates)] if gates else []


def _label(entry: Entry) -> str:
    """The gate's name, or its scope's, with layer, part and direction where there is more than one."""
    scope, tags = entry.node.scope, entry.tags
    within = folds_into(scope, "gate")  # "" for what stands in the cell itself
    of = base_name(Entry(entry._recording, entry.inputs[0]))
    label = base_name(entry) or (scope.part if within else f"{entry.op}({of})" if of else entry.op)
    label += f" (layer {tags['layer']})" if tags.get("layer") else ""
    return label + "".join(f" ({tags[tag]})" for tag in ("part", "direction") if tags.get(tag) not in (None, "", "forward"))


def _gate(label: str, steps: dict[int, Entry]) -> Gate:
    low, high, times = [], [], sorted(steps)
    for t in times:
        value, valid = steps[t].value, steps[t].tags.get("valid")
        assert value is not None, "a recording keeps values"
        real = value if valid is None or len(valid) != len(value) else value[np.asarray(valid)]
        below, above = SATURATED[steps[t].op]
        low.append(float((real < below).mean()) if real.size else 0.0)
        high.append(float((real > above).mean()) if real.size else 0.0)
    return Gate(label, times, low, high)


def plot_saturation(figure: Any, panels: Sequence[Any], runs: Sequence[Gates], everything: Sequence[Gates]) -> None:
    """A row for each gate: upwards the share that is nearly open, downwards the share that is nearly closed."""
    from matplotlib.patches import Patch

    most = max((share for run in everything for gate in run.gates for share in (*gate.low, *gate.high)), default=0.0)
    full = next(limit for limit in FULL if most <= limit)
    for axes, run in zip(panels, runs):
        for y, gate in enumerate(run.gates[::-1]):
            for share, sign, colour in ((gate.high, 1, HIGH), (gate.low, -1, LOW)):
                axes.bar(gate.steps, sign * ROW * np.array(share) / full, 1.0, y, color=colour, linewidth=0)
            axes.axhline(y, color=INK, linewidth=0.6)
        axes.set_yticks(range(len(run.gates)), [gate.name for gate in run.gates[::-1]])
        axes.set_ylim(-0.6, len(run.gates) - 0.4)
        title = f"{run.name}: {_most(run.gates)}".lstrip(": ")
        look.style(axes, title, "step t", f"share of units (half a row: {100 * full:.0f} %)" if axes is panels[0] else "")
        times = [t for gate in run.gates for t in gate.steps]
        look.in_time(axes, min(times), max(times))
    keys = [Patch(color=HIGH, label="up: over 0.9"), Patch(color=LOW, label="down: under 0.1 (tanh: under −0.9)")]
    look.key(figure, panels, keys)


def _most(gates: Sequence[Gate]) -> str:
    """The gate that is most saturated."""
    gate = max(gates, key=lambda each: float(np.mean(each.low) + np.mean(each.high)))
    share = np.mean(gate.low) + np.mean(gate.high)
    if share == 0:
        return "no unit is saturated at any step"
    if len(gates) == 1:
        return f"{100 * share:.0f} % of the units of {gate.name} are saturated on average"
    return f"{gate.name} is saturated most, {100 * share:.0f} % of its units on average"


# ---- the lane -----------------------------------------------------------------------------------------------------------


def lanes(name: str, source: Any) -> list[Lane]:
    """The states of a run that are handed on unit by unit: an LSTM's c, a GRU's state."""
    if not isinstance(source, Run):
        return []
    found = []
    for cell, group in source.cells.items():
        for state in group:
            factors, measured = source.lane(state), source.jacobians(group)
            if factors is not None and measured is not None:
                called = f"{name} {cell}".strip() if name and len(source.cells) > 1 else name or cell
                place = sum(source.width(other) for other in group[: group.index(state)])
                steps = [*state.entries]
                found.append(_apart(called, state.name, steps, factors, measured[1].matrices, place))
    return found


def _apart(name: str, state: str, steps: list[int], factors: Array, matrices: Array, place: int) -> Lane:
    """dc<T>/dc<t> as the product of all step Jacobians, and what of it is the product of the lane's factors."""
    count, rows, width = factors.shape
    size = matrices.shape[-1]
    product, lane = np.broadcast_to(np.eye(size), (rows, size, size)), np.ones((rows, width))
    block = slice(place, place + width)
    wholes, alongs = [np.broadcast_to(np.eye(width), (rows, width, width))], [lane]
    for k in reversed(range(count)):
        product, lane = product @ matrices[k].astype(np.float64), lane * factors[k]
        wholes.append(product[:, block, block])
        alongs.append(lane)
    whole, along = np.stack(wholes[::-1]), np.stack(alongs[::-1])  # (T, B, W, W), (T, B, W)
    straight = along[..., None] * np.eye(width)
    share = float((whole[0] * straight[0]).sum() / ((whole[0] ** 2).sum() or 1.0))
    size_whole, size_along, size_rest = (
        np.sqrt((part**2).sum(axis=(2, 3)).mean(axis=1) / width) for part in (whole, straight, whole - straight)
    )
    return Lane(name, state, steps, size_whole, size_along, size_rest, share)


def plot_lanes(figure: Any, panels: Sequence[Any], found: Sequence[Lane], everything: Sequence[Lane]) -> None:
    """Three curves on a logarithmic scale, shared by all runs."""
    sizes = np.concatenate([part for each in everything for part in (each.whole, each.along, each.through)])
    positive = sizes[np.isfinite(sizes) & (sizes > 1e-3 * min(each.whole.min() for each in everything))]
    for axes, each in zip(panels, found):
        count = len(each.steps)
        broad = {"color": look.LINES[0], "linewidth": 5, "alpha": 0.3, "solid_capstyle": "round"}  # under the others
        looks = (broad, look.look(1, count), look.look(2, count))
        labels = ("all of it", "along the lane (its gates' product)", "through the gates")
        for drawn, label, curve in zip(looks, labels, (each.whole, each.along, each.through)):
            axes.plot(each.steps, np.where(curve > 0, curve, np.nan), label=label, **drawn)
        look.logarithmic(axes, *((positive.min(), positive.max()) if positive.size else (1.0, 1.0)))
        state = each.state.partition(" ")[0]
        look.style(axes, f"{each.name}: {_ways(each)}".lstrip(": "), "step t", f"size of ∂{state}<{each.steps[-1]}>/∂{state}<t>")
        look.in_time(axes, min(each.steps), max(each.steps))
        look.grid(axes)
    look.key(figure, panels)


def _ways(lane: Lane) -> str:
    """How much went which way, in words."""
    state, share = lane.state.partition(" ")[0], round(100 * lane.share)
    whole = f"∂{state}<{lane.steps[-1]}>/∂{state}<{lane.steps[0]}>"
    if 0 <= share <= 100:
        return f"{share} % of {whole} came along the lane, {100 - share} % through the gates"
    against, other = ("lane", "gates") if share < 0 else ("gates", "lane")
    return f"what came along the {against} works against {whole}, which comes from the {other}"
