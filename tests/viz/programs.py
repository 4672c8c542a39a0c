"""Recurrent programs as nobody would think of them: chosen at random, but written as users write theirs.

A program has one to three layers, each a list of equations that every step repeats: products with shared weights and with one
that is used once; sums, splits, concatenations; gates in scopes within scopes; what an earlier step left; cuts; values that
nobody reads. Some steps may lack some. Names are those that make trouble: long ones, markup, and our own.
"""

from contextlib import ExitStack
from random import Random

import numpy as np

import tinygrad_seq as tg

ROWS, UNITS = 2, 3
NAMES = (
    "h", "c", "s", "Γ_u", "c~", "a b", "<script>", 'q"uote', "back\\slash", "a_long_name", "{x|y}", "t1.h", "two\nlines", "sum",
)  # fmt: skip
SCOPES = ("rnn", "lstm", "my cell", "cell.0", "backward", "init", "linear", "Ünï", "elided")
GATES = ("u", "f", "o", "c~", "gate", "linear", "sum", "input", "a/b")
KINDS = (
    "matmul", "bias", "tanh", "sigmoid", "product", "sum", "subtract", "one minus", "concatenate", "split", "input", "below",
    "skip", "where", "detach", "scale", "once", "transposed", "mean", "state", "slice", "unread", "square",
)  # fmt: skip


def record(rng, T=None):
    """Tape and loss of a program that a `random.Random` chooses."""
    program = Program(rng, T or rng.randint(1, 8))
    with np.errstate(all="ignore"):
        with tg.record() as tape:
            loss = program.loss(program.outputs())
            loss.name = rng.choice((None, "L", "loss"))
        if loss.requires_grad and rng.random() < 0.8:
            loss.backward()
    return tape, loss


class Program:
    """What is chosen once, for all steps."""

    def __init__(self, rng, T):
        self.rng, self.T = rng, T
        self.numbers = np.random.default_rng(0)
        self.weights = {}
        self.named = rng.random() < 0.8
        self.learned = rng.random() < 0.3
        self.padded = rng.random() < 0.15
        self.gaps = rng.random() < 0.2
        self.hoisted = rng.random() < 0.15
        self.shape = rng.choice(("forward", "forward", "reverse", "both", "parts"))
        self.end = rng.choice(("last", "every", "some", "sum of all", "hoisted"))

    def weight(self, name, *shape):
        """A weight of this name, the same at every step."""
        if name not in self.weights:
            values = np.random.default_rng(len(self.weights)).normal(size=shape) * 0.7
            self.weights[name] = tg.Parameter(values, name=name if self.named else None)
        return self.weights[name]

    def values(self):
        return self.numbers.normal(size=(ROWS, UNITS))

    def layer(self, n):
        rng = self.rng
        equations = [
            {
                "kind": rng.choice(KINDS), "of": (rng.randint(0, 40), rng.randint(0, 40)), "back": rng.randint(1, 3),
                "gate": rng.choice(((), (), (), (rng.choice(GATES),), (rng.choice(GATES), rng.choice(GATES)))),
                "weight": rng.choice((f"W{n}{k}", f"W{n}{k}", "W", f"V{n}", "cells.0.W_h")),
                "name": rng.choice((None, None, None, rng.choice(NAMES))), "lacks": self.gaps and rng.random() < 0.15,
            }
            for k in range(rng.randint(1, 9))
        ]  # fmt: skip
        return {"states": rng.randint(1, 3), "equations": equations, "scope": rng.choice(SCOPES), "lacking": rng.randint(0, 7),
                "tags": {"role": "cell"} if rng.random() < 0.1 else {}}  # fmt: skip

    # ---- over time ----

    def inputs(self):
        if not self.hoisted:
            return [tg.tensor(self.values(), name=f"x<{t}>") for t in range(self.T)]
        with tg.scope("project", time_axis=0):
            x = tg.tensor(np.stack([self.values() for _ in range(self.T)]), name="x")
            return list(tg.unstack(x @ self.weight("W_in", UNITS, UNITS), axis=0))

    def outputs(self):
        """Of the top layer, by step."""
        x, forward, reverse = self.inputs(), range(self.T), range(self.T)[::-1]
        if self.shape == "reverse":
            return self.run(x, reverse, direction="backward")[::-1]
        if self.shape == "both":
            both = zip(self.run(x, forward, direction="forward"), self.run(x, reverse, direction="backward")[::-1])
            return [tg.concatenate([*pair], axis=1)[:, 1:-2] for pair in both]
        if self.shape == "parts":
            seen = self.run(x, forward, part="encoder")
            return self.run([self.rng.choice(seen) for _ in seen], forward, part="decoder")
        return self.run(x, forward)

    def run(self, inputs, times, **tags):
        """The top layer's outputs, in the order of the steps that are taken."""
        layers = [self.layer(n) for n in range(self.rng.choice((1, 1, 2, 3)))]
        first = [
            [tg.tensor(self.values(), name=f"{'hcs'[k]}<init>", requires_grad=self.learned) for k in range(layer["states"])]
            for layer in layers
        ]
        past = [[] for _ in layers]
        outputs = []
        for t in times:
            below = inputs[t]
            for n, layer in enumerate(layers):
                more = tags | layer["tags"] | ({"layer": n} if n else {})
                more |= {"valid": np.array([t < 2, t < 4])} if self.padded else {}
                with tg.scope(layer["scope"], t=t, **more):
                    past[n].append(self.step(layer, t, below, past[n], first[n]))
                below = past[n][-1][0]
            outputs.append(below)
        return outputs

    def step(self, layer, t, below, past, first):
        """The states after a step: the last values that it makes."""
        before = past[-1] if past else first
        known = [*before]
        for equation in layer["equations"]:
            if equation["lacks"] and t == layer["lacking"] % self.T:
                continue
            a, b = (known[k % len(known)] for k in equation["of"])
            with ExitStack() as gates:
                for name in equation["gate"]:
                    gates.enter_context(tg.scope(name))
                made = self.apply(equation, t, a, b, below, before, past, first)
            if equation["name"] and made.name is None and made is not below and all(made is not each for each in known):
                made.name = f"{equation['name']}<{t}>"
            known.append(made)
        states, made = [], known[len(before) :] or known
        for k in range(layer["states"]):
            state = made[-1 - k % len(made)]
            if state is below or any(state is each for each in (*before, *states)):
                state = np.tanh(state + before[k])
            states.append(state)
        for k, state in enumerate(states):
            state.name = state.name or f"{'hcs'[k]}<{t}>"
        return states

    def apply(self, equation, t, a, b, below, before, past, first):
        """One equation."""
        name, (n, m), back = equation["weight"], equation["of"], equation["back"]
        match equation["kind"]:
            case "matmul":
                return a @ self.weight(name, UNITS, UNITS)
            case "transposed":
                return a @ self.weight(name, UNITS, UNITS).T
            case "once":
                return a @ self.weight(f"once{t}", UNITS, UNITS) if t == back else np.exp(-a * a)
            case "bias":
                return a + self.weight(f"b{name}", UNITS)
            case "concatenate":
                return tg.concatenate([a, b], axis=1) @ self.weight(f"{name}c", 2 * UNITS, UNITS)
            case "split":
                u, v = np.split(a @ self.weight(f"{name}s", UNITS, 2 * UNITS), 2, axis=1)
                return tg.sigmoid(u) * v if n % 2 else u
            case "tanh":
                return np.tanh(a)
            case "sigmoid":
                return tg.sigmoid(a)
            case "product":
                return a * b
            case "square":
                return a * a
            case "sum":
                return a + b
            case "subtract":
                return a - b
            case "one minus":
                return 1 - a
            case "scale":
                return 2.0 * a
            case "mean":
                return a * (b * b).mean()
            case "where":
                return np.where(np.array([[True], [False]]), a, b)
            case "slice":
                return tg.concatenate([a[:, 1:], b[:, :1]], axis=1)
            case "input":
                return tg.tensor(self.values(), name=f"in<{t}>" if m % 2 else None)
            case "below":
                return a * below
            case "state":
                return a * before[n % len(before)]
            case "skip":
                return a + (past[-back][0] if len(past) >= back else first[0])
            case "detach":
                return a.detach() if n % 3 or t == back else a + 0.5
            case "unread":
                np.tanh(a @ self.weight(name, UNITS, UNITS))
                return np.tanh(a)

    # ---- the loss ----

    def loss(self, outputs):
        if self.end == "last":
            return (outputs[-1] * outputs[-1]).sum()
        if self.end == "hoisted":
            with tg.scope("readout", time_axis=0):
                scores = tg.stack(outputs) @ self.weight("W_y", UNITS, 2)
            return (scores * scores).sum()
        if self.end == "sum of all":
            return sum(outputs[1:], start=outputs[0]).mean()
        terms, in_time = [], self.rng.random() < 0.5
        for t, each in enumerate(outputs):
            if self.end == "every" or t % 2 == 0 or t == len(outputs) - 1:
                with tg.scope("loss", t=t) if in_time else tg.scope("loss"):
                    terms.append(tg.losses.cross_entropy(each @ self.weight("W_y", UNITS, 4), np.array([0, 3])))
        return sum(terms[1:], start=terms[0])


def numbered(seed, T=None):
    """The program of a number."""
    return record(Random(seed), T)
