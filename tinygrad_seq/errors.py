"""Every error of the engine's own, so that a caller can tell them apart.

Each message says what happened, where (operation, scope, step, shapes) and what to do about it.
Nothing here needs reading first.
"""

from __future__ import annotations


class AutodiffError(RuntimeError):
    """A derivative was asked for that this tape cannot give: freed, not recorded, overwritten, or without a seed."""


class FreedGraphError(AutodiffError):
    """A backward pass reached a part of the graph that an earlier backward pass has freed."""


class OverwrittenError(AutodiffError):
    """A backward pass needs an array that was written over after the forward pass."""


class PullbackError(AutodiffError):
    """A pullback returned a cotangent of the wrong shape, or failed."""


class NondeterministicError(AutodiffError):
    """A checkpointed function gave another result when it was run again."""


class ShapeError(ValueError):
    """Operands whose shapes do not fit together."""


class AnomalyError(FloatingPointError):
    """`detect_anomaly` met the first value that is not finite."""


class GradientCheckError(AssertionError):
    """`check_grads` found a derivative that finite differences contradict."""


class TapeError(AutodiffError):
    """`check_tape` found an entry that breaks the rules of a tape."""
