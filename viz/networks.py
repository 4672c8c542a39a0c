"""The small networks whose runs the gallery draws, in the notation of the overview. Read me before `gallery.py`.

One row is one sample here, so a<t-1> @ w_aa is the overview's w_aa a<t-1>. Biases are left out. Every node of a picture
comes from a scope with its step t, and is called what the overview calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq import init

I, H, O = 3, 4, 3  # how many features, hidden units and classes


# ---- data -------------------------------------------------------------------------------------------------------------


def named(value: tg.Tensor, name: str) -> tg.Tensor:
    """A tensor under its name."""
    value.name = name
    return value


def given(name: str, size: int = I) -> tg.Tensor:
    """Something from outside, an input: random numbers (1, size)."""
    return named(tg.tensor(tg.random.generator().normal(size=(1, size)).astype(np.float32)), name)


def classes(steps: int) -> Any:
    """What should be said at each step: random unit vectors, (T, 1, O)."""
    return np.eye(O, dtype=np.float32)[tg.random.generator().integers(O, size=steps)][:, None]


def zeros(name: str, size: int = H) -> tg.Tensor:
    """An initial state."""
    return named(tg.tensor(np.zeros((1, size), np.float32)), name)


def weight(name: str, *shape: int) -> tg.Parameter:
    """A matrix of weights, newly drawn."""
    return tg.Parameter(init.xavier_uniform(shape), name=name)


def nll(y: tg.Tensor, y_hat: Any) -> Any:
    """-log p(y), where y is a unit vector."""
    return -(y * tg.log(y_hat)).sum()


def without_lines(tape: tg.Tape) -> tg.Tape:
    """The tape, with no lines of a user's program: where we run the network ourselves, there is none."""
    tape._recording.sources = [None] * len(tape.whole)
    return tape


# ---- networks ---------------------------------------------------------------------------------------------------------


class Elman:
    """The overview's basic RNN, without biases: a<t> = tanh(w_aa a<t-1> + w_ax x<t>), ŷ<t> = softmax(w_ya a<t>)."""

    def __init__(self, inputs: int = I, state: str = "h", **tags: Any) -> None:
        self.state, self.tags = state, tags
        self.w_ax, self.w_aa, self.w_ya = weight("w_ax", inputs, H), weight("w_aa", H, H), weight("w_ya", H, O)

    def hidden(self, t: int, a: Any, x: Any = None) -> Any:
        """The state of step t, from the state before and the input, as far as there are any."""
        with tg.scope("hidden", t=t, role="cell", **self.tags):
            z = 0 if a is None else a @ self.w_aa
            if x is not None:
                with tg.scope("input"):
                    z = z + x @ self.w_ax
            return named(np.tanh(z), f"{self.state}<{t}>")

    def output(self, t: int, a: Any) -> Any:
        """What is said at step t, in two steps: o<t> and ŷ<t>."""
        with tg.scope("readout", t=t, **self.tags):
            o = named(a @ self.w_ya, f"o<{t}>")
        with tg.scope("softmax", t=t, **self.tags):
            return named(tg.softmax(o), f"ŷ<{t}>")

    def says(self, t: int, a: Any) -> Any:
        """What is said at step t, in one."""
        with tg.scope("output", t=t, **self.tags):
            return named(tg.softmax(a @ self.w_ya), f"ŷ<{t}>")

    def loss(self, a: Any, y: Any, t: int | None = None) -> Any:
        """Readout, softmax and loss in one, at a step or after all of them."""
        step = "" if t is None else f"<{t}>"
        with tg.scope("loss", t=t):
            return named(nll(named(tg.tensor(y), f"y{step}"), tg.softmax(a @ self.w_ya)), f"L{step}")


class OutputRNN:
    """The overview's RNN2: h<t> = tanh(w_hy ŷ<t-1> + w_hx x<t>), ŷ<t> = softmax(w_yh h<t>)."""

    def __init__(self) -> None:
        self.w_hx, self.w_hy, self.w_yh = weight("w_hx", I, H), weight("w_hy", O, H), weight("w_yh", H, O)

    def step(self, t: int, before: Any, x: Any) -> Any:
        """ŷ<t>, from what was said, or should have been, at the step before."""
        with tg.scope("hidden", t=t, role="cell"):
            h = named(np.tanh(before @ self.w_hy + x @ self.w_hx), f"h<{t}>")
        with tg.scope("readout", t=t):
            o = named(h @ self.w_yh, f"o<{t}>")
        with tg.scope("softmax", t=t):
            return named(tg.softmax(o), f"ŷ<{t}>")


def loss_of(t: int, y_hat: Any, y: Any) -> Any:
    """L<t> = -log p(y<t> | x<0>, ..., x<t>)."""
    with tg.scope("loss", t=t):
        return named(nll(named(tg.tensor(y), f"y<{t}>"), y_hat), f"L<{t}>")


def summed(losses: Sequence[Any]) -> Any:
    """L, the sum over steps."""
    with tg.scope("sum"):
        return named(sum(losses[1:], losses[0]), "L")


class Gate:
    """A gate, or the candidate: squash([state, x] w) in a scope of its own."""

    def __init__(self, name: str, squash: Callable[..., Any]) -> None:
        self.name, self.squash, self.w = name, squash, weight(f"w_{name}", H + I, H)
        self.symbol = "c~" if name == "c" else f"Γ_{name}"

    def __call__(self, t: int, seen: Any) -> Any:
        """Its value at step t."""
        with tg.scope(self.name):
            return named(self.squash(seen @ self.w), f"{self.symbol}<{t}>")


def gru(steps: int) -> Any:
    """The overview's GRU, run for some steps: the last state."""
    u, r, candidate, c = Gate("u", tg.sigmoid), Gate("r", tg.sigmoid), Gate("c", np.tanh), zeros("c<init>")
    for t in range(steps):
        x = given(f"x<{t}>")
        with tg.scope("gru", t=t, role="cell"):
            seen = named(tg.concatenate([c, x], axis=-1), "[c, x]")
            Γ_u, Γ_r = u(t, seen), r(t, seen)
            c_new = candidate(t, named(tg.concatenate([Γ_r * c, x], axis=-1), "[Γ_r c, x]"))
            c = named(Γ_u * c_new + (1 - Γ_u) * c, f"c<{t}>")
    return c


def lstm(steps: int) -> Any:
    """The overview's LSTM, run for some steps: the last state a."""
    f, u, candidate, o = Gate("f", tg.sigmoid), Gate("u", tg.sigmoid), Gate("c", np.tanh), Gate("o", tg.sigmoid)
    a, c = zeros("a<init>"), zeros("c<init>")
    for t in range(steps):
        with tg.scope("lstm", t=t, role="cell"):
            seen = named(tg.concatenate([a, given(f"x<{t}>")], axis=-1), "[a, x]")
            Γ_f, Γ_u, c_new, Γ_o = f(t, seen), u(t, seen), candidate(t, seen), o(t, seen)
            c = named(Γ_u * c_new + Γ_f * c, f"c<{t}>")
            a = named(Γ_o * np.tanh(c), f"a<{t}>")
    return a
