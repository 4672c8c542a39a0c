"""The library in one minute: train a recurrent network on Hamlet, read its tape, and draw its gradients.

An Elman network (DL 10.8-10.11) reads Shakespeare character by character and learns to guess the next one. It is
written here in the engine's operations, line by line, so that every step of it is an entry of the tape.

    python examples/demo.py --help
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq import viz

HERE = Path(__file__).parent


class CharacterRNN(tg.Module):
    """a<t> = tanh(a<t-1> W_aa + x<t> W_ax + b_a),  o<t> = a<t> W_ya + b_y; x<t> is a one-hot character."""

    def __init__(self, characters: int, hidden: int) -> None:
        self.W_ax = tg.Parameter(tg.init.xavier_uniform((characters, hidden)))
        self.W_aa = tg.Parameter(tg.init.orthogonal((hidden, hidden)))
        self.b_a = tg.Parameter(np.zeros(hidden, np.float32))
        self.W_ya = tg.Parameter(tg.init.xavier_uniform((hidden, characters)))
        self.b_y = tg.Parameter(np.zeros(characters, np.float32))

    def forward(self, x: np.ndarray, a: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        """Characters (T, B) and the state (B, H) before them; gives logits (T, B, characters) and the state after."""
        states = []
        for t, x_t in enumerate(x):
            with tg.scope("rnn", t=t):
                a = np.tanh(a @ self.W_aa + self.W_ax[x_t] + self.b_a)  # (B, H)
                a.name = f"a<{t}>"
            states.append(a)
        with tg.scope("readout", time_axis=0):
            o = np.stack(states) @ self.W_ya + self.b_y  # (T, B, characters)
        return o, a


def sample(model: CharacterRNN, text: tg.data.Vocabulary, start: str, length: int, temperature: float = 0.7) -> str:
    """Let the model write on from `start`."""
    a = tg.tensor(np.zeros((1, model.W_aa.shape[0]), np.float32))
    written = start
    with tg.no_grad():
        logits, a = model(text.encode(start)[:, None], a)
        for _ in range(length):
            p = tg.softmax(logits[-1, 0] / temperature).data.astype(float)
            index = tg.random.generator().choice(len(p), p=p / p.sum())
            written += text.decode([index])
            logits, a = model(np.array([[index]]), a)
    return written


def main() -> None:
    """Train, sample, print a piece of the tape, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500, help="training steps (default: %(default)s)")
    parser.add_argument("--hidden", type=int, default=128, help="units of the state (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="for the weights and the samples (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the picture (default: %(default)s)")
    arguments = parser.parse_args()

    tg.manual_seed(arguments.seed)
    hamlet = (HERE / "data" / "hamlet.txt").read_text(encoding="utf-8")
    text = tg.data.Vocabulary.of(hamlet)
    tokens = text.encode(hamlet)
    held_out = len(tokens) // 10
    train, valid = tokens[:-held_out], tokens[-held_out:]
    print(f"Hamlet: {len(tokens):,} characters, {len(text)} different ones; the last tenth is held out\n")

    model = CharacterRNN(len(text), arguments.hidden)
    optimizer = tg.optim.Adam(model.parameters(), lr=3e-3)
    started = time.perf_counter()
    B, T = 32, 32
    bar = tg.progress(range(arguments.steps), "training")
    batches, a = iter(()), None
    for step in bar:
        try:
            x, y = next(batches)
        except StopIteration:
            batches, a = iter(tg.data.batches(train, batch_size=B, steps=T)), tg.tensor(np.zeros((B, arguments.hidden), np.float32))
            x, y = next(batches)
        optimizer.lr = 3e-3 * (1 - step / arguments.steps)
        logits, a = model(x, a)
        loss = tg.losses.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        tg.optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        a = a.detach()  # the state goes on, the graph does not: truncated back-propagation through time
        bar.note(bits=loss.item() / np.log(2))
    with tg.no_grad():
        logits, _ = model(valid[:-1, None], tg.tensor(np.zeros((1, arguments.hidden), np.float32)))
        bits = tg.losses.cross_entropy(logits, valid[1:, None]).item() / np.log(2)
    print(f"\n{arguments.steps} steps in {time.perf_counter() - started:.0f} s; held-out text: {bits:.2f} bits per character\n")
    print(sample(model, text, "HAMLET:\n", 300), "\n")

    # One more run, of six steps and with the loss at the last one, recorded: every value, and then every cotangent.
    with tg.record() as tape:
        logits, _ = model(x[:6], a)
        loss = tg.losses.cross_entropy(logits[-1], y[5])
        loss.name = "L"
    loss.backward()
    print("The last step on the tape:\n")
    print(tape.at(t=5), "\n")
    print("How the gradient goes back through time:\n")
    for entry in tape:
        if entry.name and entry.name.startswith("a<"):
            norm = np.linalg.norm(entry.grad)
            print(f"  |dL/d {entry.name}| = {norm:.2e}  {'█' * max(1, int(40 + 8 * np.log10(norm)))}")
    picture = arguments.out / "bptt.svg"
    picture.parent.mkdir(parents=True, exist_ok=True)
    viz.draw(tape).save(picture)
    print(f"\nThe unrolled network with the gradient flowing back through it: {picture.resolve()}")


if __name__ == "__main__":
    main()
