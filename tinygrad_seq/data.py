"""From text and sequences to arrays, time first. Needs `random.py`.

A text is read in batches of rows, each of which goes on where it stopped in the batch before:

    vocabulary = Vocabulary.of(text)
    for x, y in batches(vocabulary.encode(text), batch_size=32, steps=64):     # (64, 32) each, y one step ahead
        ...
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tinygrad_seq.dtypes import Array
from tinygrad_seq.explain import told, whole
from tinygrad_seq.random import generator


class Vocabulary:
    """Tokens and their numbers: token number i is `tokens[i]`. A token is a string, of one character or of more.

    Args:
        tokens: all there are, each once, in the order of their numbers.
        unknown: the one among them that stands for every token that is none of them; by default those are refused.

    Example:
        >>> from tinygrad_seq.data import Vocabulary
        >>> vocabulary = Vocabulary.of("to be or not to be")
        >>> vocabulary.encode("bee")
        array([1, 2, 2])
        >>> vocabulary.decode([1, 2, 2])
        'bee'
    """

    def __init__(self, tokens: Iterable[str], unknown: str | None = None) -> None:
        self.tokens = tuple(_tokens_of(tokens))
        self.unknown = unknown
        self.numbers = {token: i for i, token in enumerate(self.tokens)}
        if len(self.numbers) < len(self.tokens):
            twice = next(token for token, count in Counter(self.tokens).items() if count > 1)
            raise ValueError(f"the token {twice!r} is listed twice")
        if unknown is not None and unknown not in self.numbers:
            raise ValueError(f"the token for the unknown, {unknown!r}, is not among the tokens")

    @classmethod
    def of(cls, text: Iterable[str], min_count: int = 1, special: Sequence[str] = (), unknown: str | None = None) -> Vocabulary:
        """The vocabulary of a text: `special` tokens first, then all that occur, sorted.

        Args:
            text: a string, for characters, or a list of tokens.
            min_count: how often a token must occur to be in it.
            special: tokens to have in any case: padding, start, end.
            unknown: as for the class; becomes a special token if it is none yet.
        """
        first = list(dict.fromkeys([*special, unknown] if unknown is not None else special))
        counts = Counter(_tokens_of(text))
        return cls([*first, *sorted(token for token, n in counts.items() if n >= min_count and token not in first)], unknown)

    def encode(self, text: Iterable[str]) -> Array:
        """The numbers of a text's tokens.

        Args:
            text: a string, for characters, or a list of tokens.

        Returns:
            (N,) int64.

        Raises:
            TypeError: what is no text.
            ValueError: a token that is not in the vocabulary, if there is none for the unknown.
        """
        rest = None if self.unknown is None else self.numbers[self.unknown]
        tokens = _tokens_of(text)
        found = [self.numbers.get(token, rest) for token in tokens]
        if None in found:
            foreign = Counter(token for token in tokens if token not in self.numbers).most_common()
            named = ", ".join(f"{token!r} ({n}x)" for token, n in foreign[:5]) + (", ..." if len(foreign) > 5 else "")
            raise ValueError(f"not in this vocabulary of {len(self)} tokens: {named}, first at position {found.index(None)}")
        return np.array(found, np.int64)

    def decode(self, numbers: Any, separator: str = "") -> str:
        """The tokens of these numbers (any shape, read in order), joined.

        Raises:
            TypeError: numbers that are not integers.
            IndexError: a number that no token has; negative ones have none.
        """
        array = _integers(numbers, "token numbers").ravel()
        wrong = array[(array < 0) | (array >= len(self))]
        if wrong.size:
            raise IndexError(f"no token has the number {wrong[0]}: they count from 0 to {len(self) - 1}")
        return separator.join(self.tokens[i] for i in array)

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self.numbers

    def __iter__(self) -> Iterator[str]:
        return iter(self.tokens)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and (self.tokens, self.unknown) == (other.tokens, other.unknown)

    def __hash__(self) -> int:
        return hash((self.tokens, self.unknown))

    def __repr__(self) -> str:
        shown = " ".join(map(repr, self.tokens[:8])) + (" ..." if len(self) > 8 else "")
        return f"Vocabulary({len(self)} tokens: {shown})"


def batches(tokens: Any, batch_size: int, steps: int) -> list[tuple[Array, Array]]:
    """Cut one long text for truncated back-propagation through time.

    The text is laid out as `batch_size` columns, each a contiguous piece of it, which are then read downwards together:
    column b of a batch goes on where column b of the batch before has ended, so the state can be carried over. The last
    batch may have fewer steps; fewer than `batch_size` tokens at the end of the text remain unused.

    Args:
        tokens: (N,) integers, N > batch_size.
        batch_size: B, how many columns.
        steps: T, how many steps in a batch.

    Returns:
        A list of (x, y), each (T, B): y is x one token later. The arrays are views and take no memory of their own.

    Example:
        >>> from tinygrad_seq.data import batches
        >>> (x, y), *rest = batches(range(13), batch_size=2, steps=4)
        >>> x.T
        array([[0, 1, 2, 3],
               [6, 7, 8, 9]])
        >>> y.T
        array([[ 1,  2,  3,  4],
               [ 7,  8,  9, 10]])
    """
    text = _integers(tokens, "tokens")
    if text.ndim != 1:
        raise ValueError(f"tokens are one text, of shape (N,), not {text.shape}")
    batch_size, steps = whole("batch_size", batch_size, 1), whole("steps", steps, 1)
    length = (len(text) - 1) // batch_size
    if length < 1:
        raise ValueError(f"{len(text)} tokens are too few for {batch_size} columns: each needs one, and the last one more")
    x, y = (np.ascontiguousarray(text[ahead : ahead + length * batch_size].reshape(batch_size, length).T) for ahead in (0, 1))
    return [(x[t : t + steps], y[t : t + steps]) for t in range(0, length, steps)]


def pad(sequences: Sequence[Any], value: Any = 0) -> tuple[Array, Array]:
    """Put sequences of different lengths into one array, time first, with `value` behind their ends.

    Args:
        sequences: B arrays of shape (T_b, ...), alike but for their lengths, which may be 0.
        value: stands where a sequence has ended.

    Returns:
        The array (T, B, ...), T being the largest length, and the lengths (B,), int64.

    Example:
        >>> from tinygrad_seq.data import pad
        >>> padded, lengths = pad([[1, 2, 3], [4]])
        >>> padded.T, lengths
        (array([[1, 2, 3],
               [4, 0, 0]]), array([3, 1]))
    """
    if isinstance(sequences, str) or not isinstance(sequences, Iterable):
        raise TypeError(f"pad takes a list of sequences, not {told(sequences)}")
    sequences = list(sequences)
    arrays = [_array(sequence, b) for b, sequence in enumerate(sequences)]
    if not arrays:
        raise ValueError("there are no sequences to pad (an iterator gives them only once)")
    for sequence, array in zip(sequences, arrays):
        if array.ndim == 0:
            cure = "; vocabulary.encode makes numbers of text" if array.dtype.kind in "US" else ""
            raise ValueError(f"pad takes a list of sequences, and in it stands {told(sequence)}, which has no steps{cure}")
    alike = [array for array in arrays if array.size] or arrays  # an empty list says nothing of shape and dtype
    for array in alike:
        if array.shape[1:] != alike[0].shape[1:]:
            raise ValueError(f"sequences may differ in length only, and these have shapes {alike[0].shape} and {array.shape}")
    lengths = np.array([len(array) for array in arrays], np.int64)
    dtype = np.result_type(*alike)
    if dtype.kind in "iub" and np.asarray(value).dtype.kind not in "iub":
        raise TypeError(f"{value!r} does not fit behind sequences of {dtype}; make them floating, or take a whole number")
    padded = np.full((int(lengths.max()), len(arrays), *alike[0].shape[1:]), value, dtype)
    for b, array in enumerate(arrays):
        if array.size:
            padded[: len(array), b] = array
    return padded, lengths


def valid(lengths: Any, steps: int | None = None) -> Array:
    """Where padded sequences are real: (T, B) truth values, a mask for the losses.

    Args:
        lengths: (B,) integers.
        steps: T; the largest length by default.

    Example:
        >>> from tinygrad_seq.data import valid
        >>> valid([3, 1]).T
        array([[ True,  True,  True],
               [ True, False, False]])
    """
    lengths = _integers(lengths, "lengths")
    steps = None if steps is None else whole("steps", steps)
    longest = int(lengths.max(initial=0))
    if lengths.ndim != 1 or lengths.min(initial=0) < 0 or (steps is not None and longest > steps):
        raise ValueError(f"lengths are integers of shape (B,), from 0 to the number of steps ({steps}); got {lengths}")
    real: Array = np.arange(longest if steps is None else steps)[:, None] < lengths
    return real


def buckets(lengths: Any, batch_size: int, rng: np.random.Generator | None = None) -> list[Array]:
    """Group sequences of similar length, so that little is padded; in random order, anew at each call.

    Args:
        lengths: (N,) integers.
        batch_size: how many sequences in a group; one group may have fewer.
        rng: the generator to draw from; the engine's own by default.

    Returns:
        A list of index arrays, in which each of 0 .. N-1 stands once.
    """
    lengths = _integers(lengths, "lengths")
    batch_size = whole("batch_size", batch_size, 1)
    if lengths.ndim != 1:
        raise ValueError(f"lengths of shape (N,) are needed, got {lengths.shape}")
    _refuse_other_generators(rng)
    rng = rng or generator()
    shuffled = rng.permutation(len(lengths))
    by_length = shuffled[np.argsort(lengths[shuffled], kind="stable")]
    groups = [by_length[i : i + batch_size] for i in range(0, len(by_length), batch_size)]
    return [groups[i] for i in rng.permutation(len(groups))]


class Minibatches:
    """Batches of single sequences, in a new order each time they are gone through: an epoch each.

    Args:
        make: what gives the batch of these sequences: `make(indices)`, indices (B,) int64.
        lengths: (N,) the length of each sequence, by which similar ones come together (see `buckets`); or N alone.
        batch_size: how many in a batch; one batch of an epoch may have fewer.
        rng: the generator to draw from; the engine's own by default, as `tg.fit` needs it for resuming.
    """

    def __init__(
        self, make: Callable[[Array], Any], lengths: Any, batch_size: int, rng: np.random.Generator | None = None
    ) -> None:
        self.make = make
        self.lengths = _integers(lengths, "lengths")
        self.batch_size = whole("batch_size", batch_size, 1)
        self.rng = rng
        if not callable(make):
            raise TypeError(f"make is a function, make(indices), that gives the batch of these sequences, not {told(make)}")
        if self.lengths.ndim > 1 or self.lengths.min(initial=0) < 0:
            raise ValueError(f"lengths of shape (N,), or N alone, at least 0, are needed, got {lengths!r}")
        _refuse_other_generators(rng)

    def __len__(self) -> int:
        """How many batches an epoch has."""
        count = int(self.lengths) if self.lengths.ndim == 0 else len(self.lengths)
        return -(-count // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        lengths = np.zeros(int(self.lengths), np.int64) if self.lengths.ndim == 0 else self.lengths
        return map(self.make, buckets(lengths, self.batch_size, self.rng))


def _tokens_of(text: Any) -> list[str]:
    """A text as a list of its tokens."""
    if not isinstance(text, Iterable):
        raise TypeError(f"a text is a string, or a list of tokens, not {told(text)}")
    tokens = list(text)
    try:
        set(tokens)
    except TypeError:
        other = next(token for token in tokens if not isinstance(token, str))
        raise TypeError(f"a token is a string, not {told(other)}; a vocabulary takes one text at a time") from None
    return tokens


def _array(sequence: Any, b: int) -> Array:
    """A sequence to pad, the one of row b, as an array."""
    try:
        return np.asarray(sequence)
    except ValueError as error:
        raise ValueError(f"sequence {b} is no array (T, ...), its steps differ in shape: {error}") from None


def _refuse_other_generators(rng: Any) -> None:
    if not isinstance(rng, np.random.Generator | None):
        raise TypeError(f"rng is a generator of NumPy's, such as np.random.default_rng(0), not {rng!r}")


def _integers(values: Any, name: str) -> Array:
    array = np.asarray(values)
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        cure = "; vocabulary.encode makes them of text" if name == "tokens" and array.dtype.kind in "US" else ""
        raise TypeError(f"{name} are integers, not {array.dtype if array.dtype != object else told(values)}{cure}")
    return array
