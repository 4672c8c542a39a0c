"""The checker must fail where a derivative is wrong, and say where; a tape's rules; the first value that is not finite."""

import re
from collections import namedtuple
from collections.abc import Callable
from typing import Any
from weakref import ref

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import AnomalyError, GradientCheckError, TapeError, check_grads, check_tape
from tinygrad_seq.scopes import setting

from .calls import STEPS, leaves_of, program_as_function, random_program

X = np.random.default_rng(7).normal(size=(3, 4))


def exponential(pullback: Callable[..., Any], **more: Any) -> Any:
    """The exponential function with a pullback on trial."""
    return tg.primitive(lambda x: np.exp(x), vjp=dict(x=pullback), name="trial", **more)


def constant(value: Any) -> Any:
    """A value without its way back."""
    return tg.Tensor(value.data) if isinstance(value, tg.Tensor) else value


# ---- check_grads lets pass what is right ------------------------------------------------------------------------------

Pair = namedtuple("Pair", "left right")

RIGHT: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "an array":            (lambda x: np.tanh(x) * x, (X,)),
    "a float":             (lambda x: x * x * 0.5, (1.5,)),
    "float32":             (lambda x: np.exp(x) * 0.1, (X.astype(np.float32),)),
    "a tensor":            (lambda x: np.exp(x) / 3, (tg.tensor(X, requires_grad=True),)),
    "nested arguments":    (lambda p, q: np.tanh(p["W"][0] @ p["W"][1]) * q[0] + q[1], ({"W": [X, X.T]}, (0.5, np.float32(2)))),
    "a named tuple":       (lambda p: p.left * p.right, (Pair(X, 2.0),)),
    "nested results":      (lambda x: {"a": [x * x, (np.exp(x), 1.0)], "b": x}, (X,)),
    "a result twice":      (lambda x: (np.exp(x),) * 2, (X,)),
    "integers pass by":    (lambda x, n, s: x * n if s == "times" else x, (X, 3, "times")),
    "an ignored argument": (lambda x, y: np.exp(y), (X, X)),
    "no dependence":       (lambda x: tg.tensor(3.0), (X,)),
    "a size-0 result":     (lambda x: np.exp(x), (np.zeros((0, 3)),)),
    "a constant gradient": (lambda x: x * 1e6, (X,)),
    "close to a pole":     (lambda x: 1 / x, (np.array([2e-3, 1.0]),)),
    "close to a kink":     (lambda x: np.where(x > 0, x * x + x, -x), (np.array([1e-4, -1e-4]),)),
    "many entries":        (lambda x: np.tanh(x), (np.linspace(-3, 3, 1000),)),
}  # fmt: skip


@pytest.mark.parametrize("case", RIGHT)
def test_right_derivatives_pass(case: str) -> None:
    f, args = RIGHT[case]
    check_grads(f, *args)


def test_third_order() -> None:
    check_grads(lambda x: np.tanh(x) * np.exp(x), X, order=3)
    forgetful = exponential(lambda g, y: g * twice(y))
    twice = tg.primitive(lambda y: y * 1.0, vjp=dict(y=lambda g: constant(g)), name="twice")
    check_grads(forgetful, X, order=2)
    with pytest.raises(GradientCheckError, match="the derivative of order 2"):
        check_grads(forgetful, X, order=3)


def test_it_runs_in_float64_and_leaves_no_trace() -> None:
    x = tg.tensor(X.astype(np.float32), requires_grad=True)
    weight = tg.tensor(X, requires_grad=True)
    dtypes = set()

    def f(value: Any) -> Any:
        dtypes.update([value.dtype, tg.tensor(0.5).dtype])
        return value * weight

    with tg.record() as tape, tg.no_grad():
        check_grads(f, x)
    assert dtypes == {np.dtype(np.float64)}
    assert len(tape) == 0
    assert x.grad is None
    assert weight.grad is None
    assert weight.data.flags.writeable
    assert tg.tensor(0.5).dtype == np.float32


# ---- and fails where it must ------------------------------------------------------------------------------------------


def off_in_one_place(g: Any, y: Any) -> Any:
    return g * y * (1 + 0.001 * (np.arange(12).reshape(3, 4) == 6))


def writes_into_its_cotangent(g: Any, y: Any) -> Any:
    if isinstance(g, np.ndarray):
        g *= y
        return g
    return g * y


def writes_into_what_was_saved(g: Any, x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return g * np.exp(x, out=x)
    return g * np.exp(x)


WRONG: dict[str, tuple[Callable[..., Any], str]] = {
    "off by 0.1 %":              (lambda g, y: g * y * 1.001,          r"the function by args\[0\] .* is wrong"),
    "off by 0.1 % in one place": (off_in_one_place,                    r"args\[0\] at index \(1, 2\) is wrong: the tape says"),
    "wrong in second order":     (lambda g, y: g * constant(y),        r"gradient by args\[0\] .* is wrong: the tape says 0,"),
    "wrong by the cotangent":    (lambda g, y: constant(g) * y,        "the gradient by the cotangent of output at index"),
    "a lost gradient":           (lambda g, y: g * 0,                  "is wrong: the tape says 0,"),
    "a smaller shape":           (lambda g, y: (g * y)[0],             r"trial for x returned shape \(4,\) for .* \(3, 4\)"),
    "an unrelated shape":        (lambda g, y: np.zeros((5, 3)),       r"trial for x returned shape \(5, 3\)"),
    "a failing pullback":        (lambda g, y: g @ y,                  "pullback of trial for x failed: ValueError: matmul"),
    "no way to second order":    (lambda g, y: g * np.ldexp(y, 0),     "pullback of trial for x failed: TypeError: np.ldexp"),
    "writing into g":            (writes_into_its_cotangent,           "pullback of trial for x writes into an array"),
    "writing into saved values": (writes_into_what_was_saved,          "pullback of trial for x writes into an array"),
    "not finite":                (lambda g, y: g / (y - y[0]),         r"args\[0\] is not finite: -?inf at index \(0, 0\)"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_derivatives_are_found(case: str) -> None:
    pullback, message = WRONG[case]
    trial = exponential(pullback)
    with pytest.raises(GradientCheckError, match=message):
        check_grads(lambda x: trial(x + 0.0), X)


@pytest.mark.parametrize("case", ["wrong in second order", "wrong by the cotangent"])
def test_first_order_alone_does_not_see_the_second(case: str) -> None:
    check_grads(exponential(WRONG[case][0]), X, order=1)


def test_a_rule_for_many_uses_is_checked_and_watched() -> None:
    def added(calls: list[Any]) -> Any:
        return sum(g * y for g, y in calls) * 1.001

    def written(calls: list[Any]) -> Any:
        (g, y), *others = calls
        for other, y_of_other in others:
            g += other * y_of_other
        return g * y

    twice = exponential(lambda g, y: g * y, together=dict(x=added))
    check_grads(twice, X)
    with pytest.raises(GradientCheckError, match="is wrong"):
        check_grads(lambda x: twice(x) + twice(x), X)
    twice = exponential(lambda g, y: g * y, together=dict(x=written))
    with pytest.raises(GradientCheckError, match="pullback of trial for x writes into"):
        check_grads(lambda x: twice(x) + twice(x), X)


def test_the_worst_entry_is_named_by_its_path() -> None:
    bad = exponential(off_in_one_place)
    with pytest.raises(GradientCheckError, match=re.escape("args[1]['W'][2] at index (1, 2)")):
        check_grads(lambda x, p: {"y": (np.tanh(x) * bad(p["W"][2]), p["W"][0])}, X, {"W": [1.0, 7, X]})


def test_the_entry_is_found_among_many() -> None:
    x = np.linspace(-1, 1, 5000).reshape(50, 100)
    bad = exponential(lambda g, y: g * y + 0.01 * (np.arange(5000).reshape(50, 100) == 3141))
    with pytest.raises(GradientCheckError, match=re.escape("args[0] at index (31, 41)")):
        check_grads(bad, x)


def test_the_numbers_of_a_scalar_function_are_its_own() -> None:
    with pytest.raises(GradientCheckError, match=r"by args\[0\] is wrong: the tape says 3, finite differences say 1$"):
        check_grads(exponential(lambda g, y: 3 * g * y), 0.0)


def test_a_kink_is_told() -> None:
    with pytest.raises(GradientCheckError, match="There is a kink or a jump here: the slope is 0 on the left and 1 on the right"):
        check_grads(lambda x: np.where(x > 0, x, 0), 0.0)


def test_functions_that_cannot_be_checked() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(GradientCheckError, match=r"not deterministic: output\[1\] differs"):
        check_grads(lambda x: (x, x * rng.normal()), X)
    with pytest.raises(GradientCheckError, match=r"the function is not finite: output is nan at index \(0, 1\)"):
        check_grads(np.log, np.array([[1.0, -1.0]]))
    with pytest.raises(GradientCheckError, match=r"not finite close to args\[0\] at index \(1\)"):
        check_grads(lambda x: tg.where(x < 1, x, np.nan), np.array([0.0, 1.0 - 1e-12]))
    with pytest.raises(GradientCheckError, match="float32, too coarse"):
        check_grads(lambda x: to_float32(x), X)
    with pytest.raises(GradientCheckError, match="shapes of the results of the function depend on the numbers"):
        check_grads(lambda x: x[x.data > 0], np.array([1e-9, 1.0]))
    with pytest.raises(ValueError, match="needs an argument that is, or holds, a floating number"):
        check_grads(lambda n: n * 2.0, 3)
    with pytest.raises(ValueError, match="needs a function that returns a floating number"):
        check_grads(lambda x: x > 0, X)
    with pytest.raises(ValueError, match="order is 1 or more"):
        check_grads(np.exp, X, order=0)


to_float32 = tg.primitive(lambda x: x.astype(np.float32), vjp=dict(x=lambda g: g), name="to_float32")


def test_after_a_failure_arrays_can_be_written_again() -> None:
    weight = tg.tensor(X, requires_grad=True)
    view = weight.data[::2]
    bad = exponential(writes_into_its_cotangent)
    with pytest.raises(GradientCheckError):
        check_grads(lambda x: bad(x) * weight, X)
    view += 1
    weight.data[0] = 0


# ---- check_tape -------------------------------------------------------------------------------------------------------


def program() -> tg.Tensor:
    """A loss whose tape has a broadcast, a constant, a plain number, several outputs and a value used twice."""
    x = tg.tensor(X, requires_grad=True)
    a, b = tg.split(np.tanh(x * np.arange(4.0) + 0.5), 2, axis=1)
    joined = np.concatenate([a, b * a], axis=1)
    return (joined @ joined.T).sum()


def test_a_tape_keeps_the_rules() -> None:
    loss = program()
    check_tape(loss)
    check_tape(tg.tape(loss))
    with tg.record() as tape:
        loss = program()
        loss.backward(create_graph=True)
    check_tape(tape)
    check_tape(tape.backward)
    loss.backward()
    check_tape(loss)
    check_tape(tg.tensor(1.0))


def test_the_gradient_of_a_gradient_keeps_them_too() -> None:
    x = tg.tensor(X, requires_grad=True)
    (np.tanh(x) * x).sum().backward(create_graph=True)
    assert x.grad is not None
    check_tape(x.grad)


@pytest.mark.parametrize("seed", range(5))
def test_random_programs_keep_them_and_pass(seed: int) -> None:
    run = program_as_function(random_program(seed), STEPS)
    check_grads(run, *leaves_of(seed))
    leaves = [tg.tensor(x, requires_grad=True) for x in leaves_of(seed)]
    for result in run(*leaves):
        check_tape(result)


def younger_input(loss: Any) -> None:
    loss.node.inputs[0].serial = loss.node.serial + 1


def cycle(loss: Any) -> None:
    product = loss.node.inputs[0]
    product.inputs = [loss.node, *product.inputs[1:]]


def same_serial(loss: Any) -> None:
    product = loss.node.inputs[0]
    product.inputs[1].serial = product.inputs[0].serial


def integer_gradient(loss: Any) -> None:
    loss.node.dtype = np.dtype(np.int64)


def nothing_requires_it(loss: Any) -> None:
    loss.node.inputs[0].requires_grad = False


def missing_input(loss: Any) -> None:
    product = loss.node.inputs[0]
    product.inputs = product.inputs[:1]


def strange_pullback(loss: Any) -> None:
    (i, _, take), product = loss.node.routes[0], loss.node.inputs[0]
    loss.node.routes = ((i, product.routes[0][1], take),)


def saved_shape(loss: Any) -> None:
    product = loss.node.inputs[0]
    product.saved = (product.saved[0][:, :2], *product.saved[1:])


def saved_too_little(loss: Any) -> None:
    product = loss.node.inputs[0]
    product.saved = product.saved[:1]


def freed_but_full(loss: Any) -> None:
    loss.node.routes = None


def busy_leaf(loss: Any) -> None:
    leaf(loss).inputs = (loss.node.inputs[0],)


def other_leaf(loss: Any) -> None:
    leaf(loss).handle = ref(loss)


def wrong_place(loss: Any) -> None:
    output(loss).position = 7


def leaf(loss: Any) -> Any:
    return next(node for node in tg.tape(loss).nodes if node.op == "constant")


def output(loss: Any) -> Any:
    return next(node for node in tg.tape(loss).nodes if node.op == "split")


BROKEN = [
    (younger_input,       r"sum.* is not younger than <Node \d+ \(matmul"),
    (cycle,               r"matmul.* is not younger than <Node \d+ \(sum"),
    (same_serial,         r"has the serial number of|is not younger"),
    (integer_gradient,    "requires a gradient, being int64"),
    (nothing_requires_it, r"sum.* requires a gradient, but nothing that it was computed from does"),
    (missing_input,       r"matmul.* has a route to input 1, which is not there"),
    (strange_pullback,    r"sum.* has a route through <pullback of matmul for a>"),
    (saved_shape,         r"matmul.* saved shape \(3, 2\) for <pullback of matmul for b> of a value of shape \(3, 4\)"),
    (saved_too_little,    r"matmul.* saved 0 of the 1 values that <pullback of matmul"),
    (freed_but_full,      r"sum.* has been freed and still holds something"),
    (busy_leaf,           r"is not younger than|is a leaf and was computed from something"),
    (other_leaf,          r"constant.* is the leaf of a tensor that is now \(\) float64"),
    (wrong_place,         r"split.* is output 7 of a bundle that says"),
]  # fmt: skip


@pytest.mark.parametrize(("breaks", "message"), BROKEN, ids=[breaks.__name__ for breaks, _ in BROKEN])
def test_a_broken_rule_is_named(breaks: Callable[[Any], None], message: str) -> None:
    loss = program()
    breaks(loss)
    with pytest.raises(TapeError, match=message):
        check_tape(loss)


def test_a_missing_entry_is_named() -> None:
    tape = tg.tape(program())
    with pytest.raises(TapeError, match=r"was computed from <Node .*, which is not on the tape"):
        check_tape(tape[1:])


# ---- detect_anomaly ---------------------------------------------------------------------------------------------------


def line_of(mark: str) -> str:
    """The "file:line" of a marked line of this file."""
    with open(__file__, encoding="utf-8") as file:
        number = next(i for i, line in enumerate(file, 1) if line.rstrip().endswith(f"# {mark}"))
    return f"{__file__}:{number}"


def test_the_first_value_of_the_forward_pass_that_is_not_finite() -> None:
    x = tg.tensor([[1.0, 2.0, 0.0]], requires_grad=True)
    ignored = np.errstate(all="ignore")
    with ignored, tg.detect_anomaly(), tg.scope("lstm"), tg.scope("u", t=3), pytest.raises(AnomalyError) as caught:
        np.log(x * 2)  # the logarithm
    message = str(caught.value)
    assert message.startswith("forward: log, in lstm/u, t=3 gave -inf at index (0, 2)")
    assert f"at {line_of('the logarithm')}; its inputs are finite" in message


def test_the_first_value_of_the_backward_pass_that_is_not_finite() -> None:
    x = tg.tensor([4.0, 0.0], requires_grad=True)
    with np.errstate(all="ignore"), tg.detect_anomaly():
        with tg.scope("norm", t=2):
            y = np.sqrt(x)  # the root
        loss = (y * 3).sum()
        with pytest.raises(AnomalyError) as caught:
            loss.backward()
    message = str(caught.value)
    assert "backward: the pullback of (sqrt, shape (2,), in norm, t=2) for x gave inf at index (1,)" in message
    assert f"was called at {line_of('the root')}" in message
    assert x.grad is None


def test_an_input_that_was_not_finite_is_told_apart() -> None:
    with tg.detect_anomaly(), pytest.raises(AnomalyError, match=r"add.* gave nan .*so was an input already"):
        tg.tensor([np.nan]) + 1.0


def test_anomaly_in_the_backward_pass_alone() -> None:
    x = tg.tensor([0.0], requires_grad=True)
    loss = np.sqrt(x).sum()
    with np.errstate(all="ignore"), tg.detect_anomaly(), pytest.raises(AnomalyError, match="outside of detect_anomaly"):
        loss.backward()


def test_anomaly_in_a_taped_backward_pass() -> None:
    x = tg.tensor([0.0], requires_grad=True)
    with np.errstate(all="ignore"), tg.detect_anomaly():
        loss = np.sqrt(x).sum()
        with pytest.raises(AnomalyError, match=r"backward: the pullback of \(sqrt.*for x gave inf at index \(0,\)"):
            loss.backward(create_graph=True)
    assert x.grad is None


def test_zero_times_infinity_is_zero_unless_it_is_hunted() -> None:
    x = tg.tensor([0.0, 4.0], requires_grad=True)
    with np.errstate(all="ignore"), tg.detect_anomaly():
        (np.sqrt(x) * np.array([0.0, 1.0], np.float32)).sum().backward()
        assert x.grad is not None
        np.testing.assert_array_equal(x.grad.data, [0.0, 0.25])
        with setting(mask_zeros=False), pytest.raises(AnomalyError, match=r"sqrt.* gave nan at index \(0,\)"):
            (np.sqrt(x) * np.array([0.0, 1.0], np.float32)).sum().backward()


def test_a_python_number_is_checked_as_it_is() -> None:
    seen: list[Any] = []

    def f(x: Any) -> Any:
        seen.append(x.item())
        return x * x

    check_grads(f, 0.1)
    assert seen[0] == 0.1


def test_finite_programs_run_undisturbed() -> None:
    with tg.detect_anomaly():
        loss = program()
        loss.backward()
    check_grads(lambda x: np.exp(x), X)


def test_it_ends_with_the_block() -> None:
    x = tg.tensor([0.0], requires_grad=True)
    with tg.detect_anomaly():
        pass
    with np.errstate(all="ignore"):
        np.sqrt(x).sum().backward()
    assert x.grad is not None
    assert np.isinf(x.grad.data).all()


def test_how_far_the_check_steps_and_what_it_allows_may_be_said():
    off = tg.primitive(lambda x: x**2, vjp=dict(x=lambda g, x: g * 2.002 * x), name="off")
    with pytest.raises(tg.GradientCheckError):
        tg.check_grads(off, np.array([1.0, 2.0]), order=1)
    tg.check_grads(off, np.array([1.0, 2.0]), order=1, rtol=0.01)
    tg.check_grads(off, np.array([1.0, 2.0]), order=1, atol=0.1)
    kink = np.array([1e-4, -0.5])  # nearer to the kink than the step, which is then shortened
    tg.check_grads(np.abs, kink, order=1, eps=1e-2)
