"""The seam: what an objective may be."""

import pytest

from musrep_jax.training.objective import Objective

PARTS = {
    "variables": {"params": {}},
    "loss_fn": lambda params, model_state, batch, key: (0.0, (model_state, {})),
    "batches": lambda start_step: iter(()),
    "evaluate": lambda state: {"roc_auc": 0.5},
    "select_by": ("roc_auc", "max"),
    "steps_per_epoch": 1,
}


@pytest.mark.parametrize(
    "select_by", ["roc_auc", ("roc_auc",), ("roc_auc", "larger"), ("max", None), (1, "max"), None]
)
def test_the_direction_of_selection_is_explicit(select_by):
    with pytest.raises(ValueError, match=r"select_by is .*'max' or 'min'"):
        Objective(**PARTS | {"select_by": select_by})


@pytest.mark.parametrize(
    "part, words",
    [
        ({"variables": {"batch_stats": {}}}, "lack 'params'; they have 'batch_stats'"),
        ({"steps_per_epoch": 0}, "steps_per_epoch is 0; it must be at least 1"),
    ],
)
def test_what_no_training_could_use_is_refused(part, words):
    with pytest.raises(ValueError, match=words):
        Objective(**PARTS | part)
