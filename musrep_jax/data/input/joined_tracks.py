"""Tracks of several splits one after the other, whose labels nobody reads."""

from collections.abc import Sequence

import numpy as np

from musrep_jax.data.input.tracks import Tracks
from musrep_jax.data.specs import UNLABELED


class UnlabeledTracks(Tracks):
    """Tracks of one or several splits of a data set, without their labels.

    Attributes:
        parts: the splits, or some of their tracks.
        label_matrix: float32 (tracks, 0).
    """

    def __init__(self, parts: Sequence[Tracks]) -> None:
        """Takes tracks that are stored alike.

        Args:
            parts: at least one; all of one data set.

        Raises:
            ValueError: if there is none, or they are of different data sets.
        """
        if len({part.spec.name for part in parts}) != 1:
            raise ValueError("tracks without labels are joined from parts of one data set.")
        self.parts = tuple(parts)
        self.spec, self.split, self.columns = parts[0].spec, UNLABELED, None
        self.num_samples = np.concatenate([part.num_samples for part in parts])
        self.label_matrix = np.zeros((len(self.num_samples), 0), np.float32)
        self.track_ids = [name for part in parts for name in part.track_ids]
        self.groups = [group for part in parts for group in part.groups]
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return len(self.track_ids)

    def crop(
        self,
        index: int,
        start: int,
        length: int,
        *,
        whole: bool = False,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Returns an excerpt of a track, see `Tracks.crop`."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        part = self.parts[number]
        row = int(index) - int(self._ends[number]) + len(part)
        return part.crop(row, start, length, whole=whole, out=out)
