"""Refit of a linear head with locked columns and bounds: one convex problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize

Array = NDArray[np.float64]


@dataclass(frozen=True)
class HeadRules:
    """What a refit of the head may change.

    Parameters
    ----------
    free : ndarray of bool of shape (P,)
        Prototypes whose columns may change: those that are not locked.

    restricted : ndarray of bool of shape (P,)
        Prototypes of which the label has to be respected: only the entry of their own
        class is free, stays at least `min_weight` and the largest of the column.

    labels : ndarray of int of shape (P,)
        Class codes of the prototypes.

    min_weight : float or None
        Smallest own weight of restricted prototypes; None: a quarter of the mean own
        weight of all.
    """

    free: NDArray[np.bool_]
    restricted: NDArray[np.bool_]
    labels: NDArray[np.int64]
    min_weight: float | None = None

    def unrestricted(self) -> HeadRules:
        """Return the same rules without respect for labels."""
        return HeadRules(self.free, np.zeros_like(self.restricted), self.labels, None)

    def free_entries(self, n_classes: int) -> NDArray[np.bool_]:
        """Entries (P, K) that may change."""
        own = self.labels[:, None] == np.arange(n_classes)
        return self.free[:, None] & (own | ~self.restricted[:, None])

    def lower_bounds(self, weight: Array, floor: float = -np.inf) -> Array:
        """Smallest values (P, K) of a weight table, `floor` where nothing is asked."""
        n_classes = weight.shape[1]
        own = self.labels[:, None] == np.arange(n_classes)
        lower = np.full(weight.shape, floor)
        if not self.restricted.any():
            return lower
        others = np.where(own, -np.inf, weight).max(axis=1)
        least = np.maximum(self.least_weight(weight), others)
        rows = np.flatnonzero(self.restricted)
        lower[rows, self.labels[rows]] = least[rows]
        return lower

    def least_weight(self, weight: Array) -> float:
        """Smallest own weight of restricted prototypes."""
        if self.min_weight is not None:
            return float(self.min_weight)
        usual = ~self.restricted if (~self.restricted).any() else self.restricted
        own = weight[np.arange(len(weight)), self.labels]
        return 0.25 * max(float(own[usual].mean()), 0.0)


@dataclass(frozen=True)
class HeadFit:
    """What came out of the refit of a head.

    Parameters
    ----------
    converged : bool
        Whether the optimiser ended by itself.

    n_iter : int
        Its iterations.

    objective_before, objective_after : float
        Value of the objective; it never rises.
    """

    converged: bool = True
    n_iter: int = 0
    objective_before: float = float("nan")
    objective_after: float = float("nan")


@dataclass(frozen=True)
class LinearProblem:
    """Cross entropy of a linear head on fixed activations, and what holds it.

    Parameters
    ----------
    activations : ndarray of shape (n, P)
        Similarities.

    y : ndarray of int of shape (n,)
        Class codes.

    sample_weight : ndarray of shape (n,) or None
        Weights of the samples.

    weight, bias : ndarray of shape (P, K), (K,)
        The head as it is.

    free : ndarray of bool of shape (P, K)
        Entries that may change.

    lower : ndarray of shape (P, K)
        Smallest values of the entries that may change.

    l2, center : float, ndarray of shape (P, K)
        Pull ``l2 / 2 * (W - center) ** 2``.

    l1 : ndarray of shape (P, K) or float
        Penalties of absolute values, 0 for none; only with lower bounds of at least 0.

    fit_bias : bool
        Whether the bias is free.

    max_iter : int
        Largest number of iterations.
    """

    activations: Array
    y: NDArray[np.int64]
    sample_weight: Array | None
    weight: Array
    bias: Array
    free: NDArray[np.bool_]
    lower: Array
    l2: float = 1e-6
    center: Array | float = 0.0
    l1: Array | float = 0.0
    fit_bias: bool = False
    max_iter: int = 500


def solve_linear(problem: LinearProblem) -> tuple[Array, Array, HeadFit]:
    """Return the weights, the bias and how it went.

    Entries that are not free keep their bits; float64 throughout.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto._editing import LinearProblem, solve_linear
    >>> a = np.array([[9.0, 1.0], [1.0, 8.0], [5.0, 5.5], [6.0, 5.0]])
    >>> free = np.array([[True, True], [False, False]])
    >>> problem = LinearProblem(
    ...     a, np.array([0, 1, 0, 1]), None, np.eye(2), np.zeros(2), free,
    ...     np.full((2, 2), -np.inf), l2=0.1,
    ... )
    >>> weight, bias, fit = solve_linear(problem)
    >>> weight[1].tolist(), fit.objective_after < fit.objective_before, fit.converged
    ([0.0, 1.0], True, True)
    """
    objective = _Objective(problem)
    start = objective.pack(
        np.where(
            problem.free, np.maximum(problem.weight, problem.lower), problem.weight
        ),
        problem.bias,
    )
    low = problem.lower[problem.free]
    if problem.fit_bias:
        low = np.concatenate([low, np.full(len(problem.bias), -np.inf)])
    if not len(start):
        return problem.weight, problem.bias, HeadFit()
    before = objective(start)[0]
    found = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=Bounds(low, np.full(len(low), np.inf)),
        options={
            "maxiter": problem.max_iter,
            "maxfun": 4 * problem.max_iter,
            "ftol": 1e-12,
            "gtol": 1e-7,
        },
    )
    end = found.x if found.fun <= before else start
    weight, bias = objective.unpack(end)
    after = min(float(found.fun), before)
    return weight, bias, HeadFit(bool(found.success), int(found.nit), before, after)


class _Objective:
    """The objective and its gradient as a function of the free entries."""

    def __init__(self, problem: LinearProblem):
        self.problem = problem
        n = len(problem.y)
        given = problem.sample_weight
        share = np.ones(n) if given is None else np.asarray(given, dtype=np.float64)
        self.share = share / share.sum()
        self.a = np.asarray(problem.activations, dtype=np.float64)
        self.own = np.arange(n), problem.y
        self.l1 = np.broadcast_to(np.asarray(problem.l1), problem.weight.shape)
        self.center = np.broadcast_to(
            np.asarray(problem.center, dtype=np.float64), problem.weight.shape
        )

    def pack(self, weight: Array, bias: Array) -> Array:
        """Return the free entries as a vector."""
        entries = weight[self.problem.free]
        return np.concatenate([entries, bias]) if self.problem.fit_bias else entries

    def unpack(self, vector: Array) -> tuple[Array, Array]:
        """Return weights and bias from the free entries."""
        problem = self.problem
        weight, bias = problem.weight.copy(), problem.bias
        if problem.fit_bias:
            vector, bias = vector[: -len(bias)], vector[-len(bias) :]
        weight[problem.free] = vector
        return weight, bias

    def __call__(self, vector: Array) -> tuple[float, Array]:
        weight, bias = self.unpack(vector)
        scores = self.a @ weight + bias
        scores -= scores.max(axis=1, keepdims=True)
        parts: Any = np.exp(scores)
        total = parts.sum(axis=1)
        value = float(self.share @ (np.log(total) - scores[self.own]))
        parts *= (self.share / total)[:, None]
        parts[self.own] -= self.share
        shift = weight - self.center
        gradient = self.a.T @ parts + self.problem.l2 * shift + self.l1
        value += 0.5 * self.problem.l2 * float((shift * shift).sum())
        value += float((self.l1 * weight).sum())
        return value, self.pack(gradient, parts.sum(axis=0))
