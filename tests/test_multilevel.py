"""Lee et al., MIREX 2017: the network, its last three layers, the segments of a recording."""

import functools

import jax
import numpy as np
from compact_models import QUICK

from musrep_jax.models import create_model
from musrep_jax.models.sample_cnn import MIREX_2017

SMALL = {**MIREX_2017, "n_channels": 2, "channel_factors": (1, 1, 2, 2), "num_samples": 81}
"""Five layers: 27, 9, 3, 1 and 1 steps."""


def convolve(x, kernel, padding, stride=1):
    """Returns a convolution as a plain loop over steps; x is (time, in)."""
    x = np.pad(x, ((padding, padding), (0, 0)))
    starts = range(0, len(x) - len(kernel) + 1, stride)
    return np.stack([np.einsum("ti,tio->o", x[s : s + len(kernel)], kernel) for s in starts])


def test_last_layers_of_the_submission_equal_a_plain_loop():
    """The first convolution has no padding; the maximum over time is that before the pooling."""
    model = create_model("sample_cnn", 3, SMALL)
    rng = np.random.default_rng(0)
    audio = rng.normal(size=81)
    shapes = jax.eval_shape(
        lambda inputs: model.init(jax.random.key(0), inputs, train=False), model.batch_shape(1)
    )
    variables = jax.tree.map(lambda leaf: rng.uniform(0.2, 1, leaf.shape), shapes)
    variables["params"] = jax.tree.map(lambda leaf: leaf - 0.6, variables["params"])
    x, maxima, before = audio[:, None], [], []
    for number in range(1, 6):
        values, moments = (variables[kind][f"layer{number}"] for kind in ("params", "batch_stats"))
        padding, stride = (0, 3) if number == 1 else (len(values["conv"]["kernel"]) // 2, 1)
        x = convolve(x, values["conv"]["kernel"], padding, stride) + values["conv"]["bias"]
        x = (x - moments["bn"]["mean"]) / np.sqrt(moments["bn"]["var"] + 1e-5)
        x = np.maximum(x * values["bn"]["scale"] + values["bn"]["bias"], 0)
        before.append(x.max(axis=0))
        x = x.reshape(-1, 3, x.shape[1]).max(axis=1) if 1 < number < 5 else x
        maxima.append(len(x))
    assert maxima == [27, 9, 3, 1, 1]
    names = ("layer_3", "layer_4", "layer_5")
    audio = audio[None].astype(np.float32)
    run = functools.partial(model.apply, names=names, pool="max", method="outputs")
    found = jax.jit(run, compiler_options=QUICK)(variables, audio)
    for name, wanted in zip(names, before[2:], strict=True):
        np.testing.assert_allclose(found[name][0], wanted, rtol=1e-4, atol=1e-5)
    assert len(np.unique(np.concatenate(before[2:]))) > 6  # of 12; the others are cut by ReLU
