"""MERT in PyTorch: transformers' HuBERT where that is installed, else the same layers written out.

Both have the weighted sum of all layers and the output layer on top, as ours has.
"""

import importlib.util
import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.torch_layers import Block
from musrep_jax.models.mert import MERT


class WeightedLayers(nn.Module):
    """All layers' means over time, their weighted sum, and the output layer."""

    def __init__(self, encoder: nn.Module, num_layers: int, width: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.layer_weights = nn.Parameter(torch.zeros(num_layers))
        self.head = nn.Linear(width, classes)

    def forward(self, audio: Tensor) -> Tensor:
        means = torch.stack([layer.mean(dim=1) for layer in self.encoder(audio)], dim=1)
        shares = self.layer_weights.softmax(dim=0)
        return self.head((means * shares[:, None]).sum(dim=1))


class Positions(nn.Module):
    """Grouped convolution with a normalized kernel, and GELU: (batch, steps, width)."""

    def __init__(self, width: int, size: int, groups: int) -> None:
        super().__init__()
        conv = nn.Conv1d(width, width, size, padding=size // 2, groups=groups)
        self.conv = nn.utils.parametrizations.weight_norm(conv, dim=2)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.conv(x.transpose(1, 2))[..., : x.shape[1]]).transpose(1, 2)


class PlainHubert(nn.Module):
    """The layers of `MERT` with post-norm blocks, one after the other."""

    def __init__(self, model: MERT) -> None:
        super().__init__()
        widths = (1, *model.front_channels)
        self.convs = nn.ModuleList(
            nn.Conv1d(*pair, kernel, stride, bias=False)
            for pair, kernel, stride in zip(
                itertools.pairwise(widths),
                model.front_kernels,
                model.front_strides,
                strict=True,
            )
        )
        self.norm = nn.GroupNorm(widths[1], widths[1])
        self.projection = nn.Sequential(
            nn.LayerNorm(widths[-1]), nn.Linear(widths[-1], model.width)
        )
        self.positions = Positions(model.width, model.position_kernel, model.position_groups)
        self.first_norm = nn.LayerNorm(model.width)
        self.blocks = nn.ModuleList(
            Block(model.width, model.num_heads, False, model.norm_epsilon)
            for _ in range(model.depth)
        )

    def forward(self, audio: Tensor) -> list[Tensor]:
        x = audio[:, None]
        for index, conv in enumerate(self.convs):
            x = conv(x)
            x = F.gelu(self.norm(x) if index == 0 else x)
        x = self.projection(x.transpose(1, 2))
        layers = [self.first_norm(x + self.positions(x))]
        for block in self.blocks:
            layers.append(block(layers[-1]))
        return layers


class TransformersHubert(nn.Module):
    """`transformers.HubertModel` with the sizes of a `MERT`, without masking."""

    def __init__(self, model: MERT) -> None:
        super().__init__()
        from transformers import HubertConfig, HubertModel

        config = HubertConfig(
            hidden_size=model.width,
            num_hidden_layers=model.depth,
            num_attention_heads=model.num_heads,
            intermediate_size=model.mlp_ratio * model.width,
            conv_dim=list(model.front_channels),
            conv_kernel=list(model.front_kernels),
            conv_stride=list(model.front_strides),
            mask_time_prob=0.0,
        )
        self.hubert = HubertModel(config)

    def forward(self, audio: Tensor) -> tuple[Tensor, ...]:
        return self.hubert(audio, output_hidden_states=True).hidden_states


def mert(model: MERT) -> nn.Module:
    """Returns the opponent of our MERT."""
    has_transformers = importlib.util.find_spec("transformers") is not None
    encoder = (TransformersHubert if has_transformers else PlainHubert)(model)
    return WeightedLayers(encoder, model.depth + 1, model.width, model.num_classes)
