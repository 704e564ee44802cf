"""Accuracy that no small change can lower, against the size of the change."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_consistent_length, column_or_1d

from skproto.display._model import fitted_model
from skproto.explanation._drawing import PALETTE, literal, new_axes
from skproto.robustness import attack as search_attack

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = ("solid", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
NORMS = {1.0: "sum of the changes", 2.0: "Euclidean length", np.inf: "largest change"}
UNITS = {"scaled": "scaled units", "input": "units of the input"}
CURVE = "skproto-certified"  # tells the curves of displays from other lines
BEYOND = 1.05  # share of the largest radius up to which the curve is drawn


class CertifiedAccuracyDisplay:
    """Certified accuracy against the radius of a change.

    The certified accuracy at a radius is the share of samples that are classified
    right whatever change of that length they suffer: a lower bound of the accuracy
    under the worst change. An attack gives an upper bound: the share of samples for
    which no shorter change was found. What lies between the two is open.

    Parameters
    ----------
    radius : array-like of shape (n_steps,)
        Radii at which the certified accuracy falls, ascending, from 0 on.

    certified_accuracy : array-like of shape (n_steps,)
        Certified accuracy from each radius to the next.

    accuracy : float
        Accuracy without a change.

    attack_radius : array-like of shape (n_attack_steps,), default=None
        Radii at which the accuracy under attack falls; None where nothing was
        attacked.

    attacked_accuracy : array-like of shape (n_attack_steps,), default=None
        Accuracy under attack from each of them to the next.

    norm : float, default=2
        Norm in which a change is measured.

    units : {"scaled", "input"} or None, default="scaled"
        Whether it is measured after the inner standardisation or in the user's units.

    name : str, default=None
        Name of the model in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes drawn on.

    figure_ : matplotlib Figure
        Figure of the axes.

    line_ : matplotlib Line2D
        Certified accuracy.

    accuracy_line_ : matplotlib Line2D or None
        Accuracy without a change.

    attack_line_ : matplotlib Line2D or None
        Accuracy under attack.

    gap_ : matplotlib PolyCollection or None
        What lies between the two.

    See Also
    --------
    skproto.robustness.certified_accuracy : The certified accuracy at some radii.
    skproto.robustness.attack : The attack.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import GLVQClassifier
    >>> from skproto.display import CertifiedAccuracyDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GLVQClassifier(max_epochs=5, random_state=0).fit(X, y)
    >>> display = CertifiedAccuracyDisplay.from_estimator(model, X, y)
    >>> display.ax_.get_xlabel()
    'size of the change (Euclidean length, scaled units)'
    >>> bool((display.certified_accuracy <= display.accuracy).all())
    True
    """

    ax_: Axes
    figure_: Any
    line_: Any
    accuracy_line_: Any
    attack_line_: Any
    gap_: Any

    def __init__(
        self,
        radius,
        certified_accuracy,
        accuracy,
        *,
        attack_radius=None,
        attacked_accuracy=None,
        norm=2,
        units="scaled",
        name=None,
    ):
        self.radius = column_or_1d(radius, dtype=np.float64)
        self.certified_accuracy = column_or_1d(certified_accuracy, dtype=np.float64)
        check_consistent_length(self.radius, self.certified_accuracy)
        self.accuracy = float(accuracy)
        if (attack_radius is None) != (attacked_accuracy is None):
            raise ValueError(
                "attack_radius and attacked_accuracy must be given together. Got "
                f"attack_radius={attack_radius!r} and "
                f"attacked_accuracy={attacked_accuracy!r}."
            )
        self.attack_radius, self.attacked_accuracy = None, None
        if attack_radius is not None:
            self.attack_radius = column_or_1d(attack_radius, dtype=np.float64)
            values = column_or_1d(attacked_accuracy, dtype=np.float64)
            check_consistent_length(self.attack_radius, values)
            self.attacked_accuracy = values
        if units not in (*UNITS, None):
            raise ValueError(f"units must be 'scaled', 'input' or None. Got {units!r}.")
        self.norm = float(norm)
        self.units = units
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        norm=2,
        method=None,
        units="scaled",
        attack=False,
        name=None,
        ax=None,
    ) -> Self:
        """Draw the certified accuracy of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted classifier with `certify`, or a pipeline or search that ends with
            one. A change is measured on the features that the classifier itself gets.

        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Samples.

        y : array-like of shape (n_samples,)
            True labels.

        norm : float, default=2
            Norm in which a change is measured: 1, 2 or ``np.inf`` where there is an
            attack.

        method : str, default=None
            Name of the certificate, the tightest where None.

        units : {"scaled", "input"}, default="scaled"
            See `certify`.

        attack : bool or dict, default=False
            Whether the samples are attacked too, or the options of
            :func:`skproto.robustness.attack` with which they are. Changes up to the
            largest certified radius are tried, or up to the option `radius`.

        name : str, default=None
            Name in the legend; that of the class where None.

        ax : matplotlib Axes, default=None
            Where to draw, also beside the curves of other models; a new figure where
            None.

        Returns
        -------
        display : CertifiedAccuracyDisplay
            What was drawn.

        Raises
        ------
        TypeError
            If the estimator cannot certify.
        """
        owner = f"{cls.__name__}.from_estimator"
        fitted = fitted_model(estimator, X, owner=owner, needs="certify")
        model, X = fitted.estimator, fitted.X
        how = {"norm": norm, "units": units}
        radius = model.certify(X, y, method=method, **how)
        distance = None
        if attack is not False:
            options = {} if attack is True else dict(attack)
            options.setdefault("radius", _largest(radius))
            distance = search_attack(model, X, y, **how, **options).distance
        return cls.from_predictions(
            y,
            model.predict(X),
            radius,
            attack_distance=distance,
            norm=norm,
            units=units,
            name=type(model).__name__ if name is None else name,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true,
        y_pred,
        radius,
        *,
        attack_distance=None,
        norm=2,
        units="scaled",
        name=None,
        ax=None,
    ) -> Self:
        """Draw the certified accuracy of predictions with radii.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.

        y_pred : array-like of shape (n_samples,)
            Predicted labels.

        radius : array-like of shape (n_samples,)
            Certified radii of the predictions. Those of wrong predictions do not
            count.

        attack_distance : array-like of shape (n_samples,), default=None
            Length of the smallest change found that alters a prediction, ``inf``
            where none was found.

        norm : float, default=2
            Norm in which a change is measured.

        units : {"scaled", "input"} or None, default="scaled"
            Units of the radii, for the name of the axis.

        name : str, default=None
            Name in the legend.

        ax : matplotlib Axes, default=None
            Where to draw, also beside the curves of other models; a new figure where
            None.

        Returns
        -------
        display : CertifiedAccuracyDisplay
            What was drawn.
        """
        y_true, y_pred = column_or_1d(y_true), column_or_1d(y_pred)
        radius = column_or_1d(radius, dtype=np.float64)
        check_consistent_length(y_true, y_pred, radius)
        if np.isnan(radius).any():
            raise ValueError("radius must hold no NaN.")
        right = y_true == y_pred
        steps = _survival(np.where(right, radius, 0.0))
        attacked: tuple[Any, Any] = (None, None)
        if attack_distance is not None:
            distance = column_or_1d(attack_distance, dtype=np.float64)
            check_consistent_length(distance, radius)
            attacked = _survival(np.where(right, distance, 0.0))
        return cls(
            *steps,
            accuracy_score(y_true, y_pred),
            attack_radius=attacked[0],
            attacked_accuracy=attacked[1],
            norm=norm,
            units=units,
            name=name,
        ).plot(ax)

    def plot(self, ax=None, *, name=None, plot_accuracy=True) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw, also beside the curves of other models; a new figure where
            None.

        name : str, default=None
            Name in the legend; that of the constructor where None.

        plot_accuracy : bool, default=True
            Whether a thin line shows the accuracy without a change.

        Returns
        -------
        display : CertifiedAccuracyDisplay
            The object itself.
        """
        purpose = f"{type(self).__name__}.plot"
        self.ax_ = ax = new_axes(8.8, 4.6, purpose) if ax is None else ax
        self.figure_ = ax.figure
        name = self.name if name is None else name
        turn = sum(line.get_gid() == CURVE for line in ax.lines)
        colour, style = PALETTE[turn % len(PALETTE)], LINES[turn % len(LINES)]
        end = self._end()
        prefix = "" if name is None else f"{name}: "
        steps = _until(self.radius, self.certified_accuracy, end)
        look: dict[str, Any] = {"color": colour, "drawstyle": "steps-post"}
        (self.line_,) = ax.plot(
            *steps, **look, linestyle=style, linewidth=2, label=f"{prefix}certified"
        )
        self.line_.set_gid(CURVE)
        self.accuracy_line_ = None
        if plot_accuracy:
            label = f"{prefix}no change, {self.accuracy:.3f}"
            self.accuracy_line_ = ax.axhline(
                self.accuracy, color=colour, linewidth=0.9, dashes=(8, 4), label=label
            )
        self._draw_attack(end, look, prefix)
        ax.set_xlabel(self._x_name())
        ax.set_ylabel("share of samples classified right")
        before = ax.get_xlim()[1] if turn else 0.0
        ax.set(ylim=(-0.02, 1.02), xlim=(0.0, max(end, before)))
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_title("Certified accuracy", loc="left")
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
        ax.legend(frameon=False, borderaxespad=0.0, **place)
        literal(ax)
        return self

    def _end(self) -> float:
        """Return the radius up to which the curves are drawn."""
        ends = [_largest(self.radius)]
        if self.attack_radius is not None:
            ends.append(_largest(self.attack_radius))
        return BEYOND * max(ends) or 1.0

    def _draw_attack(self, end: float, look: dict[str, Any], prefix: str) -> None:
        """Draw the accuracy under attack, and what lies between the two curves."""
        self.attack_line_, self.gap_ = None, None
        if self.attack_radius is None or self.attacked_accuracy is None:
            return
        x, y = _until(self.attack_radius, self.attacked_accuracy, end)
        label = f"{prefix}under attack"
        (self.attack_line_,) = self.ax_.plot(
            x, y, **look, linewidth=1.1, marker="v", markevery=0.12, label=label
        )
        grid = np.union1d(x, self.line_.get_xdata())
        upper = y[np.searchsorted(x, grid, side="right") - 1]
        x, y = self.line_.get_data()
        lower = y[np.searchsorted(x, grid, side="right") - 1]
        self.gap_ = self.ax_.fill_between(
            grid,
            lower,
            upper,
            step="post",
            color=look["color"],
            alpha=0.15,
            linewidth=0,
            label=f"{prefix}undecided",
        )

    def _x_name(self) -> str:
        measure = NORMS.get(self.norm, f"norm {self.norm:g}")
        units = "" if self.units is None else f", {UNITS[self.units]}"
        name = f"size of the change ({measure}{units})"
        return "\n".join(textwrap.wrap(name, 70))


def _largest(radius: np.ndarray) -> float:
    """Return the largest finite radius, 0 where there is none."""
    return float(radius[np.isfinite(radius)].max(initial=0.0))


def _survival(radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps of the share of samples with a radius above r, from 0 on."""
    finite = radius[np.isfinite(radius)]
    steps = np.unique(np.concatenate([[0.0], finite[finite > 0]]))
    order = np.sort(radius)
    above = len(order) - np.searchsorted(order, steps, side="right")
    return steps, above / max(len(order), 1)


def _until(x: np.ndarray, y: np.ndarray, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Lead the last step on to the end of the axis."""
    return np.append(x, max(end, x[-1])), np.append(y, y[-1])
