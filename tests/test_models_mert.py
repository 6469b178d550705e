"""MERT: equal to the public code, layers by name, and a learned sum of layers that trains."""

import functools

import hash_weights
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compact_models import BATCH, COMPACT, NUM_CLASSES, QUICK, build, draw_variables
from parity_files import load_arrays, load_manifest
from toy_training import assert_trees_close

from musrep_jax.models import create_encoder, create_model
from musrep_jax.tasks import binding
from musrep_jax.training.optim import make_optimizer
from musrep_jax.training.sharding import Layout, make_mesh, shard_batch, to_host
from musrep_jax.training.step import create_state, make_train_step
from musrep_jax.weights.hub_directory import read_hubert_settings
from musrep_jax.weights.state_dicts import convert_state_dict

KEY = jax.random.key(1)


def state_dict_of(variant):
    """Returns the weights of a variant; of large ones the manifest names one layer's keys."""
    manifest = load_manifest(variant)
    config, keys = manifest["config"], manifest["keys"]
    small = load_manifest("mert_small_base")
    sizes = {small["config"][n]: config[n] for n in ("hidden_size", "intermediate_size")}
    layer = [(k, s) for k, s, *_ in small["keys"] if ".layers.0." in k]
    keys = [(k, s) for k, s, *_ in keys if ".layers." not in k] + [
        (k.replace(".0.", f".{number}."), [sizes[n] for n in s])
        for number in range(config["num_hidden_layers"])
        for k, s in layer
    ]
    return hash_weights.hash_state_dict(keys)


@pytest.mark.parametrize(
    "variant", ["small_base", "small_large", pytest.param("95m", marks=pytest.mark.slow)]
)
def test_equals_the_public_code(variant):
    manifest = load_manifest(f"mert_{variant}")
    model = create_encoder("mert", read_hubert_settings(manifest["config"], {}))
    variables = convert_state_dict(state_dict_of(f"mert_{variant}"), model)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert count == manifest["num_parameters"]
    names = tuple(f"layer_{k}" for k in range(model.depth + 1))
    audio = load_arrays("input_fishin_24k_2s")["waveform"][None]
    run = jax.jit(functools.partial(model.apply, names=names, method="outputs"))
    found = run(variables, audio)
    found = np.stack([found[name][0] for name in names])
    stored = load_arrays(f"synthetic_mert_{variant}")
    assert found.shape[1] == stored["num_frames"]
    np.testing.assert_allclose(found.mean(axis=1), stored["hidden_mean_over_time"], atol=1e-4)
    np.testing.assert_allclose(found.std(axis=1), stored["hidden_std_over_time"], atol=1e-4)
    np.testing.assert_allclose(found[-1, :8], stored["last_hidden_first_8_frames"], atol=1e-4)
    if "hidden_states" in stored:
        np.testing.assert_allclose(found, stored["hidden_states"], atol=1e-4)


def test_published_sizes():
    for settings, count in (
        ({}, 94_370_944),
        ({"width": 1024, "depth": 24, "num_heads": 16, "norm_position": "pre"}, 315_427_968),
    ):
        model = create_encoder("mert", settings)
        shapes = jax.eval_shape(
            functools.partial(model.init, train=False), KEY, model.batch_shape(1)
        )
        assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == count
        assert model.output_names()[:3] == ("embedding", "feature_map", "layer_0")


def test_the_opponent_in_the_benchmark_is_the_same_architecture():
    torch = pytest.importorskip("torch")
    from benchmarks.torch_mert import PlainHubert, WeightedLayers

    model = create_model("mert", NUM_CLASSES, COMPACT["mert"])
    opponent = WeightedLayers(PlainHubert(model), model.depth + 1, model.width, NUM_CLASSES)
    count = sum(leaf.size for leaf in jax.tree.leaves(draw_variables(model)["params"]))
    assert sum(weights.numel() for weights in opponent.parameters()) == count
    with torch.no_grad():
        assert opponent(torch.zeros(2, model.num_samples)).shape == (2, NUM_CLASSES)


def embed(variables, audio, **settings):
    """Returns a backbone's embedding and, of the same input, the mean over time of each layer."""
    model = create_encoder("mert", COMPACT["mert"] | settings)
    layers = [f"layer_{k}" for k in range(model.depth + 1)]
    names = ("embedding", *layers)
    run = functools.partial(model.apply, names=names, pool="mean", method="outputs")
    found = jax.jit(run, compiler_options=QUICK)(variables, audio)
    return np.asarray(found["embedding"]), [np.asarray(found[name]) for name in layers]


def test_any_layer_all_layers_or_their_mean_is_the_embedding():
    built = build("mert")
    params = {
        k: v for k, v in built.variables["params"].items() if not built.model.is_head_path((k,))
    }
    variables = {"params": params}
    for layer, expected in (
        ("1", lambda layers: layers[1]),
        ("all", lambda layers: np.concatenate(layers, axis=-1)),
        ("weighted_sum", lambda layers: np.mean(layers, axis=0)),
    ):
        embedding, layers = embed(variables, built.audio, layer=layer)
        np.testing.assert_allclose(embedding, expected(layers), atol=1e-5)
    with pytest.raises(ValueError, match="layer of mert is '3'; it can be last, all, weighted_sum"):
        embed(variables, built.audio, layer="3")


def test_the_weights_of_the_layers_are_shares_of_the_sum():
    built = build("mert")
    raw = jnp.array([0.5, -1.0, 2.0])
    variables = {"params": {**built.variables["params"], "layer_weights": raw}}
    names = ("embedding", "logits", "layer_means")
    run = functools.partial(built.model.apply, names=names, method="outputs")
    found = jax.jit(run, compiler_options=QUICK)(variables, built.audio)
    shares = np.exp(raw) / np.exp(raw).sum()
    means = np.asarray(found["layer_means"]).reshape(BATCH, 3, 12)
    expected = (means * shares[:, None]).sum(axis=1)
    np.testing.assert_allclose(found["embedding"], expected, atol=1e-5)
    classify = functools.partial(built.model.apply, train=False, method="classify_frozen")
    np.testing.assert_allclose(
        classify(variables, found["layer_means"]), found["logits"], atol=1e-5
    )


def train(trained, num_devices=1, shard_over=None, **settings):
    """Returns the parameters before and after a few steps on the same batch, and the losses."""
    model = create_model("mert", NUM_CLASSES, COMPACT["mert"] | settings)
    layout = Layout(make_mesh(num_devices), shard_over)
    loss_fn, is_trainable = binding.make_loss(model, trained, "frozen")
    optimizer = make_optimizer({"name": "adam", "learning_rate": 1e-2}, steps_per_epoch=1)
    step = make_train_step(loss_fn, optimizer.tx, is_trainable=is_trainable,
                           layout=layout if shard_over is not None else None)  # fmt: skip
    before = draw_variables(model)
    state = layout.place(create_state(before, optimizer.tx, is_trainable))
    generator = np.random.default_rng(0)
    batch = {
        "audio": generator.normal(size=(8, model.num_samples)).astype(np.float32),
        "labels": (generator.random((8, NUM_CLASSES)) < 0.5).astype(np.float32),
        "mask": np.ones(8, np.float32),
    }
    batch, losses = shard_batch(batch, layout.mesh), []
    step = step.lower(state, batch, KEY).compile(compiler_options=QUICK)
    for _ in range(4):
        state, metrics = step(state, batch, KEY)
        losses.append(float(metrics["loss"]))
    return before["params"], to_host(state.params), losses


def test_on_a_frozen_backbone_the_sum_of_layers_trains():
    before, after, losses = train("head")
    assert losses[-1] < losses[0]
    changed = {
        name
        for name in before
        if any(
            not np.array_equal(x, y)
            for x, y in zip(
                jax.tree.leaves(before[name]), jax.tree.leaves(after[name]), strict=True
            )
        )
    }
    assert changed == {"head", "layer_weights"}
    assert len(set(np.asarray(after["layer_weights"]).tolist())) == 3


def test_all_layers_train_the_same_recomputed_and_on_several_devices():
    """Without dropout, whose random numbers differ."""
    quiet = dict.fromkeys(
        ("front_dropout_rate", "block_dropout_rate", "activation_dropout_rate",
         "attention_dropout_rate", "dropout_rate", "layer_drop_rate"), 0.0
    )  # fmt: skip
    quiet["depth"] = 1
    before, plain, losses = train("model", **quiet)
    assert losses[-1] < losses[0]
    still = [
        jax.tree_util.keystr(path)
        for path, moved in jax.tree_util.tree_leaves_with_path(
            jax.tree.map(lambda x, y: bool((np.asarray(x) != np.asarray(y)).any()), before, plain)
        )
        if not moved
    ]
    assert still == []
    _, other, again = train("model", 8, 256, **quiet, remat=True)
    np.testing.assert_allclose(again, losses, rtol=1e-4)
    assert_trees_close(other["projection"], plain["projection"], rtol=0, atol=2e-3)


def test_a_skipped_block_leaves_its_input():
    """All blocks skipped, the last layer is the first."""
    settings = COMPACT["mert"] | {"layer_drop_rate": 0.999999, "block_dropout_rate": 0.0}
    model = create_model("mert", NUM_CLASSES, settings)
    built = build("mert")

    def run(variables, audio):
        features = model.apply(variables, audio, train=True, method="features")
        return model.apply(
            variables, features, train=True, rngs={"dropout": KEY}, method="embed", all_tokens=True
        )[1]

    found = jax.jit(run, compiler_options=QUICK)(built.variables, built.audio)
    np.testing.assert_array_equal(found["layer_2"], found["layer_0"])


def test_an_input_is_normalized_where_the_model_says_so():
    built = build("mert")
    model = built.model.clone(normalizes_input=True)
    features = functools.partial(model.apply, built.variables, train=False, method="features")
    found = np.asarray(features(3.0 + 5.0 * built.audio))
    np.testing.assert_allclose(found.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(axis=1), 1, atol=1e-5)
    assert np.isfinite(features(np.zeros((1, 4000), np.float32))).all()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"front_norm": "batch"}, "front_norm of mert is 'batch'; it can be group, layer"),
        ({"norm_position": "both"}, "norm_position of mert is 'both'; it can be post, pre"),
    ],
)
def test_other_words_are_refused(settings, sentence):
    model = create_encoder("mert", COMPACT["mert"] | settings)
    with pytest.raises(ValueError, match=sentence):
        jax.eval_shape(functools.partial(model.init, train=False), KEY, model.batch_shape(1))
