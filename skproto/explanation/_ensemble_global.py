"""What an ensemble of prototype trees knows as a whole: its trees."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from skproto.explanation._gallery import Branch
from skproto.explanation._global import GlobalExplanation
from skproto.explanation._image_blocks import has_pictures
from skproto.explanation._text import Table
from skproto.explanation._tree_global import TreeGlobalExplanation, asked_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(kw_only=True, eq=False, repr=False)
class EnsembleGlobalExplanation(GlobalExplanation):
    """The trees of an ensemble.

    Parameters
    ----------
    estimator_name, classes, prototypes : object
        As in :class:`GlobalExplanation`.

    weights, win_counts, effective_size : object, optional
        As in :class:`GlobalExplanation`.

    trees : list of TreeGlobalExplanation
        The single trees; `prototypes` holds the prototypes of all of them.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skproto import ProtoTreeClassifier, ProtoTreeEnsembleClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> tree = ProtoTreeClassifier(depth=2, max_epochs=4)
    >>> model = ProtoTreeEnsembleClassifier(tree, n_estimators=2, random_state=0)
    >>> whole = model.fit(X, y).explain_global()  # an EnsembleGlobalExplanation
    >>> len(whole.trees)
    2
    """

    trees: list[TreeGlobalExplanation]

    def _heading(self) -> str:
        return f"{super()._heading()} in {len(self.trees)} trees"

    def to_text(self) -> str:
        """Return all trees as indented text.

        Returns
        -------
        text : str
            One tree after the other, see :meth:`TreeGlobalExplanation.to_text`.
        """
        return "\n".join(
            f"tree {t}\n{tree.to_text()}" for t, tree in enumerate(self.trees)
        )

    def _text(self) -> str:
        return self.to_text()

    def _tables(self) -> list[Table]:
        return [asked_table(self)] if has_pictures(self) else super()._tables()

    def _outline(self) -> list[Branch]:
        branches = []
        for t, tree in enumerate(self.trees):
            nodes = tree._outline()
            branches += [Branch(0, [], f"tree {t}", ""), *nodes] if nodes else []
        return branches

    def _outline_notes(self) -> list[str]:
        return self.trees[0]._outline_notes()

    def plot(
        self,
        ax: Axes | None = None,
        tree: int = 0,
        max_depth: int = 5,
        path: Iterable[int] = (),
    ) -> Axes:
        """Draw one of the trees, see :meth:`TreeGlobalExplanation.plot`.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; a new figure where None.

        tree : int, default=0
            Position of the tree.

        max_depth, path : object
            See :meth:`TreeGlobalExplanation.plot`.

        Returns
        -------
        ax : matplotlib Axes
            The axes drawn on.
        """
        name = f"{self.estimator_name}, tree {tree} of {len(self.trees)}"
        return replace(self.trees[tree], estimator_name=name).plot(ax, max_depth, path)
