"""The engine's own random numbers: one generator for initial weights, dropout and shuffling. Needs nothing of ours.

A run that can be repeated draws all its numbers from one place, whose state can be written down. The state is plain
data (a dict of strings and integers), so a checkpoint file holds it as JSON and a resumed run draws on as if it had
never stopped.

Threads: a single draw is safe (NumPy locks the bit generator), but threads that share the generator take turns in an
order that nobody fixes. A thread that must be repeatable runs inside `replaying` with a state of its own, which other
threads do not notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

_process_generator = np.random.Generator(np.random.PCG64())  # unseeded: every process starts elsewhere
_context_generator: ContextVar[np.random.Generator | None] = ContextVar("tinygrad_seq generator", default=None)


def generator() -> np.random.Generator:
    """The generator that everything in the engine draws from; the same object for the whole process.

    Example:
        >>> from tinygrad_seq import random
        >>> random.manual_seed(1)
        >>> int(random.generator().integers(100))
        47
    """
    return _context_generator.get() or _process_generator


def manual_seed(seed: int) -> None:
    """Start the generator anew, so that the draws that follow are the same in every run.

    Args:
        seed: a non-negative integer.
    """
    generator().bit_generator.state = np.random.PCG64(seed).state


def get_state() -> dict[str, Any]:
    """Where the generator stands, as plain data that JSON can hold."""
    return dict(generator().bit_generator.state)


def set_state(state: dict[str, Any]) -> None:
    """Put the generator where it stood when `get_state` gave this state.

    Raises:
        ValueError: this is no such state; the generator stands where it stood.
    """
    generator().bit_generator.state = started_from(state).bit_generator.state


@contextmanager
def replaying(state: dict[str, Any]) -> Iterator[None]:
    """Draw inside from a generator that starts at `state`; the process's own does not move.

    This is how a checkpointed function meets the same dropout masks when it is run again.

    Example:
        >>> from tinygrad_seq import random
        >>> state = random.get_state()
        >>> first = random.generator().normal()
        >>> with random.replaying(state):
        ...     random.generator().normal() == first
        True
    """
    token = _context_generator.set(started_from(state))
    try:
        yield
    finally:
        _context_generator.reset(token)


def started_from(state: dict[str, Any]) -> np.random.Generator:
    """A new generator that stands at `state`; ValueError if it is not one of `get_state`'s."""
    made = np.random.Generator(np.random.PCG64(0))
    try:
        made.bit_generator.state = state
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"not the state of a generator, as get_state() gives it: {error}") from error
    if made.bit_generator.state != state:  # NumPy rounds what is no integer
        raise ValueError("not the state of a generator, as get_state() gives it: it cannot be restored exactly")
    return made
