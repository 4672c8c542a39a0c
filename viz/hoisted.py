"""Operations over all of time at once, taken apart by step. Read me after `graph.py`.

What does not depend on the previous step is computed for all steps in one call: the input projection, often the readout.
Such a call ran in a scope with a `time_axis`, and a picture whose columns are steps shows it in every column: step t of
its result, made of step t of what it reads. Three kinds of calls only lead into such arrays and out of them again
(`stack`, `unstack`, and the exchange of the batch's axis with time's); step t of theirs *is* step t of what they read.

A *value* is what one box can show: (entry, None), or (entry, t) for step t of an entry that is taken apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinygrad_seq.listing import Entry
from tinygrad_seq.primitive import registry
from tinygrad_seq.tape import Output

Value = tuple[int, int | None]


class OverTime:
    """The entries of a tape that have time as an axis.

    Attributes:
        axis: which axis that is, of every entry that is taken apart.
        steps: its length.
    """

    def __init__(self, entries: Mapping[int, Entry], given: set[int]) -> None:
        self._entry = entries
        self.axis: dict[int, int] = {}
        self.steps: dict[int, int] = {}
        self._same: dict[Value, Value] = {}
        self._from: dict[tuple[int, int], tuple[int, list[int]] | None] = {}  # remembered answers of `_moved`
        hoisted = {i: entry for i, entry in entries.items() if entry.node.scope.time_axis is not None and i not in given}
        for i, entry in hoisted.items():
            if entry.t is None and entry.op not in ("leaf", "constant"):
                self._note(i, entry)
        self._find_inputs(hoisted, given)
        for i, entry in hoisted.items():
            self._follow(i, entry)

    def value(self, i: int, t: int | None = None) -> Value:
        """The value that this is, where it only leads to another."""
        value = (i, t)
        while value in self._same:
            value = self._same[value]
        return value

    def concerns(self, i: int) -> bool:
        """Whether the entry is taken apart, or is a step of one that is."""
        return i in self.axis or (i, None) in self._same

    def only_leads(self, i: int) -> bool:
        """Whether the entry is no value of its own."""
        first = (i, 0 if i in self.axis else None)
        return first in self._same

    def values(self, i: int) -> list[Value]:
        """What the entry consists of: itself, or its steps."""
        return [(i, t) for t in range(self.steps[i])] if i in self.axis else [(i, None)]

    def reads(self, i: int, t: int | None, j: int) -> list[Value]:
        """Of what entry i reads in entry j: the values that matter to step t of it (None: to all of it)."""
        if j not in self.axis:
            return [(j, None)]
        if t is None:
            return [(j, step) for step in self._chosen(i, j)]
        found = self._source(i, j)
        if found is None or found[0] != self.axis[j]:
            return self.values(j)
        return [(j, found[1][t])]

    def slice(self, array: Any, value: Value) -> Any:
        """Of an array that belongs to the value's entry, that step's part."""
        i, t = value
        return array if t is None else np.take(array, t, axis=self.axis[i])

    # ---- what is taken apart ----

    def _note(self, i: int, entry: Entry) -> None:
        axis = entry.node.scope.time_axis
        if axis is None or self._is_unstack(entry) or axis >= len(entry.shape):
            return
        self.axis[i], self.steps[i] = axis, entry.shape[axis]

    def _is_unstack(self, entry: Entry) -> bool:
        """Whether it hands out the steps of an array, one by one."""
        axis = entry.node.scope.time_axis
        return axis is not None and entry.op == "unstack" and self._axis_of(entry, "axis", len(entry.shape) + 1) == axis

    def _find_inputs(self, hoisted: Mapping[int, Entry], given: set[int]) -> None:
        """Leaves whose every reader reads them step by step have time as an axis, too."""
        wanted: dict[int, set[int | None]] = {}
        for i, entry in hoisted.items():
            for j in entry.inputs:
                source = self._entry[j]
                if source.op in ("leaf", "constant") and source.shape:
                    found: int | None = None
                    if self._is_unstack(entry):
                        found = entry.node.scope.time_axis
                    elif i in self.axis and (moved := self._source(i, j)) is not None and moved[1] == [*range(self.steps[i])]:
                        found = moved[0]
                    wanted.setdefault(j, set()).add(found)
        for i, entry in self._entry.items() if wanted else ():
            if i not in hoisted and i not in given:
                for j in entry.inputs:
                    wanted.pop(j, None)
        for j, axes in wanted.items():
            axis = axes.pop()
            if not axes and axis is not None:
                self.axis[j], self.steps[j] = axis, self._entry[j].shape[axis]

    def _follow(self, i: int, entry: Entry) -> None:
        """Note where step t of an entry is step t of another."""
        if entry.op == "stack" and i in self.axis and self._axis_of(entry, "axis", len(entry.shape)) == self.axis[i]:
            for t, j in enumerate(entry.inputs):
                if j not in self.axis and not is_number(self._entry[j]):
                    self._same[i, t] = (j, None)
            if self.steps[i] != len(entry.inputs) or not all((i, t) in self._same for t in range(self.steps[i])):
                for t in range(self.steps[i]):
                    self._same.pop((i, t), None)
        elif self._is_unstack(entry) and isinstance(entry.node, Output):
            (j,) = entry.inputs
            if self.axis.get(j) == entry.node.scope.time_axis:
                self._same[i, None] = (j, entry.node.position)
        elif entry.op == "swapaxes" and i in self.axis and (j := entry.inputs[0]) in self.axis:
            found = self._source(i, j)
            if found is not None and {found[0], self.axis[i]} == {0, 1} and found[0] == self.axis[j]:
                for t in range(self.steps[i]):
                    self._same[i, t] = (j, found[1][t])

    @staticmethod
    def _axis_of(entry: Entry, name: str, ndim: int) -> int:
        return int(entry.params.get(name, 0)) % ndim

    # ---- which step of what it reads ----

    def _source(self, i: int, j: int) -> tuple[int, list[int]] | None:
        """The axis of entry j along which entry i reads it step by step, and for each step of i the step of j."""
        if (i, j) not in self._from:
            self._from[i, j] = self._moved(i, j) if self._only_moves(i) else self._aligned(i, j)
        return self._from[i, j]

    def _only_moves(self, i: int) -> bool:
        op = registry.get(self._entry[i].op)
        return op is not None and len(self._entry[i].inputs) == 1 and not op.several and (op.moves or op.name == "getitem")

    def _aligned(self, i: int, j: int) -> tuple[int, list[int]] | None:
        """Axes that stand for the same, by NumPy's rules: counted from the last, but for a product's own two."""
        entry, source, axis, steps = self._entry[i], self._entry[j], self.axis[i], self.steps[i]
        behind = len(entry.shape) - 1 - axis
        if entry.op == "matmul" and behind < 2 and j == entry.inputs[behind]:
            return None  # the rows of a product are the rows of its first factor
        place = len(source.shape) - 1 - behind
        if len(source.shape) > len(entry.shape) and source.shape[axis] == steps:
            place = axis  # later axes have been summed over
        elif source.dtype.kind in "iu" and source.shape == entry.shape[: len(source.shape)] and axis < len(source.shape):
            place = axis  # for each index a row
        if place < 0 or source.shape[place] != steps:
            return None
        return place, [*range(steps)]

    def _moved(self, i: int, j: int) -> tuple[int, list[int]] | None:
        """For an operation that only moves numbers: apply it to the numbers of the steps, and see where they go."""
        source, steps = self._entry[j], self.steps[i]
        for place in sorted(range(len(source.shape)), key=lambda place: place != self.axis[i]):
            arrived = np.moveaxis(self._numbered(i, source.shape, place), self.axis[i], 0).reshape(steps, -1)
            if arrived.size and (arrived == arrived[:, :1]).all() and (steps == 1 or np.ptp(arrived[:, 0]) > 0):
                return place, [int(step) for step in arrived[:, 0]]
        return None

    def _chosen(self, i: int, j: int) -> list[int]:
        """The steps of j that an operation outside of time reads: x[-1] only reads the last."""
        if not self._only_moves(i):
            return [*range(self.steps[j])]
        return [int(step) for step in np.unique(self._numbered(i, self._entry[j].shape, self.axis[j]))]

    def _numbered(self, i: int, shape: tuple[int, ...], axis: int) -> Any:
        """The operation on an array that holds, everywhere, the index along one of its axes."""
        numbers = np.arange(shape[axis]).reshape([-1 if k == axis else 1 for k in range(len(shape))])
        entry = self._entry[i]
        return np.asarray(registry[entry.op].forward(np.broadcast_to(numbers, shape), **entry.params))


def is_number(entry: Entry) -> bool:
    """A nameless constant of one element: it is written into the operation that reads it."""
    return entry.op == "constant" and entry.shape == () and entry.name is None
