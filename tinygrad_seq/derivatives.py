"""Derivatives of functions, after JAX's names: functions in, functions out. Needs `sweep.py`.

Each of these runs the function on variables of its own, so that it measures the way from the argument to the result
and nothing else, and sweeps from the result back to those variables. Nothing is left in anybody's `.grad`.

Arguments may be nested lists, tuples and dicts of arrays. Results are tensors; they are taped, and so can be
differentiated again, where the arguments are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import wraps
from typing import Any

import numpy as np

from tinygrad_seq import random
from tinygrad_seq.errors import AutodiffError, NondeterministicError, OverwrittenError
from tinygrad_seq.ops.samples import unary
from tinygrad_seq.primitive import primitive
from tinygrad_seq.pullback import Pullback
from tinygrad_seq.sweep import run, seed
from tinygrad_seq.tape import Leaf, Node, current, next_serial, noted_bundle, noted_output, setting
from tinygrad_seq.tensor import Tensor, as_array, node_of

Function = Callable[..., Any]


def grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The gradient of a function with a scalar result.

    Args:
        f: gives a tensor of one element (with `has_aux`, a pair of it and something else).
        argnums: which arguments to differentiate by.

    Returns:
        A function of the same arguments that gives the gradient, of the structure of the argument (a tuple of them
        for several argnums). What f ignores has gradient zero. With `has_aux`, a pair of it and the something else.

    Example:
        >>> import numpy as np, tinygrad_seq as tg
        >>> tg.grad(lambda x: (x**3).sum())(np.array([1.0, 2.0]))
        Tensor([ 3., 12.], dtype=float64)
    """

    @wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, found = value_and_grad(f, argnums, has_aux)(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """Like `grad`, but the function gives the pair (value, gradient); the value is (value, aux) with `has_aux`."""

    @wraps(f)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        chosen = [argnums] if isinstance(argnums, int) else list(argnums)
        trial = Trial(f, args, kwargs, chosen)
        result, aux = trial.result if has_aux else (trial.result, None)
        result = result if isinstance(result, Tensor) else Tensor(as_array(result))
        if result.size != 1:
            raise AutodiffError(
                f"grad needs a function with one value, not of shape {result.shape}; reduce it, or use jacobian or vjp"
            )
        found = trial.pull([result], [seed(result, None)])
        value = trial.given_out(result)
        return ((value, aux) if has_aux else value), (found[0] if isinstance(argnums, int) else found)

    return value_and_gradient


def vjp(f: Function, *args: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """The value of f and its pullback: from a cotangent of the result to those of the arguments.

    Args:
        f: gives a tensor, or nested lists, tuples and dicts of them.
        *args: where; all of them are differentiated by.

    Returns:
        The value, and a function that takes a cotangent of the value's structure and gives the tuple of cotangents.
        It may be called many times.
    """
    trial = Trial(f, args, {}, range(len(args)))
    results = [leaf if isinstance(leaf, Tensor) else Tensor(as_array(leaf)) for leaf in leaves(trial.result)]

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        given = leaves(cotangent)
        if len(given) != len(results):
            raise AutodiffError(f"the result has {len(results)} tensors, the cotangent {len(given)}")
        taped = trial.taped or any(isinstance(g, Tensor) and g.requires_grad for g in given)
        return tuple(trial.pull(results, [seed(y, g, taped) for y, g in zip(results, given)], taped))

    return rebuilt(trial.result, map(trial.given_out, results)), pullback


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The value of f and its directional derivative: how the result moves when the arguments move along `tangents`.

    The pullback is linear in the cotangent u, and its own pullback at v is J v (J. Townsend, "A new trick for
    calculating Jacobian vector products", 2017): two sweeps, and no rule but the pullbacks.

    Args:
        f: gives a tensor, or nested lists, tuples and dicts of them.
        primals: the arguments.
        tangents: of the same structure and shapes.
    """
    if len(primals) != len(tangents) or [np.shape(as_array(x)) for x in leaves(primals)] != [
        np.shape(as_array(v)) for v in leaves(tangents)
    ]:
        raise AutodiffError("tangents must have the structure and the shapes of the primals")
    trial = Trial(f, tuple(primals), {}, range(len(primals)))
    results = [leaf if isinstance(leaf, Tensor) else Tensor(as_array(leaf)) for leaf in leaves(trial.result)]
    generator = np.random.default_rng(
        0
    )  # any u will do but one with zeros, which the sweep would take for "no gradient"
    probes = [_variable(np.asarray(generator.uniform(0.5, 1.5, y.shape)).astype(y.dtype)) for y in results]
    with setting(grad=True):
        pulled = leaves(trial.pull(results, probes, True))
    taped = trial.taped or any(isinstance(v, Tensor) and v.requires_grad for v in leaves(tangents))
    seeds = {g.node: seed(g, v, taped) for g, v in zip(pulled, leaves(tangents)) if g.requires_grad}
    found = run(seeds, {node_of(u) for u in probes}, taped).results if seeds else {}
    moved = [_result(found.get(node_of(u)), u) for u in probes]
    return rebuilt(trial.result, map(trial.given_out, results)), rebuilt(trial.result, moved)


def jacobian(f: Function, argnums: int = 0) -> Function:
    """The matrix of all partial derivatives: of shape `f(x).shape + x.shape` (a structure of them, if x is one)."""

    @wraps(f)
    def matrix(*args: Any, **kwargs: Any) -> Any:
        trial = Trial(f, args, kwargs, [argnums])
        y = trial.result if isinstance(trial.result, Tensor) else Tensor(as_array(trial.result))
        rows = []
        for k in range(y.size):
            row = np.zeros(y.shape, y.dtype)
            row.reshape(-1)[k] = 1
            rows.append(leaves(trial.pull([y], [row])[0]))
        argument = leaves(args[argnums])
        if not rows:
            return rebuilt(
                args[argnums], [Tensor(np.zeros((*y.shape, *np.shape(as_array(x))), y.dtype)) for x in argument]
            )
        stacked: list[Any] = [np.stack(list(column)) for column in zip(*rows)]
        return rebuilt(args[argnums], [s.reshape((*y.shape, *s.shape[1:])) for s in stacked])

    return matrix


def hessian(f: Function, argnums: int = 0) -> Function:
    """The matrix of second derivatives of a function with a scalar result: of shape `x.shape + x.shape`."""
    return jacobian(grad(f, argnums), argnums)


def hvp(f: Function) -> Callable[[Any, Any], Any]:
    """The product of the Hessian of f at x with a vector v, without the matrix: `hvp(f)(x, v)`."""
    return lambda x, v: vjp(grad(f), x)[1](v)[0]


class Trial:
    """One run of a function on variables in place of its arguments.

    Attributes:
        result: what the function gave.
        taped: whether derivatives must be taped: an argument is, or the function closes over the variable of a
            transform around this one (the x in grad(lambda x: x * grad(lambda y: x * y)(1.0))).
    """

    def __init__(self, f: Function, args: tuple[Any, ...], kwargs: dict[str, Any], argnums: Collection[int]) -> None:
        if argnums and not all(0 <= i < len(args) for i in argnums):
            raise TypeError(f"argnums {list(argnums)} and {len(args)} positional arguments do not fit together")
        self._arguments = [args[i] for i in argnums]
        self._variables = [[_variable(leaf) for leaf in leaves(argument)] for argument in self._arguments]
        replaced = {i: rebuilt(args[i], variables) for i, variables in zip(argnums, self._variables)}
        with setting(grad=True):
            self.result = f(*[replaced.get(i, argument) for i, argument in enumerate(args)], **kwargs)
        ours = {variable.node for variables in self._variables for variable in variables}
        self.taped = any(
            isinstance(leaf, Tensor) and leaf.requires_grad for argument in self._arguments for leaf in leaves(argument)
        )
        self.taped = self.taped or _depends_on_variables(
            [y for y in leaves(self.result) if isinstance(y, Tensor)], ours
        )

    def pull(self, results: Sequence[Tensor], cotangents: Sequence[Any], taped: bool | None = None) -> list[Any]:
        """The cotangents of the arguments, each of its argument's structure; zero where nothing depends on one."""
        taped = self.taped if taped is None else taped
        seeds: dict[Any, Any] = {}
        for y, g in zip(results, cotangents):
            if y.requires_grad:
                seeds[y.node] = seeds[y.node] + g if y.node in seeds else g
        targets = {node_of(variable) for variables in self._variables for variable in variables}
        found = run(seeds, targets, taped).results if seeds else {}
        return [
            rebuilt(argument, [_result(found.get(node_of(v)), v) for v in variables])
            for argument, variables in zip(self._arguments, self._variables)
        ]

    def given_out(self, result: Tensor) -> Tensor:
        """A result as the caller gets it: on the tape where derivatives are, bare elsewhere."""
        return result if self.taped else Tensor(result.data)


def checkpoint(f: Function) -> Function:
    """f, with the memory of its forward pass given back at once: the backward pass runs it again.

    A sequence of T steps in about sqrt(T) checkpointed segments needs O(sqrt(T)) memory for one more forward pass
    (Chen et al., "Training deep nets with sublinear memory cost", 2016). The second run gets the same random draws.
    Tensors that f closes over (weights) get their gradients like arguments do. Under `record`, where every value is
    kept anyway, f is simply called.

    Args:
        f: gives a tensor, or nested lists, tuples and dicts of them.

    Raises:
        NondeterministicError: in the backward pass, if f does not give what it gave before.
    """

    @wraps(f)
    def light(*args: Any, **kwargs: Any) -> Any:
        context = current()
        if not context.grad or context.tape is not None:
            return f(*args, **kwargs)
        replay = Replay(f, args, kwargs)
        result = f(*args, **kwargs)
        made = [leaf for leaf in leaves(result) if isinstance(leaf, Tensor) and leaf.requires_grad]
        if not made:
            return result
        return rebuilt(result, replay.on_tape(leaves(result)))

    return light


class Replay:
    """A call that can be made again: what a checkpoint saves in place of the call's values."""

    def __init__(self, f: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._call: Callable[[], Any] = lambda: f(*args, **kwargs)
        self._started = next_serial()
        self._draws = random.get_state()
        self._scope = current().scope
        self._outside: list[Node] = []  # what the call read from outside: arguments, weights
        self._facts: list[Any] = []
        self._last: tuple[Any, dict[Node, Any]] | None = None

    def on_tape(self, results: Sequence[Any]) -> Iterator[Any]:
        """The results with one bundle behind them, instead of the graph that made them, which is dropped here."""
        self._outside = _read_from_outside(results, self._started)
        self._facts = [_fingerprint(y) for y in results]
        routes = tuple((i, _Recomputed(self, i), _everything) for i in range(len(self._outside)))
        bundle = noted_bundle("checkpoint", self._outside, None, routes, (), self._scope, True)
        for y in results:
            if isinstance(y, Tensor):
                node = noted_output(bundle, y.shape, y.dtype)
                node.requires_grad = node.requires_grad and y.requires_grad
                yield Tensor(y.data, node)
            else:
                yield y

    def cotangent(self, g: Any, i: int) -> Any:
        """The cotangent of outside value i; the call is run again for the first of them, for all."""
        if self._last is None or self._last[0] is not g:
            self._last = (g, self._run_again(g))
        found = self._last[1].get(self._outside[i])
        if i == len(self._outside) - 1:
            self._last = None
        node = self._outside[i]
        return np.zeros(node.shape, node.dtype) if found is None else found

    def _run_again(self, g: Any) -> dict[Node, Any]:
        taped = current().grad
        self._refuse_overwritten()
        with random.replaying(self._draws), setting(grad=True, scope=self._scope):
            results = leaves(self._call())
        if not _agree([_fingerprint(y) for y in results], self._facts):
            raise NondeterministicError(
                f"a checkpointed function{self._scope.place} gave another result when the backward pass ran it again: "
                "it must not depend on anything that changes in between. Draw random numbers from "
                "tg.random.generator(), whose state is replayed"
            )
        seeds: dict[Any, Any] = {}
        for y, part in zip([y for y in results if isinstance(y, Tensor)], g):
            if y.requires_grad:
                seeds[y.node] = seeds[y.node] + part if y.node in seeds else part
        return run(seeds, set(self._outside), taped).results

    def _refuse_overwritten(self) -> None:
        for node in self._outside:
            if isinstance(node, Leaf) and node.overwritten > self._started:
                raise OverwrittenError(
                    f"{node.describe()} was overwritten after a checkpointed function{self._scope.place} had used it, "
                    "and the backward pass must run that function again: call backward() before the optimiser's step()"
                )


class _Recomputed(Pullback):
    """The pullback of a checkpoint for one of the values that the call read from outside."""

    __slots__ = ()

    def __init__(self, replay: Replay, i: int) -> None:
        self.op = "checkpoint"
        self.argument = f"value {i} from outside"
        self.rule = self.function = lambda g: replay.cotangent(g, i)
        self.together = None
        self.elementwise = self.moves = False
        self.places = ()
        self.sources = ()


# ---- nested arguments -----------------------------------------------------------------------------------------------


def leaves(tree: Any) -> list[Any]:
    """What nested lists, tuples and dicts hold, in order; dicts in the order of insertion."""
    if isinstance(tree, dict):
        return [leaf for part in tree.values() for leaf in leaves(part)]
    if isinstance(tree, (list, tuple)):
        return [leaf for part in tree for leaf in leaves(part)]
    return [tree]


def rebuilt(tree: Any, values: Any) -> Any:
    """The structure of `tree` with these values in place of its leaves."""
    return _rebuilt(tree, iter(values))


def _rebuilt(part: Any, values: Iterator[Any]) -> Any:  # no closure of `rebuilt`: one that calls itself is a cycle
    if isinstance(part, dict):
        return {key: _rebuilt(value, values) for key, value in part.items()}
    if isinstance(part, tuple) and hasattr(part, "_fields"):
        return type(part)(*[_rebuilt(value, values) for value in part])
    if isinstance(part, (list, tuple)):
        return type(part)([_rebuilt(value, values) for value in part])
    return next(values)


# ---- variables ------------------------------------------------------------------------------------------------------

variable = primitive(lambda x: x, vjp=dict(x=lambda g: g), name="variable", samples=unary())


def _variable(leaf: Any) -> Tensor:
    """A tensor in place of an argument: a new leaf, or, for one that is on a tape already, a copy of it on that tape."""
    array = as_array(leaf)
    if array.dtype.kind != "f":
        raise TypeError(
            f"only floating arguments can be differentiated by, not {array.dtype}; convert it, or leave it out of argnums"
        )
    if isinstance(leaf, Tensor) and leaf.requires_grad:
        with setting(grad=True):
            copied: Tensor = variable(leaf)
        return copied
    made = Tensor(array)
    made.requires_grad = True
    assert made.node is not None
    made.node.op = "variable"
    return made


def _result(found: Any, like: Tensor) -> Tensor:
    """A cotangent as a tensor of its own; zero where there is none."""
    if found is None:
        return Tensor(np.zeros(like.shape, like.dtype))
    return found if isinstance(found, Tensor) else Tensor(np.array(found))


def _depends_on_variables(results: Sequence[Tensor], ours: Collection[Any]) -> bool:
    """Whether results depend on variables older than these: those of a transform around this one."""
    oldest = min((node.serial for node in ours), default=math.inf)
    stack = [y.node for y in results if y.requires_grad and y.node is not None]
    found = set(stack)
    while stack:
        node = stack.pop()
        if node in ours:
            continue
        if node.op == "variable" and node.serial < oldest:
            return True
        fresh = {parent for parent in node.parents if parent.requires_grad} - found
        found |= fresh
        stack += fresh
    return False


def _read_from_outside(results: Sequence[Any], started: int) -> list[Node]:
    """The nodes older than a call that its results depend on, oldest first."""
    stack = [y.node for y in results if isinstance(y, Tensor) and y.requires_grad and y.node is not None]
    found = set(stack)
    while stack:
        node = stack.pop()
        if node.serial > started:
            fresh = {parent for parent in node.parents if parent.requires_grad} - found
            found |= fresh
            stack += fresh
    return sorted((node for node in found if node.serial < started), key=lambda node: node.serial)


def _fingerprint(y: Any) -> Any:
    """A few numbers that tell results apart but not the rounding of two equal runs."""
    if not isinstance(y, Tensor):
        return repr(y)
    array = y.data.astype(float)
    return (y.shape, y.dtype, float(array.sum()), float(np.abs(array).sum()))


def _agree(now: list[Any], then: list[Any]) -> bool:
    def equal(a: Any, b: Any) -> bool:
        if isinstance(a, str) or isinstance(b, str) or a[:2] != b[:2]:
            return bool(a == b)
        tolerance = float(np.sqrt(np.finfo(a[1]).eps)) if a[1].kind == "f" else 0.0
        return bool(np.allclose(a[2:], b[2:], rtol=tolerance, atol=tolerance * (1 + b[3]), equal_nan=True))

    return len(now) == len(then) and all(equal(a, b) for a, b in zip(now, then))


def _everything(saved: Sequence[Any]) -> Sequence[Any]:
    return saved
