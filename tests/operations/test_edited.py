"""Edits that are done on every fit, in scikit-learn's tools."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from skproto.operations import EditedEstimator
from skproto.shallow import GLVQClassifier, RBFClassifier

X, y = load_iris(return_X_y=True)
X, y = X[::3], y[::3]
EDITS = [
    {"op": "forbid", "features": [1]},
    {"op": "add", "items": [[6.0, 2.7, 5.1, 1.6]], "label": 1},
    {"op": "remove", "prototypes": {"near": [[5.0, 3.4, 1.5, 0.2]], "label": 0}},
]


def small(**parameters):
    return GLVQClassifier(2, max_epochs=3, random_state=0, **parameters)


# scikit-learn < 1.9.1 gives a generator, pytest wants a list.
CHECKS = parametrize_with_checks(
    [EditedEstimator(RBFClassifier(1, max_epochs=15, random_state=0))]
).mark


@pytest.mark.parametrize(CHECKS.args[0], list(CHECKS.args[1]), **CHECKS.kwargs)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_edits_are_done_on_every_fit():
    model = EditedEstimator(small(), EDITS).fit(X, y)
    assert [entry["op"] for entry in model.edit_log_] == ["add", "remove"]
    assert len(model.estimator_.prototypes_) == 6
    changed = X.copy()
    changed[:, 1] = -9.0
    np.testing.assert_array_equal(model.predict_proba(changed), model.predict_proba(X))
    again = clone(model).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    model.explain(X[:3]).verify()
    assert model.transform(X).shape == (50, 6)
    assert model.decision_function(X).shape == (50, 3)
    assert len(model.explain_global().to_frame())


def test_cross_validation_and_search():
    model = EditedEstimator(small(), EDITS)
    assert cross_val_score(model, X, y, cv=2).mean() > 0.8
    grid = {"edits": [[], EDITS], "estimator__metric": ["euclidean", "relevance"]}
    search = GridSearchCV(model, grid, cv=2).fit(X, y)
    assert search.best_score_ > 0.8


def test_names_of_features_and_weights():
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    model = EditedEstimator(small(), [{"op": "forbid", "features": "b"}])
    model.fit(frame, y, sample_weight=np.ones(50))
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(
        model.predict(frame.assign(b=0.0)), model.predict(frame)
    )


def test_edits_without_prototypes_are_left_out():
    edits = [{"op": "remove", "prototypes": {"rule": "duplicate"}}]
    model = EditedEstimator(small(), edits).fit(X, y)
    assert model.edit_log_ == []


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ("remove", "must be a list of dicts"),
        ([{"ids": [1]}], "must be a list of dicts"),
        ([{"op": "remove", "ids": [1]}], "not by 'ids'"),
        ([{"op": "forbid", "features": [7]}], "features must be"),
    ],
)
def test_wrong_edits(edits, message):
    with pytest.raises(ValueError, match=message):
        EditedEstimator(small(), edits).fit(X, y)
