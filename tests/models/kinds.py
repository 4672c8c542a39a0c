"""Every cell and every layer that the tests run, in float64 and with parameters none of which is zero; and what they are fed."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.models import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    CoupledLSTMCell,
    GRUCell,
    LayerNormLSTMCell,
    LSTMCell,
    OutputRNNCell,
    PeepholeLSTMCell,
    Recurrent,
    RNNCell,
    SimplifiedGRUCell,
)

from .cases import weights_like

T, B, I, H = 5, 2, 3, 4

CELLS = {
    "rnn": lambda: RNNCell(I, H),
    "rnn without bias": lambda: RNNCell(I, H, bias=False),
    "rnn relu": lambda: RNNCell(I, H, nonlinearity="relu"),
    "output rnn": lambda: OutputRNNCell(I, 6, H),
    "output rnn, linear": lambda: OutputRNNCell(I, 6, H, bias=False, output_activation=None),
    "output rnn, sigmoid": lambda: OutputRNNCell(I, 6, H, output_activation="sigmoid"),
    "gru": lambda: GRUCell(I, H),
    "gru reset after": lambda: GRUCell(I, H, reset_after=True),
    "gru reset after, without bias": lambda: GRUCell(I, H, bias=False, reset_after=True),
    "simplified gru": lambda: SimplifiedGRUCell(I, H),
    "lstm": lambda: LSTMCell(I, H),
    "lstm projected": lambda: LSTMCell(I, H, proj_size=2),
    "peephole lstm": lambda: PeepholeLSTMCell(I, H),
    "coupled lstm": lambda: CoupledLSTMCell(I, H),
    "layer norm lstm": lambda: LayerNormLSTMCell(I, H),
    "layer norm lstm without bias": lambda: LayerNormLSTMCell(I, H, bias=False),
}


class LeakyCell(tg.Module):
    """A user's own: no base class of ours, a gate that nobody foresaw, and nothing but its equations."""

    def __init__(self, I, H):
        self.hidden_size = H
        self.W, self.V = (tg.Parameter(tg.init.xavier_uniform((I, H))) for _ in range(2))
        self.U = tg.Parameter(tg.init.orthogonal((H, H)))

    def forward(self, x, h):
        with tg.scope("leak"):
            leak = tg.sigmoid(x @ self.V)
        return leak * h + (1 - leak) * np.tanh(x @ self.W + h @ self.U)


class CountingCell(tg.Module):
    """Another: two arrays of different lengths for a state, an output that is neither, no parameters."""

    def initial_state(self, batch, dtype):
        return np.zeros((batch, 1), dtype), np.ones((batch, I), dtype)

    def step(self, x, state):
        count, product = state
        return x + count, (count + 1, product * x)


LAYERS = {
    **{f"Recurrent, {kind}": lambda kind=kind: Recurrent(CELLS[kind]()) for kind in CELLS},
    **{f"Bidirectional, {kind}": lambda kind=kind: Bidirectional(CELLS[kind]()) for kind in ("rnn", "gru", "lstm")},
    "Bidirectional, output rnn, summed": lambda: Bidirectional(CELLS["output rnn"](), merge="sum"),
    "Recurrent, reverse": lambda: Recurrent(CELLS["gru"](), reverse=True),
    "Recurrent, user's": lambda: Recurrent(LeakyCell(I, H)),
    "Bidirectional, user's": lambda: Bidirectional(LeakyCell(I, H)),
    "RNN": lambda: RNN(I, H, num_layers=2, bidirectional=True),
    "RNN batch first": lambda: RNN(I, H, batch_first=True),
    "GRU": lambda: GRU(I, H, num_layers=2, bidirectional=True),
    "GRU reset after": lambda: GRU(I, H, reset_after=True),
    "LSTM": lambda: LSTM(I, H, num_layers=2, bidirectional=True),
    "LSTM projected": lambda: LSTM(I, H, num_layers=2, proj_size=2),
}

LENGTHS = [(0, 0, 0, 0), (1, 1, 1, 1), (T, T, T, T), (T, 0, 2, 1), (3, 4, 0, 0)]  # of four rows: none, one, all, mixed

every_cell = pytest.mark.parametrize("kind", CELLS)
every_layer = pytest.mark.parametrize("kind", LAYERS)
all_lengths = pytest.mark.parametrize("lengths", LENGTHS, ids=str)


def general(module, seed=0):
    """A module in float64 whose parameters are all of a general kind."""
    rng = np.random.default_rng(seed)
    for parameter in module.to(np.float64).parameters():
        parameter.overwrite(parameter.data + rng.normal(size=parameter.shape) * 0.3)
    return module


def make(kind, seed=0):
    """A cell."""
    tg.manual_seed(seed)
    return general(CELLS[kind](), seed)


def built(kind):
    """A layer."""
    tg.manual_seed(0)
    return general(LAYERS[kind]())


def a_state(cell, rng, rows=(B,)):
    state = tuple(rng.normal(size=(*rows, size)) for size in cell.state_sizes)
    return state if len(state) > 1 else state[0]


def inputs(layer, batch=B, seed=0, steps=T):
    """x, with its axes as the layer wants them."""
    x = np.random.default_rng(seed).normal(size=(steps, batch, I))
    return np.swapaxes(x, 0, 1) if layer.batch_first else x


def beyond(layer, lengths, steps=T):
    """Which entries of an input or output of the layer, (T, B) or (B, T), are padding."""
    padding = np.arange(steps)[:, None] >= np.array(lengths)
    return padding.T if layer.batch_first else padding


def padded(x, layer, lengths):
    """x with NaN in the padding."""
    steps = x.shape[1 if layer.batch_first else 0]
    return np.where(beyond(layer, lengths, steps)[:, :, None], np.nan, x)


def weighted(values):
    """A weighted sum of all entries."""
    return sum(((part * weights_like(part)).sum() for part in values), start=0.0)


def gradients(layer):
    return {name: parameter.grad.data for name, parameter in layer.named_parameters() if parameter.grad is not None}
