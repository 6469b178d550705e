"""Comparison: several models trained on one data set under one protocol, quality beside cost."""

from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np

from musrep_jax.config import ConfigError, split_list
from musrep_jax.evaluation.comparison import compare_systems
from musrep_jax.evaluation.subsets import describe_size
from musrep_jax.evaluation.support import BY_GROUPS, choose_groups
from musrep_jax.experiments.experiment import run_jobs
from musrep_jax.experiments.presentation import Tasks, save_job_figures, write_report
from musrep_jax.experiments.workdir import Workdir
from musrep_jax.reporting import drawing
from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.model_figures import draw_model_comparison
from musrep_jax.reporting.model_table import best_model, format_comparison_table
from musrep_jax.reporting.results import METRIC_TITLES
from musrep_jax.reporting.verdict import describe_verdict
from musrep_jax.runtime.files import to_json_safe
from musrep_jax.tasks.jobs import Job, key_of_result, strip_parents, strip_result_folders
from musrep_jax.tasks.tagging.matrix import BASELINE_MODEL
from musrep_jax.tasks.tagging.reports import make_sections, notes_on
from musrep_jax.tasks.tagging.task import TaggingTask
from musrep_jax.tasks.task import Result, Tables

OTHER_TRACKS = (
    "Models without a mark may differ too: their test tracks are not those of the best model, "
    "because the data set was built anew in between."
)


def run(config: ml_collections.ConfigDict, workdir: str) -> int:
    """Trains, tests and compares the models of a config; returns the exit code.

    Args:
        config: see `configs/compare.py`.
        workdir: folder of the experiment.

    Raises:
        ConfigError: if more than one size of the training set is asked for.
    """
    task = TaggingTask(has_profile=True)
    jobs = task.jobs(config)
    if len({job["num_train_tracks"] for job in jobs}) > 1:
        raise ConfigError(
            f"num_train_tracks is {config.num_train_tracks!r}; a comparison of models takes one "
            "number of training tracks: give one, and another --workdir for each."
        )
    return run_jobs(config, jobs, workdir, tasks={"tagging": task}, show=present_comparison)


def present_comparison(
    results: Sequence[Result],
    folder: Workdir,
    config: ml_collections.ConfigDict,
    jobs: Sequence[Job],
    tasks: Tasks,
) -> None:
    """Prints the table of models and writes it with the figures; adds `versus_best` to results.

    Args:
        results: of all jobs in the folder; models of earlier runs stand in the table too.
        folder: of the experiment.
        config: of the experiment.
        jobs: those of this run.
        tasks: of the experiment, by name.
    """
    target, size = jobs[0]["target"], jobs[0]["num_train_tracks"]
    compared = [r for r in results if r["target"] == target and r["num_train_tracks"] == size]
    if not compared:
        return
    differences, is_complete = compare_with_best(
        compared, folder, config.evaluation.num_bootstrap, config.evaluation.resample
    )
    compared = [result | differences.get(key_of_result(result), {}) for result in compared]
    others = [r for r in results if r["target"] != target or r["num_train_tracks"] != size]
    folder.write_results([*compared, *others])
    shown = cells_file.separate_variants([strip_result_folders(result) for result in compared])
    notes = [*notes_on(shown, config), *([] if is_complete else [OTHER_TRACKS])]
    names = cells_file.ordered(shown, "model")
    listed = [*split_list(config.model.name), BASELINE_MODEL]
    order = [n for m in listed for n in names if n.split(", ")[0] == m]
    table = {
        style: format_comparison_table(shown, models=order, style=style, notes=notes)
        for style in ("text", "markdown")
    }
    title = f"{strip_parents(target)}{f', {describe_size(size)}' if size else ''}"
    if any(result.get("is_synthetic") for result in shown):
        title += " (synthetic data)"
    verdict = describe_verdict(shown)
    print("\n\n".join([*verdict, title, table["text"]]), flush=True)
    shown.sort(key=lambda r: order.index(r["model"]) if r["model"] in order else len(order))
    markdown = "\n\n".join([*verdict, title, table["markdown"]])
    write_report(folder, [Tables(table["text"], markdown, make_sections(shown))])
    if not all(cells_file.is_failed(result) for result in shown):
        figure = draw_model_comparison(shown, title=title, models=order)
        drawing.save_figure(figure, folder.path / "figures" / "comparison.png")
    save_job_figures(folder, jobs, tasks)


def compare_with_best(
    results: Sequence[Result], folder: Workdir, num_resamples: int, resample: str = BY_GROUPS
) -> tuple[dict[str, dict[str, Any]], bool]:
    """Returns how far every model lies below the best one, seed by seed, on the same tracks.

    Args:
        results: of one data set and one size of the training set.
        folder: with the scores of the test tracks.
        num_resamples: swaps of the paired test; 0 compares nothing.
        resample: `groups` or `tracks`: what is swapped as a whole.

    Returns:
        Key -> `versus_best`: metric -> `model` (the best by that metric, mean over seeds),
        `difference`, `ci`, `p_value`; for jobs of other models whose seed the best model has too.
        And whether all of these were tested on the same tracks.
    """
    found: dict[str, dict[str, Any]] = {}
    results = cells_file.separate_variants(results)
    good = {key_of_result(r): r for r in results if not cells_file.is_failed(r)}
    is_complete = True
    best = {metric: best_model(results, metric) for metric in METRIC_TITLES}
    for key, result in good.items() if num_resamples > 0 else ():
        entries: dict[str, Any] = {}
        for model in dict.fromkeys(best.values()):
            rivals = [
                k for k, r in good.items() if r["model"] == model and r["seed"] == result["seed"]
            ]
            if model == result["model"] or not rivals:
                continue
            ours, theirs = (folder.read_arrays(k) for k in (key, rivals[0]))
            if not np.array_equal(ours["track_ids"], theirs["track_ids"]):
                is_complete = False
                continue
            difference = compare_systems(
                ours["labels"],
                ours["scores"],
                theirs["scores"],
                num_resamples=num_resamples,
                seed=result["seed"],
                track_groups=choose_groups(ours.get("groups"), resample),
            ).overall.to_dict()
            for metric in METRIC_TITLES:
                if best[metric] == model:
                    entries[metric] = {"model": model, **difference[metric]}
        if entries:
            found[key] = {"versus_best": to_json_safe(entries)}
    return found, is_complete
