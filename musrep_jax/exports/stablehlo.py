"""The form `stablehlo`: waveforms or texts in; embeddings, and of taggers logits and probabilities
out, in one file.

`tagger.stablehlo` is what `jax.export` serializes: front end, architecture and weights, lowered for
CPU, CUDA and TPU. It runs with jax, numpy and flatbuffers, without this package and without flax.
The formulations made for one kind of device (`models.formulations`) are left out, so that it is
the same program everywhere.

The batch is symbolic: any size from 1. What bounds it is memory, which grows in proportion. The
length is symbolic too, from the model's chunk upwards, for architectures that average or take the
maximum over time; those in `FIXED_LENGTH` read chunks of one length only.
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from musrep_jax.exports.writing import WriterResult
from musrep_jax.inference.encoder import LoadedEncoder
from musrep_jax.inference.layout import CONFIG_FILE, STABLEHLO_FILE
from musrep_jax.inference.tagger import LoadedTagger
from musrep_jax.kernels.formulations import override_formulations
from musrep_jax.training.checkpoints import ExportError

FILES = (STABLEHLO_FILE,)
PLATFORMS = ("cpu", "cuda", "tpu")
STABLEHLO_FORMAT = 1

FIXED_LENGTH: dict[str, str] = {
    "fcn": "its pooling ends in exactly one cell",
    "sample_cnn": "its strides end in exactly one step",
    "sample_cnn_se": "its strides end in exactly one step",
    "self_attention": "its positions are a table",
    "spectrogram_transformer": "its positions are a table",
    "tagging_transformer": "its positions are a table",
    "vgg_original": "its pooling ends in exactly two cells",
}
"""Model -> why its program reads chunks of one length."""


def write(tagger: LoadedEncoder, folder: Path, chunks: np.ndarray) -> WriterResult:
    """Writes `tagger.stablehlo` and `config.json`, and runs what was written.

    Args:
        tagger: the model.
        folder: an empty one.
        chunks: float32 (chunks, samples) or int32 (chunks, tokens).

    Raises:
        ExportError: if the package flatbuffers is missing.
    """
    (size,), input_type = tagger.model.input_shape.shape, tagger.model.input_shape.dtype
    unit = "tokens" if tagger.model.INPUT == "tokens" else "samples"
    exported = lower(tagger)
    try:
        program = exported.serialize()
    except ModuleNotFoundError as error:
        raise ExportError(
            'The package flatbuffers is missing: install it with pip install "musrep_jax[export]".'
        ) from error
    (folder / STABLEHLO_FILE).write_bytes(program)
    facts = {
        "platforms": list(exported.platforms),
        "batch": "any size from 1",
        "length": f"{size} {unit}" + ("" if unit == "tokens" else _say_length(tagger)),
        "outputs": get_output_shapes(exported),
        "jax": jax.__version__,
        "calling_convention": exported.calling_convention_version,
    }
    config = {"stablehlo_format": STABLEHLO_FORMAT, "program": facts, **tagger.card}
    text = json.dumps(config, indent=1, allow_nan=False)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
    read = jax.export.deserialize(bytearray((folder / STABLEHLO_FILE).read_bytes()))
    return WriterResult(
        outputs={key: np.asarray(value) for key, value in read.call(chunks).items()},
        python_lines=(
            "import jax.export, pathlib",
            f'program = jax.export.deserialize(pathlib.Path("{{path}}/{STABLEHLO_FILE}")'
            ".read_bytes())",
            f"result = program.call(chunks)  # {input_type} (batch, {size})"
            + (f" at {tagger.sample_rate} Hz" if unit == "samples" else ""),
        ),
        facts=facts,
    )


def lower(tagger: LoadedEncoder) -> "jax.export.Exported":
    """Returns the program of a tagger, with symbolic batch and, where it can be, length.

    Args:
        tagger: the model.
    """
    one = tagger.model.input_shape
    (size,) = one.shape
    if _is_of_fixed_length(tagger):
        shape = jax.export.symbolic_shape(f"batch, {size}")
    else:
        shape = jax.export.symbolic_shape("batch, samples", constraints=(f"samples >= {size}",))
    with override_formulations(frozenset()):
        return jax.export.export(jax.jit(make_tagger_function(tagger)), platforms=PLATFORMS)(
            jax.ShapeDtypeStruct(shape, one.dtype)
        )


def _is_of_fixed_length(tagger: LoadedEncoder) -> bool:
    """Returns whether a model's program reads inputs of one length: those that are known for it,
    and encoders, of which nothing is known."""
    is_known = tagger.card["model"]["name"] in FIXED_LENGTH
    return is_known or not isinstance(tagger, LoadedTagger)


def _say_length(tagger: LoadedEncoder) -> str:
    """Returns what follows the number of samples that a program reads."""
    reason = FIXED_LENGTH.get(tagger.card["model"]["name"])
    if reason is not None:
        return f": {reason}"
    return "" if _is_of_fixed_length(tagger) else " or more"


def get_output_shapes(exported: "jax.export.Exported") -> dict[str, list[str]]:
    """Returns the shapes of a program's outputs, symbolic sizes by name."""
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    return {name: [str(size) for size in value.shape] for name, value in outputs.items()}


def make_tagger_function(tagger: LoadedEncoder) -> Any:
    """Returns the function of a model: (batch, samples or tokens) -> its outputs by name."""

    def tag(inputs: jax.Array) -> dict[str, jax.Array]:
        logits, embedding = tagger.forward(tagger.variables, inputs)
        if not isinstance(tagger, LoadedTagger) or not tagger.labels:
            return {"embedding": embedding}
        output = jax.nn.sigmoid if tagger.output == "sigmoid" else jax.nn.softmax
        return {"logits": logits, "probabilities": output(logits), "embedding": embedding}

    return tag
