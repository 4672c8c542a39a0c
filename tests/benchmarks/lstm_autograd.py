"""The LSTM training step in HIPS autograd: the tape that made differentiated NumPy popular.

Its sigmoid is declared as a primitive of its own here, so that it records as many operations as everybody else.
(`autograd.scipy.special.expit` is the same, but would need SciPy.)
"""

import importlib.metadata

import autograd.numpy as np
from autograd import value_and_grad
from autograd.extend import defvjp, primitive

NAME = f"HIPS autograd {importlib.metadata.version('autograd')}"


@primitive
def sigmoid(x):
    return 1 / (1 + np.exp(-x))


defvjp(sigmoid, lambda y, x: lambda g: g * y * (1 - y))


def loss_of(parameters, problem, hoisted):
    """The forward pass; the parameters are (W_x, W_h, b)."""
    W_x, W_h, b = parameters
    x, h, c = problem.constants
    if hoisted:
        xw = x @ W_x + b  # (T, B, 4H)
    loss = 0.0
    for t in range(problem.size.T):
        z = (xw[t] if hoisted else x[t] @ W_x + b) + h @ W_h  # (B, 4H)
        f, u, o, candidate = np.split(z, 4, axis=1)  # (B, H) each
        c = sigmoid(f) * c + sigmoid(u) * np.tanh(candidate)
        h = sigmoid(o) * np.tanh(c)
        loss = loss + np.sum(h * h)
    return loss * problem.mean


def training_step(problem, hoisted=True):
    """Forward and backward, once per call."""
    differentiated = value_and_grad(loss_of)
    parameters = tuple(value.copy() for value in problem.parameters)
    return lambda: differentiated(parameters, problem, hoisted)
