"""The reverse sweep: order, sums, sharing, hooks, freeing, and what it does when something goes wrong."""

import gc
import threading
import weakref

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import overwritten, sweep
from tinygrad_seq.numpy_like import implements


def leaf(*shape, seed=0):
    return tg.tensor(np.random.default_rng(seed).normal(size=shape), requires_grad=True)


# ---- values ---------------------------------------------------------------------------------------------------------


def test_a_value_used_before_and_after_a_branch_is_passed_once_all_uses_are_heard():
    x = leaf(3)
    h = np.tanh(x)
    y = (h * h + np.exp(h) * h).sum()  # h is used four times, at different depths
    y.backward()
    t = np.tanh(x.data)
    assert np.allclose(x.grad.data, (2 * t + np.exp(t) * (t + 1)) * (1 - t * t), rtol=1e-12)


def test_leaf_gradients_accumulate():
    x = leaf(2)
    (x * 3).sum().backward()
    (x * 4).sum().backward()
    assert (x.grad.data == 7).all()
    x.zero_grad()
    assert x.grad is None


def test_gradients_have_the_shape_and_dtype_of_their_leaves():
    a = tg.tensor(np.ones((3, 1), np.float32), requires_grad=True)
    b = tg.tensor(np.ones((2, 1, 4), np.float64), requires_grad=True)
    (a * b).sum().backward()
    assert a.grad.shape == (3, 1) and a.grad.dtype == np.float32 and (a.grad.data == 8).all()
    assert b.grad.shape == (2, 1, 4) and b.grad.dtype == np.float64 and (b.grad.data == 3).all()


def test_a_gradient_is_nobody_elses_array():
    a, b = leaf(3, seed=1), leaf(3, seed=2)
    seed = np.ones(3)
    (a + b).backward(seed)
    a.grad.data[0] = 99
    assert b.grad.data[0] == 1 and seed[0] == 1
    c = leaf(2, 3)
    c.reshape(3, 2).backward(np.ones((3, 2)))
    assert c.grad.data.base is None


def test_a_seed_weights_the_outputs():
    x = leaf(2)
    (x * x).backward(np.array([1.0, 10.0]))
    assert np.allclose(x.grad.data, 2 * x.data * [1, 10])


def test_a_parameter_without_influence_keeps_none():
    x, unused = leaf(2), leaf(2)
    (x * 2).sum().backward()
    assert unused.grad is None


def test_several_outputs_meet_in_one_pullback_and_missing_ones_count_as_zero():
    x = leaf(2, 6)
    a, _, c = tg.split(x, 3, axis=1)
    (a * 2 + c * 3).sum().backward()
    assert (x.grad.data == np.repeat([2.0, 0.0, 3.0], 2)).all()


def test_a_view_of_one_of_several_outputs_gets_its_terms():
    """The products with b.T wait at the view, and their sum must reach b's place among the outputs."""
    x = leaf(4, 6)
    a, b = tg.split(x, 2, axis=1)
    ((a @ b.T) * (a @ b.T)).sum().backward()
    p, q = x.data[:, :3], x.data[:, 3:]
    g = 2 * (p @ q.T)
    assert np.allclose(x.grad.data, np.concatenate([g @ q, g.T @ p], axis=1), rtol=1e-12)


def test_stacked_products_equal_the_sum_of_single_ones():
    rng = np.random.default_rng(0)
    W = leaf(4, 4)
    inputs = [rng.normal(size=(3, 4)) for _ in range(7)]
    sum((tg.tanh(x @ W) for x in inputs), start=tg.tensor(0.0)).sum().backward()
    expected = sum(x.T @ (1 - np.tanh(x @ W.data) ** 2) for x in inputs)
    assert np.allclose(W.grad.data, expected, rtol=1e-12)


def test_a_transposed_weight_written_in_every_step_counts_as_the_weight(monkeypatch):
    """The terms of W.T's steps wait at W: one stacked product, not one for each step."""
    rng = np.random.default_rng(0)
    W = leaf(4, 5)
    inputs = [rng.normal(size=(3, 5)) for _ in range(6)]
    loss = sum(((x @ W.T) for x in inputs), start=tg.tensor(0.0)).sum()
    sweeping = sweep.Sweep({loss.node: np.ones(())})
    waiting = []
    original = sweep.Sweep._sum

    def gathered(self, node, g, uses):
        waiting.append((node, uses))
        return original(self, node, g, uses)

    monkeypatch.setattr(sweep.Sweep, "_sum", gathered)
    for _ in sweeping:
        pass
    assert [(node is W.node, [len(use.calls) for use in uses.values()]) for node, uses in waiting] == [(True, [6])]
    assert np.allclose(sweeping.results[W.node], sum(np.ones((3, 4)).T @ x for x in inputs))


def test_pending_products_are_flushed_before_they_hold_much(monkeypatch):
    monkeypatch.setattr(sweep, "PENDING_BYTES", 100)
    held = []
    original = sweep.Sweep._wait

    def wait(self, node, key, call):
        original(self, node, key, call)
        held.append(sum(use.nbytes for uses in self._waiting.values() for use in uses.values()))

    monkeypatch.setattr(sweep.Sweep, "_wait", wait)
    W = leaf(3, 3)
    h = leaf(2, 3)
    for _ in range(50):
        h = np.tanh(h @ W)
    h.sum().backward()
    assert max(held) <= 2 * W.data.nbytes + 2 * 3 * 8
    gradient = W.grad.data
    monkeypatch.setattr(sweep, "PENDING_BYTES", 1 << 30)
    W.zero_grad()
    h = tg.tensor(leaf(2, 3).data)
    for _ in range(50):
        h = np.tanh(h @ W)
    h.sum().backward()
    assert np.allclose(W.grad.data, gradient, rtol=1e-10)


# ---- numbers that must not lie ----------------------------------------------------------------------------------------


def test_the_branch_not_taken_by_where_gives_no_nan():
    x = tg.tensor([0.0, 4.0, -1.0], requires_grad=True)
    with np.errstate(all="ignore"):
        y = np.where(x > 0, np.sqrt(x), 0.0)
    y.sum().backward()
    assert x.grad.tolist() == [0, 0.25, 0]


def test_the_careful_second_sweep_runs_only_when_it_is_needed(monkeypatch):
    made = []
    original = sweep.Sweep.__init__

    def init(self, *args, **options):
        made.append(options.get("careful", False))
        original(self, *args, **options)

    monkeypatch.setattr(sweep.Sweep, "__init__", init)
    x = tg.tensor([0.5], requires_grad=True)
    np.sqrt(x).sum().backward()
    assert made == [False]
    z = tg.tensor([0.0], requires_grad=True)
    with np.errstate(all="ignore"):
        np.where(z > 0, np.log(z), 0.0).sum().backward()
    assert made == [False, False, True] and z.grad.tolist() == [0]


def test_the_zero_rule_can_be_switched_off():
    x = tg.tensor([0.0], requires_grad=True)
    with np.errstate(all="ignore"), tg.mask_zeros(False):
        np.where(x > 0, np.log(x), 0.0).sum().backward()
    assert np.isnan(x.grad.data).all()


def test_a_true_infinity_stays():
    x = tg.tensor([0.0], requires_grad=True)
    np.sqrt(x).sum().backward()
    assert np.isinf(x.grad.data).all()


@pytest.mark.parametrize("how", ["hook", "record", "create_graph", "observed"])
def test_whoever_observes_gets_the_careful_sweep(how):
    x = tg.tensor([0.0, 1.0], requires_grad=True)
    seen = []
    with np.errstate(all="ignore"), tg.record() if how == "record" else tg.enable_grad():
        root = np.sqrt(x)
        if how == "hook":
            x.register_hook(seen.append)
        if how == "observed":
            root.retain_grad()
        np.where(x > 0, root, 0.0).sum().backward(create_graph=how == "create_graph")
    assert x.grad.tolist() == [0, 0.5]
    assert how != "hook" or [g.tolist() for g in seen] == [[0, 0.5]]


# ---- order two ----------------------------------------------------------------------------------------------------------


def test_a_taped_sweep_can_be_differentiated():
    x = leaf(4)
    (x**3).sum().backward(create_graph=True)
    gradient, x.grad = x.grad, None
    gradient.sum().backward()
    assert np.allclose(x.grad.data, 6 * x.data)


def test_third_order():
    x = tg.tensor(np.array(0.3), requires_grad=True)
    d = tg.grad(tg.grad(tg.grad(lambda v: np.tanh(v))))(x.data)
    t = np.tanh(0.3)
    assert np.isclose(d.item(), (1 - t**2) * (6 * t**2 - 2), rtol=1e-12)


def test_saved_outputs_of_several_lead_back_to_their_call():
    a = leaf(3, 3)
    symmetric = a @ a.T + 3 * np.eye(3)
    tg.check_grads(lambda s: np.linalg.eigh(s + s.T)[0], symmetric.data, order=2)


# ---- freeing --------------------------------------------------------------------------------------------------------------


def test_backward_twice_raises_and_changes_nothing():
    x = leaf(2)
    y = (x * x).sum()
    y.backward()
    before = x.grad
    with pytest.raises(tg.FreedGraphError, match=r"second time.*retain_graph"):
        y.backward()
    assert x.grad is before


def test_a_state_that_crosses_is_named_and_the_cure_is_detach():
    W = leaf(2, 2)
    with tg.scope("rnn", t=4):
        h = np.tanh(leaf(1, 2, seed=3) @ W)
        h.name = "h<4>"
    h.sum().backward()
    before = W.grad
    with tg.scope("rnn", t=5):
        loss = np.tanh(h @ W).sum()
    with pytest.raises(tg.FreedGraphError, match=r"'h<4>'.*tanh.*t=4.*h\.detach\(\)"):
        loss.backward()
    assert W.grad is before
    np.tanh(h.detach() @ W).sum().backward()


def test_retained_graphs_can_be_swept_again():
    x = leaf(2)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert np.allclose(x.grad.data, 4 * x.data)


def test_what_no_pullback_needs_is_freed_at_once():
    x = leaf(1000)
    y = x + 1
    array = weakref.ref(y.data)
    z = y * 2
    del y
    assert array() is None
    z.sum().backward()


def test_saved_arrays_are_freed_by_backward():
    x = leaf(10)
    y = np.tanh(x)
    saved = weakref.ref(y.data)
    loss = y.sum()
    del y
    assert saved() is not None
    loss.backward()
    assert saved() is None


@pytest.mark.parametrize("create_graph", [False, True])
def test_fifty_training_steps_leave_nothing_behind_with_the_collector_off(create_graph):
    W = tg.Parameter(np.random.default_rng(0).normal(size=(8, 8)) * 0.3)

    def step():
        h = tg.tensor(np.ones((2, 8)))
        for t in range(5):
            with tg.scope("rnn", t=t):
                a, b = tg.split(h @ W, 2, axis=1)
                h = np.concatenate([np.tanh(a), tg.sigmoid(b)], axis=1)
        h.sum().backward(create_graph=create_graph)
        if create_graph:
            penalty = (W.grad * W.grad).sum()
            W.zero_grad()
            penalty.backward()
        W.overwrite(W.data - 0.01 * W.grad.data)
        W.zero_grad()

    step()
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(50):
            step()
        after = len(gc.get_objects())
    finally:
        gc.enable()
    assert after - before < 20


READINGS = {
    "a recording":  lambda W: [str(tape) + str([*tape.sweep(loss)]) for tape, loss in [recorded_and_swept(W)]],
    "a listing":    lambda W: str(tg.tape(np.tanh(W).sum())),
    "checkpoints":  lambda W: tg.checkpoint(lambda h: np.tanh(h @ W))(W).sum().backward(create_graph=True),
    "transforms":   lambda W: (tg.hessian(lambda w: (w**3).sum())(np.ones(2)), tg.jvp(np.tanh, (W.data,), (W.data,))),
    "check_grads":  lambda W: tg.check_grads(np.tanh, np.ones(2)),
    "eigenvectors": lambda W: np.linalg.eigh(W)[1].sum().backward(create_graph=True),
}  # fmt: skip


def recorded_and_swept(W):
    with tg.record() as tape:
        loss = np.tanh(W @ W).sum()
        loss.backward(create_graph=True)
    return tape, loss


@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
def test_no_reading_of_a_tape_makes_a_reference_cycle(read):
    W = tg.Parameter(np.diag([1.0, 2.0, 3.0]))

    def step():
        read(W)
        W.zero_grad()

    step()
    gc.collect()
    gc.disable()
    try:
        step()
        assert gc.collect() == 0
    finally:
        gc.enable()


# ---- long chains -------------------------------------------------------------------------------------------------------


def test_a_chain_of_200_000_operations_runs_prints_and_is_freed():
    x = tg.tensor(np.ones(1), requires_grad=True)
    y = x
    for _ in range(100_000):
        y = np.tanh(y + 1e-6)  # one that saves nothing, and one that saves its result
    text = str(tg.tape(y))
    assert text.count("\n") == 300_001  # a line for each operation and for the number it adds, the leaf, the title
    last = weakref.ref(y.node)
    y.backward()
    assert 0 < x.grad.item() < 1
    y = x
    for _ in range(200_000):
        y = y * 1.0
    last = weakref.ref(y.node)
    del y  # frees the whole chain without a backward pass
    assert last() is None


def test_cost_per_step_of_indexing_one_hoisted_array_does_not_grow():
    """Counted, not timed: how many bytes the backward pass allocates for T steps is linear in T."""
    import tracemalloc

    def peak(T):
        x = tg.tensor(np.ones((T, 4)), requires_grad=True)
        h = tg.tensor(np.zeros(4))
        for t in range(T):
            h = np.tanh(h + x[t])
        loss = h.sum()
        tracemalloc.start()
        loss.backward()
        bytes_at_peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return bytes_at_peak / T

    assert peak(800) < 1.3 * peak(200)


# ---- hooks --------------------------------------------------------------------------------------------------------------


def test_hooks_see_replace_and_go_away():
    x = leaf(2)
    y = x * 3
    seen = []
    handle = y.register_hook(lambda g: seen.append(g.tolist()))
    y.register_hook(lambda g: g * 10)
    y.sum().backward(retain_graph=True)
    assert seen == [[1, 1]] and (x.grad.data == 30).all()
    handle.remove()
    y.sum().backward(retain_graph=True)
    y.register_hook(seen.append)()  # calling it removes it, too
    y.sum().backward()
    assert len(seen) == 1


@pytest.mark.parametrize("replaced", [tg.tensor(np.ones(3)), np.ones((2, 1)), 1.0])
def test_a_hook_that_returns_the_wrong_shape_is_refused(replaced):
    x = leaf(2)
    x.register_hook(lambda g: replaced)
    with pytest.raises(tg.PullbackError, match="hook"):
        (x * 2).sum().backward()
    assert x.grad is None


def test_what_a_hook_returns_gets_the_dtype_of_its_tensor():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2
    y.retain_grad()
    for each in (x, y):
        each.register_hook(lambda g: np.ones(2))
    y.sum().backward()
    assert x.grad.dtype == y.grad.dtype == np.float32


def test_retain_grad_keeps_the_gradient_of_an_intermediate_value():
    x = leaf(2)
    y = x * 3
    y.retain_grad()
    (y * y).sum().backward()
    assert np.allclose(y.grad.data, 2 * y.data)
    assert (x * 2).grad is None


def test_hooks_on_values_without_gradient_are_refused():
    with pytest.raises(tg.AutodiffError, match="no gradient"):
        tg.tensor([1.0]).register_hook(print)
    with pytest.raises(tg.AutodiffError, match="no gradient"):
        tg.tensor([1.0]).retain_grad()


# ---- errors, each of which changes nothing ------------------------------------------------------------------------------


def test_backward_needs_a_seed_for_more_than_one_element():
    x = leaf(2)
    with pytest.raises(tg.AutodiffError, match=r"multiply, shape \(2,\)\) needs a seed.*\.sum\(\)"):
        (x * 2).backward()
    with pytest.raises(tg.AutodiffError, match="must be equal"):
        (x * 2).backward(np.ones(3))
    assert x.grad is None


def test_backward_from_a_constant_is_refused():
    with pytest.raises(tg.AutodiffError, match="does not depend"):
        tg.tensor([1.0]).backward()
    with tg.no_grad():
        y = leaf(1) * 2
    with pytest.raises(tg.AutodiffError, match="no_grad"):
        y.backward()


def test_a_parameter_overwritten_between_forward_and_backward_is_named():
    W, x = tg.Parameter(np.ones((2, 2)), name="W"), leaf(3, 2)
    with tg.scope("cell", t=2):
        y = (x @ W).sum()
    W.overwrite(W.data + 1)
    with pytest.raises(tg.OverwrittenError, match=r"'W'.*matmul.*in cell, t=2.*step\(\)"):
        y.backward()
    assert W.grad is None and x.grad is None
    z = (x @ W.T).sum()  # a view saves the same memory
    W.overwrite(W.data + 1)
    with pytest.raises(tg.OverwrittenError, match="'W'"):
        z.backward()
    (x @ W).sum().backward()


def test_an_overwritten_operand_of_many_is_named():
    W, x = tg.Parameter(np.ones((2, 2)), name="W"), leaf(3, 2)
    y = np.einsum("ij,jk->ik", x, W).sum()  # which saves its operands as one tuple
    W.overwrite(W.data + 1)
    with pytest.raises(tg.OverwrittenError, match=r"'W'.*einsum"):
        y.backward()


def test_an_overwritten_constant_is_named():
    scale, x = tg.tensor([2.0, 2.0], name="scale"), leaf(2)
    y = (x * scale).sum()
    scale.overwrite([3.0, 3.0])
    with pytest.raises(tg.OverwrittenError, match=r"'scale' \(constant.*multiply"):
        y.backward()
    (x * scale).sum().backward()
    assert (x.grad.data == 3).all()


def test_an_overwritten_array_that_nobody_saved_does_no_harm():
    b = tg.Parameter(np.ones(2))
    y = (leaf(3, 2) + b).sum()
    b.overwrite(b.data + 1)
    y.backward()
    assert (b.grad.data == 3).all()


def frozen(x):
    x.requires_grad = False
    x.overwrite(50.0)


def dropped(x):
    x.overwrite(50.0)
    del x


ALIASES = {
    "frozen first":     frozen,
    "gone since":       dropped,
    "a detached one":   lambda x: x.detach().overwrite(50.0),
    "a reshaped one":   lambda x: x.reshape(2, 1).detach().overwrite(50.0),
    "a slice of it":    lambda x: x.detach()[1:].overwrite(50.0),
    "by another handle": lambda x: tg.Tensor(x.data).overwrite(50.0),
}  # fmt: skip


@pytest.mark.parametrize("write", ALIASES.values(), ids=ALIASES)
def test_numbers_that_were_overwritten_by_way_of_another_tensor_are_not_used(write):
    w = leaf(2)
    x = tg.tensor([1.0, 2.0], requires_grad=True, dtype=float)
    y = (x * w).sum()
    write(x)
    del x
    with pytest.raises(tg.OverwrittenError, match=r"overwritten after .*multiply"):
        y.backward()
    assert w.grad is None


def test_a_result_that_was_overwritten_by_way_of_a_detached_one_is_not_used():
    x = leaf(2)
    h = np.tanh(x)
    h.detach().overwrite(50.0)
    with pytest.raises(tg.OverwrittenError, match=r"shape \(2,\).*tanh"):
        h.sum().backward()


def test_another_part_of_the_same_memory_may_be_overwritten():
    memory = np.arange(4.0)
    first, second, w = tg.Tensor(memory[:2]), tg.Tensor(memory[2:]), leaf(2)
    y = (first * w).sum()
    second.overwrite(50.0)
    y.backward()
    assert (w.grad.data == [0, 1]).all()


def test_memory_that_is_gone_is_forgotten():
    before = len(overwritten._writings)
    x = tg.tensor([1.0])
    x.overwrite(2.0)
    x.overwrite(3.0)
    assert len(overwritten._writings) == before + 1
    del x
    assert len(overwritten._writings) == before


def test_seeds_hooks_and_recordings_keep_their_arrays():
    seed, x, w = np.ones(2), leaf(2), leaf(2)
    for each in (x, w):
        each.backward(seed)
    x.grad.data[0] = 9
    seed[1] = 7
    assert (w.grad.data == 1).all() and x.grad.data[1] == 1
    mine = np.ones(2)
    z = leaf(2)
    y = z * 1
    y.register_hook(lambda g: mine)
    y.sum().backward()
    mine[0] = 5
    assert (z.grad.data == 1).all()
    with tg.record() as tape:
        (z * 3).sum().backward()
    z.grad.data[0] = 9
    assert (tape.entry_of(z).grad == 3).all()


def test_a_hook_cannot_write_into_what_others_share_and_keeps_the_dtype():
    x, w = leaf(2), leaf(2)
    y, v = x * 1, w * 1
    v.register_hook(lambda g: np.multiply(g.data, 2, out=g.data))
    with pytest.raises(ValueError, match="read-only"):
        (y + v).sum().backward()
    assert x.grad is None and w.grad is None
    y = x * 1
    y.register_hook(lambda g: np.array([2, 3]))
    y.sum().backward()
    assert x.grad.dtype == x.dtype and x.grad.tolist() == [2, 3]


def test_a_pullback_of_the_wrong_shape_is_named():
    bad = tg.primitive(lambda x: x * 2, vjp=dict(x=lambda g: np.ones(7)), name="bad")
    x = leaf(2)
    with pytest.raises(tg.PullbackError, match=r"bad for x returned shape \(7,\) for an input of shape \(2,\)"):
        bad(x).sum().backward()
    assert x.grad is None


@pytest.mark.parametrize("returned", [None, 3.0, [1.0, 2.0]])
def test_a_pullback_that_returns_no_array_is_named(returned):
    bad = tg.primitive(lambda x: x * 2, vjp=dict(x=lambda g: returned), name="bad")
    x = leaf(2)
    with pytest.raises(tg.PullbackError, match="the pullback of bad for x returned"):
        bad(x).sum().backward()
    many = tg.primitive(lambda *xs: sum(xs), vjp={"*xs": lambda g, xs, i: returned}, name="many")
    with pytest.raises(tg.PullbackError, match=r"the pullback of many for \*xs returned"):
        many(np.ones(2), x).sum().backward()
    assert x.grad is None


def test_a_trial_of_another_rule_for_a_numpy_function_of_ours_stays_with_its_user():
    wrong = tg.primitive(np.tanh, vjp=dict(x=lambda g, y: g * 1.001 * (1 - y * y)), name="wrong", elementwise=True)
    x = leaf(2)
    np.tanh(x).sum().backward()
    assert np.allclose(x.grad.data, 1 - np.tanh(x.data) ** 2, rtol=1e-12)
    with pytest.raises(tg.GradientCheckError):
        tg.check_grads(wrong, np.array([0.5]))


def test_a_numpy_function_without_an_operation_means_what_its_user_declares_last():
    assert np.fmod not in implements
    try:
        for factor in (7.0, 1.0):
            tg.primitive(np.fmod, vjp=dict(a=lambda g, factor=factor: g * factor, b=None), name="fmod")
            x = leaf(2)
            np.fmod(x, 2.0).sum().backward()
            assert (x.grad.data == factor).all()
    finally:
        implements.pop(np.fmod, None)


def test_a_declaration_that_would_mix_up_its_inputs_is_refused():
    rules = dict(b=lambda g, a: g * a, a=lambda g, b: g * b)
    with pytest.raises(TypeError, match="names the inputs as b, a"):
        tg.primitive(lambda a, b: a * b, vjp=rules, name="product")
    with pytest.raises(TypeError, match="an entry for each input, at least one"):
        tg.primitive(lambda x: x, vjp={}, name="nothing")
    with pytest.raises(TypeError, match=r"names the inputs as b, c, and .* takes them as a, b"):
        tg.primitive(lambda a, b: a - b, vjp=dict(b=lambda g: -g, c=lambda g: g))


def test_inputs_of_a_primitive_may_be_positional_only():
    scaled = tg.primitive(lambda x, /, k=2: x * k, vjp=dict(x=lambda g, k: g * k), name="scaled")
    x = leaf(2)
    scaled(x, k=3).sum().backward()
    assert (x.grad.data == 3).all() and (scaled(x).data == 2 * x.data).all()


def test_numbers_that_are_none_become_no_tensor():
    x = leaf(4)
    spectrum = tg.primitive(np.fft.rfft, vjp=dict(a=lambda g: g), name="spectrum")
    with pytest.raises(TypeError, match="not complex128"):
        spectrum(x)
    for array in (np.array(["a"]), np.array([1j]), np.array([None])):
        with pytest.raises(TypeError, match="tensors hold numbers and truth values"):
            tg.Tensor(array)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_mid_sweep_leaves_everything_as_it_was(error):
    def fail(g):
        raise error

    fragile = tg.primitive(lambda x: x * 2, vjp=dict(x=fail), name="fragile")
    a, b = leaf(2, seed=1), leaf(2, seed=2)
    (a + b).sum().backward()
    before = a.grad, b.grad
    y = (np.exp(fragile(a)) * b).sum()
    with tg.no_grad(), pytest.raises(error):
        y.backward()
    assert (a.grad, b.grad) == before and a.grad is before[0]
    assert (a * 2).requires_grad  # recording is on again, the graph still whole
    with pytest.raises(error):
        y.backward()


def test_no_setting_is_held_across_the_steps_of_a_sweep():
    x, y = leaf(2, seed=1), leaf(2, seed=2)
    with tg.record() as tape:
        a, b = (np.tanh(x) * x).sum(), (np.tanh(y) * y).sum()
    first, second = tape.sweep(a), tape.sweep(b)
    indices = []
    for one, two in zip(first, second):
        indices.append((one.index, two.index))
        assert (x * 2).requires_grad  # recording is on between two steps
    assert len(indices) > 2
    a.backward()
    b.backward()
    assert x.grad is not None and y.grad is not None


# ---- settings -----------------------------------------------------------------------------------------------------------


def test_no_grad_enable_grad_and_detach():
    x = leaf(2)
    with tg.no_grad():
        assert not (x * 2).requires_grad
        with tg.enable_grad():
            assert (x * 2).requires_grad
    assert (x * 2).requires_grad

    @tg.no_grad()
    def f():
        return x * 2

    assert not f().requires_grad and not f().requires_grad
    detached = (x * 2).detach()
    assert not detached.requires_grad
    (detached * x).sum().backward()
    assert np.allclose(x.grad.data, detached.data)


def test_eight_threads_give_the_sequential_answers():
    rng = np.random.default_rng(0)
    data = [rng.normal(size=(20, 4, 6)) for _ in range(8)]
    weight = rng.normal(size=(6, 6)) * 0.3

    def answer(i):
        W = tg.tensor(weight, requires_grad=True)
        h = tg.tensor(np.zeros((4, 6)))
        for t, x in enumerate(data[i]):
            with tg.scope(f"thread {i}", t=t):
                h = np.tanh(h @ W + x)
                if i % 2:
                    with tg.no_grad():
                        assert not (h * W.sum()).requires_grad
                assert h.scope.path == f"thread {i}" and h.requires_grad
        h.sum().backward()
        return W.grad.data

    expected = [answer(i) for i in range(8)]
    found = [None] * 8
    errors = []

    def work(i):
        try:
            for _ in range(5):
                found[i] = answer(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert all((a == b).all() for a, b in zip(expected, found))
