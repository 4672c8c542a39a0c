"""How the numbers are taken: interleaved timing, agreement of gradients, bytes kept alive.

Nothing here knows a contestant by name; the one framework-specific function, `torch_saved_bytes`, asks PyTorch
itself what it saves.
"""

import gc
import time
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import NamedTuple

import numpy as np


class Spread(NamedTuple):
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples):
        """The spread of a list of numbers."""
        low, median, high = np.quantile(samples, [0.25, 0.5, 0.75])
        return cls(float(median), float(low), float(high))


# --- Time ------------------------------------------------------------------------------------------------------


def interleaved(steps, rounds, block_seconds=0.05):
    """Seconds per step of each contestant, {name: [one number per round]}, taken in turns: A B C D A B C D ...

    What disturbs the machine for a while then disturbs everybody, and the ratio of two numbers of the same round
    stays meaningful. A turn is a block of consecutive steps of at least about `block_seconds`. The garbage collector
    stays switched on, as in ordinary use; before a block, outside of the timing, it clears away what the others left.

    Args:
        steps: {name: function of no arguments}.
        rounds: how often everybody has a turn.
        block_seconds: shortens or lengthens the turns.
    """
    block = {}
    for name, step in steps.items():
        step()  # the first call pays for caches and allocations
        once = seconds(step, 1)
        block[name] = max(1, round(block_seconds / once))
    samples = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            gc.collect()
            samples[name].append(seconds(step, block[name]))
    return samples


def seconds(step, repeats):
    """Wall-clock seconds per call over some consecutive calls."""
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - start) / repeats


def ratio(samples, name, other):
    """The spread of name's time over other's, round by round."""
    return Spread.of(np.divide(samples[name], samples[other]))


# --- Agreement -------------------------------------------------------------------------------------------------


def disagreement(step, reference):
    """The largest error of a step's loss and gradients against a reference's, relative to the largest entry."""
    (loss, gradients), (expected_loss, expected_gradients) = step(), reference()
    pairs = [(loss, expected_loss), *zip(gradients, expected_gradients, strict=True)]
    return max(relative_error(np.asarray(actual), np.asarray(expected)) for actual, expected in pairs)


def relative_error(actual, expected):
    """max |actual - expected| / max |expected|, and infinity where the shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


# --- Memory ----------------------------------------------------------------------------------------------------


def kept_bytes(root, excluded):
    """Bytes of all NumPy buffers that an object keeps alive, whatever way it holds them.

    Follows every reference from the object on (`gc.get_referents`), as the garbage collector would; weak references
    keep nothing alive and are not followed, and functions are followed into their closures, not into their modules.
    A buffer counts once and whole, however many views of it there are and however small they are.

    Args:
        root: the loss, for example.
        excluded: arrays that exist anyway, such as inputs and parameters.
    """
    buffers = {}
    for array in reachable_arrays(root):
        base = base_of(array)
        buffers[address_of(base)] = base.nbytes
    for array in excluded:
        buffers.pop(address_of(base_of(array)), None)
    return sum(buffers.values())


def reachable_arrays(root):
    """All NumPy arrays reachable from an object; a loop with a stack, graphs being deep."""
    seen, stack = {id(root)}, [root]
    while stack:
        thing = stack.pop()
        if isinstance(thing, np.ndarray):
            yield thing
        for referent in referents_of(thing):
            if id(referent) not in seen:
                seen.add(id(referent))
                stack.append(referent)


def referents_of(thing):
    """What an object refers to, except the program itself: types, modules and functions' global names."""
    if isinstance(thing, type | ModuleType | BuiltinFunctionType):
        return []
    if isinstance(thing, FunctionType):
        return [part for part in (thing.__closure__, thing.__defaults__, thing.__kwdefaults__) if part is not None]
    return gc.get_referents(thing)


def base_of(array):
    """The array that owns a view's buffer."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def address_of(array):
    """Where an array's first element lies in memory."""
    return array.__array_interface__["data"][0]


def torch_saved_bytes(forward, excluded):
    """Bytes of all storages that PyTorch saves for the backward pass of a forward pass.

    Args:
        forward: a function of no arguments that gives the loss.
        excluded: tensors that exist anyway, such as inputs and parameters; their storages do not count.
    """
    import torch

    saved = []  # the tensors themselves: a storage that is alive cannot hand its address to the next one

    def note(tensor):
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = forward()
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in saved}
    for tensor in excluded:
        storages.pop(tensor.untyped_storage().data_ptr(), None)
    del loss
    return sum(storages.values())
