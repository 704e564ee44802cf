"""What a report speaks of: a fitted model and the cases it is judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted, column_or_1d

from skproto._predicting import PrototypePredictor
from skproto.display._report._units import Units, user_units
from skproto.explanation._numbers import number


@dataclass(kw_only=True)
class Subject:
    """A fitted model and labelled cases, checked, with the names to show.

    Parameters
    ----------
    estimator : PrototypePredictor
        The classifier itself, without the steps before it.

    steps : list of str
        Names of the steps before it.

    X : ndarray, CSR array or SampleArray
        The cases as the classifier takes them, validated.

    codes : array of int of shape (n,)
        Position of the true class of each case in `classes`.

    index : list of str
        Names of the cases.

    classes : array of str of shape (n_classes,)
        Names of the classes.

    features : array of str or None
        Names of the features that the classifier takes; None for images.

    given : tuple of (names, rows) or None
        The table that the steps before the classifier take, where it is not shown
        anyway.

    units : Units or None
        How to undo these steps, feature by feature; None where that cannot be done.

    texts, source_texts : sequence of str or None
        Texts of the cases and of the training data.
    """

    estimator: Any
    steps: list[str]
    X: Any
    codes: np.ndarray
    index: list[str]
    classes: np.ndarray
    features: np.ndarray | None
    given: tuple[list[str], np.ndarray] | None = None
    units: Units | None = None
    texts: Sequence[str] | None = None
    source_texts: Sequence[str] | None = None
    labels: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.labels = self.estimator.classes_

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def is_table(self) -> bool:
        """Whether the classifier takes rows of numbers."""
        return len(self.estimator._input_shape) == 1

    def named(self, labels: Any) -> np.ndarray:
        """Return the names of classes."""
        position = {label: k for k, label in enumerate(self.labels.tolist())}
        names = [
            self.classes[position[label]] if label in position else str(label)
            for label in np.asarray(labels).tolist()
        ]
        return np.array(names, dtype=object)


def read_subject(model, X, y, **names: Any) -> Subject:
    """Check what :func:`report` was given.

    Parameters
    ----------
    model : fitted estimator
        A classifier of the package, or a pipeline or search that ends with one.

    X, y : array-like
        Labelled cases.

    **names : object
        `feature_names`, `class_names`, `texts` and `source_texts` of :func:`report`.

    Returns
    -------
    subject : Subject
        With all names and values resolved.
    """
    model = unwrapped(model)
    steps: list[str] = []
    before, estimator, raw = None, model, X
    if isinstance(model, Pipeline):
        estimator = model[-1]
        if len(model) > 1:
            before = model[:-1]
            steps = [type(step).__name__ for _, step in before.steps]
            X = before.transform(raw)
    checked = estimator._check_input(X)
    n_cases = int(checked.shape[0])
    texts = _texts(names["texts"], raw, n_cases)
    features, units = None, None
    if len(estimator._input_shape) == 1:
        features = _feature_names(names["feature_names"], before, estimator)
        units = user_units(before, raw, checked)
    elif names["feature_names"] is not None:
        raise ValueError(
            "feature_names can be given for tables. This "
            f"{type(estimator).__name__} was fitted to images or tokens."
        )
    return Subject(
        estimator=estimator,
        steps=steps,
        X=checked,
        codes=_codes(estimator.classes_, y, n_cases),
        index=[str(i) for i in getattr(raw, "index", range(n_cases))]
        if hasattr(raw, "iloc")
        else [str(i) for i in range(n_cases)],
        classes=_class_names(names["class_names"], estimator.classes_),
        features=features,
        given=_given(before, raw, units),
        units=units,
        texts=texts,
        source_texts=_strings("source_texts", names["source_texts"]),
    )


def unwrapped(model) -> Any:
    """Return the fitted classifier or pipeline inside searches and edits."""
    inner = model
    while not isinstance(inner, (Pipeline, PrototypePredictor)):
        check_is_fitted(inner) if hasattr(inner, "fit") else None
        found = getattr(inner, "best_estimator_", getattr(inner, "estimator_", None))
        if found is None:
            raise _wrong(model)
        inner = found
    check_is_fitted(inner)
    if isinstance(inner, Pipeline) and not isinstance(inner[-1], PrototypePredictor):
        last = unwrapped(inner[-1])
        if isinstance(last, Pipeline):
            return Pipeline([*inner.steps[:-1], *last.steps])
        return Pipeline([*inner.steps[:-1], ("model", last)])
    return inner


def _wrong(model) -> TypeError:
    return TypeError(
        "model must be a fitted classifier of skproto, or a Pipeline or search whose "
        f"last step is one. Got {type(model).__name__}."
    )


def _codes(classes: np.ndarray, y, n_cases: int) -> np.ndarray:
    y = column_or_1d(y)
    if len(y) != n_cases:
        raise ValueError(f"y must have {n_cases} labels, one a case. Got {len(y)}.")
    unknown = [label for label in set(y.tolist()) if label not in classes.tolist()]
    if unknown:
        raise ValueError(
            f"y has labels that were not seen in fit: {sorted(unknown, key=str)}; "
            f"known are {classes.tolist()}."
        )
    if not n_cases:
        raise ValueError("X must hold at least one case. Got 0.")
    position = {label: k for k, label in enumerate(classes.tolist())}
    return np.array([position[label] for label in y.tolist()])


def _class_names(names, classes: np.ndarray) -> np.ndarray:
    if isinstance(names, Mapping):
        names = [names.get(label, label) for label in classes.tolist()]
    shown = [str(name) for name in (classes.tolist() if names is None else names)]
    if len(shown) != len(classes) or len(set(shown)) != len(shown):
        raise ValueError(
            f"class_names must be {len(classes)} different names, in the order of "
            f"classes_, or a dict of labels to names. Got {shown}."
        )
    return np.array(shown, dtype=object)


def _feature_names(names, before, estimator) -> np.ndarray:
    n_features = estimator.n_features_in_
    if names is not None and before is not None and len(names) != n_features:
        return _names_after(before, names, n_features)
    if names is not None:
        shown = [str(name) for name in names]
        if len(shown) != n_features:
            raise ValueError(
                f"feature_names must have {n_features} names. Got {len(shown)}."
            )
        return np.array(shown, dtype=object)
    if before is not None:
        try:
            return _names_after(before, None, n_features)
        except (AttributeError, ValueError):
            pass  # a step that cannot name what it returns
    own = getattr(estimator, "feature_names_in_", None)
    shown = [f"x{i}" for i in range(n_features)] if own is None else list(own)
    return np.array([str(name) for name in shown], dtype=object)


def _names_after(before, names, n_features: int) -> np.ndarray:
    given = None if names is None else np.asarray(names, dtype=object)
    found = [str(name) for name in before.get_feature_names_out(given)]
    if len(found) != n_features:
        raise ValueError(
            f"feature_names must have {n_features} names, or as many as the first "
            f"step of the pipeline takes. Got {len(found)}."
        )
    return np.array(found, dtype=object)


def _texts(texts, raw, n_cases: int) -> list[str] | None:
    if texts is None and getattr(raw, "ndim", 1) == 1 and len(raw):
        first = raw.iloc[0] if hasattr(raw, "iloc") else raw[0]
        texts = raw if isinstance(first, str) else None
    shown = _strings("texts", texts)
    if shown is not None and len(shown) != n_cases:
        raise ValueError(f"texts must have {n_cases} texts. Got {len(shown)}.")
    return shown


def _strings(name: str, texts) -> list[str] | None:
    if texts is None:
        return None
    if isinstance(texts, str):
        raise TypeError(f"{name} must be a sequence of str. Got one str.")
    return [str(text) for text in texts]


def _given(before, raw, units) -> tuple[list[str], np.ndarray] | None:
    """Return the table that a pipeline was given, as text; None where it is shown."""
    if before is None or units is not None or getattr(raw, "ndim", 1) != 2:
        return None
    if hasattr(raw, "iloc"):
        names, rows = [str(name) for name in raw.columns], raw.to_numpy(dtype=object)
    elif isinstance(raw, np.ndarray):
        known = getattr(before, "feature_names_in_", None)
        names = [f"x{j}" for j in range(raw.shape[1])] if known is None else list(known)
        rows = raw.astype(object)
    else:
        return None
    numbers = (int, float, np.integer, np.floating)
    shown = [
        [number(v) if isinstance(v, numbers) else str(v) for v in row] for row in rows
    ]
    return names, np.array(shown, dtype=object).reshape(len(shown), len(names))
