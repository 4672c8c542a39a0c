"""The opponent of every model that writes letter by letter: counts of what follows the last few. NumPy's arrays only.

An n-gram model of order 4 says how probable a token is after the three before it, from how often each has stood there. Most
long contexts have been seen once or never, so the art is in what is taken from the counts and given to what was never seen.
This is the best of the classical answers, Kneser & Ney's ("Improved backing-off for m-gram language modeling", 1995) in the
interpolated form with three discounts of Chen & Goodman ("An empirical study of smoothing techniques for language modeling",
1998, section 3): each count is discounted, and what is saved goes to the shorter context,

    p(w | context) = (count(context w) - D(count)) / count(context) + share(context) p(w | shorter context)

where a shorter context does not count how often w has followed, but after how many different tokens: "Francisco" is frequent,
but it only ever follows "San". The shortest context of all, none, backs off to all tokens alike.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
Tokens = Sequence[int] | Array  # (N,)
Context = tuple[int, ...]
Followers = dict[Context, Counter[int]]
Discounts = tuple[float, float, float]


class Seen(NamedTuple):
    """What has followed a context."""

    left: dict[int, float]
    """For each token its count, discounted."""
    saved: float
    """The discounts of all of them."""
    total: int
    """Their counts."""

    @classmethod
    def of(cls, followers: Counter[int], taken: Discounts) -> Seen:
        """From counts, and what is taken from a count of 1, of 2, of 3 or more."""
        left = {token: count - taken[min(count, 3) - 1] for token, count in followers.items()}
        return cls(left, followers.total() - sum(left.values()), followers.total())


class NGram:
    """p(token | the order - 1 tokens before it).

    Args:
        sequences: what to count in, of integers in range(size); nothing is counted across their ends.
        size: how many tokens V there are.
        order: n; 1 knows no context.

    Example:
        >>> model = NGram([[0, 1, 0, 1, 0, 2]], size=3, order=2)
        >>> round(sum(model.probability((0,), token) for token in range(3)), 12)
        1.0
    """

    def __init__(self, sequences: Iterable[Tokens], size: int, order: int) -> None:
        if order < 1 or size < 1:
            raise ValueError(f"order and size must be at least 1, not {order} and {size}")
        self.size = size
        self.order = order
        found = levels(sequences, order)
        self.discounts = [discounts(level) for level in found]
        self.levels = [
            {context: Seen.of(followers, taken) for context, followers in level.items()}
            for level, taken in zip(found, self.discounts)
        ]

    def probability(self, context: Context, token: int) -> float:
        """p(token | context): of a context that is longer than the model reads its end, one that is shorter as it is."""
        p = 1 / self.size
        for length, level in enumerate(self.levels[: len(context) + 1]):
            seen = level.get(context[len(context) - length :])
            if seen is None:  # then no longer context has been seen, either
                break
            p = (seen.left.get(token, 0.0) + seen.saved * p) / seen.total
        return p

    def bits(self, sequence: Tokens, first: int = 1) -> Array:
        """How many bits each token of a sequence costs, from number `first` on, given those before it: (N - first,) float64."""
        tokens = [int(token) for token in sequence]
        contexts = (tuple(tokens[max(0, i - self.order + 1) : i]) for i in range(first, len(tokens)))
        p = [self.probability(context, token) for context, token in zip(contexts, tokens[first:])]
        return -np.log2(np.array(p))


def levels(sequences: Iterable[Tokens], order: int) -> list[Followers]:
    """For contexts of 0, 1, ..., order - 1 tokens: what has followed each, and how often or after how many others."""
    longest: Followers = defaultdict(Counter)
    for sequence in sequences:
        tokens = [int(token) for token in sequence]
        for i in range(order - 1, len(tokens)):
            longest[tuple(tokens[i - order + 1 : i])][tokens[i]] += 1
    found = [longest]
    for _ in range(order - 1):
        shorter: Followers = defaultdict(Counter)
        for context, followers in found[0].items():
            shorter[context[1:]].update(followers.keys())
        found.insert(0, shorter)
    return [dict(level) for level in found]


def discounts(level: Followers) -> Discounts:
    """What is taken from a count of 1, of 2, of 3 or more (Chen & Goodman, equation 26), from how many counts there are of each.

    Where there are too few to estimate all three, one for all of them, Kneser & Ney's, or, without counts of 1 or 2, one half.
    """
    of = Counter(count for followers in level.values() for count in followers.values())
    y = of[1] / (of[1] + 2 * of[2]) if of[1] and of[2] else 0.5
    if not (of[1] and of[2] and of[3]):
        return y, y, y
    one, two, more = (k - (k + 1) * y * of[k + 1] / of[k] for k in (1, 2, 3))
    return one, max(two, 0.0), max(more, 0.0)
