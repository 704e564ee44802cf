"""The training sites nearest to prototypes, and moving prototypes onto them.

A module whose prototypes can be moved onto parts of samples says what these are:

- ``candidates(x) -> (n, T, ...)``: what a prototype can become, such as the sites of
  the encoder, each of the shape of a prototype;
- ``search_vectors(candidates) -> (n, T, F)`` and ``search_targets() -> (P, F)``: the
  larger their inner product, the nearer the candidate;
- ``forbidden_candidates(x) -> (P, T) or (n, P, T)`` bool, if prototypes must not
  become some of them, or None;
- ``candidate_distances(points (k, P, ...)) -> (k, P)``: exact distances from the
  prototypes, 0 where they are the same;
- ``admissible(candidates) -> (n, T)`` bool, if some candidates do not count; at least
  one of every sample must.

A module without them returns "distances" (n, P), and "sites" where a sample has many.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skproto._predicting import CHUNK_ENTRIES, ROW_BLOCK, TABLE_BLOCK, _fill_block
from skproto.training import BatchDataset, TrainingData, chunks

# Candidates kept beyond those asked for: float32 cannot tell the nearest ones apart.
SLACK = 3

# Inner products that are held at a time.
MAX_PRODUCTS = 2_000_000


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

    points : Tensor of shape (k, P, ...) or None
        The candidates themselves, where the module has such.
    """

    index: NDArray[np.int64]
    sites: NDArray[np.int64]
    distances: NDArray[np.float64]
    points: Tensor | None = None


def sample_blocks(data, device, index=None) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield numbers of samples and the samples, in the blocks in which models predict.

    The bits of an embedding may depend on how many samples are passed at once; with
    these blocks they are those of `predict`.

    Parameters
    ----------
    data : TrainingData or BatchDataset
        Samples.

    device : torch.device
        Where they go.

    index : ndarray of int, default=None
        Samples wanted; all by default.

    Yields
    ------
    rows : ndarray of shape (r,)
        Numbers of the samples.

    x : Tensor of shape (r or more, ...)
        These samples, then filling.
    """
    entries = math.prod(data.X.shape[1:])
    block = TABLE_BLOCK if len(data.X.shape) == 2 else ROW_BLOCK
    size = int(np.clip(CHUNK_ENTRIES // max(entries, 1), block, 8192))
    n_samples = len(data) if index is None else len(index)
    for part in chunks(n_samples, size - size % block):
        # Neighbours are read as a slice, which copies nothing.
        if index is None:
            rows, samples = np.arange(part.start, part.stop), data.dense(part)
        else:
            rows, samples = index[part], data.dense(index[part])
        yield rows, torch.from_numpy(_fill_block(samples, block)).to(device)


def nearest_sites(
    module, data: TrainingData | BatchDataset, owners=None, k=1
) -> NearestSites:
    """Find the k samples nearest to every prototype.

    Parameters
    ----------
    module : nn.Module
        As described at the top of this file; put into evaluation mode.

    data : TrainingData or BatchDataset
        Samples to choose from, in their order; the first of equals wins.

    owners : ndarray of bool of shape (P, K), default=None
        Classes of which a prototype's sample must be; None: any.

    k : int, default=1
        Number of samples.

    Notes
    -----
    One pass of the encoder, and inner products in float32 of the sites of a class with
    the prototypes of that class alone. The few best are compared exactly.
    """
    module.eval()
    if not hasattr(module, "candidates"):
        return _nearest_by_outputs(module, data, owners, k)
    codes = np.asarray(data.y)
    with torch.inference_mode():
        search = _Search(module, owners, k + SLACK)
        find = getattr(module, "forbidden_candidates", lambda x: None)
        for rows, x in sample_blocks(data, module.prototypes.device):
            search.forbidden = find(x)
            search.add(module.candidates(x)[: len(rows)], codes[rows], int(rows[0]))
        return search.best(k)


class _Search:
    """The best candidates for every prototype among those seen so far."""

    def __init__(self, module, owners, k: int):
        self.module = module
        self.k = k
        device = module.prototypes.device
        shape = (k, len(module.prototypes))
        self.targets = module.search_targets().float()
        self.value = torch.full(shape, -torch.inf, device=device)
        self.index = torch.full(shape, -1, device=device)
        self.site = torch.zeros(shape, dtype=torch.int64, device=device)
        points = torch.zeros_like(module.prototypes)
        self.points = points.expand(k, *points.shape).clone()
        everyone = torch.arange(shape[1], device=device)
        # Candidates (P, T) or (n, P, T) that prototypes must not become.
        self.forbidden: Tensor | None = None
        self.groups: list[tuple[int | None, Tensor]] = [(None, everyone)]
        if owners is not None:
            self.groups = [
                (code, everyone[torch.from_numpy(column).to(device)])
                for code, column in enumerate(owners.T)
                if column.any()
            ]

    def add(self, candidates: Tensor, codes: np.ndarray, start: int) -> None:
        """Look at candidates (n, T, ...) of samples from number `start` on."""
        vectors = self.module.search_vectors(candidates).float()
        find = getattr(self.module, "admissible", None)
        counts = None if find is None else find(candidates)
        for code, owned in self.groups:
            members = slice(None) if code is None else np.flatnonzero(codes == code)
            rows = torch.arange(len(codes), device=owned.device)[members]
            size = max(1, MAX_PRODUCTS // (vectors.shape[1] * len(owned)))
            for part in rows.split(size):
                products = vectors[part] @ self.targets[owned].T
                if counts is not None:
                    products.masked_fill_(~counts[part][..., None], -torch.inf)
                self._merge(owned, candidates, part, start, products)

    def _merge(self, owned, candidates, rows, start, products) -> None:
        """Take in the best site of every row, for the prototypes that gain by it."""
        if not len(rows):  # a block without a sample of the class
            return
        if self.forbidden is not None:
            hidden = self.forbidden[..., owned, :].transpose(-1, -2)
            hidden = hidden if hidden.ndim == 2 else hidden[rows]
            products = products.masked_fill(hidden, -torch.inf)
        best = products.amax(1)
        gain = (best.amax(0) > self.value[-1, owned]).nonzero().squeeze(1)
        if not len(gain):
            return
        owned = owned[gain]
        best, order = best[:, gain].sort(dim=0, descending=True, stable=True)
        best, order = best[: self.k], order[: self.k]
        # The first of equal sites.
        site = products[order, :, gain].argmax(-1)
        points = candidates[rows[order], site].to(self.points)
        value = torch.cat([self.value[:, owned], best])
        number = (rows[order] + start).masked_fill(torch.isneginf(best), -1)
        index = torch.cat([self.index[:, owned], number])
        site = torch.cat([self.site[:, owned], site])
        points = torch.cat([self.points[:, owned], points])
        order = value.argsort(dim=0, descending=True, stable=True)[: self.k]
        column = torch.arange(len(owned), device=owned.device)
        self.value[:, owned] = value[order, column]
        self.index[:, owned] = index[order, column]
        self.site[:, owned] = site[order, column]
        self.points[:, owned] = points[order, column]

    def best(self, k: int) -> NearestSites:
        """Return the k nearest by their exact distances."""
        index, sites = self.index.cpu().numpy(), self.site.cpu().numpy()
        distances = self.module.candidate_distances(self.points).cpu().numpy()
        distances = np.where(index < 0, np.inf, distances)
        order = np.lexsort((index, distances), axis=0)[:k]
        column = np.arange(index.shape[1])
        rows = torch.from_numpy(order).to(self.points.device)
        points = self.points[rows, torch.from_numpy(column).to(rows)]
        return NearestSites(
            index[order, column],
            sites[order, column],
            distances[order, column],
            points.clone(),
        )


def _nearest_by_outputs(module, data, owners, k) -> NearestSites:
    """Find the nearest samples by the distances that the module returns."""
    n_prototypes = len(module.prototypes)
    best = NearestSites(
        np.full((k, n_prototypes), -1),
        np.zeros((k, n_prototypes), dtype=np.int64),
        np.full((k, n_prototypes), np.inf),
    )
    codes = np.asarray(data.y)
    for rows, x in sample_blocks(data, module.prototypes.device):
        with torch.inference_mode():
            outputs = module(x)
        distances = outputs["distances"][: len(rows)].double().cpu().numpy()
        if owners is not None:
            distances[~owners[:, codes[rows]].T] = np.inf
        sites = np.zeros(distances.shape, dtype=np.int64)
        if "sites" in outputs:
            sites = outputs["sites"][: len(rows)].cpu().numpy()
        best = _merge(best, distances, sites, int(rows[0]))
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
        None if nearest.points is None else nearest.points[rank, column],
    )


def distinct_rows(distances: np.ndarray) -> np.ndarray:
    """Give every prototype a sample of its own, nearest pairs first.

    Parameters
    ----------
    distances : ndarray of shape (n, P)
        Distances of all samples from the prototypes, inf where one must not be taken.

    Returns
    -------
    index : ndarray of shape (P,)
        Numbers of the samples; prototypes share one where there are too few.

    Examples
    --------
    >>> distinct_rows(np.array([[1.0, 2.0], [3.0, 8.0], [9.0, 9.0]])).tolist()
    [0, 1]
    """
    index = np.argsort(distances, axis=0, kind="stable")[: distances.shape[1]]
    nearest = np.take_along_axis(distances, index, 0)
    index = np.where(np.isfinite(nearest), index, -1)
    return distinct_sources(NearestSites(index, np.zeros_like(index), nearest)).index[0]


def site_embeddings(module, data: TrainingData, index, sites) -> Tensor:
    """Return the embeddings (P, D) or (P, M, D) of sites; 0 for a part that is off."""
    device = module.prototypes.device
    places = torch.from_numpy(np.ascontiguousarray(sites)).to(device)
    parts = []
    start = 0
    for rows, x in sample_blocks(data, device, np.asarray(index)):
        with torch.inference_mode():
            z = module.encoder(x)
        here = places[start : start + len(rows)]
        start += len(rows)
        flat = here.clamp_min(0).reshape(len(rows), -1)
        row = torch.arange(len(rows), device=device)[:, None]
        found = z[row, flat].unflatten(1, here.shape[1:] or (1,))
        off = (here < 0).reshape(found.shape[:-1])[..., None]
        found = found.masked_fill(off, 0.0)
        parts.append(found if here.ndim > 1 else found[:, 0])
    return torch.cat(parts).clone()


def project(module, data: TrainingData, owners=None, *, unique=False) -> NearestSites:
    """Move every prototype of a module onto its nearest admissible site.

    Parameters
    ----------
    module : nn.Module
        Changed in place by its method `set_prototypes`. A prototype without an
        admissible sample stays as it is, and so does one that is on a site.

    data, owners : object
        See :func:`nearest_sites`.

    unique : bool, default=False
        Whether no two prototypes may take the same sample, as far as there are enough.

    Returns
    -------
    nearest : NearestSites
        Where each has come from; the distances are those before the move.
    """
    k = min(_n_rivals(module, owners), len(data)) if unique else 1
    nearest = nearest_sites(module, data, owners, k)
    if unique:
        nearest = distinct_sources(nearest)
    is_found = nearest.index[0] >= 0
    found = np.flatnonzero(is_found & (nearest.distances[0] > 0))
    if len(found):
        points = module.prototypes.detach().clone()
        rows = torch.from_numpy(found).to(points.device)
        if nearest.points is None:
            index, sites = nearest.index[0, found], nearest.sites[0, found]
            moved = site_embeddings(module, data, index, sites)
        else:
            moved = nearest.points[0, rows]
        points[rows] = moved.to(points)
        module.set_prototypes(points)
    return nearest


def _n_rivals(module, owners) -> int:
    """Return how many prototypes may want the same sample at most."""
    if owners is None or (owners.sum(axis=1) > 1).any():
        return len(module.prototypes)
    return int(owners.sum(axis=0).max())


def projected_copy(module, data: TrainingData, owners=None, *, unique=False):
    """Project a copy of a module; return it and where its prototypes come from."""
    module = copy.deepcopy(module)
    return module, project(module, data, owners, unique=unique)
