"""Students from the command line: rows of the table, devices, resuming, and what is refused."""

import json
import os
import signal
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import soundfile
from toy_exports import make_export
from toy_recordings import make_folder
from toy_training import assert_trees_equal

from musrep_jax.command_line import main
from musrep_jax.data.input.joined_tracks import UnlabeledTracks
from musrep_jax.tasks.student.task import StudentTask
from musrep_jax.training import program
from musrep_jax.training.checkpoints import load_export, read_card
from musrep_jax.training.logs import read_rows
from musrep_jax.training.sharding import to_host

MODEL = "log_mel_statistics"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("student")
    return SimpleNamespace(root=root, music=make_folder(root / "music", seconds=0.5))


def run(place, name, *words):
    workdir = place.root / name
    code = main([
        "main.py", "--config=student:smoke", f"--workdir={workdir}",
        f"--config.target=audio_folder:{place.music}", "--config.num_train_tracks=1_per_class",
        f"--config.data.data_dir={place.root / 'data'}", "--config.model.num_samples=8000",
        "--config.train.num_devices=1", *words,
    ])  # fmt: skip
    return code, workdir


def cells_of(workdir):
    cells = json.loads((workdir / "results.json").read_text("utf-8"))["cells"]
    assert not any(cell["error"] for cell in cells)
    return {(cell["mode"], cell["seed"]): cell for cell in cells}


TRAINING = (
    "--config.train.num_steps=6", "--config.train.evaluate_every_steps=3",
    "--config.train.log_every_steps=1", "--config.train.checkpoint_every_minutes=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(place):
    """A run of all rows and two seeds, the states of its students, and what was compiled."""
    states, finish = {}, StudentTask.finish

    def remember(self, job, objective, fit, context):
        if hasattr(objective, "tested"):
            start = objective.variables
            states[job["mode"], job.seed] = (start, to_host(fit.state), job.needs)
        return finish(self, job, objective, fit, context)

    program._make_program.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StudentTask, "finish", remember)
        code, workdir = run(
            place, "whole", *TRAINING, "--config.seeds=0,1", "--config.evaluation.baseline=True",
            "--config.transfer.modes=scratch,student,mean_teacher",
            "--config.student.num_iterations=2",
        )  # fmt: skip
    assert code == 0
    return SimpleNamespace(
        workdir=workdir, states=states, compiled=program._make_program.cache_info().misses
    )


@pytest.mark.slow
def test_a_run_has_all_rows_with_their_differences(whole):
    cells = cells_of(whole.workdir)
    modes = ("baseline", "scratch", "augmented", "student", "student_2", "mean_teacher")
    assert set(cells) == {(mode, seed) for mode in modes for seed in (0, 1)}
    for (mode, _), cell in cells.items():
        assert ("versus_scratch" in cell) == (mode not in ("scratch", "baseline"))
        assert ("versus_teacher" in cell) == (mode in ("student", "student_2"))
        assert ("versus_baseline" in cell) == (mode != "baseline")
    student = cells["student", 0]
    assert (student["teacher"], student["num_train_tracks_used"]) == ("augmented", 2)
    assert cells["student_2", 0]["teacher"] == "student"
    assert cells["mean_teacher", 0]["teacher"] == "average of the student"
    assert student["num_unlabeled"] > 2 and student["unlabeled"] == "audio_folder:music"
    report = (whole.workdir / "results.md").read_text("utf-8")
    assert report.index("Students: better than the same labels alone in") < report.index("| Target")
    assert "Augmentation alone: better than the same labels alone in" in report
    assert "Students and teachers: better than their teachers in" in report
    card = read_card(whole.workdir / student["export"])
    assert card["training"]["notes"][-1].startswith("Taught by augmented, licence:")


@pytest.mark.slow
def test_teachers_of_a_run_stay_as_they_are_bit_for_bit(whole):
    assert len(whole.states) == 6
    for (mode, _), (start, last, needs) in whole.states.items():
        ours = {"params": last.params["teacher"]}
        ours |= {
            name: trees["teacher"] for name, trees in last.model_state.items() if "teacher" in trees
        }
        if mode == "mean_teacher":
            moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), ours["params"],
                                 start["params"]["teacher"])  # fmt: skip
            assert max(jax.tree.leaves(moved)) > 1e-4
            continue
        exported, _ = load_export(whole.workdir / "exports" / needs[-1])
        assert_trees_equal(jax.device_get(exported), ours)


@pytest.mark.slow
def test_all_seeds_and_iterations_share_one_program_of_each_kind(whole):
    """Training from labels with and without augmentation, and students of a teacher that stays
    and of their own average."""
    assert whole.compiled == 4


def assert_alike(ours, theirs, key, atol):
    """Losses of all steps to 1e-4, parameters of the export to `atol`."""
    rows = [
        {row["step"]: row["loss"] for row in read_rows(w / "cells" / key / "metrics.jsonl")
         if row["kind"] == "train"}
        for w in (ours, theirs)
    ]  # fmt: skip
    assert rows[0] == pytest.approx(rows[1], rel=1e-4) and len(rows[0]) == 6
    params = [load_export(w / "exports" / key)[0]["params"] for w in (ours, theirs)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), *params)


@pytest.mark.slow
@pytest.mark.parametrize("num_devices", [2, 8])
def test_any_number_of_devices_trains_the_same_student(place, whole, num_devices):
    code, workdir = run(
        place, f"devices{num_devices}", *TRAINING, f"--config.train.num_devices={num_devices}"
    )
    assert code == 0
    key = cells_of(workdir)["student", 0]["key"]
    assert_alike(workdir, whole.workdir, key, atol=2e-4)


@pytest.mark.slow
def test_a_student_that_was_stopped_goes_on_bit_for_bit(place, whole, monkeypatch, capfd):
    crop, calls = UnlabeledTracks.crop, []

    def interrupted(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 4 * 4:  # in step 4, or some steps before what is prepared for it
            os.kill(os.getpid(), signal.SIGTERM)
        return crop(self, *args, **kwargs)

    monkeypatch.setattr(UnlabeledTracks, "crop", interrupted)
    assert run(place, "stopped", *TRAINING)[0] == 143
    code, workdir = run(place, "stopped", *TRAINING)
    assert code == 0
    assert "student, 1 training track per class, seed 0: resumed" in capfd.readouterr().err
    key = cells_of(workdir)["student", 0]["key"]
    ours, theirs = (load_export(w / "exports" / key)[0] for w in (workdir, whole.workdir))
    assert_trees_equal(ours, theirs)


# What is refused, with a sentence and before anything is trained.


def refuse(place, name, capsys, *words):
    code, workdir = run(place, name, *words)
    assert code == 2
    assert not list(workdir.glob("cells/*")) and not list(workdir.glob("exports/*"))
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    return line


def test_a_teacher_with_other_labels(place, tmp_path, capsys):
    export = make_export(tmp_path, MODEL, ("ney", "oud"))
    said = refuse(place, "labels", capsys, f"--config.student.teacher=export:{export}")
    assert "has other labels than the target: it lacks 'drum', 'flute'" in said


def test_a_teacher_that_is_not_there(place, tmp_path, capsys):
    said = refuse(place, "nowhere", capsys, f"--config.student.teacher=export:{tmp_path / 'no'}")
    assert "student.teacher names export:" in said
    said = refuse(place, "unknown", capsys, "--config.student.teacher=pretrained:no-such")
    assert "student.teacher names pretrained:no-such" in said


def test_a_teacher_with_other_outputs(place, tmp_path, capsys):
    export = make_export(tmp_path, MODEL, ("drum", "flute"))
    said = refuse(place, "outputs", capsys, f"--config.student.teacher=export:{export}")
    assert "whose output is sigmoid, and its student has softmax" in said


def test_no_music_without_labels(place, tmp_path, capsys):
    said = refuse(place, "none", capsys, "--config.num_train_tracks=all")
    assert "student.unlabeled is 'rest', but all" in said and "--config.num_train_tracks" in said
    said = refuse(place, "empty", capsys, f"--config.student.unlabeled=audio_folder:{tmp_path}")
    assert "holds no audio files" in said
    said = refuse(place, "other", capsys, "--config.student.unlabeled=no_such_data_set")
    assert "student.unlabeled names 'no_such_data_set'" in said


def test_microbatches_that_do_not_divide_music_without_labels(place, capsys):
    words = ("--config.student.unlabeled_batch_size=3", "--config.train.num_microbatches=2")
    assert "must divide student.unlabeled_batch_size" in refuse(place, "parts", capsys, *words)


@pytest.mark.slow
def test_a_ready_teacher_of_another_rate_and_music_of_another_folder(place, tmp_path, whole):
    """The teacher reads 16,000 Hz, its student 8,000 Hz and half as many seconds."""
    rng = np.random.default_rng(2)
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * rng.standard_normal(9000), 22050)
    teacher = whole.workdir / cells_of(whole.workdir)["scratch", 1]["export"]
    code, workdir = run(
        place, "rates", "--config.model.sample_rate=8000", "--config.model.f_max=4000",
        "--config.model.num_samples=2000", f"--config.student.teacher=export:{teacher}",
        f"--config.student.unlabeled=audio_folder:{tmp_path}",
    )  # fmt: skip
    assert code == 0
    cells = cells_of(workdir)
    student, tested = cells["student", 0], cells["teacher", 0]
    assert tested["roc_auc"] == cells_of(whole.workdir)["scratch", 1]["roc_auc"]
    assert tested["num_train_tracks_used"] is None and "versus_teacher" in student
    assert student["num_unlabeled"] == 3 and student["unlabeled"] == f"audio_folder:{tmp_path.name}"
    assert student["teacher"] == f"export:{teacher.name}"
    assert read_card(workdir / student["export"])["sample_rate"] == 8000


@pytest.mark.slow
def test_students_across_two_cultures_stand_in_the_matrix_of_transfer(place, monkeypatch):
    """Started from the source and from fresh weights, with curves over the number of labels."""
    starts, finish = {}, StudentTask.finish

    def remember(self, job, objective, fit, context):
        if hasattr(objective, "tested"):
            starts[job["mode"]] = objective.variables["params"]["student"]["norm"]["scale"]
        return finish(self, job, objective, fit, context)

    monkeypatch.setattr(StudentTask, "finish", remember)
    west = make_folder(place.root / "west", names=("horn", "violin"), seconds=0.5)
    code, workdir = run(
        place, "cultures", f"--config.source=audio_folder:{west}",
        "--config.transfer.modes=scratch,all_layers,fresh_student,student",
        "--config.student.teacher=all_layers", "--config.num_train_tracks=1_per_class,2_per_class",
    )  # fmt: skip
    assert code == 0
    cells = json.loads((workdir / "results.json").read_text("utf-8"))["cells"]
    assert not any(cell["error"] for cell in cells)
    rows = [c for c in cells if c["target"].endswith("music")]
    assert {(c["source"] is None, c["mode"]) for c in rows} == {
        (True, "scratch"), (False, "all_layers"), (False, "fresh_student"), (False, "student"),
    }  # fmt: skip
    assert len(rows) == 8 and len(cells) == 9
    for cell in rows:
        assert ("versus_scratch" in cell) == (cell["mode"] != "scratch")
        assert (cell.get("teacher") or "") == (
            "all_layers from audio_folder:west" if "student" in cell["mode"] else ""
        )
    figures = {path.name for path in (workdir / "figures").glob("*.png")}
    assert figures >= {f"{kind}_{MODEL}_roc_auc.png" for kind in ("transfer", "learning_curves")}
    report = (workdir / "results.md").read_text("utf-8")
    assert "From west: better than training from scratch in" in report

    (source,) = [c for c in cells if c["target"].endswith("west")]
    trained = load_export(workdir / source["export"])[0]["params"]["norm"]["scale"]
    for mode, start in starts.items():
        assert np.array_equal(start, trained) == (mode == "student")
        assert np.array_equal(start, np.ones_like(start)) == (mode == "fresh_student")
