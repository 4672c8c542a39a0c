"""One step ahead: a short run, and least squares on series that are known in advance."""

import json

import numpy as np
import pytest

from .in_process import ran, refused, told
from .scripts import assert_whole_png, rows_of, script

ahead = script("ahead")

pytestmark = pytest.mark.xdist_group("ahead")  # one worker runs it


@pytest.fixture(scope="module")
def found():
    return ahead.load()


def made(values, known, roots=False, others=None):
    values = np.asarray(values, float)
    others = np.zeros((len(values), 0)) if others is None else others
    return ahead.Series("m", np.arange(len(values)), values, others, roots=roots, known=known, window=12, epochs=1)


def test_three_series_are_read_and_their_ends_held_out(found):
    weather, monthly, yearly = found.values()
    assert [len(series.values) for series in found.values()] == [1461, 3120, 309]
    assert weather.values[0].tolist() == [12.8, 5.0] and weather.others.shape == (1461, 4)
    assert (monthly.values[0, 0], yearly.values[1, 0]) == (58.0, 11.0)
    assert [int(series.when[series.known]) for series in found.values()] == [2015, 1957, 1947]
    assert monthly.when[-1] == pytest.approx(2008 + 11 / 12) and yearly.when[-1] == 2008


@pytest.mark.parametrize("roots", [False, True])
def test_what_is_read_is_scaled_by_what_is_known_and_comes_back(roots):
    rng = np.random.default_rng(0)
    values = rng.uniform(1, 9, size=(20, 2))
    series = made(values, 15, roots, rng.normal(size=(20, 3)) + 4)
    read = series.read()
    assert read.shape == (20, 5)
    np.testing.assert_allclose(read[:15].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(read[:15].std(axis=0), 1)
    np.testing.assert_allclose(series.values_of(read[:, -2:]), values)
    later = made(np.concatenate([values[:15], values[15:] * 3]), 15, roots, series.others)
    np.testing.assert_array_equal(later.read()[:15], read[:15])  # what is held out changes nothing before
    assert not roots or (series.values_of(np.full((1, 2), -100.0)) == 0).all()  # no root is negative


def test_least_squares_finds_what_made_the_series():
    """y<t> = 1 + 0.5 y<t-1> - 0.7 y<t-2> + 2 x<t-1>, without noise."""
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=40), np.ones(40)
    for t in range(2, 40):
        y[t] = 1 + 0.5 * y[t - 1] - 0.7 * y[t - 2] + 2 * x[t - 1]
    read = np.column_stack([x, y])
    said = ahead.autoregression(read, y[:, None], 2, known=20)
    np.testing.assert_allclose(said[2:, 0], y[2:], atol=1e-9)
    np.testing.assert_allclose(said[:2], y[:20].mean())
    assert np.abs(ahead.autoregression(y[:, None], y[:, None], 2, known=20)[2:, 0] - y[2:]).max() > 0.5


def test_nothing_that_is_held_out_is_known(found):
    """Everybody's forecasts of the first held-out step are the same, whatever comes at it and after it."""
    series = found["sunspots, yearly"]
    changed = series._replace(values=np.concatenate([series.values[: series.known], series.values[series.known :] * 0.5 + 7]))
    for model in (ahead.by_its_own_past, ahead.by_same_inputs):
        (a, name), (b, same) = model(series), model(changed)
        assert name == same
        np.testing.assert_allclose(a[: series.known + 1], b[: series.known + 1])
    with ahead.tg.random.replaying(ahead.tg.random.get_state()):
        said = []
        for each in (series, changed):
            ahead.tg.manual_seed(0)
            said.append(ahead.network(each._replace(epochs=1), 3, "training"))
    np.testing.assert_array_equal(said[0][: series.known + 1], said[1][: series.known + 1])
    assert np.abs(said[0][series.known + 1] - said[1][series.known + 1]).max() > 0.01  # one step later it has been read


def test_a_window_asks_for_the_next_change_and_scores_it_where_the_network_knows_where_it_is(found, monkeypatch):
    series, seen = found["weather"], []
    monkeypatch.setattr(ahead.tg, "fit", lambda model, windows, loss, **options: seen.extend([*windows]))
    with ahead.tg.random.replaying(ahead.tg.random.get_state()):
        ahead.network(series, 3, "training")
    read = series.read().astype(np.float32)
    changes = np.diff(read[:, -2:], axis=0)
    scale = changes[: series.known - 1].std(axis=0)
    days = {row.tobytes(): day for day, row in enumerate(read)}
    ends = []
    for x, targets, scored in seen:
        assert scored.shape == targets.shape[:2] and not scored[: ahead.UNSCORED].any() and scored[ahead.UNSCORED :].all()
        first = [days[row.tobytes()] for row in x[0]]
        for b, day in enumerate(first):
            np.testing.assert_array_equal(x[:, b], read[day : day + series.window])
            np.testing.assert_allclose(targets[:, b] * scale, changes[day : day + series.window], atol=1e-6)
        ends += [day + series.window for day in first]  # the day of the last target
    assert sorted(ends) == list(range(series.window, series.known))


def test_akaike_finds_the_order_that_made_the_series():
    rng = np.random.default_rng(3)
    noise, y = rng.normal(size=600), np.zeros(600)
    for t in range(3, 600):
        y[t] = 0.4 * y[t - 1] - 0.5 * y[t - 3] + noise[t]
    y = y[:, None]
    assert ahead.best_order(y, y, 500) == 3
    wasteful, fitting = (ahead.information(y, y, p, 500) for p in (30, 3))
    assert wasteful > fitting < ahead.information(y, y, 2, 500)


def test_orders_are_those_that_the_literature_has_for_sunspots(found):
    assert ahead.by_same_inputs(found["sunspots, yearly"])[1] == "AR(9), same inputs"


def test_persistence_is_as_it_was():
    series = made([[1.0], [4.0], [2.0], [2.0]], 2)
    np.testing.assert_array_equal(ahead.persistence(series), [[1], [1], [4], [2]])
    assert ahead.error(ahead.persistence(series), series) == pytest.approx(np.sqrt((2**2 + 0**2) / 2))


def test_the_opponents_are_as_strong_as_they_are_known_to_be(figures):
    """Whatever the seed."""
    theirs = {(row["task"], row["baseline"]): row["theirs"] for row in figures["rows"]}
    assert len(theirs) == 9
    assert theirs["weather", "persistence"] == pytest.approx(2.478, abs=2e-3)
    assert theirs["weather", "AR(2), same inputs"] == pytest.approx(2.242, abs=2e-3)
    assert theirs["sunspots, monthly", "AR(27), same inputs"] == pytest.approx(17.367, abs=2e-3)
    assert theirs["sunspots, yearly", "AR(9), same inputs"] == pytest.approx(16.735, abs=2e-3)


def test_what_is_reported_is_what_was_found(done, figures):
    for row in figures["rows"]:
        errors = figures["errors"][row["task"]]
        assert (row["ours"], row["theirs"]) == (errors["GRU of 4, mean of 1"], errors[row["baseline"]]) and row["less_is_better"]
    printed = [row for row in rows_of(done) if len(row) == 2]
    assert printed == [[who, f"{error:.3f}"] for errors in figures["errors"].values() for who, error in errors.items()]
    assert {name: len(each) for name, each in figures["alone"].items()} == dict.fromkeys(figures["errors"], 1)


def test_what_several_networks_say_is_averaged(tmp_path, monkeypatch):
    apart = iter([-1.0, 4.0] * 3)
    monkeypatch.setattr(ahead, "network", lambda series, hidden, label: ahead.persistence(series) + next(apart))
    monkeypatch.setattr(ahead, "ORDERS", range(1, 3))
    ran(ahead, tmp_path, "--networks", 2)
    figures = json.loads((tmp_path / "ahead.json").read_text(encoding="utf-8"))
    series = ahead.load()["weather"]
    expected = [ahead.error(ahead.persistence(series) + shift, series) for shift in (1.5, -1, 4)]
    assert [figures["errors"]["weather"]["GRU of 16, mean of 2"], *figures["alone"]["weather"]] == pytest.approx(expected)


def test_the_picture_is_there(done, folder):
    assert_whole_png(folder / "ahead.png")


def test_help_and_nonsense(capsys):
    help_text = told(ahead, capsys)
    assert all(option in help_text for option in ("--hidden", "--networks", "--seed", "--out", "--quick"))
    assert "--networks" in refused(ahead, capsys, "--networks", 0)
