"""Recording: room, microphone, background noise and level.

The room is the performer's. The microphone and the medium are the track's own, as in archives that
hold studio recordings beside cassettes and phones: spectral averages tell of them too.
"""

import functools

import numpy as np
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.noise import noise_pool, noise_slice
from musrep_jax.tfds_builders.synthetic_cultures.synthesis.performers import Performer


@functools.lru_cache(maxsize=64)
def fast_length(num_samples: int) -> int:
    """Returns the smallest number of the form 2^a 3^b 5^c that is not below `num_samples`."""
    best = 1 << (num_samples - 1).bit_length()
    for five in range(3):
        for three in range(4):
            base = 5**five * 3**three
            power = max(0, (-(-num_samples // base) - 1).bit_length())
            best = min(best, base << power)
    return best


@functools.lru_cache(maxsize=8)
def _chain_response(performer: Performer, size: int, sample_rate: int) -> np.ndarray:
    """Returns the complex response of room and recording chain at the bins of a real FFT."""
    length = max(64, round(performer.reverb_seconds * sample_rate))
    time = np.arange(length) / sample_rate
    places = performer.number * 7919 + np.arange(length)
    tail = np.take(noise_pool("pink"), places, mode="wrap")
    # 60 dB down after the reverberation time: exp(-6.91 t / T).
    tail = tail * np.exp(-6.91 * time / performer.reverb_seconds)
    tail[: round(0.008 * sample_rate)] = 0.0
    impulse = performer.reverb_level * tail / np.sqrt((tail**2).sum() + 1e-12)
    impulse[0] = 1.0
    frequencies = np.fft.rfftfreq(size, 1.0 / sample_rate)
    octaves = np.log2(np.maximum(frequencies, 40.0) / 1000.0)
    chain_db = performer.tilt_db_per_octave * octaves
    # Microphones and tapes lose the bottom: a gentle high pass at 40 Hz.
    low = frequencies**2 / (frequencies**2 + 40.0**2)
    response = np.fft.rfft(impulse, size) * 10.0 ** (chain_db / 20.0) * low
    return response.astype(np.complex64)


def channel_gain(frequencies: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the gain of the microphone and the medium of one track.

    A tilt, four broad resonances, a bottom that is lost below 60 to 350 Hz, and in six of ten
    tracks a top that is lost above 2.5 to 7 kHz.

    Args:
        frequencies: in Hz, ascending, shape (bins,).
        rng: of the track.

    Returns:
        float32 amplitude factors, shape (bins,).
    """
    grid = np.geomspace(30.0, 24000.0, 256)  # the curve is smooth in the logarithm
    octaves = np.log2(grid / 1000.0)
    gain_db = rng.uniform(-4.0, 3.0) * octaves
    for _ in range(4):
        centre, width = rng.uniform(-3.5, 3.0), rng.uniform(0.3, 1.0)
        gain_db += rng.uniform(-8.0, 8.0) * np.exp(-(((octaves - centre) / width) ** 2))
    bottom = np.log2(rng.uniform(60.0, 350.0) / 1000.0)
    gain_db -= rng.uniform(6.0, 18.0) * np.maximum(0.0, bottom - octaves)
    if rng.random() < 0.6:
        top = np.log2(rng.uniform(2500.0, 7000.0) / 1000.0)
        gain_db -= rng.uniform(12.0, 30.0) * np.maximum(0.0, octaves - top)
    return (10.0 ** (np.interp(frequencies, grid, gain_db) / 20.0)).astype(np.float32)


def record(
    audio: np.ndarray,
    performer: Performer,
    rng: np.random.Generator,
    *,
    level_db: float,
    sample_rate: int,
) -> np.ndarray:
    """Returns the audio as it would be recorded: in a room, with noise, at a level, without clips.

    Args:
        audio: dry mix, float32, shape (samples,).
        performer: gives the room, the recording chain and the noise.
        rng: draws the track's microphone and its deviation from the performer's noise level.
        level_db: root mean square wanted, in dB against full scale.
        sample_rate: in Hz.

    Returns:
        float32 audio in (-1, 1), shape (samples,).
    """
    num_samples = len(audio)
    size = fast_length(num_samples + round(performer.reverb_seconds * sample_rate))
    wet = np.fft.rfft(audio, size) * _chain_response(performer, size, sample_rate)
    wet *= channel_gain(np.fft.rfftfreq(size, 1.0 / sample_rate), rng)
    audio = np.fft.irfft(wet, size)[:num_samples].astype(np.float32)
    audio /= np.float32(np.sqrt(np.mean(audio**2) + 1e-12))

    noise = noise_slice("pink", num_samples, rng) + 0.4 * noise_slice("white", num_samples, rng)
    time = np.arange(num_samples, dtype=np.float32) / np.float32(sample_rate)
    hum = np.sin(np.float32(2 * np.pi * performer.hum_hz) * time)
    hum += 0.5 * np.sin(np.float32(6 * np.pi * performer.hum_hz) * time)
    snr_db = performer.snr_db + rng.uniform(-12.0, 4.0)
    background = noise + np.float32(0.5 * rng.random()) * hum
    audio += np.float32(10.0 ** (-snr_db / 20.0)) * background

    audio *= np.float32(10.0 ** (level_db / 20.0)) / np.sqrt(np.mean(audio**2))
    # A soft limiter: untouched up to 0.7, then bent so that it never reaches 0.99.
    loud = np.abs(audio) > 0.7
    audio[loud] = np.sign(audio[loud]) * (
        0.7 + 0.28 * np.tanh((np.abs(audio[loud]) - 0.7) / np.float32(0.28))
    )
    return audio.astype(np.float32)
