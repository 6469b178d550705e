"""Stages of `benchmarks/scaling.py`: probes on features that are made up, without audio."""

from collections.abc import Callable
from typing import Any

import numpy as np

from musrep_jax.probing import measures, neighbors, protocol
from musrep_jax.probing.classifiers import load_classifier
from musrep_jax.probing.folds import Fold, make_folds

NUM_FEATURES = 100
TRACKS_PER_GROUP = 4


def make_examples(num_tracks: int, num_classes: int) -> protocol.Examples:
    """Returns tracks of exclusive classes with features that tell these apart but not well.

    Args:
        num_tracks: in all splits.
        num_classes: exclusive ones.
    """
    random = np.random.default_rng(0)
    classes = np.arange(num_tracks) % num_classes
    features = random.standard_normal((num_tracks, NUM_FEATURES))
    features += 0.3 * random.standard_normal((num_classes, NUM_FEATURES))[classes]
    targets, groups = np.eye(num_classes)[classes], np.arange(num_tracks) // TRACKS_PER_GROUP
    return protocol.Examples(
        features.astype(np.float32), np.arange(num_tracks), targets, True, groups
    )


def split_tracks(num_tracks: int) -> list[np.ndarray]:
    """Returns the rows of training (60 %), validation (15 %) and test."""
    return np.split(np.arange(num_tracks), [int(0.6 * num_tracks), int(0.75 * num_tracks)])


def make_probe_stages(num_tracks: int, num_classes: int) -> dict[str, Callable[[], Any]]:
    """Returns the stages: each is one probe on a split, its settings chosen on validation tracks.

    Args:
        num_tracks: in all splits: 60 % for training, 15 % for validation, 25 % for test.
        num_classes: exclusive ones.
    """
    examples = make_examples(num_tracks, num_classes)
    features, targets, groups = examples.features, examples.targets, examples.groups
    train, validation, test = split_tracks(num_tracks)
    scores = np.random.default_rng(1).standard_normal((len(test), num_classes))

    def probe(name: str, **settings: Any) -> Callable[[], Any]:
        classifier = load_classifier(name, **settings)
        choices = protocol.list_choices(classifier, tuple(settings))
        fold = Fold(train, test)
        return lambda: protocol.probe_fold(choices, examples, fold, validation=validation)

    def numbers() -> None:
        found = measures.measure(targets[test], scores, is_exclusive=True, are_probabilities=False)
        measures.measure_intervals(
            targets[test], scores, found, is_exclusive=True, groups=groups[test]
        )

    return {
        "probe folds": lambda: make_folds(targets, 5, seed=0, groups=groups),
        "probe numbers": numbers,
        "probe ridge": probe("ridge"),
        "probe logistic": probe("logistic"),
        "probe neighbors": probe("neighbors", num_neighbors=10, distance="l1"),
        "similarity": lambda: neighbors.measure_precision(features, targets, 10, "l1"),
    }
