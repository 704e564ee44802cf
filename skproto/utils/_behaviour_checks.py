"""Checks of predictions and of how training treats data, seeds and failures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import numpy as np
import scipy.sparse as sp
from sklearn.utils import check_random_state

from skproto.utils._check_tools import (
    BINARY,
    MULTICLASS,
    brief,
    certifies,
    changeable,
    fitted,
    need,
    outputs,
    promise,
    promise_close,
    promise_equal,
    promise_error,
    promise_same_outputs,
    takes_weight,
)


def check_probabilities(name, estimator):
    """Check that probabilities are a distribution that agrees with the prediction."""
    for kind, data in (("multiclass", MULTICLASS), ("binary", BINARY)):
        model = fitted(estimator, kind)
        proba = model.predict_proba(data.X)
        promise(
            proba.dtype == np.float64 and (proba >= 0).all() and (proba <= 1).all(),
            f"{name}: predict_proba returns float64 numbers from 0 to 1.",
        )
        promise_close(
            proba.sum(axis=1),
            np.ones(len(proba)),
            f"{name}: the rows of predict_proba sum to 1.",
        )
        promise_equal(
            model.classes_[proba.argmax(axis=1)],
            model.predict(data.X),
            f"{name}: predict returns the most probable class.",
        )


def check_decision_agrees(name, estimator):
    """Check that the decision is highest, or positive, for the predicted class."""
    for kind, data in (("multiclass", MULTICLASS), ("binary", BINARY)):
        model = fitted(estimator, kind)
        decision = model.decision_function(data.X)
        codes = (decision > 0).astype(int) if kind == "binary" else decision.argmax(1)
        promise_equal(
            model.classes_[codes],
            model.predict(data.X),
            f"{name}: predict follows from decision_function ({kind}).",
        )


def check_labels_come_back(name, estimator):
    """Check that labels of any type come back as they went in."""
    X, codes = MULTICLASS.X, np.searchsorted(["ash", "beech", "cedar"], MULTICLASS.y)
    for labels in (
        np.array(["b", "c", "a"]),
        np.array(["b", "c", "a"], dtype=object),
        np.array([3, -1, 8], dtype=np.int8),
        np.array([0.0, 2.0, 5.0]),
        np.array([True, False, True]),
    ):
        y = labels[codes]
        model = brief(estimator).fit(X, y)
        promise_equal(
            model.classes_, np.unique(y), f"{name}: classes_ are the sorted labels."
        )
        predicted = model.predict(X)
        promise(
            predicted.dtype == y.dtype,
            f"{name}: predict returns labels of the type of y, {y.dtype}. Got "
            f"{predicted.dtype}.",
        )


def check_company(name, estimator):
    """Check that what a sample gets does not depend on the samples beside it."""
    model, X = fitted(estimator), MULTICLASS.X
    whole = outputs(model, X)
    for rows in (slice(0, 1), slice(7, 30), slice(None, None, -1)):
        for method, values in outputs(model, X[rows]).items():
            if method == "predict":
                continue
            promise_close(
                values,
                whole[method][rows],
                f"{name}: {method} of a sample does not depend on the other samples.",
                atol=1e-7,
            )
    many = np.tile(X, (120, 1))
    for method, values in outputs(model, many).items():
        if method != "predict":
            promise_close(
                values[-len(X) :],
                whole[method],
                f"{name}: {method} does not depend on the number of samples.",
                atol=1e-7,
            )


def check_same_seed(name, estimator):
    """Check that the same seed gives the same bits."""
    again = brief(estimator).fit(MULTICLASS.X, MULTICLASS.y)
    promise_same_outputs(
        fitted(estimator), again, MULTICLASS.X, f"{name}: same seed, same bits."
    )
    again.fit(MULTICLASS.X, MULTICLASS.y)
    promise_same_outputs(
        fitted(estimator), again, MULTICLASS.X, f"{name}: a second fit starts afresh."
    )


def check_global_random_state(name, estimator):
    """Check that the global random states of numpy and torch are left alone."""
    torch = import_module("torch")
    # None stands for numpy's global generator.
    global_numpy = check_random_state(None)
    before = global_numpy.get_state(), torch.get_rng_state()
    for seed in (0, None):
        model = brief(estimator, random_state=seed).fit(MULTICLASS.X, MULTICLASS.y)
    outputs(model, MULTICLASS.X)
    model.explain(MULTICLASS.X)
    model.explain_global()
    if certifies(model):
        model.certify(MULTICLASS.X)
    after = global_numpy.get_state(), torch.get_rng_state()
    message = f"{name}: the global random state of"
    promise_equal(after[0][1], before[0][1], f"{message} numpy is left as it was.")
    promise_equal(after[0][2:], before[0][2:], f"{message} numpy is left as it was.")
    promise_equal(after[1], before[1], f"{message} torch is left as it was.")


def check_threads(name, estimator):
    """Check that threads may predict with one model at the same time."""
    model, X = fitted(estimator), MULTICLASS.X
    serial = model.predict_proba(X), model.explain(X).class_contributions

    def both(_):
        return model.predict_proba(X), model.explain(X).class_contributions

    with ThreadPoolExecutor(4) as pool:
        for proba, contributions in pool.map(both, range(12)):
            message = f"{name}: threads that predict with one model get the same bits."
            promise_equal(proba, serial[0], message)
            promise_equal(contributions, serial[1], message)


def check_zero_weight(name, estimator):
    """Check that a sample of weight 0 counts as absent."""
    need(takes_weight(estimator), f"{name}.fit takes no sample_weight.")
    X = np.concatenate([MULTICLASS.X, 1e3 * MULTICLASS.X[:20], MULTICLASS.X[:9]])
    y = np.concatenate([MULTICLASS.y, MULTICLASS.y[20:40], MULTICLASS.y[1:10]])
    weight = np.concatenate([np.ones(len(MULTICLASS.X)), np.zeros(29)])
    model = brief(estimator).fit(X, y, sample_weight=weight)
    promise_same_outputs(
        fitted(estimator),
        model,
        MULTICLASS.X,
        f"{name}: a sample of weight 0 counts as absent.",
    )
    lost = np.where(MULTICLASS.y == "ash", 0.0, 1.0)
    model = brief(estimator).fit(MULTICLASS.X, MULTICLASS.y, sample_weight=lost)
    promise_equal(
        model.classes_,
        ["beech", "cedar"],
        f"{name}: a class whose samples all have weight 0 counts as absent.",
    )


def check_scale_invariance(name, estimator):
    """Check that the units of the features do not matter."""
    settings = estimator.get_params(deep=False)
    need(settings.get("standardize") is True, f"{name} does not standardise.")
    model, X = fitted(estimator), MULTICLASS.X
    factors = 2.0 ** np.array([40, -30, 3, -7])[: X.shape[1]]
    scaled = brief(estimator).fit(X * factors, MULTICLASS.y)
    promise_close(
        scaled.predict_proba(X * factors),
        model.predict_proba(X),
        f"{name}: features multiplied by powers of 2 give the same predictions.",
    )
    shift = np.array([512.0, -64.0, 2.0, 0.25])[: X.shape[1]]
    shifted = brief(estimator).fit(X + shift, MULTICLASS.y)
    promise_close(
        shifted.predict_proba(X + shift),
        model.predict_proba(X),
        f"{name}: shifted features give the same predictions.",
        atol=1e-2,
    )


def check_sparse(name, estimator):
    """Check that sparse and dense input of the same samples give the same."""
    need(
        estimator.__sklearn_tags__().input_tags.sparse, f"{name} takes no sparse input."
    )
    X = MULTICLASS.X * (
        np.arange(MULTICLASS.X.size).reshape(MULTICLASS.X.shape) % 3 > 0
    )
    model = brief(estimator, standardize=False).fit(X / 10, MULTICLASS.y)
    for make in (sp.csr_array, sp.csc_matrix, sp.coo_array, sp.lil_matrix):
        promise_close(
            model.predict_proba(make(X / 10)),
            model.predict_proba(X / 10),
            f"{name}: {make.__name__} gives the predictions of the dense array.",
        )
    promise_close(
        model.explain(sp.csr_array(X / 10)).contributions,
        model.explain(X / 10).contributions,
        f"{name}: sparse input gives the explanations of the dense array.",
    )
    model = brief(estimator).fit(sp.csr_array(X), MULTICLASS.y)
    promise(
        np.isfinite(model.predict_proba(sp.csr_array(X))).all(),
        f"{name}: a model fitted to sparse input predicts finite numbers.",
    )
    named = model.prototype_indices_ >= 0
    promise_equal(
        model.prototype_samples_[named],
        X[model.prototype_indices_[named]],
        f"{name}: prototype_samples_ are dense rows of the sparse input.",
    )


def check_failing_fit(name, estimator):
    """Check that a fit that fails leaves a fitted estimator as it was."""
    model, X, y = changeable(estimator), MULTICLASS.X, MULTICLASS.y
    before = dict(vars(model))
    broken = X.copy()
    broken[3, 1] = np.nan
    for what, arguments in (
        ("NaN", (broken, y)),
        ("one class", (X, np.full(len(X), "ash"))),
        ("labels of another length", (X, y[:-1])),
        ("no features", (X[:, :0], y)),
    ):
        promise_error(
            lambda arguments=arguments: model.fit(*arguments),
            ValueError,
            f"{name}: fit raises ValueError for {what}.",
        )
        after = vars(model)
        promise(
            before.keys() == after.keys()
            and all(after[key] is value for key, value in before.items()),
            f"{name}: a fit that fails leaves a fitted estimator as it was.",
        )
    promise_same_outputs(
        fitted(estimator), model, X, f"{name}: it predicts as before a failed fit."
    )
