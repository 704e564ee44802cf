"""The trees and the reasoning of a report: what the whole model knows."""

from __future__ import annotations

from typing import Any

import numpy as np

from skproto.display._report._words import digits
from skproto.explanation import ReasoningGlobalExplanation, TreeGlobalExplanation


def tree_entries(shown: Any) -> list[dict[str, Any]]:
    """Return the trees of a model; none where it has none.

    Parameters
    ----------
    shown : GlobalExplanation
        The model.
    """
    if isinstance(shown, TreeGlobalExplanation):
        trees = [shown]
    else:
        trees = list(getattr(shown, "trees", None) or [])
    found, offset = [], 0
    for tree in trees:
        found.append(_tree(tree, offset))
        offset += len(tree)
    return found


def _tree(shown: TreeGlobalExplanation, offset: int) -> dict[str, Any]:
    table = shown.tree
    inner = table.prototype >= 0
    return {
        "left": table.children_left.tolist(),
        "right": table.children_right.tolist(),
        # Positions among the prototypes of all trees.
        "prototype": np.where(inner, table.prototype + offset, -1).tolist(),
        "leaf": table.leaf.tolist(),
        "mass": digits(shown.training_mass),
        "below": [[round(float(v), 3) for v in row] for row in shown._below()],
        "leaves": [
            [round(float(v), 4) for v in row] for row in table.leaf_distributions
        ],
    }


def reasoning_entry(shown: Any) -> dict[str, Any] | None:
    """Return what classes look for; None where a model does not reason so."""
    if not isinstance(shown, ReasoningGlobalExplanation):
        return None
    prior, required = shown.component_prior, shown.requiredness
    return {
        "presence": [[round(float(v), 4) for v in row] for row in prior * required],
        "absence": [
            [round(float(v), 4) for v in row] for row in prior * (1 - required)
        ],
    }
