"""What is folded into which box. Read me after `calls.py`.

At level "op" each call is a node; at level "gate" a scope inside the cell's is one, and so is what weights make of inputs and
state on the way to the gates; at level "cell" all that ran in the scope that carries the step is one node; and at level
"rolled" that scope is one for all steps together.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from tinygrad_seq.scopes import Scope
from tinygrad_seq.viz.calls import HIDDEN, Calls, Place, path_of, within
from tinygrad_seq.viz.seen_through import MOVES

Group = tuple[Place, str, int]  # what is folded into one node: its column, its name and a number; see `fold`

ELIDED = "elided"
LEFT_OUT = "…"  # the name of a group of what is not shown: no scope's, whose names are made safe
LEVELS = ("rolled", "cell", "gate", "op")  # from the coarsest to the finest
LINEAR = "linear"  # the name of a step's products with weights, and of what adds them up and cuts them into gates
PRODUCTS = frozenset({"matmul", "multiply", "tensordot", "einsum"})
SUMS = frozenset({"add", "subtract"})
MANY = 3  # operations of one kind: so many outside of time, if there is one for each step, are not shown one by one
KEPT = 4  # steps that are shown where there are too many: the first three and the last


def fold(calls: Calls, level: str) -> dict[int, Group]:
    """For each call the group that it is folded into: (place, name, number). A group without a name is one call, whose number it
    has, with the calls through which that one is seen.

    A group must not both lead to another group of its column and depend on it, or the column could not be read from
    left to right. So a call that would close such a circle starts its group anew, under the next number.
    """
    group_of: dict[int, Group] = {}
    newest: dict[tuple[Place, str, int], int] = {}
    counts: Counter[tuple[Place, str]] = Counter()
    reads: dict[Group, set[Group]] = defaultdict(set)  # within a column
    names: dict[Scope, str] = {}
    linear = linear_parts(calls) if level == "gate" else {}
    kept_by = calls.kept_by if level != "op" else {}
    for call in calls.order:
        joined = calls.keeps.get(call) if level != "op" else None
        joined = _seen_through(calls, call, level) if joined is None else joined
        if joined is not None:
            group_of[call] = group_of[joined]
            continue
        place, name, part = calls.place[call], _name(calls, call, level, names), calls.loss_of.get(call, 0)
        if call in linear and not name:
            name, part = _linear_name(calls, call), linear[call]
        key = (place, name, part)

        def start(key: tuple[Place, str, int] = key) -> Group:
            newest[key] = counts[key[:2]]
            counts[key[:2]] += 1
            return (*key[:2], newest[key])

        if not name or calls.is_given(call):
            group: Group = (place, "", kept_by.get(call, call))
        else:
            group = (place, name, newest[key]) if key in newest else start()
        sources = {group_of[s] for _, _, s in calls.reads[call] if calls.place[s] == place} - {group}
        if name and _reaches(group, sources, reads):
            group = start()
        reads[group] |= sources
        group_of[call] = group
    products = {group_of[call] for call in linear if calls.entry[call].op in PRODUCTS}
    for call in linear:
        if group_of[call][1] and group_of[call] not in products:  # what a circle has cut off from its products stands for itself
            group_of[call] = (calls.place[call], "", call)
    return group_of


def _seen_through(calls: Calls, call: int, level: str) -> int | None:
    """The call in whose box this one is seen through: a state's, or where gates are boxes a weight's."""
    source = calls.hands_on.get(call)
    if source is None or level == "op" or (level != "gate" and calls.place[source] != calls.place[call]):
        return None
    return source


def put_together(calls: Calls, group_of: dict[int, Group]) -> dict[int, Group]:
    """The groups that remain when steps have been hidden, of those that were folded before.

    A run of steps that is left out becomes one group. Where all steps are rolled into one, what has the same name, or
    the same slot, at every step does; and beside them, outside of time, only what is repeated.
    """
    rolled: dict[int, Group] = {}
    rolls = any(place[0] == "rolled" for place in calls.place.values())
    least = max(MANY, *(len(run) - 1 for run in calls.runs.values())) if rolls else 1
    repeated = Counter((calls.place[call], _without_number(calls.slot[call])) for call in calls.aside)
    reads: dict[Group, set[Group]] = defaultdict(set)
    newest: Counter[Place] = Counter()
    moved: dict[tuple[Place, str], dict[Group, int]] = defaultdict(dict)
    for call, (place, name, number) in group_of.items():
        role = calls.place[call][0]
        if role in HIDDEN:
            name, number = (LEFT_OUT, 0) if role == "elided" else (name, number) if name else (calls.slot[number], 0)
            rolled[call] = (calls.place[call], name, number)
            continue
        group = (place, name, number)
        if place[0] == "step":
            rolled[call] = group
            continue
        sources = {rolled[source] for _, _, source in calls.reads[call]}
        if place[0] == "after":  # a loss of a hidden window has moved to where others are; all steps together have one of a name
            place = calls.place[call]
            key = (place, name, 0) if rolls and call in calls.loss_of else group
            group = (place, name, moved[place, name].setdefault(key, len(moved[place, name])) if name else number)
            if key != group and _reaches(group, sources - {group}, reads):
                group = (place, name, moved[place, name].setdefault((place, name, call), len(moved[place, name])))
        if call in calls.aside and repeated[place, _without_number(calls.slot[call])] >= least:
            group = (place, LEFT_OUT, newest[place])
            if _reaches(group, sources - {group}, reads):
                newest[place] += 1
                group = (place, LEFT_OUT, newest[place])
        reads[group] |= sources - {group}
        rolled[call] = group
    return rolled


def _without_number(slot: str) -> str:
    return re.sub(r"\.\d+$", "", slot)


def _name(calls: Calls, call: int, level: str, names: dict[Scope, str]) -> str:
    """The name that a call's group goes by; "" if the call stands for itself."""
    if level == "op" or calls.is_leaf(call) or calls.is_cut(call):
        return ""
    scope = calls.scope(call)
    if scope not in names:
        names[scope] = folds_into(scope, level, calls.is_step(call))
    return names[scope]


def folds_into(scope: Scope, level: str, step_of_array: bool = False) -> str:
    """The path of the scope that a call is folded into: the cell's or the gate's; "" if it stands for itself.

    Args:
        scope: of the call.
        level: of detail.
        step_of_array: whether it is one step of an operation over all of time.
    """
    chain = _chain(scope)
    if not chain:
        return ""
    cell = _cell(chain, step_of_array)
    if level == "cell" or (scope.t is None and not step_of_array):
        return ".".join(path_of(chain[cell]))
    return ".".join(path_of(chain[-1])) if len(chain) - 1 > cell else ""


def _chain(scope: Scope) -> list[Scope]:
    """The scopes that have a name, from the outermost to this one."""
    chain: list[Scope] = []
    each: Scope | None = scope
    while each is not None:
        if each.part:
            chain.append(each)
        each = each.parent
    return chain[::-1]


def _cell(chain: list[Scope], step_of_array: bool) -> int:
    """Which of these scopes is the cell's: the one that says so, else the one that carries the step."""
    cell = next((i for i, s in enumerate(chain) if s.own_tags.get("role") == "cell"), None)
    if cell is not None:
        return cell
    return next((i for i, s in enumerate(chain) if s.t is not None or (step_of_array and s.time_axis is not None)), 0)


def linear_parts(calls: Calls) -> dict[int, int]:
    """The calls that make, of inputs and a state, what goes into the gates: x W_x + h W_h + b, cut into a part for each gate.

    That is: products with a weight, sums of such products with anything, and what merely moves their numbers about; and what
    is done to weights alone before, if a product follows. A value that the next step reads is not among them: it is a state;
    nor is what ran in a gate's scope.

    Returns:
        For each of these calls the number of the connected part that it belongs to.
    """
    weights = {call for call in calls.order if calls.is_weight(call)}
    carried = {calls.slot[source] for call in calls.order for _, _, source in calls.reads[call] if _goes_on(calls, source, call)}
    found: set[int] = set()
    products: set[int] = set()
    names: dict[tuple[Scope, bool], str] = {}
    for call in calls.order:
        if calls.is_leaf(call) or calls.place[call][0] != "step" or calls.slot[call] in carried or call in calls.kept_by:
            continue
        if call in calls.hands_on:
            if calls.hands_on[call] in weights:
                weights.add(call)
            continue
        op, sources = calls.entry[call].op, {source for _, _, source in calls.reads[call]}
        here = {source for source in sources & found if calls.place[source] == calls.place[call]}
        alone = bool(sources) and sources <= weights
        if alone:
            weights.add(call)
        if _in_gate(calls, call, names):
            continue
        if op in PRODUCTS and sources & weights and not alone:
            products.add(call)
        if call in products or alone or (op in SUMS | MOVES and here):
            found.add(call)
    parts = _Parts(found)
    for call in found:
        for _, _, source in calls.reads[call]:
            if source in found and calls.place[source] == calls.place[call]:
                parts.join(source, call)
    linear = {parts.of(call) for call in products}
    return {call: parts.of(call) + 1 for call in found if parts.of(call) in linear}


def _in_gate(calls: Calls, call: int, names: dict[tuple[Scope, bool], str]) -> bool:
    """Whether a call is folded into a gate's scope; `names` is remembered."""
    key = (calls.scope(call), calls.is_step(call))
    if key not in names:
        names[key] = folds_into(key[0], "gate", key[1])
    return bool(names[key])


class _Parts:
    """Connected parts of a graph (union-find)."""

    def __init__(self, members: set[int]) -> None:
        self._leader = {member: member for member in members}

    def of(self, member: int) -> int:
        """The smallest member of the part."""
        while self._leader[member] != member:
            self._leader[member] = member = self._leader[self._leader[member]]
        return member

    def join(self, one: int, other: int) -> None:
        """Make one part of the parts of two members."""
        low, high = sorted((self.of(one), self.of(other)))
        self._leader[high] = low


def is_linear(calls: Calls, group: Group, call: int) -> bool:
    """Whether the group of a call is such a part, and no scope that the user calls the same."""
    return group[1].rpartition(".")[2] == LINEAR and not folds_into(calls.scope(call), "gate", calls.is_step(call))


def _linear_name(calls: Calls, call: int) -> str:
    chain = _chain(calls.scope(call))
    return ".".join([*(path_of(chain[_cell(chain, calls.is_step(call))]) if chain else ()), LINEAR])


def _goes_on(calls: Calls, source: int, reader: int) -> bool:
    """Whether a value crosses from one step to another."""
    there, here = calls.place[source], calls.place[reader]
    return there != here and there[0] == here[0] == "step" and there[1] == here[1]


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


# ---- steps that are not shown ---------------------------------------------------------------------------------------


def runs_of(calls: Calls, shown: int) -> dict[str, tuple[int, ...]]:
    """For each part the steps to hide: all but the first ones and the last. Nothing, if that would hide one step only."""
    return {part: steps[shown - 1 : -1] for part, steps in steps_of(calls).items() if len(steps) > shown + 1}


def steps_of(calls: Calls) -> dict[str, tuple[int, ...]]:
    """The steps of each part."""
    times: dict[str, set[int]] = defaultdict(set)
    for role, part, t in calls.place.values():
        if role == "step" and t is not None:
            times[part].add(t)
    return {part: tuple(sorted(each)) for part, each in times.items()}


def is_hidden(group: Group, runs: dict[str, tuple[int, ...]]) -> bool:
    """Whether the group will be hidden by these runs of steps, or is already."""
    role, part, t = group[0]
    return role in HIDDEN or (role == "step" and within(runs.get(part, ()), t))
