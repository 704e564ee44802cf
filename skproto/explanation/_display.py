"""Text, HTML and pictures of samples, from what a subclass has to say about one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from skproto.explanation._html import notebook_html, samples_html
from skproto.explanation._text import MAX_SAMPLES, SampleView, sample_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class SampleDisplay:
    """Show some samples as text and HTML, and one as a picture.

    A subclass has a length, can be indexed, and says in `_view` what there is to say
    about one sample and in `_draw` how the first sample is drawn.
    """

    estimator_name: str
    _row_format = "{case}, contribution {value}"
    _amount = "contribution"  # what the numbers of a row are called in a table
    _full_bar: ClassVar[float | None] = None  # what its bar is long for at most

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, key: Any) -> Any:
        raise NotImplementedError

    def _view(self, i: int, n_for: int = 3, n_against: int = 1) -> SampleView:
        raise NotImplementedError

    def _heading(self, i: int) -> SampleView:
        raise NotImplementedError

    def _draw(self, ax: Axes | None) -> Axes:
        raise NotImplementedError

    def _title(self) -> str:
        """Return the title of a picture of the first sample."""
        return self._heading(0).title

    def __str__(self) -> str:
        if len(self) == 0:
            return f"{self.estimator_name}: no samples"
        shown = range(min(len(self), MAX_SAMPLES))
        blocks = [sample_text(self._view(i), self._row_format) for i in shown]
        if len(self) > MAX_SAMPLES:
            blocks.append(f"... and {len(self) - MAX_SAMPLES} more")
        return "\n".join(blocks)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def render() -> str:
            shown = range(min(len(self), MAX_SAMPLES))
            views = [self._view(i, n_for=5, n_against=3) for i in shown]
            heading = (self.estimator_name, self._amount)
            n_more = len(self) - len(views)
            return samples_html(heading, views, n_more, self._full_bar)

        return notebook_html(render, self)

    def plot(self, sample: int = 0, ax: Axes | None = None) -> Axes:
        """Draw the evidence for one sample with matplotlib.

        Parameters
        ----------
        sample : int, default=0
            Position of the sample in this explanation.

        ax : matplotlib Axes or None, default=None
            Where to draw; a new figure of fitting size where None.

        Returns
        -------
        ax : matplotlib Axes
            The axes drawn on.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        IndexError
            If there is no such sample.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import RBFClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = RBFClassifier(1, random_state=0).fit(X, y)
        >>> ax = model.explain(X[:2]).plot(sample=1)
        >>> ax.get_xlabel()
        'contribution to the class score'
        """
        return self[sample]._draw(ax)
