"""Random labels with scores that know something of them, for tests of statistics."""

import numpy as np


def make_problem(seed, num_tracks=40, num_classes=5, prevalence=0.25, decimals=1, skill=1.0):
    """Returns labels and scores, bool and float (tracks, labels), with many equal scores."""
    rng = np.random.default_rng(seed)
    labels = rng.random((num_tracks, num_classes)) < prevalence
    labels[0], labels[1] = True, False
    return labels, np.round(rng.normal(size=labels.shape) + skill * labels, decimals)
