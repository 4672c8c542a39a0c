"""Parameters as people hand them over: a list of tensors, or what they took for one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from inspect import isfunction, ismethod
from typing import Any

import numpy as np

from tinygrad_seq.explain import told
from tinygrad_seq.tensor import Tensor


def listed(who: str, parameters: Any) -> list[Tensor]:
    """The parameters as a list; a TypeError for what is none, with the way to them."""
    if not isinstance(parameters, Iterable):
        raise TypeError(f"{who} takes a list of parameters, not {told(parameters)}{_cure(parameters)}")
    found = list(parameters)
    if not found and isinstance(parameters, Iterator):
        raise ValueError(f"{who} was given no parameters: an iterator such as module.parameters() gives them only once")
    for one in found:
        if not isinstance(one, Tensor):
            raise TypeError(f"{who} takes parameters, not {told(one)}{_cure(one)}")
    return found


def _cure(stranger: Any) -> str:
    """What to do, by what stands in the place of parameters."""
    match stranger:
        case str():
            return "; of a dict, pass d.values()"
        case tuple():
            return "; named_parameters() gives names beside them, parameters() does not"
        case dict():
            return "; for parts that learn at different rates, make an optimiser for each"
        case np.ndarray():
            return "; tg.Parameter(array) makes one of it"
    of_its_own = None if isinstance(stranger, type) else getattr(stranger, "parameters", None)
    if of_its_own is not None:
        return f"; pass its .parameters{'()' if callable(of_its_own) else ''}"
    return "; call it" if ismethod(stranger) or isfunction(stranger) else "; module.parameters() gives them"


def called(parameter: Tensor) -> str:
    """A parameter in words: its name, or its shape."""
    return f"{parameter.name!r}" if parameter.name else f"a tensor of shape {parameter.shape}"
