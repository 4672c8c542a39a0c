"""The DOT text, the program that draws it, and the forms in which a user gets the picture."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import graphviz
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tinygrad_seq as tg
from tinygrad_seq import viz
from tinygrad_seq.viz import dot, pen, program, words

from . import modelled, runs

SVG = "{http://www.w3.org/2000/svg}"


def drawn(T=3, level="op", backward=True):
    tape, loss = runs.elman(T)
    if backward:
        loss.backward()
    return viz.draw(tape, level=level)


def groups(svg):
    return {group.get("id"): group for group in ET.fromstring(svg).iter(f"{SVG}g")}


def text_of(group):
    return "\n".join("".join(text.itertext()) for text in group.iter(f"{SVG}text"))


# ---- the text -------------------------------------------------------------------------------------------------------


def test_ids_and_classes_reach_the_svg():
    drawing = drawn()
    found = groups(drawing.svg())
    for node in drawing.data["nodes"]:
        assert node["kind"] in found[node["id"]].get("class").split()
    for edge in drawing.data["edges"]:
        group = found[f"{edge['from']}-{edge['to']}"]
        assert edge["kind"] in group.get("class").split()


def test_graphviz_moves_nothing():
    drawing = drawn()
    placed = json.loads(program.render(drawing.graph, "json"))
    positions = {node["name"]: [float(x) for x in node["pos"].split(",")] for node in placed["objects"]}
    shifts = np.array([[positions[n["id"]][0] - n["x"], positions[n["id"]][1] - n["y"]] for n in drawing.data["nodes"]])
    assert np.ptp(shifts, axis=0).max() < 0.15  # it writes five digits


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import runs
from tinygrad_seq import viz
for name, run in runs.ALL.items():
    tape, loss = run(T=3)
    loss.backward()
    for level in ("op", "gate", "cell"):
        drawing = viz.draw(tape, level=level)
        sys.stdout.buffer.write(drawing.source.encode() + drawing.json().encode())
"""


def test_the_same_bytes_in_every_process():
    outputs = []
    for seed in ("0", "1", "4242"):
        command = [sys.executable, "-c", SCRIPT.format(folder=str(Path(__file__).parent))]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        outputs.append(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(outputs[0]) > 10_000
    assert outputs[0] == outputs[1] == outputs[2]


def labelled(label):
    x = tg.tensor([1.0], requires_grad=True, name=label)
    with tg.record() as tape:
        y = np.tanh(x)
        y.name = label
    return viz.draw(tape, level="op")


def shown(label):
    return "".join(c if c == "\n" or pen._is_writable(c) else "\ufffd" for c in label)


def lines_of(text):
    """The lines with something in them. Graphviz writes spaces as no-break spaces."""
    lines = [line.replace("\xa0", " ").strip() for line in text.split("\n")]
    return [line for line in lines if line]


tricky = st.sampled_from('<>{}|"\\&\n;#lrnNGET')
hostile = st.text(st.one_of(tricky, st.characters(exclude_categories=["Cs"])), min_size=1, max_size=20)


@settings(max_examples=40)
@given(hostile)
@example('<>{}|"\\&\n')
@example("<script>alert(1)</script>")
@example("&amp; &lt; &#65; \\N \\G \\l \\")
@example("\u202eright to left \u05d0\u05d1")
@example("\x00\x07\x1b[31m\x85")
@example("]]> --> <!--")
@example("<b>bold</b>")
@example(" two  spaces ")
def test_any_label_is_shown_as_it_is(label):
    drawing = labelled(label)
    svg = drawing.svg()
    node = drawing.data["nodes"][-1]
    assert node["label"] == label
    found = text_of(groups(svg)[node["id"]])
    assert lines_of(found) == lines_of(shown(label))
    assert "<script" not in svg
    ET.fromstring(svg)


def test_other_labels():
    tape, _ = runs.elman(2)
    labels = {node["label"] for node in viz.draw(tape, level="cell", labels={"h<0>": "a<0>", "t1.rnn": "a<1>"}).data["nodes"]}
    assert {"a<0>", "a<1>"} <= labels
    assert not {"h<0>", "h<1>"} & labels


def test_width_and_colour_grow_with_the_norm():
    looks = [dot._look("finite", norm, 1e-3, 1.0) for norm in (1e-3, 1e-2, 1e-1, 1.0)]
    widths = [float(look["penwidth"]) for look in looks]
    assert widths == sorted(widths)
    assert len(set(widths)) == 4
    assert (looks[0]["color"], looks[-1]["color"]) == (pen.RAMP[0], pen.RAMP[-1])


def test_the_ramp_grows_lighter_throughout():
    def grey(colour):
        return sum(share * int(colour[k : k + 2], 16) for share, k in ((0.2126, 1), (0.7152, 3), (0.0722, 5)))

    greys = [grey(colour) for colour in pen.RAMP]
    assert greys == sorted(greys)


def test_the_four_marks_differ():
    assert len({(look[0], look[2], look[3]) for look in dot.MARKS.values()}) == 4


@pytest.mark.parametrize(
    ("x", "text"), [(0.0, "0"), (-0.001, "0"), (-0.5, "-0.5"), (1.0, "1"), (10.0, "10"), (2.346, "2.35"), (-3, "-3")]
)
def test_numbers(x, text):
    assert pen.number(x) == text


# ---- the work -------------------------------------------------------------------------------------------------------


def instructions(work):
    """How many of the interpreter's instructions some work takes within `viz`."""
    done, folder = 0, str(Path(viz.__file__).parent)

    def trace(frame, event, _):
        nonlocal done
        if event == "call":
            frame.f_trace_lines, frame.f_trace_opcodes = False, True
        done += event == "opcode"
        return trace if frame.f_code.co_filename.startswith(folder) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return done


def test_the_work_grows_with_the_number_of_steps_and_no_faster():
    done = []
    for T in (16, 32, 48):
        tape = modelled.recorded("RNN", T)[0]
        done.append(instructions(lambda tape=tape: viz.draw(tape, level="cell", steps="all").source))
    assert done[2] - done[1] <= 1.015 * (done[1] - done[0])


# ---- in words -------------------------------------------------------------------------------------------------------


def test_the_caption_is_in_the_numbers():
    drawing = drawn(4)
    norms = {n["t"]: n["grad"]["norm"] for n in drawing.data["nodes"] if n["slot"] == "rnn.tanh" and n["t"] is not None}
    rate = (norms[0] / norms[3]) ** (1 / 3)
    assert f"by a factor of {rate:.2f} per step" in drawing.alt_text
    assert f"goes from {norms[3]:.2g} to {norms[0]:.2g}" in drawing.alt_text
    assert "losses at 4 steps bring gradient in on the way" in drawing.alt_text  # it neither grows nor falls by itself
    assert all(f"t={t}: {norm:.3g}" in drawing.alt_text for t, norm in norms.items())
    assert "No backward pass" in drawn(2, backward=False).alt_text


def test_one_loss_at_the_end_is_not_taken_for_many():
    tape = modelled.recorded("RNN", T=3)[0]
    for level in ("rolled", "cell", "gate", "op"):
        assert "bring gradient in" not in viz.draw(tape, level=level).alt_text


def test_where_the_gradient_is_lost():
    """h<t> = h<t-1> / 10: the norm falls by 0.10 a step; less than 5 % is left after two steps."""
    h = tg.tensor([1.0], requires_grad=True, name="h<init>")
    with tg.record() as tape:
        for t in range(5):
            with tg.scope("rnn", t=t):
                h = h * 0.1
                h.name = f"h<{t}>"
        loss = h.sum()
    loss.backward()
    said = viz.draw(tape).alt_text
    assert "the gradient norm at h falls from 1 to 0.0001, by a factor of 0.10 per step on average; 95 % of it is" in said
    assert "lost by t = 2." in said


def test_the_strip():
    _, *lines = drawn(4).text().splitlines()
    assert [line.split()[0] for line in lines] == ["t=0", "t=1", "t=2", "t=3"]
    assert all("█" in line for line in lines)
    assert "no gradient" in drawn(2, backward=False).text().splitlines()[1]


def test_the_strip_says_first_what_is_drawn():
    drawing = drawn(4)
    boxes = len(drawing.data["nodes"])
    there, back = ([e for e in drawing.data["edges"] if e["kind"] == kind] for kind in ("forward", "backward"))
    norms = [edge["grad"]["norm"] for edge in back if edge["grad"]["norm"]]
    assert drawing.text().splitlines()[0] == (
        f"level op, steps 0 to 3, {boxes} boxes, {len(there)} arrows forward, {len(back)} back; bars: gradient norm "
        f"||dL/dvalue|| of the whole batch, on a log scale from {min(norms):.2g} to {max(norms):.2g}"
    )
    assert "0 back; no gradient to measure" in drawn(2, backward=False).text()
    folded = viz.draw(modelled.recorded("RNN", T=9)[0], level="cell", steps=3)
    assert folded.text().startswith("level cell, steps 0 to 8 (6 of them not one by one), ")
    assert "\nt=2…7 6 equal steps" in folded.text()
    assert viz.draw(modelled.recorded("RNN", T=9)[0], level="rolled").text().startswith("level rolled, steps 0 to 8 (9 of them")
    w = tg.Parameter([2.0], name="w")
    with tg.record() as tape:
        loss = w * 3
    loss.backward()
    assert viz.draw(tape).text().startswith("level op, no steps, 2 boxes, 1 arrow forward, 1 back; ")


def test_positions_on_the_scale():
    assert [words.position(norm, 1e-4, 1.0) for norm in (1e-4, 1e-2, 1.0)] == pytest.approx([0, 0.5, 1])
    assert words.position(3.0, 3.0, 3.0) == 1.0


# ---- files ----------------------------------------------------------------------------------------------------------


def test_every_format(tmp_path):
    drawing = drawn(2)
    starts = {"svg": b"<?xml", "png": b"\x89PNG", "dot": b"digraph", "json": b"{", "html": b"<!DOCTYPE html>"}
    for ending, start in starts.items():
        path = drawing.save(tmp_path / "new" / f"picture.{ending}")
        assert path.read_bytes().startswith(start)
    assert json.loads((tmp_path / "new" / "picture.json").read_text(encoding="utf-8")) == drawing.data
    assert (tmp_path / "new" / "picture.dot").read_text(encoding="utf-8") == drawing.source
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(f"picture.{ending}" for ending in starts)
    with pytest.raises(ValueError, match=r"\.gif"):
        drawing.save(tmp_path / "picture.gif")


def test_a_file_is_whole_or_unchanged(tmp_path, monkeypatch):
    path = tmp_path / "picture.dot"
    path.write_text("before", encoding="utf-8")

    def fail(source, target):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        drawn(1).save(path)
    assert path.read_text(encoding="utf-8") == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_in_a_notebook():
    drawing = drawn(2)
    root = ET.fromstring(drawing._repr_svg_())
    assert root.get("viewBox")
    assert "pt" not in root.get("width")
    assert root.get("role") == "img"
    assert root.get("aria-label") == drawing.alt_text
    assert drawing._repr_mimebundle_()["image/svg+xml"] == drawing.svg()


def test_the_graph_is_a_digraph_that_users_can_draw_themselves():
    drawing = drawn(1)
    assert isinstance(drawing.graph, graphviz.Digraph)
    assert drawing.graph.engine == "neato"
    assert drawing.source == drawing.graph.source


def test_without_any_graphviz_the_text_is_there(monkeypatch):
    monkeypatch.setattr(program.shutil, "which", lambda name, path=None: None)
    drawing = drawn(1)
    assert drawing.source.startswith("digraph")
    with pytest.raises(viz.NoGraphvizError, match="pip install graphviz-pure"):
        drawing.svg()
    with pytest.raises(viz.NoGraphvizError, match="system Graphviz"):
        program.find("pdf")


def test_the_wheel_comes_before_the_system(monkeypatch):
    asked = []

    def which(name, path=None):
        asked.append((name, path))
        return "/bin/dot" if name == "dot" else None

    monkeypatch.setattr(program.shutil, "which", which)
    assert program.find("svg") == Path("/bin/dot")
    assert [name for name, _ in asked] == ["graphviz-pure"] * 3 + ["dot"]
    assert asked[0][1] == str(Path(sys.executable).parent)


def test_a_program_that_fails_is_named(monkeypatch):
    monkeypatch.setattr(program, "find", lambda kind: Path(sys.executable))
    with pytest.raises(viz.NoGraphvizError, match="did not draw svg"):
        drawn(1).svg()


# ---- what makes a picture honest ----------------------------------------------------------------------------------------


def test_a_weights_terms_end_where_they_join_a_trunk_without_a_colour():
    """Else the strongest term would hide the others, and seem to flow past all steps before its own."""
    drawing = drawn(4)
    found = groups(drawing.svg())
    for name in ("W_x", "W_h", "W_y"):
        trunk = found[f"{name}.sum.trunk"]
        assert trunk.get("class").split() == ["edge", "trunk"]
        (shaft,) = trunk.iter("{http://www.w3.org/2000/svg}path")
        assert shaft.get("stroke") == dot.TRUNK["color"]
    lefts = {}
    for edge in drawing.data["edges"]:
        if edge["kind"] == "backward" and edge["to"] == "W_h.sum":
            path = next(found[f"{edge['from']}-{edge['to']}"].iter("{http://www.w3.org/2000/svg}path"))
            lefts[edge["from"]] = min(float(x) for x in re.findall(r"(-?[\d.]+),-?[\d.]+", path.get("d")))
    ordered = [left for _, left in sorted(lefts.items())]
    assert ordered == sorted(ordered) and len(set(ordered)) == 4  # each ends below its own step


def test_the_norm_stands_above_the_arrow_from_step_to_step():
    drawing = drawn(4)
    found = groups(drawing.svg())
    crossing = [
        edge for edge in drawing.data["edges"]
        if edge["kind"] == "backward" and edge["from"].startswith("t3.rnn") and edge["to"].startswith("t2.rnn")
    ]  # fmt: skip
    assert crossing
    for edge in crossing:
        assert text_of(found[f"{edge['from']}-{edge['to']}.norm"]) == f"{edge['grad']['norm']:.2g}"


def test_what_no_loss_reads_has_no_box_but_at_level_op():
    """The layer's last state, stacked for whoever wants it, counts to the box of the state."""
    tape = modelled.recorded("LSTM", T=3)[0]
    stacked = {entry.index for entry in tape if entry.op == "stack"}
    assert len(stacked) == 3  # of all outputs too, which leads to the last one, and is no value of its own
    for level in ("rolled", "cell", "gate"):
        nodes = viz.draw(tape, level=level).data["nodes"]
        assert "stack" not in {node["label"] for node in nodes}
        assert stacked <= {i for node in nodes for i in node["entries"]}
    assert [node["label"] for node in viz.draw(tape, level="op").data["nodes"]].count("stack") == 2
    unread = modelled.recorded("LSTM", T=3, backward=False)[0]
    assert "stack" in {node["label"] for node in viz.draw(unread, level="cell").data["nodes"]}  # nobody knows yet


def test_a_gate_has_its_colour_everywhere():
    fills = {}
    for name in ("LSTM", "Peephole", "GRU"):
        drawing = viz.draw(modelled.recorded(name, T=2)[0], level="gate")
        found = groups(drawing.svg())
        for node in drawing.data["nodes"]:
            if node["kind"] == "gate":
                shape = next(found[node["id"]].iter("{http://www.w3.org/2000/svg}path"))
                fills.setdefault(node["slot"].rpartition(".")[2], set()).add(shape.get("fill"))
    assert all(len(each) == 1 for each in fills.values())
    assert len({*map(tuple, fills.values())}) == len(fills) == 5


def test_what_is_no_tape_and_no_loss_is_refused():
    for wrong in (np.ones(3), 3, tg.Module()):
        with pytest.raises(TypeError, match="a recorded tape, a part of one, or a loss, not a"):
            viz.draw(wrong)
