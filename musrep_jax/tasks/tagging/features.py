"""Features by name: which encoders a candidate stands on, and the model that is made of them.

`log_mel_statistics`, `pretrained:NAME`, `export:FOLDER` and `hub:OWNER/NAME` name an encoder;
`A+B` puts the features of several side by side; `A[OUTPUT,OUTPUT]` names outputs of an encoder, see
`Encoder.output_names`, where they are not those of `Encoder.FEATURES`; a number is that layer,
and a negative one counts from the last.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from musrep_jax.config import ConfigError, split_list
from musrep_jax.inference.encoder import LoadedEncoder
from musrep_jax.inference.tagger import load_encoder
from musrep_jax.models import AudioEncoder, Encoder, model_settings
from musrep_jax.models.combined_encoders import CombinedEncoders, Part, name_part
from musrep_jax.models.outputs import check_output_names, expand_layer_numbers
from musrep_jax.tasks.jobs import strip_parents
from musrep_jax.tasks.tagging.matrix import (
    BASELINE_MODEL,
    BASELINE_SETTINGS,
    TRAINED,
    split_features,
)
from musrep_jax.tasks.tagging.sources import EXPORT_PREFIX, PRETRAINED_PREFIX
from musrep_jax.tasks.task import UnavailableError
from musrep_jax.types import PyTree

_NAME = re.compile(r"(?P<place>[^\[\]]+)(\[(?P<outputs>[^\[\]]+)\])?")
LOADED_PREFIXES = (PRETRAINED_PREFIX, EXPORT_PREFIX, "hub:")
CANDIDATE_WORDS = (
    "candidates separated by commas: scratch, all_layers, or features such as log_mel_statistics, "
    "pretrained:NAME or export:FOLDER, several of them joined by +"
)
TABLE_PREFIX, STORE_PREFIX = "table:", "store:"
FILE_PREFIXES = (TABLE_PREFIX, STORE_PREFIX)
"""Of features that others computed, for probes only: no model can be made of them."""
TRAINED_PREFIX = "trained:"
"""Of the network that an experiment trains on a data set, where it does, see `tasks.probe`."""
SOURCES = "sources"
"""In the place of an encoder: all data sets that an experiment trains on, where it does."""
UNTRAINED = (BASELINE_MODEL, "log_mel_windows")
"""Features that are made without training."""
_SHARED = ("sample_rate", "num_samples", "dtype")
"""Settings that encoders side by side have in common."""


@dataclasses.dataclass(frozen=True)
class EncoderName:
    """One encoder of a candidate.

    Attributes:
        place: `log_mel_statistics`, `pretrained:NAME`, `export:FOLDER` or `hub:OWNER/NAME`.
        outputs: that are its features; none takes those of the model.
    """

    place: str
    outputs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Features:
    """Encoders that have been opened.

    Attributes:
        settings: of the `CombinedEncoders` that they make.
        parts: variables of each.
        notes: on the encoders that were opened, and the license of each.
        learned_from: fingerprint of the data set that each opened encoder was trained on, by place;
            without those that do not say.
    """

    settings: Mapping[str, Any]
    parts: tuple[PyTree, ...]
    notes: tuple[str, ...]
    learned_from: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def make_variables(self, model: CombinedEncoders) -> PyTree:
        """Returns the variables of the model, on the host, with an output layer of zeros.

        Args:
            model: with these settings.

        Raises:
            ConfigError: if the arrays of an encoder are not those of its model.
        """
        shapes = jax.eval_shape(
            lambda inputs: model.init(jax.random.key(0), inputs, train=False), model.batch_shape(1)
        )
        given = {}
        for number, part in enumerate(self.parts):
            for (collection, *path), value in traverse_util.flatten_dict(part).items():
                given[collection, name_part(number), *path] = np.asarray(jax.device_get(value))
        values = {}
        for path, shape in traverse_util.flatten_dict(shapes).items():
            fresh = np.full(shape.shape, path[-1] in ("scale", "var"), np.float32)
            values[path] = given.get(path, fresh)
            is_own = path[1] in ("norm", "head") or not self.parts[_number_of(path[1])]
            if values[path].shape != shape.shape or not (path in given or is_own):
                raise ConfigError(
                    f"{'/'.join(path[2:])} of encoder {_number_of(path[1]) + 1} of "
                    f"{len(self.parts)} does not fit the model: export it again."
                )
        return traverse_util.unflatten_dict(values)


def parse_features(text: str) -> tuple[EncoderName, ...]:
    """Returns the encoders that features are made of.

    Args:
        text: such as `log_mel_statistics+pretrained:musicnn-msd` or `export:FOLDER[9,10,11]`.

    Raises:
        ConfigError: if it cannot be read.

    Example:
        >>> parse_features("log_mel_statistics+export:a[1,embedding]")[1]
        EncoderName(place='export:a', outputs=('1', 'embedding'))
    """
    found = []
    for part in text.split("+"):
        match = _NAME.fullmatch(part.strip())
        if match is None:
            raise ConfigError(
                f"The features {text!r} cannot be read at {part!r}: name encoders as NAME or "
                "NAME[OUTPUT,OUTPUT], several with + between them."
            )
        place = match["place"].strip()
        is_known = place in (*UNTRAINED, SOURCES) or place.startswith(
            (*LOADED_PREFIXES, *FILE_PREFIXES, TRAINED_PREFIX)
        )
        if not is_known:
            raise ConfigError(
                f"The features {text!r} name {place!r}; an encoder is {', '.join(UNTRAINED)}, "
                "pretrained:NAME, export:FOLDER or hub:OWNER/NAME, and for probes table:FILE, "
                "store:FOLDER, trained:DATA SET or sources."
            )
        found.append(EncoderName(place, split_list(match["outputs"] or "")))
    return tuple(found)


def are_candidates(value: Any) -> bool:
    """Returns whether a value names candidates, see `matrix.make_candidates`.

    Args:
        value: of the setting `candidates`.
    """
    names = split_features(value) if isinstance(value, str) else ()
    try:
        parsed = [parse_features(name) for name in names if name not in TRAINED]
    except ConfigError:
        return False
    places = [encoder.place for encoders in parsed for encoder in encoders]
    of_probes = (*FILE_PREFIXES, TRAINED_PREFIX, SOURCES)
    return bool(names) and not any(place.startswith(of_probes) for place in places)


def load_features(text: str, trained: Mapping[str, Path] | None = None) -> Features:
    """Returns encoders, opened, and the settings of the model that they make side by side.

    A model of several encoders counts as its encoders. Log-mel statistics take the sample rate and
    the chunk of the others.

    Args:
        text: see `parse_features`.
        trained: data set -> export of the network that was trained on it.

    Raises:
        UnavailableError: if a pretrained model cannot be fetched.
        ConfigError: if an export cannot be opened, an encoder reads no audio, or they differ in
            their sample rate.
    """
    encoders: list[Part] = []
    parts: list[PyTree] = []
    shared: dict[str, set[Any]] = {"sample_rate": set(), "num_samples": set()}
    notes, learned_from = [], {}
    for name in parse_features(text):
        if name.place in UNTRAINED:
            if name.place != BASELINE_MODEL:
                for key, values in shared.items():
                    values.add(model_settings(name.place)[key])
            own = tuple(BASELINE_SETTINGS.items()) if name.place == BASELINE_MODEL else ()
            encoders.append((name.place, own, name.outputs or ("embedding",)))
            parts.append({})
            continue
        place = name.place
        if place.startswith((TRAINED_PREFIX, SOURCES)):
            export = (trained or {}).get(place.removeprefix(TRAINED_PREFIX))
            if export is None:
                raise ConfigError(
                    f"The features {text!r} name {place!r}, which only configs/probe.py trains: "
                    "name export:FOLDER or pretrained:NAME."
                )
            place = f"{EXPORT_PREFIX}{export}"
        loaded = _open(place)
        for key, values in shared.items():
            values.add(getattr(loaded.model, key))
        licence = loaded.card["data"]["licence"]
        if loaded.card["data"]["fingerprint"]:
            learned_from[strip_parents(name.place)] = loaded.card["data"]["fingerprint"]
        notes.append(f"Holds the encoder {strip_parents(name.place)}, licence: {licence}.")
        for part, variables in _list_parts(loaded, name):
            encoders.append(part)
            parts.append(variables)
    rates = shared["sample_rate"] or {16000}
    if len(rates) > 1:
        listed = " and ".join(f"{rate:,} Hz" for rate in sorted(rates))
        raise ConfigError(
            f"The encoders of {text!r} read {listed}: only encoders of one sample rate can stand "
            "side by side."
        )
    lengths = shared["num_samples"] or {model_settings(BASELINE_MODEL)["num_samples"]}
    rate = rates.pop()
    if rate < 16000:  # the bands end at half of it
        encoders = [
            (kind, (("f_max", rate / 2), *own), outputs)
            if kind == BASELINE_MODEL and "f_max" not in dict(own)
            else (kind, own, outputs)
            for kind, own, outputs in encoders
        ]
    settings = {"encoders": tuple(encoders), "sample_rate": rate, "num_samples": max(lengths)}
    return Features(settings, tuple(parts), tuple(notes), learned_from)


def list_trained_labels(text: str) -> list[str]:
    """Returns the labels that encoders were trained to tell, each once.

    Args:
        text: see `parse_features`.

    Raises:
        UnavailableError: if a pretrained model cannot be fetched.
        ConfigError: if an export cannot be opened.
    """
    places = [name.place for name in parse_features(text) if name.place.startswith(LOADED_PREFIXES)]
    return list(dict.fromkeys(label for place in places for label in _open(place).labels))


def _open(place: str) -> LoadedEncoder:
    """Returns the encoder of a place, which reads audio."""
    is_local = place.startswith(EXPORT_PREFIX)
    try:
        loaded = load_encoder(place.removeprefix(EXPORT_PREFIX))
    except (ValueError, OSError) as error:
        kind = ConfigError if is_local else UnavailableError
        raise kind(f"{place} cannot be opened: {error}") from error
    if not isinstance(loaded.model, AudioEncoder):
        raise ConfigError(f"{place} reads no audio: name an encoder of recordings.")
    return loaded


def _list_parts(loaded: LoadedEncoder, name: EncoderName) -> list[tuple[Part, PyTree]]:
    """Returns name, settings and outputs of an encoder, and its variables without output layer."""
    model, variables = loaded.model, loaded.variables
    if isinstance(model, CombinedEncoders) and not name.outputs:
        return [
            (
                part,
                {
                    collection: arrays[name_part(number)]
                    for collection, arrays in variables.items()
                    if name_part(number) in arrays
                },
            )
            for number, part in enumerate(model.encoders)
        ]
    known = _list_outputs(model)
    outputs = expand_layer_numbers(name.outputs, known) or model.FEATURES
    check_output_names(name.place, outputs, known)
    kind = loaded.card["model"]["name"]
    settings = tuple(
        (key, getattr(model, key))
        for key, default in sorted(model_settings(kind).items())
        if key not in _SHARED and getattr(model, key) != default
    )
    flat = {
        path: value
        for path, value in traverse_util.flatten_dict(variables).items()
        if not model.is_head_path(path[1:])
    }
    return [((kind, settings, outputs), traverse_util.unflatten_dict(flat))]


def _list_outputs(model: Encoder) -> list[str]:
    """Returns the outputs of a model that do not depend on its labels."""
    return [name for name in model.output_names() if name != "logits"]


def _number_of(part: str) -> int:
    """Returns the number of an encoder from the name of its subtree."""
    return int(part.rpartition("_")[2])
