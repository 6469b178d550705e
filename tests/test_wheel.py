"""What an installation holds: the built wheel, in an environment that has no checkout."""

import json
import os
import pathlib
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory) -> pathlib.Path:
    """The wheel of a copy of the files that git knows or would add."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=repository, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (repository / name).is_file() and not name.startswith(("tests/", "docs/figures/")):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((repository / name).read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(out), "."], cwd=tree, check=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> pathlib.Path:
    """The interpreter of an environment with the wheel and what it requires, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = folder / scripts / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    told = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    site = pathlib.Path(told.stdout.strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # Its requirements are those of this environment; a plain line installs no import hook.
    (site / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def run(python, *words, cwd):
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([python, *words], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_claims_one_import_name(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"musrep_jax"}


def test_wheel_holds_every_file_of_the_checkout(wheel, repository):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder, prefix in (
        ("musrep_jax", ""),
        ("configs", "musrep_jax/"),
        ("tfds_builders", "musrep_jax/"),
    ):
        for path in (repository / folder).rglob("*"):
            relative = path.relative_to(repository).as_posix()
            if path.is_file() and "__pycache__" not in relative:
                assert prefix + relative in names, relative


def test_installed_package_lists_its_configs_and_builds_its_data(installed, tmp_path):
    code = """
import importlib.util, json, sys
import musrep_jax
from musrep_jax.config import list_configs
from musrep_jax.data import open_dataset
from musrep_jax.data.datasets import DATASETS, load_builder_class
data = open_dataset("synthetic_cultures/makam", data_dir="data", num_tracks=24, seconds=1.0)
print(json.dumps({
    "place": musrep_jax.__file__,
    "configs": list_configs(),
    "builders": [load_builder_class(name).__name__ for name in DATASETS],
    "claimed": [n for n in ("configs", "tfds_builders") if importlib.util.find_spec(n)],
    "citation": data.spec.citation,
    "tracks": len(data.tracks("test")),
}))
"""
    found = json.loads(run(installed, "-c", code, cwd=tmp_path).splitlines()[-1])
    assert pathlib.Path(found["place"]).is_relative_to(installed.parent.parent)
    assert {"compare", "tagging", "transfer"} <= set(found["configs"]) and not found["claimed"]
    assert set(found["builders"]) == {"Builder"} and found["tracks"] > 0
    assert found["citation"].startswith("@")


def test_installed_command_trains_by_name(installed, tmp_path):
    words = ("-m", "musrep_jax", "train", "tagging:smoke", "--workdir", "run", "--json")
    small = ("--config.data.data_dir=data", "--config.model.name=log_mel_statistics")
    told = run(installed, *words, *small, cwd=tmp_path)
    assert json.loads(told)
    assert (tmp_path / "run" / "results.json").is_file()
