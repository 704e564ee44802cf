"""How large a tree may grow, and whether it has come to anything."""

from __future__ import annotations

import math
import warnings

import torch

from skproto.nn.tree import SoftPrototypeTree
from skproto.training import TrainingData
from skproto.trees._leaves import TrainingRows

# Memory that a tree and one batch may take while they are trained.
MAX_BYTES = 4 * 2**30


def resolve_depth(depth, n_samples: int, n_classes: int) -> int:
    """Return the depth that `depth` stands for; warn where samples are few.

    Parameters
    ----------
    depth : "auto" or int
        What the user asked for.

    n_samples, n_classes : int
        Size of the training data.

    Returns
    -------
    depth : int
        At least 1.
    """
    if depth == "auto":
        wanted = max(4, math.ceil(math.log2(n_classes)) + 3)
        return max(1, min(wanted, int(math.log2(n_samples + 1))))
    if 2**depth - 1 > n_samples:
        warnings.warn(
            f"A tree of depth={depth} has {2**depth - 1} prototypes, more than the "
            f"{n_samples} different training samples.",
            UserWarning,
            stacklevel=2,
        )
    return int(depth)


def check_memory(depth: int, dim: int, n_classes: int, batch_size: int) -> None:
    """Raise ValueError where training a tree would not fit into memory.

    Parameters
    ----------
    depth, dim, n_classes, batch_size : int
        Levels, coordinates of a prototype, classes and samples of a batch.
    """
    # Value, gradient and two moments of each weight; a batch with its gradients.
    numbers = 4 * (2 * dim + 1) + n_classes + 24 * batch_size
    largest = int(math.log2(MAX_BYTES / (4 * numbers)))
    if depth > largest:
        raise ValueError(
            f"The 'depth' parameter must be at most {largest} for {dim} features, "
            f"{n_classes} classes and batches of {batch_size}, so that training fits "
            f"into memory. Got {depth}."
        )


def warn_if_idle(tree: SoftPrototypeTree, data: TrainingData) -> None:
    """Warn where no training sample finds any prototype on its path present.

    Parameters
    ----------
    tree : SoftPrototypeTree
        In evaluation mode.

    data : TrainingData
        The training samples.
    """
    structure = tree.structure
    leftmost = int(structure.paths.sum(axis=1).argmin())
    rows = TrainingRows(data)
    with torch.inference_mode():
        for part in data.chunks():
            outputs = tree.evaluate(rows[part].to(tree.prototypes.device), "greedy")
            if (outputs["leaf"] != leftmost).any():
                return
    warnings.warn(
        "All training samples route left: no prototype is present in any of them, and "
        "all end in the same leaf. Use standardize=True or similarity='radius'.",
        UserWarning,
        stacklevel=2,
    )
