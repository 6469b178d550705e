"""gtzan, speech_commands, dcase2017_task4: fake trees in their true layout, built and trained."""

import json

import pytest
from fake_corpora import make_fake
from musrep_jax.tfds_builders.dcase2017_task4.dcase2017_task4_dataset_builder import EVENTS
from musrep_jax.tfds_builders.gtzan.gtzan_dataset_builder import GENRES
from musrep_jax.tfds_builders.speech_commands.speech_commands_dataset_builder import WORDS

from musrep_jax.command_line import main
from musrep_jax.data import open_dataset
from musrep_jax.data.build.builder import BuildError
from musrep_jax.data.datasets import load_builder_class

SPLITS = ("train", "validation", "test")


def _builder(name, data_dir, config=None):
    return load_builder_class(name)(data_dir=data_dir, config=config)


def _sizes(builder):
    splits = [track.split for track in builder.tracks]
    return {split: splits.count(split) for split in SPLITS}


@pytest.fixture
def gtzan(tmp_path):
    """The data_dir of the made-up corpus."""
    make_fake("gtzan", tmp_path / "corpora/gtzan")
    return tmp_path


def test_gtzan_is_built_and_read_back(gtzan):
    cut = gtzan / "corpora/gtzan/genres/jazz/jazz.00000.au"
    cut.write_bytes(cut.read_bytes()[:60_000])
    builder = _builder("gtzan", gtzan)
    builder.build()
    dataset = open_dataset("gtzan", data_dir=gtzan)
    assert dataset.spec.label_names == GENRES == tuple(sorted(GENRES)) and len(GENRES) == 10
    assert dataset.spec.split_sizes == {"train": 9, "validation": 10, "test": 10}
    (refused,) = dataset.report["refused"]
    assert refused["path"] == "genres/jazz/jazz.00000.au" and "truncated" in refused["reason"]
    tracks = dataset.tracks("test")
    assert (tracks.label_matrix.sum(axis=1) == 1).all()
    for index, name in enumerate(tracks):
        assert GENRES[int(tracks.label_matrix[index].argmax())] == name.split(".")[0]
        assert tracks.num_samples[index] == 30 * 16000
    assert any("443" in note for note in dataset.report["notes"])


def test_gtzan_lists_are_the_published_ones(shared_dir, tmp_path):
    folder = tmp_path / "corpora/gtzan"
    (folder / "genres").mkdir(parents=True)
    (folder / "split").symlink_to(shared_dir / "splits/gtzan")
    builder = _builder("gtzan", tmp_path)
    assert _sizes(builder) == builder.card.sizes == {"train": 443, "validation": 197, "test": 290}
    counts = builder.extra_report_fields()["positives"]
    assert list(counts["train"].values()) == [46, 48, 45, 42, 47, 43, 44, 41, 43, 44]
    assert list(counts["validation"].values()) == [23, 20, 23, 22, 18, 17, 20, 13, 17, 24]
    assert list(counts["test"].values()) == [31, 31, 30, 29, 27, 27, 27, 30, 26, 32]
    assert not builder.extra_report_fields()["notes"]


def test_all_of_gtzan_is_split_evenly_and_says_that_artists_are_unknown(tmp_path):
    (tmp_path / "corpora/gtzan/genres").mkdir(parents=True)
    builder = _builder("gtzan", tmp_path, "genres-stratified-pcm16")
    assert _sizes(builder) == {"train": 600, "validation": 150, "test": 250}
    counts = builder.extra_report_fields()["positives"]
    assert {tuple(part.values()) for part in counts.values()} == {
        (60,) * 10,
        (15,) * 10,
        (25,) * 10,
    }
    assert builder.card.is_generated and "artists are not known" in builder.spec().description


def test_gtzan_says_what_is_missing_or_wrong(gtzan):
    path = gtzan / "corpora/gtzan/split/test_filtered.txt"
    path.write_text("blues/jazz.00000.wav\n", "utf-8")
    with pytest.raises(BuildError, match=r"line 1 of .*test_filtered\.txt is 'blues/jazz\.00000'"):
        _builder("gtzan", gtzan).split_names()
    path.unlink()
    with pytest.raises(BuildError, match=r"needs .*test_filtered\.txt, which is not there"):
        _builder("gtzan", gtzan).split_names()


@pytest.fixture
def speech(tmp_path):
    """The data_dir of the made-up corpus."""
    make_fake("speech_commands", tmp_path / "corpora/speech_commands")
    return tmp_path


def test_speech_commands_are_split_by_the_lists_and_by_speaker(speech):
    builder = _builder("speech_commands", speech)
    builder.build()
    dataset = open_dataset("speech_commands", data_dir=speech)
    assert dataset.spec.label_names == WORDS == tuple(sorted(WORDS)) and len(WORDS) == 35
    assert dataset.spec.split_sizes == dict.fromkeys(SPLITS, 35)
    assert dataset.report["leakage"] == {"speaker": []}
    assert builder.card.sizes == {"train": 84843, "validation": 9981, "test": 11005}
    assert sum(builder.card.sizes.values()) == 105829
    tracks = dataset.tracks("validation")
    assert not any("background" in name for name in tracks)
    for index, name in enumerate(tracks):
        word, file = name.split("/")
        assert WORDS[int(tracks.label_matrix[index].argmax())] == word
        assert tracks.groups[index] == file.split("_nohash_")[0]
        assert tracks.num_samples[index] in (6400, 16000)


def test_a_speech_command_that_a_list_names_is_missed(speech):
    folder = speech / "corpora/speech_commands"
    path = (folder / "testing_list.txt").read_text("utf-8").splitlines()[0]
    (folder / path).unlink()
    builder = _builder("speech_commands", speech)
    builder.build()
    (refused,) = open_dataset("speech_commands", data_dir=speech).report["refused"]
    assert refused["path"] == path and "no such file" in refused["reason"]
    (folder / "testing_list.txt").write_text("hello/1_nohash_0.wav\n", "utf-8")
    with pytest.raises(BuildError, match=r"line 1 of .*'hello/1_nohash_0\.wav', not WORD"):
        _builder("speech_commands", speech).split_names()


@pytest.fixture
def events(tmp_path):
    """The data_dir of the made-up corpus."""
    make_fake("dcase2017_task4", tmp_path / "corpora/dcase2017_task4")
    return tmp_path


@pytest.mark.parametrize(
    ("split", "sizes"),
    [("official", (34, 17, 17)), ("harmonic", (51, 0, 17))],
)
def test_sound_events_of_the_task_are_built_and_read_back(events, split, sizes):
    builder = _builder("dcase2017_task4", events, f"events-{split}-pcm16")
    assert tuple(_sizes(builder).values()) == sizes
    if split == "harmonic":
        return
    builder.build()
    dataset = open_dataset(f"dcase2017_task4/events-{split}-pcm16", data_dir=events)
    assert dataset.spec.label_names == EVENTS and len(EVENTS) == 17
    assert dataset.report["refused"] == [] and dataset.report["leakage"] == {"youtube": []}
    assert dataset.report["positives"]["test"]["Train horn"] == 2
    tracks = dataset.tracks("train")
    assert tracks.label_matrix.sum() == 34 + 9
    assert set(tracks.num_samples) == {16000, 32000}
    assert tracks.groups[0].startswith("-0_") and tracks.groups[0].count("_") == 1


def test_the_published_validation_draw_is_that_of_numpys_legacy_generator(events):
    # 40 excerpts with one event: a tenth of them by RandomState(123), in the order of the lists.
    folder = events / "corpora/dcase2017_task4/groundtruth_release"
    names = [f"id{index:09d}_0.000_10.000.wav" for index in range(40)]
    for part in ("training", "testing"):
        rows = names[:30] if part == "training" else names[30:]
        text = "".join(f"{name}\t0.000\t10.000\tBus\n" for name in rows)
        (folder / f"groundtruth_weak_label_{part}_set.csv").write_text(text, "utf-8")
    builder = _builder("dcase2017_task4", events, "events-harmonic-pcm16")
    drawn = [track.track_id for track in builder.tracks if track.split == "validation"]
    # DataFrame.sample(frac=0.1, random_state=123) of 40 rows takes these (pandas 3.1.1).
    assert sorted(int(name[2:11]) for name in drawn) == [6, 10, 12, 38]


def test_a_sound_event_that_is_unknown_is_refused(events):
    path = events / "corpora/dcase2017_task4/groundtruth_release"
    path = path / "groundtruth_weak_label_testing_set.csv"
    path.write_text("a_0.000_10.000.wav\t0.000\t10.000\tHarp\n", "utf-8")
    with pytest.raises(BuildError, match=r"line 1 of .*Harp.*17 events"):
        _builder("dcase2017_task4", events).split_names()


TASKS = {"keywords": ("speech", "speech_commands"), "sound_events": ("events", "dcase2017_task4")}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_harmonic_tasks_train_a_step(task, request, tmp_path, repository, monkeypatch):
    fixture, name = TASKS[task]
    data_dir = request.getfixturevalue(fixture)
    _builder(name, data_dir).build()
    monkeypatch.chdir(repository)
    flags = {
        "data.name": name,
        "data.data_dir": data_dir,
        "train.num_steps": 1,
        "train.evaluate_every_steps": 1,
        "train.batch_size": 4,
        "train.num_devices": 1,
        "model.n_channels": 4,
        "evaluation.num_bootstrap": 10,
        "evaluation.num_chunks": 2,
        "evaluation.validation_num_chunks": 1,
        "evaluation.baseline": False,
    }
    command = ["main.py", f"--config=configs/harmonic.py:{task}", f"--workdir={tmp_path}/run"]
    assert main([*command, *(f"--config.{key}={value}" for key, value in flags.items())]) == 0
    (cell,) = json.loads((tmp_path / "run/results.json").read_text("utf-8"))["cells"]
    assert cell["error"] is None and cell["target"] == name
    assert len(cell["per_label"]) == {"keywords": 35, "sound_events": 17}[task]
