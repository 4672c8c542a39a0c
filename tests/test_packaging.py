"""What a user gets: the wheel is built, installed and imported outside the checkout.

Inside it, Python finds the bare `tinygrad_seq` folder first, and so a test would not see what the wheel lacks.
"""

import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS: dict[str, str] = CONFIG["tool"]["setuptools"]["package-dir"]
IMPORTS = """
import tinygrad_seq, tinygrad_seq.models, tinygrad_seq.viz
for package in tinygrad_seq, tinygrad_seq.models, tinygrad_seq.viz:
    print(package.__file__)
"""

pytestmark = pytest.mark.xdist_group("packaging")  # one worker builds


def run(*arguments: str | Path, cwd: Path, **environment: str) -> str:
    """Run Python in `cwd` and return what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def packages_on_disk() -> dict[str, Path]:
    """Every folder with Python files below the source folders, by the package name that it is to have."""
    return {
        ".".join([package, *path.parent.relative_to(ROOT / folder).parts]): path.parent
        for package, folder in FOLDERS.items()
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources by way of the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    run(ROOT / ".ci" / "build_dist.py", folder, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_string(archive.read(name).decode())


def test_every_package_on_disk_is_listed() -> None:
    assert sorted(packages_on_disk()) == sorted(CONFIG["tool"]["setuptools"]["packages"])
    assert all((folder / "__init__.py").is_file() for folder in packages_on_disk().values())


def test_wheel_holds_every_source_file_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    on_disk = {
        f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}"
        for package, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == on_disk
    assert {name.split("/")[0] for name in packed} == {"tinygrad_seq"}  # no top-level models or viz
    assert {f"{package.replace('.', '/')}/py.typed" for package in FOLDERS} <= packed


def test_installed_wheel_imports_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    run("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel, cwd=elsewhere)
    # -S leaves the editable install of this environment out: its finder would supply what the wheel lacks.
    path = os.pathsep.join([str(site), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    found = run("-S", "-W", "error", "-c", IMPORTS, cwd=elsewhere, PYTHONPATH=path).splitlines()
    assert found == [str(site.joinpath(*package.split("."), "__init__.py")) for package in FOLDERS]


def test_editable_install_finds_the_mapped_folders(tmp_path: Path) -> None:
    """`make test` installs `-e .`; the checkout must be reachable from any folder by the users' names."""
    found = run("-W", "error", "-c", IMPORTS, cwd=tmp_path).splitlines()
    assert found == [str(ROOT / folder / "__init__.py") for folder in FOLDERS.values()]


def test_metadata(metadata: Message) -> None:
    assert metadata["Name"] == "tinygrad_seq"
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert str(metadata.get_payload()).strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()


@pytest.mark.parametrize(
    ("system", "machine", "has_wheel"),
    [
        ("linux", "x86_64", True),
        ("linux", "aarch64", True),
        ("linux", "riscv64", False),
        ("darwin", "arm64", True),
        ("darwin", "x86_64", True),
        ("win32", "AMD64", True),
        ("win32", "ARM64", True),
        ("win32", "x86", False),
        ("freebsd", "amd64", False),
    ],
)
def test_graphviz_pure_is_required_where_it_has_wheels(metadata: Message, system: str, machine: str, has_wheel: bool) -> None:
    needed = {
        requirement.name
        for requirement in map(Requirement, metadata.get_all("Requires-Dist") or [])
        if requirement.marker is None
        or requirement.marker.evaluate({"sys_platform": system, "platform_machine": machine, "extra": ""})
    }
    assert needed == {"numpy", "safetensors", "graphviz"} | ({"graphviz-pure"} if has_wheel else set())
