"""Every operation with a derivative gives PyTorch's numbers: results, gradients and gradients of gradients, to 1e-9."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_seq as tg

from ..engine import calls
from ..engine.calls import CALLS, OFFERED, WITHOUT_ORACLE, Answers, Call, assert_same
from . import in_torch

unhurried = settings(deadline=None, database=None, derandomize=True, max_examples=60)


@pytest.mark.parametrize("call", CALLS, ids=[call.name for call in CALLS])
def test_an_operation(call: Call) -> None:
    for arrays in call.inputs():
        assert_same(calls.answers(calls.ours(call), arrays), in_torch.answers(in_torch.theirs(call), arrays))


def test_every_operation_is_compared() -> None:
    assert OFFERED - {call.op for call in CALLS} == WITHOUT_ORACLE.keys()
    assert in_torch.STEPS.keys() == calls.STEPS.keys()


@pytest.mark.parametrize("seed", range(200))
def test_a_random_program(seed: int) -> None:
    program = calls.random_program(seed)
    arrays = calls.leaves_of(seed)
    mine = calls.answers(calls.program_as_function(program, calls.STEPS), arrays)
    right = in_torch.answers(calls.program_as_function(program, in_torch.STEPS), arrays)
    assert_same(mine, right)
    assert any(np.abs(array).max() > 1e-3 for array in mine.second)  # it has not died on the way


def test_programs_reach_their_length_and_all_operations() -> None:
    programs = [calls.random_program(seed) for seed in range(200)]
    assert max(map(len, programs)) == calls.LONGEST
    assert {op for program in programs for op, _ in program} == calls.STEPS.keys()


# ---- shapes, dtypes and broadcasts that hypothesis makes up -----------------------------------------------------------

FLOATS = st.sampled_from(["float32", "float64"])
TOLERANCE = {"float32": 2e-5, "float64": 1e-9}


def compared(call: Call, arrays: list[Any], tolerance: float) -> None:
    mine, right = calls.answers(calls.ours(call), arrays), in_torch.answers(in_torch.theirs(call), arrays)
    assert [y.dtype for y in mine.outputs] == [y.dtype for y in right.outputs]
    assert [g.dtype for g in mine.first] == [array.dtype for array in arrays]
    assert_same(Answers(*([array.astype(float) for array in part] for part in mine)),
                Answers(*([array.astype(float) for array in part] for part in right)), tolerance)  # fmt: skip


def numbers(shape: tuple[int, ...], dtype: str, seed: int) -> Any:
    """Numbers without ties, apart from zero."""
    x = np.random.default_rng(seed).uniform(0.2, 2.0, shape)
    return np.asarray(np.where(np.arange(x.size).reshape(shape) % 2, x, -x), dtype)


@unhurried
@given(
    op=st.sampled_from(["add", "subtract", "multiply", "divide", "maximum", "minimum", "logaddexp", "hypot", "arctan2"]),
    shapes=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3, min_side=0),
    dtypes=st.tuples(FLOATS, FLOATS),
    seed=st.integers(0, 999),
)
def test_broadcasts(op: str, shapes: hnp.BroadcastableShapes, dtypes: tuple[str, str], seed: int) -> None:
    a, b = shapes.input_shapes
    if () in (a, b):
        dtypes = (dtypes[0], dtypes[0])  # PyTorch's 0-d tensors have a weak dtype, NumPy's have not
    arrays = [numbers(a, dtypes[0], seed), numbers(b, dtypes[1], seed + 1000)]
    compared(Call(op, {}, []), arrays, TOLERANCE[min(dtypes)])


@unhurried
@given(
    op=st.sampled_from(["sum", "mean", "max", "min", "logsumexp", "norm"]),
    shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=4),
    keepdims=st.booleans(),
    dtype=FLOATS,
    data=st.data(),
)
def test_reductions(op: str, shape: tuple[int, ...], keepdims: bool, dtype: str, data: st.DataObject) -> None:
    axis = data.draw(st.none() | hnp.valid_tuple_axes(len(shape), min_size=1) | st.integers(-len(shape), len(shape) - 1))
    if op == "norm" and isinstance(axis, tuple) and len(axis) > 2:
        axis = axis[:1]  # NumPy's norm is of vectors and matrices
    compared(Call(op, dict(axis=axis, keepdims=keepdims), []), [numbers(shape, dtype, len(shape))], TOLERANCE[dtype])


@unhurried
@given(
    batches=hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=3, min_side=0),
    sides=st.tuples(*[st.integers(0, 4)] * 3),
    dtype=FLOATS,
    seed=st.integers(0, 999),
)
def test_products(batches: hnp.BroadcastableShapes, sides: tuple[int, int, int], dtype: str, seed: int) -> None:
    n, k, m = sides
    left, right = batches.input_shapes
    arrays = [numbers((*left, n, k), dtype, seed), numbers((*right, k, m), dtype, seed + 1000)]
    compared(Call("matmul", {}, []), arrays, TOLERANCE[dtype] * 5)


@unhurried
@given(shape=hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4), data=st.data())
def test_indices(shape: tuple[int, ...], data: st.DataObject) -> None:
    index = data.draw(
        hnp.basic_indices(shape, allow_newaxis=True).filter(lambda each: not has_negative_step(each))
        | hnp.integer_array_indices(shape)
        | hnp.arrays(bool, shape)
    )
    compared(Call("getitem", dict(index=index), []), [numbers(shape, "float64", 0)], 1e-9)


def has_negative_step(index: Any) -> bool:
    """PyTorch has no slices that run backwards."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, slice) and (part.step or 1) < 0 for part in parts)


def test_the_comparison_can_fail() -> None:
    wrong = tg.primitive(lambda x: np.exp(x), vjp=dict(x=lambda g, y: g * y * (1 + 1e-7)), name="wrong")
    arrays = [np.array([0.5, 1.0])]
    with pytest.raises(AssertionError, match=r"first\[0\]"):
        assert_same(calls.answers(wrong, arrays), in_torch.answers(torch.exp, arrays))
