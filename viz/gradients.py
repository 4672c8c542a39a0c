"""What flows back along the edges of a graph, as far as the tape has witnessed it. Read me beside `extract.py`.

The gradient of a node is that of the value it shows, the gradient of an edge is what flows along it: the terms that
reach a value along all its edges add up to the value's own. Nothing is computed here that the sweep did not compute.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tinygrad_seq.bptt import split_by_time
from tinygrad_seq.events import Event
from tinygrad_seq.sweep import term_of
from tinygrad_seq.tape import Edge as Way
from tinygrad_seq.tape import Output
from tinygrad_seq.viz.calls import Calls
from tinygrad_seq.viz.graph import NO_GRAD, Grad
from tinygrad_seq.viz.hoisted import Value

Link = Callable[[int, int], Hashable]
"""For two calls, one of which reads the other: the edge between their boxes, or None inside a box."""

Pair = tuple[int, Value, Value, int, Hashable]
"""A call, a value that it reads, what that stands for, the call of that, and the edge between their boxes."""

FEW = 6  # edges: for so many, what flows from an operation over all of time is asked for edge by edge

Terms = dict[tuple[int | None, Value], Any]
"""What flows along an edge: for each step at which it is read, and each value, the sum of the terms."""


class Gradients:
    """Norms of the cotangents that a tape has witnessed.

    Args:
        calls: of the tape.
        joined: whether a new state and the one that is kept where rows are over are one value; its gradient is what flows to
            either.
    """

    def __init__(self, calls: Calls, joined: bool = True) -> None:
        self._joined = joined
        self._calls = calls
        self._whole = calls.whole
        self._over_time = calls.over_time

    def values(self, held: Iterable[Value]) -> Grad:
        """Of the values that a node shows, together."""
        held = list(held)
        arrays = [self.value(value) for value in held]
        padded = any(self._calls.place[self._calls.call_of[value]] in self._calls.padding for value in held)
        return grad_of([array for array in arrays if array is not None], padded)

    def value(self, value: Value) -> Any:
        """The cotangent of one value, or None."""
        whole = self._whole[value[0]].grad
        new = self._calls.keeps.get(value[0]) if self._joined else None
        if new is not None and (at_new := self._whole[new].grad) is not None:
            over = ~np.asarray(self._whole[self._whole[value[0]].inputs[0]].value, bool)
            return at_new if whole is None else at_new + np.where(over, whole, 0)
        return None if whole is None else self._over_time.slice(whole, value)

    def edge(self, terms: Terms | None, padded: bool) -> Grad:
        """Of an edge: terms to the same value add up, whichever step reads it."""
        held: dict[Value, Any] = {}
        for (_, value), term in (terms or {}).items():
            held[value] = _sum(held[value], term) if value in held else term
        return grad_of(list(held.values()), padded)

    def edges(self, events: Iterable[Event], link: Link, each_step: bool) -> dict[Hashable, Terms]:
        """What flowed along each edge. Inside a box nothing is shown, so nothing is computed.

        Args:
            events: of the sweep.
            link: which edge the terms flow along.
            each_step: whether to keep what each step brings to an edge, and not only their sum.
        """
        calls, found = self._calls, dict[Hashable, Terms]()
        passed: dict[Any, Event] = {}
        index = {node: i for i, node in enumerate(self._whole.nodes)}
        for event in events:
            if event.index not in calls.entry or self._over_time.only_leads(event.index):
                continue
            passed[event.node] = event
            users = [calls.call_of[value] for value in self._over_time.values(event.index)]
            for way in event.edges:
                i = index.get(way[0], -1)
                pairs = [(user, *read, key) for user in users for read in calls.flows(user, i)
                         if (key := link(read[2], user)) is not None]  # fmt: skip
                if not pairs:
                    continue
                for (user, _, value, _, key), term in self._terms(event, way, i, pairs, each_step):
                    held = found.setdefault(key, {})
                    at = (calls.time[user] if each_step else None, value)
                    held[at] = _sum(held[at], term) if at in held else np.asarray(term)
        return {key: self._seen_through(terms, link, passed) for key, terms in found.items()}

    def _seen_through(self, terms: Terms, link: Link, passed: Mapping[Any, Event]) -> Terms:
        """The same terms, where one sees through what was read to another value: taken on to that one."""
        found: Terms = {}
        for (t, value), term in terms.items():
            call = self._calls.call_of[value]
            while (source := self._calls.hands_on.get(call)) is not None and link(source, call) is None:
                below = next(read for _, read, made_by in self._calls.reads[call] if made_by == source)
                further = self._through(value, below, term, passed)
                if further is None:
                    break
                value, term, call = below, further, source
            keeping = self._calls.kept_by.get(call)
            value = value if keeping is None or link(call, keeping) is not None else (keeping, None)
            found[t, value] = _sum(found[t, value], term) if (t, value) in found else term
        return found

    def _through(self, value: Value, below: Value, term: Any, passed: Mapping[Any, Event]) -> Any:
        """What a term of a value becomes where it reaches what the value was made of; None if no sweep went there."""
        node = self._whole[value[0]].node
        event = passed.get(node.bundle if isinstance(node, Output) else node)
        given = term
        if event is not None and isinstance(node, Output):
            given = [term if k == node.position else np.zeros_like(g) for k, g in enumerate(event.cotangent)]
        ways = [way for way in event.edges if way[0] is self._whole[below[0]].node] if event is not None else []
        found = None
        for way in ways:
            part = term_of(node.bundle if isinstance(node, Output) else node, given, way)
            found = part if found is None else _sum(found, part)
        return found

    def _terms(self, event: Event, way: Way, i: int, pairs: list[Pair], each_step: bool) -> Iterator[tuple[Pair, Any]]:
        """What flows along one way of an event, taken apart by step where the operation or what it read is."""
        axis = self._over_time.axis
        if event.index not in axis or (i in axis and not _mixes(pairs)):
            whole = term_of(event.node, event.given, way)
            yield from ((pair, self._over_time.slice(whole, pair[1])) for pair in pairs)
            return
        step_of = {self._calls.call_of[value]: value[1] or 0 for value in self._over_time.values(event.index)}
        edges: dict[Hashable, list[Pair]] = defaultdict(list)
        for pair in pairs:
            edges[pair if each_step or i in axis else pair[4]].append(pair)
        if len(edges) > FEW and not isinstance(event.cotangent, tuple):
            terms = split_by_time(event.node, event.cotangent, way, axis[event.index])
            yield from ((pair, self._over_time.slice(terms[step_of[pair[0]]], pair[1])) for pair in pairs)
            return
        for along in edges.values():
            term = self._part(event, way, sorted({step_of[pair[0]] for pair in along}))
            yield along[0], self._over_time.slice(term, along[0][1])

    def _part(self, event: Event, way: Way, steps: list[int]) -> Any:
        """What flows along one way of an operation over all of time from some of its steps: the others' cotangents are 0."""
        index: Any = (slice(None),) * self._over_time.axis[event.index] + (steps,)
        several = isinstance(event.cotangent, tuple)
        parts = []
        for g in event.cotangent if isinstance(event.cotangent, tuple) else (event.cotangent,):
            part = np.zeros_like(g)
            part[index] = g[index]
            parts.append(part)
        return term_of(event.node, parts if several else parts[0], way)


def _mixes(pairs: list[Pair]) -> bool:
    """Whether several steps of an operation read the same value."""
    return len({pair[:2] for pair in pairs}) > len({pair[1] for pair in pairs})


def _sum(a: Any, b: Any) -> Any:
    """Of two terms, which need not be finite: infinity less infinity is not a number, and drawn as such."""
    with np.errstate(all="ignore"):
        return a + b


def by_step(terms: Terms) -> dict[int | None, float]:
    """The norm of what flows along an edge at each step."""
    arrays: dict[int | None, list[Any]] = defaultdict(list)
    for (t, _), term in terms.items():
        arrays[t].append(term)
    return {t: norm_of(each) for t, each in arrays.items()}


def grad_of(arrays: list[Any], padded: bool = False) -> Grad:
    """Of arrays together; `padded` says that they belong to a step beyond every row's length."""
    if not arrays:
        return NO_GRAD
    norm = norm_of(arrays)
    if not math.isfinite(norm):
        return Grad("nonfinite", None)
    if norm:
        return Grad("finite", norm)
    return Grad("masked" if padded else "zero", 0.0)


def norm_of(arrays: list[Any]) -> float:
    """The Euclidean norm of all elements together. Scaled by the largest, so that tiny gradients do not vanish in it."""
    with np.errstate(all="ignore"):
        parts = [np.asarray(a, np.float64).ravel() for a in arrays]
        flat = parts[0] if len(parts) == 1 else np.concatenate(parts)
        largest = float(np.abs(flat).max(initial=0.0))
        if largest == 0.0 or not math.isfinite(largest):
            return largest
        scaled = flat / largest
        return largest * math.sqrt(float((scaled * scaled).sum()))
