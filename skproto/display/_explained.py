"""Displays of explanations: they draw what the explanations draw themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from skproto.display._model import explain, explain_global, fitted_model
from skproto.explanation import Explanation, GlobalExplanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ExplainedDisplay:
    """What the displays of explanations have in common.

    Parameters
    ----------
    explanation : object
        What is drawn; one of `_allowed`.
    """

    _allowed: tuple[type, ...] = ()

    ax_: Axes
    figure_: Any
    bars_: list[Any]
    images_: list[Any]
    lines_: list[Any]
    texts_: list[Any]

    def __init__(self, explanation):
        if not isinstance(explanation, self._allowed):
            allowed = " or ".join(kind.__name__ for kind in self._allowed)
            article = "an" if allowed[0] in "AEIOU" else "a"
            raise TypeError(
                f"explanation must be {article} {allowed}. Got "
                f"{type(explanation).__name__}."
            )
        self.explanation = explanation

    def _draw(self, drawing: Callable[[Axes | None], Axes], ax: Axes | None) -> Self:
        """Draw, and keep the artists that have come to the axes."""
        before = set() if ax is None else set(ax.findobj())
        self.ax_ = drawing(ax)
        self.figure_ = self.ax_.figure
        every = [self.ax_, *self.ax_.child_axes]
        old = {id(artist) for artist in before}
        for name, kind in (
            ("bars_", "containers"),
            ("images_", "images"),
            ("lines_", "lines"),
            ("texts_", "texts"),
        ):
            found = [artist for one in every for artist in getattr(one, kind)]
            fresh = [artist for artist in found if id(artist) not in old]
            setattr(self, name, fresh)
        return self


class PrototypeDisplay(ExplainedDisplay):
    """The prototypes of a model: a gallery of images, or a table of their values.

    Images are drawn by class, as the parts of training images that they are, with
    their weight. The cells of the table hold the values in the user's units; the colour
    says how far they are from ordinary.

    Parameters
    ----------
    explanation : GlobalExplanation
        What `explain_global` returns.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes drawn on.

    figure_ : matplotlib Figure
        Figure of the axes.

    images_ : list of matplotlib AxesImage
        Pictures of the prototypes, or the coloured cells.

    texts_, bars_, lines_ : list of matplotlib artists
        What else was drawn, empty where there is none.

    See Also
    --------
    TreeDisplay : The tree in which the prototypes stand.
    ReasoningDisplay : What components count for the classes.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skproto import GLVQClassifier
    >>> from skproto.display import PrototypeDisplay
    >>> X, y = load_wine(return_X_y=True, as_frame=True)
    >>> model = GLVQClassifier(max_epochs=5, random_state=0).fit(X, y)
    >>> display = PrototypeDisplay.from_estimator(model)
    >>> display.images_[0].get_array().shape
    (6, 12)
    """

    _allowed = (GlobalExplanation,)
    explanation: GlobalExplanation

    @classmethod
    def from_estimator(cls, estimator, *, ax=None) -> Self:
        """Draw the prototypes of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted estimator of skproto, or a pipeline or search that ends with one.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure where None.

        Returns
        -------
        display : PrototypeDisplay
            What was drawn.
        """
        needs = {"owner": f"{cls.__name__}.from_estimator", "needs": "explain_global"}
        return cls(explain_global(fitted_model(estimator, **needs))).plot(ax)

    @classmethod
    def from_explanation(cls, explanation, *, ax=None) -> Self:
        """Draw the prototypes of which an explanation of a model speaks.

        Parameters
        ----------
        explanation : GlobalExplanation
            What `explain_global` returns.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure where None.

        Returns
        -------
        display : PrototypeDisplay
            What was drawn.
        """
        return cls(explanation).plot(ax)

    def plot(self, ax=None) -> Self:
        """Draw the prototypes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure where None.

        Returns
        -------
        display : PrototypeDisplay
            The object itself.
        """
        # Trees and components draw more than their prototypes when they are asked.
        return self._draw(lambda at: GlobalExplanation.plot(self.explanation, at), ax)


class ExplanationDisplay(ExplainedDisplay):
    """Why a sample was classified as it was.

    The same picture as :meth:`skproto.explanation.Explanation.plot`: contributions of
    prototypes as bars, the parts of an image beside those it is like, or the path in a
    tree.

    Parameters
    ----------
    explanation : Explanation
        What `explain` returns.

    sample : int, default=0
        Position of the sample in it.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes drawn on.

    figure_ : matplotlib Figure
        Figure of the axes.

    bars_ : list of matplotlib BarContainer
        Bars of contributions, or of the classes of a leaf.

    images_ : list of matplotlib AxesImage
        Pictures of the sample and of the prototypes.

    texts_, lines_ : list of matplotlib artists
        What else was drawn, empty where there is none.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import RBFClassifier
    >>> from skproto.display import ExplanationDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RBFClassifier(2, max_epochs=5, random_state=0).fit(X, y)
    >>> display = ExplanationDisplay.from_estimator(model, X[:3], sample=2)
    >>> len(display.bars_)
    2
    """

    _allowed = (Explanation,)
    explanation: Explanation

    def __init__(self, explanation, *, sample=0):
        super().__init__(explanation)
        self.sample = sample

    @classmethod
    def from_estimator(cls, estimator, X, *, sample=0, ax=None) -> Self:
        """Draw why a fitted estimator classifies a sample as it does.

        Parameters
        ----------
        estimator : estimator
            Fitted classifier of skproto, or a pipeline or search that ends with one.

        X : array-like of shape (n_samples, ...)
            Samples, as `predict` takes them.

        sample : int, default=0
            Position of the sample to draw.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure where None.

        Returns
        -------
        display : ExplanationDisplay
            What was drawn.
        """
        needs = {"owner": f"{cls.__name__}.from_estimator", "needs": "explain"}
        fitted = fitted_model(estimator, X, **needs)
        return cls(explain(fitted), sample=sample).plot(ax)

    @classmethod
    def from_explanation(cls, explanation, *, sample=0, ax=None) -> Self:
        """Draw a sample of an explanation.

        Parameters
        ----------
        explanation : Explanation
            What `explain` returns.

        sample : int, default=0
            Position of the sample to draw.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure where None.

        Returns
        -------
        display : ExplanationDisplay
            What was drawn.
        """
        return cls(explanation, sample=sample).plot(ax)

    # The predictions of a model of prototypes are its explanations.
    from_predictions = from_explanation

    def plot(self, ax=None, *, sample=None) -> Self:
        """Draw a sample.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure where None.

        sample : int, default=None
            Position of the sample; the one of the constructor where None.

        Returns
        -------
        display : ExplanationDisplay
            The object itself.
        """
        at = self.sample if sample is None else sample
        return self._draw(lambda ax: self.explanation.plot(at, ax), ax)
