"""mtg_jamendo and million_song: what the published files say, and what the builders make of it."""

import hashlib
import json
import pickle

import numpy as np
import pytest
from fake_corpora import make_fake, write_array, write_audio
from fake_jamendo_msd import msd_id
from musrep_jax.tfds_builders.million_song import million_song_dataset_builder as million_song
from musrep_jax.tfds_builders.mtg_jamendo import mtg_jamendo_dataset_builder as mtg_jamendo
from musrep_jax.tfds_builders.mtg_jamendo.published_splits import SPLIT_FILES

from musrep_jax.data import open_dataset
from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.corpora.audio_index import index_audio
from musrep_jax.data.corpora.tracks import find_shared_sources

CHECKSUMS = "data/download/raw_30s_audio_sha256_tracks.txt"


def sizes_of(tracks):
    splits = [track.split for track in tracks]
    return {split: splits.count(split) for split in dict.fromkeys(splits)}


@pytest.fixture
def jamendo(tmp_path):
    """Returns (data_dir, folder) of a made-up MTG-Jamendo."""
    return tmp_path, make_fake("mtg_jamendo", tmp_path / "corpora/mtg_jamendo")


@pytest.fixture
def msd(tmp_path):
    """Returns (data_dir, folder) of a made-up Million Song Dataset."""
    return tmp_path, make_fake("million_song", tmp_path / "corpora/million_song")


def jamendo_builder(data_dir, config=None):
    return mtg_jamendo.Builder(data_dir=data_dir, config=config)


def msd_builder(data_dir, config=None):
    return million_song.Builder(data_dir=data_dir, config=config)


# MTG-Jamendo.


@pytest.fixture(scope="module")
def published_jamendo(shared_dir, tmp_path_factory):
    """The published files of split 0 where they belong; returns the data_dir."""
    data_dir = tmp_path_factory.mktemp("published")
    folder = data_dir / "corpora/mtg_jamendo/data/splits"
    folder.mkdir(parents=True)
    (folder / "split-0").symlink_to(shared_dir / "splits/mtg_jamendo")
    return data_dir


def test_sums_are_those_of_the_published_files(published_jamendo):
    folder = published_jamendo / "corpora/mtg_jamendo"
    there = [row for row in SPLIT_FILES if (folder / row.path).is_file()]
    assert len(there) == 6 and len(SPLIT_FILES) == 60
    for row in there:
        content = (folder / row.path).read_bytes()
        assert len(content) == row.size
        assert hashlib.sha256(content).hexdigest() == row.sha256


@pytest.mark.parametrize(
    ("labels", "sizes", "per_track", "hours"),
    [
        ("top50", (32136, 10888, 11356), (2.95, 3.41, 3.07), (2184, 704, 801)),
        ("moodtheme", (9949, 3802, 4231), (1.80, 1.66, 1.79), (611, 223, 261)),
    ],
)
def test_the_published_split_is_read_exactly(published_jamendo, labels, sizes, per_track, hours):
    builder = jamendo_builder(published_jamendo, f"{labels}-split0-encoded")
    parts = dict(zip(("train", "validation", "test"), range(3), strict=True))
    assert builder.card.sizes == {part: sizes[index] for part, index in parts.items()}
    for part, index in parts.items():
        tracks = [track for track in builder.tracks if track.split == part]
        assert len(tracks) == sizes[index]
        assert np.mean([len(t.labels) for t in tracks]) == pytest.approx(
            per_track[index], abs=0.006
        )
        assert sum(t.seconds for t in tracks) / 3600 == pytest.approx(hours[index], abs=0.51)
        assert all(label in builder.label_names for track in tracks for label in track.labels)
    facts = builder.extra_report_fields()
    assert facts["leakage"]["artist"] == facts["leakage"]["album"] == [] and not facts["notes"]
    if labels == "top50":
        positives = facts["positives"]["test"].values()
        assert (min(positives), max(positives)) == (176, 3525)


def test_tags_stand_in_the_order_of_the_published_models(shared_dir):
    tags = json.loads((shared_dir / "parity/tags_jamendo.json").read_text("utf-8"))
    label_sets = mtg_jamendo.Builder.LABEL_SETS
    assert list(label_sets["top50"]) == tags
    for labels in label_sets.values():
        assert list(labels) == sorted(labels)
    counts = {name: len(labels) for name, labels in label_sets.items()}
    assert counts == {"top50": 50, "genre": 87, "instrument": 40, "moodtheme": 56, "all": 183}


def test_the_parts_of_all_tags_are_all_tracks(tmp_path):
    for number in range(5):
        builder = jamendo_builder(tmp_path, f"all-split{number}-encoded")
        assert sum(builder.card.sizes.values()) == 55_525


def test_all_tags_are_those_of_the_three_categories(jamendo):
    data_dir, _ = jamendo
    tracks = {
        labels: {
            t.track_id: t for t in jamendo_builder(data_dir, f"{labels}-split3-encoded").tracks
        }
        for labels in mtg_jamendo.Builder.LABEL_SETS
    }
    for track_id, track in tracks["all"].items():
        parts = [tracks[labels][track_id] for labels in ("genre", "instrument", "moodtheme")]
        assert track.labels == tuple(label for part in parts for label in part.labels)
        assert {part.split for part in parts} == {track.split}
        assert sorted(track.labels) == sorted(tracks["top50"][track_id].labels)


def test_identical_recordings_of_two_artists_are_seen(jamendo):
    data_dir, folder = jamendo
    tracks = {track.split: track for track in jamendo_builder(data_dir).tracks}
    names = [
        track.path.removeprefix("audio/").replace(".low", "")
        for track in (tracks["train"], tracks["test"])
    ]
    (folder / CHECKSUMS).parent.mkdir(parents=True)
    (folder / CHECKSUMS).write_text("".join(f"{'ab' * 32} {name}\n" for name in names), "utf-8")
    builder = jamendo_builder(data_dir)
    shared = find_shared_sources(builder.tracks)
    assert shared["recording"] == [{"group": "ab" * 32, "splits": ["train", "test"]}]
    assert shared["artist"] == []
    assert any("LEAKAGE by recording" in note for note in builder.extra_report_fields()["notes"])


def test_low_quality_audio_is_used_where_there_is_no_other(tmp_path):
    for name in ("41/241.low.mp3", "41/241.mp3", "42/242.low.mp3", "43/.243.mp3", "43/notes.txt"):
        path = tmp_path / "audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert index_audio(tmp_path) == {"241": "audio/41/241.mp3", "242": "audio/42/242.low.mp3"}
    assert index_audio(tmp_path / "nowhere") == {}


def test_an_index_takes_what_every_folder_gives(tmp_path):
    """Any suffix of audio, and folders that are links; nothing hidden or thrown away."""
    real, audio = tmp_path / "real", tmp_path / "corpus" / "audio"
    for name in (
        "1.aiff",
        "2.WAV",
        "._2.wav",
        ".hidden/3.wav",
        ".Trashes/4.wav",
        "$RECYCLE.BIN/5.wav",
    ):
        (real / name).parent.mkdir(parents=True, exist_ok=True)
        (real / name).touch()
    (real / "notes.txt").touch()
    (real / "circle").symlink_to(real, target_is_directory=True)
    audio.mkdir(parents=True)
    (audio / "linked").symlink_to(real, target_is_directory=True)
    found = index_audio(tmp_path / "corpus")
    assert found == {"1": "audio/linked/1.aiff", "2": "audio/linked/2.WAV"}


def test_a_cut_and_a_missing_track_are_refused(jamendo, capfd):
    data_dir, folder = jamendo
    cut, missing, *_ = [t for t in jamendo_builder(data_dir).tracks if t.split == "train"]
    content = (folder / cut.path).read_bytes()
    (folder / cut.path).write_bytes(content[: len(content) // 2])
    (folder / missing.path).unlink()
    jamendo_builder(data_dir).build(num_workers=1)
    dataset = open_dataset("mtg_jamendo", data_dir=data_dir)
    reasons = {row["path"]: row["reason"] for row in dataset.report["refused"]}
    assert "truncated" in reasons[cut.path]
    assert len(reasons) == 2 and dataset.spec.split_sizes["train"] == 3
    assert dataset.spec.stored_form == "encoded"
    capfd.readouterr()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("TRACK_ID\tARTIST_ID\n", "does not begin with the columns TRACK_ID, ARTIST_ID, ALBUM_ID"),
        ("{header}\ntrack_1\tartist_1\n", r"row 2 of .*genre-train\.tsv has no five fields"),
        ("{header}\nt\ta\tb\t41/241.mp3\tlong\n", r"row 2 of .* length in seconds"),
    ],
)
def test_a_damaged_split_file_is_named(jamendo, content, message):
    data_dir, folder = jamendo
    path = folder / "data/splits/split-0/autotagging_genre-train.tsv"
    header = path.read_text("utf-8").splitlines()[0]
    path.write_text(content.format(header=header), "utf-8")
    with pytest.raises(BuildError, match=message):
        _ = jamendo_builder(data_dir, "genre-split0-encoded").tracks


# Million Song Dataset.


def test_tags_stand_in_the_order_of_the_published_lists(shared_dir):
    text = (shared_dir / "splits/msd/50tagList.txt").read_text("utf-8")
    assert list(million_song.CONVENTIONAL_TAGS) == text.split("\n")[:50]
    for tags, name in ((million_song.CONVENTIONAL_TAGS, "msd"), (million_song.CALS_TAGS, "cals")):
        assert list(tags) == json.loads(
            (shared_dir / f"parity/tags_{name}.json").read_text("utf-8")
        )
        assert len(set(tags)) == 50
    # The same name has another place: map by name.
    assert million_song.CONVENTIONAL_TAGS.index("indie") != million_song.CALS_TAGS.index("indie")


def test_sizes_are_the_published_ones():
    cards = million_song.Builder.SPLIT_CARDS
    assert cards["conventional"].sizes == {"train": 201680, "validation": 11774, "test": 28435}
    assert million_song.Builder.NUM_TRAIN == 201680
    labelled = {"train": 163504, "validation": 34730, "test": 34913}
    assert cards["cals"].sizes == {**labelled, "unlabelled": 516415}


def test_the_end_of_the_training_list_is_validation(msd, monkeypatch):
    monkeypatch.setattr(million_song.Builder, "NUM_TRAIN", 6)
    data_dir, _ = msd
    builder = msd_builder(data_dir)
    assert builder.config_name == "top50-conventional-encoded"
    expected = ["train"] * 6 + ["validation"] * 3 + ["test"] * 4
    assert {track.track_id: track.split for track in builder.tracks} == {
        msd_id(number): split for number, split in enumerate(expected)
    }
    for number, track in enumerate(builder.tracks):
        tags = million_song.CONVENTIONAL_TAGS
        assert track.labels == (tags[number % 3], tags[number % 3 + 3])
    leakage = builder.extra_report_fields()["leakage"]["artist"]
    assert leakage == [{"group": "Artist 4", "splits": ["validation", "test"]}]


def test_cals_shares_no_artist_and_has_an_unlabelled_part(msd, capfd):
    data_dir, _ = msd
    name = "cals50-cals-encoded"
    builder = msd_builder(data_dir, name)
    sizes = {"train": 6, "validation": 4, "test": 3, "unlabelled": 3}
    assert sizes_of(builder.tracks) == sizes and builder.split_names() == tuple(sizes)
    assert builder.extra_report_fields()["leakage"] == {"artist": []}
    builder.build(num_workers=1)
    dataset = open_dataset(f"million_song/{name}", data_dir=data_dir)
    assert dataset.spec.split_sizes == sizes
    assert dataset.spec.label_names == million_song.CALS_TAGS
    unlabelled = dataset.tracks("unlabelled")
    assert not unlabelled.label_matrix.any() and len(unlabelled) == 3
    test = dataset.tracks("test")
    for row, track_id in enumerate(test):
        assert test.label_matrix[row, int(track_id[-7:], 16) % 3] == 1
    assert sorted(test.groups) == ["Artist 5", "Artist 5", "Artist 6"]
    capfd.readouterr()


def test_audio_is_found_by_its_id(msd):
    data_dir, folder = msd
    flat, nested, *_ = msd_builder(data_dir).tracks
    assert flat.path == f"audio/{flat.track_id}.wav"
    assert nested.path == f"audio/A/A/A/{nested.track_id}.wav"
    (folder / nested.path).unlink()
    missing = msd_builder(data_dir).tracks[1]
    assert missing.path == f"audio/A/A/A/{nested.track_id}.mp3"


def test_unknown_artists_are_said_to_be_unknown(msd):
    data_dir, folder = msd
    (folder / "unique_tracks.txt").unlink()
    builder = msd_builder(data_dir)
    assert any("leakage is not seen" in note for note in builder.extra_report_fields()["notes"])
    (folder / "unique_tracks.txt").write_text("TRAAAAA128F0000000\tArtist\n", "utf-8")
    with pytest.raises(BuildError, match=r"line 1 of .*unique_tracks\.txt is not TRACK<SEP>"):
        _ = msd_builder(data_dir).tracks


def test_files_that_do_not_belong_together_are_named(msd):
    data_dir, folder = msd
    write_array(folder / "data/splits/valid_binaries.npy", np.zeros((3, 50)))
    with pytest.raises(BuildError, match=r"valid_binaries\.npy has the shape \(3, 50\)"):
        _ = msd_builder(data_dir, "cals50-cals-encoded").tracks
    path = folder / "MSD_split/msd_id_to_tag_vector.cP"
    path.write_bytes(pickle.dumps({msd_id(0): np.zeros(49)}))
    with pytest.raises(BuildError, match=r"has 49 instead of 50 tags for TRAAAAA128F0000000"):
        _ = msd_builder(data_dir).tracks
    path.write_bytes(pickle.dumps([msd_id(0)]))
    with pytest.raises(BuildError, match=r"msd_id_to_tag_vector\.cP is no dict of track ids"):
        _ = msd_builder(data_dir).tracks


def test_a_clip_that_is_too_short_is_refused(msd, capfd):
    data_dir, folder = msd
    track = msd_builder(data_dir).tracks[0]
    write_audio(folder / track.path, 15.0, 1000)
    msd_builder(data_dir).build(num_workers=1)
    (refused,) = open_dataset("million_song", data_dir=data_dir).report["refused"]
    assert refused["path"] == track.path and "15.0 s of the 29.1 s" in refused["reason"]
    capfd.readouterr()
