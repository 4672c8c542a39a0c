"""Losses: closed forms, masks that NaN cannot pass, every size of logit, and targets that are refused by name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_seq as tg
from tinygrad_seq import losses

EYE = np.eye(4)


def leaf(values):
    return tg.tensor(np.asarray(values), requires_grad=True)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def logits_of(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# ---- cross-entropy --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5, 4), (3, 2, 4), (4,), (2, 1, 3, 4)])
def test_cross_entropy_and_its_gradient_in_closed_form(shape):
    x = logits_of(*shape)
    targets = np.random.default_rng(1).integers(4, size=shape[:-1])
    p = softmax(x)
    rows = -np.log(np.take_along_axis(p, targets[..., None], -1))[..., 0]
    for reduction, value, share in (("mean", rows.mean(), 1 / rows.size), ("sum", rows.sum(), 1), ("none", rows, 1)):
        logits = leaf(x)
        loss = losses.cross_entropy(logits, targets, reduction=reduction)
        np.testing.assert_allclose(loss.data, value, rtol=1e-12)
        loss.backward(np.ones(loss.shape))
        np.testing.assert_allclose(logits.grad.data, share * (p - EYE[targets]), atol=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_cross_entropy_of_logits_of_any_size(dtype, size):
    logits = leaf(np.array([[size, 0, -size], [0, size, 0]], dtype))
    loss = losses.cross_entropy(logits, [2, 1], reduction="none")
    loss.sum().backward()
    right = [2 * size, 0.0] if size == 1e4 else -np.log(softmax(np.array([[size, 0, -size], [0, size, 0]])))[[0, 1], [2, 1]]
    assert loss.dtype == logits.grad.dtype == dtype
    np.testing.assert_allclose(loss.data, right, rtol=2e-3, atol=1e-12)
    assert np.isfinite(logits.grad.data).all()


def test_nll_is_cross_entropy_after_log_softmax():
    x, targets = logits_of(5, 4), [0, 3, 2, 2, 1]
    for options in ({}, dict(label_smoothing=0.2), dict(weight=[1.0, 2.0, 0.5, 0.0]), dict(ignore_index=2)):
        a, b = leaf(x), leaf(x)
        whole, parts = losses.cross_entropy(a, targets, **options), losses.nll(tg.log_softmax(b, axis=-1), targets, **options)
        whole.backward()
        parts.backward()
        np.testing.assert_allclose(parts.data, whole.data, rtol=1e-12)
        np.testing.assert_allclose(b.grad.data, a.grad.data, atol=1e-14)


def test_probabilities_as_targets():
    x, q = logits_of(5, 4), softmax(logits_of(5, 4, seed=1))
    logits, target = leaf(x), leaf(q)
    loss = losses.cross_entropy(logits, target)
    loss.backward()
    log_p = np.log(softmax(x))
    np.testing.assert_allclose(loss.data, -(q * log_p).sum() / 5, rtol=1e-12)
    np.testing.assert_allclose(logits.grad.data, (softmax(x) - q) / 5, atol=1e-14)
    np.testing.assert_allclose(target.grad.data, -log_p / 5, rtol=1e-12)  # as for distilling from another model
    certain = leaf(EYE[[0, 3, 2, 2, 1]])
    losses.cross_entropy(x, certain).backward()
    np.testing.assert_allclose(certain.grad.data, -log_p / 5, rtol=1e-12)  # also where a probability is 0


def test_one_hot_probabilities_equal_indices_even_where_a_class_is_impossible():
    x = np.array([[0.0, 1.0, -np.inf, 2.0], [-np.inf, 0.0, 0.0, 0.0]])
    hard, soft = leaf(x), leaf(x)
    a, b = losses.cross_entropy(hard, [1, 3]), losses.cross_entropy(soft, EYE[[1, 3]])
    a.backward()
    b.backward()
    np.testing.assert_allclose(b.data, a.data, rtol=1e-12)
    np.testing.assert_allclose(soft.grad.data, hard.grad.data, atol=1e-14)
    np.testing.assert_allclose(hard.grad.data, (softmax(x) - EYE[[1, 3]]) / 2, atol=1e-14)


def test_label_smoothing_is_a_mixture_of_the_target_with_the_uniform_distribution():
    x, targets = logits_of(5, 4), np.array([0, 3, 2, 2, 1])
    smooth = 0.7 * EYE[targets] + 0.3 / 4
    expected = losses.cross_entropy(x, smooth).data
    np.testing.assert_allclose(losses.cross_entropy(x, targets, label_smoothing=0.3).data, expected, rtol=1e-12)
    np.testing.assert_allclose(losses.cross_entropy(x, EYE[targets], label_smoothing=0.3).data, expected, rtol=1e-12)
    uniform = losses.cross_entropy(x, targets, label_smoothing=1.0).data
    np.testing.assert_allclose(uniform, losses.cross_entropy(x, np.full((5, 4), 0.25)).data, rtol=1e-12)


def test_class_weights_give_a_weighted_mean():
    x, targets, weight = logits_of(5, 4), np.array([0, 3, 2, 2, 1]), np.array([1.0, 0.5, 0.0, 3.0])
    rows = losses.cross_entropy(x, targets, reduction="none").data
    weighted = losses.cross_entropy(x, targets, weight=weight, reduction="none").data
    np.testing.assert_allclose(weighted, rows * weight[targets], rtol=1e-12)
    np.testing.assert_allclose(
        losses.cross_entropy(x, targets, weight=weight).data, np.average(rows, weights=weight[targets]), rtol=1e-12
    )
    soft = losses.cross_entropy(x, EYE[targets], weight=weight, reduction="none").data
    np.testing.assert_allclose(soft, rows * weight[targets], rtol=1e-12)


# ---- masks ----------------------------------------------------------------------------------------------------------


def calls_with_mask(nonsense):
    """(name, loss of a leaf and a mask, leaf) whose rows 1 and 3 hold nonsense in what is predicted and in the targets."""
    x, p, y = logits_of(4, 3), softmax(logits_of(4, 3)), softmax(logits_of(4, 3, seed=2))
    for array in (x, p, y):
        array[[1, 3]] = nonsense
    classes = np.array([0, -7, 2, 99])
    yield "cross_entropy", lambda x, m, **k: losses.cross_entropy(x, classes, m, **k), x
    yield "smoothed", lambda x, m, **k: losses.cross_entropy(x, classes, m, label_smoothing=0.1, weight=[1.0, 2.0, 3.0], **k), x
    yield "soft", lambda x, m, **k: losses.cross_entropy(x, y, m, **k), x
    yield "nll", lambda x, m, **k: losses.nll(x, classes, m, **k), x
    yield "mse", lambda x, m, **k: losses.mse(x, y, m, **k), x
    yield "binary", lambda x, m, **k: losses.binary_cross_entropy(x, y, m, **k), p
    yield "binary_with_logits", lambda x, m, **k: losses.binary_cross_entropy_with_logits(x, y, m, **k), x


NAMES = [name for name, *_ in calls_with_mask(0.0)]


@pytest.mark.parametrize("forgiving", [True, False], ids=["mask_zeros", "strict"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("nonsense", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_what_does_not_count_adds_nothing_whatever_it_holds(number, nonsense, reduction, forgiving):
    """Without any help from the sweep, which would take zero times NaN for zero."""
    mask = np.array([True, False, True, False])
    values = []
    for junk in (nonsense, 0.25):
        _, loss_of, x = list(calls_with_mask(junk))[number]
        x = leaf(x)
        loss = loss_of(x, mask, reduction=reduction)
        with tg.mask_zeros(forgiving):
            loss.backward(np.ones(loss.shape))
        values.append((loss.data, x.grad.data))
    (loss, gradient), (expected_loss, expected_gradient) = values
    np.testing.assert_array_equal(loss, expected_loss)
    np.testing.assert_array_equal(gradient, expected_gradient)
    assert np.isfinite(loss).all()
    assert (gradient[[1, 3]] == 0).all()
    assert (gradient[[0, 2]] != 0).any(axis=-1).all()
    if reduction == "none":
        assert (loss[[1, 3]] == 0).all()


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_what_does_not_count_is_no_anomaly(number):
    _, loss_of, x = list(calls_with_mask(np.nan))[number]
    with tg.detect_anomaly():
        loss_of(leaf(x), np.array([True, False, True, False])).backward()
    with pytest.raises((tg.AnomalyError, ValueError, IndexError)), tg.detect_anomaly():
        loss_of(leaf(x), np.ones(4, bool)).backward()


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_the_mean_is_over_what_counts(number):
    _, loss_of, x = list(calls_with_mask(0.25))[number]
    mask = np.array([True, False, True, False])
    mean, total = (loss_of(leaf(x), mask, reduction=reduction).item() for reduction in ("mean", "sum"))
    count = {"smoothed": 1.0 + 3.0, "mse": 6, "binary": 6, "binary_with_logits": 6}.get(NAMES[number], 2)
    assert mean == pytest.approx(total / count, rel=1e-12)


@pytest.mark.parametrize("number", range(len(NAMES)), ids=NAMES)
def test_where_nothing_counts_the_mean_is_zero_with_a_gradient_of_zero(number):
    _, loss_of, x = list(calls_with_mask(np.nan))[number]
    x = leaf(x)
    loss = loss_of(x, np.zeros(4, bool))
    loss.backward()
    assert loss.item() == 0
    assert (x.grad.data == 0).all()


def test_no_rows_at_all():
    for loss in (losses.cross_entropy(np.zeros((0, 3)), np.zeros(0, int)), losses.mse(np.zeros((0, 3)), np.zeros((0, 3)))):
        assert loss.item() == 0


def test_ignore_index_joins_the_mask():
    x = logits_of(5, 4)
    with_index = losses.cross_entropy(x, [0, -1, 2, -1, 1], np.array([1, 1, 1, 1, 0]), ignore_index=-1, reduction="none").data
    with_mask = losses.cross_entropy(x, [0, 0, 2, 0, 1], np.array([True, False, True, False, False]), reduction="none").data
    np.testing.assert_array_equal(with_index, with_mask)
    inside = losses.cross_entropy(x, [0, 3, 2, 3, 1], ignore_index=3).item()  # may be a class too: padding often is
    assert inside == pytest.approx(losses.cross_entropy(x[[0, 2, 4]], [0, 2, 1]).item(), rel=1e-12)


def test_a_mask_of_steps_serves_for_the_features():
    x, y = logits_of(3, 2, 4), logits_of(3, 2, 4, seed=1)
    steps = np.array([[True, True], [True, False], [False, False]])
    expected = ((x - y)[steps] ** 2).mean()
    assert losses.mse(x, y, steps).item() == pytest.approx(expected, rel=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 5), st.sampled_from(["mean", "sum"]))
def test_masking_is_the_same_as_leaving_out(seed, rows, classes, reduction):
    rng = np.random.default_rng(seed)
    x, targets, mask = rng.normal(size=(rows, classes)), rng.integers(classes, size=rows), rng.random(rows) < 0.6
    whole, left = leaf(x), leaf(x[mask])
    masked = losses.cross_entropy(whole, targets, mask, reduction=reduction)
    chosen = losses.cross_entropy(left, targets[mask], reduction=reduction)
    masked.backward()
    chosen.backward()
    np.testing.assert_allclose(masked.data, chosen.data, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(whole.grad.data[mask], left.grad.data, rtol=1e-12, atol=1e-14)
    assert (whole.grad.data[~mask] == 0).all()


# ---- squared error and the binary losses ----------------------------------------------------------------------------


def test_mse_and_its_gradients():
    x, y = logits_of(3, 4), logits_of(3, 4, seed=1)
    a, b = leaf(x), leaf(y)
    loss = losses.mse(a, b)
    loss.backward()
    np.testing.assert_allclose(loss.data, ((x - y) ** 2).mean(), rtol=1e-12)
    np.testing.assert_allclose(a.grad.data, 2 * (x - y) / 12, rtol=1e-12)
    np.testing.assert_allclose(b.grad.data, -2 * (x - y) / 12, rtol=1e-12)
    assert losses.mse(np.zeros(2, np.float32), [1, 2]).dtype == np.float32


def test_binary_losses_in_closed_form():
    x, y = logits_of(3, 4) * 3, softmax(logits_of(3, 4, seed=1))
    p = 1 / (1 + np.exp(-x))
    expected = -(y * np.log(p) + (1 - y) * np.log(1 - p))
    probabilities, logits = leaf(p), leaf(x)
    a = losses.binary_cross_entropy(probabilities, y, reduction="none")
    b = losses.binary_cross_entropy_with_logits(logits, y, reduction="none")
    a.sum().backward()
    b.sum().backward()
    np.testing.assert_allclose(a.data, expected, rtol=1e-12)
    np.testing.assert_allclose(b.data, expected, rtol=1e-12)
    np.testing.assert_allclose(probabilities.grad.data, (p - y) / (p * (1 - p)), rtol=1e-10)
    np.testing.assert_allclose(logits.grad.data, p - y, atol=1e-14)


def test_binary_loss_of_certainties():
    p = leaf(np.array([0.0, 1.0, 0.0, 1.0]))
    loss = losses.binary_cross_entropy(p, [False, True, True, False], reduction="none")
    loss.sum().backward()
    np.testing.assert_array_equal(loss.data, [0, 0, 100, 100])
    np.testing.assert_array_equal(p.grad.data, [1, -1, 0, 0])


def test_binary_loss_keeps_small_probabilities():
    p = leaf(np.array([1e-20, 1e-300]))
    loss = losses.binary_cross_entropy(p, [0, 1], reduction="none")
    np.testing.assert_allclose(loss.data, [1e-20, -np.log(1e-300)], rtol=1e-12)


def test_binary_loss_of_large_logits():
    x = leaf(np.array([-1e4, 1e4, 1e4], np.float32))
    loss = losses.binary_cross_entropy_with_logits(x, [1, 0, 1], reduction="none")
    loss.sum().backward()
    np.testing.assert_array_equal(loss.data, [1e4, 1e4, 0])
    np.testing.assert_array_equal(x.grad.data, [-1, 1, 0])


# ---- what all have in common ----------------------------------------------------------------------------------------


def test_derivatives_to_second_order():
    x = logits_of(3, 4)
    mask = np.array([True, False, True])
    tg.check_grads(lambda x: losses.cross_entropy(x, [1, 0, 3], mask, weight=[1.0, 2.0, 3.0, 4.0], label_smoothing=0.1), x)
    tg.check_grads(lambda x, q: losses.cross_entropy(x, q), x, softmax(logits_of(3, 4, seed=1)))
    tg.check_grads(lambda x, y: losses.mse(x, y, mask), x, logits_of(3, 4, seed=1))
    tg.check_grads(lambda x: losses.binary_cross_entropy(x, np.full((3, 4), 0.3)), softmax(x))
    tg.check_grads(lambda x: losses.binary_cross_entropy_with_logits(x, np.full((3, 4), 0.3), mask), x)


def test_the_operations_stand_in_the_scope_loss():
    loss = losses.cross_entropy(leaf(logits_of(2, 3)), [0, 1])
    assert loss.scope.path == "loss"
    assert {entry.op for entry in tg.tape(loss).find("loss")} >= {"log_softmax", "getitem", "mean"}


def test_a_mean_in_half_precision_does_not_overflow():
    x = np.zeros((40_000, 2), np.float16)
    x[:, 1] = -8
    for mask in (None, np.ones(40_000, bool)):
        loss = losses.cross_entropy(x, np.ones(40_000, int), mask)
        assert loss.dtype == np.float16
        assert loss.item() == pytest.approx(8, rel=1e-2)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: losses.cross_entropy(np.zeros((2, 3)), [0.0, 1.0]),               TypeError,  r"integers of shape \(2,\)"),
    (lambda: losses.cross_entropy(np.zeros((2, 3)), [True, False]),            TypeError,  "bool"),
    (lambda: losses.cross_entropy(np.zeros((2, 3)), [0, 3]),                   IndexError, r"target 3 at index \(1,\)"),
    (lambda: losses.cross_entropy(np.zeros((2, 3)), [0, -1]),                  IndexError, r"target -1 at index \(1,\)"),
    (lambda: losses.cross_entropy(np.zeros((2, 3)), [0, 1, 2]),                tg.ShapeError, r"shape \(2,\), got \(3,\)"),
    (lambda: losses.cross_entropy(np.zeros((2, 3)), np.eye(3, dtype=int)[:2]), tg.ShapeError, "argmax"),
    (lambda: losses.cross_entropy(np.zeros((2, 3), int), [0, 1]),              TypeError,  "logits must be floating"),
    (lambda: losses.cross_entropy(np.float64(0), 0),                           tg.ShapeError, "axis of classes"),
    (lambda: losses.cross_entropy(np.zeros((2, 3)), np.ones((2, 3)), ignore_index=1), TypeError, "by mask"),
    (lambda: losses.cross_entropy(np.zeros((2, 3)), [0, 1], [True]),           tg.ShapeError, r"mask of shape \(1,\)"),
    (lambda: losses.cross_entropy(np.zeros((2, 3)), [0, 1], [0.5, 1.0]),       TypeError,  "True and False"),
    (lambda: losses.cross_entropy(np.zeros((2, 3)), [0, 1], weight=[1.0]),     tg.ShapeError, "3 classes"),
    (lambda: losses.cross_entropy(np.zeros((2, 3)), [0, 1], label_smoothing=2), ValueError, "between 0 and 1"),
    (lambda: losses.cross_entropy(np.zeros((2, 3)), [0, 1], reduction="avg"),  ValueError, "mean, sum, none"),
    (lambda: losses.nll(np.zeros((2, 3)), [0, 3]),                             IndexError, "target 3"),
    (lambda: losses.mse(np.zeros((3, 1)), np.zeros(3)),                        tg.ShapeError, "the same"),
    (lambda: losses.mse([1, 2], [1, 2]),                                       TypeError,  "floating"),
    (lambda: losses.mse(np.zeros((3, 2)), np.zeros((3, 2)), np.ones(2, bool)), tg.ShapeError, "mask"),
    (lambda: losses.binary_cross_entropy([0.5, 1.5], [0, 1]),                  ValueError, "probability 1.5 at index"),
    (lambda: losses.binary_cross_entropy([0.5, np.nan], [0, 1]),               ValueError, "probability nan"),
    (lambda: losses.binary_cross_entropy([0.5, 0.5], [0, 2]),                  ValueError, "target 2 at index"),
    (lambda: losses.binary_cross_entropy_with_logits([0.5, 0.5], [0.0, np.nan]), ValueError, "target nan"),
    (lambda: losses.binary_cross_entropy_with_logits([0.5], [0, 1]),           tg.ShapeError, "the same"),
])  # fmt: skip
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
