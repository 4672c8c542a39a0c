"""The player's page and what is in it: it tells what the tape tells, in the tape's order, and loads nothing."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import tracemalloc
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tinygrad_seq as tg
from tinygrad_seq import viz
from tinygrad_seq.listing import cells
from tinygrad_seq.models import GRU, LSTM, RNN
from tinygrad_seq.overwritten import buffer_of
from tinygrad_seq.primitive import registry
from tinygrad_seq.tape import Leaf
from tinygrad_seq.viz import film as film_module
from tinygrad_seq.viz import page
from tinygrad_seq.viz.film import bytes_held, film

from . import modelled, runs


def played(name, T=3, level="op", **options):
    tape, loss = runs.ALL[name](T=T)
    loss.backward()
    return tape, loss, viz.play(tape, level=level, **options)


def filmed(page):
    """The film, as a browser finds it in the page."""
    found = re.search(r'<script type="application/json" id="player:film">(.*?)</script>', page.html, re.DOTALL)
    return json.loads(found[1])


every_run = pytest.mark.parametrize("name", runs.ALL)

# ---- truth ----------------------------------------------------------------------------------------------------------


@every_run
def test_the_order_is_that_of_the_tape_and_of_the_sweep(name):
    tape, loss = runs.ALL[name](T=3)
    swept = [(event.index, event.lines) for event in tape.sweep(loss)]
    loss.backward()
    found = filmed(viz.play(tape, level="cell"))
    assert [int(found["rows"][step["row"]][0]) for step in found["forward"]] == [entry.index for entry in tape]
    assert [int(found["rows"][step["row"]][0]) for step in found["backward"]] == [index for index, _ in swept]
    assert [[term["line"] for term in step["terms"]] for step in found["backward"]] == [lines for _, lines in swept]


def test_the_rows_are_the_tape_in_print():
    tape, _, shown = played("lstm")
    found = filmed(shown)
    printed = str(tape).splitlines()
    for row, line in zip([found["titles"], *found["rows"]], printed, strict=True):
        assert [cell for cell in row if cell] == re.split(r"  +", line.strip())


@every_run
def test_the_numbers_are_the_tapes(name):
    tape, _, shown = played(name, level="cell")
    found = filmed(shown)
    for entry, step in zip(tape, found["forward"], strict=True):
        assert_is(step["value"], entry.value)
    for event, step in zip(tape.events, found["backward"], strict=True):
        cotangents = event.cotangent if isinstance(event.cotangent, tuple) else (event.cotangent,)
        for told, array in zip(step["incoming"], cotangents, strict=True):
            assert_is(told, array)
        for term, (i, array) in zip(step["terms"], event.terms, strict=True):
            assert_is(term["outgoing"], array)
            assert term["to"] == tape[i].label


def assert_is(told, array):
    """A summary says of an array what is so: shape, norm, and the values up to 4 × 4."""
    assert tuple(told["shape"]) == array.shape
    if array.dtype.kind == "f":
        assert told["norm"] == pytest.approx(np.linalg.norm(array.astype(float)), rel=1e-5)
    assert ("values" in told) == (array.ndim <= 2 and max(array.shape, default=0) <= 4)
    if "values" in told:
        np.testing.assert_allclose(told["values"], array, rtol=1e-5)


def test_what_is_not_finite_is_told_as_such():
    x = tg.tensor([0.0, 4.0], requires_grad=True)
    with tg.record() as tape:
        y = np.sqrt(x).sum()
    y.backward()
    root = filmed(viz.play(tape))["backward"][1]["terms"][0]
    assert root["local"]["arrays"][0]["values"] == ["inf", 0.25]
    assert root["outgoing"] == {"shape": [2], "norm": "inf", "values": ["inf", 0.25]}


# ---- incoming × local = outgoing, for every primitive ---------------------------------------------------------------


def recorded_samples():
    """(what, tape) for every sample of every primitive that has a gradient."""
    for name, made in registry.items():
        for k, sample in enumerate(made.samples):
            inputs = [np.asarray(x) if isinstance(x, np.generic) else x for x in sample.inputs(np.random.default_rng(3))]
            with tg.record() as tape:
                leaves = [tg.tensor(x, requires_grad=x.dtype.kind == "f") if isinstance(x, np.ndarray) else x for x in inputs]
                result = made(*leaves, **sample.params)
                outputs = [y for y in (result if isinstance(result, tuple) else (result,)) if y.requires_grad]
                total = sum(((y * y).sum() for y in outputs), start=tg.tensor(0.0))
            if outputs:
                total.backward()
                yield f"{name}, sample {k}", tape


def test_incoming_times_local_is_outgoing():
    checked = dict.fromkeys(("partials", "jacobian", "saved"), 0)
    for what, tape in recorded_samples():
        found = film(tape, [])
        json.dumps(found, allow_nan=False)
        for step in found["backward"]:
            for term in step["terms"]:
                kind = term["local"]["kind"]
                told = [*step["incoming"], *term["local"]["arrays"], term["outgoing"]]
                checked[kind] += 1
                if kind != "saved" and all("values" in each for each in told):
                    g, local, out = (np.array(each["values"], float).reshape(each["shape"]) for each in told)
                    with np.errstate(invalid="ignore"):
                        flows = g * local if kind == "partials" else (g.ravel() @ local).reshape(out.shape)
                    assert_close(out, flows, what)
    assert checked["partials"] > 300 and checked["jacobian"] > 50 and checked["saved"] > 100, checked


def assert_close(out, flows, what):
    """The same, once the axes that broadcasting had stretched are added up; where a partial is infinite, nothing is said."""
    flows = flows.sum(axis=tuple(range(flows.ndim - out.ndim)))
    flows = flows.sum(axis=tuple(a for a, n in enumerate(out.shape) if n == 1), keepdims=True)
    where = np.isfinite(flows)
    np.testing.assert_allclose(out[where], flows[where], rtol=1e-4, atol=1e-4, err_msg=what)


# ---- the picture: what is at work when ------------------------------------------------------------------------------

every_level = pytest.mark.parametrize("level", ["rolled", "cell", "gate", "op"])


@every_level
@every_run
def test_every_step_lights_what_it_is_in_the_picture(name, level):
    tape, loss = runs.ALL[name](T=3)
    loss.backward()
    picture = viz.draw(tape, level=level).data
    found = film(tape, [picture])
    nodes, edges = picture["nodes"], picture["edges"]
    lit = {True: set(), False: set()}
    held = {node["id"]: set(node["entries"]) for node in nodes}
    for k, step in enumerate([*found["forward"], *found["backward"]]):
        back = k >= len(tape)
        index = tape.events[k - len(tape)].index if back else k
        reads = set(tape.events[k - len(tape)].inputs if back else tape[index].inputs)
        ((here, arrows),) = step["lit"]
        assert {nodes[n]["id"] for n in here} == {node["id"] for node in nodes if index in node["entries"]}
        for edge in (edges[n] for n in arrows):
            assert (edge["kind"] == "backward") == back
            far, near = ("to", "from") if back else ("from", "to")
            assert index in held[edge[near]]
            assert held[edge[far]] & (reads | {index})
            if edge.get("delay"):  # in a rolled picture: from which step to which
                assert edge["delay"] in {tape[index].t - tape[i].t for i in reads if tape[i].t is not None}
        lit[back] |= set(arrows)
    expected = {n for n, edge in enumerate(edges) if edge["kind"] == "backward" and edge["grad"]["status"] != "none"}
    assert lit[True] >= expected
    assert lit[False] == {n for n, edge in enumerate(edges) if edge["kind"] != "backward"}


LAYERED = dict.fromkeys(modelled.LAYERS, modelled.recorded) | dict.fromkeys(modelled.TOPOLOGIES, modelled.topology)


@pytest.mark.parametrize("name", ["LSTM", "two layers, two directions", "Bahdanau"])
@every_level
def test_every_arrow_that_plays_is_in_the_picture(name, level):
    """Also a loop's way back, and one of two arrows that join the same boxes."""
    tape = (modelled.recorded if name in modelled.LAYERS else modelled.topology)(name, 4)[0]
    drawing = viz.draw(tape, level=level)
    shown = set(re.findall(r'[ \[]class="(forward|backward|cut)".*? id="([^"]*)"', drawing.source))
    assert {(kind, arrow) for kind, arrow in film(tape, [drawing.data])["pictures"][0]["edges"]} == shown
    assert len(shown) == len(drawing.data["edges"])


@pytest.mark.parametrize("level", ["cell", "gate", "op"])
@pytest.mark.parametrize("name", LAYERED)
def test_an_arrow_from_step_to_step_plays_when_that_step_does(name, level):
    """Though the product with all inputs, and the stack of all outputs, are single entries that touch every step."""
    tape, _ = LAYERED[name](name)
    picture = viz.draw(tape, level=level).data
    time_of = {node["id"]: node["t"] for node in picture["nodes"]}
    found = film(tape, [picture])
    lit = {"to": set(), "from": set()}  # at which end of an arrow the box at work stands, going forward and backward
    for end, steps in (("to", found["forward"]), ("from", found["backward"])):
        for step in steps:
            ((_, arrows),) = step["lit"]
            lit[end] |= set(arrows)
            for edge in (picture["edges"][n] for n in arrows):
                times = {time_of[edge["from"]], time_of[edge["to"]]}
                handed_on = len(times) == 2 and None not in times and "decoder" not in edge["from"] + edge["to"]
                assert not handed_on or tape[step["row"]].t == time_of[edge[end]]
    flowing = {n for n, edge in enumerate(picture["edges"]) if edge["kind"] == "backward" and edge["grad"]["status"] != "none"}
    assert lit["from"] >= flowing
    assert lit["to"] == {n for n, edge in enumerate(picture["edges"]) if edge["kind"] != "backward"}


def test_an_arrow_from_a_box_of_many_steps_plays_when_the_last_of_them_does():
    tape, _ = modelled.recorded("LSTM", T=9)
    picture = viz.draw(tape, level="cell", steps=4).data
    (elided,) = [node for node in picture["nodes"] if node["kind"] == "elided"]
    first, last = elided["steps"]
    ends = {"from": elided["id"], "to": f"t{first - 1}.lstm"}
    (arrow,) = [n for n, edge in enumerate(picture["edges"]) if edge["kind"] == "backward" and ends.items() <= edge.items()]
    steps = {tape[step["row"]].t for step in film(tape, [picture])["backward"] if arrow in step["lit"][0][1]}
    assert (first, last) == (3, 7) and steps == {3}


def test_finding_what_is_lit_takes_time_in_proportion_to_the_tape(monkeypatch):
    """An operation over all of time stands in the boxes of all steps; yet twice the steps are twice the arrows to look at."""

    def looked_at(T):
        tape, _ = modelled.recorded("LSTM", T=T)
        picture = viz.draw(tape, level="cell", steps="all", budget=10_000).data
        calls = []
        with monkeypatch.context() as patch:
            patch.setattr(film_module.Cast, "_between", lambda self, *given: calls.append(given) or [])
            film(tape, [picture])
        return len(calls)

    assert looked_at(40) < 2.2 * looked_at(20)


def test_the_wave_goes_back_in_the_order_of_the_sweep():
    """h<t> = h<t-1> w: the arrows between the steps light one after the other, the last first."""
    w, h = tg.Parameter([[0.5]], name="w"), tg.tensor([[1.0]], requires_grad=True, name="h<init>")
    with tg.record() as tape:
        for t in range(4):
            with tg.scope("rnn", t=t):
                h = h * w
    h.backward()
    picture = viz.draw(tape, level="op").data
    ids = [node["id"] for node in picture["nodes"] if node["slot"] == "rnn.multiply"]
    order = {n: k for k, step in enumerate(film(tape, [picture])["backward"]) for n in step["lit"][0][1]}
    between = {
        (edge["from"], edge["to"]): order[n]
        for n, edge in enumerate(picture["edges"]) if edge["kind"] == "backward" and {edge["from"], edge["to"]} <= set(ids)
    }  # fmt: skip
    steps = [between[later, earlier] for earlier, later in pairwise(sorted(ids))]
    assert steps == [3, 2, 1, 0]  # from h<init> to the first product, and so on


# ---- bytes ----------------------------------------------------------------------------------------------------------


def test_the_bytes_by_hand():
    """The tape of the README, float32 of one element: each tanh saves its output, 4 bytes, and the square h<1>, saved before.

    Forward  h<init> w z<0> h<0> z<1> h<1> L      0 0 0 4 4 8 8
    Backward L h<1> z<1> h<0> z<0> w              8 4 4 0 0 0
    """
    w, h = tg.Parameter([[0.5]], name="w"), tg.tensor([[0.8]], name="h<init>")
    with tg.record() as tape:
        for _ in range(2):
            h = np.tanh(h @ w)
        loss = h * h
    assert bytes_held(tape, []) == [0, 0, 0, 4, 4, 8, 8]
    loss.backward()
    assert bytes_held(tape, tape.events) == [0, 0, 0, 4, 4, 8, 8, 8, 4, 4, 0, 0, 0]


@every_run
def test_bytes_are_let_go_of_as_the_sweep_passes(name):
    tape, _, shown = played(name, level="cell")
    found = filmed(shown)
    held = [step["held"] for step in found["forward"]]
    assert held == sorted(held) and held[-1] == sum(entry.saved_bytes for entry in tape) > 0
    back = [step["held"] for step in found["backward"]]
    passed = {event.index for event in tape.events}
    left = sum(entry.saved_bytes for entry in tape if entry.index not in passed)
    assert back == sorted(back, reverse=True) and back[-1] == left
    assert (left > 0) == (name == "split and cut")  # behind the cut nothing is passed


@pytest.mark.parametrize("layer", [RNN, GRU, LSTM])
def test_after_the_forward_pass_these_bytes_are_what_the_graph_keeps_alive(layer):
    """As the allocator counts them: all arrays made by an unrecorded forward pass that still exist, but for the loss itself."""

    def forward():
        outputs, _ = model(np.random.default_rng(0).normal(size=(6, 2, 3)).astype(np.float32))
        return (outputs * outputs).sum()

    def alive():
        numpys = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
        return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([numpys]).traces)

    model = layer(3, 4)
    forward()
    tracemalloc.start()
    try:
        loss = forward()
        kept = alive() - loss.data.nbytes
        held = bytes_held(tg.tape(loss), [])[-1]
        loss.backward()
        left = alive() - loss.data.nbytes - sum(weight.grad.data.nbytes for weight in model.parameters())
    finally:
        tracemalloc.stop()
    assert held == kept > 500
    assert left == 0  # and this is when: at the end of the whole backward pass


@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM", "Peephole", "two layers, two directions"])
def test_what_is_held_is_what_the_nodes_save_that_the_sweep_has_still_to_pass(name):
    layer, x = modelled.LAYERS[name](), np.random.default_rng(0).normal(size=(3, 2, 3))
    with tg.record() as tape:
        outputs, _ = layer(x)
        loss = (outputs * outputs).sum()
    loss.backward()
    calls = {getattr(node, "bundle", node) for node in tape.whole.nodes if not isinstance(node, Leaf)}
    own = {  # arrays of weights and inputs, which somebody else keeps
        id(buffer_of(value))
        for node in calls
        for _, pullback, take in node.routes or ()
        for value, source in zip((take(node.saved) if take else ()), pullback.sources)
        if isinstance(value, np.ndarray) and source is not None and source >= 0 and isinstance(node.inputs[source], Leaf)
    }
    own |= {id(buffer_of(weight.data)) for weight in layer.parameters()}  # a GRU's, whose blocks are views

    def saved(nodes):
        found = {id(b): b.nbytes for node in nodes for b in map(buffer_of, node.saved_arrays)}
        return sum(size for key, size in found.items() if key not in own)

    left = calls
    held = bytes_held(tape, tape.events)
    assert held[len(tape) - 1] == saved(left) > 0
    for event, bytes_ in zip(tape.events, held[len(tape) :], strict=True):
        left.discard(event.node)
        assert bytes_ == saved(left)


def test_what_no_sweep_passes_stays_held():
    x = tg.tensor([0.5], requires_grad=True)
    with tg.record() as tape:
        y, aside = np.tanh(x), np.exp(x)
    y.backward()
    assert aside.requires_grad and bytes_held(tape, tape.events)[-1] == tape.find("exp")[0].saved_bytes == 4


# ---- the bars of a weight's gradient --------------------------------------------------------------------------------


@every_run
def test_a_bar_is_known_when_the_last_of_its_gradient_has_arrived(name):
    tape, loss = runs.ALL[name](T=4)
    loss.backward()
    picture = viz.draw(tape, level="cell").data
    bars = dict(film(tape, [picture])["bars"])
    assert len(bars) == sum(len(strip["steps"]) + 1 for strip in picture["shares"])
    for strip in picture["shares"]:
        (weight,) = next(node["entries"] for node in picture["nodes"] if node["id"] == strip["weight"])
        brought = [(k, event) for k, event in enumerate(tape.events, len(tape) + 1) if weight in dict(event.terms)]
        for n, share in enumerate(strip["steps"]):
            assert bars[f"share.{strip['weight']}.{n}"] == max(k for k, event in brought if event.entry.t == share["t"])
        reached = next(k for k, event in enumerate(tape.events, len(tape) + 1) if event.index == weight)
        assert bars[f"share.{strip['weight']}.sum"] == reached > max(k for k, _ in brought)


def test_bars_of_what_is_multiplied_over_all_of_time_are_known_at_once():
    tape, _ = modelled.recorded("LSTM")
    picture = viz.draw(tape, level="cell", weights=["W_x", "W_h"]).data
    bars = dict(film(tape, [picture])["bars"])
    product = next(event for event in tape.events if tape.find("W_x")[0].index in dict(event.terms))
    at_once = len(tape) + 1 + [event.index for event in tape.events].index(product.index)
    assert [bars[f"share.W_x.{n}"] for n in range(3)] == [at_once] * 3
    assert [bars[f"share.W_h.{n}"] for n in range(3)] == sorted((bars[f"share.W_h.{n}"] for n in range(3)), reverse=True)
    assert len({bars[f"share.W_h.{n}"] for n in range(3)}) == 3


# ---- which tapes ----------------------------------------------------------------------------------------------------


def test_a_tape_without_a_backward_pass_plays_forward():
    _, loss = runs.elman(2)
    for target in (loss, runs.elman(2)[0]):
        found = filmed(viz.play(target))
        assert found["forward"] and found["backward"] == []
    assert 'class="scale"' not in viz.play(loss).html


def test_a_part_of_a_tape():
    tape, _, _ = played("lstm", T=3)
    part = tape.at(1)
    found = filmed(viz.play(part))
    assert [row[1] for row in found["rows"]] == ["1"] * len(part)
    events = [event.index for event in tape.events if tape[event.index].t == 1]
    assert [int(found["rows"][step["row"]][0]) for step in found["backward"]] == events
    assert all(len(step["inputs"]) <= len(entry.inputs) for step, entry in zip(found["forward"], part))


def test_a_value_that_nobody_kept_is_told_as_missing():
    x = tg.tensor([1.0], requires_grad=True)
    found = filmed(viz.play((x + 1.0) + x))
    assert [step["value"] is None for step in found["forward"]] == [False, False, True, False]


def test_two_backward_passes_follow_each_other():
    x = tg.tensor([0.5], requires_grad=True, name="x")
    with tg.record() as tape:
        y = np.tanh(x)
    y.backward(retain_graph=True)
    y.backward()
    assert [step["row"] for step in filmed(viz.play(tape))["backward"]] == [1, 0, 1, 0]
    assert bytes_held(tape, tape.events) == [0, 4, 4, 4, 0, 0]


def test_what_cannot_be_played_is_refused(monkeypatch):
    tape, _ = runs.elman(1)
    with pytest.raises(ValueError, match="empty"):
        viz.play(tape[:0])
    with pytest.raises(ValueError, match="level"):
        viz.play(tape, level="atom")
    monkeypatch.setattr(page, "LONGEST", 3)
    with pytest.raises(ValueError, match=rf"{len(tape)} steps are too many .* tape\[a:b\]"):
        viz.play(tape)


def unfolded(level):
    """The boxes that unfold in the page of an LSTM, each with its parts."""
    found = filmed(played("lstm", level=level)[2])
    coarse, fine = (picture["nodes"] for picture in found["pictures"])
    return {coarse[int(n)]: {fine[m] for m in held} for n, held in found["inside"].items()}


def test_a_box_unfolds_into_those_of_the_finer_picture():
    parts = unfolded("cell")
    assert parts.keys() == {f"t{t}.lstm" for t in range(3)}
    assert {"t1.lstm.f", "t1.lstm.u", "t1.lstm.o", "t1.lstm.c~"} < parts["t1.lstm"]
    assert not any(name.startswith("t2") for name in parts["t1.lstm"])
    assert unfolded("gate").keys() == {f"t{t}.lstm.{gate}" for t in range(3) for gate in ("f", "u", "o", "c~")}
    assert filmed(played("lstm", level="cell", unfold=False)[2])["inside"] == {}
    assert len(filmed(played("lstm", level="op")[2])["pictures"]) == 1


def test_a_cell_unfolds_into_all_that_it_does_at_its_step():
    """Of our layers, too, where the input's product and the stack of the outputs are one for all steps."""
    tape, _ = modelled.recorded("LSTM")
    coarse, fine = (viz.draw(tape, level=level).data for level in ("cell", "gate"))
    found = film(tape, [coarse, fine])["inside"]
    nodes = fine["nodes"]
    for n, held in found.items():
        box = coarse["nodes"][n]
        around = {"input", "weight", "loss", "constant"}
        at_step = {m for m, node in enumerate(nodes) if node["t"] == box["t"] and node["kind"] not in around}
        assert set(held) == {m for m in at_step if set(nodes[m]["entries"]) <= set(box["entries"])}
        assert {f"h<{box['t']}>", f"c<{box['t']}>"} <= {nodes[m]["label"] for m in held}
    assert [coarse["nodes"][n]["id"] for n in found] == ["t0.lstm", "t1.lstm", "t2.lstm"]


def test_a_long_tape_stays_a_small_page():
    """50 steps of an LSTM, operation by operation: no more than a photograph."""
    tape, _ = modelled.recorded("LSTM", T=50)
    shown = viz.play(tape, level="op", steps="all", budget=10_000)
    assert len(filmed(shown)["forward"]) > 700
    assert len(shown.html) < 5_000_000


# ---- one file, safe and the same everywhere -------------------------------------------------------------------------


class Elements(HTMLParser):
    """The elements of a page, with the text of its scripts and what they point to."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.addresses, self.scripts = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.addresses += [v for k, v in attributes.items() if k in ("src", "href", "xlink:href", "action", "data", "srcset")]
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data


def test_the_page_loads_nothing_and_runs_nothing_else():
    for level in ("cell", "op"):
        text = played("lstm", level=level)[2].html
        elements = Elements(text)
        assert elements.addresses == []
        assert not {"link", "img", "iframe", "base", "object"} & set(elements.tags)
        assert not re.search(r"@import|url\(", text)
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
        digest = base64.b64encode(hashlib.sha256(elements.scripts[1].encode()).digest()).decode()
        assert policy.startswith("default-src 'none';") and f"script-src 'sha256-{digest}'" in policy
        assert len(elements.scripts) == 2
        assert len(set(elements.ids)) == len(elements.ids)


def test_the_script_finds_all_that_it_looks_for():
    elements = Elements(played("elman")[2].html)
    script = (files("tinygrad_seq.viz") / "player" / "player.js").read_text(encoding="utf-8")
    wanted = set(re.findall(r'part\("([a-z-]+)"\)', script))
    assert len(wanted) > 15
    assert {f"player:{name}" for name in wanted} <= set(elements.ids)


SCRIPT = """
import sys
sys.path.insert(0, {folder!r})
import runs
from tinygrad_seq import viz
for name, level in (("lstm", "cell"), ("both directions", "gate"), ("split and cut", "op")):
    tape, loss = runs.ALL[name](T=3)
    loss.backward()
    sys.stdout.buffer.write(viz.play(tape, level=level).html.encode())
"""


def test_the_same_bytes_in_every_process():
    command = [sys.executable, "-c", SCRIPT.format(folder=str(Path(__file__).parent))]
    outputs = [
        subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("0", "4242")
    ]
    assert len(outputs[0]) > 100_000
    assert outputs[0] == outputs[1]


tricky = st.sampled_from("<>{}|\"'\\&\n;!-/$")
hostile = st.text(st.one_of(tricky, st.characters()), min_size=1, max_size=20)


@settings(max_examples=40, deadline=None)
@given(hostile)
@example("</script><script>alert(1)</script>")
@example("<!-- <script>")
@example("]]> --> $film ${picture}")
@example("\u202eright to left \u05d0\u05d1\u2028\u2029")
@example("\x00\x07\x1b[31m\x85\ud800")
@example('" onload="alert(1)')
def test_any_label_is_text_in_the_page(label):
    x = tg.tensor([1.0], requires_grad=True, name=label)
    with tg.record() as tape, tg.scope(label, t=0):
        y = np.tanh(x)
        y.name = label
    y.backward()
    shown = viz.play(tape, level="op")
    elements = Elements(shown.html)
    assert len(elements.scripts) == 2
    assert elements.scripts[0].isascii() and "<" not in elements.scripts[0]
    found = json.loads(elements.scripts[0])
    assert found["rows"] == [list(cells(entry)) for entry in tape]
    assert sum(label in row[3] for row in found["rows"]) == 2 or label.startswith("%")  # which the tape does not print as a name
    assert found["backward"][0]["terms"][0]["to"] == label
    assert not any(tag.startswith(("b", "alert")) and tag not in ("body", "button") for tag in elements.tags)
    shown.html.encode()


# ---- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["p.svg", "p.png", "p", "new/p.pdf"])
def test_a_page_is_written_as_html_only(tmp_path, name):
    tape, _ = runs.elman(1)
    with pytest.raises(ValueError, match=r"a player is a page: 'p[.a-z]*' ends in none of \.html, \.htm; a picture .* viz\.draw"):
        viz.play(tape).save(tmp_path / name)
    assert [*tmp_path.iterdir()] == []
    assert viz.play(tape).save(tmp_path / "P.HTM").exists()


def test_save_writes_the_whole_page_or_nothing(tmp_path, monkeypatch):
    _, _, shown = played("elman", T=2)
    path = shown.save(tmp_path / "new" / "page.html")
    assert path.read_text(encoding="utf-8") == shown.html
    assert [each.name for each in path.parent.iterdir()] == ["page.html"]
    path.write_text("before", encoding="utf-8")

    def fail(source, target):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        shown.save(path)
    assert path.read_text(encoding="utf-8") == "before"
    assert [each.name for each in path.parent.iterdir()] == ["page.html"]


def test_in_a_notebook_it_has_a_frame_of_its_own():
    _, _, shown = played("elman", T=2)
    frame = re.fullmatch(r'<iframe sandbox="allow-scripts" srcdoc="([^"]*)" style="[^"]*"></iframe>', shown._repr_html_())
    assert frame is not None and "<" not in frame[1]
    assert repr(shown) == f"<Page of {len(filmed(shown)['forward'])} steps forward, {len(filmed(shown)['backward'])} backward>"


def test_the_pictures_own_colours_turn_dark_and_the_scales_do_not():
    svg = viz.draw(played("lstm")[0], level="gate").svg()
    style = svg[svg.index("<style>") : svg.index("</style>")]
    assert "@media screen and (prefers-color-scheme: dark)" in style
    rules = dict(re.findall(r'\[(?:fill|stroke)="(#?\w+)"\].*?\{\w+:(#\w{6})\}', style))
    assert {"white", "#ffffff", "#33415c", "#dde7fb"} <= rules.keys()
    assert not {"#2c4875", "#ffa600"} & rules.keys()
    for light, dark in rules.items():
        assert abs(lightness(light) + lightness(dark) - 1) < 0.35
    assert lightness(rules["#33415c"]) - lightness(rules["#dde7fb"]) > 0.4  # text on a box


def lightness(colour):
    channels = (255, 255, 255) if colour == "white" else [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return (max(channels) + min(channels)) / 510
