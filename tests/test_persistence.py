"""Estimators saved without pickle."""

import sys

import numpy as np
import pytest
import torch
from sklearn.base import ClassifierMixin, clone
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skproto.persistence import load, save, trusted_types
from skproto.shallow import CBCClassifier, RBFClassifier
from skproto.trees import ProtoTreeClassifier
from skproto.utils import all_estimators

pytest.importorskip("skops", reason="skops is an optional dependency")

X, y = load_iris(return_X_y=True)


def make_encoder(n_features):
    return torch.nn.Linear(n_features, 3)


@pytest.fixture(scope="module", params=[cls for _, cls in all_estimators()])
def fitted(request):
    names = np.array(["setosa", "versicolor", "virginica"])
    model = request.param(random_state=0)
    if "estimator" in model.get_params():
        model.set_params(estimator=ProtoTreeClassifier(max_epochs=5), n_estimators=2)
    else:
        model.set_params(max_epochs=5)
    return model.fit(X, names[y])


def test_same_bits(fitted, tmp_path):
    save(fitted, tmp_path / "model.skops")
    again = load(tmp_path / "model.skops")
    assert type(again) is type(fitted)
    np.testing.assert_array_equal(again.transform(X), fitted.transform(X))
    assert repr(again) == repr(fitted)
    if isinstance(fitted, ClassifierMixin):
        np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
        np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
        again.explain(X[:2]).verify()


def test_skops_has_to_trust_own_types_only(fitted):
    import skops.io

    found = skops.io.get_untrusted_types(data=skops.io.dumps(fitted))
    assert set(found) <= set(trusted_types())


def test_history():
    model = CBCClassifier(max_epochs=3).fit(X, y)
    state = model.__getstate__()
    again = clone(model)
    again.__setstate__(state)
    assert again.history_.equals(model.history_)
    assert (again.history_.dtypes == model.history_.dtypes).all()


def test_pipeline_and_unfitted(tmp_path):
    model = make_pipeline(StandardScaler(), RBFClassifier(max_epochs=3))
    save(model, str(tmp_path / "unfitted.skops"))
    load(str(tmp_path / "unfitted.skops")).fit(X, y)
    save(model.fit(X, y), tmp_path / "model.skops")
    again = load(tmp_path / "model.skops")
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_named_encoder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, make_encoder.__module__, sys.modules[__name__])
    model = CBCClassifier(encoder=make_encoder, max_epochs=3).fit(X, y)
    save(model, tmp_path / "model.skops")
    with pytest.raises(TypeError, match=r"not known to be safe.*make_encoder"):
        load(tmp_path / "model.skops")
    name = f"{make_encoder.__module__}.make_encoder"
    again = load(tmp_path / "model.skops", trusted=[name])
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize(
    ("encoder", "kind"),
    [(torch.nn.Linear(4, 3), "an nn.Module"), (lambda f: torch.nn.Linear(f, 3), "a l")],
)
def test_what_cannot_be_saved(encoder, kind, tmp_path):
    model = CBCClassifier(encoder=encoder)
    with pytest.raises(TypeError, match=f"The parameter 'encoder' is {kind}"):
        save(model, tmp_path / "model.skops")
    with pytest.raises(TypeError, match="RBFClassifier holds something that cannot"):
        save(
            RBFClassifier(net_params={"weights": torch.ones(2)}),
            tmp_path / "model.skops",
        )


def test_skops_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "skops.io", None)
    monkeypatch.setitem(sys.modules, "skops", None)
    message = r"skproto.persistence.save needs skops: pip install 'skproto\[persist"
    with pytest.raises(ImportError, match=message):
        save(CBCClassifier(), tmp_path / "model.skops")
