"""Measured numbers of pages: from one file each, and what a command prints becomes such a file."""

import importlib.util
import json
import sys

import pytest

PRINTED = """some words
| run | seconds | ratio |
|---|---|---|
| first | 3.5 (3.0) | 1.10 |
| a \\| b | 2 | - |

| other |
| --- |
| 1 |
"""


@pytest.fixture
def measured(repository):
    """The module, with the repository's own files."""
    path = repository / "docs" / "measured.py"
    spec = importlib.util.spec_from_file_location("measured_numbers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def own_files(measured, tmp_path):
    """The module with a file of its own, whose command prints two tables."""
    measured.FOLDER, measured.REPOSITORY = tmp_path, tmp_path
    (tmp_path / "printed.md").write_text(PRINTED)
    program = "print(open('printed.md').read())"
    facts = {"command": f'{sys.executable} -c "{program}"'}
    (tmp_path / "one.json").write_text(json.dumps(facts))
    return measured


def test_every_page_has_the_numbers_of_its_files(measured):
    used = set()
    for page in measured.list_pages():
        text = page.read_text(encoding="utf-8")
        used |= {found[2].split(",")[0] for found in measured.MARK.findall(text)}
        assert text == measured.fill(text), f"{page}: run python docs/generate.py"
    assert used == {path.stem for path in measured.FOLDER.glob("*.json")}


def test_what_a_command_prints_becomes_a_file_and_a_page(own_files, tmp_path, capsys):
    own_files.main(["one", "--cores=1"])
    (run,) = json.loads((tmp_path / "one.json").read_text())["runs"]
    assert run["columns"] == ["run", "seconds", "ratio"] and run["cores"] == 1
    assert run["rows"] == [["first", "3.5 (3.0)", "1.10"], ["a \\| b", "2", "-"]]
    assert run["machine"].startswith("1 core of ")
    page = "It takes <!-- cell: one, first, seconds -->9<!-- end --> s.\n"
    page += "<!-- table: one --><!-- end -->"
    filled = own_files.fill(page)
    assert filled.startswith("It takes <!-- cell: one, first, seconds -->3.5 (3.0)<!-- end --> s.")
    assert (
        "\n| run | seconds | ratio |\n| --- | --- | --- |\n| first | 3.5 (3.0) | 1.10 |" in filled
    )
    assert f"on {run['machine']}, {run['date']}." in filled
    assert own_files.fill(filled) == filled
    (tmp_path / "printed.md").write_text(PRINTED.replace("1.10", "1.25"))
    capsys.readouterr()
    own_files.main(["one", "--keep"])
    assert "  first, ratio: 1.10 -> 1.25" in capsys.readouterr().out
    assert json.loads((tmp_path / "one.json").read_text())["runs"] == [run]


def test_runs_on_different_cores_stand_side_by_side(own_files):
    run = {"machine": "1 core", "date": "", "cores": 1, "columns": ["a", "b"], "rows": [["x", "1"]]}
    runs = [run, {**run, "machine": "2 cores", "cores": 2, "rows": [["x", "2"]]}]
    facts = {"command": "c", "runs": runs}
    assert own_files.format_table(facts).splitlines() == [
        "| Cores | a | b |", "| --- | --- | --- |", "| 1 | x | 1 |", "| 2 | x | 2 |", "",
        "`c` on 1 core; 2 cores.",
    ]  # fmt: skip
    assert own_files.find_cell("one", facts, ["x", "b"]) == "2"


@pytest.mark.parametrize("words", ["two, a, b", "one, nobody, ratio", "one, first, nothing"])
def test_a_number_that_is_not_there_is_told(own_files, words):
    own_files.main(["one", "--cores=1"])
    with pytest.raises(own_files.MeasuredError, match=r"docs/measured/\w+\.json"):
        own_files.fill(f"<!-- cell: {words} -->1<!-- end -->")


def test_a_command_without_a_table_is_told(own_files, tmp_path):
    (tmp_path / "printed.md").write_text("nothing\n")
    with pytest.raises(own_files.MeasuredError, match="ended with 0 and no table"):
        own_files.main(["one"])
