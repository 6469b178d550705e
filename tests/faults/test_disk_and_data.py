"""Full and read-only disks; shards that vanish, flipped bytes, NaN, workers that are killed."""

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import threading

import numpy as np
import pytest
import soundfile
from experiments import Experiment, assert_same_outcome


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


@pytest.mark.parametrize("size", [60, 200, 600])
def test_a_disk_that_is_full_while_saving(experiment, whole, small_disk, capsys, size):
    """At its first file, at its first checkpoint, and after one."""
    folder, set_size = small_disk
    set_size(size)
    assert experiment.run(folder / "w") == 1
    error = capsys.readouterr().err
    assert "No room left on the disk" in error or "No space left on device" in error
    assert "Traceback" not in error
    set_size(64000)
    assert experiment.run(folder / "w") == 0
    assert ("resumed after step 5" in capsys.readouterr().err) == (size == 600)
    assert_same_outcome(whole, folder / "w")


def test_a_read_only_workdir(experiment, tmp_path, capsys):
    folder = tmp_path / "disk"
    folder.mkdir(mode=0o500)
    is_mounted = mount("-t", "tmpfs", "-o", "ro", "tmpfs", folder)
    assert is_mounted or os.geteuid() != 0
    for workdir in (folder, folder / "w"):
        assert experiment.run(workdir) == 2
        assert "cannot be" in capsys.readouterr().err
    if is_mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def own_data(experiment, whole, tmp_path):
    """The experiment with a copy of its data set, which may be damaged."""
    shutil.copytree(experiment.data_dir / "synthetic_cultures", tmp_path / "d/synthetic_cultures")
    return Experiment(tmp_path / "d", experiment.repository)


def shard_of(experiment, split):
    (file,) = experiment.data_dir.rglob(f"*-{split}.array_record*")
    return file


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_shard_that_vanished(own_data, whole, tmp_path, capsys, split, num_workers):
    shard = shard_of(own_data, split)
    shard.rename(tmp_path / "elsewhere")
    workers = f"--config.data.num_workers={num_workers}"
    assert own_data.run(tmp_path / "w", workers) == 1
    told = capsys.readouterr()
    assert shard.name in told.err
    assert "Traceback" not in told.err
    (tmp_path / "elsewhere").rename(shard)
    assert own_data.run(tmp_path / "w", workers) == 0
    assert_same_outcome(whole, tmp_path / "w")


@pytest.mark.parametrize("is_first", [False, True], ids=["after", "before"])
@pytest.mark.parametrize("flags", [(), ("--config.data.cache_megabytes=0",)], ids=["all", "parts"])
def test_flipped_bytes_in_a_record(own_data, tmp_path, capsys, is_first, flags):
    """After the table of the tracks was made, and before: then the library's own sums tell."""
    shard = shard_of(own_data, "train")
    if is_first:
        shard.with_name("tracks-train.npz").unlink()
    data = bytearray(shard.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(byte ^ 0xFF for byte in data[middle : middle + 64])
    shard.write_bytes(data)
    assert own_data.run(tmp_path / "w", *flags) == 1
    told = capsys.readouterr()
    assert "is damaged" in told.err
    assert str(shard.parent) in told.err
    assert "build the data set again, or copy it again" in told.err
    assert "Traceback" not in told.err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_killed_workers_are_started_again(experiment, whole, tmp_path, capsys, number):
    is_over = threading.Event()

    def kill_one():
        while not is_over.wait(0.01):
            if workers := multiprocessing.active_children():
                os.kill(workers[0].pid, number)
                return

    thread = threading.Thread(target=kill_one)
    thread.start()
    try:
        assert experiment.run(tmp_path / "w", "--config.data.num_workers=1") == 0
    finally:
        is_over.set()
        thread.join()
    assert "was killed: starting it again at the same batch" in capsys.readouterr().err
    assert_same_outcome(whole, tmp_path / "w")


def make_folder(folder, spoiled):
    """Writes tones and noises; `spoiled` is called with each waveform and its number."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["path\tlabels\tgroup"]
    for number in range(24):
        audio = 0.1 * rng.standard_normal(40000)
        if number % 2:
            audio = 0.3 * np.sin(2 * np.pi * (300 + 20 * number) * np.arange(40000) / 16000)
        soundfile.write(folder / f"{number}.wav", spoiled(audio, number), 16000, subtype="FLOAT")
        lines.append(f"{number}.wav\t{('noise', 'tone')[number % 2]}\tgroup{number // 4}")
    (folder / "labels.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_nan_in_a_recording_is_refused_and_the_others_are_used(experiment, tmp_path, capsys):
    def spoiled(audio, number):
        audio[1000] = np.nan if number == 5 else audio[1000]
        return audio

    folder = make_folder(tmp_path / "music", spoiled)
    flags = ("--config.data.name=audio_folder", f"--config.data.path={folder}")
    assert experiment.run(tmp_path / "w", *flags) == 0
    assert "5.wav" in "".join(capsys.readouterr())
