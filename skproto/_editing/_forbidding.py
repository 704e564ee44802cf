"""What no prototype may use: features of a table, regions of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skproto._editing import _memory as memory
from skproto._editing._errors import EditNotSupported
from skproto._editing._job import Job


def forbid(job: Job) -> None:
    """Note what is forbidden and let the family act on it."""
    model, arguments = job.model, job.request.arguments
    entry = resolve(model, new_entry(arguments))
    known = memory.edit_state(model)["forbidden"]
    if entry["features"] is not None:
        _forbid_features(job, entry)
    else:
        labels = entry["labels"]
        codes = None if labels is None else job.label_codes(labels, len(labels))
        # Samples are read anew: some of them is hidden from now on.
        memory.update(model, forbidden=[*known, entry])
        job.load_data()
        job.family.forbid_sites(np.asarray(entry["boxes"], dtype=np.int64), codes)
    memory.update(model, forbidden=[*known, entry])
    job.family.resettle(job)
    job.family.read()


def _forbid_features(job: Job, entry: Mapping[str, Any]) -> None:
    if entry["labels"] is not None:
        raise EditNotSupported(
            "forbid",
            job.family.name,
            "labels go with a region of images; a feature of a table is forbidden to "
            "all prototypes.",
        )
    model = job.model
    mask = held_mask([*memory.edit_state(model)["forbidden"], entry], model)
    assert mask is not None
    if mask.all():
        raise ValueError("features must leave at least one feature. Got all of them.")
    state = memory.edit_state(model)["forbidden"]
    memory.update(model, forbidden=[*state, entry])
    try:
        job.load_data()
        job.family.forbid_features(mask)
    finally:
        memory.update(model, forbidden=state)


def new_entry(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is forbidden as the user says it, checked on its own."""
    features, region = arguments.get("features"), arguments.get("region")
    if (features is None) == (region is None):
        raise ValueError(
            "forbid needs either features or a region. Got "
            f"features={features!r} and region={region!r}."
        )
    labels = arguments.get("labels")
    return {
        "features": None if features is None else _listed(features),
        "names": None,
        "boxes": None if region is None else region_boxes(region),
        "labels": None if labels is None else _listed(labels),
        "on_fit": bool(arguments.get("on_fit", False)),
    }


def _listed(values: Any) -> list[Any]:
    if isinstance(values, str):
        return [values]
    array = np.atleast_1d(np.asarray(values))
    if array.dtype == bool:
        return [int(i) for i in np.flatnonzero(array)]
    found: list[Any] = array.tolist()
    return found


def region_boxes(region: Any) -> list[list[int]]:
    """Return boxes (top, left, bottom, right) of a box, of several, or of a mask.

    Examples
    --------
    >>> import numpy as np
    >>> from skproto._editing._forbidding import region_boxes
    >>> region_boxes((0, 0, 2, 3))
    [[0, 0, 2, 3]]
    >>> region_boxes(np.array([[False, True, True], [False, False, True]]))
    [[0, 1, 1, 3], [1, 2, 2, 3]]
    """
    array = np.asarray(region)
    if array.dtype == bool and array.ndim == 2:
        return _runs(array)
    if array.ndim == 1:
        array = array[None]
    whole = array.ndim == 2 and array.shape[1] == 4 and array.dtype.kind in "iu"
    if not whole or (array[:, 2:] <= array[:, :2]).any() or (array < 0).any():
        raise ValueError(
            "region must be a box (top, left, bottom, right) of pixels, the last two "
            "exclusive, a list of such boxes, or a mask of bool of shape (height, "
            f"width). Got {region!r}."
        )
    found: list[list[int]] = array.tolist()
    return found


def _runs(mask: NDArray[np.bool_]) -> list[list[int]]:
    """Return a box for every run of pixels in a row of a mask."""
    boxes = []
    for row, line in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
        starts, ends = edges[::2].tolist(), edges[1::2].tolist()
        boxes += [[row, s, row + 1, e] for s, e in zip(starts, ends, strict=True)]
    return boxes


def resolve(model: Any, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry with numbers in place of the names of features, checked."""
    n_axes = len(model._input_shape)
    if entry["boxes"] is not None:
        if n_axes != 3:
            raise ValueError(
                f"region is for images; {type(model).__name__} was fitted to "
                f"{'a table' if n_axes == 1 else 'tokens'}. Use features."
            )
        return dict(entry)
    if n_axes != 1:
        raise ValueError(
            f"features are for tables; {type(model).__name__} was fitted to images or "
            "tokens. Use region."
        )
    names = getattr(model, "feature_names_in_", None)
    wanted = entry["names"] if entry["names"] is not None else entry["features"]
    numbers = [_number(name, names, model.n_features_in_) for name in wanted]
    shown = None if names is None else [str(names[i]) for i in numbers]
    return {**entry, "features": numbers, "names": shown}


def _number(name: Any, names: Any, n_features: int) -> int:
    """Return the number of a feature."""
    if isinstance(name, str):
        known = [] if names is None else [str(other) for other in names]
        if name in known:
            return known.index(name)
        raise ValueError(f"features must be among {known}. Got {name!r}.")
    if not isinstance(name, (int, np.integer)) or not -n_features <= name < n_features:
        raise ValueError(
            f"features must be names or ints in the range [0, {n_features}). Got "
            f"{name!r}."
        )
    return int(name) % n_features


def held_mask(entries: list[Mapping[str, Any]], model: Any) -> NDArray[np.bool_] | None:
    """Return which features are held constant, (f,); None for none."""
    features = [i for entry in entries for i in entry["features"] or ()]
    if not features:
        return None
    mask = np.zeros(model.n_features_in_, dtype=bool)
    mask[features] = True
    return mask


def held_pixels(
    entries: list[Mapping[str, Any]], model: Any
) -> NDArray[np.bool_] | None:
    """Return which pixels are held constant, (H, W): forbidden to all classes."""
    boxes = [
        box
        for entry in entries
        if entry["labels"] is None
        for box in entry["boxes"] or ()
    ]
    if not boxes:
        return None
    mask = np.zeros(model._input_shape[1:], dtype=bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def resolve_all(model: Any) -> None:
    """Resolve what is forbidden for a fit that has just read its samples."""
    known = memory.edit_state(model)["forbidden"]
    if known:
        memory.update(model, forbidden=[resolve(model, entry) for entry in known])
        mask = held_mask(memory.edit_state(model)["forbidden"], model)
        if mask is not None and mask.all():
            raise ValueError("forbid must leave at least one feature. Got all of them.")
