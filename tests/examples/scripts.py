"""Examples run as a user runs them, in a process and a folder of their own, or taken apart as modules."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name, folder, *arguments, timeout=300):
    """Run examples/<name>.py in a folder, with warnings as errors."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=timeout)


def finished(name, folder, *arguments):
    """The same, for a run that must succeed."""
    done = run(name, folder, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def script(name):
    """An example as a module, which finds what stands beside it as it does when it is run."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(EXAMPLES))


def assert_whole_png(path):
    """From its signature to its last chunk, and nothing is left beside it that was not finished."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")
    assert not [other.name for other in path.parent.iterdir() if other.name.endswith(".tmp")]


def rows_of(printed):
    """The rows of the Markdown tables in a text, as lists of cells, headers and rules left out."""
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = {i for i, row in enumerate(cells) if set("".join(row)) <= set("-: ")}
    return [row for i, row in enumerate(cells) if i not in rules and i + 1 not in rules]
