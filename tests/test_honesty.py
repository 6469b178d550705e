"""A run says what it did: every number is computed again from the export, by plain numpy.

The data make each mistake visible. What the training labels teach of the first class is the
opposite on validation, so that the best weights are not the last; validation and test differ in
how frequent labels are; chunks of a track differ.
"""

import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from musrep_jax.configs import tagging
from scipy import stats

from musrep_jax.data.input.tracks import Tracks
from musrep_jax.data.specs import DatasetSpec
from musrep_jax.experiments import experiment
from musrep_jax.models import MODELS, Tagger
from musrep_jax.models.layers import BATCH_NORM_EPSILON, BatchNorm, Dense
from musrep_jax.tasks.tagging.matrix import make_job
from musrep_jax.tasks.tagging.task import TaggingTask
from musrep_jax.training.checkpoints import load_export
from musrep_jax.training.logs import read_rows

RATE, CHUNK, LENGTH = 1000, 8, 26
SIZES = {"train": 32, "validation": 24, "test": 40}
VALIDATION_STARTS, TEST_STARTS = (0,), (0, 6, 12)  # of (26 - 8) // 3 = 6 samples
NAMES = ("turned", "steady")
NUM_STEPS = 30


class Linear(Tagger):
    """A layer, BatchNorm and the output layer."""

    sample_rate: int = RATE
    num_samples: int = CHUNK
    dropout_rate: float = 0.0

    def setup(self):
        super().setup()
        self.layer, self.norm = Dense(4), BatchNorm()

    def features(self, inputs, *, train):
        return inputs

    def embed(self, features, *, train):
        return self.norm(self.layer(features), train=train), {}


def predict(variables, audio):
    """Returns the probabilities of chunks (chunks, CHUNK), by numpy."""
    params, stats = variables["params"], variables["batch_stats"]["norm"]
    hidden = audio @ params["layer"]["kernel"] + params["layer"]["bias"]
    hidden = (hidden - stats["mean"]) / np.sqrt(stats["var"] + BATCH_NORM_EPSILON)
    hidden = hidden * params["norm"]["scale"] + params["norm"]["bias"]
    return 1 / (1 + np.exp(-(hidden @ params["head"]["kernel"] + params["head"]["bias"])))


class Store:
    """Tracks of int16 samples in memory: two patterns under noise, one per class."""

    def __init__(self, split):
        rng = np.random.default_rng(list(split.encode()))
        size, self.split = SIZES[split], split
        self.track_ids = [f"{split} {row}" for row in range(size)]
        self.groups = self.track_ids
        self.num_samples = np.full(size, LENGTH)
        rates = {"train": (0.5, 0.5), "validation": (0.5, 0.25), "test": (0.3, 0.7)}[split]
        hidden = rng.random((size, 2)) < rates
        patterns = np.random.default_rng(5).normal(size=(2, LENGTH))
        audio = ((2 * hidden - 1) * (0.6, 2.0)) @ patterns + 0.7 * rng.normal(size=(size, LENGTH))
        self.audio = np.int16(np.clip(audio, -7, 7) * 4096)
        self.label_matrix = hidden.astype(np.float32)
        if split == "validation":
            self.label_matrix[:, 0] = 1 - self.label_matrix[:, 0]
        spread = rng.random(size) < 0.25
        self.label_matrix[spread, 1] = 1 - self.label_matrix[spread, 1]
        self.spec = SPEC

    def crop(self, row, start, length, whole=False, out=None):
        crop = np.empty(length, np.float32) if out is None else out
        excerpt = self.audio[row, start : start + length]
        crop[:] = excerpt if crop.dtype == np.int16 else excerpt / np.float32(32768)
        return crop

    def chunks(self, starts):
        """Returns float64 (starts, tracks, CHUNK)."""
        return np.stack([self.audio[:, s : s + CHUNK] / 32768 for s in starts])


SPEC = DatasetSpec(
    name="made/up",
    label_names=NAMES,
    sample_rate=RATE,
    stored_form="pcm16",
    split_sizes=SIZES,
    licence="CC0-1.0",
    citation="made up in a test",
    description="Two patterns under noise.",
    fingerprint="0123456789abcdef",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one tagger from scratch: its result, export, rows and the data it was made of."""
    stores = {split: Store(split) for split in SIZES}
    dataset = SimpleNamespace(
        spec=SPEC,
        facts=None,
        identity={"fingerprint": SPEC.fingerprint, "splits": {}},
        tracks=lambda split: Tracks(stores[split]),
    )
    path = tmp_path_factory.mktemp("honest") / "w"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "linear", f"{__name__}:Linear")
        patch.setattr(experiment, "open_dataset", lambda name, **options: dataset)
        config = tagging.get_config()
        config.optimizer.update(name="adam", learning_rate=0.1)
        config.train.update(num_steps=NUM_STEPS, evaluate_every_steps=1, select_by="loss",
                            num_devices=1, batch_size=16)  # fmt: skip
        config.evaluation.update(num_chunks=len(TEST_STARTS), num_bootstrap=20,
                                 validation_num_chunks=len(VALIDATION_STARTS))  # fmt: skip
        config.transfer.batch_norm = "frozen"  # is said of transfers
        job, show = make_job("made/up", "linear"), lambda *shown: None
        tasks = {"tagging": TaggingTask()}
        assert experiment.run_jobs(config, [job], str(path), tasks=tasks, show=show) == 0
    (result,) = json.loads((path / "results.json").read_text())["cells"]
    variables, card = load_export(path / result["export"])
    variables = jax.device_get(variables)
    starts = {"train": (0,), "validation": VALIDATION_STARTS, "test": TEST_STARTS}
    scores = {
        split: np.mean([predict(variables, x) for x in store.chunks(starts[split])], axis=0)
        for split, store in stores.items()
    }
    rows = [
        row for row in read_rows(path / "cells" / job.key / "metrics.jsonl")
        if row["kind"] == "validation"
    ]  # fmt: skip
    with np.load(path / "cells" / job.key / "scores.npz") as file:
        stored = dict(file)
    return SimpleNamespace(
        result=result, variables=variables, card=card, rows=rows, stores=stores, scores=scores,
        stored=stored, labels={split: store.label_matrix for split, store in stores.items()},
    )  # fmt: skip


def cross_entropy(labels, scores):
    return -np.mean(labels * np.log(scores) + (1 - labels) * np.log(1 - scores))


def area(labels, scores):
    """Returns ROC-AUC: how often a positive lies above a negative."""
    above, below = scores[labels > 0][:, None], scores[labels == 0][None]
    return np.mean((above > below) + 0.5 * (above == below))


def f1(labels, is_predicted):
    return 2 * np.sum(labels * is_predicted) / (np.sum(labels) + np.sum(is_predicted))


def best_f1(labels, scores):
    """Returns the best F1 of thresholds that predict no more tracks than have the label, and the
    lowest predicted score of it."""
    lowest = np.sort(scores)[-int(labels.sum()) :]
    return max((f1(labels, scores >= cut), cut) for cut in lowest)


def test_the_exported_weights_are_the_best_ones_and_not_the_last(run):
    losses = {row["step"]: row["loss"] for row in run.rows}
    assert len(losses) == NUM_STEPS
    best = min(losses, key=losses.get)
    assert best < NUM_STEPS and losses[NUM_STEPS] > losses[best] + 0.01
    loss = cross_entropy(run.labels["validation"], run.scores["validation"])
    assert loss == pytest.approx(losses[best], abs=1e-5)
    assert run.result["best_step"] == run.card["training"]["best_step"] == best
    assert run.result["validation"]["loss"] == losses[best]


def test_test_figures_are_of_the_test_split_in_the_chunks_of_the_test(run):
    np.testing.assert_allclose(run.stored["scores"], run.scores["test"], atol=1e-5)
    np.testing.assert_array_equal(run.stored["labels"], run.labels["test"])
    assert run.stored["track_ids"].tolist() == run.stores["test"].track_ids
    areas = [area(run.labels["test"][:, k], run.scores["test"][:, k]) for k in (0, 1)]
    for name, value in zip(NAMES, areas, strict=True):
        assert run.result["per_label"][name]["roc_auc"] == pytest.approx(value, abs=1e-6)
    assert run.result["roc_auc"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert run.result["num_tracks"] == run.card["metrics"]["test"]["num_tracks"] == SIZES["test"]
    assert run.card["metrics"]["test"]["roc_auc"] == run.result["roc_auc"]
    (roc, _) = run.result["metrics"]
    assert (roc["name"], roc["value"]) == ("roc_auc", run.result["roc_auc"])
    # One chunk per track, as in validation, would give other scores.
    single = predict(run.variables, run.stores["test"].chunks((0,))[0])
    assert np.abs(single - run.scores["test"]).max() > 0.05


def test_validation_figures_are_of_the_validation_split(run):
    best = run.result["validation"]
    areas = [area(run.labels["validation"][:, k], run.scores["validation"][:, k]) for k in (0, 1)]
    assert best["roc_auc"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert abs(best["roc_auc"] - run.result["roc_auc"]) > 0.05


def test_thresholds_are_fitted_on_validation(run):
    gaps = []
    for k, name in enumerate(NAMES):
        labels, scores = run.labels["validation"][:, k], run.scores["validation"][:, k]
        threshold = dict(zip(NAMES, as_list(run.card["thresholds"]), strict=True))[name]
        highest, lowest = best_f1(labels, scores)
        ranks = stats.mannwhitneyu(scores[labels > 0], scores[labels == 0], alternative="greater")
        if ranks.pvalue < 0.05 or lowest > 0.5:
            assert f1(labels, scores >= threshold) == pytest.approx(highest)
        else:
            assert threshold == 0.5  # not shown to be ranked: the default
        _, of_test = best_f1(run.labels["test"][:, k], run.scores["test"][:, k])
        gaps.append(abs(np.mean(scores >= threshold) - np.mean(scores >= of_test)))
        fitted = f1(run.labels["test"][:, k], run.scores["test"][:, k] >= threshold)
        assert run.result["per_label"][name]["f1_fitted"] == pytest.approx(fitted)
    assert max(gaps) > 0.01  # so that thresholds of the test split would be found out


def as_list(thresholds):
    return list(thresholds.values()) if isinstance(thresholds, dict) else thresholds


def test_calibration_is_fitted_on_validation(run):
    """At the best slope and offset the derivatives of Platt's objective vanish."""

    def derivatives(split, k, slope, offset):
        labels, scores = run.labels[split][:, k], run.scores[split][:, k]
        logits = np.log(scores / (1 - scores))
        positive, negative = labels.sum(), (1 - labels).sum()
        targets = np.where(labels > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
        misses = 1 / (1 + np.exp(-(slope * logits + offset))) - targets
        return np.sum(misses * logits) + (slope - 1), np.sum(misses)

    assert set(run.card["calibration"]) == set(NAMES)
    for k, name in enumerate(NAMES):
        slope, offset = run.card["calibration"][name]
        assert slope > 0 and slope != 1
        np.testing.assert_allclose(derivatives("validation", k, slope, offset), 0, atol=1e-3)
        assert np.abs(derivatives("test", k, slope, offset)).max() > 1


def test_batch_norm_learns_its_statistics_from_scratch_whatever_is_said_of_transfers(run):
    stats = run.variables["batch_stats"]["norm"]
    assert np.abs(stats["mean"]).min() > 1e-4
    assert np.abs(stats["var"] - 1).min() > 1e-3
