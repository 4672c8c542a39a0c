"""Optimisers: what happens between two backward passes. Read after `module.py`.

    loss.backward()
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()

Each optimiser is one formula, in its `moved` method: w the parameter, g its gradient, t the number of the step (from 1),
and the arrays that are kept from step to step. They compute what PyTorch's do, to rounding. A step writes through
`Tensor.overwrite` only: a backward pass through the old values afterwards raises, instead of using the new ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf, sqrt
from typing import Any, ClassVar

import numpy as np

from tinygrad_seq.clipping import clip_grad_norm_, clip_grad_value_
from tinygrad_seq.dtypes import Array
from tinygrad_seq.explain import told
from tinygrad_seq.parameters import called, listed
from tinygrad_seq.schedules import ConstantSchedule, CosineSchedule, ExponentialSchedule, PlateauSchedule, Schedule, StepSchedule
from tinygrad_seq.tape import Leaf
from tinygrad_seq.tensor import Tensor

__all__ = [
    "Optimizer", "SGD", "RMSprop", "Adagrad", "Adam", "AdamW",
    "Schedule", "ConstantSchedule", "StepSchedule", "ExponentialSchedule", "CosineSchedule", "PlateauSchedule",
    "clip_grad_norm_", "clip_grad_value_",
]  # fmt: skip


class Optimizer:
    """What all optimisers share. A parameter without a gradient is left alone.

    Args:
        parameters: the tensors to learn, as `module.parameters()` gives them. For parts that learn at different rates,
            make an optimiser for each.
        settings: learning rate and the like. Each becomes an attribute, which may be changed at any time.

    Attributes:
        parameters: the list of them.
        kept: for each of them what is kept from step to step: the number of its steps, "t", and the arrays in `keeps`.
        lr: the learning rate.
    """

    keeps: ClassVar[dict[str, str]] = {}
    """The arrays that are kept, each with the setting that it is for; with "" if it is always there."""

    lr: float

    def __init__(self, parameters: Iterable[Tensor], **settings: Any) -> None:
        self.parameters = _learnable(parameters)
        self.kept: list[dict[str, Any]] = [{} for _ in self.parameters]
        self._settings = tuple(settings)
        _refuse(settings)
        vars(self).update(settings)

    def moved(self, w: Array, g: Array, t: int, kept: dict[str, Array]) -> Array:
        """The parameter's new values. The arrays in `kept` start as zeros and are updated in place."""
        raise NotImplementedError(f"{type(self).__name__} does not define moved")

    def step(self) -> None:
        """Move every parameter that has a gradient."""
        for parameter, kept in zip(self.parameters, self.kept):
            if parameter.grad is None:
                continue
            kept["t"] = kept.get("t", 0) + 1
            for name in self._needed(self.settings):
                if name not in kept:
                    kept[name] = np.zeros_like(parameter.data)
            parameter.overwrite(self.moved(parameter.data, parameter.grad.data, kept["t"], kept))

    def zero_grad(self) -> None:
        """Forget the gradients: every parameter's `grad` is None again."""
        for parameter in self.parameters:
            parameter.zero_grad()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as they are now, by name."""
        return {name: getattr(self, name) for name in self._settings}

    def state_dict(self) -> dict[str, Any]:
        """A copy of the settings and of what is kept: plain data, and arrays as `state["kept"][i][name]`."""
        return {
            "optimizer": type(self).__name__,
            "settings": {name: value.item() if isinstance(value, np.generic) else value for name, value in self.settings.items()},
            "kept": [_copied(kept) for kept in self.kept],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state_dict` was taken, with the settings of then.

        Raises:
            TypeError: it is no state at all.
            ValueError: it is the state of another optimiser, or of other parameters. Nothing has been changed.
        """
        self.take_over(self.fitting(state))

    def fitting(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of a state, after checking that it is for this optimiser, without loading it; see `load_state_dict`."""
        if not isinstance(state, Mapping):
            raise TypeError(f"a state is what state_dict() gives, not {told(state)}; tg.load reads files")
        kind, settings, kept = (state.get(key) for key in ("optimizer", "settings", "kept"))
        if kind != type(self).__name__:
            whose = "it does not say of which optimiser" if kind is None else f"but of {kind}"
            raise ValueError(f"this is no state of {type(self).__name__}, {whose}")
        if not isinstance(settings, dict) or settings.keys() != set(self._settings):
            raise ValueError(f"the settings of {kind} are {', '.join(self._settings)}; this state has {settings}")
        settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
        _refuse(settings)
        if not isinstance(kept, list) or len(kept) != len(self.parameters):
            found = len(kept) if isinstance(kept, list) else "no"
            raise ValueError(f"this state of {kind} is for {found} parameters instead of {len(self.parameters)}")
        for i, one in enumerate(kept):
            self._refuse_kept(i, one, self._needed(settings))
        return {"settings": settings, "kept": [_copied(one) for one in kept]}

    def take_over(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `fitting` has checked and copied."""
        self.kept = state["kept"]
        vars(self).update(state["settings"])

    def _needed(self, settings: Mapping[str, Any]) -> list[str]:
        return [name for name, setting in self.keeps.items() if not setting or settings[setting]]

    def _refuse_kept(self, i: int, kept: Any, needed: Iterable[str]) -> None:
        """Raise unless this is what may be kept of parameter number i."""
        w = self.parameters[i]
        where = f"what {type(self).__name__} has kept of parameter {i}" + (f" ({w.name})" if w.name else "")
        if kept == {}:  # it has not had a gradient yet
            return
        if not isinstance(kept, dict) or type(kept.get("t")) is not int or kept["t"] < 1:
            raise ValueError(f"{where} does not say after which step")
        names = kept.keys() - {"t"}
        if not set(needed) <= names <= self.keeps.keys():
            raise ValueError(f"{where} is {', '.join(sorted(names)) or 'nothing'} instead of {', '.join(needed) or 'nothing'}")
        for name in names:
            array = kept[name]
            if not isinstance(array, np.ndarray) or array.shape != w.shape or array.dtype != w.dtype:
                found = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
                raise ValueError(f"{where} has {name} as {found} instead of {w.dtype} of shape {w.shape}")

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{type(self).__name__}({len(self.parameters)} parameters, {settings})"


class SGD(Optimizer):
    """Gradient descent with momentum ("Deep Learning", algorithms 8.1 to 8.3, in the form of Sutskever et al., 2013).

    velocity = momentum velocity + (1 - dampening) g
    w        = w - lr velocity                       (Nesterov: w - lr (g + momentum velocity))
    """

    keeps: ClassVar = {"velocity": "momentum"}
    momentum: float
    dampening: float
    nesterov: bool
    weight_decay: float

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr=lr, momentum=momentum, dampening=dampening, nesterov=nesterov, weight_decay=weight_decay)

    def moved(self, w: Array, g: Array, t: int, kept: dict[str, Array]) -> Array:
        """See the class."""
        g = _with_decay(self.weight_decay, w, g)
        if self.momentum:
            velocity = kept["velocity"]
            velocity *= self.momentum
            velocity += g if t == 1 else (1 - self.dampening) * g  # undamped at first, as in PyTorch
            g = g + self.momentum * velocity if self.nesterov else velocity
        return w - self.lr * g


class RMSprop(Optimizer):
    """Steps divided by a moving root mean square of the gradient (Hinton's lecture 6e; "Deep Learning", algorithm 8.5).

    square = alpha square + (1 - alpha) g²
    w      = w - lr g / (sqrt(square) + eps)

    With `centered` a moving mean is kept too, and mean² is subtracted under the root: the variance (Graves, 2013). With
    `momentum` the quotients are summed up in a velocity.
    """

    keeps: ClassVar = {"square": "", "mean": "centered", "velocity": "momentum"}
    alpha: float
    eps: float
    weight_decay: float
    momentum: float
    centered: bool

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(parameters, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum, centered=centered)

    def moved(self, w: Array, g: Array, t: int, kept: dict[str, Array]) -> Array:
        """See the class."""
        g = _with_decay(self.weight_decay, w, g)
        spread = square = _follow(kept["square"], g * g, 1 - self.alpha)
        if self.centered:
            mean = _follow(kept["mean"], g, 1 - self.alpha)
            spread = np.maximum(square - mean * mean, 0)  # a variance, that rounding may have made negative
        direction = g / (np.sqrt(spread) + self.eps)
        if self.momentum:
            velocity = kept["velocity"]
            velocity *= self.momentum
            velocity += direction
            direction = velocity
        return w - self.lr * direction


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients so far (Duchi, Hazan & Singer, 2011).

    total = total + g²
    w     = w - lr / (1 + (t - 1) lr_decay) g / (sqrt(total) + eps)
    """

    keeps: ClassVar = {"total": ""}
    lr_decay: float
    weight_decay: float
    eps: float

    def __init__(
        self, parameters: Iterable[Tensor], lr: float = 1e-2, lr_decay: float = 0.0, weight_decay: float = 0.0, eps: float = 1e-10
    ) -> None:
        super().__init__(parameters, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps)

    def moved(self, w: Array, g: Array, t: int, kept: dict[str, Array]) -> Array:
        """See the class."""
        g = _with_decay(self.weight_decay, w, g)
        total = kept["total"]
        total += g * g
        return w - self.lr / (1 + (t - 1) * self.lr_decay) * g / (np.sqrt(total) + self.eps)


class Adam(Optimizer):
    """Moving means of gradient and squared gradient, freed of their bias to zero (Kingma & Ba, 2015, algorithm 1).

    m = b1 m + (1 - b1) g
    v = b2 v + (1 - b2) g²
    w = w - lr m' / (sqrt(v') + eps)         with m' = m / (1 - b1^t), v' = v / (1 - b2^t)

    Weight decay is added to the gradient; see `AdamW` for the kind that is not.
    """

    keeps: ClassVar = {"m": "", "v": ""}
    betas: tuple[float, float]
    eps: float
    weight_decay: float

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def moved(self, w: Array, g: Array, t: int, kept: dict[str, Array]) -> Array:
        """See the class."""
        return self._adapted(w, _with_decay(self.weight_decay, w, g), t, kept)

    def _adapted(self, w: Array, g: Array, t: int, kept: dict[str, Array]) -> Array:
        b1, b2 = self.betas
        m = _follow(kept["m"], g, 1 - b1)
        v = _follow(kept["v"], g * g, 1 - b2)
        return w - self.lr / (1 - b1**t) * m / (np.sqrt(v) / sqrt(1 - b2**t) + self.eps)


class AdamW(Adam):
    """Adam with weight decay apart from the gradient: first w = (1 - lr weight_decay) w (Loshchilov & Hutter, 2019)."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def moved(self, w: Array, g: Array, t: int, kept: dict[str, Array]) -> Array:
        """See the class."""
        return self._adapted(w * (1 - self.lr * self.weight_decay), g, t, kept)


def _with_decay(weight_decay: float, w: Array, g: Array) -> Array:
    """The gradient of the loss plus weight_decay |w|² / 2."""
    return g + weight_decay * w if weight_decay else g


def _follow(mean: Array, value: Array, share: float) -> Array:
    """Move a moving mean towards a value, in place, by this share of the way."""
    mean += share * (value - mean)
    return mean


# ---- checked arguments ----------------------------------------------------------------------------------------------


def _learnable(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The parameters as a list, after refusing what an optimiser cannot move."""
    if isinstance(parameters, Tensor):
        raise TypeError("an optimiser takes a list of parameters, not a single tensor; put it in a list")
    found = listed("an optimiser", parameters)
    if not found:
        raise ValueError("there are no parameters to learn")
    for parameter in found:
        if not isinstance(parameter.node, Leaf):
            raise ValueError(f"{called(parameter)} is not a leaf that requires a gradient, so it cannot be learned")
    if len({id(parameter) for parameter in found}) < len(found):
        raise ValueError("a parameter is listed twice and would be moved twice in a step")
    return found


def _refuse(settings: Mapping[str, Any]) -> None:
    """Raise on settings that cannot be meant."""
    for name, value in settings.items():
        if name in ("nesterov", "centered"):
            fits, wanted = isinstance(value, bool), "True or False"
        elif name == "betas":
            fits = isinstance(value, tuple) and len(value) == 2 and all(_between(beta, 1) for beta in value)
            wanted = "a tuple of two numbers from 0 to 1, 1 excluded"
        else:
            end = 1 if name == "alpha" else inf
            fits, wanted = _between(value, end), "a finite number, at least 0" + (" and below 1" if end == 1 else "")
        if not fits:
            raise ValueError(f"{name} = {value!r} is out of range: it must be {wanted}")
    if settings.get("nesterov") and (not settings["momentum"] or settings["dampening"]):
        raise ValueError("Nesterov's method needs momentum, and no dampening")


def _between(value: Any, end: float) -> bool:
    """Whether it is a number in [0, end)."""
    return isinstance(value, int | float | np.floating) and not isinstance(value, bool) and bool(0 <= value < end)


def _copied(kept: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in kept.items()}
