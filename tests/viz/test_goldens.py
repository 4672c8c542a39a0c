"""How many nodes and edges every cell has at every level, counted by hand, and that all text is the same everywhere.

The run is two steps of a cell in `Recurrent`, and a loss of the last output alone. Around the cell there are always

    h<init>   [c<init>]                               one for each state: S nodes
    W -- Σ                                            for each of P weights, which both steps use: 2 P nodes, P edges
    h<1> -- stack   [c<1> -- stack]                   the layer's last state, which no loss reads: at level "op" S nodes, S edges
    h<1> -- [ ] -- × -- L                             the loss: 3 nodes, 3 edges

so that N nodes and E edges into them at each step make 2 N + 2 P + 2 S + 3 nodes and 2 E + P + S + 3 edges (at the other
levels 2 N + 2 P + S + 3 and 2 E + P + 3), and a Σ is to be added (1 node, 1 edge) where gradients of one value meet, or meet
one step before. At level "cell" a step is x<t> and the cell. It reads x<t>, P weights and, at t = 0, S states; at t = 1 one
arrow brings them all. At level "rolled" all this stands there once, without any Σ: x<t>, the cell, P weights, S initial
states, S loops.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tinygrad_seq import viz

from . import modelled


class Step(NamedTuple):
    """One step of a cell: its nodes and the edges into them at level "op" and at "gate", and what else there is to count."""

    nodes: int
    edges: int
    weights: int
    states: int = 1
    sums: int = 0  # in both steps together
    gate_nodes: int = 0
    gate_edges: int = 0


# The numbers in the drawings are those of the edges into each node. At level "gate" the products with weights, the sums of these
# and the cut into gates are one node, `linear`, wherever they are connected; it is said below what it reads.
STEPS = {
    #   x<t> - @2 - +2 -.                                              x<t>, 5 operations: 6 nodes
    #   W_x ---^  b -^   +2 - tanh1 -> h<t>                            2 + 2 + 2 + 2 + 1 = 9 edges
    #   h<t-1> - @2 ----^                                              h<0> has one use: no sum
    #   gate: x<t>, linear5 (x, h, W_x, W_h, b), tanh1                 3 nodes, 6 edges
    "RNN": Step(6, 9, weights=3, gate_nodes=3, gate_edges=6),
    #   as RNN, then                                                   9 nodes, 9 + 2 + 2 + 1 = 14 edges
    #   tanh - @2 - +2 - softmax1 -> h<t>
    #   gate: x<t>, linear5, a1, o3 (a, W_y, b_y), softmax1            5 nodes, 10 edges
    "OutputRNN": Step(9, 14, weights=5, gate_nodes=5, gate_edges=10),
    #   x<t> - @2 - +2 - split1 - - - - - - - - - - -.
    #   W_h - split1                   .- σ1 (u) - Σ1 ---- 1-1 ---- ×2 -.
    #         h<t-1> - @2 - +2 - split1               `- ×2 (u c~) ---- +2 -> h<t>
    #                                `- σ1 (r) - ×2 - @2 - +2 - tanh1 -^
    #   18 nodes and the Σ of u at each step; 2+2+1+1 + 2+2+1+1+1 + 2+2+2+1 + 2+1+2+2 = 27 edges, and 1 to that Σ.
    #   h<0> is read by @, × and ×: another Σ, and, to look the same, one at h<1>.
    #   gate: x<t>, linear5, u1, r1, ×2 (r h), linear3 (that product, W_h, and what the first linear made of x),
    #   c~1, ×2, 1-1, ×2, +2                                           11 nodes, 20 edges
    "GRU": Step(18, 27, weights=3, sums=4, gate_nodes=11, gate_edges=20),
    #   x<t> - @2 - +2 -.          .- σ1 (u) - Σ1 - 1-1 - ×2 -.        12 nodes
    #        h<t-1> - @2 - +2 - split1          `- ×2 -------- +2      2+2+2+2+1 + 1+1 + 2+1+2+2 = 18 edges
    #                              `- tanh1 (c~) ---^                  Σ of u twice; of h<0>, read by @ and ×, and of h<1>
    #   gate: x<t>, linear5, u1, c~1, ×2, 1-1, ×2, +2                  8 nodes, 14 edges
    "SimplifiedGRU": Step(12, 18, weights=3, sums=4, gate_nodes=8, gate_edges=14),
    #   x<t> - @2 - +2 -.          .- σ1 (f) ------ ×2 -.              15 nodes
    #        h<t-1> - @2 - +2 - split1 - σ1 (u) --- ×2 - +2 -> c<t>    2+2+2+2+1 + 4 + 2+2+2 + 1+2 = 22 edges
    #                              |`- tanh1 (c~) --^     `- tanh1     Σ of c<0>, read by × and tanh, and of c<1>
    #                              `- σ1 (o) ----------------- ×2 -> h<t>
    #   gate: x<t>, linear5, 4 gates, ×2, ×2, +2, tanh1, ×2            11 nodes, 18 edges
    "LSTM": Step(15, 22, weights=3, states=2, sums=2, gate_nodes=11, gate_edges=18),
    #   as LSTM, and p ×2 c, +2 before each of three σ                 15 + 6 = 21 nodes, 22 + 12 = 34 edges
    #   c<t> is read by × p_o and tanh at its own step already: Σ of c<0> and of c<1>
    #   gate: as LSTM, but linear8 reads c<t-1>, p_u and p_f too, and before o a linear3 reads c<t> and p_o: 12, 18 + 3 + 3
    "Peephole": Step(21, 34, weights=6, states=2, sums=2, gate_nodes=12, gate_edges=24),
    #   as LSTM with 1-1 in the place of σ1 (f)                        15 nodes, 22 edges; Σ of u twice, of c<0> and c<1>
    #   gate: also 1-1 in the place of f1                              11 nodes, 18 edges
    "Coupled": Step(15, 22, weights=3, states=2, sums=4, gate_nodes=11, gate_edges=18),
    #   as LSTM; both products normalized: norm1, ×2 g                 4 nodes and 6 edges more
    #   and the memory: norm1, ×2 g, +2 b                              3 nodes and 5 edges more: 22, 33
    #   gate: x<t>, linear2 (x W_x), norm1, linear2 (h W_h), norm1, linear5 (both, g_x, g_h, b), 4 gates, ×2, ×2, +2,
    #   norm1, linear3 (g_c, b_c), tanh1, ×2                           17 nodes, 28 edges
    "LayerNorm": Step(22, 33, weights=7, states=2, sums=2, gate_nodes=17, gate_edges=28),
}


@pytest.mark.parametrize("name", STEPS)
def test_counts_by_hand(name):
    step, tape = STEPS[name], modelled.recorded(name, T=2)[0]
    W, S = step.weights, step.states
    expected = {
        "op": (2 * step.nodes + step.sums + 2 * W + 2 * S + 3, 2 * step.edges + step.sums + W + S + 3),
        "cell": (2 * 2 + 2 * W + S + 3, (1 + W + S) + (1 + W + 1) + W + 3),
        "rolled": (2 + W + S + 3, 1 + W + S + S + 3),
    }
    nodes, edges = step.gate_nodes, step.gate_edges
    expected["gate"] = (2 * nodes + step.sums + 2 * W + S + 3, 2 * edges + step.sums + W + 3)
    for level, counts in expected.items():
        data = viz.draw(tape, level=level, steps="all").data
        forward = [edge for edge in data["edges"] if edge["kind"] == "forward"]
        assert (len(data["nodes"]), len(forward)) == counts, level
        assert len(data["edges"]) == 2 * len(forward), level


SCRIPT = """
import hashlib, sys
sys.path.insert(0, {root!r})
from tests.viz import modelled
from tinygrad_seq import viz
for name in modelled.CELLS:
    tape, _ = modelled.recorded(name, T=2)
    for level in ("rolled", "cell", "gate", "op"):
        drawing = viz.draw(tape, level=level)
        text = drawing.source + drawing.json() + drawing.text() + drawing.alt_text
        print(name, level, hashlib.sha256(text.encode()).hexdigest())
"""


def test_the_same_bytes_in_every_process():
    """Every cell at every level: DOT, JSON, and both texts, under several hash seeds."""
    script = SCRIPT.format(root=str(Path(__file__).parents[2]))
    outputs = []
    for seed in ("0", "1", "4242"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        outputs.append(subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True).stdout)
    assert len(outputs[0].splitlines()) == 4 * len(modelled.CELLS)
    assert len(set(outputs[0].splitlines())) == 4 * len(modelled.CELLS)
    assert outputs[0] == outputs[1] == outputs[2]
