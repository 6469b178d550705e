"""Runs a tagger on many files: decoded ahead, packed into full batches, in the given order."""

import dataclasses
import functools
import os
import pathlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from musrep_jax.data.audio.decoders import DecodedFile, decode_files
from musrep_jax.data.audio.reading import AudioError, is_silent
from musrep_jax.data.doctor.diagnosis import find_audio_files
from musrep_jax.data.doctor.quarantine import escape_path, unescape_path
from musrep_jax.evaluation.aggregation import probabilities
from musrep_jax.inference.chunks import SILENT, AudioInputError, chunk_blocks
from musrep_jax.inference.encoder import LoadedEncoder
from musrep_jax.inference.layout import find_hub_name
from musrep_jax.inference.reading import is_pretrained
from musrep_jax.inference.tagger import LoadedTagger, load_tagger
from musrep_jax.store import FileIdentity, StoreWriter, identify_file
from musrep_jax.weights.pretrained import DEFAULT_MODEL, PREFIX


@dataclasses.dataclass
class FileResult:
    """The result of a tagger for a file; without chunks if the file failed or was skipped.

    Attributes:
        path: of the file. known: what was known about it beforehand; see `decode_files`.
        failure: why it could not be used, a sentence without the path; "" if it could.
        spans: (chunks, 2), start and end in seconds; padding is not part of them.
        logits: float32 (chunks, classes).
        embeddings: float32 (chunks, width).
        silent: (chunks,), whether a chunk is silent, so that it cannot be judged.
        seconds: length of the recording.
    """

    path: str
    known: Any = None
    failure: str = ""
    spans: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 2)))
    logits: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0), np.float32))
    embeddings: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0), np.float32))
    silent: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, bool))
    seconds: float = 0.0

    @property
    def is_silent(self) -> bool:
        """Whether the whole file is silent, so that it cannot be judged."""
        return len(self.silent) > 0 and bool(self.silent.all())


class _PendingFile:
    """A file that is being processed."""

    def __init__(self, file: DecodedFile) -> None:
        self.heard = FileResult(file.path, file.known)
        self.spans: list[tuple[int, int]] = []
        self.silent: list[bool] = []
        self.outputs: list[tuple[np.ndarray, np.ndarray]] = []
        self.is_read = False
        self.num_samples = 0

    def count(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            self.num_samples += len(block)
            yield block

    def is_done(self) -> bool:
        return self.is_read and (bool(self.heard.failure) or len(self.outputs) == len(self.spans))

    def close(self, sample_rate: int) -> FileResult:
        if not self.heard.failure and self.outputs:
            self.heard.spans = np.array(self.spans) / sample_rate
            self.heard.silent = np.array(self.silent)
            self.heard.seconds = self.num_samples / sample_rate
            logits, embeddings = zip(*self.outputs, strict=True)
            self.heard.logits, self.heard.embeddings = np.stack(logits), np.stack(embeddings)
            if not (np.isfinite(logits).all() and np.isfinite(embeddings).all()):
                self.heard.failure = "cannot be used: the model gives no finite numbers for it."
        return self.heard


def listen(
    tagger: LoadedEncoder,
    files: Iterable[DecodedFile],
    on_file: Callable[[], None] = lambda: None,
    on_chunk: Callable[[], None] = lambda: None,
) -> Iterator[FileResult]:
    """Yields the results of a tagger for files, in their order, equal to those of its methods.

    Args:
        tagger: the tagger.
        files: from `decode_files`, at the tagger's rate.
        on_file: called after the audio of each file has been taken.
        on_chunk: called for every chunk of it.

    Returns:
        An iterator with an entry for every file, also for those that fail.
    """
    order: deque[_PendingFile] = deque()
    owners: deque[_PendingFile] = deque()

    def chunks() -> Iterator[np.ndarray]:
        for file in files:
            opened = _PendingFile(file)
            order.append(opened)
            try:
                blocks = opened.count(file.blocks())
                for chunk, start, end in chunk_blocks(blocks, tagger.chunking):
                    opened.spans.append((start, end))
                    opened.silent.append(is_silent(chunk))
                    owners.append(opened)
                    on_chunk()
                    yield chunk
            except (AudioError, OSError) as error:
                opened.heard.failure = _reason(error)
            opened.is_read = True
            on_file()

    for output in tagger.run_chunks(chunks()):
        owners.popleft().outputs.append(output)
        while order and order[0].is_done():
            yield order.popleft().close(tagger.sample_rate)
    for opened in order:
        yield opened.close(tagger.sample_rate)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}."
    return error.reason


def run_files(
    tagger: LoadedEncoder,
    paths: Sequence[str],
    num_workers: int,
    *,
    look: Callable[[str], tuple[Any, bool]] = lambda path: (None, True),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[FileResult]:
    """Yields the results of a tagger for the files at these paths; see `decode_files`.

    Args:
        tagger: that is used for all.
        paths: of the files.
        num_workers: processes that decode.
        look: returns what is known about a file, and whether to process it.
        progress: called with the number of files read and the total, also while one is read: a long
            one is no reason to be silent.
    """
    num_read = 0

    def tell() -> None:
        progress(num_read, len(paths))

    def count() -> None:
        nonlocal num_read
        num_read += 1
        tell()

    num_workers = max(1, min(num_workers, len(paths)))
    files = decode_files(paths, tagger.sample_rate, num_workers, look)
    try:
        yield from listen(tagger, files, on_file=count, on_chunk=tell)
    finally:
        files.close()


def tag(path: str | os.PathLike, model: str | os.PathLike = DEFAULT_MODEL) -> dict[str, float]:
    """Returns the tags of a recording, most probable first, in one call: `tag("song.mp3")`.

    The model is opened once for all calls of a program. `load_tagger` and `run_files` do more.

    Args:
        path: of a recording in any format.
        model: as `load_tagger` takes it; the default is fetched at the first call and kept.

    Returns:
        Label -> probability, calibrated if the model is.

    Raises:
        AudioError: if the recording cannot be read, or is silent.
        BackboneError: if the model has no labels.
        ExportError: if it cannot be opened.
    """
    tagger = _open_once(str(model))
    tagger.check_head()
    (heard,) = run_files(tagger, [os.fspath(path)], 1)
    failure = heard.failure or (SILENT if heard.is_silent else "")
    if failure:
        raise AudioError(os.fspath(path), failure)
    scores = tagger.calibrate(tagger.join(heard.logits)).tolist()
    pairs = zip(tagger.labels, scores, strict=True)
    return dict(sorted(pairs, key=lambda pair: -pair[1]))


@functools.lru_cache(maxsize=2)
def _open_once(model: str) -> LoadedTagger:
    return load_tagger(model)


def find_recordings(places: Iterable[str | os.PathLike]) -> list[str]:
    """Returns the absolute paths of files and of the audio files below folders, each once.

    Args:
        places: files, taken as they are, and folders.

    Raises:
        AudioInputError: if one of them does not exist, or a folder holds no audio.
    """
    found: dict[str, None] = {}
    for place in map(pathlib.Path, places):
        path = place.expanduser().absolute()
        if path.is_dir():
            inside = [os.path.join(path, wanted.path) for wanted in find_audio_files(path)]
            if not inside:
                raise AudioInputError(f"There is no audio file in the folder {place}.")
            found |= dict.fromkeys(map(os.path.normpath, inside))
        elif path.exists() or path.is_symlink():
            found[os.path.normpath(path)] = None
        else:
            raise AudioInputError(f"There is no file or folder {place}.")
    return list(found)


@dataclasses.dataclass
class Tally:
    """Counts of how files were handled.

    Attributes:
        added: files that were embedded.
        known: files already present, unchanged.
        met: files whose content was present under another name or modification time.
        seconds: duration of the audio that was embedded.
        failed: (path, reason) of files that could not be used.
    """

    added: int = 0
    known: int = 0
    met: int = 0
    seconds: float = 0.0
    failed: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def describe_model(tagger: LoadedEncoder, export: str | os.PathLike) -> dict[str, Any]:
    """Returns the description of a model that a store records.

    Args:
        tagger: the model.
        export: its location, as `load_encoder` takes it.
    """
    card, place = tagger.card, str(export)
    if is_pretrained(place):
        place = f"{PREFIX}{place.removeprefix(PREFIX)}"
    elif not find_hub_name(place):
        place = os.path.abspath(place)
    return {
        "model": tagger.fingerprint,
        "name": f"{card['model']['name']} trained on {card['data']['name']}",
        "licence": card["data"]["licence"],
        "export": place,
        "labels": list(tagger.labels),
        "thresholds": dict(card.get("thresholds") or {}),
        "width": tagger.width,
        "sample_rate": tagger.sample_rate,
        "chunk_seconds": tagger.num_samples / tagger.sample_rate,
        "aggregate": card["aggregate"],
    }


def embed_files(
    writer: StoreWriter,
    tagger: LoadedEncoder,
    paths: Sequence[str],
    num_workers: int,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    on_failure: Callable[[str, str], None] = lambda path, reason: None,
) -> Tally:
    """Appends new files to a store, and returns how all files were handled.

    A file with the path, size and modification time of one in the store is not read. A file with
    the content of another is read but not decoded: it was moved, or is a copy. Silent files are not
    stored: searches would return them for labels and neighbors that they do not have.

    Args:
        writer: of the store, made with `describe_model`.
        tagger: the model.
        paths: of the files.
        num_workers: processes that decode.
        progress: called with the number of files done and the total.
        on_failure: called at once with path and reason of a file that cannot be used.
    """
    tally, claimed, turn = Tally(), set(), threading.Lock()
    todo = [path for path in paths if not _is_known(writer, path)]
    tally.known = len(paths) - len(todo)
    failures: dict[str, str] = {}

    def look(path: str) -> tuple[FileIdentity, bool]:
        identity = identify_file(path)
        with turn:
            is_new = not writer.has_content(identity.sha256) and identity.sha256 not in claimed
            claimed.add(identity.sha256)
        return identity, is_new

    def tell(done: int, _: int) -> None:
        progress(tally.known + done, len(paths))

    progress(tally.known, len(paths))
    for heard in run_files(tagger, todo, num_workers, look=look, progress=tell):
        identity: FileIdentity | None = heard.known
        path = escape_path(heard.path)
        facts = {} if identity is None else {"path": path, **dataclasses.asdict(identity)}
        reason = heard.failure or (SILENT if heard.is_silent else "")
        if not reason and not len(heard.spans):
            reason = failures.get(identity.sha256, "")  # of another file with the same content
        if reason:
            if identity is not None:
                failures[identity.sha256] = reason
            tally.failed.append((path, reason))
            on_failure(path, reason)
        elif len(heard.spans):
            whole, scores = np.zeros(0), heard.logits
            if isinstance(tagger, LoadedTagger):
                whole = tagger.join(heard.logits)
                scores = probabilities(scores, tagger.output) if tagger.has_head else scores
            writer.add(
                **facts,
                seconds=heard.seconds,
                spans=heard.spans,
                embedding=heard.embeddings.mean(axis=0),
                probabilities=whole,
                chunk_embeddings=heard.embeddings,
                chunk_probabilities=scores,
            )
            tally.added += 1
            tally.seconds += heard.seconds
        else:
            writer.record_location(
                **facts, path_exists=lambda place: os.path.exists(unescape_path(place))
            )
            tally.met += 1
    return tally


def _is_known(writer: StoreWriter, path: str) -> bool:
    try:
        stat = os.stat(path)
    except OSError:
        return False  # reported when the file is read
    return writer.has(escape_path(path), stat.st_size, stat.st_mtime_ns)
