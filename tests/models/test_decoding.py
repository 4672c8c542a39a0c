"""Decoding, on small networks whose every sequence can be tried out: what is found is what is there."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_seq as tg
from tinygrad_seq.models.decoding import beam_search, greedy, penalty, sample

H = 3


class Network:
    """A random recurrent network over V tokens, the last of which may mean the end. Its state is a nested structure."""

    def __init__(self, seed, V, batch, scale=2.0):
        rng = np.random.default_rng(seed)
        self.V, self.batch = V, batch
        self.E, self.A, self.W = (scale * rng.normal(size=shape) for shape in ((V, H), (H, H), (H, V)))
        self.state = {"h": rng.normal(size=(batch, H)), "past": (tg.tensor(np.zeros((batch, 1))), None)}
        self.start = rng.integers(0, V, batch)

    def __call__(self, tokens, state):
        h = np.tanh(state["h"] @ self.A + self.E[tokens])
        logits = h @ self.W
        count, nothing = state["past"]
        log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return log_p, {"h": h, "past": (count + 1, nothing)}

    @property
    def given(self):
        return self, self.state, self.start

    def log_probability(self, row, sequence):
        """Of one sequence, by reading it from the start: teacher forcing."""
        total, h, token = 0.0, self.state["h"][row : row + 1], self.start[row]
        for following in sequence:
            log_p, state = self(np.array([token]), {"h": h, "past": (0, None)})
            total, h, token = total + log_p[0, following], state["h"], following
        return total

    def all_sequences(self, row, T, end):
        """{tokens, the end included: log-probability} of everything that can be written in T steps."""
        found = {}
        for n in range(1, T + 1):
            for sequence in product(range(self.V), repeat=n):
                if end in sequence[:-1] or (n < T and sequence[-1] != end):
                    continue
                found[sequence] = self.log_probability(row, sequence)
        return found


networks = st.builds(Network, st.integers(0, 10**6), st.integers(2, 4), st.integers(1, 3))
lengths = st.integers(1, 5)


def spelled(hypothesis, end):
    """Its tokens, with the end if it has ended."""
    return (*hypothesis.tokens.tolist(), *([end] if hypothesis.ended else []))


def same(one, other):
    assert one.tokens.tolist() == other.tokens.tolist() and one.ended == other.ended
    np.testing.assert_allclose(one.log_probability, other.log_probability, rtol=0, atol=1e-12)


# ---- greedy and sampling --------------------------------------------------------------------------------------------------


@given(networks, lengths, st.booleans())
def test_greedy_takes_the_most_probable_token_at_each_step(network, T, ends):
    end = network.V - 1 if ends else None
    found = greedy(*network.given, T, end)
    assert len(found) == network.batch
    for row, hypothesis in enumerate(found):
        h, token, expected = network.state["h"][row], network.start[row], []
        while len(expected) < T and (not expected or expected[-1] != end):
            h = np.tanh(h @ network.A + network.E[token])
            token = int((h @ network.W).argmax())
            expected.append(token)
        assert spelled(hypothesis, end) == tuple(expected)
        assert hypothesis.ended == (ends and expected[-1] == end)
        assert hypothesis.tokens.dtype == np.int64 and end not in hypothesis.tokens
        np.testing.assert_allclose(hypothesis.log_probability, network.log_probability(row, expected), atol=1e-12)
        assert hypothesis.score == hypothesis.log_probability


@given(networks, lengths, st.integers(0, 10**6))
def test_a_sample_of_the_best_token_alone_is_greedy(network, T, seed):
    end = network.V - 1
    expected = greedy(*network.given, T, end)
    tg.manual_seed(seed)
    for options in (dict(top_k=1), dict(temperature=0), dict(temperature=1e-12), dict(temperature=0.5, top_k=1)):
        for one, other in zip(sample(*network.given, T, end, **options), expected):
            same(one, other)


@given(networks, lengths, st.integers(1, 4), st.integers(0, 10**6))
def test_a_sample_is_among_the_k_best_and_can_be_repeated(network, T, k, seed):
    end = network.V - 1
    runs = []
    for _ in range(2):
        tg.manual_seed(seed)
        runs.append(sample(*network.given, T, end, temperature=1.5, top_k=k))
    for row, (one, other) in enumerate(zip(*runs)):
        same(one, other)
        written = spelled(one, end)
        np.testing.assert_allclose(one.log_probability, network.log_probability(row, written), atol=1e-12)
        for n in range(len(written)):
            scores = [network.log_probability(row, [*written[:n], token]) for token in range(network.V)]
            assert sum(score > scores[written[n]] for score in scores) < k
    by_name = sample(*network.given, T, end, temperature=1.5, top_k=k, rng=np.random.default_rng(seed))
    for one, other in zip(by_name, runs[0]):
        same(one, other)


@pytest.mark.parametrize(("options", "expected"), [
    ({},                                  [0.5, 0.25, 0.15, 0.1, 0.0]),
    (dict(temperature=0.5),               [0.72463768, 0.18115942, 0.06521739, 0.02898551, 0.0]),      # squared
    (dict(top_k=2),                       [2 / 3, 1 / 3, 0, 0, 0]),
    (dict(top_k=2, temperature=0.5),      [0.8, 0.2, 0, 0, 0]),
    (dict(top_k=99),                      [0.5, 0.25, 0.15, 0.1, 0.0]),
])  # fmt: skip
def test_tokens_are_drawn_by_their_probability(options, expected):
    with np.errstate(divide="ignore"):
        log_p = np.log([0.5, 0.25, 0.15, 0.1, 0.0])
    tg.manual_seed(0)
    N = 20_000
    found = sample(lambda tokens, state: (np.tile(log_p, (N, 1)), state), (), np.zeros(N, int), 1, **options)
    drawn = np.bincount([hypothesis.tokens[0] for hypothesis in found], minlength=5) / N
    np.testing.assert_allclose(drawn, expected, atol=0.015)
    assert not drawn[np.array(expected) == 0].any()


# ---- beam search ----------------------------------------------------------------------------------------------------------


@given(networks, lengths, st.booleans(), st.floats(0, 2))
def test_a_beam_of_one_is_greedy(network, T, ends, alpha):
    end = network.V - 1 if ends else None
    for (one,), other in zip(beam_search(*network.given, T, end, beam=1, length_penalty=alpha), greedy(*network.given, T, end)):
        same(one, other)


@settings(max_examples=40)
@given(st.data(), st.integers(2, 3), st.integers(1, 3), st.booleans(), st.sampled_from([0.0, 0.6, 2.0]))
def test_a_beam_that_is_wide_enough_finds_all_there_is(data, V, T, ends, alpha):
    network, end = Network(data.draw(st.integers(0, 10**6)), V, data.draw(st.integers(1, 2))), V - 1 if ends else None
    found = beam_search(*network.given, T, end, beam=V**T, length_penalty=alpha)
    for row, hypotheses in enumerate(found):
        everything = network.all_sequences(row, T, end)
        assert {spelled(each, end) for each in hypotheses} == everything.keys()
        for each in hypotheses:
            np.testing.assert_allclose(each.log_probability, everything[spelled(each, end)], atol=1e-12)
        best = max(log_p / penalty(len(sequence), alpha) for sequence, log_p in everything.items())
        np.testing.assert_allclose(hypotheses[0].score, best, rtol=1e-12, atol=1e-12)
        if end is not None:
            assert abs(sum(np.exp(each.log_probability) for each in hypotheses) - 1) < 1e-12


@given(networks, lengths, st.integers(1, 6), st.booleans(), st.floats(0, 2))
def test_what_a_beam_finds_is_sorted_distinct_and_scored_by_the_network(network, T, beam, ends, alpha):
    end = network.V - 1 if ends else None
    found = beam_search(*network.given, T, end, beam=beam, length_penalty=alpha)
    assert len(found) == network.batch
    for row, hypotheses in enumerate(found):
        assert 1 <= len(hypotheses) <= beam
        assert len({spelled(each, end) for each in hypotheses}) == len(hypotheses)
        scores = [each.score for each in hypotheses]
        assert scores == sorted(scores, reverse=True)
        for each in hypotheses:
            written = spelled(each, end)
            assert each.ended or len(written) == T
            np.testing.assert_allclose(each.log_probability, network.log_probability(row, written), atol=1e-12)
            np.testing.assert_allclose(each.score, each.log_probability / ((5 + len(written)) / 6) ** alpha, rtol=1e-12)
    some = beam_search(*network.given, T, end, beam=beam, length_penalty=alpha, n_best=1)
    assert [spelled(each, end) for (each,) in some] == [spelled(each[0], end) for each in found]


@given(networks, lengths, st.integers(1, 4))
def test_a_row_is_searched_as_if_it_were_alone(network, T, beam):
    end = network.V - 1
    found = beam_search(*network.given, T, end, beam=beam)
    for row in range(network.batch):
        rows = slice(row, row + 1)
        state = {"h": network.state["h"][rows], "past": (network.state["past"][0][rows], None)}
        (alone,) = beam_search(network, state, network.start[rows], T, end, beam=beam)
        assert len(alone) == len(found[row])
        for one, other in zip(alone, found[row]):
            same(one, other)


def test_a_wider_beam_finds_what_greedy_misses():
    """The best first token leads to nothing good: 0.6 · 0.5 against 0.4 · 0.9."""
    p = np.array([[0.6, 0.4, 0.0], [0.5, 0.5, 0.0], [0.0, 0.1, 0.9]])  # rows: after the start, after 0, after 1
    with np.errstate(divide="ignore"):
        table = np.log([p[1], p[2], p[0]])  # token 2 is the start
    step = lambda tokens, state: (table[tokens], state)
    ((best, second),) = beam_search(step, (), [2], 2, beam=2)
    assert best.tokens.tolist() == [1, 2] and np.exp(best.log_probability) == pytest.approx(0.36)
    assert second.tokens.tolist() == [0, 0] and np.exp(second.log_probability) == pytest.approx(0.3)
    assert greedy(step, (), [2], 2)[0].tokens.tolist() == [0, 0]


def test_the_length_penalty_is_the_papers_and_prefers_longer_ones():
    assert penalty(1, 0.7) == 1.0 and penalty(7, 1.0) == 2.0 and penalty(100, 0.0) == 1.0
    log_p = np.log([[0.7, 0.3], [0.7, 0.3]])  # token 1 ends: the empty sequence is the most probable of all
    step = lambda tokens, state: (log_p[tokens], state)
    assert len(beam_search(step, (), [0], 4, 1, beam=16)[0][0].tokens) == 0
    assert len(beam_search(step, (), [0], 4, 1, beam=16, length_penalty=2.0)[0][0].tokens) > 0


def test_equally_probable_tokens_are_taken_in_their_order():
    step = lambda tokens, state: (np.full((len(tokens), 3), -np.log(3)), state)
    assert greedy(step, (), [0, 0], 3)[1].tokens.tolist() == [0, 0, 0]
    (found,) = beam_search(step, (), [0], 2, beam=4)
    assert [each.tokens.tolist() for each in found] == [[0, 0], [0, 1], [0, 2], [1, 0]]
    assert {each.tokens[0] for each in sample(step, (), np.zeros(50, int), 1, top_k=2)} == {0, 1}


def test_nothing_is_taped():
    W = tg.Parameter(np.eye(3), name="W")
    seen = []

    def step(tokens, state):
        log_p = tg.log_softmax(tg.one_hot(tokens, 3) @ W)
        seen.append(log_p.requires_grad)
        return log_p, state + 1

    greedy(step, np.zeros((2, 1)), [0, 1], 2)
    beam_search(step, np.zeros((2, 1)), [0, 1], 2)
    assert not any(seen) and seen


# ---- what is refused ------------------------------------------------------------------------------------------------------


def even(tokens, state):
    return np.full((len(tokens), 3), -np.log(3)), state


@pytest.mark.parametrize("search", [greedy, sample, beam_search])
@pytest.mark.parametrize(("start", "length", "end", "error", "match"), [
    ([0.0],  3, None, TypeError,     r"integers \(B,\), not float32"),
    ([[0]],  3, None, TypeError,     r"of shape \(1, 1\)"),
    ([],     3, None, TypeError,     r"of shape \(0,\)"),
    ([0],    0, None, ValueError,    r"max_length is at least 1, not 0"),
    ([0],    3, 3,    IndexError,    r"the token 3 that ends a sequence is outside of 0 to 2"),
])  # fmt: skip
def test_what_cannot_be_decoded_is_refused(search, start, length, end, error, match):
    with pytest.raises(error, match=match):
        search(even, (), start, length, end)


@pytest.mark.parametrize("search", [greedy, sample, beam_search])
@pytest.mark.parametrize(("log_p", "error", "match"), [
    (lambda n: np.zeros(n),             tg.ShapeError,      r"log-probabilities \(\d, V\) for as many tokens"),
    (lambda n: np.zeros((n + 1, 3)),    tg.ShapeError,      r"not the shape \(\d, 3\)"),
    (lambda n: np.full((n, 3), np.nan), FloatingPointError, r"step gave NaN for row 0"),
    (lambda n: np.full((n, 3), -np.inf), ValueError,        r"after 0 tokens no token has a probability above 0"),
])  # fmt: skip
def test_a_network_that_gives_none_is_refused(search, log_p, error, match):
    with pytest.raises(error, match=match):
        search(lambda tokens, state: (log_p(len(tokens)), state), (), [0], 2)


@pytest.mark.parametrize(("search", "options"), [
    (sample, dict(temperature=-1.0)),
    (sample, dict(temperature=float("nan"))),
    (sample, dict(top_k=0)),
    (beam_search, dict(beam=0)),
    (beam_search, dict(beam=2, n_best=3)),
    (beam_search, dict(n_best=0)),
])  # fmt: skip
def test_options_that_make_no_sense_are_refused(search, options):
    with pytest.raises(ValueError, match="at least"):
        search(even, (), [0], 2, **options)
