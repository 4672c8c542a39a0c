"""What sequence models refuse: by name, before anything is computed, and with nothing changed."""

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq.models import EncoderDecoder, GRUCell, Recurrent, SequenceGenerator, SequenceTagger

from .sequence_cases import CASES, arguments, made

every_model = pytest.mark.parametrize("name", CASES)

MAIN = dict(tagger="x", classifier="x", feedback="x", language="tokens", forecaster="series", generator="targets")
MAIN |= {"encoder-decoder": "source", "attention": "source"}


def main_of(name):
    return next(argument for start, argument in MAIN.items() if name.startswith(start))


def reads_tokens(name):
    return arguments(name)[main_of(name)].dtype.kind == "i"


def refused(name, error, match, **changes):
    """The loss of changed arguments is refused, and nothing has changed."""
    model = made(name)
    values, state = model.state_dict(), tg.random.get_state()
    with pytest.raises(error, match=match):
        model.loss(**arguments(name) | changes)
    assert tg.random.get_state() == state
    assert all(parameter.grad is None for parameter in model.parameters())
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value, values[key])


@every_model
def test_empty_sequences_are_refused(name):
    key, given = main_of(name), arguments(name)
    refused(name, tg.ShapeError, "empty: 0 steps of 4 rows", **{key: given[key][:0]})
    refused(name, tg.ShapeError, "row 2 is empty", lengths=given["lengths"] * [1, 1, 0, 1])


@every_model
def test_lengths_that_do_not_fit_are_refused(name):
    lengths = arguments(name)["lengths"]
    refused(name, tg.ShapeError, r"row 1 cannot have length \d+, there are \d steps", lengths=lengths + [0, 9, 0, 0])
    refused(name, tg.ShapeError, r"one entry for each of 4 rows, not the shape \(3,\)", lengths=lengths[:3])
    refused(name, TypeError, "integers, not float64", lengths=lengths * 1.0)


@every_model
def test_tokens_that_are_none_are_refused(name):
    key, given = main_of(name), arguments(name)
    if not reads_tokens(name):
        refused(name, tg.ShapeError, "2 features, not the shape", **{key: given[key][:, :, :1]})
        refused(name, tg.ShapeError, "three axes", **{key: given[key][:, :, 0]})
        return
    refused(name, TypeError, "integers, not float64", **{key: given[key] * 1.0})
    refused(name, TypeError, "integers, not bool", **{key: given[key] > 2})
    refused(name, tg.ShapeError, r"two axes, time and batch, not the shape \(5,\)", **{key: given[key][:, 0]})
    for wrong in (-1, 6):
        array = given[key].copy()
        array[1, 3] = wrong
        refused(name, IndexError, f"{wrong} at step 1 of row 3 is outside of 0 to 5", **{key: array})


@pytest.mark.parametrize("name", [name for name in CASES if "targets" in arguments(name)])
def test_targets_that_do_not_fit_are_refused(name):
    targets = arguments(name)["targets"]
    refused(name, TypeError, "integers", targets=targets * 1.0)
    refused(name, (tg.ShapeError, ValueError), "shape|rows|axes|steps", targets=targets[..., :3])
    refused(name, IndexError, "9|target", targets=np.full_like(targets, 9))


def test_features_are_asked_for_an_embedding_if_they_are_tokens():
    with pytest.raises(tg.ShapeError, match="for tokens, give the model an embedding_size"):
        SequenceTagger(V := 6, 3, 4).loss(np.zeros((5, 2), int), np.zeros((5, 2), int))
    assert V == 6


@pytest.mark.parametrize(("cell", "error", "match"), [
    ("gpu", ValueError, "'rnn', 'gru', 'lstm', a class or a layer, not 'gpu'"),
    (GRUCell(2, 3), TypeError, r"not a GRUCell; Recurrent\(cell\) makes it a layer"),
    (Recurrent(GRUCell(2, 3), batch_first=True), ValueError, "time first"),
])  # fmt: skip
def test_what_is_no_cell_is_refused(cell, error, match):
    with pytest.raises(error, match=match):
        SequenceTagger(2, 3, 4, cell=cell)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith(("generator", "encoder", "attention"))])
def test_targets_longer_than_the_model_writes_are_refused(name):
    key = "target" if "target" in arguments(name) else "targets"
    longer = np.resize(arguments(name)[key], (7, 4)) % 3
    refused(name, tg.ShapeError, r"targets of 7 steps are longer than the model's max_length, 6", **{key: longer})


def test_what_a_generator_cannot_write_about_is_refused():
    model = SequenceGenerator(4, 3, 6)
    targets = np.zeros((2, 3), int)
    for x, error, match in [
        (None, TypeError, r"x is needed: vectors \(B, 4\), or classes \(B,\)"),
        (np.zeros((3, 5)), tg.ShapeError, r"vectors of shape \(B, 4\).*not float64 of shape \(3, 5\)"),
        (np.zeros(3), tg.ShapeError, "not float64"),
        ([0, 4, 1], IndexError, "token 4 is outside of 0 to 3"),
        ([0, 1], tg.ShapeError, "x has 2 rows, and targets have 3"),
    ]:
        with pytest.raises(error, match=match):
            model.loss(x, targets)
    with pytest.raises(TypeError, match="x must be None"):
        SequenceGenerator(None, 3, 6).loss([0, 1, 2], targets)


def test_source_and_target_of_other_rows_are_refused():
    with pytest.raises(tg.ShapeError, match=r"as many rows, not the shapes \(4, 2\) and \(3, 5\)"):
        EncoderDecoder(6, 6, 3).loss(np.zeros((4, 2), int), np.zeros((3, 5), int))


@pytest.mark.parametrize("build", [
    lambda: SequenceTagger(0, 3, 4),
    lambda: SequenceTagger(2, 0, 4),
    lambda: SequenceTagger(2, 3, 0),
    lambda: SequenceTagger(2, 3, 4, embedding_size=0),
    lambda: SequenceGenerator(0, 3, 4),
    lambda: EncoderDecoder(2, 3, 4, max_length=0),
])  # fmt: skip
def test_sizes_that_are_none_are_refused(build):
    with pytest.raises(ValueError, match=r"(size|classes|length) is at least 1, not 0"):
        build()


@pytest.mark.parametrize(("build", "error", "match"), [
    (lambda: EncoderDecoder(5, 5, 4, attention="self"), ValueError, r"attention is None.*not 'self'"),
    (lambda: EncoderDecoder(5, 5, 4, attention="dot", bidirectional=True), ValueError, "as long as the memory, got 4 and 8"),
    (lambda: EncoderDecoder(5, 5, 4, cell=Recurrent(GRUCell(4, 4))), TypeError, r"an encoder and a decoder are made of it"),
    (lambda: SequenceGenerator(5, 5, 4, cell=Recurrent(GRUCell(5, 5), reverse=True)), ValueError, "from the start to the end"),
])  # fmt: skip
def test_what_does_not_go_together_is_refused(build, error, match):
    with pytest.raises(error, match=match):
        build()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_any_integers_are_tokens(dtype):
    given = {key: np.asarray(value).astype(dtype) for key, value in arguments("encoder-decoder").items()}
    assert made("encoder-decoder").loss(**given).item() == made("encoder-decoder").loss(**arguments("encoder-decoder")).item()
