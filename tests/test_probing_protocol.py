"""Numbers of probes are scikit-learn's; settings are chosen without a look at test tracks."""

import dataclasses

import numpy as np
import pytest
from sklearn import metrics as sk

from musrep_jax.evaluation.metrics import EvaluationError
from musrep_jax.probing import measures, neighbors, protocol
from musrep_jax.probing.classifiers import load_classifier
from musrep_jax.probing.folds import Fold, make_folds


@pytest.fixture(scope="module")
def scored():
    random = np.random.default_rng(0)
    classes = random.choice(4, 120, p=(0.4, 0.3, 0.2, 0.1))
    logits = 1.5 * np.eye(4)[classes] + random.standard_normal((120, 4))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return classes, scores


def test_numbers_of_exclusive_classes_are_those_of_scikit_learn(scored):
    classes, scores = scored
    targets, guesses = np.eye(4)[classes], scores.argmax(axis=1)
    expected = {
        "accuracy": sk.accuracy_score(classes, guesses),
        "balanced_accuracy": sk.balanced_accuracy_score(classes, guesses),
        "f1_macro": sk.f1_score(classes, guesses, average="macro"),
        "roc_auc": sk.roc_auc_score(targets, scores, average="macro"),
        "pr_auc": sk.average_precision_score(targets, scores, average="macro"),
        "log_loss": sk.log_loss(classes, scores),
    }
    found = measures.measure(targets, scores, is_exclusive=True)
    assert found == pytest.approx(expected, rel=1e-12)


def test_numbers_of_labels_are_those_of_scikit_learn(scored):
    random = np.random.default_rng(1)
    scores = scored[1]
    targets = (scores + 0.2 * random.standard_normal(scores.shape) > 0.3).astype(int)
    cuts = np.array([0.2, 0.3, 0.4, 0.5])
    guesses = scores > cuts
    expected = {
        "balanced_accuracy": np.mean(
            [sk.balanced_accuracy_score(targets[:, k], guesses[:, k]) for k in range(4)]
        ),
        "f1_macro": sk.f1_score(targets, guesses, average="macro"),
        "roc_auc": sk.roc_auc_score(targets, scores, average="macro"),
        "pr_auc": sk.average_precision_score(targets, scores, average="macro"),
        "log_loss": np.mean([sk.log_loss(targets[:, k], scores[:, k]) for k in range(4)]),
    }
    found = measures.measure(targets, scores, is_exclusive=False, thresholds=cuts)
    assert found == pytest.approx(expected, rel=1e-12)


def test_resampled_numbers_are_those_of_copied_tracks(scored):
    classes, scores = scored
    counts = np.random.default_rng(2).multinomial(120, np.full(120, 1 / 120))
    rows = np.repeat(np.arange(120), counts)
    held = np.eye(4, dtype=bool)[classes]
    guesses = measures.decide(scores, is_exclusive=True)
    weighted = measures._count(held, guesses, counts[:, None].astype(float))
    copied = measures.measure(held[rows], scores[rows], is_exclusive=True)
    for name, value in weighted.items():
        assert value[0] == pytest.approx(copied[name], rel=1e-12)


def test_intervals_hold_the_value_and_widen_by_groups(scored):
    classes, scores = scored
    targets = np.eye(4)[classes]
    order = np.lexsort((scores.max(axis=1), classes))  # tracks of a group are alike
    groups = np.empty(120, int)
    groups[order] = np.arange(120) // 6
    value = measures.measure(targets, scores, is_exclusive=True)
    options = {"is_exclusive": True, "num_resamples": 300}
    by_tracks = measures.measure_intervals(targets, scores, value, **options)
    by_groups = measures.measure_intervals(targets, scores, value, groups=groups, **options)
    for name, (low, high) in by_tracks.items():
        assert low < value[name] < high, name
    wide, narrow = (one["accuracy"][1] - one["accuracy"][0] for one in (by_groups, by_tracks))
    assert wide > narrow


def test_folds_are_averaged_with_their_standard_error():
    folds = [{"accuracy": value, "log_loss": 1.0} for value in (0.5, 0.7, 0.6, 0.6)]
    mean, error, (low, high) = measures.average_folds(folds)["accuracy"]
    assert mean == pytest.approx(0.6)
    assert error == pytest.approx(np.std([0.5, 0.7, 0.6, 0.6], ddof=1) / 2)
    assert (mean - low) / error == pytest.approx(3.182, rel=0.03)  # Student's t, 3 degrees
    assert high - mean == pytest.approx(mean - low)


@pytest.mark.parametrize("is_exclusive", [True, False])
def test_blind_guesses_reach_what_drawn_ones_do(is_exclusive):
    random = np.random.default_rng(3)
    classes = random.choice(3, 600, p=(0.6, 0.3, 0.1))
    targets = np.eye(3)[classes] if is_exclusive else random.random((600, 3)) < (0.6, 0.3, 0.1)
    blind = measures.measure_blind(targets, is_exclusive=is_exclusive)
    drawn = []
    for _ in range(60):
        if is_exclusive:
            scores, cuts = random.dirichlet(np.ones(3), 600), None
        else:  # every label as often as it holds
            scores, cuts = random.random((600, 3)), 1 - np.mean(targets, axis=0)
        drawn.append(measures.measure(targets, scores, is_exclusive=is_exclusive, thresholds=cuts))
    for name in ("balanced_accuracy", "f1_macro", "roc_auc", "pr_auc"):
        mean = np.mean([one[name] for one in drawn])
        assert blind["chance"][name] == pytest.approx(mean, abs=0.01), name
    share = np.broadcast_to(np.mean(targets, axis=0), targets.shape)
    constant = measures.measure(targets, share, is_exclusive=is_exclusive, thresholds=np.zeros(3))
    assert blind["everything"] == pytest.approx(constant, rel=1e-9)


@pytest.fixture(scope="module")
def examples():
    """Sixty tracks with one to three windows, of thirty performers, whose voice is a feature."""
    random = np.random.default_rng(4)
    classes, groups = np.arange(60) % 3, np.arange(60) // 2
    owner = np.repeat(np.arange(60), random.integers(1, 4, 60))
    features = random.standard_normal((len(owner), 6))
    features[:, 0] += 1.5 * (classes[owner] == 1)
    features[:, 1] += 1.5 * (classes[owner] == 2)
    return protocol.Examples(features, owner, np.eye(3)[classes], True, groups)


def test_windows_are_pooled_averaged_or_vote(examples):
    fold = Fold(np.arange(0, 60, 2), np.arange(1, 60, 2))
    classifier = load_classifier("logistic")
    pooled = examples.pool()
    for track in (0, 17, 59):
        mean = examples.features[examples.owner == track].mean(axis=0)
        np.testing.assert_allclose(pooled.features[track], mean)
    for windows in protocol.WINDOWS:
        given = pooled if windows == "pooled" else examples
        found = protocol.probe_fold([classifier], given, fold, windows=windows).scores
        in_train = np.isin(given.owner, fold.train)
        weights = 1 / np.bincount(given.owner)[given.owner[in_train]]
        fitted = classifier.fit(
            given.features[in_train], given.targets[given.owner[in_train]], is_exclusive=True,
            weights=weights,
        )  # fmt: skip
        for row, track in enumerate(fold.test):
            scores = fitted.scores(given.features[given.owner == track])
            if windows == "majority":
                scores = np.eye(3)[scores.argmax(axis=1)]
            np.testing.assert_allclose(found[row], scores.mean(axis=0), atol=1e-9)


@pytest.mark.parametrize("is_exclusive", [True, False])
def test_nothing_of_the_test_tracks_is_used_before_they_are_scored(examples, is_exclusive):
    """Other labels and other features of test tracks change neither settings nor thresholds."""
    pooled = dataclasses.replace(examples.pool(), is_exclusive=is_exclusive)
    choices = protocol.list_choices(load_classifier("logistic"))
    (fold, *_) = make_folds(pooled.targets, 4, seed=0, groups=pooled.groups)
    found = protocol.probe_fold(choices, pooled, fold)
    features, targets = pooled.features.copy(), pooled.targets.copy()
    features[fold.test[1:]] = 1e3
    targets[fold.test] = targets[fold.test][:, ::-1]
    other = protocol.probe_fold(
        choices, dataclasses.replace(pooled, features=features, targets=targets), fold
    )
    assert other.classifier == found.classifier
    np.testing.assert_array_equal(other.scores[0], found.scores[0])
    if not is_exclusive:
        np.testing.assert_array_equal(other.thresholds, found.thresholds)


def test_strength_is_chosen_that_does_best_on_validation(examples):
    pooled = examples.pool()
    train, validation, test = np.arange(0, 30), np.arange(30, 45), np.arange(45, 60)
    choices = protocol.list_choices(load_classifier("neighbors"))
    found = protocol.probe_fold(choices, pooled, Fold(train, test), validation=validation)
    accuracies = []
    for one in choices:
        fitted = one.fit(pooled.features[train], pooled.targets[train], is_exclusive=True)
        scores = fitted.scores(pooled.features[validation])
        hits = scores.argmax(axis=1) == pooled.targets[validation].argmax(axis=1)
        accuracies.append(hits.mean())
    best = [one for one, value in zip(choices, accuracies, strict=True) if value == max(accuracies)]
    assert found.classifier in best


def test_one_example_per_class_leaves_nothing_to_choose_on(examples):
    pooled = examples.pool()
    default = load_classifier("logistic", cost=7.0)
    found = protocol.probe_fold(
        protocol.list_choices(load_classifier("logistic")), pooled,
        Fold(np.arange(3), np.arange(3, 60)), default=default,
    )  # fmt: skip
    assert (found.classifier, found.was_chosen) == (default, False)


def test_a_majority_needs_exclusive_classes(examples):
    several = dataclasses.replace(examples, is_exclusive=False)
    with pytest.raises(EvaluationError, match="exactly one label"):
        protocol.probe_fold(
            [load_classifier("ridge")], several, Fold(np.arange(9), np.arange(9, 12)),
            windows="majority",
        )  # fmt: skip


def test_precision_without_the_own_group_is_that_of_a_loop(examples):
    pooled = examples.pool()
    features, groups, classes = pooled.features, pooled.groups, pooled.targets.argmax(axis=1)
    found = neighbors.measure_precision(features, pooled.targets, 5, "l1", groups=groups)
    for track in range(60):
        distances = np.abs(features - features[track]).sum(axis=1)
        order = [row for row in np.argsort(distances) if groups[row] != groups[track]][:5]
        assert found[track] == pytest.approx(np.mean(classes[order] == classes[track]))
    chance = neighbors.measure_chance_precision(pooled.targets)
    alike = [(np.delete(classes, track) == classes[track]).mean() for track in range(60)]
    assert chance == pytest.approx(np.mean(alike))
