"""Losses: how wrong a prediction is, as one number. Read after `ops/nn.py`; each is a few operations on the tape.

All of them share three arguments:

    mask        which entries count: True and False, one for each row or element. What does not count contributes neither
                to the value nor to the gradient, whatever it holds, NaN included.
    reduction   "mean" over what counts (0, with a gradient of zero, if nothing does), "sum", or "none" for the
                losses of the entries, with 0 at those that do not count.

Classes are the last axis. In front of it stands any shape: (N, C) for rows, (T, B, C) for sequences. The operations stand in
the scope "loss", which print and pictures show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_seq.dtypes import Array
from tinygrad_seq.errors import ShapeError
from tinygrad_seq.explain import told, whole
from tinygrad_seq.ops.elementwise import where
from tinygrad_seq.ops.nn import log_softmax
from tinygrad_seq.scopes import scope
from tinygrad_seq.tensor import Tensor, as_array

REDUCTIONS = ("mean", "sum", "none")


def cross_entropy(
    logits: Any,
    targets: Any,
    mask: Any = None,
    *,
    ignore_index: int | None = None,
    weight: Any = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy between a softmax and the truth: -log softmax(logits)[target], safe for logits of any size.

    Its gradient with respect to a row of logits is softmax(logits) - one_hot(target): "Deep Learning" (Goodfellow,
    Bengio & Courville, 2016), equation 10.18.

    Args:
        logits: (..., C) unnormalised log-probabilities, floating.
        targets: (...) class indices, integers in [0, C); or (..., C) probabilities, floating ("soft targets").
        mask: (...) which rows count; all by default.
        ignore_index: a class index that marks rows that do not count.
        weight: (C,) how much each class counts. The mean of class-index losses is then a weighted one.
        label_smoothing: share of the probability that is taken from the target and spread evenly over all classes.
        reduction: "mean", "sum" or "none".

    Returns:
        A scalar, or with "none" the losses (...), of the dtype of the logits.

    Raises:
        TypeError: indices that are not integers, logits that are not floating.
        IndexError: an index outside of [0, C), in a row that counts.
        ShapeError: shapes that do not fit together.

    Example:
        >>> import numpy as np, tinygrad_seq as tg
        >>> logits = np.log([[0.25, 0.75], [0.5, 0.5]])
        >>> float(np.exp(-tg.losses.cross_entropy(logits, [1, 0], reduction="sum").data).round(3))
        0.375
    """
    logits = _floating(logits, "logits")
    truth = _classes(logits, targets, mask, ignore_index)
    with scope("loss"):
        return _likelihood(log_softmax(_counting(logits, truth.rows), axis=-1), truth, weight, label_smoothing, reduction)


def nll(
    log_probabilities: Any,
    targets: Any,
    mask: Any = None,
    *,
    ignore_index: int | None = None,
    weight: Any = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood: -log_probabilities[target], for what `log_softmax` gives.

    Args:
        log_probabilities: (..., C), floating; the rest is as for `cross_entropy`, which is safer where there are logits.

    Example:
        >>> import numpy as np, tinygrad_seq as tg
        >>> round(tg.losses.nll(np.log([[0.25, 0.75]]), [1]).item(), 4)
        0.2877
    """
    log_probabilities = _floating(log_probabilities, "log_probabilities")
    truth = _classes(log_probabilities, targets, mask, ignore_index)
    with scope("loss"):
        return _likelihood(_counting(log_probabilities, truth.rows), truth, weight, label_smoothing, reduction)


def mse(prediction: Any, target: Any, mask: Any = None, *, reduction: str = "mean") -> Tensor:
    """Squared error: (prediction - target)², by default its mean over all elements.

    Args:
        prediction: any shape, floating.
        target: the same shape exactly: (N,) against (N, 1) would broadcast to (N, N).
        mask: which elements count, of the prediction's shape, or of its first axes: (T, B) for (T, B, D).
        reduction: "mean", "sum" or "none".

    Example:
        >>> import tinygrad_seq as tg
        >>> tg.losses.mse([1.0, 5.0], [0.0, 2.0]).item()
        5.0
    """
    prediction = _floating(prediction, "prediction")
    target = target if isinstance(target, Tensor) else _named(_array(target, "target", prediction.dtype), "y")
    _same_shape(prediction, target, "prediction", "target")
    elements = _mask(mask, prediction.shape, leading=True)
    with scope("loss"):
        error = _counting(prediction, elements) - _counting(target, elements).astype(prediction.dtype)
        return _reduced(error * error, elements, None, reduction)


def binary_cross_entropy(probabilities: Any, targets: Any, mask: Any = None, *, reduction: str = "mean") -> Tensor:
    """-(y log p + (1 - y) log(1 - p)) for probabilities p and targets y.

    Where there are logits, use `binary_cross_entropy_with_logits`: a sigmoid that has rounded to 0 or 1 has lost what
    the loss is about. Here a certainty that is wrong costs 100, as in PyTorch (instead of log 0 = -infinity), with a
    gradient of 0. One that is right costs 0.

    Args:
        probabilities: any shape, floating, in [0, 1].
        targets: the same shape; truth values, or numbers in [0, 1].
        mask: which elements count, of the same shape, or of its first axes.
        reduction: "mean", "sum" or "none".

    Raises:
        ValueError: a probability or target outside of [0, 1], where it counts.

    Example:
        >>> import tinygrad_seq as tg
        >>> tg.losses.binary_cross_entropy([1.0, 0.0], [1, 1]).item()
        50.0
    """
    p, y, elements = _binary(probabilities, targets, mask, "probabilities")
    _refuse_outside_of_unit(p.data, elements, "probability")
    with scope("loss"):
        p = _counting(p, elements)
        log_p = _log(np.log, p, p.data > 0, instead=1)
        log_rest = _log(lambda p: np.log1p(-p), p, p.data < 1, instead=0)  # log(1 - p)
        return _reduced(-(y * log_p + (1 - y) * log_rest), elements, None, reduction)  # 0 where p = y = 0


def binary_cross_entropy_with_logits(logits: Any, targets: Any, mask: Any = None, *, reduction: str = "mean") -> Tensor:
    """`binary_cross_entropy(sigmoid(logits), targets)` for logits of any size: log(1 + exp(x)) - x y.

    Its gradient with respect to a logit is sigmoid(x) - y.

    Args:
        logits: any shape, floating; the rest is as for `binary_cross_entropy`.

    Example:
        >>> import tinygrad_seq as tg
        >>> tg.losses.binary_cross_entropy_with_logits([-1000.0, 1000.0], [0, 0], reduction="none")
        Tensor([   0., 1000.], dtype=float32)
    """
    x, y, elements = _binary(logits, targets, mask, "logits")
    with scope("loss"):
        x = _counting(x, elements)
        return _reduced(_counting(np.logaddexp(0, x) - x * y, elements), elements, None, reduction)


# ---- targets, checked -----------------------------------------------------------------------------------------------


class Truth(NamedTuple):
    """Targets over C classes, one way or the other, and which rows count."""

    indices: Array | None
    """(...) the class of each row; 0 in rows that do not count."""
    probabilities: Tensor | None
    """(..., C) the probability of each class."""
    rows: Array | None
    """(...) which rows count; None for all."""


def _classes(scores: Tensor, targets: Any, mask: Any, ignore_index: int | None) -> Truth:
    """Targets that are known to fit scores (..., C)."""
    if scores.ndim == 0:
        raise ShapeError("scores need an axis of classes, the last one, and a 0-d tensor has none")
    shape, classes = scores.shape[:-1], scores.shape[-1]
    given = _array(targets, "targets", scores.dtype)
    rows = _mask(mask, shape)
    ignore_index = None if ignore_index is None else whole("ignore_index", ignore_index)
    if given.dtype.kind == "f" and given.shape == scores.shape:
        if ignore_index is not None:
            raise TypeError("ignore_index is for class indices; with probabilities as targets, say what counts by mask")
        probabilities = targets if isinstance(targets, Tensor) else _named(given, "y")
        return Truth(None, _counting(probabilities, rows).astype(scores.dtype), rows)
    if given.dtype.kind not in "iu":
        raise TypeError(
            f"class indices are integers of shape {shape}, and probabilities floating of shape {scores.shape}; "
            f"these targets are {given.dtype} of shape {given.shape}"
        )
    if given.shape != shape:
        hint = "; for one-hot rows use targets.argmax(-1), or .astype(float)" if given.shape == scores.shape else ""
        raise ShapeError(f"scores of shape {scores.shape} need class indices of shape {shape}, got {given.shape}{hint}")
    if ignore_index is not None:
        rows = (given != ignore_index) if rows is None else rows & (given != ignore_index)
    outside = (given < 0) | (given >= classes)
    outside = outside if rows is None else outside & rows
    if outside.any():
        place = tuple(int(i) for i in np.argwhere(outside)[0])
        cure = f"; ignore_index={given[place]} passes over such rows" if given[place] < 0 else ""
        raise IndexError(
            f"target {given[place]} at index {place} is no class; the {classes} classes are 0 to {classes - 1}{cure}"
        )
    return Truth(given if rows is None else np.where(rows, given, 0), None, rows)


def _binary(prediction: Any, targets: Any, mask: Any, name: str) -> tuple[Tensor, Tensor, Array | None]:
    """(prediction, targets of its dtype with 0 where they do not count, mask) for the two binary losses."""
    made = _floating(prediction, name)
    given = targets if isinstance(targets, Tensor) else _named(_array(targets, "targets", made.dtype), "y")
    _same_shape(made, given, name, "targets")
    elements = _mask(mask, made.shape, leading=True)
    _refuse_outside_of_unit(given.data, elements, "target")
    return made, _counting(given, elements).astype(made.dtype), elements


def _mask(mask: Any, shape: tuple[int, ...], leading: bool = False) -> Array | None:
    """A mask as truth values of this shape; with `leading`, one for the first axes serves for the others too."""
    if mask is None:
        return None
    array = _array(mask, "mask")
    if array.dtype.kind != "b":
        if not ((array == 0) | (array == 1)).all():
            raise TypeError(f"a mask says what counts by True and False (or 1 and 0); this {array.dtype} has other values")
        array = array.astype(bool)
    if array.shape != (shape[: array.ndim] if leading else shape):
        raise ShapeError(f"a mask of shape {array.shape} does not fit entries of shape {shape}")
    return np.broadcast_to(array.reshape(array.shape + (1,) * (len(shape) - array.ndim)), shape)


def _floating(value: Any, name: str) -> Tensor:
    made = value if isinstance(value, Tensor) else Tensor(_array(value, name))
    if made.dtype.kind != "f":
        raise TypeError(f"{name} must be floating, not {made.dtype}")
    return made


def _named(array: Array, name: str) -> Tensor:
    """A constant with a name, for pictures."""
    made = Tensor(array)
    made.name = name
    return made


def _array(value: Any, name: str, wanted: Any = None) -> Array:
    """An argument as an array; a TypeError that names it if it cannot be one."""
    try:
        return as_array(value, wanted)
    except TypeError as error:
        if isinstance(value, tuple | list) and any(isinstance(part, Tensor) for part in value):
            pair = "; a recurrent layer gives a pair, (outputs, state)" if isinstance(value, tuple) else ""
            raise TypeError(f"{name} must be one tensor, not {told(value)} of tensors{pair}") from None
        raise TypeError(f"{name} cannot be {told(value)}: {error}") from None


def _same_shape(a: Tensor, b: Tensor, name_of_a: str, name_of_b: str) -> None:
    if a.shape != b.shape:
        raise ShapeError(f"{name_of_a} has shape {a.shape} and {name_of_b} {b.shape}: they must be the same; reshape one of them")


def _refuse_outside_of_unit(values: Array, elements: Array | None, name: str) -> None:
    outside = ~((values >= 0) & (values <= 1)) if values.dtype.kind != "b" else np.zeros(values.shape, bool)
    outside = outside if elements is None else outside & elements
    if outside.any():
        place = tuple(int(i) for i in np.argwhere(outside)[0])
        raise ValueError(f"{name} {values[place]} at index {place} is not in [0, 1]")


# ---- the losses' common parts ---------------------------------------------------------------------------------------


def _likelihood(log_p: Tensor, truth: Truth, weight: Any, label_smoothing: float, reduction: str) -> Tensor:
    """-sum_c weight_c q_c log p_c, where q is the truth, smoothed."""
    classes = log_p.shape[-1]
    if not isinstance(label_smoothing, int | float | np.number):
        raise TypeError(f"label_smoothing is a number from 0 to 1, not {label_smoothing!r}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is a share between 0 and 1, not {label_smoothing}")
    if weight is not None:
        weight = _array(weight, "weight", log_p.dtype).astype(log_p.dtype)
        if weight.shape != (classes,):
            raise ShapeError(f"weight needs a number for each of {classes} classes, shape ({classes},), got {weight.shape}")
    per_row = None
    if truth.probabilities is not None:
        losses = -_weighted(_product(truth.probabilities, log_p), weight).sum(axis=-1)
    else:
        row = np.indices(log_p.shape[:-1], sparse=True)
        losses = -log_p[(*row, truth.indices)]
        if weight is not None:
            per_row = weight[truth.indices]
            losses = losses * per_row
    if label_smoothing:
        even = -_weighted(log_p, weight).sum(axis=-1) / classes
        losses = (1 - label_smoothing) * losses + label_smoothing * even
    return _reduced(_counting(losses, truth.rows), truth.rows, per_row, reduction)


def _reduced(losses: Tensor, counts: Array | None, weights: Array | None, reduction: str) -> Tensor:
    """The losses of the entries, reduced; those that do not count are 0 already."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is one of {', '.join(REDUCTIONS)}, not {reduction!r}")
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if counts is None and weights is None and losses.size:
        return losses.mean()
    weights = np.ones(losses.shape) if weights is None else weights
    total = float((weights if counts is None else np.where(counts, weights, 0)).sum(dtype=np.float64))
    return (losses / (total or 1.0)).sum()  # divided first, for the sake of float16


def _counting(values: Any, counts: Array | None) -> Any:
    """The values, with 0 where they do not count: chosen, not multiplied, for 0 times NaN is NaN."""
    if counts is None:
        return values
    return where(_named(counts.reshape(counts.shape + (1,) * (values.ndim - counts.ndim)), "mask"), values, 0)


def _weighted(values: Any, weight: Array | None) -> Any:
    return values if weight is None else values * weight


def _product(q: Tensor, log_p: Tensor) -> Any:
    """q log p, where 0 log 0 is 0."""
    return q * where((q.data == 0) & np.isneginf(log_p.data), 0, log_p)


def _log(log: Callable[[Any], Any], p: Tensor, finite: Array, instead: float) -> Any:
    """A logarithm where it is finite, and -100 where it is not; `instead` is what it is then taken of."""
    return where(finite, log(where(finite, p, instead)), -100)
