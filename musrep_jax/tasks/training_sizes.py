"""Numbers of training tracks, as a config states them and a job takes them."""

from musrep_jax.config import ConfigError, split_list
from musrep_jax.data.datasets import Tracks
from musrep_jax.evaluation.subsets import Size, draw_subset, parse_size


def parse_sizes(text: str) -> tuple[Size, ...]:
    """Returns the sizes of the comma-separated setting `num_train_tracks`.

    Args:
        text: numbers of tracks, numbers per class, or "all", which is 0.

    Raises:
        ConfigError: if a part is none of these.

    Example:
        >>> parse_sizes("10, 3_per_class, all")
        (10, '3_per_class', 0)
    """
    try:
        return tuple(parse_size(part) for part in split_list(text))
    except ValueError as error:
        raise ConfigError(f"num_train_tracks is {text!r}; {error}.") from error


def draw_training_tracks(tracks: Tracks, size: Size, seed: int) -> Tracks:
    """Returns the training tracks of a job, see `musrep_jax.evaluation.subsets.draw_subset`.

    Args:
        tracks: of the training split.
        size: of the job.
        seed: of the job.

    Raises:
        ValueError: if there are fewer tracks than were asked for.
    """
    if not size:
        return tracks
    try:
        chosen = draw_subset(tracks.label_matrix, size, seed, tracks.track_ids)
    except ValueError as error:
        raise ValueError(f"Split {tracks.split!r} of {tracks.spec.name!r}: {error}") from error
    return tracks.take(chosen)
