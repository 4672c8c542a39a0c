"""The LSTM training step by hand in NumPy, without a tape: the floor that a tape of these operations can reach.

It makes the array operations that a tape makes, one for one, in the order of a reverse sweep: each pullback is one
expression, the four gates' gradients meet in one array, a weight's outer products are gathered over some steps and
multiplied at once. No product is fused or saved that a general tape could not save. What it leaves out is the tape:
recording, sorting, dispatch and bookkeeping, and detours such as the Python code inside `np.split`. So the difference
between our engine's time and this one's is, from above, the time that the engine spends outside NumPy.

The backward pass being derived by hand, it is also the reference that everybody's gradients are compared with.
"""

import numpy as np

NAME = "NumPy by hand, no tape"

GATHERED_BYTES = 1 << 20  # of cotangents whose outer products wait to be multiplied at once (or twice the weight's)


def sigmoid(x):
    """1 / (1 + exp(-x)) for every x: tanh does not overflow."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


def training_step(problem, hoisted=True):
    """Forward and backward, once per call."""

    def step():
        values, loss = forward(problem, hoisted)
        return loss, backward(problem, values, hoisted)

    return step


def forward(problem, hoisted):
    """The loss, and per step the values that the backward pass needs."""
    W_x, W_h, b = problem.parameters
    x, h, c = problem.constants
    H = problem.size.H
    if hoisted:
        xw = x @ W_x + b  # (T, B, 4H)
    values, loss = [], 0.0
    for t in range(problem.size.T):
        h_previous, c_previous = h, c
        z = (xw[t] if hoisted else x[t] @ W_x + b) + h @ W_h  # (B, 4H)
        f, u, o, candidate = (z[:, gate * H : (gate + 1) * H] for gate in range(4))  # (B, H) each
        f, u, o, candidate = sigmoid(f), sigmoid(u), sigmoid(o), np.tanh(candidate)
        c = f * c + u * candidate
        tanh_c = np.tanh(c)
        h = o * tanh_c
        loss = loss + (h * h).sum()
        values.append((h_previous, c_previous, f, u, o, candidate, tanh_c, h))
    return values, loss * problem.mean


def backward(problem, values, hoisted):
    """The gradients of W_x, W_h and b."""
    T, B, I, H = problem.size
    W_x, W_h, b = problem.parameters
    x = problem.x
    d_W_x, d_W_h, d_b = np.zeros_like(W_x), np.zeros_like(W_h), np.zeros_like(b)
    d_xw = np.empty((T, B, 4 * H), x.dtype) if hoisted else None
    pending_h, pending_x, pending_z = [], [], []
    steps_per_product = max(GATHERED_BYTES, 2 * W_h.nbytes) // (problem.c.nbytes * 4) + 1
    d_h = d_c = 0.0
    for t in reversed(range(T)):
        h_previous, c_previous, f, u, o, candidate, tanh_c, h = values[t]
        d_h = d_h + (problem.mean * h + problem.mean * h)
        d_o, d_tanh_c = d_h * tanh_c, d_h * o
        d_c = d_c + d_tanh_c * (1 - tanh_c * tanh_c)
        d_f, d_u, d_candidate = d_c * c_previous, d_c * candidate, d_c * u
        d_c = d_c * f
        gates = (
            d_f * (f * (1 - f)),
            d_u * (u * (1 - u)),
            d_o * (o * (1 - o)),
            d_candidate * (1 - candidate * candidate),
        )
        d_z = np.concatenate(gates, axis=1)  # (B, 4H)
        d_h = d_z @ W_h.T

        pending_z.append(d_z)
        pending_h.append(h_previous)
        if hoisted:
            d_xw[t] = d_z
        else:
            d_b += d_z.sum(axis=0)
            pending_x.append(x[t])
        if len(pending_z) == steps_per_product or t == 0:
            d_z = np.concatenate(pending_z)
            d_W_h += np.concatenate(pending_h).T @ d_z
            if not hoisted:
                d_W_x += np.concatenate(pending_x).T @ d_z
            pending_h, pending_x, pending_z = [], [], []
    if hoisted:
        d_W_x = x.reshape(-1, I).T @ d_xw.reshape(-1, 4 * H)
        d_b = d_xw.sum(axis=(0, 1))
    return d_W_x, d_W_h, d_b
