"""Which values have time as an axis. Read `tape.py` first; `listing.py` and `bptt.py` take such values apart, step by step.

Code that does not depend on the previous step may run over all of time at once, in `tg.scope(name, time_axis=0)`. The scope
says it of all that happens inside, and not all of it is true of every value there: in x @ W.T the product has an axis of
time, and W.T has none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from operator import attrgetter

import numpy as np

from tinygrad_seq.ops.index import may_repeat
from tinygrad_seq.reach import reachable
from tinygrad_seq.tape import Bundle, Leaf, Node, Output


def axis_of_time(node: Node) -> int | None:
    """Which axis of a value is time, or of all outputs of a call: the scope's, if the value has as many axes.

    Outputs have it only if they have as many axes as the operation's widest input: a call such as `unstack` takes it away.
    """
    axis = node.scope.time_axis
    if axis is None or node.scope.t is not None:
        return None
    if isinstance(node, (Bundle, Output)):
        bundle = node.bundle if isinstance(node, Output) else node
        axes = max((len(source.shape) for source in bundle.sources), default=0)
        return axis if axis < axes and all(len(shape) == axes for shape in bundle.shapes) else None
    return axis if axis < len(node.shape) else None


COPYING = ("broadcast_to", "tile", "repeat", "embedding")  # operations that may make an axis of time out of a weight


def weights_alone(nodes: Iterable[Node], *weights: Node) -> set[Node]:
    """Parameters, and what is made of such alone: a W.T over all of time has no axis of time.

    Args:
        nodes: of a graph; those that they were computed from outside of steps are looked at, too.
        *weights: leaves that are known to be weights, whether they are a `Parameter` or not.
    """
    outside = [node for node in nodes if node.scope.t is None]
    seen = reachable(outside, lambda node: [source for source in node.sources if source.scope.t is None])
    found = set(weights)
    for node in sorted(seen, key=attrgetter("serial")):
        if node.learned if isinstance(node, Leaf) else _of_weights(node, found):
            found.add(node)
    return found


def _of_weights(node: Node, weights: Collection[Node]) -> bool:
    """Whether an operation only makes another weight of weights; a constant beside them may scale or mask it."""
    inputs = node.sources
    others = [each for each in inputs if each not in weights]
    if len(others) == len(inputs) or node.op in COPYING or (node.op == "getitem" and may_repeat((node.params or {})["index"])):
        return False
    shapes = [each.shape for each in inputs if each in weights]
    elementwise = any(pullback.elementwise for _, pullback, _ in node.routes or ())
    constants = all(isinstance(each, Leaf) for each in others)
    return not others or (elementwise and constants and np.broadcast_shapes(*shapes) == node.shape)
