"""Keras's recurrent layers as its documentation and its code have them, in NumPy: an independent reading of its weight lists.

Each step takes (x, state, kernel, recurrent_kernel, bias), the arrays of `get_weights()`, with the gates in Keras's order:
SimpleRNN has one, LSTM i, f, c, o, and GRU z, r, h. `bias` is None with `use_bias=False`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def σ(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def simple_rnn(x: Any, state: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None) -> Any:
    """h<t> = activation(x kernel + bias + h recurrent_kernel)."""
    (h,) = state
    h = np.tanh(x @ kernel + (0 if bias is None else bias) + h @ recurrent_kernel)
    return (h,)


def lstm(x: Any, state: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None) -> Any:
    """c<t> = f c<t-1> + i tanh(z_c), h<t> = o tanh(c<t>)."""
    h, c = state
    z = x @ kernel + h @ recurrent_kernel + (0 if bias is None else bias)
    z_i, z_f, z_c, z_o = np.split(z, 4, axis=-1)
    c = σ(z_f) * c + σ(z_i) * np.tanh(z_c)
    return σ(z_o) * np.tanh(c), c


def gru(x: Any, state: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None) -> Any:
    """reset_after=False: the state is reset before it is multiplied; one bias (3H)."""
    (h,) = state
    units = h.shape[-1]
    x_z, x_r, x_h = np.split(x @ kernel + (0 if bias is None else bias), 3, axis=-1)
    h_z, h_r = np.split(h @ recurrent_kernel[:, : 2 * units], 2, axis=-1)
    z, r = σ(x_z + h_z), σ(x_r + h_r)
    hh = np.tanh(x_h + (r * h) @ recurrent_kernel[:, 2 * units :])
    return (z * h + (1 - z) * hh,)


def gru_reset_after(x: Any, state: Any, kernel: Any, recurrent_kernel: Any, bias: Any = None) -> Any:
    """reset_after=True: what was multiplied is reset; a bias for the input and one for the state, (2, 3H)."""
    (h,) = state
    input_bias, recurrent_bias = (0, 0) if bias is None else bias
    x_z, x_r, x_h = np.split(x @ kernel + input_bias, 3, axis=-1)
    h_z, h_r, h_h = np.split(h @ recurrent_kernel + recurrent_bias, 3, axis=-1)
    z, r = σ(x_z + h_z), σ(x_r + h_r)
    hh = np.tanh(x_h + r * h_h)
    return (z * h + (1 - z) * hh,)


def run(step: Callable[..., Any], weights: Sequence[Any], x: Any, backwards: bool = False) -> tuple[Any, Any]:
    """(outputs (T, B, H), last state) of a layer over x (T, B, I), from a state of zeros."""
    H, parts = weights[1].shape[0], 2 if step is lstm else 1
    state, outputs = tuple(np.zeros((x.shape[1], H)) for _ in range(parts)), [None] * len(x)
    for t in reversed(range(len(x))) if backwards else range(len(x)):
        state = step(x[t], state, *weights)
        outputs[t] = state[0]
    return np.array(outputs), state


def bidirectional(step: Callable[..., Any], weights: Sequence[Any], x: Any) -> Any:
    """`Bidirectional(merge_mode="concat")`: the first half of the list is the forward layer's."""
    half = len(weights) // 2
    there, back = run(step, weights[:half], x)[0], run(step, weights[half:], x, backwards=True)[0]
    return np.concatenate([there, back], axis=-1)
