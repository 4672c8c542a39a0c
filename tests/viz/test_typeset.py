"""Labels with subscripts and superscripts: set smaller and moved, and still the same text."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_seq import viz
from tinygrad_seq.viz import layout, typeset

from . import modelled

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("Γ_u<3>", [("Γ", ""), ("_", "hint"), ("u", "sub"), ("<3>", "sup")]),
        ("h<init>", [("h", ""), ("<init>", "sup")]),
        ("c~<t>", [("c", ""), ("~", "over"), ("<t>", "sup")]),
        ("cells.0.W_x", [("cells.0.W", ""), ("_", "hint"), ("x", "sub")]),
        ("h→[0]<t>", [("h", ""), ("→[0]<t>", "sup")]),
        ("readout<3>", [("readout", ""), ("<3>", "sup")]),
        ("fast←[1]<0>", [("fast", ""), ("←[1]<0>", "sup")]),
        ("c<0>, h<0>", [("c", ""), ("<0>", "sup"), (", h", ""), ("<0>", "sup")]),
    ],
)
def test_symbols_are_taken_apart(label, expected):
    assert [(piece.text, piece.kind) for piece in typeset.pieces(label)] == expected


OTHERS = ["tanh", "learning_rate", "h<3> and more", "<script>", "A~", "x<a>", "W_h.grad", "", "W_HH", "list[0]", "word<b>"]


@pytest.mark.parametrize("label", OTHERS)
def test_all_else_stays_as_it_is(label):
    assert typeset.pieces(label) == (typeset.Piece(label, "", 1.0),)
    assert typeset.placed(label, 12) == []


@given(st.text(alphabet="Γcχ_~<>&\"'\\ t013,.\n", max_size=12))
def test_the_pieces_together_are_the_label(label):
    assert "".join(piece.text for piece in typeset.pieces(label)) == label


def test_small_letters_need_less_room():
    assert layout.label_width("W_h", 12) < layout.text_width("W_h", 12)
    assert layout.label_width("tanh", 12) == layout.text_width("tanh", 12)


def test_in_svg_each_symbol_is_one_text_whose_letters_are_moved():
    drawing = viz.draw(modelled.recorded("LSTM", T=2)[0], level="gate")
    root = ET.fromstring(drawing.svg())
    groups = {group.get("id"): group for group in root.iter(f"{SVG}g")}
    for node in drawing.data["nodes"]:
        texts = ["".join(text.itertext()) for text in groups[node["id"]].iter(f"{SVG}text")]
        assert texts[0] == node["label"]
    spans = [*groups["t1.lstm.u"].iter(f"{SVG}tspan")]
    assert [span.text for span in spans] == ["Γ", "_", "u", "<1>"]
    down = [float(span.get("dy")) for span in spans]  # each from where the one before it stood
    assert down[0] == 0 < down[1] and down[2] == 0 > down[3]
    assert float(spans[1].get("font-size")) < 2 < float(spans[2].get("font-size")) < float(spans[0].get("font-size"))


def test_dot_has_plain_labels_and_for_png_each_part_at_its_place():
    """In PNG nothing sets letters lower or higher but their places."""
    drawing = viz.draw(modelled.recorded("LSTM", T=2)[0], level="gate")
    assert 'label="Γ_u<1>"' in drawing.source
    apart = drawing._pinned(apart=True).source
    assert 'label="Γ_u<1>"' not in apart and 'label="tanh"' in apart
    (box,) = [node for node in drawing.data["nodes"] if node["id"] == "t1.lstm.u"]
    found = re.findall(r'"t1\.lstm\.u\.letter\d" .*? fontsize="([\d.]+)".*? label="(.*?)".*? pos="([-\d.]+),([-\d.]+)"', apart)
    assert [letter for _, letter, _, _ in found] == ["Γ", "u", "<1>"]
    (size, low_size, high_size), xs, ys = (tuple(float(each[n]) for each in found) for n in (0, 2, 3))
    assert low_size == high_size < size
    assert xs[0] < xs[1] < xs[2]
    assert ys[1] < ys[0] == box["y"] < ys[2]
    assert abs(xs[0] - box["x"]) < 10 and abs(xs[2] - box["x"]) < 16


@pytest.mark.parametrize("label", ["Γ_u<3>", "W_x", "c~<t>", "h→[0]<init>", "encoder.W_h", "c<0>, h<0>"])
def test_places_follow_from_left_to_right_and_are_centred(label):
    parts = typeset.placed(label, 12)
    assert "".join(part.text for part in parts) == label.replace("_", "")
    edges = [(part.x - typeset.advance(part.text, part.size) / 2, part.x + typeset.advance(part.text, part.size) / 2)
             for part in parts if part.text != "~"]  # fmt: skip
    assert edges[0][0] == pytest.approx(-edges[-1][1])
    assert all(before[1] == pytest.approx(after[0]) for before, after in pairwise(edges))
    assert edges[-1][1] - edges[0][0] <= layout.label_width(label, 12)
    assert all(other.x == pytest.approx(parts[0].x) for other in parts if other.text == "~")
