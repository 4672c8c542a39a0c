"""The calls on a tape, each in its column. Read me after `hoisted.py`.

A *call* is an entry, or the several outputs of one call together; of an operation over all of time, each step is a call.
The tape says in which scope and at which step it ran, and that is all that columns and slots need. No model is known by
name.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from tinygrad_seq.listing import Entry, Tape
from tinygrad_seq.primitive import registry
from tinygrad_seq.scopes import Scope
from tinygrad_seq.tape import Output
from tinygrad_seq.viz.hoisted import OverTime, Value, is_number
from tinygrad_seq.viz.seen_through import Padding, parts_of_weights
from tinygrad_seq.viz.windows import Windows

REVERSE = ("backward", "reverse")  # what the tag `direction` says of steps taken from the last to the first
HIDDEN = ("elided", "rolled")  # the roles of columns that hold several steps

Flow = tuple[Value, Value, int]  # a value that is read, the value that it stands for, and the call of that
Place = tuple[str, str, int | None]
"""The column that a call belongs to: role, part, t. The role "lane" is outside of time; "after" with a t is behind that step."""


class Calls:
    """The calls on a tape, by number: the index of the first entry, or beyond all indices for a step of one.

    Attributes:
        order: the calls in order of execution.
        entry: the first entry of each call (and, by its index, every entry shown).
        entries: the entries of each call, and the one-element constants and masks of padding that were written in it.
        op: the operation of each call.
        values: what each call computes.
        reads: for each call, (position, value, call) of what it reads.
        used_by: for each call, (position, reader).
        call_of: the call of each value.
        leaves: those that nothing on the tape made.
        given: entries beyond the tape's edge.
        place: for each call, its column.
        slot: for each call, its name within the column: the scope's path, the operation and a number.
        stands_for: for an initial state, the state at its reader's step that takes its part at the next.
        padding: the columns whose step lies beyond the length of every row.
        losses: the calls that make losses, where there are several.
        loss_of: for each call outside of time that leads to one, that loss.
        hands_on: for each call that one may see through, the call that it hands on: see `seen_through.py`.
        keeps, kept_by: for each call that keeps the state of rows that are over, the one that makes the state of all others;
            and the other way around.
    """

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.whole = tape.whole
        self.events = tape.events
        shown = set(tape.indices)
        self.given = {i for entry in tape for i in entry.inputs if i not in shown}
        self._scope: dict[int, Scope] = {}
        self.entry: dict[int, Entry] = {i: self.whole[i] for i in sorted(shown | self.given)}
        self.over_time = OverTime(self.entry, self.given)
        self._ends = Padding(self.entry, self.given)
        self.call_of: dict[Value, int] = {}
        self.entries: dict[int, list[int]] = {}
        self.values: dict[int, list[Value]] = {}
        self.reads: dict[int, list[tuple[int, Value, int]]] = {}
        self._flows: dict[tuple[int, int], list[Flow]] = {}  # where arrays over time are concerned
        self.used_by: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self._step: dict[int, int] = {}
        self._gather()
        self.keeps = dict(self._ends.keeps)
        self.kept_by = {new: keeping for keeping, new in self.keeps.items()}
        self.order = list(self.entries)
        self.op = {call: self.entry[call].op for call in self.order}
        cuts = {name for name, op in registry.items() if op.cut}
        self.leaves = {call for call, op in self.op.items() if op in ("leaf", "constant")}
        self._cuts = {call for call, op in self.op.items() if op in cuts}
        self.place: dict[int, Place] = {}
        self.slot: dict[int, str] = {}
        self.stands_for: dict[int, int] = {}
        self.padding: set[Place] = set()
        self._place_operations()
        windows = Windows(self)
        self.place |= windows.places
        self.loss_of = windows.loss_of
        self.losses = set(windows.loss_of.values())
        self._first_read = windows.first
        self._name_slots(call for call in self.order if not self.is_leaf(call))
        for keeping, new in self.keeps.items():  # the state's slot is its own at every step
            self.slot[keeping], self.slot[new] = self.slot[new], f"{self.slot[new]}.new"
        self._by_slot = {(self.place[call], slot): call for call, slot in self.slot.items()}
        for call in self.order:
            if self.is_leaf(call):
                self._place_leaf(call)
        self._name_slots(call for call in self.order if self.is_leaf(call))
        self.hands_on = self._ends.blanks | parts_of_weights(self)
        self.runs: dict[str, tuple[int, ...]] = {}
        self.aside: set[int] = set()
        self.time = {  # also where the steps are hidden
            call: None if call in self.loss_of else self.place[call][2] for call in self.order
        }

    def hide(self, runs: dict[str, tuple[int, ...]], role: str = "elided") -> None:
        """Put the steps of these runs, by part, into a column of their own.

        What stands outside of time and belongs to hidden steps alone (the `+` that adds the loss of each) is noted in
        `aside`: it is folded too.
        """
        self.runs = runs
        for call, (kind, part, t) in self.place.items():
            if within(runs.get(part, ()), t):
                behind = kind == "after" and call in self.loss_of  # the loss of a hidden window: behind all of them
                self.place[call] = (role, part, None) if not behind else ("after", part, runs[part][-1])
                if behind and role == "rolled":
                    self.place[call] = ("after", "", None)
                elif behind and within(runs[part], self._first_read[self.loss_of[call]]):
                    self.aside.add(call)
        sides: dict[str, Callable[[int], list[int]]] = {
            "before": lambda call: [reader for _, reader in self.used_by[call]],
            "after": lambda call: [source for _, _, source in self.reads[call]],
        }
        for call in self.order:
            beside = sides.get(self.place[call][0])
            if beside is not None and not self.is_leaf(call) and call not in self.loss_of:
                in_time = [self.place[each][0] for each in beside(call) if self.place[each][0] in ("step", *HIDDEN)]
                if in_time and set(in_time) == {role}:
                    self.aside.add(call)
        for call in self.order:
            if self.is_leaf(call) and self.used_by[call] and all(reader in self.aside for _, reader in self.used_by[call]):
                self.aside.add(call)

    def is_leaf(self, call: int) -> bool:
        """Whether nothing on the tape made it."""
        return call in self.leaves

    def is_given(self, call: int) -> bool:
        """Whether it lies beyond the tape's edge."""
        return self.entry[call].index in self.given

    def is_cut(self, call: int) -> bool:
        """Whether the gradient is stopped here on purpose."""
        return call in self._cuts

    def is_weight(self, call: int) -> bool:
        """A leaf outside of time that is learned: no initial state, and no input of one step only."""
        return self.is_leaf(call) and self.place[call][0] == "lane" and self.entry[call].node.requires_grad

    def is_in_time(self, call: int) -> bool:
        """Whether it stands at a step, or on the way from one to the next."""
        role, _, t = self.place[call]
        return role in ("step", "elided") or (role == "after" and t is not None and call not in self.loss_of)

    def is_outside(self, call: int) -> bool:
        """Whether it ran at no step."""
        return self._t(call) is None

    def is_step(self, call: int) -> bool:
        """Whether it is one step of an operation over all of time, or of an array of inputs."""
        return call in self._step

    def scope(self, call: int) -> Scope:
        """Where it ran."""
        if call not in self._scope:
            self._scope[call] = self.entry[call].node.scope
        return self._scope[call]

    def is_reverse(self, call: int) -> bool:
        """Whether it belongs to a direction that runs from the last step to the first; a leaf belongs to its first reader."""
        readers = self.used_by[call] if self.is_leaf(call) else []
        return self.scope(readers[0][1] if readers else call).tags.get("direction") in REVERSE

    def flows(self, call: int, i: int) -> list[Flow]:
        """What a call reads of entry i."""
        value = (i, None)
        return self._flows.get((call, i)) or ([(value, value, self.call_of[value])] if value in self.call_of else [])

    def handed_on(self, value: Value, together: Callable[[int, int], bool]) -> Value:
        """What one sees of a value: that from which it was handed on, or the state that is kept of it, as far as both are in one
        box."""
        call = self.call_of[value]
        if call not in self.hands_on and call not in self.kept_by:  # as most
            return value
        while call in self.hands_on and together(self.hands_on[call], call):
            value = next(read for _, read, source in self.reads[call] if source == self.hands_on[call])
            call = self.call_of[value]
        keeping = self.kept_by.get(call)
        return value if keeping is None or not together(call, keeping) else (keeping, None)

    # ---- which calls there are, and what they read ----

    def _gather(self) -> None:
        first: dict[Any, int] = {}
        numbers = {i for i, entry in self.entry.items() if is_number(entry)} | self._ends.masks
        beyond = len(self.whole)
        for i, entry in [*self.entry.items()]:
            if i in numbers:
                continue
            node = entry.node
            if not isinstance(node, Output) and not self.over_time.concerns(i):  # as most
                self._enter(i, entry, None, numbers)
                self.call_of[i, None], self.values[i] = i, [(i, None)]
                continue
            if self.over_time.only_leads(i):
                for value in self.over_time.values(i):
                    call = self.call_of[value] = self.call_of[self.over_time.value(*value)]
                    self.entries[call].append(i)
                continue
            of = first.setdefault(node.bundle if isinstance(node, Output) else node, i)
            for value in self.over_time.values(i):
                if of != i:
                    call = self.call_of[of, value[1]]
                    self.entries[call].append(i)
                else:
                    call = i if value[1] is None else beyond
                    beyond += call != i
                    self._enter(call, entry, value[1], numbers)
                self.call_of[value] = call
                self.values.setdefault(call, []).append(value)
        for i in sorted(numbers - {j for held in self.entries.values() for j in held}):  # a number that nothing here reads
            self.call_of[i, None], self.entries[i], self.reads[i], self.values[i] = i, [i], [], [(i, None)]

    def _enter(self, call: int, entry: Entry, t: int | None, numbers: set[int]) -> None:
        self.entry[call] = entry
        if t is not None:
            self._step[call] = t + entry.node.scope.steps_from
        inputs = () if entry.index in self.given else entry.inputs
        self.entries[call] = [entry.index, *(j for j in dict.fromkeys(inputs) if j in numbers)]
        reads = self.reads[call] = []
        for position, j in enumerate(inputs):
            if j in numbers:
                continue
            if not self.over_time.concerns(j):
                flows: list[Flow] = [((j, None), (j, None), self.call_of[j, None])]
            else:
                read = [(v, self.over_time.value(*v)) for v in self.over_time.reads(entry.index, t, j)]
                flows = self._flows[call, j] = [(own, value, self.call_of[value]) for own, value in read]
            for _, value, source in flows:
                reads.append((position, value, source))
                self.used_by[source].append((position, call))

    # ---- columns ----

    def _t(self, call: int) -> int | None:
        """The step at which it ran, or whose part of an array it is."""
        return self._step[call] if call in self._step else self.scope(call).t

    def _place_operations(self) -> None:
        """Steps have their columns. What is outside of time stands before the steps that depend on it, if it depends on none;
        between two parts, if it leads from one to the other; else after all of them."""
        from_time: dict[int, frozenset[str]] = {}
        to_time: dict[int, frozenset[str]] = {}
        self._parts: dict[Scope, str] = {}
        made = [call for call in self.order if call not in self.leaves]
        tagged = {self.tag(call) for call in made if self.scope(call).t is not None}
        for call in made:
            t = self._t(call)
            if t is not None:
                self.place[call] = ("step", self._part_of(call, tagged), t)
        for call in self.order:
            from_time[call] = self._parts_beside([s for _, _, s in self.reads[call]], from_time)
        for call in reversed(self.order):
            to_time[call] = self._parts_beside([r for _, r in self.used_by[call]], to_time)
        padding: dict[Scope, bool] = {}
        for call in made:
            if call in self.place:
                scope = self.scope(call)
                if scope not in padding:
                    valid = scope.tags.get("valid") if scope.t is not None else None
                    padding[scope] = valid is not None and not np.any(valid)
                if padding[scope]:
                    self.padding.add(self.place[call])
            elif to_time[call] and from_time[call] and not to_time[call] & from_time[call]:
                self.place[call] = ("between", min(to_time[call]), None)
            elif to_time[call] and from_time[call]:  # a state on its way from one step to a later one: with the earlier one
                reads = [self.place[s] for _, _, s in self.reads[call] if s in self.place]  # leaves are placed later
                self.place[call] = max((p for p in reads if p[0] == "step"), key=lambda p: p[2] or 0, default=("after", "", None))
            else:
                self.place[call] = ("before" if to_time[call] and not from_time[call] else "after", "", None)

    def tag(self, call: int) -> str:
        """The part (encoder, decoder) that the scope itself says."""
        scope = self.scope(call)
        if scope not in self._parts:
            self._parts[scope] = str(scope.tags.get("part", ""))
        return self._parts[scope]

    def _part_of(self, call: int, tagged: set[str]) -> str:
        """The part (encoder, decoder) of a step: what its scope says, or for arrays over time what stands beside them says."""
        part = self.tag(call)
        if part in tagged or not self.is_step(call):
            return part
        before = [self.place[s] for _, _, s in self.reads[call] if s in self.place]
        beside = [place[1] for place in before if place[0] == "step" and place[2] == self._step[call]]
        beside += [self.tag(r) for _, r in self.used_by[call] if self.tag(r) in tagged]
        return beside[0] if beside else part

    def _parts_beside(self, calls: Iterable[int], known: dict[int, frozenset[str]]) -> frozenset[str]:
        """The parts of the steps that these calls are, or lead from or to."""
        found: frozenset[str] = frozenset()
        for call in calls:
            parts = known[call]
            if call in self.place:
                part = self.place[call][1]
                parts = parts if part in parts else parts | {part}
            found = parts if not found or found is parts else found | parts
        return found

    def _place_leaf(self, call: int) -> None:
        """A leaf stands in its reader's column; outside of time if it has several, or is learned and of no step's own."""
        places = list(dict.fromkeys(self.place[r] for _, r in self.used_by[call]))
        if len(places) != 1:
            self.place[call] = ("lane", "", None) if places else ("after", "", None)
            return
        self.place[call] = places[0]
        position, reader = self.used_by[call][0]
        others = self._instead_of(position, reader)
        for step, other in others:
            if not self.is_leaf(other) and self.place[other] == self.place[reader]:
                self.place[call] = ("init" if step > 0 else "init-reverse", self.place[reader][1], None)
                self.stands_for[call] = other
                return
        if self.entry[call].node.requires_grad and self._t(call) is None and not others:
            self.place[call] = ("lane", "", None)

    def _instead_of(self, position: int, reader: int) -> list[tuple[int, int]]:
        """What the same operation reads at the neighbouring steps in the place of this input: 1 or -1 for which, and the call."""
        role, part, t = self.place[reader]
        if role != "step" or t is None:
            return []
        neighbours = [(k, self._by_slot.get((("step", part, t + k), self.slot[reader]))) for k in (1, -1)]
        found = [(k, *read) for k, other in neighbours if other is not None for read in self.reads[other]]
        return [(k, source) for k, p, _, source in found if p == position]

    # ---- slots ----

    def _name_slots(self, calls: Iterable[int]) -> None:
        seen: Counter[tuple[Place, str]] = Counter()
        paths: dict[Scope, list[str]] = {}
        for call in calls:
            entry = self.entry[call]
            if call in self.stands_for:
                name = self.slot[self.stands_for[call]]
            elif self.place[call][0] == "lane" and self.is_leaf(call):
                name = safe(entry.name or f"w{call}")
            else:
                readers = self.used_by[call]
                scope = self.scope(readers[0][1] if self.is_leaf(call) and readers else call)
                if scope not in paths:
                    paths[scope] = path_of(scope)
                name = ".".join([*paths[scope], "input" if self.is_leaf(call) else safe(entry.op)])
            seen[self.place[call], name] += 1
            n = seen[self.place[call], name]
            self.slot[call] = name if n == 1 else f"{name}.{n}"


def step_of(place: Place) -> int | None:
    """The step that a column is, if it is one."""
    return place[2] if place[0] == "step" else None


def path_of(scope: Scope | None) -> list[str]:
    """The parts of a scope, safe for an id, with the layer and the direction where there is more than one."""
    path: list[str] = []
    while scope is not None:
        direction, layer = scope.own_tags.get("direction"), scope.own_tags.get("layer")
        if direction in REVERSE:
            path.append("backward")
        if layer:
            path.append(f"l{safe(str(layer))}")
        if scope.part:
            path.append(safe(scope.part))
        scope = scope.parent
    return path[::-1]


def within(run: tuple[int, ...], t: int | None) -> bool:
    """Whether a step is one of a run's; runs have no gaps."""
    return bool(run) and t is not None and run[0] <= t <= run[-1]


@lru_cache(maxsize=4096)
def safe(text: str) -> str:
    """Text as a part of an id: letters, digits, `_`, `-` and `~`; others as their code points."""
    return re.sub(r"[^A-Za-z0-9_~-]", lambda m: f"_{ord(m[0]):x}", text)
