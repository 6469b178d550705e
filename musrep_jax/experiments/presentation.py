"""What a person sees of an experiment: the printed table, `results.md`, the figures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_collections

from musrep_jax.experiments.cells import Cell, display_name
from musrep_jax.experiments.workdir import Workdir, write_text
from musrep_jax.reporting import figures, run_figures, tables
from musrep_jax.tasks.filters import FILE as FILTERS_FILE
from musrep_jax.tasks.filters import save_filter_figure
from musrep_jax.training.logs import read_rows

Result = Mapping[str, Any]
Present = Callable[[Sequence[Result], Workdir, ml_collections.ConfigDict, Sequence[Cell]], None]


def present(
    results: Sequence[Result],
    folder: Workdir,
    config: ml_collections.ConfigDict,
    cells: Sequence[Cell],
) -> None:
    """Prints the results table and writes `results.md` and the figures.

    Args:
        results: of all cells in the folder.
        folder: of the experiment.
        config: of the experiment.
        cells: those of this run, for the per-label tables and training curves.
    """
    if not results:
        return
    shown = [with_display_names(result) for result in results]
    synthetic = sorted({r["target"] for r in shown if r.get("is_synthetic")})
    notes = notes_on(shown, config)
    print(tables.make_results_table(shown, style="text", notes=notes), flush=True)
    write_report(shown, folder, tables.make_results_table(shown, notes=notes))
    if any(result["source"] for result in shown):
        figures.save_transfer_figures(shown, folder.path / "figures", synthetic=synthetic)
    save_cell_figures(folder, cells)


def write_report(shown: Sequence[Result], folder: Workdir, table: str) -> None:
    """Writes `results.md`: the table, then every cell label by label.

    Args:
        shown: results with display names.
        folder: of the experiment.
        table: as Markdown.
    """
    parts = ["# Results", table]
    for result in shown:
        if result["error"] is None:
            parts += [f"## {title_of(result)}", tables.format_report_summary(result)]
            parts.append(tables.make_per_label_table(result))
    write_text(folder.path / "results.md", "\n\n".join(parts) + "\n")


def save_cell_figures(folder: Workdir, cells: Sequence[Cell]) -> None:
    """Draws each finished cell's labels (from scratch only), training and harmonic filters.

    A figure that is there and not older than what it shows is left as it is.

    Args:
        folder: of the experiment.
        cells: to draw.
    """
    target = folder.path / "figures"
    for key, cell in {cell.key: cell for cell in cells}.items():
        result = folder.result(cell)
        if not result or result["error"] is not None:
            continue
        title = title_of(with_display_names(result))
        labels, training, filters = (
            target / kind / f"{key}.png" for kind in ("labels", "training", "filters")
        )
        recorded = folder.cell_dir(cell)
        if cell.source is None and not is_current(labels, recorded / "result.json"):
            figures.save_figure(run_figures.draw_per_label_bars(result, title=title), labels)
        if not is_current(training, recorded / "metrics.jsonl"):
            rows, best = read_rows(recorded / "metrics.jsonl"), result["best_step"]
            if rows:
                curves = run_figures.draw_training_curves(rows, title=title, best_step=best)
                figures.save_figure(curves, training)
        if not is_current(filters, recorded / FILTERS_FILE):
            save_filter_figure(recorded, filters, title)


def is_current(figure: Path, shown: Path) -> bool:
    """Returns whether a figure is there and not older than the file that it shows."""
    if not (figure.exists() and shown.exists()):
        return False
    return figure.stat().st_mtime_ns >= shown.stat().st_mtime_ns


def with_display_names(result: Result) -> dict[str, Any]:
    """Returns a result in which folders are named by their last part."""
    source = result["source"]
    return {
        **result,
        "source": display_name(source) if source else None,
        "target": display_name(result["target"]),
    }


def title_of(result: Result) -> str:
    """Returns what a result is of, with the word synthetic where it belongs."""
    start = f"{result['source']} -> " if result["source"] else ""
    size = f", {result['num_train_tracks']} tracks" if result["num_train_tracks"] else ""
    synthetic = " (synthetic data)" if result.get("is_synthetic") else ""
    mode = result["mode"].replace("_", " ")
    return f"{start}{result['target']}, {result['model']}, {mode}{size}{synthetic}"


def notes_on(results: Sequence[Result], config: ml_collections.ConfigDict) -> list[str]:
    """Returns the sentences that keep a table honest."""
    notes = []
    if any(result.get("is_synthetic") for result in results):
        notes.append(
            "Data sets named synthetic are generated: these numbers say whether the method works "
            "here, and nothing about real music cultures."
        )
    sizes = {
        f"{r['model']} with {', '.join(f'{k}={v}' for k, v in r['model_deviations'].items())}"
        for r in results
        if r.get("model_deviations")
    }
    if sizes:
        hint = ""
        if config.model.size == "compact":
            hint = "; --config.model.size=full takes the published sizes"
        notes.append(f"Not the published size: {'; '.join(sorted(sizes))}{hint}.")
    if any(result.get("skipped_labels") for result in results):
        notes.append("Labels that could not be ranked are left out of the means and listed below.")
    return notes
