"""Tensors: what they are made of, how NumPy's functions reach them, and what they refuse."""

import copy
import operator
import pickle

import numpy as np
import pytest

import tinygrad_seq as tg


def test_python_floats_get_the_default_dtype_and_arrays_keep_theirs():
    assert tg.tensor([[1.0, 2.0]]).dtype == np.float32
    assert tg.tensor(np.ones(2)).dtype == np.float64
    assert tg.tensor(np.float64(1)).dtype == np.float64
    assert tg.tensor([1, 2]).dtype == np.int64
    assert tg.tensor([1.0], dtype=np.float16).dtype == np.float16
    assert tg.tensor([np.ones(2), np.zeros(2)]).dtype == tg.tensor([[np.float64(1)], (2.0,)]).dtype == np.float64
    assert tg.tensor([np.float32(1), 2.0]).dtype == np.float32  # the Python float is weak here, too


def test_the_default_dtype_is_process_wide_with_an_override_for_a_block():
    assert tg.default_dtype() == np.float32
    with tg.using_dtype(np.float64):
        assert tg.tensor(1.0).dtype == np.float64
    assert tg.tensor(1.0).dtype == np.float32
    tg.set_default_dtype(np.float64)
    try:
        assert tg.tensor(1.0).dtype == np.float64
    finally:
        tg.set_default_dtype(np.float32)
    with pytest.raises(TypeError, match="floating"):
        tg.set_default_dtype(np.int64)


def test_python_floats_are_not_rounded_on_their_way_into_a_wider_dtype():
    x = tg.tensor(np.ones(2), requires_grad=True)
    assert tg.tensor(0.1, dtype=np.float64).item() == tg.Parameter([0.1], dtype="float64").item() == 0.1
    assert tg.tensor([2.0**24 + 1], dtype=np.int64).item() == 2**24 + 1
    assert (x * [0.1, 0.2]).tolist() == ([0.1, 0.2] * x).tolist() == [0.1, 0.2]
    assert (x.astype(np.float32) * [0.1, 0.2]).dtype == np.float32
    assert np.where([True, False], x, [0.1, 0.1]).tolist() == [1, 0.1] and np.clip(x, None, [0.1, 0.2]).tolist() == [0.1, 0.2]
    assert np.concatenate([x, [0.1]]).tolist() == [1, 1, 0.1] and np.stack([[0.1, 0.2], x]).tolist()[0] == [0.1, 0.2]
    for product in (np.dot([0.1, 0.0], x), np.inner(x, [0.1, 0.0]), np.vdot([0.1, 0.0], x), np.einsum("i,i", x, [0.1, 0.0])):
        assert product.item() == 0.1 and product.requires_grad
    assert np.allclose(x * 0.1, [0.1, 0.1], rtol=0, atol=1e-12) and np.dot(0.1, x).tolist() == [0.1, 0.1]
    assert x.at[:].set([0.1, 0.2]).tolist() == [0.1, 0.2] and x.at[:].add([0.1, 0.2]).tolist() == [1.1, 1.2]
    assert tg.losses.mse(x, [0.9, 0.9], reduction="sum").item() == 2 * (1 - 0.9) ** 2
    (x * 1).backward([0.1, 0.2])
    assert x.grad.tolist() == [0.1, 0.2]
    x.grad = [0.3, 0.4]
    assert x.grad.tolist() == [0.3, 0.4]
    x.overwrite([0.1, 0.2])
    assert x.tolist() == [0.1, 0.2]


def test_python_numbers_are_weak():
    x = tg.tensor(np.ones(2, np.float16), requires_grad=True)
    assert (1 - x * 2.5).dtype == np.float16
    assert (x + np.float64(1)).dtype == np.float64
    alone = [tg.exp(0.5), tg.add(1, 0.5), tg.add(1.0, [0.5]), tg.add([0.5], 1.0), tg.gelu(0.5), tg.where(True, 1.0, 2.0)]
    for y in alone:
        assert y.dtype == np.float32  # nothing has a dtype, so the default one
    assert tg.exp(np.float64(0.5)).dtype == np.float64 and tg.add(1, 2).dtype == np.int64


def test_a_tensor_is_a_copy_of_its_data():
    data = np.ones(2)
    x = tg.tensor(data)
    data[0] = 7
    assert x.data[0] == 1


@pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.uint8])
def test_only_floating_dtypes_require_gradients(dtype):
    with pytest.raises(TypeError, match="floating"):
        tg.tensor(np.ones(2, dtype), requires_grad=True)


def test_complex_numbers_and_strings_are_refused():
    with pytest.raises(TypeError, match="complex"):
        tg.tensor(1j)
    with pytest.raises(TypeError, match="numbers"):
        tg.tensor("abc")
    for data in (np.array([1j]), np.array(["abc"]), np.array([None]), np.array(["2020-01-01"], "M8[D]")):
        with pytest.raises(TypeError, match="numbers and truth values"):
            tg.tensor(data)
    with pytest.raises(TypeError, match="complex128"):
        tg.tensor([1.0]) * np.array([1j])
    with pytest.raises(TypeError, match="complex128"):
        tg.tensor([1.0], dtype=complex)


def test_a_masked_array_would_lose_its_mask():
    with pytest.raises(TypeError, match="mask"):
        tg.tensor(np.ma.array([1.0, 2.0], mask=[False, True]))


def test_arrays_on_the_left_dispatch_to_us():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    array = np.array([3.0, 4.0], np.float32)
    joined = np.concatenate([array, x]), np.stack([array, x])
    for y in (array + x, array * x, array @ x, np.float32(2) * x, np.where(array > 3, x, 0), *joined):
        assert isinstance(y, tg.Tensor) and y.requires_grad


def test_writing_a_tensor_into_an_array_raises():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    array = np.zeros(2, np.float32)
    with pytest.raises(TypeError, match="gradient"):
        array += x
    with pytest.raises(TypeError, match="at\\[index\\]"):
        array[:] = x
    with pytest.raises(TypeError, match=r"tg\.stack"):
        np.array([x, x])
    with pytest.raises(TypeError, match=r"tg\.stack"):
        tg.tensor([x, x])
    assert (array == 0).all()


def test_a_constant_may_become_an_array():
    assert (np.asarray(tg.tensor([1.0, 2.0])) == [1, 2]).all()
    assert (np.asarray(tg.tensor([1.0, 2.0]), dtype=np.float64).dtype) == np.float64


def test_in_place_writes_are_refused_with_the_alternative():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(TypeError, match=r"x\.at\[index\]\.set"):
        x[0] = 5.0
    with pytest.raises(TypeError, match="overwrite"):
        x += 1.0
    for update in (operator.isub, operator.imul, operator.itruediv, operator.ifloordiv, operator.imod, operator.ipow):
        with pytest.raises(TypeError, match="overwrite"):
            update(x, 2.0)
    with pytest.raises(TypeError, match="overwrite"):
        operator.imatmul(x, np.eye(2))
    assert (x.data == [1, 2]).all()
    y = before = x * 2
    y += 1  # rebinds the name, as with any immutable value
    assert y is not before and (before.data == [2, 4]).all() and (y.data == [3, 5]).all()


def test_unsupported_numpy_functions_are_named():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(TypeError, match=r"np\.fft\.fft is not implemented"):
        np.fft.fft(x)
    with pytest.raises(TypeError, match=r"np\.gcd is not implemented"):
        np.gcd(x, 2)
    with pytest.raises(TypeError, match=r"np\.add\.accumulate"):
        np.add.accumulate(x)
    with pytest.raises(TypeError, match="where"):
        np.add(x, x, where=np.array([True, False]))


def test_shape_errors_name_operation_shapes_scope_and_step():
    a, b = tg.tensor(np.ones((3, 4)), requires_grad=True), tg.tensor(np.ones((5, 6)))
    with tg.scope("lstm"), tg.scope("f", t=3), pytest.raises(tg.ShapeError) as caught:
        a @ b
    assert "matmul of (3, 4) float64, (5, 6) float64, in lstm/f, t=3: " in str(caught.value)
    assert "transpose one of them" in str(caught.value)
    with pytest.raises(tg.ShapeError, match=r"add of \(3, 4\).*\(5, 6\).*line them up by reshape"):
        a + b


def test_what_people_type_without_thinking():
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert len(x) == 2 and [row.shape for row in x] == [(2,), (2,)]
    assert x.sum().item() == 10 and float(x.sum()) == 10.0 and int(x.sum()) == 10
    assert bool(tg.tensor(1.0)) and not tg.tensor(0.0)
    with pytest.raises(ValueError, match="truth value"):
        bool(x)
    with pytest.raises(TypeError, match="0-d"):
        iter(tg.tensor(1.0))
    assert (x > 2).dtype == np.bool_ and (x == x).data.all() and not (x != x).data.any()
    assert x.T.shape == (2, 2) and x.reshape(4).shape == x.reshape((4,)).shape == x.reshape(-1).shape == (4,)
    assert x.transpose(1, 0).shape == x.transpose().shape == (2, 2)
    assert x.astype(np.float16).dtype == np.float16 and x.tolist() == [[1, 2], [3, 4]]
    assert repr(x) == "Tensor([[1., 2.],\n        [3., 4.]], dtype=float32, requires_grad=True)"
    assert f"{x.sum():.1f}" == "10.0"
    assert len({x, x}) == 1
    assert 3.0 in x and 7.0 not in x
    assert (-x).data[0, 0] == -1 and (+x) is x and abs(-x).data[0, 0] == 1
    assert (x.copy() == x).all() and x.copy().requires_grad and x.copy().data is not x.data and (x > 3).any()
    assert x.trace().item() == 5 and x.diagonal().tolist() == [1, 4] and x.take(2).item() == 3 and x.cumprod().tolist()[-1] == 24
    assert (x / 3).round(1).data[0, 0] == np.float32(0.3) and x.argsort().tolist() == [[0, 1], [0, 1]]
    assert (x**2).data[1, 1] == 16 and (2**x).data[0, 0] == 2 and (x // 2).data[0, 1] == 1 and (x % 2).data[0, 0] == 1


def test_the_gradient_of_astype_has_the_dtype_of_its_input():
    x = tg.tensor(np.ones(2, np.float32), requires_grad=True)
    (x.astype(np.float64) * np.array([2.0, 3.0])).sum().backward()
    assert x.grad.dtype == np.float32 and (x.grad.data == [2, 3]).all()


def test_names_are_labels():
    x = tg.tensor([1.0], requires_grad=True, name="x<1>")
    y = x * 2
    y.name = "y"
    assert (x.name, y.name, (y + 1).name) == ("x<1>", "y", None)
    constant = tg.tensor([1.0])
    constant.name = "c"
    assert constant.name == "c" and not constant.requires_grad


def test_leaves_and_parameters_survive_pickle_and_deepcopy():
    x = tg.Parameter(np.arange(3.0), name="W")
    (x * x).sum().backward()
    for again in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x)):
        assert type(again) is tg.Parameter and again.requires_grad and again.name == "W"
        assert (again.data == x.data).all() and (again.grad.data == x.grad.data).all()
        assert again.data is not x.data
    with pytest.raises(tg.AutodiffError, match="leaves"):
        pickle.dumps(x * 2)


def test_a_gradient_that_is_taped_goes_into_a_copy_without_its_graph():
    x = tg.Parameter(np.arange(3.0))
    (x**3).sum().backward(create_graph=True)
    again = copy.deepcopy(x)
    assert again.grad.tolist() == [0, 3, 12] and not again.grad.requires_grad


def test_requires_grad_can_be_switched_on_leaves_only():
    x = tg.tensor([1.0])
    x.requires_grad = True
    y = x * 2
    with pytest.raises(tg.AutodiffError, match="detach"):
        y.requires_grad = False
    x.requires_grad = False
    assert not x.requires_grad


def test_a_gradient_must_fit():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(ValueError, match="shape"):
        x.grad = np.ones(3)
    x.grad = np.ones(2)
    assert isinstance(x.grad, tg.Tensor) and x.grad.dtype == np.float32
    x.zero_grad()
    assert x.grad is None


def test_overwrite_checks_before_it_writes():
    x = tg.Parameter([1.0, 2.0])
    with pytest.raises(ValueError, match="shape"):
        x.overwrite(np.ones(3))
    with pytest.raises(tg.AutodiffError, match="leaves"):
        (x * 2).overwrite(np.ones(2))
    y = (x * x).sum()
    with pytest.raises(TypeError, match="dtype"):
        tg.tensor([1, 2]).overwrite([0.5, 1.5])
    with pytest.raises(TypeError, match="complex"):
        x.overwrite(np.array([1j, 2]))
    y.backward()  # nothing has been overwritten
    assert (x.data == [1, 2]).all()
    array = x.data
    x.overwrite([3.0, 4.0])
    assert x.data is array and (array == [3, 4]).all()


@pytest.mark.parametrize(
    ("name", "said"),
    [("view", "use reshape"), ("exp", r"use np\.exp\(x\)"), ("cuda", "there are no devices"), ("nonsense", "'nonsense'$")],
)
def test_what_a_tensor_does_not_have_is_told_with_where_it_is(name, said):
    x = tg.tensor([1.0])
    with pytest.raises(AttributeError, match=said):
        getattr(x, name)
    assert not hasattr(x, name) and x.grad is None


def test_updating_a_parameter_through_its_array_names_the_way_that_works():
    W = tg.Parameter([1.0, 2.0])
    (W * W).sum().backward()
    with pytest.raises(TypeError, match=r"W\.overwrite\(values\)"):
        W.data -= 0.1 * W.grad
    W.overwrite(W.detach() - 0.1 * W.grad)
    np.testing.assert_allclose(W.data, [0.8, 1.6], rtol=1e-6)


def test_the_other_rooms_are_there_when_they_are_asked_for():
    from tinygrad_seq import interop, models, viz

    assert (tg.models, tg.viz, tg.interop) == (models, viz, interop)
    with pytest.raises(AttributeError, match="no attribute 'nn'"):
        tg.nn
