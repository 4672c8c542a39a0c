"""What fits a page: where nothing else is asked for, a picture is as wide as a screen shows it."""

import pytest

from tinygrad_seq import viz
from tinygrad_seq.viz import drawing, page

from . import modelled


def span(drawn):
    """From the leftmost to the rightmost of what is drawn, in points."""
    edges = [node["x"] + side * node["width"] / 2 for node in drawn.data["nodes"] for side in (-1, 1)]
    return max(edges) - min(edges)


@pytest.mark.parametrize("T", [1, 3, 6, 12, 60])
@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_any_length_fits(name, T):
    drawn = viz.draw(modelled.recorded(name, T)[0])
    assert span(drawn) <= drawn._width <= drawing.PAGE
    levels = ("op", "gate", "cell")
    for deeper in levels[: levels.index(drawn.data["level"])]:  # the deepest that does
        assert viz.draw(modelled.recorded(name, T)[0], level=deeper, steps="all" if T < 30 else 4)._width > drawing.PAGE


def test_a_long_sequence_shows_the_steps_at_both_ends_in_full():
    drawn = viz.draw(modelled.recorded("RNN", 60)[0])
    assert drawn.data["level"] == "op"
    assert drawn.data["steps"] == [0, 1, 2, 59]


def test_a_short_one_is_shown_as_a_whole_at_a_coarser_level():
    assert viz.draw(modelled.recorded("LSTM", 10)[0]).data["steps"] == [*range(10)]
    assert viz.draw(modelled.recorded("LSTM", 10)[0]).data["level"] == "cell"


def test_what_never_fits_is_as_narrow_as_it_can_be():
    tape = modelled.topology("Bahdanau", 6)[0]
    drawn = viz.draw(tape)
    assert drawn._width > drawing.PAGE
    assert drawn._width == min(viz.draw(tape, level="cell", steps=steps)._width for steps in ("all", 4, 3))


@pytest.mark.parametrize("asked", [{"level": "op"}, {"steps": "all"}, {"steps": 8}, {"budget": 400}])
def test_who_asks_for_more_gets_it(asked):
    assert viz.draw(modelled.recorded("LSTM", 12)[0], **asked)._width > drawing.PAGE


def test_the_player_follows_what_is_at_work_and_needs_no_page():
    shown = viz.play(modelled.recorded("LSTM", 10)[0], unfold=False)
    assert shown._drawings[0].data["steps"] == [*range(10)]
    assert shown._drawings[0]._width > drawing.PAGE
    assert page.BUDGET == 400
