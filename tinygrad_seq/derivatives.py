"""Derivatives of functions, after JAX's names: functions in, functions out. Needs `sweep.py`.

Each of these runs the function on variables of its own, so that it measures the way from the argument to the result
and nothing else, and sweeps from the result back to those variables. Nothing is left in anybody's `.grad`.

Arguments may be nested lists, tuples and dicts of arrays, with None where there is nothing. Results are tensors; they are
taped, and so can be differentiated again, where the arguments are.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Sequence
from functools import wraps
from typing import Any

import numpy as np

from tinygrad_seq.errors import AutodiffError
from tinygrad_seq.explain import refuse_no_function, told
from tinygrad_seq.nested import leaves, rebuilt
from tinygrad_seq.ops.samples import unary
from tinygrad_seq.primitive import primitive
from tinygrad_seq.reach import flows_on_to, reachable
from tinygrad_seq.scopes import setting
from tinygrad_seq.sweep import run, seed, seeds_of
from tinygrad_seq.tensor import Tensor, as_array, node_of

Function = Callable[..., Any]
HOW = ": grad(f)(x) is the gradient of f at x, and loss.backward() that of a loss which has been computed already"


def grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """The gradient of a function with a scalar result.

    Args:
        f: gives a tensor of one element (with `has_aux`, a pair of it and something else).
        argnums: which arguments to differentiate by: a number, or several; negative ones count from the end.
        has_aux: whether f gives a pair, of which only the first is differentiated.

    Returns:
        A function of the same arguments that gives the gradient, of the structure of the argument (a tuple of them
        for several argnums). What f ignores has gradient zero. With `has_aux`, a pair of it and the something else.

    Raises:
        AutodiffError: when called, if the result has more elements than one.
        TypeError: if an argument to differentiate by holds no floating numbers, or argnums names none of the arguments.

    Example:
        >>> import numpy as np, tinygrad_seq as tg
        >>> tg.grad(lambda x: (x**3).sum())(np.array([1.0, 2.0]))
        Tensor([ 3., 12.], dtype=float64)
    """

    refuse_no_function("grad", f, HOW)

    @wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, found = value_and_grad(f, argnums, has_aux)(*args, **kwargs)
        return (found, value[1]) if has_aux else found

    return gradient


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Function:
    """Like `grad`, but the function gives the pair (value, gradient); the value is (value, aux) with `has_aux`."""
    refuse_no_function("value_and_grad", f, HOW)

    @wraps(f)
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        trial = Trial(f, args, kwargs, argnums)
        if has_aux and not (isinstance(trial.result, (tuple, list)) and len(trial.result) == 2):
            raise TypeError(f"with has_aux a function gives a pair, (value, something else), not {type(trial.result).__name__}")
        result, aux = trial.result if has_aux else (trial.result, None)
        result = result if isinstance(result, Tensor) else Tensor(as_array(result))
        if result.size != 1:
            raise AutodiffError(
                f"grad needs a function with one value, not of shape {result.shape}; reduce it, or use jacobian or vjp"
            )
        found = trial.pull([result], [seed(result, None)])
        value = trial.given_out(result)
        return ((value, trial.given_out(aux)) if has_aux else value), trial.by_argument(found)

    return value_and_gradient


def vjp(f: Function, *args: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """The value of f and its pullback: from a cotangent of the result to those of the arguments.

    Args:
        f: gives a tensor, or nested lists, tuples and dicts of them.
        *args: where; all of them are differentiated by.

    Returns:
        The value, and a function that takes a cotangent of the value's structure and gives the tuple of cotangents.
        It may be called many times.

    Raises:
        AutodiffError: from that function, if the cotangent has not the structure or the shapes of the value.
    """
    refuse_no_function("vjp", f, ": vjp(f, x)")
    trial = Trial(f, args, {}, range(len(args)))
    results = trial.results

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        given = leaves(cotangent)
        if len(given) != len(results):
            raise AutodiffError(f"the result has {len(results)} tensors, the cotangent {len(given)}")
        taped = trial.taped or any(isinstance(g, Tensor) and g.requires_grad for g in given)
        return tuple(trial.pull(results, [seed(y, g, taped) for y, g in zip(results, given)], taped))

    return trial.given_out(rebuilt(trial.result, results)), pullback


def jvp(f: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """The value of f and its directional derivative: how the result moves when the arguments move along `tangents`.

    The pullback is linear in the cotangent u, and its own pullback at v is J v (J. Townsend, "A new trick for
    calculating Jacobian vector products", 2017): two sweeps, and no rule but the pullbacks.

    Args:
        f: gives a tensor, or nested lists, tuples and dicts of them.
        primals: the arguments.
        tangents: of the same structure and shapes.

    Returns:
        The value, and of its structure and shapes the derivative J v.

    Raises:
        AutodiffError: if the tangents have another structure or other shapes.
    """
    refuse_no_function("jvp", f, ": jvp(f, (x,), (v,))")
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TypeError(f"jvp takes tuples, jvp(f, (x,), (v,)), not {told(primals)} as x and {told(tangents)} as v")
    if len(primals) != len(tangents) or [np.shape(as_array(x)) for x in leaves(primals)] != [
        np.shape(as_array(v)) for v in leaves(tangents)
    ]:
        raise AutodiffError("tangents must have the structure and the shapes of the primals")
    trial = Trial(f, tuple(primals), {}, range(len(primals)))
    results = trial.results
    draw = np.random.default_rng(0).uniform  # any u will do but one with zeros, which the sweep would take for "no gradient"
    probes = [_variable(np.asarray(draw(0.5, 1.5, y.shape)).astype(y.dtype)) if y.requires_grad else None for y in results]
    with setting(grad=True):
        pulled = leaves(trial.pull(results, probes, True))
    taped = trial.taped or any(isinstance(v, Tensor) and v.requires_grad for v in leaves(tangents))
    seeds = {g.node: seed(g, v, taped) for g, v in zip(pulled, leaves(tangents)) if g.requires_grad}
    found = run(seeds, {node_of(u) for u in probes if u is not None}, taped).results if seeds else {}
    moved = [_result(None if u is None else found.get(node_of(u)), y) for u, y in zip(probes, results)]
    return trial.given_out(rebuilt(trial.result, results)), rebuilt(trial.result, moved)


def jacobian(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """The matrix of all partial derivatives: of shape `f(x).shape + x.shape`.

    Where f gives nested lists, tuples and dicts, or x is such, so is the matrix: what f gives, with, in the place of each
    tensor, the structure of x, holding a matrix for each of its arrays. For several argnums it is a tuple of such. It takes one
    sweep for each element of f(x).

    Args:
        f: gives a tensor, or nested lists, tuples and dicts of them.
        argnums: as for `grad`.

    Example:
        >>> import numpy as np, tinygrad_seq as tg
        >>> tg.jacobian(lambda p: p["a"] * p["b"])({"a": np.array([1.0, 2.0]), "b": 3.0})["b"]
        Tensor([1., 2.], dtype=float32)
    """

    refuse_no_function("jacobian", f, ": jacobian(f)(x)")

    @wraps(f)
    def matrix(*args: Any, **kwargs: Any) -> Any:
        trial = Trial(f, args, kwargs, argnums)
        return rebuilt(trial.result, [trial.by_argument(_matrices(trial, y)) for y in trial.results])

    return matrix


def _matrices(trial: Trial, y: Tensor) -> list[Any]:
    """For each of the trial's arguments the Jacobian of one result, row by row."""
    rows = []
    for k in range(y.size):
        row = np.zeros(y.shape, y.dtype)
        row.reshape(-1)[k] = 1
        rows.append(leaves(trial.pull([y], [row])))
    if not rows:
        return trial.like_arguments([Tensor(np.zeros((*y.shape, *x.shape), x.dtype)) for x in trial.variables])
    stacked: list[Any] = [np.stack(column) for column in zip(*rows)]
    return trial.like_arguments([s.reshape((*y.shape, *s.shape[1:])) for s in stacked])


def hessian(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """The matrix of second derivatives of a function with a scalar result: of shape `x.shape + x.shape`.

    For an x of nested lists, tuples and dicts, the structure of x twice: `hessian(f)(p)["W"]["b"]`.
    """
    return jacobian(grad(f, argnums), argnums)


def hvp(f: Function) -> Callable[[Any, Any], Any]:
    """The product of the Hessian of f at x with a vector v, without the matrix: `hvp(f)(x, v)`.

    Args:
        f: a function of one argument with a scalar result; v has the structure and shapes of that argument.
    """
    return lambda x, v: vjp(grad(f), x)[1](v)[0]


class Trial:
    """One run of a function on variables in place of some of its arguments.

    Attributes:
        variables: a tensor for each array in those arguments.
        result: what the function gave.
        results: a tensor for each array in the result.
        taped: whether derivatives must be taped: an argument is, or the function closes over the variable of a
            transform around this one (the x in grad(lambda x: x * grad(lambda y: x * y)(1.0))).
    """

    def __init__(self, f: Function, args: Sequence[Any], kwargs: dict[str, Any], argnums: int | Sequence[int]) -> None:
        self._single = not isinstance(argnums, Sequence)
        numbers = [operator.index(i) for i in ([argnums] if not isinstance(argnums, Sequence) else argnums)]
        if not all(-len(args) <= i < len(args) for i in numbers):
            raise TypeError(f"argnums {numbers} and {len(args)} positional arguments do not fit together")
        self._arguments = [args[i] for i in numbers]
        given = leaves(self._arguments)
        self.variables = [_variable(leaf) for leaf in given]
        replaced = list(args)
        for i, argument in zip(numbers, self.like_arguments(self.variables)):
            replaced[i] = argument
        with setting(grad=True):
            self.result = f(*replaced, **kwargs)
        self.taped = any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in given) or _depends_on_variables(
            [y for y in leaves(self.result) if isinstance(y, Tensor)], {variable.node for variable in self.variables}
        )

    @property
    def results(self) -> list[Tensor]:
        """What the function gave, as tensors."""
        return [leaf if isinstance(leaf, Tensor) else Tensor(as_array(leaf)) for leaf in leaves(self.result)]

    def like_arguments(self, values: Any) -> list[Any]:
        """A value for each variable, in the structure of the arguments."""
        found: list[Any] = rebuilt(self._arguments, values)
        return found

    def by_argument(self, found: list[Any]) -> Any:
        """What was found for each argument as the user asked for it: bare for a single argnum, else a tuple."""
        return found[0] if self._single else tuple(found)

    def pull(self, results: Sequence[Tensor], cotangents: Sequence[Any], taped: bool | None = None) -> list[Any]:
        """The cotangents of the arguments, each of its argument's structure; zero where nothing depends on one."""
        taped = self.taped if taped is None else taped
        seeds = seeds_of(results, cotangents)
        found = run(seeds, {node_of(variable) for variable in self.variables}, taped).results if seeds else {}
        return self.like_arguments([_result(found.get(node_of(variable)), variable) for variable in self.variables])

    def given_out(self, result: Any) -> Any:
        """Tensors as the caller gets them, nested or not: on the tape where derivatives are, bare elsewhere."""
        if self.taped:
            return result
        return rebuilt(result, [Tensor(y.data) if isinstance(y, Tensor) else y for y in leaves(result)])


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
    made = [y.node for y in results if y.requires_grad and y.node is not None]
    found = reachable(made, lambda node: () if node in ours else flows_on_to(node))
    return any(node.op == "variable" and node.serial < oldest for node in found)
