"""Probes as an experiment: the matrix, its numbers, its tables, and what leaks is said."""

import json

import numpy as np
import pytest
from sklearn import metrics as sk
from toy_recordings import make_folder

from musrep_jax.command_line import main
from musrep_jax.config import ConfigError
from musrep_jax.evaluation.comparison import apply_holm_correction, compare_values
from musrep_jax.store import Store, StoreWriter
from musrep_jax.tasks.probe.feature_files import find_rows
from musrep_jax.tasks.probe.features import Part, parse_parts
from musrep_jax.tasks.probe.matrix import parse_classifier


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A folder of drums and flutes of six groups, and what is built of it beside it."""
    path = tmp_path_factory.mktemp("data")
    make_folder(path / "recordings")
    return path


def run_probe(data_dir, workdir, *flags):
    return main(
        [
            "main.py", "--config=probe:smoke", f"--workdir={workdir}",
            f"--config.data.data_dir={data_dir}", "--config.train.num_devices=1",
            f"--config.target=audio_folder:{data_dir}/recordings", *flags,
        ]
    )  # fmt: skip


def read_results(workdir):
    return json.loads((workdir / "results.json").read_text(encoding="utf-8"))["cells"]


@pytest.fixture(scope="module")
def workdir(data_dir, tmp_path_factory):
    """Two features, two classifiers and two sizes."""
    path = tmp_path_factory.mktemp("probe")
    flags = (
        "--config.features=log_mel_statistics,log_mel_statistics+log_mel_windows",
        "--config.classifiers=ridge[strength=1],neighbors[num_neighbors=3]",
        "--config.num_train_tracks=1_per_class,all",
        "--config.evaluation.num_bootstrap=50",
    )  # fmt: skip
    assert run_probe(data_dir, path, *flags) == 0
    return path


def test_every_part_of_the_matrix_has_a_result(workdir):
    results = read_results(workdir)
    probed = [r for r in results if r["classifier"] != "similarity"]
    assert len(probed) == 2 * 2 * 2 and len(results) == len(probed) + 2
    assert all(r["error"] is None and r["is_exclusive"] for r in results)
    assert {r["num_features"] for r in results} == {96, 96 + 800}
    few, full = ({r["num_train_tracks_used"] for r in probed if r["num_train_tracks"] == size}
                 for size in ("1_per_class", 0))  # fmt: skip
    assert max(few) < min(full)


def test_accuracy_is_that_of_the_scores_kept(workdir):
    for result in read_results(workdir):
        if result["classifier"] == "similarity":
            continue
        kept = np.load(workdir / "cells" / result["key"] / "scores.npz")
        assert len(set(kept["track_ids"])) == len(kept["track_ids"]) == result["num_test_tracks"]
        truth, guesses = kept["labels"].argmax(axis=1), kept["scores"].argmax(axis=1)
        per_fold = [
            sk.accuracy_score(truth[kept["folds"] == fold], guesses[kept["folds"] == fold])
            for fold in range(2)
        ]
        assert result["metrics"][0]["name"] == "accuracy"
        assert result["metrics"][0]["value"] == pytest.approx(np.mean(per_fold))
        assert result["confusion"] == sk.confusion_matrix(
            truth, guesses, labels=range(len(result["labels"]))
        ).tolist()  # fmt: skip
        for fold in range(2):  # by default no performer is in two of them
            inside = kept["folds"] == fold
            assert not set(kept["groups"][inside]) & set(kept["groups"][~inside])


def test_tables_have_chance_and_the_difference_from_the_first_features(workdir):
    text = (workdir / "results.md").read_text(encoding="utf-8")
    assert "chance: random guesses" in text and "always the most frequent class" in text
    assert "Difference from log_mel_statistics" in text
    assert "Leakage" not in text
    assert (workdir / "figures" / "examples_audio_folder_recordings.png").stat().st_size > 10_000
    compared = [r for r in read_results(workdir) if "versus_first" in r]
    assert len(compared) == 4
    for result in compared:
        assert result["versus_first"]["features"] == "log_mel_statistics"


def test_every_pair_of_rows_is_tested(workdir):
    text = (workdir / "results.md").read_text(encoding="utf-8")
    assert "All pairs" in text and "of 6 pairs of rows" in text
    probed = [r for r in read_results(workdir) if r["classifier"] != "similarity"]
    for size in ("1_per_class", 0):
        rows = [r for r in probed if r["num_train_tracks"] == size]
        pairs = [(r["key"], one) for r in rows for one in r.get("versus_rows", ())]
        assert len({frozenset((key, one["key"])) for key, one in pairs}) == len(pairs) == 6
        raw = [one["p_value"] for _, one in pairs]
        assert [one["p_value_corrected"] for _, one in pairs] == pytest.approx(
            apply_holm_correction(raw)
        )
        for key, one in pairs:
            right = []
            for name in (key, one["key"]):
                kept = np.load(workdir / "cells" / name / "scores.npz")
                right.append(kept["scores"].argmax(axis=1) == kept["labels"].argmax(axis=1))
            assert one["difference"] == pytest.approx(right[0].mean() - right[1].mean())
            expected = compare_values(
                *right, higher_is_better=True, num_resamples=50, track_groups=kept["groups"]
            )
            assert one["p_value"] == expected.p_value


def test_performers_in_training_and_test_are_told(data_dir, tmp_path):
    flags = ("--config.probe.protocol=stratified_folds", "--config.similarity=")
    assert run_probe(data_dir, tmp_path, *flags) == 0
    (result,) = read_results(tmp_path)
    assert result["num_shared_groups"] > 0
    assert "Leakage" in (tmp_path / "results.md").read_text(encoding="utf-8")


def test_the_split_of_the_data_set_has_intervals_over_its_test_tracks(data_dir, tmp_path):
    flags = ("--config.probe.protocol=split", "--config.similarity=")
    assert run_probe(data_dir, tmp_path, *flags) == 0
    (result,) = read_results(tmp_path)
    kept = np.load(tmp_path / "cells" / result["key"] / "scores.npz")
    assert result["num_test_tracks"] == len(kept["labels"])
    used = kept["labels"].any(axis=0) & ~kept["labels"].all(axis=0)
    expected = sk.roc_auc_score(kept["labels"][:, used], kept["scores"][:, used], average="macro")
    values = {metric["name"]: metric["value"] for metric in result["metrics"]}
    assert values["roc_auc"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("classifiers=rigde", "ridge"),
        ("classifiers=svm[cost=-1]", "classifiers"),
        ("features=log_mel", "features"),
        ("features=export:nowhere", "nowhere"),
        ("features=table:nowhere.npz", "no file nowhere.npz"),
        ("features=store:nowhere", "nowhere is no store"),
        ("similarity=l3", "l1, l2, cosine"),
        ("probe.protocol=fold", "folds"),
        ("probe.num_folds=1", "2"),
    ],
)
def test_settings_are_judged_before_anything_is_done(data_dir, tmp_path, capsys, flag, words):
    assert run_probe(data_dir, tmp_path / "run", f"--config.{flag}") == 2
    message = capsys.readouterr().err.strip()
    assert words in message and "\n" not in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        (
            "probe.labels=piano",
            "no label of audio_folder:recordings is called so: it has drum, flute",
        ),
        ("probe.num_folds=7", "6 groups cannot make 7 folds"),
        ("probe.labels=drum", "have the same labels, 'drum', so there is nothing to tell apart"),
    ],
)
def test_what_the_data_cannot_do_is_one_sentence(data_dir, tmp_path, flag, words):
    assert run_probe(data_dir, tmp_path, f"--config.{flag}", "--config.similarity=") == 1
    (result,) = read_results(tmp_path)
    assert words in result["error"]


def test_names_of_features_and_classifiers_are_read():
    assert parse_parts("log_mel_statistics + export:a[9,10,max]") == (
        Part("log_mel_statistics"), Part("export:a[9,10]", "max")
    )  # fmt: skip
    classifier, given = parse_classifier("svm[cost=10,standardize=scalar]")
    assert (classifier.cost, classifier.standardize, given) == (
        10,
        "scalar",
        ("cost", "standardize"),
    )
    for wrong in ("export:a[max,mean]", "nothing:here"):
        with pytest.raises(ConfigError):
            parse_parts(wrong)
    for wrong in ("svm[cost]", "svm[cost=1,cost=2]", "svm(cost=1)"):
        with pytest.raises(ConfigError):
            parse_classifier(wrong)


def make_table(data_dir, path, change=lambda ids, features: (ids, features)):
    """Writes features of the recordings: noise, one number of drums and flutes, and their class."""
    lines = (data_dir / "recordings" / "labels.tsv").read_text(encoding="utf-8").splitlines()[1:]
    ids, labels, _ = map(list, zip(*(line.split("\t") for line in lines), strict=True))
    random = np.random.default_rng(0)
    features = random.standard_normal((len(ids), 3)).astype(np.float32)
    features[:, 1] += 2.0 * (np.array(labels) == "drum")
    ids, features = change(ids, features)
    np.savez(path, track_ids=np.array(ids), features=features)
    return f"table:{path}"


def test_features_of_others_are_judged_on_the_same_tracks(data_dir, tmp_path, capsys):
    table = make_table(data_dir, tmp_path / "others.npz")
    flags = (f"--config.features=log_mel_statistics,{table}", "--config.similarity=cosine")
    assert run_probe(data_dir, tmp_path / "run", *flags) == 0
    by_name = {
        r["features"].partition(":")[0]: r
        for r in read_results(tmp_path / "run")
        if r["classifier"] == "ridge"
    }
    assert by_name["table"]["num_features"] == 3
    assert by_name["table"]["metrics"][0]["value"] > 0.65
    assert "versus_first" in by_name["table"]
    assert str(tmp_path) not in (tmp_path / "run" / "results.md").read_text(encoding="utf-8")
    make_table(data_dir, tmp_path / "others.npz", lambda ids, x: (ids, x + 1))
    capsys.readouterr()
    assert run_probe(data_dir, tmp_path / "run", *flags) == 0
    told = "The feature file table:others.npz has changed (its content) since 2 finished cells"
    printed = capsys.readouterr()
    assert told in printed.out + printed.err
    assert run_probe(data_dir, tmp_path / "run", *flags, "--config.seeds=0,1") == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ids, x: (ids[1:], x[1:]), "lacks 1 of 24 tracks, such as 'drum00.wav'"),
        (lambda ids, x: (ids, np.where(x == x[3, 1], np.nan, x)), "is nan"),
        (lambda ids, x: ([*ids, ids[0]], np.vstack([x, x[:1]])), "twice"),
        (
            lambda ids, x: (ids, np.column_stack([x, ["drum" in name for name in ids]])),
            "Feature 3 of table:t.npz is 'drum', the label that is to be learned",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_one_sentence(data_dir, tmp_path, change, words):
    table = make_table(data_dir, tmp_path / "t.npz", change)
    flags = (f"--config.features={table}", "--config.similarity=")
    assert run_probe(data_dir, tmp_path / "run", *flags) == 1
    (result,) = read_results(tmp_path / "run")
    assert words in result["error"]


def test_a_store_is_found_by_the_ends_of_its_paths(data_dir, tmp_path):
    lines = (data_dir / "recordings" / "labels.tsv").read_text(encoding="utf-8").splitlines()[1:]
    names = [line.partition("\t")[0] for line in lines]
    about = {"model": "toy", "labels": ["x"], "width": 2, "per_chunk": False}
    random = np.random.default_rng(1)
    values = random.standard_normal((len(names), 2)).astype(np.float32)
    with StoreWriter(tmp_path / "store", about) as store:
        for row, name in reversed(list(enumerate(names))):
            store.add(
                path=f"/music/{name}", sha256=str(row), size=1, mtime_ns=1, seconds=1.0,
                spans=np.array([[0.0, 1.0]]), embedding=values[row], probabilities=np.zeros(1),
                chunk_embeddings=values[row : row + 1], chunk_probabilities=np.zeros((1, 1)),
            )  # fmt: skip
    opened = Store(tmp_path / "store")
    rows = find_rows(opened, names, "store:store")
    np.testing.assert_array_equal(opened.embeddings[rows], values)
    stems = [name.removesuffix(".wav") for name in names]
    assert find_rows(opened, stems, "store:store") == rows
    with pytest.raises(ConfigError, match="lacks 1 of 2 tracks, such as 'nobody'"):
        find_rows(opened, [names[0], "nobody"], "store:store")
