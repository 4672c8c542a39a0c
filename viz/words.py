"""What the numbers say, in words. Read me after `route.py`."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from tinygrad_seq.viz.graph import Edge, Grad, Graph, Node

BAR = 32  # characters


def caption(graph: Graph) -> str:
    """A few sentences for below the picture."""
    steps = sorted({t for column in graph.columns for t in column.times})
    time = f"{len(steps)} steps, " if len(steps) > 1 else "1 step, " if steps else ""
    said = f"{time}level {graph.level}, {len(graph.nodes)} nodes."
    said = said[0].upper() + said[1:]
    start = _last_window(graph)
    states = [state.since(start) for state in _states(graph)]
    states = [state for state in states if len(state.norms) > 1][:3]
    losses = {part: len([t for t in at if t >= start]) for part, at in _enters_at(graph).items()}
    flows = [_flow(state, losses.get(state.part, 0)) for state in states]
    if start and flows:
        flows[0] = f"In the last window, from t = {start} on: {flows[0][0].lower()}{flows[0][1:]}"
    return " ".join([said, *flows, *_together(states), *_folded(graph), *_cuts(graph)])


def _last_window(graph: Graph) -> int:
    """The step behind the last cut that no gradient gets across: what is said of a state's gradient is said from there on."""
    if not any(edge.cut for edge in graph.edges):
        return 0
    steps = sorted({t for column in graph.columns for t in column.times})
    crossed: set[int] = set()  # the steps that exchange gradient with the step before
    for edge in graph.edges:
        ends = _span(edge.source) + _span(edge.target)
        if edge.grad is not None and not edge.cut and len(ends) == 4:
            crossed.update(range(min(ends) + 1, max(ends) + 1))
    return max((t for t in steps[1:] if t not in crossed), default=0)


def _span(node: Node) -> tuple[int, ...]:
    """The first and the last step that a box is of; nothing, if it is outside of time."""
    return node.steps or (() if node.t is None else (node.t, node.t))


def _together(states: Sequence[_State]) -> list[str]:
    """What a norm of several states measures: more than an arrow carries, since one gets gradient by way of another."""
    if not any(", " in state.name for state in states):
        return []
    return ["That is all that reaches them, also one through the other; an arrow carries what one step hands another."]


def _folded(graph: Graph) -> list[str]:
    """What the arrows at a box of many steps carry, so that nobody compares them with those of one step."""
    hidden = [node for node in graph.nodes if node.slot == "elided" and node.steps is not None]
    shown = any(edge.grad is not None and edge.grad.norm and {edge.source, edge.target} & {*hidden} for edge in graph.edges)
    return ["Between folded steps and a weight or a loss, an arrow carries what all of them do together."] if shown else []


def _enters_at(graph: Graph) -> dict[str, set[int]]:
    """At which steps of each part gradient comes in from a loss: not from the next step, and not from a weight."""
    found: dict[str, set[int]] = defaultdict(set)
    for edge in graph.edges:
        if edge.grad is None or not edge.grad.norm or edge.source.column is None or edge.target.column is None:
            continue
        if graph.columns[edge.target.column].role == "after" or edge.target.kind == "loss":
            column = graph.columns[edge.source.column]
            if column.role in ("step", "elided"):  # where all steps are one box, nobody can tell at how many
                found[column.part].update(column.times)
    return found


def entering(losses: int) -> str:
    """That gradient comes in at several steps, so that a norm is no rest of what was there before."""
    return f"losses at {losses} steps bring gradient in on the way"


def _cuts(graph: Graph) -> list[str]:
    """Where the gradient is stopped on purpose, and how much that keeps away."""
    read = {edge.source for edge in graph.edges}
    cuts = [edge for edge in graph.edges if edge.cut and edge.target in read]  # behind the last one nothing is cut off
    if not cuts:
        return []
    where = "at a cut" if len(cuts) == 1 else f"at {len(cuts)} cuts"
    norms = sorted(edge.full.norm for edge in cuts if edge.full is not None and edge.full.norm)
    if not norms:
        return [f"The gradient stops {where}."]
    carried = f"{norms[0]:.2g}" if len(norms) == 1 else f"{norms[0]:.2g} to {norms[-1]:.2g}"
    return [f"The gradient stops {where}; full back-propagation through time would carry {carried} further."]


def alternative(graph: Graph) -> str:
    """The picture in words, for those who cannot see it."""
    kinds = sorted({edge.grad.status for edge in graph.edges if edge.grad is not None})
    shown = set(graph.steps)
    lines = [f"Computational graph over time. {caption(graph)}"]
    for state in _states(graph):
        if state.norms:
            times = sorted(shown & {*state.norms}) or sorted({min(state.norms), max(state.norms)})
            listed = ", ".join(f"t={t}: {state.norms[t]:.3g}" for t in times)
            lines.append(f"Gradient norm at {state.name}: {listed}.")
    if not kinds:
        lines.append("No backward pass has run.")
    if "nonfinite" in kinds:
        lines.append("Some gradients are not finite.")
    return " ".join(lines)


def strip(graph: Graph) -> str:
    """For a terminal: what is drawn; then a line for each step, with a bar for the gradient norm on a logarithmic scale."""
    shown: dict[int, list[Node]] = defaultdict(list)
    last: dict[int, Node] = {}
    left_out: dict[int, list[Node]] = defaultdict(list)  # by the step before
    for node in graph.nodes:
        if node.t is not None:
            last[node.t] = node
            shown[node.t] += [node] if node.carries else []
        elif node.steps is not None and node.slot == "elided":
            left_out[node.steps[0] - 1].append(node)
    low, high = scale(graph)
    lines = [_drawn(graph)]
    for t in graph.steps:
        parts = []
        for node in shown[t] or [last[t]]:
            norm = node.grad.norm
            bar = "█" * round(1 + (BAR - 1) * position(norm, low, high)) if norm else ""
            parts.append(f"{_plain(node.label)} {bar} {said(node)}")
        lines.append(f"t={t:<3} " + "  ".join(parts))
        for node in left_out[t]:
            assert node.steps is not None
            lines.append(f"t={node.steps[0]}…{node.steps[1]} " + " ".join(node.label.split("\n")[1:]))
    return "\n".join(lines)


def _drawn(graph: Graph) -> str:
    """The header: the level, the steps, how many boxes and arrows there are, and what a bar measures."""
    times = sorted({t for column in graph.columns for t in column.times})
    steps = f"steps {times[0]} to {times[-1]}" if len(times) > 1 else f"step {times[0]}" if times else "no steps"
    hidden = len(times) - len(graph.steps)
    steps += f" ({hidden} of them not one by one)" if hidden else ""
    back = sum(edge.grad is not None for edge in graph.edges)
    arrows = f"{_count(len(graph.edges), 'arrow')} forward, {back:,} back"
    said = f"level {graph.level}, {steps}, {_count(len(graph.nodes), 'box', 'boxes')}, {arrows}"
    if not any(drawn_norm(edge) for edge in graph.edges):
        return f"{said}; no gradient to measure"
    low, high = scale(graph)
    return f"{said}; bars: gradient norm ||dL/dvalue|| of the whole batch, on a log scale from {low:.2g} to {high:.2g}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def said(node: Node | Edge) -> str:
    """A gradient in words: its norm, where that is another one at each step from where to where it goes; or why there is none."""
    if isinstance(node, Edge) and node.norms is not None and by_steps(node):
        return f"{node.norms[0]:.2g} to {node.norms[1]:.2g}"
    return said_grad(node.grad)


def by_steps(edge: Edge) -> bool:
    """Whether an edge stands for several steps, each with a value of its own; what flows back to one value adds up instead."""
    return edge.norms is not None and len(edge.values) > 1


def drawn_norm(edge: Edge) -> float | None:
    """The norm by which an arrow has its colour and width: of an edge that stands for several steps, the largest of them."""
    if edge.norms is not None and by_steps(edge):
        return edge.norms[1]
    return None if edge.grad is None else edge.grad.norm


def said_grad(grad: Grad | None) -> str:
    """The same of a gradient by itself."""
    if grad is None or grad.status == "none":
        return "no gradient"
    words = {"zero": "exactly 0", "nonfinite": "not finite", "masked": "0, beyond the row's length"}
    return words.get(grad.status) or f"{grad.norm:.3g}"


def scale(graph: Graph) -> tuple[float, float]:
    """The smallest and the largest norm on the edges: the ends of the colour scale."""
    norms = [norm for edge in graph.edges if (norm := drawn_norm(edge))]
    return (min(norms), max(norms)) if norms else (1.0, 1.0)


def position(norm: float, low: float, high: float) -> float:
    """Where on the logarithmic scale a norm stands, from 0 to 1."""
    if high <= low:
        return 1.0
    share = (math.log10(norm) - math.log10(low)) / (math.log10(high) - math.log10(low))
    return min(max(share, 0.0), 1.0)


class _State(NamedTuple):
    """A state: its name, its part of the model, whether its steps run from the last to the first, its gradient norms by step."""

    name: str
    part: str
    reverse: bool
    norms: dict[int, float]

    def since(self, start: int) -> _State:
        """What is known of it from a step on."""
        return self._replace(norms={t: norm for t, norm in self.norms.items() if t >= start})


def _flow(state: _State, losses: int) -> str:
    """How the gradient norm at a state changes on its way back, and whether other steps bring gradient of their own meanwhile."""
    norms, first, last = state.norms, min(state.norms), max(state.norms)
    at = f"{state.name} together" if ", " in state.name else state.name
    if state.reverse:
        first, last = last, first
    rate = (norms[first] / norms[last]) ** (1 / abs(last - first))
    way = "Forward" if state.reverse else "Back"
    if f"{rate:.3f}" == "1.000" or f"{norms[first]:.2g}" == f"{norms[last]:.2g}":
        return f"{way} in time, the gradient norm at {at} stays at {norms[last]:.2g}."
    verb = "goes" if losses > 1 else "falls" if rate < 1 else "grows"
    change = f"{way} in time, the gradient norm at {at} {verb} from {norms[last]:.2g} to {norms[first]:.2g}"
    if losses > 1:  # then a norm says how much there is at a step, not what is left of what was
        return f"{change}, by a factor of {rate:.2f} per step on average; {entering(losses)}."
    lost = [t for t, norm in norms.items() if norm <= 0.05 * norms[last]]
    reached = f"; 95 % of it is lost by t = {min(lost) if state.reverse else max(lost)}" if lost else ""
    return f"{change}, by a factor of {rate:.2f} per step on average{reached}."


def _states(graph: Graph) -> list[_State]:
    """The states in order of their slots. Where two have the same name, the slot is said too."""
    found: dict[str, _State] = {}
    for node in graph.nodes:
        if node.carries and (node.t is not None or node.steps is not None):
            name = _plain(re.sub(r"<\w+>", "", node.label))
            part = "" if node.column is None else graph.columns[node.column].part
            state = found.setdefault(node.slot, _State(name, part, node.reverse, {}))
            if node.grad.norm and node.t is not None:
                state.norms[node.t] = node.grad.norm
    for slot, norms in graph.hidden.items():
        if slot in found:
            found[slot].norms.update({t: grad.norm for t, grad in norms.items() if grad.norm})
    twice = {name for name, n in Counter(state.name for state in found.values()).items() if n > 1}
    return [state._replace(name=f"{state.name} ({slot})") if state.name in twice else state for slot, state in found.items()]


def _plain(text: str) -> str:
    """A label within a line: no line breaks, no control characters."""
    return "".join(c if c.isprintable() else " " for c in text)
