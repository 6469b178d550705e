"""What figures say and where: names on axes, notes on data, line breaks, which cells belong in."""

import dataclasses
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from musrep_jax.evaluation.metrics import EvaluationError
from musrep_jax.evaluation.subsets import Size, rank_size
from musrep_jax.evaluation.support import MIN_EXAMPLES, SMALL_VALIDATION_UNITS
from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.display_names import find_common_collection, make_display_names
from musrep_jax.reporting.results import MODES, SCRATCH, Cell, Condition, Summary

SYNTHETIC_NOTE = "synthetic data"
MIN_SCORE_SPAN = 0.2
"""Of an axis of scores, so that a difference of .01 never fills a picture."""
MIN_COLOR_RANGE = 0.2
"""Difference to scratch with the strongest color, unless a greater one is shown: the same color
means the same in most runs, and -.03 is pale."""


def make_axis_names(
    names: Sequence[str | None], synthetic: Collection[str] = ()
) -> dict[str | None, str]:
    """Returns short names of data sets, marked as synthetic where only some of the data is.

    >>> make_axis_names(["a/makam", "b/fma"], synthetic=["a/makam"])
    {'a/makam': 'makam (synthetic)', 'b/fma': 'fma'}

    Args:
        names: as in configs; None stands for no source.
        synthetic: those whose audio is generated.
    """
    given = {name for name in names if name is not None}
    mixed = bool(given & set(synthetic)) and not given <= set(synthetic)
    return {
        name: f"{short} (synthetic)" if mixed and name in synthetic else short
        for name, short in make_display_names(names).items()
    }


def make_data_note(names: Sequence[str | None], synthetic: Collection[str] = ()) -> str:
    """Returns the second line of a title: the common collection, and whether data is synthetic.

    >>> make_data_note(["s/makam", "s/greek"], synthetic=["s/makam", "s/greek"])
    's, synthetic data'

    Args:
        names: as in configs; None is passed over.
        synthetic: those whose audio is generated.
    """
    given = {name for name in names if name is not None}
    collection = find_common_collection(names)
    if not given & set(synthetic):
        return collection
    note = SYNTHETIC_NOTE if given <= set(synthetic) else f"partly {SYNTHETIC_NOTE}"
    return f"{collection}, {note}" if collection else note


def wrap(text: str, max_characters: int) -> str:
    """Returns the text in lines; long names may break after underscores and slashes.

    >>> wrap("turkish_makam_music", 14)
    'turkish_makam_\\nmusic'

    Args:
        text: one line.
        max_characters: longest line.
    """
    lines = [""]
    for part in re.findall(r"[^\s_/]*[\s_/]?", text):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > max_characters:
            lines.append("")
        lines[-1] += part
        while len(lines[-1].rstrip()) > max_characters:
            lines[-1:] = [lines[-1][:max_characters], lines[-1][max_characters:]]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def shorten(text: str, max_characters: int) -> str:
    """Returns the text, its end replaced by an ellipsis when it is too long.

    >>> shorten("instrument", 5)
    'inst…'

    Args:
        text: one line.
        max_characters: longest result.
    """
    return text if len(text) <= max_characters else text[: max_characters - 1] + "…"


def limit_scores(values: Iterable[float]) -> tuple[float, float]:
    """Returns the ends of an axis of scores: within 0 and 1, never so near that a hair looks wide.

    >>> limit_scores([0.985, 1.0])
    (0.8, 1.0)

    Args:
        values: that are drawn; those that are not finite are passed over.

    Returns:
        Ends with 5 % of room at both sides, at least `MIN_SCORE_SPAN` apart.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    room = 0.05 * (max(finite) - min(finite))
    low, high = min(finite) - room, max(finite) + room
    lacking = max(0.0, MIN_SCORE_SPAN - (high - low)) / 2
    low, high = low - lacking, high + lacking
    low -= max(0.0, high - 1) if lacking else 0.0
    high += max(0.0, -low) if lacking else 0.0
    return round(max(low, 0.0), 6), round(min(high, 1.0), 6)


def limit_quantity(values: Iterable[float]) -> tuple[float, float] | None:
    """Returns the ends of an axis of losses or rates, None where the drawn values decide.

    >>> limit_quantity([0.5, 0.5]), limit_quantity([0.1, 0.5])
    ((0.4, 0.6), None)

    Args:
        values: that are drawn; those that are not finite are passed over.

    Returns:
        The ends, a fifth of the greatest value to both sides, where the values hardly differ.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    reach = 0.2 * max(abs(low), abs(high)) or 1.0
    if high - low >= reach:
        return None
    middle = (low + high) / 2
    return float(f"{middle - reach:.6g}"), float(f"{middle + reach:.6g}")


def spaced(values: Sequence[int]) -> list[int]:
    """Returns the values that leave room for their labels on a logarithmic axis, last one kept.

    >>> spaced([10, 100, 101, 1000])
    [10, 101, 1000]

    Args:
        values: rising, positive.
    """
    gap = math.log(values[-1] / values[0]) / 7
    kept: list[int] = []
    for value in reversed(values):
        if not kept or math.log(kept[-1] / value) >= gap:
            kept.append(value)
    return kept[::-1]


def find_transfer_targets(cells: Sequence[Cell]) -> list[str]:
    """Returns the targets of transfers, or all data sets if nothing was transferred.

    Args:
        cells: of `results.json`; trainings that only provide a source are among them.
    """
    carried = [cell for cell in cells if cell.get("source") is not None]
    return cells_file.ordered(carried or cells, "target")


def get_training_size(cell: Cell) -> Size:
    """Returns the size of the training set of a cell, 0 for all.

    Args:
        cell: of `results.json`.
    """
    return cell.get("num_train_tracks") or 0


def list_training_sizes(cells: Sequence[Cell]) -> list[Size]:
    """Returns the training set sizes of the transfers, or of all cells when nothing was carried.

    They rise, all last.

    The trainings that only provide a source see all of its tracks, whatever size is asked of the
    targets; they must not decide what is shown.

    Args:
        cells: of `results.json`, at least one.
    """
    carried = [cell for cell in cells if cell.get("source") is not None]
    return sorted({get_training_size(cell) for cell in carried or cells}, key=rank_size)


def list_transfer_pairs(
    summaries: Sequence[Summary], targets: Sequence[str]
) -> list[tuple[str | None, str]]:
    """Returns every pair of source and target with a transfer, ordered by target.

    Without any, every target stands alone, its source None.

    Args:
        summaries: from `cells.summarize`.
        targets: in their order.
    """
    conditions = [summary.condition for summary in summaries]
    carried = dict.fromkeys((c.source, c.target) for c in conditions if c.source is not None)
    pairs = list(carried) or [(None, target) for target in targets]
    return sorted(pairs, key=lambda pair: targets.index(pair[1]))


@dataclasses.dataclass(frozen=True)
class TransferMatrix:
    """The content of a transfer matrix: rows, columns and fields of one model and training size.

    Attributes:
        targets: one column each.
        sources: one row each; None is training from scratch.
        modes: one panel each.
        names: of targets and sources, as they stand on the axes.
        summaries: of all conditions.
        model: of all cells.
        num_train_tracks: as the cells record it; None is all.
    """

    targets: list[str]
    sources: list[str | None]
    modes: list[str]
    names: dict[str | None, str]
    summaries: dict[Condition, Summary]
    model: str
    num_train_tracks: Size | None

    def field(self, mode: str, source: str | None, target: str) -> Summary | None:
        """Returns the content of a field, or None if nothing was run."""
        mode = SCRATCH if source is None else mode
        return self.summaries.get(
            Condition(target, self.model, self.num_train_tracks, mode, source)
        )


def make_transfer_matrix(
    cells: Sequence[Cell], metric: str, size: Size, synthetic: Collection[str] = ()
) -> TransferMatrix:
    """Returns the transfer matrix of one training size.

    The trainings that only provide a source are no targets of it.

    Args:
        cells: of one model.
        metric: `roc_auc` or `pr_auc`.
        size: one of `list_training_sizes`.
        synthetic: names of the data sets whose audio is generated.
    """
    shown = [cell for cell in cells if get_training_size(cell) == size]
    targets = find_transfer_targets(shown)
    shown = [cell for cell in shown if cell["target"] in targets]
    sources: list[str | None] = [None, *cells_file.order_sources(shown)]
    modes = [mode for mode in MODES if any(cell["mode"] == mode for cell in shown)]
    carried = [cell for cell in shown if cell.get("source") is not None]
    modes += [mode for mode in cells_file.ordered(carried, "mode") if mode not in MODES]
    return TransferMatrix(
        targets=targets,
        sources=sources,
        modes=[mode for mode in modes if mode != SCRATCH] or modes,
        names=make_axis_names([*targets, *sources], synthetic),
        summaries=cells_file.summarize(shown, metric),
        model=cells[0]["model"],
        num_train_tracks=next((cell.get("num_train_tracks") for cell in shown), None),
    )


def get_single_model(cells: Sequence[Cell]) -> str:
    """Returns the model of the cells.

    Args:
        cells: of `results.json`.

    Raises:
        EvaluationError: when there is none or more than one.
    """
    models = cells_file.ordered(cells, "model")
    if len(models) != 1:
        raise EvaluationError(
            f"the figure needs cells of one model, not of {', '.join(models) or 'none'}; "
            "draw one figure per model."
        )
    return models[0]


def has_seeds(summaries: Mapping[Condition, Summary]) -> bool:
    """Returns whether any condition was trained with several seeds.

    Args:
        summaries: from `cells.summarize`.
    """
    return any(len(summary.seed_values) > 1 for summary in summaries.values())


def describe_resampled(cells: Sequence[Cell]) -> str:
    """Returns what intervals and tests are over, with the number of groups.

    >>> cell = {"target": "a/lyra", "num_track_groups": 22, "num_tracks": 118, "roc_auc": 0.7}
    >>> describe_resampled([cell])
    'whole groups of test tracks (lyra: 22 groups of 118 tracks)'

    Args:
        cells: of `results.json`.
    """
    good = [cell for cell in cells if not cells_file.is_failed(cell)]
    groups: dict[str, str] = {}
    for cell in good:
        count = cell.get("num_track_groups")
        if count:
            group = "group" if count == 1 else "groups"
            groups.setdefault(
                cell.get("target", ""), f"{count} {group} of {cell['num_tracks']} tracks"
            )
    if not groups:
        return "test tracks"
    names = make_display_names(list(groups))
    listed = "; ".join(f"{names[target]}: {text}" for target, text in groups.items())
    if len(groups) > 1 and len(set(groups.values())) == 1:
        listed = f"{next(iter(groups.values()))} in each data set"
    is_mixed = any(not cell.get("num_track_groups") for cell in good)
    rest = ", test tracks one by one elsewhere" if is_mixed else ""
    return f"whole groups of test tracks ({listed}){rest}"


def make_support_notes(cells: Sequence[Cell]) -> list[str]:
    """Returns sentences on what too few tracks stand behind, none when all is well supported.

    Args:
        cells: of `results.json`.
    """
    notes, small = [], {}
    compared = [
        entry
        for cell in cells
        for field in ("versus_scratch", "versus_best")
        for entry in (cell.get(field) or {}).values()
    ]
    if any(cell.get("ci_reason") for cell in cells) or any(c.get("reason") for c in compared):
        notes.append(
            f"Too few tracks or groups: no label has {MIN_EXAMPLES} test tracks with it and "
            f"{MIN_EXAMPLES} without it from enough groups, so nothing is bracketed or tested."
        )
    for cell in cells:
        size = cell.get("validation_size") or {}
        if size.get("is_small"):
            count = size["num_groups"] or size["num_tracks"]
            small.setdefault(
                cell["target"], f"{count} {'groups' if size['num_groups'] else 'tracks'}"
            )
    if small:
        names = make_display_names(list(small))
        listed = "; ".join(f"{names[target]}: {text}" for target, text in small.items())
        notes.append(
            f"Small validation sets ({listed}): best weights, thresholds and calibration are "
            f"chosen on fewer than {SMALL_VALIDATION_UNITS} tracks or groups, or on labels with "
            f"fewer than {MIN_EXAMPLES} positives, and partly by chance."
        )
    return notes
