"""A joint embedding of small folders: trained, projected, exported, judged and shown."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from musrep_jax.command_line import main
from musrep_jax.inference.tagger import load_encoder
from musrep_jax.probing.folds import Fold
from musrep_jax.probing.linear import Ridge
from musrep_jax.probing.neighbors import measure_chance_precision
from musrep_jax.probing.protocol import Examples
from musrep_jax.probing.windows import (
    count_same_names,
    divide_tracks,
    find_label_neighbors,
    measure_chance,
    measure_similarity,
    trace_curve,
)
from musrep_jax.tasks.joint_embedding.objective import make_projection
from musrep_jax.training.projection import limit_norms
from musrep_jax.types import TrainState

RATE = 22050
CLASSES = {"low": 200.0, "middle": 1500.0, "high": 6000.0}
FOLDERS = ("reeds", "bells")


def write_folder(folder, seed):
    """Six recordings in each class of a register: a tone in noise, level and pitch at random."""
    folder.mkdir()
    random, lines = np.random.default_rng(seed), ["path\tlabels\tgroup"]
    time = np.arange(2 * RATE) / RATE
    for label, pitch in CLASSES.items():
        for number in range(6):
            tone = np.sin(2 * np.pi * pitch * random.uniform(0.9, 1.1) * time)
            audio = random.uniform(0.1, 0.4) * tone + 0.02 * random.standard_normal(len(time))
            soundfile.write(folder / f"{label}{number}.wav", audio, RATE)
            lines.append(f"{label}{number}.wav\tregister_{label},{folder.name}\tplayer {number}")
    (folder / "labels.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("folders")
    for seed, name in enumerate(FOLDERS):
        write_folder(place / name, seed)
    return place


def make_command(folders, workdir, *flags):
    names = ",".join(f"audio_folder:{folders / name}" for name in FOLDERS)
    return [
        "main.py", "--config=configs/joint_embedding.py:smoke", f"--workdir={workdir}",
        f"--config.data.data_dir={folders / 'data'}", f"--config.target={names}",
        "--config.source=",
        "--config.joint_embedding.labels=register_*", "--config.joint_embedding.num_folds=3",
        "--config.train.num_steps=60", "--config.train.evaluate_every_steps=30",
        "--config.train.batch_size=12", "--config.train.num_devices=1", *flags,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(folders):
    workdir = folders / "run"
    assert main(make_command(folders, workdir)) == 0
    return workdir


def read_results(workdir):
    found = json.loads((workdir / "results.json").read_text("utf-8"))
    return found["cells"] if isinstance(found, dict) else found


def test_every_target_is_judged_in_the_embedding_of_the_others(run):
    results = read_results(run)
    assert all(result["error"] is None for result in results)
    trained = [r for r in results if r["mode"] == "embedding"]
    assert sorted(len(r["target"]) for r in trained) == [1, 1, 2]
    assert all(r["validation"]["error"] < 0.2 for r in trained)
    for target in FOLDERS:
        judged = {r["mode"]: r for r in results if str(r["target"]).endswith(f"/{target}")}
        assert judged.keys() == {"base", "genre"}
        assert not any(name.endswith(f"/{target}") for name in judged["genre"]["source"])
        assert (judged["base"]["width"], judged["genre"]["width"]) == (80, 32)
        for result in judged.values():
            assert result["num_tracks"] == 18 and result["num_labels"] == 3
            assert result["num_folds"] == 3 and result["folds_by"] == "groups"
            accuracy, precision, across = result["metrics"]
            assert accuracy["value"] > 0.8 and accuracy["chance"] == pytest.approx(1 / 3)
            assert precision["value"] > precision["chance"] == pytest.approx(5 / 17)
            assert across["name"] == "precision_across_groups"
            assert across["chance"] == pytest.approx(5 / 15)


def test_labels_of_one_register_stand_side_by_side(run):
    """No data set knows the labels of the others; the sound alone brings them together."""
    largest = max((r for r in read_results(run) if r["mode"] == "embedding"),
                  key=lambda r: len(r["target"]))  # fmt: skip
    assert len(largest["label_neighbors"]) == 6
    assert largest["same_names"]["count"] == 6
    assert largest["same_names"]["chance"] == pytest.approx(2)
    assert largest["same_names"]["found"] >= 5
    report = (run / "results.md").read_text("utf-8")
    assert "register_low (bells)" in report and "Precision at 10" in report
    assert (run / "figures" / "examples_per_class" / "bells.png").is_file()


def test_the_export_is_an_encoder_with_short_columns(run):
    export = next(path for path in sorted((run / "exports").iterdir()) if "reeds+" in path.name)
    encoder = load_encoder(export)
    params = encoder.variables["params"]
    assert np.linalg.norm(params["projection"]["kernel"], axis=1).max() <= 1 + 1e-5
    np.testing.assert_array_equal(params["norm"]["scale"], 1)
    embedding = encoder.embed(0.1 * np.random.default_rng(0).standard_normal(3 * RATE), RATE)
    assert embedding.shape == (32,) and np.isfinite(embedding).all()
    assert "register" not in json.dumps(encoder.card["labels"])


def test_finished_jobs_are_not_done_again(folders, run, capsys):
    before = {path: path.stat().st_mtime_ns for path in run.glob("cells/*/*")}
    assert main(make_command(folders, run)) == 0
    assert {path: path.stat().st_mtime_ns for path in run.glob("cells/*/*")} == before


@pytest.mark.parametrize(
    ("flag", "error"),
    [
        ("--config.target=synthetic_cultures/makam", "name at least two targets"),
        ("--config.model.name=vgg_ish", "trains 'joint_embedding' alone"),
        ("--config.joint_embedding.scheme=random", "scheme is 'random'"),
        ("--config.joint_embedding.max_norm=0", "max_norm is 0"),
        ("--config.joint_embedding.num_per_class=some", "num_per_class is 'some'"),
    ],
)
def test_a_config_that_cannot_be_is_one_sentence(folders, tmp_path, capsys, flag, error):
    assert main(make_command(folders, tmp_path / "none", flag)) == 2
    assert error in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_projection_shortens_long_columns_and_leaves_the_others():
    random = np.random.default_rng(0)
    rows = (random.standard_normal((50, 8)) * random.uniform(0, 1, (50, 1))).astype(np.float32)
    found, norms = np.asarray(limit_norms(jnp.asarray(rows), 1.5)), np.linalg.norm(rows, axis=1)
    assert 5 < (norms > 1.5).sum() < 45
    np.testing.assert_array_equal(found[norms <= 1.5], rows[norms <= 1.5])
    np.testing.assert_allclose(found[norms > 1.5], (1.5 * rows.T / norms).T[norms > 1.5], rtol=1e-5)
    norm = {"scale": jnp.full(3, 9.0)}
    params = {
        "encoder": {"projection": {"kernel": jnp.full((3, 4), 2.0)}, "norm": norm},
        "labels": {"a": jnp.full((2, 4), 2.0)},
    }
    state = TrainState(step=jnp.int32(1), params=params, model_state={}, opt_state=())
    after = make_projection(1.0)(state, {}, jax.random.key(0)).params
    np.testing.assert_allclose(after["encoder"]["projection"]["kernel"], 0.5)
    np.testing.assert_allclose(after["labels"]["a"], 0.5)
    np.testing.assert_array_equal(after["encoder"]["norm"]["scale"], 9)


def make_windows(seed=0, num_tracks=40):
    random = np.random.default_rng(seed)
    owner = np.sort(np.concatenate([np.arange(num_tracks), random.integers(0, num_tracks, 80)]))
    classes = np.arange(num_tracks) % 4
    windows = random.standard_normal((len(owner), 6)) + 0.7 * np.eye(6)[classes[owner]]
    groups = np.array([f"group {track // 4}" for track in range(num_tracks)])
    return Examples(windows, owner, np.eye(4)[classes], True, groups), classes


def test_accuracy_is_that_of_a_plain_loop_over_linear_regressions():
    from sklearn.linear_model import LinearRegression

    tracks, classes = make_windows()
    folds = [Fold(np.arange(30), np.arange(30, 40)), Fold(np.arange(10, 40), np.arange(10))]
    (point,) = trace_curve(tracks, folds, (0,), [Ridge(strength=0.0)], seed=0)
    for fold, accuracy in zip(folds, point.accuracies, strict=True):
        is_used = np.isin(tracks.owner, fold.train)
        owner = tracks.owner[is_used]
        weights = 1 / np.bincount(owner)[owner]  # tracks count alike
        model = LinearRegression()
        model.fit(tracks.features[is_used], tracks.targets[owner], sample_weight=weights)
        right = [
            model.predict(tracks.features[tracks.owner == track]).mean(axis=0).argmax()
            == classes[track]
            for track in fold.test
        ]
        assert accuracy == np.mean(right)
    error = np.std(point.accuracies, ddof=1) / np.sqrt(2)
    assert (point.mean, point.standard_error) == (np.mean(point.accuracies), pytest.approx(error))


def test_few_examples_are_fewer_windows_and_groups_lie_in_one_fold():
    tracks, _ = make_windows()
    folds = divide_tracks(tracks, 30, "groups", seed=0)
    assert len(folds) == 10  # as many as groups
    for fold in folds:
        assert not set(tracks.groups[fold.train]) & set(tracks.groups[fold.test])
    few, all_of_them = trace_curve(tracks, folds, (1, 0), [Ridge(strength=1.0)], seed=0)
    assert few.mean < all_of_them.mean


def test_chance_and_neighbors_on_hand_made_numbers():
    targets = np.eye(2)[[0, 0, 0, 1]]
    assert measure_chance(targets) == 0.75
    assert measure_chance_precision(targets) == pytest.approx((2 / 3 * 3 + 0) / 4)
    # Of other groups: the first two have one of two others with their class, the third both.
    groups = np.array(["a", "a", "b", "c"])
    assert measure_chance_precision(targets, groups) == pytest.approx((1 / 2 + 1 / 2 + 2 / 3) / 4)


def test_neighbors_of_the_same_recording_do_not_count():
    """Two recordings of each class, three takes of each: takes are found first, and say nothing."""
    windows, _ = make_windows(num_tracks=12)
    random = np.random.default_rng(0)
    recordings = np.repeat(np.arange(4), 3)
    features = 10 * random.standard_normal((4, 5))[recordings]
    features += 0.01 * random.standard_normal((12, 5))
    targets = np.eye(2)[recordings % 2]
    tracks = dataclasses.replace(
        windows, features=features, owner=np.arange(12), targets=targets,
        groups=np.array([f"r{n}" for n in recordings]),
    )  # fmt: skip
    found, _ = measure_similarity(tracks, 2, "l1")
    assert found == 1
    across, _ = measure_similarity(tracks, 2, "l1", across_groups=True)
    expected = []
    for row in range(12):
        distances = np.abs(features - features[row]).sum(axis=1)
        distances[recordings == recordings[row]] = np.inf
        nearest = np.argsort(distances)[:2]
        expected.append(np.mean(recordings[nearest] % 2 == recordings[row] % 2))
    assert across == pytest.approx(np.mean(expected)) and across < 1
    vectors = np.array([[0.0, 0], [10, 0], [1, 0], [8, 1]])
    sets, names = ["a", "a", "b", "b"], ["Jazz", "rock", "jazz", "Blues"]
    found = find_label_neighbors(vectors, sets, names, count=2)
    assert [one["label"] for one in found[0]["nearest"]] == ["jazz", "Blues"]
    assert found[1]["nearest"][0] == {"dataset": "b", "label": "Blues", "distance": 3.0}
    assert count_same_names(vectors, sets, names) == {"found": 2, "count": 2, "chance": 1.0}
