"""The objective of a student: labeled and unlabeled music in one pass, and a teacher beside it."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from musrep_jax.data.input import pipeline
from musrep_jax.data.input.streams import zip_streams
from musrep_jax.models import Tagger
from musrep_jax.tasks import binding
from musrep_jax.tasks.augmentation import Augmentation
from musrep_jax.tasks.settings import make_chunk_spec
from musrep_jax.tasks.student.teacher import Hearing, Teacher, make_excerpt_spec
from musrep_jax.tasks.student.unlabeled import Unlabeled
from musrep_jax.tasks.tagging.objective import TaggingObjective
from musrep_jax.training import sharding
from musrep_jax.training.objective import UpdateState
from musrep_jax.types import Array, Batch, LossFn, PyTree, Stream, TrainState, model_inputs

STUDENT, TEACHER = "student", "teacher"
"""Networks, each a subtree of all variables."""
LABELED, UNLABELED = "labeled", "unlabeled"
"""Streams of a batch."""
_OTHER_SEED = 2**31
"""Added to the seed of the job: streams that draw from equally many tracks need different ones."""
SCHEDULE, NUM_STEPS = "schedule", "num_steps"
"""Collection with the number of updates made, where the weight of a loss follows it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudentObjective(TaggingObjective):
    """A student, as training sees it, with what its result says of the teacher.

    Attributes:
        teacher_name: for results.
        unlabeled: the music without labels.
        tested: the network that is tested and kept.
    """

    teacher_name: str
    unlabeled: Unlabeled
    tested: str

    def take_tagger(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the variables of the network that is tested, see `TaggingObjective`."""
        return take_network(variables, self.tested)


@dataclasses.dataclass(frozen=True)
class Lesson:
    """What a student is told, as a key of compiled programs.

    Attributes:
        loss: a key of `binding.LOSSES`.
        batch_norm: of the student, "update" or "frozen".
        weight: of music without labels.
        columns: of the teacher's labels, those of the student.
        hearing: how both hear music without labels.
        augment: what is done to the waveforms that the student hears, see `dsp.augment`, or None.
        responses: folder of impulse responses for the operation `room`.
        ramp_up_steps: updates in which the weight grows from nearly nothing; 0 for none.
    """

    loss: str
    batch_norm: str
    weight: float
    columns: tuple[int, ...]
    hearing: Hearing
    augment: str | None = None
    responses: str | None = None
    ramp_up_steps: int = 0


def take_network(variables: Mapping[str, Any], network: str) -> dict[str, Any]:
    """Returns the variables of one of several networks.

    Args:
        variables: collection -> one subtree per network, of those that have the collection.
        network: name of the subtree.
    """
    return {name: trees[network] for name, trees in variables.items() if network in trees}


def join_networks(networks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the variables of several networks in one tree.

    Args:
        networks: name -> variables, collection -> arrays.
    """
    collections = dict.fromkeys(name for variables in networks.values() for name in variables)
    return {
        collection: {
            name: variables[collection]
            for name, variables in networks.items()
            if collection in variables
        }
        for collection in collections
    }


def interleave(first: Array, second: Array) -> Array:
    """Returns the rows of both in one array, so that each device keeps those that it holds.

    Args:
        first: (rows, ...).
        second: (other rows, ...).
    """
    parts = np.gcd(len(first), len(second))
    blocks = [x.reshape(parts, -1, *x.shape[1:]) for x in (first, second)]
    return jnp.concatenate(blocks, axis=1).reshape(-1, *first.shape[1:])


def separate(rows: Array, num_first: int, num_second: int) -> tuple[Array, Array]:
    """Returns what `interleave` joined.

    Args:
        rows: (rows of both, ...).
        num_first: rows of the first one.
        num_second: rows of the second one.
    """
    parts = int(np.gcd(num_first, num_second))
    blocks = rows.reshape(parts, -1, *rows.shape[1:])
    edge = num_first // parts
    shape = rows.shape[1:]
    return blocks[:, :edge].reshape(-1, *shape), blocks[:, edge:].reshape(-1, *shape)


@functools.lru_cache(maxsize=64)
def make_student_loss(student: Tagger, teacher: Tagger, lesson: Lesson) -> LossFn:
    """Returns the loss of a student: of labels, and of what its teacher says of other music.

    Both streams pass through the student in one batch, whose BatchNorm statistics they share; what
    the student hears may be deformed. The teacher, in evaluation, hears the music as it is, and
    nothing of the gradient.

    Args:
        student: the student.
        teacher: the teacher.
        lesson: what the student is told.

    Source: Won, Choi, Serra, "Semi-supervised music tagging transformer", ISMIR 2021, section 3.4,
    and Won's thesis, 3.5.3: the sum of both losses, with soft labels. The published code's loss of
    labels is not in it; here it is the one of supervised training.
    """
    loss_of_logits = binding.LOSSES[lesson.loss]
    apply = binding.make_apply(student, lesson.batch_norm)
    is_softmax = binding.get_output_activation(lesson.loss) == "softmax"
    columns = np.array(lesson.columns)
    changes = Augmentation(chain=lesson.augment, responses=lesson.responses)
    augment = changes.make_augment(student.sample_rate)

    def ask_teacher(variables: PyTree, heard: Array) -> Array:
        chunks = lesson.hearing.teacher.cut(heard)
        logits = teacher.apply(variables, chunks, train=False).logits.astype(jnp.float32)
        probabilities = jax.nn.softmax(logits, axis=-1) if is_softmax else jax.nn.sigmoid(logits)
        return lesson.hearing.teacher.average(probabilities, heard)[:, columns]

    def loss_fn(
        params: PyTree, model_state: PyTree, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        streams = cast(Mapping[str, Stream], batch)
        labeled, unlabeled = streams[LABELED], streams[UNLABELED]
        heard = model_inputs(unlabeled)
        variables = jax.lax.stop_gradient({"params": params, **model_state})
        soft_labels = jax.lax.stop_gradient(ask_teacher(take_network(variables, TEACHER), heard))
        first = model_inputs(labeled)
        inputs = interleave(first, lesson.hearing.student.cut(heard))
        mask = interleave(labeled["mask"], unlabeled["mask"])
        if augment is not None:
            key, own = jax.random.split(key)
            inputs = augment(own, inputs)
        state = take_network(model_state, STUDENT)
        logits, state = apply(params[STUDENT], state, inputs, key, train=True, mask=mask)
        of_labeled, of_unlabeled = separate(logits, len(first), len(heard))
        supervised = loss_of_logits(of_labeled, labeled["labels"], labeled["mask"])
        taught = loss_of_logits(of_unlabeled, soft_labels, unlabeled["mask"])
        weight = _weigh(lesson, model_state)
        moved = {name: {**model_state[name], STUDENT: trees} for name, trees in state.items()}
        metrics = {"loss_of_labels": supervised, "loss_of_teaching": taught}
        return supervised + weight * taught, ({**model_state, **moved}, metrics)

    return loss_fn


def _weigh(lesson: Lesson, model_state: PyTree) -> Array | float:
    """Returns the weight of music without labels, which may grow during training.

    Source: Laine and Aila, "Temporal ensembling for semi-supervised learning", ICLR 2017: exp(-5 (1
    - t)^2) for t from 0 to 1.
    """
    if not lesson.ramp_up_steps:
        return lesson.weight
    done = model_state[SCHEDULE][STUDENT][NUM_STEPS] / lesson.ramp_up_steps
    return lesson.weight * jnp.exp(-5.0 * (1.0 - jnp.minimum(done, 1.0)) ** 2)


def is_student_path(path: tuple[str, ...]) -> bool:
    """Returns whether a parameter is the student's.

    Args:
        path: of the parameter.
    """
    return path[0] == STUDENT


@functools.lru_cache(maxsize=64)
def make_follower(decay: float) -> UpdateState:
    """Returns what moves an averaged teacher after its student, inside the compiled step.

    Args:
        decay: share of the teacher that stays in every step.

    Source: Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017. The running
    statistics of BatchNorm are averaged too; in the first steps the share is that of a plain mean.
    """

    def follow(state: TrainState, batch: Batch, key: Array) -> TrainState:
        # 1 - 1 / (t + 1) of update number t, which is counted from 1.
        share = jnp.minimum(decay, 1.0 - 1.0 / (state.step + 1.0))

        def mix(ours: Array, theirs: Array) -> Array:
            return share * theirs + (1.0 - share) * ours

        def average(trees: Mapping[str, PyTree]) -> dict[str, PyTree]:
            moved = jax.tree.map(mix, trees[STUDENT], trees[TEACHER])
            return {**trees, TEACHER: moved}

        model_state = {
            name: average(trees) if TEACHER in trees else trees
            for name, trees in state.model_state.items()
        }
        count = state.step.astype(jnp.float32)
        model_state[SCHEDULE] = {STUDENT: {NUM_STEPS: count}}
        return state.replace(params=average(state.params), model_state=model_state)

    return follow


def make_student_objective(
    alone: TaggingObjective,
    teacher: Teacher,
    unlabeled: Unlabeled,
    lesson: Lesson,
    settings: ml_collections.ConfigDict,
    *,
    seed: int,
    is_averaged: bool = False,
) -> StudentObjective:
    """Returns the objective of a student.

    Args:
        alone: the objective of the same network that learns from the same labels without teacher.
        teacher: its variables are those that an averaged teacher starts from.
        unlabeled: the music without labels.
        lesson: what the student is told.
        settings: of the job.
        seed: of the job.
        is_averaged: whether the teacher is the average of its student, which then is what is tested
            and kept.
    """
    own, chunk = settings.student, make_chunk_spec(alone.model)
    spec = unlabeled.tracks.spec
    batch_size = own.unlabeled_batch_size or settings.train.batch_size
    excerpt = make_excerpt_spec(lesson.hearing, chunk, spec.stored_form)

    def unlabeled_batches(start_step: int) -> Iterator[Mapping[str, Any]]:
        return pipeline.train_batches(
            unlabeled.tracks,
            excerpt,
            batch_size=batch_size,
            seed=seed + _OTHER_SEED,
            start_step=start_step,
            num_workers=settings.data.num_workers,
            rows=sharding.row_share(alone.validation.mesh),
            as_stored=True,
        )

    tested = TEACHER if is_averaged else STUDENT

    def evaluate(state: TrainState) -> Mapping[str, float]:
        found = take_network({"params": state.params, **state.model_state}, tested)
        return alone.validation.summary(found)

    variables = join_networks({STUDENT: alone.variables, TEACHER: teacher.variables})
    if is_averaged:
        variables[SCHEDULE] = {STUDENT: {NUM_STEPS: np.zeros([], np.float32)}}
    steps = (
        len(alone.train_tracks) // settings.train.batch_size,
        len(unlabeled.tracks) // batch_size,
    )
    shared = {field.name: getattr(alone, field.name) for field in dataclasses.fields(alone)}
    changed = dict(
        variables=variables,
        loss_fn=make_student_loss(alone.model, teacher.model, lesson),
        batches=zip_streams({LABELED: alone.batches, UNLABELED: unlabeled_batches}),
        evaluate=evaluate,
        steps_per_epoch=max(1, *steps),
        is_trainable=is_student_path,
        update_state=make_follower(own.decay) if is_averaged else None,
        start=dataclasses.replace(alone.start, notes=(*alone.start.notes, *teacher.notes)),
    )
    return StudentObjective(
        **shared | changed, teacher_name=teacher.name, unlabeled=unlabeled, tested=tested
    )
