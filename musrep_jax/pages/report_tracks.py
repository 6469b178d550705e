"""Test tracks to listen to on a page: their audio, and the tags that a model predicts."""

import base64
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from musrep_jax.config import ConfigError
from musrep_jax.data.audio.encoders import compress
from musrep_jax.data.datasets import Dataset, DatasetError, make_builder
from musrep_jax.experiments.reading import Run, read_scores
from musrep_jax.inference.chunks import AudioInputError
from musrep_jax.inference.explanation import compute_spectrogram
from musrep_jax.inference.tag_output import TagPredictor
from musrep_jax.inference.tagger import LoadedTagger, choose_methods, load_tagger, make_map
from musrep_jax.pages.explanation import describe_maps
from musrep_jax.reporting import results as cells_file
from musrep_jax.tasks.settings import get_builder_name
from musrep_jax.training.checkpoints import ExportError

MAX_SECONDS = 30.0
"""Of each track, from its start: about 250 kilobytes on the page."""
NUM_EXPLAINED = 3
"""Labels of a track that its maps show."""


@dataclasses.dataclass(frozen=True)
class PlayableTrack:
    """A track with its tags over time.

    Attributes:
        track_id: of the data set.
        audio: compressed, a file's bytes.
        media_type: of the audio.
        seconds: length of the audio.
        is_cut: whether the track is longer.
        true_labels: the labels in the data set.
        taggram: as `drawTaggram` in `static/taggram.js` takes it.
        maps: of what its tags rest on, as `drawMaps` in `static/maps.js` takes them; None for none.
    """

    track_id: str
    audio: bytes
    media_type: str
    seconds: float
    is_cut: bool
    true_labels: tuple[str, ...]
    taggram: Mapping[str, Any]
    maps: Mapping[str, Any] | None = None

    @property
    def url(self) -> str:
        """The audio as a data URL."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.audio).decode('ascii')}"


def find_best_cells(run: Run) -> list[str]:
    """Returns the finished cell with the highest ROC-AUC of every target, the best of them first.

    Only cells whose model is there; where something was carried, cells that something was carried
    to.

    Args:
        run: the workdir.
    """
    there = {
        name: result
        for name, result in run.results.items()
        if not cells_file.is_failed(result) and run.export_dir(name).is_dir()
    }
    carried = {name: result for name, result in there.items() if result.get("source")}
    ranked = sorted((carried or there).items(), key=lambda item: item[1]["roc_auc"], reverse=True)
    best: dict[str, str] = {}
    for name, result in ranked:
        best.setdefault(result["target"], name)
    return list(best.values())


def make_playable_tracks(
    run: Run, name: str, num_tracks: int, *, is_explained: bool = False
) -> tuple[list[PlayableTrack], str]:
    """Returns test tracks of a cell, evenly spread over the split, or why there are none.

    No data set is built or downloaded for a report.

    Args:
        run: the workdir.
        name: of the cell.
        num_tracks: how many at most.
        is_explained: whether they have maps of what their tags rest on.

    Returns:
        The tracks, and a sentence that is empty when there are some.
    """
    try:
        tagger = load_tagger(run.export_dir(name))
        test = read_scores(run, name)
        dataset = open_built_dataset(run, run.results[name]["target"], tagger)
    except (ConfigError, DatasetError, ExportError, ValueError, OSError) as error:
        return [], " ".join(str(error).split())
    tracks = dataset.tracks("test")
    rows = {track_id: row for row, track_id in enumerate(tracks.track_ids)}
    if not set(test.track_ids) <= set(rows):
        return [], (
            f"The data set {dataset.spec.name} in {dataset.directory} holds other test tracks than "
            "those of this run: it was built anew in between."
        )
    spread = np.linspace(0, len(test.track_ids) - 1, min(num_tracks, len(test.track_ids)))
    chosen = [test.track_ids[int(place)] for place in spread]
    return [
        play_track(tagger, dataset, rows[track_id], is_explained=is_explained)
        for track_id in chosen
    ], ""


def open_built_dataset(run: Run, target: str, tagger: LoadedTagger) -> Dataset:
    """Returns a data set of a run that is built on this machine.

    Args:
        run: the workdir.
        target: name of the data set.
        tagger: that will tag it; its card records the data set's state.

    Raises:
        DatasetError: if it is not here, is in another state, or holds no audio.
        ValueError: from the builder, when its material is not as it should be.
    """
    data = run.config.get("data") or {}
    options = dict((data.get("options") or {}).get(get_builder_name(target), {}))
    if get_builder_name(target) == "audio_folder" and data.get("labels"):
        options["labels"] = data["labels"]
    builder = make_builder(
        target,
        data_dir=data.get("data_dir"),
        sample_rate=tagger.sample_rate,
        seed=data.get("seed") or 0,
        **options,
    )
    known = tagger.card["data"]["fingerprint"]
    if not builder.is_built() or builder.spec().fingerprint != known:
        state = "another state of it is" if builder.directory.exists() else "nothing is"
        raise DatasetError(
            f"The data set {target} of this run is not on this machine ({state} in "
            f"{builder.directory}), so there is nothing to hear."
        )
    if builder.spec().stored_form == "log_mel":
        raise DatasetError(
            f"The data set {target} holds spectrograms only, so there is nothing to hear."
        )
    return Dataset(builder.directory, sample_rate=tagger.sample_rate, cache_megabytes=0)


def make_playable_track(
    tagger: LoadedTagger,
    name: str,
    audio: np.ndarray,
    true_labels: Sequence[str],
    *,
    is_explained: bool = False,
) -> PlayableTrack:
    """Returns a recording with its tags, its first `MAX_SECONDS` if it is longer.

    Args:
        tagger: that tags it.
        name: of the recording.
        audio: float32 (samples,), at the tagger's sample rate.
        true_labels: what holds of it.
        is_explained: whether it has maps of what its labels, or its most probable ones, rest on.
    """
    rate = tagger.sample_rate
    heard = audio[: int(MAX_SECONDS * rate)]
    spans, scores = tagger.predict_over_time(heard, rate)
    content, media_type = compress(heard, rate)
    # Silence, which cannot be judged, is drawn as no tag.
    tags, probabilities = (
        TagPredictor(tagger, is_raw=False), np.nan_to_num(tagger.calibrate(scores))
    )  # fmt: skip
    thresholds = {k: round(v, 3) for k, v in tags.thresholds.items()}
    return PlayableTrack(
        track_id=name,
        audio=content,
        media_type=media_type,
        seconds=len(heard) / rate,
        is_cut=len(heard) < len(audio),
        true_labels=tuple(true_labels),
        taggram={
            "labels": list(tagger.labels),
            "times": np.round(spans, 3).tolist(),
            "probabilities": np.round(probabilities, 3).tolist(),
            "chosen": [np.flatnonzero(row).tolist() for row in tags.choose(probabilities)],
            "thresholds": thresholds or None,
            "truth": tuple(true_labels),
        },
        maps=_make_maps(tagger, heard, true_labels) if is_explained else None,
    )


def _make_maps(
    tagger: LoadedTagger, audio: np.ndarray, true_labels: Sequence[str]
) -> dict[str, Any] | None:
    """Returns the maps of a recording for its labels, or its most probable ones."""
    rate = tagger.sample_rate
    try:
        scores = tagger.predict(audio, rate)
    except AudioInputError:  # silence, of which nothing is said
        return None
    best = sorted(scores, key=lambda label: (label not in true_labels, -scores[label]))
    tags = best[: max(2, min(len(true_labels), NUM_EXPLAINED))]
    found = [make_map(tagger, audio, method, tags) for method in choose_methods(tagger)]
    return describe_maps(compute_spectrogram(tagger, audio, rate), found, None)


def play_track(
    tagger: LoadedTagger, dataset: Dataset, row: int, *, is_explained: bool = False
) -> PlayableTrack:
    """Returns a track of the test split with its tags.

    Args:
        tagger: that tags it.
        dataset: at the tagger's sample rate.
        row: of the test split.
        is_explained: see `make_playable_track`.
    """
    tracks, names = dataset.tracks("test"), dataset.spec.label_names
    # One sample more than is heard, so that it is known whether the track is longer.
    length = min(int(tracks.num_samples[row]), int(MAX_SECONDS * tagger.sample_rate) + 1)
    true_labels = [names[column] for column in np.flatnonzero(tracks.label_matrix[row] > 0)]
    audio = tracks.crop(row, 0, length)
    return make_playable_track(
        tagger, tracks.track_ids[row], audio, true_labels, is_explained=is_explained
    )
