"""Back-propagation through long sequences in little memory. Public as part of `tg.bptt`; needs `recompute.py`.

Full back-propagation through time keeps what every step saved until the sweep comes by: O(T). Two ways out:

- `Truncated` cuts the way back after k2 steps, which loses what would have flowed further, and needs O(k2).
- `segments` keeps the states between segments only, and runs each segment again on the way back: the exact gradient in
  O(sqrt(T)), for one more forward pass.

Either way a network sees a piece of the sequence at a time, and what it writes on the tape counts from the start of the
whole: segments run in a scope that says where they start (`tg.scope(steps_from=)`), and a state that a window carries on
says it, too: `counted_from` asks the state, and our layers do so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from math import isqrt
from typing import Any

import numpy as np

from tinygrad_seq.errors import AutodiffError, ShapeError
from tinygrad_seq.explain import told, whole
from tinygrad_seq.nested import leaves, rebuilt
from tinygrad_seq.reach import flows_on_to, reachable
from tinygrad_seq.recompute import checkpoint
from tinygrad_seq.scopes import current, scope
from tinygrad_seq.tape import Leaf, Node, next_serial
from tinygrad_seq.tensor import Tensor, node_of

State = Any  # a tensor, nested tuples, lists and dicts of them, or None


class Truncated:
    """Truncated back-propagation through time: every k1 steps, go back through the last k2.

    The BPTT(k2; k1) of Williams & Peng ("An efficient gradient-based algorithm for on-line training of recurrent network
    trajectories", 1990), TBPTT(k1, k2) in Sutskever's thesis (2013). Called with sequences, it gives a `Window` for every
    k1 steps, which holds the last k2, and starts with the state that was carried there, cut off from the graph that made
    it. With k2 = k1 the windows stand side by side. With k2 > k1 they overlap, and the steps that they share are run anew in each
    (with the weights as they are by then), so that a graph never outlives an update; a step runs k2 / k1 times.

    Each loss should count once, so only the last k1 steps of a window are new: `window.new(outputs)`.

    A layer of ours that starts with `window.state` names its steps as those of the whole sequence. Around a loop of your own,
    or a readout over all steps of the window, `tg.scope("", steps_from=window.start)` does the same.

    Args:
        k1: steps from one update to the next.
        k2: steps to go back, a multiple of k1; k1 by default.
        axis: of the sequences and outputs, which is time.

    Raises:
        TypeError: k1 or k2 is no whole number.
        ValueError: k1 < 1; k2 < k1, which would leave out the loss of some steps; or a k2 that is no multiple of k1, so that a
            window would start where no state was carried.

    Example:
        >>> import numpy as np, tinygrad_seq as tg
        >>> W = tg.Parameter(np.array(0.5))
        >>> optimizer = tg.optim.SGD([W], lr=0.1)
        >>> def network(x, h):
        ...     states = [h := np.tanh(x_t + h * W) for x_t in x]
        ...     return np.stack(states), h
        >>> x = y = np.linspace(0.0, 1.0, 7)
        >>> for window in tg.bptt.Truncated(k1=2, k2=4)(x, y, state=0.0):
        ...     x_w, y_w = window
        ...     outputs, state = network(x_w, window.state)
        ...     loss = tg.losses.mse(window.new(outputs), window.new(y_w))
        ...     loss.backward()
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        ...     state = window.carry(state)
        ...     print(window, f"{loss:.3f}")
        <Window of steps 0..1, new from 0> 0.000
        <Window of steps 0..3, new from 2> 0.007
        <Window of steps 2..5, new from 4> 0.003
        <Window of steps 4..6, new from 6> 0.013
    """

    def __init__(self, k1: int, k2: int | None = None, axis: int = 0) -> None:
        k1 = whole("k1", k1, 1)
        k2 = k1 if k2 is None else whole("k2", k2)
        if k2 < k1:
            raise ValueError(f"k2={k2} is less than k1={k1}: the losses of {k1 - k2} of every {k1} steps would reach no weight")
        if k2 % k1:
            raise ValueError(
                f"k2={k2} is no multiple of k1={k1}: a window would start between two updates, where no state was carried; "
                f"take {k2 - k2 % k1} or {k2 + k1 - k2 % k1}"
            )
        self.k1 = k1
        self.k2 = k2
        self.axis = axis

    def __repr__(self) -> str:
        return f"Truncated(k1={self.k1}, k2={self.k2})"

    def __call__(self, *sequences: Any, state: State = None) -> Iterator[Window]:
        """Go through sequences of the same length, window by window.

        Args:
            *sequences: arrays or tensors with a common time axis; sliced, never copied, so they may be memory-mapped.
            state: the initial state, handed to the first windows as it is. It may be a leaf that learns; one that is
                computed from such a leaf is to be computed inside of the loop (where `window.start` is 0).

        Raises:
            AutodiffError: at once, if `state` still points into the graph that made it; in the loop, if a window was not
                given the state to carry on.
            ShapeError: the sequences differ in length, or there is none.
        """
        steps = _common_length(sequences, self.axis)
        for leaf in leaves(state):
            if isinstance(leaf, Tensor) and leaf.requires_grad and not isinstance(leaf.node, Leaf):
                raise AutodiffError(
                    f"the initial state {_told(leaf.node)} still points into the graph that made it, and the backward "
                    "pass would go on into that; pass state.detach()"
                )
        return self._windows(sequences, state, steps)

    def _windows(self, sequences: Sequence[Any], state: State, steps: int) -> Iterator[Window]:
        states = deque([state], maxlen=self.k2 // self.k1)  # at the last multiples of k1; the first is where a window starts
        handed_on: deque[int] = deque(maxlen=64)  # serials of what was carried, to recognise it if it comes again
        for new in range(0, steps, self.k1):
            start, stop = max(0, new + self.k1 - self.k2), min(new + self.k1, steps)
            parts = tuple([_cut(sequence, start, stop, self.axis) for sequence in sequences])
            window = Window(parts, states[0], start, stop, new, self.axis, handed_on)
            yield window
            if stop < steps:
                states.append(window.carried())


class Window:
    """Some steps of a long sequence, and the state to start them with. Unpacks to its part of each sequence.

    Attributes:
        state: what to start with: the initial state, or what was carried to `start`, detached.
        start, stop: which steps of the whole sequence these are; `stop` is the first one behind them.
        first_new: the first step that no window before this one had; all from there on are new.
    """

    def __init__(
        self, parts: tuple[Any, ...], state: State, start: int, stop: int, new: int, axis: int, handed_on: deque[int]
    ) -> None:
        self.state = state
        self.start = start
        self.stop = stop
        self.first_new = new
        self._parts = parts
        self._axis = axis
        self._handed_on = handed_on
        self._opened = next_serial()
        self._carried: list[State] = []

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __repr__(self) -> str:
        return f"<Window of steps {self.start}..{self.stop - 1}, new from {self.first_new}>"

    def new(self, values: Any) -> Any:
        """Of outputs, targets or losses of this window's steps (along the time axis), those of its new steps.

        Raises:
            ShapeError: they are not as many as the window's steps: those of the whole sequence, say.
        """
        if (steps := _common_length([values], self._axis)) != self.stop - self.start:
            raise ShapeError(
                f"new takes the values of this window's {self.stop - self.start} steps, and got those of {steps}; sequences that "
                "Truncated is called with come cut, in the window: x, y = window"
            )
        return _cut(values, self.first_new - self.start, self.stop - self.start, self._axis)

    def lengths(self, lengths: Any) -> np.ndarray[Any, Any]:
        """Of lengths of rows (B,), how many of this window's steps are real: for `layer(x, window.state, lengths=...)`."""
        return _within(lengths, self.start, self.stop)

    def carry(self, state: State) -> State:
        """Hand on the state after the last step; before the backward pass or after it. Gives it detached.

        Args:
            state: as the network gave it: a tensor or nested tuples, lists and dicts of them.

        Raises:
            AutodiffError: the state's graph reaches back into an earlier window, because that window's state was used
                instead of `window.state`. (Where the backward pass went there first, it has raised a FreedGraphError.)
        """
        for leaf in leaves(state):
            if isinstance(leaf, Tensor) and leaf.requires_grad and leaf.node is not None:
                self._refuse_older(leaf.node)
                self._handed_on.append(leaf.node.serial)
        with scope(CARRIED, steps_from=self.stop):
            cut = rebuilt(state, [_detached(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves(state)])
        self._carried = [cut]
        return cut

    def carried(self) -> State:
        """What was handed on."""
        if not self._carried:
            raise AutodiffError(
                f"the state after step {self.stop - 1} was not handed on: call window.carry(state) at the end of each window"
            )
        return self._carried[0]

    def _refuse_older(self, state: Node) -> None:
        """Raise if a state was computed from one of an earlier window: something of a step, or handed on before."""
        found = reachable([state], lambda node: () if self._is_older(node) else flows_on_to(node))
        older = [node for node in found if self._is_older(node) and not isinstance(node, Leaf)]
        if older:
            raise AutodiffError(
                f"the state {_told(state)} after step {self.stop - 1} still points into an earlier window's graph, by way of "
                f"{_told(max(older, key=lambda node: node.serial))}, from before step {self.first_new}: "
                "start each window with window.state, which is cut off, and not with the state that the last one ended with"
            )

    def _is_older(self, node: Node) -> bool:
        return node.serial < self._opened and (node.serial in self._handed_on or node.scope.t is not None)


CARRIED = "carried"  # the scope of a state that is handed on: its steps are counted from where the state is handed to


def _detached(tensor: Tensor) -> Tensor:
    """A tensor cut off from its graph, which knows the scope that it was cut in."""
    cut = tensor.detach()
    node_of(cut)
    return cut


def counted_from(state: State) -> Any:
    """The scope to run in with this state as the initial one: steps count from where `Window.carry` has handed it to.

    Nothing changes for a state that was not carried: then steps count as they do around.
    """
    places = [leaf.scope for leaf in leaves(state) if isinstance(leaf, Tensor) and leaf.scope is not None]
    return next((scope("", steps_from=place.steps_from) for place in places if place.part == CARRIED), nullcontext())


def segments(
    f: Callable[..., Any], length: int | None = None, join: Callable[[list[Any]], Any] | None = None, axis: int = 0
) -> Callable[..., tuple[Any, State]]:
    """f over a long sequence, segment by segment, each checkpointed: full back-propagation in O(sqrt(T)) memory.

    Of each segment only the state that it starts with is kept, and the backward pass runs it again (`tg.checkpoint`; Chen
    et al., "Training deep nets with sublinear memory cost", 2016). Outputs of every step are O(T) themselves; where they
    matter, compute the loss inside of f and join by `sum`. f may count its steps from 0 in each segment; on the tape they are
    those of the whole sequence.

    Args:
        f: `f(*parts, state) -> (output, state)`, which runs some steps of each sequence; a recurrent layer is one, unless it
            reads from the end.
        length: steps in a segment; about sqrt(T) by default.
        join: makes one of the list of outputs: `sum` for losses; by default side by side along the axis.
        axis: of the sequences and outputs, which is time.

    Returns:
        A function `(*sequences, state=None, lengths=None) -> (output, state)`. With `lengths` (B,), f gets those of its own
        steps by that name. It raises ShapeError if the sequences differ in length, or one of `lengths` is longer.

    Raises:
        TypeError: f is no function, nor join; or f does not give a pair, when it runs.
        ValueError: length < 1, or f is not `causal`: it says of itself that it needs the end of a sequence to begin.

    Example:
        >>> import numpy as np, tinygrad_seq as tg
        >>> W = tg.Parameter(np.array(0.5))
        >>> def some_steps(x, h):
        ...     total = 0.0
        ...     for x_t in x:
        ...         h = np.tanh(x_t + h * W)
        ...         total = total + h
        ...     return total, h
        >>> total, h = tg.bptt.segments(some_steps, join=sum)(np.linspace(0.0, 1.0, 100), state=0.0)
        >>> total.backward()
        >>> print(f"{total:.4f} {W.grad:.4f}")
        60.0737 37.8222
    """
    length = None if length is None else whole("the length of a segment", length, 1)
    _refuse_uncallable(f, join)
    if not getattr(f, "causal", True):
        raise ValueError(f"{type(f).__name__} reads from the end of a sequence, too: by segments it would be another function")
    light = checkpoint(f)
    joined = join or (lambda outputs: np.concatenate(outputs, axis=axis))

    def in_segments(*sequences: Any, state: State = None, lengths: Any = None) -> tuple[Any, State]:
        steps = _common_length(sequences, axis)
        if lengths is not None:
            lengths = np.asarray(lengths)
            if lengths.size and not 0 <= lengths.min() <= lengths.max() <= steps:
                raise ShapeError(f"lengths are from 0 to {steps}, the number of steps, got {lengths.tolist()}")
        stride, around = length or max(1, isqrt(steps)), current().scope.steps_from
        outputs = []
        for start in range(0, max(1, steps), stride):
            stop = min(start + stride, steps)
            parts = [_cut(sequence, start, stop, axis) for sequence in sequences]
            within = {} if lengths is None else {"lengths": _within(lengths, start, stop)}
            with scope("", steps_from=around + start):
                result = light(*parts, state, **within)
            if not isinstance(result, tuple) or len(result) != 2:
                raise TypeError(f"a segment gives a pair, (output, state), as a layer does, and not {told(result)}")
            output, state = result
            outputs.append(output)
        return joined(outputs), state

    return in_segments


def _refuse_uncallable(f: Any, join: Any) -> None:
    if not callable(f) or not (join is None or callable(join)):
        stranger = told(join if callable(f) else f)
        raise TypeError(f"segments needs a layer or function, and for join one such as sum, not {stranger}")


def _common_length(sequences: Sequence[Any], axis: int) -> int:
    """How many steps all of the sequences have."""
    try:
        shapes = [sequence.shape if hasattr(sequence, "shape") else np.shape(sequence) for sequence in sequences]
    except ValueError as error:
        raise ShapeError(f"a sequence is one array; several are given one by one, (x, y), not in a list: {error}") from None
    if not shapes or any(not -len(shape) <= axis < len(shape) for shape in shapes):
        raise ShapeError(f"sequences with a time axis {axis} are needed; got shapes {shapes}")
    if len({shape[axis] for shape in shapes}) > 1:
        raise ShapeError(f"the sequences differ in their number of steps (axis {axis}): shapes {shapes}")
    return int(shapes[0][axis])


def _cut(sequence: Any, start: int, stop: int, axis: int) -> Any:
    """Steps start..stop-1 of a sequence: a view."""
    if not hasattr(sequence, "shape"):
        sequence = np.asarray(sequence)
    if start == 0 and stop == sequence.shape[axis]:
        return sequence
    return sequence[(slice(None),) * (axis % sequence.ndim) + (slice(start, stop),)]


def _within(lengths: Any, start: int, stop: int) -> np.ndarray[Any, Any]:
    """Lengths of rows, counted within a part of the sequence."""
    lengths = np.asarray(lengths)
    whole = lengths.astype(np.int64) if lengths.dtype.kind in "iu" else lengths  # steps may be more than a small dtype counts
    within: np.ndarray[Any, Any] = np.clip(whole, start, stop) - start
    return within


def _told(node: Any) -> str:
    """A state in words, which tell its step: `'h<3>' (tanh, shape (4, 8), in rnn, t=3)`."""
    description: str = node.describe()
    return description
