"""Training: the jobs of a task, run one after the other."""

import ml_collections

from musrep_jax.experiments.experiment import run_jobs
from musrep_jax.tasks import load_task


def run(config: ml_collections.ConfigDict, workdir: str) -> int:
    """Runs the jobs that the config's task makes of it; returns the exit code.

    Args:
        config: with the name of a task, see `configs/common.py`.
        workdir: folder of the experiment.
    """
    return run_jobs(config, load_task(config.task).jobs(config), workdir)
