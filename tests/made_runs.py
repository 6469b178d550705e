"""Workdirs of runs that were never trained: made-up scores, measured and written as runs do."""

import json

import numpy as np

from musrep_jax.evaluation.tagging import make_report
from musrep_jax.experiments.experiment import failure
from musrep_jax.experiments.workdir import FORMAT
from musrep_jax.runtime.files import to_json_safe
from musrep_jax.tasks.tagging.matrix import make_job
from musrep_jax.tasks.tagging.task import TaggingTask

LABELS = ("instrument--ney", "instrument--oud", "makam--hicaz", "makam--rast", "vocal", "rare")
RECORD = {
    "python": "3.12.1",
    "packages": {"jax": "0.7.0", "numpy": "2.0.0"},
    "backend": "cpu",
    "device_kind": "cpu",
    "num_devices": 1,
    "num_processes": 1,
    "git_revision": "0123456789ab",
    "command": "main.py --config=configs/transfer.py",
}


def write_cell(workdir, job, *, skill=1.0, num_tracks=60, labels=LABELS, num_steps=40, num_groups=0,
               **more):  # fmt: skip
    """Writes one finished cell with scores of a certain skill, its rows and its comparison."""
    truth = np.random.default_rng(len(job["target"])).random((num_tracks, len(labels))) < 0.3
    truth[:, -1] = False  # the last label has no positives
    random = np.random.default_rng([job.seed, len(job.key), job["num_train_tracks"]])
    logits = skill * truth + random.standard_normal(truth.shape)
    scores = 1 / (1 + np.exp(-logits))
    groups = (
        np.array([f"performer {row % num_groups}" for row in range(num_tracks)])
        if num_groups
        else None
    )
    report = make_report(
        truth, scores, labels, num_bootstrap=100, seed=job.seed, track_groups=groups
    ).to_dict()
    folder = workdir / "cells" / job.key
    folder.mkdir(parents=True)
    np.savez_compressed(
        folder / "scores.npz",
        track_ids=np.array([f"track {row:03d}" for row in range(num_tracks)]),
        labels=truth.astype(np.uint8),
        scores=scores.astype(np.float32),
        **({} if groups is None else {"groups": groups}),
    )
    rows = []
    for step in range(1, num_steps + 1):
        loss = 0.3 + 0.4 / step
        rows.append({"kind": "train", "step": step, "loss": loss, "learning_rate": 1e-3 / step})
        if step % 10 == 0:
            value = report["roc_auc"] - 0.1 / step
            rows.append({"kind": "validation", "step": step, "loss": loss, "roc_auc": value})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    result = {
        **job.to_dict(),
        "is_synthetic": True,
        "loss": "binary_cross_entropy",
        "licence": "CC0-1.0",
        "num_train_tracks_used": job["num_train_tracks"] or 120,
        "num_params": 123_456,
        "model_deviations": {"n_channels": 16},
        "best_step": num_steps,
        "num_steps": num_steps,
        "stopped_early": False,
        "validation": {},
        **report,
        "seconds": 12.5,
        "export": f"exports/{job.key}",
        "error": None,
        **more,
    }
    return _write(folder, result)


def write_failed(workdir, job, error):
    """Writes one cell that failed."""
    folder = workdir / "cells" / job.key
    folder.mkdir(parents=True)
    return _write(folder, {**job.to_dict(), **TaggingTask.unavailable, **failure(error, 1.0)})


def write_run(workdir, results, recipe="transfer"):
    """Writes what a run writes beside its cells."""
    config = {"recipe": recipe, "source": "made/west", "target": "made/greek", "data": {"seed": 0}}
    about = {"config": config, "run": RECORD}
    (workdir / "config.json").write_text(json.dumps(about), encoding="utf-8")
    found = {"format": FORMAT, "cells": results}
    (workdir / "results.json").write_text(json.dumps(found), encoding="utf-8")
    return workdir


def write_transfer(
    workdir, *, targets=("greek", "makam"), sizes=(10, 0), seeds=(0,), model="fcn", **more
):
    """Writes a small transfer experiment: every target in every mode at every size."""
    workdir.mkdir(parents=True, exist_ok=True)
    results = [
        write_cell(workdir, make_job("made/west", model, seed=seed), **more) for seed in seeds
    ]
    for target in targets:
        for size in sizes:
            for seed in seeds:
                common = dict(target=f"made/{target}", model=model, seed=seed,
                              num_train_tracks=size)  # fmt: skip
                results.append(write_cell(workdir, make_job(**common), skill=0.6, **more))
                for mode, skill in (("output_layer", 0.9), ("all_layers", 1.4)):
                    difference = {
                        "difference": 0.15 * (skill - 0.6),
                        "ci": [0.15 * (skill - 0.8), 0.15 * (skill - 0.4)],
                        "p_value": 0.2 / skill**8,
                    }
                    results.append(
                        write_cell(
                            workdir,
                            make_job(source="made/west", mode=mode, **common),
                            skill=skill,
                            versus_scratch={"roc_auc": difference, "pr_auc": difference},
                            **more,
                        )
                    )
    return write_run(workdir, results)


def _write(folder, result):
    result = to_json_safe(result)
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    return result
