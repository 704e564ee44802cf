"""Where prototypes come from and where samples show them: sites, boxes, patches."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from skproto._provenance import provenance, site_boxes
from skproto.explanation import PrototypePlaces, PrototypeTable, SamplePlaces
from skproto.nn import receptive

# Samples for which an explanation computes receptive fields, and prototypes of each.
MAX_RECEPTIVE_SAMPLES, N_RECEPTIVE = 64, 8

# Prototypes whose own receptive fields an explanation computes, by so many directions;
# the most directions for each part where a prototype has several.
MAX_RECEPTIVE_PROTOTYPES, DIRECTIONS, PART_DIRECTIONS = 256, 8, 4

# Samples times parts of prototypes for which an explanation computes receptive fields.
MAX_RECEPTIVE_PARTS = 1024

# Entries of similarity maps that an explanation holds.
MAX_MAP_ENTRIES = 4_000_000


#: Attributes that tell the place of a prototype in its source.
PLACE_ATTRIBUTES = (
    "prototype_sites_",
    "prototype_boxes_",
    "prototype_patches_",
    "prototype_hashes_",
)

#: Attributes of additive models with one entry for each prototype.
PER_PROTOTYPE = (
    "prototypes_",
    "prototype_ids_",
    "prototype_indices_",
    "prototype_labels_",
    "prototype_samples_",
    "prototype_sample_labels_",
    "projection_distance_",
    "win_counts_",
    *PLACE_ATTRIBUTES,
)


def keep_entries(model, names, kept: np.ndarray) -> None:
    """Keep the entries of a mask or of positions in attributes, as far as they exist.

    Parameters
    ----------
    model : estimator
        Changed in place.

    names : sequence of str
        Attributes with one entry for each prototype, arrays or lists.

    kept : ndarray
        Mask (P,) or positions of the prototypes that stay.
    """
    positions = np.flatnonzero(kept) if kept.dtype == bool else kept
    for name in names:
        value = getattr(model, name, None)
        if value is None:
            continue
        if isinstance(value, list):
            setattr(model, name, [value[i] for i in positions])
        else:
            setattr(model, name, value[positions])


def joined(parts: list):
    """Concatenate arrays or lists of several models; None where one has none."""
    if any(part is None for part in parts):
        return None
    if isinstance(parts[0], list):
        return [entry for part in parts for entry in part]
    return np.concatenate(parts)


def read_sources(model, X, index, sites, boxes=None) -> None:
    """Set the attributes that tell the part of a sample behind each prototype.

    Parameters
    ----------
    model : estimator
        Changed in place.

    X : SampleArray, ndarray or CSR array
        Validated samples.

    index : ndarray of shape (P,)
        Number of the sample behind each prototype.

    sites : ndarray of shape (P,) or (P, M)
        Its site, or the sites of its parts.

    boxes : ndarray of shape (P, 4) or (P, M, 4), default=None
        Pixels, where they are not those of the sites.
    """
    if len(model._input_shape) == 3:
        kept = provenance(X, index, sites, model._site_grid, boxes)
    else:
        rows = X[index]
        rows = rows.toarray() if sp.issparse(rows) else rows.copy()
        kept = {"prototype_sites_": sites, "prototype_samples_": rows}
    for name, value in kept.items():
        setattr(model, name, value)


def similarity_maps(model, X) -> np.ndarray:
    """Return similarities (n, P, rows, columns) at every site of validated samples."""
    maps = model._forward(X, run=lambda x: {"maps": model._module.similarity_maps(x)})[
        "maps"
    ]
    grid = model._site_grid
    return maps if grid is None else maps.reshape(*maps.shape[:2], *grid)


def prototype_places(model) -> PrototypePlaces | None:
    """Return the places of the prototypes, None for tables."""
    if len(model._input_shape) == 1 or not hasattr(model, "prototype_sites_"):
        return None
    highest = getattr(model, "_max_similarity", lambda: None)
    if len(model._input_shape) != 3:
        return PrototypePlaces(
            kind="tokens", sites=model.prototype_sites_, max_similarity=highest()
        )
    grid = model._site_grid
    return PrototypePlaces(
        kind="image",
        sites=model.prototype_sites_,
        boxes=model.prototype_boxes_,
        patches=model.prototype_patches_,
        hashes=model.prototype_hashes_,
        images=model.prototype_samples_,
        grid=None if grid is None else np.array(grid),
        image_size=np.array(model._input_shape[1:]),
        max_similarity=highest(),
        effective_boxes=_own_boxes(model),
    )


def _own_boxes(model) -> np.ndarray | None:
    """Receptive fields of the prototypes, or their parts, in their source images."""
    if hasattr(model, "estimators_"):
        return joined([_own_boxes(member) for member in model.estimators_])
    sites, sources = model.prototype_sites_, model.prototype_samples_
    most = MAX_RECEPTIVE_PROTOTYPES * (DIRECTIONS if sites.ndim > 1 else 1)
    if sources is None or not 0 < sites.size <= most:
        return None
    module = model._module
    x = torch.from_numpy(model._scaling.apply(sources))
    parameter = next(module.parameters(), None)
    if parameter is not None:
        x = x.to(parameter.device)
    with torch.enable_grad():
        if sites.ndim > 1:
            # Parts share the passes that prototypes of one part would take.
            found = receptive.embedding_boxes(
                module,
                model._parts_at_sources,
                x,
                n_directions=min(most // sites.size, PART_DIRECTIONS),
            )
        else:
            places = torch.from_numpy(sites)[:, None].to(x.device)
            found = receptive.site_boxes(
                module.encoder, x, places, n_directions=DIRECTIONS
            )[:, 0]
    boxes = found.cpu().numpy().astype(float)
    boxes[boxes < 0] = np.nan
    if sites.ndim > 1:
        boxes[sites < 0] = np.nan
    return boxes


def prototype_table(model) -> PrototypeTable:
    """Return the table of the prototypes of a fitted model, with their places."""
    told = {
        "ids": model.prototype_ids_,
        "labels": model.prototype_labels_,
        "indices": model.prototype_indices_,
        "projection_distance": model.projection_distance_,
        "sample_labels": getattr(model, "prototype_sample_labels_", None),
        "is_case": model.projection_distance_ == 0,
    }
    if len(model._input_shape) > 1:
        return PrototypeTable(**told, places=prototype_places(model))
    n_features = model.n_features_in_
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        names = np.array([f"x{i}" for i in range(n_features)], dtype=object)
    in_input_space = model.prototypes_.shape[1] == n_features and not model._encodes
    return PrototypeTable(
        **told,
        values=model.prototypes_ if in_input_space else None,
        samples=model.prototype_samples_,
        feature_names=names,
        scale=model.scale_,
        center=model.center_,
        weights=_feature_weights(model) if in_input_space else None,
    )


def _feature_weights(model) -> np.ndarray | None:
    """Factors (P, f) of the features in each distance, 0 where they are held."""
    weights: np.ndarray | None = model._feature_weights()
    held = model._held_features
    if held is None:
        return weights
    if weights is None:
        weights = np.ones(model.prototypes_.shape)
    return np.where(held, 0.0, weights)


def sample_places(model, outputs, X, evidence=None) -> SamplePlaces | None:
    """Return where validated samples show the prototypes, None for tables.

    Parameters
    ----------
    model : estimator
        Fitted.

    outputs : dict of ndarray
        Outputs of the module with "sites", and "boxes" where they are not those of
        the sites.

    X : SampleArray or ndarray
        Validated samples.

    evidence : dict, default=None
        With "class_contributions", by which the prototypes that count are chosen;
        None leaves out maps and receptive fields.
    """
    if len(model._input_shape) == 1 or "sites" not in outputs:
        return None
    sites = outputs["sites"]
    extras = {}
    if "part_similarities" in outputs:
        extras["part_similarities"] = outputs["part_similarities"].astype(float)
    if len(model._input_shape) != 3:
        return SamplePlaces(kind="tokens", sites=sites, **extras)
    grid = model._site_grid
    if evidence is not None:
        extras["effective_boxes"] = _effective_boxes(model, X, evidence, sites.shape)
        if grid is not None and _n_map_entries(model, outputs) <= MAX_MAP_ENTRIES:
            extras["maps"] = similarity_maps(model, X)
    boxes = outputs.get("boxes")
    if boxes is None:
        boxes = site_boxes(sites, grid, model._input_shape)
    return SamplePlaces(
        kind="image",
        images=X[:],
        sites=sites,
        boxes=boxes,
        grid=None if grid is None else np.array(grid),
        **extras,
    )


def _n_map_entries(model, outputs) -> int:
    if not hasattr(model._module, "similarity_maps"):
        return MAX_MAP_ENTRIES + 1
    return int(outputs["activations"].size * model._module.encoder.n_sites)


def _effective_boxes(model, X, evidence, shape) -> np.ndarray | None:
    """Receptive fields of the prototypes that count most, NaN for the others."""
    if len(X) > MAX_RECEPTIVE_SAMPLES:
        return None
    shown = _shown_prototypes(evidence, shape[1])
    if shown is None:
        return None
    find = receptive.effective_boxes
    if len(shape) > 2:
        find = receptive.part_boxes
        most = MAX_RECEPTIVE_PARTS // (len(X) * shape[2])
        shown = shown[:, : max(most, 1)]
    x = torch.from_numpy(model._scaling.apply(X[:]))
    device = model._module.prototypes.device
    with torch.enable_grad():
        places = torch.from_numpy(shown).to(device)
        computed = find(model._module, x.to(device), places)
    found = computed.cpu().numpy().astype(float)
    found[found < 0] = np.nan
    boxes = np.full((*shape, 4), np.nan)
    row, column = np.nonzero(shown >= 0)
    boxes[row, shown[row, column]] = found[row, column]
    return boxes


def _shown_prototypes(evidence, n_prototypes: int) -> np.ndarray | None:
    """Positions (n, R) of the prototypes that an explanation shows; -1 for none."""
    if "path" in evidence:
        prototypes = np.asarray(evidence["tree"].prototype)
        paths = [prototypes[path] for path in evidence["path"]]
        shown = np.full((len(paths), max(map(len, paths))), -1)
        for row, path in zip(shown, paths, strict=True):
            row[: len(path)] = path
        return shown
    contributions = evidence["class_contributions"]
    if contributions.shape[1] != n_prototypes:
        return None
    # Those that put the leading class ahead of the runner-up, or hold it back.
    first, second = np.argsort(-contributions.sum(axis=1), axis=1)[:, :2].T
    row = np.arange(len(contributions))
    lead = contributions[row, :, first] - contributions[row, :, second]
    shown = np.argsort(-np.abs(lead), axis=1, kind="stable")
    return np.asarray(shown[:, :N_RECEPTIVE])
