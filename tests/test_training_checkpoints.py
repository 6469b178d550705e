"""Checkpoints and exports: exact, refused when they are not ours, and never silently wrong."""

import itertools
import json
import pathlib
import shutil
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy_training import assert_trees_equal, make_batch, setup

from musrep_jax.runtime import integrity
from musrep_jax.runtime.integrity import write_checksums
from musrep_jax.training.checkpoints import (
    CheckpointError,
    ExportError,
    TrainCheckpoints,
    load_export,
    save_export,
)
from musrep_jax.training.sharding import make_mesh, replicate

IDENTITY = {"config": "8f3a", "model": "musicnn", "labels": ["raga", "tala", "voice"]}
CARD = {"model": {"name": "musicnn"}, "labels": ["raga", "tala"], "licence": "CC BY 4.0"}


def make_state(step=0, width=16):
    _, state, _ = setup(has_batch_norm=True, width=width)
    return state.replace(
        step=jnp.int32(step), params=jax.tree.map(lambda leaf: leaf + step, state.params)
    )


@pytest.fixture(scope="module")
def template():
    return make_state()


def save_steps(path, *best_steps):
    """Saves steps 1, 2, ... each with the step that was the best by then, or None."""
    with TrainCheckpoints(path, IDENTITY) as checkpoints:
        for step, best_step in enumerate(best_steps, start=1):
            best = None if best_step is None else make_state(best_step).replace(opt_state=None)
            checkpoints.save(step, make_state(step), {"best_step": best_step}, best)
        checkpoints.wait()
        return checkpoints.steps


def flip_bit(path: pathlib.Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def largest_file(folder: pathlib.Path) -> pathlib.Path:
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_doctests():
    import doctest

    assert doctest.testmod(integrity).attempted >= 2
    assert doctest.testmod(integrity).failed == 0


def test_the_two_latest_are_kept_each_with_the_best(tmp_path, template):
    assert save_steps(tmp_path, 1, 2, 2, 2, 2) == [4, 5]
    for lost in (5, 4):
        with TrainCheckpoints(tmp_path, IDENTITY) as checkpoints:
            best = checkpoints.restore(template).best_state
        assert_trees_equal(best.params, make_state(2).params)
        assert int(best.step) == 2
        shutil.rmtree(tmp_path / str(lost))


def test_a_state_comes_back_exactly_with_its_best(tmp_path, template):
    save_steps(tmp_path, 1, 2, 2)
    with TrainCheckpoints(tmp_path, IDENTITY) as checkpoints:
        restored = checkpoints.restore(template)
    assert_trees_equal(restored.state, make_state(3))
    assert_trees_equal(restored.best_state.params, make_state(2).params)
    assert restored.best_state.opt_state is None
    assert restored.run == {"best_step": 2}
    assert restored.notes == []
    assert type(restored.state.opt_state) is type(template.opt_state)


def test_a_state_that_was_never_evaluated_has_no_best(tmp_path, template):
    save_steps(tmp_path, None)
    with TrainCheckpoints(tmp_path, IDENTITY) as checkpoints:
        restored = checkpoints.restore(template)
    assert_trees_equal(restored.state, make_state(1))
    assert restored.best_state is None


def test_an_empty_directory_gives_nothing(tmp_path, template):
    with TrainCheckpoints(tmp_path / "new", IDENTITY) as checkpoints:
        assert checkpoints.restore(template) is None


def test_training_goes_on_while_a_save_is_written(tmp_path):
    """The step gives the state's memory away; what is written must not change with it."""
    _, state, train_step = setup(width=512)
    with TrainCheckpoints(tmp_path, IDENTITY) as checkpoints:
        for step in range(1, 4):
            state, _ = train_step(state, make_batch(4), jax.random.key(0))
            expected = jax.tree.map(np.array, state)
            checkpoints.save(step, state, {})
            for _ in range(3):
                state, _ = train_step(state, make_batch(4), jax.random.key(0))
        checkpoints.wait()
        assert_trees_equal(jax.tree.map(np.array, checkpoints.restore(state).state), expected)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model": "ast"}, "its model is 'musicnn', but this run has 'ast'"),
        ({"config": "77"}, "its config is '8f3a'"),
        ({"labels": ["raga", "makam", "voice"]}, "its labels has 'tala' at position 1.*'makam'"),
        ({"labels": ["raga"]}, "its labels has 3 entries where this run has 1"),
        ({"settings": {"a": {"b": 1}}}, "its settings is None, but this run has {'a': {'b': 1}}"),
        ({"format": 4}, "its format is 3, but this run has 4"),
    ],
)
def test_checkpoints_of_another_run_are_refused_by_name(tmp_path, template, change, words):
    steps = save_steps(tmp_path, 1)
    with (
        TrainCheckpoints(tmp_path, {**IDENTITY, **change}) as checkpoints,
        pytest.raises(CheckpointError, match=words),
    ):
        checkpoints.restore(template)
    with TrainCheckpoints(tmp_path, IDENTITY) as checkpoints:
        assert checkpoints.steps == steps  # and nothing is lost


def test_another_shape_is_refused_by_the_leafs_name(tmp_path):
    save_steps(tmp_path, 1)
    with (
        TrainCheckpoints(tmp_path, IDENTITY) as checkpoints,
        pytest.raises(
            CheckpointError, match=r"does not fit.*float32 \(16,\) there and float32 \(32,\) here"
        ),
    ):
        checkpoints.restore(make_state(width=32))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {"flipped bit": flip_bit, "cut off": truncate, "deleted": pathlib.Path.unlink}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_latest_checkpoint_falls_back_and_says_so(tmp_path, template, damage):
    save_steps(tmp_path, 1, 2, 3)
    DAMAGES[damage](largest_file(tmp_path / "3" / "state"))
    with TrainCheckpoints(tmp_path, IDENTITY) as checkpoints:
        restored = checkpoints.restore(template)
        assert_trees_equal(restored.state, make_state(2))
        assert_trees_equal(restored.best_state.params, make_state(2).params)
        assert "checkpoint 3 is damaged" in restored.notes[0]
        assert (tmp_path / "damaged-3").is_dir()
        checkpoints.save(3, make_state(3), {"best_step": 2})  # the step can be made again
        checkpoints.wait()
        assert_trees_equal(checkpoints.restore(template).state, make_state(3))


def test_damage_of_any_file_is_found(tmp_path, template):
    """But for two that hold no more than the time of the commit."""
    save_steps(tmp_path / "whole", 1, 2)
    folder = tmp_path / "whole" / "2"
    files = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    files = [f for f in files if str(f) not in ("_CHECKPOINT_METADATA", "commit_success.txt")]
    assert len(files) > 10
    for file, damage in zip(files, itertools.cycle(DAMAGES.values())):
        shutil.copytree(tmp_path / "whole", tmp_path / "copy")
        damage(tmp_path / "copy" / "2" / file)
        with TrainCheckpoints(tmp_path / "copy", IDENTITY) as checkpoints:
            assert checkpoints.steps == [1], file
        shutil.rmtree(tmp_path / "copy")


def test_a_list_of_checksums_cut_off_at_a_line_is_damage(tmp_path):
    save_steps(tmp_path / "checkpoints", 1, 2)
    export = save_export(tmp_path / "export", make_variables(), CARD)
    for folder in (tmp_path / "checkpoints" / "2", export):
        lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
        (folder / "SHA256SUMS").write_text("".join(lines[: len(lines) // 2]))
    with TrainCheckpoints(tmp_path / "checkpoints", IDENTITY) as checkpoints:
        assert checkpoints.steps == [1]
    with pytest.raises(ExportError, match="damaged: SHA256SUMS does not list the file params/"):
        load_export(export)


def test_an_older_checkpoint_that_was_being_removed_is_no_damage(tmp_path, template):
    save_steps(tmp_path, 1, 2, 3)
    shutil.copytree(tmp_path / "2", tmp_path / "1")
    (tmp_path / "1" / "SHA256SUMS").unlink()
    with TrainCheckpoints(tmp_path, IDENTITY) as checkpoints:
        assert checkpoints.steps == [2, 3]
        assert checkpoints.restore(template).notes == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3"]


def test_only_damaged_checkpoints_are_one_sentence(tmp_path, template):
    save_steps(tmp_path, 1, 2)
    for step in (1, 2):
        flip_bit(largest_file(tmp_path / str(step) / "state"))
    with (
        TrainCheckpoints(tmp_path, IDENTITY) as checkpoints,
        pytest.raises(CheckpointError, match=r"No checkpoint in .* is whole"),
    ):
        checkpoints.restore(template)


def test_one_device_writes_and_eight_read(tmp_path, template):
    save_steps(tmp_path, 1)
    with TrainCheckpoints(tmp_path, IDENTITY) as checkpoints:
        restored = checkpoints.restore(replicate(template, make_mesh(8)))
    assert len(restored.state.params["head"]["kernel"].sharding.device_set) == 8
    assert_trees_equal(
        jax.tree.map(np.array, restored.state), jax.tree.map(np.array, make_state(1))
    )


def test_a_clock_that_jumps_ahead_breaks_no_save(tmp_path, template, monkeypatch):
    """By an hour whenever somebody looks at it."""
    real, looks = time.time, itertools.count()
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * next(looks))
    save_steps(tmp_path / "checkpoints", 1, 2, 3)
    with TrainCheckpoints(tmp_path / "checkpoints", IDENTITY) as checkpoints:
        assert_trees_equal(checkpoints.restore(template).state, make_state(3))
    path = save_export(tmp_path / "export", make_variables(), CARD)
    assert_trees_equal(load_export(path)[0], make_variables())
    assert next(looks) > 100


FULL_DISK = """
    import resource, sys
    import numpy as np
    from musrep_jax.training.checkpoints import *
    from musrep_jax.types import TrainState
    path = sys.argv[1]
    arrays = {"head": {"kernel": np.random.default_rng(0).normal(size=300_000)}}
    small = {"head": {"kernel": np.zeros(3)}}
    save_export(path + "/export", {"params": small}, {"labels": ["old"]})
    checkpoints = TrainCheckpoints(path + "/checkpoints", {})
    state = TrainState(step=np.int32(1), params=small, model_state={}, opt_state={})
    checkpoints.save(1, state, {})
    checkpoints.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # no file may grow larger
    try:
        save_export(path + "/export", {"params": arrays}, {"labels": ["new"]})
    except ExportError as error:
        print(error)
    try:
        checkpoints.save(2, state.replace(params=arrays), {})
        checkpoints.wait()
    except CheckpointError as error:
        print(error)
"""


def test_a_full_disk_is_one_sentence_and_nothing_is_lost(tmp_path, repository):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("No room left on the disk while") for line in lines)
    assert "Traceback" not in done.stderr
    assert load_export(tmp_path / "export")[1] == {"labels": ["old"]}
    with TrainCheckpoints(tmp_path / "checkpoints", {}) as checkpoints:
        assert checkpoints.steps == [1]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


KILLED = """
    import os, signal, sys
    sys.path.insert(0, "tests")
    import jax
    from toy_training import make_batches, setup
    from musrep_jax.training.checkpoints import TrainCheckpoints
    from musrep_jax.training.loop import fit
    _, state, train_step = setup(has_batch_norm=True, dropout_rate=0.2)

    def batches(start):
        for step, batch in enumerate(make_batches(start), start):
            if step == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    def evaluate(state):
        return {"roc_auc": float(abs(state.params["head"]["bias"]).sum()) % 0.01}

    with TrainCheckpoints(sys.argv[1], {}) as checkpoints:
        result = fit(state, train_step, batches, key=jax.random.key(1), num_steps=30,
                     eval_every=4, evaluate=evaluate, select_by=("roc_auc", "max"),
                     checkpointer=checkpoints)
    digest = [float(abs(leaf).sum()) for leaf in jax.tree.leaves((result.state, result.best_state))]
    print(digest, result.history)
"""


@pytest.mark.slow
def test_kill_9_and_resume_equal_the_uninterrupted_run(tmp_path, repository):
    def train(folder, kill_at):
        command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / folder)]
        return subprocess.run(
            [*command, str(kill_at)], cwd=repository, capture_output=True, text=True, check=False
        )

    whole = train("whole", -1)
    assert whole.returncode == 0, whole.stderr
    for kill_at in (11, 23):
        assert train("parts", kill_at).returncode == -9
    resumed = train("parts", -1)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == whole.stdout


def make_variables():
    state = make_state(1)
    return {"params": state.params, **state.model_state}


@pytest.fixture
def export(tmp_path):
    return save_export(tmp_path / "export", make_variables(), CARD)


def test_an_export_comes_back_exactly(export):
    variables, card = load_export(export)
    assert_trees_equal(variables, make_variables())
    assert card == CARD
    assert sorted(path.name for path in export.iterdir()) == ["SHA256SUMS", "params", "tagger.json"]
    assert json.loads((export / "tagger.json").read_text())["format"] == 1


def test_exports_keep_types_and_may_be_given_by_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    variables = {
        "params": {"head": {"kernel": jnp.ones((2, 3), jnp.bfloat16), "count": jnp.int32(4)}}
    }
    save_export("runs/one", variables, CARD)
    assert_trees_equal(load_export("runs/one")[0], variables)


def test_sums_are_those_of_the_system_tool(export):
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=export, check=False)
    assert done.returncode == 0


def test_a_flipped_bit_in_any_file_is_named(export):
    files = [p for p in export.rglob("*") if p.is_file() and p.stat().st_size]
    assert len(files) >= 5
    for path in files:
        flip_bit(path)
        words = "damaged" if path.name == "SHA256SUMS" else path.relative_to(export).as_posix()
        with pytest.raises(ExportError, match=words):
            load_export(export)
        flip_bit(path)
    load_export(export)


def test_damage_under_right_sums_is_one_sentence(tmp_path, export):
    for cut in (1, 3):
        copy = shutil.copytree(export, tmp_path / f"copy{cut}")
        path = largest_file(copy / "params")
        path.write_bytes(path.read_bytes()[: path.stat().st_size * cut // 4])
        write_checksums(copy)
        with pytest.raises(ExportError, match=f"The arrays of .*copy{cut} cannot be read"):
            load_export(copy)


def test_missing_and_half_written_exports_are_one_sentence(tmp_path, export):
    with pytest.raises(ExportError, match=r"There is no exported model at .*/nowhere"):
        load_export(tmp_path / "nowhere")
    largest_file(export / "params").unlink()
    with pytest.raises(ExportError, match=r"damaged: the file params/.* is missing"):
        load_export(export)
    (export / "SHA256SUMS").unlink()
    with pytest.raises(ExportError, match="not a complete export: SHA256SUMS is missing"):
        load_export(export)


def test_a_later_format_is_refused(export):
    card = json.loads((export / "tagger.json").read_text())
    (export / "tagger.json").write_text(json.dumps({**card, "format": 2}))
    integrity.write_checksums(export)
    with pytest.raises(ExportError, match="format 2, but this version reads format 1"):
        load_export(export)


def test_an_export_replaces_an_export_and_nothing_else(tmp_path, export):
    save_export(export, {"params": {"w": jnp.ones(2)}}, {**CARD, "licence": "CC0"})
    assert load_export(export)[1]["licence"] == "CC0"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match="exists and is not an export"):
        save_export(tmp_path / "mine", make_variables(), CARD)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    "card, words",
    [
        ({"labels": {"a", "b"}}, "cannot be written as JSON"),
        ({"roc_auc": float("nan")}, "cannot be written as JSON"),
        ({"format": 3}, "has the field 'format'"),
    ],
)
def test_cards_that_are_no_json_are_refused(tmp_path, card, words):
    with pytest.raises(ExportError, match=words):
        save_export(tmp_path / "export", make_variables(), card)
    assert list(tmp_path.iterdir()) == []
