"""Cells, recurrent layers and sequence models, on the operations of the engine only.

Read `cells.py` (what a cell is), `gated.py` (those that learn what to keep), `layers.py` (the loop over time), in this
order; `nn.py` has the layers without a memory.
"""

from tinygrad_seq.models.cells import OutputRNNCell, RNNCell
from tinygrad_seq.models.gated import (
    CoupledLSTMCell,
    GRUCell,
    LayerNormLSTMCell,
    LSTMCell,
    PeepholeLSTMCell,
    SimplifiedGRUCell,
)
from tinygrad_seq.models.layers import GRU, LSTM, RNN, Bidirectional, Recurrent
from tinygrad_seq.models.nn import CausalConv1d, Dropout, Embedding, LayerNorm, Linear

__all__ = [
    "RNNCell", "OutputRNNCell", "GRUCell", "SimplifiedGRUCell", "LSTMCell",
    "PeepholeLSTMCell", "CoupledLSTMCell", "LayerNormLSTMCell",
    "RNN", "GRU", "LSTM", "Recurrent", "Bidirectional",
    "Linear", "Embedding", "Dropout", "LayerNorm", "CausalConv1d",
]  # fmt: skip
