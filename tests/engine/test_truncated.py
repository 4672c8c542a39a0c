"""Truncated back-propagation through time: the gradients, and what is refused. Its memory is in `test_segments.py`."""

from contextlib import nullcontext

import numpy as np
import pytest

import tinygrad_seq as tg


class Elman:
    """A tanh network with a loss at every step, on weights that are the same in every test."""

    def __init__(self, T=12, B=2, I=3, H=4, dtype="f8"):
        draw = np.random.default_rng(1)
        self.x, self.y = (draw.normal(size=(T, B, n)).astype(dtype) for n in (I, H))
        self.W_x, self.W_h = (tg.Parameter(draw.normal(size=(n, H)).astype(dtype) * 0.5) for n in (I, H))
        self.weights = [self.W_x, self.W_h]
        self.start = np.zeros((B, H), dtype)

    def __call__(self, x, h):
        outputs = []
        for t, x_t in enumerate(x):
            with tg.scope("rnn", t=t):
                h = np.tanh(x_t @ self.W_x + h @ self.W_h)
            outputs.append(h)
        return np.stack(outputs), h

    def loss(self, outputs, y):
        return ((outputs - y) ** 2).sum()

    def full(self, through=slice(None), h=None):
        """Gradients of the weights by full back-propagation over some steps."""
        outputs, _ = self(self.x[through], self.start if h is None else h)
        return self.gradients(self.loss(outputs, self.y[through]))

    def truncated(self, k1, k2):
        """Gradients of the weights by truncated back-propagation, added up over the windows."""
        total = 0.0
        for window in tg.bptt.Truncated(k1, k2)(self.x, self.y, state=self.start):
            x, y = window
            outputs, state = self(x, window.state)
            loss = self.loss(window.new(outputs), window.new(y))
            window.carry(state)
            total = total + np.array(self.gradients(loss), dtype=object)
        return total

    def gradients(self, loss):
        loss.backward()
        found = [W.grad.data for W in self.weights]
        for W in self.weights:
            W.zero_grad()
        return found


def close(a, b):
    return all(np.allclose(x, y, rtol=1e-10, atol=1e-13) for x, y in zip(a, b))


# ---- the gradient of Truncated --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k1", "k2"), [(12, 12), (20, 20), (4, 12), (3, 12), (5, 15), (1, 12), (1, 40)])
def test_going_back_to_the_start_is_full_back_propagation(k1, k2):
    net = Elman()
    assert close(net.truncated(k1, k2), net.full())


@pytest.mark.parametrize("k", [1, 3, 5])
def test_side_by_side_it_is_the_sum_over_chunks_with_detached_states(k):
    net = Elman()
    h, expected = net.start, 0.0
    for start in range(0, 12, k):
        chunk = slice(start, start + k)
        expected = expected + np.array(net.full(chunk, h), dtype=object)
        h = net(net.x[chunk], h)[1].data
    assert close(net.truncated(k, k), expected)
    assert not close(net.truncated(k, k), net.full())


@pytest.mark.parametrize(("k1", "k2"), [(2, 4), (2, 6), (1, 3), (5, 10)])
def test_overlapping_windows_take_each_loss_back_through_k2_steps(k1, k2):
    """Against one long pass in which the way back is cut by hand, anew for the losses of every k1 steps."""
    net = Elman()
    states = [net.start, *net(net.x, net.start)[0].data]
    expected = 0.0
    for new in range(0, 12, k1):
        start, stop = max(0, new + k1 - k2), min(new + k1, 12)
        outputs, _ = net(net.x[start:stop], states[start])
        loss = net.loss(outputs[new - start :], net.y[new:stop])
        expected = expected + np.array(net.gradients(loss), dtype=object)
    assert close(net.truncated(k1, k2), expected)


def test_every_step_is_new_once():
    for k1, k2, T in ((1, 1, 5), (2, 6, 11), (3, 3, 3), (4, 8, 2)):
        steps = np.arange(T)
        seen = []
        for window in tg.bptt.Truncated(k1, k2)(steps):
            (part,) = window
            assert np.array_equal(part, steps[window.start : window.stop]) and len(part) <= k2
            seen += window.new(part).tolist()
            window.carry(None)
        assert seen == list(range(T))


def test_the_state_is_carried_and_cut():
    net = Elman()
    every = [net.start, *net(net.x, net.start)[0].data]
    for window in tg.bptt.Truncated(3, 6)(net.x, state=net.start):
        (x,) = window
        assert np.allclose(tg.tensor(window.state).data, every[window.start])
        assert not tg.tensor(window.state).requires_grad
        cut = window.carry(net(x, window.state)[1])
        assert not cut.requires_grad and np.allclose(cut.data, every[window.stop])


def test_states_may_be_nested():
    W = tg.Parameter(np.array(2.0))
    start = {"h": (np.array(1.0), [np.array(3.0)])}
    for window in tg.bptt.Truncated(1)(np.zeros(3), state=start):
        a, (b,) = window.state["h"]
        state = window.carry({"h": (a * W, [b + W])})
    assert state["h"][0].item() == 8 and state["h"][1][0].item() == 9


def test_an_initial_state_may_learn():
    net = Elman()
    h = tg.Parameter(net.start)
    for window in tg.bptt.Truncated(4)(net.x, state=h):
        (x,) = window
        outputs, state = net(x, window.state)
        outputs.sum().backward()
        window.carry(state)
        assert (window.start == 0) == (window.state is h)
    learned = h.grad.data
    h.zero_grad()
    net(net.x[:4], h)[0].sum().backward()
    assert np.allclose(learned, h.grad.data)


def test_time_may_be_another_axis():
    steps = np.arange(10).reshape(2, 5)
    parts = []
    for window in tg.bptt.Truncated(2, 4, axis=1)(steps):
        (part,) = window
        parts.append(window.new(part))
        window.carry(None)
    assert np.array_equal(np.concatenate(parts, axis=1), steps)


def test_training_with_updates_between_the_windows():
    """An overlapping window runs its steps anew, so an update in between is no overwritten parameter."""
    net = Elman(T=40)
    net.y = net.y * 0.1
    optimizer = tg.optim.SGD(net.weights, lr=0.01)
    losses = []
    for _ in range(8):
        for window in tg.bptt.Truncated(2, 6)(net.x, net.y, state=net.start):
            x, y = window
            outputs, state = net(x, window.state)
            loss = net.loss(window.new(outputs), window.new(y))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            window.carry(state)
            losses.append(loss.item())
    assert sum(losses[-20:]) < 0.5 * sum(losses[:20])


# ---- what Truncated refuses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k1", "k2", "match"), [(0, 1, "at least 1"), (3, 2, "would reach no weight"), (2, 5, "take 4 or 6")])
def test_numbers_of_steps_that_make_no_windows_are_refused(k1, k2, match):
    with pytest.raises(ValueError, match=match):
        tg.bptt.Truncated(k1, k2)


def test_numbers_of_steps_are_whole():
    assert repr(tg.bptt.Truncated(np.int64(2), np.uint8(4))) == "Truncated(k1=2, k2=4)"
    for wrong in ((2.5,), (2, 4.0), ("2",)):
        with pytest.raises(TypeError):
            tg.bptt.Truncated(*wrong)


def test_sequences_that_do_not_fit_are_refused_at_once():
    truncated = tg.bptt.Truncated(2)
    for sequences in ((), (np.zeros(3), np.zeros(4)), (np.zeros(3), np.array(1.0))):
        with pytest.raises(tg.ShapeError, match="shapes"):
            truncated(*sequences)


def test_an_initial_state_with_a_graph_is_refused_by_name_and_step():
    net = Elman()
    state = net(net.x, net.start)[1]
    state.name = "h<11>"
    with pytest.raises(tg.AutodiffError, match=r"'h<11>'.*t=11.*detach"):
        tg.bptt.Truncated(4)(net.x, state=state)
    tg.bptt.Truncated(4)(net.x, state=state.detach())


@pytest.mark.parametrize("scoped", [True, False])
@pytest.mark.parametrize("retained", [True, False])
def test_a_state_that_was_not_cut_is_refused_by_name_and_step(scoped, retained):
    net = Elman()

    def run(state):
        for window in tg.bptt.Truncated(4)(net.x, state=state):
            for x_t in window.new(*window):
                with tg.scope("rnn", t=window.stop - 1) if scoped else nullcontext():
                    state = np.tanh(x_t @ net.W_x + state @ net.W_h)  # not from window.state
            state.name = f"h<{window.stop - 1}>"
            if retained:
                state.sum().backward(retain_graph=True)
            window.carry(state)

    with pytest.raises(tg.AutodiffError, match=r"'h<7>'.*after step 7 still points.*'h<3>'.*before step 4.*window\.state"):
        run(net.start)


def test_a_state_from_the_midst_of_an_earlier_window_is_refused_too():
    """It was never handed on; its scope tells that it is of a step."""
    net = Elman()
    windows = tg.bptt.Truncated(4)(net.x, state=net.start)
    window = next(windows)
    outputs, state = net(*window, window.state)
    with tg.scope("rnn", t=1):
        middle = outputs[1] * 1.0
    window.carry(state)
    second = next(windows)
    with pytest.raises(tg.AutodiffError, match=r"\(multiply, .*t=1\), from before step 4"):
        second.carry(net(*second, middle)[1])


def test_where_the_backward_pass_comes_first_it_is_the_one_to_raise():
    net, seen = Elman(), []

    def run(state):
        for window in tg.bptt.Truncated(4)(net.x, state=state):
            seen.append(window.start)
            outputs, state = net(*window, state)
            outputs.sum().backward()
            window.carry(state)

    with pytest.raises(tg.FreedGraphError, match="detach"):
        run(net.start)
    assert seen == [0, 4]


def test_what_is_computed_once_for_all_windows_is_no_state():
    net = Elman()
    transposed = net.W_h.T
    for window in tg.bptt.Truncated(4)(net.x, state=net.start):
        state = tg.tensor(window.state)
        for x_t in window.new(*window):
            with tg.scope("rnn", t=0):
                state = np.tanh(x_t @ net.W_x + state @ transposed)
        window.carry(state)


def test_a_state_that_was_not_handed_on_is_missed():
    windows = tg.bptt.Truncated(2)(np.zeros(5))
    next(windows)
    with pytest.raises(tg.AutodiffError, match=r"after step 1 was not handed on.*carry"):
        next(windows)


def test_the_last_window_needs_no_carry_and_an_empty_sequence_has_no_window():
    assert len(list(tg.bptt.Truncated(4)(np.zeros(3)))) == 1
    assert list(tg.bptt.Truncated(4)(np.zeros(0))) == []
