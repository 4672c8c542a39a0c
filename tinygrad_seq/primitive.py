"""Primitives: an operation and its derivative, declared together. Read me second, after `tape.py`.

A declaration reads

    tanh = primitive(np.tanh, vjp=dict(x=lambda g, y: g * (1 - y * y)), elementwise=True, samples=unary())

and says: the forward is `np.tanh`; it has one input, x; if g is the cotangent of the result y, then the cotangent of
x is g * (1 - y * y). Such a rule is a *pullback*. It names what it needs, and what it names is what the tape saves:

    g               the cotangent of the output (a list, if the primitive has several outputs)
    y               the output (a tuple, likewise)
    a, b, ...       an input, by its name: the keys of `vjp`, in the order of the call
    a_shape         the shape of an input, which costs no memory
    axis, ...       a parameter, by its name in the forward's signature
    i               for a starred input (`vjp={"*xs": rule}`): which of the xs this cotangent is for

A pullback is a NumPy expression and nothing more. The sweep calls it with arrays, at NumPy's own speed, or with
tensors, when the backward pass shall be taped: then NumPy's protocols route the same expression back to primitives,
and that is all that derivatives of derivatives need. What all pullbacks share (summing over broadcast axes, adding
up, missing cotangents, dtypes) is done once, in `sweep.py`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from tinygrad_seq.calls import as_operand, as_operands, result_of, results_of
from tinygrad_seq.dtypes import default_dtype
from tinygrad_seq.explain import explained, refuse_nonfinite, user_line
from tinygrad_seq.numpy_like import binary, implements
from tinygrad_seq.pullback import Pullback, Rule, names_of
from tinygrad_seq.scopes import Context, current
from tinygrad_seq.tape import ABSENT, Bundle, Route, Watch, in_slots
from tinygrad_seq.tensor import Tensor, node_of

Taker = Callable[[Sequence[Any]], Sequence[Any]] | None  # takes some values out of many; None, if it is none of them
Plan = tuple[Taker, tuple[Route, ...]]  # what to save of a call, and the routes back to the inputs that need a gradient
PLANS = 1 << 8  # how many of them a primitive remembers: all that there are for up to eight inputs

registry: dict[str, Primitive] = {}  # the engine's own, by name: the tests go through it


class Sample(NamedTuple):
    """A call on which the tests check a primitive: `inputs(rng)` draws the inputs, `params` are its parameters."""

    inputs: Callable[[np.random.Generator], tuple[Any, ...]]
    params: Mapping[str, Any] = MappingProxyType({})


def primitive(
    forward: Callable[..., Any],
    vjp: dict[str, Rule | None],
    *,
    name: str | None = None,
    label: str | None = None,
    numpy: Callable[..., Any] | None = None,
    elementwise: bool = False,
    moves: bool = False,
    several: bool = False,
    cut: bool = False,
    together: dict[str, Rule] | None = None,
    on_arrays: dict[str, Rule] | None = None,
    samples: Sequence[Sample] = (),
) -> Primitive:
    """Declare an operation on arrays together with its derivative. Users declare their own in the same way.

    Args:
        forward: a function of arrays that gives an array (or a tuple of them, with `several`).
        vjp: for each input, in the order of the call, its pullback, or None where there is no derivative. The module
            docstring says what a pullback may name.
        name: what print and errors call it; the forward's own name by default.
        label: what pictures show; the name by default.
        numpy: the NumPy function that means this operation when it is called on tensors. By default the forward itself, if it is
            NumPy's and the engine has no operation for it: declaring np.tanh again gives you a function of your own, and with
            `numpy=np.tanh` replaces the engine's.
        elementwise: each element of the output depends on the elements at the same place only. Then a cotangent of
            exactly zero stays zero where the derivative is not finite.
        moves: the pullback only moves numbers about, reading nothing but g and parameters (a transpose).
        several: the forward gives a tuple; all its cotangents meet in one pullback.
        cut: the backward pass stops here, though a pullback is known (`detach`).
        together: for an input, a rule that gives the sum of its pullback over many uses at once, where that is
            cheaper than adding up: called with a list of the tuples that the pullback would be called with.
        on_arrays: for an input, its pullback once more for arrays alone: the same arguments and the same numbers, with fewer
            temporary arrays. For the few that every step of a cell calls.
        samples: calls on which the tests check the derivative; a primitive of ours without any fails the suite.

    Example:
        >>> import numpy as np, tinygrad_seq as tg
        >>> cube = tg.primitive(lambda x: x**3, vjp=dict(x=lambda g, x: g * 3 * x * x), name="cube", elementwise=True)
        >>> tg.grad(cube)(np.array(2.0))
        Tensor(12., dtype=float64)
    """
    _refuse_disorder(forward, vjp)
    starred = next(iter(vjp)).startswith("*")
    kind = Primitive if starred else {1: Unary, 2: Binary}.get(len(vjp), Primitive)
    made = kind(
        forward, vjp, name or forward.__name__, label, elementwise, moves, several, cut, together or {}, on_arrays or {}, samples
    )
    ours = sys._getframe(1).f_globals.get("__name__", "").startswith("tinygrad_seq.")
    if numpy is None and _is_numpys(forward) and (ours or _is_free(forward)):
        numpy = forward
    if numpy is not None:
        implements[numpy] = made
        if isinstance(made, Binary):
            binary[numpy] = made.apply
        made.__doc__ = made.__doc__ or numpy.__doc__
    if ours:
        registry[made.name] = made
    else:
        for pullback in filter(None, made._pullbacks):
            pullback.insist_on_arrays()
    return made


def _is_numpys(function: Callable[..., Any]) -> bool:
    module = getattr(function, "__module__", None) or "numpy"  # ufuncs have no module
    return isinstance(function, np.ufunc) or module.partition(".")[0] == "numpy"


def _is_free(function: Callable[..., Any]) -> bool:
    """Whether a NumPy function means nothing on tensors yet, or what a user has declared."""
    known = implements.get(function)
    return known is None or (isinstance(known, Primitive) and registry.get(known.name) is not known)


def _refuse_disorder(forward: Callable[..., Any], vjp: Mapping[str, Rule | None]) -> None:
    """Raise on a `vjp` that has a parameter of the forward at another place: then gradients would be mixed up."""
    if not isinstance(vjp, Mapping) or not vjp:
        raise TypeError("vjp has an entry for each input, at least one: dict(x=pullback), or x=None where there is no derivative")
    if isinstance(forward, np.ufunc):
        return
    called = list(inspect.signature(forward).parameters)
    if any(key in called and called.index(key) != place for place, key in enumerate(vjp)):
        taken = ", ".join(called[: len(vjp)])
        raise TypeError(f"vjp names the inputs as {', '.join(vjp)}, and {forward.__name__} takes them as {taken}")


def pulled(made: Primitive, *operands: Any, **params: Any) -> Any:
    """A primitive of ours inside a pullback: taped if it meets a tensor, nothing but its forward on arrays.

    Where NumPy has the operation, its protocols do just that; this serves the others. What is neither array nor tensor is
    a value of `events.py`, which writes down what is done with it.
    """
    for operand in operands:
        if isinstance(operand, Tensor):
            return made(*operands, **params)
        if hasattr(operand, "written_call"):
            return operand.written_call(made, operands, params)
    return made.forward(*operands, **params)


class Primitive:
    """An operation on arrays that the tape can differentiate. Called on tensors, it writes itself down.

    Made by `primitive`, whose arguments are its attributes. `takes_out` says that its forward can write into a given array,
    `forward(*arrays, out=buffer)`, as NumPy's ufuncs can: such a tape may be replayed on buffers that are there already.
    """

    def __init__(
        self,
        forward: Callable[..., Any],
        vjp: dict[str, Rule | None],
        name: str,
        label: str | None,
        elementwise: bool,
        moves: bool,
        several: bool,
        cut: bool,
        together: dict[str, Rule],
        on_arrays: dict[str, Rule],
        samples: Sequence[Sample],
    ) -> None:
        self.forward = forward
        self.vjp = vjp
        self.name = self.__name__ = name
        self.label = label or name
        self.elementwise = elementwise
        self.moves = moves
        self.several = several
        self.cut = cut
        self.together = together
        self.on_arrays = on_arrays
        self.samples = samples
        self.starred = next(iter(vjp)).startswith("*")
        self.inputs = tuple(key.lstrip("*") for key in vjp)
        self.differentiable = not cut and any(rule is not None for rule in vjp.values())
        self.defaults, self.by_name = _parameters(forward, 0 if self.starred else len(vjp))
        self.takes_out = isinstance(forward, np.ufunc) or "out" in inspect.signature(forward).parameters
        self._by_default = tuple(self.defaults.values())
        asked = {name for rule in vjp.values() if rule for name in names_of(rule)}
        self.shaped = tuple(i for i, key in enumerate(self.inputs) if f"{key}_shape" in asked)  # whose shapes are wanted
        self._names_more = bool(self.defaults or self.shaped or self.starred)  # than inputs and output, in a pullback
        self._pullbacks = [None if rule is None else Pullback(self, key, rule) for key, rule in vjp.items()]
        self._plans: dict[int, Plan] = {}
        self.__doc__ = forward.__doc__
        self.__wrapped__ = forward  # so that help and inspect.signature show the forward's own signature

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __call__(self, *operands: Any, **params: Any) -> Any:
        """Apply the primitive to tensors, arrays or numbers; gives a Tensor, or a tuple of them if it is `several`."""
        if len(operands) != len(self.inputs) or not params.keys() <= self.defaults.keys():
            operands, params = self._bind(operands, params)
        arrays = as_operands(operands)
        needing = 0  # a bit for each input that needs a gradient
        for i, operand in enumerate(operands):
            if isinstance(operand, Tensor) and operand.requires_grad:
                needing |= 1 << i
        try:
            y = self.forward(*arrays, **params)
        except (ValueError, TypeError, IndexError) as error:
            raise explained(error, self.name, arrays) from error
        return self._result(current(), operands, arrays, params, y, needing)

    def _result(
        self, context: Context, operands: Sequence[Any], arrays: list[Any], params: dict[str, Any], y: Any, needing: int
    ) -> Any:
        """The result as a tensor: on the tape, if an input that needs a gradient is; else bare."""
        if arrays and type(arrays[0]) in WEAK and all(type(array) in WEAK for array in arrays):
            y = _in_default_dtype(y)
        if context.observed:
            return self._observed(context, operands, arrays, params, y, needing)
        if needing and context.grad and self.differentiable:
            return self._written(context, operands, arrays, params, y, needing, True)
        return tuple(map(Tensor, y)) if self.several else Tensor(y)

    def _observed(
        self, context: Context, operands: Sequence[Any], arrays: list[Any], params: dict[str, Any], y: Any, needing: int
    ) -> Any:
        """Under `record` or `detect_anomaly`: write every operation down, with the line of the user's call."""
        source = user_line()
        if context.tape is None:
            routed = needing
        else:  # on a recording the way back is kept even where no gradient is required
            routed = sum(1 << i for i, operand in enumerate(operands) if isinstance(operand, (Tensor, np.ndarray)))
        result = self._written(
            context, operands, arrays, params, y, routed, bool(needing) and context.grad and self.differentiable
        )
        outputs = result if self.several else (result,)
        for output in outputs:
            for node in output.node.with_bundle:
                node.watch = node.watch or Watch()
                node.watch.source = source
        if context.anomaly:
            refuse_nonfinite(self.name, context.scope, source, arrays, outputs)
        if context.tape is not None:
            context.tape.write(outputs, operands, source)
        return result

    def _written(
        self,
        context: Context,
        operands: Sequence[Any],
        arrays: list[Any],
        params: dict[str, Any],
        y: Any,
        routed: int,
        requires_grad: bool,
    ) -> Any:
        """The result as a tensor, whose node holds what the pullbacks of the `routed` inputs name, and no more."""
        take, routes = self._plans.get(routed) or self._plan(routed)
        inputs = in_slots([node_of(operand) for operand in operands])
        saved = () if take is None else take(self._values(arrays, params, y))
        if self.several:
            bundle = Bundle(self.name, *inputs, params or None, routes, saved, (), None, context.scope, requires_grad)
            return results_of(bundle, y)
        return result_of(self.name, *inputs, params or None, routes, saved, y, context.scope, requires_grad)

    # ---- what is saved, and the way back --------------------------------------------------------------------------

    def _plan(self, routed: int) -> Plan:
        """What to keep of a call in which these inputs want a cotangent, and the routes back to them."""
        numbers = [i for i in range(routed.bit_length()) if routed >> i & 1]
        pulled = [(i, pullback) for i in numbers if (pullback := self.pullback(i)) is not None]
        saved = sorted({place for _, pullback in pulled for place in pullback.places})
        routes = tuple([(i, pullback, _taker([saved.index(place) for place in pullback.places])) for i, pullback in pulled])
        plan = _taker(saved), routes
        if routed < PLANS:
            self._plans[routed] = plan
        return plan

    def pullback(self, i: int) -> Pullback | None:
        """The pullback for input number i, or None if there is no derivative."""
        first = self._pullbacks[0]
        if not self.starred or first is None:
            return self._pullbacks[0 if self.starred else i]
        while len(self._pullbacks) <= i + 1:  # the one for input 0 stands at 1, behind the common one
            self._pullbacks.append(first.at(len(self._pullbacks) - 1))
        return self._pullbacks[i + 1]

    def _values(self, arrays: Sequence[Any], params: dict[str, Any], y: Any) -> Sequence[Any]:
        """All that a pullback may name, in the order that `Pullback` counts on."""
        defaults = {**self.defaults, **params}.values() if params else self._by_default
        if self.starred:
            return (tuple(arrays), y, *defaults, tuple([_shape(array) for array in arrays]))
        values = [*arrays, y, *defaults]
        for i in self.shaped:
            values.append(_shape(arrays[i]))
        return tuple(values)

    def _bind(self, operands: tuple[Any, ...], params: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Sort a call into inputs and parameters: inputs may come by name, parameters by position, as in NumPy."""
        if self.starred and params.keys() <= self.defaults.keys():
            return operands, params
        names = (*self.inputs, *self.defaults)
        if self.starred or len(operands) > len(names) - self.by_name:
            raise TypeError(
                f"{self.name} takes ({', '.join(names)}), got {len(operands)} values and {', '.join(params) or 'no names'}"
            )
        given = {**dict(zip(names, operands)), **params}
        unknown = sorted(given.keys() - set(names))
        missing = [key for key in self.inputs if key not in given]
        if unknown or missing or len(given) != len(operands) + len(params):
            problem = (
                f"has no parameter {unknown[0]!r}" if unknown else f"needs {missing[0]!r}" if missing else "got a value twice"
            )
            raise TypeError(f"{self.name} {problem}; it takes ({', '.join(names)})")
        return tuple([given[key] for key in self.inputs]), {key: given[key] for key in self.defaults if key in given}


WEAK = (float, int, bool)  # Python's numbers, whose dtype gives way to any other (NEP 50)
_MISSING: Any = object()  # an input that the call gives by name, or not at all

# Nearly all calls are of one or two inputs. For these the steps of `Primitive.__call__` and what it calls are written
# out in one piece, without loops: a small operation then costs less than half.


class Unary(Primitive):
    """A primitive of one input."""

    def __call__(self, x: Any = _MISSING, /, *more: Any, **params: Any) -> Any:
        """Apply the primitive to a tensor, an array or a number; gives a Tensor, or a tuple of them if it is `several`."""
        if x is _MISSING or more or (params and not params.keys() <= self.defaults.keys()):
            return super().__call__(*(() if x is _MISSING else (x,)), *more, **params)
        if isinstance(x, Tensor):
            array, node = x.data, x.node
            needing = node is not None and node.requires_grad
        else:
            array, node, needing = as_operand(x), None, False
        try:
            y = self.forward(array, **params) if params else self.forward(array)
        except (ValueError, TypeError, IndexError) as error:
            raise explained(error, self.name, [array]) from error
        context = current()
        if not needing or not context.plain or not self.differentiable:
            return self._result(context, (x,), [array], params, y, int(needing))
        take, routes = self._plans.get(1) or self._plan(1)
        if take is None:
            saved: Sequence[Any] = ()
        else:
            saved = take(self._values((array,), params, y) if self._names_more else (array, y))
        if self.several:
            bundle = Bundle(self.name, node, ABSENT, (), params or None, routes, saved, (), None, context.scope, True)
            return results_of(bundle, y)
        return result_of(self.name, node, ABSENT, (), params or None, routes, saved, y, context.scope, True)


class Binary(Primitive):
    """A primitive of two inputs."""

    def __call__(self, a: Any = _MISSING, b: Any = _MISSING, /, *more: Any, **params: Any) -> Any:
        """Apply the primitive to tensors, arrays or numbers; gives a Tensor."""
        if more or params or b is _MISSING or self.several:
            return super().__call__(*[operand for operand in (a, b) if operand is not _MISSING], *more, **params)
        return self.apply(a, b)

    def apply(self, a: Any, b: Any) -> Any:
        """The same for two inputs and nothing else, as the operators call it."""
        if isinstance(a, Tensor):
            first, left = a.data, a.node
            needing = 1 if left is not None and left.requires_grad else 0
        else:
            first, left, needing = as_operand(a, b.data if isinstance(b, Tensor) else None), None, 0
        if isinstance(b, Tensor):
            second, right = b.data, b.node
            if right is not None and right.requires_grad:
                needing |= 2
        else:
            second, right = as_operand(b, first), None
        try:
            y = self.forward(first, second)
        except (ValueError, TypeError, IndexError) as error:
            raise explained(error, self.name, [first, second]) from error
        context = current()
        if not needing or not context.plain or not self.differentiable:
            return self._result(context, (a, b), [first, second], {}, y, needing)
        take, routes = self._plans.get(needing) or self._plan(needing)
        if take is None:
            saved: Sequence[Any] = ()
        else:
            saved = take(self._values((first, second), {}, y) if self._names_more else (first, second, y))
        left, right = node_of(a) if left is None else left, node_of(b) if right is None else right
        return result_of(self.name, left, right, (), None, routes, saved, y, context.scope, True)


def _parameters(forward: Callable[..., Any], skip: int) -> tuple[dict[str, Any], int]:
    """The forward's parameters behind its inputs, with their defaults, and how many of them go by name only.

    `out` is none of them: tensors are not written into.
    """
    if isinstance(forward, np.ufunc):
        return {}, 0  # those of ufuncs (out, where, dtype) are none of ours
    parameters = list(inspect.signature(forward).parameters.values())
    by_position = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][skip:]
    by_name = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "out"]
    return {p.name: p.default for p in (*by_position, *by_name)}, len(by_name)


def _in_default_dtype(y: Any) -> Any:
    """The result of a call of Python's numbers alone, which have no dtype to give it."""
    if isinstance(y, tuple):
        return tuple([_in_default_dtype(part) for part in y])
    y = np.asarray(y)
    return y.astype(default_dtype()) if y.dtype.kind == "f" else y


def _taker(places: Sequence[int]) -> Taker:
    """A function that takes these places out of a tuple, as a tuple, at C speed; None for no places."""
    if len(places) == 1:  # a slice, so that one value comes as a tuple too
        return itemgetter(slice(places[0], places[0] + 1))
    return itemgetter(*places) if places else None


def _shape(array: Any) -> tuple[int, ...]:
    return array.shape if type(array) is np.ndarray else np.shape(array)  # the latter takes more than twice as long
