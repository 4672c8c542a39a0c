"""The gallery: every figure has what the overview's figure has, from a tape; and the page around them."""

import hashlib
import html.parser
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import viz
from tinygrad_seq.viz import gallery
from tinygrad_seq.viz.exhibition import Exhibit, write_page
from tinygrad_seq.viz.sheet import Sheet

NAMES = [figure.name for figure in gallery.FIGURES]


@pytest.fixture(scope="module")
def drawings():
    return {figure.name: figure.drawn() for figure in gallery.FIGURES}


class Picture:
    """A drawing's data, asked by labels."""

    def __init__(self, data):
        self.data = data
        self.label = {node["id"]: node["label"] for node in data["nodes"]}
        self.labels = list(self.label.values())
        self.edges = {(self.label[edge["from"]], self.label[edge["to"]]) for edge in data["edges"] if edge["kind"] != "backward"}

    def has(self, *chains):
        """Whether there is an edge from each label to the next: "x<0> a<0> o<0>"."""
        return all(pair in self.edges for chain in chains for pair in pairwise(chain.split()))

    def between(self, a, b):
        """Steps (s, t) with an edge from "a<s>" to "b<t>"."""
        found = [(re.fullmatch(rf"{a}<(\w+)>", x), re.fullmatch(rf"{b}<(\d+)>", y)) for x, y in self.edges]
        return {(x[1], int(y[1])) for x, y in found if x and y}


def pictures(drawing):
    data = drawing.data
    return [Picture(part["drawing"]) for part in data["parts"]] if "parts" in data else [Picture(data)]


def the(drawings, number):
    """The picture of a figure that has one."""
    (picture,) = pictures(drawings[next(name for name in NAMES if name.startswith(f"{number:02}-"))])
    return picture


HANDED_ON = {("init", 0), ("0", 1), ("1", 2)}
SAME_STEP = {(str(t), t) for t in range(3)}


# ---- the ten figures ------------------------------------------------------------------------------------------------------


def test_there_are_the_ten_figures_and_those_beyond():
    assert [name[:2] for name in NAMES] == [f"{n:02}" for n in range(1, 17)]
    assert len({figure.title for figure in gallery.FIGURES}) == len({figure.caption for figure in gallery.FIGURES}) == 16


def test_1_a_chain_folded_and_unfolded(drawings):
    folded, unfolded = pictures(drawings["01-chain"])
    assert folded.data["level"] == "rolled"
    assert folded.edges == {("h<t>", "h<t>"), ("x<t>", "h<t>"), ("h<init>", "h<t>")}
    assert unfolded.between("h", "h") == HANDED_ON | {("2", 3)}
    assert unfolded.between("x", "h") == SAME_STEP | {("3", 3)}
    assert {label[0] for label in unfolded.labels} == {"x", "h"}  # no outputs


def test_2_the_basic_rnn_has_all_its_parts(drawings):
    picture = the(drawings, 2)
    for t in range(3):
        assert picture.has(f"x<{t}> a<{t}> o<{t}> ŷ<{t}> L<{t}> L", f"y<{t}> L<{t}>")
        assert picture.has(f"w_ax a<{t}>", f"w_aa a<{t}>", f"w_ya o<{t}>")
    assert picture.between("a", "a") == HANDED_ON
    assert sum(node["kind"] == "weight" for node in picture.data["nodes"]) == 3


def test_3_hidden_to_hidden(drawings):
    picture = the(drawings, 3)
    assert picture.between("h", "h") == HANDED_ON
    assert picture.between("ŷ", "h") == picture.between("o", "h") == set()
    assert picture.has("x<1> h<1> o<1> ŷ<1> L<1>", "y<1> L<1>")


def test_4_output_to_hidden(drawings):
    picture = the(drawings, 4)
    assert picture.between("h", "h") == set()
    assert picture.between("ŷ", "h") == HANDED_ON
    assert picture.has("x<1> h<1> o<1> ŷ<1> L<1>", "y<1> L<1>")


def test_5_the_teacher_stands_in_for_the_output_in_training_only(drawings):
    training, testing = pictures(drawings["05-teacher-forcing"])
    assert training.between("y", "h") == HANDED_ON
    assert training.between("ŷ", "h") == set()
    t = {node["id"]: node["t"] for node in training.data["nodes"]}
    assert all(t[edge["from"]] == t[edge["to"]] for edge in training.data["edges"])  # no step waits for another
    assert testing.between("ŷ", "h") == HANDED_ON
    assert testing.between("y", "h") == testing.between("y", "L") == set()


def test_6_every_pair_of_lengths(drawings):
    data = drawings["06-lengths"].data
    found = {}
    for part in data["parts"]:
        picture = Picture(part["drawing"])
        steps = [{int(label[2:-1]) for label in picture.labels if label[0] == kind} for kind in "xŷ"]
        found[part["title"]] = [sorted(each) for each in steps]
    assert found == {
        "one to one": [[0], [0]],
        "one to many": [[0], [0, 1, 2]],
        "many to one": [[0, 1, 2], [2]],
        "many to many, same length": [[0, 1, 2], [0, 1, 2]],
        "many to many, different lengths": [[0, 1], [2, 3, 4]],
    }


def test_7_many_to_one(drawings):
    picture = the(drawings, 7)
    assert picture.between("x", "h") == {(str(t), t) for t in range(4)}
    assert [label for label in picture.labels if label[0] == "ŷ"] == ["ŷ<3>"]


def test_8_each_output_is_the_next_input(drawings):
    picture = the(drawings, 8)
    assert picture.between("ŷ", "h") == {("0", 1), ("1", 2), ("2", 3)}
    assert picture.between("x", "h") == {("0", 0)}


def test_9_an_encoder_and_a_decoder_of_other_lengths(drawings):
    picture = the(drawings, 9)
    assert picture.between("h", "h") == HANDED_ON
    assert picture.between("h", "s") == {("2", 0)}  # all that the decoder is given
    assert picture.between("ŷ", "s") == {("init", 0), ("0", 1), ("1", 2), ("2", 3)}
    assert picture.between("x", "s") == set()
    where = {node["label"]: node["x"] for node in picture.data["nodes"]}
    assert where["h<2>"] < where["s<0>"]


def test_10_two_directions_meet_in_every_output(drawings):
    picture = the(drawings, 10)
    assert picture.between("h", "h") == HANDED_ON | {("2", 3)}
    assert picture.between("g", "g") == {("init", 3), ("3", 2), ("2", 1), ("1", 0)}
    for t in range(4):
        assert picture.has(f"x<{t}> h<{t}> ŷ<{t}>", f"x<{t}> g<{t}> ŷ<{t}>")


# ---- beyond them ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "gates"), [(11, ["Γ_u", "Γ_r", "c~"]), (12, ["Γ_f", "Γ_u", "c~", "Γ_o"])])
def test_gates_are_drawn_forward_and_backward(drawings, number, gates):
    forward, backward = the(drawings, number), the(drawings, number + 3)
    for gate in gates:
        assert {f"{gate}<0>", f"{gate}<1>"} <= {*forward.labels} & {*backward.labels}
    assert all(edge["kind"] == "forward" for edge in forward.data["edges"])
    back = {(edge["to"], edge["from"]) for edge in backward.data["edges"] if edge["kind"] == "backward"}
    assert back == {(edge["from"], edge["to"]) for edge in backward.data["edges"] if edge["kind"] == "forward"}


def test_13_the_gradient_vanishes(drawings):
    picture = the(drawings, 13)
    states = [node for node in picture.data["nodes"] if node["label"].startswith("a<") and node["t"] is not None]
    norms = [node["grad"]["norm"] for node in states]
    assert [node["t"] for node in states] == list(range(8))
    assert all(norms[t] < norms[t + 1] for t in range(7))
    assert norms[0] < 0.01 * norms[7]
    assert "95 % of it is lost" in drawings["13-vanishing"].alt_text


def test_16_the_cut_says_what_it_keeps_away(drawings):
    picture = the(drawings, 16)
    (cut,) = [edge for edge in picture.data["edges"] if edge["kind"] == "cut"]
    assert picture.label[cut["from"]] == "a<2>"
    assert "full back-propagation through time would carry" in drawings["16-truncation"].alt_text


def test_no_path_of_the_machine_is_in_a_picture(drawings):
    assert not any(".py" in drawing.source or ".py" in drawing.json() for drawing in drawings.values())


def test_every_node_comes_from_a_tape(drawings):
    for drawing in drawings.values():
        for picture in pictures(drawing):
            assert all(node["entries"] for node in picture.data["nodes"])


# ---- files ----------------------------------------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.images, self.links, self.ids, self.tags = {}, [], set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.add(tag)
        self.ids.add(attrs.get("id"))
        if tag == "img":
            self.images[attrs["src"]] = attrs["alt"]
        if tag == "a":
            self.links.append(attrs["href"])


def test_all_of_it_is_written(drawings, tmp_path):
    state = tg.random.get_state()
    page = gallery.write(tmp_path / "new" / "folder")
    assert tg.random.get_state() == state
    assert {path.name for path in page.parent.iterdir()} == {*(f"{name}.svg" for name in NAMES), "index.html"}
    read = Page(page.read_text(encoding="utf-8"))
    assert read.images == {f"{name}.svg": drawing.alt_text for name, drawing in drawings.items()}
    assert {link.removeprefix("#") for link in read.links} == {*NAMES, *read.images}
    assert read.ids >= {*NAMES}
    for name in NAMES:
        root = ET.parse(page.parent / f"{name}.svg").getroot()
        assert root.get("aria-label") == drawings[name].alt_text


def test_png_too(monkeypatch, tmp_path):
    monkeypatch.setattr(gallery, "FIGURES", gallery.FIGURES[:1])
    gallery.write(tmp_path, png=True)
    assert {path.name for path in tmp_path.iterdir()} == {"01-chain.svg", "01-chain.png", "index.html"}
    assert (tmp_path / "01-chain.png").read_bytes().startswith(b"\x89PNG")


DIGEST = """
import hashlib
from tinygrad_seq.viz import gallery
print(hashlib.sha256("".join(figure.drawn().source for figure in gallery.FIGURES).encode()).hexdigest())
"""


def test_the_same_text_in_another_process(drawings):
    run = [sys.executable, "-c", DIGEST]
    there = subprocess.run(run, env={"PYTHONHASHSEED": "1"}, capture_output=True, text=True, check=True).stdout.strip()
    assert there == hashlib.sha256("".join(drawing.source for drawing in drawings.values()).encode()).hexdigest()


def test_a_page_shows_any_text_as_it_is(tmp_path):
    hostile = "<script>\"&'</script>"
    page = write_page(tmp_path / "deep" / "index.html", hostile, hostile, [Exhibit("a.svg", hostile, hostile, hostile, 1000.0)])
    read = Page(page.read_text(encoding="utf-8"))
    assert read.images == {"a.svg": hostile}
    assert "script" not in read.tags
    assert 'style="min-width:500px"' in page.read_text(encoding="utf-8")


# ---- sheets ---------------------------------------------------------------------------------------------------------------


def one_step(name):
    with tg.record() as tape, tg.scope("rnn", t=0):
        h = np.tanh(tg.tensor([[1.0]], name=name) * 2)
        h.name = f"h of {name}"
    return viz.draw(tape)


def boxes(source):
    """(id, left, bottom, right, top) of every box with an id that belongs to a part."""
    found = []
    for line in source.splitlines():
        head = re.match(r'\s*"(\d+)\.[^"]*" \[', line)
        if head:
            x, y = map(float, re.search(r'pos="(-?[\d.]+),(-?[\d.]+)"', line).groups())
            w, h = (72 * float(re.search(rf'{side}="([\d.]+)"', line)[1]) / 2 for side in ("width", "height"))
            found.append((int(head[1]), x - w, y - h, x + w, y + h))
    return found


def test_the_parts_of_a_sheet_do_not_touch():
    sheet = Sheet([[("a", one_step("x")), ("b", one_step("y"))], [("c", one_step("z"))]])
    around = {}
    for part, *box in boxes(sheet.source):
        held = around.setdefault(part, box)
        around[part] = [*map(min, held[:2], box[:2]), *map(max, held[2:], box[2:])]
    assert [*around] == [0, 1, 2]
    a, b, c = around.values()
    assert a[2] < b[0]  # side by side
    assert c[3] < min(a[1], b[1])  # below
    assert a[3] == b[3] and a[0] == c[0]


def test_a_part_is_moved_as_a_whole():
    drawing = one_step("x")
    sheet = Sheet([[("", one_step("y")), ("", drawing)]])
    heads = [(re.match(r'\s*"1\.[^\[]*', line), line) for line in sheet.source.splitlines()]
    lines = {head[0]: line for head, line in heads if head}
    moves = set()
    for line in drawing.source.splitlines():
        head = re.match(r'\s*"[^\[]*', line)
        if head:
            there = lines.pop(head[0].replace('"', '"1.', 1).replace('-> "', '-> "1.'))
            before, after = (
                np.array(re.findall(r"(-?[\d.]+),(-?[\d.]+)", re.search(r'pos="([^"]*)"', each)[1]), float)
                for each in (line, there)
            )
            moves |= {tuple(move) for move in (after - before).round(1).tolist()}
    assert len(moves) == 1 and lines == {}


def test_a_sheet_shows_any_label_as_it_is():
    hostile = 'a pos="1,1" id="x" -> "b" [width="9"] <b>&amp; \\N'
    sheet = Sheet([[(hostile, one_step(hostile))]])
    shown = ["".join(text.itertext()) for text in ET.fromstring(sheet.svg()).iter("{http://www.w3.org/2000/svg}text")]
    assert shown.count(hostile) == 2  # the title, and the input
    assert f"h of {hostile}" in shown


def test_a_sheet_without_captions_has_no_legend():
    drawing = one_step("x")
    assert '"legend.' in drawing.source or '"caption.' in drawing.source
    bare = Sheet([[("", drawing)]], captions=False).source
    assert ".legend." not in bare and ".caption." not in bare and "title.0" not in bare


def test_a_sheet_is_a_drawing(tmp_path):
    sheet = Sheet([[("a", one_step("x")), ("b", one_step("y"))]])
    assert [part["title"] for part in sheet.data["parts"]] == ["a", "b"]
    assert sheet.alt_text.startswith("a: ") and " b: " in sheet.alt_text
    assert sheet.text().startswith("a\n")
    assert repr(sheet) == "<Sheet of 2 drawings>"
    for kind in ("svg", "png", "dot", "json", "html"):
        assert sheet.save(tmp_path / f"sheet.{kind}").stat().st_size > 100
