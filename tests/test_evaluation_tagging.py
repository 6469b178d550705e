"""Track scores, reports, chance levels."""

import json
import math

import numpy as np
import pytest
from scipy import special
from sklearn import metrics as sk

from musrep_jax.evaluation import aggregation, chance, decisions, label_sets, metrics, tagging
from musrep_jax.evaluation.calibration import fit_calibration
from musrep_jax.evaluation.metrics import EvaluationError


def make_problem(seed=0, num_tracks=60, num_classes=6):
    rng = np.random.default_rng(seed)
    labels = rng.random((num_tracks, num_classes)) < 0.3
    labels[0], labels[1] = True, False
    return labels, aggregation.sigmoid(rng.normal(size=labels.shape) + labels)


def names_of(num_classes):
    return [f"t{i}" for i in range(num_classes)]


# --- chunks to tracks ---


def test_track_scores_by_hand():
    logits = [[0.0], [math.log(3)], [-math.log(3)], [2.0]]
    mask, index = [1, 1, 1, 0], [1, 0, 1, 0]
    mean = aggregation.aggregate_tracks(logits, index, mask, 2)
    np.testing.assert_allclose(mean, [[0.75], [(0.5 + 0.25) / 2]])
    mean = aggregation.aggregate_tracks(logits, index, mask, 2, how="logit")
    np.testing.assert_allclose(mean, [[0.75], [1 / (1 + math.sqrt(3))]])
    assert mean.dtype == np.float64


def test_track_scores_equal_a_loop_over_tracks():
    rng = np.random.default_rng(0)
    index = np.concatenate([np.arange(9), rng.integers(0, 9, 40)])
    rng.shuffle(index)
    logits = rng.normal(size=(49, 4)).astype(np.float32)
    sigmoid = 1 / (1 + np.exp(-logits.astype(np.float64)))
    ours = aggregation.aggregate_tracks(logits, index, None, 9)
    np.testing.assert_allclose(ours, [sigmoid[index == t].mean(axis=0) for t in range(9)])


def test_padding_may_hold_anything():
    logits = [[0.0], [np.nan], [np.inf]]
    ours = aggregation.aggregate_tracks(logits, [0, 99, -1], np.float32([1, 0, 0]), 1)
    np.testing.assert_array_equal(ours, [[0.5]])


@pytest.mark.parametrize(
    ("logits", "index", "num_tracks", "words"),
    [
        ([[0.0, 1.0], [0.0, np.nan]], [0, 4], 5, "logit nan for class 1 of track 4"),
        ([[np.inf]], [0], 1, "logit inf for class 0 of track 0"),
        ([[0.0]], [0], 3, "2 of 3 tracks have no chunk, the first is track 1"),
        ([[0.0]], [3], 3, "track 3, but there are only 3"),
        ([[0.0]], [-1], 3, "track -1"),
        ([[0.0]], [0, 1], 2, "shape"),
        ([0.0], [0], 1, "shape"),
    ],
)
def test_bad_chunks_are_named(logits, index, num_tracks, words):
    with pytest.raises(EvaluationError, match=words):
        aggregation.aggregate_tracks(logits, index, None, num_tracks)


def test_unknown_aggregation_is_refused():
    with pytest.raises(EvaluationError, match="'median' is not known; choose one of probability"):
        aggregation.aggregate_tracks([[0.0]], [0], [1], 1, how="median")
    with pytest.raises(EvaluationError, match="'relu' is not known; choose sigmoid or softmax"):
        aggregation.aggregate_tracks([[0.0]], [0], [1], 1, output="relu")


def test_exclusive_classes_sum_to_one():
    rng = np.random.default_rng(0)
    logits = 300 * rng.normal(size=(6, 4))
    logits[0, 0] = 1000.0
    each = special.softmax(logits, axis=1)
    index = [0, 0, 0, 1, 1, 1]
    mean = aggregation.aggregate_tracks(logits, index, None, 2, output="softmax")
    np.testing.assert_allclose(mean, [each[:3].mean(axis=0), each[3:].mean(axis=0)])
    joined = aggregation.aggregate_tracks(logits, index, None, 2, "logit", "softmax")
    means = [logits[:3].mean(axis=0), logits[3:].mean(axis=0)]
    np.testing.assert_allclose(joined, special.softmax(means, axis=1))
    np.testing.assert_allclose(joined.sum(axis=1), 1.0)


# --- reports ---


def test_a_report_equals_scikit_learn():
    labels, scores = make_problem()
    report = tagging.make_report(labels, scores, names_of(6), num_bootstrap=100)
    assert report.roc_auc == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)
    assert report.pr_auc == pytest.approx(sk.average_precision_score(labels, scores), abs=1e-12)
    assert report.micro["roc_auc"] == pytest.approx(
        sk.roc_auc_score(labels, scores, average="micro"), abs=1e-12
    )
    assert report.f1["samples"] == pytest.approx(
        sk.f1_score(labels, scores > 0.5, average="samples", zero_division=0), abs=1e-12
    )
    assert (report.num_tracks, report.num_labels, report.skipped_labels) == (60, 6, ())
    for i, (name, entry) in enumerate(report.per_label.items()):
        assert name == f"t{i}"
        assert entry["positives"] == labels[:, i].sum()
        assert entry["roc_auc"] == pytest.approx(sk.roc_auc_score(labels[:, i], scores[:, i]))
        assert entry["roc_auc_ci"][0] <= entry["roc_auc"] <= entry["roc_auc_ci"][1]
    assert report.roc_auc_ci[0] < report.roc_auc < report.roc_auc_ci[1]
    again = tagging.make_report(labels, scores, names_of(6), num_bootstrap=100)
    assert again.to_dict() == report.to_dict()
    other = tagging.make_report(labels, scores, names_of(6), num_bootstrap=100, seed=1)
    assert other.roc_auc_ci != report.roc_auc_ci and other.roc_auc == report.roc_auc


def test_labels_that_cannot_be_ranked_are_listed_and_do_not_count():
    labels, scores = make_problem()
    alone = tagging.make_report(labels, scores, names_of(6), num_bootstrap=50)
    none, every = np.zeros((60, 1)), np.ones((60, 1))
    wider = np.concatenate([none, labels, every], axis=1)
    wider_scores = np.concatenate([scores[:, :1], scores, scores[:, :1]], axis=1)
    report = tagging.make_report(
        wider, wider_scores, ["none", *names_of(6), "every"], num_bootstrap=50
    )
    assert report.skipped_labels == ("none", "every")
    assert report.skip_reasons == {"none": "no positives", "every": "no negatives"}
    for field in ("roc_auc", "pr_auc", "roc_auc_ci", "pr_auc_ci", "num_labels"):
        assert getattr(report, field) == getattr(alone, field), field
    plain = report.to_dict()
    assert plain["skipped_labels"] == ["none", "every"]
    for name, positives in (("none", 0), ("every", 60)):
        entry = plain["per_label"][name]
        assert (entry["roc_auc"], entry["pr_auc"], entry["positives"]) == (None, None, positives)
        assert entry["pr_auc_ci"] == [None, None]


def test_a_report_is_strict_json():
    labels, scores = make_problem()
    labels[:, 2] = False
    for num_bootstrap in (0, 20):
        report = tagging.make_report(labels, scores, names_of(6), num_bootstrap=num_bootstrap)
        text = json.dumps(report.to_dict(), allow_nan=False)
        plain = json.loads(text)
        assert plain == report.to_dict()
    assert {"roc_auc", "pr_auc", "roc_auc_ci", "pr_auc_ci", "num_tracks", "num_labels"} < set(plain)
    assert {"skipped_labels", "per_label"} < set(plain)
    without = tagging.make_report(labels, scores, names_of(6), num_bootstrap=0).to_dict()
    assert without["roc_auc_ci"] == [None, None] and without["roc_auc"] == plain["roc_auc"]


def test_nothing_to_evaluate_is_one_clear_sentence():
    labels = np.array([[0, 1, 0], [0, 1, 0]])
    words = (
        r"none of the 3 labels .* 2 tracks: 2 with no positives \(a, c\) and 1 with no negatives"
    )
    with pytest.raises(EvaluationError, match=words):
        tagging.make_report(labels, np.zeros((2, 3)), ["a", "b", "c"])
    with pytest.raises(EvaluationError, match="can be evaluated on these 1 tracks"):
        tagging.make_report([[1]], [[0.5]], ["a"])


@pytest.mark.parametrize(
    ("names", "groups", "words"),
    [
        (["a"], None, "1 label names for 2 classes"),
        (["a", "a"], None, "names a occur more than once"),
        (["a", "b"], {"g": ["b", "x"]}, "label group 'g' names x"),
    ],
)
def test_names_must_fit(names, groups, words):
    with pytest.raises(EvaluationError, match=words):
        tagging.make_report(
            [[0, 1], [1, 0]], np.eye(2), names, num_bootstrap=5, label_groups=groups
        )


def test_label_groups_come_from_prefixes_or_from_the_caller():
    labels, scores = make_problem()
    names = ["makam--rast", "usul--aksak", "makam--saba", "solo", "makam--none", "usul--sofyan"]
    labels[:, 4] = False
    report = tagging.make_report(labels, scores, names, num_bootstrap=30)
    assert set(report.label_groups) == {"makam", "usul"}
    makam = report.label_groups["makam"]
    assert makam["num_labels"] == 2
    assert makam["roc_auc"] == pytest.approx(sk.roc_auc_score(labels[:, [0, 2]], scores[:, [0, 2]]))
    assert makam["roc_auc_ci"][0] < makam["roc_auc"] < makam["roc_auc_ci"][1]
    given = tagging.make_report(
        labels, scores, names, num_bootstrap=30, label_groups={"x": ["solo"], "y": ["makam--none"]}
    ).to_dict()["label_groups"]
    assert given["x"]["roc_auc"] == pytest.approx(sk.roc_auc_score(labels[:, 3], scores[:, 3]))
    assert given["y"]["roc_auc"] is None and given["y"]["num_labels"] == 0


def test_single_label_tasks_get_accuracies():
    rng = np.random.default_rng(0)
    stroke, tonic = rng.integers(0, 3, 80), rng.integers(0, 2, 80)
    labels = np.concatenate([np.eye(3)[stroke], np.eye(2)[tonic], np.ones((80, 1))], axis=1)
    scores = rng.normal(size=labels.shape) + labels
    names = ["stroke_cha", "stroke_thi", "stroke_ta", "tonic_b", "tonic_c", "mridangam"]
    report = tagging.make_report(labels, scores, names, num_bootstrap=200)
    assert set(report.single_label) == {"stroke", "tonic"}
    entry = report.single_label["stroke"]
    guess = scores[:, :3].argmax(axis=1)
    assert entry["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(stroke, guess))
    assert entry["accuracy"] == pytest.approx(sk.accuracy_score(stroke, guess))
    assert entry["chance_balanced_accuracy"] == pytest.approx(1 / 3)
    assert entry["labels"] == ["stroke_cha", "stroke_thi", "stroke_ta"]
    low, high = entry["balanced_accuracy_ci"]
    assert low < entry["balanced_accuracy"] < high
    # The binomial interval of 80 tracks is a yardstick for the width of the accuracy's.
    half = 1.96 * math.sqrt(entry["accuracy"] * (1 - entry["accuracy"]) / 80)
    low, high = entry["accuracy_ci"]
    assert high - low == pytest.approx(2 * half, rel=0.25)
    # With one set only, labels that every track has do not hide it.
    report = tagging.make_report(
        labels[:, [0, 1, 2, 5]], scores[:, [0, 1, 2, 5]], [*names[:3], names[5]], num_bootstrap=5
    )
    assert list(report.single_label) == [label_sets.ALL_LABELS]
    labels, scores = make_problem()
    assert tagging.make_report(labels, scores, names_of(6), num_bootstrap=5).single_label == {}


def test_identical_labels_are_reported_and_can_count_once():
    labels, scores = make_problem()
    labels[:, 5] = labels[:, 0]
    report = tagging.make_report(labels, scores, names_of(6), num_bootstrap=5)
    assert report.duplicate_labels == (("t0", "t5"),)
    per_label = metrics.roc_auc(labels, scores)
    expected = np.mean([np.mean(per_label[[0, 5]]), *per_label[1:5]])
    assert report.merged["num_labels"] == 5
    assert report.merged["roc_auc"] == pytest.approx(expected)
    labels[:, 4:] = False  # labels without positives are no duplicates
    report = tagging.make_report(labels, scores, names_of(6), num_bootstrap=5)
    assert report.duplicate_labels == () and report.merged is None


def test_one_threshold_and_fitted_ones_enter_the_report():
    labels, scores = make_problem()
    thresholds = decisions.fit_thresholds(labels, scores)
    report = tagging.make_report(
        labels, scores, names_of(6), num_bootstrap=5, threshold=0.1, fitted_thresholds=thresholds
    )
    assert report.f1["threshold"] == 0.1
    for field, cuts in (("f1", 0.1), ("f1_fitted", thresholds)):
        guesses = scores > cuts
        for average in ("macro", "micro", "weighted", "samples"):
            expected = sk.f1_score(labels, guesses, average=average, zero_division=0)
            assert getattr(report, field)[average] == pytest.approx(expected, abs=1e-12)
        each = sk.f1_score(labels, guesses, average=None, zero_division=0)
        assert [entry[field] for entry in report.per_label.values()] == pytest.approx(list(each))
        for share, score in (("precision", sk.precision_score), ("recall", sk.recall_score)):
            each = score(labels, guesses, average=None, zero_division=0)
            found = [e[field.replace("f1", share)] for e in report.per_label.values()]
            assert found == pytest.approx(list(each))
    assert report.f1_fitted["macro"] > report.f1["macro"]
    assert report.f1_fitted["thresholds"] == dict(zip(names_of(6), thresholds, strict=True))
    without = tagging.make_report(labels, scores, names_of(6), num_bootstrap=5)
    assert without.f1_fitted is None and without.f1["threshold"] == 0.5
    for name in ("f1", "precision", "recall"):
        assert without.to_dict()["per_label"]["t0"][f"{name}_fitted"] is None


def test_track_groups_are_recorded():
    labels, scores = make_problem()
    groups = np.arange(60) // 6
    report = tagging.make_report(labels, scores, names_of(6), num_bootstrap=40, track_groups=groups)
    assert report.num_track_groups == 10
    plain = tagging.make_report(labels, scores, names_of(6), num_bootstrap=40)
    assert plain.num_track_groups is None and plain.roc_auc_ci != report.roc_auc_ci
    assert (report.resampled, plain.resampled) == ("groups", "tracks")


def test_whole_groups_widen_every_interval():
    """Tracks of a group share their luck, so that 80 tracks say little more than 8 groups."""
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(16), 10)
    labels = random.random((160, 3)) < 0.5
    luck = np.repeat(random.normal(size=16), 10)[:, None]
    scores = np.where(labels, 1, -1) * (luck + 0.3) + 0.3 * random.normal(size=labels.shape)
    by_groups, by_tracks = (
        tagging.make_report(labels, scores, names_of(3), num_bootstrap=200, track_groups=given)
        for given in (groups, None)
    )

    def width(interval):
        return interval[1] - interval[0]

    assert width(by_groups.roc_auc_ci) > 1.5 * width(by_tracks.roc_auc_ci)
    assert width(by_groups.pr_auc_ci) > 1.5 * width(by_tracks.pr_auc_ci)
    for name in names_of(3):
        one, other = by_groups.per_label[name], by_tracks.per_label[name]
        assert width(one["roc_auc_ci"]) > 1.5 * width(other["roc_auc_ci"])


def test_a_few_positives_have_no_interval():
    labels = np.zeros((40, 3), bool)
    labels[:2, 0] = labels[:6, 1] = labels[:35, 2] = True
    report = tagging.make_report(labels, labels + 0.0, ["two", "six", "most"]).to_dict()
    two, six, most = (report["per_label"][name] for name in ("two", "six", "most"))
    assert two["roc_auc"] == 1.0 and two["roc_auc_ci"] == [None, None]
    assert two["pr_auc_ci"] == [None, None] and two["ci_reason"] == "too_few_positives"
    assert six["ci_reason"] is None and six["roc_auc_ci"][0] < 0.7 < six["roc_auc_ci"][1]
    assert most["ci_reason"] == "too_few_negatives" and most["pr_auc_ci"] == [None, None]
    assert report["ci_reason"] is None and report["roc_auc_ci"][0] < 1
    alone = tagging.make_report(labels[:, :1], labels[:, :1] + 0.0, ["two"])
    assert alone.ci_reason == "too_few_positives" and np.isnan(alone.roc_auc_ci).all()
    one_group = tagging.make_report(labels, labels + 0.0, names_of(3), track_groups=["a"] * 40)
    assert one_group.ci_reason == "too_few_groups" and np.isnan(one_group.pr_auc_ci).all()
    exclusive = np.eye(2, dtype=bool)[np.arange(40) % 2]
    accuracy = tagging.make_report(
        exclusive, exclusive + 0.0, ["a", "b"], track_groups=np.arange(40) // 10
    ).single_label["all labels"]
    assert accuracy["accuracy"] == 1 and accuracy["accuracy_ci_reason"] == "too_few_groups"


# --- chance ---


def test_a_random_scorer_stays_within_its_range():
    labels, _ = make_problem(num_tracks=40)
    random = chance.evaluate_random_scorer(labels, num_draws=1000, seed=0)
    assert random["roc_auc"] == 0.5
    assert random["prevalence"] == pytest.approx(labels.mean())
    rng = np.random.default_rng(1)
    inside = {"roc_auc": 0, "pr_auc": 0}
    values = []
    for _ in range(300):
        scores = rng.random(labels.shape)
        roc = metrics.macro_roc_auc(labels, scores)
        precision = metrics.macro_average_precision(labels, scores)
        values.append(precision)
        inside["roc_auc"] += random["roc_auc_ci"][0] <= roc <= random["roc_auc_ci"][1]
        inside["pr_auc"] += random["pr_auc_ci"][0] <= precision <= random["pr_auc_ci"][1]
    assert all(0.90 < hits / 300 < 0.99 for hits in inside.values())
    assert random["pr_auc"] == pytest.approx(np.mean(values), abs=0.01)
    assert random["pr_auc"] > random["prevalence"] + 0.01


def test_areas_of_ranks_equal_the_metrics():
    labels = np.array([1, 0, 0, 1, 1, 0])[:, None]
    roc, precision = chance.compute_rank_areas(np.flatnonzero(labels)[None], 6)
    falling = -np.arange(6.0)[:, None]
    np.testing.assert_allclose(roc, metrics.roc_auc(labels, falling))
    np.testing.assert_allclose(precision, metrics.average_precision(labels, falling))


def test_labels_with_a_common_beginning_are_groups():
    names = ["inst_ney", "makam_rast", "inst_oud", "makam_saba", "slow_song", "slow_dance", "loud"]
    labels = np.array(
        [
            [1, 1, 0, 0, 1, 1, 0],
            [0, 0, 1, 1, 0, 1, 1],
            [1, 0, 0, 1, 0, 0, 0],
            [0, 1, 0, 0, 1, 0, 1],
            [1, 0, 0, 1, 0, 0, 1],
        ]
    )
    groups = {"inst": ["inst_ney", "inst_oud"], "makam": ["makam_rast", "makam_saba"]}
    assert label_sets.find_label_groups(labels > 0, names) == groups
    # Where every label has the mark, it is the custom of the table, whatever holds together.
    assert label_sets.find_label_groups(labels[:, :6] > 0, names[:6]) == {
        **groups,
        "slow": ["slow_song", "slow_dance"],
    }
    report = tagging.make_report(labels, labels * 0.5 + 0.25, names, num_bootstrap=10)
    assert set(report.label_groups) == {"inst", "makam"}
    assert report.label_groups["makam"]["roc_auc"] == 1.0
    assert set(report.single_label) == {"makam"}  # one track is played by nobody


def test_the_best_of_a_group_is_taken_from_calibrated_scores():
    truth = np.eye(3)[np.arange(60) % 3]
    # Every label ranks its tracks without a fault, and each speaks at a level of its own.
    levels, noise = np.array([2.0, -3.0, -6.0]), np.random.default_rng(0)

    def scores() -> np.ndarray:
        logits = levels + 2 * truth + noise.normal(0, 0.2, truth.shape)
        return 1 / (1 + np.exp(-logits))

    names, options = ["makam_a", "makam_b", "makam_c"], {"num_bootstrap": 10}
    fitted, tested = fit_calibration(truth, scores()), scores()
    raw = tagging.make_report(truth, tested, names, **options)
    report = tagging.make_report(truth, tested, names, calibration=fitted, **options)
    assert raw.roc_auc == report.roc_auc == 1.0
    (entry,) = report.single_label.values()
    assert entry["balanced_accuracy"] == 1.0
    (entry,) = raw.single_label.values()
    assert entry["balanced_accuracy"] == pytest.approx(1 / 3)
