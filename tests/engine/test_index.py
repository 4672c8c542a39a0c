"""Reading and writing at places: all of NumPy's indices, repeated ones, and one array of zeros for all uses of a value."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_seq as tg
from tinygrad_seq.ops import index as family
from tinygrad_seq.primitive import registry


def added_at(shape: tuple[int, ...], index: Any, u: Any) -> Any:
    """The transpose of reading, by NumPy's own slow and sure way."""
    y = np.zeros(shape)
    np.add.at(y, index, u)
    return y


@st.composite
def arrays_and_indices(draw: Any) -> tuple[Any, Any]:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    x = np.random.default_rng(draw(st.integers(0, 99))).normal(size=shape)
    basic = hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True)
    whole = hnp.integer_array_indices(shape, dtype=draw(st.sampled_from([np.int64, np.int32, np.uint8])))
    counted_from_the_end = whole.map(lambda parts: tuple(-part.astype(int) - 1 for part in parts))
    masks = hnp.arrays(bool, shape[: draw(st.integers(1, len(shape)))])
    rows = hnp.arrays(np.int64, draw(st.integers(0, 5)), elements=st.integers(-shape[0], shape[0] - 1))
    last = st.builds(lambda part: (..., part), hnp.arrays(np.int64, (2, 2), elements=st.integers(-shape[-1], shape[-1] - 1)))
    return x, draw(st.one_of(basic, whole, counted_from_the_end, masks, rows, last))


# ---- reading ------------------------------------------------------------------------------------------------------------


@given(arrays_and_indices())
def test_reading_and_its_transpose(case: tuple[Any, Any]) -> None:
    array, index = case
    x = tg.tensor(array, requires_grad=True)
    y = x[index]
    np.testing.assert_array_equal(y.data, array[index])
    u = tg.tensor(np.random.default_rng(1).normal(size=y.shape), requires_grad=True)
    np.sum(u * y).backward(create_graph=True)
    np.testing.assert_allclose(x.grad.data, added_at(array.shape, index, u.data), rtol=1e-12, atol=1e-15)
    u.zero_grad()
    np.sum(x.grad * array).backward()  # the transpose of the transpose
    np.testing.assert_allclose(u.grad.data, array[index], rtol=1e-12)


def test_a_place_read_twice_gets_both_cotangents() -> None:
    x = tg.tensor(np.zeros(3), requires_grad=True)
    x[[0, 2, 0, -1, 0]].backward(np.array([1.0, 2, 4, 8, 16]))
    assert x.grad.tolist() == [21, 0, 10]


@pytest.mark.parametrize("index", [
    tg.tensor([2, 0, 2]), [2, 0, 2], (slice(None), tg.tensor([0, 1])), (tg.tensor(1), [0, 1]), tg.tensor([True, False, True]),
    [True, False, True], np.int32(1), np.array(2), tg.tensor(-1), [], (slice(tg.tensor(1), None), np.uint8(1)), True,
])  # fmt: skip
def test_tensors_lists_and_numpy_scalars_index_as_arrays_do(index: Any) -> None:
    array = np.arange(6.0).reshape(3, 2)
    parts = index if isinstance(index, tuple) else (index,)
    bare = tuple(part.data if isinstance(part, tg.Tensor) else part for part in parts)
    x = tg.tensor(array, requires_grad=True)
    y = x[index]
    np.testing.assert_array_equal(y.data, array[bare])
    y.backward(np.ones(y.shape))
    np.testing.assert_array_equal(x.grad.data, added_at((3, 2), bare, 1.0))


def test_a_list_that_changes_later_does_not_change_the_gradient() -> None:
    x, index = tg.tensor(np.zeros(3), requires_grad=True), [0, 1]
    y = x[index]
    index[:] = [2, 2]
    y.backward(np.ones(2))
    assert x.grad.tolist() == [1, 1, 0]


@pytest.mark.parametrize(("index", "problem"), [
    (3, "index 3 is out of bounds"), ([0, 5], "index 5 is out of bounds"), ((0, 0, 0), "too many indices"),
])  # fmt: skip
def test_a_place_that_does_not_exist_is_named_with_its_scope(index: Any, problem: str) -> None:
    x = tg.tensor(np.ones((3, 2)), requires_grad=True)
    with tg.scope("encoder", t=7), pytest.raises(IndexError, match=rf"getitem of \(3, 2\) float64, in encoder, t=7: {problem}"):
        x[index]


@pytest.mark.parametrize("index", [1.0, tg.tensor([0.0, 1.0]), "name", [0.5]])
def test_an_index_of_anything_else_is_refused(index: Any) -> None:
    with pytest.raises(IndexError, match="an index holds integers or truth values, not"):
        tg.tensor([1.0, 2.0])[index]


def test_iterating_reads_each_entry() -> None:
    x = tg.tensor(np.arange(6.0).reshape(3, 2), requires_grad=True)
    total = sum(np.sum(row) * weight for row, weight in zip(x, (1.0, 10.0, 100.0)))
    total.backward()
    np.testing.assert_array_equal(x.grad.data, [[1, 1], [10, 10], [100, 100]])


# ---- all uses of one value meet in one array ----------------------------------------------------------------------------


@pytest.fixture
def zeros_made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pieces each call of scatter, and so each array of zeros, has taken up."""
    made: list[int] = []
    forward = registry["scatter"].forward

    def counted(*pieces: Any, **params: Any) -> Any:
        made.append(len(pieces))
        return forward(*pieces, **params)

    monkeypatch.setattr(registry["scatter"], "forward", counted)
    return made


@pytest.mark.parametrize("create_graph", [False, True])
def test_all_steps_share_one_array_of_zeros(zeros_made: list[int], create_graph: bool) -> None:
    steps = 50
    x = tg.tensor(np.random.default_rng(0).normal(size=(steps, 3)), requires_grad=True)
    hoisted = x * 2.0
    h = tg.tensor(np.zeros(3))
    for t in range(steps):
        h = np.tanh(hoisted[t] + 0.5 * h)
    np.sum(h).backward(create_graph=create_graph)
    assert zeros_made == [steps]
    step = (1 - h.data**2) * 2
    np.testing.assert_allclose(x.grad.data[-1], step, rtol=1e-12)


def test_uses_at_different_indices_add_up_at_second_order() -> None:
    def function(x: Any) -> Any:
        return x[0] * x[1] ** 2 * np.sum(x[[0, 0, 1]]) + np.sum(x[x.data > 0] ** 3)

    tg.check_grads(function, np.array([0.7, -1.2]), order=2)


# ---- take and its kin -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("indices", [1, [0, 2, 0], np.array([[1, -1], [0, 0]]), [True, False], []])
def test_take(axis: int | None, indices: Any) -> None:
    array = np.random.default_rng(0).normal(size=(3, 4))
    x = tg.tensor(array, requires_grad=True)
    y = np.take(x, indices, axis=axis)
    np.testing.assert_array_equal(y.data, np.take(array, np.asarray(indices, int), axis=axis))
    tg.check_grads(lambda x: np.sin(tg.take(x, indices, axis)), array)
    assert tg.take(array, [0], axis=1).tolist() == array[:, :1].tolist()


@pytest.mark.parametrize(("axis", "shape"), [(0, (5, 3)), (1, (2, 4)), (-1, (2, 1)), (-2, (1, 3)), (None, (5,)), (1, (1, 2))])
def test_take_along_axis(axis: int | None, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=(2, 3))
    indices = np.random.default_rng(1).integers(-2, 2, shape)
    y = np.take_along_axis(tg.tensor(array), tg.tensor(indices), axis)
    np.testing.assert_array_equal(y.data, np.take_along_axis(array, indices, axis))
    tg.check_grads(lambda x: np.sin(np.take_along_axis(x, indices, axis)), array)


def test_take_refuses_what_is_not_there() -> None:
    with pytest.raises(IndexError, match="out of bounds"):
        np.take(tg.tensor([1.0, 2.0]), 2)
    with pytest.raises(ValueError, match=r"as many axes as x, got shapes \(2,\) and \(2, 2\)"):
        np.take_along_axis(tg.tensor(np.ones((2, 2))), np.array([0, 1]), 0)
    with pytest.raises(IndexError, match="integers or truth values"):
        np.take_along_axis(tg.tensor(np.ones(2)), np.array([0.0]), 0)


@pytest.mark.parametrize("axis", [0, -1, None])
def test_sort(axis: int | None) -> None:
    array = np.random.default_rng(0).permutation(12).reshape(3, 4) * 1.0
    x = tg.tensor(array, requires_grad=True)
    np.testing.assert_array_equal(np.sort(x, axis).data, np.sort(array, axis))
    order = np.argsort(x, axis=axis)
    assert not order.requires_grad
    np.testing.assert_array_equal(order.data, np.argsort(array, axis))
    tg.check_grads(lambda x: np.sin(np.sort(x, axis)), array)


# ---- writing ----------------------------------------------------------------------------------------------------------------


@given(arrays_and_indices())
def test_writing_and_adding(case: tuple[Any, Any]) -> None:
    array, index = case
    rng = np.random.default_rng(2)
    values = rng.normal(size=array[index].shape)
    wanted = array.copy()
    wanted[index] = values
    x, v = tg.tensor(array, requires_grad=True), tg.tensor(values, requires_grad=True)
    y = x.at[index].set(v)
    np.testing.assert_array_equal(y.data, wanted)
    np.testing.assert_array_equal(x.data, array)
    np.testing.assert_allclose(x.at[index].add(v).data, array + added_at(array.shape, index, values), rtol=1e-12)

    u = rng.normal(size=array.shape)
    y.backward(u)
    untouched = u.copy()
    untouched[index] = 0
    np.testing.assert_array_equal(x.grad.data, untouched)
    assert np.isclose(np.sum(u * wanted), np.sum(x.grad.data * array) + np.sum(v.grad.data * values))  # linear in both

    x.zero_grad(), v.zero_grad()
    x.at[index].add(v).backward(u)
    np.testing.assert_array_equal(x.grad.data, u)
    np.testing.assert_array_equal(v.grad.data, u[index])


def test_of_two_values_for_one_place_the_last_counts_in_the_gradient_too() -> None:
    x, v = tg.tensor(np.zeros(3), requires_grad=True), tg.tensor([1.0, 2.0, 3.0], requires_grad=True, dtype=float)
    y = x.at[[1, 1, 0]].set(v)
    assert y.tolist() == [3, 2, 0]
    y.backward(np.array([10.0, 20, 30]))
    assert v.grad.tolist() == [0, 20, 10]
    assert x.grad.tolist() == [0, 0, 30]


def test_values_are_broadcast_to_the_place() -> None:
    x, v = tg.tensor(np.zeros((2, 3)), requires_grad=True), tg.tensor(5.0, requires_grad=True)
    y = x.at[:, 1:].set(v)
    assert y.tolist() == [[0, 5, 5], [0, 5, 5]]
    assert y.dtype == np.float64
    y.sum().backward()
    assert v.grad.item() == 4
    assert x.at[0].add(1).tolist() == [[1, 1, 1], [0, 0, 0]]
    assert tg.tensor([1, 2, 3]).at[0].set(9).tolist() == [9, 2, 3]


def test_written_products_are_right_to_second_order() -> None:
    def function(x: Any, v: Any) -> Any:
        return np.sum(np.sin(x.at[1:].set(v * x[0])) * x.at[[0, 0, 2]].add(v[0]))

    tg.check_grads(function, np.array([0.3, -0.8, 1.1]), np.array([0.5, -0.4]), order=2)


def test_values_that_do_not_fit_are_refused() -> None:
    x = tg.tensor(np.ones((2, 3)))
    with pytest.raises(tg.ShapeError, match=r"at_set .*: values of shape \(2,\) do not fit the place, of shape \(3,\)"):
        x.at[0].set(np.ones(2))
    with pytest.raises(tg.ShapeError, match=r"at_add .*: values of shape \(1, 3\) do not fit"):
        x.at[0].add(np.ones((1, 3)))
    with pytest.raises(IndexError, match=r"at_set of .*out of bounds"):
        x.at[2].set(0)
    with pytest.raises(TypeError, match=r"values of dtype float64 would be cut to int64"):
        tg.tensor([1, 2]).at[0].set(np.array(0.5))
    with pytest.raises(TypeError, match="would be cut"):
        tg.tensor([1, 2]).at[0].add(0.5)


# ---- the fast ways of adding -------------------------------------------------------------------------------------------------


@given(arrays_and_indices())
def test_adding_is_numpys_add_at(case: tuple[Any, Any]) -> None:
    array, index = case
    piece = np.random.default_rng(0).normal(size=array[index].shape)
    y = array.copy()
    family._add_at(y, family.plain(index), piece)
    wanted = array.copy()
    np.add.at(wanted, index, piece)
    np.testing.assert_allclose(y, wanted, rtol=1e-12, atol=1e-14)


def test_a_place_is_named_before_it_is_written_to() -> None:
    with pytest.raises(AttributeError):
        tg.tensor([1.0, 2.0]).at.set(0.0)  # type: ignore[attr-defined]


@pytest.mark.parametrize("index", [[0, 0, 2], ([0, 0], [1, 1]), 1, (slice(None), [1, 1])])
def test_writing_into_what_lies_in_memory_by_columns(index: Any) -> None:
    x = np.arange(12.0).reshape(4, 3)
    added, written = x.T.copy(), x.T.copy()
    np.add.at(added, index, 0.5)
    written[index] = 0.5
    for array in (x.T, np.asfortranarray(x.T)):
        np.testing.assert_array_equal(tg.tensor(array).at[index].add(0.5).data, added)
        np.testing.assert_array_equal(tg.tensor(array).at[index].set(0.5).data, written)
    np.testing.assert_array_equal(tg.tensor(x).T.at[index].add(0.5).data, added)


def test_a_stable_sort_gives_the_gradients_of_equal_entries_in_their_order() -> None:
    x = tg.tensor([2.0, 1.0, 2.0, 1.0], requires_grad=True)
    (tg.sort(x, kind="stable") * np.arange(4.0, dtype=np.float32)).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [2.0, 0.0, 3.0, 1.0]
