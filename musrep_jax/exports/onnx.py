"""The form `onnx`: waveforms in; embeddings, logits and probabilities out, for onnxruntime.

`tagger.onnx` holds front end, architecture and weights, made of the operators of opset 18 by
`musrep_jax.exports.onnx_graph` and `musrep_jax.exports.onnx_ops`. It runs wherever onnxruntime does
(Python, C++, Java, JavaScript, mobile), without jax and without this package. The batch has any
size, the length is the model's chunk. The file also holds the text of `config.json`, as the entry
`config` of its metadata.

Why not a converter: jax2onnx 0.17.1 converts 2 of the 14 models, those that read the waveform
(`sample_cnn`, `sample_cnn_se`, equal to 1e-5 at any batch size); the spectrogram of the others
becomes a one-sided `DFT` that onnxruntime cannot load. It also requires
`orbax-checkpoint<0.11.37`, too old for musrep_jax. jaxonnxruntime goes the other way.
"""

import json
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from musrep_jax.exports.onnx_graph import (
    IR_VERSION,
    OPSET,
    DynamicArray,
    Graph,
    LoweringError,
    is_number,
    lower_jaxpr,
)
from musrep_jax.exports.onnx_ops import OPERATIONS
from musrep_jax.exports.stablehlo import make_tagger_function
from musrep_jax.exports.writing import WriterResult
from musrep_jax.inference.encoder import LoadedEncoder
from musrep_jax.inference.layout import CONFIG_FILE, ONNX_FILE
from musrep_jax.kernels.formulations import override_formulations
from musrep_jax.training.checkpoints import ExportError

FILES = (ONNX_FILE,)
ONNX_FORMAT = 1
INPUT = "waveforms"


def write(tagger: LoadedEncoder, folder: Path, chunks: np.ndarray) -> WriterResult:
    """Writes `tagger.onnx` and `config.json`, and runs what was written in onnxruntime.

    The chunks run in two batches of different sizes.

    Args:
        tagger: the model.
        folder: an empty one.
        chunks: float32 (chunks, samples).

    Raises:
        ExportError: if a package is missing, or the model has no form in ONNX.
    """
    onnx, onnxruntime = _packages()
    model = lower(tagger, onnx)
    num_samples = tagger.num_samples
    facts = {
        "opset": OPSET,
        "batch": "any size from 1",
        "length": f"{num_samples} samples",
        "input": INPUT,
        "outputs": [output.name for output in model.graph.output],
        "num_nodes": len(model.graph.node),
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
    config = {"onnx_format": ONNX_FORMAT, "program": facts, **tagger.card}
    text = json.dumps(config, indent=1, allow_nan=False)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
    onnx.helper.set_model_props(model, {"config": text})
    (folder / ONNX_FILE).write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(folder / ONNX_FILE, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {INPUT: part}) for part in (chunks[:1], chunks[1:])]
    outputs = [np.concatenate(values) for values in zip(*parts, strict=True)]
    return WriterResult(
        outputs=dict(zip(facts["outputs"], outputs, strict=True)),
        python_lines=(
            "import onnxruntime",
            f'session = onnxruntime.InferenceSession("{{path}}/{ONNX_FILE}")',
            f'{", ".join(facts["outputs"])} = session.run(None, {{"{INPUT}": chunks}})'
            f"  # float32 (batch, {num_samples}) at {tagger.sample_rate} Hz",
        ),
        facts=facts,
    )


def lower(tagger: LoadedEncoder, onnx: Any) -> Any:
    """Returns the program of a tagger as an ONNX model.

    Args:
        tagger: the model.
        onnx: the package.

    Raises:
        ExportError: if an operation of the model has no form in ONNX, or it reads texts.
    """
    name, dtype = tagger.card["model"]["name"], tagger.model.dtype
    if tagger.model.INPUT != "audio":
        raise ExportError(
            f"The model {name!r} reads {tagger.model.INPUT}; an ONNX program of this package reads "
            "waveforms: take the format stablehlo or safetensors."
        )
    if dtype != "float32":
        raise ExportError(
            f"The model {name!r} computes in {dtype}; an ONNX program computes in float32: export "
            "a model whose `dtype` is float32, or take the format stablehlo."
        )
    shape = jax.export.symbolic_shape(f"batch, {tagger.num_samples}")
    with override_formulations(frozenset()):
        traced = jax.jit(make_tagger_function(tagger)).trace(
            jax.ShapeDtypeStruct(shape, jnp.float32)
        )
    graph = Graph(onnx, INPUT, shape[0])
    try:
        closed = traced.jaxpr
        found = lower_jaxpr(graph, OPERATIONS, closed.jaxpr, closed.consts, [DynamicArray(INPUT)])
    except LoweringError as error:
        raise ExportError(
            f"The model {name!r} has no ONNX form: {error} Take the format stablehlo."
        ) from error
    helper, outputs = onnx.helper, []

    def describe(name: str, sizes: tuple[Any, ...]) -> Any:
        known = [size if is_number(size) else str(size) for size in sizes]
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, known)

    for (name, info), value in zip(sorted(traced.out_info.items()), found, strict=True):
        value = graph.whole(value, info.shape)
        graph.nodes.append(helper.make_node("Identity", [value.name], [name]))
        outputs.append(describe(name, info.shape))
    inputs = [describe(INPUT, shape)]
    arrays = [onnx.numpy_helper.from_array(array, name) for name, array in graph.arrays.items()]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "tagger", inputs, outputs, arrays),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="musrep_jax",
    )
    onnx.checker.check_model(model)
    return model


def _packages() -> tuple[Any, Any]:
    """Returns the modules `onnx` and `onnxruntime`."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ExportError(
            f'The package {error.name} is missing: install it with pip install "musrep_jax[onnx]".'
        ) from error
    return onnx, onnxruntime
