"""Truncation: what a cut keeps away is told."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import viz

from . import runs


def chain(cut_at, T=4):
    """h<t> = w h<t-1> with w = 0.5, cut before one step; the loss is h<T-1>."""
    w, h = tg.Parameter([0.5], name="w"), tg.tensor([1.0], requires_grad=True, name="h<init>")
    with tg.record() as tape:
        for t in range(T):
            with tg.scope("rnn", t=t):
                h = (h.detach() if t == cut_at else h) * w
                h.name = f"h<{t}>"
        loss = h.sum()
    loss.backward()
    return viz.draw(tape, level="op")


def backward(drawing):
    return {(edge["from"], edge["to"]): edge for edge in drawing.data["edges"] if edge["kind"] == "backward"}


def test_behind_a_cut_it_is_told_what_full_bptt_would_carry():
    """dL/dh<3> = 1, and half of it at every step back: h<1> would have had 1/4, h<0> 1/8, h<init> 1/16."""
    edges = backward(chain(cut_at=2))
    known = {(a, b): (e["grad"]["status"], e["full"]["norm"]) for (a, b), e in edges.items() if "full" in e and b[0] in "ti"}
    assert known == {
        ("t2.rnn.multiply", "t2.rnn.detach"): ("none", pytest.approx(1 / 4)),
        ("t2.rnn.detach", "t1.rnn.multiply"): ("none", pytest.approx(1 / 4)),
        ("t1.rnn.multiply", "t0.rnn.multiply"): ("none", pytest.approx(1 / 8)),
        ("t0.rnn.multiply", "init.rnn.multiply"): ("none", pytest.approx(1 / 16)),
    }


def test_before_a_cut_and_without_one_nothing_is_said():
    edges = backward(chain(cut_at=2))
    assert "full" not in edges["t3.rnn.multiply", "t2.rnn.multiply"]
    assert edges["t1.rnn.multiply", "w.sum"]["full"]["norm"] == pytest.approx(1 / 8)  # dL/dh<1> h<0> = 1/4 times 1/2
    assert not [edge for edge in backward(chain(cut_at=None)).values() if "full" in edge]


def test_it_is_said_in_the_picture_in_tooltips_and_in_words():
    drawing = chain(cut_at=2)
    assert "full BPTT: 0.25" in drawing.source
    assert "cut: the gradient stops here" in drawing.source
    assert "; the gradient stops at a cut, full BPTT would have carried 0.125" in drawing.source
    assert "The gradient stops at a cut; full back-propagation through time would carry 0.25 further." in drawing.alt_text


def test_where_only_a_part_is_cut_off_the_difference_is_told():
    """c goes on without a cut, h does not: what arrives at step 1 is less than it would be."""
    tape, loss = runs.split_and_cut(4)
    loss.backward()
    full = {event.index: event.cotangent for event in tape.sweep(loss, through_cuts=True)}
    drawing = viz.draw(tape, level="op")
    (cut,) = [edge for edge in drawing.data["edges"] if edge["kind"] == "cut"]
    back = backward(drawing)[cut["to"], cut["from"]]
    (entry,) = [entry for entry in tape if entry.op == "detach"]
    assert back["full"]["norm"] == pytest.approx(np.linalg.norm(full[entry.index]), rel=1e-6)
    partly = [edge for edge in backward(drawing).values() if "full" in edge and edge["grad"]["status"] == "finite"]
    assert partly
    assert all(edge["full"]["norm"] != pytest.approx(edge["grad"]["norm"], rel=1e-6) for edge in partly)


def test_windows_with_losses_of_their_own():
    """Truncated BPTT: two windows, two backward passes, and a cut in between that the second loss would have passed."""
    w, h = tg.Parameter([[0.5]], name="w"), tg.tensor([[1.0]], name="h<init>")
    with tg.record() as tape:
        for window in range(2):
            for t in (2 * window, 2 * window + 1):
                with tg.scope("rnn", t=t):
                    h = h @ w
                    h.name = f"h<{t}>"
            h.sum().backward()
            with tg.scope("cut", t=2 * window + 1):
                h = h.detach()
    (cut,) = [edge for edge in viz.draw(tape).data["edges"] if edge["kind"] == "backward" and edge["from"] == "t1.cut.detach"]
    assert cut["grad"]["status"] == "none"
    assert cut["full"]["norm"] == pytest.approx(0.25)
