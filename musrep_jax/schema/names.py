"""The data sets, folders and exports that a config names, looked for before anything runs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from musrep_jax.config import ConfigError, expand_home, join_list, split_list
from musrep_jax.data.datasets import make_builder
from musrep_jax.experiments.shares import JobShard
from musrep_jax.tasks.probe.feature_files import check_feature_file
from musrep_jax.tasks.robustness.matrix import parse_taggers
from musrep_jax.tasks.settings import get_builder_name
from musrep_jax.tasks.student.jobs import LINEAR_PREFIX
from musrep_jax.tasks.student.unlabeled import REST, list_unlabeled_options
from musrep_jax.tasks.tagging.features import (
    FILE_PREFIXES,
    SOURCES,
    TRAINED_PREFIX,
    parse_features,
)
from musrep_jax.tasks.tagging.matrix import (
    TRAINED,
    split_features,
)
from musrep_jax.tasks.tagging.sources import EXPORT_PREFIX, PRETRAINED_PREFIX, READY_PREFIXES
from musrep_jax.training.checkpoints import ExportError, read_card
from musrep_jax.weights.pretrained import PretrainedError, find_pretrained

FOLDER_BUILDER = "audio_folder"


def check_names(config: ml_collections.ConfigDict) -> None:
    """Raises unless the data sets, folders, labels and exports that a config names are there.

    Tables are read; no audio is, and nothing is built or written.

    Args:
        config: that `check_config` has let pass.

    Raises:
        ConfigError: one sentence with the field and what is missing.
    """
    JobShard.parse(config.get("cells") or "")
    for workdir in split_list(config.get("merge") or ""):
        if not Path(workdir).expanduser().is_dir():
            raise ConfigError(f"--merge names {workdir!r}, which is no folder.")
    responses = config.get("train", {}).get("augment_responses")
    if responses and not Path(responses).expanduser().is_dir():
        raise ConfigError(f"train.augment_responses is {responses!r}, which is no folder.")
    if not _data_of(config):
        return
    if config.data.data_dir and _first_that_exists(config.data.data_dir).is_file():
        raise ConfigError(
            f"data.data_dir is {config.data.data_dir!r}, where a file stands; name a folder."
        )
    for field, start in _starts_of(config):
        _check_start(field, start)
    taggers = parse_taggers(config.taggers) if "taggers" in config else ()
    named = {
        "candidates": split_features(config.get("candidates", "")),
        "features": split_features(config.get("features", "")),
        "taggers": [tagger.place for tagger in taggers],
    }
    for field, features in named.items():
        for name in features:
            for encoder in parse_features(name) if name not in TRAINED else ():
                if encoder.place.startswith(READY_PREFIXES):
                    _check_start(field, encoder.place)
                elif encoder.place.startswith(FILE_PREFIXES):
                    check_feature_file(encoder.place)
                elif encoder.place.startswith((TRAINED_PREFIX, SOURCES)) and config.task != "probe":
                    raise ConfigError(
                        f"{field} names {encoder.place!r}, which only configs/probe.py trains: "
                        "name export:FOLDER or pretrained:NAME."
                    )
                elif encoder.place.startswith(TRAINED_PREFIX):
                    _check_dataset(config, field, encoder.place.removeprefix(TRAINED_PREFIX))
    if config.task == "student":
        _check_student(config)
    used = dict.fromkeys(_data_of(config))
    for field, name in used:
        if name.startswith(READY_PREFIXES):
            _check_start(field, name, _explain_comma(config.get(field, ""), name))
        else:
            _check_dataset(config, field, name)
    has_folder = any(get_builder_name(name) == FOLDER_BUILDER for _, name in used)
    for field in ("labels", "source_labels"):
        if config.data.get(field) and not has_folder:
            raise ConfigError(
                f"data.{field} is {config.data[field]!r}, but it chooses labels of audio folders, "
                "and no data set of this experiment is one: leave it out."
            )


def _check_student(config: ml_collections.ConfigDict) -> None:
    """Raises unless a student's teacher and its music without labels are there."""
    teacher, unlabeled = config.student.teacher, config.student.unlabeled
    if teacher.startswith(READY_PREFIXES):
        _check_start("student.teacher", teacher)
    elif teacher.startswith(LINEAR_PREFIX):
        for encoder in parse_features(teacher.removeprefix(LINEAR_PREFIX)):
            if encoder.place.startswith(READY_PREFIXES):
                _check_start("student.teacher", encoder.place)
            elif encoder.place.startswith((*FILE_PREFIXES, TRAINED_PREFIX, SOURCES)):
                raise ConfigError(
                    f"student.teacher names {encoder.place!r}, of which no model can be made: name "
                    "export:FOLDER or pretrained:NAME."
                )
    if unlabeled != REST:
        options = list_unlabeled_options(unlabeled)
        _check_dataset(config, "student.unlabeled", unlabeled, options)


def _data_of(config: ml_collections.ConfigDict) -> list[tuple[str, str]]:
    """Returns (field, name) of every data set and export."""
    if "target" in config:
        return [
            field
            for name in ("source", "target")
            if name in config
            for field in _parts(config, name)
        ]
    if "name" not in config.data:
        return []
    path = config.data.get("path")
    if path and get_builder_name(config.data.name) != FOLDER_BUILDER:
        raise ConfigError(
            f"data.path is {path!r}, but data.name is {config.data.name!r}: only {FOLDER_BUILDER} "
            "has a folder of your own; leave out one of the two."
        )
    return [
        ("data.path" if path else "data.name", f"{config.data.name}{f':{path}' if path else ''}")
    ]


def _starts_of(config: ml_collections.ConfigDict) -> Iterator[tuple[str, str]]:
    """Yields (field, export) of every model that trainings without a source start from."""
    places = {"model": config.get("model", {})}
    for name, deviations in config.get("for_model", {}).items():
        places[f"for_model.{name}.model"] = deviations.get("model", {})
    for name, section in places.items():
        if section.get("start"):
            yield f"{name}.start", section["start"]


def _parts(config: ml_collections.ConfigDict, field: str) -> Iterator[tuple[str, str]]:
    return ((field, name) for name in split_list(config[field]))


def _check_dataset(
    config: ml_collections.ConfigDict,
    field: str,
    name: str,
    own_options: Mapping[str, Any] | None = None,
) -> None:
    """Raises unless there is a data set of that name, with the labels and options asked for."""
    data, builder = config.data, get_builder_name(name)
    options = dict(data.options.get(builder, {}))
    if own_options is not None:
        options |= own_options
    elif builder == FOLDER_BUILDER:
        labels = data.labels
        if field == "source" and data.source_labels:
            labels = data.source_labels
        options |= {"labels": labels} if labels else {}
    try:
        make_builder(name, data_dir=data.data_dir, seed=data.seed, **options)
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"{field} names {name!r}: {error}{_explain_comma(config.get(field, ''), name)}"
        ) from error


def _explain_comma(listed: str, name: str) -> str:
    """Returns how a comma is written, if a name that is not there is the start of a path."""
    parts = split_list(listed)
    rest = parts[parts.index(name) :] if name in parts else ()
    for stop in range(2, len(rest) + 1):
        for comma in (",", ", "):
            whole = comma.join(rest[:stop])
            path = whole.removeprefix(f"{FOLDER_BUILDER}:").removeprefix(EXPORT_PREFIX)
            if Path(expand_home(path)).is_dir():
                return f" A comma in a path has a backslash before it: '{join_list([whole])}'."
    return ""


def _check_start(field: str, start: str, hint: str = "") -> None:
    """Raises unless an export, or a pretrained model of the table, has that name."""
    try:
        if start.startswith(PRETRAINED_PREFIX):
            find_pretrained(start)
        else:
            read_card(Path(start.removeprefix(EXPORT_PREFIX)).expanduser())
    except (ExportError, PretrainedError) as error:
        named = start if start.startswith(READY_PREFIXES) else f"{EXPORT_PREFIX}{start}"
        raise ConfigError(f"{field} names {named}: {error}{hint}") from error


def _first_that_exists(path: str) -> Path:
    full = Path(path).expanduser().absolute()
    return next(place for place in (full, *full.parents) if place.exists())
