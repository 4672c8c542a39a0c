"""Recurrent layers in all their forms, for comparing with another library on the same weights and inputs.

A `Case` says which layer; `ours` runs it on arrays by name, and PyTorch's counterpart is in `tests/oracle`. What they give is a
dict of arrays: outputs, the last states, and the gradients of a weighted sum of these with respect to everything.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq import interop
from tinygrad_seq.models import GRU, LSTM, RNN

Arrays = dict[str, Any]
T, B, I, H = 4, 3, 2, 3
KINDS = {"RNN": RNN, "GRU": GRU, "LSTM": LSTM}
LENGTHS = (None, (4, 1, 3), (0, 4, 2), (4, 4, 4), (1, 1, 1))


class Case(NamedTuple):
    """A layer, by PyTorch's name and arguments, and how many steps of each row are real."""

    kind: str
    num_layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    batch_first: bool = False
    nonlinearity: str = "tanh"
    proj_size: int = 0
    lengths: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        """`LSTM(num_layers=2, proj_size=2)`: what is not the default."""
        told = [f"{key}={value}" for key, value in self._asdict().items() if value != self._field_defaults.get(key, self.kind)]
        return f"{self.kind}({', '.join(told)})"

    @property
    def arguments(self) -> dict[str, Any]:
        """For the constructor, here and in PyTorch."""
        common = dict(
            input_size=I, hidden_size=H, num_layers=self.num_layers, bidirectional=self.bidirectional, bias=self.bias,
            batch_first=self.batch_first,
        )  # fmt: skip
        if self.kind == "RNN":
            return common | dict(nonlinearity=self.nonlinearity)
        return common | (dict(proj_size=self.proj_size) if self.kind == "LSTM" else {})

    def layer(self) -> Any:
        """Ours, in float64; a GRU as PyTorch has it."""
        layer = KINDS[self.kind](**self.arguments, **(dict(reset_after=True) if self.kind == "GRU" else {}))
        return layer.to(np.float64)

    def inputs(self, seed: int = 0) -> Arrays:
        """x, the initial states, and weights by PyTorch's names."""
        rng = np.random.default_rng(seed)
        cells = self.num_layers * (2 if self.bidirectional else 1)
        states = {"h_0": (cells, B, self.proj_size or H)} | ({"c_0": (cells, B, H)} if self.kind == "LSTM" else {})
        shapes = {"x": (B, T, I) if self.batch_first else (T, B, I)} | states
        weights = {name: array.shape for name, array in interop.to_torch(self.layer()).items()}
        return {name: rng.normal(size=shape) * 0.7 for name, shape in (shapes | weights).items()}


def grid() -> Iterator[Case]:
    """Every combination."""
    choices = product(KINDS, (1, 2), (False, True), (True, False), (False, True), LENGTHS)
    for kind, layers, both, bias, batch_first, lengths in choices:
        case = Case(kind, layers, both, bias, batch_first, lengths=lengths)
        yield case
        if kind == "RNN":
            yield case._replace(nonlinearity="relu")
        if kind == "LSTM":
            yield case._replace(proj_size=2)


def few() -> list[Case]:
    """So many that every argument has every value with every kind: what is recorded."""
    found = []
    for kind in KINDS:
        extra = {"RNN": dict(nonlinearity="relu"), "LSTM": dict(proj_size=2), "GRU": {}}[kind]
        found += [
            Case(kind),
            Case(kind, lengths=(4, 1, 3), **extra),
            Case(kind, num_layers=2, bidirectional=True, lengths=(1, 4, 2), **extra),
            Case(kind, bidirectional=True, bias=False, batch_first=True, lengths=(0, 4, 2)),
            Case(kind, num_layers=2, batch_first=True, lengths=(4, 4, 4)),
            Case(kind, num_layers=2, bidirectional=True, lengths=(1, 1, 1), **extra),
        ]
    return found


def weights_like(values: Any) -> Any:
    """What a value is weighted with in the sum whose gradients are taken."""
    return np.cos(np.arange(np.size(values)) * 1.7).reshape(np.shape(values))


def ours(case: Case, inputs: Arrays, padding: float = np.nan) -> Arrays:
    """What our layer gives, with this number in all of the padding."""
    layer = case.layer()
    leaves = {name: tg.tensor(inputs[name], requires_grad=True) for name in ("x", "h_0", "c_0") if name in inputs}
    x = leaves["x"]
    if case.lengths is not None:
        beyond = np.arange(T)[:, None] >= np.array(case.lengths)
        x.overwrite(np.where((beyond.T if case.batch_first else beyond)[:, :, None], padding, x.data))
    interop.load_torch(layer, {name: array for name, array in inputs.items() if name not in leaves})
    state = (leaves["h_0"], leaves["c_0"]) if "c_0" in leaves else leaves["h_0"]
    outputs, state = layer(x, state, lengths=case.lengths)
    results = {"outputs": outputs} | dict(zip(("h_n", "c_n"), state if isinstance(state, tuple) else (state,)))
    loss = sum(((result * weights_like(result)).sum() for result in results.values()), start=0.0)
    loss.backward()
    gradients = {name: leaf.grad.data for name, leaf in leaves.items()} | interop.to_torch_grads(layer)
    return {name: result.data for name, result in results.items()} | {f"d {name}": g for name, g in gradients.items()}


def assert_same(found: Arrays, expected: Arrays) -> None:
    """Equal to 1e-9, under the same names."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-9, err_msg=name)
