"""The measure and the opponents of spelling to phones, by hand on small cases."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .scripts import script

spelling = script("spelling")

words = st.text("abc", max_size=6)


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        ("", "", 0),
        ("abc", "", 3),
        ("kitten", "sitting", 3),
        ("flaw", "lawn", 2),
        ("abcd", "bcda", 2),
        (("TH", "AO"), ("T", "AO"), 1),
    ],
)
def test_edit_distances_that_are_known(a, b, distance):
    assert spelling.edit_distance(a, b) == distance


@given(words, words, words)
def test_an_edit_distance_is_a_distance(a, b, c):
    d = spelling.edit_distance
    assert (d(a, b) == 0) == (a == b)
    assert d(a, b) == d(b, a)
    assert d(a, c) <= d(a, b) + d(b, c)
    assert abs(len(a) - len(b)) <= d(a, b) <= max(len(a), len(b))


def test_the_error_rate_is_by_phones_and_not_by_words():
    assert spelling.error_rate([("A",), ("B", "C", "D")], [("X",), ("B", "C", "D")]) == 1 / 4


def test_phones_spread_evenly():
    assert spelling.spread("ab", ("K", "S", "T")) == [("K",), ("S", "T")]
    assert spelling.spread("abcd", ("K", "S")) == [(), ("K",), (), ("S",)]
    assert spelling.spread("abc", ()) == [(), (), ()]


def counted(**of):
    counts = defaultdict(Counter)
    counts |= {letter: Counter(chunks) for letter, chunks in of.items()}
    return counts


def test_the_most_probable_alignment_by_hand():
    """a: A 3/5 or silent 1/5; x: K S 2/4, S 1/4. A K S: A + K S = 6/20; (A K) + S = 0.5 * 1 / 20; silent + A K S is too much."""
    counts = counted(a={("A",): 3, (): 1}, x={("K", "S"): 2, ("S",): 1})
    assert spelling.align("ax", ("A", "K", "S"), counts) == [("A",), ("K", "S")]
    assert spelling.align("ax", ("S",), counts) == [(), ("S",)]
    assert spelling.align("a", ("A", "K", "S"), counts) is None  # a letter stands for two at most


@given(words.filter(bool), st.lists(st.sampled_from("KST"), max_size=8))
def test_an_alignment_says_the_word(word, phones):
    found = spelling.align(word, tuple(phones), counted(a={("K",): 2}, b={(): 1}))
    if len(phones) > spelling.MOST * len(word):
        assert found is None
    else:
        assert [phone for chunk in found for phone in chunk] == phones
        assert len(found) == len(word) and max(map(len, found)) <= spelling.MOST


SAID = "cat K AE T, tic T IH K, cite S AY T, tact T AE K T, sit S IH T, site S AY T, sat S AE T, case K EY S, tax T AE K S"
DICTIONARY = [(word, tuple(phones)) for word, *phones in (entry.split() for entry in SAID.split(", "))]


def test_what_letters_stand_for_is_found():
    """From real words, since it takes some to find it. Phones spread evenly are wrong in each of these."""
    found = dict(spelling.alignments(script("phones").dictionary()[:500]))
    assert found["abate"] == [("AH",), ("B",), ("EY",), ("T",), ()] != spelling.spread("abate", ("AH", "B", "EY", "T"))
    assert found["absolute"] == [("AE",), ("B",), ("S",), ("AH",), ("L",), ("UW",), ("T",), ()]


def test_a_table_says_what_a_letter_most_often_stands_for():
    table = spelling.LetterTable(
        [("cat", [("K",), ("AE",), ("T",)]), ("cite", [("S",), ("AY",), ("T",), ()]), ("act", [(), ("K",), ()])]
    )
    assert table("cat") == ("K", "AE", "T")
    assert table("ice!") == ("AY", "K")  # e is silent, and so is what was never seen


def test_neighbours_tell_letters_apart_and_give_way_where_they_were_never_seen():
    aligned = spelling.alignments(DICTIONARY)
    table = spelling.NeighbourTable(aligned)
    assert table("cite") == ("S", "AY", "T")
    assert table("cat") == ("K", "AE", "T")
    assert table.keys("ab")[1] == [("a", "b", "#"), ("", "b", "#"), ("a", "b", ""), ("b",)]
    assert table("cits")[:1] == ("S",)  # c between the edge and i
    assert table("acit")[1] == "S"  # c before i, wherever it stands
    assert table("aca")[1] == "K"  # c before a
