"""Which arrays have been written into, and when. Read `tape.py` first; `reach.py` asks here before a sweep sets out.

A backward pass needs the numbers of the forward pass, and `Tensor.overwrite` is the one way to write over them. It is noted
for the memory, and not for the tensor: several tensors may look at the same numbers (a detached one, a reshaped one), and a
tensor may be gone while an operation still keeps its array.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple
from weakref import ref

import numpy as np

from tinygrad_seq.tape import Node, next_serial


class Writing(NamedTuple):
    """That numbers have been overwritten."""

    serial: int
    """When it was, in the order of execution."""
    node: Node | None
    """Of the tensor that was told to, if it has one."""
    shape: tuple[int, ...]

    def describe(self) -> str:
        """What was overwritten, in words."""
        return f"an array of shape {self.shape}" if self.node is None else self.node.describe()


latest = 0  # serial of the last writing of all: nodes younger than that need not be looked at

_writings: dict[int, tuple[ref[Any], dict[tuple[int, int], Writing]]] = {}  # by buffer, and by the bytes from .. to


def note(array: Any, node: Node | None) -> None:
    """Note that an array is being written into now."""
    global latest
    buffer, key = buffer_of(array), id(buffer_of(array))
    if key not in _writings:
        _writings[key] = ref(buffer, partial(_forget, key)), {}
    latest = next_serial()
    _writings[key][1][np.lib.array_utils.byte_bounds(array)] = Writing(latest, node, array.shape)


def since(serial: int, array: Any) -> Writing | None:
    """A writing into this array's memory that came after a node, or None."""
    _, writings = _writings.get(id(buffer_of(array)), (None, {}))
    for (start, stop), writing in writings.items():
        if writing.serial > serial:
            low, high = np.lib.array_utils.byte_bounds(array)
            if low < stop and start < high:
                return writing
    return None


def _forget(key: int, _: object) -> None:
    _writings.pop(key, None)


def buffer_of(array: Any) -> Any:
    """The array that owns an array's memory: itself, or what it is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
