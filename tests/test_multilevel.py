"""Lee et al., MIREX 2017: networks of two sources, their last three layers, one machine above."""

import functools
import json
import math
import re
import shutil

import jax
import numpy as np
import pytest
from compact_models import QUICK
from sklearn.svm import SVC
from toy_recordings import make_folder

from musrep_jax.command_line import main, parse_command_line
from musrep_jax.config import ConfigError, given
from musrep_jax.data.datasets import open_dataset
from musrep_jax.inference.tagger import load_encoder
from musrep_jax.models import create_model
from musrep_jax.models.sample_cnn import MIREX_2017
from musrep_jax.schema.names import check_names
from musrep_jax.tasks import load_task
from musrep_jax.tasks.probe.sources import expand_sources
from musrep_jax.tasks.probe.task import ProbeTask
from musrep_jax.tasks.settings import build_model
from musrep_jax.tasks.tagging.features import are_candidates, load_features
from musrep_jax.training.optim import make_optimizer
from musrep_jax.weights.state_dicts import variable_shapes

SMALL = {**MIREX_2017, "n_channels": 2, "channel_factors": (1, 1, 2, 2), "num_samples": 81}
"""Five layers: 27, 9, 3, 1 and 1 steps."""


def convolve(x, kernel, padding, stride=1):
    """Returns a convolution as a plain loop over steps; x is (time, in)."""
    x = np.pad(x, ((padding, padding), (0, 0)))
    starts = range(0, len(x) - len(kernel) + 1, stride)
    return np.stack([np.einsum("ti,tio->o", x[s : s + len(kernel)], kernel) for s in starts])


def test_last_layers_of_the_submission_equal_a_plain_loop():
    """The first convolution has no padding; the maximum over time is that before the pooling."""
    model = create_model("sample_cnn", 3, SMALL)
    rng = np.random.default_rng(0)
    audio = rng.normal(size=81)
    shapes = jax.eval_shape(
        lambda inputs: model.init(jax.random.key(0), inputs, train=False), model.batch_shape(1)
    )
    variables = jax.tree.map(lambda leaf: rng.uniform(0.2, 1, leaf.shape), shapes)
    variables["params"] = jax.tree.map(lambda leaf: leaf - 0.6, variables["params"])
    x, maxima, before = audio[:, None], [], []
    for number in range(1, 6):
        values, moments = (variables[kind][f"layer{number}"] for kind in ("params", "batch_stats"))
        padding, stride = (0, 3) if number == 1 else (len(values["conv"]["kernel"]) // 2, 1)
        x = convolve(x, values["conv"]["kernel"], padding, stride) + values["conv"]["bias"]
        x = (x - moments["bn"]["mean"]) / np.sqrt(moments["bn"]["var"] + 1e-5)
        x = np.maximum(x * values["bn"]["scale"] + values["bn"]["bias"], 0)
        before.append(x.max(axis=0))
        x = x.reshape(-1, 3, x.shape[1]).max(axis=1) if 1 < number < 5 else x
        maxima.append(len(x))
    assert maxima == [27, 9, 3, 1, 1]
    names = ("layer_3", "layer_4", "layer_5")
    audio = audio[None].astype(np.float32)
    run = functools.partial(model.apply, names=names, pool="max", method="outputs")
    found = jax.jit(run, compiler_options=QUICK)(variables, audio)
    for name, wanted in zip(names, before[2:], strict=True):
        np.testing.assert_allclose(found[name][0], wanted, rtol=1e-4, atol=1e-5)
    assert len(np.unique(np.concatenate(before[2:]))) > 6  # of 12; the others are cut by ReLU


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders that networks are trained on, and one that is probed; data are built beside."""
    path = tmp_path_factory.mktemp("multilevel")
    for name, seconds in (("near", 0.6), ("far", 0.8), ("target", 1.0)):
        make_folder(path / name, seconds=seconds)
    return path


def flags_of(folders):
    return [
        "main.py", "--config=probe:multilevel_smoke", f"--config.data.data_dir={folders}/data",
        f"--config.source=audio_folder:{folders}/near,audio_folder:{folders}/far",
        f"--config.target=audio_folder:{folders}/target", "--config.probe.labels=",
        "--config.evaluation.num_chunks=12", "--config.train.num_devices=1",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def workdir(folders, tmp_path_factory):
    """The whole system on them: two trainings, three features."""
    path = tmp_path_factory.mktemp("run")
    assert main([*flags_of(folders), f"--workdir={path}"]) == 0
    return path


def read_results(workdir):
    return json.loads((workdir / "results.json").read_text(encoding="utf-8"))["cells"]


def embed_by_hand(export, dataset):
    """Returns the last three layers, maximum over time, mean over 12 segments, (tracks, 12)."""
    encoder, rows = load_encoder(export), []
    for split in ("train", "validation", "test"):
        tracks = dataset.tracks(split)
        for number, track in enumerate(tracks.track_ids):
            audio = tracks.store.read(int(tracks.rows[number])).astype(np.float32) / 32768
            hop = (len(audio) - 729) // 11
            segments = [audio[hop * k : hop * k + 729] for k in range(12)]
            names = ["layer_5", "layer_6", "layer_7"]
            found = encoder.chunk_outputs(segments, names, pool="max")
            rows.append((track, np.concatenate([found[n].mean(axis=0) for n in names])))
    return dict(rows)


def test_scores_are_those_of_a_machine_on_layers_computed_by_hand(folders, workdir):
    results = {r["features"]: r for r in read_results(workdir) if r["task"] == "probe"}
    both = next(text for text in results if "+" in text)
    assert [r["num_features"] for r in results.values()].count(12) == 2
    assert results[both]["num_features"] == 24
    dataset = open_dataset(
        f"audio_folder:{folders}/target", data_dir=folders / "data", sample_rate=16000
    )
    exports = [
        workdir / r["export"]
        for name in ("near", "far")
        for r in read_results(workdir)
        if r["task"] == "tagging" and r["target"].endswith(name)
    ]
    by_track = [embed_by_hand(export, dataset) for export in exports]
    kept = np.load(workdir / "cells" / results[both]["key"] / "scores.npz")
    features = np.array([np.concatenate([one[t] for one in by_track]) for t in kept["track_ids"]])
    classes = kept["labels"].argmax(axis=1)
    for fold in range(3):
        train, test = kept["folds"] != fold, kept["folds"] == fold
        assert not set(kept["groups"][train]) & set(kept["groups"][test])
        scaled = (features - features[train].mean()) / features[train].std()
        machine = SVC(C=1, gamma=1 / 24).fit(scaled[train], classes[train])
        decisions = machine.decision_function(scaled[test])
        assert np.ptp(decisions) > 0.1
        np.testing.assert_allclose(kept["scores"][test, 1], decisions, atol=1e-4)
    assert np.std(features[:, :12]) > 0 and not np.array_equal(features[:, :12], features[:, 12:])


def test_table_names_sources_alone_and_together(workdir):
    text = (workdir / "results.md").read_text(encoding="utf-8")
    cells = {line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")}
    names = ("near+far", "near", "far")
    assert {f"trained:{name}[-3,-2,-1,max]" for name in names} <= cells
    assert "chance: random guesses" in text and "Confusion" in text


def test_networks_are_trained_once_and_before_they_are_needed():
    config = parse_command_line(["main.py", "--config=probe:multilevel", "--config.seeds=0,1"])[0]
    jobs = ProbeTask().jobs(config)
    trained = [job for job in jobs if job.get("mode") == "scratch"]
    baselines = [job for job in jobs if job.get("mode") == "baseline"]
    probes = [job for job in jobs if job.task == "probe"]
    assert len(trained) == len(baselines) == 2 * 2  # sources, seeds
    assert len(probes) == 7 * 2 * 2  # features, classifiers, seeds
    for job in probes:
        needed = {(key.rpartition("seed")[2], key.split("-")[0]) for key in job.needs}
        named = [n for n in ("western", "carnatic") if n in job["features"]]
        assert needed == {(str(job.seed), f"synthetic_cultures_{name}") for name in named}
    assert [job.key for job in jobs[:8]] == [job.key for job in (*baselines, *trained)]


def test_the_paper_s_form_has_the_published_network_and_five_stages():
    flags = ("--config.source=audio_folder:a,audio_folder:b", "--config.target=audio_folder:c")
    config = parse_command_line(["main.py", "--config=probe:multilevel_paper", *flags])[0]
    job = next(job for job in ProbeTask().jobs(config) if job.get("mode") == "scratch")
    settings = load_task(job.task).make_settings(config, job)
    model = build_model(settings, 50)
    assert (model.num_samples, model.sample_rate) == (59049, 22050)
    shapes = variable_shapes(model)
    assert sum(math.prod(s.shape) for path, s in shapes.items() if path[0] == "params") == 1_462_322
    assert (settings.evaluation.num_chunks, settings.evaluation.reaches_end) == (12, True)
    optimizer = make_optimizer(given(settings.optimizer), steps_per_epoch=10)
    assert (optimizer.plateau.drop_after, optimizer.plateau.reload_best) == (3, True)
    rates = [float(optimizer.plateau.learning_rate(0, drops)) for drops in range(5)]
    np.testing.assert_allclose(rates, [0.01, 0.002, 0.0004, 0.00008, 0.000016], rtol=1e-6)
    assert (settings.optimizer.momentum or 0.9, settings.train.batch_size) == (0.9, 23)
    assert settings.train.evaluate_every_epochs == 1 and settings.train.select_by == "loss"


def test_sources_stand_for_all_of_them_and_each():
    assert expand_sources(["a+sources[1,max]"], ["x", "hub:b/c"]) == (
        "a+trained:x[1,max]+hub:b/c[1,max]", "a+trained:x[1,max]", "a+hub:b/c[1,max]",
    )  # fmt: skip
    assert expand_sources(["sources", "export:sources"], ["x"]) == ("trained:x", "export:sources")
    with pytest.raises(ConfigError, match="'sources', and source is empty"):
        expand_sources(["sources"], [])
    with pytest.raises(ConfigError, match="source names x, and no features do"):
        expand_sources(["a", "export:sources"], ["x"])
    with pytest.raises(
        ConfigError, match=r"source names 'audio_folder:a\+b'; .* rename the folder"
    ):
        expand_sources(["sources"], ["audio_folder:a+b"])


@pytest.mark.parametrize("name", ["trained:western[1]", "sources[1]"])
def test_features_that_nothing_trains_are_refused(name):
    with pytest.raises(ConfigError, match=r"which only configs/probe\.py trains"):
        load_features(name)
    assert not are_candidates(name)
    flags = ["main.py", "--config=probe:few_shot", f"--config.features={name}"]
    with pytest.raises(ConfigError, match=r"features names .*, which only configs/probe\.py"):
        check_names(parse_command_line(flags)[0])


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("target=synthetic_cultures/western", "which is also a target: the labels of its test"),
        ("model.name=sample_cnn,crnn", "features that are trained have one model"),
        ("source=", "features names 'sources.*, and source is empty"),
        ("source=synthetic_cultures/westrn", "source names 'synthetic_cultures/westrn'"),
        ("features=trained:nowhere[1]", "features names 'nowhere'"),
        ("features=trained[1]", "features is 'trained"),
    ],
)
def test_wrong_sources_are_one_sentence_before_anything_is_done(tmp_path, capsys, flag, words):
    flags = (f"--workdir={tmp_path / 'run'}", "--config.train.num_devices=1", f"--config.{flag}")
    assert main(["main.py", "--config=probe:multilevel_smoke", *flags]) == 2
    assert re.search(f"error: .*{words}.*", capsys.readouterr().err.strip().splitlines()[-1])
    assert not (tmp_path / "run").exists()


def test_the_same_folder_by_another_path_is_the_target_too(folders, tmp_path, capsys):
    flags = [*flags_of(folders), f"--config.source=audio_folder:{folders}/near/../target"]
    assert main([*flags, f"--workdir={tmp_path / 'run'}"]) == 2
    assert "which is also a target" in capsys.readouterr().err


@pytest.fixture(scope="module")
def mixed(folders, tmp_path_factory):
    """A third of the target's tracks, under other names, beside recordings of its own."""
    folder = make_folder(tmp_path_factory.mktemp("copies") / "mixed", seconds=0.7)
    lines = (folders / "target" / "labels.tsv").read_text("utf-8").splitlines()[1:]
    with (folder / "labels.tsv").open("a", encoding="utf-8") as table:
        for path, labels, group in (line.split("\t") for line in lines[::3]):
            shutil.copy(folders / "target" / path, folder / f"copy_of_{path}")
            table.write(f"copy_of_{path}\t{labels}\tother {group}\n")
    return folder


COPIES = (
    r"(\d+) of {} test tracks of audio_folder:target are also in audio_folder:mixed, which the "
    r"network was trained on, such as '(\w+.wav)' \('copy_of_\2' there\)"
)


def test_a_copy_of_target_tracks_in_a_source_is_refused_whatever_it_is_called(
    folders, mixed, tmp_path, capsys
):
    flags = [
        *flags_of(folders), f"--config.source=audio_folder:{mixed}",
        "--config.features=sources[-1,max]", f"--workdir={tmp_path / 'run'}",
    ]  # fmt: skip
    assert main(flags) == 1
    found = re.search(COPIES.format(24), capsys.readouterr().out)
    assert found and 1 <= int(found[1]) <= 8


@pytest.mark.slow
def test_a_transfer_from_copies_of_test_tracks_is_refused_and_scratch_is_not(
    folders, mixed, tmp_path, capsys
):
    """And features that an export learned from the probed tracks are said to be so."""
    flags = [
        f"--config.data.data_dir={folders}/data", "--config.train.num_devices=1",
        f"--config.target=audio_folder:{folders}/target", f"--config.source=audio_folder:{mixed}",
    ]  # fmt: skip
    few = (
        "--config.transfer.modes=scratch,output_layer", "--config.train.num_steps=1",
        "--config.model.name=sample_cnn", "--config.evaluation.baseline=False",
        "--config.model.n_channels=2", "--config.model.num_samples=729",
        "--config.model.channel_factors=1,1,2,2,2,2",
    )  # fmt: skip
    run = tmp_path / "run"
    assert main(["main.py", "--config=transfer:smoke", *flags, *few, f"--workdir={run}"]) == 1
    tested = len(
        open_dataset(f"audio_folder:{folders}/target", data_dir=folders / "data", sample_rate=16000)
        .tracks("test")
    )  # fmt: skip
    assert re.search(COPIES.format(tested), capsys.readouterr().out)
    results = {(r["target"][-6:], r["mode"]): r for r in read_results(run)}
    assert results["target", "output_layer"]["error"]
    assert results["target", "scratch"]["error"] is None
    export = run / results["target", "scratch"]["export"]
    for protocol in ("folds", "split"):
        probed = tmp_path / protocol
        flags[-1] = f"--config.features=export:{export}"
        more = (f"--config.probe.protocol={protocol}", "--config.similarity=")
        assert main(["main.py", "--config=probe:smoke", *flags, *more, f"--workdir={probed}"]) == 0
        (result,) = read_results(probed)
        is_said = any("was trained on audio_folder:target" in note for note in result["notes"])
        assert is_said == (protocol == "folds")
