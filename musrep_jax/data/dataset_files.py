"""The metadata files of a built data set, and the 16-bit storage of waveforms."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from musrep_jax.data.specs import DatasetSpec

REPORT_FILE = "build_report.json"
METADATA_FILE = "metadata.json"
PCM16_SCALE = 32768.0
_MAX_PRINTED_REFUSALS = 10


def to_pcm16(waveform: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns a waveform as 16-bit integers, and the factor that it was scaled by.

    A waveform within [-1, 1] keeps its level (16-bit sources come back bit for bit). One that
    exceeds it, as decoders of lossy formats give, would clip, and is scaled down to a peak of 1.

    Args:
        waveform: float (samples,), finite.

    Returns:
        int16 (samples,), and the factor, 1.0 for a waveform that was kept.
    """
    peak = float(np.max(np.abs(waveform), initial=0.0))
    factor = 1.0 / peak if peak > 1.0 else 1.0
    scaled = np.round(np.asarray(waveform, np.float64) * (factor * PCM16_SCALE))
    return np.clip(scaled, -PCM16_SCALE, PCM16_SCALE - 1).astype(np.int16), factor


def read_spec(directory: pathlib.Path) -> DatasetSpec | None:
    """Returns the spec of a built data set, or None when there is none in that directory."""
    path = pathlib.Path(directory, METADATA_FILE)
    if not path.is_file():
        return None
    fields = json.loads(path.read_text(encoding="utf-8"))["spec"]
    return DatasetSpec.from_dict(fields)


def read_report(directory: pathlib.Path) -> dict[str, Any]:
    """Returns the build report of a built data set."""
    return json.loads(pathlib.Path(directory, REPORT_FILE).read_text(encoding="utf-8"))


def format_report(report: Mapping[str, Any]) -> str:
    """Returns a build report as a few lines of text."""
    sizes = ", ".join(f"{name} {count}" for name, count in report["num_tracks"].items())
    lines = [f"built {report['name']}: {sizes} tracks"]
    refused = report["refused"]
    if refused:
        lines.append(f"  {len(refused)} refused (all of them in {REPORT_FILE}):")
        lines += [f"    {row['path']}: {row['reason']}" for row in refused[:_MAX_PRINTED_REFUSALS]]
    if report["scaled"]:
        lines.append(f"  {len(report['scaled'])} scaled down to a peak of 1, so as not to clip")
    lines += [f"  note: {note}" for note in report.get("notes", ())]
    return "\n".join(lines)
