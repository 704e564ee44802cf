"""How training went: the loss and its terms, epoch by epoch."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd

from skproto.display._model import fitted_model
from skproto.explanation._drawing import PALETTE, ink, literal, shorten
from skproto.utils._optional import import_optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOSSES = {"train_loss": "training", "valid_loss": "held out"}
OTHER = ("epoch", "phase", "dur", "tree")  # columns that are no curves
LINES = ("solid", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
COLOURS = tuple(colour for colour in PALETTE if colour != "#F0E442")  # no thin yellow
RATIO = 50.0  # of the largest to the smallest value: beyond it an axis is logarithmic
SHARE = 0.68  # of the width of an axes that is divided; the legends take the rest
LETTER = 0.085  # width of a letter of the names of phases, in inches


class Panel(NamedTuple):
    """One of the charts: its name, and the columns that it shows."""

    name: str
    columns: list[str]


class TrainingDisplay:
    """The loss and its terms by epoch, with the phases of training.

    Above the loss that training lowered, the total, with the held-out loss where there
    is one; below it the terms before they are weighted; then what else the history
    holds: learning rates, and scores that callbacks have recorded.

    Parameters
    ----------
    history : DataFrame
        One row an epoch, as `history_` of a fitted estimator.

    weights : mapping of str to float, default=None
        Weights of the terms, for the legend. Columns that it does not name are scores,
        and not terms, unless they belong to the pretraining; None takes all columns
        for terms.

    title : str, default="Training"
        Title of the picture.

    tree : int, default=0
        Tree that is shown, where the history is that of an ensemble.

    Attributes
    ----------
    axes_ : list of matplotlib Axes
        One chart each for the loss, the terms, the rates and the scores, as far as
        there are any.

    ax_ : matplotlib Axes
        The first of them.

    figure_ : matplotlib Figure
        Figure of the axes.

    lines_ : dict of str to matplotlib Line2D
        Curves by the columns of the history.

    phases_ : list of tuple of (str, int, int)
        Name, first and last epoch of each phase.

    See Also
    --------
    sklearn.model_selection.LearningCurveDisplay : Scores against the number of samples.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import RBFClassifier
    >>> from skproto.display import TrainingDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RBFClassifier(2, max_epochs=5, random_state=0).fit(X, y)
    >>> display = TrainingDisplay.from_estimator(model)
    >>> display.phases_
    [('joint', 1, 5)]
    >>> sorted(display.lines_)  # doctest: +ELLIPSIS
    ['cross_entropy', 'prototype_drift', 'train_loss', ...]
    """

    axes_: list[Axes]
    ax_: Axes
    figure_: Any
    lines_: dict[str, Any]
    phases_: list[tuple[str, int, int]]

    def __init__(self, history, *, weights=None, title="Training", tree=0):
        if not isinstance(history, pd.DataFrame):
            raise TypeError(
                "history must be a DataFrame with one row an epoch, such as history_ "
                f"of a fitted estimator. Got {type(history).__name__}."
            )
        missing = [name for name in ("epoch", "train_loss") if name not in history]
        if missing or history.empty:
            raise ValueError(
                "history must have the columns 'epoch' and 'train_loss' and a row for "
                f"each epoch. Got {len(history)} rows of {list(history.columns)}."
            )
        if "tree" in history:
            known = np.unique(history["tree"])
            if tree not in known:
                raise ValueError(f"tree must be one of {known.tolist()}. Got {tree!r}.")
            history = history[history["tree"] == tree].dropna(axis=1, how="all")
            title += f", tree {tree} of {len(known)}"
        self.history = history.reset_index(drop=True)
        self.weights = None if weights is None else dict(weights)
        self.title = title
        self.tree = tree

    @classmethod
    def from_estimator(cls, estimator, *, tree=0, ax=None) -> Self:
        """Draw the training of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted estimator of skproto, or a pipeline or search that ends with one.

        tree : int, default=0
            Tree of an ensemble.

        ax : matplotlib Axes or sequence of such, default=None
            Where to draw, see :meth:`plot`.

        Returns
        -------
        display : TrainingDisplay
            What was drawn.
        """
        owner = f"{cls.__name__}.from_estimator"
        model = fitted_model(estimator, owner=owner, needs="history_").estimator
        title = f"Training of {type(model).__name__}"
        weights = _weights(model, tree)
        return cls(model.history_, weights=weights, title=title, tree=tree).plot(ax)

    @classmethod
    def from_history(
        cls, history, *, weights=None, title="Training", tree=0, ax=None
    ) -> Self:
        """Draw a history.

        Parameters
        ----------
        history : DataFrame
            One row an epoch, as `history_` of a fitted estimator.

        weights, title, tree : object
            See the class.

        ax : matplotlib Axes or sequence of such, default=None
            Where to draw, see :meth:`plot`.

        Returns
        -------
        display : TrainingDisplay
            What was drawn.
        """
        return cls(history, weights=weights, title=title, tree=tree).plot(ax)

    def plot(self, ax=None, *, scale="auto") -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes or sequence of such, default=None
            One axes, which is divided, or one for each chart; a new figure where None.

        scale : {"auto", "linear", "log"}, default="auto"
            Scale of the charts. "auto" is logarithmic where the largest value is more
            than 50 times the smallest, or than the median of the sizes where some
            values are not positive; around 0 it is linear then.

        Returns
        -------
        display : TrainingDisplay
            The object itself.

        Raises
        ------
        ValueError
            If there are fewer axes than charts, or the scale is unknown.
        """
        if scale not in ("auto", "linear", "log"):
            raise ValueError(f"scale must be 'auto', 'linear' or 'log'. Got {scale!r}.")
        panels = self._panels()
        self.axes_ = self._make_axes(ax, len(panels))
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        self.lines_, self.phases_ = {}, _phases(self.history)
        for ax_, panel in zip(self.axes_, panels, strict=True):
            self._draw_panel(ax_, panel, scale)
        self.axes_[-1].set_xlabel("epoch")
        levels = self._draw_phases()
        title = "\n".join(textwrap.wrap(self.title, 60))
        self.ax_.set_title(title, loc="left", pad=6 + 13 * levels)
        for ax_ in self.axes_:
            literal(ax_)
        return self

    def _panels(self) -> list[Panel]:
        """Sort the columns of the history into charts."""
        curves = [
            str(name)
            for name in self.history.columns
            if name not in OTHER and pd.api.types.is_numeric_dtype(self.history[name])
        ]
        losses = [name for name in curves if name in LOSSES]
        rates = [n for n in curves if n == "lr" or n.endswith("_lr")]
        rest = [name for name in curves if name not in (*losses, *rates)]
        terms = [name for name in rest if self._is_term(name)]
        scores = [name for name in rest if name not in terms]
        if len(terms) == 1 and self.history[terms[0]].equals(
            self.history["train_loss"]
        ):
            terms = []  # the total is this term
        panels = (
            Panel("total loss", losses),
            Panel("terms, unweighted", terms),
            Panel("learning rate", rates),
            Panel("recorded", scores),
        )
        return [panel for panel in panels if panel.columns]

    def _is_term(self, name: str) -> bool:
        """Tell whether a column is a term of the loss, also of the pretraining."""
        if self.weights is None or name in self.weights:
            return True
        if "phase" not in self.history:
            return False
        inside = self.history["phase"] == "pretraining"
        return bool(inside.any() and self.history[name].notna().eq(inside).all())

    def _make_axes(self, ax, n_panels: int) -> list[Axes]:
        if ax is None:
            purpose = f"{type(self).__name__}.plot"
            pyplot = import_optional("matplotlib.pyplot", purpose, "plot")
            _, axes = pyplot.subplots(
                n_panels,
                figsize=(7.6, 1.2 + 2.1 * n_panels),
                layout="constrained",
                sharex=True,
                squeeze=False,
            )
            return list(axes[:, 0])
        if not hasattr(ax, "inset_axes"):
            axes = list(np.ravel(ax))
            if len(axes) != n_panels:
                raise ValueError(f"ax must be {n_panels} axes or one. Got {len(axes)}.")
            return axes
        if n_panels == 1:
            return [ax]
        ax.set_axis_off()
        height = 1.0 / n_panels
        places = [
            (0.0, 1.0 - (j + 1) * height, SHARE, 0.82 * height) for j in range(n_panels)
        ]
        return [ax.inset_axes(place) for place in places]

    def _draw_panel(self, ax: Axes, panel: Panel, scale: str) -> None:
        """Draw the curves of a chart, with their names beside it."""
        from matplotlib.ticker import MaxNLocator

        epochs = self.history["epoch"].to_numpy()
        few = len(epochs) <= 40
        for at, name in enumerate(panel.columns):
            values = self.history[name].to_numpy(dtype=float)
            look: dict[str, Any] = {
                "color": COLOURS[at % len(COLOURS)],
                "linestyle": LINES[at % len(LINES)],
                "marker": MARKERS[at % len(MARKERS)],
                "markersize": 4,
                "markevery": 1 if few else max(1, len(epochs) // 12),
            }
            (line,) = ax.plot(epochs, values, label=self._label(name), **look)
            self.lines_[name] = line
        values = self.history[panel.columns].to_numpy(dtype=float)
        _set_scale(ax, values[np.isfinite(values)], scale)
        ax.set_ylabel(panel.name)
        ax.set_xlim(*_limits(epochs))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.spines[["top", "right"]].set_visible(False)
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
        ax.legend(frameon=False, fontsize=8.5, borderaxespad=0.0, **place)

    def _label(self, name: str) -> str:
        """Name a curve, with the weight of a term."""
        if name in LOSSES:
            return LOSSES[name]
        shown = shorten(name.replace("_", " "), 24)
        weight = (self.weights or {}).get(name)
        return shown if weight is None else f"{shown} (weight {weight:.2g})"

    def _draw_phases(self) -> int:
        """Draw where the phases begin, and their names; returns the lines of names."""
        first, last = _limits(self.history["epoch"].to_numpy())
        if len(self.phases_) < 1 or "phase" not in self.history:
            return 0
        for ax in self.axes_:
            for at, (_, start, end) in enumerate(self.phases_):
                if at % 2:
                    edges = (start - 0.5, min(end + 0.5, last))
                    ax.axvspan(*edges, color=ink(), alpha=0.07, linewidth=0, zorder=0)
                if at:
                    look: dict[str, Any] = {"linestyle": (0, (2, 2)), "alpha": 0.6}
                    ax.axvline(start - 0.5, color=ink(), linewidth=0.8, **look)
        box = self.ax_.get_window_extent()
        letter = LETTER * self.ax_.figure.dpi * (last - first) / max(box.width, 1.0)
        ends: list[float] = []
        for name, start, _ in self.phases_:
            left = max(start - 0.5, first)
            level = next((i for i, end in enumerate(ends) if end <= left), len(ends))
            ends[level : level + 1] = [left + letter * (len(name) + 2)]
            self.ax_.annotate(
                name,
                (left, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(2, 3 + 12 * level),
                textcoords="offset points",
                fontsize=8.5,
                annotation_clip=False,
            )
        return len(ends)


def _weights(model, tree: int) -> dict[str, float] | None:
    """Return the weights of the terms of a fitted estimator."""
    model = getattr(model, "_engine", model)
    trees = getattr(model, "estimators_", None)
    if trees is not None:
        model = trees[tree] if 0 <= tree < len(trees) else None
    criterion = getattr(getattr(model, "net_", None), "criterion_", None)
    terms = getattr(criterion, "terms", None)
    if not terms:
        return None
    return {term.name: float(term.weight) for term in terms}


def _phases(history: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Return name, first and last epoch of each phase."""
    if "phase" not in history:
        return []
    names, epochs = history["phase"].astype(str).tolist(), history["epoch"].tolist()
    found: list[tuple[str, int, int]] = []
    for name, epoch in zip(names, epochs, strict=True):
        if found and found[-1][0] == name:
            found[-1] = (name, found[-1][1], int(epoch))
        else:
            found.append((name, int(epoch), int(epoch)))
    return found


def _limits(epochs: np.ndarray) -> tuple[float, float]:
    """Return the range of the axis of the epochs, half an epoch wider."""
    return float(epochs.min()) - 0.5, float(epochs.max()) + 0.5


def _set_scale(ax: Axes, values: np.ndarray, scale: str) -> None:
    """Choose a scale on which the finite values of a chart are told apart."""
    from matplotlib.ticker import NullFormatter

    size = np.abs(values)
    if scale != "auto":
        ax.set_yscale(scale)
    elif not (values <= 0).any():
        ax.set_yscale("log" if size.max() > RATIO * size.min() else "linear")
    elif size.max() > RATIO * np.median(size) > 0:
        near = 10.0 ** np.floor(np.log10(np.median(size)))
        ax.set_yscale("symlog", linthresh=near, linscale=0.5)
    if ax.get_yscale() != "linear":
        # Powers as plain numbers: text is not read as mathematics.
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
