"""Classifiers and folds are scikit-learn's; distances and draws are those of plain loops."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.linear_model import Ridge as SkRidge
from sklearn.model_selection import KFold, LeaveOneGroupOut, StratifiedGroupKFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from musrep_jax.config import ConfigError
from musrep_jax.evaluation.metrics import EvaluationError
from musrep_jax.probing import folds, neighbors
from musrep_jax.probing.classifiers import CLASSIFIERS, load_classifier


@pytest.fixture(scope="module")
def examples():
    """Features of different sizes, three exclusive classes, and three labels that are not."""
    random = np.random.default_rng(0)
    features = random.standard_normal((90, 7)) * np.geomspace(0.1, 100, 7) + 5
    logits = (features - 5) / np.geomspace(0.1, 100, 7) @ random.standard_normal((7, 3))
    logits += random.standard_normal((90, 3))
    return features, logits.argmax(axis=1), (logits > 0).astype(float)


def split(array):
    return array[:60], array[60:]


def test_ridge_and_linear_regression_are_those_of_scikit_learn(examples):
    (train, test), (targets, _) = split(examples[0]), split(examples[2])
    scaler = StandardScaler().fit(train)
    for strength, reference in ((3.0, SkRidge(alpha=3.0)), (0, LinearRegression())):
        found = load_classifier("ridge", strength=strength).fit(train, targets, is_exclusive=False)
        reference.fit(scaler.transform(train), 2 * targets - 1)
        expected = reference.predict(scaler.transform(test))
        np.testing.assert_allclose(found.scores(test), expected, atol=1e-8)


def test_linear_regression_of_more_features_than_examples_has_the_least_norm(examples):
    wide = np.random.default_rng(3).standard_normal((90, 30))
    wide, targets = np.concatenate([wide, wide], axis=1), examples[2]  # every feature twice
    found = load_classifier("ridge", strength=0, standardize="none")
    expected = LinearRegression().fit(wide[:20], 2 * targets[:20] - 1).predict(wide)
    scores = found.fit(wide[:20], targets[:20], is_exclusive=False).scores(wide)
    np.testing.assert_allclose(scores, expected, atol=1e-8)


@pytest.mark.parametrize("is_exclusive", [False, True])
def test_logistic_regression_is_that_of_scikit_learn(examples, is_exclusive):
    features, classes, targets = examples
    if is_exclusive:
        targets = np.eye(3)[classes]
    (train, test), (known, _) = split(features), split(targets)
    found = load_classifier("logistic", cost=0.5).fit(train, known, is_exclusive=is_exclusive)
    scaler = StandardScaler().fit(train)
    reference = LogisticRegression(C=0.5, tol=1e-8, max_iter=1000)
    if is_exclusive:
        reference.fit(scaler.transform(train), classes[:60])
        expected = reference.predict_proba(scaler.transform(test))
    else:
        expected = np.stack(
            [
                reference.fit(scaler.transform(train), column).predict_proba(
                    scaler.transform(test)
                )[:, 1]
                for column in known.T
            ],
            axis=1,
        )
    np.testing.assert_allclose(found.scores(test), expected, atol=1e-3)


def test_scalar_standardization_and_machine_are_those_of_scikit_learn(examples):
    (train, test), classes = split(examples[0]), examples[1]
    scale = lambda x: (x - train.mean()) / train.std()  # noqa: E731
    reference = SVC(C=2.0, gamma=0.1).fit(scale(train), classes[:60])
    found = load_classifier("svm", cost=2.0, gamma=0.1, standardize="scalar")
    scores = found.fit(train, np.eye(3)[classes[:60]], is_exclusive=True).scores(test)
    np.testing.assert_allclose(scores, reference.decision_function(scale(test)), atol=1e-9)
    np.testing.assert_array_equal(scores.argmax(axis=1), reference.predict(scale(test)))


def test_machine_of_two_classes_of_three_never_names_the_third(examples):
    features, classes, _ = examples
    kept = classes != 1
    found = load_classifier("svm").fit(features[kept], np.eye(3)[classes[kept]], is_exclusive=True)
    scores = found.scores(features)
    expected = SVC().fit(StandardScaler().fit_transform(features[kept]), classes[kept])
    scaled = StandardScaler().fit(features[kept]).transform(features)
    np.testing.assert_array_equal(scores.argmax(axis=1), expected.predict(scaled))


@pytest.mark.parametrize("distance", neighbors.DISTANCES)
def test_neighbors_are_those_of_scikit_learn(examples, distance):
    (train, test), (targets, _) = split(examples[0]), split(examples[2])
    scaler = StandardScaler().fit(train)
    reference = KNeighborsClassifier(7, metric=distance, algorithm="brute")
    reference.fit(scaler.transform(train), targets)
    expected = np.stack([p[:, 1] for p in reference.predict_proba(scaler.transform(test))], axis=1)
    found = load_classifier("neighbors", num_neighbors=7, distance=distance)
    scores = found.fit(train, targets, is_exclusive=False).scores(test)
    np.testing.assert_allclose(scores, expected, atol=1e-12)


def test_prototypes_are_the_nearest_centroids_of_scikit_learn(examples):
    (train, test), classes = split(examples[0]), examples[1]
    scaler = StandardScaler().fit(train)
    reference = NearestCentroid().fit(scaler.transform(train), classes[:60])
    found = load_classifier("prototypes", distance="l2")
    scores = found.fit(train, np.eye(3)[classes[:60]], is_exclusive=True).scores(test)
    np.testing.assert_array_equal(scores.argmax(axis=1), reference.predict(scaler.transform(test)))


def test_mlp_is_that_of_scikit_learn(examples):
    (train, test), classes = split(examples[0]), examples[1]
    scaler = StandardScaler().fit(train)
    reference = MLPClassifier((8,), max_iter=30, random_state=3)
    with pytest.warns(UserWarning, match="reached"):
        reference.fit(scaler.transform(train), classes[:60])
    found = load_classifier("mlp", width=8, num_epochs=30)
    scores = found.fit(train, np.eye(3)[classes[:60]], is_exclusive=True, seed=3).scores(test)
    np.testing.assert_allclose(scores, reference.predict_proba(scaler.transform(test)), atol=1e-6)


@pytest.mark.parametrize("name", sorted(CLASSIFIERS))
@pytest.mark.parametrize("is_exclusive", [False, True])
def test_every_classifier_ranks_what_is_plain_first(name, is_exclusive):
    """Also with a feature that never varies, a class that no example has, and weights."""
    random = np.random.default_rng(1)
    classes = np.arange(60) % 2
    targets = (
        np.eye(3)[classes] if is_exclusive else np.stack([classes, 1 - classes, 0 * classes]).T
    )
    features = np.stack([classes * 4 + random.standard_normal(60), np.full(60, 0.1)], axis=1)
    weights = random.uniform(0.5, 2, 60)
    found = load_classifier(name).fit(features, targets, is_exclusive=is_exclusive, weights=weights)
    features[:, 1] = 1e6  # it said nothing, and does not begin to
    scores = found.scores(features)
    assert scores.shape == targets.shape
    assert np.isfinite(scores).all()
    assert (scores[:, :2].argmax(axis=1) == targets[:, :2].argmax(axis=1)).mean() > 0.9
    if found.classifier.gives_probabilities:
        assert scores.min() >= 0 and scores.max() <= 1 + 1e-12


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", sorted(CLASSIFIERS))
def test_classes_that_all_or_no_examples_have_get_one_score_everywhere(name):
    """As an inner fold without a rare class has them; a single class of exclusive ones wins."""
    random = np.random.default_rng(0)
    features, queries = random.standard_normal((7, 4)), random.standard_normal((5, 4))
    classifier = load_classifier(name)
    one_of_three = classifier.fit(features, np.eye(3)[[1] * 7], is_exclusive=True).scores(queries)
    assert (one_of_three.argmax(axis=1) == 1).all()
    for targets, is_exclusive in (
        (np.ones((7, 1)), True),
        (np.zeros((7, 1)), False),
        (np.ones((7, 1)), False),
    ):
        found = classifier.fit(features, targets, is_exclusive=is_exclusive).scores(queries)
        assert found.shape == (5, 1) and np.isfinite(found).all()
        assert np.ptp(found) < 1e-3
        if classifier.gives_probabilities:
            np.testing.assert_allclose(found, targets[:5], atol=1e-3)


def test_weights_count_like_copies(examples):
    features, _, targets = examples
    copies = np.repeat(np.arange(60), np.arange(60) % 3 + 1)
    weights = np.arange(60) % 3 + 1.0
    for name in ("logistic", "svm"):
        # Penalties stand beside the mean of weighted errors, of as many examples.
        one = load_classifier(name, cost=2.0)
        two = load_classifier(name, cost=2.0 * 60 / len(copies))
        np.testing.assert_allclose(
            one.fit(features[:60], targets[:60], is_exclusive=False, weights=weights)
            .scores(features),
            two.fit(features[copies], targets[copies], is_exclusive=False).scores(features),
            atol=2e-2,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("rigde", {}, "ridge"),
        ("ridge", {"strenght": 1}, "strength"),
        ("ridge", {"strength": -1}, "from 0 on"),
        ("logistic", {"cost": 0}, "above 0"),
        ("svm", {"gamma": "auto"}, "above 0"),
        ("neighbors", {"num_neighbors": 0}, "from 1 on"),
        ("neighbors", {"distance": "l3"}, "l1, l2, cosine"),
        ("mlp", {"width": 2.5}, "whole number"),
    ],
)
def test_a_setting_that_cannot_be_is_named(name, settings, words):
    with pytest.raises(ConfigError, match=words):
        load_classifier(name, **settings)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x[:-1], y), "same examples"),
        (lambda x, y: (x[:, :0], y), "at least one"),
        (lambda x, y: (np.where(np.arange(7) == 2, np.nan, x), y), "feature 2 of example 0 is nan"),
    ],
)
def test_examples_that_do_not_fit_are_named(examples, change, words):
    with pytest.raises(EvaluationError, match=words):
        load_classifier("ridge").fit(*change(examples[0], examples[2]), is_exclusive=False)


@pytest.mark.parametrize("distance", neighbors.DISTANCES)
def test_blocks_give_the_distances_of_a_loop(examples, distance, monkeypatch):
    features = examples[0][:20]
    monkeypatch.setattr(neighbors, "MAX_BLOCK", 45)  # two queries at once
    rows, found = neighbors.find_nearest(features, features, 4, distance, without_self=True)
    for query in range(20):
        one = features[query]
        expected = {
            "l1": np.abs(features - one).sum(axis=1),
            "l2": np.sqrt(((features - one) ** 2).sum(axis=1)),
            "cosine": 1 - features @ one / np.linalg.norm(features, axis=1) / np.linalg.norm(one),
        }[distance]
        order = [row for row in np.argsort(expected) if row != query][:4]
        np.testing.assert_array_equal(rows[query], order)
        np.testing.assert_allclose(found[query], expected[order], atol=1e-12)


@pytest.mark.parametrize("has_groups", [False, True])
def test_rounded_distances_find_the_same_neighbors(has_groups, monkeypatch):
    """Features far from zero and of unlike scales, and copies, which are equally near."""
    random = np.random.default_rng(0)
    features = 1000 + random.standard_normal((150, 21)) * 10.0 ** random.integers(-3, 3, 21)
    features[100:110] = features[:10]
    options = {
        "without_self": True,
        "groups": np.array([f"g{n // 4}" for n in range(150)]) if has_groups else None,
    }
    rows, distances = neighbors.find_nearest(features, features, 7, "l1", **options)
    monkeypatch.setattr(neighbors, "_FEW", 0)
    found = neighbors.find_nearest(features, features, 7, "l1", **options)
    np.testing.assert_allclose(found[1], distances, rtol=1e-9)
    is_same = found[0] == rows
    for near in (found[0], rows):
        assert (((near < 10) | (near // 10 == 10)) | is_same).all()  # but for copies


def test_precision_by_hand():
    features = np.array([[0.0], [1.0], [2.5], [9.0]])
    targets = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
    precision = neighbors.measure_precision(features, targets, 2)
    np.testing.assert_allclose(precision, [0.5, 1.0, 0.5, np.nan])


def test_folds_are_those_of_scikit_learn(examples):
    _, classes, _ = examples
    targets, groups = np.eye(3)[classes], np.arange(90) // 4
    empty = np.zeros((90, 1))
    for found, splitter, given in (
        (
            folds.make_folds(targets, 3, seed=5),
            StratifiedKFold(3, shuffle=True, random_state=5),
            None,
        ),
        (
            folds.make_folds(targets, 3, seed=5, groups=groups),
            StratifiedGroupKFold(3, shuffle=True, random_state=5),
            groups,
        ),
        (folds.make_plain_folds(90, 3, seed=5), KFold(3, shuffle=True, random_state=5), None),
        (folds.leave_one_group_out(groups), LeaveOneGroupOut(), groups),
    ):
        expected = list(splitter.split(empty, classes, given))
        assert len(found) == len(expected)
        for fold, (train, test) in zip(found, expected, strict=True):
            np.testing.assert_array_equal(fold.train, train)
            np.testing.assert_array_equal(fold.test, test)


def test_shared_groups_are_found(examples):
    _, _, targets = examples
    groups = np.array([f"artist {number // 4}" for number in range(90)])
    apart = folds.make_folds(targets, 3, seed=0, groups=groups)
    assert folds.find_shared_groups(apart, groups) == []
    together = folds.make_folds(targets, 3, seed=0)
    expected = {
        group
        for fold in together
        for group in groups
        if group in groups[fold.train] and group in groups[fold.test]
    }
    assert set(folds.find_shared_groups(together, groups)) == expected != set()


def test_every_fold_tests_every_example_once_also_of_rare_labels():
    targets = np.zeros((30, 4))
    targets[:13, 0] = targets[13:, 1] = 1
    targets[:2, 2] = targets[5:12, 3] = 1  # label 2 is too rare for three folds
    found = folds.make_folds(targets, 3, seed=0)
    assert sorted(np.concatenate([fold.test for fold in found])) == list(range(30))
    for fold in found:
        assert not set(fold.train) & set(fold.test)
        assert targets[fold.test][:, 3].sum() >= 2


def test_too_few_groups_for_the_folds_are_named():
    with pytest.raises(EvaluationError, match="2 groups cannot make 3 folds"):
        folds.make_folds(np.ones((9, 1)), 3, seed=0, groups=np.arange(9) % 2)
    with pytest.raises(EvaluationError, match="1 groups"):
        folds.leave_one_group_out(["a", "a"])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("has_groups", [True, False])
def test_folds_of_one_example_per_class_are_folds_all_the_same(has_groups):
    groups = np.arange(12) // 2 if has_groups else None
    found = folds.make_folds(np.eye(12), 3, seed=0, groups=groups)
    assert sorted(np.concatenate([fold.test for fold in found])) == list(range(12))
    targets = np.eye(3)[[0] * 8 + [1] * 3 + [2]]  # some classes are too rare for four folds
    found = folds.make_folds(targets, 4, seed=0, groups=groups)
    assert sorted(np.concatenate([fold.test for fold in found])) == list(range(12))
    if has_groups:
        assert folds.find_shared_groups(found, groups) == []
