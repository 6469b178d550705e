"""Speed of the data: random crops per second from every stored form, and decoding.

    python benchmarks/data.py                          # two tables; minutes on two idle cores
    python benchmarks/data.py --forms pcm16,mp3 --ways one_core
    python benchmarks/data.py --quick                  # does it run at all

Crops of 59,049 samples at 16 kHz (3.69 s) are drawn at random places of random tracks of about
30 s: by one core, by threads, as batches made in a thread of the program, and as batches from
worker processes. Nothing is kept in memory between crops. Their opponent is the loader of the
PyTorch originals: a float32 `.npy` for every track, opened with `np.load(path, mmap_mode="r")`, in
a `torch.utils.data.DataLoader` where batches are made (left out without PyTorch). Decoding is
compared with `librosa.load` (left out without librosa).

Opponents run in turn, A B C A B C, because the machine may be shared: a ratio of medians of one
run can be trusted, a speed can not. Ratios are ours over the opponent's: above 1 we are faster.
What one core does is counted in CPU seconds, the rest by the clock. Files come from the page
cache: a disk's own speed is not measured.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import importlib.util
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

# So that it runs from a checkout that is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.audio_stores import ENCODINGS, FORMS, RATE, make_files, open_tracks
from musrep_jax.data import ChunkSpec
from musrep_jax.data.audio.log_mel import FRONT_END
from musrep_jax.data.audio.reading import read_audio
from musrep_jax.data.audio.resampling import resample
from musrep_jax.data.input.pipeline import chunk_length, train_batches
from musrep_jax.data.input.tracks import Tracks

CHUNK = ChunkSpec(RATE, 59049, FRONT_END)
WAYS = ("one_core", "threads", "batches", "workers")
MEMMAP = "memmap"
_BATCHES_TO_DROP = 12
"""Prepared while others had their turn, and so not counted."""
_EPOCH_TRACKS = 8192
"""Tracks are listed over and over up to so many: PyTorch's loader begins every epoch anew, and real
data sets have thousands."""

Run = Callable[[float], tuple[int, float]]
"""Works for so many seconds; returns what was done, and the seconds it took."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Returns the command line's settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--forms", default=",".join(FORMS), help="comma-separated; all if left out")
    add("--ways", default=",".join(WAYS), help="one_core, threads, batches, workers")
    add("--tracks", type=int, default=32)
    add("--seconds", type=float, default=30.0, help="length of a track")
    add("--batch", type=int, default=16)
    add("--workers", type=int, default=2, help="threads, or processes")
    add("--repeats", type=int, default=5, help="rounds of measurement")
    add("--min-seconds", type=float, default=0.3, help="of one measurement")
    add("--folder", default="", help="keep the tracks here for another run")
    add("--out", default="", help="folder for data.json and data.md")
    add("--quick", action="store_true", help="four short tracks, two short rounds")
    settings = parser.parse_args(arguments)
    for name, known in (("forms", FORMS), ("ways", WAYS)):
        chosen = [value for value in getattr(settings, name).split(",") if value]
        unknown = sorted(set(chosen) - set(known))
        if unknown:
            parser.error(f"--{name} has no {unknown[0]!r}; it has {', '.join(known)}.")
        setattr(settings, name, chosen)
    if settings.quick:
        settings.tracks, settings.seconds, settings.batch = 4, 8.0, 2
        settings.repeats, settings.min_seconds = 2, 0.05
    return settings


def measure_interleaved(runs: Mapping[str, Run], settings: argparse.Namespace) -> dict[str, float]:
    """Returns the median speed of each run, per second, in turns."""
    speeds = collections.defaultdict(list)
    for run in runs.values():
        run(0.0)
    for _ in range(settings.repeats):
        for name, run in runs.items():
            count, seconds = run(settings.min_seconds)
            speeds[name].append(count / seconds)
    return {name: statistics.median(values) for name, values in speeds.items()}


def repeat(work: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> Run:
    """Returns a run that does the work over and over, by CPU seconds unless said otherwise."""

    def run(min_seconds: float) -> tuple[int, float]:
        count, started = 0, clock()
        while True:
            work()
            count += 1
            elapsed = clock() - started
            if elapsed >= min_seconds:
                return count, max(elapsed, 1e-9)

    return run


# Random crops.


class MemmapTracks:
    """The loader of the PyTorch originals, as a data set for `DataLoader`.

    Source: `get_npy` in minzwon/sota-music-tagging-models, training/data_loader.
    """

    def __init__(self, folder: pathlib.Path, length: int) -> None:
        """Takes the arrays in a folder and the length of a crop in samples."""
        paths = sorted(folder.glob("*.npy"))
        self.paths = paths * (_EPOCH_TRACKS // len(paths))
        self.length = length

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        track = np.load(self.paths[index], mmap_mode="r")
        start = int(np.floor(np.random.random() * (len(track) - self.length)))
        return np.array(track[start : start + self.length]).astype("float32")


def crop_at_random(tracks: Tracks, rng: np.random.Generator) -> np.ndarray:
    """Returns a random crop of a random track, as a batch of training is made of."""
    index, length = int(rng.integers(len(tracks))), chunk_length(tracks.spec, CHUNK)
    last = max(0, int(tracks.num_samples[index]) - length)
    return tracks.crop(index, int(rng.integers(last + 1)), length)


def crop_runs(
    way: str, tracks: Mapping[str, Tracks], folder: pathlib.Path, settings: argparse.Namespace
) -> dict[str, Run]:
    """Returns a run for every stored form, and for the memmap loader."""
    memmap = MemmapTracks(folder / MEMMAP, CHUNK.num_samples)
    if way in ("batches", "workers"):
        workers = settings.workers if way == "workers" else 0
        iterators: dict[str, Iterator] = {}
        if importlib.util.find_spec("torch"):
            iterators[MEMMAP] = _endless(memmap, settings.batch, workers)
        iterators |= {
            form: train_batches(
                Tracks(of_form.store, np.tile(of_form.rows, _EPOCH_TRACKS // len(of_form))),
                CHUNK,
                batch_size=settings.batch,
                seed=0,
                num_workers=workers,
                as_stored=True,  # as in training
            )
            for form, of_form in tracks.items()
        }
        return {name: _batch_run(batches, settings.batch) for name, batches in iterators.items()}
    rng = np.random.default_rng(0)
    crops = {MEMMAP: lambda: memmap[int(rng.integers(len(memmap)))]}
    crops |= {form: lambda of=of_form: crop_at_random(of, rng) for form, of_form in tracks.items()}
    if way == "one_core":
        return {name: repeat(crop) for name, crop in crops.items()}
    return {name: _thread_run(crop, settings.workers) for name, crop in crops.items()}


def _endless(memmap: MemmapTracks, batch_size: int, workers: int) -> Iterator:
    import torch.utils.data

    # As in its own worker processes; on a busy machine its threads would wait for one another.
    torch.set_num_threads(1)
    loader = torch.utils.data.DataLoader(
        memmap, batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    while True:
        yield from loader


def _batch_run(batches: Iterator, batch_size: int) -> Run:
    def run(min_seconds: float) -> tuple[int, float]:
        for _ in range(_BATCHES_TO_DROP):
            next(batches)
        count, seconds = repeat(lambda: next(batches), time.perf_counter)(min_seconds)
        return count * batch_size, seconds

    return run


def _thread_run(crop: Callable[[], Any], num_threads: int) -> Run:
    def run(min_seconds: float) -> tuple[int, float]:
        with concurrent.futures.ThreadPoolExecutor(num_threads) as pool:
            started = time.perf_counter()
            work = repeat(crop, time.perf_counter)
            done = [pool.submit(work, min_seconds) for _ in range(num_threads)]
            count = sum(future.result()[0] for future in done)
        return count, time.perf_counter() - started

    return run


def measure_crops(
    folder: pathlib.Path, tracks: Mapping[str, Tracks], settings: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Returns way -> name -> crops per second."""
    speeds = {}
    for way in settings.ways:
        print(f"random crops: {way} ...", file=sys.stderr, flush=True)
        speeds[way] = measure_interleaved(crop_runs(way, tracks, folder, settings), settings)
    return speeds


def crops_table(speeds: Mapping[str, Mapping[str, float]], bytes_of: Mapping[str, float]) -> str:
    """Returns the speeds as a Markdown table, with the ratios to the memmap loader."""
    rows = [["form", "kB / track"]]
    for way in speeds:
        rows[0] += [f"{way.replace('_', ' ')}: crops/s", "ours / memmap"]
    for name in bytes_of:
        row = [name, f"{bytes_of[name] / 1000:,.0f}"]
        for of_way in speeds.values():
            speed, opponent = of_way.get(name), of_way.get(MEMMAP)
            row.append(f"{speed:,.0f}" if speed else "-")
            row.append(f"{speed / opponent:.2f}" if opponent and name != MEMMAP else "-")
        rows.append(row)
    return markdown(rows)


# Decoding.


def measure_decoding(
    folder: pathlib.Path, tracks: Mapping[str, Tracks], settings: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Returns encoding -> what -> how often a CPU second.

    `decode` takes a whole file at its own rate, `load` resamples it too, and so does `librosa`;
    `resample` is that alone; crops are of 3.69 s, at random, or at the file's start and end.
    """
    speeds = {}
    for name in (form for form in settings.forms if form in ENCODINGS):
        print(f"decoding: {name} ...", file=sys.stderr, flush=True)
        path = min((folder / "files" / name).iterdir())
        of_form, rng = tracks[name], np.random.default_rng(0)
        audio, rate = read_audio(path)
        last = int(of_form.num_samples[0]) - CHUNK.num_samples
        runs = {
            "load": repeat(lambda path=path: read_audio(path, sample_rate=RATE)),
            "decode": repeat(lambda path=path: read_audio(path)),
            "crop": repeat(lambda of=of_form, rng=rng: crop_at_random(of, rng)),
            "crop at start": repeat(lambda of=of_form: of.crop(0, 0, CHUNK.num_samples)),
            "crop at end": repeat(
                lambda of=of_form, last=last: of.crop(0, last, CHUNK.num_samples)
            ),
        }
        if rate != RATE:
            runs["resample"] = repeat(lambda audio=audio, rate=rate: resample(audio, rate, RATE))
        if importlib.util.find_spec("librosa"):
            import librosa

            runs["librosa"] = repeat(lambda path=path: librosa.load(path, sr=RATE))
        speeds[name] = {"seconds": len(audio) / rate, **measure_interleaved(runs, settings)}
    return speeds


def decoding_table(speeds: Mapping[str, Mapping[str, float]]) -> str:
    """Returns the speeds as a Markdown table: multiples of real time, milliseconds and ratios."""
    head = ["form", "decode", "resample", "both", "librosa.load", "ours / librosa"]
    head += ["whole file ms", "crop ms: random", "at start", "at end", "whole / crop"]
    rows = [head]
    for name, of_form in speeds.items():
        seconds = of_form["seconds"]
        row = [name]
        for what in ("decode", "resample", "load", "librosa"):
            row.append(f"{seconds * of_form[what]:,.0f}" if what in of_form else "-")
        ratio = of_form["load"] / of_form["librosa"] if "librosa" in of_form else None
        row.append(f"{ratio:.2f}" if ratio else "-")
        for what in ("load", "crop", "crop at start", "crop at end"):
            row.append(f"{1000 / of_form[what]:.2f}")
        rows.append([*row, f"{of_form['crop'] / of_form['load']:.1f}"])
    return markdown(rows)


def markdown(rows: list[list[str]]) -> str:
    """Returns rows as a Markdown table; the first is its head."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs the benchmark and returns what it measured."""
    settings = parse_arguments(arguments)
    with contextlib.ExitStack() as stack:
        temporary = settings.folder or stack.enter_context(tempfile.TemporaryDirectory())
        folder = pathlib.Path(temporary).expanduser()
        print(f"{settings.tracks} tracks in {folder} ...", file=sys.stderr, flush=True)
        with contextlib.redirect_stdout(sys.stderr):
            make_files(folder, settings.tracks, settings.seconds)
            tracks = {form: open_tracks(folder, form) for form in settings.forms}
        bytes_of = {MEMMAP: _mean_size(folder / MEMMAP)}
        for form, of_form in tracks.items():
            bytes_of[form] = _mean_size(of_form.store.directory, "*.array_record*", len(of_form))
        crops = measure_crops(folder, tracks, settings)
        decoding = measure_decoding(folder, tracks, settings)
    tables = crops_table(crops, bytes_of)
    tables += "\n" + decoding_table(decoding) if decoding else ""
    print(f"{len(os.sched_getaffinity(0))} CPU cores, {settings.workers} workers\n\n{tables}")
    record = {"settings": vars(settings), "crops": crops, "decoding": decoding}
    if settings.out:
        out = pathlib.Path(settings.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "data.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        (out / "data.md").write_text(tables, encoding="utf-8")
    return record


def _mean_size(folder: pathlib.Path, pattern: str = "*", count: int | None = None) -> float:
    sizes = [path.stat().st_size for path in folder.glob(pattern)]
    return sum(sizes) / (count or len(sizes))


if __name__ == "__main__":
    main()
