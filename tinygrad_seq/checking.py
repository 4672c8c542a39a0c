"""Checking derivatives against finite differences. Needs `sweep.py`.

The tape gives J^T v for a function f with Jacobian J; finite differences give J u. Both give the number v . J u, for
any u and v, and random ones leave no entry of J out. So `check_grads` compares two numbers instead of two matrices,
and looks at single entries only to say which one is wrong. The second order is the same check of another function,
(v, x) -> J(x)^T v.

Central differences at steps h and h/2 have errors of order h^2 in a known ratio; combined (Richardson, 1911), an error
of order h^4 is left. At h = 1/1000 that and the rounding errors are both near 1e-12, which is why the tolerances can be
tight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any, NamedTuple

import numpy as np

from tinygrad_seq.dtypes import using_dtype
from tinygrad_seq.errors import AnomalyError, AutodiffError, GradientCheckError, PullbackError
from tinygrad_seq.explain import first_nonfinite, refuse_no_function
from tinygrad_seq.pullback import Pullback
from tinygrad_seq.scopes import current, setting
from tinygrad_seq.sweep import Sweep, seeds_of, sweeping
from tinygrad_seq.tape import Node
from tinygrad_seq.tensor import Tensor, as_array

Array = np.ndarray[Any, np.dtype[np.float64]]
Function = Callable[[list[Tensor]], list[tuple[str, Tensor]]]

PROJECTIONS = 2  # pairs of random directions that are compared at each order
STEPS = (1.0, 1 / 30, 1 / 900)  # of eps, tried in turn: near a pole or a kink only a smaller step can be right
ONE_BY_ONE = 256  # so many entries are compared singly to find a wrong one; among more, halves are compared first


def check_grads(
    f: Callable[..., Any], *args: Any, order: int = 2, eps: float = 1e-3, rtol: float = 1e-6, atol: float = 1e-9
) -> None:
    """Compare the derivatives of `f` at `args` with finite differences; return if they agree.

    All is computed in float64, whatever the dtypes of `args` and the default dtype; `args` themselves and the gradients
    of tensors that `f` closes over stay as they are. Arrays are read-only while pullbacks run, so that one that writes
    into its cotangent or into a saved value is found out.

    Args:
        f: gives a tensor of any shape, or nested lists, tuples and dicts of them.
        *args: tensors, arrays and numbers, also nested. Floating ones are checked, all else is passed on unchanged.
        order: 1 checks first derivatives, 2 also those of the gradient, and so on.
        eps: the largest step of an entry. Points of `args` that are closer than that to a kink are tried with smaller
            steps as well.
        rtol: allowed error, relative to the derivatives.
        atol: allowed error besides.

    Raises:
        GradientCheckError: a derivative is wrong (the message names the entry that is worst), a pullback fails, gives
            the wrong shape or writes where it must not, `f` gives another result when it is called again, or
            something is not finite.
        ValueError: there is nothing to check: no floating argument or no floating result.

    Example:
        >>> import numpy as np, tinygrad_seq as tg
        >>> tg.check_grads(lambda x, p: np.tanh(x @ p["W"] + p["b"]), np.ones((2, 3)), {"W": np.eye(3), "b": 0.5})
    """
    refuse_no_function("check_grads", f, ": check_grads(f, x)")
    if order < 1:
        raise ValueError(f"order is 1 or more, not {order}")
    found = list(_floating(args, "args"))
    if not found:
        raise ValueError("check_grads needs an argument that is, or holds, a floating number or array")

    def flat(xs: list[Tensor]) -> list[tuple[str, Tensor]]:
        ys = list(_floating(f(*_refilled(args, iter(xs))), "output"))
        if not ys:
            raise ValueError("check_grads needs a function that returns a floating number or array")
        return [(path, y if isinstance(y, Tensor) else Tensor(y)) for path, y in ys]

    xs = [np.array(as_array(x, np.float64), np.float64) for _, x in found]
    rng = np.random.default_rng(0)
    with setting(grad=True, tape=None), using_dtype(np.float64), np.errstate(all="ignore"):
        check = Check(flat, [path for path, _ in found], xs, 1, Tolerance(eps, rtol, atol))
        check.run(rng)
        while check.order < order:
            check = check.of_the_gradient(rng)
            check.run(rng)


class Tolerance(NamedTuple):
    """What `check_grads` was told."""

    eps: float
    rtol: float
    atol: float


class Check:
    """One order of `check_grads`: a function of a list of tensors, and the point where it is differentiated.

    Args:
        function: gives (name, tensor) for each of its results.
        names: of the inputs, for messages.
        xs: the inputs; read-only from here on.
        order: 1 for the user's function, 2 for its gradient, ...
        tolerance: step and allowed errors.
    """

    def __init__(self, function: Function, names: list[str], xs: list[Array], order: int, tolerance: Tolerance) -> None:
        self.function = function
        self.names = names
        self.xs = xs
        self.order = order
        self.tolerance = tolerance
        for x in xs:
            x.flags.writeable = False
        ys = function([Tensor(x) for x in xs])
        again = function([Tensor(x) for x in xs])
        self.outputs = [name for name, _ in ys]
        self.ys = [y.data for _, y in ys]
        for (name, y), (_, other) in zip(ys, again):
            if not np.isfinite(y.data).all():
                raise GradientCheckError(f"{self._what} is not finite: {name} is {first_nonfinite(y.data)}; check another point")
            if y.shape != other.shape or not np.allclose(y.data, other.data, rtol=1e-12, atol=1e-14 * _largest(y.data)):
                raise GradientCheckError(
                    f"{self._what} is not deterministic: {name} differs between two calls at the same point; "
                    "if it draws random numbers, seed the generator inside of the function"
                )

    def run(self, rng: np.random.Generator) -> None:
        """Compare v . J u as the tape and as differences have it, for random u and v."""
        for _ in range(PROJECTIONS):
            v = self._cotangents(rng)
            gradients = [g.data for g in _vjp(self.function, [Tensor(x) for x in self.xs], [Tensor(part) for part in v])]
            for name, g in zip(self.names, gradients):
                if not np.isfinite(g).all():
                    raise GradientCheckError(f"the derivative of {self._what} by {name} is not finite: {first_nonfinite(g)}")
            u = [_signs(rng, x.shape) for x in self.xs]
            if not self._agrees(gradients, u, v):
                self._blame(gradients, v, rng)

    def of_the_gradient(self, rng: np.random.Generator) -> Check:
        """The check of the next order: of (v, x) -> J(x)^T v."""
        v = self._cotangents(rng)
        names = [f"the cotangent of {name}" for name in self.outputs]

        def gradient(inputs: list[Tensor]) -> list[tuple[str, Tensor]]:
            parts = _vjp(self.function, inputs[len(v) :], inputs[: len(v)])
            return [(f"the gradient by {name}", part) for name, part in zip(self.names, parts)]

        return Check(gradient, names + self.names, v + self.xs, self.order + 1, self.tolerance)

    # ---- the comparison -----------------------------------------------------------------------------------------

    def _agrees(self, gradients: list[Array], u: list[Array], v: list[Array]) -> bool:
        """Whether tape and differences agree along u, at one of the steps at least."""
        return any(self._error(gradients, u, v, step)[0] <= 1 for step in STEPS)

    def _error(self, gradients: list[Array], u: list[Array], v: list[Array], step: float) -> tuple[float, float, float]:
        """(error as a multiple of what is allowed, what the tape says, what differences say)."""
        eps, rtol, atol = self.tolerance
        terms = [g * direction for g, direction in zip(gradients, u)]
        tape = float(sum(term.sum() for term in terms))
        differences = self._slope(u, v, eps * step)
        rounding = 50 * np.finfo(np.float64).eps * _norm([y * part for y, part in zip(self.ys, v)]) / (eps * step)
        allowed = atol + rtol * max(abs(tape), abs(differences), _norm(terms)) + rounding
        error = abs(tape - differences) / allowed
        return error if np.isfinite(error) else np.inf, tape, differences

    def _slope(self, u: list[Array], v: list[Array], h: float) -> float:
        """d/ds of v . f(x + s u) at s = 0, to order h^4."""
        return (4 * self._central(u, v, h / 2) - self._central(u, v, h)) / 3

    def _central(self, u: list[Array], v: list[Array], h: float) -> float:
        ahead, behind = self._at(u, h), self._at(u, -h)
        return float(sum((part * (a - b)).sum() for part, a, b in zip(v, ahead, behind)) / (2 * h))

    def _at(self, u: list[Array], s: float) -> list[Any]:
        """f(x + s u)."""
        ys = [y.data for _, y in self.function([Tensor(np.asarray(x + s * direction)) for x, direction in zip(self.xs, u)])]
        if [y.shape for y in ys] != [y.shape for y in self.ys]:
            raise GradientCheckError(f"the shapes of the results of {self._what} depend on the numbers in its arguments")
        return ys

    # ---- the message --------------------------------------------------------------------------------------------

    def _blame(self, gradients: list[Array], v: list[Array], rng: np.random.Generator) -> None:
        """Raise, naming the entry whose derivative is worst."""
        entries = [(k, i) for k, x in enumerate(self.xs) for i in range(x.size)]
        while len(entries) > ONE_BY_ONE:  # follow the half that is further off
            halves = entries[: len(entries) // 2], entries[len(entries) // 2 :]
            entries = max(halves, key=lambda half: self._smallest_error(gradients, self._direction(half, rng), v)[0])
        results = [(self._smallest_error(gradients, self._direction([entry]), v), entry) for entry in entries]
        (_, tape, differences), (k, i) = max(results)
        u = self._direction([(k, i)])
        if not np.isfinite(differences):
            raise GradientCheckError(f"{self._what} is not finite close to {self._entry(k, i)}; check another point")
        raise GradientCheckError(
            f"the derivative of {self._what} by {self._entry(k, i)} is wrong: the tape says {tape:.10g}, finite differences "
            f"say {differences:.10g}{self._weights}{self._kink(u, v)}"
        )

    def _smallest_error(self, gradients: list[Array], u: list[Array], v: list[Array]) -> tuple[float, float, float]:
        return min(self._error(gradients, u, v, step) for step in STEPS)

    def _kink(self, u: list[Array], v: list[Array]) -> str:
        """A note if the slopes on both sides differ."""
        h = self.tolerance.eps / 1000
        left, right = (sum((part * (y - y0)).sum() for part, y, y0 in zip(v, self._at(u, s), self.ys)) / s for s in (-h, h))
        if abs(left - right) <= 1e-2 * max(abs(left), abs(right)):
            return ""
        return f". There is a kink or a jump here: the slope is {left + 0.0:.6g} on the left and {right + 0.0:.6g} on the right"

    @property
    def _weights(self) -> str:
        return "" if sum(y.size for y in self.ys) == 1 else ", both for the sum of all results with random weights"

    @property
    def _what(self) -> str:
        known = {1: "the function", 2: "the gradient"}
        return known.get(self.order) or f"the derivative of order {self.order - 1}"

    def _entry(self, k: int, i: int) -> str:
        shape = self.xs[k].shape
        index = ", ".join(str(int(n)) for n in np.unravel_index(i, shape)) if shape else ""
        return f"{self.names[k]} at index ({index})" if shape else self.names[k]

    # ---- directions ---------------------------------------------------------------------------------------------

    def _cotangents(self, rng: np.random.Generator) -> list[Array]:
        """Random weights for the results; 1 if there is only one number, for the message's sake."""
        if sum(y.size for y in self.ys) == 1:
            return [np.ones(y.shape) for y in self.ys]
        return [_signs(rng, y.shape) for y in self.ys]

    def _direction(self, entries: Iterable[tuple[int, int]], rng: np.random.Generator | None = None) -> list[Array]:
        """A direction along these entries alone: 1 in each, or random."""
        u: list[Array] = [np.zeros(x.shape) for x in self.xs]
        for k, i in entries:
            u[k].reshape(-1)[i] = 1.0 if rng is None else _signs(rng, ())
        return u


# ---- the tape's side ------------------------------------------------------------------------------------------------


def _vjp(function: Function, xs: Sequence[Tensor], cotangents: Sequence[Tensor]) -> list[Tensor]:
    """J^T v, a part for each input; taped if an argument requires a gradient. Watches the pullbacks."""
    taped = any(x.requires_grad for x in (*xs, *cotangents))
    inputs = list(xs) if taped else [_leaf(x.data) for x in xs]
    seeds = seeds_of([y for _, y in function(inputs)], [v if taped else v.data for v in cotangents])
    results = _watched_sweep(seeds, {x.node for x in inputs if x.node is not None}, taped)
    found = [None if x.node is None else results.get(x.node) for x in inputs]
    gradients = [np.zeros(x.shape) if g is None else g for x, g in zip(inputs, found)]
    return [g if isinstance(g, Tensor) else Tensor(g) for g in gradients]


def _watched_sweep(seeds: Mapping[Node, Any], targets: set[Node], taped: bool) -> Mapping[Node, Any]:
    """`sweep.run`, with all arrays read-only and a pullback's failure told as the check's."""
    for careful in (False, True):
        sweep = Sweep(seeds, targets, taped, careful)
        with _read_only() as protect, setting(**sweeping(current(), taped)):
            for node in sweep.nodes:
                if node.dtype is not None and node.dtype.itemsize < 8:
                    raise GradientCheckError(f"{node.describe()} is {node.dtype}, too coarse for differences; keep float64")
                protect(node.saved)
            try:
                for _, g in sweep:
                    protect(g)
            except (AutodiffError, AnomalyError) as error:
                if not isinstance(error, PullbackError):
                    raise
                raise GradientCheckError(str(error)) from error
            except Exception as error:
                raise GradientCheckError(_about(error)) from error
        if all(np.isfinite(as_array(g)).all() for g in sweep.results.values()):
            break
    return sweep.results


@contextmanager
def _read_only() -> Iterator[Callable[[Any], None]]:
    """Gives a function that makes arrays read-only (tensors' too, and nested ones) until the block ends."""
    closed: list[np.ndarray[Any, Any]] = []

    def protect(value: Any) -> None:
        values = [value]
        while values:
            each = values.pop()
            if isinstance(each, (list, tuple)):
                values += each
            array = each.data if isinstance(each, Tensor) else each
            if isinstance(array, np.ndarray) and array.flags.writeable:
                array.flags.writeable = False
                closed.append(array)

    try:
        yield protect
    finally:
        for array in sorted(closed, key=lambda array: array.base is not None):  # a view can be opened once its base is
            array.flags.writeable = True


def _about(error: Exception) -> str:
    """A failure inside of a sweep in words. The sweep's frame on the traceback knows which pullback was running."""
    locals_ = [frame.f_locals.get("pullback") for frame, _ in walk_tb(error.__traceback__)]
    running = [local for local in locals_ if isinstance(local, Pullback)]
    what = f"the pullback of {running[-1].op} for {running[-1].argument}" if running else "a pullback"
    if "read-only" in str(error):
        return (
            f"{what} writes into an array that it was given: its cotangent or a saved value, which others need too; "
            f"let it make a new array ({error})"
        )
    return f"{what} failed: {type(error).__name__}: {error}"


def _leaf(array: Array) -> Tensor:
    made = Tensor(array)
    made.requires_grad = True
    return made


def _signs(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Random numbers between 1/2 and 1 in size, so that no entry's error gets lost."""
    return np.asarray(rng.uniform(0.5, 1.0, shape) * rng.choice([-1.0, 1.0], shape))


def _norm(arrays: Sequence[Any]) -> float:
    return float(np.sqrt(sum(float((array * array).sum()) for array in arrays)))


def _largest(array: Any) -> float:
    return float(np.abs(array).max()) if array.size else 0.0


# ---- nested arguments -----------------------------------------------------------------------------------------------


def _is_floating(value: Any) -> bool:
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return value.dtype.kind == "f"
    return isinstance(value, float)


def _floating(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, value) for each floating number, array or tensor in nested lists, tuples and dicts."""
    if _is_floating(value):
        yield path, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _floating(part, f"{path}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield from _floating(part, f"{path}[{i}]")


def _refilled(value: Any, tensors: Iterator[Tensor]) -> Any:
    """The same nested value with these tensors in place of its floating parts."""
    if _is_floating(value):
        return next(tensors)
    if isinstance(value, Mapping):
        return {key: _refilled(part, tensors) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [_refilled(part, tensors) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value
