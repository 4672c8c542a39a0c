"""The states on a tape, and how steps pass gradients on between them. Read me before `flow.py`; I need no model's name.

A state is a value that one step makes and another step reads: an LSTM has two, h and c, in each layer. `states` finds
them by their scopes, `Run` asks the recording what flows between them. A backward pass may have been over it: recorded
values are still there, and nothing here changes them.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from tinygrad_seq.bptt import Jacobians
from tinygrad_seq.listing import Entry, Tape
from tinygrad_seq.scopes import Scope
from tinygrad_seq.sweep import Sweep, term_of
from tinygrad_seq.tape import Node
from tinygrad_seq.vanishing import Probe, _refuse_mixed_rows
from tinygrad_seq.viz.calls import path_of
from tinygrad_seq.viz.fold import folds_into
from tinygrad_seq.viz.gradients import norm_of

Array = np.ndarray[Any, Any]
Key = tuple[Any, ...]

CARRIES = ("add", "subtract", "multiply", "where")  # operations that hand a state on unit by unit: what a lane is made of


class State(NamedTuple):
    """A value that steps hand on.

    Attributes:
        name: "h"; where several have that name, "h (layer 1)".
        cell: the scope of its steps. The states of one cell belong together.
        entries: its index on the tape for each step t, in order of execution.
    """

    name: str
    cell: str
    entries: dict[int, int]


def states(tape: Tape) -> list[State]:
    """What steps hand to each other on this tape and a gradient may flow through, in the order in which it is read."""
    slots = _slots(tape)
    groups = _Groups()
    read_at: dict[Key, int] = {}
    handed: set[int] = set()
    for reader, slot in slots.items():
        for position, i in enumerate(tape.whole[reader].inputs):
            if i in slots and slots[i][0] == slot[0] and _is_handed_on(tape.whole[i], tape.whole[reader]):
                handed.add(i)
                groups.join(slots[i], ("read", slot, position))
                read_at.setdefault(slots[i], reader)
    for i, slot in slots.items():
        if tape.whole[i].name and slot in groups:
            groups.join(slot, _called(tape.whole[i], slot))
    found: dict[Key, dict[int, int]] = defaultdict(dict)
    for i in sorted(slots, key=lambda i: (i in handed, i)):  # a step's last one is its state, unless another is handed on
        group = groups.of(slots[i]) if slots[i] in groups else groups.of(_called(tape.whole[i], slots[i]))
        if group is not None and tape.whole[i].requires_grad:
            found[group][tape.whole[i].t or 0] = i
    by_reading = sorted(found, key=lambda group: min(n for slot, n in read_at.items() if groups.of(slot) == group))
    return _named(tape, [dict(sorted(found[group].items(), key=lambda step: step[1])) for group in by_reading])


def _slots(tape: Tape) -> dict[int, Key]:
    """For each value made at a step, what it is called in every step: (part, path, operation, number)."""
    seen: Counter[Key] = Counter()
    where: dict[Scope, Key] = {}
    slots = {}
    for entry in tape:
        if entry.t is None or entry.op in ("leaf", "constant"):
            continue
        scope = entry.node.scope
        if scope not in where:
            where[scope] = (str(scope.tags.get("part", "")), ".".join(path_of(scope)))
        seen[(*where[scope], entry.op, entry.t)] += 1
        slots[entry.index] = (*where[scope], entry.op, seen[(*where[scope], entry.op, entry.t)])
    return slots


def _is_handed_on(source: Entry, reader: Entry) -> bool:
    """Whether a step hands this value to another step. A number is no state: it is a loss that is being summed up."""
    return source.t != reader.t and source.requires_grad and source.shape != ()


def _called(entry: Entry, slot: Key) -> Key:
    return ("called", slot[0], slot[1], base_name(entry))


def base_name(entry: Entry) -> str:
    """The name without its step: "h" of "h<3>"; "" if it has none."""
    return re.sub(r"<\w+>", "", entry.name or "")


def _named(tape: Tape, found: list[dict[int, int]]) -> list[State]:
    """States with a name each: where several have the same, what tells them apart is said too."""
    entries = [tape.whole[next(iter(steps.values()))] for steps in found]
    names = [base_name(entry) or f"{entry.scope or 'step'}/{entry.op}" for entry in entries]
    named = []
    for steps, entry, name in zip(found, entries, names):
        namesakes = [other.tags for other, called in zip(entries, names) if called == name]
        apart = [tag for tag in ("part", "layer", "direction") if len({str(tags.get(tag, "")) for tags in namesakes}) > 1]
        values = [f"{'layer ' * (tag == 'layer')}{entry.tags[tag]}" for tag in apart if tag in entry.tags]
        if len(namesakes) > 1:
            name = f"{name} ({', '.join(values) or entry.scope})"
        cell = f"{entry.tags.get('part', '')}/{folds_into(entry.node.scope, 'cell')}"
        named.append(State(name, cell, steps))
    return named


class _Groups:
    """Keys that turn out to mean the same, merged."""

    def __init__(self) -> None:
        self._leader: dict[Key, Key] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._leader

    def of(self, key: Key) -> Key | None:
        """One key for all that were joined with this one; None if it never was."""
        while key in self._leader and self._leader[key] != key:
            key = self._leader[key]
        return key if key in self._leader else None

    def join(self, a: Key, b: Key) -> None:
        """They mean the same."""
        for key in (a, b):
            self._leader.setdefault(key, key)
        self._leader[self.of(b) or b] = self.of(a) or a


# ---- what flows between them ------------------------------------------------------------------------------------------


class Run:
    """A recorded run, measured where somebody asks."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.states = states(tape)
        self._jacobians: dict[str, tuple[list[int], Jacobians] | None] = {}

    @cached_property
    def cells(self) -> dict[str, list[State]]:
        """The states of each cell under their names together: "h/c (layer 1)"."""
        cells: dict[str, list[State]] = defaultdict(list)
        for state in self.states:
            cells[state.cell].append(state)
        named = {}
        for group in cells.values():
            apart = group[0].name.partition(" ")[2]
            named[" ".join(["/".join(state.name.partition(" ")[0] for state in group), apart]).strip()] = group
        return named

    @property
    def cost_of_jacobians(self) -> int:
        """How many sweeps over a step all Jacobians take."""
        return sum(len(state.entries) * self.width(state) for state in self.states)

    @property
    def cost_of_flow(self) -> int:
        """How many sweeps over a step all heatmaps take, if every step has a loss."""
        return sum(len(group[0].entries) ** 2 // 2 for group in self.cells.values())

    def width(self, state: State) -> int:
        """How many units it has."""
        return self.tape.whole[next(iter(state.entries.values()))].shape[-1]

    def norms(self, state: State) -> Array:
        """||dL/dh<t>|| by step, of all rows of the batch together; NaN where no gradient was computed."""
        norms = np.full(max(state.entries) + 1, np.nan)
        for t, i in state.entries.items():
            grad = self.tape.whole[i].grad
            if grad is not None:
                norm = norm_of([grad])
                norms[t] = norm if np.isfinite(norm) else np.inf
        return norms

    @cached_property
    def losses(self) -> dict[int, dict[Node, Array]]:
        """What enters each step from the loss, not from a later step: the cotangents that back-propagation starts with.

        If the loss is a sum over steps, these are the gradients of its terms L<t>, also where the losses, or the
        readout before them, are one operation over all of time.
        """
        whole, outside, events = self.tape.whole, _outside(self.tape), self.tape.events
        found: dict[int, dict[Node, Array]] = defaultdict(dict)
        reached = outside.union(*(event.inputs for event in events))
        for event in events:
            if event.index not in reached and not isinstance(event.cotangent, tuple):  # the loss itself is a step's
                found[event.entry.t or 0][event.entry.node] = event.cotangent
            if event.index in outside:
                for i, term in event.terms:
                    if i not in outside and whole[i].t is not None and term.any():
                        held = found[whole[i].t or 0]
                        node = whole[i].node
                        held[node] = held[node] + term if node in held else term
        return dict(sorted(found.items()))

    def losses_beside(self, state: State) -> int:
        """At how many steps of the state's part of the model a loss brings gradient in."""
        part = self.tape.whole[next(iter(state.entries.values()))].tags.get("part")
        return sum(any(node.scope.tags.get("part") == part for node in seeds) for seeds in self.losses.values())

    def flow(self, group: Sequence[State]) -> Array:
        """||dL<t>/dh<s>|| (T, T) over the whole batch, for all states of a cell together; NaN where step t has no loss."""
        size = max([*self.losses, *(t for state in group for t in state.entries)], default=-1) + 1
        norms = np.full((size, size), np.nan)
        nodes = {self.tape.whole[i].node: t for state in group for t, i in state.entries.items()}
        first = self._first({i for state in group for i in state.entries.values()})
        for t, seeds in self.losses.items():
            arrived: dict[int, list[Array]] = defaultdict(list)
            for node, g in Reading(seeds, first).cotangents(seeds, nodes).items():
                arrived[nodes[node]].append(g)
            norms[t] = [norm_of(arrived[s]) if s in arrived else 0.0 for s in range(size)]
        return norms

    def _first(self, wanted: set[int]) -> list[Node]:
        """Those of these values that depend on no other of them: there a sweep that asks for them all may stop."""
        later: set[int] = set()
        for entry in self.tape.whole:
            if entry.requires_grad and any(i in later or i in wanted for i in entry.inputs):
                later.add(entry.index)
        return [self.tape.whole[i].node for i in sorted(wanted - later)]

    def jacobians(self, group: Sequence[State]) -> tuple[list[int], Jacobians] | None:
        """The steps t that take the states of a cell from one to the next, and their Jacobians; None if there are none.

        Costs a sweep over one step for each of its units. The states of a step stand side by side, as in
        `tg.bptt.jacobians`: matrices[k] is d(h, c)<t> / d(h, c)<t-1> with t = steps[k], the first step having none.

        Raises:
            AutodiffError: the rows of the batch depend on each other.
        """
        cell = group[0].cell
        if cell not in self._jacobians:
            times = [t for t in group[0].entries if all(t in state.entries for state in group)]
            nodes = [[self.tape.whole[state.entries[t]].node for state in group] for t in times]
            rows = bool(nodes) and all(len(node.shape) == 2 and 0 not in node.shape for node in nodes[0])
            matrices = [_jacobian(*pair, t) for pair, t in zip(pairwise(nodes), times[1:])] if rows else []
            self._jacobians[cell] = (times[1:], Jacobians(np.stack(matrices))) if matrices else None
        return self._jacobians[cell]

    def lane(self, state: State) -> Array | None:
        """d h<t> / d h<t-1> along the way that passes no matrix, (T-1, B, H): an LSTM's forget gate at c. None: no such way."""
        steps = [self.tape.whole[i].node for i in state.entries.values()]
        factors = [_carried(before, after) for before, after in pairwise(steps)]
        if not factors or any(factor is None for factor in factors):
            return None
        return np.stack([np.asarray(factor, np.float64) for factor in factors])

    def recurrent_weights(self, group: Sequence[State]) -> list[Array]:
        """The matrices that a step multiplies its states with, (H, H) each: a layer's W_h, or one for each gate."""
        times = [*group[0].entries][:2]
        if len(times) < 2:
            return []
        before = {self.tape.whole[state.entries[times[0]]].node for state in group if times[0] in state.entries}
        reached = set(before)
        found = []
        for entry in self.tape.whole.at(times[1]):
            operands = [each for each in entry.node.inputs if isinstance(each, Node)]
            if entry.op == "matmul" and operands[0] in reached and operands[1] not in reached:
                matrix = self.tape.whole[entry.inputs[1]].value
                if matrix is not None and matrix.ndim == 2 and matrix.shape[1] % matrix.shape[0] == 0:
                    found += np.split(matrix, matrix.shape[1] // matrix.shape[0], axis=1)
            elif reached.intersection(operands) and entry.op in CARRIES:
                reached.add(entry.node)
        return found


def _outside(tape: Tape) -> set[int]:
    """What leads from the steps to the loss and not back into time; and sums of losses, in whichever scope they stand."""
    whole = tape.whole
    to_time: set[int] = set()
    for entry in reversed(list(whole)):
        if entry.index in to_time or entry.t is not None:
            to_time.update(entry.inputs)
    return {e.index for e in whole if (e.t is None and e.index not in to_time) or (e.op == "add" and e.shape == ())}


class Reading(Probe):
    """A sweep over a recording that only measures, also after a backward pass."""

    def __init__(self, sources: Collection[Node] | Mapping[Node, Any], targets: Collection[Node]) -> None:
        Sweep.__init__(self, dict.fromkeys(sources), targets, careful=True, reread=True)


def _jacobian(before: Sequence[Node], after: Sequence[Node], t: int) -> Array:
    """(B, H, H): row by row, one for each unit of the states after step t; a sweep gives it for the whole batch."""
    probe = Reading(after, before)

    def pulled(seeds: Mapping[Node, Any]) -> Array:
        found = probe.cotangents(seeds, before)
        return np.concatenate([found.get(each, np.zeros(each.shape, each.dtype)) for each in before], axis=1)

    units = [(node, unit) for node in after for unit in np.eye(node.shape[1], dtype=node.dtype)]
    matrix = np.stack([pulled({node: np.broadcast_to(unit, node.shape)}) for node, unit in units], axis=1)
    _refuse_mixed_rows(matrix, after, pulled, t - 1)
    return matrix


def _carried(before: Node, after: Node) -> Array | None:
    """What a cotangent of one is multiplied with, unit by unit, on the ways to `before` through `CARRIES` alone."""
    cotangents: dict[Node, Any] = {after: np.ones(after.shape, after.dtype)}
    for node in _ways(before, after):
        for edge in node.edges:
            parent = edge[0]
            if parent is before or parent.op in CARRIES:
                term = term_of(node, cotangents[node], edge)
                cotangents[parent] = cotangents[parent] + term if parent in cotangents else term
    return cotangents.get(before)


def _ways(before: Node, after: Node) -> Iterator[Node]:
    """The operations of `CARRIES` that lead to `after`, younger than `before`, from the last to the first."""
    found, stack = {after}, [after]
    while stack:
        for parent in stack.pop().parents:
            if parent.op in CARRIES and parent.serial > before.serial and parent not in found:
                found.add(parent)
                stack.append(parent)
    if after.op in CARRIES:
        yield from sorted(found, key=lambda node: -node.serial)
