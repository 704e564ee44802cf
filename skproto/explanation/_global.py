"""What a whole model knows: its prototypes, their weight and their use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from skproto.explanation._cases import case_name, labelled_case, place_columns
from skproto.explanation._drawing import MAX_COLUMNS, MAX_ROWS, draw_table
from skproto.explanation._drawing_gallery import (
    PER_LINE,
    draw_gallery,
    lines_per_class,
    tiles_per_line,
)
from skproto.explanation._fields import coerce, dims, plain
from skproto.explanation._gallery import Branch, Group, class_groups, weight_texts
from skproto.explanation._html import notebook_html, tables_html
from skproto.explanation._image_blocks import (
    gallery_notes,
    has_pictures,
    source_text,
)
from skproto.explanation._numbers import number
from skproto.explanation._prototypes import PrototypeTable
from skproto.explanation._text import MAX_FEATURES, Table, table_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

HTML_CLASSES, HTML_TILES = 40, 8  # classes in HTML, and prototypes of each


@dataclass(kw_only=True, eq=False, repr=False)
class GlobalExplanation:
    """The prototypes of a fitted model, in the user's units.

    Parameters
    ----------
    estimator_name : str
        Name of the estimator.

    classes : array of shape (n_classes,)
        Class labels.

    prototypes : PrototypeTable
        The prototypes and the cases behind them.

    weights : array of shape (n_prototypes, n_classes) or None, default=None
        Weights of a head that is linear in the similarities.

    win_counts : array of int of shape (n_prototypes,) or None, default=None
        For how many training samples each prototype is the most similar one.

    effective_size : array of shape (n_classes,) or None, default=None
        How many prototypes each class really uses: the exponential of the entropy of
        their shares.

    Raises
    ------
    ValueError
        If two arrays contradict each other in shape.

    Examples
    --------
    >>> from skproto.explanation import GlobalExplanation, PrototypeTable
    >>> model = GlobalExplanation(
    ...     estimator_name="GLVQClassifier", classes=["benign", "malignant"],
    ...     win_counts=[30, 10],
    ...     prototypes=PrototypeTable(
    ...         ids=[0, 1], labels=["benign", "malignant"], indices=[4, 212],
    ...         values=[[12.1], [17.9]], projection_distance=[0, 0],
    ...         is_case=[True, True], feature_names=["mean radius"],
    ...     ),
    ... )
    >>> print(model)
    GLVQClassifier: 2 prototypes for 2 classes
      prototype                     wins  stands out by
      training row 4 (benign)       30    mean radius 12.1
      training row 212 (malignant)  10    mean radius 17.9
    >>> model.to_frame()["mean radius"].tolist()
    [12.1, 17.9]
    """

    estimator_name: str
    classes: np.ndarray = field(metadata=dims("K"))
    prototypes: PrototypeTable
    weights: np.ndarray | None = field(default=None, metadata=dims("P", "K"))
    win_counts: np.ndarray | None = field(default=None, metadata=dims("P"))
    effective_size: np.ndarray | None = field(default=None, metadata=dims("K"))

    def __post_init__(self) -> None:
        table = self.prototypes
        coerce(self, {"P": len(table), "f": len(table.names)})

    def __len__(self) -> int:
        return len(self.prototypes)

    # Export

    def to_frame(self) -> pd.DataFrame:
        """Return the table of prototypes in the user's units.

        Returns
        -------
        frame : pandas DataFrame
            One row for each prototype: who it is, where in its source it lies, how
            often it wins, its weights where the head is linear, then its features by
            name. A feature that is called as one of the first columns gets
            `` (feature)`` appended.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import RBFClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = RBFClassifier(1, random_state=0).fit(X, y)
        >>> model.explain_global().to_frame().shape[0]  # one row for each prototype
        3
        """
        import pandas as pd

        table = self.prototypes
        columns: dict[str, Any] = {
            "prototype": table.ids,
            "label": table.labels,
            "training_row": table.indices,
            "is_case": table.is_case,
            "projection_distance": table.projection_distance,
        }
        columns.update(place_columns(table, table.places, 1))
        if table.places is not None and table.places.hashes is not None:
            columns["hash"] = table.places.hashes
        columns.update(self._extra_columns())
        if table.reference is not None:
            for name, values in zip(table.names, table.reference.T, strict=True):
                taken = str(name) in columns
                columns[f"{name} (feature)" if taken else str(name)] = values
        return pd.DataFrame(columns)

    def _extra_columns(self) -> dict[str, np.ndarray]:
        columns = {}
        if self.win_counts is not None:
            columns["wins"] = self.win_counts
        if self.weights is not None:
            for label, values in zip(self.classes, self.weights.T, strict=True):
                columns[f"weight for {label}"] = values
        return columns

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as lists, numbers and text.

        Returns
        -------
        content : dict
            Ready for `json.dumps`; NaN and infinities are None.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import RBFClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = RBFClassifier(1, random_state=0).fit(X, y)
        >>> import json
        >>> text = json.dumps(model.explain_global().to_dict())
        >>> text.startswith("{")
        True
        """
        return {"type": type(self).__name__, **plain(self)}

    # Words

    def _heading(self) -> str:
        n_classes = len(self.classes)
        return f"{self.estimator_name}: {len(self)} prototypes for {n_classes} classes"

    def _deviation(self) -> np.ndarray | None:
        """Return how far the prototypes are from the centre, in units of the scale."""
        table = self.prototypes
        if table.reference is None:
            return None
        center = table.center
        if center is None:
            center = table.reference.sum(axis=0) / max(len(table), 1)
        scale = (
            1.0 if table.scale is None else np.where(table.scale > 0, table.scale, 1)
        )
        return (table.reference - center) / scale

    def _marks(self, k: int) -> str:
        """Name the features by which a prototype stands out."""
        deviation, reference = self._deviation(), self.prototypes.reference
        if deviation is None or reference is None:
            return ""
        size = np.abs(deviation[k])
        if self.prototypes.weights is not None:
            size = size * np.sqrt(np.maximum(self.prototypes.weights[k], 0.0))
        chosen = np.argsort(-size, kind="stable")[:MAX_FEATURES]
        names = self.prototypes.names
        return ", ".join(f"{names[f]} {number(reference[k, f])}" for f in chosen)

    def _tables(self) -> list[Table]:
        """Return what text and HTML show."""
        table = self.prototypes
        named = case_name if table.places is None else source_text
        columns = ["prototype"]
        cells = [[named(table, k)] for k in range(len(self))]
        if self.win_counts is not None:
            columns.append("wins")
            for row, wins in zip(cells, self.win_counts, strict=True):
                row.append(str(wins))
        if self.weights is not None:
            columns += [f"weight for {label}" for label in self.classes]
            for row, weights in zip(cells, self.weights, strict=True):
                row.extend(number(weight) for weight in weights)
        if table.reference is not None:
            columns.append("stands out by")
            for k, row in enumerate(cells):
                row.append(self._marks(k))
        tables = [Table("", columns, cells)]
        if self.effective_size is not None:
            sizes = [[str(c), number(size, 2)] for c, size in self._sizes()]
            tables.append(
                Table("Prototypes in use", ["class", "effective number"], sizes)
            )
        return tables

    def _sizes(self) -> list[tuple[Any, float]]:
        return list(zip(self.classes, np.asarray(self.effective_size), strict=True))

    def _text(self) -> str:
        """Return further text, shown below the tables."""
        return ""

    def __str__(self) -> str:
        parts = [self._heading()]
        parts += [table_text(table).removeprefix("\n") for table in self._tables()]
        return "\n".join(filter(None, [*parts, self._text()]))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def render() -> str:
            outline = self._outline()
            if outline:
                notes = self._outline_notes()
                content = (self._heading(), self._tables(), "")
                return tables_html(*content, ((), notes), outline)
            groups = self._gallery(HTML_TILES) if has_pictures(self) else []
            notes = self._gallery_notes() if groups else []
            if len(groups) > HTML_CLASSES:
                notes.append(f"and {len(groups) - HTML_CLASSES} more classes")
            content = (self._heading(), self._tables(), self._text())
            return tables_html(*content, (groups[:HTML_CLASSES], notes))

        return notebook_html(render, self)

    # Pictures

    def _outline(self) -> list[Branch]:
        """Return the nodes of trees with pictures, which HTML shows for a gallery."""
        return []

    def _outline_notes(self) -> list[str]:
        """Say how the outline is to be read."""
        return gallery_notes(self)

    def _gallery(self, limit: int) -> list[Group]:
        """Return the prototypes by class, at most `limit` of each."""
        return class_groups(self, limit)

    def _tile_texts(self, k: int, c: int) -> list[str]:
        """Say below the picture of a prototype what it counts for a class."""
        return weight_texts(self, k, c)

    def _draw_gallery(self, ax: Axes | None) -> Axes:
        n_lines = lines_per_class(len(self.classes))
        groups = self._gallery(PER_LINE[1] * n_lines)
        per_line = tiles_per_line(groups)
        if per_line < PER_LINE[1]:
            groups = self._gallery(per_line * n_lines)
        return draw_gallery(self._heading(), groups, self._gallery_notes(), ax)

    def _gallery_notes(self) -> list[str]:
        """Say how the gallery is to be read."""
        return gallery_notes(self, whole=True)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the prototypes: a gallery of images, or a table.

        The gallery shows the parts of training images that the prototypes are, by
        class, those of the largest weight first, on a page of A4.

        The table is coloured by the deviation of the prototypes. The cells hold the
        values in the user's units; the colour says how far they are from ordinary, in
        units of the inner scale. The most telling features and the first prototypes
        are drawn, the title says how many there are.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; a new figure where None.

        Returns
        -------
        ax : matplotlib Axes
            The axes drawn on.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the prototypes have no values in the user's units.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skproto import RBFClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = RBFClassifier(1, random_state=0).fit(X, y)
        >>> ax = model.explain_global().plot()
        >>> bool(ax.figure.axes)
        True
        """
        if has_pictures(self):
            return self._draw_gallery(ax)
        table, deviation = self.prototypes, self._deviation()
        if deviation is None or table.reference is None:
            raise ValueError(
                f"{type(self).__name__}: the prototypes have no values to draw."
            )
        columns = np.sort(self._telling_features(deviation)[:MAX_COLUMNS])
        rows = range(min(len(self), MAX_ROWS))
        cells = [[number(table.reference[k, f]) for f in columns] for k in rows]
        names = [labelled_case(table, k) for k in rows]
        title = self._heading()
        if len(columns) < deviation.shape[1] or len(rows) < len(self):
            title += f"\nshown: {len(rows)} of them, {len(columns)} of "
            title += f"{deviation.shape[1]} features"
        label = "deviation from ordinary, in units of the scale"
        shown = deviation[: len(rows), columns]
        features = [self._column_name(f) for f in columns]
        return draw_table(shown, cells, names, features, (title, label), ax)

    def _telling_features(self, deviation: np.ndarray) -> np.ndarray:
        """Return the features, those first in which the prototypes differ most."""
        return np.argsort(-deviation.std(axis=0), kind="stable")

    def _column_name(self, f: int) -> str:
        return str(self.prototypes.names[f])
