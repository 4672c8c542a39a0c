"""Cells: one step of a recurrent network, as its equations. Read me first here; I need the engine only.

A cell goes from an input and a state to the next state, h<t> = f(h<t-1>, x<t>; theta), and keeps nothing in between.
What it computes stands in its docstring in the notation of the source document, and in `step` in the same symbols and
order. One sample is one row here, so weights multiply from the right: a<t-1> @ W_h is the document's w_aa a<t-1>. Where a
cell has several gates, their matrices stand side by side in one array of G*H columns, in the order that it states.

The document counts steps from 1, and calls the state a<t> (RNN, LSTM) or c<t> (GRU). On the tape steps count from 0, the
initial state is "h<init>", and the state of every cell is "h<t>", an LSTM's second one "c<t>".

`Cell` says what a layer asks of a cell, so that you can write your own; `gated.py` has the gated ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq import init
from tinygrad_seq.dtypes import Array
from tinygrad_seq.explain import told, whole
from tinygrad_seq.ops.elementwise import relu, sigmoid, tanh
from tinygrad_seq.ops.nn import softmax
from tinygrad_seq.scopes import current

Function = Callable[..., Any]
State = Any  # a tensor (B, H), or a tuple of them

NONLINEARITIES: dict[str, Function] = {"tanh": tanh, "relu": relu}


class Cell(tg.Module):
    """What all our cells share, and what a layer asks of any cell.

    A cell of your own needs only two things, and need not derive from this class:

    - `step(x, state)`, or `forward(x, state)`, which gives the next state: an array (B, H), or a tuple of arrays of which
      the first is the output. A cell whose output is something else gives the pair (output, state).
    - `hidden_size`, for an initial state of zeros (B, hidden_size), or `initial_state(batch, dtype)`, which makes another. Where
      the state is a tuple, `state_names` has as many names, and there are zeros for each.

    It may also have `input_size`, which inputs are checked against; `project(x)`, which computes what does not depend on
    the previous step, for all of time at once, and whose result `step` is given instead of x; and `name`, the scope of its
    steps. A gate becomes visible where the cell opens a scope for it: to `tape.find`, in pictures, and in
    what a layer gives with `return_all`.

    Attributes:
        input_size, hidden_size: the lengths I and H of an input and of a state.
        name: the scope that a layer opens for each step.
        state_names: of the arrays of a state, on the tape.

    Example:
        >>> import numpy as np, tinygrad_seq as tg
        >>> from tinygrad_seq.models import Recurrent
        >>> class Leaky(tg.Module):
        ...     def __init__(self, I, H):
        ...         self.hidden_size = H
        ...         self.W, self.V = (tg.Parameter(tg.init.xavier_uniform((I, H))) for _ in range(2))
        ...         self.U = tg.Parameter(tg.init.orthogonal((H, H)))
        ...     def step(self, x, h):
        ...         with tg.scope("leak"):
        ...             leak = tg.sigmoid(x @ self.V)
        ...         return leak * h + (1 - leak) * np.tanh(x @ self.W + h @ self.U)
        >>> with tg.record() as tape:
        ...     outputs, state = Recurrent(Leaky(3, 5))(np.ones((7, 2, 3)), lengths=[7, 4])
        >>> tape.find("leak", t=3)[-1].value.shape
        (2, 5)
    """

    name: ClassVar[str] = "cell"
    state_names: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        if whole("input_size", input_size) < 1 or whole("hidden_size", hidden_size) < 1:
            raise ValueError(f"{type(self).__name__} needs sizes of at least 1, got {input_size} and {hidden_size}")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias

    def _learn(self) -> None:
        """Make the parameters; the last line of a cell's `__init__`."""
        for name, array in self.initial_weights().items():
            setattr(self, name, None if array is None else tg.Parameter(array))

    def initial_weights(self) -> dict[str, Array | None]:
        """Newly drawn weights by the name of the parameter; None for one that this cell does without."""
        raise NotImplementedError(f"{type(self).__name__} does not define initial_weights")

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for name, array in self.initial_weights().items():
            if array is not None:
                getattr(self, name).overwrite(array)

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The length of each array of a state."""
        return (self.hidden_size,) * len(self.state_names)

    def initial_state(self, batch: int | tuple[int, ...], dtype: Any = None) -> State:
        """The state before the first step: zeros, (B, H) each."""
        rows = batch if isinstance(batch, tuple) else (batch,)
        dtype = tg.default_dtype() if dtype is None else dtype
        parts = tuple([tg.Tensor(np.zeros((*rows, size), dtype)) for size in self.state_sizes])
        return parts if len(parts) > 1 else parts[0]

    def project(self, x: Any) -> Any:
        """What does not depend on the previous step: (..., I) -> (..., anything), for any number of steps at once."""
        return x

    def step(self, projected: Any, state: State, seen: Any = None) -> State:
        """The equations.

        Args:
            projected: what `project` made of x<t>, (B, ...).
            state: of step t - 1.
            seen: what the products read instead of the state's first array: with dropout, a part of it.

        Returns:
            The state of step t.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define step")

    def forward(self, x: Any, state: State | None = None) -> State:
        """One step.

        Args:
            x: (B, I), or (I,) for a single sample.
            state: of the previous step, (B, H) or a tuple of such arrays; zeros by default.

        Returns:
            The new state, of the same form; it, or its first array, is the cell's output.

        Raises:
            ShapeError: x or the state do not fit the cell, or there is no row.
            TypeError: x or the state do not hold real numbers.
        """
        x = numbers(self, x)
        if x.ndim == 0 or x.shape[-1] != self.input_size:
            raise tg.ShapeError(f"{type(self).__name__} takes x of shape (B, {self.input_size}), got {x.shape}")
        rows = x.shape[:-1]
        if not x.size:
            raise tg.ShapeError(f"{type(self).__name__} needs a row at least, got x of shape {x.shape}")
        if state is not None:
            state = self.checked_state(state, rows)
        projected = self.project(x)
        new = self.step(projected, self.initial_state(rows, projected.dtype) if state is None else state)
        call_by_step(parts_of(new), self.state_names, current().scope.t)
        return new

    def checked_state(self, state: State, rows: tuple[int, ...]) -> State:
        """A state as tensors, if it is one of this cell's for so many rows."""
        parts = parts_that_fit(self, state, [(*rows, size) for size in self.state_sizes])
        return parts if len(parts) > 1 else parts[0]


def in_words(shapes: Sequence[tuple[int, ...]]) -> str:
    """Shapes for a message."""
    return f"shape {shapes[0]}" if len(shapes) == 1 else f"shapes {', '.join(map(str, shapes)) or '()'}"


def numbers(module: tg.Module, x: Any) -> tg.Tensor:
    """What a module was given, as a tensor; TypeError for anything but real numbers."""
    try:
        return x if isinstance(x, tg.Tensor) else tg.Tensor(x)
    except TypeError as error:
        got = x.dtype if isinstance(x, np.ndarray) else told(x)
        raise TypeError(f"{type(module).__name__} takes real numbers, got {got}: {error}") from None


def parts_of(state: State) -> tuple[tg.Tensor, ...]:
    """The arrays of a state as tensors, be it a tuple or a single one."""
    parts = state if isinstance(state, tuple | list) else (state,)
    return tuple([part if isinstance(part, tg.Tensor) else tg.Tensor(part) for part in parts])


def parts_that_fit(module: tg.Module, state: State, *forms: Sequence[tuple[int, ...]]) -> tuple[tg.Tensor, ...]:
    """The arrays of a state that a module was given, if their shapes are those of one of these forms.

    Where a state is one array, it may also come as nested lists of its numbers.

    Raises:
        ShapeError: they are not; the message says the first form.
        TypeError: they do not hold real numbers.
    """
    written_out = len(forms[0]) == 1 and isinstance(state, list) and all(isinstance(row, list | float | int) for row in state)
    several = isinstance(state, tuple | list) and not written_out
    parts = tuple([numbers(module, part) for part in (state if several else (state,))])
    found = [part.shape for part in parts]
    if found not in [list(form) for form in forms]:
        raise tg.ShapeError(f"{type(module).__name__} takes a state of {in_words(forms[0])}, got {in_words(found)}")
    return parts


def call_by_step(parts: Sequence[tg.Tensor], names: Sequence[str], t: int | str | None) -> None:
    """Call the arrays of a state "h<t>", "c<t>", unless the user has named them, or they are on no tape or at no step."""
    for part, name in zip(parts, names):
        if t is not None and part.name is None and (part.node is not None or t == "init"):
            part.name = f"{name}<{t}>"


def affine(x: Any, W: Any, b: Any) -> Any:
    """x @ W + b, where there is a bias."""
    return x @ W if b is None else x @ W + b


# ---- gates that can be found ----------------------------------------------------------------------------------------------


def gate(name: str, squash: Function, z: Any, alias: tuple[str, ...] = (), symbol: str | None = None) -> Any:
    """squash(z) in a scope of its own: `tape.find(name, t=3)` finds it, pictures draw it, `return_all` hands it out.

    Args:
        name: of the scope.
        squash: sigmoid for a gate, tanh for a candidate.
        z: what goes in, (B, H).
        alias: other names that it is found by.
        symbol: what the value is called in print and pictures, where its step is known: by default "Γ_name"; "" for what is
            called otherwise, a state.
    """
    with tg.scope(name, alias=alias) as place:
        value = squash(z)
    if value.node is not None and place.t is not None and symbol != "":
        value.name = f"{symbol or 'Γ_' + name}<{place.t}>"
    return value


# ---- the cells without gates ----------------------------------------------------------------------------------------------


class RNNCell(Cell):
    """The basic recurrent cell (the document's RNN1, hidden to hidden).

        a<t> = tanh(a<t-1> W_h + x<t> W_x + b)

    The document writes W_x as w_ax, W_h as w_aa and b as b_a ("Deep Learning", equations 10.8 and 10.9).

    Args:
        input_size, hidden_size: I and H.
        bias: whether there is a b.
        nonlinearity: "tanh" or "relu".

    Shapes:
        x (B, I), state a (B, H); W_x (I, H), W_h (H, H), b (H).

    J. Elman, "Finding structure in time" (1990). The relu starts by remembering, with the identity for W_h: Le, Jaitly &
    Hinton, "A simple way to initialize recurrent networks of rectified linear units" (2015).
    """

    name = "rnn"
    W_x: tg.Parameter
    W_h: tg.Parameter
    b: tg.Parameter | None

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh") -> None:
        super().__init__(input_size, hidden_size, bias)
        self.nonlinearity = _known(nonlinearity, NONLINEARITIES, "nonlinearity")
        self._learn()

    def initial_weights(self) -> dict[str, Array | None]:
        """Xavier for W_x; for W_h an orthogonal matrix, or with relu the identity; zeros for b."""
        I, H = self.input_size, self.hidden_size
        W_h = init.identity((H, H)) if self.nonlinearity == "relu" else init.orthogonal((H, H))
        return dict(W_x=init.xavier_uniform((I, H)), W_h=W_h, b=init.zeros((H,)) if self.bias else None)

    def project(self, x: Any) -> Any:
        """x<t> W_x + b: (..., I) -> (..., H)."""
        return affine(x, self.W_x, self.b)

    def step(self, xW: Any, a: Any, seen: Any = None) -> Any:
        """The equation of the class."""
        seen = a if seen is None else seen
        return NONLINEARITIES[self.nonlinearity](seen @ self.W_h + xW)


class OutputRNNCell(Cell):
    """A recurrent cell whose memory is its own output (the document's RNN2, output to hidden).

        a<t>  = tanh(ŷ<t-1> W_h + x<t> W_x + b)
        o<t>  = a<t> W_y + b_y
        ŷ<t>  = softmax(o<t>)

    All that passes from step to step is the output, which is trained to be like the target: so it says less of the past
    than a hidden state could. In return, the target can take its place in training (teacher forcing), and then no step
    waits for another. Put the targets where the state goes, one step late, and a single call computes all of time:

        y_hat = cell(x, np.concatenate([start[None], y[:-1]]))      # x (T, B, I), y (T, B, O)

    Args:
        input_size, hidden_size, output_size: I, H and O.
        bias: whether there are b and b_y.
        nonlinearity: of a: "tanh" or "relu".
        output_activation: of ŷ: "softmax", "sigmoid", "tanh", None for ŷ = o, or a function.

    Shapes:
        x (B, I), state ŷ (B, O); W_x (I, H), W_h (O, H), b (H), W_y (H, O), b_y (O).

    "Deep Learning" (Goodfellow, Bengio & Courville, 2016), figures 10.4 and 10.6; M. Jordan, "Serial order" (1986). On the tape
    the scopes "hidden" and "output" hold a<t> and o<t>, and the state ŷ<t> is "h<t>".
    """

    name = "output_rnn"
    W_x: tg.Parameter
    W_h: tg.Parameter
    W_y: tg.Parameter
    b: tg.Parameter | None
    b_y: tg.Parameter | None

    ACTIVATIONS: ClassVar[dict[str | None, Function]] = {
        "softmax": softmax,
        "sigmoid": sigmoid,
        "tanh": tanh,
        None: lambda o: o,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        output_activation: str | Function | None = "softmax",
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        if whole("output_size", output_size) < 1:
            raise ValueError(f"output_size is at least 1, got {output_size}")
        self.output_size = output_size
        self.nonlinearity = _known(nonlinearity, NONLINEARITIES, "nonlinearity")
        if not callable(output_activation):
            _known(output_activation, self.ACTIVATIONS, "output_activation")
        self.output_activation = output_activation
        self._learn()

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The output's length: it is the state."""
        return (self.output_size,)

    def initial_weights(self) -> dict[str, Array | None]:
        """Xavier for W_x and W_y, orthogonal rows or columns for W_h, zeros for the biases."""
        I, H, O = self.input_size, self.hidden_size, self.output_size
        return dict(
            W_x=init.xavier_uniform((I, H)),
            W_h=init.orthogonal((O, H)),
            W_y=init.xavier_uniform((H, O)),
            b=init.zeros((H,)) if self.bias else None,
            b_y=init.zeros((O,)) if self.bias else None,
        )

    def project(self, x: Any) -> Any:
        """x<t> W_x + b: (..., I) -> (..., H)."""
        return affine(x, self.W_x, self.b)

    def step(self, xW: Any, y_hat: Any, seen: Any = None) -> Any:
        """The equations of the class."""
        seen = y_hat if seen is None else seen
        a = gate("hidden", NONLINEARITIES[self.nonlinearity], seen @ self.W_h + xW, symbol="a")  # (B, H)
        activation = self.output_activation
        o = gate("output", lambda a: affine(a, self.W_y, self.b_y), a, symbol="o" if activation else "")  # (B, O)
        return activation(o) if callable(activation) else self.ACTIVATIONS[activation](o)


def _known(name: Any, table: Any, what: str) -> Any:
    """The name, if the table has it."""
    if name not in table:
        raise ValueError(f"{what} is one of {', '.join(map(repr, table))}, not {name!r}")
    return name
