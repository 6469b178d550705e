"""Tracks that two data sets share, whatever they are called and wherever they lie."""

from collections.abc import Iterable, Sequence

from musrep_jax.config import ConfigError
from musrep_jax.data.input.tracks import Tracks
from musrep_jax.tasks.jobs import strip_parents


def find_shared_audio(learned: Iterable[Tracks], tested: Iterable[Tracks]) -> list[tuple[str, str]]:
    """Returns the ids of tracks with the same audio, one of each side, in the order of the second.

    Both are read at the same sample rate and in the same form; excerpts of a recording and other
    encodings of it are not recognized. See `TrackStore.identify_audio`.

    Args:
        learned: tracks that something was learned from.
        tested: tracks that it is tested on.
    """
    known = {name: track_id for name, track_id in _identify(learned) if name}
    return [(known[name], track_id) for name, track_id in _identify(tested) if name in known]


def refuse_shared_audio(
    learned: Sequence[Tracks], tested: Sequence[Tracks], source: str, target: str, setting: str
) -> None:
    """Raises if a model was trained on tracks that it is to be tested on.

    Args:
        learned: tracks that the model has seen.
        tested: tracks of the test.
        source: name of the data set of the former.
        target: name of the data set of the latter.
        setting: that names the source.

    Raises:
        ConfigError: with their number and an example.
    """
    shared = find_shared_audio(learned, tested)
    if shared:
        ours, theirs = shared[0]
        raise ConfigError(
            f"{len(shared)} of {sum(map(len, tested))} test tracks of {strip_parents(target)} are "
            f"also in {strip_parents(source)}, which the network was trained on, such as "
            f"{theirs!r} ({ours!r} there): it has seen them with their labels; take them out of "
            f"one of the two, or name another data set by {setting}."
        )


def _identify(parts: Iterable[Tracks]) -> list[tuple[str, str]]:
    """Returns what identifies the audio of each track, and its id."""
    return [
        (tracks.store.identify_audio(int(row)), track_id)
        for tracks in parts
        for row, track_id in zip(tracks.rows, tracks.track_ids, strict=True)
    ]
