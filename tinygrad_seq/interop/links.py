"""What a parameter of ours is called elsewhere, and how it is laid out there. Read me before `torch.py` and `keras.py`.

A `Link` joins one parameter of ours with the one or two arrays that say the same in another library, `Gates` is the order
and sign of a cell's gates there. With these, a converter is a list of links, and loading and giving out are the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq.dtypes import Array
from tinygrad_seq.tensor import as_array


class Link(NamedTuple):
    """One parameter of ours, and those of theirs that say the same.

    Attributes:
        parameter: ours.
        theirs: name and shape of each of theirs.
        inward: from their arrays to ours.
        outward: from ours to theirs.
        cotangents: the same for gradients, where these go another way than values.
    """

    parameter: tg.Parameter
    theirs: dict[str, tuple[int, ...]]
    inward: Callable[..., Array]
    outward: Callable[[Array], list[Array]]
    cotangents: Callable[[Array], list[Array]] | None = None


class Gates(NamedTuple):
    """The order of a cell's gates in another library, as numbers of ours, and the sign that each of them takes."""

    order: tuple[int, ...]
    signs: tuple[int, ...]

    def outward(self, ours: Array) -> Array:
        """(..., G*H) in our order -> in theirs."""
        blocks = np.split(ours, len(self.order), axis=-1)
        return np.concatenate([sign * blocks[i] for i, sign in zip(self.order, self.signs)], axis=-1)

    def inward(self, theirs: Array) -> Array:
        """(..., G*H) in their order -> in ours."""
        blocks = np.split(theirs, len(self.order), axis=-1)
        places = [self.order.index(i) for i in range(len(self.order))]
        return np.concatenate([self.signs[k] * blocks[k] for k in places], axis=-1)


def load(links: Sequence[Link], given: Mapping[str, Any], layer: Any, library: str, hint: str = "") -> None:
    """Overwrite the parameters with what is given by their names there, cast to our dtypes.

    Args:
        links: of all the layer's parameters.
        given: arrays or tensors by name.
        layer, library: for the message.
        hint: what to look at where shapes differ.

    Raises:
        ValueError: names, shapes or values do not fit; the message lists all of it, and nothing has been changed.
    """
    wanted = {name: shape for link in links for name, shape in link.theirs.items()}
    arrays: dict[str, Array] = {}
    problems = [f"missing: {name}" for name in wanted if name not in given]
    problems += [f"unexpected: {name}" for name in given if name not in wanted]
    for name in wanted:
        try:
            arrays |= {name: plain(given[name])} if name in given else {}
        except (TypeError, ValueError) as error:
            problems.append(f"{name}: {error}")
    misshapen = [name for name, array in arrays.items() if array.shape != wanted[name]]
    problems += [f"{name}: shape {arrays[name].shape} instead of {wanted[name]}" for name in misshapen]
    if problems:
        told = "\n  ".join([*problems, hint] if hint and misshapen else problems)
        raise ValueError(f"these weights of {library}'s do not fit {type(layer).__name__}:\n  {told}")
    new = [link.inward(*[arrays[name] for name in link.theirs]).astype(link.parameter.dtype) for link in links]
    for link, array in zip(links, new):
        link.parameter.overwrite(array)


def in_two_rows(gates: Gates, b: Array, b_h: Array) -> list[Array]:
    """The biases of a GRU that resets after the product, as others have them: all of b, and zeros but for the candidate's b_h."""
    return [gates.outward(b), np.concatenate([np.zeros(len(b) - len(b_h), b.dtype), b_h])]


def in_one_row(gates: Gates, of_input: Array, of_state: Array) -> Array:
    """Our b of such a pair of biases (3H): their sum, but for the candidate's second one, which is our b_h."""
    kept = len(of_state) // 3
    return gates.inward(of_input + np.concatenate([of_state[:-kept], np.zeros(kept, of_state.dtype)]))


def given_out(links: Iterable[Link]) -> dict[str, Array]:
    """The parameters as new arrays by their names there."""
    return {name: array for link in links for name, array in zip(link.theirs, link.outward(link.parameter.data))}


def plain(value: Any) -> Array:
    """A floating array: of a tensor of PyTorch's, wherever it is, of ours, or of any real numbers; TypeError for what is none."""
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
        no_counterpart = str(getattr(value, "dtype", "")) == "torch.bfloat16"
        value = (value.float() if no_counterpart else value).numpy()
    array = as_array(value)
    return array if array.dtype.kind == "f" else array.astype(np.float64)
