"""Reads `labels.tsv`, the table that says which recording of a folder has which labels.

As a program it writes such a table from sub-folders that are named after their label:

    python -m musrep_jax.tfds_builders.audio_folder.label_table FOLDER
"""

import csv
import dataclasses
import io
import os
import pathlib
import sys
from collections import Counter
from collections.abc import Iterable, Sequence

from musrep_jax.data.audio.audio_files import walk_audio_files
from musrep_jax.data.specs import SPLITS
from musrep_jax.runtime.files import write_text
from musrep_jax.runtime.names import (
    find_case_variants,
    join_labels,
    normalize_name,
    normalize_path,
    split_labels,
)

TABLE_NAME = "labels.tsv"
SPLIT_ALIASES = {**{name: name for name in SPLITS}, "val": "validation", "valid": "validation"}
_MAX_LISTED_NAMES = 3


class TableError(ValueError):
    """The folder or its table is not as it should be; one sentence says what to do."""


NO_UNLABELED, ALL_UNLABELED = "none", "all"
UNLABELED_CHOICES = {
    NO_UNLABELED: "rows without labels are examples of none, in the splits",
    "rows": "rows without any label",
    "files": "rows without any label, and audio files that the table does not list",
    ALL_UNLABELED: "every audio file, with or without a row; no label of the table is read",
}
"""Option `unlabeled` -> the recordings of the split `UNLABELED`."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One recording.

    Attributes:
        path: of the file, relative to the folder, with forward slashes; NFC, whatever the disk has.
        labels: in the order of the table, normalized, without repetitions; may be empty.
        group: performer, recording or artist; the path itself where the table names none.
        split: one of `SPLITS`, or None when the table has no such column.
        licence: what the `license` column says, or "".
    """

    path: str
    labels: tuple[str, ...]
    group: str
    split: str | None
    licence: str


def read_label_table(folder: pathlib.Path) -> list[Row]:
    """Returns the rows of a folder's `labels.tsv`.

    The table is tab separated UTF-8 with a header; `path` and `labels` (comma separated, see
    `split_labels`) are needed, `group`, `split` and `license` are used where they are there, other
    columns are ignored. Every cell is text: a label `NA` or `null` is that label. Names and paths
    come in one spelling, see `musrep_jax.runtime.names`.

    Args:
        folder: that holds the table.

    Raises:
        TableError: if the folder or table is missing or empty, a column is missing, a path is
            repeated, a split is unknown or empty, two labels differ only by case, or no row has a
            label.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise TableError(f"{folder} {what}; give the folder that holds {TABLE_NAME}.")
    table = folder / TABLE_NAME
    if not table.is_file():
        raise TableError(_format_missing_table_hint(folder))
    return read_table_file(table)


def read_table_file(table: pathlib.Path, *, needs_labels: bool = True) -> list[Row]:
    """Returns the rows of a table of any name; its paths are relative to its folder.

    Args:
        table: see `read_label_table`.
        needs_labels: whether a table in which no row has a label is refused.

    Raises:
        TableError: as `read_label_table` does.
    """
    rows, has_split = _parse(table)
    if not rows:
        raise TableError(f"{table} lists no recordings: it has a header and no rows.")
    _check_paths(table, rows)
    _check_labels(table, rows, needs_labels=needs_labels)
    if has_split:
        _check_splits(table, rows)
    return rows


def find_unlisted_files(folder: pathlib.Path, rows: Iterable[Row]) -> list[str]:
    """Returns the audio files in a folder that its table does not list, sorted.

    A name that is not UTF-8 cannot be listed; its foreign bytes are shown as U+FFFD.
    """
    listed = {row.path for row in rows}
    found = (
        os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "replace")
        for path in _audio_files(folder)
    )
    return sorted(path for path in found if normalize_path(path) not in listed)


def list_rows(folder: pathlib.Path, unlabeled: str) -> list[Row]:
    """Returns the rows of a folder's table, and of files that it does not list where they count.

    Args:
        folder: that holds the recordings.
        unlabeled: a key of `UNLABELED_CHOICES`; only "all" does without a table.

    Raises:
        TableError: if there is no table where one is needed, or no recording.
    """
    table = folder / TABLE_NAME
    if unlabeled != ALL_UNLABELED or not folder.is_dir():
        rows = read_label_table(folder)
    else:
        rows = read_table_file(table, needs_labels=False) if table.is_file() else []
    if unlabeled in ("files", ALL_UNLABELED):
        names = [name for name in find_unlisted_files(folder, rows) if "\ufffd" not in name]
        rows = [
            *rows,
            *(Row(path=name, labels=(), group=name, split=None, licence="") for name in names),
        ]
    if not rows:
        raise TableError(f"{folder} holds no audio files, in no subfolder either.")
    return rows


def _parse(table: pathlib.Path) -> tuple[list[Row], bool]:
    """Returns the rows as they stand, and whether there is a split column."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(
            f"{table} is not UTF-8 text (byte {error.start}); save it as UTF-8, tab separated."
        ) from error
    if "\0" in text:
        raise TableError(
            f"{table} holds NUL characters, as UTF-16 has and no name; save it as UTF-8, tab "
            "separated."
        )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True)
    try:
        # strict: a stray quotation mark would else swallow the lines that follow it.
        lines = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise TableError(
            f"line {reader.line_num} of {table} is malformed ({error}); a cell that begins with a "
            "quotation mark must end with one, and quotation marks inside are doubled."
        ) from error
    header = [name.strip().lower() for name in lines[0][1]] if lines else []
    for needed in ("path", "labels"):
        if needed not in header:
            hint = "; it looks comma separated" if len(header) == 1 and "," in header[0] else ""
            raise TableError(
                f"{table} has no column {needed!r}{hint}: its first line must name the columns, "
                "separated by tabs, path and labels among them; "
                f"it has {', '.join(map(repr, header)) or 'no line at all'}."
            )
    repeated = [name for name, count in Counter(header).items() if name and count > 1]
    if repeated:
        raise TableError(f"{table} has two columns named {repeated[0]!r}; keep one.")
    rows = []
    for line, cells in lines[1:]:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) <= max(header.index("path"), header.index("labels")):
            raise TableError(
                f"line {line} of {table} has {len(cells)} column(s), but the header has "
                f"{len(header)}; separate the columns by tabs."
            )
        values = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        if not values["path"]:
            raise TableError(f"line {line} of {table} has no path; name a file or drop the line.")
        path = normalize_path(values["path"])
        split = values.get("split", "") if "split" in header else None
        if split is not None and split.lower() not in SPLIT_ALIASES:
            fix = "fill it in, or drop the column" if not split else "write train, validation, test"
            raise TableError(
                f"line {line} of {table} has the split {split!r}; allowed are "
                f"{', '.join(SPLIT_ALIASES)}: {fix}."
            )
        rows.append(
            Row(
                path=path,
                labels=tuple(split_labels(values["labels"])),
                group=normalize_name(values.get("group", "")) or path,
                split=None if split is None else SPLIT_ALIASES[split.lower()],
                licence=values.get("license", "") or values.get("licence", ""),
            )
        )
    return rows, "split" in header


def _check_paths(table: pathlib.Path, rows: Sequence[Row]) -> None:
    repeated = [path for path, count in Counter(row.path for row in rows).items() if count > 1]
    if repeated:
        raise TableError(
            f"{table} lists {_abbreviate_names(repeated)} more than once; keep one line per file, "
            "with all of its labels."
        )


def _check_labels(table: pathlib.Path, rows: Sequence[Row], *, needs_labels: bool) -> None:
    names = {name for row in rows for name in row.labels}
    if needs_labels and not names:
        raise TableError(f"{table} gives no recording a label: the labels column is empty.")
    for variants in find_case_variants(names):
        raise TableError(
            f"{table} has labels that differ only by case: {_abbreviate_names(variants)}; write "
            "them alike."
        )


def _check_splits(table: pathlib.Path, rows: Sequence[Row]) -> None:
    for split in SPLITS:
        members = [row for row in rows if row.split == split]
        if members and not any(row.labels for row in members):
            raise TableError(
                f"{table} gives none of the {len(members)} recordings in split {split!r} a label; "
                "label some of them, or drop the split column to have splits made."
            )
    if not any(row.split == "train" for row in rows):
        raise TableError(f"{table} puts no recording into the split 'train'; put some there.")


def _format_missing_table_hint(folder: pathlib.Path) -> str:
    if os.path.lexists(folder / TABLE_NAME):
        return f"{folder / TABLE_NAME} is no file, but a folder, a pipe or a link to none."
    others = sorted(path.name for path in folder.iterdir() if path.name.startswith("labels."))
    if others:
        return f"{folder} has {others[0]} but no {TABLE_NAME}: save it under that name, with tabs."
    classes = sorted({path.parent.name for path in _audio_files(folder) if path.parent != folder})
    if classes:
        return (
            f"{folder} has no {TABLE_NAME}; where its sub-folders "
            f"({_abbreviate_names(classes)}) are the labels, make one with: "
            f"python -m musrep_jax.tfds_builders.audio_folder.label_table {folder}"
        )
    if any(True for _ in _audio_files(folder)):
        return (
            f"{folder} has no {TABLE_NAME}: write one, tab separated, with the header path, labels "
            "and a line per recording."
        )
    return f"{folder} is empty: there is no {TABLE_NAME} and no audio file in it."


def _audio_files(folder: pathlib.Path) -> Iterable[pathlib.Path]:
    return (folder / path for path in sorted(walk_audio_files(folder)))


def _abbreviate_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED_NAMES} more" if len(names) > _MAX_LISTED_NAMES else ""
    return ", ".join(map(repr, names[:_MAX_LISTED_NAMES])) + more


def list_subfolder_rows(folder: pathlib.Path) -> list[Row]:
    """Returns the rows of a folder whose sub-folders are named after labels, sorted by path.

    A file directly in the folder is a recording without labels.

    Args:
        folder: without table.

    Raises:
        TableError: if there is no audio file in a sub-folder.
    """
    files = list(_audio_files(folder))
    if all(path.parent == folder for path in files):
        raise TableError(f"{folder} has no sub-folder with audio files in it.")
    rows = []
    for file in files:
        path = normalize_path(file.relative_to(folder).as_posix())
        labels = () if file.parent == folder else (normalize_name(file.parent.name),)
        rows.append(Row(path, labels, group=path, split=None, licence=""))
    return rows


def write_table_from_subfolders(folder: pathlib.Path) -> pathlib.Path:
    """Writes a `labels.tsv` that labels each file with the name of its folder; returns its path.

    Args:
        folder: whose sub-folders are named after labels.

    Raises:
        TableError: if there is a table already, or no audio file in a sub-folder.
    """
    table = folder / TABLE_NAME
    if table.exists():
        raise TableError(f"{table} exists already; it is not overwritten.")
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["path", "labels"])
    for row in list_subfolder_rows(folder):
        if row.labels:
            writer.writerow([row.path, join_labels(row.labels)])
    write_text(table, text.getvalue())
    return table


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    try:
        print("wrote", write_table_from_subfolders(pathlib.Path(sys.argv[1])))
    except TableError as error:
        raise SystemExit(str(error)) from None
