"""What writes sequences of tokens with a decoder, be there an encoder or not. Read `decoder.py` and `decoding.py` first.

A writer begins with states and a memory, which its subclass makes of whatever it writes about. In training it follows
targets; by itself it writes the best that it finds, or draws.
"""

from __future__ import annotations

from itertools import count
from typing import Any, NamedTuple, SupportsFloat

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq.dtypes import Array
from tinygrad_seq.models.attention import Memory
from tinygrad_seq.models.cells import State
from tinygrad_seq.models.decoder import Decoder, Said, with_boundary
from tinygrad_seq.models.decoding import Hypothesis, Step, beam_search, sample
from tinygrad_seq.models.sequence_model import SequenceModel, checked_tokens
from tinygrad_seq.ops.shape import stack


class Beginning(NamedTuple):
    """What a writer starts with."""

    states: list[State]
    """Of each cell of the decoder."""
    memory: Memory | None
    """What the decoder looks at."""
    rows: int
    """How many sequences there are to write."""


class Goal(NamedTuple):
    """Targets, checked."""

    tokens: Array
    """(T + 1, B), with the boundary behind the end of each."""
    valid: Array | None
    """(T + 1, B), which steps are real."""


class Writer(SequenceModel):
    """See the top of this file.

    Attributes:
        decoder: what writes.
        max_length: the longest target, and the most tokens that are written.
    """

    decoder: Decoder
    max_length: int

    def _goal(self, targets: Any, lengths: Any) -> Goal:
        """The user's targets, if they are some that can be written."""
        tokens, valid = checked_tokens(self._time_first(targets), self.decoder.boundary, lengths, "target tokens")
        if len(tokens) > self.max_length:
            raise tg.ShapeError(f"targets of {len(tokens)} steps are longer than the model's max_length, {self.max_length}")
        return Goal(*with_boundary(tokens, valid, self.decoder.boundary))

    def _follow(self, begin: Beginning, goal: Goal, teacher: SupportsFloat = 1.0, choose: str = "sample") -> list[Said]:
        """What the decoder says at each step on its way to the goal."""
        with tg.scope("decoder", part="decoder"):
            return self.decoder.follow(goal.tokens, begin.states, begin.memory, goal.valid, teacher, choose)

    def _logits(self, steps: list[Said]) -> Any:
        """Those of all steps, (T + 1, B, V + 1)."""
        with tg.scope("decoder", time_axis=0, part="decoder"):
            return stack([said.logits for said in steps])

    def _log_probability(self, begin: Beginning, goal: Goal) -> Array:
        """Of each goal, (B,)."""
        logits = self._logits(self._follow(begin, goal))
        losses = tg.losses.cross_entropy(logits, goal.tokens, mask=goal.valid, reduction="none")
        total: Array = -losses.data.sum(axis=0)
        return total

    def _searched(
        self, begin: Beginning, beam: int, length_penalty: float, n_best: int | None, max_length: int | None
    ) -> list[list[Hypothesis]]:
        """For each row what beam search finds, best first."""
        memory = begin.memory
        if memory is not None and beam > 1:
            memory = memory.of_rows(np.repeat(np.arange(begin.rows), beam))
        return beam_search(
            self._step(memory), begin.states, self._start(begin), self._most(max_length), self.decoder.boundary,
            beam=beam, length_penalty=length_penalty, n_best=n_best,
        )  # fmt: skip

    def _sampled(self, begin: Beginning, temperature: float, top_k: int | None, max_length: int | None) -> list[Hypothesis]:
        """For each row a sequence at random."""
        return sample(
            self._step(begin.memory), begin.states, self._start(begin), self._most(max_length), self.decoder.boundary,
            temperature=temperature, top_k=top_k,
        )  # fmt: skip

    def _start(self, begin: Beginning) -> Array:
        return np.full(begin.rows, self.decoder.boundary)

    def _most(self, max_length: int | None) -> int:
        return self.max_length if max_length is None else max_length

    def _step(self, memory: Memory | None) -> Step:
        """The decoder as decoding asks for it."""
        clock = count()

        def step(tokens: Array, states: list[State]) -> tuple[Any, list[State]]:
            with tg.scope("decoder", part="decoder"):
                said = self.decoder.step(tokens, states, next(clock), memory)
                return tg.log_softmax(said.logits), said.states

        return step
