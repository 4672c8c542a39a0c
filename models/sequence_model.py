"""What all sequence models share: sequences checked on their way in, predictions without a tape. Read `layers.py` first.

A sequence model takes a batch of sequences, time first (T, B, ...) or with `batch_first` (B, T, ...), and `lengths` (B,),
how many steps of each row are real. It has

    loss(...)       a scalar on the tape, averaged over what is real,
    predict(...)    NumPy arrays, computed without a tape and with dropout switched off, whatever the model's mode.

Sequences are tokens, integers (T, B), or features, floating (T, B, I). All are checked before anything is computed. What
stands in the padding is not looked at, be it NaN or a token that does not exist: it is replaced by 0 here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq.dtypes import Array
from tinygrad_seq.explain import whole
from tinygrad_seq.models.nn import Embedding
from tinygrad_seq.ops.elementwise import where
from tinygrad_seq.ops.shape import swapaxes
from tinygrad_seq.tensor import as_array


class SequenceModel(tg.Module):
    """A network together with its task: see the top of this file.

    Attributes:
        batch_first: whether inputs, targets and predictions are (B, T, ...) instead of (T, B, ...).
    """

    batch_first: bool = False

    @contextmanager
    def predicting(self) -> Iterator[None]:
        """Inside, the model is in eval mode, and nothing is taped; afterwards every part is in the mode that it was in."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with tg.no_grad():
                yield
        finally:
            for module, mode in modes:
                module.training = mode

    def _time_first(self, array: Any) -> Any:
        """An array of the user's with time as its first axis; None stays None."""
        if array is None or not self.batch_first:
            return array
        if isinstance(array, tg.Tensor):
            with tg.scope("time_first", time_axis=0):
                return swapaxes(array, 0, 1) if array.ndim > 1 else array
        array = np.asarray(array)
        return array.swapaxes(0, 1) if array.ndim > 1 else array

    def _as_given(self, array: Any) -> Any:
        """What is time first, with the axes in the user's order."""
        if not self.batch_first:
            return array
        if isinstance(array, tg.Tensor):
            with tg.scope("batch_first", time_axis=1):
                return swapaxes(array, 0, 1)
        return array.swapaxes(0, 1)

    def _counting(self, mask: Any, valid: Array | None) -> Array | None:
        """Which steps count: those of the user's mask that are real; None for all."""
        if mask is None:
            return valid
        wanted = as_array(self._time_first(mask)).astype(bool)
        if valid is None:
            return wanted
        if wanted.shape[:2] != valid.shape:
            raise tg.ShapeError(f"a mask of shape {wanted.shape} does not fit {valid.shape[0]} steps of {valid.shape[1]} rows")
        return wanted & valid.reshape(valid.shape + (1,) * (wanted.ndim - 2))


class Reader(tg.Module):
    """The way in: features as they are, or tokens as rows of a table that is learned.

    Args:
        input_size: how many features I, or how many tokens V.
        embedding_size: the length D of a token's row; None for features.
    """

    def __init__(self, input_size: int, embedding_size: int | None = None) -> None:
        positive(input_size=input_size, embedding_size=1 if embedding_size is None else embedding_size)
        self.input_size = input_size
        self.output_size = input_size if embedding_size is None else embedding_size
        self.embedding = None if embedding_size is None else Embedding(input_size, embedding_size)

    def forward(self, x: Any, lengths: Any = None) -> tuple[Any, Array | None]:
        """Tokens (T, B) or features (T, B, I) -> what the first layer reads, (T, B, D), and which steps are real."""
        if self.embedding is None:
            return checked_features(x, self.input_size, lengths)
        tokens, valid = checked_tokens(x, self.input_size, lengths)
        with tg.scope("embedding", time_axis=0):
            return self.embedding(tokens), valid


# ---- what is given, checked -----------------------------------------------------------------------------------------------


def positive(**sizes: int) -> None:
    """Raise ValueError, by name, for a size that is less than 1; TypeError for one that is no whole number."""
    for name, size in sizes.items():
        if whole(name, size) < 1:
            raise ValueError(f"{name} is at least 1, not {size}")


def checked_tokens(tokens: Any, size: int, lengths: Any = None, what: str = "tokens") -> tuple[Array, Array | None]:
    """Tokens (T, B) as int64 with 0 in the padding, and which of them are real (None for all).

    Raises:
        TypeError: they are not integers.
        IndexError: one that is real is outside of range(size); the message says which.
        ShapeError: they have another number of axes, there are none, or the lengths do not fit.
    """
    array = as_array(tokens)
    if array.ndim != 2:
        raise tg.ShapeError(f"{what} have two axes, time and batch, not the shape {array.shape}")
    valid = real_steps(lengths, array.shape[0], array.shape[1], what)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{what} are integers, not {array.dtype}")
    outside = (array < 0) | (array >= size) if valid is None else ((array < 0) | (array >= size)) & valid
    if outside.any():
        t, b = (int(i) for i in np.argwhere(outside)[0])
        raise IndexError(f"{what}: {array[t, b]} at step {t} of row {b} is outside of 0 to {size - 1}")
    return (array if valid is None else np.where(valid, array, 0)).astype(np.int64, copy=False), valid


def checked_features(x: Any, size: int, lengths: Any = None, what: str = "features") -> tuple[Any, Array | None]:
    """Features (T, B, I) with 0 in the padding, an array unless they need a gradient, and which are real (None for all).

    Raises:
        ShapeError: another number of axes or features, nothing at all, or lengths that do not fit.
        TypeError: they are no numbers.
    """
    array = as_array(x)
    if array.ndim != 3 or array.shape[2] != size:
        hint = "; for tokens, give the model an embedding_size" if array.ndim == 2 and array.dtype.kind in "iu" else ""
        raise tg.ShapeError(f"{what} have three axes, time, batch and {size} features, not the shape {array.shape}{hint}")
    valid = real_steps(lengths, array.shape[0], array.shape[1], what)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{what} are numbers, not {array.dtype}")
    taped = isinstance(x, tg.Tensor) and x.requires_grad
    if valid is None:
        return (x if taped else array), None
    if not taped:
        return np.where(valid[:, :, None], array, 0).astype(array.dtype, copy=False), valid
    with tg.scope("padding", time_axis=0):
        return where(valid[:, :, None], x, 0), valid


def real_steps(lengths: Any, steps: int, batch: int, what: str = "sequences") -> Array | None:
    """(T, B), which steps of each row are real; None for all.

    Raises:
        TypeError: lengths that are not integers.
        ShapeError: there is nothing, a row is empty, or lengths do not fit the sequences.
    """
    if not steps or not batch:
        raise tg.ShapeError(f"{what} are empty: {steps} steps of {batch} rows")
    if lengths is None:
        return None
    given = as_array(lengths)
    if given.dtype.kind not in "iu":
        raise TypeError(f"lengths of {what} are integers, not {given.dtype}")
    if given.shape != (batch,):
        raise tg.ShapeError(f"lengths of {what} have one entry for each of {batch} rows, not the shape {given.shape}")
    if given.min() < 1:
        raise tg.ShapeError(f"{what}: row {int(given.argmin())} is empty (length {given.min()}); leave it out of the batch")
    if given.max() > steps:
        raise tg.ShapeError(f"{what}: row {int(given.argmax())} cannot have length {given.max()}, there are {steps} steps")
    return tg.data.valid(given, steps)
