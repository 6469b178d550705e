"""Presents an experiment: the printed tables, `results.md`, the figures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import ml_collections

from musrep_jax.experiments.workdir import Workdir
from musrep_jax.reporting import drawing, run_figures
from musrep_jax.reporting.job_table import format_job_table
from musrep_jax.runtime.files import write_text
from musrep_jax.tasks.jobs import Job, strip_result_folders, title_of
from musrep_jax.tasks.task import JobFigure, Result, Tables, Task
from musrep_jax.training.logs import read_rows

Tasks = Mapping[str, Task]
Present = Callable[
    [Sequence[Result], Workdir, ml_collections.ConfigDict, Sequence[Job], Tasks], None
]


def present(
    results: Sequence[Result],
    folder: Workdir,
    config: ml_collections.ConfigDict,
    jobs: Sequence[Job],
    tasks: Tasks,
) -> None:
    """Prints the tables of every task and writes `results.md` and the figures.

    Args:
        results: of all jobs in the folder.
        folder: of the experiment.
        config: of the experiment.
        jobs: those of this run, for the figures of single jobs.
        tasks: of the experiment, by name.
    """
    if not results:
        return
    tables = []
    for name, task in tasks.items():
        ours = [result for result in results if task_of_result(result, tasks) == name]
        if ours:
            tables.append(task.make_tables(ours, config) or make_plain_tables(ours))
    for table in tables:
        print(table.text, flush=True)
    write_report(folder, tables)
    for name, task in tasks.items():
        ours = [result for result in results if task_of_result(result, tasks) == name]
        task.save_figures(ours, folder.path / "figures")
    save_job_figures(folder, jobs, tasks)


def task_of_result(result: Result, tasks: Tasks) -> str:
    """Returns the name of the task that a result is of.

    Args:
        result: of a job; results of earlier versions, which had one task, do not say it.
        tasks: of the experiment.
    """
    return result.get("task") or next(iter(tasks))


def make_plain_tables(results: Sequence[Result]) -> Tables:
    """Returns a table with one row per job: what its fields are, and all its metrics.

    Args:
        results: of jobs of one task.
    """
    shown = [strip_result_folders(result) for result in results]
    return Tables(format_job_table(shown, style="text"), format_job_table(shown))


def write_report(folder: Workdir, tables: Sequence[Tables]) -> None:
    """Writes `results.md`: the tables, then their further sections.

    Args:
        folder: of the experiment.
        tables: of its tasks.
    """
    parts = ["# Results", *(table.markdown for table in tables)]
    for table in tables:
        for title, content in table.sections:
            parts += [f"## {title}", content]
    write_text(folder.path / "results.md", "\n\n".join(parts) + "\n")


def save_job_figures(folder: Workdir, jobs: Sequence[Job], tasks: Tasks) -> None:
    """Draws each finished job's training curves and the figures of its task.

    A figure that is there and not older than what it shows is left as it is.

    Args:
        folder: of the experiment.
        jobs: to draw.
        tasks: of the experiment, by name.
    """
    for key, job in {job.key: job for job in jobs}.items():
        result, recorded = folder.result(job), folder.job_dir(job)
        if not result or result["error"] is not None:
            continue
        drawn = [
            make_training_figure(result, recorded / "metrics.jsonl"),
            *tasks[job.task].list_figures(result, recorded),
        ]
        for figure in drawn:
            path = folder.path / "figures" / figure.kind / f"{key}.png"
            if not is_up_to_date(path, figure.shown):
                figure.save(path)


def make_training_figure(result: Result, log: Path) -> JobFigure:
    """Returns the figure of a training: loss, the first metric on validation, learning rate.

    Args:
        result: of the job.
        log: its `metrics.jsonl`.
    """

    def save(path: Path) -> None:
        rows = read_rows(log) if log.exists() else []
        if not rows:
            return
        title = title_of(strip_result_folders(result))
        logged = {name for row in rows if row.get("kind") == "validation" for name in row}
        names = [m["name"] for m in result.get("metrics", ()) if m["name"] in logged]
        score = {"score": names[0]} if names else {}
        best = result.get("best_step")
        curves = run_figures.draw_training_curves(rows, title=title, best_step=best, **score)
        drawing.save_figure(curves, path)

    return JobFigure("training", log, save)


def is_up_to_date(figure: Path, shown: Path) -> bool:
    """Returns whether a figure is there and not older than the file that it shows."""
    if not (figure.exists() and shown.exists()):
        return False
    return figure.stat().st_mtime_ns >= shown.stat().st_mtime_ns
