"""What a training changes of its examples: augmented audio, mixed examples, masked spectrograms."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from musrep_jax.config import ConfigError
from musrep_jax.data.audio.errors import AudioError
from musrep_jax.data.audio.responses import read_responses
from musrep_jax.dsp.augment import Augment, make_augment, parse_chain
from musrep_jax.dsp.augment.mixing import mask_spectrogram, mix_up
from musrep_jax.losses import ApplyFn
from musrep_jax.models.base import Encoder, SpectrogramTagger
from musrep_jax.types import Array, PyTree, Stream

_KEYS = {"mixup": np.uint32(2**32 - 2), "masks": np.uint32(2**32 - 3)}
"""Folded into the key of what is changed, and into that of dropout."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How the examples of a training are changed, as a key of compiled programs; nothing is off.

    Attributes:
        chain: name of a chain or of operations, see `musrep_jax.dsp.augment.make_augment`.
        responses: folder of impulse responses for the operation `room`.
        mixup: alpha, see `mix_up`.
        num_masks: see `mask_spectrogram`.
        mask_time: as above.
        mask_frequency: as above.
    """

    chain: str | None = None
    responses: str | None = None
    mixup: float | None = None
    num_masks: int | None = None
    mask_time: float = 0.1
    mask_frequency: float = 0.15

    @classmethod
    def of(cls, train: Any) -> "Augmentation":
        """Returns what a config asks for; settings of what is off are left out.

        Args:
            train: its section `train`.
        """
        found = cls(mixup=train.mixup)
        if parse_chain(train.augment):
            responses = train.augment_responses
            found = dataclasses.replace(found, chain=train.augment, responses=responses)
        if train.spec_augment_masks:
            found = dataclasses.replace(
                found,
                num_masks=train.spec_augment_masks,
                mask_time=train.spec_augment_time,
                mask_frequency=train.spec_augment_frequency,
            )
        return found

    @property
    def asked_for(self) -> str:
        """The fields that ask for something, for messages; "" if none does."""
        fields = {
            "augment": self.chain, "mixup": self.mixup, "spec_augment_masks": self.num_masks,
        }  # fmt: skip
        return ", ".join(f"train.{name}={value}" for name, value in fields.items() if value)

    def check(self, model: Encoder) -> None:
        """Raises unless it can be done to what a model hears.

        Args:
            model: that is trained.

        Raises:
            ConfigError: one sentence with the field and what to do.
        """
        if self.num_masks and not isinstance(model, SpectrogramTagger):
            raise ConfigError(
                f"train.spec_augment_masks is {self.num_masks}, but {type(model).__name__} has no "
                "log-mel spectrogram to mask: take train.augment, or another model."
            )
        self.make_augment(getattr(model, "sample_rate", 0))

    def make_augment(self, sample_rate: int) -> Augment | None:
        """Returns what changes the waveforms, or None.

        Args:
            sample_rate: of the waveforms, in Hz.

        Raises:
            ConfigError: if there are no impulse responses where they are needed.
        """
        try:
            responses = read_responses(self.responses, sample_rate) if self.responses else None
            return make_augment(self.chain, sample_rate, responses)
        except (AudioError, ValueError) as error:
            raise ConfigError(f"train.augment is {self.chain!r}: {error}") from error

    def make_change(self, sample_rate: int) -> Callable[[Array, Stream], Stream] | None:
        """Returns `(key, stream) -> stream`, which changes waveforms and labels, or None.

        Args:
            sample_rate: of the waveforms, in Hz.
        """
        augment, alpha = self.make_augment(sample_rate), self.mixup
        if augment is None and not alpha:
            return None

        def change(key: Array, stream: Stream) -> Stream:
            audio, labels = stream["audio"], stream["labels"]
            if augment is not None:
                audio = augment(key, audio)
            if alpha:
                mask = stream.get("mask", jnp.ones(len(audio)))
                own = jax.random.fold_in(key, _KEYS["mixup"])
                audio, labels = mix_up(own, audio, labels, mask, alpha)
            return {**stream, "audio": audio, "labels": labels}

        return change

    def mask(self, apply: ApplyFn) -> ApplyFn:
        """Returns a model's call with masks over its spectrograms; the call itself without masks.

        Args:
            apply: calls the model.
        """
        if not self.num_masks:
            return apply
        mask_them = functools.partial(
            mask_spectrogram,
            num_masks=self.num_masks,
            time=self.mask_time,
            frequency=self.mask_frequency,
        )

        def apply_masked(
            params: PyTree,
            model_state: PyTree,
            inputs: Array,
            key: Array | None,
            *,
            train: bool,
            mask: Array | None = None,
        ) -> tuple[Any, PyTree]:
            own = jax.random.fold_in(cast(Array, key), _KEYS["masks"])
            with _change_spectrograms(functools.partial(mask_them, own)):
                return apply(params, model_state, inputs, key, train=train, mask=mask)

        return apply_masked


@contextlib.contextmanager
def _change_spectrograms(change: Callable[[Array], Array]) -> Iterator[None]:
    """Within this context, the log-mel spectrograms of models that are called are changed."""

    def hand_over(
        call: Callable[..., Any],
        arguments: tuple[Any, ...],
        options: Mapping[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        found = call(*arguments, **options)
        if isinstance(context.module, SpectrogramTagger) and context.method_name == "spectrogram":
            return change(found)
        return found

    with nn.intercept_methods(hand_over):
        yield
