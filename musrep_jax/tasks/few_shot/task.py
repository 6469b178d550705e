"""The task of few-shot learning: one job per data set, features, method, labels and shots."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import ml_collections
import numpy as np

from musrep_jax.config import ConfigError, split_list
from musrep_jax.probing.episodes import (
    Episode,
    draw_episode,
    draw_episodes,
    find_usable_labels,
    list_base_and_novel,
)
from musrep_jax.tasks.few_shot import reports
from musrep_jax.tasks.few_shot.comparison import PAIRS, compare_rows
from musrep_jax.tasks.few_shot.trial import BASE, BOTH, NOVEL, measure_pool
from musrep_jax.tasks.jobs import Job, check_jobs
from musrep_jax.tasks.probe.task import ProbeTask
from musrep_jax.tasks.probe.tracks import match_labels
from musrep_jax.tasks.probe.trial import FOLDS, ProbeObjective
from musrep_jax.tasks.settings import parse_integers
from musrep_jax.tasks.tagging.features import list_trained_labels
from musrep_jax.tasks.tagging.matrix import split_features
from musrep_jax.tasks.task import Context, Metric, Outcome, Records, Result, Tables
from musrep_jax.training.loop import FitResult
from musrep_jax.training.objective import Objective

DRAWN, FIRST = "drawn", "first"
DRAWS = (DRAWN, FIRST)
"""Many episodes with drawn labels; or one with the first labels, as the public evaluation has."""
ALL_SPLITS, TEST_SPLIT = "all", "test"


class FewShotTask(ProbeTask):
    """Episodes on frozen features; features and tracks are those of the probe."""

    unavailable: ClassVar[Mapping[str, Any]] = {"pools": {}}
    volatile: ClassVar[Sequence[str]] = (PAIRS,)

    def jobs(self, config: ml_collections.ConfigDict) -> list[Job]:
        """See `Task.jobs`; what needs the same features stands together."""
        section = config.few_shot
        numbers = [
            (num_labels, num_shots, seed)
            for num_labels in parse_integers(section.num_labels, "few_shot.num_labels")
            for num_shots in parse_integers(section.num_shots, "few_shot.num_shots")
            for seed in parse_integers(config.seeds, "seeds")
        ]
        return check_jobs(
            Job(
                "few_shot",
                {
                    "target": target,
                    "features": features,
                    "classifier": method,
                    "num_labels": num_labels,
                    "num_shots": num_shots,
                    "seed": seed,
                },
            )
            for target in split_list(config.target)
            for features in split_features(config.features)
            for num_labels, num_shots, seed in numbers
            for method in split_list(section.methods)
        )

    def make_settings(
        self, config: ml_collections.ConfigDict, job: Job
    ) -> ml_collections.ConfigDict:
        """See `Task.make_settings`: tracks and features are made as a probe with folds does."""
        settings = super().make_settings(config, job)
        settings.probe = ml_collections.ConfigDict(
            {"labels": settings.few_shot.labels, "protocol": FOLDS, "windows": "pooled"}
        )
        return settings

    def is_affected(self, job: Job, setting: str) -> bool:
        """See `Task.is_affected`."""
        return setting.partition(".")[0] in ("few_shot", "evaluation", "data")

    def finish(self, job: Job, objective: Objective, fit: FitResult, context: Context) -> Outcome:
        """See `Task.finish`: the episodes of every pool of labels."""
        assert isinstance(objective, ProbeObjective)
        section, tracks = context.settings.few_shot, objective.tracks
        part = _take_split(objective, section.split)
        names = tracks.label_names
        if section.base_labels:
            patterns = split_list(section.base_labels)
            base = np.array(match_labels(names, patterns, job["target"], "few_shot.base_labels"))
            novel = np.setdiff1d(np.arange(len(names)), base)
        else:
            # Of all features of the experiment, so that its rows are of the same episodes.
            every = "+".join(split_features(context.config.features))
            base, novel = list_base_and_novel(names, list_trained_labels(every))
        pools, kept, missing = {}, {}, []
        usable = find_usable_labels(part.targets, part.groups, job["num_shots"])
        for pool, (first, second) in {
            NOVEL: (novel, novel[:0]),
            BASE: (base, base[:0]),
            BOTH: (base, novel),
        }.items():
            is_double = pool == BOTH and not (len(base) and len(novel))
            if is_double or not (len(first) or len(second)):
                continue
            first, second = np.intersect1d(first, usable), np.intersect1d(second, usable)
            if len(first) + len(second) < job["num_labels"]:
                missing.append(f"{pool} ({len(first) + len(second)} labels can be drawn)")
                continue
            episodes = _draw(job, section, part, first, second)
            pools[pool], arrays = measure_pool(
                job, section, part.features, part.targets, part.groups, episodes, names
            )
            kept |= {f"{pool}_{name}": values for name, values in arrays.items()}
        if not pools:
            raise ConfigError(
                f"No episode of {job['num_labels']} labels with {job['num_shots']} examples each "
                f"can be drawn from {job['target']}: {', '.join(missing)}; a label needs examples "
                "in more groups than that. Take fewer labels or examples."
            )
        main = next(iter(pools.values()))
        return Outcome(
            metrics=[
                Metric(name, one["value"], one["ci"], title=title, chance=main["random"].get(name))
                for name, title in reports.TITLES.items()
                for one in [main["metrics"][name]]
            ],
            fields={
                "pools": pools,
                "missing_pools": missing,
                "is_synthetic": objective.is_synthetic,
                "num_tracks": len(part.targets),
                "num_track_groups": len(np.unique(part.groups)),
                "has_groups": tracks.groups is not None,
                "draw": section.draw,
                "base_labels": [names[column] for column in base],
            },
            arrays={"resampled": kept},
        )

    def compare(
        self, jobs: Sequence[Job], records: Records, config: ml_collections.ConfigDict
    ) -> dict[Job, dict[str, Any]]:
        """See `Task.compare`: every pair of rows, on the same episodes and queries."""
        return compare_rows(jobs, records)

    def make_tables(self, results: Sequence[Result], config: ml_collections.ConfigDict) -> Tables:
        """See `Task.make_tables`."""
        return reports.make_tables(results, config)

    def save_figures(self, results: Sequence[Result], folder: Path) -> list[Path]:
        """See `Task.save_figures`: ROC-AUC and macro F1 over the number of examples."""
        from musrep_jax.tasks.few_shot import figures  # which draws, and loads what that takes

        return figures.save_figures(results, folder)


@dataclasses.dataclass(frozen=True)
class _Tracks:
    """The tracks that episodes are drawn from: float64 (tracks, width), bool (tracks, labels)."""

    features: np.ndarray
    targets: np.ndarray
    groups: np.ndarray


def _take_split(objective: ProbeObjective, split: str) -> _Tracks:
    """Returns the tracks of all splits, or those of the test split."""
    tracks = objective.tracks
    rows = np.arange(len(tracks.targets))
    if split == TEST_SPLIT:
        rows = np.flatnonzero(tracks.split_names == TEST_SPLIT)
    groups = tracks.track_ids if tracks.groups is None else tracks.groups
    values = np.asarray(objective.examples.features, np.float64)
    return _Tracks(values[rows], tracks.targets[rows] > 0, np.asarray(groups)[rows])


def _draw(
    job: Job,
    section: ml_collections.ConfigDict,
    part: _Tracks,
    first: np.ndarray,
    second: np.ndarray,
) -> list[Episode]:
    """Returns the episodes of a pool, which is one set of labels or two."""
    num_labels, num_shots = job["num_labels"], job["num_shots"]
    if section.draw == FIRST:
        num_second = min(len(second), num_labels - num_labels // 2)
        num_first = min(len(first), num_labels - num_second)
        labels = np.concatenate([first[:num_first], second[: num_labels - num_first]])
        rng = np.random.default_rng(job.seed)
        return [draw_episode(part.targets, part.groups, lambda rng: labels, num_shots, rng)]
    return draw_episodes(
        part.targets,
        part.groups,
        np.concatenate([first, second]),
        num_labels=num_labels,
        num_shots=num_shots,
        num_episodes=section.num_episodes,
        seed=job.seed,
    )
