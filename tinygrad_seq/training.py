"""`fit`: the training loop that most programs need. Read after `optim.py` and `data.py`, before `runs.py`.

    history = tg.fit(model, batches, optimizer=tg.optim.Adam(model.parameters()), epochs=10, clip_norm=1.0,
                     validate=lambda model: 1 - accuracy(model, held_out), patience=3, checkpoint="run.safetensors", resume=True)

The loop is the body of `fit`. What makes it long elsewhere is done by others: `Run` knows where the run stands, writes that
down and comes back to it; `progress` shows it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from math import isfinite
from typing import Any, TextIO

from tinygrad_seq.clipping import refuse_limit
from tinygrad_seq.explain import told, whole
from tinygrad_seq.module import Module
from tinygrad_seq.nested import leaves, rebuilt
from tinygrad_seq.optim import Optimizer, Schedule, clip_grad_norm_, clip_grad_value_
from tinygrad_seq.progress import progress
from tinygrad_seq.runs import Data, Run, undisturbed
from tinygrad_seq.scopes import no_grad
from tinygrad_seq.serialize import refuse_missing_folder
from tinygrad_seq.tensor import Tensor

Objective = Callable[..., Any]


def fit(
    model: Module,
    data: Data,
    loss: Objective | None = None,
    *,
    optimizer: Optimizer,
    epochs: int,
    schedule: Schedule | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    carry: bool = False,
    validate: Callable[[Any], float] | None = None,
    patience: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    every: int | None = None,
    resume: bool = False,
    label: str = "training",
    file: TextIO | None = None,
) -> dict[str, Any]:
    """Train a module: for each batch the loss, its gradient, a step.

    A run that was stopped at any moment, by Ctrl-C or by force, goes on from its checkpoint bit for bit as if it had never been:
    parameters, optimiser, losses. For that, the data are the same, and model and data draw their random numbers from `tg.random`
    only. (The data find a generator of their own there, so that an epoch can be drawn again without the model.)

    Args:
        model: any module.
        data: an iterable of batches, which is gone through anew in each epoch (a list, or `tg.data.Minibatches`), or a
            function that gives one.
        loss: `loss(model, batch)` gives a scalar tensor, to be made small; by default `model.loss(*batch)`.
        optimizer: moves the parameters.
        epochs: how many times to go through the data, those before a resumption included.
        schedule: sets the learning rate, after each step; a `PlateauSchedule` after each epoch.
        clip_norm, clip_value: limits for the gradients; see `tg.optim.clip_grad_norm_` and `clip_grad_value_`.
        carry: truncated back-propagation through time: `loss(model, batch, state)`, or by default
            `model.loss(*batch, state=state)`, gives a pair, the loss and a state (a tensor, or nested
            tuples of them). The next batch gets it, cut off from its graph; the first batch of an epoch gets None.
        validate: `validate(model)` gives a number of which less is better. It is called after each epoch, in eval mode and
            without a tape. The parameters for which it was least are in the model in the end.
        patience: stop after so many epochs without a new least.
        checkpoint: a file to keep the run in. It is written, whole or not at all, after each epoch, at an interrupt, and
            every so many steps.
        every: how many.
        resume: go on from the file, if it is there, instead of starting anew.
        label: what stands before the progress bar.
        file: where that is shown; standard error by default.

    Returns:
        The history, as plain data: `losses` and `norms`, one for each step (norms before clipping, if there is `clip_norm`);
        `epochs`, a dict for each: epoch, steps, loss (mean), lr, validation; `best`, the number of the best one, or None.

    Raises:
        TypeError: an argument of another kind. Nothing has been changed, nor in the next case.
        FileNotFoundError: there is no folder for the checkpoint.
        FloatingPointError: a loss or the norm of the gradients is not finite; the step is not made.
        ValueError: the optimiser moves the parameters of another model.
        CheckpointError: the file to resume from does not fit. Nothing has been changed.
        KeyboardInterrupt: after writing the checkpoint. The model is as after its last whole step; so it is on any error.

    Example:
        >>> import io, numpy as np, tinygrad_seq as tg
        >>> from tinygrad_seq.models import Linear
        >>> tg.manual_seed(0)
        >>> x = np.linspace(-1, 1, 32, dtype=np.float32).reshape(4, 8, 1)
        >>> model = Linear(1, 1)
        >>> history = tg.fit(model, list(zip(x, 3 * x - 1)), lambda model, batch: tg.losses.mse(model(batch[0]), batch[1]),
        ...                  optimizer=tg.optim.Adam(model.parameters(), lr=0.1), epochs=60, file=io.StringIO())
        >>> len(history["losses"]), history["epochs"][-1]["loss"] < 1e-3
        (240, True)
    """
    _refuse_kinds(model, data, loss, optimizer, schedule, validate, file)
    _refuse(epochs, validate, patience, checkpoint, every, resume, clip_norm=clip_norm, clip_value=clip_value)
    losses = _objective(model, loss, carry)
    _refuse_strangers(model, optimizer)
    run = Run(model, optimizer, schedule, checkpoint)
    if resume:
        run.resume()
    bar: progress[Any] = progress((), label, total=_steps(data, epochs), done=run.steps, file=file)
    with run.kept_whole(), bar:
        while run.epoch < epochs and not run.out_of_patience(patience):
            model.train()
            for batch in run.batches(data):
                value, state = losses(batch, run.state)
                _refuse_nonfinite(value, run)
                value.backward()
                norm = None if clip_norm is None else clip_grad_norm_(optimizer.parameters, clip_norm)
                if clip_value is not None:
                    clip_grad_value_(optimizer.parameters, clip_value)
                with undisturbed():
                    optimizer.step()
                    if schedule is not None and not schedule.by_epoch:
                        schedule.step()
                    run.learned(value.item(), norm, state)
                optimizer.zero_grad()
                bar.note(**run.figures())
                bar.advance()
                if every is not None and run.steps % every == 0:
                    run.save()
            model.eval()
            with no_grad():
                figure = None if validate is None else _figure(validate(model))
            with undisturbed():
                if schedule is not None and schedule.by_epoch:
                    schedule.step(run.mean_loss if figure is None else figure)
                run.finished_epoch(figure)
            bar.note(**run.figures())
            run.save()
    run.restore_best()
    return run.history()


def _objective(model: Module, loss: Objective | None, carry: bool) -> Callable[[Any, Any], tuple[Tensor, Any]]:
    """(batch, state) -> (loss, state to carry on, cut off from the graph), whichever way the loss is given."""

    def of_model(model: Any, batch: Any, **options: Any) -> Any:
        return model.loss(*(batch if isinstance(batch, tuple | list) else (batch,)), **options)

    def losses(batch: Any, state: Any) -> tuple[Tensor, Any]:
        if not carry:
            result = (loss or of_model)(model, batch), None
        else:
            result = loss(model, batch, state) if loss else of_model(model, batch, state=state)
            if not isinstance(result, tuple) or len(result) != 2:
                raise TypeError(f"with carry=True the loss gives a pair, the loss and the state, not {told(result)}")
        value, state = result
        if not isinstance(value, Tensor) or value.size != 1:
            raise TypeError(f"a loss is one number on the tape, a scalar tensor; got {told(value)}")
        return value, rebuilt(state, [part.detach() if isinstance(part, Tensor) else part for part in leaves(state)])

    if loss is None and not hasattr(model, "loss"):
        raise TypeError(f"{type(model).__name__} has no loss of its own: give fit a function loss(model, batch)")
    return losses


def _refuse_nonfinite(loss: Tensor, run: Run) -> None:
    if not isfinite(loss.item()):
        raise FloatingPointError(f"the loss is {loss.item()} {run.where}; tg.detect_anomaly() finds where it comes from")


def _figure(value: Any) -> float:
    """What a validation gave, as a number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"validate(model) gives one number, of which less is better, and not {told(value)}") from None


def _steps(data: Data, epochs: int) -> int | None:
    """How many steps the whole run has, if that is known."""
    try:
        return epochs * len(data)  # type: ignore[arg-type]
    except TypeError:
        return None


def _refuse_strangers(model: Module, optimizer: Optimizer) -> None:
    """Raise if the optimiser moves nothing that the model has: it would seem to run, and learn nothing."""
    own = {id(parameter) for parameter in model.parameters()}
    if own and not any(id(parameter) in own for parameter in optimizer.parameters):
        raise ValueError("the optimiser has no parameter of this model: make it anew, of model.parameters()")


def _refuse_kinds(model: Any, data: Any, loss: Any, optimizer: Any, schedule: Any, validate: Any, file: Any) -> None:
    """Raise a TypeError on arguments of another kind, before anything has run."""
    if not isinstance(model, Module):
        raise TypeError(f"fit trains a module, not {told(model)}")
    if not callable(data) and not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        raise TypeError(f"the data are a list of batches, or a function that gives one, not {told(data)}")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer is one of tg.optim, made of model.parameters(), not {told(optimizer)}")
    if not isinstance(schedule, Schedule | None):
        raise TypeError(f"schedule is one of the schedules in tg.optim, made of the optimiser, not {told(schedule)}")
    for name, function, gives in [("loss", loss, "loss(model, batch)"), ("validate", validate, "validate(model)")]:
        if function is not None and not callable(function):
            raise TypeError(f"{name} is a function, {gives}, not {function!r}")
    if file is not None and not hasattr(file, "write"):
        raise TypeError(f"file is an open one, such as sys.stdout, not {file!r}")


def _refuse(
    epochs: int, validate: Any, patience: int | None, checkpoint: Any, every: int | None, resume: bool, **limits: float | None
) -> None:
    """Raise on settings that cannot be meant."""
    for name, count in {"epochs": epochs, "patience": patience, "every": every}.items():
        if count is not None:
            whole(name, count, 1)
    for name, limit in limits.items():
        if limit is not None:
            refuse_limit(name, limit)
    if checkpoint is not None:
        refuse_missing_folder(checkpoint)
    if patience is not None and validate is None:
        raise ValueError("patience needs validate, which says whether an epoch was better")
    if checkpoint is None and (every is not None or resume):
        raise ValueError("every and resume need checkpoint, the file to keep the run in")
