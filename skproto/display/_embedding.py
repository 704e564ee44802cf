"""Data and prototypes in two dimensions."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils.validation import check_consistent_length

from skproto.display._model import fitted_model
from skproto.display._plane import (
    UNKNOWN,
    Areas,
    class_looks,
    draw_areas,
    labels_of,
    plane,
    predicted_areas,
    reduced,
    shown_name,
)
from skproto.display._space import compared
from skproto.explanation._drawing import (
    ink,
    literal,
    new_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_NAMED = 24  # classes in the legend
ONE_COLUMN = 12  # classes that stand below each other


class EmbeddingDisplay:
    """Samples and prototypes in the plane.

    Small markers are samples, large ones prototypes, with colour and shape for each
    class. A thin line leads from a prototype that was learned to the training sample
    behind it, where the two differ.

    Parameters
    ----------
    points : array-like of shape (n_samples, 2)
        Samples.

    prototypes : array-like of shape (n_prototypes, 2)
        Prototypes.

    y : array-like of shape (n_samples,), default=None
        Labels of the samples; all look alike where None.

    prototype_labels : array-like of shape (n_prototypes,), default=None
        Labels of the prototypes.

    sources : array-like of shape (n_prototypes, 2), default=None
        Training samples behind the prototypes, NaN where there is none.

    classes : array-like of shape (n_classes,), default=None
        Class labels in their order; those that occur, sorted, where None.

    axis_names : tuple of two str, default=("", "")
        Names of the axes.

    areas : tuple of (x, y, prediction), default=None
        Grid coordinates of shapes (n_columns,) and (n_rows,), and the labels of shape
        (n_rows, n_columns) that are predicted there.

    title : str, default=""
        Title of the picture.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes drawn on.

    figure_ : matplotlib Figure
        Figure of the axes.

    samples_ : list of matplotlib PathCollection
        Samples, one entry for each class that has some, in the order of the classes.

    prototypes_ : list of matplotlib PathCollection
        Prototypes, likewise.

    links_ : matplotlib LineCollection or None
        Lines from prototypes to their sources.

    areas_ : matplotlib QuadMesh or None
        Decision areas.

    See Also
    --------
    sklearn.inspection.DecisionBoundaryDisplay : Decision areas of any classifier.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skproto import GLVQClassifier
    >>> from skproto.display import EmbeddingDisplay
    >>> X, y = load_wine(return_X_y=True)
    >>> model = GLVQClassifier(max_epochs=5, random_state=0).fit(X, y)
    >>> display = EmbeddingDisplay.from_estimator(model, X, y)
    >>> display.ax_.get_xlabel()
    'principal component 1 (36% of the variance)'
    >>> [len(drawn.get_offsets()) for drawn in display.prototypes_]
    [2, 2, 2]
    """

    ax_: Axes
    figure_: Any
    samples_: list[Any]
    prototypes_: list[Any]
    links_: Any
    areas_: Any

    def __init__(
        self,
        points,
        prototypes,
        *,
        y=None,
        prototype_labels=None,
        sources=None,
        classes=None,
        axis_names=("", ""),
        areas=None,
        title="",
    ):
        self.points = plane("points", points)
        self.prototypes = plane("prototypes", prototypes)
        self.y = labels_of(y, self.points)
        self.prototype_labels = labels_of(prototype_labels, self.prototypes)
        self.sources = None
        if sources is not None:
            self.sources = plane("sources", sources, missing=True)
            check_consistent_length(self.sources, self.prototypes)
        if classes is None:
            known = [
                part for part in (self.y, self.prototype_labels) if part is not None
            ]
            classes = np.unique(np.concatenate(known)) if known else np.array([])
        self.classes = np.asarray(classes)
        self.axis_names = axis_names
        self.areas = None if areas is None else Areas(*map(np.asarray, areas))
        self.title = title

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y=None,
        *,
        transformer=None,
        decision_areas="auto",
        grid_resolution=200,
        tree=0,
        ax=None,
    ) -> Self:
        """Draw samples and prototypes as a fitted estimator compares them.

        The space is that of the model: features divided by their scale, with the
        metric that all prototypes share, or what the encoder makes of a sample. Of
        images with many sites the one is taken that is most like the prototype that
        the image is most like. Feature weights and metrics that each prototype has for
        itself have no common space and are left out.

        A table of two features without an encoder is drawn as it is, in the user's
        units, and so is an encoder with two dimensions.

        Parameters
        ----------
        estimator : estimator
            Fitted estimator of skproto, or a pipeline or search that ends with one.

        X : array-like of shape (n_samples, ...)
            Samples, as `predict` takes them.

        y : array-like of shape (n_samples,), default=None
            Labels of the samples; all look alike where None.

        transformer : transformer, default=None
            Brings the space to two dimensions: cloned, and fitted to the samples; to
            samples, prototypes and sources together where it has only
            `fit_transform`, as t-SNE. None takes the two first principal components.

        decision_areas : bool or "auto", default="auto"
            Whether the predicted classes are drawn behind the samples. Possible where
            the space has two dimensions by itself; "auto" draws them there.

        grid_resolution : int, default=200
            Points a side of the grid of the decision areas.

        tree : int, default=0
            Position of the tree in an ensemble whose trees have encoders of their own.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure where None.

        Returns
        -------
        display : EmbeddingDisplay
            What was drawn.

        Raises
        ------
        ValueError
            If the transformer does not return two columns, or decision areas are asked
            for where the space has more than two dimensions.
        """
        owner = f"{cls.__name__}.from_estimator"
        fitted = fitted_model(estimator, X, owner=owner, needs="prototypes_")
        model = fitted.estimator
        space = compared(model, fitted.X, fitted.feature_names, tree)
        parts, names = reduced(space, transformer)
        plain = transformer is None and space.predict is not None
        if decision_areas is True and not plain:
            raise ValueError(
                "decision_areas=True needs samples of two features without an encoder, "
                "or an encoder of two dimensions, and transformer=None. The space of "
                f"this {type(model).__name__} has {space.samples.shape[1]} dimensions."
            )
        areas = None
        if plain and decision_areas and space.predict is not None:
            areas = predicted_areas(space.predict, parts, int(grid_resolution))
        labels = space.labels
        return cls(
            parts[0],
            parts[1],
            y=y,
            prototype_labels=labels,
            sources=parts[2],
            classes=None if labels is None else model.classes_,
            axis_names=names,
            areas=areas,
            title=f"{type(model).__name__}: {len(parts[0])} samples, "
            f"{len(parts[1])} prototypes",
        ).plot(ax)

    @classmethod
    def from_predictions(
        cls,
        points,
        y=None,
        *,
        prototypes,
        prototype_labels=None,
        sources=None,
        classes=None,
        axis_names=("", ""),
        areas=None,
        title="",
        ax=None,
    ) -> Self:
        """Draw samples and prototypes that have been embedded elsewhere.

        Parameters
        ----------
        points : array-like of shape (n_samples, 2)
            Samples.

        y : array-like of shape (n_samples,), default=None
            Their labels, true or predicted.

        prototypes : array-like of shape (n_prototypes, 2)
            Prototypes.

        prototype_labels, sources, classes, axis_names, areas, title : object
            See the class.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure where None.

        Returns
        -------
        display : EmbeddingDisplay
            What was drawn.
        """
        told = {"y": y, "prototype_labels": prototype_labels, "sources": sources}
        told |= {"classes": classes, "areas": areas, "title": title}
        return cls(points, prototypes, axis_names=axis_names, **told).plot(ax)

    def plot(self, ax=None, *, links=True, decision_areas=True) -> Self:
        """Draw samples and prototypes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure where None.

        links : bool, default=True
            Whether lines lead from prototypes to the training samples behind them.

        decision_areas : bool, default=True
            Whether decision areas are drawn, where they are known.

        Returns
        -------
        display : EmbeddingDisplay
            The object itself.
        """
        purpose = f"{type(self).__name__}.plot"
        width = 5.4 + self._legend_width()
        self.ax_ = new_axes(width, 5.2, purpose) if ax is None else ax
        self.figure_ = self.ax_.figure
        self.areas_ = None
        if decision_areas and self.areas is not None:
            self.areas_ = draw_areas(self.ax_, self.areas, self.classes)
        self.samples_ = self._draw_points(self.points, self.y, prototypes=False)
        self.links_ = self._draw_links() if links else None
        labels = self.prototype_labels
        self.prototypes_ = self._draw_points(self.prototypes, labels, prototypes=True)
        self.ax_.set(xlabel=self.axis_names[0], ylabel=self.axis_names[1])
        title = "\n".join(textwrap.wrap(self.title, 60))
        self.ax_.set_title(title, loc="left")
        self._draw_legend()
        literal(self.ax_)
        return self

    def _draw_points(self, points, labels, *, prototypes: bool) -> list[Any]:
        """Draw points in the colour and the shape of their class."""
        drawn = []
        for k, look in class_looks(len(self.classes)):
            chosen = slice(None) if k < 0 else labels == self.classes[k]
            if (k < 0) != (labels is None) or not len(points[chosen]):
                continue
            if prototypes:
                style: dict[str, Any] = {"s": 110, "linewidth": 1.5, "zorder": 4}
                style |= {"edgecolor": ink()}
            else:
                style = {"s": 18, "linewidth": 0.25, "alpha": 0.65, "zorder": 2}
                style |= {"edgecolor": ink()}
            x, y = points[chosen].T
            drawn.append(self.ax_.scatter(x, y, **look, **style))
        return drawn

    def _moved(self) -> np.ndarray:
        """Tell which prototypes are not where their source is, bool (P,)."""
        if self.sources is None:
            return np.zeros(len(self.prototypes), dtype=bool)
        gap = np.abs(self.sources - self.prototypes).max(axis=1)
        spread = np.ptp(np.concatenate([self.points, self.prototypes]), axis=0).max()
        return np.isfinite(gap) & (gap > 1e-6 * spread)

    def _draw_links(self) -> Any:
        """Draw lines from prototypes to the training samples behind them."""
        from matplotlib.collections import LineCollection

        moved = self._moved()
        if self.sources is None or not moved.any():
            return None
        ends = np.stack([self.prototypes[moved], self.sources[moved]], axis=1)
        lines = LineCollection(list(ends), colors=ink(), linewidths=1.0, zorder=3)
        self.ax_.add_collection(lines)
        look: dict[str, Any] = {"marker": "x", "s": 26, "linewidth": 1.2, "zorder": 3}
        x, y = self.sources[moved].T
        self.ax_.scatter(x, y, color=ink(), **look)
        return lines

    def _n_columns(self) -> int:
        """Return the number of columns of the legend."""
        return 1 if len(self.classes) <= ONE_COLUMN else 2

    def _legend_width(self) -> float:
        """Return the width of the legend in inches."""
        names = ["its training sample", *map(shown_name, self.classes[:MAX_NAMED])]
        return self._n_columns() * (0.6 + 0.085 * max(map(len, names)))

    def _draw_legend(self) -> None:
        """Name the classes and the markers beside the data."""
        from matplotlib.lines import Line2D

        def mark(label: str, size: float, look: dict[str, Any]) -> Line2D:
            return Line2D(
                [], [], linestyle="none", label=label, markersize=size, **look
            )

        plain: dict[str, Any] = {"marker": "o", "color": UNKNOWN}
        ring = {**plain, "markeredgecolor": ink(), "markeredgewidth": 1.5}
        marks = [mark("sample", 4.5, plain), mark("prototype", 10, ring)]
        if self.links_ is not None:
            cross: dict[str, Any] = {"marker": "x", "color": ink(), "linestyle": "-"}
            marks.append(Line2D([], [], label="its training sample", **cross))
        looks = dict(class_looks(len(self.classes)))
        shown = range(min(len(self.classes), MAX_NAMED))
        for k in shown:
            edge = {"markeredgecolor": ink(), "markeredgewidth": 0.6}
            name = shown_name(self.classes[k])
            marks.append(mark(name, 7, {**looks[k], **edge}))
        if len(self.classes) > MAX_NAMED:
            rest = len(self.classes) - MAX_NAMED
            marks.append(mark(f"and {rest} more classes", 0, plain))
        place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
        self.ax_.legend(handles=marks, ncols=self._n_columns(), frameon=False, **place)
