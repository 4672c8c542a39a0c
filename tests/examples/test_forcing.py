"""Teacher forcing: a short run, and what its figures are made of."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.models import OutputRNNCell

from .in_process import refused, told
from .scripts import assert_whole_png, rows_of, script

forcing = script("forcing")

pytestmark = pytest.mark.xdist_group("forcing")  # one worker runs it


@pytest.fixture(scope="module")
def series():
    return forcing.weather()


def network(way, series, steps=5):
    with tg.random.replaying(tg.random.get_state()):
        return forcing.train(way, series, steps, 6, 0)[0]


def test_the_series_is_scaled_by_what_is_known(series):
    known = slice(0, -forcing.TESTED)
    assert series.x.shape == (1461, 4) and series.y.shape == (1461, 2)
    np.testing.assert_allclose(series.y[known].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(series.y[known].std(axis=0), 1, rtol=1e-5)
    assert (series.y[1, 0] - series.y[0, 0]) * series.degrees[0] == pytest.approx(10.6 - 12.8, rel=1e-5)  # of the file


def test_a_stretch_begins_with_what_was_measured_the_day_before(series):
    some = forcing.stretches(series, np.array([1, 40]), 3)
    np.testing.assert_array_equal(some.y[:, 1], series.y[40:43])
    np.testing.assert_array_equal(some.x[:, 0], series.x[1:4])
    np.testing.assert_array_equal(some.start, series.y[[0, 39]])


def test_what_is_tested_is_never_seen_in_training(series):
    some = forcing.tested(series, 30)
    np.testing.assert_array_equal(some.y[0, 0], series.y[-forcing.TESTED])
    np.testing.assert_array_equal(some.y[-1, -1], series.y[-1])
    blind = series._replace(x=series.x.copy(), y=series.y.copy())
    blind.x[-forcing.TESTED :] = blind.y[-forcing.TESTED :] = np.nan
    cell = network("free running", blind)
    assert all(np.isfinite(parameter.numpy()).all() for parameter in cell.parameters())


def test_errors_by_hand():
    said, truth = np.zeros((2, 1, 2)), np.array([[[3.0, 4.0]], [[0.0, 1.0]]])
    np.testing.assert_allclose(forcing.errors(said, truth, np.array([1.0, 2.0])), [np.sqrt((9 + 64) / 2), np.sqrt(4 / 2)])
    assert forcing.in_one(np.array([3.0, 4.0])) == pytest.approx(np.sqrt(12.5))


def test_forced_and_free_are_the_same_on_the_first_day_and_apart_later(series):
    some = forcing.tested(series, 10)
    found = forcing.measure(network("teacher forcing", series), series, some)
    assert found["forced"][0] == pytest.approx(found["free"][0], rel=1e-6)
    assert np.abs(found["forced"] - found["free"])[1:].min() > 1e-4


def test_persistence_is_yesterday_or_the_last_day_that_was_measured(series):
    some = forcing.tested(series, 4)
    said = forcing.persistence(some)
    np.testing.assert_array_equal(said["forced"][1:], some.y[:-1])
    np.testing.assert_array_equal(said["forced"][0], some.start)
    assert said["free"].shape == some.y.shape and (said["free"] == some.start).all()


def test_by_season_is_the_least_squares_of_what_is_known(series):
    y = series.x @ np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 4.0]]) + 5
    exact = series._replace(y=y.astype(np.float32))
    some = forcing.tested(exact, 7)
    np.testing.assert_allclose(forcing.by_season(exact, some), some.y, atol=1e-4)


def test_the_teacher_of_each_way():
    assert [float(forcing.teacher_of(way, 10)) for way in forcing.WAYS] == [1, 1, 0]
    teacher = forcing.teacher_of("scheduled sampling", 10)
    for _ in range(8):
        teacher.step()
    assert float(teacher) == 0


def test_all_ways_start_from_the_same_weights_and_end_apart(series):
    cells = [network(way, series) for way in forcing.WAYS]
    firsts = [network(way, series, steps=1) for way in forcing.WAYS[:2]]  # the teacher speaks in the first step of both
    for a, b in zip(*[cell.parameters() for cell in firsts]):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-5)
    weights = [cell.W_h.numpy() for cell in cells]
    assert np.abs(weights[0] - weights[2]).max() > 1e-4 < np.abs(weights[1] - weights[2]).max()


def test_all_at_once_says_what_one_by_one_says_and_pulls_back_the_same():
    timed = forcing.timed(12, pairs=1, seed=0, hidden=8, rows=4)
    assert timed.T == 12 and min(timed.at_once, timed.one_by_one, timed.ratio) > 0
    assert timed.apart < 1e-5
    cell = OutputRNNCell(4, 5, 2, output_activation=None)
    some = forcing.stretches(forcing.weather(), np.array([9, 99]), 6)
    at_once = forcing.outputs(cell, some, 1.0).numpy()
    one_by_one = forcing.fed_back(cell, some.x, some.y, 1, some.start).numpy()
    np.testing.assert_allclose(at_once, one_by_one, atol=1e-5)


def test_the_tables_say_what_the_figures_say(done, figures):
    rows = rows_of(done)
    assert [row[0] for row in rows[:3]] == list(forcing.WAYS)
    for row, figure in zip(rows[:5], figures["gaps"]):
        assert row[1:4] == [f"{figure[name]:.3g}" for name in ("forced", "free", "gap")]
        assert figure["gap"] == pytest.approx(figure["free"] - figure["forced"])
    assert [int(row[0]) for row in rows[5:8]] == [each["T"] for each in figures["speed"]] == [16, 64, 256]
    assert all(each["apart"] < 1e-4 for each in figures["speed"])


def test_what_is_reported_is_how_each_way_does_where_it_is_free(figures):
    free = {row["trained by"]: row["free"] for row in figures["gaps"]}
    found = [(row["ours"], row["theirs"]) for row in figures["rows"]]
    forced, scheduled, freed = (free[way] for way in forcing.WAYS)
    assert found == [(scheduled, forced), (freed, forced), (forced, free[forcing.SEASON])]


def test_the_picture_is_there(folder, done):
    assert_whole_png(folder / "forcing.png")


def test_help_and_nonsense(capsys):
    help_text = told(forcing, capsys)
    assert all(option in help_text for option in ("--steps", "--hidden", "--runs", "--days", "--seed", "--out", "--quick"))
    assert "--days" in refused(forcing, capsys, "--days", 400)
