"""The form `safetensors`: all arrays in one file, the card beside it, as the Hub lays models out.

`model.safetensors` holds the variables under flat dotted names (`params.head.kernel`,
`batch_stats.layer1.bn.mean`; kernels of dense layers are (in, out), of convolutions (height, width,
in, out), with time before frequency) and the constants of the front end (`front_end.window` and
`front_end.mel_filters`, or `front_end.fundamentals` of learned harmonic filters), for programs that
compute it themselves. `config.json` is the card: architecture and settings, front end, sample rate
and chunk length, labels in the order of the output units, output, aggregation and thresholds.
"""

import json
from pathlib import Path

import jax
import numpy as np
from flax import traverse_util

from musrep_jax.dsp.harmonic import fundamental_frequencies
from musrep_jax.dsp.spectrogram import hann_window, mel_filter_bank
from musrep_jax.exports.cards import make_usage_lines
from musrep_jax.exports.writing import WriterResult, compute_outputs
from musrep_jax.inference.encoder import LoadedEncoder
from musrep_jax.inference.layout import (
    CONFIG_FILE,
    FRONT_END_PREFIX,
    SAFETENSORS_FILE,
    SAFETENSORS_FORMAT,
)
from musrep_jax.inference.reading import read_safetensors, safetensors_numpy
from musrep_jax.inference.tagger import build_encoder
from musrep_jax.models import Encoder, SpectrogramTagger
from musrep_jax.models.harmonic_cnn import HarmonicCNN

FILES = (SAFETENSORS_FILE,)


def write(tagger: LoadedEncoder, folder: Path, chunks: np.ndarray) -> WriterResult:
    """Writes `model.safetensors` and `config.json`, and runs the model that they give back.

    Args:
        tagger: the model.
        folder: an empty one.
        chunks: float32 (chunks, samples) or int32 (chunks, tokens).

    Raises:
        ExportError: if the package safetensors is missing.
    """
    flat = traverse_util.flatten_dict(jax.device_get(tagger.variables), sep=".")
    constants = get_front_end_constants(tagger.model)
    arrays = {name: np.ascontiguousarray(value) for name, value in {**flat, **constants}.items()}
    # Written by ourselves: of a full disk the package raises errors of its own.
    content = safetensors_numpy().save(arrays, metadata={"format": "flax"})
    (folder / SAFETENSORS_FILE).write_bytes(content)
    config = {
        "library_name": "musrep_jax",
        "safetensors_format": SAFETENSORS_FORMAT,
        **tagger.card,
    }
    text = json.dumps(config, indent=1, allow_nan=False)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
    back = build_encoder(*read_safetensors(folder), folder)
    return WriterResult(
        outputs=compute_outputs(back, chunks),
        python_lines=make_usage_lines(tagger.card, "{path}"),
        facts={"num_arrays": len(arrays), "fingerprint": back.fingerprint},
    )


def get_front_end_constants(model: Encoder) -> dict[str, np.ndarray]:
    """Returns the arrays that a front end uses and no setting spells out.

    Args:
        model: the module.

    Returns:
        Dotted name -> float32 array: `front_end.window` (n_fft,), and `front_end.mel_filters`
        (n_fft // 2 + 1, n_mels) or `front_end.fundamentals` (bands,) in Hz; nothing for a model
        that reads the waveform.
    """
    if isinstance(model, SpectrogramTagger):
        found = {"window": hann_window(model.n_fft), "mel_filters": mel_filter_bank(model.log_mel)}
    elif isinstance(model, HarmonicCNN):
        found = {
            "window": hann_window(model.n_fft),
            "fundamentals": fundamental_frequencies(model.grid).astype(np.float32),
        }
    else:
        found = {}
    return {FRONT_END_PREFIX + name: array for name, array in found.items()}
