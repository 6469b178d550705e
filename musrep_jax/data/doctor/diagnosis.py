"""The doctor: decodes every file of a folder or corpus once, and lists what should not be used.

The measurements of a file are kept next to the quarantine list (`NAME.checked.jsonl`), by path,
size and modification time: a second run is quick, and a killed one resumes. Nothing is ever changed
in the user's folder.
"""

import dataclasses
import json
import os
import pathlib
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from musrep_jax.data.audio.audio_files import lies_outside, walk_audio_files
from musrep_jax.data.doctor.findings import (
    FAULTS,
    NOTES,
    Finding,
    fault,
    find_contradictions,
    find_duplicates,
    find_outliers,
    judge,
    note,
)
from musrep_jax.data.doctor.measurement_workers import measure_files
from musrep_jax.data.doctor.measurements import FileMeasurements
from musrep_jax.data.doctor.quarantine import (
    escape_path,
    quarantine_path,
    read_quarantine_rows,
    write_quarantine,
)
from musrep_jax.runtime.files import write_text

_MEASUREMENT_VERSION = 3
"""Version of the measurements in `Facts`: a new one invalidates stored measurements."""
_READ_PERMISSION_BITS = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH


class DoctorError(ValueError):
    """There is nothing to examine; the message is one sentence."""


@dataclasses.dataclass(frozen=True)
class ExpectedFile:
    """A file that should be looked at.

    Attributes:
        path: relative to the folder, with forward slashes.
        track_id: by which the corpus knows it; "" in a folder.
        seconds: its length as the corpus' metadata tell it, or None.
        labels: as the corpus or the table of the folder has them; None where they are not known.
        split: that is given for it; "" for none.
    """

    path: str
    track_id: str = ""
    seconds: float | None = None
    labels: tuple[str, ...] | None = None
    split: str = ""


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """The findings of the doctor.

    Attributes:
        name: of the corpus or folder.
        folder: that was examined.
        facts: of every file that could be read, by its path.
        findings: sorted by path.
        num_files: that were looked for.
        num_cached: of those whose measurements were there from an earlier run.
        quarantine: the list, or None if none was asked for.
    """

    name: str
    folder: pathlib.Path
    facts: Mapping[str, FileMeasurements]
    findings: Sequence[Finding]
    num_files: int
    num_cached: int
    quarantine: pathlib.Path | None

    @property
    def is_healthy(self) -> bool:
        """Whether there is no fault."""
        return not any(finding.is_fault for finding in self.findings)

    def group_by_kind(self) -> dict[str, list[Finding]]:
        """Returns kind -> findings, for the kinds that occur, faults first."""
        found: dict[str, list[Finding]] = {kind: [] for kind in (*FAULTS, *NOTES)}
        for finding in self.findings:
            found[finding.kind].append(finding)
        return {kind: members for kind, members in found.items() if members}

    def summary(self) -> dict[str, Any]:
        """Returns counts as JSON values: files, hours, formats, rates, channels."""
        decoded = [facts for facts in self.facts.values() if facts.num_frames]

        def count(values: Iterable[Any]) -> dict[str, int]:
            return {str(value): number for value, number in Counter(values).most_common()}

        return {
            "files": self.num_files,
            "decoded": len(decoded),
            "hours": sum(facts.seconds for facts in decoded) / 3600,
            "bytes": sum(facts.size for facts in self.facts.values()),
            "faulty": len({finding.path for finding in self.findings if finding.is_fault}),
            "formats": count(facts.encoding for facts in decoded),
            "sample_rates": count(facts.sample_rate for facts in decoded),
            "channels": count(facts.channels for facts in decoded),
        }

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it as JSON values; names as `escape_path` gives them."""
        return {
            "format": 1,
            "name": self.name,
            "folder": escape_path(str(self.folder)),
            "summary": self.summary(),
            "counts": {kind: len(members) for kind, members in self.group_by_kind().items()},
            "findings": [
                {
                    "path": escape_path(finding.path),
                    "kind": finding.kind,
                    "severity": "fault" if finding.is_fault else "note",
                    "reason": finding.reason,
                }
                for finding in self.findings
            ],
            "quarantine": None if self.quarantine is None else escape_path(str(self.quarantine)),
        }


def examine(
    folder: pathlib.Path,
    wanted: Sequence[ExpectedFile],
    *,
    data_dir: pathlib.Path,
    name: str | pathlib.Path,
    known_bad: Mapping[str, str] | None = None,
    num_workers: int = 1,
    quarantine_duplicates: bool = False,
    write_list: bool = True,
    progress: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> Diagnosis:
    """Finds the faults of the files in a folder, and writes the quarantine list.

    Args:
        folder: that the paths are relative to; nothing in it is changed.
        wanted: the files, as `find_audio_files` or a corpus gives them.
        data_dir: root of the data sets, where the list goes.
        name: of a corpus, or the path of a folder; see `quarantine_path`.
        known_bad: path or track id -> reason.
        num_workers: processes that decode.
        quarantine_duplicates: list all but the first of files with the same audio.
        write_list: whether the quarantine list is written.
        progress: called with the number of files done and in all, and a file that takes long, in
            words, or "".

    Raises:
        DoctorError: if there is no such folder, or no file is wanted.
        OSError: if the list cannot be written.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DoctorError(f"the folder {folder} {what}; give the one that holds the audio.")
    if not wanted:
        raise DoctorError(f"there is no audio file in {folder}.")
    wanted = list({entry.path: entry for entry in wanted}.values())
    list_path = quarantine_path(data_dir, name)
    findings, present = _stat_files(folder, wanted)
    memory = _MeasurementCache(list_path.with_suffix(".checked.jsonl"))
    facts = {}
    for path, status in present.items():
        known = memory.recall(path, status)
        if known is not None:
            facts[path] = known
    num_cached = num_done = len(facts)
    progress(num_done, len(present), "")
    paths = {os.fspath(folder / path): path for path in present if path not in facts}

    def tell(pending: Sequence[str]) -> None:
        path = paths[pending[0]]
        megabytes = present[path].st_size / 1e6
        progress(num_done, len(present), f"at {escape_path(path)} ({megabytes:,.0f} MB)")

    with memory:
        for absolute, found in measure_files(list(paths), num_workers, tell) if paths else ():
            path = paths[absolute]
            if isinstance(found, OSError):
                findings.append(_unreadable(path, found))
            else:
                facts[path] = found
                if not found.is_ffmpeg_missing:  # it may be installed tomorrow
                    memory.keep(path, found)
            num_done += 1
            progress(num_done, len(present), "")
    expected = {entry.path: entry.seconds for entry in wanted}
    for path, entry in facts.items():
        findings += judge(path, entry, expected[path])
    findings += _known_bad(wanted, known_bad or {}, findings)
    bad = {finding.path for finding in findings if finding.is_fault}
    usable = {path: entry for path, entry in facts.items() if path not in bad}
    findings += find_duplicates(usable, is_fault=quarantine_duplicates)
    findings += find_contradictions(
        usable,
        {entry.path: entry.labels for entry in wanted if entry.labels is not None},
        {entry.path: entry.split for entry in wanted if entry.split},
    )
    findings += find_outliers({p: entry for p, entry in usable.items() if entry.num_frames})
    findings.sort()
    if write_list:
        listed = [(entry.path, entry.kind, entry.reason) for entry in findings if entry.is_listed]
        seen = {entry.path for entry in wanted}
        write_quarantine(list_path, [*_select_retained_rows(list_path, name, seen), *listed])
    return Diagnosis(
        name=name if isinstance(name, str) else escape_path(name.name),
        folder=folder,
        facts=dict(sorted(facts.items())),
        findings=findings,
        num_files=len(wanted),
        num_cached=num_cached,
        quarantine=list_path if write_list else None,
    )


def find_audio_files(folder: pathlib.Path) -> list[ExpectedFile]:
    """Returns the audio files below a folder, sorted: by their names, or by how they begin.

    Links to folders are followed, but not in a circle; hidden files are left out. A folder that may
    not be read stands in the list itself.

    Args:
        folder: to look through.
    """
    closed: list[str] = []
    found = [*walk_audio_files(folder, is_content_read=True, on_closed_folder=closed.append)]
    return [ExpectedFile(path) for path in sorted([*found, *closed])]


def _stat_files(
    folder: pathlib.Path, wanted: Sequence[ExpectedFile]
) -> tuple[list[Finding], dict[str, os.stat_result]]:
    """Returns what can be said without opening a file, and the files that can be opened."""
    findings, present = [], {}
    for entry in wanted:
        path = folder / entry.path
        if entry.labels is not None and lies_outside(folder, path) and os.path.exists(path):
            place = escape_path(os.path.realpath(path))
            findings.append(note(entry.path, "outside", f"it is {place}."))
        if not _is_utf8(entry.path):
            shown = f"it is shown as {escape_path(entry.path)}"
            findings.append(note(entry.path, "name", f"{shown}."))
        try:
            status = path.stat()
        except OSError as error:
            if os.path.islink(path):
                target = escape_path(os.readlink(path))
                findings.append(fault(entry.path, "dangling", f"it links to {target}."))
            elif isinstance(error, FileNotFoundError | NotADirectoryError):
                findings.append(fault(entry.path, "missing", "there is no such file."))
            else:
                findings.append(_unreadable(entry.path, error))
            continue
        if not status.st_mode & _READ_PERMISSION_BITS:
            mode = f"nobody may read it (mode {stat.S_IMODE(status.st_mode):03o})"
            findings.append(fault(entry.path, "unreadable", f"{mode}."))
        elif stat.S_ISDIR(status.st_mode):
            findings.append(fault(entry.path, "unreadable", "it is a folder that is closed to us."))
        elif not stat.S_ISREG(status.st_mode):
            findings.append(fault(entry.path, "dead", "it is no file, but a pipe or device."))
        else:
            present[entry.path] = status
    return findings, present


def _is_utf8(path: str) -> bool:
    return not any("\udc80" <= character <= "\udcff" for character in path)


def _unreadable(path: str, error: OSError) -> Finding:
    return fault(path, "unreadable", f"the system says: {error.strerror or error}.")


def _known_bad(
    wanted: Sequence[ExpectedFile], reasons: Mapping[str, str], findings: list[Finding]
) -> list[Finding]:
    """Returns a fault for each file that the corpus knows to be bad; such may well be missing."""
    known = {entry.path: reasons.get(entry.path) or reasons.get(entry.track_id) for entry in wanted}
    known = {path: reason for path, reason in known.items() if reason}
    findings[:] = [f for f in findings if f.kind != "missing" or f.path not in known]
    return [fault(path, "known_bad", reason) for path, reason in known.items()]


def _select_retained_rows(
    list_path: pathlib.Path, name: str | pathlib.Path, seen: Collection[str]
) -> list[tuple[str, str, str]]:
    """Returns the lines of a list that this run knows nothing of: those that a person wrote, with a
    fault of another name than ours, and the files of a corpus that another config has."""
    return [
        (path, kind, reason)
        for path, kind, reason in read_quarantine_rows(list_path)
        if kind not in FAULTS | NOTES or (isinstance(name, str) and path not in seen)
    ]


class _MeasurementCache:
    """Measurements of earlier runs: JSON lines, the last of which may be incomplete after a
    kill."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._lines: dict[str, str] = {}
        if not path.is_file():
            return
        with open(path, encoding="utf-8") as file:
            if file.readline() == self._header():
                whole = (line for line in file if line.endswith("}\n"))
                self._lines = {json.loads(line)["path"]: line for line in whole}

    @staticmethod
    def _header() -> str:
        return json.dumps({"measures": _MEASUREMENT_VERSION}) + "\n"

    def recall(self, path: str, status: os.stat_result) -> FileMeasurements | None:
        """Returns the stored measurements of a file that has not changed since."""
        line = self._lines.get(escape_path(path))
        if line is None:
            return None
        known = FileMeasurements.from_dict(json.loads(line)["facts"])
        is_same = (known.size, known.mtime_ns) == (status.st_size, status.st_mtime_ns)
        return known if is_same else None

    def keep(self, path: str, facts: FileMeasurements) -> None:
        """Appends the measurements of a file and flushes them."""
        entry = {"path": escape_path(path), "facts": facts.to_dict()}
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def __enter__(self) -> "_MeasurementCache":
        """Opens the file for appending; its complete lines stay."""
        write_text(self._path, self._header() + "".join(self._lines.values()))
        self._file = open(self._path, "a", encoding="utf-8")
        return self

    def __exit__(self, *error: Any) -> None:
        """Closes the file."""
        self._file.close()
