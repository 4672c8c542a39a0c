"""From a sequence to labels: one for each step, or one for all. Read `sequence_model.py` first.

The document's many-to-many of the same length and many-to-one: `SequenceTagger` and `SequenceClassifier`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq.dtypes import Array
from tinygrad_seq.models.cells import State
from tinygrad_seq.models.nn import Dropout, Linear
from tinygrad_seq.models.sequence_model import Reader, SequenceModel, positive
from tinygrad_seq.models.stacks import output_size, recurrent, top_state

POOLS = ("last", "mean", "max")


class _Labeller(SequenceModel):
    """What reads a sequence by recurrent layers and has a readout of classes."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_classes: int,
        *,
        embedding_size: int | None = None,
        cell: Any = "lstm",
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        batch_first: bool = False,
    ) -> None:
        positive(hidden_size=hidden_size, num_classes=num_classes)
        self.num_classes = num_classes
        self.batch_first = batch_first
        self.reader = Reader(input_size, embedding_size)
        self.layers = recurrent(cell, self.reader.output_size, hidden_size, num_layers, bidirectional, dropout)
        self.dropout = Dropout(dropout)
        self.readout = Linear(output_size(self.layers, self.reader.output_size), num_classes)

    def _read(self, x: Any, lengths: Any) -> tuple[Any, State, Array | None]:
        """Time-first outputs (T, B, H), the last state, and which steps are real."""
        x, valid = self.reader(self._time_first(x), lengths)
        outputs, state = self.layers(x, lengths=lengths)
        return outputs, state, valid


class SequenceTagger(_Labeller):
    """A label for each step: many-to-many of the same length.

        h<t> = layers(x<0>, ..., x<t>),   o<t> = h<t> W + b,   ŷ<t> = softmax(o<t>)

    Args:
        input_size: the number of features I; or of tokens, if `embedding_size` is given.
        hidden_size: H, of each direction.
        num_classes: C.
        embedding_size: the length of a token's vector; None where inputs are features.
        cell: "rnn", "gru", "lstm", the class of a cell or layer, or a layer; see `stacks.recurrent`.
        num_layers, bidirectional: as for `LSTM`. With both directions, a label knows the past and the future.
        dropout: between layers and before the readout.
        batch_first: whether arrays are (B, T, ...) instead of (T, B, ...).

    Shapes:
        x (T, B) integers, or (T, B, I); targets (T, B) integers in range(C); lengths (B,), from 1 to T.

    Example:
        >>> import numpy as np
        >>> from tinygrad_seq.models import SequenceTagger
        >>> tagger = SequenceTagger(10, 8, num_classes=3, embedding_size=4, bidirectional=True)
        >>> x = np.arange(12).reshape(6, 2) % 10
        >>> tagger.loss(x, x % 3, lengths=[6, 4]).shape
        ()
        >>> tagger.predict(x, lengths=[6, 4])[:, 1] >= 0
        array([ True,  True,  True,  True, False, False])
    """

    def forward(self, x: Any, lengths: Any = None) -> Any:
        """Logits (T, B, C); what stands beyond a row's end says nothing."""
        return self._as_given(self._logits(x, lengths)[0])

    def loss(self, x: Any, targets: Any, lengths: Any = None, mask: Any = None, **options: Any) -> tg.Tensor:
        """Mean cross-entropy over all real steps.

        Args:
            x, targets, lengths: see the class.
            mask: (T, B) truth values, which of the real steps count; all by default.
            **options: of `tg.losses.cross_entropy`: weight, label_smoothing, ignore_index, reduction.

        Raises:
            TypeError, IndexError, ShapeError: tokens, targets or lengths that are none; see `checked_tokens`.
        """
        logits, valid = self._logits(x, lengths)
        return tg.losses.cross_entropy(logits, self._time_first(targets), mask=self._counting(mask, valid), **options)

    def predict(self, x: Any, lengths: Any = None) -> Array:
        """The most probable label of each step, (T, B) int64; -1 beyond a row's end."""
        with self.predicting():
            logits, valid = self._logits(x, lengths)
        labels: Array = logits.data.argmax(axis=-1)
        return self._as_given(labels if valid is None else np.where(valid, labels, -1))  # type: ignore[no-any-return]

    def probabilities(self, x: Any, lengths: Any = None) -> Array:
        """The probability of each label at each step, (T, B, C); 0 beyond a row's end."""
        with self.predicting():
            logits, valid = self._logits(x, lengths)
            p: Array = tg.softmax(logits).data
        return self._as_given(p if valid is None else np.where(valid[:, :, None], p, 0))  # type: ignore[no-any-return]

    def _logits(self, x: Any, lengths: Any) -> tuple[Any, Array | None]:
        outputs, _, valid = self._read(x, lengths)
        with tg.scope("readout", time_axis=0, role="readout"):
            return self.readout(self.dropout(outputs)), valid


class SequenceClassifier(_Labeller):
    """A label for a whole sequence: many-to-one.

        h<t> = layers(x<0>, ..., x<t>),   o = pool(h) W + b,   ŷ = softmax(o)

    Args:
        pool: what the label is read off: "last" is the state after the last real step (of both directions, each at its
            own end), "mean" and "max" are taken over the outputs of all real steps.
        input_size, hidden_size, num_classes, embedding_size, cell, num_layers, bidirectional, dropout, batch_first: as for
            `SequenceTagger`.

    Shapes:
        x (T, B) integers, or (T, B, I); targets (B,) integers in range(C); lengths (B,), from 1 to T.

    Example:
        >>> import numpy as np
        >>> from tinygrad_seq.models import SequenceClassifier
        >>> classifier = SequenceClassifier(10, 8, num_classes=3, embedding_size=4, pool="mean")
        >>> x = np.arange(12).reshape(6, 2) % 10
        >>> classifier.predict(x, lengths=[6, 4]).shape
        (2,)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_classes: int,
        *,
        embedding_size: int | None = None,
        cell: Any = "lstm",
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        batch_first: bool = False,
        pool: str = "last",
    ) -> None:
        if pool not in POOLS:
            raise ValueError(f"pool is one of {', '.join(map(repr, POOLS))}, not {pool!r}")
        self.pool = pool
        super().__init__(
            input_size, hidden_size, num_classes, embedding_size=embedding_size, cell=cell, num_layers=num_layers,
            bidirectional=bidirectional, dropout=dropout, batch_first=batch_first,
        )  # fmt: skip

    def forward(self, x: Any, lengths: Any = None) -> Any:
        """Logits (B, C)."""
        outputs, state, valid = self._read(x, lengths)
        with tg.scope("pool"):
            pooled = self._pooled(outputs, state, valid)  # (B, H)
        with tg.scope("readout", role="readout"):
            return self.readout(self.dropout(pooled))

    def loss(self, x: Any, targets: Any, lengths: Any = None, **options: Any) -> tg.Tensor:
        """Mean cross-entropy over the batch.

        Args:
            x, targets, lengths: see the class.
            **options: of `tg.losses.cross_entropy`: mask (B,), weight, label_smoothing, ignore_index, reduction.
        """
        return tg.losses.cross_entropy(self(x, lengths), targets, **options)

    def predict(self, x: Any, lengths: Any = None) -> Array:
        """The most probable label of each sequence, (B,) int64."""
        with self.predicting():
            return self(x, lengths).data.argmax(axis=-1)  # type: ignore[no-any-return]

    def probabilities(self, x: Any, lengths: Any = None) -> Array:
        """The probability of each label, (B, C)."""
        with self.predicting():
            return tg.softmax(self(x, lengths)).data  # type: ignore[no-any-return]

    def _pooled(self, outputs: Any, state: State, valid: Array | None) -> Any:
        if self.pool == "last":
            return top_state(self.layers, state)
        if self.pool == "max":
            return (outputs if valid is None else np.where(valid[:, :, None], outputs, -np.inf)).max(axis=0)
        if valid is None:
            return outputs.mean(axis=0)
        return outputs.sum(axis=0) / valid.sum(axis=0)[:, None].astype(outputs.dtype)  # beyond the end outputs are 0
