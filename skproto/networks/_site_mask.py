"""Token arrays in which some samples are shorter than others."""

from __future__ import annotations

import numpy as np

from skproto.networks._base import PartPrototypeClassifier
from skproto.training import chunk_rows, chunks

# Rows that a message names.
N_NAMED = 5


class SiteMaskClassifier(PartPrototypeClassifier):
    """Base of networks that take tokens with a mask of those that exist.

    A token that is NaN throughout does not exist either; a mask is another way to say
    so.
    """

    _allows_missing_tokens = True

    def fit(self, X, y=None, sample_weight=None, site_mask=None):
        """Fit the prototypes to training samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images (n_samples, n_channels, height, width) or (n_samples, height,
            width), tables (n_samples, n_features), or, with ``encoder="tokens"``,
            tokens (n_samples, n_tokens, n_dimensions). Tokens that are NaN throughout
            are padding.

        y : array-like of shape (n_samples,)
            Class labels of any kind. None where a torch Dataset given as X carries
            them.

        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; a sample of weight 0 counts as absent.

        site_mask : array-like of bool of shape (n_samples, n_tokens), default=None
            Tokens that exist; None: those that are not NaN.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a sample has fewer tokens than a prototype has parts.
        """
        return super().fit(self._masked(X, site_mask), y, sample_weight)

    def predict(self, X, site_mask=None):
        """Predict the class of samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples as in :meth:`fit`.

        site_mask : array-like of bool of shape (n_samples, n_tokens), default=None
            Tokens that exist; None: those that are not NaN.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Predicted labels; ties go to the class that comes first in `classes_`.
        """
        return super().predict(self._masked(X, site_mask))

    def predict_proba(self, X, site_mask=None):
        """Predict class probabilities of samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples as in :meth:`fit`.

        site_mask : array-like of bool of shape (n_samples, n_tokens), default=None
            Tokens that exist; None: those that are not NaN.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probabilities in the order of `classes_`; rows sum to 1.
        """
        return super().predict_proba(self._masked(X, site_mask))

    def decision_function(self, X, site_mask=None):
        """Class scores before any link, the sum of what the prototypes contribute.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples as in :meth:`fit`.

        site_mask : array-like of bool of shape (n_samples, n_tokens), default=None
            Tokens that exist; None: those that are not NaN.

        Returns
        -------
        scores : ndarray of shape (n_samples,) or (n_samples, n_classes)
            With two classes one value, positive where the second class is predicted.
        """
        return super().decision_function(self._masked(X, site_mask))

    def transform(self, X, site_mask=None):
        """Similarity of samples to every prototype.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples as in :meth:`fit`.

        site_mask : array-like of bool of shape (n_samples, n_tokens), default=None
            Tokens that exist; None: those that are not NaN.

        Returns
        -------
        activations : ndarray of shape (n_samples, n_prototypes)
            Activations, in the order of `prototypes_`.
        """
        return super().transform(self._masked(X, site_mask))

    def explain(self, X, site_mask=None):
        """Explain predictions by cases: the very numbers that make the scores.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples as in :meth:`fit`.

        site_mask : array-like of bool of shape (n_samples, n_tokens), default=None
            Tokens that exist; None: those that are not NaN.

        Returns
        -------
        explanation : Explanation
            Contributions of the prototypes to every class score, and the site of every
            part; ``explanation.contributions.sum(axis=1) + explanation.bias`` equals
            :meth:`decision_function`.
        """
        return super().explain(self._masked(X, site_mask))

    def score(self, X, y, sample_weight=None, site_mask=None):
        """Return the accuracy on samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples as in :meth:`fit`.

        y : array-like of shape (n_samples,)
            Their labels.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights.

        site_mask : array-like of bool of shape (n_samples, n_tokens), default=None
            Tokens that exist; None: those that are not NaN.

        Returns
        -------
        score : float
            Share of the samples that are classified right.
        """
        return super().score(self._masked(X, site_mask), y, sample_weight)

    def similarity_maps(self, X, site_mask=None):
        """Similarity of every prototype at every site.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images or tokens as in :meth:`fit`.

        site_mask : array-like of bool of shape (n_samples, n_tokens), default=None
            Tokens that exist; None: those that are not NaN. The others are -1.

        Returns
        -------
        maps : ndarray of shape (n_samples, n_prototypes, n_rows, n_columns)
            On the grid of the encoder; of shape (n_samples, n_prototypes, n_sites)
            where the sites have no grid.
        """
        return super().similarity_maps(self._masked(X, site_mask))

    def project(self, X, y, site_mask=None):
        """Move every prototype onto the matched tokens of the nearest sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples such as those of `fit`, not augmented.

        y : array-like of shape (n_samples,)
            Their labels; only samples of a prototype's own class count.

        site_mask : array-like of bool of shape (n_samples, n_tokens), default=None
            Tokens that exist, and that prototypes can become; None: those that are not
            NaN.

        Returns
        -------
        self : object
            The estimator; `prototype_indices_` now counts the samples of this `X`.
        """
        return super().project(self._masked(X, site_mask), y)

    def prune(self, X, y, n_neighbors=6, site_mask=None):
        """Drop prototypes that look like parts of other classes, then refit the head.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples such as those of `fit`.

        y : array-like of shape (n_samples,)
            Their labels.

        n_neighbors : int, default=6
            Number of nearest samples; a prototype goes if fewer than 3 are of its
            class. A class keeps at least one.

        site_mask : array-like of bool of shape (n_samples, n_tokens), default=None
            Tokens that exist; None: those that are not NaN.

        Returns
        -------
        self : object
            The estimator; `prototype_ids_` tells which prototypes are left.
        """
        return super().prune(self._masked(X, site_mask), y, n_neighbors)

    def refit_head(self, X, y, site_mask=None):
        """Fit the weights of the head anew: one convex problem on fixed activations.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples such as those of `fit`.

        y : array-like of shape (n_samples,)
            Their labels.

        site_mask : array-like of bool of shape (n_samples, n_tokens), default=None
            Tokens that exist; None: those that are not NaN.

        Returns
        -------
        self : object
            The estimator; nothing but the head has changed.
        """
        return super().refit_head(self._masked(X, site_mask), y)

    def _masked(self, X, site_mask):
        """Return a copy of tokens with NaN where the mask is False."""
        if site_mask is None:
            return X
        if self.encoder != "tokens":
            raise ValueError(
                "site_mask goes with tokens, that is with encoder='tokens'. Got "
                f"encoder={self.encoder!r}."
            )
        X = np.array(X, dtype=np.result_type(np.asarray(X).dtype, np.float32))
        mask = np.asarray(site_mask)
        if mask.dtype != bool or X.ndim != 3 or mask.shape != X.shape[:2]:
            raise ValueError(
                "site_mask must be an array of bool of shape (n_samples, n_tokens) "
                f"beside X of shape (n_samples, n_tokens, n_dimensions). Got dtype "
                f"{mask.dtype} and shape {mask.shape} beside {X.shape}."
            )
        X[~mask] = np.nan
        return X


def check_sites(X, n_parts: int, numbers=None) -> None:
    """Raise for samples that have fewer tokens than a prototype has parts.

    Parameters
    ----------
    X : SampleArray
        Tokens (n, T, D); those that are NaN throughout do not exist.

    n_parts : int
        Number of parts.

    numbers : ndarray of shape (n,), default=None
        What the samples are called; their position by default.
    """
    short = []
    for rows in chunks(len(X), chunk_rows(int(np.prod(X.sample_shape)))):
        counts = (~np.isnan(X[rows]).all(axis=2)).sum(axis=1)
        short += (rows.start + np.flatnonzero(counts < n_parts)).tolist()
    if short:
        named = short if numbers is None else np.asarray(numbers)[short].tolist()
        more = f" and {len(named) - N_NAMED} more" if len(named) > N_NAMED else ""
        raise ValueError(
            f"Every sample must have at least n_parts={n_parts} tokens that are not "
            "masked by site_mask or NaN. Fewer have the rows "
            f"{', '.join(map(str, named[:N_NAMED]))}{more}."
        )
