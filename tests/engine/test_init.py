"""Initial weights have the moments, the orthogonality and the shapes that their papers ask for."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import init


def drawn(function, shape, **kwargs):
    return function(shape, rng=np.random.default_rng(0), dtype=np.float64, **kwargs)


@pytest.mark.parametrize(("function", "deviation"), [
    (init.xavier_uniform, np.sqrt(2 / (300 + 200))),
    (init.xavier_normal,  np.sqrt(2 / (300 + 200))),
    (init.he_uniform,     np.sqrt(2 / 300)),
    (init.he_normal,      np.sqrt(2 / 300)),
])  # fmt: skip
@pytest.mark.parametrize("gates", [1, 4])
def test_deviation_of_one_gate_whatever_the_number_of_gates(function, deviation, gates):
    w = drawn(function, (300, gates * 200), blocks=gates)
    assert w.shape == (300, gates * 200)
    assert w.std() == pytest.approx(deviation, rel=0.01)
    assert abs(w.mean()) < deviation / 50
    if "uniform" in function.__name__:
        bound = deviation * np.sqrt(3)
        assert bound * 0.999 < abs(w).max() <= bound


@pytest.mark.parametrize("function", [init.xavier_uniform, init.xavier_normal, init.he_uniform, init.he_normal, init.orthogonal])
def test_gain_scales(function):
    default = np.sqrt(2) if "he_" in function.__name__ else 1.0
    np.testing.assert_allclose(drawn(function, (5, 4), gain=3 * default), 3 * drawn(function, (5, 4)), rtol=1e-12)


def test_axes_before_the_last_two_are_a_window_of_a_convolution():
    assert init.fans((3, 5, 7)) == (15, 21)
    assert drawn(init.he_normal, (3, 50, 70)).std() == pytest.approx(np.sqrt(2 / 150), rel=0.03)


@pytest.mark.parametrize("shape", [(6, 6), (3, 8), (8, 3), (2, 4, 5), (1, 1)])
def test_orthogonal_rows_or_columns(shape):
    w = drawn(init.orthogonal, shape, gain=2.0).reshape(-1, shape[-1])
    np.testing.assert_allclose(np.linalg.svd(w, compute_uv=False), 2.0, rtol=1e-12)


def test_orthogonal_per_gate():
    blocks = np.split(drawn(init.orthogonal, (5, 20), blocks=4), 4, axis=1)
    for block in blocks:
        np.testing.assert_allclose(block.T @ block, np.eye(5), atol=1e-12)
    assert not np.allclose(blocks[0], blocks[1])


def test_orthogonal_is_uniform_over_rotations_and_reflections():
    """Without the correction of QR's signs, the diagonal would be negative on average."""
    rng = np.random.default_rng(0)
    traces = [np.trace(init.orthogonal((3, 3), rng=rng, dtype=np.float64)) for _ in range(2000)]
    assert abs(np.mean(traces)) < 0.1
    assert np.var(traces) == pytest.approx(1.0, abs=0.1)  # as it is for Haar-distributed matrices


def test_identity_and_constants():
    np.testing.assert_array_equal(init.identity((2, 4), gain=0.5, blocks=2), [[0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5]])
    np.testing.assert_array_equal(init.zeros((2,)), [0, 0])
    np.testing.assert_array_equal(init.constant((2,), 1.0), [1, 1])


def test_uniform_and_normal():
    u, n = drawn(init.uniform, (100, 100), bound=0.25), drawn(init.normal, (100, 100), deviation=0.5)
    assert 0.2499 < abs(u).max() <= 0.25
    assert n.std() == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("function", [
    init.xavier_uniform, init.xavier_normal, init.he_uniform, init.he_normal, init.orthogonal,
    lambda shape, **kw: init.uniform(shape, 0.1, **kw), lambda shape, **kw: init.normal(shape, 0.1, **kw),
])  # fmt: skip
def test_dtype_and_seed(function):
    tg.manual_seed(5)
    single = function((3, 4))
    tg.manual_seed(5)
    double = function((3, 4), dtype="float64")
    assert (single.dtype, double.dtype) == (np.float32, np.float64)  # the default dtype is float32
    np.testing.assert_array_equal(single, double.astype(np.float32))  # the same draws in every dtype
    with tg.using_dtype("float64"):
        assert function((3, 4)).dtype == np.float64
    assert not np.array_equal(function((3, 4)), function((3, 4)))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="two axes"):
        init.xavier_uniform((5,))
    with pytest.raises(ValueError, match="two axes"):
        init.orthogonal((5,))
    with pytest.raises(ValueError, match="two axes"):
        init.identity((2, 2, 2))
    with pytest.raises(ValueError, match="3 blocks"):
        init.orthogonal((5, 20), blocks=3)
    with pytest.raises(ValueError, match="0 blocks"):
        init.orthogonal((5, 20), blocks=0)
