"""Windows of frames against numpy: the spectrogram, the four statistics, silence, the embedding."""

import jax
import numpy as np
import pytest
from compact_models import COMPACT, build

from musrep_jax.dsp.spectrogram import LogMel, mel_filter_bank
from musrep_jax.inference.chunks import cut
from musrep_jax.models import create_encoder

FEATURES = jax.jit(
    lambda audio: create_encoder("log_mel_windows").apply({}, audio, train=False).embedding
)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def frames_by_numpy(audio):
    """ln of triangles over magnitudes, frame by frame in float64."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    starts = range(0, len(audio) - 1023, 512)
    magnitudes = [np.abs(np.fft.rfft(audio[start : start + 1024] * window)) for start in starts]
    bins = np.arange(513) * 22050 / 1024
    corners = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 11025 / 700), 202) / 2595) - 1)
    bands = [np.interp(bins, corners[k : k + 3], [0, 1, 0]) for k in range(200)]
    return np.log(np.maximum(np.array(magnitudes) @ np.array(bands).T, 1e-5))


def summarize(frames):
    return np.concatenate([frames.mean(0), frames.var(0), frames.max(0), frames.min(0)])


def test_base_features_are_those_of_numpy(rng):
    audio = (0.1 * rng.standard_normal(33_280)).astype(np.float32)
    frames = frames_by_numpy(audio.astype(np.float64))
    assert frames.shape == (64, 200)
    np.testing.assert_allclose(FEATURES(audio[None])[0], summarize(frames), atol=2e-3)


def test_padding_of_a_short_recording_does_not_count(rng):
    audio = np.zeros(33_280, np.float32)
    audio[: 1024 + 19 * 512] = 0.1 * rng.standard_normal(1024 + 19 * 512)
    heard = frames_by_numpy(audio.astype(np.float64))[:21]  # the last begins in the sound
    np.testing.assert_allclose(FEATURES(audio[None])[0], summarize(heard), atol=5e-3)
    silent = np.asarray(FEATURES(np.zeros((1, 33_280), np.float32)))[0]
    floor = np.log(1e-5)
    np.testing.assert_allclose(silent, np.repeat([floor, 0, floor, floor], 200), atol=1e-5)


def test_windows_follow_one_another_without_gap_or_overlap():
    """30 s have 1,290 frames, which are 20 windows and a rest; no frame is in two of the 20."""
    model = create_encoder("log_mel_windows")
    chunks, spans = cut(np.arange(661_500, dtype=np.float32), model.chunking, 0.0)
    assert model.log_mel.num_frames(661_500) == 1290
    assert len(chunks) == 21
    np.testing.assert_array_equal(chunks[:20, 0], np.arange(20) * 64 * 512)
    assert spans[-1, 1] == 661_500


def test_some_of_200_bands_lie_between_two_bins():
    bank = mel_filter_bank(LogMel(22050, 1024, 512, 200, 0.0, 11025.0, "log_magnitude"))
    assert 0 < (bank.max(axis=0) == 0).sum() < 40


def test_embedding_is_linear_in_standardized_frames(rng):
    built = build("joint_embedding")
    assert COMPACT["joint_embedding"]["width"] == 6
    norm = {"mean": rng.normal(size=20), "var": rng.uniform(1, 2, 20)}
    variables = {**built.variables, "batch_stats": {"norm": norm}}
    log_mel = rng.normal(size=(2, 9, 20)).astype(np.float32)
    output = built.evaluate(variables, log_mel)
    kernel = built.variables["params"]["projection"]["kernel"]
    own = built.variables["params"]["norm"]
    scale = own["scale"] / np.sqrt(norm["var"] + 1e-5)
    frames = ((log_mel - norm["mean"]) * scale + own["bias"]) @ kernel
    np.testing.assert_allclose(output.intermediates["frames"], frames, atol=1e-4)
    expected = np.stack([summarize(np.asarray(one, np.float64)) for one in frames])
    np.testing.assert_allclose(output.embedding, expected, atol=1e-4)
