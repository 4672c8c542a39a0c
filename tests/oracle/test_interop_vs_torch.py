"""Cells and simple layers beside PyTorch's own, through `interop`: weights there and back, answers, gradients by name."""

import numpy as np
import pytest
import torch

import tinygrad_seq as tg
from tinygrad_seq import interop, models

I, H, B = 3, 4, 5

PAIRS = {
    "RNNCell": (lambda: models.RNNCell(I, H), lambda: torch.nn.RNNCell(I, H)),
    "RNNCell relu": (lambda: models.RNNCell(I, H, nonlinearity="relu"), lambda: torch.nn.RNNCell(I, H, nonlinearity="relu")),
    "GRUCell": (lambda: models.GRUCell(I, H, reset_after=True), lambda: torch.nn.GRUCell(I, H)),
    "GRUCell without bias": (lambda: models.GRUCell(I, H, False, reset_after=True), lambda: torch.nn.GRUCell(I, H, False)),
    "LSTMCell": (lambda: models.LSTMCell(I, H), lambda: torch.nn.LSTMCell(I, H)),
    "Linear": (lambda: models.Linear(I, H), lambda: torch.nn.Linear(I, H)),
    "Embedding": (lambda: models.Embedding(I, H, padding_index=1), lambda: torch.nn.Embedding(I, H, padding_idx=1)),
    "LayerNorm": (lambda: models.LayerNorm(I), lambda: torch.nn.LayerNorm(I)),
}


def arguments(kind):
    rng = np.random.default_rng(0)
    if kind == "Embedding":
        return [np.array([0, 1, 2, 2])]
    x, h, c = rng.normal(size=(B, I)), rng.normal(size=(B, H)), rng.normal(size=(B, H))
    return [x, (h, c)] if kind == "LSTMCell" else [x, h] if "Cell" in kind else [x]


def parts(value):
    return value if isinstance(value, tuple) else (value,)


@pytest.mark.parametrize("kind", PAIRS)
def test_a_layer_loaded_from_pytorch_gives_its_answers(kind):
    ours, theirs = (make() for make in PAIRS[kind])
    ours, theirs = ours.to(np.float64), theirs.double()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn(parameter.shape, dtype=torch.float64))
    interop.load_torch(ours, theirs.state_dict())
    wrapped = [tuple(map(torch.tensor, part)) if isinstance(part, tuple) else torch.tensor(part) for part in arguments(kind)]
    expected, found = parts(theirs(*wrapped)), parts(ours(*arguments(kind)))
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=1e-12, atol=1e-12)
    sum((part**2).sum() for part in expected).backward()
    sum(((part**2).sum() for part in found), start=0.0).backward()
    gradients = interop.to_torch_grads(ours)
    assert gradients.keys() == dict(theirs.named_parameters()).keys()
    for name, parameter in theirs.named_parameters():
        np.testing.assert_allclose(gradients[name], parameter.grad.numpy(), rtol=1e-10, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("kind", PAIRS)
def test_pytorch_takes_what_comes_out(kind):
    ours, theirs = (make() for make in PAIRS[kind])
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in interop.to_torch(ours).items()})
    wrapped = [
        tuple(torch.tensor(p, dtype=torch.float32) for p in part) if isinstance(part, tuple)
        else torch.tensor(part, dtype=None if part.dtype.kind == "i" else torch.float32)
        for part in arguments(kind)
    ]  # fmt: skip
    with tg.no_grad():
        found = parts(ours(*arguments(kind)))
    for a, b in zip(found, parts(theirs(*wrapped))):
        np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=1e-4, atol=1e-5)
