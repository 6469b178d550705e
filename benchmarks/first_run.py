"""What the first command of the README takes and finds, as tables: numbers of README and tutorial.

python benchmarks/first_run.py                # runs it in a folder of its own
python benchmarks/first_run.py runs/transfer  # tells of a run that is there, without minutes
"""

import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# So that it runs from a checkout that is not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

COMMAND = ("main.py", "--config=configs/transfer.py")
SHOWN_TARGET = "makam"


def count_outcomes(cells: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Returns how many transfers there are and how they compare, and the size of their test split.

    Args:
        cells: of `results.json`.
    """
    from musrep_jax.reporting.results import drop_baselines
    from musrep_jax.reporting.verdict import is_better

    trained = drop_baselines(cells)
    carried = [cell for cell in trained if cell.get("source") and cell.get("versus_scratch")]
    better = sum(is_better(cell, "versus_scratch", "roc_auc") for cell in carried)
    worse = sum(is_better(cell, "versus_scratch", "roc_auc", sign=-1.0) for cell in carried)
    beside = [cell for cell in trained if cell.get("versus_baseline")]
    return {
        "transfers": len(carried),
        "better than scratch": better,
        "worse than scratch": worse,
        "undecided": len(carried) - better - worse,
        "better than the baseline": sum(
            is_better(cell, "versus_baseline", "roc_auc") for cell in beside
        ),
        "test tracks": max(cell["num_tracks"] for cell in carried),
        "performers": max(cell.get("num_track_groups") or 0 for cell in carried),
    }


def list_target_rows(cells: Sequence[Mapping[str, Any]], target: str) -> list[list[str]]:
    """Returns the rows of a target as the table of results shows them, of ROC-AUC alone.

    Args:
        cells: of `results.json`.
        target: the end of its name.
    """
    from musrep_jax.reporting.tables import make_results_table

    kept = [cell for cell in cells if cell["target"].endswith(target)]
    lines = make_results_table(kept).split("\n\n")[0].splitlines()
    table = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    wanted = ("Source", "Mode", "Train tracks", "ROC-AUC [95 %]", "ROC-AUC - scratch [95 %]")
    places = [table[0].index(column) for column in wanted]
    return [[row[place] for place in places] for row in (table[0], *table[2:])]


def main(arguments: Sequence[str]) -> None:
    """Prints both tables."""
    if arguments:
        report(Path(arguments[0]), None)
        return
    from benchmarks.phases import time_phases

    with tempfile.TemporaryDirectory() as scratch:
        folders = [f"--config.data.data_dir={scratch}/data", f"--workdir={scratch}/run"]
        start = time.monotonic()
        time_phases([sys.executable, *COMMAND, *folders], lambda phase, line: phase)
        report(Path(scratch, "run"), (time.monotonic() - start) / 60)


def report(workdir: Path, minutes: float | None) -> None:
    """Prints the tables of a run.

    Args:
        workdir: of the run.
        minutes: that it took, if that was measured.
    """
    cells = json.loads((workdir / "results.json").read_text(encoding="utf-8"))["cells"]
    facts: dict[str, Any] = count_outcomes(cells)
    if minutes is not None:
        facts["minutes"] = round(minutes)
    header, *rows = list_target_rows(cells, SHOWN_TARGET)
    for _, mode, size, interval, _ in rows:
        facts[f"{mode} at {size.split()[0]}"] = interval.split()[0]
    print("| what | number |\n|---|---|")
    for name, value in facts.items():
        print(f"| {name} | {value} |")
    print(f"\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main(sys.argv[1:])
