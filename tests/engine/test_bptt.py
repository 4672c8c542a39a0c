"""Gradients taken apart by step: the parts add up, and each is what the mathematics says."""

import numpy as np
import pytest

import tinygrad_seq as tg

RNG = np.random.default_rng(0)


def problem(T=5, B=2, I=3, H=4):
    W_x, W_h, b, W_y = (tg.tensor(RNG.normal(size=s) * 0.5, requires_grad=True) for s in ((I, H), (H, H), (H,), (H, 2)))
    return RNG.normal(size=(T, B, I)), W_x, W_h, b, W_y


def unrolled(x, W_x, W_h, b, W_y, hoisted=False, prepared=lambda W: W):
    T, B, _ = x.shape
    h = tg.tensor(np.zeros((B, W_h.shape[0])))
    states = []
    W = prepared(W_h)
    if hoisted:
        with tg.scope("input", time_axis=0):
            xw = tg.tensor(x) @ W_x + b
    for t in range(T):
        with tg.scope("rnn", t=t):
            h = np.tanh((xw[t] if hoisted else tg.tensor(x[t]) @ W_x + b) + h @ W)
            states.append(h)
    if hoisted:
        with tg.scope("readout", time_axis=0):
            o = np.stack(states) @ W_y
        return (o * o).sum(), states
    loss = tg.tensor(0.0, dtype=np.float64)
    for t, state in enumerate(states):
        with tg.scope("loss", t=t):
            o = state @ W_y
            loss = loss + (o * o).sum()
    return loss, states


@pytest.mark.parametrize("hoisted", [False, True])
def test_the_parts_of_every_weight_add_up_to_its_gradient(hoisted):
    x, *weights = problem()
    loss, _ = unrolled(x, *weights, hoisted=hoisted)
    parts = [tg.bptt.weight_gradients(loss, W) for W in weights]
    loss.backward()
    for W, by_step in zip(weights, parts):
        assert list(by_step) == list(range(5))
        assert all(part.shape == W.shape for part in by_step.values())
        assert np.allclose(sum(by_step.values()), W.grad.data, rtol=1e-12, atol=1e-14)


def test_hoisting_does_not_change_the_parts():
    x, *weights = problem()
    for W in weights:
        plain, hoisted = (tg.bptt.weight_gradients(unrolled(x, *weights, hoisted=h)[0], W) for h in (False, True))
        assert all(np.allclose(plain[t], hoisted[t], rtol=1e-11, atol=1e-14) for t in range(5))


@pytest.mark.parametrize("prepared", [
    lambda W: W.T.T, lambda W: np.concatenate(tg.split(W, 2, axis=1), axis=1), lambda W: W * 1.0 + 0.0,
])  # fmt: skip
def test_what_is_done_to_a_weight_outside_of_time_is_seen_through(prepared):
    x, *weights = problem()
    plain = tg.bptt.weight_gradients(unrolled(x, *weights)[0], weights[1])
    through = tg.bptt.weight_gradients(unrolled(x, *weights, prepared=prepared)[0], weights[1])
    assert list(through) == list(plain)
    assert all(np.allclose(plain[t], through[t], rtol=1e-11, atol=1e-14) for t in plain)


# A projection in a scope over all of time, or in each step's: with what is done to weights in that scope.
PROJECTIONS = {
    "transposed": lambda x, W, V, b: x @ W.T.T + b,
    "scaled":     lambda x, W, V, b: x @ (W * 2.0) + b * np.array([1.0, 2.0, 3.0, 4.0]),
    "cut":        lambda x, W, V, b: np.concatenate([x @ part for part in tg.split(W, 2, axis=1)], axis=-1) + b,
    "joined":     lambda x, W, V, b: x @ W + np.concatenate([b[:2], b[2:]]),
    "low rank":   lambda x, W, V, b: x @ (W @ V) + b,
    "gates":      lambda x, W, V, b: np.concatenate([u * c for u, c in [tg.split(np.tanh(x @ W), 2, axis=-1)]] * 2, axis=-1) + b,
}  # fmt: skip


@pytest.mark.parametrize("project", PROJECTIONS.values(), ids=PROJECTIONS)
def test_a_weight_in_a_scope_over_all_of_time_has_no_axis_of_time(project):
    rng = np.random.default_rng(1)
    T, x = 4, rng.normal(size=(4, 2, 4))  # as many steps as rows in the weights: lengths do not tell them apart
    W, V, b, U = (tg.Parameter(rng.normal(size=shape) * 0.5) for shape in ((4, 4), (4, 4), (4,), (4, 4)))

    def parts(hoisted):
        h = tg.tensor(np.zeros((2, 4)))
        with tg.scope("input", time_axis=0):
            xw = project(tg.tensor(x), W, V, b) if hoisted else None
        for t in range(T):
            with tg.scope("rnn", t=t):
                h = np.tanh((xw[t] if hoisted else project(tg.tensor(x[t]), W, V, b)) + h @ U)
        loss = (h * h).sum()
        return [tg.bptt.weight_gradients(loss, weight) for weight in (W, V, b)]

    for plain, hoisted in zip(parts(False), parts(True)):
        assert list(plain) == list(hoisted)
        assert all(np.allclose(plain[t], hoisted[t], rtol=1e-11, atol=1e-14) for t in plain)


@pytest.mark.parametrize("look_up", [tg.embedding, lambda E, tokens: E[tokens]])
def test_rows_that_all_steps_look_up_at_once_belong_to_their_steps(look_up):
    E, tokens = tg.Parameter(RNG.normal(size=(5, 3))), np.array([[0, 1], [2, 0], [4, 4]])
    with tg.scope("embedding", time_axis=0):
        x = look_up(E, tokens)
    parts = tg.bptt.weight_gradients((x * np.array([1.0, 10.0, 100.0])[:, None, None]).sum(), E)
    assert list(parts) == [0, 1, 2] and [part.sum() for part in parts.values()] == [6, 60, 600]
    assert parts[2][4].tolist() == [200, 200, 200]


def test_what_flows_outside_of_time_stands_under_none():
    x, *weights = problem()
    W_h = weights[1]
    loss, _ = unrolled(x, *weights)
    loss = loss + 0.1 * (W_h * W_h).sum()
    parts = tg.bptt.weight_gradients(loss, W_h)
    assert list(parts) == [0, 1, 2, 3, 4, None]
    assert np.allclose(parts[None], 0.2 * W_h.data)
    loss.backward()
    assert np.allclose(sum(parts.values()), W_h.grad.data)


def test_state_gradients_are_the_cotangents_of_the_states():
    x, *weights = problem()
    loss, states = unrolled(x, *weights)
    for state in states:
        state.retain_grad()
    found = tg.bptt.state_gradients(loss, states)
    loss.backward()
    assert all(np.allclose(g, state.grad.data, rtol=1e-12) for g, state in zip(found, states))


def test_a_state_that_the_loss_ignores_has_gradient_zero():
    x = tg.tensor(np.ones(2), requires_grad=True)
    a, b = x * 2, x * 3
    assert (tg.bptt.state_gradients(a.sum(), [a, b])[1] == 0).all()


def test_a_state_may_be_a_pair():
    h, c = tg.tensor([[1.0, 2.0]], requires_grad=True), tg.tensor([[3.0, 5.0]], requires_grad=True)
    first = h * 2, c * h
    loss = (first[0] * first[1]).sum()
    (pair, alone) = tg.bptt.state_gradients(loss, [first, first[0]])
    np.testing.assert_array_equal(pair[0], first[1].data)
    np.testing.assert_array_equal(pair[1], first[0].data)
    np.testing.assert_array_equal(alone, first[1].data)


def test_checkpointed_steps_stand_outside_of_time():
    W, x = tg.tensor(np.array([[0.5, 0.2], [0.1, 0.4]]), requires_grad=True), np.ones((9, 3, 2))

    def some(x, h):
        for x_t in x:
            h = np.tanh(x_t + h @ W)
        return h[None], h

    loss = tg.bptt.segments(some)(x, state=np.zeros((3, 2)))[0].sum()
    parts = tg.bptt.weight_gradients(loss, W)
    assert list(parts) == [None] and W.grad is None
    loss.backward()
    np.testing.assert_allclose(parts[None], W.grad.data, rtol=1e-14)


def test_constants_have_no_gradient_to_take_apart():
    x, *weights = problem()
    loss, states = unrolled(x, *weights)
    with pytest.raises(tg.AutodiffError, match="detached"):
        tg.bptt.state_gradients(loss, [states[0].detach()])


def test_nothing_is_changed():
    x, *weights = problem()
    loss, _ = unrolled(x, *weights)
    tg.bptt.weight_gradients(loss, weights[1])
    assert all(W.grad is None for W in weights)
    loss.backward()


def test_what_is_no_tensor_is_told_by_its_kind():
    W = tg.tensor(np.ones((2, 2)), requires_grad=True)
    with pytest.raises(tg.AutodiffError, match="the gradient was asked for of a list, which is on no graph"):
        tg.bptt.weight_gradients((W * 2).sum(), [W])


def test_the_cotangent_of_a_result_that_is_no_scalar_may_be_given():
    x, *weights = problem()
    h = np.tanh(tg.tensor(x[0]) @ weights[0])
    with tg.scope("rnn", t=0):
        y = np.tanh(h @ weights[1])
    g = RNG.normal(size=y.shape)
    parts = tg.bptt.weight_gradients(y, weights[1], gradient=g)
    (dh,) = tg.bptt.state_gradients(y, [h], gradient=g)
    y.backward(g)
    np.testing.assert_allclose(parts[0], weights[1].grad.data, rtol=1e-12)
    np.testing.assert_allclose(dh, (g * (1 - y.data**2)) @ weights[1].data.T, rtol=1e-12)
