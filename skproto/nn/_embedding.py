"""What encoders take and return, and how it is refused with what is expected."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from skproto.nn._tokens import pair_of
from skproto.nn.pretrained import adapt_backbone

# An encoder that prints as more than this is named by its class in messages.
LONGEST_REPR = 200


def shown(spec) -> str:
    """Return what the user asked for in a few words; modules may print as pages."""
    text = repr(spec)
    return text if len(text) <= LONGEST_REPR else type(spec).__name__


def channels_hint(sample_shape: tuple[int, ...]) -> str:
    """Return a sentence for images that seem to have their channels last, or ""."""
    if len(sample_shape) != 3 or sample_shape[2] not in (1, 3, 4):
        return ""
    if min(sample_shape[:2]) <= sample_shape[2]:
        return ""
    return (
        " Channels come before height and width; if they are last here, pass "
        "X.transpose(0, 3, 1, 2)."
    )


def check_embedding(z, name: str, shape) -> None:
    """Raise unless an encoder's output for `shape` is a float embedding of each."""
    tokens = z[0] if isinstance(z, tuple) and len(z) == 2 else z
    if not isinstance(tokens, Tensor) or tokens.ndim not in (2, 3, 4):
        raise ValueError(
            f"The encoder {name} must return a tensor of shape (n, D), (n, T, D) or "
            f"(n, D, H, W), or a pair of tokens (n, T, D) and a class token (n, D). "
            f"Got {shape_of(tokens)} for an input of shape {shape}."
        )
    got = tuple(tokens.shape)
    if len(tokens) != shape[0]:
        raise ValueError(
            f"The encoder {name} must return one embedding for each sample. Got "
            f"{got} for an input of shape {shape}."
        )
    if 0 in got:
        raise ValueError(
            f"The encoder {name} must return at least one site of at least one "
            f"dimension. Got {got} for an input of shape {shape}."
        )
    if isinstance(z, tuple):
        expected = (shape[0], tokens.shape[-1])
        if tokens.ndim != 3 or shape_of(z[1]) != expected:
            raise ValueError(
                f"The encoder {name} must return a pair of tokens (n, T, D) and a "
                f"class token (n, D). Got {got} and {shape_of(z[1])} for an input of "
                f"shape {shape}."
            )
    if tokens.dtype != torch.float32:
        raise ValueError(
            f"The encoder {name} must return numbers of type torch.float32 for an "
            f"input of that type. Got {tokens.dtype}; module.float() converts one."
        )


def shape_of(z) -> Any:
    """Return the shape of a tensor, the name of the class of anything else."""
    return tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__


def grid_of(body, z, input_shape) -> tuple[int, int] | None:
    """Rows and columns of the sites of an image."""
    if len(input_shape) != 3:
        return None
    tokens = z[0] if isinstance(z, tuple) else z
    if tokens.ndim == 4:
        return tuple(tokens.shape[2:])
    if tokens.ndim == 2:
        return (1, 1)
    grid = pair_of(getattr(body, "grid", None))
    if grid is not None and grid[0] * grid[1] == tokens.shape[1]:
        return grid
    side = round(tokens.shape[1] ** 0.5)
    return (side, side) if side**2 == tokens.shape[1] else None


def given_body(spec, shape: tuple[int, ...]) -> nn.Module:
    """Return the module that a user gives, or that their class or function makes."""
    if isinstance(spec, nn.Module):
        return adapt_backbone(spec)
    argument = shape[0] if len(shape) == 1 else shape
    try:
        body = spec(argument)
    except (ImportError, OSError):
        raise  # a package or weights that are not there
    except Exception as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"The encoder {spec!r} must take the number of features, or the shape of "
            f"an image, and return an nn.Module. It raised for {argument!r}: {error}"
        ) from error
    if not isinstance(body, nn.Module):
        raise TypeError(f"The encoder {spec!r} must return an nn.Module. Got {body!r}.")
    return adapt_backbone(body)
