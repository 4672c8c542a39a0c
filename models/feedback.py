"""Networks whose only memory is their last output: the document's RNN2, and what teacher forcing does for it.

"To be able to use parallel computation, we have to disconnect history and present while still using the information from
past." Where all recurrence goes through the output, and the target stands in the output's place, no step waits for another,
forward or backward: `teacher_forced` computes them all at once, T small products in one large one. `fed_back` is the
computation step by step, for any mixture of targets and outputs. Read `OutputRNNCell` in `cells.py`, and `forcing.py`, first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsFloat

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq.dtypes import Array
from tinygrad_seq.models.cells import OutputRNNCell, call_by_step
from tinygrad_seq.models.forcing import by_teacher
from tinygrad_seq.models.loop import name_of
from tinygrad_seq.models.sequence_model import Reader, SequenceModel, checked_tokens, positive
from tinygrad_seq.ops.elementwise import where
from tinygrad_seq.ops.nn import one_hot, softmax
from tinygrad_seq.ops.shape import stack, unstack
from tinygrad_seq.tensor import as_array


def teacher_forced(cell: OutputRNNCell, x: Any, targets: Any, start: Any = None) -> Any:
    """All steps of a cell whose only memory is its output, at once, the targets in the place of its outputs.

        a<t> = tanh(y<t-1> W_h + x<t> W_x + b)      with the target y<t-1> instead of ŷ<t-1>, for all t

    It gives what `fed_back(cell, x, targets, teacher=1)` gives, forward and backward.

    Args:
        cell: with another memory than its output, there would be something left to wait for.
        x: inputs, (T, B, I).
        targets: what the cell should say, (T, B, O); the last is read by no step.
        start: what stands for the output before the first step, (B, O); zeros by default.

    Returns:
        The outputs ŷ, (T, B, O), from a scope that knows that time is its first axis.

    Raises:
        TypeError: the cell has another memory, for which no target stands.
        ShapeError: targets or start do not fit x, or there is nothing.

    Example:
        >>> import numpy as np
        >>> from tinygrad_seq.models import OutputRNNCell, teacher_forced
        >>> teacher_forced(OutputRNNCell(3, 8, 2), np.ones((50, 4, 3)), np.ones((50, 4, 2)) / 2).shape
        (50, 4, 2)
    """
    x, y, start = _checked(cell, x, targets, start)
    previous = np.concatenate([start[None], y[:-1]])  # (T, B, O)
    with tg.scope(name_of(cell), time_axis=0, role="cell"):
        return cell.step(cell.project(x), previous)


def fed_back(
    cell: OutputRNNCell,
    x: Any,
    targets: Any = None,
    teacher: SupportsFloat = 0.0,
    start: Any = None,
    between: Callable[[Any], Any] | None = None,
) -> Any:
    """The same step by step, each reading its last output, or by chance the target.

    The gradient flows back through the outputs that are read.

    Args:
        cell, x, targets, start: as for `teacher_forced`; without targets it runs freely.
        teacher: the probability to read the target, or a schedule; see `forcing.py`.
        between: makes of an output what the next step reads; nothing is done by default.

    Returns:
        The outputs ŷ, (T, B, O).
    """
    if targets is None and float(teacher) > 0:
        raise ValueError(f"with teacher={float(teacher)}, targets are needed")
    x, y, read = _checked(cell, x, targets, start)
    coins = by_teacher(teacher, *x.shape[:2])
    with tg.scope(name_of(cell), time_axis=0):
        projected = unstack(cell.project(x))
    outputs: list[Any] = []
    for t, xW in enumerate(projected):
        with tg.scope(name_of(cell), t=t, role="cell"):
            if t and not coins[t].all():
                own = between(outputs[-1]) if between else outputs[-1]
                read = where(coins[t][:, None], y[t - 1], own) if coins[t].any() else own
            elif t:
                read = y[t - 1]
            outputs.append(cell.step(xW, read))
            call_by_step(outputs[-1:], ("o",) if between else cell.state_names, t)
    with tg.scope(name_of(cell), time_axis=0):
        return stack(outputs)


def _checked(cell: Any, x: Any, targets: Any, start: Any) -> tuple[tg.Tensor, Array, Any]:
    """Inputs as a tensor, targets as an array, and what the first step reads."""
    if not isinstance(cell, OutputRNNCell):
        raise TypeError(
            f"{type(cell).__name__} carries on what no target can stand for, so that its steps wait for each other; "
            "OutputRNNCell is the one whose only memory is its output"
        )
    x = x if isinstance(x, tg.Tensor) else tg.Tensor(x)
    if x.ndim != 3 or x.shape[2] != cell.input_size or not x.size:
        raise tg.ShapeError(f"x has the shape (T, B, {cell.input_size}) with at least one step and row, not {x.shape}")
    wanted = (*x.shape[:2], cell.output_size)
    y = np.zeros(wanted, cell.W_y.dtype) if targets is None else as_array(targets)
    if y.shape != wanted or y.dtype.kind not in "fiub":
        raise tg.ShapeError(f"targets are real numbers of shape {wanted}, not {y.dtype} of shape {y.shape}")
    y = y if y.dtype.kind == "f" else y.astype(cell.W_y.dtype)  # one-hot rows, written in whole numbers
    start = np.zeros(wanted[1:], y.dtype) if start is None else start
    if np.shape(start) != wanted[1:]:
        raise tg.ShapeError(f"start has the shape {wanted[1:]}, not {np.shape(start)}")
    return x, y, start


class FeedbackTagger(SequenceModel):
    """A label for each step from the input and the last label: many-to-many of the same length, after M. Jordan (1986).

        a<t> = tanh(ŷ<t-1> W_h + x<t> W_x + b),   o<t> = a<t> W_y + b_y,   ŷ<t> = softmax(o<t>)

    A cheap memory, since all that it knows of the past is how it has labelled it; in return, training by teacher forcing
    computes all steps at once.

    Args:
        input_size, hidden_size, num_classes, embedding_size, batch_first: as for `SequenceTagger`.

    Shapes:
        x (T, B) integers, or (T, B, I); targets (T, B) integers in range(C); lengths (B,), from 1 to T.

    Example:
        >>> import numpy as np
        >>> from tinygrad_seq.models import FeedbackTagger
        >>> tagger = FeedbackTagger(10, 8, num_classes=3, embedding_size=4)
        >>> x = np.arange(12).reshape(6, 2) % 10
        >>> tagger.loss(x, x % 3).shape, tagger.loss(x, x % 3, teacher=0.25).shape, tagger.predict(x).shape
        ((), (), (6, 2))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_classes: int,
        *,
        embedding_size: int | None = None,
        batch_first: bool = False,
    ) -> None:
        positive(hidden_size=hidden_size, num_classes=num_classes)
        self.num_classes = num_classes
        self.batch_first = batch_first
        self.reader = Reader(input_size, embedding_size)
        # The cell gives o, which the loss wants; the softmax is taken on the way to the next step.
        self.cell = OutputRNNCell(self.reader.output_size, hidden_size, num_classes, output_activation=None)

    def forward(self, x: Any, lengths: Any = None) -> Any:
        """Logits (T, B, C), running freely; what stands beyond a row's end says nothing."""
        x, _ = self.reader(self._time_first(x), lengths)
        return self._as_given(fed_back(self.cell, x, between=softmax))

    def loss(
        self,
        x: Any,
        targets: Any,
        lengths: Any = None,
        mask: Any = None,
        *,
        teacher: SupportsFloat = 1.0,
        **options: Any,
    ) -> tg.Tensor:
        """Mean cross-entropy over all real steps.

        Args:
            x, targets, lengths: see the class.
            mask: (T, B) truth values, which of the real steps count; all by default. The others' targets are read, too.
            teacher: the probability that a step reads the target before it, or a schedule; see `forcing.py`.
            **options: of `tg.losses.cross_entropy`: weight, label_smoothing, reduction.
        """
        x, valid = self.reader(self._time_first(x), lengths)
        targets = as_array(self._time_first(targets))
        if targets.shape != x.shape[:2]:
            raise tg.ShapeError(f"x of {x.shape[0]} steps and {x.shape[1]} rows needs as many targets, not {targets.shape}")
        labels = checked_tokens(targets, self.num_classes, lengths, "targets")[0]
        y = one_hot(labels, self.num_classes, dtype=self.cell.W_y.dtype)
        if float(teacher) == 1:
            logits = teacher_forced(self.cell, x, y)
        else:
            logits = fed_back(self.cell, x, y, teacher, between=softmax)
        return tg.losses.cross_entropy(logits, labels, mask=self._counting(mask, valid), **options)

    def predict(self, x: Any, lengths: Any = None) -> Array:
        """The most probable label of each step, running freely, (T, B) int64; -1 beyond a row's end."""
        with self.predicting():
            x, valid = self.reader(self._time_first(x), lengths)
            labels = fed_back(self.cell, x, between=softmax).data.argmax(axis=-1)
        return self._as_given(labels if valid is None else np.where(valid, labels, -1))  # type: ignore[no-any-return]
