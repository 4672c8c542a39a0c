"""The library in one minute: train a recurrent network on Hamlet, read its tape, and draw its gradients.

An Elman network ("Deep Learning", Goodfellow, Bengio & Courville, 2016, equations 10.8 to 10.11) reads the play
character by character and learns to guess the next one. It is written here in the engine's operations, line by line,
so that every step of it is an entry of the tape.

    python examples/demo.py --help
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq import viz

HAMLET = Path(__file__).parent / "data" / "hamlet.txt"
T, B = 16, 16  # steps and columns of a batch
DRAWN = 6  # steps in the picture


class CharacterRNN(tg.Module):
    """a<t> = tanh(a<t-1> W_aa + x<t> W_ax + b_a),  o<t> = a<t> W_ya + b_y; x<t> is a one-hot character."""

    def __init__(self, characters: int, hidden: int) -> None:
        self.W_ax = tg.Parameter(tg.init.normal((characters, hidden), 0.5))
        self.W_aa = tg.Parameter(tg.init.orthogonal((hidden, hidden), gain=0.7))
        self.b_a = tg.Parameter(tg.init.zeros((hidden,)))
        self.W_ya = tg.Parameter(tg.init.xavier_uniform((hidden, characters)))
        self.b_y = tg.Parameter(tg.init.zeros((characters,)))

    def states(self, x: np.ndarray, a: tg.Tensor) -> list[tg.Tensor]:
        """Characters (T, B) and the state (B, H) before them; gives the state after each."""
        states = []
        for t, x_t in enumerate(x):
            with tg.scope("rnn", t=t):
                a = np.tanh(a @ self.W_aa + self.W_ax[x_t] + self.b_a)  # (B, H): a row of W_ax is a one-hot x<t> times W_ax
                a.name = f"a<{t}>"
            states.append(a)
        return states

    def readout(self, states: list[tg.Tensor]) -> tg.Tensor:
        """Logits (T, B, characters), in one product over all of time."""
        with tg.scope("readout", time_axis=0):
            return np.stack(states) @ self.W_ya + self.b_y

    def forward(self, x: np.ndarray, a: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        """The logits after each character, and the last state."""
        states = self.states(x, a)
        return self.readout(states), states[-1]

    def start(self, columns: int) -> tg.Tensor:
        """The state before the first character."""
        return tg.tensor(tg.init.zeros((columns, len(self.W_aa))), name="a<init>")


def passes(tokens: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """Batches of a text without end: (x, y, whether the text starts anew here)."""
    while True:
        for i, (x, y) in enumerate(tg.data.batches(tokens, batch_size=B, steps=T)):
            yield x, y, i == 0


def train(model: CharacterRNN, tokens: np.ndarray, steps: int) -> None:
    """Truncated back-propagation through time: the state goes on from batch to batch, the graph does not."""
    optimizer = tg.optim.Adam(model.parameters(), lr=1e-2)
    schedule = tg.optim.CosineSchedule(optimizer, steps)
    bar = tg.progress(range(steps), "training")
    a = model.start(B)
    for _, (x, y, anew) in zip(bar, passes(tokens)):
        logits, a = model(x, model.start(B) if anew else a.detach())
        loss = tg.losses.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        tg.optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.note(bits=loss.item() / np.log(2))


def bits_per_character(model: CharacterRNN, tokens: np.ndarray) -> float:
    """How many bits the model needs for a character of a text that it reads once, from start to end."""
    with tg.no_grad():
        logits, _ = model(tokens[:-1, None], model.start(1))
        return tg.losses.cross_entropy(logits, tokens[1:, None]).item() / np.log(2)


def bits_without_context(train: np.ndarray, tokens: np.ndarray, characters: int) -> float:
    """The same for a guess that knows only how frequent each character is in the training text."""
    counts = np.bincount(train, minlength=characters) + 1
    return float(-np.log2(counts / counts.sum())[tokens[1:]].mean())


def sample(model: CharacterRNN, text: tg.data.Vocabulary, start: str, length: int, temperature: float = 0.6) -> str:
    """Let the model write on from `start`."""
    written = list(text.encode(start))
    with tg.no_grad():
        logits, a = model(np.array(written)[:, None], model.start(1))
        for _ in range(length):
            p = tg.softmax(logits[-1, 0] / temperature).numpy().astype(float)
            written.append(tg.random.generator().choice(len(p), p=p / p.sum()))
            logits, a = model(np.array([[written[-1]]]), a)
    return text.decode(written)


def show(model: CharacterRNN, x: np.ndarray, y: np.ndarray, picture: Path) -> None:
    """Record a run over x (T, B) with the loss at its last step only, and show how the gradient goes back through time."""
    last = T - 1
    with tg.record() as tape:
        states = model.states(x, model.start(B))
        with tg.scope("", steps_from=last):  # the readout, which counts its steps from 0, gets the last one only
            logits = model.readout(states[-1:])
        loss = tg.losses.cross_entropy(logits, y[-1:])
        loss.name = "L"
    step = tape.at(last)
    print(f"Step {last} on the tape:\n\n{step}\n")
    print("and its part of the backward pass:\n")
    for event in tape.sweep(loss):
        if event.index in step.indices:
            print(event)

    print("\nThe gradient of the last step's loss, on its way back through time:\n")
    through = tg.bptt.weight_gradients(loss, model.W_aa)
    norms = [float(np.linalg.norm(g)) for g in tg.bptt.state_gradients(loss, states)]
    print(" t   |dL/da<t>|   |dL/dW_aa<t>|")
    for t in reversed(range(T)):
        bar = "█" * round(32 * norms[t] / max(norms))
        print(f"{t:2}   {norms[t]:10.2e}   {np.linalg.norm(through[t]):13.2e}   {bar}".rstrip())

    loss.backward()  # the tape is watching: now it has every cotangent too
    drawing = viz.draw(tape[tape.at(T - DRAWN)[0].index :]).save(picture)
    print(f"\nThe last {DRAWN} steps, with the gradient flowing back through them: {drawing.resolve()}")


def main() -> None:
    """Train, measure, sample, print a piece of the tape, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3000, help="training steps (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=128, help="units of the state (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="for the weights and the sample (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the picture (default: %(default)s)")
    arguments = parser.parse_args()
    if min(arguments.steps, arguments.hidden) < 1:
        parser.error("--steps and --hidden must be at least 1")

    tg.manual_seed(arguments.seed)
    hamlet = HAMLET.read_text(encoding="utf-8")
    text = tg.data.Vocabulary.of(hamlet)
    tokens = text.encode(hamlet)
    read, held_out = np.split(tokens, [len(tokens) * 9 // 10])
    print(f"Hamlet: {len(tokens):,} characters, {len(text)} different ones; the last tenth is held out.\n")

    model = CharacterRNN(len(text), arguments.hidden)
    started = time.perf_counter()
    train(model, read, arguments.steps)
    print(f"\n{arguments.steps} steps in {time.perf_counter() - started:.0f} s.")
    print(f"Held-out text: {bits_per_character(model, held_out):.3f} bits per character", end=" ")
    print(f"({bits_without_context(read, held_out, len(text)):.3f} from the frequency of each character alone).\n")
    print(sample(model, text, "HAMLET:\n", 300), "\n")
    show(model, *tg.data.batches(held_out, batch_size=B, steps=T)[0], arguments.out / "bptt.svg")


if __name__ == "__main__":
    main()
