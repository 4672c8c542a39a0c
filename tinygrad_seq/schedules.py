"""Learning-rate schedules: small objects that set an optimiser's `lr`. Read after `optim.py`, where users find them.

A schedule goes one step on after each update:

    schedule = CosineSchedule(optimizer, steps=10_000, warmup=500)
    ...
    optimizer.step()
    schedule.step()
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from math import cos, inf, isfinite, pi
from typing import TYPE_CHECKING, Any, ClassVar

from tinygrad_seq.explain import told, whole

if TYPE_CHECKING:
    from tinygrad_seq.optim import Optimizer


class Schedule:
    """Sets an optimiser's learning rate, to its first one times a factor that depends on the number of steps.

    Call `step` after each step of the optimiser (or once an epoch; what a step is, is the caller's choice, and `tg.fit` goes by
    `by_epoch`). A subclass says in `factor` what holds after the warm-up.

    Args:
        optimizer: whose `lr` to set; the one that it has now is the full one.
        warmup: steps over which the rate first rises in a straight line: 1/warmup, 2/warmup, ... of the full one.

    Attributes:
        n: how many steps have been taken.
    """

    by_epoch: ClassVar[bool] = False
    """Whether `tg.fit` steps once an epoch, instead of after each step of the optimiser."""

    def __init__(self, optimizer: Optimizer, warmup: int = 0) -> None:
        if not hasattr(optimizer, "lr") or isinstance(optimizer, Schedule | type):
            raise TypeError(f"a schedule sets the learning rate of an optimiser, one of tg.optim, and not of {told(optimizer)}")
        self.optimizer = optimizer
        self.full_lr = float(optimizer.lr)
        self.warmup = warmup
        self.n = 0
        self.optimizer.lr = self.lr

    def factor(self, n: int) -> float:
        """The share of the full learning rate, n steps after the warm-up."""
        raise NotImplementedError(f"{type(self).__name__} does not define factor")

    @property
    def lr(self) -> float:
        """The learning rate that holds now."""
        warm = min(1.0, (self.n + 1) / self.warmup) if self.warmup else 1.0
        return self.full_lr * warm * self.factor(max(self.n - self.warmup, 0))

    def step(self, loss: float | None = None) -> None:
        """Go one step on. Only `PlateauSchedule` looks at the loss."""
        self.n += 1
        self.optimizer.lr = self.lr

    def state_dict(self) -> dict[str, Any]:
        """The schedule's settings and where it stands, as plain data."""
        return {"schedule": type(self).__name__, **{name: value for name, value in vars(self).items() if name != "optimizer"}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state_dict` was taken.

        Raises:
            ValueError: it is the state of another schedule. Nothing has been changed.
        """
        self.take_over(self.fitting(state))

    def fitting(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of a state, after checking that it is for this kind of schedule, without loading it."""
        if not isinstance(state, Mapping):
            raise TypeError(f"a state is what state_dict() gives, and not {told(state)}")
        own = self.state_dict()
        if state.get("schedule") != own["schedule"] or state.keys() != own.keys():
            raise ValueError(f"this is no state of {own['schedule']}, but {dict(state)}")
        wrong = [name for name in own if type(state[name]) is not type(own[name]) or state[name] != state[name]]
        if wrong:
            raise ValueError(f"this state of {own['schedule']} has {wrong[0]} = {state[wrong[0]]!r}")
        settings = {name: value for name, value in state.items() if name != "schedule"}
        trial = copy(self)
        vars(trial).update(settings)
        try:
            fits = 0 <= trial.lr < inf
        except (ArithmeticError, TypeError):
            fits = False
        if not fits:
            raise ValueError(f"this state of {own['schedule']} gives no learning rate: {settings}")
        return settings

    def take_over(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `fitting` has checked."""
        vars(self).update(state)
        self.optimizer.lr = self.lr


class ConstantSchedule(Schedule):
    """The full learning rate, after the warm-up."""

    def factor(self, n: int) -> float:
        """See the class."""
        return 1.0


class StepSchedule(Schedule):
    """Times `decay` every so many steps."""

    def __init__(self, optimizer: Optimizer, every: int, decay: float = 0.1, warmup: int = 0) -> None:
        self.every = whole("every", every, 1)
        self.decay = float(decay)
        super().__init__(optimizer, warmup)

    def factor(self, n: int) -> float:
        """See the class."""
        return self.decay ** (n // self.every)


class ExponentialSchedule(Schedule):
    """Times `decay` at each step."""

    def __init__(self, optimizer: Optimizer, decay: float, warmup: int = 0) -> None:
        self.decay = float(decay)
        super().__init__(optimizer, warmup)

    def factor(self, n: int) -> float:
        """See the class."""
        return self.decay**n


class CosineSchedule(Schedule):
    """Down to the share `final` in half a cosine over `steps` steps, and then level (Loshchilov & Hutter, 2017).

    Args:
        optimizer: as for `Schedule`.
        steps: how many steps the way down takes, after the warm-up.
        final: the share of the full learning rate at its end.
        warmup: as for `Schedule`.
    """

    def __init__(self, optimizer: Optimizer, steps: int, final: float = 0.0, warmup: int = 0) -> None:
        self.steps = whole("steps", steps, 1)
        self.final = float(final)
        super().__init__(optimizer, warmup)

    def factor(self, n: int) -> float:
        """See the class."""
        return self.final + (1 - self.final) * (1 + cos(pi * min(n / self.steps, 1.0))) / 2


class PlateauSchedule(Schedule):
    """Times `decay` whenever the loss that `step` is given has not become smaller for more than `patience` steps.

    Args:
        optimizer: as for `Schedule`.
        decay: the factor.
        patience: how many steps without progress are borne.
        threshold: the share of the best loss by which a loss must be below it to count as progress. NaN never does.
        warmup: as for `Schedule`.
    """

    by_epoch: ClassVar = True

    def __init__(
        self, optimizer: Optimizer, decay: float = 0.1, patience: int = 10, threshold: float = 1e-4, warmup: int = 0
    ) -> None:
        self.decay = float(decay)
        self.patience = patience
        self.threshold = float(threshold)
        self.best = inf
        self.waited = 0
        self.reductions = 0
        super().__init__(optimizer, warmup)

    def factor(self, n: int) -> float:
        """See the class."""
        return self.decay**self.reductions

    def step(self, loss: float | None = None) -> None:
        """Go one step on, with the loss that was reached."""
        if loss is None:
            raise TypeError("PlateauSchedule.step needs the loss: schedule.step(loss)")
        loss = float(loss)
        if loss < self.best - (self.threshold * abs(self.best) if isfinite(self.best) else 0):
            self.best, self.waited = loss, 0
        else:
            self.waited += 1
        if self.waited > self.patience:
            self.reductions, self.waited = self.reductions + 1, 0
        super().step()
