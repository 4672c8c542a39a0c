"""Who feeds a step: coins, schedules, and the network's own choice."""

import json
from itertools import pairwise
from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_seq as tg
from tinygrad_seq.models.forcing import (
    ExponentialDecay,
    InverseSigmoidDecay,
    LinearDecay,
    TeacherSchedule,
    by_teacher,
    chosen,
)

SCHEDULES = {
    "linear": lambda least: LinearDecay(50, least),
    "exponential": lambda least: ExponentialDecay(0.97, least),
    "inverse sigmoid": lambda least: InverseSigmoidDecay(12.0, least),
}
every_schedule = pytest.mark.parametrize("kind", SCHEDULES)


# ---- coins ----------------------------------------------------------------------------------------------------------------


@given(st.floats(0, 1), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32))
def test_coins_are_the_engines(p, steps, batch, seed):
    tg.manual_seed(seed)
    coins = by_teacher(p, steps, batch)
    assert coins.shape == (steps, batch) and coins.dtype == bool
    tg.manual_seed(seed)
    np.testing.assert_array_equal(by_teacher(p, steps, batch), coins)


@pytest.mark.parametrize("p", [0, 1, 0.0, 1.0])
def test_certainty_draws_nothing(p):
    before = tg.random.get_state()
    assert (by_teacher(p, 3, 4) == bool(p)).all()
    assert tg.random.get_state() == before


def test_a_coin_is_thrown_for_each_step_and_row():
    tg.manual_seed(0)
    coins = by_teacher(0.3, 400, 50)
    assert abs(coins.mean() - 0.3) < 0.01
    assert coins.mean(axis=0).std() < 0.05 and coins.mean(axis=1).std() < 0.1
    assert coins.any(axis=0).all() and not coins.all(axis=0).any()


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_no_probability_is_refused(p):
    with pytest.raises(ValueError, match=rf"from 0 to 1, not {p}"):
        by_teacher(p, 2, 2)


def test_the_networks_own_choice():
    tg.manual_seed(0)
    p = np.array([0.5, 0.2, 0.0, 0.3])
    with np.errstate(divide="ignore"):
        logits = np.tile(np.log(p), (20_000, 1))
    drawn = np.bincount(chosen(tg.tensor(logits)).data, minlength=4) / 20_000
    np.testing.assert_allclose(drawn, p, atol=0.015)
    assert drawn[2] == 0
    np.testing.assert_array_equal(chosen(logits[:3], "best").data, [0, 0, 0])
    with pytest.raises(ValueError, match='"sample" or "best", not \'worst\''):
        chosen(logits, "worst")


# ---- schedules ------------------------------------------------------------------------------------------------------------


def test_schedules_are_the_papers():
    for n in (0, 1, 7, 40):
        assert LinearDecay(40).decayed(n) == 1 - n / 40
        assert ExponentialDecay(0.9).decayed(n) == 0.9**n
        assert InverseSigmoidDecay(6.0).decayed(n) == pytest.approx(6 / (6 + exp(n / 6)), rel=1e-14)
    assert InverseSigmoidDecay(20.0).decayed(20 * log(20)) == pytest.approx(0.5)


@every_schedule
@given(least=st.floats(0, 1))
def test_a_schedule_falls_and_stays_a_probability(kind, least):
    schedule = SCHEDULES[kind](least)
    seen = []
    for _ in range(120):
        seen.append(float(schedule))
        schedule.step()
    assert all(max(least, 0) <= p <= 1 for p in seen)
    assert all(later <= earlier for earlier, later in pairwise(seen))
    schedule.n = 10**9
    assert float(schedule) == least


@every_schedule
def test_a_schedule_goes_on_where_it_stopped(kind):
    schedule, other = SCHEDULES[kind](0.1), SCHEDULES[kind](0.3)
    for _ in range(9):
        schedule.step()
    other.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    assert (other.n, other.least, float(other)) == (9, 0.1, float(schedule))


def test_the_state_of_another_schedule_is_refused():
    schedule = LinearDecay(10)
    own = schedule.state_dict()
    for state in (ExponentialDecay(0.5).state_dict(), {}, own | {"n": "3"}, own | {"more": 1}):
        with pytest.raises(ValueError, match="this is no state of LinearDecay"):
            schedule.load_state_dict(state)
    assert schedule.n == 0


@pytest.mark.parametrize("build", [
    lambda: LinearDecay(0),
    lambda: ExponentialDecay(1.0),
    lambda: ExponentialDecay(0.0),
    lambda: InverseSigmoidDecay(0.5),
    lambda: LinearDecay(3, least=-0.1),
])  # fmt: skip
def test_what_is_no_schedule_is_refused(build):
    with pytest.raises(ValueError, match=r"at least 1|between 0 and 1|from 0 to 1"):
        build()


def test_a_schedule_of_ones_own():
    class Sudden(TeacherSchedule):
        def decayed(self, n):
            return float(n < 2)

    schedule = Sudden()
    assert by_teacher(schedule, 2, 2).all()
    schedule.step(), schedule.step()
    assert not by_teacher(schedule, 2, 2).any()
    with pytest.raises(NotImplementedError, match="decayed"):
        float(TeacherSchedule())
