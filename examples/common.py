"""What the examples share: options, data, tables, and files that are written whole. Each example reads without it.

An example begins and ends with

    arguments = options(__doc__, steps=1000).parse_args()
    rows = read_rows("sunspots.csv")
    print(table(["model", "error"], [["persistence", 0.31], ["LSTM", 0.22]]))
    write_figure(figure, arguments.out / "sunspots.png")
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinygrad_seq.serialize import _write_at_once

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DATA = Path(__file__).parent / "data"

# ---- what a user may choose -----------------------------------------------------------------------------------------------


def options(doc: str | None, **counts: int) -> argparse.ArgumentParser:
    """A parser with the options that every example takes.

    Args:
        doc: of the script; its first line is the description, and the rest stands below the options.
        **counts: options of this example that are numbers of at least 1, with their defaults: `steps=1000`.
    """
    first, _, rest = (doc or "").strip().partition("\n")
    parser = argparse.ArgumentParser(description=first, epilog=rest.strip(), formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in counts.items():
        parser.add_argument(f"--{name}", type=at_least_one, default=default, metavar="N", help=f"(default: {default})")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="for weights and samples (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="FOLDER", help="for pictures and figures (default: out)")
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs; the figures mean nothing then")
    return parser


def at_least_one(text: str) -> int:
    """An option's value as a number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number of at least 1 is needed, not {text!r}")
    return int(text)


def seed(text: str) -> int:
    """An option's value as a seed."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a seed is a whole number from 0 on, not {text!r}")
    return int(text)


# ---- what comes in --------------------------------------------------------------------------------------------------------


def read_text(name: str) -> str:
    """A file of examples/data as text; one that ends in .gz is unpacked.

    Raises:
        FileNotFoundError: there is none of this name; the message lists those that there are.
    """
    path = DATA / name
    if not path.is_file():
        there = ", ".join(sorted(each.name for each in DATA.iterdir()))
        raise FileNotFoundError(f"there is no {name!r} in {DATA}; there are {there}")
    content = path.read_bytes()
    return (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")


def read_rows(name: str, header: Sequence[str] | None = None) -> list[dict[str, str]]:
    """A table of examples/data (.csv or .tsv, packed or not), a dict for each row.

    Args:
        name: of the file.
        header: names of the columns, for a table whose first row is data already.
    """
    delimiter = "\t" if ".tsv" in name else ","
    return list(csv.DictReader(io.StringIO(read_text(name), newline=""), header, delimiter=delimiter))


# ---- what goes out --------------------------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown, aligned: text to the left, numbers to the right, floats to three digits."""
    cells = [list(map(str, header)), *[[_told(value) for value in row] for row in rows]]
    numeric = [bool(rows) and all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(header))]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(header))]
    lines = ["| " + " | ".join(_padded(*each) for each in zip(line, widths, numeric)) + " |" for line in cells]
    rule = "| " + " | ".join("-" * (width - right) + ":" * right for width, right in zip(widths, numeric)) + " |"
    return "\n".join([lines[0], rule, *lines[1:]])


def _told(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)


def _padded(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)


def write_json(data: Any, path: Path) -> Path:
    """Figures as JSON: the file is there as a whole or not at all; missing folders are made.

    Raises:
        ValueError: a number that is not finite, which JSON lacks.
    """
    return _write((json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(), path)


def write_figure(figure: Figure, path: Path) -> Path:
    """A Matplotlib figure, in the format that the name ends in; whole or not at all, like `write_json`."""
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.lstrip("."), dpi=150)
    return _write(picture.getvalue(), path)


def _write(content: bytes, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_at_once(path, content)
    return path
