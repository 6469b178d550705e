"""What a run says and writes while it trains: rows, progress, its record, output that is lost."""

import contextlib
import io
import os
import sys

import jax
import pytest

from musrep_jax.runtime.files import to_json_safe
from musrep_jax.training import logs


def test_a_log_keeps_other_trainings_rows_when_one_resumes(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for cell in ("a", "b"):
        with logs.MetricsLog(path, cell=cell) as log:
            for step in range(1, 5):
                log.write(kind="train", step=step, loss=float(step))
    with path.open("a") as file:
        file.write('{"kind": "train", "st')  # killed while writing
    with logs.MetricsLog(path, cell="b") as log:
        log.drop_rows_after(2)
        log.write(kind="train", step=3)
    kept = [(row["cell"], row["step"]) for row in logs.read_rows(path)]
    assert kept == [("a", 1), ("a", 2), ("a", 3), ("a", 4), ("b", 1), ("b", 2), ("b", 3)]
    path.write_text("no json\n{}\n")
    with pytest.raises(ValueError, match="Line 1 of"):
        logs.read_rows(path)


class Terminal(io.StringIO):
    def isatty(self):
        return True


ROW = {"loss": 0.25, "learning_rate": 1e-4, "steps_per_second": 2.0, "data_wait": 0.125}


def show(label, width, monkeypatch):
    """Returns what a terminal of a width was sent for two updates and a note."""
    monkeypatch.setenv("COLUMNS", str(width))
    stream = Terminal()
    progress = logs.Progress(100, label=label, stream=stream)
    progress.update({**ROW, "step": 10})
    progress.record_validation("roc_auc", 0.9, True)
    progress.update({**ROW, "step": 20})
    progress.note("resumed")
    progress.close()
    return stream.getvalue()


def test_progress_rewrites_one_line_on_a_terminal(monkeypatch):
    first, second, wiped, note = show("makam", 200, monkeypatch).split("\r")[1:]
    assert first == (
        "makam: step 10/100  45s left  loss 0.2500  2.00 steps/s  lr 0.0001  12% waiting for data"
    )
    assert second.startswith("makam: step 20/100  40s left  loss 0.2500  roc_auc 0.9000 (best)  ")
    assert not wiped.strip() and len(wiped) == len(second)
    assert note == "makam: resumed\n"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 160])
def test_progress_is_never_wider_than_the_terminal(width, monkeypatch):
    label = "synthetic_cultures/western -> lyra, short_chunk_resnet, seed 0"
    lines = show(label, width, monkeypatch).split("\r")[1:3]
    assert all(
        len(line) < width and f"{step}/100" in line
        for step, line in zip((10, 20), lines, strict=True)
    )
    assert lines[0].startswith("…" if width < 160 else "synthetic_cultures/western -> lyra, short")
    assert width < 80 or all("s left  loss 0.2500" in line for line in lines)


@pytest.mark.parametrize("reason", ["nobody reads the pipe", "the disk is full"])
def test_what_cannot_be_written_does_not_stop_a_program(monkeypatch, reason):
    if reason == "the disk is full":
        stream = open("/dev/full", "w", buffering=1)  # noqa: SIM115
    else:
        read, write = os.pipe()
        os.close(read)
        stream = os.fdopen(write, "w", buffering=1)
    monkeypatch.setattr(sys, "stderr", stream)
    with pytest.raises(OSError, match=r"No space left|Broken pipe"):
        print("lost", file=sys.stderr, flush=True)
    with logs.tolerate_output_errors():
        for _ in range(3):
            print("lost", file=sys.stderr, flush=True)
            logs.Progress(10).note("lost")
        assert sys.stderr.fileno() == stream.fileno() and not sys.stderr.isatty()
    assert sys.stderr is stream
    with contextlib.suppress(OSError):
        stream.close()


def test_progress_writes_a_line_now_and_then_to_a_file():
    stream, times = io.StringIO(), iter([0.0, 4.0, 11.0, 12.0, 13.0])
    progress = logs.Progress(50, stream=stream, clock=lambda: next(times))
    for step in (10, 20, 30, 40, 50):
        progress.update({**ROW, "step": step})
    steps = [line.split()[2] for line in stream.getvalue().splitlines()]
    assert steps == ["10/50", "30/50", "50/50"]


def test_run_record_names_versions_and_devices():
    record = logs.make_run_record()
    assert record["packages"]["jax"] == jax.__version__
    assert record["backend"] == "cpu"
    assert record["num_devices"] == len(jax.devices())
    assert to_json_safe(record) == record
