"""Modules: parameters by name. Read after `tensor.py`.

A model is a plain Python object. What it learns are the `Parameter`s among its attributes, its parts are the `Module`s
among them, alone or in lists, tuples and dicts, and nothing is registered anywhere: whoever asks for the parameters
gets what the attributes hold then. So a list may grow, a part may be replaced, and there is no `super().__init__()`
to forget.

    class Tagger(Module):
        def __init__(self, I, H, C):
            self.cells = [RNNCell(I, H), RNNCell(H, H)]     # cells.0.W_x, cells.0.W_h, ...
            self.W = Parameter(init.xavier_uniform((H, C)))  # W

        def forward(self, x): ...
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Self

import numpy as np

from tinygrad_seq.dtypes import Array
from tinygrad_seq.explain import told
from tinygrad_seq.tensor import Parameter, Tensor, as_array


class Module:
    """A part of a model: parameters, buffers and smaller parts. Subclasses say in `forward` what it computes.

    Attributes:
        training: whether the model is being trained (True at first); dropout, for one, works only then.
    """

    training: bool = True
    _buffers: tuple[str, ...] = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run `forward`."""
        return self.forward(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; for the subclass to define."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward")

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; parameters that have no name yet are called after it in print and pictures."""
        if isinstance(vars(self).get(name), Parameter) and not isinstance(value, Parameter | None):
            raise TypeError(
                f"{type(self).__name__}.{name} is a parameter, and a {type(value).__name__} in its place would not be learned: "
                f"use {name}.overwrite(values) for new values, or assign a Parameter"
            )
        for path, part in _parts(name, value):
            if isinstance(part, Parameter) and part.name is None:
                part.name = path
        object.__setattr__(self, name, value)

    # ---- what it consists of ------------------------------------------------------------------------------------

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) of this module, called "", and all below it, each once, in order of assignment."""
        seen: set[int] = set()
        waiting: list[tuple[str, Module]] = [("", self)]
        while waiting:
            path, module = waiting.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield path, module
            inner = [(_joined(path, name), part) for name, part in module._own() if isinstance(part, Module)]
            waiting.extend(reversed(inner))

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter) of all that is learned; a parameter that is shared is listed once, where it comes first."""
        seen: set[int] = set()
        for path, module in self.named_modules():
            for name, part in module._own():
                if isinstance(part, Parameter) and id(part) not in seen:
                    seen.add(id(part))
                    yield _joined(path, name), part

    def parameters(self) -> Iterator[Parameter]:
        """All that is learned, each parameter once."""
        return (parameter for _, parameter in self.named_parameters())

    def register_buffer(self, name: str, array: Any) -> None:
        """Keep an array that is not learned but belongs to the model: it is an attribute, and part of `state_dict`."""
        setattr(self, name, np.array(as_array(array)))
        self._buffers = tuple(dict.fromkeys((*self._buffers, name)))

    def named_buffers(self) -> Iterator[tuple[str, Array]]:
        """(dotted name, array) of all buffers."""
        for path, module in self.named_modules():
            for name in module._buffers:
                yield _joined(path, name), as_array(getattr(module, name))

    def _own(self) -> Iterator[tuple[str, Parameter | Module]]:
        """(name, parameter or module) of what the module itself holds, not its parts."""
        for name, value in vars(self).items():
            yield from _parts(name, value)

    # ---- its state ----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Array]:
        """A copy of every parameter and buffer, by its dotted name.

        Raises:
            ValueError: two of them have the same name (a dict in the module has keys such as 1 and "1").
        """
        return {name: array.copy() for name, array in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Take over the values that `state_dict` gave.

        Args:
            state: name -> array.
            strict: whether every name must be there and no other. Shapes and dtypes must fit in any case.

        Raises:
            TypeError: it is no state at all: not a dict, or similar.
            ValueError: something does not fit; the message lists all of it, and nothing has been changed.
        """
        self.take_over(self.fitting(state, strict))

    def fitting(self, state: Mapping[str, Any], strict: bool = True) -> dict[str, Array]:
        """The part of a state that is for this module, copied and checked, without loading it; see `load_state_dict`."""
        _refuse_no_state(state)
        own, arrays = self._state(), {}
        problems = []
        for name in (name for name in own if name in state):
            try:
                arrays[name] = np.array(as_array(state[name]))
            except (TypeError, ValueError) as error:
                problems.append(f"{name}: {error}")
        if strict:
            problems += [f"missing: {name}" for name in own if name not in state]
            problems += [f"unexpected: {name}" for name in state if name not in own]
        for name, array in arrays.items():
            wanted = own[name]
            if array.shape != wanted.shape:
                problems.append(f"{name}: shape {array.shape} instead of {wanted.shape}")
            elif array.dtype != wanted.dtype:
                problems.append(f"{name}: dtype {array.dtype} instead of {wanted.dtype} (see Module.to)")
        if problems:
            raise ValueError(f"this state does not fit {type(self).__name__}:\n  " + "\n  ".join(problems))
        return arrays

    def take_over(self, arrays: Mapping[str, Array]) -> None:
        """Write arrays that `fitting` has checked into the parameters and buffers of these names."""
        for name, parameter in self.named_parameters():
            if name in arrays:
                parameter.overwrite(arrays[name])
        for path, module in self.named_modules():
            for name in module._buffers:
                if _joined(path, name) in arrays:
                    setattr(module, name, arrays[_joined(path, name)])

    def _state(self) -> dict[str, Array]:
        """Every parameter's and buffer's own array, by its dotted name."""
        found = {}
        for name, array in chain(((name, parameter.data) for name, parameter in self.named_parameters()), self.named_buffers()):
            if name in found:
                raise ValueError(f"two parameters or buffers of {type(self).__name__} are called {name!r}; rename one")
            found[name] = array
        return found

    # ---- what is done to all of it ------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Set `training` here and below; gives the module back."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """The same as `train(False)`."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients: every parameter's `grad` is None again."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def to(self, dtype: Any) -> Self:
        """Convert parameters, their gradients and floating buffers to a floating dtype; gives the module back.

        The parameters remain the same objects. An optimiser's state is not converted: make the optimiser afterwards.
        """
        try:
            wanted = None if dtype is None else np.dtype(dtype)
        except TypeError:
            wanted = None
        if wanted is None or wanted.kind != "f":
            raise TypeError(f"parameters need a floating dtype, such as 'float32', not {dtype!r} (there are no devices)")
        dtype = wanted
        for parameter in self.parameters():
            gradient = parameter.grad
            parameter.data = parameter.data.astype(dtype)
            if parameter.node is not None:
                parameter.node.dtype = dtype
            parameter.grad = None if gradient is None else Tensor(gradient.data.astype(dtype))
        for module in self.modules():
            for name in module._buffers:
                array = as_array(getattr(module, name))
                if array.dtype.kind == "f":
                    setattr(module, name, array.astype(dtype))
        return self

    # ---- how it prints ------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        """The tree of modules: a line each, with the number of parameters in it and the shapes of its own."""
        rows: list[tuple[str, str, str]] = []
        waiting: list[tuple[str, str, str, Module]] = [("", "", "", self)]
        drawn: set[int] = set()
        while waiting:
            branch, stem, name, module = waiting.pop()
            again = id(module) in drawn
            drawn.add(id(module))
            count = sum(parameter.size for parameter in module.parameters())
            own = [(name, part) for name, part in module._own() if not again]
            shapes = ", ".join(f"{name} {part.shape}" for name, part in own if isinstance(part, Parameter))
            title = (f"{name}: " if name else "") + type(module).__name__
            rows.append((branch + title, f"{count:,}", "(shared, see above)" if again else shapes))
            inner = [(name, part) for name, part in own if isinstance(part, Module)]
            for i, (name, part) in enumerate(reversed(inner)):
                last = i == 0
                waiting.append((stem + ("└─ " if last else "├─ "), stem + ("   " if last else "│  "), name, part))
        left, right = (max(len(row[i]) for row in rows) for i in (0, 1))
        return "\n".join(f"{title:<{left}}  {count:>{right}}  {shapes}".rstrip() for title, count, shapes in rows)


def _refuse_no_state(state: Any) -> None:
    """Raise a TypeError on what is no dict, or similar."""
    if not isinstance(state, Mapping):
        cure = "pass its state_dict()" if isinstance(state, Module) else "tg.load(path, module) reads files"
        raise TypeError(f"a state is a dict of arrays, as state_dict() gives it, and not {told(state)}; {cure}")


def _parts(path: str, value: Any) -> Iterator[tuple[str, Parameter | Module]]:
    """(dotted name, parameter or module) of what an attribute holds, looking into lists, tuples and dicts."""
    if isinstance(value, Parameter | Module):
        yield path, value
    elif isinstance(value, list | tuple):
        for i, part in enumerate(value):
            yield from _parts(f"{path}.{i}", part)
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _parts(f"{path}.{key}", part)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
