"""tinygrad_seq: an autodiff engine to read, and recurrent networks whose gradients can be seen.

A computation is a tape, and everything else is a reading of it. Read the engine in this order:

1. `tape.py`, `scopes.py`: nodes; where they ran, and what a user can switch.
2. `primitive.py`, `pullback.py`: an operation and its derivative, declared together.
3. `tensor.py`, `calls.py`, `numpy_like.py`, `dtypes.py`: an array and the node that made it.
4. `sweep.py`, `reach.py`, `overwritten.py`, `collector.py`: reverse mode, the tape read from its end.
5. `ops/elementwise.py`, then the other families: the primitives themselves.
6. `recording.py`, `over_time.py`, `listing.py`, `events.py`: the tape and the backward pass in print.
7. `derivatives.py`, `nested.py`, `bptt.py`: gradients of functions, and gradients taken apart by step in time.
8. `states.py`, `vanishing.py`, `recompute.py`, `truncated.py`: why a gradient vanishes; long sequences.
9. `checking.py`, `invariants.py`: how all of it is checked.

What training needs stands apart and reads on its own: `module.py`, `init.py`, `losses.py`, `optim.py`, `clipping.py`,
`parameters.py`, `schedules.py`, `data.py`, `serialize.py`, `random.py`, `progress.py`; `training.py` and `runs.py` put it
together.
"""

from importlib import import_module

from tinygrad_seq import bptt, data, init, losses, ops, optim, random
from tinygrad_seq.checking import check_grads
from tinygrad_seq.collector import collector_waiting
from tinygrad_seq.derivatives import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from tinygrad_seq.dtypes import default_dtype, set_default_dtype, using_dtype
from tinygrad_seq.errors import (
    AnomalyError,
    AutodiffError,
    FreedGraphError,
    GradientCheckError,
    NondeterministicError,
    OverwrittenError,
    PullbackError,
    ShapeError,
    TapeError,
)  # fmt: skip
from tinygrad_seq.events import Event
from tinygrad_seq.explain import missing_here
from tinygrad_seq.invariants import check_tape
from tinygrad_seq.listing import Entry, Tape, record, tape
from tinygrad_seq.module import Module
from tinygrad_seq.ops import *  # noqa: F403
from tinygrad_seq.primitive import Primitive, Sample, primitive
from tinygrad_seq.progress import progress
from tinygrad_seq.random import manual_seed
from tinygrad_seq.recompute import checkpoint
from tinygrad_seq.scopes import detect_anomaly, enable_grad, mask_zeros, no_grad, scope
from tinygrad_seq.serialize import CheckpointError, load, peek, save
from tinygrad_seq.tensor import Parameter, Tensor, tensor
from tinygrad_seq.training import fit

__version__ = "0.1.0"

__all__ = [
    "AnomalyError", "AutodiffError", "CheckpointError", "Entry", "Event", "FreedGraphError", "GradientCheckError", "Module",
    "NondeterministicError", "OverwrittenError", "Parameter", "Primitive", "PullbackError", "Sample", "ShapeError", "Tape",
    "TapeError", "Tensor", "bptt", "check_grads", "check_tape", "checkpoint", "collector_waiting", "data", "default_dtype",
    "detect_anomaly", "enable_grad", "fit", "grad", "hessian", "hvp", "init", "jacobian", "jvp", "load", "losses",
    "manual_seed", "mask_zeros", "no_grad", "optim", "peek", "primitive", "progress", "random", "record", "save", "scope",
    "set_default_dtype", "tape", "tensor", "using_dtype", "value_and_grad", "vjp",
]  # fmt: skip
__all__ += ops.__all__


def __getattr__(name: str) -> object:
    """`tg.models`, `tg.viz` and `tg.interop` are there when they are asked for; the engine itself needs none of them."""
    if name in ("models", "viz", "interop"):
        return import_module(f"{__name__}.{name}")
    rooms = [optim, losses, bptt, data, init]
    if name[:1].isupper():  # a class, and no file that is looked for on its way in
        rooms.append(import_module(f"{__name__}.models"))
    raise AttributeError(missing_here(name, rooms), name=name)
