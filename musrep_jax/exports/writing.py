"""Writes a model in one of the forms, and holds what was written against the model itself."""

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from musrep_jax.config import choose
from musrep_jax.evaluation.aggregation import probabilities
from musrep_jax.exports import ALIASES, FORMATS
from musrep_jax.exports.cards import format_model_readme
from musrep_jax.inference.encoder import LoadedEncoder
from musrep_jax.inference.layout import CONFIG_FILE
from musrep_jax.inference.tagger import LoadedTagger
from musrep_jax.models import NO_TOKEN
from musrep_jax.runtime.folders import write_folder_atomically
from musrep_jax.runtime.integrity import CHECKSUMS_FILE, write_checksums
from musrep_jax.training.checkpoints import README_FILE, ExportError

NUM_TEST_CHUNKS = 3
TOLERANCE = 1e-4
"""Largest difference of a probability, and of other outputs relative to their largest number. The
formulations of the plain export and of this machine's CPU add in another order."""

Outputs = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class WriterResult:
    """The result of a format's writer.

    Attributes:
        outputs: of the form, read back from the disk, for the test chunks.
        python_lines: three lines of Python that load and use it; `{path}` is the folder.
        facts: further ones, as JSON values.
    """

    outputs: Outputs
    python_lines: tuple[str, str, str]
    facts: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """A form of a model on the disk, compared with the model.

    Attributes:
        format: its name.
        path: of its folder.
        differences: output -> largest absolute difference from the tagger, over the test chunks.
        python_lines: three lines of Python that load and use it.
        facts: further ones, as JSON values.
    """

    format: str
    path: Path
    differences: Mapping[str, float]
    python_lines: tuple[str, str, str]
    facts: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Returns everything as JSON values."""
        return {
            "format": self.format,
            "path": str(self.path),
            "bytes": self.num_bytes,
            "test_chunks": NUM_TEST_CHUNKS,
            "differences": dict(self.differences),
            **self.facts,
            "python": list(self.python_lines),
        }

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return sum(file.stat().st_size for file in self.path.iterdir())


def export_as(
    tagger: LoadedEncoder, form: str, out: str | Path, readme: str | None = None
) -> ExportResult:
    """Writes a model in a form, reads it back, and compares the two on test chunks.

    Args:
        tagger: the model.
        form: a key of `FORMATS` or `ALIASES`.
        out: folder that is written; an earlier export of this form is replaced, nothing else is.
        readme: the model card's text, if somebody has edited it; otherwise it is made.

    Returns:
        What was written.

    Raises:
        ConfigError: if there is no such form.
        ExportError: if the path is taken, the disk is full, a package is missing, or the form's
            numbers are not the tagger's; then nothing is left behind.
    """
    known = ALIASES.get(form, form)
    choose(known, tuple(FORMATS), "format")
    form_module = importlib.import_module(FORMATS[known])
    files = {*form_module.FILES, CONFIG_FILE, README_FILE, CHECKSUMS_FILE}
    path = Path(out).absolute()
    chunks = make_test_chunks(tagger)
    with write_folder_atomically(
        path, ExportError, lambda folder: _names(folder) == files
    ) as folder:
        written: WriterResult = form_module.write(tagger, folder, chunks)
        differences = compare(compute_outputs(tagger, chunks), written.outputs)
        text = readme or format_model_readme(tagger.card, _lines(written, "FOLDER"))
        (folder / README_FILE).write_text(text, encoding="utf-8")
        write_checksums(folder, without=(README_FILE,))
    return ExportResult(known, path, differences, _lines(written, str(path)), written.facts)


def _lines(written: WriterResult, path: str) -> tuple[str, str, str]:
    """Returns the lines that load the export at a path."""
    first, second, third = (line.replace("{path}", path) for line in written.python_lines)
    return first, second, third


def _names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def make_test_chunks(tagger: LoadedEncoder) -> np.ndarray:
    """Returns the chunks that forms are compared on: falling tones, noise, and silence.

    The tones have a faint noise (-80 dB), as recordings have: between pure ones a spectrum of
    float32 holds rounding alone, and every way of computing it rounds differently.

    Texts, for a model that reads them, are made of the first token ids: a full one, one that ends
    early, and an empty one.

    Args:
        tagger: whose chunks they are.

    Returns:
        float32 (3, samples) or int32 (3, tokens).
    """
    (size,) = tagger.model.input_shape.shape
    if tagger.model.INPUT == "tokens":
        place = np.arange(size)
        texts = [place % 7, np.where(place < (size + 1) // 2, place % 5, NO_TOKEN)]
        return np.stack([*texts, np.full(size, NO_TOKEN)]).astype(np.int32)
    time = np.arange(size) / tagger.sample_rate
    tones = sum(np.sin(2 * np.pi * f * time * np.exp(-0.1 * time)) for f in (220.0, 550.0, 1760.0))
    noise = np.random.default_rng(0).standard_normal(size)
    chunks = [0.2 * tones + 1e-4 * noise, 0.1 * noise, np.zeros(size)]
    return np.stack(chunks).astype(np.float32)


def compute_outputs(tagger: LoadedEncoder, chunks: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the outputs of a model for chunks.

    Args:
        tagger: the model.
        chunks: float32 (chunks, samples) or int32 (chunks, tokens).

    Returns:
        `embedding` (chunks, width) and, if it has labels, `logits` and `probabilities`
        (chunks, classes).
    """
    logits, embeddings = (np.stack(x) for x in zip(*tagger.run_chunks(chunks), strict=True))
    if not isinstance(tagger, LoadedTagger) or not tagger.labels:
        return {"embedding": embeddings}
    scores = probabilities(logits, tagger.output)
    return {"embedding": embeddings, "logits": logits, "probabilities": scores}


def compare(ours: Outputs, theirs: Outputs) -> dict[str, float]:
    """Returns the largest absolute difference of every output.

    Args:
        ours: name -> array, of the tagger.
        theirs: the same of a form.

    Raises:
        ExportError: if one is larger than `TOLERANCE`, or an output is missing.
    """
    if ours.keys() != theirs.keys():
        raise ExportError(
            f"The export has the outputs {sorted(theirs)} and the model {sorted(ours)}."
        )
    differences = {}
    for name, expected in sorted(ours.items()):
        found = np.asarray(theirs[name], np.float64)
        difference = float(np.abs(found - expected).max(initial=0.0))
        scale = 1.0 if name == "probabilities" else max(1.0, float(np.abs(expected).max()))
        if not difference <= TOLERANCE * scale:
            raise ExportError(
                f"The export's {name} differ by {difference:.3g} from the model's own, more than "
                f"{TOLERANCE * scale:.3g}: nothing was written."
            )
        differences[name] = difference
    return differences
