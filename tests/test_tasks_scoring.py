"""Outputs of a model by name, for every chunk of a split, in one pass."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from musrep_jax.config import ConfigError
from musrep_jax.models import Tagger
from musrep_jax.tasks.scoring import SplitScorer

STEPS, WIDTH = 4, 2


class Layers(Tagger):
    """A model that shows what is inside of it: a layer over time, and one map."""

    num_samples: int = STEPS * WIDTH

    @property
    def intermediate_names(self):
        return ("layer_3", "attention_1")

    def features(self, inputs, *, train):
        return inputs.reshape(-1, STEPS, WIDTH)

    def embed(self, features, *, train):
        layer = 2 * features + 1
        return layer.mean(axis=1), {"layer_3": layer, "attention_1": features @ features.mT}


class Noise:
    """Tracks of one to three chunks; counts how many are read."""

    spec = SimpleNamespace(name="noise", stored_form="pcm16", sample_rate=16000)
    num_samples = np.array([1, 2, 3, 2, 1]) * STEPS * WIDTH
    label_matrix = np.zeros((5, 3), np.float32)
    num_read = 0

    def __len__(self):
        return len(self.num_samples)

    def empty_batch(self, size, length, as_stored):
        return np.empty((size, length), np.float32)

    def audio(self, row):
        rng = np.random.default_rng(row)
        return rng.normal(size=self.num_samples[row]).astype(np.float32)

    def crop(self, row, start, length, whole, out):
        self.num_read += 1
        out[:] = self.audio(row)[start : start + length]


@pytest.fixture(params=[1, 8])
def scorer(request):
    """Nine chunks in batches of three; on eight devices most of every batch is padding."""
    settings = ConfigDict({
        "train": {"num_devices": request.param, "loss": "binary_cross_entropy"},
        "evaluation": {"batch_size": 3, "tail": "keep", "reaches_end": False,
                       "aggregate": "probability"},
    })  # fmt: skip
    with settings.ignore_type():
        settings.train.max_seconds = None
    return SplitScorer(Layers(num_classes=3), Noise(), settings, None)


def mean_over_time(output):
    return output.mean(axis=1)


def test_named_outputs_come_in_one_pass(scorer):
    model, tracks = scorer.model, scorer.tracks
    variables = model.init(jax.random.key(0), jnp.zeros((1, model.num_samples)), train=False)
    chunks = np.concatenate([tracks.audio(row).reshape(-1, STEPS, WIDTH) for row in range(5)])
    layer = 2 * chunks + 1
    head = jax.device_get(variables["params"]["head"])
    expected = {
        "logits": layer.mean(axis=1) @ head["kernel"] + head["bias"],
        "layer_3": layer,
        "attention_1": chunks @ chunks.swapaxes(1, 2),
    }
    found = scorer.outputs(variables, tuple(expected))
    assert tracks.num_read == len(chunks) == 9
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-6)
    reduced = scorer.outputs(variables, ("layer_3",), reduce=mean_over_time)
    np.testing.assert_allclose(reduced["layer_3"], layer.mean(axis=1), rtol=1e-5, atol=1e-6)
    pooled = scorer.outputs(variables, ("attention_1", "layer_3"), pool="both")
    both = np.concatenate([layer.mean(axis=1), layer.max(axis=1)], axis=-1)
    np.testing.assert_allclose(pooled["layer_3"], both, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pooled["attention_1"], found["attention_1"], rtol=1e-5)
    np.testing.assert_allclose(scorer.embeddings(variables), layer.mean(axis=1), rtol=1e-5)


def test_an_output_that_the_model_does_not_give_is_a_sentence(scorer):
    model = scorer.model
    variables = model.init(jax.random.key(0), jnp.zeros((1, model.num_samples)), train=False)
    with pytest.raises(ConfigError, match=r"'layer_2'. Did you mean 'layer_3'.*logits, embedding"):
        scorer.outputs(variables, ("layer_2",))
