"""Several processes: found in the environment, told apart when they differ, and equal to one."""

import json
import os
import re
import signal

import jax
import numpy as np
import pytest
from flax import traverse_util
from program_runs import SECONDS, output, processes, run_processes, wait_for

from musrep_jax.command_line import main
from musrep_jax.config import ConfigError
from musrep_jax.runtime import distributed
from musrep_jax.training.checkpoints import load_export
from musrep_jax.training.logs import read_rows

MODEL = (
    "--config.model.name=fcn",
    "--config.model.n_channels=4",
    "--config.model.num_samples=16000",
    "--config.model.pools=((2,2),(2,2),(2,2),(2,3),(3,4))",
)
NOT_COMPARED = {"cell", "seconds", "steps_per_second", "data_wait"}


def rows_of(workdir):
    rows = read_rows(workdir / "metrics.jsonl")
    return [{k: v for k, v in row.items() if k not in NOT_COMPARED} for row in rows]


def scores_of(workdir):
    cells = json.loads((workdir / "results.json").read_text("utf-8"))["cells"]
    assert [cell["error"] for cell in cells] == [None, None]
    return [{k: cell[k] for k in ("roc_auc", "pr_auc", "best_step", "num_steps")} for cell in cells]


def assert_alike(one, two):
    """Losses to 1e-5 of them, parameters to 2e-6.

    Adam makes large steps of a gradient that is nothing but rounding: that of a bias in front of
    BatchNorm, which the running mean follows. Four steps of 1e-4 bring those two 4e-4 apart.
    """
    rows = rows_of(one)
    assert len(rows) == 2 * (4 + 2)
    for ours, theirs in zip(rows + scores_of(one), rows_of(two) + scores_of(two), strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            same = value if isinstance(value, str) else pytest.approx(value, rel=1e-5)
            assert theirs[name] == same, (name, ours, theirs)
    exports = sorted(path.name for path in (one / "exports").iterdir())
    assert len(exports) == 2
    for export in exports:
        ours, theirs = (
            traverse_util.flatten_dict(load_export(run / "exports" / export)[0], sep="/")
            for run in (one, two)
        )
        for path, array in ours.items():
            wanders = path.endswith(("conv/bias", "/mean"))
            atol = 4e-4 if wanders else 2e-6
            np.testing.assert_allclose(theirs[path], array, rtol=1e-5, atol=atol, err_msg=path)


def test_two_processes_are_one(tmp_path, repository, monkeypatch):
    """A source trained in full and an output layer on it: the same rows, scores and exports.

    Both runs have two devices; the one of a single process is made here, which saves a start. On
    one machine they are the same bit for bit; what is asked for leaves room for another order of
    sums.
    """

    def command(workdir, num_cpu_devices):
        return (
            "--config=configs/transfer.py:smoke",
            *MODEL,
            f"--workdir={tmp_path / workdir}",
            f"--config.data.data_dir={tmp_path / 'data'}",
            f"--config.train.num_cpu_devices={num_cpu_devices}",
            "--config.transfer.modes=output_layer",
            "--config.train.num_steps=4",
            "--config.train.evaluate_every_steps=2",
            "--config.train.log_every_steps=1",
            "--config.train.checkpoint_every_minutes=0",
            "--config.evaluation.batch_size=7",
            "--config.optimizer.learning_rate=1e-4",
        )

    monkeypatch.chdir(repository)
    assert main(["main.py", *command("one", 2), "--config.train.num_devices=2"]) == 0
    two = run_processes(repository, tmp_path, command("two", 1), command("two", 1))
    assert [code for code, _ in two] == [0, 0], two
    assert "2 cells, 0 done before" in two[0][1] and "2 cpu device(s)" in two[0][1]
    assert "cells" not in two[1][1]  # only the first tells how it goes

    assert_alike(tmp_path / "one", tmp_path / "two")
    assert not list((tmp_path / "two").glob("**/*.tmp*"))


@pytest.mark.slow
def test_sigterm_to_one_stops_both_and_one_goes_on(tmp_path, repository):
    """The state was split over both; the process that goes on holds it whole."""
    common = (
        "--config=configs/tagging.py:smoke",
        *MODEL,
        f"--workdir={tmp_path / 'w'}",
        f"--config.data.data_dir={tmp_path / 'data'}",
        "--config.train.num_cpu_devices=1",
        "--config.train.num_steps=1000000",
        "--config.train.evaluate_every_steps=500000",
        "--config.train.log_every_steps=5",
    )
    split = (*common, "--config.train.shard_params_over=500")
    with processes(repository, tmp_path, split, split) as started:
        wait_for("steps/s", tmp_path, started[0])
        started[1].send_signal(signal.SIGTERM)
        assert [process.wait(SECONDS) for process in started] == [143, 143]
    step = re.search(r"stopped by SIGTERM after step (\d+)", output(tmp_path))[1]
    with processes(repository, tmp_path, common) as started:
        wait_for(f"resumed after step {step}\n", tmp_path, started[0])
        wait_for("steps/s", tmp_path, started[0])
        started[0].send_signal(signal.SIGTERM)
        assert started[0].wait(SECONDS) == 143


@pytest.mark.slow
def test_processes_that_differ_are_refused_by_name(tmp_path, repository):
    common = (
        "--config=configs/tagging.py:smoke",
        f"--workdir={tmp_path / 'w'}",
        f"--config.data.data_dir={tmp_path / 'data'}",
    )
    runs = run_processes(repository, tmp_path, common, (*common, "--config.train.batch_size=8"))
    for code, text in runs:
        assert code == 2, text
        assert "Process 1 on" in text and "another command than process 0" in text
        assert "config.train.batch_size" in text
        assert "Traceback" not in text
    assert not (tmp_path / "w").exists()


@pytest.fixture
def joined(monkeypatch):
    """What `jax.distributed.initialize` was called with, which does nothing."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **options: calls.append(options))
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "JAX_", "KUBERNETES_")):
            monkeypatch.delenv(name)
    return calls


SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[3-4]",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911"}


def test_one_process_is_left_alone(joined, monkeypatch):
    assert distributed.start({}) == 1
    assert distributed.start({"num_processes": 1, "coordinator": "h:1", "process_id": 0}) == 1
    for name, value in (SLURM | {"SLURM_NTASKS": "1"}).items():
        monkeypatch.setenv(name, value)
    assert distributed.start({}) == 1
    assert joined == []
    assert distributed.is_first()
    assert distributed.exchange("anything", 3) == [3]
    assert distributed.agree_on_signal(15, is_sync_step=False) == 15
    distributed.leave()


@pytest.mark.parametrize(
    "variables", [SLURM | {"SLURM_NTASKS": "2"}, OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "2"}]
)
def test_clusters_are_found_as_jax_finds_them(joined, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert distributed.start({"timeout_seconds": 9}) == 2
    (options,) = joined
    assert options["cluster_detection_method"] is None
    assert options["coordinator_address"] is options["process_id"] is None  # JAX reads them
    assert (options["num_processes"], options["initialization_timeout"]) == (2, 9)


def test_flags_go_before_the_environment(joined, monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "there:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "4")
    monkeypatch.setenv("JAX_PROCESS_ID", "3")
    distributed.start({"coordinator": "here:2"})
    (options,) = joined
    assert (options["coordinator_address"], options["process_id"]) == ("here:2", 3)
    assert options["num_processes"] == 4
    assert options["cluster_detection_method"] == "deactivate"


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"num_processes": 2}, "distributed.coordinator and distributed.process_id is missing"),
        ({"coordinator": "h:1", "num_processes": 2, "process_id": 2}, "must be 0 to 1"),
        ({"coordinator": "h", "num_processes": 2, "process_id": 1}, "must be HOST:PORT"),
    ],
)
def test_mistakes_get_one_sentence(joined, settings, words):
    with pytest.raises(ConfigError, match=words):
        distributed.start(settings)
    assert joined == []
