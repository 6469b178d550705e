"""PyTorch weights rebuilt from their names: the rule behind the stored reference outputs."""

import re
import zlib
from typing import Any

import numpy as np
from parity_files import load_manifest

NOT_GENERATED = ("num_batches_tracked", "window", "fb")


def hash_array(name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Returns the array that a key's name and shape determine, or None for counters and constants.

    Args:
        name: key of the state dictionary.
        shape: of the array.

    Returns:
        float32, drawn from a generator seeded with the CRC-32 of the name.
    """
    leaf = name.rpartition(".")[2]
    if leaf in NOT_GENERATED:
        return None
    random = np.random.RandomState(zlib.crc32(name.encode()))
    is_input_norm = re.search("spec_bn|hstft_bn|input_bn", name) is not None
    if leaf == "running_mean":
        value = random.standard_normal(shape)
        value = value - 10 if is_input_norm else 0.1 * value
    elif leaf == "running_var":
        value = (300 if is_input_norm else 1) * (0.5 + random.random_sample(shape))
    elif leaf == "weight_g":
        value = 0.5 + random.random_sample(shape)
    elif leaf == "bw_Q":
        value = np.full(shape, 1.9)
    elif leaf in ("cls_token", "dist_token"):
        value = random.standard_normal(shape)
    elif leaf in ("pos_embedding", "pos_embed"):
        value = 0.1 * random.standard_normal(shape)
    elif len(shape) >= 2:
        value = random.standard_normal(shape) * np.sqrt(1 / np.prod(shape[1:]))
    elif leaf == "weight":
        value = 0.5 + random.random_sample(shape)
    else:
        value = 0.1 * random.standard_normal(shape)
    return np.asarray(value, np.float32)


def hash_state_dict(keys: list[list[Any]]) -> dict[str, np.ndarray]:
    """Returns a whole state dictionary from a manifest's list of [key, shape, ...]."""
    arrays = {name: hash_array(name, tuple(shape)) for name, shape, *_ in keys}
    return {name: value for name, value in arrays.items() if value is not None}


def load_state_dict(variant: str) -> dict[str, np.ndarray]:
    """Returns the weights of a variant of the reference outputs.

    Args:
        variant: for example "sota_short" or "ccml_ast".

    Returns:
        key -> float32 array.
    """
    return hash_state_dict(load_manifest(variant)["keys"])
