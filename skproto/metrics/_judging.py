"""What a report says of one model: one column or one number a metric."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skproto.metrics._baselines import bootstrap_interval, random_place_score
from skproto.metrics._estimator_regions import Regions, regions_of
from skproto.metrics._faithfulness import (
    additivity_error,
    completeness_score,
    explanation_sensitivity,
    faithfulness_score,
)
from skproto.metrics._inputs import (
    check_masks,
    image_size,
    maps_of,
    membership,
    prototype_classes,
    sample_chunks,
)
from skproto.metrics._parts import (
    consistency_score,
    mean_over_prototypes,
    part_frequencies,
    purity_score,
)
from skproto.metrics._regions import PURITY_HALF_SIZE, PrototypeRegions, half_pixels
from skproto.metrics._relevance import relevance_score
from skproto.metrics._size import (
    explanation_size,
    prototype_coverage,
    prototype_uniqueness,
    redundancy_score,
    sparsity_score,
)
from skproto.metrics._stability import stability_score

# Changes of each sample that the sensitivity of a report tries.
N_CHANGES = 3


@dataclass
class Annotations:
    """Parts of the samples, and how they are looked at."""

    locations: Any
    visible: Any
    y: NDArray
    merge: Any = None
    half_size: int | None = None
    noise: float = 0.2

    def per_sample(self, regions: Regions) -> tuple[Any, ...]:
        """Return regions, parts, visibility and labels, one entry for each sample."""
        where = self.locations if isinstance(regions, PrototypeRegions) else None
        return regions, where, self.visible, self.y

    def metrics(self, estimator) -> dict[str, Any]:
        """Metrics as functions of regions, parts, visibility and labels."""
        return {
            "consistency": partial(self._consistency, estimator, False),
            "soft_consistency": partial(self._consistency, estimator, True),
            "purity": self._purity,
        }

    def _consistency(self, estimator, soft, regions, where, visible, y, **options):
        with warnings.catch_warnings():
            # The table says of how many samples each prototype was judged.
            warnings.simplefilter("ignore", UserWarning)
            return consistency_score(
                regions,
                self.locations if where is None else where,
                visible,
                y,
                prototype_classes(estimator),
                soft=soft,
                classes=estimator.classes_,
                **options,
            )

    def _purity(self, regions, where, visible, y, **options):
        where = self.locations if where is None else where
        regions = smaller(regions)
        return purity_score(regions, where, visible, merge=self.merge, **options)


def smaller(regions: Regions) -> Regions:
    """Return regions of the size that purity takes, if these are larger."""
    if not isinstance(regions, PrototypeRegions) or regions.half_size is None:
        return regions
    half = half_pixels(None, regions.image_size, PURITY_HALF_SIZE)
    return regions if half >= regions.half_size else regions.resized(half)


def prototype_columns(estimator, y) -> dict[str, Any]:
    """Return the columns that need no annotation."""
    speaks = prototype_classes(estimator)
    own = membership(y, speaks, len(speaks), estimator.classes_)
    return {
        "prototype": np.asarray(estimator.prototype_ids_),
        "label": np.asarray(estimator.prototype_labels_),
        "training_row": np.asarray(estimator.prototype_indices_),
        "projection_distance": np.asarray(estimator.projection_distance_),
        "n_samples": own.sum(axis=0),
    }


def general_scores(estimator, X, y, seed: int = 0) -> dict[str, float]:
    """Return the scores that need no annotation, accuracy first."""
    found = {
        "accuracy": estimator.score(X, y),
        "completeness": completeness_score(estimator, X, y),
        "coverage": prototype_coverage(estimator, X, y),
        "redundancy": redundancy_score(estimator, X),
        "uniqueness": prototype_uniqueness(estimator),
        "unique_sources": prototype_uniqueness(estimator, "sources"),
        "additivity_error": additivity_error(estimator, X),
        "faithfulness": faithfulness_score(estimator, X),
    }
    if not sp.issparse(X):
        few = {"n_repeats": N_CHANGES, "random_state": seed}
        found["sensitivity"] = explanation_sensitivity(estimator, X, **few)
    weights = getattr(estimator, "class_weights_", None)
    if weights is not None:
        found["sparsity"] = sparsity_score(weights)
    sizes = explanation_size(estimator, X)
    found |= {f"size_{name}": value for name, value in sizes.items()}
    return {name: float(value) for name, value in found.items()}


def part_columns(estimator, regions: Regions, notes: Annotations, names) -> dict:
    """Return columns on the parts that prototypes point at."""
    frequencies = part_frequencies(
        regions,
        notes.locations,
        notes.visible,
        notes.y,
        prototype_classes(estimator),
        classes=estimator.classes_,
    )
    best = np.nan_to_num(frequencies, nan=-1.0).argmax(axis=1)
    metrics, arrays = notes.metrics(estimator), notes.per_sample(regions)
    return {
        "best_part": best if names is None else np.asarray(names, dtype=object)[best],
        "frequency": frequencies.max(axis=1),
        **{
            name: metrics[name](*arrays, per_prototype=True)
            for name in ("consistency", "purity")
        },
        "region_area": regions.area.mean(axis=0),
    }


def stability_columns(estimator, X, notes: Annotations, seed: int) -> dict[str, Any]:
    """Return the stability of prototypes, on all samples and where there are parts."""
    return {
        name: stability_score(
            estimator,
            X,
            notes.locations,
            notes.visible,
            notes.y,
            noise=notes.noise,
            on_parts=on_parts,
            half_size=notes.half_size,
            per_prototype=True,
            random_state=seed,
        )
        for name, on_parts in (("stability", False), ("stability_on_parts", True))
    }


def relevance_column(estimator, X, y, masks) -> NDArray[np.float64]:
    """Return the relevance (P,) by energy in samples of a prototype's classes."""
    height, width = image_size(estimator, X)
    masks = check_masks(masks, len(y))
    speaks, start, parts = prototype_classes(estimator), 0, []
    for part in sample_chunks(estimator, X, height * width * len(speaks) // 8 + 1):
        maps = maps_of(estimator, part)
        rows = slice(start, start + len(maps))
        start += len(maps)
        own = membership(y[rows], speaks, len(speaks), estimator.classes_)
        values = relevance_score(
            maps,
            masks[rows],
            y=y[rows],
            prototype_labels=speaks,
            classes=estimator.classes_,
            per_prototype=True,
        )
        parts.append((values, own.sum(axis=0) * ~np.isnan(values)))
    total = np.sum([np.nan_to_num(value) * count for value, count in parts], axis=0)
    count = np.sum([count for _, count in parts], axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def judged(values) -> dict[str, float]:
    """Return mean and spread over prototypes, and how many were judged and passed."""
    values = np.asarray(values, dtype=np.float64)
    known = float((~np.isnan(values)).sum())
    spread = float(np.nanstd(values)) if known else float("nan")
    found = {"value": mean_over_prototypes(values), "n_prototypes": known}
    return {**found, "std": spread, "n_above_half": float((values > 0.5).sum())}


def chance(estimator, regions: Regions, notes: Annotations, n_resamples, rng):
    """Return intervals and scores at random places for the metrics of regions."""
    found: dict[str, dict[str, float]] = {}
    arrays = notes.per_sample(regions)
    for name, metric in notes.metrics(estimator).items():
        found[name] = {"value": float(metric(*arrays))}
        if n_resamples:
            low, high = bootstrap_interval(
                metric, *arrays, n_resamples=n_resamples, random_state=rng
            )
            found[name] |= {"low": float(low), "high": float(high)}
        at_place = partial(_at_place, metric, arrays[1:])
        found[name]["random_place"] = float(
            random_place_score(at_place, regions, random_state=rng)
        )
    return found


def _at_place(metric, arrays, regions: Regions) -> float:
    return float(metric(regions, *arrays))


def part_scores(estimator, X, notes: Annotations, seed: int) -> dict[str, float]:
    """Return the scores of parts alone, for a model that others are compared with."""
    regions = regions_of(estimator, X, notes.half_size)
    arrays = notes.per_sample(regions)
    metrics = notes.metrics(estimator).items()
    found = {name: float(metric(*arrays)) for name, metric in metrics}
    stable = stability_columns(estimator, X, notes, seed)
    return found | {name: mean_over_prototypes(v) for name, v in stable.items()}
