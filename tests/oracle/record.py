"""Record PyTorch's answers for the ordinary suite: `python -m tests.oracle.record`, from the root of the checkout.

One file for the operations and one for the random programs. An operation's inputs are recorded too, so that the files
hold whatever becomes of the generators; a program is text. Nothing in them is pickled.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import calls
from ..engine.calls import Answers
from . import in_torch

FOLDER = Path(calls.__file__).parent / "oracles"
PROGRAMS = range(1000, 1020)  # seeds that `make test-oracle` does not use


def put(arrays: dict[str, Any], key: str, inputs: list[Any], answers: Answers) -> None:
    for kind, values in (("inputs", inputs), *answers._asdict().items()):
        for k, value in enumerate(values):
            arrays[f"{key}/{kind}/{k}"] = value


def operations() -> dict[str, Any]:
    """Arrays under `number/kind/k`, where `names` says which call a number is; the first shapes of each call."""
    arrays: dict[str, Any] = {"names": np.array([call.name for call in calls.CALLS])}
    for number, call in enumerate(calls.CALLS):
        inputs = next(call.inputs())
        put(arrays, str(number), inputs, in_torch.answers(in_torch.theirs(call), inputs))
    return arrays


def programs() -> dict[str, Any]:
    """Likewise, where `programs` has each program as JSON."""
    written = [calls.random_program(seed) for seed in PROGRAMS]
    arrays: dict[str, Any] = {"programs": np.array([json.dumps(program) for program in written])}
    for number, (seed, program) in enumerate(zip(PROGRAMS, written)):
        inputs = calls.leaves_of(seed)
        put(arrays, str(number), inputs, in_torch.answers(calls.program_as_function(program, in_torch.STEPS), inputs))
    return arrays


def packed(arrays: dict[str, Any]) -> dict[str, Any]:
    """All numbers in one array, and an index in JSON: a thousand small arrays in a zip would be mostly headers."""
    texts = {key: value for key, value in arrays.items() if value.dtype.kind == "U"}
    numbers = {key: value for key, value in arrays.items() if key not in texts}
    index = {key: list(value.shape) for key, value in numbers.items()}
    flat = np.concatenate([value.astype(np.float64).reshape(-1) for value in numbers.values()])
    return {**texts, "index": np.array(json.dumps(index)), "numbers": flat}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, arrays in (("operations", operations()), ("programs", programs())):
        np.savez_compressed(FOLDER / f"{name}.npz", **packed(arrays))
        print(f"{name}.npz: {(FOLDER / f'{name}.npz').stat().st_size:,} bytes")
