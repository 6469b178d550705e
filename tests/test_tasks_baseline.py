"""The baseline: its statistics by hand, its jobs, and what it says of trained models."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from musrep_jax.command_line import main
from musrep_jax.config import parse_command_line
from musrep_jax.inference.tagger import load_tagger
from musrep_jax.models import create_model
from musrep_jax.reporting.verdict import describe_verdict
from musrep_jax.tasks.tagging.matrix import jobs_of_config, make_job, plan_baselines
from musrep_jax.tasks.tagging.task import TaggingTask


@pytest.mark.parametrize(("whole_frames", "num_heard", "counted"),
                         [(False, 6, (0, 6)), (True, 6, (1, 4)), (True, 9, (1, 7)),
                          (True, 4, (0, 4))])  # fmt: skip
def test_statistics_are_those_of_the_frames_that_are_heard(whole_frames, num_heard, counted):
    """The last windows reach into the padding; a recording of a few frames has no others."""
    settings = {"num_bands": 2, "n_mels": 4, "whole_frames": whole_frames}
    model = create_model("log_mel_statistics", 2, settings)
    level = np.random.default_rng(0).uniform(-60, 0, (1, 9, 4)).astype(np.float32)
    level[:, num_heard:] = -100.0  # the padding of a short recording
    variables = model.init(jax.random.key(0), jnp.asarray(level), train=False)
    output = model.apply(variables, jnp.asarray(level), train=False)
    bands = level[0, slice(*counted)].reshape(-1, 2, 2).mean(axis=2)
    expected = np.concatenate(
        [bands.mean(axis=0), bands.std(axis=0), np.abs(np.diff(bands, axis=0)).mean(axis=0)]
    )
    np.testing.assert_allclose(output.intermediates["statistics"][0], expected, rtol=1e-5)


def test_silence_has_statistics_and_gradients():
    model = create_model("log_mel_statistics", 2)
    silence = jnp.full((2, 10, 128), -100.0)
    variables = model.init(jax.random.key(0), silence, train=False)

    def total(level):
        return model.apply(variables, level, train=False).logits.sum()

    assert np.isfinite(jax.jit(jax.grad(total))(silence)).all()


def test_one_baseline_per_data_set_seed_and_size():
    jobs = [
        make_job("a", "vgg_ish"), make_job("a", "fcn"), make_job("b", "fcn", "all_layers", "a"),
        make_job("b", "fcn", "output_layer", "a"), make_job("b", "fcn", seed=1),
        make_job("b", "fcn", num_train_tracks=5),
    ]  # fmt: skip
    made = [(j["target"], j.seed, j["num_train_tracks"]) for j in plan_baselines(jobs)]
    assert made == [("a", 0, 0), ("b", 0, 0), ("b", 1, 0), ("b", 0, 5)]


def test_it_keeps_the_front_end_and_drops_what_other_models_have(tmp_path):
    words = ["--config.model.n_channels=8", "--config.model.n_mels=96", "--config.model.name=fcn"]
    config, _ = parse_command_line(["main.py", "--config=transfer", *words])
    job = next(job for job in jobs_of_config(config) if job["mode"] == "baseline")
    settings = TaggingTask().make_settings(config, job)
    assert settings.model.n_mels == 96 and settings.model.n_channels is None
    assert settings.model.whole_frames
    config, _ = parse_command_line(
        ["main.py", "--config=transfer", "--config.model.name=cnnsa,fcn"]
    )
    given = TaggingTask().make_settings(config, job).model.sample_rate
    assert given in (None, create_model("cnnsa", 1).sample_rate)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    """A training of one step, with its baseline."""
    folder = tmp_path_factory.mktemp("baseline")
    code = main([
        "main.py", "--config=transfer:smoke", "--config.evaluation.baseline=true",
        "--config.evaluation.num_bootstrap=200", f"--workdir={folder / 'run'}",
        f"--config.data.data_dir={folder / 'data'}", "--config.model.name=sample_cnn",
        "--config.transfer.modes=scratch",
    ])  # fmt: skip
    assert code == 0
    return folder / "run"


def test_it_stands_beside_every_training_and_is_said_first(run):
    cells = json.loads((run / "results.json").read_text())["cells"]
    modes = sorted(cell["mode"] for cell in cells)
    assert modes == ["baseline", "scratch"]
    baseline, trained = sorted(cells, key=lambda cell: cell["mode"])
    assert baseline["model"] == "log_mel_statistics" and baseline["num_steps"] == 0
    difference = trained["versus_baseline"]["roc_auc"]["difference"]
    assert (difference > 0) == (trained["roc_auc"] > baseline["roc_auc"])  # of the labels tested
    assert "versus_baseline" not in baseline
    text = (run / "results.md").read_text()
    assert text.splitlines()[2].startswith("All trained models: better than the baseline")


def test_its_export_is_an_ordinary_model(run):
    (export,) = run.glob("exports/*baseline*")
    tagger = load_tagger(export)
    scores = np.load(next(run.glob("cells/*baseline*")) / "scores.npz")
    assert scores["scores"].shape[1] == len(tagger.labels)
    tags = tagger.predict(np.random.default_rng(0).uniform(-0.1, 0.1, 32000).astype("f4"), 16000)
    assert list(tags) == list(tagger.labels) and all(0 < p < 1 for p in tags.values())


def make_cell(source=None, mode="scratch", **differences):
    entries = {
        field: {"roc_auc": {"difference": difference, "ci": None, "p_value": p}}
        for field, (difference, p) in differences.items()
    }
    return {"source": source, "target": "b", "model": "m", "mode": mode, **entries}


def test_the_verdict_counts_what_is_shown():
    cells = [
        make_cell(versus_baseline=(0.1, 0.01)),
        make_cell("a", "all_layers", versus_scratch=(0.2, 0.001), versus_baseline=(0.1, 0.2)),
        make_cell("a", "output_layer", versus_scratch=(-0.2, 0.04), versus_baseline=(-0.1, 0.0)),
        make_cell("a", "output_layer", versus_scratch=(-0.2, 0.05)),
        make_cell(mode="baseline"),
    ]
    assert describe_verdict(cells) == [
        "From a: better than training from scratch in 1 of 3, worse in 1, undecided in 1.",
        "All trained models: better than the baseline (log-mel statistics, linear model) in 1 of "
        "3, worse in 1, undecided in 1.",
    ]
    (_, last) = describe_verdict([make_cell(versus_baseline=(-0.1, 0.01))])
    assert last.startswith("No trained model is shown to beat the baseline here")
    assert describe_verdict([make_cell()]) == []


def test_cepstral_coefficients_are_those_of_scipy():
    from scipy.fft import dct

    model = create_model("log_mel_statistics", 2)
    log_mel = np.random.default_rng(0).normal(-40, 10, (1, 30, 128)).astype(np.float32)
    log_mel[:, 25:] = -100.0  # silence at the end does not count
    variables = model.init(jax.random.key(0), log_mel, train=False)
    found = model.apply(variables, log_mel, ("mfcc",), train=False, method="outputs")["mfcc"][0]
    cepstrum = dct(log_mel[0, :25].astype(float), norm="ortho", axis=1)[:, :20]
    steps = np.diff(cepstrum, axis=0)
    parts = [cepstrum.mean(axis=0), cepstrum.std(axis=0), steps.mean(axis=0), steps.std(axis=0)]
    np.testing.assert_allclose(found, np.concatenate(parts), atol=2e-3)
