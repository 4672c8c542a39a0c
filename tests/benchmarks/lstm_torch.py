"""The LSTM training step in eager PyTorch, op by op: the bar for speed and for memory.

PyTorch is given its better spelling. `xw[t]` costs it a gradient of the size of all of `xw` in every step, zeros
but for one row; `xw.unbind(0)` meets all these gradients in one stack. `indexed=True` keeps the literal `xw[t]`,
which the benchmark lists for comparison.
"""

import torch

NAME = f"PyTorch {torch.__version__}"

torch.set_num_threads(1)


def loss_of(problem, W_x, W_h, b, hoisted, indexed=False):
    """The forward pass; W_x, W_h, b are tensors that require a gradient."""
    x, h, c = constants_of(problem)
    if hoisted:
        xw = x @ W_x + b  # (T, B, 4H)
        xw = xw if indexed else xw.unbind(0)
    loss = 0.0
    for t in range(problem.size.T):
        z = (xw[t] if hoisted else x[t] @ W_x + b) + h @ W_h  # (B, 4H)
        f, u, o, candidate = z.chunk(4, dim=1)  # (B, H) each
        c = torch.sigmoid(f) * c + torch.sigmoid(u) * torch.tanh(candidate)
        h = torch.sigmoid(o) * torch.tanh(c)
        loss = loss + (h * h).sum()
    return loss * float(problem.mean)


def constants_of(problem):
    """The problem's constants as tensors on the same memory."""
    return [torch.from_numpy(constant) for constant in problem.constants]


def parameters_of(problem):
    """Fresh leaves on copies of the problem's parameters."""
    return [torch.tensor(value, requires_grad=True) for value in problem.parameters]


def training_step(problem, hoisted=True, indexed=False):
    """Forward and backward, once per call."""
    parameters = parameters_of(problem)

    def step():
        for parameter in parameters:
            parameter.grad = None
        loss = loss_of(problem, *parameters, hoisted, indexed)
        loss.backward()
        return loss.detach(), [parameter.grad for parameter in parameters]

    return step
