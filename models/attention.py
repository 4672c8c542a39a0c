"""Attention: a decoder looks at all of the encoder's states, and not at the last one only. Reads on its own.

A query (what the decoder has in mind) is compared with every state of the memory; a softmax over the scores says how
much of each state goes into the context:

    e_s = score(query, memory_s)        alpha = softmax(e)        context = sum over s of alpha_s memory_s

The two papers differ in the score, and in where the query comes from. For Bahdanau it is the decoder's state before
the step, and the context goes into the cell; for Luong it is the state after the step, and the context goes to the readout.

D. Bahdanau, K. Cho & Y. Bengio, "Neural machine translation by jointly learning to align and translate" (2015);
M.-T. Luong, H. Pham & C. Manning, "Effective approaches to attention-based neural machine translation" (2015).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq import init
from tinygrad_seq.dtypes import Array
from tinygrad_seq.ops.elementwise import tanh, where
from tinygrad_seq.ops.nn import softmax

SCORES = ("dot", "general", "concat")


class Memory(NamedTuple):
    """What a decoder looks at, made once for all of its steps."""

    values: Any
    """(S, B, M), 0 where nothing is real."""
    keys: Any
    """(S, B, ...): the part of the score that does not depend on the query."""
    valid: Array | None
    """(S, B), what is real; None for all."""

    def of_rows(self, rows: Array) -> Memory:
        """The memory of these rows (N,), each as often as it is named."""
        values = self.values[:, rows]
        keys = values if self.keys is self.values else self.keys[:, rows]
        return Memory(values, keys, None if self.valid is None else self.valid[:, rows])


class Attention(tg.Module):
    """What both kinds share: the softmax over what is real, and the sum.

    Shapes:
        memory (S, B, M), query (B, Q); context (B, M), weights (S, B), which add up to 1 over S.
    """

    def keys(self, memory: Any) -> Any:
        """The part of the score that does not depend on the query, for all of the memory at once."""
        return memory

    def scores(self, query: Any, keys: Any) -> Any:
        """(B, Q) and what `keys` gave -> (S, B)."""
        raise NotImplementedError(f"{type(self).__name__} does not define scores")

    def remember(self, memory: Any, valid: Array | None = None) -> Memory:
        """Prepare a memory (S, B, M), of which `valid` (S, B) is real, for any number of queries.

        Raises:
            ShapeError: a row of which nothing is real: a softmax over nothing is no distribution.
        """
        if valid is not None and not valid.any(axis=0).all():
            row = int(np.argwhere(~valid.any(axis=0))[0, 0])
            raise tg.ShapeError(f"{type(self).__name__}: row {row} of the memory is empty, and there is nothing to look at")
        if valid is not None:
            memory = where(valid[:, :, None], memory, 0)
        return Memory(memory, self.keys(memory), valid)

    def forward(self, query: Any, memory: Memory) -> tuple[Any, Any]:
        """(context (B, M), weights (S, B)) of a query (B, Q)."""
        e = self.scores(query, memory.keys)  # (S, B)
        if memory.valid is not None:
            e = where(memory.valid, e, -np.inf)
        weights = softmax(e, axis=0)
        return (weights[:, :, None] * memory.values).sum(axis=0), weights  # (B, M), (S, B)


class BahdanauAttention(Attention):
    """Additive attention: e_s = tanh(q W_q + m_s W_m) v (Bahdanau et al., 2015, appendix A.1.2).

    Args:
        query_size, memory_size: Q and M.
        hidden_size: A, of the layer in between; Q by default.

    Shapes:
        W_q (Q, A), W_m (M, A), v (A).
    """

    def __init__(self, query_size: int, memory_size: int, hidden_size: int | None = None) -> None:
        A = query_size if hidden_size is None else hidden_size
        self.W_q = tg.Parameter(init.xavier_uniform((query_size, A)))
        self.W_m = tg.Parameter(init.xavier_uniform((memory_size, A)))
        self.v = tg.Parameter(init.xavier_uniform((A, 1))[:, 0])

    def keys(self, memory: Any) -> Any:
        """m_s W_m: (S, B, M) -> (S, B, A)."""
        return memory @ self.W_m

    def scores(self, query: Any, keys: Any) -> Any:
        """See the class."""
        return tanh(query @ self.W_q + keys) @ self.v


class LuongAttention(Attention):
    """Multiplicative attention, or another form of the additive one (Luong et al., 2015, equation 8).

        dot         e_s = q · m_s
        general     e_s = (q W) · m_s
        concat      e_s = tanh([q, m_s] W) v = tanh(q W_q + m_s W_m) v

    Args:
        query_size, memory_size: Q and M; alike for "dot".
        score: which of them.

    Shapes:
        general: W (Q, M); concat: W_q (Q, Q), W_m (M, Q), v (Q).
    """

    W: tg.Parameter
    additive: BahdanauAttention

    def __init__(self, query_size: int, memory_size: int, score: str = "general") -> None:
        if score not in SCORES:
            raise ValueError(f"score is one of {', '.join(map(repr, SCORES))}, not {score!r}")
        if score == "dot" and query_size != memory_size:
            raise ValueError(f'"dot" needs a query as long as the memory, got {query_size} and {memory_size}; use "general"')
        self.score = score
        if score == "general":
            self.W = tg.Parameter(init.xavier_uniform((query_size, memory_size)))
        elif score == "concat":
            self.additive = BahdanauAttention(query_size, memory_size)

    def keys(self, memory: Any) -> Any:
        """For "concat" m_s W_m, else the memory itself."""
        return self.additive.keys(memory) if self.score == "concat" else memory

    def scores(self, query: Any, keys: Any) -> Any:
        """See the class."""
        if self.score == "concat":
            return self.additive.scores(query, keys)
        return ((query @ self.W if self.score == "general" else query) * keys).sum(axis=-1)
