"""Bad input: a clear error, and nothing has run, been drawn or been changed. In every layer."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.models import (
    GRU,
    LSTM,
    RNN,
    Bidirectional,
    CausalConv1d,
    Embedding,
    GRUCell,
    LayerNorm,
    Linear,
    LSTMCell,
    Recurrent,
    RNNCell,
)
from tinygrad_seq.models.cells import parts_of

from .kinds import LAYERS, B, H, I, LeakyCell, T, built, every_layer, inputs


def shape(*lengths):
    """A shape as an error tells it."""
    return rf"\({', '.join(map(str, lengths))}\)"


def wrong_calls(layer):
    """(arguments, error, message) for everything that may be wrong with a call of this layer."""
    x, axes = inputs(layer), r"\(B, T, I\)" if layer.batch_first else r"\(T, B, I\)"
    first = (B, T) if layer.batch_first else (T, B)
    states = [part.data for part in parts_of(layer(x)[1])]
    form = "state of shape" if len(states) == 1 else "state of shapes"

    def state_of(make):
        changed = [make(part) for part in states]
        return dict(x=x, state=tuple(changed) if len(changed) > 1 else changed[0])

    if hasattr(layer.cells[0], "input_size"):
        told = f"takes {I} features, got x of shape {shape(*first, I + 1)}"
        yield dict(x=np.ones((*first, I + 1))), tg.ShapeError, told
    yield dict(x=x[0]), tg.ShapeError, f"takes x of shape {axes}, got {shape(*x.shape[1:])}"
    yield dict(x=x[None]), tg.ShapeError, f"takes x of shape {axes}, got {shape(1, *x.shape)}"
    yield dict(x=1.0), tg.ShapeError, f"takes x of shape {axes}, got {shape()}"
    for axis in (0, 1):  # no rows, no steps
        empty = np.take(x, [], axis)
        yield dict(x=empty), tg.ShapeError, f"needs a step and a row at least, got x of shape {shape(*empty.shape)}, {axes}"
    yield dict(x=x, lengths=[T + 1, 1]), tg.ShapeError, rf"lengths are from 0 to {T}, the number of steps, got \[{T + 1}, 1\]"
    yield dict(x=x, lengths=[-1, 1]), tg.ShapeError, rf"lengths are from 0 to {T}, the number of steps, got \[-1, 1\]"
    yield dict(x=x, lengths=[1]), tg.ShapeError, f"one entry for each of {B} rows, got shape {shape('1,')}"
    yield dict(x=x, lengths=[[1, 2]]), tg.ShapeError, f"one entry for each of {B} rows, got shape {shape(1, 2)}"
    yield dict(x=x, lengths=3), tg.ShapeError, f"one entry for each of {B} rows, got shape {shape()}"
    yield dict(x=x, lengths=[1.0, 2.0]), TypeError, "lengths are integers, not float64"
    yield dict(x=x, lengths=[True, False]), TypeError, "lengths are integers, not bool"
    got = [(n, B + 1, size) for n, _, size in (part.shape for part in states)]
    another_batch = state_of(lambda part: np.zeros((part.shape[0], B + 1, part.shape[2])))
    yield another_batch, tg.ShapeError, f"takes a {form} .*{shape(*got[0])}"
    yield state_of(lambda part: part[..., :-1]), tg.ShapeError, f"takes a {form}"
    yield state_of(lambda part: np.concatenate([part, part])), tg.ShapeError, f"takes a {form}"
    yield dict(x=x, state=(*states, states[0])), tg.ShapeError, f"takes a {form} .*, got shapes"
    yield state_of(lambda part: part * 1j), TypeError, "takes real numbers, got complex128"
    if len(states) > 1:
        yield dict(x=x, state=states[0]), tg.ShapeError, f"takes a {form} .*, got shape "
    if len(layer.cells) > 1:
        yield state_of(lambda part: part[0]), tg.ShapeError, f"takes a {form}"


@every_layer
def test_what_does_not_fit_is_refused_and_changes_nothing(kind):
    layer = built(kind)
    for part in (layer, *layer.modules()):  # dropout would draw
        vars(part).update({name: 0.5 for name in ("dropout", "input_dropout") if name in vars(part)})
    before, draws = layer.state_dict(), tg.random.get_state()
    called = 0
    layer.eval()
    calls = list(wrong_calls(layer))
    layer.train()
    for arguments, error, message in calls:
        with tg.record() as tape, pytest.raises(error, match=message):
            layer(**arguments)
        assert len(tape) == 0, message
        called += 1
    assert called >= 16
    assert tg.random.get_state() == draws
    assert all(parameter.grad is None for parameter in layer.parameters())
    assert all((layer.state_dict()[name] == array).all() for name, array in before.items())


def test_a_users_cell_that_does_not_say_its_features_is_refused_where_they_do_not_fit():
    layer = Recurrent(LeakyCell(I, H))
    before = layer.state_dict()
    with pytest.raises(tg.ShapeError, match=rf"matmul of {shape(B, I + 1)} float64, {shape(I, H)} float32, in leaky/leak, t=0"):
        layer(np.ones((T, B, I + 1)))
    assert all((layer.state_dict()[name] == array).all() for name, array in before.items())


@pytest.mark.parametrize(("backward", "told"), [
    (lambda: GRUCell(I, H + 1), r"GRUCell has a state of shape \(2, 4\), GRUCell of shape \(2, 5\)"),
    (lambda: LSTMCell(I, H), r"GRUCell has a state of shape \(2, 4\), LSTMCell of shapes \(2, 4\), \(2, 4\)"),
])  # fmt: skip
def test_cells_whose_states_do_not_go_into_one_array_are_refused(backward, told):
    layer = Bidirectional(GRUCell(I, H), backward=backward())
    with tg.record() as tape, pytest.raises(tg.ShapeError, match=f"Bidirectional gives the states .*: {told}"):
        layer(np.ones((T, B, I)))
    assert len(tape) == 0


def test_what_holds_no_real_numbers_is_refused():
    for x in ("text", None, [[["a"]]], np.array([[["a"]]]), np.ones((T, B, I)) * 1j):
        for module in (RNN(I, H), RNNCell(I, H), Linear(I, H), LayerNorm(I), CausalConv1d(I, H, 2)):
            with tg.record() as tape, pytest.raises(TypeError, match=r"real numbers|numbers and truth values"):
                module(x)
            assert len(tape) == 0


def test_a_cell_that_asks_too_much_is_refused():
    class Growing(tg.Module):
        hidden_size = H

        def step(self, x, h):
            return tg.concatenate([h, h], axis=1)

    class Forgetful(tg.Module):
        hidden_size = H

        def step(self, x, h):
            np.tanh(x + h)

    with pytest.raises(TypeError, match="Forgetful made nothing of its input and state: does its step return the new state"):
        Recurrent(Forgetful())(np.ones((T, B, H)))
    with pytest.raises(tg.ShapeError, match=r"Growing made a state of shape \(2, 8\) out of one of shape \(2, 4\)"):
        Recurrent(Growing())(np.ones((T, B, I)))
    with pytest.raises(TypeError, match="needs a hidden_size, or initial_state"):
        Recurrent(tg.Module())(np.ones((T, B, I)))
    for wrong, message in (
        (GRUCell, r"a cell is needed, not a class: GRUCell\(input_size, hidden_size\)"),
        (GRU(I, H), "GRU runs over all of time by itself; what is needed is a cell"),
        (7, r"a cell makes a step\(x, state\), and 7 has none"),
    ):
        for layer in Recurrent, Bidirectional:
            with pytest.raises(TypeError, match=message):
                layer(wrong)
    with pytest.raises(TypeError, match="`seen`"):
        Recurrent(LeakyCell(I, H), state_dropout=0.5)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: RNN(I, H, num_layers=0), "num_layers is at least 1, got 0"),
    (lambda: LSTM(I, H, dropout=1.5), r"dropout is a probability from 0 to 1, got 1\.5"),
    (lambda: GRU(I, H, input_dropout=-0.5), "input_dropout is a probability"),
    (lambda: Bidirectional(GRUCell(I, H), state_dropout=2), "state_dropout is a probability"),
    (lambda: GRU(0, H), "sizes of at least 1, got 0 and 4"),
    (lambda: RNN(I, H, nonlinearity="x"), "nonlinearity is one of 'tanh', 'relu', not 'x'"),
    (lambda: LSTM(I, H, proj_size=H), "proj_size is 0 or less than hidden_size, got 4 and 4"),
    (lambda: LSTM(I, H, 2, bidirectional=True, merge=None), "merge=None gives a pair of outputs, which no layer above can read"),
    (lambda: Bidirectional(GRUCell(I, H), "multiply"), "merge is one of 'concat', 'sum', 'mul', 'ave', None or a function"),
])  # fmt: skip
def test_a_layer_that_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_misspelt_argument_is_refused():
    with pytest.raises(TypeError, match="state_dropuot"):
        LSTM(I, H, state_dropuot=0.5)


# ---- the simple layers ----------------------------------------------------------------------------------------------------


def test_embeddings_and_convolutions_refuse_and_change_nothing():
    embedding, conv = Embedding(5, H, padding_index=0), CausalConv1d(I, H, 2, batch_first=True)
    for layer, wrong, error, message in (
        (embedding, [0, 5], IndexError, "token 5 is outside of 0 to 4"),
        (embedding, [-1], IndexError, "token -1 is outside"),
        (embedding, [0.5], TypeError, "tokens are integers"),
        (conv, np.ones((B, T, I + 1)), tg.ShapeError, r"takes x of shape \(\.\.\., 3\), got \(2, 5, 4\)"),
        (conv, np.ones((T, I)), tg.ShapeError, r"takes x of shape \(B, T, 3\), got \(5, 3\)"),
    ):
        before = layer.state_dict()
        with tg.record() as tape, pytest.raises(error, match=message):
            layer(wrong)
        assert len(tape) == 0
        assert all((layer.state_dict()[name] == array).all() for name, array in before.items())


def test_the_kinds_are_all_there_are():
    """Every layer of ours stands in the table that these tests go through."""
    kinds = {type(built(kind)) for kind in LAYERS}
    assert {RNN, GRU, LSTM, Recurrent, Bidirectional} <= kinds
