"""How much a prototype points at other parts than its own."""

from __future__ import annotations

import numpy as np

from skproto.metrics._inputs import check_count
from skproto.metrics._parts import (
    _frequencies,
    as_regions,
    mean_over_prototypes,
    merge_parts,
    top_samples,
)
from skproto.metrics._regions import PURITY_HALF_SIZE


def impurity_score(
    regions,
    part_locations,
    part_visible=None,
    *,
    top_k=10,
    merge=None,
    per_prototype=False,
    input_shape=None,
):
    """Impurity of the best examples of each prototype: is it a second part, too.

    The impurity of a prototype is the second highest share, over the parts, of its
    examples in whose region the part lies. A prototype may be pure and impure at once:
    its region holds two parts that are always side by side, and which of them it is
    about cannot be told.

    Parameters
    ----------
    regions : PrototypeRegions, FeatureRegions or array-like of shape (n, P, h, w)
        Regions, or similarity maps; see :func:`purity_score`.

    part_locations : array-like of shape (n, M, 2) or (M, f)
        Pixels x and y of the parts; for tables groups of features, as bool.

    part_visible : array-like of shape (n, M), default=None
        Whether the part can be seen; None: all can.

    top_k : int or None, default=10
        Samples most like a prototype that are its examples; None takes all.

    merge : sequence of sequences of int, default=None
        Groups of parts that count as one, such as left and right.

    per_prototype : bool, default=False
        Return one value for each prototype.

    input_shape : tuple of int, default=None
        Height and width of the images; needed with maps.

    Returns
    -------
    score : float or ndarray of shape (P,)
        From 0 to 1; 0 with a single part, NaN for prototypes without examples.

    Raises
    ------
    ValueError
        If shapes disagree or no part is visible.

    References
    ----------
    Espinosa Zarlenga, M. et al. (2023). Towards Robust Metrics for Concept
    Representation Evaluation. *AAAI* (the idea, for concepts).

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.metrics import impurity_score
    >>> maps = np.zeros((4, 1, 8, 8))
    >>> maps[:, 0, 0, 0] = 1
    >>> places = np.zeros((4, 2, 2))  # two parts, the second away in one image
    >>> places[0, 1] = 7
    >>> impurity_score(maps, places, input_shape=(8, 8))
    0.75
    """
    if top_k is not None:
        check_count("top_k", top_k, 1)
    regions = as_regions(regions, input_shape, PURITY_HALF_SIZE)
    chosen = top_samples(regions.similarities, regions.valid, top_k)
    hits, visible = merge_parts(
        regions.hits(part_locations, part_visible),
        regions.visible(part_locations, part_visible),
        merge,
    )
    found = np.sort(_frequencies(hits, visible, chosen), axis=1)
    values = found[:, -2] if found.shape[1] > 1 else 0.0 * found[:, -1]
    return values if per_prototype else mean_over_prototypes(values)
