"""Explanations: numbers of the reference sheets, shapes, text, export, verification."""

import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from skproto.explanation import PrototypeTable
from skproto.explanation._numbers import number, probability, together

# The evidence contract


def test_contributions_and_bias_add_up_to_the_decision(local):
    total = local.contributions.sum(axis=1) + local.bias
    np.testing.assert_allclose(total, local.decision, rtol=1e-12)
    assert local.decision.shape == (len(local),)


def test_free_head_of_the_sheet(make):
    e = make.linear()
    np.testing.assert_allclose(e.scores[0], [0.898230909, -0.360270339], atol=1e-8)
    np.testing.assert_allclose(e.decision, e.scores[:, 1] - e.scores[:, 0])


def test_components_of_the_sheet(make):
    e = make.reasoning()
    np.testing.assert_allclose(e.scores[0], [0.674666332, 0.350912014], atol=1e-8)
    present = [[0.363918396, 0.060653066], [0, 0.133878096]]
    np.testing.assert_allclose(e.presence[0], present, atol=1e-8)
    absent = [[0, 0.078693868], [0.310747936, 0.077686984]]
    np.testing.assert_allclose(e.absence[0], absent, atol=1e-8)


def test_tree_of_the_sheet(make):
    e = make.tree()
    reach = e.tree.leaf_probability(e.node_probability)
    np.testing.assert_allclose(reach[0], [0.15, 0.05, 0.32, 0.48], atol=1e-12)
    np.testing.assert_allclose(e.scores[0], [0.385, 0.615], atol=1e-12)
    np.testing.assert_allclose(make.tree("greedy").scores[0], [0.1, 0.9], atol=1e-12)


def test_positive_margin_is_the_score_of_the_second_class(make):
    e = make.pair()
    np.testing.assert_allclose(e.decision, e.scores[:, 1])
    np.testing.assert_allclose(e.contributions, e.class_contributions[..., 1])


def test_more_than_two_classes_keep_the_class_axis(make):
    e = make.linear()
    wide = {
        "classes": np.array(["A", "B", "C"]),
        "class_contributions": np.pad(e.class_contributions, ((0, 0), (0, 0), (0, 1))),
        "class_bias": np.pad(e.class_bias, ((0, 0), (0, 1)), constant_values=-9),
        "scores": np.pad(e.scores, ((0, 0), (0, 1)), constant_values=-9),
        "probabilities": np.pad(e.probabilities, ((0, 0), (0, 1))),
        "head_weights": np.pad(e.head_weights, ((0, 0), (0, 1))),
        "link": None,
    }
    e = make.linear(**wide)
    e.verify()
    assert e.contributions.shape == (2, 2, 3)
    assert e.bias.shape == e.decision.shape == (2, 3)


# Verification: whatever is shown and changed is found


def test_untouched_explanations_verify(local):
    local.verify()
    local[:0].verify()


@pytest.mark.parametrize("routing", ["greedy", "sample_max"])
def test_hard_routings_verify(make, routing):
    make.tree(routing).verify()


def test_float32_verifies(local):
    for name, value in vars(local).items():
        if isinstance(value, np.ndarray) and value.dtype == np.float64:
            setattr(local, name, value.astype(np.float32))
    local.verify()


COMMON = ["scores", "class_contributions", "class_bias", "similarities"]
COMMON += ["probabilities"]
TAMPERED = {
    "linear": [*COMMON, "distances", "head_weights", "bandwidths", "samples"],
    "reasoning": [
        *(*COMMON, "distances", "samples", "presence", "absence"),
        *("reasoning_positive", "reasoning_negative"),
    ],
    "pair": [
        *("scores", "class_contributions", "class_bias", "probabilities", "distances"),
        *("squared_distances", "relative_distance", "feature_differences", "samples"),
    ],
    "tree": [*COMMON, "node_probability", "leaf_probability", "node_distances"],
    "ensemble": COMMON[:-1],
}
CASES = [(kind, name) for kind, names in TAMPERED.items() for name in names]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_every_entry_that_is_tampered_with_is_found(make, kind, name):
    original = getattr(make, kind)()
    for at in np.ndindex(getattr(original, name).shape):
        changed = copy.deepcopy(original)
        array = np.array(getattr(changed, name), dtype=float)
        array[at] += 0.01
        setattr(changed, name, array)
        with pytest.raises(ValueError, match=r"sample|prototype|class"):
            changed.verify()


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("linear", "prediction", np.array(["B", "B"])),
        ("linear", "prediction", np.array(["A", "Z"])),
        ("linear", "scores", np.full((2, 2), np.nan)),
        ("pair", "winner", np.array([1, 1])),
        ("pair", "runner_up", np.array([1, 1])),
        ("pair", "winner", np.array([0, 9])),
        ("tree", "path", [[0, 2, 5], [0, 1, 3]]),
        ("tree", "path", [[0, 6], [0, 1, 3]]),
        ("tree", "path", [[0, 2], [0, 1, 3]]),
        ("tree", "path", [[2, 6], [0, 1, 3]]),
        ("tree", "path", [[], [0, 1, 3]]),
        ("tree", "leaf", np.array([2, 0])),
        ("tree", "agrees", np.array([False, True])),
    ],
)
def test_decisions_that_do_not_follow_are_found(make, kind, name, value):
    changed = getattr(make, kind)()
    setattr(changed, name, value)
    with pytest.raises(ValueError, match=r"sample 1[78]"):
        changed.verify()


@pytest.mark.parametrize("name", ["leaf_distributions", "radii"])
def test_tree_itself_is_checked(make, name):
    array = np.array(getattr(make.tree_table(), name), dtype=float)
    array.flat[0] += 0.01
    with pytest.raises(ValueError, match=r"follows from the other numbers"):
        make.tree(tree=make.tree_table(**{name: array})).verify()


def test_presence_on_the_wrong_side_of_the_radius_is_found(make):
    table = make.tree_table(radii=[0.5, 2.0, 1.5], sharpness=None)
    with pytest.raises(ValueError, match="sample 17, prototype 0: presence and"):
        make.tree(tree=table).verify()


def test_prototype_values_are_checked(make):
    moved = make.table(values=[[0.1], [4.0]])
    with pytest.raises(ValueError, match="distance to prototype 0 of sample 17"):
        make.linear(prototypes=moved).verify()


def test_a_tree_of_an_ensemble_is_checked(make):
    e = make.ensemble()
    e.trees[1].leaf_probability = e.trees[1].leaf_probability + 0.01
    with pytest.raises(ValueError, match=r"^tree 1: probability of reaching of sample"):
        e.verify()
    e = make.ensemble(trees=[make.tree(), make.tree()])
    with pytest.raises(ValueError, match="contribution of sample 17, leaf"):
        e.verify()


def test_error_names_sample_and_class(make):
    e = make.linear()
    e.scores[1, 1] += 0.5
    message = r"score of sample 18, class 'B': 1\.68.* is shown, but 1\.18"
    with pytest.raises(ValueError, match=message):
        e.verify()


def test_hard_path_must_end_in_the_most_probable_leaf_under_sample_max(make):
    e = make.tree("sample_max", path=[[0, 2, 5], [0, 1, 3]], leaf=[2, 0])
    e.class_contributions = e._leaf_weights()[:, :, None] * e.tree.leaf_distributions
    e.scores = e.probabilities = e.class_contributions.sum(axis=1)
    e.prediction = np.array(["A", "A"])
    with pytest.raises(ValueError, match="leaf 3 is reached with the highest"):
        e.verify()


def test_class_whose_prototypes_were_pruned_still_verifies(make):
    e = make.pair(prototypes=make.table(labels=np.array(["A", "C"]), values=None))
    e.classes = np.array(["A", "B", "C"])
    e.prediction = np.array(["A", "C"])
    for name in ("scores", "class_contributions", "class_bias"):
        value = np.insert(getattr(e, name), 1, 0, axis=-1)
        setattr(e, name, value)
    e.scores[:, 1] = e.class_bias[:, 1] = -1
    odds = np.exp(e.scores / e.temperature)
    e.probabilities = odds / odds.sum(axis=1, keepdims=True)
    e.verify()


# Shapes


@pytest.mark.parametrize(
    ("kind", "change", "error", "message"),
    [
        ("linear", {"scores": np.zeros(2)}, ValueError, r"scores must have shape"),
        (
            "linear",
            {"scores": np.zeros((3, 2))},
            ValueError,
            r"got \(2,\)|got \(2, 2\)",
        ),
        ("linear", {"similarities": None}, TypeError, "similarities must be an array"),
        ("linear", {"radius_units": "km"}, ValueError, "radius_units must be one of"),
        ("linear", {"link": "probit"}, ValueError, "link must be one of"),
        ("tree", {"routing": "left"}, ValueError, "routing must be one of"),
        ("tree", {"path": [[0, 2, 6]]}, ValueError, "path must hold 2 paths, got 1"),
        ("pair", {"class_contributions": np.zeros((2, 3, 2))}, ValueError, "got 3"),
        ("ensemble", {"trees": []}, ValueError, "every tree must explain 2 samples"),
    ],
)
def test_contradicting_fields_are_refused(make, kind, change, error, message):
    with pytest.raises(error, match=message):
        getattr(make, kind)(**change)


def test_units_of_a_pair_may_be_own_and_other(make):
    e = make.pair(class_contributions=np.array([[[13, -13], [-2, 2]]] * 2) / 15)
    assert set(e.to_frame()["prototype"]) == {0, 1}
    three = make.table(
        ids=[0, 1, 2],
        labels=np.array(["A", "B", "B"]),
        indices=[1, 2, 3],
        projection_distance=[0, 0, 0],
        is_case=[True] * 3,
        values=np.zeros((3, 2)),
        feature_names=None,
        scale=None,
    )
    squared = np.array([[2.0, 13, 20], [13, 2, 20]])
    extra = {"distances": None, "similarities": np.exp(-squared)}
    e = make.pair(prototypes=three, squared_distances=squared, metric=None, **extra)
    e.verify()
    assert "nearest of the class" in set(e.to_frame()["unit"])
    assert e.feature_frame()["feature"].tolist() == ["x0", "x1"] * 2


def test_table_without_values_has_no_reference(make):
    bare = make.table(values=None, feature_names=None, scale=None)
    assert bare.reference is None
    assert len(bare.names) == 0
    text = str(make.linear(prototypes=bare, metric=None))
    assert "like training row 212 (A): similarity 0.61, contribution +1.52\n" in text


# Indexing


@pytest.mark.parametrize(
    "key", [0, -1, slice(0, 1), np.array([1]), [True, False], slice(None, None, -1)]
)
def test_indexing_keeps_the_class_and_the_numbers(local, key):
    part = local[key]
    rows = np.atleast_1d(np.arange(2)[key])
    assert type(part) is type(local)
    assert len(part) == len(rows)
    np.testing.assert_array_equal(part.scores, local.scores[rows])
    np.testing.assert_array_equal(part.sample_index, np.array([17, 18])[rows])
    part.verify()


def test_iteration_gives_single_samples(local):
    assert [len(part) for part in local] == [1, 1]
    with pytest.raises(IndexError):
        local[2]


def test_reasoning_tables_of_the_samples_are_sliced(make):
    e = make.reasoning()
    own = {
        name: np.stack([getattr(e, name)] * 2)
        for name in ("reasoning_positive", "reasoning_negative")
    }
    e = make.reasoning(**own)
    e.verify()
    assert e[1].reasoning_positive.shape == (1, 2, 2)
    e[1].verify()


def test_pickle_and_deepcopy(local):
    for other in (pickle.loads(pickle.dumps(local)), copy.deepcopy(local)):
        other.verify()
        assert str(other) == str(local)


# Text


def one_line(shown):
    return " ".join(str(shown).split())


def test_text_of_a_linear_head(make):
    assert str(make.linear()[0]).splitlines() == [
        "Sample 17: A (probability 0.78)",
        "  for:       like training row 212 (A): similarity 0.61, contribution +1.52",
        "  against:   like training row 35 (B): similarity 0.22, contribution -0.56",
        "               differs most in dose 1 vs 4",
        "  total:     contributions +0.96 and bias +0.30 put A (score 0.898) ahead of"
        " B (-0.360)",
        "  certified: no change smaller than 1.32 (scaled units) alters the prediction",
    ]


def test_text_of_components(make):
    text = one_line(make.reasoning())
    assert "training row 212 (A) is present (+0.36), similarity 0.61" in text
    assert "training row 35 (B) is absent (+0.31), similarity 0.22 differs" in text
    assert "training row 35 (B) is partly present (+0.13 for B)" in text
    assert "shares add up to 0.675 for A and 0.351 for B" in text
    assert "certified: nothing: the smallest change may" in text


def test_text_of_a_pair(make):
    text = str(make.pair()[0])
    assert "dose 1 (winner 0, runner-up 4): +8" in text
    assert "runner-up: training row 35 (B), squared distance 13" in text
    assert "relative distance -0.73" in text


def test_text_of_a_tree(make):
    text = one_line(make.tree())
    yes = "yes, present with probability 0.80"
    assert f"1: like training row 17, distance 0.753 < radius 1? {yes}" in text
    assert "like learned prototype 2 (nearest training row 9), distance" in text
    assert "like training row 40, distance 2.38 >= radius 2? no, present" in text
    assert "leaf 3 (reached with probability 0.48): B 0.90, A 0.10" in text
    assert "others: all other leaves together add B 0.18 to the 0.43 of" in text
    assert "caution" not in text


def test_text_flags_a_path_that_disagrees_with_the_sum(make):
    leaves = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.4, 0.6]])
    e = make.tree(tree=make.tree_table(leaf_distributions=leaves))
    e.class_contributions = e.leaf_probability[:, :, None] * leaves
    e.scores = e.probabilities = e.class_contributions.sum(axis=1)
    e.prediction, e.agrees = np.array(["A", "A"]), np.array([False, True])
    e.verify()
    assert "caution: the path alone says B, all leaves together say A" in str(e[0])


def test_text_of_an_ensemble(make):
    text = str(make.ensemble())
    assert "2 of 2 trees favour B" in text
    story = "tree 1: like training row 17, like learned prototype 2 (nearest training"
    assert story in text


def test_single_leaf_trees_have_no_question(make):
    stump = make.tree_table(
        children_left=[-1],
        children_right=[-1],
        prototype=[-1],
        leaf=[0],
        leaf_distributions=[[0.4, 0.6]],
        radii=np.zeros(0),
    )
    empty = np.zeros((2, 0))
    none = {
        name: np.zeros(0, dtype=int)
        for name in ("ids", "labels", "indices", "projection_distance", "is_case")
    }
    e = make.tree(
        tree=stump,
        prototypes=PrototypeTable(**none),
        similarities=empty,
        node_probability=empty,
        node_distances=empty,
        leaf_probability=np.ones((2, 1)),
        path=[[0], [0]],
        leaf=[0, 0],
        prediction=np.array(["B", "B"]),
        class_contributions=np.tile([[[0.4, 0.6]]], (2, 1, 1)),
        scores=[[0.4, 0.6]] * 2,
        probabilities=[[0.4, 0.6]] * 2,
    )
    e.verify()
    assert "leaf 0 (reached with probability 1.00): B 0.60" in str(e)
    assert len(e.path_frame()) == 0


def test_long_explanations_are_cut(make):
    e = make.linear()[np.zeros(8, dtype=int)]
    assert str(e).endswith("\n... and 3 more")
    assert str(e).count("Sample 17") == 5
    assert str(e[:0]) == "RBFClassifier: no samples"
    assert repr(e) == str(e)


def test_learned_prototypes_are_labelled(make):
    e = make.linear(prototypes=make.table(is_case=[False, False], indices=[212, -1]))
    assert "like learned prototype 0 (A; nearest training row 212): sim" in str(e)
    assert "like learned prototype 1 (B): similarity" in str(e)


def test_rows_keep_their_own_label(make):
    own = make.table(sample_labels=["B", "B"], is_case=[True, False])
    text = one_line(make.linear(prototypes=own)[0])
    assert "like training row 212 (B): similarity" in text
    assert "like learned prototype 1 (B; nearest training row 35): sim" in text
    other = make.table(sample_labels=["B", "A"], is_case=[False, False])
    text = one_line(make.linear(prototypes=other)[0])
    assert "prototype 0 (A; nearest training row 212, B): similarity" in text


def test_faint_evidence_is_flagged(make):
    assert "caution" not in str(make.reasoning())
    faint = np.full((2, 2), 0.01)
    text = one_line(make.reasoning(similarities=faint, scores=faint)[0])
    assert "caution: hardly anything that the classes look for is found" in text
    assert "hardly present" in text


def test_features_that_matter_are_named(make):
    names = [f"f{j}" for j in range(6)]
    values = np.array([[3.0, 0.0, 2.5, 0.1, 9.0, 1.0]] * 2)
    shared = {"feature_names": names, "values": values, "scale": np.ones(6)}
    sample = np.array([[3.1, 0.0, 2.5, 0.1, 5.0, 3.0]] * 2)
    e = make.linear(prototypes=make.table(**shared), samples=sample, metric=None)
    text = str(e[0])
    assert "alike in f1 0 vs 0, f2 2.50 vs 2.50, f3 0.100 vs 0.100" in text
    assert "differs most in f4 5 vs 9, f5 3 vs 1, f0 3.10 vs 3" in text
    centred = make.table(**shared, center=np.zeros(6))
    e = make.linear(prototypes=centred, samples=sample, metric=None)
    assert "alike in f0 3.10 vs 3, f2 2.50 vs 2.50" in str(e[0])
    weighted = make.table(**shared, weights=[[0, 0, 0, 0, 0, 1.0]] * 2)
    e = make.linear(prototypes=weighted, samples=sample, metric=None)
    assert "differs most in f5 3 vs 1\n" in str(e[0])


def test_numbers_are_readable():
    shown = [number(v) for v in (0, 12345.6, 1e7 + 0.5, 0.00012, np.nan, np.inf)]
    assert shown == ["0", "12346", "1.00e+07", "0.000120", "unknown", "infinite"]
    assert together(1001.4, 1000.9) == ["1001.4", "1000.9"]
    assert together(17.2, 17.2000001) == ["17.2", "17.2"]
    assert [probability(v) for v in (0, 0.9999, 1)] == ["0.00", ">0.99", "1.00"]


# Tables and dictionaries


def test_frame_is_tidy_and_adds_up(local):
    frame = local.to_frame()
    n_units = local.class_contributions.shape[1]
    assert len(frame) == 2 * n_units * 2
    total = frame.groupby(["sample", "class"])["contribution"].sum().to_numpy()
    expected = (local.scores - local.class_bias).ravel()
    np.testing.assert_allclose(total, expected, atol=1e-12)
    assert {"sample", "prediction", "class"} <= set(frame.columns)


def test_frame_names_prototypes_and_rows(make):
    frame = make.reasoning().to_frame()
    first = frame.iloc[0]
    assert (first["sample"], first["prototype"], first["training_row"]) == (17, 0, 212)
    assert (first["prototype_label"], first["class"]) == ("A", "A")
    assert first["presence"] == pytest.approx(0.363918396)
    assert first["similarity"] == pytest.approx(0.60653066)


def test_path_frames(make):
    frame = make.tree().path_frame()
    assert frame["node"].tolist() == [0, 2, 0, 1]
    assert frame["training_row"].tolist() == [17, 9, 17, 40]
    assert frame["present"].tolist() == [True, True, False, False]
    assert make.ensemble().path_frame()["tree"].tolist() == [0] * 4 + [1] * 4


def test_feature_frame_adds_up(make):
    e = make.pair()
    frame = e.feature_frame()
    total = frame.groupby("sample")["difference"].sum()
    np.testing.assert_allclose(total, [11, 11])
    assert frame.loc[0, ["value", "winner_value", "runner_up_value"]].tolist() == [
        *(1.0, 0.0, 3.0)
    ]


def test_latent_features_are_called_latent(make):
    e = make.pair(feature_differences=[[3.0, 7.0, 1.0]] * 2)
    e.verify()
    assert "latent feature 1: +7" in str(e)
    assert "value" not in e.feature_frame()


def test_dictionary_is_json(local, knowledge):
    for shown in (local, knowledge):
        text = json.dumps(shown.to_dict(), allow_nan=False)
        assert json.loads(text)["type"] == type(shown).__name__


def test_dictionary_has_none_for_infinity(make):
    content = make.linear().to_dict()
    assert content["radius"] == [pytest.approx(1.324764702), None]
    assert content["prototypes"]["indices"] == [212, 35]
    np.testing.assert_allclose(content["decision"], make.linear().decision)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0, 1]),
        np.array([0.5, 1.5]),
        np.array([False, True]),
        np.array([b"a", b"b"]),
        np.array(["a", None], dtype=object),
        np.array(["2020-01-01", "2021-01-01"], dtype="datetime64[D]"),
    ],
)
def test_labels_of_any_type(make, labels):
    e = make.linear(
        classes=labels, prediction=labels, prototypes=make.table(labels=labels)
    )
    e.verify()
    assert str(e)
    json.dumps(e.to_dict(), allow_nan=False)
    assert len(e.to_frame()) == 8


# Whole models


def test_prototype_table_in_the_users_units(make):
    frame = make.model().to_frame()
    assert frame["dose"].tolist() == [0.0, 4.0]
    assert frame["weight for B"].tolist() == [-1.0, 2.0]
    assert frame["training_row"].tolist() == [212, 35]
    assert "training row 212 (A)  30" in str(make.model())


def test_features_called_like_columns_are_kept(make):
    frame = make.model(prototypes=make.table(feature_names=["label"])).to_frame()
    assert frame["label (feature)"].tolist() == [0.0, 4.0]
    assert frame["label"].tolist() == ["A", "B"]


def test_reasoning_frame(make):
    frame = make.reasoning_global().reasoning_frame()
    np.testing.assert_allclose(frame["presence"], [0.6, 0.1, 0.0, 0.6])
    np.testing.assert_allclose(frame["absence"], [0.0, 0.2, 0.4, 0.1])
    assert "present 0.10, absent 0.20" in str(make.reasoning_global())


def test_relevance_frame(make):
    assert make.pair_global().relevance_frame()["feature"].tolist() == ["dose", "age"]
    bare = make.pair_global()
    bare.relevances = None
    assert len(bare.relevance_frame()) == 0


def test_tree_text_and_nodes(make):
    tree = make.tree_global()
    lines = tree.to_text().splitlines()
    assert len(lines) == 7
    assert lines[1].startswith("|-- absent: like training row 153 (within 1.38)?")
    assert lines[2].startswith("|   |-- absent: leaf 0: class 0 0.59 (25% of the")
    frame = tree.node_frame()
    assert frame["leaf"].tolist() == [-1, -1, -1, 0, 1, 2, 3]
    assert (frame["prototype"] >= 0).tolist() == [True] * 3 + [False] * 4
    assert make.ensemble_global().to_text().count("tree ") == 2


def test_tree_of_wrong_size_is_refused(make):
    tree = make.tree_global()
    with pytest.raises(ValueError, match="class_sets must have length 7, got 1"):
        type(tree)(**{**vars(tree), "class_sets": [["A"]]})
    with pytest.raises(ValueError, match="children_left must be -1 at the leaves"):
        make.tree_table(children_left=[0] * 7)


def test_model_without_values_has_no_picture(make):
    model = make.model(
        prototypes=make.table(values=None, feature_names=None, scale=None)
    )
    assert "stands out" not in str(model)
    with pytest.raises(ValueError, match="no values to draw"):
        model.plot()


# Imports


def test_import_is_light():
    code = (
        "import sys, skproto.explanation; "
        "heavy = {'torch', 'sklearn', 'pandas', 'matplotlib', 'jinja2', 'scipy'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
