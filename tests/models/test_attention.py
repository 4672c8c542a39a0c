"""Attention: the papers' equations, a distribution over what is real, derivatives."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.models import BahdanauAttention, LuongAttention

S, B, Q, M, A = 5, 3, 4, 2, 6

KINDS = {
    "bahdanau": lambda: BahdanauAttention(Q, M, A),
    "dot": lambda: LuongAttention(M, M, "dot"),
    "general": lambda: LuongAttention(Q, M),
    "concat": lambda: LuongAttention(Q, M, "concat"),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def made(kind):
    tg.manual_seed(0)
    return KINDS[kind]().to(np.float64)


def given(kind, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(B, M if kind == "dot" else Q)), rng.normal(size=(S, B, M))


def scores_by_hand(kind, attention, q, m):
    """One score, of a query (Q,) and a state of the memory (M,)."""
    p = {name.removeprefix("additive."): parameter.data for name, parameter in attention.named_parameters()}
    if kind == "dot":
        return q @ m
    if kind == "general":
        return q @ p["W"] @ m
    W = np.concatenate([p["W_q"], p["W_m"]])
    return np.tanh(np.concatenate([q, m]) @ W) @ p["v"]


@every_kind
def test_attention_is_its_equations(kind):
    attention, (query, memory) = made(kind), given(kind)
    context, weights = attention(query, attention.remember(memory))
    assert context.shape == (B, M) and weights.shape == (S, B)
    for b in range(B):
        e = np.array([scores_by_hand(kind, attention, query[b], memory[s, b]) for s in range(S)])
        alpha = np.exp(e) / np.exp(e).sum()
        np.testing.assert_allclose(weights.data[:, b], alpha, rtol=1e-12)
        np.testing.assert_allclose(context.data[b], alpha @ memory[:, b], rtol=1e-12)


@every_kind
def test_what_is_not_real_is_not_looked_at(kind):
    attention, (query, memory) = made(kind), given(kind)
    lengths = [5, 1, 3]
    valid = tg.data.valid(lengths, S)
    padded = tg.tensor(np.where(valid[:, :, None], memory, np.nan), requires_grad=True)
    context, weights = attention(query, attention.remember(padded, valid))
    np.testing.assert_array_equal(weights.data[~valid], 0)
    np.testing.assert_allclose(weights.data.sum(axis=0), 1, rtol=1e-14)
    for b, n in enumerate(lengths):
        alone, _ = attention(query[b : b + 1], attention.remember(memory[:n, b : b + 1]))
        np.testing.assert_allclose(context.data[b], alone.data[0], rtol=1e-12)
    (context * context).sum().backward()
    assert np.isfinite(padded.grad.data).all() and not padded.grad.data[~valid].any()
    assert all(np.isfinite(p.grad.data).all() for p in attention.parameters())


@every_kind
def test_derivatives(kind):
    attention, (query, memory) = made(kind), given(kind)
    valid = tg.data.valid([5, 1, 3], S)
    tg.check_grads(lambda q, m: attention(q, attention.remember(m, valid))[0], query, memory, order=2)


@every_kind
def test_a_memory_of_some_rows(kind):
    attention, (query, memory) = made(kind), given(kind)
    rows = np.array([2, 2, 0])
    some = attention.remember(memory, tg.data.valid([5, 1, 3], S)).of_rows(rows)
    whole, _ = attention(query[[2, 2, 0]], attention.remember(memory[:, rows], tg.data.valid([3, 3, 5], S)))
    np.testing.assert_allclose(attention(query[rows], some)[0].data, whole.data, rtol=1e-14)


def test_large_scores_do_not_overflow():
    attention = LuongAttention(M, M, "dot").to(np.float64)
    context, weights = attention(np.full((1, M), 1e200), attention.remember(np.array([[[1.0, 1.0]], [[2.0, 2.0]]])))
    np.testing.assert_array_equal(weights.data[:, 0], [0, 1])
    np.testing.assert_array_equal(context.data, [[2, 2]])


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="'dot', 'general', 'concat', not 'self'"):
        LuongAttention(Q, M, "self")
    with pytest.raises(ValueError, match="as long as the memory, got 4 and 2"):
        LuongAttention(Q, M, "dot")
    with pytest.raises(tg.ShapeError, match="row 1 of the memory is empty"):
        made("general").remember(np.zeros((S, B, M)), tg.data.valid([2, 0, 1], S))
