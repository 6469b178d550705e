"""The largest batch of every model, forward and in a train step, that fits into a device's memory.

    python benchmarks/memory.py                               # every model, the device's own limit
    python benchmarks/memory.py --gigabytes 2 --models vgg_ish,spectrogram_transformer --out DIR
    python benchmarks/memory.py --quick                       # does it run at all

Steps are compiled for one batch size after the other, and what XLA plans for each is compared with
the limit: arguments, results that take no argument's place, and temporary memory. Nothing is run
for that. Then the largest batch is run once, in the same process, and what it takes for real is
printed beside the plan: on a CPU by how much the resident memory grows, on an accelerator the
device's own count. On a CPU that has swap or other users, choose `--gigabytes` below what is free.

A train step is the project's own: `training.step.make_train_step` with Adam on the tagging loss,
from the waveform on. All models are tried in float32 and bfloat16, and those that have the setting
with `remat` (activations are computed again in the backward pass) and without. A CPU computes
bfloat16 in float32: its figures say nothing of accelerators.

Every search runs in a process of its own, so that none finds memory that another has left.
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

# So that it runs from a checkout that is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.resident import peak_growth

STEPS = ("forward", "train")
DTYPES = ("float32", "bfloat16")
REMATS = ("no", "yes")
NUM_CLASSES = 50
GIGABYTE = 1e9
PLAN_ONLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Of XLA's CPU compiler: memory is planned before machine code is made, which need not be good."""
TOLERANCE = 0.02
"""A batch so much larger than the one found does not fit, or one that is larger by one example."""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Returns the command line's settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--models", default="", help="names, comma-separated; all if left out")
    add("--gigabytes", type=float, default=0, help="the limit, in 1e9 bytes; 0: the device's own")
    add("--steps", default=",".join(STEPS), help="forward, train or both")
    add("--dtypes", default=",".join(DTYPES), help="float32, bfloat16 or both")
    add("--remat", default=",".join(REMATS), help="no, yes or both, of models that have it")
    add("--no-run", action="store_true", help="plan only, do not run the largest batch")
    add("--out", default="", help="folder for memory.json and memory.md")
    add("--quick", action="store_true", help="one compact model, 0.1 GB, forward")
    add("--one", default="", help=argparse.SUPPRESS)  # a search, for a process of its own
    settings = parser.parse_args(arguments)
    if settings.quick:
        settings.models, settings.gigabytes = "vgg_ish", 0.1
        settings.steps, settings.dtypes = "forward", "float32"
    for name, known in (("steps", STEPS), ("dtypes", DTYPES), ("remat", REMATS)):
        chosen = getattr(settings, name).split(",")
        unknown = sorted(set(chosen) - set(known))
        if unknown:
            parser.error(f"--{name} has no {unknown[0]!r}; it has {', '.join(known)}.")
        setattr(settings, name, chosen)
    return settings


def largest_batch(bytes_of: Callable[[int], int], limit: float) -> tuple[int, dict[int, int]]:
    """Returns the largest batch whose memory stays within the limit, and all that was tried.

    Memory grows nearly in a line with the batch: two small batches give the line, the batch at
    which it meets the limit is tried, then one just above; what is wrong about the line is
    corrected between the two nearest batches that were tried.

    Args:
        bytes_of: batch -> bytes.
        limit: in bytes.

    Returns:
        The batch, 0 if not even one example fits; and batch -> bytes.

    Example:
        >>> largest_batch(lambda batch: 10 + 3 * batch, 100)[0]
        30
    """
    tried: dict[int, int] = {}

    def fits(batch: int) -> bool:
        tried[batch] = bytes_of(batch)
        return tried[batch] <= limit

    if not fits(1):
        return 0, tried
    low, high = (8, None) if fits(8) else (1, 8)
    while high is None or high - low > max(1, int(TOLERANCE * low)):
        step = max(1, int(TOLERANCE * low))
        first, second = sorted(tried, key=lambda batch: abs(tried[batch] - limit))[:2]
        slope = max((tried[second] - tried[first]) / (second - first), 1e-9)
        guess = int(low + (limit - tried[low]) / slope)
        if high is None:
            candidate = guess if guess > low else low + step
        else:
            candidate = min(max(guess, low + step), high - 1)
            if high - low > 4 * step and candidate in (low + step, high - 1):
                candidate = (low + high) // 2  # the line does not hold here
        if fits(candidate):
            low = candidate
        else:
            high = candidate
    return low, tried


def search(name: str, step: str, fields: dict[str, Any], settings: argparse.Namespace) -> dict:
    """Returns the largest batch of one model and step, planned and run.

    Args:
        name: of the model.
        step: "forward" or "train".
        fields: of the model, that differ from its defaults.
        settings: of the command line.
    """
    import jax
    import numpy as np

    from musrep_jax.losses import make_tagging_loss
    from musrep_jax.models import create_model
    from musrep_jax.tasks.binding import make_apply
    from musrep_jax.training.optim import make_optimizer
    from musrep_jax.training.step import create_state, make_train_step

    model = create_model(name, NUM_CLASSES, fields)
    key, tx = jax.random.key(0), make_optimizer({"name": "adam"}, steps_per_epoch=1).tx

    def make_variables() -> Any:
        return model.init(key, np.zeros((1, model.num_samples), np.float32), train=False)

    def make_state() -> Any:
        return create_state(make_variables(), tx)

    def make_batch(batch: int) -> dict[str, Any]:
        noise = np.random.default_rng(0).standard_normal((1, model.num_samples), np.float32)
        labels = np.zeros((batch, NUM_CLASSES), np.float32)
        return {"audio": np.repeat(0.1 * noise, batch, axis=0), "labels": labels}

    def shapes_of(batch: int) -> dict[str, Any]:
        sizes = {"audio": (batch, model.num_samples), "labels": (batch, NUM_CLASSES)}
        return {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in sizes.items()}

    train_step = make_train_step(make_tagging_loss(make_apply(model, "update")), tx)
    forward = jax.jit(lambda variables, audio: model.apply(variables, audio, train=False).logits)
    device = jax.local_devices()[0]

    given = jax.eval_shape(make_state if step == "train" else make_variables)

    def lower(batch: int) -> Any:
        inputs = shapes_of(batch)
        if step == "train":
            return train_step.lower(given, inputs, key)
        return forward.lower(given, inputs["audio"])

    def bytes_of(batch: int) -> int:
        options = PLAN_ONLY if device.platform == "cpu" else {}
        return planned_bytes(lower(batch).compile(compiler_options=options))

    limit = settings.gigabytes * GIGABYTE or device_limit(device)
    batch, tried = largest_batch(bytes_of, limit)
    record = {
        "model": name,
        "step": step,
        "dtype": fields.get("dtype", "float32"),
        "remat": fields.get("remat"),
        "device": device.device_kind,
        "limit": limit,
        "batch": batch,
        "planned": tried.get(batch, tried[1]),
        "tried": tried,
        "measured": None,
    }
    if batch and not settings.no_run:
        first = jax.jit(make_state if step == "train" else make_variables)()
        inputs = jax.device_put(make_batch(batch))
        second = (inputs, key) if step == "train" else (inputs["audio"],)
        jax.block_until_ready((first, inputs))
        program = lower(batch).compile()
        arguments = program.memory_analysis().argument_size_in_bytes
        record["measured"] = measure_bytes(lambda: program(first, *second), arguments, device)
    return record


def planned_bytes(program: Any) -> int:
    """Returns the memory that a compiled program needs, as XLA plans it."""
    plan = program.memory_analysis()
    kept = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return kept + plan.temp_size_in_bytes


def device_limit(device: Any) -> float:
    """Returns how many bytes a device lets a program have; of a CPU its memory."""
    known = (device.memory_stats() or {}).get("bytes_limit")
    return known or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def measure_bytes(run: Callable[[], Any], argument_bytes: int, device: Any) -> int | None:
    """Returns what a program takes when it runs; None where the system does not tell.

    Args:
        run: of a program whose arguments are in memory.
        argument_bytes: size of these.
        device: that it runs on.
    """
    import jax

    if device.platform != "cpu":
        jax.block_until_ready(run())
        return (device.memory_stats() or {}).get("peak_bytes_in_use")
    grown = peak_growth(lambda: jax.block_until_ready(run()))
    return None if grown is None else argument_bytes + grown


def variants_of(name: str, settings: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns the fields of every variant of a model: number format, remat where it has that."""
    from musrep_jax.configs.common import COMPACT

    from musrep_jax.models import model_settings

    base = COMPACT[name] if settings.quick else {}
    remats = [None]
    if "remat" in model_settings(name):
        remats = [choice == "yes" for choice in settings.remat]
    return [
        {**base, "dtype": dtype, **({} if remat is None else {"remat": remat})}
        for dtype in settings.dtypes
        for remat in remats
    ]


def markdown_table(records: list[dict]) -> str:
    """Returns the records as a Markdown table, a row per model and variant."""
    steps = list(dict.fromkeys(record["step"] for record in records))
    head = ["model", "dtype", "remat"]
    for step in steps:
        head += [f"{step}: largest batch", "MB per example", "measured / planned"]
    rows: dict[tuple, dict[str, dict]] = {}
    for record in records:
        key = (record["model"], record["dtype"], record["remat"])
        rows.setdefault(key, {})[record["step"]] = record
    lines = [head, ["---"] * len(head)]
    for (model, dtype, remat), found in rows.items():
        line = [model, dtype, {None: "", False: "no", True: "yes"}[remat]]
        for record in (found[step] for step in steps):
            measured = record["measured"]
            share = "-" if measured is None else f"{measured / record['planned']:.2f}"
            line += [str(record["batch"]), f"{slope_of(record) / 1e6:.1f}", share]
        lines.append(line)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def slope_of(record: dict) -> float:
    """Returns bytes per example, between the smallest and the largest batch that was tried."""
    tried = {int(batch): size for batch, size in record["tried"].items()}
    small, large = min(tried), max(tried)
    return (tried[large] - tried[small]) / (large - small) if large > small else math.nan


def main(arguments: list[str] | None = None) -> list[dict]:
    """Runs the benchmark and returns its records."""
    settings = parse_arguments(arguments)
    if settings.one:
        name, step, fields = json.loads(settings.one)
        print(json.dumps(search(name, step, fields, settings)))
        return []
    from musrep_jax.models import MODELS

    names = [name for name in settings.models.split(",") if name] or sorted(MODELS)
    wanted = [
        (name, step, fields)
        for name in names
        for fields in variants_of(name, settings)
        for step in settings.steps
    ]
    records = []
    for name, step, fields in wanted:
        command = [sys.executable, __file__, "--one", json.dumps([name, step, fields])]
        command += ["--gigabytes", str(settings.gigabytes)]
        command += ["--no-run"] if settings.no_run else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name}, {step}, {fields} failed ({done.returncode}), see above.")
        records.append(json.loads(done.stdout.splitlines()[-1]))
        last = records[-1]
        print(
            f"{name}, {step}, {fields}: batch {last['batch']}, "
            f"{last['planned'] / GIGABYTE:.3f} GB planned, {len(last['tried'])} compilations",
            file=sys.stderr,
            flush=True,
        )
    table = markdown_table(records)
    print(f"{records[0]['device']}, limit {records[0]['limit'] / GIGABYTE:.2f} GB\n\n{table}")
    if settings.out:
        folder = pathlib.Path(settings.out)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"settings": vars(settings), "models": records}, indent=1)
        (folder / "memory.json").write_text(text, encoding="utf-8")
        (folder / "memory.md").write_text(table, encoding="utf-8")
    return records


if __name__ == "__main__":
    main()
