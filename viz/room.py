"""The room within a rank, and who may stand where. Read me after `stacks.py`.

Boxes keep such a distance that a lane can pass between any two of them. The slots of a stack move together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from tinygrad_seq.viz.template import AIR, CLEAR, PITCH, TINY, Lane, Slot, Template

Item = Slot | Lane
APART = 2 * AIR  # between what has been placed apart


class Room:
    """What stands in each rank of a template, from where to where."""

    def __init__(self, template: Template) -> None:
        self.held: list[dict[Item, tuple[float, float]]] = [{} for _ in template.ranks]
        self._alone: Collection[Item] | None = None

    @contextmanager
    def apart(self, items: Collection[Item]) -> Iterator[None]:
        """Place these items as if there were no others; then they move, all together, below those that were placed before."""
        others, self.held, self._alone = self.held, [{} for _ in self.held], items
        yield
        spans = [span for rank in self.held for span in rank.values()]
        low = min((low for rank in others for low, _ in rank.values()), default=None)
        way = low - APART - max(high for _, high in spans) if spans and low is not None else 0.0
        for item in {item: None for rank in self.held for item in rank}:
            item.y += way
        for before, rank in zip(others, self.held):
            before.update({item: (low + way, high + way) for item, (low, high) in rank.items()})
        self.held, self._alone = others, None

    def sees(self, item: Item) -> bool:
        """Whether an item may have its say in where others are placed."""
        return self._alone is None or item in self._alone

    def put(self, item: Item, wanted: float) -> None:
        """Place an item, and the stack that it belongs to, at the free height nearest to the one it wants."""
        ranks = item.ranks if isinstance(item, Lane) else (item.rank,)
        parts = [(above(item, part), half_of(part), part) for part in with_stack(item)]
        heights, barred = [wanted], []  # heights at which the item would touch another, and those between
        for other, (low, high) in ((other, span) for r in ranks for other, span in self.held[r].items()):
            for up, half, part in parts:
                gap = between(part, other)
                below, bottom = (half, low) if gap < AIR else (reach(part), other.y - reach(other))
                lowest, highest = bottom - gap - half - up, high + gap + below - up
                heights += [lowest, highest]
                barred.append((lowest + TINY, highest - TINY))
        free = [y for y in heights if not any(low < y < high for low, high in barred)]
        item.y = min(free, key=lambda y: (abs(y - wanted), y))
        for up, half, part in parts:
            part.y = item.y + up
            for r in ranks:
                self.held[r][part] = (part.y - half, part.y + half)

    def hold(self, lane: Lane) -> None:
        """Keep a lane free where it is."""
        for r in lane.ranks:
            self.held[r][lane] = (lane.y - PITCH / 2, lane.y + PITCH / 2)


def half_of(item: Item) -> float:
    """Half the height that an item takes."""
    return PITCH / 2 if isinstance(item, Lane) else item.height / 2


def reach(item: Item) -> float:
    """How far down an item keeps boxes away: in a stack as far as the next slot, for the arrow between."""
    if isinstance(item, Slot) and item.stack is not None and item is not item.stack.slots[-1]:
        following = item.stack.slots[item.stack.slots.index(item) + 1]
        return -above(item, following) - following.height / 2
    return half_of(item)


def between(one: Item, other: Item) -> float:
    """How far apart two items of a rank must be: boxes so far that a lane can pass between them."""
    lanes = isinstance(one, Lane) + isinstance(other, Lane)
    return (AIR, CLEAR, 0.0)[lanes]


def above(item: Item, other: Item) -> float:
    """How much higher than an item another one of its stack stands."""
    if isinstance(item, Lane) or isinstance(other, Lane) or item.stack is None:
        return 0.0
    return item.stack.below(item) - item.stack.below(other)


def with_stack(item: Item) -> Sequence[Item]:
    """The item, or all slots of its stack."""
    return item.stack.slots if isinstance(item, Slot) and item.stack is not None else (item,)


class Wish(NamedTuple):
    """Where an item, and its stack, would stand if it were alone; and where it comes in the order from the top."""

    item: Item
    height: float
    order: float


def in_order(wishes: Sequence[Wish]) -> list[tuple[Item, float]]:
    """Items of a rank in their order, each as near to its wish as it can stand; those that come first in a stack speak for it.

    Pool adjacent violators: items that want the same place form a block, which stands where their wishes are on average.
    """
    ordered = sorted(wishes, key=lambda wish: -round(wish.order, 3))
    blocks: list[tuple[float, int]] = []  # where the items of a block would stand if their offsets were 0, and how many
    offsets: list[float] = []  # of each item, below the first
    for n, wish in enumerate(ordered):
        offsets.append(offsets[-1] + _pitch(ordered[n - 1].item, wish.item) if n else 0.0)
        height, count = wish.height + offsets[-1], 1
        while blocks and blocks[-1][0] < height:
            other, more = blocks.pop()
            height, count = (height * count + other * more) / (count + more), count + more
        blocks.append((height, count))
    heights = [height for height, count in blocks for _ in range(count)]
    return [(wish.item, height - offset) for wish, height, offset in zip(ordered, heights, offsets)]


def _pitch(item: Item, following: Item) -> float:
    """How far below an item the next one stands at least, if both are the first of their stacks."""
    last = with_stack(item)[-1]
    return half_of(last) - above(item, last) + between(last, following) + half_of(following)
