"""`musrep merge`: one model of several that share a start, by averaging or task arithmetic."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musrep_jax.cli.common import Json, print_json, say

if TYPE_CHECKING:
    from musrep_jax.weights.merging import Source

SWEEP = "0,0.1,0.2,0.3,0.5,0.7,1"
UNRELATED = 0.5
"""Correlation of kernels below which exports hardly share a start."""


def merge(
    exports: Annotated[list[Path], typer.Argument(metavar="EXPORT...", help="Exported models.")],
    out: Annotated[Path, typer.Option(help="Output directory.")],
    weights: Annotated[
        str,
        typer.Option(
            help="One per export, comma-separated: shares of an average, which sum to 1; with "
            "--base factors of the task vectors, and one number stands for all. Default: equal."
        ),
    ] = "",
    base: Annotated[
        Path | None,
        typer.Option(help="The export that the others were trained from: add task vectors to it."),
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            metavar="DATASET",
            help="Choose the factor on this data set's validation split: NAME, or "
            "audio_folder:FOLDER.",
        ),
    ] = "",
    sweep: Annotated[
        str,
        typer.Option(
            help="Factors that --data tries: of all weights with --base; of two exports without "
            "it, the share of the second."
        ),
    ] = SWEEP,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Root of the data sets; by default $MUSREP_DATA or the user's cache."),
    ] = None,
    json: Json = False,
) -> None:
    """Merge models that share a start into one.

    Without --base their backbones are averaged. With --base, each adds what its training has
    changed (its task vector) to the base, times its weight; CultureMERT-TA is four such vectors at
    0.2. Output layers are not added: the result has the labels of all, and where several have a
    label, the mean of theirs. With --data the factor is the one whose embeddings carry the best
    ridge regression on validation. Models that differ are refused.
    """
    from musrep_jax.exports.cards import format_model_readme
    from musrep_jax.inference.tagger import load_encoder
    from musrep_jax.training.checkpoints import save_export
    from musrep_jax.weights import merging

    opened = [merging.Source(str(path), load_encoder(path)) for path in exports]
    start = None if base is None else merging.Source(str(base), load_encoder(base))
    factors = merging.check_weights(
        parse_numbers(weights, "--weights"), len(opened), has_base=base is not None
    )
    everything = [*opened, *([start] if start else [])]
    merging.check_mergeable(everything)
    related = merging.measure_relation(everything) if len(everything) > 1 else 1.0
    if related < UNRELATED:
        say(
            f"note: the kernels of two of these correlate by {related:.2f} only, so they hardly "
            "share a start, and their merge may be worth nothing."
        )
    swept: dict[str, float] = {}
    if data:
        candidates = make_candidates(factors, parse_numbers(sweep, "--sweep"), has_base=bool(base))
        swept, factors = try_candidates(opened, start, candidates, data, data_dir)
    merged = merging.merge(opened, factors, start)
    card = merging.make_merged_card(merged, opened, factors, start)
    if swept:
        card["training"]["swept"] = {"data": data, "validation_roc_auc": swept}
    path = save_export(out, merged.variables, card, format_model_readme(card))
    load_encoder(path)
    told = {
        "export": str(path),
        "weights": dict(zip(map(str, exports), factors, strict=True)),
        "base": None if base is None else str(base),
        "labels": list(merged.labels),
        "correlation": related,
        "validation_roc_auc": swept,
    }
    if json:
        print_json(told)
        return
    for key, value in swept.items():
        typer.echo(f"weights {key:24} validation ROC-AUC {value:.4f}")
    typer.echo(
        f"Merged {', '.join(f'{f:g} x {p}' for p, f in zip(exports, factors, strict=True))}"
        f"{f' added to {base}' if base else ''}; "
        f"{f'{len(merged.labels)} labels' if merged.labels else 'a backbone without labels'}. "
        f"Written to {path}."
    )


def parse_numbers(text: str, option: str) -> tuple[float, ...]:
    """Returns the numbers of a comma-separated option.

    Args:
        text: such as "0.2,0.8"; empty gives none.
        option: its name, for the message.

    Raises:
        ConfigError: if a part is no number.
    """
    from musrep_jax.config import ConfigError, split_list

    try:
        return tuple(float(part) for part in split_list(text))
    except ValueError as error:
        raise ConfigError(
            f"{option} is {text!r}; it must be numbers separated by commas."
        ) from error


def make_candidates(
    factors: tuple[float, ...], scales: tuple[float, ...], *, has_base: bool
) -> list[tuple[float, ...]]:
    """Returns the weights that are tried.

    Args:
        factors: of the exports.
        scales: what all are multiplied by, or of an average of two the share of the second.
        has_base: whether task vectors are added to a start.

    Raises:
        ConfigError: if nothing is to be tried, or an average is of other than two.
    """
    from musrep_jax.config import ConfigError

    if not scales:
        raise ConfigError("--sweep is empty: give the factors to try, such as 0.2,0.5,1.")
    if has_base:
        return [tuple(scale * factor for factor in factors) for scale in scales]
    if len(factors) != 2:
        raise ConfigError(
            f"The shares of an average of {len(factors)} exports are not swept: merge two, or give "
            "the start that they share (--base)."
        )
    return [(1 - scale, scale) for scale in scales]


def try_candidates(
    opened: "Sequence[Source]",
    start: "Source | None",
    candidates: list[tuple[float, ...]],
    data: str,
    data_dir: Path | None,
) -> tuple[dict[str, float], tuple[float, ...]]:
    """Returns the validation ROC-AUC of each candidate, and the best; of equals the first.

    Args:
        opened: the exports.
        start: that they share, or None.
        candidates: weights, one per export in each.
        data: name of the data set.
        data_dir: root of the data sets.

    Raises:
        ConfigError: if nothing can be measured on the data set.
    """
    import contextlib
    import math
    import sys

    from musrep_jax.config import ConfigError
    from musrep_jax.data.datasets import open_dataset
    from musrep_jax.tasks.tagging.probe import probe
    from musrep_jax.weights.merging import merge as combine

    with contextlib.redirect_stdout(sys.stderr):  # a build tells what it does
        dataset = open_dataset(data, data_dir=data_dir, sample_rate=opened[0].loaded.sample_rate)
    scores = []
    for weights in candidates:
        merged = combine(opened, weights, start)
        scores.append(probe(merged.model, merged.variables, dataset))
    if all(math.isnan(score) for score in scores):
        raise ConfigError(
            f"No label of {data} has validation tracks with it and without it, so no factor can be "
            "chosen: label more tracks, or leave --data out."
        )
    best = max(range(len(scores)), key=scores.__getitem__)
    named = {
        ", ".join(f"{weight:g}" for weight in weights): score
        for weights, score in zip(candidates, scores, strict=True)
    }
    return named, candidates[best]
