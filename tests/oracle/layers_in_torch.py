"""The layers of `tests/models/cases.py` in PyTorch, on packed sequences where lengths are given."""

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..models.cases import Arrays, B, Case, T, weights_like


def theirs(case: Case, inputs: Arrays) -> Arrays:
    """PyTorch's answers. It refuses rows of length 0: they are left out, and have outputs of zero and keep their state."""
    layer = getattr(torch.nn, case.kind)(**case.arguments, dtype=torch.float64)
    leaves = {name: torch.tensor(array, requires_grad=True) for name, array in inputs.items() if name in ("x", "h_0", "c_0")}
    layer.load_state_dict({name: torch.tensor(array) for name, array in inputs.items() if name not in leaves})
    rows = [b for b in range(B) if case.lengths is None or case.lengths[b] > 0]
    x, states = leaves["x"], [leaves[name] for name in ("h_0", "c_0") if name in leaves]
    x = x[rows] if case.batch_first else x[:, rows]
    if case.lengths is not None:
        x = pack_padded_sequence(x, [case.lengths[b] for b in rows], case.batch_first, enforce_sorted=False)
    real = [state[:, rows] for state in states]
    outputs, last = layer(x, tuple(real) if len(real) == 2 else real[0])
    if case.lengths is not None:
        outputs, _ = pad_packed_sequence(outputs, case.batch_first, total_length=T)
    axis = 0 if case.batch_first else 1
    shape = [*outputs.shape]
    shape[axis] = B
    results = {"outputs": torch.zeros(shape, dtype=torch.float64).index_copy(axis, torch.tensor(rows), outputs)}
    for name, state, new in zip(("h_n", "c_n"), states, last if isinstance(last, tuple) else (last,)):
        results[name] = state.index_copy(1, torch.tensor(rows), new)
    sum((result * torch.from_numpy(weights_like(result.detach().numpy()))).sum() for result in results.values()).backward()
    gradients = leaves | dict(layer.named_parameters())
    return {name: result.detach().numpy() for name, result in results.items()} | {
        f"d {name}": np.array(leaf.grad.numpy()) for name, leaf in gradients.items()
    }
