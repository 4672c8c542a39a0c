"""Nested lists, tuples and dicts of arrays: taken apart and put together again. Read me any time; I need nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def leaves(tree: Any) -> list[Any]:
    """What nested lists, tuples and dicts hold, in order; dicts in the order of insertion. None is nothing."""
    if isinstance(tree, dict):
        return [leaf for part in tree.values() for leaf in leaves(part)]
    if isinstance(tree, (list, tuple)):
        return [leaf for part in tree for leaf in leaves(part)]
    return [] if tree is None else [tree]


def rebuilt(tree: Any, values: Any) -> Any:
    """The structure of `tree` with these values in place of its leaves."""
    return _rebuilt(tree, iter(values))


def _rebuilt(part: Any, values: Iterator[Any]) -> Any:  # no closure of `rebuilt`: one that calls itself is a cycle
    if isinstance(part, dict):
        return {key: _rebuilt(value, values) for key, value in part.items()}
    if isinstance(part, tuple) and hasattr(part, "_fields"):
        return type(part)(*[_rebuilt(value, values) for value in part])
    if isinstance(part, (list, tuple)):
        return type(part)([_rebuilt(value, values) for value in part])
    return None if part is None else next(values)
