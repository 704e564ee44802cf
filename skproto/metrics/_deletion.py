"""Whether the region shown is what the similarity depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skproto.metrics._estimator_regions import Regions, regions_of
from skproto.metrics._inputs import (
    check_count,
    check_labels,
    check_lengths,
    check_option,
    check_share,
    class_scores,
    evidence_of,
    final_estimator,
    is_tabular,
    maps_of,
    prototype_classes,
    sample_chunks,
)
from skproto.metrics._parts import mean_over_prototypes
from skproto.metrics._regions import PrototypeRegions
from skproto.metrics._stability import class_means
from skproto.utils._random import random_source


def sample_values(estimator, X) -> np.ndarray:
    """Return samples as an array (n, C, H, W), (n, T, D) or (n, f)."""
    X = estimator._check_input(X)
    if hasattr(X, "toarray"):
        return np.asarray(X.toarray())
    return np.asarray(X[:])


def main_prototypes(evidence, n_top: int) -> NDArray[np.int64]:
    """Prototypes (n, n_top) that contribute most to the predicted class.

    Where units are no prototypes (trees), those of the highest similarity.
    """
    strength = np.asarray(evidence["similarities"], dtype=np.float64)
    terms = np.asarray(evidence["class_contributions"])
    if terms.shape[:2] == strength.shape:
        winner = np.asarray(evidence["scores"]).argmax(axis=1)
        strength = np.take_along_axis(terms, winner[:, None, None], axis=2)[..., 0]
    return np.argsort(-strength, axis=1, kind="stable")[:, :n_top]


def region_masks(regions: Regions, prototypes) -> NDArray[np.bool_]:
    """Return the values (n, 1, H, W) or (n, f) that lie in one region a sample."""
    rows = np.arange(len(regions))
    if not isinstance(regions, PrototypeRegions):
        return np.asarray(regions.selected[rows, prototypes])
    top, left, bottom, right = regions.boxes[rows, prototypes].T[..., None]
    height, width = (np.arange(size) for size in regions.image_size)
    inside_rows = (top <= height) & (height < bottom)
    inside_columns = (left <= width) & (width < right)
    return inside_rows[:, None, :, None] & inside_columns[:, None, None, :]


@dataclass
class _Deletion:
    """What is asked of a deletion."""

    target: str
    keep: bool
    fill: str
    rng: np.random.RandomState

    def change(self, estimator, values, inside) -> np.ndarray:
        """Replace values inside (or outside, if they are to be kept) by the mean."""
        shape = (-1, 1, 1) if values.ndim == 4 else (-1,)
        usual = np.reshape(estimator.center_, shape)
        if self.fill == "noise":
            noise = self.rng.normal(size=values.shape)
            usual = usual + noise * np.reshape(estimator.scale_, shape)
        where = ~inside if self.keep else inside
        changed = np.where(where, usual, values.astype(np.float64))
        kind = values.dtype if values.dtype.kind == "f" else np.float32
        return np.asarray(changed.astype(kind))

    def measure(self, estimator, values, prototypes, codes) -> NDArray[np.float64]:
        """Similarity or class score (n,) of samples."""
        rows = np.arange(len(values))
        if self.target == "similarity":
            return np.asarray(estimator.transform(values))[rows, prototypes]
        return class_scores(estimator, values)[rows, codes]

    def effect(self, before, after) -> NDArray[np.float64]:
        """Return the drop, relative for similarities; the share that is left."""
        if self.keep or self.target == "similarity":
            size = np.maximum(np.abs(before), 1e-12)
            return after / size if self.keep else (before - after) / size
        return np.asarray(before - after)


def deletion_score(
    estimator,
    X,
    y=None,
    *,
    target="score",
    keep=False,
    fill="mean",
    n_top=1,
    n_random=3,
    per_prototype=False,
    half_size=None,
    random_state=None,
):
    """How much more depends on the region shown than on a random one of its size.

    In every sample the region of the prototype that contributes most to the predicted
    class is replaced; the drop is compared with that for random regions.

    Parameters
    ----------
    estimator : fitted estimator
        Fitted to images, or to a table with prototypes in the space of its features.

    X : array-like of shape (n, ...)
        Samples.

    y : array-like of shape (n,), default=None
        Classes whose scores are watched; None: the predicted ones.

    target : {"score", "similarity"}, default="score"
        Whether the drop of the class score counts, or that of the similarity as a
        share of what it was.

    keep : bool, default=False
        Replace everything but the region; the score then is the share of the target
        that is left.

    fill : {"mean", "noise"}, default="mean"
        What takes the place: the mean of the training data, or noise around it.

    n_top : int, default=1
        Number of prototypes a sample, each deleted on its own.

    n_random : int, default=3
        Number of random regions that are averaged; 0 compares with nothing.

    per_prototype : bool, default=False
        Return one value for each prototype; NaN for those that lead in no sample.

    half_size : int, default=None
        See :func:`prototype_regions`.

    random_state : int, RandomState instance or None, default=None
        Seed of the random regions and of the noise.

    Returns
    -------
    score : float or ndarray of shape (P,)
        Effect of the region less the effect of random ones; at most 0 where the
        region shown matters no more than any other.

    Raises
    ------
    TypeError
        If the estimator has no regions.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto.metrics import deletion_score
    >>> from skproto.shallow import GLVQClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GLVQClassifier(random_state=0).fit(X, y)
    >>> isinstance(deletion_score(model, X, random_state=0), float)
    True
    """
    check_option("target", target, ("score", "similarity"))
    check_option("fill", fill, ("mean", "noise"))
    check_count("n_top", n_top, 1)
    check_count("n_random", n_random, 0)
    estimator, X = final_estimator(estimator, X)
    rng = random_source(random_state)
    how = _Deletion(target, keep, fill, rng)
    if y is not None:
        y = np.searchsorted(estimator.classes_, check_labels(estimator, y))
    found, start = [], 0
    for part in sample_chunks(estimator, X, 64 * len(estimator.prototypes_)):
        values = sample_values(estimator, part)
        codes = None if y is None else y[start : start + len(values)]
        found.append(
            _effects(estimator, values, codes, how, (n_top, n_random, half_size))
        )
        start += len(values)
    check_lengths(X=np.empty(start), y=y)
    effect = np.concatenate([value for value, _ in found])
    chosen = np.concatenate([prototype for _, prototype in found])
    if not per_prototype:
        return mean_over_prototypes(effect)
    own = chosen[:, None] == np.arange(len(estimator.prototypes_))
    own &= ~np.isnan(effect)[:, None]
    return class_means(effect[:, None], own)


def _effects(estimator, values, codes, how: _Deletion, options):
    """Effects (n * n_top,) of deletions, and the prototypes (n * n_top,)."""
    n_top, n_random, half_size = options
    evidence = evidence_of(estimator, values)
    if codes is None:
        codes = np.asarray(evidence["scores"]).argmax(axis=1)
    chosen = main_prototypes(evidence, n_top)
    regions = regions_of(estimator, values, half_size)
    effects = []
    for prototypes in chosen.T:  # one column of regions at a time
        before = how.measure(estimator, values, prototypes, codes)

        def after(some, before=before, prototypes=prototypes):
            changed = how.change(estimator, values, region_masks(some, prototypes))
            return how.effect(
                before, how.measure(estimator, changed, prototypes, codes)
            )

        effect = after(regions)
        if n_random:
            chance = [after(regions.at_random(how.rng)) for _ in range(n_random)]
            effect = effect - np.mean(chance, axis=0)
        valid = regions.valid[np.arange(len(values)), prototypes]
        effects.append(np.where(valid, effect, np.nan))
    return np.concatenate(effects), chosen.T.ravel()


def top_cells(maps, area: float) -> NDArray[np.bool_]:
    """Mark the given share of the cells (n, T) of highest similarity."""
    flat = maps.reshape(len(maps), -1)
    count = max(1, round(area * flat.shape[1]))
    order = np.argsort(-flat, axis=1, kind="stable")[:, :count]
    chosen = np.zeros(flat.shape, dtype=bool)
    np.put_along_axis(chosen, order, True, axis=1)
    return chosen


def location_misalignment(
    estimator,
    X,
    y=None,
    *,
    eps=0.2,
    n_steps=10,
    area=0.1,
    half_size=None,
    per_prototype=False,
) -> dict[str, Any]:
    """Measure what pixels outside of the region shown can do to the similarity.

    An attack by gradient changes the pixels outside of the region of the leading
    prototype so that its similarity falls. What is shown would not change, if the
    region were all that the prototype looks at.

    Parameters
    ----------
    estimator : fitted estimator
        Fitted to images by gradient.

    X : array-like of shape (n, C, H, W)
        Images.

    y : array-like of shape (n,), default=None
        Labels for the accuracies; None: the predictions before the attack.

    eps : float, default=0.2
        Largest change of a value, in normalised units.

    n_steps : int, default=10
        Steps of the attack, each of ``2.5 * eps / n_steps``.

    area : float, default=0.1
        Share of the cells whose overlap before and after counts.

    half_size : int, default=None
        See :func:`prototype_regions`.

    per_prototype : bool, default=False
        Return "location", "activation" and "rank" for each prototype; NaN for those
        that lead in no image.

    Returns
    -------
    scores : dict of str to float or ndarray of shape (P,)
        "location", 1 less the intersection over union of the cells of highest
        similarity before and after; "activation", the share of the similarity that is
        lost; "rank", by how much the share of the prototypes of other classes that
        are more similar rises; "accuracy_before", "accuracy_after".

    References
    ----------
    Sacha, M. et al. (2024). Interpretability Benchmark for Evaluating Spatial
    Misalignment of Prototypical Parts Explanations. *AAAI*.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skproto.metrics import location_misalignment
    >>> from skproto.networks import ProtoPNetClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> images = X.reshape(-1, 8, 8)[:200]
    >>> model = ProtoPNetClassifier(max_epochs=1, random_state=0).fit(images, y[:200])
    >>> found = location_misalignment(model, images[:16], n_steps=2)
    >>> sorted(found)
    ['accuracy_after', 'accuracy_before', 'activation', 'location', 'rank']
    """
    check_share("area", area)
    check_count("n_steps", n_steps, 1)
    if not eps >= 0:
        raise ValueError(f"eps must be at least 0. Got {eps!r}.")
    estimator, X = final_estimator(estimator, X)
    maps_of(estimator, X[:1])
    parts = []
    for part in sample_chunks(estimator, X, 64 * len(estimator.prototypes_)):
        values = sample_values(estimator, part)
        parts.append(_misalignment(estimator, values, (eps, n_steps, area, half_size)))
    found = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    before, after = found.pop("before"), found.pop("after")
    labels = before if y is None else check_labels(estimator, y)
    check_lengths(X=before, y=labels)
    leading = found.pop("prototype")
    accuracy = {
        "accuracy_before": float((before == labels).mean()),
        "accuracy_after": float((after == labels).mean()),
    }
    if not per_prototype:
        return {**{k: float(v.mean()) for k, v in found.items()}, **accuracy}
    own = leading[:, None] == np.arange(len(estimator.prototypes_))
    return {**{k: class_means(v[:, None], own) for k, v in found.items()}, **accuracy}


def _misalignment(estimator, values, options) -> dict[str, np.ndarray]:
    eps, n_steps, area, half_size = options
    evidence = evidence_of(estimator, values)
    leading = main_prototypes(evidence, 1)[:, 0]
    rows = np.arange(len(values))
    inside = region_masks(regions_of(estimator, values, half_size), leading)
    changed = _attacked(estimator, values, leading, inside, (eps, n_steps))
    other = evidence_of(estimator, changed)
    cells = [
        top_cells(maps_of(estimator, some)[rows, leading], area)
        for some in (values, changed)
    ]
    both, either = (cells[0] & cells[1]).sum(1), (cells[0] | cells[1]).sum(1)
    s = [np.asarray(e["similarities"]) for e in (evidence, other)]
    own = [one[rows, leading] for one in s]
    speaks = prototype_classes(estimator)
    winner = np.asarray(evidence["scores"]).argmax(axis=1)
    foreign = ~speaks[:, winner].T
    n_foreign = np.maximum(foreign.sum(axis=1), 1)
    ahead = [
        ((one > mine[:, None]) & foreign).sum(axis=1) / n_foreign
        for one, mine in zip(s, own, strict=True)
    ]
    lost = (own[0] - own[1]) / np.maximum(np.abs(own[0]), 1e-12)
    return {
        "location": 1.0 - both / either,
        "activation": lost,
        "rank": ahead[1] - ahead[0],
        "prototype": leading,
        "before": estimator.predict(values),
        "after": estimator.predict(changed),
    }


def _attacked(estimator, values, prototypes, inside, options) -> np.ndarray:
    """Change pixels outside of regions by signed gradients against a similarity."""
    eps, n_steps = options
    if is_tabular(estimator) or not hasattr(estimator, "net_"):
        raise TypeError(
            "location_misalignment needs an estimator with one torch module fitted to "
            f"images. Got {type(estimator).__name__}."
        )
    module, scaling = estimator._module, estimator._scaling
    device = module.prototypes.device
    start = torch.from_numpy(scaling.apply(values)).to(device)
    free = torch.from_numpy(~inside).to(device)
    column = torch.from_numpy(np.asarray(prototypes))[:, None].to(device)
    shift = torch.zeros_like(start)
    for _ in range(n_steps):
        with torch.enable_grad():
            x = (start + shift).requires_grad_()
            activations = module(x)["activations"].gather(1, column)
            (gradient,) = torch.autograd.grad(activations.sum(), x)
        shift = shift - 2.5 * eps / n_steps * gradient.sign() * free
        shift = shift.clamp(-eps, eps)
    return scaling.invert((start + shift).cpu().numpy()).astype(np.float32)
