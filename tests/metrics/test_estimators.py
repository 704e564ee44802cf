"""Metrics of fitted estimators, on images with marks at known places and on tables."""

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skproto import (
    CBCClassifier,
    GLVQClassifier,
    ProtoTreeClassifier,
    ProtoTreeEnsembleClassifier,
    RBFClassifier,
    metrics,
)

HALF = 3  # pixels


@pytest.fixture(scope="module")
def regions(protopnet, test_marks):
    return metrics.regions_of(protopnet, test_marks[0], half_size=HALF)


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine(return_X_y=True)
    return X, y, GLVQClassifier(1, random_state=0).fit(X, y)


@pytest.fixture(scope="module")
def digit_models():
    X, y = load_digits(return_X_y=True)
    X, y = X[:200].reshape(-1, 8, 8), y[:200]
    common = {"max_epochs": 2, "random_state": 0}
    models = {
        "cbc": CBCClassifier(encoder="conv", **common | {"max_epochs": 20}),
        "rbf": RBFClassifier(2, encoder="conv", **common | {"max_epochs": 20}),
        "glvq": GLVQClassifier(1, encoder="conv", **common),
        "tree": ProtoTreeClassifier(3, **common),
        "trees": ProtoTreeEnsembleClassifier(
            ProtoTreeClassifier(3, **common), 2, random_state=0
        ),
    }
    return X, y, {name: model.fit(X, y) for name, model in models.items()}


# -- the marks -------------------------------------------------------------------------


def test_accuracy_and_stability_do_not_find_prototypes_of_the_background(
    protopnet, test_marks, regions
):
    X, y, parts, _ = test_marks
    own = {"y": y, "prototype_labels": protopnet.prototype_labels_}
    assert protopnet.score(X, y) >= 0.95
    best = metrics.part_frequencies(regions, parts, **own).max(axis=1)
    at_random = metrics.random_place_score(
        lambda r: metrics.part_frequencies(r, parts, **own).max(axis=1).mean(),
        regions,
        random_state=0,
    )
    assert 0.05 < at_random < 0.15
    assert (best >= max(0.9, 8 * at_random)).sum() >= 2
    assert (best <= 0.15).sum() >= 1
    stable = {
        on_parts: metrics.stability_score(
            protopnet,
            X,
            parts,
            y=y,
            noise=0.05,
            half_size=HALF,
            on_parts=on_parts,
            per_prototype=True,
            random_state=0,
        )
        for on_parts in (False, True)
    }
    assert stable[False].mean() >= 0.95
    # What looks at the background passes as stable, and is left out on parts.
    assert stable[False][best <= 0.05].min(initial=1.0) >= 0.9
    hits = regions.hits(parts).any(axis=2) & (y[:, None] == own["prototype_labels"])
    assert_array_equal(np.isnan(stable[True]), ~hits.any(axis=0))
    assert metrics.additivity_error(protopnet, X) < 1e-4
    assert metrics.additivity_error(protopnet, X, per_prototype=True).max() < 1e-4


def test_without_noise_everything_is_stable(protopnet, test_marks):
    X, y, parts, _ = test_marks
    found = metrics.stability_score(
        protopnet, X, parts, y=y, noise=0.0, per_prototype=True
    )
    assert_array_equal(found, 1.0)


def test_noise_is_drawn_from_the_seed_alone(protopnet, test_marks):
    X, _, parts, _ = test_marks
    options = {"noise": 0.5, "clip": 1.0, "half_size": HALF, "per_prototype": True}
    first, again, other = (
        metrics.stability_score(protopnet, X, parts, random_state=seed, **options)
        for seed in (0, 0, 1)
    )
    assert_array_equal(first, again)
    assert (first != other).any()


def test_regions_are_those_of_the_maps(protopnet, test_marks, regions):
    X = test_marks[0]
    maps = protopnet.similarity_maps(X)
    found = metrics.prototype_regions(maps, X.shape, HALF)
    assert_array_equal(found.boxes, regions.boxes)
    assert_allclose(found.similarities, protopnet.transform(X), rtol=1e-5)
    assert_array_equal(regions.sites, protopnet.explain(X).places.sites)


def test_deletion_of_what_is_shown_costs_more_than_of_other_places(
    protopnet, test_marks
):
    X = test_marks[0][:60]
    options = {"half_size": HALF, "random_state": 0}
    score = metrics.deletion_score(protopnet, X, **options)
    similarity = metrics.deletion_score(
        protopnet, X, target="similarity", n_top=2, **options
    )
    assert min(score, similarity) > 0
    left = metrics.deletion_score(
        protopnet, X, target="similarity", keep=True, n_random=0, half_size=30
    )
    assert_allclose(left, 1.0, atol=1e-5)  # the region is the whole image
    by_prototype = metrics.deletion_score(protopnet, X, per_prototype=True, **options)
    assert by_prototype.shape == (6,)


def test_misalignment_without_room_for_an_attack_is_none(protopnet, test_marks):
    X, y = test_marks[0][:30], test_marks[1][:30]
    still = metrics.location_misalignment(protopnet, X, y, eps=0.0)
    assert_allclose(
        [still[k] for k in ("location", "activation", "rank")], 0, atol=1e-6
    )
    assert still["accuracy_before"] == still["accuracy_after"]
    # A region of the whole image leaves no pixel to attack.
    closed = metrics.location_misalignment(protopnet, X, half_size=30)
    assert_allclose(closed["activation"], 0.0, atol=1e-6)
    attacked = metrics.location_misalignment(protopnet, X, half_size=0)
    assert attacked["activation"] > 0.01


def test_places_move_with_the_image(protopnet, test_marks):
    X, y = test_marks[:2]
    moved = metrics.equivariance_score(
        protopnet, X, y, shift=(4, 2), per_prototype=True
    )
    assert (moved > 0.75).sum() >= 2  # those that look at marks
    assert metrics.equivariance_score(protopnet, X, shift=(24, 0)) == 1.0


def test_continuity(protopnet, test_marks):
    X, y = test_marks[0][:30], test_marks[1][:30]
    same = metrics.continuity_scores(protopnet, X, lambda x: x, y)
    assert same == {"region": 1.0, "similarity": 0.0, "rank": 0.0}
    darker = metrics.continuity_scores(protopnet, X, lambda x: 0.7 * x, y)
    assert darker["region"] < 1
    assert darker["similarity"] > 0


def test_foreign_images(protopnet, test_marks):
    X = test_marks[0]
    noise = np.random.RandomState(0).rand(*X.shape).astype(np.float32)
    found = metrics.ood_scores(protopnet, X, noise)
    assert found["auroc"] > 0.8
    assert found["kept"] >= 0.95
    assert metrics.ood_scores(protopnet, X, X)["fpr95"] >= 0.95
    by_prototype = metrics.ood_scores(protopnet, X, noise, per_prototype=True)
    assert by_prototype.shape == (6,)


def test_report_on_images(protopnet, train_marks, test_marks):
    X, y, parts, masks = test_marks
    base = metrics.untrained(protopnet, *train_marks[:2])
    report = metrics.prototype_report(
        protopnet,
        X,
        y,
        parts,
        masks=masks,
        part_names=["dot", "square", "plus"],
        baseline=base,
        n_resamples=20,
        half_size=HALF,
        random_state=0,
    )
    summary, table = report.summary, report.prototypes
    assert list(table["prototype"]) == list(protopnet.prototype_ids_)
    assert summary["accuracy"]["value"] > summary["accuracy"]["untrained"]
    for name in ("consistency", "soft_consistency", "purity"):
        entry = summary[name]
        assert entry["low"] <= entry["value"] <= entry["high"]
        assert {"random_place", "untrained"} <= set(entry)
    assert_allclose(summary["consistency"]["value"], table["consistency"].mean())
    assert_allclose(summary["soft_consistency"]["value"], table["frequency"].mean())
    # Every number can be computed anew from the regions that are kept.
    again = metrics.part_frequencies(
        report.regions, parts, None, y, protopnet.prototype_labels_
    )
    assert_allclose(table["frequency"], again.max(axis=1))
    relevance = metrics.relevance_score(
        protopnet.similarity_maps(X),
        masks,
        y=y,
        prototype_labels=protopnet.prototype_labels_,
        per_prototype=True,
    )
    assert_allclose(table["relevance"], relevance)
    assert "untrained" in report.to_frame().columns
    assert "consistency" in str(report)


# -- every image estimator -------------------------------------------------------------


@pytest.mark.parametrize("name", ["cbc", "rbf", "glvq", "tree", "trees"])
def test_metrics_take_every_image_estimator(digit_models, name):
    X, y, models = digit_models
    model = models[name]
    n_prototypes = len(model.prototypes_)
    speaks = metrics.prototype_classes(model)
    assert speaks.shape == (n_prototypes, 10)
    assert speaks.any(axis=1).all()
    parts = np.random.RandomState(0).randint(8, size=(len(X), 3, 2))
    report = metrics.prototype_report(
        model, X, y, parts, masks=X > 8, n_resamples=0, random_state=0
    )
    assert len(report.prototypes) == n_prototypes
    assert report.summary["additivity_error"]["value"] < 1e-4
    for entry in ("consistency", "stability", "purity", "relevance", "completeness"):
        assert 0 <= report.summary[entry]["value"] <= 1
    assert np.isfinite(metrics.faithfulness_score(model, X[:50]))


def test_places_where_kernels_have_vanished_are_the_nearest_sites(digit_models):
    X, y, _ = digit_models
    model = CBCClassifier(encoder="conv", max_epochs=1, random_state=0).fit(X, y)
    vanished = ~model.similarity_maps(X).any(axis=(2, 3))
    assert vanished.mean() > 0.5
    regions = metrics.regions_of(model, X)
    assert regions.valid.all()
    assert_array_equal(regions.sites[:5], model.explain(X[:5]).places.sites)


def test_fidelity_of_trees_is_what_their_explanations_say(digit_models):
    X, _, models = digit_models
    case = models["tree"].explain(X)
    assert metrics.hard_fidelity(models["tree"], X) == case.agrees.mean()
    by_prototype = metrics.hard_fidelity(models["tree"], X, per_prototype=True)
    assert by_prototype[0] == case.agrees.mean()  # all paths begin at the root
    assert 0 <= metrics.hard_fidelity(models["trees"], X) <= 1
    with pytest.raises(TypeError, match="needs a prototype tree"):
        metrics.hard_fidelity(models["cbc"], X)


# -- tables ----------------------------------------------------------------------------


def test_groups_of_features_take_the_place_of_parts(wine):
    X, y, model = wine
    groups = np.repeat(np.eye(2, dtype=bool), [6, 7], axis=1)
    regions = metrics.feature_regions(model, X, n_top=1)
    assert (regions.selected.sum(axis=2) == 1).all()
    labels = {"y": y, "prototype_labels": model.prototype_labels_}
    share = metrics.part_frequencies(regions, groups, **labels)
    assert_allclose(share.sum(axis=1), 1.0)  # one feature is in one of two groups
    score = metrics.consistency_score(regions, groups, **labels, soft=True)
    assert_allclose(score, share.max(axis=1).mean())
    everything = np.ones((1, 13), dtype=bool)
    assert metrics.purity_score(regions, everything) == 1.0
    assert metrics.stability_score(model, X, groups, y=y, noise=0.0) == 1.0
    report = metrics.prototype_report(model, X, y, groups, n_resamples=5)
    assert {"consistency", "purity", "stability"} <= set(report.summary)


def test_the_chosen_feature_brings_the_row_closest(wine):
    X, _, model = wine
    Z = (X - model.center_) / model.scale_
    P = (model.prototypes_ - model.center_) / model.scale_
    squares = (Z[:, None] - P) ** 2
    gain = squares.mean(axis=0) - squares
    chosen = metrics.feature_regions(model, X, n_top=1).selected.argmax(axis=2)
    assert (chosen == gain.argmax(axis=2)).mean() > 0.99


def test_tables_have_no_places(wine):
    X, y, model = wine
    with pytest.raises(TypeError, match="no similarity maps"):
        metrics.location_misalignment(model, X)
    with pytest.raises(TypeError, match="no similarity maps"):
        metrics.equivariance_score(model, X)
    encoded = GLVQClassifier(1, encoder="mlp", max_epochs=1).fit(X, y)
    with pytest.raises(TypeError, match="space of the features"):
        metrics.feature_regions(encoded, X)
    with pytest.raises(ValueError, match="n_top must be"):
        metrics.feature_regions(model, X, n_top=14)
    with pytest.raises(ValueError, match="not seen in fit"):
        metrics.stability_score(model, X, np.ones((1, 13)), y=y + 5)


def test_sizes_and_completeness_of_a_linear_head():
    X, y = load_iris(return_X_y=True)
    model = RBFClassifier(2, random_state=0).fit(X, y)
    sizes = metrics.explanation_size(model, X)
    assert 0 < sizes["per_class"] <= sizes["local"] <= sizes["global"] <= 6
    used = metrics.explanation_size(model, X, per_prototype=True)
    assert np.count_nonzero(used) == sizes["global"]
    assert metrics.completeness_score(model, X, y, top_k=6) == model.score(X, y)
    assert metrics.completeness_score(model, X, y, top_k=1) <= 1.0
    kept = metrics.completeness_score(model, X, y, per_prototype=True)
    assert kept.shape == (6,)
    shares = metrics.prototype_coverage(model, X, y, per_prototype=True)
    assert shares.shape == (6,)


def test_twins_are_redundant_and_not_unique():
    X, y = load_iris(return_X_y=True)
    model = GLVQClassifier(2, random_state=0).fit(X, y)
    assert metrics.prototype_uniqueness(model) == 1.0
    model.prototypes_[1] = model.prototypes_[0]
    assert_allclose(metrics.prototype_uniqueness(model), 5 / 6)
    single = metrics.prototype_uniqueness(model, per_prototype=True)
    assert single.tolist() == [False, False, True, True, True, True]
    twins = GLVQClassifier(2, max_epochs=0, init="mean", random_state=0).fit(X, y)
    values = metrics.redundancy_score(twins, X, per_prototype=True)
    assert values.max() <= 1.0 + 1e-9


def test_drift_is_the_distance_moved():
    X, y = load_iris(return_X_y=True)
    first = GLVQClassifier(1, random_state=0).fit(X, y)
    other = GLVQClassifier(1, random_state=0).fit(X, y)
    other.prototypes_ = other.prototypes_ + np.array([3.0, 4.0, 0.0, 0.0])
    assert_allclose(metrics.prototype_drift(first, other), 5.0)
    other.prototype_ids_ = np.array([7, 1, 2])
    moved = metrics.prototype_drift(first, other, per_prototype=True)
    assert np.isnan(moved).tolist() == [True, False, False]


# -- model selection -------------------------------------------------------------------


def test_scorers_find_the_annotations_of_a_fold(test_marks, protopnet):
    X, y, parts, _ = test_marks
    notes = {"part_locations": parts}
    params = {"half_size": HALF, "soft": True}
    scorer = metrics.make_prototype_scorer("consistency", X, notes, params=params)
    rows = np.random.RandomState(0).permutation(len(X))[:90]
    found = metrics.consistency_score(
        metrics.regions_of(protopnet, X[rows], HALF),
        parts[rows],
        None,
        y[rows],
        protopnet.prototype_labels_,
        soft=True,
    )
    assert_allclose(scorer(protopnet, X[rows], y[rows]), found)
    with pytest.raises(ValueError, match="1 of 2 samples to be scored are not among"):
        scorer(protopnet, np.stack([X[0], X[1] + 1]), y[:2])


def test_scorers_in_a_grid_search():
    X, y = load_iris(return_X_y=True)
    groups = [[True, True, False, False], [False, False, True, True]]
    purity = metrics.make_prototype_scorer(
        "purity", annotations={"part_locations": groups}
    )
    search = GridSearchCV(
        make_pipeline(StandardScaler(), GLVQClassifier(max_epochs=3, random_state=0)),
        {"glvqclassifier__n_prototypes_per_class": [1, 2]},
        scoring=purity,
        cv=2,
    ).fit(X, y)
    assert 0 <= search.best_score_ <= 1
    assert 0 <= purity(search, X, y) <= 1
    names = ("coverage", "explanation_size", "faithfulness", "redundancy", "uniqueness")
    found = cross_validate(
        RBFClassifier(max_epochs=3, random_state=0),
        X,
        y,
        scoring={name: metrics.make_prototype_scorer(name) for name in names},
        cv=2,
    )
    assert (found["test_explanation_size"] < 0).all()
    assert all(np.isfinite(found[f"test_{name}"]).all() for name in names)


def test_annotations_by_metadata_routing(test_marks):
    X, y, parts, _ = test_marks
    scorer = metrics.make_prototype_scorer("consistency", params={"soft": True})
    with sklearn.config_context(enable_metadata_routing=True):
        scorer.set_score_request(part_locations=True)
        found = cross_validate(
            GLVQClassifier(1, encoder="conv", max_epochs=1, random_state=0),
            X,
            y,
            scoring=scorer,
            cv=2,
            params={"part_locations": parts},
            error_score="raise",
        )
    assert ((found["test_score"] >= 0) & (found["test_score"] <= 1)).all()


def test_unknown_scorers():
    with pytest.raises(ValueError, match="metric must be a callable or one of"):
        metrics.make_prototype_scorer("beauty")
    own = metrics.make_prototype_scorer(lambda model, X, y: len(X))
    assert own(None, np.ones((3, 2)), None) == 3.0
