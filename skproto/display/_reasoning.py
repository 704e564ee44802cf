"""Display of what must be present and what must be absent for a class."""

from __future__ import annotations

from typing import Self

from skproto.display._explained import ExplainedDisplay
from skproto.display._model import explain, explain_global, fitted_model
from skproto.explanation import ReasoningExplanation, ReasoningGlobalExplanation


class ReasoningDisplay(ExplainedDisplay):
    """What must be present and what must be absent for a class.

    Of a model: a table, or a gallery of images, of the components with the weights of
    their presence and of their absence in each class. Of a sample: what presence and
    absence gave the predicted class and the runner-up.

    Parameters
    ----------
    explanation : ReasoningGlobalExplanation or ReasoningExplanation
        What `explain_global` or `explain` of a
        :class:`~skproto.shallow.CBCClassifier` returns.

    sample : int, default=0
        Position of the sample in an explanation of samples.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes drawn on.

    figure_ : matplotlib Figure
        Figure of the axes.

    bars_ : list of matplotlib BarContainer
        Bars of presence and absence of a sample.

    images_ : list of matplotlib AxesImage
        The coloured cells, or the pictures of the components.

    texts_, lines_ : list of matplotlib artists
        What else was drawn, empty where there is none.

    References
    ----------
    Saralajew, Rana, Villmann and Shaker (2025). A Robust Prototype-Based Network with
    Interpretable RBF Classifier Foundations. AAAI.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import CBCClassifier
    >>> from skproto.display import ReasoningDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = CBCClassifier(1, max_epochs=5, random_state=0).fit(X, y)
    >>> display = ReasoningDisplay.from_estimator(model)
    >>> display.images_[0].get_array().shape  # components and classes
    (3, 3)
    >>> len(ReasoningDisplay.from_estimator(model, X[:1]).bars_)
    4
    """

    _allowed = (ReasoningGlobalExplanation, ReasoningExplanation)
    explanation: ReasoningGlobalExplanation | ReasoningExplanation

    def __init__(self, explanation, *, sample=0):
        super().__init__(explanation)
        self.sample = sample

    @classmethod
    def from_estimator(cls, estimator, X=None, *, sample=0, ax=None) -> Self:
        """Draw the reasoning of a fitted estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted :class:`~skproto.shallow.CBCClassifier`, or a pipeline or search
            that ends with one.

        X : array-like of shape (n_samples, ...), default=None
            Samples of which one is drawn; None draws the model.

        sample : int, default=0
            Position of the sample to draw.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure where None.

        Returns
        -------
        display : ReasoningDisplay
            What was drawn.

        Raises
        ------
        TypeError
            If the estimator does not reason by components.
        """
        owner = f"{cls.__name__}.from_estimator"
        fitted = fitted_model(estimator, X, owner=owner, needs="explain_global")
        kind = fitted.estimator._global_explanation_class
        if not issubclass(kind, ReasoningGlobalExplanation):
            raise TypeError(
                f"{owner} needs an estimator that reasons by presence and absence: a "
                f"CBCClassifier. Got {type(fitted.estimator).__name__}."
            )
        told = explain_global(fitted) if X is None else explain(fitted)
        return cls(told, sample=sample).plot(ax)

    @classmethod
    def from_explanation(cls, explanation, *, sample=0, ax=None) -> Self:
        """Draw the reasoning of which an explanation speaks.

        Parameters
        ----------
        explanation : ReasoningGlobalExplanation or ReasoningExplanation
            Of a model, or of samples.

        sample : int, default=0
            Position of the sample to draw.

        ax : matplotlib Axes, default=None
            Where to draw; a new figure where None.

        Returns
        -------
        display : ReasoningDisplay
            What was drawn.
        """
        return cls(explanation, sample=sample).plot(ax)

    def plot(self, ax=None, *, sample=None) -> Self:
        """Draw the reasoning.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; a new figure where None.

        sample : int, default=None
            Position of the sample; the one of the constructor where None.

        Returns
        -------
        display : ReasoningDisplay
            The object itself.
        """
        told = self.explanation
        if isinstance(told, ReasoningGlobalExplanation):
            return self._draw(told.plot, ax)
        at = self.sample if sample is None else sample
        return self._draw(lambda ax: told.plot(at, ax), ax)
