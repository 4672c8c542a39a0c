"""How much faster teacher forcing is where all recurrence goes through the output: all steps at once, and one by one.

    python tests/benchmarks/forcing.py [--rounds 21] [--batch 1 16] [--hidden 64]

The document's claim, measured: an `OutputRNNCell` with the targets in the place of its outputs has nothing to wait for. Both
ways compute the same loss and gradients, which is checked first. On one thread, what is saved is the overhead of T small
operations: the arithmetic is the same, so the smaller the batch, the more is gained.
"""

import argparse
import os

ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # before NumPy is there

import measure  # noqa: E402
import numpy as np  # noqa: E402

import tinygrad_seq as tg  # noqa: E402
from tinygrad_seq.models import OutputRNNCell, fed_back, teacher_forced  # noqa: E402

STEPS = (4, 16, 64, 256, 1024)
BATCHES = (1, 16)
INPUTS, OUTPUTS = 16, 16


def step_of(run, cell, x, y):
    """A training step: a function that gives the loss and the gradients of all weights."""

    def step():
        cell.zero_grad()
        loss = tg.losses.mse(run(cell, x, y), y)
        loss.backward()
        return loss.data, [parameter.grad.data for parameter in cell.parameters()]

    return step


def contestants(steps, batch, hidden, dtype):
    """Both ways to train on random sequences of so many steps."""
    rng = np.random.default_rng(0)
    tg.manual_seed(0)
    cell = OutputRNNCell(INPUTS, hidden, OUTPUTS).to(dtype)
    x = rng.normal(size=(steps, batch, INPUTS)).astype(dtype)
    y = np.eye(OUTPUTS, dtype=dtype)[rng.integers(0, OUTPUTS, (steps, batch))]
    runs = {"at once": teacher_forced, "one by one": lambda *given: fed_back(*given, teacher=1)}
    return {name: step_of(run, cell, x, y) for name, run in runs.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21, help="how often both take their turn (default: %(default)s)")
    parser.add_argument("--batch", type=int, nargs="+", default=BATCHES, help="sequences in a batch (default: 1 and 16)")
    parser.add_argument("--hidden", type=int, default=64, help="units (default: %(default)s)")
    arguments = parser.parse_args()

    error = measure.disagreement(*contestants(32, 8, arguments.hidden, np.float64).values())
    print(f"Loss and gradients agree to {error:.1e} in float64.\n")
    if not error < 1e-10:
        raise SystemExit("they must agree to 1e-10: nothing is measured")
    print(f"A training step of OutputRNNCell({INPUTS}, {arguments.hidden}, {OUTPUTS}), float32:\n")
    print("   B     T    at once   one by one   times as fast [quartiles]")
    for batch in arguments.batch:
        for steps in STEPS:
            samples = measure.interleaved(contestants(steps, batch, arguments.hidden, np.float32), arguments.rounds)
            fast, slow = (np.median(samples[name]) * 1e3 for name in ("at once", "one by one"))
            times = measure.ratio(samples, "one by one", "at once")
            spread = f"{times.median:5.1f} [{times.low:.1f}, {times.high:.1f}]"
            print(f"{batch:4} {steps:5}  {fast:6.2f} ms   {slow:7.2f} ms   {spread}")


if __name__ == "__main__":
    main()
