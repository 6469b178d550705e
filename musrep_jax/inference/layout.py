"""The file names of exported models in all their forms, and how a model on the Hub is named."""

from pathlib import Path

HUB_PREFIX = "hub:"
CONFIG_FILE = "config.json"
SAFETENSORS_FILE = "model.safetensors"
STABLEHLO_FILE = "tagger.stablehlo"
ONNX_FILE = "tagger.onnx"
PROGRAMS = {STABLEHLO_FILE: "jax.export", ONNX_FILE: "onnxruntime"}
"""Files without parameters to open -> what runs them."""
SAFETENSORS_FORMAT = 1
FRONT_END_PREFIX = "front_end."
"""Prefix of constants for other programs; here the front end is computed from its settings."""


def find_hub_name(place: str | Path) -> str | None:
    """Returns "OWNER/NAME" or "OWNER/NAME@REVISION" of a model on the Hub; None for a folder.

    A folder that is there is a folder, whatever its name begins with.

    Args:
        place: a folder, or "hub:" and such a name.
    """
    text = str(place)
    if not text.startswith(HUB_PREFIX) or Path(place).exists():
        return None
    return text.removeprefix(HUB_PREFIX)
