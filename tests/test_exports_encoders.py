"""Exports of models without labels: written, opened, embedded with, and refused where they must."""

import json

import jax
import jax.export
import numpy as np
import onnxruntime
import pytest
import soundfile
from compact_models import draw_variables
from toy_encoder import TEXTS

import musrep_jax
from musrep_jax.cli import app
from musrep_jax.data.specs import DatasetSpec
from musrep_jax.exports.cards import format_model_readme
from musrep_jax.inference.encoder import InputKindError, LoadedEncoder
from musrep_jax.inference.tagger import BackboneError, LoadedTagger, make_card
from musrep_jax.models import create_encoder, create_model
from musrep_jax.store import Store
from musrep_jax.training.checkpoints import ExportError, save_export

pytestmark = pytest.mark.usefixtures("toy_encoders")

SPEC = DatasetSpec(
    name="made_up/captions",
    label_names=(),
    sample_rate=16000,
    stored_form="pcm16",
    split_sizes={"train": 31},
    licence="CC0-1.0",
    citation="@misc{made_up}",
    description="Made up for a test.",
)


def export_toy(folder, name, **changes):
    """Writes a toy with random parameters as a task would; returns its folder and variables."""
    model = create_encoder(name)
    card = make_card(model, name=name, data=SPEC, training={}, metrics={},
                     versions={"packages": {"musrep_jax": "9.1"}}) | changes  # fmt: skip
    variables = draw_variables(model)
    readme = "" if changes else format_model_readme(card)
    return save_export(folder / name, variables, card, readme), variables


def run(*words):
    with pytest.raises(SystemExit) as ended:
        app([str(word) for word in words], prog_name="musrep")
    return int(ended.value.code or 0)


def test_a_text_encoder_is_exported_and_opened(tmp_path):
    path, variables = export_toy(tmp_path, "toy_text")
    encoder = musrep_jax.load_encoder(path)
    table = np.asarray(variables["params"]["table"])
    found = encoder.embed_tokens(TEXTS)
    expected = [table[[3, 1, 4, 1]].mean(axis=0), table[[5, 9, 2, 6, 5, 3]].mean(axis=0)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(encoder.embed_tokens(TEXTS[:1, :4]), found[:1])  # padded here
    assert (encoder.labels, encoder.has_head, encoder.width) == ((), False, 4)
    assert not isinstance(encoder, LoadedTagger)
    card = json.loads((path / "tagger.json").read_text())
    assert (card["card_format"], card["reads"], card["input_shape"]) == (2, "tokens", [6])
    assert (card["labels"], card["sample_rate"], card["num_samples"]) == ([], None, None)


def test_what_does_not_fit_an_encoder_is_refused(tmp_path):
    path, _ = export_toy(tmp_path, "toy_text")
    encoder = musrep_jax.load_encoder(path)
    with pytest.raises(InputKindError, match="reads texts, as token ids, and was given recordings"):
        encoder.embed(np.zeros(100, np.float32), 16000)
    with pytest.raises(InputKindError, match=r"shape \(1, 7\) .* at most 6 tokens"):
        encoder.embed_tokens(np.zeros((1, 7), int))
    with pytest.raises(InputKindError, match="type float64"):
        encoder.embed_tokens(np.zeros((1, 6)))
    with pytest.raises(
        BackboneError, match=r"has no labels: open it with musrep_jax\.load_encoder"
    ):
        musrep_jax.load_tagger(path)
    audio = musrep_jax.load_encoder(export_toy(tmp_path, "toy_audio")[0])
    with pytest.raises(InputKindError, match="reads recordings, and was given texts"):
        audio.embed_tokens(TEXTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"card_format": 3}, "card format 3 of musrep_jax 9.1; this version .* reads 1 and 2"),
        ({"reads": "audio"}, "says that the model reads audio, and the model 'toy_text' .* tokens"),
        ({"labels": ["oud"]}, "lists labels, and its model 'toy_text' is an encoder"),
    ],
)
def test_cards_that_do_not_hold(tmp_path, changes, message):
    path, _ = export_toy(tmp_path, "toy_text", **changes)
    with pytest.raises(ExportError, match=message):
        musrep_jax.load_encoder(path)


def test_cards_of_taggers_are_readable_by_earlier_versions(tmp_path):
    settings = {"n_channels": 3}
    model = create_model("sample_cnn", 0, settings)
    card = make_card(model, name="sample_cnn", data=SPEC, training={}, metrics={}, versions={})
    assert card["card_format"] == 1
    assert not {"reads", "input_shape"} & card.keys()
    variables = draw_variables(create_model("sample_cnn", 1, settings))
    del variables["params"]["head"]
    path = save_export(tmp_path / "a", variables, card)
    backbone = musrep_jax.load_tagger(path)
    assert type(musrep_jax.load_encoder(path)) is LoadedTagger
    tone = np.sin(np.arange(59049) / 7).astype(np.float32)
    embedding = model.apply(variables, tone[None], train=False, method=_embed_method)
    np.testing.assert_allclose(backbone.embed(tone, 16000), embedding[0], atol=1e-5)


def _embed_method(model, inputs, *, train):
    return model.embed(model.features(inputs, train=train), train=train)[0]


@pytest.mark.parametrize("name", ["toy_text", "toy_audio"])
def test_other_forms_of_encoders(tmp_path, capsys, name):
    path, _ = export_toy(tmp_path, name)
    own: LoadedEncoder = musrep_jax.load_encoder(path)
    inputs = TEXTS if name == "toy_text" else 0.1 * np.ones((2, 1600), np.float32)
    expected = np.stack([embedding for _, embedding in own.run_chunks(inputs)])
    assert run("export", path, "--out", tmp_path / "flat") == 0
    flat = musrep_jax.load_encoder(tmp_path / "flat")
    assert flat.fingerprint == own.fingerprint
    found = np.stack([embedding for _, embedding in flat.run_chunks(inputs)])
    np.testing.assert_array_equal(found, expected)
    text = (tmp_path / "flat" / "README.md").read_text()
    assert "musrep_jax.load_encoder(" in text and "pipeline_tag: feature-extraction" in text
    assert ("It reads 6 tokens" in text) == (name == "toy_text")
    assert "music-tagging" not in text
    assert run("export", path, "--format", "stablehlo", "--out", tmp_path / "program") == 0
    program = (tmp_path / "program" / "tagger.stablehlo").read_bytes()
    result = jax.export.deserialize(bytearray(program)).call(inputs)
    assert list(result) == ["embedding"]
    np.testing.assert_allclose(result["embedding"], expected, atol=1e-6)


def test_onnx_runs_an_encoder_of_audio(tmp_path, capsys):
    path, _ = export_toy(tmp_path, "toy_audio")
    assert run("export", path, "--format", "onnx", "--out", tmp_path / "onnx") == 0
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "tagger.onnx")
    chunks = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 1600)).astype(np.float32)
    (embeddings,) = session.run(None, {"waveforms": chunks})
    own = [embedding for _, embedding in musrep_jax.load_encoder(path).run_chunks(chunks)]
    np.testing.assert_allclose(embeddings, own, atol=1e-5)


def test_onnx_refuses_texts(tmp_path, capsys):
    path, _ = export_toy(tmp_path, "toy_text")
    assert run("export", path, "--format", "onnx", "--out", tmp_path / "onnx") == 2
    assert "'toy_text' reads tokens; an ONNX program" in capsys.readouterr().err
    assert not (tmp_path / "onnx").exists()


def test_recordings_are_embedded_by_an_encoder(tmp_path, capsys):
    path, _ = export_toy(tmp_path, "toy_audio")
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 4000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", audio, 16000, subtype="FLOAT")
    assert (
        run("embed", path, tmp_path / "a.wav", "--store", tmp_path / "store", "--workers", 1) == 0
    )
    store = Store(tmp_path / "store")
    assert store.labels == ()
    own = musrep_jax.load_encoder(path).embed(audio, 16000)
    np.testing.assert_allclose(store.embeddings[0], own, atol=1e-6)
    text, _ = export_toy(tmp_path, "toy_text")
    assert run("embed", text, tmp_path / "a.wav", "--store", tmp_path / "other") == 2
    assert "reads texts, as token ids, and was given recordings" in capsys.readouterr().err
