"""What every stage costs as the work grows: 1, 2, 4 and 8 times the tracks, labels or length.

    python benchmarks/scaling.py                       # a few minutes
    python benchmarks/scaling.py --axes tracks --stages metrics,splits
    python benchmarks/scaling.py --axes tracks --kinds probes --factors 1,4,16,40 --repeats 1
    python benchmarks/scaling.py --quick               # does it run at all

Time is CPU seconds of the process (the least of `--repeats` runs), so that a busy machine does not
bend the curve; memory is by how much the resident memory grew at most. The exponent is the slope of
a line through log(size), log(seconds): 1 is in proportion, 2 quadratic. Beside it stands the slope
of the last doubling, which a fixed cost at small sizes hides least.

Stages with audio (build, open, epoch, score) work on a folder of recordings made here, of noise;
those on tables (metrics, splits, subset, results) on as many made-up labels and scores; probes
on made-up features, each with its settings chosen on validation tracks. Scoring
uses a very small model: what grows is reading, cutting and joining. Length does not concern the
tables.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

# So that it runs from a checkout that is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from musrep_jax.configs import tagging

from benchmarks.probe_stages import make_probe_stages
from benchmarks.resident import peak_growth
from musrep_jax.data.datasets import Dataset, make_builder
from musrep_jax.data.input.pipeline import train_batches
from musrep_jax.data.splits import find_leakage, make_splits, merge_groups, missing_labels
from musrep_jax.evaluation.subsets import covering_order
from musrep_jax.evaluation.tagging import make_report
from musrep_jax.experiments.presentation import write_report
from musrep_jax.experiments.workdir import Workdir
from musrep_jax.models import create_model
from musrep_jax.tasks import binding
from musrep_jax.tasks.jobs import strip_result_folders
from musrep_jax.tasks.scoring import SplitScorer
from musrep_jax.tasks.settings import make_chunk_spec, settings_of_job
from musrep_jax.tasks.tagging.matrix import make_job
from musrep_jax.tasks.tagging.reports import make_sections
from musrep_jax.tasks.task import Tables

RATE = 16000
AXES = ("tracks", "labels", "seconds")
SUSPICIOUS = 1.2
"""An exponent above this one is marked."""
LABELS_PER_TRACK = 3
TRACKS_PER_GROUP = 4


@dataclasses.dataclass(frozen=True)
class Size:
    """How much work there is.

    Attributes:
        tracks: in all splits.
        labels: in the vocabulary.
        seconds: length of a track.
    """

    tracks: int
    labels: int
    seconds: float = 0.0

    def times(self, axis: str, factor: int) -> "Size":
        """Returns the size with one of its axes multiplied."""
        return dataclasses.replace(self, **{axis: getattr(self, axis) * factor})


BASES = {
    "audio": Size(tracks=64, labels=8, seconds=4.0),
    "tables": Size(tracks=1000, labels=25),
    "probes": Size(tracks=2500, labels=10),
}
QUICK_BASES = {"audio": Size(12, 3, 2.5), "tables": Size(60, 4), "probes": Size(80, 4)}
"""Kind of stages -> the work that is multiplied."""

Stages = dict[str, Callable[[], Any]]
"""Name -> the work, ready to be run again and again."""


def make_labels(size: Size) -> np.ndarray:
    """Returns made-up labels, bool (tracks, labels); some are ten times as frequent as others."""
    rng = np.random.default_rng(0)
    weights = np.geomspace(1, 0.1, size.labels)
    share = np.minimum(LABELS_PER_TRACK * weights / weights.sum(), 0.9)
    held = rng.random((size.tracks, size.labels)) < share
    held[np.arange(size.labels) % size.tracks, np.arange(size.labels)] = True
    return held


def write_folder(size: Size, folder: pathlib.Path) -> None:
    """Writes noise as 16-bit wav files and a table of labels, groups and splits."""
    import soundfile

    folder.mkdir(parents=True)
    rng, held = np.random.default_rng(1), make_labels(size)
    lines = ["path\tlabels\tgroup"]
    for row in range(size.tracks):
        noise = rng.integers(-3000, 3000, int(size.seconds * RATE)).astype(np.int16)
        soundfile.write(folder / f"{row:06d}.wav", noise, RATE)
        names = ",".join(f"label_{column:04d}" for column in np.flatnonzero(held[row]))
        lines.append(f"{row:06d}.wav\t{names}\tgroup_{row // TRACKS_PER_GROUP}")
    (folder / "labels.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def make_audio_stages(size: Size, folder: pathlib.Path) -> Stages:
    """Returns the stages that read recordings; each needs those before it.

    Args:
        size: of the work.
        folder: empty, for recordings and data sets.
    """
    write_folder(size, folder / "recordings")
    config = tagging.get_config()
    config.train.loss = "binary_cross_entropy"
    settings = settings_of_job(config, make_job(target="any", model="vgg_ish"))
    small = {"n_channels": 2, "num_samples": 32768}
    number, opened = iter(range(100)), {}

    def build() -> None:
        builder = make_builder(
            f"audio_folder:{folder / 'recordings'}", data_dir=folder / str(next(number))
        )
        with contextlib.redirect_stdout(io.StringIO()):
            directory = builder.build(num_workers=1)
        opened["directory"] = directory
        opened["model"] = create_model("vgg_ish", len(builder.label_names), small)

    def read() -> Dataset:
        dataset = Dataset(opened["directory"], cache_megabytes=0)
        for split in dataset.spec.split_sizes:
            dataset.tracks(split)
        return dataset

    def scan() -> None:
        for table in opened["directory"].glob("tracks-*.npz"):
            table.unlink()
        opened["train"] = read().tracks("train")

    def epoch() -> None:
        tracks = opened["train"]
        batches = train_batches(tracks, make_chunk_spec(opened["model"]), batch_size=8, seed=0)
        for _ in range(-(-len(tracks) // 8)):
            next(batches)
        batches.close()

    def score() -> None:
        if "variables" not in opened:
            shape = (1, small["num_samples"])
            init = binding.make_init(opened["model"])
            opened["variables"] = init(jax.random.key(0), np.zeros(shape, np.float32))
        scorer = SplitScorer(opened["model"], opened["train"], settings, None)
        scorer.scores(opened["variables"])

    import jax

    return {"build": build, "scan": scan, "open": read, "epoch": epoch, "score": score}


def make_table_stages(size: Size, folder: pathlib.Path, num_bootstrap: int) -> Stages:
    """Returns the stages that work on labels, scores and names only.

    Args:
        size: of the work.
        folder: empty, for a workdir.
        num_bootstrap: resamples.
    """
    held, rng = make_labels(size), np.random.default_rng(2)
    scores = 1 / (1 + np.exp(-rng.standard_normal(held.shape) - held))
    names = [f"label_{column:04d}" for column in range(size.labels)]
    track_ids = [f"track_{row:06d}" for row in range(size.tracks)]
    groups = [f"group_{row // TRACKS_PER_GROUP}" for row in range(size.tracks)]
    # One in ten recordings is a copy of another.
    hashes = [f"{row - 1 if row % 10 == 1 else row:064d}" for row in range(size.tracks)]
    made: dict[str, Any] = {}

    def metrics() -> None:
        made["report"] = make_report(held, scores, names, num_bootstrap=num_bootstrap)

    def splits() -> None:
        merged = merge_groups(groups, hashes)
        found = make_splits(merged, held, seed=0)
        find_leakage(track_ids, groups, hashes, found)
        missing_labels(held, names, found)

    def subset() -> None:
        covering_order(held, track_ids, seed=0)

    def results() -> None:
        config = tagging.get_config()
        job = make_job(target="synthetic_cultures/makam", model="vgg_ish")
        number = len(list(folder.iterdir()))
        workdir = Workdir(folder / f"workdir{number}", config)
        fields = job.to_dict()
        more = {"seed": 0, "num_train_tracks": 0, "seconds": 1.0, "export": None, "error": None}
        result = {**made["report"].to_dict(), **fields, **more}
        workdir.write_result(job, result)
        arrays = {
            "track_ids": np.array(track_ids),
            "labels": held.astype(np.uint8),
            "scores": scores.astype(np.float32),
        }
        workdir.write_arrays(job, {"scores": arrays})
        workdir.write_results(workdir.all_results())
        shown = [strip_result_folders(one) for one in workdir.all_results()]
        write_report(workdir, [Tables("", "", make_sections(shown))])

    return {"metrics": metrics, "splits": splits, "subset": subset, "results": results}


def cpu_seconds() -> float:
    """Returns the CPU time of this process and of its ended children."""
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


def measure(stages: Stages, repeats: int) -> dict[str, dict[str, Any]]:
    """Returns seconds and bytes of every stage; the first run of each is not timed."""
    found = {}
    for name, work in stages.items():
        grown = peak_growth(work)
        seconds = []
        for _ in range(repeats):
            before = cpu_seconds()
            work()
            seconds.append(cpu_seconds() - before)
        found[name] = {"seconds": min(seconds), "bytes": grown}
    return found


def exponents(factors: list[int], values: list[float]) -> tuple[float, float]:
    """Returns the slope of log(value) over log(factor), of all points and of the last two.

    Example:
        >>> [round(slope, 6) for slope in exponents([1, 2, 4], [3.0, 12.0, 48.0])]
        [2.0, 2.0]
    """
    x, y = np.log(factors), np.log(np.maximum(values, 1e-9))
    return float(np.polyfit(x, y, 1)[0]), float((y[-1] - y[-2]) / (x[-1] - x[-2]))


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Returns the command line's settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--axes", default=",".join(AXES), help="tracks, labels, seconds")
    add("--stages", default="", help="names, comma-separated; those before them run too")
    add("--kinds", default=",".join(BASES), help="audio, tables, probes")
    add("--factors", default="1,2,4,8")
    add("--repeats", type=int, default=3)
    add("--bootstrap", type=int, default=200, help="resamples of the metrics")
    add("--out", default="", help="folder for scaling.json and scaling.md")
    add("--quick", action="store_true", help="factors 1 and 2 of very little, once")
    settings = parser.parse_args(arguments)
    if settings.quick:
        settings.factors, settings.repeats, settings.bootstrap = "1,2", 1, 10
    settings.axes = settings.axes.split(",")
    unknown = sorted(set(settings.axes) - set(AXES))
    if unknown:
        parser.error(f"--axes has no {unknown[0]!r}; it has {', '.join(AXES)}.")
    settings.kinds = settings.kinds.split(",")
    unknown = sorted(set(settings.kinds) - set(BASES))
    if unknown:
        parser.error(f"--kinds has no {unknown[0]!r}; it has {', '.join(BASES)}.")
    settings.factors = sorted(int(factor) for factor in settings.factors.split(","))
    if len(settings.factors) < 2 or settings.factors[0] < 1:
        parser.error("--factors takes two or more different numbers from 1 on, such as 1,2,4,8.")
    return settings


def run(settings: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns a record per axis and stage."""
    bases = QUICK_BASES if settings.quick else BASES
    records = []
    for axis in settings.axes:
        for kind in settings.kinds:
            base = bases[kind]
            if kind != "audio" and axis == "seconds":
                continue
            found = []
            for factor in settings.factors:
                size = base.times(axis, factor)
                print(f"{axis} x {factor}: {size}", file=sys.stderr, flush=True)
                with tempfile.TemporaryDirectory() as scratch:
                    if kind == "audio":
                        stages = make_audio_stages(size, pathlib.Path(scratch))
                    elif kind == "probes":
                        stages = make_probe_stages(size.tracks, size.labels)
                    else:
                        folder = pathlib.Path(scratch)
                        stages = make_table_stages(size, folder, settings.bootstrap)
                    found.append(measure(chosen(stages, settings.stages), settings.repeats))
            for stage in found[0]:
                seconds = [one[stage]["seconds"] for one in found]
                fit, last = exponents(settings.factors, seconds)
                records.append(
                    {
                        "axis": axis,
                        "stage": stage,
                        "base": dataclasses.asdict(base),
                        "factors": settings.factors,
                        "seconds": seconds,
                        "bytes": [one[stage]["bytes"] for one in found],
                        "exponent": fit,
                        "exponent_of_last": last,
                    }
                )
    return records


def chosen(stages: Stages, names: str) -> Stages:
    """Returns the stages up to the last one that is wanted; all if none is named."""
    wanted = [place for place, name in enumerate(stages) if name in names.split(",")]
    if not names:
        return stages
    return dict(list(stages.items())[: max(wanted, default=-1) + 1])


def markdown_table(records: list[dict[str, Any]]) -> str:
    """Returns the records as a Markdown table."""
    factors = records[0]["factors"]
    head = ["grows", "stage", *(f"x {factor}: s (MB)" for factor in factors)]
    head += ["exponent", "of the last doubling"]
    lines = [head, ["---"] * len(head)]
    for record in records:
        start = {name: value for name, value in record["base"].items() if value}[record["axis"]]
        line = [f"{record['axis']}, from {start:g}", record["stage"]]
        for seconds, grown in zip(record["seconds"], record["bytes"], strict=True):
            memory = "-" if grown is None else f"{grown / 1e6:.0f}"
            line.append(f"{seconds:.3g} ({memory})")
        for slope in (record["exponent"], record["exponent_of_last"]):
            line.append(f"{slope:.2f}{' !' if slope > SUSPICIOUS else ''}")
        lines.append(line)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Runs the benchmark and returns its records."""
    settings = parse_arguments(arguments)
    records = run(settings)
    if not records:
        raise SystemExit("Nothing was measured: --stages names no stage, see --help.")
    table = markdown_table(records)
    print(f"CPU seconds (MB of memory); an exponent above {SUSPICIOUS} is marked !\n\n{table}")
    if settings.out:
        folder = pathlib.Path(settings.out)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"settings": vars(settings), "stages": records}, indent=1)
        (folder / "scaling.json").write_text(text, encoding="utf-8")
        (folder / "scaling.md").write_text(table, encoding="utf-8")
    return records


if __name__ == "__main__":
    main()
