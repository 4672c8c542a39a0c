"""Which dtypes there are, and which one Python's floats get. Read me with `tensor.py`.

Tensors hold numbers and truth values. Arrays keep their dtype, Python's numbers are weak beside them (NEP 50), and a float by
itself gets the default dtype: float32, set for the process, or for a block in a context of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]
Shape = tuple[int, ...]

_process_dtype: list[np.dtype[Any]] = [np.dtype(np.float32)]
_context_dtype: ContextVar[np.dtype[Any] | None] = ContextVar("default dtype", default=None)


def default_dtype() -> np.dtype[Any]:
    """The dtype that Python floats get: float32, unless set otherwise."""
    return _context_dtype.get() or _process_dtype[0]


def set_default_dtype(dtype: Any) -> None:
    """Set the dtype that Python floats get, for the whole process; `using_dtype` sets it for a block only."""
    _process_dtype[0] = _floating_dtype(dtype)


@contextmanager
def using_dtype(dtype: Any) -> Iterator[None]:
    """Python floats inside get this dtype; other threads and tasks do not notice.

    Example:
        >>> import tinygrad_seq as tg
        >>> with tg.using_dtype("float64"):
        ...     tg.tensor([1.0]).dtype
        dtype('float64')
    """
    token = _context_dtype.set(_floating_dtype(dtype))
    try:
        yield
    finally:
        _context_dtype.reset(token)


def _floating_dtype(dtype: Any) -> np.dtype[Any]:
    found: np.dtype[Any] = np.dtype(dtype)
    if found.kind != "f" or dtype is None:  # which NumPy takes for float64
        raise TypeError(f"the default dtype is a floating one, not {dtype if dtype is None else found}")
    return found


def numeric(array: Array, made_of: type | None = None) -> Array:
    """The array, if it holds numbers or truth values; a TypeError otherwise, which may say what it was made of."""
    if array.dtype.kind not in "fiub":
        source = "" if made_of is None else f" (from {made_of.__name__})"
        raise TypeError(f"tensors hold numbers and truth values, not {array.dtype}{source}")
    return array


def floating(x: Any) -> Any:
    """Numbers as floating ones, of the dtype in which `np.exp` would give them: int64 as float64, uint8 as float16."""
    x = np.asarray(x)
    return x.astype(np.result_type(x, np.float16), copy=False)
