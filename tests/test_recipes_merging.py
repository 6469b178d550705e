"""Shares of an experiment on several machines, and their results brought together."""

import json

import pytest

from musrep_jax.command_line import main
from musrep_jax.config import parse_command_line
from musrep_jax.experiments import experiment, merging
from musrep_jax.experiments.workdir import Workdir
from musrep_jax.runtime.files import to_json_safe
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.tagging.matrix import jobs_of_config
from musrep_jax.tasks.tagging.task import TaggingTask
from musrep_jax.training.checkpoints import save_export

FLAGS = (
    "--config=configs/transfer.py:smoke",
    "--config.source=synthetic_cultures/western,synthetic_cultures/greek",
    "--config.target=synthetic_cultures/makam,synthetic_cultures/greek",
    "--config.seeds=0,1",
)


@pytest.fixture(autouse=True)
def in_repository_root(repository, monkeypatch):
    monkeypatch.chdir(repository)


@pytest.fixture
def trained(monkeypatch):
    """Replaces training: a cell's result depends on the cell alone. Returns who was trained."""
    keys = []

    def run(self, job: Job):
        keys.append(job.key)
        assert all(self.folder.is_done(self.by_key[key]) for key in job.needs)
        result = {
            **job.to_dict(), "roc_auc": len(job.key) / 100, "seconds": float(len(keys)),
            "export": f"exports/{job.key}", "error": None,
        }  # fmt: skip
        save_export(self.folder.export_dir(job), {"w": 0.0}, {"labels": []})
        self.folder.write_result(job, to_json_safe(result))
        return result

    monkeypatch.setattr(experiment._ExperimentRunner, "run", run)
    monkeypatch.setattr(experiment, "describe_outcome", lambda result: "done")
    monkeypatch.setattr(TaggingTask, "compare", lambda *_: {})
    monkeypatch.setattr(experiment.run_jobs, "__kwdefaults__", {
        **experiment.run_jobs.__kwdefaults__, "show": lambda *_: None
    })  # fmt: skip
    return keys


def run(workdir, *flags):
    return main(["main.py", *FLAGS, f"--workdir={workdir}", *flags])


def results(workdir):
    cells = json.loads((workdir / "results.json").read_text())["cells"]
    return [merging.comparable(cell) for cell in cells]


def test_shares_with_workdirs_of_their_own_merge_into_the_whole(tmp_path, trained, capsys):
    assert run(tmp_path / "whole") == 0
    parts = [tmp_path / f"part{number}" for number in (1, 2, 3)]
    for number, part in enumerate(parts, start=1):
        assert run(part, f"--cells={number}/3") == 0
    assert "sources that they start from" in capsys.readouterr().err
    merge = "--merge=" + ",".join(map(str, parts))
    assert run(tmp_path / "merged", merge) == 0
    assert results(tmp_path / "merged") == results(tmp_path / "whole")
    num_trained = len(trained)
    assert run(tmp_path / "merged", merge) == 0  # again: nothing new
    assert "0 cells taken" in capsys.readouterr().err
    assert run(tmp_path / "merged") == 0  # and nothing is left to do
    assert len(trained) == num_trained


def test_shares_of_one_workdir_train_no_cell_twice(tmp_path, trained):
    for number in (3, 1, 2):
        assert run(tmp_path, f"--cells={number}/3") == 0
    assert len(trained) == len(set(trained))
    assert run(tmp_path) == 0
    assert len(trained) == len(set(trained)) == len(results(tmp_path))


def test_missing_cells_are_named(tmp_path, trained, capsys):
    assert run(tmp_path / "part", "--cells=1/3") == 0
    capsys.readouterr()
    assert run(tmp_path / "merged", f"--merge={tmp_path / 'part'}") == 1
    error = capsys.readouterr().err
    missing = [line for line in error.splitlines() if line.startswith("missing: ")]
    assert len(missing) + len(results(tmp_path / "merged")) == len(
        jobs_of_config(parse_command_line(["main.py", *FLAGS])[0])
    )


def test_results_that_contradict_each_other_are_refused(tmp_path, trained, capsys):
    for name in ("one", "two"):
        assert run(tmp_path / name, "--cells=1/3") == 0
    file = next((tmp_path / "two").glob("cells/*/result.json"))
    file.write_text(json.dumps({**json.loads(file.read_text()), "roc_auc": 0.1}))
    assert run(tmp_path / "merged", f"--merge={tmp_path / 'one'},{tmp_path / 'two'}") == 2
    error = capsys.readouterr().err
    assert f"{file.parent.name} is not the same in" in error
    assert "different: roc_auc" in error
    assert not list((tmp_path / "merged").glob("cells/*"))  # nothing half-merged


@pytest.mark.parametrize(
    "flags, words",
    [
        (("--merge=nowhere",), "nowhere', which is no folder"),
        (("--merge=a", "--cells=1/2"), "give one of them"),
        (("--cells=7/3",), "such as 3/16"),
    ],
)
def test_mistakes_get_one_sentence(tmp_path, trained, capsys, flags, words):
    assert run(tmp_path, *flags) == 2
    assert words in capsys.readouterr().err


def test_another_experiment_is_not_merged(tmp_path, trained, capsys):
    assert run(tmp_path / "one", "--config.train.batch_size=5") == 0
    assert run(tmp_path / "merged", f"--merge={tmp_path / 'one'}") == 2
    assert "train.batch_size" in capsys.readouterr().err


def test_a_failed_cell_is_replaced_by_one_that_worked(tmp_path, trained):
    assert run(tmp_path / "good", "--cells=1/3") == 0
    assert run(tmp_path / "bad", "--cells=1/3") == 0
    config = parse_command_line(["main.py", *FLAGS])[0]
    bad = Workdir(tmp_path / "bad", config)
    job = next(job for job in jobs_of_config(config) if bad.is_done(job))
    bad.write_result(job, {**bad.result(job), "error": "no room"})
    run(tmp_path / "merged", f"--merge={tmp_path / 'bad'}")
    assert not Workdir(tmp_path / "merged", config).is_done(job)
    run(tmp_path / "merged", f"--merge={tmp_path / 'bad'},{tmp_path / 'good'}")
    assert Workdir(tmp_path / "merged", config).is_done(job)
