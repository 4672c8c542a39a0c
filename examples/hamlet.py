"""Hamlet, character by character: an LSTM against the best of the classical models, counts of what follows the last few letters.

Both read nine tenths of the play, and are asked how probable each character of the last tenth is, given those before it. The
answer is told in bits per character, -log2 p on average: the length to which the text could be compressed. The opponent is an
interpolated Kneser-Ney n-gram model (`ngrams.py`) of several orders. On a text as short as this one it is hard to beat: it
needs no training, and its counts are exact. What it lacks is what an LSTM has: no two contexts are alike to it unless they are
the same.

The network goes through the text in columns, side by side, T characters at a time, and carries its state on from piece to piece,
but not the gradient: truncated back-propagation through time. Dropout keeps it from learning the text by heart.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from common import options, read_text, table, write_figure
from ngrams import NGram
from table import Row, report

import tinygrad_seq as tg
from tinygrad_seq.models import LanguageModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

ORDERS = (1, 2, 3, 4, 5, 6)
OPPONENT = 4
T, B = 64, 32  # steps and columns of a batch
EMBEDDING = 64
RATE = 8e-3  # of learning, at first
DROPOUT = 0.2
SHOWN = 64  # characters in the picture
COLOURS = {"model": "#2c4875", "opponent": "#d45087"}
GREY = "#5c6b80"


def train(model: LanguageModel, tokens: Array, epochs: int) -> list[float]:
    """Truncated back-propagation through time, the whole text in each epoch; gives the loss of each step, in bits."""
    pieces = tg.data.batches(tokens, batch_size=B, steps=T)
    optimizer = tg.optim.Adam(model.parameters(), lr=RATE)
    schedule = tg.optim.CosineSchedule(optimizer, epochs * len(pieces), warmup=min(50, len(pieces)))
    history = tg.fit(model, pieces, optimizer=optimizer, schedule=schedule, epochs=epochs, clip_norm=1.0, carry=True)
    return [float(loss / np.log(2)) for loss in history["losses"]]


def surprise(model: LanguageModel, tokens: Array) -> Array:
    """How many bits each character but the first of a text costs, given all before it, (N - 1,)."""
    with model.predicting():
        logits, _ = model(tokens[:-1, None])
        losses = tg.losses.cross_entropy(logits, tokens[1:, None], reduction="none")
    return np.asarray(losses.numpy()[:, 0] / np.log(2), float)


def in_characters(text: str) -> str:
    """A text for the axis of a picture: what cannot be seen gets a sign."""
    return text.replace("\n", "↵").replace(" ", "·")


def write_on(model: LanguageModel, vocabulary: tg.data.Vocabulary, start: str, length: int) -> str:
    """What the model writes behind `start`, a little more probable than it finds it."""
    (written,) = model.generate(vocabulary.encode(start)[:, None], length, temperature=0.7)
    return start + vocabulary.decode(written)


# ---- shown ----------------------------------------------------------------------------------------------------------------


def hamlet_figure(losses: Sequence[float], bits: dict[str, Array], text: str) -> Figure:
    """Above: training, and what each is worth on held-out text. Below: a line of it, character by character.

    Args:
        losses: of each training step, with dropout.
        bits: for each model by name, what each held-out character costs; the network's first, then those of the n-grams.
        text: the held-out characters, for the first of which there is no prediction.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.4), layout="constrained")
    left, right, below = figure.subplot_mosaic([["left", "left", "right"], ["below"] * 3], height_ratios=(3, 2)).values()
    model, *ngrams = bits
    width = max(1, len(losses) // 60)
    smooth = np.convolve(losses, np.ones(width) / width, "valid")
    left.plot(np.arange(len(smooth)) + width, smooth, color=COLOURS["model"], linewidth=1, label="training, with dropout")
    left.axhline(float(bits[model].mean()), color=COLOURS["model"], linewidth=2, label="in the end, on held-out text")
    left.axhline(float(bits[ngrams[OPPONENT - 1]].mean()), color=COLOURS["opponent"], label=ngrams[OPPONENT - 1])
    left.set(xlabel="training step", ylabel="bits per character", title="Hamlet")
    left.legend(framealpha=0.85, edgecolor="none")
    names = [*ngrams, model]
    colours = [GREY] * len(ngrams) + [COLOURS["model"]]
    colours[OPPONENT - 1] = COLOURS["opponent"]
    bars = right.barh(names, [float(bits[name].mean()) for name in names], color=colours, height=0.7)
    right.bar_label(bars, fmt="%.3f", padding=3)
    right.margins(x=0.15)
    right.set(xlabel="bits per character", title="Held-out text")
    place = len(text) // 2
    shown = slice(place, place + SHOWN)
    steps = np.arange(len(bits[model][shown]))
    below.plot(steps, bits[ngrams[OPPONENT - 1]][shown], "o", color=COLOURS["opponent"], markersize=3, label=ngrams[OPPONENT - 1])
    below.vlines(steps, 0, bits[model][shown], color=COLOURS["model"], linewidth=3, label=model)
    below.set_xticks(steps, list(in_characters(text[place + 1 : place + 1 + SHOWN])), family="monospace")
    below.set(ylabel="bits", title="What each character of a held-out line costs")
    below.legend(framealpha=0.85, edgecolor="none")
    for axes in (left, right, below):
        axes.grid(True, color="#e5e9f1", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


# ---- all of it ------------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, compare with n-grams of several orders, write a little, draw."""
    parser = options(__doc__, epochs=40, hidden=128)
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.epochs, arguments.hidden = 1, min(arguments.hidden, 16)
    text = read_text("hamlet.txt")
    vocabulary = tg.data.Vocabulary.of(text)
    tokens = vocabulary.encode(text)
    read, held_out = np.split(tokens, [len(tokens) * 9 // 10])

    tg.manual_seed(arguments.seed)
    model = LanguageModel(len(vocabulary), EMBEDDING, arguments.hidden, cell="lstm", dropout=DROPOUT)
    started = time.process_time()
    losses = train(model, read, arguments.epochs)
    seconds = time.process_time() - started
    name = f"LSTM of {arguments.hidden} units"
    bits = {name: surprise(model, held_out)}
    bits |= {f"{order}-gram": NGram([read], len(vocabulary), order).bits(held_out) for order in ORDERS}

    means = {name: float(each.mean()) for name, each in bits.items()}
    print(f"\nBits per character on the last tenth of Hamlet, {len(held_out):,} characters:\n")
    print(table(["model", "bits"], [[name, f"{mean:.3f}"] for name, mean in means.items()]))
    print(f"\n{arguments.epochs} epochs in {seconds:.0f} s. The network writes on:\n")
    print(write_on(model, vocabulary, "HAMLET:\n", 300))

    picture = hamlet_figure(losses, bits, text[len(read) :])
    print("\nwritten:", write_figure(picture, arguments.out / "hamlet.png"))
    opponents = (f"{OPPONENT}-gram", min((f"{order}-gram" for order in ORDERS), key=means.__getitem__))
    rows = [
        Row("Hamlet", "bits per character", name, means[name], f"{each}, Kneser-Ney", means[each], seconds, less_is_better=True)
        for each in opponents
    ]
    return report("hamlet", rows, arguments, bits=means)


if __name__ == "__main__":
    main()
