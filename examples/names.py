"""First names, made up: a network writes a name letter by letter, for a woman or for a man (one-to-many).

The network is told a gender and nothing else. From that it begins, and reads what it has written. It learns from names of the US
census of 1990, some of which are held out. Two things are measured. How well it knows names: how many bits a letter of a held-out
name costs, the end counted as a letter. And what it writes: how many names are new, not among those that it has learned from, how
many of these are real all the same (held out), and how many are said more than once.

The opponents are n-gram models of letters (`ngrams.py`), one for each gender; a unigram knows how frequent letters are, a bigram
what follows a letter.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from common import options, read_rows, table, write_figure
from ngrams import NGram
from table import Row, report

import tinygrad_seq as tg
from tinygrad_seq.models import SequenceGenerator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

GENDERS = {"F": "women", "M": "men"}
ORDERS = (1, 2, 3, 4, 5)
OPPONENT = 2
WRITTEN = 1000  # names of each gender
MAX_LENGTH = 16  # of a name
B = 64
RATE = 6e-3  # of learning
COLOURS = {"real": "#5c6b80", "written": "#ff7c43", "model": "#2c4875", "opponent": "#d45087"}


# ---- names ----------------------------------------------------------------------------------------------------------------


class Name(NamedTuple):
    """A name, and who bears it."""

    letters: str
    gender: int
    """0 for women, 1 for men, as in GENDERS; a name of both stands twice."""


def names() -> list[Name]:
    """All of them, in the order of the file: by frequency, men first."""
    genders = list(GENDERS)
    return [Name(row["name"], genders.index(row["gender"])) for row in read_rows("us_first_names_1990.tsv")]


def split(found: Sequence[Name], seed: int) -> tuple[list[Name], list[Name], list[Name]]:
    """8 : 1 : 1 at random, by letters: a name that women and men bear is on one side with both.

    To learn from, to say when to stop, and held out.
    """
    rng = np.random.default_rng([seed, 1])
    different = sorted({name.letters for name in found})
    place = dict(zip(different, rng.permutation(len(different)) * 10 // len(different)))
    parts = [[name for name in found if place[name.letters] in wanted] for wanted in (range(8), [8], [9])]
    return parts[0], parts[1], parts[2]


class Batch(NamedTuple):
    """As the model takes it."""

    genders: Array
    """(B,)."""
    letters: Array
    """(T, B)."""
    lengths: Array
    """(B,)."""


def batch(alphabet: tg.data.Vocabulary, some: Sequence[Name]) -> Batch:
    """Names as arrays."""
    letters, lengths = tg.data.pad([alphabet.encode(name.letters) for name in some])
    return Batch(np.array([name.gender for name in some]), letters, lengths)


# ---- the network ----------------------------------------------------------------------------------------------------------


def train(alphabet: tg.data.Vocabulary, known: Sequence[Name], validated: Sequence[Name], epochs: int, hidden: int) -> Any:
    """The network, and the history of its training."""
    model = SequenceGenerator(
        len(GENDERS), hidden, len(alphabet), embedding_size=hidden // 4, cell="lstm", dropout=0.3, max_length=MAX_LENGTH
    )
    batches = tg.data.Minibatches(
        lambda some: batch(alphabet, [known[i] for i in some]), [len(name.letters) for name in known], batch_size=B
    )
    optimizer = tg.optim.Adam(model.parameters(), lr=RATE)
    schedule = tg.optim.CosineSchedule(optimizer, epochs * len(batches))
    unseen = batch(alphabet, validated)
    history = tg.fit(
        model, batches, optimizer=optimizer, schedule=schedule, epochs=epochs, clip_norm=1.0,
        validate=lambda model: model.loss(*unseen).item(),
    )  # fmt: skip
    return model, history


def bits_of_model(model: SequenceGenerator, alphabet: tg.data.Vocabulary, some: Sequence[Name]) -> float:
    """Bits for each letter and end."""
    given = batch(alphabet, some)
    total = -model.log_probability(*given).sum() / np.log(2)
    return float(total / (given.lengths + 1).sum())


def write(model: SequenceGenerator, alphabet: tg.data.Vocabulary, count: int) -> list[Name]:
    """So many names of each gender, each letter drawn as the network finds it probable."""
    genders = np.repeat(range(len(GENDERS)), count)
    return [Name(alphabet.decode(found.tokens), int(g)) for found, g in zip(model.sample(genders), genders)]


# ---- the opponents --------------------------------------------------------------------------------------------------------


class NameCounts:
    """n-grams of letters, the end being one; a model for each gender."""

    def __init__(self, alphabet: tg.data.Vocabulary, known: Sequence[Name], order: int) -> None:
        self.alphabet = alphabet
        self.order = order
        self.models = [
            NGram([self.framed(name) for name in known if name.gender == gender], len(alphabet) + 1, order)
            for gender in range(len(GENDERS))
        ]

    def framed(self, name: Name) -> list[int]:
        """A name's letters as numbers with the boundary, one more number, behind and, for a whole context, before them."""
        boundary = len(self.alphabet)
        return [*[boundary] * (self.order - 1), *self.alphabet.encode(name.letters).tolist(), boundary]

    def bits(self, some: Sequence[Name]) -> float:
        """Bits for each letter and end."""
        return float(np.concatenate([self.models[name.gender].bits(self.framed(name), self.order - 1) for name in some]).mean())

    def write(self, count: int) -> list[Name]:
        """So many names of each gender, each letter drawn by its probability."""
        return [Name(self._one(model), gender) for gender, model in enumerate(self.models) for _ in range(count)]

    def _one(self, model: NGram) -> str:
        boundary = len(self.alphabet)
        written = [boundary] * (self.order - 1)
        for _ in range(MAX_LENGTH):
            context = tuple(written[len(written) - self.order + 1 :])
            p = np.array([model.probability(context, token) for token in range(boundary + 1)])
            token = int(tg.random.generator().choice(boundary + 1, p=p / p.sum()))
            if token == boundary:
                break
            written.append(token)
        return self.alphabet.decode(written[self.order - 1 :])


# ---- what was written -----------------------------------------------------------------------------------------------------


def novelty(written: Sequence[Name], known: Sequence[Name], held_out: Sequence[Name]) -> dict[str, float]:
    """Shares, of names without their gender.

    new: of all that was written, what was not learned from. real: of the new, what was held out, so is a name all the same.
    twice: of all, what had been written before.
    """
    learned, real = ({name.letters for name in some} for some in (known, held_out))
    letters = [name.letters for name in written]
    new = [each for each in letters if each and each not in learned]  # nothing at all is no name
    found = sum(each in real for each in new)
    return dict(new=len(new) / len(letters), real=found / max(1, len(new)), twice=1 - len(set(letters)) / len(letters))


def endings(some: Sequence[Name], gender: int) -> dict[str, float]:
    """How often names of a gender end in each letter."""
    last = Counter(name.letters[-1] for name in some if name.gender == gender and name.letters)
    return {letter: count / last.total() for letter, count in last.items()}


def names_figure(bits: dict[str, float], held_out: Sequence[Name], written: Sequence[Name]) -> Figure:
    """Left: bits a letter. Right: in what letters names end, those that were held out and those that were written."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    place = figure.subplot_mosaic([["bits", "F"], ["bits", "M"]], width_ratios=(2, 3))
    model, *ngrams = bits
    colours = {model: COLOURS["model"], ngrams[OPPONENT - 1]: COLOURS["opponent"]}
    order = [*ngrams, model]
    bars = place["bits"].barh(order, [bits[name] for name in order], color=[colours.get(name, COLOURS["real"]) for name in order])
    place["bits"].bar_label(bars, fmt="%.2f", padding=3)
    place["bits"].margins(x=0.15)
    place["bits"].set(xlabel="bits per letter of held-out names", title="Who knows names")
    for gender, key in enumerate(GENDERS):
        shares = {what: endings(some, gender) for what, some in dict(real=held_out, written=written).items()}
        letters = sorted(set().union(*shares.values()))
        for shift, (what, share) in zip((-0.2, 0.2), shares.items()):
            heights = [share.get(letter, 0.0) for letter in letters]
            place[key].bar(np.arange(len(letters)) + shift, heights, width=0.4, color=COLOURS[what], label=what)
        place[key].set_xticks(range(len(letters)), letters)
        place[key].set(ylabel="share", title=f"Names of {GENDERS[key]} end in")
        place[key].legend(framealpha=0.85, edgecolor="none", fontsize=9)
    for axes in place.values():
        axes.grid(True, color="#e5e9f1", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


# ---- all of it ------------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, measure, write, draw."""
    parser = options(__doc__, epochs=40, hidden=192, written=WRITTEN)
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.epochs, arguments.hidden, arguments.written = 1, min(arguments.hidden, 16), min(arguments.written, 30)
    found = names()
    known, validated, held_out = split(found, arguments.seed)
    alphabet = tg.data.Vocabulary.of("".join(name.letters for name in found))

    tg.manual_seed(arguments.seed)
    started = time.process_time()
    model, history = train(alphabet, known, validated, arguments.epochs, arguments.hidden)
    seconds = time.process_time() - started
    network = f"LSTM of {arguments.hidden} units"
    counts = {f"{order}-gram": NameCounts(alphabet, [*known, *validated], order) for order in ORDERS}  # they need not stop
    bits = {network: bits_of_model(model, alphabet, held_out)} | {name: each.bits(held_out) for name, each in counts.items()}

    opponent = f"{OPPONENT}-gram"
    best = min(counts, key=lambda name: bits[name])
    written = {network: write(model, alphabet, arguments.written)}
    written |= {name: counts[name].write(arguments.written) for name in (opponent, best)}
    shares = {name: novelty(each, [*known, *validated], held_out) for name, each in written.items()}
    print(f"\nBits per letter of {len(held_out)} held-out names, their ends counted in; {seconds:.0f} s of training:\n")
    print(table(["model", "bits"], [[name, f"{value:.3f}"] for name, value in bits.items()]))
    print(f"\nOf {2 * arguments.written} names that each writes: the new, of these the real, of all those said before:\n")
    print(table(["model", *shares[network]], [[name, *(f"{x:.1%}" for x in each.values())] for name, each in shares.items()]))
    print()
    learned = {name.letters for name in known + validated}
    for gender, key in enumerate(GENDERS):
        new = [name.letters for name in written[network] if name.gender == gender and name.letters not in learned]
        print(f"New names for {GENDERS[key]}: " + " ".join(new[:12]))

    print("\nwritten:", write_figure(names_figure(bits, held_out, written[network]), arguments.out / "names.png"))
    rows = [
        Row("first names", "bits/letter", network, bits[network], f"{each}, Kneser-Ney", bits[each], seconds, less_is_better=True)
        for each in (opponent, best)
    ]
    validation = [epoch["validation"] for epoch in history["epochs"]]
    return report("names", rows, arguments, bits=bits, novelty=shares, validation=validation)


if __name__ == "__main__":
    main()
