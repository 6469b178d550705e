"""Output in any encoding, `~` in paths, and columns of labels that are called like our own."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from compact_models import build
from toy_exports import LABELS, card_of

from musrep_jax.config import parse_command_line
from musrep_jax.training.checkpoints import save_export

NAME = "\u0930\u093e\u0917 \u015fark\u0131.wav"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a model, whose labels are called like columns, and a recording."""
    folder = tmp_path_factory.mktemp("made")
    built = build("fcn")
    labels = ["path", "start", *LABELS[2:]]
    card = {**card_of(built.model, "fcn"), "labels": labels, "thresholds": {}, "calibration": {}}
    save_export(folder / "model", built.variables, card)
    (folder / "music").mkdir()
    noise = 0.1 * np.random.default_rng(0).standard_normal(16000)
    soundfile.write(folder / "music" / NAME, noise, 16000)
    return folder


def musrep(made, *words, encoding="utf-8"):
    code = "from musrep_jax.cli import run; run()"
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "HOME": str(made / "home")}
    (made / "home").mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], cwd=made, env=environment,
        capture_output=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_output_does_not_die_of_its_encoding_and_json_stays_json(made, encoding):
    done = musrep(made, "tag", "model", "music", "--json", encoding=encoding)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.decode("ascii"))
    assert found["tracks"][0]["path"].endswith(NAME)


def test_a_home_folder_in_an_option_and_labels_called_like_columns(made):
    done = musrep(made, "tag", "model", "music", "--out=~/tags.tsv", encoding="iso8859-9")
    assert done.returncode == 0, done.stderr
    table = (made / "home" / "tags.tsv").read_text(encoding="utf-8").splitlines()
    columns = table[0].split("\t")
    assert columns[:5] == ["path", "start", "end", "label path", "label start"]
    assert len(set(columns)) == len(columns)
    assert not (made / "~").exists()


def test_a_home_folder_in_the_settings_of_an_experiment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config, workdir = parse_command_line(
        ["main.py", "--config=tagging:smoke", "--workdir=~/run", "--config.data.data_dir=~/data"]
    )
    assert workdir == f"{tmp_path}/run"
    assert config.data.data_dir == config.overrides.data.data_dir == f"{tmp_path}/data"
    config, _ = parse_command_line(["main.py", "--config=tagging", "--merge=~/a,b"])
    assert config.merge == f"{tmp_path}/a,b"
