"""The teacher of a student: opened, checked against the labels, and heard at its own rate."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from musrep_jax.config import ConfigError
from musrep_jax.data.specs import ChunkSpec
from musrep_jax.dsp.resampling import resample
from musrep_jax.inference.tagger import BackboneError, LoadedTagger, load_tagger
from musrep_jax.models import Tagger
from musrep_jax.tasks.jobs import strip_parents
from musrep_jax.tasks.settings import make_chunk_spec
from musrep_jax.tasks.tagging.sources import PRETRAINED_PREFIX, find_export
from musrep_jax.tasks.task import UnavailableError
from musrep_jax.training.checkpoints import ExportError
from musrep_jax.types import Array, PyTree

_MAX_NAMES = 3


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A tagger that says what a student learns.

    Attributes:
        model: the tagger.
        variables: its own, which nothing changes.
        columns: of its labels, those of the student in the student's order.
        name: for results.
        notes: on its origin, for the card of its student.
    """

    model: Tagger
    variables: PyTree
    columns: tuple[int, ...]
    name: str
    notes: tuple[str, ...]


def open_teacher(place: str | Path, labels: Sequence[str], output: str, name: str) -> Teacher:
    """Returns the teacher of an export, if it knows the labels.

    Args:
        place: `export:FOLDER`, `pretrained:NAME`, or the folder of an export.
        labels: of the student, in order.
        output: "sigmoid" or "softmax", what turns the student's logits into probabilities.
        name: of the teacher, for messages and results.

    Raises:
        UnavailableError: if a pretrained model cannot be fetched.
        ConfigError: if there is no such model, or it has other labels or outputs.
    """
    try:
        loaded = load_tagger(find_export(str(place)))
    except ConfigError as error:
        kind = UnavailableError if str(place).startswith(PRETRAINED_PREFIX) else ConfigError
        raise kind(f"student.teacher names {name}: {error}") from error
    except (ExportError, BackboneError, OSError) as error:
        raise ConfigError(f"student.teacher names {name}: {error}") from error
    columns = match_labels(loaded.card["labels"], labels, name)
    if loaded.output != output:
        raise ConfigError(
            f"student.teacher names {name}, whose output is {loaded.output}, and its student has "
            f"{output}: give both the same loss by --config.train.loss, or take a teacher with "
            f"{output}."
        )
    return Teacher(loaded.model, loaded.variables, columns, name, (describe_teacher(loaded, name),))


def match_labels(theirs: Sequence[str], ours: Sequence[str], name: str) -> tuple[int, ...]:
    """Returns where a teacher has the labels of its student.

    Args:
        theirs: labels of the teacher.
        ours: labels of the student.
        name: of the teacher, for the message.

    Raises:
        ConfigError: if the teacher has other labels.
    """
    place = {label: column for column, label in enumerate(theirs)}
    if set(place) != set(ours):
        lacks = [label for label in ours if label not in place]
        more = [label for label in theirs if label not in set(ours)]
        parts = [f"lacks {_shorten(lacks)}"] if lacks else []
        parts += [f"has {_shorten(more)} instead" if lacks else f"has {_shorten(more)} too"] * bool(
            more
        )
        raise ConfigError(
            f"student.teacher names {name}, which has other labels than the target: it "
            f"{' and '.join(parts)}. A teacher is trained on the target's labels: take one of this "
            "run, such as --config.student.teacher=scratch, or linear:FEATURES above another model."
        )
    return tuple(place[label] for label in ours)


def order_outputs(teacher: Teacher) -> PyTree:
    """Returns a teacher's variables with its labels in the order of its student.

    Args:
        teacher: the teacher.
    """
    columns = np.array(teacher.columns)
    leaves = traverse_util.flatten_dict(dict(teacher.variables))
    ordered = {
        path: np.asarray(leaf)[..., columns] if teacher.model.is_head_path(path[1:]) else leaf
        for path, leaf in leaves.items()
    }
    return traverse_util.unflatten_dict(ordered)


def _shorten(names: Sequence[str]) -> str:
    """Returns the first names, and how many there are."""
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(map(repr, names[:_MAX_NAMES])) + more


def describe_teacher(loaded: LoadedTagger, name: str) -> str:
    """Returns a sentence on a teacher, for the card of its student.

    Args:
        loaded: the teacher.
        name: for results.
    """
    licence = loaded.card["data"]["licence"]
    return f"Taught by {strip_parents(name)}, licence: {licence}."


@dataclasses.dataclass(frozen=True)
class Hearing:
    """How two networks hear the same excerpt of music.

    Attributes:
        sample_rate: of the excerpt, in Hz: the larger one of theirs.
        length: of the excerpt, in samples, or frames of spectrograms.
        student: one chunk, at the start of the excerpt, where a short recording has its sound.
        teacher: as many as cover what the student hears.
    """

    sample_rate: int
    length: int
    student: "Excerpts"
    teacher: "Excerpts"


@dataclasses.dataclass(frozen=True)
class Excerpts:
    """Chunks of a longer excerpt.

    Attributes:
        starts: of each, in samples or frames of the longer one.
        length: of each there.
        num_samples: of each for the model, at its own rate.
        padding: the value after the end of a recording.
    """

    starts: tuple[int, ...]
    length: int
    num_samples: int
    padding: float

    def cut(self, inputs: Array) -> Array:
        """Returns the chunks, those of one excerpt side by side.

        Args:
            inputs: float32 (batch, samples) or (batch, frames, mels).

        Returns:
            float32 (batch * chunks, ...).
        """
        parts = [inputs[:, start : start + self.length] for start in self.starts]
        chunks = jnp.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:])
        return chunks if self.length == self.num_samples else resample(chunks, self.num_samples)

    def average(self, probabilities: Array, inputs: Array) -> Array:
        """Returns the mean over chunks; those after the end of a recording do not count.

        Args:
            probabilities: (batch * chunks, classes).
            inputs: what was cut.

        Returns:
            (batch, classes).
        """
        count = len(self.starts)
        if count == 1:
            return probabilities
        is_sound = inputs > self.padding if inputs.ndim == 3 else inputs != self.padding
        is_sound = is_sound.reshape(*inputs.shape[:2], -1).any(axis=-1)
        end = jnp.max(is_sound * jnp.arange(1, inputs.shape[1] + 1)[None], axis=1, keepdims=True)
        starts = jnp.asarray(self.starts)[None]
        # The first chunk counts in any case: a recording may be silent.
        counts = ((starts < end) | (starts == starts.min())).astype(jnp.float32)
        rows = probabilities.reshape(len(inputs), count, -1)
        return (rows * counts[..., None]).sum(axis=1) / counts.sum(axis=1, keepdims=True)


def plan_hearing(student: ChunkSpec, teacher: ChunkSpec, stored_form: str) -> Hearing:
    """Returns how student and teacher hear the same music, each at its own rate and length.

    The longer chunk is the excerpt. A student hears its start; a teacher of shorter chunks hears
    as many as cover it, and the mean of what it says of them is taken.

    Args:
        student: what the student reads.
        teacher: what the teacher reads.
        stored_form: of the music, see `musrep_jax.data.specs`.
    """
    if stored_form == "log_mel":  # of one rate and front end, which the pipeline checks
        rate, padding = student.sample_rate, -100.0
        lengths = (student.num_frames, teacher.num_frames)
        own = lengths
    else:
        rate, padding = max(student.sample_rate, teacher.sample_rate), 0.0
        own = (student.num_samples, teacher.num_samples)
        lengths = (_scale(student, rate), _scale(teacher, rate))
    length = max(lengths)
    count = -(-length // lengths[1])
    starts = np.linspace(0, length - lengths[1], count).round().astype(int)
    return Hearing(
        sample_rate=rate,
        length=length,
        student=Excerpts((0,), lengths[0], own[0], padding),
        teacher=Excerpts(tuple(map(int, starts)), lengths[1], own[1], padding),
    )


def _scale(chunk: ChunkSpec, sample_rate: int) -> int:
    """Returns the length of a chunk in samples of a rate that is not below its own."""
    return -(-chunk.num_samples * sample_rate // chunk.sample_rate)


def hear_alike(student: Tagger, teacher: Tagger, stored_form: str) -> Hearing:
    """Returns how two models hear the same music, see `plan_hearing`.

    Args:
        student: the student.
        teacher: the teacher.
        stored_form: of the music.
    """
    return plan_hearing(make_chunk_spec(student), make_chunk_spec(teacher), stored_form)


def make_excerpt_spec(hearing: Hearing, chunk: ChunkSpec, stored_form: str) -> ChunkSpec:
    """Returns the excerpt that batches of music without labels hold.

    Args:
        hearing: of student and teacher.
        chunk: of the student.
        stored_form: of the music.
    """
    length = hearing.length
    if stored_form == "log_mel":
        length = (hearing.length - 1) * int((chunk.front_end or {})["hop_length"])
    return dataclasses.replace(chunk, sample_rate=hearing.sample_rate, num_samples=length)
