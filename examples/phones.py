"""Spelling to phones: an encoder and a decoder with attention learn how English is read aloud.

"thought" has seven letters and three phones, TH AO T: the sequences differ in length, and which letters make a phone depends on
letters far away. The encoder reads the word from both ends; the decoder says phone after phone, and looks at the letters anew
for each. The measure is the phone error rate: how many phones must be inserted, deleted or replaced, by how many there are.

The opponents look letters up in tables (`spelling.py`): one knows the letter only; the other its two neighbours as well, which
is most of what English spelling needs. All learn from the same words. The words are the most frequent ones in Shakespeare and
Moby-Dick that have one pronunciation in the CMU dictionary; stress is left out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from common import options, read_rows, table, write_figure
from spelling import LetterTable, NeighbourTable, Pair, Phones, alignments, error_rate
from table import Row, report

import tinygrad_seq as tg
from tinygrad_seq.models import EncoderDecoder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

HELD_OUT = 600  # words
VALIDATED = 200  # of the others, which say when to stop
B = 50  # words in a batch
RATE = 4e-3  # of learning
BEAM = 5
SHOWN = 4  # words in the picture


# ---- words ----------------------------------------------------------------------------------------------------------------


def dictionary() -> list[Pair]:
    """Words and their phones, without stress, in the order of the alphabet."""
    return [(row["word"], without_stress(row["phones"])) for row in read_rows("cmudict_6000.tsv")]


def without_stress(phones: str) -> Phones:
    """ "AH0 B AW1 T" -> ("AH", "B", "AW", "T")."""
    return tuple(phone.rstrip("012") for phone in phones.split())


def split(pairs: Sequence[Pair], seed: int) -> tuple[list[Pair], list[Pair], list[Pair]]:
    """At random: what is learned from, what says when to stop, what is held out."""
    shuffled = [pairs[i] for i in np.random.default_rng([seed, 1]).permutation(len(pairs))]
    return shuffled[HELD_OUT + VALIDATED :], shuffled[HELD_OUT : HELD_OUT + VALIDATED], shuffled[:HELD_OUT]


class Speller:
    """Words and phones as arrays."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.letters = tg.data.Vocabulary.of("".join(word for word, _ in pairs))
        self.phones = tg.data.Vocabulary.of([phone for _, phones in pairs for phone in phones])

    def words(self, words: Sequence[str]) -> tuple[Array, Array]:
        """(S, B) and their lengths (B,)."""
        return tg.data.pad([self.letters.encode(word) for word in words])

    def batch(self, pairs: Sequence[Pair]) -> tuple[Array, Array, Array, Array]:
        """Words (S, B), phones (T, B) and the lengths of both (B,), as the model takes them."""
        source, lengths = self.words([word for word, _ in pairs])
        target, target_lengths = tg.data.pad([self.phones.encode(phones) for _, phones in pairs])
        return source, target, lengths, target_lengths

    def said(self, numbers: Array) -> Phones:
        """The names of phones."""
        return tuple(self.phones.tokens[i] for i in numbers)


# ---- the network ----------------------------------------------------------------------------------------------------------


def train(speller: Speller, known: Sequence[Pair], validated: Sequence[Pair], epochs: int, hidden: int) -> Any:
    """The network, and the history of its training."""
    model = EncoderDecoder(
        len(speller.letters), len(speller.phones), hidden, embedding_size=hidden // 2, cell="gru",
        bidirectional=True, attention="luong", dropout=0.2, max_length=20,
    )  # fmt: skip
    words = tg.data.Minibatches(lambda some: speller.batch([known[i] for i in some]), [len(w) for w, _ in known], batch_size=B)
    optimizer = tg.optim.Adam(model.parameters(), lr=RATE)
    schedule = tg.optim.CosineSchedule(optimizer, epochs * len(words))
    words_seen = speller.batch(validated)
    history = tg.fit(
        model, words, optimizer=optimizer, schedule=schedule, epochs=epochs, clip_norm=1.0,
        validate=lambda model: model.loss(*words_seen).item(),
    )  # fmt: skip
    return model, history


def spoken(model: EncoderDecoder, speller: Speller, words: Sequence[str], beam: int) -> list[Phones]:
    """How the network says words; a beam of 1 is greedy."""
    return [speller.said(best) for best in model.predict(*speller.words(words), beam=beam)]


# ---- shown ----------------------------------------------------------------------------------------------------------------


def attention_figure(model: EncoderDecoder, speller: Speller, words: Sequence[str], said: Sequence[Phones]) -> Figure:
    """For some words and what the network says, how much it looks at each letter for each phone, and for the end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(words), 3.6), layout="constrained")
    for axes, word, phones in zip(figure.subplots(1, len(words), squeeze=False)[0], words, said):
        if not phones:  # a network that has learned nothing may be silent
            continue
        source, target, lengths, target_lengths = speller.batch([(word, phones)])
        weights = model.alignment(source, target, lengths, target_lengths)[:, :, 0]  # (T + 1, S)
        axes.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(word)), list(word))
        axes.set_yticks(range(len(phones) + 1), [*phones, "(end)"])
        axes.set_title(word)
        axes.tick_params(length=0)
    figure.supxlabel("looks at", fontsize=10)
    figure.supylabel("says", fontsize=10)
    return figure


# ---- all of it ------------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, compare, show what the network looks at."""
    parser = options(__doc__, epochs=24, hidden=128)
    arguments = parser.parse_args(argv)
    pairs = dictionary()
    known, validated, held_out = split(pairs, arguments.seed)
    if arguments.quick:
        known, held_out = known[:300], held_out[:40]
        arguments.epochs, arguments.hidden = 1, min(arguments.hidden, 16)
    speller = Speller(pairs)

    tg.manual_seed(arguments.seed)
    started = time.process_time()
    model, history = train(speller, known, validated, arguments.epochs, arguments.hidden)
    seconds = time.process_time() - started
    words, truth = [word for word, _ in held_out], [phones for _, phones in held_out]
    said = {f"network, beam of {BEAM}": spoken(model, speller, words, BEAM), "network, greedy": spoken(model, speller, words, 1)}
    aligned = alignments([*known, *validated])  # the tables stop by themselves, and may learn from these, too
    for name, opponent in {"table of letters": LetterTable, "table of letters and neighbours": NeighbourTable}.items():
        said[name] = [opponent(aligned)(word) for word in words]
    rates = {name: error_rate(each, truth) for name, each in said.items()}
    right = {name: float(np.mean([a == b for a, b in zip(each, truth)])) for name, each in said.items()}

    print(f"\nPhones of {len(held_out)} held-out words, learned from {len(known)}; {seconds:.0f} s of training:\n")
    lines = [[name, f"{rates[name]:.1%}", f"{right[name]:.1%}"] for name in said]
    print(table(["", "phone error rate", "whole words right"], lines))
    best, greedy, *opponents = said
    print("\nSome of them:\n")
    lines = [[words[i], *(" ".join(each[i]) for each in (truth, said[best], said[opponents[0]]))] for i in range(8)]
    print(table(["word", "dictionary", "network", "table of letters"], lines))

    silent = sorted(range(len(words)), key=lambda i: len(truth[i]) - len(words[i]))[:SHOWN]  # most letters for a phone
    picture = attention_figure(model, speller, [words[i] for i in silent], [said[best][i] for i in silent])
    print("\nwritten:", write_figure(picture, arguments.out / "phones.png"))
    pairings = [(greedy, opponents[0]), (best, opponents[0]), (best, opponents[1]), (best, greedy)]
    rows = [
        Row("spelling to phones", "phone error rate", ours, rates[ours], theirs, rates[theirs], seconds, less_is_better=True)
        for ours, theirs in pairings
    ]
    validation = [epoch["validation"] for epoch in history["epochs"]]
    return report("phones", rows, arguments, error_rates=rates, words_right=right, validation=validation)


if __name__ == "__main__":
    main()
