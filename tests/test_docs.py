"""Documentation is executed: the examples in every docstring of the packages; and everything public has a docstring."""

import doctest
import importlib
import inspect
import pkgutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.primitive import registry

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = [*tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["package-dir"]]
FEWEST_EXAMPLES = 70  # statements, in all docstrings together


def modules():
    """The names of all modules of the packages. An editable install maps folders, so each package is walked by itself."""
    found = set(PACKAGES)
    for package in map(importlib.import_module, PACKAGES):
        found |= {module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.", onerror=fail)}
    return sorted(found)


def fail(name):
    raise ImportError(f"{name} could not be imported")


MODULES = modules()


@pytest.fixture(autouse=True)
def apart():
    """Examples that seed the generator or set how NumPy prints leave other tests alone."""
    with np.printoptions(), tg.random.replaying(tg.random.get_state()):
        yield


def examples_of(name):
    """The doctests of a module that hold examples. They run as a user's program: an operation declared there is a user's own."""
    found = doctest.DocTestFinder().find(importlib.import_module(name), extraglobs={"__name__": "__main__"})
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    told = []
    runner = doctest.DocTestRunner()
    for test in examples_of(name):
        runner.run(test, out=told.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(told)


def test_an_operation_declared_in_an_example_is_not_taken_for_one_of_ours():
    known = dict(registry)
    for test in examples_of("tinygrad_seq.primitive"):
        assert doctest.DocTestRunner().run(test).failed == 0
    assert registry == known
    assert any("tg.primitive(" in example.source for test in examples_of("tinygrad_seq.primitive") for example in test.examples)


def test_there_are_examples_and_none_is_skipped():
    examples = [example for name in MODULES for test in examples_of(name) for example in test.examples]
    assert len(examples) >= FEWEST_EXAMPLES
    assert [example.source for example in examples if doctest.SKIP in example.options] == []


def test_every_file_is_a_module_that_was_looked_at():
    """What the walk has missed would go unnoticed otherwise."""
    looked_at = {Path(inspect.getfile(importlib.import_module(name))).resolve() for name in MODULES}
    assert {path for folder in ("tinygrad_seq", "models", "viz") for path in (ROOT / folder).rglob("*.py")} <= looked_at


def public():
    """(name, thing) for everything that the packages offer, and what the modules among it offer."""
    for package in PACKAGES:
        offered = importlib.import_module(package)
        for name in getattr(offered, "__all__", ()):
            thing = getattr(offered, name)
            yield f"{package}.{name}", thing
            if inspect.ismodule(thing):
                inner = getattr(thing, "__all__", [key for key, value in vars(thing).items() if is_own(value, thing)])
                yield from ((f"{thing.__name__}.{key}", getattr(thing, key)) for key in inner)


def is_own(value, module):
    return callable(value) and getattr(value, "__module__", None) == module.__name__ and not value.__name__.startswith("_")


def test_everything_public_has_a_docstring():
    things = dict(public())
    assert len(things) >= 150
    assert [name for name, thing in things.items() if not (getattr(thing, "__doc__", None) or "").strip()] == []


def test_the_check_for_examples_fails_where_it_must():
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    runner = doctest.DocTestRunner()
    runner.run(wrong, out=lambda text: None)
    assert runner.summarize(verbose=False).failed == 1
