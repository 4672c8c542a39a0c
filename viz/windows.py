"""Losses before the end of time, and cuts between. Read me beside `calls.py`.

In truncated back-propagation through time a sequence is gone through in windows, each with a loss and a backward pass of its
own, and a cut before the next one. What stands outside of time is then not all after the last step: a loss stands behind the
last step that it depends on, and so does a cut, in a column of its own. Where that would be one behind most of the steps, they
stand in the steps' columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from tinygrad_seq.reach import reachable

if TYPE_CHECKING:
    from tinygrad_seq.viz.calls import Calls, Place


class Windows:
    """What stands at the end of a window, of calls that have been placed without regard to it.

    Attributes:
        loss_of: where there are several losses, for each call outside of time that leads to one, the call that makes it.
        first: for each of these losses, the first step that it depends on directly.
        places: of the calls that belong elsewhere than where they are.
    """

    def __init__(self, calls: Calls) -> None:
        self.loss_of: dict[int, int] = {}
        self.first: dict[int, int] = {}
        self.places: dict[int, Place] = {}
        self._steps: dict[str, set[int]] = defaultdict(set)
        for role, part, t in calls.place.values():
            if role == "step" and t is not None:
                self._steps[part].add(t)
        self._place_losses(calls)
        self._place_cuts(calls)

    def _place_losses(self, calls: Calls) -> None:
        after = {call for call, place in calls.place.items() if place[0] == "after"}
        leading = {loss: _leading_to(calls, loss, after) for loss in losses(calls, after)}
        if len(leading) < 2:
            return
        read = {loss: self._read(calls, leads) for loss, leads in leading.items()}
        ends = {loss: max(steps, key=lambda step: step[1], default=None) for loss, steps in read.items()}
        self.first = {loss: min(t for _, t in steps) for loss, steps in read.items() if steps}
        role = self._role(end for end in ends.values() if end is not None)
        for loss in sorted(leading, key=lambda each: (ends[each] is None, (ends[each] or ("", 0))[1], each)):
            end = ends[loss]
            for call in sorted(leading[loss] - self.loss_of.keys()):
                self.loss_of[call] = loss
                if end is not None and (role == "step" or end[1] < max(self._steps[end[0]])):
                    self.places[call] = (role, *end)

    def _read(self, calls: Calls, leads: Iterable[int]) -> set[tuple[str, int]]:
        """Part and t of the steps that these calls read; none if these are of several parts."""
        read = {calls.place[s] for call in leads for _, _, s in calls.reads[call] if s in calls.place}
        steps = {(part, t) for role, part, t in read if role == "step" and t is not None}
        return steps if len({part for part, _ in steps}) == 1 else set()

    def _place_cuts(self, calls: Calls) -> None:
        """A state that is cut off on its way to the next step, outside of any."""
        between: dict[tuple[str, int], list[int]] = defaultdict(list)
        for call, (role, part, t) in calls.place.items():
            if role == "step" and t is not None and calls.is_outside(call):
                between[part, t].append(call)
        cut = {end: held for end, held in between.items() if any(calls.is_cut(call) for call in held)}
        if self._role(cut) == "after":
            self.places |= {call: ("after", *end) for end, held in cut.items() for call in held}

    def _role(self, ends: Iterable[tuple[str, int]]) -> str:
        """Of the columns that the ends of windows stand in: their own, if they are few beside the steps."""
        ends = set(ends)
        return "after" if 2 * len(ends) <= sum(len(self._steps[part]) for part in {part for part, _ in ends}) else "step"


def losses(calls: Calls, among: Collection[int]) -> list[int]:
    """Where backward passes have started, or might: numbers that nothing reads."""
    passed = {i for event in calls.events for i in event.inputs}
    started = {calls.call_of.get((event.index, None)) for event in calls.events if event.index not in passed}
    return [call for call in calls.order if call in among and (call in started or _is_end(calls, call))]


def _is_end(calls: Calls, call: int) -> bool:
    entry = calls.entry[call]
    return not calls.used_by[call] and entry.shape in ((), (1,)) and entry.requires_grad


def _leading_to(calls: Calls, loss: int, among: Collection[int]) -> set[int]:
    """Those of some calls that a loss depends on through no other ones, itself included."""
    return reachable([loss], lambda call: [source for _, _, source in calls.reads[call] if source in among])
