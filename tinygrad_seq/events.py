"""The backward pass, one event at a time, in words: `d h<2> += d z<3> @ W_h.T`.

An event is a step of the sweep with the names of the forward pass. Its text is not a table of formulas beside the
rules: the pullback itself is run, on values that write down what is done with them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from tinygrad_seq.errors import AutodiffError
from tinygrad_seq.pullback import Pullback
from tinygrad_seq.scopes import current, setting
from tinygrad_seq.sweep import Sweep, seed, sweeping, term_of
from tinygrad_seq.tape import Edge, Node, Output
from tinygrad_seq.tensor import Tensor, as_array

if TYPE_CHECKING:
    from tinygrad_seq.listing import Entry
    from tinygrad_seq.recording import Recording


def events(recording: Recording, loss: Tensor, gradient: Any, through_cuts: bool) -> Iterator[Event]:
    """The sweep from `loss` as events, lazily. Between two events nothing of ours is switched."""
    if loss.node is None or not (loss.requires_grad or through_cuts):
        raise AutodiffError(f"a sweep from a tensor of shape {loss.shape} that does not depend on anything requiring a gradient")
    sweep = Sweep({loss.node: seed(loss, gradient)}, careful=True, through_cuts=through_cuts, reread=True)
    steps = iter(sweep)

    def each() -> Iterator[Event]:
        while True:
            with setting(**sweeping(current(), False)), np.errstate(all="ignore"):
                node, cotangent = next(steps, (None, None))
            if node is None:
                return
            if node in recording.index and not isinstance(node, Output):
                yield Event(recording, node, cotangent, live_edges(node, sweep.live))

    return each()


def live_edges(node: Node, live: Collection[Node]) -> list[Edge]:
    """The edges along which a sweep goes on from a node; taken now, since a backward pass may free the node."""
    return [edge for edge in node.edges if edge[0] in live]


class Event:
    """One step of a backward pass: a value's cotangent is known, and flows on to what the value was computed from.

    For a call with several outputs there is one event, that of the first output, whose cotangent is the tuple of all.

    Attributes:
        index: the entry's index on the tape.
        cotangent: dL/d(value) as an array.
    """

    __slots__ = ("_recording", "_edges", "_node", "index", "cotangent")

    def __init__(self, recording: Recording, node: Node, cotangent: Any, edges: Sequence[Edge]) -> None:
        self._recording = recording
        self._node = node
        self._edges = edges
        self.index = recording.index[node]
        self.cotangent = tuple(map(as_array, cotangent)) if isinstance(cotangent, list) else as_array(cotangent)

    @property
    def entry(self) -> Entry:
        """The entry whose cotangent this is."""
        from tinygrad_seq.listing import Entry

        return Entry(self._recording, self.index)

    @property
    def node(self) -> Node:
        """The node whose pullbacks run here: the entry's own or, for a call with several outputs, what they share."""
        return self._node

    @property
    def edges(self) -> list[Edge]:
        """The edges along which the cotangent flows on: (parent, pullback, the values that the pullback is called with)."""
        return list(self._edges)

    @property
    def given(self) -> Any:
        """The cotangent as pullbacks take it: a list for a call with several outputs."""
        return list(self.cotangent) if isinstance(self.cotangent, tuple) else self.cotangent

    @property
    def inputs(self) -> list[int]:
        """Indices of the entries that the cotangent flows on to, one for each use."""
        return [self._recording.index[parent] for parent, _, _ in self._edges if parent in self._recording.index]

    @property
    def terms(self) -> list[tuple[int, Any]]:
        """For each input, its index and what flows to it from here: a part of its cotangent, of its shape."""
        return [
            (self._recording.index[edge[0]], term_of(self._node, self.given, edge))
            for edge in self._edges
            if edge[0] in self._recording.index
        ]

    @property
    def lines(self) -> list[str]:
        """For each input, what is added to its cotangent: `d h<2> += d z<3> @ W_h.T`."""
        return [
            f"d {self._label(self._recording.index.get(edge[0]))} += {self._expression(edge[1], edge[2])}"
            for edge in self._edges
            if edge[0] in self._recording.index
        ]

    def __str__(self) -> str:
        return "\n".join(self.lines) or f"d {self.entry.label}"

    def __repr__(self) -> str:
        return f"<Event {self.index}: {'; '.join(self.lines) or 'd ' + self.entry.label}>"

    def _label(self, index: int | None) -> str:
        from tinygrad_seq.listing import Entry

        return "…" if index is None else Entry(self._recording, index).label

    def _expression(self, pullback: Pullback, saved: Sequence[Any]) -> str:
        """The pullback, run on values that write down what is done with them."""
        g: Any
        if isinstance(self.cotangent, tuple):
            places = self._recording.outputs[self._node]
            g = [Written(part, f"d {self._label(places[i])}" if i in places else "0") for i, part in enumerate(self.cotangent)]
        else:
            g = Written(self.cotangent, f"d {self.entry.label}")
        given = [self._written(value, source) for value, source in zip(saved, pullback.sources)]
        try:
            with np.errstate(all="ignore"):
                result = pullback.function(g, *given)
        except Exception:  # a rule that does more than arithmetic on its arguments: name it
            result = None
        if isinstance(result, Written):
            return result.text
        names = [part.text for part in (g if isinstance(g, list) else [g])] + [v.text for v in given if isinstance(v, Written)]
        return f"pullback of {pullback.op}({', '.join(names)})"

    def _written(self, value: Any, source: int | None) -> Any:
        if source is None:
            return value
        if type(value) in (int, float, bool):
            return value  # a number written in the call stands for itself, and rules may ask what it is
        if source == Pullback.ALL_INPUTS:
            return tuple(self._written(part, i) for i, part in enumerate(value))
        place = self.index if source == Pullback.OUTPUT else self._recording.inputs[self.index][source]
        return value if place is None else Written(value, self._label(place))


# ---- values that write down what is done with them --------------------------------------------------------------------

_INFIX = {
    np.equal: ("==", 0), np.not_equal: ("!=", 0), np.less: ("<", 0), np.greater: (">", 0),
    np.less_equal: ("<=", 0), np.greater_equal: (">=", 0), np.add: ("+", 1), np.subtract: ("-", 1),
    np.multiply: ("*", 2), np.divide: ("/", 2), np.matmul: ("@", 2), np.power: ("**", 4),
}  # fmt: skip
_UNARY, _ATOM = 3, 9


class Written(NDArrayOperatorsMixin):
    """A value with the text of the expression that gave it, and how tightly that expression binds."""

    def __init__(self, value: Any, text: str, binds: int = _ATOM) -> None:
        self.value = value
        self.text = text
        self.binds = binds

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        value = getattr(ufunc, method)(*map(_bare, args), **kwargs)
        if method != "__call__":
            return Written(value, f"{ufunc.__name__}.{method}({_listed(args, kwargs)})")
        if ufunc is np.add and any(_is_zero(arg) for arg in args):
            return Written(value, *next((arg.text, arg.binds) for arg in args if isinstance(arg, Written)))  # it only stretches
        if ufunc in _INFIX:
            sign, binds = _INFIX[ufunc]
            return Written(value, f"{_inside(args[0], binds)} {sign} {_inside(args[1], binds + 1)}", binds)
        if ufunc is np.negative:
            return Written(value, f"-{_inside(args[0], _UNARY)}", _UNARY)
        return Written(value, f"{ufunc.__name__}({_listed(args, kwargs)})")

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        value = function(*map(_bare, args), **{key: _bare(arg) for key, arg in kwargs.items()})
        text = f"{function.__name__}({_listed(args, kwargs)})"
        return Written(value, text) if isinstance(value, (np.ndarray, np.generic)) else value

    def written_call(self, made: Any, operands: Sequence[Any], params: dict[str, Any]) -> Written:
        """A call of one of our primitives."""
        return Written(made.forward(*map(_bare, operands), **params), f"{made.name}({_listed(operands, params)})")

    def __getattr__(self, name: str) -> Any:
        """Attributes and methods of the array: those that give arrays are written down, `.shape` and its kin are not."""
        found = getattr(self.value, name)
        if isinstance(found, np.ndarray):
            return Written(found, f"{_inside(self, _ATOM)}.{name}")
        if not callable(found):
            return found
        return lambda *args, **kwargs: Written(
            found(*map(_bare, args), **kwargs), f"{_inside(self, _ATOM)}.{name}({_listed(args, kwargs)})"
        )

    def __getitem__(self, index: Any) -> Written:
        text = ", ".join(map(_text, index)) if isinstance(index, tuple) and index else _text(index)
        return Written(self.value[_bare(index)], f"{_inside(self, _ATOM)}[{text}]")

    def __len__(self) -> int:
        return len(self.value)


def _bare(value: Any) -> Any:
    """The value without the text, inside lists and tuples too."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(_bare, value))
    return value.value if isinstance(value, Written) else value


def _is_zero(value: Any) -> bool:
    return isinstance(value, np.ndarray) and not value.any()


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_text, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, slice):
        step = "" if value.step is None else f":{value.step}"
        return f"{'' if value.start is None else value.start}:{'' if value.stop is None else value.stop}{step}"
    if value is Ellipsis:
        return "..."
    if isinstance(value, Written):
        return value.text
    if isinstance(value, np.ndarray) and value.size and (value == value.flat[0]).all():
        return f"{value.flat[0]:g}"  # an array of zeros, say
    return "…" if isinstance(value, np.ndarray) else str(value)


def _inside(value: Any, binds: int) -> str:
    text = _text(value)
    return f"({text})" if isinstance(value, Written) and value.binds < binds else text


def _listed(args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    return ", ".join([*map(_text, args), *[f"{key}={_text(value)}" for key, value in kwargs.items()]])
