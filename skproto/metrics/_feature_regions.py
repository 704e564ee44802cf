"""The features that say most that a row is like a prototype: regions of tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skproto.metrics._inputs import (
    check_visible,
    chunk_size,
    final_estimator,
    is_tabular,
)
from skproto.training import chunks
from skproto.utils._random import random_source

# Share of the features of a table that a region holds.
FEATURE_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class FeatureRegions:
    """Which features of a row say most that it is like a prototype: regions of tables.

    Parameters
    ----------
    selected : ndarray of shape (n, P, f), bool
        The features.

    similarities : ndarray of shape (n, P)
        Similarity, by which samples are ranked.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto.metrics import FeatureRegions
    >>> regions = FeatureRegions(np.array([[[True, False, False]]]), np.ones((1, 1)))
    >>> regions.hits([[True, True, False], [False, False, True]]).tolist()
    [[[True, False]]]
    """

    selected: NDArray[np.bool_]
    similarities: NDArray[np.floating]

    def __len__(self) -> int:
        return len(self.selected)

    @property
    def n_prototypes(self) -> int:
        """Number of prototypes."""
        return int(self.selected.shape[1])

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Whether a region (n, P) holds any feature."""
        return np.asarray(self.selected.any(axis=2))

    @property
    def area(self) -> NDArray[np.float64]:
        """Share (n, P) of the features that each region holds."""
        return self.selected.mean(axis=2)

    def take(self, rows) -> FeatureRegions:
        """Return the regions in some samples.

        Parameters
        ----------
        rows : slice or array-like of int or bool
            Which samples.

        Returns
        -------
        regions : FeatureRegions
            All prototypes in these samples.
        """
        return FeatureRegions(self.selected[rows], self.similarities[rows])

    def hits(self, part_locations, part_visible=None) -> NDArray[np.bool_]:
        """Tell which groups of features each region touches.

        Parameters
        ----------
        part_locations : array-like of shape (M, f), bool
            The features of each group.

        part_visible : array-like of shape (n, M), default=None
            Whether the group counts in a sample, None: always.

        Returns
        -------
        hits : ndarray of shape (n, P, M), bool
            Whether a group has a feature in the region.
        """
        groups = self._groups(part_locations)
        seen = check_visible(part_visible, (len(self), len(groups)))
        touched = self.selected.astype(np.float32) @ groups.T.astype(np.float32) > 0
        return np.asarray(touched & seen[:, None, :])

    def visible(self, part_locations, part_visible=None) -> NDArray[np.bool_]:
        """Tell which groups count.

        Parameters
        ----------
        part_locations : array-like of shape (M, f), bool
            The features of each group.

        part_visible : array-like of shape (n, M), default=None
            Whether the group counts in a sample, None: always.

        Returns
        -------
        visible : ndarray of shape (n, M), bool
            Checked against the groups.
        """
        n_groups = len(self._groups(part_locations))
        return check_visible(part_visible, (len(self), n_groups))

    def _groups(self, part_locations) -> NDArray[np.bool_]:
        groups = np.asarray(part_locations).astype(bool)
        n_features = self.selected.shape[2]
        if groups.ndim != 2 or groups.shape[1] != n_features:
            raise ValueError(
                "part_locations of a table must be groups of features, a bool array "
                f"of shape (n_groups, {n_features}). Got shape {groups.shape}."
            )
        return groups

    def at_random(self, random_state=None) -> FeatureRegions:
        """Return regions of as many features, drawn at random.

        Parameters
        ----------
        random_state : int, RandomState instance or None, default=None
            Seed of the features.

        Returns
        -------
        regions : FeatureRegions
            The similarities, which rank the samples, stay.
        """
        draws = random_source(random_state).uniform(size=self.selected.shape)
        order = draws.argsort(axis=2).argsort(axis=2)
        chosen = order < self.selected.sum(axis=2, keepdims=True)
        return FeatureRegions(chosen, self.similarities)


def feature_regions(estimator, X, n_top=None) -> FeatureRegions:
    r"""Find the features that say most that rows are like each prototype.

    With weights :math:`w_{pf}` in the squared distance (1 where there are none), the
    feature :math:`f` brings row :math:`x` closer to prototype :math:`p` than rows are
    on average by :math:`w_{pf} (\mathrm{mean}_j (x_{jf} - p_f)^2 - (x_f - p_f)^2)`,
    in scaled units; the means are over the rows given. The largest make the region.

    Parameters
    ----------
    estimator : fitted estimator
        Fitted to a table, with prototypes in the space of its features.

    X : array-like of shape (n, f)
        Rows.

    n_top : int, default=None
        Features in a region; None is a tenth of all, at least 1.

    Returns
    -------
    regions : FeatureRegions
        Take the place of regions in consistency, purity and stability; groups of
        features take the place of parts.

    Raises
    ------
    TypeError
        If the prototypes do not live in the space of the features.

    ValueError
        If `n_top` is not between 1 and the number of features.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import feature_regions
    >>> from skproto.shallow import GLVQClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GLVQClassifier(1, random_state=0).fit(X, y)
    >>> regions = feature_regions(model, X, n_top=2)
    >>> regions.selected.shape, int(regions.selected[0, 0].sum())
    ((150, 3, 4), 2)
    """
    estimator, X = final_estimator(estimator, X)
    table = estimator.explain_global().prototypes if is_tabular(estimator) else None
    if table is None or table.values is None:
        raise TypeError(
            "feature_regions needs prototypes in the space of the features of a "
            f"table. {type(estimator).__name__} was fitted otherwise."
        )
    n_features = table.values.shape[1]
    top = max(1, round(FEATURE_SHARE * n_features)) if n_top is None else n_top
    if not 1 <= top <= n_features:
        raise ValueError(
            f"n_top must be an int from 1 to {n_features}, the number of features. Got "
            f"{n_top!r}."
        )
    return FeatureRegions(
        _closest_features(estimator, X, table, int(top)),
        np.asarray(estimator.transform(X), dtype=np.float64),
    )


def _closest_features(estimator, X, table, top: int) -> NDArray[np.bool_]:
    scaling = estimator._scaling
    rows = scaling.apply(estimator._check_input(X))
    rows = rows.astype(np.float64)
    p = scaling.apply(np.asarray(table.values))
    weights = np.ones(p.shape) if table.weights is None else np.asarray(table.weights)
    usual = (rows**2).mean(axis=0) - 2 * rows.mean(axis=0) * p + p**2
    selected = np.empty((len(rows), *p.shape), dtype=bool)
    for part in chunks(len(rows), chunk_size(4 * p.size)):
        gain = weights * (usual - (rows[part][:, None, :] - p) ** 2)
        order = np.argsort(-gain, axis=2, kind="stable")
        chosen = np.zeros(gain.shape, dtype=bool)
        np.put_along_axis(chosen, order[..., :top], True, axis=2)
        selected[part] = chosen
    return selected
