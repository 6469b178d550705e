"""The form `onnx`: every model gives its own numbers in onnxruntime, at any batch size."""

import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from compact_models import COMPACT, make_audio
from toy_exports import UNUSUAL_LABELS as LABELS
from toy_exports import make_export

import musrep_jax
from musrep_jax.cli import app
from musrep_jax.exports import onnx_ops
from musrep_jax.exports.onnx_graph import DynamicArray, Graph, LoweringError, lower_jaxpr
from musrep_jax.exports.writing import compute_outputs, export_as
from musrep_jax.training.checkpoints import ExportError

QUICK = {"crnn", "log_mel_statistics", "sample_cnn", "spectrogram_transformer"}
"""Models of the default run: a recurrent layer, comparisons, no front end, tokens."""


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in COMPACT]
)
def test_every_model_gives_its_own_numbers(name, tmp_path):
    labels = () if name == "sample_cnn" else LABELS
    output = "softmax" if name == "crnn" else "sigmoid"
    make_export(tmp_path, name, labels=labels, output=output)
    tagger = musrep_jax.load_tagger(tmp_path / name)
    exported = export_as(tagger, "onnx", tmp_path / "onnx")
    names = ["embedding", "logits", "probabilities"] if labels else ["embedding"]
    assert list(exported.differences) == names
    session = onnxruntime.InferenceSession(tmp_path / "onnx" / "tagger.onnx")
    chunks = make_audio(tagger.model.num_samples)
    expected = compute_outputs(tagger, chunks)
    for size in (1, 2, 3):
        found = session.run(None, {"waveforms": chunks[:size]})
        for key, values in zip(names, found, strict=True):
            wanted = expected[key][:size]
            assert values.shape == wanted.shape
            scale = 1 if key == "probabilities" else max(1, np.abs(wanted).max())
            assert np.abs(values - wanted).max() < 3e-5 * scale, (key, size)


# A folder with what onnxruntime requires, and nothing else: no jax, none of ours.
REQUIRED = ("onnxruntime", "numpy", "google", "flatbuffers", "packaging")
RUN_ALONE = """
import sys
sys.path.append(sys.argv[1])
import json
import numpy as np
chunks = np.load("chunks.npy")
{lines}
assert not {{"musrep_jax", "jax", "flax", "onnx"}} & set(sys.modules)
card = json.loads(session.get_modelmeta().custom_metadata_map["config"])
np.savez("result.npz", labels=card["labels"], probabilities=probabilities)
"""


def test_the_printed_lines_run_without_this_package(capsys, tmp_path):
    make_export(tmp_path, "vgg_ish")
    words = ["export", tmp_path / "vgg_ish", "--format", "onnx", "--out", tmp_path / "a", "--json"]
    with pytest.raises(SystemExit) as ended:
        app([str(word) for word in words], prog_name="musrep")
    assert not ended.value.code
    about = json.loads(capsys.readouterr().out)
    assert sorted(f.name for f in (tmp_path / "a").iterdir()) == [
        "README.md", "SHA256SUMS", "config.json", "tagger.onnx"]  # fmt: skip
    packages = tmp_path / "packages"
    packages.mkdir()
    installed = pathlib.Path(np.__file__).parent.parent
    for name in (*REQUIRED, "numpy.libs"):
        if (installed / name).is_dir():
            (packages / name).symlink_to(installed / name)
    tagger = musrep_jax.load_tagger(tmp_path / "vgg_ish")
    chunks = make_audio(tagger.model.num_samples)
    np.save(tmp_path / "chunks.npy", chunks)
    code = RUN_ALONE.format(lines="\n".join(about["python"]))
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(packages)], cwd=tmp_path,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "result.npz") as result:
        assert tuple(result["labels"]) == LABELS
        expected = compute_outputs(tagger, chunks)["probabilities"]
        assert np.allclose(result["probabilities"], expected, atol=1e-5)
    card = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    assert 'session = onnxruntime.InferenceSession("FOLDER/tagger.onnx")' in card
    assert "load_tagger" not in card
    with pytest.raises(ExportError, match="run it with onnxruntime"):
        musrep_jax.load_tagger(tmp_path / "a")


def run_graph(function, *inputs):
    """Returns what onnxruntime makes of a function whose first axes are a batch of any size."""
    batch = jax.export.symbolic_shape("batch")[0]
    shapes = [jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype) for x in inputs]
    closed = jax.jit(function).trace(*shapes).jaxpr
    names = [f"input_{i}" for i in range(len(inputs))]
    graph = Graph(onnx, names[0], batch)
    found = lower_jaxpr(
        graph, onnx_ops.OPERATIONS, closed.jaxpr, closed.consts, [DynamicArray(n) for n in names]
    )
    describe, float32 = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    arrays = [onnx.numpy_helper.from_array(a, name) for name, a in graph.arrays.items()]
    whole = onnx.helper.make_graph(
        graph.nodes,
        "test",
        [describe(n, float32, ["batch", *x.shape[1:]]) for n, x in zip(names, inputs, strict=True)],
        [describe(found[0].name, float32, None)],
        arrays,
    )
    model = onnx.helper.make_model(
        whole, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, dict(zip(names, inputs, strict=True)))[0]


KERNEL = np.random.default_rng(1).standard_normal((3, 2, 4, 6)).astype(np.float32)


def cumulate_backwards(x):
    """Running sums from the end, as a reversed loop whose outputs are stacked."""
    carry, rows = jax.lax.scan(
        lambda sum_, row: (sum_ + row, sum_ + row), x[:, 0] * 0, x.swapaxes(0, 1), reverse=True
    )
    return rows.swapaxes(0, 1) + carry[:, None]


FUNCTIONS = {
    "grouped and dilated convolution": lambda x: jax.lax.conv_general_dilated(
        x, KERNEL[:, :, :2], (2, 1), ((1, 2), (0, 1)), rhs_dilation=(1, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2),
    "padded maximum": lambda x: jax.lax.reduce_window(
        x, -jnp.inf, jax.lax.max, (1, 3, 2, 1), (1, 2, 1, 1), ((0, 0), (1, 1), (0, 1), (0, 0))),
    "general product": lambda x: jnp.einsum("btfc,bsfd->bctds", x, x[..., :2]),
    "loop": cumulate_backwards,
    "entries in front of the batch": lambda x: x[:, [[3, 1], [0, 2]]],
    "stepped slice": lambda x: jnp.flip(jax.lax.slice(x, (0, 1, 0, 2), (x.shape[0], 6, 7, 4),
                                                      (1, 2, 1, 1)), 2),
    "spread constant": lambda x: jnp.concatenate(
        [jnp.broadcast_to(jnp.arange(4.0), (x.shape[0], 1, 7, 4)), x], axis=1),
    "pad and crop": lambda x: jax.lax.pad(
        x, jnp.float32(-1.5), ((0, 0, 0), (2, 1, 0), (-1, 3, 0), (0, 0, 0))),
    "rounded to half precision": lambda x: (100 * x).astype(jnp.float16).astype(jnp.float32),
    "powers": lambda x: (jnp.abs(x) + 1.0) ** 3 + jnp.sqrt(jnp.abs(x)) - jnp.minimum(x, 0.1),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations(name):
    x = np.random.default_rng(0).standard_normal((3, 6, 7, 4)).astype(np.float32)
    expected = FUNCTIONS[name](jnp.asarray(x))
    for size in (1, 3):
        found = run_graph(FUNCTIONS[name], x[:size])
        assert found.shape == expected[:size].shape
        assert np.allclose(found, expected[:size], atol=1e-5)


def test_what_has_no_form_is_named():
    x = np.ones((2, 5), np.float32)
    with pytest.raises(LoweringError, match="'sin' is not in the table"):
        run_graph(jnp.sin, x)
    with pytest.raises(LoweringError, match="gives bfloat16"):
        run_graph(lambda x: x.astype(jnp.bfloat16), x)


def test_other_precision_is_refused(tmp_path):
    make_export(tmp_path, "vgg_ish")
    tagger = musrep_jax.load_tagger(tmp_path / "vgg_ish")
    short = type(tagger)(tagger.model.clone(dtype="bfloat16"), tagger.variables, tagger.card)
    with pytest.raises(ExportError, match="computes in bfloat16"):
        export_as(short, "onnx", tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    make_export(tmp_path, "vgg_ish")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ExportError, match=r"package onnx is missing.*musrep_jax\[onnx\]"):
        export_as(musrep_jax.load_tagger(tmp_path / "vgg_ish"), "onnx", tmp_path / "onnx")
