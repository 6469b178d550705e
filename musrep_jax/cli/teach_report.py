"""What `musrep teach` prints of the labels that it taught."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from musrep_jax.probing.few_examples import OutputLayer
    from musrep_jax.probing.left_out_report import LeftOutReport
    from musrep_jax.probing.protocol import Examples

MAX_DOUBTFUL = 5


def find_doubtful(
    data: "Examples", layer: "OutputLayer", names: Sequence[str], paths: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns examples whose labels the others contradict, the worst first, at most `MAX_DOUBTFUL`.

    Args:
        data: the examples, and tracks of a store after them.
        layer: the output layer.
        names: of the labels.
        paths: of the examples.
    """
    from musrep_jax.probing.few_examples import THRESHOLD

    found = [
        {
            "path": paths[number],
            "label": names[column],
            "has_label": bool(data.targets[number, column]),
            "probability": float(layer.scores[number, column]),
        }
        for number in range(len(paths))
        for column in range(len(names))
        if data.targets[number, column] != (layer.scores[number, column] > THRESHOLD)
    ]
    return sorted(found, key=lambda one: -abs(one["probability"] - one["has_label"]))[:MAX_DOUBTFUL]


def format_report(report: "LeftOutReport", layer: "OutputLayer", background: int) -> str:
    """Returns what the labels are worth, for a terminal."""
    from musrep_jax.reporting.layout import Column, format_table

    def share(value: float, interval: tuple[float, float], total: int) -> str:
        count = round(value * total)
        return f"{count} of {total} [{interval[0]:.2f}, {interval[1]:.2f}]"

    rows = []
    for one in report.labels:
        low, high = one.roc_auc_ci
        shown = one.reason or f"[{low:.2f}, {high:.2f}]"
        taken = ", ".join(f"{label} {count}" for label, count in one.taken_for.items())
        rows.append(
            [
                one.label,
                f"{one.roc_auc:.2f} {shown}",
                f"{one.p_value:.3f}",
                share(one.found, one.found_ci, one.num_examples),
                share(one.false_alarms, one.false_alarms_ci, one.num_without),
                taken or "-",
            ]
        )
    titles = ["label", "ROC-AUC", "p", "found", "false alarms", "taken for"]
    lines = [
        f"A {layer.linear.name} output layer; its scores on examples that it was fitted and chosen "
        f"without, in {layer.num_folds} turns:",
        "",
        format_table([Column(title) for title in titles], rows, "text"),
        "",
        "Chance: ROC-AUC 0.50, and as large a share found as of false alarms.",
    ]
    if report.choice is not None:
        low, high = report.choice["accuracy_ci"]
        reason = report.choice["accuracy_ci_reason"]
        interval = "too few for an interval" if reason else f"[{low:.2f}, {high:.2f}]"
        lines.append(
            f"Accuracy of the most probable label: {report.choice['accuracy']:.2f} {interval}; "
            f"of always answering the commonest: {report.choice['majority_accuracy']:.2f}."
        )
    if background:
        lines.append(
            f"{background:,} tracks of the store count as being without the label; those that have "
            "it look like false alarms."
        )
    unsure = [one.label for one in report.labels if one.p_value > 0.05]
    if unsure:
        lines.append(
            f"Not shown to be better than chance: {', '.join(unsure)}. More examples may help."
        )
    return "\n".join(lines)


def format_doubtful(doubtful: list[dict[str, Any]]) -> str:
    """Returns the examples that fit their labels least, for a terminal."""
    lines = ["", "Look at these, which do not fit the others:"]
    for one in doubtful:
        words = "has" if one["has_label"] else "has not"
        lines.append(f"  {one['path']}: {words} {one['label']}, and gets {one['probability']:.2f}")
    return "\n".join(lines)
