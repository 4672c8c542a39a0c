"""The table of all examples: what each network reached, beside the baseline of the same run.

An example that has a figure to show writes it with `report`. This script reads what they have written and prints one table,
in Markdown, as it stands in docs/examples.md; with --run it runs them all before, each in a process of its own.

    python examples/table.py --run
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common import table, write_json

HERE = Path(__file__).parent
HEADER = ("task", "figure", "network", "ours", "baseline", "theirs", "won", "seconds")


class Row(NamedTuple):
    """What came of one task, a line of the table."""

    task: str
    figure: str
    """What is measured, in words: "accuracy", "RMSE in °C"."""
    network: str
    ours: float
    baseline: str
    theirs: float
    seconds: float
    """Of computing, that the network took to train; whatever else the machine does meanwhile is not counted."""
    less_is_better: bool = False

    @property
    def won(self) -> bool:
        """Whether the network is better than the baseline."""
        return self.ours < self.theirs if self.less_is_better else self.ours > self.theirs

    def cells(self) -> list[Any]:
        """The line's cells."""
        ours, theirs = (f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}" for value in (self.ours, self.theirs))
        won = "yes" if self.won else "**no**"
        return [self.task, self.figure, self.network, ours, self.baseline, theirs, won, round(self.seconds)]


def report(name: str, rows: Sequence[Row], arguments: argparse.Namespace, **more: Any) -> dict[str, Any]:
    """Print an example's rows, and write them with all else that it found to <name>.json; gives what was written."""
    figures = dict(
        example=name,
        settings={key: value for key, value in vars(arguments).items() if key != "out"},
        rows=[row._asdict() for row in rows],
        **more,
    )
    print(f"\n{table(HEADER, [row.cells() for row in rows])}\n")
    print("written:", write_json(figures, arguments.out / f"{name}.json"))
    return figures


def rows_in(folder: Path) -> list[Row]:
    """The rows that examples have left in a folder, in order of the examples' names; those of --quick runs say so.

    Raises:
        ValueError: a row that no example writes.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        figures = json.loads(path.read_text(encoding="utf-8"))
        for row in figures.get("rows", []) if isinstance(figures, dict) else []:
            try:
                made = Row(**row)
            except TypeError as error:
                raise ValueError(f"{path} has a row that is none: {error}") from error
            quick = figures.get("settings", {}).get("quick")
            found.append(made._replace(task=f"{made.task} (--quick: means nothing)") if quick else made)
    return found


def scripts() -> list[Path]:
    """The examples that report a figure."""
    return [path for path in sorted(HERE.glob("*.py")) if "\nfrom table import" in path.read_text(encoding="utf-8")]


def main(argv: Sequence[str] | None = None) -> list[Row]:
    """Run them, if asked to, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", action="store_true", help="run the examples first: about a minute each")
    names = ", ".join(path.stem for path in scripts())
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"run these of {names}")
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="FOLDER", help="what they write to (default: out)")
    arguments, rest = parser.parse_known_args(argv)
    if rest and not arguments.run:
        parser.error(f"{' '.join(rest)}: other options are passed on to the examples, and need --run")
    if unknown := set(arguments.only or ()) - {path.stem for path in scripts()}:
        parser.error(f"there is no example {', '.join(sorted(unknown))}")
    if arguments.run:
        for path in scripts():
            if not arguments.only or path.stem in arguments.only:
                print(f"\n== {path.stem}\n", flush=True)
                subprocess.run([sys.executable, str(path), "--out", str(arguments.out), *rest], check=True)
    rows = rows_in(arguments.out)
    if not rows:
        parser.error(f"no figures in {arguments.out}: run the examples first, or say --run")
    print(f"\n{table(HEADER, [row.cells() for row in rows])}")
    return rows


if __name__ == "__main__":
    main()
