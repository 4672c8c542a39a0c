"""The document's cells differentiated by hand: an independent twin of `models`, in NumPy and nothing of ours.

One sample at a time, vectors as columns of shape (n,), weights from the left, one matrix per gate and source: W["u", "x"] is
(H, I), W["u", "h"] (H, H), b["u"] (H,). Errata applied: c<t-1>, not the candidate, is carried on (E8, E11), the LSTM's gates
read a<t-1> (E12).

Each cell is a pair of functions. Forward: (W, b, x<t>, state) -> (state, what the way back needs). Backward: the cotangents
of the state go in, those of W and b are added to `dW` and `db`, and those of x<t> and the previous state come out. Written for
each equation y = f(v) is dv = f'(v) dy; a product z = W v gives dv = W^T dz and dW = dz v^T.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

Arrays = dict[Any, Any]


def σ(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def through_sigmoid(Γ: Any, dΓ: Any) -> Any:
    return dΓ * Γ * (1 - Γ)


def through_tanh(y: Any, dy: Any) -> Any:
    return dy * (1 - y**2)


def through_products(g: str, dz: Any, x: Any, h: Any, W: Arrays, dW: Arrays, db: Arrays) -> tuple[Any, Any]:
    """z = W_gx x + W_gh h + b_g: what dz leaves at the weights of g, and (dx, dh)."""
    dW[g, "x"] += np.outer(dz, x)
    dW[g, "h"] += np.outer(dz, h)
    db[g] += dz
    return W[g, "x"].T @ dz, W[g, "h"].T @ dz


# ---- RNN: a<t> = tanh(w_aa a<t-1> + w_ax x<t> + b_a) ----------------------------------------------------------------------


def rnn(W: Arrays, b: Arrays, x: Any, state: Any) -> Any:
    (a_,) = state
    a = np.tanh(W["a", "h"] @ a_ + W["a", "x"] @ x + b["a"])
    return (a,), (x, a_, a)


def rnn_back(W: Arrays, b: Arrays, saved: Any, dstate: Any, dW: Arrays, db: Arrays) -> Any:
    (x, a_, a), (da,) = saved, dstate
    dx, da_ = through_products("a", through_tanh(a, da), x, a_, W, dW, db)
    return dx, (da_,)


# ---- GRU, the reset before the product ------------------------------------------------------------------------------------


def gru(W: Arrays, b: Arrays, x: Any, state: Any) -> Any:
    (c_,) = state
    u = σ(W["u", "h"] @ c_ + W["u", "x"] @ x + b["u"])
    r = σ(W["r", "h"] @ c_ + W["r", "x"] @ x + b["r"])
    k = np.tanh(W["c", "h"] @ (r * c_) + W["c", "x"] @ x + b["c"])
    return (u * k + (1 - u) * c_,), (x, c_, u, r, k)


def gru_back(W: Arrays, b: Arrays, saved: Any, dstate: Any, dW: Arrays, db: Arrays) -> Any:
    (x, c_, u, r, k), (dc,) = saved, dstate
    du, dk, dc_ = (k - c_) * dc, u * dc, (1 - u) * dc
    dx_c, drc = through_products("c", through_tanh(k, dk), x, r * c_, W, dW, db)
    dr, dc_ = c_ * drc, dc_ + r * drc
    dx_u, dc_u = through_products("u", through_sigmoid(u, du), x, c_, W, dW, db)
    dx_r, dc_r = through_products("r", through_sigmoid(r, dr), x, c_, W, dW, db)
    return dx_c + dx_u + dx_r, (dc_ + dc_u + dc_r,)


# ---- GRU, the reset after the product -------------------------------------------------------------------------------------


def gru_after(W: Arrays, b: Arrays, x: Any, state: Any) -> Any:
    (c_,) = state
    u = σ(W["u", "h"] @ c_ + W["u", "x"] @ x + b["u"])
    r = σ(W["r", "h"] @ c_ + W["r", "x"] @ x + b["r"])
    m = W["c", "h"] @ c_ + b["h"]
    k = np.tanh(r * m + W["c", "x"] @ x + b["c"])
    return (u * k + (1 - u) * c_,), (x, c_, u, r, m, k)


def gru_after_back(W: Arrays, b: Arrays, saved: Any, dstate: Any, dW: Arrays, db: Arrays) -> Any:
    (x, c_, u, r, m, k), (dc,) = saved, dstate
    du, dk, dc_ = (k - c_) * dc, u * dc, (1 - u) * dc
    dz = through_tanh(k, dk)
    dr, dm = m * dz, r * dz
    dW["c", "x"] += np.outer(dz, x)
    dW["c", "h"] += np.outer(dm, c_)
    db["c"] += dz
    db["h"] += dm
    dx_u, dc_u = through_products("u", through_sigmoid(u, du), x, c_, W, dW, db)
    dx_r, dc_r = through_products("r", through_sigmoid(r, dr), x, c_, W, dW, db)
    return W["c", "x"].T @ dz + dx_u + dx_r, (dc_ + W["c", "h"].T @ dm + dc_u + dc_r,)


# ---- simplified GRU: an update gate only ----------------------------------------------------------------------------------


def simplified_gru(W: Arrays, b: Arrays, x: Any, state: Any) -> Any:
    (c_,) = state
    u = σ(W["u", "h"] @ c_ + W["u", "x"] @ x + b["u"])
    k = np.tanh(W["c", "h"] @ c_ + W["c", "x"] @ x + b["c"])
    return (u * k + (1 - u) * c_,), (x, c_, u, k)


def simplified_gru_back(W: Arrays, b: Arrays, saved: Any, dstate: Any, dW: Arrays, db: Arrays) -> Any:
    (x, c_, u, k), (dc,) = saved, dstate
    dx_u, dc_u = through_products("u", through_sigmoid(u, (k - c_) * dc), x, c_, W, dW, db)
    dx_c, dc_c = through_products("c", through_tanh(k, u * dc), x, c_, W, dW, db)
    return dx_u + dx_c, ((1 - u) * dc + dc_u + dc_c,)


# ---- LSTM -----------------------------------------------------------------------------------------------------------------


def lstm(W: Arrays, b: Arrays, x: Any, state: Any) -> Any:
    a_, c_ = state
    u = σ(W["u", "h"] @ a_ + W["u", "x"] @ x + b["u"])
    f = σ(W["f", "h"] @ a_ + W["f", "x"] @ x + b["f"])
    o = σ(W["o", "h"] @ a_ + W["o", "x"] @ x + b["o"])
    k = np.tanh(W["c", "h"] @ a_ + W["c", "x"] @ x + b["c"])
    c = u * k + f * c_
    return (o * np.tanh(c), c), (x, a_, c_, u, f, o, k, c)


def lstm_back(W: Arrays, b: Arrays, saved: Any, dstate: Any, dW: Arrays, db: Arrays) -> Any:
    (x, a_, c_, u, f, o, k, c), (da, dc) = saved, dstate
    dc = dc + through_tanh(np.tanh(c), o * da)
    dz = {
        "u": through_sigmoid(u, k * dc),
        "f": through_sigmoid(f, c_ * dc),
        "o": through_sigmoid(o, np.tanh(c) * da),
        "c": through_tanh(k, u * dc),
    }
    parts = [through_products(g, dz[g], x, a_, W, dW, db) for g in dz]
    return sum(dx for dx, _ in parts), (sum(da_ for _, da_ in parts), f * dc)


# ---- through time ---------------------------------------------------------------------------------------------------------


def through_time(
    forward: Callable[..., Any], back: Callable[..., Any], W: Arrays, b: Arrays, xs: Any, initial: Any, dys: Any
) -> tuple[Any, Any, Arrays, Arrays, Any]:
    """Run a cell over xs (T, I) and back again, where dys (T, H) are the cotangents of its outputs.

    Returns:
        outputs (T, H), dxs (T, I), dW, db, and the cotangents of the initial state.
    """
    state, outputs, saved = initial, [], []
    for x in xs:
        state, needed = forward(W, b, x, state)
        outputs.append(state[0])
        saved.append(needed)
    dW: Arrays = defaultdict(float)
    db: Arrays = defaultdict(float)
    dstate, dxs = tuple(np.zeros_like(part) for part in state), []
    for needed, dy in zip(reversed(saved), reversed(dys)):
        dx, dstate = back(W, b, needed, (dstate[0] + dy, *dstate[1:]), dW, db)
        dxs.append(dx)
    return np.array(outputs), np.array(dxs[::-1]), dW, db, dstate
