"""How the leaves learn: the paper's mini-batch rule and passes of EM."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import Tensor

from skproto import _projection as projection
from skproto.nn.tree import (
    NearestSites,
    SoftPrototypeTree,
    class_sets,
    project_tree,
)
from skproto.nn.tree_splits import split_shared_leaves
from skproto.training import BatchDataset, TrainingData, chunk_rows, chunks

# Path probabilities (samples x leaves) that passes over the same routing keep.
KEPT_ENTRIES = 2**23


class TrainingRows:
    """Rows of training samples as dense tensors, made when they are asked for.

    Parameters
    ----------
    data : TrainingData or BatchDataset
        The samples, dense or sparse.
    """

    def __init__(self, data: TrainingData | BatchDataset):
        self.dataset = data if isinstance(data, BatchDataset) else BatchDataset(data)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: slice | Tensor) -> Tensor:
        return self.dataset.batch(index)[0]


class Projection(Callback):
    """Put the prototypes on training samples at the start of a phase.

    Parameters
    ----------
    unique : bool, default=False
        See :func:`project_rows`.
    """

    def __init__(self, unique=False):
        self.unique = unique

    def on_train_begin(self, net, X=None, **kwargs):
        """Move each prototype to its nearest sample of a class below its node."""
        project_rows(net.module_, X, self.unique)


def project_rows(
    tree: SoftPrototypeTree, data: TrainingData | BatchDataset, unique: bool = False
) -> NearestSites:
    """Put the prototypes on the nearest samples of classes that their leaves favour.

    Parameters
    ----------
    tree : SoftPrototypeTree
        Changed in place. A prototype without such a sample stays as it is.

    data : TrainingData or BatchDataset
        Samples and classes.

    unique : bool, default=False
        Whether no two prototypes may take the same sample, as far as there are enough.

    Returns
    -------
    nearest : NearestSites
        Where each prototype has come from, -1 for none.
    """
    rows, target = TrainingRows(data), torch.as_tensor(data.y)
    if not unique:
        return project_tree(tree, rows, target)
    owners = class_sets(tree)[tree.structure.inner_nodes]
    k = min(len(tree.prototypes), len(data))
    was_training = tree.training
    found = projection.distinct_sources(projection.nearest_sites(tree, data, owners, k))
    tree.train(was_training)
    nearest = NearestSites(
        torch.from_numpy(found.index[0]),
        torch.from_numpy(found.sites[0]),
        torch.from_numpy(found.distances[0]),
    )
    return project_tree(tree, rows, target, nearest)


class LeafSplit(Callback):
    """Give classes that lead no leaf an idle part of the tree, when a phase starts."""

    def on_train_begin(self, net, X=None, **kwargs):
        """Split the leaves that they share with others."""
        split_leaves(net.module_, X)


def split_leaves(tree: SoftPrototypeTree, data: TrainingData) -> list[int]:
    """Split leaves that classes share, see :mod:`skproto.nn.tree_splits`.

    Parameters
    ----------
    tree : SoftPrototypeTree
        Changed in place.

    data : TrainingData
        Training samples.
    """
    target, weight = (torch.from_numpy(np.asarray(v)) for v in (data.y, data.weight))
    return split_shared_leaves(tree, TrainingRows(data), target, weight)


class BatchLeafUpdate(Callback):
    """Renew the leaves a little after every step: the paper's mini-batch rule.

    After each step the counts of a leaf become ``relu(c - c_old / B) + new``, with
    the counts `c_old` at the start of the epoch, the number of batches B, and the
    expected counts `new` of the batch, routed as it was before the step.
    """

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        """Note the counts and the number of batches."""
        self._old = net.module_.leaf_counts.clone()
        self._n_batches = math.ceil(len(dataset_train) / net.batch_size)

    def on_batch_end(self, net, batch=None, training=False, y_pred=None, **kwargs):
        """Take in the counts of a training batch."""
        if not training:
            return
        target, weight = (t.to(self._old.device) for t in batch[1])
        tree = net.module_
        counts = tree.expected_counts(y_pred["log_path"], target, weight)
        tree.blend_leaves(counts, self._old, self._n_batches)


class EpochLeafUpdate(Callback):
    """Renew the leaves at the end of every epoch, by passes of EM over all samples.

    Parameters
    ----------
    n_passes : int
        Passes of EM an epoch; they share one routing of the samples.
    """

    def __init__(self, n_passes):
        self.n_passes = n_passes

    def on_epoch_end(self, net, dataset_train=None, **kwargs):
        """Run the passes."""
        refit_leaves(net.module_, dataset_train, self.n_passes)


@torch.no_grad()
def refit_leaves(tree: SoftPrototypeTree, dataset: BatchDataset, n_passes: int) -> None:
    """Fit the leaves by EM with the routing fixed.

    Parameters
    ----------
    tree : SoftPrototypeTree
        Its leaf counts are replaced.

    dataset : BatchDataset
        Samples, classes and weights.

    n_passes : int
        Passes over the samples.
    """
    was_training = tree.training
    tree.eval()
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    if len(dataset) * tree.structure.n_leaves <= KEPT_ENTRIES:
        kept = list(_routed(tree, dataset))
    for _ in range(n_passes):
        counts = torch.zeros_like(tree.leaf_counts)
        for routed in kept or _routed(tree, dataset):
            counts += tree.expected_counts(*routed)
        tree.leaf_counts.copy_(counts)
    tree.train(was_training)


def _routed(tree, dataset) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Log path probabilities, classes and weights of the samples, batch by batch."""
    device = tree.prototypes.device
    size = int(np.clip(KEPT_ENTRIES // (8 * tree.structure.n_leaves), 64, 8192))
    if len(dataset.X.shape) > 2:
        # The maps of an encoder are larger than the images.
        size = min(size, chunk_rows(math.prod(dataset.X.shape[1:])) // 8)
    for rows in chunks(len(dataset), size):
        x, (y, weight) = dataset.batch(rows)
        yield tree(x.to(device))["log_path"], y.to(device), weight.to(device)
