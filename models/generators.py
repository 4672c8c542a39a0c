"""From one thing to a sequence: one-to-many, the output fed back. Read `writer.py` first."""

from __future__ import annotations

from typing import Any, SupportsFloat

import tinygrad_seq as tg
from tinygrad_seq.dtypes import Array
from tinygrad_seq.models.cells import State, parts_of
from tinygrad_seq.models.decoder import Decoder
from tinygrad_seq.models.decoding import Hypothesis
from tinygrad_seq.models.nn import Linear
from tinygrad_seq.models.sequence_model import positive
from tinygrad_seq.models.writer import Beginning, Goal, Writer
from tinygrad_seq.ops.elementwise import tanh
from tinygrad_seq.ops.nn import one_hot
from tinygrad_seq.tensor import as_array


class SequenceGenerator(Writer):
    """Writes a sequence of tokens about one thing, a vector or a class, or about nothing: one-to-many.

        h<init> = tanh(x W + b)                     for each array of each layer's state; zeros about nothing
        h<t>    = layers(E ŷ<t-1>, h<t-1>)          ŷ<init> is the boundary, which starts and ends a sequence
        ŷ<t>    ~ softmax(h<t> W_y + b_y)           fed back; in training, the target may stand in its place

    Args:
        input_size: the length I of a vector x, or how many classes there are; None for neither.
        hidden_size: H.
        output_size: how many tokens V there are. Start and end need none of them: the model has its own.
        embedding_size: the length of a token's vector; H by default.
        cell: "rnn", "gru", "lstm", the class of a cell or layer, or a layer; see `stacks.recurrent`.
        num_layers: as for `LSTM`.
        dropout: on embeddings, between layers and before the readout.
        max_length: the longest target, and the most tokens that are written.
        batch_first: whether arrays are (B, T) instead of (T, B).

    Shapes:
        x (B, I), or classes (B,) of integers in range(I), or None; targets (T, B) integers in range(V); lengths (B,), 1 to T.

    Example:
        >>> import numpy as np
        >>> from tinygrad_seq.models import SequenceGenerator
        >>> names = SequenceGenerator(input_size=3, hidden_size=8, output_size=27, max_length=12)
        >>> names.loss([0, 2], np.arange(10).reshape(5, 2), lengths=[5, 4]).shape
        ()
        >>> len(names.predict([0, 1, 2]))
        3
    """

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        output_size: int,
        *,
        embedding_size: int | None = None,
        cell: Any = "lstm",
        num_layers: int = 1,
        dropout: float = 0.0,
        max_length: int = 100,
        batch_first: bool = False,
    ) -> None:
        positive(input_size=1 if input_size is None else input_size, hidden_size=hidden_size)
        positive(output_size=output_size, max_length=max_length)
        D = hidden_size if embedding_size is None else embedding_size
        self.input_size = input_size
        self.output_size = output_size
        self.max_length = max_length
        self.batch_first = batch_first
        self.decoder = Decoder(output_size, D, hidden_size, cell, num_layers, dropout)
        sizes = [[part.shape[-1] for part in parts_of(state)] for state in self.decoder.start(1)]
        self.begin = [] if input_size is None else [[Linear(input_size, size) for size in each] for each in sizes]

    def forward(self, x: Any, targets: Any, lengths: Any = None, *, teacher: SupportsFloat = 1.0, choose: str = "sample") -> Any:
        """Logits (T + 1, B, V + 1) of each target token and, behind the last, of the end, which is class V."""
        begin, goal = self._both(x, targets, lengths)
        return self._as_given(self._logits(self._follow(begin, goal, teacher, choose)))

    def loss(
        self,
        x: Any,
        targets: Any,
        lengths: Any = None,
        *,
        teacher: SupportsFloat = 1.0,
        choose: str = "sample",
        **options: Any,
    ) -> tg.Tensor:
        """Mean cross-entropy over all tokens and ends.

        Args:
            x, targets, lengths: see the class.
            teacher: the probability that a step reads the target before it, or a schedule: 1 is teacher forcing, 0 free running;
                see `forcing.py`.
            choose: "sample" or "best", what it reads else of what it has said.
            **options: of `tg.losses.cross_entropy`: weight, label_smoothing, reduction; classes are the V tokens and the end.

        Raises:
            TypeError, IndexError, ShapeError: tokens, classes or lengths that are none, or a target longer than `max_length`.
        """
        begin, goal = self._both(x, targets, lengths)
        logits = self._logits(self._follow(begin, goal, teacher, choose))
        return tg.losses.cross_entropy(logits, goal.tokens, mask=goal.valid, **options)

    def log_probability(self, x: Any, targets: Any, lengths: Any = None) -> Array:
        """(B,): log p(targets and their end | x), by teacher forcing."""
        with self.predicting():
            return self._log_probability(*self._both(x, targets, lengths))

    def predict(
        self,
        x: Any = None,
        *,
        rows: int = 1,
        beam: int = 1,
        length_penalty: float = 0.0,
        max_length: int | None = None,
    ) -> list[Array]:
        """For each row the tokens of the best sequence that is found, (n,) each.

        Args:
            x: see the class; without one, `rows` says how many sequences to write.
            beam, length_penalty: of the search, see `decoding.beam_search`; a beam of 1 is greedy.
            max_length: the most tokens to write; the model's by default.
        """
        found = self.search(x, rows=rows, beam=beam, length_penalty=length_penalty, n_best=1, max_length=max_length)
        return [best.tokens for (best,) in found]

    def search(
        self,
        x: Any = None,
        *,
        rows: int = 1,
        beam: int = 4,
        length_penalty: float = 0.0,
        n_best: int | None = None,
        max_length: int | None = None,
    ) -> list[list[Hypothesis]]:
        """For each row the sequences found by `decoding.beam_search`, best first; arguments as there and for `predict`."""
        with self.predicting():
            return self._searched(self._begin(x, rows), beam, length_penalty, n_best, max_length)

    def sample(
        self,
        x: Any = None,
        *,
        rows: int = 1,
        temperature: float = 1.0,
        top_k: int | None = None,
        max_length: int | None = None,
    ) -> list[Hypothesis]:
        """For each row a sequence at random; arguments as for `decoding.sample` and `predict`."""
        with self.predicting():
            return self._sampled(self._begin(x, rows), temperature, top_k, max_length)

    def _both(self, x: Any, targets: Any, lengths: Any) -> tuple[Beginning, Goal]:
        """What it is about, and what to write, checked."""
        goal = self._goal(targets, lengths)
        begin = self._begin(x, goal.tokens.shape[1])
        if begin.rows != goal.tokens.shape[1]:
            raise tg.ShapeError(f"x has {begin.rows} rows, and targets have {goal.tokens.shape[1]}")
        return begin, goal

    def _begin(self, x: Any, rows: int) -> Beginning:
        """The states before the first step."""
        if self.input_size is None:
            if x is not None:
                raise TypeError("a generator with input_size=None writes about nothing: x must be None")
            return Beginning(self.decoder.start(rows), None, rows)
        vectors = self._vectors(x, self.input_size)
        states: list[State] = []
        with tg.scope("begin"):
            for linears in self.begin:
                parts = tuple([tanh(linear(vectors)) for linear in linears])  # (B, H) each
                states.append(parts if len(parts) > 1 else parts[0])
        return Beginning(states, None, len(vectors))

    @staticmethod
    def _vectors(x: Any, size: int) -> Any:
        """x as vectors (B, I); a class as the unit vector of its number."""
        if x is None:
            raise TypeError(f"x is needed: vectors (B, {size}), or classes (B,)")
        given = x if isinstance(x, tg.Tensor) else as_array(x)
        if given.dtype.kind in "iu" and given.ndim == 1 and given.size:
            return one_hot(given, size)
        if given.dtype.kind != "f" or given.ndim != 2 or given.shape[1] != size or not given.size:
            raise tg.ShapeError(
                f"x is floating vectors of shape (B, {size}), or integer classes (B,), not {given.dtype} of shape {given.shape}"
            )
        return given
