"""The demo, run as a user runs it, but for fewer steps: what it prints and what it leaves behind."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.py"
STEPS = 60
SVG = "{http://www.w3.org/2000/svg}"

pytestmark = pytest.mark.xdist_group("demo")  # one worker runs it


def run(folder, *arguments):
    command = [sys.executable, "-W", "error", str(DEMO), *map(str, arguments)]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def finished(folder):
    done = run(folder, "--steps", STEPS, "--hidden", 32, "--seed", 3)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def bits(finished):
    """(bits per character of the model, and of a guess by frequency) on the held-out text."""
    found = re.search(r"([\d.]+) bits per character \(([\d.]+) from", finished.stdout)
    assert found, finished.stdout
    return float(found[1]), float(found[2])


def test_a_progress_bar_runs_to_its_end(finished):
    assert f"{STEPS}/{STEPS}" in finished.stderr
    assert "bits " in finished.stderr


def test_training_beats_the_frequency_of_characters(bits):
    model, frequency = bits
    assert 4.5 < frequency < 5.0  # the text's own, whatever the seed
    assert 2.0 < model < frequency - 0.5


def test_it_writes_on_from_the_start(finished):
    written = finished.stdout.partition("HAMLET:\n")[2].partition("\n\nStep 15")[0]
    assert len(written) >= 300
    assert len(set(written)) > 5  # more than one letter over and over


def test_a_step_of_the_tape_is_printed(finished):
    table = finished.stdout.partition("on the tape:\n\n")[2].partition("\n\n")[0].splitlines()
    assert table[0].split() == ["#", "t", "scope", "name", "op", "inputs", "shape", "saved"]
    assert [row.split()[1] for row in table[1:]] == ["15"] * 8
    assert [row.split()[2] for row in table[1:]] == ["rnn"] * 5 + ["readout"] * 3
    assert "d a<14> += " in finished.stdout
    assert "@ W_aa.T" in finished.stdout


def test_gradient_norms_are_printed_for_every_step_and_fall_back_in_time(finished):
    rows = re.findall(r"^ ?(\d+)   +([\d.e+-]+)   +([\d.e+-]+)", finished.stdout, re.MULTILINE)
    assert [int(t) for t, _, _ in rows] == list(reversed(range(16)))
    states = [float(norm) for _, norm, _ in rows]
    through = [float(norm) for _, _, norm in rows]
    assert min(states) > 0
    assert states[0] > 2 * states[-1]  # this network starts as a contraction
    assert through[-1] == 0  # the initial state is zero, and so is its outer product with anything
    assert min(through[:-1]) > 0


def test_the_picture_is_where_it_says_and_shows_the_last_steps(finished, folder):
    said = re.search(r"flowing back through them: (.+)", finished.stdout)
    assert said is not None
    picture = Path(said[1].strip())
    assert picture == (folder / "out" / "bptt.svg").resolve()
    root = ElementTree.parse(picture).getroot()
    assert root.tag == f"{SVG}svg"
    shown = {"".join(element.itertext()) for element in root.iter(f"{SVG}text")}  # a label with its subscripts
    assert {f"a<{t}>" for t in range(10, 16)} | {"W_aa", "W_ax", "W_ya", "L"} <= shown
    assert "a<8>" not in shown
    assert "t = 15" in shown and "t = 0" not in shown  # the readout of the last step stands with the last step
    classes = {word for element in root.iter() for word in element.get("class", "").split()}
    assert {"forward", "backward"} <= classes


def test_a_seed_makes_it_repeatable_and_another_seed_another_run(folder, finished, bits, tmp_path):
    again = run(tmp_path, "--steps", STEPS, "--hidden", 32, "--seed", 3, "--out", folder / "again")
    other = run(tmp_path, "--steps", STEPS, "--hidden", 32, "--seed", 4, "--out", "elsewhere")
    assert without_time(again.stdout) == without_time(finished.stdout)
    assert (folder / "again" / "bptt.svg").read_bytes() == (folder / "out" / "bptt.svg").read_bytes()
    assert f"{bits[0]:.3f} bits" not in other.stdout
    assert (tmp_path / "elsewhere" / "bptt.svg").is_file()


def without_time(printed):
    """What is printed, but for how long it took and where the picture is."""
    return re.sub(r"in \d+ s\.|them: .*", "", printed)


def test_help_names_every_option_and_nonsense_is_refused(tmp_path):
    told = run(tmp_path, "--help")
    assert told.returncode == 0
    assert all(option in told.stdout for option in ("--steps", "--hidden", "--seed", "--out", "default: 3000"))
    refused = run(tmp_path, "--steps", 0)
    assert refused.returncode == 2
    assert "at least 1" in refused.stderr
