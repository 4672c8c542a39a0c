"""Every sequence model is drawn from its tape: steps as columns, encoder and decoder side by side, an output at each step."""

import pytest

import tinygrad_seq as tg
from tinygrad_seq import viz

from .sequence_cases import CASES, arguments, made

FINER = [
    *((name, "gate") for name in ("tagger", "classifier, mean", "forecaster", "encoder-decoder", "attention, bahdanau")),
    *((name, "op") for name in ("feedback tagger", "language, tied", "generator", "attention, dot")),
]


@pytest.mark.parametrize(("name", "level"), [*((name, "cell") for name in CASES), *FINER])
def test_a_recorded_loss_is_drawn(name, level):
    model, given = made(name), arguments(name, [1, 2])
    with tg.record() as tape:
        loss = model.loss(**given)
    loss.backward()
    data = viz.draw(tape, level=level, budget=10_000).data
    ids = [node["id"] for node in data["nodes"]]
    steps = {node["t"] for node in data["nodes"] if node["t"] is not None}
    assert {"loss", "weight"} <= {node["kind"] for node in data["nodes"]}
    if name.startswith(("encoder", "attention")):
        assert {f"t{t}.{part}" for t in range(3) for part in ("encoder", "decoder")} <= {".".join(i.split(".")[:2]) for i in ids}
    outputs = [node for node in data["nodes"] if "readout" in node["slot"] or "output_rnn" in node["slot"]]
    assert {node["t"] for node in outputs} in (steps, {None})


@pytest.mark.parametrize("choose", ["best", "sample"])
def test_an_output_that_is_fed_back_is_seen_to_be_and_gives_no_gradient(choose):
    model, given = made("generator"), arguments("generator", [1])
    with tg.record() as tape:
        loss = model.loss(**given, teacher=0, choose=choose)
    loss.backward()
    data = viz.draw(tape, level="cell").data
    slot = {node["id"]: (node["slot"].split(".")[-1], node["t"]) for node in data["nodes"]}
    fed = [(slot[edge["from"]], slot[edge["to"]]) for edge in data["edges"] if edge["kind"] == "forward"]
    fed = [(a, b) for a, b in fed if a[0] == "choice"]
    assert fed == [(("choice", None if t == 0 else t - 1), ("embedding", t)) for t in range(6)]
    labels = {node["label"] for node in data["nodes"]}
    assert {"ŷ<init>"} | {f"ŷ<{t}>" for t in range(5)} | {f"o<{t}>" for t in range(6)} <= labels
    back = [edge for edge in data["edges"] if edge["kind"] == "backward" and slot[edge["from"]][0] == "choice"]
    assert all(edge["grad"] is None or edge["grad"]["status"] == "none" for edge in back)
