"""Every cell equals its equations differentiated by hand (`cells_by_hand.py`), through time, to 1e-10."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.models.cells import parts_of

from . import cells_by_hand as by_hand
from .kinds import CELLS, B, H, I, T, a_state, make

TWINS = {  # the twin's two functions, its names for the columns, and for what else there is
    "rnn": (by_hand.rnn, by_hand.rnn_back, "a", ()),
    "rnn without bias": (by_hand.rnn, by_hand.rnn_back, "a", ()),
    "rnn relu": (by_hand.rnn_relu, by_hand.rnn_relu_back, "a", ()),
    "output rnn": (by_hand.output_rnn, by_hand.output_rnn_back, "a", ("W_y", "b_y")),
    "output rnn, linear": (by_hand.output_rnn_linear, by_hand.output_rnn_linear_back, "a", ("W_y", "b_y")),
    "output rnn, sigmoid": (by_hand.output_rnn_sigmoid, by_hand.output_rnn_sigmoid_back, "a", ("W_y", "b_y")),
    "gru": (by_hand.gru, by_hand.gru_back, "urc", ()),
    "gru reset after": (by_hand.gru_after, by_hand.gru_after_back, "urc", ("b_h",)),
    "gru reset after, without bias": (by_hand.gru_after, by_hand.gru_after_back, "urc", ("b_h",)),
    "simplified gru": (by_hand.simplified_gru, by_hand.simplified_gru_back, "uc", ()),
    "lstm": (by_hand.lstm, by_hand.lstm_back, "ufoc", ()),
    "lstm projected": (by_hand.projected_lstm, by_hand.projected_lstm_back, "ufoc", ("W_p",)),
    "peephole lstm": (by_hand.peephole_lstm, by_hand.peephole_lstm_back, "ufoc", ("p_u", "p_f", "p_o")),
    "coupled lstm": (by_hand.coupled_lstm, by_hand.coupled_lstm_back, "uoc", ()),
    "layer norm lstm": (by_hand.layer_norm_lstm, by_hand.layer_norm_lstm_back, "ufoc", ("g_h", "g_x", "g_c", "b_c")),
    "layer norm lstm without bias": (by_hand.layer_norm_lstm, by_hand.layer_norm_lstm_back, "ufoc", ("g_h", "g_x", "g_c", "b_c")),
}


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def arrays_of(cell, kind, pick):
    """(W, b) of the twin: what `pick` takes from each parameter, laid out as the twin has it; zeros for a missing bias."""
    _, _, gates, others = TWINS[kind]
    matrices = {"x": pick(cell.W_x), "h": pick(cell.W_h)}
    W = {(g, s): block.T for s, array in matrices.items() for g, block in zip(gates, np.split(array, len(gates), axis=1))}
    b = dict(zip(gates, np.zeros((len(gates), cell.W_x.shape[1] // len(gates)))))
    if cell.b is not None:
        b = dict(zip(gates, np.split(pick(cell.b), len(gates))))
    for name in others:
        parameter = getattr(cell, name)
        (W if name[0] == "W" else b)[name] = np.zeros(H) if parameter is None else pick(parameter).T
    return W, b


@pytest.mark.parametrize("kind", TWINS)
def test_a_cell_is_its_equations_differentiated_by_hand(kind):
    forward, back, _, _ = TWINS[kind]
    cell, rng = make(kind), np.random.default_rng(1)
    x, initial = rng.normal(size=(T, B, I)), parts_of(a_state(cell, rng))
    leaves, x_leaf = [tg.tensor(part.data, requires_grad=True) for part in initial], tg.tensor(x, requires_grad=True)
    state, outputs = (tuple(leaves) if len(leaves) > 1 else leaves[0]), []
    for t in range(T):
        state = cell(x_leaf[t], state)
        outputs.append(parts_of(state)[0])
    y = tg.stack(outputs)
    dy = rng.normal(size=y.shape)
    (y * dy).sum().backward()

    W, b = arrays_of(cell, kind, lambda parameter: parameter.data)
    total = {}
    for row in range(B):
        ys, dxs, dW, db, dstate = by_hand.through_time(
            forward, back, W, b, x[:, row], tuple(part.data[row] for part in initial), dy[:, row]
        )
        close(y.data[:, row], ys)
        close(x_leaf.grad.data[:, row], dxs)
        for leaf, expected in zip(leaves, dstate):
            close(leaf.grad.data[row], expected)
        for key, term in (*dW.items(), *db.items()):
            total[key] = total.get(key, 0) + term
    dW, db = arrays_of(cell, kind, lambda parameter: parameter.grad.data)
    missing = {key for key in (*W, *b) if key not in total}
    assert not missing
    for key, found in (dW | db).items():
        if key in W or cell.bias or key[:2] in ("g_", "p_"):
            close(found, total[key])


def test_no_cell_is_without_a_twin():
    assert TWINS.keys() == CELLS.keys()


def test_a_twin_notices_a_wrong_derivative():
    """The comparison fails where it must: with the candidate carried on instead of the state (erratum E8)."""

    def printed(W, b, x, state):
        _, (x, c_, u, r, k) = by_hand.gru(W, b, x, state)
        return (u * k + (1 - u) * k,), (x, c_, u, r, k)

    cell, rng = make("gru"), np.random.default_rng(2)
    W, b = arrays_of(cell, "gru", lambda parameter: parameter.data)
    x, c = rng.normal(size=I), rng.normal(size=H)
    assert np.abs(printed(W, b, x, (c,))[0][0] - cell(x, c).data).max() > 1e-3
    close(by_hand.gru(W, b, x, (c,))[0][0], cell(x, c).data)


# ---- the document's words -------------------------------------------------------------------------------------------------


def test_the_gates_do_what_the_document_says():
    """Errata E9 and E10: with its update gate at 0 a GRU copies, with both gates at 1 it is the basic RNN."""
    cell, rng = make("gru"), np.random.default_rng(6)
    x, c = rng.normal(size=(B, I)), rng.normal(size=(B, H))

    def with_gates(u, r):
        return cell.b.overwrite(np.concatenate([np.full(H, u), np.full(H, r), np.zeros(H)])) or cell(x, c).data

    np.testing.assert_allclose(with_gates(-1e3, 0), c, rtol=0, atol=1e-14)
    basic = np.tanh(c @ cell.W_h.data[:, 2 * H :] + x @ cell.W_x.data[:, 2 * H :])
    np.testing.assert_allclose(with_gates(1e3, 1e3), basic, rtol=0, atol=1e-14)


def test_with_the_target_as_its_state_the_output_cell_needs_no_loop():
    cell, rng = make("output rnn"), np.random.default_rng(3)
    x, y = rng.normal(size=(T, B, I)), rng.dirichlet(np.ones(H), size=(T, B))
    forced = np.concatenate([np.zeros((1, B, H)), y[:-1]])
    at_once = cell(x, forced)
    np.testing.assert_allclose(at_once.data, [cell(x[t], forced[t]).data for t in range(T)], rtol=0, atol=1e-14)
    tangents = np.zeros_like(y)
    tangents[0] = 1
    moved = tg.jvp(lambda y: cell(x, tg.concatenate([np.zeros((1, B, H)), y[:-1]])), (y,), (tangents,))[1].data
    assert np.abs(moved[1]).max() > 1e-3
    assert not moved[2:].any()  # the past is cut off
