"""Coverage of intervals, false alarms and power, by simulation; the slow ones by `-m slow`."""

import numpy as np
import pytest

from benchmarks import intervals
from benchmarks.intervals import World


def test_no_false_alarms_at_twelve_tracks_near_the_ceiling():
    """21 % (ROC-AUC) and 40 % (PR-AUC) were below 0.05 when resamples were shifted."""
    found = intervals.simulate(World(12, 1, 0.5, (3.0, 3.0)), num_draws=120, num_for_truth=50)
    assert (found.rejected <= 0.07).all() and 0.1 < found.judged < 0.9


NULL = [
    World(12, 8, 0.4, (1.0, 1.0)),
    World(12, 8, 0.4, (3.0, 3.0)),
    World(24, 1, 0.4, (1.0, 1.0)),
    World(24, 1, 0.4, (3.5, 3.5)),
    World(24, 8, 0.3, (3.0, 3.0)),
    World(48, 10, 0.2, (1.0, 1.0)),
    World(48, 10, 0.2, (3.0, 3.0)),
    World(40, 4, 0.3, (1.0, 1.0), num_groups=8, has_group_labels=True),
    World(118, 7, 0.3, (1.0, 1.0), num_groups=22),
    World(118, 7, 0.0, (1.0, 1.0), num_groups=22, has_group_labels=True),
]


@pytest.mark.slow
@pytest.mark.parametrize("world", NULL, ids=str)
def test_without_a_difference_few_p_values_are_small(world):
    found = intervals.simulate(world, num_draws=400, num_for_truth=800)
    assert (found.rejected <= 0.07).all()
    assert (found.difference_covered >= 0.92).all()
    assert (found.covered >= 0.92).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "power"),
    [
        (World(12, 8, 0.4, (1.5, 0.7)), 0.3),
        (World(24, 8, 0.3, (1.5, 0.7)), 0.6),
        (World(48, 10, 0.2, (1.5, 0.7)), 0.9),
        (World(48, 10, 0.2, (4.0, 2.5)), 0.9),
        (World(118, 7, 0.3, (1.5, 0.7), num_groups=22), 0.9),
    ],
    ids=str,
)
def test_a_difference_is_seen_and_its_interval_holds_it(world, power):
    found = intervals.simulate(world, num_draws=200, num_for_truth=800)
    assert (found.rejected >= power).all()
    assert (found.difference_covered >= 0.88).all()


@pytest.mark.slow
def test_groups_taken_for_tracks_raise_false_alarms():
    """What resampling groups is for: tracks that share their luck, compared one by one."""
    world = World(118, 7, 0.3, (1.0, 1.0), num_groups=22, has_group_labels=True)
    wrong = []
    for seed in range(150):
        labels, ours, theirs, _ = world.draw(seed)
        wrong.append(intervals.compare_systems(labels, ours, theirs, num_resamples=200).overall)
    assert np.mean([found.roc_auc.p_value < 0.05 for found in wrong]) > 0.15
