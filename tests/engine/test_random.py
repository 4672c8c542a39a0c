"""The engine's generator: seeded, stored, replayed, and one for all."""

import json
import threading

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import random


@pytest.fixture(autouse=True)
def _as_it_was():
    before = random.get_state()
    yield
    random.set_state(before)


def draw():
    return random.generator().normal(size=3).tolist()


def test_a_seed_fixes_all_that_follows():
    tg.manual_seed(3)
    first = draw(), draw()
    tg.manual_seed(3)
    assert (draw(), draw()) == first
    tg.manual_seed(4)
    assert draw() != first[0]


def test_seeding_keeps_the_generator_that_others_hold():
    held = random.generator()
    tg.manual_seed(3)
    expected = draw()
    tg.manual_seed(3)
    assert held.normal(size=3).tolist() == expected


def test_a_state_survives_json_and_draws_on():
    tg.manual_seed(0)
    random.generator().integers(10, dtype=np.uint32)  # leaves half a draw behind, which is part of the state
    written = json.dumps(random.get_state())
    expected = random.generator().integers(10, size=5, dtype=np.uint32).tolist(), draw()
    random.set_state(json.loads(written))
    assert (random.generator().integers(10, size=5, dtype=np.uint32).tolist(), draw()) == expected


def test_replaying_draws_again_without_moving_the_generator():
    state = random.get_state()
    first = draw()
    between = random.get_state()
    with random.replaying(state):
        assert draw() == first
        with pytest.raises(KeyError), random.replaying(between):
            raise KeyError
        draw()
    assert random.get_state() == between


def test_replaying_is_unseen_by_other_threads():
    tg.manual_seed(1)
    expected = draw()
    tg.manual_seed(1)
    elsewhere = []
    with random.replaying(np.random.PCG64(99).state):
        thread = threading.Thread(target=lambda: elsewhere.append(draw()))
        thread.start()
        thread.join()
    assert elsewhere == [expected]


@pytest.mark.parametrize("harm", [
    lambda s: None,
    lambda s: {},
    lambda s: {**s, "bit_generator": "MT19937"},
    lambda s: {**s, "state": {"state": "1", "inc": 1}},
    lambda s: {**s, "state": {"state": 1.5, "inc": 1}},
    lambda s: {**s, "state": {"state": 2**200, "inc": 1}},
    lambda s: {**s, "uinteger": 2**80},
])  # fmt: skip
def test_what_is_no_state_is_refused_and_changes_nothing(harm):
    before = random.get_state()
    with pytest.raises(ValueError, match="not the state of a generator"):
        random.set_state(harm(before))
    with pytest.raises(ValueError, match="not the state of a generator"), random.replaying(harm(before)):
        pass
    assert random.get_state() == before
