"""Shared fixtures, and eight virtual CPU devices with strict numerics for the whole suite."""

import os
import pathlib
import shutil
import tempfile
from typing import NamedTuple

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
# What one process of the suite has compiled the others need not compile again.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", f"{tempfile.gettempdir()}/musrep-{os.getpid()}")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax
import pytest

from musrep_jax.models import MODELS

jax.config.update("jax_numpy_rank_promotion", "raise")
# JAX counts its devices when it is first used: here, before a test's `main` can ask for fewer.
jax.devices()

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
PROGRAMS = (
    "test_benchmarks.py",
    "test_multilevel.py",
    "test_recipes_compare.py",
    "test_recipes_transfer.py",
    "test_tasks_baseline.py",
    "test_tasks_candidates.py",
    "test_tasks_joint_embedding.py",
    "test_training_distributed.py",
    "test_wheel.py",
)


def pytest_unconfigure() -> None:
    """Removes what was compiled, at the end of the process that named the folder."""
    compiled = pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    if compiled.name == f"musrep-{os.getpid()}":
        shutil.rmtree(compiled, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what takes long by what it needs: corpora, notebooks, a browser, whole programs."""
    for item in items:
        if item.path.parent.name == "faults" or item.path.name in PROGRAMS:
            item.add_marker(pytest.mark.programs)
        if item.path.name.startswith("test_corpora"):
            item.add_marker(pytest.mark.corpora)
        if item.path.name == "test_colab.py":
            item.add_marker(pytest.mark.notebooks)
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def repository() -> pathlib.Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_dir() -> pathlib.Path:
    """The folder of reference outputs and labeled audio that may stand beside the checkout."""
    path = REPOSITORY.parent / "shared"
    if not path.is_dir():
        pytest.skip("reference material (../shared) does not stand beside this checkout")
    return path


@pytest.fixture
def toy_encoders(monkeypatch) -> None:
    """The encoders of `toy_encoder`, `toy_text` and `toy_audio`, stand in the table of models."""
    monkeypatch.setitem(MODELS, "toy_text", "toy_encoder:ToyTextEncoder")
    monkeypatch.setitem(MODELS, "toy_audio", "toy_encoder:ToyAudioEncoder")


@pytest.fixture
def without_ffmpeg(monkeypatch) -> None:
    """No ffmpeg program, neither on the PATH nor of a package; for child processes too."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")


class CommandResult(NamedTuple):
    """What a command left behind."""

    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture
def run(capsys):
    """Runs a command of `musrep` in this process and returns its `CommandResult`."""
    from musrep_jax.cli import app

    def run_here(*words):
        with pytest.raises(SystemExit) as ended:
            app([str(word) for word in words], prog_name="musrep")
        return CommandResult(int(ended.value.code or 0), *capsys.readouterr())

    return run_here
