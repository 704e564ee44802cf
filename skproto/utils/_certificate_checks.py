"""Checks of certified radii, by attack."""

from __future__ import annotations

from importlib import import_module

import numpy as np

from skproto.utils._check_tools import (
    BINARY,
    MULTICLASS,
    certifies,
    fitted,
    need,
    promise,
    promise_close,
)


def check_certificate_sign(name, estimator):
    """Check that a radius is positive for the predicted class and no other."""
    model, X = fitted(estimator), MULTICLASS.X
    need(certifies(model), f"{name} has no certificates.")
    predicted = model.predict(X)
    promise(
        (model.certify(X) >= 0).all(),
        f"{name}: the certified radius of the prediction is at least 0.",
    )
    for label in model.classes_:
        radius = model.certify(X, np.full(len(X), label))
        promise(
            (radius[predicted != label] <= 0).all()
            and (radius[predicted == label] >= 0).all(),
            f"{name}: the certified radius of a class is positive where it is "
            "predicted and negative where it is not.",
        )


def check_certificate_methods(name, estimator):
    """Check that the methods come in the announced order and in both units."""
    model, X = fitted(estimator), MULTICLASS.X
    need(certifies(model), f"{name} has no certificates.")
    allowed = getattr(model, "_allowed_certificates", tuple)
    methods: tuple[str, ...] = allowed()
    radii = [model.certify(X, method=method) for method in methods]
    for k in range(1, len(radii)):
        promise(
            (radii[k] <= radii[k - 1] * (1 + 1e-6) + 1e-12).all(),
            f"{name}: the certificate {methods[k - 1]!r} is at least {methods[k]!r}.",
        )
    if radii:
        promise_close(
            model.certify(X), radii[0], f"{name}: the tightest certificate is default."
        )
    promise_close(
        model.certify(X, units="input"),
        model.certify(X) * model.scale_.min(),
        f"{name}: the radius in input units is that in scaled units times the smallest "
        "scale.",
    )


def check_certificate_under_attack(name, estimator):
    """Check that no attack changes a label inside the certified radius."""
    need(certifies(fitted(estimator)), f"{name} has no certificates.")
    attack = import_module("skproto.robustness").attack
    for kind, data in (("multiclass", MULTICLASS), ("binary", BINARY)):
        model = fitted(estimator, kind)
        for units in ("scaled", "input"):
            radius = model.certify(data.X, units=units)
            # Further out than this there are no attacks worth the name.
            radius = 0.999999 * np.minimum(radius, 20.0 * model.scale_.max())
            found = attack(
                model, data.X, radius=radius, units=units, random_state=0, n_restarts=2
            )
            promise(
                not found.success.any(),
                f"{name}: no change inside the certified radius alters the label. "
                f"Samples {np.flatnonzero(found.success).tolist()} were changed.",
            )


def check_attack_reports(name, estimator):
    """Check that an attack reports what the model itself says."""
    attack = import_module("skproto.robustness").attack
    model, X = fitted(estimator), MULTICLASS.X[:12]
    found = attack(model, X, radius=5.0, random_state=0, n_restarts=2, n_steps=10)
    changed = model.predict(found.samples) != model.predict(X)
    promise(
        (changed == found.success).all(),
        f"{name}: attack says that a label changed exactly where predict does.",
    )
    if certifies(model):
        promise(
            (found.distance >= model.certify(X) * (1 - 1e-6)).all(),
            f"{name}: no attack is shorter than the certified radius.",
        )
