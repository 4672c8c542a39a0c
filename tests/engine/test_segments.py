"""Checkpointed segments: the gradients; and the memory over T, beside that of full and of truncated back-propagation."""

import gc
import tracemalloc

import numpy as np
import pytest

import tinygrad_seq as tg

from .test_truncated import Elman, close

# ---- segments -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [None, 1, 5, 12, 30])
def test_segments_give_the_same_outputs_and_gradients(length):
    net = Elman()
    expected, last = net(net.x, net.start)
    found, state = tg.bptt.segments(net, length)(net.x, state=net.start)
    assert np.array_equal(found.data, expected.data) and np.array_equal(state.data, last.data)
    assert close(net.gradients(net.loss(found, net.y)), net.full())


def test_segments_may_add_up_losses():
    net = Elman()

    def some_steps(x, y, h):
        outputs, h = net(x, h)
        return net.loss(outputs, y), h

    loss, _ = tg.bptt.segments(some_steps, join=sum)(net.x, net.y, state=net.start)
    assert close(net.gradients(loss), net.full())


def test_segments_along_another_axis():
    def some_steps(x, h):
        return (x * 2, h)

    x = np.arange(10.0).reshape(2, 5)
    for axis in (1, -1):
        found, _ = tg.bptt.segments(some_steps, axis=axis)(x)
        assert np.array_equal(found, 2 * x)


def test_segments_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="at least 1"):
        tg.bptt.segments(Elman(), 0)
    with pytest.raises(tg.ShapeError, match="differ"):
        tg.bptt.segments(Elman())(np.zeros(3), np.zeros(4))


def test_segments_know_how_many_of_their_steps_are_real():
    def some_steps(x, state, lengths):
        return [(len(x), *lengths)], state

    assert tg.bptt.segments(some_steps, 4, chained)(np.zeros((10, 3)), lengths=[0, 5, 10])[0] == [
        (4, 0, 4, 4), (4, 0, 1, 4), (2, 0, 0, 2),
    ]  # fmt: skip
    assert tg.bptt.segments(some_steps, 200, chained)(np.zeros((600, 1)), lengths=np.array([250], np.uint8))[0] == [
        (200, 200), (200, 50), (200, 0),
    ]  # fmt: skip
    with pytest.raises(tg.ShapeError, match=r"lengths are from 0 to 10, the number of steps, got \[11\]"):
        tg.bptt.segments(some_steps, 4)(np.zeros((10, 3)), lengths=[11])


def chained(parts):
    return [each for part in parts for each in part]


def test_what_reads_from_the_end_has_no_segments():
    class Backward(Elman):
        causal = False

    with pytest.raises(ValueError, match="Backward reads from the end of a sequence, too"):
        tg.bptt.segments(Backward())


# ---- memory ---------------------------------------------------------------------------------------------------------------

B, H = 64, 128
STATE = B * H * 4  # bytes


def some_steps(xs, h, W):
    for x in xs:
        h = np.tanh(x + h @ W)
    return (h * h).sum(), h


def full(W, xs, h):
    some_steps(xs, h, W)[0].backward()


def segmented(W, xs, h):
    tg.bptt.segments(lambda xs, h: some_steps(xs, h, W), join=sum)(xs, state=h)[0].backward()


def truncated(k1, k2):
    def run(W, xs, h):
        for window in tg.bptt.Truncated(k1, k2)(xs, state=h):
            loss, h = some_steps(*window, window.state, W)
            loss.backward()
            window.carry(h)

    return run


def in_states(run, T):
    """The most memory that a run over T steps takes, in multiples of one state: counted by the allocator, not timed."""
    W, xs, h = tg.Parameter(np.eye(H, dtype="f4")), np.ones((T, 1), "f4"), np.zeros((B, H), "f4")
    gc.collect()
    tracemalloc.start()
    try:
        run(W, xs, h)
        return tracemalloc.get_traced_memory()[1] / STATE
    finally:
        tracemalloc.stop()


def test_full_back_propagation_keeps_a_state_for_each_step():
    assert 1 <= (in_states(full, 1024) - in_states(full, 256)) / 768 < 1.2


def test_segments_keep_a_multiple_of_the_root_of_t():
    """The states between the segments, those of the segment that is run again, and their terms of the weight's gradient."""
    short, long = in_states(segmented, 256), in_states(segmented, 1024)
    assert 1.5 < long / short < 2.2  # four times as long
    assert long < 6 * 32 < 0.2 * 1024


@pytest.mark.parametrize(("k1", "k2"), [(16, 16), (8, 32)])
def test_truncated_keeps_the_same_however_long_the_sequence(k1, k2):
    short, long = (in_states(truncated(k1, k2), T) for T in (64, 512))
    assert long < short + 2


def test_truncated_keeps_a_state_for_each_of_k2_steps():
    small, large = (in_states(truncated(k, k), 256) for k in (64, 256))
    assert 1 <= (large - small) / 192 < 1.2


@pytest.mark.parametrize("run", [segmented, truncated(4, 8)])
def test_nothing_is_left_for_the_garbage_collector(run):
    W, xs, h = tg.Parameter(np.eye(3)), np.ones((12, 1)), np.zeros((2, 3))
    run(W, xs, h)
    gc.collect()
    gc.disable()
    try:
        run(W, xs, h)
        assert gc.collect() == 0
    finally:
        gc.enable()
