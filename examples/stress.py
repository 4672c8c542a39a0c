"""Where English stresses a word: a label for every vowel, none for the consonants (a tagger, many-to-many of the same length).

The vowel itself says most of it: AH seldom carries a stress, EY nearly always does. What remains depends on the whole word, on
how many syllables it has and how it ends, as in "photograph" and "photography". A `SequenceTagger` reads the phones from both
ends and says for each vowel: no stress (0), the main one (1) or a secondary one (2).

Two opponents count. One knows the vowel only, and always says what that vowel carries most often. The other knows in addition
how many vowels the word has, which of them it is, and the phones beside it; where it has seen that too rarely, it gives way to
less. All three learn from the same words. Words that are said alike but for the stress are held out together.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from common import options, read_rows, table, write_figure
from table import Row, report

import tinygrad_seq as tg
from tinygrad_seq.models import SequenceTagger

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

PARTS = 10  # of the pronunciations, one is held out, and one says when to stop
B = 64
RATE = 5e-3  # of learning
FEWEST = 2  # times that a context must have been seen to be believed
SHOWN = 6  # words in the picture
BARS = ("#2c4875", "#5c6b80", "#8a96a8")
COLOURS = {0: "#d7dde8", 1: "#2c4875", 2: "#ff7c43"}
STRESSES = {0: "none", 1: "main", 2: "secondary"}


# ---- words ----------------------------------------------------------------------------------------------------------------


class Word(NamedTuple):
    """A word as it is said."""

    spelling: str
    phones: tuple[str, ...]
    """Without stress."""
    stresses: tuple[int, ...]
    """For each phone 0, 1 or 2; -1 for a consonant."""

    @property
    def vowels(self) -> list[int]:
        """Where they stand among the phones."""
        return [i for i, stress in enumerate(self.stresses) if stress >= 0]


def word(spelling: str, phones: str) -> Word:
    """From the dictionary's notation.

    "EH1 R AH0 N" gives EH R AH N with the stresses 1, -1, 0, -1.
    """
    marked = phones.split()
    bare = tuple(phone.rstrip("012") for phone in marked)
    return Word(spelling, bare, tuple(int(phone[-1]) if phone[-1].isdigit() else -1 for phone in marked))


def dictionary() -> list[Word]:
    """All words, in the order of the alphabet."""
    return [word(row["word"], row["phones"]) for row in read_rows("cmudict_6000.tsv")]


def split(words: Sequence[Word], seed: int) -> tuple[list[Word], list[Word], list[Word]]:
    """8 : 1 : 1 at random, by pronunciation: "see" and "sea" are on one side.

    To learn from, to say when to stop, and held out.
    """
    different = sorted({word.phones for word in words})
    place = dict(zip(different, np.random.default_rng([seed, 1]).permutation(len(different)) * PARTS // len(different)))
    wanted = range(PARTS - 2), [PARTS - 2], [PARTS - 1]
    parts = [[word for word in words if place[word.phones] in some] for some in wanted]
    return parts[0], parts[1], parts[2]


class Batch(NamedTuple):
    """As the model takes it."""

    phones: Array
    """(T, B)."""
    stresses: Array
    """(T, B)."""
    lengths: Array
    """(B,)."""
    vowels: Array
    """(T, B), whether the step is a vowel, and counts."""


def batch(alphabet: tg.data.Vocabulary, some: Sequence[Word]) -> Batch:
    """Words as arrays."""
    phones, lengths = tg.data.pad([alphabet.encode(word.phones) for word in some])
    stresses, _ = tg.data.pad([word.stresses for word in some], value=-1)
    return Batch(phones, np.maximum(stresses, 0), lengths, stresses >= 0)


# ---- who says what --------------------------------------------------------------------------------------------------------


def train(alphabet: tg.data.Vocabulary, known: Sequence[Word], validated: Sequence[Word], epochs: int, hidden: int) -> Any:
    """The network, and the history of its training."""
    model = SequenceTagger(
        len(alphabet), hidden, len(STRESSES), embedding_size=hidden // 2,
        cell="lstm", num_layers=2, bidirectional=True, dropout=0.4,
    )  # fmt: skip
    words = tg.data.Minibatches(lambda some: batch(alphabet, [known[i] for i in some]), [len(w.phones) for w in known], B)
    optimizer = tg.optim.AdamW(model.parameters(), lr=RATE)
    schedule = tg.optim.CosineSchedule(optimizer, epochs * len(words), warmup=50)
    unseen = batch(alphabet, validated)
    history = tg.fit(
        model, words, optimizer=optimizer, schedule=schedule, epochs=epochs, clip_norm=1.0,
        validate=lambda model: model.loss(*unseen).item(),
    )  # fmt: skip
    return model, history


def probabilities(model: SequenceTagger, alphabet: tg.data.Vocabulary, some: Sequence[Word]) -> list[Array]:
    """For each word the probability of each stress of its vowels, (vowels, 3)."""
    given = batch(alphabet, some)
    p = model.probabilities(given.phones, given.lengths)
    return [p[given.vowels[:, b], b] for b in range(len(some))]


def contexts(word: Word, i: int) -> list[Hashable]:
    """What a vowel at place i can be known by, most first, and the vowel alone last."""
    vowels, phone = word.vowels, word.phones[i]
    place = len(vowels), vowels.index(i)
    before, after = ("", *word.phones, "")[i], (*word.phones, "")[i + 1]
    return [(*place, before, phone, after), (*place, phone, after), (*place, phone), phone]


class Counts:
    """What a vowel carries most often, by all that is known of it, or by the vowel alone."""

    def __init__(self, words: Sequence[Word], alone: bool) -> None:
        self.alone = alone
        self.counts: defaultdict[Hashable, Counter[int]] = defaultdict(Counter)
        self.all = Counter(stress for word in words for stress in word.stresses if stress >= 0)
        for word in words:
            for i in word.vowels:
                for context in contexts(word, i):
                    self.counts[context][word.stresses[i]] += 1

    def __call__(self, word: Word) -> list[int]:
        """The stresses of a word's vowels."""
        return [self._most(contexts(word, i)[-1:] if self.alone else contexts(word, i)) for i in word.vowels]

    def _most(self, known: Sequence[Hashable]) -> int:
        """Of the first context that has been seen often enough."""
        seen = (self.counts[context] for context in known if context in self.counts)
        counts = next((each for each in seen if each.total() >= FEWEST), self.all)
        return counts.most_common(1)[0][0]


# ---- what came of it ------------------------------------------------------------------------------------------------------


def right(said: Sequence[Sequence[int]], words: Sequence[Word]) -> dict[str, float]:
    """Shares of what is right.

    vowels: of all vowels; longer: of the vowels of words that have more than one; words: of the words, with all of their vowels.
    """
    hits = [np.array([word.stresses[i] for i in word.vowels]) == np.array(each) for each, word in zip(said, words)]
    longer = [each for each in hits if len(each) > 1]
    return dict(
        vowels=float(np.concatenate(hits).mean()),
        longer=float(np.concatenate(longer).mean()),
        words=float(np.mean([each.all() for each in hits])),
    )


def stress_figure(shares: dict[str, dict[str, float]], shown: Sequence[Word], p: Sequence[Array]) -> Figure:
    """Left: who is right how often. Right: for some words, how probable each stress of each vowel is to the network.

    A bar stands on its vowel; the dictionary's own stress is written below it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.5, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2, 3))
    axes = left.subplots()
    for i, (name, share) in enumerate(shares.items()):
        places = [4 * group + i for group in range(len(share))]
        bars = axes.barh(places, list(share.values()), height=0.9, color=BARS[i], label=name)
        axes.bar_label(bars, [f"{each:.1%}" for each in share.values()], label_type="center", color="white")
    axes.set_yticks([1, 5, 9], ["vowels", "vowels of\nlonger words", "whole\nwords"])
    axes.set(xlim=(0, 1), title="Right, of held-out words", xticks=[])
    axes.invert_yaxis()
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    left.legend(*axes.get_legend_handles_labels(), loc="outside lower center", frameon=False)
    for each, word, chances in zip(right.subplots(2, SHOWN // 2, squeeze=False).flat, shown, p):
        bottom = np.zeros(len(chances))
        for stress in (1, 2, 0):
            each.bar(word.vowels, chances[:, stress], bottom=bottom, color=COLOURS[stress], label=STRESSES[stress])
            bottom = bottom + chances[:, stress]
        labels = [phone + ("" if stress < 0 else f"\n{stress}") for phone, stress in zip(word.phones, word.stresses)]
        each.set_xticks(range(len(labels)), labels, fontsize=7)
        each.set(title=word.spelling, xlim=(-0.8, len(labels) - 0.2), ylim=(0, 1), yticks=[])
        each.spines[["top", "right", "left"]].set_visible(False)
        each.tick_params(length=0)
    handles, labels = each.get_legend_handles_labels()
    right.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, title="stress, as the network sees it")
    return figure


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, compare with counts, show."""
    parser = options(__doc__, epochs=12, hidden=64)
    arguments = parser.parse_args(argv)
    words = dictionary()
    known, validated, held_out = split(words, arguments.seed)
    if arguments.quick:
        known, held_out = known[::12], held_out[::4]
        arguments.epochs, arguments.hidden = 1, min(arguments.hidden, 8)
    alphabet = tg.data.Vocabulary.of([phone for each in words for phone in each.phones])

    tg.manual_seed(arguments.seed)
    started = time.process_time()
    model, history = train(alphabet, known, validated, arguments.epochs, arguments.hidden)
    seconds = time.process_time() - started
    p = probabilities(model, alphabet, held_out)
    counted = [*known, *validated]  # counts need not stop, and may learn from these, too
    by_vowel: Callable[[Word], list[int]] = Counts(counted, alone=True)
    by_context: Callable[[Word], list[int]] = Counts(counted, alone=False)
    said = {
        "LSTM tagger": [each.argmax(axis=1).tolist() for each in p],
        "vowel, place and neighbours": [by_context(each) for each in held_out],
        "vowel alone": [by_vowel(each) for each in held_out],
    }
    shares = {name: right(each, held_out) for name, each in said.items()}
    vowels = sum(len(each.vowels) for each in held_out)
    print(f"\nStress of the {vowels} vowels of {len(held_out)} held-out words; {seconds:.0f} s of training on {len(known)}:\n")
    lines = [[name, *(f"{share:.1%}" for share in each.values())] for name, each in shares.items()]
    print(table(["", "vowels", "of longer words", "whole words"], lines))

    longest = sorted(range(len(held_out)), key=lambda i: (-len(held_out[i].vowels), i))[:SHOWN]
    picture = stress_figure(shares, [held_out[i] for i in longest], [p[i] for i in longest])
    print("\nwritten:", write_figure(picture, arguments.out / "stress.png"))
    network, *opponents = shares
    rows = [
        Row(task, "accuracy", network, shares[network][kind], name, shares[name][kind], seconds)
        for task, kind in {"stress of vowels": "vowels", "stress, longer words": "longer"}.items()
        for name in reversed(opponents)
    ]
    validation = [epoch["validation"] for epoch in history["epochs"]]
    return report("stress", rows, arguments, right=shares, validation=validation)


if __name__ == "__main__":
    main()
