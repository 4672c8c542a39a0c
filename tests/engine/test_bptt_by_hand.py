"""The closed-form BPTT of the source document, held against finite differences and against the tape.

Three witnesses have to agree. `elman_by_hand` is the document's mathematics (errata applied). Central differences
and the complex step know no calculus at all and show that it is right without the engine. Then the engine, given
the same network as ordinary operations, has to reproduce every formula to 1e-10, and each sum over time also term
by term.
"""

from dataclasses import replace

import numpy as np
import pytest

import tinygrad_seq as tg

from . import elman_by_hand as twin

TOLERANCE = 1e-10


class Problem:
    """A small random network with inputs and targets; arrays are (n, B), one column per sample."""

    def __init__(self, T, B, one_hot=True, seed=0, n_x=3, n_a=4, n_y=5):
        rng = np.random.default_rng(seed)
        self.times = range(1, T + 1)
        self.p = twin.Parameters(
            w_ax=rng.normal(size=(n_a, n_x)),
            w_aa=rng.normal(size=(n_a, n_a)) / np.sqrt(n_a),
            w_ya=rng.normal(size=(n_y, n_a)),
            b_a=rng.normal(size=(n_a, 1)),
            b_y=rng.normal(size=(n_y, 1)),
        )
        self.x = {t: rng.normal(size=(n_x, B)) for t in self.times}
        if one_hot:
            self.y = {t: np.eye(n_y)[:, rng.integers(n_y, size=B)] for t in self.times}
        else:  # any distribution over the classes will do: a column has to sum to 1
            self.y = {t: rng.dirichlet(np.ones(n_y), size=B).T for t in self.times}
        self.a_0 = rng.normal(size=(n_a, B))


PROBLEMS = {
    "one sample": dict(T=6, B=1),
    "one step": dict(T=1, B=1),
    "soft targets": dict(T=5, B=1, one_hot=False, seed=1),
    "batch": dict(T=6, B=3, seed=2),
    "long batch": dict(T=40, B=2, one_hot=False, seed=3),
}


@pytest.fixture(params=PROBLEMS.values(), ids=PROBLEMS.keys())
def problem(request):
    return Problem(**request.param)


def assert_close(actual, expected, tolerance=TOLERANCE):
    actual = np.asarray(getattr(actual, "data", actual))
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


# --- The twin against differences: no autodiff involved --------------------------------------------------------


def loss_of_copies(problem, p_of, nudge_a=None, nudge_o=None):
    """The loss with the parameters p_of[t] in step t, and with a<t> and o<t> shifted where a nudge is given.

    Copies of the weights that are each used in one step only are how the gradient's term "through step t" is
    defined (Deep Learning, section 10.2.2). Works in complex numbers too.
    """
    loss, nudge_a, nudge_o = 0.0, nudge_a or {}, nudge_o or {}
    for b in range(problem.a_0.shape[1]):
        a = problem.a_0[:, [b]]
        for t in problem.times:
            a = twin.hidden_state(p_of[t], a, problem.x[t][:, [b]]) + nudge_a.get((t, b), 0.0)
            o = twin.output(p_of[t], a) + nudge_o.get((t, b), 0.0)
            loss = loss + twin.loss_of_step(o, problem.y[t][:, [b]])
    return loss


def complex_step(f, x, step=1e-30):
    """df/dx entry by entry as Im f(x + i step) / step: no subtraction, so exact to rounding."""
    return differentiate(lambda moved: f(moved).imag / step, x, 1j * step)


def central_difference(f, x, step=1e-6):
    """df/dx entry by entry as (f(x + step) - f(x - step)) / (2 step)."""
    forward, backward = (differentiate(f, x, signed) for signed in (step, -step))
    return (forward - backward) / (2 * step)


def differentiate(f, x, step):
    """f at x with one entry moved by `step`, for each entry of x."""
    out = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        moved = x.astype(np.result_type(x, step))
        moved[index] += step
        out[index] = f(moved)
    return out


@pytest.mark.parametrize("name", twin.NAMES)
def test_totals_against_the_complex_step_and_central_differences(problem, name):
    def loss(value):
        return loss_of_copies(problem, dict.fromkeys(problem.times, replace(problem.p, **{name: value})))

    _, by_hand = twin.batch(problem.p, problem.x, problem.y, problem.a_0)
    total, value = getattr(by_hand.total, name), getattr(problem.p, name)
    assert_close(total, complex_step(loss, value))
    assert_close(total, central_difference(loss, value), tolerance=2e-7)


@pytest.mark.parametrize("name", twin.NAMES)
def test_terms_against_the_complex_step(problem, name):
    _, by_hand = twin.batch(problem.p, problem.x, problem.y, problem.a_0)
    everywhere = dict.fromkeys(problem.times, problem.p)
    for t in sample_of(problem.times):

        def loss(value, t=t):
            return loss_of_copies(problem, everywhere | {t: replace(problem.p, **{name: value})})

        assert_close(getattr(by_hand.steps[t], name), complex_step(loss, getattr(problem.p, name)))


def test_nodes_against_the_complex_step(problem):
    _, by_hand = twin.batch(problem.p, problem.x, problem.y, problem.a_0)
    everywhere = dict.fromkeys(problem.times, problem.p)
    for t in sample_of(problem.times):
        for b in range(problem.a_0.shape[1]):

            def loss_a(nudge, at=(t, b)):
                return loss_of_copies(problem, everywhere, nudge_a={at: nudge})

            def loss_o(nudge, at=(t, b)):
                return loss_of_copies(problem, everywhere, nudge_o={at: nudge})

            assert_close(by_hand.a[t][:, [b]], complex_step(loss_a, np.zeros_like(by_hand.a[t][:, [b]])))
            assert_close(by_hand.o[t][:, [b]], complex_step(loss_o, np.zeros_like(by_hand.o[t][:, [b]])))


def sample_of(times):
    """All steps of a short sequence; first, last and a few between of a long one."""
    return times if len(times) <= 10 else [times[0], times[1], times[len(times) // 2], times[-2], times[-1]]


# --- The tape against the twin ---------------------------------------------------------------------------------


class TapedElman:
    """The same network as operations of the engine: rows are samples, steps count from 0."""

    def __init__(self, problem):
        self.parameters = {
            name: tg.tensor(np.ascontiguousarray(getattr(problem.p, name).T), requires_grad=True) for name in twin.NAMES
        }  # weights transposed, biases as rows
        w_ax, w_aa, w_ya, b_a, b_y = self.parameters.values()
        self.a, self.o = [], []
        self.loss = 0.0
        a = tg.tensor(problem.a_0.T)  # (B, n_a)
        for t in problem.times:
            with tg.scope("step", t=t - 1):
                a = np.tanh(tg.tensor(problem.x[t].T) @ w_ax + a @ w_aa + b_a)
                o = a @ w_ya + b_y  # (B, n_y)
                self.loss = self.loss - (tg.tensor(problem.y[t].T) * tg.log_softmax(o, axis=-1)).sum()
            a.retain_grad()
            o.retain_grad()
            self.a.append(a)
            self.o.append(o)


def test_tape_has_the_twins_loss_and_gradients(problem):
    loss, by_hand = twin.batch(problem.p, problem.x, problem.y, problem.a_0)
    tape = TapedElman(problem)
    tape.loss.backward()
    assert_close(tape.loss, loss)
    for name, parameter in tape.parameters.items():
        assert_close(parameter.grad.data, getattr(by_hand.total, name).T)
    for t in problem.times:
        assert_close(tape.a[t - 1].grad.data, by_hand.a[t].T)
        assert_close(tape.o[t - 1].grad.data, by_hand.o[t].T)


@pytest.mark.parametrize("name", twin.NAMES)
def test_tape_has_the_twins_terms_in_time(problem, name):
    _, by_hand = twin.batch(problem.p, problem.x, problem.y, problem.a_0)
    tape = TapedElman(problem)
    terms = dict(tg.bptt.weight_gradients(tape.loss, tape.parameters[name]))

    outside = terms.pop(None, 0.0)  # nothing happens outside of time here
    assert not np.any(np.asarray(getattr(outside, "data", outside)))
    assert set(terms) == {t - 1 for t in problem.times}
    for t in problem.times:
        assert_close(terms[t - 1], getattr(by_hand.steps[t], name).T)


@pytest.mark.parametrize("node", ["a", "o"])
def test_tape_has_the_twins_state_gradients(problem, node):
    _, by_hand = twin.batch(problem.p, problem.x, problem.y, problem.a_0)
    tape = TapedElman(problem)
    gradients = tg.bptt.state_gradients(tape.loss, getattr(tape, node))
    assert len(gradients) == len(problem.times)
    for t in problem.times:
        assert_close(gradients[t - 1], getattr(by_hand, node)[t].T)


# --- The errata: what the document says and what is true -------------------------------------------------------


def test_erratum_1_softmax_has_a_full_jacobian():
    """E1: y_hat - y follows from the softmax's Jacobian; the document's (logistic) factor does not fit it."""
    o, y = np.random.default_rng(0).normal(size=(5, 1)), np.eye(5)[:, [2]]
    y_hat = twin.prediction(o)
    jacobian = np.diag(y_hat[:, 0]) - y_hat @ y_hat.T  # symmetric
    documents_factor = -y / y_hat + (1 - y) / (1 - y_hat)

    assert_close(jacobian @ (-y / y_hat), y_hat - y)
    assert not np.allclose(jacobian @ documents_factor, y_hat - y, atol=1e-3)
    assert_close(documents_factor * y_hat * (1 - y_hat), y_hat - y)  # the logistic derivation, consistent in itself

    unnormalised = 2.5 * y  # the result needs targets that sum to 1
    assert_close(jacobian @ (-unnormalised / y_hat), y_hat * unnormalised.sum() - unnormalised)

    tensor = tg.tensor(o.T, requires_grad=True)
    (tg.tensor(-y.T) * tg.log_softmax(tensor, axis=-1)).sum().backward()
    assert_close(tensor.grad.data, (y_hat - y).T)


@pytest.mark.parametrize("weight", ["w_aa", "w_ax"])
def test_errata_2_and_3_the_diagonal_stands_on_the_left(weight):
    """E2, E3: dL/da diag(1 - a^2) a_previous^T does not conform; rearranged until it does, it is another matrix."""
    problem = Problem(T=2, B=1)
    values = twin.forward(problem.p, problem.x, problem.y, problem.a_0)
    by_hand = twin.backward(problem.p, problem.x, problem.y, values)
    grad_a, jacobian = by_hand.a[2], twin.tanh_jacobian(values.a[2])
    right = values.a[1] if weight == "w_aa" else problem.x[2]
    correct = getattr(by_hand.steps[2], weight)

    assert_close(jacobian @ grad_a @ right.T, correct)
    with pytest.raises(ValueError, match="matmul"):  # (n, 1) times (n, n)
        grad_a @ jacobian @ right.T
    if weight == "w_aa":  # the diagonal moved past the outer product scales the columns, not the rows
        assert not np.allclose(grad_a @ right.T @ jacobian, correct, atol=1e-3)


def test_erratum_5_linear_recurrence_is_a_power_without_transpose():
    """E5: a<t> = w_aa a<t-1> gives a<t> = w_aa^t a<0>; the transpose belongs to the gradient, dL/da<0>."""
    rng = np.random.default_rng(0)
    w_aa, a_0, v, t = rng.normal(size=(4, 4)), rng.normal(size=(4, 1)), rng.normal(size=(4, 1)), 7
    power = np.linalg.matrix_power(w_aa, t)

    start = tg.tensor(a_0, requires_grad=True)
    a = start
    for _ in range(t):
        a = tg.tensor(w_aa) @ a
    (tg.tensor(v) * a).sum().backward()

    assert_close(a, power @ a_0)
    assert not np.allclose(a.data, power.T @ a_0, atol=1e-3)
    assert_close(start.grad.data, power.T @ v)


def test_erratum_6_powers_through_eigenvalues():
    """E6: w_aa^t = V L^t V^-1 in general, Q L^t Q^T for a symmetric matrix only (and never Q^T L^t Q)."""
    general, t = np.random.default_rng(0).normal(size=(4, 4)), 6
    eigenvalues, V = np.linalg.eig(general)
    power = np.linalg.matrix_power(general, t)
    assert_close(V @ np.diag(eigenvalues**t) @ np.linalg.inv(V), power)
    assert not np.allclose(V @ np.diag(eigenvalues**t) @ V.T, power, atol=1e-3)

    symmetric = general + general.T
    eigenvalues, Q = np.linalg.eigh(symmetric)
    power = np.linalg.matrix_power(symmetric, t)
    np.testing.assert_allclose(Q @ np.diag(eigenvalues**t) @ Q.T, power, rtol=1e-9)
    assert not np.allclose(Q.T @ np.diag(eigenvalues**t) @ Q, power, atol=1e-3)


def test_erratum_6_eigenvalues_below_one_do_not_bound_the_growth():
    """E6: spectral radius 0.5, and still |w_aa^3| = 7.5: only the singular values bound a product of Jacobians."""
    w_aa = np.array([[0.5, 10.0], [0.0, 0.5]])
    assert max(abs(np.linalg.eigvals(w_aa))) == 0.5
    assert np.linalg.norm(np.linalg.matrix_power(w_aa, 3), ord=2) == pytest.approx(7.5, abs=0.01)
    assert np.linalg.norm(np.linalg.matrix_power(w_aa, 60), ord=2) < 1e-10  # in the end the radius wins
