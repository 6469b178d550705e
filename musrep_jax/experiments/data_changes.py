"""Detects results made from different data, which must not be mixed."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from musrep_jax.config import ConfigError, fingerprint
from musrep_jax.data.datasets import Dataset
from musrep_jax.runtime.integrity import sha256_of
from musrep_jax.tasks.jobs import key_of_result, strip_parents

DATA_FIELD = "data"
"""Field of a result: the data sets that its job opened, see `describe_data`."""
_MAX_LISTED = 3


def describe_data(
    dataset: Dataset, name: str, sample_rate: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns a result's record of a data set: how it was opened, and its content.

    Args:
        dataset: that was opened.
        name: as in configs.
        sample_rate: that was asked for, in Hz.
        options: of its builder.

    Returns:
        `name`, `sample_rate`, `options`, and `fingerprint` and `splits` of `Dataset.identity`.
    """
    asked = {"name": name, "sample_rate": sample_rate, "options": dict(options)}
    return {**asked, **dataset.identity}


def describe_files(name: str, paths: Sequence[Path]) -> dict[str, Any]:
    """Returns a result's record of files that are no data set, such as a table of features.

    Args:
        name: as in configs.
        paths: of the files.

    Returns:
        What `describe_data` returns, without splits, and `files`.

    Raises:
        OSError: if one cannot be read.
    """
    asked = {"name": name, "sample_rate": None, "options": {}}
    content = fingerprint([sha256_of(path) for path in paths])
    return {**asked, "fingerprint": content, "splits": {}, "files": [str(p) for p in paths]}


def list_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns in words in what two states of a data set differ; nothing if they are the same.

    Args:
        before: `describe_data` or `Dataset.identity` of one.
        now: of the other.
    """
    if before["fingerprint"] == now["fingerprint"]:
        return []
    if "files" in before:
        return ["its content"]
    changed = []
    ours, theirs = now["splits"], before["splits"]
    for split in dict.fromkeys((*theirs, *ours)):
        one, other = theirs.get(split, {}), ours.get(split, {})
        # The records hold ids, labels and groups too: what is seen first is the reason.
        reason = next(
            (part for part in ("tracks", "labels", "groups") if one.get(part) != other.get(part)),
            "audio" if one.get("records") != other.get("records") else "",
        )
        changed += [f"{reason} of {split}"] if reason else []
    return changed or ["label names"]


def check_results_agree(results: Iterable[Mapping[str, Any]], place: str) -> None:
    """Raises when results to be combined were made from two versions of a data set.

    Results of earlier versions, which do not know their data, are passed.

    Args:
        results: of jobs; failed ones are passed.
        place: where they are, for the message.

    Raises:
        ConfigError: naming the data set, what differs, and what to do.
    """
    first: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for result in results:
        for entry in result.get(DATA_FIELD) or () if result.get("error") is None else ():
            key, state = first.setdefault(_how_opened(entry), (key_of_result(result), entry))
            changed = list_changes(state, entry)
            if changed:
                raise ConfigError(
                    f"{place} holds results of two states of "
                    f"the {_name_entry(entry)} ({', '.join(changed)} differ), such as {key} "
                    f"and {key_of_result(result)}: remove the folders cells/KEY of one state, and "
                    "run the same command again."
                )


def describe_change(
    done: Sequence[Mapping[str, Any]], present: Mapping[str, Mapping[str, Any]], place: str
) -> str:
    """Returns a sentence if finished results were made from data that are no more what they were.

    Args:
        done: finished results.
        present: key of `list_opened` -> the data set as it is now, where that is known.
        place: of the results.

    Returns:
        The data set, what has changed, and what to do; "" if nothing has.
    """
    for key, entry in list_opened(done).items():
        changed = list_changes(entry, present[key]) if key in present else []
        if changed:
            made = [
                key_of_result(result)
                for result in done
                if any(_how_opened(other) == key for other in result.get(DATA_FIELD) or ())
            ]
            shown = ", ".join(made[:_MAX_LISTED]) + (", ..." if len(made) > _MAX_LISTED else "")
            return (
                f"The {_name_entry(entry)} has changed ({', '.join(changed)}) "
                f"since {len(made)} finished cells in {place} were made from it ({shown}): give "
                "another --workdir, bring the data back to what they were, or remove the folders "
                "cells/KEY of these cells to have them done again."
            )
    return ""


def check_same_data(one: Mapping[str, Any], other: Mapping[str, Any], which: str) -> list[str]:
    """Returns the note on two results whose test tracks and labels are the same.

    Systems may be compared that were trained on different data, but not unawares.

    Args:
        one: result of a job.
        other: of another.
        which: the two, for messages.

    Raises:
        ConfigError: if the audio of the test has changed in between.
    """
    theirs, sentences = list_opened([other]), []
    for key, entry in list_opened([one]).items():
        changed = list_changes(entry, theirs[key]) if key in theirs else []
        name = strip_parents(entry["name"])
        if "audio of test" in changed:
            raise ConfigError(
                f"{which} were tested on different audio of the same tracks: the data set {name} "
                "was changed in between; train one of them anew."
            )
        if changed:
            sentences.append(
                f"{which} were made from two states of the data set {name}, which differ in "
                f"{', '.join(changed)}: the difference is one of the data too."
            )
    return sentences


def list_opened(results: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Returns key -> entry of every data set that finished results opened, each way once.

    Args:
        results: of jobs.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for result in results:
        for entry in result.get(DATA_FIELD) or ():
            found.setdefault(_how_opened(entry), entry)
    return found


def _name_entry(entry: Mapping[str, Any]) -> str:
    """Returns how a sentence names what an entry describes."""
    kind = "feature file" if "files" in entry else "data set"
    return f"{kind} {strip_parents(entry['name'])}"


def _how_opened(entry: Mapping[str, Any]) -> str:
    asked = {name: entry[name] for name in ("name", "sample_rate", "options")}
    return json.dumps(asked, sort_keys=True, default=str)
