"""The operations of `tests/engine/calls.py` in PyTorch: names and parameters are NumPy's, answers are PyTorch's."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..engine.calls import Answers, Call, N, weights


def whole(value: Any) -> Any:
    """An index or a mask of NumPy's as PyTorch's."""
    if isinstance(value, tuple):
        return tuple(map(whole, value))
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value


def along(axis: Any, x: torch.Tensor) -> Any:
    """The axes as PyTorch's functions take them: None means all, and they want to be told."""
    return tuple(range(x.ndim)) if axis is None else axis


def definite(x: torch.Tensor) -> torch.Tensor:
    return x @ x.mT + torch.diag(torch.arange(1.0, x.shape[-1] + 1, dtype=x.dtype))


def regular(x: torch.Tensor) -> torch.Tensor:
    return x + 5 * torch.eye(x.shape[-1], dtype=x.dtype)


def prod(x: torch.Tensor, axis: int | None = None, keepdims: bool = False) -> torch.Tensor:
    return torch.prod(x) if axis is None else torch.prod(x, axis, keepdims)


def flip(x: torch.Tensor, axis: int | None = None) -> torch.Tensor:
    return torch.flip(x, along(axis, x) if axis is None else (axis,))


def split(x: torch.Tensor, indices_or_sections: Any, axis: int) -> Any:
    return torch.tensor_split(x, indices_or_sections, axis)


def pad(x: torch.Tensor, pad_width: Any) -> torch.Tensor:
    return F.pad(x, [n for widths in reversed(pad_width) for n in widths])


def repeat(x: torch.Tensor, repeats: Any, axis: int | None = None) -> torch.Tensor:
    return torch.repeat_interleave(x, torch.tensor(repeats) if isinstance(repeats, tuple) else repeats, axis)


def take(x: torch.Tensor, indices: Any, axis: int | None = None) -> torch.Tensor:
    return x.reshape(-1)[whole(indices)] if axis is None else torch.index_select(x, axis, whole(indices % x.shape[axis]))


def at_set(x: torch.Tensor, values: torch.Tensor, index: Any) -> torch.Tensor:
    y = x.clone()
    y[whole(index)] = values
    return y


def at_add(x: torch.Tensor, values: torch.Tensor, index: Any) -> torch.Tensor:
    places = torch.arange(x.numel()).reshape(x.shape)[whole(index)]
    return x.reshape(-1).index_add(0, places.reshape(-1), values.expand(places.shape).reshape(-1)).reshape(x.shape)


def eigh(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    values, vectors = torch.linalg.eigh(definite(x))
    return values, vectors * vectors


def layer_norm(x: torch.Tensor, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def conv1d_causal(x: torch.Tensor, weight: torch.Tensor, bias: Any = None, dilation: int = 1) -> torch.Tensor:
    """Time first, (T, B, I) and (K, I, O); PyTorch's is (B, I, T) and (O, I, K), and pads on both sides."""
    seen = F.pad(x.permute(1, 2, 0), ((len(weight) - 1) * dilation, 0))
    return F.conv1d(seen, weight.permute(2, 1, 0), bias, dilation=dilation).permute(2, 0, 1)


THEIRS: dict[str, Callable[..., Any]] = {
    "power":           lambda a, b=None, exponent=None: torch.pow(a, exponent if b is None else b),
    "cbrt":            lambda x: torch.sign(x) * torch.abs(x) ** (1 / 3),
    "fabs":            torch.abs,
    "degrees":         torch.rad2deg,
    "radians":         torch.deg2rad,
    "normal_cdf":      torch.special.ndtr,
    "silu":            F.silu,
    "softplus":        lambda x: torch.logaddexp(x, torch.zeros_like(x)),  # F.softplus is x itself beyond a threshold
    "leaky_relu":      F.leaky_relu,
    "elu":             F.elu,
    "gelu":            F.gelu,
    "clip":            lambda x, a_min, a_max: torch.clamp(x, a_min, a_max),
    "where":           lambda a, b, condition: torch.where(whole(condition), a, b),
    "astype":          lambda x, dtype: x.to(getattr(torch, dtype)),
    "sum":             lambda x, axis=None, keepdims=False: torch.sum(x, along(axis, x), keepdims),
    "mean":            lambda x, axis=None, keepdims=False: torch.mean(x, along(axis, x), keepdims),
    "logsumexp":       lambda x, axis=None, keepdims=False: torch.logsumexp(x, along(axis, x), keepdims),
    "norm":            lambda x, axis=None, keepdims=False: torch.linalg.vector_norm(x, 2, along(axis, x), keepdims),
    "max":             lambda x, axis=None, keepdims=False: torch.amax(x, along(axis, x), keepdims),
    "min":             lambda x, axis=None, keepdims=False: torch.amin(x, along(axis, x), keepdims),
    "var":             lambda x, axis, ddof, keepdims=False: torch.var(x, axis, correction=ddof, keepdim=keepdims),
    "std":             lambda x, axis, ddof, keepdims=False: torch.std(x, axis, correction=ddof, keepdim=keepdims),
    "prod":            prod,
    "cumsum":          lambda x, axis: torch.cumsum(x, axis),
    "cumprod":         lambda x, axis: torch.cumprod(x, axis),
    "trace":           lambda x: torch.diagonal(x).sum(),
    "reshape":         lambda x, shape: torch.reshape(x, shape),
    "transpose":       lambda x, axes=None: x.permute(axes or tuple(reversed(range(x.ndim)))),
    "squeeze":         lambda x, axis=None: x.squeeze() if axis is None else x.squeeze(axis),
    "expand_dims":     lambda x, axis: x.unsqueeze(axis),
    "broadcast_to":    lambda x, shape: x.expand(shape),
    "swapaxes":        lambda x, axis1, axis2: x.swapaxes(axis1, axis2),
    "moveaxis":        lambda x, source, destination: x.moveaxis(source, destination),
    "concatenate":     lambda *xs, axis: torch.cat(xs, axis),
    "stack":           lambda *xs, axis: torch.stack(xs, axis),
    "vstack":          lambda *xs: torch.vstack(xs),
    "hstack":          lambda *xs: torch.hstack(xs),
    "split":           split,
    "unstack":         lambda x, axis: torch.unbind(x, axis),
    "tile":            lambda x, reps: torch.tile(x, reps),
    "repeat":          repeat,
    "flip":            flip,
    "roll":            lambda x, shift, axis=None: torch.roll(x, shift, axis),
    "pad":             pad,
    "tril":            lambda x, k: torch.tril(x, k),
    "triu":            lambda x, k: torch.triu(x, k),
    "diag":            lambda x, k: torch.diag(x, k),
    "diagonal":        lambda x, offset, axis1, axis2: torch.diagonal(x, offset, axis1, axis2),
    "getitem":         lambda x, index: x[whole(index)],
    "at_set":          at_set,
    "at_add":          at_add,
    "take":            take,
    "take_along_axis": lambda x, indices, axis: torch.take_along_dim(x, whole(indices), axis),
    "sort":            lambda x, axis: torch.sort(x, axis).values,
    "dot":             torch.matmul,
    "tensordot":       lambda a, b, axes: torch.tensordot(a, b, axes),
    "einsum":          lambda *xs, subscripts: torch.einsum(subscripts, *xs),
    "solve":           lambda a, b: torch.linalg.solve(regular(a), b),
    "inv":             lambda a: torch.linalg.inv(regular(a)),
    "det":             lambda a: torch.linalg.det(regular(a)),
    "slogdet":         lambda a: torch.linalg.slogdet(regular(a))[1],
    "cholesky":        lambda a: torch.linalg.cholesky(definite(a)),
    "eigh":            eigh,
    "eigvalsh":        lambda a: torch.linalg.eigvalsh(definite(a)),
    "softmax":         lambda x, axis: torch.softmax(x, axis),
    "log_softmax":     lambda x, axis: torch.log_softmax(x, axis),
    "embedding":       lambda table, index: F.embedding(whole(index), table),
    "layer_norm":      layer_norm,
    "conv1d_causal":   conv1d_causal,
}  # fmt: skip

STEPS: dict[str, Callable[..., Any]] = {
    "add":       lambda a, b: (a + b) * 0.6,
    "subtract":  lambda a, b: (a - b) * 0.6,
    "multiply":  lambda a, b: a * b * 0.6,
    "divide":    lambda a, b: a / (1.0 + b * b),
    "matmul":    lambda a, b: a @ b * 0.5,
    "tanh":      torch.tanh,
    "sin":       torch.sin,
    "cos":       torch.cos,
    "arctan":    torch.arctan,
    "sigmoid":   torch.sigmoid,
    "softplus":  lambda a: torch.logaddexp(a, torch.zeros_like(a)),
    "exp":       lambda a: torch.exp(-a * a),
    "log":       lambda a: torch.log(1.0 + a * a),
    "sqrt":      lambda a: torch.sqrt(1.0 + a * a),
    "negative":  lambda a: -a,
    "transpose": lambda a: a.T,
    "mean":      lambda a: a - a.mean(dim=0),
    "sum":       lambda a: a.sum(dim=1, keepdim=True) * a * 0.2,
    "cumsum":    lambda a: torch.cumsum(a, 0) * 0.4,
    "softmax":   lambda a: torch.softmax(a, -1),
    "logsumexp": lambda a, b: torch.logsumexp(a, 0) * b * 0.4,
    "getitem":   lambda a, b: a[1] * b[:, 2:],
    "gather":    lambda a: a[torch.tensor([2, 0, 2])],
    "stack":     lambda a, b: torch.stack([a[0], b[1], a[2]]),
    "concat":    lambda a, b: torch.cat([a[:, :1], b[:, 1:]], 1),
    "flip":      lambda a: torch.flip(a, (0,)),
    "where":     lambda a, b: torch.where(torch.eye(N) > 0, a, b),
    "outer":     lambda a, b: torch.outer(a[0], b[:, 1]) * 0.6,
    "inv":       lambda a: torch.linalg.inv(torch.tanh(a) * 0.3 + torch.eye(N, dtype=a.dtype)),
    "hypot":     lambda a, b: torch.hypot(a, b * b + 1.0) * 0.5,
}  # fmt: skip


def theirs(call: Call) -> Callable[..., Any]:
    """The call as a function of PyTorch's tensors."""
    function = THEIRS.get(call.op) or getattr(torch, call.op)
    return lambda *xs: function(*xs, **call.params)


def answers(function: Callable[..., Any], arrays: Sequence[Any]) -> Answers:
    """PyTorch's answers to what `calls.answers` asks."""
    leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    result = function(*leaves)
    outputs = list(result) if isinstance(result, (tuple, list)) else [result]
    first = gradients(outputs, leaves)
    second = gradients(first, leaves)
    return Answers(*([value.detach().numpy(force=True) for value in values] for values in (outputs, first, second)))


def gradients(values: list[torch.Tensor], leaves: list[torch.Tensor]) -> list[torch.Tensor]:
    """The taped gradients of a weighted sum of the values; zero where none depends on a leaf."""
    terms = [
        (value * torch.from_numpy(weights(tuple(value.shape), k)).to(value.dtype)).sum()
        for k, value in enumerate(values)
        if value.requires_grad
    ]
    if not terms:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return list(torch.autograd.grad(sum(terms), leaves, create_graph=True, allow_unused=True, materialize_grads=True))
