"""A config file, and the recipe it names: both toy tasks as one experiment, run by `main.py`."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from musrep_jax.configs import common
from toy_teacher_task import TeacherTask
from toy_triplet_task import TripletTask

from musrep_jax.experiments.experiment import run_jobs
from musrep_jax.recipes import RECIPES
from musrep_jax.tasks import TASKS

RECIPES["toys"] = "toy_experiment:run"
TASKS["teacher"] = "toy_teacher_task:TeacherTask"


def get_config():
    """Returns settings that suit both tasks."""
    config = common.get_base(recipe="toys", task="teacher")
    config.optimizer.update(name="adam", learning_rate=0.05)
    config.train.update(num_steps=40, evaluate_every_steps=10, log_every_steps=10, batch_size=2)
    return config


def run(config, workdir):
    """Runs a job of each task; returns the exit code."""
    tasks = {"teacher": TeacherTask(), "triplets": TripletTask()}
    jobs = [job for task in tasks.values() for job in task.jobs(config)]
    return run_jobs(config, jobs, workdir, tasks=tasks, show=lambda *shown: None)
