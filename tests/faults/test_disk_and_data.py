"""Full and read-only disks; shards that vanish, flipped bytes, NaN, workers that are killed."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import threading
import time

import numpy as np
import pytest
import soundfile
from experiments import Experiment, assert_same_outcome

from musrep_jax.command_line import main


def mount(*words):
    """Returns whether a mount command worked: it does where we are root and may."""
    done = subprocess.run(["mount", *map(str, words)], capture_output=True, check=False)
    return done.returncode == 0


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


@pytest.mark.parametrize("size", [60, 200, 400, 600])
def test_a_disk_that_is_full_while_saving(experiment, whole, small_disk, capsys, size):
    folder, set_size = small_disk
    set_size(size)
    code = experiment.run(folder / "w")
    error = capsys.readouterr().err
    assert code == 1
    assert "No room left on the disk" in error or "No space left on device" in error
    assert "Traceback" not in error
    set_size(64000)
    assert experiment.run(folder / "w") == 0
    assert_same_outcome(whole, folder / "w")
    print(size, error)
