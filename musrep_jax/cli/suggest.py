"""`musrep suggest`: proposes the tracks of a store that are most worth labeling next."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musrep_jax.cli.common import Json, print_json
from musrep_jax.cli.similar import Count, StorePath

if TYPE_CHECKING:
    import numpy as np

    from musrep_jax.store import Store


def suggest(
    store: StorePath,
    label: Annotated[str, typer.Option(help="The label.")],
    model: Annotated[
        str | None,
        typer.Option(help="A model that was taught the label, if the store's model lacks it."),
    ] = None,
    k: Count = 10,
    labeled: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folders or tables of recordings that have labels already, see musrep teach; they "
            "are not proposed. May be given several times."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="The table to fill in; one that is there is not overwritten.")
    ] = Path("suggestions.tsv"),
    json: Json = False,
) -> None:
    """Propose the tracks of a store that are most worth labeling next, and write a table for them.

    Proposed are tracks of which the model is unsure whether they have the label, and which differ
    from each other: of the tenth whose probabilities are nearest to the label's threshold (twice to
    ten times as many as asked for), those that lie farthest apart. Fill in the column labels of the
    table (an empty cell says that the label does not hold), delete the lines that you have not
    judged, and give it to musrep teach as a further --examples.
    """
    from musrep_jax.cli.labeled_files import find_in_store, read_labeled_files
    from musrep_jax.store import Store, StoreError
    from musrep_jax.store.suggesting import suggest_tracks

    if out.exists():
        raise StoreError(f"{out} exists already, and may be filled in: name another --out.")
    opened = Store(store)
    name, probabilities, threshold = read_probabilities(opened, label, model)
    is_free = opened.is_present()
    for file in read_labeled_files(labeled or ()):
        row = find_in_store(opened, file)
        if row is not None:
            is_free[row] = False
    rows = suggest_tracks(opened.embeddings, probabilities, threshold, k, is_free)
    if not len(rows):
        raise StoreError(f"{store} has no track that has no labels yet: embed more into it.")
    found = [
        {"path": opened.track(row)["path"], "probability": float(probabilities[row])}
        for row in rows.tolist()
    ]
    write_suggestions(out, name, found)
    if json:
        print_json({"label": name, "threshold": threshold, "table": str(out), "tracks": found})
        return
    print_suggestions(name, found)
    typer.echo(
        f"\nWritten to {out}: fill in its column labels, delete what you have not judged, then: "
        f"musrep teach MODEL --examples EARLIER --examples {out} --store {store} --out EXPORT"
    )


def read_probabilities(
    store: "Store", label: str, model: str | None
) -> "tuple[str, np.ndarray, float]":
    """Returns a label as it is written, its probability for every track, and its threshold.

    Args:
        store: the store.
        label: in any case.
        model: that has the label, with the store's embeddings; None for the store's own.

    Raises:
        StoreError: if the label is not there, or the store holds other embeddings.
    """
    from musrep_jax.cli.teach import check_store
    from musrep_jax.evaluation.aggregation import probabilities
    from musrep_jax.inference.tagger import load_tagger
    from musrep_jax.store import StoreError
    from musrep_jax.store.search import QueryError, find_label
    from musrep_jax.weights.output_layers import compute_logits

    if model is None:
        try:
            column = find_label(label, store.labels)
        except QueryError as error:
            raise StoreError(
                f"{store.path}: {error} If a model was taught the label, name it with --model."
            ) from error
        name = store.labels[column]
        thresholds = store.about.get("thresholds") or {}
        return name, store.probabilities[:, column], thresholds.get(name, 0.5)
    tagger = load_tagger(model)
    check_store(store, tagger, model)
    column = find_label(label, tagger.labels)
    name = tagger.labels[column]
    scores = probabilities(compute_logits(tagger, store.embeddings), tagger.output)
    return name, scores[:, column], (tagger.card.get("thresholds") or {}).get(name, 0.5)


def write_suggestions(out: Path, label: str, found: Sequence[dict[str, Any]]) -> None:
    """Writes a table like `labels.tsv` whose column labels is empty.

    Args:
        out: the file.
        label: that is asked about.
        found: the tracks.
    """
    import csv
    import io

    from musrep_jax.runtime.files import write_text

    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(["path", "labels", f"probability of {label}"])
    writer.writerows([one["path"], "", f"{one['probability']:.3f}"] for one in found)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text.getvalue())


def print_suggestions(label: str, found: Sequence[dict[str, Any]]) -> None:
    """Prints the tracks as a table."""
    from musrep_jax.reporting.layout import Column, format_table

    columns = [Column(label, True), Column("track")]
    rows = [[f"{one['probability']:.2f}", one["path"]] for one in found]
    typer.echo(format_table(columns, rows, "text"))
