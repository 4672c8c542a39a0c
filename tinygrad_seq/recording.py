"""What is known of each entry of a tape: its inputs, value, source, bytes, cotangent. Read me after `sweep.py`.

A recording is the store; `listing.py` is how it is read. The nodes know the recordings that they are on only weakly.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any
from weakref import ref

import numpy as np

from tinygrad_seq.events import live_edges
from tinygrad_seq.overwritten import buffer_of
from tinygrad_seq.scopes import Scope
from tinygrad_seq.tape import Bundle, Edge, Leaf, Node, Output, Watch
from tinygrad_seq.tensor import Tensor, as_array, node_of


class Recording:
    """What a tape shows: entries in order, and what is known of each. Holds the nodes; they know it weakly."""

    def __init__(self, outer: Recording | None = None) -> None:
        self.nodes: list[Node] = []
        self.index: dict[Node, int] = {}  # a bundle has the index of its first output
        self.inputs: list[tuple[int | None, ...]] = []  # of each entry; None where the call was given None
        self.outputs: dict[Node, dict[int, int]] = {}  # of a bundle, by position, those that are entries
        self.params: list[dict[str, Any]] = []
        self.values: dict[int, Any] = {}
        self.sources: list[str | None] = []
        self.saved_bytes: list[int] = []
        self.cotangents: dict[int, Any] = {}
        self.steps: list[tuple[Node, Any, list[Edge]]] = []  # of the backward passes; an event would point back here
        self._outer = outer
        self._nested: tuple[ref[Recording], ...] = (ref(self), *(outer._nested if outer is not None else ()))
        self._backward: Recording | None = None
        self._kept: set[int] = set()  # ids of the arrays that earlier entries save
        self._leaf_of: dict[int, Leaf] = {}  # by the id of its array

    @property
    def backward(self) -> Recording:
        """Where a taped backward pass is recorded."""
        if self._backward is None:
            self._backward = Recording()
        return self._backward

    def write(self, outputs: Sequence[Tensor], operands: Sequence[Any], source: str) -> None:
        """Note a call that has just run, with its values."""
        for output in outputs:
            node = node_of(output)
            for each in node.with_bundle:
                watch = each.watch = each.watch or Watch()
                watch.tapes = watch.tapes or self._nested  # an inner recording, which comes first, has named this one too
            self.values[self.enter(node, operands, source)] = output.data
        if self._outer is not None:
            self._outer.write(outputs, operands, source)

    def __del__(self) -> None:
        for node in self.index:
            if node.watch is not None and node.watch.spent and all(other is self for other in node.watch.recordings()):
                node.free()

    def enter(self, node: Node, operands: Sequence[Any] = (), source: str | None = None) -> int:
        """Give a node its entry, after the entries of its inputs; the index of it."""
        if node in self.index:
            return self.index[node]
        if isinstance(node, Output) and node.bundle in self.index:
            inputs = self.inputs[self.index[node.bundle]]
        else:
            inputs = tuple(
                [
                    None if value is None else self._input(node.scope, value, operands[i : i + 1])
                    for i, value in enumerate(node.inputs)
                ]
            )
        i = self.index[node] = len(self.nodes)
        owner = node
        if isinstance(node, Output):
            owner = node.bundle
            self.index.setdefault(owner, i)
            self.outputs.setdefault(owner, {})[node.position] = i
        self.nodes.append(node)
        self.inputs.append(inputs)
        self.params.append(dict(node.params or {}))
        self.sources.append(source)
        handle = node.handle() if isinstance(node, Leaf) else None
        if isinstance(node, Leaf) and handle is not None:
            self._leaf_of[id(buffer_of(handle.data))] = node
        self.saved_bytes.append(self._new_bytes(owner))
        return i

    def _input(self, scope: Scope, value: Any, operand: Sequence[Any]) -> int:
        """The entry of one input: a node's, or that of a number written in the call."""
        if not isinstance(value, Node):
            value, operand = Leaf(Tensor(np.asarray(value)), scope, False), (value,)
        if isinstance(value, Leaf) and value not in self.index:
            i = self.enter(value)
            kept = operand[0] if operand else value.handle()
            if kept is not None:
                self.values[i] = np.array(kept.data if isinstance(kept, Tensor) else kept)  # an optimiser may overwrite it
            return i
        return self.enter(value)

    def value_of(self, i: int) -> Any:
        """The value of an entry as far as somebody keeps it."""
        if i in self.values:
            return self.values[i]
        node = self.nodes[i]
        handle = node.handle() if isinstance(node, Leaf) else None
        return None if handle is None else handle.data

    def look_for_values(self) -> None:
        """Find the values that the pullbacks save."""
        for node in [*self.index]:
            for _, pullback, take in node.routes or ():
                for value, source in zip(take(node.saved) if take else (), pullback.sources):
                    owner = (
                        node if source == pullback.OUTPUT else node.inputs[source] if source is not None and source >= 0 else None
                    )
                    if (
                        owner is not None
                        and not isinstance(owner, Bundle)
                        and owner in self.index
                        and isinstance(value, (np.ndarray, np.generic))
                    ):
                        self.values.setdefault(self.index[owner], np.asarray(value))

    def witness(self, steps: Iterable[tuple[Node, Any]], live: Collection[Node]) -> None:
        """Note what a backward pass brought to the entries."""
        for node, cotangent in steps:
            if node not in self.index:
                continue
            if not isinstance(node, Output):
                self.steps.append((node, cotangent, live_edges(node, live)))
            if not isinstance(node, Bundle):
                i, g = self.index[node], as_array(cotangent)
                self.cotangents[i] = self.cotangents[i] + g if i in self.cotangents else g

    def _new_bytes(self, node: Node) -> int:
        """Bytes saved by a node that no earlier entry saves; a leaf's own array, or a view of it, is its tensor's affair."""
        saved = {id(buffer): buffer.nbytes for buffer in map(buffer_of, node.saved_arrays)}
        fresh = [key for key in saved if key not in self._kept and not self._is_a_leafs(key)]
        self._kept.update(fresh)
        return sum(saved[key] for key in fresh)

    def _is_a_leafs(self, key: int) -> bool:
        """Whether this is the id of an array that a leaf's tensor keeps anyway."""
        leaf = self._leaf_of.get(key)
        handle = None if leaf is None else leaf.handle()
        return handle is not None and id(buffer_of(handle.data)) == key
