"""Configs: overrides, precedence, and one clear sentence for every mistake."""

import pytest
from musrep_jax.configs import common

from musrep_jax.config import (
    ConfigError,
    differences,
    list_configs,
    parse_command_line,
    plain,
)
from musrep_jax.models import ALIASES, MODELS, model_settings
from musrep_jax.tasks.settings import build_model, duration, model_deviations, settings_of_job
from musrep_jax.tasks.tagging.matrix import make_job

TRANSFER = "--config=configs/transfer.py"


@pytest.fixture(autouse=True)
def in_repository_root(repository, monkeypatch):
    monkeypatch.chdir(repository)


def parse(*flags):
    return parse_command_line(["main.py", *flags])


def test_overrides_reach_the_settings_of_a_cell():
    config, workdir = parse(TRANSFER, "--config.model.n_channels=24", "--workdir=W")
    settings = settings_of_job(config, make_job("synthetic_cultures/makam", "vgg_ish"))
    assert workdir == "W"
    assert settings.model.n_channels == 24
    assert model_deviations(settings)["n_channels"] == 24


def test_fields_may_be_said_before_the_file():
    config, _ = parse("--config.seeds=3", TRANSFER)
    assert config.seeds == "3"


def test_a_config_of_the_package_goes_by_its_name_wherever_one_is(monkeypatch, tmp_path):
    by_file, _ = parse("--config=configs/transfer.py:smoke")
    monkeypatch.chdir(tmp_path)
    for words in (["--config=transfer:smoke"], ["--workdir", "W", "--config", "transfer:smoke"]):
        by_name, _ = parse(*words)
        assert plain(by_name) == plain(by_file)
    assert list_configs() == [
        "compare",
        "demo",
        "harmonic",
        "joint_embedding",
        "probe",
        "robustness",
        "student",
        "tagging",
        "transfer",
    ]


def test_compact_widths_are_deviations_and_full_size_is_one_flag_away():
    cell = make_job("synthetic_cultures/makam", "vgg_ish")
    compact = settings_of_job(parse(TRANSFER)[0], cell)
    full = settings_of_job(parse(TRANSFER, "--config.model.size=full")[0], cell)
    assert build_model(compact, 3).n_channels == common.COMPACT["vgg_ish"]["n_channels"]
    assert model_deviations(full) == {}
    assert build_model(full, 3).n_channels == 128


def test_precedence_model_then_data_set_then_both_then_command_line():
    paper = "--config=configs/transfer.py:paper"
    config, _ = parse(paper)
    ast = make_job("carnatic", "ast")
    assert settings_of_job(config, ast).train.num_epochs == 70
    assert settings_of_job(config, ast).train.max_seconds == 330.0
    assert settings_of_job(config, ast).train.batch_size == 12
    assert settings_of_job(config, ast).evaluation.aggregate == "logit"
    assert settings_of_job(config, make_job("fma", "vgg_ish")).train.num_epochs == 100
    assert settings_of_job(config, make_job("fma", "vgg_ish")).optimizer.name == "adam_sgd"
    config, _ = parse(paper, "--config.train.num_epochs=3", "--config.optimizer.name=adam")
    assert settings_of_job(config, ast).train.num_epochs == 3
    assert settings_of_job(config, ast).optimizer.name == "adam"


@pytest.mark.parametrize("name", [*MODELS, *ALIASES])
def test_every_model_can_be_named_without_editing_a_file(name):
    config, _ = parse(TRANSFER, f"--config.model.name={name}")
    settings = settings_of_job(config, make_job("synthetic_cultures/makam", name))
    assert set(model_deviations(settings)) <= set(model_settings(name))
    assert build_model(settings, 7).num_classes == 7
    assert ALIASES.get(name, name) in common.COMPACT


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ((), "No config was given"),
        (("--config=configs/transfr.py",), "does not exist"),
        (("--config=transfr",), "The config is 'transfr'. Did you mean 'transfer'?"),
        ((f"{TRANSFER}:smok",), "smoke and paper, not 'smok'"),
        ((TRANSFER, "--config.modle.name=x"), "no field 'modle'. Did you mean 'model'?"),
        ((TRANSFER, "--config.model.nmae=x"), "no field 'nmae'. Did you mean 'name'?"),
        ((TRANSFER, "--config.train.batch_size=many"), "batch_size=many"),
        ((TRANSFER, "--confg.seeds=1"), "confg"),
        ((TRANSFER, "extra"), "Unexpected argument 'extra'"),
    ],
)
def test_mistakes_get_one_sentence(flags, sentence):
    with pytest.raises(ConfigError) as error:
        parse(*flags)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_wrong_deviation_in_a_config_file_is_named():
    config, _ = parse(TRANSFER)
    with config.unlocked():
        config.for_model = {"vgg_ish": {"train": {"num_epoch": 3}}}
    with pytest.raises(ConfigError, match=r"for_model.vgg_ish.train.num_epoch is not a setting"):
        settings_of_job(config, make_job("synthetic_cultures/makam", "vgg_ish"))


def test_a_setting_that_the_model_does_not_have_is_named():
    config, _ = parse(TRANSFER, "--config.model.hidden_size=3")
    settings = settings_of_job(config, make_job("synthetic_cultures/makam", "vgg_ish"))
    with pytest.raises(ValueError, match="has no setting 'hidden_size'"):
        build_model(settings, 3)


def test_durations_come_in_steps_or_epochs_but_not_both():
    assert duration(7, None, 10, "num") == 7
    assert duration(None, 3, 10, "num") == 30
    with pytest.raises(ConfigError, match="both were given"):
        duration(1, 1, 10, "num")
    with pytest.raises(ConfigError, match="neither was given"):
        duration(None, None, 10, "num")
    with pytest.raises(ConfigError, match="at least 1"):
        duration(0, None, 10, "num")


def test_plain_configs_compare_by_field():
    one, _ = parse(TRANSFER)
    two, _ = parse(TRANSFER, "--config.train.batch_size=8")
    assert differences(plain(one), plain(one)) == []
    assert differences(plain(one), plain(two)) == ["overrides.train", "train.batch_size"]
