"""A check of the tests themselves: one line of a copy is made wrong, and a named test must fail.

The lines are those on which the honesty of a run, the models and the statistics rest: mistakes in
them change figures, and break nothing else. `pytest -m mutation` makes them, one after the other;
that the table below fits the code is checked in every run.
"""

import ast
import os
import pathlib
import re
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
COPIED = ("musrep_jax", "configs", "tfds_builders", "tests", "setup.cfg")
TIMEOUT_SECONDS = 900


class Mutation(NamedTuple):
    """A mistake of one line.

    Attributes:
        mistake: what it would be.
        file: where, below `musrep_jax`.
        line: part of a line that stands once in the file.
        replacement: what is put there.
        test: that must fail, `FILE.py::TEST` below `tests`.
    """

    mistake: str
    file: str
    line: str
    replacement: str
    test: str


MUTATIONS = (
    Mutation(
        "the last weights are exported and tested, not the best",
        "tasks/tagging/task.py",
        '{"params": fit.best_state.params, **fit.best_state.model_state}',
        '{"params": fit.state.params, **fit.state.model_state}',
        "test_honesty.py::test_the_exported_weights_are_the_best_ones_and_not_the_last",
    ),
    Mutation(
        "thresholds are fitted on the test split",
        "tasks/tagging/task.py",
        "fit_thresholds(truth, guesses, ",
        "fit_thresholds(labels, scores, ",
        "test_honesty.py::test_thresholds_are_fitted_on_validation",
    ),
    Mutation(
        "probabilities are calibrated on the test split",
        "tasks/tagging/task.py",
        "fit_calibration(truth, guesses)",
        "fit_calibration(labels, scores)",
        "test_honesty.py::test_calibration_is_fitted_on_validation",
    ),
    Mutation(
        "test figures are those of the validation split",
        "tasks/tagging/task.py",
        'dataset.tracks("test")',
        'dataset.tracks("validation")',
        "test_honesty.py::test_test_figures_are_of_the_test_split_in_the_chunks_of_the_test",
    ),
    Mutation(
        "the test has as many chunks per track as validation",
        "tasks/tagging/task.py",
        "settings, settings.evaluation.num_chunks)",
        "settings, settings.evaluation.validation_num_chunks)",
        "test_honesty.py::test_test_figures_are_of_the_test_split_in_the_chunks_of_the_test",
    ),
    Mutation(
        "a model from scratch never learns the statistics of BatchNorm",
        "tasks/tagging/objective.py",
        '            batch_norm = "update"',
        "            pass",
        "test_honesty.py::"
        "test_batch_norm_learns_its_statistics_from_scratch_whatever_is_said_of_transfers",
    ),
    Mutation(
        "BatchNorm with another epsilon",
        "models/layers.py",
        "BATCH_NORM_EPSILON = 1e-5",
        "BATCH_NORM_EPSILON = 1e-3",
        "test_models_numerics.py::test_batch_norm_adds_a_hundred_thousandth_to_the_variance",
    ),
    Mutation(
        "BatchNorm with another momentum",
        "models/layers.py",
        "BATCH_NORM_MOMENTUM = 0.9",
        "BATCH_NORM_MOMENTUM = 0.99",
        "test_models_numerics.py::test_running_statistics_are_those_of_pytorch",
    ),
    Mutation(
        "BatchNorm keeps the biased variance",
        "models/layers.py",
        "unbiased = var * (count / jnp.maximum(count - 1, 1))",
        "unbiased = var",
        "test_models_numerics.py::test_running_statistics_are_those_of_pytorch",
    ),
    Mutation(
        "ReLU stands before the addition",
        "models/layers.py",
        "y = nn.relu(x + h)",
        "y = x + nn.relu(h)",
        "test_models_numerics.py::test_residual_blocks_add_before_the_last_relu",
    ),
    Mutation(
        "the shortcut has a ReLU of its own",
        "models/layers.py",
        'x = BatchNorm(name="bn_3")(x, train=train)',
        'x = nn.relu(BatchNorm(name="bn_3")(x, train=train))',
        "test_models_numerics.py::test_shortcuts_that_change_the_shape_have_no_relu",
    ),
    Mutation(
        "the mean of the last map for its maximum",
        "models/short_chunk_cnn.py",
        "x = x.max(axis=(1, 2))",
        "x = x.mean(axis=(1, 2))",
        "test_models_numerics.py::test_the_last_map_is_pooled_by_its_maximum",
    ),
    Mutation(
        "MusiCNN without its second residual",
        "models/musicnn.py",
        "stages[-1] if index > 1 else",
        "stages[-1] if index == 2 else",
        "test_models_numerics.py::test_musicnn_adds_its_second_and_third_layer_to_what_comes_in",
    ),
    Mutation(
        "AST's embedding without the distillation token",
        "models/spectrogram_transformer.py",
        "pooled = tokens[:, : self.num_special]",
        "pooled = tokens[:, :1]",
        "test_models_numerics.py::test_the_distillation_token_is_half_of_the_embedding",
    ),
    Mutation(
        "two systems are swapped on different tracks: the test of one label is not paired",
        "evaluation/swapping.py",
        "taken = np.concatenate([1 - swaps, swaps])",
        "taken = np.concatenate([1 - swaps, swaps[::-1]])",
        "test_evaluation_comparison.py::test_per_label_swaps_by_hand",
    ),
    Mutation(
        "every label has swaps of its own: the test of the mean is not paired",
        "evaluation/swapping.py",
        "run.accumulate(taken)",
        "run.accumulate(np.roll(taken, 37 * column, axis=1))",
        "test_evaluation_comparison.py::test_a_track_is_swapped_with_all_of_its_labels",
    ),
    Mutation(
        "resamples without negatives count in the intervals of PR-AUC",
        "evaluation/weighted.py",
        "return roc, np.where(num_negatives > 0, precision_mean, np.nan)",
        "return roc, precision_mean",
        "test_evaluation_bootstrap.py::test_resampled_metrics_equal_those_of_the_copied_tracks",
    ),
    Mutation(
        "a label with hardly a negative has an interval",
        "evaluation/support.py",
        "elif negatives < MIN_EXAMPLES:",
        "elif negatives < 0:",
        "test_evaluation_tagging.py::test_a_few_positives_have_no_interval",
    ),
    Mutation(
        "Platt's targets are not smoothed",
        "evaluation/calibration.py",
        "high, low = (num_positive + 1) / (num_positive + 2), 1 / (num_negative + 2)",
        "high, low = 1.0, 0.0",
        "test_evaluation_calibration.py::test_eight_tracks_are_fitted_to_smoothed_targets",
    ),
    Mutation(
        "pages of another port of this machine may use the page",
        "pages/guard.py",
        "elif place is not None and place != host:",
        'elif place is not None and place.split(":")[0] != host.split(":")[0]:',
        "test_pages_serve.py::test_refusals",
    ),
    Mutation(
        "of equal scores at the edge any rows are found",
        "store/search.py",
        "best = np.flatnonzero(values >= edge)",
        "best = np.argpartition(values, len(values) - k)[len(values) - k :]",
        "test_store.py::test_equal_scores_keep_the_order_of_the_rows",
    ),
    Mutation(
        "equal scores come in any order",
        "store/search.py",
        'order = np.argsort(-values, kind="stable")[:k]',
        "order = np.argsort(values)[::-1][:k]",
        "test_store.py::test_equal_scores_keep_the_order_of_the_rows",
    ),
    Mutation(
        "equally probable tags come in reverse",
        "cli/tag.py",
        "key=lambda row: -row[1])[:top]",
        "key=lambda row: row[1])[::-1][:top]",
        "test_store.py::test_equally_probable_tags_keep_the_order_of_the_labels",
    ),
    Mutation(
        "the last chunk is dropped where a track ends with it",
        "data/input/pipeline.py",
        "starts = np.arange(0, last + 1, hop, dtype=np.int64)",
        "starts = np.arange(0, last, hop, dtype=np.int64)",
        "test_models_numerics.py::test_the_last_whole_chunk_is_kept_where_the_tail_is_dropped",
    ),
    Mutation(
        "stored spectrograms end at -80 dB",
        "data/audio/log_mel.py",
        "FLOOR_POWER = 1e-10",
        "FLOOR_POWER = 1e-8",
        "test_models_numerics.py::test_stored_spectrograms_end_at_minus_100_decibels",
    ),
    Mutation(
        "a query of an episode may be of a performer in the support set",
        "probing/episodes.py",
        "& ~np.isin(groups, groups[support])",
        "& ~np.isin(np.arange(len(part)), support)",
        "test_few_shot.py::test_episodes_have_their_shots_and_share_no_group",
    ),
    Mutation(
        "the threshold of an episode is fitted on support examples that were learned from",
        "probing/episodes.py",
        "scorer(inputs[fold.train], part[fold.train], inputs[fold.test])",
        "scorer(inputs, part, inputs[fold.test])",
        "test_few_shot.py::test_the_threshold_is_the_best_on_left_out_support",
    ),
    Mutation(
        "scores of taught labels are of examples that were learned from",
        "probing/few_examples.py",
        "trial.score(trial.learn(fold.train), fold.test)",
        "trial.score(trial.learn(everything), fold.test)",
        "test_teach.py::test_scores_are_of_layers_that_have_not_seen_the_example",
    ),
    Mutation(
        "resamples of episodes draw tracks one by one",
        "probing/episode_metrics.py",
        "draw_resample_counts(len(groups), num_resamples, seed, groups)",
        "draw_resample_counts(len(groups), num_resamples, seed, None)",
        "test_few_shot.py::test_intervals_cover_episodes_and_groups",
    ),
    Mutation(
        "the level of compression is followed without the look-ahead of SoX",
        "data/deformed/companding.py",
        "np.concatenate([level[delay:], behind])",
        "np.concatenate([level, behind])[: len(level)]",
        "test_data_deformations.py::test_compression_is_that_of_sox",
    ),
    Mutation(
        "noise is scaled to the absolute peak, not the positive one",
        "data/deformed/deformations.py",
        "float(audio.max()) / np.abs(noise).max()",
        "float(np.abs(audio).max()) / np.abs(noise).max()",
        "test_data_deformations.py::test_noise_is_the_published_construction",
    ),
    Mutation(
        "a deformed data set has the identity of the clean one",
        "data/deformed/tracks.py",
        '{**found, "records": _hash(facts)}',
        "dict(found)",
        "test_data_deformations.py::test_a_data_set_is_deformed_as_wholes_and_knows_it",
    ),
    Mutation(
        "differences are clean minus deformed",
        "tasks/robustness/comparison.py",
        'ours["labels"], ours["scores"], theirs["scores"],',
        'ours["labels"], theirs["scores"], ours["scores"],',
        "test_robustness.py::test_differences_are_those_of_plain_loops_and_paired",
    ),
)


def run_tests(copy: pathlib.Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Runs tests of a copy of the repository in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-q", "-rfE",
         *(f"tests/{test}" for test in tests)],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of what the tests need, which may be damaged."""
    folder = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    return folder


def test_every_line_stands_once_and_every_test_is_there():
    for mutation in MUTATIONS:
        text = (REPOSITORY / "musrep_jax" / mutation.file).read_text(encoding="utf-8")
        assert text.count(mutation.line) == 1, f"{mutation.mistake}: {mutation.file} has changed"
        ast.parse(text.replace(mutation.line, mutation.replacement))
        file, name = mutation.test.split("::")
        test = (REPOSITORY / "tests" / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {name}\(", test, re.MULTILINE), f"{mutation.test} is not there"


@pytest.mark.mutation
def test_without_a_mistake_they_pass(copy):
    done = run_tests(copy, *dict.fromkeys(mutation.test for mutation in MUTATIONS))
    assert done.returncode == 0, done.stdout


@pytest.mark.mutation
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.mistake)
def test_the_mistake_is_found(copy, mutation):
    path = copy / "musrep_jax" / mutation.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(mutation.line, mutation.replacement), encoding="utf-8")
    try:
        done = run_tests(copy, mutation.test)
    finally:
        path.write_text(text, encoding="utf-8")
    # The test itself must fail: not its import, not a fixture.
    assert done.returncode == 1, f"{mutation.mistake}: no test failed\n{done.stdout}"
    assert f"FAILED tests/{mutation.test}" in done.stdout, done.stdout
