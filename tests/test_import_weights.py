"""Published weights become exports: read safely, understood, checked, equal in what they say."""

import argparse
import json
import pathlib
import sys

import hash_weights
import jax
import numpy as np
import pytest
from parity_files import load_manifest
from published_weights import audioset_transformer, image_transformer, random_state_dict
from typer.testing import CliRunner

from musrep_jax.cli import app
from musrep_jax.config import ConfigError
from musrep_jax.dsp.spectrogram import mel_filter_bank
from musrep_jax.inference.tagger import BackboneError, load_tagger
from musrep_jax.models import create_model
from musrep_jax.tasks.tagging.initial import replace_backbone
from musrep_jax.training.checkpoints import ExportError
from musrep_jax.weights.checks import ImportWeightsError
from musrep_jax.weights.files import WeightFileError, read_labels, read_state_dict
from musrep_jax.weights.importing import import_weights
from musrep_jax.weights.model_fields import infer_settings, parse_settings
from musrep_jax.weights.state_dicts import WeightsError, convert_state_dict

SMALL = {"n_channels": 2, "num_samples": 33000}
LABELS = ("raga", "makam", "rebetiko")
SAID = {"name": "somewhere", "licence": "CC-BY 4.0"}


@pytest.fixture(scope="module", autouse=True)
def full_precision():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def state_dict():
    return random_state_dict(create_model("short_chunk_cnn", len(LABELS), SMALL))


def save_torch(path, arrays, *, is_legacy=False):
    torch = pytest.importorskip("torch")

    def tensors(value):
        if isinstance(value, dict):
            return {key: tensors(item) for key, item in value.items()}
        return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value

    torch.save(tensors(arrays), path, _use_new_zipfile_serialization=not is_legacy)
    return path


@pytest.fixture
def weights(tmp_path, state_dict):
    return save_torch(tmp_path / "best_model.pth", state_dict)


def run_small(weights, out, **changed):
    options = {"model": "short_chunk_cnn", "labels": LABELS, "settings": {"num_samples": 33000}}
    return import_weights(weights, out, **{**options, **SAID, **changed})


# What comes out is what the public code computes.


@pytest.mark.parametrize("name", ["mtat_musicnn", "jamendo_fcn", "msd_crnn"])
def test_published_weights_give_their_probabilities(name, shared_dir, tmp_path):
    pytest.importorskip("torch")
    parity = shared_dir / "parity"
    data, _, model = name.partition("_")
    result = CliRunner().invoke(
        app,
        ["import-weights", "--model", model, "--weights", str(parity / f"weights/{name}.pth"),
         "--labels", str(parity / f"tags_{data}.json"), "--name", data, "--licence", "unknown",
         "--out", str(tmp_path / name), "--json"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["labels"] == json.loads((parity / f"tags_{data}.json").read_text())
    tagger = load_tagger(tmp_path / name)
    seconds = "3s" if model == "musicnn" else "29s"
    with np.load(parity / f"out_{name}.npz") as expected:
        for clip in ("sugarplum", "fishin"):
            audio = np.load(parity / f"input_{clip}_{seconds}.npz")["waveform"]
            _, scores = tagger.predict_over_time(audio, 16000)
            np.testing.assert_allclose(scores, expected[f"{clip}/probs"][None], atol=1e-5)


def understood(file, name):
    """Returns the settings read off a file, and its weights as variables of that model."""
    arrays = read_state_dict(file)
    settings = infer_settings(name, arrays, {})
    return settings, convert_state_dict(arrays, create_model(name, 50, settings))


def test_the_wide_musicnn_is_recognised_behind_wrapper_and_prefix(tmp_path):
    arrays = hash_weights.load_state_dict("sota_musicnn_msd")
    wrapped = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in arrays.items()}}
    file = save_torch(tmp_path / "best.pt", wrapped, is_legacy=True)
    settings, variables = understood(file, "musicnn")
    assert settings == {"backend_channels": 512, "dense_width": 500}
    head = variables["params"]["head"]["kernel"]
    np.testing.assert_array_equal(head, arrays["dense2.weight"].T)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 7_972_000


def test_a_student_of_lightning_loses_its_teacher(tmp_path):
    arrays = hash_weights.load_state_dict("mtt_student")
    student = {f"network.{k}": v for k, v in arrays.items()}
    teacher = {f"teacher_network.{k}": v + 1 for k, v in arrays.items()}
    checkpoint = {
        "hyper_parameters": argparse.Namespace(lr=1e-4),
        "state_dict": teacher | student,
        "pytorch-lightning_version": "1.1.0",
    }
    file = save_torch(tmp_path / "last.ckpt", checkpoint)
    settings, variables = understood(file, "tagging_transformer")
    assert settings == {"width": 64}
    head = variables["params"]["head"]["kernel"]
    np.testing.assert_array_equal(head, arrays["mlp_head.1.weight"].T)


def test_safetensors_in_bfloat16(tmp_path, state_dict):
    safetensors = pytest.importorskip("safetensors.flax")
    file = tmp_path / "model.safetensors"
    halved = {k: jax.numpy.asarray(v).astype("bfloat16") for k, v in state_dict.items()}
    safetensors.save_file(halved, file)
    found = read_state_dict(file)
    assert found.keys() == state_dict.keys()
    for key, value in found.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, state_dict[key], rtol=2**-8)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "network.", "module.network."])
def test_wrappers_and_prefixes_are_taken_off(wrapper, prefix, tmp_path, state_dict):
    named = {prefix + key: value for key, value in state_dict.items()}
    named |= {f"teacher_network.{key}": value for key, value in state_dict.items()}
    file = save_torch(tmp_path / "w.pth", {wrapper: named, "epoch": 1} if wrapper else named)
    found = read_state_dict(file)
    assert found.keys() == state_dict.keys()
    assert all(np.array_equal(found[key], state_dict[key]) for key in found)


# What an export says.


def test_the_card_says_where_the_weights_are_from(tmp_path, weights):
    imported = run_small(weights, tmp_path / "out", citation="Somebody, 2020")
    tagger = load_tagger(tmp_path / "out")
    assert tagger.labels == LABELS
    assert tagger.card["data"]["name"] == "somewhere"
    assert tagger.card["data"]["licence"] == "CC-BY 4.0"
    assert tagger.card["data"]["citation"] == "Somebody, 2020"
    assert tagger.card["training"]["imported_from"] == "best_model.pth"
    assert len(tagger.card["training"]["sha256"]) == 64
    assert imported.inferred == {"n_channels": 2}
    assert sorted(imported.tone, key=imported.tone.get, reverse=True) == list(imported.tone)
    assert set(imported.tone) == set(LABELS)
    assert json.loads(json.dumps(imported.to_dict()))["num_params"] == imported.num_params


def test_exclusive_classes_sum_to_one(tmp_path, weights):
    imported = run_small(weights, tmp_path / "out", output="softmax")
    assert load_tagger(tmp_path / "out").output == "softmax"
    assert sum(imported.tone.values()) == pytest.approx(1.0, abs=1e-5)


def test_the_printed_python_works(tmp_path, weights):
    pytest.importorskip("torch")
    imported = run_small(weights, tmp_path / "out")
    names = {"audio": np.sin(np.arange(16000)) / 2, "sample_rate": 16000}
    exec("\n".join(imported.python_lines), names)
    assert set(names["tags"]) == set(LABELS)


def test_an_own_export_is_replaced_and_nothing_else(tmp_path, weights):
    run_small(weights, tmp_path / "out")
    run_small(weights, tmp_path / "out", name="elsewhere")
    assert load_tagger(tmp_path / "out").card["data"]["name"] == "elsewhere"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match="not an export"):
        run_small(weights, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_time_first_kernels_are_turned(tmp_path):
    model = create_model("short_chunk_cnn", len(LABELS), SMALL)
    arrays = random_state_dict(model)
    turned = {k: v.swapaxes(2, 3) if v.ndim == 4 else v for k, v in arrays.items()}
    file = save_torch(tmp_path / "w.pth", turned)
    imported = run_small(file, tmp_path / "out", spatial="time_frequency")
    kernel = load_tagger(imported.path).variables["params"]["layer1"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel, arrays["layer1.conv.weight"].transpose())


# What does not belong together is named.


def test_all_wrong_keys_are_named(tmp_path, state_dict):
    broken = dict(state_dict)
    del broken["layer3.bn.running_var"]
    broken["layer9.conv.weight"] = np.zeros((1, 1, 3, 3), np.float32)
    broken["dense1.weight"] = np.zeros((8, 9), np.float32)
    file = save_torch(tmp_path / "w.pth", broken)
    with pytest.raises(WeightsError) as error:
        run_small(file, tmp_path / "out")
    text = str(error.value)
    assert "unknown keys: layer9.conv.weight;" in text
    assert "missing keys: layer3.bn.running_var;" in text
    assert "wrong shapes: dense1.weight (8, 9)" in text
    assert not (tmp_path / "out").exists()


def test_the_model_that_fits_is_named(tmp_path, weights):
    with pytest.raises(WeightsError, match="They fit the model short_chunk_cnn or vgg_ish"):
        run_small(weights, tmp_path / "out", model="short_chunk_resnet", settings={})


@pytest.mark.parametrize("labels", [LABELS[:2], (*LABELS, "fado")])
def test_the_number_of_labels_must_be_that_of_the_units(labels, tmp_path, weights):
    with pytest.raises(ImportWeightsError, match=rf"{len(labels)} labels.*dense2.weight.* 3 units"):
        run_small(weights, tmp_path / "out", labels=labels)


def test_values_that_are_not_finite_are_refused(tmp_path, state_dict):
    broken = {**state_dict, "dense1.bias": np.full_like(state_dict["dense1.bias"], np.nan)}
    file = save_torch(tmp_path / "w.pth", broken)
    with pytest.raises(ImportWeightsError, match=r"not finite in dense1\.bias"):
        run_small(file, tmp_path / "out")


def test_another_filter_bank_is_refused(tmp_path, state_dict):
    librosa = pytest.importorskip("librosa")
    own = mel_filter_bank(create_model("short_chunk_cnn", 3).log_mel)
    slaney = librosa.filters.mel(sr=16000, n_fft=512, n_mels=128, htk=False, norm=None).T
    good = save_torch(tmp_path / "good.pth", {**state_dict, "spec.mel_scale.fb": own + 1e-5})
    assert run_small(good, tmp_path / "out").left_out == ()
    bad = save_torch(tmp_path / "bad.pth", {**state_dict, "spec.mel_scale.fb": slaney})
    with pytest.raises(ImportWeightsError, match="filter bank in the weights"):
        run_small(bad, tmp_path / "other")
    with pytest.raises(ImportWeightsError, match=r"shape \(257, 128\)"):
        run_small(good, tmp_path / "other", settings={"num_samples": 33000, "n_mels": 64})


def test_words_are_checked_before_files(tmp_path, weights):
    for changed, match in [
        ({"licence": " "}, "licence is empty"),
        ({"spatial": "sideways"}, "spatial is 'sideways'"),
        ({"aggregate": "median"}, "aggregate is 'median'"),
        ({"output": "relu"}, "output is 'relu'"),
        ({"settings": {"n_chanels": 2}}, "Did you mean 'n_channels'"),
        ({"model": "short_chunk"}, "Did you mean"),
        ({"input_statistics": (-20.0, 10.0)}, "does not normalize its input"),
    ]:
        with pytest.raises(ValueError, match=match):
            run_small(weights, tmp_path / "out", **changed)
    assert not (tmp_path / "out").exists()


# Reading files: nothing in them is executed.


class Evil:
    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(self.file),)


@pytest.mark.parametrize("is_legacy", [False, True])
def test_a_pickle_that_would_run_code_is_refused(is_legacy, tmp_path, state_dict):
    marker = tmp_path / "executed"
    file = save_torch(
        tmp_path / "w.pth", {"state_dict": state_dict, "x": Evil(marker)}, is_legacy=is_legacy
    )
    with pytest.raises(WeightFileError, match=r"more than arrays .*would execute code"):
        read_state_dict(file)
    assert not marker.exists()


@pytest.mark.parametrize("module", ["torch", "safetensors"])
def test_a_missing_extra_is_said_in_one_sentence(module, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    file = tmp_path / ("w.pth" if module == "torch" else "w.safetensors")
    file.write_bytes(b"anything")
    with pytest.raises(WeightFileError, match=r'pip install "musrep_jax\[torch\]"'):
        read_state_dict(file)


def test_a_version_of_torch_that_executes_pickles_is_not_used(tmp_path, weights, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(WeightFileError, match=r"2\.5\.1.*CVE"):
        read_state_dict(weights)


def test_files_that_are_no_weights(tmp_path, state_dict):
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    whole = save_torch(tmp_path / "whole.pth", state_dict).read_bytes()
    cases = {
        "cut.pth": (whole[: len(whole) // 2], "damaged"),
        "noise.pth": (b"RIFF\x00\x01WAVE", "damaged"),
        "empty.pt": (b"", "damaged"),
        "noise.safetensors": (b"not a header at all", "damaged"),
        "weights.npz": (b"x", "not a weight file by its name"),
    }
    for name, (content, match) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightFileError, match=match):
            read_state_dict(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no weight file"):
        read_state_dict(tmp_path / "absent.pth")
    with pytest.raises(WeightFileError, match="no state dictionary"):
        read_state_dict(save_torch(tmp_path / "epoch.pth", {"epoch": 3}))
    twice = {**state_dict, **{f"module.{k}": v for k, v in state_dict.items()}}
    with pytest.raises(WeightFileError, match="two arrays for"):
        read_state_dict(save_torch(tmp_path / "twice.pth", twice))


def test_label_files(tmp_path):
    def read(name, text):
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read_labels(tmp_path / name)

    assert read("a.json", '["raga", "μakam"]') == ("raga", "μakam")
    assert read("a.txt", "raga\n μakam \n\n") == ("raga", "μakam")
    assert read("g.txt", "Hu\u0308zzam\u00a0\nRast\n") == ("Hüzzam", "Rast")
    for name, text, match in [
        ("b.json", '{"raga": 0}', "JSON list of names"),
        ("c.json", "[1, 2]", "JSON list of names"),
        ("d.json", "[", "cannot be read"),
        ("e.txt", "\n", "is empty"),
        ("f.txt", "raga\nraga\n", "names twice: raga"),
        ("g.json", '["Hüzzam", "Hu\u0308zzam"]', "names twice: Hüzzam"),
    ]:
        with pytest.raises(WeightFileError, match=match):
            read(name, text)


# Settings: read off the shapes, or off the command line.

INFERRED = {
    "sota_fcn": ("fcn", {}),
    "sota_musicnn_small": ("musicnn", {}),
    "sota_musicnn_msd": ("musicnn", {"backend_channels": 512, "dense_width": 500}),
    "sota_crnn": ("crnn", {}),
    "sota_sample": ("sample_cnn", {}),
    "sota_se": ("sample_cnn_se", {}),
    "sota_short": ("short_chunk_cnn", {}),
    "sota_short_res": ("short_chunk_resnet", {}),
    "sota_attention": ("cnnsa", {}),
    "sota_hcnn": ("harmonic_cnn", {}),
    "ddhf_keyword_n16000_fft256": ("harmonic_cnn", {"n_fft": 256, "hop_length": 128}),
    "mtt_teacher": ("tagging_transformer", {}),
    "mtt_student": ("tagging_transformer", {"width": 64}),
    "mtsa_spec_sinusoidal_c16_len257": ("self_attention", {"spec_channels": 16}),
    "mtsa_spec_cnnp_c8": ("self_attention", {"back": "cnn"}),
    "mtsa_raw_cnn_lee_c128": (
        "self_attention",
        {"front": "raw", "back": "cnn", "num_samples": 59049},
    ),
    "mtsa_raw_transformer_c128_len271": (
        "self_attention",
        {"front": "raw", "num_samples": 65610},
    ),
    "mtsa_spec_learnedpos_c8_vis": (
        "self_attention",
        {"positions": "learned"},
    ),
    "ccml_ast": ("spectrogram_transformer", {}),
    "ccml_vgg_ish": ("vgg_ish", {}),
}


@pytest.mark.parametrize("variant", INFERRED)
def test_settings_are_read_off_the_shapes(variant):
    name, expected = INFERRED[variant]
    keys = load_manifest(variant)["keys"]
    arrays = {key: np.broadcast_to(np.float32(0), shape) for key, shape, _ in keys}
    assert infer_settings(name, arrays, {}) == expected


def test_what_is_given_is_not_inferred():
    keys = load_manifest("ccml_musicnn")["keys"]
    arrays = {key: np.broadcast_to(np.float32(0), shape) for key, shape, _ in keys}
    given = {"n_mels": 128, "orientation": "time_first"}
    assert infer_settings("musicnn", arrays, given) == {"vertical_heights": (67, 38)}


def test_settings_from_words():
    words = ["n_mels=128", "vertical_heights=(67, 38)", "orientation=time_first", "f_max=8000"]
    assert parse_settings("musicnn", words) == {
        "n_mels": 128, "vertical_heights": (67, 38), "orientation": "time_first", "f_max": 8000.0,
    }  # fmt: skip
    assert parse_settings("ast", ["depth=none", "distilled=False"]) == {
        "depth": None,
        "distilled": False,
    }
    assert parse_settings("harmonic_cnn", ["pools=((2,2),(3,2))"]) == {"pools": ((2, 2), (3, 2))}
    for word, match in [
        ("n_mels", "has no '='"),
        ("n_mel=3", "Did you mean 'n_mels'"),
        ("n_mels=many", "n_mels is 'many'; it must be int"),
        ("n_mels=1.5", "must be int"),
    ]:
        with pytest.raises(ConfigError, match=match):
            parse_settings("musicnn", [word])


# Transformers for images and for AudioSet.


def positions_by_torch(stored, num_special, grid, rows, columns):
    """The published resizing, with PyTorch: time stretched or cut, then frequency."""
    torch = pytest.importorskip("torch")
    patches = torch.from_numpy(stored[0, num_special:]).T.reshape(1, -1, *grid)
    for axis, size in ((1, columns), (0, rows)):
        present = patches.shape[2 + axis]
        if size <= present:
            patches = patches.narrow(2 + axis, present // 2 - size // 2, size)
        else:
            shape = [size if i == axis else patches.shape[2 + i] for i in (0, 1)]
            patches = torch.nn.functional.interpolate(patches, shape, mode="bilinear")
    flat = patches.reshape(patches.shape[1], -1).T.numpy()
    return np.concatenate([stored[0, :num_special], flat])


@pytest.mark.parametrize(("distilled", "prefix"), [(True, ""), (True, "v."), (False, "")])
def test_image_weights_become_a_backbone(distilled, prefix, tmp_path):
    arrays = image_transformer(192, 2, 24, distilled=distilled)
    file = save_torch(tmp_path / "deit.pth", {"model": {prefix + k: v for k, v in arrays.items()}})
    imported = import_weights(file, tmp_path / "out", model="spectrogram_transformer", **SAID)
    expected = {"variant": "tiny", "depth": 2} | ({} if distilled else {"distilled": False})
    assert imported.inferred == expected
    assert "v.head.weight" in imported.left_out
    assert imported.transfer_line.endswith(f"--config.source=export:{imported.path}")
    assert any("image transformer" in note for note in imported.notes)
    tagger = load_tagger(imported.path)
    params = tagger.variables["params"]
    special = 2 if distilled else 1
    np.testing.assert_allclose(
        params["pos_embed"], positions_by_torch(arrays["pos_embed"], special, (24, 24), 12, 49),
        atol=1e-6,
    )  # fmt: skip
    colours = arrays["patch_embed.proj.weight"]
    np.testing.assert_allclose(
        params["patch_embed"]["kernel"][:, :, 0], colours.sum(axis=1).transpose(2, 1, 0), atol=1e-6
    )
    assert np.all(params["head_norm"]["scale"] == 1) and np.all(params["head_norm"]["bias"] == 0)
    assert "head" not in params


def test_a_backbone_embeds_and_does_not_tag(tmp_path, weights):
    imported = run_small(weights, tmp_path / "out", labels=None)
    assert set(imported.left_out) == {"dense2.weight", "dense2.bias"}
    tagger = load_tagger(imported.path)
    whole = load_tagger(run_small(weights, tmp_path / "whole").path)
    tone = np.sin(np.arange(16000) / 7).astype(np.float32)
    np.testing.assert_array_equal(tagger.embed(tone, 16000), whole.embed(tone, 16000))
    assert tagger.labels == () and tagger.card["labels"] == []
    log_mel = np.zeros((130, 128), np.float32)
    for tag in (
        lambda: tagger.predict(tone, 16000),
        lambda: tagger.predict_over_time(tone, 16000),
        lambda: tagger.predict_log_mel(log_mel, tagger.card["front_end"]),
    ):
        with pytest.raises(BackboneError, match="backbone without output layer"):
            tag()


def test_a_backbone_starts_a_training(tmp_path, weights):
    backbone = load_tagger(run_small(weights, tmp_path / "out", labels=None).path)
    target = create_model("short_chunk_cnn", 7, SMALL)
    fresh = convert_state_dict(random_state_dict(target, seed=1), target)
    started = replace_backbone(backbone.model, fresh, backbone.variables, tmp_path / "out")
    assert jax.tree.structure(started) == jax.tree.structure(fresh)
    np.testing.assert_array_equal(
        started["params"]["head"]["kernel"], fresh["params"]["head"]["kernel"]
    )
    np.testing.assert_array_equal(
        started["params"]["dense1"]["kernel"], backbone.variables["params"]["dense1"]["kernel"]
    )


def test_labels_for_image_weights_are_refused(tmp_path):
    file = save_torch(tmp_path / "deit.pth", image_transformer(192, 1, 24, distilled=True))
    with pytest.raises(ImportWeightsError, match="image transformer and has no output layer"):
        import_weights(file, tmp_path / "out", model="ast", labels=LABELS, **SAID)


@pytest.mark.parametrize("labels", [None, tuple(f"class {i}" for i in range(527))])
def test_audioset_weights(labels, tmp_path):
    arrays = audioset_transformer(192, 1, 101, 527)
    file = save_torch(tmp_path / "audioset.pth", arrays)
    imported = import_weights(
        file, tmp_path / "out", model="ast", labels=labels, input_statistics=(-30.0, 20.0), **SAID
    )
    assert any("Kaldi" in note for note in imported.notes)
    variables = load_tagger(imported.path).variables
    stored = arrays["module.v.pos_embed"][0]
    cut = stored[2:].reshape(12, 101, 192)[:, 26:75].reshape(-1, 192)
    np.testing.assert_array_equal(
        variables["params"]["pos_embed"], np.concatenate([stored[:2], cut])
    )
    assert float(variables["input_statistics"]["mean"]) == -30.0
    assert float(variables["input_statistics"]["std"]) == 20.0
    assert ("head" in variables["params"]) == (labels is not None)
    assert len(imported.tone) == (0 if labels is None else 527)


def test_what_is_converted_is_what_the_converter_gives(tmp_path, weights, state_dict):
    imported = run_small(weights, tmp_path / "out")
    tagger = load_tagger(imported.path)
    expected = convert_state_dict(state_dict, tagger.model)
    jax.tree.map(np.testing.assert_array_equal, tagger.variables, expected)
