"""Weights and gradients to and from PyTorch's names, orders and signs. Its answers are in `test_recorded_layers.py`."""

import subprocess
import sys

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import interop
from tinygrad_seq.models import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    Embedding,
    GRUCell,
    LayerNorm,
    Linear,
    LSTMCell,
    PeepholeLSTMCell,
    Recurrent,
    RNNCell,
    SimplifiedGRUCell,
)

I, H = 3, 4

LAYERS = {
    "RNN": lambda: RNN(I, H, num_layers=2, bidirectional=True),
    "GRU": lambda: GRU(I, H, num_layers=2, bidirectional=True, reset_after=True),
    "GRU without bias": lambda: GRU(I, H, bias=False, reset_after=True),
    "LSTM": lambda: LSTM(I, H, num_layers=2, bidirectional=True),
    "LSTM projected": lambda: LSTM(I, H, num_layers=2, proj_size=2),
    "Recurrent": lambda: Recurrent(GRUCell(I, H, reset_after=True)),
    "Bidirectional": lambda: Bidirectional(LSTMCell(I, H), batch_first=True),
    "RNNCell": lambda: RNNCell(I, H),
    "GRUCell": lambda: GRUCell(I, H, reset_after=True),
    "LSTMCell": lambda: LSTMCell(I, H),
    "LSTMCell without bias": lambda: LSTMCell(I, H, bias=False),
    "Linear": lambda: Linear(I, H),
    "Linear without bias": lambda: Linear(I, H, bias=False),
    "Embedding": lambda: Embedding(I, H),
    "LayerNorm": lambda: LayerNorm(I),
}
every_layer = pytest.mark.parametrize("kind", LAYERS)


def made(kind, seed=0):
    layer, rng = LAYERS[kind]().to(np.float64), np.random.default_rng(seed)
    for parameter in layer.parameters():
        parameter.overwrite(rng.normal(size=parameter.shape))
    return layer


def run(layer):
    """A number that depends on every parameter."""
    if isinstance(layer, Embedding):
        return (layer([0, 2, 2]) ** 2).sum()
    x = np.random.default_rng(1).normal(size=(5, 2, I))
    y = layer(x[0] if isinstance(layer, RNNCell | GRUCell | LSTMCell) else x)
    return (y[0] ** 2).sum() if isinstance(y, tuple) else (y**2).sum()


@every_layer
def test_there_and_back_is_the_same_layer(kind):
    layer, other = made(kind), made(kind, seed=5)
    assert interop.load_torch(other, interop.to_torch(layer)) is other
    assert run(other).item() == pytest.approx(run(layer).item(), rel=1e-14)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array, err_msg=name)


@every_layer
def test_gradients_are_those_of_pytorchs_parameters(kind):
    """Moving one of PyTorch's parameters moves the loss as its gradient says."""
    layer = made(kind)
    run(layer).backward()
    gradients, weights, rng = interop.to_torch_grads(layer), interop.to_torch(layer), np.random.default_rng(2)
    assert gradients.keys() == weights.keys()
    for name, gradient in gradients.items():
        assert gradient.shape == weights[name].shape
        direction = rng.normal(size=gradient.shape)
        moved = [
            run(interop.load_torch(layer, weights | {name: weights[name] + step * direction})).item() for step in (1e-5, -1e-5)
        ]
        assert (gradient * direction).sum() == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-6, abs=1e-7), name


def test_names_and_shapes_are_pytorchs():
    shapes = {name: array.shape for name, array in interop.to_torch(LSTM(I, H, bidirectional=True, proj_size=2)).items()}
    one = {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 2), "bias_ih_l0": (16,), "bias_hh_l0": (16,), "weight_hr_l0": (2, 4)}
    assert shapes == one | {f"{name}_reverse": shape for name, shape in one.items()}
    assert {name: array.shape for name, array in interop.to_torch(GRUCell(I, H, reset_after=True)).items()} == {
        "weight_ih": (12, 3), "weight_hh": (12, 4), "bias_ih": (12,), "bias_hh": (12,),
    }  # fmt: skip
    assert {name: array.shape for name, array in interop.to_torch(Linear(I, H)).items()} == {"weight": (4, 3), "bias": (4,)}


def test_the_gates_go_where_pytorch_has_them():
    cell = LSTMCell(1, 1)
    cell.W_x.overwrite([[1, 2, 3, 4]])  # u, f, o, candidate
    np.testing.assert_array_equal(interop.to_torch(cell)["weight_ih"][:, 0], [1, 2, 4, 3])  # i, f, g, o
    cell = GRUCell(1, 1, reset_after=True)
    cell.W_x.overwrite([[1, 2, 3]])  # u, r, candidate
    np.testing.assert_array_equal(interop.to_torch(cell)["weight_ih"][:, 0], [2, -1, 3])  # r, z = 1 - u, n
    cell.b.overwrite([1, 2, 3])
    cell.b_h.overwrite([4])
    np.testing.assert_array_equal(interop.to_torch(cell)["bias_ih"], [2, -1, 3])
    np.testing.assert_array_equal(interop.to_torch(cell)["bias_hh"], [0, 0, 4])


def test_two_biases_become_their_sum_except_at_the_grus_candidate():
    cell = GRUCell(1, 1, reset_after=True)
    weights = {"weight_ih": np.zeros((3, 1)), "weight_hh": np.zeros((3, 1))}
    interop.load_torch(cell, weights | {"bias_ih": np.array([1.0, 2, 3]), "bias_hh": np.array([10.0, 20, 30])})
    np.testing.assert_array_equal(cell.b.data, [-22, 11, 3])
    np.testing.assert_array_equal(cell.b_h.data, [30])


def test_gradients_that_were_never_computed_are_none():
    assert set(interop.to_torch_grads(LSTM(I, H)).values()) == {None}
    assert set(interop.to_torch_grads(GRU(I, H, reset_after=True)).values()) == {None}


def test_what_comes_out_is_no_view_of_the_layer():
    for kind in LAYERS:
        layer = made(kind)
        before = layer.state_dict()
        for array in interop.to_torch(layer).values():
            array += 1
        assert all((layer.state_dict()[name] == array).all() for name, array in before.items())


@every_layer
def test_what_does_not_fit_is_refused_whole(kind):
    layer = made(kind)
    before, weights = layer.state_dict(), interop.to_torch(made(kind, seed=5))
    last = list(weights)[-1]
    less = {name: array for name, array in weights.items() if name != last}
    with pytest.raises(ValueError, match=f"missing: {last}"):
        interop.load_torch(layer, less)
    with pytest.raises(ValueError, match="unexpected: weight_xx"):
        interop.load_torch(layer, weights | {"weight_xx": np.zeros(1)})
    no_numbers = np.full(weights[last].shape, "x")
    for wrong, message in ((np.zeros(7), r"shape \(7,\) instead of"), (no_numbers, "numbers.*, not <U1")):
        with pytest.raises(ValueError, match=f"{last}: .*{message}"):
            interop.load_torch(layer, weights | {last: wrong})
    assert all((layer.state_dict()[name] == array).all() for name, array in before.items())


def test_what_pytorch_lacks_is_refused():
    for layer, told in (
        (SimplifiedGRUCell(I, H), "SimplifiedGRUCell"),
        (PeepholeLSTMCell(I, H), "PeepholeLSTMCell"),
        (tg.Module(), "Module"),
        (Bidirectional(SimplifiedGRUCell(I, H)), "Bidirectional of SimplifiedGRUCell"),
        (Recurrent(LSTM(I, H).cells[0], reverse=True), "Recurrent with reverse=True"),
    ):
        with pytest.raises(TypeError, match=f"no counterpart of {told};"):
            interop.to_torch(layer)
    with pytest.raises(TypeError, match=r"as state_dict\(\) gives them, not a Module"):
        interop.load_torch(LSTM(I, H), tg.Module())
    with pytest.raises(TypeError, match="make this one with reset_after=True"):
        interop.load_torch(GRU(I, H), {})
    with pytest.raises(TypeError, match="has no proj_size"):
        interop.to_torch(LSTMCell(I, H, proj_size=2))


def test_any_layer_of_pytorchs_cells_has_its_names():
    named, wrapped = LSTM(I, H, bidirectional=True), Bidirectional(LSTMCell(I, H))
    interop.load_torch(wrapped, interop.to_torch(named))
    x = np.ones((5, 2, I))
    np.testing.assert_array_equal(wrapped(x)[0].data, named(x)[0].data)


class OnADevice:
    """What a tensor of PyTorch's shows of itself: it must be detached and brought home before NumPy may read it."""

    def __init__(self, array, steps=("detach", "cpu")):
        self._array, self._steps = array, steps

    def detach(self):
        return OnADevice(self._array, self._steps[1:])

    def cpu(self):
        assert self._steps == ("cpu",)
        return OnADevice(self._array, ())

    def numpy(self):
        assert self._steps == ()
        return self._array


def test_tensors_of_pytorchs_and_of_ours_are_taken():
    layer, weights = LSTM(I, H), interop.to_torch(LSTM(I, H))
    for wrap in (OnADevice, tg.tensor, lambda array: array.astype(np.float64)):
        layer.cells[0].b.overwrite(0)
        interop.load_torch(layer, {name: wrap(array) for name, array in weights.items()})
        np.testing.assert_array_equal(interop.to_torch(layer)["weight_hh_l0"], weights["weight_hh_l0"])
        assert layer.cells[0].b.data.any()


def test_a_dtype_that_numpy_lacks_is_widened():
    class Half(OnADevice):
        """A tensor of bfloat16, which `numpy()` refuses."""

        dtype = "torch.bfloat16"

        def detach(self):
            return self

        def cpu(self):
            return self

        def float(self):
            return OnADevice(self._array, ())

    layer = Linear(I, H, bias=False)
    interop.load_torch(layer, {"weight": Half(np.ones((H, I), np.float32))})
    assert (layer.W.data == 1).all()


def test_pytorch_and_keras_are_not_imported():
    code = "import sys, tinygrad_seq.interop; assert not {'torch', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
