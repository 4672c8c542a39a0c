"""The document's cells differentiated by hand: an independent twin of `models`, in NumPy and nothing of ours.

One sample at a time, vectors as columns of shape (n,), weights from the left, one matrix per gate and source: W["u", "x"] is
(H, I), W["u", "h"] (H, H), b["u"] (H,). What else a cell has (peepholes, gains) is in b under the name that the cell gives it.
Errata applied: c<t-1>, not the candidate, is carried on (E8, E11), the LSTM's gates read a<t-1> (E12).

Each cell is a pair of functions. Forward: (W, b, x<t>, state) -> (state, what the way back needs). Backward: the cotangents
of the state go in, those of W and b are added to `dW` and `db`, and those of x<t> and the previous state come out. Written for
each equation y = f(v) is dv = f'(v) dy; a product z = W v gives dv = W^T dz and dW = dz v^T.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

Arrays = dict[Any, Any]


def σ(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def through_sigmoid(Γ: Any, dΓ: Any) -> Any:
    return dΓ * Γ * (1 - Γ)


def through_tanh(y: Any, dy: Any) -> Any:
    return dy * (1 - y**2)


def through_relu(y: Any, dy: Any) -> Any:
    return dy * (y > 0)


def through_softmax(y: Any, dy: Any) -> Any:
    return y * (dy - y @ dy)  # J = diag(y) - y y^T


def through_products(g: str, dz: Any, x: Any, h: Any, W: Arrays, dW: Arrays, db: Arrays) -> tuple[Any, Any]:
    """z = W_gx x + W_gh h + b_g: what dz leaves at the weights of g, and (dx, dh)."""
    dW[g, "x"] += np.outer(dz, x)
    dW[g, "h"] += np.outer(dz, h)
    db[g] += dz
    return W[g, "x"].T @ dz, W[g, "h"].T @ dz


# ---- RNN: a<t> = tanh(w_aa a<t-1> + w_ax x<t> + b_a) ----------------------------------------------------------------------


def rnn(W: Arrays, b: Arrays, x: Any, state: Any, squash: Any = np.tanh) -> Any:
    (a_,) = state
    a = squash(W["a", "h"] @ a_ + W["a", "x"] @ x + b["a"])
    return (a,), (x, a_, a)


def rnn_back(W: Arrays, b: Arrays, saved: Any, dstate: Any, dW: Arrays, db: Arrays, through: Any = through_tanh) -> Any:
    (x, a_, a), (da,) = saved, dstate
    dx, da_ = through_products("a", through(a, da), x, a_, W, dW, db)
    return dx, (da_,)


rnn_relu = partial(rnn, squash=lambda z: np.maximum(z, 0))
rnn_relu_back = partial(rnn_back, through=through_relu)


# ---- output to hidden: a<t> = tanh(W_h ŷ<t-1> + W_x x<t> + b), ŷ<t> = softmax(W_y a<t> + b_y) -----------------------------


def softmax(o: Any) -> Any:
    return np.exp(o) / np.exp(o).sum()


def output_rnn(W: Arrays, b: Arrays, x: Any, state: Any, squash: Any = softmax) -> Any:
    (y_,) = state
    a = np.tanh(W["a", "h"] @ y_ + W["a", "x"] @ x + b["a"])
    y = squash(W["W_y"] @ a + b["b_y"])
    return (y,), (x, y_, a, y)


def output_rnn_back(W: Arrays, b: Arrays, saved: Any, dstate: Any, dW: Arrays, db: Arrays, through: Any = through_softmax) -> Any:
    (x, y_, a, y), (dy,) = saved, dstate
    do = through(y, dy)
    dW["W_y"] += np.outer(do, a)
    db["b_y"] += do
    dx, dy_ = through_products("a", through_tanh(a, W["W_y"].T @ do), x, y_, W, dW, db)
    return dx, (dy_,)


output_rnn_linear = partial(output_rnn, squash=lambda o: o)
output_rnn_linear_back = partial(output_rnn_back, through=lambda y, dy: dy)
output_rnn_sigmoid = partial(output_rnn, squash=σ)
output_rnn_sigmoid_back = partial(output_rnn_back, through=through_sigmoid)


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
    m = W["c", "h"] @ c_ + b["b_h"]
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
    db["b_h"] += dm
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


# ---- LSTM with a projection: a<t> = W_p (o * tanh(c<t>)) ------------------------------------------------------------------


def projected_lstm(W: Arrays, b: Arrays, x: Any, state: Any) -> Any:
    (m, c), saved = lstm(W, b, x, state)
    return (W["W_p"] @ m, c), (*saved, m)


def projected_lstm_back(W: Arrays, b: Arrays, saved: Any, dstate: Any, dW: Arrays, db: Arrays) -> Any:
    (*inner, m), (da, dc) = saved, dstate
    dW["W_p"] += np.outer(da, m)
    return lstm_back(W, b, inner, (W["W_p"].T @ da, dc), dW, db)


# ---- LSTM with peepholes: u and f see c<t-1>, o sees c<t> -----------------------------------------------------------------


def peephole_lstm(W: Arrays, b: Arrays, x: Any, state: Any) -> Any:
    a_, c_ = state
    u = σ(W["u", "h"] @ a_ + W["u", "x"] @ x + b["p_u"] * c_ + b["u"])
    f = σ(W["f", "h"] @ a_ + W["f", "x"] @ x + b["p_f"] * c_ + b["f"])
    k = np.tanh(W["c", "h"] @ a_ + W["c", "x"] @ x + b["c"])
    c = u * k + f * c_
    o = σ(W["o", "h"] @ a_ + W["o", "x"] @ x + b["p_o"] * c + b["o"])
    return (o * np.tanh(c), c), (x, a_, c_, u, f, o, k, c)


def peephole_lstm_back(W: Arrays, b: Arrays, saved: Any, dstate: Any, dW: Arrays, db: Arrays) -> Any:
    (x, a_, c_, u, f, o, k, c), (da, dc) = saved, dstate
    dz = {"o": through_sigmoid(o, np.tanh(c) * da)}
    dc = dc + through_tanh(np.tanh(c), o * da) + b["p_o"] * dz["o"]
    dz |= {"u": through_sigmoid(u, k * dc), "f": through_sigmoid(f, c_ * dc), "c": through_tanh(k, u * dc)}
    for g, seen in (("u", c_), ("f", c_), ("o", c)):
        db[f"p_{g}"] += dz[g] * seen
    parts = [through_products(g, dz[g], x, a_, W, dW, db) for g in dz]
    dc_ = f * dc + b["p_u"] * dz["u"] + b["p_f"] * dz["f"]
    return sum(dx for dx, _ in parts), (sum(da_ for _, da_ in parts), dc_)


# ---- LSTM with coupled gates: f = 1 - u -----------------------------------------------------------------------------------


def coupled_lstm(W: Arrays, b: Arrays, x: Any, state: Any) -> Any:
    a_, c_ = state
    u = σ(W["u", "h"] @ a_ + W["u", "x"] @ x + b["u"])
    o = σ(W["o", "h"] @ a_ + W["o", "x"] @ x + b["o"])
    k = np.tanh(W["c", "h"] @ a_ + W["c", "x"] @ x + b["c"])
    c = u * k + (1 - u) * c_
    return (o * np.tanh(c), c), (x, a_, c_, u, o, k, c)


def coupled_lstm_back(W: Arrays, b: Arrays, saved: Any, dstate: Any, dW: Arrays, db: Arrays) -> Any:
    (x, a_, c_, u, o, k, c), (da, dc) = saved, dstate
    dc = dc + through_tanh(np.tanh(c), o * da)
    dz = {
        "u": through_sigmoid(u, (k - c_) * dc),
        "o": through_sigmoid(o, np.tanh(c) * da),
        "c": through_tanh(k, u * dc),
    }
    parts = [through_products(g, dz[g], x, a_, W, dW, db) for g in dz]
    return sum(dx for dx, _ in parts), (sum(da_ for _, da_ in parts), (1 - u) * dc)


# ---- LSTM with normalised sums --------------------------------------------------------------------------------------------

EPS = 1e-5


def normalised(v: Any) -> tuple[Any, Any]:
    """n = (v - mean v) / s with s^2 = var v + eps; and s."""
    s = np.sqrt(v.var() + EPS)
    return (v - v.mean()) / s, s


def through_normalised(n: Any, s: Any, dn: Any) -> Any:
    """dn_j/dv_i = (δ_ij - 1/N - n_i n_j / N) / s: the mean moves with v_i, and s as ds/dv_i = n_i / N."""
    return (dn - dn.mean() - n * (n @ dn) / len(n)) / s


def layer_norm_lstm(W: Arrays, b: Arrays, x: Any, state: Any) -> Any:
    a_, c_ = state
    n_h, s_h = normalised(np.concatenate([W[g, "h"] @ a_ for g in "ufoc"]))
    n_x, s_x = normalised(np.concatenate([W[g, "x"] @ x for g in "ufoc"]))
    z = b["g_h"] * n_h + b["g_x"] * n_x + np.concatenate([b[g] for g in "ufoc"])
    z_u, z_f, z_o, z_c = np.split(z, 4)
    u, f, o, k = σ(z_u), σ(z_f), σ(z_o), np.tanh(z_c)
    c = u * k + f * c_
    n_c, s_c = normalised(c)
    q = np.tanh(b["g_c"] * n_c + b["b_c"])
    return (o * q, c), (x, a_, c_, u, f, o, k, n_h, s_h, n_x, s_x, n_c, s_c, q)


def layer_norm_lstm_back(W: Arrays, b: Arrays, saved: Any, dstate: Any, dW: Arrays, db: Arrays) -> Any:
    (x, a_, c_, u, f, o, k, n_h, s_h, n_x, s_x, n_c, s_c, q), (da, dc) = saved, dstate
    dq = through_tanh(q, o * da)
    db["b_c"] += dq
    db["g_c"] += dq * n_c
    dc = dc + through_normalised(n_c, s_c, b["g_c"] * dq)
    dz = [through_sigmoid(u, k * dc), through_sigmoid(f, c_ * dc), through_sigmoid(o, q * da), through_tanh(k, u * dc)]
    for g, part in zip("ufoc", dz):
        db[g] += part
    back = {}
    for source, v, n, s in (("h", a_, n_h, s_h), ("x", x, n_x, s_x)):
        db[f"g_{source}"] += np.concatenate(dz) * n
        sums = np.split(through_normalised(n, s, b[f"g_{source}"] * np.concatenate(dz)), 4)
        for g, part in zip("ufoc", sums):
            dW[g, source] += np.outer(part, v)
        back[source] = sum(W[g, source].T @ part for g, part in zip("ufoc", sums))
    return back["x"], (back["h"], f * dc)


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
