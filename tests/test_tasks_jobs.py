"""The plan of an experiment."""

import pytest

from musrep_jax.config import ConfigError, parse_command_line
from musrep_jax.experiments.shares import JobShard
from musrep_jax.tasks.jobs import strip_parents
from musrep_jax.tasks.settings import parse_integers
from musrep_jax.tasks.tagging.matrix import MODES, jobs_of_config, make_job, plan_jobs


def plan(**changes):
    arguments = dict(
        sources=["s/west"], targets=["s/east"], models=["vgg_ish"], modes=MODES, seeds=[0]
    )
    return plan_jobs(**(arguments | changes))


def test_a_source_is_trained_on_all_tracks_before_what_starts_from_it():
    jobs = plan(num_train_tracks=(10, 0))
    assert jobs[0] == make_job("s/west", "vgg_ish")
    assert len(jobs) == len(set(jobs)) == 1 + 2 * 3
    places = {job.key: place for place, job in enumerate(jobs)}
    for job in jobs:
        assert all(places[key] < places[job.key] for key in job.needs)


def test_the_full_matrix_has_no_cell_twice_and_none_onto_itself():
    names = ["a/x", "a/y", "a/z"]
    jobs = plan(sources=names, targets=names, seeds=[0, 1], models=["vgg_ish", "musicnn"])
    assert len(jobs) == len(set(jobs)) == 2 * 2 * (3 + 3 * 2 * 2)
    assert all(job["source"] != job["target"] for job in jobs)


def test_scratch_alone_needs_no_source():
    assert plan(sources=[], modes=["scratch"]) == [make_job("s/east", "vgg_ish")]
    assert plan(modes=["scratch"]) == [make_job("s/east", "vgg_ish")]


def test_a_model_that_stands_ready_is_a_source_without_a_cell_and_brings_its_architecture():
    ready = "export:/some/where"
    jobs = plan(sources=["s/west", ready], architectures={ready: "fcn"})
    assert [(job["source"], job["model"], job["mode"]) for job in jobs] == [
        (None, "vgg_ish", "scratch"), (None, "vgg_ish", "scratch"),
        ("s/west", "vgg_ish", "output_layer"), ("s/west", "vgg_ish", "all_layers"),
        (ready, "fcn", "output_layer"), (ready, "fcn", "all_layers"),
    ]  # fmt: skip
    assert jobs[-1].needs == ()


def test_sources_say_which_models_are_trained_beside_them():
    def models_of(*flags):
        words = ("--config.source=pretrained:vgg-mtt,pretrained:musicnn-msd", *flags)
        config = parse_command_line(["main.py", "--config=configs/transfer.py", *words])[0]
        jobs = [job for job in jobs_of_config(config) if job["mode"] != "baseline"]
        return {(job["source"], job["model"]) for job in jobs}

    carried = {
        ("pretrained:vgg-mtt", "vgg_original"), ("pretrained:musicnn-msd", "musicnn_original"),
    }  # fmt: skip
    assert models_of() == carried | {(None, "vgg_original"), (None, "musicnn_original")}
    assert models_of("--config.model.name=fcn") == carried | {(None, "fcn")}
    only = "--config.transfer.modes=output_layer"
    assert models_of(only) == models_of(only, "--config.model.name=vgg_original") == carried
    with pytest.raises(ConfigError, match=r"model.name is 'fcn', but the sources bring the model"):
        models_of(only, "--config.model.name=fcn")


def test_keys_are_file_names_and_differ():
    jobs = plan(targets=["audio_folder:/a b/çalgı", "s/east"], num_train_tracks=(5, 0))
    keys = [job.key for job in jobs]
    assert len(set(keys)) == len(keys)
    assert all("/" not in key and ":" not in key and " " not in key for key in keys)
    assert strip_parents("audio_folder:/a b/çalgı/") == "audio_folder:çalgı"


def test_folders_that_would_be_written_under_one_name_are_refused():
    with pytest.raises(ConfigError, match="rename one of the folders"):
        plan(targets=["audio_folder:/one/music", "audio_folder:/two/music"])


def test_mistakes_get_one_sentence():
    with pytest.raises(ConfigError, match="Did you mean 'all_layers'"):
        plan(modes=["all_layer"])
    with pytest.raises(ConfigError, match="nothing to do"):
        plan(targets=["s/west"], modes=["all_layers"], sources=[])
    with pytest.raises(ConfigError, match="'x' is not a whole number"):
        parse_integers("1,x", "seeds")


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16, 100])
def test_shares_are_balanced_and_hold_every_cell_once(count):
    names = [f"a/{letter}" for letter in "uvwxyz"]
    jobs = plan(sources=names, targets=names, seeds=[0, 1], num_train_tracks=(10, 0))
    shares = [JobShard(number, count).of(jobs) for number in range(1, count + 1)]
    assert sorted(job.key for ours, _ in shares for job in ours) == sorted(job.key for job in jobs)
    sizes = [len(ours) for ours, _ in shares]
    assert max(sizes) - min(sizes) <= 1
    for ours, sources in shares:
        together = [job for job in jobs if job in {*ours, *sources}]
        assert not set(ours) & set(sources)
        places = {job.key: place for place, job in enumerate(together)}
        for job in ours:
            assert all(places[key] < places[job.key] for key in job.needs)
    needed = sum(len(sources) for _, sources in shares)
    assert needed < 2 * count  # what starts from one source stands together


@pytest.mark.parametrize("text", ["3-16", "0/4", "5/4", "1/0", "a/b", "1/2/3", "-1/4"])
def test_a_share_that_is_none_is_refused(text):
    with pytest.raises(ConfigError, match=r"such as 3/16"):
        JobShard.parse(text)
    assert JobShard.parse("") is None
    assert str(JobShard.parse(" 3/16")) == "3/16"
