"""What samples and codes are to a family: items, sites, similarities, sources."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skproto import _preparation as preparation
from skproto._projection import (
    NearestSites,
    nearest_sites,
    sample_blocks,
    site_embeddings,
)
from skproto.training import TrainingData

# Similarity above which two prototypes count as the same.
DUPLICATE = 0.999


def _class_weighted(data: TrainingData, model: Any) -> NDArray[np.float64] | None:
    """Return sample weights times class weights, of mean 1; None without the latter."""
    asked = getattr(model, "class_weight", None)
    if asked is None:
        return None
    if isinstance(asked, str):
        # "balanced": all classes that are there have the same total.
        totals = np.bincount(data.y, data.weight, data.n_classes)
        factors = 1.0 / np.where(totals > 0, totals, 1.0)
    else:
        factors = np.array([asked.get(label, 1.0) for label in model.classes_.tolist()])
    weight = data.weight * factors[data.y]
    return np.asarray(weight / weight.mean())


class ItemFamily:
    """The part of a family that reads samples and compares them with prototypes."""

    model: Any

    @property
    def module(self) -> Any:
        """The torch module."""
        return self.model._module

    def locations(self) -> NDArray[Any]:
        """Return the prototypes (P, ...) in latent space, float64."""
        return np.asarray(self.module.prototypes.detach().double().cpu().numpy())

    def labelled(self, X: Any, y: Any, sample_weight: Any) -> tuple[Any, TrainingData]:
        """Return validated samples, and with their classes as data of the model."""
        X, data = self.model._labelled(X, y, sample_weight)
        weight = _class_weighted(data, self.model)
        return X, data if weight is None else replace(data, weight=weight)

    def codes_of(self, X: Any, y: Any) -> NDArray[np.int64]:
        """Return the class codes of labels, which must be known."""
        return np.asarray(self.model._label_codes(X, y))

    @property
    def has_sites(self) -> bool:
        """Whether an item is one of several sites of a sample."""
        return bool(self.module.encoder.n_sites > 1)

    def item_codes(
        self, data: TrainingData, sites: Any, anchors: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64] | None]:
        """Return what samples stand for as items.

        Parameters
        ----------
        data : TrainingData
            The m samples.

        sites : object
            Which sites the user means; None: those that match the anchors best.

        anchors : ndarray of bool of shape (m, P)
            Prototypes by which sites are chosen.

        Returns
        -------
        codes : ndarray of shape (m, ...)
            In latent space.

        places : ndarray of shape (m,) or (m, M)
            Their sites.

        boxes : ndarray or None
            Pixels, where they are not those of the sites.
        """
        candidates = self.candidates(data)
        if sites is None:
            places = self.choose_sites(candidates, anchors)
        else:
            places = np.resize(np.asarray(sites, dtype=np.int64), len(candidates))
            if (places < 0).any() or (places >= candidates.shape[1]).any():
                raise ValueError(
                    f"sites must be in the range [0, {candidates.shape[1]}). Got "
                    f"{sites!r}."
                )
        return candidates[np.arange(len(candidates)), places], places, None

    def random_codes(
        self, data: TrainingData, rng: np.random.RandomState
    ) -> NDArray[Any]:
        """Return codes (n, ...) of one random site of each sample."""
        candidates = self.candidates(data)
        sites = rng.randint(candidates.shape[1], size=len(candidates))
        return candidates[np.arange(len(candidates)), sites]

    def alike(self, data: TrainingData) -> NDArray[np.float64]:
        """Return similarities (n, P) of samples to prototypes, those of best sites."""
        candidates = self.candidates(data)
        m, n_sites = candidates.shape[:2]
        flat = self.similarity(candidates.reshape(m * n_sites, *candidates.shape[2:]))
        return np.asarray(flat.reshape(m, n_sites, -1).max(axis=1))

    def source_codes(
        self,
        data: TrainingData,
        index: NDArray[np.int64],
        sites: NDArray[np.int64],
        positions: NDArray[np.int64],
    ) -> NDArray[Any]:
        """Return codes (m, ...) of the sites of samples that prototypes come from."""
        found = site_embeddings(self.module, data, index, sites)
        return np.asarray(found.cpu().numpy())

    def places_of(
        self,
        data: TrainingData,
        index: NDArray[np.int64],
        sites: NDArray[np.int64],
        positions: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Return sites (m,) or (m, M) and boxes of what prototypes come from.

        `index` and `sites` are numbers of the samples in the data and the sites that
        :meth:`nearest` has found.
        """
        return sites, self.boxes_of(sites, positions)

    def boxes_of(
        self, sites: NDArray[np.int64], positions: NDArray[np.int64]
    ) -> NDArray[np.int64] | None:
        """Return pixels (m, 4) of sources where they are not those of the sites."""
        return None

    def plain_data(self, X: Any) -> TrainingData:
        """Return validated samples as data, in their order, without classes."""
        n = X.shape[0]
        return TrainingData(
            X=preparation.scaled_samples(X, self.model._scaling),
            y=np.zeros(n, dtype=np.int64),
            weight=np.ones(n),
            rows=np.arange(n),
            n_classes=len(self.model.classes_),
            rng=np.random.RandomState(0),
        )

    def candidates(self, data: TrainingData) -> NDArray[Any]:
        """Return what samples can become: codes (n, T, ...) of their T sites."""
        parts = []
        for rows, x in sample_blocks(data, self.module.prototypes.device):
            with torch.inference_mode():
                parts.append(self.module.encoder(x)[: len(rows)].cpu().numpy())
        return np.concatenate(parts)

    def similarity(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return similarities (m, P) of codes (m, ...) to the prototypes, 1 the same.

        By default :math:`1 / (1 + d^2)` of Euclidean distances.
        """
        p = self.locations().reshape(len(self.locations()), -1)
        z = np.asarray(codes, dtype=np.float64).reshape(len(codes), -1)
        squared = ((z[:, None, :] - p) ** 2).sum(axis=2)
        return np.asarray(1.0 / (1.0 + squared))

    def duplicates(self) -> NDArray[np.int64]:
        """Return pairs (m, 2) of positions of prototypes of one place, ordered."""
        alike = self.similarity(self.locations())
        return np.argwhere(np.triu(alike > DUPLICATE, 1))

    def distances(
        self, codes: NDArray[Any], positions: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return exact distances (m,) of prototypes from codes (m, ...), 0 the same."""
        difference = np.asarray(codes, dtype=np.float64) - self.locations()[positions]
        flat = difference.reshape(len(difference), -1)
        return np.asarray(np.sqrt((flat * flat).sum(axis=1)))

    def choose_sites(
        self, candidates: NDArray[Any], anchors: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Choose a site of each item: the most similar to one of its anchors.

        Parameters
        ----------
        candidates : ndarray of shape (m, T, ...)
            Codes of the sites.

        anchors : ndarray of bool of shape (m, P)
            Prototypes that count: the one that is replaced, those of the class.
        """
        m, n_sites = candidates.shape[:2]
        if n_sites == 1:
            return np.zeros(m, dtype=np.int64)
        alike = self.similarity(candidates.reshape(m * n_sites, *candidates.shape[2:]))
        alike = alike.reshape(m, n_sites, -1)
        alike = np.where(anchors[:, None, :], alike, -np.inf)
        return np.asarray(alike.max(axis=2).argmax(axis=1))

    def nearest(self, data: TrainingData, codes: NDArray[np.int64] | None, k: int = 1):
        """Return the training samples nearest to every prototype.

        Parameters
        ----------
        data : TrainingData
            Samples to choose from.

        codes : ndarray of shape (P,) or None
            Class of which a prototype's sample must be; None: any.

        Returns
        -------
        nearest : NearestSites
            See :func:`skproto._projection.nearest_sites`.
        """
        owners = None
        if codes is not None:
            owners = codes[:, None] == np.arange(data.n_classes)
        found: NearestSites = nearest_sites(self.module, data, owners, k)
        return found
