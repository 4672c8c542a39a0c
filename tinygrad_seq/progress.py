"""A progress bar for long work: tqdm's, or plain lines of text where tqdm is not installed. Needs nothing of ours."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TextIO, TypeVar

Item = TypeVar("Item")


class progress(Iterable[Item]):
    """Iterate, and show how far it is.

    Args:
        items: what to iterate over.
        label: what is being done.
        total: how many items there are; `len(items)` by default.
        file: where to write; standard error by default.

    Example:
        >>> bar = progress(range(2), "training", file=sys.stdout)
        >>> for step in bar:
        ...     bar.note(loss=0.5)  # shown behind the bar  # doctest: +SKIP
    """

    def __init__(self, items: Iterable[Item], label: str, total: int | None = None, file: TextIO | None = None) -> None:
        self._items = items
        self._label = label
        self._total = len(items) if total is None and isinstance(items, Sized) else total
        self._file = file if file is not None else sys.stderr
        self._notes = ""
        self._bar: Any = None

    def note(self, **figures: Any) -> None:
        """Show these figures behind the bar from now on."""
        self._notes = ", ".join(f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items())
        if self._bar is not None:
            self._bar.set_postfix_str(self._notes, refresh=False)

    def __iter__(self) -> Iterator[Item]:
        try:
            from tqdm import tqdm
        except ImportError:
            yield from self._in_lines()
            return
        self._bar = tqdm(self._items, desc=self._label, total=self._total, file=self._file, mininterval=0.2)
        yield from self._bar

    def _in_lines(self) -> Iterator[Item]:
        """A line at the start, at every tenth of the way, and at the end."""
        started = time.perf_counter()
        done = 0
        for done, item in enumerate(self._items, start=1):
            yield item
            if done == 1 or done == self._total or (self._total and done * 10 // self._total > (done - 1) * 10 // self._total):
                of = f"/{self._total}" if self._total else ""
                print(f"{self._label}: {done}{of}, {time.perf_counter() - started:.0f} s  {self._notes}".rstrip(), file=self._file, flush=True)
