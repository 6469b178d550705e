"""Jobs: what an experiment is made of, as plain data that tasks and experiments both know.

A job is one training with its evaluation. What it is, its fields say: `target`, `source`, `mode`,
`model`, `seed`, `num_train_tracks`, and whatever else a task needs. Files, results, shares, tables
and reports follow from the fields, so that a task adds one without touching any of them.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from musrep_jax.config import ConfigError, fingerprint
from musrep_jax.evaluation.subsets import describe_size

STANDARD_FIELDS = ("source", "target", "model", "mode", "seed", "num_train_tracks")
"""Fields that have places of their own in names; further ones follow them, in order."""

MAX_KEY_CHARACTERS = 180
"""File systems take 255 bytes for a name, and temporary names are longer."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One training and its evaluation.

    Attributes:
        task: key of `musrep_jax.tasks.TASKS`.
        fields: name -> plain value (text, number, bool, None, or a tuple of these). A value that is
            empty (None, "") is recorded and left out of names; `num_train_tracks` is a size, see
            `musrep_jax.evaluation.subsets`.
        needs: keys of earlier jobs of the experiment whose exported models this one starts from.
        study: setting, such as "model.num_harmonics" -> its value in this job, see
            `musrep_jax.tasks.studies`.
    """

    task: str
    fields: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    study: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Keeps copies that nobody can change; raises TypeError for what is no plain value."""
        for name, values in (("fields", self.fields), ("study", self.study)):
            for key, value in values.items():
                if not _is_plain(value):
                    raise TypeError(
                        f"The job's {name} have {key}={value!r}; a plain value is text, a "
                        "number, a bool, None, or a tuple of these."
                    )
            object.__setattr__(self, name, MappingProxyType(dict(values)))

    def __hash__(self) -> int:
        return hash((self.task, self.key))

    @property
    def kind(self) -> tuple:
        """What its time depends on most: a solved baseline tells nothing of a training."""
        return (self.task, self.fields.get("mode"), self.fields.get("model"))

    def __getitem__(self, field: str) -> Any:
        """Returns a field.

        Args:
            field: its name.

        Raises:
            KeyError: if the job has none of that name.
        """
        return self.fields[field]

    def get(self, field: str, default: Any = None) -> Any:
        """Returns a field, or the default if there is none of that name."""
        return self.fields.get(field, default)

    @property
    def seed(self) -> int:
        """The seed of the initial values, the order of the data and the crops; 0 without one."""
        return self.get("seed") or 0

    @functools.cached_property
    def key(self) -> str:
        """A name for files and folders, unique among the jobs of an experiment."""
        return make_key(self.fields, self.study)

    def describe(self) -> str:
        """Returns a readable name, e.g. `western -> makam, vgg_ish, all layers, seed 0`."""
        get = self.get
        start = f"{strip_parents(get('source'))} -> " if get("source") else ""
        parts = [start + strip_parents(get("target") or self.task)]
        parts += [get("model")] if get("model") else []
        parts += [get("mode").replace("_", " ")] if get("mode") else []
        parts += [describe_size(get("num_train_tracks"))] if get("num_train_tracks") else []
        parts += [f"{name} {_join(value)}" for name, value in _further(self.fields)]
        parts += [f"{name}={_join(value)}" for name, value in shorten_settings(self.study).items()]
        parts += [f"seed {get('seed')}"] if "seed" in self.fields else []
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Returns the entries of a result about its job: its fields, their names as `fields`, and
        more."""
        return {
            **self.fields,
            "task": self.task,
            "key": self.key,
            "fields": list(self.fields),
            "study": dict(self.study),
        }


def _is_plain(value: Any) -> bool:
    """Returns whether a value is text, a number, a bool, None, or a tuple of these."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, str | int | float | bool | None)


def make_key(fields: Mapping[str, Any], study: Mapping[str, Any] | None = None) -> str:
    """Returns the name of a job for files and folders.

    Example:
        >>> make_key({"target": "fma", "model": "fcn", "mode": "scratch", "seed": 1})
        'fma-fcn-scratch-seed1'

    Args:
        fields: of the job.
        study: settings of the job, see `Job.study`.
    """
    start = f"{slugify_name(fields['source'])}-to-" if fields.get("source") else ""
    parts = [start + slugify_name(fields["target"])] if fields.get("target") else []
    parts += [str(fields[name]) for name in ("model", "mode") if fields.get(name)]
    parts += [f"seed{fields['seed']}"] if fields.get("seed") is not None else []
    parts += [f"n{fields['num_train_tracks']}"] if fields.get("num_train_tracks") else []
    for name, value in (*_further(fields), *shorten_settings(study or {}).items()):
        parts.append(f"{name}_{_shorten(value)}")
    key = "-".join(parts)
    if len(key) > MAX_KEY_CHARACTERS:
        mark = fingerprint({"fields": dict(fields), "study": dict(study or {})})
        key = f"{key[: MAX_KEY_CHARACTERS - len(mark) - 1]}-{mark}"
    return key


def key_of_result(result: Mapping[str, Any]) -> str:
    """Returns the name of the job that a result is of.

    Args:
        result: of a job; results of earlier versions say their fields and no key.
    """
    if result.get("key"):
        return result["key"]
    fields = {name: result[name] for name in STANDARD_FIELDS if name in result}
    return make_key({"seed": 0, **fields})


def shorten_settings(study: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings by their last parts, where these differ.

    Example:
        >>> shorten_settings({"model.num_harmonics": 2})
        {'num_harmonics': 2}
        >>> shorten_settings({"model.name": "a", "optimizer.name": "b"})
        {'model.name': 'a', 'optimizer.name': 'b'}

    Args:
        study: setting -> value.
    """
    last = [name.rpartition(".")[2] for name in study]
    return {
        (short if last.count(short) == 1 else name): value
        for short, (name, value) in zip(last, study.items(), strict=True)
    }


def strip_parents(name: str | Sequence[str]) -> str:
    """Returns a data set's name with its folder by the last part only.

    Keys and results hold it, which travel to other machines. Tables and axes have shorter names,
    see `display_names.make_display_names`.

    Example:
        >>> strip_parents("audio_folder:/data/ney/")
        'audio_folder:ney'
        >>> strip_parents("export:/a/b[layer_2]+export:/c/d")
        'export:b[layer_2]+export:d'
        >>> strip_parents("trained:audio_folder:ney[-1]")
        'trained:ney[-1]'

    Args:
        name: as in configs; of several data sets, their names; of features, several with `+`
            between them.
    """
    if not isinstance(name, str):
        return " + ".join(map(strip_parents, name))
    parts = name.split("+")
    if len(parts) > 1 and all(":" in part or "/" not in part for part in parts):
        return "+".join(map(strip_parents, parts))
    builder, colon, path = name.partition(":")
    last = path.removeprefix("audio_folder:").rstrip("/").rsplit("/", 1)[-1]
    return f"{builder}:{last}" if colon else name


def slugify_name(name: str | Sequence[str]) -> str:
    """Returns a name with only letters, digits, dots and underscores; several joined by `+`.

    Args:
        name: as in configs; of several data sets, their names.
    """
    if not isinstance(name, str):
        return "+".join(map(slugify_name, name))
    signed = re.sub(r"(?<=[:^])-(?=[\d.])", "minus_", strip_parents(name))  # pitch:-1
    return re.sub(r"[^\w.]+", "_", signed).strip("_")


def strip_result_folders(result: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a result in which folders are named by their last part.

    Args:
        result: of a job.
    """
    names = {field: result[field] for field in ("source", "target", "features") if field in result}
    shown = {field: strip_parents(name) if name else name for field, name in names.items()}
    if isinstance(shown.get("features"), str):
        shown["features"] = join_alike(shown["features"])
    return {**result, **shown}


def join_alike(features: str) -> str:
    """Returns features with kind and outputs written once, where all parts have the same.

    Example:
        >>> join_alike("trained:western[1,max]+trained:carnatic[1,max]")
        'trained:western+carnatic[1,max]'
        >>> join_alike("trained:western[1]+export:a[1]")
        'trained:western[1]+export:a[1]'

    Args:
        features: several names with `+` between them, or one.
    """
    parts = [re.fullmatch(r"(\w+:)([^\[\]]+)(\[.*\])?", part) for part in features.split("+")]
    if not all(parts):
        return features
    kinds, names, outputs = zip(*(part.groups("") for part in parts if part), strict=True)
    if len(set(kinds)) > 1 or len(set(outputs)) > 1:
        return features
    return f"{kinds[0]}{'+'.join(names)}{outputs[0]}"


def title_of(result: Mapping[str, Any]) -> str:
    """Returns what a result is of, with the word synthetic where it belongs."""
    start = f"{result['source']} -> " if result.get("source") else ""
    parts = [f"{start}{result.get('target') or result.get('task')}"]
    parts += [str(result["model"])] if result.get("model") else []
    parts += [result["mode"].replace("_", " ")] if result.get("mode") else []
    size = result.get("num_train_tracks")
    parts += [describe_size(size)] if size else []
    study = shorten_settings(result.get("study") or {})
    parts += [f"{name}={_join(value)}" for name, value in study.items()]
    return ", ".join(parts) + (" (synthetic data)" if result.get("is_synthetic") else "")


def check_jobs(jobs: Iterable[Job]) -> list[Job]:
    """Returns the jobs without duplicates, if an experiment can be made of them.

    Args:
        jobs: in an order in which each comes after the jobs that it needs.

    Raises:
        ConfigError: if there are none, or two different ones would be written under one name.
        ValueError: if one needs a job that does not come before it.
    """
    by_key: dict[str, Job] = {}
    for job in jobs:
        other = by_key.setdefault(job.key, job)
        if other != job:
            one, two = (
                ", ".join(f"{k}={v!r}" for k, v in sorted({**j.fields, **j.study}.items()) if v)
                for j in (other, job)
            )
            raise ConfigError(
                f"Two jobs would be written under the same name {job.key!r}, ({one}) and ({two}): "
                "rename one of the folders, or run them in workdirs of their own."
            )
        for key in job.needs:
            if key not in by_key:
                raise ValueError(f"The job {job.key} needs {key}, which does not come before it.")
    if not by_key:
        raise ConfigError(
            "There is nothing to do: name at least one data set, one model and one seed, and leave "
            "what is trained enough time (--config.minutes=0 leaves it out)."
        )
    return list(by_key.values())


def list_needed(jobs: Sequence[Job], chosen: Iterable[Job]) -> list[Job]:
    """Returns the jobs that chosen ones start from, directly or not, and that are not chosen.

    Args:
        jobs: of the experiment; the result has their order.
        chosen: some of them.
    """
    by_key = {job.key: job for job in jobs}
    chosen = set(chosen)
    needed, left = set(), list(chosen)
    while left:
        for key in left.pop().needs:
            if by_key[key] not in needed:
                needed.add(by_key[key])
                left.append(by_key[key])
    return [job for job in jobs if job in needed - chosen]


def _further(fields: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Returns the fields beside the standard ones that have a value."""
    return [(k, v) for k, v in fields.items() if k not in STANDARD_FIELDS and v not in (None, "")]


def _shorten(value: Any) -> str:
    """Returns the value of a field for a file name."""
    if isinstance(value, str):
        return slugify_name(value)
    return re.sub(r"[^\w.+-]+", "_", _join(value)).strip("_")


def _join(value: Any) -> str:
    """Returns a value as text; the parts of a tuple are joined by `+`."""
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)
