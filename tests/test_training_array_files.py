"""Exports and checkpoints below folders with names like patterns and addresses, read back."""

import jax.numpy as jnp
import numpy as np
import pytest

from musrep_jax.runtime.folders import plain_path
from musrep_jax.training import array_files
from musrep_jax.training.checkpoints import (
    ExportError,
    TrainCheckpoints,
    load_export,
    save_export,
)
from musrep_jax.types import TrainState

VARIABLES = {"params": {"head": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}}


@pytest.mark.parametrize(
    "name", ["Album [1999]", "a*b", "what?", "back\\slash", "[", "plain", "gs:", "file:", "C:foo"]
)
def test_exports_and_checkpoints_work_in_folders_like_patterns_and_addresses(name, tmp_path):
    path = save_export(tmp_path / name / "model", VARIABLES, {"about": "this"})
    variables, card = load_export(path)
    np.testing.assert_array_equal(variables["params"]["head"]["kernel"], np.arange(6).reshape(2, 3))
    assert card == {"about": "this"}
    state = TrainState(jnp.array(7), {"w": jnp.arange(4.0)}, {}, {})
    for step in (1, 2):
        with TrainCheckpoints(tmp_path / name / "checkpoints", {"run": 1}) as checkpoints:
            checkpoints.save(step, state, {"seen": step})
    with TrainCheckpoints(tmp_path / name / "checkpoints", {"run": 1}) as checkpoints:
        restored = checkpoints.restore(state)
        assert checkpoints.steps == [1, 2]
    assert restored.run == {"seen": 2}
    np.testing.assert_array_equal(restored.state.params["w"], [0, 1, 2, 3])


def test_a_folder_like_a_pattern_is_refused_where_there_are_no_links(tmp_path, monkeypatch):
    def refuse(self, target, target_is_directory=False):
        raise OSError("no privilege")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    sentence = r"one of the characters .* choose another folder"
    with pytest.raises(ExportError, match=sentence), plain_path(tmp_path / "[1]", ExportError):
        pass
    with plain_path(tmp_path, ExportError) as plain:
        assert plain == tmp_path


def test_what_comes_back_as_something_else_is_no_export(tmp_path, monkeypatch):
    other = {"params": {"head": {"kernel": np.zeros((2, 3), np.float32)}}}
    monkeypatch.setattr(array_files, "read_arrays", lambda folder: other)
    with pytest.raises(ExportError, match=r"kernel.* is another one when it is read back"):
        save_export(tmp_path / "model", VARIABLES, {})
    assert list(tmp_path.iterdir()) == []
