"""Jobs of the benchmark of models: who waits for whom, and what becomes of those that fail."""

import itertools
import json
import math
import os
import sys

import pytest

from benchmarks import jobs, models

SCRIPT = """
import json, pathlib, sys, time
sys.path.insert(0, {root!r})
from benchmarks.jobs import lock_measurement
name, folder, turn = sys.argv[1:]
if name == "broken":
    sys.exit("no such model")
time.sleep(60 if name == "late" else 0.01)
ready = time.monotonic()
if turn:
    with lock_measurement(folder):
        began = time.monotonic()
        time.sleep(0.05)
        ended = time.monotonic()
else:
    began = ended = ready
import os
record = {{"model": name, "times": [ready, began, ended], "cores": len(os.sched_getaffinity(0))}}
pathlib.Path(folder, "models.json").write_text(json.dumps({{"models": [record]}}))
"""


@pytest.fixture
def run(monkeypatch, request):
    """Runs jobs that only sleep, and returns their records."""

    def make_command(name, folder, settings):
        turn = "" if settings.threads else "yes"
        script = SCRIPT.format(root=str(request.config.rootpath))
        return [sys.executable, "-c", script, name, str(folder), turn]

    monkeypatch.setattr(jobs, "make_command", make_command)

    def run(names, *arguments):
        records = []
        jobs.run_jobs(names, models.parse_arguments(list(arguments)), records.append)
        return {record["model"]: record for record in records}

    return run


def test_all_are_compiled_before_one_is_measured_and_then_one_at_a_time(run):
    records = run(["a", "b", "c"], "--jobs=3")
    times = sorted((record["times"] for record in records.values()), key=lambda t: t[1])
    assert max(ready for ready, _, _ in times) <= times[0][1]
    assert all(before[2] <= after[1] for before, after in itertools.pairwise(times))


def test_one_that_is_late_or_broken_is_named_and_the_others_are_measured(run, capfd):
    records = run(["a", "late", "broken"], "--jobs=3", "--compile-limit=3")
    assert list(records) == ["a"]
    said = capfd.readouterr().err
    assert "late is left out: it was not compiled after 3 s." in said
    assert "broken failed (1): no such model" in said


def test_jobs_with_cores_of_their_own_do_not_wait(run):
    records = run(["a", "b", "c"], "--jobs=1", "--threads=1")
    assert sorted(records) == ["a", "b", "c"]
    assert {record["cores"] for record in records.values()} == {1}


def test_at_the_end_of_the_time_what_is_missing_is_said(run, capfd):
    assert run(["late", "a"], "--jobs=1", "--limit=0.5") == {}
    said = capfd.readouterr().err
    assert "late is left out" in said and "a is left out: there was no time" in said


def test_a_job_is_the_same_command_for_one_model(tmp_path):
    settings = models.parse_arguments(["--jobs=2", "--torch", "--steps=train", "--batch=8"])
    told = jobs.make_command("crnn@64", tmp_path, settings)
    assert os.path.basename(told[1]) == "models.py"
    again = models.parse_arguments(told[2:])
    changed = {"models": "crnn@64", "out": str(tmp_path), "turn": str(tmp_path), "jobs": 0}
    assert vars(again) == {**vars(settings), **changed, "limit": math.inf}


def test_the_table_of_several_batches_names_them():
    step = {"examples_per_second": 8.0, "ratio": {}, "model_flops_utilisation": 0.25}
    record = {
        "model": "crnn",
        "batch": 2,
        "parameters": 1000,
        "forward_gflops_per_example": 1.0,
        "compile_seconds": {"forward": 1, "train": 2},
        "peak_bytes": {"ours": {"train": 2e9}},
        "steps": {"train": step},
    }
    settings = models.parse_arguments(["--steps=train"])
    table = models.markdown_table(
        [json.loads(json.dumps(record)), {**record, "batch": 4}], settings
    )
    assert "| crnn | 4 | 1,000 | 1.00 | 1.0, 2.0 | 8.0 | 25% | 2.00 |" in table
