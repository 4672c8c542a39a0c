"""min-char-rnn, twice: the same losses and the same gradients by hand and on the tape."""

import json

import numpy as np
import pytest

import tinygrad_seq as tg

from .in_process import ran, refused, told
from .scripts import assert_whole_png, rows_of, script

twice = script("min_char_rnn")
STEPS = 60

pytestmark = pytest.mark.xdist_group("min_char_rnn")  # one worker runs it


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("min_char_rnn")


@pytest.fixture(scope="module")
def done(folder):
    return ran(twice, folder, "--steps", STEPS, "--hidden", 20, "--seed", 5)


@pytest.mark.parametrize("seed", [0, 1])
def test_both_lose_the_same_and_learn_the_same(seed):
    tokens = np.random.default_rng(seed).integers(9, size=240)
    weights = twice.first_weights(9, 12, seed)
    parameters = {name: tg.Parameter(weight.copy(), name=name) for name, weight in weights.items()}
    first = {name: weight.copy() for name, weight in weights.items()}
    by_hand = list(twice.by_hand(weights, twice.pieces_of(tokens, STEPS)))
    on_the_tape = list(twice.on_the_tape(parameters, twice.pieces_of(tokens, STEPS)))
    assert len(by_hand) == STEPS
    np.testing.assert_allclose(on_the_tape, by_hand, atol=1e-6)
    for name, weight in weights.items():
        np.testing.assert_allclose(parameters[name].numpy(), weight, atol=1e-6)
        assert np.abs(weight - first[name]).max() > 1e-3


def test_the_gradients_by_hand_are_right():
    """By finite differences, with weights so large that no part of them hides."""
    rng = np.random.default_rng(0)
    weights = {name: weight + rng.normal(size=weight.shape) / 2 for name, weight in twice.first_weights(5, 4, 0).items()}
    x, y, h = rng.integers(5, size=6), rng.integers(5, size=6), rng.normal(size=(1, 4))

    def loss(*arrays):
        states, total, state = [], 0.0, h
        W_x, W_h, W_y, b, b_y = arrays
        for x_t in x:
            state = np.tanh(W_x[x_t] + state @ W_h + b)
            states.append(state)
        total = tg.losses.cross_entropy(np.concatenate(states) @ W_y + b_y, y)
        return total

    value, gradients, _ = twice.forward_and_backward(weights, x, y, h)
    tg.check_grads(loss, *weights.values(), order=1)
    expected, found = loss(*weights.values()), tg.grad(loss, argnums=tuple(range(5)))(*weights.values())
    assert value == pytest.approx(expected.item(), abs=1e-12)
    for gradient, right in zip(gradients.values(), found):
        np.testing.assert_allclose(gradient, right.numpy(), atol=1e-12)


def test_the_first_loss_is_that_of_a_guess():
    """The first weights are so small that all characters are alike probable."""
    weights = twice.first_weights(16, 8, 0)
    (loss,) = twice.by_hand(weights, twice.pieces_of(np.arange(100) % 16, 1))
    assert loss == pytest.approx(4, abs=1e-2)


def test_pieces_stand_end_to_end_and_start_anew_where_the_text_ends():
    tokens = np.arange(2 * twice.T + 2)
    pieces = list(twice.pieces_of(tokens, 3))
    assert [(x[0], len(x), anew) for x, _, anew in pieces] == [(0, twice.T, True), (twice.T, twice.T, False), (0, twice.T, True)]
    assert all((y == x + 1).all() for x, y, _ in pieces)


def test_a_sample_follows_the_weights():
    """An output bias that makes one character certain."""
    weights = twice.first_weights(4, 3, 0)
    weights["b_y"][2] = 50.0
    assert twice.sample(weights, 7, np.random.default_rng(0)) == [2] * 7


def test_the_run_prints_both_and_how_far_they_are_apart(done, folder):
    rows = rows_of(done)
    assert [int(row[0]) for row in rows] == [1, 10, STEPS]
    assert all(abs(float(a) - float(b)) < 1e-6 > float(apart) for _, a, b, apart in rows)
    figures = json.loads((folder / "min_char_rnn.json").read_text(encoding="utf-8"))
    assert {"task", "figure", "value", "baseline_name", "baseline", "seconds", "seed"} <= figures.keys()
    assert figures["largest_difference"] < 1e-6
    assert figures["value"] < 6 and figures["value"] == pytest.approx(figures["baseline"], abs=1e-6)
    assert_whole_png(folder / "min_char_rnn.png")


def test_help_and_nonsense(capsys):
    help_text = told(twice, capsys)
    assert all(option in help_text for option in ("--steps", "--hidden", "--seed", "--out", "--quick"))
    assert "--steps" in refused(twice, capsys, "--steps", 0)
