"""Memory over T: what full back-propagation through time keeps, and what two ways out of it keep.

An LSTM runs over T steps, with a loss at each of them, and the gradient goes back

- all the way, in one backward pass: every step's values are kept until it comes by, O(T);
- all the way, in about sqrt(T) checkpointed segments, of which only the states in between are kept (`tg.bptt.segments`; Chen et
  al., "Training deep nets with sublinear memory cost", 2016): the same gradient in O(sqrt(T)), for a second forward pass;
- k2 steps and no further (`tg.bptt.Truncated`): another gradient, in O(k2), however long the sequence is.

Measured is the peak of all that Python allocates meanwhile, as `tracemalloc` counts it: NumPy's arrays, and the objects of the
tape too. Weights and inputs are there before, and do not count. The slopes of the lines in the plot are the exponents.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from common import options, table, write_figure, write_json

import tinygrad_seq as tg
from tinygrad_seq.models import LSTM

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
Gradients = Callable[[LSTM, Array], None]  # leaves the gradient of the loss over a sequence (T, B, I) in the weights

SHORTEST, LONGEST = 64, 4096
INPUTS = 8  # features
K1, K2 = 16, 32


# ---- three ways back ------------------------------------------------------------------------------------------------------


def loss_over(lstm: LSTM, x: Array, state: Any) -> tuple[tg.Tensor, Any]:
    """The loss over some steps, and the state after them."""
    outputs, state = lstm(x, state)
    return (outputs * outputs).sum(), state


def full(lstm: LSTM, x: Array) -> None:
    """One backward pass over all of it."""
    loss, _ = loss_over(lstm, x, None)
    loss.backward()


def segments(lstm: LSTM, x: Array) -> None:
    """The same gradient, with segments of about sqrt(T) steps run again on the way back."""
    loss, _ = tg.bptt.segments(lambda part, state: loss_over(lstm, part, state), join=sum)(x)
    loss.backward()


def truncated(lstm: LSTM, x: Array) -> None:
    """Every K1 steps a backward pass over the last K2; their gradients add up."""
    for window in tg.bptt.Truncated(K1, K2)(x):
        (part,) = window
        outputs, state = lstm(part, window.state)
        new = window.new(outputs)
        (new * new).sum().backward()
        window.carry(state)


WAYS: dict[str, Gradients] = {"full": full, "segments": segments, f"Truncated({K1}, {K2})": truncated}
EXPECTED = dict(zip(WAYS, (1.0, 0.5, 0.0)))


# ---- measured -------------------------------------------------------------------------------------------------------------


def peak(way: Gradients, lstm: LSTM, x: Array) -> int:
    """The most bytes that are held at any moment, above what was there before; the gradients are left in the weights."""
    lstm.zero_grad()
    gc.collect()
    tracemalloc.start()
    try:
        way(lstm, x)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def exponent(lengths: Sequence[int], peaks: Sequence[int]) -> float:
    """p of the power T^p that fits best: the slope of a straight line through the logarithms."""
    slope, _ = np.polyfit(np.log(lengths), np.log(peaks), 1)
    return float(slope)


def difference(way: Gradients, lstm: LSTM, x: Array) -> float:
    """How far a way's gradient is from that of full back-propagation, relative to its size."""
    found = []
    for each in (full, way):
        lstm.zero_grad()
        each(lstm, x)
        gradients = [parameter.grad.numpy() for parameter in lstm.parameters() if parameter.grad is not None]
        found.append(np.concatenate([gradient.ravel() for gradient in gradients]))
    return float(np.linalg.norm(found[1] - found[0]) / np.linalg.norm(found[0]))


# ---- shown ----------------------------------------------------------------------------------------------------------------


def memory_figure(lengths: Sequence[int], peaks: dict[str, list[int]], slopes: dict[str, float]) -> Figure:
    """Peaks over T, both logarithmic, each with the line that was fitted."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    for (name, bytes_), colour, marker in zip(peaks.items(), ("#d45087", "#ff7c43", "#2c4875"), "os^"):
        megabytes = np.array(bytes_) / 1e6
        centre = np.exp(np.log(megabytes).mean() + slopes[name] * (np.log(lengths) - np.log(lengths).mean()))
        axes.plot(lengths, megabytes, marker, color=colour, label=f"{name}: $T^{{{slopes[name]:.2f}}}$")
        axes.plot(lengths, centre, color=colour, linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set(yscale="log", xlabel="steps T", ylabel="MB at the peak", title="Memory of one gradient of an LSTM")
    axes.set_xticks(list(lengths), [str(T) for T in lengths])
    axes.grid(True, color="#e5e9f1", linewidth=0.6)
    axes.legend(framealpha=0.85, edgecolor="none")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    """Measure, fit, draw."""
    parser = options(__doc__, longest=LONGEST, hidden=64, batch=16)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.longest = min(arguments.longest, 4 * SHORTEST)
    if arguments.longest < 2 * SHORTEST:
        parser.error(f"--longest must be at least {2 * SHORTEST}: a slope needs two points")
    lengths = [SHORTEST << n for n in range((arguments.longest // SHORTEST).bit_length())]

    tg.manual_seed(arguments.seed)
    lstm = LSTM(INPUTS, arguments.hidden)
    x = tg.random.generator().normal(size=(lengths[-1], arguments.batch, INPUTS)).astype(np.float32)
    peaks: dict[str, list[int]] = {name: [] for name in WAYS}
    bar = tg.progress([(name, T) for T in lengths for name in WAYS], "measuring")
    for name, T in bar:
        peaks[name].append(peak(WAYS[name], lstm, x[:T]))
        bar.note(T=T)
    slopes = {name: exponent(lengths, peaks[name]) for name in WAYS}

    print(f"\nMB at the peak, for one gradient of an LSTM ({arguments.batch} sequences, {arguments.hidden} units, float32):\n")
    rows = [[T, *(peaks[name][i] / 1e6 for name in WAYS)] for i, T in enumerate(lengths)]
    print(table(["T", *WAYS], rows))
    print("\nAs a power of T, and how far the gradient is from the full one (the rest is rounding):\n")
    apart = {name: difference(way, lstm, x[: lengths[0]]) for name, way in WAYS.items()}
    print(table(["", "expected", "measured", "difference"], [[name, EXPECTED[name], slopes[name], apart[name]] for name in WAYS]))

    figures = dict(
        settings={name: value for name, value in vars(arguments).items() if name != "out"},
        lengths=lengths, peaks=peaks, exponents=slopes, differences=apart,
    )  # fmt: skip
    picture = memory_figure(lengths, peaks, slopes)
    print("\nwritten:", write_figure(picture, arguments.out / "memory.png"))
    print("written:", write_json(figures, arguments.out / "memory.json"))


if __name__ == "__main__":
    main()
