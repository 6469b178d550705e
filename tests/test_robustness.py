"""Models on deformed recordings: the matrix, paired differences, the tables, the command."""

import json
import re
import types

import numpy as np
import pytest
from toy_exports import make_export
from toy_recordings import make_folder

from musrep_jax.cli.robustness import name_taggers
from musrep_jax.command_line import main
from musrep_jax.config import ConfigError, parse_command_line, plain
from musrep_jax.data.deformed.deformations import PUBLISHED
from musrep_jax.evaluation.comparison import compare_systems
from musrep_jax.experiments.reading import read_run
from musrep_jax.experiments.workdir import identity
from musrep_jax.pages.report import make_page
from musrep_jax.tasks import load_task
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.robustness import comparison
from musrep_jax.tasks.robustness import task as robustness_task
from musrep_jax.tasks.robustness.comparison import compare_with_clean
from musrep_jax.tasks.robustness.matrix import parse_taggers
from musrep_jax.tasks.robustness.reports import make_tables
from musrep_jax.tasks.robustness.rows import list_rows, rank_deformation
from musrep_jax.tasks.robustness.trial import match_labels

LABELS = ("ney", "oud", "never")


def make_config(*flags):
    return parse_command_line(["main.py", "--config=robustness", *flags])[0]


def list_keys(*flags):
    return [job.key for job in load_task("robustness").jobs(make_config(*flags))]


def test_every_model_meets_every_deformation_of_every_data_set():
    config = make_config(
        "--config.target=fma, gtzan", "--config.taggers=pretrained:musicnn-msd, a=export:x/best",
        "--config.robustness.deformations=pitch:-1,1, noise:0..0.2",
    )  # fmt: skip
    jobs = load_task("robustness").jobs(config)
    ours = [job for job in jobs if job.task == "robustness"]
    names = ["clean", "pitch:-1", "pitch:1", "noise:0.1", "noise:0.2"]
    taggers = ["log_mel_statistics", "pretrained:musicnn-msd", "a=export:x/best"]
    assert [(job["target"], job["deformation"], job["tagger"]) for job in ours] == [
        (target, name, tagger) for target in ("fma", "gtzan") for name in names
        for tagger in taggers
    ]  # fmt: skip
    assert len({job.key for job in jobs}) == len(jobs) == len(ours) + 2
    baseline = next(job for job in jobs if job.task == "tagging")
    assert {job.needs for job in ours if job["target"] == "fma"} == {(), (baseline.key,)}


def test_a_linear_model_is_fitted_first_and_once():
    flags = ("--config.target=fma", "--config.evaluation.baseline=False")
    jobs = load_task("robustness").jobs(
        make_config(*flags, "--config.taggers=linear:pretrained:vgg-msd,log_mel_statistics")
    )
    fitted = [job for job in jobs if job.task == "tagging"]
    assert [job["mode"] for job in fitted] == ["linear", "baseline"]
    assert {job.needs for job in jobs[2:]} == {(job.key,) for job in fitted}
    assert len(jobs) == 2 + 2 * (1 + len(PUBLISHED))


def test_a_study_may_be_extended():
    one = make_config("--config.target=fma", "--config.taggers=pretrained:musicnn-msd")
    more = make_config(
        "--config.target=gtzan", "--config.taggers=export:x", "--config.robustness.deformations="
    )
    assert identity(plain(one)) == identity(plain(more))
    other = make_config("--config.target=fma", "--config.evaluation.num_chunks=3")
    assert identity(plain(one)) != identity(plain(other))


def test_exports_of_one_name_are_told_apart():
    assert name_taggers(["runs/a/exports/best", "runs/b/exports/best", "musicnn-msd"]) == [
        "a-best=export:runs/a/exports/best",
        "b-best=export:runs/b/exports/best",
        "pretrained:musicnn-msd",
    ]
    given = ["linear:pretrained:vgg-msd", "mine=models/x", "export:y", "log_mel_statistics"]
    assert name_taggers(given) == [given[0], "mine=export:models/x", "export:y", given[3]]
    with pytest.raises(ConfigError, match="same name"):
        list_keys("--config.taggers=export:a/best,export:b/best")


@pytest.mark.parametrize(
    "text", ["", "nothing", "linear:", "linear:scratch", "linear:nothing", "a=b", "=export:x"]
)
def test_what_names_no_model_is_refused(text):
    if text:
        with pytest.raises(ConfigError, match=re.escape(repr(text))):
            parse_taggers(text)
    assert main(["main.py", "--config=robustness", f"--config.taggers={text}"]) == 2


def test_labels_are_matched_by_name():
    tagger = types.SimpleNamespace(labels=("oud", "drums", "ney"), check_head=lambda: None)
    spec = types.SimpleNamespace(label_names=("ney", "kemençe", "oud"), name="makam")
    own, columns = match_labels(tagger, types.SimpleNamespace(spec=spec), "export:x")
    assert own.tolist() == [2, 0] and columns.tolist() == [0, 2]
    spec.label_names = ("a", "b", "c", "d", "e", "f")
    with pytest.raises(ConfigError, match=r"x knows none .*a, b, c, d and 2 more.*linear:export:x"):
        match_labels(tagger, types.SimpleNamespace(spec=spec), "export:x")


class MadeUpRecords:
    """Results and scores of 60 tracks in 20 groups, worse under noise."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.labels = (rng.random((60, 3)) < [0.5, 0.3, 0]).astype(np.uint8)
        clean = self.labels + 0.4 * rng.standard_normal((60, 3))
        self.scores = {
            "clean": clean,
            "noise:0.4": clean + 2 * rng.standard_normal((60, 3)),
            "pitch:1": 2 * clean + 1,
        }
        self.jobs = [
            Job("robustness", {"target": "t", "tagger": "export:x", "deformation": name, "seed": 0})
            for name in self.scores
        ]

    def result(self, job):
        return {"error": None}

    def is_done(self, job):
        return True

    def read_arrays(self, job, name="scores"):
        return {
            "track_ids": np.arange(60),
            "labels": self.labels,
            "scores": self.scores[job["deformation"]],
            "groups": np.arange(60) // 3,
            "label_names": np.array(LABELS),
        }


def count_pairs(labels, scores):
    """ROC-AUC as the share of pairs in order."""
    pairs = [
        (high > low) + 0.5 * (high == low)
        for high in scores[labels > 0]
        for low in scores[labels == 0]
    ]
    return sum(pairs) / len(pairs)


def walk_precision(labels, scores):
    """Average precision, track by track from the highest score."""
    found, total = 0, 0.0
    for place, row in enumerate(np.argsort(-scores), start=1):
        found += labels[row]
        total += labels[row] * found / place
    return total / labels.sum()


def test_differences_are_those_of_plain_loops_and_paired():
    records = MadeUpRecords()
    found = compare_with_clean(records.jobs, records, 500, "groups")
    assert [job["deformation"] for job in found] == ["noise:0.4", "pitch:1"]
    noisy, shifted = (one["versus_clean"] for one in found.values())
    for metric, measure in (("roc_auc", count_pairs), ("pr_auc", walk_precision)):
        wanted = [
            measure(records.labels[:, k], records.scores["noise:0.4"][:, k])
            - measure(records.labels[:, k], records.scores["clean"][:, k])
            for k in (0, 1)
        ]
        assert noisy[metric]["difference"] == pytest.approx(np.mean(wanted))
        for label, difference in zip(LABELS, wanted, strict=False):
            assert noisy["per_label"][label][metric]["difference"] == pytest.approx(difference)
        low, high = noisy[metric]["ci"]
        assert low < noisy[metric]["difference"] < high < 0
        assert noisy[metric]["verdict"] == "worse"
        assert (noisy[metric]["resampled"], noisy[metric]["num_units"]) == ("groups", 20)
        # The same ranking is no difference, however the scores are scaled.
        assert shifted[metric]["difference"] == 0 and shifted[metric]["ci"] == [0, 0]
    assert noisy["per_label"]["never"] is None
    assert not compare_with_clean(records.jobs, records, 0, "groups")
    ids = records.read_arrays
    records.read_arrays = lambda job: {
        **ids(job), "track_ids": np.arange(60) + (job["deformation"] == "clean")
    }  # fmt: skip
    with pytest.raises(ConfigError, match="different tracks"):
        compare_with_clean(records.jobs, records, 500, "groups")


def test_large_tables_take_more_swaps_as_their_p_values_are_corrected(monkeypatch):
    records, taken = MadeUpRecords(), []

    def compare(*arrays, num_resamples, **options):
        taken.append(num_resamples)
        return compare_systems(*arrays, num_resamples=0, **options)

    monkeypatch.setattr(comparison, "compare_systems", compare)
    fields = dict(records.jobs[0].fields)
    for number in range(60):
        name = f"noise:{0.001 * number:.3f}"
        records.scores[name] = records.scores["clean"]
        records.jobs.append(Job("robustness", {**fields, "deformation": name}))
    compare_with_clean(records.jobs, records, 500, "groups")
    assert set(taken) == {40 * 62} and min(taken) > 20 * len(taken)  # 1 / swaps * rows < 0.05


def make_result(tagger, deformation, roc_auc, difference=None, p_value=0.001):
    """A result as a job leaves it, with one label."""
    entry = {"roc_auc": roc_auc, "pr_auc": 0.5, "positives": 9}
    compared = None if difference is None else {
        "difference": difference, "ci": [difference - 0.01, difference + 0.01], "p_value": p_value,
    }  # fmt: skip
    versus = {"roc_auc": compared, "pr_auc": compared}
    return {
        "key": f"{tagger}-{deformation}", "task": "robustness", "error": None, "target": "a/makam",
        "tagger": tagger, "deformation": deformation, "seed": 0, "study": {}, **entry,
        "roc_auc_ci": [roc_auc - 0.1, roc_auc + 0.1], "pr_auc_ci": [0.4, 0.6],
        "random": {"roc_auc": 0.5, "pr_auc": 0.2}, "per_label": {"ney": entry},
        "num_tracks": 60, "num_track_groups": 20, "num_unknown_labels": int(tagger != "export:x"),
        "num_short_tracks": 5 if deformation == "stretch:2^0.5" else 1,
        "chunk_length_seconds": 3.0, "is_synthetic": False,
        **({} if difference is None else {
            "versus_clean": {**versus, "per_label": {"ney": versus}}}),
    }  # fmt: skip


def test_the_verdict_stands_on_top_and_the_published_findings_beside(monkeypatch):
    monkeypatch.setattr("musrep_jax.tasks.robustness.reports.get_width", lambda: None)
    results = [make_result(tagger, "clean", 0.9) for tagger in ("export:x", "export:y")]
    for place, name in enumerate(PUBLISHED):
        drop = -0.3 if name == "pitch:1" else -0.01 * place
        results.append(make_result("export:x", name, 0.9 + drop, drop))
        results.append(make_result("export:y", name, 0.905, 0.005, p_value=0.9))
    results.append({"error": "it is gone", "key": "k", "tagger": "export:z"})
    tables = make_tables(results, None)
    first = tables.text.splitlines()[0]
    assert first.startswith(
        "makam: pitch:1 hurts x most: ROC-AUC 0.600 instead of 0.900, a difference of -0.300 "
        "[-0.310, -0.290]; of 16 pairs of model and deformation"
    )
    assert re.search(r" 7 have a lower ROC-AUC .* 0 a higher one and 9 are undecided", first)
    assert "y changes by +0.005 on average, x by" in tables.text
    assert "pitch:1 harms most (-0.147; published: noise:0.4)" in tables.text
    for text in (tables.text, tables.markdown):
        assert text.count("chance: random scores") == 1 and "Failed: it is gone" in text
        assert "Published (Won, 2022, figure 3.8, MagnaTagATune): compression harms least" in text
        assert "1 clean tracks are shorter, 5 under stretch:2^0.5" in " ".join(text.split())
        assert "y does not know 1 of the labels" in text
    assert [title for title, _ in tables.sections] == [
        "Label by label: x, makam", "Label by label: y, makam"
    ]  # fmt: skip
    assert re.search(r"\| ney +\| +9 \| +0.900 \|.* -0.300 \\\*", tables.sections[0][1])
    better = [make_result("export:x", "clean", 0.9), make_result("export:x", "noise:1", 0.9, 0.0)]
    assert "no deformation lowers any model's ROC-AUC" in make_tables(better, None).text


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A folder of drums and flutes, and an export that knows one of the two."""
    path = tmp_path_factory.mktemp("material")
    make_folder(path / "recordings")
    make_export(path, "log_mel_statistics", labels=("flute", "ney"))
    make_export(path / "other", "log_mel_statistics", labels=("ney", "oud"))
    return path


def run_study(material, workdir, *flags):
    return main(
        [
            "main.py", "--config=robustness:smoke", f"--workdir={workdir}",
            f"--config.data.data_dir={material}/data", "--config.train.num_devices=1",
            f"--config.target=audio_folder:{material}/recordings",
            f"--config.taggers=log_mel_statistics,export:{material}/log_mel_statistics",
            "--config.robustness.deformations=noise:0.4", "--config.evaluation.baseline=True",
            *flags,
        ]
    )  # fmt: skip


def read_cells(workdir):
    return {
        cell["key"]: cell
        for cell in json.loads((workdir / "results.json").read_text(encoding="utf-8"))["cells"]
        if cell["task"] == "robustness"
    }


@pytest.mark.slow
def test_a_study_resumes_and_is_what_it_would_have_been(material, tmp_path, monkeypatch, capsys):
    assert run_study(material, tmp_path / "whole") == 0
    printed = capsys.readouterr().out
    first = next(line for line in printed.splitlines() if not re.match(r"built|building|  ", line))
    assert first.startswith("recordings: ") and "noise:0.4" in first, "the verdict is on top"
    export = material / "log_mel_statistics"
    done, score = [], robustness_task.score_tagger

    def score_two(job, objective, settings):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job.key)
        return score(job, objective, settings)

    with monkeypatch.context() as patch:
        patch.setattr(robustness_task, "score_tagger", score_two)
        assert run_study(material, tmp_path / "halves") == 130
    assert len(read_cells(tmp_path / "halves")) == 2
    assert run_study(material, tmp_path / "halves") == 0
    assert "3 done before" in capsys.readouterr().err
    whole, halves = (read_cells(tmp_path / name) for name in ("whole", "halves"))
    assert list(whole) == list(halves) and len(whole) == 4
    for key, cell in whole.items():
        for field in ("roc_auc", "pr_auc", "per_label", "versus_clean"):
            assert cell.get(field) == halves[key].get(field), (key, field)
        for name in ("scores", "labels"):
            one, other = (
                np.load(tmp_path / run / "cells" / key / "scores.npz")[name]
                for run in ("whole", "halves")
            )
            np.testing.assert_array_equal(one, other)
    rows = list_rows(list(whole.values()))
    assert [(row.tagger, row.deformation) for row in rows] == [
        (name, deformation) for name in ("log_mel_statistics", "export:" + str(export))
        for deformation in ("clean", "noise:0.4")
    ]  # fmt: skip
    assert [len(row.label_names) for row in rows] == [2, 2, 1, 1]
    assert [row.result["num_unknown_labels"] for row in rows] == [0, 0, 1, 1]
    assert rows[0].value("roc_auc") >= rows[1].value("roc_auc")
    drawn = [row.deformation for row in rows if row.tagger == "log_mel_statistics"]
    assert drawn == sorted(reversed(drawn), key=rank_deformation)
    figure = tmp_path / "whole" / "figures" / "robustness_audio_folder_recordings.png"
    assert figure.stat().st_size > 10_000
    page = make_page(read_run(tmp_path / "whole"), [], "nothing to hear")
    assert "All cells: robustness" in page and "noise:0.4" in page
    assert "Label by label" in (tmp_path / "whole" / "results.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_command_refuses_in_a_sentence_what_cannot_be(material, tmp_path, run):
    options = ("--workdir", tmp_path / "w", "--data-dir", material / "data")
    folder = material / "recordings"
    for words, said in (
        ((material / "nowhere", folder), "no exported model at"),
        (("log_mel_statistics", "no_such_set"), "there is no data set"),
        (("log_mel_statistics", folder, "--deformations", "pitch:99"), "pitch:99"),
        (("log_mel_statistics",), "name models, then a data set"),
    ):
        result = run("robustness", *words, *options)
        assert result.exit_code == 2 and said in result.stderr, result.stderr
        assert not (tmp_path / "w").exists()
    result = run(
        "robustness", material / "other" / "log_mel_statistics", folder, *options,
        "--deformations", "noise:0.4", "--json",
    )  # fmt: skip
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    errors = [cell["error"] for cell in told["cells"] if cell["error"]]
    assert len(errors) == 2 and "knows none of the labels" in errors[0]
    done = [cell for cell in told["cells"] if not cell["error"]]
    assert [cell["deformation"] for cell in done] == ["clean", "noise:0.4"]
    assert done[1]["versus_clean"]["roc_auc"]["difference"] <= 0
