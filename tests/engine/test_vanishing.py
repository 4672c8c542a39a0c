"""Flow, Jacobians and verdict: against powers of W, closed forms and the derivatives of one step; and nothing is changed."""

import re

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.states import nodes_of_states

RNG = np.random.default_rng(0)


def leaf(*shape, scale=0.6):
    return tg.tensor(RNG.normal(size=shape) * scale, requires_grad=True)


def linear(W, T=6, B=3):
    h = tg.tensor(RNG.normal(size=(B, len(W))))
    return [h := h @ W for _ in range(T)]


def elman(T=6, B=3, I=2, H=4, stacked=False):
    """(losses, states, W_h) of a tanh network; the losses one by one, or rows of what was computed for all of time."""
    x, W_x, W_h, W_y = RNG.normal(size=(T, B, I)), leaf(I, H), leaf(H, H), leaf(H, 2)
    h, states = tg.tensor(np.zeros((B, H))), []
    with tg.scope("input", time_axis=0):
        xw = x @ W_x
    for t in range(T):
        with tg.scope("rnn", t=t):
            h = np.tanh(xw[t] + h @ W_h)
            states.append(h)
    if not stacked:
        return [((h @ W_y) ** 2).sum() for h in states], states, W_h
    with tg.scope("readout", time_axis=0):
        by_step = ((np.stack(states) @ W_y) ** 2).sum(axis=(1, 2))
    return list(by_step), states, W_h


def lstm_step(h, c, x, W):
    u, f, o, g = tg.split(np.concatenate([x, h], axis=1) @ W, 4, axis=1)
    c = tg.sigmoid(u) * np.tanh(g) + tg.sigmoid(f) * c
    return tg.sigmoid(o) * np.tanh(c), c


def lstm(T=4, B=3, I=2, H=3):
    x, W = RNG.normal(size=(T, B, I)), leaf(I + H, 4 * H)
    h, c = tg.tensor(np.zeros((B, H))), tg.tensor(np.zeros((B, H)))
    states = []
    for t in range(T):
        h, c = lstm_step(h, c, x[t], W)
        states.append((h, c))
    return states, x, W


def norm(*parts):
    rows = np.concatenate(parts, axis=1)
    return np.sqrt((rows**2).sum() / len(rows))


# ---- flow ---------------------------------------------------------------------------------------------------------------


def test_the_flow_of_a_linear_network_follows_the_powers_of_w():
    W, v = leaf(4, 4), RNG.normal(size=4)
    states = linear(W)
    found = tg.bptt.flow([(h @ v).sum() for h in states], states)
    expected = [[np.linalg.norm(np.linalg.matrix_power(W.data, t - s) @ v) if s <= t else 0 for s in range(6)] for t in range(6)]
    assert found.dtype == np.float64
    assert np.allclose(found, expected, rtol=1e-12)
    assert (found[np.triu_indices(6, 1)] == 0).all()


@pytest.mark.parametrize("stacked", [False, True])
def test_the_flow_is_the_norm_of_the_state_gradients(stacked):
    losses, states, _ = elman(stacked=stacked)
    expected = [[norm(g) for g in tg.bptt.state_gradients(loss, states)] for loss in losses]
    found = tg.bptt.flow(losses, states)
    assert np.allclose(found, expected, rtol=1e-12)
    assert (found[np.triu_indices(6, 1)] == 0).all() and (found[np.tril_indices(6)] > 0).all()


def test_the_flow_to_a_pair_is_the_norm_of_both():
    states, _, _ = lstm()
    losses = [(h * h).sum() for h, _ in states]
    found = tg.bptt.flow(losses, states)
    for t, loss in enumerate(losses):
        to_h, to_c = (tg.bptt.state_gradients(loss, part) for part in zip(*states))
        assert np.allclose(found[t], [norm(h, c) for h, c in zip(to_h, to_c)], rtol=1e-12)


def test_one_loss_gives_one_row():
    losses, states, _ = elman()
    assert np.array_equal(tg.bptt.flow(losses[-1:], states), tg.bptt.flow(losses, states)[-1:])


def test_losses_of_several_elements_take_a_cotangent():
    _, states, _ = elman()
    summed = tg.bptt.flow([h.sum() for h in states], states)
    assert np.allclose(tg.bptt.flow(states, states, gradient=np.ones((3, 4))), summed, rtol=1e-12)


def test_a_state_without_a_batch_axis_is_one_row():
    h, W = tg.tensor(np.ones(2)), leaf(2, 2)
    states = [h := h @ W for _ in range(3)]
    g = W.data @ W.data @ np.ones(2)
    assert np.isclose(tg.bptt.flow([states[2].sum()], states)[0, 0], np.linalg.norm(g))


@pytest.mark.parametrize(("size", "dtype"), [(1e-30, "f4"), (1e-200, "f8"), (1e30, "f4"), (1e200, "f8")])
def test_norms_neither_underflow_nor_overflow(size, dtype):
    x = tg.tensor(np.ones((2, 2), dtype), requires_grad=True)
    h = x * 1.0
    assert np.isclose(tg.bptt.flow([(h * size).sum()], [h])[0, 0], np.sqrt(2) * size, rtol=1e-6)


def test_what_is_not_finite_stays_so():
    h = tg.tensor(np.zeros((1, 2)), requires_grad=True) * 1.0
    assert np.isinf(tg.bptt.flow([np.sqrt(h).sum()], [h])[0, 0])


def test_the_flow_costs_one_sweep_per_loss():
    """Counted: the sweep from loss t passes each of the t steps behind it once."""
    calls = []
    step = tg.primitive(lambda x: x * 1, vjp=dict(x=lambda g: calls.append(1) or g * 1), name="step")
    h = tg.tensor(np.ones((2, 3)), requires_grad=True)
    states = [h := step(h) for _ in range(20)]
    tg.bptt.flow([h.sum() for h in states], states)
    assert len(calls) == 20 * 19 // 2


# ---- nothing is changed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", [
    lambda losses, states: tg.bptt.flow(losses, states), lambda losses, states: tg.bptt.jacobians(states).matrices,
], ids=["flow", "jacobians"])  # fmt: skip
def test_hooks_retained_gradients_and_recordings_hear_nothing(measure):
    losses, states, W_h = elman()
    expected = measure(losses, states)
    heard = []
    states[2].register_hook(lambda g: heard.append(1) or g * 0)
    states[3].retain_grad()
    assert np.array_equal(measure(losses, states), expected)
    assert heard == [] and states[3].grad is None and W_h.grad is None
    sum(losses).backward()
    assert heard == [1] and states[3].grad is not None

    with tg.record() as tape:
        losses, states, W_h = elman()
        measure(losses, states)
        entries = len(tape)
        measure(losses, states)
    assert len(tape) == entries
    assert all(entry.grad is None for entry in tape)


@pytest.mark.parametrize("measure", [tg.bptt.flow, lambda losses, states: tg.bptt.jacobians(states)])
def test_a_graph_that_was_freed_is_refused(measure):
    losses, states, _ = elman()
    losses[-1].backward()
    with pytest.raises(tg.FreedGraphError):
        measure(losses, states)


# ---- which node is a state --------------------------------------------------------------------------------------------------

STACKED = {  # what stands for the states where a network gives them as one array: that array, and its slices
    "the array": lambda states: np.stack(states),
    "its rows": lambda states: list(np.stack(states)),
    "slices": lambda states: [np.stack(states)[t - len(states)] for t in range(len(states))],
    "batch first": lambda states: np.swapaxes(np.stack(states), 0, 1),
    "slices, batch first": lambda states: [np.swapaxes(np.stack(states), 0, 1)[:, t] for t in range(len(states))],
    "rows, stacked so": lambda states: tg.unstack(np.stack(states, axis=1), axis=-2),
}


@pytest.mark.parametrize("kind", STACKED)
def test_slices_of_states_that_were_stacked_are_taken_for_these(kind):
    """No step was computed from a slice, so that nothing but its own loss would seem to flow back to it."""
    losses, states, _ = elman()
    given = STACKED[kind](states)
    assert np.array_equal(tg.bptt.flow(losses, given), tg.bptt.flow(losses, states))
    assert np.array_equal(tg.bptt.jacobians(given).matrices, tg.bptt.jacobians(states).matrices)
    for found, wanted in zip(tg.bptt.state_gradients(sum(losses), given), tg.bptt.state_gradients(sum(losses), states)):
        np.testing.assert_array_equal(found, wanted)


def test_losses_of_the_slices_reach_the_states():
    _, states, _ = elman()
    outputs = np.stack(states)
    losses, slices = [(outputs[t] ** 2).sum() for t in range(6)], [outputs[t] for t in range(6)]
    found = tg.bptt.flow(losses, slices)
    assert np.array_equal(found, tg.bptt.flow(losses, states))
    assert (found[np.tril_indices(6)] > 0).all()


def test_a_slice_of_anything_else_is_what_it_is():
    x, W = leaf(4, 3, 2), leaf(2, 2)
    inputs, halves = [x[t] for t in range(4)], np.concatenate([x, x], axis=2)
    states = [inputs[0] @ W, *(halves[t][:, :2] @ W for t in range(1, 4))]
    constant = [np.stack([np.ones((3, 2)), states[0]])[0]]
    for each in (inputs, [h[:, :1] for h in states], list(np.stack(states, axis=1)), [np.stack(states)[1:3]], constant):
        nodes = nodes_of_states(each)
        assert nodes == [(tensor.node,) for tensor in each]


@pytest.mark.parametrize("measure", [lambda states: tg.bptt.flow([states[-1].sum()], states), tg.bptt.jacobians])
def test_an_array_in_which_no_states_were_stacked_is_refused(measure):
    _, states, _ = elman()
    for array in (np.stack(states) * 2, np.ones((4, 3, 2)), np.concatenate([state[None] for state in states])):
        with pytest.raises(tg.AutodiffError, match=r"one array of shape .* pass the list of the states that the steps handed on"):
            measure(array)
    with pytest.raises(tg.AutodiffError, match="requires none"):
        measure(np.stack([tg.tensor(np.zeros((3, 4))), *states]))


def test_states_that_no_loss_was_computed_from_are_refused():
    """All would be zero, which is not what was measured."""
    losses, states, _ = elman()
    others = [state * 1 for state in states]
    with pytest.raises(tg.AutodiffError, match=r"no loss was computed from .*multiply.* or any other of these states"):
        tg.bptt.flow(losses, others)
    assert tg.bptt.flow(losses, [*others, states[2]])[:, :-1].any() == 0  # one of them suffices


def test_constants_are_refused():
    losses, states, _ = elman()
    with pytest.raises(tg.AutodiffError, match="detached"):
        tg.bptt.flow([losses[0].detach()], states)
    with pytest.raises(tg.AutodiffError, match="detached"):
        tg.bptt.flow(losses, [states[0].detach(), *states[1:]])


# ---- Jacobians ------------------------------------------------------------------------------------------------------------


def test_the_jacobians_of_a_tanh_network():
    _, states, W_h = elman()
    found = tg.bptt.jacobians(states)
    assert len(found) == 5 and found.matrices.shape == (5, 3, 4, 4) and found.cut == ()
    for t, matrix in enumerate(found):
        expected = (1 - states[t + 1].data ** 2)[:, :, None] * W_h.data.T
        assert np.allclose(matrix, expected, rtol=1e-12)
        assert np.array_equal(found[t], matrix)


def test_the_jacobians_of_a_pair_are_those_of_one_step_with_both_held_apart():
    states, x, W = lstm()
    whole = tg.bptt.jacobians(states)
    assert whole.matrices.shape == (3, 3, 6, 6)

    def one_step(both, x_t):
        h, c = lstm_step(both[None, :3], both[None, 3:], x_t[None], W.data)
        return np.concatenate([h, c], axis=1)[0]

    for t, matrices in enumerate(whole):
        for b, matrix in enumerate(matrices):
            before = np.concatenate([part.data[b] for part in states[t]])
            expected = tg.jacobian(one_step)(before, x[t + 1][b]).data
            assert np.allclose(matrix, expected, rtol=1e-10, atol=1e-14)
    assert np.array_equal(tg.bptt.jacobians(states, which="h").matrices, whole.matrices[:, :, :3, :3])
    assert np.array_equal(tg.bptt.jacobians(states, which="c").matrices, whole.matrices[:, :, 3:, 3:])


def test_the_product_of_the_jacobians_is_the_derivative_over_all_steps():
    states, _, _ = lstm()
    J = tg.bptt.jacobians(states)
    product = J[2] @ J[1] @ J[0]
    h, c = states[-1]
    to_h, to_c = (tg.bptt.state_gradients(h + 2 * c, [part], np.ones(h.shape))[0] for part in states[0])
    # the sweep goes from h<0> on into c<0>, which it was computed from; the Jacobian has them apart
    through_h = to_h[:, None] @ tg.bptt.jacobians([(states[0][1],), (states[0][0],)]).matrices[0]
    u = np.array([1.0] * 3 + [2.0] * 3)
    assert np.allclose(u @ product, np.concatenate([to_h, to_c - through_h[:, 0]], axis=1), rtol=1e-10)


def test_a_step_costs_a_sweep_per_feature_and_goes_no_further():
    """Counted: H sweeps and one for the check, each over one step."""
    calls = []
    step = tg.primitive(lambda x: x * 1, vjp=dict(x=lambda g: calls.append(1) or g * 1), name="step")
    h = tg.tensor(np.ones((2, 3)), requires_grad=True)
    tg.bptt.jacobians([h := step(h) for _ in range(10)])
    assert len(calls) == 9 * (3 + 1)


def test_spectra():
    c, s = 0.9 * np.cos(0.3), 0.9 * np.sin(0.3)
    W = tg.tensor(np.array([[0.1, 0, 0], [0, c, s], [0, -s, c]]), requires_grad=True)
    J = tg.bptt.jacobians(linear(W, T=3, B=2))
    assert J.singular_values.shape == J.eigenvalues.shape == (2, 2, 3)
    assert np.allclose(J.singular_values, [0.9, 0.9, 0.1])
    assert np.allclose(np.abs(J.eigenvalues), [0.9, 0.9, 0.1])
    assert np.allclose(np.sort(J.eigenvalues.imag), [-s, 0, s])
    assert np.allclose(J.spectral_radius, 0.9) and J.spectral_radius.shape == (2, 2)
    assert "2 steps, 2 rows, 3×3" in repr(J)


def test_the_curve_of_the_product():
    _, states, _ = elman()
    J = tg.bptt.jacobians(states)
    product = np.eye(4)
    for t in reversed(range(5)):
        product = product @ J[t]
        assert np.allclose(J.log_norms[t], np.log(np.linalg.norm(product, 2, axis=(1, 2))), rtol=1e-10)


def test_the_curve_goes_on_beyond_the_range_of_floats():
    J = tg.bptt.Jacobians(np.broadcast_to(1e-3 * np.eye(2), (500, 1, 2, 2)))
    assert np.isclose(J.log_norms[0, 0], 500 * np.log(1e-3))
    assert "×0.001 per step" in tg.bptt.verdict(J) and "1.00e-1500 at s=0" in tg.bptt.verdict(J)


def test_float32_states_keep_their_dtype_and_the_spectra_are_float64():
    W = tg.tensor(np.eye(2, dtype="f4") * 0.5, requires_grad=True)
    h = tg.tensor(np.ones((2, 2), "f4"))
    J = tg.bptt.jacobians([h := h @ W for _ in range(3)])
    assert J.matrices.dtype == np.float32
    assert J.singular_values.dtype == np.float64 and J.eigenvalues.dtype == np.complex128


def test_a_cut_is_told_from_a_zero():
    W = leaf(2, 2)
    h = tg.tensor(np.ones((1, 2)))
    states = [h := (h.detach() + W.sum() * 0 if t == 2 else h @ W) for t in range(4)]
    J = tg.bptt.jacobians(states)
    assert J.cut == (1,) and (J[1] == 0).all() and (J[2] != 0).any()
    assert tg.bptt.jacobians(linear(tg.tensor(np.zeros((2, 2)), requires_grad=True), T=3)).cut == ()
    assert "after t = 1: the graph is cut" in tg.bptt.verdict(J)


def test_jacobians_that_are_not_finite_have_no_spectrum():
    h = tg.tensor(np.array([[0.0, 1.0], [1.0, 1.0]]), requires_grad=True) * 1.0
    J = tg.bptt.jacobians([h, np.sqrt(h)])
    assert np.isinf(J[0][0, 0, 0])
    assert np.isnan(J.singular_values[0, 0]).all() and np.isfinite(J.singular_values[0, 1]).all()
    assert np.isnan(J.spectral_radius[0, 0]) and np.isfinite(J.spectral_radius[0, 1])
    with pytest.raises(tg.AutodiffError, match="detect_anomaly"):
        tg.bptt.verdict(J)


def test_rows_that_depend_on_each_other_are_refused():
    h = leaf(3, 2) * 1.0
    normalised = (h - h.mean(axis=0)) @ leaf(2, 2)
    with pytest.raises(tg.AutodiffError, match="mixes the rows"):
        tg.bptt.jacobians([h, normalised])


@pytest.mark.parametrize(("states", "error", "match"), [
    (lambda: linear(leaf(2, 2), T=1), tg.AutodiffError, "at least two"),
    (lambda: [leaf(2) * 1, leaf(2) * 1], tg.ShapeError, r"\(B, H\)"),
    (lambda: [leaf(2, 3) * 1, leaf(2, 4) * 1], tg.ShapeError, "same shape"),
    (lambda: [leaf(0, 3) * 1, leaf(0, 3) * 1], tg.ShapeError, "not empty"),
])  # fmt: skip
def test_what_has_no_jacobians_is_refused(states, error, match):
    with pytest.raises(error, match=match):
        tg.bptt.jacobians(states())


@pytest.mark.parametrize("which", ["c", "x"])
def test_a_part_that_is_not_there_is_refused(which):
    with pytest.raises(ValueError, match="which="):
        tg.bptt.jacobians(linear(leaf(2, 2)), which=which)


# ---- the verdict ----------------------------------------------------------------------------------------------------------


def rotated(size, H=4):
    return tg.tensor(np.linalg.qr(RNG.normal(size=(H, H)))[0] * size, requires_grad=True)


@pytest.mark.parametrize(("size", "word", "bound"), [
    (0.9, "vanishes", "below 1/γ = 1, which suffices to vanish"),
    (1.0, "carries", "equal to 1/γ = 1"),
    (1.1, "explodes", "above 1/γ = 1, needed to explode but not sufficient"),
])  # fmt: skip
def test_the_verdict_goes_by_the_rate(size, word, bound):
    W = rotated(size)
    states = linear(W, T=12)
    by_jacobians = tg.bptt.verdict(tg.bptt.jacobians(states), W)
    by_flow = tg.bptt.verdict(tg.bptt.flow([h[:, 0].sum() for h in states], states))
    for told in (by_jacobians, by_flow):
        first = told.splitlines()[0]
        assert first.startswith(f"The gradient {word}: ×{size:.3g} per step")
    assert f"the largest singular value of the weight is {size:.3g}, {bound}" in by_jacobians
    assert f"the largest singular value of a step is {size:.3g}" in by_jacobians


def test_gamma_moves_the_bound():
    W = rotated(3.0)
    J = tg.bptt.jacobians(linear(W, T=3))
    assert "is 3, below 1/γ = 4, which suffices to vanish" in tg.bptt.verdict(J, W, gamma=0.25)


def test_a_weight_of_several_gates_has_no_bound_by_itself():
    J = tg.bptt.jacobians(linear(leaf(3, 3), T=4))
    for weight in (np.ones((3, 12)), np.ones(3)):
        with pytest.raises(tg.ShapeError, match=r"a plain RNN, \(H, H\), and not for shape \(3,"):
            tg.bptt.verdict(J, weight)


def test_a_large_singular_value_does_not_make_a_gradient_explode():
    """Erratum E6: the spectral radius is 0.5, a single step stretches by far more than 1, and yet it vanishes."""
    W = tg.tensor(np.array([[0.5, 10.0], [0.0, 0.5]]), requires_grad=True)
    told = tg.bptt.verdict(tg.bptt.jacobians(linear(W, T=60, B=1)), W)
    assert told.startswith("The gradient vanishes")
    assert "above 1/γ = 1, needed to explode but not sufficient" in told and "spectral radius is 0.5" in told
    short = tg.bptt.verdict(tg.bptt.jacobians(linear(W, T=4, B=1)))
    assert short.startswith("The gradient explodes")  # over three steps it does: ‖W³‖ = 7.5


def test_the_measured_rate_stands_in_the_text():
    losses, states, _ = elman(T=9)
    found = tg.bptt.flow(losses, states)
    rate = (found[-1, 0] / found[-1, -1]) ** (1 / 8)
    assert float(re.search(r"×([\d.e+-]+) per step", tg.bptt.verdict(found))[1]) == pytest.approx(rate, rel=1e-2)


def test_a_row_in_which_all_units_are_off_does_not_speak_for_the_others():
    """A relu's Jacobian is zero there, and a mean of logarithms would be -inf for the whole batch."""
    W, h = tg.tensor(0.9 * np.eye(2), requires_grad=True), tg.tensor(np.array([[1.0, 1], [-1, -1], [2, 1]]), requires_grad=True)
    states = [h, *(h := tg.relu(h @ W) for _ in range(6))]
    told = tg.bptt.verdict(tg.bptt.jacobians(states)).splitlines()
    assert told[0].startswith("The gradient vanishes: ×0.9 per step")
    assert told[2] == "Not counted: 1 of 3 rows, in which it becomes exactly zero on the way."
    assert "largest singular value of a step is 0.9 (geometric mean, at most 0.9)" in told[3]
    off = [h := tg.tensor([[-1.0, -1.0]]), *(h := tg.relu(h @ W) for _ in range(6))][1:]
    assert tg.bptt.verdict(tg.bptt.jacobians(off)).startswith("The gradient vanishes at once")


def test_states_from_the_last_to_the_first():
    """Those of a backward direction, sorted by time: each was computed from the next."""
    W = tg.tensor(0.5 * np.eye(2), requires_grad=True)
    states = linear(W, T=5, B=1)[::-1]
    found = tg.bptt.flow([h.sum() for h in states], states)
    assert not np.tril(found, -1).any() and (found[np.triu_indices(5)] > 0).all()
    told = tg.bptt.verdict(found).splitlines()
    assert told[0] == "The gradient vanishes: ×0.5 per step, a factor of 2 every 1 steps."
    assert told[1] == "‖dL<0>/dh<s>‖ is 1.41 at s=0 and 0.0884 at s=4."
    found[0, 3:] = 0
    assert "at s=2. Behind s=2 it is exactly zero" in tg.bptt.verdict(found)
    with pytest.raises(tg.AutodiffError, match=r"opposite to that in which they were computed.*: pass states\[::-1\]"):
        tg.bptt.jacobians(states)
    assert tg.bptt.verdict(tg.bptt.jacobians(states[::-1])).splitlines()[0] == told[0]


def test_the_verdict_on_exact_zeros_and_infinities():
    assert "Before s=2 it is exactly zero" in tg.bptt.verdict(np.array([[0, 0, 0.25, 0.5, 1]]))
    assert tg.bptt.verdict(np.array([[0, 0, 1.0]])) == (
        "The gradient vanishes at once: ‖dL/dh<s>‖ is exactly zero at 2 of 3 states."
    )
    assert "‖dL<1>/dh<s>‖ is 1 at s=1 and 0.5 at s=0" in tg.bptt.verdict(np.array([[1.0, 0.0], [0.5, 1.0]]))
    told = tg.bptt.verdict(np.array([[np.inf, 1.0, 1.0]]))
    assert told.startswith("The gradient explodes") and "Before s=1 it is infinite" in told
    with pytest.raises(tg.AutodiffError, match="one state only"):
        tg.bptt.verdict(np.array([[1.0]]))
