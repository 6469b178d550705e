"""`musrep splits`: the card of a split, what leaks between its parts, and the split as data."""

import csv
import json
import shutil

import pytest
from fake_corpora import make_fake
from fake_western import magnatagatune_path

from musrep_jax.cli import app


@pytest.fixture
def run(capsys):
    """Runs the command; returns (exit code, standard output, standard error)."""

    def run_here(*words):
        with pytest.raises(SystemExit) as ended:
            app(["splits", *map(str, words)], prog_name="musrep")
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run_here


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Fake MagnaTagATune with a training clip that lies in the test part under another name."""
    folder = make_fake("magnatagatune", tmp_path_factory.mktemp("corpora") / "mtat")
    copied = magnatagatune_path("5", "bo", "loud_one", 0)
    shutil.copy(folder / copied, folder / magnatagatune_path("e", "bo", "last_one", 0))
    return folder


def test_card_sizes_leakage_and_other_splits(run, folder):
    code, out, err = run("magnatagatune", "--folder", folder)
    assert code == 0 and not err
    assert out.startswith("magnatagatune/top50-cleaned\n")
    assert "Published: the lists of minzwon/sota-music-tagging-models" in out
    assert "artist: 1 in train, validation; 1 in train, test (for example ana, bo)" in out
    assert "album: none shared; of 4 train, 2 validation, 3 test" in out
    assert "identical audio: copies in another part: 1\n" in out
    assert "5/bo-loud_one-01-a_song-0-1 = e/bo-last_one-01-a_song-0-1" in out
    assert "magnatagatune/top50-all\n  magnatagatune/top50-artist" in out


def test_json_has_numbers_and_the_audio_can_be_left_alone(run, folder):
    code, out, err = run("magnatagatune/top50-all", "--folder", folder, "--no-audio", "--json")
    card = json.loads(out)
    assert code == 0 and not err and card["identical_audio"] is None
    assert card["parts"]["train"] == {
        "tracks": 9,
        "published": 18709,
        "hours": pytest.approx((6 + 3 * 29) / 3600),
        "without_labels": 1,
        "labels_per_track": pytest.approx(13 / 9),
    }
    assert card["positives"]["test"]["metal"] == 1
    assert card["sources"]["artist"]["shared"]["train, test"] == 1
    others = ("top50-cleaned", "top50-artist", "all188-all")
    assert card["others"] == [f"magnatagatune/{name}" for name in others]


def test_a_split_is_written_as_data(run, folder, tmp_path):
    words = ("magnatagatune/top50-artist-encoded", "--folder", folder, "--seed", 3)
    code, _, err = run(*words, "--no-audio", "--out", tmp_path / "out")
    assert code == 0 and err.count("wrote ") == 2
    table = tmp_path / "out/magnatagatune-top50-artist-seed3.tsv"
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert list(rows[0]) == ["track_id", "path", "split", "labels", "album", "artist", "recording"]
    assert len(rows) == 10 and rows[0]["labels"] == "guitar|slow"
    assert rows[0]["path"] == magnatagatune_path("0", "ana", "morning", 0)
    part_of = {}
    for row in rows:
        assert part_of.setdefault(row["artist"], row["split"]) == row["split"]
    card = json.loads(table.with_suffix(".json").read_text("utf-8"))
    assert card["seed"] == 3 and card["disjoint_by"] == "artist"
    assert sum(part["tracks"] for part in card["parts"].values()) == 10


def test_audio_that_is_not_there_is_said(run, folder, tmp_path):
    shutil.copy(folder / "annotations_final.csv", tmp_path)
    code, out, err = run("magnatagatune", "--folder", tmp_path)
    assert code == 0 and "no audio is there to compare" in out
    assert err == "10 of 10 files are not there to compare.\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["magnatagatune/top50-artists"], "Did you mean 'top50-artist'? It has top50-cleaned,"),
        (["magnatagatun"], "Did you mean 'magnatagatune'?"),
        (["audio_folder"], "has no splits of its own"),
        (["magnatagatune", "--folder", "nowhere"], "musrep download magnatagatune"),
    ],
)
def test_what_is_wrong_is_one_sentence(run, words, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*words)
    assert code == 2 and not out
    assert says in err and len(err.splitlines()) == 1
