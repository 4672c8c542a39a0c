"""Who feeds a step that reads the last output: the teacher, the network itself, or either by chance. Needs the engine only.

In training the last output is known to be right or wrong, and the right one, the target, can be fed in its place. That is
teacher forcing ("Deep Learning", section 10.2.1): quick to learn, since no step suffers from the mistakes of another. But
at test time there is no teacher, and a network that has only seen right inputs does not know what to do after its first
mistake: its inputs are distributed in another way. Scheduled sampling lets it get used to itself: each step's input is
the teacher's with a probability that falls during the training.

    teacher = 1         teacher forcing
    teacher = 0         free running
    in between          scheduled sampling: one coin for each step and row

S. Bengio, O. Vinyals, N. Jaitly & N. Shazeer, "Scheduled sampling for sequence prediction with recurrent neural networks"
(2015), where the probability is called epsilon.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp
from typing import Any, SupportsFloat

import numpy as np

from tinygrad_seq.dtypes import Array
from tinygrad_seq.ops.reduce import argmax
from tinygrad_seq.random import generator


def by_teacher(teacher: SupportsFloat, steps: int, batch: int) -> Array:
    """Whether the input of each step and row is the teacher's, (T, B) truth values.

    Drawn from the engine's generator, for all steps at once; with a probability of 0 or 1 nothing is drawn.

    Args:
        teacher: the probability, or a schedule, which says what it is now.
        steps, batch: T and B.

    Raises:
        ValueError: it is no probability.
    """
    p = float(teacher)
    if not 0 <= p <= 1:
        raise ValueError(f"teacher is the probability that a step reads the target, from 0 to 1, not {p}")
    if p in (0, 1):
        return np.full((steps, batch), p == 1)
    coins: Array = generator().random((steps, batch)) < p
    return coins


def chosen(logits: Any, choose: str = "sample") -> Any:
    """A network's own tokens, (B,) integers, out of logits (B, V): drawn from their softmax, or the best.

    A choice has no derivative: on the tape, and in a picture, it is seen that the next step depends on it, and that no
    gradient comes back this way.

    Raises:
        ValueError: `choose` is neither "sample" nor "best".
    """
    if choose == "sample":
        logits = logits + generator().gumbel(size=logits.shape)  # the largest is then distributed as the softmax says
    elif choose != "best":
        raise ValueError(f'choose is "sample" or "best", not {choose!r}')
    return argmax(logits, axis=-1)


class TeacherSchedule:
    """The probability that the teacher feeds a step, falling from update to update of the training.

    Wherever a model takes `teacher`, a schedule can be given instead of a number. Call `step` after each update.

    Args:
        least: the probability never falls below it.

    Attributes:
        n: how many updates there have been.

    Example:
        >>> from tinygrad_seq.models.forcing import LinearDecay
        >>> teacher = LinearDecay(steps=4)
        >>> for update in range(3):
        ...     print(update, teacher.probability)
        ...     teacher.step()
        0 1.0
        1 0.75
        2 0.5
    """

    def __init__(self, least: float = 0.0) -> None:
        if not 0 <= least <= 1:
            raise ValueError(f"least is a probability, from 0 to 1, not {least}")
        self.least = float(least)
        self.n = 0

    def decayed(self, n: int) -> float:
        """The probability after n updates, before `least` is minded; for the subclass to define."""
        raise NotImplementedError(f"{type(self).__name__} does not define decayed")

    @property
    def probability(self) -> float:
        """The one that holds now."""
        return max(self.least, self.decayed(self.n))

    def __float__(self) -> float:
        return self.probability

    def step(self) -> None:
        """Go one update on."""
        self.n += 1

    def state_dict(self) -> dict[str, Any]:
        """Its settings and where it stands, as plain data."""
        return {"schedule": type(self).__name__, **vars(self)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state_dict` was taken.

        Raises:
            ValueError: it is the state of another schedule. Nothing has been changed.
        """
        own = self.state_dict()
        if state.keys() != own.keys() or any(type(state[name]) is not type(own[name]) for name in own):
            raise ValueError(f"this is no state of {own['schedule']}, but {dict(state)}")
        if state["schedule"] != own["schedule"]:
            raise ValueError(f"this is the state of {state['schedule']}, and not of {own['schedule']}")
        vars(self).update({name: value for name, value in state.items() if name != "schedule"})


class LinearDecay(TeacherSchedule):
    """In a straight line: 1 - n / steps."""

    def __init__(self, steps: int, least: float = 0.0) -> None:
        if steps < 1:
            raise ValueError(f"steps is at least 1, not {steps}")
        self.steps = steps
        super().__init__(least)

    def decayed(self, n: int) -> float:
        """See the class."""
        return 1 - n / self.steps


class ExponentialDecay(TeacherSchedule):
    """k^n, with 0 < k < 1."""

    def __init__(self, k: float, least: float = 0.0) -> None:
        if not 0 < k < 1:
            raise ValueError(f"k is between 0 and 1, not {k}")
        self.k = float(k)
        super().__init__(least)

    def decayed(self, n: int) -> float:
        """See the class."""
        return self.k**n


class InverseSigmoidDecay(TeacherSchedule):
    """k / (k + exp(n / k)), with k >= 1: near 1 for a while, one half at n = k log k, near 0 in the end."""

    def __init__(self, k: float, least: float = 0.0) -> None:
        if not k >= 1:
            raise ValueError(f"k is at least 1, not {k}")
        self.k = float(k)
        super().__init__(least)

    def decayed(self, n: int) -> float:
        """See the class, with numerator and denominator divided by exp(n / k), which would overflow."""
        shrunk = self.k * exp(-n / self.k)
        return shrunk / (shrunk + 1)
