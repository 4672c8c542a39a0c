"""Encoder-decoder and generator: what is handed over, what is read, what is written."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.models import EncoderDecoder, SequenceGenerator
from tinygrad_seq.models.forcing import by_teacher
from tinygrad_seq.tensor import as_array

V, W, H, S, T, B = 6, 4, 5, 4, 3, 3  # W tokens to write
LENGTHS, TARGET_LENGTHS = [4, 2, 3], [3, 1, 2]

FORMS = {
    "plain": dict(cell="gru"),
    "lstm, two layers": dict(num_layers=2),
    "both ways": dict(cell="gru", bidirectional=True, num_layers=2),
    "bahdanau": dict(attention="bahdanau", bidirectional=True, num_layers=2, cell="gru"),
    "luong": dict(attention="luong", cell="gru", num_layers=2),
}
every_form = pytest.mark.parametrize("form", FORMS)


def vivid(model):
    """With larger weights, so that it does not always say the same."""
    for parameter in model.parameters():
        parameter.overwrite(parameter.data * 2.5)
    return model


def made(form="plain", **options):
    tg.manual_seed(0)
    return vivid(EncoderDecoder(V, W, H, max_length=5, **FORMS[form], **options).to(np.float64))


def generator(**options):
    tg.manual_seed(0)
    return vivid(SequenceGenerator(3, H, W, max_length=5, **options).to(np.float64))


def given(seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, V, (S, B)), rng.integers(0, W, (T, B))


def softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


# ---- by hand --------------------------------------------------------------------------------------------------------------


def test_the_decoder_starts_from_the_encoders_last_state():
    """A row by itself, with GRU cells called one by one."""
    model, (source, target) = made(), given()
    encoder, decoder = model.encoder.cells[0], model.decoder
    logits = model(source, target, LENGTHS, TARGET_LENGTHS).data
    assert logits.shape == (T + 1, B, W + 1)
    for b in range(B):
        h = np.zeros((1, H))
        for token in source[: LENGTHS[b], b]:
            h = encoder(model.embedding.W.data[[token]], h)
        for t, token in enumerate([W, *target[: TARGET_LENGTHS[b], b]]):  # the boundary is read first
            h = decoder.layers.cells[0](decoder.embedding.W.data[[token]], h)
            o = h.data @ decoder.readout.W.data + decoder.readout.b.data
            np.testing.assert_allclose(logits[t, b], o[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("form", ["bahdanau", "luong"])
def test_the_decoder_looks_as_the_papers_say(form):
    model, (source, target) = made(form), given()
    decoder, begin = model.decoder, model.encode(source)
    logits, states = model(source, target).data, begin.states
    for t, read in enumerate([np.full(B, W), *target]):
        x = decoder.embedding.W.data[read]
        if form == "bahdanau":
            context, _ = decoder.attention(states[-1], begin.memory)  # the top layer asks
            x = np.concatenate([x, context.data], axis=-1)
        first = decoder.layers.cells[0](x, states[0])
        states = [first, decoder.layers.cells[1](first, states[1])]
        s = states[-1].data
        if form == "bahdanau":
            s = np.concatenate([s, context.data], axis=-1)
        else:
            context, _ = decoder.attention(s, begin.memory)
            s = np.tanh(np.concatenate([context.data, s], axis=-1) @ decoder.combine.W.data + decoder.combine.b.data)
        o = s @ decoder.readout.W.data + decoder.readout.b.data
        np.testing.assert_allclose(logits[t], o, rtol=0, atol=1e-13)


def test_two_directions_are_bridged_layer_by_layer():
    model, (source, _) = made("both ways"), given()
    x = model.embedding.W.data[source]
    _, state = model.encoder(x)  # layer 0 forward, backward, layer 1 forward, backward
    for layer, found in enumerate(model.encode(source).states):
        joined = np.concatenate([state.data[2 * layer], state.data[2 * layer + 1]], axis=-1)
        linear = model.bridge.linear[layer][0]
        np.testing.assert_allclose(found.data, np.tanh(joined @ linear.W.data + linear.b.data), rtol=0, atol=1e-14)


def test_one_direction_is_handed_over_as_it_is():
    model, (source, _) = made("lstm, two layers"), given()
    _, (h, c) = model.encoder(model.embedding.W.data[source])
    for layer, (h_layer, c_layer) in enumerate(model.encode(source).states):
        np.testing.assert_array_equal(h_layer.data, h.data[layer])
        np.testing.assert_array_equal(c_layer.data, c.data[layer])
    assert list(model.bridge.parameters()) == []


ABOUT = {"class": np.array([2, 0, 1]), "vector": np.random.default_rng(0).normal(size=(B, 3)), "nothing": None}


@pytest.mark.parametrize("x", ABOUT.values(), ids=ABOUT)
def test_a_generator_starts_from_what_it_writes_about(x):
    model, (_, target) = made_about_nothing() if x is None else generator(cell="gru"), given()
    logits, h = model(x, target).data, np.zeros((B, H))
    if x is not None:
        vectors = np.eye(3)[x] if x.ndim == 1 else x
        linear = model.begin[0][0]
        h = np.tanh(vectors @ linear.W.data + linear.b.data)
    for t, read in enumerate([np.full(B, W), *target]):
        h = model.decoder.layers.cells[0](model.decoder.embedding.W.data[read], h)
        o = h.data @ model.decoder.readout.W.data + model.decoder.readout.b.data
        np.testing.assert_allclose(logits[t], o, rtol=0, atol=1e-13)


def made_about_nothing():
    tg.manual_seed(0)
    return vivid(SequenceGenerator(None, H, W, cell="gru", max_length=5).to(np.float64))


# ---- losses and probabilities ---------------------------------------------------------------------------------------------


@every_form
def test_the_loss_is_that_of_the_real_tokens_and_the_end(form):
    model, (source, target) = made(form), given()
    p = softmax(model(source, target, LENGTHS, TARGET_LENGTHS).data)
    expected = [sum(np.log(p[t, b, token]) for t, token in enumerate([*target[:n, b], W])) for b, n in enumerate(TARGET_LENGTHS)]
    found = model.log_probability(source, target, LENGTHS, TARGET_LENGTHS)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    loss = model.loss(source, target, LENGTHS, TARGET_LENGTHS)
    np.testing.assert_allclose(loss.item(), -sum(expected) / (sum(TARGET_LENGTHS) + B), rtol=1e-12)


def test_without_a_teacher_it_reads_what_it_has_said():
    """With the best token read on, the logits are those along what is written, but for ends, which are not read."""
    for model, about in ((made("luong"), given()[0]), (generator(), np.array([0, 1, 2]))):
        target = given()[1]
        free = model(about, target, teacher=0, choose="best").data
        said = free[:-1, :, :W].argmax(axis=-1)
        np.testing.assert_allclose(free, model(about, said).data, rtol=0, atol=1e-13)
        assert not np.allclose(free, model(about, target).data)


def tokens_read(model, *given, **options):
    """The tokens that the decoder reads at each step of a loss, (T + 1, B)."""
    seen, embed = [], model.decoder.embedding.forward
    model.decoder.embedding.forward = lambda tokens: seen.append(as_array(tokens)) or embed(tokens)
    logits = model(*given, **options).data
    del model.decoder.embedding.forward
    return np.array(seen), logits


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rows", [1, B])
def test_each_step_and_row_reads_what_its_coin_says(rows, seed):
    model, (source, target) = made(), given()
    source, target = source[:, :rows], target[:, :rows]
    tg.manual_seed(seed)
    read, logits = tokens_read(model, source, target, teacher=0.5, choose="best")
    tg.manual_seed(seed)
    coins = by_teacher(0.5, T + 1, rows)
    assert (read[0] == W).all()
    np.testing.assert_array_equal(read[1:], np.where(coins[1:], target, logits[:-1, :, :W].argmax(axis=-1)))


@pytest.mark.parametrize("choose", ["best", "sample"])
def test_an_end_that_is_said_too_early_is_not_read(choose):
    model, (source, target) = made(), given()
    bias = model.decoder.readout.b
    bias.overwrite(bias.data + np.array([0.0] * W + [50.0]))  # it wants to end all the time
    read, _ = tokens_read(model, source, target, teacher=0, choose=choose)
    assert (read[0] == W).all() and (read[1:] < W).all()


def test_the_choice_of_what_is_read_is_the_engines():
    model, (source, target) = made(), given()
    losses = []
    for seed in (1, 1, 2):
        tg.manual_seed(seed)
        losses.append(model.loss(source, target, teacher=0).item())
    assert losses[0] == losses[1] != losses[2]
    best = [model.loss(source, target, teacher=0, choose="best").item() for _ in range(2)]
    assert best[0] == best[1]
    with pytest.raises(ValueError, match="choose is"):
        model.loss(source, target, teacher=0, choose="worst")


@pytest.mark.parametrize("form", ["bahdanau", "luong"])
def test_an_alignment_is_a_distribution_over_the_source(form):
    model, (source, target) = made(form), given()
    weights = model.alignment(source, target, LENGTHS, TARGET_LENGTHS)
    assert weights.shape == (T + 1, S, B)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-14)
    assert not weights[:, ~tg.data.valid(LENGTHS, S)].any()
    with pytest.raises(TypeError, match="without attention"):
        made().alignment(source, target)


# ---- writing --------------------------------------------------------------------------------------------------------------


@every_form
def test_what_is_found_is_scored_by_teacher_forcing(form):
    model, (source, _) = made(form), given()
    for b, hypotheses in enumerate(model.search(source, LENGTHS, beam=4, length_penalty=0.6)):
        assert len({tuple(found.tokens) for found in hypotheses}) == len(hypotheses) > 1
        for found in hypotheses:
            if found.ended and len(found.tokens):
                alone = (source[: LENGTHS[b], b : b + 1], found.tokens[:, None])
                np.testing.assert_allclose(model.log_probability(*alone), found.log_probability, rtol=0, atol=1e-12)


@every_form
def test_a_prediction_is_greedy_and_a_wider_beam_no_worse_when_it_is_wide_enough(form):
    model, (source, _) = made(form), given()
    greedy = model.search(source, LENGTHS, beam=1)
    assert [best.tokens.tolist() for (best,) in greedy] == [row.tolist() for row in model.predict(source, LENGTHS)]
    assert [best.tokens.tolist() for (best,) in greedy] == [row.tokens.tolist() for row in model.sample(source, LENGTHS, top_k=1)]
    wide = model.search(source, LENGTHS, beam=(W + 1) ** 3, n_best=1, max_length=3)
    for (best,), (one,) in zip(wide, model.search(source, LENGTHS, beam=1, max_length=3)):
        assert best.log_probability >= one.log_probability - 1e-12


def test_the_boundary_is_never_written():
    source, _ = given()
    tg.manual_seed(0)
    for found in (made().sample(source), generator().sample([0, 1, 2]), made_about_nothing().sample(rows=7)):
        assert all((row.tokens < W).all() and len(row.tokens) <= 5 for row in found)
    assert [len(row) for row in made().predict(source, max_length=2)] <= [2] * B
    assert len(made_about_nothing().predict(rows=7)) == 7


def test_a_memory_is_shared_by_the_beam():
    """The same rows, each by itself or all together, whatever the beam."""
    model, (source, _) = made("bahdanau"), given()
    together = model.search(source, LENGTHS, beam=3)
    for b in range(B):
        (alone,) = model.search(source[: LENGTHS[b], b : b + 1], beam=3)
        assert [found.tokens.tolist() for found in alone] == [found.tokens.tolist() for found in together[b]]


@pytest.mark.parametrize("attention", [None, "luong"])
def test_short_sequences_are_turned_around(attention):
    """Many-to-many of different lengths: what was read last is written first."""
    tg.manual_seed(0)
    rng = np.random.default_rng(0)
    model = EncoderDecoder(4, 4, 24, embedding_size=8, cell="gru", attention=attention, max_length=4)
    optimizer = tg.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(80):
        lengths = rng.integers(1, 4, 64)
        rows = [rng.integers(0, 4, n) for n in lengths]
        source, target = tg.data.pad(rows)[0], tg.data.pad([row[::-1] for row in rows])[0]
        optimizer.zero_grad()
        model.loss(source, target, lengths, lengths).backward()
        tg.optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    unseen = [rng.integers(0, 4, n) for n in rng.integers(1, 4, 60)]
    written = model.predict(*tg.data.pad(unseen))
    right = [a.tolist() == b[::-1].tolist() for a, b in zip(written, unseen)]
    assert np.mean(right) > 0.85


def test_names_are_written_class_by_class():
    """One-to-many: each class has a word of its own."""
    tg.manual_seed(0)
    words = [np.array([0, 1, 2, 3]), np.array([3, 2]), np.array([1, 1, 1])]
    targets, lengths = tg.data.pad(words)
    model = SequenceGenerator(3, 16, 4, cell="gru", max_length=6)
    optimizer = tg.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(40):
        optimizer.zero_grad()
        model.loss([0, 1, 2], targets, lengths).backward()
        optimizer.step()
    assert [row.tolist() for row in model.predict([2, 0, 1])] == [words[i].tolist() for i in (2, 0, 1)]
