"""Configs: reading the command line, checking it, and writing down what was run."""

import hashlib
import importlib.resources
import json
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_dict, config_flags

from musrep_jax.runtime.suggestions import suggest_name


class ConfigError(ValueError):
    """The config or the command line is wrong; the message is one sentence that says how."""


def choose(name: str, allowed: Sequence[str], where: str) -> str:
    """Returns `name` when it is allowed.

    Args:
        name: the value given.
        allowed: the values that exist.
        where: the setting, for the message.

    Raises:
        ConfigError: if it is not allowed.
    """
    if name not in allowed:
        raise ConfigError(
            f"{where} is {name!r}.{suggest_name(name, allowed)} Allowed: {', '.join(allowed)}."
        )
    return name


def split_list(text: str) -> tuple[str, ...]:
    r"""Returns the parts of a comma separated setting, without blanks.

    Example:
        >>> split_list("western, makam,")
        ('western', 'makam')
        >>> split_list(r"audio_folder:ney\, oud,makam")
        ('audio_folder:ney, oud', 'makam')

    Args:
        text: a comma within a part has a backslash before it.
    """
    parts = (part.strip().replace("\\,", ",") for part in re.split(r"(?<!\\),", text))
    return tuple(part for part in parts if part)


def join_list(parts: Iterable[str]) -> str:
    r"""Returns parts as one setting, which `split_list` takes apart again.

    Example:
        >>> join_list(["ney, oud", "makam"])
        'ney\\, oud,makam'

    Args:
        parts: not empty.
    """
    return ",".join(part.replace(",", "\\,") for part in parts)


def expand_home(path: str) -> str:
    """Returns a path in which `~` stands for a home folder no longer.

    A shell leaves it as it is in `--workdir=~/run`.

    Args:
        path: of a file or folder, or "".
    """
    return os.path.expanduser(path)


def make_placeholder(annotation: Any) -> Any:
    """Returns an empty config field of the annotated type, so that it can be set by a flag.

    Args:
        annotation: a type such as `int` or `tuple[int, ...] | None`.

    Returns:
        A `ml_collections` placeholder; None means the default of the code that reads it.
    """
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    return config_dict.placeholder(typing.get_origin(annotation) or annotation)


def given(settings: ml_collections.ConfigDict, *without: str) -> dict[str, Any]:
    """Returns the fields that were set, as a dict, leaving out None and the names in `without`."""
    return {k: v for k, v in settings.items() if v is not None and k not in without}


def list_configs() -> list[str]:
    """Returns the names of the package's own configs, the files of `configs/`."""
    files = importlib.resources.files("musrep_jax.configs").iterdir()
    stems = (file.name.removesuffix(".py") for file in files if file.name.endswith(".py"))
    return sorted(stem for stem in stems if stem not in ("__init__", "common"))


def move_config_first(argv: Sequence[str]) -> list[str]:
    """Returns a command line that starts with `--config=FILE[:ARGUMENT]`, as the library wants it.

    People may say the config anywhere, in one word or two, and one of the package's own by its
    name: `--config=transfer:smoke` is `configs/transfer.py:smoke` of wherever the package is.

    Args:
        argv: the command line, with the program's name first.

    Raises:
        ConfigError: if there is no config of that name.
    """
    program, *words = argv
    if "--config" in words[:-1]:
        place = words.index("--config")
        words[place : place + 2] = [f"--config={words[place + 1]}"]
    words.sort(key=lambda word: not word.startswith("--config="))
    if words and words[0].startswith("--config="):
        name, colon, argument = words[0].removeprefix("--config=").partition(":")
        if name and not name.endswith(".py"):
            choose(name, list_configs(), "The config")
            path = importlib.resources.files("musrep_jax.configs") / f"{name}.py"
            words[0] = f"--config={path}{colon}{argument}"
    return [program, *words]


def join_studies(argv: Sequence[str]) -> list[str]:
    """Returns a command line in which several `--config.study=` are one.

    Example:
        >>> join_studies(["main.py", "--config.study=a.b=1|2", "--config.study=c.d=3|4"])
        ['main.py', '--config.study=a.b=1|2; c.d=3|4']

    Args:
        argv: the command line, with the program's name first.
    """
    flag = "--config.study="
    studies = [word.removeprefix(flag) for word in argv if word.startswith(flag)]
    if len(studies) < 2:
        return list(argv)
    return [*(word for word in argv if not word.startswith(flag)), flag + "; ".join(studies)]


def parse_command_line(argv: Sequence[str]) -> tuple[ml_collections.ConfigDict, str]:
    """Reads `--config=FILE[:ARGUMENT]`, `--config.FIELD=VALUE`, `--workdir`, `--cells`, `--merge`.

    Args:
        argv: the command line, with the program's name first; see `move_config_first`.

    Returns:
        The config with the overrides applied, and noted in `overrides` because they go before what
        the config says for single models and data sets, and with `cells` and `merge` ("" when they
        were not given); and the workdir ("" when none was given).

    Raises:
        ConfigError: if a flag, a field, a value or the file is wrong.
    """
    argv = join_studies(move_config_first(argv))
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file(
        "config", None, "Config file, e.g. configs/transfer.py:smoke", flag_values=values,
        sys_argv=argv,
    )  # fmt: skip
    workdir = flags.DEFINE_string(
        "workdir", "", "Where results are written; the default is runs/<config name>.",
        flag_values=values,
    )  # fmt: skip
    cells = flags.DEFINE_string(
        "cells", "", "The share of the cells that this machine runs, e.g. 3/16.",
        flag_values=values,
    )  # fmt: skip
    merge = flags.DEFINE_string(
        "merge", "", "Workdirs, comma separated, whose cells are brought together; none is run.",
        flag_values=values,
    )  # fmt: skip
    try:
        rest = values(argv)
    except (KeyError, AttributeError) as error:
        text = str(error)
        field = re.search(r"\w+", text)
        near = re.search(r"Did you mean \W*(\w+)", text)
        guess = f" Did you mean {near[1]!r}?" if near else ""
        raise ConfigError(f"The config has no field {field[0]!r}.{guess}") from error
    except (flags.Error, ValueError, TypeError) as error:
        last_line = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
        raise ConfigError(f"The command line cannot be read: {last_line}") from error
    if len(rest) > 1:
        raise ConfigError(
            f"Unexpected argument {rest[1]!r}: settings are given as --config.FIELD=VALUE."
        )
    if holder.value is None:
        raise ConfigError(
            "No config was given: say --config=configs/transfer.py, for example, or one of the "
            f"package's own by name: {', '.join(list_configs())}."
        )
    if not isinstance(holder.value, ml_collections.ConfigDict):
        name = next((a for a in argv if a.startswith("--config=")), "--config")
        raise ConfigError(
            f"The config file of {name!r} does not exist; the package's own are called "
            f"{', '.join(list_configs())}."
        )
    config = holder.value
    overrides: dict[str, dict[str, Any]] = {}
    for name, value in config_flags.get_override_values(values["config"]).items():
        section, dot, key = name.partition(".")
        if dot and "." not in key:
            overrides.setdefault(section, {})[key] = value
    if cells.value and merge.value:
        raise ConfigError("--cells runs cells and --merge runs none: give one of them.")
    # A folder of one's own is an audio folder, unless another data set was named beside it.
    own = overrides.get("data", {})
    if own.get("path") and "name" not in own:
        config.data.name = own["name"] = "audio_folder"
    if config.data.get("data_dir"):
        config.data.data_dir = expand_home(config.data.data_dir)
        if "data_dir" in own:
            own["data_dir"] = config.data.data_dir
    with config.unlocked():
        config.overrides = ml_collections.ConfigDict(overrides)
        config.cells = cells.value
        config.merge = join_list(map(expand_home, split_list(merge.value)))
    return config, expand_home(workdir.value)


def plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns the config as plain data that JSON can hold; placeholders become None."""
    return json.loads(json.dumps(config.to_dict(), default=list))


def fingerprint(data: Mapping[str, Any]) -> str:
    """Returns a short hash that changes whenever the data does."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Returns the dotted names of the fields in which two configs differ, in order.

    Example:
        >>> differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}, "d": 0})
        ['b.c', 'd']
    """
    found = []
    for key in sorted({*ours, *theirs}):
        one, two = ours.get(key), theirs.get(key)
        if isinstance(one, Mapping) and isinstance(two, Mapping):
            found += differences(one, two, f"{prefix}{key}.")
        elif one != two:
            found.append(f"{prefix}{key}")
    return found
