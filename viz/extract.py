"""From a tape to a graph. Read me second, after `graph.py`.

The tape says of each entry in which scope and at which step it ran, and that is all that folding needs. A *call* is
an entry, or the several outputs of one call together. At level "op" each call is a node; at level "gate" a scope
inside the cell's is one; at level "cell" all that ran in the scope that carries the step is. No model is known by name.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from tinygrad_seq.listing import Entry, Tape
from tinygrad_seq.primitive import registry
from tinygrad_seq.tape import Output, Scope
from tinygrad_seq.viz.gradients import Gradients
from tinygrad_seq.viz.graph import Column, Edge, Grad, Graph, Node
from tinygrad_seq.viz.shares import weight_shares
from tinygrad_seq.viz.sums import draw_sums

ELIDED = "elided"
LEVELS = ("cell", "gate", "op")  # from the coarsest to the finest
BUDGET, NAMED_BUDGET = 400, 1_000  # nodes: where the level is ours to choose, and where the user has chosen it
KEPT = 4  # steps that are shown where there are too many: the first three and the last
REVERSE = ("backward", "reverse")  # what the tag `direction` says of steps taken from the last to the first

Place = tuple[str, str, int | None]  # the column that a call belongs to: role, part, t; role "lane" is outside of time
Group = tuple[Place, str, int]  # what is folded into one node: its column, its name and a number; see `fold`


def extract(
    tape: Tape,
    level: str = "auto",
    budget: int | None = None,
    weights: Sequence[str] | None = None,
    steps: int | str = "auto",
) -> Graph:
    """Fold a tape into a graph.

    Args:
        tape: the entries to show. What they were directly computed from is shown too, as given.
        level: "op", "gate", "cell", or "auto": the deepest of them with at most `budget` nodes.
        budget: how many nodes there may be; by default 400 if the level is "auto", and 1,000 if it is named.
        weights: labels or ids of the weights whose gradients are taken apart by step; by default one that is recurrent.
        steps: how many steps to show, the others becoming one box; "all"; or "auto": 4 if there would be too many nodes.

    Raises:
        ValueError: an unknown level or weight, fewer than two steps, or an empty tape.
    """
    if level not in (*LEVELS, "auto"):
        raise ValueError(f"level {level!r} is none of {', '.join(LEVELS)}, auto")
    if steps not in ("all", "auto") and (isinstance(steps, str) or steps < 2):
        raise ValueError(f'steps={steps!r} is none of "all", "auto" and the numbers from 2 on')
    calls = Calls(tape)
    if not calls.order:
        raise ValueError("nothing to draw: the tape is empty")
    if budget is None:
        budget = BUDGET if level == "auto" else NAMED_BUDGET
    runs = runs_of(calls, steps) if isinstance(steps, int) else {}
    for chosen in reversed(LEVELS) if level == "auto" else (level,):  # auto: the first that fits, else the coarsest
        groups = fold(calls, chosen)
        fits = sum(not _is_hidden(group, runs) for group in set(groups.values())) <= budget
        if fits:
            break
    if not fits and steps == "auto":
        runs = runs_of(calls, KEPT)
    hidden: dict[str, dict[int, Grad]] = {}
    if runs:
        hidden = hidden_states(calls, groups, runs)
        calls.hide(runs)
        groups = fold(calls, chosen)
    graph = build(calls, chosen, groups, hidden)
    graph.shares = weight_shares(calls, graph, weights)
    draw_sums(graph)
    return graph


class Calls:
    """The calls on a tape, each under the index of its first entry: what each reads, and in which column it stands.

    Attributes:
        entries: the entries of each call, and the one-element constants that were written in it.
        order: the calls in order of execution.
        leaves: those that nothing on the tape made.
        reads: for each call, (position, entry, call) of what it reads.
        place: for each call, its column.
        slot: for each call, its name within the column: the scope's path, the operation and a number.
        stands_for: for an initial state, the state at its reader's step that takes its part at the next.
        call_of: the call of each entry.
    """

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.whole = tape.whole
        shown = set(tape.indices)
        self.given = {i for entry in tape for i in entry.inputs if i not in shown}  # beyond the tape's edge
        self.entry: dict[int, Entry] = {i: self.whole[i] for i in sorted(shown | self.given)}
        self.call_of: dict[int, int] = {}
        self.entries: dict[int, list[int]] = {}
        self.reads: dict[int, list[tuple[int, int, int]]] = {}
        self.used_by: dict[int, list[tuple[int, int]]] = defaultdict(list)  # (position, reader)
        self._gather()
        self.order = list(self.entries)
        self.leaves = {call for call in self.order if self.entry[call].op in ("leaf", "constant")}
        self.place: dict[int, Place] = {}
        self.slot: dict[int, str] = {}
        self.stands_for: dict[int, int] = {}
        self._place_operations()
        self._name_slots(call for call in self.order if not self.is_leaf(call))
        self._by_slot = {(self.place[call], slot): call for call, slot in self.slot.items()}
        for call in self.order:
            if self.is_leaf(call):
                self._place_leaf(call)
        self._name_slots(call for call in self.order if self.is_leaf(call))
        self.runs: dict[str, tuple[int, ...]] = {}
        self.aside: set[int] = set()

    def hide(self, runs: dict[str, tuple[int, ...]]) -> None:
        """Put the steps of these runs, by part, into a column of their own, to be folded into one node.

        What stands outside of time and belongs to hidden steps alone (the `+` that adds the loss of each) is noted in
        `aside`: it is folded too.
        """
        self.runs = runs
        for call, (role, part, t) in self.place.items():
            if role == "step" and t in runs.get(part, ()):
                self.place[call] = ("elided", part, None)
        sides: dict[str, Callable[[int], list[int]]] = {
            "before": lambda call: [reader for _, reader in self.used_by[call]],
            "after": lambda call: [source for _, _, source in self.reads[call]],
        }
        for call in self.order:
            beside = sides.get(self.place[call][0])
            if beside is not None and not self.is_leaf(call):
                in_time = [self.place[other][0] for other in beside(call) if self.place[other][0] in ("step", "elided")]
                if in_time and set(in_time) == {"elided"}:
                    self.aside.add(call)
        for call in self.order:
            if self.is_leaf(call) and self.used_by[call] and all(reader in self.aside for _, reader in self.used_by[call]):
                self.aside.add(call)

    def is_leaf(self, call: int) -> bool:
        """Whether nothing on the tape made it."""
        return call in self.leaves

    def is_cut(self, call: int) -> bool:
        """Whether the gradient is stopped here on purpose."""
        op = registry.get(self.entry[call].op)
        return op is not None and op.cut

    def is_weight(self, call: int) -> bool:
        """A leaf outside of time that is learned: no initial state, and no input of one step only."""
        return self.is_leaf(call) and self.place[call][0] == "lane" and self.entry[call].node.requires_grad

    def scope(self, call: int) -> Scope:
        """Where it ran."""
        scope: Scope = self.entry[call].node.scope
        return scope

    def _gather(self) -> None:
        first: dict[Any, int] = {}
        alone = {i for i, entry in self.entry.items() if _is_number(entry)}
        for i, entry in self.entry.items():
            if i in alone:
                continue
            node = entry.node
            call = first.setdefault(node.bundle if isinstance(node, Output) else node, i)
            self.call_of[i] = call
            if call != i:
                self.entries[call].append(i)
                continue
            self.entries[call] = [i]
            inputs = () if i in self.given else entry.inputs
            self.entries[call] += [j for j in dict.fromkeys(inputs) if j in alone]
            self.reads[call] = [(p, j, self.call_of[j]) for p, j in enumerate(inputs) if j not in alone]
            for p, _, source in self.reads[call]:
                self.used_by[source].append((p, call))
        for i in sorted(alone - {j for held in self.entries.values() for j in held}):  # a number that nothing here reads
            self.call_of[i], self.entries[i], self.reads[i] = i, [i], []

    # ---- columns ----

    def _place_operations(self) -> None:
        """Steps have their columns; what is outside of time stands before them if time depends on it and it not on time."""
        from_time: dict[int, bool] = {}
        to_time: dict[int, bool] = {}
        parts: dict[Scope, str] = {}
        for call in self.order:
            from_time[call] = any(from_time[s] or self._is_in_time(s) for _, _, s in self.reads[call])
        for call in reversed(self.order):
            to_time[call] = any(self.entry[r].t is not None or to_time[r] for _, r in self.used_by[call])
        for call in self.order:
            entry = self.entry[call]
            if self.is_leaf(call):
                continue
            if entry.t is not None:
                scope = self.scope(call)
                if scope not in parts:
                    parts[scope] = str(scope.tags.get("part", ""))
                self.place[call] = ("step", parts[scope], entry.t)
            else:
                self.place[call] = ("before" if to_time[call] and not from_time[call] else "after", "", None)

    def _is_in_time(self, call: int) -> bool:
        return self.entry[call].t is not None and not self.is_leaf(call)

    def _place_leaf(self, call: int) -> None:
        """A leaf stands in its reader's column; outside of time if it has several, or is learned and of no step's own."""
        places = list(dict.fromkeys(self.place[r] for _, r in self.used_by[call]))
        if len(places) != 1:
            self.place[call] = ("lane", "", None) if places else ("after", "", None)
            return
        self.place[call] = places[0]
        position, reader = self.used_by[call][0]
        others = self._instead_of(position, reader)
        for other in others:
            if not self.is_leaf(other) and self.place[other] == self.place[reader]:
                _, part, t = self.place[reader]
                after = any(place == ("step", part, (t or 0) - 1) for place in self.place.values())
                self.place[call] = ("init-reverse" if after else "init", part, None)
                self.stands_for[call] = other
                return
        if self.entry[call].node.requires_grad and self.entry[call].t is None and not others:
            self.place[call] = ("lane", "", None)

    def _instead_of(self, position: int, reader: int) -> list[int]:
        """What the same operation reads at the neighbouring steps in the place of this input."""
        role, part, t = self.place[reader]
        if role != "step" or t is None:
            return []
        neighbours = [self._by_slot.get((("step", part, t + k), self.slot[reader])) for k in (1, -1)]
        return [source for other in neighbours if other is not None for p, _, source in self.reads[other] if p == position]

    # ---- slots ----

    def _name_slots(self, calls: Iterable[int]) -> None:
        seen: Counter[tuple[Place, str]] = Counter()
        paths: dict[Scope, list[str]] = {}
        for call in calls:
            entry = self.entry[call]
            if call in self.stands_for:
                name = self.slot[self.stands_for[call]]
            elif self.place[call][0] == "lane" and self.is_leaf(call):
                name = _safe(entry.name or f"w{call}")
            else:
                readers = self.used_by[call]
                scope = self.scope(readers[0][1] if self.is_leaf(call) and readers else call)
                if scope not in paths:
                    paths[scope] = path_of(scope)
                name = ".".join([*paths[scope], "input" if self.is_leaf(call) else _safe(entry.op)])
            seen[self.place[call], name] += 1
            n = seen[self.place[call], name]
            self.slot[call] = name if n == 1 else f"{name}.{n}"


def path_of(scope: Scope | None) -> list[str]:
    """The parts of a scope, safe for an id, with the layer and the direction where there is more than one."""
    path: list[str] = []
    while scope is not None:
        direction, layer = scope.own_tags.get("direction"), scope.own_tags.get("layer")
        if direction in REVERSE:
            path.append("backward")
        if layer:
            path.append(f"l{_safe(str(layer))}")
        if scope.part:
            path.append(_safe(scope.part))
        scope = scope.parent
    return path[::-1]


# ---- folding --------------------------------------------------------------------------------------------------------


def fold(calls: Calls, level: str) -> dict[int, Group]:
    """For each call the group that it is folded into: (place, name, number); a group without a name is one call.

    A group must not both lead to another group of its column and depend on it, or the column could not be read from
    left to right. So a call that would close such a circle starts its group anew, under the next number.
    """
    group_of: dict[int, Group] = {}
    newest: Counter[tuple[Place, str]] = Counter()
    reads: dict[Group, set[Group]] = defaultdict(set)  # within a column
    names: dict[Scope, str] = {}
    for call in calls.order:
        name, scope = "", calls.scope(call)
        if not (level == "op" or calls.is_leaf(call) or calls.is_cut(call)):
            if scope not in names:
                names[scope] = folds_into(scope, level)
            name = names[scope]
        place = calls.place[call]
        if place[0] == "elided" or call in calls.aside:
            name = ELIDED
        if not name or (call in calls.given and name != ELIDED):
            group: Group = (place, "", call)
        else:
            group = (place, name, newest[place, name])
        sources = {group_of[s] for _, _, s in calls.reads[call] if calls.place[s] == place} - {group}
        if name and _reaches(group, sources, reads):
            newest[place, name] += 1
            group = (place, name, newest[place, name])
        reads[group] |= sources
        group_of[call] = group
    return group_of


def folds_into(scope: Scope, level: str) -> str:
    """The path of the scope that a call is folded into: the cell's or the gate's; "" if it stands for itself."""
    chain: list[Scope] = []
    each: Scope | None = scope
    while each is not None:
        if each.part:
            chain.append(each)
        each = each.parent
    chain.reverse()
    if not chain:
        return ""
    cell = next((i for i, s in enumerate(chain) if s.own_tags.get("role") == "cell"), None)
    if cell is None:
        cell = next((i for i, s in enumerate(chain) if s.t is not None), 0)
    if level == "cell" or scope.t is None:
        return ".".join(path_of(chain[cell]))
    return ".".join(path_of(chain[-1])) if len(chain) - 1 > cell else ""


def _reaches(group: Group, sources: set[Group], reads: dict[Group, set[Group]]) -> bool:
    """Whether any of the sources depends on the group."""
    if not reads.keys() >= {group}:
        return False
    stack, seen = [*sources], set(sources)
    while stack:
        each = stack.pop()
        if each == group:
            return True
        fresh = reads.get(each, set()) - seen
        seen |= fresh
        stack += fresh
    return False


# ---- the graph ------------------------------------------------------------------------------------------------------


def build(calls: Calls, level: str, group_of: dict[int, Group], hidden: dict[str, dict[int, Grad]]) -> Graph:
    """Make nodes and edges of the groups, and say what flows back."""
    columns, index_of = _columns(calls)
    members: dict[Group, list[int]] = defaultdict(list)
    for call in calls.order:
        members[group_of[call]].append(call)
    crossing, visible = _boundaries(calls, group_of)
    grad_of = Gradients(calls.tape)
    nodes: dict[Group, Node] = {}
    ids: Counter[str] = Counter()
    for group, held in members.items():
        if group[1] == ELIDED:
            node, values = _elided(calls, group, held, group_of, hidden)
        else:
            node, values = _node(calls, level, group, held, crossing, visible), _shown_values(calls, held, visible)
        node.column = index_of.get(group[0])
        ids[node.id] += 1
        if ids[node.id] > 1:
            node.id += f"~{ids[node.id]}"
        node.grad = grad_of.values([calls.entry[i] for i in values])
        nodes[group] = node
    taken: set[tuple[int | None, str]] = set()
    for call, state in calls.stands_for.items():  # a folded state's initial value takes the fold's place
        node, slot = nodes[group_of[call]], nodes[group_of[state]].slot
        node.slot = slot if (node.column, slot) not in taken else node.slot
        taken.add((node.column, node.slot))
    edges: dict[tuple[int, int], Edge] = {}
    through: dict[tuple[int, int], set[int]] = defaultdict(set)
    for call in calls.order:
        for _, i, source in calls.reads[call]:
            a, b = nodes[group_of[source]], nodes[group_of[call]]
            if a is not b:
                key = (id(a), id(b))
                edges.setdefault(key, Edge(a, b))
                edges[key].cut |= calls.is_cut(call)
                through[key].add(i)
    node_of = {i: nodes[group_of[call]] for i, call in calls.call_of.items()}
    grad_of.edges(edges, node_of)
    return Graph(level, columns, list(nodes.values()), list(edges.values()), hidden)


def _columns(calls: Calls) -> tuple[list[Column], dict[Place, int]]:
    """The columns from left to right: before time, then each part with its steps and initial states, then after time."""
    places = list(dict.fromkeys(calls.place[call] for call in calls.order))
    parts = list(dict.fromkeys(part for role, part, _ in places if role == "step"))
    ordered: list[Place] = [place for place in places if place[0] == "before"]
    for part in parts:
        ordered += [place for place in places if place[:2] == ("init", part)]
        steps = sorted((place for place in places if place[:2] == ("step", part)), key=lambda place: place[2] or 0)
        run = calls.runs.get(part, ())
        early = sum(place[2] < run[0] for place in steps if place[2] is not None) if run else len(steps)
        ordered += [*steps[:early], *([("elided", part, None)] if run else []), *steps[early:]]
        ordered += [place for place in places if place[:2] == ("init-reverse", part)]
    ordered += [place for place in places if place[0] == "after"]
    columns = [Column(role.partition("-")[0], p, t, calls.runs[p] if role == ELIDED else ()) for role, p, t in ordered]
    return columns, {place: i for i, place in enumerate(ordered)}


def _boundaries(calls: Calls, group_of: dict[int, Group]) -> tuple[set[str], set[tuple[str, str]]]:
    """Slots whose value crosses from one step to another (states), and slots whose value leaves its group."""
    crossing: set[str] = set()
    visible: set[tuple[str, str]] = set()
    for call in calls.order:
        here = calls.place[call]
        for _, _, source in calls.reads[call]:
            there = calls.place[source]
            if calls.is_leaf(source):
                continue
            if {there[0], here[0]} <= {"step", ELIDED} and there != here and there[1] == here[1]:
                crossing.add(calls.slot[source])
            if group_of[source] != group_of[call]:
                visible.add((there[1], calls.slot[source]))
    return crossing, visible


def _shown_values(calls: Calls, held: list[int], visible: set[tuple[str, str]]) -> list[int]:
    """The entries that a node shows: what leaves it, or its last value if nothing does."""
    out = [call for call in held if (calls.place[call][1], calls.slot[call]) in visible] or held[-1:]
    return [i for call in out for i in calls.entries[call] if calls.call_of.get(i) == call]


def _node(
    calls: Calls, level: str, group: Group, held: list[int], crossing: set[str], visible: set[tuple[str, str]]
) -> Node:
    place, name, _ = group
    values = _shown_values(calls, held, visible)
    last, call = calls.entry[values[-1]], held[0]
    t = place[2]
    kind, label, small, slot = "op", "", "", _slot(calls, group, held)
    carries = any(calls.slot[each] in crossing for each in held)
    if name:
        kind = level if carries or (t is not None and (level == "gate" or not crossing)) else "op"
        names = [calls.entry[i].name or "" for i in values]
        part = _last_part(calls, held, name)
        label = ", ".join(names) if all(names) and len(names) <= 2 else part + (f"<{t}>" if t is not None else "")
        small = part if all(names) and len(names) <= 2 and not any(part in each for each in names) else ""
    elif calls.is_leaf(call):
        if calls.is_weight(call):
            kind = "weight"
        elif call in calls.stands_for:
            kind = "state"
        else:
            kind = "constant" if calls.entry[call].node.shape == () else "input"
        label = calls.entry[call].name or (calls.entry[call].label if kind == "constant" else "input")
    else:
        kind = "state" if carries or call in calls.given else "op"
        sign = _sign(calls, call)
        label, small = (last.name, sign) if last.name else (sign, "")
    if last.op not in ("leaf", "constant") and not calls.used_by[held[-1]] and last.shape in ((), (1,)) and last.requires_grad:
        kind = "loss"
    entries = sorted({i for each in held for i in calls.entries[each]})
    prefix = f"t{t}." if t is not None else "init." if place[0].startswith("init") else ""
    where = place[1] and f"{_safe(place[1])}." if t is not None or place[0].startswith("init") else ""
    if where and slot.startswith(where):
        where = ""
    return Node(
        id=f"{prefix}{where}{slot}", kind=kind, label=label, small=small, t=t, column=None, slot=slot, shape=tuple(last.shape),
        entries=entries, source=last.source, given=calls.is_leaf(call) or call in calls.given,
        reverse=calls.scope(call).tags.get("direction") in REVERSE, carries=carries,
    )  # fmt: skip


def runs_of(calls: Calls, shown: int) -> dict[str, tuple[int, ...]]:
    """For each part the steps to hide: all but the first ones and the last."""
    times: dict[str, set[int]] = defaultdict(set)
    for role, part, t in calls.place.values():
        if role == "step" and t is not None:
            times[part].add(t)
    return {part: tuple(sorted(each)[shown - 1 : -1]) for part, each in times.items() if len(each) > shown + 1}


def _is_hidden(group: Group, runs: dict[str, tuple[int, ...]]) -> bool:
    role, part, t = group[0]
    return role == "step" and t in runs.get(part, ())


def hidden_states(calls: Calls, group_of: dict[int, Group], runs: dict[str, tuple[int, ...]]) -> dict[str, dict[int, Grad]]:
    """The gradients of the states that will be hidden, by slot and step: what is not drawn is still told."""
    crossing, visible = _boundaries(calls, group_of)
    members: dict[Group, list[int]] = defaultdict(list)
    for call, group in group_of.items():
        if _is_hidden(group, runs):
            members[group].append(call)
    grad_of = Gradients(calls.tape)
    found: dict[str, dict[int, Grad]] = defaultdict(dict)
    for group, held in members.items():
        t = group[0][2]
        if t is not None and any(calls.slot[call] in crossing for call in held):
            found[_slot(calls, group, held)][t] = grad_of.values([calls.entry[i] for i in _shown_values(calls, held, visible)])
    return dict(found)


def _elided(
    calls: Calls, group: Group, held: list[int], group_of: dict[int, Group], hidden: dict[str, dict[int, Grad]]
) -> tuple[Node, list[int]]:
    """The node of a run of steps, and the entries that leave it; or of what outside of time belongs to that run."""
    (role, part, _), _, number = group
    out = [call for call in held if any(group_of[reader] != group for _, reader in calls.used_by[call])] or held[-1:]
    values = [i for call in out for i in calls.entries[call] if calls.call_of.get(i) == call]
    last = calls.entry[values[-1]]
    run = calls.runs[part] if role == ELIDED else next(iter(calls.runs.values()))
    norms = [grad.norm for states in hidden.values() for t, grad in states.items() if t in run and grad.norm]
    if role == ELIDED:
        slots: dict[int, Counter[str]] = defaultdict(Counter)
        for call in held:
            if not calls.is_leaf(call):
                slots[calls.entry[call].t or 0][calls.slot[call]] += 1
        equal = "equal " if all(each == slots[run[0]] for each in slots.values()) else ""
        statuses = {grad.status for states in hidden.values() for t, grad in states.items() if t in run}
        label = f"…\n{len(run)} {equal}steps" + (f"\ngradient norm\n{min(norms):.2g} to {max(norms):.2g}" if norms else "")
        label += "\nsome not finite" if "nonfinite" in statuses else ""
        label += f"\n{'some' if norms else 'gradient'} exactly 0" if "zero" in statuses else ""
    else:
        signs = [_sign(calls, call) for call in held if not calls.is_leaf(call)]
        label = f"{' '.join([*dict.fromkeys(signs)][:3])} …\n{len(signs)} operations"
    slot = (f"{role}.{ELIDED}" if role != ELIDED else ELIDED) + (f".{number + 1}" if number else "")
    node = Node(
        id=f"{_safe(part)}.{slot}" if part else slot, kind=ELIDED, label=label, t=None, column=None, slot=slot,
        shape=tuple(last.shape), entries=sorted({i for call in held for i in calls.entries[call]}), source=last.source,
        steps=(run[0], run[-1]), norms=(min(norms), max(norms)) if norms else None,
    )  # fmt: skip
    return node, values


def _slot(calls: Calls, group: Group, held: list[int]) -> str:
    """The slot of a group: its path within the column."""
    _, name, number = group
    if not name:
        return calls.slot[held[0]]
    return name if number == 0 else f"{name}.{number + 1}"


def _last_part(calls: Calls, held: list[int], name: str) -> str:
    """The part of the scope that a group is named after, as the user wrote it."""
    scope: Scope | None = calls.scope(held[0])
    while scope is not None:
        if scope.part and ".".join(path_of(scope)) == name:
            return scope.part
        scope = scope.parent
    return name


def _sign(calls: Calls, call: int) -> str:
    """What stands for an operation: its label, with a number that was written in the call: `1 -`, `× 2`."""
    entry = calls.entry[call]
    sign = registry[entry.op].label if entry.op in registry else entry.op
    if len(entry.inputs) == 2:
        a, b = (calls.whole[i] for i in entry.inputs)
        if _is_number(a):
            return f"{a.label} {sign}"
        if _is_number(b):
            return f"{sign} {b.label}"
    return sign


def _is_number(entry: Entry) -> bool:
    """A nameless constant of one element: it is written into the operation that reads it."""
    return entry.op == "constant" and entry.shape == () and entry.name is None


@lru_cache(maxsize=4096)
def _safe(text: str) -> str:
    """Text as a part of an id: letters, digits, `_`, `-` and `~`; others as their code points."""
    return re.sub(r"[^A-Za-z0-9_~-]", lambda m: f"_{ord(m[0]):x}", text)
