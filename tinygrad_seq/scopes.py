"""Scopes and settings: where in the model an operation runs, when in time, and what a user can switch. Read me with `tape.py`.

Both belong to the context (of a thread, or a task): scopes nest as `with` blocks do, and a setting holds until its block ends.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinygrad_seq.recording import Recording


class Scope:
    """A place in the model and a moment in time; scopes nest, and a nested one inherits step and tags.

    It inherits the time axis as well, unless it says a `t` or a time axis itself: at one step there is no axis of time.

    Attributes:
        parent: the scope around it.
        part: its own name, "" for none.
        t: the step, counted from the start of the sequence.
        time_axis: which axis of a result is time; index 0 of it is step `steps_from`.
        steps_from: from which step on the scopes inside count.
        own_tags: those that it was given itself; `tags` has the inherited ones too.
    """

    __slots__ = ("parent", "part", "t", "time_axis", "steps_from", "own_tags")

    def __init__(
        self,
        parent: Scope | None,
        part: str,
        t: int | None,
        time_axis: int | None,
        steps_from: int | None,
        tags: dict[str, Any],
    ) -> None:
        self.parent = parent
        self.part = part
        inherited = 0 if parent is None else parent.steps_from
        self.steps_from: int = inherited if steps_from is None else steps_from
        self.t: int | None = None if parent is None else parent.t
        if t is not None:
            self.t = int(t) + self.steps_from
        inherits = t is None and time_axis is None
        self.time_axis: int | None = parent.time_axis if parent is not None and inherits else time_axis
        self.own_tags = tags

    @property
    def parts(self) -> tuple[str, ...]:
        """The names from the outermost scope to this one."""
        parts = []
        scope: Scope | None = self
        while scope is not None:
            if scope.part:
                parts.append(scope.part)
            scope = scope.parent
        return tuple(reversed(parts))

    @property
    def path(self) -> str:
        """The names joined: `encoder/lstm/f`."""
        return "/".join(self.parts)

    @property
    def place(self) -> str:
        """The scope as a clause of an error message: `, in lstm/f, t=3`, or nothing outside of all scopes."""
        return (f", in {self.path}" if self.path else "") + (f", t={self.t}" if self.t is not None else "")

    @property
    def tags(self) -> dict[str, Any]:
        """All tags that hold here, inner ones over outer ones."""
        chain = []
        scope: Scope | None = self
        while scope is not None:
            chain.append(scope.own_tags)
            scope = scope.parent
        return {key: value for tags in reversed(chain) for key, value in tags.items()}

    def is_called(self, name: str) -> bool:
        """Whether this is a part's name, or an alias of one (the tag `alias`)."""
        scope: Scope | None = self
        while scope is not None:
            if name == scope.part or name in scope.own_tags.get("alias", ()):
                return name != ""
            scope = scope.parent
        return False

    def __repr__(self) -> str:
        step = "" if self.t is None else f", t={self.t}"
        return f"Scope({self.path!r}{step})"


class scope:
    """Say where in the model, and at which step, the operations inside are.

    Args:
        name: a part of the model ("encoder", "lstm", "f").
        t: the step in time, counted from 0; inherited by the scopes inside.
        time_axis: for an operation over all of time at once: which axis of its result is time.
        steps_from: for a piece of a longer sequence: the step that it starts at. Inside, t and the time axis count from there,
            so that the tape tells the steps of the whole. Inner scopes inherit it.
        **tags: what drawing reads: layer, direction, part, role, valid.

    Raises:
        TypeError: a name that is no string, a step that is no whole number.

    Example:
        >>> import tinygrad_seq as tg
        >>> with tg.scope("cell", t=3):
        ...     y = tg.tensor([1.0], requires_grad=True) * 2
        >>> y.scope
        Scope('cell', t=3)
    """

    __slots__ = ("_name", "_t", "_time_axis", "_steps_from", "_tags", "_tokens")

    def __init__(
        self, name: str, t: int | None = None, time_axis: int | None = None, steps_from: int | None = None, **tags: Any
    ) -> None:
        if time_axis is not None and time_axis < 0:
            raise ValueError(f"time_axis={time_axis}: count it from the front, for results of any number of axes")
        if type(name) is not str or (type(t) is not int and t is not None):
            t = _checked(name, t)
        self._name = name
        self._t = t
        self._time_axis = time_axis
        self._steps_from = steps_from
        self._tags = tags
        self._tokens: list[Token[Context]] = []  # one for each block that is open

    def __enter__(self) -> Scope:
        outer = _context.get()
        inner = Scope(outer.scope, self._name, self._t, self._time_axis, self._steps_from, self._tags)
        self._tokens.append(_context.set(Context(outer.grad, inner, outer.tape, outer.anomaly, outer.mask_zeros)))
        return inner

    def __exit__(self, *exc: object) -> None:
        _context.reset(self._tokens.pop())


def _checked(name: Any, t: Any) -> int | None:
    """The step as Python's own int; a TypeError for a name or a step of another kind."""
    from tinygrad_seq.explain import told, whole  # it needs scopes

    if not isinstance(name, str):
        raise TypeError(f"a scope is called by a string, not by {told(name)}: tg.scope(name, t=t)")
    return None if t is None else whole("the step t", t)


# ---- what a user can switch -----------------------------------------------------------------------------------------


class Context:
    """The settings under which operations run: immutable, one per context (thread, task), replaced as a whole."""

    __slots__ = ("grad", "scope", "tape", "anomaly", "mask_zeros", "observed", "plain")

    def __init__(self, grad: bool, scope: Scope, tape: Recording | None, anomaly: bool, mask_zeros: bool) -> None:
        self.grad = grad
        self.scope = scope
        self.tape = tape
        self.anomaly = anomaly
        self.mask_zeros = mask_zeros
        self.observed = tape is not None or anomaly
        self.plain = grad and not self.observed  # one test on the hot path instead of three

    def but(self, **changes: Any) -> Context:
        """This context with some settings changed."""
        settings = {name: getattr(self, name) for name in ("grad", "scope", "tape", "anomaly", "mask_zeros")}
        return Context(**(settings | changes))


NOWHERE = Scope(None, "", None, None, None, {})
_DEFAULT = Context(True, NOWHERE, None, False, True)
_context: ContextVar[Context] = ContextVar("tinygrad_seq", default=_DEFAULT)
current: Callable[[], Context] = _context.get


class setting:
    """Run the block, or the function that it decorates, under a changed context. Settings change here and in `scope` only."""

    __slots__ = ("_changes", "_tokens")

    def __init__(self, **changes: Any) -> None:
        self._changes = changes
        self._tokens: list[Token[Context]] = []  # one for each block that is open

    def __enter__(self) -> None:
        self._tokens.append(_context.set(_context.get().but(**self._changes)))

    def __exit__(self, *exc: object) -> None:
        _context.reset(self._tokens.pop())

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, run in a block of its own at each call."""

        @wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with setting(**self._changes):
                return function(*args, **kwargs)

        return inside


def no_grad() -> setting:
    """Operations inside leave no trace for a backward pass. A context manager and a decorator."""
    return setting(grad=False)


def enable_grad() -> setting:
    """Operations inside are taped again, inside `no_grad`."""
    return setting(grad=True)


def detect_anomaly(mask_zeros: bool = True) -> setting:
    """Raise on the first value that is not finite, forward or backward, with operation, scope, step and the user's line.

    Args:
        mask_zeros: see `mask_zeros`; False also finds what that rule hides.
    """
    return setting(anomaly=True, mask_zeros=mask_zeros)


def mask_zeros(enabled: bool) -> setting:
    """Whether a cotangent of exactly zero stays zero where an elementwise derivative is not finite. It does, by default.

    That is what makes `np.where(x > 0, np.log(x), 0)` safe. Switched off, 0 times infinity is NaN, as in NumPy.
    """
    return setting(mask_zeros=enabled)
