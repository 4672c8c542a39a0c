"""What a cut keeps away. Read me beside `gradients.py`.

Behind a `detach` there is no gradient: that is what truncated back-propagation through time is for. But how much is
lost? The sweep can be run once more, passing cuts as if they were not there, and what it carries along every edge is
what full back-propagation through time would have carried.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping

from tinygrad_seq.events import Event
from tinygrad_seq.tensor import Tensor
from tinygrad_seq.viz.calls import Calls
from tinygrad_seq.viz.gradients import Gradients, Link
from tinygrad_seq.viz.graph import Edge, Grad


def note_what_is_lost(calls: Calls, edges: Mapping[Hashable, Edge], link: Link) -> None:
    """Set `full` on the edges that a cut keeps something from, if there are cuts on the tape."""
    if not any(calls.is_cut(call) for call in calls.order):
        return
    grad_of = Gradients(calls)
    flowing = grad_of.edges(_full_sweep(calls), link, each_step=False)
    for key, edge in edges.items():
        full = grad_of.edge(flowing.get(key), padded=False)
        if edge.grad is not None and _differs(edge.grad, full):
            edge.full = full
            if edge.cut and full.norm:
                edge.target.small = f"full BPTT: {full.norm:.2g}"


def _full_sweep(calls: Calls) -> Iterator[Event]:
    """The backward passes that the tape has seen, from where they started, once more and through all cuts."""
    reached = {event.index for event in calls.events}
    used = {i for reader in reached for i in calls.whole[reader].inputs}
    for event in calls.events:
        entry = event.entry
        if event.index not in used and entry.value is not None and not isinstance(event.cotangent, tuple):
            yield from calls.tape.sweep(Tensor(entry.value, entry.node), event.cotangent, through_cuts=True)


def _differs(grad: Grad, full: Grad) -> bool:
    if grad.norm is None or full.norm is None:
        return grad.status != full.status
    return abs(grad.norm - full.norm) > 1e-5 * full.norm
