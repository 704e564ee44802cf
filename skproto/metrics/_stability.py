"""Whether prototypes point at the same part when the sample is disturbed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skproto.metrics._estimator_regions import regions_of
from skproto.metrics._inputs import (
    check_count,
    check_labels,
    check_lengths,
    check_option,
    final_estimator,
    is_tabular,
    prototype_classes,
    sample_chunks,
)
from skproto.metrics._parts import mean_over_prototypes, own_samples
from skproto.utils._random import random_source


def region_agreement(
    regions,
    others,
    part_locations,
    part_visible=None,
    y=None,
    prototype_labels=None,
    *,
    kind="exact",
    on_parts=False,
    classes=None,
    per_prototype=False,
):
    """How often two sets of regions of the same samples hold the same parts.

    Parameters
    ----------
    regions, others : PrototypeRegions or FeatureRegions
        Regions of the same samples, for example before and after noise.

    part_locations : array-like of shape (n, M, 2) or (M, f)
        Pixels x and y of the parts; for tables groups of features, as bool.

    part_visible : array-like of shape (n, M), default=None
        Whether the part can be seen; None: all can.

    y : array-like of shape (n,), default=None
        Labels of the samples; None: all count for all prototypes.

    prototype_labels : array-like of shape (P,) or (P, K), default=None
        Label of each prototype; as bool, for which of `classes` it speaks.

    kind : {"exact", "jaccard"}, default="exact"
        Whether all parts must be the same, or their intersection over union counts.

    on_parts : bool, default=False
        Count only samples in which the first region holds a part. Without it a
        prototype that always points at the background agrees with itself.

    classes : array-like of shape (K,), default=None
        Labels of the columns of `prototype_labels`.

    per_prototype : bool, default=False
        Return one value for each prototype.

    Returns
    -------
    score : float or ndarray of shape (P,)
        From 0 to 1; NaN for prototypes without any sample that counts.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.metrics import prototype_regions, region_agreement
    >>> maps = np.zeros((1, 1, 8, 8))
    >>> maps[0, 0, 0, 0] = 1
    >>> regions = prototype_regions(maps, (8, 8))
    >>> others = prototype_regions(maps[..., ::-1, ::-1], (8, 8))
    >>> region_agreement(regions, others, [[[0, 0], [3, 3]]])
    0.0
    """
    check_option("kind", kind, ("exact", "jaccard"))
    check_lengths(regions=regions, others=others)
    own = own_samples(regions, y, prototype_labels, classes) & others.valid
    before = regions.hits(part_locations, part_visible)
    after = others.hits(part_locations, part_visible)
    if on_parts:
        own &= before.any(axis=2)
    same = (before == after).all(axis=2).astype(np.float64)
    if kind == "jaccard":
        union = (before | after).sum(axis=2)
        same = np.where(union, (before & after).sum(axis=2) / np.maximum(union, 1), 1.0)
    values = class_means(same, own)
    return values if per_prototype else mean_over_prototypes(values)


def class_means(values, own) -> NDArray[np.float64]:
    """Mean (P,) of values (n, P) where `own`, NaN where nothing is."""
    n_samples = own.sum(axis=0)
    total = np.where(own, values, 0.0).sum(axis=0)
    return np.where(n_samples > 0, total / np.maximum(n_samples, 1), np.nan)


def with_noise(estimator, X, noise: float, clip: float, rng):
    """Return samples with normal noise in the normalised units of the estimator."""
    X = np.asarray(X.to_numpy() if hasattr(X, "to_numpy") else X)
    drawn = rng.normal(scale=noise, size=X.shape).clip(-clip, clip)
    scale = np.asarray(getattr(estimator, "scale_", 1.0), dtype=np.float64)
    if X.ndim == 4:
        scale = scale.reshape(-1, 1, 1)
    elif not is_tabular(estimator) and X.ndim == 2:  # flattened images
        scale = np.repeat(scale, X.shape[1] // scale.size)
    kind = X.dtype if X.dtype.kind == "f" else np.float32
    return (X + drawn * scale).astype(kind)


def stability_score(
    estimator,
    X,
    part_locations,
    part_visible=None,
    y=None,
    *,
    noise=0.2,
    clip=0.25,
    n_repeats=1,
    kind="exact",
    on_parts=False,
    per_prototype=False,
    half_size=None,
    upsample="nearest",
    random_state=None,
):
    r"""How often prototypes point at the same parts when noise is added.

    To every value :math:`\mathrm{clip}(\epsilon, -c, c)`, :math:`\epsilon \sim N(0,
    \sigma^2)`, is added in the normalised units of the estimator.

    Parameters
    ----------
    estimator : fitted estimator
        Fitted to images or to a table; a pipeline that ends in one will do.

    X : array-like of shape (n, ...)
        Samples.

    part_locations : array-like of shape (n, M, 2) or (M, f)
        Pixels x and y of the parts; for tables groups of features, as bool.

    part_visible : array-like of shape (n, M), default=None
        Whether the part can be seen; None: all can.

    y : array-like of shape (n,), default=None
        Labels: only samples of its classes count for a prototype. None: all count.

    noise : float, default=0.2
        Standard deviation of the noise.

    clip : float, default=0.25
        Largest change.

    n_repeats : int, default=1
        Number of draws that are averaged.

    kind : {"exact", "jaccard"}, default="exact"
        Whether all parts must be the same, or their intersection over union counts.

    on_parts : bool, default=False
        Count only samples in which the undisturbed region holds a part. Without it a
        prototype that looks at the background counts as stable, as in the paper.

    per_prototype : bool, default=False
        Return one value for each prototype.

    half_size, upsample : object
        See :func:`prototype_regions`.

    random_state : int, RandomState instance or None, default=None
        Seed of the noise.

    Returns
    -------
    score : float or ndarray of shape (P,)
        From 0 to 1; NaN for prototypes without any sample that counts.

    Raises
    ------
    ValueError
        If shapes disagree, no part is visible, or labels are not known.

    TypeError
        If the estimator has neither maps nor prototypes among features.

    References
    ----------
    Huang, Q. et al. (2023). Evaluation and Improvement of Interpretability for
    Self-Explainable Part-Prototype Networks. *ICCV*, section 3.

    Examples
    --------
    Groups of features are the parts of a table:

    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import stability_score
    >>> from skproto.shallow import GLVQClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GLVQClassifier(random_state=0).fit(X, y)
    >>> groups = [[True, True, False, False], [False, False, True, True]]
    >>> stability_score(model, X, groups, y=y, noise=0.0)
    1.0
    """
    check_count("n_repeats", n_repeats, 1)
    if noise < 0 or clip < 0:
        raise ValueError(
            f"noise and clip must be at least 0. Got noise={noise!r}, clip={clip!r}."
        )
    estimator, X = final_estimator(estimator, X)
    labels = None if y is None else prototype_classes(estimator)
    y = None if y is None else check_labels(estimator, y)
    regions = regions_of(estimator, X, half_size, upsample)
    rng = random_source(random_state)
    found = []
    for _ in range(n_repeats):
        noisy = _noisy_samples(estimator, X, noise, clip, rng)
        agreement = region_agreement(
            regions,
            regions_of(estimator, noisy, half_size, upsample),
            part_locations,
            part_visible,
            y,
            labels,
            kind=kind,
            on_parts=on_parts,
            classes=estimator.classes_,
            per_prototype=True,
        )
        found.append(agreement)
    values = np.mean(found, axis=0)
    return values if per_prototype else mean_over_prototypes(values)


def _noisy_samples(estimator, X, noise: float, clip: float, rng) -> np.ndarray:
    parts = [
        with_noise(estimator, part, noise, clip, rng)
        for part in sample_chunks(estimator, X, 256)
    ]
    return np.concatenate(parts)
