"""Labels in every notation, tooltips, and that any text comes out as that text."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tinygrad_seq as tg
from tinygrad_seq import viz
from tinygrad_seq.viz import pen

from . import modelled, runs

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


def labels(drawing):
    return {node["label"] for node in drawing.data["nodes"]}


def tips(drawing):
    """What each node says when it is pointed at, read from the SVG."""
    found = {}
    for group in ET.fromstring(drawing.svg()).iter(f"{SVG}g"):
        for link in group.iter(f"{SVG}a"):
            found.setdefault(group.get("id"), link.get(f"{XLINK}title"))
    return found


# ---- notations ------------------------------------------------------------------------------------------------------


def test_the_documents_notation():
    rnn, lstm, gru = (modelled.recorded(name, T=2)[0] for name in ("RNN", "LSTM", "GRU"))
    assert {"a<0>", "a<1>", "a<init>", "W_aa", "W_ax", "b_a", "x<0>"} <= labels(viz.draw(rnn, level="op", notation="document"))
    assert {"a<0>", "c<1>", "Γ_u<0>", "Γ_f<1>", "c~<0>", "W_h"} <= labels(viz.draw(lstm, level="op", notation="document"))
    found = labels(viz.draw(gru, level="op", notation="document"))
    assert {"c<0>", "c<1>", "c<init>", "Γ_r<0>"} <= found  # a GRU's memory is its only state
    assert not {"h<0>", "a<0>"} & found


def test_the_documents_notation_at_level_cell():
    gru = modelled.recorded("GRU", T=2)[0]
    assert {"c<0>", "c<1>"} <= labels(viz.draw(gru, level="cell", notation="document"))
    assert "c<t>" in labels(viz.draw(gru, level="rolled", notation="document"))
    assert "c: 1 step later" in viz.draw(gru, level="rolled", notation="document").source


@pytest.mark.parametrize("level", ["op", "gate", "cell", "rolled"])
def test_ascii_is_ascii(level):
    drawing = viz.draw(modelled.recorded("LSTM", T=2)[0], level=level, notation="ascii")
    assert all(label.isascii() for label in labels(drawing))
    if level == "op":
        assert {"G_u<0>", "*", "+", "@"} <= labels(drawing)


def test_an_unknown_notation():
    tape, _ = runs.elman(1)
    with pytest.raises(ValueError, match="'latin' is none of document, ascii"):
        viz.draw(tape, notation="latin")


# ---- tooltips -------------------------------------------------------------------------------------------------------


def test_a_node_says_what_it_is():
    tape, loss = runs.elman(2)
    loss.backward()
    said = tips(viz.draw(tape, level="op"))
    h = next(entry for entry in tape if entry.name == "h<0>")
    text = said["t0.rnn.tanh"]
    assert "h<0> (2×4), entry" in text
    assert all(f"{value:.3f}".rstrip("0") in text for value in h.value.ravel())
    assert f"gradient norm: {np.linalg.norm(h.grad):.3g}" in text
    assert "d h<0> * (1 - h<0> * h<0>)" in text  # the local derivative
    assert "runs.py:" in text
    assert "W_h (4×4, 16 parameters)" in said["W_h"]
    assert "from 2 uses" in said["W_h.sum"]


def test_large_values_are_not_listed():
    w = tg.Parameter(np.arange(100.0).reshape(10, 10), name="w")
    with tg.record() as tape:
        loss = (w * w).sum()
    loss.backward()
    said = tips(viz.draw(tape, level="op"))["w"]
    assert "100 parameters" in said
    assert "97" not in said


def test_no_pullback_is_written_down_in_a_large_picture():
    tape, loss = runs.elman(60)
    loss.backward()
    assert "d h<0> *" in viz.draw(tape, level="op", steps=3).source
    assert "d h<0> *" not in viz.draw(tape, level="op", steps="all").source


# ---- any text -------------------------------------------------------------------------------------------------------

tricky = st.sampled_from('<>{}|"\\&\n\r\t;#lrnNGET\u202e\u05d0\x00\x1b')
hostile = st.text(st.one_of(tricky, st.characters(exclude_categories=["Cs"])), min_size=1, max_size=16)


def lines_of(text):
    """The lines with something in them, as XML gives them back: Graphviz writes spaces as no-break spaces."""
    written = "".join(c if c == "\n" or pen._is_writable(c) else "\ufffd" for c in text)
    lines = [line.replace("\xa0", " ").strip() for line in written.split("\n")]
    return [line for line in lines if line]


@settings(max_examples=30, deadline=None)
@given(hostile, hostile)
@example("<script>alert(1)</script>", "</text></svg><script>")
@example("a\nb\\nc\\lr", "\\")
@example('"];}', "&lt;&#0;")
def test_names_of_tensors_and_scopes_come_out_as_they_are(name, scope):
    """At level cell and rolled: a state's name, a weight's, and the scope that the box is named after."""
    w, h = tg.Parameter([[0.5]], name=name), tg.tensor([[1.0]])
    with tg.record() as tape:
        for t in range(2):
            with tg.scope(scope, t=t):
                h = np.tanh(h @ w)
        loss = h.sum()
    loss.backward()
    for level in ("cell", "rolled"):
        drawing = viz.draw(tape, level=level)
        svg = drawing.svg()
        groups = {group.get("id"): group for group in ET.fromstring(svg).iter(f"{SVG}g")}
        for node in drawing.data["nodes"]:
            text = "\n".join("".join(text.itertext()) for text in groups[node["id"]].iter(f"{SVG}text"))
            assert lines_of(text) == lines_of(node["label"]), (level, node["id"])
        assert "<script" not in svg
        assert "<script" not in drawing.html()
    assert {node["label"] for node in viz.draw(tape, level="cell").data["nodes"]} >= {name, f"{scope}<0>", f"{scope}<1>"}
