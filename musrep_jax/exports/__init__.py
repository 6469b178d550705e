"""Exported models in other forms, for other programs and other people: cards, files, the Hub."""

FORMATS: dict[str, str] = {
    "onnx": "musrep_jax.exports.onnx",
    "safetensors": "musrep_jax.exports.safetensors",
    "stablehlo": "musrep_jax.exports.stablehlo",
}
"""Name -> module, which has `FILES`, the names of its own files, and `write`: it takes a tagger, an
empty folder and test chunks, writes the files, and returns a `Written`."""

ALIASES: dict[str, str] = {"hub": "safetensors"}
"""Other names: the safetensors form is laid out as the Hugging Face Hub wants it."""
