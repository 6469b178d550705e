"""musrep compare: which systems are compared, on which tracks, and what is refused."""

import json

import numpy as np
import pytest
from made_runs import LABELS, write_cell, write_failed, write_run, write_transfer

from musrep_jax.evaluation.comparison import apply_holm_correction, compare_systems
from musrep_jax.experiments.reading import read_run, read_scores
from musrep_jax.tasks.tagging.matrix import make_job

SCRATCH = make_job("made/greek", "fcn")
CARRIED = make_job("made/greek", "fcn", "all_layers", "made/west")


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return write_transfer(tmp_path_factory.mktemp("compare") / "run", sizes=(0,))


def place(workdir, cell, folder="cells"):
    return workdir / folder / cell.key


def test_two_cells_are_compared_as_in_python(run, workdir):
    told = run("compare", place(workdir, SCRATCH), place(workdir, CARRIED, "exports"),
               "--resamples", 200, "--seed", 3, "--json")  # fmt: skip
    assert told.exit_code == 0, told.stderr
    (entry,) = json.loads(told.stdout)["comparisons"]
    ours, theirs = (read_scores(read_run(workdir), c.key) for c in (CARRIED, SCRATCH))
    options = {"num_resamples": 200, "seed": 3}
    compared = compare_systems(ours.labels, ours.scores, theirs.scores, **options)
    expected = compared.overall
    for metric, difference in expected.to_dict().items():
        for field, value in difference.items():
            assert entry[metric][field] == pytest.approx(value)
        assert entry[metric]["baseline"] == pytest.approx(theirs.result[metric], abs=1e-6)
        assert entry[metric]["system"] == pytest.approx(ours.result[metric], abs=1e-6)
        assert entry[metric]["p_value_holm"] == entry[metric]["p_value"]  # of one comparison
    labels = compared.per_label
    assert labels[-1] is None and "roc_auc" not in entry["per_label"]["rare"]
    p_values = [found.pr_auc.p_value for found in labels[:-1]]
    for name, found, corrected in zip(
        LABELS, labels, apply_holm_correction(p_values), strict=False
    ):
        told_label = entry["per_label"][name]["pr_auc"]
        assert told_label["difference"] == pytest.approx(found.pr_auc.value)
        assert told_label["p_value_holm"] == pytest.approx(corrected)


def test_the_tables_name_both_systems_and_every_label(run, workdir):
    told = run("compare", place(workdir, SCRATCH), place(workdir, CARRIED), "--resamples", 100,
               "--per-label")  # fmt: skip
    for text in (
        *LABELS[:-1],
        str(place(workdir, SCRATCH)),
        "60 test tracks, by tracks (the",
        "); 5 labels",
    ):
        assert text in told.stdout
    assert "nan" not in told.stdout


def test_whole_groups_are_swapped_unless_tracks_are_asked_for(run, tmp_path):
    for name, skill in (("old", 0.5), ("new", 1.5)):
        write_cell(tmp_path / name, SCRATCH, skill=skill, num_groups=12)
    pair = [place(tmp_path / name, SCRATCH) for name in ("old", "new")]
    found = {}
    for by in ("groups", "tracks"):
        told = run("compare", *pair, "--by", by, "--json")
        (found[by],) = json.loads(told.stdout)["comparisons"]
        assert found[by]["resampled"] == by
    ours, theirs = (read_scores(read_run(tmp_path / name), SCRATCH.key) for name in ("new", "old"))
    expected = compare_systems(
        ours.labels,
        ours.scores,
        theirs.scores,
        track_groups=[f"performer {row % 12}" for row in range(60)],
    ).overall
    assert found["groups"]["num_units"] == 12 and found["tracks"]["num_units"] == 60
    assert found["groups"]["roc_auc"]["ci"] == pytest.approx(expected.roc_auc.ci)
    assert "60 test tracks in 12 groups, swapped as a whole" in run("compare", *pair).stdout
    told = run("compare", *pair, "--by", "tracks")
    assert "60 test tracks, swapped one by one" in told.stdout
    assert run("compare", *pair, "--by", "artist").exit_code == 2


def test_scores_without_groups_and_with_others(run, tmp_path):
    for name, count in (("known", 12), ("other", 10), ("old", 0)):
        write_cell(tmp_path / name, SCRATCH, skill=len(name) / 4, num_groups=count)
    known, other, old = (place(tmp_path / n, SCRATCH) for n in ("known", "other", "old"))
    (entry,) = json.loads(run("compare", old, known, "--json").stdout)["comparisons"]
    assert (entry["resampled"], entry["num_units"]) == ("groups", 12)  # one of both is enough
    told = run("compare", known, other)
    assert told.exit_code == 2 and "in different groups" in told.stderr
    assert run("compare", known, other, "--by", "tracks").exit_code == 0


def test_too_few_positives_are_said(run, tmp_path):
    for name in ("a", "b"):
        write_cell(tmp_path / name, SCRATCH, skill=len(name), num_tracks=8)
    pair = [place(tmp_path / name, SCRATCH) for name in ("a", "b")]
    (entry,) = json.loads(run("compare", *pair, "--json").stdout)["comparisons"]
    assert entry["roc_auc"]["reason"] == "too_few_positives"
    assert entry["roc_auc"]["p_value"] is None and entry["roc_auc"]["ci"] == [None, None]
    assert "(too few tracks)" in run("compare", *pair).stdout


def test_cells_of_the_same_name_of_two_workdirs_are_paired(run, workdir, tmp_path):
    other = tmp_path / "other"
    results = [
        write_cell(other, cell, skill=3.0) for cell in (SCRATCH, make_job("made/new", "fcn"))
    ]
    write_run(other, results)
    told = run("compare", workdir, other, "--resamples", 100, "--json")
    found = json.loads(told.stdout)
    assert [entry["target"] for entry in found["comparisons"]] == ["made/greek"]
    assert found["comparisons"][0]["roc_auc"]["difference"] > 0
    assert "made_new-fcn-scratch-seed0" in found["left_out"][0]
    assert found["left_out"][0] in told.stderr


def test_a_cell_is_compared_with_all_of_its_data_set(run, workdir):
    told = run("compare", place(workdir, SCRATCH), workdir, "--resamples", 100, "--json")
    entries = json.loads(told.stdout)["comparisons"]
    assert sorted(entry["system"].rsplit("-", 2)[1] for entry in entries) == [
        "all_layers", "output_layer",
    ]  # fmt: skip
    raw = [entry["roc_auc"]["p_value"] for entry in entries]
    assert [e["roc_auc"]["p_value_holm"] for e in entries] == pytest.approx(
        apply_holm_correction(raw)
    )


def test_other_tracks_in_another_order_and_other_labels(run, workdir, tmp_path):
    base = place(workdir, SCRATCH)
    fewer = tmp_path / "fewer"
    write_cell(fewer, SCRATCH, num_tracks=50)
    told = run("compare", base, place(fewer, SCRATCH))
    assert told.exit_code == 2 and told.stdout == ""
    assert "different tracks (60 and 50, 50 in common)" in told.stderr

    shuffled = tmp_path / "shuffled"
    write_cell(shuffled, SCRATCH, skill=0.6, labels=LABELS)
    file = place(shuffled, SCRATCH) / "scores.npz"
    stored = dict(np.load(file))
    np.savez(file, **{name: values[::-1] for name, values in stored.items()})
    (entry,) = json.loads(run("compare", base, file.parent, "--json").stdout)["comparisons"]
    assert entry["roc_auc"]["difference"] == 0 and entry["roc_auc"]["p_value"] == 1

    np.savez(file, **{**stored, "labels": 1 - stored["labels"]})
    assert "different labels of the same tracks" in run("compare", base, file.parent).stderr

    other = tmp_path / "other"
    write_cell(other, SCRATCH, labels=("a", "b", "c", "d", "e", "f"))
    assert "no label in common" in run("compare", base, place(other, SCRATCH)).stderr


def test_what_cannot_be_compared_is_one_sentence(run, workdir, tmp_path):
    base = place(workdir, SCRATCH)
    failed = tmp_path / "failed"
    write_failed(failed, SCRATCH, ValueError("The data set is not there."))
    assert "The data set is not there." in run("compare", base, place(failed, SCRATCH)).stderr
    assert "no finished cell" in run("compare", base, failed).stderr
    assert "stands alone" in run("compare", base, tmp_path).stderr
    assert "is not there" in run("compare", base, tmp_path / "absent").stderr
    (tmp_path / "cut" / "cells" / SCRATCH.key).mkdir(parents=True)
    for name in ("result.json", "scores.npz"):
        content = (base / name).read_bytes()
        cut = len(content) // 2 if name == "scores.npz" else None
        (tmp_path / "cut" / "cells" / SCRATCH.key / name).write_bytes(content[:cut])
    told = run("compare", base, place(tmp_path / "cut", SCRATCH))
    assert told.exit_code == 2 and "is damaged" in told.stderr and len(told.stderr) < 500
