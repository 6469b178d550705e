"""Encoders without labels: the contract above taggers, for text and for audio."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compact_models import COMPACT
from toy_encoder import TEXTS

from musrep_jax.cli.models import describe_model
from musrep_jax.models import (
    MODELS,
    create_encoder,
    create_model,
    is_tagger,
    model_settings,
)
from musrep_jax.types import model_inputs
from musrep_jax.weights.state_dicts import WeightsError, convert_state_dict

pytestmark = pytest.mark.usefixtures("toy_encoders")


def test_a_text_encoder_embeds_the_tokens_that_are_there():
    model = create_encoder("toy_text", {"width": 3})
    variables = model.init(jax.random.key(0), jnp.asarray(TEXTS), train=False)
    output = model.apply(variables, jnp.asarray(TEXTS), train=False)
    assert output.logits is None
    table = np.asarray(variables["params"]["table"])
    expected = [table[[3, 1, 4, 1]].mean(axis=0), table[[5, 9, 2, 6, 5, 3]].mean(axis=0)]
    np.testing.assert_allclose(output.embedding, expected, atol=1e-6)
    assert model_inputs({"tokens": TEXTS}) is TEXTS


def test_an_encoder_says_what_it_reads_and_has_no_output_layer():
    text, audio = create_encoder("toy_text"), create_encoder("toy_audio")
    assert text.batch_shape(2) == jax.ShapeDtypeStruct((2, 6), jnp.int32)
    assert audio.batch_shape(3) == jax.ShapeDtypeStruct((3, 1600), jnp.float32)
    assert not text.is_head_path(("head", "kernel"))
    assert not is_tagger("toy_text")
    assert model_settings("toy_text") == {
        "num_tokens": 6, "dtype": "float32", "vocabulary": 11, "width": 4}  # fmt: skip
    facts = describe_model("toy_text", 50)
    assert (facts["num_params"], facts["embedding_width"], facts["num_tokens"]) == (44, 4, 6)


def test_labels_for_an_encoder_are_refused():
    with pytest.raises(
        ValueError, match=r"encoder without output layer .* take one of attention_rnn, cnnsa"
    ):
        create_model("toy_audio", 3)
    with pytest.raises(ValueError, match=r"no setting 'widht'\. Did you mean 'width'"):
        create_encoder("toy_text", {"widht": 3})


@pytest.mark.parametrize("name", sorted(MODELS))
def test_taggers_find_their_output_layer(name):
    """It holds all that depends on the number of labels, and a backbone has nothing of it."""
    shapes = {}
    for num_classes in (0, 3, 4):
        model = create_model(name, num_classes, COMPACT[name])
        tree = jax.eval_shape(
            lambda x, model=model: model.init(jax.random.key(0), x, train=False),
            model.batch_shape(1),
        )
        leaves, _ = jax.tree_util.tree_flatten_with_path(tree.get("params", {}))
        shapes[num_classes] = {tuple(k.key for k in path): leaf.shape for path, leaf in leaves}
    differs = {path for path, shape in shapes[3].items() if shapes[4][path] != shape}
    head = {path for path in shapes[3] if model.is_head_path(path)}
    assert differs and differs <= head
    assert shapes[0].keys() <= shapes[3].keys() - head
    assert create_encoder(name, COMPACT[name]).num_classes == 0


def test_weights_of_an_encoder():
    model = create_encoder("toy_text")
    table = np.random.default_rng(0).normal(size=(11, 4)).astype(np.float32)
    variables = convert_state_dict({"module.words.weight": table}, model)
    np.testing.assert_array_equal(variables["params"]["table"], table)
    with pytest.raises(WeightsError, match="do not fit ToyTextEncoder: unknown keys: other"):
        convert_state_dict({"other": table}, model)
