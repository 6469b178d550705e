"""Tables of results, and reading the cells that they are made from."""

import doctest
import math

import numpy as np
import pytest

from musrep_jax.evaluation import aggregation, tagging
from musrep_jax.evaluation.metrics import EvaluationError
from musrep_jax.reporting import captions, layout, tables
from musrep_jax.reporting import results as cells_file
from musrep_jax.reporting.display_names import find_common_collection, make_display_names
from musrep_jax.runtime.terminal import measure_display_width


def make_problem(seed=0, num_tracks=60, num_classes=6):
    rng = np.random.default_rng(seed)
    labels = rng.random((num_tracks, num_classes)) < 0.3
    labels[0], labels[1] = True, False
    return labels, aggregation.sigmoid(rng.normal(size=labels.shape) + labels)


def make_cell(source, target, mode, roc_auc=0.7, seed=0, p_value=None, **fields):
    cell = {
        "source": source,
        "target": target,
        "model": "vgg_ish",
        "mode": mode,
        "seed": seed,
        "num_train_tracks": 0,
        "roc_auc": roc_auc,
        "pr_auc": 0.4,
        "roc_auc_ci": [roc_auc - 0.05, roc_auc + 0.05],
        "pr_auc_ci": [0.3, 0.5],
        "random": {"roc_auc": 0.5, "pr_auc": 0.123},
        "error": None,
    }
    if p_value is not None:
        change = {"difference": roc_auc - 0.7, "ci": [0.01, 0.09], "p_value": p_value}
        cell["versus_scratch"] = {"roc_auc": change, "pr_auc": {**change, "p_value": 0.5}}
    return {**cell, **fields}


CELLS = [
    make_cell("s/western", "s/makam", "all_layers", 0.75, p_value=0.001),
    make_cell(None, "s/makam", "scratch", num_train_tracks_used=80),
    make_cell("s/western", "s/makam", "output_layer", 0.72, p_value=0.04),
    make_cell(
        "s/western",
        "audio_folder:/x/a|b",
        "output_layer",
        0.0,
        error="The folder\n'a|b' is empty.",
    )
    | {"roc_auc": None, "pr_auc": None, "roc_auc_ci": None, "pr_auc_ci": None},
]


def markdown_rows(text):
    return [
        [part.strip() for part in line.replace("\\|", "¦").strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


def test_results_table_holds_every_cell():
    text = tables.make_results_table(CELLS, notes=["The audio is synthetic."])
    header, _, *rows = markdown_rows(text)
    assert len({len(row) for row in (header, *rows)}) == 1
    assert [row[:4] for row in rows] == [
        ["-", "makam", "vgg_ish", "scratch"],
        ["western", "makam", "vgg_ish", "output_layer"],
        ["western", "makam", "vgg_ish", "all_layers"],
        ["western", "a¦b", "vgg_ish", "output_layer"],
    ]
    column = header.index("Train tracks")
    assert [row[column] for row in rows] == ["all (80)", "all", "all", "all"]
    assert rows[0][header.index("ROC-AUC [95 %]")] == "0.700 [0.650, 0.750]"
    change = header.index("ROC-AUC - scratch [95 %]")
    assert rows[1][change] == r"+0.020 [+0.010, +0.090] \*\*"
    assert rows[2][change] == r"+0.050 [+0.010, +0.090] \*\*"
    assert rows[2][change + 1] == "+0.050 [+0.010, +0.090]"
    assert rows[0][-1] == "0.500 / 0.123"
    assert "failed (1)" in rows[3]
    assert (
        "- Failed (1) western -> a\\|b, vgg_ish, output_layer: The folder 'a\\|b' is empty." in text
    )
    assert "- The audio is synthetic." in text
    assert "Seed" not in header


def test_marks_tell_what_survives_the_correction():
    cells = [
        make_cell("w", f"t{i}", "all_layers", p_value=p) for i, p in enumerate((0.001, 0.04, 0.2))
    ]
    cells.append(make_cell(None, "a", "scratch"))
    assert cells_file.mark_significance(cells, "roc_auc") == ["**", "*", "", ""]


def test_results_table_shows_means_over_seeds():
    cells = [
        make_cell(None, "makam", "scratch", value, seed) for seed, value in enumerate((0.6, 0.8))
    ]
    header, _, *rows = markdown_rows(tables.make_results_table(cells))
    assert [row[header.index("Seed")] for row in rows] == ["0", "1", "mean of 2"]
    assert rows[2][header.index("ROC-AUC [95 %]")] == f"0.700 ± {np.std([0.6, 0.8], ddof=1):.3f}"


def test_text_tables_line_up_for_wide_letters():
    columns = [layout.Column("name"), layout.Column("n", is_number=True)]
    rows = [["Uşşak", "1"], ["三味線", "22"], ["e\u0301", "333"]]
    for style in layout.STYLES:
        lines = layout.format_table(columns, rows, style).splitlines()
        assert len({measure_display_width(line) for line in lines}) == 1, style
    with pytest.raises(EvaluationError, match="'html' is not known"):
        layout.format_table(columns, rows, "html")
    assert tables.make_results_table([]) == "There are no results yet."


def test_a_text_is_no_wider_than_asked_for():
    columns = [
        layout.Column("Model"), layout.Column("Tracks", True), layout.Column("AUC [95 %]"),
        layout.Column("Chance", is_optional=True),
    ]  # fmt: skip
    rows = [["short_chunk_resnet", "112", "0.834 [0.774, 0.881] *", "0.5"], ["fcn", "9", "-", "-"]]
    assert layout.format_table(columns, rows, "text", 60).splitlines()[2:] == [
        "short_chunk_resnet     112  0.834 [0.774, 0.881] *  0.5",
        "fcn                      9  -                       -",
    ]
    assert layout.format_table(columns, rows, "text", 46).splitlines() == [
        "Model               Tracks  AUC [95 %]",
        "------------------  ------  ------------------",
        "short_chunk_resnet     112  0.834",
        "                            [0.774, 0.881] *",
        "fcn                      9  -",
        "Not shown, too wide: Chance.",
    ]
    assert layout.format_table(columns, rows, "text", 34).splitlines()[-1] == (
        "Not shown, too wide: Chance."
    )
    assert layout.format_table(columns, rows, "markdown", 34) == layout.format_table(columns, rows)


def test_what_is_empty_leaves_a_narrow_table_first_and_brackets_break_last():
    columns = [
        layout.Column("Source"), layout.Column("Target"), layout.Column("AUC [95 %]"),
        layout.Column("Chance", is_optional=True),
    ]  # fmt: skip
    rows = [["-", "makam", "0.834 [0.774, 0.881] *", "0.5"]]
    assert layout.format_table(columns, rows, "text", 32).splitlines() == [
        "Target  AUC [95 %]        Chance",
        "------  ----------------  ------",
        "makam   0.834             0.5",
        "        [0.774, 0.881] *",
        "Not shown, too wide: Source.",
    ]
    assert layout.format_table(columns, rows, "text", 17).splitlines() == [
        "Target  AUC",
        "        [95 %]",
        "------  ---------",
        "makam   0.834",
        "        [0.774,",
        "        0.881] *",
        "Not shown, too wide: Source; Chance.",
    ]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_results_fit_a_terminal(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    modes = ("scratch", "all_layers", "output_layer")
    cells = [
        make_cell(
            None if mode == "scratch" else "synthetic_cultures/western",
            f"synthetic_cultures/{target}",
            mode,
            p_value=0.01,
        )
        for target in ("hindustani", "carnatic")
        for mode in modes
    ]
    text = tables.make_results_table(cells, style="text")
    table = text[: text.index("Brackets")].splitlines()
    assert max(map(len, table[:-1])) <= width  # the last line names the columns left out
    assert all(line.count("ROC-AUC") for line in table[:1])
    whole = tables.make_results_table(cells)
    assert "Random ROC / PR" in whole and "Not shown" not in whole


def test_per_label_table_and_summary_show_support_and_reasons():
    labels, scores = make_problem()
    labels[:, 1] = False
    labels[:, 2] = labels[:, 3]
    names = ["makam--a", "makam--b", "c", "d", "e", "f"]
    report = tagging.make_report(labels, scores, names, num_bootstrap=20).to_dict()
    header, _, *rows = markdown_rows(tables.make_per_label_table(report))
    assert header[:2] == ["Label", "Positives of 60"]
    assert [row[0] for row in rows] == names
    assert rows[1][1:3] == ["0", "no positives"]
    assert all(len(row) == len(header) for row in rows)
    entry = report["per_label"]["makam--a"]
    for title, field in (("Precision", "precision"), ("Recall", "recall")):
        assert rows[0][header.index(title)] == f"{entry[field]:.3f}"
    assert rows[0][1] == str(labels[:, 0].sum())
    assert rows[0][2].startswith(f"{report['per_label']['makam--a']['roc_auc']:.3f} [")
    by_support = markdown_rows(tables.make_per_label_table(report, sort_by_support=True))[2:]
    supports = [int(row[1]) for row in by_support]
    assert supports == sorted(supports, reverse=True)
    text = tables.format_report_summary(report)
    assert "60 tracks, 5 labels evaluated" in text
    assert "left out: makam--b (no positives)" in text
    assert "identical labels counted once (4 labels)" in text
    assert "makam (1 labels)" in text


def test_summaries_put_seeds_together():
    cells = [
        make_cell("w", "m", "all_layers", 0.8, 0, p_value=0.01),
        make_cell("w", "m", "all_layers", 0.9, 1, p_value=0.01),
        make_cell("w", "m", "all_layers", 0.0, 2, error="lost") | {"roc_auc": None},
        make_cell(None, "m", "scratch", 0.7),
        make_cell("w", "m", "output_layer", 0.65),
    ]
    summaries = {s.condition.mode: s for s in cells_file.summarize(cells, "roc_auc").values()}
    both = summaries["all_layers"]
    assert both.value == pytest.approx(0.85) and both.num_failed == 1
    assert both.spread == pytest.approx(np.std([0.8, 0.9], ddof=1))
    assert both.difference == pytest.approx(0.15) and both.is_significant
    # Without a recorded comparison the difference is that of the values.
    assert summaries["output_layer"].difference == pytest.approx(-0.05)
    assert not summaries["output_layer"].is_significant
    assert math.isnan(summaries["scratch"].difference)


def test_names_stay_different():
    names = ["a/x", "b/x", "audio_folder:/data/y/", None]
    short = make_display_names(names)
    assert short == {"a/x": "a/x", "b/x": "b/x", "audio_folder:/data/y/": "y", None: "scratch"}
    names = ["fma/top20-artist-pcm16", "lyra/top30-source-log_mel", "lyra"]
    short = make_display_names(names)
    assert list(short.values()) == ["fma/top20-artist", "lyra/top30-source", "lyra"]
    names = ["fma/top20-artist-pcm16", "fma/top20-artist-encoded"]
    assert list(make_display_names(names).values()) == names
    assert find_common_collection(["a/x", "a/y"]) == "a"
    assert find_common_collection(["a/x", "audio_folder:/a/y"]) == ""


@pytest.mark.parametrize("module", [captions, cells_file, tables])
def test_examples_in_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0


def test_tables_say_what_was_resampled_and_what_rests_on_little():
    base = {"source": None, "model": "fcn", "mode": "scratch", "seed": 0, "num_train_tracks": 0,
            "roc_auc": 0.8, "pr_auc": 0.5, "num_tracks": 118, "error": None}  # fmt: skip
    lyra = {**base, "target": "lyra", "num_track_groups": 22, "roc_auc_ci": [0.7, 0.9]}
    few = {**base, "target": "few", "roc_auc_ci": [None, None], "ci_reason": "too_few_positives",
           "validation_size": {"num_tracks": 9, "num_groups": None, "is_small": True}}  # fmt: skip
    table = tables.make_results_table([lyra, few], style="text")
    assert "95 % intervals over whole groups of test tracks (lyra: 22 groups of 118" in table
    assert "test tracks one by one elsewhere" in table
    notes = captions.make_support_notes([lyra, few])
    assert notes[0].startswith("Too few tracks or groups")
    assert "Small validation sets (few: 9 tracks)" in notes[1]
    assert captions.make_support_notes([lyra]) == []
    assert "over test tracks." in tables.make_results_table([few], style="text")
    change = {"difference": 0.1, "ci": [None, None], "p_value": None, "reason": "too_few_groups"}
    carried = {**lyra, "source": "west", "mode": "all_layers",
               "versus_scratch": {"roc_auc": change, "pr_auc": change}}  # fmt: skip
    assert "+0.100 (too few groups)" in tables.make_results_table([lyra, carried])


def test_a_name_is_broken_between_words_before_underscores():
    columns = [layout.Column("Candidate"), *[layout.Column(f"Metric {i} [95 %]") for i in range(3)]]
    columns += [layout.Column("Accuracy [95 %]", is_optional=True)]
    rows = [["log_mel_statistics, linear (baseline)", *["0.915 [0.886, 0.941]"] * 4]]
    text = layout.format_table(columns, rows, "text", 76)
    assert max(map(len, text.splitlines())) <= 76
    assert "log_mel_statistics,\n" not in text and text.count("log_mel_statistics, ") == 1
    assert text.endswith("Not shown, too wide: Accuracy [95 %].")
