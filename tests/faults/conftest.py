"""The small experiment of `experiments.py`, and its outcome when nothing happens to it."""

import resource
import subprocess

import pytest
from experiments import Experiment, mount


@pytest.fixture(scope="session")
def experiment(tmp_path_factory, repository):
    return Experiment(tmp_path_factory.mktemp("data"), repository)


@pytest.fixture(autouse=True)
def in_repository_root(repository, monkeypatch):
    monkeypatch.chdir(repository)


@pytest.fixture(scope="session")
def whole(experiment, tmp_path_factory, repository):
    """The workdir of the experiment that nothing has happened to."""
    workdir = tmp_path_factory.mktemp("whole") / "w"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        assert experiment.run(workdir) == 0
    return workdir


@pytest.fixture(scope="session")
def uninterrupted_subprocess_run(experiment, tmp_path_factory):
    """The same, run by a process of its own, as the runs that are killed are.

    Its devices are its own, while those of this process are as the first test left them: the
    numbers of one are not those of the other to the last bit.
    """
    workdir = tmp_path_factory.mktemp("uninterrupted_subprocess_run") / "w"
    with experiment.started(workdir) as process:
        output = process.communicate()[0]
    assert process.returncode == 0, output
    return workdir


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own, and a function that sets the disk's size in kilobytes.

    Where nothing can be mounted, no file may grow beyond a part of the size instead.
    """
    folder = tmp_path / "disk"
    folder.mkdir()
    if mount("-t", "tmpfs", "-o", "size=64m", "tmpfs", folder):
        yield folder, lambda size: mount("-o", f"remount,size={size}k", folder)
        subprocess.run(["umount", "-l", folder], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield (
        folder,
        lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size * 100, before[1])),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
