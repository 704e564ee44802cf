"""Loss terms of part-prototype networks.

They read what :class:`~skproto.nn.parts.PartPrototypeNetwork` returns and its
`ownership`. Prototypes of the wrong class are masked with infinity, so that the costs
hold for distances of any size. A head that compares other things than the prototypes
themselves may return "class_costs" (n, K), the cost of each class's best one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from skproto.nn._tree_distances import root
from skproto.nn.part_similarity import unit

Members = tuple[Tensor, Tensor]


def class_members(ownership: Tensor) -> Members:
    """Prototypes of each class, padded to the largest class.

    Parameters
    ----------
    ownership : Tensor of shape (P, K), bool
        Which class owns which prototype.

    Returns
    -------
    members : Tensor of shape (K, m), int64
        Prototype numbers in rising order, then fillers.
    valid : Tensor of shape (K, m), bool
        False at the fillers.

    Examples
    --------
    >>> import torch
    >>> owners = torch.tensor([[1, 0], [0, 1], [1, 0]]).bool()
    >>> members, valid = class_members(owners)
    >>> members[0].tolist(), members[1][valid[1]].tolist()
    ([0, 2], [1])
    """
    counts = ownership.sum(0)
    size = int(counts.max()) if counts.numel() else 0
    order = (~ownership.T).to(torch.uint8).argsort(dim=1, stable=True)
    places = torch.arange(size, device=ownership.device)
    return order[:, :size], places < counts[:, None]


def _nearest(outputs: dict[str, Tensor], target: Tensor, module, own: bool) -> Tensor:
    """Least cost (n,) among prototypes of the target, or of the others; 0 for none."""
    if "class_costs" in outputs:
        costs = outputs["class_costs"]
        chosen = functional.one_hot(target, costs.shape[1]).bool()
    else:
        costs = outputs["costs"]
        chosen = module.ownership.T[target]
    masked = costs.masked_fill(~chosen if own else chosen, torch.inf)
    least = masked.amin(1)
    return least.masked_fill(least == torch.inf, 0.0)


@dataclass(frozen=True)
class ClusterCost:
    """Cost of the nearest prototype of the sample's own class.

    The cost is the squared distance of the winning site, or 1 - cosine where the
    prototypes are directions: minimising it raises the best cosine. A class without
    prototypes costs 0.

    Parameters
    ----------
    name, weight : str, float
        Name in the history, factor in the total loss.

    References
    ----------
    Chen et al., This Looks Like That, NeurIPS 2019, section 2.2.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import PartPrototypeNetwork, ClusterCost
    >>> net = PartPrototypeNetwork(4, 2, 2)  # 4 prototypes of 2 numbers, 2 classes
    >>> outputs = net(torch.rand(3, 5, 2))  # 3 samples of 5 sites
    >>> ClusterCost()(outputs, torch.tensor([0, 1, 1]), net).shape
    torch.Size([3])
    """

    name: str = "cluster"
    weight: float = 0.8

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the cost of each sample, (n,)."""
        return _nearest(outputs, target, module, own=True)


@dataclass(frozen=True)
class SeparationCost:
    """Negative cost of the nearest prototype of all other classes.

    Minimising it drives sites away from foreign prototypes; the weight is positive.

    Parameters
    ----------
    name, weight : str, float
        Name in the history, factor in the total loss.

    References
    ----------
    Chen et al., This Looks Like That, NeurIPS 2019, section 2.2.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import PartPrototypeNetwork, SeparationCost
    >>> net = PartPrototypeNetwork(4, 2, 2)  # 4 prototypes of 2 numbers, 2 classes
    >>> outputs = net(torch.rand(3, 5, 2))  # 3 samples of 5 sites
    >>> SeparationCost()(outputs, torch.tensor([0, 1, 1]), net).shape
    torch.Size([3])
    """

    name: str = "separation"
    weight: float = 0.08

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the negative cost of each sample, (n,)."""
        return -_nearest(outputs, target, module, own=False)


@dataclass(frozen=True)
class OffClassL1:
    """Sum of the absolute weights from prototypes to classes that do not own them.

    Of a prototype that all classes own all weights count.

    Parameters
    ----------
    name, weight : str, float
        Name in the history, factor in the total loss.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import OffClassL1, PartPrototypeNetwork
    >>> net = PartPrototypeNetwork(4, 2, 2)  # each prototype counts -0.5 for one class
    >>> OffClassL1()(outputs=None, target=None, module=net).item()
    2.0
    """

    name: str = "off_class_l1"
    weight: float = 1e-4

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the penalty, a scalar."""
        table, _ = module.head.tables()
        owned = module.ownership & ~module.ownership.all(1, keepdim=True)
        return table.masked_fill(owned, 0.0).abs().sum()


@dataclass(frozen=True)
class PrototypeOrthogonality:
    r"""How far the prototypes of each class are from orthogonal directions.

    :math:`\sum_c \sum_{ij} |(P_c P_c^\top - I)_{ij}|^q` over the unit prototypes of a
    class.

    Parameters
    ----------
    power : {1, 2}, default=1
        The q: 1 as in TesNet, 2 as in Deformable ProtoPNet.

    name, weight : str, float
        Name in the history, factor in the total loss.

    References
    ----------
    Wang et al., Interpretable Image Recognition by Constructing Transparent Embedding
    Space, ICCV 2021, section 3.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import PartPrototypeNetwork, PrototypeOrthogonality
    >>> net = PartPrototypeNetwork(4, 2, 2)
    >>> _ = net.prototypes.data.copy_(torch.eye(2).repeat(2, 1))  # orthogonal in pairs
    >>> PrototypeOrthogonality()(outputs=None, target=None, module=net).item()
    0.0
    """

    power: int = 1
    name: str = "orthogonality"
    weight: float = 1e-4

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the penalty, a scalar."""
        members, valid = class_members(module.ownership)
        p = unit(module.prototypes)[members]
        gram = p @ p.transpose(1, 2)
        both = valid[:, :, None] & valid[:, None, :]
        same = torch.eye(gram.shape[1], dtype=torch.bool, device=gram.device)
        gram = gram.masked_fill(~both | same, 0.0).abs()
        return gram.sum() if self.power == 1 else gram.square().sum()


@dataclass(frozen=True)
class SubspaceSeparation:
    r"""Negative distance between the subspaces that the classes' prototypes span.

    :math:`-\frac{1}{2} \sum_{c, c'} \|P_c^\top P_c - P_{c'}^\top P_{c'}\|_F / \sqrt 2`
    over unit prototypes. The (D, D) projections are never formed: the norms follow
    from the inner products of the prototypes.

    Parameters
    ----------
    name, weight : str, float
        Name in the history, factor in the total loss.

    References
    ----------
    Wang et al., Interpretable Image Recognition by Constructing Transparent Embedding
    Space, ICCV 2021, section 3.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import PartPrototypeNetwork, SubspaceSeparation
    >>> net = PartPrototypeNetwork(2, 2, 2)
    >>> _ = net.prototypes.data.copy_(torch.eye(2))  # each class spans an axis
    >>> round(SubspaceSeparation()(outputs=None, target=None, module=net).item(), 4)
    -1.0
    """

    name: str = "subspaces"
    weight: float = 1e-7

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the negative distance, a scalar."""
        p = unit(module.prototypes)
        owners = module.ownership.to(p)
        shared = owners.T @ (p @ p.T).square() @ owners
        norms = shared.diagonal()
        squared = norms[:, None] + norms - 2 * shared
        return -0.5 * root(squared.clamp_min(0.0) / 2).sum()


@dataclass(frozen=True)
class ShallowDeepAlignment:
    r"""SDFA: sites alike in the deep map should be alike in a shallow one, too.

    Each deep cell is given the block of the shallow map it covers. For the winning
    cells of a sample's own prototypes the cosines to all cells are compared between
    the maps: the mean of :math:`\max(0, |G_d - G_s| - \theta)`. The shallow map gets
    no gradient. The module has to be built with `shallow_layer`.

    Parameters
    ----------
    threshold : float, default=0.1
        The difference :math:`\theta` that costs nothing.

    name, weight : str, float
        Name in the history, factor in the total loss.

    References
    ----------
    Huang et al., Evaluation and Improvement of Interpretability for Self-Explainable
    Part-Prototype Networks, ICCV 2023, section 4.

    Examples
    --------
    >>> import torch
    >>> from skproto.nn import PartPrototypeNetwork, ShallowDeepAlignment, make_encoder
    >>> encoder = make_encoder("conv", (1, 8, 8))
    >>> net = PartPrototypeNetwork(
    ...     4, encoder.dim, 2, encoder=encoder, shallow_layer="body.0"
    ... )
    >>> outputs = net.train()(torch.rand(3, 1, 8, 8))
    >>> ShallowDeepAlignment()(outputs, torch.tensor([0, 1, 1]), net).shape
    torch.Size([3])
    """

    threshold: float = 0.1
    name: str = "alignment"
    weight: float = 0.5

    def __call__(self, outputs, target, module) -> Tensor:
        """Return the misalignment of each sample, (n,); 0 for a class without cells."""
        if "shallow" not in outputs:
            raise ValueError(
                "ShallowDeepAlignment needs a module with shallow_layer and input that "
                f"passes through its encoder, got outputs {sorted(outputs)}"
            )
        deep = unit(outputs["embedding"])
        shallow = fold_shallow(outputs["shallow"], deep.shape[1], module.encoder.grid)
        shallow = unit(shallow.to(deep))
        members, valid = (table[target] for table in class_members(module.ownership))
        cells = outputs["sites"].gather(1, members)
        gap = (_rows(deep, cells) - _rows(shallow, cells)).abs() - self.threshold
        cost = functional.relu(gap).mean(2).masked_fill(~valid, 0.0)
        return cost.sum(1) / valid.sum(1).clamp_min(1)


def _rows(u: Tensor, cells: Tensor) -> Tensor:
    """Inner products (n, m, T) of the sites (n, T, D) at cells (n, m) with all."""
    chosen = u.gather(1, cells[:, :, None].expand(-1, -1, u.shape[2]))
    return chosen @ u.transpose(1, 2)


def fold_shallow(shallow: Tensor, n_sites: int, grid: Any = None) -> Tensor:
    """Give each deep cell its block of a shallow map.

    Parameters
    ----------
    shallow : Tensor of shape (n, C, H, W) or (n, T', C)
        Map, or tokens, of which the last `n_sites` are taken.

    n_sites : int
        Number of deep cells T.

    grid : tuple of int or None, default=None
        Rows and columns of the deep cells.

    Returns
    -------
    folded : Tensor of shape (n, T, C s s)
        The s x s block of each cell. Where the deep grid does not divide the shallow
        one the latter is averaged to the next smaller multiple.

    Raises
    ------
    ValueError
        If the two do not fit.

    Examples
    --------
    >>> import torch
    >>> fold_shallow(torch.arange(16.0).reshape(1, 1, 4, 4), 4, (2, 2))[0, 1]
    tensor([2., 3., 6., 7.])
    """
    if shallow.ndim == 3 and shallow.shape[1] >= n_sites:
        return shallow[:, -n_sites:]
    if shallow.ndim != 4 or grid is None or grid[0] * grid[1] != n_sites:
        raise ValueError(
            "The shallow layer must return a map (n, C, H, W) before a deep map, or "
            f"at least {n_sites} tokens (n, T, C), got {tuple(shallow.shape)} and a "
            f"deep grid {grid}"
        )
    s = max(1, min(shallow.shape[2] // grid[0], shallow.shape[3] // grid[1]))
    size = (s * grid[0], s * grid[1])
    if shallow.shape[2:] != size:
        shallow = functional.adaptive_avg_pool2d(shallow, size)
    return functional.pixel_unshuffle(shallow, s).flatten(2).transpose(1, 2)
