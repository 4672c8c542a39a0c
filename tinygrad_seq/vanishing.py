"""Does the gradient vanish, explode or arrive? Public as part of `tg.bptt`; needs `sweep.py`, `states.py`.

On its way from step t back to step s the gradient is multiplied by the Jacobian of every step in between:

    dL<t>/dh<s> = dL<t>/dh<t>  dh<t>/dh<t-1>  ...  dh<s+1>/dh<s>

`flow` measures the left side, all pairs of t and s, and `jacobians` the factors on the right. `verdict` puts either in
words. They ask for derivatives of the computation as it ran: hooks, retained gradients and recordings hear nothing of it,
no `.grad` is touched, no graph is freed. Run them before `backward()`, or with `retain_graph=True`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from tinygrad_seq.dtypes import Array
from tinygrad_seq.errors import AutodiffError, ShapeError
from tinygrad_seq.explain import told
from tinygrad_seq.scopes import current, setting
from tinygrad_seq.states import PASS_ON, State, listed, node_in_graph, nodes_of_states
from tinygrad_seq.sweep import Sweep, seed, sweeping
from tinygrad_seq.tape import Node, Watch
from tinygrad_seq.tensor import Tensor

PARTS = {"h": slice(0, 1), "c": slice(1, 2), "both": slice(None)}  # of a state that is a tuple


# ---- the whole way ----------------------------------------------------------------------------------------------------


def flow(losses: Sequence[Tensor], states: Sequence[State], gradient: Any = None) -> Array:
    """How much of each loss arrives at each state: ||dL<t>/dh<s>||.

    The norm is over features, then the root of the mean square over the batch, which is axis 0 of a state (a state of one
    axis is a single row). Costs a sweep for each loss, so O(T^2).

    Args:
        losses: the loss of each step, tensors of one element whose graph has not been freed. Their number need not be
            that of the states: `flow([loss], states)` is one row.
        states: the state of each step, tensors (B, H) that the losses were computed from; an LSTM's may be pairs (h, c).
            Slices of a layer's outputs, outputs[t], stand for the states that were stacked there, and so do the outputs.
        gradient: the cotangent that every loss starts with; 1, if they have a single element.

    Returns:
        float64 (losses, states): (T, T) for a loss at each step. Zero where a loss does not depend on a state, and so
        everywhere above the diagonal unless something reads the future (a bidirectional layer does).

    Raises:
        TypeError: losses that are no list, but a single one.
        AutodiffError: a loss or a state requires no gradient, no loss was computed from any of the states, or these are one
            array in which no states were stacked.
        FreedGraphError: a backward pass has freed the graph.

    Example:
        >>> import numpy as np, tinygrad_seq as tg
        >>> h, W = tg.tensor([[1.0, 0.0]]), tg.tensor([[0.5, 0.0], [0.0, 0.1]], requires_grad=True)
        >>> states = [h := h @ W for _ in range(3)]
        >>> tg.bptt.flow([h[0, 0] for h in states], states)
        array([[1.  , 0.  , 0.  ],
               [0.5 , 1.  , 0.  ],
               [0.25, 0.5 , 1.  ]])
    """
    losses = listed("losses", losses)
    by_state = nodes_of_states(states)
    wanted = {node for parts in by_state for node in parts}
    sources = [node_in_graph(loss) for loss in losses]
    probe = Probe(sources, _earliest(wanted))
    if wanted and sources and wanted.isdisjoint(probe.live):
        raise AutodiffError(f"no loss was computed from {by_state[0][0].describe()} or any other of these states; {PASS_ON}")
    norms = np.zeros((len(sources), len(by_state)))
    for t, (source, loss) in enumerate(zip(sources, losses)):
        found = probe.cotangents({source: seed(loss, gradient)}, wanted)
        for s, parts in enumerate(by_state):
            norms[t, s] = _rms_of_norms([found[node] for node in parts if node in found])
    return norms


def _earliest(nodes: Collection[Node]) -> set[Node]:
    """Those of the nodes that depend on no other of them: where a sweep that wants them all may stop."""
    later: set[Node] = set()
    for node in Sweep(dict.fromkeys(nodes), careful=True).nodes:  # in order of execution
        if any(parent in later or parent in nodes for parent in node.parents):
            later.add(node)
    return set(nodes) - later


def _rms_of_norms(parts: Sequence[Array]) -> float:
    """The norm of each row over all parts, and the root of the mean square of those; at full range, in float64."""
    if not parts or parts[0].size == 0:
        return 0.0
    rows = np.concatenate([np.atleast_2d(g).reshape(len(np.atleast_2d(g)), -1) for g in parts], axis=1).astype(float)
    largest = float(np.abs(rows).max())
    if largest == 0 or not np.isfinite(largest):
        return largest
    return largest * float(np.sqrt(np.square(rows / largest).sum() / len(rows)))  # the squares alone would underflow


# ---- step by step -----------------------------------------------------------------------------------------------------


def jacobians(states: Sequence[State], which: str = "both") -> Jacobians:
    """The Jacobian of every step, dh<t+1>/dh<t>, row by row of the batch.

    Costs H + 1 sweeps per step over what lies between two states: as the rows do not depend on each other, one sweep gives
    a row of the Jacobian for the whole batch. (The last sweep checks that they do not.)

    Args:
        states: the states of T >= 2 steps in a row, tensors (B, H) as the network passed them on; or tuples of them, an
            LSTM's (h, c), whose Jacobian is that of the two side by side, (2H, 2H).
        which: of a pair, "both", or the block of "h" or "c" alone: a partial derivative, with the other one held. A
            product of such blocks is not the derivative over several steps; of Jacobians of both it is.

    Raises:
        AutodiffError: fewer than two states, one that requires no gradient, one array in which no states were stacked, states
            from the last to the first, or rows of the batch that depend on each other.
        ShapeError: states that are not all (B, H), or an empty batch.
        FreedGraphError: a backward pass has freed the graph.

    Example:
        >>> import numpy as np, tinygrad_seq as tg
        >>> h, W = tg.tensor([[1.0, 0.0]]), tg.tensor([[0.5, 1.0], [0.0, 0.5]], requires_grad=True)
        >>> steps = tg.bptt.jacobians([h := h @ W for _ in range(3)])
        >>> steps[0]                                                        # (B, H, H); for h<t+1> = h<t> W, this is W.T
        array([[[0.5, 0. ],
                [1. , 0.5]]], dtype=float32)
        >>> steps.spectral_radius.max(), steps.singular_values.max().round(3)
        (np.float64(0.5), np.float64(1.207))
    """
    if which not in PARTS:
        raise ValueError(f"which={which!r}: it may be 'h', 'c' or 'both'")
    by_step = nodes_of_states(states)
    if len(by_step) < 2:
        raise AutodiffError(f"jacobians needs the states of at least two steps, got {len(by_step)}")
    shapes = [[node.shape for node in nodes] for nodes in by_step]
    if any(len(shape) != 2 or 0 in shape or shape[0] != shapes[0][0][0] for shape in shapes[0]) or any(
        others != shapes[0] for others in shapes
    ):
        raise ShapeError(f"jacobians needs states of the same shape (B, H), not empty, at all steps; got {shapes}")
    if not by_step[0][PARTS[which]]:
        raise ValueError("which='c' needs states that are pairs (h, c)")
    steps = [_jacobian(before, after, PARTS[which], t) for t, (before, after) in enumerate(pairwise(by_step))]
    if not any(met for _, met in steps) and all(early[0].serial > late[0].serial for early, late in pairwise(by_step)):
        raise AutodiffError(
            "the states come in the order opposite to that in which they were computed, as those of a backward direction do "
            "where they are sorted by time: pass states[::-1]"
        )
    return Jacobians(np.stack([matrix for matrix, _ in steps]), tuple(t for t, (_, met) in enumerate(steps) if not met))


def _jacobian(before: tuple[Node, ...], after: tuple[Node, ...], chosen: slice, t: int) -> tuple[Array, bool]:
    """(Jacobian (B, H, H) of one step, whether there is any way from the one state to the other)."""
    rows, columns = after[chosen], before[chosen]
    probe = Probe(rows, before)  # stops at all of `before`: a step, and no further

    def pulled(seeds: Mapping[Node, Any]) -> Array:
        found = probe.cotangents(seeds, columns)
        return np.concatenate([found.get(node, np.zeros(node.shape, node.dtype)) for node in columns], axis=1)

    lines = []
    for node in rows:
        for j in range(node.shape[1]):
            one = np.zeros(node.shape, node.dtype)
            one[:, j] = 1
            lines.append(pulled({node: one}))
    matrix = np.stack(lines, axis=1)
    _refuse_mixed_rows(matrix, rows, pulled, t)
    return matrix, any(node in probe.live for node in columns)


def _refuse_mixed_rows(matrix: Array, after: Sequence[Node], pulled: Callable[[Any], Array], t: int) -> None:
    """Raise if a row of the batch depends on another: weighted differently, the rows must just be so weighted."""
    weights = 1 + np.arange(len(matrix))[:, None] / len(matrix)
    seeds = {node: np.broadcast_to(weights, node.shape).astype(node.dtype) for node in after}
    apart = weights * matrix.sum(axis=1)
    size = np.abs(matrix).sum(axis=1).max()
    if np.isfinite(size) and np.abs(pulled(seeds) - apart).max() > np.sqrt(np.finfo(matrix.dtype).eps) * size:
        raise AutodiffError(
            f"state {t + 1} mixes the rows of the batch (does the step normalise over it?), so it has no Jacobian (B, H, H) "
            "row by row; pass the states of a batch of one"
        )


class Jacobians(Sequence[Array]):
    """The Jacobians of T - 1 steps in a row: a sequence of arrays (B, H, H), with what tells how they act.

    Attributes:
        matrices: (T-1, B, H, H); `matrices[t, b, j, i]` is dh<t+1>[b, j] / dh<t>[b, i]. In the dtype of the states.
        cut: the steps t at which nothing of h<t> reaches h<t+1> (a detach, teacher forcing): zero because there is no way.
    """

    def __init__(self, matrices: Array, cut: tuple[int, ...] = ()) -> None:
        self.matrices = matrices
        self.cut = cut

    def __len__(self) -> int:
        return len(self.matrices)

    def __getitem__(self, t: Any) -> Any:
        return self.matrices[t]

    def __iter__(self) -> Iterator[Array]:
        return iter(self.matrices)

    def __repr__(self) -> str:
        steps, rows, size, _ = self.matrices.shape
        return (
            f"<Jacobians of {steps} steps, {rows} rows, {size}×{size}: "
            f"singular values to {self.singular_values.max():.3g}, spectral radius to {self.spectral_radius.max():.3g}>"
        )

    @cached_property
    def singular_values(self) -> Array:
        """(T-1, B, H), float64, descending: how far a step can stretch a gradient. NaN where the Jacobian is not finite."""
        return _where_finite(lambda J: np.linalg.svd(J, compute_uv=False), self.matrices)

    @cached_property
    def eigenvalues(self) -> Array:
        """(T-1, B, H), complex128, by falling modulus. NaN where the Jacobian is not finite."""
        found = _where_finite(lambda J: np.linalg.eigvals(J).astype(complex), self.matrices)
        return np.take_along_axis(found, np.argsort(-np.abs(found), axis=-1, kind="stable"), axis=-1)

    @cached_property
    def spectral_radius(self) -> Array:
        """(T-1, B): the largest modulus of an eigenvalue, by which the same step, repeated, goes on to grow."""
        return np.abs(self.eigenvalues[..., 0])

    @cached_property
    def log_norms(self) -> Array:
        """(T-1, B): log of the 2-norm of dh<T-1>/dh<t>, the product of all steps from t on. -inf for a product of zero."""
        product, scale = np.eye(self.matrices.shape[-1]), np.zeros(self.matrices.shape[1])
        curve = np.empty(self.matrices.shape[:2])
        for t in reversed(range(len(self))):
            with np.errstate(all="ignore"):
                product = product @ self.matrices[t].astype(float)
                norm = _where_finite(lambda J: np.linalg.svd(J, compute_uv=False), product)[:, 0]
                curve[t] = scale = scale + np.log(norm)
                product = product / np.where(norm == 0, 1, norm)[:, None, None]  # or a long product would leave the range
        return curve


def _where_finite(values_of: Callable[[Array], Array], matrices: Array) -> Array:
    """What LAPACK makes of each matrix (..., H, H) in float64, which it refuses to do if one is not finite: NaN there."""
    finite = np.isfinite(matrices).all(axis=(-2, -1))
    found = values_of(matrices[finite].astype(float))
    values = np.full(matrices.shape[:-1], np.nan, found.dtype)
    values[finite] = found
    return values


# ---- in words ---------------------------------------------------------------------------------------------------------


def verdict(measured: Jacobians | Array, weight: Any = None, gamma: float = 1.0, tolerance: float = 0.02) -> str:
    """Whether the gradient "vanishes", "explodes" or "carries", by its measured rate per step, with the bound beside it.

    The rate is geometric, (norm at the far end / norm at the near end)^(1 / steps): of the product of Jacobians, its
    logarithm averaged over the batch, without the rows in which it becomes exactly zero, unless it does so in all of them;
    or of the last loss in a flow matrix, and where all flows back from the past (the states are of a backward direction),
    of the first. Beside it stands what singular values can say (Pascanu, Mikolov & Bengio, "On the difficulty of training
    recurrent neural networks", 2013): if the largest singular value of the recurrent weight is below 1/gamma, that suffices
    for the gradient to vanish; to be above is necessary for it to explode, and not sufficient. The largest singular values
    of the Jacobians bound the rate in the same way, with 1 for 1/gamma.

    Args:
        measured: what `jacobians` gave, or the matrix that `flow` gave.
        weight: the recurrent weight (H, H) of a plain RNN, for its own bound.
        gamma: the largest slope of the nonlinearity: 1 for tanh, relu and none, 1/4 for sigmoid.
        tolerance: rates that are this close to 1 carry.

    Raises:
        AutodiffError: there are fewer than two states to compare, or NaN among the numbers.
        TypeError: something else was measured: states instead of their Jacobians.
        ShapeError: the weight is not (H, H): that of an LSTM or GRU is several side by side, and no bound by itself.

    Example:
        >>> import numpy as np, tinygrad_seq as tg
        >>> h, W = tg.tensor(np.ones((1, 2))), tg.tensor(0.5 * np.eye(2), requires_grad=True)
        >>> print(tg.bptt.verdict(tg.bptt.jacobians([h := h @ W for _ in range(11)])))
        The gradient vanishes: ×0.5 per step, a factor of 2 every 1 steps.
        ‖dh<10>/dh<s>‖ is 1 at s=10 and 0.000977 at s=0.
        Bound: the largest singular value of a step is 0.5 (geometric mean, at most 0.5), below 1, which suffices to vanish.
        The spectral radius is 0.5 on average.
    """
    if isinstance(measured, Jacobians):
        reached = _rows_reached(measured)
        logs, what = np.append(reached.log_norms.mean(axis=1), 0.0), f"dh<{len(measured)}>/dh<s>"
        lines = _measured_in_words(logs, what, tolerance)
        rows, silent = measured.matrices.shape[1], measured.matrices.shape[1] - reached.matrices.shape[1]
        lines += [f"Not counted: {silent} of {rows} rows, in which it becomes exactly zero on the way."] if silent else []
        lines += _bound_in_words(reached)
    elif isinstance(measured, np.ndarray):
        lines = _flow_in_words(np.atleast_2d(np.asarray(measured, float)), tolerance)
    else:
        raise TypeError(f"verdict takes what jacobians(states) or flow(losses, states) gave, and not {told(measured)}")
    if weight is not None:
        matrix = np.asarray(weight.data if isinstance(weight, Tensor) else weight, float)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ShapeError(f"the bound of a weight is known for that of a plain RNN, (H, H), and not for shape {matrix.shape}")
        largest, limit = float(np.linalg.norm(matrix, 2)), 1 / gamma
        radius = np.abs(np.linalg.eigvals(matrix)).max()
        against = _against(largest, limit, f"1/γ = {limit:.3g}")
        lines.append(f"Bound: the largest singular value of the weight is {largest:.3g}, {against}.")
        lines.append(f"Its spectral radius is {radius:.3g}.")
    return "\n".join(lines)


def _rows_reached(measured: Jacobians) -> Jacobians:
    """The rows of the batch in which the product of all steps reaches as far back as in any: a mean of logarithms takes no 0."""
    alive = ~np.isneginf(measured.log_norms)  # (T-1, B)
    rows = alive[np.argmax(alive.any(axis=1))]
    return measured if rows.all() or not rows.any() else Jacobians(measured.matrices[:, rows], measured.cut)


def _flow_in_words(norms: Array, tolerance: float) -> list[str]:
    """The rate of the loss that comes after all states; before all, where the states were computed from the last to the first."""
    losses = len(norms)
    backward = losses > 1 and bool(np.triu(norms, 1).any()) and not np.tril(norms, -1).any()
    with np.errstate(divide="ignore"):
        logs = np.log(norms[0, ::-1] if backward else norms[-1])
    what = "dL/dh<s>" if losses == 1 else f"dL<{0 if backward else losses - 1}>/dh<s>"
    return _measured_in_words(logs, what, tolerance, backward)


def _measured_in_words(logs: Array, what: str, tolerance: float, backward: bool = False) -> list[str]:
    """The rate, of the logarithms of the norms from the far end to the near one: of s = 0, 1, ...; backward, the last s first."""
    if len(logs) < 2:
        raise AutodiffError(f"‖{what}‖ is known at one state only: there is no rate")
    if np.isnan(logs).any():
        raise AutodiffError(f"‖{what}‖ is NaN at some state; tg.detect_anomaly() finds where that comes from")
    steps = np.arange(len(logs))[:: -1 if backward else 1]
    there = np.flatnonzero(np.isfinite(logs))
    if len(there) < 2:
        word, all_else = ("explodes", "infinite") if np.isposinf(logs).any() else ("vanishes", "exactly zero")
        return [f"The gradient {word} at once: ‖{what}‖ is {all_else} at {len(logs) - len(there)} of {len(logs)} states."]
    far, near = int(there[0]), int(there[-1])
    slope = float(logs[far] - logs[near]) / (near - far)
    word = "carries" if abs(np.expm1(slope)) <= tolerance else "explodes" if slope > 0 else "vanishes"
    beyond, further = "", f"{'Behind' if backward else 'Before'} s={steps[far]}"
    if np.isposinf(logs[:far]).any():
        word, beyond = "explodes", f" {further} it is infinite."
    elif far > 0:
        word, beyond = "vanishes", f" {further} it is exactly zero: below the dtype's range, or the graph is cut."
    factor = f", a factor of 2 every {np.log(2) / abs(slope):.3g} steps" if abs(slope) > 1e-9 else ""
    return [
        f"The gradient {word}: ×{np.exp(slope):.3g} per step{factor}.",
        f"‖{what}‖ is {_power(logs[near])} at s={steps[near]} and {_power(logs[far])} at s={steps[far]}.{beyond}",
    ]


def _bound_in_words(measured: Jacobians) -> list[str]:
    largest = measured.singular_values[..., 0]
    with np.errstate(divide="ignore"):
        typical = float(np.exp(np.log(largest).mean()))
    lines = [
        f"Bound: the largest singular value of a step is {typical:.3g} (geometric mean, at most {largest.max():.3g}), "
        f"{_against(typical, 1.0, '1')}.",
        f"The spectral radius is {measured.spectral_radius.mean():.3g} on average.",
    ]
    if measured.cut:
        lines.append(f"No way leads through the steps after t = {', '.join(map(str, measured.cut))}: the graph is cut there.")
    return lines


def _against(largest: float, limit: float, name: str) -> str:
    if abs(largest / limit - 1) < 1e-6:
        return f"equal to {name}, which excludes that it explodes"
    return f"below {name}, which suffices to vanish" if largest < limit else f"above {name}, needed to explode but not sufficient"


def _power(log: float) -> str:
    """A number given by its logarithm, beyond the range of floats too."""
    return f"{np.exp(log):.3g}" if abs(log) < 700 else f"{Decimal(log).exp():.2e}"


# ---- a sweep that only measures ---------------------------------------------------------------------------------------


class Probe(Sweep):
    """A sweep that can be run again from other seeds, and of which no hook and no retained gradient hears.

    Args:
        sources: the nodes that seeds will be given for.
        targets: the nodes to stop at.
    """

    def __init__(self, sources: Collection[Node], targets: Collection[Node]) -> None:
        super().__init__(dict.fromkeys(sources), targets, careful=True)

    def cotangents(self, seeds: Mapping[Node, Any], wanted: Collection[Node]) -> dict[Node, Any]:
        """The cotangents of those of the wanted nodes that the seeds reach."""
        self._cotangents = {node: g for node, g in seeds.items() if node in self.live}
        with setting(**sweeping(current(), False)), np.errstate(all="ignore"):
            return {node: g for node, g in self if node in wanted}

    def _shown(self, node: Node, watch: Watch, g: Any) -> Any:
        return g
