"""Measured numbers of the documents: one file of data each in `docs/measured/`, written into pages.

    python docs/measured.py startup saves            # measures again, on the cores of this machine
    python docs/measured.py startup --cores=1,2      # once on one core and once on two
    python docs/measured.py startup --cores=1,2 --keep   # only says how far the numbers are apart

A file says with which command its table was made, on what machine and when; measuring runs that
command and takes the table that it prints. `python docs/generate.py` writes the numbers into the
pages, and a test compares them. In a page stands

    <!-- table: NAME -->                              a whole table, with its command and machine
    <!-- cell: NAME, WORDS OF THE ROW, COLUMN -->     a number within a sentence

and after it what was written there, until `<!-- end -->`.
"""

import argparse
import datetime
import itertools
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "docs" / "measured"
MARK = re.compile(r"(<!-- (table|cell): (.+?) -->)(.*?)(<!-- end -->)", re.DOTALL)
_CELL = re.compile(r"(?<!\\)\|")
_COMMA = re.compile(r",(?![^\[]*\])")
"""Between words; not within brackets, as in `svm[cost=1,standardize=scalar]`."""
_ONE, _MANY = "core", "cores"


class MeasuredError(ValueError):
    """A page names a number that is not there, or a command prints no table."""


def list_pages() -> list[pathlib.Path]:
    """Returns the pages that numbers are written into."""
    folders = (REPOSITORY / "docs", REPOSITORY / "benchmarks")
    return [REPOSITORY / "README.md", *sorted(page for f in folders for page in f.glob("*.md"))]


def fill(text: str) -> str:
    """Returns a page with the measured numbers in their places.

    Args:
        text: of the page.

    Raises:
        MeasuredError: if it names a file, row or column that is not there.
    """

    def replace(found: re.Match) -> str:
        start, kind, words, _, end = found.groups()
        name, *path = [word.strip() for word in _COMMA.split(words)]
        measured = read(name)
        if kind == "cell":
            return f"{start}{find_cell(name, measured, path)}{end}"
        return f"{start}\n\n{format_table(measured)}\n\n{end}"

    return MARK.sub(replace, text)


def read(name: str) -> dict[str, Any]:
    """Returns the content of a file: command, table and runs.

    Args:
        name: of the file, without its suffix.
    """
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.json")))
        raise MeasuredError(f"There is no docs/measured/{name}.json; there are {known}.")
    return json.loads(path.read_text(encoding="utf-8"))


def find_cell(name: str, measured: dict[str, Any], path: Sequence[str]) -> str:
    """Returns a cell of the last run: the one on most cores.

    Args:
        name: of the file, for messages.
        measured: its content.
        path: cells of the row, and the column.

    Raises:
        MeasuredError: if not exactly one row has these cells, or there is no such column.
    """
    *wanted, column = path
    run = measured["runs"][-1]
    rows = [row for row in run["rows"] if set(wanted) <= set(row)]
    if column not in run["columns"] or len(rows) != 1:
        raise MeasuredError(
            f"docs/measured/{name}.json has {len(rows)} rows with {wanted} and the columns "
            f"{run['columns']}; name one of each."
        )
    return rows[0][run["columns"].index(column)]


def format_table(measured: dict[str, Any]) -> str:
    """Returns the table of all runs, and under it how it was made, as Markdown."""
    runs = measured["runs"]
    is_compared = len(runs) > 1
    columns = ["Cores"] * is_compared + runs[0]["columns"]
    lines = [columns, ["---"] * len(columns)]
    for run in runs:
        lines += [[str(run["cores"])] * is_compared + row for row in run["rows"]]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    machines = [", ".join(filter(None, (run["machine"], run["date"]))) for run in runs]
    return f"{table}\n\n`{measured['command']}` on {'; '.join(dict.fromkeys(machines))}."


def parse_tables(text: str) -> list[tuple[list[str], list[list[str]]]]:
    """Returns columns and rows of every table in Markdown."""
    tables = []
    for block in re.findall(r"(?:^\|.*\|[ ]*\n?)+", text, re.MULTILINE):
        lines = [
            [cell.strip() for cell in _CELL.split(line.strip()[1:-1])]
            for line in block.strip().splitlines()
        ]
        if len(lines) > 2 and not "".join(lines[1]).strip(" :-"):
            tables.append((lines[0], lines[2:]))
    return tables


def measure(measured: dict[str, Any], num_cores: int) -> dict[str, Any]:
    """Returns a run: what the command's table is on some cores of this machine.

    Args:
        measured: content of a file.
        num_cores: that the command may use.

    Raises:
        MeasuredError: if the command fails or prints no such table.
    """
    cores = sorted(os.sched_getaffinity(0))[:num_cores]
    done = subprocess.run(
        measured["command"], shell=True, cwd=REPOSITORY, text=True, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )  # fmt: skip
    tables = parse_tables(done.stdout)
    if done.returncode or len(tables) <= measured.get("table", 0):
        raise MeasuredError(f"{measured['command']} ended with {done.returncode} and no table.")
    columns, rows = tables[measured.get("table", 0)]
    return {
        "cores": len(cores),
        "machine": describe_machine(len(cores)),
        "date": f"{datetime.date.today():%B %Y}",
        "columns": columns,
        "rows": rows,
    }


def describe_machine(num_cores: int) -> str:
    """Returns the kind of this machine and how busy it is, in words."""
    model = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.is_file() and (found := re.search(r"model name\s*: (.+)", cpuinfo.read_text())):
        model = re.sub(r"\((R|TM)\)|Processor|CPU|@.*", "", found[1])
    load, all_cores = os.getloadavg()[0], os.cpu_count() or 1
    busy = f"busy: {load:.0f} processes on {all_cores} cores" if load > all_cores else "idle"
    word = _ONE if num_cores == 1 else _MANY
    return f"{num_cores} {word} of {' '.join(model.split())} ({busy})"


def list_changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Returns, for every cell that differs between two runs, where it stands and both texts."""
    return [
        f"  {row[0]}, {column}: {theirs} -> {ours}"
        for other, row in zip(before["rows"], after["rows"], strict=False)
        for column, theirs, ours in zip(after["columns"], other, row, strict=False)
        if ours != theirs
    ]


def main(arguments: Sequence[str]) -> None:
    """Measures again, says what has changed, and writes the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", help="files of docs/measured, without suffix")
    parser.add_argument("--cores", default="", help="numbers of cores, separated by commas")
    parser.add_argument("--keep", action="store_true", help="write nothing")
    settings = parser.parse_args(arguments)
    for name in settings.names:
        measured = read(name)
        known = measured.get("runs", [])
        counts = settings.cores.split(",") if settings.cores else [run["cores"] for run in known]
        runs = [measure(measured, int(count)) for count in counts or [os.cpu_count()]]
        for run in runs:
            print(f"{name}: {run['machine']}")
            for other in known:
                if other["cores"] == run["cores"]:
                    print("\n".join(list_changes(other, run)))
        for first, last in itertools.pairwise(runs):
            print(f"{name}: from {first['cores']} to {last['cores']} cores")
            print("\n".join(list_changes(first, last)))
        if not settings.keep:
            text = json.dumps(measured | {"runs": runs}, indent=1, ensure_ascii=False)
            (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
