"""Outputs by name: every model gives what it says it can, pooled over time as asked."""

import functools

import jax
import numpy as np
import pytest
from compact_models import BATCH, COMPACT, NUM_CLASSES, QUICK, build, make_audio
from toy_encoder import TEXTS, ToyTextEncoder

from musrep_jax.inference.tagger import LoadedTagger
from musrep_jax.models import MODELS, create_encoder, create_model
from musrep_jax.models.outputs import OutputNameError, pool_over_time


def jitted(model, names, pool=None):
    run = functools.partial(model.apply, names=names, pool=pool, method="outputs")
    return jax.jit(run, compiler_options=QUICK)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_model_gives_every_output_that_it_names(name):
    model = create_model(name, NUM_CLASSES, COMPACT[name])
    inputs = model.batch_shape(BATCH)
    variables = jax.eval_shape(
        functools.partial(model.init, train=False), jax.random.key(0), inputs
    )
    names = model.output_names()
    assert names[:2] == ("logits", "embedding") and len(set(names)) == len(names)
    assert create_encoder(name, COMPACT[name]).output_names() == names[1:]
    shapes = jax.eval_shape(jitted(model, names), variables, inputs)
    assert all(shape.shape[0] == BATCH for shape in shapes.values())
    usual = jax.eval_shape(functools.partial(model.apply, train=False), variables, inputs)
    assert usual.intermediates.keys() <= set(names)
    pooled = jax.eval_shape(jitted(model, names, "both"), variables, inputs)
    for key, shape in shapes.items():
        has_time = len(shape.shape) > 2 and "attention" not in key
        wanted = (BATCH, *shape.shape[2:-1], 2 * shape.shape[-1]) if has_time else shape.shape
        assert pooled[key].shape == wanted, key


def test_layers_of_a_sample_level_network():
    """Of 59,049 samples nine layers leave 3 steps; the last two have one. By hand, layer 11."""
    built = build("sample_cnn")
    names = ("layer_9", "layer_10", "layer_11", "embedding", "logits")
    found = jitted(built.model, names)(built.variables, built.audio)
    assert found["layer_9"].shape == (BATCH, 3, 6)
    assert found["layer_10"].shape == (BATCH, 1, 12)
    np.testing.assert_array_equal(found["layer_11"][:, 0], found["embedding"])
    layer, statistics = (
        jax.tree.map(np.asarray, built.variables[kind]["layer11"])
        for kind in ("params", "batch_stats")
    )
    x = np.asarray(found["layer_10"][:, 0]) @ layer["conv"]["kernel"][0] + layer["conv"]["bias"]
    x = (x - statistics["bn"]["mean"]) / np.sqrt(statistics["bn"]["var"] + 1e-5)
    x = np.maximum(x * layer["bn"]["scale"] + layer["bn"]["bias"], 0)
    np.testing.assert_allclose(found["layer_11"][:, 0], x, rtol=1e-3, atol=1e-4)
    pooled = jitted(built.model, ("layer_9",), "max")(built.variables, built.audio)
    np.testing.assert_allclose(pooled["layer_9"], found["layer_9"].max(axis=1), rtol=1e-5)
    whole = built.evaluate(built.variables, built.audio)
    np.testing.assert_allclose(found["logits"], whole.logits, atol=1e-5)


def test_layers_and_attention_of_a_transformer():
    """The class token after the last layer is the embedding; pooling leaves it out."""
    built = build("tagging_transformer")
    names = ("tokens", "layer_1", "layer_2", "attention_2", "embedding")
    found = jitted(built.model, names)(built.variables, built.audio)
    tokens = found["tokens"].shape[1]
    assert found["layer_2"].shape == (BATCH, tokens, 16)
    assert found["attention_2"].shape == (BATCH, 2, tokens, tokens)
    np.testing.assert_allclose(found["attention_2"].sum(axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(found["layer_2"][:, 0], found["embedding"], atol=1e-5)
    before = jax.jit(
        functools.partial(built.model.apply, block=1, method="compute_block_inputs"),
        compiler_options=QUICK,
    )(built.variables, built.audio)
    np.testing.assert_allclose(found["layer_1"], before, atol=1e-4)
    pooled = jitted(built.model, ("layer_1", "attention_2"), "both")(built.variables, built.audio)
    steps = np.asarray(found["layer_1"])[:, 1:]
    both = np.concatenate([steps.mean(axis=1), steps.max(axis=1)], axis=-1)
    np.testing.assert_allclose(pooled["layer_1"], both, atol=1e-4)
    np.testing.assert_allclose(pooled["attention_2"], found["attention_2"], atol=1e-5)


def test_pooling_leaves_out_where_a_text_has_ended():
    model = ToyTextEncoder()
    variables = model.init(jax.random.key(0), TEXTS, train=False)
    table = np.asarray(variables["params"]["table"])
    found = model.apply(variables, TEXTS, ("layer_1",), pool="max", method="outputs")
    np.testing.assert_array_equal(found["layer_1"][0], table[[3, 1, 4]].max(axis=0))


def test_statistics_are_those_of_the_steps_that_count():
    value = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    counts = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]], bool)
    found = pool_over_time(value, "statistics", counts)
    kept = value[0, :3]
    parts = [kept.mean(axis=0), kept.var(axis=0), kept.max(axis=0), kept.min(axis=0)]
    np.testing.assert_allclose(found[0], np.concatenate(parts), atol=1e-6)
    np.testing.assert_array_equal(found[1], 0)
    whole = pool_over_time(value, "statistics")[1]
    np.testing.assert_allclose(whole[3:6], value[1].var(axis=0), atol=1e-6)


def test_unknown_names_and_poolings_are_one_sentence():
    model = ToyTextEncoder()
    variables = model.init(jax.random.key(0), TEXTS, train=False)
    run = functools.partial(model.apply, variables, TEXTS, method="outputs")
    with pytest.raises(OutputNameError, match=r"ToyTextEncoder has no output 'layer_2'\. Did you"):
        run(("layer_2",))
    with pytest.raises(OutputNameError, match=r"It gives embedding, layer_1\."):
        run(("logits",))
    with pytest.raises(
        OutputNameError, match="no pooling 'sum'; choose mean, max, both, statistics or none"
    ):
        run(("layer_1",), pool="sum")


def test_outputs_of_a_recording():
    built = build("sample_cnn")
    card = {"model": {"name": "sample_cnn"}, "labels": list("abcde")}
    tagger = LoadedTagger(built.model, built.variables, card)
    audio = make_audio(100_000, batch=1)[0]
    times, found = tagger.outputs(audio, 16000, ["layer_9", "embedding"], pool="mean")
    expected_times, embeddings = tagger.embed_over_time(audio, 16000)
    np.testing.assert_array_equal(times, expected_times)
    np.testing.assert_allclose(found["embedding"], embeddings, atol=1e-6)
    layer = jitted(built.model, ("layer_9",))(built.variables, audio[None, :59049])["layer_9"]
    np.testing.assert_allclose(found["layer_9"][0], layer[0].mean(axis=0), rtol=1e-4, atol=1e-5)
    with pytest.raises(OutputNameError, match="sample_cnn has no output 'layer_12'"):
        tagger.outputs(audio, 16000, ["layer_12"])
