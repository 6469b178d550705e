"""Exported taggers: one line opens them, and what does not fit is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compact_models import QUICK

import musrep_jax
from musrep_jax.data.specs import DatasetSpec
from musrep_jax.inference.layout import find_hub_name
from musrep_jax.inference.tagger import AudioInputError, cut, make_card
from musrep_jax.models import create_model
from musrep_jax.tasks.binding import make_init
from musrep_jax.training.checkpoints import ExportError, save_export
from musrep_jax.types import Chunking

RATE = 16000
LABELS = ("ney", "oud", "Uşşak")


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """An exported model with random parameters."""
    model = create_model("short_chunk_resnet", len(LABELS), {"n_channels": 4, "num_samples": 16384})
    variables = make_init(model)(jax.random.key(0), jnp.zeros((1, 16384)))
    spec = DatasetSpec(
        name="made_up",
        label_names=LABELS,
        sample_rate=RATE,
        stored_form="pcm16",
        split_sizes={"train": 3},
        licence="CC0-1.0",
        citation="none",
        description="made up for a test",
    )
    card = make_card(
        model, name="short_chunk_resnet", data=spec, training={}, metrics={}, versions={}
    )
    return save_export(tmp_path_factory.mktemp("export") / "tagger", variables, card)


@pytest.fixture(scope="module")
def tagger(export):
    return musrep_jax.load_tagger(export)


def tone(seconds: float, rate: int = RATE, frequency: float = 440.0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def test_predicts_every_label_in_order_and_repeats_bit_for_bit(tagger):
    audio = tone(3.3)
    first, second = tagger.predict(audio, RATE), tagger.predict(audio, RATE)
    assert tuple(first) == LABELS == tagger.labels
    assert first == second
    assert all(0 < p < 1 for p in first.values())
    assert np.array_equal(tagger.embed(audio, RATE), tagger.embed(audio, RATE))


def test_a_tagger_prints_as_one_line(tagger):
    told = repr(tagger)
    assert told.startswith(f"<LoadedTagger: {tagger.card['model']['name']}, ")
    assert (
        f"{len(tagger.labels)} labels, {tagger.num_samples} samples at " in told and len(told) < 100
    )


def test_chunks_equal_the_model_called_by_hand(tagger):
    audio = tone(2.5)
    times, probabilities = tagger.predict_over_time(audio, RATE)
    size = tagger.model.num_samples
    starts = [0, size, len(audio) - size]
    assert np.allclose(times, [[s / RATE, (s + size) / RATE] for s in starts])
    chunks = np.stack([audio[s : s + size] for s in starts]).astype(np.float32)
    apply = jax.jit(tagger.model.apply, static_argnames="train", compiler_options=QUICK)
    logits = apply(tagger.variables, chunks, train=False).logits
    assert np.allclose(probabilities, jax.nn.sigmoid(logits), atol=1e-5)
    assert np.allclose(
        list(tagger.predict(audio, RATE).values()), probabilities.mean(axis=0), atol=1e-6
    )


def test_another_sample_rate_is_resampled(tagger):
    same = tagger.predict(tone(2.0), RATE)
    other = tagger.predict(tone(2.0, 44100), 44100)
    assert np.allclose(list(same.values()), list(other.values()), atol=0.02)


def test_short_recordings_are_padded_and_their_times_end_where_they_end(tagger):
    times, probabilities = tagger.predict_over_time(tone(0.4), RATE)
    assert times.tolist() == [[0.0, 0.4]]
    assert probabilities.shape == (1, 3)


@pytest.mark.parametrize(
    ("audio", "sentence"),
    [
        (np.zeros((100, 2), np.float32), "takes mono"),
        (np.zeros(0, np.float32), "empty"),
        (np.zeros(100, np.int16), "divide"),
        (np.array([0.0, np.nan, 0.0], np.float32), "not finite, the first at 0.000 s"),
    ],
)
def test_what_is_not_audio_gets_one_sentence(tagger, audio, sentence):
    with pytest.raises(AudioInputError, match=sentence):
        tagger.predict(audio, RATE)


def test_silence_is_not_judged(tagger):
    size, own = tagger.model.num_samples, dict(tagger.card["front_end"])
    noise = 5e-5 * np.random.default_rng(0).uniform(-1, 1, 2 * size).astype(np.float32)
    for silence in (np.zeros(2 * size, np.float32), noise, noise[:100], 0.3 + noise):
        for method in (tagger.predict, tagger.embed):
            for rate in (RATE, 44100):
                with pytest.raises(AudioInputError, match="cannot be judged: it is silent"):
                    method(silence, rate)
    frames = np.full((1 + size // own["hop_length"], own["n_mels"]), -100.0, np.float32)
    with pytest.raises(AudioInputError, match="cannot be judged: it is silent"):
        tagger.predict_log_mel(frames, own)
    times, probabilities = tagger.predict_over_time(np.concatenate([noise, tone(1.0)]), RATE)
    is_judged = np.isfinite(probabilities).all(axis=1)
    assert is_judged.tolist() == (times[:, 1] > 2 * size / RATE).tolist()
    assert is_judged.any() and np.isnan(probabilities[~is_judged]).all()


def test_a_folder_is_no_model_of_the_hub(export, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hub:somebody").mkdir()
    (tmp_path / "hub:somebody" / "model").symlink_to(export, target_is_directory=True)
    assert musrep_jax.load_tagger("hub:somebody/model").labels == LABELS
    assert find_hub_name("hub:somebody/model") is None
    assert find_hub_name("hub:somebody/else@v1") == "somebody/else@v1"


def test_a_spectrogram_of_another_front_end_is_refused(tagger):
    own = dict(tagger.card["front_end"])
    frames = 1 + tagger.model.num_samples // own["hop_length"]
    log_mel = np.full((frames, own["n_mels"]), -40.0, np.float32)
    assert set(tagger.predict_log_mel(log_mel, own)) == set(LABELS)
    with pytest.raises(AudioInputError, match="mel_scale slaney instead of htk"):
        tagger.predict_log_mel(log_mel, own | {"mel_scale": "slaney"})
    with pytest.raises(AudioInputError, match="expected finite values"):
        tagger.predict_log_mel(log_mel[:, :-1], own)


def test_an_edited_front_end_is_refused(export, tmp_path):
    from musrep_jax.training.checkpoints import load_export

    variables, card = load_export(export)
    edited = json.loads(json.dumps(card))
    edited["front_end"]["hop_length"] = 160
    path = save_export(tmp_path / "edited", variables, edited)
    with pytest.raises(ExportError, match="front end"):
        musrep_jax.load_tagger(path)


def test_a_flipped_bit_is_found(export, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(export, copy)
    largest = max((p for p in copy.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(bytes(content))
    with pytest.raises(ExportError, match=largest.name):
        musrep_jax.load_tagger(copy)


def test_cut_covers_everything_once_but_the_last_overlap():
    chunks, spans = cut(np.arange(10.0), Chunking(4), 0.0)
    assert spans.tolist() == [[0, 4], [4, 8], [6, 10]]
    assert chunks[-1].tolist() == [6, 7, 8, 9]
    chunks, spans = cut(np.arange(8.0), Chunking(4), 0.0)
    assert spans.tolist() == [[0, 4], [4, 8]]
    chunks, spans = cut(np.ones(3), Chunking(4), -100.0)
    assert chunks.tolist() == [[1, 1, 1, -100]]
    assert spans.tolist() == [[0, 3]]
