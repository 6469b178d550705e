"""`musrep export`: converts a model for other programs, or uploads it to the Hugging Face Hub."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musrep_jax.cli.common import Json, complete, print_json, say
from musrep_jax.exports import ALIASES, FORMATS

if TYPE_CHECKING:
    from musrep_jax.exports.writing import ExportResult


def export(
    model: Annotated[
        Path, typer.Argument(help="An exported model: the folder with tagger.json or config.json.")
    ],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help=f"One of {', '.join([*FORMATS, *ALIASES])}.",
            autocompletion=complete(lambda: [*FORMATS, *ALIASES]),
        ),
    ] = "safetensors",
    out: Annotated[
        Path | None, typer.Option(help="Output folder; by default MODEL-FORMAT.")
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(metavar="OWNER/NAME", help="Upload it to the Hugging Face Hub as well."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="If --push creates the repository, make it private.")
    ] = False,
    json: Json = False,
) -> None:
    """Export a model in another format and verify that its outputs match the model's.

    safetensors (also called hub): model.safetensors, config.json and README.md, which load_tagger
    opens from a folder or from the Hub. stablehlo: one file that maps waveforms to probabilities
    and embeddings with jax alone, on CPU, GPU and TPU, without this package. onnx: the same for
    onnxruntime, in any language.
    """
    from musrep_jax.config import ConfigError
    from musrep_jax.exports.writing import export_as
    from musrep_jax.inference.layout import find_hub_name
    from musrep_jax.inference.tagger import load_encoder
    from musrep_jax.training.checkpoints import README_FILE

    known = ALIASES.get(form, form)
    if push is not None and known != "safetensors":
        raise ConfigError(f"--push uploads the form safetensors, not {form}: leave --format out.")
    if push is not None:
        from musrep_jax.inference.hub import check_repository_name
        from musrep_jax.inference.hub import push as upload

        check_repository_name(push)
    is_remote = find_hub_name(model) is not None
    if out is None:
        if is_remote:
            raise ConfigError("Say with --out where the export of a model of the Hub is written.")
        out = model.absolute().with_name(f"{model.absolute().name}-{known}")
    tagger = load_encoder(model)
    # A format that this package opens keeps an edited model card.
    readme = model / README_FILE
    keeps_card = known == "safetensors" and readme.is_file()
    text = readme.read_text(encoding="utf-8") if keeps_card else None
    exported = export_as(tagger, form, out, text)
    address = None
    if push is not None:
        say(f"Uploading {exported.num_bytes / 1e6:,.1f} MB to {push} ...")
        address = upload(exported.path, push, is_private=private)
    if json:
        print_json(exported.to_dict() | {"pushed_to": address})
    else:
        typer.echo(describe_exported(exported, address))


def describe_exported(exported: "ExportResult", address: str | None = None) -> str:
    """Returns a summary for a terminal.

    Args:
        exported: the export.
        address: URL of the commit on the Hub, if it was pushed.
    """
    from musrep_jax.exports.writing import NUM_TEST_CHUNKS
    from musrep_jax.reporting.layout import Column, format_table

    rows = [["size", f"{exported.num_bytes / 1e6:,.1f} MB"]]
    rows += [
        [f"{name}: largest difference from the model", f"{value:.2g} over {NUM_TEST_CHUNKS} chunks"]
        for name, value in exported.differences.items()
    ]
    rows += [[name.replace("_", " "), _text(value)] for name, value in exported.facts.items()]
    rows += [["pushed to", address]] if address else []
    table = format_table([Column(exported.format), Column(str(exported.path))], rows, style="text")
    python = "\n".join(f"    {line}" for line in exported.python_lines)
    return f"{table}\n\nIn Python:\n\n{python}"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} ({', '.join(shape)})" for name, shape in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
