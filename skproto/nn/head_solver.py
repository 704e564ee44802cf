"""The refit of a head on cached activations, as one optimisation problem."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import Bounds, minimize

Array = NDArray[np.float64]

#: Heads that :func:`solve_head` knows.
SOLVABLE = ("class_linear", "grouped_softmax", "nonneg")

# Activations that are made float64 at a time.
_CHUNK_NUMBERS = 2**22


@dataclass(frozen=True)
class HeadSolution:
    """What :func:`solve_head` returns.

    Parameters
    ----------
    weight : ndarray of shape (P, K), or (P,) for "grouped_softmax"
        The head's `weight`.
    objective : float
        Value at `weight`, never above `start_objective`.
    start_objective : float
        Value at the start.
    n_iter : int
        Iterations of L-BFGS-B.
    converged : bool
        Whether it ended by itself rather than by `max_iter`.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.nn import HeadSolution
    >>> solution = HeadSolution(np.eye(2), 0.1, 0.7, n_iter=12, converged=True)
    >>> solution.objective < solution.start_objective
    True
    """

    weight: Array
    objective: float
    start_objective: float
    n_iter: int
    converged: bool


@dataclass(frozen=True)
class _Problem:
    """Activations, targets and penalties; the objective as a function of scores."""

    activations: Any
    y: NDArray[np.int64]
    share: Array
    penalty: Array
    owned: NDArray[np.bool_]
    start: Array
    l2: float
    free: NDArray[np.bool_]
    lower: Array

    def cross_entropy(self, table: Array) -> tuple[float, Array]:
        """Weighted mean cross entropy of a weight table (P, K), and its gradient."""
        value, gradient = 0.0, np.zeros_like(table)
        size = max(1, _CHUNK_NUMBERS // max(1, table.shape[0]))
        for first in range(0, len(self.y), size):
            rows = slice(first, first + size)
            a = self.activations[rows].astype(np.float64, copy=False)
            scores = a @ table
            scores -= scores.max(axis=1, keepdims=True)
            own = scores[np.arange(len(a)), self.y[rows]]
            np.exp(scores, out=scores)
            total = scores.sum(axis=1)
            share = self.share[rows]
            value += float(share @ (np.log(total) - own))
            scores *= (share / total)[:, None]
            scores[np.arange(len(a)), self.y[rows]] -= share
            gradient += a.T @ scores
        return value, gradient

    def smooth(self, table: Array) -> tuple[float, Array]:
        """Cross entropy and the pull towards the start, with the gradient."""
        value, gradient = self.cross_entropy(table)
        if self.l2:
            shift = table - self.start
            value += 0.5 * self.l2 * float(np.sum(shift * shift))
            gradient += self.l2 * shift
        return value, gradient


def solve_head(
    activations: Any,
    y: ArrayLike,
    weight: Any,
    *,
    head: str = "class_linear",
    ownership: Any = None,
    l1: float = 1e-4,
    l2: float = 0.0,
    sample_weight: ArrayLike | None = None,
    max_iter: int = 500,
    tol: float = 1e-7,
    free: Any = None,
    lower: Any = None,
) -> HeadSolution:
    r"""Fit a head to fixed activations.

    Minimises :math:`\frac{1}{\sum_i v_i} \sum_i v_i \mathrm{CE}(a_i W, y_i) +
    \lambda_1 \sum_{\text{off}} |W_{pk}| + \frac{\lambda_2}{2} \|W - W_0\|^2` by
    L-BFGS-B. For "class_linear" and "nonneg" this is convex; the absolute values are
    split into two non-negative variables, so that weights become exactly 0. The
    softmax of "grouped_softmax" is solved over its w and has no weights off class.

    Parameters
    ----------
    activations : array-like or Tensor of shape (n, P)
        Pooled similarities of the training samples.

    y : array-like of shape (n,), int
        Class codes 0 .. K - 1.

    weight : array-like or Tensor of shape (P, K), or (P,) for "grouped_softmax"
        The start :math:`W_0`; negative weights of "nonneg" count as 0.

    head : {"class_linear", "grouped_softmax", "nonneg"}, default="class_linear"
        Which head the weights belong to.

    ownership : array-like or Tensor of shape (P, K), bool, default=None
        Which class owns which prototype: its weight is not penalised. None: all are
        penalised, as are those of a prototype that all classes own.
        "grouped_softmax" needs it.

    l1 : float, default=1e-4
        Penalty :math:`\lambda_1`; the larger, the fewer prototypes speak for or
        against classes that do not own them.

    l2 : float, default=0.0
        Pull :math:`\lambda_2` towards the start. On activations that separate the
        classes the weights grow until `max_iter` without it.

    sample_weight : array-like of shape (n,), default=None
        Weights :math:`v_i` of the samples.

    max_iter : int, default=500
        Largest number of iterations.

    tol : float, default=1e-7
        Largest entry of the projected gradient at which it has converged.

    free : array-like of bool of the shape of `weight`, default=None
        Weights that may change; all others stay as they are. None: all.

    lower : array-like of the shape of `weight`, default=None
        Smallest values of free weights without a penalty. None: no bounds.

    Returns
    -------
    solution : HeadSolution
        Weights in float64 and the objective before and after.

    Raises
    ------
    ValueError
        If shapes or codes disagree, a parameter is out of range, or activations are
        not finite.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.array([[9.0, 1.0], [1.0, 8.0], [5.0, 5.5], [6.0, 5.0]])
    >>> owners = np.eye(2, dtype=bool)
    >>> start = np.where(owners, 1.0, -0.5)
    >>> solution = solve_head(
    ...     a, [0, 1, 0, 1], start, ownership=owners, l1=0.1
    ... )
    >>> solution.objective < solution.start_objective, bool(solution.weight[0, 1] == 0)
    (True, True)
    """
    if head not in SOLVABLE:
        raise ValueError(f"head must be one of {list(SOLVABLE)}, got {head!r}")
    for name, value in (("l1", l1), ("l2", l2), ("tol", tol)):
        if not value >= 0:
            raise ValueError(f"{name} must be a float >= 0, got {value!r}")
    if max_iter < 1:
        raise ValueError(f"max_iter must be an int >= 1, got {max_iter!r}")
    problem = _problem(activations, y, weight, head, ownership, sample_weight)
    shape = problem.start.shape
    problem = replace(
        problem,
        free=np.ones(shape, dtype=bool) if free is None else np.asarray(free),
        lower=np.full(shape, -np.inf) if lower is None else np.asarray(lower, float),
    )
    shared = problem.owned.all(axis=1, keepdims=True)
    penalty = np.where(problem.owned & ~shared, 0.0, float(l1))
    problem = replace(problem, l2=float(l2), penalty=penalty)
    solvers = {
        "class_linear": _solve_linear,
        "grouped_softmax": _solve_grouped,
        "nonneg": _solve_nonnegative,
    }
    return solvers[head](problem, {"maxiter": max_iter, "gtol": tol})


def _problem(activations, y, weight, head, ownership, sample_weight) -> _Problem:
    """Check what belongs together and bring it into arrays."""
    a, codes = _array(activations), _array(y)
    start = _array(weight).astype(np.float64)
    if a.ndim != 2 or codes.shape != a.shape[:1] or not len(a):
        raise ValueError(
            "activations must have shape (n, P) and y shape (n,) with n >= 1, got "
            f"{a.shape} and {codes.shape}"
        )
    if not np.isfinite(a).all():
        raise ValueError("activations must be finite, got NaN or infinity")
    owned: NDArray[np.bool_] = np.zeros(start.shape, dtype=bool)
    if ownership is not None:
        owned = _array(ownership).astype(bool)
    expected = owned.shape[:1] if head == "grouped_softmax" else owned.shape
    if owned.ndim != 2 or start.shape != expected or len(owned) != a.shape[1]:
        raise ValueError(
            "weight and ownership must have shape (P, K) with P the columns of "
            "activations (weight of 'grouped_softmax': (P,), and an ownership), got "
            f"{start.shape} and {owned.shape} for {a.shape[1]} columns"
        )
    n_classes = owned.shape[-1]
    if codes.dtype.kind not in "iu" or codes.min() < 0 or codes.max() >= n_classes:
        raise ValueError(
            f"y must hold class codes 0 to {n_classes - 1}, got values from "
            f"{codes.min()} to {codes.max()} of type {codes.dtype}"
        )
    share = _share(sample_weight, len(a))
    codes = codes.astype(np.int64)
    everything = np.ones(start.shape, dtype=bool)
    nothing = np.zeros(owned.shape)
    return _Problem(
        a, codes, share, nothing, owned, start, 0.0, everything, nothing - np.inf
    )


def _share(sample_weight, n_samples) -> Array:
    """Sample weights that sum to 1."""
    if sample_weight is None:
        return np.full(n_samples, 1.0 / n_samples)
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (n_samples,) or not (weight >= 0).all() or not weight.sum() > 0:
        raise ValueError(
            f"sample_weight must be {n_samples} numbers >= 0, some of them positive, "
            f"got shape {weight.shape}"
        )
    return weight / weight.sum()


def _array(values: Any) -> NDArray[Any]:
    """Return an array or a tensor as an array."""
    if hasattr(values, "detach"):
        return values.detach().cpu().numpy()
    return np.asarray(values)


def _finish(found, start: Array, end: Array, objective) -> HeadSolution:
    """Return the better one of start and end."""
    before, after = objective(start), objective(end)
    better = bool(after <= before)
    return HeadSolution(
        weight=end if better else start,
        objective=after if better else before,
        start_objective=before,
        n_iter=int(found.nit),
        converged=bool(found.success),
    )


def _solve_linear(problem: _Problem, options: dict[str, Any]) -> HeadSolution:
    """Free weights; those with a penalty are a difference of two positive parts."""
    shape = problem.start.shape
    split = np.flatnonzero(problem.penalty)
    cost = problem.penalty.ravel()[split]
    n_weights = problem.start.size

    def join(v: Array) -> Array:
        table = v[:n_weights].copy()
        table[split] -= v[n_weights:]
        return table.reshape(shape)

    def objective(v: Array) -> tuple[float, Array]:
        value, gradient = problem.smooth(join(v))
        flat = np.concatenate([gradient.ravel(), -gradient.ravel()[split]])
        flat[split] += cost
        flat[n_weights:] += cost
        return value + float(cost @ (v[split] + v[n_weights:])), flat

    first = problem.start.ravel()
    v0 = np.concatenate([first, np.maximum(-first[split], 0.0)])
    v0[split] = np.maximum(first[split], 0.0)
    lower = np.concatenate([problem.lower.ravel(), np.zeros(len(split))])
    lower[split] = 0.0
    free = np.concatenate([problem.free.ravel(), problem.free.ravel()[split]])
    found = _minimize(objective, v0, lower, options, free)

    def total(table: Array) -> float:
        penalty = float(np.sum(problem.penalty * np.abs(table)))
        return problem.smooth(table)[0] + penalty

    return _finish(found, _feasible(problem, problem.lower), join(found.x), total)


def _solve_nonnegative(problem: _Problem, options: dict[str, Any]) -> HeadSolution:
    """Weights with the bound 0."""
    shape = problem.start.shape
    start = np.maximum(problem.start, 0.0)
    problem = replace(problem, start=start)

    def objective(v: Array) -> tuple[float, Array]:
        table = v.reshape(shape)
        value, gradient = problem.smooth(table)
        value += float(np.sum(problem.penalty * table))
        return value, (gradient + problem.penalty).ravel()

    lower = np.maximum(problem.lower, 0.0).ravel()
    found = _minimize(objective, start.ravel(), lower, options, problem.free.ravel())
    end = found.x.reshape(shape)
    feasible = _feasible(problem, lower.reshape(shape))
    return _finish(found, feasible, end, lambda table: objective(table.ravel())[0])


def _solve_grouped(problem: _Problem, options: dict[str, Any]) -> HeadSolution:
    """Logits (P,) of factors that sum to the number of prototypes in each class."""
    owned, counts = problem.owned, problem.owned.sum(axis=0)

    def objective(w: Array) -> tuple[float, Array]:
        logits = np.where(owned, w[:, None], -np.inf)
        parts = np.exp(logits - np.where(counts > 0, logits.max(axis=0), 0.0))
        factors = parts / np.maximum(parts.sum(axis=0), np.finfo(float).tiny)
        value, gradient = problem.cross_entropy(factors * counts)
        gradient *= counts
        gradient = factors * (gradient - np.sum(factors * gradient, axis=0))
        shift = w - problem.start
        value += 0.5 * problem.l2 * float(shift @ shift)
        return value, gradient.sum(axis=1) + problem.l2 * shift

    lower = np.full(len(problem.start), -np.inf)
    found = _minimize(objective, problem.start, lower, options, problem.free)
    return _finish(found, problem.start, found.x, lambda w: objective(w)[0])


def _feasible(problem: _Problem, lower: Array) -> Array:
    """Return the start with free weights brought to their bounds."""
    start = problem.start
    return np.where(problem.free, np.maximum(start, lower), start)


def _minimize(
    objective, start: Array, lower: Array, options: dict[str, Any], free
) -> Any:
    """Run L-BFGS-B with lower bounds; what is not free keeps its start."""
    start = np.where(free, np.maximum(start, lower), start)
    return minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(np.where(free, lower, start), np.where(free, np.inf, start)),
        options={"ftol": 1e-15, "maxfun": 4 * options["maxiter"], **options},
    )
