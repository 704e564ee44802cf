"""Regions of images, and features of tables, that no node may use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skproto._editing import EditingFamily, EditNotSupported
from skproto._editing import _memory as memory
from skproto._editing._sources import find_sources, settle_on_samples
from skproto._provenance import site_boxes
from skproto.training import TrainingData

Positions = NDArray[np.int64]


def forbid_in_tree(model: Any, tree: Any) -> None:
    """Keep a tree off what is forbidden to its estimator.

    Features of tables get the weight 0, the other features of a node theirs in
    proportion. Sites of images whose cell shares a pixel with a forbidden region are
    not looked at.

    Parameters
    ----------
    model : ProtoTreeClassifier
        Knows what is forbidden.

    tree : SoftPrototypeTree
        Changed in place.
    """
    held = model._held_features
    if held is not None and tree.feature_logits is not None and not model._encodes:
        with torch.no_grad():
            columns = torch.from_numpy(held).to(tree.feature_logits.device)
            tree.feature_logits[:, columns] = -torch.inf
    boxes = [
        box
        for entry in memory.edit_state(model)["forbidden"]
        for box in _unlabelled(model, entry)
    ]
    if boxes:
        tree.allow_sites(_sites_left(model, tree.encoder, np.array(boxes)))


def _unlabelled(model: Any, entry: Any) -> Any:
    """Return the boxes of what is forbidden; raise for those of some classes alone."""
    if entry["boxes"] is not None and entry["labels"] is not None:
        raise EditNotSupported(
            "forbid",
            type(model).__name__,
            "its nodes have no class of their own: they tell classes apart. Forbid "
            "the region without labels.",
        )
    return entry["boxes"] or ()


def _sites_left(model: Any, encoder: Any, boxes: Positions) -> list[int] | None:
    """Return the sites off boxes (b, 4), None where there is but one site."""
    height, width = model._input_shape[1:]
    if (boxes[:, 0] >= height).any() or (boxes[:, 1] >= width).any():
        raise ValueError(
            f"region must lie inside of images of {height} x {width} pixels. Got "
            f"{boxes.tolist()}."
        )
    if encoder.n_sites == 1 or encoder.grid is None:
        return None
    cells = site_boxes(np.arange(encoder.n_sites), encoder.grid, model._input_shape)
    low = np.maximum(cells[:, None, :2], boxes[:, :2])
    high = np.minimum(cells[:, None, 2:], boxes[:, 2:])
    touched = np.asarray(np.all(low < high, axis=2)).any(axis=1)
    if touched.all():
        raise ValueError(
            f"region must leave a part of an image of {height} x {width} pixels that "
            f"lies beside it. Got {boxes.tolist()}, on which all cells of the "
            f"encoder's grid {encoder.grid} lie."
        )
    left: list[int] = np.flatnonzero(~touched).tolist()
    return left


class SiteChoice(EditingFamily, ABC):
    """The part of a family of trees that takes items off forbidden sites."""

    @property
    @abstractmethod
    def allowed_sites(self) -> tuple[int, ...] | None:
        """Sites at which a prototype may be, None for all."""

    @property
    def encodes(self) -> bool:
        """Whether prototypes are codes of an encoder."""
        return bool(self.model._encodes)

    def item_codes(
        self, data: TrainingData, sites: Any, anchors: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], Positions, Positions | None]:
        """Return what samples stand for as items; forbidden sites are refused."""
        allowed = self.allowed_sites
        if sites is not None and allowed is not None:
            wrong = np.setdiff1d(np.atleast_1d(sites), allowed)
            if len(wrong):
                raise ValueError(
                    f"sites must not be forbidden. Got {wrong.tolist()}; allowed are "
                    f"{list(allowed)}."
                )
        return super().item_codes(data, sites, anchors)

    def choose_sites(
        self, candidates: NDArray[Any], anchors: NDArray[np.bool_]
    ) -> Positions:
        """Choose a site of each item among those that are not forbidden."""
        allowed = self.allowed_sites
        if allowed is None:
            return super().choose_sites(candidates, anchors)
        index = np.array(allowed)
        return index[super().choose_sites(candidates[:, index], anchors)]

    def random_codes(
        self, data: TrainingData, rng: np.random.RandomState
    ) -> NDArray[Any]:
        """Return codes (n, D) of one random site of each sample."""
        candidates, allowed = self.candidates(data), self.allowed_sites
        if allowed is not None:
            candidates = candidates[:, np.array(allowed)]
        sites = rng.randint(candidates.shape[1], size=len(candidates))
        return np.asarray(candidates[np.arange(len(candidates)), sites])

    def resettle(self, job: Any) -> None:
        """Put cases on what is nearest to them now that samples look different."""
        if not self.encodes:
            return
        if job.data is None:
            raise ValueError(
                "forbid needs X and y for trees with an encoder: samples are encoded "
                "anew without what is forbidden, and prototypes put on the nearest."
            )
        was_case = np.asarray(self.model.projection_distance_) == 0
        free = was_case & ~memory.locked_mask(self.model)
        if free.any():
            settle_on_samples(job, np.flatnonzero(free))
        if not free.all():
            find_sources(job, np.flatnonzero(~free))
