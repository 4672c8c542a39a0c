"""Cells with gates, which learn what to keep: GRU, LSTM and their variants. Read `cells.py` first.

Sigmoids between 0 and 1 say how much of the past is kept. The gates are called after what they do: u updates the memory,
f forgets, o gives out, r resets; the candidate, c~, is what might be written. Each stands in a scope of its name.

A cell's bias is one array with one part per gate, in the order of the gates. The forget gate's starts at 1, so that an
LSTM starts by remembering (Gers, Schmidhuber & Cummins, 2000), all else at 0; each gate's recurrent matrix starts orthogonal.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq import init
from tinygrad_seq.dtypes import Array
from tinygrad_seq.explain import whole
from tinygrad_seq.models.cells import Cell, Function, affine, gate
from tinygrad_seq.ops.elementwise import sigmoid, tanh
from tinygrad_seq.ops.nn import layer_norm
from tinygrad_seq.ops.shape import split


class GatedCell(Cell):
    """A cell whose gates share the arrays W_x (I, G*H), W_h (H, G*H) and b (G*H).

    Attributes:
        gates: in the order of the columns.
        aliases: what else each gate is found by, PyTorch's name last.
    """

    gates: ClassVar[tuple[str, ...]]
    aliases: ClassVar[dict[str, tuple[str, ...]]] = {"candidate": ("c~", "n")}
    W_x: tg.Parameter
    W_h: tg.Parameter
    b: tg.Parameter | None

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size, bias)
        self._learn()

    def initial_weights(self) -> dict[str, Array | None]:
        """For each gate by itself: Xavier for W_x, orthogonal for W_h; for b 1 at the forget gate, else 0."""
        I, H, R, G = self.input_size, self.hidden_size, self.state_sizes[0], len(self.gates)
        return dict(
            W_x=init.xavier_uniform((I, G * H), blocks=G),
            W_h=init.orthogonal((R, G * H), blocks=G),
            b=np.concatenate([init.constant((H,), float(name == "f")) for name in self.gates]) if self.bias else None,
        )

    def project(self, x: Any) -> Any:
        """x<t> W_x + b for all gates: (..., I) -> (..., G*H)."""
        return affine(x, self.W_x, self.b)

    def gate(self, name: str, squash: Function, z: Any) -> Any:
        """squash(z), which is found by the gate's name and its aliases; see `cells.gate`."""
        return gate(name, squash, z, self.aliases.get(name, ()), "c~" if name == "candidate" else None)

    def gated(self, z: Any, **squash: Function) -> list[Any]:
        """z (..., G*H), cut into the gates in their order, each squashed by its function: G arrays (..., H)."""
        parts = split(z, len(squash), axis=-1)
        return [self.gate(name, function, part) for (name, function), part in zip(squash.items(), parts)]


# ---- GRU ------------------------------------------------------------------------------------------------------------------


class GRUCell(GatedCell):
    """The gated recurrent unit.

        Γ_u  = σ(c<t-1> W_hu + x<t> W_xu + b_u)                     update gate
        Γ_r  = σ(c<t-1> W_hr + x<t> W_xr + b_r)                     reset gate
        c~   = tanh((Γ_r * c<t-1>) W_hc + x<t> W_xc + b_c)          candidate
        c<t> = Γ_u * c~ + (1 - Γ_u) * c<t-1>

    Γ_u = 1 with Γ_r = 1 is the basic RNN, Γ_u = 0 copies the state. PyTorch, Keras and ONNX have z = 1 - Γ_u for an update
    gate, which our weights with the opposite sign give: 1 - σ(a) = σ(-a).

    Args:
        input_size, hidden_size: I and H.
        bias: whether there are biases.
        reset_after: reset after the product instead of before it, as PyTorch and cuDNN do; another function, with a bias
            more: c~ = tanh(Γ_r * (c<t-1> W_hc + b_h) + x<t> W_xc + b_c).

    Shapes:
        x (B, I), state c (B, H); W_x (I, 3H), W_h (H, 3H), b (3H), in the order u, r, candidate; b_h (H) with `reset_after`.

    Cho et al., "Learning phrase representations using RNN encoder-decoder" (2014); Chung et al., "Empirical evaluation of
    gated recurrent neural networks" (2014), whose update gate is the one above.
    """

    name = "gru"
    gates = ("u", "r", "candidate")
    b_h: tg.Parameter | None

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, reset_after: bool = False) -> None:
        self.reset_after = reset_after
        super().__init__(input_size, hidden_size, bias)

    def initial_weights(self) -> dict[str, Array | None]:
        """As for all gated cells; zeros for b_h."""
        second = self.bias and self.reset_after
        return super().initial_weights() | dict(b_h=init.zeros((self.hidden_size,)) if second else None)

    def step(self, xW: Any, c: Any, seen: Any = None) -> Any:
        """The equations of the class."""
        seen = c if seen is None else seen
        return self._reset_after(xW, c, seen) if self.reset_after else self._reset_before(xW, c, seen)

    def _reset_before(self, xW: Any, c: Any, seen: Any) -> Any:
        W_ur, W_c = split(self.W_h, [2 * self.hidden_size], axis=-1)  # (H, 2H), (H, H)
        x_ur, x_c = split(xW, [2 * self.hidden_size], axis=-1)  # (B, 2H), (B, H)
        z_u, z_r = split(seen @ W_ur + x_ur, 2, axis=-1)  # (B, H) each
        Γ_u = self.gate("u", sigmoid, z_u)
        Γ_r = self.gate("r", sigmoid, z_r)
        c_new = self.gate("candidate", tanh, (Γ_r * seen) @ W_c + x_c)
        return Γ_u * c_new + (1 - Γ_u) * c

    def _reset_after(self, xW: Any, c: Any, seen: Any) -> Any:
        x_u, x_r, x_c = split(xW, 3, axis=-1)  # (B, H) each
        h_u, h_r, h_c = split(seen @ self.W_h, 3, axis=-1)
        Γ_u = self.gate("u", sigmoid, h_u + x_u)
        Γ_r = self.gate("r", sigmoid, h_r + x_r)
        c_new = self.gate("candidate", tanh, Γ_r * (h_c if self.b_h is None else h_c + self.b_h) + x_c)
        return Γ_u * c_new + (1 - Γ_u) * c


class SimplifiedGRUCell(GatedCell):
    """The GRU with an update gate only.

        Γ_u  = σ(c<t-1> W_hu + x<t> W_xu + b_u)                     update gate
        c~   = tanh(c<t-1> W_hc + x<t> W_xc + b_c)                  candidate
        c<t> = Γ_u * c~ + (1 - Γ_u) * c<t-1>

    Shapes:
        x (B, I), state c (B, H); W_x (I, 2H), W_h (H, 2H), b (2H), in the order u, candidate.

    The document's "simplified GRU"; A. Ng, "Sequence Models" (2018), where it introduces the full one.
    """

    name = "simplified_gru"
    gates = ("u", "candidate")

    def step(self, xW: Any, c: Any, seen: Any = None) -> Any:
        """The equations of the class."""
        seen = c if seen is None else seen
        Γ_u, c_new = self.gated(seen @ self.W_h + xW, u=sigmoid, candidate=tanh)  # (B, H) each
        return Γ_u * c_new + (1 - Γ_u) * c


# ---- LSTM -----------------------------------------------------------------------------------------------------------------


class WithMemory(GatedCell):
    """What all kinds of LSTM share: a memory c besides the state that the gates read, and these gates."""

    gates: ClassVar[tuple[str, ...]] = ("u", "f", "o", "candidate")
    aliases: ClassVar[dict[str, tuple[str, ...]]] = {"u": ("i",), "candidate": ("c~", "g")}
    state_names = ("h", "c")


class LSTMCell(WithMemory):
    """Long short-term memory: a memory c that is added to, and a state a that shows part of it.

        Γ_u  = σ(a<t-1> W_hu + x<t> W_xu + b_u)                     update gate (PyTorch: i)
        Γ_f  = σ(a<t-1> W_hf + x<t> W_xf + b_f)                     forget gate
        Γ_o  = σ(a<t-1> W_ho + x<t> W_xo + b_o)                     output gate
        c~   = tanh(a<t-1> W_hc + x<t> W_xc + b_c)                  candidate (PyTorch: g)
        c<t> = Γ_u * c~ + Γ_f * c<t-1>
        a<t> = Γ_o * tanh(c<t>)

    Args:
        input_size, hidden_size: I and H.
        bias: whether there is a b.
        proj_size: P > 0 makes the state shorter than the memory: a<t> = (Γ_o * tanh(c<t>)) W_p.

    Shapes:
        x (B, I), state (a, c), both (B, H); W_x (I, 4H), W_h (H, 4H), b (4H), in the order u, f, o, candidate.
        With `proj_size`, a (B, P), W_h (P, 4H) and W_p (H, P).

    Hochreiter & Schmidhuber, "Long short-term memory" (1997); the forget gate: Gers, Schmidhuber & Cummins, "Learning to
    forget" (2000); the projection: Sak, Senior & Beaufays (2014).
    """

    name = "lstm"
    W_p: tg.Parameter | None

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, proj_size: int = 0) -> None:
        if not 0 <= whole("proj_size", proj_size) < max(whole("hidden_size", hidden_size), 1):
            raise ValueError(f"proj_size is 0 or less than hidden_size, got {proj_size} and {hidden_size}")
        self.proj_size = proj_size
        super().__init__(input_size, hidden_size, bias)

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The lengths of a and c."""
        return self.proj_size or self.hidden_size, self.hidden_size

    def initial_weights(self) -> dict[str, Array | None]:
        """As for all gated cells; Xavier for W_p."""
        H, P = self.hidden_size, self.proj_size
        return super().initial_weights() | dict(W_p=init.xavier_uniform((H, P)) if P else None)

    def step(self, xW: Any, state: Any, seen: Any = None) -> Any:
        """The equations of the class."""
        a, c = state
        seen = a if seen is None else seen
        Γ_u, Γ_f, Γ_o, c_new = self.gated(seen @ self.W_h + xW, u=sigmoid, f=sigmoid, o=sigmoid, candidate=tanh)  # (B, H)
        c = Γ_u * c_new + Γ_f * c
        a = Γ_o * tanh(c)
        return (a if self.W_p is None else a @ self.W_p), c  # (B, P)


class PeepholeLSTMCell(WithMemory):
    """An LSTM whose gates also look into the memory, each unit at its own cell.

        Γ_u  = σ(a<t-1> W_hu + x<t> W_xu + p_u * c<t-1> + b_u)
        Γ_f  = σ(a<t-1> W_hf + x<t> W_xf + p_f * c<t-1> + b_f)
        c~   = tanh(a<t-1> W_hc + x<t> W_xc + b_c)
        c<t> = Γ_u * c~ + Γ_f * c<t-1>
        Γ_o  = σ(a<t-1> W_ho + x<t> W_xo + p_o * c<t> + b_o)        after the update
        a<t> = Γ_o * tanh(c<t>)

    Shapes:
        as for `LSTMCell`, and the peepholes p_u, p_f, p_o (H) each.

    Gers & Schmidhuber, "Recurrent nets that time and count" (2000). The peepholes start at 0, as a plain LSTM.
    """

    name = "peephole_lstm"
    p_u: tg.Parameter
    p_f: tg.Parameter
    p_o: tg.Parameter

    def initial_weights(self) -> dict[str, Array | None]:
        """As for all gated cells; zeros for the peepholes."""
        return super().initial_weights() | {name: init.zeros((self.hidden_size,)) for name in ("p_u", "p_f", "p_o")}

    def step(self, xW: Any, state: Any, seen: Any = None) -> Any:
        """The equations of the class."""
        a, c = state
        seen = a if seen is None else seen
        z_u, z_f, z_o, z_c = split(seen @ self.W_h + xW, 4, axis=-1)  # (B, H) each
        Γ_u = self.gate("u", sigmoid, z_u + self.p_u * c)
        Γ_f = self.gate("f", sigmoid, z_f + self.p_f * c)
        c_new = self.gate("candidate", tanh, z_c)
        c = Γ_u * c_new + Γ_f * c
        Γ_o = self.gate("o", sigmoid, z_o + self.p_o * c)
        a = Γ_o * tanh(c)
        return a, c


class CoupledLSTMCell(WithMemory):
    """An LSTM that forgets just as much as it writes: Γ_f = 1 - Γ_u.

        Γ_u  = σ(a<t-1> W_hu + x<t> W_xu + b_u)
        Γ_o  = σ(a<t-1> W_ho + x<t> W_xo + b_o)
        c~   = tanh(a<t-1> W_hc + x<t> W_xc + b_c)
        c<t> = Γ_u * c~ + (1 - Γ_u) * c<t-1>
        a<t> = Γ_o * tanh(c<t>)

    Shapes:
        x (B, I), state (a, c), both (B, H); W_x (I, 3H), W_h (H, 3H), b (3H), in the order u, o, candidate. b_u starts at
        -1, so that it too starts by remembering.

    Greff et al., "LSTM: a search space odyssey" (2017), where it is called CIFG.
    """

    name = "coupled_lstm"
    gates = ("u", "o", "candidate")

    def initial_weights(self) -> dict[str, Array | None]:
        """As for all gated cells, but for b_u = -1."""
        weights = super().initial_weights()
        if weights["b"] is not None:
            weights["b"][: self.hidden_size] = -1
        return weights

    def step(self, xW: Any, state: Any, seen: Any = None) -> Any:
        """The equations of the class."""
        a, c = state
        seen = a if seen is None else seen
        Γ_u, Γ_o, c_new = self.gated(seen @ self.W_h + xW, u=sigmoid, o=sigmoid, candidate=tanh)  # (B, H) each
        c = Γ_u * c_new + (1 - Γ_u) * c
        a = Γ_o * tanh(c)
        return a, c


class LayerNormLSTMCell(WithMemory):
    """An LSTM whose sums are normalised, so that their scale stays the same over time.

        z    = LN(a<t-1> W_h; g_h) + LN(x<t> W_x; g_x) + b          cut into z_u, z_f, z_o, z_c
        Γ_u  = σ(z_u),   Γ_f = σ(z_f),   Γ_o = σ(z_o),   c~ = tanh(z_c)
        c<t> = Γ_u * c~ + Γ_f * c<t-1>
        a<t> = Γ_o * tanh(LN(c<t>; g_c) + b_c)

    LN(v; g) = g * (v - mean(v)) / sqrt(var(v) + eps), over all 4H sums of a row, or the H of the memory. The paper's shifts
    of the two first norms and the bias of the gates add up to one b here.

    Args:
        input_size, hidden_size: I and H.
        bias: whether there are b and b_c.
        eps: keeps a row without variance from a division by zero.

    Shapes:
        as for `LSTMCell`, and g_h, g_x (4H), g_c, b_c (H).

    J. Ba, J. Kiros & G. Hinton, "Layer normalization" (2016), equations 20 to 22.
    """

    name = "layer_norm_lstm"
    g_h: tg.Parameter
    g_x: tg.Parameter
    g_c: tg.Parameter
    b_c: tg.Parameter | None

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, eps: float = 1e-5) -> None:
        self.eps = eps
        super().__init__(input_size, hidden_size, bias)

    def initial_weights(self) -> dict[str, Array | None]:
        """As for all gated cells; ones for the gains, zeros for b_c."""
        H = self.hidden_size
        gains = {name: init.constant((n,), 1.0) for name, n in dict(g_h=4 * H, g_x=4 * H, g_c=H).items()}
        return super().initial_weights() | gains | dict(b_c=init.zeros((H,)) if self.bias else None)

    def project(self, x: Any) -> Any:
        """LN(x<t> W_x; g_x) + b: (..., I) -> (..., 4H)."""
        return layer_norm(x @ self.W_x, self.g_x, self.b, eps=self.eps)

    def step(self, xW: Any, state: Any, seen: Any = None) -> Any:
        """The equations of the class."""
        a, c = state
        seen = a if seen is None else seen
        z = layer_norm(seen @ self.W_h, self.g_h, eps=self.eps) + xW  # (B, 4H)
        Γ_u, Γ_f, Γ_o, c_new = self.gated(z, u=sigmoid, f=sigmoid, o=sigmoid, candidate=tanh)  # (B, H) each
        c = Γ_u * c_new + Γ_f * c
        a = Γ_o * tanh(layer_norm(c, self.g_c, self.b_c, eps=self.eps))
        return a, c
