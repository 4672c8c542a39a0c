"""A piece of a long sequence counts its steps from the start of the whole: scopes, windows, segments."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.scopes import current
from tinygrad_seq.truncated import counted_from

T, B, H = 12, 2, 3
X = np.random.default_rng(0).normal(size=(T, B, H))
START = np.zeros((B, H))


def network(W):
    """A loop of a user's own, which counts from 0 in every piece; its projection and its readout are over all of time."""

    def run(x, h):
        with tg.scope("projection", time_axis=0):
            projected = x @ W
        states = []
        for t in range(len(x)):
            with tg.scope("rnn", t=t):
                h = np.tanh(projected[t] + h @ W)
            states.append(h)
        with tg.scope("readout", time_axis=0):
            return np.stack(states) @ W, h

    return run


def weight():
    return tg.Parameter(np.random.default_rng(1).normal(size=(H, H)) * 0.5, name="W")


def steps_on(tape):
    return sorted({entry.t for entry in tape if entry.t is not None})


# ---- scopes ---------------------------------------------------------------------------------------------------------------


def test_steps_count_from_where_the_scope_around_says():
    def place(**said):
        with tg.scope("inner", **said) as inside:
            return inside.t, inside.steps_from

    assert place(t=2) == (2, 0)
    with tg.scope("piece", steps_from=8):
        assert place(t=2) == (10, 8)
        assert place() == (None, 8)
        assert place(t=2, steps_from=20) == (22, 20)  # counted from the start of the whole, not added up
        with tg.scope("cell", t=3):
            assert place() == (11, 8)
            assert place(t=0) == (8, 8)
    assert place(t=2) == (2, 0)
    assert current().scope.steps_from == 0


def test_the_tape_and_errors_tell_real_steps():
    W = weight()
    with tg.scope("piece", steps_from=8), tg.record() as tape:
        network(W)(X[8:], START)
    assert steps_on(tape) == [8, 9, 10, 11]
    assert [entry.t for entry in tape.find("tanh")] == [8, 9, 10, 11]
    with tg.scope("piece", steps_from=8), tg.scope("rnn", t=1), pytest.raises(tg.ShapeError, match=r"in piece/rnn, t=9"):
        W @ np.zeros(5)


def test_a_weights_gradient_is_taken_apart_by_real_steps():
    """What every step computes, and what was hoisted out of all of them, under the same numbers."""
    W = weight()
    outputs, _ = network(W)(X, START)
    whole = tg.bptt.weight_gradients(outputs[4:8].sum(), W)
    with tg.scope("piece", steps_from=4):
        state = network(W)(X[:4], START)[1]
        outputs, _ = network(W)(X[4:8], state.detach())
        found = tg.bptt.weight_gradients(outputs.sum(), W)
    assert list(found) == [4, 5, 6, 7]
    np.testing.assert_allclose(found[7], whole[7], rtol=1e-12)  # the last step's is the same, cut or not


# ---- windows --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k1", "k2"), [(4, 4), (2, 6), (5, 5)])
def test_a_carried_state_knows_its_step(k1, k2):
    run = network(weight())
    for window in tg.bptt.Truncated(k1, k2)(X, state=START):
        with tg.record() as tape, counted_from(window.state):
            _, state = run(*window, window.state)
        assert steps_on(tape) == list(range(window.start, window.stop))
        with tg.record() as tape, tg.scope("", steps_from=window.start):
            run(*window, window.state)
        assert steps_on(tape) == list(range(window.start, window.stop))
        window.carry({"h": (state, None)} if window.stop == T else state)


def test_nested_states_say_it_too_and_others_do_not():
    window = next(tg.bptt.Truncated(4)(X, state=START))
    h = tg.tensor(START, requires_grad=True) * 2
    carried = window.carry({"h": [h, (tg.tensor(1.0), "kept")]})
    with counted_from(carried):
        assert current().scope.steps_from == 4
    for state in (h, tg.tensor(START), START, None, {"h": [START]}, carried["h"][0] * 1):
        with counted_from(state):
            assert current().scope.steps_from == 0


def test_sequences_side_by_side_do_not_disturb_each_other():
    """The count goes with the state, not with the loop: whatever else runs in the loop counts as it does elsewhere."""
    run, found = network(weight()), []
    many, few = (tg.bptt.Truncated(k)(X, state=START) for k in (3, 4))
    for a, b in zip(many, few):
        for window in a, b:
            with tg.record() as tape, counted_from(window.state):
                _, state = run(*window, window.state)
            window.carry(state)
            found.append(steps_on(tape)[0])
        with tg.record() as tape:
            run(X, START)
        assert steps_on(tape) == list(range(T))
    assert found == [0, 0, 3, 4, 6, 8]


def test_on_one_tape_windows_stand_behind_each_other():
    run = network(weight())
    with tg.record() as tape:
        for window in tg.bptt.Truncated(4)(X, state=START):
            with counted_from(window.state):
                outputs, state = run(*window, window.state)
            outputs.sum().backward()
            window.carry(state)
    assert steps_on(tape) == list(range(T))
    assert [entry.t for entry in tape.find("tanh")] == list(range(T))
    assert [entry.op for entry in tape.find("carried")] == ["detach"] * 3  # the cuts


# ---- segments -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 5, None])
def test_segments_count_on(length):
    with tg.record() as tape:
        tg.bptt.segments(network(weight()), length)(X, state=START)
    assert steps_on(tape) == list(range(T))


def test_the_second_run_of_a_segment_counts_as_the_first():
    W, seen = weight(), []

    def some_steps(x, h):
        for t in range(len(x)):
            with tg.scope("rnn", t=t) as place:
                seen.append(place.t)
                h = np.tanh(x[t] + h @ W)
        return h.sum(), h

    total, _ = tg.bptt.segments(some_steps, 4, join=sum)(X, state=START)
    assert seen == list(range(T))
    total.backward()
    assert seen[T:] == [8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3]


def test_segments_within_segments_count_on_too():
    inner = tg.bptt.segments(network(weight()), 2)
    with tg.record() as tape:
        tg.bptt.segments(lambda x, h: inner(x, state=h), 6)(X, state=START)
    assert steps_on(tape) == list(range(T))
