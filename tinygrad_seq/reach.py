"""Which nodes a sweep will pass, and whether it may: not what was freed, not past what was overwritten.

Read `tape.py` first. `sweep.py` asks here before it sets out, so that it fails before anything has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import takewhile
from typing import TypeVar

from tinygrad_seq import overwritten
from tinygrad_seq.errors import FreedGraphError, OverwrittenError
from tinygrad_seq.tape import Node, Output

T = TypeVar("T")


def leading_to(
    roots: Collection[Node], stops: Collection[Node], through_cuts: bool, each_output: bool, reread: bool
) -> set[Node]:
    """Every node that a cotangent from the roots can reach, without passing a stop; refuses a graph that has been freed.

    Unless `each_output` is wanted, one of several outputs that nobody watches is skipped: its cotangent goes straight into its
    bundle. (It is `reachable` written out, which every sweep begins with.)
    """
    found = set(roots)
    stack = list(roots)
    while stack:
        node = stack.pop()
        routes = node.routes
        if routes is None or (node.watch is not None and node.watch.spent and not reread):
            raise FreedGraphError(_about_freed(node, node in roots))
        if stops and node in stops:
            continue
        if type(node) is Output:
            found.add(node.bundle)
            stack.append(node.bundle)
        for i, _, _ in routes:
            parent = node.first if i == 0 else node.second if i == 1 else node.others[i - 2]
            if type(parent) is Output and not each_output and parent.watch is None and parent.requires_grad:
                parent = parent.bundle
            if parent not in found and (parent.requires_grad or through_cuts):
                found.add(parent)
                stack.append(parent)
    return found


def reachable(nodes: Iterable[T], onward: Callable[[T], Iterable[T]]) -> set[T]:
    """The nodes of any graph and all that `onward(node)` leads to from there, however far."""
    found = set(nodes)
    stack = list(found)
    while stack:
        fresh = set(onward(stack.pop())) - found
        found |= fresh
        stack += fresh
    return found


def flows_on_to(node: Node) -> list[Node]:
    """Where a node's cotangent will go: `onward`, along gradients."""
    return [parent for parent in node.parents if parent.requires_grad]


def _about_freed(node: Node, is_root: bool) -> str:
    if is_root:
        return (
            f"backward a second time from {node.describe()}: the first pass freed its graph. "
            "Compute the value again, or call the first backward with retain_graph=True"
        )
    return (
        f"the graph reaches back to {node.describe()}, which an earlier backward pass has freed. If it is the state of "
        "a recurrent network that is carried on from the last sequence, carry on h.detach() instead: truncated "
        "back-propagation through time. (retain_graph=True would keep every earlier sequence in memory)"
    )


def on_the_way(nodes: list[Node], targets: Collection[Node]) -> list[Node]:
    """Of nodes in order of execution, those that lead to a target."""
    kept: set[Node] = set()
    for node in nodes:
        if node in targets or any(parent in kept for parent in node.parents):
            kept.add(node)
    return [node for node in nodes if node in kept]


def refuse_overwritten(nodes: list[Node]) -> None:
    """Raise if an operation saved an array that has been written over since: a weight's, or a constant's."""
    for node in takewhile(lambda node: node.serial < overwritten.latest, nodes):  # in a loop of training, only weights
        for array in node.saved_arrays:
            if (writing := overwritten.since(node.serial, array)) is not None:
                raise OverwrittenError(
                    f"{writing.describe()} was overwritten after {node.describe()} had used its values, which the backward pass "
                    "still needs: call backward() before the optimiser's step(), or run the forward pass again"
                )
