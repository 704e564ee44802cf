"""What `all_estimators` finds, and what it leaves out."""

import inspect

from sklearn.base import BaseEstimator, is_classifier

import skproto
from skproto.utils import all_estimators

ISSUED = {
    "CBCClassifier",
    "GLVQClassifier",
    "GMLVQClassifier",
    "ProtoTreeClassifier",
    "ProtoTreeEnsembleClassifier",
    "RBFClassifier",
    "RSLVQClassifier",
}


def test_every_estimator_of_the_public_surface_is_found():
    found = dict(all_estimators())
    assert set(found) >= ISSUED
    for name in ISSUED:
        assert found[name] is getattr(skproto, name)


def test_the_list_is_sorted_and_names_each_class_once():
    names = [name for name, _ in all_estimators()]
    assert names == sorted(set(names))


def test_only_concrete_estimators_of_this_package_are_found():
    for name, cls in all_estimators():
        assert issubclass(cls, BaseEstimator)
        assert not inspect.isabstract(cls)
        assert cls.__name__ == name
        assert cls.__module__.startswith("skproto.")
    assert "PrototypeClassifier" not in dict(all_estimators())


def test_defaults_are_enough_to_construct_each():
    for _, cls in all_estimators():
        model = cls()
        assert is_classifier(model) or hasattr(model, "transform")


def test_every_found_estimator_is_reachable_from_the_top():
    for name, cls in all_estimators():
        assert getattr(skproto, name) is cls
        assert name in skproto.__all__
