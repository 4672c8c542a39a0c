"""PyTorch's recorded answers for recurrent layers, to 1e-9: outputs, states, gradients of inputs, states and weights.

Wherever a case has lengths, NaN stands in the padding. `tests/oracle` compares with PyTorch itself in many more cases, and
`python -m tests.oracle.record_layers` writes the file.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .cases import Case, assert_same, few, ours

CASES = few()


@pytest.fixture(scope="module")
def recorded() -> dict[str, dict[str, Any]]:
    """For each case by name: "inputs/x", "answers/outputs", ..."""
    with np.load(Path(__file__).parent / "oracles" / "layers.npz", allow_pickle=False) as file:
        names = [str(name) for name in file["names"]]
        shapes = json.loads(str(file["index"]))
        numbers = file["numbers"]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    for (key, shape), part in zip(shapes.items(), np.split(numbers, ends[:-1])):
        number, _, rest = key.partition("/")
        found[names[int(number)]][rest] = part.reshape(shape)
    return found


def of(arrays: dict[str, Any], kind: str) -> dict[str, Any]:
    return {key.removeprefix(f"{kind}/"): array for key, array in arrays.items() if key.startswith(f"{kind}/")}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_layer_gives_pytorchs_numbers(case: Case, recorded: dict[str, dict[str, Any]]) -> None:
    assert_same(ours(case, of(recorded[case.name], "inputs")), of(recorded[case.name], "answers"))


def test_the_file_holds_all_cases_and_is_small(recorded: dict[str, Any]) -> None:
    assert recorded.keys() == {case.name for case in CASES}
    assert (Path(__file__).parent / "oracles" / "layers.npz").stat().st_size < 200_000
