"""The mathematics that every contestant runs: one LSTM layer, its loss, and the random numbers they all start from.

    z_t = x_t W_x + b + h_{t-1} W_h                        (B, 4H), gates in the order f, u, o, candidate
    c_t = sigmoid(f) * c_{t-1} + sigmoid(u) * tanh(candidate)
    h_t = sigmoid(o) * tanh(c_t)
    loss = sum_t mean(h_t * h_t)

with gradients for W_x, W_h and b; x and the initial state are constants. Each contestant is a module `lstm_<name>`
that offers `training_step(problem, hoisted=...)`. It returns a function of no arguments which runs forward and
backward once and returns the loss and the three gradients. *Hoisted* means that x W_x + b is one product over all
of time, computed before the loop; otherwise each step multiplies its own x_t.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Size(NamedTuple):
    """Steps, batch, inputs and hidden units of a layer."""

    T: int
    B: int
    I: int
    H: int


@dataclass
class Problem:
    """One LSTM layer's constants and initial parameters, as NumPy arrays of one dtype."""

    size: Size
    x: np.ndarray  # (T, B, I)
    h: np.ndarray  # (B, H)
    c: np.ndarray  # (B, H)
    W_x: np.ndarray  # (I, 4H)
    W_h: np.ndarray  # (H, 4H)
    b: np.ndarray  # (4H,)

    @property
    def parameters(self):
        """What the gradients are taken of, in the order in which every contestant returns them."""
        return self.W_x, self.W_h, self.b

    @property
    def constants(self):
        """What needs no gradient."""
        return self.x, self.h, self.c

    @property
    def mean(self):
        """The factor that turns a sum over (B, H) into a mean, in the problem's dtype."""
        return self.x.dtype.type(1 / (self.size.B * self.size.H))


def random_problem(size, dtype=np.float32, seed=0):
    """The same numbers for every contestant and every run; float32 ones are the float64 ones, rounded."""
    T, B, I, H = size
    rng = np.random.default_rng(seed)

    def uniform(*shape):
        return rng.uniform(-1, 1, size=shape) / np.sqrt(H)

    return Problem(
        size=size,
        x=rng.normal(size=(T, B, I)).astype(dtype),
        h=rng.normal(size=(B, H)).astype(dtype),
        c=rng.normal(size=(B, H)).astype(dtype),
        W_x=uniform(I, 4 * H).astype(dtype),
        W_h=uniform(H, 4 * H).astype(dtype),
        b=uniform(4 * H).astype(dtype),
    )
