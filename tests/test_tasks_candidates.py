"""Candidates for one data set: solved and trained, chosen on validation, one of them kept."""

import json

import numpy as np
import pytest
from compact_models import make_audio
from toy_exports import make_export
from toy_recordings import make_folder

import musrep_jax
from musrep_jax.command_line import main
from musrep_jax.config import ConfigError, parse_command_line
from musrep_jax.data import open_dataset
from musrep_jax.reporting.candidate_table import describe_choice, make_candidate_table
from musrep_jax.schema.names import check_names
from musrep_jax.tasks.tagging import features
from musrep_jax.tasks.tagging.choice import choose_one, find_best
from musrep_jax.tasks.tagging.features import load_features, parse_features
from musrep_jax.tasks.tagging.matrix import jobs_of_config, make_job, share_minutes, split_features
from musrep_jax.tasks.tagging.outcome import is_still_rising
from musrep_jax.training.loop import FitResult


def read_config(*words):
    return parse_command_line(["main.py", "--config=tagging", *words])[0]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """The export of a compact encoder with random weights."""
    return make_export(tmp_path_factory.mktemp("encoder"), "musicnn")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, encoder):
    """A run on a folder of two classes, with every kind of candidate."""
    root = tmp_path_factory.mktemp("candidates")

    def load(place):
        if place == "pretrained:vgg-mtt":
            raise OSError("there is no network")
        return musrep_jax.load_encoder(place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "load_encoder", load)
        code = run(root, encoder)
    assert code == 0, "a model that cannot be fetched is no failure"
    return root / "w"


def run(root, encoder):
    return main([
        "main.py", "--config=tagging:smoke", f"--config.data.path={make_folder(root / 'music')}",
        f"--config.data.data_dir={root / 'data'}", f"--workdir={root / 'w'}",
        "--config.evaluation.baseline=true",
        f"--config.candidates=export:{encoder},log_mel_statistics+export:{encoder}[layer_2],"
        "pretrained:vgg-mtt,all_layers",
    ])  # fmt: skip


@pytest.fixture(scope="module")
def cells(workdir):
    found = json.loads((workdir / "results.json").read_text())["cells"]
    return {(cell["mode"], cell["source"]): cell for cell in found}


def rank(cell, kind="folds"):
    return cell[kind]["roc_auc"], -cell[kind]["loss"]


def test_the_best_by_folds_is_chosen_and_kept(workdir, cells):
    """Validation is one group, so solved candidates are judged by folds; the trained one is not."""
    done = [cell for cell in cells.values() if cell["error"] is None]
    (chosen,) = (cell for cell in done if cell["is_chosen"])
    solved = [cell for cell in done if cell["mode"] != "all_layers"]
    assert rank(chosen) == max(map(rank, solved))
    assert {(cell["folds"]["num_tracks"], cell["folds"]["num_groups"]) for cell in solved} == {
        (20, 5)
    }
    assert cells["all_layers", "best_start"]["folds"] is None
    kept, own = (workdir / path for path in ("exports/best", chosen["export"]))
    assert (kept / "SHA256SUMS").read_bytes() == (own / "SHA256SUMS").read_bytes()
    tags = musrep_jax.load_tagger(kept).predict(make_audio(30_000, 1)[0], 16000)
    assert list(tags) == ["drum", "flute"]


def test_what_cannot_be_fetched_is_said_and_left_out(workdir, cells):
    cell = cells["linear", "pretrained:vgg-mtt"]
    assert cell["is_unavailable"] and "vgg-mtt cannot be opened: there is" in cell["error"]
    lines = (workdir / "results.md").read_text().splitlines()
    assert lines[2].startswith("Chosen by folds over groups: ")
    assert any("Folds ROC-AUC" in line for line in lines)
    assert any(" not available |" in line for line in lines)
    rows = [line for line in lines if line.startswith("| ")]
    assert "log_mel_statistics, linear (baseline)" in rows[2]


def test_a_combination_is_an_ordinary_model(workdir, cells, encoder):
    """Its export gives the scores that were tested, from the waveform; no array came by chance."""
    (cell,) = (c for (mode, name), c in cells.items() if mode == "linear" and "[layer_2]" in name)
    tagger = musrep_jax.load_tagger(workdir / cell["export"])
    assert [name for name, _, _ in tagger.model.encoders] == ["log_mel_statistics", "musicnn"]
    trained = musrep_jax.load_encoder(encoder)
    own = tagger.variables["params"]["parts_1"]["layer1"]["conv"]["kernel"]
    np.testing.assert_array_equal(own, trained.variables["params"]["layer1"]["conv"]["kernel"])
    scores = np.load(workdir / "cells" / cell["key"] / "scores.npz")
    dataset = open_dataset(cell["target"], data_dir=workdir.parent / "data", sample_rate=16000)
    tracks = dataset.tracks("test")
    audio = tracks.crop(0, 0, int(tracks.num_samples[0]))
    found = list(tagger.predict(audio, 16000).values())
    np.testing.assert_allclose(found, scores["scores"][0], atol=1e-4)
    notes = tagger.card["training"]["notes"]
    assert any("musicnn, licence: CC0-1.0" in note for note in notes)


def test_features_are_the_outputs_standardized_by_the_training_tracks(workdir, cells, encoder):
    cell = cells["linear", f"export:{encoder}"]
    tagger = musrep_jax.load_tagger(workdir / cell["export"])
    audio = make_audio(12_000, 1)[0]
    _, outputs = musrep_jax.load_encoder(encoder).outputs(audio, 16000, ["pooled"])
    norm = tagger.variables["batch_stats"]["norm"]
    expected = (outputs["pooled"] - np.asarray(norm["mean"])) / np.sqrt(
        np.asarray(norm["var"]) + 1e-5
    )
    np.testing.assert_allclose(tagger.embed(audio, 16000), expected[0], atol=1e-3)


def test_all_layers_start_from_the_best_linear_model(workdir, cells):
    cell = cells["all_layers", "best_start"]
    linear = [c for (mode, _), c in cells.items() if mode == "linear" and c["error"] is None]
    best = max(linear, key=rank)
    assert cell["features"] == best["source"]
    start, end = (
        musrep_jax.load_tagger(workdir / c["export"]).variables["params"] for c in (best, cell)
    )
    part = next(name for name in start if "layer1" in start[name])
    moved = start[part]["layer1"]["conv"]["kernel"] - end[part]["layer1"]["conv"]["kernel"]
    # One step of Adam: every weight moves by up to the learning rate.
    assert 0 < np.abs(moved).max() < 2e-2
    np.testing.assert_allclose(start["head"]["kernel"], end["head"]["kernel"], atol=2e-2)


def test_one_label_per_track_is_trained_by_cross_entropy_without_being_asked(workdir, cells):
    assert {cell["loss"] for cell in cells.values() if cell["error"] is None} == {"cross_entropy"}
    assert musrep_jax.load_tagger(workdir / "exports" / "best").output == "softmax"


def test_jobs_of_candidates():
    config = read_config("--config.candidates=pretrained:a+pretrained:b[x,y], all_layers, scratch")
    jobs = jobs_of_config(config)
    assert [job["mode"] for job in jobs] == ["baseline", "linear", "all_layers", "scratch"]
    assert jobs[1]["source"] == "pretrained:a+pretrained:b[x,y]"
    assert jobs[2].needs == (jobs[1].key,)
    assert [share_minutes(config, job, 300) for job in jobs] == [None, None, 0.5, 0.5]
    assert share_minutes(config, jobs[3], 10**6) == 2.5
    config.minutes = 8.0
    assert share_minutes(config, jobs[3], 300) == 4.0
    config.minutes = 0.0
    assert [job["mode"] for job in jobs_of_config(config)] == ["baseline", "linear"]


def test_names_of_features():
    assert split_features("a[x,y]+b , scratch,") == ("a[x,y]+b", "scratch")
    (first, second) = parse_features("log_mel_statistics + export:/a b/c[layer_1, layer_2]")
    assert (first.place, second.place) == ("log_mel_statistics", "export:/a b/c")
    assert second.outputs == ("layer_1", "layer_2")
    for wrong in ("vgg_ish", "export:a[", "export:a]b", "+", ""):
        with pytest.raises(ConfigError, match="The features"):
            parse_features(wrong)


def test_wrong_names_are_one_sentence_before_anything_runs():
    for words, message in {
        "pretrained:musicn-msd": r"candidates names pretrained:musicn-msd.*musicnn-msd",
        "export:nowhere": r"candidates names export:nowhere: There is no exported model at",
    }.items():
        with pytest.raises(ConfigError, match=message):
            check_names(read_config(f"--config.candidates={words}"))


def test_encoders_that_cannot_stand_side_by_side_are_refused(encoder, tmp_path):
    other = make_export(tmp_path, "tagging_transformer")  # 22,050 Hz
    with pytest.raises(ConfigError, match=r"read 16,000 Hz and 22,050 Hz: only"):
        load_features(f"export:{encoder}+export:{other}")
    with pytest.raises(ValueError, match=r"no output 'layer_9'.*layer_3"):
        load_features(f"export:{encoder}[layer_9]")
    with pytest.raises(ConfigError, match="There is no exported model at"):
        load_features("export:nowhere")


def test_numbers_name_layers_also_from_the_last(encoder):
    by_number = load_features(f"export:{encoder}[1,-1,embedding]").settings["encoders"]
    assert by_number[0][2] == ("layer_1", "layer_3", "embedding")
    with pytest.raises(ValueError, match=r"no output 'layer_-4'"):
        load_features(f"export:{encoder}[-4]")


def test_a_combination_counts_as_its_encoders(workdir, cells):
    best = load_features(f"export:{workdir / 'exports' / 'best'}+log_mel_statistics")
    assert best.settings["encoders"][-1][0] == "log_mel_statistics"
    assert "combined_encoders" not in [name for name, _, _ in best.settings["encoders"]]


def test_the_choice_is_by_the_metric_then_the_loss_then_the_order():
    def measure(roc_auc, loss):
        return {"roc_auc": roc_auc, "loss": loss}

    listed = [("a", measure(0.8, 0.5)), ("b", measure(0.9, 0.5)), ("c", measure(0.9, 0.4)),
              ("d", measure(0.9, 0.4)), ("e", measure(None, 0.1)), ("f", None)]  # fmt: skip
    assert find_best(listed, "roc_auc") == "c"
    assert find_best(listed, "loss") == "e"
    assert find_best([], "roc_auc") is None


class ToyRecords:
    """Results of candidates that stand in memory."""

    def __init__(self, **found):
        self.found = found

    def result(self, job):
        return self.found[job.fields["model"]]["result"]

    def read_arrays(self, job, name):
        assert name == "validation"
        return self.found[job.fields["model"]]["arrays"]


def make_candidate(errors, folds=None, num_tracks=24, **result):
    """A candidate that errs on the first of the validation tracks, all of two classes."""
    labels = np.eye(2)[np.arange(num_tracks) % 2]
    right = np.where(np.arange(num_tracks) < errors, 0.2, 0.9)[:, None]
    scores = np.where(labels > 0, right, 1 - right)
    loss = -np.log(right[:, 0])
    measured = {"roc_auc": 1 - errors / num_tracks, "loss": float(loss.mean())}
    folds = None if folds is None else {"roc_auc": folds, "loss": 1.0}
    arrays = {"labels": labels, "scores": scores, "loss": loss}
    return {"result": {"validation": measured, "folds": folds, **result}, "arrays": arrays}


@pytest.mark.parametrize("select_by", ["roc_auc", "loss"])
@pytest.mark.parametrize(
    ("trained", "chosen"),
    [
        (make_candidate(0), "trained"),  # beyond doubt
        (make_candidate(7), "b"),  # one track better
        (make_candidate(9), "b"),
    ],
)
def test_of_few_groups_folds_choose_and_training_has_to_be_surely_better(
    select_by, trained, chosen
):
    records = ToyRecords(
        a=make_candidate(1, folds=0.8), b=make_candidate(8, folds=0.9), trained=trained
    )
    for name in "ab":
        records.found[name]["result"]["folds"]["loss"] = {"a": 0.6, "b": 0.5}[name]
    jobs = [make_job("t", name) for name in ("a", "b", "trained")]
    assert choose_one(jobs, records, select_by)["model"] == chosen


def test_without_folds_validation_chooses():
    jobs = [make_job("t", name) for name in ("a", "b", "trained")]
    plain = ToyRecords(a=make_candidate(3), b=make_candidate(2), trained=make_candidate(4))
    assert choose_one(jobs, plain, "roc_auc")["model"] == "b"
    earlier = ToyRecords(a=make_candidate(3, 0.9), b=make_candidate(2), trained=make_candidate(4))
    del earlier.found["b"]["result"]["folds"]  # of a version that knew none
    assert choose_one(jobs, earlier, "roc_auc")["model"] == "b"


def make_cell(mode, source=None, **fields):
    difference, p_value = fields.pop("versus", (None, None))
    roc_auc = {"roc_auc": {"difference": difference, "p_value": p_value}}
    return {
        "target": "t", "mode": mode, "source": source, "model": "vgg_ish", "seed": 0, "error": None,
        "num_train_tracks": 0, "roc_auc": 0.9, "pr_auc": 0.5, "seconds": 4,
        **({} if mode == "baseline" else {"versus_baseline": roc_auc}), **fields,
    }  # fmt: skip


def test_the_verdict_of_a_choice():
    baseline = make_cell("baseline", is_chosen=True)
    rising = make_cell("scratch", versus=(0.1, 0.2), num_steps=9, is_still_rising=True, is_chosen=0)
    assert describe_choice([rising, baseline]) == [
        "Chosen on validation data: log_mel_statistics, linear (baseline); no other candidate is "
        "better there.",
        "Validation was still rising at the end of the training: a larger --config.minutes may "
        "give better models (in a --workdir of its own).",
    ]
    for versus, words in {
        (0.01, 0.02): "it is better than the baseline (ROC-AUC +0.010, p = 0.02)",
        (-0.01, 0.02): "it is worse than the baseline",
        (0.01, 0.2): "it is not shown to differ from the baseline",
        (0.01, None): "cannot be tested",
    }.items():
        chosen = make_cell("linear", "pretrained:m", versus=versus, is_chosen=True)
        (sentence,) = describe_choice([make_cell("baseline", is_chosen=False), chosen])
        assert sentence.startswith("Chosen on validation data: m, linear; on the test") and (
            words in sentence
        )


@pytest.mark.parametrize(
    ("values", "end", "expected"),
    [
        ([0.5], {}, False),
        ([0.5], {"ran_out_of_time": True}, True),
        ([0.84, 0.88], {"ran_out_of_time": True}, True),
        ([0.88, 0.84], {"ran_out_of_time": True}, False),
        ([0.1, 0.2, 0.3, 0.4, 0.5], {}, True),
        ([0.1, 0.2, 0.3, 0.4, 0.5], {"stopped_early": True}, False),
        ([0.1, 0.5, 0.3, 0.3, 0.4], {}, False),
    ],
)
def test_validation_that_still_rises(values, end, expected):
    history = [{"step": n, "roc_auc": value, "loss": 0.1} for n, value in enumerate(values)]
    fit = FitResult(None, None, {}, 0, history, 1.0, **{"stopped_early": False, **end})
    assert is_still_rising(fit, "roc_auc") is expected


def test_the_table_of_candidates(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    cells = [
        make_cell("scratch", versus=(0.1, 0.2)),
        make_cell("linear", "pretrained:m", error="no network", is_unavailable=True),
        make_cell("baseline", validation={"roc_auc": 0.75}, is_chosen=True),
    ]
    lines = make_candidate_table(cells, style="text").splitlines()
    assert [line.split(",")[0] for line in lines[2:5]] == [
        "> log_mel_statistics", "m", "vgg_ish"
    ]  # fmt: skip
    assert "0.750" in lines[2] and "not available" in lines[3] and "+0.100" in lines[4]
    assert lines[-1] == "m, linear: not available: no network"
