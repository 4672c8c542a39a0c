"""Decoding: from a network that says what may come next to sequences of tokens. Needs NumPy only, and any network.

A network is given as a function `step(tokens, state) -> (log_probabilities, state)`: the tokens (N,) that are read now, one
for each of N rows, and what the network remembers; it gives the log-probability (N, V) of each token to be next. The state
is an array or tensor with the rows on its first axis, or nested tuples, lists and dicts of such.

    greedy          takes the most probable token at each step
    sample          takes one at random, by its probability
    beam_search     keeps the best few beginnings at each step, and gives the best few sequences

All of them work on a batch, and start with `start` (B,), the tokens that are read first. A sequence ends with the token
`end`, or after `max_length` tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq.dtypes import Array
from tinygrad_seq.explain import whole
from tinygrad_seq.nested import leaves, rebuilt
from tinygrad_seq.random import generator
from tinygrad_seq.tensor import as_array

State = Any
Step = Callable[[Array, State], tuple[Any, State]]


class Hypothesis(NamedTuple):
    """A sequence that was found."""

    tokens: Array
    """(n,) int64, without the start, and without the end."""
    log_probability: float
    """The sum of the log-probabilities of its tokens and, if it has ended, of the end."""
    score: float
    """What hypotheses are ranked by: the log-probability over the length penalty."""
    ended: bool
    """Whether it ends by the token `end`, or was cut off at `max_length`."""


def penalty(length: int, alpha: float) -> float:
    """((5 + length) / 6)^alpha, by which a log-probability is divided, so that longer sequences are not at a disadvantage.

    Wu et al., "Google's neural machine translation system" (2016), equation 14. alpha = 0 ranks by probability; the paper
    found 0.6 to 0.7 best. The length counts the end, if there is one.
    """
    return float(((5 + length) / 6) ** alpha)


def greedy(step: Step, state: State, start: Any, max_length: int, end: int | None = None) -> list[Hypothesis]:
    """At each step the most probable token; of several the one with the smallest number.

    Args:
        step, state: the network, and what it remembers before it reads anything; see the top of the file.
        start: (B,) integers, the tokens that are read first.
        max_length: how many tokens are written at most, the end included.
        end: the token that ends a sequence; None if none does.

    Returns:
        A hypothesis for each row.

    Example:
        >>> import numpy as np
        >>> from tinygrad_seq.models.decoding import greedy
        >>> follows = np.log([[0.1, 0.7, 0.2], [0.2, 0.1, 0.7], [0.4, 0.3, 0.3]])  # a Markov chain
        >>> greedy(lambda tokens, state: (follows[tokens], state), (), start=[0, 1], max_length=9, end=0)[0].tokens
        array([1, 2])
    """
    return _one_by_one(step, state, start, max_length, end, lambda log_p: log_p.argmax(axis=-1))


def sample(
    step: Step,
    state: State,
    start: Any,
    max_length: int,
    end: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    rng: np.random.Generator | None = None,
) -> list[Hypothesis]:
    """At each step a token at random.

    Args:
        step, state, start, max_length, end: as for `greedy`.
        temperature: log-probabilities are divided by it: below 1 the probable becomes more probable; 0 is greedy.
        top_k: only so many of the most probable tokens can be drawn; all by default.
        rng: the generator to draw from; the engine's own by default.

    Returns:
        A hypothesis for each row; its log-probability is the network's own, without temperature.

    Raises:
        ValueError: a negative temperature, or top_k < 1.
    """
    if not isinstance(temperature, int | float | np.number):
        raise TypeError(f"temperature is a number of at least 0, not {temperature!r}")
    if not temperature >= 0 or (top_k is not None and top_k < 1):
        raise ValueError(f"temperature is at least 0 and top_k at least 1, not {temperature} and {top_k}")
    rng = rng or generator()

    def drawn(log_p: Array) -> Array:
        kept = log_p if top_k is None else np.where(_ranks(log_p) < top_k, log_p, -np.inf)
        if temperature == 0:
            return kept.argmax(axis=-1)  # type: ignore[no-any-return]
        # The largest of logits + Gumbel noise is distributed as their softmax says.
        return (kept / temperature + rng.gumbel(size=kept.shape)).argmax(axis=-1)  # type: ignore[no-any-return]

    return _one_by_one(step, state, start, max_length, end, drawn)


def _ranks(log_p: Array) -> Array:
    """0 for the most probable token of each row, 1 for the next, ...; of several the smallest number comes first."""
    order = np.argsort(-log_p, axis=-1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(log_p.shape[-1])[None], axis=-1)
    return ranks


def _one_by_one(
    step: Step, state: State, start: Any, max_length: int, end: int | None, choose: Callable[[Array], Array]
) -> list[Hypothesis]:
    """A sequence for each row, by choosing a token at each step."""
    tokens = _checked_start(start, max_length)
    running = np.ones(len(tokens), bool)
    total = np.zeros(len(tokens))
    lengths = np.zeros(len(tokens), np.int64)  # without the end
    written: list[Array] = []
    for _ in range(max_length):
        log_p, state = _stepped(step, tokens, state, end)
        tokens = choose(log_p)
        p = np.take_along_axis(log_p, tokens[:, None], axis=-1)[:, 0]
        _refuse_impossible(p[running], len(written))
        total = np.where(running, total + p, total)
        written.append(tokens)
        running = running & (tokens != end) if end is not None else running
        lengths += running
        if not running.any():
            break
    rows = np.array(written).T
    return [
        Hypothesis(row[:n], float(p), float(p), not unfinished) for row, n, p, unfinished in zip(rows, lengths, total, running)
    ]


def beam_search(
    step: Step,
    state: State,
    start: Any,
    max_length: int,
    end: int | None = None,
    beam: int = 4,
    length_penalty: float = 0.0,
    n_best: int | None = None,
) -> list[list[Hypothesis]]:
    """The best sequences that are found by keeping the `beam` most probable beginnings at each step.

    A beginning that ends takes its place in the beam with it: the others go on with one place less. So a beam of 1 is
    greedy, and one that is wide enough (vocabulary ** max_length always is) finds the best of all sequences.

    Args:
        step, state, start, max_length, end: as for `greedy`. `step` is called with B * beam rows, those of one sequence
            side by side: row n belongs to sequence n // beam. The state is repeated and reordered along the first axis.
        beam: how many beginnings are kept.
        length_penalty: alpha of the `penalty` for short sequences by which the found ones are ranked; 0 is none.
        n_best: how many hypotheses to give for each row; by default all that were found, at most `beam`.

    Returns:
        For each row a list of distinct hypotheses, best first.

    Raises:
        ValueError: beam < 1, or n_best is not from 1 to beam.
    """
    if whole("beam", beam) < 1 or not (n_best is None or 1 <= n_best <= beam):
        raise ValueError(f"beam is at least 1 and n_best from 1 to beam, not {beam} and {n_best}")
    first = _checked_start(start, max_length)
    batch = len(first)
    found: list[list[Hypothesis]] = [[] for _ in range(batch)]
    # One beginning, the empty one; the other places are still free, at a log-probability of -inf.
    total: Array = np.full((batch, beam), -np.inf)
    total[:, 0] = 0
    written = np.zeros((batch, beam, 0), np.int64)
    tokens = np.repeat(first, beam)
    state = _select(state, np.repeat(np.arange(batch), beam))
    for length in range(1, max_length + 1):
        log_p, state = _stepped(step, tokens, state, end)
        extended = total[:, :, None] + log_p.reshape(batch, beam, -1)  # (B, beam, V)
        total, parents, last = _extend(extended, [beam - len(each) for each in found])
        _refuse_impossible(total.max(axis=1)[[not each for each in found]], length - 1)
        written = np.concatenate([np.take_along_axis(written, parents[:, :, None], axis=1), last[:, :, None]], axis=2)
        ended = np.isfinite(total) & (last == end) if end is not None else np.zeros(total.shape, bool)
        for b, place in np.argwhere(ended):
            found[b].append(_hypothesis(written[b, place, :-1], total[b, place], length, length_penalty, True))
        total = np.where(ended, -np.inf, total)
        if not np.isfinite(total).any():
            break
        tokens = last.reshape(-1)
        state = _select(state, (np.arange(batch)[:, None] * beam + parents).reshape(-1))
    for b, place in np.argwhere(np.isfinite(total)):
        found[b].append(_hypothesis(written[b, place], total[b, place], max_length, length_penalty, False))
    return [sorted(each, key=lambda hypothesis: -hypothesis.score)[:n_best] for each in found]


def _extend(extended: Array, free: list[int]) -> tuple[Array, Array, Array]:
    """The best extensions of each sequence, as many as it has places: log-probability, beginning and last token, (B, beam)."""
    batch, beam, size = extended.shape
    flat = extended.reshape(batch, beam * size)
    best = np.argsort(-flat, axis=-1, kind="stable")[:, :beam]  # beam <= beam * size
    total = np.take_along_axis(flat, best, axis=-1)
    total = np.where(np.arange(beam) < np.array(free)[:, None], total, -np.inf)
    return total, best // size, best % size


def _hypothesis(tokens: Array, log_probability: float, length: int, alpha: float, ended: bool) -> Hypothesis:
    log_probability = float(log_probability)
    return Hypothesis(tokens.copy(), log_probability, log_probability / penalty(length, alpha), ended)


# ---- the network, asked ---------------------------------------------------------------------------------------------------


def _checked_start(start: Any, max_length: int) -> Array:
    tokens = as_array(start)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu" or not len(tokens):
        raise TypeError(f"start is a token for each row, integers (B,), not {tokens.dtype} of shape {tokens.shape}")
    if whole("max_length", max_length) < 1:
        raise ValueError(f"max_length is at least 1, not {max_length}")
    return tokens.astype(np.int64)


def _stepped(step: Step, tokens: Array, state: State, end: int | None) -> tuple[Array, State]:
    """One step of the network: log-probabilities (N, V) in float64, and the new state."""
    with tg.no_grad():
        log_p, state = step(tokens, state)
    scores = as_array(log_p).astype(np.float64)
    if scores.ndim != 2 or len(scores) != len(tokens) or not scores.shape[1]:
        raise tg.ShapeError(f"step gives log-probabilities ({len(tokens)}, V) for as many tokens, not the shape {scores.shape}")
    if end is not None and not 0 <= end < scores.shape[1]:
        raise IndexError(f"the token {end} that ends a sequence is outside of 0 to {scores.shape[1] - 1}")
    if np.isnan(scores).any():
        row = int(np.argwhere(np.isnan(scores))[0, 0])
        raise FloatingPointError(f"step gave NaN for row {row}; tg.detect_anomaly() finds where it comes from")
    return scores, state


def _select(state: State, rows: Array) -> State:
    """The state with these of its rows."""
    with tg.no_grad():
        return rebuilt(state, [None if leaf is None else leaf[rows] for leaf in leaves(state)])


def _refuse_impossible(log_p: Array, steps: int) -> None:
    """Raise if one of the best that can be written now is impossible."""
    if np.isneginf(log_p).any():
        raise ValueError(f"after {steps} tokens no token has a probability above 0")
