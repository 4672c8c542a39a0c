"""From a sequence to another of any length: many-to-many through an encoder and a decoder. Read `writer.py` first."""

from __future__ import annotations

from typing import Any, SupportsFloat

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq.dtypes import Array
from tinygrad_seq.models.cells import State, parts_of
from tinygrad_seq.models.decoder import Decoder
from tinygrad_seq.models.decoding import Hypothesis
from tinygrad_seq.models.layer import Layer
from tinygrad_seq.models.nn import Dropout, Embedding, Linear
from tinygrad_seq.models.sequence_model import checked_tokens, positive
from tinygrad_seq.models.stacks import apart, output_size, recurrent
from tinygrad_seq.models.writer import Beginning, Goal, Writer
from tinygrad_seq.ops.elementwise import tanh
from tinygrad_seq.ops.shape import concatenate


class Bridge(tg.Module):
    """From the encoder's last states to the decoder's first, layer by layer.

    Those of one direction are handed on as they are (Sutskever et al., 2014). Of two directions,
    s<init> = tanh([forward, backward] W + b) for each array of a state, after Bahdanau et al. (2015, appendix A.2.2), who
    take the backward one alone.

    Args:
        encoder: whose states they are.
        sizes: the length of each array of a state.
    """

    def __init__(self, encoder: Layer, sizes: list[int]) -> None:
        layers = len(encoder.cells) // 2 if encoder.directions == 2 else 0
        self.linear = [[Linear(2 * size, size) for size in sizes] for _ in range(layers)]

    def forward(self, state: State) -> list[State]:
        """The encoder's state -> one for each of the decoder's cells."""
        states = apart(state)
        if not self.linear:
            return states
        return [self._joined(*each) for each in zip(self.linear, states[::2], states[1::2])]

    def _joined(self, linear: list[Linear], forward: State, backward: State) -> State:
        sides = zip(linear, parts_of(forward), parts_of(backward))
        parts = tuple([tanh(each(concatenate([a, b], axis=-1))) for each, a, b in sides])  # (B, H) each
        return parts if len(parts) > 1 else parts[0]


class EncoderDecoder(Writer):
    """Reads a sequence of tokens and writes another: many-to-many of different lengths.

    The encoder's last state is all that the decoder is given; with attention it also looks at the encoder's outputs of all
    steps, anew at each step of its own. The equations of a step are those of `Decoder`.

    Args:
        source_vocabulary, target_vocabulary: how many tokens there are to read and to write. The start and the end of a
            sequence need none of them: the model has its own.
        hidden_size: H, of the encoder (of each direction) and of the decoder.
        embedding_size: the length of a token's vector; H by default.
        cell: "rnn", "gru", "lstm", or the class of a cell or layer.
        num_layers: of the encoder, and of the decoder.
        bidirectional: whether the encoder reads from both ends.
        attention: None, "bahdanau", "luong", or one of Luong's scores "dot", "general" (which "luong" means), "concat".
        dropout: on embeddings, between layers and before the readout.
        max_length: the longest target, and the most tokens that are written.
        batch_first: whether arrays are (B, T) instead of (T, B).

    Shapes:
        source (S, B), lengths (B,) from 1 to S; target (T, B), target_lengths (B,) from 1 to T: integers.

    K. Cho et al., "Learning phrase representations using RNN encoder-decoder" (2014); I. Sutskever, O. Vinyals & Q. Le,
    "Sequence to sequence learning with neural networks" (2014); for attention see `attention.py`.

    Example:
        >>> import numpy as np
        >>> from tinygrad_seq.models import EncoderDecoder
        >>> model = EncoderDecoder(10, 6, hidden_size=8, bidirectional=True, attention="bahdanau", max_length=5)
        >>> source, target = np.arange(8).reshape(4, 2), np.arange(6).reshape(3, 2)
        >>> model.loss(source, target, lengths=[4, 3], target_lengths=[2, 3]).shape
        ()
        >>> len(model.predict(source, lengths=[4, 3], beam=3))
        2
    """

    def __init__(
        self,
        source_vocabulary: int,
        target_vocabulary: int,
        hidden_size: int,
        *,
        embedding_size: int | None = None,
        cell: Any = "lstm",
        num_layers: int = 1,
        bidirectional: bool = False,
        attention: str | None = None,
        dropout: float = 0.0,
        max_length: int = 100,
        batch_first: bool = False,
    ) -> None:
        positive(source_vocabulary=source_vocabulary, target_vocabulary=target_vocabulary)
        positive(hidden_size=hidden_size, max_length=max_length)
        if isinstance(cell, tg.Module):
            raise TypeError("cell is a name or a class here, since an encoder and a decoder are made of it")
        D = hidden_size if embedding_size is None else embedding_size
        self.source_vocabulary = source_vocabulary
        self.target_vocabulary = target_vocabulary
        self.max_length = max_length
        self.batch_first = batch_first
        self.embedding = Embedding(source_vocabulary, D)
        self.dropout = Dropout(dropout)
        self.encoder = recurrent(cell, D, hidden_size, num_layers, bidirectional, dropout)
        M = output_size(self.encoder, D)
        self.decoder = Decoder(target_vocabulary, D, hidden_size, cell, num_layers, dropout, attention, M)
        self.bridge = Bridge(self.encoder, [part.shape[-1] for part in parts_of(self.decoder.start(1)[0])])

    def encode(self, source: Any, lengths: Any = None) -> Beginning:
        """Read: what the decoder starts with, and what it looks at."""
        tokens, valid = checked_tokens(self._time_first(source), self.source_vocabulary, lengths, "source tokens")
        with tg.scope("encoder", part="encoder"):
            with tg.scope("embedding", time_axis=0):
                x = self.dropout(self.embedding(tokens))  # (S, B, D)
            outputs, state = self.encoder(x, lengths=lengths)
        with tg.scope("bridge"):
            states = self.bridge(state)
        if self.decoder.attention is None:
            return Beginning(states, None, tokens.shape[1])
        with tg.scope("memory", time_axis=0, part="encoder"):
            return Beginning(states, self.decoder.attention.remember(outputs, valid), tokens.shape[1])

    def forward(
        self,
        source: Any,
        target: Any,
        lengths: Any = None,
        target_lengths: Any = None,
        *,
        teacher: SupportsFloat = 1.0,
        choose: str = "sample",
    ) -> Any:
        """Logits (T + 1, B, V + 1) of each target token and, behind the last, of the end, which is class V."""
        begin, goal = self._both(source, target, lengths, target_lengths)
        return self._as_given(self._logits(self._follow(begin, goal, teacher, choose)))

    def loss(
        self,
        source: Any,
        target: Any,
        lengths: Any = None,
        target_lengths: Any = None,
        *,
        teacher: SupportsFloat = 1.0,
        choose: str = "sample",
        **options: Any,
    ) -> tg.Tensor:
        """Mean cross-entropy over all target tokens and ends.

        Args:
            source, target, lengths, target_lengths: see the class.
            teacher: the probability that a step of the decoder reads the target before it, or a schedule: 1 is teacher forcing,
                0 free running; see `forcing.py`.
            choose: "sample" or "best", what it reads else of what it has said.
            **options: of `tg.losses.cross_entropy`: weight, label_smoothing, reduction; classes are the V tokens and the end.

        Raises:
            TypeError, IndexError, ShapeError: tokens or lengths that are none, or a target longer than `max_length`.
        """
        begin, goal = self._both(source, target, lengths, target_lengths)
        logits = self._logits(self._follow(begin, goal, teacher, choose))
        return tg.losses.cross_entropy(logits, goal.tokens, mask=goal.valid, **options)

    def log_probability(self, source: Any, target: Any, lengths: Any = None, target_lengths: Any = None) -> Array:
        """(B,): log p(target and its end | source), by teacher forcing."""
        with self.predicting():
            return self._log_probability(*self._both(source, target, lengths, target_lengths))

    def alignment(self, source: Any, target: Any, lengths: Any = None, target_lengths: Any = None) -> Array:
        """(T + 1, S, B): how much each step of the decoder, by teacher forcing, looks at each step of the encoder."""
        if self.decoder.attention is None:
            raise TypeError("a model without attention has no alignment")
        with self.predicting():
            steps = self._follow(*self._both(source, target, lengths, target_lengths))
        return np.stack([said.weights.data for said in steps])

    def predict(
        self,
        source: Any,
        lengths: Any = None,
        *,
        beam: int = 1,
        length_penalty: float = 0.0,
        max_length: int | None = None,
    ) -> list[Array]:
        """For each row the tokens of the best target that is found, (n,) each.

        Args:
            source, lengths: see the class.
            beam, length_penalty: of the search, see `decoding.beam_search`; a beam of 1 is greedy.
            max_length: the most tokens to write; the model's by default.
        """
        found = self.search(source, lengths, beam=beam, length_penalty=length_penalty, n_best=1, max_length=max_length)
        return [best.tokens for (best,) in found]

    def search(
        self,
        source: Any,
        lengths: Any = None,
        *,
        beam: int = 4,
        length_penalty: float = 0.0,
        n_best: int | None = None,
        max_length: int | None = None,
    ) -> list[list[Hypothesis]]:
        """For each row the targets found by `decoding.beam_search`, best first; arguments as there and for `predict`."""
        with self.predicting():
            return self._searched(self.encode(source, lengths), beam, length_penalty, n_best, max_length)

    def sample(
        self,
        source: Any,
        lengths: Any = None,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        max_length: int | None = None,
    ) -> list[Hypothesis]:
        """For each row a target at random; arguments as for `decoding.sample` and `predict`."""
        with self.predicting():
            return self._sampled(self.encode(source, lengths), temperature, top_k, max_length)

    def _both(self, source: Any, target: Any, lengths: Any, target_lengths: Any) -> tuple[Beginning, Goal]:
        """Source and target, checked and read."""
        goal = self._goal(target, target_lengths)
        given = np.shape(self._time_first(source))
        if len(given) == 2 and given[1] != goal.tokens.shape[1]:
            raise tg.ShapeError(f"source and target have as many rows, not the shapes {np.shape(source)} and {np.shape(target)}")
        return self.encode(source, lengths), goal
