"""Display of prototype trees."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from skproto.display._explained import ExplainedDisplay
from skproto.display._model import explain, explain_global, fitted_model
from skproto.explanation import EnsembleGlobalExplanation, TreeGlobalExplanation


class TreeDisplay(ExplainedDisplay):
    """A prototype tree: what each node asks, and the classes of the leaves.

    Parameters
    ----------
    explanation : TreeGlobalExplanation or EnsembleGlobalExplanation
        What `explain_global` of a tree or of an ensemble of trees returns.

    tree : int, default=0
        Position of the tree in an ensemble.

    path : sequence of int, default=()
        Nodes that are set off, such as those that a sample passes.

    max_depth : int, default=5
        Depth at which the drawing stops; what lies below is drawn as one leaf.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes drawn on.

    figure_ : matplotlib Figure
        Figure of the axes.

    lines_ : list of matplotlib Line2D
        Lines between the nodes.

    images_ : list of matplotlib AxesImage
        Pictures of the prototypes, where they are parts of images.

    texts_, bars_ : list of matplotlib artists
        What else was drawn, empty where there is none.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import ProtoTreeClassifier
    >>> from skproto.display import TreeDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = ProtoTreeClassifier(depth=2, max_epochs=5, random_state=0).fit(X, y)
    >>> display = TreeDisplay.from_estimator(model, X[:1])
    >>> len(display.lines_)  # two below each inner node
    6
    """

    _allowed = (TreeGlobalExplanation, EnsembleGlobalExplanation)
    explanation: TreeGlobalExplanation | EnsembleGlobalExplanation

    def __init__(self, explanation, *, tree=0, path=(), max_depth=5):
        super().__init__(explanation)
        self.tree = tree
        self.path = path
        self.max_depth = max_depth

    @classmethod
    def from_estimator(
        cls, estimator, X=None, *, sample=0, tree=0, max_depth=5, ax=None
    ) -> Self:
        """Draw the tree of a fitted estimator, and the path of a sample in it.

        Parameters
        ----------
        estimator : estimator
            Fitted prototype tree or ensemble of such, or a pipeline or search that
            ends with one.

        X : array-like of shape (n_samples, ...), default=None
            Samples of which one is followed; None sets off no path.

        sample : int, default=0
            Position of the sample to follow.

        tree : int, default=0
            Position of the tree in an ensemble.

        max_depth : int, default=5
            Depth at which the drawing stops.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure where None.

        Returns
        -------
        display : TreeDisplay
            What was drawn.

        Raises
        ------
        TypeError
            If the estimator has no tree.
        """
        owner = f"{cls.__name__}.from_estimator"
        fitted = fitted_model(estimator, X, owner=owner, needs="explain_global")
        if not issubclass(fitted.estimator._global_explanation_class, cls._allowed):
            raise TypeError(
                f"{owner} needs a ProtoTreeClassifier or a ProtoTreeEnsembleClassifier."
                f" Got {type(fitted.estimator).__name__}."
            )
        path: Iterable[int] = ()
        if X is not None:
            told = explain(fitted)
            path = getattr(told, "trees", [told] * (tree + 1))[tree].path[sample]
        options = {"tree": tree, "path": path, "max_depth": max_depth}
        return cls(explain_global(fitted), **options).plot(ax)

    @classmethod
    def from_explanation(
        cls, explanation, *, tree=0, path=(), max_depth=5, ax=None
    ) -> Self:
        """Draw the tree of which an explanation of a model speaks.

        Parameters
        ----------
        explanation : TreeGlobalExplanation or EnsembleGlobalExplanation
            What `explain_global` returns.

        tree : int, default=0
            Position of the tree in an ensemble.

        path : sequence of int, default=()
            Nodes to set off, such as an entry of `path` of a
            :class:`~skproto.explanation.TreeExplanation`.

        max_depth : int, default=5
            Depth at which the drawing stops.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure where None.

        Returns
        -------
        display : TreeDisplay
            What was drawn.
        """
        options = {"tree": tree, "path": path, "max_depth": max_depth}
        return cls(explanation, **options).plot(ax)

    def plot(self, ax=None, *, max_depth=None) -> Self:
        """Draw the tree.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure that grows with the tree where None.

        max_depth : int, default=None
            Depth at which the drawing stops; the one of the constructor where None.

        Returns
        -------
        display : TreeDisplay
            The object itself.
        """
        depth = self.max_depth if max_depth is None else max_depth
        if not isinstance(depth, int | np.integer) or depth < 0:
            raise ValueError(f"max_depth must be an int of at least 0. Got {depth!r}.")
        told = self.explanation
        options: dict[str, Any] = {"max_depth": int(depth), "path": self.path}
        if isinstance(told, EnsembleGlobalExplanation):
            options["tree"] = self.tree
        return self._draw(lambda ax: told.plot(ax, **options), ax)
