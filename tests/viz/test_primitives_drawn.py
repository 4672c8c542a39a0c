"""Every primitive can be drawn, with its gradient, its local derivative and its place in time."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

import tinygrad_seq as tg
from tinygrad_seq import viz
from tinygrad_seq.primitive import registry

NAMES = sorted(name for name, op in registry.items() if op.samples)


def tensors(sample, seed):
    arrays = map(np.asarray, sample.inputs(np.random.default_rng(seed)))
    return [tg.tensor(x, requires_grad=x.dtype.kind == "f", name=f"x{k}") for k, x in enumerate(arrays)]


def test_all_are_tried():
    assert len(NAMES) > 80
    assert not [name for name, op in registry.items() if op.differentiable and not op.samples]


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_drawn(name):
    op = registry[name]
    for n, sample in enumerate(op.samples[:3]):
        inputs = tensors(sample, n)
        with tg.record() as tape:
            with tg.scope("cell", t=0):
                outputs = op(*inputs, **sample.params)
                outputs = outputs if isinstance(outputs, tuple | list) else [outputs]
            loss = sum((part * part).sum() for part in outputs)
        if loss.requires_grad:
            loss.backward()
        for level in ("op", "cell", "rolled"):
            drawing = viz.draw(tape, level=level)
            held = {i for node in drawing.data["nodes"] for i in node["entries"]}
            assert held == set(range(len(tape))), level
            assert drawing.json()
        made = [node for node in viz.draw(tape, level="op").data["nodes"] if node["t"] == 0]
        assert any(tape[i].op == name for node in made for i in node["entries"])


def test_one_picture_of_them_all():
    """Their labels and derivatives go through Graphviz, and come out as XML."""
    with tg.record() as tape:
        for name in NAMES:
            op = registry[name]
            sample = op.samples[0]
            with tg.scope(name, t=0):
                op(*tensors(sample, 0), **sample.params)
    drawing = viz.draw(tape, level="op", budget=10_000)
    found = {group.get("id") for group in ET.fromstring(drawing.svg()).iter("{http://www.w3.org/2000/svg}g")}
    assert {node["id"] for node in drawing.data["nodes"]} <= found
