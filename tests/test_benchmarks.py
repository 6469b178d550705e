"""The benchmarks run, and what they compute from their measurements is right."""

import json
import math

import pytest
from made_runs import write_transfer

from benchmarks import first_run, memory, saves, scaling, startup, transfer_vs_torch


def test_exponents_are_slopes_of_logarithms():
    fit, last = scaling.exponents([1, 2, 4, 8], [1.0, 1.0, 2.0, 8.0])
    # Least squares of (0, 0, 1, 3) over (0, 1, 2, 3), by hand: 5 / 5.
    assert fit == pytest.approx(1.0)
    assert last == pytest.approx(2.0)


def affine(batch: int) -> int:
    return 1000 + 30 * batch


def kinked(batch: int) -> int:
    """Another algorithm from 50 on."""
    return affine(batch) + (4000 if batch >= 50 else 0)


@pytest.mark.parametrize("bytes_of", [affine, kinked])
@pytest.mark.parametrize("limit", [1029, 1030, 1230, 1250, 2470, 2500, 6500, 123456])
def test_the_largest_batch_fits_and_a_larger_one_does_not(bytes_of, limit):
    batch, tried = memory.largest_batch(bytes_of, limit)
    larger = batch + max(1, int(memory.TOLERANCE * batch))
    assert batch == 0 or bytes_of(batch) <= limit
    assert bytes_of(larger) > limit
    assert tried == {tried_batch: bytes_of(tried_batch) for tried_batch in tried}
    assert len(tried) <= 14


def test_scaling_runs_and_reports_every_stage(tmp_path, capsys):
    records = scaling.main(["--quick", "--axes", "tracks", "--out", str(tmp_path)])
    stages = ["build", "scan", "open", "epoch", "score", "metrics", "splits", "subset", "results"]
    stages += [f"probe {name}" for name in ["folds", "numbers", "ridge", "logistic", "neighbors"]]
    assert [record["stage"] for record in records] == [*stages, "similarity"]
    assert all(seconds >= 0 for record in records for seconds in record["seconds"])
    assert all(math.isfinite(record["exponent"]) for record in records)
    assert (tmp_path / "scaling.md").read_text() in capsys.readouterr().out
    assert len(json.loads((tmp_path / "scaling.json").read_text())["stages"]) == len(records)


def test_memory_runs_and_measures_what_it_planned(tmp_path, capsys):
    (record,) = memory.main(["--quick", "--out", str(tmp_path)])
    assert record["model"] == "vgg_ish" and record["batch"] > 1
    assert record["planned"] <= record["limit"] == 0.1e9
    # None where the system does not tell; else the plan is not far from what was taken.
    assert record["measured"] is None or 0.5 < record["measured"] / record["planned"] < 2
    assert (tmp_path / "memory.md").read_text() in capsys.readouterr().out


@pytest.mark.slow
def test_transfer_is_run_by_both_sides(tmp_path, capsys):
    pytest.importorskip("torch")
    record = transfer_vs_torch.main(["--quick", "--out", str(tmp_path)])
    assert len(record["roc_auc"]) == 3  # the source, its output layer and all layers moved
    for found in record["roc_auc"].values():
        assert all(0 <= value <= 1 for side in ("ours", "torch") for value in found[side])
    phases = record["phases"]
    for phase in ("start-up", "data preparation", "source", "output_layer", "all"):
        for side in ("cold", "torch"):
            assert phases[phase]["wall"][side] > 0, (phase, side)
    assert record["chunks"]["ours"] == record["chunks"]["torch"]
    assert record["parameters"]["ours"] == record["parameters"]["torch"]
    assert "torch / ours by the clock" in capsys.readouterr().out


def test_saves_run_and_are_measured(capsys):
    (row,) = saves.main(["--quick"])
    assert row["model"] == "vgg_ish" and row["arrays"] > 100
    assert 0 < row["blocked s"] <= row["s"] and row["restore s"] > 0
    assert capsys.readouterr().out.count("\n") == 3


def test_a_setting_that_nobody_knows_is_refused(capsys):
    with pytest.raises(SystemExit) as refused:
        transfer_vs_torch.parse_arguments(["--rate=1"])
    assert refused.value.code == 2


@pytest.mark.slow
def test_the_second_start_is_shorter():
    smoke = ["--config=configs/tagging.py:smoke", "--config.model.name=vgg_ish"]
    runs = startup.main(smoke)
    first, second = (run.wall[startup.FIRST_STEP] for run in runs.values())
    assert 0 < second < first


def test_the_first_run_is_counted_and_its_rows_are_those_of_the_table(tmp_path, capsys):
    """Of eight transfers the four of all layers have p = .2 / 1.4^8 = .014, the others .46."""
    write_transfer(tmp_path / "run")
    first_run.main([str(tmp_path / "run")])
    (what, *facts), (header, *rows) = (
        [line.strip("| ").split(" | ") for line in table.splitlines() if "---" not in line]
        for table in capsys.readouterr().out.split("\n\n")
    )
    assert what == ["what", "number"]
    assert dict(facts) | {"test tracks": "60"} == {
        "transfers": "8", "better than scratch": "4", "worse than scratch": "0", "undecided": "4",
        "better than the baseline": "0", "test tracks": "60", "performers": "0",
    }  # fmt: skip
    assert header[:3] == ["Source", "Mode", "Train tracks"] and len(rows) == 6
    assert [row[1] for row in rows] == 2 * ["scratch", "output_layer", "all_layers"]
    assert rows[2][4] == "+0.120 [+0.090, +0.150] \\*"
