"""Penalties where validation has few groups: by folds, none judged by its own groups."""

import numpy as np
import pytest

from musrep_jax.evaluation.linear import list_linear
from musrep_jax.tasks.tagging.few_groups import (
    choose_by_folds,
    need_folds,
    take_candidate,
    weigh_rows,
)

GROUPS = np.repeat(["a", "b", "c", "d"], 8)


def draw_tracks():
    """Two classes, one feature of them and a loud one of the group; two chunks of every track."""
    random = np.random.default_rng(0)
    classes = np.tile([0, 1], 16)
    targets = np.eye(2, dtype=np.float32)[classes]
    features = random.normal(size=(32, 6))
    features[:, 0] += 2 * classes
    offset = np.repeat(random.normal(size=4), 8)
    features[:, 1] += 5 * offset * (2 * classes - 1)
    owner = np.repeat(np.arange(32), 2)
    return features[owner] + 0.1 * random.normal(size=(64, 6)), owner, targets


def standardizer(rows, weights):
    mean = weights @ rows
    deviation = np.sqrt(weights @ (rows - mean) ** 2)
    return lambda x: (x - mean) / deviation


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_the_penalty_is_the_best_on_groups_that_were_left_out(output):
    features, owner, targets = draw_tracks()

    def squash(logits):
        if output == "sigmoid":
            return 1 / (1 + np.exp(-logits))
        total = np.exp(logits - logits.max(axis=1, keepdims=True))
        return total / total.sum(axis=1, keepdims=True)

    def score(labels, scores):
        return -float(((scores - labels) ** 2).mean())

    found = 0.0
    for group in "abcd":
        is_out = GROUPS[owner] == group
        weights = np.full((~is_out).sum(), 1 / (~is_out).sum())
        apply = standardizer(features[~is_out], weights)
        models = list_linear(
            apply(features[~is_out]), targets[owner[~is_out]], weights,
            is_exclusive=output == "softmax",
        )  # fmt: skip
        probabilities = [squash(model.logits(apply(features[is_out]))) for model in models]
        per_track = np.array(probabilities).reshape(len(models), 8, 2, 2).mean(axis=2)
        found = found - ((per_track - targets[group == GROUPS]) ** 2).mean(axis=(1, 2))
    place, scores = choose_by_folds(
        features, owner, targets, list(GROUPS), standardizer, score,
        how="probability", output=output,
    )  # fmt: skip
    assert place == int(np.argmax(found))
    assert found.max() - np.median(found) > 0, "some penalties do worse"
    assert score(targets, scores) == pytest.approx(found.max() / 4)
    weights = weigh_rows(owner)
    apply = standardizer(features, weights)
    chosen = take_candidate(place, apply(features), targets[owner], weights, output)
    assert (chosen.name, chosen.strength) == (models[place].name, models[place].strength)


def test_every_track_counts_alike():
    np.testing.assert_allclose(weigh_rows(np.array([1, 1, 3])), [0.25, 0.25, 0.5])


@pytest.mark.parametrize(
    ("training", "validation", "expected"),
    [("aab", "cc", True), ("ab", "cdef", True), ("ab", "cdefg", False), ("aa", "bb", False)],
)
def test_folds_are_for_few_groups_of_validation(training, validation, expected):
    assert need_folds(list(training), list(validation)) is expected
