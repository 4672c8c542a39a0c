"""Vocabularies, contiguous batches, padding and buckets: nothing is lost, doubled or out of order."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_seq as tg
from tinygrad_seq.data import Minibatches, Vocabulary, batches, buckets, pad, valid

# ---- vocabularies ---------------------------------------------------------------------------------------------------


@given(st.text())
def test_a_text_survives_encoding(text):
    vocabulary = Vocabulary.of(text)
    numbers = vocabulary.encode(text)
    assert numbers.dtype == np.int64
    assert vocabulary.decode(numbers) == text
    assert vocabulary.tokens == tuple(sorted(set(text)))
    assert Vocabulary(vocabulary.tokens) == vocabulary


def test_words():
    words = ["to", "be", "or", "not", "to", "be"]
    vocabulary = Vocabulary.of(words, special=["<pad>", "be"])
    assert vocabulary.tokens == ("<pad>", "be", "not", "or", "to")
    assert vocabulary.encode(words).tolist() == [4, 1, 3, 2, 4, 1]
    assert vocabulary.decode([[4, 1], [3, 2]], separator=" ") == "to be or not"
    assert "or" in vocabulary
    assert "OR" not in vocabulary
    assert (len(vocabulary), list(vocabulary)) == (5, ["<pad>", "be", "not", "or", "to"])


def test_rare_and_unknown_tokens():
    vocabulary = Vocabulary.of("aaabbc", min_count=2, unknown="?")
    assert vocabulary.tokens == ("?", "a", "b")
    assert vocabulary.encode("abcz").tolist() == [1, 2, 0, 0]
    assert Vocabulary.of("aab", special=["_", "b"], unknown="b").tokens == ("_", "b", "a")
    assert vocabulary != Vocabulary(vocabulary.tokens)


def test_unknown_tokens_are_refused_by_name():
    vocabulary = Vocabulary.of("abc")
    with pytest.raises(ValueError, match=r"vocabulary of 3 tokens: 'x' \(2x\), 'é' \(1x\), first at position 1"):
        vocabulary.encode("axbéx")
    with pytest.raises(ValueError, match=r"'i' \(1x\), \.\.\., first at position 0"):
        vocabulary.encode("efghij")


@pytest.mark.parametrize("number", [-1, 3])
def test_numbers_that_no_token_has_are_refused(number):
    with pytest.raises(IndexError, match=f"number {number}: they count from 0 to 2"):
        Vocabulary.of("abc").decode([0, number])


def test_what_is_no_vocabulary_is_refused():
    with pytest.raises(ValueError, match="'b' is listed twice"):
        Vocabulary("abcb")
    with pytest.raises(ValueError, match=r"the unknown, '\?', is not among"):
        Vocabulary("abc", unknown="?")
    with pytest.raises(TypeError, match="token numbers are integers, not float64"):
        Vocabulary("abc").decode([0.0])


def test_repr():
    assert repr(Vocabulary("ab")) == "Vocabulary(2 tokens: 'a' 'b')"
    assert repr(Vocabulary("abcdefghij")) == "Vocabulary(10 tokens: 'a' 'b' 'c' 'd' 'e' 'f' 'g' 'h' ...)"


# ---- batches --------------------------------------------------------------------------------------------------------


@given(st.integers(2, 200), st.integers(1, 20), st.integers(1, 30))
def test_batches_are_contiguous_and_complete(n, batch_size, steps):
    text = np.arange(n)
    if n - 1 < batch_size:
        with pytest.raises(ValueError, match="too few"):
            batches(text, batch_size, steps)
        return
    found = batches(text, batch_size, steps)
    for x, y in found:
        np.testing.assert_array_equal(y, x + 1)  # the next token
        assert x.shape[1] == batch_size
    assert all(x.shape[0] == steps for x, _ in found[:-1])
    assert 1 <= found[-1][0].shape[0] <= steps
    columns = np.concatenate([x for x, _ in found])  # put together, each column is a piece of the text ...
    assert (np.diff(columns, axis=0) == 1).all()
    np.testing.assert_array_equal(columns.T.ravel(), np.arange(columns.size))  # ... that goes on in the next column
    assert n - 1 - columns.size < batch_size


def test_batches_are_a_list_to_resume_in():
    found = batches(np.arange(21, dtype=np.uint8), batch_size=2, steps=4)
    assert len(found) == 3
    assert found[1][0][:, 1].tolist() == [14, 15, 16, 17]
    assert found[0][0].dtype == np.uint8
    assert np.shares_memory(found[0][0], found[2][0].base)


def test_texts_that_cannot_be_cut_are_refused():
    with pytest.raises(TypeError, match="tokens are integers, not float64"):
        batches([0.5, 1.5], 1, 1)
    with pytest.raises(TypeError, match="tokens are integers, not <U2"):
        batches(["ab", "c"], 1, 1)
    with pytest.raises(ValueError, match=r"not \(2, 2\)"):
        batches([[1, 2], [3, 4]], 1, 1)
    with pytest.raises(ValueError, match="0 tokens are too few"):
        batches([], 1, 1)
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        batches([1, 2], 0, 1)
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        batches([1, 2], 1, 0)


# ---- padding --------------------------------------------------------------------------------------------------------

sequences = st.lists(st.lists(st.integers(-9, 9), max_size=7), min_size=1, max_size=6)


@given(sequences, st.integers(-9, 9))
def test_padding_keeps_every_sequence_and_adds_only_the_value(lists, value):
    padded, lengths = pad(lists, value)
    mask = valid(lengths)
    assert padded.shape == mask.shape == (max(map(len, lists)), len(lists))
    assert lengths.tolist() == [len(one) for one in lists]
    for b, one in enumerate(lists):
        assert padded[mask[:, b], b].tolist() == one
    assert (padded[~mask] == value).all()
    assert padded.dtype.kind == "i" or not any(lists)
    np.testing.assert_array_equal(mask.sum(0), lengths)


def test_padding_of_vectors():
    rows = [np.ones((2, 3), np.float32), np.zeros((0, 3), np.float32), np.ones((1, 3), np.float32)]
    padded, lengths = pad(rows, np.nan)
    assert (padded.shape, padded.dtype) == ((2, 3, 3), np.dtype(np.float32))
    assert lengths.tolist() == [2, 0, 1]
    assert np.isnan(padded[~valid(lengths)]).all()
    assert (padded[valid(lengths)] == 1).all()


def test_the_mask_is_one_for_the_losses():
    padded, lengths = pad([[1, 2, 0], [2]], value=-100)
    logits = tg.tensor(np.random.default_rng(0).normal(size=(3, 2, 3)), requires_grad=True)
    by_mask = tg.losses.cross_entropy(logits, padded, valid(lengths)).item()
    assert by_mask == tg.losses.cross_entropy(logits, padded, ignore_index=-100).item()


def test_what_cannot_be_padded_is_refused():
    with pytest.raises(ValueError, match="no sequences"):
        pad([])
    with pytest.raises(ValueError, match="differ in length only"):
        pad([np.ones((2, 3)), np.ones((2, 4))])
    with pytest.raises(ValueError, match="stands an int, which has no steps"):
        pad([1, 2])
    with pytest.raises(ValueError, match=r"stands a str, which has no steps; vocabulary\.encode"):
        pad(["ab", "c"])
    with pytest.raises(ValueError, match="sequence 1 is no array"):
        pad([[[1], [2]], [[1], [2, 3]]])
    with pytest.raises(TypeError, match=r"-1\.5 does not fit behind sequences of int64"):
        pad([[1, 2], [3]], value=-1.5)
    assert pad(iter([[1.0], [2.0, 3.0]]), value=-1.5)[0].tolist() == [[1.0, 2.0], [-1.5, 3.0]]


def test_valid_may_be_longer_but_not_shorter():
    assert valid([1, 0], steps=3).T.tolist() == [[True, False, False], [False] * 3]
    assert valid([]).shape == (0, 0)
    for lengths, steps in (([3], 2), ([-1], None), ([[1]], None)):
        with pytest.raises(ValueError, match="lengths are integers"):
            valid(lengths, steps)
    with pytest.raises(TypeError, match="lengths are integers, not float64"):
        valid([1.0])


# ---- buckets --------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 9), st.integers(0, 99))
def test_buckets_hold_each_index_once_and_neighbours_in_length(lengths, batch_size, seed):
    groups = buckets(lengths, batch_size, np.random.default_rng(seed))
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    assert all(0 < len(group) <= batch_size for group in groups)
    assert len(groups) == -(-len(lengths) // batch_size)
    spans = sorted((min(lengths[i] for i in group), max(lengths[i] for i in group)) for group in groups)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_buckets_are_shuffled_by_the_engines_generator():
    lengths = np.arange(40) // 4
    tg.manual_seed(0)
    first, second = buckets(lengths, 4), buckets(lengths, 4)
    tg.manual_seed(0)
    again = buckets(lengths, 4)
    assert [g.tolist() for g in first] == [g.tolist() for g in again]
    assert [g.tolist() for g in first] != [g.tolist() for g in second]
    assert [lengths[g[0]] for g in first] != sorted(lengths[g[0]] for g in first)
    with pytest.raises(ValueError, match="batch_size"):
        buckets(lengths, 0)


# ---- epochs of minibatches --------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 9), st.integers(0, 99))
def test_an_epoch_has_each_sequence_once_whatever_the_lengths(lengths, batch_size, seed):
    for told in (lengths, len(lengths)):
        epochs = Minibatches(lambda some: some.tolist(), told, batch_size, np.random.default_rng(seed))
        for _ in range(2):
            found = list(epochs)
            assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
            assert all(0 < len(batch) <= batch_size for batch in found)
            assert len(found) == len(epochs)


def test_with_lengths_similar_ones_come_together_and_without_any():
    lengths = np.arange(40) // 4
    spread = lambda some: int(np.ptp(lengths[some]))
    assert list(Minibatches(spread, lengths, 4)) == [0] * 10
    assert max(Minibatches(spread, len(lengths), 4)) > 2


def test_every_epoch_is_another_one_and_a_seed_repeats_them():
    epochs = Minibatches(lambda some: some.tolist(), 12, 5)
    tg.manual_seed(0)
    first, second = list(epochs), list(epochs)
    tg.manual_seed(0)
    assert [list(epochs), list(epochs)] == [first, second]
    assert first != second


def test_batches_are_made_when_they_are_needed():
    made = []
    epoch = iter(Minibatches(made.append, 6, 2))
    assert made == []
    next(epoch)
    assert len(made) == 1


def test_what_gives_no_epochs_is_refused():
    for lengths, batch_size, wrong in (3, 0, "batch_size must be at least 1"), ([[1]], 1, "lengths of shape"), (-1, 1, "got -1"):
        with pytest.raises(ValueError, match=wrong):
            Minibatches(list, lengths, batch_size)
    with pytest.raises(TypeError, match="lengths are integers, not float64"):
        Minibatches(list, 3.0, 1)
