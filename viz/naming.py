"""Labels that are told apart. Read me after `boxes.py`.

A label is what a value is called where it is made: `b` in a cell, `b` in the readout. In one picture both stand side by side,
and "b.grad 0.03" does not say whose. So where two different things have the same label, each says where it belongs, as shortly
as will do: the direction as an arrow and the layer in brackets, above the line like the step (h→<3>, h[1]<3>); what is left by
the first parts of its path that the other does not share (encoder.W_h, decoder.W_h). What stands in different parts of a
model, under headers that say so, is not confused; and one array that is read twice is one thing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from tinygrad_seq.scopes import Scope
from tinygrad_seq.viz.calls import REVERSE, Calls
from tinygrad_seq.viz.graph import Graph, Node
from tinygrad_seq.viz.hoisted import Value

NAMED = ("weight", "input", "state", "cell", "gate")  # kinds of boxes whose label is a name
STEP = re.compile(r"(?:<\w+>)?$")


class Home(NamedTuple):
    """Where a thing belongs: the scopes around it, its layer and direction; what several readers do not agree on is not known."""

    path: tuple[str, ...]
    layer: object
    direction: str

    @property
    def marks(self) -> tuple[str, str]:
        """Direction and layer as a label shows them."""
        arrow = "" if not self.direction else "←" if self.direction in REVERSE else "→"
        return arrow, "" if self.layer is None else f"[{self.layer}]"


def name_apart(calls: Calls, graph: Graph, shown: Mapping[Node, Sequence[Value]]) -> None:
    """Change the labels of a graph's boxes where different things would have the same.

    Args:
        calls: what the graph was made of.
        graph: whose nodes to look at.
        shown: the values that each node shows.
    """
    alike: dict[tuple[str, str, str], list[Node]] = defaultdict(list)
    for node in graph.nodes:
        if node.kind in NAMED and node.calls and (node.names or node.given or node.kind != "state"):  # no sign, as `+`
            part = "" if node.column is None else graph.columns[node.column].part
            alike[part, node.kind, node.label].append(node)
    prefixes: dict[tuple[str, ...], int] = defaultdict(int)  # of a module: how many parts of its path its weights show
    homes: dict[Node, Home] = {}
    marked: list[tuple[Node, str, str]] = []
    for nodes in alike.values():
        if len(nodes) < 2 or not _differ(calls, nodes, shown):
            continue
        own = {node: home_of(calls, node, shown.get(node, ())) for node in nodes}
        homes |= own
        needed = _needed([home.path for home in own.values()])
        several: dict[tuple[tuple[str, ...], str], list[Node]] = defaultdict(list)
        for node, home in own.items():
            others = [other for each, other in own.items() if each is not node and other.path == home.path]
            marks = "".join(mark for n, mark in enumerate(home.marks) if any(other.marks[n] != mark for other in others))
            several[home.path, marks].append(node)
        for (path, marks), same in several.items():
            prefixes[path] = max(prefixes[path], needed[path]) if same[0].kind == "weight" else prefixes[path]
            for n, node in enumerate(same, 1):
                number = f"{n}." if len(same) > 1 else ""
                before = "" if node.kind == "weight" else "".join(f"{part}." for part in path[: needed[path]])
                marked.append((node, before + number, marks))
    for node, before, marks in marked:
        node.label = _written(node.label, before, marks)
    for node in graph.nodes:  # one weight of a module says whose it is: then all do
        if node.kind == "weight" and prefixes:
            path = (homes.get(node) or home_of(calls, node, ())).path
            node.label = "".join(f"{part}." for part in path[: prefixes.get(path, 0)]) + node.label


def home_of(calls: Calls, node: Node, values: Sequence[Value]) -> Home:
    """Where a box belongs: where what it shows was made, or, if nothing on the tape made it, where it is read."""
    made = [calls.call_of[value] for value in values] or node.calls[-1:]
    if all(map(calls.is_leaf, made)):
        made = [reader for call in made for _, reader in calls.used_by[call]] or made
    scopes = [calls.scope(call) for call in dict.fromkeys(made)]
    tags = [(scope.tags.get("layer"), str(scope.tags.get("direction", ""))) for scope in dict.fromkeys(scopes)]
    layers, directions = {layer for layer, _ in tags}, {direction for _, direction in tags}
    path = reduce(_shared, [_path(scope) for scope in dict.fromkeys(scopes)])
    return Home(path, layers.pop() if len(layers) == 1 else None, directions.pop() if len(directions) == 1 else "")


def _path(scope: Scope | None) -> tuple[str, ...]:
    """The parts of a scope, as the user wrote them."""
    path: list[str] = []
    while scope is not None:
        path += [scope.part] if scope.part else []
        scope = scope.parent
    return tuple(path[::-1])


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    """With which parts both begin."""
    return tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other)))


def _differ(calls: Calls, nodes: Sequence[Node], shown: Mapping[Node, Sequence[Value]]) -> bool:
    """Whether these boxes are not all the same thing: an array that nothing on the tape made, read in several places."""
    if any(node.kind != "input" for node in nodes):
        return True
    first, *others = [_array(calls, shown.get(node, ())) for node in nodes]
    return first is None or not all(other is not None and np.array_equal(first, other) for other in others)


def _array(calls: Calls, values: Sequence[Value]) -> np.ndarray | None:
    """The numbers of a box that shows one value; without its shape, in which an added axis would make a difference."""
    if len(values) != 1 or (array := calls.whole[values[0][0]].value) is None:
        return None
    return np.ravel(calls.over_time.slice(array, values[0]))


def _needed(paths: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """For each of several paths how many of its parts tell it from the others; all of them, if another goes on from there."""
    different = dict.fromkeys(paths)
    found = {}
    for path in different:
        shared = [len(_shared(path, other)) for other in different if other != path]
        found[path] = min(max(shared) + 1, len(path)) if shared else 0
    return found


def _written(label: str, before: str, marks: str) -> str:
    """A label with what comes before each of its names, and the marks before the step."""
    names = label.split(", ")
    return ", ".join(before + STEP.sub(lambda step: marks + step[0], name, count=1) for name in names)
