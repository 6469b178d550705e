"""The folder of an experiment with many cells."""

import json
import types

import pytest
from musrep_jax.configs import tagging

from musrep_jax.config import ConfigError
from musrep_jax.experiments import experiment, workdir
from musrep_jax.runtime.progress import TimeLeft
from musrep_jax.runtime.signals import StopSignalReceived
from musrep_jax.tasks.tagging.matrix import make_job

SECONDS_PER_CELL, SECONDS_PER_CELL_WRITTEN = 20.0, 0.05


@pytest.fixture
def run_cells(tmp_path, monkeypatch):
    """Runs so many cells whose training is left out; returns code and seconds of all writing."""
    now, spent, write_results = [0.0], [0.0], workdir.Workdir.write_results

    def run(self, job):
        if job.seed == self.config.get("stop_at"):
            raise StopSignalReceived(15)
        now[0] += SECONDS_PER_CELL
        result = job.to_dict()
        result |= experiment.failure(ValueError("left out"), SECONDS_PER_CELL)
        self.folder.write_result(job, result)
        return result

    def write(self, cells):
        now[0] += SECONDS_PER_CELL_WRITTEN * len(cells)
        spent[0] += SECONDS_PER_CELL_WRITTEN * len(cells)
        write_results(self, cells)

    monkeypatch.setattr(workdir, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(experiment._ExperimentRunner, "run", run)
    monkeypatch.setattr(workdir.Workdir, "write_results", write)

    def run_all(number, stop_at=None):
        config = tagging.get_config()
        config.stop_at = -1 if stop_at is None else stop_at
        jobs = [make_job("any", "vgg_ish", seed=seed) for seed in range(number)]
        path, spent[0] = tmp_path / str(number), 0.0
        code = experiment.run_jobs(config, jobs, str(path), show=lambda *arguments: None)
        return code, spent[0], json.loads((path / "results.json").read_text())["cells"]

    return run_all


def test_results_take_time_in_proportion_to_the_cells(run_cells):
    """Written after each cell they would take four times as long for twice the cells."""
    for number in (20, 40, 80):
        code, seconds, written = run_cells(number)
        assert (code, len(written)) == (1, number)
        last_ones = SECONDS_PER_CELL_WRITTEN * 2 * number  # once while they run, once at the end
        assert seconds < workdir.MAX_WRITE_SHARE * SECONDS_PER_CELL * number + last_ones


@pytest.mark.parametrize("number", [3, 30])
def test_results_are_whole_after_sigterm(run_cells, number):
    code, _, written = run_cells(number, stop_at=number - 1)
    assert (code, len(written)) == (143, number - 1)


def test_a_model_that_a_version_brings_leaves_a_workdir_open_and_a_changed_one_does_not(tmp_path):
    old, new = tagging.get_config(), tagging.get_config()
    del old.compact["musicnn"]
    with workdir.Workdir(tmp_path, old).lock_for_run():
        pass
    assert (tmp_path / "config.json").exists()
    workdir.Workdir(tmp_path, new)
    new.compact.vgg_ish.channels = 7
    with pytest.raises(ConfigError, match=r"different: compact\.vgg_ish"):
        workdir.Workdir(tmp_path, new)


def test_the_time_left_is_told_by_jobs_of_the_same_kind_alone():
    left = TimeLeft(iter([0.0, 7.0, 37.0, 87.0]).__next__)
    assert left.tell("baseline", ["scratch", "scratch"]) == ""
    assert left.tell("scratch", ["scratch", "baseline"]) == ", 37s left"
    assert left.tell("scratch", ["scratch"]) == ", 40s left"
