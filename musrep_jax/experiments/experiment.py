"""Runs the jobs of an experiment one after the other; what is done is kept and not done again."""

import contextlib
import dataclasses
import functools
import shutil
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import ml_collections

from musrep_jax import __version__
from musrep_jax.config import ConfigError, plain, split_list
from musrep_jax.data import open_dataset
from musrep_jax.data.datasets import Dataset, make_builder
from musrep_jax.experiments.data_changes import (
    DATA_FIELD,
    check_results_agree,
    describe_change,
    describe_data,
    describe_files,
    list_opened,
)
from musrep_jax.experiments.fitting import fit_objective
from musrep_jax.experiments.merging import copy_jobs, open_workdirs
from musrep_jax.experiments.next_steps import format_next_steps, list_next_steps
from musrep_jax.experiments.presentation import Present, Tasks, present, save_job_figures
from musrep_jax.experiments.shares import JobShard
from musrep_jax.experiments.workdir import Workdir
from musrep_jax.experiments.workdir import identity as workdir_identity
from musrep_jax.reporting.results import parse_number
from musrep_jax.runtime import distributed
from musrep_jax.runtime.files import to_json_safe, write_text
from musrep_jax.runtime.progress import TimeLeft, format_seconds
from musrep_jax.runtime.signals import exit_code
from musrep_jax.tasks import load_task
from musrep_jax.tasks.jobs import Job, strip_parents
from musrep_jax.tasks.settings import get_builder_name
from musrep_jax.tasks.studies import parse_study, repeat_jobs
from musrep_jax.tasks.task import Clock, Context, Outcome, UnavailableError
from musrep_jax.training.checkpoints import save_export
from musrep_jax.training.loop import Interrupted

UNAVAILABLE_FIELD = "is_unavailable"
"""Of the result of a job that needs what cannot be had here."""
EXIT_OK, EXIT_FAILED_CELLS, EXIT_HUNG_UP, EXIT_INTERRUPTED, EXIT_TERMINATED = 0, 1, 129, 130, 143


def run_jobs(
    config: ml_collections.ConfigDict,
    jobs: Sequence[Job],
    workdir: str,
    *,
    tasks: Tasks | None = None,
    show: Present = present,
) -> int:
    """Trains and tests the jobs, and writes results, tables and figures.

    A job that has a result is skipped. A job that fails is recorded with its error, and the others
    go on. A signal to stop keeps what is done. `--cells` takes a share of the jobs, `--merge` takes
    the jobs that other workdirs hold and trains none.

    Args:
        config: the experiment's config.
        jobs: in an order in which each comes after those that it needs; a study of the config
            repeats them, see `musrep_jax.tasks.studies`.
        workdir: folder of the experiment.
        tasks: of the jobs, by name; None takes those of the table.
        show: what is printed and drawn at the end.

    Returns:
        Exit code: 0; 1 when jobs failed or, after merging, are missing; 129 after SIGHUP, 130
        after Ctrl-C, 143 after SIGTERM.

    Raises:
        ConfigError: if the config cannot be used at all.
    """
    # What the config is for is presented first, what it trains for that purpose behind it.
    names = sorted({job.task for job in jobs}, key=lambda name: (name != config.task, name))
    tasks = tasks or {name: load_task(name) for name in names}
    jobs = repeat_jobs(jobs, parse_study(config.get("study") or "", config), tasks)
    for job in jobs:
        tasks[job.task].make_settings(config, job)
    share = JobShard.parse(config.get("cells", ""))
    if not distributed.is_first():
        distributed.broadcast_from_first("the workdir")
        return _ExperimentRunner(config, Workdir(workdir, config), tasks, jobs).follow()
    folder = Workdir(workdir, config)
    experiment = _ExperimentRunner(config, folder, tasks, jobs)
    with folder.lock_for_run(share):
        distributed.broadcast_from_first("the workdir", "is open")
        if config.get("merge"):
            return experiment.merge(split_list(config.merge), show)
        return experiment.run_all(share, show)


def describe_outcome(result: Mapping[str, Any]) -> str:
    """Returns one line on a job's result."""
    if result["error"] is not None:
        kind = "not available" if result.get(UNAVAILABLE_FIELD) else "failed"
        return f"{kind}: {result['error']}"
    parts = []
    for metric in result["metrics"]:
        value = parse_number(metric["value"])
        interval = "" if metric["ci"] is None else " [{:.3f}, {:.3f}]".format(*metric["ci"])
        parts.append(f"{metric['title']} {value:.3f}{interval}")
    return ", ".join([*parts, format_seconds(result["seconds"])])


def code_of(error: KeyboardInterrupt) -> int:
    """Returns the exit code after a signal to stop.

    Raises:
        KeyboardInterrupt: the error, if only this one of several processes knows of it.
    """
    if distributed.is_active() and not isinstance(error, Interrupted):
        raise error
    return exit_code(error)


def say(text: str) -> None:
    """Prints a line at once."""
    print(text, file=sys.stderr, flush=True)


@dataclasses.dataclass
class _ExperimentRunner:
    """The jobs, the data sets that are open and the folder that is written to."""

    config: ml_collections.ConfigDict
    folder: Workdir
    tasks: Tasks
    jobs: Sequence[Job]

    def __post_init__(self) -> None:
        self.by_key = {job.key: job for job in self.jobs}
        self._open_once = functools.lru_cache(maxsize=None)(self._open)

    def run_all(self, share: JobShard | None, show: Present) -> int:
        """Runs the jobs, or a share of them; returns the exit code."""
        jobs = self.jobs
        ours, sources = share.of(jobs) if share else (list(jobs), [])
        chosen = {*ours, *sources}
        todo = [job for job in jobs if job in chosen and not self.folder.is_done(job)]
        devices = jax.devices()
        part = f"share {share} of {len(jobs)} cells: " if share else ""
        more = f" and {len(sources)} sources that they start from" if sources else ""
        say(
            f"musrep_jax {__version__}: {part}{len(ours)} cells{more}, "
            f"{len(ours) + len(sources) - len(todo)} done before; "
            f"{len(devices)} {devices[0].device_kind} device(s); writing to {self.folder.path}"
        )
        self._check_data([job for job in jobs if self.folder.is_done(job)], todo)
        for name, task in self.tasks.items():
            own = [job for job in todo if job.task == name]
            task.check_data(own, self.config, self._open_once)
            if plan := task.describe_plan(own, self.config):
                say(plan)
        started, code = time.perf_counter(), EXIT_OK
        time_left = TimeLeft()
        painter = ThreadPoolExecutor(1, "figures")  # while the next job trains
        try:
            for number, job in enumerate(todo, start=1):
                with self.folder.claim(job) if share else contextlib.nullcontext():
                    # Another share may have run this job while we waited for it.
                    is_new = not self.folder.is_done(job)
                    result = self.run(job) if is_new else self.folder.result(job)
                if result["error"] is not None and not result.get(UNAVAILABLE_FIELD):
                    code = EXIT_FAILED_CELLS
                left = time_left.tell(job.kind, [other.kind for other in todo[number:]])
                name, outcome = job.describe(), describe_outcome(result)
                say(f"[{number}/{len(todo)}{left}] {name}: {outcome}")
                self.folder.write_results_periodically()
                painter.submit(save_job_figures, self.folder, [job], self.tasks)
            distributed.broadcast_from_first("the next cell", None)
        except KeyboardInterrupt as error:
            code = code_of(error)
            say("")
        finally:
            painter.shutdown(cancel_futures=True)  # `show` draws what is missing, or fails again
        # Whoever sent SIGTERM may wait for seconds only: no tables, no figures.
        if code in (EXIT_HUNG_UP, EXIT_TERMINATED):
            self.folder.write_results(self.folder.all_results())
        else:
            show(self.finish(ours), self.folder, self.config, ours, self.tasks)
        num_done = sum(self.folder.is_done(job) for job in ours)
        took = format_seconds(time.perf_counter() - started)
        if code in (EXIT_HUNG_UP, EXIT_INTERRUPTED, EXIT_TERMINATED):
            say(f"Stopped with {num_done} of {len(ours)} cells done; the same command resumes.")
        elif code == EXIT_FAILED_CELLS:
            say(
                f"{len(ours) - num_done} of {len(ours)} cells failed (see the table and "
                f"{self.folder.path}/cells/*/error.txt); the same command tries them again."
            )
        else:
            missing = len(ours) - num_done
            counted = f"{num_done} of {len(ours)} cells are done, the others not available here"
            results = self.folder.all_results()
            has_models = any(result.get("export") for result in results)
            models = f", models: {self.folder.path}/exports" if has_models else ""
            say(
                f"{counted if missing else f'All {len(ours)} cells are done'}, in {took}. Results: "
                f"{self.folder.path}/results.md{models}"
            )
            say(format_next_steps(list_next_steps(results, self.folder.path, self.config)))
        return code

    def _check_data(self, done: Sequence[Job], todo: Sequence[Job]) -> None:
        """Raises if jobs would be added to those made from other data; with none to do, says so."""
        results = [self.folder.result(job) or {} for job in done]
        check_results_agree(results, str(self.folder.path))
        unknown = sum(DATA_FIELD not in result for result in results)
        if unknown and todo:
            say(f"{unknown} finished cells, of an earlier version, do not know their data")
        present = {}
        for key, entry in list_opened(results).items():
            name, rate, options = entry["name"], entry["sample_rate"], entry["options"]
            options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
            try:
                if "files" in entry:
                    present[key] = describe_files(name, [Path(p) for p in entry["files"]])
                elif todo or self._make_builder(name, rate, **options).is_built():
                    dataset = self._open_once(name, rate, **options)
                    present[key] = describe_data(dataset, name, rate, options)
                else:
                    say(
                        f"The data set {strip_parents(name)} has changed since the finished cells "
                        "were made from it: they are of its earlier state."
                    )
            except (ValueError, OSError) as error:
                # Who has finished results may have put the data away; jobs to come will fail.
                say(f"{strip_parents(name)} cannot be compared with what it was: {error}")
        change = describe_change(results, present, str(self.folder.path))
        if change and todo:
            raise ConfigError(change)
        if change:
            say(change)

    def follow(self) -> int:
        """Trains, as one of several processes, what the first one says; returns the exit code."""
        code = EXIT_OK
        try:
            while key := distributed.broadcast_from_first("the next cell"):
                error = None
                try:
                    self._train(self.by_key[key], [])
                except Exception as caught:  # the others go on if they failed alike
                    error = caught
                if any(distributed.exchange_errors(f"the end of {key}", error)):
                    code = EXIT_FAILED_CELLS
        except KeyboardInterrupt as error:
            code = code_of(error)
        return code

    def merge(self, workdirs: Sequence[str], show: Present) -> int:
        """Takes the jobs that other workdirs hold; returns the exit code."""
        jobs, others = self.jobs, open_workdirs(workdirs, self.config)
        volatile = {name: task.volatile for name, task in self.tasks.items()}
        num_taken = copy_jobs(self.folder, jobs, others, volatile)
        show(self.finish(jobs), self.folder, self.config, jobs, self.tasks)
        missing = [job for job in jobs if not self.folder.is_done(job)]
        say(
            f"{num_taken} cells taken from {len(workdirs)} workdirs, {len(jobs) - len(missing)} "
            f"of {len(jobs)} are there. Results: {self.folder.path}/results.md"
        )
        for job in missing:
            say(f"missing: {job.describe()}")
        return EXIT_FAILED_CELLS if missing else EXIT_OK

    def run(self, job: Job) -> dict[str, Any]:
        """Runs one job; an error becomes its result."""
        result, started, failed = job.to_dict(), time.perf_counter(), None
        distributed.broadcast_from_first("the next cell", job.key)
        try:
            opened: list[dict[str, Any]] = []
            outcome, seconds = self._train(job, opened)
            result |= self._write(job, outcome, seconds, opened)
        except Exception as error:  # recorded with its traceback; the other jobs go on
            failed = error
            folder = self.folder.job_dir(job)
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / "error.txt", traceback.format_exc())
            seconds = time.perf_counter() - started
            result |= {**self.tasks[job.task].unavailable, **failure(error, seconds)}
        self.folder.write_result(job, result)
        distributed.exchange_errors(f"the end of {job.key}", failed)
        checkpoints = self.folder.job_dir(job) / "checkpoints"
        if result["error"] is None and checkpoints.is_dir():  # the result stands in their place
            shutil.rmtree(checkpoints)
        return result

    def _train(self, job: Job, opened: list[dict[str, Any]]) -> tuple[Outcome, float]:
        """Runs a job; returns its outcome and duration in seconds, and lists the data it opened."""
        task = self.tasks[job.task]
        clock = Clock()
        context = Context(
            config=self.config,
            settings=task.make_settings(self.config, job),
            folder=self.folder.job_dir(job),
            open_dataset=functools.partial(self._open_dataset, clock, opened),
            record_files=lambda name, paths: opened.append(describe_files(name, paths)),
            find_export=functools.partial(self._find_export, job),
            is_done=lambda key: self.folder.is_done(self.by_key[key]),
            clock=clock,
        )
        objective = task.prepare(job, context)
        identity = {
            **task.identify(job, objective, context),
            "cell": job.key,
            "settings": workdir_identity(plain(context.settings)),
        }
        fit = fit_objective(job, objective, context.settings, context.folder, identity)
        return task.finish(job, objective, fit, context), clock.seconds

    def _open_dataset(
        self,
        clock: Clock,
        opened: list[dict[str, Any]],
        name: str,
        sample_rate: int,
        **options: Any,
    ) -> Dataset:
        """Returns a data set, see `tasks.task.OpenDataset`, and adds it to the list."""
        with clock.paused():
            with distributed.run_first_process_first("the data set"):  # which it builds, if need be
                dataset = self._open_once(name, sample_rate, **options)
            distributed.check_processes_agree(
                f"data set {name}", dataset.facts, "build it once and copy it, or share it"
            )
            entry = describe_data(dataset, name, sample_rate, options)
        opened += [] if entry in opened else [entry]
        return dataset

    def _open(self, name: str, sample_rate: int, **options: Any) -> Dataset:
        megabytes = self.config.data.cache_megabytes
        asked = self._builder_options(name, sample_rate, options)
        return open_dataset(name, cache_megabytes=megabytes, **asked)

    def _make_builder(self, name: str, sample_rate: int, **options: Any) -> Any:
        """Returns the builder of a data set, which can check whether the data set is current."""
        return make_builder(name, **self._builder_options(name, sample_rate, options))

    def _builder_options(
        self, name: str, sample_rate: int, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        data = self.config.data
        asked = {"data_dir": data.data_dir, "sample_rate": sample_rate, "seed": data.seed}
        return {**asked, **data.options.get(get_builder_name(name), {}), **options}

    def _find_export(self, job: Job, key: str) -> Path:
        """Returns the exported model of a job that another one needs."""
        needed = self.by_key[key]
        if not self.folder.is_done(needed):
            raise ConfigError(
                f"It starts from {key}, whose training failed: see the error of that cell."
            )
        return self.folder.export_dir(needed)

    def _write(
        self, job: Job, outcome: Outcome, seconds: float, opened: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Writes what a training left in memory; returns its result."""
        made_from = [{**entry, "name": strip_parents(entry["name"])} for entry in opened]
        exports = {}
        for name, export in outcome.exports.items():
            path = self.folder.export_dir(job, name)
            card = {**export.card, "made_from": made_from}
            written = save_export(path, export.variables, card, export.readme)
            exports[name] = str(written.relative_to(self.folder.path.absolute()))
        self.folder.write_arrays(job, outcome.arrays)
        result = {
            **outcome.fields,
            "metrics": [metric.to_dict() for metric in outcome.metrics],
            "seconds": seconds,
            "export": exports.get(""),
            **({"exports": exports} if exports.keys() - {""} else {}),
            DATA_FIELD: list(opened),
            "error": None,
        }
        return to_json_safe(result)

    def finish(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """Compares jobs with each other, writes and returns all results."""
        for name, task in self.tasks.items():
            ours = [job for job in jobs if job.task == name]
            for job, fields in task.compare(ours, self.folder, self.config).items():
                self.folder.write_result(job, {**self.folder.result(job), **fields})
            for export, job in task.choose(ours, self.folder, self.config).items():
                self.folder.copy_export(job, export)
        results = self.folder.all_results()
        self.folder.write_results(results)
        check_results_agree(results, str(self.folder.path))
        return results


def failure(error: Exception, seconds: float) -> dict[str, Any]:
    """Returns the result fields of a job of any task that failed."""
    message = " ".join(str(error).split()) or "no message"
    known = isinstance(error, ValueError | OSError | ArithmeticError)
    # XLA says so with a status only, of the type of all its errors.
    if isinstance(error, MemoryError) or message.startswith("RESOURCE_EXHAUSTED"):
        known = True
        message = (
            f"There is not enough memory ({message.rstrip('.')}): take a smaller "
            "--config.train.batch_size, or --config.train.num_microbatches=2 for the same batch in "
            "two parts, or a smaller model."
        )
    return {
        "metrics": [],
        "seconds": seconds,
        "export": None,
        "error": message if known else f"{type(error).__name__}: {message}",
        **({UNAVAILABLE_FIELD: True} if isinstance(error, UnavailableError) else {}),
    }
