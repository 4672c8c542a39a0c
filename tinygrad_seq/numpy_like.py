"""What a tensor takes over from NumPy: its operators, its protocols, and its methods. Read me after `tensor.py`.

All of it is looking up. The table `implements` says, for a NumPy function, which operation of ours means the same; the
operators (`a @ b`), NumPy's protocols (`np.tanh(a)`, `array + a`) and the methods (`a.sum()`) all ask there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tinygrad_seq.tape import Leaf, Node

if TYPE_CHECKING:
    from tinygrad_seq.tensor import Tensor

implements: dict[Callable[..., Any], Callable[..., Tensor]] = {}  # NumPy's function -> ours
binary: dict[Callable[..., Any], Callable[[Any, Any], Tensor]] = {}  # the same for the operators, of two operands and no more


def _method(function: Callable[..., Any]) -> Callable[..., Tensor]:
    """The method that is this function of NumPy's."""

    def method(self: NumPyLike, *args: Any, **kwargs: Any) -> Tensor:
        return implements[function](self, *args, **kwargs)

    method.__name__ = function.__name__
    method.__qualname__ = f"Tensor.{function.__name__}"
    method.__doc__ = f"`np.{function.__name__}` of this tensor."
    return method


def _methods(*functions: Callable[..., Any]) -> tuple[Callable[..., Tensor], ...]:
    return tuple(map(_method, functions))


class NumPyLike:
    """The part of a tensor that looks like an array of NumPy's. It holds nothing."""

    __slots__ = ()

    __array_priority__ = 1000.0

    node: Node | None
    requires_grad: bool

    # ---- NumPy's protocols --------------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            kwargs = _without_out(ufunc, kwargs)
        if method != "__call__":
            raise TypeError(f"np.{ufunc.__name__}.{method} is not implemented for tensors; np.sum, np.prod and their kin are")
        if ufunc not in implements:
            raise TypeError(
                f"np.{ufunc.__name__} is not implemented for tensors; use x.numpy() for its value, "
                "or declare it with tg.primitive"
            )
        return implements[ufunc](*args, **kwargs)

    def __array_function__(self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
        if function not in implements:
            raise TypeError(
                f"{_called(function)} is not implemented for tensors; use x.numpy() for its value, "
                "or declare it with tg.primitive"
            )
        return implements[function](*args, **(_without_out(function, kwargs) if kwargs else kwargs))

    # ---- operators ----------------------------------------------------------------------------------------------
    # fmt: off

    def __add__(self, other: Any) -> Tensor:          return binary[np.add](self, other)
    def __radd__(self, other: Any) -> Tensor:         return binary[np.add](other, self)
    def __sub__(self, other: Any) -> Tensor:          return binary[np.subtract](self, other)
    def __rsub__(self, other: Any) -> Tensor:         return binary[np.subtract](other, self)
    def __mul__(self, other: Any) -> Tensor:          return binary[np.multiply](self, other)
    def __rmul__(self, other: Any) -> Tensor:         return binary[np.multiply](other, self)
    def __truediv__(self, other: Any) -> Tensor:      return binary[np.divide](self, other)
    def __rtruediv__(self, other: Any) -> Tensor:     return binary[np.divide](other, self)
    def __floordiv__(self, other: Any) -> Tensor:     return binary[np.floor_divide](self, other)
    def __rfloordiv__(self, other: Any) -> Tensor:    return binary[np.floor_divide](other, self)
    def __mod__(self, other: Any) -> Tensor:          return binary[np.remainder](self, other)
    def __rmod__(self, other: Any) -> Tensor:         return binary[np.remainder](other, self)
    def __pow__(self, other: Any) -> Tensor:          return binary[np.power](self, other)
    def __rpow__(self, other: Any) -> Tensor:         return binary[np.power](other, self)
    def __matmul__(self, other: Any) -> Tensor:       return binary[np.matmul](self, other)
    def __rmatmul__(self, other: Any) -> Tensor:      return binary[np.matmul](other, self)
    def __neg__(self) -> Tensor:                      return implements[np.negative](self)
    def __pos__(self) -> Self:                        return self
    def __abs__(self) -> Tensor:                      return implements[np.absolute](self)
    def __eq__(self, other: object) -> Tensor:        return binary[np.equal](self, other)  # type: ignore[override]
    def __ne__(self, other: object) -> Tensor:        return binary[np.not_equal](self, other)  # type: ignore[override]
    def __lt__(self, other: Any) -> Tensor:           return binary[np.less](self, other)
    def __le__(self, other: Any) -> Tensor:           return binary[np.less_equal](self, other)
    def __gt__(self, other: Any) -> Tensor:           return binary[np.greater](self, other)
    def __ge__(self, other: Any) -> Tensor:           return binary[np.greater_equal](self, other)
    def __and__(self, other: Any) -> Tensor:          return binary[np.bitwise_and](self, other)
    def __rand__(self, other: Any) -> Tensor:         return binary[np.bitwise_and](other, self)
    def __or__(self, other: Any) -> Tensor:           return binary[np.bitwise_or](self, other)
    def __ror__(self, other: Any) -> Tensor:          return binary[np.bitwise_or](other, self)
    def __xor__(self, other: Any) -> Tensor:          return binary[np.bitwise_xor](self, other)
    def __rxor__(self, other: Any) -> Tensor:         return binary[np.bitwise_xor](other, self)
    def __invert__(self) -> Tensor:                   return implements[np.invert](self)
    def __getitem__(self, index: Any) -> Tensor:      return implements[NumPyLike.__getitem__](self, index=index)

    def __iadd__(self, other: Any) -> Tensor:         return binary[np.add](self._rebound(), other)
    def __isub__(self, other: Any) -> Tensor:         return binary[np.subtract](self._rebound(), other)
    def __imul__(self, other: Any) -> Tensor:         return binary[np.multiply](self._rebound(), other)
    def __itruediv__(self, other: Any) -> Tensor:     return binary[np.divide](self._rebound(), other)
    def __ifloordiv__(self, other: Any) -> Tensor:    return binary[np.floor_divide](self._rebound(), other)
    def __imod__(self, other: Any) -> Tensor:         return binary[np.remainder](self._rebound(), other)
    def __ipow__(self, other: Any) -> Tensor:         return binary[np.power](self._rebound(), other)
    def __imatmul__(self, other: Any) -> Tensor:      return binary[np.matmul](self._rebound(), other)

    # fmt: on
    # ---- methods, with NumPy's names and signatures ---------------------------------------------------------------

    sum, mean, prod, var, std = _methods(np.sum, np.mean, np.prod, np.var, np.std)
    max, min, argmax, argmin = _methods(np.max, np.min, np.argmax, np.argmin)
    all, any, argsort, round, clip = _methods(np.all, np.any, np.argsort, np.round, np.clip)
    cumsum, cumprod, dot, trace, diagonal = _methods(np.cumsum, np.cumprod, np.dot, np.trace, np.diagonal)
    copy, ravel, flatten, squeeze = _methods(np.copy, np.ravel, np.ravel, np.squeeze)
    swapaxes, repeat, take = _methods(np.swapaxes, np.repeat, np.take)

    def astype(self, dtype: Any) -> Tensor:
        """The same numbers in another dtype."""
        return implements[NumPyLike.astype](self, dtype=np.dtype(dtype))

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in another shape, given as one tuple or as several numbers."""
        return implements[np.reshape](self, _spread(shape))

    def transpose(self, *axes: Any) -> Tensor:
        """The axes in another order, given as one tuple or as several numbers; reversed by default."""
        return implements[np.transpose](self, _spread(axes) or None)

    @property
    def T(self) -> Tensor:
        """The tensor with its axes in reverse order."""
        return implements[np.transpose](self)

    @property
    def at(self) -> At:
        """Writing without in-place mutation: `x.at[index].set(v)` and `.add(v)` give a new tensor."""
        return At(self)

    def _rebound(self) -> Self:
        """`x += y` gives the name x a new tensor; for a leaf that would lose the parameter, so it is refused."""
        if self.requires_grad and isinstance(self.node, Leaf):
            raise TypeError(
                "a leaf that requires a gradient is not updated in place: write x = x + y for a new tensor, "
                "or x.overwrite(values) to update the parameter after the backward pass"
            )
        return self


class At:
    """The places of a tensor, by index: `x.at[index]`."""

    __slots__ = ("_tensor",)

    def __init__(self, target: NumPyLike) -> None:
        self._tensor = target

    def __getitem__(self, index: Any) -> Place:
        return Place(self._tensor, index)


class Place:
    """A place in a tensor, for a new value: `x.at[index].set(v)`."""

    __slots__ = ("_tensor", "_index")

    def __init__(self, target: NumPyLike, index: Any) -> None:
        self._tensor = target
        self._index = index

    def set(self, values: Any) -> Tensor:
        """A new tensor with these values at the index; where an index occurs twice, the last one counts."""
        return implements[Place.set](self._tensor, values, index=self._index)

    def add(self, values: Any) -> Tensor:
        """A new tensor with these values added at the index; where an index occurs twice, both are added."""
        return implements[Place.add](self._tensor, values, index=self._index)


def _called(function: Callable[..., Any]) -> str:
    """A NumPy function as users write it: `np.linalg.svd`."""
    module = getattr(function, "__module__", None) or "numpy"  # ufuncs have none
    return f"{module}.{function.__name__}".replace("numpy", "np", 1)


def _without_out(function: Callable[..., Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The call's parameters without `out` and `dtype`, where they only say that nothing is wished."""
    if kwargs.get("out") is not None:
        raise TypeError(
            f"{_called(function)} cannot write a tensor into an array: there is no gradient through out=; use the result, "
            "and W.overwrite(values) to update a parameter"
        )
    return {key: value for key, value in kwargs.items() if key not in ("out", "dtype") or value is not None}


def _spread(values: tuple[Any, ...]) -> Any:
    """`x.reshape(2, 3)` and `x.reshape((2, 3))` mean the same."""
    return values[0] if len(values) == 1 and not isinstance(values[0], int) else values
