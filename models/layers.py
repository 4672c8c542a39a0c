"""The layers: any cell run over sequences, in one direction or two, and RNN, GRU and LSTM as PyTorch has them.

They say which cells; what they do with them stands in `layer.py`, to be read first.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypedDict, Unpack

from tinygrad_seq.explain import whole
from tinygrad_seq.models.cells import RNNCell
from tinygrad_seq.models.gated import GRUCell, LSTMCell
from tinygrad_seq.models.layer import Layer, Merge, refuse_what_is_no_cell


class Recurrent(Layer):
    """Any cell, run over sequences: ours, or one of your own (see `Cell` for what it needs).

    Args:
        cell: is shared, not copied.
        reverse: whether to run from the end to the start; outputs stay in their places.
        batch_first, input_dropout, state_dropout: see `Layer`.

    Example:
        >>> import numpy as np
        >>> from tinygrad_seq.models import GRUCell, Recurrent
        >>> outputs, state = Recurrent(GRUCell(3, 5))(np.ones((7, 2, 3)))
        >>> outputs.shape, state.shape
        ((7, 2, 5), (1, 2, 5))
    """

    def __init__(
        self,
        cell: Any,
        reverse: bool = False,
        batch_first: bool = False,
        input_dropout: float = 0.0,
        state_dropout: float = 0.0,
    ) -> None:
        super().__init__(
            [cell], reverse=reverse, batch_first=batch_first, input_dropout=input_dropout, state_dropout=state_dropout
        )


class Bidirectional(Layer):
    """A cell run over sequences from both ends, so that an output knows the past and the future.

    Schuster & Paliwal, "Bidirectional recurrent neural networks" (1997).

    Args:
        cell: for the forward direction.
        merge: "concat" (T, B, 2H), "sum", "mul", "ave", a function of both outputs, or None for the pair of them.
        backward: the cell for the backward direction; by default a copy, with weights newly drawn by its
            `reset_parameters`, if it has one.
        batch_first, input_dropout, state_dropout: see `Layer`.
    """

    def __init__(
        self,
        cell: Any,
        merge: Merge = "concat",
        backward: Any = None,
        batch_first: bool = False,
        input_dropout: float = 0.0,
        state_dropout: float = 0.0,
    ) -> None:
        refuse_what_is_no_cell(cell)
        if backward is None:
            backward = deepcopy(cell)
            if hasattr(backward, "reset_parameters"):
                backward.reset_parameters()
        super().__init__(
            [cell, backward],
            2,
            merge=merge,
            batch_first=batch_first,
            input_dropout=input_dropout,
            state_dropout=state_dropout,
        )


# ---- the three that have names --------------------------------------------------------------------------------------------


class Variational(TypedDict, total=False):
    """Dropout with one mask for all steps of a sequence; see `Layer`."""

    input_dropout: float
    state_dropout: float


class _Named(Layer):
    """Layers of one kind of cell: the first takes the inputs, each other one the outputs of that below."""

    def __init__(
        self, cell: Callable[[int], Any], input_size: int, output_size: int, num_layers: int, bidirectional: bool, **options: Any
    ) -> None:
        if whole("num_layers", num_layers) < 1:
            raise ValueError(f"num_layers is at least 1, got {num_layers}")
        directions = 2 if bidirectional else 1
        sizes = [input_size, *[directions * output_size] * (num_layers - 1)]
        super().__init__([cell(size) for size in sizes for _ in range(directions)], directions, **options)
        self.input_size = input_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional


class RNN(_Named):
    """Layers of `RNNCell`: a<t> = tanh(a<t-1> W_h + x<t> W_x + b).

    Args:
        input_size, hidden_size: I and H.
        num_layers: how many on top of each other.
        nonlinearity: "tanh" or "relu".
        bias: whether there are biases.
        batch_first: whether inputs and outputs are (B, T, ...) instead of (T, B, ...).
        dropout: between layers.
        bidirectional: whether each layer runs in both directions; outputs are (T, B, 2H) then.
        input_dropout, state_dropout: with one mask for all steps of a sequence; see `Layer`.

    Example:
        >>> import numpy as np
        >>> from tinygrad_seq.models import RNN
        >>> outputs, state = RNN(3, 5, num_layers=2)(np.ones((7, 2, 3)), lengths=[7, 4])
        >>> outputs.shape, state.shape
        ((7, 2, 5), (2, 2, 5))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, **variational: Unpack[Variational],
    ) -> None:  # fmt: skip
        self.hidden_size = hidden_size
        super().__init__(
            lambda size: RNNCell(size, hidden_size, bias, nonlinearity), input_size, hidden_size, num_layers, bidirectional,
            batch_first=batch_first, dropout=dropout, **variational,
        )  # fmt: skip


class GRU(_Named):
    """Layers of `GRUCell`.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional: as for `RNN`.
        reset_after: reset after the product, as PyTorch does, instead of before it; see `GRUCell`.
        input_dropout, state_dropout: with one mask for all steps of a sequence; see `Layer`.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, reset_after: bool = False, **variational: Unpack[Variational],
    ) -> None:  # fmt: skip
        self.hidden_size = hidden_size
        super().__init__(
            lambda size: GRUCell(size, hidden_size, bias, reset_after), input_size, hidden_size, num_layers, bidirectional,
            batch_first=batch_first, dropout=dropout, **variational,
        )  # fmt: skip


class LSTM(_Named):
    """Layers of `LSTMCell`; the state is the pair (h, c), (layers * directions, B, H) each.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional: as for `RNN`.
        proj_size: P > 0 makes h and the outputs of length P; see `LSTMCell`.
        input_dropout, state_dropout: with one mask for all steps of a sequence; see `Layer`.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, **variational: Unpack[Variational],
    ) -> None:  # fmt: skip
        self.hidden_size = hidden_size
        self.proj_size = proj_size
        super().__init__(
            lambda size: LSTMCell(size, hidden_size, bias, proj_size), input_size, proj_size or hidden_size, num_layers,
            bidirectional, batch_first=batch_first, dropout=dropout, **variational,
        )  # fmt: skip
