"""Which node of the graph is a state. Needs `tensor.py`; `bptt.py` and `vanishing.py` ask.

A recurrent network hands each state on to the next step, and gradients flow back along that way. What a layer gives out is
another value: all states, stacked. `outputs[t]` has the numbers of state t, but no step was computed from that slice, and
of all later losses nothing flows back to it. Who asks what arrives at `outputs[t]` means the state, and is told of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tinygrad_seq.errors import AutodiffError
from tinygrad_seq.explain import told
from tinygrad_seq.tape import Node, Output
from tinygrad_seq.tensor import Tensor

State = Any  # a tensor, or a tuple of them: an LSTM's (h, c)

PASS_ON = "pass the list of the states that the steps handed on"


def node_in_graph(tensor: Any) -> Node:
    """The node of a tensor that a gradient can reach; an AutodiffError for anything else."""
    if not isinstance(tensor, Tensor):
        raise AutodiffError(f"the gradient was asked for of {told(tensor)}, which is on no graph: a tensor is needed")
    return reached_by_gradients(tensor.node)


def reached_by_gradients(node: Any) -> Node:
    """A node, if a gradient can reach it; an AutodiffError for a constant, or for none."""
    if not isinstance(node, Node) or not node.requires_grad:
        raise AutodiffError("the gradient was asked for of something that requires none: a constant, or a detached state")
    return node


def nodes_of_states(states: Sequence[State]) -> list[tuple[Node, ...]]:
    """The nodes of each state: one, or for a tuple those of its parts. `states` may also be the array they were stacked in."""
    if isinstance(states, (Tensor, np.ndarray)):
        node = states.node if isinstance(states, Tensor) else None
        while node is not None and node.op == "swapaxes" and not node.freed:
            node = node.inputs[0]
        if node is None or node.op != "stack" or node.freed:
            raise AutodiffError(
                f"the states came as one array of shape {states.shape}, and no step was computed from its slices; {PASS_ON}"
            )
        return [(_before_padding(reached_by_gradients(state)),) for state in node.inputs]
    parts = [tuple(state) if isinstance(state, (tuple, list)) else (state,) for state in listed("states", states)]
    return [tuple([node_of_state(part) for part in of_step]) for of_step in parts]


def listed(name: str, values: Any) -> list[Any]:
    """Values by step as a list, so that they can be gone through twice; a TypeError for a single one, or a dict of several."""
    if isinstance(values, dict):
        raise TypeError(f'{name} are a list, one for each step, and not a dict; pass those of one name, such as values["h"]')
    if isinstance(values, str) or not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        raise TypeError(f"{name} are a list, one for each step, and not {told(values)}; put a single one in a list")
    return list(values)


def node_of_state(tensor: Any) -> Node:
    """The node of a state; of a slice of states that were stacked, as outputs[t] of a layer is, that of the state itself."""
    node = node_in_graph(tensor)
    array, axis, place = _slice_of(node)
    while array is not None and array.op == "swapaxes" and not array.freed:
        pair = [array.params[name] % len(array.shape) for name in ("axis1", "axis2")]
        axis = pair[1 - pair.index(axis)] if axis in pair else axis
        array = array.inputs[0]
    if array is None or array.op != "stack" or array.freed or (array.params or {}).get("axis", 0) % len(array.shape) != axis:
        return node
    state: Node = array.inputs[place]
    return _before_padding(state) if state.requires_grad else node


def _slice_of(node: Node) -> tuple[Node | None, int, int]:
    """(array, axis, place) of a node that is one slice of an array; None for an array, if it is not."""
    params, array = node.params or {}, node.inputs[0] if node.inputs else None
    if node.op == "unstack" and isinstance(node, Output) and array is not None:
        return array, params.get("axis", 0) % len(array.shape), node.position
    if node.op == "getitem" and array is not None:
        *before, place = index if isinstance(index := params["index"], tuple) and index else (index,)
        whole = all(isinstance(part, slice) and part == slice(None) for part in before)
        if whole and isinstance(place, (int, np.integer)) and not isinstance(place, bool):
            return array, len(before), int(place)
    return None, 0, 0


def _before_padding(node: Node) -> Node:
    """The state itself, if this is one with zeros in the place of a batch's finished rows (the scope says which are `valid`)."""
    if node.op != "where" or node.freed or "valid" not in node.scope.tags:
        return node
    state = node.inputs[1]
    return state if isinstance(state, Node) and state.requires_grad and state.shape == node.shape else node
