"""Experiments: what `main.py` runs."""

import importlib
from collections.abc import Callable

import ml_collections

from musrep_jax.config import choose

RECIPES: dict[str, str] = {
    "compare": "musrep_jax.recipes.compare:run",
    "tagging": "musrep_jax.recipes.train:run",
    "train": "musrep_jax.recipes.train:run",
    "transfer": "musrep_jax.recipes.train:run",
}
"""Name -> "module:function"; the function takes (config, workdir) and returns an exit code.

`train` runs the task that a config names; `tagging` and `transfer` are what it was called when
there was one task, and stand in the workdirs of that time."""


def load_recipe(name: str) -> Callable[[ml_collections.ConfigDict, str], int]:
    """Returns the function that runs a recipe.

    Args:
        name: a key of `RECIPES`.

    Raises:
        ConfigError: if there is none of that name.
    """
    module, _, attribute = RECIPES[choose(name, sorted(RECIPES), "recipe")].partition(":")
    return getattr(importlib.import_module(module), attribute)
