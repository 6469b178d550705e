"""Comparison: several models trained on one data set under one protocol, quality beside cost."""

from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np

from musrep_jax.config import ConfigError, split_list
from musrep_jax.evaluation.comparison import paired_bootstrap
from musrep_jax.evaluation.tagging import to_json_safe
from musrep_jax.experiments.cells import Cell, display_name
from musrep_jax.experiments.experiment import run_cells
from musrep_jax.experiments.presentation import (
    Result,
    notes_on,
    save_cell_figures,
    with_display_names,
    write_report,
)
from musrep_jax.experiments.workdir import Workdir
from musrep_jax.recipes.tagging import scratch_cells
from musrep_jax.reporting import figures
from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.model_figures import draw_model_comparison
from musrep_jax.reporting.model_table import best_model, format_comparison_table
from musrep_jax.reporting.results import METRIC_TITLES

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
    cells = scratch_cells(config)
    if len({cell.num_train_tracks for cell in cells}) > 1:
        raise ConfigError(
            f"num_train_tracks is {config.num_train_tracks!r}; a comparison of models takes one "
            "number of training tracks: give one, and another --workdir for each."
        )
    return run_cells(config, cells, workdir, show=present_comparison, has_profile=True)


def present_comparison(
    results: Sequence[Result],
    folder: Workdir,
    config: ml_collections.ConfigDict,
    cells: Sequence[Cell],
) -> None:
    """Prints the table of models and writes it with the figures; adds `versus_best` to results.

    Args:
        results: of all cells in the folder; models of earlier runs stand in the table too.
        folder: of the experiment.
        config: of the experiment.
        cells: those of this run.
    """
    target, size = cells[0].target, cells[0].num_train_tracks
    compared = [r for r in results if r["target"] == target and r["num_train_tracks"] == size]
    if not compared:
        return
    differences, is_complete = compare_with_best(compared, folder, config.evaluation.num_bootstrap)
    compared = [result | differences.get(cell_of(result), {}) for result in compared]
    others = [r for r in results if r["target"] != target or r["num_train_tracks"] != size]
    folder.write_results([*compared, *others])
    shown = [with_display_names(result) for result in compared]
    notes = [*notes_on(shown, config), *([] if is_complete else [OTHER_TRACKS])]
    order = split_list(config.model.name)
    table = {
        style: format_comparison_table(shown, models=order, style=style, notes=notes)
        for style in ("text", "markdown")
    }
    title = f"{display_name(target)}{f', {size} training tracks' if size else ''}"
    if any(result.get("is_synthetic") for result in shown):
        title += " (synthetic data)"
    print(f"{title}\n\n{table['text']}", flush=True)
    shown.sort(key=lambda r: order.index(r["model"]) if r["model"] in order else len(order))
    write_report(shown, folder, f"{title}\n\n{table['markdown']}")
    if not all(cells_file.is_failed(result) for result in shown):
        figure = draw_model_comparison(shown, title=title, models=order)
        figures.save_figure(figure, folder.path / "figures" / "comparison.png")
    save_cell_figures(folder, cells)


def cell_of(result: Result) -> Cell:
    """Returns the cell that a result is of."""
    return Cell(
        target=result["target"],
        model=result["model"],
        mode=result["mode"],
        source=result["source"],
        seed=result["seed"],
        num_train_tracks=result["num_train_tracks"],
    )


def compare_with_best(
    results: Sequence[Result], folder: Workdir, num_resamples: int
) -> tuple[dict[Cell, dict[str, Any]], bool]:
    """Returns how far every model lies below the best one, seed by seed, on the same tracks.

    Args:
        results: of one data set and one size of the training set.
        folder: with the scores of the test tracks.
        num_resamples: of the paired bootstrap; 0 compares nothing.

    Returns:
        Cell -> `versus_best`: metric -> `model` (the best by that metric, mean over seeds),
        `difference`, `ci`, `p_value`; for cells of other models whose seed the best model has too.
        And whether all of these were tested on the same tracks.
    """
    found: dict[Cell, dict[str, Any]] = {}
    good = {cell_of(r): r for r in results if not cells_file.is_failed(r)}
    is_complete = True
    best = {metric: best_model(results, metric) for metric in METRIC_TITLES}
    for cell in good if num_resamples > 0 else ():
        entries: dict[str, Any] = {}
        for model in dict.fromkeys(best.values()):
            rivals = [c for c in good if c.model == model and c.seed == cell.seed]
            if model == cell.model or not rivals:
                continue
            ours, theirs = (_scores_of(folder, c) for c in (cell, rivals[0]))
            if not np.array_equal(ours["track_ids"], theirs["track_ids"]):
                is_complete = False
                continue
            difference = paired_bootstrap(
                ours["labels"],
                ours["scores"],
                theirs["scores"],
                num_resamples=num_resamples,
                seed=cell.seed,
            ).to_dict()
            for metric in METRIC_TITLES:
                if best[metric] == model:
                    entries[metric] = {"model": model, **difference[metric]}
        if entries:
            found[cell] = {"versus_best": to_json_safe(entries)}
    return found, is_complete


def _scores_of(folder: Workdir, cell: Cell) -> dict[str, np.ndarray]:
    """Returns labels, scores and ids of a cell's test tracks."""
    with np.load(folder.cell_dir(cell) / "scores.npz") as file:
        return dict(file)
