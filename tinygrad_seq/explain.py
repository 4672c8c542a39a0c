"""Errors in words: which call it was, of which shapes, at which line of the user's. Nothing here is on the hot path."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from operator import index
from types import FrameType, ModuleType
from typing import Any

import numpy as np

from tinygrad_seq.errors import AnomalyError, ShapeError
from tinygrad_seq.scopes import Scope, current


def explained(error: Exception, name: str, arrays: Sequence[Any]) -> Exception:
    """NumPy's complaint about a call, with the operation, the shapes and the place in the model."""
    shapes = ", ".join(f"{np.shape(array)} {getattr(array, 'dtype', type(array).__name__)}" for array in arrays)
    kind = ShapeError if type(error) is ValueError else type(error)
    cure = next((cure for sign, cure in CURES.items() if sign in str(error)), "")
    kind = next(public for public in kind.__mro__ if "._" not in public.__module__)  # NumPy's private ones take no message
    return kind(f"{name} of {shapes}{current().scope.place}: {str(error).strip()}{cure}")


CURES = {
    "core dimension": ". What is summed over must be equally long: transpose one of them (.T); weights from the right are "
    "(inputs, outputs)",
    "broadcast": ". Axes are matched from the last one, and must be equally long or of length 1: line them up by reshape or "
    "np.expand_dims",
}
"""What to do, by words of NumPy's complaint."""


def told(value: Any) -> str:
    """A wrong argument in a few words: "a float", "an array of shape (3,)", "the class Adam"."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    kind = "array" if isinstance(value, np.ndarray) else "tensor" if type(value).__name__ == "Tensor" else type(value).__name__
    shape = f" of shape {value.shape}" if isinstance(getattr(value, "shape", None), tuple) else ""
    return "None" if value is None else f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}{shape}"


def refuse_no_function(who: str, f: Any, cure: str = "") -> None:
    """Raise a TypeError, if what `who` takes for a function is none."""
    if not callable(f):
        raise TypeError(f"{who} takes a function, not {told(f)}{cure}")


def whole(name: str, value: Any, least: int | None = None) -> int:
    """A whole number that was asked for under this name.

    Raises:
        TypeError: it is none.
        ValueError: it is less than the least.
    """
    try:
        number = index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, not {value!r}") from None
    if least is not None and number < least:
        raise ValueError(f"{name} must be at least {least}, not {number}")
    return number


def user_line() -> str:
    """The "file:line" of the innermost call outside of this package and NumPy."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in (
        "tinygrad_seq",
        "numpy",
        "contextlib",
    ):
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def refuse_nonfinite(name: str, scope: Scope, source: str, arrays: Sequence[Any], outputs: Sequence[Any]) -> None:
    """Raise on the first value that is not finite, for `detect_anomaly`."""
    for output in outputs:
        if output.dtype.kind == "f" and not np.isfinite(output.data).all():
            finite = all(np.isfinite(array).all() for array in arrays if array is not None)
            raise AnomalyError(
                f"forward: {name}{scope.place} gave {first_nonfinite(output.data)} at {source}; "
                f"{'its inputs are finite' if finite else 'so was an input already'}. "
                "Look at the operands there; clip them, or use an operation that is safe for them."
            )


def first_nonfinite(array: Any) -> str:
    """Which value is not finite and where: `nan at index (0, 3)`."""
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
    return f"{array[index]} at index {index}"


# What people look for who come from PyTorch, and where it is.
HABITS = {
    "view": "use reshape", "permute": "use transpose", "unsqueeze": "use tg.expand_dims", "numel": "use size", "dim": "use ndim",
    "clone": "use copy", "to": "use astype; there are no devices", "type": "use astype", "float": "use astype(np.float32)",
    "double": "use astype(np.float64)", "long": "use astype(np.int64)", "int": "use astype(int)", "half": "use astype('f2')",
    "bool": "use astype(bool)", "t": "use T", "mm": "use @", "bmm": "use @", "mul": "use *", "eq": "use ==",
    "expand": "use np.broadcast_to(x, shape)", "gather": "use np.take_along_axis(x, indices, axis)",
    "norm": "use np.linalg.norm(x)", "cuda": "there are no devices, all runs in NumPy", "device": "there are no devices",
    "cpu": "there are no devices, all runs in NumPy", "is_leaf": "a leaf is what no operation made",
    "grad_fn": "print(tg.tape(x)) shows what made it", "detach_": "use x = x.detach()", "contiguous": "nothing needs it",
    "requires_grad_": "set requires_grad = True", "masked_fill": "use np.where(mask, value, x)", "unbind": "use tg.unstack",
    "chunk": "use tg.split", "zero_": "tensors are not written in place; x.overwrite(0) for a leaf",
    "add_": "tensors are not written in place; x.overwrite(values) for a leaf", "copy_": "use x.overwrite(values), for a leaf",
}  # fmt: skip
ARRAYS = "NumPy makes arrays; tg.tensor(array, requires_grad=True) makes a tensor of one"
ELSEWHERE = {
    "cat": "use tg.concatenate", "from_numpy": "use tg.tensor", "as_tensor": "use tg.tensor", "device": "there are no devices",
    "cuda": "there are no devices", "rand": "use tg.random.generator().random(shape)",
    "randn": "use tg.random.generator().normal(size=shape)", "functional": "functions are here, losses in tg.losses",
    "nn": "layers are in tg.models, losses in tg.losses, tg.Module and tg.Parameter here",
    **dict.fromkeys(["zeros", "ones", "full", "arange", "linspace", "eye"], ARRAYS),
    **dict.fromkeys(["float16", "float32", "float64", "int64"], "NumPy has the dtypes, np.float32"),
}  # fmt: skip


def missing(name: str) -> str:
    """What to say of an attribute that a tensor does not have."""
    from tinygrad_seq import ops  # it needs tensors, which need this

    hint = HABITS.get(name)
    numpys = getattr(np, name, None)
    if hint is None and callable(numpys) and not isinstance(numpys, type):
        hint = f"use np.{name}(x)"
    elif hint is None and name in ops.__all__:
        hint = f"use tg.{name}(x)"
    return f"a Tensor has no {name!r}" + (f": {hint}" if hint else "")


def missing_here(name: str, rooms: Iterable[ModuleType]) -> str:
    """What to say of a name that the package does not have; `rooms` are the modules in it where the name may be."""
    hint = ELSEWHERE.get(name)
    for room in rooms:
        if hint is None and (name in getattr(room, "__all__", ()) or _is_made_in(room, name)):
            hint = f"use tg.{room.__name__.rpartition('.')[2]}.{name}"
    return f"module 'tinygrad_seq' has no attribute {name!r}" + (f": {hint}" if hint else "")


def _is_made_in(room: ModuleType, name: str) -> bool:
    return getattr(getattr(room, name, None), "__module__", None) == room.__name__
