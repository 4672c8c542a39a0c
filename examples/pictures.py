"""The pictures of the README: each is made here, and by nothing else.

On the command line:

    make pictures                                        all of them, into docs/pictures
    python examples/pictures.py --only gradient-flow     one of them
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import _write, options, read_text
from PIL import Image

import tinygrad_seq as tg
from tinygrad_seq import viz
from tinygrad_seq.models import SequenceClassifier, SequenceTagger

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
COLOURS = 256  # of a plot's PNG: more than anyone can tell apart, in a third of the bytes


def gradient_flow() -> bytes:
    """How far a loss is heard in an RNN, a GRU and an LSTM before any training, and why: one scale, one column for each."""
    rng, tapes = np.random.default_rng(0), {}
    x, y = rng.normal(size=(40, 8, 3)).astype(np.float32), rng.integers(0, 4, size=(40, 8))
    for cell in ("rnn", "gru", "lstm"):
        tg.manual_seed(0)
        model = SequenceTagger(3, 16, 4, cell=cell)
        with tg.record() as tape:
            loss = model.loss(x, y)
        loss.backward()
        tapes[cell.upper()] = tape
    return plotted(viz.gradient_flow(tapes, panels=["flow", "eigenvalues"]))


def lstm_backward() -> bytes:
    """Three letters of Hamlet through an LSTM, gate by gate, and the gradient of the loss at the last one on its way back."""
    return drawn("lstm", "To ", level="gate")


def rnn_over_time() -> bytes:
    """A line of Hamlet through a plain recurrent network: 18 of its 22 steps in one box, and what is left of the gradient."""
    return drawn("rnn", "To be, or not to be: t", level="cell", steps=5)


PICTURES: dict[str, Callable[[], bytes]] = {
    "lstm-backward.svg": lstm_backward,
    "rnn-over-time.svg": rnn_over_time,
    "gradient-flow.png": gradient_flow,
}


def drawn(cell: str, read: str, **options: Any) -> bytes:
    """A run over some letters of Hamlet, before any training, with a loss on the letter that comes after them."""
    text = read_text("hamlet.txt")
    vocabulary = tg.data.Vocabulary(sorted(set(text)))
    start = text.index(read)
    tokens = np.array(vocabulary.encode(text[start : start + len(read)]))[:, None]
    tg.manual_seed(0)
    model = SequenceClassifier(len(vocabulary), 16, len(vocabulary), embedding_size=8, cell=cell)
    for path, parameter in model.named_parameters():
        name = path.rpartition(".")[2]
        parameter.name = {"embedding": "E", "readout": f"{name}_y"}.get(path.split(".")[-2], name)
    with tg.record() as tape:
        loss = model.loss(tokens, np.array(vocabulary.encode(text[start + len(read)])))
        loss.name = "L"
    loss.backward()
    svg = viz.draw(tape, **options).svg()
    return svg.replace(f"{FOLDER.parents[1]}/", "").encode()  # a tooltip names the line of this program, not of this machine


def plotted(figure: Any) -> bytes:
    """A Matplotlib figure as a small PNG."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    Image.open(drawn).convert("RGB").quantize(COLOURS, kmeans=1).save(small, "PNG", optimize=True)
    return small.getvalue()


def main(arguments: list[str] | None = None) -> None:
    """Make the pictures, each as a whole or not at all."""
    parser = options(__doc__)
    parser.set_defaults(out=FOLDER)
    names = [name.partition(".")[0] for name in PICTURES]
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="PICTURE", help=f"of {', '.join(names)}")
    chosen = parser.parse_args(arguments)
    for name, made in PICTURES.items():
        if name.partition(".")[0] in chosen.only:
            path = _write(made(), chosen.out / name)
            print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
