"""The adding problem: an LSTM learns what a plain RNN does not, and the gradient's way back shows why.

A sequence has two numbers in each step: a value between 0 and 1, and a mark, which is 1 at two steps and 0 at all
others, once in the first half and once in the second. At the end the network is to say the sum of the two marked values. Who
always says 1 has a mean squared error of 1/6. To do better, one must carry a value over up to T steps, and to learn that, the
gradient must find its way back over them (Hochreiter & Schmidhuber, "Long short-term memory", 1997, experiment 4; in
this form Le, Jaitly & Hinton, "A simple way to initialize recurrent networks of rectified linear units", 2015).

Both networks see the same sequences, in as many steps of Adam, with gradients clipped to norm 1, an orthogonal recurrent
matrix to start from, and in the LSTM a forget-gate bias of 1. Neither gradient gets far at first; the LSTM learns to open a
forget gate, and then c carries it.

With seed 0 no learning rate from 1e-4 to 2e-2 helps the RNN in a thousand steps (--tune tries six). That it cannot learn would
be too much said: with 1e-3 it begins to after some 2000 steps, and its error is 0.04 after 6000 (--steps). The LSTM's is
below that after 400.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from common import options, table, write_figure, write_json

import tinygrad_seq as tg
from tinygrad_seq import viz
from tinygrad_seq.models import LSTM, RNN, Linear

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

LAYERS = {"RNN": RNN, "LSTM": LSTM}
RATES = {"RNN": 1e-3, "LSTM": 2e-2}  # of learning
TRIED = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 2e-2)  # for the RNN, with --tune
HELD_OUT = 10_000  # sequences, looked at by the thousand
MEASURED = 64  # sequences in the measurement of the flow
ALWAYS = "always 1"  # the baseline
COLOURS = {"RNN": "#d45087", "RNN, h": "#d45087", "LSTM": "#2c4875", "LSTM, h": "#2c4875", "LSTM, c": "#ff7c43"}
GREY = "#5c6b80"


# ---- the problem ----------------------------------------------------------------------------------------------------------


def sequences(rng: np.random.Generator, T: int, B: int) -> tuple[Array, Array]:
    """B sequences: inputs (T, B, 2), values and marks; targets (B, 1), the sum of the marked values. float32."""
    values = rng.random((T, B), dtype=np.float32)
    marks = np.zeros_like(values)
    for first, behind in ((0, T // 2), (T // 2, T)):
        marks[rng.integers(first, behind, B), np.arange(B)] = 1
    return np.stack([values, marks], axis=-1), (values * marks).sum(axis=0)[:, None]


class Batches:
    """New sequences in every step, the same ones for everyone who goes through them."""

    def __init__(self, seed: int, steps: int, T: int, B: int) -> None:
        self.seed, self.steps, self.T, self.B = seed, steps, T, B

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        rng = np.random.default_rng(self.seed)
        return (sequences(rng, self.T, self.B) for _ in range(self.steps))


class Adder(tg.Module):
    """A recurrent layer, and a readout of its state: ŷ<t> = h<t> W + b."""

    def __init__(self, kind: str, hidden: int) -> None:
        self.layer = LAYERS[kind](2, hidden)
        self.readout = Linear(hidden, 1)

    def forward(self, x: Array) -> tg.Tensor:
        """Inputs (T, B, 2) -> the prediction after the last step (B, 1)."""
        outputs, _ = self.layer(x)
        prediction: tg.Tensor = self.readout(outputs[-1])
        return prediction

    def loss(self, x: Array, y: Array) -> tg.Tensor:
        """The mean squared error."""
        return tg.losses.mse(self(x), y)


# ---- who learns it --------------------------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """A model after its training, and how that went."""

    kind: str
    rate: float
    model: Adder
    losses: list[float]
    seconds: float
    error: float

    def figures(self) -> dict[str, Any]:
        """As plain data."""
        size = sum(parameter.size for parameter in self.model.parameters())
        return dict(kind=self.kind, lr=self.rate, parameters=size, seconds=self.seconds, mse=self.error, losses=self.losses)


def train(kind: str, rate: float, arguments: argparse.Namespace, held_out: tuple[Array, Array]) -> Trained:
    """A new model, trained on the sequences of this seed."""
    tg.manual_seed(arguments.seed)
    model = Adder(kind, arguments.hidden)
    batches = Batches(arguments.seed, arguments.steps, arguments.length, arguments.batch)
    optimizer = tg.optim.Adam(model.parameters(), lr=rate)
    started = time.perf_counter()
    history = tg.fit(model, batches, optimizer=optimizer, epochs=1, clip_norm=1.0, label=f"{kind}, learning rate {rate:g}")
    return Trained(kind, rate, model, history["losses"], time.perf_counter() - started, error_of(model, *held_out))


def error_of(model: Adder, x: Array, y: Array) -> float:
    """The mean squared error on sequences that were not trained on."""
    parts = max(1, len(y) // 1000)
    with tg.no_grad():
        predicted = np.concatenate([model(part).numpy() for part in np.array_split(x, parts, axis=1)])
    return float(np.mean((predicted - y) ** 2))


# ---- why ------------------------------------------------------------------------------------------------------------------


def flows(model: Adder, x: Array) -> dict[str, Array]:
    """||dŷ<t>/dh<s>|| for all steps t and s, (T, T), for each array of the state: an RNN's h, an LSTM's h and c.

    It is taken of the prediction and not of the loss, whose gradient has a factor ŷ - y: that is small in a model that has
    learned, and says nothing about the way back. What reaches c is counted whichever way it came, along c or through h.
    """
    _, _, (history,) = model.layer(x, return_all=True)
    predictions = [model.readout(h).sum() for h in history["h"]]  # rows do not depend on each other: a sum keeps them apart
    return {part: tg.bptt.flow(predictions, history[part]) for part in ("h", "c") if part in history}


class Way(NamedTuple):
    """The gradient's way back along one array of the state: flow matrices, before training and after."""

    kind: str
    part: str
    before: Array
    after: Array

    def __str__(self) -> str:
        return f"{self.kind}, {self.part}"

    def in_words(self) -> str:
        """What `bptt.verdict` says of it."""
        lines = [f"{self}<s>:"]
        for when, flow in dict(untrained=self.before, trained=self.after).items():
            told = tg.bptt.verdict(flow).replace("dL<", "dŷ<").replace("/dh<", f"/d{self.part}<")
            lines.append(f"  {when + ':':10} " + told.replace("\n", "\n" + " " * 13))
        return "\n".join(lines)

    def figures(self) -> dict[str, Any]:
        """What reaches each step from the last prediction, as plain data."""
        return dict(kind=self.kind, part=self.part, before=self.before[-1].tolist(), after=self.after[-1].tolist())


def ways(kind: str, trained: Adder, arguments: argparse.Namespace, x: Array) -> list[Way]:
    """The ways back through a model, beside those through the same one before its training."""
    tg.manual_seed(arguments.seed)
    before, after = flows(Adder(kind, arguments.hidden), x), flows(trained, x)
    return [Way(kind, part, before[part], after[part]) for part in after]


def widest_forget_gate(lstm: Adder, x: Array) -> float:
    """Of the unit whose forget gate is open furthest, the mean of that gate over time and sequences."""
    with tg.no_grad():
        _, _, (history,) = lstm.layer(x, return_all=True)
    return float(np.mean([f.numpy() for f in history["f"]], axis=(0, 1)).max())


# ---- in pictures ----------------------------------------------------------------------------------------------------------


def learning_figure(learned: Sequence[Trained], baseline: float, found: Sequence[Way]) -> Figure:
    """Left: the error during training. Right: how much the last prediction depends on each state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for one in learned:
        left.plot(smooth(one.losses), color=COLOURS[one.kind], label=f"{one.kind}: {one.error:.3g} on new sequences")
    left.axhline(baseline, color=GREY, linestyle=":", label=f"{ALWAYS}: {baseline:.3f}")
    left.set(yscale="log", xlabel="training step", ylabel="mean squared error", title="Who learns to add")
    for way in found:
        colour = COLOURS[str(way)]
        right.plot(way.before[-1], color=colour, linestyle="--", linewidth=1)
        right.plot(way.after[-1], color=colour, linewidth=2, label=str(way))
    right.plot([], [], color=GREY, linestyle="--", linewidth=1, label="the same before training")
    right.set(yscale="log", xlabel="step s", ylabel="‖∂ŷ/∂state<s>‖", title="How much the last prediction depends on each state")
    for axes in (left, right):
        axes.grid(True, color="#e5e9f1", linewidth=0.6)
        axes.legend(framealpha=0.85, edgecolor="none", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def smooth(losses: Sequence[float], steps: int = 20) -> Array:
    """For each step the mean over the last few."""
    sums = np.cumsum([0.0, *losses])
    stops = np.arange(1, len(sums))
    starts = np.maximum(stops - steps, 0)
    means: Array = (sums[stops] - sums[starts]) / (stops - starts)
    return means


# ---- all of it ------------------------------------------------------------------------------------------------------------


def main() -> None:
    """Train both, compare, show the gradient's way back."""
    parser = options(__doc__, steps=1000, length=100, hidden=32, batch=64)
    parser.add_argument("--tune", action="store_true", help="train the RNN with other learning rates too, and keep the best")
    arguments = parser.parse_args()
    if arguments.length < 2:
        parser.error("--length must be at least 2: there are two marks")
    if arguments.quick:
        arguments.steps, arguments.length = min(arguments.steps, 10), min(arguments.length, 20)

    x, y = held_out = sequences(np.random.default_rng([arguments.seed, 1]), arguments.length, HELD_OUT)
    baseline = float(np.mean((y - 1) ** 2))
    runs = [("LSTM", RATES["LSTM"]), *[("RNN", rate) for rate in (TRIED if arguments.tune else (RATES["RNN"],))]]
    trained = [train(kind, rate, arguments, held_out) for kind, rate in runs]
    rows = [[f"{one.kind}, {arguments.steps} steps", one.rate, one.seconds, one.error] for one in trained]
    print(f"\nThe sum of two marked values out of {arguments.length}:\n")
    print(table(["model", "learning rate", "seconds", "error (MSE)"], [[ALWAYS, None, None, baseline], *rows]))

    show(trained, baseline, x[:, :MEASURED], arguments)


def show(trained: Sequence[Trained], baseline: float, x: Array, arguments: argparse.Namespace) -> None:
    """How far the gradient gets in the best of each kind: in words, in pictures, in figures."""
    best = [min((one for one in trained if one.kind == kind), key=lambda one: one.error) for kind in LAYERS]
    found = [way for one in best for way in ways(one.kind, one.model, arguments, x)]
    print(f"\nWhat reaches the state of each step s of the prediction after step {arguments.length - 1}:\n")
    print(*[way.in_words() for way in found], sep="\n")
    widest = widest_forget_gate(best[-1].model, x)
    print(f"\nThe widest of the forget gates is open by {widest:.4f}: this share of c its unit keeps from step to step.\n")

    figures = dict(
        settings={name: value for name, value in vars(arguments).items() if name != "out"},
        baseline=baseline,
        models=[one.figures() for one in trained],
        reach=[way.figures() for way in found],
        widest_forget_gate=widest,
    )
    maps = viz.gradient_flow({str(way): way.after for way in found}, "After training. The prediction stands in place of the loss")
    print("written:", write_figure(learning_figure(best, baseline, found), arguments.out / "adding-learning.png"))
    print("written:", write_figure(maps, arguments.out / "adding-flow.png"))
    print("written:", write_json(figures, arguments.out / "adding.json"))


if __name__ == "__main__":
    main()
