"""The figures of the overview of sequence models, and those that it lacks, each from the tape of a run in this file.

Every figure has a small program of its own: one of `networks.py` is run on random numbers under `tg.record()`. What is drawn
is that run's tape, at a level that shows what the figure is about; where weights would hide it they are left out. Labels
are the overview's: x and y for input and target, h or a for the hidden state, o for the output before the softmax and ŷ
after it, L for the loss, Γ for gates. Steps count from 0 here.

`python -m tinygrad_seq.viz gallery` writes them all, with a page around.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tinygrad_seq as tg
from tinygrad_seq.viz.drawing import Drawing
from tinygrad_seq.viz.exhibition import Exhibit, write_page
from tinygrad_seq.viz.extract import extract
from tinygrad_seq.viz.networks import (
    Elman,
    H,
    O,
    OutputRNN,
    classes,
    given,
    gru,
    loss_of,
    lstm,
    named,
    summed,
    weight,
    without_lines,
    zeros,
)
from tinygrad_seq.viz.sheet import Sheet

SEED = 0
TITLE = "Recurrent networks, drawn from their tapes"
FOREWORD = (
    "Figures 1 to 10 are those of the overview of sequence models, 11 to 16 those that it lacks. Nothing is drawn by hand: each "
    "picture is the tape of a small network that has run. Time goes from left to right, gradients from right to left."
)


class Figure(NamedTuple):
    """A figure: its file's name, what it is called, what it shows, and the run that it is drawn from."""

    name: str
    title: str
    caption: str
    make: Callable[[], Drawing]

    def drawn(self) -> Drawing:
        """The figure, the same each time; the engine's generator is left as it was."""
        with tg.random.replaying(tg.random.get_state()):
            tg.manual_seed(SEED)
            return self.make()


def write(folder: str | Path, png: bool = False) -> Path:
    """Write all figures as SVG into a folder, and a page that shows them; the page's path.

    Args:
        folder: is made if need be. Files of the same names are replaced, each as a whole.
        png: write each figure as PNG, too.
    """
    folder = Path(folder)
    exhibits = []
    for figure in FIGURES:
        drawing = figure.drawn()
        for kind in ("svg", "png") if png else ("svg",):
            drawing.save(folder / f"{figure.name}.{kind}")
        width = re.search(r'viewBox="[\d.-]+ [\d.-]+ ([\d.]+)', drawing.svg())
        assert width is not None, "a drawing has a viewBox"
        exhibits.append(Exhibit(f"{figure.name}.svg", figure.title, figure.caption, drawing.alt_text, float(width[1])))
    return write_page(folder / "index.html", TITLE, FOREWORD, exhibits)


# ---- from tapes to pictures -------------------------------------------------------------------------------------------


def picture(tape: tg.Tape, level: str = "cell", weights: bool = False) -> Drawing:
    """A tape at a level, with or without weights and what is made of them alone."""
    graph = extract(without_lines(tape), level)
    hidden = set() if weights else {n for n in graph.nodes if n.kind == "weight" or (n.sums and n.sums.kind == "weight")}
    for node in graph.nodes:
        sources = {edge.source for edge in graph.edges if edge.target is node}
        if sources and sources <= hidden:
            hidden.add(node)
    graph.nodes = [node for node in graph.nodes if node not in hidden]
    graph.edges = [edge for edge in graph.edges if not {edge.source, edge.target} & hidden]
    return Drawing(graph)


def plain(*rows: Sequence[tuple[str, tg.Tape]], level: str = "cell", weights: bool = False) -> Drawing:
    """Tapes side by side and below each other, with titles instead of captions: for what is drawn without gradients."""
    return Sheet([[(title, picture(tape, level, weights)) for title, tape in row] for row in rows], captions=False)


# ---- the ten figures of the overview ----------------------------------------------------------------------------------


def chain() -> Drawing:
    """A network that is fed its own state."""
    rnn, h = Elman(), zeros("h<init>")
    with tg.record() as tape:
        for t in range(4):
            h = rnn.hidden(t, h, given(f"x<{t}>"))
    return Sheet([[("folded", picture(tape, "rolled")), ("unfolded in time", picture(tape))]], captions=False)


def basic_rnn() -> Drawing:
    """All of the basic RNN: inputs, states, outputs, losses and weights."""
    rnn, a, losses, y = Elman(state="a"), zeros("a<init>"), [], classes(3)
    with tg.record() as tape:
        for t in range(3):
            a = rnn.hidden(t, a, given(f"x<{t}>"))
            losses.append(loss_of(t, rnn.output(t, a), y[t]))
        summed(losses)
    return plain([("", tape)], weights=True)


def hidden_to_hidden() -> Drawing:
    """RNN1: what is handed on is the hidden state."""
    rnn, h, y = Elman(), zeros("h<init>"), classes(3)
    with tg.record() as tape:
        for t in range(3):
            h = rnn.hidden(t, h, given(f"x<{t}>"))
            loss_of(t, rnn.output(t, h), y[t])
    return plain([("", tape)])


def output_to_hidden() -> Drawing:
    """RNN2: what is handed on is the output."""
    rnn, y_hat, y = OutputRNN(), zeros("ŷ<init>", O), classes(3)
    with tg.record() as tape:
        for t in range(3):
            y_hat = rnn.step(t, y_hat, given(f"x<{t}>"))
            loss_of(t, y_hat, y[t])
    return plain([("", tape)])


def teacher_forcing() -> Drawing:
    """The same network when it is trained, and when it is used."""
    rnn, y, y_hat = OutputRNN(), classes(3), zeros("ŷ<init>", O)
    with tg.record() as training:
        for t in range(3):
            before = zeros("y<init>", O) if t == 0 else named(tg.tensor(y[t - 1]), f"y<{t - 1}>")
            loss_of(t, rnn.step(t, before, given(f"x<{t}>")), y[t])
    with tg.record() as testing:
        for t in range(3):
            y_hat = rnn.step(t, y_hat, given(f"x<{t}>"))
    return plain([("in training the target is handed on", training)], [("in testing the output is", testing)])


def lengths() -> Drawing:
    """How many inputs and outputs there may be."""
    return plain(
        [("one to one", _speaking([0], [0])), ("one to many", _speaking([0], [0, 1, 2]))],
        [("many to one", _speaking([0, 1, 2], [2])), ("many to many, same length", _speaking([0, 1, 2], [0, 1, 2]))],
        [("many to many, different lengths", _speaking([0, 1], [2, 3, 4]))],
    )


def _speaking(reads: Sequence[int], says: Sequence[int]) -> tg.Tape:
    """A network that reads at some steps and speaks at some."""
    steps = max(*reads, *says) + 1
    rnn, h = Elman(), zeros("h<init>") if steps > 1 else None
    with tg.record() as tape:
        for t in range(steps):
            h = rnn.hidden(t, h, given(f"x<{t}>") if t in reads else None)
            if t in says:
                rnn.says(t, h)
    return tape


def many_to_one() -> Drawing:
    """Many-to-one, as for the sentiment of a sentence."""
    rnn, h = Elman(), zeros("h<init>")
    with tg.record() as tape:
        for t in range(4):
            h = rnn.hidden(t, h, given(f"x<{t}>"))
        rnn.output(3, h)
    return plain([("", tape)])


def one_to_many() -> Drawing:
    """One-to-many, as for music."""
    rnn, h, x = Elman(inputs=O), zeros("h<init>"), given("x<0>", O)
    with tg.record() as tape:
        for t in range(4):
            h = rnn.hidden(t, h, x)
            x = rnn.output(t, h)
    return plain([("", tape)])


def encoder_decoder() -> Drawing:
    """Many-to-many of different lengths, as for translation."""
    encoder, decoder, state = Elman(part="encoder"), Elman(inputs=O, state="s", part="decoder"), zeros("h<init>")
    with tg.record() as tape:
        for t in range(3):
            state = encoder.hidden(t, state, given(f"x<{t}>"))
        y_hat = zeros("ŷ<init>", O)
        for t in range(4):
            state = decoder.hidden(t, state, y_hat)
            y_hat = decoder.output(t, state)
    return plain([("", tape)])


def bidirectional() -> Drawing:
    """One state for what was, another for what will be."""
    forward, backward, w_y = Elman(direction="forward"), Elman(state="g", direction="backward"), weight("w_y", 2 * H, O)
    h, g, past = zeros("h<init>"), zeros("g<init>"), []
    with tg.record() as tape:
        xs = [given(f"x<{t}>") for t in range(4)]
        for t in range(4):
            past.append(h := forward.hidden(t, h, xs[t]))
        for t in reversed(range(4)):
            g = backward.hidden(t, g, xs[t])
            with tg.scope("output", t=t):
                named(tg.softmax(tg.concatenate([past[t], g], axis=-1) @ w_y), f"ŷ<{t}>")
    return plain([("", tape)])


# ---- what the overview has no figure of -------------------------------------------------------------------------------


def forward_pass(run: Callable[[int], Any]) -> Drawing:
    """Two steps of a gated network, gate by gate."""
    with tg.record() as tape:
        run(2)
    return plain([("", tape)], level="gate")


def backward_pass(run: Callable[[int], Any]) -> Drawing:
    """Three steps of a gated network and all gradients, from a loss on its last state."""
    with tg.record() as tape:
        state = run(3)
        with tg.scope("loss"):
            loss = named((state * state).sum(), "L")
    loss.backward()
    return picture(tape, "gate", weights=True)


def vanishing() -> Drawing:
    """A basic RNN with a loss at its last step: how much of the gradient is left at the first."""
    rnn, a, y = Elman(state="a"), zeros("a<init>"), classes(1)[0]
    with tg.record() as tape:
        for t in range(8):
            a = rnn.hidden(t, a, given(f"x<{t}>"))
        loss = rnn.loss(a, y)
    loss.backward()
    return picture(tape, weights=True)


def truncation() -> Drawing:
    """Truncated BPTT: every three steps the state is carried on, and the gradient is not."""
    rnn, a, losses, y = Elman(state="a"), zeros("a<init>"), [], classes(6)
    with tg.record() as tape:
        for t in range(6):
            if t == 3:
                with tg.scope("cut", t=t):
                    a = a.detach()
            a = rnn.hidden(t, a, given(f"x<{t}>"))
            losses.append(rnn.loss(a, y[t], t))
        loss = summed(losses)
    loss.backward()
    return picture(tape, weights=True)


# ---- all of them ----------------------------------------------------------------------------------------------------------

FIGURES = (
    Figure(
        "01-chain", "1. A recurrent network",
        "The same step, folded and unfolded: h<t> = f(h<t-1>, x<t>). Unfolded it is a deep network with as many layers as the "
        "sequence has steps, and all of them share their weights.",
        chain,
    ),
    Figure(
        "02-basic-rnn", "2. The basic RNN",
        "At each step a state a, an output o, its softmax ŷ, and the loss against the target y. The matrices w_aa, w_ax and "
        "w_ya stand outside of time: every step uses the same.",
        basic_rnn,
    ),
    Figure("03-hidden-to-hidden", "3. RNN1, hidden to hidden", "What a step hands on is its hidden state.", hidden_to_hidden),
    Figure(
        "04-output-to-hidden", "4. RNN2, output to hidden",
        "What a step hands on is its output, which is trained to be like the target, and so can say less of the past.",
        output_to_hidden,
    ),
    Figure(
        "05-teacher-forcing", "5. Teacher forcing, in training and in testing",
        "In training the target of the step before takes the output's place, and no step waits for another: the columns do not "
        "touch. In testing there is no target, and the network must live with what it has said.",
        teacher_forcing,
    ),
    Figure(
        "06-lengths", "6. Lengths of input and output",
        "The same network, reading at some of its steps and speaking at some.",
        lengths,
    ),
    Figure(
        "07-many-to-one", "7. Many to one",
        "As for the sentiment of a sentence: one output, after the last word.",
        many_to_one,
    ),
    Figure("08-one-to-many", "8. One to many", "As for music: each output is the input of the next step.", one_to_many),
    Figure(
        "09-encoder-decoder", "9. Encoder and decoder",
        "As for translation: the encoder reads to the end, and its last state is all that the decoder is given. The decoder "
        "writes as long as it likes, and reads what it has written.",
        encoder_decoder,
    ),
    Figure(
        "10-bidirectional", "10. The bidirectional RNN",
        "One state runs with time, another against it, so that an output knows the past and the future.",
        bidirectional,
    ),
    Figure(
        "11-gru", "11. The GRU",
        "Two steps, gate by gate. The reset gate Γ_r says how much of the state the candidate c~ may see, the update gate Γ_u "
        "how much of the candidate is written; what is not written over is carried along unchanged.",
        lambda: forward_pass(gru),
    ),
    Figure(
        "12-lstm", "12. The LSTM",
        "Two steps, gate by gate. The memory c runs along the top: the forget gate Γ_f says how much of it stays, the update "
        "gate Γ_u how much of the candidate c~ is added, and the output gate Γ_o how much of it shows in the state a.",
        lambda: forward_pass(lstm),
    ),
    Figure(
        "13-vanishing", "13. Back-propagation through time, and a gradient that vanishes",
        "A basic RNN with one loss, at its last step. The coloured arrows are gradients, going back; colour and width are their "
        "norm. Below each column stands what came through that step of the gradient of w_aa, and the sum of it so far.",
        vanishing,
    ),
    Figure(
        "14-gru-backward", "14. The gradients of a GRU",
        "From a loss on the last state. Where a value was used several times, the gradients of its uses meet in a Σ. The way "
        "around the gates, through 1 - Γ_u, passes no matrix.",
        lambda: backward_pass(gru),
    ),
    Figure(
        "15-lstm-backward", "15. The gradients of an LSTM",
        "From a loss on the last state. Along the lane of c the gradient is only multiplied by forget gates; what goes through "
        "the gates passes a matrix at every step.",
        lambda: backward_pass(lstm),
    ),
    Figure(
        "16-truncation", "16. Truncated back-propagation through time",
        "After three steps the state is handed on, and the gradient is not: the detach in column 3 is a cut. It says how much "
        "full back-propagation through time would have carried across.",
        truncation,
    ),
)  # fmt: skip
