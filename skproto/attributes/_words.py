"""Words for the scores of attributes: "mostly colour, hardly shape"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

#: The attributes of which the fewest make up this share of all drops come first.
MOSTLY = 0.5
#: A second one is named in one breath with the first from this share of it on.
ALIKE = 0.8
#: What follows is named from this share of all drops on.
ALSO = 0.15
#: What has less than this share hardly counts.
HARDLY = 0.05
# More attributes than this are not told one by one what hardly counts.
FEW = 6
#: More leading attributes than this have no leader among them.
MAX_LEADERS = 2
# Attributes named in all.
MAX_NAMED = 4

UNEXPLAINED = "unexplained: no attribute that was tried lowers the similarity"

#: Attributes of images that are one thing to the eye.
FAMILIES = {
    "hue": "colour",
    "saturation": "colour",
    "contrast": "light",
    "brightness": "light",
}


def describe(
    scores, similarity: float, names: Iterable[str], kind: str, tol: float
) -> str:
    """Say in words which attributes a similarity rests on.

    Parameters
    ----------
    scores : array of shape (A,)
        Drops of the similarity, attribute by attribute.

    similarity : float
        What they are drops of.

    names : sequence of str
        Attributes.

    kind : {"image", "table", "tokens", "text"}
        Attributes of images are put together to colour, light, shape and texture; the
        names of others are quoted.

    tol : float
        Share of the similarity below which a drop is none.

    Returns
    -------
    words : str
        Shares are of the sum of all drops that are positive. "mostly" stands before
        the one or two that make up half of it, "then" before others with at least 15
        %, "hardly" before those with less than 5 %. Attributes whose change makes the
        similarity rise, by at least 15 % of all drops, are named as such.

    Examples
    --------
    >>> describe([0.5, 0.02], 1.0, ["hue", "shape"], "image", 0.01)
    'mostly colour, hardly shape'
    >>> describe([0.3, 0.1, 0.02], 1.0, ["flavanoids", "proline", "ash"], "table", 0)
    "mostly 'flavanoids', then 'proline'"
    """
    scores, names = np.asarray(scores, dtype=np.float64), [str(n) for n in names]
    if np.isnan(scores).all() or not similarity > 0:
        return "not known: nothing is similar to it"
    gains = np.where(np.nan_to_num(scores) > tol * similarity, scores, 0.0)
    if not gains.any():
        return UNEXPLAINED
    signed = np.nan_to_num(scores) / gains.sum()
    labels, shares = _grouped(gains / gains.sum(), names, kind)
    _, balance = _grouped(signed, names, kind)
    order = np.argsort(-shares, kind="stable")
    n_leaders = int((np.cumsum(shares[order]) < MOSTLY - 1e-9).sum()) + 1
    text = _leading([labels[j] for j in order], shares[order], n_leaders)
    raising = [labels[j] for j in np.argsort(balance) if balance[j] < -ALSO]
    faint = [labels[j] for j in order if shares[j] < HARDLY]
    faint = [label for label in faint if label not in raising]
    if kind == "image" and faint and len(labels) <= FEW:
        text += f", hardly {_joined(faint, 'or')}"
    if raising:
        text += f"; a change of {_joined(raising[:MAX_NAMED], 'or')} raises it"
    return text


def _grouped(shares, names, kind) -> tuple[list[str], np.ndarray]:
    if kind != "image":
        return [f"'{name}'" for name in names], shares
    families = [FAMILIES.get(name, str(name)) for name in names]
    labels = list(dict.fromkeys(families))
    total = np.zeros(len(labels))
    np.add.at(total, [labels.index(family) for family in families], shares)
    return labels, total


def _leading(labels, shares, n_leaders: int) -> str:
    also = [label for label, share in zip(labels, shares, strict=True) if share >= ALSO]
    if n_leaders > MAX_LEADERS:
        return f"many together: first {_joined(labels[:MAX_NAMED])}"
    if n_leaders == 1:
        first, rest = f"mostly {labels[0]}", also[1:]
    elif shares[1] >= ALIKE * shares[0]:
        first, rest = f"mostly {labels[0]} and {labels[1]}", also[2:]
    else:
        first, rest = f"mostly {labels[0]}", [labels[1], *also[2:]]
    return first + (f", then {_joined(rest[: MAX_NAMED - 1])}" if rest else "")


def _joined(words: Sequence[str], last: str = "and") -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"
