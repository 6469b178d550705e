"""Published results on the six corpora, the table to beat, and results of ours beside them.

Source: Papaioannou, Benetos, Potamianos, "From West to East: who can understand the music of the
others better?", ISMIR 2023, by the evaluation files of its public code (pxaris/ccml), parsed; the
model card of CultureMERT-95M (Kanatas et al., ISMIR 2025) for the probes of MERT and CultureMERT.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from musrep_jax.evaluation.subsets import describe_size
from musrep_jax.reporting.layout import EMPTY_CELL, Column, format_table
from musrep_jax.reporting.tables import format_number
from musrep_jax.runtime.terminal import get_width


class PublishedResult(NamedTuple):
    """One published result.

    Attributes:
        target: the corpus it was measured on, as this project names it.
        system: a model of this project, or the name of a pretrained encoder.
        training: "scratch" on the target, "output_layer" or "all_layers" of a model trained on
            `source`, or "probe", a classifier on a frozen pretrained encoder.
        source: the corpus of the transfer, the best of five; "" without one.
        roc_auc: mean over labels.
        pr_auc: mean over labels.
    """

    target: str
    system: str
    training: str
    source: str
    roc_auc: float
    pr_auc: float


_ROWS: tuple[tuple[str, str, str, str, float, float], ...] = (
    ("magnatagatune", "vgg_ish", "scratch", "", 0.9123, 0.4582),
    ("magnatagatune", "vgg_ish", "output_layer", "fma", 0.8562, 0.3488),
    ("magnatagatune", "vgg_ish", "all_layers", "fma", 0.9129, 0.4579),
    ("magnatagatune", "musicnn", "scratch", "", 0.902, 0.4334),
    ("magnatagatune", "musicnn", "output_layer", "fma", 0.8553, 0.3456),
    ("magnatagatune", "musicnn", "all_layers", "fma", 0.9036, 0.4332),
    ("magnatagatune", "spectrogram_transformer", "scratch", "", 0.9173, 0.4655),
    ("magnatagatune", "spectrogram_transformer", "output_layer", "fma", 0.8864, 0.3875),
    ("magnatagatune", "spectrogram_transformer", "all_layers", "fma", 0.9162, 0.4637),
    ("fma", "vgg_ish", "scratch", "", 0.8889, 0.495),
    ("fma", "vgg_ish", "output_layer", "magnatagatune", 0.8811, 0.3929),
    ("fma", "vgg_ish", "all_layers", "magnatagatune", 0.9239, 0.5304),
    ("fma", "musicnn", "scratch", "", 0.8767, 0.4474),
    ("fma", "musicnn", "output_layer", "magnatagatune", 0.8734, 0.3685),
    ("fma", "musicnn", "all_layers", "magnatagatune", 0.9104, 0.4877),
    ("fma", "spectrogram_transformer", "scratch", "", 0.8887, 0.5025),
    ("fma", "spectrogram_transformer", "output_layer", "magnatagatune", 0.8926, 0.4251),
    ("fma", "spectrogram_transformer", "all_layers", "lyra", 0.9244, 0.5373),
    ("lyra", "vgg_ish", "scratch", "", 0.8098, 0.4807),
    ("lyra", "vgg_ish", "output_layer", "magnatagatune", 0.747, 0.4047),
    ("lyra", "vgg_ish", "all_layers", "magnatagatune", 0.854, 0.5438),
    ("lyra", "musicnn", "scratch", "", 0.7392, 0.4043),
    ("lyra", "musicnn", "output_layer", "magnatagatune", 0.7179, 0.4031),
    ("lyra", "musicnn", "all_layers", "turkish_makam", 0.7983, 0.4676),
    ("lyra", "spectrogram_transformer", "scratch", "", 0.8477, 0.5334),
    ("lyra", "spectrogram_transformer", "output_layer", "magnatagatune", 0.7568, 0.4014),
    ("lyra", "spectrogram_transformer", "all_layers", "hindustani", 0.846, 0.5189),
    ("turkish_makam", "vgg_ish", "scratch", "", 0.8696, 0.5639),
    ("turkish_makam", "vgg_ish", "output_layer", "hindustani", 0.7726, 0.3864),
    ("turkish_makam", "vgg_ish", "all_layers", "fma", 0.8778, 0.5771),
    ("turkish_makam", "musicnn", "scratch", "", 0.8505, 0.5299),
    ("turkish_makam", "musicnn", "output_layer", "fma", 0.7552, 0.342),
    ("turkish_makam", "musicnn", "all_layers", "magnatagatune", 0.8596, 0.5401),
    ("turkish_makam", "spectrogram_transformer", "scratch", "", 0.8644, 0.567),
    ("turkish_makam", "spectrogram_transformer", "output_layer", "lyra", 0.7709, 0.3696),
    ("turkish_makam", "spectrogram_transformer", "all_layers", "fma", 0.8744, 0.5812),
    ("hindustani", "vgg_ish", "scratch", "", 0.8478, 0.6082),
    ("hindustani", "vgg_ish", "output_layer", "carnatic", 0.7819, 0.4595),
    ("hindustani", "vgg_ish", "all_layers", "turkish_makam", 0.8532, 0.6188),
    ("hindustani", "musicnn", "scratch", "", 0.8471, 0.6017),
    ("hindustani", "musicnn", "output_layer", "lyra", 0.781, 0.4171),
    ("hindustani", "musicnn", "all_layers", "fma", 0.855, 0.6109),
    ("hindustani", "spectrogram_transformer", "scratch", "", 0.8307, 0.5787),
    ("hindustani", "spectrogram_transformer", "output_layer", "magnatagatune", 0.7468, 0.3932),
    ("hindustani", "spectrogram_transformer", "all_layers", "magnatagatune", 0.8658, 0.6313),
    ("carnatic", "vgg_ish", "scratch", "", 0.7393, 0.4279),
    ("carnatic", "vgg_ish", "output_layer", "lyra", 0.6731, 0.3483),
    ("carnatic", "vgg_ish", "all_layers", "magnatagatune", 0.7471, 0.4274),
    ("carnatic", "musicnn", "scratch", "", 0.7496, 0.4182),
    ("carnatic", "musicnn", "output_layer", "turkish_makam", 0.675, 0.3535),
    ("carnatic", "musicnn", "all_layers", "hindustani", 0.7696, 0.4305),
    ("carnatic", "spectrogram_transformer", "scratch", "", 0.7706, 0.4394),
    ("carnatic", "spectrogram_transformer", "output_layer", "lyra", 0.6847, 0.3259),
    ("carnatic", "spectrogram_transformer", "all_layers", "lyra", 0.766, 0.4452),
    ("magnatagatune", "MERT-v1-95M", "probe", "", 0.896, 0.359),
    ("magnatagatune", "CultureMERT-95M", "probe", "", 0.894, 0.359),
    ("magnatagatune", "CultureMERT-TA-95M", "probe", "", 0.896, 0.364),
    ("fma", "MERT-v1-95M", "probe", "", 0.907, 0.481),
    ("fma", "CultureMERT-95M", "probe", "", 0.907, 0.481),
    ("fma", "CultureMERT-TA-95M", "probe", "", 0.908, 0.491),
    ("lyra", "MERT-v1-95M", "probe", "", 0.857, 0.565),
    ("lyra", "CultureMERT-95M", "probe", "", 0.869, 0.567),
    ("lyra", "CultureMERT-TA-95M", "probe", "", 0.873, 0.573),
    ("turkish_makam", "MERT-v1-95M", "probe", "", 0.832, 0.533),
    ("turkish_makam", "CultureMERT-95M", "probe", "", 0.896, 0.606),
    ("turkish_makam", "CultureMERT-TA-95M", "probe", "", 0.890, 0.610),
    ("hindustani", "MERT-v1-95M", "probe", "", 0.824, 0.529),
    ("hindustani", "CultureMERT-95M", "probe", "", 0.882, 0.635),
    ("hindustani", "CultureMERT-TA-95M", "probe", "", 0.875, 0.593),
    ("carnatic", "MERT-v1-95M", "probe", "", 0.749, 0.397),
    ("carnatic", "CultureMERT-95M", "probe", "", 0.792, 0.431),
    ("carnatic", "CultureMERT-TA-95M", "probe", "", 0.791, 0.433),
)

PUBLISHED: tuple[PublishedResult, ...] = tuple(PublishedResult(*row) for row in _ROWS)
"""The table: six corpora, three models of 2023 in three ways of training, three encoders."""

DIFFERENCES: tuple[str, ...] = (
    "Published transfers are from the best of five sources, picked by the authors among their "
    "files, apparently on the test set; here a source is stated beforehand, or chosen on "
    "validation.",
    "The models of 2023 are chosen by the lowest validation loss on one random crop per track; "
    "here by validation ROC-AUC on all chunks (`train.select_by`).",
    "Their output layers train with BatchNorm statistics that adapt and with dropout in the "
    "backbone; here the backbone is frozen as a whole (`transfer.batch_norm`). "
    "`configs/transfer.py:paper` follows them.",
    "The tail of a recording that does not fill a chunk is left out there and read here "
    "(`evaluation.tail`); their transformer averages logits, ours probabilities "
    "(`evaluation.aggregate`).",
    "Their musicnn reads the spectrogram with time and frequency swapped "
    "(`model.orientation=time_first`).",
    "The probes of MERT and CultureMERT are means of five seeds on frozen encoders, to one decimal "
    "of a percent; their chunk length and classifier are not those of the other rows.",
    "Splits and labels are the same lists where the audio is complete; recordings that are no "
    "longer available, as of Lyra and the Dunya corpora, change both.",
)
"""What differs in protocol between the published results and ours, one sentence each."""

MEASURED = "here"
_COLUMNS = (
    Column("Corpus"),
    Column("System"),
    Column("Training"),
    Column("Source"),
    Column("ROC-AUC", True),
    Column("PR-AUC", True),
    Column("Measured"),
)


def find_corpus(target: str) -> str:
    """Returns the corpus of a data set's name, without its configuration.

    Example:
        >>> find_corpus("lyra/25_labels")
        'lyra'
    """
    return target.partition(":")[0].partition("/")[0]


def compare_with_published(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns results of ours among the published ones of the same corpora.

    Args:
        results: cells of a results file; those that failed, or are on other data, are left out.

    Returns:
        Rows with the fields of `PublishedResult` and `measured`, "here" or "published"; corpus by
        corpus, the highest ROC-AUC first. Empty if no result is on a corpus of the table.
    """
    corpora = dict.fromkeys(result.target for result in PUBLISHED)
    ours: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        corpus = find_corpus(str(result.get("target")))
        if corpus not in corpora or result.get("error") or result.get("roc_auc") is None:
            continue
        row = {
            "target": result["target"],
            "system": result.get("model") or EMPTY_CELL,
            "training": result.get("mode") or result.get("task") or EMPTY_CELL,
            "source": result.get("source") or "",
            "roc_auc": result["roc_auc"],
            "pr_auc": result.get("pr_auc"),
            "measured": _describe_cell(result),
        }
        ours.setdefault(corpus, []).append(row)
    rows = []
    for corpus in corpora:
        if corpus in ours:
            known = [
                r._asdict() | {"measured": "published"} for r in PUBLISHED if r.target == corpus
            ]
            rows += sorted([*ours[corpus], *known], key=lambda row: -row["roc_auc"])
    return rows


def _describe_cell(result: Mapping[str, Any]) -> str:
    """Returns where a result of ours was measured, with the seed and the number of tracks."""
    parts = [f"seed {result['seed']}"] if result.get("seed") is not None else []
    size = result.get("num_train_tracks")
    parts += [describe_size(size)] if size else []
    return f"{MEASURED} ({', '.join(parts)})" if parts else MEASURED


def format_comparison(rows: Sequence[Mapping[str, Any]], style: str = "text") -> str:
    """Returns a table of results.

    Args:
        rows: as `compare_with_published` returns them.
        style: "text" or "markdown".
    """
    cells = [
        [
            str(row["target"]),
            str(row["system"]),
            str(row["training"]),
            str(row["source"]) or EMPTY_CELL,
            *(format_number(row[metric]) for metric in ("roc_auc", "pr_auc")),
            str(row["measured"]),
        ]
        for row in rows
    ]
    return format_table(_COLUMNS, cells, style, get_width())


def format_published() -> str:
    """Returns the whole table in Markdown, corpus by corpus, as the documentation has it."""
    rows = [
        [*row[:3], row.source or EMPTY_CELL, f"{row.roc_auc:.4f}", f"{row.pr_auc:.4f}"]
        for row in PUBLISHED
    ]
    return format_table(_COLUMNS[:-1], rows, "markdown")
