"""Batches of several streams: padded, split, widened and trained on stream by stream."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy_training import NUM_SAMPLES, Toy, assert_trees_close, assert_trees_equal, make_apply
from toy_training import make_batch as make_labeled

from musrep_jax.data.input.streams import alternate
from musrep_jax.losses import binary_cross_entropy
from musrep_jax.training.logs import MetricsLog, read_rows
from musrep_jax.training.loop import fit
from musrep_jax.training.sharding import (
    make_mesh,
    pad_batch,
    place_batch,
    replicate,
    shard_batch,
)
from musrep_jax.training.step import create_state, make_train_step, split_batch

KEY = jax.random.key(1)
APPLY = make_apply(Toy())
TX = optax.adam(1e-2)


def is_student(path):
    return path[0] == "student"


def make_variables():
    init = jax.jit(lambda key: Toy().init(key, jnp.zeros((2, NUM_SAMPLES)), train=False))
    networks = {name: init(jax.random.key(i)) for i, name in enumerate(("student", "teacher"))}
    return {"params": {name: variables["params"] for name, variables in networks.items()}}


def loss_fn(params, model_state, batch, key):
    """The student learns labels on one stream, and what the teacher says of both on the other."""
    labeled, unlabeled = batch["labeled"], batch["unlabeled"]
    said, _ = APPLY(params["teacher"], {}, unlabeled["audio"], None, train=False)
    soft = jax.nn.sigmoid(said)
    audio, labels, mask = (
        jnp.concatenate(parts)
        for parts in (
            (labeled["audio"], unlabeled["audio"]),
            (labeled["labels"], soft),
            (labeled["mask"], unlabeled["mask"]),
        )
    )
    logits, _ = APPLY(params["student"], {}, audio, key, train=True, mask=mask)
    return binary_cross_entropy(logits, labels, mask), (model_state, {})


def make_batch(step, sizes):
    labeled = make_labeled(sizes[0], step)
    unlabeled = make_labeled(sizes[1], step + 10**6)
    del unlabeled["labels"]
    return {"labeled": labeled, "unlabeled": unlabeled}


def make_flat(step, sizes):
    batch = make_batch(step, sizes)
    return {**batch["labeled"], "u_audio": batch["unlabeled"]["audio"]}


def train(make=make_batch, sizes=(8, 24), num_devices=None, num_microbatches=1):
    """Returns the state after four steps of the loop."""
    state = create_state(make_variables(), TX, is_student)
    mesh = None if num_devices is None else make_mesh(num_devices)
    result = fit(
        state if mesh is None else replicate(state, mesh),
        make_train_step(loss_fn, TX, is_trainable=is_student, num_microbatches=num_microbatches),
        lambda start: (make(step, sizes) for step in itertools.count(start)),
        key=KEY,
        num_steps=4,
        eval_every=4,
        evaluate=lambda state: {"loss": 1.0},
        select_by=("loss", "min"),
        mesh=mesh,
    )
    return result.state


@pytest.fixture(scope="module")
def expected():
    """Sizes -> the state of a training on one device without a mesh, in one piece."""
    return {sizes: train(sizes=sizes) for sizes in ((8, 24), (7, 23))}


@pytest.mark.parametrize("num_devices", [1, 2, 8])
@pytest.mark.parametrize("sizes", [(8, 24), (7, 23)])
def test_streams_of_any_sizes_on_any_number_of_devices(expected, sizes, num_devices):
    """No row is lost: padding of each stream has a mask of its own."""
    state = train(sizes=sizes, num_devices=num_devices)
    assert_trees_close(state.params, expected[sizes].params, rtol=1e-4, atol=1e-6)
    assert_trees_equal(
        jax.tree.map(np.array, state.params["teacher"]),
        jax.tree.map(np.array, make_variables()["params"]["teacher"]),
    )


@pytest.mark.parametrize("num_devices", [None, 2])
def test_microbatches_take_their_part_of_every_stream(expected, num_devices):
    state = train(num_devices=num_devices, num_microbatches=2)
    assert_trees_close(state.params, expected[8, 24].params, rtol=1e-4, atol=1e-6)


def test_microbatches_with_padding_are_weighted_by_the_real_rows(expected):
    """On two devices 7 and 23 rows are 8 and 24, one of each masked; neither counts."""
    state = train(sizes=(7, 23), num_devices=2, num_microbatches=2)
    assert_trees_close(state.params, expected[7, 23].params, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("num_devices", "num_microbatches"), [(None, 1), (None, 2), (1, 1), (2, 1), (8, 1)]
)
@pytest.mark.parametrize("sizes", [(8, 24), (7, 24), (8, 23)])
def test_arrays_of_different_length_in_one_stream_are_refused(sizes, num_devices, num_microbatches):
    words = rf"different length \(audio {sizes[0]}, .*u_audio {sizes[1]}\).*stream of its own"
    with pytest.raises(ValueError, match=words):
        train(make_flat, sizes, num_devices, num_microbatches)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({"audio": np.zeros(3), "more": {"audio": np.zeros(3)}}, r"arrays \(audio\) and streams"),
        ({"a": {"audio": np.zeros((0, 3))}}, "stream 'a' of the batch has no examples"),
        ({"a": {"b": {}}}, "stream 'a/b' of the batch has no examples"),
        ({}, "The batch has no examples"),
        ({"audio": np.zeros(3), "rate": np.float32(1)}, "rate none"),
        ({"rate": np.float32(1)}, "no examples"),
    ],
)
def test_what_is_no_batch_is_refused(batch, words):
    for attempt in (
        lambda: shard_batch(batch, make_mesh(2)),
        lambda: place_batch(batch),
        lambda: pad_batch(batch, 2),
        lambda: split_batch(batch, 1),
    ):
        with pytest.raises(ValueError, match=words):
            attempt()


def test_every_stream_is_padded_by_its_own_rows():
    batch = {"a": {"audio": np.arange(3.0)}, "b": {"c": {"audio": np.arange(5.0)}}}
    padded = pad_batch(batch, 4)
    np.testing.assert_array_equal(padded["a"]["audio"], [0, 1, 2, 0])
    np.testing.assert_array_equal(padded["a"]["mask"], [1, 1, 1, 0])
    np.testing.assert_array_equal(padded["b"]["c"]["audio"], [0, 1, 2, 3, 4, 0, 1, 2])
    np.testing.assert_array_equal(padded["b"]["c"]["mask"], [1] * 5 + [0] * 3)
    parts = split_batch(padded, 2)
    np.testing.assert_array_equal(parts["a"]["audio"], [[0, 2], [1, 0]])
    np.testing.assert_array_equal(parts["a"]["mask"], [[1, 1], [1, 0]])


def test_a_stream_that_microbatches_do_not_divide_is_named():
    batch = {"a": {"audio": np.zeros(4)}, "b": {"tokens": np.zeros(6)}}
    with pytest.raises(ValueError, match=r"num_microbatches is 4.*batch of 6 \(tokens\)"):
        split_batch(batch, 4)


def test_only_audio_is_widened_to_full_scale_one():
    batch = {
        "heard": {"audio": np.int16([[16384, -32768]]), "log_mel": np.float16([[-1.5]])},
        "read": {"tokens": np.int16([[16384, 3]])},
    }
    for placed in (place_batch(batch), shard_batch(batch, make_mesh(1))):
        assert placed["heard"]["audio"].dtype == placed["heard"]["log_mel"].dtype == np.float32
        np.testing.assert_array_equal(placed["heard"]["audio"], [[0.5, -1.0]])
        np.testing.assert_array_equal(placed["heard"]["log_mel"], [[-1.5]])
        assert placed["read"]["tokens"].dtype == np.int16
        np.testing.assert_array_equal(placed["read"]["tokens"], [[16384, 3]])


def make_heads():
    init = jax.jit(lambda key: Toy().init(key, jnp.zeros((2, NUM_SAMPLES)), train=False)["params"])
    shared = init(jax.random.key(0))
    head = shared.pop("head")
    return {"params": {"body": shared, "head_a": head, "head_b": head}}


def loss_in_turn(params, model_state, batch, key):
    """One body; the head is that of the data set whose turn it is."""
    ((name, stream),) = batch.items()
    joined = {**params["body"], "head": params[f"head_{name}"]}
    logits, _ = APPLY(joined, {}, stream["audio"], key, train=True, mask=stream["mask"])
    loss = binary_cross_entropy(logits, stream["labels"], stream["mask"])
    return loss, (model_state, {f"loss_of_{name}": loss})


@pytest.mark.parametrize(("num_devices", "num_microbatches"), [(None, 1), (2, 1), (2, 2)])
def test_data_sets_in_turn_train_the_body_and_their_own_heads(
    tmp_path, num_devices, num_microbatches
):
    """Batches of 8 and 12 rows; each kind is compiled once, and the log has the loss of both."""
    make = alternate({
        name: lambda start, size=size: (make_labeled(size, step) for step in itertools.count(start))
        for name, size in (("a", 8), ("b", 12))
    })  # fmt: skip
    tx = optax.sgd(0.1)
    step = make_train_step(loss_in_turn, tx, num_microbatches=num_microbatches)
    mesh = None if num_devices is None else make_mesh(num_devices)
    state = create_state(make_heads(), tx)
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        result = fit(
            state if mesh is None else replicate(state, mesh),
            step,
            make,
            key=KEY,
            num_steps=3,
            eval_every=3,
            evaluate=lambda state: {"loss": 1.0},
            select_by=("loss", "min"),
            mesh=mesh,
            log=log,
            log_every=3,
        )
    assert step._cache_size() == 2
    row = read_rows(log.path)[0]
    assert row["loss"] == pytest.approx((2 * row["loss_of_a"] + row["loss_of_b"]) / 3)

    params = make_heads()["params"]  # by hand: a, b, a
    for name, size, number in (("a", 8, 0), ("b", 12, 0), ("a", 8, 1)):
        batch = {name: make_labeled(size, number)}
        grads = jax.grad(lambda params, batch=batch: loss_in_turn(params, {}, batch, KEY)[0])(
            params
        )
        params = jax.tree.map(lambda leaf, grad: leaf - 0.1 * grad, params, grads)
    assert_trees_close(result.state.params, params, rtol=1e-5, atol=1e-6)
