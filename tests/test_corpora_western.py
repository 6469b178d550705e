"""magnatagatune, fma and lyra against the published files, and what their readers must not miss."""

import csv
import json
import shutil

import numpy as np
import pytest
from fake_corpora import make_fake, write_array, write_audio
from fake_western import MAGNATAGATUNE_ROWS, magnatagatune_path, make_fma, write_annotations
from musrep_jax.tfds_builders.fma.fma_dataset_builder import TOP20, TRUNCATED_TRACK_IDS
from musrep_jax.tfds_builders.lyra.lyra_dataset_builder import (
    DUPLICATE_LABELS,
    MERGED25,
    TOP30,
    draw_validation,
)
from musrep_jax.tfds_builders.magnatagatune.magnatagatune_dataset_builder import EMPTY_CLIPS, TOP50

from musrep_jax.command_line import main
from musrep_jax.data import ChunkSpec, open_dataset
from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.corpora.builder import corpus_folder
from musrep_jax.data.corpora.restricted_pickle import load_restricted_pickle
from musrep_jax.data.corpora.tracks import (
    count_labels,
    find_shared_sources,
    select_most_frequent_labels,
)
from musrep_jax.data.datasets import load_builder_class
from musrep_jax.data.doctor.quarantine import write_quarantine
from musrep_jax.data.input import pipeline
from musrep_jax.data.specs import SPLITS
from musrep_jax.models import create_model

# Positives per label in the order of the labels: train, validation, test. Source: the facts sheet
# of the cross-cultural code (sections 1.6 and 1.7).
FMA_POSITIVES = {
    "train": [5029, 4425, 2369, 1598, 1513, 1028, 1002, 915, 905, 805, 740, 710, 695, 690, 566, 557,
              557, 503, 487, 476],
    "validation": [673, 627, 299, 211, 233, 165, 134, 159, 124, 134, 108, 91, 99, 106, 91, 75, 89,
                   68, 78, 63],
    "test": [1396, 1259, 649, 441, 446, 325, 280, 275, 263, 247, 181, 203, 224, 192, 145, 159, 175,
             123, 132, 118],
}  # fmt: skip
LYRA_POSITIVES = {
    "train": [851, 845, 647, 600, 580, 416, 352, 291, 280, 277, 266, 231, 217, 217, 171, 171, 158,
              112, 112, 97, 86, 80, 69, 75, 64, 64, 55, 55, 55, 53],
    "validation": [94, 98, 64, 66, 61, 47, 33, 42, 32, 30, 34, 33, 30, 30, 14, 14, 21, 10, 10, 11,
                   9, 8, 12, 6, 5, 5, 9, 9, 6, 7],
    "test": [223, 277, 171, 186, 141, 156, 120, 64, 61, 38, 56, 39, 30, 30, 30, 30, 41, 38, 38, 36,
             8, 3, 42, 47, 15, 15, 10, 10, 10, 31],
}  # fmt: skip


def make(name, data_dir, config=None, folder=None):
    return load_builder_class(name)(data_dir=data_dir, config=config, folder=folder)


def sizes(builder):
    return {split: len(group) for split in SPLITS if (group := members(builder, split))}


def members(builder, split):
    return [track for track in builder.tracks if track.split == split]


def positives(builder):
    counts = count_labels(builder.tracks, builder.label_names)
    return {split: list(of_labels.values()) for split, of_labels in counts.items()}


def num_shared(tracks, kind, *splits):
    shared = find_shared_sources([track for track in tracks if track.split in splits])
    return len(shared[kind])


# MagnaTagATune.


def published_list(shared_dir, part):
    """Returns [(row, path)] of a published list."""
    texts = np.load(shared_dir / f"splits/ccml/magnatagatune/{part}.npy")
    return [(int(row), path) for row, path in (text.split("\t") for text in texts)]


@pytest.fixture(scope="module")
def annotations(shared_dir, tmp_path_factory):
    """The folder of a full-size table: the published clips on their rows, made-up ones between."""
    folder = tmp_path_factory.mktemp("magnatagatune")
    rows = [(f"{'0123456789ab'[n % 12]}/a{n}-b-01-c-0-29.mp3", ("guitar",)) for n in range(25863)]
    held_out = published_list(shared_dir, "valid") + published_list(shared_dir, "test")
    for index, (row, path) in enumerate(held_out):
        rows[row] = (path, (TOP50[index % 50],))
    free = [row for row, (path, _) in enumerate(rows) if path[0] in "0123456789ab"]
    for row in free[:200]:
        rows[row] = (f"c/none{row}-b-01-c-0-29.mp3", ("no singer",))
    for row, path in zip(free[200:], EMPTY_CLIPS, strict=False):
        rows[row] = (path, ("slow",))
    write_annotations(folder / "annotations_final.csv", rows)
    return folder


def test_magnatagatune_rule_gives_exactly_the_published_lists(annotations, shared_dir, tmp_path):
    builder = make("magnatagatune", tmp_path, folder=annotations)
    for part, split in (("valid", "validation"), ("test", "test")):
        published = {path for _, path in published_list(shared_dir, part)}
        assert {track.path for track in members(builder, split)} == published
        assert len(published) == builder.card.sizes[split]
    assert builder.card.sizes == {"train": 15247, "validation": 1529, "test": 4332}
    whole = make("magnatagatune", tmp_path, "top50-all-pcm16", annotations)
    assert len(whole.tracks) == 25863 == sum(whole.card.sizes.values())
    assert sum(not track.labels for track in whole.tracks) == 200
    assert not set(EMPTY_CLIPS) & {track.path for track in builder.tracks}
    assert set(EMPTY_CLIPS) <= {track.path for track in whole.tracks}


def test_magnatagatune_leakage_is_the_known_one(annotations, tmp_path):
    tracks = make("magnatagatune", tmp_path, folder=annotations).tracks
    held_out = [track for track in tracks if track.split != "train"]
    assert num_shared(held_out, "artist", "validation", "test") == 8
    assert num_shared(held_out, "album", "validation", "test") == 0
    assert num_shared(held_out, "recording", "validation", "test") == 0
    artists = {
        split: len({track.sources["artist"] for track in held_out if track.split == split})
        for split in ("validation", "test")
    }
    assert artists == {"validation": 26, "test": 75}
    assert all(track.seconds == 29.0 for track in held_out)


def test_magnatagatune_labels_are_the_published_list_and_not_the_other(shared_dir):
    published = np.load(shared_dir / "splits/ccml/magnatagatune/tags.npy")
    assert tuple(published.tolist()) == TOP50
    assert (TOP50[47], TOP50[48]) == ("metal", "female voice")


def test_magnatagatune_is_found_in_a_folder_mp3_too(tmp_path, capfd):
    folder = make_fake("magnatagatune", tmp_path / "files")
    (folder / "mp3").mkdir()
    for entry in "05bcdef689":
        shutil.move(folder / entry, folder / "mp3" / entry)
    builder = make("magnatagatune", tmp_path, "top50-all-pcm16", folder)
    assert all(track.path.startswith("mp3/") for track in builder.tracks)
    builder.build(num_workers=1)
    report = json.loads((builder.directory / "build_report.json").read_text("utf-8"))
    assert [row["path"] for row in report["refused"]] == sorted(f"mp3/{p}" for p in EMPTY_CLIPS)
    capfd.readouterr()


def test_magnatagatune_parts_of_the_fake(tmp_path):
    folder = make_fake("magnatagatune", tmp_path / "files")
    builder = make("magnatagatune", tmp_path, folder=folder)
    assert sizes(builder) == {"train": 5, "validation": 2, "test": 3}
    track = next(
        t for t in builder.tracks if t.path == magnatagatune_path("5", "bo", "loud_one", 0)
    )
    assert track.labels == ("loud", "weird", "metal")
    assert track.sources == {
        "artist": "bo",
        "album": "bo-loud_one",
        "recording": "bo-loud_one-01-a_song",
    }
    assert len(MAGNATAGATUNE_ROWS) == 13


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace('"choral"', '"chorale"'), "no column 'choral'"),
        (lambda text: text.replace('"2"\t', ""), "row 2 of .* fields instead of"),
        (lambda text: text.replace("0/ana", "x/ana"), "names no clip but 'x/ana"),
        (lambda text: "", "no column 'guitar'"),
    ],
)
def test_magnatagatune_says_what_is_wrong_with_the_table(change, says, tmp_path):
    folder = make_fake("magnatagatune", tmp_path / "files")
    path = folder / "annotations_final.csv"
    path.write_text(change(path.read_text("utf-8")), "utf-8")
    with pytest.raises(BuildError, match=says):
        make("magnatagatune", tmp_path, folder=folder).build()


# FMA.


@pytest.fixture(scope="module")
def fma(shared_dir, tmp_path_factory):
    """A folder with the published lists and genres."""
    folder = tmp_path_factory.mktemp("fma")
    (folder / "split").symlink_to(shared_dir / "splits/ccml/fma")
    return folder


def test_fma_lists_are_the_published_ones(fma, tmp_path):
    builder = make("fma", tmp_path, folder=fma)
    assert sizes(builder) == {"train": 17486, "validation": 2498, "test": 4996}
    assert sizes(builder) == builder.card.sizes
    assert positives(builder) == FMA_POSITIVES
    without = {
        split: sum(not track.labels for track in members(builder, split)) for split in SPLITS
    }
    assert without == {"train": 1478, "validation": 197, "test": 383}


def test_fma_labels_follow_from_the_published_rule(fma):
    genres = load_restricted_pickle(fma / "split/metadata.npy")
    train = np.load(fma / "split/train.npy")
    assert select_most_frequent_labels((genres[str(track)] for track in train), 20) == TOP20
    lists = [np.load(fma / f"split/{part}.npy") for part in ("train", "valid", "test")]
    listed = {str(track) for track in np.concatenate(lists)}
    assert set(genres) - listed == {f"{number:06d}" for number in TRUNCATED_TRACK_IDS}


def test_fma_official_split_and_artists_of_the_fake(tmp_path):
    folder = make_fake("fma", tmp_path / "files")
    random = make("fma", tmp_path, folder=folder)
    official = make("fma", tmp_path, "top20-official-pcm16", folder)
    assert sizes(random) == {"train": 8, "validation": 3, "test": 3}
    assert sizes(official) == {"train": 9, "validation": 4, "test": 2}
    assert num_shared(random.tracks, "artist", *SPLITS) == 1
    assert num_shared(official.tracks, "artist", *SPLITS) == 0
    assert num_shared(random.tracks, "album", *SPLITS) == 1, "-1 is no album"
    assert "143992" in {track.track_id for track in official.tracks}
    assert "000020" not in {track.track_id for track in official.tracks}
    shutil.rmtree(folder / "fma_metadata")
    assert sizes(make("fma", tmp_path, folder=folder)) == sizes(random)
    with pytest.raises(BuildError, match=r"tracks.csv, which is not there"):
        make("fma", tmp_path, "top20-official-pcm16", folder).build()


def test_fma_short_clip_is_refused(tmp_path, capfd):
    folder = make_fake("fma", tmp_path / "files")
    write_audio(folder / "fma_medium/000/000002.mp3", 12.0, 8000)
    builder = make("fma", tmp_path, folder=folder)
    builder.build(num_workers=1)
    assert "cut short: 12" in capfd.readouterr().out


def test_fma_genres_that_would_call_something_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("called",))

    folder = tmp_path / "files"
    make_fma(folder, 9)
    write_array(folder / "split/metadata.npy", {"000002": Evil()}, object)
    with pytest.raises(BuildError, match="cannot be read as a pickle of plain data"):
        make("fma", tmp_path, folder=folder).build()
    write_array(folder / "split/metadata.npy", {"000002": None}, object)
    with pytest.raises(BuildError, match="not the published table of genres"):
        make("fma", tmp_path, folder=folder).build()


# Lyra.


@pytest.fixture(scope="module")
def lyra(shared_dir, tmp_path_factory):
    """A folder with the published tables."""
    folder = tmp_path_factory.mktemp("lyra")
    (folder / "split").symlink_to(shared_dir / "splits/ccml/lyra")
    return folder


def test_lyra_tables_are_the_published_ones(lyra, shared_dir, tmp_path):
    builder = make("lyra", tmp_path, folder=lyra)
    assert sizes(builder) == builder.card.sizes == {"train": 1116, "validation": 124, "test": 330}
    assert positives(builder) == LYRA_POSITIVES
    hours = sum(track.seconds for track in builder.tracks) / 3600
    assert hours == pytest.approx(79.96, abs=0.005)
    with open(shared_dir / "splits/lyra/raw.tsv", encoding="utf-8") as file:
        raw = {row["id"] for row in csv.DictReader(file, delimiter="\t")}
    assert raw == {track.track_id for track in builder.tracks}


def test_lyra_labels_follow_from_the_published_rule(lyra, tmp_path):
    builder = make("lyra", tmp_path, folder=lyra)
    training = [
        track for track in builder.read_tracks("top30", "published") if track.split != "test"
    ]
    labels = [track.labels for track in training]
    assert select_most_frequent_labels(labels, 30) == TOP30
    assert len({name for names in labels for name in names}) == 133
    assert "place--None" in TOP30


def test_lyra_twins_are_the_same_label_twice(lyra, tmp_path):
    both = make("lyra", tmp_path, folder=lyra)
    merged = make("lyra", tmp_path, "merged25-published-log_mel", lyra)
    for place, genre in DUPLICATE_LABELS.items():
        assert [place in t.labels for t in both.tracks] == [genre in t.labels for t in both.tracks]
    assert len(MERGED25) == 25
    for one, other in zip(both.tracks, merged.tracks, strict=True):
        assert set(one.labels) - set(DUPLICATE_LABELS) == set(other.labels)


def test_lyra_validation_is_the_published_draw(lyra, tmp_path):
    drawn = draw_validation(1240)
    assert drawn[:8] == [123, 416, 326, 229, 307, 501, 74, 871]
    assert len(drawn) == 124
    builder = make("lyra", tmp_path, folder=lyra)
    assert num_shared(builder.tracks, "youtube", *SPLITS) == 53
    assert num_shared(builder.tracks, "youtube", "train", "test") == 0


def test_lyra_made_split_keeps_the_published_test_part(lyra, tmp_path):
    published = make("lyra", tmp_path, folder=lyra)
    made = make("lyra", tmp_path, "top30-source-log_mel", lyra)
    assert members(made, "test") == members(published, "test")
    assert num_shared(made.tracks, "youtube", *SPLITS) == 0
    assert 0.1 < len(members(made, "validation")) / 1240 < 0.3
    assert min(positives(made)["train"]) > 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "cannot be read as a numpy"),
        (lambda path: write_array(path, np.zeros((96, 126), np.float32)), "not one of the spectro"),
        (lambda path: write_array(path, np.zeros((128, 40), np.float32)), "cut short: 0.6 s of"),
        (lambda path: write_array(path, np.full((128, 126), np.nan, np.float32)), "not finite"),
        (lambda path: path.unlink(), "no such file"),
    ],
)
def test_lyra_damaged_spectrogram_is_refused_with_the_reason(change, reason, tmp_path, capfd):
    folder = make_fake("lyra", tmp_path / "files")
    change(folder / "mel-spectrograms/piece-13.npy")
    make("lyra", tmp_path, folder=folder).build(num_workers=1)
    said = capfd.readouterr().out
    assert "1 refused" in said and reason in said, said


def test_lyra_mels_are_kept_to_half_a_step_of_16_bits(tmp_path, capfd):
    folder = make_fake("lyra", corpus_folder(tmp_path, "lyra"))
    make("lyra", tmp_path).build(num_workers=1)
    dataset = open_dataset("lyra", data_dir=tmp_path)
    assert dataset.spec.stored_form == "log_mel" and dataset.spec.front_end["n_mels"] == 128
    tracks = dataset.tracks("test")
    stored = tracks.crop(0, 0, 126)
    original = np.load(folder / f"mel-spectrograms/{tracks[0]}.npy").T
    np.testing.assert_allclose(stored, original, atol=0.0313)
    capfd.readouterr()


# What holds for all of them.


@pytest.mark.parametrize(
    ("name", "path", "change", "says"),
    [
        ("fma", "split/train.npy", lambda p: p.write_bytes(p.read_bytes()[:90]), "cannot be read"),
        ("fma", "split/train.npy", lambda p: write_array(p, [{}], object), "cannot be read as a"),
        ("fma", "split/train.npy", lambda p: write_array(p, [1, 2]), "not a list of texts"),
        ("fma", "split/test.npy", lambda p: p.unlink(), "needs .*test.npy, which is not there"),
        ("lyra", "split/test.tsv", lambda p: p.write_bytes(b"\xff\xfe\tid\n"), "no table in UTF-8"),
        (
            "lyra",
            "split/test.tsv",
            lambda p: p.write_text("id\tplace\n"),
            "no column 'instruments'",
        ),
        (
            "lyra",
            "split/training.tsv",
            lambda p: p.write_text(p.read_text("utf-8") + "half a r", "utf-8"),
            "row 14 of .* has 1 fields instead of 9",
        ),
        (
            "lyra",
            "split/test.tsv",
            lambda p: p.write_text(p.read_text("utf-8").replace("\t120\t", "\tlater\t"), "utf-8"),
            "piece-12' has no start and end",
        ),
    ],
)
def test_damaged_metadata_are_one_sentence(name, path, change, says, tmp_path):
    folder = make_fake(name, tmp_path / "files")
    change(folder / path)
    with pytest.raises(BuildError, match=says) as raised:
        make(name, tmp_path, folder=folder).build()
    assert str(folder) in str(raised.value) and "\n" not in str(raised.value)


def test_quarantined_files_are_refused_and_the_data_set_is_another(tmp_path, capfd):
    make_fake("lyra", corpus_folder(tmp_path, "lyra"))
    before = make("lyra", tmp_path).spec()
    after = make("lyra", tmp_path)
    row = ("mel-spectrograms/piece-14.npy", "silent", "it is silent.")
    write_quarantine(after.quarantine_file, [row])
    assert before.fingerprint != after.spec().fingerprint
    after.build(num_workers=1)
    said = capfd.readouterr().out
    assert "piece-14.npy: is quarantined by musrep doctor: it is silent." in said


def test_a_built_corpus_opens_where_the_quarantine_list_is_another(tmp_path, capsys):
    make_fake("lyra", corpus_folder(tmp_path, "lyra"))
    make("lyra", tmp_path).build(num_workers=1)
    row = ("mel-spectrograms/piece-14.npy", "silent", "it is silent.")
    write_quarantine(make("lyra", tmp_path).quarantine_file, [row])
    capsys.readouterr()
    before = open_dataset("lyra", data_dir=tmp_path)
    assert "another quarantine list" in capsys.readouterr().err
    make("lyra", tmp_path).build(num_workers=1)
    after = open_dataset("lyra", data_dir=tmp_path)
    assert "quarantine" not in capsys.readouterr().err
    assert sum(before.spec.split_sizes.values()) == sum(after.spec.split_sizes.values()) + 1


def test_most_files_missing_is_one_sentence(tmp_path):
    folder = make_fake("magnatagatune", tmp_path / "files")
    for entry in "05bcdef":
        shutil.rmtree(folder / entry)
    with pytest.raises(BuildError, match=r"10 of the 10 files .*`musrep download magnatagatune`"):
        make("magnatagatune", tmp_path, folder=folder).build()


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("vgg_ish", {}),
        ("musicnn", {"n_mels": 128, "num_samples": 47744}),
        ("spectrogram_transformer", {"variant": "base"}),
    ],
)
def test_models_of_the_published_protocol_read_lyra(model, settings, tmp_path):
    made = create_model(model, 30, settings)
    chunk = ChunkSpec(made.sample_rate, made.num_samples, made.front_end)
    pipeline.check_compatible(make("lyra", tmp_path).spec(), chunk)
    with pytest.raises(pipeline.ChunkError):
        other = create_model("musicnn", 30)
        chunk = ChunkSpec(other.sample_rate, other.num_samples, other.front_end)
        pipeline.check_compatible(make("lyra", tmp_path).spec(), chunk)


@pytest.mark.slow
def test_from_magnatagatune_to_lyra_in_one_command(tmp_path, repository, monkeypatch, capfd):
    """The command of the README: sound as the source, spectrograms as the target."""
    for name in ("magnatagatune", "lyra"):
        make_fake(name, corpus_folder(tmp_path, name))
        make(name, tmp_path).build(num_workers=1)
    monkeypatch.chdir(repository)
    flags = [
        "--config=configs/transfer.py:smoke",
        f"--workdir={tmp_path / 'run'}",
        f"--config.data.data_dir={tmp_path}",
        "--config.source=magnatagatune",
        "--config.target=lyra",
        "--config.model.name=musicnn",
        "--config.model.num_samples=12000",
        "--config.model.vertical_channels=4",
        "--config.model.horizontal_channels=2",
        "--config.model.backend_channels=4",
        "--config.transfer.modes=output_layer",
        "--config.train.num_devices=1",
    ]
    assert main(["main.py", *flags]) == 0, capfd.readouterr().err
    cells = json.loads((tmp_path / "run/results.json").read_text("utf-8"))["cells"]
    cell = next(cell for cell in cells if cell["source"] == "magnatagatune")
    assert (cell["target"], cell["error"], cell["num_tracks"]) == ("lyra", None, 4)
    capfd.readouterr()
