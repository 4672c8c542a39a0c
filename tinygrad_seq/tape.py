"""The tape: what ran, on what, in which scope. Read me first; I need nothing.

Running an operation on tensors writes a `Node`: which primitive ran, on which earlier nodes, when, and in which
scope. The nodes that lead to a value are its Wengert list (Wengert, 1964), and the list is all there is: the
backward pass (`sweep.py`) reads it from the end, printing (`listing.py`) from the start.

Nobody holds the whole list. A node holds its parents, a tensor holds its node, so what no tensor needs any more is
freed at once, and a node never points at anything younger: there are no reference cycles to wait for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar, Token
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import ref

import numpy as np

if TYPE_CHECKING:
    from tinygrad_seq.pullback import Pullback
    from tinygrad_seq.recording import Recording

next_serial = itertools.count(1).__next__  # atomic under the interpreter lock: one clock for all threads

# A route says how a cotangent flows back: to which input (by number), through which pullback, and what to take for it
# out of the saved values (None: nothing). Routes do not depend on a call's numbers; the calls of a primitive share them.
Route = tuple[int, "Pullback", Callable[[Sequence[Any]], Sequence[Any]] | None]

# An edge is a route of one node: the parent, the pullback, and the values that the pullback is called with.
Edge = tuple["Node", "Pullback", Sequence[Any]]


class Node:
    """One value on the tape: an entry of the Wengert list.

    Attributes:
        serial: when it was written. A node's parents have smaller serials, so sorting by serial is a topological sort.
        op: name of the primitive that made it, or "leaf" or "constant".
        inputs: what the primitive was applied to, in order: nodes, or the Python numbers written in the call.
        params: what else the call said (axis=0, ...).
        routes: how the cotangent flows back; empty for a leaf, None once a backward pass has freed the node.
        saved: the values that the pullbacks need, and no others: this is what BPTT's memory is made of.
        shape, dtype: of the value.
        scope: where in the model and in time it was made.
        name: a label for people, shown in print and pictures.
        watch: hooks and a retained gradient, where somebody asked for them.
    """

    __slots__ = (
        "serial", "op", "inputs", "params", "routes", "saved", "shape", "dtype", "scope", "requires_grad", "name", "watch",
        "__weakref__",
    )  # fmt: skip

    serial: int
    op: str
    inputs: Any
    params: Any
    routes: tuple[Route, ...] | None
    saved: Sequence[Any]
    shape: tuple[int, ...]
    dtype: Any
    scope: Scope
    requires_grad: bool
    name: str | None
    watch: Watch | None

    @property
    def freed(self) -> bool:
        """Whether a backward pass has let go of what this node needs to flow back."""
        return self.routes is None

    @property
    def time_axis(self) -> int | None:
        """Which axis of the value is time, where the scope says that the operation ran over all of time at once."""
        axis = self.scope.time_axis
        return axis if axis is not None and axis < len(self.shape) else None

    @property
    def edges(self) -> list[Edge]:
        """The routes with this node's own parents and values."""
        return [(self.inputs[i], pullback, pick(self.saved) if pick else ()) for i, pullback, pick in self.routes or ()]

    @property
    def parents(self) -> list[Node]:
        """Where a cotangent flows on to."""
        return [self.inputs[i] for i, _, _ in self.routes or ()]

    @property
    def saved_arrays(self) -> Iterator[Any]:
        """The arrays among the saved values, those in tuples too."""
        stack = list(self.saved)
        while stack:
            value = stack.pop()
            if isinstance(value, (tuple, list)):
                stack += value
            elif isinstance(value, np.ndarray):
                yield value

    def free(self) -> None:
        """Let go of the inputs and of what the pullbacks would need."""
        self.routes = None
        self.saved = self.inputs = ()

    def __repr__(self) -> str:
        return f"<Node {self.serial} {self.describe()}>"

    def describe(self) -> str:
        """The node in words, for errors: `'h<3>' (mul, shape (4, 8), in lstm/o, t=3)`."""
        return (f"{self.name!r} " if self.name else "") + f"({self.op}, shape {self.shape}{self.scope.place})"


class Leaf(Node):
    """A value that nothing on the tape made: a parameter, an input, a constant.

    It knows its tensor only weakly. The gradient sits on the tensor, and a gradient that can itself be
    differentiated leads back to this node: a strong pointer here would close that circle.

    `overwritten` is the time of the last in-place update, `last_overwritten` that of any leaf; a pass through operations
    older than that, which saved the array, would read numbers from the future.

    `learned` says that it is a `Parameter`, also when the tensor is gone.
    """

    __slots__ = ("handle", "overwritten", "learned")

    last_overwritten: ClassVar[int] = 0

    handle: ref[Any]
    overwritten: int
    learned: bool

    def free(self) -> None:
        """A leaf has nothing to let go of."""


class Bundle(Node):
    """What the outputs of one call share, where there are several: the operation's inputs and routes.

    Each output is a node of its own that leads here, so that all cotangents meet in one pullback. A bundle is no
    entry of the tape, having no value.
    """

    __slots__ = ("shapes", "dtypes")

    shapes: list[tuple[int, ...]]  # of the outputs
    dtypes: list[Any]

    @property
    def zeros(self) -> list[Any]:
        """A cotangent of zero for each output."""
        return [np.zeros(shape, dtype) for shape, dtype in zip(self.shapes, self.dtypes)]


class Output(Node):
    """One of several outputs of a call: its cotangent goes to its place in the bundle, which tells the rest."""

    __slots__ = ("bundle", "position")

    bundle: Bundle
    position: int

    @property
    def parents(self) -> list[Node]:
        """The bundle alone."""
        return [self.bundle]

    op = property(lambda self: self.bundle.op)
    inputs = property(lambda self: self.bundle.inputs)
    params = property(lambda self: self.bundle.params)
    scope = property(lambda self: self.bundle.scope)

    def free(self) -> None:
        """Mark it freed; the bundle frees itself."""
        self.routes = None


# Nodes are written by functions: a class with an `__init__` takes half as long again, and this is the hot path.

_new: Callable[[type[Any]], Any] = object.__new__


def noted(
    op: str,
    inputs: Sequence[Any],
    params: Mapping[str, Any] | None,
    routes: tuple[Route, ...],
    saved: Sequence[Any],
    shape: tuple[int, ...],
    dtype: Any,
    scope: Scope,
    requires_grad: bool,
    kind: type[Node] = Node,
) -> Any:
    """Write a node, the next in the order of execution; the arguments are its attributes."""
    node = _new(kind)
    node.serial = next_serial()
    node.op = op
    node.inputs = inputs
    node.params = params
    node.routes = routes
    node.saved = saved
    node.shape = shape
    node.dtype = dtype
    node.scope = scope
    node.requires_grad = requires_grad
    node.name = node.watch = None
    return node


def noted_leaf(handle: Any, scope: Scope, requires_grad: bool) -> Leaf:
    """Write the node of a tensor that nothing on the tape made."""
    data, op = handle.data, "leaf" if requires_grad else "constant"
    node: Leaf = noted(op, (), None, (), (), data.shape, data.dtype, scope, requires_grad, Leaf)
    node.handle = ref(handle)
    node.overwritten = 0
    node.learned = False
    return node


def noted_bundle(
    op: str, inputs: Any, params: Any, routes: Any, saved: Any, scope: Scope, requires_grad: bool
) -> Bundle:
    """Write what the outputs of one call will share."""
    node: Bundle = noted(op, inputs, params, routes, saved, (), None, scope, requires_grad, Bundle)
    return node


def noted_outputs(of: Bundle, arrays: Sequence[Any]) -> list[Output]:
    """Write all outputs of a call; a second time, for a sweep that is taped, nodes that lead to the same bundle."""
    nodes: list[Output] = []
    live = of.requires_grad
    of.shapes = [array.shape for array in arrays]
    of.dtypes = [array.dtype for array in arrays]
    for shape, dtype in zip(of.shapes, of.dtypes):
        node: Output = _new(Output)
        node.serial = next_serial()
        node.routes = node.saved = ()
        node.shape = shape
        node.dtype = dtype
        node.requires_grad = live and dtype.kind == "f"
        node.name = node.watch = None
        node.bundle = of
        node.position = len(nodes)
        nodes.append(node)
    return nodes


class Watch:
    """What somebody asked to know of a node. Most nodes have none.

    Attributes:
        hooks: functions to call with the node's cotangent.
        handle: the tensor that wants to keep its gradient (weakly, like all of it).
        tapes: the recordings that the node is on, the innermost first.
        source: "file:line" of the user's call.
        spent: a backward pass has run, and only the recording still keeps the node from being freed.
    """

    __slots__ = ("hooks", "handle", "tapes", "source", "spent")

    def __init__(self) -> None:
        self.hooks: dict[int, Callable[[Any], Any]] = {}
        self.handle: ref[Any] | None = None
        self.tapes: tuple[ref[Recording], ...] = ()
        self.source = ""
        self.spent = False

    def recordings(self) -> list[Recording]:
        """The recordings that the node is on and that still exist."""
        return [recording for tape in self.tapes if (recording := tape()) is not None]


# ---- scopes: where in the model, and when ---------------------------------------------------------------------------


class Scope:
    """A place in the model and a moment in time; scopes nest, and a nested one inherits step and tags.

    Attributes:
        t: the step, counted from the start of the sequence.
        time_axis: which axis of a result is time; index 0 of it is step `steps_from`.
        steps_from: from which step on the scopes inside count.
    """

    __slots__ = ("parent", "part", "t", "time_axis", "steps_from", "own_tags")

    def __init__(
        self,
        parent: Scope | None,
        part: str,
        t: int | None,
        time_axis: int | None,
        steps_from: int | None,
        tags: dict[str, Any],
    ) -> None:
        self.parent = parent
        self.part = part
        inherited = 0 if parent is None else parent.steps_from
        self.steps_from: int = inherited if steps_from is None else steps_from
        self.t: int | None = None if parent is None else parent.t
        if t is not None:
            self.t = int(t) + self.steps_from
        inherits = parent is not None and t is None and time_axis is None
        self.time_axis: int | None = parent.time_axis if inherits and parent is not None else time_axis
        self.own_tags = tags

    @property
    def parts(self) -> tuple[str, ...]:
        """The names from the outermost scope to this one."""
        parts = []
        scope: Scope | None = self
        while scope is not None:
            if scope.part:
                parts.append(scope.part)
            scope = scope.parent
        return tuple(reversed(parts))

    @property
    def path(self) -> str:
        """The names joined: `encoder/lstm/f`."""
        return "/".join(self.parts)

    @property
    def place(self) -> str:
        """The scope as a clause of an error message: `, in lstm/f, t=3`, or nothing outside of all scopes."""
        return (f", in {self.path}" if self.path else "") + (f", t={self.t}" if self.t is not None else "")

    @property
    def tags(self) -> dict[str, Any]:
        """All tags that hold here, inner ones over outer ones."""
        chain = []
        scope: Scope | None = self
        while scope is not None:
            chain.append(scope.own_tags)
            scope = scope.parent
        return {key: value for tags in reversed(chain) for key, value in tags.items()}

    def is_called(self, name: str) -> bool:
        """Whether this is a part's name, or an alias of one (the tag `alias`)."""
        scope: Scope | None = self
        while scope is not None:
            if name == scope.part or name in scope.own_tags.get("alias", ()):
                return name != ""
            scope = scope.parent
        return False

    def __repr__(self) -> str:
        step = "" if self.t is None else f", t={self.t}"
        return f"Scope({self.path!r}{step})"


class scope:
    """Say where in the model, and at which step, the operations inside are.

    Args:
        name: a part of the model ("encoder", "lstm", "f").
        t: the step in time, counted from 0; inherited by the scopes inside.
        time_axis: for an operation over all of time at once: which axis of its result is time.
        steps_from: for a piece of a longer sequence: the step that it starts at. Inside, t and the time axis count from there,
            so that the tape tells the steps of the whole. Inner scopes inherit it.
        **tags: what drawing reads: layer, direction, part, role, valid.

    Example:
        >>> import tinygrad_seq as tg
        >>> with tg.scope("cell", t=3):
        ...     y = tg.tensor([1.0], requires_grad=True) * 2
        >>> y.scope
        Scope('cell', t=3)
    """

    __slots__ = ("_name", "_t", "_time_axis", "_steps_from", "_tags", "_tokens")

    def __init__(
        self, name: str, t: int | None = None, time_axis: int | None = None, steps_from: int | None = None, **tags: Any
    ) -> None:
        if time_axis is not None and time_axis < 0:
            raise ValueError(f"time_axis={time_axis}: count it from the front, for results of any number of axes")
        self._name = name
        self._t = t
        self._time_axis = time_axis
        self._steps_from = steps_from
        self._tags = tags
        self._tokens: list[Token[Context]] = []  # one for each block that is open

    def __enter__(self) -> Scope:
        outer = _context.get()
        inner = Scope(outer.scope, self._name, self._t, self._time_axis, self._steps_from, self._tags)
        self._tokens.append(_context.set(Context(outer.grad, inner, outer.tape, outer.anomaly, outer.mask_zeros)))
        return inner

    def __exit__(self, *exc: object) -> None:
        _context.reset(self._tokens.pop())


# ---- what a user can switch -----------------------------------------------------------------------------------------


class Context:
    """The settings under which operations run: immutable, one per context (thread, task), replaced as a whole."""

    __slots__ = ("grad", "scope", "tape", "anomaly", "mask_zeros", "observed", "plain")

    def __init__(self, grad: bool, scope: Scope, tape: Recording | None, anomaly: bool, mask_zeros: bool) -> None:
        self.grad = grad
        self.scope = scope
        self.tape = tape
        self.anomaly = anomaly
        self.mask_zeros = mask_zeros
        self.observed = tape is not None or anomaly
        self.plain = grad and not self.observed  # one test on the hot path instead of three

    def but(self, **changes: Any) -> Context:
        """This context with some settings changed."""
        settings = {name: getattr(self, name) for name in ("grad", "scope", "tape", "anomaly", "mask_zeros")}
        return Context(**(settings | changes))


NOWHERE = Scope(None, "", None, None, None, {})
_DEFAULT = Context(True, NOWHERE, None, False, True)
_context: ContextVar[Context] = ContextVar("tinygrad_seq", default=_DEFAULT)
current: Callable[[], Context] = _context.get


class setting:
    """Run the block, or the function that it decorates, under a changed context. Settings change here and in `scope` only."""

    __slots__ = ("_changes", "_tokens")

    def __init__(self, **changes: Any) -> None:
        self._changes = changes
        self._tokens: list[Token[Context]] = []  # one for each block that is open

    def __enter__(self) -> None:
        self._tokens.append(_context.set(_context.get().but(**self._changes)))

    def __exit__(self, *exc: object) -> None:
        _context.reset(self._tokens.pop())

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, run in a block of its own at each call."""

        @wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with setting(**self._changes):
                return function(*args, **kwargs)

        return inside


def no_grad() -> setting:
    """Operations inside leave no trace for a backward pass. A context manager and a decorator."""
    return setting(grad=False)


def enable_grad() -> setting:
    """Operations inside are taped again, inside `no_grad`."""
    return setting(grad=True)


def detect_anomaly(mask_zeros: bool = True) -> setting:
    """Raise on the first value that is not finite, forward or backward, with operation, scope, step and the user's line.

    Args:
        mask_zeros: see `mask_zeros`; False also finds what that rule hides.
    """
    return setting(anomaly=True, mask_zeros=mask_zeros)


def mask_zeros(enabled: bool) -> setting:
    """Whether a cotangent of exactly zero stays zero where an elementwise derivative is not finite. It does, by default.

    That is what makes `np.where(x > 0, np.log(x), 0)` safe. Switched off, 0 times infinity is NaN, as in NumPy.
    """
    return setting(mask_zeros=enabled)
