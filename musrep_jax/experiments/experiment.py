"""Runs the cells of an experiment one after the other; what is done is kept and not done again."""

import contextlib
import dataclasses
import functools
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import ml_collections
import numpy as np

from musrep_jax import __version__
from musrep_jax.config import ConfigError, given, split_list
from musrep_jax.data import open_dataset
from musrep_jax.data.datasets import Dataset
from musrep_jax.evaluation.tagging import to_json_safe
from musrep_jax.experiments.cells import EXPORT_PREFIX, Cell, Share
from musrep_jax.experiments.merging import copy_cells, open_workdirs
from musrep_jax.experiments.presentation import Present, present, save_cell_figures
from musrep_jax.experiments.workdir import Workdir
from musrep_jax.exports.cards import format_model_readme
from musrep_jax.inference.tagger import make_card
from musrep_jax.models import model_class
from musrep_jax.runtime import distributed
from musrep_jax.runtime.signals import exit_code
from musrep_jax.tasks.binding import output_of
from musrep_jax.tasks.filters import write_filters
from musrep_jax.tasks.settings import builder_of, model_deviations, settings_of_cell
from musrep_jax.tasks.train_cell import Trained, train_cell
from musrep_jax.training.checkpoints import save_export
from musrep_jax.training.logs import format_seconds, run_record
from musrep_jax.training.loop import Interrupted

EXIT_OK, EXIT_FAILED_CELLS, EXIT_HUNG_UP, EXIT_INTERRUPTED, EXIT_TERMINATED = 0, 1, 129, 130, 143


def run_cells(
    config: ml_collections.ConfigDict,
    cells: Sequence[Cell],
    workdir: str,
    *,
    show: Present = present,
    has_profile: bool = False,
) -> int:
    """Trains and tests the cells, and writes results, tables and figures.

    A cell that has a result is skipped. A cell that fails is recorded with its error, and the
    others go on. A signal to stop keeps what is done. `--cells` takes a share of the cells,
    `--merge` takes the cells that other workdirs hold and trains none.

    Args:
        config: the experiment's config.
        cells: in an order in which a source comes before what starts from it.
        workdir: folder of the experiment.
        show: what is printed and drawn at the end.
        has_profile: whether results say what scoring costs.

    Returns:
        Exit code: 0; 1 when cells failed or, after merging, are missing; 129 after SIGHUP, 130
        after Ctrl-C, 143 after SIGTERM.

    Raises:
        ConfigError: if the config cannot be used at all.
    """
    for cell in cells:
        model_class(cell.model)
        settings_of_cell(config, cell)
    share = Share.parse(config.get("cells", ""))
    if not distributed.is_first():
        distributed.from_first("the workdir")
        return _Experiment(config, Workdir(workdir, config), has_profile).follow(cells)
    folder = Workdir(workdir, config)
    experiment = _Experiment(config, folder, has_profile)
    with folder.in_use(share):
        distributed.from_first("the workdir", "is open")
        if config.get("merge"):
            return experiment.merge(cells, split_list(config.merge), show)
        return experiment.run_all(cells, share, show)


def outcome(result: dict[str, Any]) -> str:
    """Returns one line on a cell's result."""
    if result["error"] is not None:
        return f"failed: {result['error']}"
    roc, pr = (
        f"{result[name]:.3f} [{result[f'{name}_ci'][0]:.3f}, {result[f'{name}_ci'][1]:.3f}]"
        if result[f"{name}_ci"][0] is not None
        else f"{result[name]:.3f}"
        for name in ("roc_auc", "pr_auc")
    )
    return f"ROC-AUC {roc}, PR-AUC {pr}, {format_seconds(result['seconds'])}"


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
class _Experiment:
    """The data sets that are open and the folder that is written to."""

    config: ml_collections.ConfigDict
    folder: Workdir
    has_profile: bool = False

    def __post_init__(self) -> None:
        self.open = functools.lru_cache(maxsize=None)(self._open)

    def run_all(self, cells: Sequence[Cell], share: Share | None, show: Present) -> int:
        """Runs the cells, or a share of them; returns the exit code."""
        ours, sources = share.of(cells) if share else (list(cells), [])
        todo = [c for c in cells if c in {*ours, *sources} and not self.folder.is_done(c)]
        devices = jax.devices()
        part = f"share {share} of {len(cells)} cells: " if share else ""
        more = f" and {len(sources)} sources that they start from" if sources else ""
        say(
            f"musrep_jax {__version__}: {part}{len(ours)} cells{more}, "
            f"{len(ours) + len(sources) - len(todo)} done before; "
            f"{len(devices)} {devices[0].device_kind} device(s); writing to {self.folder.path}"
        )
        started, code = time.perf_counter(), EXIT_OK
        painter = ThreadPoolExecutor(1, "figures")  # while the next cell trains
        try:
            for number, cell in enumerate(todo, start=1):
                with self.folder.claim(cell) if share else contextlib.nullcontext():
                    # Another share may have trained this source while we waited for it.
                    is_new = not self.folder.is_done(cell)
                    result = self.run(cell) if is_new else self.folder.result(cell)
                if result["error"] is not None:
                    code = EXIT_FAILED_CELLS
                elapsed = time.perf_counter() - started
                left = format_seconds(elapsed / number * (len(todo) - number))
                say(f"[{number}/{len(todo)}, {left} left] {cell.describe()}: {outcome(result)}")
                self.folder.write_results_now_and_then()
                painter.submit(save_cell_figures, self.folder, [cell])
            distributed.from_first("the next cell", None)
        except KeyboardInterrupt as error:
            code = code_of(error)
            say("")
        finally:
            painter.shutdown(cancel_futures=True)  # `show` draws what is missing, or fails again
        # Whoever sent SIGTERM may wait for seconds only: no tables, no figures.
        if code in (EXIT_HUNG_UP, EXIT_TERMINATED):
            self.folder.write_results(self.folder.all_results())
        else:
            show(self.finish(ours), self.folder, self.config, ours)
        num_done = sum(self.folder.is_done(cell) for cell in ours)
        took = format_seconds(time.perf_counter() - started)
        if code in (EXIT_HUNG_UP, EXIT_INTERRUPTED, EXIT_TERMINATED):
            say(f"Stopped with {num_done} of {len(ours)} cells done; the same command goes on.")
        elif code == EXIT_FAILED_CELLS:
            say(
                f"{len(ours) - num_done} of {len(ours)} cells failed (see the table and "
                f"{self.folder.path}/cells/*/error.txt); the same command tries them again."
            )
        else:
            say(
                f"All {len(ours)} cells are done, in {took}. Results: "
                f"{self.folder.path}/results.md, models: {self.folder.path}/exports"
            )
        return code

    def follow(self, cells: Sequence[Cell]) -> int:
        """Trains, as one of several processes, what the first one says; returns the exit code."""
        by_key, code = {cell.key: cell for cell in cells}, EXIT_OK
        try:
            while key := distributed.from_first("the next cell"):
                error = None
                try:
                    self._train(by_key[key])
                except Exception as caught:  # the others go on if they failed alike
                    error = caught
                if any(distributed.exchange_outcome(f"the end of {key}", error)):
                    code = EXIT_FAILED_CELLS
        except KeyboardInterrupt as error:
            code = code_of(error)
        return code

    def merge(self, cells: Sequence[Cell], workdirs: Sequence[str], show: Present) -> int:
        """Takes the cells that other workdirs hold; returns the exit code."""
        num_taken = copy_cells(self.folder, cells, open_workdirs(workdirs, self.config))
        show(self.finish(cells), self.folder, self.config, cells)
        missing = [cell for cell in cells if not self.folder.is_done(cell)]
        say(
            f"{num_taken} cells taken from {len(workdirs)} workdirs, {len(cells) - len(missing)} "
            f"of {len(cells)} are there. Results: {self.folder.path}/results.md"
        )
        for cell in missing:
            say(f"missing: {cell.describe()}")
        return EXIT_FAILED_CELLS if missing else EXIT_OK

    def _open(self, name: str, sample_rate: int, labels: str | None) -> Dataset:
        data = self.config.data
        options = dict(data.options.get(builder_of(name), {}))
        if labels and builder_of(name) == "audio_folder":
            options["labels"] = labels
        return open_dataset(
            name,
            data_dir=data.data_dir,
            sample_rate=sample_rate,
            seed=data.seed,
            cache_megabytes=data.cache_megabytes,
            **options,
        )

    def run(self, cell: Cell) -> dict[str, Any]:
        """Trains and tests one cell; an error becomes its result."""
        result = {
            "source": cell.source,
            "target": cell.target,
            "model": cell.model,
            "mode": cell.mode,
            "seed": cell.seed,
            "num_train_tracks": cell.num_train_tracks,
        }
        started, failed = time.perf_counter(), None
        distributed.from_first("the next cell", cell.key)
        try:
            result |= self._write(cell, *self._train(cell))
        except Exception as error:  # recorded with its traceback; the other cells go on
            failed = error
            folder = self.folder.cell_dir(cell)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
            result |= failure(error, time.perf_counter() - started)
        self.folder.write_result(cell, result)
        distributed.exchange_outcome(f"the end of {cell.key}", failed)
        checkpoints = self.folder.cell_dir(cell) / "checkpoints"
        if result["error"] is None and checkpoints.is_dir():  # the export stands in their place
            shutil.rmtree(checkpoints)
        return result

    def _train(self, cell: Cell) -> tuple[Trained, Dataset, ml_collections.ConfigDict]:
        settings = settings_of_cell(self.config, cell)
        source = None
        if cell.source is not None and cell.source.startswith(EXPORT_PREFIX):
            source = cell.source.removeprefix(EXPORT_PREFIX)
        elif cell.source_cell is not None:
            if not self.folder.is_done(cell.source_cell):
                raise ConfigError(
                    f"The source {cell.source} could not be trained: see its own cell."
                )
            source = self.folder.export_dir(cell.source_cell)
        rate = model_class(cell.model).sample_rate
        rate = given(settings.model).get("sample_rate", rate)
        with distributed.first_goes_first("the data set"):  # which it builds, if it is not there
            dataset = self.open(cell.target, rate, self._labels(cell))
        distributed.check_alike(
            f"data set {cell.target}", dataset.facts, "build it once and copy it, or share it"
        )
        folder = self.folder.cell_dir(cell)
        trained = train_cell(cell, settings, dataset, source, folder, has_profile=self.has_profile)
        return trained, dataset, settings

    def _write(
        self, cell: Cell, trained: Trained, dataset: Dataset, settings: ml_collections.ConfigDict
    ) -> dict[str, Any]:
        """Writes what a training left in memory; returns its result."""
        folder = self.folder.cell_dir(cell)
        report = trained.report.to_dict()
        summary = {name: report[name] for name in ("roc_auc", "pr_auc", "roc_auc_ci", "pr_auc_ci")}
        training = {
            "source": cell.source,
            "mode": cell.mode,
            "seed": cell.seed,
            "num_train_tracks": trained.num_train_tracks,
            "best_step": trained.fit.best_step,
            "loss": settings.train.loss,
        }
        card = make_card(
            trained.model,
            name=cell.model,
            data=dataset.spec,
            training=training,
            metrics={"test": {**summary, "num_tracks": report["num_tracks"]}},
            versions=run_record(),
            aggregate=settings.evaluation.aggregate,
            output=output_of(settings.train.loss),
            thresholds=trained.report.f1_fitted["thresholds"],
            calibration=trained.calibration,
        )
        out = self.folder.export_dir(cell)
        export = save_export(out, trained.variables, card, format_model_readme(card))
        self.folder.write_scores(cell, trained.track_ids, trained.labels, trained.scores)
        write_filters(folder, trained.filters)
        return describe_trained(trained, dataset, settings) | {
            **report,
            **trained.profile,
            "seconds": trained.seconds,
            "export": str(export.relative_to(self.folder.path.absolute())),
            "error": None,
        }

    def _labels(self, cell: Cell) -> str | None:
        """Returns the label patterns of an audio folder: as a source it may have its own."""
        data = self.config.data
        sources = getattr(self.config, "source", "")
        is_source = data.source_labels and cell.target in sources and cell.mode == "scratch"
        return data.source_labels if is_source else data.labels

    def finish(self, cells: Sequence[Cell]) -> list[dict[str, Any]]:
        """Compares with scratch, writes and returns all results."""
        for cell in cells:
            result = self.folder.result(cell)
            if result and self.folder.compare_with_scratch(
                cell, result, self.config.evaluation.num_bootstrap
            ):
                self.folder.write_result(cell, result)
        results = self.folder.all_results()
        self.folder.write_results(results)
        return results


def describe_trained(
    trained: Trained, dataset: Dataset, settings: ml_collections.ConfigDict
) -> dict[str, Any]:
    """Returns what a result says beyond its metrics: data, size, training."""
    leaves = jax.tree.leaves(trained.variables["params"])
    return to_json_safe(
        {
            "is_synthetic": dataset.spec.is_synthetic,
            "loss": settings.train.loss,
            "licence": dataset.spec.licence,
            "num_train_tracks_used": trained.num_train_tracks,
            "model_deviations": model_deviations(settings),
            "num_params": int(sum(np.size(leaf) for leaf in leaves)),
            "best_step": trained.fit.best_step,
            "num_steps": int(trained.fit.state.step),
            "stopped_early": trained.fit.stopped_early,
            "validation": trained.fit.best_metrics,
        }
    )


def failure(error: Exception, seconds: float) -> dict[str, Any]:
    """Returns the result fields of a cell that failed."""
    empty = dict.fromkeys(("roc_auc", "pr_auc", "roc_auc_ci", "pr_auc_ci"))
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
        **empty,
        "num_tracks": 0,
        "num_labels": 0,
        "skipped_labels": [],
        "per_label": {},
        "seconds": seconds,
        "export": None,
        "error": message if known else f"{type(error).__name__}: {message}",
    }
