"""Harmonic filters against hand numbers, an independent NumPy form and the published arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity_files import load_arrays, load_clip

from musrep_jax.dsp.harmonic import (
    HarmonicGrid,
    bound_quality,
    filter_bandwidths,
    fundamental_frequencies,
    harmonic_centers,
    harmonic_filter_bank,
    harmonic_levels,
    harmonic_spectrogram,
)
from musrep_jax.models.frontends import HarmonicFilters
from musrep_jax.models.short_chunk_cnn import ShortChunkResNet

GRID = HarmonicGrid()


def make_bank(quality: float, grid: HarmonicGrid = GRID) -> jax.Array:
    centres = harmonic_centers(fundamental_frequencies(grid), grid.num_harmonics)
    return harmonic_filter_bank(centres, filter_bandwidths(centres, quality), grid)


def reference_bank(quality: float, grid: HarmonicGrid) -> np.ndarray:
    """Two slopes per filter, in float64, one filter at a time."""
    bank = np.zeros((grid.num_freqs, grid.num_bands, grid.num_harmonics))
    freqs = np.arange(grid.num_freqs) * grid.sample_rate / grid.n_fft
    for band in range(grid.num_bands):
        for harmonic in range(grid.num_harmonics):
            centre = 440 * 2 ** ((24 + band / grid.semitone_scale - 69) / 12) * (harmonic + 1)
            width = (0.1079 * centre + 24.7) / quality
            rising = 2 / width * freqs + 1 - 2 * centre / width
            falling = -2 / width * freqs + 1 + 2 * centre / width
            bank[:, band, harmonic] = np.maximum(0, np.minimum(rising, falling))
    return bank


def make_audio(num_samples: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (0.3 * random.standard_normal((2, num_samples))).astype(np.float32)


def test_number_of_bands():
    counts = [HarmonicGrid(num_harmonics=h).num_bands for h in range(1, 11)]
    assert counts == [190, 166, 152, 142, 134, 128, 124, 118, 114, 110]
    assert HarmonicGrid(semitone_scale=1).num_bands == 64


def test_fundamentals_are_equally_spaced_in_pitch():
    hz = fundamental_frequencies(GRID)
    assert hz[0] == pytest.approx(32.7032, abs=1e-4)
    assert hz[127] == pytest.approx(1280.975, abs=1e-3)
    np.testing.assert_allclose(hz[1:] / hz[:-1], 2 ** (1 / 24))


@pytest.mark.parametrize(
    ("quality", "grid"),
    [
        (1.0, GRID),
        (2.1386, GRID),
        (1.9, HarmonicGrid(n_fft=256, hop_length=128)),
        (0.7, HarmonicGrid(num_harmonics=3, semitone_scale=1, sample_rate=22050, n_fft=1024)),
    ],
)
def test_filter_bank_equals_two_slopes(quality, grid):
    bank = make_bank(quality, grid)
    assert bank.shape == (grid.num_freqs, grid.num_bands, grid.num_harmonics)
    assert bank.dtype == jnp.float32
    np.testing.assert_allclose(bank, reference_bank(quality, grid), atol=2e-5)


@pytest.mark.parametrize(("quality", "num_empty"), [(1.0, 1), (1.9, 68), (2.14, 88)])
def test_number_of_empty_filters(quality, num_empty):
    bank = np.asarray(make_bank(quality))
    assert int((bank.max(axis=0) == 0).sum()) == num_empty


def test_a_tone_is_seen_in_its_band_at_every_harmonic():
    # 261.6 Hz is band 72: as fundamental there, as second harmonic one octave (24 bands) lower.
    time = np.arange(8000) / 16000
    audio = np.sin(2 * np.pi * 440 * 2 ** (-9 / 12) * time)[None].astype(np.float32)
    level = np.asarray(harmonic_spectrogram(audio, make_bank(1.0), GRID)[0, 15])
    for n in (1, 2, 4):
        loudest = level[:, n - 1] >= level[:, n - 1].max() - 1.5
        assert loudest[72 - round(24 * np.log2(n))]
    assert level.min() >= -100


def test_parity_with_published_arrays():
    stored = load_arrays("synthetic_sota_hcnn")
    centres = harmonic_centers(fundamental_frequencies(GRID), 6)
    np.testing.assert_allclose(centres.T.reshape(-1), stored["f0"], rtol=1e-6)
    bank = make_bank(1.9)
    harmonic_major = bank.transpose(0, 2, 1).reshape(257, -1)
    np.testing.assert_allclose(harmonic_major[:, ::16], stored["filterbank_Q1p9"], atol=5e-5)
    clip = load_clip()
    audio = np.stack([clip[s : s + 80000] for s in (100000, 140000)])
    level = harmonic_spectrogram(audio, bank, GRID)
    expected = stored["hstft_frames_100_116"].transpose(0, 3, 2, 1)
    difference = np.abs(np.asarray(level[:, 100:116]) - expected)
    assert difference[expected > -60].max() < 0.02
    assert difference[expected == -100].max() == 0


def test_guard_changes_nothing_from_a_tenth_up_and_stays_positive():
    kept = jnp.array([0.1, 0.5, 1.9, 2.1386, 50.0])
    assert bool((bound_quality(kept) == kept).all())
    bent = bound_quality(jnp.linspace(-1e4, 0.1, 1001))
    assert bool((bent >= 0.05).all())
    assert bool((jnp.diff(bent) >= 0).all())
    slope = jax.vmap(jax.grad(bound_quality))(jnp.array([0.0999, 0.1, 0.1001, -0.05, 1e6]))
    assert bool(jnp.isfinite(slope).all())
    np.testing.assert_allclose(slope[:3], 1, atol=5e-3)
    assert slope[3] > 0


def test_filter_matrix_is_applied_in_full_precision():
    with jax.default_matmul_precision("bfloat16"):
        text = str(
            jax.make_jaxpr(lambda p: harmonic_levels(p, make_bank(1.0)))(np.ones((1, 2, 257)))
        )
    assert "HIGHEST" in text


def apply_filters(params: dict, audio: np.ndarray, mode: str = "only_Q") -> jax.Array:
    return HarmonicFilters(mode=mode).apply({"params": params}, audio)


@pytest.mark.parametrize("quality", [1e3, 2.1386, 1.9, 1.0, 0.1, 0.0, -3.0])
def test_gradients_are_finite_at_any_quality(quality):
    audio = make_audio(2048)

    def mean_level(q, audio):
        return apply_filters({"bw_Q": q}, audio).mean()

    value, (of_quality, of_audio) = jax.value_and_grad(mean_level, argnums=(0, 1))(
        jnp.array([quality]), audio
    )
    assert np.isfinite(value)
    assert bool(jnp.isfinite(of_quality).all())
    assert bool(jnp.isfinite(of_audio).all())
    assert float(jnp.abs(of_quality)[0]) < 100


def test_gradient_equals_finite_differences():
    audio = make_audio(2048)
    widths = np.asarray(make_bank(1.3).sum(axis=0))
    heard = jnp.asarray(widths > 0.1)[None, None]

    @jax.jit
    def mean_level(quality):
        level = apply_filters({"bw_Q": quality[None]}, audio)
        return jnp.where(heard, level, 0.0).mean()

    step = 1e-2
    numeric = (mean_level(jnp.float32(1.3 + step)) - mean_level(jnp.float32(1.3 - step))) / 0.02
    assert float(jax.grad(mean_level)(jnp.float32(1.3))) == pytest.approx(float(numeric), rel=0.02)


def test_a_filter_about_to_vanish_has_no_gradient_but_its_exact_level():
    grid = HarmonicGrid(num_harmonics=1)
    power = jnp.ones((1, 1, grid.num_freqs))

    def level(width, centre=1010.0):  # the nearest FFT bin is at 1000 Hz
        bank = harmonic_filter_bank(jnp.full((1, 1), centre), jnp.full((1, 1), width), grid)
        return harmonic_levels(power, bank)[0, 0, 0, 0]

    nearly_empty, wide = 20.0 / (1 - 1e-3), 20.0 / (1 - 0.5)
    assert float(level(nearly_empty)) == pytest.approx(-30, abs=0.02)
    assert float(jax.grad(level)(nearly_empty)) == 0
    assert float(level(wide)) == pytest.approx(10 * np.log10(0.5), abs=1e-3)
    # d/dw 10 log10(1 - 20 / w) at w = 40
    assert float(jax.grad(level)(wide)) == pytest.approx(4.3429 / 0.5 * 20 / 40**2, rel=1e-4)
    assert float(level(10.0)) == -100
    assert float(jax.grad(level)(10.0)) == 0


def test_modes_have_the_parameters_they_learn():
    audio = jax.ShapeDtypeStruct((1, 2048), jnp.float32)

    def shapes(mode):
        init = HarmonicFilters(mode=mode).init
        variables = jax.eval_shape(init, jax.random.key(0), audio)
        return {k: v.shape for k, v in variables.get("params", {}).items()}

    assert shapes("fixed") == {}
    assert shapes("only_Q") == {"bw_Q": (1,)}
    assert shapes("full") == {
        "bw_Q": (1,),
        "band_shift": (1,),
        "band_steps": (127,),
        "log_alpha": (1,),
        "log_beta": (1,),
    }


def test_a_step_moves_every_band_by_equal_cents_in_direct_mode():
    def cents_moved(mode: str) -> np.ndarray:
        filters = HarmonicFilters(mode=mode)
        audio = jax.ShapeDtypeStruct((1, 2048), jnp.float32)
        shapes = jax.eval_shape(filters.init, jax.random.key(0), audio)["params"]
        steps = {name: jnp.full(leaf.shape, 3e-3) for name, leaf in shapes.items()}
        moved = filters.apply({"params": steps}, method="shapes").centres
        grid = harmonic_centers(fundamental_frequencies(GRID), 6)
        return 1200 * np.log2(np.asarray(moved) / np.asarray(grid))

    np.testing.assert_allclose(cents_moved("direct"), 1200 * 3e-3, atol=0.02)
    shift = 1200 * 3e-3  # of `band_shift`, in octaves; the top adds the steps of all bands below
    of_steps = cents_moved("full")[:, 0] - shift
    np.testing.assert_allclose(of_steps, np.arange(128) * 50 * np.expm1(3e-3), atol=0.02)


def test_direct_mode_keeps_its_numbers_positive_however_far_they_are_pushed():
    direct = HarmonicFilters(mode="direct", num_harmonics=2, initial_quality=1.9)
    audio = make_audio(2048)
    variables = direct.init(jax.random.key(0), audio)
    pushed = jax.tree.map(lambda leaf: leaf - 9.0, variables)
    found = direct.apply(pushed, method="shapes")
    assert all(bool((value > 0).all()) for value in found)
    assert bool(jnp.isfinite(direct.apply(pushed, audio)).all())
    found = direct.apply(jax.tree.map(lambda leaf: leaf + 0.5, variables), method="shapes")
    np.testing.assert_allclose(found.quality, [1.9 * np.exp(0.5)], rtol=1e-6)


@pytest.mark.parametrize("mode", ["full", "direct"])
def test_learned_centers_start_at_the_published_filters(mode):
    audio = make_audio(2048)
    full = HarmonicFilters(mode=mode, initial_quality=1.9)
    variables = full.init(jax.random.key(0), audio)
    bank = full.apply(variables, method="filter_bank")
    np.testing.assert_allclose(bank, make_bank(1.9), atol=1e-5)
    fixed = HarmonicFilters(mode="fixed", initial_quality=1.9).apply({}, audio)
    np.testing.assert_allclose(full.apply(variables, audio), fixed, atol=1e-2)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_full_mode_stays_positive_ordered_and_harmonic(seed):
    full = HarmonicFilters(mode="full", num_harmonics=4)
    shapes = jax.eval_shape(full.init, jax.random.key(0), np.zeros((1, 2048), np.float32))
    random = np.random.default_rng(seed)
    params = {
        name: jnp.asarray(2 * random.standard_normal(leaf.shape), jnp.float32)
        for name, leaf in shapes["params"].items()
    }
    found = full.apply({"params": params}, method="shapes")
    centres = np.asarray(found.centres)
    assert (centres > 0).all()
    assert (np.diff(centres, axis=0) >= 0).all()
    np.testing.assert_allclose(centres, centres[:, :1] * np.arange(1, 5), rtol=1e-6)
    assert (np.asarray(found.bandwidths) > 0).all()
    assert float(found.quality[0]) > 0
    level = full.apply({"params": params}, make_audio(2048))
    assert bool(jnp.isfinite(level).all())


@pytest.mark.parametrize(("mode", "bands"), [("full", "band_steps"), ("direct", "band_octaves")])
def test_learned_centers_learn_every_parameter(mode, bands):
    audio = make_audio(4096)
    full = HarmonicFilters(mode=mode)
    params = full.init(jax.random.key(0), audio)["params"]
    weights = np.random.default_rng(0).standard_normal((1, 1, 128, 6)).astype(np.float32)
    gradient = jax.grad(lambda p: (full.apply({"params": p}, audio) * weights).mean())(params)
    for name, value in gradient.items():
        assert bool(jnp.isfinite(value).all()), name
        assert bool((value != 0).any()), name
    assert int((gradient[bands] != 0).sum()) > 120


def test_filters_fit_before_another_back_end():
    class HarmonicResNet(ShortChunkResNet):
        def setup(self):
            super().setup()
            self.hstft = HarmonicFilters(num_harmonics=3, semitone_scale=1)

        def features(self, inputs, *, train):
            return self.hstft(inputs)

    model = HarmonicResNet(num_classes=4, n_channels=4)
    audio = jax.ShapeDtypeStruct((2, 8000), jnp.float32)
    output, variables = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, train=False), audio
    )
    assert output.logits.shape == (2, 4)
    assert variables["params"]["layer1"]["conv_1"]["kernel"].shape == (3, 3, 3, 4)
    assert variables["params"]["hstft"]["bw_Q"].shape == (1,)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"num_harmonics": 0}, "1 to 10 harmonics"),
        ({"num_harmonics": 11}, "1 to 10 harmonics"),
        ({"semitone_scale": 0}, "semitone_scale is 0"),
        ({"n_fft": 513}, "even FFT size"),
        ({"sample_rate": 300}, "no room for 6 harmonics"),
    ],
)
def test_impossible_grids_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        HarmonicGrid(**settings)


def test_unknown_mode_is_refused():
    with pytest.raises(ValueError, match=r"no mode 'fix'.*only_Q, fixed, full"):
        HarmonicFilters(mode="fix").init(jax.random.key(0), np.zeros((1, 2048), np.float32))
