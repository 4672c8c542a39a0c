"""Stress: a short run, and the counting by hand."""

import numpy as np
import pytest

from .in_process import refused, told
from .scripts import assert_whole_png, rows_of, script

stress = script("stress")
AARON = stress.word("aaron", "EH1 R AH0 N")

pytestmark = pytest.mark.xdist_group("stress")  # one worker runs it


def test_words_are_read_with_the_stress_apart():
    words = stress.dictionary()
    assert len(words) == 6000 and words[0] == AARON
    assert AARON._asdict() == dict(spelling="aaron", phones=("EH", "R", "AH", "N"), stresses=(1, -1, 0, -1))
    assert AARON.vowels == [0, 2]
    assert len({phone for word in words for phone in word.phones}) == 39


def test_words_that_are_said_alike_are_on_one_side():
    words = stress.dictionary()
    parts = stress.split(words, 3)
    assert sorted(word for part in parts for word in part) == sorted(words)
    said = [{word.phones for word in part} for part in parts]
    assert not said[0] & said[1] | said[0] & said[2] | said[1] & said[2]
    assert [round(len(each) / sum(map(len, said)), 2) for each in said] == [0.8, 0.1, 0.1]
    assert stress.split(words, 3) == parts != stress.split(words, 4)


def test_a_batch_is_what_the_model_takes_and_only_vowels_count():
    alphabet = stress.tg.data.Vocabulary(("EH", "R", "AH", "N"))
    phones, stresses, lengths, vowels = stress.batch(alphabet, [AARON, stress.word("an", "AH2 N")])
    np.testing.assert_array_equal(phones.T, [[0, 1, 2, 3], [2, 3, 0, 0]])
    np.testing.assert_array_equal(stresses.T, [[1, 0, 0, 0], [2, 0, 0, 0]])
    np.testing.assert_array_equal(vowels.T, [[True, False, True, False], [True, False, False, False]])
    assert lengths.tolist() == [4, 2]


def test_the_probabilities_are_those_of_each_words_own_vowels():
    alphabet = stress.tg.data.Vocabulary(("EH", "R", "AH", "N"))
    words = [AARON, stress.word("ran", "R AH2 N")]
    with stress.tg.random.replaying(stress.tg.random.get_state()):
        model = stress.SequenceTagger(4, 5, 3, embedding_size=3, bidirectional=True)
    together = stress.probabilities(model, alphabet, words)
    for found, word, places in zip(together, words, ([0, 2], [1])):
        alone = model.probabilities(alphabet.encode(word.phones)[:, None])[places, 0]
        np.testing.assert_allclose(found, alone, rtol=1e-5)


def test_the_vowel_alone_says_what_it_carries_most_often():
    words = [stress.word("", said) for said in ("AH0 B", "AH0 B AH1", "EY1", "EY1 B EY2")]
    counts = stress.Counts(words, alone=True)
    assert counts(stress.word("", "B AH1 B EY0")) == [0, 1]


def test_more_is_known_by_place_and_neighbours_and_less_where_that_was_never_seen():
    words = [stress.word("", said) for said in ["AH1 B AH0"] * 2 + ["AH0 B"] * 3 + ["AH2 K"]]
    counts = stress.Counts(words, alone=False)
    assert counts(stress.word("", "AH1 B AH0")) == [1, 0]  # where the vowel alone says 0 to both
    assert stress.Counts(words, alone=True)(stress.word("", "AH1 B AH0")) == [0, 0]
    assert counts(stress.word("", "AH2 K")) == [0]  # once is too rare: as in any word of one AH
    assert counts(stress.word("", "OY2")) == [0]  # never seen at all: the commonest stress


def test_what_is_right_by_hand():
    words = [AARON, stress.word("an", "AH2 N"), stress.word("b", "B EY1")]
    assert stress.right([[1, 1], [2], [1]], words) == pytest.approx(dict(vowels=3 / 4, longer=1 / 2, words=2 / 3))


def test_the_opponents_are_as_strong_as_they_are_known_to_be():
    """With all words to count in; more context must help."""
    known, _, held_out = stress.split(stress.dictionary(), 0)
    opponents = [stress.Counts(known, alone) for alone in (True, False)]
    shares = [stress.right([each(word) for word in held_out], held_out)["vowels"] for each in opponents]
    assert shares == pytest.approx([0.78, 0.90], abs=0.01)


def test_what_is_reported_is_what_was_found_beside_both_opponents(figures):
    assert [row["baseline"] for row in figures["rows"]] == ["vowel alone", "vowel, place and neighbours"] * 2
    for row, kind in zip(figures["rows"], ("vowels", "vowels", "longer", "longer")):
        assert row["ours"] == figures["right"]["LSTM tagger"][kind] and row["theirs"] == figures["right"][row["baseline"]][kind]


def test_the_table_says_what_the_figures_say(done, figures):
    assert rows_of(done)[:3] == [[name, *(f"{share:.1%}" for share in each.values())] for name, each in figures["right"].items()]


def test_the_picture_is_there(done, folder):
    assert_whole_png(folder / "stress.png")


def test_help_and_nonsense(capsys):
    help_text = told(stress, capsys)
    assert all(option in help_text for option in ("--epochs", "--hidden", "--seed", "--out", "--quick"))
    assert "--hidden" in refused(stress, capsys, "--hidden", 0)
