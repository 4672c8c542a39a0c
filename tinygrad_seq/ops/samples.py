"""Sample calls, on which the tests check every primitive: shapes that have broken autodiff engines before.

A sample draws its inputs from a generator, so that it is the same in every run. Among those of a family stand a
broadcast, an empty array, a 0-d array, a negative axis and an array that is not contiguous in memory, where the
operation allows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_seq.dtypes import Shape
from tinygrad_seq.primitive import Sample

Draw = Callable[[np.random.Generator, Shape], Any]


def uniform(low: float, high: float) -> Draw:
    """Numbers between low and high."""
    return lambda rng, shape: np.asarray(rng.uniform(low, high, shape))


def away_from(gap: float, reach: float, kinks: tuple[float, ...] = (0.0,)) -> Draw:
    """Numbers up to `reach` in size that keep a distance to points where the derivative jumps or is infinite."""

    def draw(rng: np.random.Generator, shape: Shape) -> Any:
        x = np.asarray(rng.uniform(-reach, reach, shape))
        for kink in kinks:
            x = np.where(np.abs(x - kink) < gap, kink + gap * np.where(x < kink, -1.5, 1.5), x)
        return x

    return draw


def distinct() -> Draw:
    """Numbers of which no two are close, for operations that compare."""
    return lambda rng, shape: np.asarray(rng.permutation(int(np.prod(shape))).reshape(shape) - 1.3)


def integers(low: int, high: int, dtype: Any = int) -> Draw:
    """Integers from low up to, but not including, high; or truth values, for the dtype bool."""
    return lambda rng, shape: np.asarray(rng.integers(low, high, shape)).astype(dtype)


normal: Draw = uniform(-2.0, 2.0)
apart: tuple[Draw, Draw] = (distinct(), lambda rng, shape: distinct()(rng, shape) + 0.5)  # two inputs that are compared


def strided(rng: np.random.Generator, shape: Shape, draw: Draw = normal) -> Any:
    """An array of this shape that is not contiguous: every other element of a transposed one."""
    return draw(rng, (*shape[::-1], 2))[..., 0].T


def unary(draw: Draw = normal, **params: Any) -> list[Sample]:
    """Samples of an elementwise operation of one input."""
    return [
        Sample(lambda rng: (draw(rng, (3, 4)),), params),
        Sample(lambda rng: (draw(rng, ()),), params),
        Sample(lambda rng: (draw(rng, (0, 3)),), params),
        Sample(lambda rng: (strided(rng, (3, 2), draw),), params),
    ]


def binary(left: Draw = normal, right: Draw | None = None, **params: Any) -> list[Sample]:
    """Samples of an elementwise operation of two inputs, broadcast against each other in several ways."""
    draws = (left, right or left)
    shapes = [((3, 4), (3, 4)), ((3, 1), (1, 4)), ((4,), (2, 3, 4)), ((), (3,)), ((), ()), ((0, 3), (3,)), ((1,), (2, 2))]
    return [*[drawn(draws, pair, **params) for pair in shapes], drawn(draws, ((3, 2), (3, 2)), strided, **params)]


def ternary(first: Draw, second: Draw, third: Draw, **params: Any) -> list[Sample]:
    """Samples of an elementwise operation of three inputs, broadcast against each other."""
    draws = (first, second, third)
    shapes = [((3, 4), (3, 4), (3, 4)), ((3, 1), (1, 4), (4,)), ((4,), (2, 3, 4), ()), ((), (), ()), ((0, 3), (3,), ())]
    return [*[drawn(draws, triple, **params) for triple in shapes], drawn(draws, ((3, 2),) * 3, strided, **params)]


def drawn(draws: Sequence[Draw], shapes: Sequence[Shape], arrange: Callable[..., Any] | None = None, **params: Any) -> Sample:
    """One sample with an input for each draw, of the shape at its place; `arrange=strided` makes views of them."""

    def inputs(rng: np.random.Generator) -> tuple[Any, ...]:
        return tuple([draw(rng, shape) if arrange is None else arrange(rng, shape, draw) for draw, shape in zip(draws, shapes)])

    return Sample(inputs, params)


def shaped(*shapes: Shape, draw: Draw = normal, **params: Any) -> Sample:
    """One sample with inputs of these shapes."""
    return Sample(lambda rng: tuple(draw(rng, shape) for shape in shapes), params)


def view(shape: Shape, /, draw: Draw = normal, **params: Any) -> Sample:
    """One sample with one input that is not contiguous."""
    return Sample(lambda rng: (strided(rng, shape, draw),), params)
