"""The command line's frame: help, version, completion, exit codes, errors, JSON."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
import typer
from published_weights import one_line

import musrep_jax
from musrep_jax import __version__
from musrep_jax.cli import COMMANDS, PASSTHROUGH_COMMANDS, app
from musrep_jax.cli.common import describe_front_end
from musrep_jax.cli.examples import EXAMPLES
from musrep_jax.command_line import main
from musrep_jax.config import list_configs
from musrep_jax.models import MODELS, create_model

NEEDED = ["import-weights", "--model", "fcn", "--weights", "absent.pth", "--name", "x",
          "--licence", "y", "--out", "nowhere"]  # fmt: skip


def run_apart(repository, *words, code="from musrep_jax.cli import run; run()", **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=repository,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_version_and_help(run):
    assert run("--version").stdout.strip() == f"musrep_jax {__version__}"
    told = run("--help")
    assert told.exit_code == 0
    for name, function in COMMANDS.items():
        assert name in told.stdout
        assert function.__doc__
        own = run(name, "--help")
        assert own.exit_code == 0
        assert "--json" in own.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_examples_that_parse(run, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    shown = run(name, "--help").stdout
    if name not in PASSTHROUGH_COMMANDS:  # whose help says more than the library's
        assert max(map(len, shown.splitlines())) <= 80
        assert not re.search(r"<\w+( range)?>", shown)
        assert "{" not in shown
    command = typer.main.get_command(app).commands[name]
    examples = "\n".join(EXAMPLES[name]).replace("\\\n", " ").splitlines()
    for example in examples:
        program, word, *words = shlex.split(example, comments=True)
        assert (program, word) == ("musrep", name)
        command.make_context(name, words)
        assert example.split()[-1] in shown


def test_help_and_completion_need_no_jax(repository):
    code = "import sys, musrep_jax.cli; print(sorted({'jax', 'flax', 'numpy'} & set(sys.modules)))"
    assert run_apart(repository, code=code).stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        (["im"], ["import-weights"]),
        (["models", "sample"], ["sample_cnn", "sample_cnn_se"]),
        (["models", "crnn-"], ["crnn-mtat", "crnn-msd", "crnn-jamendo"]),
        (["tag", "vgg"], ["vgg-msd", "vgg-mtt"]),
        (["serve", "vgg"], ["vgg-msd", "vgg-mtt"]),
        (["train", "ta"], ["tagging"]),
        (["doctor", "ly"], ["lyra"]),
        (["export", "model", "--format", "on"], ["onnx"]),
    ],
)
def test_shell_completion(run, monkeypatch, words, completions):
    monkeypatch.setenv("_MUSREP_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(["musrep", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    assert run().stdout.split() == completions


def test_help_of_an_experiment(run, capsys):
    """`main.py --help` lists the configs; with a config, what it runs and all its fields."""
    assert main(["main.py", "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Usage: python main.py --config=NAME[:ARGUMENT]")
    assert all(f"\n  {name} " in told for name in list_configs())
    assert max(map(len, told.splitlines())) <= 105
    assert main(["main.py", "--help", "--config=tagging", "--config.train.num_steps=7"]) == 0
    told = capsys.readouterr().out
    assert "labels.tsv" in told
    assert re.search(r"^  train\.num_steps +7$", told, re.MULTILINE)
    assert main(["main.py", "--help", "--config=tagin"]) == 2
    assert "Did you mean 'tagging'?" in capsys.readouterr().err
    ours = run("train", "tagging", "--help")
    assert ours.exit_code == 0 and re.search(r"^  train\.num_steps ", ours.stdout, re.MULTILINE)


def test_summaries_of_commands_are_whole(run):
    commands = run("--help").stdout.partition("Commands:")[2]
    assert "..." not in commands
    assert " ".join(commands.split()).count("and write a page: under a minute.") == 1


def test_the_package_shows_what_it_offers():
    assert {"load_tagger", "load_encoder"} <= set(dir(musrep_jax))


def test_the_table_of_models(run, repository, monkeypatch):
    found = {model["name"]: model for model in json.loads(run("models", "--json").stdout)}
    golden = json.loads((repository / "tests/golden/parameter_counts.json").read_text())
    assert found.keys() == MODELS.keys()
    for name, model in found.items():
        assert model["num_params"] == golden[name]
        assert model["sample_rate"] == create_model(name, 50).sample_rate
        assert model["seconds"] == model["num_samples"] / model["sample_rate"]
    chosen = {name: MODELS[name] for name in ("harmonic_cnn", "musicnn", "sample_cnn")}
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("musrep_jax.models.MODELS", chosen)
    table = run("models").stdout
    assert all(name in table for name in chosen)
    assert "784,300" in table
    assert "6 harmonics of 128 bands" in table
    smaller = json.loads(run("models", "--num-classes", "1", "--json").stdout)
    by_name = {model["name"]: model["num_params"] for model in smaller}
    assert by_name["musicnn"] == golden["musicnn"] - 49 * 201


def test_the_settings_of_a_model(run):
    settings = json.loads(run("models", "musicnn", "--json").stdout)
    assert settings["num_samples"] == 48000
    assert settings["horizontal_lengths"] == [129, 65, 33]
    assert "horizontal_lengths" in run("models", "musicnn").stdout


def test_a_front_end_in_words():
    assert describe_front_end(None) == "waveform"
    front_end = create_model("musicnn", 50).front_end
    assert describe_front_end(front_end) == "96 HTK mel bands 0-8000 Hz, window 512, hop 256"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["models", "musicn"], "Unknown model 'musicn'. Did you mean 'musicnn'?"),
        ([*NEEDED, "--backbone"], "There is no weight file absent.pth."),
        (NEEDED, "either --labels FILE, the names of the output units, or --backbone; neither was"),
        ([*NEEDED, "--backbone", "--labels", "x.json"], "both were given"),
        ([*NEEDED, "--labels", "absent.json"], "There is no label file absent.json."),
        ([*NEEDED, "--backbone", "--set", "n_mel=3"], "Did you mean 'n_mels'?"),
        ([*NEEDED, "--backbone", "--input-mean", "3"], "--input-mean and --input-std go together"),
    ],
)
def test_an_error_is_one_sentence(run, words, sentence):
    result = run(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert sentence in result.stderr
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.strip().splitlines()) == 1


def test_usage_errors_name_the_argument_and_the_option(run):
    assert "Missing argument 'NAME'" in run("build").stderr
    assert run("no-such-command").exit_code == 2
    result = run("import-weights", "--model", "fcn")
    assert result.exit_code == 2
    assert "Missing option '--weights'" in one_line(result.stderr)


def test_no_traceback_unless_asked_for(run, repository):
    quiet = run("models", "nothing")
    assert quiet.exit_code == 2
    assert "Traceback" not in quiet.stderr
    loud = run_apart(repository, "--traceback", "models", "nothing")
    assert loud.returncode == 1
    assert "Traceback" in loud.stderr


def test_a_full_disk_is_a_failure_and_not_a_wrong_command(run, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device", "/disk/file")

    monkeypatch.setattr("musrep_jax.models.model_settings", fail)
    result = run("models", "fcn")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: No room left on the disk (/disk/file); free some space")
