"""Opens the model that a card describes, and checks that card, model and arrays agree."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util
from flax.errors import FlaxError

from musrep_jax.config import fingerprint
from musrep_jax.inference.card import CARD_FORMATS, to_tuples
from musrep_jax.inference.card_checks import check_fields
from musrep_jax.models import Encoder, create_encoder, create_model, is_tagger
from musrep_jax.training.checkpoints import ExportError
from musrep_jax.types import PyTree


def check_card(card: Mapping[str, Any], path: str | Path) -> Encoder:
    """Returns the model that a card describes, after checking that the card matches it.

    Args:
        card: as `make_card` makes it.
        path: its origin, for messages.

    Raises:
        ExportError: if the card is inconsistent, or incompatible with this version.
    """
    if card.get("card_format") not in CARD_FORMATS:
        version: Any = card
        for key in ("versions", "packages", "musrep_jax"):
            version = version.get(key) if isinstance(version, Mapping) else None
        by = f" of musrep_jax {version}" if version else ""
        known = " and ".join(map(str, CARD_FORMATS))
        raise ExportError(
            f"{path} has card format {card.get('card_format')!r}{by}; this version of musrep_jax "
            f"reads {known}: open it with the version that wrote it, or a newer one."
        )
    check_fields(card, path)
    name = card["model"]["name"]
    settings = {key: to_tuples(value) for key, value in card["model"]["settings"].items()}
    if is_tagger(name):
        model: Encoder = create_model(name, len(card["labels"]), settings)
    else:
        model = create_encoder(name, settings)
        if card["labels"]:
            raise ExportError(
                f"{path} lists labels, and its model {name!r} is an encoder without output layer: "
                "export the model again."
            )
    if card.get("reads", "audio") != model.INPUT:
        raise ExportError(
            f"The card of {path} says that the model reads {card.get('reads', 'audio')}, and the "
            f"model {name!r} of this version reads {model.INPUT}: export the model again."
        )
    try:
        front_end = None if model.front_end is None else dict(model.front_end)
    except (ValueError, ArithmeticError) as error:
        raise ExportError(
            f"The settings of the model in the card of {path} do not fit together: {error}"
        ) from error
    rate = getattr(model, "sample_rate", None)
    found = fingerprint({"front_end": front_end, "sample_rate": rate})
    if found != card["front_end_id"] or front_end != card["front_end"]:
        raise ExportError(
            f"The front end written in {path} is not the one its model settings give (the card "
            "was edited, or another version computes it differently): export the model again."
        )
    for field in ("sample_rate", "num_samples"):
        own = getattr(model, field, None)
        if card[field] != own:
            raise ExportError(
                f"{field} is {card[field]} in the card of {path}, and the model's settings give "
                f"{own}: export the model again."
            )
    return model


def check_variables(model: Encoder, variables: PyTree, path: str | Path, has_head: bool) -> None:
    """Raises unless variables fit a model: name, shape and type of every array that it uses.

    Nothing is computed. Arrays that the model does not use are ignored.

    Args:
        model: unbound.
        variables: nested dict of arrays.
        path: their origin, for messages.
        has_head: whether the output layer is computed too.

    Raises:
        ExportError: if the model cannot be built, or an array is missing or of another kind; the
            message names the first.
    """

    def initialize(inputs: jax.Array) -> PyTree:
        options = {"train": False} if has_head else {"method": embed_whole}
        return model.init(jax.random.key(0), inputs, **options)

    try:
        wanted = jax.eval_shape(initialize, model.batch_shape(1))
    except (ValueError, TypeError, ArithmeticError, LookupError, FlaxError) as error:
        wrong = " ".join(str(error).split())[:200] or type(error).__name__
    else:
        wrong = _find_wrong_array(variables, wanted)
    if wrong is not None:
        raise ExportError(
            f"The arrays of {path} are not those of the model in its card ({wrong}): the card was "
            "edited, or another version made it; export the model again."
        )


def _find_wrong_array(variables: PyTree, wanted: PyTree) -> str | None:
    """Returns what is wrong with the first array that does not fit, or None."""
    found = traverse_util.flatten_dict(variables, sep=".")
    for name, array in traverse_util.flatten_dict(wanted, sep=".").items():
        if name not in found:
            return f"{name} is missing"
        shape, dtype = jnp.shape(found[name]), jnp.result_type(found[name])
        if shape != array.shape:
            return f"{name} has the shape {shape} there and {array.shape} in the model"
        if jnp.issubdtype(dtype, jnp.floating) != jnp.issubdtype(array.dtype, jnp.floating):
            return f"{name} holds {dtype} numbers there and {array.dtype} in the model"
    return None


def embed_whole(model: Encoder, inputs: jax.Array) -> jax.Array:
    """Returns the embeddings of inputs without asking for the output layer's parameters.

    Args:
        model: bound.
        inputs: (batch, ...), as the model reads them.
    """
    return model.embed(model.features(inputs, train=False), train=False)[0]
