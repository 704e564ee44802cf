"""How similarities fall as attributes are changed more and more."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from skproto.attributes import _scores as scoring
from skproto.explanation import PrototypeTable
from skproto.explanation._cases import labelled_case
from skproto.explanation._drawing import PALETTE, new_axes
from skproto.explanation._fields import coerce, dims, plain

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MARKERS = "osD^vPX*"
LINES = ("-", "--", "-.", ":")


@dataclass(kw_only=True, eq=False)
class AttributeSweep:
    """Curves of the relative drop of similarity over the amount of change.

    An amount of 0 changes nothing. An amount of 1 is the farthest: the opposite hue, no
    saturation, no contrast, black, a shear of a quarter of the side, smoothing with h =
    32/255; for tables full replacement.

    Parameters
    ----------
    estimator_name : str
        Name of the estimator.

    attributes : array of str of shape (n_attributes,)
        Names of the attributes.

    prototypes : PrototypeTable
        The cases behind the prototypes.

    amounts : array of shape (n_steps,)
        Amounts of change, from 0 to 1.

    curves : array of shape (n_prototypes, n_attributes, n_steps)
        Mean drop as a share of the similarity, weighted by the similarity.

    level : float
        The drop that :attr:`amount_at_level` asks for.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import RBFClassifier
    >>> from skproto.attributes import PrototypeAttributeExplainer
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> model = RBFClassifier(1, random_state=0).fit(X, y)
    >>> explainer = PrototypeAttributeExplainer(model, random_state=0).fit(X)
    >>> sweep = explainer.sweep(X, n_steps=3)  # an AttributeSweep
    >>> sweep.curves.shape  # prototypes, attributes, amounts
    (3, 4, 3)
    """

    estimator_name: str
    attributes: np.ndarray = field(metadata=dims("A"))
    prototypes: PrototypeTable
    amounts: np.ndarray = field(metadata=dims("S"))
    curves: np.ndarray = field(metadata=dims("P", "A", "S"))
    level: float = 0.1

    def __post_init__(self) -> None:
        coerce(self, {"P": len(self.prototypes)})

    @property
    def area(self) -> np.ndarray:
        """Area under each curve (P, A): independent of one arbitrary strength."""
        return scoring.area_under(self.amounts, self.curves)

    @property
    def amount_at_level(self) -> np.ndarray:
        """Amount (P, A) at which the drop first reaches `level`; inf: never."""
        return scoring.first_reach(self.amounts, self.curves, self.level)

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each prototype and attribute.

        Returns
        -------
        frame : pandas DataFrame
            Columns `prototype`, `label`, `attribute`, `area`, `amount_at_level`.
        """
        import pandas as pd

        n_prototypes, n_attributes = self.area.shape
        return pd.DataFrame(
            {
                "prototype": np.repeat(self.prototypes.ids, n_attributes),
                "label": np.repeat(self.prototypes.labels, n_attributes),
                "attribute": np.tile(self.attributes, n_prototypes),
                "area": self.area.ravel(),
                "amount_at_level": self.amount_at_level.ravel(),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as lists, numbers and text.

        Returns
        -------
        content : dict
            Ready for `json.dumps`; NaN and infinities are None.
        """
        found = {"area": self.area, "amount_at_level": self.amount_at_level}
        return {"type": type(self).__name__, **plain(self), **plain(found)}

    def plot(self, prototype=None, ax: Axes | None = None) -> Axes:
        """Draw the curves.

        Parameters
        ----------
        prototype : int or None, default=None
            Position of the prototype; None: the mean over all.

        ax : matplotlib Axes or None, default=None
            Where to draw.

        Returns
        -------
        ax : matplotlib Axes
            The axes drawn on.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = new_axes(7.0, 4.2) if ax is None else ax
        if prototype is None:
            curves, name = scoring.median_of(self.curves, 0), "median over prototypes"
        else:
            curves = self.curves[prototype]
            name = labelled_case(self.prototypes, prototype)
        for a, curve in enumerate(curves):
            ax.plot(
                self.amounts,
                100 * curve,
                color=PALETTE[a % len(PALETTE)],
                marker=MARKERS[a % len(MARKERS)],
                linestyle=LINES[a % len(LINES)],
                markeredgecolor="black",
                markeredgewidth=0.5,
                label=str(self.attributes[a]),
            )
        ax.axhline(100 * self.level, color="0.4", linewidth=0.8)
        ax.set_xlabel("amount of change (0: none, 1: the farthest)")
        ax.set_ylabel("drop of the similarity (%)")
        ax.set_title(f"{self.estimator_name}: {name}", loc="left")
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        texts: list[Any] = ax.findobj(lambda artist: hasattr(artist, "set_parse_math"))
        for text in texts:
            text.set_parse_math(False)  # a feature may be called "cost ($)"
        return ax
