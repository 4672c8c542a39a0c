"""The forecaster: one step ahead, freely beyond the end, and everything in between."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.models import Forecaster
from tinygrad_seq.models.forcing import by_teacher

T, B, I, H = 6, 3, 2, 4


def made(**options):
    tg.manual_seed(0)
    return Forecaster(I, H, **(dict(cell="gru") | options)).to(np.float64)


def series(steps=T, seed=0):
    return np.random.default_rng(seed).normal(size=(steps, B, I))


@pytest.mark.parametrize("residual", [False, True])
def test_it_is_layers_and_a_readout(residual):
    model, x = made(residual=residual), series()
    outputs, _ = model.layers(x)
    expected = outputs.data @ model.readout.W.data + model.readout.b.data + (x if residual else 0)
    np.testing.assert_allclose(model.predict(x), expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(model.loss(x).item(), ((expected[:-1] - x[1:]) ** 2).mean(), rtol=1e-13)


def test_a_change_of_nothing_is_persistence():
    model, x = made(residual=True), series()
    for parameter in model.readout.parameters():
        parameter.overwrite(np.zeros(parameter.shape))
    np.testing.assert_array_equal(model.predict(x), x)
    np.testing.assert_array_equal(model.forecast(x, 3, [6, 2, 4]), np.tile(x[[5, 1, 3], range(B)], (3, 1, 1)))


@pytest.mark.parametrize("options", [{}, dict(residual=True, num_layers=2, cell="lstm"), dict(batch_first=True)], ids=str)
def test_beyond_the_end_it_reads_what_it_has_said(options):
    model, x = made(**options), series()
    swap = (lambda a: np.swapaxes(a, 0, 1)) if options.get("batch_first") else (lambda a: a)
    longer, lengths = x.copy(), np.array([6, 2, 4])
    found = swap(model.forecast(swap(x), 4, lengths))
    assert found.shape == (4, B, I)
    for b, n in enumerate(lengths):
        longer = x[:n, b : b + 1]
        for k in range(4):
            said = swap(model.predict(swap(longer)))[-1:]
            np.testing.assert_allclose(found[k, b], said[0, 0], rtol=0, atol=1e-13)
            longer = np.concatenate([longer, said])


def test_without_a_teacher_it_reads_what_it_has_said_after_the_context():
    model, x = made(), series()
    for context in (1, 3):
        read = model.predict(x[:context])[:-1]
        free = np.concatenate([read, model.forecast(x[:context], T - context)])
        loss = model.loss(x, teacher=0, context=context)
        np.testing.assert_allclose(loss.item(), ((free - x[1:]) ** 2).mean(), rtol=1e-12)
    assert model.loss(x, teacher=0, context=T).item() == model.loss(x).item()


def test_in_between_each_step_and_row_reads_what_its_coin_says():
    model, x = made(), series()
    tg.manual_seed(2)
    loss = model.loss(x, teacher=0.5, reduction="none").data
    tg.manual_seed(2)
    coins = by_teacher(0.5, T - 1, B)
    read, said = x[:1], []
    for t in range(T - 1):
        if t:
            read = np.concatenate([read, np.where(coins[t][:, None], x[t], said[-1])[None]])
        said.append(model.predict(read)[-1])
    np.testing.assert_allclose(loss, (np.array(said) - x[1:]) ** 2, rtol=0, atol=1e-12)


def test_targets_of_another_kind():
    model, x = made(output_size=1), series()
    y = x.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(model.loss(x, y).item(), ((model.predict(x) - y) ** 2).mean(), rtol=1e-13)
    for attempt in (lambda: model.forecast(x, 2), lambda: model.loss(x, y, teacher=0)):
        with pytest.raises(ValueError, match="cannot read its 1 numbers in the place of the series' 2"):
            attempt()
    with pytest.raises(tg.ShapeError, match=r"targets of shape \(5, 3, 1\), time first, are needed, got \(5, 3, 2\)"):
        model.loss(x)
    with pytest.raises(ValueError, match="got 1 and 2"):
        made(output_size=1, residual=True)


def test_a_mask_and_lengths_say_what_counts():
    model, x = made(), series()
    mask = np.random.default_rng(1).random((T - 1, B, I)) < 0.5
    each = model.loss(x, reduction="none").data
    real = tg.data.valid(np.array([6, 2, 4]) - 1)[:, :, None]
    np.testing.assert_allclose(model.loss(x, lengths=[6, 2, 4]).item(), each[np.broadcast_to(real, each.shape)].mean())
    np.testing.assert_allclose(model.loss(x, lengths=[6, 2, 4], mask=mask).item(), each[mask & real].mean())
    np.testing.assert_allclose(model.loss(x, mask=mask[:, :, 0]).item(), each[mask[:, :, 0]].mean())


def test_a_state_carries_on():
    model, x = made(cell="lstm", num_layers=2), series(8)
    whole, _ = model.loss(x[:-1], x[1:], None, reduction="sum")
    first, state = model.loss(x[:3], x[1:4], None, reduction="sum")
    second, _ = model.loss(x[3:-1], x[4:], state, reduction="sum")
    np.testing.assert_allclose(first.item() + second.item(), whole.item(), rtol=1e-13)
    forecasts, _ = model(x[3:], model(x[:3])[1])
    np.testing.assert_allclose(forecasts.data, model.predict(x)[3:], rtol=0, atol=1e-14)
    stepwise, state = model.loss(x[3:-1], x[4:], model(x[:3])[1], teacher=0.0, context=4)
    assert stepwise.item() == model.loss(x[3:-1], x[4:], model(x[:3])[1])[0].item()
    free, state = model.loss(x[3:-1], x[4:], model(x[:3])[1], teacher=0.0)
    ahead = model.forecast(x[:4], 4)
    np.testing.assert_allclose(free.item(), ((ahead - x[4:]) ** 2).mean(), rtol=1e-12)
    assert [part.shape for part in state] == [(2, B, H)] * 2


def test_an_oscillation_is_learned_and_goes_on():
    """x<t+1> = 2 cos(w) x<t> - x<t-1>: one number does not tell whether it rises, but the state does."""
    tg.manual_seed(0)
    x = np.sin(0.8 * np.arange(32)[:, None, None] + np.arange(4)[None, :, None])  # (T, B, 1)
    model = Forecaster(1, 12, cell="gru", residual=True).to(np.float64)
    optimizer = tg.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(40):
        optimizer.zero_grad()
        model.loss(x[:24]).backward()
        optimizer.step()
    assert model.loss(x[:24]).item() < 0.1 * ((x[1:24] - x[:23]) ** 2).mean()
    ahead = model.forecast(x[:24], 4)
    assert ((ahead - x[24:28]) ** 2).mean() < 0.2 * ((x[23] - x[24:28]) ** 2).mean()


@pytest.mark.parametrize(("attempt", "error", "match"), [
    (lambda m, x: m.loss(x[:1]), tg.ShapeError, "each row of a series needs two steps"),
    (lambda m, x: m.loss(x, lengths=[6, 1, 4]), tg.ShapeError, "each row of a series needs two steps"),
    (lambda m, x: m.loss(x, context=0), ValueError, "context is at least 1, not 0"),
    (lambda m, x: m.forecast(x, 0), ValueError, "horizon is at least 1, not 0"),
    (lambda m, x: m.loss(x, x[:3]), tg.ShapeError, r"got \(3, 3, 2\)"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(attempt, error, match):
    with pytest.raises(error, match=match):
        attempt(made(), series())


def test_dropout_with_one_mask_for_all_steps_is_not_for_single_ones():
    from tinygrad_seq.models import GRU

    model = made(cell=GRU(I, H, input_dropout=0.5))
    model.loss(series())
    with pytest.raises(ValueError, match="one mask for all steps"):
        model.loss(series(), teacher=0)
    model.forecast(series(), 2)  # without a mask there is no harm
