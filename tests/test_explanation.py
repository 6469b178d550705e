"""Maps of what a tagger's answer rests on: their values, their time axis, the command."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from compact_models import COMPACT, QUICK, draw_variables
from toy_exports import LABELS, card_of, make_export
from typer.testing import CliRunner

from musrep_jax.cli import app
from musrep_jax.dsp.spectrogram import LogMel, mel_filter_bank, to_hertz
from musrep_jax.inference import input_maps
from musrep_jax.inference.chunks import AudioInputError
from musrep_jax.inference.explanation import (
    Explanation,
    ExplanationError,
    compute_spectrogram,
    join_columns,
    join_halves,
)
from musrep_jax.inference.faithfulness import measure_faithfulness, rank_parts
from musrep_jax.inference.tagger import LoadedTagger
from musrep_jax.models import create_model
from musrep_jax.models.attention_maps import attention_maps, tag_contributions

TAGS = ("oud", "drums")


def open_compact(name):
    model = create_model(name, len(LABELS), COMPACT[name])
    return LoadedTagger(model=model, variables=draw_variables(model), card=card_of(model, name))


@pytest.fixture(scope="module")
def transformer():
    return open_compact("tagging_transformer")


@pytest.fixture(scope="module")
def patches():
    return open_compact("spectrogram_transformer")


def make_audio(num_samples, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(num_samples).astype(np.float32)


def test_attention_of_a_recording_is_that_of_its_chunks(transformer):
    num_samples, rate = transformer.num_samples, transformer.sample_rate
    audio = make_audio(2 * num_samples)
    found = transformer.attention(audio, rate)
    maps = jax.jit(lambda v, x: attention_maps(transformer.model, v, x), compiler_options=QUICK)(
        transformer.variables, audio.reshape(2, -1)
    )
    tokens = np.concatenate(maps["attention_map"][:, 1:])
    assert found.names == ("all heads", "head 1", "head 2", "first block")
    step, length = transformer.model.token_step, num_samples / rate
    # A chunk's last token ends before its frames do: no more tokens than frames fill.
    assert found.values.shape[1] == len(tokens)
    np.testing.assert_allclose(found.values[0], tokens, rtol=1e-4)
    np.testing.assert_allclose(found.special[0], maps["attention_map"][:, 0], rtol=1e-4)
    np.testing.assert_allclose(found.values[1:3].sum(axis=0), found.values[0], rtol=1e-4)
    half_hop = transformer.model.hop_length / 2
    np.testing.assert_allclose(
        found.spans[1], [step - half_hop, 2 * step - half_hop] / np.array(rate)
    )
    np.testing.assert_allclose(found.spans[len(tokens) // 2, 0], length)
    assert (found.spans[1:, 0] >= found.spans[:-1, 1] - 1e-9).all()


@pytest.mark.slow
def test_a_padded_tail_is_left_out(transformer):
    rate, num_samples = transformer.sample_rate, transformer.num_samples
    short = make_audio(num_samples // 2)
    found = transformer.contributions(short, rate, TAGS)
    assert found.spans[-1, 1] == pytest.approx(len(short) / rate)
    whole = transformer.contributions(np.pad(short, (0, num_samples - len(short))), rate, TAGS)
    np.testing.assert_allclose(found.values, whole.values[:, : found.values.shape[1]], rtol=1e-5)


def test_an_end_that_overlaps_is_there_once(transformer):
    rate, num_samples = transformer.sample_rate, transformer.num_samples
    found = transformer.attention(make_audio(int(1.5 * num_samples)), rate)
    assert (found.spans[1:, 0] >= found.spans[:-1, 1] - 1e-9).all()
    assert found.spans[-1, 1] <= 1.5 * num_samples / rate + 1e-9


def test_patches_lie_in_time_and_frequency(patches):
    """The loudest patch is found where a burst is, also against what the model itself says."""
    model, rate = patches.model, patches.sample_rate
    audio = make_audio(patches.num_samples)
    found = patches.contributions(audio, rate, TAGS)
    rows, columns = model.patch_grid(model.log_mel.num_frames(model.num_samples))
    assert found.values.shape == (2, rows, columns)
    expected = jax.jit(lambda v, x: tag_contributions(model, v, x), compiler_options=QUICK)(
        patches.variables, audio[None]
    )[0]
    order = [LABELS.index(tag) for tag in TAGS]
    grid = expected[:, model.num_special :].reshape(-1, rows, columns)
    np.testing.assert_allclose(found.values, grid[jnp.array(order)], atol=1e-5)
    # The middle of the first patch: frame and band 7.5 of 16.
    middle = found.spans[0].mean() * rate / model.hop_length
    assert middle == pytest.approx((model.patch_size - 1) / 2)
    assert found.hertz.shape == (rows + 1,)
    band = to_hertz(model.log_mel, np.array([(model.patch_size - 1 - model.patch_stride) / 2]))
    assert found.hertz[0] == pytest.approx(band[0])


@pytest.mark.slow
def test_contributions_of_patches_equal_replaced_attention(patches):
    model, audio = patches.model, make_audio(patches.num_samples)[None]
    found = jax.jit(lambda v, x: tag_contributions(model, v, x), compiler_options=QUICK)(
        patches.variables, audio
    )
    num_tokens = found.shape[2]

    @jax.jit
    def logits(variables, override):
        features = model.apply(variables, audio, train=False, method="features")
        overrides = {model.num_blocks - 1: override}
        embedding, _ = model.apply(
            variables, features, train=False, overrides=overrides, method="embed"
        )
        return model.apply(variables, embedding, train=False, method="classify")

    for position in (0, 1, 2, num_tokens - 1):
        override = jnp.zeros((1, 1, num_tokens, num_tokens)).at[..., position].set(1.0)
        expected = jax.nn.sigmoid(logits(patches.variables, override))
        np.testing.assert_allclose(found[:, :, position], expected, atol=1e-5)


def test_bands_lie_where_the_filter_bank_has_its_peaks():
    settings = LogMel(n_fft=8192, n_mels=20)
    peaks = mel_filter_bank(settings).argmax(axis=0) * settings.sample_rate / settings.n_fft
    np.testing.assert_allclose(to_hertz(settings, np.arange(20)), peaks, atol=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tagging_transformer", "sample_cnn"])
def test_gradients_sum_to_the_difference_of_logits(name, monkeypatch):
    monkeypatch.setattr(input_maps, "MOST_STEPS", 32)
    tagger = open_compact(name)
    audio = make_audio(tagger.num_samples)
    found = tagger.gradients(audio, tagger.sample_rate, TAGS)
    quiet = 1e-5 * audio
    ((heard, _),) = tagger.run_chunks([audio])
    if name == "sample_cnn":
        ((silent, _),) = tagger.run_chunks([quiet])
    else:
        frames = tagger.model.log_mel.num_frames(tagger.num_samples)
        level = np.full((frames, tagger.model.n_mels), -100.0, np.float32)
        ((silent, _),) = tagger.run_chunks([level])
    columns = [LABELS.index(tag) for tag in TAGS]
    wanted = (heard - silent)[columns]
    sums = found.over_time().sum(axis=1)
    np.testing.assert_allclose(sums, wanted, atol=0.1 * max(0.5, np.abs(wanted).max()))
    np.testing.assert_allclose(found.error, np.abs(sums - wanted), atol=1e-3)


def test_occlusion_is_what_the_logit_loses(transformer):
    rate, num_samples = transformer.sample_rate, transformer.num_samples
    audio = make_audio(num_samples)
    found = transformer.occlusion(audio, rate, TAGS, seconds=num_samples / rate / 4)
    assert found.values.shape == (2, 4)
    ((whole, _),) = transformer.run_chunks([audio])
    hidden = audio.copy()
    start, end = (round(t * rate) for t in found.spans[1])
    hidden[start:end] = 0
    fade = round(0.01 * rate)
    ramp = (np.arange(1, fade + 1) / fade)[:fade]
    hidden[end : end + fade] *= ramp[: len(hidden[end : end + fade])]
    hidden[start - fade : start] *= ramp[::-1]
    ((left, _),) = transformer.run_chunks([hidden])
    columns = [LABELS.index(tag) for tag in TAGS]
    np.testing.assert_allclose(found.values[:, 1], (whole - left)[columns], atol=2e-3)


def test_halves_are_joined_in_the_middle(transformer):
    num_samples, rate = transformer.num_samples, transformer.sample_rate
    first, second = np.full(num_samples, 0.1), np.full(num_samples // 4, 0.2)
    joined = join_halves((first, rate), (second, rate), transformer)
    half = num_samples // 2
    assert len(joined) == num_samples
    np.testing.assert_allclose(joined[:half], 0.1, rtol=1e-6)
    np.testing.assert_allclose(joined[half : half + len(second)], 0.2, rtol=1e-6)
    assert not joined[half + len(second) :].any()


def test_columns_of_chunks_side_by_side():
    maps = [np.arange(4.0)[None], 10 + np.arange(4.0)[None]]
    starts, own = np.array([0, 6]), np.array([[0, 8], [8, 14]])
    spans, values = join_columns(maps, starts, own, -1.0, 2.0, 2)
    np.testing.assert_allclose(values[0], [0, 1, 2, 3, 11, 12, 13])
    np.testing.assert_allclose(spans[:2], [[0, 0.5], [0.5, 1.5]])
    np.testing.assert_allclose(spans[4], [4.0, 4.5])


def test_what_is_asked_of_the_wrong_model():
    tagger = open_compact("sample_cnn")
    audio, rate = make_audio(tagger.num_samples), tagger.sample_rate
    with pytest.raises(ExplanationError, match=r"sample_cnn has no class token.*occlusion"):
        tagger.attention(audio, rate)
    with pytest.raises(ExplanationError, match=r"no label 'oudd'. Did you mean 'oud'"):
        tagger.occlusion(audio, rate, ["oudd"])
    with pytest.raises(AudioInputError, match="silent"):
        tagger.occlusion(0 * audio, rate, TAGS)


def make_map(values, method="occlusion", seconds=2.0):
    edges = np.linspace(0, seconds, len(values) + 1)
    spans = np.stack([edges[:-1], edges[1:]], axis=1)
    return Explanation(method, ("oud",), spans, np.array([values]), np.array([[0, seconds]]))


def test_parts_are_ranked_by_the_map():
    assert rank_parts(make_map([0.1, 0.9, 0.4, 0.2]), 2.0, 4).tolist() == [1, 2, 3, 0]
    # Columns that a part shares: what sums is shared out, other values are averaged.
    assert rank_parts(make_map([1.0, 3.0], "gradients"), 2.0, 4).tolist() == [2, 3, 0, 1]
    assert rank_parts(make_map([1.0, 3.0]), 4.0, 4).tolist() == [1, 0, 2, 3]


def test_curves_follow_the_order_of_the_map(transformer):
    """Each point is the probability of the recording with these very parts silenced."""
    audio, rate = make_audio(transformer.num_samples), transformer.sample_rate
    seconds, part = transformer.num_samples / rate, -(-transformer.num_samples // 4)

    def explain(chunk, rate, tags):
        np.testing.assert_array_equal(chunk, audio)
        return make_map([0.2, 0.9, -0.4, 0.5], seconds=seconds)

    found = measure_faithfulness(transformer, audio, rate, explain, num_parts=4, num_random=3)
    scores = transformer.predict(audio, rate)
    assert found.tag == max(scores, key=scores.get)
    other = measure_faithfulness(
        transformer, audio, rate, explain, tags=["oud"], num_parts=4, num_random=3
    )
    assert other.tag == "oud"
    assert other.deletion[0] == pytest.approx(scores["oud"], abs=1e-5)
    hidden, left = audio.copy(), np.zeros_like(audio)
    expected = [[scores[found.tag]], []]
    for number in (1, 3, 0, 2):
        one = slice(number * part, (number + 1) * part)
        hidden[one], left[one] = 0, audio[one]
        if number != 2:  # then all is silent, which is not judged
            expected[0].append(transformer.predict(hidden, rate)[found.tag])
        expected[1].append(transformer.predict(left, rate)[found.tag])
    np.testing.assert_allclose(found.deletion[:-1], expected[0], atol=1e-5)
    np.testing.assert_allclose(found.insertion[1:], expected[1], atol=1e-5)
    assert found.deletion[-1] == pytest.approx(found.insertion[0], abs=1e-6)
    assert found.random_deletion.shape == (3, 5)
    np.testing.assert_allclose(found.random_deletion[:, 0], found.deletion[0], atol=1e-6)
    np.testing.assert_allclose(found.random_insertion[:, -1], found.deletion[0], atol=1e-6)
    gain = found.random_deletion.mean() - found.deletion.mean()
    assert found.deletion_gain == pytest.approx(gain)


def test_spectrogram_of_the_picture(transformer):
    rate = transformer.sample_rate
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    level, hertz, edges = compute_spectrogram(transformer, tone, rate)
    band = level.mean(axis=1).argmax()
    assert hertz[band] < 1000 < hertz[band + 1]
    assert edges[0] == 0
    assert edges[-1] == pytest.approx(1.0, abs=0.02)


@pytest.mark.programs
def test_command(tmp_path):
    """Text, JSON, picture and page of one recording and of two; wrong words in one sentence."""
    export = make_export(tmp_path, "tagging_transformer", LABELS)
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, make_audio(16000, seed=len(name)), 16000)
    words = ["explain", str(export), str(tmp_path / "a.wav"), "--tags", "oud,ney"]
    run = CliRunner()
    found = run.invoke(app, [*words, "--json"])
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert [one["method"] for one in told["maps"]] == ["attention", "contribution"]
    assert told["maps"][1]["names"] == ["oud", "ney"]
    joined = [*words[:3], str(tmp_path / "b.wav"), *words[3:], "--method", "contribution"]
    files = ["--png", str(tmp_path / "m.png"), "--html", str(tmp_path / "m.html")]
    found = run.invoke(app, [*joined, *files])
    assert found.exit_code == 0, found.output
    assert "oud" in found.stdout
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "m.html").read_text()
    assert '"joint":' in page
    assert "data:audio/" in page
    for extra, message in (
        (["--method", "atention"], "no method 'atention'"),
        (["--tags", "zurna"], "no label 'zurna'"),
        (["--start", "5"], "ends before 5 s"),
    ):
        found = run.invoke(app, [*words, *extra])
        assert found.exit_code == 2, found.output
        assert message in " ".join(found.output.split())
