"""Models compared from the command line; exclusive classes, thresholds, learned filters."""

import doctest
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sk
from toy_recordings import make_folder

import musrep_jax
from musrep_jax.command_line import main
from musrep_jax.data.specs import DatasetSpec
from musrep_jax.evaluation.metrics import EvaluationError
from musrep_jax.inference.tagger import LoadedTagger, make_card
from musrep_jax.models import create_model
from musrep_jax.models.harmonic_cnn import TASK_SETTINGS
from musrep_jax.reporting import filter_figures, filter_table, model_figures, model_table
from musrep_jax.tasks import profiling
from musrep_jax.tasks.profiling import count_flops
from musrep_jax.training.checkpoints import ExportError, load_export, save_export

MAKAM = "synthetic_cultures/makam"
MODELS = ("short_chunk_cnn", "crnn")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def in_repository_root(repository, monkeypatch):
    monkeypatch.chdir(repository)


def run(workdir, data_dir, *flags, config="configs/compare.py:smoke"):
    common = (f"--config.data.data_dir={data_dir}", "--config.train.num_devices=1")
    return main(["main.py", f"--config={config}", f"--workdir={workdir}", *common, *flags])


def cells_of(workdir):
    cells = json.loads((workdir / "results.json").read_text(encoding="utf-8"))["cells"]
    return {cell["model"]: cell for cell in cells}


# --- the comparison ---


@pytest.fixture(scope="module")
def compared(data_dir, tmp_path_factory, repository):
    """The workdir of the smoke comparison."""
    workdir = tmp_path_factory.mktemp("compare") / "w"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        assert run(workdir, data_dir) == 0
    return workdir


def test_every_model_has_quality_and_cost(compared):
    cells = cells_of(compared)
    assert set(cells) == set(MODELS)
    for name, cell in cells.items():
        assert cell["error"] is None
        variables, card = load_export(compared / cell["export"])
        leaves = jax.tree.leaves(variables["params"])
        assert cell["num_params"] == sum(np.size(leaf) for leaf in leaves)
        seconds = card["num_samples"] / card["sample_rate"]
        assert cell["chunk_seconds"] == pytest.approx(seconds)
        assert cell["flops_per_second"] == pytest.approx(cell["flops_per_chunk"] / seconds)
        assert cell["flops_per_chunk"] > cell["num_params"], name
        assert cell["tracks_per_second"] > 0


def test_table_and_figure_show_the_models_as_listed(compared):
    text = (compared / "results.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows[2:5]] == [*MODELS, "random scorer"]
    cell = cells_of(compared)["crnn"]
    row = next(row for row in rows if row.startswith("| crnn"))
    assert f"{cell['num_params']:,}" in row
    assert f"| {cell['roc_auc']:.3f} " in row and cell["roc_auc_ci"] == [None, None]
    assert "so nothing is bracketed or tested" in text  # of a handful of tracks
    assert "synthetic" in text and "Not the published size: crnn with n_channels=" in text
    assert (compared / "figures" / "comparison.png").stat().st_size > 10_000
    assert len(list((compared / "figures" / "training").glob("*.png"))) == 2
    assert not (compared / "figures" / "filters").exists()


def test_the_other_model_is_compared_with_the_best_on_the_same_tracks(compared):
    cells = cells_of(compared)
    for metric in ("roc_auc", "pr_auc"):
        best = max(cells.values(), key=lambda c: c[metric])
        other = min(cells.values(), key=lambda c: c[metric])
        entry = other["versus_best"][metric]
        assert entry["model"] == best["model"]
        assert entry["difference"] == pytest.approx(other[metric] - best[metric])
        assert entry["reason"] == "too_few_positives" and entry["p_value"] is None
        assert metric not in (best.get("versus_best") or {})


@pytest.mark.slow
def test_a_further_model_joins_what_was_done_before(compared, data_dir, capsys):
    def exports():
        return {p: p.stat().st_mtime_ns for p in compared.glob("exports/*/tagger.json")}

    before = exports()
    names = "spectrogram_transformer,short_chunk_cnn"
    assert run(compared, data_dir, f"--config.model.name={names}") == 0
    assert len(before) == 2 and len(exports()) == 3 and before.items() <= exports().items()
    captured = capsys.readouterr()
    assert "2 cells, 1 done before" in captured.err
    listed = [*names.split(","), "crnn", "random"]
    firsts = [(line.split() or [""])[0] for line in captured.out.splitlines()]
    assert [first for first in firsts if first in listed] == listed
    cell = cells_of(compared)["spectrogram_transformer"]
    statistics = load_export(compared / cell["export"])[0]["input_statistics"]
    assert statistics["mean"] < -1 and statistics["std"] > 1  # in dB, not the values of `setup`


def test_a_model_that_cannot_read_the_data_stands_in_the_table_with_its_sentence(
    data_dir, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "200")
    flags = ("--config.data.name=synthetic_cultures/greek", "--config.model.name=sample_cnn,crnn")
    assert run(tmp_path / "w", data_dir, *flags) == 1
    out = capsys.readouterr().out
    assert "sample_cnn  failed (1)" in " ".join(out.split(" "))
    assert "Failed (1) sample_cnn: " in out
    assert (tmp_path / "w" / "results.md").exists()


def test_one_protocol_means_one_size_of_the_training_set(data_dir, tmp_path, capsys):
    assert run(tmp_path / "w", data_dir, "--config.num_train_tracks=4,all") == 2
    assert "takes one number of training tracks" in capsys.readouterr().err


def make_cell(model, seed, value, p_value=None, **fields):
    cell = {
        "source": None, "target": MAKAM, "model": model, "mode": "scratch", "seed": seed,
        "num_train_tracks": 0, "roc_auc": value, "pr_auc": value - 0.3,
        "roc_auc_ci": [value - 0.02, value + 0.02], "pr_auc_ci": [None, None],
        "random": {"roc_auc": 0.5, "pr_auc": 0.2}, "num_params": 1234567, "flops_per_chunk": 2.5e9,
        "flops_per_second": 5e8, "tracks_per_second": 12.34, "seconds": 61.2, "error": None,
    } | fields  # fmt: skip
    if p_value is not None:
        entry = {"model": "b", "difference": -0.1, "ci": [-0.2, -0.05], "p_value": p_value}
        cell["versus_best"] = {"roc_auc": entry, "pr_auc": entry}
    return cell


def test_seeds_become_means_with_spread_and_marks_need_all_of_them():
    cells = [make_cell("a", seed, 0.70 + 0.02 * seed, 0.01) for seed in range(3)]
    cells += [make_cell("b", seed, 0.90) for seed in range(3)]
    cells += [make_cell("c", seed, 0.80, 0.01 if seed else 0.2) for seed in range(3)]
    rows = {row.model: row for row in model_table.make_model_rows(cells, ["c", "b"])}
    assert list(rows) == ["c", "b", "a"]
    score = rows["a"].scores["roc_auc"]
    assert (score.value, score.spread) == (pytest.approx(0.72), pytest.approx(0.02))
    assert [rows[name].scores["roc_auc"].mark for name in "abc"] == ["**", "", ""]
    assert model_table.best_model(cells, "pr_auc") == "b"
    table = model_table.format_comparison_table(cells, models=["c", "b"])
    assert "0.720 ± 0.020 [0.700, 0.740] \\*\\*" in table
    assert "1,234,567" in table and "2.5 G" in table and "500 M" in table and "12.3" in table
    figure = model_figures.draw_model_comparison(cells, title="makam", models=["c", "b"])
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["c", "b", "a"]
    assert "0.720 **" in [t.get_text() for t in figure.axes[0].texts]


def test_a_comparison_without_results_says_so():
    failed = make_cell("a", 0, 0.5, roc_auc=None, error="It was too short.")
    assert "Failed (1) a: It was too short." in model_table.format_comparison_table([failed])
    with pytest.raises(EvaluationError, match="no model has a result"):
        model_figures.draw_model_comparison([failed], title="nothing")


def test_operations_are_counted_by_hand():
    image, kernel = jnp.zeros((2, 8, 8, 4)), jnp.zeros((3, 3, 2, 6))

    def convolve(x, k):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, k, (1, 1), "VALID", dimension_numbers=numbers, feature_group_count=2
        )

    assert count_flops(convolve, image, kernel) == 2 * (2 * 6 * 6 * 6) * (3 * 3 * 2)
    assert count_flops(jnp.fft.rfft, jnp.zeros((4, 512))) == 4 * 2.5 * 512 * 9

    @jax.jit
    @jax.checkpoint
    def loop(x):
        return jax.lax.scan(lambda c, _: (c @ jnp.ones((4, 4)), None), x, None, length=7)[0]

    assert count_flops(loop, jnp.zeros((1, 4))) == 7 * 2 * 16


@pytest.mark.parametrize("module", [model_table, profiling])
def test_examples_in_docstrings(module):
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0


# --- exclusive classes, thresholds, filters: one training of a harmonic CNN ---


@pytest.fixture(scope="module")
def words(data_dir, tmp_path_factory, repository):
    """The workdir of a keyword spotter on a folder of two classes."""
    root = tmp_path_factory.mktemp("words")
    folder, workdir = make_folder(root / "music"), root / "w"
    settings = TASK_SETTINGS["keywords"] | {"filter_mode": "full", "n_channels": 4}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        code = run(
            workdir,
            data_dir,
            "--config.data.name=audio_folder",
            f"--config.data.path={folder}",
            "--config.model.name=harmonic_cnn",
            *(f"--config.model.{name}={value}" for name, value in settings.items()),
            "--config.train.loss=cross_entropy",
            "--config.train.select_by=f1_samples",
            "--config.train.num_steps=60",
            "--config.train.evaluate_every_steps=20",
            "--config.optimizer.learning_rate=0.005",
            "--config.train.batch_size=8",
            "--config.evaluation.threshold=0.3",
            config="configs/tagging.py:smoke",
        )
    assert code == 0, [c["error"] for c in cells_of(workdir).values()]
    return workdir


@pytest.fixture(scope="module")
def word_scores(words):
    return np.load(next(words.glob("cells/*/scores.npz")))


def test_exclusive_classes_are_trained_and_scored_by_softmax(words, word_scores):
    cell = cells_of(words)["harmonic_cnn"]
    np.testing.assert_allclose(word_scores["scores"].sum(axis=1), 1.0, atol=1e-6)
    assert cell["loss"] == "cross_entropy"
    accuracy = (word_scores["scores"].argmax(1) == word_scores["labels"].argmax(1)).mean()
    assert cell["single_label"]["all labels"]["accuracy"] == pytest.approx(accuracy)
    assert accuracy > 0.9
    rows = [json.loads(line) for line in (words / "metrics.jsonl").read_text().splitlines()]
    losses = {row["kind"]: row["loss"] for row in rows}
    # Two classes: a loss per track starts at log 2; a loss per label would be the same by chance.
    assert 0 < losses["validation"] < np.log(2)
    assert cell["validation"]["f1_samples"] > 0.9


def test_the_export_says_how_it_was_trained_and_predicts_by_softmax(words, word_scores):
    cell = cells_of(words)["harmonic_cnn"]
    tagger = musrep_jax.load_tagger(words / cell["export"])
    assert tagger.output == "softmax"
    assert tagger.card["training"]["loss"] == "cross_entropy"
    noise = np.random.default_rng(0).normal(size=40000).astype(np.float32) * 0.1
    scores = tagger.predict(noise, 16000)
    assert sum(scores.values()) == pytest.approx(1.0)
    times, over_time = tagger.predict_over_time(noise, 16000)
    assert len(times) == 3
    np.testing.assert_allclose(over_time.sum(axis=1), 1.0)
    np.testing.assert_allclose(list(scores.values()), over_time.mean(axis=0), atol=1e-6)


def test_f1_at_one_threshold_and_at_fitted_ones(words, word_scores):
    cell = cells_of(words)["harmonic_cnn"]
    labels, scores = word_scores["labels"], word_scores["scores"]
    assert cell["f1"]["threshold"] == 0.3
    fitted = cell["f1_fitted"]["thresholds"]
    assert list(fitted) == list(cell["per_label"])
    for field, cuts in (("f1", 0.3), ("f1_fitted", list(fitted.values()))):
        for average in ("macro", "samples"):
            expected = sk.f1_score(labels, scores > cuts, average=average, zero_division=0)
            assert cell[field][average] == pytest.approx(expected)
    card = load_export(words / cell["export"])[1]
    assert card["thresholds"] == pytest.approx(fitted)
    assert card["label_groups"] == {"all labels": card["labels"]}
    assert "F1 at 0.3: macro" in (words / "results.md").read_text(encoding="utf-8")


def test_learned_filters_are_recorded_and_drawn(words):
    cell = cells_of(words)["harmonic_cnn"]
    tagger = musrep_jax.load_tagger(words / cell["export"])
    with np.load(next(words.glob("cells/*/filters.npz"))) as file:
        record = dict(file)
    assert (str(record["mode"]), float(record["bin_hz"])) == ("full", 62.5)
    assert record["before_quality"] == 1.0 and record["after_quality"] != 1.0
    assert record["after_alpha"] != record["before_alpha"]
    now = tagger.model.apply(tagger.variables, method="filter_shapes")
    for name, values in now.items():
        np.testing.assert_allclose(record[f"after_{name}"], values, rtol=1e-6)
    picture = next((words / "figures" / "filters").glob("*harmonic_cnn*.png"))
    assert picture.stat().st_size > 20_000
    summary = cell["filters"]
    assert summary["quality"] == pytest.approx([1, float(record["after_quality"][0])])
    assert [band["band"] for band in summary["bands"]][::11] == [1, len(now["centres"])]
    assert "Harmonic filters, mode full" in (words / "results.md").read_text(encoding="utf-8")


def test_filter_table_says_how_far_bands_moved():
    centres = np.outer(100.0 * 2 ** np.arange(3), np.arange(1, 4))
    before = {"centres": centres, "bandwidths": centres / 4, "quality": [1.0], "alpha": [0.1],
              "beta": [24.7]}  # fmt: skip
    moved = centres * 2 ** (np.array([[-10], [0], [20]]) / 1200)
    summary = filter_table.summarize_filters(
        before, before | {"centres": moved, "quality": [2.0]}, mode="direct"
    )
    text = filter_table.make_filter_table(summary)
    assert "mode direct, before and after: Q 1 → 2, alpha 0.1, beta (Hz) 24.7." in text
    assert "moved by -10.0 to +20.0 cents, 10.0 on average" in text
    rows = [[part.strip() for part in line.split("|")[1:-1]] for line in text.splitlines()[4:]]
    assert rows == [
        ["1", "100 → 99.42", "-10.0", "25", "4 → 3.977"],
        ["2", "200", "+0.0", "50", "4"],
        ["3", "400 → 404.6", "+20.0", "100", "4 → 4.046"],
    ]


@pytest.mark.parametrize(
    ("mode", "num_axes"), [("only_Q", 5), ("fixed", 5), ("full", 6), ("direct", 6)]
)
def test_filter_figure_holds_the_triangles(mode, num_axes):
    centres = np.outer(32.7 * 2 ** (np.arange(64) / 12), np.arange(1, 4))
    before = {"centres": centres, "bandwidths": 0.1 * centres + 24.7, "quality": [1.0],
              "alpha": [0.1], "beta": [24.7]}  # fmt: skip
    after = before | {"bandwidths": before["bandwidths"] / 2, "quality": [2.0]}
    figure = filter_figures.draw_filters(before, after, title="t", mode=mode, bin_hz=31.25)
    assert len(figure.axes) == num_axes
    last = figure.axes[3]
    assert last.get_title(loc="left") == "band 64 of 64"
    centre, width = centres[63, 0], after["bandwidths"][63, 0]
    expected = [centre - width / 2, centre, centre + width / 2]
    np.testing.assert_allclose(last.lines[0].get_xdata(), expected)
    text = figure.axes[4].texts[0].get_text()
    assert ("Q: 1 → 2" in text) == (mode != "fixed")
    one = {name: np.asarray(values)[:1] for name, values in before.items()}
    alone = filter_figures.draw_filters(one, one, title="t", mode=mode, bin_hz=31.25)
    assert len(alone.axes) == num_axes - 3 and all(a.get_ylim() == (0, 1) for a in alone.axes[:1])
    if mode == "full":  # nothing moved: a line, and not a zoom
        assert alone.axes[2].get_ylim() == (-50, 50)


def test_tracks_with_several_labels_are_refused_for_exclusive_classes(data_dir, tmp_path, capsys):
    flags = ("--config.train.loss=cross_entropy", "--config.model.name=short_chunk_cnn")
    assert run(tmp_path / "w", data_dir, *flags) == 1
    error = cells_of(tmp_path / "w")["short_chunk_cnn"]["error"]
    assert "for tracks with exactly one label" in error and "training tracks" in error
    assert "data.labels" in error
    capsys.readouterr()
    assert run(tmp_path / "v", data_dir, "--config.train.loss=cross_entropi") == 2
    assert "Did you mean 'cross_entropy'" in capsys.readouterr().err
    assert not (tmp_path / "v").exists()


def test_an_export_with_an_output_of_another_version_is_refused(tmp_path):
    model = create_model("short_chunk_cnn", 2, {"n_channels": 2, "num_samples": 32768})
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 32768)), train=False)
    )
    variables = jax.tree.map(
        lambda leaf: 0.3 * np.abs(rng.normal(size=leaf.shape)).astype(np.float32), shapes
    )
    spec = DatasetSpec(
        name="made_up", label_names=("a", "b"), sample_rate=16000, stored_form="pcm16",
        split_sizes={}, licence="CC0-1.0", citation="none", description="for a test",
    )  # fmt: skip
    card = make_card(
        model, name="short_chunk_cnn", data=spec, training={}, metrics={}, versions={},
        aggregate="logit", output="softmax", thresholds={"a": 0.4, "b": 0.6},
    )  # fmt: skip
    assert card["thresholds"] == {"a": 0.4, "b": 0.6}
    tagger = LoadedTagger(model, variables, card)
    audio = rng.normal(size=70000).astype(np.float32) * 0.1
    chunks = np.stack([audio[:32768], audio[32768:65536], audio[-32768:]])
    logits = model.apply(variables, jnp.asarray(chunks), train=False).logits
    expected = jax.nn.softmax(logits.mean(axis=0))
    np.testing.assert_allclose(list(tagger.predict(audio, 16000).values()), expected, atol=1e-5)
    path = save_export(tmp_path / "e", variables, card | {"output": "sparsemax"})
    with pytest.raises(
        ExportError, match="output is 'sparsemax'; it must be one of sigmoid, softmax"
    ):
        musrep_jax.load_tagger(path)
    old = {k: v for k, v in card.items() if k not in ("output", "thresholds")}
    assert LoadedTagger(model, variables, old).output == "sigmoid"
