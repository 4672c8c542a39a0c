"""What holds for every sequence model: padding is invisible, a row is alone in its batch, gradients are right, all is checked."""

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

import tinygrad_seq as tg
from tinygrad_seq.models import GRUCell, LSTMCell, Recurrent, SequenceTagger

from .sequence_cases import ALL_ROWS, CASES, WITH_TEACHER, arguments, gradients, made, with_parameters
from .test_stacks import Echo

every_model = pytest.mark.parametrize("name", CASES)
every_model_with_a_teacher = pytest.mark.parametrize("name", WITH_TEACHER)


def predicted(name, model, given):
    return CASES[name].predict(model, given)


def assert_equal(found, expected, tolerance=0.0):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert np.shape(one) == np.shape(other)
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


# ---- the loss -------------------------------------------------------------------------------------------------------------


@every_model
def test_a_loss_is_a_number_that_every_parameter_matters_to(name):
    model = made(name)
    loss = model.loss(**arguments(name))
    assert isinstance(loss, tg.Tensor) and loss.shape == () and np.isfinite(loss.item())
    found = gradients(model, loss)
    assert found.keys() == {key for key, _ in model.named_parameters()}
    assert all(np.isfinite(g).all() for g in found.values())
    silent = {key for key, g in found.items() if not g.any()}
    assert silent <= {"cell.W_h"} if name.startswith("feedback") else not silent


@every_model
def test_the_derivatives_of_the_loss(name):
    model, given = made(name), arguments(name, [0, 2])
    parameters = {key: parameter.data for key, parameter in model.named_parameters()}
    tg.check_grads(lambda values: with_parameters(model, values).loss(**given), parameters, order=1)


@pytest.mark.parametrize("name", ["tagger", "feedback tagger", "forecaster of changes", "attention, bahdanau"])
def test_the_second_derivatives_of_the_loss(name):
    model, given = made(name), arguments(name, [0, 2])
    parameters = {key: parameter.data for key, parameter in model.named_parameters()}
    tg.check_grads(lambda values: with_parameters(model, values).loss(**given), parameters, order=2)


@pytest.mark.parametrize("name", ["feedback tagger", "forecaster"])
def test_gradients_flow_back_through_outputs_that_are_read(name):
    """Of what is fed back as numbers; tokens that are fed back are choices, and have no derivative."""
    model, given = made(name), arguments(name, [0, 1])
    parameters = {key: parameter.data for key, parameter in model.named_parameters()}
    tg.check_grads(lambda values: with_parameters(model, values).loss(**given, teacher=0), parameters, order=1)


@every_model
def test_the_parts_of_a_weights_gradient_add_up(name):
    model = made(name)
    loss = model.loss(**arguments(name))
    parts = {key: tg.bptt.weight_gradients(loss, parameter) for key, parameter in model.named_parameters()}
    for key, whole in gradients(model, loss).items():
        np.testing.assert_allclose(sum(parts[key].values()), whole, rtol=0, atol=1e-12, err_msg=key)
        if "cells" in key or "decoder.readout" in key:
            assert None not in parts[key], key


# ---- padding, and other rows ----------------------------------------------------------------------------------------------


@every_model
@pytest.mark.parametrize(("token", "feature"), [(-7, np.nan), (10**6, np.inf)])
def test_padding_reaches_nothing(name, token, feature):
    model = made(name)
    clean, padded = arguments(name), arguments(name, token=token, feature=feature)
    one, other = model.loss(**clean), model.loss(**padded)
    assert one.item() == other.item()
    assert_equal(gradients(model, other).values(), gradients(model, one).values())
    assert_equal(predicted(name, model, padded), predicted(name, model, clean))


@every_model_with_a_teacher
def test_padding_reaches_nothing_without_a_teacher(name):
    model, losses = made(name), []
    for token, feature in ((0, 0.0), (-7, np.nan)):
        tg.manual_seed(3)
        losses.append(model.loss(**arguments(name, token=token, feature=feature), teacher=0.5))
    assert losses[0].item() == losses[1].item()
    assert_equal(gradients(model, losses[1]).values(), gradients(model, losses[0]).values())


@every_model
def test_a_row_is_what_it_is_alone(name):
    model = made(name)
    whole = model.loss(**arguments(name), reduction="sum")
    alone = [model.loss(**arguments(name, [b]), reduction="sum") for b in ALL_ROWS]
    np.testing.assert_allclose(whole.item(), sum(loss.item() for loss in alone), rtol=1e-12)
    expected = [sum(parts) for parts in zip(*[gradients(model, loss).values() for loss in alone])]
    assert_equal(gradients(model, whole).values(), expected, 1e-12)
    predictions = predicted(name, model, arguments(name))
    for b in ALL_ROWS:
        assert_equal(predicted(name, model, arguments(name, [b])), predictions[b :: len(ALL_ROWS)], 1e-12)


ragged = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=4)


@settings(max_examples=25)
@drawn(lengths=ragged, seed=st.integers(0, 1000))
def test_masks_hide_whatever_is_not_real(lengths, seed):
    """The loss of a batch is that of its rows one after the other, whatever their lengths, for the source and the target."""
    rng = np.random.default_rng(seed)
    sources, targets = ([rng.integers(0, size, n) for n in each] for each, size in zip(zip(*lengths), (6, 4)))
    (source, S), (target, T) = (tg.data.pad(rows, int(rng.integers(-9, 9))) for rows in (sources, targets))
    for name in ("attention, bahdanau", "encoder-decoder"):
        model = made(name)
        alone = sum(model.loss(a[:, None], b[:, None], reduction="sum").item() for a, b in zip(sources, targets))
        np.testing.assert_allclose(model.loss(source, target, S, T, reduction="sum").item(), alone, rtol=1e-12)
        np.testing.assert_allclose(model.loss(source, target, S, T).item(), alone / (sum(T) + len(T)), rtol=1e-12)
    tagger, marks = made("tagger"), [rng.integers(0, 4, n) for n in S]
    alone = sum(tagger.loss(a[:, None], b[:, None], reduction="sum").item() for a, b in zip(sources, marks))
    np.testing.assert_allclose(tagger.loss(source, tg.data.pad(marks, -1)[0], S).item(), alone / sum(S), rtol=1e-12)


@every_model
def test_the_mean_is_over_what_is_real(name):
    model, given = made(name), arguments(name)
    each = model.loss(**given, reduction="none").data
    total = model.loss(**given, reduction="sum").item()
    np.testing.assert_allclose(each.sum(), total, rtol=1e-12)
    np.testing.assert_allclose(model.loss(**given).item(), total / np.count_nonzero(each), rtol=1e-12)


@every_model
def test_batch_first_is_the_same_with_other_axes(name):
    model, other = made(name), made(name, batch_first=True)
    given = arguments(name)
    swapped = {key: np.swapaxes(array, 0, 1) if is_sequence(name, key, array) else array for key, array in given.items()}
    assert model.loss(**given).item() == other.loss(**swapped).item()
    if name.startswith(("tagger", "feedback")):
        x, lengths = given["x"], given["lengths"]
        np.testing.assert_array_equal(other.predict(swapped["x"], lengths).T, model.predict(x, lengths))
        np.testing.assert_array_equal(np.swapaxes(other(swapped["x"], lengths).data, 0, 1), model(x, lengths).data)


def is_sequence(name, key, array):
    return np.ndim(array) > 1 and not (key == "x" and name.startswith("generator"))


# ---- predictions ----------------------------------------------------------------------------------------------------------


@every_model
def test_a_prediction_leaves_the_model_as_it_was(name):
    options = {} if name.startswith("feedback") else dict(dropout=0.5)
    model, given = made(name, **options), arguments(name)
    parts = list(model.modules())
    parts[-1].training = False
    modes, before = [part.training for part in parts], tg.random.get_state()
    first = predicted(name, model, given)
    assert [part.training for part in parts] == modes
    assert tg.random.get_state() == before  # no dropout was drawn
    assert_equal(predicted(name, model, given), first)
    assert all(isinstance(each, np.ndarray | np.generic) for each in first)
    assert all(parameter.grad is None for parameter in model.parameters())
    with model.predicting():
        assert not model.loss(**given).requires_grad


@every_model
def test_a_model_is_saved_and_loaded(name, tmp_path):
    model, given = made(name), arguments(name)
    tg.save(tmp_path / "model.safetensors", model)
    tg.manual_seed(1)
    other = CASES[name].build().to(np.float64)
    assert other.loss(**given).item() != model.loss(**given).item()
    tg.load(tmp_path / "model.safetensors", other)
    assert other.loss(**given).item() == model.loss(**given).item()
    assert_equal(predicted(name, other, given), predicted(name, model, given))


@every_model
def test_a_model_learns_its_batch(name):
    model, given = made(name), arguments(name)
    optimizer = tg.optim.Adam(model.parameters(), lr=0.05)
    before = model.loss(**given).item()
    for _ in range(15):
        optimizer.zero_grad()
        model.loss(**given).backward()
        optimizer.step()
    assert model.loss(**given).item() < 0.8 * before


# ---- who feeds ------------------------------------------------------------------------------------------------------------


@every_model_with_a_teacher
def test_the_teacher_is_chosen_by_the_engines_generator(name):
    model, given = made(name), arguments(name)
    losses = []
    for seed in (5, 5, 6):
        tg.manual_seed(seed)
        losses.append(model.loss(**given, teacher=0.5).item())
    assert losses[0] == losses[1] != losses[2]
    state = tg.random.get_state()
    forced = model.loss(**given).item()
    assert tg.random.get_state() == state
    assert model.loss(**given, teacher=1.0).item() == forced
    assert abs(model.loss(**given, teacher=0).item() - forced) > 1e-6


@every_model_with_a_teacher
def test_no_probability_is_refused(name):
    with pytest.raises(ValueError, match=r"from 0 to 1, not 1\.5"):
        made(name).loss(**arguments(name), teacher=1.5)


# ---- which cells ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tagger", "classifier, last", "language", "forecaster", "generator", "encoder-decoder"])
@pytest.mark.parametrize(
    "cell", [LSTMCell, Echo, "rnn", lambda I, H: GRUCell(I, H, reset_after=True)], ids=["LSTMCell", "own", "rnn", "made"]
)
def test_any_cell_will_do(name, cell):
    model, given = made(name, cell=cell), arguments(name)
    model.loss(**given).backward()
    predicted(name, model, given)


def test_a_layer_will_do_as_it_is():
    layer = Recurrent(GRUCell(2, 5), reverse=True)
    model = SequenceTagger(2, 99, 4, cell=layer)
    assert model.layers is layer and model.readout.W.shape == (5, 4)


@every_model
def test_a_model_built_under_a_recording_leaves_no_trace(name):
    with tg.record() as tape:
        CASES[name].build()
    assert len(tape) == 0
