"""Log-mel front end against librosa, against stored spectrograms, and against hand numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musrep_jax.dsp.spectrogram import (
    LogMel,
    frame,
    hann_window,
    log_mel_spectrogram,
    mel_filter_bank,
    power_spectrogram,
    to_decibel,
)

SETTINGS = [
    LogMel(),
    LogMel(n_mels=96),
    LogMel(sample_rate=22050, n_fft=1024, hop_length=512, f_max=11025.0),
    LogMel(n_fft=400, hop_length=160, n_mels=64, f_min=50.0, f_max=7000.0),
]
each_setting = pytest.mark.parametrize("settings", SETTINGS, ids=str)

log_mel = jax.jit(log_mel_spectrogram, static_argnums=1)


def make_clip(sample_rate: int, seconds: float = 1.5) -> np.ndarray:
    """Two harmonic tones that fade, under noise that fades in: every band has something."""
    random = np.random.default_rng(3)
    time = np.arange(int(seconds * sample_rate)) / sample_rate
    tones = sum(np.sin(2 * np.pi * f * n * time) / n for f in (196.0, 311.1) for n in range(1, 20))
    noise = random.standard_normal(len(time)) * time
    return (0.1 * tones * np.exp(-time) + 0.02 * noise)[None].astype(np.float32)


def librosa_log_mel(audio: np.ndarray, settings: LogMel) -> np.ndarray:
    """The same spectrogram by librosa in double precision, (frames, mels)."""
    librosa = pytest.importorskip("librosa")
    power = librosa.feature.melspectrogram(
        y=audio.astype(np.float64),
        sr=settings.sample_rate,
        n_fft=settings.n_fft,
        hop_length=settings.hop_length,
        n_mels=settings.n_mels,
        fmin=settings.f_min,
        fmax=settings.f_max,
        htk=True,
        norm=None,
        pad_mode="reflect",
        power=2.0,
    )
    return librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None).T


@each_setting
def test_equals_librosa_on_noise(settings):
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, 30000)).astype(np.float32)
    expected = librosa_log_mel(noise[0], settings)
    actual = np.asarray(log_mel(noise, settings))[0]
    assert actual.shape == expected.shape == (settings.num_frames(30000), settings.n_mels)
    loud = expected > -60
    assert loud.mean() > 0.99 or settings.n_mels == 128
    assert np.abs(actual - expected)[loud].max() < 1e-4


@each_setting
def test_equals_librosa_on_tones(settings):
    # Bands far below a frame's loudest one are where float32 ends: a window product rounded to
    # float32, with the transform itself in double precision, already differs by more than 1e-4 dB.
    audio = make_clip(settings.sample_rate)
    expected = librosa_log_mel(audio[0], settings)
    error = np.abs(np.asarray(log_mel(audio, settings))[0] - expected)
    loud = expected > -60
    assert loud.mean() > 0.9
    assert error[loud & (expected > expected.max(axis=1, keepdims=True) - 40)].max() < 1e-4
    assert np.quantile(error[loud], 0.99) < 1e-4
    assert error[loud].max() < 2e-3


@each_setting
def test_filter_bank_equals_librosa(settings):
    librosa = pytest.importorskip("librosa")
    expected = librosa.filters.mel(
        sr=settings.sample_rate,
        n_fft=settings.n_fft,
        n_mels=settings.n_mels,
        fmin=settings.f_min,
        fmax=settings.f_max,
        htk=True,
        norm=None,
        dtype=np.float64,
    ).T
    np.testing.assert_allclose(mel_filter_bank(settings), expected, atol=1e-6)


def test_filter_bank_anchors():
    bank = mel_filter_bank(LogMel())
    assert bank.shape == (257, 128)
    assert bank.sum() == pytest.approx(252.785, abs=1e-3)
    assert bank.max() == pytest.approx(0.98956, abs=1e-5)
    assert np.flatnonzero(bank.sum(axis=0) == 0).tolist() == [0]
    assert (mel_filter_bank(LogMel(n_mels=96)).sum(axis=0) > 0).all()


def test_sine_anchors():
    time = np.arange(16000) / 16000
    sine = (0.5 * np.sin(2 * np.pi * 440 * time))[None].astype(np.float32)
    db = np.asarray(log_mel(sine, LogMel()))[0]
    assert db.shape == (63, 128)
    assert db.mean() == pytest.approx(-68.678, abs=0.05)
    assert db.max() == pytest.approx(35.393, abs=2e-3)
    assert db.min() == -100.0
    assert db[30].argmax() == 24
    expected = [-36.857, -39.865, -43.442, -45.590, -47.750, -49.841, -51.844]
    np.testing.assert_allclose(db[30, 33:40], expected, atol=0.02)


def test_chirp_and_silence_anchors():
    time = np.arange(16000) / 16000
    chirp = (0.3 * np.sin(2 * np.pi * (100 * time + 1950 * time**2)))[None].astype(np.float32)
    db = np.asarray(log_mel(chirp, LogMel()))[0]
    assert db.mean() == pytest.approx(-76.598, abs=0.05)
    assert db.max() == pytest.approx(32.435, abs=2e-3)
    assert db[30].argmax() == 68
    assert (np.asarray(log_mel(np.zeros((1, 16000), np.float32), LogMel())) == -100.0).all()


@pytest.mark.parametrize("clip", ["fishin_3s", "sugarplum_3s"])
def test_stored_spectrograms(shared_dir, clip):
    stored = np.load(shared_dir / f"parity/input_{clip}.npz")
    actual = np.asarray(log_mel(stored["waveform"][None], LogMel(n_mels=96)))[0].T
    loud = stored["logmel_db"] > -60
    assert np.abs(actual - stored["logmel_db"])[loud].max() < 0.02


@pytest.mark.parametrize("num_samples", [480000, 59049, 58880, 48000, 256, 511, 512, 513])
def test_num_frames(num_samples):
    settings = LogMel()
    frames = settings.num_frames(num_samples)
    shape = jax.eval_shape(
        lambda x: log_mel_spectrogram(x, settings), jax.ShapeDtypeStruct((1, 1000), jnp.float32)
    ).shape
    assert shape == (1, settings.num_frames(1000), 128)
    assert frames == len(range(0, num_samples + 1, settings.hop_length))
    if num_samples == 480000:
        assert frames == 1876


@pytest.mark.parametrize(("length", "hop"), [(512, 256), (400, 160), (512, 512)])
def test_frames_are_centred_and_reflected(length, hop):
    audio = np.arange(2000, dtype=np.float32)[None]
    frames = np.asarray(frame(audio, length, hop))[0]
    padded = np.pad(audio[0], length // 2, mode="reflect")
    expected = np.stack([padded[i * hop : i * hop + length] for i in range(1 + 2000 // hop)])
    np.testing.assert_array_equal(frames, expected)


def test_window_is_periodic():
    np.testing.assert_allclose(hann_window(512), np.hanning(513)[:-1], atol=1e-7)


def test_power_spectrogram_equals_numpy():
    audio = make_clip(16000, 0.2)
    power = np.asarray(power_spectrogram(audio, 512, 256))[0]
    padded = np.pad(audio[0].astype(np.float64), 256, mode="reflect")
    window = np.hanning(513)[:-1]
    expected = [
        np.abs(np.fft.rfft(padded[i * 256 : i * 256 + 512] * window)) ** 2 for i in range(13)
    ]
    np.testing.assert_allclose(power, np.stack(expected), rtol=1e-4, atol=1e-4)


def test_decibel_floor_and_reference():
    power = jnp.array([0.0, 1e-12, 1e-10, 1.0, 100.0])
    np.testing.assert_allclose(to_decibel(power), [-100, -100, -100, 0, 20], atol=1e-5)


@pytest.mark.parametrize("level", [0.0, 1e-8, 0.5])
def test_gradient_is_finite(level):
    audio = level * make_clip(16000, 0.1)
    gradient = jax.jit(jax.grad(lambda x: log_mel_spectrogram(x, LogMel()).sum()))(audio)
    assert bool(jnp.isfinite(gradient).all())
    assert bool((gradient != 0).any()) == (level > 0.1)


def test_bad_settings_and_short_audio_are_named():
    with pytest.raises(ValueError, match=r"9000.0 Hz do not fit a sample rate of 16000"):
        mel_filter_bank(LogMel(f_max=9000.0))
    with pytest.raises(ValueError, match=r"256 samples.*at least 257"):
        log_mel_spectrogram(jnp.zeros((1, 256)), LogMel())
    assert log_mel_spectrogram(jnp.zeros((1, 257)), LogMel()).shape == (1, 2, 128)


def test_settings_as_plain_data():
    data = LogMel(n_mels=96).to_dict()
    assert data["n_mels"] == 96
    assert data["mel_scale"] == "htk"
    assert data["mel_norm"] is None
    assert data["decibel"]["top_db"] is None
