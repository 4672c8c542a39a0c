"""Optimisers equal PyTorch's recorded steps; schedules their closed forms; clipping keeps the direction and tells NaN."""

import json
from math import cos, pi
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_seq as tg
from tinygrad_seq import Parameter, optim

with np.load(Path(__file__).parent / "oracles" / "optim.npz", allow_pickle=False) as file:
    RECORDED = dict(file)
CASES = [json.loads(str(case)) for case in RECORDED["cases"]]
CLASSES = [optim.SGD, optim.RMSprop, optim.Adagrad, optim.Adam, optim.AdamW]


def settings_of(case):
    return {name: tuple(value) if isinstance(value, list) else value for name, value in case[1].items()}


def starts(dtype=np.float64):
    return [Parameter(RECORDED[f"start/{i}"], dtype=dtype) for i in (0, 1)]


def give(parameters, step):
    """Set the gradients of one step; the second parameter has none in every third one."""
    for i, parameter in enumerate(parameters):
        present = RECORDED["present"][step, i]
        parameter.grad = RECORDED[f"gradients/{i}"][step].astype(parameter.dtype) if present else None


def one(value=1.0, grad=None):
    parameter = Parameter(np.array([value]), name="w")
    if grad is not None:
        parameter.grad = np.array([grad])
    return parameter


# ---- optimisers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{name}-{i}" for i, (name, _) in enumerate(CASES)])
def test_fifty_steps_equal_pytorchs(number):
    """With settings left out in some cases: the defaults are PyTorch's too."""
    parameters = starts()
    optimizer = getattr(optim, CASES[number][0])(parameters, **settings_of(CASES[number]))
    paths = [[], []]
    for step in range(50):
        give(parameters, step)
        optimizer.step()
        for path, parameter in zip(paths, parameters):
            path.append(parameter.data.copy())
    for i, path in enumerate(paths):
        np.testing.assert_allclose(np.array(path)[[0, 1, 2, 9, 49]], RECORDED[f"path/{number}/{i}"], rtol=1e-9, atol=1e-12)


def test_every_optimiser_is_recorded():
    assert {name for name, _ in CASES} == {kind.__name__ for kind in CLASSES}


@pytest.mark.parametrize("kind", CLASSES)
def test_a_quadratic_bowl_is_descended(kind):
    w = Parameter(np.array([3.0, -2.0]))
    optimizer = kind([w], lr=0.3 if kind is optim.Adagrad else 0.05)
    for _ in range(400):
        optimizer.zero_grad()
        ((w - np.array([1.0, 1.0])) ** 2).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(w.data, [1, 1], atol=0.1)


@pytest.mark.parametrize("kind", CLASSES)
def test_the_dtype_stays_and_the_array_too(kind):
    parameters = starts(np.float32)
    arrays = [p.data for p in parameters]
    optimizer = kind(parameters)
    for step in range(3):
        give(parameters, step)
        optimizer.step()
    assert [p.data is array for p, array in zip(parameters, arrays)] == [True, True]
    assert {kept[name].dtype for kept in optimizer.kept for name in kept if name != "t"} <= {np.dtype(np.float32)}


def test_a_parameter_without_a_gradient_is_left_alone_even_by_momentum_and_decay():
    moving, still = one(1.0, 1.0), one(1.0)
    optimizer = optim.SGD([moving, still], lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        optimizer.step()
    assert still.data == 1
    assert moving.data < 0.7
    moving.zero_grad()
    before = moving.data.copy()
    optimizer.step()
    assert moving.data == before


def test_the_gradient_is_read_only_to_an_optimiser():
    for kind in CLASSES:
        w, gradient = one(), np.array([2.0])
        gradient.flags.writeable = False
        w.grad = gradient
        optimizer = kind([w], weight_decay=0.1)
        optimizer.step()
        optimizer.step()
        assert gradient == 2


def test_the_learning_rate_may_be_changed():
    w = one(1.0, 1.0)
    optimizer = optim.SGD([w], lr=0.1)
    optimizer.step()
    optimizer.lr = 0.5
    optimizer.step()
    assert w.data == pytest.approx(0.4)


def test_zero_grad():
    w = one(1.0, 1.0)
    optim.SGD([w]).zero_grad()
    assert w.grad is None


def test_a_backward_pass_after_the_step_through_values_from_before_it_raises():
    w = one(2.0)
    optimizer = optim.SGD([w], lr=0.1)
    loss = (w * w).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(tg.OverwrittenError, match=r"'w'.*optimiser"):
        loss.backward()


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: optim.SGD([]),                                   ValueError, "no parameters"),
    (lambda: optim.SGD(one()),                                TypeError,  "list of parameters"),
    (lambda: optim.SGD([np.zeros(3)]),                        TypeError,  "not an array of shape"),
    (lambda: optim.SGD({"w": one()}),                         TypeError,  r"values\(\)"),
    (lambda: optim.SGD([one() * 2]),                          ValueError, "not a leaf"),
    (lambda: optim.SGD([w := one(), w]),                      ValueError, "twice"),
    (lambda: optim.SGD([one()], lr=-1),                       ValueError, "lr = -1"),
    (lambda: optim.SGD([one()], lr=float("nan")),             ValueError, "lr = nan"),
    (lambda: optim.SGD([one()], nesterov=True),               ValueError, "Nesterov"),
    (lambda: optim.SGD([one()], nesterov=True, momentum=0.9, dampening=0.1), ValueError, "Nesterov"),
    (lambda: optim.Adam([one()], betas=(0.9, 1.0)),           ValueError, "betas"),
    (lambda: optim.Adam([one()], betas=0.9),                  ValueError, "betas"),
    (lambda: optim.RMSprop([one()], alpha=1.0),               ValueError, "alpha"),
])  # fmt: skip
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---- state ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{name}-{i}" for i, (name, _) in enumerate(CASES)])
def test_a_run_that_is_stored_and_resumed_is_the_same_bit_for_bit(number):
    kind, settings = getattr(optim, CASES[number][0]), settings_of(CASES[number])
    whole = starts()
    optimizer = kind(whole, **settings)
    for step in range(10):
        give(whole, step)
        if step == 4:
            stored, values = optimizer.state_dict(), [p.data.copy() for p in whole]
        optimizer.step()
    resumed = [Parameter(value) for value in values]
    other = kind(resumed, lr=0.5)
    if "nesterov" in settings:
        other = kind(resumed, lr=0.5, momentum=0.1)
    other.load_state_dict(stored)
    for step in range(4, 10):
        give(resumed, step)
        other.step()
    assert other.settings == optimizer.settings
    for a, b in zip(whole, resumed):
        np.testing.assert_array_equal(a.data, b.data)


def test_the_state_is_a_copy_in_both_directions():
    w = one(1.0, 1.0)
    optimizer = optim.Adam([w])
    optimizer.step()
    state = optimizer.state_dict()
    state["kept"][0]["m"][:] = 99
    assert optimizer.kept[0]["m"] != 99
    optimizer.load_state_dict(state)
    state["kept"][0]["m"][:] = 0
    assert optimizer.kept[0]["m"] == 99


def test_the_state_without_arrays_is_json():
    optimizer = optim.AdamW([one()], lr=0.1)
    optimizer.lr = np.float32(0.25)
    assert json.loads(json.dumps(optimizer.state_dict()))["settings"]["lr"] == 0.25


@pytest.mark.parametrize(("harm", "message"), [
    (lambda s: {},                                                       "no state of Adam"),
    (lambda s: {**s, "optimizer": "AdamW"},                              "no state of Adam, but of AdamW"),
    (lambda s: {**s, "settings": {"lr": 0.1}},                           "settings of Adam are lr, betas"),
    (lambda s: {**s, "settings": {**s["settings"], "lr": "fast"}},       "lr = 'fast'"),
    (lambda s: {**s, "settings": {**s["settings"], "betas": [0.9]}},     "betas"),
    (lambda s: {**s, "kept": s["kept"] * 2},                             "2 parameters instead of 1"),
    (lambda s: {**s, "kept": None},                                      "no parameters instead of 1"),
    (lambda s: {**s, "kept": [{"t": 1}]},                                "nothing instead of m, v"),
    (lambda s: {**s, "kept": [{**s["kept"][0], "x": np.zeros(1)}]},      "m, v, x instead of m, v"),
    (lambda s: {**s, "kept": [{**s["kept"][0], "t": -1}]},               "after which step"),
    (lambda s: {**s, "kept": [{**s["kept"][0], "t": True}]},             "after which step"),
    (lambda s: {**s, "kept": [{**s["kept"][0], "m": np.zeros(2)}]},      r"\(w\) has m as float64 of shape \(2,\)"),
    (lambda s: {**s, "kept": [{**s["kept"][0], "m": np.zeros(1, "f4")}]}, "has m as float32"),
    (lambda s: {**s, "kept": [{**s["kept"][0], "m": [0.0]}]},            "has m as list"),
])  # fmt: skip
def test_a_state_that_does_not_fit_changes_nothing(harm, message):
    w = one(1.0, 1.0)
    optimizer = optim.Adam([w], lr=0.1)
    optimizer.step()
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(harm({**before, "settings": {**before["settings"], "lr": 0.7}}))
    assert optimizer.settings == before["settings"]
    assert optimizer.kept == before["kept"]


def test_an_optimiser_of_ones_own():
    class SignSGD(optim.Optimizer):
        keeps = {"last": ""}  # noqa: RUF012

        def __init__(self, parameters, lr):
            super().__init__(parameters, lr=lr)

        def moved(self, w, g, t, kept):
            kept["last"][...] = g
            return w - self.lr * np.sign(g)

    w = one(1.0, -3.0)
    optimizer = SignSGD([w], lr=0.25)
    optimizer.step()
    assert w.data == 1.25
    assert optimizer.state_dict()["kept"][0]["last"] == -3
    assert repr(optimizer) == "SignSGD(1 parameters, lr=0.25)"


# ---- schedules ------------------------------------------------------------------------------------------------------


def rates(make, steps=12, losses=None):
    """The learning rates at the start and after each step, the full one being 2."""
    optimizer = optim.SGD([one()], lr=2.0)
    schedule = make(optimizer)
    found = [optimizer.lr]
    for i in range(steps):
        schedule.step(losses[i] if losses else None)
        found.append(optimizer.lr)
    return found


def test_schedules_in_closed_form():
    n = range(13)
    assert rates(optim.ConstantSchedule) == [2.0] * 13
    assert rates(lambda o: optim.StepSchedule(o, every=5, decay=0.5)) == [2 * 0.5 ** (i // 5) for i in n]
    assert rates(lambda o: optim.ExponentialSchedule(o, decay=0.9)) == pytest.approx([2 * 0.9**i for i in n])
    cosine = [2 * (0.1 + 0.9 * (1 + cos(pi * min(i, 10) / 10)) / 2) for i in n]
    assert rates(lambda o: optim.CosineSchedule(o, steps=10, final=0.1)) == pytest.approx(cosine)
    assert cosine[-1] == pytest.approx(0.2)


@pytest.mark.parametrize("make", [
    optim.ConstantSchedule,
    lambda o, **k: optim.StepSchedule(o, 2, **k),
    lambda o, **k: optim.ExponentialSchedule(o, 0.9, **k),
    lambda o, **k: optim.CosineSchedule(o, 8, **k),
])  # fmt: skip
def test_warm_up_is_a_straight_line_and_then_the_schedule_starts(make):
    warm, plain = rates(lambda o: make(o, warmup=4)), rates(make)
    assert warm[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert warm[4:] == plain[:9]


def test_plateau_waits_and_then_decays():
    losses = [5.0, 4.0, 4.0, 4.0, 3.99999, 3.0, float("nan"), 3.0, 3.5, 1.0, 1.0, 1.0]
    found = rates(lambda o: optim.PlateauSchedule(o, decay=0.5, patience=2, threshold=1e-3), losses=losses)
    assert found == [2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5]
    with pytest.raises(TypeError, match="needs the loss"):
        optim.PlateauSchedule(optim.SGD([one()])).step()
    falling = rates(lambda o: optim.PlateauSchedule(o, patience=0), losses=[-1.0, -2.0, -3.0, -4.0] * 3, steps=4)
    assert falling == [2.0] * 5  # progress counts below zero too, and standing still does not
    assert rates(lambda o: optim.PlateauSchedule(o, decay=0.5, patience=0), losses=[-1.0] * 3, steps=3) == [2.0, 2.0, 1.0, 0.5]


MAKERS = [
    lambda o: optim.ConstantSchedule(o, warmup=3),
    lambda o: optim.StepSchedule(o, 2, 0.5),
    lambda o: optim.ExponentialSchedule(o, 0.9),
    lambda o: optim.CosineSchedule(o, 8, warmup=2),
    lambda o: optim.PlateauSchedule(o, patience=1),
]


@pytest.mark.parametrize("make", MAKERS)
def test_a_schedule_resumes_from_json(make):
    optimizer, other = optim.SGD([one()], lr=2.0), optim.SGD([one()], lr=0.7)
    schedule, resumed = make(optimizer), make(other)
    for _ in range(5):
        schedule.step(1.0)
    resumed.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    assert other.lr == optimizer.lr
    for _ in range(5):
        schedule.step(1.0)
        resumed.step(1.0)
        assert other.lr == optimizer.lr


@pytest.mark.parametrize("harm", [
    lambda s: {},
    lambda s: {**s, "schedule": "ConstantSchedule"},
    lambda s: {**s, "n": "3"},
    lambda s: {**s, "full_lr": float("nan")},
    lambda s: {**s, "full_lr": -1.0},
    lambda s: {**s, "every": 0},
    lambda s: {**s, "stranger": 1},
])  # fmt: skip
def test_a_schedules_state_that_does_not_fit_changes_nothing(harm):
    optimizer = optim.SGD([one()], lr=2.0)
    schedule = optim.StepSchedule(optimizer, 2)
    before = schedule.state_dict()
    with pytest.raises(ValueError, match=r"this state|no state"):
        schedule.load_state_dict(harm({**before, "n": 50}))
    assert schedule.state_dict() == before
    assert optimizer.lr == 2


def test_empty_schedules_are_refused():
    optimizer = optim.SGD([one()])
    with pytest.raises(ValueError, match="every must be at least 1"):
        optim.StepSchedule(optimizer, 0)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        optim.CosineSchedule(optimizer, 0)


# ---- clipping -------------------------------------------------------------------------------------------------------


def with_gradients(*gradients):
    parameters = [Parameter(np.zeros_like(g), name=f"w{i}") for i, g in enumerate(gradients)]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = gradient
    return parameters


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_clipping_by_norm_brings_the_norm_to_the_limit_and_keeps_the_direction(seed, size, limit):
    rng = np.random.default_rng(seed)
    gradients = [size * rng.normal(size=shape) for shape in ((3, 2), (), (0,), (4,))]
    parameters = with_gradients(*gradients)
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    assert optim.clip_grad_norm_(parameters, limit) == pytest.approx(norm, rel=1e-12)
    for parameter, gradient in zip(parameters, gradients):
        np.testing.assert_allclose(parameter.grad.data, gradient * min(1, limit / norm), rtol=1e-12)


def test_gradients_below_the_limit_are_left_as_they_are():
    parameters = with_gradients(np.array([3.0, 4.0]))
    gradient = parameters[0].grad
    for limit in (5.0, 6.0, np.inf):
        assert optim.clip_grad_norm_(parameters, limit) == 5
        assert parameters[0].grad is gradient


@pytest.mark.parametrize("clip", [lambda p: optim.clip_grad_norm_(p, 1.0), lambda p: optim.clip_grad_value_(p, 1.0)])
def test_clipping_does_not_write_into_arrays_that_others_hold(clip):
    shared = np.array([3.0, 4.0])
    parameters = with_gradients(shared, shared)
    clip(parameters)
    assert shared.tolist() == [3, 4]
    np.testing.assert_array_equal(parameters[0].grad.data, parameters[1].grad.data)
    assert (parameters[0].grad.data <= 1).all()


@pytest.mark.parametrize(
    ("dtype", "value"), [("f2", 6e4), ("f4", 3e38), ("f8", 1e308), ("f8", 1e-320), ("f4", 1e-45), ("f2", 6e-8)]
)
def test_the_norm_neither_overflows_nor_vanishes(dtype, value):
    gradient = np.array([value, value, value], dtype)
    (parameter,) = with_gradients(gradient)
    norm = optim.clip_grad_norm_([parameter], np.inf)
    assert norm == pytest.approx(np.sqrt(3) * float(gradient[0]), rel=1e-4)


def test_a_norm_beyond_float64_of_finite_gradients():
    parameters = with_gradients(np.array([1.5e308, 1.5e308]))
    with pytest.raises(FloatingPointError, match="more than float64 can hold"):
        optim.clip_grad_norm_(parameters, 1.0)
    assert optim.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=False) == np.inf


def test_a_factor_too_small_for_the_dtype_does_not_erase_the_gradient():
    (parameter,) = with_gradients(np.array([6e4, 3e4], np.float16))
    optim.clip_grad_norm_([parameter], 1e-3)
    assert parameter.grad.dtype == np.float16
    np.testing.assert_allclose(np.float64(parameter.grad.data), np.array([2, 1]) / np.sqrt(5) * 1e-3, rtol=2e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_norm_that_is_not_finite_raises_and_names_the_parameter(bad, position):
    gradients = [np.array([1.0, 2.0]) for _ in range(3)]
    gradients[position][1] = bad
    parameters = with_gradients(*gradients)
    with pytest.raises(FloatingPointError, match=rf"'w{position}' has {bad} at index \(1,\)"):
        optim.clip_grad_norm_(parameters, 1.0)
    norm = optim.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=False)
    assert np.isnan(norm) if np.isnan(bad) else norm == np.inf
    for parameter, gradient in zip(parameters, gradients):
        np.testing.assert_array_equal(parameter.grad.data, gradient)


def test_clipping_counts_each_parameter_once_and_passes_over_those_without_gradient():
    parameter, without = with_gradients(np.array([3.0, 4.0]))[0], one()
    assert optim.clip_grad_norm_([parameter, without, parameter], 10.0) == 5
    assert optim.clip_grad_norm_(parameter, 10.0) == 5
    assert optim.clip_grad_norm_([without], 1.0) == 0
    assert without.grad is None


def test_clipping_by_value():
    (parameter,) = with_gradients(np.array([-3.0, 0.5, np.inf, np.nan], np.float32))
    optim.clip_grad_value_([parameter], 1)
    np.testing.assert_array_equal(parameter.grad.data, np.array([-1, 0.5, 1, np.nan], np.float32))
    assert parameter.grad.dtype == np.float32


@pytest.mark.parametrize("limit", [0, -1.0, float("nan")])
def test_limits_that_make_no_sense_are_refused(limit):
    with pytest.raises(ValueError, match="above 0"):
        optim.clip_grad_norm_([one()], limit)
    with pytest.raises(ValueError, match="above 0"):
        optim.clip_grad_value_([one()], limit)
