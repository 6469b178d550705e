"""Who is measured by `benchmarks/models.py`: ours and the opponents that were asked for."""

import argparse

from benchmarks.contestants import NUM_CLASSES, Contestant, make_data, make_ours, make_torch
from benchmarks.processes import make_remote


def make_contestants(name: str, settings: argparse.Namespace) -> list[Contestant]:
    """Returns ours and the opponents that were asked for, ours first."""
    import jax

    from musrep_jax.kernels.formulations import used_here
    from musrep_jax.models import create_model

    model = create_model(name, NUM_CLASSES, {"dtype": settings.dtype})
    data = make_data(settings.batch, model.num_samples)
    made = [make_ours("ours", model, None, data)]
    if settings.plain:
        made.append(make_ours("plain", model, frozenset(), data))
    for left_out in filter(None, settings.without.split(",")):
        made.append(make_ours(f"without_{left_out}", model, used_here() - {left_out}, data))
    if settings.torch or settings.compile or settings.kept:
        from benchmarks.torch_models import TORCH_MODELS

        names = ["torch", *["torch_compiled"] * settings.compile, *["torch_kept"] * settings.kept]
        if name not in TORCH_MODELS:
            names = []
        if jax.default_backend() == "cpu":
            made += [make_remote(n, name, settings) for n in names]
        else:
            made += [make_torch(n, TORCH_MODELS[name](model), data, settings) for n in names]
    if settings.peer:
        from benchmarks.torch_models import load_peer

        module = load_peer(settings.peer, name)
        made += [make_torch("peer", module, data, settings)] if module else []
    for other in made[1:]:
        if other.name == "torch" and other.facts["parameters"] != made[0].facts["parameters"]:
            raise ValueError(
                f"{name} has {made[0].facts['parameters']} parameters and its opponent in PyTorch "
                f"{other.facts['parameters']}: they are not the same architecture."
            )
    return made
