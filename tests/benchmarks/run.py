"""The benchmark: what a tape of NumPy operations costs in time and memory, beside PyTorch, HIPS autograd and MyGrad.

    python tests/benchmarks/run.py [--quick] [--json results.json]

Everybody runs the same LSTM training step, operation by operation (`problem.py` has the mathematics and one module
per contestant the spelling). First the gradients are compared, then the time is taken in turns on one thread, then
the memory that a forward pass keeps alive, then whether a step costs the same in a long sequence as in a short one.
A contestant that is not installed is named and left out; none of them is a dependency of this project.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from functools import partial

import measure
import numpy as np
from measure import Spread
from problem import Size, random_problem

SIZES = (Size(64, 1, 16, 16), Size(64, 16, 32, 32), Size(64, 32, 128, 128), Size(32, 64, 256, 512))
SMALL = SIZES[:2]
ROUNDS = dict(zip(SIZES, (41, 41, 31, 15), strict=True))
MEMORY_SIZE = Size(200, 64, 128, 128)
FLAT_STEPS = (4_000, 16_000)

OURS, TORCH, TORCH_INDEXED, AUTOGRAD, MYGRAD, MYGRAD_UNGUARDED, BY_HAND = (
    "tinygrad_seq",
    "PyTorch",
    "PyTorch, xw[t]",
    "HIPS autograd",
    "MyGrad",
    "MyGrad, no guard",
    "NumPy by hand",
)
MODULES = {
    OURS: "lstm_tinygrad_seq",
    TORCH: "lstm_torch",
    TORCH_INDEXED: "lstm_torch",
    AUTOGRAD: "lstm_autograd",
    MYGRAD: "lstm_mygrad",
    MYGRAD_UNGUARDED: "lstm_mygrad",
    BY_HAND: "lstm_numpy",
}

# Our time divided by theirs may be at most this; None: shown for comparison only.
TARGETS = {TORCH: 1.0, TORCH_INDEXED: None, AUTOGRAD: 0.3, MYGRAD: 0.3, MYGRAD_UNGUARDED: None, BY_HAND: None}
FLAT_TARGET = 1.15  # cost per step of the long sequence over that of the short one: flat, up to noise
TOLERANCE = {np.float64: 1e-9, np.float32: 1e-4}

SHARE_NOTE = """
  (*) Measured by replaying: 'NumPy by hand' makes the same array operations, forward and backward, as plain NumPy
      calls in their cheapest spelling, without a tape. What our step takes beyond it is recording, sorting, dispatch
      and bookkeeping; the share is an upper bound, since any array operation that we do besides counts as well."""

ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def main(arguments=None):
    """Run everything, print it, and write it to a file where one is named."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: whether it runs, not how fast")
    parser.add_argument("--json", metavar="PATH", help="also write the results as JSON")
    options = parser.parse_args(arguments)

    modules, missing = load_contestants()
    results = {
        "environment": describe_environment(modules),
        "missing": missing,
        "agreement": report_agreement(modules),
        "speed": report_speed(modules, options.quick),
        "memory": report_memory(modules),
        "flatness": report_flatness(modules, options.quick),
    }
    report_targets(results)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


# --- Contestants -----------------------------------------------------------------------------------------------


def load_contestants():
    """({name: module} of those that can be imported, {name: why not} of the others)."""
    modules, missing = {}, {}
    for name, module in MODULES.items():
        try:
            modules[name] = importlib.import_module(module)
        except ImportError as error:
            missing[name] = f"left out: {error}"
    return modules, missing


def steps_of(modules, problem, hoisted=True):
    """{name: training step} for one problem; HIPS autograd and MyGrad run at the small sizes only."""
    steps = {}
    for name, module in modules.items():
        if name in (AUTOGRAD, MYGRAD, MYGRAD_UNGUARDED) and problem.size not in SMALL:
            continue
        if name == TORCH_INDEXED:
            if hoisted:
                steps[name] = module.training_step(problem, hoisted=True, indexed=True)
        elif name == MYGRAD_UNGUARDED:
            steps[name] = module.training_step(problem, hoisted=hoisted, guarded=False)
        else:
            steps[name] = module.training_step(problem, hoisted=hoisted)
    return steps


def describe_environment(modules):
    """Versions and machine, printed and returned."""
    environment = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "contestants": {name: module.NAME for name, module in modules.items()},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "threads": 1,
    }
    print(f"Python {environment['python']}, NumPy {environment['numpy']}, {environment['machine']}, one thread")
    print("contestants:", "; ".join(dict.fromkeys(environment["contestants"].values())))
    return environment


# --- Agreement -------------------------------------------------------------------------------------------------


def report_agreement(modules):
    """Stop unless everybody computes the same loss and gradients at every size, hoisted and not."""
    print("\nAgreement: largest relative error of loss and gradients against the derivation by hand")
    reference = importlib.import_module(MODULES[BY_HAND])
    rows = []
    for dtype, tolerance in TOLERANCE.items():
        worst = {}
        for size in SIZES:
            problem = random_problem(size, dtype)
            for hoisted in (True, False):
                expected = reference.training_step(problem, hoisted)
                for name, step in steps_of(modules, problem, hoisted).items():
                    if name != BY_HAND:
                        worst[name] = max(worst.get(name, 0.0), measure.disagreement(step, expected))
        for name, error in worst.items():
            rows.append({"dtype": dtype.__name__, "contestant": name, "error": error, "tolerance": tolerance})
            print(f"  {dtype.__name__}  {name:<16} {error:.1e}  (at most {tolerance:.0e})")
            if not error <= tolerance:
                sys.exit(f"{name} does not compute the same gradients: timing it would mean nothing")
    return rows


# --- Speed -----------------------------------------------------------------------------------------------------


def report_speed(modules, quick):
    """One table per spelling: everybody's time per training step and ours as a multiple of theirs."""
    print("\nSpeed: LSTM training step, forward and backward, float32. Taken in turns; median [quartiles].")
    rows = []
    for hoisted in (True, False):
        print("\n  x W_x + b hoisted: one product over all of time" if hoisted else "\n  each step multiplies x[t] W_x")
        print(f"  {'(T, B, I, H)':<19} {'':<16} {'ms per training step':>27} {'ours / theirs':>20}   target")
        for size in SIZES:
            steps = steps_of(modules, random_problem(size), hoisted)
            if not hoisted:
                steps = {name: step for name, step in steps.items() if name in (OURS, TORCH, BY_HAND)}
            samples = measure.interleaved(steps, rounds=3 if quick else ROUNDS[size])
            for name in samples:
                rows.append(speed_row(samples, name, size, hoisted))
                print_speed(rows[-1], first=name == next(iter(samples)))
    if BY_HAND in modules and OURS in modules:
        print(SHARE_NOTE)
    return rows


def speed_row(samples, name, size, hoisted):
    """What is known of one contestant at one size."""
    ours = measure.ratio(samples, OURS, name) if OURS in samples and name != OURS else None
    target = TARGETS.get(name)
    row = {
        "size": size._asdict(),
        "hoisted": hoisted,
        "contestant": name,
        "ms": Spread.of(np.multiply(samples[name], 1e3))._asdict(),
        "ours_over_theirs": ours and ours._asdict(),
        "target": target,
        "met": None if ours is None or target is None else ours.median <= target,
    }
    if name == BY_HAND and ours:
        row["our_share_outside_numpy"] = 1 - 1 / ours.median
    return row


def print_speed(row, first):
    """One line of the table."""
    size = str(tuple(row["size"].values())) if first else ""
    line = f"  {size:<19} {row['contestant']:<16} {spread(row['ms'], '8.2f'):>27}"
    if row["ours_over_theirs"]:
        line += f" {spread(row['ours_over_theirs'], '5.2f'):>20}"
    if row["target"] is not None:
        line += f"   <= {row['target']:.2f} {verdict(row['met'])}"
    if "our_share_outside_numpy" in row:
        line += f"   {row['our_share_outside_numpy']:.0%} of our time is outside NumPy (*)"
    print(line)


# --- Memory ----------------------------------------------------------------------------------------------------


def report_memory(modules):
    """Bytes that the forward pass keeps alive for the backward pass, inputs and parameters not counted."""
    print(f"\nMemory kept alive by a forward pass at (T, B, I, H) = {tuple(MEMORY_SIZE)}, float32")
    print("  ours: base buffers of all arrays reachable from the loss; PyTorch: storages that it saves for backward")
    problem = random_problem(MEMORY_SIZE)
    rows = []
    for hoisted in (True, False):
        kept = {}
        if OURS in modules:
            parameters = modules[OURS].parameters_of(problem)
            loss = modules[OURS].loss_of(problem, *parameters, hoisted)
            excluded = [*problem.constants, *(parameter.data for parameter in parameters), loss.data]
            kept[OURS] = measure.kept_bytes(loss, excluded)
            if not kept[OURS]:
                sys.exit("no array is reachable from our loss: the count has lost its way, and 0 bytes is no result")
            del loss
        if TORCH in modules:
            parameters = modules[TORCH].parameters_of(problem)
            forward = partial(modules[TORCH].loss_of, problem, *parameters, hoisted)
            excluded = [*modules[TORCH].constants_of(problem), *parameters]
            kept[TORCH] = measure.torch_saved_bytes(forward, excluded)
        both = OURS in kept and TORCH in kept
        row = {"hoisted": hoisted, "bytes": kept, "ours_over_theirs": kept[OURS] / kept[TORCH] if both else None}
        row |= {"target": 1.0, "met": kept[OURS] <= kept[TORCH] if both else None}
        rows.append(row)
        line = ", ".join(f"{name} {count / 1e6:.2f} MB" for name, count in kept.items())
        outcome = f"   ratio {row['ours_over_theirs']:.3f}   <= 1.00 {verdict(row['met'])}" if both else ""
        print(f"  {'hoisted' if hoisted else 'not hoisted':<12} {line}{outcome}")
    return rows


# --- Flatness --------------------------------------------------------------------------------------------------


def report_flatness(modules, quick):
    """Whether a step costs the same in a long sequence: all steps index one hoisted array."""
    short, long = (steps // 8 for steps in FLAT_STEPS) if quick else FLAT_STEPS
    print(f"\nFlatness: cost per time step at T = {short:,} and {long:,}, where steps index one hoisted array")
    rows = []
    for name in (OURS, TORCH, BY_HAND):
        if name not in modules:
            continue
        problems = {T: random_problem(Size(T, 1, 8, 8)) for T in (short, long)}
        spelling = {} if name == BY_HAND else {"indexed": True}
        steps = {T: modules[name].training_step(problem, **spelling) for T, problem in problems.items()}
        samples = measure.interleaved(steps, rounds=3 if quick else 7, block_seconds=0.0)
        samples = {T: np.divide(times, T) for T, times in samples.items()}
        growth = measure.ratio(samples, long, short)
        target = FLAT_TARGET if name == OURS else None
        row = {
            "contestant": name,
            "T": [short, long],
            "us_per_step": [Spread.of(samples[T] * 1e6)._asdict() for T in (short, long)],
            "growth": growth._asdict(),
            "target": target,
            "met": growth.median <= target if target else None,
        }
        rows.append(row)
        costs = "  ".join(f"{spread(cost, '6.1f')} us" for cost in row["us_per_step"])
        outcome = f"   <= {target:.2f} {verdict(row['met'])}" if target else ""
        print(f"  {name:<16} {costs}   ratio {spread(row['growth'], '4.2f')}{outcome}")
    return rows


# --- Words -----------------------------------------------------------------------------------------------------


def report_targets(results):
    """The last line: how many of the targets were met, and what could not be compared."""
    judged = [row["met"] for part in ("speed", "memory", "flatness") for row in results[part] if row["met"] is not None]
    print(f"\nTargets met: {sum(judged)} of {len(judged)}")
    for name, why in results["missing"].items():
        print(f"  {name} {why}")


def spread(values, form):
    """A median with its quartiles: `8.21 [8.10, 8.45]`."""
    low, high = (format(values[key], form).strip() for key in ("low", "high"))
    return f"{values['median']:{form}} [{low}, {high}]"


def verdict(met):
    """A target's outcome in words."""
    return {True: "met", False: "MISSED", None: "not compared"}[met]


if __name__ == "__main__":
    if ONE_THREAD.items() <= os.environ.items():
        main()
    else:  # BLAS libraries read these when they are loaded, so they have to be there from the start
        sys.exit(subprocess.call([sys.executable, *sys.orig_argv[1:]], env=os.environ | ONE_THREAD))
