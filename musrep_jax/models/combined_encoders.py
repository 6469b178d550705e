"""Encoders side by side under one output layer: frozen features, and what is trained from them.

Layers for two encoders, output shapes after each:

    outputs of encoder 0, pooled over time, side by side      width 0
    outputs of encoder 1, pooled over time, side by side      width 1
    concatenated, BatchNorm (embedding)                       width 0 + width 1
    dropout, head                                             classes

The BatchNorm standardizes the features by the statistics of the training tracks.

Source: own; features of several networks and layers side by side are those of Lee et al., MIREX
2017, and of Pons, Serra, "musicnn", 2019 (pooled maps).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from musrep_jax.models import create_encoder
from musrep_jax.models.base import Tagger, check_waveform
from musrep_jax.models.layers import BatchNorm
from musrep_jax.types import Array, PyTree

Part = tuple[str, tuple[tuple[str, Any], ...], tuple[str, ...]]
"""An encoder: its name in `MODELS`, its settings by name, and the outputs that are features."""

_PART = "parts_"
_SHARED = ("sample_rate", "num_samples", "dtype")


class CombinedEncoders(Tagger):
    """One or several encoders that hear the same chunk, and an output layer above their outputs.

    Attributes:
        encoders: name, settings (pairs of name and value) and outputs of each; sample rate, chunk
            length and dtype are those of this model.
        pool: how outputs that have a time axis are pooled over it, see `Encoder.outputs`.
    """

    encoders: tuple[Part, ...] = (("log_mel_statistics", (), ("embedding",)),)
    pool: str = "both"
    dropout_rate: float = 0.0

    def setup(self) -> None:
        """Creates the encoders, the standardization and the output layer."""
        super().setup()
        shared = {name: getattr(self, name) for name in _SHARED}
        self.parts = [
            create_encoder(name, {**dict(settings), **shared})
            for name, settings, _ in self.encoders
        ]
        self.norm = BatchNorm()

    def features(self, inputs: Array, *, train: bool) -> Array:
        """Returns the features of all encoders side by side, (batch, width)."""
        return jnp.concatenate(self.list_features(inputs, train=train), axis=-1)

    def list_features(self, inputs: Array, *, train: bool) -> tuple[Array, ...]:
        """Returns the features of each encoder, (batch, width)."""
        check_waveform(inputs, self.sample_rate, 1)
        found = []
        for part, (_, _, names) in zip(self.parts, self.encoders, strict=True):
            outputs = part.outputs(inputs, names, pool=self.pool, train=train)
            found.append(
                jnp.concatenate([x.reshape(x.shape[0], -1) for x in outputs.values()], axis=-1)
            )
        return tuple(found)

    @property
    def intermediate_names(self) -> tuple[str, ...]:
        """Names of what the model can show: the features before they are standardized."""
        return ("features",)

    def embed(self, features: Array, *, train: bool) -> tuple[Array, Mapping[str, Array]]:
        """Returns the features, standardized and as they are, (batch, width)."""
        return self.norm(features, train=train), {"features": features}

    def measure_widths(self) -> tuple[int, ...]:
        """Returns the number of features of each encoder."""
        shapes, _ = jax.eval_shape(
            lambda inputs: self.init_with_output(
                jax.random.key(0), inputs, train=False, method="list_features"
            ),
            self.batch_shape(1),
        )
        return tuple(shape.shape[1] for shape in shapes)

    def take_part(self, number: int, variables: PyTree) -> tuple["CombinedEncoders", PyTree]:
        """Returns the model with one of the encoders, and its variables.

        Args:
            number: of the encoder, from 0.
            variables: of this model.
        """
        widths = self.measure_widths()
        columns = slice(sum(widths[:number]), sum(widths[: number + 1]))
        taken: dict[str, dict[str, Any]] = {}
        for collection, subtrees in variables.items():
            for name, arrays in subtrees.items():
                if name == name_part(number):
                    taken.setdefault(collection, {})[name_part(0)] = arrays
                elif not name.startswith(_PART):  # `norm` and the output layer
                    taken.setdefault(collection, {})[name] = {
                        key: x if (name, key) == ("head", "bias") else x[columns]
                        for key, x in arrays.items()
                    }
        return self.clone(encoders=self.encoders[number : number + 1]), taken


def name_part(number: int) -> str:
    """Returns the name of an encoder's subtree in the variables.

    Args:
        number: of the encoder, from 0.
    """
    return f"{_PART}{number}"
