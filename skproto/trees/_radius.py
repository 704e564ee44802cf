"""The radius of a new node: the one that tells most about the class."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from skproto._projection import sample_blocks
from skproto.nn.tree import SoftPrototypeTree
from skproto.training import TrainingData
from skproto.trees._grafting import below

#: Quantiles of the distances that are tried.
SHARES = np.linspace(0.02, 0.98, 49)

Array = NDArray[np.float64]


def telling_radius(
    tree: SoftPrototypeTree, data: TrainingData, position: int, label: int
) -> float:
    """Return the radius that leaves least to guess about the class of samples.

    Among quantiles of the distances of the samples that reach the node, it is the one
    with the smallest mean entropy of the class on both sides, of those in which the
    label leads where the prototype is present. Where it leads in none, the one with
    the fewest samples of other classes where the prototype is present.

    Parameters
    ----------
    tree : SoftPrototypeTree
        With radii; not changed.

    data : TrainingData
        Samples.

    position, label : int
        Prototype, and the class that it is to speak for.
    """
    distance, reach = _seen(tree, data, position)
    weight = reach * np.asarray(data.weight)
    if weight.sum() <= 1e-6 * np.asarray(data.weight).sum():
        weight = np.asarray(data.weight, dtype=np.float64)
    order = distance.argsort()
    mass = weight[order].cumsum()
    found = np.searchsorted(mass, SHARES * mass[-1]).clip(max=len(order) - 1)
    radii = np.unique(distance[order][found])
    radii = radii[radii > 0]
    if not len(radii):
        return float(distance.max() or 1.0)
    return float(radii[_best(distance, weight, radii, data, label, tree.sharpness)])


def _best(distance, weight, radii: Array, data, label: int, sharpness: float) -> int:
    """Return the number of the best radius."""
    present = np.exp2(-((distance[:, None] / radii) ** sharpness).clip(max=1e3))
    own = np.eye(data.n_classes)[np.asarray(data.y)] * weight[:, None]
    yes = present.T @ own
    no = own.sum(axis=0) - yes
    guess = _entropy(yes) + _entropy(no)
    leads = yes.argmax(axis=1) == label
    if leads.any():
        return int(np.where(leads, guess, np.inf).argmin())
    return int((yes.sum(axis=1) - yes[:, label]).argmin())


def _entropy(counts: Array) -> Array:
    """Entropy (m,) of classes times the number of samples."""
    counts = np.maximum(counts, 0.0)
    total = np.maximum(counts.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    share = np.maximum(counts / total, np.finfo(float).tiny)
    return np.asarray(-(counts * np.log(share)).sum(axis=1))


def _seen(tree: SoftPrototypeTree, data: TrainingData, position: int):
    """Distances (n,) from a prototype, and probabilities (n,) of reaching its node."""
    structure = tree.structure
    leaves = below(structure, structure.inner_nodes[[position]])[0]
    chosen = torch.from_numpy(leaves).to(tree.prototypes.device)
    distances, reach = [], []
    tree.eval()
    with torch.inference_mode():
        for rows, x in sample_blocks(data, tree.prototypes.device):
            outputs = tree(x)
            distances.append(outputs["distances"][: len(rows), position])
            paths = outputs["log_path"][: len(rows)].double().exp()
            reach.append(paths[:, chosen].sum(1))
    return (
        torch.cat(distances).double().cpu().numpy(),
        torch.cat(reach).cpu().numpy(),
    )
