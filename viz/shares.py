"""A weight's gradient, taken apart by step. Read me after `sums.py`.

All steps share a weight, and dL/dW is a sum over them. How much of it came through step t? The norms of the terms do not
add up to the norm of their sum. What does add up is how far each term goes in the direction of the whole:

    share<t> = <dL/dW<t>, dL/dW> / ||dL/dW||        the sum of share<t> over t = ||dL/dW||

A share is negative where a step pulls against the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinygrad_seq.bptt import split_by_time
from tinygrad_seq.events import Event
from tinygrad_seq.listing import Tape
from tinygrad_seq.over_time import axis_of_time, weights_alone
from tinygrad_seq.sweep import term_of
from tinygrad_seq.viz.gradients import norm_of
from tinygrad_seq.viz.graph import Graph, Node

if TYPE_CHECKING:
    from tinygrad_seq.viz.extract import Calls

Array = np.ndarray[Any, Any]
Step = tuple[str, int] | None
"""Part (encoder, decoder) and t; None outside of time."""


class Share(NamedTuple):
    """What one column gives to a weight's gradient.

    Attributes:
        column: index into the graph's columns; None for what flows outside of all of them.
        norm: of the column's own term. None if it is not finite.
        share: how much of the sum's norm it brings; the shares add up to that norm.
        total: the shares added up from the last column to this one, in the order of the backward pass.
        hides: how many steps the column stands for.
        largest: of these the one with the largest share, and that; None where there is one only.
    """

    column: int | None
    norm: float | None
    share: float | None
    total: float | None
    hides: int = 1
    largest: tuple[int, float] | None = None


class Shares(NamedTuple):
    """A weight's gradient by column, from left to right, and the norm of the sum."""

    weight: str
    label: str
    norm: float | None
    columns: list[Share]

    def data(self, graph: Graph) -> dict[str, Any]:
        """As plain data."""
        times = [None if share.column is None else graph.columns[share.column].t for share in self.columns]
        listed = [{"t": t} | share._asdict() for t, share in zip(times, self.columns)]
        return {"weight": self.weight, "norm": self.norm, "steps": listed}


def weight_shares(calls: Calls, graph: Graph, weights: Sequence[str] | None) -> list[Shares]:
    """The gradients of some weights by column.

    Args:
        calls: what the graph was made of; its tape has witnessed a backward pass, or there is nothing to take apart.
        graph: whose columns count.
        weights: labels or ids; None for one that is used at several steps: a matrix that is multiplied with a state
            if there is one, and of those the one with the largest gradient.

    Raises:
        ValueError: no such weight.
    """
    nodes = {calls.call_of[node.entries[0], None]: node for node in graph.nodes if node.kind == "weight"}
    known = {name for node in nodes.values() for name in (node.id, node.label, *node.names)}
    if unknown := [name for name in weights or () if name not in known]:
        raise ValueError(f"no weight {unknown[0]!r} in this drawing; there are {', '.join(sorted(known)) or 'none'}")
    if not calls.events:
        return []
    chosen = [call for call, node in nodes.items() if {node.id, node.label, *node.names} & set(weights or ())]
    if weights is None:
        shared = [call for call in nodes if len({calls.place[reader] for _, reader in calls.used_by[call]}) > 1]
        chosen = sorted(shared, key=lambda call: _rank(calls, nodes[call], call))[:1]
    column_of = {(column.part, t): i for i, column in enumerate(graph.columns) for t in column.times}
    for call in calls.order:  # an operation over all of time stands in the columns of what it belongs to
        if calls.is_step(call) and (calls.place[call][1], calls.time[call]) in column_of:
            column_of.setdefault((calls.tag(call), calls.time[call] or 0), column_of[calls.place[call][1], calls.time[call] or 0])
    outside = next((i for i, column in enumerate(graph.columns) if column.role == "before"), None)
    if outside is None and graph.columns and graph.columns[-1].role == "after":
        outside = len(graph.columns) - 1
    found = []
    for call in chosen:
        parts: dict[int | None, dict[Step, Array]] = defaultdict(dict)
        for step, part in by_step(calls.tape, nodes[call].entries[0], calls.events).items():
            parts[outside if step is None else column_of.get(step, outside)][step] = part
        if parts:
            found.append(shares(nodes[call].id, nodes[call].label, parts))
    return found


def _rank(calls: Calls, node: Node, weight: int) -> tuple[bool, bool, float]:
    """What makes a weight worth looking at: multiplied with what another step left, a matrix, a large gradient."""
    readers = [reader for _, reader in calls.used_by[weight]]
    cut_up = [reader for reader in readers if len(calls.reads[reader]) == 1]  # a weight that is split, or transposed, first
    readers += [r for reader in cut_up for _, r in calls.used_by[reader]]
    beside = [(_step_of(calls, reader), _step_of(calls, s)) for reader in readers for _, _, s in calls.reads[reader]]
    recurrent = any(here is not None and there is not None and here != there for here, there in beside)
    return not recurrent, len(node.shape) < 2, -(node.grad.norm or 0.0)


def _step_of(calls: Calls, call: int) -> Step:
    """Its part and step, also where that is not shown; None outside of time."""
    t = calls.time[call]
    return None if t is None else (calls.place[call][1], t)


def shares(weight: str, label: str, parts: Mapping[int | None, Mapping[Step, Array]]) -> Shares:
    """Norms and shares of the terms of a gradient, given by column and step.

    Example:
        >>> import numpy as np
        >>> whole = shares("W", "W", {0: {("", 0): np.array([1.0, 2.0])}, 1: {("", 1): np.array([3.0, -2.0])}})
        >>> whole.norm, [each.share for each in whole.columns], [each.total for each in whole.columns]
        (4.0, [1.0, 3.0], [4.0, 3.0])
    """
    flat = {
        column: np.sum([np.ravel(part) for part in terms.values()], axis=0, dtype=np.float64) for column, terms in parts.items()
    }
    order = sorted(flat, key=lambda column: (column is not None, column or 0))
    found: list[Share] = []
    total = 0.0
    with np.errstate(all="ignore"):
        whole = np.sum([flat[column] for column in order], axis=0)
        norm = norm_of([whole])
        for column in reversed(order):
            towards = whole / (norm or 1.0)
            share = float(flat[column] @ towards)
            total += share
            norms = [x if np.isfinite(x) else None for x in (norm_of([flat[column]]), share, total)]
            hides, largest = len(parts[column]), _largest(parts[column], towards)
            found.append(Share(column, norms[0], norms[1], norms[2], hides, largest))
    return Shares(weight, label, norm if np.isfinite(norm) else None, found[::-1])


def _largest(terms: Mapping[Step, Array], towards: Array) -> tuple[int, float] | None:
    """Of several steps the one that goes farthest in this direction, and how far."""
    if len(terms) < 2:
        return None
    far = {step[1]: float(np.ravel(term) @ towards) for step, term in terms.items() if step is not None}
    finite = {t: share for t, share in far.items() if np.isfinite(share)}
    return max(finite.items(), key=lambda each: each[1]) if finite else None


def by_step(tape: Tape, weight: int, events: Sequence[Event] | None = None) -> dict[Step, Array]:
    """The terms of a weight's gradient that the backward passes on a tape brought, by step: they add up to `W.grad`.

    Operations outside of time pass on what reached them (a transpose before the first step), and an operation over all
    of time at once is taken apart along its time axis.

    Args:
        tape: where the backward passes have been witnessed.
        weight: the index of a leaf.
        events: the tape's, if they are at hand.
    """
    whole = tape.whole
    nodes = whole.nodes
    number = {node: i for i, node in enumerate(nodes)}
    timeless = _timeless(whole, weight)
    parts: dict[int, dict[Step, Any]] = {weight: {}}
    for event in tape.events if events is None else events:
        for edge in event.edges:
            if number.get(edge[0]) in timeless:
                held = parts.setdefault(number[edge[0]], {})
                for step, term in _terms(event, edge, parts, event.index in timeless):
                    held[step] = held[step] + term if step in held else term
        for k in range(len(event.cotangent) if isinstance(event.cotangent, tuple) else 1):
            if event.index + k != weight:
                parts.pop(event.index + k, None)
    return parts[weight]


def _timeless(whole: Tape, weight: int) -> set[int]:
    """The weight, and what is made of it outside of time: the step of what flows back through there is not its own.

    What has time as an axis is left out: it is taken apart anew where it is passed, which costs no memory before.
    """
    alone = weights_alone(whole.nodes, whole[weight].node)
    found = {weight}
    for i, node in enumerate(whole.nodes):
        outside = node.scope.t is None and (node in alone or axis_of_time(node) is None)
        if outside and not found.isdisjoint(whole[i].inputs):
            found.add(i)
    return found


def _terms(event: Event, edge: Any, parts: dict[int, dict[Step, Any]], timeless: bool) -> list[tuple[Step, Any]]:
    """What flows along an edge of an operation, by step."""
    node, g = event.node, event.cotangent
    part = str(node.scope.tags.get("part", ""))
    if node.scope.t is not None:
        given: dict[Step, Any] = {(part, node.scope.t): g}
    elif isinstance(g, tuple):
        given = _outputs(g, [parts.get(event.index + k, {}) for k in range(len(g))])
    elif not timeless and (axis := axis_of_time(node)) is not None:
        return [((part, t), term) for t, term in enumerate(split_by_time(node, g, edge, axis), node.scope.steps_from)]
    else:
        given = parts.get(event.index) or {None: g}
    return [(step, term_of(node, list(each) if isinstance(each, tuple) else each, edge)) for step, each in given.items()]


def _outputs(g: tuple[Any, ...], arrived: Sequence[dict[Step, Any]]) -> dict[Step, Any]:
    """The cotangents of several outputs, by step: with zeros where nothing arrived."""
    steps = dict.fromkeys(step for output in arrived for step in output)
    each = {step: tuple(output.get(step, np.zeros_like(whole)) for output, whole in zip(arrived, g)) for step in steps}
    return each or {None: g}
