"""Every sequence model in a few forms, each with the same ragged sequences: for the tests that hold for all of them.

A case makes a model in float64 and arguments for its `loss` out of rows, lists of sequences of different lengths; what stands
in the padding is the test's choice.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any, NamedTuple

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq.models import (
    EncoderDecoder,
    FeedbackTagger,
    Forecaster,
    LanguageModel,
    SequenceClassifier,
    SequenceGenerator,
    SequenceTagger,
)

V, I, H, C = 6, 2, 3, 4  # tokens, features, units, classes
LENGTHS, OTHER_LENGTHS = (3, 5, 1, 2), (2, 1, 4, 3)  # of four rows
Arrays = dict[str, Any]


class Case(NamedTuple):
    """A model, and how its loss is called on some of the rows."""

    build: Callable[..., Any]
    arguments: Callable[[list[int], Any, Any], Arrays]  # (numbers of the rows, token and feature in the padding)
    predict: Callable[[Any, Arrays], list[Any]]  # a prediction for each row


def rng_for(b: int, salt: int = 0) -> np.random.Generator:
    return np.random.default_rng(1000 * salt + b)


def tokens(rows: list[int], padding: Any, size: int = V, lengths: tuple[int, ...] = LENGTHS, salt: int = 0) -> tuple[Any, Any]:
    return tg.data.pad([rng_for(b, salt).integers(0, size, lengths[b]) for b in rows], padding)


def features(rows: list[int], padding: Any, shorter: int = 0) -> tuple[Any, Any]:
    return tg.data.pad([rng_for(b).normal(size=(LENGTHS[b] + 2 - shorter, I)) for b in rows], padding)


def labels(rows: list[int]) -> Any:
    return np.array([rng_for(b, 7).integers(0, C) for b in rows])


def columns(predicted: Any, lengths: Any) -> list[Any]:
    """Of a time-first prediction each row's real part."""
    return [predicted[:n, b] for b, n in enumerate(lengths)]


def tagging(rows: list[int], token: Any, feature: Any) -> Arrays:
    x, lengths = tokens(rows, token)
    return dict(x=x, targets=tokens(rows, token, C, salt=1)[0], lengths=lengths)


def tagging_features(rows: list[int], token: Any, feature: Any) -> Arrays:
    x, lengths = features(rows, feature)
    targets, _ = tg.data.pad([rng_for(b, 3).integers(0, C, n) for b, n in zip(rows, lengths)], token)
    return dict(x=x, targets=targets, lengths=lengths)


def classifying(rows: list[int], token: Any, feature: Any) -> Arrays:
    x, lengths = tokens(rows, token)
    return dict(x=x, targets=labels(rows), lengths=lengths)


def classifying_features(rows: list[int], token: Any, feature: Any) -> Arrays:
    x, lengths = features(rows, feature)
    return dict(x=x, targets=labels(rows), lengths=lengths)


def language(rows: list[int], token: Any, feature: Any) -> Arrays:
    x, lengths = tokens(rows, token)
    return dict(tokens=x, targets=tokens(rows, token, salt=1)[0], lengths=lengths)


def forecasting(rows: list[int], token: Any, feature: Any) -> Arrays:
    series, lengths = features(rows, feature)
    return dict(series=series, lengths=lengths)


def generating(rows: list[int], token: Any, feature: Any) -> Arrays:
    targets, lengths = tokens(rows, token)
    return dict(x=labels(rows), targets=targets, lengths=lengths)


def generating_about_vectors(rows: list[int], token: Any, feature: Any) -> Arrays:
    return generating(rows, token, feature) | dict(x=np.array([rng_for(b, 5).normal(size=I) for b in rows]))


def generating_freely(rows: list[int], token: Any, feature: Any) -> Arrays:
    return generating(rows, token, feature) | dict(x=None)


def translating(rows: list[int], token: Any, feature: Any) -> Arrays:
    source, lengths = tokens(rows, token)
    target, target_lengths = tokens(rows, token, C, OTHER_LENGTHS, 2)
    return dict(source=source, target=target, lengths=lengths, target_lengths=target_lengths)


def labelled(model: Any, a: Arrays) -> list[Any]:
    return columns(model.predict(a["x"], a["lengths"]), a["lengths"])


def continued(model: Any, a: Arrays) -> list[Any]:
    return columns(model.predict(a["tokens"], lengths=a["lengths"]), a["lengths"])


def forecast(model: Any, a: Arrays) -> list[Any]:
    ahead = columns(model.predict(a["series"], a["lengths"]), a["lengths"])
    return [*ahead, *np.swapaxes(model.forecast(a["series"], 3, a["lengths"]), 0, 1)]


def written(model: Any, a: Arrays) -> list[Any]:
    return model.predict(a["x"], rows=len(a["lengths"]))


def translated(model: Any, a: Arrays) -> list[Any]:
    return model.predict(a["source"], a["lengths"]) + model.predict(a["source"], a["lengths"], beam=3, length_penalty=0.6)


def form(model: Callable[..., Any], *sizes: Any, **options: Any) -> Callable[..., Any]:
    """Makes such a model; a test may change the options."""
    return lambda **changes: model(*sizes, **(options | changes))


def encoder_decoder(**options: Any) -> Callable[..., Any]:
    return form(EncoderDecoder, V, C, H, **(dict(cell="gru", max_length=6) | options))


CASES = {
    "tagger": Case(form(SequenceTagger, V, H, C, embedding_size=2, bidirectional=True), tagging, labelled),
    "tagger of features": Case(form(SequenceTagger, I, H, C, cell="gru", num_layers=2), tagging_features, labelled),
    "classifier, last": Case(
        form(SequenceClassifier, V, H, C, embedding_size=2, bidirectional=True), classifying,
        lambda model, a: [*model.predict(a["x"], a["lengths"])],
    ),
    "classifier, mean": Case(
        form(SequenceClassifier, I, H, C, cell="rnn", pool="mean"), classifying_features,
        lambda model, a: [*model.probabilities(a["x"], a["lengths"])],
    ),
    "classifier, max": Case(
        form(SequenceClassifier, I, H, C, cell="gru", pool="max", bidirectional=True), classifying_features,
        lambda model, a: [*model.probabilities(a["x"], a["lengths"])],
    ),
    "feedback tagger": Case(form(FeedbackTagger, V, H, C, embedding_size=2), tagging, labelled),
    "feedback tagger of features": Case(form(FeedbackTagger, I, H, C), tagging_features, labelled),
    "language": Case(form(LanguageModel, V, 2, H, 2, cell="gru"), language, continued),
    "language, tied": Case(form(LanguageModel, V, H, H, tie_weights=True), language, continued),
    "forecaster": Case(form(Forecaster, I, H, cell="gru"), forecasting, forecast),
    "forecaster of changes": Case(form(Forecaster, I, H, num_layers=2, residual=True), forecasting, forecast),
    "generator, class": Case(form(SequenceGenerator, C, H, V, max_length=6), generating, written),
    "generator, vector": Case(
        form(SequenceGenerator, I, H, V, cell="rnn", num_layers=2, max_length=6), generating_about_vectors, written
    ),
    "generator": Case(form(SequenceGenerator, None, H, V, cell="gru", max_length=6), generating_freely, written),
    "encoder-decoder": Case(encoder_decoder(cell="lstm"), translating, translated),
    "encoder-decoder, both ways": Case(encoder_decoder(cell="lstm", bidirectional=True, num_layers=2), translating, translated),
    "attention, bahdanau": Case(encoder_decoder(attention="bahdanau", bidirectional=True), translating, translated),
    "attention, dot": Case(encoder_decoder(attention="dot"), translating, translated),
    "attention, general": Case(encoder_decoder(attention="luong", num_layers=2), translating, translated),
    "attention, concat": Case(encoder_decoder(attention="concat", bidirectional=True, cell="rnn"), translating, translated),
}  # fmt: skip

WITH_TEACHER = [name for name in CASES if not name.startswith(("tagger", "classifier", "language"))]
ALL_ROWS = list(range(len(LENGTHS)))


def made(name: str, **options: Any) -> Any:
    """The model of a case, in float64; the same weights each time."""
    tg.manual_seed(0)
    return CASES[name].build(**options).to(np.float64)


def arguments(name: str, rows: list[int] | None = None, token: Any = 0, feature: Any = 0.0) -> Arrays:
    """For the model's loss."""
    return CASES[name].arguments(ALL_ROWS if rows is None else rows, token, feature)


def gradients(model: Any, loss: Any) -> Arrays:
    """Of the loss, by the names of the parameters; the model's own are forgotten."""
    model.zero_grad()
    loss.backward()
    found = {name: parameter.grad.data for name, parameter in model.named_parameters() if parameter.grad is not None}
    model.zero_grad()
    return found


def with_parameters(model: Any, values: Arrays) -> Any:
    """A copy of the model that computes with these tensors in the place of its parameters."""
    stand_in = deepcopy(model)
    for name, value in values.items():
        *path, last = name.split(".")
        place: Any = stand_in
        for part in path:
            place = place[int(part)] if isinstance(place, list) else getattr(place, part)
        if isinstance(place, list):
            place[int(last)] = value
        else:
            vars(place)[last] = value
    return stand_in
