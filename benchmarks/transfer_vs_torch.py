"""One transfer experiment, end to end, done by us and in the manner of the PyTorch originals.

    python benchmarks/transfer_vs_torch.py                       # about 25 minutes on two cores
    python benchmarks/transfer_vs_torch.py --targets makam --train-tracks all      # about 6
    python benchmarks/transfer_vs_torch.py --quick               # does it run at all

The experiment is that of `configs/transfer.py:full` with 100 steps, whole: 25 cells. Both sides
start from the same folders of mp3 files with labels and splits, and do the same: train on the
source, then on every target, at 10 and at all labeled tracks, from scratch, with the output layer
and with all layers of the source's model trained; validate, keep the best weights, test by chunks.
Architecture, batch size, rates, validations and chunks are those of the config.

- ours: `python main.py --config=configs/transfer.py:full --config.source=... --config.target=...`
  as a user runs it, in a process of its own: start-up, building the data sets, compilation,
  exports, bootstrap intervals, tables and figures included. The first run has no compiled programs
  yet ("cold"), the later ones find them ("warm"); data sets are built anew in every run.
- torch: `benchmarks/torch_transfer.py`, whose head says what it does. What the originals do not
  need, the import of JAX by our test bench, is not counted.

The sides run in turn: ours cold, torch, ours, torch, ours, ... Ratios are PyTorch's seconds over
ours: above 1 we are faster. CPU seconds are those of all threads and processes of a side.

PyTorch's threads wait for each other by spinning. Where other programs want the cores too, that
costs it several times its seconds, and such a run proves nothing: take `--threads 1` there, and
compare CPU seconds.

More settings of ours are given as they are to main.py: `--config.train.num_steps=50`; the PyTorch
side takes the same steps, rates and sizes.
"""

import argparse
import csv
import json
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

# So that it runs from a checkout that is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from musrep_jax.tfds_builders.synthetic_cultures.synthesis import make_corpus

from benchmarks.phases import PHASES, REPOSITORY, Run, time_phases
from musrep_jax.config import given, parse_command_line
from musrep_jax.data.datasets import open_dataset
from musrep_jax.data.input.pipeline import make_chunk_table
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.settings import (
    build_model,
    make_chunk_spec,
    model_deviations,
    settings_of_job,
)
from musrep_jax.tasks.tagging.matrix import jobs_of_config
from musrep_jax.training.logs import read_rows

RATE = 16000
"""Of the mp3 files, in Hz: that of MagnaTagATune."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Returns the command line's settings; what is not known here goes to main.py."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--source", default="western", help="a synthetic tradition")
    add("--targets", default="greek,makam,hindustani,carnatic", help="comma-separated")
    add("--train-tracks", default="10,all", help="numbers of labelled tracks of a target")
    add("--tracks", type=int, default=192, help="of each tradition")
    add("--seconds", type=float, default=8.0, help="length of a track, about")
    add("--workers", type=int, default=0, help="processes of PyTorch's DataLoader")
    add("--threads", type=int, default=0, help="of PyTorch; 0: its own choice, one per core")
    add(
        "--rounds", type=int, default=1, help="runs of PyTorch, and warm runs of ours; 0: cold only"
    )
    add("--folder", default="", help="keep the tracks here for another run")
    add("--out", default="", help="folder for transfer_vs_torch.json and .md")
    add("--quick", action="store_true", help="two steps, 24 short tracks, no warm run")
    settings, settings.flags = parser.parse_known_args(arguments)
    wrong = [word for word in settings.flags if not word.startswith("--config.")]
    if wrong:
        parser.error(f"{wrong[0]!r} is no setting here, nor one of main.py (--config.FIELD=VALUE).")
    if settings.quick:
        settings.tracks, settings.seconds, settings.rounds = 24, 4.0, 0
        settings.targets, settings.train_tracks = settings.targets.split(",")[0], "8,all"
        settings.flags += [
            "--config.model.n_channels=4",
            "--config.transfer.modes=output_layer",
            "--config.train.num_steps=2",
            "--config.train.evaluate_every_steps=2",
            "--config.evaluation.num_bootstrap=20",
        ]
    settings.flags.append("--config.evaluation.baseline=False")  # which PyTorch's side has not
    return settings


def write_folder(name: str, folder: pathlib.Path, settings: argparse.Namespace) -> pathlib.Path:
    """Writes a tradition as recordings, unless they stand already, and a table."""
    import soundfile

    home = folder / f"{settings.tracks}x{settings.seconds:g}s" / name
    home.mkdir(parents=True, exist_ok=True)
    corpus = make_corpus(
        name, num_tracks=settings.tracks, seconds=settings.seconds, sample_rate=RATE
    )
    for track in corpus.tracks:
        path = home / f"{track.number:05d}.mp3"
        if not path.is_file():
            temporary = path.with_suffix(".part")
            soundfile.write(temporary, corpus.render(track), RATE, format="MP3")
            temporary.replace(path)
    with open(home / "labels.tsv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(["path", "labels", "group", "split"])
        for track in corpus.tracks:
            labels = ",".join(track.labels)
            row = [f"{track.number:05d}.mp3", labels, track.group, track.split]
            writer.writerow(row)
    return home


def get_cell_phase(job: Job, source: str) -> str:
    """Returns the phase of a job."""
    return "source" if job["target"] == source else job["mode"]


def run_ours(flags: Sequence[str], jobs: Sequence[Job], source: str, work: pathlib.Path) -> Run:
    """Runs main.py in a new workdir; the data sets are built anew, compiled programs are kept."""
    shutil.rmtree(work / "data" / "audio_folder", ignore_errors=True)
    shutil.rmtree(work / "ours", ignore_errors=True)
    modes = [get_cell_phase(job, source) for job in jobs]
    tail = 0.0  # of a cell, after its last step: a validation and the test
    last_step = None

    def detect_phase(phase: str, line: str) -> str:
        nonlocal tail, last_step
        if line.startswith("building "):
            return "data preparation"
        if line.startswith(("musrep_jax ", "built ")):
            return modes[0]
        if " step " in line and not line.startswith("["):
            last_step = time.perf_counter()
        if line.startswith("["):  # a cell is done
            now = time.perf_counter()
            tail += now - (last_step or now)
            del modes[0]
            return modes[0] if modes else "tables"
        return phase

    command = [sys.executable, "main.py", *flags, f"--workdir={work / 'ours'}"]
    run = time_phases(command, detect_phase)
    results = json.loads((work / "ours/results.json").read_text(encoding="utf-8"))["cells"]
    by_cell = {(r["source"], r["target"], r["mode"], r["num_train_tracks"]): r for r in results}
    run.evaluation = tail
    for job in jobs:
        result = by_cell[job["source"], job["target"], job["mode"], job["num_train_tracks"]]
        if result["error"]:
            raise SystemExit(f"{job.key} failed: {result['error']}")
        run.results[job.key] = {name: result[name] for name in ("roc_auc", "pr_auc", "num_params")}
        rows = read_rows(work / "ours/cells" / job.key / "metrics.jsonl")
        validations = [row["seconds"] for row in rows if row["kind"] == "validation"]
        run.evaluation += sum(validations[:-1])
    return run


def run_torch(plan: Mapping[str, Any], work: pathlib.Path) -> Run:
    """Runs the PyTorch side."""
    shutil.rmtree(work / "torch", ignore_errors=True)
    (work / "torch").mkdir()
    files = [work / "torch" / name for name in ("plan.json", "out.json")]
    files[0].write_text(json.dumps({**plan, "work": str(work / "torch")}), encoding="utf-8")

    def detect_phase(phase: str, line: str) -> str:
        return line.removeprefix("phase ").strip() if line.startswith("phase ") else phase

    program = str(REPOSITORY / "benchmarks/torch_transfer.py")
    run = time_phases([sys.executable, program, *map(str, files)], detect_phase)
    report = json.loads(files[1].read_text(encoding="utf-8"))
    run.results = report["cells"]
    run.evaluation = sum(result["evaluation_seconds"] for result in run.results.values())
    return run


def make_plan(
    config: Any, jobs: Sequence[Job], source: str, ours: argparse.Namespace
) -> dict[str, Any]:
    """Returns what the PyTorch side needs to know, from the settings of our jobs."""
    planned = []
    for job in jobs:
        settings = settings_of_job(config, job)
        planned.append(
            {
                "key": job.key,
                "phase": get_cell_phase(job, source),
                "mode": job["mode"],
                "source": job.needs[0] if job.needs else None,
                "num_train_tracks": job["num_train_tracks"],
                "folder": job["target"].partition(":")[2],
                "num_steps": settings.train.num_steps,
                "evaluate_every": settings.train.evaluate_every_steps,
            }
        )
    optimizer = given(settings.optimizer)
    if set(optimizer) != {"name", "learning_rate", "weight_decay"} or optimizer["name"] != "adam":
        raise SystemExit(f"The PyTorch side has plain Adam only, and was asked for {optimizer}.")
    return {
        "cells": planned,
        "model": settings.model.name,
        "model_settings": model_deviations(settings),
        "num_frames": make_chunk_spec(build_model(settings, 1)).num_frames,
        "batch_size": settings.train.batch_size,
        "learning_rate": optimizer["learning_rate"],
        "weight_decay": optimizer["weight_decay"],
        "num_workers": ours.workers,
        "num_threads": ours.threads,
    }


def count_chunks(config: Any, job: Job) -> int:
    """Returns how many chunks of the test tracks we score."""
    settings = settings_of_job(config, job)
    data_dir, seed = config.data.data_dir, config.data.seed
    dataset = open_dataset(job["target"], data_dir=data_dir, sample_rate=RATE, seed=seed)
    chunk, evaluation = make_chunk_spec(build_model(settings, 1)), settings.evaluation
    tracks = dataset.tracks("test")
    return len(
        make_chunk_table(tracks, chunk, num_chunks=evaluation.num_chunks, tail=evaluation.tail)
    )


def summarize(cold: Run, warm: Sequence[Run], torch: Sequence[Run]) -> dict[str, Any]:
    """Returns the figures of all runs, medians over rounds."""

    def middle(values: list[float]) -> float:
        return statistics.median(values) if values else float("nan")

    record: dict[str, Any] = {"phases": {}, "ratio": {}}
    rows = {phase: lambda run, kind, phase=phase: getattr(run, kind)[phase] for phase in PHASES}
    rows["all"] = Run.total
    rows["evaluation (within the modes)"] = lambda run, kind: (
        run.evaluation if kind == "wall" else float("nan")
    )
    for name, of in rows.items():
        record["phases"][name] = {
            kind: {
                "cold": of(cold, kind),
                "warm": middle([of(run, kind) for run in warm]),
                "torch": middle([of(run, kind) for run in torch]),
            }
            for kind in ("wall", "cpu")
        }
    for kind in ("wall", "cpu"):
        found = record["phases"]["all"][kind]
        record["ratio"][kind] = {s: found["torch"] / found[s] for s in ("cold", "warm")}
    sides = {"ours": [cold, *warm], "torch": list(torch)}
    record["roc_auc"] = {
        key: {side: [run.results[key]["roc_auc"] for run in runs] for side, runs in sides.items()}
        for key in cold.results
    }
    record["runs"] = {
        side: [{"wall": run.wall, "cpu": run.cpu, "evaluation": run.evaluation} for run in runs]
        for side, runs in sides.items()
    }
    return record


def markdown_tables(record: Mapping[str, Any]) -> str:
    """Returns the figures as two Markdown tables."""
    lines = [
        "| phase | ours cold s (CPU s) | ours warm s (CPU s) | torch s (CPU s) "
        "| torch / ours warm, clock | torch / ours warm, CPU |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in record["phases"].items():
        wall, cpu = found["wall"], found["cpu"]
        cells = [f"{wall[s]:.1f} ({cpu[s]:.1f})" for s in ("cold", "warm", "torch")]
        for kind in (wall, cpu):
            cells.append(f"{kind['torch'] / kind['warm']:.2f}" if kind["warm"] >= 0.05 else "-")
        lines.append(
            "| " + " | ".join([name, *cells]).replace("(nan)", "").replace("nan", "-") + " |"
        )
    lines += ["", "| cell | ROC-AUC ours | ROC-AUC torch |", "|---|---|---|"]
    for key, found in record["roc_auc"].items():
        ours, torch = (", ".join(f"{v:.3f}" for v in found[side]) for side in ("ours", "torch"))
        lines.append(f"| {key} | {ours} | {torch} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Runs the benchmark and returns its record."""
    settings = parse_arguments(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        work = pathlib.Path(scratch)
        tracks = pathlib.Path(settings.folder).absolute() if settings.folder else work / "tracks"
        names = [settings.source, *settings.targets.split(",")]
        print(f"writing {settings.tracks} tracks of {', '.join(names)}", flush=True)
        source, *targets = (
            f"audio_folder:{write_folder(name, tracks, settings)}" for name in names
        )
        flags = [
            f"--config={REPOSITORY / 'configs/transfer.py'}:full",
            *(
                f"--config.for_mode.{mode}.train.{field}"
                for mode in ("scratch", "all_layers")
                for field in ("num_steps=100", "evaluate_every_steps=20")
            ),
            f"--config.source={source}",
            f"--config.target={','.join(targets)}",
            f"--config.num_train_tracks={settings.train_tracks}",
            f"--config.data.data_dir={work / 'data'}",
            *settings.flags,
        ]
        config, _ = parse_command_line(["main.py", *flags])
        jobs = jobs_of_config(config)
        plan = make_plan(config, jobs, source, settings)
        ours, torch = [], []
        for number in range(max(2 * settings.rounds + 1, 2)):
            if number % 2:
                side, run = "torch", run_torch(plan, work)
                torch.append(run)
            else:
                side, run = "ours", run_ours(flags, jobs, source, work)
                ours.append(run)
                chunks = {job.key: count_chunks(config, job) for job in jobs}
            took, used = run.total("wall"), run.total("cpu")
            print(f"{side}: {took:.1f} s by the clock, {used:.1f} s of CPU time", flush=True)
    record = summarize(ours[0], ours[1:], torch)
    record["chunks"] = {
        "ours": chunks,
        "torch": {key: result["num_chunks"] for key, result in torch[0].results.items()},
    }
    record["parameters"] = {
        side: {key: result["num_params"] for key, result in run.results.items()}
        for side, run in (("ours", ours[0]), ("torch", torch[0]))
    }
    record["settings"] = {**vars(settings), "cores": os.cpu_count(), "plan": plan}
    tables = markdown_tables(record)
    print(f"\n{tables}")
    for kind, name in (("wall", "by the clock"), ("cpu", "in CPU seconds")):
        ratio = record["ratio"][kind]
        print(f"torch / ours {name}: {ratio['warm']:.2f} warm, {ratio['cold']:.2f} cold")
    if settings.out:
        folder = pathlib.Path(settings.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "transfer_vs_torch.json").write_text(json.dumps(record, indent=1), "utf-8")
        (folder / "transfer_vs_torch.md").write_text(tables, "utf-8")
    return record


if __name__ == "__main__":
    main()
