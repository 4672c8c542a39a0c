"""The character model: a short run, and what its figures are made of."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.models import LanguageModel

from .in_process import ran, refused, told
from .scripts import assert_whole_png, rows_of, script

hamlet = script("hamlet")

pytestmark = pytest.mark.xdist_group("hamlet")  # one worker runs it


@pytest.fixture(scope="module")
def done(folder):
    return ran(hamlet, folder, "--quick", "--seed", 2)


def test_one_short_epoch_already_beats_the_frequency_of_characters(figures):
    assert 2.5 < figures["bits"]["LSTM of 16 units"] < figures["bits"]["1-gram"]


def test_the_opponent_is_as_strong_as_it_is_known_to_be(figures):
    """Whatever the seed. A longer context helps, less and less: the text is short."""
    bits = [figures["bits"][f"{order}-gram"] for order in hamlet.ORDERS]
    assert bits == sorted(bits, reverse=True)
    assert figures["bits"]["4-gram"] == pytest.approx(2.353, abs=1e-3)
    assert figures["bits"]["6-gram"] == pytest.approx(2.212, abs=1e-3)


def test_what_is_reported_is_what_was_found_and_the_strongest_opponent_is_among_it(figures):
    assert [row["baseline"] for row in figures["rows"]] == ["4-gram, Kneser-Ney", "6-gram, Kneser-Ney"]
    assert [row["theirs"] for row in figures["rows"]] == [figures["bits"][name] for name in ("4-gram", "6-gram")]
    assert all(row["ours"] == figures["bits"][row["network"]] and row["less_is_better"] for row in figures["rows"])
    assert figures["settings"]["seed"] == 2


def test_the_table_says_what_the_figures_say(done, figures):
    assert rows_of(done)[: len(figures["bits"])] == [[name, f"{mean:.3f}"] for name, mean in figures["bits"].items()]


def test_it_writes_on_and_draws(done, folder):
    written = done.partition("writes on:\n\n")[2].partition("\n\nwritten:")[0]
    assert written.startswith("HAMLET:\n") and len(written) > 300
    assert_whole_png(folder / "hamlet.png")


def test_a_model_that_knows_nothing_is_surprised_by_as_many_bits_as_there_are():
    model = LanguageModel(8, 3, 4)
    for parameter in model.parameters():
        parameter.overwrite(0.0)
    np.testing.assert_allclose(hamlet.surprise(model, np.array([3, 1, 4, 1, 5])), [3, 3, 3, 3], rtol=1e-6)


def test_the_surprise_is_that_of_each_next_character_given_all_before_it():
    with tg.random.replaying(tg.random.get_state()):
        model = LanguageModel(6, 3, 4, dropout=0.5)
    text = np.array([3, 1, 4, 1, 5, 2])
    with tg.no_grad():
        model.eval()
        expected = [-np.log2(tg.softmax(model(text[:t, None])[0][-1, 0]).numpy()[text[t]]) for t in range(1, 6)]
    model.train()  # dropout is for training only, whatever the model's mode
    np.testing.assert_allclose(hamlet.surprise(model, text), expected, rtol=1e-5)


def test_what_cannot_be_seen_gets_a_sign():
    assert hamlet.in_characters("to be\n") == "to·be↵"


def test_help_and_nonsense(capsys):
    help_text = told(hamlet, capsys)
    assert all(option in help_text for option in ("--epochs", "--hidden", "--seed", "--out", "--quick"))
    assert "--epochs" in refused(hamlet, capsys, "--epochs", 0)
