"""Record what PyTorch's optimisers do in 50 steps: `python -m tests.oracle.record_optim`, from the root of the checkout.

Two parameters get the same gradients in every case, drawn beforehand; the second one gets none in every third step.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

FILE = Path(__file__).parents[1] / "engine" / "oracles" / "optim.npz"
STEPS = 50
CASES: list[tuple[str, dict[str, Any]]] = [
    ("SGD",     dict(lr=0.03)),
    ("SGD",     dict(lr=0.03, momentum=0.9)),
    ("SGD",     dict(lr=0.03, momentum=0.9, nesterov=True, weight_decay=0.1)),
    ("SGD",     dict(lr=0.03, momentum=0.9, dampening=0.3)),
    ("RMSprop", {}),
    ("RMSprop", dict(lr=0.03, alpha=0.9, eps=1e-4, momentum=0.9, weight_decay=0.01)),
    ("RMSprop", dict(lr=0.03, centered=True)),
    ("Adagrad", {}),
    ("Adagrad", dict(lr=0.1, lr_decay=0.01, weight_decay=0.1, eps=1e-6)),
    ("Adam",    {}),
    ("Adam",    dict(lr=0.03, betas=(0.8, 0.95), weight_decay=0.1, eps=1e-6)),
    ("AdamW",   {}),
    ("AdamW",   dict(lr=0.1, betas=(0.5, 0.9), weight_decay=0.3)),
]  # fmt: skip


def run(name: str, settings: dict[str, Any], starts: list[Any], gradients: list[Any], present: Any) -> list[list[Any]]:
    """Each parameter's values after every step."""
    parameters = [torch.nn.Parameter(torch.tensor(start)) for start in starts]
    optimizer = getattr(torch.optim, name)(parameters, **settings)
    paths: list[list[Any]] = [[] for _ in parameters]
    for step in range(STEPS):
        for i, parameter in enumerate(parameters):
            parameter.grad = torch.tensor(gradients[i][step]) if present[step, i] else None
        optimizer.step()
        for path, parameter in zip(paths, parameters):
            path.append(parameter.detach().numpy().copy())
    return paths


def main() -> None:
    rng = np.random.default_rng(0)
    starts = [rng.normal(size=shape) for shape in ((3, 2), (2,))]
    gradients = [rng.normal(0.3, 1, (STEPS, *start.shape)) for start in starts]
    present = np.ones((STEPS, 2), bool)
    present[::3, 1] = False
    arrays = {"cases": np.array([json.dumps(case) for case in CASES]), "present": present}
    for i, (start, given) in enumerate(zip(starts, gradients)):
        arrays |= {f"start/{i}": start, f"gradients/{i}": given}
    for number, (name, settings) in enumerate(CASES):
        for i, path in enumerate(run(name, settings, starts, gradients, present)):
            arrays[f"path/{number}/{i}"] = np.array(path)[[0, 1, 2, 9, STEPS - 1]]  # after 1, 2, 3, 10 and 50 steps
    np.savez_compressed(FILE, **arrays)
    print(f"{FILE.name}: {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
