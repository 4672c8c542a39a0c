"""The README is executed: every Python block runs, and prints what the text block behind it shows.

The blocks of a section (from one `##` to the next) run in order and share their names, as a reader would type them.
"""

import contextlib
import io
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import tinygrad_seq as tg

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    """A fenced block: where it stands, its language and its text."""

    line: int
    language: str
    text: str


def sections(readme):
    """The blocks of each section, by the section's title; those before the first title stand under ""."""
    found, title, opened = {"": []}, "", None
    for number, line in enumerate(readme.splitlines(), start=1):
        if opened is not None and line.rstrip() == "```":
            found[title].append(Block(opened[0], opened[1], "".join(opened[2])))
            opened = None
        elif opened is not None:
            opened[2].append(line + "\n")
        elif line.startswith("```"):
            opened = (number, line[3:].strip(), [])
        elif line.startswith("## "):
            title = line[3:].strip()
            assert title not in found, f"two sections are called {title}"
            found[title] = []
    assert opened is None, f"the block of line {opened[0]} has no end"
    return {title: blocks for title, blocks in found.items() if blocks}


def outputs(blocks):
    """(line, what was printed, what the README shows) for each Python block of a section, run in order."""
    names = {"__name__": "readme"}
    for block, following in zip(blocks, [*blocks[1:], Block(0, "", "")], strict=True):
        if block.language == "python":
            code = compile("\n" * block.line + block.text, "README.md", "exec")  # tracebacks have the README's own lines
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(code, names)
            yield block.line, printed.getvalue(), following.text if following.language == "text" else ""


def tidy(text):
    """Without what a reader cannot see: spaces at the ends of lines, empty lines at the end."""
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())


SECTIONS = sections(README)
WITH_CODE = [title for title, blocks in SECTIONS.items() if any(block.language == "python" for block in blocks)]


@pytest.mark.parametrize("title", WITH_CODE)
def test_blocks_run_and_print_what_is_shown(title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with np.printoptions(), tg.random.replaying(tg.random.get_state()):
        for line, printed, shown in outputs(SECTIONS[title]):
            assert tidy(printed) == tidy(shown), f"the block of line {line} prints something else"


def test_there_are_blocks_and_the_first_screen_has_one():
    assert WITH_CODE[0] == ""
    assert len(WITH_CODE) >= 8
    assert sum(block.language == "text" for blocks in SECTIONS.values() for block in blocks) >= 10
    assert SECTIONS[""][0].line < 20


def test_every_text_block_is_what_a_python_block_printed():
    for blocks in SECTIONS.values():
        for before, block in zip([Block(0, "", ""), *blocks], blocks, strict=False):
            assert block.language in ("python", "text", "sh"), f"line {block.line}"
            assert block.language != "text" or before.language == "python", f"nothing prints the block of line {block.line}"


def test_the_drawing_block_leaves_a_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert list(outputs(SECTIONS["Drawing"]))
    assert (tmp_path / "out" / "bptt.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")


def test_commands_extras_and_files_that_it_names_exist():
    commands = "".join(block.text for blocks in SECTIONS.values() for block in blocks if block.language == "sh")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\w+)", commands, re.MULTILINE)
    assert {"demo", "test", "lint", "bench"} <= set(targets)
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    table = README.partition("| extra | adds |")[2].partition("\n\n")[0]
    extras = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert len(extras) >= 4
    assert extras | set(re.findall(r"-e \"\.\[(\w+)\]\"", commands)) <= set(known)
    linked = re.findall(r"\]\(([\w./]+)\)", README)
    assert linked
    assert [path for path in linked if not (ROOT / path).exists()] == []


def test_the_reading_order_names_files_of_the_engine():
    order = README.partition("## Reading order")[2].partition("\n## ")[0]
    named = [name for name in re.findall(r"`([\w/]+\.py)`", order) if "/" not in name or name.startswith("ops/")]
    named.remove("graph.py")
    missing = [name for name in named if not (ROOT / "tinygrad_seq" / name).is_file()]
    assert missing == []
    there = {path.name for path in (ROOT / "tinygrad_seq").glob("*.py")} - {"__init__.py", "errors.py"}
    assert there <= set(named)
    assert (ROOT / "viz" / "graph.py").is_file()


def test_the_check_fails_where_it_must():
    wrong = sections("# title\n```python\nprint(1 + 1)\n```\nprose\n```text\n3\n```\n## next\n```python\nx = 1 / 0\n```\n")
    assert [(printed, shown) for _, printed, shown in outputs(wrong[""])] == [("2\n", "3\n")]
    with pytest.raises(ZeroDivisionError):
        list(outputs(wrong["next"]))
