"""The architectures of `musrep_jax.models` in PyTorch, as opponents of `benchmarks/models.py`.

Written for this comparison from the published descriptions, with the sizes and the operations of
the public code: channels first, (batch, channels, mels, frames), biases before BatchNorm, and
explicit attention weights where the public code drops some of them out. Every model maps a waveform
(batch, samples) to logits (batch, classes); its log-mel front end is part of it. The number of
trained parameters of each equals that of ours, which `benchmarks/models.py` checks.

Source: Won et al., "Evaluation of CNN-based automatic music tagging models", SMC 2020; Won et al.,
"Toward interpretable music tagging with self-attention", 2019; Won et al., "Data-driven harmonic
filters", ICASSP 2020; Won, Choi, Serra, "Semi-supervised music tagging transformer", ISMIR 2021;
Gong et al., "AST", Interspeech 2021.
"""

import importlib
import pathlib
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.torch_layers import (
    Block,
    Branches,
    ClassToken,
    Convs,
    FirstToken,
    GlobalMax,
    HarmonicImage,
    ImageTokens,
    LogMelImage,
    PatchTokens,
    RectifiedConvs,
    Residual,
    Waveform,
    dense_head,
)
from benchmarks.torch_mert import mert
from musrep_jax.models.base import Tagger
from musrep_jax.models.self_attention import sinusoidal_positions
from musrep_jax.models.token_tagger import constant_class_token


def published_class_token(width: int) -> Tensor:
    """The constant class token of the self-attention taggers, (1, width)."""
    return torch.from_numpy(np.array(constant_class_token(width))).reshape(1, width)


def bert_tail(width: int, dropout: float, attention_dropout: float, classes: int) -> nn.Module:
    """Two post-norm blocks, tanh(dense) of the class token, dropout, output layer."""
    blocks = [Block(width, 8, False, 1e-12, dropout, attention_dropout) for _ in range(2)]
    pooler = (FirstToken(), nn.Linear(width, width), nn.Tanh())
    return nn.Sequential(*blocks, *pooler, nn.Dropout(0.5), nn.Linear(width, classes))


def fcn(model: Tagger) -> nn.Module:
    """FCN."""
    c, layers = (1, 64, 128, 128, 128, 64), []
    for i, (time, mel) in enumerate(model.pools):
        layers.append(Convs(c[i], c[i + 1], pool=(mel, time)))
    tail = (nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, model.num_classes))
    return nn.Sequential(LogMelImage(model.log_mel), *layers, *tail)


class MusiCNN(nn.Module):
    """MusiCNN, small or big."""

    def __init__(self, model: Tagger) -> None:
        super().__init__()
        self.image = LogMelImage(model.log_mel)
        self.front = Branches(
            [(h, 7, 204) for h in model.heights], [(n, 51) for n in (129, 65, 33)]
        )
        c = model.backend_channels
        self.layers = nn.ModuleList(Convs(i, c, 7, dim=1) for i in (561, c, c))
        self.head = dense_head(2 * (561 + 3 * c), model.dense_width, model.num_classes)

    def forward(self, audio: Tensor) -> Tensor:
        stages = [self.front(self.image(audio))]
        for index, layer in enumerate(self.layers):
            y = layer(stages[-1])
            stages.append(y + stages[-1] if index else y)
        z = torch.cat(stages, dim=1)
        return self.head(torch.cat([z.amax(2), z.mean(2)], dim=1))


class MusiCNNOriginal(nn.Module):
    """MusiCNN as the package musicnn has it."""

    def __init__(self, model: Tagger) -> None:
        super().__init__()
        self.image = LogMelImage(model.log_mel, epsilon=1e-3)
        tall = [(model.vertical_channels, (height, 7)) for height in model.heights]
        long = [(model.horizontal_channels, (1, n)) for n in model.horizontal_lengths]
        self.front = nn.ModuleList(RectifiedConvs(1, out, size) for out, size in (*tall, *long))
        c, inputs = model.backend_channels, sum(out for out, _ in (*tall, *long))
        self.layers = nn.ModuleList(RectifiedConvs(i, c, 7) for i in (inputs, c, c))
        pooled, width = 2 * (inputs + 3 * c), model.dense_width
        self.head = nn.Sequential(
            nn.BatchNorm1d(pooled, 1e-3), nn.Dropout(0.5), nn.Linear(pooled, width), nn.ReLU(),
            nn.BatchNorm1d(width, 1e-3), nn.Dropout(0.5), nn.Linear(width, model.num_classes),
        )  # fmt: skip

    def forward(self, audio: Tensor) -> Tensor:
        image = self.image(audio)
        stages = [torch.cat([branch(image).amax(2) for branch in self.front], dim=1)]
        for index, layer in enumerate(self.layers):
            y = layer(stages[-1])
            stages.append(y + stages[-1] if index else y)
        z = torch.cat(stages, dim=1)
        return self.head(torch.stack([z.amax(2), z.mean(2)], dim=2).flatten(1))


class CRNN(nn.Module):
    """CRNN."""

    def __init__(self, model: Tagger) -> None:
        super().__init__()
        sizes = ((1, 64, 2), (64, 128, 3), (128, 128, 4), (128, 128, 4))
        convs = [Convs(i, o, pool=(p, p)) for i, o, p in sizes]
        self.body = nn.Sequential(LogMelImage(model.log_mel), *convs, ImageTokens())
        self.gru = nn.GRU(128, 32, num_layers=2, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(32, model.num_classes))

    def forward(self, audio: Tensor) -> Tensor:
        return self.head(self.gru(self.body(audio))[0][:, -1])


def sample_cnn(model: Tagger, gated: bool = False) -> nn.Module:
    """Sample-level CNN, with gated residual blocks or without."""
    c = [1, *(128 * f for f in model.channel_factors), 512]
    layers = []
    for i in range(11):
        size, stride, pool = (3, 3, 1) if i == 0 else (1, 1, 1) if i == 10 else (3, 1, 3)
        settings = {"size": size, "stride": stride, "pool": pool, "dim": 1}
        block = Residual(c[i], c[i + 1], gate=True, **settings) if gated else None
        layers.append(block or Convs(c[i], c[i + 1], **settings))
    plain_head = nn.Sequential(nn.Dropout(0.5), nn.Linear(512, model.num_classes))
    head = dense_head(512, 512, model.num_classes) if gated else plain_head
    return nn.Sequential(Waveform(), *layers, nn.Flatten(), head)


def short_chunk(model: Tagger, residual: bool) -> nn.Module:
    """Short-chunk CNN, short-chunk ResNet, VGG-ish."""
    c = [1, *(model.n_channels * f for f in (1, 1, 2, 2, 2, 2, 4))]
    layers = [
        Residual(c[i], c[i + 1], stride=(2, 2)) if residual else Convs(c[i], c[i + 1], pool=(2, 2))
        for i in range(7)
    ]
    head = dense_head(c[-1], c[-1], model.num_classes)
    return nn.Sequential(LogMelImage(model.log_mel), *layers, GlobalMax(), head)


def harmonic_cnn(model: Tagger) -> nn.Module:
    """Harmonic CNN."""
    c, layers = [6, 128, 128, 128, 128, 256, 256, 256], []
    for i, (time, mel) in enumerate(model.pooling_plan):
        layers.append((Convs if i in (0, 4) else Residual)(c[i], c[i + 1], pool=(mel, time)))
    head = dense_head(256, 256, model.num_classes)
    return nn.Sequential(HarmonicImage(model.grid), *layers, GlobalMax(), head)


def cnnsa(model: Tagger) -> nn.Module:
    """CNNSA."""
    c = [1, 128, 128, 256, 256, 256, 256, 256]
    layers = [Residual(c[i], c[i + 1], stride=(2, 2) if i < 3 else (2, 1)) for i in range(7)]
    tokens = ClassToken(published_class_token(256), None, learned=False)
    tail = bert_tail(256, 0.4, 0.5, model.num_classes)
    return nn.Sequential(LogMelImage(model.log_mel), *layers, ImageTokens(), tokens, tail)


def self_attention(model: Tagger) -> nn.Module:
    """Self-attention tagger with its defaults: spectrogram, transformer, sinusoidal positions."""
    c, mels = model.spec_channels, model.n_mels
    tall = [
        (int(share * mels), time, f * c)
        for share in (0.9, 0.4)
        for time, f in ((7, 1), (3, 2), (1, 4))
    ]
    long = [(size, f * c) for size, f in ((165, 1), (129, 2), (65, 4), (33, 8))]
    frames = model.log_mel.num_frames(model.num_samples)
    positions = torch.from_numpy(sinusoidal_positions(frames + 1, 512))
    return nn.Sequential(
        LogMelImage(model.log_mel),
        Branches(tall, long),
        Convs(29 * c, 512, 1, dim=1),
        PatchTokens(),
        ClassToken(published_class_token(512), positions, learned=False),
        bert_tail(512, 0.4, 0.4, model.num_classes),
    )


def tagging_transformer(model: Tagger) -> nn.Module:
    """Music tagging transformer."""
    c, width = model.conv_channels, model.width
    pools = ((2, 2), (2, 2), (2, 1))
    convs = [Residual(i, c, pool=p) for i, p in zip((1, c, c), pools, strict=True)]
    start = ClassToken(torch.randn(1, width), torch.randn(513, width), learned=True)
    blocks = [Block(width, 8, True, 1e-5, 0.1, bias=False) for _ in range(4)]
    return nn.Sequential(
        LogMelImage(model.log_mel),
        *convs,
        ImageTokens(),
        nn.Linear(16 * c, width),
        start,
        nn.Dropout(0.1),
        *blocks,
        FirstToken(),
        nn.LayerNorm(width),
        nn.Linear(width, model.num_classes),
    )


def spectrogram_transformer(model: Tagger) -> nn.Module:
    """Audio spectrogram transformer."""
    width, heads, depth = model.size
    rows, columns = model.patch_grid(model.log_mel.num_frames(model.num_samples))
    start = ClassToken(
        torch.zeros(2, width), 0.02 * torch.randn(2 + rows * columns, width), learned=True
    )
    return nn.Sequential(
        LogMelImage(model.log_mel, norm=False),
        nn.Conv2d(1, width, 16, stride=10),
        PatchTokens(),
        start,
        *(Block(width, heads, True, 1e-6) for _ in range(depth)),
        nn.LayerNorm(width, 1e-6),
        FirstToken(2),
        nn.LayerNorm(width),
        nn.Linear(width, model.num_classes),
    )


TORCH_MODELS: dict[str, Callable[..., nn.Module]] = {
    "cnnsa": cnnsa,
    "crnn": CRNN,
    "fcn": fcn,
    "harmonic_cnn": harmonic_cnn,
    "mert": mert,
    "musicnn": MusiCNN,
    "musicnn_big": MusiCNN,
    "musicnn_original": MusiCNNOriginal,
    "sample_cnn": sample_cnn,
    "sample_cnn_se": lambda model: sample_cnn(model, gated=True),
    "self_attention": self_attention,
    "short_chunk_cnn": lambda model: short_chunk(model, residual=False),
    "short_chunk_resnet": lambda model: short_chunk(model, residual=True),
    "spectrogram_transformer": spectrogram_transformer,
    "tagging_transformer": tagging_transformer,
    "vgg_ish": lambda model: short_chunk(model, residual=False),
}
"""Name in `musrep_jax.models.MODELS` -> function from our unbound module to the torch module."""

PEER_CLASSES: dict[str, tuple[str, dict[str, str]]] = {
    "cnnsa": ("CNNSA", {}),
    "crnn": ("CRNN", {}),
    "fcn": ("FCN", {}),
    "harmonic_cnn": ("HarmonicCNN", {}),
    "musicnn": ("Musicnn", {"dataset": "mtat"}),
    "musicnn_big": ("Musicnn", {"dataset": "msd"}),
    "sample_cnn": ("SampleCNN", {}),
    "sample_cnn_se": ("SampleCNNSE", {}),
    "short_chunk_cnn": ("ShortChunkCNN", {}),
    "short_chunk_resnet": ("ShortChunkCNN_Res", {}),
    "vgg_ish": ("ShortChunkCNN", {}),
}
"""Our name -> class in `training/model.py` of minzwon/sota-music-tagging-models, its arguments."""


def load_peer(folder: str, name: str) -> nn.Module | None:
    """Returns a model of the public PyTorch code, imported from a checkout by path.

    The checkout has the layout of https://github.com/minzwon/sota-music-tagging-models: the classes
    stand in `training/model.py`, which imports its neighbors by bare name, and torchaudio.

    Args:
        folder: of the checkout.
        name: of our model.

    Returns:
        The module, waveform -> probabilities, or None if that repository has no such model.

    Raises:
        FileNotFoundError: if the folder has no `training/model.py`.
    """
    path = pathlib.Path(folder) / "training"
    if not (path / "model.py").is_file():
        raise FileNotFoundError(
            f"There is no training/model.py in {folder}: --peer is the folder of a checkout of "
            "minzwon/sota-music-tagging-models."
        )
    if name not in PEER_CLASSES:
        return None
    sys.path.insert(0, str(path))
    try:
        module = importlib.import_module("model")
    finally:
        sys.path.remove(str(path))
    class_name, settings = PEER_CLASSES[name]
    return getattr(module, class_name)(**settings)
