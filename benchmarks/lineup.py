"""Who is measured by `benchmarks/models.py`: ours and the opponents that were asked for."""

import argparse

from benchmarks.contestants import (
    NUM_CLASSES,
    Implementation,
    make_data,
    make_jax_implementation,
    make_torch_implementation,
)
from benchmarks.processes import make_remote


def make_implementations(name: str, settings: argparse.Namespace) -> list[Implementation]:
    """Returns ours and the opponents that were asked for, ours first."""
    import jax

    from musrep_jax.kernels.formulations import get_active_formulations
    from musrep_jax.models import create_model

    model = create_model(name, NUM_CLASSES, {"dtype": settings.dtype})
    data = make_data(settings.batch, model.num_samples)
    made = [make_jax_implementation("ours", model, None, data)]
    if settings.plain:
        made.append(make_jax_implementation("plain", model, frozenset(), data))
    for left_out in filter(None, settings.without.split(",")):
        made.append(
            make_jax_implementation(
                f"without_{left_out}", model, get_active_formulations() - {left_out}, data
            )
        )
    if settings.torch or settings.compile or settings.kept:
        from benchmarks.torch_models import TORCH_MODELS

        names = ["torch", *["torch_compiled"] * settings.compile, *["torch_kept"] * settings.kept]
        if name not in TORCH_MODELS:
            names = []
        if jax.default_backend() == "cpu":
            made += [make_remote(n, name, settings) for n in names]
        else:
            made += [
                make_torch_implementation(n, TORCH_MODELS[name](model), data, settings)
                for n in names
            ]
    if settings.peer:
        from benchmarks.torch_models import load_peer

        module = load_peer(settings.peer, name)
        made += [make_torch_implementation("peer", module, data, settings)] if module else []
    for other in made[1:]:
        if other.name == "torch" and other.facts["parameters"] != made[0].facts["parameters"]:
            raise ValueError(
                f"{name} has {made[0].facts['parameters']} parameters and its opponent in PyTorch "
                f"{other.facts['parameters']}: they are not the same architecture."
            )
    return made
