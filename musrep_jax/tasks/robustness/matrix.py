"""The jobs of a robustness study: data sets x deformations x taggers x seeds."""

import dataclasses
import re
from typing import Any

import ml_collections

from musrep_jax.config import ConfigError, split_list
from musrep_jax.data.deformed.deformations import (
    CLEAN,
    DeformationError,
    parse_deformations,
)
from musrep_jax.tasks.jobs import Job, check_jobs
from musrep_jax.tasks.settings import parse_integers
from musrep_jax.tasks.tagging.features import LOADED_PREFIXES, are_candidates
from musrep_jax.tasks.tagging.matrix import (
    BASELINE_MODEL,
    COMBINED_MODEL,
    LINEAR,
    TRAINED,
    make_job,
    plan_baselines,
)

LINEAR_PREFIX = "linear:"
"""Of features under a linear model that is fitted on the training tracks as they are."""
TAGGER_WORDS = (
    "taggers separated by commas: export:FOLDER, pretrained:NAME, hub:OWNER/NAME, "
    "log_mel_statistics, or linear:FEATURES such as linear:pretrained:musicnn-msd; NAME=TAGGER "
    "gives one a name"
)
_NAMED = re.compile(r"(?P<name>\w[\w. -]*)=(?P<place>.+)")


@dataclasses.dataclass(frozen=True)
class TaggerName:
    """One tagger of a study.

    Attributes:
        text: as in the config, the field `tagger` of its jobs.
        name: that was given to it, or "".
        place: `export:FOLDER`, `pretrained:NAME` or `hub:OWNER/NAME`; or the features below a
            linear model.
        is_fitted: whether the study fits a linear model on the training tracks.
    """

    text: str
    name: str
    place: str
    is_fitted: bool


def parse_taggers(text: str) -> tuple[TaggerName, ...]:
    r"""Returns the taggers that a setting names, each once.

    Args:
        text: see `TAGGER_WORDS`; a comma in a path has a backslash before it.

    Raises:
        ConfigError: if one cannot be read.

    Example:
        >>> parse_taggers("best=export:runs/own/exports/best, linear:pretrained:musicnn-msd")[1]
        TaggerName(text='linear:pretrained:musicnn-msd', name='', place='pretrained:musicnn-msd', \
is_fitted=True)
    """
    parts = re.split(r"(?<!\\),(?![^\[]*\])", text)
    texts = dict.fromkeys(part.strip().replace("\\,", ",") for part in parts)
    return tuple(_parse_tagger(part) for part in texts if part)


def are_taggers(value: Any) -> bool:
    """Returns whether a value names one tagger or several."""
    try:
        return isinstance(value, str) and bool(parse_taggers(value))
    except ConfigError:
        return False


def list_jobs(config: ml_collections.ConfigDict) -> list[Job]:
    """Returns the jobs that a config asks for; those that read the same audio stand together.

    Linear models come first, which are trainings as `configs/tagging.py` has them.

    Args:
        config: with `taggers`, `target`, `seeds` and `robustness.deformations`.

    Raises:
        ConfigError: if a setting cannot be read, or nothing is left to do.
    """
    taggers = parse_taggers(config.taggers)
    deformations = [CLEAN, *list_deformations(config)]
    jobs: list[Job] = []
    for target in split_list(config.target):
        for seed in parse_integers(config.seeds, "seeds"):
            fitted = {one: _make_fit(one, target, seed) for one in taggers if one.is_fitted}
            trainings = list(fitted.values())
            if config.evaluation.baseline:
                trained = make_job(target, BASELINE_MODEL, seed=seed)
                jobs += plan_baselines([trained])
                if not any(one.place == BASELINE_MODEL for one in fitted):
                    baseline = _parse_tagger(BASELINE_MODEL)
                    fitted = {baseline: jobs[-1], **fitted}
            jobs += trainings
            everyone = (*(one for one in fitted if one not in taggers), *taggers)
            for deformation in deformations:
                for tagger in everyone:
                    fields = {
                        "target": target,
                        "tagger": tagger.text,
                        "deformation": deformation,
                        "seed": seed,
                    }
                    needs = (fitted[tagger].key,) if tagger in fitted else ()
                    jobs.append(Job("robustness", fields, needs))
    return check_jobs(jobs)


def list_deformations(config: ml_collections.ConfigDict) -> tuple[str, ...]:
    """Returns the names of the deformations of a config, in their order.

    Args:
        config: with `robustness.deformations`.

    Raises:
        ConfigError: if one cannot be read.
    """
    try:
        return tuple(one.name for one in parse_deformations(config.robustness.deformations))
    except DeformationError as error:
        raise ConfigError(f"robustness.deformations: {error}") from error


def shorten_tagger(text: str) -> str:
    """Returns the name of a tagger for tables: the one given to it, or its place's last part.

    Args:
        text: of a tagger.

    Example:
        >>> shorten_tagger("linear:log_mel_statistics+pretrained:musicnn-msd")
        'linear:log_mel_statistics+musicnn-msd'
        >>> shorten_tagger("export:runs/own/exports/best"), shorten_tagger("a=export:x/best")
        ('best', 'a')
    """
    tagger = _parse_tagger(text)
    if tagger.name:
        return tagger.name
    parts = [re.sub(r"^(pretrained|hub|export):", "", part) for part in tagger.place.split("+")]
    short = "+".join(part.rstrip("/").rsplit("/", 1)[-1] for part in parts)
    return f"{LINEAR_PREFIX}{short}" if text.startswith(LINEAR_PREFIX) else short


def _parse_tagger(text: str) -> TaggerName:
    """Returns what a tagger's name says, or raises `ConfigError`."""
    match = _NAMED.fullmatch(text)
    name, place = (match["name"].strip(), match["place"].strip()) if match else ("", text)
    if place.startswith(LINEAR_PREFIX) or place == BASELINE_MODEL:
        features = place.removeprefix(LINEAR_PREFIX)
        if features not in TRAINED and are_candidates(features):
            return TaggerName(text, name, features, is_fitted=True)
    elif place.startswith(LOADED_PREFIXES):
        return TaggerName(text, name, place, is_fitted=False)
    raise ConfigError(f"taggers names {text!r}; there must be {TAGGER_WORDS}.")


def _make_fit(tagger: TaggerName, target: str, seed: int) -> Job:
    """Returns the job that fits a linear model above the features of a tagger."""
    if tagger.place == BASELINE_MODEL:
        return plan_baselines([make_job(target, BASELINE_MODEL, seed=seed)])[0]
    return make_job(target, COMBINED_MODEL, LINEAR, tagger.place, seed)
