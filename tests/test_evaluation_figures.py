"""Figures: what their artists hold, and that nothing is cut off or lies on something else."""

import itertools
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle

from musrep_jax.evaluation import tagging
from musrep_jax.evaluation.metrics import EvaluationError
from musrep_jax.reporting import (
    captions,
    drawing,
    figures,
    model_figures,
    run_figures,
    study_figures,
    taggram,
)

SETS = ("s/western", "s/makam", "s/Uşşak")


def make_cell(source, target, mode, value, size=0, seed=0):
    cell = {
        "source": source,
        "target": target,
        "model": "vgg_ish",
        "mode": mode,
        "seed": seed,
        "num_train_tracks": size,
        "num_train_tracks_used": size or 90,
        "roc_auc": value,
        "pr_auc": value - 0.3,
        "roc_auc_ci": [value - 0.03, value + 0.04],
        "pr_auc_ci": [value - 0.33, value - 0.26],
        "random": {"roc_auc": 0.5, "pr_auc": 0.2},
        "error": None,
    }
    if source is not None:
        change = {"difference": 0.05, "ci": [0.01, 0.09], "p_value": 0.01}
        cell["versus_scratch"] = {"roc_auc": change, "pr_auc": change}
    return cell


def make_matrix(names=SETS, sizes=(0,), seeds=(0,)):
    cells = []
    for size in sizes:
        for seed in seeds:
            for target in names:
                value = 0.6 + 0.02 * names.index(target)
                cells.append(make_cell(None, target, "scratch", value, size, seed))
                for mode in ("output_layer", "all_layers"):
                    for source in names:
                        if source != target:
                            cells.append(make_cell(source, target, mode, value + 0.05, size, seed))
    return cells


def texts_of(axes):
    return [text.get_text() for text in axes.texts]


def panels_of(figure, title):
    return [axes for axes in figure.axes if axes.get_title() == title]


def drawn(figure):
    """Lays the figure out as `save_figure` does, and returns what measures its texts."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def assert_all_text_is_within(figure):
    """Everything written lies inside the page, and tick labels do not overlap."""
    renderer = drawn(figure)
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox(renderer)
    assert box.x0 >= -0.01 and box.y0 >= -0.01, box
    assert box.x1 <= width + 0.01 and box.y1 <= height + 0.01, box
    for axes in figure.axes:
        for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
            boxes = [t.get_window_extent(renderer) for t in labels if t.get_text()]
            for first, second in itertools.pairwise(boxes):
                assert not first.overlaps(second)


def test_heat_map_shows_values_intervals_and_differences():
    figure = figures.draw_transfer_heat_map(make_matrix(), synthetic=SETS)
    title = figure.get_suptitle()
    assert "ROC-AUC" in title and "vgg_ish" in title and "s, synthetic data" in title
    for mode in ("output layer", "all layers"):
        (panel,) = panels_of(figure, mode)
        assert [t.get_text() for t in panel.get_xticklabels()] == ["western", "makam", "Uşşak"]
        rows = [t.get_text() for t in panel.get_yticklabels()]
        assert rows == ["scratch", "western", "makam", "Uşşak"]
        written = {
            (round(t.get_position()[0]), round(t.get_position()[1])): [] for t in panel.texts
        }
        for text in panel.texts:
            place = tuple(round(value) for value in text.get_position())
            written[place].append(text.get_text())
        assert written[1, 0] == ["0.620", "0.590-0.660"]
        assert written[1, 1] == ["0.670", "0.640-0.710", "+0.050 *"]
        assert written[0, 1] == ["same"]
        fields = [p for p in panel.patches if isinstance(p, Rectangle)]
        colours = {p.get_xy(): p.get_facecolor() for p in fields}
        assert len(colours) == 12
        # Blue is better than scratch.
        red, _, blue, _ = colours[(0.5, 0.5)]
        assert blue > red
        assert {p.get_xy() for p in fields if p.get_hatch()} == {
            (-0.5, 0.5),
            (0.5, 1.5),
            (1.5, 2.5),
        }
    assert_all_text_is_within(figure)


def test_heat_map_hatches_failures_and_colours_losses_red():
    cells = make_matrix(SETS[:2])
    for cell in cells:
        if cell["source"] is not None:
            cell["versus_scratch"] = None
            cell["roc_auc"] = 0.5
    cells[-1].update(roc_auc=None, error="lost")
    figure = figures.draw_transfer_heat_map(cells)
    (panel,) = panels_of(figure, "all layers")
    assert "failed" in texts_of(panel)
    assert "-0.100" in texts_of(panel)  # 0.5 against 0.6, without a recorded comparison
    colours = {p.get_xy(): p.get_facecolor() for p in panel.patches}
    red, _, blue, _ = colours[(-0.5, 1.5)]
    assert red > blue
    assert "synthetic" not in figure.get_suptitle()


def test_heat_map_shows_the_spread_over_seeds():
    cells = make_matrix(SETS[:2], seeds=(0, 1))
    for cell in cells:
        cell["roc_auc"] += 0.02 * cell["seed"]
    figure = figures.draw_transfer_heat_map(cells)
    (panel,) = panels_of(figure, "all layers")
    assert f"± {np.std([0, 0.02], ddof=1):.3f}" in texts_of(panel)
    assert "seeds" in figure.get_supxlabel()


def test_heat_map_shows_the_largest_training_set_of_the_transfers():
    cells = [c for c in make_matrix(SETS[:2], sizes=(5, 20)) if c["target"] == SETS[1]]
    cells.append(make_cell(None, SETS[0], "scratch", 0.6))  # trained on everything, a source only
    figure = figures.draw_transfer_heat_map(cells)
    assert "20 training tracks" in figure.get_suptitle()
    (panel,) = panels_of(figure, "all layers")
    assert [t.get_text() for t in panel.get_xticklabels()] == ["makam"]
    assert (
        "5 training tracks"
        in figures.draw_transfer_heat_map(cells, num_train_tracks=5).get_suptitle()
    )


@pytest.mark.parametrize("num_sets", [1, 2, 6])
def test_heat_map_of_any_size_and_long_names(num_sets):
    names = [f"audio_folder:/data/recordings_with_a_long_name_{i}$x$" for i in range(num_sets)]
    figure = figures.draw_transfer_heat_map(make_matrix(names), metric="pr_auc")
    assert_all_text_is_within(figure)


def test_mixed_data_is_marked_per_name():
    cells = make_matrix(["s/western", "s/makam"])
    figure = figures.draw_transfer_heat_map(cells, synthetic=["s/makam"])
    (panel,) = panels_of(figure, "all layers")
    names = [t.get_text().replace("\n", " ") for t in panel.get_xticklabels()]
    assert names == ["western", "makam (synthetic)"]
    assert "partly synthetic" in figure.get_suptitle()


def test_learning_curves_hold_the_numbers():
    cells = [c for c in make_matrix(SETS[:2], sizes=(10, 40, 0)) if c["target"] == SETS[1]]
    for cell in cells:
        cell["roc_auc"] += 0.001 * cell["num_train_tracks_used"]
    figure = figures.learning_curves(cells, synthetic=SETS[:2])
    (panel,) = panels_of(figure, "western → makam")
    assert panel.get_xscale() == "log"
    lines = {line.get_label(): line for line in panel.lines}
    assert set(lines) == {"scratch", "output layer", "all layers", "random scorer"}
    for line in lines.values():  # side by side, so that no interval lies on another
        if line.get_label() != "random scorer":
            np.testing.assert_allclose(line.get_xdata(), [10, 40, 90], rtol=0.1)
    np.testing.assert_allclose(lines["scratch"].get_ydata(), [0.63, 0.66, 0.71])
    np.testing.assert_allclose(lines["all layers"].get_ydata(), [0.68, 0.71, 0.76])
    assert len(panel.collections) == 3  # the intervals of a line
    bars = [path.vertices for bars in panel.collections for path in bars.get_paths()]
    assert bars[0][:, 1] == pytest.approx([0.59, 0.66])
    assert len({round(bar[0, 0], 6) for bar in bars}) == 9
    drawn(figure)
    assert [t.get_text() for t in panel.get_xticklabels()] == ["10", "40", "90"]
    assert "synthetic data" in figure.get_suptitle()
    legend = figure.legends[0]
    assert len(legend.get_texts()) == 4
    below = min(a.get_tightbbox().y0 for a in figure.axes)
    assert legend.get_window_extent().y1 <= below + 1
    assert_all_text_is_within(figure)


def test_learning_curves_of_numbers_per_class_have_these_at_their_ticks():
    cells = [c for c in make_matrix(SETS[:2], sizes=(3, 30, 0)) if c["target"] == SETS[1]]
    for cell in cells:
        if cell["num_train_tracks"]:
            cell["num_train_tracks"] = f"{cell['num_train_tracks']}_per_class"
    figure = figures.learning_curves(cells, synthetic=SETS[:2])
    (panel,) = panels_of(figure, "western → makam")
    drawn(figure)
    assert [t.get_text() for t in panel.get_xticklabels()] == ["3", "30", "all"]
    assert panel.get_xlabel() == "labeled training tracks per class"
    heat_map = figures.draw_transfer_heat_map(cells, num_train_tracks="3_per_class")
    assert "3 training tracks per class" in heat_map.get_suptitle()


def test_learning_curves_have_a_panel_per_source_and_target():
    figure = figures.learning_curves(make_matrix(SETS[:3], sizes=(5, 10), seeds=(0, 1)))
    titles = {axes.get_title() for axes in figure.axes if axes.axison}
    assert len(titles) == 6 and "makam → Uşşak" in titles
    assert_all_text_is_within(figure)
    one = figures.learning_curves(make_matrix(SETS[:2]))  # a single training set size
    assert_all_text_is_within(one)
    scratch = [cell for cell in make_matrix(SETS[:2], sizes=(5, 10)) if cell["source"] is None]
    assert {a.get_title() for a in figures.learning_curves(scratch).axes} == {"western", "makam"}


def test_figures_without_content_say_why():
    cells = make_matrix(SETS[:2])
    with pytest.raises(EvaluationError, match="one model, not of none"):
        figures.draw_transfer_heat_map([])
    with pytest.raises(EvaluationError, match="vgg_ish, musicnn"):
        figures.draw_transfer_heat_map([*cells, {**cells[0], "model": "musicnn"}])
    for cell in cells:
        cell["num_train_tracks_used"] = None
    with pytest.raises(EvaluationError, match="no learning curve"):
        figures.learning_curves(cells)
    with pytest.raises(EvaluationError, match="no rows"):
        run_figures.draw_training_curves([], title="x")


def test_all_figures_of_an_experiment_are_written(tmp_path):
    cells = make_matrix(SETS[:2], sizes=(5, 10))
    dead = {**cells[0], "model": "ast", "roc_auc": None, "error": "lost"}
    paths = figures.save_transfer_figures([*cells, dead], tmp_path / "figures")
    assert sorted(path.name for path in paths) == [
        "learning_curves_vgg_ish_pr_auc.png",
        "learning_curves_vgg_ish_roc_auc.png",
        "transfer_vgg_ish_pr_auc.png",
        "transfer_vgg_ish_roc_auc.png",
    ]
    for path in paths:
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        height, width = matplotlib.image.imread(path).shape[:2]
        assert width >= 6 * drawing.DPI and height >= 2 * drawing.DPI


def test_training_curves_hold_the_rows_and_marks():
    rows = [
        {"kind": "train", "step": s, "loss": 1 / s, "learning_rate": 1e-4 if s < 6 else 1e-3}
        for s in range(1, 11)
    ]
    rows += [{"kind": "validation", "step": s, "roc_auc": 0.5 + s / 50} for s in (5, 10)]
    rows.append({"kind": "validation", "step": 11, "roc_auc": None})
    figure = run_figures.draw_training_curves(rows, title="makam", switch_steps=(6,), best_step=10)
    loss, score, rate = figure.axes
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [1 / s for s in range(1, 11)])
    np.testing.assert_allclose(score.lines[0].get_xydata(), [[5, 0.6], [10, 0.7]])
    assert rate.get_yscale() == "log" and score.get_ylabel() == "ROC-AUC"
    for axes in figure.axes:
        marks = {line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1}
        assert marks == {6, 10}
    drawn(figure)
    assert not any("$" in t.get_text() for t in rate.get_yticklabels())
    assert_all_text_is_within(figure)
    short = run_figures.draw_training_curves(rows[-2:-1], title="smoke")
    assert "not recorded" in texts_of(short.axes[0])


@pytest.mark.parametrize("metric", ["roc_auc", "pr_auc"])
def test_per_label_bars_are_sorted_by_support(metric):
    rng = np.random.default_rng(0)
    labels = rng.random((50, 6)) < [0.1, 0.5, 0.3, 0.2, 0.0, 0.4]
    names = [
        "rare",
        "common",
        "a name that is far too long to be written out in full",
        "d",
        "e$$",
        "Uşşak",
    ]
    scores = rng.random(labels.shape) + 0.5 * labels
    report = tagging.make_report(labels, scores, names, num_bootstrap=30).to_dict()
    figure = run_figures.draw_per_label_bars(report, title="makam (synthetic data)", metric=metric)
    (panel,) = figure.axes
    written = [t.get_text() for t in panel.get_yticklabels()]
    supports = [int(text.rsplit("(", 1)[1].rstrip(")")) for text in written]
    assert supports == sorted(labels.sum(axis=0), reverse=True)
    assert written[-1] == "e$$  (0)"
    common = written.index(f"common  ({labels[:, 1].sum()})")
    assert panel.patches[common].get_width() == pytest.approx(report["per_label"]["common"][metric])
    chances = [line for line in panel.lines if line.get_xdata()[0] == line.get_xdata()[1]]
    expected = 0.5 if metric == "roc_auc" else report["per_label"]["common"]["random_pr_auc"]
    assert chances[common].get_xdata()[0] == pytest.approx(expected)
    assert texts_of(panel) == ["no positives"]
    assert "synthetic data" in figure.get_suptitle()
    assert_all_text_is_within(figure)
    few = run_figures.draw_per_label_bars(report, title="x", metric=metric, max_labels=2)
    assert len(few.axes[0].get_yticks()) == 2 and "2 commonest of 6" in few.get_suptitle()


def test_line_breaks_lose_no_letters():
    for text in ("turkish_makam_music", "a/b/c d", "abcdefghijklmnop", "one two  three"):
        lines = captions.wrap(text, 6).split("\n")
        assert max(map(len, lines)) <= 6
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_the_room_is_imported_without_matplotlib(repository):
    code = (
        "import sys, musrep_jax.evaluation, musrep_jax.reporting.tables; "
        "print(sorted({'matplotlib', 'jax', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([0.5, 0.9], 0.48, 0.92),
        ([0.5, 1.0], 0.475, 1.0),
        ([0.91, 0.92], 0.8, 1.0),
        ([1.0], 0.8, 1.0),
        ([0.0], 0.0, 0.2),
        ([0.7, 0.7, float("nan")], 0.6, 0.8),
        ([], 0.0, 1.0),
    ],
)
def test_axes_of_scores_end_at_one_and_show_no_hair_as_wide(values, low, high):
    assert captions.limit_scores(values) == pytest.approx((low, high))


def test_no_axis_of_a_score_passes_one_and_constants_are_lines():
    cells = make_matrix(SETS[:2], sizes=(5, 10))
    for cell in cells:
        cell.update(roc_auc=1.0, roc_auc_ci=[0.98, 1.0])
    rows = [{"kind": "train", "step": s, "loss": 0.5, "learning_rate": 1e-3} for s in (1, 2)]
    rows += [{"kind": "validation", "step": s, "loss": 0.5, "roc_auc": 0.99} for s in (1, 2)]
    training = run_figures.draw_training_curves(rows, title="x")
    models = model_figures.draw_model_comparison(
        [cell for cell in cells if cell["mode"] == "scratch"], title="x"
    )
    studied = [{**cells[0], "study": {"model.depth": depth}} for depth in (1, 2)]
    scores = [
        figures.learning_curves(cells).axes[0].get_ylim(),
        study_figures.draw_study(studied, "model.depth").axes[0].get_ylim(),
        training.axes[1].get_ylim(),
        models.axes[0].get_xlim(),
    ]
    for low, high in scores:
        assert high == 1 and low <= 0.8
    assert training.axes[0].get_ylim() == (0.4, 0.6)
    assert training.axes[2].get_ylim() == pytest.approx((8e-4, 1.2e-3))


def test_small_losses_are_pale():
    cells = make_matrix(SETS[:2])
    for cell in cells:
        if cell["source"] is not None:
            cell["versus_scratch"]["roc_auc"] = {"difference": -0.03, "ci": [-0.05, -0.01],
                                                 "p_value": 0.01}  # fmt: skip
    figure = figures.draw_transfer_heat_map(cells)
    (panel,) = panels_of(figure, "all layers")
    colors = {patch.get_xy(): patch.get_facecolor()[:3] for patch in panel.patches}
    red, green, blue = colors[(0.5, 0.5)]
    assert red > blue and min(red, green, blue) > 0.75


def test_letters_that_no_font_has_are_one_sentence(tmp_path, caplog, recwarn):
    report = {
        "num_tracks": 9,
        "per_label": {
            f"\U00010330{end}": {"positives": 3, "roc_auc": 0.7, "roc_auc_ci": None}
            for end in "\U00010331\U00010332"
        },
    }
    figure = run_figures.draw_per_label_bars(report, title="Gothic", metric="roc_auc")
    drawing.save_figure(figure, tmp_path / "x.png")
    drawing.save_figure(figure, tmp_path / "y.png")
    (said,) = [record.getMessage() for record in caplog.records]
    assert "\U00010330\U00010331" in said and not list(recwarn)


def test_silence_and_long_names_in_a_taggram():
    scores = np.array([[0.2, 0.9], [np.nan, np.nan], [0.4, 0.8]])
    figure = taggram.taggram(
        [[0, 3], [3, 6], [6, 9]], scores, ["ney", "a name without end " * 5], title="x"
    )
    assert "silence" in figure.get_suptitle()
    assert_all_text_is_within(figure)
