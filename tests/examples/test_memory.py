"""Memory over T: what the script measures, with the exponents of short sequences, and what it leaves behind."""

import json

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.models import LSTM

from .scripts import assert_whole_png, finished, rows_of, run, script

memory = script("memory")
LENGTHS = [64, 128, 256]

pytestmark = pytest.mark.xdist_group("memory")  # one worker runs it


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("memory")


@pytest.fixture(scope="module")
def done(folder):
    return finished("memory", folder, "--longest", LENGTHS[-1], "--batch", 32, "--seed", 1)


@pytest.fixture(scope="module")
def figures(done, folder):
    return json.loads((folder / "out" / "memory.json").read_text(encoding="utf-8"))


def test_full_grows_as_t_segments_as_its_root_and_truncated_not_at_all(figures):
    """On short sequences what is there at any T still counts, so the exponents are below those of the limit."""
    slopes = figures["exponents"]
    assert 0.75 < slopes["full"] < 1.05
    assert 0.35 < slopes["segments"] < 0.6
    assert abs(slopes["Truncated(16, 32)"]) < 0.02


def test_where_the_sequence_is_long_the_ways_out_pay(figures):
    full, segments, truncated = (figures["peaks"][name][-1] for name in memory.WAYS)
    assert segments < full / 4 and truncated < full / 4


def test_segments_give_the_full_gradient_and_truncation_another(figures):
    assert figures["differences"]["full"] == 0
    assert figures["differences"]["segments"] < 1e-5
    assert figures["differences"]["Truncated(16, 32)"] > 1e-3


def test_the_tables_say_what_the_figures_say(done, figures):
    rows = rows_of(done.stdout)
    assert [int(row[0]) for row in rows[:3]] == figures["lengths"] == LENGTHS
    for i, row in enumerate(rows[:3]):
        assert row[1:] == [f"{peaks[i] / 1e6:.3g}" for peaks in figures["peaks"].values()]
    assert [(row[0], float(row[1])) for row in rows[3:]] == list(memory.EXPECTED.items())
    assert [float(row[2]) for row in rows[3:]] == [float(f"{slope:.3g}") for slope in figures["exponents"].values()]


def test_the_picture_is_where_it_says_and_whole(done, folder):
    written = [line.partition("written: ")[2] for line in done.stdout.splitlines() if line.startswith("written: ")]
    assert [(folder / name).name for name in written] == ["memory.png", "memory.json"]
    assert_whole_png(folder / written[0])


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 1.7])
def test_the_exponent_of_a_power_is_found(p):
    assert memory.exponent([64, 128, 512], [int(1e9 * T**p) for T in (64, 128, 512)]) == pytest.approx(p, abs=1e-6)


def test_the_peak_is_what_is_held_at_once_and_not_what_was_there_before():
    def way(lstm, x):
        for _ in range(3):
            held = np.empty(10**6, np.uint8)
            del held
        held = np.empty(2 * 10**6, np.uint8)
        assert held.nbytes == 2 * 10**6

    before = np.empty(10**7, np.uint8)
    assert 2e6 <= memory.peak(way, LSTM(2, 3), before) < 2.1e6


def test_every_way_leaves_a_gradient_in_every_weight():
    x = np.random.default_rng(0).normal(size=(40, 2, 3)).astype(np.float32)
    with tg.random.replaying(tg.random.get_state()):
        lstm = LSTM(3, 4)
    for way in memory.WAYS.values():
        memory.peak(way, lstm, x)
        assert all(np.abs(parameter.grad.numpy()).max() > 0 for parameter in lstm.parameters())


def test_help_and_nonsense(tmp_path):
    told = finished("memory", tmp_path, "--help").stdout
    assert all(option in told for option in ("--longest", "--hidden", "--batch", "--seed", "--out", "--quick"))
    refused = run("memory", tmp_path, "--longest", 100)
    assert refused.returncode == 2 and "at least 128" in refused.stderr
    assert list(tmp_path.iterdir()) == []
