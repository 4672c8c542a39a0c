"""The tape as something to look at: indexed, sliced, searched, printed. Read `recording.py` first.

`record()` writes every operation of a block into a `Recording`; `tape(loss)` makes one of what led to a value. A
`Tape` is a view of a recording: all its entries, or some of them, each with the index that it has in the whole.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter, index
from typing import Any, overload

import numpy as np

from tinygrad_seq.errors import FreedGraphError
from tinygrad_seq.events import Event, events
from tinygrad_seq.explain import told, whole
from tinygrad_seq.over_time import axis_of_time, weights_alone
from tinygrad_seq.reach import reachable
from tinygrad_seq.recording import Recording
from tinygrad_seq.scopes import current, setting
from tinygrad_seq.tape import Bundle, Leaf, Node
from tinygrad_seq.tensor import Tensor, node_of


@contextmanager
def record() -> Iterator[Tape]:
    """Keep every value that is computed in the block and, once a backward pass has run, every cotangent.

    Operations that need no gradient are recorded too, `detach` as a cut. The backward pass may run inside the block
    or after it; its own operations (`create_graph=True`) go to `tape.backward`.

    Example:
        >>> import numpy as np, tinygrad_seq as tg
        >>> x = tg.tensor([0.5], requires_grad=True, name="x")
        >>> with tg.record() as tape:
        ...     y = np.tanh(x).sum()
        >>> y.backward()
        >>> tape.find("tanh")[0].grad
        array([1.], dtype=float32)
    """
    recording = Recording(outer=current().tape)
    with setting(tape=recording):
        yield Tape(recording)


def tape(*results: Tensor) -> Tape:
    """The tape of all that led to these tensors, in order of execution.

    Values are there as far as somebody keeps them: those of tensors that still exist and those saved for the
    backward pass. `record` keeps all.

    Raises:
        TypeError: something else than tensors.
        FreedGraphError: a backward pass has freed the graph.
    """
    for result in results:
        _refuse_others("tg.tape", result)
    recording = Recording()
    for node in sorted(reachable([node_of(result) for result in results], _read), key=attrgetter("serial")):
        if not isinstance(node, (Leaf, Bundle)):
            recording.enter(node)
    for result in results:
        recording.enter(node_of(result))
        recording.values[recording.index[node_of(result)]] = result.data
    recording.look_for_values()
    return Tape(recording)


class Tape:
    """A list of entries: `len`, index, iterate, slice, `at`, `find`, print. Entries keep their index in the whole."""

    def __init__(self, recording: Recording, indices: Sequence[int] | None = None, step: int | None = None) -> None:
        self._recording = recording
        self._indices = indices  # None: all, also those still to come
        self._step = step  # of the entries over all of time, the part that is shown

    @property
    def indices(self) -> Sequence[int]:
        """Which entries of the whole tape these are."""
        return range(len(self._recording.nodes)) if self._indices is None else self._indices

    @property
    def whole(self) -> Tape:
        """The tape that this is a part of; `entry.inputs` are indices of it."""
        return Tape(self._recording)

    @property
    def nodes(self) -> list[Node]:
        """The nodes of the entries."""
        return [self._recording.nodes[i] for i in self.indices]

    @property
    def backward(self) -> Tape:
        """What a backward pass with `create_graph=True` wrote while this tape was recorded."""
        return Tape(self._recording.backward)

    @property
    def events(self) -> list[Event]:
        """The steps of the backward passes that this tape witnessed, in their order."""
        wanted = set(self.indices)
        return [Event(self._recording, *step) for step in self._recording.steps if self._recording.index[step[0]] in wanted]

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, place: int) -> Entry: ...
    @overload
    def __getitem__(self, place: slice) -> Tape: ...
    def __getitem__(self, place: int | slice) -> Entry | Tape:
        """An entry, by its place on this tape, or a part of it."""
        try:
            chosen = self.indices[place if isinstance(place, slice) else index(place)]
        except TypeError:
            raise TypeError(f"entries are numbered, and {place!r} is no number; tape.find(name) goes by name") from None
        except IndexError:
            size = f"{len(self)} entries" if len(self) else "no entries: nothing was found, or recorded"
            raise IndexError(f"there is no entry {place} on this tape of {size}") from None
        return self._entry(chosen) if isinstance(chosen, int) else Tape(self._recording, chosen, self._step)

    def __iter__(self) -> Iterator[Entry]:
        return map(self._entry, self.indices)

    def _entry(self, i: int) -> Entry:
        return Entry(self._recording, i, self._step if self._recording.nodes[i].scope.t is None else None)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, Tensor) and value.node is not None and self._recording.index.get(value.node) in self.indices

    def at(self, t: int | None) -> Tape:
        """The entries of step t (None: those outside of time).

        Of an operation over all of time at once (`tg.scope(..., time_axis=0)`), the entry has that step's part of the value.
        """
        t = None if t is None else whole("the step t", t)
        lengths = self._over_time()
        if t is None:
            return Tape(self._recording, [entry.index for entry in self if entry.t is None and entry.index not in lengths])
        spans = {i for i, (first, length) in lengths.items() if first <= t < first + length}
        return Tape(self._recording, [entry.index for entry in self if entry.t == t or entry.index in spans], t)

    def _over_time(self) -> dict[int, tuple[int, int]]:
        """By index, the first step and how many there are, of the operations over all of time."""
        found: dict[int, tuple[int, int]] = {}
        weights: set[Node] | None = None
        for entry in self:
            node = entry.node
            if entry.t is None and not isinstance(node, Leaf) and (axis := axis_of_time(node)) is not None:
                weights = weights_alone(self._recording.nodes) if weights is None else weights
                if node not in weights:
                    found[entry.index] = node.scope.steps_from, node.shape[axis]
        return found

    def find(self, name: str, t: int | None = None) -> Tape:
        """The entries with this op, tensor name, or part of the scope (or an alias of it), exactly; at step t, if given.

        `find("h", t=3)` finds "h<3>", too: names of values in time end in their step.
        """
        _refuse_no_name(name)
        at_t = self if t is None else self.at(t)
        found = [entry.index for entry in at_t if entry.is_called(name) or entry.name == f"{name}<{t}>"]
        return Tape(self._recording, found, at_t._step)

    def entry_of(self, tensor: Tensor) -> Entry:
        """The entry of a tensor; KeyError if it is not on the tape."""
        _refuse_others("entry_of", tensor)
        if tensor.node is None or tensor.node not in self._recording.index:
            raise KeyError(f"this tensor of shape {tensor.shape} is not on the tape")
        return Entry(self._recording, self._recording.index[tensor.node])

    def sweep(self, loss: Tensor, gradient: Any = None, through_cuts: bool = False) -> Iterator[Event]:
        """The backward pass from `loss`, one event for each entry that a cotangent reaches. Changes nothing.

        Args:
            loss: where to start; its graph must not have been freed.
            gradient: the cotangent of `loss`; 1, if it has a single element.
            through_cuts: pass `detach` as if it were not there (on a recorded tape).
        """
        _refuse_others("sweep", loss)
        return events(self._recording, loss, gradient, through_cuts)

    def __repr__(self) -> str:
        return f"<Tape of {len(self)} entries>"

    def __str__(self) -> str:
        return table(self)

    def _repr_html_(self) -> str:
        rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells(entry)) + "</tr>" for entry in self)
        return f"<table><tr>{''.join(f'<th>{title}</th>' for title in TITLES)}</tr>{rows}</table>"


class Entry:
    """One line of a tape: which operation made which value from which, where and when.

    `Tape.at` gives of an operation over all of time the entry of one step: `t`, `shape`, `value` and `grad` are that step's.
    """

    __slots__ = ("_recording", "index", "_step")

    def __init__(self, recording: Recording, index: int, step: int | None = None) -> None:
        self._recording = recording
        self.index = index
        self._step = step

    def _of_step(self, array: Any) -> Any:
        """Of an array over all of time, the part that is this entry's."""
        axis = axis_of_time(self.node)
        if self._step is None or axis is None or array is None:
            return array
        return array[(slice(None),) * axis + (self._step - self.node.scope.steps_from,)]

    @property
    def node(self) -> Node:
        """The node of the graph."""
        return self._recording.nodes[self.index]

    @property
    def op(self) -> str:
        """Name of the primitive, or "leaf" or "constant"."""
        return str(self.node.op)

    @property
    def name(self) -> str | None:
        """The name given to the tensor, or None."""
        return self.node.name

    @property
    def label(self) -> str:
        """The name, the number if it is a constant of one element, or `%17` for entry 17."""
        value = self.value
        if self.name is None and self.op == "constant" and value is not None and value.ndim == 0:
            return f"{value.item():.6g}"
        return self.name or f"%{self.index}"

    @property
    def scope(self) -> str:
        """The parts of the scope, joined by slashes; "" outside of all scopes."""
        return str(self.node.scope.path)

    @property
    def tags(self) -> dict[str, Any]:
        """The scope's tags: layer, direction, part, role, valid."""
        return self.node.scope.tags

    @property
    def t(self) -> int | None:
        """The step in time, from 0; None outside of time."""
        return self.node.scope.t if self._step is None else self._step

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        axis = axis_of_time(self.node)
        if self._step is None or axis is None:
            return self.node.shape
        return self.node.shape[:axis] + self.node.shape[axis + 1 :]

    @property
    def dtype(self) -> Any:
        """Dtype of the value."""
        return self.node.dtype

    @property
    def params(self) -> dict[str, Any]:
        """What else the call said: `{"axis": 0}`."""
        return self._recording.params[self.index]

    @property
    def requires_grad(self) -> bool:
        """Whether a backward pass can reach it."""
        return self.node.requires_grad

    @property
    def inputs(self) -> tuple[int, ...]:
        """Indices of the entries that it was computed from, in the order of the call."""
        return tuple([i for i in self._recording.inputs[self.index] if i is not None])

    @property
    def value(self) -> np.ndarray[Any, Any] | None:
        """The value, or None where nobody kept it."""
        value: np.ndarray[Any, Any] | None = self._of_step(self._recording.value_of(self.index))
        return value

    @property
    def grad(self) -> np.ndarray[Any, Any] | None:
        """The cotangent that backward passes brought here, added up, or None where none was computed."""
        grad: np.ndarray[Any, Any] | None = self._of_step(self._recording.cotangents.get(self.index))
        return grad

    @property
    def source(self) -> str | None:
        """The user's line, "file:line", when recording."""
        return self._recording.sources[self.index]

    @property
    def saved_bytes(self) -> int:
        """Bytes that this entry (for all steps) keeps alive for the backward pass and no earlier one does; no weights."""
        return self._recording.saved_bytes[self.index]

    def is_called(self, name: str) -> bool:
        """Whether this is its op, its tensor's name, a part of its scope, or an alias of such a part."""
        return name in (self.op, self.name) or self.node.scope.is_called(name)

    def __repr__(self) -> str:
        inputs = ", ".join(Entry(self._recording, i).label for i in self.inputs)
        return f"<Entry {self.index}: {self.label} = {self.op}({inputs}) {self.shape}>"


# ---- printing -------------------------------------------------------------------------------------------------------

TITLES = ("#", "t", "scope", "name", "op", "inputs", "shape", "saved")


def cells(entry: Entry) -> tuple[str, ...]:
    """An entry as the cells of a row."""
    shown = entry.inputs if len(entry.inputs) <= 6 else (*entry.inputs[:3], *entry.inputs[-1:])
    labels = [Entry(entry._recording, i).label for i in shown]
    inputs = " ".join(labels if len(shown) == len(entry.inputs) else [*labels[:3], f"… {len(entry.inputs)} in all …", labels[3]])
    step = "" if entry.t is None else str(entry.t)
    saved = f"{entry.saved_bytes:,}" if entry.saved_bytes else ""
    shape = "×".join(map(str, entry.shape)) or "·"
    return (
        str(entry.index),
        step,
        entry.scope,
        entry.label if entry.label[0] != "%" else "",
        entry.op,
        inputs,
        shape,
        saved,
    )


def table(entries: Iterable[Entry]) -> str:
    """Entries as aligned rows: index, step, scope, name, op, inputs, shape, bytes saved."""
    rows = [TITLES, *map(cells, entries)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(TITLES))]
    right = {0, 1, len(TITLES) - 1}
    lines = (
        "  ".join(c.rjust(w) if k in right else c.ljust(w) for k, (c, w) in enumerate(zip(row, widths))).rstrip() for row in rows
    )
    return "\n".join(lines)


def _refuse_others(what: str, tensor: Any) -> None:
    """Raise a TypeError on what is no tensor."""
    if not isinstance(tensor, Tensor):
        cure = "; of a list, pass *list" if what == "tg.tape" and isinstance(tensor, list | tuple) else ""
        raise TypeError(f"{what} needs a tensor, on whose graph it looks, and not {told(tensor)}{cure}")


def _refuse_no_name(name: Any) -> None:
    """Raise a TypeError on what is no string."""
    if not isinstance(name, str):
        cure = "; tape.entry_of(tensor) gives the entry of a tensor" if isinstance(name, Tensor) else ""
        raise TypeError(f"find looks for an op, a tensor's name or a part of the scope, and {told(name)} is none{cure}")


def _read(node: Node) -> list[Node]:
    """What a node was computed from, constants too."""
    if node.freed:
        raise FreedGraphError(
            f"the graph of {node.describe()} was freed by a backward pass; print the tape before it, "
            "run it under record(), or call backward(retain_graph=True)"
        )
    return node.sources
