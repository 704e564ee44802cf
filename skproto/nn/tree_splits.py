"""Splitting leaves that classes share, by parts of a tree that no sample reaches."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skproto.nn.tree import (
    Rows,
    SoftPrototypeTree,
    _batch_size,
    _encode,
    _evaluating,
    _node_parameters,
)

#: A class is lost if a smaller share of it ends in leaves that it leads.
KEPT_SHARE = 0.5
#: A subtree is idle if it holds a smaller share of what is to move there.
IDLE_SHARE = 0.1
#: Samples of each side from which a prototype is chosen, and sites that it may become.
N_SAMPLES, N_CANDIDATES = 128, 256


@torch.no_grad()
def split_shared_leaves(
    tree: SoftPrototypeTree,
    x: Tensor | Rows,
    target: Tensor,
    sample_weight: Tensor | None = None,
) -> list[int]:
    """Give classes that lead no leaf a part of the tree that is idle.

    Gradients cannot do it: leaves that no sample reaches tell nothing, so that to go
    there makes a loss larger. For each class of which less than half ends in leaves
    where it is the most frequent, the nearest idle subtree beside the path to its leaf
    becomes its own: the prototype above is moved to a site of the class that the other
    samples there lack, with a radius between the two.

    Parameters
    ----------
    tree : SoftPrototypeTree
        Changed in place; one without radii stays as it is.

    x : Tensor of shape (n, ...) or Rows
        Training samples.

    target : Tensor of shape (n,)
        Class positions.

    sample_weight : Tensor of shape (n,), default=None
        Weights.

    Returns
    -------
    classes : list of int
        Classes that have got a part of the tree. Those without a site of their own, or
        without an idle subtree beside their path, get none.
    """
    if tree.log_radius is None or not tree.structure.n_inner:
        return []
    labels = np.asarray(target)
    weight = (
        np.ones(len(labels)) if sample_weight is None else np.asarray(sample_weight)
    )
    with _evaluating(tree):
        split = _Split(tree, x, labels, weight)
        return [code for code in split.lost() if split.rescue(code)]


class _Split:
    """Where the training samples end, and what is done about it."""

    def __init__(self, tree: SoftPrototypeTree, x, labels, weight):
        self.tree, self.x = tree, x
        self.labels, self.weight = labels, weight
        size, device = _batch_size(tree, x), tree.prototypes.device
        n_leaves = tree.structure.n_leaves
        self.mass = np.zeros((n_leaves, tree.n_classes))
        leaves = []
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            path = tree(x[rows].to(device))["log_path"].exp().cpu().numpy()
            classes = np.eye(tree.n_classes)[labels[rows]] * weight[rows, None]
            self.mass += path.T @ classes
            leaves.append(path.argmax(axis=1))
        self.leaf = np.concatenate(leaves)

    def lost(self) -> list[int]:
        """Return the classes that lead too little, the largest first."""
        total = self.mass.sum(axis=0)
        led = np.where(self._leads(), self.mass, 0.0).sum(axis=0)
        lost = np.flatnonzero(led < KEPT_SHARE * total)
        return sorted(lost.tolist(), key=lambda code: -total[code])

    def _leads(self) -> NDArray[np.bool_]:
        """Whether a class is the most frequent of a leaf, (L, K)."""
        leads = np.zeros(self.mass.shape, dtype=bool)
        leads[np.arange(len(leads)), self.mass.argmax(axis=1)] = True
        return leads & (self.mass > 0)

    def rescue(self, code: int) -> bool:
        """Find an idle subtree for a class and move it there, if one can be told."""
        leaf = int(np.where(self._leads()[:, code], -1.0, self.mass[:, code]).argmax())
        path = self.tree.structure.paths[leaf]
        path = path[path >= 0]
        structure = self.tree.structure
        for at in range(len(path) - 2, -1, -1):
            node, child = int(path[at]), int(path[at + 1])
            left = int(structure.children_left[node])
            right = int(structure.children_right[node])
            idle = right if child == left else left
            below = self._leaves_below(idle)
            if self.mass[below].sum() > IDLE_SHARE * self.mass[leaf, code]:
                continue
            if idle == left and not self._alike(left, right):
                continue
            found = self._telling(node, code)
            if found is None:
                continue
            if idle == left:
                self._swap(left, right)
            self._take(node, right, code, found)
            return True
        return False

    def _leaves_below(self, node: int) -> NDArray[np.int64]:
        return np.flatnonzero((self.tree.structure.paths == node).any(axis=1))

    def _subtree(self, node: int) -> NDArray[np.int64]:
        """Return the nodes of a subtree, level by level."""
        structure, found = self.tree.structure, [np.array([node])]
        while len(found[-1]):
            inner = found[-1][structure.prototype[found[-1]] >= 0]
            pairs = structure.children_left[inner], structure.children_right[inner]
            found.append(np.stack(pairs, axis=1).ravel())
        return np.concatenate(found).astype(np.int64)

    def _alike(self, first: int, second: int) -> bool:
        """Whether two subtrees have the same shape."""
        flags = np.asarray(self.tree.structure.is_leaf)
        one, other = flags[self._subtree(first)], flags[self._subtree(second)]
        return len(one) == len(other) and bool((one == other).all())

    def _swap(self, first: int, second: int) -> None:
        """Exchange two subtrees of the same shape."""
        structure, tree = self.tree.structure, self.tree
        one, other = self._subtree(first), self._subtree(second)
        inner = structure.prototype[one] >= 0
        here, there = structure.prototype[one[inner]], structure.prototype[other[inner]]
        new, old = (
            torch.from_numpy(np.concatenate(pair)).to(tree.prototypes.device)
            for pair in ((here, there), (there, here))
        )
        for parameter in _node_parameters(tree):
            parameter[new] = parameter[old].clone()
        here, there = structure.leaf[one[~inner]], structure.leaf[other[~inner]]
        places, sources = np.concatenate([here, there]), np.concatenate([there, here])
        index = torch.from_numpy(places), torch.from_numpy(sources)
        counts = tree.leaf_counts
        counts[index[0].to(counts.device)] = counts[index[1].to(counts.device)].clone()
        moved = np.arange(len(self.mass))
        moved[sources] = places
        self.mass[places] = self.mass[sources].copy()
        self.leaf = moved[self.leaf]

    def _telling(self, node: int, code: int) -> tuple[Tensor, float] | None:
        """Return a site of a class and a radius that excludes others at a node."""
        here = np.isin(self.leaf, self._leaves_below(node)) & (self.weight > 0)
        own = np.flatnonzero(here & (self.labels == code))
        others = np.flatnonzero(here & (self.labels != code))
        if not len(own) or not len(others):
            return None
        z, rest = (self._sites(rows) for rows in (own, others))
        candidates = _spread(z.flatten(0, 1), N_CANDIDATES)
        near = self._distances(candidates, z).quantile(0.9, dim=1).clamp_min(1e-6)
        far = self._distances(candidates, rest).quantile(0.1, dim=1)
        best = int((far / near).argmax())
        if far[best] <= near[best]:
            return None
        return candidates[best], float((far[best] * near[best]).sqrt())

    def _sites(self, rows: NDArray[np.int64]) -> Tensor:
        chosen = torch.from_numpy(
            rows[np.linspace(0, len(rows) - 1, N_SAMPLES).astype(int)]
        )
        return _encode(self.tree, self.x[chosen.unique()])

    def _distances(self, points: Tensor, z: Tensor) -> Tensor:
        """Distances (C, n) of points (C, D) to the nearest site of samples."""
        size = max(1, 2**22 // max(1, len(points) * z.shape[1]))
        found = [
            torch.cdist(points, part.flatten(0, 1)).unflatten(1, part.shape[:2]).amin(2)
            for part in z.split(size)
        ]
        scale = self.tree.prototype_dim**0.5 if self.tree.scale_distance else 1.0
        return torch.cat(found, dim=1) / scale

    def _take(self, node: int, child: int, code: int, found) -> None:
        """Give the right child of a node to a class."""
        tree = self.tree
        point, radius = found
        row = int(tree.structure.prototype[node])
        tree.prototypes[row] = point
        assert tree.log_radius is not None
        tree.log_radius[row] = float(np.log(radius))
        if tree.feature_logits is not None:
            tree.feature_logits[row] = 0.0
        below, here = self._leaves_below(child), self._leaves_below(node)
        moved = self.mass[here, code].sum()
        self.mass[here, code] = 0.0
        self.mass[below] = 0.0
        self.mass[below, code] = moved / len(below)
        counts = tree.leaf_counts
        rows = torch.from_numpy(below).to(counts.device)
        counts[torch.from_numpy(here).to(counts.device), code] = 0.0
        counts[rows] = 0.0
        counts[rows, code] = float(moved / len(below))
        own = (self.labels == code) & np.isin(self.leaf, here)
        self.leaf[own] = below[0]


def _spread(points: Tensor, n: int) -> Tensor:
    """Return at most n rows, evenly spaced."""
    if len(points) <= n:
        return points
    return points[torch.linspace(0, len(points) - 1, n).long()]
