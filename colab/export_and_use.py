# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Export a model, and use it without this package
#
# A trained model is a folder that `load_tagger` opens. Other programs want other forms. You will
# write one model as safetensors, as StableHLO and as ONNX, open each **without this package**, and
# see that the numbers are the same. Five minutes on a CPU.
#
# On Colab, put the repository into `/content/musrep_jax` first: clone it there, or upload it as a
# zip file with the folder button on the left and unpack it with `!unzip`.

# %% [markdown]
# ## Install
#
# Where the package is there already, nothing is installed. pip is told to keep the JAX that is
# there, because Colab's fits its accelerators.

# %%
import importlib
import importlib.metadata
import subprocess
import sys

REPOSITORY = "/content/musrep_jax"
kept = [f"{name}=={importlib.metadata.version(name)}" for name in ("jax", "jaxlib")]

try:
    importlib.metadata.version("musrep_jax")
except importlib.metadata.PackageNotFoundError:
    command = [sys.executable, "-m", "pip", "install", "-q", f"{REPOSITORY}[all]", *kept]
    subprocess.run(command, check=True)
    importlib.invalidate_caches()

print("jax", importlib.metadata.version("jax"))

# %% [markdown]
# ## Settings
#
# `MODEL` is an exported model of yours, the folder with `tagger.json`. As long as it is `None`, a
# small one is trained: what it knows does not matter here.
#
# With the variable `CI` set, everything is as small as can be: that is how this notebook is
# tested.

# %% tags=["parameters"]
import os

MODEL = None
IS_REDUCED = os.environ.get("CI") == "true"
EXPERIMENT = "tagging:smoke" if IS_REDUCED else "tagging"
NUM_STEPS = 6 if IS_REDUCED else 60

# %%
import json
import pathlib
import shlex

from musrep_jax.cli import app


def musrep(line):
    """Runs a command line of musrep; returns 0, or 1 if a part failed, which is told."""
    code = app(shlex.split(line), prog_name="musrep", standalone_mode=False) or 0
    if code > 1:
        raise RuntimeError(f"exit code {code}: the sentence above says why")
    return code


if MODEL is None:
    musrep(f"""
        train {EXPERIMENT} --workdir=runs/to_export
        --config.model.name=short_chunk_cnn
        --config.train.num_steps={NUM_STEPS}
        --config.train.evaluate_every_steps={NUM_STEPS // 3}
    """)
    (MODEL,) = pathlib.Path("runs/to_export/exports").iterdir()

# %% [markdown]
# ## The export directory
#
# Parameters (orbax), and in `tagger.json` everything without which they are of no use:
# architecture, front end, labels in order, thresholds, calibration, data and licence, metrics,
# versions. Opened with another front end than it was trained with, it is refused.

# %%
import numpy as np
import soundfile
from musrep_jax.tfds_builders.synthetic_cultures.synthesis import make_corpus

import musrep_jax

tagger = musrep_jax.load_tagger(MODEL)
print(sorted(path.name for path in pathlib.Path(MODEL).iterdir()))
print(json.dumps(tagger.card["front_end"]))

corpus = make_corpus("makam", num_tracks=3, seconds=10, sample_rate=tagger.sample_rate, seed=2)
audio = corpus.render(corpus.tracks[0])
pathlib.Path("runs").mkdir(exist_ok=True)
soundfile.write("runs/song.wav", audio, corpus.sample_rate, subtype="FLOAT")
expected = np.array(list(tagger.predict(audio, tagger.sample_rate).values()))
print(len(expected), "labels;", f"{len(audio) / tagger.sample_rate:.1f} s of audio")

# %% [markdown]
# ## safetensors
#
# Plain arrays with names, and `config.json`: the layout of the Hugging Face Hub. `musrep export`
# writes, reads back and compares before the folder takes its name, and prints the lines that load
# it.

# %%
musrep(f"export {MODEL} --format safetensors --out runs/exported/safetensors")

# %% [markdown]
# `load_tagger` opens it too, and gives the same bits. Any other program reads it as arrays:

# %%
from safetensors.numpy import load_file

arrays = load_file("runs/exported/safetensors/model.safetensors")
for name in ("params.head.kernel", "params.head.bias", "front_end.mel_filters"):
    print(f"{name:<24} {arrays[name].dtype} {arrays[name].shape}")
again = musrep_jax.load_tagger("runs/exported/safetensors").predict(audio, tagger.sample_rate)
safetensors_difference = np.abs(np.array(list(again.values())) - expected).max()
print("difference:", safetensors_difference)

# %% [markdown]
# ## StableHLO
#
# One file that holds front end, architecture and weights, for CPU, GPU and TPU. It needs JAX
# alone.

# %%
musrep(f"export {MODEL} --format stablehlo --out runs/exported/stablehlo")

# %% [markdown]
# The program that uses it is short, and yours to keep. It runs in a process of its own, which
# makes sure that it has neither this package nor flax.

# %%
program = """
import json
import pathlib
import sys

import jax.export
import numpy as np
import soundfile

folder = pathlib.Path("runs/exported/stablehlo")
config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
tagger = jax.export.deserialize((folder / "tagger.stablehlo").read_bytes())


def tag(audio):  # mono, float32 in [-1, 1], at config["sample_rate"]
    size = config["num_samples"]
    audio = np.pad(audio, (0, max(0, size - len(audio))))
    starts = [*range(0, len(audio) - size, size), len(audio) - size]
    chunks = np.stack([audio[start : start + size] for start in starts])
    scores = np.asarray(tagger.call(chunks)["probabilities"]).mean(axis=0)
    return dict(zip(config["labels"], scores.tolist()))


audio, sample_rate = soundfile.read("runs/song.wav", dtype="float32")
assert sample_rate == config["sample_rate"]
print(json.dumps(tag(audio)))
assert not {"musrep_jax", "flax"} & set(sys.modules)
"""
pathlib.Path("runs/tag_stablehlo.py").write_text(program)


def run_apart(program):
    """Returns the probabilities that a program prints; the notebook keeps the accelerator."""
    done = subprocess.run(
        [sys.executable, program],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


found = run_apart("runs/tag_stablehlo.py")
assert list(found) == list(tagger.labels)
stablehlo_difference = np.abs(np.array(list(found.values())) - expected).max()
print(f"largest difference: {stablehlo_difference:.1e}")

# %% [markdown]
# On a CPU the difference is that of float32 sums in another order. If the notebook runs on a TPU
# or GPU and this program on the CPU, it is that of their matrix products, in the third decimal.

# %% [markdown]
# ## ONNX
#
# For programs without JAX, or without Python: onnxruntime runs it on servers, on phones and in
# browsers. Two packages are needed; where they are, nothing is installed.

# %%
import importlib.util

if importlib.util.find_spec("onnx") is None or importlib.util.find_spec("onnxruntime") is None:
    command = [sys.executable, "-m", "pip", "install", "-q", "onnx", "onnxruntime", *kept]
    subprocess.run(command, check=True)
    importlib.invalidate_caches()

musrep(f"export {MODEL} --format onnx --out runs/exported/onnx")

# %% [markdown]
# The same program, with neither this package nor JAX. `config.json` is in the file too.

# %%
program = """
import json
import sys

import numpy as np
import onnxruntime
import soundfile

tagger = onnxruntime.InferenceSession("runs/exported/onnx/tagger.onnx")
config = json.loads(tagger.get_modelmeta().custom_metadata_map["config"])


def tag(audio):  # mono, float32 in [-1, 1], at config["sample_rate"]
    size = config["num_samples"]
    audio = np.pad(audio, (0, max(0, size - len(audio))))
    starts = [*range(0, len(audio) - size, size), len(audio) - size]
    chunks = np.stack([audio[start : start + size] for start in starts])
    (scores,) = tagger.run(["probabilities"], {tagger.get_inputs()[0].name: chunks})
    return dict(zip(config["labels"], scores.mean(axis=0).tolist()))


audio, sample_rate = soundfile.read("runs/song.wav", dtype="float32")
assert sample_rate == config["sample_rate"]
print(json.dumps(tag(audio)))
assert not {"musrep_jax", "flax", "jax"} & set(sys.modules)
"""
pathlib.Path("runs/tag_onnx.py").write_text(program)

found_by_onnx = run_apart("runs/tag_onnx.py")
assert list(found_by_onnx) == list(tagger.labels)
onnx_difference = np.abs(np.array(list(found_by_onnx.values())) - expected).max()
print(f"largest difference: {onnx_difference:.1e}")

# %% [markdown]
# ## Publish it
#
# Every export has a model card (`README.md`) with data, licence, metrics with intervals, known
# limits. Read it before others do.

# %%
from IPython.display import Markdown, display

card = pathlib.Path("runs/exported/safetensors/README.md").read_text(encoding="utf-8")
display(Markdown(card.split("---", 2)[2]))

# %% [markdown]
# With an account of the Hugging Face Hub (`hf auth login`):
#
# ```
# !musrep export {MODEL} --out runs/exported/safetensors --push OWNER/NAME
# ```
#
# and anybody opens it with `musrep_jax.load_tagger("hub:OWNER/NAME")`.
#
# ## The other way: published PyTorch weights
#
# Weights of the original papers become an export directory, with their labels in order and the
# front end they were trained with:
#
# ```
# !pip install -q torch
# !musrep import-weights --model musicnn --weights best_model.pth \
#     --labels tags.json --name mtat_musicnn --licence "..." --out imported
# ```
#
# Names and shapes of every parameter are checked; what does not fit is one sentence. Then
# `load_tagger("imported")` tags, and `musrep train transfer --config.source=export:imported
# --config.model.name=musicnn --config.model.size=full` starts from it.
