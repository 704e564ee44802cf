"""Attributes of images: exact cases, options, and networks whose answer is known."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

import skproto
from skproto import ProtoPNetClassifier
from skproto.attributes import (
    IMAGE_ATTRIBUTES,
    PrototypeAttributeExplainer,
    explain_attributes,
)

SIDE = 16
STRENGTHS = {
    "shape": {"amplitude": 3 / SIDE, "period": 7 / SIDE},
    "texture": {"h": 4 / 255, "template": 3, "search": 5},
}
IDENTITY = {
    "hue": 0.0,
    "saturation": 1.0,
    "contrast": 1.0,
    "brightness": 1.0,
    "shape": 0.0,
    "texture": 0.0,
}


def colour(hue):
    """Red, green and blue of a bright colour."""
    k = (np.array([5.0, 3.0, 1.0]) + 6 * hue) % 6
    return 0.9 - 0.8 * np.clip(np.minimum(k, 4 - k), 0, 1)


def figures(task, n, seed):
    """Discs and crosses whose class is the hue ("H") or the shape ("S").

    Light and contrast are random, so that they tell nothing.
    """
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    hues = 0.16 * y if task == "H" else rng.random(n)
    shapes = rng.integers(0, 2, n) if task == "H" else y
    X = np.repeat(0.3 * rng.random((n, 1, SIDE, SIDE)), 3, axis=1)
    down, across = np.mgrid[:SIDE, :SIDE]
    for image, shape, hue in zip(X, shapes, hues, strict=True):
        row, column = rng.integers(5, SIDE - 5, 2)
        far, near = np.abs(down - row), np.abs(across - column)
        disc = far**2 + near**2 <= 14
        cross = (np.maximum(far, near) <= 5) & (np.minimum(far, near) < 1)
        image[:, disc if shape == 0 else cross] = colour(hue)[:, None]
    grey = X.mean(axis=(1, 2, 3), keepdims=True)
    X = grey + rng.uniform(0.4, 1, (n, 1, 1, 1)) * (X - grey)
    X *= rng.uniform(0.6, 1, (n, 1, 1, 1))
    return np.clip(X, 0, 1).astype(np.float32), y


def small_encoder():
    """Three convolutions: 16 x 16 pixels to 4 x 4 sites."""
    layers = []
    for before, after, pool in ((3, 12, True), (12, 24, True), (24, 24, False)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after)]
        layers += [nn.ReLU(), *([nn.MaxPool2d(2)] if pool else [])]
    return nn.Sequential(*layers)


def fitted(task, **parameters):
    X, y = figures(task, 360, 0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = small_encoder()
    model = ProtoPNetClassifier(
        2,
        encoder=encoder,
        warm_epochs=0,
        max_epochs=10,
        batch_size=36,
        lr=0.005,
        random_state=0,
        **parameters,
    )
    return model.fit(X, y)


@pytest.fixture(scope="module")
def by_hue():
    """A network that tells classes by their hue."""
    return fitted("H")


@pytest.fixture(scope="module")
def by_shape():
    """A network that tells classes by their shape."""
    return fitted("S")


class Reads(BaseEstimator):
    """A model of one prototype whose similarity map is a function of the pixels."""

    def __init__(self, function):
        self.function = function

    def fit(self, X, y=None):
        self.n_features_in_ = X[0].size
        self.prototypes_ = np.zeros((1, 1))
        return self

    def similarity_maps(self, X):
        return self.function(np.asarray(X, dtype=np.float64))[:, None]

    def transform(self, X):
        return self.similarity_maps(X).max(axis=(2, 3))


def reader(function):
    X, _ = figures("H", 10, 3)
    return Reads(function).fit(X), X


def explainer(model, **options):
    return PrototypeAttributeExplainer(model, **{"n_resamples": 0, **options})


# -- exact -----------------------------------------------------------------------------


def test_strengths_of_nothing_score_nothing(by_hue):
    X, _ = figures("H", 12, 5)
    same = explainer(by_hue, strengths=IDENTITY).fit(X)
    assert_allclose(same.explain(X).scores, 0.0, atol=1e-6)
    assert_allclose(same.global_importance_, 0.0, atol=1e-6)
    assert_allclose(same.rms_change_, 0.0, atol=1e-6)
    assert_allclose(same.unexplained_, 1.0)
    assert same.explain_global().words(0).startswith("unexplained")


def test_a_model_of_the_largest_channel_sees_no_hue():
    model, X = reader(lambda X: X.max(axis=1))
    found = explainer(model).fit(X).explain(X)
    hue = list(found.attributes).index("hue")
    assert_array_equal(found.scores[..., hue], 0.0)
    assert (
        np.abs(found.scores[..., list(found.attributes).index("brightness")]).max()
        > 0.1
    )


def test_a_model_of_grey_sees_no_saturation():
    grey = np.array([0.299, 0.587, 0.114]).reshape(3, 1, 1)
    model, X = reader(lambda X: (X * grey).sum(axis=1))
    found = explainer(model, attributes=["saturation", "contrast"]).fit(X).explain(X)
    assert_allclose(found.scores[..., 0], 0.0, atol=1e-6)
    assert np.abs(found.scores[..., 1]).max() > 0.05


def test_scores_are_drops_at_the_site_of_the_original():
    model, X = reader(lambda X: X[:, 0])
    change = {"mirrored": lambda images: images[..., ::-1].copy()}
    found = explainer(model, attributes=change).fit(X).explain(X)
    red = X[:, 0].reshape(len(X), -1).astype(float)
    site = red.argmax(axis=1)
    after = X[:, 0, :, ::-1].reshape(len(X), -1)[np.arange(len(X)), site]
    assert_array_equal(found.sites[:, 0], site)
    assert_allclose(found.similarities[:, 0], red.max(axis=1))
    assert_allclose(found.scores[:, 0, 0], red.max(axis=1) - after)


def test_sites_of_a_tie_are_the_first():
    model, X = reader(lambda X: np.zeros((len(X), 4, 5)))
    with pytest.warns(UserWarning, match="NaN"):
        fitted = explainer(model, attributes=["contrast"]).fit(X)
    assert_array_equal(fitted.explain(X).sites, 0)


def test_windows_forgive_displacement():
    model, X = reader(lambda X: X[:, 0])
    aside = {"aside": lambda images: np.roll(images, 1, axis=-1)}
    far = {"aside": lambda images: np.roll(images, 4, axis=-1)}

    def score(site, change):
        fitted = explainer(model, attributes=change, site=site).fit(X)
        return fitted.explain(X).scores[:, 0, 0]

    inside = explainer(model).fit(X).explain(X).sites[:, 0] % SIDE < SIDE - 1
    assert_array_equal(score("window", aside)[inside], 0.0)
    assert score("fixed", aside).max() > 0.05
    assert score("window", far).max() > 0.05
    assert_array_equal(score("max", far), 0.0)


def test_whole_image_of_one_site_is_all_focus(by_hue):
    """With a share of 1 everywhere, focus is the image and dual nothing."""
    X, y = figures("H", 40, 0)
    pooled = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
    )
    model = ProtoPNetClassifier(1, encoder=pooled, max_epochs=1, random_state=0)
    model.fit(X, y)
    options = {"attributes": ["hue", "contrast"]}
    scores = {
        scope: explainer(model, scope=scope, **options).fit(X[:6]).explain(X[:6]).scores
        for scope in ("image", "focus", "dual")
    }
    assert_array_equal(scores["focus"], scores["image"])
    assert_array_equal(scores["dual"], 0.0)
    assert np.abs(scores["image"]).max() > 0


def test_focus_drops_and_dual_does_not(by_hue):
    X, _ = figures("H", 12, 6)
    drops = {
        scope: explainer(by_hue, attributes=["hue"], scope=scope)
        .fit(X)
        .global_importance_.mean()
        for scope in ("image", "focus", "dual")
    }
    assert drops["focus"] > 2 * abs(drops["dual"])


def test_scores_depend_on_no_batch_and_no_order(by_shape):
    X, _ = figures("S", 21, 7)
    whole = explainer(by_shape, strengths=STRENGTHS, batch_size=64).fit(X)
    parts = explainer(by_shape, strengths=STRENGTHS, batch_size=4).fit(X[::-1])
    assert_array_equal(whole.explain(X).scores, parts.explain(X).scores)
    assert_allclose(whole.global_importance_, parts.global_importance_, rtol=1e-10)


def test_dissimilar_samples_do_not_count():
    model, X = reader(lambda X: X[:, 0] - 0.5)
    dark = np.concatenate([X, np.zeros_like(X)])
    alone, both = (explainer(model, attributes=["hue"]).fit(x) for x in (X, dark))
    assert_allclose(alone.global_importance_, both.global_importance_)
    with pytest.warns(UserWarning, match="No sample of X is similar to 1 prototypes"):
        none = explainer(model, attributes=["hue"]).fit(np.zeros_like(X))
    assert np.isnan(none.global_importance_).all()
    assert none.explain_global().words(0).startswith("not known")
    assert "not known" in str(none.explain_global())


def test_normalised_scores(by_hue):
    X, _ = figures("H", 10, 8)
    names = ["hue", "contrast"]
    plain, share, per = (
        explainer(by_hue, attributes=names, normalize=n).fit(X)
        for n in (None, "relative", "per_rms")
    )
    case = plain.explain(X)
    s = case.similarities[..., None]
    large = s > 0.01 * np.maximum(plain.mean_similarity_, 0)[:, None]
    expected = np.where(large, case.scores / np.where(large, s, 1), np.nan)
    assert_allclose(share.explain(X).scores, expected)
    assert_allclose(share.explain(X).drops, case.scores)
    assert_allclose(per.explain(X).scores, case.scores / plain.rms_change_)
    assert_allclose(
        per.global_importance_, plain.global_importance_ / plain.rms_change_
    )
    weight = np.maximum(case.similarities, 0)
    total = (np.where(s > 0, case.scores, 0)).sum(axis=0) / weight.sum(axis=0)[:, None]
    assert_allclose(share.global_importance_, total)


def test_the_change_of_pixels_is_measured():
    model, X = reader(lambda X: X[:, 0])
    fitted = explainer(model, attributes=["brightness"]).fit(X)
    assert_allclose(fitted.rms_change_, [np.sqrt(np.mean((0.2 * X) ** 2))], rtol=1e-5)


def test_bytes_and_floats_say_the_same(by_hue):
    X, y = figures("H", 60, 9)
    coarse = np.round(255 * X).astype(np.uint8)
    model = ProtoPNetClassifier(1, max_epochs=1, random_state=0)
    of_bytes = clone(model).fit(coarse, y)
    of_floats = clone(model).fit(coarse.astype(np.float32) / 255, y)
    first = explainer(of_bytes).fit(coarse[:8])
    second = explainer(of_floats).fit(coarse[:8].astype(np.float32) / 255)
    assert first.value_range_ == (0.0, 255.0)
    assert second.value_range_ == (0.0, 1.0)
    assert_allclose(first.rms_change_, second.rms_change_, rtol=1e-4)
    assert_allclose(
        first.global_importance_, second.global_importance_, rtol=0.02, atol=0.02
    )


def test_images_may_come_flattened_and_through_a_pipeline(by_hue):
    X, y = figures("H", 30, 0)
    flat = X.reshape(len(X), -1)
    model = ProtoPNetClassifier(
        1, image_shape=X.shape[1:], max_epochs=1, random_state=0
    )
    halved = FunctionTransformer(lambda v: v / 2)
    pipeline = make_pipeline(halved, model).fit(flat, y)
    inner = clone(model).fit(flat / 2, y)
    names = ["hue", "brightness"]
    through = explainer(pipeline, attributes=names).fit(flat[:6])
    direct = explainer(inner, attributes=names, value_range=(0, 0.5)).fit(flat[:6] / 2)
    assert_allclose(through.global_importance_, direct.global_importance_, atol=1e-4)


# -- options ---------------------------------------------------------------------------


def test_shapley_values_add_up(by_hue):
    X, _ = figures("H", 8, 2)
    names = ["hue", "saturation", "contrast"]
    shares = explainer(by_hue, attributes=names, method="shapley").fit(X).explain(X)

    def together(images):
        for name in names:
            images = change(name, images)
        return images

    from skproto.attributes._image_changes import STRENGTHS, apply_change

    def change(name, images):
        return apply_change(name, torch.from_numpy(images), STRENGTHS[name]).numpy()

    whole = explainer(by_hue, attributes={"all": together}).fit(X).explain(X)
    assert_allclose(shares.scores.sum(axis=2), whole.scores[..., 0], atol=1e-5)
    single = explainer(by_hue, attributes=names).fit(X).explain(X)
    assert np.abs(single.scores - shares.scores).max() > 1e-4


def test_interactions_of_pairs(by_hue):
    X, _ = figures("H", 8, 2)
    fitted = explainer(by_hue, attributes=["hue", "contrast"]).fit(X)
    pairs = fitted.interactions(X)
    assert pairs.shape == (4, 2, 2)
    assert_allclose(pairs, pairs.transpose(0, 2, 1))
    diagonal = np.diagonal(pairs, axis1=1, axis2=2)
    assert_allclose(diagonal, fitted.global_importance_, atol=1e-6)


def test_sweep(by_hue):
    X, _ = figures("H", 12, 2)
    fitted = explainer(by_hue, attributes=["hue", "saturation"]).fit(X)
    sweep = fitted.sweep(X, n_steps=3)
    assert sweep.curves.shape == (4, 2, 3)
    assert_allclose(sweep.curves[..., 0], 0.0, atol=1e-6)
    middle = explainer(
        by_hue,
        attributes=["hue", "saturation"],
        normalize="relative",
        strengths={"hue": 0.25, "saturation": 0.5},
    ).fit(X)
    assert_allclose(sweep.curves[..., 1], middle.global_importance_, atol=1e-6)
    assert_allclose(
        sweep.area,
        0.25 * sweep.curves[..., 0]
        + 0.5 * sweep.curves[..., 1]
        + 0.25 * sweep.curves[..., 2],
    )
    assert (sweep.amount_at_level > 0).all()
    assert list(sweep.to_frame()["attribute"][:2]) == ["hue", "saturation"]
    with pytest.raises(ValueError, match="n_steps"):
        fitted.sweep(X, n_steps=1)
    own = explainer(by_hue, attributes={"same": lambda v: v}).fit(X)
    with pytest.raises(ValueError, match="function of the user"):
        own.sweep(X)


def test_bounded_beside_the_logarithm():
    X, y = figures("H", 40, 0)
    model = ProtoPNetClassifier(1, similarity="log_l2", max_epochs=1, random_state=0)
    model.fit(X, y)
    shown = explain_attributes(model, X[:10], ["hue"], n_resamples=0)
    case = shown.local
    d = (1 - 1e-4 * np.exp(case.similarities)) / np.expm1(case.similarities)
    after = case.similarities - case.scores[..., 0]
    d_after = (1 - 1e-4 * np.exp(after)) / np.expm1(after)
    assert_allclose(case.bounded[..., 0], 1 / (1 + d) - 1 / (1 + d_after), atol=1e-6)
    assert shown.bounded.shape == shown.importance.shape
    assert {"bounded"} <= set(shown.to_frame().columns)


def test_no_bounded_where_the_similarity_is_bounded(by_hue):
    X, _ = figures("H", 5, 0)
    assert explain_attributes(by_hue, X, ["hue"], n_resamples=0).bounded is None


def test_intervals_and_null(by_hue):
    X, _ = figures("H", 40, 11)
    fitted = PrototypeAttributeExplainer(
        by_hue,
        ["hue", "shape"],
        strengths={"shape": STRENGTHS["shape"]},
        random_state=0,
    ).fit(X)
    low, high = fitted.interval_
    assert (low <= fitted.global_importance_).all()
    assert (high >= fitted.global_importance_).all()
    assert (high - low > 0).all()
    labels = by_hue.prototype_labels_
    for k, label in enumerate(labels):
        others = fitted.global_importance_[labels != label]
        assert_allclose(fitted.null_[k], np.median(others, axis=0))
    shown = fitted.explain_global()
    assert_allclose(shown.effect, fitted.global_importance_ - fitted.null_)
    again = clone(fitted).fit(X)
    assert_array_equal(again.interval_, fitted.interval_)
    few = PrototypeAttributeExplainer(by_hue, ["hue"], random_state=0).fit(X[:10])
    assert (
        np.ptp(few.interval_[:, :, 0], axis=0).mean()
        > np.ptp(fitted.interval_[:, :, 0], axis=0).mean()
    )


def test_untrained_baseline(by_hue):
    X, y = figures("H", 30, 0)
    other = clone(by_hue).set_params(max_epochs=0).fit(X, y)
    shown = explain_attributes(by_hue, X[:10], ["hue"], baseline=other, n_resamples=0)
    alone = explainer(other, attributes=["hue"]).fit(X[:10])
    assert_allclose(shown.untrained, np.median(alone.global_importance_, axis=0))
    assert "untrained" in shown.to_frame()
    with pytest.raises(ValueError, match="baseline must have the same attributes"):
        explainer(by_hue, attributes=["contrast"]).fit(X[:5]).explain_global(alone)


def test_train_and_test_agree(by_hue):
    train, test = (figures("H", 40, seed)[0] for seed in (0, 12))
    options = {"strengths": STRENGTHS}
    first = explainer(by_hue, **options).fit(train).explain_global()
    second = explainer(by_hue, **options).fit(test).explain_global()
    found = first.agreement(second)
    assert list(found) == list(IMAGE_ATTRIBUTES)
    assert np.mean(list(found.values())) > 0.3
    assert first.agreement(first)["hue"] == pytest.approx(1.0)
    other = explainer(by_hue, attributes=["hue"]).fit(test).explain_global()
    with pytest.raises(ValueError, match="same prototypes and attributes"):
        first.agreement(other)


# -- known answers ---------------------------------------------------------------------


def mean_scores(model, task):
    X, y = figures(task, 60, 13)
    assert model.score(X, y) > 0.9
    fitted = explainer(model, strengths=STRENGTHS).fit(X)
    return dict(
        zip(
            fitted.attribute_names_, fitted.global_importance_.mean(axis=0), strict=True
        )
    )


def test_hue_is_found_where_it_is_the_cue(by_hue):
    scores = mean_scores(by_hue, "H")
    assert scores["hue"] > 2 * scores["shape"]
    assert sorted(scores, key=scores.get)[-2:].count("hue") == 1
    assert max(scores["brightness"], scores["texture"]) < 0.5 * scores["hue"]


def test_shape_is_found_where_it_is_the_cue(by_shape):
    scores = mean_scores(by_shape, "S")
    assert scores["shape"] > 2 * scores["hue"]
    # Contrast is changed more than anything else, and counts wherever there are edges.
    others = [scores[name] for name in ("hue", "saturation", "brightness", "texture")]
    assert scores["shape"] > max(others)


# -- scikit-learn ----------------------------------------------------------------------


def test_transform_is_the_local_scores(by_hue):
    X, _ = figures("H", 6, 1)
    fitted = explainer(by_hue, attributes=["hue", "contrast"]).fit(X)
    local = fitted.explain(X)
    assert_array_equal(fitted.transform(X), local.scores.reshape(6, -1))
    names = fitted.get_feature_names_out()
    assert names.tolist()[:3] == [
        "prototype0_hue",
        "prototype0_contrast",
        "prototype1_hue",
    ]
    frame = fitted.set_output(transform="pandas").transform(X)
    assert frame.columns.tolist() == names.tolist()
    assert fitted.n_features_in_ == by_hue.n_features_in_


def test_clones_keep_the_model(by_hue):
    X, _ = figures("H", 6, 1)
    first = explainer(by_hue, attributes=["hue"])
    second = clone(first)
    assert second is not first
    assert second.estimator is by_hue
    assert not hasattr(second.fit(X), "history_")
    frozen = explainer(FrozenEstimator(by_hue), attributes=["hue"]).fit(X)
    assert_array_equal(frozen.global_importance_, second.global_importance_)
    search = GridSearchCV(by_hue, {"max_epochs": [0]}, cv=2)
    search.best_estimator_ = by_hue
    through = explainer(search, attributes=["hue"]).fit(X)
    assert_array_equal(through.global_importance_, second.global_importance_)


def test_fit_leaves_the_generators_alone(by_hue):
    X, _ = figures("H", 4, 1)
    state = np.random.mtrand._rand.get_state()[1].copy()
    before = torch.random.get_rng_state().clone()
    explainer(by_hue, attributes=["hue"], scope="focus").fit(X)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert_array_equal(np.random.mtrand._rand.get_state()[1], state)


def test_lazy_names():
    assert skproto.explain_attributes is explain_attributes
    assert skproto.attributes.IMAGE_ATTRIBUTES == IMAGE_ATTRIBUTES
    assert skproto.perturb.hue_shift


# -- what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"site": "best"}, "'site' parameter"),
        ({"scope": "all"}, "'scope' parameter"),
        ({"normalize": "max"}, "'normalize' parameter"),
        ({"n_resamples": -1}, "'n_resamples' parameter"),
        ({"attributes": ["colour"]}, "must be among .* Got 'colour'"),
        ({"strengths": {"size": 1}}, "strengths must be of attributes .* Got 'size'"),
        ({"strengths": {"hue": -1}}, r"strengths\['hue'\]"),
        ({"strengths": {"shape": {"width": 1}}}, r"strengths\['shape'\] .*amplitude"),
        ({"strengths": 3}, "strengths must be 'default' or a dict"),
        ({"value_range": (1, 0)}, "value_range must be two numbers"),
        ({"value_range": (0.0, 0.5)}, "within value_range"),
        ({"attributes": {"half": lambda v: v[:, :, ::2]}}, "same shape and dtype"),
        ({"attributes": {"int": lambda v: v.astype(int)}}, "same shape and dtype"),
        ({"attributes": {"nan": lambda v: v * np.nan}}, "finite values"),
    ],
)
def test_wrong_parameters(by_hue, options, message):
    X, _ = figures("H", 4, 1)
    with pytest.raises(ValueError, match=message):
        explainer(by_hue, **options).fit(X)


def test_wrong_samples(by_hue):
    X, _ = figures("H", 4, 1)
    fitted = explainer(by_hue, attributes=["hue"]).fit(X)
    with pytest.raises(ValueError, match="NaN"):
        fitted.explain(X * np.nan)
    with pytest.raises(ValueError, match="within value_range"):
        fitted.explain(2 * X)
    with pytest.raises(ValueError, match="samples of shape"):
        fitted.explain(X[:, :, :6])
    with pytest.raises(NotFittedError):
        explainer(ProtoPNetClassifier()).fit(X)
    with pytest.raises(NotFittedError):
        explainer(by_hue).explain(X)
    with pytest.raises(TypeError, match="must be a prototype model"):
        explainer(object()).fit(X)


def test_grey_images_have_no_colour():
    X, y = figures("S", 30, 0)
    grey = X.mean(axis=1, keepdims=True)
    model = ProtoPNetClassifier(1, max_epochs=1, random_state=0).fit(grey, y)
    fitted = explainer(model).fit(grey[:4])
    assert fitted.attribute_names_ == ["contrast", "brightness", "shape", "texture"]
    for name in ("hue", "saturation"):
        with pytest.raises(ValueError, match=f"'{name}' needs images of 3 channels.*1"):
            explainer(model, attributes=[name]).fit(grey)
