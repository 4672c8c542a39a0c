"""The LSTM training step in MyGrad: the tape for students that stays closest to NumPy.

It runs as it comes, with memory guarding on (which locks arrays that are part of a graph against writing), and once
more with it off, as its documentation advises where speed counts. MyGrad has no `split`, so the gates are slices; and
its Python numbers are float64, so the loss starts from a zero of the problem's dtype: everything stays float32.
"""

import mygrad as mg
import numpy as np
from mygrad.nnet.activations import sigmoid

NAME = f"MyGrad {mg.__version__}"


def loss_of(problem, W_x, W_h, b, hoisted):
    """The forward pass; W_x, W_h, b are tensors."""
    x, h, c = problem.constants
    H = problem.size.H
    if hoisted:
        xw = x @ W_x + b  # (T, B, 4H)
    loss = np.zeros((), problem.x.dtype)
    for t in range(problem.size.T):
        z = (xw[t] if hoisted else x[t] @ W_x + b) + h @ W_h  # (B, 4H)
        f, u, o, candidate = (z[:, gate * H : (gate + 1) * H] for gate in range(4))  # (B, H) each
        c = sigmoid(f) * c + sigmoid(u) * mg.tanh(candidate)
        h = sigmoid(o) * mg.tanh(c)
        loss = loss + (h * h).sum()
    return loss * problem.mean


def training_step(problem, hoisted=True, guarded=True):
    """Forward and backward, once per call."""
    parameters = [mg.tensor(value, copy=True) for value in problem.parameters]

    def step():
        with mg.mem_guard_on if guarded else mg.mem_guard_off:
            for parameter in parameters:
                parameter.null_grad()
            loss = loss_of(problem, *parameters, hoisted)
            loss.backward()
            return loss.data, [parameter.grad for parameter in parameters]

    return step
