"""Spelling to phones: a short run, and the words in it."""

import numpy as np
import pytest

from .in_process import refused, told
from .scripts import assert_whole_png, rows_of, script

phones = script("phones")

pytestmark = pytest.mark.xdist_group("phones")  # one worker runs it


def test_the_dictionary_is_read_without_stress():
    pairs = phones.dictionary()
    assert len(pairs) == 6000
    assert pairs[1] == ("abandon", ("AH", "B", "AE", "N", "D", "AH", "N"))
    assert len({phone for _, said in pairs for phone in said}) == 39


def test_a_split_leaves_nothing_out_and_is_the_seeds_own():
    pairs = phones.dictionary()
    parts = phones.split(pairs, 0)
    assert [len(part) for part in parts] == [5200, 200, 600]
    assert sorted(pair for part in parts for pair in part) == pairs
    assert phones.split(pairs, 0) == parts != phones.split(pairs, 1)


def test_words_become_arrays_and_come_back():
    speller = phones.Speller([("ab", ("AH", "B")), ("b", ("B",))])
    source, target, lengths, target_lengths = speller.batch([("b", ("B",)), ("ab", ("AH", "B"))])
    np.testing.assert_array_equal(source.T, [[1, 0], [0, 1]])
    np.testing.assert_array_equal(target.T, [[1, 0], [0, 1]])
    assert lengths.tolist() == target_lengths.tolist() == [1, 2]
    assert speller.said(target[:, 1]) == ("AH", "B")


def test_the_tables_read_better_than_by_chance_even_from_few_words(figures):
    rates = figures["error_rates"]
    assert rates["table of letters and neighbours"] < rates["table of letters"] < 0.6
    assert rates["network, greedy"] > 0.6  # one epoch is nothing


def test_what_is_reported_is_what_was_found_greedy_against_beam_too(figures):
    beam = f"network, beam of {phones.BEAM}"
    pairings = [(row["network"], row["baseline"]) for row in figures["rows"]]
    assert {("network, greedy", "table of letters"), (beam, "table of letters"), (beam, "network, greedy")} <= set(pairings)
    for row in figures["rows"]:
        assert (row["ours"], row["theirs"]) == tuple(figures["error_rates"][row[name]] for name in ("network", "baseline"))


def test_the_tables_say_what_the_figures_say(done, figures):
    rows = rows_of(done)
    assert rows[:4] == [
        [name, f"{rate:.1%}", f"{figures['words_right'][name]:.1%}"] for name, rate in figures["error_rates"].items()
    ]
    truth = dict(phones.dictionary())
    assert all(tuple(said.split()) == truth[word] for word, said, *_ in rows[4:12])


def test_the_picture_is_there(folder, done):
    assert_whole_png(folder / "phones.png")


def test_help_and_nonsense(capsys):
    help_text = told(phones, capsys)
    assert all(option in help_text for option in ("--epochs", "--hidden", "--seed", "--out", "--quick"))
    assert "--hidden" in refused(phones, capsys, "--hidden", "many")
