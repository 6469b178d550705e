"""The small experiment of `experiments.py`, and its outcome when nothing happens to it."""

import pytest
from experiments import Experiment


@pytest.fixture(scope="session")
def experiment(tmp_path_factory, repository):
    return Experiment(tmp_path_factory.mktemp("data"), repository)


@pytest.fixture(autouse=True)
def in_the_checkout(repository, monkeypatch):
    monkeypatch.chdir(repository)


@pytest.fixture(scope="session")
def whole(experiment, tmp_path_factory, repository):
    """The workdir of the experiment that nothing has happened to."""
    workdir = tmp_path_factory.mktemp("whole") / "w"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        assert experiment.run(workdir) == 0
    return workdir
