"""The decoder: a network that reads what it has written. Read `stacks.py`, `attention.py` and `forcing.py` first.

At each step it reads the token before, updates its state, and says how probable each token is to be next. `SequenceGenerator`
is a decoder alone, `EncoderDecoder` one that starts from an encoder's state and may look at all that the encoder has read.

The user's tokens are 0 to V - 1. A decoder has one more, the boundary, number V: read, it says that a sequence starts;
written, that it ends. So none of the user's is taken up by either.
"""

from __future__ import annotations

from typing import Any, NamedTuple, SupportsFloat

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq.dtypes import Array
from tinygrad_seq.models.attention import Attention, BahdanauAttention, LuongAttention, Memory
from tinygrad_seq.models.cells import State, call_by_step, parts_of
from tinygrad_seq.models.forcing import by_teacher, chosen
from tinygrad_seq.models.nn import Dropout, Embedding, Linear
from tinygrad_seq.models.stacks import forward_only, one_step, output_size, recurrent, start
from tinygrad_seq.ops.elementwise import tanh, where
from tinygrad_seq.ops.shape import concatenate


class Said(NamedTuple):
    """What came of a step."""

    logits: Any
    """(B, V + 1)."""
    states: list[State]
    """Of each cell, after the step."""
    weights: Any
    """(S, B), where the attention was; None without."""


class Decoder(tg.Module):
    """One step: from the token before and the state to logits and the new state.

    Without attention:      s<t> = cells(E y<t-1>, s<t-1>),             o<t> = s<t> W + b
    Bahdanau et al.:        c<t> = attention(s<t-1>)
                            s<t> = cells([E y<t-1>, c<t>], s<t-1>),     o<t> = [s<t>, c<t>] W + b
    Luong et al.:           s<t> = cells(E y<t-1>, s<t-1>),             c<t> = attention(s<t>)
                            s~<t> = tanh([c<t>, s<t>] W_c + b_c),       o<t> = s~<t> W + b

    Args:
        vocabulary_size: V, without the boundary.
        embedding_size, hidden_size: the lengths of a token's vector and of the state.
        cell, num_layers, dropout: see `stacks.recurrent`.
        attention: None, "bahdanau", "luong" (with the score "general"), or one of Luong's scores "dot", "general", "concat".
        memory_size: M, the length of what the attention looks at.
    """

    attention: Attention | None
    combine: Linear | None

    def __init__(
        self,
        vocabulary_size: int,
        embedding_size: int,
        hidden_size: int,
        cell: Any = "lstm",
        num_layers: int = 1,
        dropout: float = 0.0,
        attention: str | None = None,
        memory_size: int = 0,
    ) -> None:
        self.boundary = vocabulary_size
        self.looks_before = attention == "bahdanau"
        width = embedding_size + (memory_size if self.looks_before else 0)
        self.embedding = Embedding(vocabulary_size + 1, embedding_size)
        layers = recurrent(cell, width, hidden_size, num_layers, dropout=dropout)
        self.layers = forward_only(layers, "a decoder has not written the future yet")
        H = output_size(self.layers, width)
        self.attention = _attention(attention, H, memory_size)
        self.combine = None if self.attention is None or self.looks_before else Linear(memory_size + H, H)
        self.dropout = Dropout(dropout)
        self.readout = Linear(H + (memory_size if self.looks_before else 0), vocabulary_size + 1)

    def start(self, batch: int) -> list[State]:
        """States that know of nothing."""
        return start(self.layers, batch)

    def step(self, tokens: Array, states: list[State], t: int, memory: Memory | None = None, **tags: Any) -> Said:
        """Read the tokens before step t, (B,), and say what is next.

        Args:
            tokens, states: of the step before.
            t: for the scopes.
            memory: what the attention looks at.
            **tags: of the scopes.
        """
        with tg.scope("embedding", t=t, **tags):
            x = self.dropout(self.embedding(tokens))  # (B, D)
        context = weights = None
        if self.attention is not None and self.looks_before:
            with tg.scope("attention", t=t, role="attention", **tags):
                context, weights = self.attention(parts_of(states[-1])[0], memory)  # (B, M), (S, B)
                x = concatenate([x, context], axis=-1)
        s, states = one_step(self.layers, x, states, t, **tags)  # (B, H)
        if self.attention is not None and self.combine is not None:
            with tg.scope("attention", t=t, role="attention", **tags):
                context, weights = self.attention(s, memory)
                with tg.scope("combine"):
                    s = tanh(self.combine(concatenate([context, s], axis=-1)))
        with tg.scope("readout", t=t, role="readout", **tags):
            if self.looks_before:
                s = concatenate([s, context], axis=-1)
            logits = self.readout(self.dropout(s))
        call_by_step((logits,), ("o",), t)
        return Said(logits, states, weights)

    def follow(
        self,
        targets: Array,
        states: list[State],
        memory: Memory | None = None,
        valid: Array | None = None,
        teacher: SupportsFloat = 1.0,
        choose: str = "sample",
    ) -> list[Said]:
        """Go through known sequences: for each of T steps what the decoder says where the target should be said.

        Args:
            targets: (T, B) integers, the boundary behind each sequence's end.
            states, memory: to start with, and to look at.
            valid: (T, B), which steps are real.
            teacher: the probability that a step reads the target before it; else it reads what the decoder has said there.
            choose: how that is chosen out of the logits; see `forcing.chosen`. An end that is said too early is not read.
        """
        coins = by_teacher(teacher, *targets.shape)
        read: Any = tg.Tensor(np.full(targets.shape[1], self.boundary))
        call_by_step((read,), ("ŷ",), "init")
        steps: list[Said] = []
        for t, target in enumerate(targets):
            tags = {} if valid is None else {"valid": valid[t]}
            said = self.step(read, states, t, memory, **tags)
            steps.append(said)
            states, read = said.states, tg.tensor(target, name=f"y<{t}>")
            if t + 1 < len(targets) and not coins[t + 1].all():
                with tg.scope("choice", t=t, role="choice", **tags):
                    own = chosen(said.logits[:, : self.boundary], choose)
                    read = where(coins[t + 1], read, own) if coins[t + 1].any() else own
                call_by_step((read,), ("ŷ",), t)
        return steps


def with_boundary(targets: Array, valid: Array | None, boundary: int) -> tuple[Array, Array | None]:
    """Sequences (T, B) with the boundary behind the end of each, (T + 1, B), and which steps are real then."""
    ends = np.full((1, targets.shape[1]), boundary)
    longer = np.concatenate([targets if valid is None else np.where(valid, targets, boundary), ends])
    return longer, None if valid is None else np.concatenate([np.ones_like(valid[:1]), valid])


def _attention(name: str | None, query_size: int, memory_size: int) -> Attention | None:
    if name is None:
        return None
    if name == "bahdanau":
        return BahdanauAttention(query_size, memory_size)
    if name in ("luong", "dot", "general", "concat"):
        return LuongAttention(query_size, memory_size, "general" if name == "luong" else name)
    raise ValueError(f'attention is None, "bahdanau", "luong", "dot", "general" or "concat", not {name!r}')
