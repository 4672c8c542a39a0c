"""Build the source distribution and, from it, the wheel: `python .ci/build_dist.py FOLDER`.

The build runs on a copy of the sources. In place, setuptools would leave a `build` folder behind and pack the
modules of the last build with those of this one, deleted modules included.
"""

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def source_folders() -> dict[str, Path]:
    """The top-level source folders by the package that they are imported as."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {package: ROOT / folder for package, folder in config["tool"]["setuptools"]["package-dir"].items()}


def build(destination: Path) -> Path:
    """Write the distributions into `destination` and return the wheel."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "tree")
        copy.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, copy)
        for folder in source_folders().values():
            shutil.copytree(folder, copy / folder.relative_to(ROOT), ignore=shutil.ignore_patterns("__pycache__"))
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(destination.resolve()), str(copy)]
        run = subprocess.run(command, cwd=scratch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if run.returncode:
            sys.exit(f"{run.stdout}\nthe build failed: {' '.join(command)}")
    (wheel,) = destination.glob("*.whl")
    return wheel


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
