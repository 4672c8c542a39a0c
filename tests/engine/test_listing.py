"""Tapes to look at: recording, indexing, finding, printing, and the backward pass as events."""

import numpy as np
import pytest

import tinygrad_seq as tg


def elman(steps=3):
    """An Elman network under record; the tape, the loss, the weights and the states."""
    rng = np.random.default_rng(0)
    W = tg.Parameter(rng.normal(size=(4, 4)) * 0.5, name="W_h")
    h = tg.tensor(np.zeros((2, 4)), name="h<init>")
    states = []
    with tg.record() as tape:
        for t in range(steps):
            with tg.scope("rnn", t=t, layer=0):
                x = tg.tensor(rng.normal(size=(2, 4)), name=f"x<{t}>")
                z = h @ W
                z.name = f"z<{t}>"
                h = np.tanh(z + x)
                h.name = f"h<{t}>"
                states.append(h)
        loss = (h * h).sum()
        loss.name = "L"
    return tape, loss, W, states


def test_every_value_is_an_entry_inputs_before_their_use():
    tape, *_ = elman(2)
    assert [(e.index, e.op, e.name) for e in tape] == [
        (0, "constant", "h<init>"), (1, "leaf", "W_h"), (2, "matmul", "z<0>"), (3, "constant", "x<0>"), (4, "add", None),
        (5, "tanh", "h<0>"), (6, "matmul", "z<1>"), (7, "constant", "x<1>"), (8, "add", None), (9, "tanh", "h<1>"),
        (10, "multiply", None), (11, "sum", "L"),
    ]  # fmt: skip
    assert [e.inputs for e in tape] == [(), (), (0, 1), (), (2, 3), (4,), (5, 1), (), (6, 7), (8,), (9, 9), (10,)]


def test_entries_know_value_scope_step_shape_and_line():
    tape, loss, _, states = elman()
    entry = tape.find("h<1>")[0]
    assert (entry.t, entry.scope, entry.shape, entry.op, entry.tags) == (1, "rnn", (2, 4), "tanh", {"layer": 0})
    assert (entry.value == states[1].data).all() and entry.grad is None
    assert entry.source.startswith(__file__ + ":")
    assert tape[-1].value == loss.data and tape.entry_of(loss).index == len(tape) - 1
    assert loss in tape and tg.tensor(1.0) not in tape
    with pytest.raises(KeyError):
        tape.entry_of(tg.tensor(1.0))


@pytest.mark.parametrize("inside", [True, False])
def test_cotangents_are_kept_wherever_backward_runs(inside):
    x = tg.tensor([0.5, 1.0], requires_grad=True, name="x")
    with tg.record() as tape:
        y = np.tanh(x)
        loss = (y * y).sum()
        if inside:
            loss.backward()
    if not inside:
        loss.backward()
    assert np.allclose(tape.find("tanh")[0].grad, 2 * y.data) and np.allclose(tape.find("x")[0].grad, x.grad.data)
    assert tape[-1].grad == 1


def test_a_cotangent_that_was_never_computed_is_none_and_not_zero():
    x = tg.tensor([1.0], requires_grad=True)
    with tg.record() as tape:
        unused = x * 3
        loss = (x * 0).sum()
        constant = tg.tensor([1.0]) + 1
    loss.backward()
    assert tape.entry_of(unused).grad is None and tape.entry_of(constant).grad is None
    assert tape.entry_of(x).grad == 0


def test_recording_keeps_operations_that_need_no_gradient():
    with tg.record() as tape:
        y = tg.tensor([1.0]) + 2
        with tg.no_grad():
            z = y * 3
    assert [e.op for e in tape] == ["constant", "constant", "add", "constant", "multiply"]
    assert tape.entry_of(z).value == 9


def test_slices_keep_indices_and_at_and_find_are_exact():
    tape, *_ = elman()
    part = tape[4:8]
    assert len(part) == 4 and [e.index for e in part] == [4, 5, 6, 7] and part[0].index == 4 and part[-1].index == 7
    assert {e.t for e in tape.at(t=1)} == {1} and {e.t for e in tape.at(None)} == {None}
    assert [e.index for e in tape.find("tanh")] == [5, 9, 13]
    assert [e.index for e in tape.find("rnn", t=1)] == [e.index for e in tape.at(t=1)]
    assert len(tape.find("h<1")) == 0 and len(tape.find("")) == 0
    assert [e.name for e in tape.find("h", t=1)] == ["h<1>"] and len(tape.find("h")) == 0
    assert [e.name for e in tape[2:9].find("tanh")] == ["h<0>"]
    assert len(part.whole) == len(tape)


def test_scopes_nest_inherit_time_and_have_aliases():
    with tg.record() as tape, tg.scope("encoder", part="encoder"), tg.scope("lstm", t=2, layer=1):
        with tg.scope("u", alias=("i",)):
            y = tg.tensor([1.0], requires_grad=True) * 2
        with tg.scope("readout", time_axis=0):
            assert (y * 2).scope.time_axis == 0 and y.scope.time_axis is None
    entry = tape.entry_of(y)
    assert entry.scope == "encoder/lstm/u" and entry.t == 2 and entry.tags["layer"] == 1 and entry.tags["part"] == "encoder"
    assert all(entry.index in tape.find(name).indices for name in ("encoder", "lstm", "u", "i"))


def test_the_tape_of_a_loss_equals_the_recorded_one():
    recorded, loss, *_ = elman()
    walked = tg.tape(loss)
    assert [(e.op, e.name, e.inputs, e.t, e.shape) for e in walked] == [(e.op, e.name, e.inputs, e.t, e.shape) for e in recorded]


def test_the_tape_of_a_loss_shows_the_values_that_are_saved():
    x = tg.tensor(np.array([0.5]), requires_grad=True)
    loss = np.tanh(x + 1).sum()
    values = [e.value for e in tg.tape(loss)]
    assert values[0] == 0.5 and values[1] == 1 and values[2] is None and values[3] == np.tanh(1.5) and values[4] == loss.data


def test_a_freed_graph_has_no_tape():
    x = tg.tensor([1.0], requires_grad=True)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(tg.FreedGraphError, match=r"record\(\)"):
        tg.tape(y)


def test_print_is_aligned_rows():
    x = tg.tensor([[1.0, 2.0]], requires_grad=True, name="x")
    with tg.scope("cell", t=3):
        y = np.tanh(x * 2)
    assert str(tg.tape(y)) == (
        "#  t  scope  name  op        inputs  shape  saved\n"
        "0            x     leaf              1×2\n"
        "1  3  cell   2     constant          ·\n"
        "2  3  cell         multiply  x 2     1×2\n"
        "3  3  cell         tanh      %2      1×2        8"
    )
    assert repr(tg.tape(y)) == "<Tape of 4 entries>"
    assert "<td>tanh</td>" in tg.tape(y)._repr_html_()


def test_html_is_escaped():
    x = tg.tensor([1.0], requires_grad=True, name="<script>&")
    assert "&lt;script&gt;&amp;" in tg.tape(x * 2)._repr_html_()


def test_bytes_saved_are_counted_once_and_weights_not_at_all():
    W = tg.Parameter(np.ones((4, 4)))
    h = np.tanh(tg.tensor(np.ones((2, 4)), requires_grad=True))  # 64 bytes, saved by tanh
    tape = tg.tape((h @ W).sum() + (h * h).sum())
    assert {e.op: e.saved_bytes for e in tape if e.saved_bytes} == {"tanh": 64}


def test_events_print_the_pullbacks_with_forward_names():
    tape, loss, *_ = elman(2)
    text = [line for event in tape.sweep(loss) for line in event.lines]
    assert "d h<0> += d z<1> @ W_h.T" in text
    assert "d W_h += h<0>.T @ d z<1>" in text
    assert "d %8 += d h<1> * (1 - h<1> * h<1>)" in text
    assert text[0].startswith("d %10 += ") and "d z<1> += d %8" in text


def test_events_of_the_tape_of_one_output_know_the_others_as_zero():
    x = tg.tensor(np.ones((2, 3)), requires_grad=True, name="x")
    loss = tg.split(x, 3, axis=1)[1].sum()
    assert [line for event in tg.tape(loss).sweep(loss) for line in event.lines] == [
        "d %1 += d %2", "d x += concatenate([0, d %1, 0], 1)",
    ]  # fmt: skip


def test_events_after_an_operand_that_was_left_out():
    x, high = tg.tensor(np.ones(2), requires_grad=True, name="x"), tg.tensor(np.ones(()), requires_grad=True, name="high")
    y = np.clip(x, None, high)
    tape = tg.tape(y)
    assert [entry.name for entry in tape] == ["x", "high", None] and tape[2].inputs == (0, 1)
    (event,) = [event for event in tape.sweep(y, np.ones(2)) if event.lines]
    assert event.lines == ["d x += where(x > high, 0, d %2)", "d high += where(x > high, d %2, 0)"]


# Pullbacks that are more than arithmetic are told as well, in operations of ours and NumPy's; indices as people write them.
TOLD = {
    "d x += d %1": lambda x: x.sum(),
    "d x += scatter(d %1, indices=((:, 1:),), shape=(2, 3))": lambda x: x[:, 1:],
    "d x += d %1[0:2]": lambda x: np.concatenate([x, x]),
    "d x += d %1[:, 0]": lambda x: np.stack([x, x], axis=1),
    "d x += d %1 * sigmoid(x)": lambda x: tg.softplus(x),
    "d x += einsum(ij->ij, d %1, optimize=True)": lambda x: np.einsum("ij->ij", x),
    "d %1 += d %2[..., None, None] * cofactors(%1)": lambda x: np.linalg.det(x[:, :2]),
}


@pytest.mark.parametrize("line", TOLD)
def test_how_a_pullback_is_told(line):
    x = tg.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True, name="x")
    y = TOLD[line](x)
    assert line in [line for event in tg.tape(y).sweep(y, np.ones(y.shape)) for line in event.lines]


def hoisted(T=4):
    """A projection over all of time, with weights as PyTorch lays them out, and T steps; the tape and the loss."""
    rng = np.random.default_rng(0)
    W, U = (tg.Parameter(rng.normal(size=(T, T)) * 0.5, name=name) for name in "WU")
    h = tg.tensor(np.zeros((2, T)))
    with tg.record() as tape:
        with tg.scope("input", time_axis=0):
            xw = tg.tensor(rng.normal(size=(T, 2, T))) @ W.T
            xw.name = "xw"
        for t in range(T):
            with tg.scope("rnn", t=t):
                h = np.tanh(xw[t] + h @ U)
        loss = (h * h).sum()
    loss.backward()
    return tape


def test_an_operation_over_all_of_time_has_an_entry_at_each_step():
    tape = hoisted()
    whole = tape.find("xw")[0]
    assert whole.t is None and whole.shape == (4, 2, 4)
    for t in range(4):
        (part,) = tape.find("xw", t=t)
        assert part.index == whole.index and (part.t, part.shape) == (t, (2, 4))
        assert (part.value == whole.value[t]).all() and (part.grad == whole.grad[t]).all()
        assert tape.at(t)[0].t == t and {entry.t for entry in tape.at(t)[:]} == {t} and str(t) in str(tape.at(t)).split("\n")[1]
    assert len(tape.find("xw", t=4)) == 0 and len(tape.at(2).at(1)) == 0 and len(tape.at(2).at(2)) == len(tape.at(2))
    outside = [entry.index for entry in tape.at(None)]
    assert whole.index not in outside
    assert sorted([*outside, *{entry.index for t in range(4) for entry in tape.at(t)}]) == list(range(len(tape)))


def test_a_weight_in_a_scope_over_all_of_time_is_no_steps():
    tape = hoisted()
    transposed = tape.find("transpose")[0]
    assert transposed.index in tape.at(None).indices
    assert not any(transposed.index in tape.at(t).indices for t in range(4))


def test_a_scope_may_be_entered_again_and_a_setting_too():
    cell, quiet, x = tg.scope("cell", t=np.int64(1)), tg.no_grad(), tg.tensor([1.0], requires_grad=True)
    with cell, cell:
        assert (x * 2).scope.path == "cell/cell"
    with cell:
        y = x * 2
    assert (x * 2).scope.path == "" and y.scope.path == "cell" and type(y.scope.t) is int
    for _ in range(2):
        with quiet, quiet:
            assert not (x * 2).requires_grad
        assert (x * 2).requires_grad

    @quiet
    def doubled(x, again=True):
        return doubled(x, again=False) if again else x * 2

    assert not doubled(x).requires_grad and (x * 2).requires_grad


def test_time_axes_are_counted_from_the_front():
    with pytest.raises(ValueError, match="from the front"):
        tg.scope("input", time_axis=-1)


def test_events_give_terms_that_add_up_to_the_gradients():
    tape, loss, *_ = elman()
    total = {}
    order = []
    for event in tape.sweep(loss):
        order.append(event.index)
        for index, term in event.terms:
            total[index] = total.get(index, 0) + term
    assert order == sorted(order, reverse=True)
    loss.backward()
    assert all(np.allclose(tape[i].grad, g, rtol=1e-12) for i, g in total.items())
    assert [e.index for e in tape.events] == order


def test_events_of_several_outputs_are_one():
    x = tg.tensor(np.ones((2, 4)), requires_grad=True, name="x")
    with tg.record() as tape:
        a, b = tg.split(x, 2, axis=1)
        a.name, b.name = "a", "b"
        loss = (a * b).sum()
    split = [event for event in tape.sweep(loss) if event.entry.op == "split"]
    assert len(split) == 1 and len(split[0].cotangent) == 2
    assert str(split[0]).startswith("d x += ") and "d a" in str(split[0]) and "d b" in str(split[0])
    assert [e.name for e in tape.find("split")] == ["a", "b"]
    loss.backward()
    assert (tape.find("b")[0].grad == 1).all()


def test_detach_is_a_cut_that_a_sweep_may_pass():
    x = tg.tensor(np.array([2.0]), requires_grad=True, name="x")
    with tg.record() as tape:
        h = x * x
        cut = h.detach()
        loss = (cut * 3 + x).sum()
    assert tape.entry_of(cut).op == "detach" and tape.entry_of(cut).inputs == (tape.entry_of(h).index,)
    plain = {e.index: e.cotangent for e in tape.sweep(loss)}
    through = {e.index: e.cotangent for e in tape.sweep(loss, through_cuts=True)}
    at_x, at_h = tape.entry_of(x).index, tape.entry_of(h).index
    assert plain[at_x] == 1 and at_h not in plain
    assert through[at_x] == 1 + 3 * 4 and through[at_h] == 3
    loss.backward()
    assert x.grad.tolist() == [1] and tape.entry_of(h).grad is None


def test_a_taped_backward_pass_is_written_on_its_own_tape():
    x = tg.tensor(np.array([0.5]), requires_grad=True)
    with tg.record() as tape:
        with tg.scope("cell", t=0):
            y = np.tanh(x)
        entries = len(tape)
        y.sum().backward(create_graph=True)
    assert len(tape) == entries + 1
    assert {e.op for e in tape.backward} >= {"multiply", "subtract"}
    assert {(e.scope, e.t) for e in tape.backward.find("subtract")} == {("cell", 0)}  # where the forward operation was


def test_recordings_nest():
    x = tg.tensor([1.0], requires_grad=True)
    with tg.record() as outer:
        y = x * 2
        with tg.record() as inner:
            z = y * 3
        z.sum().backward()
    assert [e.op for e in inner][-1] == "multiply" and len(inner) < len(outer)
    assert outer.entry_of(z).value == 6 and (outer.entry_of(y).grad == 3).all() and (inner.entry_of(z).grad == 1).all()


def test_an_outer_recording_hears_of_what_an_inner_one_recorded_when_that_is_gone():
    x = tg.tensor([1.0], requires_grad=True)
    with tg.record() as outer:
        with tg.record() as inner:
            y = x * 2
        loss = (y * y).sum()
    del inner
    loss.backward()
    assert outer.entry_of(y).grad == 4
    assert [event.index for event in outer.sweep(loss)] == [event.index for event in outer.events]


def test_an_inner_recording_that_goes_after_the_backward_pass_leaves_the_outer_one_its_graph():
    x = tg.tensor([1.0], requires_grad=True)
    with tg.record() as outer, tg.record() as inner:
        loss = (x * 2).sum()
    loss.backward()
    node = loss.node
    del inner
    assert len(list(outer.sweep(loss))) == 3
    del outer
    assert node.freed


def test_a_listing_that_goes_leaves_a_recording_its_graph():
    tape, loss, *_ = elman()
    loss.backward()
    assert len(tg.tape(loss)) == len(tape)  # a tape of its own, which is gone at once
    assert len(list(tape.sweep(loss))) == len(tape.events)


def test_recorded_weights_keep_the_values_of_the_time():
    W = tg.Parameter([1.0, 2.0], name="W")
    with tg.record() as tape:
        (W * 2).sum().backward()
    W.overwrite([7.0, 7.0])
    assert tape.find("W")[0].value.tolist() == [1, 2]


def test_a_recording_can_be_swept_after_the_backward_pass_and_frees_the_graph_when_it_goes():
    tape, loss, W, states = elman()
    before = [(event.index, event.lines) for event in tape.sweep(loss)]
    loss.backward()
    assert [(event.index, event.lines) for event in tape.sweep(loss)] == before
    assert sum(tg.bptt.weight_gradients(loss, W).values()).shape == W.shape
    with pytest.raises(tg.FreedGraphError, match="second time"):
        loss.backward()
    node = states[0].node
    assert not node.freed
    del tape
    assert node.freed
