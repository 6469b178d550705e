"""What FCN, CRNN, sample-level, harmonic and self-attention models do beside the contract."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compact_models import QUICK

from musrep_jax.models import InputError, create_model
from musrep_jax.models.attention_maps import attention_maps, tag_contributions
from musrep_jax.models.attention_rnn import BidirectionalLSTM
from musrep_jax.models.crnn import GRU
from musrep_jax.models.harmonic_cnn import TASK_SETTINGS
from musrep_jax.models.layers import ConvBlock
from musrep_jax.models.sample_cnn import SEBlock
from musrep_jax.models.self_attention import sinusoidal_positions
from musrep_jax.models.token_tagger import constant_class_token, prepend_token

quick_jit = functools.partial(jax.jit, compiler_options=QUICK)

TINY = {
    "cnnsa": {"n_channels": 4, "num_heads": 2},
    "self_attention": {"spec_channels": 1, "raw_channels": 4, "width": 8, "num_heads": 2},
    "tagging_transformer": {
        "sample_rate": 16000,
        "f_max": 8000.0,
        "n_fft": 512,
        "hop_length": 256,
        "conv_channels": 2,
        "width": 8,
        "num_heads": 2,
        "depth": 3,
        "max_tokens": 20,
    },
}


key = jax.random.key


def make_audio(num_samples, batch=2):
    random = np.random.default_rng(num_samples)
    return (0.2 * random.standard_normal((batch, num_samples))).astype(np.float32)


@functools.cache
def build(name, num_samples=9000, **settings):
    model = create_model(name, 3, {**TINY.get(name, {}), **settings})
    audio = make_audio(num_samples)
    init = quick_jit(lambda x: model.init(key(0), x, train=False))
    return model, init(audio), audio


def shape_of_logits(name, shape, num_classes=5, **settings):
    """Runs the shape check of a whole forward pass without computing."""
    model = create_model(name, num_classes, settings)
    inputs = jax.ShapeDtypeStruct(shape, jnp.float32)
    output = jax.eval_shape(lambda x: model.init_with_output(key(0), x, train=False)[0], inputs)
    return output.logits.shape


@pytest.mark.parametrize(
    ("name", "settings", "shortest", "longest"),
    [
        ("fcn", {}, 327424, 655103),
        ("fcn", {"pools": ((4, 2), (4, 2), (2, 2), (2, 3), (1, 4))}, 16128, 32511),
        ("crnn", {}, 24320, None),
        ("sample_cnn", {}, 59047, 118095),
        ("sample_cnn_se", {"channel_factors": (1, 1, 2, 2)}, 79, 159),
        ("cnnsa", {}, 257, None),
        ("harmonic_cnn", {}, 73472, None),
        ("harmonic_cnn", TASK_SETTINGS["sound_events"], 32512, None),
        ("harmonic_cnn", TASK_SETTINGS["keywords"], 8064, None),
        ("self_attention", {}, 257, None),
        ("self_attention", {"back": "cnn"}, 257, None),
        ("self_attention", {"positions": "learned"}, 257, 270 * 256 - 1),
        ("self_attention", {"front": "raw"}, 241, None),
        ("self_attention", {"front": "raw", "back": "cnn"}, 59047, 118095),
        ("tagging_transformer", {}, 1536, 2051 * 512 - 1),
    ],
)
def test_allowed_lengths(name, settings, shortest, longest):
    assert shape_of_logits(name, (2, shortest), **settings) == (2, 5)
    with pytest.raises(InputError, match=r"\d+ samples|\d+ spectrogram frames?"):
        shape_of_logits(name, (2, shortest - 1), **settings)
    if longest is None:
        assert shape_of_logits(name, (2, 2 * shortest + 70000), **settings) == (2, 5)
    else:
        assert shape_of_logits(name, (2, longest), **settings) == (2, 5)
        with pytest.raises(InputError, match=r"\d+ samples|\d+ spectrogram frames|271 rows"):
            shape_of_logits(name, (2, longest + 1), **settings)


def test_messages_say_the_allowed_range_and_the_fix():
    with pytest.raises(InputError, match=r"1280 to 2559 frames.*327424 to 655103 samples.*Pad"):
        shape_of_logits("fcn", (1, 48000))
    with pytest.raises(InputError, match=r"59047 to 118095 samples \(3\.69 to 7\.38 s at 16000 Hz"):
        shape_of_logits("sample_cnn", (1, 160000))
    with pytest.raises(InputError, match=r"63 spectrogram frames.*at least 64 frames.*hop_length"):
        shape_of_logits("harmonic_cnn", (1, 16000), task="keywords")
    with pytest.raises(InputError, match=r"mono waveforms.*\(1, 2, 80000\)"):
        shape_of_logits("harmonic_cnn", (1, 2, 80000))
    with pytest.raises(InputError, match=r"reads 96 mel bands.*with 128"):
        shape_of_logits("crnn", (1, 300, 128))


@pytest.mark.parametrize(
    ("name", "shape", "settings", "sentence"),
    [
        ("fcn", (1, 464000), {"n_mels": 64}, "takes 96 to 191 mel bands"),
        ("crnn", (1, 464000), {"n_mels": 192}, "takes 96 to 191 mel bands"),
        ("cnnsa", (1, 16000), {"n_mels": 129}, "at most 128 mel bands"),
        ("harmonic_cnn", (1, 80000), {"num_harmonics": 7}, "124 bands.*by 128.*pools"),
        ("harmonic_cnn", (1, 80000), {"task": "speech"}, "no task 'speech'"),
        ("harmonic_cnn", (1, 80000), {"pools": ((2, 2),)}, "seven pairs"),
        ("self_attention", (1, 65280), {"positions": "rotary"}, "'rotary'.*'sinusoidal'"),
        ("self_attention", (1, 65280), {"front": "mel"}, "'mel'.*'spec' or 'raw'"),
        ("cnnsa", (1, 16000), {"num_heads": 7}, "7 attention heads do not divide"),
    ],
)
def test_impossible_settings_are_refused(name, shape, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        shape_of_logits(name, shape, **settings)


@pytest.mark.parametrize("num_harmonics", range(1, 11))
def test_any_number_of_harmonics(num_harmonics):
    pools = ((2, 2),) * 6 + ((1, 1),)
    shape = shape_of_logits("harmonic_cnn", (1, 17000), num_harmonics=num_harmonics, pools=pools)
    assert shape == (1, 5)


def test_filter_shapes_are_shown():
    model = create_model("harmonic_cnn", 3, {"initial_quality": 2.0})
    variables = {"params": {"hstft": {"bw_Q": jnp.array([2.0])}}}
    shapes = model.apply(variables, method="filter_shapes")
    assert shapes["centres"].shape == shapes["bandwidths"].shape == (128, 6)
    assert float(shapes["quality"][0]) == 2.0
    assert float(shapes["bandwidths"][0, 0]) == pytest.approx(
        (0.1079 * 32.7032 + 24.7) / 2, rel=1e-5
    )
    assert model.front_end["kind"] == "harmonic"


def test_front_end_is_none_where_the_waveform_is_read():
    assert create_model("sample_cnn", 3).front_end is None
    assert create_model("self_attention", 3, {"front": "raw"}).front_end is None
    assert create_model("self_attention", 3).front_end["n_mels"] == 96


def test_gru_equals_a_loop_over_time():
    random = np.random.default_rng(0)
    x = random.standard_normal((2, 7, 5)).astype(np.float32)
    gru = GRU(hidden_size=4, num_layers=2)
    variables = gru.init(key(0), x)
    bound = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(variables))
    assert 0.45 < bound <= 0.5

    def sigmoid(value):
        return 1 / (1 + np.exp(-value))

    sequence = x.astype(np.float64)
    for layer in ("layer_0", "layer_1"):
        weights = jax.tree.map(np.asarray, variables["params"][layer])
        state, states = np.zeros((2, 4)), []
        for step in range(7):
            from_input = sequence[:, step] @ weights["ih"]["kernel"] + weights["ih"]["bias"]
            from_state = state @ weights["hh"]["kernel"] + weights["hh"]["bias"]
            reset = sigmoid(from_input[:, :4] + from_state[:, :4])
            update = sigmoid(from_input[:, 4:8] + from_state[:, 4:8])
            new = np.tanh(from_input[:, 8:] + reset * from_state[:, 8:])
            state = (1 - update) * new + update * state
            states.append(state)
        sequence = np.stack(states, axis=1)
    np.testing.assert_allclose(gru.apply(variables, x), sequence, atol=1e-6)


def test_class_token_is_a_constant_that_leaves_the_global_generator_alone():
    np.random.seed(7)
    expected = np.random.random_sample(3)
    np.random.seed(7)
    constant_class_token.cache_clear()
    token = constant_class_token(512)
    np.testing.assert_allclose(token[:2], [0.5488135, 0.71518937], atol=1e-7)
    np.testing.assert_array_equal(np.random.random_sample(3), expected)


def test_more_examples_than_the_published_code_takes():
    tokens = prepend_token(constant_class_token(4), jnp.zeros((70, 2, 4)))
    assert tokens.shape == (70, 3, 4)
    np.testing.assert_array_equal(tokens[69, 0], constant_class_token(4))


def test_sinusoidal_positions():
    table = sinusoidal_positions(4, 6)
    assert (table[0] == 0).all()
    np.testing.assert_allclose(table[1, :2], [np.sin(1), np.cos(1)], atol=1e-6)
    slow = 3 / 10000 ** (4 / 6)
    np.testing.assert_allclose(table[3, 4:], [np.sin(slow), np.cos(slow)], atol=1e-6)


def test_attention_maps():
    model, variables, audio = build("tagging_transformer")
    maps = quick_jit(lambda v, x: attention_maps(model, v, x))(variables, audio)
    weights = maps["attention_3"]
    assert weights.shape == (2, 2, 10, 10)
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(maps["attention_map"], weights[:, :, 0].sum(1), rtol=1e-5)
    expected = maps["attention_1"].sum(1).mean(1)
    np.testing.assert_allclose(maps["first_block_attention_map"], expected, rtol=1e-5)


@pytest.mark.parametrize("block", [-1, 0])
def test_tag_contributions_equal_replaced_attention(block):
    model, variables, audio = build("tagging_transformer")
    found = quick_jit(lambda v, x: tag_contributions(model, v, x, block))(variables, audio)
    num_tokens = found.shape[2]
    assert found.shape == (2, 3, 1 + 36 // 4)

    @quick_jit
    def logits(variables, override):
        features = model.apply(variables, audio, train=False, method="features")
        overrides = {block % model.depth: override}
        embedding, _ = model.apply(
            variables, features, train=False, overrides=overrides, method="embed"
        )
        return model.apply(variables, embedding, train=False, method="classify")

    for position in (0, 4, 8):
        override = jnp.zeros((1, 1, num_tokens, num_tokens)).at[..., position].set(1.0)
        expected = jax.nn.sigmoid(logits(variables, override))
        np.testing.assert_allclose(found[:, :, position], expected, atol=1e-5)


def test_contributions_of_a_block_that_is_not_there():
    model = create_model("cnnsa", 3)
    with pytest.raises(ValueError, match="no block 2; the model has 2"):
        tag_contributions(model, {}, make_audio(9000), 2)


def test_cnn_back_end_has_no_attention():
    model = create_model("self_attention", 3, {"back": "cnn"})
    with pytest.raises(ValueError, match="no attention weights"):
        attention_maps(model, {}, make_audio(9000))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cnnsa", "self_attention", "tagging_transformer"])
def test_rematerialisation_is_a_setting(name):
    audio = make_audio(9000)
    for remat in (False, True):
        model = create_model(name, 3, {**TINY[name], "remat": remat})
        variables = jax.eval_shape(functools.partial(model.init, train=False), key(0), audio)

        def loss(params, statistics, model=model):
            inputs = {"params": params, "batch_stats": statistics}
            return model.apply(inputs, audio, train=True, rngs={"dropout": key(1)}).logits.sum()

        text = str(jax.make_jaxpr(jax.grad(loss))(variables["params"], variables["batch_stats"]))
        assert ("remat" in text) == remat


def test_tagging_transformer_applies_the_norm_of_the_head_in_classify():
    model, variables, audio = build("tagging_transformer")
    output = quick_jit(lambda v, x: model.apply(v, x, train=False))(variables, audio)
    logits = model.apply(variables, output.embedding, train=False, method="classify")
    np.testing.assert_allclose(logits, output.logits, atol=1e-6)
    scaled = model.apply(variables, 3 * output.embedding, train=False, method="classify")
    np.testing.assert_allclose(scaled, output.logits, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "settings", "count"),
    [
        # Source: the public code's parameter counts.
        ("tagging_transformer", {"width": 64}, 1_108_852),
        ("tagging_transformer", {"width": 64, "conv_channels": 64}, 487_860),
        ("self_attention", {"positions": "learned"}, 6_878_308),
        ("self_attention", {"spec_channels": 16}, 6_882_452),
        ("self_attention", {"back": "cnn"}, 5_069_800),
        ("self_attention", {"front": "raw"}, 8_056_242),
        ("self_attention", {"front": "raw", "back": "cnn"}, 2_608_306),
    ],
)
def test_parameter_counts_of_variants(name, settings, count):
    model = create_model(name, 50, settings)
    audio = jax.ShapeDtypeStruct((1, model.num_samples), jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init(key(0), x, train=False), audio)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == count


@pytest.mark.parametrize("num_classes", [17, 35])
def test_published_heads_of_the_harmonic_cnn(num_classes):
    task = "sound_events" if num_classes == 17 else "keywords"
    model = create_model("harmonic_cnn", num_classes, TASK_SETTINGS[task])
    audio = jax.ShapeDtypeStruct((1, model.num_samples), jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init(key(0), x, train=False), audio)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert count == {17: 3_623_070, 35: 3_627_696}[num_classes]


def test_a_memory_equals_a_loop_over_time_in_both_directions():
    x = np.random.default_rng(0).standard_normal((2, 7, 3)).astype(np.float32)
    memory = BidirectionalLSTM(hidden_size=4)
    variables = memory.init(key(0), x)

    def sigmoid(value):
        return 1 / (1 + np.exp(-value))

    sides = []
    for side, order in (("forward", 1), ("backward", -1)):
        weights = jax.tree.map(np.asarray, variables["params"][side])
        state, cell, states = np.zeros((2, 4)), np.zeros((2, 4)), []
        for frame in x.swapaxes(0, 1)[::order]:
            gates = frame @ weights["ih"]["kernel"] + weights["ih"]["bias"]
            gates = gates + state @ weights["hh"]["kernel"]
            enter, keep, new, leave = np.split(gates, 4, axis=1)
            cell = sigmoid(keep) * cell + sigmoid(enter) * np.tanh(new)
            state = sigmoid(leave) * np.tanh(cell)
            states.append(state)
        sides.append(np.stack(states[::order], axis=1))
    np.testing.assert_allclose(
        memory.apply(variables, x), np.concatenate(sides, axis=-1), atol=1e-6
    )


def test_attention_weights_of_the_recurrent_network_sum_to_one_and_do_not_hear_level():
    model, variables, audio = build("attention_rnn", 4096, n_mels=20, n_channels=2, hidden_size=4)
    apply = quick_jit(lambda x: model.apply(variables, x, train=False))
    output = apply(audio)
    attention = output.intermediates["attention"]
    assert attention.shape == (2, 33, 1)
    np.testing.assert_allclose(attention.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(apply(audio / 4).logits, output.logits, atol=1e-4)
    assert bool(jnp.isfinite(apply(np.zeros_like(audio)).logits).all())


def test_squeeze_and_excitation_without_residual_gates_what_the_plain_block_pools():
    x = np.random.default_rng(0).standard_normal((2, 30, 3)).astype(np.float32)
    block = SEBlock(4, pool=3)
    variables = block.init(key(0), x, train=False)
    params = variables["params"]
    assert set(params) == {"conv_1", "bn_1", "dense1", "dense2"}
    plain = ConvBlock(4, (3,), (1,), None, (3,))
    weights = {"conv": params["conv_1"], "bn": params["bn_1"]}
    stats = {"bn": variables["batch_stats"]["bn_1"]}
    pooled = plain.apply({"params": weights, "batch_stats": stats}, x, train=False)
    found = block.apply(variables, x, train=False)
    pooled, dense = np.asarray(pooled), jax.tree.map(np.asarray, params)
    hidden = pooled.mean(axis=1) @ dense["dense1"]["kernel"] + dense["dense1"]["bias"]
    gate = np.maximum(hidden, 0) @ dense["dense2"]["kernel"] + dense["dense2"]["bias"]
    np.testing.assert_allclose(found, pooled / (1 + np.exp(-gate[:, None])), atol=1e-6)
