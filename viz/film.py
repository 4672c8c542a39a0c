"""The tape as a film: what happens at each step, as plain data. Read me before `page.py`.

First the entries in order of execution, then the backward passes that the tape has witnessed, in the order of their
sweep. A step says which boxes and arrows of a picture are at work, what the tape prints for it, and its numbers.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from tinygrad_seq.events import Event
from tinygrad_seq.listing import TITLES, Entry, Tape, cells
from tinygrad_seq.pullback import Pullback
from tinygrad_seq.sweep import term_of
from tinygrad_seq.tape import Edge
from tinygrad_seq.viz.gradients import norm_of
from tinygrad_seq.viz.shares import _timeless as without_time

SMALL = 4  # arrays of up to 4 × 4 are shown in full, and Jacobians of as many

Data = dict[str, Any]


def film(tape: Tape, pictures: Sequence[Mapping[str, Any]]) -> Data:
    """All steps of a tape, as plain data for `player.js`.

    Args:
        tape: its entries and the backward passes that it has witnessed.
        pictures: drawings of it (`Drawing.data`), whose boxes and arrows the steps name by their number there.

    Returns:
        `titles` and `rows`, the tape in print, a row for each entry; `pictures`, the ids of each one's boxes and arrows;
        `forward` and `backward`, the steps: `row`, `lit` (for each picture its boxes and arrows), `held` (bytes that the
        backward pass still needs once the step is done), and what was computed; `bars`, for each bar of a weight's gradient
        in the first picture the step after which it is known; and if there are two pictures `inside`, for boxes of the first
        those of the second that they consist of.
    """
    casts = [Cast(picture, tape.whole) for picture in pictures]
    row_of = {i: row for row, i in enumerate(tape.indices)}
    events = tape.events
    held = bytes_held(tape, events)
    forward: list[Data] = [
        {
            "row": row, "lit": [cast.forward(entry) for cast in casts], "held": held[row],
            "value": summary(entry.value), "inputs": [row_of[i] for i in entry.inputs if i in row_of],
        }
        for row, entry in enumerate(tape)
    ]  # fmt: skip
    backward = [
        {"row": row_of[event.index], "lit": [cast.backward(event) for cast in casts], "held": held[n]} | told(event)
        for n, event in enumerate(events, len(tape))
    ]
    for n in range(len(casts)):
        settle([step["lit"][n] for step in (*forward, *backward)])
    return {
        "titles": TITLES, "rows": [cells(entry) for entry in tape], "pictures": [cast.ids for cast in casts],
        "forward": forward, "backward": backward, "bars": known_after(tape, pictures[0]) if pictures else [],
        "inside": inside(*pictures) if len(pictures) == 2 else {},
    }  # fmt: skip


class Cast:
    """Which boxes and arrows of a picture play in which step.

    An arrow plays when something goes from an entry of the box where it begins to an entry of the box where it ends. In a
    rolled picture several may join the same boxes; then the delay and the name of what they carry tell them apart.

    An entry over all of time stands in the boxes of all its steps. What goes from or to the part of it at step t belongs to
    step t, or else to no step: `settle` decides where both are possible.
    """

    def __init__(self, picture: Mapping[str, Any], whole: Tape) -> None:
        self.whole = whole
        self.ids: dict[str, Any] = {"nodes": [node["id"] for node in picture["nodes"]], "edges": []}
        self.spans = [_span(node) for node in picture["nodes"]]
        self.nodes: dict[int, dict[int, None]] = defaultdict(dict)  # of an entry; in order, and found at once
        for n, node in enumerate(picture["nodes"]):
            for i in node["entries"]:
                self.nodes[i][n] = None
        number = {name: n for n, name in enumerate(self.ids["nodes"])}
        self.reach: dict[int, set[int]] = defaultdict(set, {i: {*boxes} for i, boxes in self.nodes.items()})
        for n, node in enumerate(picture["nodes"]):  # a sum is drawn for all that is in the box it belongs to
            whose = number.get(node["id"].removesuffix(".sum")) if node["kind"] == "sum" else None
            for i in picture["nodes"][whose]["entries"] if whose is not None else ():
                self.reach[i].add(n)
        # By kind and the box at work there, which is where a gradient begins and a value arrives; then by the other box.
        self.arrows: dict[tuple[bool, int], dict[int, list[tuple[int, int, str]]]] = defaultdict(dict)
        several: Counter[frozenset[str]] = Counter()  # arrows that join the same boxes, whichever way; each with its way back
        for n, edge in enumerate(picture["edges"]):
            backward, ends = edge["kind"] == "backward", (number[edge["from"]], number[edge["to"]])
            far, near = ends[::-1] if backward else ends
            parallel = self.arrows[backward, near].setdefault(far, [])  # number, delay, label of each
            parallel.append((n, edge.get("delay", 0), edge.get("label", "")))
            joined = frozenset((edge["from"], edge["to"]))
            several[joined] += not backward
            name = f"{edge['from']}-{edge['to']}" + (f"~{several[joined]}" if several[joined] > 1 else "")
            self.ids["edges"].append([edge["kind"], name + ("~back" if backward and far == near else "")])

    def forward(self, entry: Entry) -> list[list[int]]:
        """The boxes and arrows at work while an entry is computed."""
        return self._lit(False, entry.index, entry.inputs)

    def backward(self, event: Event) -> list[list[int]]:
        """The boxes and arrows at work while an entry's cotangent flows on."""
        return self._lit(True, event.index, event.inputs)

    def _lit(self, backward: bool, here: int, inputs: Sequence[int]) -> list[list[int]]:
        """Boxes, arrows, and arrows that are in question."""
        found: set[int] = set()
        possible: set[int] = set()
        for near in self.nodes[here]:
            for far, parallel in self.arrows.get((backward, near), {}).items():
                for i in (*inputs, here):  # `here` itself: a weight has two boxes, and its gradient goes from the sum on
                    if far in self.reach[i]:
                        arrows = found if self._meet((here, near), (i, far)) else possible
                        arrows.update(self._between(parallel, i, here))
        return [[*self.nodes[here]], sorted(found), sorted(possible - found)]

    def _meet(self, *ends: tuple[int, int]) -> bool:
        """Whether an entry in a box and another in another are of the same step, as far as one is of all steps."""
        own = [self.whole[i].t for i, _ in ends]
        spans = [(t, t) if t is not None else self.spans[box] for t, (_, box) in zip(own, ends)]
        known = [span for span in spans if span is not None]
        return None not in own or len(known) < len(ends) or max(a for a, _ in known) <= min(b for _, b in known)

    def _between(self, parallel: Sequence[tuple[int, int, str]], source: int, user: int) -> list[int]:
        """Of arrows that join the same boxes, those that lead from a value to its use."""
        value, use = self.whole[source], self.whole[user]
        later = 0 if value.t is None or use.t is None else use.t - value.t
        fitting = [arrow for arrow in parallel if arrow[1] == later] or [arrow for arrow in parallel if not arrow[1]]
        named = [arrow for arrow in fitting if arrow[2] == re.sub(r"<\w+>", "", value.name or "")]
        return [n for n, _, _ in named or fitting]


def _span(node: Mapping[str, Any]) -> tuple[int, int] | None:
    """The first and the last step of a box in time."""
    if node["kind"] == "elided":
        first, last = node["steps"]
        return first, last
    return None if node["t"] is None else (node["t"], node["t"])


def settle(lit: Sequence[list[list[int]]]) -> None:
    """Of each step's (boxes, arrows, arrows in question) make (boxes, arrows): in question is what no step lights for certain.

    An arrow between two steps may stand for what one hands to the other, and is not lit then by an operation over all of
    time that happens to touch both; or it may be what a step reads of all others (attention), and that is all there is.
    """
    certain = {n for _, arrows, _ in lit for n in arrows}
    for step in lit:
        boxes, arrows, possible = step
        step[:] = [boxes, sorted({*arrows, *(n for n in possible if n not in certain)})]


def inside(picture: Mapping[str, Any], finer: Mapping[str, Any]) -> dict[int, list[int]]:
    """For each box of a picture that a finer one shows as several, their numbers there."""
    boxes: dict[int, set[int]] = defaultdict(set)  # by entry; one over all of time is in the boxes of all steps
    for n, node in enumerate(picture["nodes"]):
        for i in node["entries"] if node["kind"] != "sum" else ():
            boxes[i].add(n)
    parts: dict[int, list[int]] = defaultdict(list)
    for n, node in enumerate(finer["nodes"]):
        whole = [boxes[i] for i in node["entries"]]
        around = set.intersection(*whole) if whole else set()
        held_by = [box for box in around if picture["nodes"][box]["t"] in (None, node["t"])]
        if len(held_by) == 1:
            parts[held_by[0]].append(n)
    proper = {n for n, node in enumerate(finer["nodes"]) if node["kind"] != "sum"}
    return {box: held for box, held in sorted(parts.items()) if len(proper.intersection(held)) > 1}


def known_after(tape: Tape, picture: Mapping[str, Any]) -> list[tuple[str, int]]:
    """For each bar of the weights' gradients, its id and the number of the step after which its share is known.

    A share is known when the sweep has passed the last use of the weight at that step; the shares of an operation over all
    of time are known all at once, and the sum when the weight itself is reached.
    """
    numbered = [*enumerate(tape.events, len(tape) + 1)]
    entries = {node["id"]: node["entries"] for node in picture["nodes"]}
    found = []
    for strip in picture["shares"]:
        weight = entries[strip["weight"]][0]
        own = without_time(tape, weight)
        known = {event.entry.t: k for k, event in numbered if not own.isdisjoint(event.inputs)}
        reached = max((k for k, event in numbered if event.index == weight), default=len(tape) + len(numbered))
        name = f"share.{strip['weight']}"
        found += [(f"{name}.{n}", known.get(share["t"], known.get(None, reached))) for n, share in enumerate(strip["steps"])]
        found.append((f"{name}.sum", reached))
    return found


def bytes_held(tape: Tape, events: Sequence[Event]) -> list[int]:
    """What the pullbacks still to come need, after each step of the film.

    Going forward each entry adds what it saves (`Entry.saved_bytes`, which counts an array once, where it is first saved).
    Going backward that is let go of when a sweep has passed the entry for the last time: later entries that share the
    array have been passed by then. What no sweep passes stays.
    """
    saved = [entry.saved_bytes for entry in tape]
    held = list(accumulate(saved))
    let_go = {event.index: n for n, event in enumerate(events)}
    now = held[-1] if held else 0
    for n, event in enumerate(events):
        now -= event.entry.saved_bytes if let_go[event.index] == n else 0
        held.append(now)
    return held


# ---- numbers --------------------------------------------------------------------------------------------------------


def told(event: Event) -> Data:
    """A step of the backward pass: what came in, and for each input the printed line, the local derivative, what goes out."""
    ways = [way for way in event._edges if way[0] in event._recording.index]  # as `lines` and `terms` have it
    g = event.cotangent
    return {
        "incoming": [summary(part) for part in (g if isinstance(g, tuple) else (g,))],  # one for each output of the call
        "terms": [
            {"to": _label(event, i), "line": line, "local": local(event, way), "outgoing": summary(term)}
            for way, line, (i, term) in zip(ways, event.lines, event.terms)
        ],
    }


def local(event: Event, way: Edge) -> Data:
    """What a cotangent is multiplied with on one of its ways, in the form that says most.

    Norms are not multiplied on that way, so what is multiplied is told by the `range` of its numbers.

    `partials`: the operation is elementwise, and this is its derivative for each element. `jacobian`: of up to 4 × 4,
    outputs by inputs. `saved`: what the pullback has kept of the forward pass. The cotangent times either of the first
    two is what goes out, added up over the axes that broadcasting had stretched.
    """
    parent, pullback, values = way
    g = event.cotangent
    if isinstance(g, np.ndarray) and pullback.elementwise:
        with np.errstate(all="ignore"):
            partials = np.broadcast_to(pullback.function(np.ones_like(g), *values), g.shape)
        return {"kind": "partials", "arrays": [summary(partials)], "range": span_of(partials)}
    if isinstance(g, np.ndarray) and 0 < g.size <= SMALL and 0 < np.prod(parent.shape) <= SMALL:
        rows = [np.ravel(term_of(event._node, unit.reshape(g.shape), way)) for unit in np.eye(g.size, dtype=g.dtype)]
        jacobian = np.array(rows)
        return {"kind": "jacobian", "arrays": [summary(jacobian)], "range": span_of(jacobian)}
    kept = [
        (_label(event, place), value)
        for source, value in zip(pullback.sources, values)
        if isinstance(value, np.ndarray) and source is not None and (place := _place(event, source)) is not None
    ]
    return {"kind": "saved", "labels": [label for label, _ in kept], "arrays": [summary(value) for _, value in kept]}


def _place(event: Event, source: int) -> int | None:
    """The entry that a pullback names by its place among the inputs, or as the output; None if there is none such."""
    if source == Pullback.OUTPUT:
        return event.index
    inputs = event.entry.inputs
    return inputs[source] if 0 <= source < len(inputs) else None


def summary(array: Any) -> Data | None:
    """An array's shape and norm and, up to 4 × 4, its values; None for a value that nobody kept."""
    if array is None:
        return None
    norm = rounded(norm_of([array])) if array.dtype.kind == "f" else None
    full = array.ndim <= 2 and all(n <= SMALL for n in array.shape)
    return {"shape": list(array.shape), "norm": norm} | ({"values": _nested(array.tolist())} if full else {})


def span_of(array: Any) -> list[float | str]:
    """The smallest and the largest number of an array, if there are any and all can be compared."""
    return [] if array.size == 0 or np.isnan(array).any() else [rounded(float(array.min())), rounded(float(array.max()))]


def rounded(x: float) -> float | str:
    """A number to six digits; JSON has no word for those that are not finite, so these become text.

    Example:
        >>> rounded(2 / 3), rounded(-np.inf)
        (0.666667, '-inf')
    """
    return float(f"{x:.6g}") if np.isfinite(x) else str(float(x))


def _nested(value: Any) -> Any:
    if isinstance(value, list):
        return [_nested(each) for each in value]
    return rounded(value) if isinstance(value, float) else value


def _label(event: Event, i: int) -> str:
    return Entry(event._recording, i).label
