"""The benchmarks run, and what they compute from their measurements is right."""

import json
import math

import numpy as np
import pytest
from made_runs import write_transfer

from benchmarks import first_run, memory, real_music, saves, scaling, startup, transfer_vs_torch


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


def test_transfer_from_real_music_is_counted_by_seeds_and_groups(tmp_path, capsys):
    """Two groups of six tracks: the baseline is right in one, the transfer in both."""
    labels = np.eye(2)[[0, 1] * 6]
    base = {"model": "m", "target": "audio_folder:sounds", "error": None, "roc_auc": 0.5,
            "num_train_tracks": "3_per_class", "num_train_tracks_used": 6}  # fmt: skip
    cells = [base | {"source": None, "mode": "baseline", "seed": 0, "key": "b"}]
    for seed, area in ((0, 0.7), (1, 0.9)):
        carried = {"source": "pretrained:musicnn-msd", "mode": "output_layer", "roc_auc": area}
        cells.append(base | carried | {"seed": seed, "key": f"t{seed}"})
    groups = np.repeat([f"group {number}" for number in range(6)], 2)
    scores = {"b": labels[:, ::-1].copy(), "t0": labels, "t1": labels.copy()}
    scores["b"][:6] = labels[:6]
    scores["t1"][0] = labels[1]  # one seed is wrong on one track
    for key, values in scores.items():
        (tmp_path / "cells" / key).mkdir(parents=True)
        np.savez(tmp_path / "cells" / key / "scores.npz", labels=labels, scores=values,
                 groups=groups, track_ids=np.arange(12).astype(str))  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps({"cells": cells}))
    real_music.main([f"{tmp_path}", f"{tmp_path}=again", "--figure", str(tmp_path / "figure.png")])
    _, _, baseline, carried, again = capsys.readouterr().out.splitlines()
    assert baseline.split("|")[1:8] == [
        " sounds ", " baseline: linear on log-mel statistics ", " 1 ", "  ", " 0.500 ", "  ", "  ",
    ]  # fmt: skip
    assert again == carried.replace("musicnn-msd", "musicnn-msd (again)")
    assert carried.split("|")[3:6] == [" 2 ", "  ", " 0.800 "]
    # Right by the mean of two seeds: (11 + 1/2) / 12, against 6 / 12; six groups, eight of 2^6
    # swaps are as far apart, so that nothing is shown.
    assert carried.split("|")[8] == " 0.96 "
    assert carried.split("|")[9].startswith(" +0.46 [-")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


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
    cells = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))["cells"]
    scores = {
        f"{cell['mode']} at {cell['num_train_tracks'] or 'all'}": f"{cell['roc_auc']:.3f}"
        for cell in cells
        if cell["target"].endswith("makam")
    }
    assert len(scores) == 6
    assert dict(facts) | {"test tracks": "60"} == {
        "transfers": "8", "better than scratch": "4", "worse than scratch": "0", "undecided": "4",
        "better than the baseline": "0", "test tracks": "60", "performers": "0",
        **scores,
    }  # fmt: skip
    assert header[:3] == ["Source", "Mode", "Train tracks"] and len(rows) == 6
    assert [row[1] for row in rows] == 2 * ["scratch", "output_layer", "all_layers"]
    assert rows[2][4] == "+0.120 [+0.090, +0.150] \\*"
