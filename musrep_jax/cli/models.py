"""`musrep models`: what there is to choose from."""

from typing import Annotated, Any

import typer

from musrep_jax.cli.common import Json, describe_front_end, print_json


def models(
    name: Annotated[
        str | None, typer.Argument(help="A model: print its settings and their defaults.")
    ] = None,
    num_classes: Annotated[
        int, typer.Option(min=1, help="Output units that the parameters are counted with.")
    ] = 50,
    json: Json = False,
) -> None:
    """List the models with parameters, input length, sample rate and front end."""
    from musrep_jax.models import MODELS, model_settings
    from musrep_jax.reporting.tables import Column, format_table

    if name is not None:
        settings = model_settings(name)
        if json:
            print_json(settings)
        else:
            rows = [[key, str(value)] for key, value in settings.items()]
            typer.echo(format_table([Column("setting"), Column("default")], rows, style="text"))
        return
    found = [describe_model(key, num_classes) for key in MODELS]
    if json:
        print_json(found)
        return
    columns = [
        Column("model"),
        Column("parameters", True),
        Column("input", True),
        Column("sample rate", True),
        Column("embedding", True),
        Column("front end"),
    ]
    rows = [
        [
            model["name"],
            f"{model['num_params']:,}",
            f"{model['seconds']:.2f} s",
            f"{model['sample_rate']} Hz",
            str(model["embedding_width"]),
            describe_front_end(model["front_end"]),
        ]
        for model in found
    ]
    typer.echo(format_table(columns, rows, style="text"))


def describe_model(name: str, num_classes: int) -> dict[str, Any]:
    """Returns the facts about a model with its default settings, as JSON values.

    Args:
        name: a key of `MODELS`.
        num_classes: number of output units.
    """
    from musrep_jax.models import create_model
    from musrep_jax.weights.state_dicts import variable_shapes

    model = create_model(name, num_classes)
    shapes = variable_shapes(model)
    params = {path: shape for path, shape in shapes.items() if path[0] == "params"}
    front_end = None if model.front_end is None else dict(model.front_end)
    return {
        "name": name,
        "num_params": sum(shape.size for shape in params.values()),
        "num_samples": model.num_samples,
        "seconds": model.num_samples / model.sample_rate,
        "sample_rate": model.sample_rate,
        "embedding_width": params["params", "head", "kernel"].shape[0],
        "front_end": front_end,
    }
