"""Back-propagation through time, looked at step by step. Needs `sweep.py`.

A recurrent network's gradients are sums over time. These functions take the sums apart again: what came through
which step (`weight_gradients`), what reached which state (`state_gradients`). They read the same sweep that
`backward()` drains, and change nothing: run them before `backward()`, or with `retain_graph=True`.

The other rooms of `tg.bptt` are `vanishing.py`, which measures what time does to a gradient (`flow`, `jacobians`,
`verdict`), and `truncated.py`, which goes back through long sequences in little memory (`Truncated`, `segments`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygrad_seq.dtypes import Array
from tinygrad_seq.over_time import axis_of_time, weights_alone
from tinygrad_seq.scopes import current, setting
from tinygrad_seq.states import State, listed, node_in_graph, nodes_of_states
from tinygrad_seq.sweep import Sweep, seed, sweeping, term_of, unbroadcast
from tinygrad_seq.tape import Bundle, Edge, Node, Output
from tinygrad_seq.tensor import Tensor
from tinygrad_seq.truncated import Truncated, Window, segments
from tinygrad_seq.vanishing import Jacobians, flow, jacobians, verdict

__all__ = [
    "weight_gradients", "state_gradients", "flow", "jacobians", "Jacobians", "verdict", "Truncated", "Window", "segments",
]  # fmt: skip

Parts = dict[int | None, Any]  # of a cotangent, by the step that they came through


def weight_gradients(loss: Tensor, weight: Tensor, gradient: Any = None) -> dict[int | None, Array]:
    """The gradient of a weight that all steps share, taken apart by step: dL/dW = sum over t of dL/dW<t>.

    Args:
        loss: a tensor whose graph has not been freed.
        weight: a leaf that the steps use, directly or through operations outside of time (a transpose, a split). Within
            a scope over all of time, other weights that it is multiplied with are told from data by being parameters.
        gradient: the cotangent of `loss`; 1, if it has a single element.

    Returns:
        For each step t in order, the part of the gradient that flows through operations of scope t, an array of the
        weight's shape. An operation over all of time at once (`scope(..., time_axis=0)`) counts for each step with
        that step's part. Under None, if there is any, what flows outside of time. The parts add up to `weight.grad`.
    """
    target = node_in_graph(weight)
    parts: dict[Node, Parts] = {node_in_graph(loss): {None: seed(loss, gradient)}}
    sweep = _sweep(loss, gradient, {target})
    timeless = weights_alone(sweep.nodes, target)
    for node, g in _steps(sweep):
        by_step = parts.pop(node, {})
        if node is target:
            return {t: np.array(by_step[t]) for t in sorted(by_step, key=lambda t: (t is None, t))}
        if node.scope.t is not None:
            by_step = {node.scope.t: g}
        axis = None if node in timeless else axis_of_time(node)
        for edge in _edges(node):
            if edge[0] not in sweep.live or _is_in_time(edge[0], timeless):
                continue  # a value in time is taken apart by its own step, when its turn comes
            held = parts.setdefault(edge[0], {})
            with _nothing_taped():
                terms = _terms(node, g, by_step, edge, axis)
            for t, term in terms:
                held[t] = _sum(held[t], term) if t in held else term
    return {}


def state_gradients(loss: Tensor, states: Sequence[State], gradient: Any = None) -> list[Any]:
    """dL/dh<t> for each of these states: all that flows back to it, of its shape; zero where nothing does.

    Args:
        loss: a tensor whose graph has not been freed.
        states: tensors that the loss was computed from, or tuples of them, an LSTM's (h, c). Slices of a layer's outputs,
            outputs[t], stand for the states that were stacked there, and so do the outputs.
        gradient: the cotangent of `loss`; 1, if it has a single element.

    Returns:
        An array for each state; a tuple of arrays for each that is a tuple.
    """
    states = states if isinstance(states, (Tensor, np.ndarray)) else listed("states", states)
    nodes = nodes_of_states(states)
    wanted = {node for parts in nodes for node in parts}
    found = {node: np.array(g) for node, g in _steps(_sweep(loss, gradient)) if node in wanted}
    gradients = [tuple([found[node] if node in found else np.zeros(node.shape, node.dtype) for node in parts]) for parts in nodes]
    return [parts if isinstance(state, (tuple, list)) else parts[0] for state, parts in zip(states, gradients)]


# ---- taking a sum apart -----------------------------------------------------------------------------------------------


def _is_in_time(node: Node, timeless: Collection[Node]) -> bool:
    return node not in timeless and (node.scope.t is not None or axis_of_time(node) is not None)


def _terms(node: Node, g: Any, by_step: Parts, edge: Edge, axis: int | None) -> list[tuple[int | None, Any]]:
    """What flows along one edge, step by step; `axis` is that of time, if the operation is over all of it."""
    if axis is not None:
        return list(enumerate(split_by_time(node, g, edge, axis), node.scope.steps_from))
    return [(t, _flow(node, part, edge)) for t, part in by_step.items()]


def split_by_time(node: Node, g: Any, edge: Edge, axis: int) -> list[Any]:
    """What flows along an edge of an operation over all of time, step by step: for a product, A[t]^T G[t].

    A pullback is linear in g, and here the steps do not mix, so it can be called on one step of g and of what was
    saved. Where that does not give the whole (the pullback knows shapes), g with all other steps set to zero does, more slowly.
    """
    steps = _one_of(g).shape[axis]
    whole = _flow(node, g, edge)
    try:
        with np.errstate(all="ignore"):
            terms = [_flow_of_slice(g, edge, axis, t) for t in range(steps)]
            tolerance = 1e3 * np.finfo(whole.dtype).eps * (np.abs(terms).sum(axis=0).max(initial=0.0) + 1e-30)
            if all(term.shape == whole.shape for term in terms) and np.allclose(sum(terms), whole, rtol=0, atol=tolerance):
                return terms
    except (ValueError, IndexError, TypeError):
        pass
    return [_flow(node, _alone(g, axis, t), edge) for t in range(steps)]


def _flow_of_slice(g: Any, edge: Edge, axis: int, t: int) -> Any:
    """What the pullback makes of step t: of g's slice, and of the slices of those saved values that are as long as time."""
    parent, pullback, values = edge
    like = _one_of(g)
    given = [value if source is None else _slice(value, like, axis, t) for value, source in zip(values, pullback.sources)]
    return unbroadcast(pullback.function(_slice(g, like, axis, t), *given), parent.shape)


def _slice(value: Any, like: Array, axis: int, t: int) -> Any:
    """Step t of a value that has time where `like` has it, counted from the last axis; any other (a weight) as it is."""
    if isinstance(value, list):  # the cotangents of several outputs
        return [None if part is None else _slice(part, like, axis, t) for part in value]
    place = axis - (like.ndim - getattr(value, "ndim", 0))
    if place < 0 or value.shape[place] != like.shape[axis]:
        return value
    return value[(slice(None),) * place + (slice(t, t + 1),)]


def _alone(g: Any, axis: int, t: int) -> Any:
    """A cotangent with zeros at all steps but t."""
    if isinstance(g, list):
        return [None if part is None else _alone(part, axis, t) for part in g]
    alone, place = np.zeros_like(g), (slice(None),) * axis + (t,)
    alone[place] = g[place]
    return alone


def _one_of(g: Any) -> Array:
    """A cotangent, or one of those of several outputs."""
    return next(part for part in g if part is not None) if isinstance(g, list) else g


def _flow(node: Node, g: Any, edge: Edge) -> Any:
    if isinstance(node, Output):  # to its place among the outputs of its call
        return [g if i == node.position else None for i in range(len(node.bundle.shapes))]
    if isinstance(node, Bundle):
        g = node.filled(g)
    return term_of(node, g, edge)


def _sum(a: Any, b: Any) -> Any:
    """The sum of two parts; of a call's outputs, each for itself, where None is nothing."""
    if isinstance(a, list):
        return [y if x is None else x if y is None else x + y for x, y in zip(a, b)]
    return a + b


def _edges(node: Node) -> list[Any]:
    """The edges of a node; an output's leads to what its call's outputs share."""
    return [(node.bundle, None, ())] if isinstance(node, Output) else node.edges


# ---- the sweep --------------------------------------------------------------------------------------------------------


def _sweep(loss: Tensor, gradient: Any, targets: set[Node] | None = None) -> Sweep:
    return Sweep({node_in_graph(loss): seed(loss, gradient)}, targets, careful=True, reread=True)


def _steps(sweep: Sweep) -> Iterator[tuple[Node, Any]]:
    """The steps of a sweep, each of them run with nothing taped."""
    steps = iter(sweep)
    while True:
        with _nothing_taped():
            step = next(steps, None)
        if step is None:
            return
        yield step


@contextmanager
def _nothing_taped() -> Iterator[None]:
    with setting(**sweeping(current(), False)), np.errstate(all="ignore"):
        yield
