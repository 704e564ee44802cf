"""Fitting the leaves of an edited tree: what is locked stays, labels are respected."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from skproto._editing import HeadRules
from skproto.nn.tree import SoftPrototypeTree, TreeStructure
from skproto.training import BatchDataset, TrainingData
from skproto.trees._grafting import below
from skproto.trees._leaves import KEPT_ENTRIES, _routed

#: Share of the samples by which the class that a user has given leads where its
#: prototype is present, at least.
LEAD = 1e-3

#: Change of a class probability in the last pass of EM, times the leaf's share of the
#: samples, below which leaves are settled.
SETTLED = 1e-3

Array = NDArray[np.float64]


class LeafRules:
    """What a fit of the leaves may change.

    The leaves right below a locked node keep their counts. Where a user has given a
    node a class, the leaves on its present side are mixed with that class, all by the
    same share and as little as is enough, until it leads among their samples and has
    the share `min_weight` of them. The number of samples in each leaf stays.

    Parameters
    ----------
    structure : TreeStructure
        The tree.

    rules : HeadRules
        By prototype: which are free, and which labels are to be respected.
    """

    def __init__(self, structure: TreeStructure, rules: HeadRules):
        parents = structure.parent[structure.leaf_nodes]
        self.free = np.asarray(rules.free)[structure.prototype[parents]]
        # Nodes come from the root down, so that the nearest to a leaf has the last say.
        self.named = np.flatnonzero(rules.restricted)
        present = structure.children_right[structure.inner_nodes[self.named]]
        self.present = below(structure, present)
        self.labels = np.asarray(rules.labels)[self.named]
        self.least = 0.0 if rules.min_weight is None else float(rules.min_weight)
        if self.least > 1:
            raise ValueError(
                "min_weight must be a share of the samples at most 1 for a tree. Got "
                f"{rules.min_weight!r}."
            )

    def amend(self, counts: Array, before: Array) -> Array:
        """Return counts (L, K) after a pass of EM as the rules want them."""
        counts = np.where(self.free[:, None], counts, before)
        for leaves, label in zip(self.present, self.labels, strict=True):
            counts = self._led(counts, leaves, int(label))
        return counts

    def _led(self, counts: Array, leaves: NDArray[np.bool_], label: int) -> Array:
        """Return counts in which a class leads among some leaves."""
        mixed = leaves & self.free
        if not mixed.any():
            return counts
        counts = counts.copy()
        free, total = counts[mixed].sum(axis=0), counts[leaves].sum(axis=0)
        mass, gain = total.sum(), free.sum() - free[label]
        if free.sum() <= 0:
            # No sample comes here: the user's word is all there is.
            counts[mixed, label] += 1.0 / mixed.sum()
            return counts
        others = np.arange(len(total)) != label
        gap = total[others] - total[label] + LEAD * mass
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = [
                *(gap / (gain + free[others])),
                (self.least - total[label] / mass),
            ]
            shares[-1] = shares[-1] * mass / gain if gain > 0 else 0.0
        share = float(np.clip(np.nanmax(shares), 0.0, 1.0))
        if share > 0:
            rows = counts[mixed]
            counts[mixed] = (1.0 - share) * rows
            counts[mixed, label] += share * rows.sum(axis=1)
        return counts

    def broken(self, counts: Array) -> NDArray[np.int64]:
        """Return positions of prototypes whose class does not lead where present."""
        totals = self.present.astype(float) @ counts
        return self.named[totals.argmax(axis=1) != self.labels]


@torch.no_grad()
def fit_leaves(
    tree: SoftPrototypeTree, data: TrainingData, n_passes: int, rules: LeafRules
) -> bool:
    """Fit the leaves by EM with the routing fixed, within rules.

    Parameters
    ----------
    tree : SoftPrototypeTree
        Its leaf counts are replaced.

    data : TrainingData
        Samples, classes and weights.

    n_passes : int
        Passes over the samples.

    rules : LeafRules
        What has to stay.

    Returns
    -------
    settled : bool
        Whether the last pass has changed next to nothing.
    """
    tree.eval()
    dataset = BatchDataset(data)
    routed = []
    if len(dataset) * tree.structure.n_leaves <= KEPT_ENTRIES:
        routed = list(_routed(tree, dataset))
    change = np.inf
    for _ in range(n_passes):
        before, leaves = tree.leaf_counts.double(), tree.leaf_distributions()
        counts = torch.zeros_like(tree.leaf_counts)
        for part in routed or _routed(tree, dataset):
            counts += tree.expected_counts(*part)
        kept = rules.amend(counts.double().cpu().numpy(), before.cpu().numpy())
        tree.leaf_counts.copy_(torch.from_numpy(kept))
        mass = tree.leaf_counts.double().sum(1, keepdim=True)
        moved = (tree.leaf_distributions() - leaves).abs() * mass
        change = float(moved.max() / mass.sum())
    return change < SETTLED
