"""The PyTorch side of `benchmarks/transfer_vs_torch.py`: transfer in the manner of the originals.

    python benchmarks/torch_transfer.py PLAN.json OUT.json

It does what the public code of the cross-cultural study does, written anew: log-mel spectrograms of
all tracks are computed once and kept as float32 `.npy`; a `Dataset` opens a track's array as a
memory map and cuts a random crop, a `DataLoader` makes batches; the model is run eagerly, with
sigmoid, binary cross-entropy and Adam; the best weights are written to a file; tests take one track
at a time, the batch being its chunks. When only the output layer trains, the whole network runs in
training mode in every step, and no gradient is taken for its frozen part.

A line `phase NAME` is printed whenever something else begins.

Source: Papaioannou, Benetos, Potamianos, ISMIR 2023; public code pxaris/ccml (loaders, loop) and
minzwon/sota-music-tagging-models (crops from memory maps).
"""

import copy
import csv
import json
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import librosa
import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

SILENCE_DB = -100.0


def begin(phase: str) -> None:
    """Says what begins now."""
    print(f"phase {phase}", flush=True)


begin("not counted")  # The layers of the opponents import JAX, which the originals do not.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.torch_layers import LogMelImage  # noqa: E402 - timed by itself
from benchmarks.torch_models import TORCH_MODELS  # noqa: E402
from musrep_jax.models import create_model  # noqa: E402

begin("start-up")


class Split:
    """The tracks of one split of a folder.

    Attributes:
        paths: of the spectrograms.
        labels: float32 (tracks, classes).
    """

    def __init__(self, rows: list[dict[str, str]], names: list[str], folder: pathlib.Path) -> None:
        self.paths = [folder / f"{pathlib.Path(row['path']).stem}.npy" for row in rows]
        held = [row["labels"].split(",") for row in rows]
        self.labels = np.array([[name in own for name in names] for own in held], np.float32)

    def subset(self, num_tracks: int) -> "Split":
        """Returns a split of so many tracks, drawn at random; 0 is all of them."""
        if not num_tracks:
            return self
        drawn = np.random.permutation(len(self.paths))[:num_tracks]
        part = copy.copy(self)
        part.paths, part.labels = [self.paths[i] for i in drawn], self.labels[drawn]
        return part


def read_table(folder: pathlib.Path) -> list[dict[str, str]]:
    """Returns the rows of a folder's `labels.tsv`."""
    with open(folder / "labels.tsv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@torch.no_grad()
def write_spectrograms(folder: pathlib.Path, out: pathlib.Path, log_mel: Any) -> None:
    """Decodes every recording of a folder and writes its log-mel spectrogram, (mels, frames)."""
    front_end = LogMelImage(log_mel, norm=False)
    out.mkdir(parents=True)
    for row in read_table(folder):
        audio, _ = librosa.load(folder / row["path"], sr=log_mel.sample_rate, mono=True)
        image = front_end(torch.from_numpy(audio)[None])[0, 0]
        np.save(out / f"{pathlib.Path(row['path']).stem}.npy", image.numpy())


def open_splits(folder: pathlib.Path, spectrograms: pathlib.Path) -> dict[str, Split]:
    """Returns the splits of a folder; the label set is that of the whole table."""
    rows = read_table(folder)
    names = sorted({name for row in rows for name in row["labels"].split(",") if name})
    return {
        split: Split([row for row in rows if row["split"] == split], names, spectrograms)
        for split in ("train", "validation", "test")
    }


def padded(mel: np.ndarray, length: int) -> np.ndarray:
    """Returns an image (mels, length), padded at its end where the track is over."""
    missing = length - mel.shape[1]
    return np.pad(mel, ((0, 0), (0, missing)), constant_values=SILENCE_DB) if missing > 0 else mel


class RandomCrops(Dataset):
    """A random crop of a track at every visit."""

    def __init__(self, split: Split, length: int) -> None:
        self.split, self.length = split, length

    def __len__(self) -> int:
        return len(self.split.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        mel = np.load(self.split.paths[index], mmap_mode="r")
        start = int(np.random.random() * max(mel.shape[1] - self.length, 0))
        crop = np.array(mel[:, start : start + self.length], np.float32)
        return padded(crop, self.length)[None], self.split.labels[index]


class Epochs(Sampler):
    """Track indices for so many batches, shuffled anew in each epoch; a batch may span two.

    One pass over it is the whole training, so that workers are started once.
    """

    def __init__(self, num_tracks: int, num_examples: int) -> None:
        self.num_tracks, self.num_examples = num_tracks, num_examples

    def __len__(self) -> int:
        return self.num_examples

    def __iter__(self) -> Iterator[int]:
        epochs = -(-self.num_examples // self.num_tracks)
        order = torch.cat([torch.randperm(self.num_tracks) for _ in range(epochs)])
        return iter(order[: self.num_examples].tolist())


def iter_track_chunks(path: pathlib.Path, length: int) -> np.ndarray:
    """Returns the consecutive chunks of a track, the last one shifted to end with it."""
    mel = padded(np.load(path, mmap_mode="r"), length)
    last = mel.shape[1] - length
    starts = list(range(0, last + 1, length))
    starts += [last] if starts[-1] < last else []
    return np.stack([mel[:, s : s + length] for s in starts])[:, None]


@torch.no_grad()
def score(model: nn.Module, split: Split, length: int, batch_size: int | None) -> dict[str, Any]:
    """Returns macro ROC-AUC and PR-AUC of mean probabilities over the chunks of each track.

    Args:
        model: image -> logits.
        split: to score.
        length: of a chunk, in frames.
        batch_size: chunks per batch; None for one track at a time.
    """
    model.eval()
    chunks = [iter_track_chunks(path, length) for path in split.paths]
    owner = np.repeat(np.arange(len(chunks)), [len(part) for part in chunks])
    if batch_size is not None:
        joined = np.concatenate(chunks)
        chunks = [joined[i : i + batch_size] for i in range(0, len(joined), batch_size)]
    found = [torch.sigmoid(model(torch.from_numpy(part))).numpy() for part in chunks]
    found = np.concatenate(found)
    sums = np.zeros(split.labels.shape)
    np.add.at(sums, owner, found)
    scores = sums / np.bincount(owner)[:, None]
    used = split.labels.any(axis=0) & ~split.labels.all(axis=0)
    truth, scores = split.labels[:, used], scores[:, used]
    return {
        "roc_auc": float(roc_auc_score(truth, scores, average="macro")),
        "pr_auc": float(average_precision_score(truth, scores, average="macro")),
        "num_chunks": len(owner),
    }


def make_model(plan: Mapping[str, Any], num_classes: int) -> nn.Module:
    """Returns the model without its front end, image (batch, 1, mels, frames) -> logits."""
    ours = create_model(plan["model"], num_classes, plan["model_settings"])
    model = TORCH_MODELS[plan["model"]](ours)
    if not isinstance(model, nn.Sequential) or not isinstance(model[0], LogMelImage):
        raise SystemExit(f"{plan['model']} does not begin with a log-mel spectrogram of its own.")
    model[0] = model[0].norm
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = ours.dropout_rate
    return model


def get_output_layer(model: nn.Module) -> nn.Linear:
    """Returns the output layer."""
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]


def run_cell(
    cell: Mapping[str, Any], plan: Mapping[str, Any], splits: Mapping[str, Split], out: pathlib.Path
) -> dict[str, Any]:
    """Trains and tests one cell, as the originals do.

    Args:
        cell: `key`, `mode`, `source` (key of a cell, or None), `num_steps`, `evaluate_every`,
            `num_train_tracks` (0 is all).
        plan: what all cells share.
        splits: of the target.
        out: folder of the best weights.
    """
    torch.manual_seed(0)
    np.random.seed(0)
    length, size = plan["num_frames"], plan["batch_size"]
    model = make_model(plan, splits["train"].labels.shape[1])
    if cell["source"] is not None:
        head = {id(parameter) for parameter in get_output_layer(model).parameters()}
        fresh = {name for name, parameter in model.named_parameters() if id(parameter) in head}
        weights = torch.load(out / f"{cell['source']}.pt")
        kept = {name: value for name, value in weights.items() if name not in fresh}
        model.load_state_dict(kept, strict=False)
    if cell["mode"] == "output_layer":
        model.requires_grad_(False)
        get_output_layer(model).requires_grad_(True)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=plan["learning_rate"], weight_decay=plan["weight_decay"]
    )
    crops = RandomCrops(splits["train"].subset(cell["num_train_tracks"]), length)
    loader = DataLoader(
        crops,
        batch_size=size,
        sampler=Epochs(len(crops), cell["num_steps"] * size),
        num_workers=plan["num_workers"],
    )
    best, spent = -1.0, 0.0
    model.train()
    for step, (images, labels) in enumerate(loader, start=1):
        loss = F.binary_cross_entropy(torch.sigmoid(model(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % cell["evaluate_every"] == 0 or step == cell["num_steps"]:
            started = time.perf_counter()
            reached = score(model, splits["validation"], length, size)["roc_auc"]
            if reached > best:
                best = reached
                torch.save(model.state_dict(), out / f"{cell['key']}.pt")
            model.train()
            spent += time.perf_counter() - started
    started = time.perf_counter()
    model.load_state_dict(torch.load(out / f"{cell['key']}.pt"))
    reached = score(model, splits["test"], length, None)
    return {
        **reached,
        "num_params": sum(parameter.numel() for parameter in model.parameters()),
        "evaluation_seconds": spent + time.perf_counter() - started,
    }


def main(plan_file: str, out_file: str) -> None:
    """Runs the cells of a plan and writes their results."""
    plan = json.loads(pathlib.Path(plan_file).read_text(encoding="utf-8"))
    if plan["num_threads"]:
        torch.set_num_threads(plan["num_threads"])
    work = pathlib.Path(plan["work"])
    out = work / "weights"
    out.mkdir(parents=True)
    log_mel = create_model(plan["model"], 1, plan["model_settings"]).log_mel
    results, splits = {}, {}
    for cell in plan["cells"]:
        folder = pathlib.Path(cell["folder"])
        if folder not in splits:
            begin("data preparation")
            write_spectrograms(folder, work / "spectrograms" / folder.name, log_mel)
            splits[folder] = open_splits(folder, work / "spectrograms" / folder.name)
        begin(cell["phase"])
        results[cell["key"]] = run_cell(cell, plan, splits[folder], out)
        print(f"{cell['key']}: {results[cell['key']]}", flush=True)
    pathlib.Path(out_file).write_text(json.dumps({"cells": results}), encoding="utf-8")
    begin("not counted")  # JAX takes its time to leave, too


if __name__ == "__main__":
    main(*sys.argv[1:])
