"""musrep demo and the commands that a run proposes at its end."""

import html
from pathlib import Path

import pytest
import soundfile
from made_runs import write_transfer
from musrep_jax.tfds_builders.synthetic_cultures.synthesis import make_corpus

from musrep_jax.cli.demo import make_new_recording, write_demo
from musrep_jax.config import parse_command_line
from musrep_jax.experiments.next_steps import choose_best_export, list_next_steps
from musrep_jax.experiments.reading import read_run
from musrep_jax.pages.report import make_page


def test_the_demo_trains_tags_and_writes_a_page(tmp_path, capsys):
    words = ["--config=demo:smoke", "--config.model.name=log_mel_statistics"]
    page = write_demo(tmp_path / "my demo", words)
    assert page == tmp_path / "my demo" / "report.html"
    results = read_run(tmp_path / "my demo").results.values()
    assert {result["mode"] for result in results} == {"scratch", "baseline"}
    out = capsys.readouterr()
    made_with, tagged = out.out.splitlines()[-2:]
    audio, rate = soundfile.read(tmp_path / "my demo" / "new_recording.wav")
    assert rate == 16000 and 10.5 * rate < len(audio) < 13.5 * rate
    best = max(results, key=lambda result: result["validation"]["roc_auc"])
    assert f"({best['mode']})" in tagged
    labels = made_with.rpartition(": ")[2]
    text = html.unescape(page.read_text(encoding="utf-8"))
    assert "new_recording.wav" in text and f"Labels in the data set: {labels}." in text
    export = f"'{tmp_path}/my demo/exports/best'"
    assert f"  musrep tag {export} song.mp3   # tags by the best model of validation" in out.err


def test_the_new_recording_is_not_of_the_training_data():
    known = make_corpus("western").label_names
    audio, labels = make_new_recording(known, 8000)
    assert set(labels) <= set(known) and len(labels) > 5
    assert 8000 * 10.5 < len(audio) < 8000 * 13.5 and 0.01 < abs(audio).max() < 1.0


def make_result(export, score, **fields):
    return {
        "export": export, "roc_auc": 0.6, "error": None, "validation": {"roc_auc": score}, **fields
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "own"),
    [
        (
            ["--config=transfer"],
            "musrep train transfer --config.source='export:my runs/exports/b' "
            "--config.target=audio_folder:FOLDER --workdir=runs/own",
        ),
        (
            ["--config=tagging"],
            "musrep train tagging --config.data.path=FOLDER --workdir=runs/own",
        ),
        (["--config=tagging", "--config.data.path=x"], "musrep serve 'my runs/exports/c'"),
    ],
)
def test_next_commands_have_the_paths_of_the_run(words, own):
    results = [
        make_result("exports/a", 0.7, mode="scratch"),
        make_result("exports/b", 0.8, mode="all_layers"),
        make_result("exports/c", 0.9, mode="baseline"),
        make_result(None, 0.95, mode="scratch"),
        make_result("exports/e", None, mode="scratch"),
        make_result("exports/f", 0.99, mode="scratch", error="It failed."),
    ]
    settings, _ = parse_command_line(["main.py", *words])
    found = dict(list_next_steps(results, Path("my runs"), settings))
    assert list(found) == [
        "musrep report 'my runs' --open", "musrep tag 'my runs/exports/c' song.mp3", own
    ]  # fmt: skip
    assert choose_best_export(results[3:]) is None


def test_the_verdict_stands_on_top_of_the_report(tmp_path):
    run = read_run(write_transfer(tmp_path / "made", sizes=(10,)))
    page = html.unescape(make_page(run, [], "Nothing to hear."))
    assert 0 < page.index('class="verdict"') < page.index('class="facts"')
