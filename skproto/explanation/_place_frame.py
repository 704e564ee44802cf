"""Table of places: one row for each sample, prototype and part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skproto.explanation._cases import SITE_WORDS, box_columns
from skproto.explanation._places import PrototypePlaces, SamplePlaces

if TYPE_CHECKING:
    import pandas as pd

    from skproto.explanation._places import Places
    from skproto.explanation._prototypes import PrototypeTable


def place_frame(shown: Any) -> pd.DataFrame:
    """Return the frame of :meth:`Explanation.place_frame`."""
    import pandas as pd

    here: SamplePlaces | None = shown.places
    own: PrototypePlaces | None = shown.prototypes.places
    if here is None or own is None or here.sites is None:
        raise ValueError(f"{type(shown).__name__}: the places are not known.")
    several = here.sites.ndim == 3
    shape = here.sites.shape if several else (*here.sites.shape, 1)
    i, k, m = (index.ravel() for index in np.indices(shape))
    columns: dict[str, np.ndarray] = {
        "sample": shown.sample_index[i],
        "prototype": shown.prototypes.ids[k],
        "training_row": shown.prototypes.indices[k],
    }
    if several:
        columns["part"] = m + 1
    columns.update(_columns(here, shown.prototypes, shape))
    for name, values in _columns(own, shown.prototypes, shape[1:]).items():
        columns[f"source_{name}"] = np.tile(values, len(shown))
    if here.part_similarities is not None:
        columns["part_similarity"] = here.part_similarities.ravel()
    frame = pd.DataFrame(columns)
    on = here.sites.ravel() >= 0
    if several and own.slots is not None:
        on &= np.tile(own.slots.ravel() > 0.5, len(shown))
    return frame[on].reset_index(drop=True)


def _columns(
    places: Places, table: PrototypeTable, shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Return sites and boxes as flat columns."""
    columns: dict[str, np.ndarray] = {}
    if places.sites is not None:
        sites = places.sites.ravel()
        if places.kind == "features":
            sites = np.array([*map(str, table.names), ""], dtype=object)[sites]
        columns[SITE_WORDS[places.kind]] = sites
    for prefix, boxes in (("box", places.boxes), ("effective", places.effective_boxes)):
        if boxes is not None:
            columns.update(box_columns(boxes.reshape(int(np.prod(shape)), 4), prefix))
    return columns
