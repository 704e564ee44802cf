"""The plane: points are where the model compares them, classes can be told apart."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skproto.display import EmbeddingDisplay
from skproto.display._space import compared


def offsets(groups):
    return np.concatenate([np.asarray(group.get_offsets()) for group in groups])


def test_every_estimator_has_a_plane(any_estimator, tools, pyplot):
    X, y = tools.wine()
    model = tools.model(any_estimator)
    display = EmbeddingDisplay.from_estimator(model, X, y)
    assert len(offsets(display.samples_)) == len(X)
    assert len(offsets(display.prototypes_)) == len(model.prototypes_)
    assert display.areas_ is None
    tools.assert_inside(display.figure_)


@pytest.mark.parametrize(
    "name",
    [
        "CBCClassifier",
        "DeformableProtoPNetClassifier",
        "GMLVQClassifier",
        "PIPNetClassifier",
        "ProtoPNetClassifier",
        "ProtoTreeClassifier",
        "ProtoViTClassifier",
        "PrototypeAutoencoderClassifier",
        "TesNetClassifier",
    ],
)
def test_images_have_one_point_each(name, tools, pyplot):
    X, y = tools.digits()
    model = tools.model(name, "digits")
    display = EmbeddingDisplay.from_estimator(model, X, y)
    assert len(offsets(display.samples_)) == len(X)
    assert len(offsets(display.prototypes_)) == len(model.prototypes_)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("RBFClassifier", "wine"),
        ("GLVQClassifier", "wine"),
        ("GMLVQClassifier", "wine"),
        ("ProtoPNetClassifier", "wine"),
        ("CBCClassifier", "digits"),
        ("GMLVQClassifier", "digits"),
        ("ProtoPNetClassifier", "digits"),
        ("ProtoTreeClassifier", "digits"),
        ("DeformableProtoPNetClassifier", "digits"),
    ],
)
def test_the_space_is_the_one_in_which_the_model_compares(name, data, tools):
    X, _ = getattr(tools, data)()
    model = tools.model(name, data)
    space = compared(model, X)
    outputs = model._forward(model._check_input(X), ("activations", "distances"))
    nearest = outputs["activations"].argmax(axis=1)
    rows = np.arange(len(X))
    found = cdist(space.samples, space.prototypes)[rows, nearest]
    expected = outputs["distances"][rows, nearest].astype(float)
    if name == "DeformableProtoPNetClassifier":  # a mean over the parts
        found = found / np.sqrt(model._module.n_parts)
    if name == "ProtoTreeClassifier":  # a mean over the dimensions
        found = found / np.sqrt(space.samples.shape[1])
    assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["ProtoPNetClassifier", "ProtoTreeClassifier"])
def test_projected_prototypes_are_their_sources(name, tools, pyplot):
    X, y = tools.digits()
    space = compared(tools.model(name, "digits"), X)
    assert_allclose(space.sources, space.prototypes, atol=1e-4)
    display = EmbeddingDisplay.from_estimator(tools.model(name, "digits"), X, y)
    assert display.links_ is None


# Two features


def test_two_features_are_drawn_as_they_are(tools, pyplot):
    X, y = tools.pairs()
    model = tools.model("GLVQClassifier", "pairs")
    display = EmbeddingDisplay.from_estimator(model, X, y, grid_resolution=30)
    for k, label in enumerate(model.classes_):
        assert_array_equal(display.samples_[k].get_offsets(), X[y == label])
        own = model.prototypes_[model.prototype_labels_ == label]
        assert_allclose(display.prototypes_[k].get_offsets(), own)
    labels = display.ax_.get_xlabel(), display.ax_.get_ylabel()
    assert labels == ("mean radius", "mean smoothness")
    x, yy, found = display.areas
    grid = np.stack(np.meshgrid(x, yy), axis=-1).reshape(-1, 2)
    frame = X.iloc[:0].reindex(range(len(grid)))
    frame[:] = grid
    assert_array_equal(found.ravel(), model.predict(frame))
    codes = np.searchsorted(model.classes_, found)
    assert_array_equal(display.areas_.get_array(), codes)
    assert display.plot(decision_areas=False).areas_ is None


def test_links_lead_to_the_training_rows(tools, pyplot):
    X, y = tools.pairs()
    model = tools.model("GLVQClassifier", "pairs")
    display = EmbeddingDisplay.from_estimator(model, X, y)
    ends = np.array(display.links_.get_segments())
    assert_allclose(ends[:, 0], model.prototypes_)
    assert_allclose(ends[:, 1], X.to_numpy()[model.prototype_indices_])
    assert display.plot(links=False).links_ is None


def test_a_pipeline_names_the_axes(tools, pyplot):
    X, y = tools.pairs()
    pipeline = make_pipeline(StandardScaler(), tools.short("CBCClassifier")).fit(X, y)
    display = EmbeddingDisplay.from_estimator(pipeline, X, y)
    assert display.ax_.get_xlabel() == "mean radius"
    assert_allclose(display.points.mean(axis=0), 0, atol=1e-9)


def test_an_encoder_of_two_dimensions_has_areas(tools, pyplot):
    X, y = tools.wine()
    torch.manual_seed(0)
    encoder = torch.nn.Linear(13, 2)
    model = tools.short("GLVQClassifier", encoder=encoder).fit(X, y)
    display = EmbeddingDisplay.from_estimator(model, X, y)
    assert display.ax_.get_xlabel() == "embedding, dimension 1"
    assert display.areas_ is not None
    space = compared(model, X)
    assert_array_equal(space.predict(space.samples), model.predict(X))


def test_areas_need_a_plane(tools):
    X, y = tools.wine()
    message = r"decision_areas=True needs .* GLVQClassifier has 13 dimensions"
    model = tools.model("GLVQClassifier")
    with pytest.raises(ValueError, match=message):
        EmbeddingDisplay.from_estimator(model, X, y, decision_areas=True)
    X, y = tools.pairs()
    model = tools.model("GLVQClassifier", "pairs")
    with pytest.raises(ValueError, match="transformer=None"):
        EmbeddingDisplay.from_estimator(
            model, X, y, decision_areas=True, transformer=PCA(2)
        )


# Transformers


class Neighbours(BaseEstimator):
    """Embeds what it is given, and nothing else, as t-SNE does."""

    def fit_transform(self, X):
        return X[:, :2] * len(X)


def test_any_transformer_will_do(tools, pyplot):
    X, y = tools.wine()
    model = tools.model("GLVQClassifier")
    pca = PCA(2, random_state=0)
    given = EmbeddingDisplay.from_estimator(model, X, y, transformer=pca)
    own = EmbeddingDisplay.from_estimator(model, X, y)
    assert_allclose(np.abs(given.points), np.abs(own.points), atol=1e-6)
    assert given.ax_.get_xlabel() == "PCA, dimension 1"
    assert not hasattr(pca, "components_")
    display = EmbeddingDisplay.from_estimator(model, X, y, transformer=Neighbours())
    space = compared(model, X)
    n_points = len(X) + 2 * len(model.prototypes_)
    assert_allclose(display.prototypes, space.prototypes[:, :2] * n_points)
    with pytest.raises(ValueError, match="transformer must return two columns"):
        EmbeddingDisplay.from_estimator(model, X, y, transformer=PCA(3))


def test_one_dimension_is_a_line(tools, pyplot):
    X, y = tools.wine()
    one = X.iloc[:, :1]
    model = tools.short("GLVQClassifier").fit(one, y)
    display = EmbeddingDisplay.from_estimator(model, one, y)
    assert (display.points[:, 1] == 0).all()
    assert display.ax_.get_xlabel() == "the only dimension that varies"


# Looks


@pytest.mark.parametrize("n_classes", [2, 20, 60])
def test_classes_can_be_told_apart(n_classes, tools, pyplot):
    rng = np.random.default_rng(0)
    names = np.array(
        [f"a rather long name of class {k:02d} ($)" for k in range(n_classes)]
    )
    y = np.repeat(names, 5)
    display = EmbeddingDisplay.from_predictions(
        rng.normal(size=(len(y), 2)),
        y,
        prototypes=rng.normal(size=(n_classes, 2)),
        prototype_labels=names,
        title="Classes " * 20,
    )
    looks = set()
    for group in display.samples_:
        (path,) = group.get_paths()
        colour = tuple(group.get_facecolor()[0][:3])
        looks.add((path.vertices.tobytes(), colour))
    assert len(looks) == n_classes
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert len(set(legend)) == len(legend)
    assert ("and 36 more classes" in legend) == (n_classes == 60)
    tools.assert_inside(display.figure_)


def test_samples_without_labels_look_alike(tools, pyplot):
    X, _ = tools.wine()
    display = EmbeddingDisplay.from_estimator(tools.model("CBCClassifier"), X)
    assert len(display.samples_) == 1
    assert len(display.prototypes_) == 3


def test_no_source_no_link(pyplot):
    points = [[0.0, 0.0], [1.0, 1.0]]
    sources = [[np.nan, np.nan], [0.5, 0.5]]
    display = EmbeddingDisplay.from_predictions(
        points, prototypes=points, sources=sources
    )
    assert len(display.links_.get_segments()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": [[1.0, 2.0, 3.0]]}, "points must have two columns. Got 3"),
        ({"prototypes": [[1.0]]}, "prototypes must have two columns. Got 1"),
        ({"y": ["a"]}, "inconsistent numbers of samples"),
        ({"sources": [[1.0, 2.0]]}, "inconsistent numbers of samples"),
        ({"points": [[np.nan, 0.0]]}, "points contains NaN"),
    ],
)
def test_arrays_are_checked(change, message):
    fields = {"points": np.zeros((3, 2)), "prototypes": np.zeros((2, 2))}
    with pytest.raises(ValueError, match=message):
        EmbeddingDisplay(**{**fields, **change})
