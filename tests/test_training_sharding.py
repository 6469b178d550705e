"""One training on 1, 4 and 8 devices: the same numbers, whole or split, padded or not."""

import functools
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compact_models import COMPACT, QUICK, draw_variables
from ml_collections import ConfigDict
from toy_training import assert_trees_close, assert_trees_equal

from musrep_jax.models import MODELS, Tagger, create_model
from musrep_jax.models.attention import PreNormBlock
from musrep_jax.models.layers import BatchNorm, Conv, Dense, mask_padding
from musrep_jax.tasks import binding
from musrep_jax.tasks.scoring import SplitScorer
from musrep_jax.training.checkpoints import TrainCheckpoints, load_export, save_export
from musrep_jax.training.optim import make_optimizer
from musrep_jax.training.sharding import (
    Layout,
    local_rows,
    make_mesh,
    shard_batch,
    to_host,
)
from musrep_jax.training.step import create_state, make_train_step

NUM_CLASSES, NUM_STEPS = 5, 50
FRAMES, MELS = 12, 8
KEY = jax.random.key(1)
ADAM = {"name": "adam", "learning_rate": 1e-3, "weight_decay": 1e-4}


class Mixed(Tagger):
    """Every layer that looks across the batch or draws random numbers, and no kinks.

    A ReLU or a maximum turns rounding into another path through the network, which 50 steps blow
    up to 1e-3; here what differs between layouts stays as small as it began.
    """

    dropout_rate: float = 0.3

    def setup(self):
        super().setup()
        self.convs = [Conv(8, use_bias=False), Conv(16, use_bias=False)]
        self.norms = [BatchNorm(), BatchNorm(), BatchNorm()]
        self.block = PreNormBlock(2, dropout_rate=0.2, attention_dropout_rate=0.2)
        self.dense = Dense(64, use_bias=False)

    def features(self, inputs, *, train):
        return self.norms[0](inputs[..., None], train=train)

    def embed(self, features, *, train):
        x = features
        for conv, norm in zip(self.convs, self.norms[1:], strict=True):
            x = nn.gelu(norm(conv(x), train=train))
        x = self.block(x.mean(2), train=train)[0]
        return nn.gelu(self.dense(x.mean(1))), {}


RECIPES = {
    "tagging": {"trained": "model", "batch_norm": "update", "optimizer": ADAM},
    "output_layer": {"trained": "head", "batch_norm": "frozen", "optimizer": ADAM},
    "published_output_layer": {"trained": "head", "batch_norm": "update", "optimizer": ADAM},
    "cross_entropy": {
        "trained": "model", "batch_norm": "update", "optimizer": ADAM, "loss": "cross_entropy",
    },
}  # fmt: skip


def make_batch(size, seed, loss="binary_cross_entropy"):
    rng = np.random.default_rng(seed)
    log_mel = rng.normal(size=(size, FRAMES, MELS)).astype(np.float32)
    labels = log_mel[:, :NUM_CLASSES, 0] > 0
    if loss == "cross_entropy":
        labels = np.eye(NUM_CLASSES)[log_mel[:, :NUM_CLASSES, 0].argmax(1)]
    mask = np.ones(size, np.float32)
    return {"log_mel": log_mel, "labels": labels.astype(np.float32), "mask": mask}


MODEL = Mixed(num_classes=NUM_CLASSES)


@functools.cache
def initial():
    return jax.jit(lambda key: MODEL.init(key, jnp.zeros((1, FRAMES, MELS)), train=False))(
        jax.random.key(0)
    )


def train(num_devices, size, *, shard_over=None, num_steps=NUM_STEPS, recipe="tagging", **changes):
    """Returns the state after some steps, whole on the host, and the layout it lay in."""
    options = RECIPES[recipe] | changes
    layout = Layout(make_mesh(num_devices), shard_over)
    scheme = ("trained", "batch_norm", "loss")
    loss_fn, is_trainable = binding.make_loss(
        MODEL, **{name: options[name] for name in scheme if name in options}
    )
    optimizer = make_optimizer(options["optimizer"], steps_per_epoch=5, num_steps=num_steps)
    step = make_train_step(
        loss_fn,
        optimizer.tx,
        is_trainable=is_trainable,
        num_microbatches=options.get("num_microbatches", 1),
        layout=layout if shard_over is not None else None,
    )
    state = layout.place(create_state(initial(), optimizer.tx, is_trainable))
    for index in range(num_steps):
        batch = shard_batch(make_batch(size, index, options.get("loss", "")), layout.mesh)
        if index == 0:
            step = step.lower(state, batch, KEY).compile(compiler_options=QUICK)
        state, metrics = step(state, batch, KEY)
    return state, float(metrics["loss"])


def numbers(state):
    return to_host((state.params, state.model_state))


@functools.cache
def one_device(recipe, size=16, num_steps=NUM_STEPS):
    state, loss = train(1, size, recipe=recipe, num_steps=num_steps)
    return numbers(state), loss


def assert_same(state, loss, expected):
    """Parameters and statistics agree to 5e-6, about 50 roundings of numbers around 1."""
    assert_trees_close(numbers(state), expected[0], rtol=1e-5, atol=5e-6)
    assert loss == pytest.approx(expected[1], rel=1e-5)


@pytest.mark.parametrize("num_devices", [pytest.param(4, marks=pytest.mark.slow), 8])
@pytest.mark.parametrize("recipe", RECIPES)
def test_fifty_steps_are_the_same_on_any_number_of_devices(recipe, num_devices):
    assert_same(*train(num_devices, 16, recipe=recipe), one_device(recipe))


def test_padding_counts_nowhere():
    """Thirteen examples on eight devices are sixteen with three masked, also in BatchNorm."""
    assert_same(*train(8, 13, num_steps=20), one_device("tagging", 13, 20))


def test_masked_examples_are_not_in_batch_statistics():
    rng = np.random.default_rng(0)
    x = rng.normal(2.0, 3.0, size=(6, 4, 3)).astype(np.float32)
    x[[1, 4]] = 1e3
    mask = jnp.array([1.0, 0, 1, 1, 0, 1])
    variables = BatchNorm().init(KEY, x, train=True)

    def normalize(x, mask):
        return BatchNorm().apply(variables, x, train=True, mask=mask, mutable=["batch_stats"])

    masked, statistics = normalize(x, mask)
    real, expected = normalize(x[mask > 0], None)
    assert_trees_close(masked[mask > 0], real, rtol=1e-5, atol=1e-6)
    assert_trees_close(statistics, expected, rtol=1e-5)
    assert_trees_close(normalize(x, jnp.ones(6)), normalize(x, None), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_batch_norm_has_the_batch_first(name):
    """It refuses a mask that is not as long as its input's first axis."""
    model = create_model(name, NUM_CLASSES, COMPACT[name])
    variables = draw_variables(model)
    audio = jnp.zeros((3, model.num_samples))

    def call(mask):
        with mask_padding(mask):
            return model.apply(
                variables,
                audio,
                train=True,
                rngs={"dropout": KEY},
                mutable=["batch_stats"],
            )

    jax.eval_shape(call, jnp.ones(3))
    if "batch_stats" in variables:
        with pytest.raises(ValueError, match="the first axis of both must be the batch"):
            jax.eval_shape(call, jnp.ones(4))


def bytes_on_a_device(tree):
    return sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(tree))


@functools.cache
def split():
    """The state of fifty steps on eight devices, arrays of 1 kB and more split over them."""
    return train(8, 16, shard_over=1000)


def test_a_split_state_has_the_same_numbers_and_needs_less_memory():
    state, loss = split()
    assert_same(state, loss, one_device("tagging"))
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert bytes_on_a_device(state) < whole / 5
    layout = Layout(make_mesh(8), 1000)
    for leaf in jax.tree.leaves(state):
        assert leaf.sharding.is_equivalent_to(layout.shardings(leaf), leaf.ndim)


def test_a_split_state_accumulates_gradients_as_a_whole_one():
    options = {"num_microbatches": 2, "num_steps": 4}
    state, loss = train(8, 16, shard_over=1000, **options)
    whole, expected = train(1, 16, **options)
    assert_same(state, loss, (numbers(whole), expected))


def test_the_longest_axis_that_the_devices_divide_is_split():
    layout = Layout(make_mesh(8), 4 * 64)
    for shape, spec in (
        ((8, 64), (None, "data")),
        ((64, 64), ("data",)),
        ((3, 8, 100), (None, "data")),
        ((65, 7), ()),  # no axis can be
        ((63,), ()),
        ((56,), ()),  # too small
        ((), ()),
    ):
        leaf = jax.ShapeDtypeStruct(shape, np.float32)
        assert tuple(layout.spec(leaf)) == spec
        assert tuple(Layout(layout.mesh).spec(leaf)) == ()


def test_checkpoints_and_exports_do_not_know_how_a_state_lay(tmp_path):
    state, _ = split()
    with TrainCheckpoints(tmp_path / "split", {}) as checkpoints:
        checkpoints.save(NUM_STEPS, state, {"best_step": None})
        checkpoints.wait()
        whole = to_host(state)
        for layout in (Layout(make_mesh(2)), Layout(make_mesh(4), 100), Layout(make_mesh(8), 1000)):
            restored = checkpoints.restore(layout.place(whole)).state
            assert_trees_equal(to_host(restored), whole)
            assert_trees_equal(jax.tree.map(lambda x: x.sharding, restored),
                               layout.shardings(restored))  # fmt: skip
    save_export(tmp_path / "export", {"params": state.params, **state.model_state}, {"labels": []})
    exported, _ = load_export(tmp_path / "export")
    assert_trees_equal(to_host(exported), {"params": whole.params, **whole.model_state})


def test_rows_of_a_batch_are_padded_to_the_devices():
    assert local_rows(16, make_mesh(8)) == range(16)
    assert local_rows(13, make_mesh(4)) == range(16)
    assert local_rows(3, make_mesh(1)) == range(3)


@pytest.mark.slow
@pytest.mark.parametrize("name, atol", [("spectrogram_transformer", 2e-6), ("vgg_ish", 1e-3)])
def test_real_architectures_drift_no_further_than_rounding_takes_them(name, atol):
    """Fifty steps at the published rate; a CNN's ReLU, maxima and Adam blow rounding up."""
    model = create_model(name, NUM_CLASSES, COMPACT[name])
    ends = []
    for num_devices in (1, 8):
        mesh = make_mesh(num_devices)
        loss_fn, _ = binding.make_loss(model, "model", "update")
        optimizer = make_optimizer(
            ADAM | {"learning_rate": 1e-4}, steps_per_epoch=1, num_steps=NUM_STEPS
        )
        step = make_train_step(loss_fn, optimizer.tx)
        state = Layout(mesh).place(create_state(draw_variables(model), optimizer.tx))
        compiled = None
        for index in range(NUM_STEPS):
            rng = np.random.default_rng(index)
            shape = (16, model.log_mel.num_frames(model.num_samples), model.n_mels)
            log_mel = (10 * rng.normal(size=shape) - 30).astype(np.float32)
            labels = (log_mel[:, :NUM_CLASSES, 0] > -30).astype(np.float32)
            batch = shard_batch({"log_mel": log_mel, "labels": labels}, mesh)
            if compiled is None:
                compiled = step.lower(state, batch, KEY).compile(compiler_options=QUICK)
            state, _ = compiled(state, batch, KEY)
        ends.append(to_host(state.params))
    assert_trees_close(*ends, rtol=0, atol=atol)


class Wave(Mixed):
    """The same behind a waveform, as it comes from a data set."""

    num_samples: int = FRAMES * MELS

    def features(self, inputs, *, train):
        return super().features(inputs.reshape(-1, FRAMES, MELS), train=train)


class Noise:
    """Tracks of one, two and three chunks, as scoring sees them."""

    spec = SimpleNamespace(name="noise", stored_form="pcm16", sample_rate=16000)
    num_samples = np.array([1, 2, 3, 2, 1]) * FRAMES * MELS
    label_matrix = np.eye(5, dtype=np.float32)

    def __len__(self):
        return len(self.num_samples)

    def empty_batch(self, size, length, as_stored):
        return np.empty((size, length), np.float32)

    def crop(self, row, start, length, whole, out):
        out[:] = np.random.default_rng((row, start)).normal(size=length)


def test_scores_do_not_depend_on_the_devices_either():
    """Nine chunks in batches of three on eight devices: most of every batch is padding."""

    def scores(num_devices, size):
        settings = ConfigDict({
            "train": {"num_devices": num_devices, "loss": "binary_cross_entropy"},
            "evaluation": {"batch_size": size, "tail": "keep", "reaches_end": False,
                           "aggregate": "probability"},
        })  # fmt: skip
        with settings.ignore_type():
            settings.train.max_seconds = None
        scorer = SplitScorer(Wave(num_classes=NUM_CLASSES), Noise(), settings, None)
        assert len(scorer.table) == 9
        return scorer.scores(initial())

    assert_trees_close(scores(8, 3), scores(1, 9), rtol=1e-5)
    assert_trees_close(scores(4, 8), scores(1, 9), rtol=1e-5)
