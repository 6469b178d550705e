"""The page of `musrep explain`: maps under a spectrogram that play the moment one clicks on."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from musrep_jax.data.audio.encoders import compress
from musrep_jax.inference.explanation import CAPTIONS, Explanation
from musrep_jax.inference.tagger import LoadedTagger
from musrep_jax.pages import read_static
from musrep_jax.pages.document import make_document
from musrep_jax.pages.markup import Markup, data_block, element, table

STYLES = ("theme.css",)
SCRIPTS = ("maps.js", "explanation.js")
MAX_FRAMES = 1500
"""Of the spectrogram on the page; more are averaged."""
_NUM_TAGS = 10
_TITLES = {
    "attention": "Attention of the class token",
    "contribution": "Probability from one moment alone",
    "occlusion": "Loss of the logit when a moment is silenced",
    "gradients": "Integrated gradients of the logit",
}
_SIGNED = ("occlusion", "gradients")

Spectrogram = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Level (bands, frames), edges of bands in Hz and of frames in seconds."""


def describe_maps(
    spectrogram: Spectrogram, found: Sequence[Explanation], joint: float | None
) -> dict[str, Any]:
    """Returns what `drawMaps` in `static/maps.js` takes, as JSON values.

    Args:
        spectrogram: of the recording.
        found: the maps.
        joint: where two recordings meet, in seconds; None for one recording.
    """
    level, hertz, edges = spectrogram
    level, edges = _shorten(level, edges)
    spans = np.stack([edges[:-1], edges[1:]], axis=1)
    low, high = np.percentile(level, 1), float(level.max())
    return {
        "duration": float(edges[-1]),
        "joint": joint,
        "spectrogram": {
            "numRows": len(level),
            "spans": np.round(spans, 4).tolist(),
            "bytes": _encode((level - low) / max(high - low, 1e-9)),
            "note": f"{hertz[0]:.0f} to {hertz[-1]:,.0f} Hz, mel scale",
        },
        "maps": [_describe(one) for one in found],
    }


def _describe(one: Explanation) -> dict[str, Any]:
    """Returns a map as JSON values: bytes from 0 to 255 and what they stand for."""
    largest = max(float(np.abs(one.values).max()), 1e-9)
    is_signed = one.method in _SIGNED
    scaled = (one.values / largest + 1) / 2 if is_signed else one.values / largest
    low = f"-{largest:.3g}" if is_signed else "0"
    return {
        "title": _TITLES[one.method],
        "caption": CAPTIONS[one.method],
        "names": list(one.names),
        "spans": np.round(one.spans, 4).tolist(),
        "numRows": one.values.shape[1] if one.values.ndim == 3 else 0,
        "isSigned": is_signed,
        "range": f"{low} to {largest:.3g}",
        "special": None if one.special is None else one.special.mean(axis=1).tolist(),
        "bytes": _encode(scaled),
    }


def _encode(values: np.ndarray) -> str:
    """Returns values in [0, 1] as bytes, row by row, in base64."""
    levels = np.round(255 * np.clip(values, 0, 1)).astype(np.uint8)
    return base64.b64encode(levels.tobytes()).decode("ascii")


def _shorten(level: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns a spectrogram with at most `MAX_FRAMES` frames, means of neighbors."""
    count = level.shape[1]
    step = -(-count // MAX_FRAMES)
    starts = np.arange(0, count, step)
    sums = np.add.reduceat(level, starts, axis=1)
    sizes = np.diff(np.append(starts, count))
    return sums / sizes, np.append(edges[starts], edges[-1])


def make_page(
    tagger: LoadedTagger,
    audio: np.ndarray,
    spectrogram: Spectrogram,
    found: Sequence[Explanation],
    scores: Mapping[str, float],
    *,
    title: str,
    joint: float | None = None,
) -> str:
    """Returns the page of a recording as an HTML file, its audio in it.

    Args:
        tagger: that is explained.
        audio: float32 (samples,), at the tagger's sample rate.
        spectrogram: of the audio.
        found: the maps.
        scores: label -> probability of the whole.
        title: of the recording.
        joint: where two recordings meet, in seconds; None for one recording.
    """
    content, media_type = compress(audio, tagger.sample_rate)
    url = f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
    best = sorted(scores.items(), key=lambda item: -item[1])[:_NUM_TAGS]
    rows = [(label, f"{value:.2f}") for label, value in best]
    heads = [("label", "text"), ("probability", "number")]
    script = "\n".join(read_static(name) for name in SCRIPTS)
    about = f"{tagger.card['model']['name']}, trained on {tagger.card['data']['name']}"
    body = element(
        "body",
        element(
            "div",
            element("header", element("h1", title), element("p", about, class_="soft")),
            element(
                "main",
                element(
                    "section",
                    element("audio", id="audio", src=url, controls=True, aria_label=title),
                    element("p", "Click a map to hear that moment.", class_="soft small"),
                    element("div", id="maps"),
                    class_="panel",
                ),
                element(
                    "section",
                    table(f"The {len(rows)} most probable labels of the whole", heads, rows),
                    class_="panel",
                ),
            ),
            class_="page",
        ),
        data_block("explanation-data", describe_maps(spectrogram, found, joint)),
        element("script", Markup(script)),
    )
    return make_document(f"{title}: explained", body, STYLES, script)
