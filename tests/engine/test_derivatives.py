"""grad, vjp, jvp, jacobian, hessian, hvp, checkpoint: against closed forms and each other."""

import gc
import types

import numpy as np
import pytest

import tinygrad_seq as tg


def f(x):
    return (np.tanh(x) * x).sum()


X = np.array([0.3, -1.2, 2.0])
T = np.tanh(X)
GRADIENT = T + X * (1 - T**2)
SECOND = 2 * (1 - T**2) - 2 * X * T * (1 - T**2)


def test_grad_and_value_and_grad():
    assert np.allclose(tg.grad(f)(X).data, GRADIENT)
    value, gradient = tg.value_and_grad(f)(X)
    assert np.isclose(value.item(), (T * X).sum()) and np.allclose(gradient.data, GRADIENT)
    (value, aux), gradient = tg.value_and_grad(lambda x: (f(x), "aux"), has_aux=True)(X)
    assert aux == "aux" and np.allclose(gradient.data, GRADIENT)
    assert tg.grad(lambda x: (f(x), "aux"), has_aux=True)(X)[1] == "aux"
    with pytest.raises(TypeError, match=r"a pair.*not Tensor"):
        tg.grad(f, has_aux=True)(X)


def test_results_are_tensors_taped_only_where_the_arguments_are():
    W = tg.Parameter(X)
    assert not tg.grad(lambda x: (x * W).sum())(X).requires_grad and W.grad is None
    x = tg.tensor(X, requires_grad=True)
    gradient = tg.grad(f)(x)
    assert gradient.requires_grad
    gradient.sum().backward()
    assert np.allclose(x.grad.data, SECOND)


def test_argnums_choose_arguments():
    def g(a, b, n=2):
        return (a * b**n).sum()

    assert np.allclose(tg.grad(g, argnums=1)(2.0, X).data, 4 * X)
    both = tg.grad(g, argnums=(0, 1))(np.float64(2), X, n=3)
    assert isinstance(both, tuple)
    assert np.allclose(both[0].data, (X**3).sum()) and np.allclose(both[1].data, 6 * X**2)
    for last in (-1, np.int64(1)):
        assert np.allclose(tg.grad(g, argnums=last)(2.0, X).data, 4 * X)
    assert np.allclose(tg.hessian(g, argnums=(0, 1))(2.0, X)[1][0].data, 2 * X)
    with pytest.raises(TypeError, match="argnums"):
        tg.grad(g, argnums=5)(X, X)
    with pytest.raises(TypeError, match="floating"):
        tg.grad(g)(np.arange(3), X)


def test_nested_arguments():
    def g(p):
        return (p["W"][0] * p["b"]).sum() + p["W"][1] * 3

    found = tg.grad(g)({"W": [X, 2.0], "b": X * 2, "unused": np.ones(2)})
    assert np.allclose(found["W"][0].data, X * 2) and found["W"][1].item() == 3
    assert np.allclose(found["b"].data, X) and (found["unused"].data == 0).all()


def test_none_in_an_argument_is_nothing():
    found = tg.grad(lambda p: (p["W"] ** 2).sum())({"W": X, "state": None})
    assert np.allclose(found["W"].data, 2 * X) and found["state"] is None
    _, pull = tg.vjp(lambda x: (x * 2, None), X)
    assert (pull((np.ones(3), None))[0].data == 2).all()


def test_what_comes_beside_the_value_is_taped_where_the_argument_is():
    def g(x):
        return f(x), {"twice": x * 2, "name": "x"}

    aux = tg.grad(g, has_aux=True)(X)[1]
    assert not aux["twice"].requires_grad and (aux["twice"].data == 2 * X).all() and aux["name"] == "x"
    assert tg.grad(g, has_aux=True)(tg.tensor(X, requires_grad=True))[1]["twice"].requires_grad


def test_jacobians_and_hessians_of_nested_arguments_and_results():
    p = {"a": X, "b": (2.0, None)}
    found = tg.jacobian(lambda p: [np.exp(p["a"]), (p["a"] * p["b"][0]).sum()])(p)
    assert np.allclose(found[0]["a"].data, np.diag(np.exp(X))) and found[0]["b"][0].shape == (3,) and found[0]["b"][1] is None
    assert np.allclose(found[1]["a"].data, 2) and np.isclose(found[1]["b"][0].item(), X.sum())
    second = tg.hessian(lambda p: (p["a"] ** 2).sum() * p["b"][0])(p)
    assert np.allclose(second["a"]["a"].data, 4 * np.eye(3)) and np.allclose(second["a"]["b"][0].data, 2 * X)
    assert np.allclose(second["b"][0]["a"].data, 2 * X) and second["b"][0]["b"][0].item() == 0


def test_an_integer_among_the_results_does_not_move():
    (_, place), (dy, moved) = tg.jvp(lambda x: (x * 2, np.argmax(x)), (X,), (X,))
    assert np.allclose(dy.data, 2 * X) and place.item() == 2 and moved.item() == 0
    assert (tg.vjp(lambda x: (x * 2, np.argmax(x)), X)[1]((X, 1))[0].data == 2 * X).all()


def test_an_ignored_argument_has_gradient_zero():
    assert (tg.grad(lambda x: 3.0)(X).data == 0).all()
    _, pull = tg.vjp(lambda a, b: a * 2, X, X)
    assert (pull(np.ones(3))[1].data == 0).all()


def test_a_function_with_many_values_needs_another_transform():
    with pytest.raises(tg.AutodiffError, match="jacobian"):
        tg.grad(lambda x: x * 2)(X)


def test_gradients_of_gradients_do_not_mix_up_their_variables():
    inner = lambda x: tg.grad(lambda y: x * y)(1.0)
    assert tg.grad(lambda x: x * inner(x))(3.0).item() == 6  # d/dx x * x
    assert tg.grad(lambda x: x * tg.grad(lambda y: x + y)(1.0))(1.0).item() == 1


def test_grad_works_under_no_grad():
    with tg.no_grad():
        assert np.allclose(tg.grad(f)(X).data, GRADIENT)


def test_vjp_of_nested_results_many_times():
    y, pull = tg.vjp(lambda a: {"s": a * 2, "p": [a * a]}, X)
    assert np.allclose(y["s"].data, 2 * X)
    for _ in range(2):
        (g,) = pull({"s": np.ones(3), "p": [np.ones(3)]})
        assert np.allclose(g.data, 2 + 2 * X)
    with pytest.raises(tg.AutodiffError, match="cotangent"):
        pull([np.ones(3)])


def test_jvp_equals_the_jacobian_times_the_tangent():
    def g(x, y):
        return np.exp(x) * y, np.where(x > 0, np.log(np.abs(x)), 0.0)

    v = np.array([1.0, -2.0, 0.5])
    (a, _), (da, db) = tg.jvp(g, (X, X), (v, 2 * v))
    assert np.allclose(a.data, np.exp(X) * X) and np.allclose(da.data, np.exp(X) * (X * v + 2 * v))
    assert np.allclose(db.data, np.where(X > 0, v / X, 0))


def test_jvp_where_the_cotangent_probe_would_vanish():
    _, dy = tg.jvp(lambda x: x - x * 1.0 + np.sqrt(x), (np.array([4.0]),), (np.array([1.0]),))
    assert np.allclose(dy.data, 0.25)
    _, dy = tg.jvp(lambda x: 3.0, (X,), (X,))
    assert dy.item() == 0
    with pytest.raises(tg.AutodiffError, match="shapes"):
        tg.jvp(f, (X,), (np.ones(2),))


def test_jvp_is_differentiable():
    directional = lambda x: tg.jvp(f, (x,), (np.ones(3),))[1]
    assert np.allclose(tg.grad(directional)(X).data, SECOND)


def test_nested_transforms_give_taped_results_only_for_taped_arguments():
    assert not tg.hessian(f)(X).requires_grad
    assert not tg.hvp(f)(X, X).requires_grad
    x = tg.tensor(X, requires_grad=True)
    assert tg.hessian(f)(x).requires_grad


def test_jacobian_hessian_and_hvp():
    A = np.random.default_rng(0).normal(size=(2, 3))
    assert np.allclose(tg.jacobian(lambda x: A @ x)(X).data, A)
    assert tg.jacobian(lambda x: x.reshape(3, 1) * x)(X).shape == (3, 3, 3)
    assert np.allclose(tg.hessian(f)(X).data, np.diag(SECOND))
    assert np.allclose(tg.hvp(f)(X, np.array([1.0, 2.0, 3.0])).data, SECOND * [1, 2, 3])
    assert tg.jacobian(lambda x: x[:0])(X).shape == (0, 3)
    tree = tg.jacobian(lambda p: p["a"] * 2)({"a": X, "b": X})
    assert np.allclose(tree["a"].data, 2 * np.eye(3)) and (tree["b"].data == 0).all()


def test_transforms_leave_no_gradient_behind():
    W = tg.Parameter(X)
    for transform in (tg.grad, tg.hessian):
        transform(lambda x: (np.tanh(x) * W).sum())(X)
    assert W.grad is None


# ---- checkpoint ---------------------------------------------------------------------------------------------------------


def network(W, x, checkpointed, rate=0.0):
    def segment(h, x):
        for row in x:
            h = np.tanh(h @ W + row)
            if rate:
                h = tg.dropout(h, rate)
        return h

    segment = tg.checkpoint(segment) if checkpointed else segment
    h = tg.tensor(np.zeros((2, 4)), dtype=x.dtype)
    for start in range(0, len(x.data), 5):
        h = segment(h, x[start : start + 5])
    return (h * h).sum()


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_checkpointed_gradients_equal_the_plain_ones(rate):
    rng = np.random.default_rng(0)
    data, weight = rng.normal(size=(20, 2, 4)), rng.normal(size=(4, 4)) * 0.5
    found = []
    for checkpointed in (False, True):
        tg.manual_seed(3)
        W, x = tg.tensor(weight, requires_grad=True), tg.tensor(data, requires_grad=True)
        network(W, x, checkpointed, rate).backward()
        found.append((W.grad.data, x.grad.data, tg.random.generator().random()))
    assert np.allclose(found[0][0], found[1][0], rtol=1e-12) and np.allclose(found[0][1], found[1][1], rtol=1e-12)
    assert found[0][2] == found[1][2]  # the second run draws again without moving the generator


def test_second_order_through_a_checkpoint():
    W = np.random.default_rng(1).normal(size=(4, 4)) * 0.5
    x = np.random.default_rng(2).normal(size=(5, 2, 4))
    plain, light = (tg.hvp(lambda w, c=c: network(w, tg.tensor(x), c))(W, W).data for c in (False, True))
    assert np.allclose(plain, light, rtol=1e-10)


def is_code(thing):
    """Types, modules and the globals of modules: what a function refers to without keeping anything of a graph."""
    return isinstance(thing, (type, types.ModuleType)) or (isinstance(thing, dict) and "__builtins__" in thing)


def test_a_checkpoint_saves_its_arguments_only():
    def kept(checkpointed):
        W, x = tg.Parameter(np.eye(4)), tg.tensor(np.ones((50, 2, 4)))
        loss = network(W, x, checkpointed)
        seen, stack = {}, [loss]
        while stack:
            thing = stack.pop()
            if id(thing) in seen:
                continue
            seen[id(thing)] = thing
            if isinstance(thing, np.ndarray):
                continue
            stack += [each for each in gc.get_referents(thing) if not is_code(each)]
        return sum(1 for thing in seen.values() if isinstance(thing, np.ndarray))

    assert kept(True) < kept(False) / 2


def test_a_function_that_is_not_deterministic_is_refused():
    rng = np.random.default_rng(0)  # a generator of its own, whose state nobody replays
    x = tg.tensor(X, requires_grad=True)
    y = tg.checkpoint(lambda v: v * rng.normal())(x)
    with tg.scope("elsewhere"), pytest.raises(tg.NondeterministicError, match="another result"):
        y.sum().backward()
    assert x.grad is None


def test_the_same_numbers_in_another_order_are_another_result():
    rng = np.random.default_rng(0)
    y = tg.checkpoint(lambda v: v * rng.permutation(3))(tg.tensor(np.ones(3), requires_grad=True))
    with pytest.raises(tg.NondeterministicError):
        y.sum().backward()


def test_the_second_run_has_the_default_dtype_of_the_first():
    x = tg.tensor(X, requires_grad=True)
    with tg.using_dtype(np.float64):
        y = tg.checkpoint(lambda v: v * tg.tensor(0.1))(x)
    y.sum().backward()
    assert (x.grad.data == 0.1).all()


def test_a_weight_overwritten_before_a_checkpoint_is_run_again_is_refused():
    W = tg.Parameter(X, name="W")
    y = tg.checkpoint(lambda v: v * W)(tg.tensor(X, requires_grad=True))
    W.overwrite(X * 2)
    with pytest.raises(tg.OverwrittenError, match="'W'"):
        y.sum().backward()


def test_checkpoint_without_anything_to_differentiate_just_calls():
    light = tg.checkpoint(lambda v: (v * 2, "aux"))
    y, aux = light(tg.tensor(X))
    assert not y.requires_grad and aux == "aux"
    with tg.no_grad():
        assert not light(tg.tensor(X, requires_grad=True))[0].requires_grad
    with tg.record() as tape:
        light(tg.tensor(X, requires_grad=True))
    assert "multiply" in [e.op for e in tape]
