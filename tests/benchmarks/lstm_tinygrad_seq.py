"""The LSTM training step on our tape: the contestant that the targets are about.

Like PyTorch it is given its better spelling: iterating over `xw` reads all rows in one operation (`unstack`).
`indexed=True` keeps the literal `xw[t]`, which must not cost more per step in a longer sequence.
"""

import tinygrad_seq as tg

NAME = f"tinygrad_seq {tg.__version__}" if hasattr(tg, "__version__") else "tinygrad_seq"


def loss_of(problem, W_x, W_h, b, hoisted, indexed=False):
    """The forward pass; W_x, W_h, b are tensors that require a gradient."""
    x, h, c = problem.constants  # arrays: no copies, no gradients
    if hoisted:
        xw = x @ W_x + b  # (T, B, 4H)
        xw = xw if indexed else list(xw)
    loss = 0.0
    for t in range(problem.size.T):
        z = (xw[t] if hoisted else x[t] @ W_x + b) + h @ W_h  # (B, 4H)
        f, u, o, candidate = tg.split(z, 4, axis=1)  # (B, H) each
        c = tg.sigmoid(f) * c + tg.sigmoid(u) * tg.tanh(candidate)
        h = tg.sigmoid(o) * tg.tanh(c)
        loss = loss + (h * h).sum()
    return loss * float(problem.mean)


def parameters_of(problem):
    """Fresh leaves on copies of the problem's parameters."""
    return [tg.tensor(value.copy(), requires_grad=True) for value in problem.parameters]


def training_step(problem, hoisted=True, indexed=False):
    """Forward and backward, once per call."""
    parameters = parameters_of(problem)

    def step():
        for parameter in parameters:
            parameter.zero_grad()
        loss = loss_of(problem, *parameters, hoisted, indexed)
        loss.backward()
        return loss.data, [parameter.grad.data for parameter in parameters]

    return step
