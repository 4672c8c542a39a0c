"""The pictures of the README: the script makes all that it shows and nothing else, small, and the same every time."""

import hashlib
import re

import pytest

from .scripts import EXAMPLES, assert_whole_png, finished, run, script

ROOT = EXAMPLES.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PICTURES = script("pictures").PICTURES


def test_what_the_readme_shows_is_what_is_made():
    shown = re.findall(r"!\[([^\]]+)\]\(docs/pictures/([^)]+)\)", README)
    assert {name for _, name in shown} == PICTURES.keys() == {path.name for path in (ROOT / "docs" / "pictures").iterdir()}
    assert all(len(words.split()) > 10 for words, _ in shown)  # and is told to those who do not see it


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_small(name):
    assert 1_000 < (ROOT / "docs" / "pictures" / name).stat().st_size < 200_000


@pytest.mark.parametrize("name", [name for name in PICTURES if name.endswith(".svg")])
def test_pictures_name_a_line_of_the_program_and_no_folder_of_a_machine(name):
    lines = set(re.findall(r"[^\s;\"]*pictures\.py:\d+", (ROOT / "docs" / "pictures" / name).read_text(encoding="utf-8")))
    assert {line.partition(":")[0] for line in lines} == {"examples/pictures.py"}


def test_a_picture_is_made_anew_and_the_same(tmp_path):
    done = finished("pictures", tmp_path, "--only", "gradient-flow", "--out", tmp_path)
    assert done.stdout.startswith(f"{tmp_path / 'gradient-flow.png'}: ")
    assert_whole_png(tmp_path / "gradient-flow.png")
    assert [path.name for path in tmp_path.iterdir()] == ["gradient-flow.png"]
    first = hashlib.sha256((tmp_path / "gradient-flow.png").read_bytes()).hexdigest()
    finished("pictures", tmp_path, "--only", "gradient-flow", "--out", tmp_path)
    assert hashlib.sha256((tmp_path / "gradient-flow.png").read_bytes()).hexdigest() == first


def test_an_unknown_picture_is_refused(tmp_path):
    done = run("pictures", tmp_path, "--only", "sunset")
    assert done.returncode == 2 and "invalid choice: 'sunset'" in done.stderr
