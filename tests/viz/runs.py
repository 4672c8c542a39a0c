"""Small recurrent networks, written in operations, that the drawing tests draw. No model of ours is involved."""

import numpy as np

import tinygrad_seq as tg


def weight(name, *shape):
    rng = np.random.default_rng(sum(map(ord, name)))
    return tg.Parameter(rng.normal(size=shape) / np.sqrt(shape[0]), name=name)


def elman(T=5, loss_at_every_step=True):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(T, 2, 3)), rng.integers(0, 5, size=(T, 2))
    W_x, W_h, b, W_y = weight("W_x", 3, 4), weight("W_h", 4, 4), weight("b", 4), weight("W_y", 4, 5)
    h = tg.tensor(np.zeros((2, 4)), name="h<init>")
    loss = None
    with tg.record() as tape:
        for t in range(T):
            with tg.scope("rnn", t=t):
                h = np.tanh(tg.tensor(x[t], name=f"x<{t}>") @ W_x + h @ W_h + b)
                h.name = f"h<{t}>"
            if loss_at_every_step or t == T - 1:
                with tg.scope("loss", t=t):
                    term = tg.losses.cross_entropy(h @ W_y, y[t])
                loss = term if loss is None else loss + term
        loss.name = "L"
    return tape, loss


def lstm(T=4):
    rng = np.random.default_rng(1)
    gates = ("f", "u", "c~", "o")
    W, b = {g: weight(f"W_{g}", 7, 4) for g in gates}, {g: weight(f"b_{g}", 4) for g in gates}
    h, c = tg.tensor(np.zeros((2, 4)), name="h<init>"), tg.tensor(np.zeros((2, 4)), name="c<init>")
    with tg.record() as tape:
        for t in range(T):
            with tg.scope("lstm", t=t):
                hx = tg.concatenate([h, tg.tensor(rng.normal(size=(2, 3)), name=f"x<{t}>")], axis=1)
                gate = {}
                for g in gates:
                    with tg.scope(g):
                        gate[g] = (np.tanh if g == "c~" else tg.sigmoid)(hx @ W[g] + b[g])
                c = gate["f"] * c + gate["u"] * gate["c~"]
                c.name = f"c<{t}>"
                h = gate["o"] * np.tanh(c)
                h.name = f"h<{t}>"
        loss = (h * h).sum()
        loss.name = "L"
    return tape, loss


def two_layers(T=4):
    """Layers share a step; a skip over two steps."""
    W, U = weight("W", 3, 3), weight("U", 3, 3)
    low, high = tg.tensor(np.ones((2, 3)), name="low<init>"), tg.tensor(np.ones((2, 3)), name="high<init>")
    seen = []
    with tg.record() as tape:
        for t in range(T):
            with tg.scope("rnn", t=t, layer=0):
                low = np.tanh(low @ W)
            with tg.scope("rnn", t=t, layer=1):
                high = np.tanh(high @ U + low)
                seen.append(high)
                high = high + seen[t - 2] if t > 1 else high
        loss = high.sum()
    return tape, loss


def split_and_cut(T=4):
    """One product for all gates, and a detach before step 2."""
    W = weight("W", 3, 12)
    h, c = tg.tensor(np.ones((2, 3)), name="h<init>"), tg.tensor(np.zeros((2, 3)), name="c<init>")
    with tg.record() as tape:
        for t in range(T):
            with tg.scope("lstm", t=t):
                f, u, o, g = np.split(tg.sigmoid((h.detach() if t == 2 else h) @ W), 4, axis=1)
                c = f * c + u * g
                h = o * np.tanh(c) * (1 - f)
        loss = h.sum()
    return tape, loss


def both_directions(T=4):
    W_f, W_b, V = weight("W_f", 3, 3), weight("W_b", 3, 3), weight("V", 6, 2)
    x = [tg.tensor(np.full((2, 3), 0.1 * t), name=f"x<{t}>") for t in range(T)]
    f, b = tg.tensor(np.zeros((2, 3)), name="f<init>"), tg.tensor(np.zeros((2, 3)), name="b<init>")
    forward, backward = {}, {}
    with tg.record() as tape:
        for t in range(T):
            with tg.scope("rnn", t=t, direction="forward"):
                f = forward[t] = np.tanh(x[t] + f @ W_f)
        for t in reversed(range(T)):
            with tg.scope("rnn", t=t, direction="backward"):
                b = backward[t] = np.tanh(x[t] + b @ W_b)
        loss = tg.tensor(0.0, name="zero")
        for t in range(T):
            with tg.scope("out", t=t):
                loss = loss + (tg.concatenate([forward[t], backward[t]], axis=1) @ V).sum()
    return tape, loss


def encoder_decoder(T=3):
    """The decoder looks at every step of the encoder."""
    W, U = weight("W", 3, 3), weight("U", 3, 3)
    h = tg.tensor(np.zeros((2, 3)), name="h<init>")
    states = []
    with tg.record() as tape:
        for t in range(T):
            with tg.scope("enc", t=t, part="encoder"):
                h = np.tanh(tg.tensor(np.ones((2, 3)), name=f"x<{t}>") + h @ W)
                states.append(h)
        s = h
        for t in range(T):
            with tg.scope("dec", t=t, part="decoder"):
                read = states[0]
                for state in states[1:]:
                    read = read + state * (s * state).sum()
                s = np.tanh(s @ U + read)
        loss = s.sum()
    return tape, loss


def without_time(T=4):
    W, h = weight("W", 3, 3), tg.tensor(np.ones((2, 3)), name="x")
    with tg.record() as tape:
        for _ in range(T):
            h = np.tanh(h @ W)
        loss = h.sum()
    return tape, loss


FORWARD_ONLY = {
    "elman": elman,
    "elman, one loss": lambda T: elman(T, loss_at_every_step=False),
    "lstm": lstm,
    "two layers": two_layers,
    "split and cut": split_and_cut,
    "encoder-decoder": encoder_decoder,
    "without time": without_time,
}
ALL = FORWARD_ONLY | {"both directions": both_directions}
