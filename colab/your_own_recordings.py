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
# # Your own recordings
#
# A folder of recordings and a table of labels become a tagger of your own: examine the files,
# build the data set, train, see which labels work and which do not, and tag new files. Ten
# minutes on a CPU with the recordings that are made here; with yours, change one line.
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
# `FOLDER` is where your recordings are (on Colab: mount Drive, or upload them). As long as it is
# `None`, synthetic ones are made.
#
# With the variable `CI` set, everything is as small as can be: that is how this notebook is
# tested.

# %% tags=["parameters"]
import os

FOLDER = None
IS_REDUCED = os.environ.get("CI") == "true"
EXPERIMENT = "tagging:smoke" if IS_REDUCED else "tagging"
NUM_STEPS = 6 if IS_REDUCED else 150
NUM_RECORDINGS, SECONDS = (24, 4) if IS_REDUCED else (192, 8)

# %% [markdown]
# ## The folder
#
# Any format that libsndfile reads (wav, flac, ogg, mp3, ...), others if the program `ffmpeg` is
# there; any sample rate, mono or stereo, sub-folders as you like. Beside them `labels.tsv`,
# separated by tabs:
#
# ```
# path	labels	group
# ney/taksim_01.flac	ney,makam_hicaz	performer_a
# oud/track7.mp3	oud,makam_rast	performer_b
# ```
#
# **Do give a group**: the performer, album or session. Recordings of one group never lie in two
# splits, and without it a model may learn to know the room instead of the music; its test numbers
# would then be too good.

# %%
import pathlib

import numpy as np
import soundfile

folder = pathlib.Path(FOLDER or "runs/my_recordings")
if FOLDER is None:
    from musrep_jax.tfds_builders.synthetic_cultures.synthesis import make_corpus

    corpus = make_corpus("makam", num_tracks=NUM_RECORDINGS, seconds=SECONDS)
    lines = ["path\tlabels\tgroup"]
    for number, track in enumerate(corpus.tracks):
        path = folder / f"{track.track_id}.{('wav', 'flac', 'ogg', 'mp3')[number % 4]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, corpus.render(track), corpus.sample_rate)
        lines.append(f"{path.name}\t{','.join(track.labels)}\t{track.group}")
    # Two things that happen to everybody: a download that broke off, and a file that is silent.
    broken = min(folder.glob("*.flac"))
    broken.write_bytes(broken.read_bytes()[:9000])
    soundfile.write(min(folder.glob("*.wav")), np.zeros(16000 * SECONDS), 16000)
    (folder / "labels.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
print(*(folder / "labels.tsv").read_text(encoding="utf-8").splitlines()[:4], sep="\n")

# %% [markdown]
# ## Examine
#
# `musrep doctor` decodes every file once. Faults (dead, cut short, silent) go on a list that
# every build respects; notes (clipped, there twice) are for you to judge. It changes none of your
# files. It returns 1 if there are faults.

# %%
import shlex

from musrep_jax.cli import app


def musrep(line):
    """Runs a command line of musrep; returns 0, or 1 if a part failed, which is told."""
    code = app(shlex.split(line), prog_name="musrep", standalone_mode=False) or 0
    if code > 1:
        raise RuntimeError(f"exit code {code}: the sentence above says why")
    return code


musrep(f"doctor {folder}")

# %% [markdown]
# ## Build
#
# The recordings are decoded, resampled and stored once, and split: 60 % to train, 15 % to choose
# the best weights, 25 % to test, with groups kept together. (Give a column `split` to say it
# yourself.) Read the report: what was refused and why, and what leaks between the splits.

# %%
musrep(f"build audio_folder:{folder}")

# %% [markdown]
# ## Train
#
# Recordings much shorter than the model's chunk (3.7 s here) would be mostly padding:
# `--config.model.num_samples=16000` takes chunks of one second.

# %%
musrep(f"""
    train {EXPERIMENT} --workdir=runs/own
    --config.data.name=audio_folder --config.data.path={folder}
    --config.model.name=short_chunk_cnn
    --config.train.num_steps={NUM_STEPS}
    --config.train.evaluate_every_steps={NUM_STEPS // 3}
""")

# %% [markdown]
# ## Which labels work?
#
# The mean hides what you need to know. Per label: how many test recordings have it, and both
# numbers. With five positives a number is a rumour; collect more, or merge labels. Labels without
# positives or negatives in the test split cannot be scored and are listed.

# %%
import json

workdir = pathlib.Path("runs/own")
cells = json.loads((workdir / "results.json").read_text())["cells"]
(result,) = [cell for cell in cells if cell["mode"] != "baseline"]
print(f"{'label':<30} positives  ROC-AUC  PR-AUC")
per_label = result["per_label"]
scored = [label for label in per_label if per_label[label]["roc_auc"] is not None]
for label in sorted(scored, key=lambda name: -per_label[name]["roc_auc"]):
    row = per_label[label]
    print(f"{label:<30} {row['positives']:>9}  {row['roc_auc']:7.3f}  {row['pr_auc']:6.3f}")
print("not scored:", ", ".join(result["skipped_labels"]) or "none")

# %%
from IPython.display import Image, display

for path in sorted((workdir / "figures" / "labels").glob("*.png")):
    display(Image(str(path), width=700))

# %% [markdown]
# ## Tag new files
#
# Files that were not in the folder. `*` marks labels above their threshold, which was fitted on
# the validation split, as was the calibration of the probabilities.

# %%
new = pathlib.Path("runs/new_recordings")
new.mkdir(exist_ok=True)
if FOLDER is None:
    others = make_corpus("makam", num_tracks=3, seconds=SECONDS, seed=1)
    for track in others.tracks:
        soundfile.write(new / f"new-{track.number}.ogg", others.render(track), others.sample_rate)
        print(f"new-{track.number}.ogg was made with: {', '.join(sorted(track.plan.labels))}")

musrep(f"tag {workdir / result['export']} {new}")

# %% [markdown]
# `--out tags.tsv` writes a table instead, with a line per recording and a column per label;
# `--over-time` has a line per chunk, `--json` everything.
#
# ## Better
#
# - More recordings, and more groups, help before anything else does.
# - Start from a model that has heard more music, and train all layers or only the output layer on
#   yours: `musrep train transfer --config.source=export:DIR --config.target=audio_folder:FOLDER`
#   says by how much it helps (`transfer_tpu`).
# - `--config.seeds=0,1,2` shows how much of a difference is luck.
