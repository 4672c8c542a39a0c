"""Labels that are told apart, and what is called what where nobody has given it a name."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import viz

from . import modelled, runs


def labels(drawing, *kinds):
    return [node["label"] for node in drawing.data["nodes"] if node["kind"] in kinds]


def two_parts(T=2):
    """An encoder and a decoder, each with its W_h and b, and an output layer with a W and a b of its own."""
    h = tg.tensor(np.zeros((2, 3)), name="h<init>")
    with tg.record() as tape:
        for part in ("encoder", "decoder"):
            W, b = (tg.Parameter(np.eye(3) * 0.5, name="W_h"), tg.Parameter(np.zeros(3), name="b"))
            with tg.scope(part, part=part):
                for t in range(T):
                    with tg.scope("rnn", t=t):
                        h = np.tanh(h @ W + b)
                        h.name = f"h<{t}>"
        with tg.scope("readout"):
            loss = (h @ tg.Parameter(np.eye(3), name="W") + tg.Parameter(np.zeros(3), name="b")).sum()
    loss.backward()
    return tape


def test_weights_say_whose_they_are_where_two_have_the_same_name():
    """By the first parts of their paths that differ; and where one weight of a module says so, the others do."""
    drawing = viz.draw(two_parts(), level="cell")
    assert labels(drawing, "weight") == [
        "encoder.W_h", "encoder.b", "decoder.W_h", "decoder.b", "readout.W", "readout.b",
    ]  # fmt: skip
    assert '"encoder.W_h.grad' in drawing.source or '"decoder.W_h.grad' in drawing.source
    assert {"h<0>", "h<1>"} == set(labels(drawing, "cell"))  # under headers that say which part it is


def test_weights_are_still_found_by_their_own_names():
    shares = viz.draw(two_parts(), level="cell", weights=["W_h"]).data["shares"]
    assert [each["weight"] for each in shares] == ["W_h", "W_h.2"]
    assert [each["weight"] for each in viz.draw(two_parts(), level="cell", weights=["decoder.b"]).data["shares"]] == ["b.2"]


def test_a_name_that_stands_there_once_stays_as_it_is():
    tape, loss = runs.elman(2)
    loss.backward()
    assert sorted(labels(viz.draw(tape, level="op"), "weight")) == ["W_h", "W_x", "W_y", "b"]


@pytest.mark.parametrize("level", ["cell", "gate", "op", "rolled"])
def test_directions_have_arrows_and_layers_numbers(level):
    tape, _ = modelled.recorded("two layers, two directions", T=2)
    drawing = viz.draw(tape, level=level)
    step = "t" if level == "rolled" else "1"
    states = [label for label in labels(drawing, "state", "cell") if label.endswith(f"<{step}>")]
    assert sorted(states) == sorted(f"h{arrow}[{layer}]<{step}>" for arrow in "→←" for layer in (0, 1))
    weights = labels(drawing, "weight")
    assert len(set(weights)) == len(weights)
    assert any(label.endswith("W_h←[1]") for label in weights)
    if level == "cell":
        assert {"a→[0]<0>", "a←[1]<1>"} <= set(labels(viz.draw(tape, level=level, notation="document"), "cell"))
        assert "h→[1]" in drawing.alt_text


def test_two_of_one_module_are_numbered():
    with tg.record() as tape, tg.scope("attention"):
        first, second = (tg.Parameter(np.eye(2) * k, name="W") for k in (1, 2))
        loss = (tg.tensor(np.ones((1, 2)), name="q") @ first @ second).sum()
    loss.backward()
    assert labels(viz.draw(tape, level="op"), "weight") == ["1.W", "2.W"]


def test_one_array_that_is_read_twice_is_one_thing():
    """A mask that each reader makes anew: the numbers are the same. Where they are not, they are told apart."""
    same, other = np.array([True, False]), np.array([False, True])
    for second, expected in ((same, {"real"}), (other, {"one.real", "two.real"})):
        w = tg.Parameter([1.0, 2.0], name="w")
        with tg.record() as tape:
            with tg.scope("one"):
                a = tg.where(tg.tensor(same, name="real"), w, 0.0)
            with tg.scope("two"):
                loss = tg.where(tg.tensor(second, name="real"), a * w, 0.0).sum()
        loss.backward()
        found = [label for label in labels(viz.draw(tape, level="op"), "input") if "real" in label]
        assert len(found) == 2
        assert set(found) == expected


def test_what_has_no_name_is_called_after_its_part_in_it():
    """x goes into the model, y is compared with what comes out of it, and a mask says yes or no."""
    W, V = runs.weight("W", 3, 4), runs.weight("V", 4, 5)
    h, loss = tg.tensor(np.zeros((2, 4)), name="h<init>"), None
    with tg.record() as tape:
        for t in range(3):
            with tg.scope("rnn", t=t):
                h = np.tanh(np.ones((2, 3)) @ W + h + np.full((2, 4), 0.1))
            with tg.scope("loss", t=t):
                error = (h @ V - np.ones((2, 5))) ** 2
                term = tg.where(np.array([[True], [False]]), error, 0.0).sum()
                loss = term if loss is None else loss + term
    loss.backward()
    found = labels(viz.draw(tape, level="op"), "input")
    for t in range(3):
        here = sorted(label for label in found if label.endswith(f"<{t}>"))
        assert here == [f"1.x<{t}>", f"2.x<{t}>", f"mask<{t}>", f"y<{t}>"]


def test_the_documents_notation_names_the_cells_weights_and_no_readouts():
    """W_aa and b_a are the cell's; a readout has a b of its own. In ASCII an arrow is one of two signs."""
    h = tg.tensor(np.zeros((2, 3)), name="h<init>")
    W, b = tg.Parameter(np.eye(3) * 0.5, name="W_h"), tg.Parameter(np.zeros(3), name="b")
    with tg.record() as tape:
        for t in range(2):
            with tg.scope("rnn", t=t):
                h = np.tanh(h @ W + b)
                h.name = f"h<{t}>"
        with tg.scope("readout"):
            loss = (h + tg.Parameter(np.zeros(3), name="b")).sum()
    loss.backward()
    assert labels(viz.draw(tape, level="cell", notation="document"), "weight") == ["rnn.W_aa", "rnn.b_a", "readout.b"]
    both, _ = modelled.recorded("two layers, two directions", T=2)
    assert "h->[0]<1>" in labels(viz.draw(both, level="cell", notation="ascii"), "cell")
