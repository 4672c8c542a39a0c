"""Calls of every operation that has a derivative, and random programs of them, for comparing with another library.

`CALLS` says which operation with which parameters on which shapes; the library that computes it is an argument. Ours is
here; PyTorch's is in `tests/oracle`, and its recorded answers are in `tests/engine/oracles`, which need no PyTorch.
Numbers are drawn from generators seeded by the call's own name, so that every run has the same ones.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import tinygrad_seq as tg
from tinygrad_seq import ops
from tinygrad_seq.ops.samples import Draw, Shape, apart, away_from, distinct, normal, uniform
from tinygrad_seq.primitive import registry

positive, nonzero, within_one = uniform(0.3, 3.0), away_from(0.3, 2.0), uniform(-0.9, 0.9)


class Call(NamedTuple):
    """An operation with its parameters, on inputs of several tuples of shapes; `draw` one for all, or one for each."""

    op: str
    params: dict[str, Any]
    shapes: Sequence[tuple[Shape, ...]]
    draw: Draw | tuple[Draw, ...] = normal

    @property
    def name(self) -> str:
        """`sum(axis=0, keepdims=True)`."""
        return f"{self.op}({', '.join(f'{key}={value}'.replace(chr(10), '') for key, value in self.params.items())})"

    def inputs(self) -> Iterator[list[Any]]:
        """Arrays for each of the tuples of shapes."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        for shapes in self.shapes:
            draws = self.draw if isinstance(self.draw, tuple) else (self.draw,) * len(shapes)
            yield [np.asarray(draw(rng, shape)) for draw, shape in zip(draws, shapes)]


# ---- the calls ------------------------------------------------------------------------------------------------------

ONE: list[tuple[Shape, ...]] = [((),), ((3,),), ((2, 3),), ((0, 2),), ((2, 1, 4),)]
TWO: list[tuple[Shape, ...]] = [
    ((2, 3), (2, 3)), ((2, 1), (3,)), ((), (2, 2)), ((3,), ()), ((), ()), ((0, 2), (2,)), ((2, 1, 3), (4, 1)), ((1,), (2, 2)),
]  # fmt: skip

_smooth = (
    "negative exp square tanh sigmoid expm1 exp2 positive degrees radians sin cos arctan sinh cosh arcsinh softplus silu gelu "
    "normal_cdf"
)


def _all(names: str, draw: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), draw)


OF_ONE: dict[str, Draw] = {
    **_all(_smooth, normal),
    **_all("relu absolute abs fabs sign cbrt reciprocal leaky_relu elu", nonzero),
    **_all("log sqrt log2 log10 log1p", positive),
    **_all("tan arcsin arccos arctanh", within_one),
    **_all("arccosh", uniform(1.1, 3.0)),
}
OF_TWO: dict[str, Draw | tuple[Draw, ...]] = {
    **_all("add subtract multiply logaddexp", normal),
    **_all("hypot arctan2", nonzero),
    **_all("maximum minimum", apart),
    "divide": (normal, nonzero),
    "power": (positive, normal),
    "remainder": (uniform(3.2, 3.8), uniform(2.2, 2.9)),
}

REDUCED: list[tuple[dict[str, Any], list[tuple[Shape, ...]]]] = [
    ({}, [((3, 4),), ((),), ((1,),)]),
    (dict(axis=0), [((3, 4),), ((3,),), ((3, 0),)]),
    (dict(axis=-1, keepdims=True), [((3, 4),), ((2, 3, 2),)]),
]  # fmt: skip
TUPLES: list[tuple[dict[str, Any], list[tuple[Shape, ...]]]] = [(dict(axis=(0, -1)), [((2, 3, 4),)])]

ROWS = np.array([2, 0, 2, -1])
MASK = np.array([[True, False, True, False], [False, False, True, True], [True, False, False, False]])
INDICES: list[Any] = [
    1, -1, slice(1, None), (slice(None), -2), (..., 0), None, (slice(None), None, slice(1, 3)), (), ROWS, MASK,
    (ROWS, np.array([1, 0, 1, 3])), (slice(None), ROWS), (ROWS[:, None], ROWS[:2]), (slice(None), MASK[0]),
]  # fmt: skip


def _calls() -> Iterator[Call]:
    for op, draw in OF_ONE.items():
        yield Call(op, {}, ONE, draw)
    for op, draws in OF_TWO.items():
        yield Call(op, {}, TWO, draws)
    yield Call("power", dict(exponent=3.0), ONE, nonzero)
    yield Call("power", dict(exponent=-2), ONE, nonzero)
    yield Call("leaky_relu", dict(negative_slope=0.2), ONE, nonzero)
    yield Call("elu", dict(alpha=0.5), ONE, nonzero)
    yield Call("gelu", dict(approximate="tanh"), ONE, normal)
    yield Call("clip", dict(a_min=-1.0, a_max=1.0), ONE, away_from(0.1, 2.0, kinks=(-1.0, 1.0)))
    yield Call("clip", dict(a_min=None, a_max=0.0), ONE, nonzero)
    yield Call("where", dict(condition=MASK), [((3, 4), (3, 4)), ((4,), (3, 1)), ((), (3, 4))])
    yield Call("astype", dict(dtype="float64"), ONE)
    yield from _reductions()
    yield from _shapes()
    yield from _indexing()
    yield from _products()
    yield from _solutions()
    yield from _neural()


def _reductions() -> Iterator[Call]:
    for op in ("sum", "mean", "logsumexp", "norm"):
        for params, shapes in REDUCED + TUPLES:
            full = op == "sum" or params.get("axis") != 0
            yield Call(op, params, shapes if full else shapes[:2])
    for op in ("max", "min"):
        for params, shapes in REDUCED + TUPLES:
            yield Call(op, params, [each for each in shapes if each != ((3, 0),)], distinct())
    for op in ("var", "std"):
        for params, shapes in REDUCED[1:] + TUPLES:
            for ddof in (0, 1):
                yield Call(op, params | dict(ddof=ddof), shapes[:1])
    for params, shapes in REDUCED:
        yield Call("prod", params, shapes)
    for axis, shape in ((0, (3, 4)), (-1, (2, 3, 4)), (1, (2, 0))):
        yield Call("cumsum", dict(axis=axis), [(shape,)])
        yield Call("cumprod", dict(axis=axis), [(shape,)])
    yield Call("trace", {}, [((3, 3),), ((2, 4),)])


def _shapes() -> Iterator[Call]:
    yield Call("reshape", dict(shape=(2, -1)), [((3, 4),), ((2, 3, 2),)])
    yield Call("ravel", {}, ONE)
    yield Call("transpose", {}, [((3, 4),), ((2, 3, 4),), ((3,),)])
    yield Call("transpose", dict(axes=(1, 2, 0)), [((2, 3, 4),)])
    yield Call("swapaxes", dict(axis1=0, axis2=-1), [((2, 3, 4),)])
    yield Call("moveaxis", dict(source=0, destination=-1), [((2, 3, 4),)])
    yield Call("squeeze", {}, [((2, 1, 3, 1),), ((),)])
    yield Call("squeeze", dict(axis=1), [((2, 1, 3),)])
    yield Call("expand_dims", dict(axis=-1), [((2, 3),), ((),)])
    yield Call("broadcast_to", dict(shape=(4, 2, 3)), [((2, 3),), ((2, 1),), ((),)])
    yield Call("concatenate", dict(axis=-1), [((2, 3), (2, 1), (2, 0)), ((3,), (2,))])
    yield Call("stack", dict(axis=1), [((2, 3), (2, 3)), ((3,), (3,), (3,))])
    yield Call("vstack", {}, [((2, 3), (1, 3)), ((3,), (3,))])
    yield Call("hstack", {}, [((2, 3), (2, 1)), ((3,), (2,))])
    yield Call("split", dict(indices_or_sections=2, axis=1), [((3, 4),)])
    yield Call("split", dict(indices_or_sections=(1, 1, 3), axis=0), [((4, 2),)])
    yield Call("unstack", dict(axis=-1), [((2, 3),)])
    yield Call("tile", dict(reps=(2, 3)), [((3, 2),), ((2,),), ((2, 1, 2),)])
    yield Call("repeat", dict(repeats=3, axis=0), [((2, 3),)])
    yield Call("repeat", dict(repeats=2), [((2, 3),)])
    yield Call("repeat", dict(repeats=(2, 0, 1), axis=-1), [((2, 3),)])
    yield Call("flip", {}, [((2, 3),), ((3,),)])
    yield Call("flip", dict(axis=-1), [((2, 3),)])
    yield Call("roll", dict(shift=2), [((2, 3),)])
    yield Call("roll", dict(shift=(1, -1), axis=(0, 1)), [((3, 4),)])
    yield Call("pad", dict(pad_width=((1, 2), (0, 3))), [((2, 3),)])
    yield Call("tril", dict(k=-1), [((3, 4),), ((2, 3, 3),)])
    yield Call("triu", dict(k=1), [((3, 4),), ((2, 3, 3),)])
    yield Call("diag", dict(k=1), [((3,),), ((3, 4),)])
    yield Call("diagonal", dict(offset=-1, axis1=0, axis2=2), [((3, 2, 4),)])


def _indexing() -> Iterator[Call]:
    for index in INDICES:
        yield Call("getitem", dict(index=index), [((3, 4),)])
        place = np.empty((3, 4))[index].shape
        yield Call("at_add", dict(index=index), [((3, 4), place), ((3, 4), ())])
        written = np.arange(12).reshape(3, 4)[index]
        if np.unique(written).size == written.size:  # PyTorch does not say which of two values stays at one place
            yield Call("at_set", dict(index=index), [((3, 4), place), ((3, 4), ())])
    yield Call("take", dict(indices=ROWS, axis=1), [((2, 3),), ((2, 3, 2),)])
    yield Call("take", dict(indices=ROWS), [((2, 3),)])
    yield Call("take_along_axis", dict(indices=np.array([[2, 0, 0], [1, 1, 2]]), axis=1), [((2, 3),)])
    yield Call("sort", dict(axis=0), [((4, 3),)], distinct())


def _products() -> Iterator[Call]:
    yield Call("matmul", {}, [
        ((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((5, 2, 3), (5, 3, 4)), ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)), ((5, 1, 2, 3), (4, 3, 2)), ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((4, 2, 3), (3,)), ((3,), (4, 3, 2)),
    ])  # fmt: skip
    yield Call("dot", {}, [((3,), (3,)), ((2, 3), (3, 4)), ((2, 3), (3,))])
    yield Call("vdot", {}, [((3,), (3,))])
    yield Call("inner", {}, [((3,), (3,)), ((2, 3), (4, 3))])
    yield Call("outer", {}, [((2,), (3,))])
    yield Call("tensordot", dict(axes=1), [((2, 3), (3, 4)), ((2, 3, 4), (4, 2))])
    yield Call("tensordot", dict(axes=([0, 2], [1, 0])), [((2, 3, 4), (4, 2, 5))])
    yield Call("kron", {}, [((2, 3), (3, 2)), ((2,), (3,))])
    yield Call("einsum", dict(subscripts="ij,jk->ik"), [((2, 3), (3, 4))])
    yield Call("einsum", dict(subscripts="bij,bjk,k->bi"), [((2, 3, 2), (2, 2, 4), (4,))])
    yield Call("einsum", dict(subscripts="...i,...i->..."), [((2, 3, 4), (3, 4))])
    yield Call("einsum", dict(subscripts="ij->ji"), [((2, 3),)])
    yield Call("einsum", dict(subscripts="ij->"), [((2, 3),)])
    yield Call("einsum", dict(subscripts="ii->i"), [((3, 3),)])
    yield Call("einsum", dict(subscripts="ij,kj"), [((2, 3), (4, 3))])


def _solutions() -> Iterator[Call]:
    """Of well-conditioned matrices: the functions below make them of any."""
    yield Call("solve", {}, [((3, 3), (3, 2)), ((2, 3, 3), (2, 3, 1))])
    yield Call("inv", {}, [((3, 3),), ((2, 2, 2),)])
    yield Call("det", {}, [((3, 3),), ((2, 2, 2),)])
    yield Call("slogdet", {}, [((3, 3),), ((2, 2, 2),)])
    yield Call("cholesky", {}, [((3, 3),), ((2, 2, 2),)])
    yield Call("eigh", {}, [((3, 3),), ((2, 2, 2),)])
    yield Call("eigvalsh", {}, [((3, 3),), ((2, 2, 2),)])


def _neural() -> Iterator[Call]:
    for op in ("softmax", "log_softmax"):
        yield Call(op, dict(axis=-1), [((3, 4),), ((2, 3, 4),), ((0, 3),)])
        yield Call(op, dict(axis=0), [((3, 4),), ((3,),)])
    yield Call("embedding", dict(index=np.array([[1, 0, 1], [4, 4, 4]])), [((5, 2),)])
    yield Call("layer_norm", {}, [((3, 4),), ((3, 4), (4,)), ((2, 3, 4), (4,), (4,))])
    yield Call("layer_norm", dict(eps=0.1), [((3, 4),)])
    yield Call("conv1d_causal", {}, [((5, 2, 3), (2, 3, 4), (4,)), ((5, 2, 3), (3, 3, 2)), ((2, 1, 2), (4, 2, 2))])
    yield Call("conv1d_causal", dict(dilation=2), [((6, 2, 3), (3, 3, 2), (2,))])


CALLS = list(_calls())

# ---- how we compute them --------------------------------------------------------------------------------------------


def regular(x: Any) -> Any:
    """A matrix far from singular, made of any small one."""
    return x + 5 * np.eye(x.shape[-1])


def definite(x: Any) -> Any:
    """A symmetric matrix with positive, well separated eigenvalues."""
    return x @ np.swapaxes(x, -1, -2) + np.diag(np.arange(1.0, x.shape[-1] + 1))


def _eigh(x: Any) -> tuple[Any, Any]:
    """Eigenvalues, and what of the eigenvectors does not depend on their signs."""
    values, vectors = np.linalg.eigh(definite(x))
    return values, vectors * vectors


OURS: dict[str, Callable[..., Any]] = {
    "power":       lambda a, b=None, exponent=None: a**exponent if b is None else a**b,
    "where":       lambda a, b, condition: np.where(condition, a, b),
    "astype":      lambda x, dtype: x.astype(dtype),
    "norm":        lambda x, axis=None, keepdims=False: np.linalg.norm(x, None, axis, keepdims),
    "concatenate": lambda *xs, axis: np.concatenate(xs, axis),
    "stack":       lambda *xs, axis: np.stack(xs, axis),
    "vstack":      lambda *xs: np.vstack(xs),
    "hstack":      lambda *xs: np.hstack(xs),
    "getitem":     lambda x, index: x[index],
    "at_set":      lambda x, values, index: x.at[index].set(values),
    "at_add":      lambda x, values, index: x.at[index].add(values),
    "einsum":      lambda *xs, subscripts: np.einsum(subscripts, *xs),
    "solve":       lambda a, b: np.linalg.solve(regular(a), b),
    "inv":         lambda a: np.linalg.inv(regular(a)),
    "det":         lambda a: np.linalg.det(regular(a)),
    "slogdet":     lambda a: np.linalg.slogdet(regular(a))[1],
    "cholesky":    lambda a: np.linalg.cholesky(definite(a)),
    "eigh":        _eigh,
    "eigvalsh":    lambda a: np.linalg.eigvalsh(definite(a)),
    "normal_cdf":  registry["normal_cdf"],
}  # fmt: skip


def ours(call: Call) -> Callable[..., Any]:
    """The call as a function of tensors of this package."""
    function = OURS.get(call.op) or getattr(tg, call.op)
    return lambda *xs: function(*xs, **call.params)


# Offered operations that are not compared, and why.
WITHOUT_ORACLE = {
    "detach":       "stops the gradient on purpose; its tests are those of the tape",
    "dropout":      "draws from our own generator",
}  # fmt: skip


def _has_derivative(name: str) -> bool:
    """Whether an operation of the package has one: functions that are no primitives themselves are made of some that have."""
    value = getattr(tg, name)
    return value.differentiable or value.cut if isinstance(value, tg.Primitive) else True


OFFERED = {name for name in ops.__all__ if _has_derivative(name)}

# ---- random programs ------------------------------------------------------------------------------------------------

# What a program may be made of: operations on (n, n) matrices, smooth, of results no larger than their inputs.
N = 3
STEPS: dict[str, Callable[..., Any]] = {
    "add":       lambda a, b: (a + b) * 0.6,
    "subtract":  lambda a, b: (a - b) * 0.6,
    "multiply":  lambda a, b: a * b * 0.6,
    "divide":    lambda a, b: a / (1.0 + b * b),
    "matmul":    lambda a, b: a @ b * 0.5,
    "tanh":      lambda a: np.tanh(a),
    "sin":       lambda a: np.sin(a),
    "cos":       lambda a: np.cos(a),
    "arctan":    lambda a: np.arctan(a),
    "sigmoid":   lambda a: tg.sigmoid(a),
    "softplus":  lambda a: tg.softplus(a),
    "exp":       lambda a: np.exp(-a * a),
    "log":       lambda a: np.log(1.0 + a * a),
    "sqrt":      lambda a: np.sqrt(1.0 + a * a),
    "negative":  lambda a: -a,
    "transpose": lambda a: a.T,
    "mean":      lambda a: a - a.mean(axis=0),
    "sum":       lambda a: a.sum(axis=1, keepdims=True) * a * 0.2,
    "cumsum":    lambda a: np.cumsum(a, axis=0) * 0.4,
    "softmax":   lambda a: tg.softmax(a, axis=-1),
    "logsumexp": lambda a, b: tg.logsumexp(a, axis=0) * b * 0.4,
    "getitem":   lambda a, b: a[1] * b[:, 2:],
    "gather":    lambda a: a[np.array([2, 0, 2])],
    "stack":     lambda a, b: np.stack([a[0], b[1], a[2]]),
    "concat":    lambda a, b: np.concatenate([a[:, :1], b[:, 1:]], axis=1),
    "flip":      lambda a: np.flip(a, axis=0),
    "where":     lambda a, b: np.where(np.eye(N) > 0, a, b),
    "outer":     lambda a, b: np.outer(a[0], b[:, 1]) * 0.6,
    "inv":       lambda a: np.linalg.inv(np.tanh(a) * 0.3 + np.eye(N)),
    "hypot":     lambda a, b: np.hypot(a, b * b + 1.0) * 0.5,
}  # fmt: skip
ARITY = {name: step.__code__.co_argcount for name, step in STEPS.items()}

Program = list[tuple[str, list[int]]]  # each step: an operation, on which values (the leaves come first)
LEAVES = 3
LONGEST = 60


def random_program(seed: int) -> Program:
    """A program of up to 60 operations; recent values are used more often, so that programs are deep as well as wide."""
    rng = np.random.default_rng(seed)
    program: Program = []
    for count in range(LEAVES, LEAVES + int(rng.integers(LONGEST // 4, LONGEST + 1))):
        op = str(rng.choice(sorted(STEPS)))
        recent = range(max(0, count - 8), count)
        operands = [int(rng.choice(recent if rng.random() < 0.8 else range(count))) for _ in range(ARITY[op])]
        program.append((op, operands))
    return program


def leaves_of(seed: int) -> list[Any]:
    """The matrices that a program starts from."""
    rng = np.random.default_rng([seed, 1])
    return [rng.uniform(-1.5, 1.5, (N, N)) for _ in range(LEAVES)]


def program_as_function(program: Program, steps: dict[str, Callable[..., Any]]) -> Callable[..., tuple[Any, ...]]:
    """All values that nothing else uses, as a function of the leaves, in a library's operations."""

    def run(*leaves: Any) -> tuple[Any, ...]:
        values = list(leaves)
        for op, operands in program:
            values.append(steps[op](*[values[i] for i in operands]))
        used = {i for _, operands in program for i in operands}
        return tuple(value for i, value in enumerate(values) if i not in used)

    return run


# ---- derivatives to second order ------------------------------------------------------------------------------------


class Answers(NamedTuple):
    """What libraries are compared by: results, first derivatives and second ones, a list of arrays each."""

    outputs: list[Any]
    first: list[Any]
    second: list[Any]


def weights(shape: Shape, k: int) -> Any:
    """Fixed numbers, no two alike, to make one number of the k-th result."""
    return np.cos(1.0 + k + np.arange(float(np.prod(shape)))).reshape(shape)


def answers(function: Callable[..., Any], arrays: Sequence[Any]) -> Answers:
    """Our answers: grad of L = sum_k w_k . y_k, and grad of sum_k w_k . dL/dx_k."""
    leaves = [tg.tensor(array, requires_grad=True) for array in arrays]
    result = function(*leaves)
    outputs = list(result) if isinstance(result, (tuple, list)) else [result]
    first = gradients(outputs, leaves)
    second = gradients(first, leaves)
    return Answers([y.data for y in outputs], [g.data for g in first], [h.data for h in second])


def gradients(values: list[Any], leaves: list[Any]) -> list[Any]:
    """The taped gradients of a weighted sum of the values; zero where none depends on a leaf."""
    terms = [np.sum(value * weights(value.shape, k)) for k, value in enumerate(values) if value.requires_grad]
    for leaf in leaves:
        leaf.zero_grad()
    if terms:
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        total.backward(create_graph=True)
    return [tg.tensor(np.zeros(leaf.shape)) if leaf.grad is None else leaf.grad for leaf in leaves]


def assert_same(found: Answers, wanted: Answers, tolerance: float = 1e-9) -> None:
    """Equal to a relative tolerance; entries that are tiny beside the largest of their array, relative to that one."""
    for kind, mine, right in zip(Answers._fields, found, wanted):
        assert len(mine) == len(right)
        for k, (a, b) in enumerate(zip(mine, right)):
            scale = float(np.abs(b).max()) if np.size(b) else 0.0
            small = tolerance * max(scale, 1e-3)
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=small, err_msg=f"{kind}[{k}]", strict=True)
