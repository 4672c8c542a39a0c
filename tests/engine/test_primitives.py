"""Every primitive there is, on every one of its samples: forward, derivatives to second order, dtypes, NumPy's names.

Nothing is listed here. What the package registers is found and tested; a primitive without a sample fails.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import ops
from tinygrad_seq.checking import check_grads
from tinygrad_seq.numpy_like import implements
from tinygrad_seq.primitive import Primitive, Sample, registry
from tinygrad_seq.tensor import Tensor

FAMILIES = {
    name: importlib.import_module(f"tinygrad_seq.ops.{name}")
    for _, name, _ in pkgutil.iter_modules(ops.__path__)
    if name not in ("samples",)
}
CALLS = [pytest.param(made, sample, id=f"{name}-{k}") for name, made in registry.items() for k, sample in enumerate(made.samples)]
every_call = pytest.mark.parametrize(("made", "sample"), CALLS)


def drawn(sample: Sample, dtype: Any = np.float64) -> tuple[Any, ...]:
    """A sample's inputs; floating ones of this dtype, and as contiguous or not as they were drawn."""
    inputs = sample.inputs(np.random.default_rng(20))
    arrays = [np.asarray(value) if isinstance(value, np.generic) else value for value in inputs]  # NumPy's 0-d results
    return tuple([array.astype(dtype) if is_floating(array) and array.dtype != dtype else array for array in arrays])


def is_floating(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def as_leaf(value: Any) -> Any:
    return tg.tensor(value, requires_grad=is_floating(value)) if isinstance(value, np.ndarray) else value


def outputs_of(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def of_differentiable_inputs(made: Primitive, sample: Sample) -> tuple[Callable[..., Any], list[Any]]:
    """The call as a function of those inputs alone for which the primitive has a pullback."""
    arrays = drawn(sample)
    free = [i for i, array in enumerate(arrays) if is_floating(array) and made.pullback(i) is not None]

    def call(*values: Any) -> Any:
        operands = list(arrays)
        for i, value in zip(free, values):
            operands[i] = value
        return made(*operands, **sample.params)

    return call, [arrays[i] for i in free]


@pytest.mark.parametrize("name", registry)
def test_it_has_samples(name: str) -> None:
    assert len(registry[name].samples) > 0, f"declare {name} with samples: shapes on which its derivative is checked"


def test_names_are_unique() -> None:
    made = [value for module in FAMILIES.values() for value in vars(module).values() if isinstance(value, Primitive)]
    assert made
    shadowed = {value.name for value in made if registry[value.name] is not value}
    assert not shadowed, f"two primitives of the same name: {shadowed}"


@every_call
def test_forward_is_the_forward(made: Primitive, sample: Sample) -> None:
    arrays = drawn(sample)
    wanted = outputs_of(made.forward(*arrays, **sample.params))
    for operands in (arrays, tuple(map(as_leaf, arrays))):
        found = outputs_of(made(*operands, **sample.params))
        assert len(found) == len(wanted)
        for ours, right in zip(found, wanted):
            assert isinstance(ours, Tensor)
            assert ours.dtype == np.asarray(right).dtype
            assert ours.shape == np.shape(right)
            np.testing.assert_allclose(ours.data, right, rtol=1e-13, atol=1e-15)  # BLAS may round by where an array lies


@pytest.mark.parametrize(("made", "sample"), [call for call in CALLS if call.values[0].takes_out])
def test_a_forward_that_takes_out_writes_there(made: Primitive, sample: Sample) -> None:
    arrays = drawn(sample)
    wanted = made.forward(*arrays, **sample.params)
    buffer = np.full_like(wanted, 7)
    assert made.forward(*arrays, **sample.params, out=buffer) is buffer
    np.testing.assert_array_equal(buffer, wanted)


@every_call
def test_inputs_may_come_by_name(made: Primitive, sample: Sample) -> None:
    if made.starred:
        return
    arrays = drawn(sample)
    wanted = outputs_of(made(*arrays, **sample.params))
    for by_name in range(len(arrays) + 1):
        named = dict(zip(made.inputs[by_name:], arrays[by_name:]))
        for found, right in zip(outputs_of(made(*arrays[:by_name], **named, **sample.params)), wanted):
            np.testing.assert_array_equal(found.data, right.data)


def test_a_missing_input_is_named() -> None:
    with pytest.raises(TypeError, match=r"embedding needs 'index'; it takes \(table, index, padding_index\)"):
        tg.embedding(table=np.ones((2, 2)))
    with pytest.raises(TypeError, match="tanh needs 'x'"):
        tg.tanh()


def test_the_cells_products_and_sums_take_out() -> None:
    assert all(registry[name].takes_out for name in ("add", "multiply", "matmul", "tanh"))
    assert not registry["concatenate"].takes_out and not registry["softmax"].takes_out


@every_call
def test_inputs_are_not_written_to(made: Primitive, sample: Sample) -> None:
    arrays = drawn(sample)
    before = [np.array(array) for array in arrays]
    made(*arrays, **sample.params)
    for array, copy in zip(arrays, before):
        np.testing.assert_array_equal(array, copy)


def by_columns(array: Any) -> Any:
    return np.array(array, order="F")


def backwards(array: Any) -> Any:
    """The same values at falling addresses."""
    turn = (slice(None, None, -1),) * array.ndim
    return np.ascontiguousarray(array[turn])[turn] if array.ndim else array


def results_and_gradients(made: Primitive, sample: Sample, arrays: tuple[Any, ...], arrange: Callable[[Any], Any]) -> list[Any]:
    """What a call on arrays in this arrangement gives, and the inputs' gradients for cotangents in it."""
    operands = [Tensor(arrange(array)) if isinstance(array, np.ndarray) else array for array in arrays]
    leaves = [operand for operand in operands if isinstance(operand, Tensor) and is_floating(operand.data)]
    for leaf in leaves:
        leaf.requires_grad = True
    outputs = outputs_of(made(*operands, **sample.params))
    rng = np.random.default_rng(21)
    for output in outputs:
        if output.requires_grad:
            output.backward(arrange(np.asarray(rng.normal(size=output.shape))), retain_graph=True)
    return [output.data for output in outputs] + [leaf.grad.data for leaf in leaves if leaf.grad is not None]


@every_call
def test_how_arrays_lie_in_memory_changes_nothing(made: Primitive, sample: Sample) -> None:
    arrays = drawn(sample)
    wanted = results_and_gradients(made, sample, arrays, np.array)
    for arrange in (by_columns, backwards):
        found = results_and_gradients(made, sample, arrays, arrange)
        assert len(found) == len(wanted)
        for ours, right in zip(found, wanted):
            assert ours.shape == right.shape
            np.testing.assert_allclose(ours, right, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("made", "sample"), [call for call in CALLS if call.values[0].differentiable])
def test_derivatives_to_second_order(made: Primitive, sample: Sample) -> None:
    function, arrays = of_differentiable_inputs(made, sample)
    check_grads(function, *arrays, order=2)


@every_call
def test_only_what_has_a_derivative_requires_a_gradient(made: Primitive, sample: Sample) -> None:
    arrays = drawn(sample)
    result = made(*map(as_leaf, arrays), **sample.params)
    wanted = made.differentiable and any(is_floating(array) and made.pullback(i) is not None for i, array in enumerate(arrays))
    for output in outputs_of(result):
        assert output.requires_grad == (wanted and output.dtype.kind == "f")


@every_call
def test_float32_stays_float32(made: Primitive, sample: Sample) -> None:
    arrays = drawn(sample, np.float32)
    leaves = tuple(map(as_leaf, arrays))
    whole = any(isinstance(array, np.ndarray) and array.dtype.kind == "i" for array in arrays)  # int64 and float32: float64
    for output in outputs_of(made(*leaves, **sample.params)):
        if output.dtype.kind == "f" and not whole and "dtype" not in sample.params:
            assert output.dtype == np.float32
        if output.requires_grad:
            output.backward(np.ones(output.shape, output.dtype), retain_graph=True)
    for leaf in leaves:
        if isinstance(leaf, Tensor) and leaf.grad is not None:
            assert leaf.grad.dtype == leaf.dtype
            assert leaf.grad.shape == leaf.shape


NUMPYS = [
    pytest.param(function, call.values[0], call.values[1], id=f"{getattr(function, '__name__', function)}-{call.id}")
    for function, made in implements.items()
    if getattr(np, getattr(function, "__name__", ""), None) is function
    for call in CALLS
    if call.values[0] is made
]


@pytest.mark.parametrize(("function", "made", "sample"), NUMPYS)
def test_numpys_function_means_it(function: Callable[..., Any], made: Primitive, sample: Sample) -> None:
    arrays = drawn(sample)
    wanted = outputs_of(called(function, arrays, sample.params))
    found = outputs_of(called(function, tuple(map(as_leaf, arrays)), sample.params))
    for ours, right in zip(found, wanted):
        np.testing.assert_allclose(ours.data, right, rtol=1e-13)


def called(function: Callable[..., Any], operands: tuple[Any, ...], params: dict[str, Any]) -> Any:
    """The call, with parameters that NumPy takes by position only in their places."""
    named = dict(params)
    try:
        signature = inspect.signature(function).parameters
    except ValueError:  # ufuncs, and before NumPy 2.1 other builtins too
        return function(*operands, **named)
    if any(p.kind is p.VAR_KEYWORD for p in signature.values()):
        return function(*operands, **named)
    by_position = [name for name in named if name not in signature or signature[name].kind is inspect.Parameter.POSITIONAL_ONLY]
    return function(*operands, *[named.pop(name) for name in by_position], **named)


# ---- what the samples of a family cover -------------------------------------------------------------------------------


def kinds(made: Primitive, sample: Sample) -> set[str]:
    """Which of the shapes that have broken engines before this sample is."""
    arrays = [array for array in drawn(sample) if isinstance(array, np.ndarray)]
    axes = [value for key, value in sample.params.items() if "ax" in key]
    numbers = [n for axis in axes for n in (axis if isinstance(axis, (tuple, list)) else [axis]) if isinstance(n, int)]
    found = {
        "size 0": any(array.size == 0 for array in arrays),
        "0-d": any(array.ndim == 0 for array in arrays),
        "not contiguous": any(not array.flags.c_contiguous for array in arrays),
        "negative axis": any(n < 0 for n in numbers),
        "broadcast": made.elementwise and len({array.shape for array in arrays}) > 1,
    }
    return {kind for kind, holds in found.items() if holds}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_the_shapes_that_break_engines(family: str) -> None:
    members = [value for value in vars(FAMILIES[family]).values() if isinstance(value, Primitive)]
    covered = set().union(*[kinds(made, sample) for made in members for sample in made.samples])
    wanted = {"size 0", "not contiguous"}
    if family != "decompose":  # a matrix has axes
        wanted.add("0-d")
    if any("axis" in made.defaults for made in members):
        wanted.add("negative axis")
    if any(made.elementwise and len(made.inputs) > 1 for made in members):
        wanted.add("broadcast")
    assert wanted <= covered


QUICK = [(name, key) for name, made in registry.items() for key in made.on_arrays]


@pytest.mark.parametrize(("name", "key"), QUICK)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_a_pullback_for_arrays_gives_the_very_same_numbers_and_writes_into_nothing(name, key, dtype):
    made = registry[name]
    pullback = made.pullback(made.inputs.index(key))
    for seed, shape in enumerate([(), (1,), (0, 3), (4, 5), (2, 3, 2)]):
        rng = np.random.default_rng(seed)
        y, g = np.asarray(made.forward(rng.normal(size=shape).astype(dtype))), np.asarray(rng.normal(size=shape).astype(dtype))
        before = (g.copy(), y.copy())
        for wide in (g, np.broadcast_to(g[:1], shape) if g.size and g.ndim else g):
            quick, plain = pullback.on_arrays(wide, y), pullback.function(wide, y)
            assert np.asarray(quick).dtype == np.asarray(plain).dtype == dtype
            np.testing.assert_array_equal(quick, plain)
        assert np.array_equal(g, before[0]) and np.array_equal(y, before[1])


def test_every_cell_has_its_quick_pullbacks():
    assert {name for name, _ in QUICK} == {"tanh", "sigmoid"}
