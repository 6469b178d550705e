"""New labels from a few examples: the layer, the export, the commands `teach` and `suggest`."""

import itertools
import json

import numpy as np
import pytest
import soundfile
from toy_exports import UNUSUAL_LABELS, make_export

from musrep_jax.data.audio.reading import read_audio
from musrep_jax.evaluation.aggregation import sigmoid
from musrep_jax.evaluation.linear import fit_logistic
from musrep_jax.evaluation.metrics import roc_auc
from musrep_jax.inference.tagger import load_encoder, load_tagger
from musrep_jax.probing.few_examples import (
    balanced_loss,
    deal_folds,
    fit_candidates,
    learn_output_layer,
)
from musrep_jax.probing.left_out_report import report_left_out
from musrep_jax.probing.protocol import Examples
from musrep_jax.store import Store
from musrep_jax.store.suggesting import suggest_tracks
from musrep_jax.training.checkpoints import ExportError
from musrep_jax.weights.output_layers import (
    TaughtLabels,
    add_labels,
    check_teachable,
    compute_logits,
    read_head_inputs,
)


def draw_examples(num_per_label=5, width=12, seed=0, groups=None):
    """Two labels apart along one axis; two chunks each."""
    rng = np.random.default_rng(seed)
    targets = np.repeat(np.eye(2, dtype=bool), num_per_label, axis=0)
    rows = np.repeat(rng.normal(size=(len(targets), width)), 2, axis=0)
    rows[:, 0] += 4 * np.repeat(targets[:, 0], 2)
    rows += 0.1 * rng.normal(size=rows.shape)
    owner = np.repeat(np.arange(len(targets)), 2)
    groups = np.arange(len(targets)) if groups is None else groups
    return Examples(rows, owner, targets, False, np.asarray(groups))


def test_prototype_is_the_nearer_of_two_means():
    examples = draw_examples()
    features = examples.pool().features
    queries = np.random.default_rng(1).normal(size=(50, 12)) * 3
    first, *others = fit_candidates(features, examples.targets, ["prototype"])
    for column in range(2):
        has = examples.targets[:, column]
        means = features[has].mean(axis=0), features[~has].mean(axis=0)
        is_nearer = [
            np.sum((query - means[0]) ** 2) < np.sum((query - means[1]) ** 2) for query in queries
        ]
        logits = first.logits(queries)[:, column]
        assert np.array_equal(logits > 0, is_nearer)
        # At the prototypes themselves the logits are plus and minus the sharpness.
        assert np.allclose(first.logits(np.stack(means))[:, column], [1, -1])
    assert np.allclose(others[-1].logits(queries), 32 * first.logits(queries))


def test_logistic_candidates_are_those_of_all_features_with_balanced_weights():
    examples = draw_examples()
    features, targets = examples.pool().features[:7], examples.targets[:7]  # five and two
    center, scale = (
        features.mean(axis=0),
        features.std() * 0 + np.sqrt(np.mean((features - features.mean(axis=0)) ** 2)),
    )
    weights = np.where(targets[:, 0], 1 / 5, 1 / 2) / 2
    wanted = list(
        fit_logistic((features - center) / scale, targets[:, [0]], weights, (10, 1, 0.1, 0.01))
    )
    found = fit_candidates(features, targets[:, [0]], ["logistic"])
    for ours, theirs in zip(found, wanted, strict=True):
        logits = theirs.logits((features - center) / scale)
        assert np.allclose(ours.logits(features), logits, atol=2e-3 * np.abs(logits).max())


def test_a_label_on_all_or_none_gets_no_opinion():
    targets = np.array([[True, False, True], [True, False, False], [True, False, True]])
    for linear in fit_candidates(np.random.default_rng(0).normal(size=(3, 4)), targets):
        assert not linear.weights[:, :2].any()
        assert not linear.bias[:2].any()
        assert linear.weights[:, 2].any()


def test_folds_leave_out_one_group_of_each_label_and_never_part_of_one():
    targets = np.zeros((24, 3), bool)
    targets[:6, 0] = targets[6:12, 1] = targets[12:18, 2] = True
    groups = np.array([f"g{number // 2}" for number in range(24)])
    folds = deal_folds(groups, targets, 20)
    assert len(folds) == 3
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(24))
    for fold in folds:
        assert not set(groups[fold.test]) & set(groups[fold.train])
        assert targets[fold.test].sum(axis=0).tolist() == [2, 2, 2]
    assert deal_folds(np.zeros(4), targets[:4], 20) == []


def test_scores_are_of_layers_that_have_not_seen_the_example():
    """What is learned of an example by its own label would show in shuffled labels."""
    areas, seen = [], []
    for seed in range(12):
        examples = draw_examples(seed=seed)
        noise = np.random.default_rng(seed).normal(size=(10, 12))
        blind = Examples(noise, np.arange(10), examples.targets, False, examples.groups)
        layer = learn_output_layer(blind, ["prototype"])
        seen.append(roc_auc(blind.targets, layer.linear.logits(noise))[0])
        report = report_left_out(blind.targets, layer.scores, ("a", "b"), blind.groups)
        areas.append(report.labels[0].roc_auc)
    assert np.mean(seen) > 0.85
    assert 0.25 < np.mean(areas) < 0.65


def test_the_layer_is_chosen_by_the_loss_on_what_is_left_out():
    examples = draw_examples()
    layer = learn_output_layer(examples)
    folds = deal_folds(examples.groups, examples.targets, 5)
    losses, means = [], examples.pool().features
    for number in range(10):
        scores = np.zeros((10, 2))
        for fold in folds:
            linear = fit_candidates(means[fold.train], examples.targets[fold.train])[number]
            for row in fold.test:
                chunks = sigmoid(linear.logits(examples.features[examples.owner == row]))
                scores[row] = chunks.mean(axis=0)
        losses.append(balanced_loss(examples.targets, scores))
    best = fit_candidates(means, examples.targets)[int(np.argmin(losses))]
    assert (layer.linear.name, layer.linear.strength) == (best.name, best.strength)
    assert np.array_equal(layer.linear.weights, best.weights)
    assert layer.num_folds == 5


def test_balanced_loss_is_the_mean_of_both_sides():
    targets = np.array([[True], [False], [False], [False]])
    scores = np.array([[0.2], [0.1], [0.3], [0.5]])
    wanted = (-np.log(0.2) - np.mean(np.log([0.9, 0.7, 0.5]))) / 2
    assert balanced_loss(targets, scores) == pytest.approx(wanted)


def test_report_counts_groups_not_tracks():
    examples = draw_examples(6)
    scores = np.where(examples.targets, 0.9, 0.1) - 0.001 * np.arange(12)[:, None]  # no ties
    alone = report_left_out(examples.targets, scores, ("a", "b"), np.arange(12))
    grouped = report_left_out(
        examples.targets, scores, ("a", "b"), np.array([f"g{n // 3}" for n in range(12)])
    )
    assert alone.labels[0].reason == ""
    assert alone.labels[0].p_value == pytest.approx(1 / 924)  # of the orders of 6 and 6
    assert grouped.labels[0].reason == "too few groups"
    assert grouped.labels[0].p_value == pytest.approx(1 / 6)  # of the orders of 2 and 2
    assert grouped.labels[0].found_ci[0] < alone.labels[0].found_ci[0]
    assert alone.choice["accuracy"] == 1
    assert alone.choice["majority_accuracy"] == 0.5


def test_suggestions_are_uncertain_and_apart():
    rng = np.random.default_rng(0)
    embeddings = np.concatenate([np.eye(4)[[0] * 30], np.eye(4)]) + 0.01 * rng.random((34, 4))
    probabilities = np.full(34, 0.45)
    probabilities[:30] = 0.5
    probabilities[33] = 0.001
    is_free = np.ones(34, bool)
    is_free[0] = False
    rows = suggest_tracks(embeddings, probabilities, 0.5, 16, is_free)
    assert len(rows) == len(set(rows.tolist())) == 16
    assert 0 not in rows
    assert set(rows[:3].tolist()) >= {31, 32}  # they point elsewhere; thirty are alike
    # A plain loop over the most uncertain thirty-two.
    pool = sorted((n for n in range(34) if is_free[n]), key=lambda n: probabilities[n] < 0.5)[:32]
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    order = sorted(pool, key=lambda n: (abs(np.log(probabilities[n] / (1 - probabilities[n]))), n))
    taken = [order[0]]
    while len(taken) < 16:
        left = [n for n in order if n not in taken]
        taken.append(min(left, key=lambda n: max(unit[n] @ unit[other] for other in taken)))
    assert rows.tolist() == taken
    assert len(suggest_tracks(embeddings, probabilities, 0.5, 99, is_free)) == 33
    assert not len(suggest_tracks(embeddings, probabilities, 0.5, 3, np.zeros(34, bool)))


# The commands.


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """A folder of tones and noises, five each, in subfolders, and two other clips beside them."""
    folder = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    time = np.arange(16000) / 16000
    for name in ("tone", "noise"):
        (folder / name).mkdir()
    for number in range(5):
        tone = 0.3 * np.sin(2 * np.pi * (300 + 60 * number) * time)
        soundfile.write(folder / "tone" / f"{number}.wav", tone, 16000)
        noise = 0.3 * rng.standard_normal(len(time)) * np.exp(-(2 + number) * time)
        soundfile.write(folder / "noise" / f"{number}.wav", noise.clip(-1, 1), 16000)
    return folder


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    calibration = {label: [1.5, 0.25] for label in UNUSUAL_LABELS}
    return make_export(
        tmp_path_factory.mktemp("models"), "fcn",
        calibration=calibration, thresholds={"ney": 0.25, "oud": 0.75},
        label_groups={"wind": ["ney", "oud"]},
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(sounds, export, tmp_path_factory):
    from musrep_jax.inference.folders import describe_model, embed_files, find_recordings
    from musrep_jax.store import StoreWriter

    path, tagger = tmp_path_factory.mktemp("stores") / "store", load_tagger(export)
    about = describe_model(tagger, export) | {"per_chunk": True}
    with StoreWriter(path, about) as writer:
        embed_files(writer, tagger, find_recordings([sounds]), 1)
    return path


def test_teach_adds_labels_and_changes_nothing_else(sounds, export, run, tmp_path):
    done = run("teach", export, "--examples", sounds, "--out", tmp_path / "taught")
    assert done.exit_code == 0, done.stderr
    assert "noise" in done.stdout and "ROC-AUC" in done.stdout and "commonest: 0.50" in done.stdout
    before, after = load_tagger(export), load_tagger(tmp_path / "taught")
    assert after.labels == (*before.labels, "noise", "tone")
    audio, rate = read_audio(sounds / "tone" / "1.wav", sample_rate=16000)
    old, new = before.predict(audio, rate), after.predict(audio, rate)
    assert {label: new[label] for label in old} == pytest.approx(old, abs=1e-6)
    assert np.array_equal(before.embed(audio, rate), after.embed(audio, rate))
    assert new["tone"] > 0.5 > new["noise"]
    card = after.card
    assert card["thresholds"] == {"ney": 0.25, "oud": 0.75, "noise": 0.5, "tone": 0.5}
    assert card["calibration"]["ney"] == [1.5, 0.25] and card["calibration"]["tone"] == [1.0, 0.0]
    assert card["label_groups"]["wind"] == ["ney", "oud"]
    assert ["noise", "tone"] in card["label_groups"].values()
    assert card["metrics"]["left_out"][1]["num_examples"] == 5
    readme = (tmp_path / "taught" / "README.md").read_text("utf-8")
    assert "ROC-AUC on examples that were left out: noise" in readme
    assert "Nothing was measured" not in readme
    tagged = run("tag", tmp_path / "taught", sounds / "tone" / "2.wav", "--top", "9")
    assert tagged.exit_code == 0 and "tone" in tagged.stdout


def test_a_store_gives_the_same_as_decoding(sounds, export, store, run, tmp_path):
    words = ("teach", export, "--examples", sounds, "--json", "--replace-labels")
    heard = run(*words, "--out", tmp_path / "a")
    stored = run(*words, "--out", tmp_path / "b", "--store", store)
    assert heard.exit_code == stored.exit_code == 0, heard.stderr + stored.stderr
    told = [json.loads(done.stdout) for done in (heard, stored)]
    assert told[0]["left_out"] == told[1]["left_out"]
    assert told[0]["labels"] == ["noise", "tone"]
    a, b = (load_tagger(tmp_path / name) for name in "ab")
    assert a.fingerprint == b.fingerprint


def test_teach_then_suggest_then_teach(sounds, export, store, run, tmp_path):
    """One label against a store; the taught export is taught on, with what was suggested."""
    table = tmp_path / "five.tsv"
    lines = [f"{sounds / 'tone'}/{n}.wav\ttone\tg{n}" for n in range(3)]
    table.write_text("path\tlabels\tgroup\n" + "\n".join(lines) + "\n", encoding="utf-8")
    first = run("teach", export, "--examples", table, "--store", store, "--out", tmp_path / "one",
                "--json")  # fmt: skip
    assert first.exit_code == 0, first.stderr
    assert "'tone' has 3 examples" in first.stderr
    told = json.loads(first.stdout)
    assert told["num_store_tracks"] == 7
    out = tmp_path / "more.tsv"
    found = run("suggest", store, "--label", "Tone", "--model", tmp_path / "one", "-k", "4",
                "--labeled", table, "--out", out)  # fmt: skip
    assert found.exit_code == 0, found.stderr
    header, *rows = [line.split("\t") for line in out.read_text("utf-8").splitlines()]
    assert header == ["path", "labels", "probability of tone"]
    assert len(rows) == 4
    assert not {row[0] for row in rows} & {line.split("\t")[0] for line in lines}
    filled = [[row[0], "", row[2]] for row in rows if "/noise/" in row[0]]
    assert filled
    out.write_text("\n".join("\t".join(row) for row in [header, *filled]) + "\n", encoding="utf-8")
    again = run("teach", tmp_path / "one", "--examples", table, "--examples", out, "--store",
                store, "--out", tmp_path / "two", "--json")  # fmt: skip
    assert again.exit_code == 0, again.stderr
    told = json.loads(again.stdout)
    assert told["num_examples"] == 3 + len(filled)
    assert told["num_store_tracks"] == 10 - told["num_examples"]
    assert told["labels"].count("tone") == 1
    refused = run("suggest", store, "--label", "tone", "--model", tmp_path / "one", "--out", out)
    assert refused.exit_code == 2 and "exists already" in refused.stderr


def test_suggest_takes_the_labels_of_the_store(store, run, tmp_path):
    found = run(
        "suggest", store, "--label", "OUD", "-k", "3", "--out", tmp_path / "x.tsv", "--json"
    )
    assert found.exit_code == 0, found.stderr
    told = json.loads(found.stdout)
    assert (told["label"], told["threshold"], len(told["tracks"])) == ("oud", 0.75, 3)
    lacking = run("suggest", store, "--label", "drum", "--out", tmp_path / "y.tsv")
    assert lacking.exit_code == 2 and "--model" in lacking.stderr
    assert not (tmp_path / "y.tsv").exists()


def test_bad_examples_are_refused_in_one_sentence(sounds, export, run, tmp_path):
    def refuse(*words):
        done = run("teach", export, "--out", tmp_path / "no", "--examples", *words)
        assert done.exit_code == 2
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert not (tmp_path / "no").exists()
        return done.stderr

    alone = tmp_path / "alone"
    (alone / "tone").mkdir(parents=True)
    for number in range(2):
        (alone / "tone" / f"{number}.wav").write_bytes(
            (sounds / "tone" / f"{number}.wav").read_bytes()
        )
    assert "nothing says what it is not" in refuse(alone)
    (alone / "other.wav").write_bytes((sounds / "noise" / "0.wav").read_bytes())
    assert "1 recordings without 'tone'" in refuse(alone)
    assert "There is no file or folder" in refuse(tmp_path / "nowhere")
    assert "--head" in refuse(sounds, "--head", "forest")
    assert "again" in refuse(sounds, "--examples", sounds)
    table = tmp_path / "copies.tsv"
    rows = [f"{sounds}/tone/0.wav\ttone\n", f"{alone}/tone/0.wav\ttone\n"]
    rows += [f"{sounds}/noise/{n}.wav\t\n" for n in range(2)]
    table.write_text("path\tlabels\n" + "".join(rows), encoding="utf-8")
    assert "1 groups with the label 'tone'" in refuse(table)  # both are the same file
    table.write_text("path\tlabels\n" + "".join(rows[2:]), encoding="utf-8")
    assert "No recording of" in refuse(table)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine", encoding="utf-8")
    assert "choose another path" in refuse(sounds, "--out", tmp_path / "taken")
    gone = tmp_path / "gone.tsv"
    gone.write_text("path\tlabels\nnone.wav\ttone\n" + "".join(rows[1:]), encoding="utf-8")
    done = run("teach", export, "--out", tmp_path / "no", "--examples", gone)
    assert done.exit_code == 2 and "none.wav" in done.stderr


@pytest.mark.parametrize("name", ["tagging_transformer", "mert"])
def test_the_head_sees_what_the_layer_is_fitted_to(name, tmp_path):
    """Also with a normalization in between, and of a backbone without output layer."""
    labels = () if name == "mert" else UNUSUAL_LABELS
    loaded = load_encoder(make_export(tmp_path, name, labels=labels))
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(5, loaded.width)).astype(np.float32)
    weights, bias = rng.normal(size=(loaded.width, 2)), rng.normal(size=2)
    taught = TaughtLabels(("x", "y"), weights, bias, 0.5, [], [], {}, {}, [])
    tagger = add_labels(loaded, taught, "here", keeps_labels=True)
    logits = compute_logits(tagger, embeddings)
    assert tagger.labels == (*loaded.labels, "x", "y")
    wanted = read_head_inputs(loaded, embeddings) @ weights + bias
    assert np.allclose(logits[:, -2:], wanted, atol=1e-4)
    if loaded.labels:
        assert np.allclose(logits[:, :-2], compute_logits(loaded, embeddings), atol=1e-5)


def test_classes_that_exclude_each_other_can_only_be_replaced(tmp_path):
    loaded = load_tagger(make_export(tmp_path, "fcn", output="softmax"))
    with pytest.raises(ExportError, match="--replace-labels"):
        check_teachable(loaded, "here", keeps_labels=True)
    check_teachable(loaded, "here", keeps_labels=False)
    taught = TaughtLabels(("x",), np.ones((loaded.width, 1)), np.zeros(1), 0.5, [], [], {}, {}, [])
    tagger = add_labels(loaded, taught, "here", keeps_labels=False)
    assert (tagger.output, tagger.labels) == ("sigmoid", ("x",))


def test_stores_of_other_models_are_refused(sounds, store, run, tmp_path):
    other = make_export(tmp_path, "vgg_ish")
    for words in (
        ("teach", other, "--examples", sounds, "--store", store, "--out", tmp_path / "t"),
        ("suggest", store, "--label", "oud", "--model", other, "--out", tmp_path / "s.tsv"),
    ):
        done = run(*words)
        assert done.exit_code == 2 and "another model" in done.stderr
    assert len(Store(store)) == 10
    assert sorted(itertools.chain(*[p.name.split() for p in tmp_path.iterdir()])) == ["vgg_ish"]
