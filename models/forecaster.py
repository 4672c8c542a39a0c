"""What comes next in a series of several numbers: prices, weather. Read `sequence_model.py` and `forcing.py` first."""

from __future__ import annotations

from typing import Any, SupportsFloat

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq.dtypes import Array
from tinygrad_seq.models import stacks
from tinygrad_seq.models.cells import State
from tinygrad_seq.models.forcing import by_teacher
from tinygrad_seq.models.nn import Dropout, Linear
from tinygrad_seq.models.sequence_model import SequenceModel, checked_features, positive
from tinygrad_seq.ops.elementwise import where
from tinygrad_seq.ops.shape import stack
from tinygrad_seq.tensor import as_array
from tinygrad_seq.truncated import counted_from


class Forecaster(SequenceModel):
    """Reads a series and says after each step what comes next.

        h<t>   = layers(x<0>, ..., x<t>)
        x^<t+1> = h<t> W + b                        or, with `residual`, x<t> + h<t> W + b

    Beyond the end it runs freely: what it has said is read as if it had happened.

    Args:
        input_size: how many numbers I a step of the series has.
        hidden_size: H.
        output_size: how many numbers O are forecast, where these are not the series itself; it cannot run freely then.
        residual: whether the change is forecast. A change of nothing is persistence, the forecast to beat.
        cell: "rnn", "gru", "lstm", the class of a cell or layer, or a layer; see `stacks.recurrent`.
        num_layers: as for `LSTM`.
        dropout: between layers and before the readout.
        batch_first: whether arrays are (B, T, ...) instead of (T, B, ...).

    Shapes:
        series (T, B, I), floating; lengths (B,), from 1 to T (from 2 for a loss without targets); forecasts (T, B, O).

    Example:
        >>> import numpy as np
        >>> from tinygrad_seq.models import Forecaster
        >>> series = np.sin(np.arange(60).reshape(20, 1, 3) / 5).astype(np.float32)
        >>> model = Forecaster(input_size=3, hidden_size=8, residual=True)
        >>> model.loss(series).shape, model.predict(series).shape, model.forecast(series, horizon=7).shape
        ((), (20, 1, 3), (7, 1, 3))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        *,
        residual: bool = False,
        cell: Any = "lstm",
        num_layers: int = 1,
        dropout: float = 0.0,
        batch_first: bool = False,
    ) -> None:
        self.output_size = input_size if output_size is None else output_size
        positive(input_size=input_size, hidden_size=hidden_size, output_size=self.output_size)
        if residual and self.output_size != input_size:
            raise ValueError(f"residual needs forecasts as long as a step of the series, got {output_size} and {input_size}")
        self.input_size = input_size
        self.residual = residual
        self.batch_first = batch_first
        layers = stacks.recurrent(cell, input_size, hidden_size, num_layers, dropout=dropout)
        self.layers = stacks.forward_only(layers, "the future is what a forecaster forecasts")
        self.dropout = Dropout(dropout)
        self.readout = Linear(stacks.output_size(layers, input_size), self.output_size)

    def forward(self, series: Any, state: State | None = None, lengths: Any = None) -> tuple[Any, State]:
        """(forecasts (T, B, O) of what comes after each step, the state after the last real one)."""
        x, _ = self._checked(series, lengths)
        with counted_from(state):
            forecasts, last = self._read(x, state, lengths)
            return self._as_given(forecasts), last

    def loss(
        self,
        series: Any,
        targets: Any = None,
        state: State | None = ...,
        lengths: Any = None,
        mask: Any = None,
        *,
        teacher: SupportsFloat = 1.0,
        context: int = 1,
        reduction: str = "mean",
    ) -> Any:
        """Mean squared error of the forecasts.

        Args:
            series: see the class.
            targets: (T, B, O), what comes after each step; by default the series itself, one step later.
            state: to start with, for series that are read in pieces; None for zeros. Whoever gives one gets one back: the
                result is (loss, state) then.
            lengths: (B,), how many steps of the series are real.
            mask: (T, B), or (T, B, O), which of the real targets count; all by default.
            teacher: the probability that a step reads the series, and not what was forecast for it, or a schedule; see
                `forcing.py`. The gradient flows back through forecasts that are read.
            context: how many steps, from the first on, read the series in any case.
            reduction: of `tg.losses.mse`.

        Raises:
            ShapeError, TypeError: series, targets or lengths that do not fit.
            ValueError: a `context` less than 1; a forecaster of something else than the series, without a teacher.
        """
        positive(context=context)
        x, valid = self._checked(series, lengths)
        if targets is None:
            if len(x) < 2 or (valid is not None and not valid[1].all()):
                raise tg.ShapeError(f"without targets, each row of a series needs two steps; shape {x.shape}, lengths {lengths}")
            x, targets = x[:-1], x[1:]
            lengths, valid = None if lengths is None else as_array(lengths) - 1, None if valid is None else valid[1:]
        else:
            targets = self._time_first(targets)
        if np.shape(targets) != (*x.shape[:2], self.output_size):
            wanted = (*x.shape[:2], self.output_size)
            raise tg.ShapeError(f"targets of shape {wanted}, time first, are needed, got {np.shape(targets)}")
        coins = by_teacher(teacher, *x.shape[:2])
        coins[:context] = True
        first = None if state is ... else state
        with counted_from(first):
            forecasts, last = self._read(x, first, lengths) if coins.all() else self._run(x, first, coins, valid)
            loss = tg.losses.mse(forecasts, targets, mask=self._counting(mask, valid), reduction=reduction)
        return loss if state is ... else (loss, last)

    def predict(self, series: Any, lengths: Any = None) -> Array:
        """What comes after each step, one step ahead, (T, B, O); 0 beyond a row's end."""
        with self.predicting():
            x, valid = self._checked(series, lengths)
            forecasts = self._read(x, None, lengths)[0].data
        return self._as_given(forecasts if valid is None else np.where(valid[:, :, None], forecasts, 0))  # type: ignore[no-any-return]

    def forecast(self, series: Any, horizon: int, lengths: Any = None) -> Array:
        """The `horizon` steps that come after the last real one of each row, running freely, (horizon, B, I)."""
        positive(horizon=horizon)
        self._refuse_other_outputs()
        with self.predicting():
            x, _ = self._checked(series, lengths)
            forecasts, state = self._read(x, None, lengths)
            steps, batch = x.shape[:2]
            last = np.full(batch, steps - 1) if lengths is None else as_array(lengths) - 1
            found = [forecasts[last, np.arange(batch)]]  # (B, I)
            states = stacks.apart(state)
            for t in range(steps, steps + horizon - 1):
                h, states = stacks.one_step(self.layers, found[-1], states, t)
                found.append(self._ahead(h, found[-1]))
        return self._as_given(np.stack([each.data for each in found]))  # type: ignore[no-any-return]

    def _checked(self, series: Any, lengths: Any) -> tuple[Any, Array | None]:
        """The series, time first, with 0 in the padding, and which steps are real."""
        return checked_features(self._time_first(series), self.input_size, lengths, "a series")

    def _read(self, x: Any, state: State | None, lengths: Any) -> tuple[Any, State]:
        """All of what is known, at once."""
        outputs, state = self.layers(x, state, lengths)
        with tg.scope("readout", time_axis=0, role="readout"):
            return self._ahead(outputs, x), state

    def _run(self, x: Any, state: State | None, coins: Array, valid: Array | None) -> tuple[Any, State]:
        """Step by step, where the coins decide whether the series is read or what was forecast for it."""
        self._refuse_other_outputs()
        states = stacks.start(self.layers, x.shape[1]) if state is None else stacks.apart(state)
        said: list[Any] = []
        for t, coin in enumerate(coins):
            tags = {} if valid is None else {"valid": valid[t]}
            with tg.scope("input", t=t, **tags):
                read = x[t] if coin.all() else where(coin[:, None], x[t], said[-1])  # (B, I)
            h, states = stacks.one_step(self.layers, read, states, t, **tags)
            with tg.scope("readout", t=t, role="readout", **tags):
                said.append(self._ahead(h, read))
        with tg.scope("forecasts", time_axis=0):
            return stack(said), stacks.together(states)

    def _ahead(self, h: Any, x: Any) -> Any:
        """What comes after x, which led to the output h."""
        change = self.readout(self.dropout(h))
        return x + change if self.residual else change

    def _refuse_other_outputs(self) -> None:
        if self.output_size != self.input_size:
            raise ValueError(
                f"this forecaster cannot read its {self.output_size} numbers in the place of the series' {self.input_size}"
            )
