"""Folders of genres: artists from folders, a table or nowhere, and what does not belong there."""

import pytest
from fake_corpora import make_fake, write_audio

from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.datasets import load_builder_class


def open_builder(name, tmp_path, config=None):
    make_fake(name, tmp_path / "corpora" / name)
    return load_builder_class(name)(data_dir=tmp_path, config=config)


def test_a_folder_within_a_genre_is_an_artist_however_the_genre_is_spelled(tmp_path):
    tracks = open_builder("artists_1517", tmp_path).tracks
    assert len(tracks) == 4 * 19
    (one,) = [t for t in tracks if t.track_id.startswith("R&B_&_Soul/artist 2")]
    assert one.labels == ("r&b & soul",)
    assert one.sources == {"artist": "artist 2 of R&B_&_Soul"}


def test_no_artist_of_the_table_lies_in_two_parts(tmp_path):
    builder = open_builder("homburg", tmp_path)
    parts = {}
    for track in builder.tracks:
        assert parts.setdefault(track.sources["artist"], track.split) == track.split
    assert len(parts) == 18 and set(parts.values()) == {"train", "validation", "test"}


def test_artists_that_nobody_knows_are_no_sources(tmp_path):
    builder = open_builder("unique", tmp_path, "genres-stratified-pcm16")
    assert sum(track.sources == {} for track in builder.tracks) == 4 * 13
    assert all(len(track.labels) == 1 for track in builder.tracks)


@pytest.mark.parametrize("path", ["techno/song.wav", "song.wav"])
def test_a_recording_in_no_genre_is_refused_by_name(tmp_path, path):
    builder = open_builder("homburg", tmp_path)
    write_audio(builder.folder / "audio" / path, 0.1, 2000)
    with pytest.raises(BuildError, match=r"song\.wav lies in no folder of a genre of homburg"):
        builder.split_names()


def test_two_recordings_of_one_name_are_refused(tmp_path):
    builder = open_builder("homburg", tmp_path)
    write_audio(builder.folder / "audio/jazz/jazz0.flac", 0.1, 2000)
    with pytest.raises(BuildError, match=r"have the same name but for the suffix"):
        builder.split_names()
