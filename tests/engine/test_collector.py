"""What the garbage collector has to do with a tape: little, and nothing while a sweep or a layer runs."""

import gc

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq import models
from tinygrad_seq.tape import Node


def test_a_tape_has_no_other_objects_for_the_collector_than_its_nodes():
    W, x = tg.Parameter(np.eye(4)), tg.tensor(np.ones((2, 4)))

    def run():
        h = x
        for t in range(50):
            with tg.scope("cell", t=t):
                a, b = tg.split(h @ W, 2, axis=1)
                h = np.concatenate([np.tanh(a) - h.sum(), tg.sigmoid(b) * 2], axis=1)
        return h.sum()

    kept = run()
    gc.collect()
    before = {id(thing) for thing in gc.get_objects()}
    loss = run()
    for _ in range(3):
        gc.collect()  # which lets go of tuples that hold nothing of interest to it, the inner ones first
    grown = [thing for thing in gc.get_objects() if id(thing) not in before and thing is not before]
    nodes = [thing for thing in grown if isinstance(thing, Node)]
    scopes = 50
    assert len(nodes) > 400 and len(grown) - len(nodes) <= scopes + 10
    del kept, loss


def test_the_collector_waits_during_a_sweep_and_a_layer_and_is_as_it_was_afterwards():
    seen = []

    class Curious(tg.Module):
        hidden_size = 2

        def step(self, x, h):
            seen.append(gc.isenabled())
            return np.tanh(x + h)

    x = tg.tensor(np.ones((2, 1, 2)), requires_grad=True)
    outputs, _ = models.Recurrent(Curious())(x)
    assert seen == [False, False] and gc.isenabled()
    outputs.register_hook(lambda g: seen.append(gc.isenabled()))
    outputs.sum().backward()
    assert seen == [False] * 3 and gc.isenabled()


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with tg.collector_waiting():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_collector_is_on_again_after_an_error():
    @tg.collector_waiting()
    def failing():
        raise KeyboardInterrupt

    try:
        failing()
    except KeyboardInterrupt:
        assert gc.isenabled()
    else:
        raise AssertionError("the interrupt was lost")
