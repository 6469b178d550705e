"""Results know their data: what was made from other data is not mixed, compared or resumed."""

import os

import numpy as np
import pytest
import soundfile
from musrep_jax.configs import tagging

from musrep_jax.config import ConfigError
from musrep_jax.data import open_dataset
from musrep_jax.experiments import experiment
from musrep_jax.experiments.data_changes import check_same_data, list_changes
from musrep_jax.experiments.reading import read_run
from musrep_jax.experiments.workdir import Workdir
from musrep_jax.tasks.tagging.matrix import make_job
from musrep_jax.tasks.task import Clock, Metric, Outcome


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    rows = ["path\tlabels\tsplit\tgroup"]
    for index in range(9):
        write(folder / f"{index}.wav", index)
        split = ("train", "validation", "test")[index % 3]
        rows.append(f"{index}.wav\t{'ab'[index // 3 % 2]}\t{split}\tplayer {index}")
    (folder / "labels.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def write(path, seed):
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, 400)
    soundfile.write(path, noise, 16000)


def edit(folder, old, new):
    table = folder / "labels.tsv"
    text = table.read_text(encoding="utf-8")
    assert old in text
    table.write_text(text.replace(old, new), encoding="utf-8")


@pytest.fixture
def run_seeds(folder, tmp_path, monkeypatch):
    """Runs cells of some seeds whose training is left out; returns code and results."""

    def train(self, job, opened):
        self._open_dataset(Clock(), opened, f"audio_folder:{folder}", 16000)
        return Outcome([Metric("roc_auc", 0.5)]), 0.0

    monkeypatch.setattr(experiment._ExperimentRunner, "_train", train)

    def run(*seeds, workdir="w", **settings):
        config = tagging.get_config()
        config.data.data_dir = str(tmp_path / "data")
        config.update(settings)
        jobs = [make_job(f"audio_folder:{folder}", "vgg_ish", seed=seed) for seed in seeds]
        path = tmp_path / workdir
        code = experiment.run_jobs(config, jobs, str(path), show=lambda *shown: None)
        return code, Workdir(path, config).all_results()

    return run


def test_only_content_changes_the_identity(folder, tmp_path):
    def identity():
        return open_dataset(f"audio_folder:{folder}", data_dir=tmp_path / "data").identity

    first = identity()
    os.utime(folder / "0.wav", (1, 1))
    assert identity() == first and list_changes(first, identity()) == []
    edit(folder, "1.wav\ta", "1.wav\tb")
    relabeled = identity()
    assert list_changes(first, relabeled) == ["labels of validation"]
    edit(folder, "player 2", "player 5")
    regrouped = identity()
    assert list_changes(relabeled, regrouped) == ["groups of test"]
    write(folder / "0.wav", 99)
    assert list_changes(regrouped, identity()) == ["audio of train"]
    edit(folder, "8.wav\ta\ttest", "8.wav\ta\ttrain")
    assert sorted(list_changes(regrouped, identity())) == ["tracks of test", "tracks of train"]


def test_cells_of_other_data_are_not_mixed(folder, run_seeds, tmp_path, capsys):
    code, (result,) = run_seeds(0)
    assert code == 0
    (entry,) = result["data"]
    assert entry["name"] == f"audio_folder:{folder}" and set(entry["splits"]) == {
        "train",
        "validation",
        "test",
    }
    os.utime(folder / "0.wav", (1, 1))
    assert run_seeds(0, 1)[0] == 0  # the same content goes on
    edit(folder, "0.wav\ta", "0.wav\tb")
    with pytest.raises(ConfigError, match=r"data set audio_folder:f has changed \(labels of train"):
        run_seeds(0, 1, 2)
    with pytest.raises(ConfigError, match=r"2 finished cells .* give another --workdir"):
        run_seeds(0, 1, 2)
    assert len(list((tmp_path / "w" / "cells").glob("*/result.json"))) == 2
    capsys.readouterr()
    assert run_seeds(0, 1)[0] == 0  # nothing is added, and it is said
    assert "has changed" in capsys.readouterr().err
    assert run_seeds(0, 1, 2, workdir="new")[0] == 0


def test_two_states_side_by_side_are_neither_read_nor_merged(folder, run_seeds, tmp_path):
    run_seeds(0, workdir="one")
    write(folder / "2.wav", 99)
    run_seeds(1, workdir="two")
    with pytest.raises(
        ConfigError, match=r"two states of the data set audio_folder:f \(audio of te"
    ):
        run_seeds(0, 1, workdir="both", merge=f"{tmp_path / 'one'},{tmp_path / 'two'}")
    cell = next((tmp_path / "two" / "cells").iterdir())
    cell.rename(tmp_path / "one" / "cells" / cell.name)
    with pytest.raises(ConfigError, match="remove the folders cells/KEY of one state"):
        read_run(tmp_path / "one")


def test_data_that_were_put_away_leave_the_results_readable(folder, run_seeds, capsys):
    run_seeds(0)
    folder.rename(folder.with_name("away"))
    assert run_seeds(0)[0] == 0
    assert "cannot be compared with what it was" in capsys.readouterr().err


def test_systems_of_different_data_are_compared_by_name_only(folder, run_seeds):
    (first,) = run_seeds(0, workdir="one")[1]
    edit(folder, "0.wav\ta", "0.wav\tb")
    (second,) = run_seeds(0, workdir="two")[1]
    assert check_same_data(first, first, "A and B") == []
    (sentence,) = check_same_data(first, second, "A and B")
    assert "A and B were made from two states of the data set audio_folder:f" in sentence
    assert "labels of train" in sentence
    write(folder / "2.wav", 99)
    (third,) = run_seeds(0, workdir="three")[1]
    with pytest.raises(ConfigError, match="A and C were tested on different audio"):
        check_same_data(first, third, "A and C")
