"""`python -m tinygrad_seq.viz`: every model at every level, every kind of file, and mistakes."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import tinygrad_seq as tg
from tinygrad_seq import models
from tinygrad_seq.viz import __main__ as command
from tinygrad_seq.viz import gallery, program

SMALL = ["--steps", "2", "--hidden", "2", "--inputs", "2"]
CHOOSING = [name for name, kind in command.MODELS.items() if kind.chooses]


def run(*arguments):
    return command.main([*map(str, arguments)])


def drawn(tmp_path, *arguments):
    """The data of what the command draws."""
    assert run(*arguments, "-o", tmp_path / "it.json") == 0
    return json.loads((tmp_path / "it.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("level", ["rolled", "cell", "gate", "op"])
@pytest.mark.parametrize("name", command.MODELS)
def test_every_model_at_every_level(name, level, tmp_path):
    data = drawn(tmp_path, name, *SMALL, "--level", level)
    assert data["level"] == level
    assert any(edge["kind"] == "backward" for edge in data["edges"])
    assert any(node["kind"] == "loss" for node in data["nodes"])


@pytest.mark.parametrize("name", CHOOSING)
def test_topologies_with_other_cells(name, tmp_path):
    labels = {node["label"] for node in drawn(tmp_path, name, *SMALL, "--cell", "lstm", "--level", "gate")["nodes"]}
    forward = "→" * (name == "bidirectional")
    assert {f"Γ_f{forward}<0>", f"Γ_f{forward}<1>", f"c{forward}<1>"} <= labels


def test_sizes_are_those_asked_for(tmp_path):
    data = drawn(tmp_path, "lstm", "--steps", 3, "--hidden", 5, "--inputs", 7, "--batch", 6, "--layers", 2, "--level", "gate")
    assert data["steps"] == [0, 1, 2]
    shapes = {tuple(node["shape"]) for node in data["nodes"] if node["label"].startswith("Γ_f[")}
    assert shapes == {(6, 5)}
    assert {(7, 20), (5, 20)} <= {tuple(node["shape"]) for node in data["nodes"] if node["kind"] == "weight"}
    assert any("lstm.l1" in node["id"] for node in data["nodes"])


@pytest.mark.parametrize("name", command.MODELS)
def test_all_leads_to_the_loss_and_each_weight_has_a_name_of_its_own(name, tmp_path):
    data = drawn(tmp_path, name, *SMALL, "--level", "cell", "--forward")
    read = {edge["from"] for edge in data["edges"]}
    assert [node["kind"] for node in data["nodes"] if node["id"] not in read] == ["loss"]
    weights = [node["label"] for node in data["nodes"] if node["kind"] == "weight"]
    assert len(weights) == len(set(weights)) > 2


def test_generators_and_decoders_have_as_many_steps_as_asked_for(tmp_path):
    for name in ("generator", "encoder-decoder"):
        data = drawn(tmp_path, name, "--steps", 110, "--level", "cell", "--show", 4)
        assert data["steps"] == [0, 1, 2, 109]


def test_the_forward_pass_alone(tmp_path):
    kinds = {edge["kind"] for edge in drawn(tmp_path, "gru", *SMALL, "--forward")["edges"]}
    assert kinds == {"forward"}


def test_steps_can_be_left_out(tmp_path):
    data = drawn(tmp_path, "rnn", "--steps", 9, "--level", "cell", "--show", 3)
    assert any(node["kind"] == "elided" and node["steps"] == [2, 7] for node in data["nodes"])


def test_the_overviews_notation(tmp_path):
    data = drawn(tmp_path, "rnn", *SMALL, "--level", "cell", "--notation", "document")
    assert {"a<0>", "a<1>", "W_aa", "W_ax"} <= {node["label"] for node in data["nodes"]}


STARTS = {"svg": b"<?xml", "png": b"\x89PNG", "dot": b"digraph", "html": b"<!DOCTYPE html>"}


@pytest.mark.parametrize(("kind", "start"), STARTS.items())
def test_the_ending_says_the_format(kind, start, tmp_path, capsys):
    path = tmp_path / "deep" / f"lstm.{kind}"
    assert run("lstm", *SMALL, "--level", "cell", "-o", path) == 0
    assert path.read_bytes().startswith(start)
    said = capsys.readouterr().out
    assert said.startswith(f"{path}: Computational graph over time. 2 steps, level cell")


def test_a_file_of_the_models_name_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("rnn", *SMALL) == 0
    assert ET.parse("rnn.svg").getroot().tag.endswith("svg")
    assert run("rnn", *SMALL, "--level", "cell", "--html") == 0
    assert "<script" in (tmp_path / "rnn.html").read_text(encoding="utf-8")


def test_a_plot_does_not_replace_a_picture(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    monkeypatch.chdir(tmp_path)
    assert run("rnn", *SMALL) == run("rnn", *SMALL, "--flow") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"rnn.svg", "rnn-flow.png"}
    assert capsys.readouterr().out.splitlines()[-1] == "rnn-flow.png"
    assert (tmp_path / "rnn-flow.png").read_bytes().startswith(STARTS["png"])


def test_every_cell_of_the_library_can_be_drawn(tmp_path):
    """And both kinds of attention: what is listed in `tinygrad_seq.models` has a name here."""
    cells = {name for name in models.__all__ if name.endswith("Cell")}
    seen = set()
    for name in command.MODELS:
        made = recorded_classes(name)
        seen |= made
    assert cells <= seen
    assert {"BahdanauAttention", "LuongAttention", "EncoderDecoder", "SequenceTagger", "SequenceClassifier"} <= seen
    assert {"SequenceGenerator", "LanguageModel"} <= seen


def recorded_classes(name):
    """The classes of all modules that a run of a model makes."""
    made = set()

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_name == "__init__" and isinstance(frame.f_locals.get("self"), tg.Module):
            made.add(type(frame.f_locals["self"]).__name__)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        command.run(name, command.Size(2, 1, 2, 2, 1), backward=False)
    finally:
        sys.setprofile(before)
    return made


@pytest.mark.parametrize(("option", "number", "what"), [
    ("hidden", 100_000, "40,017,200,030 numbers"),  # 4 H (I + H) + T B (I + 16 H)
    ("inputs", 10**10, "260,000,000,704 numbers"),
    ("batch", 10**20, "33,500,000,000,000,000,000,112 numbers"),
    ("steps", 10**8, "13,400,000,112 numbers"),
    ("layers", 10**7, "7,520,000,030 numbers"),
    ("steps", 100_001, "100,001 steps of cells"),
    ("layers", 20_001, "100,005 steps of cells"),
])  # fmt: skip
def test_what_is_too_large_is_refused_before_anything_is_run(tmp_path, monkeypatch, capsys, option, number, what):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "run", None)
    assert run("lstm", f"--{option}", number) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tinygrad-viz lstm: error: ") and what in line and line.endswith(f"lower --{option}")
    assert [*tmp_path.iterdir()] == []


def test_memory_that_runs_out_all_the_same_is_one_line(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise MemoryError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "run", full)
    assert run("rnn") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "tinygrad-viz rnn: error: not enough memory; lower --hidden, --steps or --batch"


def test_text_for_a_terminal_writes_no_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("rnn", "--steps", 3, "--text") == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.startswith("level op, steps 0 to 2, ")
    assert [line.split()[0] for line in lines] == ["t=0", "t=1", "t=2"]
    assert [*tmp_path.iterdir()] == []


def test_plots(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    for name in ("a.svg", "b.svg"):
        assert run("rnn", *SMALL, "--flow", "-o", tmp_path / name) == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "eigenvalues" in (tmp_path / "a.svg").read_text(encoding="utf-8")


def test_a_seed_says_all_and_disturbs_nothing(tmp_path):
    state = tg.random.get_state()
    first, again, other = (drawn(tmp_path, "gru", *SMALL, "--seed", seed) for seed in (3, 3, 4))
    assert first == again != other
    assert tg.random.get_state() == state


def test_the_gallery(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gallery, "FIGURES", gallery.FIGURES[:2])
    assert run("gallery", "--out", tmp_path / "here", "--png") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'here' / 'index.html'}\n"
    assert (tmp_path / "here" / "02-basic-rnn.png").exists()


# ---- mistakes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "said"), [
    (["lsmt"], "there is no model 'lsmt'; did you mean lstm"),
    (["transformer"], "there is no model 'transformer'; tinygrad-viz --help lists them"),
    ([], "MODEL"),
    (["lstm", "--steps", "0"], "argument --steps: '0' is no number from 1 on"),
    (["lstm", "--hidden", "many"], "argument --hidden: 'many' is no number from 1 on"),
    (["lstm", "--level", "deep"], "invalid choice: 'deep'"),
    (["lstm", "--cell", "gru"], "--cell"),
    (["lstm", "--forward", "--backward"], "not allowed with"),
    (["lstm", "--html", "--flow"], "not allowed with"),
    (["gallery", "--steps", "3"], "--steps"),
])  # fmt: skip
def test_wrong_arguments_are_refused_by_name(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        run(*arguments)
    assert exit_.value.code == 2
    assert said in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(("arguments", "said"), [
    (["lstm", "-o", "lstm.bmp"], "'lstm.bmp' ends in none of .svg, .png"),
    (["lstm", "-o", "lstm"], "'lstm' ends in none of"),
    (["lstm", "--html", "-o", "lstm.svg"], "the player is a page: 'lstm.svg' ends in none of .html"),
    (["lstm", "--flow", "-o", "flow.dot"], "a plot: 'flow.dot' ends in none of .png"),
    (["lstm", "-o", "folder.svg"], "folder.svg is a folder"),
    (["lstm", "-o", "file/lstm.svg"], "file"),
    (["lstm", "--show", "1"], "steps=1"),
    (["lstm", "--seed", "-1"], "non-negative"),
    (["rnn", "--forward", "--flow"], "has seen no backward pass"),
    (["output-rnn", "--layers", "2"], "output-rnn has one layer"),
    (["generator", "--steps", "1"], "two steps at least"),
    (["luong", "--steps", "1"], "two steps at least"),
    (["rnn", "--steps", "3000", "--html"], "too many to play (20,000 at most); lower --steps"),
    (["teacher-forcing", "--layers", "2"], "teacher-forcing has one layer"),
    (["gallery", "--out", "file"], "file"),
])  # fmt: skip
def test_what_cannot_be_done_is_said_and_leaves_nothing(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.svg").mkdir()
    (tmp_path / "file").touch()
    assert run(*arguments) == 2
    out, error = capsys.readouterr()
    assert error.startswith(f"tinygrad-viz {arguments[0]}: error: ") and said in error
    assert out == ""
    assert {path.name for path in tmp_path.rglob("*")} == {"folder.svg", "file"}


def test_without_graphviz_there_is_no_half_written_file(tmp_path, monkeypatch, capsys):
    def nowhere(kind):
        raise program.NoGraphvizError("no Graphviz was found; `pip install graphviz-pure` brings one")

    monkeypatch.setattr(program, "find", nowhere)
    (tmp_path / "rnn.svg").write_text("as it was")
    assert run("rnn", *SMALL, "-o", tmp_path / "rnn.svg") == 2
    assert "pip install graphviz-pure" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["rnn.svg"]
    assert (tmp_path / "rnn.svg").read_text() == "as it was"
    assert run("rnn", *SMALL, "-o", tmp_path / "rnn.dot") == 0  # the text is there all the same


def commands(text):
    """The lines of a text that call the script, as lists of arguments."""
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("tinygrad-viz ")]
    return [re.split(r"   ", line)[0].partition("#")[0].split()[1:] for line in lines]


README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [*commands(README), *commands(command.EXAMPLES)], ids=" ".join)
def test_what_the_readme_and_the_help_show_runs(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gallery, "FIGURES", gallery.FIGURES[:1])
    if "--flow" in arguments:
        pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    assert run(*arguments) == 0
    named = arguments[arguments.index("-o") + 1] if "-o" in arguments else None
    assert capsys.readouterr().out and (named is None or (tmp_path / named).stat().st_size > 1000)


def test_the_readme_shows_the_command():
    assert len(commands(README)) > 3 and len(commands(command.EXAMPLES)) > 6


def test_it_runs_as_a_module():
    found = subprocess.run([sys.executable, "-m", "tinygrad_seq.viz", "--help"], capture_output=True, text=True, check=True)
    assert "tinygrad-viz lstm --steps 5 --level gate -o lstm.svg" in found.stdout
    listed = {line.split()[0] for line in found.stdout.splitlines() if line.startswith("  ")}
    assert {*command.MODELS, "gallery"} <= listed
