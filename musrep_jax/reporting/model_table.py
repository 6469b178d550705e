"""Models compared on one data set: seeds put together, the best one, the table.

Reads the cells of `results.json`, see `musrep_jax.reporting.results`, with what the recipe
`compare` adds: `num_params`, `flops_per_chunk`, `flops_per_second`, `tracks_per_second`,
`versus_best`.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from musrep_jax.evaluation.comparison import apply_holm_correction
from musrep_jax.reporting import captions
from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.layout import EMPTY_CELL, Column, format_table, join_paragraphs
from musrep_jax.reporting.results import METRIC_TITLES, SIGNIFICANCE, Cell
from musrep_jax.reporting.tables import format_number, format_value
from musrep_jax.runtime.terminal import get_width

RANDOM_SCORER = "random scorer"
COSTS = ("num_params", "flops_per_chunk", "flops_per_second", "tracks_per_second", "seconds")
PREFIXES = ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"))


@dataclasses.dataclass(frozen=True)
class Score:
    """One metric of one model.

    Attributes:
        value: mean over seeds, NaN when all failed.
        ci: mean of the seeds' 95 % intervals over tracks.
        spread: standard deviation over seeds, NaN below two.
        seed_values: of every seed.
        p_value: of no difference to the best model: the largest over seeds, 1 when seeds disagree
            about who is better; NaN for the best model itself and where nothing was compared.
        mark: `*` worse than the best model, `**` also after Holm's correction over the models.
    """

    value: float
    ci: tuple[float, float]
    spread: float
    seed_values: tuple[float, ...]
    p_value: float
    mark: str = ""


@dataclasses.dataclass(frozen=True)
class ModelRow:
    """A model of the comparison.

    Attributes:
        model: its name.
        scores: metric -> `Score`.
        costs: name of `COSTS` -> mean over seeds, NaN where not recorded.
        errors: the different sentences of the seeds that failed.
        num_seeds: that did not fail.
    """

    model: str
    scores: Mapping[str, Score]
    costs: Mapping[str, float]
    errors: tuple[str, ...]
    num_seeds: int


def make_model_rows(cells: Sequence[Cell], models: Sequence[str] = ()) -> list[ModelRow]:
    """Returns one row per model.

    Args:
        cells: of `results.json`, of one data set and one size of the training set.
        models: their order; others follow as they come.
    """
    found = cells_file.ordered(cells, "model")
    order = [m for m in models if m in found] + [m for m in found if m not in models]
    rows = [_row(model, [c for c in cells if c["model"] == model]) for model in order]
    marks = {
        metric: _marks([row.scores[metric].p_value for row in rows]) for metric in METRIC_TITLES
    }
    return [
        dataclasses.replace(
            row,
            scores={
                metric: dataclasses.replace(score, mark=marks[metric][index])
                for metric, score in row.scores.items()
            },
        )
        for index, row in enumerate(rows)
    ]


def best_model(cells: Sequence[Cell], metric: str) -> str | None:
    """Returns the model with the highest mean over seeds, None when all failed.

    Args:
        cells: of `results.json`.
        metric: `roc_auc` or `pr_auc`.
    """
    values = {row.model: row.scores[metric].value for row in make_model_rows(cells)}
    finite = {model: value for model, value in values.items() if math.isfinite(value)}
    return max(finite, key=finite.__getitem__) if finite else None


def format_comparison_table(
    cells: Sequence[Cell],
    *,
    models: Sequence[str] = (),
    style: str = "markdown",
    notes: Sequence[str] = (),
) -> str:
    """Returns the table of models: quality, size, cost.

    Args:
        cells: of `results.json`, of one data set and one size of the training set.
        models: order of the rows.
        style: `markdown` or `text`.
        notes: sentences put under the table.

    Returns:
        The table with a random scorer as its last row, what its marks mean, and the error sentence
        of every model that failed.
    """
    rows = make_model_rows(cells, models)
    if not rows:
        return "There are no results yet."
    has_seeds = any(row.num_seeds > 1 for row in rows)
    errors: list[str] = []
    lines = []
    for row in rows:
        mark = ""
        for sentence in row.errors:
            errors.append(f"{row.model}: {sentence}")
        if row.errors:
            first = len(errors) - len(row.errors) + 1
            mark = f"failed ({', '.join(str(n) for n in range(first, len(errors) + 1))})"
        if not row.num_seeds:
            lines.append([row.model, mark, *[EMPTY_CELL] * (len(COSTS) + 1)])
            continue
        scores = [_format_score(row.scores[metric]) for metric in METRIC_TITLES]
        model = f"{row.model}, {mark}" if mark else row.model
        lines.append([model, *scores, *format_costs(row)])
    if any(row.num_seeds for row in rows):
        chance = [format_value(*_mean_random(cells, metric)) for metric in METRIC_TITLES]
        lines.append([RANDOM_SCORER, *chance, *[EMPTY_CELL] * len(COSTS)])
    columns = [
        Column("Model"),
        *(Column(f"{title} [95 %]") for title in METRIC_TITLES.values()),
        Column("Parameters", is_number=True),
        Column("FLOPs / chunk", is_number=True, is_optional=True),
        Column("FLOPs / s of audio", is_number=True, is_optional=True),
        Column("Tracks / s", is_number=True),
        Column("Seconds", is_number=True),
    ]
    text = [
        format_table(columns, lines, style, get_width()),
        "",
        *_legend(rows, cells, has_seeds),
        *notes,
    ]
    text += [f"Failed ({number}) {sentence}" for number, sentence in enumerate(errors, start=1)]
    return join_paragraphs(text, style)


def format_costs(row: ModelRow) -> list[str]:
    """Returns the costs of a row as texts, in the order of `COSTS`."""
    params, per_chunk, per_second, tracks, seconds = (row.costs[name] for name in COSTS)
    return [
        EMPTY_CELL if math.isnan(params) else f"{params:,.0f}",
        format_si(per_chunk),
        format_si(per_second),
        EMPTY_CELL if math.isnan(tracks) else f"{tracks:.3g}" if tracks < 100 else f"{tracks:.0f}",
        EMPTY_CELL if math.isnan(seconds) else f"{seconds:.0f}",
    ]


def format_si(value: float) -> str:
    """Returns a number with three digits and a prefix, a dash for NaN.

    >>> format_si(213_200_000.0), format_si(7.0), format_si(999_900.0)
    ('213 M', '7', '1 M')

    Args:
        value: not negative.
    """
    if math.isnan(value):
        return EMPTY_CELL
    rounded = float(f"{value:.3g}")
    for size, prefix in PREFIXES:
        if rounded >= size:
            return f"{rounded / size:.3g}{prefix}"
    return f"{rounded:g}"


def _row(model: str, cells: Sequence[Cell]) -> ModelRow:
    """Returns the row of one model, without marks."""
    good = [cell for cell in cells if not cells_file.is_failed(cell)]
    sentences = [c.get("error") or "no result" for c in cells if cells_file.is_failed(c)]
    return ModelRow(
        model=model,
        scores={metric: _score(good, metric) for metric in METRIC_TITLES},
        costs={name: _mean([cells_file.parse_number(c.get(name)) for c in good]) for name in COSTS},
        errors=tuple(dict.fromkeys(sentences)),
        num_seeds=len(good),
    )


def _score(good: Sequence[Cell], metric: str) -> Score:
    """Returns one metric over the seeds of a model."""
    values = [cells_file.parse_number(cell.get(metric)) for cell in good]
    intervals = [cells_file.parse_interval(cell.get(f"{metric}_ci")) for cell in good]
    compared = [(cell.get("versus_best") or {}).get(metric) or {} for cell in good]
    p_values = [c["p_value"] for c in compared if c.get("p_value") is not None]
    signs = {np.sign(c["difference"]) for c in compared if c.get("difference") is not None}
    return Score(
        value=_mean(values),
        ci=(_mean([low for low, _ in intervals]), _mean([high for _, high in intervals])),
        spread=float(np.std(values, ddof=1)) if len(values) > 1 else float("nan"),
        seed_values=tuple(values),
        p_value=float("nan") if not p_values else max(p_values) if len(signs) == 1 else 1.0,
    )


def _marks(p_values: Sequence[float]) -> list[str]:
    """Returns the mark of every p-value."""
    corrected = apply_holm_correction(np.array(p_values, dtype=np.float64))
    return [
        "**" if strict < SIGNIFICANCE else "*" if plain < SIGNIFICANCE else ""
        for plain, strict in zip(p_values, corrected, strict=True)
    ]


def _mean(values: Sequence[float]) -> float:
    """Returns the mean of the finite values, NaN without any."""
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


def _mean_random(cells: Sequence[Cell], metric: str) -> tuple[float, tuple[float, float]]:
    """Returns the score of a random scorer, with its range."""
    recorded = [cell.get("random") or {} for cell in cells if not cells_file.is_failed(cell)]
    bounds = [cells_file.parse_interval(r.get(f"{metric}_ci")) for r in recorded]
    value = _mean([cells_file.parse_number(r.get(metric)) for r in recorded])
    return value, (_mean([low for low, _ in bounds]), _mean([high for _, high in bounds]))


def _format_score(score: Score) -> str:
    """Returns a value with spread, interval and mark."""
    spread = "" if math.isnan(score.spread) else f" ± {score.spread:.3f}"
    bounds = format_value(score.value, score.ci).removeprefix(format_number(score.value))
    return f"{format_number(score.value)}{spread}{bounds}{' ' + score.mark if score.mark else ''}"


def _legend(rows: Sequence[ModelRow], cells: Sequence[Cell], has_seeds: bool) -> list[str]:
    """Returns the sentences under the table."""
    lines = [
        f"Brackets: 95 % intervals over {captions.describe_resampled(cells)}; of the random "
        "scorer, its range."
    ]
    if any(math.isfinite(s.p_value) for row in rows for s in row.scores.values()):
        lines.append(
            "* worse than the best model of the column (paired test, p < 0.05); ** also after "
            "Holm's correction for all models."
        )
    if has_seeds:
        lines.append(
            "Means over seeds; ± is the standard deviation over seeds, and a mark needs all seeds "
            "to agree."
        )
    lines.append(
        "FLOPs: products, convolutions and Fourier transforms of one forward pass with its front "
        "end, two for a multiplication with addition. "
        "Tracks / s: test tracks scored with all of their chunks. Seconds: training and test."
    )
    return lines
