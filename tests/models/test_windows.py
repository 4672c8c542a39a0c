"""Layers in the windows of `Truncated` and in segments: their steps are those of the whole sequence, unasked."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import viz
from tinygrad_seq.models import GRU, LSTM, RNN, Bidirectional, GRUCell, Recurrent
from tinygrad_seq.models.cells import parts_of

from .kinds import B, H, I, built, every_layer, inputs, weighted

STEPS = 8


def steps_on(tape):
    return sorted({entry.t for entry in tape if entry.t is not None})


def whole(kind):
    """(layer, x of STEPS steps, the axis of time)."""
    layer = built(kind)
    return layer, inputs(layer, steps=STEPS), 1 if layer.batch_first else 0


@every_layer
def test_a_window_names_the_steps_of_the_whole_sequence(kind):
    layer, x, time = whole(kind)
    for window in tg.bptt.Truncated(2, 4, axis=time)(x):
        steps = list(range(window.start, window.stop))
        (x_w,) = window
        with tg.record() as tape:
            outputs, state = layer(x_w, window.state)
            loss = weighted([outputs])
        assert steps_on(tape) == steps
        for name, parameter in layer.named_parameters():
            parts = tg.bptt.weight_gradients(loss, parameter)
            assert list(parts) == steps, name
        window.carry(state)


@pytest.mark.parametrize("kind", ["RNN batch first", "GRU reset after", "LSTM projected", "Recurrent, user's"])
def test_states_are_called_after_their_step(kind):
    layer, x, time = whole(kind)
    for window in tg.bptt.Truncated(4, axis=time)(x):
        with tg.record() as tape:
            _, state = layer(*window, window.state)
        last = window.stop - 1
        assert {entry.t for entry in tape.find(f"h<{last}>")} == {last}
        initial = "h<init>" if window.start == 0 else f"h<{window.start - 1}>"
        assert {entry.t for entry in tape.find(initial)} == {None}  # given, not computed in a step of this window
        window.carry(state)


def test_the_numbers_are_the_same_with_another_count():
    layer, x, _ = whole("LSTM")
    expected, found = [], []
    state = None
    for start in range(0, STEPS, 4):
        outputs, state = layer(x[start : start + 4], state and tuple(part.data for part in state))
        expected.append(outputs.data)
    for window in tg.bptt.Truncated(4)(x):
        outputs, state = layer(*window, window.state)
        window.carry(state)
        found.append(outputs.data)
    np.testing.assert_array_equal(found, expected)


def test_another_sequence_in_the_loop_counts_from_0():
    """A validation run between two windows, a state that was not carried, a bare array."""
    layer, x, _ = whole("GRU reset after")
    for window in tg.bptt.Truncated(4)(x):
        _, state = layer(*window, window.state)
        for other in (None, state, state.data):
            with tg.record() as tape:
                layer(x, other)
            assert steps_on(tape) == list(range(STEPS))
        window.carry(state)


@pytest.mark.parametrize("length", [3, 4])
def test_segments_of_a_layer_count_on(length):
    layer, x, _ = whole("LSTM projected")
    with tg.record() as tape:
        outputs, _ = tg.bptt.segments(layer, length)(x)
        loss = weighted([outputs])
    assert steps_on(tape) == list(range(STEPS))
    for name, parameter in layer.named_parameters():
        parts = tg.bptt.weight_gradients(loss, parameter)
        assert list(parts) == list(range(STEPS)), name
    loss.backward()
    assert all(parameter.grad.data.any() for parameter in layer.parameters())


@pytest.mark.parametrize("kind", ["LSTM", "GRU, batch first"])
def test_segments_of_a_layer_give_what_the_layer_gives(kind):
    """With lengths, a state and either order of axes: outputs, the last state and all gradients."""
    tg.manual_seed(0)
    first = "batch" in kind
    layer = (GRU(I, H, num_layers=2, batch_first=True) if first else LSTM(I, H, proj_size=2)).to(np.float64)
    lengths = [STEPS, 0, 4]
    beyond = np.arange(STEPS)[:, None] >= np.array(lengths)
    x = np.where(beyond[:, :, None], np.nan, np.random.default_rng(0).normal(size=(STEPS, 3, I)))
    x = np.swapaxes(x, 0, 1) if first else x
    state = tuple(part.data + 0.5 for part in parts_of(layer(np.nan_to_num(x))[1]))
    found = []
    for run in (layer, tg.bptt.segments(layer, 3, axis=1 if first else 0)):
        layer.zero_grad()
        outputs, last = run(x, state=state, lengths=lengths)
        weighted([outputs, *parts_of(last)]).backward()
        found.append([outputs.data, *(part.data for part in parts_of(last)), *(p.grad.data for p in layer.parameters())])
    for whole_run, by_segments in zip(*found):
        np.testing.assert_allclose(by_segments, whole_run, rtol=0, atol=1e-13)


@pytest.mark.parametrize("k2", [3, 9])
def test_windows_know_how_many_of_their_steps_are_real(k2):
    """Forward, a padded batch in windows is the padded batch."""
    layer, lengths = LSTM(I, H).to(np.float64), [STEPS, 0, 4]
    x = np.random.default_rng(0).normal(size=(STEPS, 3, I))
    found = []
    for window in tg.bptt.Truncated(3, k2)(np.where((np.arange(STEPS)[:, None] < lengths)[:, :, None], x, np.nan)):
        outputs, state = layer(*window, window.state, window.lengths(lengths))
        found.append(window.new(outputs).data)
        window.carry(state)
    whole_run, last = layer(x, lengths=lengths)
    np.testing.assert_allclose(np.concatenate(found), whole_run.data, rtol=0, atol=1e-14)
    np.testing.assert_allclose(state[1].data, last[1].data, rtol=0, atol=1e-14)


@pytest.mark.parametrize("layer", [Bidirectional(GRUCell(I, H)), Recurrent(GRUCell(I, H), reverse=True)])
def test_what_reads_from_the_end_is_no_matter_of_segments(layer):
    assert not layer.causal and RNN(I, H, 2).causal
    with pytest.raises(ValueError, match=f"{type(layer).__name__} reads from the end"):
        tg.bptt.segments(layer)


def test_a_window_is_drawn_at_its_real_steps():
    tg.manual_seed(0)
    layer, x = LSTM(I, H), np.random.default_rng(0).normal(size=(STEPS, B, I)).astype(np.float32)
    for window in tg.bptt.Truncated(4)(x):
        with tg.record() as tape:
            outputs, state = layer(*window, window.state)
            loss = (outputs * outputs).sum()
        loss.backward()
        window.carry(state)
    data = viz.draw(tape, level="cell", steps="all", weights=["W_x", "W_h"]).data
    assert data["steps"] == [4, 5, 6, 7]
    assert [node["label"] for node in data["nodes"] if node["kind"] == "cell"] == [f"c<{t}>, h<{t}>" for t in range(4, 8)]
    assert [[step["t"] for step in strip["steps"]] for strip in data["shares"]] == [[4, 5, 6, 7]] * 2


def test_windows_on_one_tape_are_drawn_side_by_side_with_their_cuts():
    tg.manual_seed(0)
    layer, x = GRU(I, H), np.random.default_rng(0).normal(size=(STEPS, B, I)).astype(np.float32)
    with tg.record() as tape:
        for window in tg.bptt.Truncated(4)(x):
            outputs, state = layer(*window, window.state)
            (outputs * outputs).sum().backward()
            window.carry(state)
    data = viz.draw(tape, level="cell", steps="all").data
    nodes = {node["id"]: node for node in data["nodes"]}
    assert data["steps"] == list(range(STEPS))
    cuts = [edge for edge in data["edges"] if edge["kind"] == "cut"]
    ends = [nodes[edge["to"]]["x"] for edge in cuts]
    at = {node["t"]: node["x"] for node in data["nodes"] if node["kind"] == "cell"}
    assert at[3] < ends[0] < at[4] < at[7] < ends[1]  # between the windows, and the last one, after all
    for edge in data["edges"]:  # to the right, or straight up: an input stands below its cell
        if edge["kind"] != "backward" and nodes[edge["from"]]["kind"] != "weight":
            (x, y), (to_x, to_y) = ([nodes[edge[end]][axis] for axis in "xy"] for end in ("from", "to"))
            assert x < to_x or (x == to_x and y < to_y), (edge["from"], edge["to"])


def test_going_backward_a_window_starts_at_its_end():
    layer = Bidirectional(GRUCell(I, H))
    x = np.random.default_rng(0).normal(size=(STEPS, B, I))
    for window in tg.bptt.Truncated(4)(x):
        with tg.record() as tape:
            _, state = layer(*window, window.state)
        window.carry(state)
    order = [entry.t for entry in tape if entry.tags.get("direction") == "backward" and entry.t is not None]
    assert list(dict.fromkeys(order)) == [7, 6, 5, 4]
    assert len(tape.find("h<init>")) == 1  # of the backward direction; the forward one goes on from h<3>
