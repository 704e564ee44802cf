"""The training sites nearest to prototypes, and moving prototypes onto them."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from skproto.training import TrainingData


@dataclass(frozen=True)
class NearestSites:
    """The k samples nearest to each prototype, one site of each.

    Parameters
    ----------
    index : ndarray of shape (k, P)
        Numbers of the samples in the data, nearest first; -1 where there are fewer.

    sites : ndarray of shape (k, P) or (k, P, M)
        The nearest site of each sample, or the sites of its parts.

    distances : ndarray of shape (k, P)
        Distances of the prototypes from them, inf where there is no sample.
    """

    index: NDArray[np.int64]
    sites: NDArray[np.int64]
    distances: NDArray[np.float64]


def nearest_sites(module, data: TrainingData, owners=None, k=1) -> NearestSites:
    """Find the k samples nearest to every prototype.

    Parameters
    ----------
    module : nn.Module
        Returns "distances" (n, P) and, unless each sample is one site, "sites" (n, P)
        or (n, P, M).

    data : TrainingData
        Samples to choose from, in their order; the first of equals wins.

    owners : ndarray of bool of shape (P, K), default=None
        Classes of which a prototype's sample must be; None: any.

    k : int, default=1
        Number of samples.
    """
    n_prototypes = len(module.prototypes)
    device = module.prototypes.device
    best = NearestSites(
        np.full((k, n_prototypes), -1),
        np.zeros((k, n_prototypes), dtype=np.int64),
        np.full((k, n_prototypes), np.inf),
    )
    for rows in data.chunks():
        x = torch.from_numpy(data.dense(rows)).to(device)
        with torch.inference_mode():
            outputs = module(x)
        distances = outputs["distances"].double().cpu().numpy()
        if owners is not None:
            distances[~owners[:, np.asarray(data.y[rows])].T] = np.inf
        if "sites" in outputs:
            sites = outputs["sites"].cpu().numpy()
        else:
            sites = np.zeros(distances.shape, dtype=np.int64)
        best = _merge(best, distances, sites, rows.start)
    return best


def _merge(best: NearestSites, distances, sites, start: int) -> NearestSites:
    """Return the k best of those known and those of another chunk."""
    k, n_prototypes = best.index.shape
    order = np.argsort(distances, axis=0, kind="stable")[:k]
    found = np.take_along_axis(distances, order, 0)
    shape = (k, n_prototypes, *sites.shape[2:])
    known = best.sites
    if known.ndim < sites.ndim:
        known = np.broadcast_to(known[..., None], shape)
    column = np.arange(n_prototypes)
    index = np.concatenate([best.index, order + start])
    sites = np.concatenate([known, sites[order, column]])
    distances = np.concatenate([best.distances, found])
    order = np.argsort(distances, axis=0, kind="stable")[:k]
    distances = distances[order, column]
    index = np.where(np.isfinite(distances), index[order, column], -1)
    return NearestSites(index, sites[order, column], distances)


def distinct_sources(nearest: NearestSites) -> NearestSites:
    """Give every prototype a sample of its own, nearest pairs first.

    Parameters
    ----------
    nearest : NearestSites
        Several candidates for each prototype.

    Returns
    -------
    nearest : NearestSites
        One sample for each prototype. Where all candidates of a prototype are taken
        it shares its nearest one.
    """
    n_prototypes = nearest.index.shape[1]
    chosen = np.full(n_prototypes, -1)
    taken: set[int] = set()
    for flat in np.argsort(nearest.distances, axis=None, kind="stable").tolist():
        rank, prototype = divmod(flat, n_prototypes)
        sample = int(nearest.index[rank, prototype])
        if chosen[prototype] < 0 and sample >= 0 and sample not in taken:
            chosen[prototype] = rank
            taken.add(sample)
    rank = np.maximum(chosen, 0)[None]
    column = np.arange(n_prototypes)
    return NearestSites(
        nearest.index[rank, column],
        nearest.sites[rank, column],
        nearest.distances[rank, column],
    )


def site_embeddings(module, data: TrainingData, index, sites) -> torch.Tensor:
    """Return the embeddings (P, D) or (P, M, D) of sites; 0 for a part that is off."""
    sites = torch.from_numpy(np.ascontiguousarray(sites)).to(module.prototypes.device)
    parts = []
    # Few at a time: the sites of an image may be many.
    for start in range(0, len(index), 64):
        chosen = slice(start, start + 64)
        x = torch.from_numpy(data.dense(index[chosen])).to(module.prototypes.device)
        with torch.inference_mode():
            z = module.encoder(x)
        place = sites[chosen].clamp_min(0).reshape(len(z), -1)
        row = torch.arange(len(z), device=z.device)[:, None]
        found = z[row, place]
        if sites.ndim == 1:
            parts.append(found[:, 0])
        else:
            off = (sites[chosen] < 0)[..., None]
            parts.append(found.masked_fill(off, 0.0))
    return torch.cat(parts).clone()


def project(module, data: TrainingData, owners=None, *, unique=False) -> NearestSites:
    """Move every prototype of a module onto its nearest admissible site.

    Parameters
    ----------
    module : nn.Module
        Changed in place by its method `set_prototypes`. A prototype without an
        admissible sample stays as it is.

    data, owners : object
        See :func:`nearest_sites`.

    unique : bool, default=False
        Whether no two prototypes may take the same sample, as far as there are enough.

    Returns
    -------
    nearest : NearestSites
        Where each has come from; the distances are those before the move.
    """
    module.eval()
    n_prototypes = len(module.prototypes)
    k = min(n_prototypes, len(data), 32) if unique else 1
    nearest = nearest_sites(module, data, owners, k)
    if unique:
        nearest = distinct_sources(nearest)
    found = np.flatnonzero(nearest.index[0] >= 0)
    if len(found):
        points = module.prototypes.detach().clone()
        moved = site_embeddings(
            module, data, nearest.index[0, found], nearest.sites[0, found]
        )
        points[torch.from_numpy(found).to(points.device)] = moved.to(points)
        module.set_prototypes(points)
    return nearest


def projected_copy(module, data: TrainingData, owners=None, *, unique=False):
    """Project a copy of a module; return it and where its prototypes come from."""
    module = copy.deepcopy(module)
    return module, project(module, data, owners, unique=unique)
