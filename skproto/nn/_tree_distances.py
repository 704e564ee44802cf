"""Distances of sites to prototypes, as pure tensor functions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, linear

#: A squared distance below this share of the squares that it is the difference of has
#: lost too many digits in float32: at the border about 2e-5 of it.
_CANCELLATION = 1e-2

#: Rows of a matrix product come in multiples of this, so that a row's bits do not
#: depend on how many there are.
_ROW_BLOCK = 16

#: Differences, or products, held at once where no gradient of them is needed: they
#: stay in the processor's cache.
_BLOCK_NUMBERS = 2**18


def squared_distances_matmul(z: Tensor, p: Tensor, w: Tensor | None) -> Tensor:
    """Weighted squared distances of all sites to all prototypes by matrix products.

    Off by up to about 1e-6 times the squared norms in float32, so good for choosing a
    site and for gradients, not for reporting a distance near zero.

    Parameters
    ----------
    z : Tensor of shape (n, T, D)
        Sites.
    p : Tensor of shape (N, D)
        Prototypes.
    w : Tensor of shape (N, D) or None
        Feature weights of each prototype; None means all one.

    Returns
    -------
    squared : Tensor of shape (n, T, N)
        ``sum_f w_nf (z_f - p_nf)^2``, at least 0.
    """
    return _one_product(z, p, w).clamp_min(0)


def _one_product(z: Tensor, p: Tensor, w: Tensor | None) -> Tensor:
    """Squared distances (n, T, N) before rounding below 0 is mended, in one product."""
    return linear(*_operands(z, p, w))


def _operands(z: Tensor, p: Tensor, w: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (n, T, F), columns (N, F) and constants (N,) that give squared distances."""
    if w is None:
        norms = (z * z).sum(-1, keepdim=True)
        ones = p.new_ones(len(p), 1)
        rows, columns = torch.cat([z, norms], -1), torch.cat([-2 * p, ones], -1)
        return rows, columns, (p * p).sum(-1)
    wp = w * p
    rows, columns = torch.cat([z, z * z], -1), torch.cat([-2 * wp, w], -1)
    return rows, columns, (wp * p).sum(-1)


class SmallestProduct(torch.autograd.Function):
    """Smallest product with a column among the rows of each sample, and its row.

    ``SmallestProduct.apply(rows, columns)`` of shapes (n, T, F) and (N, F) returns
    values (n, N) and positions (n, N). The products (n, T, N) are never held together,
    and the gradient, one number for each sample and column, is not spread over them.
    """

    @staticmethod
    def forward(rows, columns):
        """Multiply some samples at a time."""
        size = max(1, _BLOCK_NUMBERS // (rows.shape[1] * len(columns)))
        parts = [
            (part.flatten(0, 1) @ columns.T).unflatten(0, part.shape[:2]).min(dim=1)
            for part in rows.split(size)
        ]
        values, places = zip(*parts, strict=True)
        return torch.cat(values), torch.cat(places)

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keep what the gradient needs."""
        ctx.save_for_backward(*inputs, output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(True)

    @staticmethod
    def backward(ctx, gradient, _):
        """Add up columns for every row, and rows for every column."""
        rows, columns, places = ctx.saved_tensors
        n_samples, n_rows = rows.shape[:2]
        first = torch.arange(n_samples, device=rows.device)[:, None] * n_rows
        chosen = places + first
        # Pairs of sample and column, in the order of the rows that they chose.
        counts = torch.bincount(chosen.flatten(), minlength=n_samples * n_rows)
        order = chosen.flatten().argsort()
        for_rows = embedding_bag(
            order % len(columns),
            columns,
            counts.cumsum(0) - counts,
            mode="sum",
            per_sample_weights=gradient.flatten()[order],
        )
        for_columns = embedding_bag(
            chosen.T.contiguous(),
            rows.flatten(0, 1),
            mode="sum",
            per_sample_weights=gradient.T.contiguous(),
        )
        return for_rows.view_as(rows), for_columns


def squared_distances_double(z: Tensor, p: Tensor, w: Tensor | None) -> Tensor:
    """Weighted squared distances by matrix products in float64.

    What float64 cannot tell from 0 is 0: for float32 rows that is where z equals p.
    Rows come first in the products: so their bits do not depend on how many there are.

    Parameters
    ----------
    z : Tensor of shape (n, D)
        Rows.
    p : Tensor of shape (N, D)
        Prototypes.
    w : Tensor of shape (N, D) or None
        Feature weights; None means all one.

    Returns
    -------
    squared : Tensor of shape (n, N)
        ``sum_f w_nf (z_f - p_nf)^2`` in the type of `z`.
    """
    rows, p = z.double(), p.double()
    w = torch.ones_like(p) if w is None else w.double()
    wp = w * p
    norms = (wp * p).sum(1)
    squared = torch.addmm(norms, rows, wp.T, alpha=-2)
    squared = torch.addmm(squared, rows.square(), w.T)
    noise = 4 * p.shape[1] * torch.finfo(torch.float64).eps * norms
    return squared.masked_fill(squared <= noise, 0.0).to(z.dtype)


@torch.no_grad()
def squared_distances_mixed(z: Tensor, p: Tensor, w: Tensor | None) -> Tensor:
    """Weighted squared distances in float32, rows near a prototype in float64.

    Which rows are near is seen in the product itself: where it cancels. Their
    distances are those of :func:`squared_distances_double`, 0 where z equals p. Needs
    the values, so it cannot be traced, and has no gradients.

    Parameters
    ----------
    z : Tensor of shape (n, D)
        Rows.
    p : Tensor of shape (N, D)
        Prototypes.
    w : Tensor of shape (N, D) or None
        Feature weights; None means all one.

    Returns
    -------
    squared : Tensor of shape (n, N)
        ``sum_f w_nf (z_f - p_nf)^2``; a transposed view.
    """
    if z.dtype == torch.float64 or not len(p):
        return squared_distances_double(z, p, w)
    weights = torch.ones_like(p) if w is None else w
    wp = weights * p
    norms = (wp * p).sum(1, keepdim=True)
    mass = torch.addmm(norms, weights, z.square().T)
    squared = torch.addmm(mass, wp, z.T, alpha=-2)
    spare = torch.add(squared, mass, alpha=-_CANCELLATION, out=mass).amin(dim=0)
    near = (spare <= 0).nonzero().squeeze(1)
    if len(near):
        block = torch.cat([near, near.new_zeros(-len(near) % _ROW_BLOCK)])
        exact = squared_distances_double(z[block], p, w)[: len(near)]
        squared.index_copy_(1, near, exact.T)
    return squared.T


def squared_distances_exact(z: Tensor, p: Tensor, w: Tensor | None) -> Tensor:
    """Weighted squared distances by direct difference, exactly 0 where z equals p.

    Without gradients it works in blocks of rows that stay in the processor's cache.

    Parameters
    ----------
    z : Tensor of shape (n, N, D) or (n, 1, D)
        The site that each prototype is compared with.
    p : Tensor of shape (N, D)
        Prototypes.
    w : Tensor of shape (N, D) or None
        Feature weights; None means all one.

    Returns
    -------
    squared : Tensor of shape (n, N)
        ``sum_f w_nf (z_f - p_nf)^2``.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return _direct_difference(z, p, w)
    rows = max(1, _BLOCK_NUMBERS // max(1, p.numel()))
    return torch.cat([_direct_difference(part, p, w) for part in z.split(rows)])


def _direct_difference(z: Tensor, p: Tensor, w: Tensor | None) -> Tensor:
    """Compute the (n, N, D) differences at once and sum them over the features."""
    difference = (z - p).square()
    return (difference if w is None else difference * w).sum(-1)


def nearest(
    z: Tensor, p: Tensor, w: Tensor | None, *, exact: bool, traced: bool = True
) -> tuple[Tensor, Tensor]:
    """Squared distance of each prototype to the nearest site, and which site it is.

    Parameters
    ----------
    z : Tensor of shape (n, T, D)
        Sites.
    p : Tensor of shape (N, D)
        Prototypes.
    w : Tensor of shape (N, D) or None
        Feature weights; None means all one.
    exact : bool
        Whether the distance is 0 exactly where site and prototype are equal.
    traced : bool, default=True
        Whether gradients or a graph may be asked for; otherwise what is computed may
        depend on the values, which is faster.

    Returns
    -------
    squared, sites : Tensor of shape (n, N)
        Ties go to the first site.
    """
    if z.shape[1] > 1:
        # Mending after the minimum spares three passes over all sites.
        squared, sites = _smallest(z, p, w, exact)
        squared = squared.clamp_min(0)
        if exact:
            z = z.gather(1, sites.unsqueeze(2).expand(-1, -1, z.shape[2]))
            squared = squared_distances_exact(z, p, w)
        return squared, sites
    sites = torch.zeros_like(z[:, :, 0], dtype=torch.int64).expand(-1, len(p))
    if not exact:
        return squared_distances_matmul(z, p, w).squeeze(1), sites
    if z.device.type == "mps":  # has no float64
        return squared_distances_exact(z, p, w), sites
    product = squared_distances_double if traced else squared_distances_mixed
    return product(z.squeeze(1), p, w), sites


def _smallest(
    z: Tensor, p: Tensor, w: Tensor | None, exact: bool
) -> tuple[Tensor, Tensor]:
    """Squared distance (n, N) to the nearest site before mending, and the site."""
    if exact or not torch.is_grad_enabled() or not len(p):
        return _one_product(z, p, w).min(dim=1)
    rows, columns, constant = _operands(z, p, w)
    values, sites = SmallestProduct.apply(rows, columns)
    return values + constant, sites


def root(squared: Tensor) -> Tensor:
    """Square root with derivative 0 at 0, values untouched.

    Parameters
    ----------
    squared : Tensor
        Not negative.

    Returns
    -------
    root : Tensor
        Same shape.
    """
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1.0).sqrt(), 0.0)
