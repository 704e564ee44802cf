"""Whether prototypes point at one part of the object: consistency and purity."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from skproto.metrics._estimator_regions import Regions
from skproto.metrics._feature_regions import FeatureRegions
from skproto.metrics._inputs import (
    FEW_IMAGES,
    check_count,
    check_lengths,
    check_option,
    check_share,
    membership,
)
from skproto.metrics._regions import (
    PURITY_HALF_SIZE,
    PrototypeRegions,
    half_pixels,
    prototype_regions,
)


def as_regions(regions, input_shape=None, share: float | None = None) -> Regions:
    """Return regions as they are, or those of similarity maps."""
    if isinstance(regions, PrototypeRegions | FeatureRegions):
        return regions
    if input_shape is None:
        raise ValueError(
            "input_shape must be given together with maps: height and width of the "
            "images. Got None."
        )
    half = None
    if share is not None:
        half = half_pixels(None, (input_shape[-2], input_shape[-1]), share)
    return prototype_regions(regions, input_shape, half)


def own_samples(regions: Regions, y, prototype_labels, classes) -> NDArray[np.bool_]:
    """Tell which samples (n, P) count for which prototype."""
    check_lengths(regions=regions, y=y)
    own = membership(y, prototype_labels, regions.n_prototypes, classes)
    return regions.valid if own is None else own & regions.valid


def mean_over_prototypes(values: NDArray[np.float64]) -> float:
    """Mean of what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    return float(values[known].mean()) if known.any() else float("nan")


def part_frequencies(
    regions,
    part_locations,
    part_visible=None,
    y=None,
    prototype_labels=None,
    *,
    classes=None,
    input_shape=None,
) -> NDArray[np.float64]:
    r"""How often each prototype points at each part.

    .. math:: a_{pm} = \frac{\sum_i o_{ipm}}{\max(1, \sum_i v_{im})}

    over the samples of the prototype's class, with :math:`o_{ipm}` = 1 where part m
    is visible and in the region, :math:`v_{im}` = 1 where it is visible.

    Parameters
    ----------
    regions : PrototypeRegions, FeatureRegions or array-like of shape (n, P, h, w)
        Regions, or similarity maps.

    part_locations : array-like of shape (n, M, 2) or (M, f)
        Pixels x and y of the parts; for tables groups of features, as bool.

    part_visible : array-like of shape (n, M), default=None
        Whether the part can be seen; None: all can.

    y : array-like of shape (n,), default=None
        Labels of the samples; None: all count for all prototypes.

    prototype_labels : array-like of shape (P,) or (P, K), default=None
        Label of each prototype; as bool, for which of `classes` it speaks, see
        :func:`prototype_classes`.

    classes : array-like of shape (K,), default=None
        Labels of the columns of `prototype_labels`.

    input_shape : tuple of int, default=None
        Height and width of the images; needed with maps.

    Returns
    -------
    frequencies : ndarray of shape (P, M)
        From 0 to 1; NaN for prototypes without any sample that counts.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.metrics import part_frequencies
    >>> maps = np.zeros((2, 1, 8, 8))
    >>> maps[:, 0, 0, 0] = 1
    >>> places = [[[0, 0], [7, 7]], [[1, 0], [0, 0]]]
    >>> part_frequencies(maps, places, input_shape=(8, 8)).tolist()
    [[1.0, 0.5]]
    """
    regions = as_regions(regions, input_shape)
    own = own_samples(regions, y, prototype_labels, classes)
    return _frequencies(
        regions.hits(part_locations, part_visible),
        regions.visible(part_locations, part_visible),
        own,
    )


def _frequencies(hits, visible, own) -> NDArray[np.float64]:
    """Share (P, M) of the samples (n, P) with a visible part (n, M) that hit it."""
    n_hits = np.einsum("npm,np->pm", hits, own, dtype=np.float64, casting="unsafe")
    n_seen = own.T.astype(np.float64) @ visible.astype(np.float64)
    found = n_hits / np.maximum(n_seen, 1.0)
    found[~own.any(axis=0)] = np.nan
    return np.asarray(found)


def consistency_score(
    regions,
    part_locations,
    part_visible=None,
    y=None,
    prototype_labels=None,
    threshold=0.8,
    *,
    soft=False,
    per_prototype=False,
    classes=None,
    input_shape=None,
):
    r"""Share of the prototypes that point at one and the same part.

    A prototype is consistent if :math:`\max_m a_{pm} \geq` `threshold`, with the
    frequencies :math:`a_{pm}` of :func:`part_frequencies`.

    Parameters
    ----------
    regions : PrototypeRegions, FeatureRegions or array-like of shape (n, P, h, w)
        Regions, or similarity maps.

    part_locations : array-like of shape (n, M, 2) or (M, f)
        Pixels x and y of the parts; for tables groups of features, as bool.

    part_visible : array-like of shape (n, M), default=None
        Whether the part can be seen; None: all can.

    y : array-like of shape (n,), default=None
        Labels of the samples; None: all count for all prototypes.

    prototype_labels : array-like of shape (P,) or (P, K), default=None
        Label of each prototype; as bool, for which of `classes` it speaks.

    threshold : float, default=0.8
        In (0, 1]. The paper takes 0.8.

    soft : bool, default=False
        Average the highest frequencies themselves: no cliff at the threshold.

    per_prototype : bool, default=False
        Return one value for each prototype.

    classes : array-like of shape (K,), default=None
        Labels of the columns of `prototype_labels`.

    input_shape : tuple of int, default=None
        Height and width of the images; needed with maps.

    Returns
    -------
    score : float or ndarray of shape (P,)
        From 0 to 1. Prototypes without samples do not count; they are NaN. Large
        regions hit more: compare with ``regions.at_random()``.

    Raises
    ------
    ValueError
        If shapes disagree, no part is visible, or the threshold is out of range.

    Warns
    -----
    UserWarning
        If a prototype has fewer than 5 samples.

    References
    ----------
    Huang, Q. et al. (2023). Evaluation and Improvement of Interpretability for
    Self-Explainable Part-Prototype Networks. *ICCV*, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.metrics import consistency_score
    >>> maps = np.zeros((5, 1, 8, 8))
    >>> maps[:4, 0, 0, 0] = 1
    >>> maps[4, 0, 7, 7] = 1
    >>> places = np.zeros((5, 1, 2))
    >>> consistency_score(maps, places, input_shape=(8, 8))
    1.0
    >>> consistency_score(maps, places, input_shape=(8, 8), threshold=0.81)
    0.0
    """
    check_share("threshold", threshold)
    regions = as_regions(regions, input_shape)
    own = own_samples(regions, y, prototype_labels, classes)
    _warn_if_few(own)
    highest = _frequencies(
        regions.hits(part_locations, part_visible),
        regions.visible(part_locations, part_visible),
        own,
    ).max(axis=1)
    values = highest
    if not soft:
        values = np.where(np.isnan(highest), np.nan, highest >= threshold)
    return values if per_prototype else mean_over_prototypes(values)


def _warn_if_few(own) -> None:
    n_samples = own.sum(axis=0)
    few = int(((n_samples > 0) & (n_samples < FEW_IMAGES)).sum())
    if few:
        warnings.warn(
            f"{few} prototypes have fewer than {FEW_IMAGES} samples of their class: "
            "what is said of them is uncertain.",
            UserWarning,
            stacklevel=3,
        )


def merge_parts(hits, visible, merge: Sequence[Sequence[int]] | None):
    """Join parts, such as left and right ones: seen or hit if one of them is."""
    if merge is None:
        return hits, visible
    n_parts = visible.shape[1]
    group = np.arange(n_parts)
    for parts in merge:  # one step for each group that the user names
        named = np.asarray(parts)
        if named.size < 2 or (named < 0).any() or (named >= n_parts).any():
            raise ValueError(
                "merge must hold groups of at least two parts, numbered from 0 to "
                f"{n_parts - 1}. Got {merge!r}."
            )
        group[np.isin(group, group[named])] = group[named].min()
    _, group = np.unique(group, return_inverse=True)
    joins = (group[:, None] == np.arange(group.max() + 1)).astype(np.float32)
    return hits.astype(np.float32) @ joins > 0, visible.astype(np.float32) @ joins > 0


def top_samples(similarities, allowed, top_k, min_similarity=None) -> NDArray[np.bool_]:
    """Mark the `top_k` samples (n, P) most like each prototype, the first of equals."""
    allowed = allowed.copy()
    if min_similarity is not None:
        allowed &= similarities > min_similarity
    if top_k is None:
        return np.asarray(allowed)
    ranked = np.where(allowed, similarities, -np.inf)
    order = np.argsort(-ranked, axis=0, kind="stable")[:top_k]
    chosen = np.zeros(allowed.shape, dtype=bool)
    np.put_along_axis(chosen, order, True, axis=0)
    return np.asarray(chosen & allowed)


def purity_score(
    regions,
    part_locations,
    part_visible=None,
    *,
    top_k=10,
    min_similarity=None,
    merge=None,
    part="best",
    weights=None,
    tol=1e-5,
    per_prototype=False,
    input_shape=None,
):
    """Purity of the best examples of each prototype: is it always the same part.

    The purity of a prototype is the highest share, over the parts, of its examples in
    whose region the part lies, among the examples in which it is visible.

    Parameters
    ----------
    regions : PrototypeRegions, FeatureRegions or array-like of shape (n, P, h, w)
        Regions, or similarity maps, whose regions then are 32 / 224 of the image wide.

    part_locations : array-like of shape (n, M, 2) or (M, f)
        Pixels x and y of the parts; for tables groups of features, as bool.

    part_visible : array-like of shape (n, M), default=None
        Whether the part can be seen; None: all can.

    top_k : int or None, default=10
        Samples most like a prototype that are its examples; None takes all.

    min_similarity : float, default=None
        Only samples more similar than this are examples.

    merge : sequence of sequences of int, default=None
        Groups of parts that count as one, such as left and right.

    part : {"best", "most_frequent"}, default="best"
        Whether the purest part counts or the one that was met most often.

    weights : array-like of shape (P, K), default=None
        Weights of the head; prototypes without one above `tol` do not count.

    tol : float, default=1e-5
        Weight from which on a prototype counts.

    per_prototype : bool, default=False
        Return one value for each prototype.

    input_shape : tuple of int, default=None
        Height and width of the images; needed with maps.

    Returns
    -------
    score : float or ndarray of shape (P,)
        From 0 to 1; NaN for prototypes without examples.

    Raises
    ------
    ValueError
        If shapes disagree, no part is visible, or an option is unknown.

    References
    ----------
    Nauta, M., Schlötterer, J., van Keulen, M. and Seifert, C. (2023). PIP-Net:
    Patch-Based Intuitive Prototypes for Interpretable Image Classification. *CVPR*.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.metrics import purity_score
    >>> maps = np.zeros((5, 1, 8, 8))
    >>> maps[:4, 0, 0, 0] = 1
    >>> maps[4, 0, 7, 7] = 0.5
    >>> places = np.zeros((5, 1, 2))
    >>> purity_score(maps, places, input_shape=(8, 8))
    0.8
    >>> purity_score(maps, places, input_shape=(8, 8), top_k=4)
    1.0
    """
    check_option("part", part, ("best", "most_frequent"))
    if top_k is not None:
        check_count("top_k", top_k, 1)
    regions = as_regions(regions, input_shape, PURITY_HALF_SIZE)
    chosen = top_samples(regions.similarities, regions.valid, top_k, min_similarity)
    if weights is not None:
        chosen &= _counts(weights, regions.n_prototypes, tol)
    hits, visible = merge_parts(
        regions.hits(part_locations, part_visible),
        regions.visible(part_locations, part_visible),
        merge,
    )
    found = _frequencies(hits, visible, chosen)
    values = found.max(axis=1)
    if part == "most_frequent":
        met = (hits & chosen[..., None]).sum(axis=0).argmax(axis=1)
        values = found[np.arange(len(met)), met]
    return values if per_prototype else mean_over_prototypes(values)


def _counts(weights, n_prototypes: int, tol: float) -> NDArray[np.bool_]:
    weights = np.asarray(weights)
    if weights.ndim != 2 or len(weights) != n_prototypes:
        raise ValueError(
            f"weights must have shape ({n_prototypes}, n_classes). Got {weights.shape}."
        )
    return np.asarray((weights > tol).any(axis=1))
