"""Surnames: a short run, and Bayes' rule by hand."""

import numpy as np
import pytest

import tinygrad_seq as tg

from .in_process import refused, told
from .scripts import assert_whole_png, rows_of, script

surnames = script("surnames")
Names = surnames.Names
LETTERS = tg.data.Vocabulary.of("ab", special=("^", "$"), unknown="?")

pytestmark = pytest.mark.xdist_group("surnames")  # one worker runs it


@pytest.fixture(scope="module")
def loaded():
    return surnames.load()


def test_names_are_read_in_lower_case_and_every_fifth_is_held_out(loaded):
    learned, held_out, languages = loaded
    assert (len(learned.texts), len(held_out.texts), len(languages)) == (2838, 709, 12)
    assert learned.texts[0] == "abbott" and all(text == text.lower() for text in [*learned.texts, *held_out.texts])
    assert languages[learned.languages[0]] == "English"
    for names in (learned, held_out):
        counts = np.bincount(names.languages)
        assert len(counts) == 12 and counts.max() / counts.min() < 1.3


def test_no_held_out_name_is_among_those_learned_from(loaded):
    learned, held_out, _ = loaded
    assert not {*learned.texts} & {*held_out.texts}


def test_bigrams_have_the_start_and_the_end():
    assert surnames.bigrams("li") == ["^l", "li", "i$"]


def test_naive_bayes_by_hand():
    """One name of a language, "a", and two of another, "b" and "ab"; 5 different bigrams and the one never seen; α = 1."""
    bayes = surnames.NaiveBayes(Names(["a", "b", "ab"], np.array([0, 1, 1])), 2, alpha=1)
    found = bayes.log_joint(["a", "bb"])
    p_a = [1 / 3 * (2 / 8) * (2 / 8), 2 / 3 * (2 / 11) * (1 / 11)]  # ^a a$
    p_bb = [1 / 3 * (1 / 8) ** 3, 2 / 3 * (2 / 11) * (1 / 11) * (3 / 11)]  # ^b, bb that nobody has seen, b$
    np.testing.assert_allclose(np.exp(found), [p_a, p_bb])
    np.testing.assert_allclose(np.exp(surnames.posterior(found)).sum(axis=1), 1)


def test_the_opponent_is_as_strong_as_it_is_known_to_be_whatever_its_smoothing(loaded):
    learned, held_out, _ = loaded
    found = {
        alpha: surnames.accuracy(surnames.NaiveBayes(learned, 12, alpha).log_joint(held_out.texts), held_out.languages)
        for alpha in (0.1, surnames.SMOOTHING, 1.0)
    }
    assert found[surnames.SMOOTHING] == pytest.approx(0.725, abs=1e-3)
    assert max(found.values()) < 0.735


def test_trigrams_by_hand():
    """After so many names "ab" of one language and "ba" of the other there is no doubt. A new letter is no error."""
    bayes = surnames.TrigramBayes(Names(["ab"] * 9 + ["ba"] * 3, np.repeat([0, 1], [9, 3])), 2, LETTERS)
    assert bayes.framed("a") == [LETTERS.numbers[each] for each in "^^a$"]
    first, second, neither = bayes.log_joint(["ab", "ba", "?"])
    assert first[0] > first[1] + 2 and second[1] > second[0] + 2
    expected = np.log([9 / 12, 3 / 12]) + [bayes._log_p(model, bayes.framed("?")) for model in bayes.models]
    np.testing.assert_allclose(neither, expected)
    assert np.isfinite(neither).all()


def test_the_stronger_opponent_is_as_strong_as_it_is_known_to_be(loaded):
    learned, held_out, languages = loaded
    letters = tg.data.Vocabulary.of("".join(learned.texts), special=("^", "$"), unknown="?")
    scores = surnames.TrigramBayes(learned, len(languages), letters).log_joint(held_out.texts)
    assert surnames.accuracy(scores, held_out.languages) == pytest.approx(0.770, abs=2e-3)


def test_the_likelihood_of_a_name_is_that_of_its_letters_and_its_end():
    """A network that finds all five tokens alike probable, whatever it is told."""
    model = surnames.NameModel(len(LETTERS), 2, 3)
    for parameter in model.parameters():
        parameter.overwrite(0.0)
    names, lengths = surnames.encoded(["ab", "b"], LETTERS, ("^", "$"))
    np.testing.assert_array_equal(names.T, [LETTERS.encode("^ab$"), [*LETTERS.encode("^b$"), 0]])
    found = model.log_likelihood(names, lengths, 2)
    np.testing.assert_allclose(found, -np.log(5) * np.array([[3, 3], [2, 2]]), rtol=1e-6)
    assert model.loss(names, lengths, np.array([0, 1])).item() == pytest.approx(np.log(5))
    model.readout.b.overwrite(np.array([0, 0, 0, 0, 50.0]))  # certain of one letter, the last of the vocabulary
    assert LETTERS.tokens[4] == "b"
    costs = model.costs(names, lengths, np.array([0, 1])).numpy().T
    np.testing.assert_allclose(costs, [[50, 0, 50], [0, 50, 0]], atol=1e-6)  # of a b $, and of b $, then nothing


def test_the_network_is_told_the_language_and_reads_no_letter_ahead():
    with tg.random.replaying(tg.random.get_state()):
        model = surnames.NameModel(len(LETTERS), 2, 3)
    model.eval()
    names, lengths = surnames.encoded(["ab", "aa"], LETTERS, ("^", "$"))
    both = [model.costs(names, lengths, np.array([i, i])).numpy() for i in range(2)]
    np.testing.assert_array_equal(both[0][0, 0], both[0][0, 1])  # the first letter is the same, what follows is not
    assert np.abs(both[0] - both[1]).min() > 1e-6


def test_accuracy_and_confusion_by_hand():
    scores, truth = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1])
    assert surnames.accuracy(scores, truth) == pytest.approx(2 / 3)
    np.testing.assert_allclose(surnames.confusion(scores, truth), [[1, 0], [0.5, 0.5]])


def test_what_is_reported_is_what_was_found_for_one_network_and_for_both(figures):
    accuracy = figures["accuracy"]
    alone, both = accuracy["SequenceClassifier, GRU"], accuracy["both networks"]
    counts, stronger = accuracy["naive Bayes, bigrams"], accuracy["Bayes, trigrams"]
    assert [(row["ours"], row["theirs"]) for row in figures["rows"]] == [(alone, counts), (both, counts), (both, stronger)]
    seconds = [row["seconds"] for row in figures["rows"]]
    assert 0 < seconds[0] < seconds[1] == seconds[2]
    assert accuracy["always the same language"] < 0.15 < accuracy["naive Bayes, bigrams"]
    np.testing.assert_allclose(np.sum(figures["confusion"], axis=1), 1)


def test_the_table_says_what_the_figures_say(done, figures):
    assert [row[:2] for row in rows_of(done)[:6]] == [[name, f"{share:.3g}"] for name, share in figures["accuracy"].items()]


def test_the_picture_is_there(done, folder):
    assert_whole_png(folder / "surnames.png")


def test_help_and_nonsense(capsys):
    help_text = told(surnames, capsys)
    assert all(option in help_text for option in ("--epochs", "--hidden", "--seed", "--out", "--quick"))
    assert "--epochs" in refused(surnames, capsys, "--epochs", 0)
