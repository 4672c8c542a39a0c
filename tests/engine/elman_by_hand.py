"""The basic RNN of the source document, differentiated by hand: an independent twin of the tape.

This module imports NumPy and nothing of ours. It writes down, one function per equation, the forward pass and
the closed-form back-propagation through time (BPTT) that the document derives, with its errata applied, so that
the engine can be held against mathematics that does not share a line with it.

Notation is the document's. A vector is a column of shape (n, 1); weights multiply from the left; time runs over
t = 1..T and a<0> is the initial state. Everything that belongs to a time step is a dict keyed by t. (The engine
counts steps from 0 and keeps one sample per row: its step t is step t + 1 here, its weights are transposed.)

    x<t> (n_x, 1)    y<t>, o<t>, y_hat<t> (n_y, 1)    a<t> (n_a, 1)
    w_ax (n_a, n_x)    w_aa (n_a, n_a)    w_ya (n_y, n_a)    b_a (n_a, 1)    b_y (n_y, 1)

Numbers in parentheses, as in (DL 10.24), are equations of Goodfellow, Bengio, Courville, *Deep Learning*, ch. 10,
where a, x, o, y_hat, w_ax, w_aa, w_ya, b_a, b_y are called h, x, o, y_hat, U, W, V, b, c.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np


@dataclass
class Parameters:
    """The weights and biases of the basic RNN, or one array for each of them (its gradient, for example)."""

    w_ax: np.ndarray  # (n_a, n_x)
    w_aa: np.ndarray  # (n_a, n_a)
    w_ya: np.ndarray  # (n_y, n_a)
    b_a: np.ndarray  # (n_a, 1)
    b_y: np.ndarray  # (n_y, 1)


NAMES = tuple(field.name for field in fields(Parameters))


# --- Forward ---------------------------------------------------------------------------------------------------


def hidden_state(p, a_previous, x_t):
    """a<t> = tanh(w_aa a<t-1> + w_ax x<t> + b_a)   (DL 10.8, 10.9)"""
    return np.tanh(p.w_aa @ a_previous + p.w_ax @ x_t + p.b_a)


def output(p, a_t):
    """o<t> = w_ya a<t> + b_y   (DL 10.10)"""
    return p.w_ya @ a_t + p.b_y


def log_softmax(o_t):
    """log y_hat<t> = o<t> - log sum_i exp(o<t>_i), shifted by the largest entry so that nothing overflows."""
    shifted = o_t - o_t.real.max()
    return shifted - np.log(np.exp(shifted).sum())


def prediction(o_t):
    """y_hat<t> = softmax(o<t>)   (DL 10.11)"""
    return np.exp(log_softmax(o_t))


def loss_of_step(o_t, y_t):
    """L<t> = -log p_model(y<t> | x<1>, .., x<t>) = -sum_i y<t>_i log y_hat<t>_i   (DL 10.14)"""
    return -(y_t * log_softmax(o_t)).sum()


class Forward(NamedTuple):
    """The values of one forward pass; `a` also holds the initial state a<0>."""

    a: dict  # t -> (n_a, 1)
    o: dict  # t -> (n_y, 1)
    y_hat: dict  # t -> (n_y, 1)
    loss: float


def forward(p, x, y, a_0):
    """Run the RNN over t = 1..T; L = sum_t L<t>   (DL 10.12, 10.13)"""
    a, o, y_hat, loss = {0: a_0}, {}, {}, 0.0
    for t in sorted(x):
        a[t] = hidden_state(p, a[t - 1], x[t])
        o[t] = output(p, a[t])
        y_hat[t] = prediction(o[t])
        loss = loss + loss_of_step(o[t], y[t])
    return Forward(a, o, y_hat, loss)


# --- Backward: the nodes ---------------------------------------------------------------------------------------


def grad_o(y_hat_t, y_t):
    """dL/do<t> = y_hat<t> - y<t>   (DL 10.18; erratum E1)

    From dL/dy_hat_i = -y_i / y_hat_i and the Jacobian of softmax, J = diag(y_hat) - y_hat y_hat^T, it is
    y_hat sum_i(y_i) - y, so the targets of a step must sum to 1. The document's result is right, its derivation
    is that of the logistic function.
    """
    return y_hat_t - y_t


def grad_a_last(p, grad_o_T):
    """dL/da<T> = w_ya^T dL/do<T>   (DL 10.19)"""
    return p.w_ya.T @ grad_o_T


def grad_a(p, grad_o_t, a_next, grad_a_next):
    """dL/da<t> = w_ya^T dL/do<t> + w_aa^T diag(1 - (a<t+1>)^2) dL/da<t+1>   (DL 10.20, 10.21)"""
    return p.w_ya.T @ grad_o_t + p.w_aa.T @ tanh_jacobian(a_next) @ grad_a_next


def tanh_jacobian(a_t):
    """diag(1 - (a<t>)^2): what tanh does to the gradient on its way back, since tanh' = 1 - tanh^2."""
    return np.diag(1 - a_t[:, 0] ** 2)


# --- Backward: the parameters, step by step --------------------------------------------------------------------
# The same parameter is used at every t. Its gradient is a sum over time, and these are the terms of that sum.


def grad_b_y_of_step(grad_o_t):
    """dL/db_y = sum_t dL/do<t>   (DL 10.22)"""
    return grad_o_t


def grad_b_a_of_step(a_t, grad_a_t):
    """dL/db_a = sum_t diag(1 - (a<t>)^2) dL/da<t>   (DL 10.23)"""
    return tanh_jacobian(a_t) @ grad_a_t


def grad_w_ya_of_step(grad_o_t, a_t):
    """dL/dw_ya = sum_t dL/do<t> (a<t>)^T   (DL 10.24)"""
    return grad_o_t @ a_t.T


def grad_w_aa_of_step(a_t, grad_a_t, a_previous):
    """dL/dw_aa = sum_t diag(1 - (a<t>)^2) dL/da<t> (a<t-1>)^T   (DL 10.25, 10.26; erratum E2)"""
    return tanh_jacobian(a_t) @ grad_a_t @ a_previous.T


def grad_w_ax_of_step(a_t, grad_a_t, x_t):
    """dL/dw_ax = sum_t diag(1 - (a<t>)^2) dL/da<t> (x<t>)^T   (DL 10.27, 10.28; erratum E3)"""
    return tanh_jacobian(a_t) @ grad_a_t @ x_t.T


class Backward(NamedTuple):
    """The gradients of one backward pass: of the nodes, of the parameters by step, and of the parameters."""

    o: dict  # t -> dL/do<t>
    a: dict  # t -> dL/da<t>
    steps: dict  # t -> Parameters: the term of step t in each sum over time
    total: Parameters


def backward(p, x, y, values):
    """Back-propagation through time: the nodes in descending order of t, then the parameters."""
    times = sorted(x)
    o = {t: grad_o(values.y_hat[t], y[t]) for t in times}

    last = times[-1]
    a = {last: grad_a_last(p, o[last])}
    for t in reversed(times[:-1]):
        a[t] = grad_a(p, o[t], values.a[t + 1], a[t + 1])

    steps = {
        t: Parameters(
            w_ax=grad_w_ax_of_step(values.a[t], a[t], x[t]),
            w_aa=grad_w_aa_of_step(values.a[t], a[t], values.a[t - 1]),
            w_ya=grad_w_ya_of_step(o[t], values.a[t]),
            b_a=grad_b_a_of_step(values.a[t], a[t]),
            b_y=grad_b_y_of_step(o[t]),
        )
        for t in times
    }
    return Backward(o, a, steps, add(steps.values()))


# --- A batch: a second loop ------------------------------------------------------------------------------------


def sample(arrays, b):
    """Column b of each step's (n, B) array: one sample of a batch."""
    return {t: array[:, [b]] for t, array in arrays.items()}


def batch(p, x, y, a_0):
    """Loss and gradients of a batch, one column of the (n, B) arrays per sample.

    The loss of a batch is the sum of its samples' losses. So the gradients of the nodes stand side by side as
    columns again, and those of the parameters add up. Returns (loss, Backward).
    """
    loss, samples = 0.0, []
    for b in range(a_0.shape[1]):
        x_b, y_b = sample(x, b), sample(y, b)
        values = forward(p, x_b, y_b, a_0[:, [b]])
        loss += values.loss
        samples.append(backward(p, x_b, y_b, values))
    together = Backward(
        o={t: np.hstack([one.o[t] for one in samples]) for t in x},
        a={t: np.hstack([one.a[t] for one in samples]) for t in x},
        steps={t: add([one.steps[t] for one in samples]) for t in x},
        total=add([one.total for one in samples]),
    )
    return loss, together


def add(gradients):
    """The sum of several `Parameters`, name by name."""
    gradients = list(gradients)
    return Parameters(**{name: sum(getattr(one, name) for one in gradients) for name in NAMES})
