"""The file names of exported models in all their forms, and how a model on the Hub is named."""

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
