"""Attributes with one entry for each prototype: kept, appended, replaced."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skproto import _placing as placing

#: Entries that tell where a prototype comes from.
SOURCE_ATTRIBUTES = (
    "prototype_indices_",
    "prototype_samples_",
    "prototype_sample_labels_",
    "projection_distance_",
    *placing.PLACE_ATTRIBUTES,
)


def sources_of(model: Any, X: Any, index, sites, boxes=None) -> dict[str, Any]:
    """Return what is kept of the samples behind m prototypes, by attribute name.

    Parameters
    ----------
    model : estimator
        Knows the shape of a sample and the grid of its sites.

    X : ndarray, CSR array or SampleArray
        Validated samples.

    index, sites, boxes : ndarrays with m entries
        Number of each sample in `X` and the place in it.
    """
    stub = SimpleNamespace(_input_shape=model._input_shape)
    if len(model._input_shape) == 3:
        stub._site_grid = model._site_grid
    placing.read_sources(stub, X, np.asarray(index), np.asarray(sites), boxes)
    return {
        name: value for name, value in vars(stub).items() if name in SOURCE_ATTRIBUTES
    }


def append_entries(model: Any, names: Sequence[str], values: dict[str, Any]) -> None:
    """Append entries to attributes; those without values get fillers."""
    m = len(values["prototype_ids_"])
    for name in names:
        old = getattr(model, name, None)
        if old is None:
            continue
        new = values.get(name)
        if new is None and name in values:
            setattr(model, name, None)
        elif isinstance(old, list):
            setattr(model, name, [*old, *(new if new is not None else [None] * m)])
        else:
            setattr(model, name, _joined(old, new, m))


def _joined(old: NDArray[Any], new: Any, m: int) -> NDArray[Any]:
    if new is None:
        filler = np.zeros((m, *old.shape[1:]), dtype=old.dtype)
        return np.concatenate([old, filler])
    return np.concatenate([old, np.asarray(new).reshape(m, *old.shape[1:])])


def replace_entries(model: Any, positions, values: dict[str, Any]) -> None:
    """Replace entries of attributes, on copies of them."""
    for name, new in values.items():
        old = getattr(model, name, None)
        if old is None:
            continue
        if new is None:
            setattr(model, name, None)
        elif isinstance(old, list):
            entries = list(old)
            for position, entry in zip(positions, new, strict=True):
                entries[position] = entry
            setattr(model, name, entries)
        else:
            new = np.asarray(new)
            entries = old.astype(np.result_type(old.dtype, new.dtype), copy=True)
            entries[positions] = new
            setattr(model, name, entries)
