"""The n-gram model: small cases by hand, and what must hold for any counts."""

import numpy as np
import pytest

from .scripts import script

ngrams = script("ngrams")


def test_a_bigram_by_hand():
    """0 is followed by 1, 1 and 2; 1 by 0 twice. As continuations each token has one, so the level below is uniform.

    Of counts, one is 1 and two are 2, none is 3: Kneser & Ney's discount is 1 / (1 + 2 * 2) = 0.2.
    """
    model = ngrams.NGram([[0, 1, 0, 1, 0, 2]], size=3, order=2)
    assert model.discounts[1] == (0.2, 0.2, 0.2)
    assert model.probability((), 2) == pytest.approx(1 / 3)
    assert model.probability((0,), 1) == pytest.approx((2 - 0.2) / 3 + 2 * 0.2 / 3 / 3)
    assert model.probability((0,), 2) == pytest.approx((1 - 0.2) / 3 + 2 * 0.2 / 3 / 3)
    assert model.probability((0,), 0) == pytest.approx(2 * 0.2 / 3 / 3)
    assert model.probability((1,), 0) == pytest.approx((2 - 0.2) / 2 + 0.2 / 2 / 3)


def test_a_shorter_context_counts_after_how_many_others_and_not_how_often():
    """2 stands four times, always behind 3; 1 stands twice, behind 0 and behind 3."""
    found = ngrams.levels([[3, 2, 3, 2, 3, 2, 3, 2, 0, 1, 3, 1]], order=2)
    assert found[1][3,] == {2: 4, 1: 1} and found[1][0,] == {1: 1}
    assert found[0] == {(): {2: 1, 1: 2, 3: 2, 0: 1}}


def test_what_is_saved_goes_to_the_shorter_context():
    """The same text. Discounts: 1/2 after a token (no count is 2), 1 / (1 + 2 * 2 / 2) = 1/3 without a context."""
    model = ngrams.NGram([[3, 2, 3, 2, 3, 2, 3, 2, 0, 1, 3, 1]], size=4, order=2)
    assert model.probability((), 1) == pytest.approx((2 - 1 / 3) / 6 + 4 / 3 / 6 / 4)
    assert model.probability((), 2) == pytest.approx((1 - 1 / 3) / 6 + 4 / 3 / 6 / 4)
    assert model.probability((3,), 1) == pytest.approx((1 - 1 / 2) / 5 + 2 / 2 / 5 * model.probability((), 1))
    assert model.probability((3,), 2) == pytest.approx((4 - 1 / 2) / 5 + 2 / 2 / 5 * model.probability((), 2))


def test_the_longest_context_is_counted_as_it_is_and_not_across_ends():
    assert ngrams.levels([[0, 1, 2], [0, 1, 2], [1]], order=3)[2] == {(0, 1): {2: 2}}


def test_discounts_by_chen_and_goodman():
    """Counts of 1, 2, 3, 4: 8, 4, 2, 1 of them. y = 8 / (8 + 2 * 4) = 1 / 2; D_k = k - (k + 1) y n_{k + 1} / n_k."""
    counts = [1] * 8 + [2] * 4 + [3] * 2 + [4]
    level = {(): ngrams.Counter(dict(enumerate(counts)))}
    assert ngrams.discounts(level) == pytest.approx((1 - 2 * 0.5 * 4 / 8, 2 - 3 * 0.5 * 2 / 4, 3 - 4 * 0.5 * 1 / 2))
    assert ngrams.discounts({(): ngrams.Counter({0: 5})}) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_add_up_to_1_after_any_context(order):
    rng = np.random.default_rng(order)
    model = ngrams.NGram([rng.integers(5, size=200) % (1 + rng.integers(6)), rng.integers(4, size=50)], size=6, order=order)
    for length in (0, 1, 2, 4, 7):
        context = tuple(rng.integers(6, size=length).tolist())
        p = [model.probability(context, token) for token in range(6)]
        assert sum(p) == pytest.approx(1, abs=1e-12)
        assert min(p) > 0


def test_bits_are_logarithms_of_what_is_read_in_order():
    model = ngrams.NGram([[0, 1, 0, 1, 0, 2]], size=3, order=2)
    expected = -np.log2([model.probability((0,), 1), model.probability((1,), 0), model.probability((0,), 2)])
    np.testing.assert_allclose(model.bits([0, 1, 0, 2]), expected)
    np.testing.assert_allclose(model.bits([0, 1, 0, 2], first=3), expected[2:])


def test_a_context_that_was_never_seen_falls_back_to_its_end():
    model = ngrams.NGram([[0, 1, 2, 0, 1, 2, 2, 1]], size=3, order=3)
    assert model.probability((0, 2), 1) != model.probability((2, 2), 1)
    assert model.probability((1, 0), 1) == model.probability((0,), 1)  # nothing has ever come after 1 0


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="order and size"):
        ngrams.NGram([[0]], size=1, order=0)
