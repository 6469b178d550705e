"""Directories of the Hub become models: both file formats, both spellings, and what is refused."""

import json
import shutil

import hash_weights
import numpy as np
import pytest
import safetensors.numpy
from parity_files import load_arrays, load_manifest
from typer.testing import CliRunner

import musrep_jax
from musrep_jax.cli import app
from musrep_jax.weights.checks import ImportWeightsError
from musrep_jax.weights.files import WeightFileError
from musrep_jax.weights.hub_directory import (
    NO_PREPROCESSOR_NOTE,
    import_hub_directory,
    read_hub_directory,
)
from musrep_jax.weights.importing import import_weights
from musrep_jax.weights.state_dicts import WeightsError

MANIFEST = load_manifest("mert_small_base")
POSITIONS = "encoder.pos_conv_embed.conv."
NEW_NAMES = {
    f"{POSITIONS}weight_g": f"{POSITIONS}parametrizations.weight.original0",
    f"{POSITIONS}weight_v": f"{POSITIONS}parametrizations.weight.original1",
}


def state_dict():
    return hash_weights.hash_state_dict(MANIFEST["keys"])


def write(folder, *, form="safetensors", arrays=None, preprocessor=None, **changed):
    """Writes a directory of the Hub with the weights of `small_base`."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**MANIFEST["config"], **changed}))
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    arrays = state_dict() if arrays is None else arrays
    if form == "safetensors":
        safetensors.numpy.save_file(arrays, folder / "model.safetensors")
    else:
        torch = pytest.importorskip("torch")
        tensors = {key: torch.from_numpy(value) for key, value in arrays.items()}
        torch.save(tensors, folder / "pytorch_model.bin")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("hub") / "mert")


@pytest.mark.parametrize("form", ["safetensors", "torch"])
def test_both_file_formats_and_both_spellings(tmp_path, form):
    arrays = state_dict()
    if form == "torch":  # as newer versions write it, behind the prefix of a fine-tuned model
        arrays = {f"hubert.{NEW_NAMES.get(k, k)}": v for k, v in arrays.items()}
        arrays |= {"hubert.masked_spec_embed": np.zeros(48, np.float32)}
        arrays |= {"lm_head.weight": np.zeros((32, 48), np.float32)}
    path = write(
        tmp_path / "mert",
        form=form,
        arrays=arrays,
        preprocessor={"sampling_rate": 24000, "do_normalize": False},
    )
    model, variables, facts = import_hub_directory(path)
    assert (model.sample_rate, model.num_samples, model.normalizes_input) == (24000, 120000, False)
    assert (model.depth, model.norm_position, model.num_classes) == (3, "post", 0)
    assert facts["imported_from"] in ("model.safetensors", "pytorch_model.bin")
    assert facts["notes"] == [] and len(facts["sha256"]) == 64
    kernel = variables["params"]["positions"]
    np.testing.assert_array_equal(
        kernel["kernel"], state_dict()["encoder.pos_conv_embed.conv.weight_v"].T
    )
    gain = state_dict()["encoder.pos_conv_embed.conv.weight_g"]
    np.testing.assert_array_equal(kernel["gain"], gain.ravel())


@pytest.fixture(scope="module")
def export(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "mert"
    words = ["import-weights", "--weights", str(folder), "--name", "music", "--out", str(out)]
    words += ["--licence", "CC BY-NC 4.0", "--set", "layer=last", "--set", "num_samples=48000"]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["num_params"], told["embedding_width"]) == (84672, 48)
    assert told["notes"] == [NO_PREPROCESSOR_NOTE]
    assert told["inferred"]["depth"] == 3 and "num_samples" not in told["inferred"]
    return out


def test_an_export_gives_the_published_layers(export):
    encoder = musrep_jax.load_encoder(export)
    assert encoder.card["data"]["licence"] == "CC BY-NC 4.0"
    audio = load_arrays("input_fishin_24k_2s")["waveform"]
    stored = load_arrays("synthetic_mert_small_base")["hidden_states"]
    _, found = encoder.outputs(audio, 24000, ["layer_0", "layer_3", "embedding"])
    np.testing.assert_allclose(found["layer_0"][0], stored[0], atol=1e-4)
    np.testing.assert_allclose(found["layer_3"][0], stored[3], atol=1e-4)
    np.testing.assert_allclose(found["embedding"][0], stored[3].mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(encoder.embed(audio, 24000), found["embedding"][0], atol=1e-5)


@pytest.mark.parametrize("form", ["safetensors", "stablehlo", "onnx"])
def test_other_forms_of_the_export(export, tmp_path, form):
    out = tmp_path / form
    result = CliRunner().invoke(app, ["export", str(export), "--format", form, "--out", str(out)])
    assert result.exit_code == 0, result.output
    if form == "safetensors":
        assert (
            musrep_jax.load_encoder(out).fingerprint == musrep_jax.load_encoder(export).fingerprint
        )


def break_file(path, name):
    data = (path / name).read_bytes()
    (path / name).write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_is_cut_short_is_named(folder, tmp_path, name):
    path = shutil.copytree(folder, tmp_path / "mert")
    break_file(path, name)
    with pytest.raises(WeightFileError, match=f"{name} is damaged"):
        import_hub_directory(path)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"model_type": "whisper"},
            "model_type in .* is 'whisper'; this version opens hubert, mert",
        ),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'; only 'gelu' is computed here"),
        ({"feature_extractor_cqt": True}, "feature_extractor_cqt is True; only False"),
        ({"deepnorm": True}, "deepnorm is True; only False"),
        ({"feat_extract_norm": "batch"}, "feat_extract_norm.*'batch'.*group, layer"),
        ({"hidden_size": "48"}, "hidden_size.*'48'"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_attention_heads": 5}, "hidden_size is 48; it must be a multiple of 5"),
        ({"intermediate_size": 97}, "intermediate_size is 97; it must be a multiple of 48"),
        ({"conv_dim": [32] * 6}, "describe 6, 7, 7, 7 layers"),
        ({"sample_rate": None}, "says the sampling rate"),
        ({"sample_rate": "fast"}, "sampling_rate.*'fast'"),
        ({"do_stable_layer_norm": "yes"}, "do_stable_layer_norm.*'yes'"),
    ],
)
def test_fields_that_no_model_here_has_are_refused_in_a_sentence(
    folder, tmp_path, changed, sentence
):
    config = {**MANIFEST["config"], **changed}
    (tmp_path / "config.json").write_text(json.dumps(config))
    shutil.copy(folder / "model.safetensors", tmp_path)
    with pytest.raises(WeightFileError, match=sentence) as raised:
        read_hub_directory(tmp_path)
    assert "\n" not in str(raised.value)


def test_weights_that_do_not_belong_to_the_configuration(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "mert")
    (path / "config.json").write_text(json.dumps({**MANIFEST["config"], "num_hidden_layers": 4}))
    with pytest.raises(WeightsError, match=r"missing keys: .*encoder\.layers\.3\."):
        import_hub_directory(path)
    arrays = state_dict()
    arrays["encoder.layer_norm.bias"][3] = np.nan
    path = write(tmp_path / "nan", arrays=arrays)
    with pytest.raises(ImportWeightsError, match=r"not finite in encoder\.layer_norm\.bias"):
        import_hub_directory(path)


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no .*config\.json"):
        read_hub_directory(tmp_path)
    shutil.copy(folder / "config.json", tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"no weights; expected model\.safetensors or pytor"
    ):
        read_hub_directory(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"in several files \(model\.safetensors\.index"):
        read_hub_directory(tmp_path)
    with pytest.raises(ValueError, match=r"The model is 'vgg_ish', and .* holds 'mert'"):
        import_weights(folder, tmp_path / "out", model="vgg_ish", name="a", licence="b")


def test_nothing_in_a_pickle_is_executed(tmp_path):
    torch = pytest.importorskip("torch")

    class Call:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    path = write(tmp_path / "mert")
    (path / "model.safetensors").unlink()
    torch.save({"encoder.layer_norm.bias": Call()}, path / "pytorch_model.bin")
    with pytest.raises(WeightFileError, match="would execute code of the file: refused"):
        import_hub_directory(path)
    assert not (tmp_path / "executed").exists()
