"""Names: a short run, and what its figures are made of, by hand."""

import numpy as np
import pytest

import tinygrad_seq as tg

from .in_process import refused, told
from .scripts import assert_whole_png, rows_of, script

names = script("names")
Name = names.Name
AB = tg.data.Vocabulary("ab")

pytestmark = pytest.mark.xdist_group("names")  # one worker runs it


def test_names_are_read_with_who_bears_them():
    found = names.names()
    assert len(found) == 5494
    assert found[0] == Name("james", 1) and Name("mary", 0) in found
    assert sum(name.gender for name in found) == 1219


def test_a_name_of_both_genders_is_on_one_side_with_both():
    found = names.names()
    parts = names.split(found, 3)
    assert sorted(name for part in parts for name in part) == sorted(found)
    letters = [{name.letters for name in part} for part in parts]
    assert not letters[0] & letters[1] | letters[0] & letters[2] | letters[1] & letters[2]
    assert [round(len(each) / sum(map(len, letters)), 2) for each in letters] == [0.8, 0.1, 0.1]


def test_a_batch_is_what_the_model_takes():
    genders, letters, lengths = names.batch(AB, [Name("ab", 1), Name("bbb", 0)])
    assert genders.tolist() == [1, 0] and lengths.tolist() == [2, 3]
    np.testing.assert_array_equal(letters.T, [[0, 1, 0], [1, 1, 1]])


def test_names_are_framed_by_the_boundary():
    """The number behind those of the letters; before the name so often that each letter has a whole context."""
    framed = {order: names.NameCounts(AB, [Name("ab", 0), Name("a", 1)], order).framed(Name("ba", 0)) for order in (1, 2, 3)}
    assert framed == {1: [1, 0, 2], 2: [2, 1, 0, 2], 3: [2, 2, 1, 0, 2]}


def test_bits_of_a_unigram_by_hand():
    """Women: a, a, b and two ends out of 5; of the counts 2, 1, 2 one is 1 and two are 2: a discount of 1 / (1 + 2 * 2) = 0.2."""
    counts = names.NameCounts(AB, [Name("ab", 0), Name("a", 0), Name("b", 1)], 1)
    saved = 3 * 0.2 / 5 / 3
    a, b, end = 1.8 / 5 + saved, 0.8 / 5 + saved, 1.8 / 5 + saved
    assert counts.bits([Name("aab", 0)]) == pytest.approx(-np.log2([a, a, b, end]).mean())


def test_bits_of_a_network_are_by_letter_with_the_ends():
    """One that finds all letters and the end alike probable needs log2 3 for each."""
    model = names.SequenceGenerator(2, 4, len(AB), cell="gru")
    for parameter in model.parameters():
        parameter.overwrite(0.0)
    assert names.bits_of_model(model, AB, [Name("ab", 1), Name("bbb", 0)]) == pytest.approx(np.log2(3))


def test_counts_write_what_they_have_seen():
    """After "a" there was always "b", and after that the end; other letters are rare."""
    with tg.random.replaying(tg.random.get_state()):
        written = names.NameCounts(AB, [Name("ab", 0)] * 50 + [Name("b", 1)] * 50, 3).write(40)
    assert [name.gender for name in written] == [0] * 40 + [1] * 40
    assert sum(name.letters == "ab" for name in written[:40]) > 25
    assert sum(name.letters == "b" for name in written[40:]) > 25


def test_novelty_by_hand():
    """Of four, x and twice y are new; y is real; one y has been said before."""
    found = names.novelty([Name(each, 0) for each in "axyy"], [Name("a", 1)], [Name("y", 1), Name("z", 0)])
    assert found == pytest.approx(dict(new=3 / 4, real=2 / 3, twice=1 / 4))
    assert names.novelty([Name("a", 0)], [Name("a", 0)], []) == dict(new=0, real=0, twice=0)


def test_endings_by_gender():
    some = [Name("anna", 0), Name("eve", 0), Name("ada", 0), Name("", 0), Name("bob", 1)]
    assert names.endings(some, 0) == pytest.approx({"a": 2 / 3, "e": 1 / 3})


def test_the_table_says_what_the_figures_say(done, figures):
    rows = rows_of(done)
    assert rows[:6] == [[name, f"{bits:.3f}"] for name, bits in figures["bits"].items()]
    assert rows[6:9] == [[name, *(f"{share:.1%}" for share in shares.values())] for name, shares in figures["novelty"].items()]


def test_what_is_reported_is_what_was_found_and_the_strongest_opponent_is_among_it(figures):
    assert [row["theirs"] for row in figures["rows"]] == [figures["bits"][name] for name in ("2-gram", "5-gram")]
    ours = {row["ours"] for row in figures["rows"]}
    assert ours == {figures["bits"]["LSTM of 16 units"]} and 2.5 < min(ours) < 4.8  # one epoch; log2 27 would be 4.75
    bits = [figures["bits"][f"{order}-gram"] for order in names.ORDERS]
    assert bits == sorted(bits, reverse=True)  # a longer context helps, whatever the seed


def test_names_are_shown_and_the_picture_is_there(done, folder):
    for key in names.GENDERS.values():
        assert len(done.partition(f"New names for {key}: ")[2].splitlines()[0].split()) >= 5
    assert_whole_png(folder / "names.png")


def test_help_and_nonsense(capsys):
    help_text = told(names, capsys)
    assert all(option in help_text for option in ("--epochs", "--hidden", "--written", "--seed", "--out", "--quick"))
    assert "--written" in refused(names, capsys, "--written", -1)
