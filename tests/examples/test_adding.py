"""The adding problem: its sequences and baseline, the measurement of the gradient's way back, and a short run of it all.

That the LSTM learns at T = 100 and the RNN does not takes minutes and is not repeated here; a few steps of time are.
"""

import argparse
import json

import numpy as np
import pytest

import tinygrad_seq as tg

from .scripts import assert_whole_png, finished, rows_of, run, script

adding = script("adding")
QUICK = ("--quick", "--length", 10, "--hidden", 4, "--batch", 8)

pytestmark = pytest.mark.xdist_group("adding")  # one worker runs it


@pytest.fixture(autouse=True)
def apart():
    with tg.random.replaying(tg.random.get_state()):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("adding")


@pytest.fixture(scope="module")
def done(folder):
    return finished("adding", folder, *QUICK, "--tune", "--seed", 3)


@pytest.fixture(scope="module")
def figures(done, folder):
    return json.loads((folder / "out" / "adding.json").read_text(encoding="utf-8"))


# ---- the problem ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("T", [2, 7, 100])
def test_two_values_are_marked_one_in_each_half_and_the_target_is_their_sum(T):
    x, y = adding.sequences(np.random.default_rng(0), T, 500)
    values, marks = x[..., 0], x[..., 1]
    assert x.shape == (T, 500, 2) and y.shape == (500, 1) and x.dtype == y.dtype == np.float32
    assert (marks[: T // 2].sum(axis=0) == 1).all() and (marks[T // 2 :].sum(axis=0) == 1).all() and marks.max() == 1
    assert values.min() >= 0 and values.max() < 1
    for b in range(500):
        assert y[b, 0] == values[marks[:, b] == 1, b].sum()


def test_every_step_may_be_marked():
    x, _ = adding.sequences(np.random.default_rng(0), 9, 2000)
    assert (x[..., 1].sum(axis=1) > 300).all()


def test_everyone_sees_the_same_batches_and_no_batch_comes_twice():
    batches = adding.Batches(seed=1, steps=4, T=6, B=3)
    once, again = list(batches), list(batches)
    assert len(once) == len(batches) == 4
    assert all(np.array_equal(a, b) for one, other in zip(once, again) for a, b in zip(one, other))
    assert len({x.tobytes() for x, _ in once}) == 4
    assert not np.array_equal(once[0][0], next(iter(adding.Batches(2, 4, 6, 3)))[0])


def test_who_always_says_1_is_off_by_a_sixth():
    _, y = adding.sequences(np.random.default_rng(0), 10, 200_000)
    assert abs(np.mean((y - 1) ** 2) - 1 / 6) < 0.002


def test_a_few_steps_of_time_are_learned():
    """So training, loss and readout are what they should be."""
    arguments = argparse.Namespace(seed=0, steps=250, length=4, hidden=8, batch=32)
    held_out = adding.sequences(np.random.default_rng(9), 4, 500)
    learned = adding.train("LSTM", 2e-2, arguments, held_out)
    assert len(learned.losses) == 250
    assert learned.error == pytest.approx(np.mean((learned.model(held_out[0]).numpy() - held_out[1]) ** 2), rel=1e-5)
    assert learned.error < 1 / 6 / 10


# ---- the way back ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "parts"), [("RNN", "h"), ("LSTM", "hc")])
def test_flows_are_the_norms_of_the_predictions_gradients(kind, parts):
    tg.manual_seed(0)
    model = adding.Adder(kind, 5).to(np.float64)
    x = adding.sequences(np.random.default_rng(0), 6, 3)[0].astype(np.float64)
    found = adding.flows(model, x)
    assert [*found] == list(parts)
    for part, flow in found.items():
        for t in range(6):
            _, _, (history,) = model.layer(x, return_all=True)
            gradients = tg.bptt.state_gradients(model.readout(history["h"][t]).sum(), history[part])
            norms = [np.sqrt((g**2).sum(axis=1).mean()) for g in gradients]
            assert np.allclose(flow[t], norms, rtol=1e-9, atol=0)
            assert (flow[t, t + 1 :] == 0).all() and (flow[t, : t + 1] > 0).all()


def test_an_open_forget_gate_carries_along_c_and_a_small_weight_vanishes():
    tg.manual_seed(0)
    x = adding.sequences(np.random.default_rng(0), 30, 4)[0]
    lstm, rnn = adding.Adder("LSTM", 4), adding.Adder("RNN", 4)
    (cell,), bias = lstm.layer.cells, np.zeros(16, np.float32)
    bias[4:8] = 20  # u, f, o, candidate
    cell.b.overwrite(bias)
    cell.W_h.overwrite(np.zeros((4, 16), np.float32))
    rnn.layer.cells[0].W_h.overwrite(0.5 * np.eye(4, dtype=np.float32))
    assert adding.widest_forget_gate(lstm, x) > 0.9999
    open_, closed = adding.flows(lstm, x), adding.flows(rnn, x)
    told = adding.Way("LSTM", "c", open_["c"], open_["c"]).in_words()
    assert told.startswith("LSTM, c<s>:") and told.count("carries") == 2 and "‖dŷ<29>/dc<s>‖" in told
    told = adding.Way("RNN", "h", closed["h"], closed["h"]).in_words()
    assert told.count("vanishes") == 2 and "‖dŷ<29>/dh<s>‖" in told and "dL" not in told


def test_before_training_is_the_model_that_training_started_from():
    arguments = argparse.Namespace(seed=5, steps=1, length=6, hidden=4, batch=2)
    x, y = adding.sequences(np.random.default_rng(0), 6, 4)
    tg.manual_seed(5)
    started_from = adding.flows(adding.Adder("LSTM", 4), x)
    learned = adding.train("LSTM", 0.1, arguments, (x, y))
    for way in adding.ways("LSTM", learned.model, arguments, x):
        assert np.array_equal(way.before, started_from[way.part]) and not np.array_equal(way.after, way.before)


def test_a_smooth_curve_is_the_mean_of_the_last_few():
    values = np.random.default_rng(0).normal(size=12)
    expected = [values[max(0, i - 4) : i + 1].mean() for i in range(12)]
    assert np.allclose(adding.smooth(values.tolist(), 5), expected)


# ---- all of it ------------------------------------------------------------------------------------------------------------


def test_the_table_has_the_baseline_and_every_model(done, figures):
    rows = rows_of(done.stdout)
    assert [row[0] for row in rows] == ["always 1", "LSTM, 10 steps", *["RNN, 10 steps"] * len(adding.TRIED)]
    assert [float(row[1]) for row in rows[1:]] == [adding.RATES["LSTM"], *adding.TRIED]
    assert [row[3] for row in rows[1:]] == [f"{one['mse']:.3g}" for one in figures["models"]]
    assert rows[0][3] == f"{figures['baseline']:.3g}"


def test_the_baseline_is_measured_on_the_sequences_that_the_models_are(figures):
    _, y = adding.sequences(np.random.default_rng([3, 1]), 10, adding.HELD_OUT)
    assert figures["baseline"] == pytest.approx(np.mean((y - 1.0) ** 2))


def test_the_figures_are_all_there(figures):
    assert figures["settings"]["seed"] == 3 and "out" not in figures["settings"]
    assert all(len(one["losses"]) == 10 for one in figures["models"])
    assert [(way["kind"], way["part"]) for way in figures["reach"]] == [("RNN", "h"), ("LSTM", "h"), ("LSTM", "c")]
    assert all(len(way[when]) == 10 and min(way[when]) > 0 for way in figures["reach"] for when in ("before", "after"))
    assert 0 < figures["widest_forget_gate"] < 1


def test_words_for_every_way_back_are_printed(done):
    for way in ("RNN, h<s>:", "LSTM, h<s>:", "LSTM, c<s>:"):
        words = done.stdout.partition(way)[2].splitlines()[1:5]
        assert "untrained: The gradient" in words[0] and "trained:   The gradient" in words[2]
    assert "10/10" in done.stderr


def test_the_pictures_are_where_it_says_and_whole(done, folder):
    written = [line.partition("written: ")[2] for line in done.stdout.splitlines() if line.startswith("written: ")]
    assert [(folder / name).name for name in written] == ["adding-learning.png", "adding-flow.png", "adding.json"]
    for name in written[:2]:
        assert_whole_png(folder / name)


def test_a_seed_makes_it_repeatable_and_with_tune_the_best_rate_is_kept(folder, figures):
    finished("adding", folder, *QUICK, "--seed", 3, "--out", "untuned")
    untuned = json.loads((folder / "untuned" / "adding.json").read_text(encoding="utf-8"))
    tuned = {(one["kind"], one["lr"]): one["losses"] for one in figures["models"]}
    assert [(one["kind"], one["lr"]) for one in untuned["models"]] == [*reversed(adding.RATES.items())]
    assert all(one["losses"] == tuned[one["kind"], one["lr"]] for one in untuned["models"])
    assert untuned["reach"][1:] == figures["reach"][1:]  # the LSTM's
    best = min(figures["models"][1:], key=lambda one: one["mse"])
    assert (untuned["reach"][0] == figures["reach"][0]) == (best["lr"] == adding.RATES["RNN"])


def test_help_names_every_option_and_nonsense_is_refused(tmp_path):
    told = finished("adding", tmp_path, "--help").stdout
    options = ("--steps", "--length", "--hidden", "--batch", "--seed", "--out", "--quick", "--tune")
    assert all(option in told for option in options)
    refused = run("adding", tmp_path, "--length", 1)
    assert refused.returncode == 2 and "at least 2" in refused.stderr
    assert list(tmp_path.iterdir()) == []
