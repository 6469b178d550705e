"""The local page's queries to a model and a store, one recording at a time, without web code."""

import os
import pathlib
import threading
import wave
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from musrep_jax.data.audio.decoders import DecodedFile, decode_files
from musrep_jax.data.audio.reading import AudioError, measure_length, read_audio
from musrep_jax.data.doctor.quarantine import unescape_path
from musrep_jax.inference.chunks import AudioInputError
from musrep_jax.inference.explanation import ExplanationError, compute_spectrogram
from musrep_jax.inference.folders import FileResult, listen
from musrep_jax.inference.tag_output import TagPredictor, about, describe
from musrep_jax.inference.tagger import BackboneError, LoadedTagger, choose_methods, make_map
from musrep_jax.pages.explanation import describe_maps
from musrep_jax.store import Store, StoreError, identify_file, rank_by_vector

EXPLAINED_SECONDS = 30.0
"""Of a recording, from its start, that are explained on the page."""
_NUM_EXPLAINED = 3


class RecordingError(ValueError):
    """A recording cannot be used; the message is one sentence that names it."""


class RequestCanceledError(Exception):
    """The request was canceled."""


class TaggingService:
    """A tagger, and perhaps a store of the same tagger, that answer for one recording at a time.

    Attributes:
        tags: the output format of tags: calibrated, if the model is.
        store: to search for nearest tracks; None for no search.
        max_seconds: length of a recording at most.
    """

    def __init__(self, tagger: LoadedTagger, store: Store | None, max_seconds: float) -> None:
        """Takes model and store.

        Args:
            tagger: the model.
            store: made with this very model, or None.
            max_seconds: length of a recording at most.

        Raises:
            StoreError: if another model made the store, or there is nothing to show: a backbone
                without a store has neither tags nor nearest tracks.
        """
        if store is not None and store.about["model"] != tagger.fingerprint:
            raise StoreError(
                f"{store.path} was made by another model ({store.about['name']}): serve that one, "
                "or embed the recordings with this one into another store."
            )
        if store is None and not tagger.has_head:
            raise StoreError(
                "this model is a backbone without output layer, which has no tags to show: give "
                "--store, made with `musrep embed`, to see nearest tracks."
            )
        self.tags = TagPredictor(tagger, is_raw=False)
        self.store = store
        self.max_seconds = max_seconds

    @property
    def tagger(self) -> LoadedTagger:
        """The model."""
        return self.tags.tagger

    def warm_up(self) -> None:
        """Compiles the one program that all recordings go through, whatever their length."""
        silence = np.zeros(self.tagger.model.num_samples, np.float32)
        for _ in self.tagger.run_chunks([silence]):
            pass

    def about(self) -> dict[str, Any]:
        """Returns model and store as JSON values."""
        card, store = self.tagger.card, self.store
        data, found = card["data"], about(self.tags)
        return found | {
            "model": (card.get("published") or {}).get("name") or found["model"],
            "trained_on": data["name"],
            "licence": data["licence"],
            "is_synthetic": data["is_synthetic"],
            "sample_rate": self.tagger.sample_rate,
            "chunk_seconds": self.tagger.model.num_samples / self.tagger.sample_rate,
            "max_seconds": self.max_seconds,
            "store": None if store is None else {"path": str(store.path), "tracks": len(store)},
        }

    def tag(self, path: str, name: str, k: int, is_over: threading.Event) -> dict[str, Any]:
        """Returns the tags of a recording, whole and over time, and its nearest tracks.

        Args:
            path: of the file.
            name: what it is called.
            k: nearest tracks at most.
            is_over: when it is set the work is given up.

        Returns:
            JSON values: name, seconds, is_silent, tags, chunks; and similar, if there is a store.

        Raises:
            RecordingError: if it cannot be read, or is too long.
            RequestCanceledError: when it was given up.
        """
        self._check_length(path, name)
        files = decode_files([path], self.tagger.sample_rate, 1)
        try:
            (heard,) = listen(self.tagger, [_LimitedFile(next(files), self, is_over)])
        finally:
            files.close()
        if heard.failure:
            raise _make_recording_error(path, name, heard.failure)
        found = describe(self.tags, name, heard, over_time=True)
        found = {"name": found.pop("path"), **found}
        if self.store is not None:
            nearest = [] if heard.is_silent else self._nearest(self.store, path, heard, k)
            found["similar"] = nearest
        return found

    def explain(
        self, path: str, name: str, tags: Sequence[str], is_over: threading.Event
    ) -> dict[str, Any]:
        """Returns maps of what tags of a recording rest on, for `drawMaps` in `static/maps.js`.

        Args:
            path: of the file.
            name: what it is called.
            tags: of the model's labels; empty for the most probable.
            is_over: when it is set the work is given up.

        Returns:
            JSON values, of the first `EXPLAINED_SECONDS`, see `describe_maps`.

        Raises:
            RecordingError: if it cannot be read, is too long or silent, or there is no such label.
            RequestCanceledError: when it was given up.
        """
        self._check_length(path, name)
        tagger, rate = self.tagger, self.tagger.sample_rate
        try:
            audio, _ = read_audio(
                path, sample_rate=rate, num_frames=int(EXPLAINED_SECONDS * rate), name=name
            )
            scores = tagger.predict(audio, rate)
            chosen = list(tags) or sorted(scores, key=lambda tag: -scores[tag])[:_NUM_EXPLAINED]
            found = []
            for method in choose_methods(tagger):
                if is_over.is_set():
                    raise RequestCanceledError
                found.append(make_map(tagger, audio, method, chosen))
        except AudioError as error:
            raise _make_recording_error(path, name, error.reason) from error
        except (AudioInputError, BackboneError, ExplanationError) as error:
            raise RecordingError(f"{name}: {error}") from error
        return describe_maps(compute_spectrogram(tagger, audio, rate), found, None)

    def _check_length(self, path: str, name: str) -> None:
        """Raises if a recording says that it is too long; nothing of it is decoded."""
        try:
            seconds = measure_length(path)
        except AudioError as error:
            raise _make_recording_error(path, name, error.reason) from error
        if seconds is not None and seconds > self.max_seconds:
            raise _make_recording_error(path, name, self.too_long)

    @property
    def too_long(self) -> str:
        """The message about a recording that is too long."""
        return (
            f"cannot be used: it is longer than {self.max_seconds / 60:g} minutes; cut it, or "
            "start the page with a larger --max-minutes."
        )

    def _nearest(self, store: Store, path: str, heard: FileResult, k: int) -> list[dict[str, Any]]:
        present = store.is_present()
        own = store.find_by_content(identify_file(path).sha256)
        if own is not None:
            present[own] = False
        embedding = heard.embeddings.mean(axis=0)
        rows, scores = rank_by_vector(store.embeddings, embedding, k, present=present)
        found = []
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
            track = store.track(row)
            found.append({
                "row": row,
                "name": os.path.basename(track["path"]),
                "path": track["path"],
                "score": score,
                "seconds": track["seconds"],
                "is_playable": self.find_track(row) is not None,
            })  # fmt: skip
        return found

    def find_track(self, row: int) -> pathlib.Path | None:
        """Returns where the file of a track of the store is; None if it is not as it was embedded.

        Args:
            row: of the store; only its own entries can be asked for, never a path.
        """
        if self.store is None or not 0 <= row < len(self.store):
            return None
        track = self.store.track(row)
        for place in (track["path"], *track["also"]):
            path = pathlib.Path(unescape_path(place))
            if path.is_file() and path.stat().st_size == track["size"]:
                return path
        return None

    def write_wav(self, path: str, name: str, wav: BinaryIO, is_over: threading.Event) -> None:
        """Writes a recording as the model hears it, mono at its rate, for a browser to play.

        Args:
            path: of the file.
            name: what it is called.
            wav: takes the file, 16 bit.
            is_over: when it is set the work is given up.

        Raises:
            RecordingError: if it cannot be read, or is too long.
            RequestCanceledError: when it was given up.
        """
        self._check_length(path, name)
        files = decode_files([path], self.tagger.sample_rate, 1)
        try:
            with wave.open(wav, "wb") as out:
                out.setparams((1, 2, self.tagger.sample_rate, 0, "NONE", ""))
                for block in _LimitedFile(next(files), self, is_over).blocks():
                    out.writeframes((np.clip(block, -1, 1) * 32767).astype("<i2").tobytes())
        except AudioError as error:
            raise _make_recording_error(path, name, error.reason) from error
        finally:
            files.close()


class _LimitedFile:
    """A `DecodedFile` whose audio ends in an error when it is too long or no longer wanted."""

    def __init__(
        self, file: DecodedFile, service: TaggingService, is_over: threading.Event
    ) -> None:
        self.path, self.known = file.path, file.known
        self._file, self._service, self._canceled = file, service, is_over

    def blocks(self) -> Iterator[np.ndarray]:
        left = self._service.max_seconds * self._service.tagger.sample_rate
        for block in self._file.blocks():
            if self._canceled.is_set():
                raise RequestCanceledError
            left -= len(block)
            if left < 0:
                raise AudioError(self.path, self._service.too_long)
            yield block


def _make_recording_error(path: str, name: str, reason: str) -> RecordingError:
    """Returns an error that names a file by its original name, not by its temporary path."""
    return RecordingError(f"{name} {reason.replace(path, name)}")
