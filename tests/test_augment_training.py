"""Augmentation within the train step: devices, resuming, keys, labels, what is refused."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from compact_models import QUICK
from ml_collections import ConfigDict
from toy_training import assert_trees_close, assert_trees_equal

from musrep_jax.command_line import main
from musrep_jax.config import ConfigError, parse_command_line
from musrep_jax.data.audio.errors import AudioError
from musrep_jax.data.audio.responses import read_responses
from musrep_jax.dsp.augment.mixing import mask_spectrogram, mix_up
from musrep_jax.losses import binary_cross_entropy, make_tagging_loss
from musrep_jax.models import create_model
from musrep_jax.models.base import SpectrogramTagger
from musrep_jax.models.layers import BatchNorm, Dense
from musrep_jax.tasks import binding
from musrep_jax.tasks.augmentation import Augmentation
from musrep_jax.tasks.tagging.objective import check_augmented
from musrep_jax.training.optim import make_optimizer
from musrep_jax.training.sharding import Layout, make_mesh, shard_batch, to_host
from musrep_jax.training.step import create_state, make_train_step

RATE, NUM_SAMPLES, NUM_CLASSES = 16_000, 4096, 3
KEY = jax.random.key(5)
TRAIN = {
    "augment": None, "augment_responses": None, "mixup": None, "spec_augment_masks": None,
    "spec_augment_time": 0.1, "spec_augment_frequency": 0.15,
}  # fmt: skip
EVERYTHING = Augmentation(chain="noise,filter,delay", mixup=0.4, num_masks=2)


class Small(SpectrogramTagger):
    """A spectrogram, BatchNorm, dropout and one layer."""

    num_samples: int = NUM_SAMPLES
    n_mels: int = 8
    dropout_rate: float = 0.2

    def setup(self):
        super().setup()
        self.norm, self.dense = BatchNorm(), Dense(8)

    def features(self, inputs, *, train):
        return self.spectrogram(inputs)

    def embed(self, features, *, train):
        return jnp.tanh(self.dense(self.norm(features, train=train).mean(1))), {}


MODEL = Small(num_classes=NUM_CLASSES)


def make_batch(size, seed=0):
    rng = np.random.default_rng(seed)
    audio = (0.1 * rng.normal(size=(size, NUM_SAMPLES))).astype(np.float32)
    labels = (rng.random((size, NUM_CLASSES)) < 0.5).astype(np.float32)
    return {"audio": audio, "labels": labels, "mask": np.ones(size, np.float32)}


def initial():
    return MODEL.init(jax.random.key(0), jnp.zeros((1, NUM_SAMPLES)), train=False)


def train(num_devices, size, steps, start=None):
    """Returns the host's state after some steps, from a state of the host."""
    layout = Layout(make_mesh(num_devices))
    loss_fn, _ = binding.make_loss(MODEL, "model", "update", augmentation=EVERYTHING)
    tx = make_optimizer({"name": "adam", "learning_rate": 1e-3}, steps_per_epoch=5).tx
    step = make_train_step(loss_fn, tx)
    state = layout.place(start or create_state(initial(), tx))
    compiled = None
    for index in steps:
        batch = shard_batch(make_batch(size, index), layout.mesh)
        if compiled is None:
            compiled = step.lower(state, batch, KEY).compile(compiler_options=QUICK)
        state, _ = compiled(state, batch, KEY)
    return to_host(state)


@pytest.mark.slow
def test_a_resumed_training_repeats_its_augmentation():
    whole = train(1, 16, range(3))
    assert_trees_equal(train(1, 16, [2], train(1, 16, range(2))), whole)


@pytest.mark.slow
@pytest.mark.parametrize(("num_devices", "size"), [(2, 16), (8, 13)])
def test_training_is_the_same_on_any_number_of_devices(num_devices, size):
    """Thirteen examples on eight devices are sixteen with three masked."""
    assert_trees_close(
        train(num_devices, size, range(2)), train(1, size, range(2)), rtol=1e-4, atol=2e-5
    )


def test_a_program_without_augmentation_is_the_one_there_was():
    plain = make_tagging_loss(binding.make_apply(MODEL, "update"), binary_cross_entropy)
    variables = initial()
    state = {"batch_stats": variables["batch_stats"]}

    def text_of(loss_fn):
        return str(jax.make_jaxpr(loss_fn)(variables["params"], state, make_batch(4), KEY))

    for off in ({}, {"augment": "none"}, {"spec_augment_time": 0.5, "augment_responses": "x"}):
        augmentation = Augmentation.of(ConfigDict(TRAIN | off))
        assert augmentation == Augmentation()
        loss_fn, _ = binding.make_loss(MODEL, "model", "update", augmentation=augmentation)
        assert text_of(loss_fn) == text_of(plain)
    on, _ = binding.make_loss(MODEL, "model", "update", augmentation=Augmentation(chain="gain"))
    assert text_of(on) != text_of(plain)


@pytest.mark.slow
def test_mixup_mixes_neighbors_and_their_labels_and_leaves_padding_out():
    batch = make_batch(7)
    mask = np.array([1, 1, 1, 0, 1, 1, 1], np.float32)
    audio, labels = mix_up(KEY, batch["audio"], batch["labels"], mask, 0.5)
    for row in (2, 6):  # its neighbor is padding, or is not there
        np.testing.assert_array_equal(audio[row], batch["audio"][row])
    for row, other in ((0, 1), (1, 0), (4, 5), (5, 4)):
        away = batch["audio"][other] - batch["audio"][row]
        part = float((audio[row] - batch["audio"][row]) @ away / (away @ away))
        assert 0 <= part <= 1
        for found, given in ((audio, batch["audio"]), (labels, batch["labels"])):
            np.testing.assert_allclose(
                found[row], (1 - part) * given[row] + part * given[other], atol=1e-5
            )
    part = mix_up(KEY, np.tile([[1.0], [0.0]], (500, 1)), np.zeros((1000, 1)), np.ones(1000), 0.5)
    kept = np.where(np.arange(1000) % 2, 1 - part[0][:, 0], part[0][:, 0])
    assert kept.mean() == pytest.approx(0.5, abs=0.05)
    assert kept.var() == pytest.approx(1 / 8, abs=0.01)  # of Beta(a, a): 1 / (4 (2 a + 1))


@pytest.mark.slow
def test_masks_are_stretches_of_time_and_bands_of_the_mean():
    level = np.random.default_rng(0).normal(-40, 10, (40, 100, 20)).astype(np.float32)
    masked = np.asarray(mask_spectrogram(KEY, level, 1, 0.1, 0.25))
    widths = []
    for before, after in zip(level, masked, strict=True):
        is_blank = before != after
        np.testing.assert_allclose(after[is_blank], before.mean(), rtol=1e-4)
        times, bands = is_blank.all(axis=1), is_blank.all(axis=0)
        np.testing.assert_array_equal(is_blank, times[:, None] | bands[None])
        for places in (times, bands):  # one stretch each
            assert np.abs(np.diff(np.pad(places.astype(int), 1))).sum() in (0, 2)
        widths.append((times.sum(), bands.sum()))
    assert np.max(widths, axis=0).tolist() == [10, 5] and np.min(widths) == 0


@pytest.mark.slow
def test_only_training_masks_spectrograms():
    variables = initial()
    state = {"batch_stats": variables["batch_stats"]}
    batch = make_batch(4)
    losses = []
    for augmentation in (Augmentation(), Augmentation(num_masks=3, mask_time=0.9)):
        loss_fn, _ = binding.make_loss(MODEL, "model", "update", augmentation=augmentation)
        losses.append(loss_fn(variables["params"], state, batch, KEY)[0])
        forward = binding.make_forward(MODEL)(variables, batch["audio"])["logits"]
        plain = MODEL.apply(variables, batch["audio"], train=False).logits
        np.testing.assert_allclose(forward, plain, rtol=1e-5, atol=1e-6)
    assert losses[0] != losses[1]


def test_what_cannot_be_augmented_is_refused_in_one_sentence(tmp_path):
    lyra = SimpleNamespace(name="lyra", stored_form="log_mel")
    for field, value in (("augment", "published"), ("mixup", 0.2)):
        settings = ConfigDict({"train": TRAIN | {field: value}})
        with pytest.raises(ConfigError, match=f"train.{field} is .* lyra holds spectrograms"):
            check_augmented(settings, lyra)
    check_augmented(ConfigDict({"train": TRAIN | {"spec_augment_masks": 2}}), lyra)
    with pytest.raises(ConfigError, match="SampleCNN has no log-mel spectrogram to mask"):
        Augmentation(num_masks=2).check(create_model("sample_cnn", 2))
    with pytest.raises(ConfigError, match="impulse responses, and there are none"):
        Augmentation(chain="room").check(MODEL)
    with pytest.raises(ConfigError, match="has no audio files"):
        Augmentation(chain="room", responses=str(tmp_path)).check(MODEL)
    with pytest.raises(ConfigError, match=r"train.augment is 'echo'; it must be one of published"):
        parse_and_check("--config.train.augment=echo")
    with pytest.raises(ConfigError, match=r"train.augment_responses is '/nowhere'"):
        parse_and_check("--config.train.augment_responses=/nowhere")


def parse_and_check(*flags):
    from musrep_jax.schema.checks import check_config
    from musrep_jax.schema.names import check_names

    config, _ = parse_command_line(["main.py", "--config=tagging:smoke", *flags])
    check_config(config)
    check_names(config)


@pytest.mark.slow
def test_impulse_responses_have_unit_energy_and_the_models_rate(tmp_path):
    decay = np.exp(-np.arange(4000) / 300) * np.random.default_rng(0).normal(size=4000)
    soundfile.write(tmp_path / "hall.wav", 0.2 * decay, 8000)
    (tmp_path / "small").mkdir()
    soundfile.write(tmp_path / "small" / "room.wav", 0.1 * decay[:500], RATE)
    responses = read_responses(str(tmp_path), RATE)
    assert responses.shape == (2, 8000)
    np.testing.assert_allclose((responses**2).sum(axis=1), 1, rtol=1e-5)
    assert not responses[1, 500:].any()
    change = Augmentation(chain="room", responses=str(tmp_path)).make_change(RATE)
    assert change is not None
    batch = make_batch(16)
    heard = np.asarray(change(KEY, batch)["audio"])
    fits = []  # each example as it was, or in one of the two rooms
    for before, after in zip(batch["audio"], heard, strict=True):
        rooms = [before, *(np.convolve(before, r)[:NUM_SAMPLES] for r in responses)]
        errors = [np.abs(after - room).max() for room in rooms]
        assert min(errors) < 1e-5
        fits.append(int(np.argmin(errors)))
    assert set(fits) == {0, 1, 2} and fits.count(0) == 8  # the probability of what is not published
    soundfile.write(tmp_path / "silent.wav", np.zeros(100), RATE)
    read_responses.cache_clear()
    with pytest.raises(AudioError, match=r"silent.wav is silent"):
        read_responses(str(tmp_path), RATE)


@pytest.mark.slow
def test_the_published_training_of_the_tagging_transformer_runs(tmp_path):
    flags = ["--config.model.conv_channels=4", "--config.model.width=16"]
    argv = ["main.py", "--config=configs/tagging.py:transformer_smoke", f"--workdir={tmp_path}"]
    assert main([*argv, *flags, "--config.train.augment=polarity,noise,delay"]) in (None, 0)
    (result,) = [
        row for row in json.loads((tmp_path / "results.json").read_text())["cells"]
        if row["model"] == "tagging_transformer"
    ]  # fmt: skip
    assert result["error"] is None


def test_the_published_training_is_that_of_the_paper():
    config, _ = parse_command_line(["main.py", "--config=tagging:transformer"])
    train = config.train
    assert (train.batch_size, train.num_epochs, train.patience) == (32, 200, 20)
    assert (train.select_by, train.augment) == ("loss", "published")
    assert (config.optimizer.name, config.optimizer.learning_rate) == ("adam", 1e-4)
