"""The README's table for those who come from PyTorch: each row has a check here, which runs what it says of this side.

What it says of PyTorch's side was tried with PyTorch 2.13. A row without a check, or a check without a row, fails.
"""

import re
from pathlib import Path

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import interop
from tinygrad_seq.models import LSTM, Linear

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("## Coming from PyTorch")[2].partition("\n## ")[0]
CELLS = [row.split(" | ") for row in re.findall(r"^\| (\S.*) \|$", SECTION, re.MULTILINE)[2:]]
ROWS = {topic: here for topic, _, here in CELLS}
CHECKS = {}


def row(topic):
    """Say which row a function checks."""
    return lambda check: CHECKS.setdefault(topic, check)


@row("gradients")
def _():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    y.retain_grad()
    y.sum().backward(retain_graph=True)
    assert x.grad.numpy().tolist() == [2, 4] and y.grad.numpy().tolist() == [1, 1]
    y.sum().backward(create_graph=True)
    assert x.grad.numpy().tolist() == [4, 8] and x.grad.requires_grad  # they add up
    with tg.no_grad():
        assert not (x * x).requires_grad
    assert not y.detach().requires_grad


@row("functions")
def _():
    x = tg.tensor([[0.5, 1.0]], requires_grad=True)
    assert np.tanh(x).requires_grad and np.concatenate([x, x]).shape == (2, 2)
    np.testing.assert_allclose(tg.softmax(x, axis=-1).numpy().sum(), 1, rtol=1e-6)
    assert not hasattr(np, "softmax")


@row("axes")
def _():
    assert tg.tensor(np.ones((2, 3))).sum(axis=1, keepdims=True).shape == (2, 1)


@row("dtypes")
def _():
    assert tg.tensor([1.0]).dtype == np.float32 and tg.tensor(1.0).dtype == np.float32
    assert tg.tensor(np.zeros(3)).dtype == np.float64 and tg.tensor(np.zeros(3, np.float16)).dtype == np.float16


@row("devices")
def _():
    with pytest.raises(AttributeError, match="there are no devices"):
        tg.tensor([1.0]).to("cuda")


@row("writing in place")
def _():
    x = before = tg.tensor([1.0, 2.0])
    with pytest.raises(TypeError, match=r"x\.at\[index\]\.set"):
        x[0] = 1
    with pytest.raises(AttributeError, match="not written in place"):
        x.add_(1)
    assert x.at[0].set(5).numpy().tolist() == [5, 2]
    x = x + 1
    assert x.numpy().tolist() == [2, 3] and before.numpy().tolist() == [1, 2]


@row("new values for a parameter")
def _():
    w = tg.Parameter([1.0, 2.0])
    w.overwrite(np.array([3.0, 4.0]))
    assert w.numpy().tolist() == [3, 4] and w.requires_grad


@row("modules")
def _():
    class Both(tg.Module):
        def __init__(self):
            self.parts = [Linear(2, 3), Linear(3, 1)]
            self.by_name = {"w": tg.Parameter([1.0])}

    assert [name for name, _ in Both().named_parameters()] == ["by_name.w", "parts.0.W", "parts.0.b", "parts.1.W", "parts.1.b"]


@row("linear layers")
def _():
    layer, x = Linear(3, 2), np.ones((4, 3), np.float32)
    assert layer.W.shape == (3, 2)
    np.testing.assert_array_equal(layer(x).numpy(), (x @ layer.W + layer.b).numpy())


@row("recurrent layers")
def _():
    outputs, (h, c) = LSTM(3, 4, num_layers=2)(np.zeros((5, 2, 3), np.float32))
    assert (outputs.shape, h.shape, c.shape) == ((5, 2, 4), (2, 2, 4), (2, 2, 4))
    assert LSTM(3, 4, batch_first=True)(np.zeros((2, 5, 3), np.float32))[0].shape == (2, 5, 4)
    assert [name for name, _ in LSTM(3, 4).named_parameters()] == ["cells.0.W_x", "cells.0.W_h", "cells.0.b"]


@row("padding")
def _():
    lstm, x = LSTM(3, 4), np.ones((5, 2, 3), np.float32)
    _, (h, _) = lstm(x, lengths=[5, 3])
    np.testing.assert_array_equal(h.numpy()[0, 1], lstm(x[:3])[1][0].numpy()[0, 1])


@row("cross-entropy")
def _():
    logits, classes = np.zeros((5, 2, 3), np.float32), np.zeros((5, 2), int)  # (T, B, C)
    assert tg.losses.cross_entropy(logits, classes).item() == pytest.approx(np.log(3))
    classes[0] = -100
    with pytest.raises(IndexError, match="ignore_index=-100"):
        tg.losses.cross_entropy(logits, classes)
    logits[0] = np.nan
    for options in (dict(ignore_index=-100), dict(mask=classes >= 0)):
        assert tg.losses.cross_entropy(logits, classes, **options).item() == pytest.approx(np.log(3))


@row("optimisers")
def _():
    assert tg.optim.Adam(Linear(2, 1).parameters()).settings == dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0)
    assert tg.optim.AdamW(Linear(2, 1).parameters()).settings["weight_decay"] == 1e-2
    with pytest.raises(TypeError, match="make an optimiser for each"):
        tg.optim.Adam([{"params": []}])


@row("learning rates")
def _():
    optimizer = tg.optim.SGD(Linear(2, 1).parameters(), lr=1.0)
    schedule = tg.optim.StepSchedule(optimizer, 10)
    for _ in range(10):
        schedule.step()
    assert optimizer.lr == pytest.approx(0.1)


@row("clipping")
def _():
    a, b = tg.Parameter([1.0]), tg.Parameter([1.0])
    a.grad, b.grad = tg.tensor([np.nan]), tg.tensor([7.0])
    with pytest.raises(FloatingPointError, match="nan"):
        tg.optim.clip_grad_norm_([a, b], 1.0)
    assert b.grad.item() == 7


@row("saving")
def _():
    model, other = Linear(2, 1), Linear(2, 1)
    tg.save("model.safetensors", model, tg.optim.Adam(model.parameters()))
    tg.load("model.safetensors", other, tg.optim.Adam(other.parameters()))
    np.testing.assert_array_equal(other.W.numpy(), model.W.numpy())


@row("functions' derivatives")
def _():
    x = np.array([1.0, 2.0])

    def cubes(x):
        return (x**3).sum()

    assert tg.grad(cubes)(x).numpy().tolist() == [3, 12]
    assert tg.vjp(cubes, x)[1](1.0)[0].numpy().tolist() == [3, 12]
    assert tg.jvp(cubes, (x,), (np.ones(2),))[1].item() == 15
    assert tg.hessian(cubes)(x).numpy().tolist() == [[6, 0], [0, 12]]


@row("branches not taken")
def _():
    x = tg.tensor([0.0, 4.0], requires_grad=True)
    np.where(x > 0, np.sqrt(x), 0).sum().backward()
    assert x.grad.numpy().tolist() == [0, 0.25]


@row("weights made there")
def _():
    lstm = LSTM(3, 4)
    state = interop.to_torch(lstm)
    assert set(state) == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}
    other = LSTM(3, 4)
    interop.load_torch(other, state)
    np.testing.assert_array_equal(other.cells[0].W_x.numpy(), lstm.cells[0].W_x.numpy())


@pytest.mark.parametrize("topic", ROWS)
def test_a_row_is_true(topic, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    CHECKS[topic]()


def test_every_check_has_its_row():
    assert CHECKS.keys() == ROWS.keys()
    assert len(ROWS) > 15


def test_what_the_rows_name_is_there():
    """`tg.`, `np.` and `interop.` names of the right column."""
    for here in ROWS.values():
        for root, path in re.findall(r"\b(tg|np|interop)\.(\w+(?:\.\w+)*)", here):
            thing = {"tg": tg, "np": np, "interop": interop}[root]
            for name in path.split("."):
                thing = getattr(thing, name)


def test_the_dtype_rule():
    """The paragraph below the table."""
    assert "tg.set_default_dtype" in SECTION
    before = tg.default_dtype()
    try:
        tg.set_default_dtype("float64")
        assert tg.tensor([1.0]).dtype == np.float64
        assert tg.tensor(np.zeros(3, np.float32)).dtype == np.float32
    finally:
        tg.set_default_dtype(before)
    for dtype in (np.float16, np.float32, np.float64):
        assert (tg.tensor(np.ones(2, dtype)) * 2.5).dtype == dtype
    assert (tg.tensor(np.ones(2)) * tg.tensor([1.0, 2.0])).dtype == np.float64
