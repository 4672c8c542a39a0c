"""A progress bar for long work: tqdm's, or plain lines of text where tqdm is not installed. Needs nothing of ours."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TextIO, TypeVar

Item = TypeVar("Item")


class progress(Iterable[Item]):
    """Iterate, and show how far it is. Or, where the loop is not over items: `advance()` for each step, in a `with` block.

    Without tqdm there is a line after the first step, at every tenth of the way, and at the end.

    Args:
        items: what to iterate over.
        label: what is being done.
        total: how many items there are; `len(items)` by default, unknown if they have no length.
        file: where to write; standard error by default.
        done: how many were done before, in an earlier run.

    Attributes:
        notes: what `note` was told last, as text.
        done: how many steps are done.

    Example:
        >>> import io
        >>> import tinygrad_seq as tg
        >>> bar = tg.progress(range(1, 5), "training", file=io.StringIO())
        >>> for step in bar:
        ...     bar.note(step=step, loss=1 / step)
        >>> bar.notes
        'step 4, loss 0.250'
    """

    def __init__(
        self, items: Iterable[Item], label: str, total: int | None = None, file: TextIO | None = None, done: int = 0
    ) -> None:
        self._items = items
        self._label = label
        self._total = total if total is not None else len(items) if isinstance(items, Sized) else None
        self._file = file if file is not None else sys.stderr
        self._bar: Any = None
        self.notes = ""
        self.done = done

    def note(self, **figures: Any) -> None:
        """Show these figures behind the bar from now on, floats with three digits."""
        told = {name: f"{value:.3f}" if isinstance(value, float) else value for name, value in figures.items()}
        self.notes = ", ".join(f"{name} {value}" for name, value in told.items())
        if self._bar is not None:
            self._bar.set_postfix_str(self.notes, refresh=False)

    def advance(self) -> None:
        """One step more is done."""
        self.done += 1
        self._bar.update()

    def __enter__(self) -> progress[Item]:
        """Show the bar."""
        self._bar = self._opened()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave it behind as it is."""
        self._bar.close()
        self._bar = None

    def __iter__(self) -> Iterator[Item]:
        with self:
            for item in self._items:
                yield item
                self.advance()

    def _opened(self) -> Any:
        place: dict[str, Any] = dict(desc=self._label, total=self._total, initial=self.done, file=self._file)
        try:
            from tqdm import tqdm
        except ImportError:
            return _Lines(**place, postfix=self.notes)
        return tqdm(**place, postfix=self.notes, mininterval=0.2)


class _Lines:
    """Lines of text instead of a bar, under the names that tqdm has for what we use of it."""

    def __init__(self, desc: str, total: int | None, initial: int, file: TextIO, postfix: str) -> None:
        self.label, self.total, self.file, self.notes = desc, total, file, postfix
        self.done = initial
        self.told = -1  # after how many steps the last line was written
        self.first = initial + 1
        self.started = time.perf_counter()

    def set_postfix_str(self, notes: str, refresh: bool) -> None:
        """Note what the next line shall say besides."""
        self.notes = notes

    def update(self) -> None:
        """Count a step; the first and every tenth of the whole have a line."""
        self.done += 1
        tenth = self.total and self.done * 10 // self.total > (self.done - 1) * 10 // self.total
        if self.done == self.first or tenth:
            self.tell()

    def close(self) -> None:
        """Tell the end, unless it has been told."""
        if self.told != self.done:
            self.tell()

    def tell(self) -> None:
        """Write a line."""
        of = f"/{self.total}" if self.total is not None else ""
        line = f"{self.label}: {self.done}{of}, {time.perf_counter() - self.started:.0f} s  {self.notes}"
        print(line.rstrip(), file=self.file, flush=True)
        self.told = self.done
