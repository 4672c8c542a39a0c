"""Digits row by row: a short run, and the opponents on what can be seen by eye."""

import numpy as np
import pytest

from .in_process import refused, told
from .scripts import assert_whole_png, rows_of, script

digits = script("digits")

pytestmark = pytest.mark.xdist_group("digits")  # one worker runs it


@pytest.fixture(scope="module")
def loaded():
    return digits.load()


def test_pictures_are_read_row_by_row(loaded):
    assert loaded.pictures.shape == (1797, 8, 8) and loaded.pictures.dtype == np.float32
    assert (loaded.pictures.min(), loaded.pictures.max()) == (0, 1)
    assert loaded.labels[:10].tolist() == list(range(10))
    zero = loaded.pictures[0]  # a ring: empty in the middle and at both sides
    assert zero[3:5, 3:5].max() <= 0.1 and zero[:, 0].max() == zero[:, 7].max() == 0 and zero.max(axis=1).min() > 0.5


def test_a_fifth_is_held_out_at_random_or_at_the_end():
    found = digits.splits(1797, 0)
    for learned, held_out in found.values():
        assert len(held_out) == 359 and sorted([*learned, *held_out]) == list(range(1797))
    assert found["the last fifth"][1].tolist() == list(range(1797 - 359, 1797))
    one, other = digits.splits(1797, 0)["a fifth at random"][1], digits.splits(1797, 1)["a fifth at random"][1]
    assert one.tolist() == found["a fifth at random"][1].tolist() != other.tolist()


def test_time_runs_from_the_top_to_the_bottom():
    pictures = np.arange(2 * 64).reshape(2, 8, 8)
    rows = digits.in_rows(pictures)
    np.testing.assert_array_equal(rows[3, 1], pictures[1, 3])


def test_pictures_are_shifted_by_a_pixel_at_most_each_in_its_own_way(monkeypatch):
    monkeypatch.setattr(digits, "NOISE", 0.0)
    point = np.zeros((200, 8, 8), np.float32)
    point[:, 3, 4] = 1
    with digits.tg.random.replaying(digits.tg.random.get_state()):
        shifted = digits.disturbed(point)
    assert shifted.dtype == np.float32 and shifted.shape == point.shape
    places = {tuple(place[1:]) for place in np.argwhere(shifted)}
    assert places == {(3 + i, 4 + j) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    assert shifted.sum(axis=(1, 2)).tolist() == [1] * 200


def test_the_opponents_tell_a_stroke_from_another():
    """A vertical stroke and a horizontal one; the eight other digits are dots in a corner."""
    pictures = np.zeros((10, 8, 8), np.float32)
    pictures[0, :, 3], pictures[1, 3, :] = 1, 1
    pictures[range(2, 10), 7, range(8)] = 0.5
    known = digits.Digits(pictures, np.arange(10))
    unseen = pictures[[1, 0]]
    unseen[:, 0, 0] = 0.3
    for predict in digits.OPPONENTS.values():
        assert predict(known, unseen).tolist() == [1, 0]


def test_the_opponents_are_as_strong_as_they_are_known_to_be(loaded):
    learned, held_out = digits.splits(len(loaded.labels), 0)["the last fifth"]
    known, unseen = loaded[learned], loaded[held_out]
    shares = {name: (predict(known, unseen.pictures) == unseen.labels).mean() for name, predict in digits.OPPONENTS.items()}
    expected = {"nearest centroid": 0.850, "logistic regression": 0.914, "nearest neighbour": 0.955}
    assert shares == pytest.approx(expected, abs=1e-3)


def test_what_is_reported_is_what_was_found_in_both_ways(figures):
    ways = ["a fifth at random", "the last fifth"]
    assert [row["task"] for row in figures["rows"]] == [f"digits, {way} held out" for way in ways for _ in range(2)]
    for row, way in zip(figures["rows"], (ways[0], ways[0], ways[1], ways[1])):
        assert (row["ours"], row["theirs"]) == (figures["right"][way]["GRU of 8 units"], figures["right"][way][row["baseline"]])


def test_the_table_says_what_the_figures_say(done, figures):
    random, last = figures["right"].values()
    assert rows_of(done)[:4] == [[name, f"{random[name]:.1%}", f"{last[name]:.1%}"] for name in random]


def test_the_picture_is_there(done, folder):
    assert_whole_png(folder / "digits.png")


def test_help_and_nonsense(capsys):
    help_text = told(digits, capsys)
    assert all(option in help_text for option in ("--epochs", "--hidden", "--seed", "--out", "--quick"))
    assert "--hidden" in refused(digits, capsys, "--hidden", "few")
