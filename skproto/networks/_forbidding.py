"""Which sites of samples are forbidden to the prototypes of a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skproto._editing._memory import edit_state
from skproto._provenance import site_boxes
from skproto.nn.forbidden import set_forbidden


def touched_sites(model: Any, encoder: Any, boxes: Any) -> NDArray[np.int64]:
    """Return the sites whose cell shares a pixel with one of some boxes."""
    sites = np.arange(encoder.n_sites)
    cells = site_boxes(sites, encoder.grid, model._input_shape)[:, None]
    boxes = np.asarray(boxes)[None]
    top, left = np.maximum(cells[..., :2], boxes[..., :2]).transpose(2, 0, 1)
    bottom, right = np.minimum(cells[..., 2:], boxes[..., 2:]).transpose(2, 0, 1)
    return np.flatnonzero(((top < bottom) & (left < right)).any(axis=1))


def forbidden_table(model: Any, module: Any = None) -> NDArray[np.bool_] | None:
    """Return the sites (K, T) forbidden to the prototypes of classes; None for none.

    Parameters
    ----------
    model : estimator
        Knows its classes and what was forbidden.

    module : nn.Module, default=None
        Its encoder tells the sites; by default that of the model.
    """
    encoder = (model._module if module is None else module).encoder
    entries = edit_state(model)["forbidden"]
    if not entries or encoder.n_sites == 1:
        return None
    table = np.zeros((len(model.classes_), encoder.n_sites), dtype=bool)
    for entry in entries:
        if entry["boxes"] is not None:
            rows = np.arange(len(table))
            if entry["labels"] is not None:
                rows = np.flatnonzero(np.isin(model.classes_, entry["labels"]))
            found = touched_sites(model, encoder, entry["boxes"])
            table[np.ix_(rows, found)] = True
        elif getattr(model, "encoder_", None) == "features":
            table[:, entry["features"]] = True
    return table if table.any() else None


def needed_sites(module: Any) -> int:
    """Return how many sites a prototype needs of every sample."""
    if module.prototypes.ndim > 2:
        # Parts that move choose among the cells around them.
        return 1 if hasattr(module, "offset_net") else int(module.n_parts)
    return int(module.config.get("pooling_options", {}).get("k", 1))


def check_allowed(model: Any, module: Any, table: NDArray[np.bool_]) -> None:
    """Raise where a class has too few sites left."""
    left, needed = (~table).sum(axis=1), needed_sites(module)
    if (left < needed).any():
        classes = model.classes_[left < needed].tolist()
        raise ValueError(
            f"region must leave every prototype at least {needed} of the "
            f"{table.shape[1]} parts of a sample; it leaves "
            f"{int(left.min())} to those of {classes}."
        )


def check_boxes(model: Any, encoder: Any, boxes: Any, labels: Any) -> None:
    """Raise for boxes beside the image, or for some classes where all see all of it."""
    height, width = model._input_shape[1:]
    boxes = np.asarray(boxes)
    if (boxes[:, 0] >= height).any() or (boxes[:, 1] >= width).any():
        raise ValueError(
            f"region must lie inside of images of {height} x {width} pixels. Got "
            f"{boxes.tolist()}."
        )
    if labels is not None and encoder.n_sites == 1:
        raise ValueError(
            "labels need an encoder of several sites; here all prototypes are whole "
            "images. Forbid the region without labels."
        )


class SiteForbidding:
    """The part of a network whose prototypes keep off what is forbidden."""

    def _make_prediction_net(self, module):
        install(self, module)
        parent: Any = super()
        return parent._make_prediction_net(module)

    def _forbid_in_module(self, module: Any) -> None:
        for entry in edit_state(self)["forbidden"]:
            if entry["boxes"] is not None:
                labels = entry["labels"]
                check_boxes(self, module.encoder, entry["boxes"], labels)
        install(self, module)


def install(model: Any, module: Any) -> None:
    """Forbid in a module what is forbidden to its estimator, and nothing else."""
    table = forbidden_table(model, module)
    if table is not None:
        check_allowed(model, module, table)
    set_forbidden(module, None if table is None else torch.from_numpy(table))
