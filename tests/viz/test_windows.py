"""Truncated back-propagation: every loss stands behind its own window, every cut between two."""

from collections import defaultdict

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import viz

from . import runs


def windows(T, k, lossy, cut):
    """h<t> = tanh(h<t-1> W + x<t>), with a cut after every k steps; gives the loss of each window, inside of a recording."""
    W = runs.weight("W", 3, 3)
    h = tg.tensor(np.ones((2, 3)), name="h<init>")
    for first in range(0, T, k):
        seen = []
        for t in range(first, first + k):
            with tg.scope("rnn", t=t):
                h = np.tanh(h @ W + tg.tensor(np.full((2, 3), 0.1 * t), name=f"x<{t}>"))
                h.name = f"h<{t}>"
            seen.append(h)
        with tg.scope("loss"):
            loss = lossy(seen)
            loss.name = "L"
        yield loss
        if cut:
            h = h.detach()


def truncated(T, k, cut=True, backward=True, one_loss=False):
    """Windows whose losses are added up, with a backward pass from each, or from their sum."""
    V, total = runs.weight("V", 3, 2), None
    with tg.record() as tape:
        for loss in windows(T, k, lambda seen: sum(((each @ V) ** 2).sum() for each in seen), cut):
            total = loss if total is None else total + loss
            if backward and not one_loss:
                loss.backward()
        if one_loss:
            total.name = "L"
    if backward and one_loss:
        total.backward()
    return tape


def separate(T, k, cut=True, backward=True):
    """Windows whose losses are never added up."""
    with tg.record() as tape:
        for loss in windows(T, k, lambda seen: sum((each * each).sum() for each in seen), cut):
            if backward:
                loss.backward()
    return tape


def order(drawing):
    """The columns from left to right: t, "L" for one with a loss, "|" for one with a cut, "L|" for both."""
    graph = drawing._graph
    found = []
    for n, column in enumerate(graph.columns):
        here = [node for node in graph.nodes if node.column == n]
        if column.role == "after":
            cut = any(edge.cut and edge.target.column == n for edge in graph.edges)
            found.append("L" * sum(node.kind == "loss" for node in here) + "|" * cut)
        else:
            found.append(column.t if column.t is not None else column.role)
    return found


@pytest.mark.parametrize("level", ["cell", "gate", "op"])
def test_a_loss_stands_behind_its_window_and_a_cut_between_two(level):
    drawing = viz.draw(separate(6, 3), level=level)
    assert order(drawing) == ["init", 0, 1, 2, "L|", 3, 4, 5, "L|"]
    graph = drawing._graph
    lost = defaultdict(set)
    for edge in graph.edges:
        if edge.target.column is not None and graph.columns[edge.target.column].role == "after" and edge.source.t is not None:
            lost[edge.target.column].add(edge.source.t)
    first, second = sorted(lost)
    assert (lost[first], lost[second]) == ({0, 1, 2}, {3, 4, 5})


def test_both_losses_have_the_whole_gradient_of_their_own():
    tape = separate(6, 3)
    drawing = viz.draw(tape, level="cell")
    losses = [node for node in drawing._graph.nodes if node.kind == "loss"]
    assert [(node.id, node.label, node.t) for node in losses] == [("after2.loss", "L", None), ("loss", "L", None)]
    for node, last in zip(losses, (2, 5)):
        (near,) = [edge for edge in drawing._graph.edges if edge.target is node and edge.source.t == last]
        assert near.grad.status == "finite"
        assert len([entry for entry in node.entries if tape[entry].name == "L"]) == 1


def test_before_a_backward_pass_it_is_the_same_picture():
    assert order(viz.draw(separate(6, 3, backward=False), level="cell")) == order(viz.draw(separate(6, 3), level="cell"))


def test_the_last_cut_which_nothing_reads_is_not_counted():
    drawing = viz.draw(separate(6, 3), level="cell")
    assert len([edge for edge in drawing._graph.edges if edge.cut]) == 2
    assert "The gradient stops at a cut;" in drawing.alt_text
    assert "The gradient stops at 2 cuts;" in viz.draw(separate(9, 3), level="cell").alt_text


def test_the_caption_speaks_of_one_window_and_not_across_a_cut():
    said = viz.draw(separate(9, 3), level="cell", steps="all").alt_text
    assert "In the last window, from t = 6 on: back in time, the gradient norm at h" in said
    assert "losses at 3 steps bring gradient in" in said
    for uncut in (separate(9, 3, cut=False, backward=False), truncated(6, 3, cut=False, one_loss=True)):
        assert "window" not in viz.draw(uncut, level="cell", steps="all").alt_text


def test_a_cut_beside_the_states_makes_no_window():
    W = runs.weight("W", 3, 3)
    h, seen = tg.tensor(np.ones((2, 3)), name="h<init>"), []
    with tg.record() as tape:
        for t in range(4):
            with tg.scope("rnn", t=t):
                h = np.tanh(h @ W)
                h.name = f"h<{t}>"
            seen.append((h.detach() * h).sum())
        sum(seen).backward()
    assert "window" not in viz.draw(tape, level="cell", steps="all").alt_text


def test_one_loss_at_the_end_stays_there():
    drawing = viz.draw(truncated(6, 3, one_loss=True), level="cell")
    assert order(drawing) == ["init", 0, 1, 2, "|", 3, 4, 5, "L|"]


def test_losses_whose_sum_nobody_wants():
    """The sum of all losses so far is made, and no backward pass has started there: it stands at the end."""
    found = order(viz.draw(truncated(6, 3), level="cell"))
    assert found[4].startswith("L") and found[-1].startswith("L")


def test_losses_at_every_step_stand_in_the_steps():
    drawing = viz.draw(separate(4, 1), level="cell")
    assert [column.t for column in drawing._graph.columns if column.role == "step"] == [0, 1, 2, 3]
    assert [node.t for node in drawing._graph.nodes if node.kind == "loss"] == [0, 1, 2, 3]
    assert len({node.slot for node in drawing._graph.nodes if node.kind == "loss"}) == 1


def test_two_losses_of_the_same_steps_are_two_boxes():
    W, h = runs.weight("W", 3, 3), tg.tensor(np.ones((2, 3)), name="h<init>")
    with tg.record() as tape:
        for t in range(3):
            with tg.scope("rnn", t=t):
                h = np.tanh(h @ W)
        with tg.scope("loss"):
            squares = h * h
            one, other = squares.sum(), squares.mean()
        one.backward(retain_graph=True)
        other.backward()
    drawing = viz.draw(tape, level="cell")
    assert order(drawing) == ["init", 0, 1, 2, "LL"]
    losses = [node for node in drawing._graph.nodes if node.kind == "loss"]
    assert [[tape[i].op for i in node.entries if tape[i].op != "constant"] for node in losses] == [["multiply", "sum"], ["mean"]]


def test_windows_that_are_hidden():
    """Of ten windows, some end at steps that are not shown: their losses are one box behind these."""
    drawing = viz.draw(separate(20, 2), level="cell", steps=4)
    losses = [node for node in drawing._graph.nodes if node.kind == "loss"]
    assert [node.label for node in losses] == ["L", "L", "L\n7 times", "L"]
    held = [i for node in losses for i in node.entries]
    assert len(held) == len(set(held))
    assert order(drawing) == ["init", 0, 1, "L|", 2, "elided", "LL", 19, "L|"]


def test_all_steps_together_have_one_loss():
    drawing = viz.draw(separate(9, 3), level="rolled")
    assert [node.label for node in drawing._graph.nodes if node.kind == "loss"] == ["L"]
    assert drawing._graph.columns[-1].role == "after"


def test_the_numbers_are_those_of_the_sweeps():
    """What flows back from the first loss is what it alone sends, and the bars of W add up over both."""
    tape = separate(6, 3)
    drawing = viz.draw(tape, level="cell")
    (strip,) = drawing._graph.shares
    W = next(entry for entry in tape if entry.name == "W")
    assert strip.norm == pytest.approx(np.linalg.norm(W.grad), rel=1e-6)
    assert sum(share.share for share in strip.columns) == pytest.approx(strip.norm, rel=1e-6)
    steps = [drawing._graph.columns[share.column].t for share in strip.columns]
    assert steps == [0, 1, 2, 3, 4, 5]


def test_lanes_run_straight_through_steps():
    drawing = viz.draw(separate(6, 3), level="cell")
    states = {edge.source.t: edge for edge in drawing._graph.edges if edge.source.carries and edge.target.carries}
    for t in (0, 1, 3, 4):
        assert len({round(y, 2) for _, y in states[t].points}) == 1
    widths = {drawing._layout.templates[n].width for n, column in enumerate(drawing._graph.columns) if column.role == "step"}
    (cut,) = [n for n, column in enumerate(drawing._graph.columns) if column.role == "after"][:1]
    assert widths.pop() < 150 and not widths
    assert drawing._layout.templates[cut].width > 60
