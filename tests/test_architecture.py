"""The arrows between the rooms point one way: examples -> models, viz -> engine.

Who may import what stands in `RULES`. Imports inside functions and under TYPE_CHECKING count too (an arrow is an arrow),
except that libraries listed as `lazy` are allowed there and only there.
"""

import ast
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS: dict[str, str] = CONFIG["tool"]["setuptools"]["package-dir"]
PACKAGE_OF = {folder: package for package, folder in FOLDERS.items()}


@dataclass(frozen=True)
class Rule:
    """What the files of one room may import."""

    ours: frozenset[str]  # rooms
    eager: frozenset[str]  # libraries
    lazy: frozenset[str] = frozenset()  # libraries, inside a function only


def rule(ours: str, eager: str, lazy: str = "") -> Rule:
    return Rule(*(frozenset(names.split()) for names in (ours, eager, lazy)))


RULES = {
    "engine": rule("engine", "numpy safetensors", lazy="tqdm"),  # tqdm: the extra `progress`
    "interop": rule("engine models interop", "numpy safetensors", lazy="onnx torch"),
    "models": rule("engine models", "numpy"),
    "viz": rule("engine viz", "numpy graphviz", lazy="matplotlib"),
    "gallery": rule("engine viz models", "numpy graphviz", lazy="matplotlib"),  # the two files of GALLERY
}
ROOM_OF_PACKAGE = {  # the longest name first
    "tinygrad_seq.interop": "interop",
    "tinygrad_seq.models": "models",
    "tinygrad_seq.viz": "viz",
    "tinygrad_seq": "engine",
}
GALLERY = {"tinygrad_seq.viz.__main__", "tinygrad_seq.viz.gallery"}


def room_of(module: str) -> str | None:
    """The room of one of our modules, by the longest package that holds it; None for a library."""
    return next((room for package, room in ROOM_OF_PACKAGE.items() if f"{module}.".startswith(f"{package}.")), None)


def module_of(path: str) -> tuple[str, str]:
    """(module, package that its relative imports start from) of a source file, given relative to the root."""
    folder, *rest = Path(path).with_suffix("").parts
    parts = [PACKAGE_OF[folder], *rest]
    if parts[-1] == "__init__":
        return ".".join(parts[:-1]), ".".join(parts[:-1])
    return ".".join(parts), ".".join(parts[:-1])


def imports(tree: ast.Module, package: str) -> Iterator[tuple[int, str, bool]]:
    """(line, absolute dotted name, runs when the module is imported) for every import in the tree.

    `from a import b` gives a.b: b may be a module. A name that is no module falls into the room of a all the same.
    """
    pending: list[tuple[ast.AST, bool]] = [(tree, True)]
    while pending:
        node, eager = pending.pop()
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name, eager) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = package.rsplit(".", level - 1)[0] if level else ""
                start = ".".join(part for part in (base, module) if part)
                yield from ((node.lineno, f"{start}.{alias.name}", eager) for alias in names)
            case ast.Call(
                func=ast.Name(id="__import__") | ast.Name(id="import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                level = len(name) - len(name.lstrip("."))
                base = package.rsplit(".", level - 1)[0] + "." if level else ""
                yield node.lineno, base + name[level:], eager
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            pending += [(child, False) for child in node.body] + [(child, eager) for child in node.orelse]
        else:
            inner = eager and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            pending += [(child, inner) for child in ast.iter_child_nodes(node)]


def violations(source: str, path: str) -> list[str]:
    """What one file of the three packages imports against the rules, a line each."""
    module, package = module_of(path)
    room = room_of(module)
    assert room is not None
    allowed = RULES["gallery" if module in GALLERY else room]
    found = []
    for line, name, eager in sorted(imports(ast.parse(source), package)):
        target, library = room_of(name), name.split(".")[0]
        if target is not None:
            if target not in allowed.ours:
                found.append(f"{path}:{line}: {room} imports {target} ({name})")
        elif library in sys.stdlib_module_names or library in allowed.eager:
            continue
        elif library not in allowed.lazy:
            found.append(f"{path}:{line}: {room} imports {library}")
        elif eager:
            found.append(f"{path}:{line}: {room} imports {library} outside a function")
    return found


def source_files(*folders: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_arrows_between_the_rooms() -> None:
    files = source_files(*FOLDERS.values())
    assert {path.split("/")[0] for path in files} == set(FOLDERS.values())
    found = [line for path in files for line in violations((ROOT / path).read_text(encoding="utf-8"), path)]
    assert not found, "\n".join(found)


def test_nobody_imports_the_bare_folders() -> None:
    """`import models` works inside the checkout only, and makes a second copy of every module."""
    bare = set(FOLDERS.values()) - {"tinygrad_seq"}
    found = [
        f"{path}:{line}: {name}"
        for path in source_files("examples", "tests", *FOLDERS.values())
        for line, name, _ in imports(ast.parse((ROOT / path).read_text(encoding="utf-8")), "tests")
        if name.split(".")[0] in bare
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("tinygrad_seq/tape.py", "import tinygrad_seq.models"),
        ("tinygrad_seq/tape.py", "from tinygrad_seq import viz"),
        ("tinygrad_seq/tape.py", "from . import viz"),
        ("tinygrad_seq/tape.py", "from .models.cells import LSTMCell"),
        ("tinygrad_seq/tape.py", "from .interop import load_torch"),
        ("tinygrad_seq/__init__.py", "from . import models"),
        ("tinygrad_seq/ops/linalg.py", "from ..viz import draw"),
        ("tinygrad_seq/ops/__init__.py", "from ..models import RNN"),
        ("tinygrad_seq/tape.py", "def f():\n    from tinygrad_seq import models"),
        ("tinygrad_seq/tape.py", "if TYPE_CHECKING:\n    from .models import RNN"),
        ("tinygrad_seq/tape.py", "import importlib\nimportlib.import_module('tinygrad_seq.viz')"),
        ("tinygrad_seq/tape.py", "from importlib import import_module\nimport_module('.viz', __package__)"),
        ("tinygrad_seq/tape.py", "__import__('models')"),
        ("tinygrad_seq/tape.py", "import models"),
        ("tinygrad_seq/tape.py", "import torch"),
        ("tinygrad_seq/progress.py", "from tqdm import tqdm"),
        ("models/cells.py", "def f():\n    from tqdm import tqdm"),
        ("viz/draw.py", "def f():\n    import tqdm"),
        ("tinygrad_seq/tape.py", "def f():\n    import graphviz"),
        ("tinygrad_seq/tape.py", "import examples.demo"),
        ("tinygrad_seq/tape.py", "import tests.engine"),
        ("tinygrad_seq/interop/torch.py", "from ..viz import draw"),
        ("tinygrad_seq/interop/torch.py", "import torch"),
        ("models/cells.py", "from ..viz import draw"),
        ("models/cells.py", "from .. import viz"),
        ("models/cells.py", "from ..interop import load_torch"),
        ("models/cells.py", "import graphviz"),
        ("models/__init__.py", "from .. import viz"),
        ("viz/draw.py", "from ..models import RNN"),
        ("viz/draw.py", "import matplotlib.pyplot as plt"),
        ("viz/draw.py", "from ..interop import load_torch"),
        ("viz/sub/gallery.py", "from ...models import RNN"),
        ("viz/gallery.py", "from ..interop import load_torch"),
    ],
)
def test_the_check_catches(path: str, source: str) -> None:
    assert len(violations(source, path)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("tinygrad_seq/tape.py", "import numpy as np\nimport safetensors.numpy\nimport collections.abc"),
        ("tinygrad_seq/tape.py", "from . import ops\nfrom .ops import nn"),
        ("tinygrad_seq/ops/linalg.py", "from ..tensor import Tensor\nfrom . import nn\nfrom .. import tape"),
        ("tinygrad_seq/progress.py", "def f():\n    from tqdm import tqdm"),
        ("tinygrad_seq/modelsize.py", "from tinygrad_seq import vizier, modelsize"),
        ("tinygrad_seq/interop/torch.py", "from ..models import LSTM\nfrom .onnx import f\ndef f():\n    import torch"),
        ("models/cells.py", "from ..tensor import Tensor\nfrom .. import sigmoid\nfrom . import layers"),
        ("models/cells.py", "import tinygrad_seq as tg\nimport tinygrad_seq.ops"),
        ("viz/draw.py", "import graphviz.backend\nfrom ..tape import Tape"),
        ("viz/draw.py", "def f():\n    import matplotlib.pyplot as plt"),
        ("viz/draw.py", "if TYPE_CHECKING:\n    from matplotlib.figure import Figure"),
        ("viz/__main__.py", "from ..models import RNN"),
        ("viz/gallery.py", "from tinygrad_seq import models"),
    ],
)
def test_the_check_lets_pass(path: str, source: str) -> None:
    assert violations(source, path) == []
