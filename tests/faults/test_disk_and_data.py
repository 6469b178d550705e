"""Full and read-only disks; shards that vanish, flipped bytes, NaN, workers that are killed."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
import soundfile
from experiments import NUM_STEPS, Experiment, assert_same_outcome, mount, run_action_when

from musrep_jax.runtime.compilation_cache import enable_compilation_cache


@pytest.mark.parametrize(
    "size",
    [pytest.param(60, marks=pytest.mark.slow), 120, pytest.param(200, marks=pytest.mark.slow)],
)
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
    assert ("resumed after step 5" in capsys.readouterr().err) == (size == 200)
    assert_same_outcome(whole, folder / "w")


def test_a_disk_that_is_full_while_exporting(experiment, whole, small_disk, capsys):
    """Without checkpoints the exported model is the first thing that needs room."""
    folder, set_size = small_disk
    set_size(100)
    assert experiment.run(folder / "w", "--config.train.checkpoint=false") == 1
    error = capsys.readouterr().err
    assert f"step {NUM_STEPS}/{NUM_STEPS}" in error
    assert "No room left on the disk" in error or "No space left on device" in error
    assert "Traceback" not in error
    assert not list(folder.glob("w/exports/*"))
    set_size(64000)
    assert experiment.run(folder / "w") == 0
    assert_same_outcome(whole, folder / "w")


def set_read_only(root, is_read_only):
    """Lets nothing be made in a folder and those in it; for root permissions are not enough."""
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        if is_read_only:
            folder.chmod(0o500)
        if os.geteuid() == 0:
            flag = "+i" if is_read_only else "-i"
            subprocess.run(["chattr", flag, folder], check=False, capture_output=True)
        if not is_read_only:
            folder.chmod(0o700)


@pytest.fixture
def can_be_read_only(tmp_path):
    folder = tmp_path / "tried"
    folder.mkdir()
    set_read_only(folder, True)
    try:
        (folder / "file").touch()
    except OSError:
        return
    finally:
        set_read_only(folder, False)
    pytest.skip("root may write everywhere here, and chattr does not work")


def test_a_workdir_that_becomes_read_only(experiment, whole, tmp_path, capsys, can_be_read_only):
    """After its first checkpoint; existing files are kept, and the same command resumes."""
    workdir = tmp_path / "w"
    with run_action_when(
        lambda: list(workdir.glob("cells/*/checkpoints/5")), lambda: set_read_only(workdir, True)
    ):
        code = experiment.run(workdir)
    set_read_only(workdir, False)
    error = capsys.readouterr().err
    assert code == 1
    assert "Permission denied" in error or "Operation not permitted" in error
    assert "the same command resumes" in error
    assert "Traceback" not in error
    assert experiment.run(workdir) == 0
    assert "resumed after step" in capsys.readouterr().err
    assert_same_outcome(whole, workdir)


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
    """The experiment with a copy of its data set, which may be damaged.

    Of its data set only: other tests build others beside it.
    """
    name = "synthetic_cultures/western-24tracks-4000ms"
    shutil.copytree(experiment.data_dir / name, tmp_path / "d" / name)
    return Experiment(tmp_path / "d", experiment.repository)


def shard_of(experiment, split):
    (file,) = experiment.data_dir.rglob(f"*-{split}.array_record*")
    return file


def test_a_read_only_data_folder(own_data, whole, tmp_path, capsys, can_be_read_only):
    """As many machines share one; it lacks the table of the tracks and compiled programs."""
    tables = list(own_data.data_dir.rglob("tracks-*.npz"))
    assert tables
    for table in tables:
        table.unlink()
    set_read_only(own_data.data_dir, True)
    cache = jax.config.jax_compilation_cache_dir  # of this process
    jax.config.update("jax_compilation_cache_dir", None)
    enable_compilation_cache(own_data.data_dir)
    is_kept = jax.config.jax_compilation_cache_dir is not None
    jax.config.update("jax_compilation_cache_dir", cache)
    code = own_data.run(tmp_path / "w")
    set_read_only(own_data.data_dir, False)
    told = capsys.readouterr().err
    assert not is_kept
    assert f"compiled programs are not kept: {own_data.data_dir} cannot be written to" in told
    assert code == 0
    assert_same_outcome(whole, tmp_path / "w")


@pytest.mark.parametrize(
    ("split", "num_workers"),
    [
        ("train", 0),
        ("test", 1),
        pytest.param("train", 1, marks=pytest.mark.slow),
        pytest.param("test", 0, marks=pytest.mark.slow),
    ],
)
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


def test_a_shard_that_vanishes_during_the_training(own_data, whole, tmp_path, capsys):
    """The test split is opened after the training, which is not lost."""
    shard, workdir = shard_of(own_data, "test"), tmp_path / "w"
    with run_action_when(
        lambda: list(workdir.glob("cells/*/checkpoints/5")),
        lambda: shard.rename(tmp_path / "elsewhere"),
    ):
        assert own_data.run(workdir) == 1
    error = capsys.readouterr().err
    assert shard.name in error
    assert "Traceback" not in error
    (tmp_path / "elsewhere").rename(shard)
    assert own_data.run(workdir) == 0
    assert_same_outcome(whole, workdir)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_shard_in_use_is_deleted_during_the_training(own_data, whole, tmp_path, num_workers):
    """Crops are read from it in every step, and the open file goes on giving them."""
    shard, workdir = shard_of(own_data, "train"), tmp_path / "w"
    with run_action_when(lambda: list(workdir.glob("cells/*/checkpoints/5")), shard.unlink):
        flags = ("--config.data.cache_megabytes=0", f"--config.data.num_workers={num_workers}")
        assert own_data.run(workdir, *flags) == 0
    assert not shard.exists()
    assert_same_outcome(whole, workdir)


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


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGSEGV, marks=pytest.mark.slow)]
)
def test_killed_workers_are_started_again(experiment, whole, tmp_path, capsys, number):
    with run_action_when(
        multiprocessing.active_children,
        lambda: os.kill(multiprocessing.active_children()[0].pid, number),
    ):
        assert experiment.run(tmp_path / "w", "--config.data.num_workers=1") == 0
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


COMPILE = """
import pathlib, sys, jax
from musrep_jax.runtime.compilation_cache import enable_compilation_cache
enable_compilation_cache(pathlib.Path(sys.argv[1]))
jax.jit(lambda x: x + 1)(1.0)
"""


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b""])
def test_half_written_compiled_programs_are_compiled_again(repository, tmp_path, damage):
    """By a run that was killed, or on a full disk: JAX would warn, and compile, in every run."""

    def run():
        environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION")}
        words = [sys.executable, "-c", COMPILE, tmp_path]
        done = subprocess.run(
            words, cwd=repository, env=environment, capture_output=True, text=True, check=True
        )
        programs = {path: path.read_bytes() for path in tmp_path.rglob("*-cache")}
        return programs, done.stderr

    whole, _ = run()
    assert whole
    halved = sorted(whole)[0]
    halved.write_bytes(damage(whole[halved]))
    programs, said = run()
    assert sorted(programs) == sorted(whole)
    assert len(programs[halved]) > len(whole[halved]) // 2
    assert len(said.splitlines()) == 1, said  # where they are kept


def test_nan_in_a_recording_is_refused_and_the_others_are_used(experiment, tmp_path, capsys):
    def spoiled(audio, number):
        audio[1000] = np.nan if number == 5 else audio[1000]
        return audio

    folder = make_folder(tmp_path / "music", spoiled)
    flags = ("--config.data.name=audio_folder", f"--config.data.path={folder}")
    assert experiment.run(tmp_path / "w", *flags, "--config.train.num_steps=5") == 0
    assert "5.wav" in "".join(capsys.readouterr())
