"""`musrep merge`: averages, task vectors, labels by name, a factor chosen on validation."""

import functools
import json

import numpy as np
import pytest
from compact_models import COMPACT, draw_variables
from flax import traverse_util
from toy_exports import card_of
from toy_recordings import make_folder
from typer.testing import CliRunner

from musrep_jax.cli import app
from musrep_jax.cli.merge import UNRELATED
from musrep_jax.config import ConfigError
from musrep_jax.inference.tagger import build_tagger, load_encoder
from musrep_jax.models import create_model
from musrep_jax.training.checkpoints import save_export
from musrep_jax.weights.merging import (
    Source,
    check_mergeable,
    check_weights,
    measure_relation,
    merge,
)

NAME = "musicnn"


@functools.cache
def draw(model, **settings):
    return draw_variables(create_model(model, 1, COMPACT[model] | settings))


def make(labels=(), *, shift=0.0, model=NAME, settings=None, var=1.0, **facts):
    """Returns variables and card of a model that is one random start plus a number everywhere."""
    settings = settings or {}
    variables = draw(model, **settings)
    params = dict(variables["params"])
    width = len(params.pop("head")["kernel"])
    params = {key: add(value, shift) for key, value in params.items()}
    if labels:
        column = np.arange(len(labels), dtype=np.float32) + shift
        params["head"] = {
            "kernel": np.tile(column, (width, 1)),
            "bias": np.full(len(labels), shift, np.float32),
        }
    variables = {"params": params, "batch_stats": set_variance(variables["batch_stats"], var)}
    tagger = create_model(model, len(labels), COMPACT[model] | settings)
    return variables, card_of(tagger, model, labels, **facts)


def write(folder, name, *words, **facts):
    return save_export(folder / name, *make(*words, **facts))


def source(name, *words, **facts):
    return Source(name, build_tagger(*make(*words, **facts), name))


def add(tree, shift):
    if isinstance(tree, dict):
        return {key: add(value, shift) for key, value in tree.items()}
    return np.asarray(tree) + np.float32(shift)


def set_variance(tree, var):
    if isinstance(tree, dict):
        return {
            key: np.full_like(value, var) if key == "var" else set_variance(value, var)
            for key, value in tree.items()
        }
    return np.asarray(tree)


def run(*words):
    return CliRunner().invoke(app, ["merge", *map(str, words)])


def backbone_leaf(path):
    return np.asarray(load_encoder(path).variables["params"]["dense1"]["kernel"])


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    return {
        "base": write(folder, "base"),
        "a": write(folder, "a", ("ney", "oud"), shift=0.25, licence="MIT"),
        "b": write(folder, "b", ("oud", "daf", "tar"), shift=-0.5, var=0.25),
    }


def test_an_average_with_the_labels_of_both_by_name(exports, tmp_path):
    out = tmp_path / "out"
    result = run(exports["a"], exports["b"], "--weights", "0.8,0.2", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["labels"] == ["ney", "oud", "daf", "tar"]
    assert told["correlation"] == pytest.approx(1.0)
    start = backbone_leaf(exports["base"])
    np.testing.assert_allclose(backbone_leaf(out), start + 0.8 * 0.25 - 0.2 * 0.5, atol=1e-6)
    merged = load_encoder(out)
    head = merged.variables["params"]["head"]
    # ney is the first column of a; oud is the second of a and the first of b; the rest are b's.
    np.testing.assert_allclose(head["kernel"][0], [0.25, (1.25 - 0.5) / 2, 0.5, 1.5], atol=1e-6)
    np.testing.assert_allclose(head["bias"], [0.25, -0.125, -0.5, -0.5], atol=1e-6)
    data = merged.card["data"]
    assert data["licence"] == "MIT; CC0-1.0"
    assert "Merged from 0.8 x made_up, 0.2 x made_up, averaged" in data["description"]
    assert [part["weight"] for part in merged.card["training"]["merged"]] == [0.8, 0.2]
    assert merged.labels == ("ney", "oud", "daf", "tar")


def test_task_vectors_are_added_to_their_start_and_variances_stay_positive():
    """0.2 of each: 1 - 0.2 x 2 x 0.75 of a variance of 1; 1 of each would be 1 - 2 x 0.75."""
    base, parts = (
        source("base"),
        [source("b", shift=-0.5, var=0.25), source("c", shift=1.0, var=0.25)],
    )
    start = base.loaded.variables["params"]["dense1"]["kernel"]
    for weight, variance in ((0.2, 0.7), (1.0, 0.25)):
        weights = check_weights((weight,), 2, has_base=True)
        merged = merge(parts, weights, base)
        found = merged.variables["params"]["dense1"]["kernel"]
        np.testing.assert_allclose(found, start + weight * (-0.5 + 1.0), atol=1e-6)
        for path, value in traverse_util.flatten_dict(merged.variables).items():
            if path[-1] == "var":
                np.testing.assert_allclose(value, variance, atol=1e-6)
        assert merged.labels == () and "head" not in merged.variables["params"]


def test_a_factor_is_chosen_on_validation(exports, tmp_path):
    folder = make_folder(tmp_path / "sounds", seconds=0.8)
    result = run(
        exports["b"], "--base", exports["base"], "--data", f"audio_folder:{folder}",
        "--sweep", "0,0.5", "--data-dir", tmp_path / "data", "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    scores = told["validation_roc_auc"]
    assert list(scores) == ["0", "0.5"]
    assert all(0 <= score <= 1 for score in scores.values())
    chosen = 0.5 if scores["0.5"] > scores["0"] else 0.0
    assert list(told["weights"].values()) == [chosen]
    expected = backbone_leaf(exports["base"]) - 0.5 * chosen
    np.testing.assert_allclose(backbone_leaf(tmp_path / "out"), expected, atol=1e-6)
    card = json.loads((tmp_path / "out" / "tagger.json").read_text())
    assert card["training"]["swept"]["validation_roc_auc"] == scores


def test_what_cannot_be_merged_is_refused_by_name():
    base, tagger = source("base"), source("a", ("ney", "oud"))
    for one, other, sentence in (
        (
            base,
            source("wide", settings={"dense_width": 13}),
            "base and wide .* dense_width is 12 and 13",
        ),
        (base, source("kind", model="vgg_ish"), "one is 'musicnn' and the other 'vgg_ish'"),
        (
            tagger,
            source("s", ("ney", "oud"), output="softmax"),
            "output is 'sigmoid' and 'softmax'",
        ),
    ):
        with pytest.raises(ConfigError, match=sentence):
            check_mergeable([one, other])
    check_mergeable([base, tagger, source("quiet", settings={"dropout_rate": 0.25})])
    for weights, sentence in (
        ((0.5, 0.6), "sum to 1, these to 1.1"),
        ((1.0,), "has 1 numbers and there are 2 exports"),
        ((np.nan, 1.0), "must be finite"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            check_weights(weights, 2, has_base=False)


def test_the_command_line_refuses_in_one_sentence(exports, tmp_path):
    a, b = exports["a"], exports["b"]
    for words, sentence in (
        ((a, b, "--weights", "one,two"), "'one,two'; it must be numbers separated by commas"),
        ((a, b, b, "--data", "fma"), "an average of 3 exports are not swept"),
        ((a, tmp_path / "none"), "There is no exported model at"),
    ):
        result = run(*words, "--out", tmp_path / "out")
        assert result.exit_code == 2, (words, result.output)
        assert sentence in result.output and "\n" not in result.output.strip()
    assert not (tmp_path / "out").exists()


def test_models_that_share_no_start_do_not_correlate():
    base = source("base")
    random = np.random.default_rng(5)
    shuffled = {
        path: random.permutation(value.ravel()).reshape(value.shape)
        if path[-1] == "kernel"
        else value
        for path, value in traverse_util.flatten_dict(base.loaded.variables).items()
    }
    other = build_tagger(traverse_util.unflatten_dict(shuffled), base.loaded.card, "other")
    assert measure_relation([base, source("near", shift=0.1)]) == pytest.approx(1.0)
    assert measure_relation([base, Source("other", other)]) < UNRELATED
