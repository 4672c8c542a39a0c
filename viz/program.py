"""Where Graphviz is. Read me when a drawing complains.

Graphviz is a program, and a missing one is the most frequent failure of every tool that draws with it. `graphviz-pure`
brings it as a wheel and is a dependency, so that it is found beside the interpreter; a Graphviz of the system serves
where there is no such wheel, and for PDF, which the wheel does not write.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import graphviz
from graphviz.backend import dot_command

PURE, SYSTEM = "graphviz-pure", "dot"
ONLY_SYSTEM = ("pdf", "ps", "eps")

_lock = threading.Lock()  # the program's name is a global of the graphviz package


class NoGraphvizError(RuntimeError):
    """No Graphviz was found, or none that writes this format. The DOT text (`Drawing.source`) is there all the same."""


def find(file_format: str = "svg") -> Path:
    """The program that will draw.

    Raises:
        NoGraphvizError: there is none for this format.
    """
    names = (SYSTEM,) if file_format in ONLY_SYSTEM else (PURE, SYSTEM)
    beside = [str(Path(sys.executable).parent), sysconfig.get_path("scripts")]
    for name in names:
        folders = beside if name == PURE else []
        for folder in (*folders, None):
            found = shutil.which(name, path=folder)
            if found:
                return Path(found)
    if file_format in ONLY_SYSTEM:
        raise NoGraphvizError(
            f"{file_format} needs a system Graphviz (`dot` on PATH); `pip install graphviz-pure` brings svg and png only. "
            "Save as svg or png, or install Graphviz, for example with `apt install graphviz` or `brew install graphviz`."
        )
    raise NoGraphvizError("no Graphviz was found; `pip install graphviz-pure` brings one. The DOT text is in Drawing.source.")


def render(graph: graphviz.Digraph, file_format: str) -> bytes:
    """Draw a graph whose positions are all pinned."""
    program = find(file_format)
    with _lock:
        before = dot_command.DOT_BINARY
        dot_command.DOT_BINARY = program
        try:
            source = graph.source.encode()  # in one piece: `graph.pipe` writes lines and does not wait for a program that fails
            drawn: bytes = graphviz.pipe("neato", file_format, source, neato_no_op=2, quiet=True)
        except (subprocess.CalledProcessError, OSError) as error:
            said = getattr(error, "stderr", b"") or b""
            raise NoGraphvizError(
                f"{program} did not draw {file_format}: {said.decode(errors='replace').strip() or error}; "
                "`pip install graphviz-pure` brings a program that does"
            ) from error
        finally:
            dot_command.DOT_BINARY = before
    return drawn
