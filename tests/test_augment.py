"""Augmentation of waveforms against references in numpy and scipy: values, spectra, lengths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compact_models import QUICK
from scipy import stats

from musrep_jax.dsp.augment import chains, filters, reverb, splicing, waveform

RATE = 16_000
KEY = jax.random.key(3)


def noise(num_samples, seed=0):
    return (0.1 * np.random.default_rng(seed).normal(size=num_samples)).astype(np.float32)


def tone(hertz, num_samples, rate=RATE):
    return np.sin(2 * np.pi * hertz * np.arange(num_samples) / rate).astype(np.float32)


def peak_hertz(audio, rate=RATE):
    """The frequency of the highest peak, by a parabola through three bins in dB."""
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
    top = int(spectrum.argmax())
    left, middle, right = np.log(spectrum[top - 1 : top + 2] + 1e-12)
    return (top + 0.5 * (left - right) / (left - 2 * middle + right)) * rate / len(audio)


@pytest.mark.parametrize("num_samples, num_taps", [(1000, 51), (1000, 1), (300, 900), (7, 3)])
def test_convolution_is_that_of_numpy(num_samples, num_taps):
    audio, taps = noise(num_samples), noise(num_taps, 1)
    found = filters.convolve(jnp.asarray(audio), jnp.asarray(taps))
    np.testing.assert_allclose(found, np.convolve(audio, taps)[:num_samples], atol=1e-6)


@pytest.mark.parametrize("cutoff", [200.0, 555.5, 4000.0])
def test_low_and_high_pass_are_windowed_sincs(cutoff):
    """As in julius: eight zero crossings, a symmetric Hann window, sum one, edges repeated."""
    audio = noise(3000)
    half = int(8 / (cutoff / RATE) / 2)
    time = np.arange(-half, half + 1)
    taps = np.sinc(2 * cutoff / RATE * time) * np.hanning(2 * half + 1)
    low = np.convolve(np.pad(audio, half, "edge"), taps / taps.sum(), "valid")
    np.testing.assert_allclose(filters.low_pass(audio, cutoff, RATE, 200.0), low, atol=2e-6)
    np.testing.assert_allclose(
        filters.high_pass(audio, cutoff, RATE, 200.0), audio - low, atol=2e-6
    )


def test_echo_gain_and_polarity():
    audio = noise(1000)
    for delay in (0, 300, 1000, 2000):
        echo = np.concatenate([np.zeros(delay), audio])[:1000]
        np.testing.assert_allclose(
            waveform.add_delay(audio, delay), (audio + 0.5 * echo) / 2, atol=1e-7
        )
    np.testing.assert_allclose(waveform.apply_gain(audio, -6.0), audio * 10**-0.3, rtol=1e-6)
    np.testing.assert_array_equal(waveform.invert_polarity(audio), -audio)


def test_noise_is_white_and_normal():
    drawn = np.stack(
        [waveform.draw_noise(jax.random.bits(jax.random.key(i), (2,)), 40_000) for i in range(5)]
    )
    for row in drawn:
        assert stats.kstest(row, "norm").pvalue > 1e-3
        power = np.abs(np.fft.rfft(row)) ** 2 / len(row)  # of white noise: exponential, mean 1
        assert stats.kstest(power[1:-1], "expon").pvalue > 1e-3
    assert np.abs(np.corrcoef(drawn) - np.eye(5)).max() < 0.02
    assert np.abs(drawn).max() < 5.5
    audio = noise(40_000, 9)
    added = np.asarray(waveform.add_noise(jax.random.bits(KEY, (2,)), audio, 0.4)) - audio
    assert added.std() / audio.std() == pytest.approx(0.4, rel=0.02)


def freeverb(audio, rate, reverberance, damping, room_size):
    """SoX's `reverb` and `channels 1`, sample by sample, as its public source defines it."""
    a = -1 / np.log(1 - 0.3)
    b = 100 / (np.log(1 - 0.98) * a + 1)
    feedback = 1 - np.exp((reverberance - b) / (a * b))
    kept, scale = damping / 100 * 0.3 + 0.2, room_size / 100 * 0.9 + 0.1
    wet = np.zeros(len(audio))
    for depth in (0, 1):
        offset, total = depth, np.zeros(len(audio))
        for length in (1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617):
            size = int(scale * rate / 44100 * (length + 12 * offset) + 0.5)
            offset, kept_value, line = -offset, 0.0, np.zeros(len(audio) + size)
            for i, value in enumerate(audio):
                kept_value = line[i] + (kept_value - line[i]) * kept
                line[i + size] = value + kept_value * feedback
            total += line[: len(audio)]
        for length in (225, 341, 441, 556):
            size = int(rate / 44100 * (length + 12 * offset) + 0.5)
            offset, line = -offset, np.zeros(len(audio) + size)
            for i, value in enumerate(total):
                line[i + size] = value + 0.5 * line[i]
            total = line[: len(audio)] - total
        wet += 0.5 * 0.015 * total
    return audio + wet


@pytest.mark.parametrize("room", [(50, 50, 99), (99, 0, 99), (0, 99, 0)])
def test_reverb_is_that_of_sox(room):
    audio = noise(4000)
    reverberance, damping, room_size = room
    apply = jax.jit(reverb.reverberate, static_argnums=4, compiler_options=QUICK)
    found = apply(audio, reverberance, damping, room_size, RATE)
    expected = freeverb(audio, RATE, *room)
    assert np.abs(expected - audio).max() > 0.03
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(audio).max() + 1e-5)


jit_shift = jax.jit(lambda audio, cents: splicing.shift_pitch(audio, cents, RATE))


@pytest.mark.parametrize("cents", [-700, -100, 0, 350, 700])
def test_a_pitch_shift_moves_a_tone_and_keeps_its_length_and_level(cents):
    audio = tone(440.0, 16_000)
    found = np.asarray(jit_shift(audio, cents))
    assert found.shape == audio.shape
    assert peak_hertz(found) == pytest.approx(440 * 2 ** (cents / 1200), rel=1e-3)
    assert found[500:-1500].std() == pytest.approx(audio.std(), rel=0.02)


@pytest.mark.parametrize("rate", [0.7, 1.0, 1.5])
def test_a_time_stretch_keeps_the_pitch_and_moves_what_happens(rate):
    audio = tone(440.0, 16_000)
    audio[8000:] *= 0.1
    found = np.asarray(splicing.stretch_time(audio, rate, RATE))
    assert found.shape == audio.shape
    assert peak_hertz(found) == pytest.approx(440, rel=1e-3)
    level = np.abs(found[: int(16_000 / rate) - 400])
    falls = np.flatnonzero(level > 0.3).max()
    assert falls == pytest.approx(8000 / rate, abs=0.05 * RATE)
    assert not found[int(16_000 / rate) + 1 :].any()
    if rate == 1.0:
        np.testing.assert_allclose(found, audio, atol=1e-6)


@pytest.mark.programs
def test_a_chain_depends_on_key_and_row_only_and_keeps_silence_and_damage_apart():
    augment = chains.make_augment("published", RATE)
    assert augment is not None
    published = jax.jit(augment, compiler_options=QUICK)
    audio = noise(20 * 2000).reshape(20, 2000)
    found = np.asarray(published(KEY, audio))
    assert found.shape == audio.shape and np.isfinite(found).all()
    first = published(KEY, audio[:13])  # another number of examples in the first group
    np.testing.assert_allclose(first, found[:13], atol=1e-6)
    other = np.asarray(published(jax.random.key(4), audio))
    assert (np.abs(other - found).max(axis=1) > 1e-3).mean() > 0.9
    damaged = audio.copy()
    damaged[3, 100], damaged[5], damaged[7] = np.nan, 0.0, np.inf
    for key in jax.random.split(KEY, 4):
        clean, spoiled = (np.asarray(published(key, batch)) for batch in (audio, damaged))
        np.testing.assert_array_equal(spoiled[5], 0)
        others = [row for row in range(20) if row not in (3, 5, 7)]
        np.testing.assert_array_equal(spoiled[others], clean[others])


def test_costly_operations_reach_each_example_with_their_probability():
    """Of 16 neighbors 4.8 on average, 4 or 5; each alike."""
    augment = chains.compose([chains.Step("noise", 0.3)], RATE)
    audio = jnp.asarray(np.tile(noise(16)[None], (32, 1)))
    mark = jax.jit(
        jax.vmap(lambda key: jnp.abs(augment(key, audio) - audio).max(axis=1) > 0),
        compiler_options=QUICK,
    )
    hit = np.asarray(mark(jax.random.split(KEY, 1000)))
    np.testing.assert_allclose(hit.mean(axis=0), 0.3, atol=4.5 * np.sqrt(0.21 / 1000))
    counts = hit.reshape(1000, 2, 16).sum(axis=2)
    assert set(counts.ravel()) == {4, 5} and counts.mean() == pytest.approx(4.8, abs=0.05)


@pytest.mark.parametrize("num_samples", [1, 800])
def test_short_clips_keep_their_length_and_are_finite(num_samples):
    def change(audio):
        return (
            splicing.shift_pitch(audio, 500, RATE),
            splicing.stretch_time(audio, 1.2, RATE),
            filters.low_pass(audio, 300.0, RATE, 200.0),
        )

    for changed in jax.jit(change, compiler_options=QUICK)(noise(num_samples)):
        assert changed.shape == (num_samples,) and np.isfinite(changed).all()


@pytest.mark.parametrize("name", [None, "", "none"])
def test_no_augmentation_is_none(name):
    assert chains.make_augment(name, RATE) is None


def test_unknown_names_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match="There is no augmentation 'echo': name one of published"):
        chains.make_augment("noise, echo", RATE)
