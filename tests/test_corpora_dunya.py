"""turkish_makam, hindustani, carnatic: published lists and labels, what is missing, made splits."""

import re

import pytest
from fake_corpora import make_fake, write_array, write_audio
from fake_dunya import make_mbid, make_recording, write_recording

from musrep_jax.data import open_dataset
from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.corpora.dunya import SPLIT_LISTS, TRADITIONS
from musrep_jax.data.datasets import load_builder_class

FACTS = {
    "turkish_makam": ("Turkish-makam (30;", 30, (3709, 529, 1059), 150.0),
    "hindustani": ("Hindustani (20;", 20, (844, 120, 240), 780.0),
    "carnatic": ("Carnatic (20;", 20, (1829, 261, 522), 330.0),
}
"""Name -> (where its table begins in the facts sheet, labels, sizes, seconds used)."""


def make_builder(name, data_dir, split="published"):
    corpus = load_builder_class(name)
    (labels,) = corpus.LABEL_SETS
    return corpus(data_dir=data_dir, config=f"{labels}-{split}-pcm16")


@pytest.fixture
def hindustani(tmp_path):
    """Returns (data_dir, folder) of a made-up corpus."""
    return tmp_path, make_fake("hindustani", tmp_path / "corpora/hindustani")


@pytest.mark.parametrize("name", FACTS)
def test_labels_sizes_and_caps_are_the_published_ones(name, shared_dir):
    start, number, sizes, cap = FACTS[name]
    corpus = load_builder_class(name)
    sheet = (shared_dir / "reference/cross_cultural_facts.md").read_text("utf-8")
    table = sheet[sheet.index(start) :].split("\n\n")[1]
    cells = re.findall(r"\| (\d+) \| ([^|]+--[^|]+) \| \d+ (?=\|)", table)
    in_order = [label.strip() for _, label in sorted(cells, key=lambda cell: int(cell[0]))]
    (labels,) = corpus.LABEL_SETS.values()
    assert list(labels) == in_order and len(labels) == number
    assert tuple(corpus.SPLIT_CARDS["published"].sizes.values()) == sizes
    assert cap == corpus.MAX_SECONDS


@pytest.mark.parametrize("name", FACTS)
def test_the_published_lists_are_disjoint_and_of_the_published_size(name, shared_dir, tmp_path):
    folder = tmp_path / "corpora" / name
    folder.mkdir(parents=True)
    (folder / "split").symlink_to(shared_dir / "splits/ccml" / TRADITIONS[name])
    builder = make_builder(name, tmp_path)
    lists = {split: builder.read_list(path) for split, path in SPLIT_LISTS.items()}
    assert {split: len(ids) for split, ids in lists.items()} == builder.card.sizes
    everything = [mbid for ids in lists.values() for mbid in ids]
    assert len(set(everything)) == len(everything)
    for file in builder.FILES:
        assert (folder / file.path).stat().st_size == file.size
    with pytest.raises(BuildError, match=r"has no recordings/MBID\.json .*DUNYA_TOKEN"):
        _ = builder.tracks
    if name == "hindustani":
        for mbid in everything:
            recording = make_recording(
                "hindustani", mbid, ["form--Khayal"], album=mbid, artist=mbid, seconds=60.0
            )
            write_recording(folder, recording)
        builder = make_builder(name, tmp_path)
        assert len(builder.tracks) == sum(builder.card.sizes.values())
        assert not [note for note in builder.extra_report_fields()["notes"] if "sizes" in note]


def test_what_dunya_has_no_metadata_of_is_left_out_and_reported(hindustani):
    data_dir, folder = hindustani
    first, second = [make_mbid(f"hindustani {index}") for index in (0, 7)]
    for mbid in (first, second):
        (folder / f"recordings/{mbid}.json").unlink()
    refused = f"mbid\tstatus\treason\tdate\n{second}\t404\tNot found.\t2026-01-02\n"
    (folder / "refused.tsv").write_text(refused, "utf-8")
    builder = make_builder("hindustani", data_dir)
    facts = builder.extra_report_fields()
    assert facts["without_metadata"] == {first: "not fetched", second: "404 Not found."}
    assert not {first, second} & {track.track_id for track in builder.tracks}
    notes = "\n".join(facts["notes"])
    assert "2 recordings of the published lists are left out" in notes
    assert "train 5 instead of 844, validation 3 instead of 120, test 5 instead of 240" in notes


def test_audio_that_dunya_refused_is_refused_with_its_reason(hindustani, capfd):
    data_dir, folder = hindustani
    refused, gone, back = [make_mbid(f"hindustani {index}") for index in (1, 2, 3)]
    for mbid in (refused, gone):
        (folder / f"audio/{mbid}.mp3").unlink()
    rows = "".join(f"{mbid}\t403\tNo access.\t2026-01-02\n" for mbid in (refused, back))
    (folder / "refused.tsv").write_text(f"mbid\tstatus\treason\tdate\n{rows}", "utf-8")
    make_builder("hindustani", data_dir).build(num_workers=1)
    dataset = open_dataset("hindustani", data_dir=data_dir)
    reasons = {row["path"]: row["reason"] for row in dataset.report["refused"]}
    assert set(reasons) == {f"audio/{refused}.mp3", f"audio/{gone}.mp3"}
    assert "Dunya refused it (403 No access.)" in reasons[f"audio/{refused}.mp3"]
    assert "no such file" in reasons[f"audio/{gone}.mp3"]
    assert back in dataset.tracks("train").track_ids
    capfd.readouterr()


def test_damaged_metadata_are_named(hindustani):
    data_dir, folder = hindustani
    path = folder / f"recordings/{make_mbid('hindustani 4')}.json"
    path.write_text("<html>", "utf-8")
    with pytest.raises(BuildError, match=r"holds no JSON .*fetch it anew"):
        _ = make_builder("hindustani", data_dir).tracks


def test_the_start_of_a_recording_is_used_and_a_cut_one_refused(hindustani, monkeypatch, capfd):
    data_dir, folder = hindustani
    monkeypatch.setattr(load_builder_class("hindustani"), "MAX_SECONDS", 2.0)
    long, cut, cut_late = [make_mbid(f"hindustani {index}") for index in (0, 1, 2)]
    for mbid, seconds in ((long, 3.0), (cut, 1.5), (cut_late, 2.5)):
        recording = make_recording(
            "hindustani", mbid, ["form--Khayal"], album=mbid, artist=mbid, seconds=3.0
        )
        write_recording(folder, recording)
        write_audio(folder / f"audio/{mbid}.mp3", seconds)
    make_builder("hindustani", data_dir).build(num_workers=1)
    dataset = open_dataset("hindustani", data_dir=data_dir)
    tracks = dataset.tracks("train")
    lengths = dict(zip(tracks.track_ids, tracks.num_samples, strict=True))
    assert lengths[long] == lengths[cut_late] == 2 * 16000
    (refused,) = dataset.report["refused"]
    assert refused["path"] == f"audio/{cut}.mp3" and "of the 2.0 s" in refused["reason"]
    capfd.readouterr()


@pytest.mark.parametrize("kind", ["album", "artist"])
def test_made_splits_keep_albums_and_artists_together(tmp_path, kind):
    folder = tmp_path / "corpora/carnatic"
    ids = [make_mbid(f"recording {index}") for index in range(60)]
    for index, mbid in enumerate(ids):
        recording = make_recording(
            "carnatic",
            mbid,
            ["instrument--Violin" if index % 2 else "instrument--Voice", "form--Kriti"],
            album=f"{index // 4}",
            artist=f"{index // 8}",
            seconds=1.0,
        )
        write_recording(folder, recording)
    for start, path in zip((0, 20, 40), SPLIT_LISTS.values(), strict=True):
        write_array(folder / path, ids[start : start + 20])
    published = make_builder("carnatic", tmp_path)
    assert published.extra_report_fields()["leakage"]["artist"]
    assert any("LEAKAGE by artist" in note for note in published.extra_report_fields()["notes"])
    builder = make_builder("carnatic", tmp_path, kind)
    assert builder.extra_report_fields()["leakage"][kind] == []
    assert {track.track_id for track in builder.tracks} == set(ids)
    assert set(builder.split_names()) == {"train", "validation", "test"}
    again = make_builder("carnatic", tmp_path, kind)
    assert again.tracks == builder.tracks
