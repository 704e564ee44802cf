"""Which tokens of a vision transformer stand for patches, and where they lie."""

from __future__ import annotations

from torch import nn

# Names of the parameters that transformers and timm put in front of the patches.
CLASS_TOKENS = ("cls_token", "class_token", "class_embedding")
OTHER_TOKENS = (
    "distillation_token",
    "dist_token",
    "register_tokens",
    "reg_token",
    "reg_tokens",
    "storage_tokens",
)


def _extra_tokens(model: nn.Module, names: tuple[str, ...], dim: int) -> int:
    """Count tokens of dimension `dim` among the parameters with one of the names."""
    return sum(
        parameter.numel() // dim
        for name, parameter in model.named_parameters()
        if name.rpartition(".")[2] in names and parameter.numel() % dim == 0
    )


def prefix_tokens(model: nn.Module, dim: int) -> int:
    """Return the number of tokens in front of those of patches.

    Parameters
    ----------
    model : nn.Module
        A vision transformer.

    dim : int
        Dimension D of its tokens.

    Returns
    -------
    number : int
        Class and distillation token and registers, as far as it has them.
    """
    return _extra_tokens(model, CLASS_TOKENS + OTHER_TOKENS, dim)


def class_token_first(model: nn.Module) -> bool:
    """Return whether the first token is a class token."""
    return any(
        name.rpartition(".")[2] in CLASS_TOKENS for name, _ in model.named_parameters()
    )


def pair_of(size) -> tuple[int, int] | None:
    """Return a size as height and width; None for anything but one or two integers."""
    pair = (size, size) if isinstance(size, int) else size
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return None
    return (pair[0], pair[1]) if all(isinstance(n, int) for n in pair) else None


def grid_of_tokens(n_tokens, sides, patch_size=None) -> tuple[int, int] | None:
    """Return rows and columns of tokens that lie row by row over an image.

    Parameters
    ----------
    n_tokens : int
        Number of tokens of patches.

    sides : pair of int
        Height and width of the image in pixels.

    patch_size : int, pair of int or None, default=None
        Patch of the model's first layer. Models that merge patches have fewer tokens
        than it says.

    Returns
    -------
    grid : tuple of int or None
        The grid of patches, or of squares of one size that cover the image, cut off or
        completed at the far edges; None if no such grid has `n_tokens` cells.

    Examples
    --------
    >>> grid_of_tokens(16, (32, 32), patch_size=8)
    (4, 4)
    >>> grid_of_tokens(8, (32, 64))
    (2, 4)
    """
    height, width = sides
    patch = pair_of(patch_size)
    if patch is not None:
        rows, columns = height // patch[0], width // patch[1]
        if rows * columns == n_tokens:
            return rows, columns
    for stride in range(1, max(height, width) + 1):
        for grid in (
            (height // stride, width // stride),
            (-(-height // stride), -(-width // stride)),
        ):
            if grid[0] * grid[1] == n_tokens:
                return grid
    return None
