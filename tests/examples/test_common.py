"""What the examples share: options, data, tables, and files that are written whole."""

import json
import math

import pytest
from matplotlib.figure import Figure

from .scripts import assert_whole_png, rows_of, script

common = script("common")


def test_every_example_has_the_common_options_and_its_own():
    parser = common.options("What it does.\n\nMore of it.", steps=7)
    found = parser.parse_args([])
    assert (found.steps, found.seed, str(found.out), found.quick) == (7, 0, "out", False)
    found = parser.parse_args(["--steps", "2", "--seed", "5", "--out", "there", "--quick"])
    assert (found.steps, found.seed, str(found.out), found.quick) == (2, 5, "there", True)
    told = parser.format_help()
    assert told.index("What it does.") < told.index("--steps N ") < told.index("More of it.")
    assert "7" in told


@pytest.mark.parametrize("nonsense", ["--steps 0", "--steps -1", "--steps 1.5", "--steps many", "--seed -1", "--seed x"])
def test_options_that_mean_nothing_are_refused(nonsense, capsys):
    with pytest.raises(SystemExit) as stopped:
        common.options("", steps=7).parse_args([nonsense.replace(" ", "=")])
    assert stopped.value.code == 2
    assert "a whole number" in capsys.readouterr().err


def test_a_table_is_aligned_numbers_to_the_right():
    told = common.table(["model", "error", "n"], [["always 1", 0.16666, None], ["LSTM", 1234.5, 12]])
    assert told.splitlines() == [
        "| model    | error |   n |",
        "| -------- | ----: | --: |",
        "| always 1 | 0.167 |     |",
        "| LSTM     | 1,234 |  12 |",
    ]
    assert rows_of(told) == [["always 1", "0.167", ""], ["LSTM", "1,234", "12"]]


def test_data_are_read_packed_or_not_with_or_without_a_header():
    weather = common.read_rows("seattle_weather.csv")
    assert weather[0]["date"] == "2012/01/01" and float(weather[0]["temp_max"]) == 12.8
    assert common.read_rows("cmudict_6000.tsv")[0] == {"word": "aaron", "phones": "EH1 R AH0 N"}
    digits = common.read_rows("digits.csv.gz", [str(i) for i in range(65)])
    assert len(digits) > 1000 and all(len(row) == 65 for row in digits)
    assert common.read_text("hamlet.txt").count("HAMLET") > 100


def test_data_that_are_not_there_are_told_by_name():
    with pytest.raises(FileNotFoundError, match=r"'moby\.txt'.*hamlet\.txt"):
        common.read_text("moby.txt")


def test_files_are_written_whole_into_new_folders(tmp_path):
    path = common.write_json({"σ": [1, 2.5]}, tmp_path / "a" / "b" / "figures.json")
    assert json.loads(path.read_text(encoding="utf-8")) == {"σ": [1, 2.5]}
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2])
    assert_whole_png(common.write_figure(figure, tmp_path / "a" / "b" / "curve.png"))
    assert common.write_figure(figure, tmp_path / "curve.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    path = common.write_json([1], tmp_path / "figures.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        common.write_json([math.nan], path)
    with pytest.raises(ValueError, match="not supported"):
        common.write_figure(Figure(), tmp_path / "figures.nonsense")
    assert json.loads(path.read_text(encoding="utf-8")) == [1] and [*tmp_path.iterdir()] == [path]
