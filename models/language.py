"""A language model: how probable each token is to follow those before it. Read `sequence_model.py` first."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq import init
from tinygrad_seq.dtypes import Array
from tinygrad_seq.models.cells import State
from tinygrad_seq.models.decoding import Hypothesis, Step, beam_search, sample
from tinygrad_seq.models.nn import Dropout, Embedding
from tinygrad_seq.models.sequence_model import SequenceModel, checked_tokens, positive
from tinygrad_seq.models.stacks import apart, forward_only, one_step, output_size, recurrent, start
from tinygrad_seq.tensor import as_array
from tinygrad_seq.truncated import counted_from


class LanguageModel(SequenceModel):
    """Reads tokens and says after each what comes next: p(y<0>, ..., y<T-1>) = product of p(y<t> | y<0>, ..., y<t-1>).

        h<t> = layers(E y<0>, ..., E y<t>),   o<t> = h<t> W + b,   p(y<t+1> | ...) = softmax(o<t>)

    Args:
        vocabulary_size: V.
        embedding_size: the length D of a token's vector.
        hidden_size: H.
        num_layers, cell: as for `SequenceTagger`; one direction, since the future is what is guessed.
        dropout: on embeddings, between layers, and before the readout.
        tie_weights: whether the readout's W is the transposed table of embeddings, for which D = H (Press & Wolf, "Using the
            output embedding to improve language models", 2017).
        batch_first: whether arrays are (B, T) instead of (T, B).

    Shapes:
        tokens, targets (T, B) integers in range(V); states as the layers have them: (num_layers, B, H), an LSTM's a pair.

    A long text is read in pieces, and the state carried on:

    Example:
        >>> import numpy as np, tinygrad_seq as tg
        >>> from tinygrad_seq.models import LanguageModel
        >>> model = LanguageModel(vocabulary_size=5, embedding_size=4, hidden_size=8)
        >>> x = np.arange(48).reshape(24, 2) % 5
        >>> for window in tg.bptt.Truncated(k1=12)(x[:-1], x[1:]):
        ...     loss, state = model.loss(*window, state=window.state)
        ...     loss.backward()
        ...     state = window.carry(state)
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        cell: Any = "lstm",
        dropout: float = 0.0,
        tie_weights: bool = False,
        batch_first: bool = False,
    ) -> None:
        positive(vocabulary_size=vocabulary_size, embedding_size=embedding_size, hidden_size=hidden_size)
        self.vocabulary_size = vocabulary_size
        self.batch_first = batch_first
        self.embedding = Embedding(vocabulary_size, embedding_size)
        layers = recurrent(cell, embedding_size, hidden_size, num_layers, dropout=dropout)
        self.layers = forward_only(layers, "what comes next is what a language model guesses")
        H = output_size(self.layers, embedding_size)
        if tie_weights and embedding_size != H:
            raise ValueError(f"tie_weights needs embeddings as long as the layers' outputs, got {embedding_size} and {H}")
        self.dropout = Dropout(dropout)
        self.W = None if tie_weights else tg.Parameter(init.xavier_uniform((H, vocabulary_size)))
        self.b = tg.Parameter(init.zeros((vocabulary_size,)))
        if tie_weights:
            self.embedding.W.overwrite(init.normal((vocabulary_size, H), H**-0.5))  # N(0, 1) would make large logits

    def forward(self, tokens: Any, state: State | None = None, lengths: Any = None) -> tuple[Any, State]:
        """(logits (T, B, V) of what comes after each step, the state after the last real one)."""
        with counted_from(state):
            logits, last, _ = self._run(tokens, state, lengths)
            return self._as_given(logits), last

    def loss(
        self,
        tokens: Any,
        targets: Any = None,
        state: State | None = ...,
        lengths: Any = None,
        mask: Any = None,
        **options: Any,
    ) -> Any:
        """Mean cross-entropy over all real steps, in nats; divided by log 2 it is in bits.

        Args:
            tokens, targets: what is read, and what comes after each step. Without targets, each token's is the next one,
                and `tokens` (T + 1, B) has one step more than is read; so has each row's length.
            state: to start with, for texts that are read in pieces; None for zeros. Whoever gives one gets one back: the result
                is (loss, state) then. `tg.bptt.Truncated` and `tg.fit(carry=True)` cut it off from the last piece's graph.
            lengths: (B,), how many steps are real.
            mask: (T, B) truth values, which of the real targets count; all by default.
            **options: of `tg.losses.cross_entropy`: weight, label_smoothing, ignore_index, reduction.
        """
        if targets is None:
            tokens, targets, lengths = self._shifted(tokens, lengths)
        first = None if state is ... else state
        with counted_from(first):
            logits, last, valid = self._run(tokens, first, lengths)
            loss = tg.losses.cross_entropy(logits, self._time_first(targets), mask=self._counting(mask, valid), **options)
        return loss if state is ... else (loss, last)

    def predict(self, tokens: Any, state: State | None = None, lengths: Any = None) -> Array:
        """The most probable token after each step, (T, B) int64; -1 beyond a row's end."""
        with self.predicting():
            logits, _, valid = self._run(tokens, state, lengths)
        best: Array = logits.data.argmax(axis=-1)
        return self._as_given(best if valid is None else np.where(valid, best, -1))  # type: ignore[no-any-return]

    def generate(
        self,
        prompt: Any,
        length: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        end: int | None = None,
        state: State | None = None,
    ) -> list[Array]:
        """Write on from a prompt, token by token, each drawn by its probability.

        Args:
            prompt: (T, B) integers.
            length: how many tokens to write, if `end` is not among them.
            temperature, top_k: see `decoding.sample`; a temperature of 0 is greedy.
            end: the token at which a row stops.
            state: before the prompt; zeros by default.

        Returns:
            For each row what was written, without the prompt and the end, (n,).
        """
        with self.predicting():
            step, states, last = self._after(prompt, state)
            return [found.tokens for found in sample(step, states, last, length, end, temperature, top_k)]

    def search(
        self,
        prompt: Any,
        length: int,
        *,
        beam: int = 4,
        length_penalty: float = 0.0,
        n_best: int | None = None,
        end: int | None = None,
    ) -> list[list[Hypothesis]]:
        """The most probable continuations of a prompt, best first; see `generate` and `decoding.beam_search`."""
        with self.predicting():
            step, states, last = self._after(prompt, None)
            return beam_search(step, states, last, length, end, beam, length_penalty, n_best)

    def _run(self, tokens: Any, state: State | None, lengths: Any) -> tuple[Any, State, Array | None]:
        """Time-first logits, the last state, and which steps are real."""
        array, valid = checked_tokens(self._time_first(tokens), self.vocabulary_size, lengths)
        with tg.scope("embedding", time_axis=0):
            x = self.dropout(self.embedding(array))  # (T, B, D)
        outputs, state = self.layers(x, state, lengths)
        W = self._readout()
        with tg.scope("readout", time_axis=0, role="readout"):
            return self.dropout(outputs) @ W + self.b, state, valid

    def _readout(self) -> Any:
        """W, (H, V): a matrix and no array over time, so not computed in the scope of the product."""
        if self.W is not None:
            return self.W
        with tg.scope("tied"):
            return self.embedding.W.T

    def _shifted(self, tokens: Any, lengths: Any) -> tuple[Any, Any, Any]:
        """(what is read, what comes next, its lengths) of tokens alone."""
        array = as_array(self._time_first(tokens))
        if array.ndim != 2 or len(array) < 2:
            raise tg.ShapeError(f"without targets, two steps of tokens are needed at least, not the shape {array.shape}")
        real = checked_tokens(array, self.vocabulary_size, lengths)[1]
        if real is not None and not real[1].all():
            raise tg.ShapeError(f"without targets, each row needs a length of at least 2, not {np.asarray(lengths).tolist()}")
        shorter = None if lengths is None else as_array(lengths) - 1
        return self._as_given(array[:-1]), self._as_given(array[1:]), shorter

    def _after(self, prompt: Any, state: State | None) -> tuple[Step, list[State], Array]:
        """For decoding: a step, the states before the prompt's last token, and that token."""
        tokens, _ = checked_tokens(self._time_first(prompt), self.vocabulary_size, None, "the prompt's tokens")
        if len(tokens) > 1:
            state = self._run(self._as_given(tokens[:-1]), state, None)[1]
        states = start(self.layers, tokens.shape[1]) if state is None else apart(state)
        clock, W = count(len(tokens) - 1), self._readout()

        def step(last: Array, states: list[State]) -> tuple[Any, list[State]]:
            t = next(clock)
            with tg.scope("embedding", t=t):
                x = self.embedding(last)
            h, states = one_step(self.layers, x, states, t)
            with tg.scope("readout", t=t, role="readout"):
                return tg.log_softmax(h @ W + self.b), states

        return step, states, tokens[-1]
