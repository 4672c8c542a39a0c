"""Layers without a memory: Linear, Embedding, Dropout, LayerNorm, CausalConv1d. Each reads on its own.

They are the operations of `tinygrad_seq.ops.nn` with the parameters that these take.
"""

from __future__ import annotations

from typing import Any

import tinygrad_seq as tg
from tinygrad_seq import init
from tinygrad_seq.explain import whole
from tinygrad_seq.models.cells import numbers
from tinygrad_seq.ops.nn import conv1d_causal, dropout, embedding, layer_norm
from tinygrad_seq.ops.shape import swapaxes


class Linear(tg.Module):
    """y = x W + b, over the last axis.

    Args:
        input_size, output_size: I and O.
        bias: whether there is a b.

    Shapes:
        x (..., I), y (..., O); W (I, O), b (O). W starts as Xavier has it, b at 0.
    """

    b: tg.Parameter | None

    def __init__(self, input_size: int, output_size: int, bias: bool = True) -> None:
        _refuse_less_than_one(self, input_size=input_size, output_size=output_size)
        self.input_size = input_size
        self.output_size = output_size
        self.W = tg.Parameter(init.xavier_uniform((input_size, output_size)))
        self.b = tg.Parameter(init.zeros((output_size,))) if bias else None

    def forward(self, x: Any) -> Any:
        """(..., I) -> (..., O). Raises ShapeError for any other number of features."""
        x = _with_features(self, x, self.input_size)
        return x @ self.W if self.b is None else x @ self.W + self.b


class Embedding(tg.Module):
    """A row of numbers for each token, learned.

    Args:
        num_embeddings: V, how many tokens there are.
        embedding_dim: D, the length of a row.
        padding_index: a token that means nothing: its row starts at zero and gets no gradient.
        padding_idx: the same, as PyTorch calls it.

    Shapes:
        tokens (...) of integers from 0 to V - 1, result (..., D); W (V, D), which starts as N(0, 1).
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_index: int | None = None, *, padding_idx: int | None = None
    ) -> None:
        _refuse_less_than_one(self, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        padding_index = padding_idx if padding_index is None else padding_index
        if padding_index is not None and not 0 <= padding_index < num_embeddings:
            raise IndexError(f"padding_index {padding_index} is outside of 0 to {num_embeddings - 1}")
        self.padding_index = padding_index
        rows = init.normal((num_embeddings, embedding_dim), 1.0)
        if padding_index is not None:
            rows[padding_index] = 0
        self.W = tg.Parameter(rows)

    def forward(self, tokens: Any) -> Any:
        """(...) -> (..., D). Raises TypeError for what is no integer, IndexError for a token that is not there."""
        return embedding(self.W, tokens, padding_index=self.padding_index)


class Dropout(tg.Module):
    """In training, each entry with probability p replaced by 0, the others scaled so that the mean stays.

    Srivastava et al., "Dropout" (2014). See `tg.dropout`; `eval()` switches it off.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"dropout needs a probability from 0 to 1, got p={p}")
        self.p = p

    def forward(self, x: Any) -> Any:
        """Any shape, which stays."""
        return dropout(x, self.p, self.training)


class LayerNorm(tg.Module):
    """weight * (x - mean) / sqrt(var + eps) + bias, over the last axis of each row by itself.

    Ba, Kiros & Hinton, "Layer normalization" (2016).

    Args:
        size: the length D of the last axis.
        eps: keeps a row without variance from a division by zero.
        bias: whether there is one.

    Shapes:
        x (..., D); weight, which starts at 1, and bias, at 0, (D).
    """

    bias: tg.Parameter | None

    def __init__(self, size: int, eps: float = 1e-5, bias: bool = True) -> None:
        _refuse_less_than_one(self, size=size)
        self.size = size
        self.eps = eps
        self.weight = tg.Parameter(init.constant((size,), 1.0))
        self.bias = tg.Parameter(init.zeros((size,))) if bias else None

    def forward(self, x: Any) -> Any:
        """(..., D) -> (..., D). Raises ShapeError for any other number of features."""
        return layer_norm(_with_features(self, x, self.size), self.weight, self.bias, eps=self.eps)


class CausalConv1d(tg.Module):
    """A convolution over time that sees the present and the past: the document's contrast to recurrence.

        y<t> = sum over k of x<t - (K - 1 - k) * dilation> W[k] + b

    A kernel of K sees K steps and no more, whatever came before; a recurrent layer sees them all.

    Args:
        input_size, output_size: I and O.
        kernel_size: K.
        bias: whether there is a b.
        dilation: the distance in time between the steps that it sees.
        batch_first: whether inputs and outputs are (B, T, ...) instead of (T, B, ...).

    Shapes:
        x (T, B, I), y (T, B, O); W (K, I, O), b (O).
    """

    b: tg.Parameter | None

    def __init__(
        self,
        input_size: int,
        output_size: int,
        kernel_size: int,
        bias: bool = True,
        dilation: int = 1,
        batch_first: bool = False,
    ) -> None:
        _refuse_less_than_one(self, input_size=input_size, output_size=output_size, kernel_size=kernel_size, dilation=dilation)
        self.input_size = input_size
        self.dilation = dilation
        self.batch_first = batch_first
        self.W = tg.Parameter(init.xavier_uniform((kernel_size, input_size, output_size)))
        self.b = tg.Parameter(init.zeros((output_size,))) if bias else None

    def forward(self, x: Any) -> Any:
        """(T, B, I) -> (T, B, O), or with `batch_first` (B, T, I) -> (B, T, O)."""
        x = _with_features(self, x, self.input_size)
        if not self.batch_first:
            return conv1d_causal(x, self.W, self.b, dilation=self.dilation)
        if x.ndim != 3:
            raise tg.ShapeError(f"CausalConv1d takes x of shape (B, T, {self.input_size}), got {x.shape}")
        return swapaxes(conv1d_causal(swapaxes(x, 0, 1), self.W, self.b, dilation=self.dilation), 0, 1)


def _with_features(module: tg.Module, x: Any, features: int) -> tg.Tensor:
    """x as a tensor, if its last axis is this long."""
    given = numbers(module, x)
    if given.ndim == 0 or given.shape[-1] != features:
        raise tg.ShapeError(f"{type(module).__name__} takes x of shape (..., {features}), got {given.shape}")
    return given


def _refuse_less_than_one(module: tg.Module, **sizes: int) -> None:
    for name, size in sizes.items():
        if whole(name, size) < 1:
            raise ValueError(f"{type(module).__name__} needs a {name} of at least 1, got {size}")
