"""min-char-rnn, twice: by hand and on the tape. A character model in a hundred lines, for those who meet it for the first time.

A. Karpathy's "minimal character-level RNN" (2015) is how many people have learned what back-propagation through time is: an Elman
network, NumPy, and a loop that walks back over the text. This is that program, written anew. First with derivatives by hand, each
line of the backward pass answering a line of the forward pass; then with the engine, where the backward pass is not
written at all. Both start from the same weights, read the same text, and lose the same, step for step, up to rounding:

    python examples/min_char_rnn.py --steps 1000

What to look at: in `forward_and_backward`, how dh_next carries the gradient from step t + 1 into step t, and how every step adds
its term to the same dW_h: one weight, many uses is all that back-propagation through time adds to back-propagation. In
`on_the_tape`, where all this has gone: `print(tg.tape(loss))` lists it, `tape.sweep(loss)` goes through it step by step.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from common import options, read_text, table, write_figure, write_json

import tinygrad_seq as tg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
Weights = dict[str, Array]
Pieces = Iterable[tuple[Array, Array, bool]]  # x, y, and whether the text starts anew; y is x one character later
Losses = Iterator[float]  # in bits per character, for each step

T = 25  # characters in a piece of text, over which the gradient goes back
RATE, EPS = 0.02, 1e-3  # for Adagrad; at a rate of 0.1 training is chaotic, and rounding alone drives the two apart
LIMIT = 5.0  # for each entry of a gradient


# ---- by hand --------------------------------------------------------------------------------------------------------------


def forward_and_backward(weights: Weights, x: Array, y: Array, h: Array) -> tuple[float, Weights, Array]:
    """The loss over a piece of text, its gradient by each weight, and the state after it, (1, H)."""
    W_x, W_h, W_y, b, b_y = weights.values()
    states, p, loss = [h], [], 0.0
    for x_t, y_t in zip(x, y):
        states.append(np.tanh(W_x[x_t] + states[-1] @ W_h + b))  # a row of W_x is a one-hot x<t> times W_x
        o = states[-1] @ W_y + b_y
        exp = np.exp(o - o.max())
        p.append(exp / exp.sum())
        loss -= np.log(p[-1][0, y_t]) / len(x)

    dW_x, dW_h, dW_y, db, db_y = gradients = [np.zeros_like(weight) for weight in weights.values()]
    dh_next = np.zeros_like(h)
    for t in reversed(range(len(x))):
        do = p[t] / len(x)
        do[0, y[t]] -= 1 / len(x)  # softmax and logarithm together: what was said minus what is true
        dW_y += states[t + 1].T @ do
        db_y += do[0]
        dh = do @ W_y.T + dh_next  # it serves the output, and the next step
        dz = (1 - states[t + 1] ** 2) * dh  # through tanh
        dW_x[x[t]] += dz[0]
        dW_h += states[t].T @ dz
        db += dz[0]
        dh_next = dz @ W_h.T
    return loss, dict(zip(weights, gradients)), states[-1]


def by_hand(weights: Weights, pieces: Pieces) -> Losses:
    """Train with Adagrad; the arrays of `weights` are changed in place."""
    squares = {name: np.zeros_like(weight) for name, weight in weights.items()}
    h = start = np.zeros((1, len(weights["W_h"])))
    for x, y, anew in pieces:
        loss, gradients, h = forward_and_backward(weights, x, y, start if anew else h)
        for name, gradient in gradients.items():
            gradient = np.clip(gradient, -LIMIT, LIMIT)
            squares[name] += gradient**2
            weights[name] -= RATE * gradient / (np.sqrt(squares[name]) + EPS)
        yield loss / np.log(2)


# ---- on the tape ----------------------------------------------------------------------------------------------------------


def on_the_tape(parameters: dict[str, tg.Parameter], pieces: Pieces) -> Losses:
    """The same."""
    W_x, W_h, W_y, b, b_y = parameters.values()
    optimizer = tg.optim.Adagrad(parameters.values(), lr=RATE, eps=EPS)
    h = start = tg.tensor(np.zeros((1, len(W_h))))
    for x, y, anew in pieces:
        h, states = start if anew else h.detach(), []
        for t, x_t in enumerate(x):
            with tg.scope("rnn", t=t):
                h = np.tanh(W_x[x_t] + h @ W_h + b)
            states.append(h)
        loss = tg.losses.cross_entropy(np.concatenate(states) @ W_y + b_y, y)
        loss.backward()
        tg.optim.clip_grad_value_(parameters.values(), LIMIT)
        optimizer.step()
        optimizer.zero_grad()
        yield loss.item() / np.log(2)


# ---- both, side by side ---------------------------------------------------------------------------------------------------


def first_weights(characters: int, hidden: int, seed: int) -> Weights:
    """float64, as NumPy has it: so the two differ by nothing but the order in which sums are taken."""
    rng = np.random.default_rng(seed)
    shapes = dict(W_x=(characters, hidden), W_h=(hidden, hidden), W_y=(hidden, characters))
    drawn = {name: rng.normal(size=shape) * 0.01 for name, shape in shapes.items()}
    return drawn | dict(b=np.zeros(hidden), b_y=np.zeros(characters))


def pieces_of(tokens: Array, steps: int) -> Iterator[tuple[Array, Array, bool]]:
    """So many pieces of T characters, from the start again where the text ends."""
    place = 0
    for _ in range(steps):
        place = 0 if place + T >= len(tokens) else place
        yield tokens[place : place + T], tokens[place + 1 : place + T + 1], place == 0
        place += T


def sample(weights: Weights, length: int, rng: np.random.Generator, token: int = 0) -> list[int]:
    """Let the network write, from any character on."""
    W_x, W_h, W_y, b, b_y = weights.values()
    h, written = np.zeros(len(W_h)), []
    for _ in range(length):
        h = np.tanh(W_x[token] + h @ W_h + b)
        p = np.exp(h @ W_y + b_y)
        token = int(rng.choice(len(p), p=p / p.sum()))
        written.append(token)
    return written


def losses_figure(losses: dict[str, list[float]]) -> Figure:
    """Above: what both lose. Below: by how much they differ."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    (first, a), (second, b) = losses.items()
    width = max(1, len(a) // 100)
    mean = np.convolve(a, np.ones(width) / width, "valid"), np.convolve(b, np.ones(width) / width, "valid")
    steps = np.arange(len(mean[0])) + width
    above.plot(steps, mean[0], color="#ff7c43", linewidth=5, label=first)
    above.plot(steps, mean[1], color="#2c4875", linewidth=1.2, label=second)
    above.set(ylabel="bits per character", title="The same program, twice")
    above.legend(framealpha=0.85, edgecolor="none")
    below.plot(np.arange(1, len(a) + 1), np.abs(np.subtract(a, b)) + 1e-17, color="#5c6b80", linewidth=0.8)
    below.axhline(1e-6, color="#d45087", linestyle=":", label="1e-6")
    below.set(yscale="log", xlabel="step", ylabel="difference (bits)")
    below.legend(framealpha=0.85, edgecolor="none", loc="center right")
    for axes in (above, below):
        axes.grid(True, color="#e5e9f1", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run both, compare, let it write, draw."""
    parser = options(__doc__, steps=4000, hidden=100)
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.steps = min(arguments.steps, 50)
    text = read_text("hamlet.txt")
    vocabulary = tg.data.Vocabulary.of(text)
    tokens = vocabulary.encode(text)
    weights = first_weights(len(vocabulary), arguments.hidden, arguments.seed)
    parameters = {name: tg.Parameter(weight.copy(), name=name) for name, weight in weights.items()}
    ways = {"by hand": by_hand(weights, pieces_of(tokens, arguments.steps)),
            "on the tape": on_the_tape(parameters, pieces_of(tokens, arguments.steps))}  # fmt: skip

    losses: dict[str, list[float]] = {name: [] for name in ways}
    seconds = dict.fromkeys(ways, 0.0)
    bar = tg.progress(range(arguments.steps), "both, in turns")
    for _ in bar:
        for name, way in ways.items():
            started = time.perf_counter()
            losses[name].append(next(way))
            seconds[name] += time.perf_counter() - started
        bar.note(bits=losses["by hand"][-1])

    a, b = (np.array(found) for found in losses.values())
    apart = float(np.abs(a - b).max())
    shown = sorted({0, 9, 99, 999, arguments.steps - 1} & set(range(arguments.steps)))
    print(f"\nBits per character at some of {arguments.steps} steps:\n")
    print(table(["step", *(name + " " for name in ways), "difference"],
                [[i + 1, *(f"{losses[name][i]:.12f}" for name in ways), abs(a[i] - b[i])]
                 for i in shown]))  # fmt: skip
    each = {name: 1000 * seconds[name] / arguments.steps for name in ways}
    print(f"\nThe largest difference of all is {apart:.1e} bits.", *(f"{ms:.2f} ms a step {name}." for name, ms in each.items()))
    print("\nIt writes:\n\n" + vocabulary.decode(sample(weights, 300, np.random.default_rng(arguments.seed))))

    last = {name: float(np.mean(found[-max(1, arguments.steps // 10) :])) for name, found in losses.items()}
    row = dict(
        task="min-char-rnn", figure="bits per character, last tenth of training, on the tape", value=last["on the tape"],
        baseline_name="by hand", baseline=last["by hand"], seconds=sum(seconds.values()), seed=arguments.seed,
    )  # fmt: skip
    print("\nwritten:", write_figure(losses_figure(losses), arguments.out / "min_char_rnn.png"))
    print("written:", write_json(dict(row, largest_difference=apart, ms_per_step=each), arguments.out / "min_char_rnn.json"))
    return row


if __name__ == "__main__":
    main()
