"""The language model: what comes next, states that carry on, truncated training, writing on."""

import io

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.models import LanguageModel
from tinygrad_seq.models.cells import parts_of

from .sequence_cases import gradients

V, D, H, T, B = 5, 3, 4, 12, 2


def made(embedding_size=D, **options):
    tg.manual_seed(0)
    model = LanguageModel(V, embedding_size, H, **options).to(np.float64)
    for parameter in model.parameters():
        parameter.overwrite(parameter.data * 3)  # so that it does not always say the same
    return model


def text(steps=T + 1, seed=0):
    return np.random.default_rng(seed).integers(0, V, (steps, B))


def test_it_is_an_embedding_layers_and_a_readout():
    model, x = made(num_layers=2), text()
    outputs, _ = model.layers(model.embedding.W.data[x])
    logits = outputs.data @ model.W.data + model.b.data
    np.testing.assert_allclose(model(x)[0].data, logits, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(model.predict(x), logits.argmax(axis=-1))


def test_without_targets_each_token_is_followed_by_the_next():
    model, x, lengths = made(), text(), [13, 5]
    assert model.loss(x).item() == model.loss(x[:-1], x[1:]).item()
    assert model.loss(x, lengths=lengths).item() == model.loss(x[:-1], x[1:], lengths=[12, 4]).item()
    first = made(batch_first=True)
    assert first.loss(x.T, lengths=lengths).item() == model.loss(x, lengths=lengths).item()
    for wrong, lengths in ((x[:1], None), (x, [13, 1])):
        with pytest.raises(tg.ShapeError, match="without targets"):
            model.loss(wrong, lengths=lengths)
    with pytest.raises(IndexError, match="outside of 0 to 4"):
        model.loss(x + 1)


def test_tied_weights_are_one():
    model, x = made(embedding_size=H, tie_weights=True), text()
    assert [name for name, _ in model.named_parameters() if name in ("W", "embedding.W")] == ["embedding.W"]
    outputs, _ = model.layers(model.embedding.W.data[x])
    np.testing.assert_allclose(model(x)[0].data, outputs.data @ model.embedding.W.data.T + model.b.data, rtol=0, atol=1e-14)
    untied = made(embedding_size=H)
    untied.load_state_dict(model.state_dict() | {"W": model.embedding.W.data.T.copy()})
    one, two = gradients(model, model.loss(x)), gradients(untied, untied.loss(x))
    np.testing.assert_allclose(one["embedding.W"], two["embedding.W"] + two["W"].T, rtol=0, atol=1e-14)
    with pytest.raises(ValueError, match="as long as the layers' outputs, got 3 and 4"):
        made(tie_weights=True)


# ---- states that carry on -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_text_read_in_pieces_is_the_text_read_at_once(cell):
    model, x = made(cell=cell, num_layers=2), text()
    whole, last = model.loss(x, state=None)
    state, total = None, 0.0
    for piece in (slice(0, 5), slice(5, 6), slice(6, T)):
        loss, state = model.loss(x[:-1][piece], x[1:][piece], state, reduction="sum")
        total = total + loss
    np.testing.assert_allclose(total.item() / (T * B), whole.item(), rtol=1e-13)
    for a, b in zip(parts_of(state), parts_of(last)):
        assert a.shape == (2, B, H)
        np.testing.assert_allclose(a.data, b.data, rtol=0, atol=1e-14)
    expected = gradients(model, whole)
    for name, g in gradients(model, total).items():  # the graph went on from piece to piece
        np.testing.assert_allclose(g / (T * B), expected[name], rtol=0, atol=1e-13)


def windows_of(model, x, k1, k2=None):
    """(loss, state) of truncated training, a window at a time."""
    for window in tg.bptt.Truncated(k1, k2)(x[:-1], x[1:]):
        read, targets = window
        logits, state = model(read, window.state)
        loss = tg.losses.cross_entropy(window.new(logits), window.new(targets), reduction="sum")
        window.carry(state)
        yield window, loss


def test_truncated_training():
    """Cut or not, what is said is the same; the gradient is that of the last k2 steps."""
    model, x = made(), text()
    whole = model.loss(x, reduction="sum")
    exact, values, cut = gradients(model, whole), [], []
    for _, loss in windows_of(model, x, 4):
        values.append(loss.item())
        cut.append(gradients(model, loss))
    np.testing.assert_allclose(sum(values), whole.item(), rtol=1e-13)
    assert max(np.abs(sum(g[name] for g in cut) - exact[name]).max() for name in exact) > 1e-3
    ((_, loss),) = windows_of(model, x, T)
    for name, g in gradients(model, loss).items():
        np.testing.assert_allclose(g, exact[name], rtol=0, atol=1e-13)
    longer = [gradients(model, loss) for _, loss in windows_of(model, x, 4, T)]
    for name in exact:  # windows that reach back to the start: nothing is cut off
        np.testing.assert_allclose(sum(g[name] for g in longer), exact[name], rtol=0, atol=1e-12)


def test_the_state_is_cut_by_truncated_and_must_not_be_forgotten():
    model, x = made(), text()
    losses = []
    for window in tg.bptt.Truncated(4)(x[:-1], x[1:]):
        loss, state = model.loss(*window, state=window.state)
        window.carry(state)
        loss.backward()
        losses.append(loss.item())
    assert len(losses) == 3
    windows = tg.bptt.Truncated(4)(x[:-1], x[1:])
    next(windows)
    with pytest.raises(tg.AutodiffError, match="was not handed on"):
        next(windows)


def test_fit_carries_the_state_from_batch_to_batch():
    model, x = made(), text(25)
    pieces = [(x[t : t + 8], x[t + 1 : t + 9]) for t in (0, 8, 16)]
    expected = [loss.item() for _, loss in windows_of(model, x, 8)]
    frozen = tg.optim.SGD(model.parameters(), lr=0.0)
    history = tg.fit(model, pieces, optimizer=frozen, epochs=2, carry=True, file=io.StringIO())
    np.testing.assert_allclose(np.array(history["losses"]) * 8 * B, expected * 2, rtol=1e-12)


def test_the_order_of_names_is_learned():
    """A cycle of tokens is foretold after a few updates, and written on without end."""
    tg.manual_seed(0)
    model, x = LanguageModel(V, 8, 16, cell="gru"), np.arange(60).reshape(2, 30).T % V
    optimizer = tg.optim.Adam(model.parameters(), lr=0.05)
    for window in tg.bptt.Truncated(k1=10)(*(np.tile(part, (8, 1)) for part in (x[:-5], x[1:-4]))):
        loss, state = model.loss(*window, state=window.state)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        window.carry(state)
    (written,) = model.generate([[3], [4], [0]], 12, temperature=0)
    np.testing.assert_array_equal(written, (1 + np.arange(12)) % V)


# ---- writing on -----------------------------------------------------------------------------------------------------------


FORMS = [dict(num_layers=2), dict(cell="gru", batch_first=True), dict(embedding_size=H, tie_weights=True)]


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_what_is_written_is_what_is_most_probable(options):
    model, prompt = made(**options), text(4)
    first = options.get("batch_first", False)
    written = model.generate(prompt.T if first else prompt, 6, temperature=0)
    whole = np.concatenate([prompt, np.array(written).T])
    said = model.predict(whole[:-1].T).T if first else model.predict(whole[:-1])
    np.testing.assert_array_equal(said[3:], whole[4:])
    found = model.search(prompt.T if first else prompt, 6, beam=1)
    np.testing.assert_array_equal([best.tokens for (best,) in found], written)


def test_a_state_stands_for_what_was_read_before():
    model, prompt = made(num_layers=2), text(6)
    _, state = model(prompt[:5])
    one, other = (model.generate(*given, temperature=0) for given in ((prompt, 5), (prompt[5:], 5)))
    carried = model.generate(prompt[5:], 5, temperature=0, state=state)
    np.testing.assert_array_equal(carried, one)
    halves = model.generate(prompt[3:], 5, temperature=0, state=model(prompt[:3])[1])
    np.testing.assert_array_equal(halves, one)
    assert not np.array_equal(other, one)


def test_sampling_is_the_engines():
    model, prompt = made(), text(3)
    runs = []
    for seed in (1, 1, 2):
        tg.manual_seed(seed)
        runs.append(np.array(model.generate(prompt, 30)))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    ended = model.generate(prompt, 30, end=2)
    assert all(2 not in row for row in ended) and min(len(row) for row in ended) < 30


def test_a_search_ranks_by_the_models_own_probability():
    model, prompt = made(), text(4)
    for row, hypotheses in enumerate(model.search(prompt, 3, beam=5, length_penalty=0.5, end=4)):
        for found in hypotheses:
            tokens = [*found.tokens, *([4] if found.ended else [])]
            read = np.array([*prompt[:, row], *tokens])[:, None]
            mask = np.arange(1, len(read))[:, None] >= len(prompt)
            expected = -model.loss(read[:-1], read[1:], mask=mask, reduction="sum").item()
            np.testing.assert_allclose(found.log_probability, expected, rtol=0, atol=1e-12)


def test_what_reads_the_future_is_refused():
    from tinygrad_seq.models import Bidirectional, GRUCell

    with pytest.raises(ValueError, match="what comes next is what a language model guesses"):
        made(cell=Bidirectional(GRUCell(D, H)))


def test_an_empty_prompt_is_refused():
    with pytest.raises(tg.ShapeError, match="the prompt's tokens are empty"):
        made().generate(np.zeros((0, 2), int), 3)
