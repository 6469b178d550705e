"""Tracks in memory, as samplers and crops see a data set: each class is a level under noise."""

from types import SimpleNamespace

import numpy as np

from musrep_jax.data.specs import ChunkSpec

NUM_CLASSES, NUM_SAMPLES = 4, 16
CHUNK = ChunkSpec(1000, NUM_SAMPLES)


class ToyTracks:
    """Tracks of 20 and more samples; track i is of class `i % NUM_CLASSES`."""

    spec = SimpleNamespace(name="levels", stored_form="pcm16", sample_rate=1000)

    def __init__(self, num_tracks, seed):
        self.seed, self.num_samples = seed, NUM_SAMPLES + 4 + np.arange(num_tracks)
        self.classes = np.arange(num_tracks) % NUM_CLASSES
        self.label_matrix = np.eye(NUM_CLASSES, dtype=np.float32)[self.classes]

    def __len__(self):
        return len(self.num_samples)

    def empty_batch(self, size, length, as_stored=False):
        return np.empty((size, length), np.int16 if as_stored else np.float32)

    def crop(self, row, start, length, whole=False, out=None):
        noise = np.random.default_rng((self.seed, row)).normal(size=self.num_samples[row])
        level = self.classes[row] - (NUM_CLASSES - 1) / 2
        audio = np.int16(4096 * (0.5 * noise + level)[start : start + length])
        out[:] = audio if out.dtype == np.int16 else audio / np.float32(32768)
        return out

    def read_starts(self):
        """Returns the first chunk of every track, float32 (tracks, NUM_SAMPLES)."""
        audio = self.empty_batch(len(self), NUM_SAMPLES)
        for row in range(len(self)):
            self.crop(row, 0, NUM_SAMPLES, out=audio[row])
        return audio
