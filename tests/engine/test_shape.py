"""Shapes: NumPy's values on every axis, and each cotangent back in its place.

All of these operations are linear, so one identity checks a pullback exactly: for every u and dx,
sum(u * f(dx)) = sum(pullback(u) * dx). Finite differences on each primitive's samples are checked elsewhere.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_seq as tg

Function = Callable[[Any], Any]


def assert_linear(function: Function, *shapes: tuple[int, ...], seed: int = 0) -> None:
    """Forward as NumPy's, pullback its transpose; and the pullback of the pullback the function again."""
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=shape) for shape in shapes]
    leaves = [tg.tensor(array, requires_grad=True) for array in arrays]
    found, wanted = listed(function(*leaves)), listed(function(*arrays))
    assert [y.shape for y in found] == [y.shape for y in wanted]
    us = [tg.tensor(rng.normal(size=y.shape), requires_grad=True) for y in found]
    total = sum(np.sum(u * y) for u, y in zip(us, found))
    for y, right in zip(found, wanted):
        np.testing.assert_array_equal(y.data, right)
    total.backward(create_graph=True)
    through_g = sum(np.sum(leaf.grad * array) for leaf, array in zip(leaves, arrays))
    through_y = sum(np.sum(u.data * right) for u, right in zip(us, wanted))
    np.testing.assert_allclose(through_g.item(), through_y, rtol=1e-12, atol=1e-12)
    for u in us:
        u.zero_grad()
    through_g.backward()
    for u, right in zip(us, wanted):
        np.testing.assert_allclose(u.grad.data, right, rtol=1e-12)


def listed(result: Any) -> list[Any]:
    return list(result) if isinstance(result, (list, tuple)) else [result]


def gradient(function: Function, x: Any, cotangent: Any = 1.0) -> Any:
    leaf = tg.tensor(np.asarray(x, float), requires_grad=True)
    y = function(leaf)
    y.backward(np.broadcast_to(np.asarray(cotangent, float), y.shape))
    return leaf.grad.data


shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
full_shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=3)


@st.composite
def shape_and_axis(draw: Any) -> tuple[tuple[int, ...], int]:
    shape = draw(full_shapes)
    return shape, draw(st.integers(-len(shape), len(shape) - 1))


# ---- the same numbers in another arrangement --------------------------------------------------------------------------


@given(st.data())
def test_rearranged(data: Any) -> None:
    shape = data.draw(full_shapes)
    axes = data.draw(st.permutations([axis - len(shape) * data.draw(st.booleans()) for axis in range(len(shape))]))
    assert_linear(lambda x: np.transpose(x, axes), shape)
    assert_linear(lambda x: np.transpose(x, tuple(axes)), shape)
    assert_linear(lambda x: np.moveaxis(x, axes[0], axes[-1]), shape)
    assert_linear(lambda x: np.moveaxis(x, axes, list(range(len(shape)))), shape)
    assert_linear(lambda x: np.swapaxes(x, axes[0], axes[-1]), shape)
    assert_linear(lambda x: x.swapaxes(axes[0], axes[-1]), shape)
    assert_linear(lambda x: np.flip(x, tuple(axes[:2])), shape)
    assert_linear(lambda x: np.roll(x, (2, -1), (axes[0], axes[-1])), shape)
    assert_linear(lambda x: np.expand_dims(x, (0, -1)), shape)
    assert_linear(lambda x: np.reshape(x, shape[::-1]), shape)


@given(shapes)
def test_of_all_axes(shape: tuple[int, ...]) -> None:
    for function in (np.ravel, np.transpose, np.flip, np.squeeze):
        assert_linear(function, shape)
    for function in (lambda x: x.T, lambda x: x.flatten(), lambda x: x.reshape(x.shape), lambda x: np.roll(x, 2)):
        assert_linear(function, shape)
    stretched = (2, *shape)
    assert_linear(lambda x: np.broadcast_to(x, stretched), shape)


def test_reshape_takes_a_shape_or_lengths_and_infers_one() -> None:
    x = tg.tensor(np.arange(6.0))
    assert x.reshape(2, 3).shape == x.reshape((2, 3)).shape == x.reshape(2, -1).shape == np.reshape(x, [-1, 3]).shape == (2, 3)


def test_a_shape_that_does_not_fit_is_named_with_its_place() -> None:
    with tg.scope("decoder", t=4), pytest.raises(tg.ShapeError, match=r"reshape of \(2, 3\) float32, in decoder, t=4: cannot"):
        tg.tensor([[1.0, 2, 3], [4, 5, 6]]).reshape(4, 2)


def test_views_are_views() -> None:
    x = tg.tensor(np.ones((2, 3)))
    for y in (x.T, x.reshape(3, 2), x.ravel(), np.swapaxes(x, 0, 1), x[0], x[tg.tensor(0)], *np.split(x, 3, axis=1)):
        assert np.shares_memory(x.data, y.data)


@pytest.mark.parametrize("transposed", [
    lambda W: W.T, lambda W: np.transpose(W, [1, 0]), lambda W: W.transpose(1, 0), lambda W: W.swapaxes(0, 1),
])  # fmt: skip
def test_a_view_of_a_weight_in_every_step(transposed: Function) -> None:
    rng = np.random.default_rng(0)
    W = tg.tensor(rng.normal(size=(2, 3)), requires_grad=True)
    xs = rng.normal(size=(5, 4, 3))
    loss = sum(np.sum(np.sin(x @ transposed(W))) for x in xs)
    loss.backward()
    wanted = sum(np.cos(x @ W.data.T).T @ x for x in xs)
    np.testing.assert_allclose(W.grad.data, wanted, rtol=1e-12)


def test_questions_about_shape_are_answered_with_numbers() -> None:
    x = tg.tensor(np.ones((2, 3)), requires_grad=True)
    assert (np.shape(x), np.ndim(x), np.size(x), np.size(x, 1)) == ((2, 3), 2, 6, 3)
    made = [np.zeros_like(x), np.ones_like(x), np.full_like(x, 7)]
    for y, value in zip(made, (0, 1, 7)):
        assert not y.requires_grad
        assert y.dtype == x.dtype
        np.testing.assert_array_equal(y.data, np.full((2, 3), value))
    assert np.zeros_like(x, dtype=int).dtype == int


# ---- joined and cut ---------------------------------------------------------------------------------------------------


@given(shape_and_axis(), st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_concatenate_and_split(case: tuple[tuple[int, ...], int], lengths: list[int]) -> None:
    shape, axis = case
    parts = [(*shape[: axis % len(shape)], n, *shape[axis % len(shape) + 1 :]) for n in lengths]
    assert_linear(lambda *xs: np.concatenate(xs, axis), *parts)
    assert_linear(lambda *xs: np.concatenate(xs, axis=None), *parts)
    assert_linear(lambda *xs: np.stack(xs, axis), shape, shape)
    whole = (*shape[: axis % len(shape)], sum(lengths), *shape[axis % len(shape) + 1 :])
    assert_linear(lambda x: np.split(x, np.cumsum(lengths[:-1]).tolist(), axis), whole)
    doubled = (*shape[: axis % len(shape)], 2 * shape[axis], *shape[axis % len(shape) + 1 :])
    assert_linear(lambda x: np.split(x, 2, axis), doubled)


@pytest.mark.parametrize("indices", [[1, 3], [-2], [0, 9], [5], np.array([2, 2]), (np.int64(1),), []])
def test_split_at_indices(indices: Any) -> None:
    assert_linear(lambda x: np.split(x, indices), (5, 2))


def test_split_at_indices_held_by_a_tensor() -> None:
    parts = tg.split(tg.tensor(np.arange(5.0)), tg.tensor([2, 3]))
    assert [part.tolist() for part in parts] == [[0, 1], [2], [3, 4]]


def test_parts_that_nothing_uses_have_a_cotangent_of_zero() -> None:
    np.testing.assert_array_equal(gradient(lambda x: np.split(x, 3)[1] * 2, np.ones(6)), [0, 0, 2, 2, 0, 0])


@pytest.mark.parametrize(("sections", "axis", "problem"), [
    (4, 1, "cannot be cut into 4 equal parts"),
    (0, 1, "cannot be cut into 0 equal parts"),
    ([3, 1], 1, "must ascend"),
    (2, 2, "axis 2 is out of bounds"),
])  # fmt: skip
def test_a_split_that_cannot_be(sections: Any, axis: int, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        tg.split(tg.tensor(np.ones((2, 6))), sections, axis)


def test_the_stacks_of_rows_and_columns() -> None:
    for function in (np.vstack, np.hstack):
        assert_linear(lambda *xs, f=function: f(xs), (3,), (3,))
        assert_linear(lambda *xs, f=function: f(xs), (2, 3), (2, 3), (2, 3))
        assert_linear(lambda *xs, f=function: f(xs), (), ())
    assert_linear(lambda *xs: np.vstack(xs), (3,), (2, 3))


def test_arrays_and_tensors_are_joined() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = np.concatenate([np.array([5.0], "f4"), x])
    assert y.requires_grad
    assert y.tolist() == [5, 1, 2]
    assert np.stack([x, np.ones(2, "f4")]).shape == (2, 2)


def test_shapes_that_cannot_be_joined_are_named() -> None:
    with pytest.raises(tg.ShapeError, match=r"concatenate of \(2,\) float32, \(2, 2\) float64"):
        tg.concatenate([tg.tensor([1.0, 2.0]), np.ones((2, 2))])
    with pytest.raises(ValueError, match="axis 3 is out of bounds"):
        tg.concatenate([tg.tensor([1.0, 2.0])], axis=3)


@pytest.mark.parametrize("join", [tg.stack, tg.concatenate])
def test_joining_all_steps_costs_each_step_the_same(join: Callable[..., Any]) -> None:
    """Counted, not timed: how many functions the backward pass calls for T steps is linear in T."""

    def calls(steps: int) -> int:
        x = tg.tensor(np.ones((1, 2)), requires_grad=True)
        y = join([x] * steps).sum()
        events: list[str] = []
        sys.setprofile(lambda frame, event, arg: events.append(event))
        try:
            y.backward()
        finally:
            sys.setprofile(None)
        return len([event for event in events if event.endswith("call")])

    assert calls(800) < 8.5 * calls(100)


# ---- copied, padded, dropped ----------------------------------------------------------------------------------------------


@given(shape_and_axis(), st.integers(0, 3), st.data())
def test_copied(case: tuple[tuple[int, ...], int], times: int, data: Any) -> None:
    shape, axis = case
    counts = data.draw(st.lists(st.integers(0, 3), min_size=shape[axis], max_size=shape[axis]))
    assert_linear(lambda x: np.repeat(x, times, axis), shape)
    assert_linear(lambda x: x.repeat(times), shape)
    assert_linear(lambda x: np.tile(x, times), shape)
    assert_linear(lambda x: np.tile(x, (2, 1, times)), shape)
    if counts:
        assert_linear(lambda x: np.repeat(x, counts, axis), shape)
        assert_linear(lambda x: np.repeat(x, np.array(counts), axis), shape)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=3), st.data())
def test_padded(widths: list[tuple[int, int]], data: Any) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 3), min_size=len(widths), max_size=len(widths))))
    for mode in ("constant", "edge", "reflect", "symmetric", "wrap"):
        assert_linear(lambda x, mode=mode: np.pad(x, widths, mode), shape)
        assert_linear(lambda x, mode=mode: np.pad(x, widths[0], mode=mode), shape)
        assert_linear(lambda x, mode=mode: np.pad(x, 2, mode), shape)


def test_the_padding_has_a_value_and_no_gradient() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = np.pad(x, (1, 2), constant_values=(7, 8))
    assert y.tolist() == [7, 1, 2, 8, 8]
    y.backward(np.arange(5, dtype="f4"))
    assert x.grad.tolist() == [1, 2]


def test_margins_that_are_not_implemented_are_named() -> None:
    with pytest.raises(TypeError, match=r"mode 'linear_ramp' is not implemented, only constant, edge"):
        np.pad(tg.tensor([1.0]), 1, mode="linear_ramp")
    with pytest.raises(TypeError, match="pad_width as a dict"):
        np.pad(tg.tensor([1.0]), {0: 1})


@given(st.integers(-4, 4), st.integers(0, 4), st.integers(0, 4))
def test_triangles_and_diagonals(k: int, rows: int, columns: int) -> None:
    for shape in [(rows, columns), (2, rows, columns)]:
        assert_linear(lambda x: np.tril(x, k), shape)
        assert_linear(lambda x: np.triu(x, k), shape)
        if -rows < k < columns:
            assert_linear(lambda x: np.diagonal(x, k, -2, -1), shape)
            assert_linear(lambda x: np.diagonal(x, k, 0, -1), (rows, 2, columns))
            assert_linear(lambda x: np.diagonal(x, -k, -1, 0), (rows, 2, columns))
    assert_linear(lambda x: np.diag(x, k), (rows,))
    if -rows < k < columns:
        assert_linear(lambda x: np.diag(x, k), (rows, columns))
    assert_linear(np.tril, (rows,))
