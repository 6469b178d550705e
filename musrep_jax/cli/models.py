"""`musrep models`: lists the available models and their settings."""

import functools
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from musrep_jax.cli.common import Json, complete, describe_front_end, list_models, print_json


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A model: print its settings and their defaults.",
            autocompletion=complete(list_models),
        ),
    ] = None,
    num_classes: Annotated[
        int, typer.Option(min=1, help="Number of output units for the parameter counts.")
    ] = 50,
    json: Json = False,
) -> None:
    """List the models with parameters, input length, sample rate and front end."""
    from musrep_jax.models import MODELS, model_settings
    from musrep_jax.reporting.layout import Column, format_table

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
            *describe_input(model),
            str(model["embedding_width"]),
            "text" if model["reads"] == "tokens" else describe_front_end(model["front_end"]),
        ]
        for model in found
    ]
    typer.echo(format_table(columns, rows, style="text"))


def describe_input(model: Mapping[str, Any]) -> tuple[str, str]:
    """Returns a short description of the length and sample rate of a model's input.

    Args:
        model: facts, as `describe_model` returns them.
    """
    if model["reads"] == "tokens":
        return f"{model['num_tokens']} tokens", ""
    return f"{model['seconds']:.2f} s", f"{model['sample_rate']} Hz"


def describe_model(name: str, num_classes: int) -> dict[str, Any]:
    """Returns the facts about a model with its default settings, as JSON values.

    Args:
        name: a key of `MODELS`.
        num_classes: number of output units.
    """
    import jax

    from musrep_jax.models import AudioEncoder, create_encoder, create_model, is_tagger

    model = create_model(name, num_classes) if is_tagger(name) else create_encoder(name)
    init = functools.partial(model.init_with_output, train=False)
    output, variables = jax.eval_shape(init, jax.random.key(0), model.batch_shape(1))
    params = jax.tree.leaves(variables["params"])
    front_end = None if model.front_end is None else dict(model.front_end)
    if isinstance(model, AudioEncoder):
        seconds = model.num_samples / model.sample_rate
        length: dict[str, Any] = {"num_samples": model.num_samples, "seconds": seconds,
                                  "sample_rate": model.sample_rate}  # fmt: skip
    else:
        length = {"num_tokens": model.input_shape.shape[0]}
    return {
        "name": name,
        "num_params": sum(shape.size for shape in params),
        "reads": model.INPUT,
        "has_labels": is_tagger(name),
        **length,
        "embedding_width": output.embedding.shape[1],
        "front_end": front_end,
    }
