"""The transfer experiment from the command line: what it leaves behind, and what goes wrong."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from toy_recordings import make_folder

import musrep_jax
from musrep_jax.command_line import main
from musrep_jax.data import open_dataset
from musrep_jax.tasks.tagging.task import TaggingTask
from musrep_jax.training.checkpoints import load_export

FIELDS = {
    "source", "target", "model", "mode", "seed", "roc_auc", "pr_auc", "roc_auc_ci", "pr_auc_ci",
    "num_tracks", "num_labels", "skipped_labels", "per_label", "seconds", "export", "error",
}  # fmt: skip
SMOKE = "--config=configs/transfer.py:smoke"
WEST, MAKAM = "synthetic_cultures/western", "synthetic_cultures/makam"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def in_repository_root(repository, monkeypatch):
    monkeypatch.chdir(repository)


def run(workdir, data_dir, *flags, config=SMOKE):
    common = (f"--config.data.data_dir={data_dir}", "--config.train.num_devices=1")
    return main(["main.py", config, f"--workdir={workdir}", *common, *flags])


def cells_of(workdir):
    content = json.loads((workdir / "results.json").read_text(encoding="utf-8"))
    assert content["format"] == 1
    return content["cells"]


def cell_of(workdir, mode, **fields):
    wanted = {"mode": mode, **fields}
    found = [c for c in cells_of(workdir) if all(c[k] == v for k, v in wanted.items())]
    assert len(found) == 1, (wanted, len(found))
    return found[0]


@pytest.fixture(scope="module")
def done(data_dir, tmp_path_factory, repository):
    """The workdir of the smoke experiment."""
    workdir = tmp_path_factory.mktemp("smoke") / "w"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        assert run(workdir, data_dir) == 0
    return workdir


def test_every_cell_has_the_documented_fields(done):
    cells = cells_of(done)
    assert {(c["source"], c["target"], c["mode"]) for c in cells} == {
        (None, WEST, "scratch"),
        (None, MAKAM, "scratch"),
        (WEST, MAKAM, "output_layer"),
        (WEST, MAKAM, "all_layers"),
    }
    for cell in cells:
        assert set(cell) >= FIELDS
        assert cell["error"] is None
        # A handful of test tracks: nothing is bracketed, and the reason is told.
        assert cell["ci_reason"] == "too_few_positives" and cell["roc_auc_ci"] == [None, None]
        assert 0 <= cell["roc_auc"] <= 1
        assert cell["validation_size"]["is_small"]
        groups = np.load(done / "cells" / cell["key"] / "scores.npz")["groups"]
        assert len(set(groups.tolist())) == (cell["num_track_groups"] or cell["num_tracks"])
        assert cell["num_labels"] + len(cell["skipped_labels"]) == len(cell["per_label"])
        assert cell["random"]["roc_auc"] == 0.5
        assert cell["is_synthetic"]
        assert cell["model_deviations"] == {"n_channels": 16, "dropout_rate": 0.2}
        assert ("versus_scratch" in cell) == (cell["source"] is not None)


def test_what_a_run_leaves_behind(done):
    config = json.loads((done / "config.json").read_text(encoding="utf-8"))
    assert config["config"]["recipe"] == "transfer"
    assert config["run"]["packages"]["jax"]
    table = (done / "results.md").read_text(encoding="utf-8")
    assert "synthetic" in table
    assert "n_channels=16" in table
    rows = [json.loads(line) for line in (done / "metrics.jsonl").read_text().splitlines()]
    assert {row["kind"] for row in rows} == {"train", "validation"}
    assert len({row["cell"] for row in rows}) == 4
    for pattern in ("transfer_*_roc_auc.png", "labels/*.png", "training/*.png"):
        assert list((done / "figures").glob(pattern)), pattern


def test_exports_open_in_one_line_and_tag(done, data_dir):
    cell = cell_of(done, "all_layers")
    tagger = musrep_jax.load_tagger(done / cell["export"])
    assert set(tagger.labels) == set(cell["per_label"])
    assert tagger.card["data"]["name"] == MAKAM
    # The transfer also read the audio of its source, to see that it holds no test track.
    made_from = {entry["name"]: entry for entry in tagger.card["made_from"]}
    assert set(made_from) == {WEST, MAKAM}
    stands = open_dataset(MAKAM, data_dir=data_dir, num_tracks=24, seconds=4.0).identity
    recorded = {entry["name"]: entry["fingerprint"] for entry in cell["data"]}
    assert made_from[MAKAM]["fingerprint"] == recorded[MAKAM] == stands["fingerprint"]
    assert tagger.card["metrics"]["test"]["roc_auc"] == pytest.approx(cell["roc_auc"])
    scores = tagger.predict(0.1 * np.sin(np.arange(70000.0)), 16000)
    assert all(np.isfinite(list(scores.values())))


def flat(path):
    return traverse_util.flatten_dict(load_export(path)[0], sep="/")


def test_output_layer_changes_nothing_but_the_output_layer(done):
    source = flat(done / cell_of(done, "scratch", target=WEST)["export"])
    target = flat(done / cell_of(done, "output_layer")["export"])
    for name in source:
        same = np.array_equal(source[name], target[name])
        assert same != name.startswith("params/head/"), name


def test_all_layers_moves_the_backbone_and_the_statistics(done):
    source = flat(done / cell_of(done, "scratch", target=WEST)["export"])
    target = flat(done / cell_of(done, "all_layers")["export"])
    assert not np.array_equal(
        source["batch_stats/spec_bn/mean"], target["batch_stats/spec_bn/mean"]
    )
    kernel = "params/layer1/conv_1/kernel"
    assert not np.array_equal(source[kernel], target[kernel])
    assert np.allclose(source[kernel], target[kernel], atol=0.01)


def test_the_same_command_goes_on_and_does_nothing_twice(done, data_dir, capsys):
    kept = [*done.glob("exports/*/tagger.json"), *done.glob("figures/*/*.png")]
    before = {path: path.stat().st_mtime_ns for path in kept}
    assert len(before) == 4 + 2 + 4
    stale, missing = list(done.glob("figures/labels/*.png"))
    os.utime(stale, (0, 0))
    missing.unlink()
    assert run(done, data_dir) == 0
    assert "4 cells, 4 done before" in capsys.readouterr().err
    for path, written in before.items():
        assert (path.stat().st_mtime_ns == written) == (path not in (stale, missing)), path


def test_another_experiment_in_the_workdir_is_refused(done, data_dir, capsys):
    assert run(done, data_dir, "--config.train.batch_size=5") == 2
    error = capsys.readouterr().err
    assert "holds another experiment" in error
    assert "train.batch_size" in error
    assert len(cells_of(done)) == 4


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path, data_dir, capsys):
    (tmp_path / "thesis.txt").write_text("precious")
    assert run(tmp_path, data_dir) == 2
    assert "holds no experiment of ours" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_published_batch_norm_moves_statistics_while_weights_stay(done, data_dir, tmp_path):
    export = done / cell_of(done, "scratch", target=WEST)["export"]
    flags = (
        f"--config.source=export:{export}",
        "--config.transfer.modes=output_layer",
        "--config.transfer.batch_norm=update",
    )
    assert run(tmp_path / "w", data_dir, *flags) == 0
    source = flat(export)
    target = flat(tmp_path / "w" / cell_of(tmp_path / "w", "output_layer")["export"])
    for name in source:
        same = np.array_equal(source[name], target[name])
        assert same == (name.startswith("params/") and "/head/" not in name), name


def test_running_backbone_and_cached_embeddings_train_the_same_layer(done, data_dir, tmp_path):
    export = done / cell_of(done, "scratch", target=WEST)["export"]
    flags = (
        f"--config.source=export:{export}",
        "--config.transfer.modes=output_layer",
        "--config.transfer.cache_embeddings=false",
    )
    assert run(tmp_path / "w", data_dir, *flags) == 0
    source = flat(export)
    target = flat(tmp_path / "w" / cell_of(tmp_path / "w", "output_layer")["export"])
    for name in source:
        assert np.array_equal(source[name], target[name]) != name.startswith("params/head/"), name


def test_a_broken_data_set_fails_its_cells_and_not_the_run(done, data_dir, tmp_path, capsys):
    workdir, folder = tmp_path / "w", tmp_path / "broken"
    folder.mkdir()
    (folder / "labels.tsv").write_text("path\tlabels\na.wav\tney\n", encoding="utf-8")
    (folder / "a.wav").write_bytes(b"no audio")
    code = run(
        workdir,
        data_dir,
        f"--config.target=audio_folder:{folder},{MAKAM}",
        "--config.transfer.modes=scratch",
    )
    assert code == 1
    failed = cell_of(workdir, "scratch", target=f"audio_folder:{folder}")
    assert str(folder) in failed["error"] or "broken" in failed["error"]
    assert failed["roc_auc"] is None
    assert cell_of(workdir, "scratch", target=MAKAM)["error"] is None
    assert "1 of 2 cells failed" in capsys.readouterr().err


def test_a_model_that_cannot_read_the_data_says_so(data_dir, tmp_path, capsys):
    workdir = tmp_path / "w"
    code = run(
        workdir,
        data_dir,
        "--config.target=synthetic_cultures/greek",
        "--config.transfer.modes=scratch",
        "--config.model.name=sample_cnn",
    )
    assert code == 1
    assert "log-mel spectrograms only" in cells_of(workdir)[0]["error"]
    capsys.readouterr()


def test_ctrl_c_keeps_what_is_done(data_dir, tmp_path, monkeypatch, capsys):
    workdir, real, calls = tmp_path / "w", TaggingTask.prepare, []

    def interrupted_at_the_second(task, job, context):
        calls.append(job)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(task, job, context)

    monkeypatch.setattr(TaggingTask, "prepare", interrupted_at_the_second)
    assert run(workdir, data_dir) == 130
    assert "Stopped with 1 of 4 cells done" in capsys.readouterr().err
    assert [c["error"] for c in cells_of(workdir)] == [None]
    assert run(workdir, data_dir) == 0
    assert len(cells_of(workdir)) == 4
    assert len(calls) == 1 + 1 + 3


@pytest.mark.parametrize("library", [np, jnp])
def test_too_little_memory_is_said_with_what_to_do(
    data_dir, tmp_path, monkeypatch, capsys, library
):
    """Asked of the host and of the device for real, where a training would."""

    def prepare(*arguments):
        return jax.block_until_ready(library.ones((10**7, 10**7), np.float32))

    monkeypatch.setattr(TaggingTask, "prepare", prepare)
    assert run(tmp_path / "w", data_dir, "--config.transfer.modes=scratch") == 1
    assert "failed: There is not enough memory" in capsys.readouterr().err
    for cell in cells_of(tmp_path / "w"):
        assert "take a smaller --config.train.batch_size, or" in cell["error"]


def test_a_learning_curve_over_labelled_tracks(data_dir, tmp_path, capsys):
    workdir = tmp_path / "w"
    flags = ("--config.num_train_tracks=6,all", "--config.transfer.modes=scratch,all_layers")
    assert run(workdir, data_dir, *flags) == 0
    few = cell_of(workdir, "all_layers", num_train_tracks=6)
    assert few["num_train_tracks_used"] == 6
    assert few["versus_scratch"]["roc_auc"]["reason"] == "too_few_positives"
    figure = workdir / "figures" / "learning_curves_short_chunk_resnet_roc_auc.png"
    assert figure.stat().st_size > 10_000
    capsys.readouterr()


@pytest.mark.slow
def test_own_recordings_from_one_folder_to_another(data_dir, tmp_path, capsys):
    one, two = make_folder(tmp_path / "one"), make_folder(tmp_path / "two", ("flute", "drum"))
    workdir = tmp_path / "w"
    code = run(
        workdir,
        data_dir,
        f"--config.source=audio_folder:{one}",
        f"--config.target=audio_folder:{two}",
        "--config.transfer.modes=output_layer,all_layers,scratch",
        config="--config=configs/transfer.py:smoke",
    )
    assert code == 0, [c["error"] for c in cells_of(workdir)]
    cell = cell_of(workdir, "output_layer")
    assert cell["source"] == f"audio_folder:{one}"
    assert set(cell["per_label"]) == {"drum", "flute"}
    assert not cell["is_synthetic"]
    assert "audio_folder:one" in capsys.readouterr().out


@pytest.mark.slow
def test_tagging_learns_to_tell_noise_from_tones(data_dir, tmp_path, capsys):
    folder, workdir = make_folder(tmp_path / "music"), tmp_path / "w"
    code = run(
        workdir,
        data_dir,
        "--config.data.name=audio_folder",
        f"--config.data.path={folder}",
        "--config.train.num_steps=30",
        "--config.train.evaluate_every_steps=10",
        "--config.train.batch_size=8",
        config="--config=configs/tagging.py:smoke",
    )
    assert code == 0, [c["error"] for c in cells_of(workdir)]
    assert cell_of(workdir, "scratch")["roc_auc"] > 0.9
    capsys.readouterr()


@pytest.mark.parametrize("config", ["transfer", "tagging"])
@pytest.mark.slow
def test_the_literal_command_runs(config, tmp_path, data_dir, repository):
    command = [sys.executable, "main.py", f"--config=configs/{config}.py:smoke"]
    extra = [f"--workdir={tmp_path / 'w'}", f"--config.data.data_dir={data_dir}"]
    ran = subprocess.run(
        [*command, *extra], cwd=repository, capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "cells are done" in ran.stderr
    assert "ROC-AUC" in ran.stdout


def test_tracks_on_which_transfer_and_scratch_disagree(done):
    """Of the finished experiment: the gains are those of the scores, and each model is heard."""
    from musrep_jax.experiments.reading import read_run, read_scores
    from musrep_jax.pages.report import make_page
    from musrep_jax.pages.report_disagreements import (
        choose_rows,
        find_disagreements,
        find_pair,
        measure_gains,
    )

    made = read_run(done)
    transfer, scratch = find_pair(made)
    assert made.results[transfer]["source"] == WEST
    assert made.results[scratch]["mode"] == "scratch"
    assert made.results[scratch]["target"] == MAKAM
    ours, theirs = read_scores(made, transfer), read_scores(made, scratch)
    gains = measure_gains(ours.labels, ours.scores, theirs.scores)
    found, sentence = find_disagreements(made, 2)
    rows = choose_rows(gains, 2)
    assert [one.gain for one in found] == gains[rows].tolist()
    assert [one.transfer.track_id for one in found] == [ours.track_ids[row] for row in rows]
    assert f"Of {len(gains)} test tracks" in sentence
    page = make_page(made, [], "Nothing.", (found, sentence))
    assert page.count('class="maps"') == 2 * len(found)
    assert find_disagreements(made, 2, scratch)[0] == []


def test_greatest_gains_and_losses():
    from musrep_jax.pages.report_disagreements import choose_rows

    gains = np.array([0.1, -0.5, 0.3, 0.0, -0.2, 0.2])
    assert choose_rows(gains, 4) == [2, 5, 4, 1]
    assert choose_rows(gains, 1) == [2]
    assert choose_rows(-np.abs(gains), 2) == [2, 1]
