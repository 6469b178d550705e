"""Tables of features that others computed: one row of numbers for each track, found by its id.

| suffix | what it holds |
|---|---|
| `.npz` | arrays `track_ids` (text, one per track) and `features` (tracks, width) |
| `.npy` | features (tracks, width); the ids, a line each, in the same name with `.txt` |
| `.csv`, `.tsv` | a header; the column `track_id`, and a column for each feature |
| `.parquet` | the column `track_id`, and a column of numbers for each feature or one of lists |

Nothing that a file says is run: pickled objects are refused.
"""

import csv
import dataclasses
import pathlib
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

ID_COLUMN, IDS, FEATURES = "track_id", "track_ids", "features"
_UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, EOFError, csv.Error, zipfile.BadZipFile, zlib.error,
    MemoryError, OverflowError, NotImplementedError, RuntimeError,
)  # fmt: skip
"""What a file raises that is damaged, encrypted, of another kind or larger than memory."""


class FeatureTableError(ValueError):
    """A table cannot be read or does not fit; the message is one sentence."""


@dataclasses.dataclass(frozen=True)
class FeatureTable:
    """Features by track.

    Attributes:
        track_ids: one per row.
        features: float32 (tracks, width).
    """

    track_ids: Sequence[str]
    features: np.ndarray


def read_feature_table(path: str | pathlib.Path) -> FeatureTable:
    """Returns the table that a file holds.

    Args:
        path: of the file; its suffix says what it is.

    Raises:
        FeatureTableError: if there is none, or it is not what the suffix says.
    """
    path = pathlib.Path(path).expanduser()
    check_table_path(path)
    try:
        ids, features = _READERS[path.suffix.lower()](path)
    except FeatureTableError:
        raise
    except _UNREADABLE as e:
        raise FeatureTableError(f"{path} cannot be read as a table of features: {e}") from e
    ids, features = np.asarray(ids), np.asarray(features)
    if ids.dtype.kind not in "USiu" or ids.ndim != 1:
        raise FeatureTableError(f"{path}: track ids must be text, one for each row.")
    if features.ndim != 2 or features.dtype.kind not in "fiub" or 0 in features.shape:
        raise FeatureTableError(
            f"{path}: features are {features.dtype} of shape {features.shape}; they must be "
            "numbers, (tracks, width)."
        )
    if len(ids) != len(features):
        raise FeatureTableError(
            f"{path} has {len(ids)} track ids and {len(features)} rows of features; it must have "
            "as many of both."
        )
    try:
        names = [
            one.decode("utf-8") if isinstance(one, bytes) else str(one) for one in ids.tolist()
        ]
    except UnicodeDecodeError as error:
        raise FeatureTableError(f"{path}: a track id is not UTF-8: {error}.") from error
    with np.errstate(over="ignore"):  # what 32 bits cannot hold is not finite, and refused later
        return FeatureTable(names, features.astype(np.float32))


def check_table_path(path: str | pathlib.Path) -> None:
    """Raises unless a file of features is there.

    Args:
        path: of the file.

    Raises:
        FeatureTableError: if there is none, or its suffix is not one of those that are read.
    """
    path = pathlib.Path(path).expanduser()
    if path.suffix.lower() not in _READERS:
        raise FeatureTableError(
            f"{path} is no table of features by its suffix: take {', '.join(_READERS)}."
        )
    if not path.is_file():
        raise FeatureTableError(f"There is no file {path}.")


def match_tracks(table: FeatureTable, track_ids: Sequence[str], where: str) -> np.ndarray:
    """Returns the features of tracks, in their order; what the table has besides is passed over.

    Ids are compared in Unicode's composed form (NFC).

    Args:
        table: of features.
        track_ids: of the tracks.
        where: name of the table, for messages.

    Returns:
        float32 (tracks, width).

    Raises:
        FeatureTableError: if a track is not there or twice, or one of its features is not finite.
    """
    number: dict[str, int] = {}
    for row, name in enumerate(map(_compose, table.track_ids)):
        if number.setdefault(name, row) != row:
            raise FeatureTableError(
                f"{where} has track {name!r} twice, in rows {number[name] + 1} and {row + 1}; it "
                "must have each once."
            )
    missing = [name for name in track_ids if _compose(name) not in number]
    if missing:
        raise FeatureTableError(
            f"{where} lacks {len(missing)} of {len(track_ids)} tracks, such as {missing[0]!r}; its "
            f"own ids are such as {table.track_ids[0]!r}."
        )
    found = table.features[[number[_compose(name)] for name in track_ids]]
    is_finite = np.isfinite(found)
    if not is_finite.all():
        track, column = np.argwhere(~is_finite)[0]
        raise FeatureTableError(
            f"{where}: feature {column} of track {track_ids[track]!r} is {found[track, column]}; "
            f"all must be finite ({np.count_nonzero(~is_finite)} are not)."
        )
    return found


def _compose(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _read_npz(path: pathlib.Path) -> tuple[Any, Any]:
    if not zipfile.is_zipfile(path):
        raise FeatureTableError(f"{path} is no .npz file by its content: write it by numpy.savez.")
    with np.load(path, allow_pickle=False) as stored:
        lacking = {IDS, FEATURES} - set(stored.files)
        if lacking:
            raise FeatureTableError(
                f"{path} has no array {' and no '.join(sorted(lacking))}; it has "
                f"{', '.join(stored.files) or 'none'}."
            )
        return stored[IDS], stored[FEATURES]


def _read_npy(path: pathlib.Path) -> tuple[Any, Any]:
    names = path.with_suffix(".txt")
    if not names.is_file():
        raise FeatureTableError(
            f"{path} holds no track ids: write them to {names.name} beside it, a line for each row."
        )
    with path.open("rb") as file:
        if not file.read(6).startswith(b"\x93NUMPY"):
            raise FeatureTableError(
                f"{path} is no .npy file by its content: write it by numpy.save."
            )
    # Only a line's end separates ids; str.splitlines knows others, which names may have.
    ids = names.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    return ids, np.load(path, allow_pickle=False)


def _read_text(path: pathlib.Path) -> tuple[Any, Any]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        header = next(reader, [])
        place = _find_id_column(header, path)
        ids, rows = [], []
        for number, row in enumerate(reader, start=2):
            if len(row) != len(header):
                raise FeatureTableError(
                    f"line {number} of {path} has {len(row)} columns, and the header {len(header)}."
                )
            ids.append(row.pop(place))
            try:
                rows.append(np.array(row, np.float32))
            except ValueError as error:
                raise FeatureTableError(f"line {number} of {path}: {error}.") from error
    return ids, np.array(rows).reshape(len(rows), len(header) - 1)


def _read_parquet(path: pathlib.Path) -> tuple[Any, Any]:
    try:
        from pyarrow import ArrowException, parquet, types
    except ImportError as error:
        raise FeatureTableError(
            f"{path} is read by pyarrow, which is not installed: pip install "
            "'musrep_jax[parquet]', or write the table as .npz."
        ) from error
    try:
        table = parquet.read_table(path)
        ids = table.column(_find_id_column(table.column_names, path)).to_pylist()
        columns = [name for name in table.column_names if name != ID_COLUMN]
        if len(columns) == 1 and (
            types.is_list(table.schema.field(columns[0]).type)
            or types.is_fixed_size_list(table.schema.field(columns[0]).type)
            or types.is_large_list(table.schema.field(columns[0]).type)
        ):
            rows = table.column(columns[0]).to_pylist()
            widths = {len(row or ()) for row in rows}
            if len(widths) > 1:
                raise FeatureTableError(f"{path}: the lists of {columns[0]!r} differ in length.")
            return ids, np.array(rows, np.float32).reshape(len(rows), *widths)
        return ids, np.stack(
            [np.asarray(table.column(name).to_numpy(), np.float32) for name in columns], axis=1
        )
    except ArrowException as error:
        raise FeatureTableError(f"{path} cannot be read as a table: {error}") from error


def _find_id_column(names: Sequence[str], path: pathlib.Path) -> int:
    if list(names).count(ID_COLUMN) != 1 or len(names) < 2:
        raise FeatureTableError(
            f"{path} needs one column {ID_COLUMN!r} and a column for each feature; it has "
            f"{', '.join(map(repr, names[:5])) or 'none'}{', ...' if len(names) > 5 else ''}."
        )
    return list(names).index(ID_COLUMN)


_READERS: dict[str, Callable[[pathlib.Path], tuple[Any, Any]]] = {
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".csv": _read_text,
    ".tsv": _read_text,
    ".parquet": _read_parquet,
}
