"""The reverse sweep: the tape read from the end. Read me fourth, after `tensor.py`.

If y was computed from x1, x2, ... and the cotangent of y is g = dL/dy, then y's pullbacks give the parts of dL/dx1,
dL/dx2, ... that flow through y, and the parts that reach a value from all its uses add up to its cotangent. So a
value can be passed only when all its uses have been. That is why the sweep goes by descending serial number: a value
is used only by operations that ran after it, so the order of execution, backwards, is such an order (a topological
sort). An order that merely follows the edges would pass a recurrent state before all that it leads to was heard.

The sweep is an iterator of steps, and all read the same one: `backward` drains it, printing and drawing watch it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from tinygrad_seq.calls import results_of
from tinygrad_seq.collector import collector_waiting
from tinygrad_seq.errors import AnomalyError, AutodiffError, PullbackError
from tinygrad_seq.explain import first_nonfinite
from tinygrad_seq.pullback import Pullback
from tinygrad_seq.reach import leading_to, on_the_way, refuse_overwritten
from tinygrad_seq.scopes import Context, Scope, current, setting
from tinygrad_seq.tape import Bundle, Edge, Leaf, Node, Output, Watch
from tinygrad_seq.tensor import Tensor, as_array

PENDING_BYTES = 1 << 20  # how much of the cotangents of a shared weight's uses may wait to be multiplied at once


# The way of a term that waits: its rule, and then the views that it comes through; see `Sweep._wait`.
Way = tuple[Any, ...]

# One step of the sweep: a node and its cotangent, which will now flow along the node's edges. The cotangent is an
# array, a tensor if the sweep is taped, and a list of them for a `Bundle`.
Step = tuple[Node, Any]


def backward(loss: Tensor, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False) -> None:
    """Sweep from `loss` and add what reaches the leaves to their `grad`; see `Tensor.backward`.

    All or nothing: gradients are published, and the graph is freed, only when the whole sweep has succeeded.
    """
    if not loss.requires_grad or loss.node is None:
        raise AutodiffError(
            f"backward from a tensor of shape {loss.shape} that does not depend on anything requiring a gradient; "
            "make a leaf with tg.tensor(data, requires_grad=True), and look for detach() or no_grad() on the way"
        )
    sweep = run({loss.node: seed(loss, gradient, create_graph)}, None, create_graph)
    _publish(sweep)
    if not (retain_graph or create_graph):
        for node in sweep.nodes:
            if node.watch is None or not node.watch.recordings():
                node.free()
            else:
                node.watch.spent = True  # a recording may still read it


def run(seeds: Mapping[Node, Any], targets: Collection[Node] | None, taped: bool) -> Sweep:
    """A whole sweep, drained; what reached the leaves (or `targets`) is in its `results`.

    Where nobody watches, the sweep trusts that all is finite, and starts again with care if a result is not: a
    derivative that is not finite is then not multiplied with a cotangent of exactly zero. So the care costs nothing
    until it is needed, and nothing has been published by then.
    """
    sweep = Sweep(seeds, targets, taped)
    _drain(sweep)
    if not sweep.careful and current().mask_zeros and not all(_finite(g) for g in sweep.results.values()):
        sweep = Sweep(seeds, targets, taped, careful=True)
        _drain(sweep)
    return sweep


def seed(loss: Tensor, gradient: Any, taped: bool = False) -> Any:
    """The cotangent that a sweep from `loss` starts with: `gradient`, checked, or 1 for a single element."""
    if gradient is None:
        if loss.size != 1:
            raise AutodiffError(
                f"backward from {_told(loss)} needs a seed: give backward(gradient) of that shape, "
                "or reduce to a scalar first, for example with .sum() or .mean()"
            )
        return np.ones(loss.shape, loss.dtype)
    array = as_array(gradient, loss.dtype)
    if array.shape != loss.shape:
        raise AutodiffError(f"the seed has shape {array.shape}, and it is for {_told(loss)}: the shapes must be equal")
    if taped and isinstance(gradient, Tensor):
        return gradient
    return array.astype(loss.dtype)  # a copy: it may become a gradient, and is the caller's


def seeds_of(tensors: Sequence[Tensor], cotangents: Sequence[Any]) -> dict[Node, Any]:
    """What a sweep from several tensors starts with: those that require a gradient, and for one given twice the sum."""
    seeds: dict[Node, Any] = {}
    for y, g in zip(tensors, cotangents):
        if y.requires_grad and y.node is not None:
            seeds[y.node] = seeds[y.node] + g if y.node in seeds else g
    return seeds


def _told(tensor: Tensor) -> str:
    return f"shape {tensor.shape}" if tensor.node is None else tensor.node.describe()


class Sweep:
    """One reverse sweep: an iterator of steps (node, cotangent), from the seeds to the leaves.

    Args:
        seeds: the nodes to start from, each with its cotangent.
        targets: nodes to stop at, as if they were leaves: only what leads to them is passed. By default all leaves
            that require a gradient.
        taped: run the pullbacks on tensors, so that the sweep itself is on a tape.
        careful: check every elementwise pullback for an exact zero times something not finite. On by itself where
            anybody watches (hooks, a recording, anomaly mode) and where the sweep is taped.
        through_cuts: pass `detach` as if it were not there, to see what it keeps away.
        reread: pass recorded nodes although a backward pass has been there.

    Attributes:
        live: the nodes that may be passed, as a set.
        retained: tensors that asked to keep their gradient, each with it.
        nodes: all that the sweep may pass, in order of execution.
        watched: what has been asked to know of some of them.
        results: the cotangents of the targets that were reached.
    """

    def __init__(
        self,
        seeds: Mapping[Node, Any],
        targets: Collection[Node] | None = None,
        taped: bool = False,
        careful: bool = False,
        through_cuts: bool = False,
        reread: bool = False,
    ) -> None:
        found = leading_to(seeds, targets or (), through_cuts, careful or targets is not None, reread)
        self.nodes = sorted(found, key=attrgetter("serial"))
        if through_cuts and targets is None:
            targets = {node for node in self.nodes if isinstance(node, Leaf) and node.requires_grad}
        if targets is not None:
            self.nodes = on_the_way(self.nodes, targets)
        self.live = found if targets is None else set(self.nodes)
        self.targets = targets
        self.taped = taped
        self.anomaly = current().anomaly
        self.watched = [node.watch for node in self.nodes if node.watch is not None]
        self.careful = careful or taped or self.anomaly or bool(self.watched)
        self.results: dict[Node, Any] = {}
        self.retained: list[tuple[Tensor | None, Any]] = []
        self._cotangents = {node: g for node, g in seeds.items() if node in self.live}
        self._waiting: dict[Node, dict[Way, Uses]] = {}
        self._may_wait = not self.anomaly  # for one of the terms may be the first that is not finite
        refuse_overwritten(self.nodes)

    def __iter__(self) -> Iterator[Step]:
        """Pass the nodes by descending serial: complete a cotangent, show it, let it flow on along the routes.

        Holds no context while the consumer has control. (One long loop: a method for its second half would cost every step of a
        small LSTM 2 %.)
        """
        cotangents, waiting, targets, live = self._cotangents, self._waiting, self.targets, self.live
        careful, taped, may_wait = self.careful, self.taped, self._may_wait
        for node in reversed(self.nodes):
            kind, g = type(node), cotangents.pop(node, None)
            if node in waiting:
                g = self._gathered(node, g, waiting.pop(node))
            if g is None:
                continue  # nothing that the seeds depend on used it, or its terms wait elsewhere
            if kind is Bundle:
                g = node.filled(g)  # type: ignore[attr-defined]
            elif g.shape != node.shape or g.dtype is not node.dtype:
                g = self._fitted(node, g)
            if node.watch is not None:
                g = self._shown(node, node.watch, g)
            arrived = kind is Leaf if targets is None else node in targets
            if arrived:
                self.results[node] = g
            yield node, g
            if arrived:
                continue
            if kind is Output:
                self._deliver(node, g)  # type: ignore[arg-type]
                continue
            saved = node.saved
            for i, pullback, take in node.routes or ():
                parent = node.first if i == 0 else node.second if i == 1 else node.others[i - 2]  # inputs[i], twice as fast
                direct = parent not in live  # one of several outputs, of which nobody is to hear: its bundle gets the term
                if direct and not (type(parent) is Output and parent.bundle in live):
                    continue
                values = take(saved) if take is not None else ()
                if taped:
                    values = as_tensors(node, pullback, values)
                if pullback.together is not None and may_wait and not direct:
                    self._wait(parent, (pullback,), (g, *values))
                    continue
                term = _placed(node.scope, pullback, g, values) if taped else pullback.on_arrays(g, *values)
                if careful:
                    term = _checked(node, pullback, g, term)
                if direct:
                    self._deliver(parent, term)
                    continue
                held = cotangents.get(parent)
                cotangents[parent] = term if held is None else self._added(parent, held, term)

    def _deliver(self, node: Output, g: Any) -> None:
        """Put the cotangent of one of several outputs, or a term of it, in its place."""
        if g.shape != node.shape or g.dtype is not node.dtype:
            g = self._fitted(node, g)
        bundle, i = node.bundle, node.position
        parts = self._cotangents.get(bundle)
        if parts is None:
            parts = self._cotangents[bundle] = [None] * len(bundle.shapes)
        parts[i] = g if parts[i] is None else parts[i] + g

    def _added(self, node: Node, held: Any, term: Any) -> Any:
        """The sum of two terms of a node's cotangent. Where both were broadcast alike, they are added before they are reduced."""
        if held.shape != term.shape:
            held, term = self._fitted(node, held), self._fitted(node, term)
        return held + term

    def _fitted(self, node: Node, g: Any) -> Any:
        """A cotangent in the shape and dtype of its value."""
        if not _fits(g, node.shape):
            edges = [(edge[1], user) for user in self.nodes for edge in user.edges if edge[0] is node]
            rules = " or ".join(sorted({f"{pullback.op} for {pullback.argument}" for pullback, _ in edges}))
            raise PullbackError(
                f"the pullback of {rules} returned shape {g.shape} for an input of shape {node.shape}, in the backward pass of "
                f"{edges[-1][1].describe() if edges else node.describe()}; "
                "a pullback must give the input's shape, or one that broadcasting made of it"
            )
        g = g if g.shape == node.shape else unbroadcast(g, node.shape)
        return g if g.dtype == node.dtype else g.astype(node.dtype)

    # ---- terms that are cheaper together -----------------------------------------------------------------------
    #
    # A weight used at every step has the gradient sum_t A[t]^T G[t], which is one product of the stacked A and G.
    # Its terms wait until the weight is reached, or until they hold too many bytes. What is known of a waiting term is
    # its way: the rule, and then the views between here and where the weight was used, each with its saved values.

    def _wait(self, node: Node, way: Way, call: tuple[Any, ...]) -> None:
        """Keep a call of a rule for later."""
        by_way = self._waiting.setdefault(node, {})
        uses = by_way.get(way)
        if uses is None:
            uses = by_way[way] = Uses()
        uses.calls.append(call)
        uses.nbytes += call[0].nbytes
        if uses.nbytes > PENDING_BYTES and not self.taped and uses.nbytes > 2 * call[0].dtype.itemsize * _size(node):
            self._cotangents[node] = self._sum(node, self._cotangents.get(node), {way: by_way.pop(way)})

    def _gathered(self, node: Node, g: Any, by_way: dict[Way, Uses]) -> Any:
        """A node's cotangent with the terms that have waited; None, where they will wait at what the node is a view of."""
        if g is None and not self.careful and self._hand_on(node, by_way):
            return None
        return self._sum(node, g, by_way)

    def _sum(self, node: Node, g: Any, by_way: dict[Way, Uses]) -> Any:
        for (pullback, *views), uses in by_way.items():
            term = pullback.together(uses.calls) if len(uses.calls) > 1 else pullback.function(*uses.calls[0])
            for mover, saved in views:
                term = mover.function(term, *saved)
            g = term if g is None else self._added(node, g, term)
        return g

    def _hand_on(self, node: Node, by_way: dict[Way, Uses]) -> bool:
        """Let terms that wait at a view (the W.T of one step) wait at what it is a view of, with those of other steps."""
        if len(node.edges) != 1 or not node.edges[0][1].moves or (self.targets is not None and node in self.targets):
            return False
        parent, mover, saved = node.edges[0]
        if parent not in self.live:
            return False
        view = (mover, tuple(saved))
        try:
            hash(view)
        except TypeError:  # a parameter such as a list of axes: these terms stay by themselves
            return False
        for way, uses in by_way.items():
            for call in uses.calls:
                self._wait(parent, (*way, view), call)
        return True

    def _shown(self, node: Node, watch: Watch, g: Any) -> Any:
        """Show a node's cotangent to those who asked; a hook may replace it."""
        for hook in tuple(watch.hooks.values()):
            replaced = hook(g if isinstance(g, Tensor) else Tensor(_read_only(g)))
            if replaced is not None:
                if np.shape(_array(replaced)) != node.shape:
                    raise PullbackError(f"a hook on {node.describe()} returned a gradient of shape {np.shape(_array(replaced))}")
                g = (replaced if self.taped else as_array(replaced)).astype(node.dtype)  # a copy, if it is an array
        if watch.handle is not None and not isinstance(node, Leaf):
            self.retained.append((watch.handle(), g))
        return g


class Uses:
    """The uses of one value through one rule whose terms wait to be added up together."""

    __slots__ = ("calls", "nbytes")

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.nbytes = 0


# ---- what all pullbacks share -----------------------------------------------------------------------------------------


def term_of(node: Node, cotangent: Any, edge: Edge) -> Any:
    """What flows along one edge of a node: the part of the parent's cotangent that comes through here."""
    parent, pullback, values = edge
    with np.errstate(all="ignore"):
        term = _checked(node, pullback, cotangent, pullback.function(cotangent, *values))
        return unbroadcast(term, parent.shape).astype(parent.dtype)


def unbroadcast(g: Any, shape: tuple[int, ...]) -> Any:
    """Sum a cotangent over the axes along which the forward pass stretched a value of this shape."""
    extra = g.ndim - len(shape)
    axes = (*range(extra), *[extra + i for i, n in enumerate(shape) if n == 1 and g.shape[extra + i] != 1])
    return g.sum(axis=axes, keepdims=True).reshape(shape) if axes else g.reshape(shape)


def as_tensors(node: Node, pullback: Pullback, values: Sequence[Any]) -> tuple[Any, ...]:
    """Saved values as tensors with the nodes they came from, for a sweep that is taped."""
    return tuple([_as_tensor(node, value, source) for value, source in zip(values, pullback.sources)])


def _as_tensor(node: Node, value: Any, source: int | None) -> Any:
    if source is None:
        return value
    if source == Pullback.ALL_INPUTS:
        return tuple([_as_tensor(node, part, i) for i, part in enumerate(value)])
    if source == Pullback.OUTPUT:
        return _with_outputs(value, node)
    made_by = node.inputs[source]
    return Tensor(value, made_by) if isinstance(made_by, Node) else value


def _placed(scope: Scope, pullback: Pullback, g: Any, values: Sequence[Any]) -> Any:
    """A pullback's term, taped where the forward operation was: a gradient belongs to the same gate and step.

    What is not finite in it, `_checked` tells of the pullback as a whole, as in a sweep that is not taped.
    """
    with setting(scope=scope, anomaly=False):
        return pullback.function(g, *values)


def _checked(node: Node, pullback: Pullback, g: Any, term: Any) -> Any:
    """An elementwise term, with an exact zero times something not finite taken for zero; all else unchanged."""
    if _finite(term):
        return term
    context = current()
    if pullback.elementwise and context.mask_zeros:
        mask = (_array(g) == 0) & ~np.isfinite(_array(term))
        with setting(anomaly=False):  # what this leaves is told below
            term = np.where(mask, 0, term)
    if context.anomaly and not _finite(term):
        source = node.watch.source if node.watch is not None else ""
        where = (
            f" at {source}" if source else " outside of detect_anomaly, which knows the line if the forward pass runs in it too"
        )
        raise AnomalyError(
            f"backward: the pullback of {node.describe()} for {pullback.argument} gave {first_nonfinite(_array(term))}; "
            f"the operation was called{where}. "
            "Look at the derivative there: a root or logarithm at 0, a division by 0, or an overflow."
        )
    return term


def _fits(g: Any, shape: tuple[int, ...]) -> bool:
    """Whether a cotangent has this shape, or one that broadcasting could have made of it."""
    extra = g.ndim - len(shape)
    return extra >= 0 and all(n in (1, m) for n, m in zip(shape, g.shape[extra:]))


def _array(value: Any) -> Any:
    return value.data if isinstance(value, Tensor) else value


def _read_only(array: Any) -> Any:
    """A view that cannot be written into: other values may have the same array as their cotangent."""
    view = array.view()
    view.flags.writeable = False
    return view


def _finite(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_finite(part) for part in value)
    return bool(np.isfinite(_array(value)).all())


def _size(node: Node) -> int:
    size = 1
    for n in node.shape:
        size *= n
    return size


def _with_outputs(value: Any, node: Node) -> Any:
    """A saved output as a tensor with its own node; the several outputs of a bundle with nodes that lead to it."""
    if not isinstance(node, Bundle):
        return Tensor(value, node)
    return results_of(node, [as_array(part) for part in value])


# ---- when the sweep is done --------------------------------------------------------------------------------------------


def _drain(sweep: Sweep) -> None:
    """Run a sweep to its end, and tell the recordings what they saw."""
    context = current()
    tapes = {recording for watch in sweep.watched for recording in watch.recordings()}
    with setting(**sweeping(context, sweep.taped)), np.errstate(all="ignore"), collector_waiting():
        steps = deque(sweep, maxlen=None if tapes else 0)  # run to the end; remembered only for a recording
    for tape in tapes:
        tape.witness(steps, sweep.live)


def sweeping(context: Context, taped: bool) -> dict[str, Any]:
    """The settings under which pullbacks run: nothing is taped, or all of it on the recording's backward tape."""
    tape = context.tape.backward if taped and context.tape is not None else None
    return {"grad": taped, "tape": tape}


def _publish(sweep: Sweep) -> None:
    """Set the gradients of the leaves that are still alive, and of the values that asked to keep theirs: all or none."""
    fresh: list[tuple[Tensor, Tensor]] = []
    seen: set[int] = set()
    wanted: list[tuple[Tensor | None, Any]] = [(node.handle(), g) for node, g in sweep.results.items() if isinstance(node, Leaf)]
    for handle, g in wanted + sweep.retained:
        if handle is None:
            continue
        if handle.grad is not None:
            with setting(**sweeping(current(), sweep.taped)):
                g = handle.grad + g if sweep.taped else handle.grad.data + g
        elif not isinstance(g, Tensor) and (id(g) in seen or sweep.watched or getattr(g, "base", None) is not None):
            g = np.array(g)  # a gradient is nobody else's array
        seen.add(id(g))
        fresh.append((handle, g if isinstance(g, Tensor) else Tensor(g)))
    before = [handle.grad for handle, _ in fresh]
    try:
        for handle, gradient in fresh:
            handle.grad = gradient
    except BaseException:
        for (handle, _), earlier in zip(fresh, before):
            handle.grad = earlier
        raise
