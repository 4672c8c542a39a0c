"""A short run of an example, which the tests of its file share: `test_digits.py` is about `examples/digits.py`."""

import json

import pytest

from .in_process import ran
from .scripts import script


@pytest.fixture(scope="module")
def name(request):
    return request.module.__name__.rpartition(".")[2].removeprefix("test_")


@pytest.fixture(scope="module")
def folder(name, tmp_path_factory):
    return tmp_path_factory.mktemp(name)


@pytest.fixture(scope="module")
def done(name, folder):
    return ran(script(name), folder, "--quick", "--seed", 1)


@pytest.fixture(scope="module")
def figures(done, name, folder):
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
