"""PyTorch's recorded answers, to 1e-9: every operation and twenty random programs, first and second derivatives.

`tests/oracle` compares with PyTorch itself on many more shapes, and `python -m tests.oracle.record` writes the files.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .calls import CALLS, OFFERED, STEPS, WITHOUT_ORACLE, Answers, Call, answers, assert_same, ours, program_as_function

FOLDER = Path(__file__).parent / "oracles"


class Recorded:
    """One of the files: text, and numbers by key."""

    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
            self.texts = {key: file[key] for key in file.files if key not in ("index", "numbers")}
            self.shapes: dict[str, list[int]] = json.loads(str(file["index"]))
            numbers = file["numbers"]
        sizes = [int(np.prod(shape)) for shape in self.shapes.values()]
        parts = np.split(numbers, np.cumsum(sizes)[:-1])
        self.arrays = {key: part.reshape(shape) for (key, shape), part in zip(self.shapes.items(), parts)}

    def of(self, number: int, kind: str) -> list[Any]:
        """The arrays of one kind: inputs, outputs, first, second."""
        found = []
        while (key := f"{number}/{kind}/{len(found)}") in self.arrays:
            found.append(self.arrays[key])
        return found

    def answers(self, number: int) -> Answers:
        return Answers(*(self.of(number, kind) for kind in Answers._fields))


OPERATIONS = Recorded("operations")
PROGRAMS = Recorded("programs")
NUMBERS = {str(name): number for number, name in enumerate(OPERATIONS.texts["names"])}


@pytest.mark.parametrize("call", CALLS, ids=[call.name for call in CALLS])
def test_an_operation_gives_pytorchs_numbers(call: Call) -> None:
    assert call.name in NUMBERS, "a new call: record PyTorch's answer with `python -m tests.oracle.record`"
    number = NUMBERS[call.name]
    assert_same(answers(ours(call), OPERATIONS.of(number, "inputs")), OPERATIONS.answers(number))


@pytest.mark.parametrize("number", range(len(PROGRAMS.texts["programs"])))
def test_a_random_program_gives_pytorchs_numbers(number: int) -> None:
    program = json.loads(str(PROGRAMS.texts["programs"][number]))
    assert_same(answers(program_as_function(program, STEPS), PROGRAMS.of(number, "inputs")), PROGRAMS.answers(number))


def test_the_files_are_small_and_hold_what_they_should() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 300_000
    assert len(NUMBERS) == len(CALLS)
    assert len(PROGRAMS.texts["programs"]) >= 20
    assert all(OPERATIONS.of(number, "second") for number in NUMBERS.values())


def test_every_operation_is_recorded_or_excused() -> None:
    compared = {call.op for call in CALLS}
    assert not OFFERED - compared - WITHOUT_ORACLE.keys(), "add a call to `calls.py` and to `tests/oracle`, or say why not"
    assert compared - OFFERED == {"at_set", "at_add", "normal_cdf"}  # x.at[...].set and .add; part of gelu
    assert not compared & WITHOUT_ORACLE.keys()
