"""Reading the cells of `results.json`: names, order, seeds put together, differences to scratch.

A cell is a mapping with the fields `source` (None for scratch), `target`, `model`, `mode`, `seed`,
`roc_auc`, `pr_auc`, `roc_auc_ci`, `pr_auc_ci` and `error`, and where known `num_train_tracks` (see
`musrep_jax.evaluation.subsets`; 0 is all), `num_train_tracks_used` (how many it was), `random` and
`versus_scratch`. Missing fields
read as None, so files of earlier versions stay readable.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from musrep_jax.evaluation.comparison import apply_holm_correction
from musrep_jax.evaluation.subsets import Size, rank_size

Cell = Mapping[str, Any]

SCRATCH, BASELINE = "scratch", "baseline"
CHOSEN_EXPORT = "best"
"""Folder in `exports/` with the model that was chosen on validation data."""
MODES = (SCRATCH, "output_layer", "all_layers")
METRIC_TITLES = {"roc_auc": "ROC-AUC", "pr_auc": "PR-AUC"}
SIGNIFICANCE = 0.05


@dataclasses.dataclass(frozen=True)
class Condition:
    """The training condition of a cell; cells that differ only in their seed share it.

    Attributes:
        target: data set trained and tested on.
        model: model name.
        num_train_tracks: size of the training set, 0 for all, None when not recorded.
        mode: `scratch`, `output_layer` or `all_layers`.
        source: data set the parameters come from, None for scratch.
        study: setting and value of what a study varied.
    """

    target: str
    model: str
    num_train_tracks: Size | None
    mode: str
    source: str | None
    study: tuple[tuple[str, Any], ...] = ()

    def find_scratch(self, conditions: Iterable["Condition"]) -> "Condition | None":
        """Returns the condition that this one is compared with, None without one.

        Settings of a study that change nothing from scratch are not those of a training from
        scratch.

        Args:
            conditions: to look among.
        """
        ours = dict(self.study).items()
        found = [
            other
            for other in conditions
            if dataclasses.replace(other, study=())
            == dataclasses.replace(self, mode=SCRATCH, source=None, study=())
            and dict(other.study).items() <= ours
        ]
        return max(found, key=lambda other: len(other.study), default=None)


@dataclasses.dataclass(frozen=True)
class Summary:
    """One metric of all seeds of a condition.

    Attributes:
        condition: what was trained.
        metric: `roc_auc` or `pr_auc`.
        value: mean over the seeds that did not fail, NaN when all failed.
        spread: standard deviation over seeds, NaN below two.
        ci: mean of the seeds' 95 % intervals over tracks.
        seed_values: the value of every seed.
        difference: mean difference to scratch, NaN when there is nothing to compare with.
        is_significant: whether every seed differs from scratch with p below 0.05, the same way.
        chance: of a random scorer on the same tracks.
        num_train_tracks_used: tracks trained on, their mean over seeds; None when not known.
        num_failed: seeds with an error.
    """

    condition: Condition
    metric: str
    value: float
    spread: float
    ci: tuple[float, float]
    seed_values: tuple[float, ...]
    difference: float
    is_significant: bool
    chance: float
    num_train_tracks_used: int | None
    num_failed: int


def get_condition(cell: Cell) -> Condition:
    """Returns the training condition of a cell.

    Args:
        cell: of `results.json`.

    Returns:
        A `Condition`.
    """
    return Condition(
        target=cell["target"],
        model=cell["model"],
        num_train_tracks=cell.get("num_train_tracks"),
        mode=cell["mode"],
        source=cell.get("source"),
        study=tuple(
            (setting, _to_tuples(value)) for setting, value in (cell.get("study") or {}).items()
        ),
    )


def list_study_settings(cells: Iterable[Cell]) -> dict[str, str]:
    """Returns the settings that a study varied, with the titles of their columns.

    >>> list_study_settings([{"study": {"model.n_mels": 96}}, {"study": {}}])
    {'model.n_mels': 'n_mels'}

    Args:
        cells: of `results.json`.
    """
    settings = dict.fromkeys(setting for cell in cells for setting in cell.get("study") or {})
    last = [setting.rpartition(".")[2] for setting in settings]
    return {
        setting: short if last.count(short) == 1 else setting
        for short, setting in zip(last, settings, strict=True)
    }


def format_study_value(value: Any) -> str:
    """Returns the value of a setting as text.

    Args:
        value: as `results.json` has it.
    """
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def separate_variants(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Returns cells in which each combination of a study's values is a model of its own.

    For figures and tables that put models beside each other: the model is called
    `MODEL, SETTING=VALUE`. A cell that some settings do not change stands with all their values.

    Args:
        cells: of `results.json`.
    """
    titles = list_study_settings(cells)
    if not titles:
        return [dict(cell) for cell in cells]
    conditions = [get_condition(cell) for cell in cells]
    studies = {condition.study: dict(condition.study) for condition in conditions}
    siblings: dict[Condition, list[dict[str, Any]]] = {}
    for condition in conditions:
        base = dataclasses.replace(condition, study=())
        siblings.setdefault(base, []).append(studies[condition.study])
    found = []
    for cell, condition in zip(cells, conditions, strict=True):
        own = studies[condition.study]
        larger = [study for study in studies.values() if own.items() < study.items()]
        # Where the same was run with the setting, this one has the setting's default.
        beside = siblings[dataclasses.replace(condition, study=())]
        is_shared = larger and not any(own.items() < study.items() for study in beside)
        for study in larger if is_shared else [own]:
            values = [f"{titles[s]}={format_study_value(v)}" for s, v in study.items()]
            model = ", ".join([cell["model"], *values])
            found.append({**cell, "model": model, "study": {}})
    return found


def _to_tuples(value: Any) -> Any:
    """Returns lists of a JSON file as tuples, which can be keys."""
    return tuple(map(_to_tuples, value)) if isinstance(value, list | tuple) else value


def is_failed(cell: Cell) -> bool:
    """Returns whether a cell has an error instead of a result.

    Args:
        cell: of `results.json`.
    """
    return cell.get("error") is not None or cell.get("roc_auc") is None


def sort_cells(cells: Iterable[Cell]) -> list[Cell]:
    """Returns the cells by target, model, number of training tracks (all last), mode, source, seed.

    Values of a study come before the seed. They, targets, models and sources keep the order in
    which they first occur.

    Args:
        cells: of `results.json`.
    """
    listed = list(cells)
    targets, models = ordered(listed, "target"), ordered(listed, "model")
    sources = order_sources(listed)
    studies = list(dict.fromkeys(get_condition(cell).study for cell in listed))
    others = [mode for mode in ordered(listed, "mode") if mode not in (*MODES, BASELINE)]
    modes = [*MODES, *others, BASELINE]

    def place(cell: Cell) -> tuple[float, ...]:
        return (
            targets.index(cell["target"]),
            models.index(cell["model"]),
            *rank_size(cell.get("num_train_tracks")),
            modes.index(cell["mode"]),
            -1 if cell.get("source") is None else sources.index(cell["source"]),
            studies.index(get_condition(cell).study),
            cell.get("seed") or 0,
        )

    return sorted(listed, key=place)


def ordered(cells: Iterable[Cell], field: str) -> list[Any]:
    """Returns the different values of a field in order of first occurrence, without None.

    Args:
        cells: of `results.json`.
        field: its name.
    """
    return [value for value in dict.fromkeys(c.get(field) for c in cells) if value is not None]


def order_sources(cells: Sequence[Cell]) -> list[str]:
    """Returns the sources, those that are targets too in the order of the targets, then the others.

    Args:
        cells: of `results.json`.
    """
    sources = ordered(cells, "source")
    both = [target for target in ordered(cells, "target") if target in sources]
    return both + [source for source in sources if source not in both]


def summarize(cells: Iterable[Cell], metric: str) -> dict[Condition, Summary]:
    """Returns one summary per condition, seeds put together.

    Args:
        cells: of `results.json`.
        metric: `roc_auc` or `pr_auc`.

    Returns:
        Condition -> `Summary`, in the order of `sort_cells`.
    """
    by_condition: dict[Condition, list[Cell]] = {}
    for cell in sort_cells(cells):
        by_condition.setdefault(get_condition(cell), []).append(cell)
    means = {
        condition: _mean([parse_number(c.get(metric)) for c in members if not is_failed(c)])
        for condition, members in by_condition.items()
    }
    return {
        condition: _summary(condition, metric, members, means)
        for condition, members in by_condition.items()
    }


def versus_scratch(cell: Cell, metric: str) -> tuple[float, tuple[float, float], float]:
    """Returns a cell's recorded difference to scratch, its interval and its p-value.

    Args:
        cell: of `results.json`.
        metric: `roc_auc` or `pr_auc`.

    Returns:
        Three entries, NaN where nothing is recorded.
    """
    recorded = ((cell.get("versus_scratch") or {}).get(metric)) or {}
    return (
        parse_number(recorded.get("difference")),
        parse_interval(recorded.get("ci")),
        parse_number(recorded.get("p_value")),
    )


def drop_baselines(cells: Iterable[Cell]) -> list[Cell]:
    """Returns the cells of trained models.

    Args:
        cells: of `results.json`.
    """
    return [cell for cell in cells if cell["mode"] != BASELINE]


def mark_significance(cells: Sequence[Cell], metric: str) -> list[str]:
    """Returns a mark per cell: `**` significant after Holm's correction over all cells, `*` alone.

    Args:
        cells: of `results.json`.
        metric: `roc_auc` or `pr_auc`.

    Returns:
        `**`, `*` or an empty text per cell.
    """
    p_values = np.array([versus_scratch(cell, metric)[2] for cell in cells], dtype=np.float64)
    corrected = apply_holm_correction(p_values)
    return [
        "**" if strict < SIGNIFICANCE else "*" if plain < SIGNIFICANCE else ""
        for plain, strict in zip(p_values, corrected, strict=True)
    ]


def parse_number(value: Any) -> float:
    """Returns a number of a JSON file, NaN for None.

    Args:
        value: a number or None.
    """
    return float("nan") if value is None else float(value)


def parse_interval(value: Any) -> tuple[float, float]:
    """Returns an interval of a JSON file, NaN bounds for None.

    Args:
        value: two numbers or None, or None.
    """
    return (float("nan"), float("nan")) if value is None else tuple(parse_number(v) for v in value)


def _mean(values: Sequence[float]) -> float:
    """Returns the mean of the finite values, NaN without any."""
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def _summary(
    condition: Condition,
    metric: str,
    members: Sequence[Cell],
    means: Mapping[Condition, float],
) -> Summary:
    """Returns the summary of one condition's cells."""
    good = [cell for cell in members if not is_failed(cell)]
    values = [parse_number(cell.get(metric)) for cell in good]
    intervals = [parse_interval(cell.get(f"{metric}_ci")) for cell in good]
    compared = [versus_scratch(cell, metric) for cell in good]
    difference = _mean([item[0] for item in compared])
    if math.isnan(difference) and condition.mode != SCRATCH:
        scratch = condition.find_scratch(means)
        difference = means[condition] - means[scratch] if scratch else float("nan")
    signs = {np.sign(item[0]) for item in compared if item[2] < SIGNIFICANCE}
    used = [cell.get("num_train_tracks_used") or cell.get("num_train_tracks") for cell in good]
    used = [count for count in used if count and isinstance(count, int)]
    return Summary(
        condition=condition,
        metric=metric,
        value=_mean(values),
        spread=float(np.std(values, ddof=1)) if len(values) > 1 else float("nan"),
        ci=(_mean([low for low, _ in intervals]), _mean([high for _, high in intervals])),
        seed_values=tuple(values),
        difference=difference,
        is_significant=len(signs) == 1 and all(item[2] < SIGNIFICANCE for item in compared),
        chance=_mean([parse_number((cell.get("random") or {}).get(metric)) for cell in good]),
        num_train_tracks_used=round(sum(used) / len(used)) if used else None,
        num_failed=len(members) - len(good),
    )
