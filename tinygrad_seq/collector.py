"""When Python's garbage collector should wait. Read me any time; I need nothing.

The collector looks for reference cycles. A tape has none, but it is many objects, and their number is what sets the
collector off: the longer a sequence, the more often it walks the whole tape, to find nothing. For 16,000 steps of a small LSTM
(8 units, a batch of 1), written out operation by operation, that is a quarter of the time.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_waiting() -> Iterator[None]:
    """Keep the garbage collector from running in a block, or in a function that this decorates; then it is as it was.

    The sweep and the layers of `models` do so on their own. For a long loop of your own:

        >>> import numpy as np, tinygrad_seq as tg
        >>> x = tg.tensor([1.0], requires_grad=True)
        >>> with tg.collector_waiting():
        ...     h = x
        ...     for t in range(1000):
        ...         h = np.tanh(h)

    What has no cycles is freed as ever. It is the whole process's collector, so other threads' cycles wait as well.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
