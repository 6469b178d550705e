"""`musrep import-weights`: converts published PyTorch weights into an exported model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musrep_jax.cli.common import Json, describe_front_end, print_json, say

if TYPE_CHECKING:
    from musrep_jax.weights.importing import ImportedModel

NUM_SHOWN = 5


def import_weights(
    weights: Annotated[
        Path,
        typer.Option(
            help="File of the weights: .pth, .pt, .ckpt, .bin or .safetensors; or a directory of "
            "the Hub with config.json (MERT, HuBERT)."
        ),
    ],
    name: Annotated[str, typer.Option(help="Name of the data that the weights were trained on.")],
    licence: Annotated[str, typer.Option("--licence", "--license", help="License of the weights.")],
    out: Annotated[Path, typer.Option(help="Output directory.")],
    model: Annotated[
        str | None,
        typer.Option(help="Architecture, see `musrep models`; a directory of the Hub says it."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Label names in the order of the output units: JSON list, or lines."),
    ] = None,
    backbone: Annotated[
        bool, typer.Option("--backbone", help="Omit the output layer: embed and transfer only.")
    ] = False,
    citation: Annotated[str, typer.Option(help="Citation of the weights.")] = "",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Model setting; repeatable."),
    ] = None,
    spatial: Annotated[
        str,
        typer.Option(
            help="Axes of the 2-D kernels: frequency_time, or time_frequency (the VGG-ish model of "
            "the cross-cultural code)."
        ),
    ] = "frequency_time",
    aggregate: Annotated[
        str, typer.Option(help="What is averaged over a track's chunks: probability or logit.")
    ] = "probability",
    output: Annotated[
        str,
        typer.Option(
            help="sigmoid for labels that are there or not, each for itself; softmax for exclusive "
            "classes, such as genres or keywords."
        ),
    ] = "sigmoid",
    input_mean: Annotated[
        float | None, typer.Option(help="Mean of the training data in dB, for the transformer.")
    ] = None,
    input_std: Annotated[
        float | None, typer.Option(help="Standard deviation of the training data in dB.")
    ] = None,
    json: Json = False,
) -> None:
    """Convert published weights of a tagger or an encoder into a model that is ready to use.

    The result is a directory like those of training runs: load it with musrep_jax.load_tagger, or
    train from it with --config.source=export:DIR. Nothing in the file is ever executed. Model
    settings are inferred from the shapes of the weights where possible.

    --backbone omits the output layer: use it for image transformers (DeiT, ViT), AudioSet weights,
    or when only embeddings are needed. A directory of the Hub is an encoder and has none.
    """
    from musrep_jax.config import ConfigError
    from musrep_jax.weights.files import read_labels
    from musrep_jax.weights.hub_directory import read_hub_directory
    from musrep_jax.weights.importing import import_weights as run
    from musrep_jax.weights.model_fields import parse_settings

    if weights.is_dir():
        backbone = labels is None
    elif model is None:
        raise ConfigError("Say --model NAME, the architecture of the weights; see `musrep models`.")
    if (labels is None) != backbone:
        both = "both were given" if backbone else "neither was given"
        raise ConfigError(
            f"Say either --labels FILE, the names of the output units, or --backbone; {both}."
        )
    if (input_mean is None) != (input_std is None):
        raise ConfigError("--input-mean and --input-std go together; one of them is missing.")
    imported = run(
        weights,
        out,
        model=model,
        name=name,
        licence=licence,
        labels=None if labels is None else read_labels(labels),
        citation=citation,
        settings=parse_settings(model or read_hub_directory(weights).model, setting or ()),
        spatial=spatial,
        aggregate=aggregate,
        output=output,
        input_statistics=None if input_mean is None else (input_mean, input_std),
    )
    for note in imported.notes:
        say(f"note: {note}")
    if json:
        print_json(imported.to_dict())
    else:
        typer.echo(describe_imported(imported))


def describe_imported(imported: "ImportedModel") -> str:
    """Returns a summary and usage lines for a terminal."""
    from musrep_jax.reporting.layout import Column, format_table

    card = imported.card
    names = list(card["labels"])
    more = ", ..." if len(names) > NUM_SHOWN else ""
    listed = f"{len(names)}: {', '.join(names[:NUM_SHOWN])}{more}" if names else "none (backbone)"
    seconds = card["num_samples"] / card["sample_rate"]
    rows = [
        ["model", card["model"]["name"]],
        ["read off the files", ", ".join(f"{k} {v}" for k, v in imported.inferred.items()) or
         "nothing beside the defaults"],
        ["parameters", f"{imported.num_params:,}"],
        ["labels", listed],
        ["embedding", f"{imported.embedding_width} numbers"],
        ["front end", describe_front_end(card["front_end"])],
        ["input", f"{seconds:.2f} s at {card['sample_rate']} Hz"],
        ["data", card["data"]["name"]],
        ["licence", card["data"]["licence"]],
        ["left out", ", ".join(imported.left_out) or "nothing"],
        ["test tone", ", ".join(f"{k} {v:.2f}" for k, v in list(imported.tone.items())[:3]) or
         "embedded"],
        ["written to", str(imported.path)],
    ]  # fmt: skip
    table = format_table([Column("imported"), Column(card["training"]["imported_from"])], rows,
                         style="text")  # fmt: skip
    python = "\n".join(f"    {line}" for line in imported.python_lines)
    return (
        f"{table}\n\nIn Python:\n\n{python}\n\nTo train from it, with a target of yours:\n\n"
        f"    {imported.transfer_line} --config.target=..."
    )
