"""Anyone's folder: its table, splits, report, and the sentence for everything that can be wrong."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from musrep_jax.tfds_builders.audio_folder.label_table import (
    read_label_table,
    write_table_from_subfolders,
)

from musrep_jax.data import DatasetError, open_dataset
from musrep_jax.data.datasets import make_builder
from musrep_jax.data.doctor.quarantine import quarantine_path, write_quarantine
from musrep_jax.data.splits import (
    SplitError,
    find_leakage,
    make_splits,
    merge_groups,
    missing_labels,
)

RATE = 16000


def _write_audio(path, seed, seconds=0.05, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * rate))
    soundfile.write(path, audio, rate)


def _write_table(folder, rows, header=("path", "labels", "group")):
    lines = ["\t".join(row) for row in [header, *rows]]
    (folder / "labels.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    """Twelve recordings in six groups, two labels; `solo` on half of the groups."""
    folder = tmp_path / "my recordings"
    rows = []
    for index in range(12):
        path = f"take {index:02d}.wav"
        _write_audio(folder / path, index)
        labels = "voice,solo" if index % 4 < 2 else "voice"
        rows.append((path, labels if index else f"{labels},Ney é", f"artist {index // 2}"))
    _write_table(folder, rows)
    return folder


def _open(folder, tmp_path, **options):
    return open_dataset(f"audio_folder:{folder}", data_dir=tmp_path / "data", **options)


def _edit(folder, old, new):
    table = folder / "labels.tsv"
    table.write_text(table.read_text("utf-8").replace(old, new), "utf-8")


def test_a_folder_becomes_a_data_set(folder, tmp_path, capsys):
    dataset = _open(folder, tmp_path)
    assert dataset.spec.name == "audio_folder:my recordings"
    assert dataset.spec.label_names == ("voice", "solo", "Ney é")
    assert sum(dataset.spec.split_sizes.values()) == 12
    groups = {}
    for split in ("train", "validation", "test"):
        tracks = dataset.tracks(split)
        assert tracks.label_matrix[:, 0].all() and tracks.label_matrix[:, 1].any()
        for index, (path, group) in enumerate(zip(tracks, tracks.groups, strict=True)):
            assert groups.setdefault(group, split) == split
            audio, _ = soundfile.read(folder / path, dtype="float32")
            assert tracks.num_samples[index] == len(audio)
            np.testing.assert_array_equal(tracks.crop(index, 0, len(audio)), audio)
    assert dataset.report["leakage"] == {"shared_groups": [], "identical_audio": []}
    printed = capsys.readouterr().out
    assert "building audio_folder:my recordings" in printed and "voice" in printed


def test_a_second_opening_builds_nothing_and_a_change_builds_again(folder, tmp_path, capsys):
    first = _open(folder, tmp_path)
    capsys.readouterr()
    again = _open(folder, tmp_path)
    assert capsys.readouterr().out == "" and again.spec == first.spec
    _write_audio(folder / "take 03.wav", 99, seconds=0.1)
    changed = _open(folder, tmp_path)
    assert "has changed" in capsys.readouterr().out
    assert changed.directory == first.directory
    assert changed.spec.fingerprint != first.spec.fingerprint
    lengths = [
        length for split in changed.spec.split_sizes for length in changed.tracks(split).num_samples
    ]
    assert sorted(lengths)[-1] == 1600
    other_rate = _open(folder, tmp_path, sample_rate=8000)
    assert other_rate.directory != first.directory
    assert other_rate.tracks("train").num_samples.max() <= 800


def test_splits_given_are_kept_and_those_that_lack_are_made(tmp_path):
    folder = tmp_path / "f"
    rows = []
    for index in range(10):
        _write_audio(folder / f"{index}.wav", index)
        rows.append((f"{index}.wav", "a", "test" if index < 2 else "train"))
    _write_table(folder, rows, ("path", "labels", "split"))
    dataset = _open(folder, tmp_path)
    assert sorted(dataset.tracks("test")) == ["0.wav", "1.wav"]
    assert dataset.spec.split_sizes["validation"] == 2
    assert any("taken out of train" in note for note in dataset.report["notes"])
    _edit(folder, "9.wav\ta\ttrain", "9.wav\ta\tval")
    assert sorted(_open(folder, tmp_path).tracks("validation")) == ["9.wav"]


def test_leakage_between_given_splits_is_reported(tmp_path, capsys):
    folder = tmp_path / "f"
    for index in range(4):
        _write_audio(folder / f"{index}.wav", min(index, 2))
    splits = ("train", "validation", "test", "train")
    groups = ("x", "x", "y", "z")
    rows = [(f"{i}.wav", "a", groups[i], splits[i]) for i in range(4)]
    _write_table(folder, rows, ("path", "labels", "group", "split"))
    leakage = _open(folder, tmp_path).report["leakage"]
    assert leakage["shared_groups"] == [{"group": "x", "splits": ["train", "validation"]}]
    assert leakage["identical_audio"] == [
        {"tracks": ["2.wav", "3.wav"], "splits": ["train", "test"]}
    ]
    assert capsys.readouterr().out.count("LEAKAGE") == 2


def test_copies_of_a_file_stay_in_one_split(tmp_path):
    folder = tmp_path / "f"
    for index in range(20):
        _write_audio(folder / f"{index}.wav", index // 2)
    _write_table(folder, [(f"{i}.wav", "a") for i in range(20)], ("path", "labels"))
    dataset = _open(folder, tmp_path)
    assert dataset.report["leakage"]["identical_audio"] == []
    assert set(dataset.spec.split_sizes) == {"train", "validation", "test"}


def test_bad_files_are_listed_and_the_rest_is_built(folder, tmp_path, capsys):
    (folder / "take 00.wav").unlink()
    (folder / "take 01.wav").write_bytes(b"")
    (folder / "take 02.wav").write_text("no audio")
    _write_audio(folder / "not listed.flac", 1)
    with open(os.fsencode(folder) + b"/caf\xe9.wav", "wb") as file:
        file.write(b"x")
    dataset = _open(folder, tmp_path)
    refused = {row["path"]: row["reason"] for row in dataset.report["refused"]}
    assert sorted(refused) == ["take 00.wav", "take 01.wav", "take 02.wav"]
    assert "no such file" in refused["take 00.wav"] and "0 bytes" in refused["take 01.wav"]
    assert sum(dataset.spec.split_sizes.values()) == 9
    notes = " ".join(dataset.report["notes"])
    assert "does not list: 2 (caf\ufffd.wav, not listed.flac)" in notes and "UTF-8" in notes
    assert "labels without a recording in train: 1 (Ney é)" in notes
    assert "3 refused" in capsys.readouterr().out


def test_what_the_doctor_has_listed_is_refused(folder, tmp_path):
    first = _open(folder, tmp_path)
    path = quarantine_path(tmp_path / "data", folder)
    write_quarantine(path, [("take 03.wav", "clipped", "it is clipped."), ("x.wav", "dead", "no")])
    dataset = _open(folder, tmp_path)
    assert dataset.report["refused"] == [
        {"path": "take 03.wav", "reason": "is quarantined by musrep doctor: it is clipped."}
    ]
    assert sum(dataset.spec.split_sizes.values()) == 11
    write_quarantine(path, [])
    assert _open(folder, tmp_path).spec == first.spec


def test_the_size_is_told_before(folder, tmp_path):
    builder = make_builder(f"audio_folder:{folder}", data_dir=tmp_path / "data", sample_rate=8000)
    assert builder.estimate_bytes() == pytest.approx(12 * 0.05 * 8000 * 2, abs=2)
    _write_audio(folder / "take 00.ogg", 0, seconds=20)
    _edit(folder, "take 00.wav", "take 00.ogg")
    builder = make_builder(f"audio_folder:{folder}", data_dir=tmp_path / "data", sample_rate=8000)
    (folder / "take 01.wav").write_bytes(b"no audio")
    assert 0.5 < builder.estimate_bytes() / ((11 * 0.05 + 20) * 8000 * 2) < 1.1


def test_every_delivered_format_is_built_or_listed(shared_dir, tmp_path, without_ffmpeg):
    formats = shared_dir / "data" / "formats"
    with open(formats / "expected.tsv", newline="", encoding="utf-8") as file:
        expected = {row["file"]: row for row in csv.DictReader(file, delimiter="\t")}
    folder = tmp_path / "formats"
    folder.mkdir()
    rows = [(str(formats / name), f"label {index % 3}") for index, name in enumerate(expected)]
    _write_table(folder, rows, ("path", "labels"))
    dataset = _open(folder, tmp_path)
    refused = {os.path.basename(row["path"]) for row in dataset.report["refused"]}
    is_whole = {n: row["peak"] and "truncated" not in row["note"] for n, row in expected.items()}
    assert refused == {name for name, is_it in is_whole.items() if not is_it}
    assert all(row["reason"].startswith("cannot be ") for row in dataset.report["refused"])
    assert sum(dataset.spec.split_sizes.values()) == len(expected) - len(refused)
    for split in dataset.spec.split_sizes:
        tracks = dataset.tracks(split)
        for path, length in zip(tracks, tracks.num_samples, strict=True):
            row = expected[os.path.basename(path)]
            tolerance = 0.15 if row["format"].startswith("MP3") else 2 / RATE
            assert length / RATE == pytest.approx(float(row["seconds"]), abs=tolerance)
    assert "dubstep.ogg" in " ".join(dataset.report["scaled"])


def test_labels_can_be_chosen(folder, tmp_path):
    assert _open(folder, tmp_path, label_prefix="so").spec.label_names == ("solo",)
    assert _open(folder, tmp_path, labels="solo, voice").spec.label_names == ("voice", "solo")
    assert _open(folder, tmp_path, min_positives=2).spec.label_names == ("voice", "solo")
    for options, message in [
        ({"labels": ["sol"]}, "no label 'sol'; it has Ney é, solo, voice"),
        ({"label_prefix": "x"}, "begins with 'x'"),
        ({"label_prefx": "x"}, "Did you mean 'label_prefix'"),
    ]:
        with pytest.raises(ValueError, match=message):
            _open(folder, tmp_path, **options)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("labels", "tags", "no column 'labels'"),
        ("\tlabels\tgroup", ",labels,group", "no column 'path'; it looks comma separated"),
        ("take 01.wav", "./take 00.wav", "lists 'take 00.wav' more than once"),
        ("take 01.wav\tvoice,solo", "take 01.wav\tVoice", "differ only by case: 'Voice', 'voice'"),
        ("group", "split", "line 2 of .* has the split 'artist 0'; allowed are train"),
        ("take 01.wav\t", "\t", "line 3 of .* has no path"),
        ("take 01.wav\tvoice,solo\tartist 0", "take 01.wav", "line 3 of .* has 1 column"),
        ("take 01.wav", '"take 01.wav', "malformed"),
        ("group", "labels", "two columns named 'labels'"),
    ],
)
def test_tables_that_are_wrong_are_refused_with_a_sentence(folder, tmp_path, old, new, message):
    _edit(folder, old, new)
    with pytest.raises(ValueError, match=message) as caught:
        _open(folder, tmp_path)
    assert "\n" not in str(caught.value) and str(folder / "labels.tsv") in str(caught.value)


def test_folders_without_a_table_are_advised(tmp_path):
    for name, message in [("nowhere", "does not exist"), ("", "needs a folder")]:
        with pytest.raises(ValueError, match=message):
            _open(tmp_path / name if name else "", tmp_path)
    folder = tmp_path / "f"
    folder.mkdir()
    with pytest.raises(ValueError, match="is empty"):
        _open(folder, tmp_path)
    _write_audio(folder / "a.wav", 0)
    with pytest.raises(ValueError, match=r"has no labels\.tsv: write one"):
        _open(folder, tmp_path)
    (folder / "labels.csv").write_text("path,labels\n")
    with pytest.raises(ValueError, match=r"has labels\.csv but no labels\.tsv"):
        _open(folder, tmp_path)
    (folder / "labels.csv").unlink()
    (folder / "labels.tsv").write_text("path\tlabels\n")
    with pytest.raises(ValueError, match="lists no recordings"):
        _open(folder, tmp_path)
    (folder / "labels.tsv").write_text("path\tlabels\na.wav\t\n")
    with pytest.raises(ValueError, match="the labels column is empty"):
        _open(folder, tmp_path)
    (folder / "labels.tsv").write_bytes("path\tlabels\na.wav\tné\n".encode("latin-1"))
    with pytest.raises(ValueError, match="not UTF-8"):
        _open(folder, tmp_path)
    (folder / "labels.tsv").write_text("path\tlabels\na.wav\tx\n")
    with pytest.raises(SplitError, match="1 tracks in 1 group"):
        _open(folder, tmp_path)
    (folder / "a.wav").write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of the 1 files .* can be read; a\.wav"):
        _open(folder, tmp_path)


def test_the_table_can_be_made_from_subfolders(tmp_path, repository):
    folder = tmp_path / "by class"
    for index in range(12):
        _write_audio(folder / ("ney", "ud")[index % 2] / f"{index}.wav", index)
    with pytest.raises(ValueError, match=r"sub-folders \('ney', 'ud'\).*label_table"):
        _open(folder, tmp_path)
    command = [
        sys.executable,
        "-m",
        "musrep_jax.tfds_builders.audio_folder.label_table",
        str(folder),
    ]
    subprocess.run(command, check=True, cwd=repository, capture_output=True)
    dataset = _open(folder, tmp_path)
    assert dataset.spec.label_names == ("ney", "ud")
    assert "ney/0.wav" in {
        path for split in dataset.spec.split_sizes for path in dataset.tracks(split)
    }
    again = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert again.returncode == 1 and "not overwritten" in again.stderr


@pytest.mark.parametrize("where", ["table", "files"])
def test_a_split_whose_labels_are_all_missing_is_refused(tmp_path, where):
    folder = tmp_path / "f"
    splits = ("train", "train", "validation", "test", "test")
    rows = []
    for index, split in enumerate(splits):
        _write_audio(folder / f"{index}.wav", index)
        labels = "a" if split != "test" or (where == "files" and index == 3) else ""
        rows.append((f"{index}.wav", labels, split))
    if where == "files":
        (folder / "3.wav").write_bytes(b"")
    _write_table(folder, rows, ("path", "labels", "split"))
    with pytest.raises((ValueError, DatasetError), match="split 'test'"):
        _open(folder, tmp_path)
    assert not list((tmp_path / "data").glob("audio_folder/*/1.0.0"))


def test_splits_are_disjoint_by_group_and_cover_the_labels():
    rng = np.random.default_rng(0)
    groups = [f"g{number}" for number in rng.integers(0, 40, 300)]
    of_group = {group: rng.random(6) < 0.3 for group in set(groups)}
    labels = np.array([of_group[group] & (rng.random(6) < 0.8) for group in groups])
    splits = make_splits(groups, labels, seed=1)
    assert find_leakage(groups, groups, [""] * 300, splits)["shared_groups"] == []
    assert missing_labels(labels, range(6), splits) == {
        "train": [],
        "validation": [],
        "test": [],
    }
    share = {name: splits.count(name) / 300 for name in set(splits)}
    assert share["train"] == pytest.approx(0.6, abs=0.06)
    assert share["test"] == pytest.approx(0.25, abs=0.06)
    assert splits == make_splits(groups, labels, seed=1) != make_splits(groups, labels, seed=2)
    of_train = labels[np.array(splits) == "train"].sum(axis=0) / labels.sum(axis=0)
    assert (np.abs(of_train - 0.6) < 0.2).all()


def test_splits_of_hard_cases():
    single = np.eye(6)
    splits = make_splits(list("abcdef"), single, seed=0)
    assert sorted(set(splits)) == ["test", "train", "validation"]
    assert splits.count("train") >= 3
    assert len(set(make_splits(list("abc"), np.zeros((3, 1)), seed=0))) == 3
    rare = np.zeros((30, 1))
    rare[:3] = 1
    made = make_splits([f"g{index}" for index in range(30)], rare, seed=0)
    assert sorted(made[:3]) == ["test", "train", "validation"]
    with pytest.raises(SplitError, match="2 group"):
        make_splits(list("aabb"), np.ones((4, 1)), seed=0)


def test_identical_audio_joins_groups():
    assert merge_groups(list("abcd"), ["1", "1", "2", ""]) == ["a", "a", "c", "d"]
    assert merge_groups(list("abca"), ["1", "2", "2", "3"]) == ["a", "b", "b", "a"]
    assert merge_groups(list("cba"), ["1", "1", "1"]) == ["a", "a", "a"]


def test_labels_are_chosen_by_name_and_by_pattern(tmp_path):
    folder = tmp_path / "music"
    folder.mkdir()
    lines = ["path\tlabels"]
    for number, labels in enumerate(["stroke_a,tonic_c", "stroke_b,tonic_d", "solo"] * 4):
        audio = 0.1 * np.random.default_rng(number).standard_normal(800)
        soundfile.write(folder / f"{number}.wav", audio, 16000)
        lines.append(f"{number}.wav\t{labels}")
    (folder / "labels.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    name = f"audio_folder:{folder}"
    chosen = open_dataset(name, data_dir=tmp_path / "data", labels="stroke_*,solo")
    assert chosen.spec.label_names == ("solo", "stroke_a", "stroke_b")
    with pytest.raises(ValueError, match=r"has no label 'strok_\*'"):
        open_dataset(name, data_dir=tmp_path / "data", labels="strok_*")


def _splits_of(dataset):
    return {path: split for split in dataset.spec.split_sizes for path in dataset.tracks(split)}


def test_the_split_does_not_depend_on_the_labels_chosen(tmp_path):
    folder, rows = tmp_path / "f", []
    for index in range(36):
        _write_audio(folder / f"{index}.wav", index, seconds=0.01)
        # Strokes go by the track, tonics by the group; many recordings have no stroke at all.
        labels = [f"tonic_{'abc'[index // 3 % 3]}"]
        labels += [f"stroke_{'xy'[index % 2]}"] if index % 3 else []
        rows.append((f"{index}.wav", ",".join(labels), f"player {index // 3}"))
    _write_table(folder, rows)
    every = _splits_of(_open(folder, tmp_path))
    assert sorted(every) == sorted(path for path, _, _ in rows)
    for options in ({"labels": "stroke_*"}, {"label_prefix": "tonic_"}, {"min_positives": 12}):
        chosen = _open(folder, tmp_path, **options)
        assert _splits_of(chosen) == every
    strokes = _open(folder, tmp_path, labels="stroke_*").tracks("train")
    for path, on in zip(strokes, strokes.label_matrix.any(axis=1), strict=True):
        assert on == bool(int(path.removesuffix(".wav")) % 3)


def test_identical_audio_joins_groups_in_the_data_set(tmp_path):
    folder, rows = tmp_path / "f", []
    for index in range(12):
        _write_audio(folder / f"{index:02}.wav", index, seconds=0.01)
        rows.append((f"{index:02}.wav", "a", f"artist {index // 2}"))
    (folder / "11.wav").write_bytes((folder / "00.wav").read_bytes())
    _write_table(folder, rows)
    dataset = _open(folder, tmp_path)
    joined = {}
    for split in dataset.spec.split_sizes:
        tracks = dataset.tracks(split)
        joined |= {path: (group, split) for path, group in zip(tracks, tracks.groups, strict=True)}
    assert {joined[f"{i:02}.wav"][0] for i in (0, 1, 10, 11)} == {"artist 0"}
    assert len({joined[f"{i:02}.wav"][1] for i in (0, 1, 10, 11)}) == 1
    assert joined["02.wav"][0] == joined["03.wav"][0] == "artist 1"


def test_names_in_either_unicode_form_are_one(tmp_path):
    folder, rows = tmp_path / "f", []
    composed, decomposed = "Şükrü", "S\u0327u\u0308kru\u0308"
    for index in range(16):
        name = (composed, decomposed)[index % 2]
        on_disk = (decomposed, composed)[index % 2]
        _write_audio(folder / on_disk / f"{on_disk} {index}.wav", index, seconds=0.01)
        label = ("Hüzzam", "Hu\u0308zzam\u00a0")[index // 4 % 2] if index // 2 % 2 else "Rast"
        rows.append((f"{name}/{name} {index}.wav", label, f"{name}\u00a0{index // 4} "))
    _write_table(folder, rows)
    dataset = _open(folder, tmp_path)
    assert sorted(dataset.spec.label_names) == ["Hüzzam", "Rast"]
    assert sum(dataset.spec.split_sizes.values()) == 16 and not dataset.report["refused"]
    assert not any("does not list" in note for note in dataset.report["notes"])
    where = {}
    for split in dataset.spec.split_sizes:
        for group in dataset.tracks(split).groups:
            where.setdefault(group, set()).add(split)
    assert sorted(where) == [f"Şükrü {i}" for i in range(4)]
    assert all(len(splits) == 1 for splits in where.values())
    chosen = _open(folder, tmp_path, labels="Hu\u0308zzam")
    assert chosen.spec.label_names == ("Hüzzam",)


def test_labels_with_commas_are_written_and_read(tmp_path):
    folder = tmp_path / "f"
    names = ["Folk, World, & Country", 'The "Air horn, truck horn"', "AC\\DC", "Rock"]
    for index, name in enumerate(names):
        _write_audio(folder / name / "1.wav", index)
    write_table_from_subfolders(folder)
    assert [row.labels for row in read_label_table(folder)] == [(name,) for name in sorted(names)]
    (folder / "labels.tsv").write_text(
        "path\tlabels\n1.wav\tFolk\\, World, Rock\n"
        '2.wav\t"""Air horn, truck horn"", ney, 7"" single"\n',
        encoding="utf-8",
    )
    assert [row.labels for row in read_label_table(folder)] == [
        ("Folk, World", "Rock"),
        ("Air horn, truck horn", "ney", '7" single'),
    ]


@pytest.mark.parametrize(
    ("labels", "is_refused"),
    [
        (("İsfahan", "isfahan"), True),
        (("ISFAHAN", "Isfahan"), True),
        (("Isı", "ısı"), True),
        (("ısı", "isi"), False),
        (("Irak", "İRAK"), False),
    ],
)
def test_the_two_letters_i_of_turkish(tmp_path, labels, is_refused):
    _write_table(tmp_path, [("1.wav", labels[0]), ("2.wav", labels[1])], ("path", "labels"))
    if is_refused:
        with pytest.raises(ValueError, match="differ only by case"):
            read_label_table(tmp_path)
    else:
        assert [row.labels[0] for row in read_label_table(tmp_path)] == list(labels)


def test_linked_subfolders_are_seen_without_circles(tmp_path):
    real, folder = tmp_path / "real", tmp_path / "f"
    for index, name in enumerate(("ney", "oud")):
        _write_audio(real / name / f"{index}.wav", index)
    folder.mkdir()
    (folder / "ney").symlink_to("../real/ney")
    (folder / "oud").symlink_to(real / "oud", target_is_directory=True)
    (real / "ney" / "up").symlink_to(tmp_path, target_is_directory=True)
    (real / "ney" / "there").symlink_to(real / "oud", target_is_directory=True)
    (real / "oud" / "back").symlink_to(real / "ney", target_is_directory=True)
    (folder / ".trash").mkdir()
    _write_audio(folder / ".trash" / "old.wav", 9)
    _write_audio(folder / "ney" / "._0.wav", 9)
    write_table_from_subfolders(folder)
    found = {row.path: row.labels for row in read_label_table(folder)}
    assert found["ney/0.wav"] == ("ney",) and found["oud/1.wav"] == ("oud",)
    assert not any("old" in path or "._" in path for path in found)
    assert sorted(found) == [
        "ney/0.wav",
        "ney/there/1.wav",
        "oud/1.wav",
        "oud/back/0.wav",
    ]


def test_rows_outside_the_folder_are_told(folder, tmp_path, run, capsys):
    for index, name in enumerate(("above.wav", "linked.wav", "absolute.wav")):
        _write_audio(tmp_path / name, 50 + index)
    (folder / "link.wav").symlink_to(tmp_path / "linked.wav")
    inside = str(folder / "take 11.wav")
    _edit(folder, "take 11.wav", inside)
    outside = ["x/../../above.wav", str(tmp_path / "absolute.wav"), "link.wav"]
    with open(folder / "labels.tsv", "a", encoding="utf-8") as table:
        for index, path in enumerate(outside):
            table.write(f"{path}\tvoice\tartist {20 + index}\n")
    dataset = _open(folder, tmp_path)
    names = {name for split in dataset.spec.split_sizes for name in dataset.tracks(split)}
    assert len(names) == 15 and inside in names
    (note,) = [note for note in dataset.report["notes"] if "outside the folder" in note]
    assert "by their paths or behind links: 3 (../above.wav, " in note and "link.wav" in note
    capsys.readouterr()  # what the build printed
    told = run("doctor", folder, "--data-dir", tmp_path / "data", "--json")
    assert told.exit_code == 0
    found = {row["path"]: row for row in json.loads(told.stdout)["findings"]}
    assert set(found) == {"../above.wav", "../absolute.wav", "link.wav"}
    assert {row["kind"] for row in found.values()} == {"outside"}
    assert found["link.wav"]["reason"] == f"it is {tmp_path / 'linked.wav'}."


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-8"])
def test_a_table_with_nul_characters_is_told(folder, encoding):
    _edit(folder, "Ney é", "Ney")
    _edit(folder, "take 03", "take\0 03")
    table = folder / "labels.tsv"
    table.write_bytes(table.read_text("utf-8").encode(encoding))
    with pytest.raises(ValueError, match=r"labels.tsv holds NUL characters, .* save it as UTF-8"):
        read_label_table(folder)


def test_a_table_that_is_no_file_is_told(folder):
    (folder / "labels.tsv").unlink()
    (folder / "labels.tsv").mkdir()
    with pytest.raises(ValueError, match=r"labels.tsv is no file, but a folder, a pipe or a link"):
        read_label_table(folder)


def test_a_name_that_is_too_long_for_the_system_stops_no_build(folder, tmp_path):
    name = "ş" * 200 + ".wav"
    _edit(folder, "take 03.wav", name)
    dataset = _open(folder, tmp_path)
    assert sum(dataset.spec.split_sizes.values()) == 11
    assert [row["path"] for row in dataset.report["refused"]] == [name]
