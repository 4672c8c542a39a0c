"""Checking a tape against its own rules, for those who change the engine. Needs `sweep.py` and `recording.py`."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import numpy as np

from tinygrad_seq.errors import TapeError
from tinygrad_seq.explain import told
from tinygrad_seq.pullback import Pullback
from tinygrad_seq.reach import reachable
from tinygrad_seq.tape import Bundle, Leaf, Node, Output
from tinygrad_seq.tensor import Tensor


def check_tape(tape: Any) -> None:
    """Check that a tape keeps the rules on which the sweep relies.

    A node is younger than all that it was computed from (so there is no cycle, and serial numbers give a topological
    order); no two values have the same serial number; what a node was computed from is on the tape; a route leads from
    an input that exists, by a pullback of this operation, with values of the shapes that it was declared for; an output
    stands where its bundle says; only floating values require a gradient, and an operation's result only if an input
    does; a node that has been freed holds nothing.

    Args:
        tape: a `Tape`, or a tensor: then the nodes that led to it are checked.

    Raises:
        TapeError: the first rule that is broken, and by which entry.
    """
    if not isinstance(tape, Tensor) and not hasattr(tape, "nodes"):
        raise TypeError(f"check_tape takes a tape or a tensor, not {told(tape)}")
    nodes = list(_leading_to(tape)) if isinstance(tape, Tensor) else list(tape.nodes)
    known = set(nodes) | {node.bundle for node in nodes if isinstance(node, Output)}
    seen: dict[int, Node] = {}
    for node in sorted(known, key=attrgetter("serial")):
        for parent in node.sources:
            _require(parent.serial < node.serial, node, f"is not younger than {parent!r}, from which it was computed")
            _require(parent in known, node, f"was computed from {parent!r}, which is not on the tape")
        _require(seen.setdefault(node.serial, node) is node, node, f"has the serial number of {seen[node.serial]!r}")
        _check_kind(node)
        _check_routes(node)
        _check_gradient(node)


def _leading_to(tensor: Tensor) -> set[Node]:
    return set() if tensor.node is None else reachable([tensor.node], lambda node: node.sources)


def _check_gradient(node: Node) -> None:
    if not node.requires_grad:
        return
    _require(isinstance(node, Bundle) or node.dtype.kind == "f", node, f"requires a gradient, being {node.dtype}")
    earlier = isinstance(node, Leaf) or node.freed or any(parent.requires_grad for parent in node.parents)
    _require(earlier, node, "requires a gradient, but nothing that it was computed from does")


def _check_kind(node: Node) -> None:
    if isinstance(node, Leaf):
        _require(not node.inputs and not node.edges, node, "is a leaf and was computed from something")
        handle = node.handle()
        fits = handle is None or (handle.shape, handle.dtype) == (node.shape, node.dtype)
        _require(fits, node, f"is the leaf of a tensor that is now {handle.shape} {handle.dtype}" if handle is not None else "")
    elif isinstance(node, Output):
        told = [*zip(node.bundle.shapes, node.bundle.dtypes)][node.position : node.position + 1]
        _require(told == [(node.shape, node.dtype)], node, f"is output {node.position} of a bundle that says {told}")
    elif node.freed:
        _require(not len(node.saved) and not len(node.inputs), node, "has been freed and still holds something")


def _check_routes(node: Node) -> None:
    for i, _, _ in node.routes or ():
        _require(i < len(node.inputs) and isinstance(node.inputs[i], Node), node, f"has a route to input {i}, which is not there")
    for _, pullback, take in node.routes or ():
        _require(pullback.op == node.op, node, f"has a route through {pullback!r}")
        values = take(node.saved) if take else ()
        wanted = len(pullback.sources)
        _require(len(values) == wanted, node, f"saved {len(values)} of the {wanted} values that {pullback!r} names")
        for value, source in zip(values, pullback.sources):
            for part, shape in _expected(node, value, source):
                fits = np.shape(part) == shape
                _require(fits, node, f"saved shape {np.shape(part)} for {pullback!r} of a value of shape {shape}")


def _expected(node: Node, value: Any, source: int | None) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """(array, the shape that it was recorded with) for a saved value; nothing for one that is no array."""
    if source == Pullback.ALL_INPUTS:
        for i, part in enumerate(value):
            yield from _expected(node, part, i)
    elif source == Pullback.OUTPUT and isinstance(node, Bundle):
        yield from zip(value, node.shapes)
    elif source == Pullback.OUTPUT:
        yield value, node.shape
    elif source is not None and source < len(node.inputs) and isinstance(node.inputs[source], Node):
        yield value, node.inputs[source].shape


def _require(kept: bool, node: Node, problem: str) -> None:
    if not kept:
        raise TapeError(f"{node!r} {problem}")
