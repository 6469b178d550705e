"""Every field of every config is judged before anything is done; data sets and folders too."""

import math

import ml_collections
import pytest

from musrep_jax.command_line import main
from musrep_jax.config import ConfigError, list_configs, parse_command_line
from musrep_jax.models import MODELS, model_settings
from musrep_jax.rules.model_settings import MODEL_FIELDS
from musrep_jax.schema.checks import check_config, check_jobs
from musrep_jax.schema.fields import BY_NAME, FIELDS
from musrep_jax.schema.names import check_names
from musrep_jax.tasks.tagging.matrix import jobs_of_config

ARGUMENTS = ("", ":smoke")
FURTHER = (
    "transfer:paper", "compare:thesis", "harmonic:keywords", "harmonic:music_published",
    "probe:few_shot", "probe:few_shot_smoke", "joint_embedding:paper",
    "tagging:transformer", "tagging:transformer_smoke",
    "student:transfer", "student:thesis",
)  # fmt: skip
BAD_VALUES = (
    0, -1, math.nan, math.inf, -math.inf, 10**9, 1e9, 10**400, 1.5, "no such word", "", " ", "nan",
    "-1", True, None, (), [], {}, (0,), (math.nan,), ("x",), object(),
)  # fmt: skip

FREE_TEXT = {
    "study": "read by its own parser", "source": "looked for among data sets",
    "target": "looked for among data sets", "data.name": "looked for among data sets",
    "data.path": "looked for on the disk", "data.data_dir": "made when data is built",
    "data.labels": "looked for in the table", "data.source_labels": "looked for in the table",
    "distributed.coordinator": "an address", "model.start": "looked for on the disk",
    "train.augment_responses": "looked for on the disk",
}  # fmt: skip
WORDS = {"no such word", "nan", "-1"}

ZERO = {
    "data.cache_megabytes", "data.num_workers", "data.seed", "distributed.process_id", "minutes",
    "evaluation.num_bootstrap", "evaluation.threshold", "train.checkpoint_every_minutes",
    "train.shard_params_over", "model.f_min", "optimizer.weight_decay", "optimizer.clip_norm",
    "model.first_padding", "optimizer.momentum", "optimizer.step_decay", "optimizer.num_drops",
    "optimizer.sgd_weight_decay", "optimizer.warmup_steps", "optimizer.decay_from_epoch",
    *(f"model.{name}" for name in MODEL_FIELDS if name.endswith("_rate") and name != "sample_rate"),
}  # fmt: skip
"""Fields of which 0 means something."""

MILLIARD = {
    "train.num_steps", "train.evaluate_every_steps", "train.patience", "train.log_every_steps",
    "train.shard_params_over", "data.seed", "optimizer.drop_after", "optimizer.warmup_steps",
    "optimizer.decay_from_epoch", "optimizer.dip_every", "optimizer.dip_until",
}  # fmt: skip
"""Whole numbers that may be as large as that."""

ONE_AND_A_HALF = {
    "train.checkpoint_every_minutes", "train.max_seconds", "minutes",
    "train.max_minutes", "train.mixup", "data.cache_megabytes",
    "data.options.synthetic_cultures.seconds", "model.f_min", "model.f_max",
    "model.initial_quality", "optimizer.learning_rate", "optimizer.weight_decay",
    "optimizer.clip_norm", "optimizer.step_decay", "optimizer.sgd_weight_decay",
}  # fmt: skip

NOT_NONE = {
    "recipe", "task", "seeds", "study", "candidates", "source", "target",
    "num_train_tracks", "model.name", "model.size", "optimizer.name", "train.batch_size",
    "train.loss", "train.select_by", "train.spec_augment_time", "train.spec_augment_frequency",
    "train.reload_best_at_switch", "train.checkpoint", "train.checkpoint_every_minutes",
    "train.num_cpu_devices", "train.num_microbatches", "train.log_every_steps", "train.trace",
    "distributed.timeout_seconds", "evaluation.aggregate", "evaluation.tail",
    "evaluation.reaches_end",
    "evaluation.batch_size", "evaluation.num_bootstrap", "evaluation.threshold", "data.name",
    "evaluation.baseline", "evaluation.resample",
    "data.cache_megabytes", "data.num_workers", "data.seed",
    "data.options.synthetic_cultures.num_tracks", "data.options.synthetic_cultures.seconds",
    "transfer.modes", "transfer.cache_embeddings", "transfer.input_statistics",
}  # fmt: skip
"""Fields that cannot be left empty."""

FLAGS = {
    "train.reload_best_at_switch", "train.checkpoint", "train.trace", "transfer.cache_embeddings",
    "evaluation.baseline", "evaluation.reaches_end", "model.distilled", "model.front_bias",
    "model.normalizes_features", "model.normalizes_input", "model.remat", "model.residual",
    "model.whole_frames",
    "optimizer.nesterov",
    "optimizer.reload_best",
}  # fmt: skip


def is_meant(field, value):
    """Whether a value is one that the field may have, as the lists above say."""
    if value is None:
        return field not in NOT_NONE
    if value is True:
        return field in FLAGS
    if field in FREE_TEXT and isinstance(value, str):
        return value in WORDS or field in ("study", "source")
    if type(value) in (int, float) and value == 0:
        return field in ZERO
    if type(value) is int and value == 10**9:
        return field in MILLIARD
    if type(value) is float and value == 1.5:
        return field in ONE_AND_A_HALF
    return False


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty folder is the current one, and has to stay empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUSREP_DATA", str(tmp_path / "data"))
    yield
    left = [
        path for path in tmp_path.rglob("*") if path.name != "kept" and "kept" not in path.parts
    ]
    assert left == []


def parse(name, *flags):
    return parse_command_line(["main.py", f"--config={name}", *flags])[0]


def all_configs():
    names = [name + argument for name in list_configs() for argument in ARGUMENTS]
    return [*names, *FURTHER]


def fields_of(config, prefix=""):
    """Dotted names of the fields, without deviations, which are named like them."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name in ("cells", "merge", "overrides") or (name in BY_NAME and name != "data.options"):
            continue
        if isinstance(value, ml_collections.ConfigDict):
            yield from fields_of(value, f"{name}.")
        else:
            yield name


def get(config, field):
    for key in field.split("."):
        config = config[key]
    return config


def put(config, field, value):
    *sections, key = field.split(".")
    for section in sections:
        config = config[section]
    with config.unlocked():
        del config[key]  # or the value would take the type of the one before
        config[key] = value


@pytest.mark.parametrize("name", all_configs())
def test_every_config_passes_and_every_field_has_a_rule(name):
    config = parse(name)
    check_config(config)
    assert set(fields_of(config)) - FIELDS.keys() == set()
    check_jobs(config)


def test_every_setting_of_every_model_has_a_rule_that_its_default_keeps():
    for name in MODELS:
        for field, default in model_settings(name).items():
            assert default is None or MODEL_FIELDS[field].accepts(default), (name, field)


@pytest.mark.parametrize("name", ["tagging:smoke", "transfer:smoke"])
def test_every_wrong_value_of_every_field_is_one_sentence_with_its_name(name):
    config, wrong = parse(name), []
    for field in list(fields_of(config)):
        kept = get(config, field)
        for value in BAD_VALUES:
            put(config, field, value)
            try:
                check_config(config)
            except ConfigError as error:
                sentence = str(error)
                if is_meant(field, value) and field not in ("study", "source", "transfer.modes"):
                    wrong.append(f"{field}={value!r} refused: {sentence}")
                if "\n" in sentence or field.split(".")[-1] not in sentence:
                    wrong.append(f"{field}={value!r}: {sentence}")
            else:
                if not is_meant(field, value):
                    wrong.append(f"{field}={value!r} passed")
        put(config, field, kept)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["transfer:smoke"])
def test_every_wrong_value_on_the_command_line_is_one_sentence_with_its_name(name):
    words = ("-1", "nan", "1e9", "")
    wrong = []
    sections = ("seeds", "num_train", "train.", "evaluation.", "data.", "transfer.", "model.d")
    for field in (f for f in fields_of(parse(name)) if f.startswith(sections)):
        for value in words:
            try:
                check_config(parse(name, f"--config.{field}={value}"))
            except ConfigError as error:
                if "\n" in str(error) or field.split(".")[-1] not in str(error):
                    wrong.append(f"{field}={value}: {error}")
            else:
                parsed = {"1e9": 1e9}.get(value, value)
                known = field in FREE_TEXT or is_meant(field, parsed) or field in FLAGS
                tracks = field in ("seeds",) and value == "0"
                large = field in ("data.cache_megabytes",) and value == "1e9"
                if not (known or tracks) or large:
                    wrong.append(f"{field}={value} passed")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--config.optimizer.name=adamm"], "optimizer.name is 'adamm'; it must be one of adam"),
        (["--config.optimizer.name=adamm"], "Did you mean 'adam'?"),
        (["--config.optimizer.learning_rate=nan"], "optimizer.learning_rate is nan; it must be a"),
        (["--config.model.name=musicn"], "Did you mean 'musicnn'?"),
        (["--config.train.select_by=x"], "train.select_by is 'x'; it must be one of f1_samples"),
        (["--config.train.loss=x"], "train.loss is 'x'"),
        (["--config.train.batch_size=0"], "train.batch_size is 0; it must be a whole number from"),
        (["--config.num_train_tracks=0"], "num_train_tracks is '0'; it must be numbers of tracks"),
        (["--config.num_train_tracks=0_per_class"], "numbers per class such as 10_per_class, or"),
        (["--config.num_train_tracks=-1_per_class"], "num_train_tracks is '-1_per_class'; it must"),
        (["--config.num_train_tracks=3_per_class,many"], "is '3_per_class,many'; it must be"),
        (["--config.evaluation.aggregate=x"], "must be one of probability, logit"),
        (["--config.evaluation.num_chunks=0"], "evaluation.num_chunks is 0"),
        (["--config.evaluation.threshold=nan"], "evaluation.threshold is nan"),
        (["--config.model.dropout_rate=1.5"], "model.dropout_rate is 1.5; it must be a number"),
        (["--config.seeds=1,x"], "seeds is '1,x'"),
        (["--config.source=nowhere"], "source names 'nowhere': there is no data set 'nowhere'."),
        (["--config.target=synthetic_cultures/makm"], "Did you mean 'makam'?"),
        (["--config.target=audio_folder:missing"], "target names 'audio_folder:missing'"),
        (["--config.source=export:missing"], "source names export:missing: There is no exported"),
        (["--config.data.labels=stroke_*"], "data.labels is 'stroke_*', but it chooses labels of"),
        (["--config.source="], "source is '', but the mode 'output_layer' of transfer.modes"),
        (["--config.train.num_epochs=2"], "both were given"),
        (["--config.train.num_microbatches=3"], "it must divide train.batch_size, which is 4"),
        (["--config.optimizer.momentum=0.9"], "optimizer.momentum is not a setting of 'adam'"),
        (["--config.model.hidden_size=3"], "has no setting 'hidden_size'"),
        (["--config.model.f_max=12000.0"], "at most half of model.sample_rate, which is 16000"),
        (["--config.model.num_samples=100"], "do not fit together"),
        (["--config.cells=3/2"], "confg"),
        (["--cells=3/2"], "--cells is '3/2'"),
        (["--merge=missing"], "--merge names 'missing', which is no folder"),
        (["--config.study=train.batch_size=0|4"], "study of train.batch_size is 0"),
        (["--config.study=optimizer.learning_rate=1e-3|-1.0"], "study of optimizer.learning_rate"),
    ],
)  # fmt: skip
def test_a_mistyped_call_ends_before_anything_is_made(flags, sentence, capsys):
    if flags == ["--config.cells=3/2"]:
        sentence = "no field 'cells'"
    assert main(["main.py", "--config=transfer:smoke", *flags]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert sentence in said[-1] and said[-1].startswith("error: ")


def test_deviations_are_judged_where_they_stand():
    config = parse("transfer")
    with config.unlocked():
        config.for_target.fma = ml_collections.ConfigDict(
            {"for_model": {"vgg_ish": {"train": {"batch_size": 0}}}}
        )
    with pytest.raises(
        ConfigError, match=r"^for_target.fma.for_model.vgg_ish.train.batch_size is 0"
    ):
        check_config(config)
    with config.unlocked():
        config.for_target = ml_collections.ConfigDict()
        config.for_model.vgg_is = ml_collections.ConfigDict({"train": {"batch_size": 1}})
    with pytest.raises(ConfigError, match=r"for_model.vgg_is .* Did you mean 'vgg_ish'"):
        check_config(config)


def test_a_folder_and_labels_that_it_does_not_have(tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "labels.tsv").write_text("path\tlabels\na.wav\tney\n", encoding="utf-8")
    (folder / "a.wav").write_bytes(b"")
    good = ("tagging:smoke", f"--config.data.path={folder}")
    assert parse(*good).data.name == "audio_folder"
    check_names(parse(*good, "--config.data.labels=n*"))
    with pytest.raises(ConfigError, match=r"data.path names .*has no label 'stroke_"):
        check_names(parse(*good, "--config.data.labels=stroke_*"))
    with pytest.raises(ConfigError, match="only audio_folder has a folder of your own"):
        check_names(parse(*good, "--config.data.name=fma"))


def test_a_comma_in_the_path_of_a_data_set(tmp_path):
    kept = tmp_path / "kept"
    for name in ("ney", "oud, saz"):
        (kept / name).mkdir(parents=True)
        (kept / name / "labels.tsv").write_text("path\tlabels\na.wav\tx\n", encoding="utf-8")
        (kept / name / "a.wav").write_bytes(b"")
    start = ("transfer:smoke", f"--config.target=audio_folder:{kept}/ney")
    escaped = f"audio_folder:{kept}/oud\\, saz"
    config = parse(*start, f"--config.source={escaped},audio_folder:{kept}/ney")
    check_names(config)
    assert f"audio_folder:{kept}/oud, saz" in {job["source"] for job in jobs_of_config(config)}
    with pytest.raises(ConfigError) as refused:
        check_names(parse(*start, f"--config.source=audio_folder:{kept}/oud, saz"))
    assert str(refused.value).endswith(f"has a backslash before it: '{escaped}'.")
