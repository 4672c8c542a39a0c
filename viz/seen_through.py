"""What one sees through: calls that hand on what another call made. Read me beside `calls.py`.

Two kinds of operations stand on a tape, but in no equation of a cell:

    parts     a weight is cut up, or turned: what multiplies with a part of W_h multiplies with W_h.
    padding   at a step beyond the end of some rows, `where` keeps these rows' old state, and puts zeros where their output was.
              To all other rows it does nothing.

So where gates or cells are boxes, what reads a part reads the weight, what reads the output reads the state, and a state is one
box with the `where` that keeps it: it looks the same at every step, whether some rows are over there or none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_seq.listing import Entry
from tinygrad_seq.primitive import registry
from tinygrad_seq.tape import Output
from tinygrad_seq.viz.hoisted import is_number

if TYPE_CHECKING:
    from tinygrad_seq.viz.calls import Calls

MOVES = {"split", "unstack", "getitem", "concatenate", *(name for name, op in registry.items() if op.moves and not op.cut)}


class Padding:
    """What the steps of a layer do to rows that are over, as the scope's tag `valid` says.

    Attributes:
        keeps: for each `where` that keeps a state, by index, the new state that all other rows get.
        blanks: for each `where` that puts zeros into an output, that output.
        masks: the truth values that are read for this, and by nothing else.
    """

    def __init__(self, entries: Mapping[int, Entry], given: Collection[int]) -> None:
        self.keeps: dict[int, int] = {}
        self.blanks: dict[int, int] = {}
        self.masks: set[int] = set()
        for i, entry in entries.items():
            if entry.op == "where" and entry.t is not None and i not in given and entry.inputs[0] in entries:
                self._note(i, entry, entries, given)
        if self.masks:
            for i, entry in entries.items():
                if i not in given and i not in self.keeps and i not in self.blanks:
                    self.masks.difference_update(entry.inputs)

    def _note(self, i: int, entry: Entry, entries: Mapping[int, Entry], given: Collection[int]) -> None:
        mask, new, other = entry.inputs
        made = entries[new]
        if not _is_mask(entries[mask], entry.node.scope.tags.get("valid")) or new in given or not _is_made_there(made, entry):
            return
        if is_number(entries[other]) and not np.any(entries[other].value):
            self.blanks[i] = new
        elif not _is_made_there(entries[other], entry) and new not in self.keeps.values() and not isinstance(made.node, Output):
            self.keeps[i] = new
        else:
            return
        self.masks.add(mask)


def _is_mask(entry: Entry, valid: Any) -> bool:
    """Whether it holds what the scope calls valid."""
    if valid is None or entry.op not in ("leaf", "constant") or entry.node.requires_grad:
        return False
    value, valid = entry.value, np.asarray(valid)
    return value is not None and value.size == valid.size and bool((np.ravel(value) == np.ravel(valid)).all())


def _is_made_there(source: Entry, reader: Entry) -> bool:
    return source.t == reader.t and source.op not in ("leaf", "constant")


def parts_of_weights(calls: Calls) -> dict[int, int]:
    """For each call at a step that cuts up or turns one weight, or a part of one, what it reads."""
    found: dict[int, int] = {}
    for call in calls.order:
        if calls.op[call] in MOVES and calls.place[call][0] == "step":
            sources = {source for _, _, source in calls.reads[call]}
            if len(sources) == 1 and (sources <= found.keys() or calls.is_weight(*sources)) and not _looks_up(calls.entry[call]):
                found[call] = sources.pop()
    return found


def _looks_up(entry: Entry) -> bool:
    """Whether single rows are read of a table, and no part is cut from a matrix or from a stack of matrices."""
    index = entry.params.get("index") if entry.op == "getitem" else ()
    axes = index if isinstance(index, tuple) else (index,)
    chosen = [each for each in axes if not isinstance(each, slice | type(...) | None)]
    return any(np.ndim(each) for each in chosen) or (bool(chosen) and len(entry.shape) < 2)
