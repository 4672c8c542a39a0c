"""From a tape to a graph. Read me after `boxes.py`: I put the pieces together.

Calls are folded into groups, groups become nodes, and what one group reads of another is an edge. The level is the
deepest that fits, and where too many steps remain, those in the middle become one box.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

from tinygrad_seq.listing import Tape
from tinygrad_seq.viz.boxes import Boxes, Hidden, hidden_states
from tinygrad_seq.viz.calls import Calls, Place, path_of, step_of, within
from tinygrad_seq.viz.cuts import note_what_is_lost
from tinygrad_seq.viz.fold import ELIDED, KEPT, LEVELS, Group, fold, folds_into, is_hidden, put_together, runs_of, steps_of
from tinygrad_seq.viz.gradients import Gradients, by_step
from tinygrad_seq.viz.graph import Column, Edge, Graph, Node, tell_apart
from tinygrad_seq.viz.hoisted import Value
from tinygrad_seq.viz.naming import name_apart
from tinygrad_seq.viz.shares import weight_shares
from tinygrad_seq.viz.sums import draw_sums
from tinygrad_seq.viz.tooltips import describe

__all__ = ["Calls", "extract", "fold", "folds_into", "hidden_states", "path_of"]

BUDGET, NAMED_BUDGET = 400, 1_000  # nodes: where the level is ours to choose, and where the user has chosen it


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
        level: "op", "gate", "cell", "rolled", or "auto": the deepest but "rolled" with at most `budget` nodes.
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
    if level == "rolled":
        return _finished(calls, _rolled(calls), weights)
    if budget is None:
        budget = BUDGET if level == "auto" else NAMED_BUDGET
    runs = runs_of(calls, steps) if isinstance(steps, int) else {}
    for chosen in ("op", "gate", "cell") if level == "auto" else (level,):  # auto: the first that fits, else the coarsest
        groups = fold(calls, chosen)
        fits = sum(not is_hidden(group, runs) for group in set(groups.values())) <= budget
        if fits:
            break
    if not fits and steps == "auto":
        runs = runs_of(calls, KEPT)
    hidden: Hidden = {}
    if runs:
        hidden = hidden_states(calls, groups, runs)
        calls.hide(runs)
        groups = put_together(calls, groups)
    return _finished(calls, build(calls, chosen, groups, hidden), weights)


def _rolled(calls: Calls) -> Graph:
    """All steps of a cell in one box."""
    groups, runs = fold(calls, "cell"), steps_of(calls)
    hidden = hidden_states(calls, groups, runs)
    calls.hide(runs, "rolled")
    return build(calls, "rolled", put_together(calls, groups), hidden)


def _finished(calls: Calls, graph: Graph, weights: Sequence[str] | None) -> Graph:
    graph.shares = weight_shares(calls, graph, weights)
    draw_sums(calls, graph)
    return graph


def build(calls: Calls, level: str, group_of: dict[int, Group], hidden: Hidden) -> Graph:
    """Make nodes and edges of the groups, and say what flows back."""
    columns, index_of = _columns(calls)
    members: dict[Group, list[int]] = defaultdict(list)
    for call in calls.order:
        members[group_of[call]].append(call)
    boxes = Boxes(calls, level, group_of, hidden)
    nodes: dict[Group, Node] = {}
    shown: dict[Node, list[Value]] = {}
    for group, held in members.items():
        node, values = boxes.make(group, held)
        nodes[group], shown[node], node.calls = node, values, held
        node.column = index_of.get(group[0])
    taken: set[tuple[int | None, str]] = set()
    for call, state in calls.stands_for.items():  # a folded state's initial value takes the fold's place
        node, slot = nodes[group_of[call]], nodes[group_of[state]].slot
        node.slot = slot if (node.column, slot) not in taken else node.slot
        taken.add((node.column, node.slot))
    tell_apart(nodes.values())
    edges = _edges(calls, {call: nodes[group] for call, group in group_of.items()})
    graph = Graph(level, columns, list(nodes.values()), edges, hidden)
    if level != "op" and calls.events:
        leave_out_dead_ends(graph)
    name_apart(calls, graph, shown)
    describe(calls, graph, shown)
    return graph


def leave_out_dead_ends(graph: Graph) -> None:
    """What comes after the last step and no loss depends on (the states that a layer hands out, if nobody reads them) counts to
    the box that it reads, and is none of its own."""
    while True:
        read = {edge.source for edge in graph.edges}
        into: dict[Node, Node] = {}
        for edge in graph.edges:
            node = edge.target
            after = node.column is not None and graph.columns[node.column].role == "after"
            if after and node.kind == "op" and not edge.cut and node not in read and node.grad.status == "none":
                into[node] = edge.source
        if not into:
            return
        for node, source in into.items():
            source.entries = sorted({*source.entries, *node.entries})
            source.calls = [*source.calls, *node.calls]
        graph.nodes = [node for node in graph.nodes if node not in into]
        graph.edges = [edge for edge in graph.edges if edge.target not in into]


def _edges(calls: Calls, node_of: dict[int, Node]) -> list[Edge]:
    """An edge wherever one box reads another; where all steps are one box, also from a step of it to a later one."""

    rolled = any(place[0] == "rolled" for place in calls.place.values())

    def link(source: int, user: int) -> Hashable:
        a, b = node_of[source], node_of[user]
        if not rolled:
            return None if a is b else (id(a), id(b), 0, "")
        delay = 0
        if calls.place[source][0] == calls.place[user][0] == "rolled" and calls.place[source] == calls.place[user]:
            delay = (calls.time[user] or 0) - (calls.time[source] or 0)
        if not delay or calls.is_leaf(source):
            return None if a is b else (id(a), id(b), 0, "")
        return (id(a), id(b), delay, calls.slot[source])

    edges: dict[Hashable, Edge] = {}
    parallel: Counter[frozenset[int]] = Counter()
    for call in calls.order:
        for _, value, source in calls.reads[call]:
            if node_of[source] is node_of[call] and not rolled:
                continue
            key = link(source, call)
            if key is None:
                continue
            if key not in edges:
                a, b = node_of[source], node_of[call]
                ends = frozenset((id(a), id(b)))
                parallel[ends] += 1
                edges[key] = Edge(a, b, number=parallel[ends])
                delay = key[2] if isinstance(key, tuple) else 0
                if delay:
                    edges[key].delay, edges[key].carries = delay, state_name(calls, source)
            edges[key].cut |= calls.is_cut(call)
            edges[key].values.add(calls.handed_on(value, lambda a, b: link(a, b) is None))
    if calls.events:
        grad_of = Gradients(calls)
        flowing = grad_of.edges(calls.events, link, rolled)
        padded = {node for call, node in node_of.items() if calls.place[call] in calls.padding}
        for key, edge in edges.items():
            edge.grad = grad_of.edge(flowing.get(key), edge.source in padded or edge.target in padded)
            norms = [norm for norm in by_step(flowing[key]).values() if norm] if rolled and key in flowing else []
            edge.norms = (min(norms), max(norms)) if len(norms) > 1 else None
        note_what_is_lost(calls, edges, link)
    return list(edges.values())


def state_name(calls: Calls, call: int) -> str:
    """What a state is called at any step: "h" of "h<3>"; its slot, if it has no name."""
    return re.sub(r"<\w+>", "", calls.entry[call].name or "") or calls.slot[call]


def _columns(calls: Calls) -> tuple[list[Column], dict[Place, int]]:
    """The columns from left to right: before time; for each part what leads to it, initial states, steps; after time."""
    places = list(dict.fromkeys(calls.place[call] for call in calls.order))
    parts = list(dict.fromkeys(part for role, part, _ in places if role in ("step", "rolled")))
    ordered: list[Place] = [place for place in places if place[0] == "before"]
    for part in parts:
        ordered += [place for place in places if place[:2] == ("between", part)]
        ordered += [place for place in places if place[:2] == ("init", part)]
        ordered += [place for place in places if place[:2] == ("rolled", part)]
        steps = sorted((place for place in places if place[:2] == ("step", part)), key=lambda place: place[2] or 0)
        run = calls.runs.get(part, ()) if steps else ()
        early = sum(place[2] < run[0] for place in steps if place[2] is not None) if run else len(steps)
        ordered += [*steps[:early], *([(ELIDED, part, None)] if run else []), *steps[early:]]
        for behind in [place for place in places if place[:2] == ("after", part) and place[2] is not None]:
            step = (ELIDED, part, None) if within(run, behind[2]) else ("step", *behind[1:])
            ordered.insert(ordered.index(step) + 1, behind)
        ordered += [place for place in places if place[:2] == ("init-reverse", part)]
    ordered += [place for place in places if place[0] == "after" and place[2] is None]
    hides = {place: calls.runs[place[1]] for place in ordered if place[0] in (ELIDED, "rolled")}
    columns = [Column(place[0].partition("-")[0], place[1], step_of(place), hides.get(place, ())) for place in ordered]
    return columns, {place: i for i, place in enumerate(ordered)}
