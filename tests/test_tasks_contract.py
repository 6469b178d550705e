"""The contract of a task, with the smallest one: a line through points, run by an experiment."""

import json
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from musrep_jax.configs import common

from musrep_jax.command_line import main
from musrep_jax.config import ConfigError
from musrep_jax.experiments import experiment
from musrep_jax.experiments.merging import comparable
from musrep_jax.experiments.reading import read_run
from musrep_jax.pages.report import make_page
from musrep_jax.tasks import TASKS, load_task
from musrep_jax.tasks.jobs import Job, check_jobs, key_of_result, list_needed, make_key
from musrep_jax.tasks.task import Export, Metric, Outcome, Task
from musrep_jax.training.checkpoints import load_export
from musrep_jax.training.objective import Objective


def loss_fn(params, model_state, batch, key):
    loss = jnp.mean((params["slope"] * batch["x"] - batch["y"]) ** 2)
    return loss, (model_state, {})


class LineTask(Task):
    """Learns the slope of a line; a second job starts from the sum of what two others learned."""

    volatile = ("mood",)
    unavailable = {"slope": None}  # noqa: RUF012

    def jobs(self, config):
        first = [Job("line", {"points": n, "seed": s}) for n in (4, 8) for s in (0, 1)]
        joined = [
            Job("line", {"kind": "joined", "points": 4, "seed": s},
                needs=tuple(job.key for job in first if job.seed == s))
            for s in (0, 1)
        ]  # fmt: skip
        return [*first, *joined]

    def prepare(self, job, context):
        starts = [load_export(context.find_export(key))[0] for key in job.needs]
        start = sum(float(v["params"]["slope"]) for v in starts)
        if job["points"] == context.settings.line.fail_at and not job.needs:
            raise ConfigError("It was asked to fail.")
        x = np.linspace(1, 2, job["points"], dtype=np.float32)

        def batches(start_step):
            while True:
                yield {"x": x, "y": 3 * x, "mask": np.ones_like(x)}

        return Objective(
            variables={"params": {"slope": np.float32(start)}},
            loss_fn=loss_fn,
            batches=batches,
            evaluate=lambda state: {"error": abs(3 - float(state.params["slope"]))},
            select_by=("error", "min"),
            steps_per_epoch=1,
        )

    def identify(self, job, objective, context):
        return {"start": float(objective.variables["params"]["slope"])}

    def finish(self, job, objective, fit, context):
        slope = np.float32(fit.best_state.params["slope"])
        start = float(objective.variables["params"]["slope"])
        return Outcome(
            [Metric("error", abs(3 - float(slope)), (0.0, 9.0), is_larger_better=False)],
            fields={"slope": float(slope), "start": start},
            arrays={"scores": {"slope": slope}},
            exports={
                "": Export({"params": {"slope": slope}}, {"model": "line"}),
                "twice": Export({"params": {"slope": 2 * slope}}, {"model": "line"}),
            },
        )


@pytest.fixture
def config():
    config = common.get_base(task="line")
    config.line = {"fail_at": 0}
    config.optimizer.update(name="sgd", learning_rate=0.05)
    config.train.update(num_steps=5, evaluate_every_steps=1, batch_size=1)
    return config


def run(config, path, **changes):
    with config.unlocked():
        config.cells, config.merge = changes.get("cells", ""), changes.get("merge", "")
    task = LineTask()
    return experiment.run_jobs(config, task.jobs(config), str(path), tasks={"line": task})


def read(path):
    return json.loads((path / "results.json").read_text())["cells"]


def test_jobs_of_any_task_run_with_names_results_and_tables(config, tmp_path, capsys):
    assert run(config, tmp_path / "w") == 0
    results = {r["key"]: r for r in read(tmp_path / "w")}
    assert set(results) == {
        *(f"seed{s}-points_{n}" for n in (4, 8) for s in (0, 1)),
        *(f"seed{s}-kind_joined-points_4" for s in (0, 1)),
    }
    joined = results["seed1-kind_joined-points_4"]
    assert (joined["task"], joined["kind"], joined["points"]) == ("line", "joined", 4)
    singles = [results[f"seed1-points_{n}"]["slope"] for n in (4, 8)]
    assert joined["start"] == pytest.approx(sum(singles), rel=1e-6)
    (metric,) = joined["metrics"]
    assert metric["is_larger_better"] is False and metric["ci"] == [0.0, 9.0]
    assert joined["exports"]["twice"] == f"exports/{joined['key']}@twice"
    twice = load_export(tmp_path / "w" / joined["exports"]["twice"])[0]
    assert twice["params"]["slope"] == pytest.approx(2 * joined["slope"])
    shown = capsys.readouterr()
    assert "error [95 %]" in shown.out and "error: smaller is better" in shown.out
    assert f"error {joined['slope'] - 3:.3f}".replace("-", "") in shown.err
    assert "joined" in (tmp_path / "w" / "results.md").read_text()
    assert len(list((tmp_path / "w" / "figures" / "training").glob("*.png"))) == 6
    read_back = read_run(tmp_path / "w")
    assert set(read_back.results) == set(results)
    page = make_page(read_back, [], "nothing to hear")
    assert "All cells: line" in page and "error: smaller is better" in page
    assert page.count("joined") >= 2
    assert run(config, tmp_path / "w") == 0
    assert "6 cells, 6 done before" in capsys.readouterr().err


CONFIG = """
from ml_collections import ConfigDict
from musrep_jax.configs import common

def get_config():
    config = common.get_base(task="line")
    config.line = ConfigDict({"fail_at": 0})
    config.optimizer.update(name="sgd", learning_rate=0.05)
    config.train.update(num_steps=5, evaluate_every_steps=1, batch_size=1)
    return config
"""


def test_a_line_in_the_table_and_a_config_make_a_command(tmp_path, monkeypatch, capsys):
    """What CONTRIBUTING says of a new task, with a setting of its own and a study."""
    monkeypatch.setitem(TASKS, "line", f"{__name__}:LineTask")
    (tmp_path / "line.py").write_text(CONFIG)
    flags = ("--config.line.fail_at=8", "--config.study=optimizer.learning_rate=0.05|0.01")
    command = ["main.py", f"--config={tmp_path / 'line.py'}", f"--workdir={tmp_path / 'w'}"]
    assert main([*command, *flags]) == 1
    results = {r["key"]: r for r in read(tmp_path / "w")}
    assert len(results) == 2 * 6
    for result in results.values():
        assert result["study"]["optimizer.learning_rate"] in (0.05, 0.01)
        assert (result["error"] is None) == (result["points"] == 4 and not result.get("kind"))
    assert "learning_rate" in capsys.readouterr().out
    assert main([*command, "--config.line.fail_a=8"]) == 2
    assert "Did you mean 'fail_at'" in capsys.readouterr().err


def test_what_is_needed_and_failed_is_a_sentence(config, tmp_path, capsys):
    config.line.fail_at = 8
    assert run(config, tmp_path) == 1
    results = {r["key"]: r for r in read(tmp_path)}
    failed = results["seed0-points_8"]
    assert failed["error"] == "It was asked to fail." and failed["slope"] is None
    assert "starts from seed0-points_8" in results["seed0-kind_joined-points_4"]["error"]
    assert results["seed0-points_4"]["error"] is None
    assert "failed (1)" in capsys.readouterr().out
    assert "It was asked to fail." in make_page(read_run(tmp_path), [], "nothing to hear")


def test_shares_hold_all_that_their_jobs_need_and_merge(config, tmp_path, capsys):
    assert run(config, tmp_path / "whole") == 0
    for number in (1, 2):
        assert run(config, tmp_path / f"{number}", cells=f"{number}/2") == 0
    merge = f"{tmp_path / '1'},{tmp_path / '2'}"
    assert run(config, tmp_path / "merged", merge=merge) == 0
    whole, merged = ([comparable(r) for r in read(tmp_path / n)] for n in ("whole", "merged"))
    assert whole == merged
    for result in merged:
        for path in result["exports"].values():
            assert (tmp_path / "merged" / path).is_dir()
    capsys.readouterr()


def test_names_follow_from_fields():
    fields = {"target": "audio_folder:/a b/c", "model": "fcn", "seed": 0, "level": 0.5, "empty": ""}
    job = Job("line", fields, study={"model.n_channels": 4})
    assert job.key == "audio_folder_c-fcn-seed0-level_0.5-n_channels_4"
    assert job.describe() == "audio_folder:c, fcn, level 0.5, n_channels=4, seed 0"
    assert key_of_result(job.to_dict()) == job.key
    assert key_of_result({"target": "x", "model": "m", "mode": "scratch"}) == "x-m-scratch-seed0"
    two = Job("line", {"target": ("a/b", "c"), "seed": 0})
    assert two.key == "a_b+c-seed0" and two.describe() == "a/b + c, seed 0"
    long = [make_key({"target": "t" * 300, "seed": seed}) for seed in (0, 1)]
    assert max(map(len, long)) <= 180 and long[0] != long[1]


def test_jobs_are_plain_data_in_order():
    a, b = Job("t", {"seed": 0}), Job("t", {"seed": 1}, needs=("seed0",))
    c = Job("t", {"seed": 2}, needs=("seed1",))
    assert list_needed([a, b, c], [c]) == [a, b]
    assert check_jobs([a, b, a, c]) == [a, b, c]
    with pytest.raises(ValueError, match="needs seed0, which does not come before"):
        check_jobs([b, a])
    with pytest.raises(ConfigError, match="nothing to do"):
        check_jobs([])
    with pytest.raises(TypeError, match="plain value"):
        Job("t", {"model": SimpleNamespace()})
    with pytest.raises(TypeError):
        a.fields["seed"] = 3


def test_every_task_of_the_table_is_one():
    for name in TASKS:
        assert isinstance(load_task(name), Task)
    with pytest.raises(ConfigError, match="Did you mean 'tagging'"):
        load_task("taging")
