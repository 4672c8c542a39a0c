"""Products and decompositions: NumPy's values, exact transposes, and the matrices on which closed forms break down.

Products are linear in each operand, so one identity checks a pullback exactly: for every u and every operand a alone,
sum(u * f(a)) = sum(pullback(u) * a).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_seq as tg
from tinygrad_seq.ops import decompose, linalg

Shape = tuple[int, ...]


def assert_multilinear(function: Callable[..., Any], *shapes: Shape, seed: int = 0) -> None:
    """Values as NumPy's, and every pullback the transpose; operands keep their shapes."""
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=shape) for shape in shapes]
    leaves = [tg.tensor(array, requires_grad=True) for array in arrays]
    y, wanted = function(*leaves), function(*arrays)
    np.testing.assert_allclose(y.data, wanted, rtol=1e-12, atol=1e-13, strict=True)
    u = rng.normal(size=y.shape)
    y.backward(u)
    for leaf in leaves:
        assert leaf.grad.shape == leaf.shape
        np.testing.assert_allclose(np.sum(leaf.grad.data * leaf.data), np.sum(u * wanted), rtol=1e-10, atol=1e-10)


def gradient(function: Callable[..., Any], *arrays: Any) -> list[Any]:
    leaves = [tg.tensor(array, requires_grad=True) for array in arrays]
    y = function(*leaves)
    y.backward(np.ones(y.shape, y.dtype))
    return [leaf.grad.data for leaf in leaves]


# ---- matmul -----------------------------------------------------------------------------------------------------------


@given(hnp.mutually_broadcastable_shapes(signature=np.matmul.signature, max_dims=2, max_side=3, min_side=0))
def test_matmul_of_all_shapes(case: Any) -> None:
    assert_multilinear(np.matmul, *case.input_shapes)
    assert_multilinear(lambda a, b: a @ b, *case.input_shapes)


@pytest.mark.parametrize("shapes", [
    ((2, 3), (3, 4)), ((3,), (3, 4)), ((2, 3), (3,)), ((3,), (3,)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (5, 3, 4)),
    ((3,), (5, 3, 4)), ((5, 2, 3), (3,)), ((2, 3), (5, 3, 4)), ((5, 1, 2, 3), (4, 3, 2)),
])  # fmt: skip
def test_the_sum_over_many_uses_is_the_sum_of_single_ones(shapes: tuple[Shape, Shape]) -> None:
    rng = np.random.default_rng(0)
    uses = []
    for rows in (1, 3):
        a = rng.normal(size=(rows, *shapes[0]) if len(shapes[0]) == 2 and len(shapes[1]) < 3 else shapes[0])
        b_shape = shapes[1]
        uses.append((rng.normal(size=np.matmul(a, np.ones(b_shape)).shape), a, b_shape))
    together = linalg._matmul_b_together(uses)
    single = [linalg._matmul_b(*use) for use in uses]
    np.testing.assert_allclose(together, single[0] + single[1], rtol=1e-12)


@pytest.mark.parametrize("weight", [(4, 3), (4,), (5, 4, 3)])
def test_a_weight_of_many_steps(weight: Shape) -> None:
    rng = np.random.default_rng(0)
    W = tg.tensor(rng.normal(size=weight), requires_grad=True)
    xs = [rng.normal(size=(2, 4)) for _ in range(6)]
    sum(np.sum(np.sin(x @ W)) for x in xs).backward()
    steps = [gradient(lambda W, x=x: np.sin(x @ W), W.data)[0] for x in xs]
    np.testing.assert_allclose(W.grad.data, sum(steps), rtol=1e-12)
    tg.check_grads(lambda W: sum(np.sum(np.sin(x @ W)) for x in xs[:2]), W.data, order=2)


def test_the_gradient_of_one_step_keeps_no_operand_alive_in_vain() -> None:
    a, b = tg.tensor(np.ones((2, 3)), requires_grad=True), tg.tensor(np.ones((3, 4)))
    saved = [value for value in (a @ b).node.saved if isinstance(value, np.ndarray)]
    assert len(saved) == 1
    assert saved[0] is b.data


def test_operands_that_do_not_fit_are_named_with_their_place() -> None:
    a, b = tg.tensor(np.ones((2, 3))), tg.tensor(np.ones((4, 5)))
    with tg.scope("gru", t=2), pytest.raises(tg.ShapeError, match=r"matmul of \(2, 3\) float64, \(4, 5\) float64, in gru, t=2: "):
        a @ b
    batch = tg.tensor(np.ones((2, 2, 3)))
    with pytest.raises(tg.ShapeError, match=r"matmul of \(2, 2, 3\) float64, \(4, 5\)"):
        batch @ b
    for operand in (a, batch):
        with pytest.raises(tg.ShapeError, match="matmul"):
            operand @ 2.0


# ---- other products -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shapes", [
    ((), ()), ((), (2, 3)), ((3,), ()), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 4)), ((2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)), ((3,), (5, 3, 4)), ((5, 2, 3), (3,)), ((2, 2, 3), (4, 3, 2)), ((0, 3), (3, 2)),
])  # fmt: skip
def test_dot(shapes: tuple[Shape, Shape]) -> None:
    assert_multilinear(np.dot, *shapes)


@pytest.mark.parametrize("shapes", [
    ((), (2,)), ((3,), (3,)), ((2, 3), (4, 3)), ((2, 1, 3), (3,)), ((3,), (2, 3)), ((2, 0), (3, 0)),
])  # fmt: skip
def test_inner(shapes: tuple[Shape, Shape]) -> None:
    assert_multilinear(np.inner, *shapes)


def test_vdot_outer_and_the_method_dot() -> None:
    assert_multilinear(np.vdot, (2, 3), (2, 3))
    assert_multilinear(np.vdot, (2, 3), (6,))
    assert_multilinear(np.outer, (2, 2), (3,))
    assert_multilinear(lambda a, b: a.dot(b), (2, 3), (3,))


lengths_of_axes = st.lists(st.integers(0, 3), max_size=2)


@given(lengths_of_axes, lengths_of_axes, lengths_of_axes, st.randoms())
def test_tensordot(summed: list[int], of_a: list[int], of_b: list[int], chance: Any) -> None:
    a, b = [("s", k) for k in range(len(summed))], [("s", k) for k in range(len(summed))]
    a += [("a", k) for k in range(len(of_a))]
    b += [("b", k) for k in range(len(of_b))]
    chance.shuffle(a), chance.shuffle(b)
    lengths = {"s": summed, "a": of_a, "b": of_b}
    axes = [[labels.index(("s", k)) for k in range(len(summed))] for labels in (a, b)]
    axes[0] = [axis - len(a) * chance.randint(0, 1) for axis in axes[0]]
    shapes = [tuple(lengths[kind][k] for kind, k in labels) for labels in (a, b)]
    assert_multilinear(lambda x, y: np.tensordot(x, y, axes), *shapes)


def test_tensordot_by_the_number_of_axes() -> None:
    assert_multilinear(np.tensordot, (2, 3, 4), (3, 4, 5))
    assert_multilinear(lambda a, b: np.tensordot(a, b, axes=1), (2, 3), (3, 4))
    assert_multilinear(lambda a, b: np.tensordot(a, b, axes=0), (2, 3), (4,))
    assert_multilinear(lambda a, b: np.tensordot(a, b, axes=(-1, 0)), (2, 3), (3, 4))


@pytest.mark.parametrize("shapes", [
    ((2, 3), (3, 2)), ((2,), (3, 2)), ((2, 1, 3), (2,)), ((), (2, 2)), ((2,), ()), ((0, 2), (2, 3)),
])  # fmt: skip
def test_kron(shapes: tuple[Shape, Shape]) -> None:
    assert_multilinear(np.kron, *shapes)


# ---- einsum -------------------------------------------------------------------------------------------------------------


@st.composite
def einsums(draw: Any) -> tuple[str, list[Shape]]:
    length = {letter: draw(st.integers(0, 3)) for letter in "ijkl"}
    terms = draw(st.lists(st.text("ijkl", max_size=3), min_size=1, max_size=3))
    used = draw(st.permutations(sorted(set("".join(terms)))))
    result = used[: draw(st.integers(0, len(used)))] if draw(st.booleans()) else None
    shapes = [tuple(length[letter] for letter in term) for term in terms]
    if draw(st.booleans()):  # an ellipsis: further axes, broadcast against each other
        hidden = draw(hnp.mutually_broadcastable_shapes(num_shapes=len(terms), max_dims=2, max_side=2)).input_shapes
        shapes = [before + shape for before, shape in zip(hidden, shapes)]
        terms = ["..." + term for term in terms]
        result = None if result is None else ["...", *result]
    return ",".join(terms) + ("" if result is None else "->" + "".join(result)), shapes


@settings(max_examples=200)
@given(einsums())
def test_einsum(case: tuple[str, list[Shape]]) -> None:
    subscripts, shapes = case
    assert_multilinear(lambda *xs: np.einsum(subscripts, *xs), *shapes)


@pytest.mark.parametrize(("subscripts", "shapes"), [
    ("ij,jk->ik", [(2, 3), (3, 4)]), ("ii,i->i", [(3, 3), (3,)]), ("...ij,...kj->...ik", [(2, 2, 3), (4, 3)]), ("ij->", [(2, 3)]),
])  # fmt: skip
def test_einsum_to_second_order(subscripts: str, shapes: list[Shape]) -> None:
    rng = np.random.default_rng(0)
    tg.check_grads(lambda *xs: np.sin(tg.einsum(subscripts, *xs)), *[rng.normal(size=shape) for shape in shapes], order=2)


def test_einsum_with_spaces_and_a_choice_of_paths() -> None:
    assert_multilinear(lambda a, b: np.einsum(" i j , j -> i ", a, b, optimize=False), (2, 3), (3,))


def test_einsum_of_numbered_axes_is_refused() -> None:
    with pytest.raises(TypeError, match="subscripts as letters"):
        np.einsum(tg.tensor(np.ones(2)), [0])
    with pytest.raises(tg.ShapeError, match="einsum of"):
        tg.einsum("ij,jk", tg.tensor(np.ones((2, 3))), np.ones((2, 3)))


# ---- linear systems -------------------------------------------------------------------------------------------------------


def regular(shape: Shape, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape) + 4 * np.eye(shape[-1])


@pytest.mark.parametrize(("a", "b"), [
    ((3, 3), (3,)), ((3, 3), (3, 2)), ((2, 3, 3), (3,)), ((2, 3, 3), (3, 2)), ((3, 3), (4, 3, 1)), ((3, 3), (3, 3)),
])  # fmt: skip
def test_solve(a: Shape, b: Shape) -> None:
    A, B = regular(a), np.random.default_rng(1).normal(size=b)
    x = np.linalg.solve(tg.tensor(A), tg.tensor(B))
    np.testing.assert_array_equal(x.data, np.linalg.solve(A, B))
    tg.check_grads(lambda A, B: np.sin(np.linalg.solve(A, B)), A, B, order=2)


def test_inv_and_its_closed_form() -> None:
    A = regular((2, 3, 3))
    inverse = np.linalg.inv(A)
    (found,) = gradient(np.linalg.inv, A)
    wanted = [-np.outer(one.sum(0), one.sum(1)) for one in inverse]  # -A⁻ᵀ 1 A⁻ᵀ
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_a_singular_matrix_is_an_error_of_numpys() -> None:
    for function in (np.linalg.inv, lambda a: np.linalg.solve(a, np.ones(2))):
        with pytest.raises(np.linalg.LinAlgError, match="Singular matrix"):
            function(tg.tensor(np.ones((2, 2)), requires_grad=True))


# ---- determinants -----------------------------------------------------------------------------------------------------------


def cofactors_by_minors(a: Any) -> Any:
    n = len(a)
    minor = [[np.delete(np.delete(a, i, 0), j, 1) for j in range(n)] for i in range(n)]
    return np.array([[(-1.0) ** (i + j) * np.linalg.det(minor[i][j]) for j in range(n)] for i in range(n)])


@pytest.mark.parametrize("rank", [4, 3, 2, 0])
def test_the_gradient_of_det_is_the_cofactors_at_any_rank(rank: int) -> None:
    rng = np.random.default_rng(rank)
    a = rng.normal(size=(4, rank)) @ rng.normal(size=(rank, 4))
    (found,) = gradient(np.linalg.det, a)
    np.testing.assert_allclose(found, cofactors_by_minors(a), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3, 3), (0, 2, 2), (0, 0)])
def test_det_of_batches_and_the_smallest_matrices(shape: Shape) -> None:
    a = np.random.default_rng(0).normal(size=shape)
    (found,) = gradient(np.linalg.det, a)
    wanted = np.linalg.det(a)[..., None, None] * np.linalg.inv(a).swapaxes(-1, -2) if a.size else np.zeros(shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_det_and_slogdet_to_second_order() -> None:
    a = regular((2, 3, 3))
    tg.check_grads(lambda a: np.linalg.det(a) / 50, a, order=2)
    tg.check_grads(lambda a: np.linalg.slogdet(a)[1], a, order=2)
    (found,) = gradient(lambda a: np.linalg.slogdet(a)[1], -a)
    np.testing.assert_allclose(found, np.linalg.inv(-a).swapaxes(-1, -2), rtol=1e-12)
    sign, log = np.linalg.slogdet(tg.tensor(-a, requires_grad=True))
    assert sign.tolist() == [-1, -1]
    np.testing.assert_allclose(np.exp(log.data), np.linalg.det(a), rtol=1e-12)
    (silent,) = gradient(lambda a: np.linalg.slogdet(a)[0], a)
    assert not silent.any()


# ---- decompositions -----------------------------------------------------------------------------------------------------------


def definite(shape: Shape) -> Any:
    x = np.random.default_rng(0).normal(size=shape)
    return x @ x.swapaxes(-1, -2) + np.diag(1.0 + np.arange(shape[-1]))


@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 3)])
def test_cholesky(shape: Shape) -> None:
    a = definite(shape)
    lower = np.linalg.cholesky(tg.tensor(a))
    np.testing.assert_allclose(lower.data, np.linalg.cholesky(a), rtol=1e-13, atol=1e-15)
    tg.check_grads(lambda a: np.sin(np.linalg.cholesky(a)), a, order=2)
    (found,) = gradient(lambda a: np.log(np.diagonal(np.linalg.cholesky(a), 0, -2, -1)) * 2, a)  # log det
    np.testing.assert_allclose(found, np.linalg.inv(a), rtol=1e-10)


def test_eigh() -> None:
    a = definite((2, 3, 3))
    values, vectors = np.linalg.eigh(tg.tensor(a))
    wanted = np.linalg.eigh(a)
    np.testing.assert_allclose(values.data, wanted[0], rtol=1e-12)
    np.testing.assert_allclose(vectors.data, wanted[1], rtol=1e-12, atol=1e-14)
    tg.check_grads(lambda a: np.linalg.eigh(a)[1] ** 2, a, order=2)
    tg.check_grads(lambda a: np.sin(np.linalg.eigvalsh(a)), a, order=2)

    def rebuilt(a: Any) -> Any:
        w, v = np.linalg.eigh(a)
        return (v * w[..., None, :]) @ np.swapaxes(v, -1, -2)

    u = np.random.default_rng(3).normal(size=a.shape)
    (found,) = gradient(lambda a: u * rebuilt(a), a)
    np.testing.assert_allclose(found, (u + u.swapaxes(-1, -2)) / 2, rtol=1e-9, atol=1e-12)


def test_results_have_numpys_names() -> None:
    a = tg.tensor(np.array([[2.0, 0.5], [0.5, 1.0]]), requires_grad=True)
    found, wanted = np.linalg.eigh(a), np.linalg.eigh(a.data)
    np.testing.assert_allclose(found.eigenvalues.numpy(), wanted.eigenvalues)
    np.testing.assert_allclose(found.eigenvectors.numpy(), wanted.eigenvectors)
    sign, logarithm = np.linalg.slogdet(a)
    assert sign.item() == 1
    assert np.linalg.slogdet(a).logabsdet.item() == logarithm.item() == pytest.approx(np.log(1.75))


def test_gradients_of_symmetric_functions_are_symmetric() -> None:
    a = definite((3, 3)) + np.triu(np.ones((3, 3)), 1)  # what is not symmetric in it has no say
    for function in (np.linalg.cholesky, lambda a: np.linalg.eigh(a)[0] ** 3, lambda a: np.linalg.eigh(a)[1] ** 2):
        (found,) = gradient(function, a)
        np.testing.assert_allclose(found, found.T, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(function(tg.tensor(a)).data, function(tg.tensor((a + a.T) / 2)).data, rtol=1e-12)


def test_eigenvalues_that_coincide_have_a_gradient_and_their_eigenvectors_none() -> None:
    (found,) = gradient(np.linalg.eigvalsh, 2 * np.eye(3))
    np.testing.assert_allclose(found, np.eye(3), atol=1e-14)  # of the trace
    (found,) = gradient(lambda a: np.linalg.eigh(a)[1][0] * np.arange(3.0), 2 * np.eye(3))
    assert not np.isfinite(found).all()


def test_what_cannot_be_decomposed_is_an_error_of_numpys() -> None:
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        np.linalg.cholesky(tg.tensor(-np.eye(2)))
    with pytest.raises(TypeError, match="cholesky has no parameter 'upper'"):
        np.linalg.cholesky(tg.tensor(np.eye(2)), upper=True)


def test_cofactors_are_det_times_the_inverse_transposed() -> None:
    a = regular((2, 4, 4))
    found = decompose.cofactors(a).data
    np.testing.assert_allclose(found, np.linalg.det(a)[:, None, None] * np.linalg.inv(a).swapaxes(-1, -2), rtol=1e-10)
