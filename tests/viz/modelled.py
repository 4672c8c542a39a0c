"""Recorded runs of our cells and layers, and of a cell that a user might write: what the drawing tests draw besides `runs`."""

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq.models import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    EncoderDecoder,
    LanguageModel,
    OutputRNNCell,
    Recurrent,
    RNNCell,
    SequenceClassifier,
    SequenceGenerator,
    SequenceTagger,
)
from tinygrad_seq.models.gated import (
    CoupledLSTMCell,
    GRUCell,
    LayerNormLSTMCell,
    LSTMCell,
    PeepholeLSTMCell,
    SimplifiedGRUCell,
)

B, I, H = 2, 3, 4

CELLS = {
    "RNN": lambda: RNNCell(I, H),
    "OutputRNN": lambda: OutputRNNCell(I, H, 2),
    "GRU": lambda: GRUCell(I, H),
    "SimplifiedGRU": lambda: SimplifiedGRUCell(I, H),
    "LSTM": lambda: LSTMCell(I, H),
    "Peephole": lambda: PeepholeLSTMCell(I, H),
    "Coupled": lambda: CoupledLSTMCell(I, H),
    "LayerNorm": lambda: LayerNormLSTMCell(I, H),
}


class Leaky(tg.Module):
    """A cell of a user's own: h<t> = l h<t-1> + (1 - l) tanh(x<t> W + h<t-1> U), with l = sigmoid(x<t> V)."""

    def __init__(self):
        self.hidden_size = H
        self.W, self.V = (tg.Parameter(tg.init.xavier_uniform((I, H))) for _ in range(2))
        self.U = tg.Parameter(tg.init.orthogonal((H, H)))

    def step(self, x, h):
        with tg.scope("leak"):
            leak = tg.sigmoid(x @ self.V)
        return leak * h + (1 - leak) * np.tanh(x @ self.W + h @ self.U)


LAYERS = {name: lambda make=make: Recurrent(make()) for name, make in CELLS.items()} | {
    "a user's own": lambda: Recurrent(Leaky()),
    "reverse": lambda: Recurrent(RNNCell(I, H), reverse=True),
    "stack": lambda: LSTM(I, H, num_layers=2),
    "bidirectional": lambda: Bidirectional(GRUCell(I, H)),
    "two layers, two directions": lambda: RNN(I, H, num_layers=2, bidirectional=True),
    "batch first": lambda: GRU(I, H, batch_first=True, reset_after=True),
    "with a projection": lambda: LSTM(I, H, proj_size=2),
}


def recorded(name, T=3, every_step=False, backward=True, lengths=None, seed=0):
    """A tape of a layer over T steps, with a loss at the last step or at every one."""
    tg.manual_seed(seed)
    layer = LAYERS[name]()
    first = getattr(layer, "batch_first", False)
    x = tg.tensor(np.random.default_rng(seed).normal(size=(B, T, I) if first else (T, B, I)), name="x")
    for path, parameter in layer.named_parameters():
        parameter.name = path.split(".")[-1]
    with tg.record() as tape:
        outputs, _ = layer(x, lengths=lengths)
        if every_step:
            with tg.scope("loss", time_axis=0):
                squares = outputs * outputs
            loss = squares.sum()
        else:
            last = outputs[:, -1] if first else outputs[-1]
            loss = (last * last).sum()
        loss.name = "L"
    if backward:
        loss.backward()
    return tape, loss


def _tokens(T, count=5):
    return np.random.default_rng(1).integers(0, count, size=(T, B))


TOPOLOGIES = {
    "tagger": lambda T: (SequenceTagger(5, H, 3, embedding_size=I, cell="rnn"), (_tokens(T), _tokens(T, 3))),
    "tagger, two directions": lambda T: (
        SequenceTagger(I, H, 3, cell="gru", bidirectional=True, batch_first=True),
        (np.random.default_rng(0).normal(size=(B, T, I)), _tokens(T, 3).T),
    ),
    "classifier": lambda T: (SequenceClassifier(5, H, 3, embedding_size=I), (_tokens(T), np.array([0, 2]))),
    "classifier of the mean": lambda T: (
        SequenceClassifier(5, H, 3, embedding_size=I, pool="mean"),
        (_tokens(T), np.array([0, 2])),
    ),
    "generator": lambda T: (SequenceGenerator(3, H, 5, cell="gru"), (np.array([0, 2]), _tokens(T))),
    "encoder-decoder": lambda T: (EncoderDecoder(5, 4, H, cell="rnn"), (_tokens(T), _tokens(max(T - 1, 1), 4))),
    "Bahdanau": lambda T: (
        EncoderDecoder(5, 4, H, attention="bahdanau", cell="gru", bidirectional=True),
        (_tokens(T), _tokens(T, 4)),
    ),
    "Luong": lambda T: (EncoderDecoder(5, 4, H, attention="luong"), (_tokens(T), _tokens(T, 4))),
    "language model": lambda T: (LanguageModel(5, I, H, cell="gru"), (_tokens(T + 1),)),
}


def topology(name, T=3, backward=True):
    """A tape of a model's loss over T steps."""
    tg.manual_seed(0)
    model, arguments = TOPOLOGIES[name](T)
    for path, parameter in model.named_parameters():
        parameter.name = path
    with tg.record() as tape:
        loss = model.loss(*arguments)
        loss.name = "L"
    if backward:
        loss.backward()
    return tape, loss
