"""The `TASKS` table: training schemes, one entry per scheme."""

import importlib
from typing import TYPE_CHECKING

from musrep_jax.config import choose

if TYPE_CHECKING:
    from musrep_jax.tasks.task import Task

TASKS: dict[str, str] = {
    "few_shot": "musrep_jax.tasks.few_shot.task:FewShotTask",
    "joint_embedding": "musrep_jax.tasks.joint_embedding.task:JointEmbeddingTask",
    "probe": "musrep_jax.tasks.probe.task:ProbeTask",
    "robustness": "musrep_jax.tasks.robustness.task:RobustnessTask",
    "student": "musrep_jax.tasks.student.task:StudentTask",
    "tagging": "musrep_jax.tasks.tagging.task:TaggingTask",
}
"""Name -> "module:Class", a subclass of `musrep_jax.tasks.task.Task`."""


def load_task(name: str) -> "Task":
    """Returns a task.

    Args:
        name: a key of `TASKS`.

    Raises:
        ConfigError: if there is none of that name.
    """
    module, _, attribute = TASKS[choose(name, sorted(TASKS), "task")].partition(":")
    return getattr(importlib.import_module(module), attribute)()
