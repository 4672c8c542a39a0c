"""The box of each group: its kind, its label, what it shows. Read me after `fold.py`."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property

from tinygrad_seq.listing import Entry, Tape
from tinygrad_seq.primitive import registry
from tinygrad_seq.scopes import Scope
from tinygrad_seq.viz.calls import Calls, path_of, safe, step_of, within
from tinygrad_seq.viz.fold import ELIDED, LEFT_OUT, LINEAR, Group, is_hidden, is_linear
from tinygrad_seq.viz.gradients import Gradients
from tinygrad_seq.viz.graph import Grad, Node
from tinygrad_seq.viz.hoisted import Value, is_number

Hidden = dict[str, dict[int, Grad]]  # of states that are not shown one by one: their gradients, by slot and step


class Boxes:
    """The boxes of a folded tape.

    Attributes:
        crossing: slots whose value crosses from one step to another: states.
        visible: (part, slot) of what leaves its group.
        hidden: the gradients of states that are hidden in a box with others.
    """

    def __init__(self, calls: Calls, level: str, group_of: dict[int, Group], hidden: Hidden) -> None:
        self.calls = calls
        self.level = level
        self.group_of = group_of
        self.hidden = hidden
        self.crossing, self.visible = boundaries(calls, group_of)
        self._grad_of = Gradients(calls, level != "op")
        self._folds = {self.slot(group, ()) for group in group_of.values() if group[1]}

    def make(self, group: Group, held: Sequence[int]) -> tuple[Node, list[Value]]:
        """The box of a group of calls, and the values that it shows."""
        role, name = group[0][0], group[1]
        values = self._leaving(group, held) if name == LEFT_OUT else self.shown(held)
        if name == LEFT_OUT:
            node = self._run(group, held, values) if role == "elided" else self._beside(group, held, values)
        else:
            node = self._node(group, held, values)
        node.grad = self._grad_of.values(values)
        node.names = tuple(dict.fromkeys(called for call in held if (called := self.calls.entry[call].name)))
        return node, values

    def shown(self, held: Sequence[int]) -> list[Value]:
        """What a box shows: what leaves it, or its last value if nothing does."""
        own = self._own(held)
        out = [call for call in own if (self.calls.place[call][1], self.calls.slot[call]) in self.visible] or own[-1:]
        return [value for call in out for value in self.calls.values[call]]

    def _own(self, held: Sequence[int]) -> list[int]:
        """What a box can show of the calls in it: nothing that one sees through to another, and no new state of which the other
        rows' is kept; these in the order in which they are made."""
        calls, inside = self.calls, set(held)
        own = [call for call in held if calls.hands_on.get(call) not in inside and calls.kept_by.get(call) not in inside]
        return sorted(own, key=lambda call: calls.keeps.get(call, call)) if calls.keeps else own

    # ---- boxes of one step, and of all -----------------------------------------------------------------------------

    def _node(self, group: Group, held: Sequence[int], values: Sequence[Value]) -> Node:
        calls, (place, name, number) = self.calls, group
        last, call, t = calls.entry[values[-1][0]], held[0] if name else number, step_of(place)
        rolled = place[0] == "rolled"
        carries = any(calls.slot[each] in self.crossing for each in held)
        single = calls.is_leaf(call) or calls.is_cut(call)
        if self.level == "gate" and is_linear(calls, group, call):
            kind, label, small = "op", self._linear_label(values), ", ".join(self._weights_in(held))
        elif name and not (rolled and single):
            kind, label, small = self._fold(group, held, values, carries)
        elif calls.is_leaf(call):
            kind, label, small = self._leaf_kind(call), self._leaf_label(call), ""
        else:
            kind = "state" if carries or calls.is_given(call) else "op"
            sign = sign_of(calls.whole, calls.entry[calls.keeps.get(call, call) if calls.keeps.get(call) in held else call])
            label, small = (last.name, sign) if last.name else (sign, "")
        if rolled:
            label = at_any_step(label)
        end = calls.entry[held[-1]] if held[-1] in calls.losses else last  # what it is made of may be read later
        ends = end.op not in ("leaf", "constant") and (not calls.used_by[held[-1]] or held[-1] in calls.losses)
        if ends and end.shape in ((), (1,)) and end.requires_grad:
            kind = "loss"
            if end is not last and end.name:
                label = end.name
            if not end.name:
                label, small = "L", small or label
        slot = self.slot(group, held)
        node = Node(
            id=_id(group, slot), kind=kind, label=label, small=small, t=t, column=None, slot=slot,
            shape=_shape(calls, values[-1]), entries=sorted({i for each in held for i in calls.entries[each]}),
            source=last.source, given=calls.is_leaf(call) or calls.is_given(call),
            reverse=calls.is_reverse(call), carries=carries,
        )  # fmt: skip
        if rolled:
            self._say_range(node, held)
        return node

    def _fold(self, group: Group, held: Sequence[int], values: Sequence[Value], carries: bool) -> tuple[str, str, str]:
        """Kind, label and small print of a box that holds a gate, or a cell."""
        (role, t), name = (group[0][0], step_of(group[0])), group[1]
        in_time = t is not None or role == "rolled"
        kind = "cell" if self.level == "rolled" else self.level
        kind = kind if carries or (in_time and (self.level == "gate" or not self.crossing)) else "op"
        newest = {(self.calls.slot[self.calls.call_of[value]], value[1]): value for value in values}
        if role == "rolled":  # the last step's stand for all
            newest = {(slot, None): value for (slot, _), value in newest.items()}
        names = [self.calls.entry[i].name or "" for i, _ in newest.values()]
        part = self._last_part(held, name)
        if all(names) and len(names) <= 2:
            return kind, ", ".join(names), "" if kind == "gate" or any(part in each for each in names) else part
        return kind, part + (f"<{'t' if t is None else t}>" if in_time else ""), ""

    def _linear_label(self, values: Sequence[Value]) -> str:
        """The names that the user gave to what leaves the box, or what it is."""
        names = list(dict.fromkeys(self.calls.entry[i].name or "" for i, _ in values))
        return ", ".join(names) if all(names) and len(names) <= 2 else LINEAR

    def _weights_in(self, held: Sequence[int]) -> list[str]:
        """The weights that are multiplied or added in a box."""
        read = [self._seen(source) for call in held for _, _, source in self.calls.reads[call]]
        read = [source for source in read if self.calls.is_weight(source)]
        return [self._leaf_label(weight).rpartition(".")[2] for weight in dict.fromkeys(read)]

    def _seen(self, call: int) -> int:
        """What one sees through a call: for a part of a weight the weight."""
        while call in self.calls.hands_on:
            call = self.calls.hands_on[call]
        return call

    def _leaf_kind(self, call: int) -> str:
        if self.calls.is_weight(call):
            return "weight"
        if call in self.calls.stands_for:
            return "state"
        return "constant" if self.calls.entry[call].node.shape == () else "input"

    def _leaf_label(self, call: int) -> str:
        entry = self.calls.entry[call]
        if entry.op == "constant" and entry.node.shape == ():
            return entry.name or entry.label
        name, t = entry.name or self._unnamed(call), self.calls.time[call]
        own = self.calls.is_step(call) or not entry.name  # else the user has said which step it is, or that it is none
        return f"{name}<{t}>" if own and t is not None else name

    def _unnamed(self, call: int) -> str:
        """What an array is called that has no name: `mask` if it says yes or no, `y` if only a loss compares something with it,
        `x` if it goes into the model."""
        node = self.calls.entry[call].node
        if node.dtype.kind == "b":
            return "mask"
        compared = not node.requires_grad and all(
            reader not in self._modelled and any(self._is_predicted(source) for _, _, source in self.calls.reads[reader])
            for _, reader in self.calls.used_by[call]
        )
        return "y" if compared and self.calls.used_by[call] else "x"

    def _is_predicted(self, call: int) -> bool:
        return self.calls.entry[call].node.requires_grad and not self.calls.is_weight(call)

    @cached_property
    def _modelled(self) -> set[int]:
        """The calls whose values go on into the model: they meet a weight, or a later step reads them. Those of a loss do not,
        but for the losses of single steps, which are numbers and are added up."""
        calls, found = self.calls, set[int]()
        weights = {call for call in calls.leaves if calls.is_weight(call)}
        for call in reversed(calls.order):
            readers, t = [reader for _, reader in calls.used_by[call]], calls.time[call]
            goes_on = not found.isdisjoint(readers) or any(source in weights for _, _, source in calls.reads[call])
            later = not goes_on and any(calls.time[reader] not in (None, t) for reader in readers)
            if goes_on or (later and calls.entry[call].shape not in ((), (1,))):
                found.add(call)
        return found

    def _say_range(self, node: Node, held: Sequence[int]) -> None:
        """Of a box for all steps: which steps, and from where to where the gradient goes over time."""
        times = sorted({t for call in held if (t := self.calls.time[call]) is not None})
        node.steps = (times[0], times[-1]) if times else None
        by_step: dict[int | None, list[int]] = defaultdict(list)
        for call in held:
            by_step[self.calls.time[call]].append(call)
        grads = [self._grad_of.values(self.shown(each)) for each in by_step.values()]
        node.norms = _range(grads)

    def slot(self, group: Group, held: Sequence[int]) -> str:
        """The slot of a group: its path within the column. A call by itself gives way to a scope of the same name."""
        _, name, number = group
        if not name:
            slot = self.calls.slot[number]
            return f"{slot}~" if slot in self._folds else slot
        return name if number == 0 else f"{name}.{number + 1}"

    def _last_part(self, held: Sequence[int], name: str) -> str:
        """The part of the scope that a group is named after, as the user wrote it."""
        scope: Scope | None = self.calls.scope(held[0])
        while scope is not None:
            if scope.part and ".".join(path_of(scope)) == name:
                return scope.part
            scope = scope.parent
        return name

    # ---- boxes of what is left out ---------------------------------------------------------------------------------

    def _leaving(self, group: Group, held: Sequence[int]) -> list[Value]:
        used_by, group_of = self.calls.used_by, self.group_of
        out = [call for call in held if any(group_of[reader] != group for _, reader in used_by[call])] or held[-1:]
        return [value for call in out for value in self.calls.values[call]]

    def _run(self, group: Group, held: Sequence[int], values: Sequence[Value]) -> Node:
        """The box of a run of steps that are not shown: how many, whether they are equal, and what their gradients are."""
        (_, part, _), _, number = group
        run = self.calls.runs[part]
        slots: dict[int, Counter[str]] = defaultdict(Counter)
        for call in held:
            if not self.calls.is_leaf(call):
                slots[self.calls.time[call] or 0][self.calls.slot[call]] += 1
        equal = "equal " if all(each == slots[run[0]] for each in slots.values()) else ""
        grads = [grad for states in self.hidden.values() for t, grad in states.items() if within(run, t)]
        node = self._left_out(group, held, values, ELIDED + (f".{number + 1}" if number else ""), run, grads)
        node.label = f"…\n{len(run)} {equal}steps"
        node.label += f"\ngradient norm\n{node.norms[0]:.2g} to {node.norms[1]:.2g}" if node.norms else ""
        statuses = {grad.status for grad in grads}
        node.label += "\nsome not finite" if "nonfinite" in statuses else ""
        node.label += f"\n{'some' if node.norms else 'gradient'} exactly 0" if "zero" in statuses else ""
        return node

    def _beside(self, group: Group, held: Sequence[int], values: Sequence[Value]) -> Node:
        """The box of what stands outside of time and belongs to such a run, as the `+` that add up the losses of its steps."""
        (role, _, _), _, number = group
        run = next(iter(self.calls.runs.values()))
        signs = [sign_of(self.calls.whole, self.calls.entry[call]) for call in held if not self.calls.is_leaf(call)]
        grads = [self._grad_of.values([value]) for value in values]
        node = self._left_out(group, held, values, f"{role}.{ELIDED}" + (f".{number + 1}" if number else ""), run, grads)
        kinds = [*dict.fromkeys(signs)]
        node.label = f"{' '.join(kinds[:3])} …\n{len(signs)} operations" if len(kinds) > 1 else f"{kinds[0]}\n{len(signs)} times"
        last = calls_end(self.calls, held)
        if last is not None and self.calls.entry[last].shape in ((), (1,)) and self.calls.entry[last].requires_grad:
            node.kind = "loss"
            node.label = f"{self.calls.entry[last].name or node.label}"
            several = sum(not self.calls.used_by[call] and not self.calls.is_leaf(call) for call in held)
            node.label += f"\n{several} times" if several > 1 and self.calls.entry[last].name else ""
        return node

    def _left_out(
        self, group: Group, held: Sequence[int], values: Sequence[Value], slot: str, run: Sequence[int], grads: Iterable[Grad]
    ) -> Node:
        part, last = group[0][1], self.calls.entry[values[-1][0]]
        return Node(
            id=f"{safe(part)}.{slot}" if part else slot, kind=ELIDED, label="", t=None, column=None, slot=slot,
            shape=_shape(self.calls, values[-1]), entries=sorted({i for call in held for i in self.calls.entries[call]}),
            source=last.source, steps=(run[0], run[-1]), norms=_range(grads),
        )  # fmt: skip


def boundaries(calls: Calls, group_of: dict[int, Group]) -> tuple[set[str], set[tuple[str, str]]]:
    """Slots whose value crosses from one step to another, and (part, slot) of those whose value leaves its group."""
    crossing: set[str] = set()
    visible: set[tuple[str, str]] = set()
    for call in calls.order:
        here = calls.place[call]
        for _, value, source in calls.reads[call]:
            if source in calls.hands_on or source in calls.kept_by:
                source = calls.call_of[calls.handed_on(value, lambda a, b: group_of[a] == group_of[b])]
            there = calls.place[source]
            if calls.is_leaf(source):
                continue
            if there == here:
                passes = here[0] == "rolled" and calls.time[source] != calls.time[call]
            else:
                passes = calls.is_in_time(source) and calls.is_in_time(call) and there[1] == here[1]
            if passes:
                crossing.add(calls.slot[source])
            if group_of[source] != group_of[call] or passes:
                visible.add((there[1], calls.slot[source]))
    return crossing, visible


def hidden_states(calls: Calls, group_of: dict[int, Group], runs: dict[str, tuple[int, ...]]) -> Hidden:
    """The gradients of the states that these runs of steps will hide, by slot and step: what is not drawn is still told."""
    boxes = Boxes(calls, "", group_of, {})
    members: dict[Group, list[int]] = defaultdict(list)
    for call, group in group_of.items():
        if is_hidden(group, runs):
            members[group].append(call)
    grad_of = Gradients(calls)
    found: dict[str, dict[int, Grad]] = defaultdict(dict)
    for group, held in members.items():
        t = group[0][2]
        if t is not None and any(calls.slot[call] in boxes.crossing for call in held):
            found[boxes.slot(group, held)][t] = grad_of.values(boxes.shown(held))
    return dict(found)


def calls_end(calls: Calls, held: Sequence[int]) -> int | None:
    """The call among these that nothing reads: where the tape ends."""
    return next((call for call in held if not calls.used_by[call] and not calls.is_leaf(call)), None)


def sign_of(whole: Tape, entry: Entry) -> str:
    """What stands for an operation: its label, with a number that was written in the call: `1 -`, `× 2`."""
    sign = registry[entry.op].label if entry.op in registry else entry.op
    if len(entry.inputs) == 2:
        a, b = (whole[i] for i in entry.inputs)
        if is_number(a):
            return f"{a.label} {sign}"
        if is_number(b):
            return f"{sign} {b.label}"
    return sign


def at_any_step(label: str) -> str:
    """A label of one step, for all of them: "h<3>" becomes "h<t>"."""
    return re.sub(r"<\d+>", "<t>", label)


def _id(group: Group, slot: str) -> str:
    role, part, t = group[0]
    if role == "after":
        return f"after{t}.{slot}" if t is not None else slot
    in_time = t is not None or role.startswith("init")
    prefix = f"t{t}." if t is not None else "init." if role.startswith("init") else ""
    where = f"{safe(part)}." if part and (in_time or role == "rolled") else ""
    return prefix + ("" if where and slot.startswith(where) else where) + slot


def _shape(calls: Calls, value: Value) -> tuple[int, ...]:
    i, t = value
    shape = tuple(calls.whole[i].shape)
    if t is None:
        return shape
    axis = calls.over_time.axis[i]
    return shape[:axis] + shape[axis + 1 :]


def _range(grads: Iterable[Grad]) -> tuple[float, float] | None:
    norms = [grad.norm for grad in grads if grad.norm]
    return (min(norms), max(norms)) if norms else None
