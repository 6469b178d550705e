"""Commands on a full disk: one sentence, nothing half left, and nothing lost of what was there."""

import os

import numpy as np
import pytest
import soundfile
from toy_exports import make_export

from musrep_jax.runtime.integrity import find_damage
from musrep_jax.store import Store

NUM_FILES = 40


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return make_export(tmp_path_factory.mktemp("export"), "fcn")


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    for number in range(NUM_FILES):
        soundfile.write(folder / f"{number}.wav", 0.1 * rng.standard_normal(1600), 16000)
    return folder


def read_all(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def leave_kilobytes(folder, set_size, size):
    """Leaves little room on a small disk beside what is there."""
    if not os.path.ismount(folder):
        set_size(10)  # no file grows beyond 1,000 bytes
        return
    disk = os.statvfs(folder)
    assert set_size((disk.f_blocks - disk.f_bfree) * disk.f_frsize // 1024 + size)


def assert_told(told):
    assert told.exit_code == 1, told.stderr
    assert "No room left on the disk" in told.stderr and "free some space" in told.stderr
    assert "Traceback" not in told.stderr and "Errno" not in told.stderr


@pytest.mark.parametrize("form", ["safetensors", "stablehlo", "onnx"])
def test_an_export(run, export, small_disk, form):
    folder, set_size = small_disk
    words = ("export", export, "--format", form, "--out", folder / "x")
    assert run(*words).exit_code == 0
    before = read_all(folder)
    leave_kilobytes(folder, set_size, 8)
    assert_told(run(*words))
    assert read_all(folder) == before
    assert find_damage(folder / "x") is None


def test_a_store(run, export, music, small_disk):
    """The tracks before stay, and the same command goes on with the rest."""
    folder, set_size = small_disk
    store = folder / "s"
    words = ("embed", export, "--store", store)
    assert run(*words, music / "0.wav", "--per-chunk").exit_code == 0
    first = np.array(Store(store).embeddings)
    leave_kilobytes(folder, set_size, 0)
    told = run(*words, music, "--per-chunk")
    assert_told(told)
    np.testing.assert_array_equal(Store(store).embeddings[:1], first)
    set_size(64000)
    assert run(*words, music, "--per-chunk").exit_code == 0
    assert len(Store(store)) == NUM_FILES
    np.testing.assert_array_equal(Store(store).embeddings[:1], first)


def test_a_table_of_tags(run, export, music, small_disk):
    folder, set_size = small_disk
    words = ("tag", export, music, "--out", folder / "tags.tsv")
    assert run(*words).exit_code == 0
    before = read_all(folder)
    leave_kilobytes(folder, set_size, 0)
    told = run(*words)
    assert_told(told)
    assert "What was tagged so far is in" in told.stderr
    assert {name: text for name, text in read_all(folder).items() if name in before} == before
    set_size(64000)
    assert run(*words).exit_code == 0
    assert read_all(folder) == before
