"""Base class of the three corpora from Dunya: published lists and metadata of recordings."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.corpora.builder import GENERATED_SPLIT, CorpusBuilder
from musrep_jax.data.corpora.dunya import (
    AUDIO_FILE,
    RECORDING_FILE,
    SPLIT_LISTS,
    DunyaError,
    extract_seconds,
    extract_sources,
    labels_of,
    read_recording,
)
from musrep_jax.data.corpora.tracks import CorpusLoader, CorpusTrack, SplitCard
from musrep_jax.data.download.dunya_api import HOST, TOKEN_VARIABLE, read_refused

_MAX_LISTED_NAMES = 3


def dunya_split_cards(*, train: int, validation: int, test: int) -> Mapping[str, SplitCard]:
    """Returns the cards of the published split and of the two that are made here.

    Args:
        train: published number of recordings.
        validation: the same.
        test: the same.
    """
    return {
        "published": SplitCard(
            rule="70, 10 and 20 % of the recordings at random; nothing keeps an album or an artist "
            "in one part.",
            source="pxaris/ccml, for arXiv 2307.09795 (ISMIR 2023)",
            sizes={"train": train, "validation": validation, "test": test},
        ),
        "album": SplitCard(
            rule="made here of the published recordings: no release or concert in two parts.",
            disjoint_by="album",
        ),
        "artist": SplitCard(
            rule="made here of the published recordings: no lead artist in two parts; one who "
            "accompanies may be in several.",
            disjoint_by="artist",
        ),
    }


class DunyaBuilder(CorpusBuilder):
    """Base class of the corpora from Dunya; a subclass states its tradition, labels and cap.

    A recording without metadata is left out and named in the report; one without audio is refused,
    with Dunya's own reason where it gave one.
    """

    TRADITION = ""
    """Its name in the API."""
    LICENCE = (
        "CompMusic corpora: for research, non-commercial, by Dunya's terms of use; audio is "
        "commercial and given to registered users on request, and may not be passed on."
    )
    GROUP = "artist"

    def read_tracks(self, label_set: str, split_name: str) -> Sequence[CorpusTrack]:
        """Returns the recordings of the published lists that there are metadata of."""
        del label_set  # All labels are given; those of another set are dropped.
        is_generated = self.SPLIT_CARDS[split_name].is_generated
        tracks = []
        for split, path in SPLIT_LISTS.items():
            for mbid in self.read_list(path):
                file = self.folder / RECORDING_FILE.format(mbid=mbid)
                if not file.is_file():
                    continue
                try:
                    recording = read_recording(file)
                except DunyaError as error:
                    raise BuildError(str(error)) from error
                tracks.append(
                    CorpusTrack(
                        track_id=mbid,
                        path=AUDIO_FILE.format(mbid=mbid),
                        labels=labels_of(self.TRADITION, recording),
                        split=GENERATED_SPLIT if is_generated else split,
                        sources=extract_sources(self.TRADITION, recording),
                        seconds=extract_seconds(recording),
                    )
                )
        if not tracks:
            raise BuildError(
                f"{self.folder} has no recordings/MBID.json of {self.NAME}: fetch them with "
                f"`musrep download {self.NAME}`, with the token of your account at {HOST} in the "
                f"environment variable {TOKEN_VARIABLE}."
            )
        return tracks

    def track_loader(self) -> CorpusLoader:
        """Returns what decodes a recording; what Dunya refused is refused with its reason."""
        loader = super().track_loader()
        refused = {
            path: f"is not there: Dunya refused it ({reason})."
            for mbid, reason in self._read_refusals().items()
            if not (self.folder / (path := AUDIO_FILE.format(mbid=mbid))).is_file()
        }
        return dataclasses.replace(loader, refused={**refused, **loader.refused})

    def extra_report_fields(self) -> dict[str, Any]:
        """Adds the recordings that are left out because nothing is known of them."""
        facts = super().extra_report_fields()
        there = {track.track_id for track in self.tracks}
        listed = (mbid for path in SPLIT_LISTS.values() for mbid in self.read_list(path))
        refused = self._read_refusals()
        missing = {mbid: refused.get(mbid, "not fetched") for mbid in listed if mbid not in there}
        if missing:
            named = ", ".join(list(missing)[:_MAX_LISTED_NAMES])
            facts["notes"].append(
                f"{len(missing)} recordings of the published lists are left out, because there are "
                f"no metadata of them ({named}, ...); `musrep download {self.NAME}` tries again."
            )
        return {**facts, "without_metadata": missing}

    def _read_refusals(self) -> dict[str, str]:
        """Returns mbid -> status and reason of what Dunya would not give."""
        try:
            rows = read_refused(self.folder)
        except DunyaError as error:
            raise BuildError(str(error)) from error
        return {mbid: f"{status} {reason}".strip() for mbid, (status, reason, _) in rows.items()}
