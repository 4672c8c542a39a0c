"""Tensors: an array and the node that made it. Read me third, after `tape.py` and `primitive.py`.

A `Tensor` is a handle. Its array is NumPy's, its node is the tape's, and all arithmetic is done by primitives: how what people
write (`a @ b`, `np.tanh(a)`, `a.sum()`) finds them stands in `numpy_like.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn
from weakref import ref

import numpy as np

from tinygrad_seq import overwritten
from tinygrad_seq.dtypes import Array, default_dtype, numeric
from tinygrad_seq.errors import AutodiffError
from tinygrad_seq.explain import missing, refuse_no_function, told
from tinygrad_seq.numpy_like import NumPyLike, implements
from tinygrad_seq.scopes import current
from tinygrad_seq.tape import Leaf, Node, Watch, next_serial


def tensor(data: Any, requires_grad: bool = False, dtype: Any = None, name: str | None = None) -> Tensor:
    """Make a tensor of a copy of the data.

    Args:
        data: an array, a tensor, a number or nested lists of numbers. Arrays keep their dtype; Python floats get the
            default dtype, Python integers int64.
        requires_grad: whether a backward pass shall give it a gradient; for floating dtypes only.
        dtype: the dtype to convert to.
        name: a label for print and pictures.

    Raises:
        TypeError: data that is no numbers or truth values, or has a tensor in a list; a gradient for integers.

    Example:
        >>> import tinygrad_seq as tg
        >>> tg.tensor([[1.0, 2.0]])
        Tensor([[1., 2.]], dtype=float32)
    """
    made = Tensor(numeric(np.array(as_array(data, dtype), dtype=dtype)))
    made.requires_grad = requires_grad
    if name is not None:
        made.name = name
    return made


class Tensor(NumPyLike):
    """A NumPy array that remembers how it was computed.

    Made by `tensor` and by operations; calling the class wraps an array without a copy. Operators and NumPy's
    functions work on it and are taped where a gradient may be wanted.

    Attributes:
        data: the array. Writing into it goes unseen by the tape; use `x.at[index].set(value)` or `x.overwrite(array)`.
        node: its entry on the tape, or None for a constant that nothing has used yet.
        grad: after `backward()`, the gradient: a tensor of the same shape and dtype; None where none was computed.
    """

    __slots__ = ("data", "node", "_grad", "__weakref__")

    def __init__(self, data: Any, node: Node | None = None) -> None:
        self.data: Array = numeric(data) if type(data) is np.ndarray else as_array(data)
        self.node = node

    # ---- what it is ---------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of its axes."""
        return self.data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its elements."""
        return self.data.dtype

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return self.data.ndim

    @property
    def size(self) -> int:
        """How many elements it has."""
        return self.data.size

    @property
    def nbytes(self) -> int:
        """How many bytes its elements take."""
        return self.data.nbytes

    @property
    def name(self) -> str | None:
        """A label for people, shown in print and pictures."""
        return self.node.name if self.node is not None else None

    @name.setter
    def name(self, name: str | None) -> None:
        if not (name is None or isinstance(name, str)):
            raise TypeError(f"a name is a string, not {told(name)}")
        node_of(self).name = name

    @property
    def scope(self) -> Any:
        """Where in the model, and when, it was made; None for a constant that nothing has used yet."""
        return self.node.scope if self.node is not None else None

    def __repr__(self) -> str:
        body = np.array2string(self.data, separator=", ", prefix="Tensor(", threshold=200, edgeitems=3)
        note = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({body}, dtype={self.dtype}{note})"

    # ---- gradients ----------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether a backward pass can reach it. May be set on tensors that no operation made."""
        return self.node is not None and self.node.requires_grad

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if not isinstance(wanted, (bool, np.bool_)):
            raise TypeError(f"requires_grad is True or False, not {wanted!r}")
        if wanted == self.requires_grad:
            return
        if self.node is not None and not isinstance(self.node, Leaf):
            raise AutodiffError(
                f"requires_grad can be set on leaves only, and {self.node.describe()} is the result of an operation; "
                "x.detach() gives a leaf with the same values"
            )
        if wanted and self.data.dtype.kind != "f":
            raise TypeError(f"only floating dtypes can require gradients, not {self.dtype}; use x.astype(float) first")
        name = self.name
        self.node = Leaf(self, current().scope, wanted)
        self.node.name = name
        self.node.learned = isinstance(self, Parameter)

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward()` has added up here, or None where none was computed."""
        try:
            return self._grad
        except AttributeError:
            return None

    @grad.setter
    def grad(self, gradient: Any) -> None:
        if gradient is not None:
            gradient = gradient if isinstance(gradient, Tensor) else Tensor(as_array(gradient, self.dtype))
            if gradient.shape != self.shape:
                raise ValueError(f"a gradient of shape {gradient.shape} does not fit a tensor of shape {self.shape}")
            gradient = gradient if gradient.dtype == self.dtype else gradient.astype(self.dtype)
        self._grad: Tensor | None = gradient

    def zero_grad(self) -> None:
        """Forget the gradient: `grad` is None again."""
        self._grad = None

    def backward(self, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Propagate a cotangent back to every leaf that this tensor was computed from, adding to their `grad`.

        Args:
            gradient: the cotangent of this tensor, of its shape; may be left out for a single element (then 1).
            retain_graph: keep the graph for another backward pass instead of freeing it.
            create_graph: tape the backward pass, so that gradients can be differentiated; keeps the graph too.

        Raises:
            AutodiffError: no gradient is required here, the seed is missing, or the graph has been freed or
                overwritten. Nothing is changed then.
        """
        from tinygrad_seq.sweep import backward

        backward(self, gradient, retain_graph=retain_graph, create_graph=create_graph)

    def detach(self) -> Tensor:
        """The same values, outside of the graph: a backward pass stops here."""
        return implements[Tensor.detach](self)

    def retain_grad(self) -> None:
        """Keep the gradient of this intermediate value too, when a backward pass comes through.

        Raises:
            AutodiffError: it requires no gradient.
        """
        if not self.requires_grad:
            raise AutodiffError("retain_grad on a tensor that requires no gradient: no backward pass will reach it")
        self._watch().handle = ref(self)

    def register_hook(self, hook: Callable[[Any], Any]) -> Hook:
        """Call `hook(gradient)` when a backward pass knows this tensor's gradient.

        Args:
            hook: is given the gradient as a Tensor, which it must not write into; what it returns, unless None, replaces it.

        Returns:
            A handle, whose `remove()` takes the hook away again.

        Raises:
            AutodiffError: it requires no gradient.
        """
        if not self.requires_grad:
            raise AutodiffError("register_hook on a tensor that requires no gradient: no backward pass will reach it")
        refuse_no_function("register_hook", hook)
        return Hook(self._watch().hooks, hook)

    def _watch(self) -> Watch:
        node: Node = node_of(self)
        if node.watch is None:
            node.watch = Watch()
        return node.watch

    # ---- values -------------------------------------------------------------------------------------------------

    def numpy(self) -> Array:
        """The values as a NumPy array, without a copy and without a gradient."""
        return self.data

    def item(self) -> Any:
        """The value of a tensor of one element, as a Python number."""
        return self.data.item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return self.data.tolist()

    def overwrite(self, values: Any) -> None:
        """Write new values into a leaf's own array; the one way to update a parameter.

        The tape notes the time: a backward pass through an operation that ran before and needs the old values
        raises, instead of using the wrong ones.

        Args:
            values: of this shape, or broadcast to it; cast to this dtype.

        Raises:
            AutodiffError: this is the result of an operation, and no leaf.
            ValueError: values that cannot be broadcast to this shape.
            TypeError: values of a kind that this dtype cannot hold (floating ones for integers).
        """
        if self.node is not None and not isinstance(self.node, Leaf):
            raise AutodiffError(f"only leaves can be overwritten, and {self.node.describe()} is the result of an operation")
        values = as_array(values, self.dtype)
        if np.broadcast_shapes(values.shape, self.shape) != self.shape:
            raise ValueError(f"values of shape {values.shape} cannot overwrite a tensor of shape {self.shape}")
        if not np.can_cast(values.dtype, self.dtype, "same_kind"):
            raise TypeError(f"values of dtype {values.dtype} cannot overwrite a tensor of {self.dtype}; convert them first")
        overwritten.note(self.data, self.node)
        np.copyto(self.data, values, casting="same_kind")

    def __float__(self) -> float:
        return float(self.data.item())

    def __int__(self) -> int:
        return int(self.data.item())

    def __index__(self) -> int:
        return self.data.__index__()

    def __bool__(self) -> bool:
        return bool(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __contains__(self, value: Any) -> bool:
        return as_array(value) in self.data

    def __iter__(self) -> Iterator[Tensor]:
        if self.ndim == 0:
            raise TypeError("a 0-d tensor has nothing to iterate over")
        return iter(implements[Tensor.__iter__](self)) if len(self.data) else iter(())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else repr(self)

    __hash__ = object.__hash__

    def __reduce__(self) -> Any:
        """Pickle and deepcopy take the values, the name and the gradient of a leaf; there is no graph to take."""
        if self.requires_grad and not isinstance(self.node, Leaf):
            raise AutodiffError("only leaves can be pickled or deep-copied; detach() the tensor first")
        gradient = None if self.grad is None else self.grad.data
        return _rebuilt, (type(self), self.data, self.requires_grad, self.name, gradient)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if self.requires_grad:
            raise TypeError(
                "this tensor requires a gradient, which a NumPy array cannot carry: use tg.stack or tg.concatenate "
                "for an array of tensors, x.at[index].set(v) to write into one, and x.numpy() for the bare values"
            )
        return np.array(self.data, dtype=dtype, copy=copy)

    def __setitem__(self, index: Any, value: Any) -> NoReturn:
        raise TypeError("tensors are not written in place, the tape needs their values: use x = x.at[index].set(value)")

    def __getattr__(self, name: str) -> NoReturn:
        """Asked only for what there is not: say where it may be found."""
        raise AttributeError(missing(name), name=name, obj=self)


class Parameter(Tensor):
    """A tensor that a model learns: a leaf that requires a gradient.

    Args:
        data: as for `tensor`; copied.
        dtype, name: as for `tensor`.
    """

    __slots__ = ()

    def __init__(self, data: Any, dtype: Any = None, name: str | None = None) -> None:
        super().__init__(numeric(np.array(as_array(data, dtype), dtype=dtype)))
        self.requires_grad = True
        if name is not None:
            self.name = name


class Hook:
    """A hook that is in place, until `remove()`."""

    __slots__ = ("_hooks", "_key")

    def __init__(self, hooks: dict[int, Callable[[Any], Any]], function: Callable[[Any], Any]) -> None:
        self._hooks = hooks
        self._key = next_serial()
        hooks[self._key] = function

    def remove(self) -> None:
        """Take the hook away; a second time does nothing. Calling the handle does the same."""
        self._hooks.pop(self._key, None)

    __call__ = remove


# ---- operands -------------------------------------------------------------------------------------------------------


def as_array(data: Any, wanted: Any = None) -> Array:
    """Data as a NumPy array of numbers or truth values; no copy where none is needed.

    What has a dtype keeps it, arrays and NumPy's numbers in lists too. Python's floats get the default dtype; where a dtype is
    `wanted`, they stay as precise as they are, for whoever will convert them.
    """
    if isinstance(data, Tensor):
        return data.data
    if isinstance(data, np.ndarray):
        if isinstance(data, np.ma.MaskedArray):
            raise TypeError("a tensor would lose the mask of a masked array: use data.filled(value), and np.where(mask, x, 0)")
        return numeric(np.asarray(data))
    dtypes = _dtypes_in(data) if isinstance(data, (list, tuple)) else set()
    array = numeric(np.asarray(data), type(data))
    if isinstance(data, np.generic) or hasattr(data, "__array__") or array.dtype.kind != "f":
        return array
    if wanted is not None:
        return array
    return array.astype(np.result_type(*dtypes, 0.0) if dtypes else default_dtype(), copy=False)


def node_of(operand: Any) -> Any:
    """The node of an operand of a taped call: a constant's is written now; a Python number stands for itself."""
    if isinstance(operand, Tensor):
        if operand.node is None:
            operand.node = Leaf(operand, current().scope, False)
        return operand.node
    kind = type(operand)
    if kind is float or kind is int or kind is bool or operand is None:
        return operand
    return Leaf(Tensor(as_array(operand)), current().scope, False)


def _dtypes_in(data: Any) -> set[np.dtype[Any]]:
    """The dtypes in nested lists and tuples, where something has one; a tensor among them is refused."""
    found: set[np.dtype[Any]] = set()
    for part in data:
        if isinstance(part, Tensor):
            raise TypeError("a list of tensors cannot become an array, which carries no gradient: use tg.stack or tg.concatenate")
        if isinstance(part, (list, tuple)):
            found |= _dtypes_in(part)
        elif isinstance(part, (np.ndarray, np.generic)):
            found.add(part.dtype)
    return found


def _rebuilt(kind: type[Tensor], data: Any, requires_grad: bool, name: str | None, grad: Any) -> Tensor:
    made = kind(data)
    made.requires_grad = requires_grad
    if name is not None:
        made.name = name
    made.grad = grad
    return made
