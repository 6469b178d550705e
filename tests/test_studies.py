"""Studies: settings that hold several values; jobs, results, tables and figures follow."""

import json

import pytest
from made_runs import write_cell, write_run
from musrep_jax.configs import harmonic, transfer

from musrep_jax.command_line import main
from musrep_jax.config import ConfigError, parse_command_line
from musrep_jax.experiments.reading import read_run
from musrep_jax.pages.report import make_page
from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.study_figures import save_study_figures
from musrep_jax.reporting.tables import make_results_table
from musrep_jax.tasks import load_task
from musrep_jax.tasks.studies import parse_study, repeat_jobs
from musrep_jax.tasks.tagging.matrix import find_scratch, make_job

WEST, MAKAM = "synthetic_cultures/western", "synthetic_cultures/makam"


def plan(text, config=None, **changes):
    config = config or transfer.get_config("smoke")
    with config.unlocked():
        for name, value in changes.items():
            config[name] = value
    task = load_task("tagging")
    jobs = repeat_jobs(task.jobs(config), parse_study(text, config), {"tagging": task})
    return task, config, jobs


def test_values_have_the_types_of_their_settings():
    config = transfer.get_config()
    text = (
        "model.num_harmonics=1|2; optimizer.learning_rate=1|1e-3;transfer.batch_norm=frozen|none;"
        "train.reload_best_at_switch=true|false; optimizer.switch_at=(0.5,)|[0.6, 0.7]"
    )
    assert parse_study(text, config) == {
        "model.num_harmonics": (1, 2),
        "optimizer.learning_rate": (1.0, 1e-3),
        "transfer.batch_norm": ("frozen", None),
        "train.reload_best_at_switch": (True, False),
        "optimizer.switch_at": ((0.5,), (0.6, 0.7)),
    }
    assert parse_study("", config) == {}


@pytest.mark.parametrize(
    "text, words",
    [
        ("num_harmonics", "write a setting and its values, such as"),
        ("num_harmonics=1|2", "names no section"),
        ("modle.num_harmonics=1", "Did you mean 'model'"),
        ("model.num_harmonic=1", "Did you mean 'num_harmonics'"),
        ("model.name=fcn|crnn", "takes a list itself: --config.model.name=A,B"),
        ("transfer.modes=scratch", "takes a list itself"),
        ("model.num_harmonics=1|x", "'x'; it must be of type int"),
        ("model.num_harmonics=1|2.5", "'2.5'; it must be of type int"),
        ("train.batch_size=8|true", "'true'; it must be of type int"),
        ("train.batch_size=8|none", "'none'; it must be of type int"),
        ("train.batch_size=8|8", "twice"),
        ("train.batch_size=8;train.batch_size=4", "twice: give all its values at once"),
    ],
)
def test_a_study_that_cannot_be_read_is_a_sentence(text, words):
    with pytest.raises(ConfigError, match=words):
        parse_study(text, transfer.get_config())


def test_every_job_is_there_with_every_combination_and_needs_its_own_source():
    _, _, plain = plan("")
    task, config, jobs = plan("model.n_channels=2|4; optimizer.learning_rate=1e-3|1e-4")
    assert len(jobs) == 4 * len(plain) == 16
    by_key = {job.key: job for job in jobs}
    for job in jobs:
        settings = task.make_settings(config, job)
        assert settings.model.n_channels == job.study["model.n_channels"]
        assert settings.optimizer.learning_rate == job.study["optimizer.learning_rate"]
        assert "n_channels_" in job.key and "learning_rate_0.00" in job.key
        for key in job.needs:
            assert by_key[key].study == job.study
        if job["source"]:
            assert find_scratch(job, jobs).study == job.study


def test_what_a_setting_does_not_change_is_run_once():
    _, _, jobs = plan("transfer.batch_norm=frozen|update")
    assert [len(job.study) for job in jobs if job["mode"] == "scratch"] == [0, 0]
    carried = [job for job in jobs if job["source"]]
    assert len(carried) == 4 and all(len(job.needs) == 1 for job in carried)
    assert find_scratch(carried[0], jobs).study == {}
    config = harmonic.get_config("smoke")
    config.model.name = "harmonic_cnn,fcn"
    _, _, jobs = plan("model.num_harmonics=1|2|3", config)
    assert [job["model"] for job in jobs].count("fcn") == 1 and len(jobs) == 4
    with pytest.raises(ConfigError, match="changes nothing in any of the 4 jobs"):
        plan("model.num_harmonics=1|2")


def test_a_study_says_the_size_of_the_model_too():
    task, config, jobs = plan("model.size=compact|full", harmonic.get_config("smoke"))
    sizes = [task.make_settings(config, job).model.n_channels for job in jobs]
    assert sizes == [16, None]


def run(tmp_path, *flags):
    config = "--config=configs/harmonic.py:smoke"
    return main(["main.py", config, f"--workdir={tmp_path / 'w'}", *flags])


@pytest.mark.parametrize(
    "study, words",
    [
        ("optimizer.switch_at=(0.5,)|(0.6,)", "optimizer.switch_at is not a setting of 'adam'"),
        ("optimizer.learning_rate=1e-3|-1.0", "learning_rate"),
        ("train.num_steps=1|0", "train.num_steps is 0; it must be"),
        ("train.select_by=loss|roc", "train.select_by is 'roc'"),
        ("model.num_harmonics=2|11", "model.num_harmonics=11)"),
    ],
)
def test_values_are_judged_before_anything_runs(tmp_path, repository, monkeypatch, capsys,
                                                study, words):  # fmt: skip
    monkeypatch.chdir(repository)
    assert run(tmp_path, f"--config.study={study}") == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: ") and words in last
    assert not (tmp_path / "w").exists()


def test_a_study_may_be_given_in_parts():
    argv = ["main.py", "--config=transfer", "--config.study=model.n_channels=2|4", "--workdir=w"]
    config, _ = parse_command_line([*argv, "--config.study=train.batch_size=8"])
    assert config.study == "model.n_channels=2|4; train.batch_size=8"
    assert parse_command_line(argv)[0].study == "model.n_channels=2|4"


# --- results, tables, figures ---


@pytest.fixture
def studied(tmp_path):
    """A workdir with a study of two settings, one of which does nothing from scratch."""
    results = []
    for width in (2, 4):
        study = {"model.n_channels": width}
        results.append(write_cell(tmp_path, make_job("made/west", "fcn", study=study)))
        results.append(write_cell(tmp_path, make_job("made/greek", "fcn", study=study)))
        for norm in ("frozen", "update"):
            job = make_job("made/greek", "fcn", "all_layers", "made/west",
                           study={**study, "transfer.batch_norm": norm})  # fmt: skip
            results.append(write_cell(tmp_path, job))
    write_run(tmp_path, results)
    return tmp_path


def test_results_say_the_study_and_keys_are_read_back(studied):
    run = read_run(studied)
    assert len(run.results) == 8
    for key, result in run.results.items():
        assert result["key"] == key and result["study"]["model.n_channels"] in (2, 4)
        assert json.loads((studied / "cells" / key / "result.json").read_text())["key"] == key


def test_tables_have_a_column_per_setting(studied):
    results = list(read_run(studied).results.values())
    lines = make_results_table(results).splitlines()
    head, _, *rows = [[text.strip() for text in line.split("|")[1:-1]] for line in lines[:10]]
    shown = [dict(zip(head, row, strict=True)) for row in rows]
    assert [row["n_channels"] for row in shown].count("2") == 4
    norms = [row["batch_norm"] for row in shown if row["Mode"] == "all_layers"]
    assert sorted(norms) == ["frozen", "frozen", "update", "update"]
    assert {row["batch_norm"] for row in shown if row["Mode"] == "scratch"} == {"-"}


def test_transfers_are_compared_with_scratch_of_the_same_values(studied):
    results = list(read_run(studied).results.values())
    summaries = cells_file.summarize(results, "roc_auc")
    for condition, summary in summaries.items():
        if condition.mode == "scratch":
            continue
        width = dict(condition.study)["model.n_channels"]
        (scratch,) = [
            r for r in results
            if r["mode"] == "scratch" and r["target"] == condition.target
            and r["study"] == {"model.n_channels": width}
        ]  # fmt: skip
        assert summary.difference == pytest.approx(summary.value - scratch["roc_auc"])


def test_variants_stand_beside_each_other_as_models(studied):
    results = list(read_run(studied).results.values())
    variants = cells_file.separate_variants(results)
    assert {cell["model"] for cell in variants} == {
        f"fcn, n_channels={width}, batch_norm={norm}"
        for width in (2, 4)
        for norm in ("frozen", "update")
    }
    assert len(variants) == 4 * 3  # each with its source, its scratch and its transfer
    default = {**results[0], "study": {}}  # run before the study, with the default
    names = [cell["model"] for cell in cells_file.separate_variants([*results, default])]
    assert names.count("fcn") == 1 and len(names) == 13
    assert cells_file.separate_variants([default]) == [default]


def test_figures_and_the_page_follow(studied):
    run = read_run(studied)
    paths = save_study_figures(list(run.results.values()), studied / "figures")
    assert sorted(path.name for path in paths) == [
        f"study_{setting}_{metric}.png"
        for setting in ("batch_norm", "n_channels")
        for metric in ("pr_auc", "roc_auc")
    ]
    assert all(path.stat().st_size > 10_000 for path in paths)
    page = make_page(run, [], "nothing to hear")
    assert ">n_channels<" in page and ">batch_norm<" in page
    assert "fcn, n_channels=4, batch_norm=update" in page
