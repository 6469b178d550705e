"""Few-shot episodes: prototypes, label combinations, draws and metrics against plain loops."""

import itertools
import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from toy_exports import make_export
from toy_recordings import make_folder

from musrep_jax.command_line import main
from musrep_jax.evaluation.metrics import EvaluationError
from musrep_jax.probing.episode_metrics import (
    EpisodeScores,
    average_episodes,
    average_random,
    predict_everything,
)
from musrep_jax.probing.episodes import (
    Episode,
    draw_episodes,
    draw_support,
    find_usable_labels,
    fit_threshold,
    list_base_and_novel,
    score_episode,
)
from musrep_jax.probing.few_shot_methods import METHODS, make_scorer
from musrep_jax.probing.prototypes import list_combinations, score_by_prototypes
from musrep_jax.tasks.few_shot.reports import describe_pool, list_notes
from musrep_jax.tasks.tagging.features import list_trained_labels


def draw_data(seed=0, num_tracks=90, num_labels=7, width=5):
    """Tracks with one to three labels, in groups of three, whose features show the labels."""
    rng = np.random.default_rng(seed)
    targets = np.zeros((num_tracks, num_labels), bool)
    for row in targets:
        row[rng.choice(num_labels, rng.integers(1, 4), replace=False)] = True
    directions = rng.normal(size=(num_labels, width))
    features = targets @ directions + 0.5 * rng.normal(size=(num_tracks, width))
    return features, targets, np.array([f"g{n // 3}" for n in range(num_tracks)])


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_a_label_has_the_mean_of_its_examples():
    features, targets, _ = draw_data()
    support, queries = features[:12], features[12:20]
    scores = score_by_prototypes(support, targets[:12], queries)
    for row, query in enumerate(queries):
        for column in range(targets.shape[1]):
            members = [x for x, has in zip(support, targets[:12, column], strict=True) if has]
            wanted = cosine(query, np.mean(members, axis=0)) if members else -np.inf
            assert scores[row, column] == pytest.approx(wanted)


@pytest.mark.parametrize("distance", ["cosine", "l2"])
def test_combinations_answer_as_all_subsets_do(distance):
    """The published way: every subset of every example's labels, the nearest, the largest."""
    features, targets, _ = draw_data(3)
    support, queries, own = features[:10], features[10:60], targets[:10]
    members: dict[tuple, list] = {}
    for x, row in zip(support, own, strict=True):
        columns = np.flatnonzero(row)
        for size in range(1, len(columns) + 1):
            for subset in itertools.combinations(columns.tolist(), size):
                members.setdefault(subset, []).append(x)
    decided = score_by_prototypes(support, own, queries, "combination", distance) > 0
    for row, query in enumerate(queries):

        def nearness(subset, query=query):
            mean = np.mean(members[subset], axis=0)
            near = cosine(query, mean) if distance == "cosine" else -np.linalg.norm(query - mean)
            return round(near, 12), len(subset)

        best = max(members, key=nearness)
        assert np.flatnonzero(decided[row]).tolist() == list(best)


def test_combinations_are_the_intersections():
    _, targets, _ = draw_data(1)
    own = targets[:8]
    wanted = set()
    for size in range(1, 9):
        for rows in itertools.combinations(range(8), size):
            both = own[list(rows)].all(axis=0)
            if both.any():
                wanted.add(tuple(both.tolist()))
    found = list_combinations(own)
    assert {tuple(row.tolist()) for row in found} == wanted
    assert len(found) == len(wanted)
    with pytest.raises(EvaluationError, match="fewer labels"):
        list_combinations(~np.eye(20, dtype=bool))


def test_labels_that_no_example_has_or_each_has():
    targets = np.array([[1, 1, 0], [1, 0, 0]], bool)
    support, queries = np.eye(2), np.array([[1.0, 0.1], [0.1, 1.0]])
    found = score_by_prototypes(support, targets, queries, "combination")
    assert np.all(found[:, 0] == np.inf) and np.all(found[:, 2] == -np.inf)
    assert (found[:, 1] > 0).tolist() == [True, False]
    with pytest.raises(EvaluationError, match="no support example"):
        score_by_prototypes(support, np.zeros((2, 3), bool), queries)
    with pytest.raises(EvaluationError, match="cosine or l2"):
        score_by_prototypes(support, targets, queries, distance="l1")


def test_episodes_have_their_shots_and_share_no_group():
    _, targets, groups = draw_data()
    pool = find_usable_labels(targets, groups, 3)
    episodes = draw_episodes(
        targets, groups, pool, num_labels=4, num_shots=3, num_episodes=30, seed=5
    )
    for one in episodes:
        assert len(set(one.labels.tolist())) == 4
        part = targets[:, one.labels]
        assert (part[one.support].sum(axis=0) >= 3).all()
        assert part[one.support].any(axis=1).all() and len(one.support) <= 12
        assert not set(groups[one.support]) & set(groups[one.queries])
        left = [
            n for n in range(len(targets))
            if part[n].any() and groups[n] not in groups[one.support]
        ]  # fmt: skip
        assert one.queries.tolist() == left
    again = draw_episodes(targets, groups, pool, num_labels=4, num_shots=3, num_episodes=2, seed=5)
    assert np.array_equal(again[1].support, episodes[1].support)
    assert len({tuple(sorted(one.labels.tolist())) for one in episodes}) > 10


def test_an_example_counts_for_all_of_its_labels():
    targets = np.array([[1, 1], [1, 1], [0, 1], [0, 1]], bool)
    support = draw_support(targets, 2, np.random.default_rng(0))
    assert support.tolist() == [0, 1]  # those of the first label serve the second


def test_what_cannot_be_drawn_is_said():
    _, targets, groups = draw_data()
    with pytest.raises(EvaluationError, match="only 2 labels have"):
        draw_episodes(
            targets, groups, np.arange(2), num_labels=4, num_shots=3, num_episodes=1, seed=0
        )
    one_group = np.zeros(len(targets), int)
    assert not len(find_usable_labels(targets, one_group, 1))
    with pytest.raises(EvaluationError, match="more groups"):
        draw_episodes(
            targets, one_group, np.arange(5), num_labels=4, num_shots=3, num_episodes=1, seed=0
        )


def test_the_threshold_is_the_best_on_left_out_support():
    features, targets, groups = draw_data()
    pool = find_usable_labels(targets, groups, 4)
    (episode,) = draw_episodes(
        targets, groups, pool, num_labels=4, num_shots=4, num_episodes=1, seed=2
    )
    part = targets[np.ix_(episode.support, episode.labels)]
    singles = np.arange(len(targets))  # each its own group
    seen = []

    def scorer(support, support_targets, queries):
        seen.append((support, queries))
        return score_by_prototypes(support, support_targets, queries)

    found = fit_threshold(episode, features, targets, singles, scorer, 0.0)
    for support, queries in seen:
        assert not {tuple(x) for x in support.tolist()} & {tuple(x) for x in queries.tolist()}
    scores = np.full(part.shape, np.nan)
    for support, queries in seen:
        own = [np.flatnonzero((features[episode.support] == x).all(axis=1))[0] for x in support]
        rest = [np.flatnonzero((features[episode.support] == x).all(axis=1))[0] for x in queries]
        scores[rest] = score_by_prototypes(support, part[own], queries)
    best = max(
        f1_score(part, scores >= score, average="macro", zero_division=0)
        for score in np.unique(scores)
    )
    reached = f1_score(part, scores > found, average="macro", zero_division=0)
    assert reached == pytest.approx(best, abs=1e-12)
    # Of one example of each label none can be left out.
    single = Episode(np.arange(3), np.flatnonzero(targets[:, 0])[:1], np.arange(3))
    assert fit_threshold(single, features, targets, singles, scorer, 0.25) == 0.25


def make_scores(seed=0, num_episodes=6):
    features, targets, groups = draw_data(seed)
    pool = find_usable_labels(targets, groups, 3)
    found = []
    for one in draw_episodes(
        targets, groups, pool, num_labels=4, num_shots=3, num_episodes=num_episodes, seed=seed
    ):
        scores = score_episode(one, features, targets, score_by_prototypes)
        truth = targets[np.ix_(one.queries, one.labels)]
        found.append(EpisodeScores(one, truth, scores, scores > 0.3))
    return found, groups


def test_metrics_of_an_episode_are_scikit_learns():
    for one in make_scores()[0]:
        found = one.measure()
        assert found["roc_auc"] == pytest.approx(roc_auc_score(one.truth, one.scores))
        assert found["pr_auc"] == pytest.approx(
            average_precision_score(one.truth, one.scores, average="macro")
        )
        assert found["f1"] == pytest.approx(f1_score(one.truth, one.predicted, average="macro"))
        counts = np.random.default_rng(0).integers(1, 4, (len(one.truth), 2)).astype(np.int32)
        twice = one.resample(counts)
        rows = np.repeat(np.arange(len(one.truth)), counts[:, 1])
        drawn = f1_score(one.truth[rows], one.predicted[rows], average="macro")
        assert twice["f1"][1] == pytest.approx(drawn)
        assert twice["roc_auc"][1] == pytest.approx(
            roc_auc_score(one.truth[rows], one.scores[rows])
        )


def test_everything_and_random_rows():
    episodes, groups = make_scores()
    everything = average_episodes(predict_everything(episodes), groups, num_resamples=0)
    f1, prevalence = [], []
    for one in episodes:
        share = one.truth.mean(axis=0)
        f1.append(np.mean(2 * share / (1 + share)))
        prevalence.append(share.mean())
    assert everything["f1"][0] == pytest.approx(np.mean(f1))
    assert everything["pr_auc"][0] == pytest.approx(np.mean(prevalence))
    assert everything["roc_auc"][0] == 0.5
    rng = np.random.default_rng(0)
    drawn = []
    for one in episodes * 20:
        blind = EpisodeScores(one.episode, one.truth, rng.random(one.truth.shape),
                              rng.random(one.truth.shape) < one.truth.mean(axis=0))  # fmt: skip
        drawn.append(blind.measure())
    for name, value in average_random(episodes).items():
        assert value == pytest.approx(np.mean([row[name] for row in drawn]), abs=0.02)


def test_intervals_cover_episodes_and_groups():
    episodes, groups = make_scores(num_episodes=8)
    found = average_episodes(episodes, groups)
    alone = average_episodes(episodes, np.arange(len(groups)))
    for name, (value, (low, high), _) in found.items():
        assert low < value < high, name
        assert value == alone[name][0]
    # The same tracks thrice: as groups they say no more than each once, as tracks they seem to.
    thrice = [
        EpisodeScores(
            Episode(one.episode.labels, one.episode.support,
                    np.concatenate([one.episode.queries + len(groups) * k for k in range(3)])),
            *(np.concatenate([x] * 3) for x in (one.truth, one.scores, one.predicted)),
        )
        for one in episodes
    ]  # fmt: skip
    names = np.tile(np.arange(len(groups)), 3)
    widths = []
    for owners in (names, np.arange(len(names))):
        low, high = average_episodes(thrice, owners)["roc_auc"][1]
        widths.append(high - low)
    low, high = alone["roc_auc"][1]
    assert widths[0] == pytest.approx(high - low)
    assert widths[1] < 0.9 * widths[0]
    one = average_episodes(episodes[:1] * 8, groups)["f1"][1]
    many = found["f1"][1]
    assert one[1] - one[0] != many[1] - many[0]
    few = np.array([f"g{n // 30}" for n in range(len(groups))])
    assert np.isnan(average_episodes(episodes, few)["f1"][1][0])


def test_base_labels_are_those_of_the_model():
    base, novel = list_base_and_novel(("ney", "oud", "voice"), ("oud", "rock"))
    assert (base.tolist(), novel.tolist()) == ([1], [0, 2])
    assert list_base_and_novel(("ney",), ())[1].tolist() == [0]


def test_every_method_tells_what_can_be_told():
    rng = np.random.default_rng(0)
    targets = np.repeat(np.eye(3, dtype=bool), 4, axis=0)
    support = 5 + 3 * targets @ np.eye(3, 6) + 0.3 * rng.normal(size=(12, 6))
    queries = 5 + 3 * targets @ np.eye(3, 6) + 0.3 * rng.normal(size=(12, 6))
    for method in METHODS:
        for distance in ("cosine", "l2"):
            scores = make_scorer(method, distance)(support, targets, queries)
            assert np.array_equal(scores > 0, targets), (method, distance)
    # As published, without a center: all that is positive is near, so that everything is said.
    plain = make_scorer("label", centers=False)(support, targets, queries)
    assert (plain > 0).all()
    with pytest.raises(EvaluationError, match="choose of"):
        make_scorer("maml")


def run_few_shot(tmp_path, *flags):
    if not (tmp_path / "recordings").exists():
        make_folder(tmp_path / "recordings")
    return main(
        [
            "main.py", "--config=probe:few_shot_smoke", f"--workdir={tmp_path / 'w'}",
            f"--config.data.data_dir={tmp_path}", "--config.train.num_devices=1",
            f"--config.target=audio_folder:{tmp_path}/recordings", *flags,
        ]
    )  # fmt: skip


def test_few_shot_as_an_experiment(tmp_path):
    flags = ("--config.few_shot.base_labels=dr*,flute", "--config.few_shot.num_shots=1,2")
    assert run_few_shot(tmp_path, *flags, "--config.few_shot.methods=label,logistic") == 0
    shown = (tmp_path / "w" / "results.md").read_text("utf-8")
    assert "2 base labels, 2 examples of each" in shown and "predict everything" in shown
    results = json.loads((tmp_path / "w" / "results.json").read_text("utf-8"))["cells"]
    assert len(results) == 4
    for result in results:
        assert result["error"] is None and set(result["pools"]) == {"base"}
        pool = result["pools"]["base"]
        assert pool["num_episodes"] == 2 and pool["labels"] == ["drum", "flute"]
        # Of two labels that exclude each other on as many tracks, everything has an F1 of 2/3.
        assert pool["everything"]["f1"]["value"] == pytest.approx(2 / 3, abs=0.05)
        assert result["metrics"][0]["value"] == pool["metrics"]["roc_auc"]["value"] > 0.8
        assert result["has_groups"] and result["num_track_groups"] == 6
    assert "All pairs, macro F1" in shown and "too few groups" in shown
    (figure,) = (tmp_path / "w" / "figures").glob("few_shot_*.png")
    assert figure.name.endswith("_base.png") and figure.stat().st_size > 10_000
    for num_shots in (1, 2):
        rows = [r for r in results if r["num_shots"] == num_shots]
        ((one,),) = [r["versus_rows"]["base"]["f1"] for r in rows if r["versus_rows"]["base"]["f1"]]
        assert {one["key"]} < {r["key"] for r in rows}
        values = [r["pools"]["base"]["metrics"]["f1"]["value"] for r in rows]
        assert one["reason"] == "too_few_groups"
        assert abs(one["difference"]) == pytest.approx(abs(values[1] - values[0]))
    assert run_few_shot(tmp_path, *flags, "--config.few_shot.methods=label,logistic") == 0


def test_what_cannot_be_an_episode_is_one_sentence(tmp_path, capsys):
    assert run_few_shot(tmp_path, "--config.few_shot.num_labels=5") == 1
    assert "Take fewer labels or examples." in capsys.readouterr().out
    for flag in ("num_labels=1", "methods=maml", "draw=some", "split=train", "distance=l1"):
        assert run_few_shot(tmp_path, f"--config.few_shot.{flag}") == 2
        assert f"few_shot.{flag.split('=')[0]} is" in capsys.readouterr().err
    again = f"--workdir={tmp_path / 'v'}"
    assert run_few_shot(tmp_path, "--config.few_shot.base_labels=drums", again) == 1
    assert "few_shot.base_labels names 'drums'" in capsys.readouterr().out


def test_the_first_labels_are_one_episode(tmp_path):
    flags = ("draw=first", "base_labels=drum", "methods=combination")
    assert run_few_shot(tmp_path, *(f"--config.few_shot.{flag}" for flag in flags)) == 0
    (result,) = json.loads((tmp_path / "w" / "results.json").read_text("utf-8"))["cells"]
    assert set(result["pools"]) == {"both"}  # one of each
    assert result["pools"]["both"]["num_episodes"] == 1
    assert len(result["missing_pools"]) == 2


def test_labels_of_encoders_are_base_for_all_features(tmp_path):
    export = make_export(tmp_path, "fcn", labels=("drum", "voice"))
    both = f"--config.features=log_mel_statistics,export:{export}"
    assert run_few_shot(tmp_path, "--config.few_shot.methods=label", both) == 0
    results = json.loads((tmp_path / "w" / "results.json").read_text("utf-8"))["cells"]
    assert [result["base_labels"] for result in results] == [["drum"]] * 2
    assert list_trained_labels(f"log_mel_statistics+export:{export}") == ["drum", "voice"]
    assert list_trained_labels("log_mel_statistics") == []


def test_rows_of_other_base_labels_are_said_to_be():
    row = {"target": "x", "base_labels": ["drum"], "error": None, "has_groups": True}
    assert not list_notes([row, row, {**row, "target": "y", "base_labels": []}])
    assert "use a new --workdir" in list_notes([row, {**row, "base_labels": []}])[0]


def test_the_verdict_warns_of_an_f1_that_shows_nothing():
    def row(name, f1):
        one = {"value": f1, "ci": None}
        metrics = {"roc_auc": {"value": 0.6, "ci": None}, "f1": one, "f1_at_zero": one}
        return {
            "key": name, "features": "x", "classifier": name,
            "pools": {"novel": {"metrics": metrics, "everything": {"f1": {"value": 0.4}}}},
        }  # fmt: skip

    warned = describe_pool([row("label", 0.4), row("logistic", 0.5)], "novel")
    assert "WARNING" in warned[1] and "0.400, at least that of label on x:" in warned[1]
    assert len(describe_pool([row("logistic", 0.5)], "novel")) == 1
