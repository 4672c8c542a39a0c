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
        total: how many items there are; `len(items)` by default, unknown if they have no length.
        file: where to write; standard error by default.

    Attributes:
        notes: what `note` was told last, as text.

    Example:
        >>> import io
        >>> import tinygrad_seq as tg
        >>> bar = tg.progress(range(1, 5), "training", file=io.StringIO())
        >>> for step in bar:
        ...     bar.note(step=step, loss=1 / step)
        >>> bar.notes
        'step 4, loss 0.250'
    """

    def __init__(self, items: Iterable[Item], label: str, total: int | None = None, file: TextIO | None = None) -> None:
        self._items = items
        self._label = label
        self._total = total if total is not None else len(items) if isinstance(items, Sized) else None
        self._file = file if file is not None else sys.stderr
        self._bar: Any = None
        self.notes = ""

    def note(self, **figures: Any) -> None:
        """Show these figures behind the bar from now on, floats with three digits."""
        told = {name: f"{value:.3f}" if isinstance(value, float) else value for name, value in figures.items()}
        self.notes = ", ".join(f"{name} {value}" for name, value in told.items())
        if self._bar is not None:
            self._bar.set_postfix_str(self.notes, refresh=False)

    def __iter__(self) -> Iterator[Item]:
        try:
            from tqdm import tqdm
        except ImportError:
            return self._in_lines()
        self._bar = tqdm(self._items, desc=self._label, total=self._total, file=self._file, postfix=self.notes, mininterval=0.2)
        return iter(self._bar)

    def _in_lines(self) -> Iterator[Item]:
        """A line after the first item, at every tenth of the way, and at the end."""
        started = time.perf_counter()
        done = told = 0
        for done, item in enumerate(self._items, start=1):
            yield item
            if done == 1 or (self._total and done * 10 // self._total > (done - 1) * 10 // self._total):
                self._tell(done, started)
                told = done
        if told < done or not done:
            self._tell(done, started)

    def _tell(self, done: int, started: float) -> None:
        of = f"/{self._total}" if self._total is not None else ""
        line = f"{self._label}: {done}{of}, {time.perf_counter() - started:.0f} s  {self.notes}"
        print(line.rstrip(), file=self._file, flush=True)
