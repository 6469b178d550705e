"""`musrep models`: lists the available models and their settings."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musrep_jax.cli.common import (
    Json,
    complete,
    describe_front_end,
    list_models,
    list_pretrained,
    print_json,
    say,
)

if TYPE_CHECKING:
    from musrep_jax.weights.pretrained import PretrainedModel


def models(
    name: Annotated[
        str | None,
        typer.Argument(
            help="An architecture, a pretrained model, the folder of an export or hub:OWNER/NAME: "
            "print all about it.",
            autocompletion=complete(lambda: [*list_models(), *list_pretrained()]),
        ),
    ] = None,
    num_classes: Annotated[
        int, typer.Option(min=1, help="Number of output units for the parameter counts.")
    ] = 50,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="List what others trained, ready by name.")
    ] = False,
    json: Json = False,
) -> None:
    """List the architectures that can be trained, or with --pretrained the trained models.

    Architectures have no weights: parameters, input length, sample rate and front end of each;
    with a name, its settings. Trained models are those that others trained on real music: their
    license, size, data and published scores; with a name, everything about one. Your own trained
    models are in WORKDIR/exports: with the folder of one, it is opened and its card is printed.
    """
    from musrep_jax.cli.model_facts import is_place, list_rows, read_facts
    from musrep_jax.models import MODELS, model_settings
    from musrep_jax.reporting.layout import Column, format_table
    from musrep_jax.runtime.terminal import get_width
    from musrep_jax.weights.pretrained import PREFIX, PRETRAINED, find_pretrained

    if pretrained or (name or "").startswith(PREFIX) or (name not in MODELS and name in PRETRAINED):
        chosen = PRETRAINED if name is None else {name: find_pretrained(name)}
        print_pretrained({key.removeprefix(PREFIX): entry for key, entry in chosen.items()}, json)
        return
    if name is not None and name not in MODELS and is_place(name):
        facts = read_facts(name)
        if json:
            print_json(facts)
        else:
            heads = [Column(name), Column("")]
            typer.echo(format_table(heads, list_rows(facts), "text", get_width()))
        return
    if name is not None:
        settings = model_settings(name)
        if json:
            print_json(settings)
        else:
            rows = [[key, str(value)] for key, value in settings.items()]
            heads = [Column("setting"), Column("default")]
            typer.echo(format_table(heads, rows, "text", get_width()))
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
    typer.echo(format_table(columns, rows, "text", get_width()))


def print_pretrained(entries: "Mapping[str, PretrainedModel]", is_json: bool) -> None:
    """Prints pretrained models: a line for each of several, everything about a single one.

    Args:
        entries: name -> model.
        is_json: whether as JSON.
    """
    from musrep_jax.exports.cards import METRICS
    from musrep_jax.reporting.layout import Column, format_table
    from musrep_jax.runtime.terminal import get_width
    from musrep_jax.weights.fetching import get_export_dir
    from musrep_jax.weights.pretrained import DEFAULT_MODEL

    def size_of(entry: "PretrainedModel") -> str:
        return "unknown" if entry.size is None else f"{entry.size / 1e6:,.1f} MB"

    facts = {
        name: {
            "name": name,
            "model": entry.model,
            "licence": entry.licence,
            "allows_commercial_use": entry.allows_commercial_use,
            "trained_on": entry.trained_on,
            "size": entry.size,
            "address": entry.address,
            "scores": dict(entry.scores),
            "scores_source": entry.scores_source,
            "labels": list(entry.labels),
            "citation": entry.citation,
            "notes": list(entry.notes),
            "is_default": name == DEFAULT_MODEL,
            "export": str(path) if (path := get_export_dir(name)).is_dir() else None,
        }
        for name, entry in entries.items()
    }
    if is_json:
        print_json(list(facts.values()))
        return
    if len(entries) == 1:
        ((name, about),) = facts.items()
        scores = ", ".join(f"{METRICS[key]} {value:.4f}" for key, value in about["scores"].items())
        shown = about | {"size": size_of(entries[name]), "scores": scores or "none"}
        rows = [
            [key.replace("_", " "), ", ".join(map(str, v)) if isinstance(v, list) else str(v)]
            for key, v in shown.items()
        ]
        typer.echo(format_table([Column("pretrained"), Column("")], rows, "text", get_width()))
        return
    columns = [
        Column("name"),
        Column("model", is_optional=True),
        Column("license"),
        Column("commercial use", is_optional=True),
        Column("size", True),
        Column("labels", True, is_optional=True),
        Column("trained on"),
        Column("ROC-AUC", True),
        Column("PR-AUC", True),
        Column("here"),
    ]
    rows = [
        [
            name + (" (default)" if about["is_default"] else ""),
            entries[name].model,
            entries[name].licence,
            "yes" if entries[name].allows_commercial_use else "no",
            size_of(entries[name]),
            str(len(entries[name].labels) or ""),
            entries[name].trained_on,
            *(f"{s[k]:.3f}" if k in (s := about["scores"]) else "" for k in ("roc_auc", "pr_auc")),
            "yes" if about["export"] else "",
        ]
        for name, about in facts.items()
    ]
    typer.echo(format_table(columns, rows, "text", get_width()))
    say("Scores are those that the authors published. `musrep pull NAME` fetches one.")


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
