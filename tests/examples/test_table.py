"""The table of all examples: rows written by one, read by the other; and every example with a figure is in it."""

import argparse
import json
from pathlib import Path

import pytest

from .scripts import EXAMPLES, rows_of, script

table = script("table")
Row = table.Row

ROWS = [
    Row("spelling", "error", "LSTM", 0.25, "letters", 0.5, 12.4, less_is_better=True),
    Row("digits", "accuracy", "GRU", 0.9, "pixels", 0.95, 3.0),
    Row("sunspots", "spots", "GRU", 17.338, "AR(9)", 16.735, 15.2, less_is_better=True),
]


def reported(folder, name="one", rows=ROWS, quick=False, **more):
    return table.report(name, rows, argparse.Namespace(out=folder, seed=3, quick=quick), **more)


def test_who_has_won_depends_on_what_is_better():
    assert [row.won for row in ROWS] == [True, False, False]
    assert [row._replace(less_is_better=not row.less_is_better).won for row in ROWS] == [False, True, True]
    assert not Row("", "", "", 0.5, "", 0.5, 1).won and not Row("", "", "", 0.5, "", 0.5, 1, less_is_better=True).won  # a draw


def test_a_row_says_where_the_network_loses():
    assert ROWS[0].cells() == ["spelling", "error", "LSTM", "0.250", "letters", "0.500", "yes", 12]
    assert ROWS[2].cells() == ["sunspots", "spots", "GRU", "17.34", "AR(9)", "16.73", "**no**", 15]


def test_what_is_reported_is_printed_written_and_read_again(tmp_path, capsys):
    figures = reported(tmp_path, bits=[1.5])
    assert rows_of(capsys.readouterr().out) == [[str(cell) for cell in row.cells()] for row in ROWS]
    written = json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(figures)) and written["bits"] == [1.5]
    assert written["settings"] == {"seed": 3, "quick": False}
    assert table.rows_in(tmp_path) == ROWS


def test_rows_of_all_files_in_order_and_those_of_quick_runs_are_marked(tmp_path):
    reported(tmp_path, "b", ROWS[:1])
    reported(tmp_path, "a", ROWS[1:2], quick=True)
    (tmp_path / "c.json").write_text('{"other": 1}', encoding="utf-8")  # an example without rows
    (tmp_path / "d.json").write_text("[1]", encoding="utf-8")
    first, second = table.rows_in(tmp_path)
    assert second == ROWS[0] and first.task == "digits (--quick: means nothing)"


def test_a_row_that_is_none_is_told_by_file(tmp_path):
    (tmp_path / "odd.json").write_text('{"rows": [{"task": "x"}]}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"odd\.json has a row that is none"):
        table.rows_in(tmp_path)


def test_the_table_alone_is_printed_without_running_anything(tmp_path, capsys, monkeypatch):
    reported(tmp_path)
    capsys.readouterr()
    monkeypatch.setattr(table.subprocess, "run", lambda *a, **k: pytest.fail("nothing was to be run"))
    assert table.main(["--out", str(tmp_path)]) == ROWS
    assert rows_of(capsys.readouterr().out) == [[str(cell) for cell in row.cells()] for row in ROWS]


def test_examples_are_run_one_by_one_with_the_options_that_it_does_not_know(tmp_path, monkeypatch):
    commands = []

    def run(command, check):
        assert check  # one that fails stops the rest
        commands.append((Path(command[1]).stem, command[2:]))
        reported(tmp_path, Path(command[1]).stem)

    monkeypatch.setattr(table.subprocess, "run", run)
    table.main(["--run", "--only", "phones", "digits", "--out", str(tmp_path), "--quick", "--seed", "4"])
    assert commands == [(name, ["--out", str(tmp_path), "--quick", "--seed", "4"]) for name in ("digits", "phones")]
    commands.clear()
    table.main(["--run", "--out", str(tmp_path)])
    assert [name for name, _ in commands] == [path.stem for path in table.scripts()]


def test_every_task_of_the_list_is_among_the_examples():
    names = {path.stem for path in table.scripts()}
    assert {"ahead", "digits", "forcing", "hamlet", "names", "phones", "stress", "surnames"} <= names
    assert "table" not in names and "common" not in names


@pytest.mark.parametrize("arguments", [["--quick"], ["--run", "--only", "nonsense"], ["--out", "nowhere"]])
def test_what_cannot_be_meant_is_refused(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        table.main(arguments)
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert any(hint in told for hint in ("need --run", "no example nonsense", "no figures in nowhere"))


def test_every_file_of_data_is_described_with_its_licence():
    told = (EXAMPLES / "data" / "README.md").read_text(encoding="utf-8")
    rows = {row[0].strip("`"): row for row in rows_of(told)}
    files = {path.name for path in (EXAMPLES / "data").iterdir()} - {"README.md"}
    assert files == {*rows, *(name for name in files if name.startswith("LICENSE."))}
    for name, row in rows.items():
        assert len(row) == 5 and all(row), name
        for licence in [word.strip(",`") for word in row[4].split() if word.startswith("`LICENSE.")]:
            assert licence in files


def test_the_documented_table_says_truly_who_has_won():
    """It is the output of a full run; what can be seen without one is that it fits itself, and that no task is missing."""
    page = (EXAMPLES.parent / "docs" / "examples.md").read_text(encoding="utf-8")
    rows = [row for row in rows_of(page) if len(row) == len(table.HEADER)]
    assert len(rows) > 25
    for task, figure, network, ours, baseline, theirs, won, seconds in rows:
        less = figure != "accuracy"
        row = Row(task, figure, network, float(ours), baseline, float(theirs), float(seconds), less_is_better=less)
        assert row.cells()[6] == won, row
    tasks = {row[0] for row in rows}
    assert {"Hamlet", "first names", "spelling to phones", "stress of vowels", "surname to language", "weather"} <= tasks
    assert {"sunspots, monthly", "sunspots, yearly", "temperature, free", "digits, the last fifth held out"} <= tasks
    assert any(row[6] != "yes" for row in rows)  # nobody wins everywhere
