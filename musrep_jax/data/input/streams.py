"""Streams of batches joined: side by side in one batch, or one after the other."""

from collections.abc import Callable, Iterator, Mapping

from musrep_jax.data.input.batch_stream import Batch

Batches = Callable[[int], Iterator[Batch]]
"""Number of steps made -> endless iterator of batches from there on; batch i depends on the seed
and i only."""


def zip_streams(sources: Mapping[str, Batches]) -> Batches:
    """Returns batches with one stream of every source, such as labeled and unlabeled tracks.

    Batch i has batch i of every source. Sources that draw from equally many tracks need different
    seeds, or they draw alike.

    Args:
        sources: name of the stream -> batches, of any size.

    Raises:
        ValueError: if there is no source.
    """
    _check_sources(sources)

    def batches(start_step: int) -> Iterator[Batch]:
        return _Joined({name: source(start_step) for name, source in sources.items()}, None)

    return batches


def alternate(sources: Mapping[str, Batches]) -> Batches:
    """Returns batches of the sources in turn, such as of several data sets.

    Batch i is `{name: batch}` of source `i % number`, which counts its own steps; what a batch
    looks like may differ from source to source (each is compiled once).

    Args:
        sources: name -> batches, in the order of their turns.

    Raises:
        ValueError: if there is no source.
    """
    _check_sources(sources)

    def batches(start_step: int) -> Iterator[Batch]:
        count = len(sources)
        opened = {
            name: source(max(0, -(-(start_step - turn) // count)))
            for turn, (name, source) in enumerate(sources.items())
        }
        return _Joined(opened, start_step)

    return batches


def _check_sources(sources: Mapping[str, Batches]) -> None:
    if not sources:
        raise ValueError("there are no streams to join; give at least one, by name.")


class _Joined(Iterator[Batch]):
    """Batches of several iterators, which are closed with it."""

    def __init__(self, streams: Mapping[str, Iterator[Batch]], step: int | None) -> None:
        """Takes the iterators.

        Args:
            streams: by name.
            step: the number of the next batch if they take turns; None joins them in every batch.
        """
        self._streams, self._step = streams, step

    def __next__(self) -> Batch:
        names = list(self._streams)
        if self._step is not None:
            names = [names[self._step % len(names)]]
            self._step += 1
        return {name: next(self._streams[name]) for name in names}

    def close(self) -> None:
        """Ends all iterators."""
        for stream in self._streams.values():
            close = getattr(stream, "close", None)  # not every iterator has anything to end
            if close is not None:
                close()
