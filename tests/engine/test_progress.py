"""The progress bar: every item once, in order, and something to see, with tqdm and without."""

import builtins
import io
import re

import pytest

import tinygrad_seq as tg


@pytest.fixture
def without_tqdm(monkeypatch):
    """An environment without the extra `progress`."""
    real = builtins.__import__

    def importing(name, *args, **kwargs):
        if name.partition(".")[0] == "tqdm":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", importing)


@pytest.fixture(params=["with tqdm", "without tqdm"])
def either_way(request):
    if request.param == "without tqdm":
        request.getfixturevalue("without_tqdm")


def lines_of(items, figures=None):
    """What is written over a loop that notes `figures(item)`, with the seconds left out."""
    file = io.StringIO()
    bar = tg.progress(items, "work", file=file)
    for item in bar:
        if figures is not None:
            bar.note(**figures(item))
    return re.sub(r", \d+ s", "", file.getvalue()).splitlines()


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("items", [[], ["a"], list("abcdefghijklmnopqrstuvwxyz"), range(1000)], ids=len)
def test_every_item_comes_once_and_in_order(items):
    assert list(tg.progress(items, "work", file=io.StringIO())) == list(items)


@pytest.mark.usefixtures("either_way")
def test_label_and_count_and_notes_are_shown(capsys):
    bar = tg.progress(range(20), "training")
    bar.note(bits=4.8)
    for step in bar:
        bar.note(bits=2.0 + 1 / (step + 1), lines=step)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "training" in printed.err
    assert "20/20" in printed.err
    assert "bits 2.050, lines 19" in printed.err
    assert bar.notes == "bits 2.050, lines 19"


@pytest.mark.usefixtures("either_way")
def test_notes_from_before_the_start_are_shown_at_once():
    file = io.StringIO()
    bar = tg.progress(range(3), "work", file=file)
    bar.note(bits=4.8)
    next(iter(bar))
    for _ in bar:
        pass
    assert "bits 4.800" in file.getvalue()


@pytest.mark.usefixtures("either_way")
def test_items_without_a_length():
    file = io.StringIO()
    assert list(tg.progress((i * i for i in range(5)), "squares", file=file)) == [0, 1, 4, 9, 16]
    assert "5" in file.getvalue()
    assert "/5" not in file.getvalue()
    file = io.StringIO()
    assert len(list(tg.progress(iter("abc"), "letters", total=3, file=file))) == 3
    assert "3/3" in file.getvalue()


@pytest.mark.usefixtures("either_way")
def test_an_error_in_the_loop_comes_out_as_it_is():
    def work():
        for step in tg.progress(range(5), "work", file=io.StringIO()):
            if step == 2:
                raise ValueError("bad step")

    with pytest.raises(ValueError, match="bad step") as caught:
        work()
    assert caught.value.__context__ is None


def test_tqdm_draws_the_bar_where_it_is_installed():
    file = io.StringIO()
    list(tg.progress(range(4), "work", file=file))
    assert "100%|" in file.getvalue()


@pytest.mark.usefixtures("without_tqdm")
def test_lines_come_at_every_tenth_of_the_way():
    assert lines_of(range(20)) == ["work: 1/20"] + [f"work: {n}/20" for n in range(2, 21, 2)]
    assert lines_of(range(3)) == ["work: 1/3", "work: 2/3", "work: 3/3"]
    assert lines_of(range(12_345))[-1] == "work: 12345/12345"
    assert len(lines_of(range(12_345))) == 11
    assert lines_of([]) == ["work: 0/0"]


@pytest.mark.usefixtures("without_tqdm")
def test_lines_without_a_length_tell_the_first_and_the_last():
    assert lines_of(iter("abcdef")) == ["work: 1", "work: 6"]


@pytest.mark.usefixtures("without_tqdm")
def test_a_line_shows_the_figures_of_the_item_that_it_counts():
    lines = lines_of([2.5, 1.25], lambda item: {"loss": item})
    assert lines == ["work: 1/2  loss 2.500", "work: 2/2  loss 1.250"]


@pytest.mark.usefixtures("either_way")
def test_a_loop_that_is_not_over_items_advances_by_hand():
    file = io.StringIO()
    with tg.progress((), "by hand", total=5, file=file) as bar:
        for n in range(5):
            bar.note(n=n)
            bar.advance()
    assert "5/5" in file.getvalue() and "n 4" in file.getvalue()
    assert bar.done == 5


@pytest.mark.usefixtures("either_way")
def test_what_was_done_before_counts():
    file = io.StringIO()
    with tg.progress((), "resumed", total=20, file=file, done=17) as bar:
        bar.advance()
        bar.advance()
    assert "19/20" in file.getvalue() and " 1/20" not in file.getvalue()


@pytest.mark.usefixtures("without_tqdm")
def test_a_loop_that_breaks_off_leaves_its_last_line():
    file = io.StringIO()
    for step in tg.progress(range(100), "work", file=file):
        if step == 55:
            break
    assert re.sub(r", \d+ s", "", file.getvalue()).splitlines()[-1] == "work: 55/100"
