"""`musrep train`: the words, the exit codes and the messages of main.py, and results as JSON."""

import json

import pytest

from musrep_jax import command_line
from musrep_jax.runtime.signals import StopSignalReceived

CELL = {"source": None, "target": "t", "model": "fcn", "mode": "scratch", "seed": 3,
        "num_train_tracks": 0, "roc_auc": 0.75, "roc_auc_ci": [0.7, 0.8], "pr_auc": 0.5,
        "pr_auc_ci": [0.4, 0.6], "num_tracks": 9, "seconds": 1.5, "export": "exports/t",
        "error": None}  # fmt: skip


@pytest.fixture
def here(monkeypatch, tmp_path):
    """An empty folder to work in; JAX keeps the devices of the other tests, and no cache."""
    monkeypatch.chdir(tmp_path)
    for name in ("enable_compilation_cache", "configure_cpu_devices"):
        monkeypatch.setattr(command_line, name, lambda *_: None)


@pytest.fixture
def recipe(here, monkeypatch, tmp_path):
    """Puts a recipe of no work in the place of all; returns what it was called with."""
    calls = []

    def run_recipe(config, workdir):
        calls.append((config, workdir))
        print("a table")
        path = tmp_path / workdir
        path.mkdir(parents=True, exist_ok=True)
        cells = [{**CELL, "per_label": {}, "seed": int(config.seeds)}]
        (path / "results.json").write_text(json.dumps({"format": 1, "cells": cells}))
        return int(config.train.num_steps) - 1  # stands for the exit code

    monkeypatch.setattr(command_line, "load_recipe", lambda name: run_recipe)
    return calls


@pytest.mark.parametrize("words", [["tagging:smoke"], ["--config=tagging:smoke"]])
def test_a_name_and_settings_reach_the_recipe(run, recipe, words):
    told = run("train", *words, "--config.seeds=3", "--config.train.num_steps", "1")
    assert (told.exit_code, told.stdout) == (0, "a table\n")
    config, workdir = recipe[0]
    assert (config.recipe, config.seeds, workdir) == ("tagging", "3", "runs/tagging-smoke")


def test_a_file_a_workdir_and_an_exit_code(run, recipe, repository):
    file = repository / "configs" / "transfer.py"
    told = run("train", "--config", file, "--workdir", "w", "--config.train.num_steps=2")
    assert told.exit_code == 1
    config, workdir = recipe[0]
    assert (config.recipe, workdir) == ("transfer", "w")


def test_json_is_all_that_is_printed(run, recipe, tmp_path):
    words = ["tagging", "--json", "--config.seeds=3", "--config.train.num_steps=2"]
    told = run("train", *words)
    assert told.exit_code == 1
    assert "a table" in told.stderr
    folder = tmp_path / "runs" / "tagging"
    assert json.loads(told.stdout) == {
        "workdir": str(folder),
        "results": str(folder / "results.json"),
        "cells": [CELL],
        "exit_code": 1,
    }


def test_stopped_before_the_first_result(run, here, monkeypatch):
    def stop(config, workdir):
        raise StopSignalReceived(15)

    monkeypatch.setattr(command_line, "load_recipe", lambda name: stop)
    told = run("train", "tagging:smoke", "--json")
    assert told.exit_code == 143
    found = json.loads(told.stdout)
    assert (found["results"], found["cells"], found["exit_code"]) == (None, [], 143)
    assert told.stderr == "Stopped.\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "No config was given"),
        (
            ["transfr"],
            "Did you mean 'transfer'? Allowed: compare, demo, harmonic, joint_embedding, probe, "
            "robustness, student, tagging, transfer.",
        ),
        (["tagging:smoke", "--config.seed=3"], "no field 'seed'. Did you mean 'seeds'?"),
        (["tagging:smoke", "more"], "Unexpected argument 'more'"),
        (["tagging", "--json", "--workdr=x"], "workdr"),
    ],
)
def test_mistakes_are_one_sentence(run, recipe, words, sentence):
    told = run("train", *words)
    assert (told.exit_code, told.stdout, recipe) == (2, "", [])
    assert sentence in told.stderr
    assert len(told.stderr.strip().splitlines()) == 1
