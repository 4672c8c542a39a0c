"""What goes into a call of a primitive, and what comes out of it onto the tape. Read me with `tensor.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_seq.dtypes import default_dtype, numeric
from tinygrad_seq.scopes import Scope
from tinygrad_seq.tape import Bundle, Node, Output, next_serial
from tinygrad_seq.tensor import Tensor, as_array


def as_operand(value: Any, beside: Any = None) -> Any:
    """What a primitive computes with: an array, or a Python number, whose dtype is weak (NEP 50).

    Lists of Python's floats keep their precision where they stand `beside` something of more than the default dtype's.
    """
    kind = type(value)
    if kind is np.ndarray:
        return value if value.dtype.kind in "fiub" else numeric(value)
    if kind is float or kind is int or kind is bool or value is None:
        return value
    other = getattr(beside, "dtype", None)
    precise = other is not None and other.itemsize > default_dtype().itemsize
    return as_array(value, other if precise else None)


def as_operands(values: Sequence[Any]) -> list[Any]:
    """What a primitive of many inputs computes with; see `as_operand`."""
    beside = None
    if any(type(value) is list or type(value) is tuple for value in values):
        beside = max([value for value in values if hasattr(value, "dtype")], key=lambda value: value.dtype.itemsize, default=None)
    return [value.data if isinstance(value, Tensor) else as_operand(value, beside) for value in values]


# ---- results --------------------------------------------------------------------------------------------------------------

# The hot path: what `Node.__init__` and `Tensor.__init__` do stands here once more, in one piece, which takes a fifth less time
# than calling them. A new attribute goes into both. (An `Output` is written here only.)

_new = object.__new__


def result_of(
    op: str,
    first: Any,
    second: Any,
    others: Any,
    params: Any,
    routes: Any,
    saved: Any,
    y: Any,
    scope: Scope,
    requires_grad: bool,
) -> Tensor:
    """What an operation gave, as a tensor on the tape. What comes before and after y is for its node; see `Node`."""
    if type(y) is not np.ndarray:
        y = np.asarray(y)  # NumPy gives scalars for 0-d results
    dtype = y.dtype
    if dtype.kind != "f":
        numeric(y)
        requires_grad = False
    node = _new(Node)
    node.serial = next_serial()
    node.op = op
    node.first = first
    node.second = second
    node.others = others
    node.params = params
    node.routes = routes
    node.saved = saved
    node.shape = y.shape
    node.dtype = dtype
    node.scope = scope
    node.requires_grad = requires_grad
    node.name = node.watch = None
    made = _new(Tensor)
    made.data = y
    made.node = node
    return made


def results_of(of: Bundle, parts: Sequence[Any]) -> tuple[Tensor, ...]:
    """What an operation of several outputs gave, as tensors on the tape, whose cotangents will meet in the bundle.

    A second time, for a sweep that is taped, it makes other nodes that lead to the same bundle.
    """
    live = of.requires_grad
    outputs: list[Tensor] = []
    shapes, dtypes = [], []
    for array in parts:
        if type(array) is not np.ndarray:
            array = np.asarray(array)
        node = _new(Output)
        node.serial = next_serial()
        node.routes = ()
        node.shape = shape = array.shape
        node.dtype = dtype = array.dtype
        node.requires_grad = live and dtype.kind == "f"
        node.name = node.watch = None
        node.bundle = of
        node.position = len(outputs)
        made = _new(Tensor)
        made.data = array
        made.node = node
        outputs.append(made)
        shapes.append(shape)
        dtypes.append(dtype)
    of.shapes = tuple(shapes)
    of.dtypes = tuple(dtypes)
    return tuple(outputs)
