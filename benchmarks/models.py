"""Speed of every model: parameters, FLOPs, compile time, forward and train steps per second.

    python benchmarks/models.py                               # every model, full size, batch 16
    python benchmarks/models.py --models musicnn,fcn --torch --compile --out /tmp/speed
    python benchmarks/models.py --without pooling             # what one formulation is worth
    python benchmarks/models.py --dtype bfloat16 --torch --compile --jobs 14      # on a GPU
    python benchmarks/models.py --quick                       # does it run at all

A train step is the project's own: `training.step.make_train_step` with Adam on the tagging loss,
batch statistics updated. Its opponents do the same: the architecture in PyTorch
(`benchmarks/torch_models.py`) run eagerly and by `torch.compile`, the public PyTorch code
(`--peer`), our own plain formulation (`--plain`) or ours with one formulation left out
(`--without`). All of them read the waveform; front ends are included.

Opponents run in turn, A B C A B C, and with equal numbers of threads, because the machine may be
shared and slow at times: the ratio of two medians of one run can be trusted, a time can not. On a
CPU PyTorch has a process of its own (`benchmarks/processes.py`). Ratios are the opponent's seconds
over ours: above 1 we are faster. The JSON has every measurement, and CPU seconds beside those of
the clock.

Compiling takes longer than measuring. With `--jobs N`, N models are compiled side by side in
processes of their own and then measured one at a time (`benchmarks/jobs.py`).
"""

import argparse
import contextlib
import gc
import json
import math
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

# So that it runs from a checkout that is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.contestants import Implementation
from benchmarks.jobs import child_environment, lock_measurement, run_jobs
from benchmarks.kernels import slowest_kernels
from benchmarks.lineup import make_implementations

STEPS = ("forward", "train")
MIN_REPEATS = 3
PEAK_TFLOPS = {"H200": 989, "H100": 989, "A100": 312, "L4": 121, "V100": 125, "T4": 65}
"""Dense bfloat16 (V100, T4: float16) peak by device name. Source: NVIDIA's data sheets."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Returns the command line's settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--models", default="", help="names or NAME@BATCH, comma-separated; all if left out")
    add("--batch", type=int, default=16)
    add("--dtype", choices=("float32", "bfloat16"), default="float32")
    add("--steps", default="forward,train", help="forward, train or both")
    add("--repeats", type=int, default=5, help="rounds of measurement, 3 or more")
    add("--min-seconds", type=float, default=0.2, help="of one measurement")
    add("--budget", type=float, default=600, help="seconds per model, after 3 rounds")
    add("--threads", type=int, default=0, help="CPU threads of all opponents; 0 is all")
    add("--torch", action="store_true", help="compare with PyTorch, eager")
    add("--compile", action="store_true", help="compare with torch.compile too")
    add(
        "--kept", action="store_true", help="compare with PyTorch with our settings of the heap too"
    )
    add("--peer", default="", help="a checkout of minzwon/sota-music-tagging-models")
    add("--plain", action="store_true", help="compare with ours without formulations")
    add("--without", default="", help="compare with ours without these formulations")
    add("--peak-tflops", type=float, default=0, help="of the device; 0 looks its name up")
    add("--kernels", type=int, default=0, help="list so many of the slowest kernels of a GPU")
    add("--jobs", type=int, default=0, help="models that are compiled side by side")
    add("--compile-limit", type=float, default=900, help="seconds of a job before measuring")
    add("--limit", type=float, default=math.inf, help="seconds of all jobs")
    add("--out", default="", help="folder for models.json and models.md")
    add("--turn", default="", help=argparse.SUPPRESS)  # folder of a job, see benchmarks/jobs.py
    add("--quick", action="store_true", help="batch 2, 3 short rounds")
    settings = parser.parse_args(arguments)
    if settings.quick:
        settings.batch, settings.repeats, settings.min_seconds = 2, MIN_REPEATS, 0.0
    settings.repeats = max(settings.repeats, MIN_REPEATS)
    settings.steps = tuple(s for s in STEPS if s in settings.steps.split(","))
    return settings


def limit_threads(num_threads: int) -> int:
    """Binds the process to its first cores, before XLA and PyTorch count them.

    Args:
        num_threads: 0 keeps what the process has.

    Returns:
        The number of cores that are used.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if not cores:
        return num_threads or os.cpu_count() or 1
    if num_threads:
        os.sched_setaffinity(0, cores[:num_threads])
    return len(os.sched_getaffinity(0))


def warm_up(contestants: list[Implementation], settings: argparse.Namespace) -> None:
    """Runs every step once: what is compiled by its first run is compiled here."""
    for step in settings.steps:
        for one in contestants:
            before = time.perf_counter()
            one.run[step](1)
            took = time.perf_counter() - before
            one.facts.setdefault("first_seconds", {})[step] = took
            one.release()


def measure(contestants: list[Implementation], settings: argparse.Namespace) -> None:
    """Runs the contestants in turn and keeps the seconds of each, by the clock and of CPU."""
    started = time.perf_counter()
    times: dict[tuple[str, str], int] = {}
    for step in settings.steps:
        for one in contestants:
            one.seconds[step], one.cpu_seconds[step] = [], []
            took = math.inf
            if settings.min_seconds:  # the first run has compiled; this one tells how long
                before = time.perf_counter()
                one.run[step](1)
                took = max(time.perf_counter() - before, 1e-6)
            times[one.name, step] = max(1, math.ceil(settings.min_seconds / took))
    for number in range(settings.repeats):
        if number >= MIN_REPEATS and time.perf_counter() - started > settings.budget:
            break
        for step in settings.steps:
            for one in contestants:
                count = times[one.name, step]
                clock, cpu = time.perf_counter(), one.cpu_clock()
                one.run[step](count)
                took = time.perf_counter() - clock
                one.seconds[step].append(took / count)
                one.cpu_seconds[step].append((one.cpu_clock() - cpu) / count)
    for one in contestants:
        one.facts["peak_bytes"] = {step: one.peak_bytes(step) for step in settings.steps}


def peak_flops(settings: argparse.Namespace) -> float:
    """Returns the peak of the accelerator in FLOP/s, or NaN."""
    import jax

    device = jax.devices()[0]
    if settings.peak_tflops:
        return settings.peak_tflops * 1e12
    known = (v for name, v in PEAK_TFLOPS.items() if name in device.device_kind.split())
    known = known if device.platform == "gpu" and settings.dtype == "bfloat16" else iter(())
    return next(known, math.nan) * 1e12


def summarize(name: str, contestants: list[Implementation], settings: argparse.Namespace) -> dict:
    """Returns the record of one model, plain data."""
    ours = contestants[0]
    record: dict[str, Any] = {"model": name, "batch": settings.batch, **ours.facts, "steps": {}}
    for fact in ("first_seconds", "peak_bytes"):
        record[fact] = {c.name: c.facts[fact] for c in contestants}
    for step in settings.steps:
        mine = statistics.median(ours.seconds[step])
        gflops = ours.facts["forward_gflops_per_example"] * (3 if step == "train" else 1)

        def ratios(reduce: Callable[[list[float]], float], kind: str, step: str = step) -> dict:
            values = {c.name: reduce(getattr(c, kind)[step]) for c in contestants}
            return {n: v / values["ours"] for n, v in values.items() if n != "ours"}

        record["steps"][step] = {
            "examples_per_second": settings.batch / mine,
            "steps_per_second": 1 / mine,
            "seconds": {c.name: c.seconds[step] for c in contestants},
            "cpu_seconds": {c.name: c.cpu_seconds[step] for c in contestants},
            "ratio": ratios(statistics.median, "seconds"),
            "ratio_of_minima": ratios(min, "seconds"),
            "ratio_of_cpu_seconds": ratios(min, "cpu_seconds"),
            "model_flops_utilisation": 1e9 * gflops * settings.batch / mine / peak_flops(settings),
        }
    return record


def markdown_table(records: list[dict], settings: argparse.Namespace) -> str:
    """Returns the records as a Markdown table; ratios of medians (and of minima)."""
    results = [result for record in records for result in record["steps"].values()]
    opponents = list(dict.fromkeys(name for result in results for name in result["ratio"]))
    has_peak = any(not math.isnan(result["model_flops_utilisation"]) for result in results)
    has_batches = len({record["batch"] for record in records}) > 1
    head = ["model", *["batch"] * has_batches, "parameters", "GFLOP / example"]
    head += ["compile s (forward, train)"]
    for step in settings.steps:
        head += [f"{step} examples/s", *(f"{step}: {name} / ours" for name in opponents)]
        head += [f"{step} MFU", f"{step} GB"] * has_peak
        head += [f"{step} GB: {name} / ours" for name in opponents] * has_peak
    rows = []
    for record in records:
        compiled, peaks = record["compile_seconds"], record["peak_bytes"]
        row = [
            record["model"],
            *[str(record["batch"])] * has_batches,
            f"{record['parameters']:,}",
            f"{record['forward_gflops_per_example']:.2f}",
            f"{compiled['forward']:.1f}, {compiled['train']:.1f}",
        ]
        for step, result in ((step, record["steps"][step]) for step in settings.steps):
            row.append(f"{result['examples_per_second']:.1f}")
            for name in opponents:
                known = name in result["ratio"]
                row.append(
                    f"{result['ratio'][name]:.2f} ({result['ratio_of_minima'][name]:.2f})"
                    if known
                    else "-"
                )
            if has_peak:
                mine = peaks["ours"][step]
                row += [f"{result['model_flops_utilisation']:.0%}", f"{mine / 1e9:.2f}"]
                theirs = (peaks.get(name, {}).get(step) for name in opponents)
                row += ["-" if t is None else f"{t / mine:.2f}" for t in theirs]
        rows.append(row)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def run_model(name: str, settings: argparse.Namespace, add: Callable[[dict], None]) -> None:
    """Measures one model when it is its turn.

    Args:
        name: of the model, or NAME@BATCH.
        settings: of the command line.
        add: is called with the record, and again when the kernels are known.
    """
    name, _, batch = name.partition("@")
    settings = argparse.Namespace(**{**vars(settings), "batch": int(batch or settings.batch)})
    contestants = make_implementations(name, settings)
    warm_up(contestants, settings)
    with lock_measurement(settings.turn) if settings.turn else contextlib.nullcontext():
        measure(contestants, settings)
        record = summarize(name, contestants, settings)
        add(record)
        if settings.kernels:
            add({**record, "kernels": slowest_kernels(contestants, settings)})
    for one in contestants:
        one.close()


def write_results(records: list[dict], run: dict, settings: argparse.Namespace) -> str:
    """Writes `models.json` and `models.md` where `--out` says so, and returns the table."""
    table = markdown_table(records, settings)
    if settings.out:
        folder = pathlib.Path(settings.out)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"run": run, "models": records}, indent=1)
        (folder / "models.json").write_text(text, encoding="utf-8")
        (folder / "models.md").write_text(table, encoding="utf-8")
    return table


def main(arguments: list[str] | None = None) -> list[dict]:
    """Runs the benchmark and returns its records."""
    settings = parse_arguments(arguments)
    if settings.jobs:
        os.environ.update(child_environment(settings))  # this process too only looks at the device
    cores = limit_threads(settings.threads * max(settings.jobs, 1))
    import jax

    from musrep_jax.models import MODELS
    from musrep_jax.runtime.heap import retain_freed_memory

    if jax.default_backend() == "cpu":
        retain_freed_memory()  # as our command lines do
    versions = {"jax": jax.__version__}
    if settings.torch or settings.compile or settings.kept or settings.peer:
        import torch

        torch.set_num_threads(cores)
        versions["torch"] = torch.__version__
    device = jax.devices()[0]
    run = {"device": device.device_kind, "cores": cores, "versions": versions}
    run["settings"] = vars(settings)
    print(f"{device.device_kind}, {cores} CPU cores, {versions}, {settings.dtype}", flush=True)
    names = [n for n in settings.models.split(",") if n] or sorted(MODELS)
    records: list[dict] = []

    def add(record: dict) -> None:
        key = (record["model"], record["batch"])
        records[:] = [r for r in records if (r["model"], r["batch"]) != key] + [record]
        records.sort(key=lambda r: (r["model"], r["batch"]))
        print(markdown_table([record], settings).splitlines()[-1], flush=True)
        write_results(records, run, settings)

    if settings.jobs:
        run_jobs(names, settings, add)
    else:
        for name in names:
            run_model(name, settings, add)
            gc.collect()
    table = write_results(records, run, settings)
    print(f"\n{table}")
    return records


if __name__ == "__main__":
    main()
