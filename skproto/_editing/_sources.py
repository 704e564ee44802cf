"""Where prototypes come from after an edit: items, or the nearest training samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skproto._editing import _memory as memory
from skproto._editing._entries import sources_of
from skproto._editing._job import Items, Job

Positions = NDArray[np.int64]


def take_sources(job: Job, items: Items, codes: Positions, positions) -> None:
    """Name the items as sources of prototypes, or the nearest training samples."""
    job.family.read()
    sources = job.item_sources(items, codes, positions)
    if sources is None:
        find_sources(job, positions)
    else:
        job.family.replace_entries(positions, sources)
        job.family.read()


def find_sources(job: Job, positions: Positions) -> None:
    """Name the nearest training samples of their class as sources of prototypes."""
    if job.data is None and job.request.arguments.get("latent"):
        raise ValueError(
            "items with latent=True need X and y, in which the samples nearest to them "
            "are looked for."
        )
    data = job.need_data()
    family = job.family
    codes = family.class_codes()
    present = np.isin(codes, data.y)
    nearest = family.nearest(data, codes if present.all() else None)
    index = np.maximum(nearest.index[0], 0)[positions]
    sites = nearest.sites[0][positions]
    found = family.source_codes(data, index, sites, positions)
    _name_sources(job, positions, index, sites, family.distances(found, positions))


def _name_sources(job: Job, positions: Positions, index, sites, distance) -> None:
    """Name samples of the repair data as sources of prototypes."""
    model, family, data = job.model, job.family, job.need_data()
    rows = data.rows[index]
    sites, boxes = family.places_of(data, index, sites, positions)
    family.replace_entries(
        positions,
        {
            **sources_of(model, job.X, rows, sites, boxes),
            "prototype_indices_": rows,
            "prototype_sample_labels_": model.classes_[data.y[index]],
            "projection_distance_": distance,
        },
    )
    family.read()


def settle_on_samples(job: Job, positions: Positions) -> None:
    """Put some prototypes on their nearest training samples of their class."""
    data = job.need_data()
    family = job.family
    codes = family.class_codes()
    missing = np.setdiff1d(codes[positions], data.y)
    if len(missing):
        raise ValueError(
            "y must hold samples of every class of the prototypes; it has none of "
            f"{job.model.classes_[missing].tolist()}."
        )
    nearest = family.nearest(data, np.where(np.isin(codes, data.y), codes, data.y[0]))
    index, sites = nearest.index[0][positions], nearest.sites[0][positions]
    found = family.source_codes(data, index, sites, positions)
    limits = memory.targets(job.model)
    for row, position in enumerate(positions.tolist()):
        limit = limits.get(position)
        if limit is not None and not limit.keeps(found[row].astype(np.float64)):
            memory.set_targets(job.model, {job.ids_of(positions[[row]])[0]: None})
    family.move(positions, found)
    job.touched = job.ids_of(positions)
    _name_sources(job, positions, index, sites, family.distances(found, positions))
