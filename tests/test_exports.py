"""Other forms of exported models: they give the model's numbers, with and without this package."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from compact_models import COMPACT, draw_variables, make_audio
from fake_hub import FakeHub
from toy_exports import UNUSUAL_LABELS as LABELS
from toy_exports import make_export

import musrep_jax
from musrep_jax.cli import app
from musrep_jax.dsp.spectrogram import mel_filter_bank
from musrep_jax.exports import stablehlo
from musrep_jax.exports.cards import format_model_readme
from musrep_jax.exports.safetensors import get_front_end_constants
from musrep_jax.exports.writing import compare, compute_outputs, make_test_chunks
from musrep_jax.kernels.formulations import override_formulations
from musrep_jax.models import create_model
from musrep_jax.training.checkpoints import ExportError
from musrep_jax.training.logs import strip_folders

METRICS = {"roc_auc": 0.714, "pr_auc": 0.523, "roc_auc_ci": [0.61, 0.83],
           "pr_auc_ci": [0.44, 0.65], "num_tracks": 12}  # fmt: skip


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """A folder of exported models."""
    folder = tmp_path_factory.mktemp("exports")
    thresholds = {label: 0.25 for label in LABELS}
    make_export(folder, "vgg_ish", training={"seed": 7}, thresholds=thresholds,
                metrics={"test": METRICS})  # fmt: skip
    make_export(folder, "spectrogram_transformer", output="softmax")
    make_export(folder, "sample_cnn", labels=(), licence="Ask us")
    return folder


@pytest.fixture
def run(capsys):
    """Runs a command in this process."""

    def run_here(*words):
        with pytest.raises(SystemExit) as ended:
            app([str(word) for word in words], prog_name="musrep")
        return int(ended.value.code or 0), *capsys.readouterr()

    return run_here


@pytest.mark.parametrize("name", ["vgg_ish", "sample_cnn"])
def test_safetensors_give_the_same_model_back(exports, run, name, tmp_path):
    code, told, _ = run("export", exports / name, "--format", "hub", "--out", tmp_path / "a")
    assert code == 0
    ours, back = (musrep_jax.load_tagger(path) for path in (exports / name, tmp_path / "a"))
    chunks = make_test_chunks(ours)
    for mine, theirs in zip(ours.run_chunks(chunks), back.run_chunks(chunks), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert back.fingerprint == ours.fingerprint
    assert back.card == ours.card
    assert "largest difference from the model  0 over 3 chunks" in told
    lines = told.split("In Python:")[1]
    call, result = ("predict", "tags") if ours.labels else ("embed", "embedding")
    audio = chunks[0]
    results = {"audio": audio, "sample_rate": 16000}
    exec("\n".join(line.strip() for line in lines.splitlines()), results)
    expected = getattr(ours, call)(audio, 16000)
    assert np.array_equal(list(results[result]), list(expected))


def test_what_the_safetensors_form_holds(exports, run, tmp_path):
    from safetensors.numpy import load_file

    code, told, _ = run("export", exports / "vgg_ish", "--out", tmp_path / "a", "--json")
    about = json.loads(told)
    assert code == 0
    assert about["differences"] == {"embedding": 0.0, "logits": 0.0, "probabilities": 0.0}
    assert sorted(f.name for f in (tmp_path / "a").iterdir()) == [
        "README.md", "SHA256SUMS", "config.json", "model.safetensors"]  # fmt: skip
    (tmp_path / "usual").touch()
    rights = {file.stat().st_mode for file in (tmp_path / "a").iterdir()}
    assert rights == {(tmp_path / "usual").stat().st_mode}
    arrays = load_file(tmp_path / "a" / "model.safetensors")
    tagger = musrep_jax.load_tagger(exports / "vgg_ish")
    kernel = tagger.variables["params"]["head"]["kernel"]
    assert np.array_equal(arrays["params.head.kernel"], kernel)
    assert np.array_equal(arrays["front_end.mel_filters"], mel_filter_bank(tagger.model.log_mel))
    assert {name.split(".")[0] for name in arrays} == {"params", "batch_stats", "front_end"}
    config = json.loads((tmp_path / "a" / "config.json").read_text(encoding="utf-8"))
    assert config["labels"] == list(LABELS)
    assert config["thresholds"] == {label: 0.25 for label in LABELS}
    assert config["model"]["settings"]["n_channels"] == COMPACT["vgg_ish"]["n_channels"]
    assert {"sample_rate", "num_samples", "front_end", "output", "aggregate"} <= config.keys()


def test_front_end_constants_of_each_kind():
    harmonic = get_front_end_constants(create_model("harmonic_cnn", 1))
    assert harmonic["front_end.fundamentals"].shape == (128,)
    assert get_front_end_constants(create_model("sample_cnn", 1)) == {}
    assert (
        get_front_end_constants(create_model("musicnn", 1))["front_end.mel_filters"].shape[1] == 96
    )


# A folder with jax and what it requires, and nothing else: no flax, none of ours.
REQUIRED = ("jax", "jaxlib", "numpy", "ml_dtypes", "opt_einsum", "scipy", "flatbuffers")
RUN_ALONE = """
import sys
sys.path.append(sys.argv[1])
import numpy as np
chunks = np.load("chunks.npy")
{lines}
assert not {{"musrep_jax", "flax"}} & set(sys.modules)
one = program.call(chunks[:1])
assert np.allclose(one["embedding"], result["embedding"][:1], atol=1e-5)
np.savez("result.npz", **result)
"""


@pytest.fixture(scope="module")
def only_jax(tmp_path_factory):
    """A folder of packages that holds no more than a program needs."""
    folder = tmp_path_factory.mktemp("packages")
    for name in REQUIRED:
        package = pathlib.Path(__import__(name).__file__).parent
        libraries = package.with_name(f"{name}.libs")  # of a wheel
        for path in (package, libraries) if libraries.is_dir() else (package,):
            (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.programs
@pytest.mark.parametrize("name", ["vgg_ish", "spectrogram_transformer", "sample_cnn"])
def test_stablehlo_runs_without_this_package(exports, run, name, only_jax, tmp_path):
    words = ("--format", "stablehlo", "--out", tmp_path / "a", "--json")
    code, told, _ = run("export", exports / name, *words)
    assert code == 0
    about = json.loads(told)
    assert about["platforms"] == ["cpu", "cuda", "tpu"]
    assert all(0 <= difference < 1e-4 for difference in about["differences"].values())
    tagger = musrep_jax.load_tagger(exports / name)
    chunks = make_audio(tagger.model.num_samples)
    np.save(tmp_path / "chunks.npy", chunks)
    code = RUN_ALONE.format(lines="\n".join(about["python"]))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(only_jax)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "result.npz") as result:
        expected = compute_outputs(tagger, chunks)
        assert set(result) == set(expected) == about["differences"].keys()
        for output, values in expected.items():
            assert np.allclose(result[output], values, atol=1e-5), output
    card = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    assert 'program = jax.export.deserialize(pathlib.Path("FOLDER/tagger.stablehlo")' in card
    assert "load_tagger" not in card
    with pytest.raises(ExportError, match="holds a program without parameters"):
        musrep_jax.load_tagger(tmp_path / "a")


def test_the_example_of_the_docs_tags_as_the_model_does(exports, run, repository, tmp_path):
    out = tmp_path / "a"
    assert run("export", exports / "vgg_ish", "--format", "stablehlo", "--out", out)[0] == 0
    text = (repository / "docs" / "exports.md").read_text(encoding="utf-8")
    example = next(part for part in text.split("```python\n") if part.startswith("import json"))
    names = {}
    exec(example.partition("```")[0].replace('"DIR/stablehlo"', repr(str(out))), names)
    tagger = musrep_jax.load_tagger(exports / "vgg_ish")
    size = tagger.model.num_samples
    for length in (size // 2, size, 2 * size, 2 * size + 100):
        audio = make_audio(length)[0]
        found = names["tag"](audio)
        assert found == pytest.approx(tagger.predict(audio, 16000), abs=1e-5)


def test_a_program_takes_longer_chunks_and_no_shorter_ones(exports):
    tagger = musrep_jax.load_tagger(exports / "vgg_ish")
    program = stablehlo.lower(tagger)
    size = tagger.model.num_samples
    longer = make_audio(size + 5000)
    logits = tagger.forward(tagger.variables, longer)[0]
    assert np.allclose(program.call(longer)["probabilities"], jax.nn.sigmoid(logits), atol=1e-5)
    with pytest.raises(ValueError, match="samples"):
        program.call(longer[:, : size - 1])


@pytest.mark.parametrize("name", COMPACT)
def test_which_models_take_any_length(name):
    model = create_model(name, 5, COMPACT[name])
    variables = draw_variables(model)

    def output_shape(text, *constraints):
        shape = jax.export.symbolic_shape(text, constraints=constraints)
        inputs = jax.ShapeDtypeStruct(shape, jnp.float32)
        with override_formulations(frozenset()):
            output = jax.eval_shape(lambda x: model.apply(variables, x, train=False), inputs)
        return [str(size) for size in output.logits.shape]

    assert output_shape(f"batch, {model.num_samples}") == ["batch", "5"]
    any_length = ("batch, samples", f"samples >= {model.num_samples}")
    if name in stablehlo.FIXED_LENGTH:
        with pytest.raises(Exception, match=r"samples|boolean"):
            output_shape(*any_length)
    else:
        assert output_shape(*any_length) == ["batch", "5"]


def test_a_form_that_differs_is_refused():
    ours = {"probabilities": np.full((1, 2), 0.5), "embedding": np.full((1, 2), 100.0)}
    close = {"probabilities": ours["probabilities"] + 5e-5, "embedding": ours["embedding"] + 5e-3}
    assert compare(ours, close) == pytest.approx({"probabilities": 5e-5, "embedding": 5e-3})
    for name, change in (("probabilities", 1e-3), ("embedding", 0.1), ("embedding", np.nan)):
        with pytest.raises(ExportError, match=f"{name} differ by"):
            compare(ours, ours | {name: ours[name] + change})
    with pytest.raises(ExportError, match="outputs"):
        compare(ours, {"embedding": ours["embedding"]})


def test_an_earlier_export_is_replaced_and_nothing_else(exports, run, tmp_path):
    model, out = exports / "vgg_ish", tmp_path / "a"
    words = ("export", model, "--out", out)
    assert run(*words)[0] == run(*words)[0] == 0
    (out / ".git").mkdir()
    code, _, error = run(*words)
    assert code == 2
    assert "exists and is not an export of this kind" in error
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_facts_of_an_exported_model(exports, run, tmp_path):
    code, told, _ = run("models", exports / "vgg_ish", "--json")
    facts, tagger = json.loads(told), musrep_jax.load_tagger(exports / "vgg_ish")
    assert code == 0
    assert facts["labels"] == list(tagger.labels)
    assert facts["licence"] == tagger.card["data"]["licence"]
    sizes = [leaf.size for leaf in jax.tree.leaves(tagger.variables["params"])]
    assert facts["num_params"] == sum(sizes)
    table = run("models", exports / "vgg_ish")[1]
    assert f"{sum(sizes):,}" in table and tagger.labels[0] in table
    shutil.copytree(exports / "vgg_ish", tmp_path / "exports/best")
    (tmp_path / "song.mp3").write_bytes(b"x")
    for place, sentence in (
        (tmp_path, f"holds 1: name one of them, such as {tmp_path}/exports/best."),
        (tmp_path / "song.mp3", "is a file, and an exported model is a folder"),
        (tmp_path / "absent", "There is no exported model at"),
    ):
        code, _, error = run("models", place)
        assert code == 2
        assert sentence in " ".join(error.split())


def test_damage_is_one_sentence(exports, run, tmp_path):
    out = tmp_path / "a"
    assert run("export", exports / "vgg_ish", "--out", out)[0] == 0
    (out / "README.md").write_text("edited", encoding="utf-8")
    musrep_jax.load_tagger(out)
    again = tmp_path / "b"
    assert run("export", out, "--out", again)[0] == 0
    assert (again / "README.md").read_text(encoding="utf-8") == "edited"
    file = out / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ExportError, match="safetensors does not match its checksum"):
        musrep_jax.load_tagger(out)
    (out / "config.json").unlink()
    with pytest.raises(ExportError, match="json is missing"):
        musrep_jax.load_tagger(out)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["absent"], "There is no exported model"),
        (["vgg_ish", "--format", "h5"], "format is 'h5'. Allowed: onnx, safetensors, stablehlo."),
        (["vgg_ish", "--format", "stablehlo", "--push", "a/b"], "--push uploads the form"),
        (["vgg_ish", "--push", "name"], "named OWNER/NAME, and 'name' is not"),
        (["hub:a/b"], "Say with --out"),
    ],
)
def test_wrong_words_are_one_sentence(exports, run, words, sentence, monkeypatch):
    monkeypatch.chdir(exports)
    before = sorted(exports.iterdir())
    code, told, error = run("export", *words)
    assert (code, told) == (2, "")
    assert sentence in error
    assert sorted(exports.iterdir()) == before


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("safetensors.numpy", []),
        ("huggingface_hub", ["--push", "a/b"]),
    ],
)
def test_a_missing_package_is_named(exports, run, module, words, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    code, _, error = run("export", exports / "vgg_ish", "--out", tmp_path / "a", *words)
    assert code == 2
    assert "is missing: install it with pip install" in error
    assert list(tmp_path.iterdir()) == []


def test_the_card_is_what_the_hub_reads(exports):
    from huggingface_hub import ModelCard

    text = (exports / "vgg_ish" / "README.md").read_text(encoding="utf-8")
    about = ModelCard(text).data
    assert about.license == "cc0-1.0"
    assert about.library_name == "musrep_jax"
    assert "synthetic-data" in about.tags
    found = {result.metric_type: result.metric_value for result in about.eval_results}
    assert found == {"roc_auc": 0.714, "pr_auc": 0.523}
    for part in (
        "| train tracks | 31 |", "| ROC-AUC | 0.714 | 0.610 to 0.830 |", "| `a\\|b` | 0.250 |",
        "Only 12 test tracks", "`n_channels` 5", "The data are generated", "| seed | 7 |",
        "musrep_jax.load_tagger(", "| `n_mels` | ", "@misc{made_up}",
    ):  # fmt: skip
        assert part in text, part


def test_a_card_without_results_invents_none(exports):
    from huggingface_hub import ModelCard

    text = (exports / "sample_cnn" / "README.md").read_text(encoding="utf-8")
    about = ModelCard(text).data
    assert (about.license, about.license_name) == ("other", "Ask us")
    assert about.pipeline_tag == "feature-extraction"
    assert about.eval_results is None
    assert "Nothing was measured" in text
    assert "## Results" not in text
    assert "## Labels" not in text
    assert "embedding = tagger.embed(audio, sample_rate)" in text


def test_calibration_stands_in_the_card(exports):
    card = dict(musrep_jax.load_tagger(exports / "vgg_ish").card)
    card["calibration"] = {label: [1.25, -0.5] for label in LABELS}
    text = format_model_readme(card)
    assert "| `ney` | 0.250 | 1.250 | -0.500 |" in text
    assert "thresholds and calibration" in text


def test_commands_in_cards_name_no_folders_of_this_machine():
    assert strip_folders("/usr/local/bin/musrep") == "musrep"
    assert strip_folders("--config.source=export:/home/so me/a,runs/b") == (
        "--config.source=export:a,runs/b"
    )
    assert strip_folders("~/music/b.wav") == "b.wav"
    assert strip_folders("runs/tagging") == "runs/tagging"


def test_push_and_pull(exports, tmp_path):
    hub = FakeHub()
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_made_up",
                   "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_TELEMETRY": "1"}  # fmt: skip
    code = """
import sys, musrep_jax
from musrep_jax.inference.hub import pull, push
from musrep_jax.training.checkpoints import ExportError
print(push(sys.argv[1], "me/tagger"))
print(musrep_jax.load_tagger("hub:me/tagger").fingerprint)
print(pull("me/tagger@main"))
for name in ("hub:me/absent", "hub:me"):
    try:
        musrep_jax.load_tagger(name)
    except ExportError as error:
        print(error)
"""
    out = tmp_path / "a"
    with pytest.raises(SystemExit) as ended:
        app(["export", str(exports / "vgg_ish"), "--out", str(out)], prog_name="musrep")
    assert not ended.value.code
    try:
        done = subprocess.run([sys.executable, "-c", code, out], env=environment, cwd=tmp_path,
                              capture_output=True, text=True, check=False)  # fmt: skip
    finally:
        hub.close()
    assert done.returncode == 0, done.stderr
    address, fingerprint, folder, absent, wrong = done.stdout.splitlines()
    assert address.startswith(f"{hub.url}/me/tagger/commit/")
    assert fingerprint == musrep_jax.load_tagger(out).fingerprint
    assert pathlib.Path(folder).is_relative_to(tmp_path / "cache")
    assert "there is no such repository, or it is private" in absent
    assert "is named OWNER/NAME" in wrong
    assert hub.repositories["me/tagger"] == {f.name: f.read_bytes() for f in out.iterdir()}
    assert set(hub.tokens) == {"Bearer hf_made_up"}
