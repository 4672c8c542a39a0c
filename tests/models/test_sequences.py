"""Tagger and classifier: what they are made of, what counts, what they predict."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.models import SequenceClassifier, SequenceTagger

T, B, I, H, C = 5, 3, 2, 4, 3
LENGTHS = [5, 2, 4]


def given(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(T, B, I)), rng.integers(0, C, (T, B)), rng.integers(0, C, B)


def made(model, **options):
    tg.manual_seed(0)
    return model(I, H, C, **options).to(np.float64)


def test_a_tagger_is_layers_and_a_readout_at_each_step():
    model, (x, y, _) = made(SequenceTagger, bidirectional=True, num_layers=2), given()
    outputs, _ = model.layers(x, lengths=LENGTHS)
    logits = outputs.data @ model.readout.W.data + model.readout.b.data
    np.testing.assert_allclose(model(x, LENGTHS).data, logits, rtol=0, atol=1e-14)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    losses = [-log_p[t, b, y[t, b]] for b, n in enumerate(LENGTHS) for t in range(n)]
    np.testing.assert_allclose(model.loss(x, y, LENGTHS).item(), np.mean(losses), rtol=1e-13)
    real = tg.data.valid(LENGTHS)
    np.testing.assert_array_equal(model.predict(x, LENGTHS), np.where(real, logits.argmax(axis=-1), -1))
    p = model.probabilities(x, LENGTHS)
    np.testing.assert_allclose(p[real], np.exp(log_p)[real], rtol=1e-12)
    assert not p[~real].any()


def test_a_mask_says_which_of_the_real_steps_count():
    model, (x, y, _) = made(SequenceTagger), given()
    mask = np.random.default_rng(1).random((T, B)) < 0.5
    each = model.loss(x, y, LENGTHS, reduction="none").data
    counts = mask & tg.data.valid(LENGTHS)
    assert 0 < counts.sum() < tg.data.valid(LENGTHS).sum()
    np.testing.assert_allclose(model.loss(x, y, LENGTHS, mask).item(), each[counts].mean(), rtol=1e-13)
    np.testing.assert_allclose(model.loss(x, y, mask=mask.astype(int)).item(), model.loss(x, y, mask=mask).item())
    y[~counts] = 99  # what does not count may be anything
    np.testing.assert_allclose(model.loss(x, y, LENGTHS, mask).item(), each[counts].mean(), rtol=1e-13)
    with pytest.raises(tg.ShapeError, match=r"a mask of shape \(5,\) does not fit 5 steps of 3 rows"):
        model.loss(x, y, LENGTHS, mask[:, 0])


def test_options_of_the_loss_are_handed_on():
    model, (x, y, labels) = made(SequenceTagger), given()
    weight = [1.0, 0.0, 2.0]
    expected = tg.losses.cross_entropy(model(x), y, weight=weight, label_smoothing=0.1)
    assert model.loss(x, y, weight=weight, label_smoothing=0.1).item() == expected.item()
    model = made(SequenceClassifier)
    expected = tg.losses.cross_entropy(model(x), labels, mask=[1, 0, 1], reduction="sum")
    assert model.loss(x, labels, mask=[1, 0, 1], reduction="sum").item() == expected.item()


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pool", ["last", "mean", "max"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_classifier_reads_its_label_off_all_that_is_real(cell, pool, bidirectional):
    model, (x, _, labels) = made(SequenceClassifier, cell=cell, pool=pool, bidirectional=bidirectional), given()
    rows = []
    for b, n in enumerate(LENGTHS):
        outputs = model.layers(x[:n, b : b + 1])[0].data[:, 0]  # (n, H or 2H)
        ends = np.concatenate([outputs[-1, :H], outputs[0, H:]])
        rows.append(dict(last=ends, mean=outputs.mean(axis=0), max=outputs.max(axis=0))[pool])
    logits = np.array(rows) @ model.readout.W.data + model.readout.b.data
    np.testing.assert_allclose(model(x, LENGTHS).data, logits, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(model.predict(x, LENGTHS), logits.argmax(axis=-1))
    np.testing.assert_allclose(model.probabilities(x, LENGTHS).sum(axis=-1), 1)
    assert model.loss(x, labels, LENGTHS).item() == tg.losses.cross_entropy(model(x, LENGTHS), labels).item()
    np.testing.assert_allclose(model(x).data, model(x, [T] * B).data, rtol=0, atol=1e-14)


def test_an_unknown_pool_is_refused():
    with pytest.raises(ValueError, match="'last', 'mean', 'max', not 'sum'"):
        made(SequenceClassifier, pool="sum")


def test_a_tensor_of_features_gets_its_gradient():
    for model in (made(SequenceTagger, batch_first=True), made(SequenceClassifier, batch_first=True)):
        array, y, labels = given()
        x = tg.tensor(np.swapaxes(array, 0, 1), requires_grad=True)
        model.loss(x, y.T if isinstance(model, SequenceTagger) else labels, LENGTHS).backward()
        real = tg.data.valid(LENGTHS).T
        assert x.grad.data[real].any(axis=-1).all() and not x.grad.data[~real].any()


def test_dropout_works_in_training_only():
    x, y, _ = given()
    model = made(SequenceTagger, num_layers=2, dropout=0.5)
    assert model.loss(x, y).item() != model.loss(x, y).item()
    model.eval()
    assert model.loss(x, y).item() == model.loss(x, y).item()


def test_every_class_of_the_last_step_is_told_from_the_first_token_alone():
    """Many-to-one over a distance: the label is the first token, whatever comes after."""
    tg.manual_seed(0)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, (8, 64))
    model = SequenceClassifier(4, 16, 4, embedding_size=4, cell="gru")
    optimizer = tg.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(x, x[0]).backward()
        optimizer.step()
    unseen = rng.integers(0, 4, (8, 200))
    assert (model.predict(unseen) == unseen[0]).mean() > 0.9
