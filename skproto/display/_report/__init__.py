"""The report of a model as one HTML page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from skproto.display._report import _page as page
from skproto.display._report._card import model_card
from skproto.display._report._cases import CaseBook
from skproto.display._report._prototypes import feature_columns, prototype_entries
from skproto.display._report._scores import predictions
from skproto.display._report._store import Pictures
from skproto.display._report._subject import Subject, read_subject
from skproto.display._report._told import told
from skproto.display._report._trees import reasoning_entry, tree_entries

N_SIZED = 2000  # images from which the range of the pixels is taken


def report(
    model,
    X,
    y,
    path,
    *,
    title=None,
    feature_names=None,
    class_names=None,
    texts=None,
    source_texts=None,
    max_cases=None,
    random_state=None,
) -> Path:
    """Write a page that shows a model, its prototypes and its decisions.

    The page is one HTML file that needs no network and no other file: what the model
    is and how good it is on the cases given, its prototypes with their source and the
    cases near them, and every case with the evidence that decided it, wrong and
    uncertain ones first. Trees can be walked node by node, and classification by
    components is shown as a table of presence and absence.

    Parameters
    ----------
    model : fitted estimator
        A classifier of the package, or a pipeline or search that ends with one.

    X : array-like of shape (n, ...)
        Cases to judge the model on, best those that were not used in training. For a
        pipeline what its first step takes, for instance texts.

    y : array-like of shape (n,)
        Their classes.

    path : str or path-like
        File to write; one that exists is replaced.

    title : str, default=None
        Heading of the page; the name of the classifier by default.

    feature_names : sequence of str, default=None
        Names of the features of a table; those that the model knows by default.

    class_names : sequence of str or dict, default=None
        Names of the classes in the order of `classes_`, or a name for each label.

    texts : sequence of n str, default=None
        Texts of the cases, where X holds numbers made of them.

    source_texts : sequence of str, default=None
        Texts of the training data in the order of `fit`, to show those behind the
        prototypes.

    max_cases : int, default=None
        How many cases are shown: the wrong ones first, then the least certain ones.
        The figures of the model card are those of all cases. None shows all.

    random_state : int, RandomState instance or None, default=None
        Seed of the bootstrap intervals.

    Returns
    -------
    path : pathlib.Path
        The file written.

    Raises
    ------
    ImportError
        If Jinja2 is not installed.

    TypeError
        If the model is no classifier of the package.

    ValueError
        If X, y and names do not fit each other or the model.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.datasets import load_iris
    >>> from skproto import GLVQClassifier, report
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> model = GLVQClassifier(random_state=0).fit(X[::2], y[::2])
    >>> with TemporaryDirectory() as folder:
    ...     path = report(model, X[1::2], y[1::2], f"{folder}/iris.html")
    ...     path.read_text(encoding="utf-8")[:15]
    '<!DOCTYPE html>'
    """
    if max_cases is not None and (not isinstance(max_cases, int) or max_cases < 1):
        raise ValueError(f"max_cases must be None or at least 1. Got {max_cases!r}.")
    target = Path(os.fspath(path))
    subject = read_subject(
        model,
        X,
        y,
        feature_names=feature_names,
        class_names=class_names,
        texts=texts,
        source_texts=source_texts,
    )
    shown = told(subject.estimator.explain_global(), subject)
    found = predictions(subject)
    order = found.order()[:max_cases]
    data, book = _data(subject, shown, order)
    found.radius = _radii(subject, book)
    card = model_card(subject, shown, found, random_state)
    name = f"{card['estimator']}: report" if title is None else str(title)
    content = {"title": name, "card": card, **_summary(subject, data)}
    target.write_text(page.render(content, {"title": name, **data}), encoding="utf-8")
    return target


def _radii(subject: Subject, book: CaseBook) -> np.ndarray | None:
    """Return the certified radii of all cases; those of the book are known."""
    if book.radius is None or len(book.order) < len(subject):
        radius: np.ndarray | None = subject.estimator._radius(subject.X)
        return radius
    radius = np.empty(len(subject))
    radius[book.order] = book.radius
    return radius


def _data(
    subject: Subject, shown: Any, order: np.ndarray
) -> tuple[dict[str, Any], CaseBook]:
    """Return what the script of the page shows, and the cases it was made of."""
    shape, limits = subject.estimator._input_shape, None
    is_image = len(shape) == 3
    n_pictures = len(order) + 2 * len(shown) if is_image else 1
    pictures = Pictures(n_pictures, shape[-2:] if is_image else (1, 1))
    if is_image:
        limits = _limits(subject, shown)
    if shown.prototypes.places is not None and limits is not None:
        for part in [shown, *(getattr(shown, "trees", None) or [])]:
            part.prototypes.places.limits = limits
    book = CaseBook(subject, order, pictures, limits)
    unit = "image" if is_image else "text" if subject.texts else "row"
    data = {
        "unit": unit,
        "coarse": int(pictures.coarse),
        "classes": [str(name) for name in subject.classes],
        "features": feature_columns(shown, subject),
        "given": None if subject.given is None else subject.given[0],
        "prototypes": prototype_entries(shown, subject, book, pictures),
        "cases": book.entries,
        "notes": book.notes,
        "trees": tree_entries(shown),
        "reasoning": reasoning_entry(shown),
        "pictures": pictures.plain(),
    }
    return data, book


def _limits(subject: Subject, shown: Any) -> tuple[float, float]:
    """Return the lowest and the highest pixel of the cases and of their sources."""
    known = [np.asarray(subject.X[:N_SIZED], dtype=float)]
    own = shown.prototypes.places
    if own is not None and own.images is not None and len(own.images):
        known.append(np.asarray(own.images, dtype=float))
    low = min(float(np.nanmin(pixels)) for pixels in known)
    return low, max(float(np.nanmax(pixels)) for pixels in known)


def _summary(subject: Subject, data: dict[str, Any]) -> dict[str, Any]:
    """Return which sections there are, and how much they hold."""
    return {
        "classes": [str(name) for name in subject.classes],
        "n_prototypes": len(data["prototypes"]["id"]),
        "n_cases": len(data["cases"]),
        "has_tree": bool(data["trees"]),
        "has_reasoning": data["reasoning"] is not None,
        "has_radius": any("r" in case for case in data["cases"][:1]),
    }
