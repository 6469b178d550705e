"""Coverage of intervals and false alarms of the paired test, simulated where the truth is known.

    python benchmarks/intervals.py              # the tables of docs/statistics.md, some ten minutes
    python benchmarks/intervals.py --draws=100  # a quick look

Scores are a skill times the label plus noise; tracks of a group share a part of their noise, and
systems that are compared share a part of theirs. What an interval is to hold is the mean over many
other test sets of the same size. Only test sets are counted of which something is judged.
"""

import argparse
import dataclasses
from collections.abc import Sequence

import numpy as np

from musrep_jax.evaluation import metrics
from musrep_jax.evaluation.bootstrap import bootstrap_intervals
from musrep_jax.evaluation.comparison import compare_systems

METRICS = {"roc_auc": metrics.roc_auc, "pr_auc": metrics.average_precision}
NUM_DRAWS, NUM_FOR_TRUTH, NUM_RESAMPLES = 400, 800, 300


@dataclasses.dataclass(frozen=True)
class World:
    """Where test sets come from.

    Attributes:
        num_tracks: of a test set.
        num_labels: of the vocabulary.
        prevalence: share of tracks with a label; 0 for exclusive labels of groups.
        skill: of the system and of the baseline, in deviations of the noise.
        num_groups: 0 for tracks without groups.
        has_group_labels: whether tracks of a group have the same labels.
    """

    num_tracks: int
    num_labels: int
    prevalence: float
    skill: tuple[float, float]
    num_groups: int = 0
    has_group_labels: bool = False

    def draw(self, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """Returns labels, scores of system and baseline, and groups of one test set.

        Args:
            seed: of the draw.
        """
        random = np.random.default_rng((seed, self.num_tracks, self.num_labels, self.num_groups))
        shape, groups = (self.num_tracks, self.num_labels), None
        if self.num_groups:
            groups = np.arange(self.num_tracks) * self.num_groups // self.num_tracks
        if not self.has_group_labels:
            labels = random.random(shape) < self.prevalence
        elif self.prevalence:
            labels = (random.random((self.num_groups, shape[1])) < self.prevalence)[groups]
        else:
            chosen = random.permutation(self.num_groups) % self.num_labels
            labels = np.eye(self.num_labels, dtype=bool)[chosen][groups]
        shared = random.normal(size=shape)

        def score(skill: float) -> np.ndarray:
            noise = 0.55 * shared + 0.83 * random.normal(size=shape)
            if groups is not None:
                noise += 0.7 * random.normal(size=(self.num_groups, shape[1]))[groups]
            return skill * labels + noise

        return labels, score(self.skill[0]), score(self.skill[1]), groups

    def truth(self, num_draws: int) -> np.ndarray:
        """Returns the mean of both metrics of system and baseline, float64 (2, metrics).

        Args:
            num_draws: test sets of the mean.
        """
        found = []
        for seed in range(num_draws):
            labels, ours, theirs, _ = self.draw(10**6 + seed)
            used = metrics.is_evaluable(labels)
            if used.any():
                found.append(
                    [[f(labels, s)[used].mean() for f in METRICS.values()] for s in (ours, theirs)]
                )
        return np.mean(found, axis=0)


@dataclasses.dataclass(frozen=True)
class Shares:
    """What was found in one world; arrays are (metrics,).

    Attributes:
        truth: of the system.
        judged: share of test sets of which something is judged.
        covered: share of intervals of the system that hold the truth.
        width: their mean width.
        difference: true difference of system and baseline.
        difference_covered: share of intervals of the difference that hold it.
        rejected: share of tests with p < 0.05: false alarms where the truth is 0, else power.
    """

    truth: np.ndarray
    judged: float
    covered: np.ndarray
    width: np.ndarray
    difference: np.ndarray
    difference_covered: np.ndarray
    rejected: np.ndarray


def simulate(
    world: World, num_draws: int = NUM_DRAWS, num_for_truth: int = NUM_FOR_TRUTH
) -> Shares:
    """Returns coverage, width, false alarms and power in one world.

    Args:
        world: where test sets come from.
        num_draws: test sets.
        num_for_truth: test sets of the true means.
    """
    ours, theirs = world.truth(num_for_truth)
    change = np.zeros(2) if world.skill[0] == world.skill[1] else ours - theirs
    rows = []
    for seed in range(num_draws):
        labels, system, baseline, groups = world.draw(seed)
        if not metrics.is_evaluable(labels).any():
            continue
        options = {"num_resamples": NUM_RESAMPLES, "seed": seed, "track_groups": groups}
        single = np.array(list(bootstrap_intervals(labels, system, **options).values()))
        found = compare_systems(labels, system, baseline, **options).overall
        if found.roc_auc.reason is not None:
            continue
        paired = np.array([found.roc_auc.ci, found.pr_auc.ci])
        rows.append(
            [
                (single[:, 0] <= ours) & (ours <= single[:, 1]),
                single[:, 1] - single[:, 0],
                (paired[:, 0] <= change) & (change <= paired[:, 1]),
                np.array([found.roc_auc.p_value, found.pr_auc.p_value]) < 0.05,
            ]
        )
    covered, width, difference_covered, rejected = np.mean(rows, axis=0, dtype=np.float64)
    return Shares(ours, len(rows) / num_draws, covered, width, change, difference_covered, rejected)


def list_worlds() -> list[World]:
    """Returns the worlds of `docs/statistics.md`: without a difference, then with one."""
    worlds = []
    for skill in ((1.0, 1.0), (3.0, 3.0), (1.5, 0.7), (4.0, 2.5)):
        worlds += [
            World(12, 8, 0.4, skill),
            World(24, 1, 0.4, skill),
            World(24, 8, 0.3, skill),
            World(48, 10, 0.2, skill),
        ]
        worlds += [
            World(40, 4, 0.3, skill, num_groups=8, has_group_labels=True),
            World(118, 7, 0.3, skill, num_groups=22),
            World(118, 7, 0.0, skill, num_groups=22, has_group_labels=True),
        ]
    return worlds


def format_row(world: World, found: Shares) -> str:
    """Returns one row of the table, in Markdown.

    Args:
        world: where test sets come from.
        found: what was found there.
    """

    def pair(values: np.ndarray, digits: int = 2) -> str:
        return " / ".join(f"{value:.{digits}f}" for value in values)

    groups = "-"
    if world.num_groups:
        groups = (
            f"{world.num_groups}{', with labels of their own' if world.has_group_labels else ''}"
        )
    cells = [
        str(world.num_tracks), groups, str(world.num_labels), pair(found.truth),
        pair(100 * found.covered, 0), pair(found.width), pair(found.difference, 3),
        pair(100 * found.difference_covered, 0), pair(100 * found.rejected, 1),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table.

    Args:
        arguments: of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=NUM_DRAWS, help="test sets for each row")
    parser.add_argument("--truth", type=int, default=NUM_FOR_TRUTH, help="test sets of true means")
    settings = parser.parse_args(arguments)
    heads = (
        "Tracks", "Groups", "Labels", "Truth", "Intervals that hold it, %", "Width",
        "True difference", "Intervals that hold it, %", "p < .05, %",
    )  # fmt: skip
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for world in list_worlds():
        print(format_row(world, simulate(world, settings.draws, settings.truth)), flush=True)


if __name__ == "__main__":
    main()
