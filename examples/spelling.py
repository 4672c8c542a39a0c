"""What spelling to phones is measured by, and the opponents: tables from letters to phones. Needs nothing of ours.

To count what stands for a letter, one must know which phones belong to which letter, and the dictionary does not say. So words
are aligned: each letter stands for none, one or two phones in a row ("x" for K S), and together for all of the word's. It
starts with phones spread evenly over the letters; then it counts what each letter stands for, aligns each word anew in the most
probable way by these counts, and so on a few times (hard expectation maximisation, each alignment by dynamic programming).

Two tables come of it. One says for each letter what it most often stands for. The other looks at the letters on both sides, too,
and where it has never seen these neighbours, at those on the right, at those on the left, or at none.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from math import log

Phones = tuple[str, ...]
Aligned = list[Phones]  # for each letter what it stands for
Pair = tuple[str, Phones]  # a word and its phones

MOST = 2  # phones that a letter can stand for
ROUNDS = 3
EDGE = "#"  # stands beside the first and the last letter


def edit_distance(a: Sequence[object], b: Sequence[object]) -> int:
    """How many insertions, deletions and replacements make b of a (Levenshtein, 1966)."""
    row = list(range(len(b) + 1))  # from the empty beginning of a
    for i, x in enumerate(a, start=1):
        above, row = row, [i]
        for j, y in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (x != y)))
    return row[-1]


def error_rate(said: Sequence[Sequence[object]], truth: Sequence[Sequence[object]]) -> float:
    """Edit distances of all words, by how many phones there should be."""
    return sum(map(edit_distance, said, truth)) / sum(map(len, truth))


# ---- alignment ------------------------------------------------------------------------------------------------------------


def spread(word: str, phones: Phones) -> Aligned:
    """Phones spread evenly over the letters."""
    n, m = len(word), len(phones)
    return [phones[i * m // n : (i + 1) * m // n] for i in range(n)]


def align(word: str, phones: Phones, counts: dict[str, Counter[Phones]]) -> Aligned | None:
    """The most probable alignment, by how often a letter has stood for what; None if there are too many phones.

    What a letter has never stood for counts as one half.
    """
    best = {0: (0.0, ())}  # phones used so far: (log-probability, how many each letter took), of the best way there
    for letter in word:
        total = log(sum(counts[letter].values()) + 1)
        reached: dict[int, tuple[float, tuple[int, ...]]] = {}
        for used, (p, taken) in best.items():
            for k in range(min(MOST, len(phones) - used) + 1):
                score = p + log(counts[letter][phones[used : used + k]] or 0.5) - total
                if used + k not in reached or score > reached[used + k][0]:
                    reached[used + k] = score, (*taken, k)
        best = reached
    if len(phones) not in best:
        return None
    ends = [0]
    for k in best[len(phones)][1]:
        ends.append(ends[-1] + k)
    return [phones[i:j] for i, j in itertools.pairwise(ends)]


def alignments(pairs: Sequence[Pair], rounds: int = ROUNDS) -> list[tuple[str, Aligned]]:
    """All words that can be aligned, each with what its letters stand for."""
    found = [(word, spread(word, phones)) for word, phones in pairs]
    for _ in range(rounds):
        counts: dict[str, Counter[Phones]] = defaultdict(Counter)
        for word, aligned in found:
            for letter, chunk in zip(word, aligned):
                counts[letter][chunk] += 1
        anew = [(word, align(word, phones, counts)) for word, phones in pairs]
        found = [(word, aligned) for word, aligned in anew if aligned is not None]
    return found


# ---- tables ---------------------------------------------------------------------------------------------------------------


class LetterTable:
    """For each letter what it most often stands for."""

    def __init__(self, aligned: Sequence[tuple[str, Aligned]]) -> None:
        self.counts: dict[tuple[str, ...], Counter[Phones]] = defaultdict(Counter)
        for word, chunks in aligned:
            for keys, chunk in zip(self.keys(word), chunks):
                for key in keys:
                    self.counts[key][chunk] += 1
        self.best = {key: counter.most_common(1)[0][0] for key, counter in self.counts.items()}

    def keys(self, word: str) -> list[list[tuple[str, ...]]]:
        """For each letter under what to look it up, the most special first."""
        return [[(letter,)] for letter in word]

    def __call__(self, word: str) -> Phones:
        """How a word is said; a letter that was never seen is silent."""
        found = (next((self.best[key] for key in keys if key in self.best), ()) for keys in self.keys(word))
        return tuple(phone for chunk in found for phone in chunk)


class NeighbourTable(LetterTable):
    """The same for each letter between its neighbours, as far as these have been seen."""

    def keys(self, word: str) -> list[list[tuple[str, ...]]]:
        """See `LetterTable`."""
        wide = EDGE + word + EDGE
        around = zip(wide, word, wide[2:])
        return [[(left, letter, right), ("", letter, right), (left, letter, ""), (letter,)] for left, letter, right in around]
