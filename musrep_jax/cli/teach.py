"""`musrep teach`: gives a model new labels from a few examples."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musrep_jax.cli.common import EXIT_FAILED, Json, complete, print_json, say
from musrep_jax.cli.embed import Workers
from musrep_jax.cli.model_choice import OptionalModel, take_default

if TYPE_CHECKING:
    import numpy as np

    from musrep_jax.cli.labeled_files import EmbeddedFile
    from musrep_jax.inference.encoder import LoadedEncoder
    from musrep_jax.probing.few_examples import OutputLayer
    from musrep_jax.probing.left_out_report import LeftOutReport
    from musrep_jax.probing.protocol import Examples
    from musrep_jax.store import Store

MAX_BACKGROUND = 500
"""Tracks of a store that stand for what a single label is not."""
MIN_GROUPS = 2
FEW_EXAMPLES = 5
HEADS = ("auto", "prototype", "logistic")


def teach(
    examples: Annotated[
        list[Path],
        typer.Option(
            help="A folder of recordings with labels.tsv or with a subfolder for each label, or a "
            "table like labels.tsv; may be given several times."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Output directory.")],
    model: OptionalModel = None,
    store: Annotated[
        Path | None,
        typer.Option(
            help="Store of the model: examples that it holds are not decoded, and its other tracks "
            "stand for what a single label is not."
        ),
    ] = None,
    replace_labels: Annotated[
        bool,
        typer.Option("--replace-labels", help="Leave out the labels that the model has so far."),
    ] = False,
    head: Annotated[
        str,
        typer.Option(
            help="auto, prototype or logistic; auto takes what is better on examples left out.",
            autocompletion=complete(lambda: HEADS),
        ),
    ] = "auto",
    workers: Workers = None,
    json: Json = False,
) -> None:
    """Give a model new labels from a few examples of each.

    The network stays as it is; new is an output layer on its embeddings. The labels that the model
    has are kept, with the same probabilities. Examples of other labels, and those without any,
    stand for what a label is not; a single label needs such, directly in the folder beside the
    subfolder of the label, as lines with empty labels, or in a store. Recordings of one group
    (column `group`) are left out together. The result is an export that every command opens.
    """
    import numpy as np

    from musrep_jax.cli.labeled_files import embed_labeled_files, read_labeled_files
    from musrep_jax.cli.teach_report import find_doubtful, format_doubtful, format_report
    from musrep_jax.config import ConfigError, choose
    from musrep_jax.data.build.shard_builds import count_cores
    from musrep_jax.exports.cards import format_model_readme
    from musrep_jax.inference.tagger import load_encoder
    from musrep_jax.probing.few_examples import KINDS, learn_output_layer
    from musrep_jax.probing.left_out_report import report_left_out
    from musrep_jax.store import Store
    from musrep_jax.training.checkpoints import check_export_place, save_export
    from musrep_jax.weights.output_layers import add_labels, check_teachable

    choose(head, HEADS, "--head")
    files = read_labeled_files(examples)
    names = tuple(dict.fromkeys(label for file in files for label in file.labels))
    if not names:
        listed = ", ".join(map(str, examples))
        raise ConfigError(f"No recording of {listed} has a label: label at least {MIN_GROUPS}.")
    if store is None:  # what lacks now lacks after hours of decoding, too
        groups = np.array([file.group for file in files])
        check_examples(mark_labels([file.labels for file in files], names), groups, names, None)
    opened = None if store is None else Store(store)
    place = opened.about["export"] if opened is not None and model is None else take_default(model)
    loaded = load_encoder(place)
    check_teachable(loaded, place, keeps_labels=not replace_labels)
    check_export_place(out)
    if opened is not None:
        check_store(opened, loaded, place)
    failed: list[tuple[str, str]] = []

    def fail(path: str, reason: str) -> None:
        failed.append((path, reason))
        say(f"{path}: {reason}")

    embedded = embed_labeled_files(files, loaded, opened, workers or count_cores(), fail)
    data, background = make_examples(embedded, names, loaded, opened)
    check_examples(data.targets, data.groups, names, opened)
    for name, count in zip(names, data.targets.sum(axis=0).tolist(), strict=True):
        if count < FEW_EXAMPLES:
            say(f"note: {name!r} has {count} examples; below {FEW_EXAMPLES} scores say little.")
    kinds = KINDS if head == "auto" else (head,)
    layer = learn_output_layer(data, kinds, loaded.card["aggregate"])
    report = report_left_out(data.targets, layer.scores, names, data.groups)
    taught = describe_taught(names, data, layer, report, embedded, background)
    tagger = add_labels(loaded, taught, place, keeps_labels=not replace_labels)
    path = save_export(out, tagger.variables, tagger.card, format_model_readme(tagger.card))
    doubtful = find_doubtful(data, layer, names, [file.file.path for file in embedded])
    told = {
        "export": str(path),
        "model": str(place),
        "labels": list(tagger.labels),
        **taught.facts,
        **taught.metrics,
        "doubtful": doubtful,
        "failed": [{"path": name, "reason": reason} for name, reason in failed],
    }
    if json:
        print_json(told)
    else:
        typer.echo(format_report(report, layer, background))
        if doubtful:
            typer.echo(format_doubtful(doubtful))
        kept = len(tagger.labels) - len(names)
        typer.echo(
            f"\nWritten to {path}: {len(names)} taught and {kept} kept labels. Next: musrep tag "
            f"{out} song.mp3"
        )
    if failed:
        say(f"{len(failed):,} of {len(files):,} examples cannot be used.")
        raise typer.Exit(EXIT_FAILED)


def check_store(store: "Store", loaded: "LoadedEncoder", place: object) -> None:
    """Raises unless a store holds the embeddings that a model gives.

    Args:
        store: the store.
        loaded: the model.
        place: where it is from, for the message.

    Raises:
        StoreError: if it holds others.
    """
    from musrep_jax.store import StoreError
    from musrep_jax.weights.output_layers import identify_embeddings

    if store.about["model"] not in (loaded.fingerprint, identify_embeddings(loaded)):
        raise StoreError(
            f"{store.path} was made with another model ({store.about['name']}) than {place}: name "
            "that one, or embed the recordings again."
        )


def make_examples(
    embedded: "Sequence[EmbeddedFile]",
    names: Sequence[str],
    loaded: "LoadedEncoder",
    store: "Store | None",
) -> "tuple[Examples, int]":
    """Returns labeled examples, and how many further ones a store gives to a single label.

    Args:
        embedded: the examples.
        names: of the labels.
        loaded: the model.
        store: whose other tracks count as being without a label, if there is only one.
    """
    import numpy as np

    from musrep_jax.cli.labeled_files import read_chunks
    from musrep_jax.data.splits import merge_groups
    from musrep_jax.probing.protocol import Examples
    from musrep_jax.weights.output_layers import read_head_inputs

    chunks = [file.embeddings for file in embedded]
    groups = [file.file.group for file in embedded]
    hashes = [file.sha256 for file in embedded]
    rows: list[int] = []
    if store is not None and len(names) == 1:
        rows = choose_background(store, embedded)
        chunks += [read_chunks(store, row) for row in rows]
        groups += [f"track {row}" for row in rows]
        hashes += [store.track(row)["sha256"] for row in rows]
    held = [file.file.labels for file in embedded] + [()] * len(rows)
    owner = np.repeat(np.arange(len(chunks)), [len(part) for part in chunks])
    inputs = np.concatenate(chunks) if chunks else np.zeros((0, loaded.width), np.float32)
    return Examples(
        features=read_head_inputs(loaded, inputs) if len(inputs) else inputs,
        owner=owner,
        targets=mark_labels(held, names),
        is_exclusive=False,
        groups=np.array(merge_groups(groups, hashes)),
    ), len(rows)


def choose_background(store: "Store", embedded: "Sequence[EmbeddedFile]") -> list[int]:
    """Returns rows of a store that are no examples, evenly spaced if there are too many.

    Args:
        store: the store.
        embedded: the examples.
    """
    import numpy as np

    taken = {file.row for file in embedded}
    contents = {file.sha256 for file in embedded}
    present = store.is_present()
    free = [row for row in range(len(store)) if present[row] and row not in taken]
    free = [row for row in free if store.track(row)["sha256"] not in contents]
    if len(free) <= MAX_BACKGROUND:
        return free
    places = np.linspace(0, len(free) - 1, MAX_BACKGROUND).round().astype(int)
    return [free[place] for place in places]


def mark_labels(held: Sequence[Sequence[str]], names: Sequence[str]) -> "np.ndarray":
    """Returns which recording has which label, bool (recordings, labels).

    Args:
        held: the labels of each recording.
        names: of the columns.
    """
    import numpy as np

    found = [[name in labels for name in names] for labels in held]
    return np.array(found, bool).reshape(len(held), len(names))


def check_examples(
    targets: "np.ndarray", groups: "np.ndarray", names: Sequence[str], store: "Store | None"
) -> None:
    """Raises unless every label has examples with and without it, of two groups each.

    Args:
        targets: bool (examples, labels).
        groups: (examples,).
        names: of the labels.
        store: that was named, if any.

    Raises:
        ConfigError: naming the first label that lacks some.
    """
    from musrep_jax.config import ConfigError

    for column, name in enumerate(names):
        has = targets[:, column]
        if has.all() and len(has):
            raise ConfigError(
                f"All {len(has)} examples have the label {name!r}, so nothing says what it is not: "
                "put other recordings directly into the folder, list some with empty labels"
                + (", or name a store with --store." if store is None else ".")
            )
        for side, words in ((has, f"with the label {name!r}"), (~has, f"without {name!r}")):
            num_groups = len(set(groups[side]))
            if num_groups < MIN_GROUPS:
                what = "recordings" if num_groups == side.sum() else "groups"
                raise ConfigError(
                    f"There are {num_groups} {what} {words} that can be used; teaching needs at "
                    f"least {MIN_GROUPS}, better {FEW_EXAMPLES}."
                )


def describe_taught(
    names: Sequence[str],
    data: "Examples",
    layer: "OutputLayer",
    report: "LeftOutReport",
    embedded: "Sequence[EmbeddedFile]",
    background: int,
) -> Any:
    """Returns the taught labels with what is known of them, see `TaughtLabels`."""
    from musrep_jax.evaluation.label_sets import find_exclusive_groups
    from musrep_jax.probing.few_examples import THRESHOLD
    from musrep_jax.runtime.files import to_json_safe
    from musrep_jax.weights.output_layers import TaughtLabels

    counts = ", ".join(f"{one.label} ({one.num_examples} examples)" for one in report.labels)
    scores = ", ".join(f"{one.label} {one.roc_auc:.2f}" for one in report.labels)
    notes = [
        f"Taught labels: {counts}; a {layer.linear.name} output layer on the embeddings, which are "
        "unchanged. Their probabilities hold where half of all recordings have the label.",
        f"ROC-AUC on examples that were left out: {scores}; chance is 0.5.",
    ]
    own = data.targets[: len(embedded)]
    return TaughtLabels(
        names=names,
        weights=layer.linear.weights,
        bias=layer.linear.bias,
        threshold=THRESHOLD,
        groups=list(find_exclusive_groups(own, names).values()),
        licences=sorted({file.file.licence for file in embedded if file.file.licence}),
        facts={
            "head": layer.linear.name,
            "strength": layer.linear.strength,
            "num_examples": len(embedded),
            "num_store_tracks": background,
            "num_folds": layer.num_folds,
        },
        metrics=to_json_safe(
            {"left_out": [one.to_dict() for one in report.labels], "choice": report.choice}
        ),
        notes=notes,
    )
