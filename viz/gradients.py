"""What flows back along the edges of a graph, as far as the tape has witnessed it. Read me beside `extract.py`.

The gradient of a node is that of the value it shows, the gradient of an edge is what flows along it: the terms that
reach a value along all its edges add up to the value's own. Nothing is computed here that the sweep did not compute.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinygrad_seq.listing import Entry, Tape
from tinygrad_seq.sweep import term_of
from tinygrad_seq.viz.graph import NO_GRAD, Edge, Grad, Node


class Gradients:
    """Norms of the cotangents that a tape has witnessed."""

    def __init__(self, tape: Tape) -> None:
        self._whole = tape.whole
        self._events = tape.events

    def values(self, entries: list[Entry]) -> Grad:
        """Of the values that a node shows, together."""
        arrays = [entry.grad for entry in entries if entry.grad is not None]
        return _grad(arrays, entries)

    def edges(self, edges: dict[tuple[int, int], Edge], node_of: dict[int, Node]) -> None:
        """Of the edges: what flowed to the source's values through the target's. Terms to the same value add up."""
        if not self._events:
            return
        index = {node: i for i, node in enumerate(self._whole.nodes)}
        terms: dict[tuple[int, int], dict[int, Any]] = defaultdict(dict)
        for event in self._events:
            user = node_of[event.index]
            for way in event._edges:
                i = index.get(way[0], -1)
                if i in node_of and node_of[i] is not user:  # within a node nothing is shown, so nothing is computed
                    held, term = terms[id(node_of[i]), id(user)], term_of(event._node, event._given, way)
                    held[i] = held[i] + term if i in held else np.asarray(term)
        for key, edge in edges.items():
            ends = (self._whole[i] for i in (*edge.source.entries, *edge.target.entries))
            edge.grad = _grad(list(terms[key].values()), ends)


def _grad(arrays: list[Any], entries: Iterable[Entry]) -> Grad:
    """Of arrays that belong to these entries, together."""
    if not arrays:
        return NO_GRAD
    norm = norm_of(arrays)
    if not np.isfinite(norm):
        return Grad("nonfinite", None)
    if norm:
        return Grad("finite", norm)
    return Grad("masked" if any(map(_is_padding, entries)) else "zero", 0.0)


def norm_of(arrays: list[Any]) -> float:
    """The Euclidean norm of all elements together. Scaled by the largest, so that tiny gradients do not vanish in it."""
    with np.errstate(all="ignore"):
        flat = np.concatenate([np.asarray(a, np.float64).ravel() for a in arrays])
        largest = float(np.max(np.abs(flat), initial=0.0))
        if largest == 0.0 or not np.isfinite(largest):
            return largest
        return largest * float(np.sqrt(np.sum((flat / largest) ** 2)))


def _is_padding(entry: Entry) -> bool:
    """Whether the step lies beyond the length of every row."""
    valid = entry.tags.get("valid")
    return valid is not None and not np.any(valid)
