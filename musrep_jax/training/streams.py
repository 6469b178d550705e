"""Batches of one or several streams: operations that apply to each stream."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def map_streams(
    function: Callable[[Mapping[str, Any]], Any], batch: Mapping[str, Any], name: str = ""
) -> Any:
    """Returns the batch with every stream replaced by what the function makes of it.

    Args:
        function: stream, a mapping of arrays (examples, ...) of one length -> anything.
        batch: one stream, or named streams, see `musrep_jax.types.Batch`.
        name: of the batch within a larger one, for messages.

    Returns:
        The function's result for a batch that is one stream; else a dict of them by name, nested as
        the batch is.

    Raises:
        ValueError: if arrays and streams stand side by side, arrays of one stream differ in length,
            or a stream is empty.
    """
    where = f"The stream {name!r} of the batch" if name else "The batch"
    nested = [key for key, value in batch.items() if isinstance(value, Mapping)]
    if not nested:
        _check_lengths(batch, where)
        return function(batch)
    if len(nested) < len(batch):
        arrays = [key for key in batch if key not in nested]
        raise ValueError(
            f"{where} has arrays ({', '.join(arrays)}) and streams ({', '.join(nested)}) side by "
            "side; put the arrays into a stream of their own."
        )
    prefix = f"{name}/" if name else ""
    return {key: map_streams(function, value, prefix + key) for key, value in batch.items()}


def stream_length(stream: Mapping[str, Any]) -> int:
    """Returns the number of examples in a stream.

    Args:
        stream: arrays (examples, ...).
    """
    return np.shape(next(iter(stream.values())))[0]


def _check_lengths(stream: Mapping[str, Any], where: str) -> None:
    """Raises unless all arrays of a stream have one row per example."""
    lengths = {name: np.shape(array)[:1] for name, array in stream.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {n[0] if n else 'none'}" for name, n in lengths.items())
        raise ValueError(
            f"{where} has arrays of different length ({shown}); the arrays of one stream have one "
            "row per example: give each length a stream of its own, such as "
            "{'labeled': {...}, 'unlabeled': {...}}."
        )
    if not lengths or next(iter(lengths.values())) in ((), (0,)):
        shown = ", ".join(lengths) or "no arrays"
        raise ValueError(
            f"{where} has no examples ({shown}); every stream needs arrays with at least one row."
        )
