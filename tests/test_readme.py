"""The README and the pages of docs/ are executed: every Python block runs, and prints what the text block behind it shows.

The blocks of a section (from one `##` to the next) run in order and share their names, as a reader would type them.
"""

import code
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
PAGES = {path: path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}


class Block(NamedTuple):
    """A fenced block: where it stands, its language and its text."""

    line: int
    language: str
    text: str


def sections(page):
    """The blocks of each section of a page, by the section's title; those before the first title stand under ""."""
    found, title, opened = {"": []}, "", None
    for number, line in enumerate(page.splitlines(), start=1):
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


def outputs(blocks, page="README.md"):
    """(line, what was printed, what the page shows) for each Python block of a section, run in order."""
    names = {"__name__": "readme"}
    for block, following in zip(blocks, [*blocks[1:], Block(0, "", "")], strict=True):
        if block.language == "python":
            compiled = compile("\n" * block.line + block.text, page, "exec")  # tracebacks have the page's own lines
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compiled, names)
            yield block.line, printed.getvalue(), following.text if following.language == "text" else ""


def tidy(text):
    """Without what a reader cannot see: spaces at the ends of lines, empty lines at the end."""
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())


ALL = {(path.name, title): blocks for path, page in PAGES.items() for title, blocks in sections(page).items()}
SECTIONS = sections(README)
WITH_CODE = [place for place, blocks in ALL.items() if any(block.language == "python" for block in blocks)]


@pytest.mark.parametrize(("page", "title"), WITH_CODE)
def test_blocks_run_and_print_what_is_shown(page, title, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with np.printoptions(), tg.random.replaying(tg.random.get_state()):
        for line, printed, shown in outputs(ALL[page, title], page):
            assert tidy(printed) == tidy(shown), f"the block of line {line} of {page} prints something else"


def test_there_are_blocks_and_the_first_screen_has_one():
    assert WITH_CODE[0] == ("README.md", "")
    assert len(WITH_CODE) >= 11
    assert sum(block.language == "text" for blocks in ALL.values() for block in blocks) >= 20
    first = next(block for block in SECTIONS[""] if block.language == "python")
    assert first.line < 20 and len(first.text.splitlines()) <= 17


def test_the_first_blocks_may_be_typed_at_the_prompt(tmp_path, monkeypatch):
    """There, what is indented ends with an empty line, and there is none before."""
    monkeypatch.chdir(tmp_path)
    console, errors = code.InteractiveConsole(), io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(errors):
        for block in SECTIONS[""]:
            if block.language == "python":
                assert [console.push(line) for line in [*block.text.splitlines(), ""]][-1] is False
    assert errors.getvalue() == ""
    shown = [tidy(block.text) for block in SECTIONS[""] if block.language == "text"]
    assert len(shown) == 2 and all(text in printed.getvalue() for text in shown)


def test_every_text_block_is_what_a_python_block_printed():
    for (page, _), blocks in ALL.items():
        for before, block in zip([Block(0, "", ""), *blocks], blocks, strict=False):
            where = f"line {block.line} of {page}"
            assert block.language in ("python", "text", "sh"), where
            assert block.language != "text" or before.language == "python", f"nothing prints the block of {where}"


def test_the_drawing_block_leaves_a_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert list(outputs(SECTIONS["Drawing"]))
    assert (tmp_path / "out" / "bptt.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")


def test_commands_extras_and_files_that_it_names_exist():
    commands = "".join(block.text for blocks in ALL.values() for block in blocks if block.language == "sh")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\w+)", commands, re.MULTILINE)
    assert {"demo", "test", "lint", "bench"} <= set(targets)
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    table = README.partition("| extra | adds |")[2].partition("\n\n")[0]
    extras = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert len(extras) >= 4
    assert extras | set(re.findall(r"-e \"\.\[(\w+)\]\"", commands)) <= set(known)


def anchor(title):
    """The name under which a page's heading can be linked."""
    return re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-")


def test_links_lead_somewhere_and_every_page_is_linked_both_ways():
    linked = []
    for path, page in PAGES.items():
        for link, name in re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", page):
            target = (path.parent / link).resolve() if link else path
            assert target.exists(), f"{link} in {path.name}"
            titles = re.findall(r"^#+ (.*)", PAGES.get(target, ""), re.MULTILINE)
            assert not name or name in map(anchor, titles), f"#{name} in {path.name}"
            linked.append((path, target))
    readme = ROOT / "README.md"
    assert {(readme, path) for path in PAGES if path != readme} <= set(linked)
    assert {(path, readme) for path in PAGES if path != readme} <= set(linked)


def rows(page):
    """The cells of each row of a page's tables of examples, without the titles."""
    lines = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| ") and line.count("|") == 9]
    return [tuple(cell.strip() for cell in cells) for cells in lines[2:]]


def test_the_readmes_table_of_examples_has_the_strongest_opponent_of_each_task():
    whole, shown = rows(PAGES[ROOT / "docs" / "examples.md"]), rows(README)
    assert set(shown) <= set(whole)
    assert sorted(row[0] for row in shown) == sorted({row[0] for row in whole})
    for task, figure, _, _, _, theirs, *_ in shown:
        opponents = [float(row[5]) for row in whole if row[0] == task and not row[4].startswith("network")]
        assert float(theirs) == (max if figure == "accuracy" else min)(opponents), task


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
