"""Run `mypy --strict` on the installed wheel, and make sure that it saw every file.

mypy finds a package by its folders and does not know the mapping of an editable install: there it checks the bare
`tinygrad_seq`, misses models and viz, and reports success. So the wheel is installed over this environment's editable
install, mypy runs in a folder that holds no sources, and the number of files it names must be the number on disk.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from build_dist import ROOT, build, source_folders


def main() -> int:
    if sys.prefix == sys.base_prefix:
        print("this replaces an installed tinygrad_seq: run it in a virtual environment, as make lint does", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"]
        subprocess.run([*pip, str(build(Path(scratch, "dist")))], check=True)
        mypy = [sys.executable, "-m", "mypy", "--strict", "--no-namespace-packages"]
        mypy += ["--config-file", str(ROOT / "pyproject.toml")]
        mypy += ["--cache-dir", str(Path(sys.prefix, ".mypy_cache")), "-p", "tinygrad_seq"]
        run = subprocess.run(mypy, cwd=scratch, stdout=subprocess.PIPE, text=True)
    print(run.stdout, end="")
    if run.returncode:
        return run.returncode

    seen = re.search(r"no issues found in (\d+) source file", run.stdout)
    on_disk = sum(1 for folder in source_folders().values() for _ in folder.rglob("*.py"))
    if seen is None or int(seen[1]) != on_disk:
        print(
            f"mypy saw {seen[1] if seen else 'an unknown number of'} files, but there are {on_disk} on disk: "
            "is a package missing in pyproject.toml?",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
