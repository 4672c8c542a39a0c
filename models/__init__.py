"""Cells, recurrent layers and sequence models, on the operations of the engine only.

Read `cells.py` (what a cell is), `gated.py` (those that learn what to keep), `loop.py` (a cell over time), `layer.py` and
`layers.py` (loops on top of each other), in this order; `nn.py` has the layers without a memory.

Then the models: `sequence_model.py` (what they share), `stacks.py` (how they are told their layers), `sequences.py` (labels for a
sequence), `language.py`; `forcing.py` (who feeds a network that reads its last output) with `feedback.py` and
`forecaster.py`; and those that write: `decoding.py` (how the best is found), `attention.py`, `decoder.py`, `writer.py`,
`generators.py` and `encoder_decoder.py`.
"""

from tinygrad_seq.models import decoding, forcing
from tinygrad_seq.models.attention import BahdanauAttention, LuongAttention
from tinygrad_seq.models.cells import OutputRNNCell, RNNCell
from tinygrad_seq.models.encoder_decoder import EncoderDecoder
from tinygrad_seq.models.feedback import FeedbackTagger, fed_back, teacher_forced
from tinygrad_seq.models.forecaster import Forecaster
from tinygrad_seq.models.gated import (
    CoupledLSTMCell,
    GRUCell,
    LayerNormLSTMCell,
    LSTMCell,
    PeepholeLSTMCell,
    SimplifiedGRUCell,
)
from tinygrad_seq.models.generators import SequenceGenerator
from tinygrad_seq.models.language import LanguageModel
from tinygrad_seq.models.layers import GRU, LSTM, RNN, Bidirectional, Recurrent
from tinygrad_seq.models.nn import CausalConv1d, Dropout, Embedding, LayerNorm, Linear
from tinygrad_seq.models.sequences import SequenceClassifier, SequenceTagger

__all__ = [
    "RNNCell", "OutputRNNCell", "GRUCell", "SimplifiedGRUCell", "LSTMCell",
    "PeepholeLSTMCell", "CoupledLSTMCell", "LayerNormLSTMCell",
    "RNN", "GRU", "LSTM", "Recurrent", "Bidirectional",
    "Linear", "Embedding", "Dropout", "LayerNorm", "CausalConv1d",
    "SequenceTagger", "SequenceClassifier", "SequenceGenerator", "EncoderDecoder", "LanguageModel", "Forecaster",
    "FeedbackTagger", "BahdanauAttention", "LuongAttention", "decoding", "forcing", "fed_back", "teacher_forced",
]  # fmt: skip
