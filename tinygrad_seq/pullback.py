"""A pullback: how a cotangent of an operation's result becomes one of an input. Read `primitive.py` with me.

A rule is a plain function of g and of what it names. Here it learns where on the tape these things are found.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import copy
from functools import wraps
from typing import TYPE_CHECKING, Any

from tinygrad_seq.errors import PullbackError

if TYPE_CHECKING:
    from tinygrad_seq.primitive import Primitive

Rule = Callable[..., Any]


class Pullback:
    """How a cotangent of the output becomes a cotangent of one input.

    Attributes:
        function: called with g and the values that it names.
        on_arrays: the same numbers, for a sweep that is not taped: where it pays, with fewer temporary arrays.
        together: called with a list of such calls' arguments, gives the sum over them; or None.
        places: where the values that the function names stand among all that `Primitive._values` offers.
        sources: what each of them is: the number of an input, OUTPUT, ALL_INPUTS, or None for no array.
    """

    __slots__ = ("function", "on_arrays", "rule", "together", "elementwise", "moves", "places", "sources", "op", "argument")

    OUTPUT = -1
    ALL_INPUTS = -2

    function: Rule
    on_arrays: Rule
    rule: Rule
    together: Rule | None

    def __init__(self, owner: Primitive, key: str, rule: Rule) -> None:
        self.op = owner.name
        self.argument = key
        self.rule = self.function = rule
        self.on_arrays = owner.on_arrays.get(key, rule)
        self.together = owner.together.get(key)
        self.elementwise = owner.elementwise
        self.moves = owner.moves
        offered = [*owner.inputs, "y", *owner.defaults, *[f"{owner.inputs[i]}_shape" for i in owner.shaped]]
        named = [name for name in names_of(rule) if name != "g" and not (owner.starred and name == "i")]
        unknown = [name for name in named if name not in offered]
        if unknown:
            raise TypeError(f"the pullback of {owner.name} for {key} names {unknown[0]!r}; it may name g, {', '.join(offered)}")
        if owner.starred and not owner.shaped:
            offered.append("")  # the place of the shapes, which nobody names
        self.places = tuple([offered.index(name) for name in named])
        arrays = {
            "y": self.OUTPUT,
            **{name: self.ALL_INPUTS if owner.starred else i for i, name in enumerate(owner.inputs)},
        }
        self.sources = tuple([arrays.get(name) for name in named])

    def at(self, i: int) -> Pullback:
        """The same pullback for another of the starred inputs."""
        other = copy(self)
        other.argument = f"{self.argument.lstrip('*')}[{i}]"
        names = names_of(self.rule)
        other.function = other.on_arrays = _numbered(self.rule, names.index("i"), i) if "i" in names else self.rule
        return other

    def insist_on_arrays(self) -> None:
        """Have the rule raise where it returns what is no array: users' rules may lack a `return`."""
        rule = self.rule

        @wraps(rule)
        def checked(*values: Any) -> Any:
            term = rule(*values)
            if not hasattr(term, "shape"):
                raise PullbackError(
                    f"the pullback of {self.op} for {self.argument} returned {term!r}: it must return an array of the input's "
                    "shape (for an input without a derivative declare None in its place)"
                )
            return term

        self.rule = self.function = self.on_arrays = checked

    def __repr__(self) -> str:
        return f"<pullback of {self.op} for {self.argument}>"


def names_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a function's arguments: what a pullback asks for. Those with a default are its own affair."""
    return tuple([p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty])


def _numbered(rule: Rule, place: int, i: int) -> Rule:
    """A rule with the number of its input filled in, at this place among its arguments."""
    return lambda *values: rule(*values[:place], i, *values[place:])
