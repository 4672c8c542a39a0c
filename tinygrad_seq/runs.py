"""Where a training run stands, written down so that it can be stopped at any moment and go on. Read after `serialize.py`.

Model, optimiser and schedule keep themselves. The rest is here: the place in the data, the random numbers, the state that is
carried from batch to batch, the figures so far, the best parameters.

The place in the data is two things: the state of a generator, from which the epoch's batches are drawn (their order,
noise in them, ...), and how many of them have been learned from. To come back to it, the epoch is drawn again and so many
batches are passed over. The model draws from the engine's own generator, which is written down as it stands; so neither
depends on the other.

Between two steps everything is consistent, and there `Run` takes a mark. Whatever happens within a step takes it back
there: an error, or Ctrl-C, which waits only while parameters are being moved (`undisturbed`).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_seq import random
from tinygrad_seq.module import Module
from tinygrad_seq.nested import leaves, rebuilt
from tinygrad_seq.optim import Optimizer, Schedule
from tinygrad_seq.serialize import CheckpointError, load, peek, save
from tinygrad_seq.tensor import Tensor, as_array

Data = Iterable[Any] | Callable[[], Iterable[Any]]


class Run:
    """Where a run stands, besides model, optimiser and schedule.

    Attributes:
        epoch: how many epochs are finished.
        taken: how many batches of the present epoch have been learned from.
        drawn_from: the state of a generator, from which the present epoch's batches are drawn; None before it begins.
        state: what the last batch handed on.
        losses, norms: one for each step.
        epochs: figures, a dict for each epoch.
        best: the number of the best epoch, or None.
        waited: how many epochs ago that was.
    """

    def __init__(self, model: Module, optimizer: Optimizer, schedule: Schedule | None, checkpoint: Any) -> None:
        self.model = model
        self.optimizer = optimizer
        self.schedule = schedule
        self.checkpoint = None if checkpoint is None else Path(os.fspath(checkpoint))
        self.epoch = 0
        self.taken = 0
        self.drawn_from: dict[str, Any] | None = None
        self.state: Any = None
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.epochs: list[dict[str, Any]] = []
        self.best: int | None = None
        self.waited = 0
        self._parameters_of_best: dict[str, Any] = {}
        self._mark()

    # ---- the way through an epoch -------------------------------------------------------------------------------

    def batches(self, data: Data) -> Iterator[Any]:
        """The batches of this epoch that are still to come."""
        if self.drawn_from is None:
            self.drawn_from = dict(np.random.PCG64(int(random.generator().integers(2**63))).state)
            self._mark()
        drawn = _drawn(data, self.drawn_from)
        passed = sum(1 for _ in islice(drawn, self.taken))
        if passed < self.taken:
            raise CheckpointError(f"the run stands behind batch {self.taken} of an epoch, and the data give only {passed}")
        yield from drawn
        if not self.taken:
            raise ValueError("the data give no batches")

    def learned(self, loss: float, norm: float | None, state: Any) -> None:
        """A step has been made."""
        self.taken += 1
        self.losses.append(loss)
        if norm is not None:
            self.norms.append(norm)
        self.state = state
        self._mark()

    def finished_epoch(self, figure: float | None) -> None:
        """An epoch is over, with this result of the validation. NaN is never the best."""
        least = inf if self.best is None else self.epochs[self.best]["validation"]
        self.epochs.append({
            "epoch": self.epoch, "steps": self.steps, "loss": self.mean_loss, "lr": float(self.optimizer.lr), "validation": figure
        })  # fmt: skip
        self.waited += 1
        if figure is not None and figure < least:
            self.best, self.waited = self.epoch, 0
            self._parameters_of_best = self.model.state_dict()
        self.epoch += 1
        self.taken, self.drawn_from, self.state = 0, None, None
        self._mark()

    # ---- what it says of itself ---------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """How many steps have been made in all."""
        return len(self.losses)

    @property
    def mean_loss(self) -> float:
        """The mean loss of this epoch so far."""
        return float(np.mean(self.losses[len(self.losses) - self.taken :]))

    @property
    def where(self) -> str:
        """The step that is being made, in words."""
        return f"at step {self.steps} (batch {self.taken} of epoch {self.epoch})"

    def out_of_patience(self, patience: int | None) -> bool:
        """Whether this many epochs, or more, have passed since the best one."""
        return patience is not None and self.waited >= patience

    def figures(self) -> dict[str, Any]:
        """What a progress bar shows."""
        shown: dict[str, Any] = {"epoch": self.epoch}
        if self.losses:
            shown["loss"] = self.losses[-1]
        if self.epochs and self.epochs[-1]["validation"] is not None:
            shown["validation"] = self.epochs[-1]["validation"]
        return shown

    def history(self) -> dict[str, Any]:
        """All figures, as plain data."""
        return {"losses": list(self.losses), "norms": list(self.norms), "epochs": list(map(dict, self.epochs)), "best": self.best}

    def restore_best(self) -> None:
        """Give the model the parameters of the best epoch, if there is one."""
        if self.best is not None:
            self.model.load_state_dict(self._parameters_of_best)

    # ---- stopped, and going on ----------------------------------------------------------------------------------

    @contextmanager
    def kept_whole(self) -> Iterator[None]:
        """Leave everything as after the last whole step, come what may, and after an interrupt the checkpoint too."""
        modes = [(module, module.training) for module in self.model.modules()]
        try:
            yield
        except BaseException as error:
            with undisturbed():
                self._back_to_mark()
                if isinstance(error, KeyboardInterrupt):
                    self.save()
            raise
        finally:
            self.optimizer.zero_grad()
            for module, training in modes:
                module.training = training

    def _mark(self) -> None:
        """Remember what a step changes before it is a whole one: random numbers drawn, and buffers."""
        self._marked = random.get_state(), {name: array.copy() for name, array in self.model.named_buffers()}

    def _back_to_mark(self) -> None:
        generator, buffers = self._marked
        random.set_state(generator)
        self.model.take_over(buffers)

    def save(self) -> None:
        """Write all of it down, if there is a file for it."""
        if self.checkpoint is None:
            return
        carried = leaves(self.state)
        arrays = {f"best.{name}": array for name, array in self._parameters_of_best.items()}
        arrays |= {f"carried.{i}": as_array(part) for i, part in enumerate(carried) if part is not None}
        arrays |= {"losses": np.array(self.losses, np.float64), "norms": np.array(self.norms, np.float64)}
        standing = {name: getattr(self, name) for name in PLAIN}
        standing["carried"] = rebuilt(self.state, [None if part is None else i for i, part in enumerate(carried)])
        save(self.checkpoint, self.model, self.optimizer, {"run": standing}, schedule=self.schedule, arrays=arrays)

    def resume(self) -> None:
        """Go on from the checkpoint, if it is there.

        Raises:
            CheckpointError: it is no checkpoint of such a run. Nothing has been changed.
        """
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        metadata, arrays = peek(self.checkpoint)
        standing: Any = metadata.get("run") if isinstance(metadata, dict) else None
        if not _is_standing(standing, arrays):
            raise CheckpointError(f"{self.checkpoint} does not hold a run that fit has written; load reads other checkpoints")
        best = {name.removeprefix("best."): array for name, array in arrays.items() if name.startswith("best.")}
        try:
            best = {} if standing["best"] is None else self.model.fitting(best)
            if standing["drawn_from"] is not None:
                random.started_from(standing["drawn_from"])  # raises if it is no state
        except ValueError as error:
            raise CheckpointError(f"{self.checkpoint}: {error}") from error
        load(self.checkpoint, self.model, self.optimizer, schedule=self.schedule)
        for name in PLAIN:
            setattr(self, name, standing[name])
        self.state = _filled(standing["carried"], arrays)
        self.losses, self.norms = arrays["losses"].tolist(), arrays["norms"].tolist()
        self._parameters_of_best = best
        self._mark()


PLAIN = ("epoch", "taken", "drawn_from", "epochs", "best", "waited")
"""The attributes of a run that JSON can hold."""


FIGURES = {"epoch": int, "steps": int, "loss": float, "lr": float, "validation": float | None}
"""Those of an epoch."""


def _is_standing(standing: Any, arrays: dict[str, Any]) -> bool:
    """Whether a run can stand like this, as far as can be seen without the model."""
    if not isinstance(standing, dict) or standing.keys() != {*PLAIN, "carried"}:
        return False
    epoch, taken, waited, best = (standing[name] for name in ("epoch", "taken", "waited", "best"))
    epochs = standing["epochs"]
    return (
        all(type(count) is int and count >= 0 for count in (epoch, taken, waited, best or 0))
        and isinstance(epochs, list)
        and all(isinstance(one, dict) and one.keys() == FIGURES.keys() for one in epochs)
        and all(isinstance(one[name], kind) for one in epochs for name, kind in FIGURES.items())
        and len(epochs) == epoch
        and (best is None or best < epoch)
        and {"losses", "norms", *(f"carried.{i}" for i in leaves(standing["carried"]) if i is not None)} <= arrays.keys()
        and arrays["losses"].shape == ((epochs[-1]["steps"] if epochs else 0) + taken,)
        and arrays["norms"].shape in (arrays["losses"].shape, (0,))
    )


def _filled(structure: Any, arrays: dict[str, Any]) -> Any:
    """A carried state, from its structure with numbers for the arrays. JSON makes tuples lists, and here they become tuples."""
    if isinstance(structure, list):
        return tuple([_filled(part, arrays) for part in structure])
    if isinstance(structure, dict):
        return {key: _filled(part, arrays) for key, part in structure.items()}
    return None if structure is None else Tensor(arrays[f"carried.{structure}"])


def _drawn(data: Data, state: dict[str, Any]) -> Iterator[Any]:
    """The batches of an epoch, drawn with a generator of their own, which starts at `state`."""
    with random.replaying(state):
        batches = data() if callable(data) else data
        iterator = iter(batches)
        state = random.get_state()
    if iterator is data:
        raise TypeError("an iterator is gone through only once: give a list, tg.data.Minibatches, or a function that gives one")
    while True:
        with random.replaying(state):
            try:
                batch = next(iterator)
            except StopIteration:
                return
            state = random.get_state()
        yield batch


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let an interrupt (Ctrl-C) wait until the block is finished, and come then."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is None:
        yield  # interrupts come in the main thread only; None: not Python's to handle
        return
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)
