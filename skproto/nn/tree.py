"""Prototype trees: the module and what is done with it outside of training.

Start from data, search for the nearest training sites, projection, pruning, merging.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from skproto.nn._tree_module import SoftPrototypeTree
from skproto.nn._tree_structure import (
    BoolArray,
    TreeEdit,
    TreeStructure,
    aggregate_leaves,
    default_prune_threshold,
    merge_structure,
    prune_structure,
)

__all__ = [
    "ROUTINGS",
    "NearestSites",
    "Rows",
    "SoftPrototypeTree",
    "TreeEdit",
    "TreeStructure",
    "aggregate_leaves",
    "class_sets",
    "default_prune_threshold",
    "edit_tree",
    "init_from_samples",
    "init_normal",
    "init_radii",
    "keep_top_features",
    "merge_tree",
    "nearest_sites",
    "project_tree",
    "prune_tree",
]

#: Ways to read class scores off a soft tree, see ``SoftPrototypeTree.class_scores``.
ROUTINGS = ("distributed", "greedy", "sample_max")
#: Rows from which a start takes its median distances.
_MAX_START_ROWS = 4096
#: Distances (rows x prototypes) of one batch of the search for the nearest sites.
_SEARCH_NUMBERS = 2**20

#: Numbers of the samples of one batch: the maps of an encoder are larger.
_SAMPLE_NUMBERS = 2**19


class Rows(Protocol):
    """Training samples: a tensor, or what makes tensors of the rows asked for.

    Examples
    --------
    A tensor is one; so is any object with its `shape` that is indexed by rows.

    >>> import torch
    >>> from skproto.nn.tree import Rows
    >>> x: Rows = torch.zeros(4, 2)
    >>> x[torch.tensor([0, 2])].shape
    torch.Size([2, 2])
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: slice | Tensor, /) -> Tensor: ...


class NearestSites(NamedTuple):
    """The nearest admissible training site of each prototype.

    Attributes
    ----------
    samples : Tensor of shape (N,), int64
        Row numbers, the first of equals; -1 where no row is admissible.
    sites : Tensor of shape (N,), int64
        Site within the row.
    distances : Tensor of shape (N,)
        Distance of the prototype to that site, inf where no row is admissible.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.tree import NearestSites
    >>> found = NearestSites(torch.tensor([3]), torch.tensor([0]), torch.tensor([0.5]))
    >>> found.samples
    tensor([3])
    """

    samples: Tensor
    sites: Tensor
    distances: Tensor


@torch.no_grad()
def init_from_samples(
    tree: SoftPrototypeTree,
    x: Tensor | Rows,
    *,
    generator: torch.Generator,
    sample_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Start the prototypes at random training sites, the radii at median distances.

    Parameters
    ----------
    tree : SoftPrototypeTree
        Changed in place.
    x : Tensor of shape (n, ...) or Rows
        Training samples. The medians are taken over at most 4,096 of them.
    generator : torch.Generator
        On the CPU.
    sample_weight : Tensor of shape (n,) or None, default=None
        Rows are drawn in proportion, those of weight 0 never; the median is weighted.

    Returns
    -------
    samples, sites : Tensor of shape (N,), int64
        Where each prototype comes from. Rows are different as long as there are
        enough.

    Raises
    ------
    ValueError
        If no row has a positive weight.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.tree import SoftPrototypeTree, init_from_samples
    >>> x = torch.tensor([[0.0], [1.0], [5.0], [6.0]])
    >>> tree = SoftPrototypeTree(1, 2, depth=1).eval()
    >>> rows, sites = init_from_samples(tree, x, generator=torch.Generator())
    >>> bool((tree.prototypes.flatten() == x[rows, 0]).all())
    True
    """
    weight = torch.ones(len(x)) if sample_weight is None else sample_weight.cpu()
    waiting = torch.empty(len(x), dtype=torch.float64)
    waiting = waiting.exponential_(generator=generator) / weight
    order = waiting.argsort()[: int((weight > 0).sum())]
    if not len(order):
        raise ValueError("x needs at least one row with a positive sample_weight")
    n_inner = tree.structure.n_inner
    samples = order[torch.arange(n_inner) % len(order)]
    with _evaluating(tree):
        z = _encode(tree, x[samples]) if n_inner else tree.prototypes.unsqueeze(1)
        sites = torch.randint(z.shape[1], (n_inner,), generator=generator)
        tree.prototypes.copy_(z[torch.arange(n_inner), sites])
    rows = order[:_MAX_START_ROWS]
    same = torch.ones(len(rows)) if len(rows) < len(order) else weight[rows]
    init_radii(tree, x[rows], same)
    return samples, sites


@torch.no_grad()
def init_radii(
    tree: SoftPrototypeTree, x: Tensor, sample_weight: Tensor | None = None
) -> None:
    """Set each radius to the median distance of the samples from the prototype.

    Parameters
    ----------
    tree : SoftPrototypeTree
        Changed in place; without radii nothing happens.
    x : Tensor of shape (n, ...)
        Samples.
    sample_weight : Tensor of shape (n,) or None, default=None
        Weights for the median.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.tree import SoftPrototypeTree, init_radii
    >>> x = torch.tensor([[0.0], [1.0], [5.0], [6.0]])
    >>> tree = SoftPrototypeTree(1, 2, depth=1).eval()
    >>> _ = tree.prototypes.data.zero_()
    >>> init_radii(tree, x[1:])  # distances 1, 5 and 6
    >>> round(tree.radii().item(), 3)
    5.0
    """
    if tree.log_radius is None:
        return
    weight = torch.ones(len(x)) if sample_weight is None else sample_weight
    size, device = _batch_size(tree, x), tree.prototypes.device
    with _evaluating(tree):
        parts = [tree.evaluate(part.to(device))["distances"] for part in x.split(size)]
    tree.log_radius.copy_(_start_radius(torch.cat(parts), weight).log())


@torch.no_grad()
def init_normal(
    tree: SoftPrototypeTree,
    *,
    generator: torch.Generator,
    mean: float = 0.5,
    std: float = 0.1,
) -> None:
    """Start the prototypes as the paper does, at N(0.5, 0.1), whatever the data.

    Parameters
    ----------
    tree : SoftPrototypeTree
        Changed in place; radii stay.
    generator : torch.Generator
        On the CPU.
    mean, std : float
        Of each coordinate; made for sites in (0, 1).

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.tree import SoftPrototypeTree, init_normal
    >>> tree = SoftPrototypeTree(8, 2, depth=3)
    >>> init_normal(tree, generator=torch.Generator().manual_seed(0))
    >>> bool(abs(tree.prototypes.mean() - 0.5) < 0.1)
    True
    """
    start = torch.randn(tree.prototypes.shape, generator=generator)
    tree.prototypes.copy_(mean + std * start)


@torch.no_grad()
def nearest_sites(
    tree: SoftPrototypeTree, x: Tensor | Rows, target: Tensor | None = None
) -> NearestSites:
    """Find the nearest training site of each prototype, in batches of rows.

    Parameters
    ----------
    tree : SoftPrototypeTree
        Not changed.
    x : Tensor of shape (n, ...) or Rows
        Training samples.
    target : Tensor of shape (n,), int64, or None, default=None
        Class positions; only rows whose class is the most likely one of some leaf
        under the node are admissible. None admits all.

    Returns
    -------
    nearest : NearestSites
        One entry a prototype.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.tree import SoftPrototypeTree, nearest_sites
    >>> x = torch.tensor([[0.0], [1.0], [5.0], [6.0]])
    >>> tree = SoftPrototypeTree(1, 2, depth=1).eval()
    >>> _ = tree.prototypes.data.fill_(4.5)
    >>> found = nearest_sites(tree, x)
    >>> found.samples.tolist(), found.distances.tolist()
    ([2], [0.5])
    """
    device, n_inner = tree.prototypes.device, tree.structure.n_inner
    admissible = torch.from_numpy(class_sets(tree)[tree.structure.inner_nodes])
    best = tree.prototypes.new_full((n_inner,), torch.inf)
    samples = torch.full((n_inner,), -1, device=device)
    sites = torch.zeros_like(samples)
    size = _batch_size(tree, x)
    with _evaluating(tree):
        for start in range(0, len(x), size):
            outputs = tree(x[start : start + size].to(device))
            d = outputs["distances"]
            if target is not None:
                allowed = admissible[:, target[start : start + size].cpu()].T
                d = d.masked_fill(~allowed.to(device), torch.inf)
            value, row = d.min(dim=0)
            better = value < best
            best = torch.where(better, value, best)
            samples = torch.where(better, row + start, samples)
            site = outputs["sites"].gather(0, row.unsqueeze(0)).squeeze(0)
            sites = torch.where(better, site, sites)
    return NearestSites(samples, sites, best)


@torch.no_grad()
def project_tree(
    tree: SoftPrototypeTree,
    x: Tensor | Rows,
    target: Tensor | None = None,
    nearest: NearestSites | None = None,
) -> NearestSites:
    """Replace each prototype by its nearest admissible training site.

    Parameters
    ----------
    tree : SoftPrototypeTree
        Changed in place. A prototype without admissible row stays as it is.
    x, target : object
        See :func:`nearest_sites`.
    nearest : NearestSites, default=None
        Where each prototype goes, if not to the nearest admissible site.

    Returns
    -------
    nearest : NearestSites
        The search before the replacement: sources, and how far the prototypes moved.

    References
    ----------
    Nauta, van Bree, Seifert, CVPR 2021, section 3.5.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.tree import SoftPrototypeTree, project_tree
    >>> x = torch.tensor([[0.0], [1.0], [5.0], [6.0]])
    >>> tree = SoftPrototypeTree(1, 2, depth=1).eval()
    >>> _ = tree.prototypes.data.fill_(4.5)
    >>> found = project_tree(tree, x)
    >>> tree.prototypes.flatten().tolist()
    [5.0]
    """
    if nearest is None:
        nearest = nearest_sites(tree, x, target)
    found = torch.nonzero(nearest.samples >= 0).squeeze(1)
    if len(found):
        with _evaluating(tree):
            z = _encode(tree, x[nearest.samples[found].cpu()])
        rows = torch.arange(len(found), device=z.device)
        tree.prototypes[found] = z[rows, nearest.sites[found]]
    return nearest


@torch.no_grad()
def keep_top_features(tree: SoftPrototypeTree, n_features: int) -> None:
    """Set all but the largest feature weights of each node to exactly 0.

    Parameters
    ----------
    tree : SoftPrototypeTree
        Changed in place; needs feature weights. The kept weights grow in proportion,
        so that they still sum to D.
    n_features : int
        Features to keep a node, from 1 to D.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.tree import SoftPrototypeTree, keep_top_features
    >>> tree = SoftPrototypeTree(4, 2, depth=2, feature_weights=True)
    >>> keep_top_features(tree, 1)
    >>> (tree.weights() > 0).sum(-1).flatten().tolist()
    [1, 1, 1]
    """
    logits = tree.feature_logits
    if logits is None or not 1 <= n_features <= logits.shape[1]:
        raise ValueError(
            f"n_features must be an int from 1 to {tree.prototype_dim}, for a tree "
            f"with feature weights, got {n_features!r}"
        )
    top = logits.topk(n_features, dim=1)
    kept = torch.full_like(logits, -torch.inf).scatter(1, top.indices, top.values)
    logits.copy_(kept)


def class_sets(tree: SoftPrototypeTree) -> BoolArray:
    """Return which classes are the most likely one of some leaf below each node.

    Parameters
    ----------
    tree : SoftPrototypeTree
        Class ties in a leaf go to the lowest class.

    Returns
    -------
    sets : ndarray of bool, shape (n_nodes, K)
        Breadth-first node order; a leaf has one class.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.tree import SoftPrototypeTree, class_sets, init_from_samples
    >>> x = torch.tensor([[0.0], [1.0], [5.0], [6.0]])
    >>> tree = SoftPrototypeTree(1, 2, depth=1).eval()
    >>> _ = init_from_samples(tree, x, generator=torch.Generator().manual_seed(0))
    >>> for _ in range(3):
    ...     tree.em_step(tree(x)["log_path"], torch.tensor([0, 0, 1, 1]))
    >>> class_sets(tree)[0].tolist()  # both classes below the root
    [True, True]
    """
    return aggregate_leaves(tree.structure, np.eye(tree.n_classes)[_top(tree)]) > 0


def prune_tree(
    tree: SoftPrototypeTree, threshold: float | None = None
) -> tuple[SoftPrototypeTree, TreeEdit]:
    """Return the tree without the subtrees that tell nothing about the class.

    Parameters
    ----------
    tree : SoftPrototypeTree
        Not changed.
    threshold : float or None, default=None
        Leaves need a larger class probability to stay. None is
        ``1/K + 0.1 (1 - 1/K)``.

    Returns
    -------
    tree : SoftPrototypeTree
        New module that shares the encoder.
    edit : TreeEdit
        What is left; `kept_best` tells that no leaf passed the threshold.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.tree import SoftPrototypeTree, init_from_samples, prune_tree
    >>> x = torch.tensor([[0.0], [1.0], [5.0], [6.0]])
    >>> tree = SoftPrototypeTree(1, 2, depth=1).eval()
    >>> _ = init_from_samples(tree, x, generator=torch.Generator().manual_seed(0))
    >>> for _ in range(3):
    ...     tree.em_step(tree(x)["log_path"], torch.tensor([0, 0, 1, 1]))
    >>> pruned, edit = prune_tree(tree)
    >>> pruned.structure.n_leaves  # both leaves are sure of a class
    2
    """
    if threshold is None:
        threshold = default_prune_threshold(tree.n_classes)
    best = tree.leaf_distributions().amax(dim=1).cpu().numpy()
    edit = prune_structure(tree.structure, best, threshold)
    return edit_tree(tree, edit), edit


def merge_tree(tree: SoftPrototypeTree) -> tuple[SoftPrototypeTree, TreeEdit]:
    """Return the tree with sibling leaves of the same class merged, bottom up.

    Parameters
    ----------
    tree : SoftPrototypeTree
        Not changed.

    Returns
    -------
    tree : SoftPrototypeTree
        New module that shares the encoder; counts of merged leaves are added.
    edit : TreeEdit
        What is left.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.tree import SoftPrototypeTree, init_from_samples, merge_tree
    >>> x = torch.tensor([[0.0], [1.0], [5.0], [6.0]])
    >>> tree = SoftPrototypeTree(1, 2, depth=1).eval()
    >>> _ = init_from_samples(tree, x, generator=torch.Generator().manual_seed(0))
    >>> tree.em_step(tree(x)["log_path"], torch.tensor([0, 0, 0, 0]))
    >>> merged, edit = merge_tree(tree)
    >>> merged.structure.n_leaves
    1
    """
    edit = merge_structure(tree.structure, _top(tree))
    return edit_tree(tree, edit), edit


@torch.no_grad()
def edit_tree(tree: SoftPrototypeTree, edit: TreeEdit) -> SoftPrototypeTree:
    """Return the tree that an edit of the structure describes.

    Parameters
    ----------
    tree : SoftPrototypeTree
        Not changed.
    edit : TreeEdit
        Edit of this tree's structure.

    Returns
    -------
    tree : SoftPrototypeTree
        New module that shares the encoder; same mode, device and dtype.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn.tree import SoftPrototypeTree
    >>> from skproto.nn.tree import TreeEdit, TreeStructure, edit_tree
    >>> x = torch.tensor([[0.0], [1.0], [5.0], [6.0]])
    >>> tree = SoftPrototypeTree(1, 2, depth=1).eval()
    >>> import numpy as np
    >>> leaf = TreeStructure.full(0)
    >>> none, first = np.array([], dtype=int), np.array([0, -1])
    >>> edit = TreeEdit(leaf, np.array([1]), none, first)
    >>> edit_tree(tree, edit).structure.n_leaves
    1
    """
    config = tree.config | {"is_leaf": list(edit.structure.is_leaf)}
    new = SoftPrototypeTree(**config, encoder=tree.encoder)
    new.to(tree.prototypes).train(tree.training)
    device = tree.prototypes.device
    kept = torch.from_numpy(edit.prototypes).to(device)
    for mine, theirs in zip(_node_parameters(new), _node_parameters(tree), strict=True):
        mine.copy_(theirs[kept])
    old = np.flatnonzero(edit.leaf_groups >= 0)
    groups = torch.from_numpy(edit.leaf_groups[old]).to(device)
    counts = tree.leaf_counts[torch.from_numpy(old).to(device)]
    new.leaf_counts.index_add_(0, groups, counts)
    return new


def _batch_size(tree: SoftPrototypeTree, x: Tensor | Rows) -> int:
    """Return how many samples one batch of a search has."""
    size = max(1, _SEARCH_NUMBERS // max(1, tree.structure.n_inner))
    n_numbers = x[slice(0, 1)].numel()
    return max(1, min(size, max(16, _SAMPLE_NUMBERS // max(1, n_numbers))))


def _node_parameters(tree: SoftPrototypeTree) -> list[nn.Parameter]:
    """Parameters with one row an inner node, as far as they exist."""
    all_three = (tree.prototypes, tree.log_radius, tree.feature_logits)
    return [parameter for parameter in all_three if parameter is not None]


def _top(tree: SoftPrototypeTree) -> np.ndarray:
    """Most likely class of each leaf."""
    return tree.leaf_distributions().argmax(dim=1).cpu().numpy()


def _encode(tree: SoftPrototypeTree, x: Tensor) -> Tensor:
    """Sites of `x` on the device of the tree."""
    return tree.encode(x.to(tree.prototypes.device))


def _start_radius(distances: Tensor, weight: Tensor) -> Tensor:
    """Weighted median of each column; the maximum, then 1, where that is 0."""
    ordered, index = distances.sort(dim=0)
    mass = weight.to(distances)[index].cumsum(dim=0)
    middle = (mass < mass[-1] / 2).sum(dim=0, keepdim=True)
    median = ordered.gather(0, middle).squeeze(0)
    radius = torch.where(median > 0, median, ordered[-1])
    return torch.where(radius > 0, radius, 1.0)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode and back."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
