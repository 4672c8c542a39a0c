"""Checkpointing: a forward pass that keeps nothing and runs again in the backward pass. Needs `sweep.py`.

The result of such a call stands on the tape with one `Bundle` behind it, in place of the graph that made it, which is dropped.
When the sweep arrives there, the call is made again, this time with its graph; a sweep through that one gives the cotangents of
all that the call had read from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from operator import attrgetter
from typing import Any

import numpy as np

from tinygrad_seq import overwritten, random
from tinygrad_seq.calls import results_of
from tinygrad_seq.dtypes import default_dtype, using_dtype
from tinygrad_seq.errors import NondeterministicError, OverwrittenError
from tinygrad_seq.explain import refuse_no_function
from tinygrad_seq.nested import leaves, rebuilt
from tinygrad_seq.pullback import Pullback
from tinygrad_seq.reach import flows_on_to, reachable
from tinygrad_seq.scopes import current, setting
from tinygrad_seq.sweep import run, seeds_of
from tinygrad_seq.tape import Bundle, Leaf, Node, in_slots, next_serial
from tinygrad_seq.tensor import Tensor, node_of

Function = Callable[..., Any]


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

    refuse_no_function("checkpoint", f, ": checkpoint(f)(x)")

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
        self._dtype = default_dtype()
        self._scope = current().scope
        self._outside: list[Node] = []  # what the call read from outside: arguments, weights
        self._facts: list[Any] = []
        self._last: tuple[Any, dict[Node, Any]] | None = None

    def on_tape(self, results: Sequence[Any]) -> Iterator[Any]:
        """The results with one bundle behind them, instead of the graph that made them, which is dropped here."""
        self._outside = _read_from_outside(results, self._started)
        self._facts = [_fingerprint(y) for y in results]
        routes = tuple((i, _Recomputed(self, i), _everything) for i in range(len(self._outside)))
        bundle = Bundle("checkpoint", *in_slots(self._outside), None, routes, (), (), None, self._scope, True)
        outputs = iter(results_of(bundle, [y.data for y in results if isinstance(y, Tensor)]))
        for y in results:
            if isinstance(y, Tensor):
                output = next(outputs)
                node_of(output).requires_grad = output.requires_grad and y.requires_grad
                yield output
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
        with random.replaying(self._draws), using_dtype(self._dtype), setting(grad=True, scope=self._scope):
            results = leaves(self._call())
        if not _agree([_fingerprint(y) for y in results], self._facts):
            raise NondeterministicError(
                f"a checkpointed function{self._scope.place} gave another result when the backward pass ran it again: "
                "it must not depend on anything that changes in between. Draw random numbers from "
                "tg.random.generator(), whose state is replayed"
            )
        seeds = seeds_of([y for y in results if isinstance(y, Tensor)], g)
        return run(seeds, set(self._outside), taped).results

    def _refuse_overwritten(self) -> None:
        for node in self._outside:
            handle = node.handle() if isinstance(node, Leaf) else None
            if handle is not None and overwritten.since(self._started, handle.data) is not None:
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
        self.rule = self.function = self.on_arrays = lambda g: replay.cotangent(g, i)
        self.together = None
        self.elementwise = self.moves = False
        self.places = ()
        self.sources = ()


def _read_from_outside(results: Sequence[Any], started: int) -> list[Node]:
    """The nodes older than a call that its results depend on, oldest first."""
    made = [y.node for y in results if isinstance(y, Tensor) and y.requires_grad and y.node is not None]
    found = reachable(made, lambda node: () if node.serial < started else flows_on_to(node))
    return sorted([node for node in found if node.serial < started], key=attrgetter("serial"))


def _fingerprint(y: Any) -> Any:
    """A few numbers that tell results apart, also in the order of their elements, but not the rounding of two equal runs."""
    if not isinstance(y, Tensor):
        return repr(y)
    array = y.data.astype(float).reshape(-1)
    weights = np.arange(array.size) * 0.6180339887 % 1.0  # irregular, and the same in both runs
    return (y.shape, y.dtype, float(array @ weights), float(np.abs(array).sum()))


def _agree(now: list[Any], then: list[Any]) -> bool:
    """Whether two runs gave the same, but for rounding."""

    def equal(a: Any, b: Any) -> bool:
        if isinstance(a, str) or isinstance(b, str) or a[:2] != b[:2]:
            return bool(a == b)
        tolerance = float(np.sqrt(np.finfo(a[1]).eps)) if a[1].kind == "f" else 0.0
        return bool(np.allclose(a[2:], b[2:], rtol=tolerance, atol=tolerance * (1 + b[3]), equal_nan=True))

    return len(now) == len(then) and all(equal(a, b) for a, b in zip(now, then))


def _everything(saved: Sequence[Any]) -> Sequence[Any]:
    return saved
