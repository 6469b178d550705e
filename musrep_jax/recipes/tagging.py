"""Tagging: one or several models trained on one data set from scratch."""

import ml_collections

from musrep_jax.config import split_list
from musrep_jax.experiments.cells import Cell, parse_integers, plan_cells
from musrep_jax.experiments.experiment import run_cells


def run(config: ml_collections.ConfigDict, workdir: str) -> int:
    """Trains and tests the models of a tagging config; returns the exit code.

    Args:
        config: see `configs/tagging.py`.
        workdir: folder of the experiment.
    """
    return run_cells(config, scratch_cells(config), workdir)


def scratch_cells(config: ml_collections.ConfigDict) -> list[Cell]:
    """Returns a training from scratch for every model, seed and number of training tracks.

    Args:
        config: with `data.name` and `data.path`.

    Raises:
        ConfigError: if a setting cannot be read.
    """
    name = config.data.name
    if config.data.path:
        name = f"{name}:{config.data.path}"
    return plan_cells(
        sources=(),
        targets=(name,),
        models=split_list(config.model.name),
        modes=("scratch",),
        seeds=parse_integers(config.seeds, "seeds"),
        num_train_tracks=parse_integers(config.num_train_tracks, "num_train_tracks"),
    )
