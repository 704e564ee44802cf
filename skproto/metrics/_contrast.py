"""How spread out similarities are over places, and how well matches are set apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy
from sklearn.utils.validation import check_is_fitted

from skproto.metrics._inputs import (
    check_labels,
    check_lengths,
    check_maps,
    final_estimator,
    membership,
    prototype_classes,
    sample_chunks,
)
from skproto.metrics._parts import mean_over_prototypes

# Vectors shorter than this have no direction.
SHORTEST = 1e-12


def activation_entropy(
    maps, y=None, prototype_labels=None, *, classes=None, per_prototype=False
):
    r"""How spread out the similarity of a prototype is over the places of an image.

    .. math:: H_{ip} = - \frac{1}{\log T} \sum_t q_{ipt} \log q_{ipt}, \qquad
        q_{ipt} = \max(A_{ipt}, 0) / \sum_u \max(A_{ipu}, 0)

    with the similarity A at T sites. 0: all of it is at one site; 1: it is the same at
    all sites, and the place that is shown means nothing.

    Parameters
    ----------
    maps : array-like of shape (n, P, h, w)
        Similarities, as `similarity_maps` returns them. Negative ones count as 0.

    y : array-like of shape (n,), default=None
        Labels: only images of its classes count for a prototype. None: all count.

    prototype_labels : array-like of shape (P,) or (P, K), default=None
        Label of each prototype, or which of `classes` it speaks for.

    classes : array-like of shape (K,), default=None
        Labels behind the columns of `prototype_labels`.

    per_prototype : bool, default=False
        Return one value for each prototype.

    Returns
    -------
    entropy : float or ndarray of shape (P,)
        Mean over the images, from 0 to 1; NaN where a prototype is similar to nothing.

    Raises
    ------
    ValueError
        If `maps` have one site only, or shapes disagree.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.metrics import activation_entropy
    >>> maps = np.zeros((1, 2, 2, 2))
    >>> maps[0, 0, 0, 0], maps[0, 1] = 1.0, 0.5
    >>> activation_entropy(maps, per_prototype=True).tolist()
    [0.0, 1.0]
    """
    maps = check_maps(maps)
    n_samples, n_prototypes = maps.shape[:2]
    flat = np.maximum(maps.reshape(n_samples, n_prototypes, -1), 0.0, dtype=np.float64)
    n_sites = flat.shape[2]
    if n_sites < 2:
        raise ValueError("maps must have at least 2 sites. Got 1.")
    total = flat.sum(axis=2)
    share = flat / np.where(total > 0, total, 1.0)[..., None]
    values = np.maximum(-xlogy(share, share).sum(axis=2), 0.0) / np.log(n_sites)
    counts = total > 0
    own = membership(y, prototype_labels, n_prototypes, classes)
    if own is not None:
        check_lengths(maps=maps, y=y)
        counts &= own
    n_counted = counts.sum(axis=0)
    mean = np.where(counts, values, 0.0).sum(axis=0) / np.maximum(n_counted, 1)
    found = np.where(n_counted > 0, mean, np.nan)
    return found if per_prototype else mean_over_prototypes(found)


def contrast_scores(estimator, X, y, *, per_prototype=False) -> dict[str, Any]:
    r"""How alike the matched parts of a prototype's own classes are, and of others.

    The matched vector :math:`z_{ip}` is what the encoder says of the site of sample i
    that is most similar to prototype p. "within" is the mean cosine distance of two
    matched vectors of samples of p's own classes, "between" that of one of its own and
    one of other classes.

    Parameters
    ----------
    estimator : fitted estimator
        Fitted to images, tokens or a table; no ensemble.

    X : array-like of shape (n, ...)
        Samples.

    y : array-like of shape (n,)
        Their labels.

    per_prototype : bool, default=False
        Return one value for each prototype.

    Returns
    -------
    scores : dict of str to float or ndarray of shape (P,)
        "within" and "between", from 0 to 2, and "contrast", between less within:
        larger is better set apart. NaN with fewer than two samples of a prototype's
        classes, or none of others.

    Raises
    ------
    TypeError
        If the estimator has no encoder of its own (an ensemble).

    Notes
    -----
    Linear in the number of samples: the mean over pairs follows from the sums of the
    unit vectors. Of prototypes of several parts the parts are averaged.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import contrast_scores
    >>> from skproto.shallow import GLVQClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GLVQClassifier(1, random_state=0).fit(X, y)
    >>> scores = contrast_scores(model, X, y)
    >>> scores["within"] < scores["between"]
    True
    """
    estimator, X = final_estimator(estimator, X)
    check_is_fitted(estimator)
    if not hasattr(getattr(estimator, "net_", None), "module_"):
        raise TypeError(
            "contrast_scores needs an estimator with an encoder of its own. Got "
            f"{type(estimator).__name__}; pass its members one by one."
        )
    y = check_labels(estimator, y)
    speaks = prototype_classes(estimator)
    own = membership(y, speaks, len(speaks), estimator.classes_)
    sums, start = np.zeros(()), 0
    per_sample = 64 * len(estimator.prototypes_)
    for part in sample_chunks(estimator, X, per_sample):
        vectors = matched_vectors(estimator, part)
        stop = start + len(vectors)
        check_lengths(X=vectors, y=y[start:stop])
        sides = np.stack([own[start:stop], ~own[start:stop]]).astype(np.float64)
        # (2, n, P), (n, P, M, D) -> (2, P, M, D)
        sums = sums + np.einsum("snp,npmd->spmd", sides, vectors)
        start = stop
    check_lengths(X=np.empty(start), y=y)
    values = _distances(sums, own.sum(axis=0), (~own).sum(axis=0))
    if per_prototype:
        return values
    return {name: mean_over_prototypes(value) for name, value in values.items()}


def _distances(sums, n_own, n_other) -> dict[str, NDArray[np.float64]]:
    """Mean cosine distances (P,) of pairs, by the sums (2, P, M, D) of unit vectors."""
    own, other = sums
    # Parts that are switched off have no vectors.
    on = ((own**2).sum(axis=2) + (other**2).sum(axis=2) > 0).astype(np.float64)
    on /= np.maximum(on.sum(axis=1, keepdims=True), 1)
    n_own, n_other = n_own.astype(np.float64), n_other.astype(np.float64)
    pairs = n_own * (n_own - 1)
    inside = (on * ((own**2).sum(axis=2) - n_own[:, None])).sum(axis=1)
    across = (on * (own * other).sum(axis=2)).sum(axis=1)
    within = np.where(pairs > 0, 1 - inside / np.maximum(pairs, 1), np.nan)
    both = n_own * n_other
    between = np.where(both > 0, 1 - across / np.maximum(both, 1), np.nan)
    return {"within": within, "between": between, "contrast": between - within}


def matched_vectors(estimator, X) -> NDArray[np.float64]:
    """Return unit vectors (n, P, M, D) of the sites that prototypes are found at."""
    X = estimator._check_input(X)
    module = estimator._module
    encode = getattr(module, "encode", module.encoder)

    def run(x):
        z = encode(x)
        z = z[0] if isinstance(z, tuple) else z
        return {"z": z[:, None] if z.ndim == 2 else z}

    z = estimator._forward(X, run=run)["z"].astype(np.float64)
    sites = estimator._forward(X, ("sites",)).get("sites")
    if sites is None:  # prototypes are whole samples
        z = z.reshape(len(z), 1, -1)
        sites = np.zeros((len(z), len(estimator.prototypes_)), dtype=np.int64)
    sites = sites.reshape(*sites.shape[:2], -1)
    rows = np.arange(len(z))[:, None, None]
    vectors = z[rows, np.maximum(sites, 0)]
    length = np.linalg.norm(vectors, axis=3, keepdims=True)
    unit = vectors / np.where(length > SHORTEST, length, np.inf)
    return np.where(sites[..., None] >= 0, unit, 0.0)
