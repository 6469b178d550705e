"""Published results: the table, its page, and results of ours among it."""

import json

import pytest
from made_runs import write_cell, write_run

from musrep_jax.data.datasets import DATASETS
from musrep_jax.models import MODELS
from musrep_jax.reporting.published import DIFFERENCES, PUBLISHED, compare_with_published
from musrep_jax.tasks.tagging.matrix import make_job

CORPORA = ("magnatagatune", "fma", "lyra", "turkish_makam", "hindustani", "carnatic")


def test_the_table_is_whole_and_names_what_exists_here():
    assert len(PUBLISHED) == 6 * (3 * 3 + 3)
    assert tuple(dict.fromkeys(row.target for row in PUBLISHED)) == CORPORA
    assert set(CORPORA) <= set(DATASETS)
    for row in PUBLISHED:
        assert 0.6 < row.roc_auc < 0.93 and 0.3 < row.pr_auc < row.roc_auc
        assert bool(row.source) == (row.training in ("output_layer", "all_layers"))
        assert row.source != row.target and (not row.source or row.source in CORPORA)
        assert (row.system in MODELS) == (row.training != "probe")


def test_what_was_found_of_the_published_files():
    """Aggregates that were computed from the evaluation files themselves, not from the table."""
    by = {(r.target, r.system, r.training): r for r in PUBLISHED}
    cells = [(t, m) for t in CORPORA for m in ("vgg_ish", "musicnn", "spectrogram_transformer")]
    for training, roc, pr, wins in (
        ("all_layers", 0.0170, 0.0193, (15, 13)),
        ("output_layer", -0.0580, -0.1157, (1, 0)),
    ):
        gains = [
            [by[(*cell, training)][k] - by[(*cell, "scratch")][k] for cell in cells] for k in (4, 5)
        ]
        assert sum(gains[0]) / 18 == pytest.approx(roc, abs=6e-5)
        assert sum(gains[1]) / 18 == pytest.approx(pr, abs=6e-5)
        assert tuple(sum(gain > 0 for gain in column) for column in gains) == wins
    probes = [by["lyra", f"{name}-95M", "probe"] for name in ("MERT-v1", "CultureMERT-TA")]
    assert [(row.roc_auc, row.pr_auc) for row in probes] == [(0.857, 0.565), (0.873, 0.573)]


def test_a_run_stands_among_the_published_results(run, tmp_path):
    cells = [make_job("lyra", "musicnn"), make_job("made/greek", "musicnn")]
    workdir = write_run(tmp_path, [write_cell(tmp_path, cell) for cell in cells])
    told = run("compare", workdir, "--published", "--json")
    assert told.exit_code == 0, told.stderr
    rows = json.loads(told.stdout)["results"]
    assert {row["target"] for row in rows} == {"lyra"} and len(rows) == 13
    assert [row["roc_auc"] for row in rows] == sorted((r["roc_auc"] for r in rows), reverse=True)
    assert [row["system"] for row in rows if row["measured"] != "published"] == ["musicnn"]
    told = run("compare", workdir / "results.json", "--published")
    assert "CultureMERT-TA-95M" in told.stdout and DIFFERENCES[0] in told.stdout


def test_what_is_not_on_these_corpora_is_told(run, tmp_path):
    workdir = write_run(tmp_path, [write_cell(tmp_path, make_job("made/a", "fcn"))])
    told = run("compare", workdir, "--published")
    assert told.exit_code == 2 and "has no result on a corpus with published ones" in told.stderr
    for words in ((workdir,), (workdir, workdir, "--published")):
        told = run("compare", *words)
        assert told.exit_code == 2 and "or --published alone" in told.stderr
    failed = {"target": "lyra", "model": "fcn", "error": "no memory"}
    assert compare_with_published([failed]) == []
