"""The tape: what ran, on what, in which scope. Read me first; I need nothing.

Running an operation on tensors writes a `Node`: which primitive ran, on which earlier nodes, when, and in which scope. The
nodes that lead to a value are its Wengert list (Wengert, 1964), here that of the loss L = sum(tanh(x W)):

    %0  x                   leaf            3.  dL/dx  = dL/d%2 @ W.T
    %1  W                   leaf                dL/dW  = x.T @ dL/d%2
    %2  x @ W               matmul          2.  dL/d%2 = dL/d%3 * (1 - %3 * %3)
    %3  tanh(%2)            tanh            1.  dL/d%3 = 1, for every element
    %4  sum(%3)             sum             0.  dL/d%4 = 1

The list is all there is: printing (`listing.py`) reads it from the start, on the left, and reverse mode (`sweep.py`) from the
end, on the right. The *cotangent* of a value is dL/d(value), an array of its shape. What makes the cotangent of an input out of
the cotangent of a result is the operation's *pullback* for that input, and it may need values of the forward pass: tanh's
needs its result %3, and the product's need x and W. These are what a node saves.

Nobody holds the whole list. A node holds its parents, a tensor holds its node, so what no tensor needs any more is
freed at once, and a node never points at anything younger: there are no reference cycles to wait for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np

from tinygrad_seq.scopes import Scope

if TYPE_CHECKING:
    from tinygrad_seq.pullback import Pullback
    from tinygrad_seq.recording import Recording

next_serial = itertools.count(1).__next__  # atomic under the interpreter lock: one clock for all threads

# A route says how a cotangent flows back: to which input (by number), through which pullback, and what to take for it
# out of the saved values (None: nothing). That of tanh is (0, <pullback of tanh for x>, take the only one). Routes do not
# depend on a call's numbers; the calls of a primitive share them.
Route = tuple[int, "Pullback", Callable[[Sequence[Any]], Sequence[Any]] | None]

# An edge is a route of one node: the parent, the pullback, and the values that the pullback is called with.
Edge = tuple["Node", "Pullback", Sequence[Any]]


class Node:
    """One value on the tape: an entry of the Wengert list.

    Attributes:
        serial: when it was written. A node's parents have smaller serials, so sorting by serial is a topological sort.
        op: name of the primitive that made it, or "leaf" or "constant".
        first, second, others: what the primitive was applied to: nodes, or the Python numbers written in the call; ABSENT
            where there are fewer. `inputs` gives them as one tuple, which a node does without: the garbage collector walks
            the whole tape now and then, and would have two objects to visit instead of one.
        params: what else the call said (axis=0, ...).
        routes: how the cotangent flows back; empty for a leaf, None once a backward pass has freed the node.
        saved: the values that the pullbacks need, and no others: this is what BPTT's memory is made of.
        shape, dtype: of the value.
        scope: where in the model and in time it was made.
        requires_grad: whether a backward pass may want its cotangent.
        name: a label for people, shown in print and pictures.
        watch: hooks and a retained gradient, where somebody asked for them.
    """

    __slots__ = (
        "serial", "op", "first", "second", "others", "params", "routes", "saved", "shape", "dtype", "scope", "requires_grad",
        "name", "watch", "__weakref__",
    )  # fmt: skip

    serial: int
    op: str
    first: Any
    second: Any
    others: Sequence[Any]
    params: Any
    routes: tuple[Route, ...] | None
    saved: Sequence[Any]
    shape: tuple[int, ...]
    dtype: Any
    scope: Scope
    requires_grad: bool
    name: str | None
    watch: Watch | None

    def __init__(
        self,
        op: str,
        first: Any,
        second: Any,
        others: Sequence[Any],
        params: Mapping[str, Any] | None,
        routes: tuple[Route, ...],
        saved: Sequence[Any],
        shape: tuple[int, ...],
        dtype: Any,
        scope: Scope,
        requires_grad: bool,
    ) -> None:
        self.serial = next_serial()
        self.op = op
        self.first = first
        self.second = second
        self.others = others
        self.params = params
        self.routes = routes
        self.saved = saved
        self.shape = shape
        self.dtype = dtype
        self.scope = scope
        self.requires_grad = requires_grad
        self.name = self.watch = None

    @property
    def inputs(self) -> tuple[Any, ...]:
        """What the primitive was applied to, in order: nodes, or the Python numbers written in the call."""
        if self.second is ABSENT:
            return () if self.first is ABSENT else (self.first,)
        return (self.first, self.second, *self.others)

    @inputs.setter
    def inputs(self, inputs: Sequence[Any]) -> None:
        self.first, self.second, self.others = in_slots(inputs)

    @property
    def freed(self) -> bool:
        """Whether a backward pass has let go of what this node needs to flow back."""
        return self.routes is None

    @property
    def edges(self) -> list[Edge]:
        """The routes with this node's own parents and values."""
        inputs = self.inputs
        return [(inputs[i], pullback, take(self.saved) if take else ()) for i, pullback, take in self.routes or ()]

    @property
    def parents(self) -> list[Node]:
        """Where a cotangent flows on to."""
        inputs = self.inputs
        return [inputs[i] for i, _, _ in self.routes or ()]

    @property
    def sources(self) -> list[Node]:
        """The nodes that it was computed from, those without a gradient too; of one of several outputs, the bundle."""
        return [value for value in self.inputs if isinstance(value, Node)]

    @property
    def with_bundle(self) -> tuple[Node, ...]:
        """The node itself, and for one of several outputs the bundle behind it."""
        return (self,)

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
        self.saved = self.others = ()
        self.first = self.second = ABSENT

    def __repr__(self) -> str:
        return f"<Node {self.serial} {self.describe()}>"

    def describe(self) -> str:
        """The node in words, for errors: `'h<3>' (mul, shape (4, 8), in lstm/o, t=3)`."""
        return (f"{self.name!r} " if self.name else "") + f"({self.op}, shape {self.shape}{self.scope.place})"


class Leaf(Node):
    """A value that nothing on the tape made: a parameter, an input, a constant.

    It knows its tensor only weakly. The gradient sits on the tensor, and a gradient that can itself be
    differentiated leads back to this node: a strong pointer here would close that circle.

    `learned` says that it is a `Parameter`, also when the tensor is gone.
    """

    __slots__ = ("handle", "learned")

    handle: ref[Any]
    learned: bool

    def __init__(self, handle: Any, scope: Scope, requires_grad: bool) -> None:
        data, op = handle.data, "leaf" if requires_grad else "constant"
        super().__init__(op, ABSENT, ABSENT, (), None, (), (), data.shape, data.dtype, scope, requires_grad)
        self.handle = ref(handle)
        self.learned = False

    def free(self) -> None:
        """A leaf has nothing to let go of."""


class Bundle(Node):
    """What the outputs of one call share, where there are several: the operation's inputs and routes.

    Each output is a node of its own that leads here, so that all cotangents meet in one pullback. A bundle is no
    entry of the tape, having no value, and so no shape or dtype.
    """

    __slots__ = ("shapes", "dtypes")

    shapes: tuple[tuple[int, ...], ...]  # of the outputs
    dtypes: tuple[Any, ...]

    def filled(self, cotangents: Sequence[Any]) -> list[Any]:
        """A cotangent for each output: those that there are, and zeros in place of None."""
        facts = zip(cotangents, self.shapes, self.dtypes)
        return [np.zeros(shape, dtype) if g is None else g for g, shape, dtype in facts]


class Output(Node):
    """One of several outputs of a call: its cotangent goes to its place in the bundle, which tells the rest."""

    __slots__ = ("bundle", "position")

    bundle: Bundle
    position: int

    @property
    def with_bundle(self) -> tuple[Node, ...]:
        """The output, and the bundle behind it."""
        return (self, self.bundle)

    @property
    def parents(self) -> list[Node]:
        """The bundle alone."""
        return [self.bundle]

    @property
    def sources(self) -> list[Node]:
        """The bundle alone."""
        return [self.bundle]

    saved = ()  # an output has none of these facts itself: these names stand over the slots of `Node`
    op = property(lambda self: self.bundle.op)
    inputs = property(lambda self: self.bundle.inputs)
    params = property(lambda self: self.bundle.params)
    scope = property(lambda self: self.bundle.scope)

    def free(self) -> None:
        """Mark it freed; the bundle frees itself."""
        self.routes = None


ABSENT: Any = object()  # no such input


def in_slots(inputs: Sequence[Any]) -> tuple[Any, Any, Sequence[Any]]:
    """Any number of inputs as a node holds them: first, second, others."""
    first, second = (*inputs, ABSENT, ABSENT)[:2]
    return first, second, tuple(inputs[2:])


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
