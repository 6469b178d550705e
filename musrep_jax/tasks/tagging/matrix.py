"""The jobs of tagging: a matrix of sources, targets, models, modes, seeds and training sizes."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import ml_collections

from musrep_jax.config import ConfigError, choose, split_list
from musrep_jax.evaluation.subsets import Size, parse_sizes
from musrep_jax.tasks.jobs import Job, check_jobs
from musrep_jax.tasks.settings import parse_integers
from musrep_jax.tasks.tagging.sources import READY_PREFIXES, list_architectures

SCRATCH, ALL_LAYERS = "scratch", "all_layers"
TRAINED = (SCRATCH, ALL_LAYERS)
"""Candidates that are trained; the others are solved."""
SECONDS_PER_TRACK, MAX_MINUTES = 0.2, 5.0
"""Time that is given to all trained candidates together where none is said."""
MODES = (SCRATCH, "output_layer", ALL_LAYERS)
LINEAR = "linear"
"""Mode of the jobs that solve a linear model above frozen features."""
COMBINED_MODEL = "combined_encoders"
BEST_START = "best_start"
"""Source of the job that trains all layers of the best candidate with a pretrained encoder."""
BASELINE, BASELINE_MODEL = "baseline", "log_mel_statistics"
"""Mode and model of the jobs that every table has beside what is trained."""
BASELINE_SETTINGS = MappingProxyType({"whole_frames": True})
"""Of that model, wherever its features are made anew; by themselves exports of before stay so."""


def make_job(
    target: str,
    model: str,
    mode: str = SCRATCH,
    source: str | None = None,
    seed: int = 0,
    num_train_tracks: Size = 0,
    study: Mapping[str, Any] | None = None,
) -> Job:
    """Returns the job of training and testing one tagger.

    Args:
        target: data set that is trained and tested on.
        model: model name.
        mode: one of `MODES`.
        source: data set the parameters come from, `export:DIRECTORY`, `pretrained:NAME`, or None
            for scratch.
        seed: of the initial values, the order of the data and the crops.
        num_train_tracks: labeled tracks of the target used for training, see
            `musrep_jax.evaluation.subsets`; 0 is all of them.
        study: see `Job.study`.
    """
    fields = {
        "source": source,
        "target": target,
        "model": model,
        "mode": mode,
        "seed": seed,
        "num_train_tracks": num_train_tracks,
    }
    is_trained_before = source is not None and mode not in (LINEAR, BASELINE)
    if is_trained_before and source.startswith(READY_PREFIXES):
        is_trained_before = False
    needs = (make_job(source, model, seed=seed, study=study).key,) if is_trained_before else ()
    return Job("tagging", fields, needs, study or {})


def make_candidates(
    names: Sequence[str], models: Sequence[str], target: str, seed: int, num_train_tracks: Size
) -> list[Job]:
    """Returns the jobs of candidates, each after those that it starts from.

    Args:
        names: `scratch` for trainings from fresh weights, `all_layers` for the training of all
            layers of the best start, anything else for a linear model above frozen features, see
            `musrep_jax.tasks.tagging.features`.
        models: those that are trained from scratch.
        target: data set.
        seed: see `make_job`.
        num_train_tracks: see `make_job`.
    """
    common = dict(target=target, seed=seed, num_train_tracks=num_train_tracks)
    linear = [
        make_job(model=COMBINED_MODEL, mode=LINEAR, source=name, **common)
        for name in names
        if name not in (SCRATCH, ALL_LAYERS, BASELINE_MODEL)
    ]
    jobs = [make_job(model=BASELINE_MODEL, mode=BASELINE, **common)] * (BASELINE_MODEL in names)
    jobs += linear
    if ALL_LAYERS in names:
        start = make_job(model=COMBINED_MODEL, mode=ALL_LAYERS, source=BEST_START, **common)
        jobs.append(dataclasses.replace(start, needs=tuple(job.key for job in linear)))
    if SCRATCH in names:
        jobs += [make_job(model=model, **common) for model in models]
    return jobs


def plan_baselines(jobs: Sequence[Job]) -> list[Job]:
    """Returns the baselines of jobs: one per data set, seed and number of training tracks.

    Args:
        jobs: of trainings.
    """
    made = [
        make_job(
            job["target"], BASELINE_MODEL, BASELINE,
            seed=job.seed, num_train_tracks=job["num_train_tracks"],
        )
        for job in jobs
    ]  # fmt: skip
    return list(dict.fromkeys(made))


def share_minutes(config: ml_collections.ConfigDict, job: Job, num_tracks: int) -> float | None:
    """Returns the minutes that a job may train; None is no limit.

    Args:
        config: with `minutes`, which the trained candidates of one data set, size and seed share,
            or without.
        job: of the config.
        num_tracks: training tracks, by which time is given where `minutes` is None.
    """
    if "minutes" not in config or job["mode"] not in TRAINED:
        return None
    minutes = config.minutes
    if minutes is None:
        minutes = min(MAX_MINUTES, num_tracks * SECONDS_PER_TRACK / 60)
    alike = [
        other
        for other in jobs_of_config(config)
        if other["mode"] in TRAINED
        and all(other[field] == job[field] for field in ("target", "seed", "num_train_tracks"))
    ]
    return minutes / max(1, len(alike))


def find_baseline(job: Job, jobs: Sequence[Job]) -> Job | None:
    """Returns the baseline of a training, None for a baseline and without one.

    Args:
        job: to be held against it.
        jobs: to look among.
    """
    if job["mode"] == BASELINE:
        return None
    wanted = {"source": None, "mode": BASELINE, "model": BASELINE_MODEL}
    return _find_reference(job, wanted, jobs)


def find_scratch(job: Job, jobs: Sequence[Job]) -> Job | None:
    """Returns the job from scratch that a transfer is compared with, None without one.

    Args:
        job: to be held against it.
        jobs: to look among.
    """
    if job["mode"] in (SCRATCH, BASELINE):
        return None
    return _find_reference(job, {"source": None, "mode": SCRATCH}, jobs)


def _find_reference(job: Job, fields: Mapping[str, Any], jobs: Sequence[Job]) -> Job | None:
    """Returns the job that differs in some fields only, with as much of the study as there is."""
    wanted = {**job.fields, **fields}
    found = [
        other for other in jobs
        if other.fields == wanted and other.study.items() <= job.study.items()
    ]  # fmt: skip
    return max(found, key=lambda other: len(other.study), default=None)


def plan_jobs(
    *,
    sources: Sequence[str],
    targets: Sequence[str],
    models: Sequence[str],
    modes: Sequence[str],
    seeds: Sequence[int],
    num_train_tracks: Sequence[Size] = (0,),
    architectures: Mapping[str, str] = MappingProxyType({}),
) -> list[Job]:
    """Returns the jobs of a transfer matrix, each after the one it starts from.

    A source is trained from scratch on all of its tracks; every target is trained in every mode,
    and from every source but itself, at every number of training tracks. Jobs that serve two ends
    (a target that is also a source) appear once. A source that stands ready brings its model.

    Args:
        sources: data set names, `export:DIRECTORY`, or `pretrained:NAME`.
        targets: data set names.
        models: model names.
        modes: of `MODES`.
        seeds: integers.
        num_train_tracks: training set sizes; 0 is all tracks.
        architectures: sources that stand ready, with the names of their models.

    Returns:
        Jobs without duplicates.

    Raises:
        ConfigError: if a mode does not exist, nothing is left to do, or two jobs would be written
            under one name.
    """
    for mode in modes:
        choose(mode, MODES, "transfer.modes")
    jobs: list[Job] = []
    for model in dict.fromkeys([*models, *architectures.values()]):
        usable = list_usable_sources(sources, model, models, architectures)
        trained = [source for source in usable if source not in architectures]
        for seed in seeds:
            if any(mode != SCRATCH for mode in modes):
                jobs += [make_job(source, model, seed=seed) for source in trained]
            for target in targets:
                for size in num_train_tracks:
                    common = dict(target=target, model=model, seed=seed, num_train_tracks=size)
                    for mode in modes:
                        if mode == SCRATCH:
                            jobs += [make_job(**common)] * (model in models)
                            continue
                        for source in usable:
                            if source != target:
                                jobs.append(make_job(source=source, mode=mode, **common))
    if not jobs:
        raise ConfigError(
            "There is nothing to do: name at least one target, one mode and one seed, and a source "
            "that is not the target."
        )
    return check_jobs(jobs)


def list_usable_sources(
    sources: Sequence[str], model: str, models: Sequence[str], architectures: Mapping[str, str]
) -> list[str]:
    """Returns the sources that a model can start from.

    Args:
        sources: see `plan_jobs`.
        model: name of the model.
        models: that are trained from scratch, and on data sets.
        architectures: sources that stand ready, with the names of their models.
    """
    return [
        source for source in sources
        if (architectures[source] == model if source in architectures else model in models)
    ]  # fmt: skip


def plan_matrix(config: ml_collections.ConfigDict, modes: Sequence[str]) -> list[Job]:
    """Returns the jobs of the transfer matrix of a config, without baselines.

    Args:
        config: with `source` and `target`.
        modes: of `MODES`.

    Raises:
        ConfigError: if a setting cannot be read, or nothing is left to do.
    """
    return plan_jobs(
        sources=split_list(config.source),
        targets=split_list(config.target),
        models=list_models(config),
        modes=modes,
        seeds=parse_integers(config.seeds, "seeds"),
        num_train_tracks=parse_sizes(config.num_train_tracks),
        architectures=list_architectures(config),
    )


def jobs_of_config(config: ml_collections.ConfigDict) -> list[Job]:
    """Returns the jobs that a config asks for; lists are comma separated.

    Args:
        config: with `source` and `target` (`configs/transfer.py`), or with the one data set of
            `data.name` and `data.path`, and `candidates` (`configs/tagging.py`) or none, which is
            a training from scratch.

    Raises:
        ConfigError: if a setting cannot be read, or nothing is left to do.
    """
    if "target" in config:
        jobs = plan_matrix(config, split_list(config.transfer.modes))
    else:
        models = list_models(config)
        path = config.data.path
        target = f"{config.data.name}:{path}" if path else config.data.name
        names = split_features(config.get("candidates", SCRATCH))
        if config.get("minutes") == 0:
            names = tuple(name for name in names if name not in TRAINED)
        jobs = [
            job
            for seed in parse_integers(config.seeds, "seeds")
            for size in parse_sizes(config.num_train_tracks)
            for job in make_candidates(names, models, target, seed, size)
        ]
    return check_jobs([*plan_baselines(jobs), *jobs] if config.evaluation.baseline else jobs)


def list_models(config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """Returns the models that are trained from scratch, and from data sets.

    Where all sources stand ready, and the command line names no model, they are those of the
    sources: training from scratch is then of the same network as the transfer.

    Args:
        config: of the experiment.

    Raises:
        ConfigError: if models are named that nothing trains.
    """
    models, sources = split_list(config.model.name), split_list(config.get("source", ""))
    architectures = list_architectures(config)
    if not architectures or len(architectures) < len(set(sources)):
        return models
    brought = tuple(dict.fromkeys(architectures.values()))
    modes = split_list(config.transfer.modes)
    if "name" not in config.get("overrides", {}).get("model", {}):
        return models if set(modes) == {SCRATCH} else brought
    if SCRATCH not in modes and not set(models) <= set(brought):
        raise ConfigError(
            f"model.name is {config.model.name!r}, but the sources bring the model "
            f"{', '.join(brought)}, and without {SCRATCH!r} among transfer.modes no other is "
            "trained: leave model.name out."
        )
    return models


def split_features(text: str) -> tuple[str, ...]:
    """Returns the parts of a comma separated setting; commas in brackets separate outputs.

    Example:
        >>> split_features("a[x,y]+b, scratch")
        ('a[x,y]+b', 'scratch')
    """
    parts = re.split(r",(?![^\[]*\])", text)
    return tuple(part.strip() for part in parts if part.strip())
