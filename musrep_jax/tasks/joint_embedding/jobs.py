"""The jobs: embeddings trained on other data sets, and windows of every target judged in each."""

import ml_collections

from musrep_jax.config import ConfigError, split_list
from musrep_jax.models import ALIASES, MODELS, model_class
from musrep_jax.models.joint_embedding import JointEmbedding
from musrep_jax.tasks.jobs import Job, check_jobs
from musrep_jax.tasks.settings import parse_integers

BASE_MODEL = "log_mel_windows"
TRAINING = "embedding"
"""Mode of the jobs that train an embedding; those of `WINDOWS` judge one on a target."""
BASE, GENRE, TAGS = WINDOWS = ("base", "genre", "tags")
"""Windows without an embedding, in one of the other targets, and in one of the tag data sets."""
PRECISIONS = {
    "precision": "all other tracks",
    "precision_across_groups": "tracks of other groups",
}
"""Metric of neighbors -> which tracks may be one: all as published, or none of the same recording
or performer."""


def plan_jobs(config: ml_collections.ConfigDict) -> list[Job]:
    """Returns the jobs of a config, each after the training that it needs.

    Every target is judged by its windows without an embedding, in that of the other targets, and in
    that of `source`. One more embedding, of all targets, shows which labels stand beside which.

    Args:
        config: with `source` and `target`, comma separated.

    Raises:
        ConfigError: if there is no target or no source for any embedding, the model is another, or
            two data sets have the same name.
    """
    targets, sources = split_list(config.target), split_list(config.source)
    model = ALIASES.get(config.model.name, config.model.name)
    if model not in MODELS or not issubclass(model_class(model), JointEmbedding):
        raise ConfigError(
            f"model.name is {config.model.name!r}; the task joint_embedding trains "
            "'joint_embedding' alone."
        )
    if not targets or (len(targets) < 2 and not sources):
        raise ConfigError(
            f"target is {config.target!r} and source {config.source!r}; name at least two targets, "
            "each of which is judged in an embedding of the others, or a target and a source."
        )
    if common := set(targets) & set(sources):
        raise ConfigError(
            f"source and target both name {sorted(common)[0]!r}; an embedding that has seen the "
            "labels of a target says nothing about transfer to it."
        )
    jobs: list[Job] = []
    for seed in parse_integers(config.seeds, "seeds"):

        def train(names: tuple[str, ...], seed: int = seed) -> Job:
            return _make_job(target=names, model=model, mode=TRAINING, seed=seed)

        trained = {TAGS: train(sources)} if sources else {}
        jobs += trained.values()
        for target in targets:
            jobs.append(_make_job(target=target, model=BASE_MODEL, mode=BASE, seed=seed))
            others = tuple(name for name in targets if name != target)
            if others:
                jobs.append(train(others))
                jobs.append(_judge(target, jobs[-1], GENRE))
            if sources:
                jobs.append(_judge(target, trained[TAGS], TAGS))
        if len(targets) > 1:
            jobs.append(train(targets))
    return check_jobs(jobs)


def _make_job(needs: tuple[str, ...] = (), **fields: object) -> Job:
    return Job("joint_embedding", {"source": None, **fields}, needs)


def _judge(target: str, training: Job, mode: str) -> Job:
    """Returns the job that judges the windows of a target in an embedding."""
    return _make_job(
        (training.key,), source=training["target"], target=target, model=training["model"],
        mode=mode, seed=training.seed,
    )  # fmt: skip
