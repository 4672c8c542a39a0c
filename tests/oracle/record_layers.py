"""Record PyTorch's answers for recurrent layers: `python -m tests.oracle.record_layers`, from the root of the checkout."""

from pathlib import Path

import numpy as np

from ..models import cases
from .layers_in_torch import theirs
from .record import packed

FILE = Path(cases.__file__).parent / "oracles" / "layers.npz"

if __name__ == "__main__":
    arrays = {"names": np.array([case.name for case in cases.few()])}
    for number, case in enumerate(cases.few()):
        inputs = case.inputs()
        arrays |= {f"{number}/inputs/{name}": array for name, array in inputs.items()}
        arrays |= {f"{number}/answers/{name}": array for name, array in theirs(case, inputs).items()}
    FILE.parent.mkdir(exist_ok=True)
    np.savez_compressed(FILE, **packed(arrays))
    print(f"{FILE.name}: {FILE.stat().st_size:,} bytes")
