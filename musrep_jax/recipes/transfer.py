"""Transfer: sources, targets, models, modes, seeds and training set sizes make a matrix."""

import ml_collections

from musrep_jax.experiments.cells import cells_of_config
from musrep_jax.experiments.experiment import run_cells


def run(config: ml_collections.ConfigDict, workdir: str) -> int:
    """Runs the matrix of a transfer config; returns the exit code.

    Args:
        config: see `configs/transfer.py`.
        workdir: folder of the experiment.
    """
    return run_cells(config, cells_of_config(config), workdir)
