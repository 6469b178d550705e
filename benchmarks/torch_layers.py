"""Layers of the opponents in PyTorch: channels first, (batch, channels, mels, frames)."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musrep_jax.dsp.harmonic import (
    ERB_OFFSET_HZ,
    ERB_SLOPE,
    HarmonicGrid,
    fundamental_frequencies,
)
from musrep_jax.dsp.spectrogram import DB_FLOOR_POWER, LogMel, mel_filter_bank


class PowerSpectrogram(nn.Module):
    """Waveform (batch, samples) -> power spectrogram (batch, freqs, frames)."""

    def __init__(self, n_fft: int, is_centered: bool = True) -> None:
        super().__init__()
        self.n_fft, self.is_centered = n_fft, is_centered
        self.register_buffer("window", torch.hann_window(n_fft))

    def forward(self, audio: Tensor) -> Tensor:
        spectrum = torch.stft(
            audio, self.n_fft, self.n_fft // 2, window=self.window, center=self.is_centered,
            return_complex=True,
        )  # fmt: skip
        return spectrum.abs().pow(2)


class LogMelImage(nn.Module):
    """Waveform -> log-mel image (batch, 1, mels, frames), BatchNorm on top."""

    def __init__(self, settings: LogMel, norm: bool = True, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.is_in_decibel = settings.convention == "decibel"
        self.power = PowerSpectrogram(settings.n_fft, settings.is_centered)
        self.register_buffer("bank", torch.from_numpy(mel_filter_bank(settings)))
        self.norm = nn.BatchNorm2d(1, epsilon) if norm else nn.Identity()

    def forward(self, audio: Tensor) -> Tensor:
        mel = torch.matmul(self.power(audio).transpose(1, 2), self.bank).transpose(1, 2)
        if not self.is_in_decibel:
            return self.norm(torch.log10(10000 * mel.half().float() + 1)[:, None])
        return self.norm(10 * torch.log10(mel.clamp(min=DB_FLOOR_POWER))[:, None])


class HarmonicImage(nn.Module):
    """Waveform -> harmonic spectrogram (batch, harmonics, bands, frames), Q is learned."""

    def __init__(self, grid: HarmonicGrid) -> None:
        super().__init__()
        self.grid = grid
        self.power = PowerSpectrogram(grid.n_fft)
        centres = np.outer(np.arange(1, grid.num_harmonics + 1), fundamental_frequencies(grid))
        self.register_buffer("centres", torch.from_numpy(centres.reshape(1, -1)).float())
        bins = torch.linspace(0, grid.sample_rate / 2, grid.num_freqs)
        self.register_buffer("bins", bins[:, None])
        self.quality = nn.Parameter(torch.ones(1))
        self.norm = nn.BatchNorm2d(grid.num_harmonics)

    def forward(self, audio: Tensor) -> Tensor:
        width = (ERB_SLOPE * self.centres + ERB_OFFSET_HZ) / self.quality
        bank = F.relu(1 - 2 * (self.bins - self.centres).abs() / width)
        x = torch.matmul(self.power(audio).transpose(1, 2), bank).transpose(1, 2)
        x = x.reshape(len(x), self.grid.num_harmonics, self.grid.num_bands, -1)
        return self.norm(10 * torch.log10(x.clamp(min=DB_FLOOR_POWER)))


class Convs(nn.Module):
    """Convolution, BatchNorm, ReLU, max-pooling, in one or two dimensions."""

    def __init__(self, inputs, outputs, size=3, stride=1, pool=1, dim=2, padding=None) -> None:
        super().__init__()
        conv, norm, pooling = (
            (nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d)
            if dim == 1
            else (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d)
        )
        padding = size // 2 if padding is None else padding
        self.conv = conv(inputs, outputs, size, stride=stride, padding=padding)
        self.bn = norm(outputs)
        self.pool = nn.Identity() if pool == 1 else pooling(pool)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(F.relu(self.bn(self.conv(x))))


class RectifiedConvs(nn.Module):
    """Convolution, ReLU, BatchNorm, in one or two dimensions; time keeps its length."""

    def __init__(self, inputs, outputs, size) -> None:
        super().__init__()
        height, time = size if isinstance(size, tuple) else (None, size)
        sides = ((time - 1) // 2, time // 2)  # the odd zero comes last
        self.padding = sides if height is None else (*sides, 0, 0)
        conv, norm = (nn.Conv1d, nn.BatchNorm1d) if height is None else (nn.Conv2d, nn.BatchNorm2d)
        self.conv, self.bn = conv(inputs, outputs, size), norm(outputs, 1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(F.relu(self.conv(F.pad(x, self.padding))))


class Residual(nn.Module):
    """Two convolutions and a shortcut, convolved where the shape changes; gate and pooling."""

    def __init__(self, inputs, outputs, size=3, stride=1, pool=1, dim=2, gate=False) -> None:
        super().__init__()
        conv, norm = (nn.Conv1d, nn.BatchNorm1d) if dim == 1 else (nn.Conv2d, nn.BatchNorm2d)
        pooling = nn.MaxPool1d if dim == 1 else nn.MaxPool2d

        def normed(inputs: int, stride) -> nn.Module:
            return nn.Sequential(conv(inputs, outputs, size, stride, size // 2), norm(outputs))

        self.first, self.second = normed(inputs, stride), normed(outputs, 1)
        self.shortcut = normed(inputs, stride) if stride != 1 or inputs != outputs else None
        self.gate = (
            nn.Sequential(
                nn.Linear(outputs, outputs), nn.ReLU(), nn.Linear(outputs, outputs), nn.Sigmoid()
            )
            if gate
            else None
        )
        self.pool = nn.Identity() if pool == 1 else pooling(pool)

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(F.relu(self.first(x)))
        if self.gate is not None:
            h = h * self.gate(h.mean(-1))[..., None]
        return self.pool(F.relu(h + (x if self.shortcut is None else self.shortcut(x))))


def dense_head(inputs: int, width: int, classes: int) -> nn.Module:
    """Dense layer, BatchNorm, ReLU, dropout, output layer."""
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(width, classes),
    )


class GlobalMax(nn.Module):
    """(batch, channels, ...) -> (batch, channels)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).amax(2)


class Attention(nn.Module):
    """Multi-head self-attention, (batch, tokens, width)."""

    def __init__(self, width, heads, qkv_bias=True, dropout=0.0, fused=True) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        outputs = [3 * width] if fused else [width] * 3
        self.qkv = nn.ModuleList(nn.Linear(width, n, bias=qkv_bias) for n in outputs)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = torch.cat([layer(x) for layer in self.qkv], -1).chunk(3, dim=-1)
        q, k, v = (p.reshape(batch, tokens, self.heads, -1).transpose(1, 2) for p in parts)
        if self.dropout:
            scores = torch.matmul(q, k.transpose(-1, -2)) * q.shape[-1] ** -0.5
            weights = F.dropout(scores.softmax(-1), self.dropout, self.training)
            y = torch.matmul(weights, v)
        else:
            y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """A transformer block, LayerNorm before (`pre`) or after its halves."""

    def __init__(self, width, heads, pre, eps, dropout=0.0, attention_dropout=0.0, bias=True):
        super().__init__()
        self.pre = pre
        self.attention = Attention(width, heads, bias, attention_dropout, fused=pre)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        inner = nn.Dropout(dropout) if pre else nn.Identity()
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), inner, nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        if self.pre:
            x = x + self.dropout(self.attention(self.norm1(x)))
            return x + self.dropout(self.mlp(self.norm2(x)))
        x = self.norm1(x + self.dropout(self.attention(x)))
        return self.norm2(x + self.dropout(self.mlp(x)))


class ClassToken(nn.Module):
    """Prepends tokens, adds positions; each constant or learned."""

    def __init__(self, tokens: Tensor, positions: Tensor | None, learned: bool) -> None:
        super().__init__()
        for name, value in (("tokens", tokens), ("positions", positions)):
            if learned and value is not None:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.tokens[None].expand(len(x), -1, -1), x], 1)
        return x if self.positions is None else x + self.positions[None, : x.shape[1]]


class FirstToken(nn.Module):
    """(batch, tokens, width) -> the mean of the first `count` tokens, (batch, width)."""

    def __init__(self, count: int = 1) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.count].mean(1)


class ImageTokens(nn.Module):
    """(batch, channels, mels, frames) -> (batch, frames, channels x mels), channel-major."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1, 2).transpose(1, 2)


class PatchTokens(nn.Module):
    """(batch, width, mels, frames) -> (batch, mels x frames, width)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


class Branches(nn.Module):
    """Tall and long filters side by side over an image, (batch, channels, frames)."""

    def __init__(self, tall, long) -> None:
        super().__init__()
        self.tall = nn.ModuleList(
            Convs(1, out, (height, time), padding=(0, time // 2)) for height, time, out in tall
        )
        self.long = nn.ModuleList(Convs(1, out, size, dim=1) for size, out in long)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(2)
        return torch.cat([*(f(x).amax(2) for f in self.tall), *(f(mean) for f in self.long)], dim=1)


class Waveform(nn.Module):
    """(batch, samples) -> (batch, 1, samples)."""

    def forward(self, audio: Tensor) -> Tensor:
        return audio[:, None]
