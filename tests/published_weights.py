"""State dictionaries in the public code's layout, for tests of importing them."""

import re
from typing import Any

import numpy as np

from musrep_jax.models import Tagger
from musrep_jax.weights.state_dicts import torch_name, variable_shapes


def random_state_dict(model: Tagger, seed: int = 0) -> dict[str, np.ndarray]:
    """Returns random weights of a model under the names and in the layout of the public code."""
    random = np.random.default_rng(seed)
    arrays = {}
    for path, shape in variable_shapes(model).items():
        if path[0] in ("params", "batch_stats"):
            size = shape.shape[::-1] if path[-1] == "kernel" else shape.shape
            value = 0.1 * random.standard_normal(size).astype(np.float32)
            arrays[torch_name(path, model.TORCH_NAMES)] = (
                np.abs(value) + 0.5 if path[-1] == "var" else value
            )
    return arrays


def image_transformer(width: int, depth: int, grid: int, *, distilled: bool) -> dict[str, Any]:
    """Returns random weights of a DeiT or ViT with patches of 16 x 16, under timm's names."""
    random = np.random.default_rng(7)
    tokens = 2 if distilled else 1
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, tokens + grid * grid, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "head.weight": (1000, width),
        "head.bias": (1000,),
    }
    if distilled:
        shapes |= {
            "dist_token": (1, 1, width),
            "head_dist.weight": (1000, width),
            "head_dist.bias": (1000,),
        }
    for block in range(depth):
        layers = {
            "norm1": (width,),
            "attn.qkv": (3 * width, width),
            "attn.proj": (width, width),
            "norm2": (width,),
            "mlp.fc1": (4 * width, width),
            "mlp.fc2": (width, 4 * width),
        }
        for name, shape in layers.items():
            shapes[f"blocks.{block}.{name}.weight"] = shape
            shapes[f"blocks.{block}.{name}.bias"] = shape[:1]
    return {k: 0.05 * random.standard_normal(v).astype(np.float32) for k, v in shapes.items()}


def audioset_transformer(width: int, depth: int, columns: int, num_classes: int) -> dict[str, Any]:
    """Returns random weights of an AST as published: behind `module.`, 12 rows of positions."""
    image = image_transformer(width, depth, 1, distilled=True)
    random = np.random.default_rng(8)
    image["patch_embed.proj.weight"] = image["patch_embed.proj.weight"][:, :1]
    arrays = {f"module.v.{key}": value for key, value in image.items()}
    positions = random.standard_normal((1, 2 + 12 * columns, width))
    head = random.standard_normal((num_classes, width))
    return arrays | {
        "module.v.pos_embed": positions.astype(np.float32),
        "module.mlp_head.0.weight": np.ones(width, np.float32),
        "module.mlp_head.0.bias": np.zeros(width, np.float32),
        "module.mlp_head.1.weight": head.astype(np.float32),
        "module.mlp_head.1.bias": np.zeros(num_classes, np.float32),
    }


def one_line(text: str) -> str:
    """Returns a text with every run of blanks as one."""
    return re.sub(r"\s+", " ", text).strip()
