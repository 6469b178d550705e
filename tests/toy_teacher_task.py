"""A task of two networks and two streams: a student learns, its teacher is the student's average.

The student learns from labeled tracks, and on unlabeled ones to say what its teacher says. The
teacher is moved by no gradient: it follows the student inside the compiled step.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from toy_tracks import CHUNK, NUM_CLASSES, NUM_SAMPLES, ToyTracks

from musrep_jax.data.input.pipeline import train_batches
from musrep_jax.data.input.streams import zip_streams
from musrep_jax.losses import binary_cross_entropy, masked_mean
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.task import Export, Metric, Outcome, Task
from musrep_jax.training.objective import Objective
from musrep_jax.training.sharding import make_mesh, row_share, to_host


class Net(nn.Module):
    """Two layers."""

    @nn.compact
    def __call__(self, audio):
        return nn.Dense(NUM_CLASSES)(nn.tanh(nn.Dense(12)(8 * audio)))


NET, DECAY = Net(), 0.8


def is_student(path):
    return path[0] == "student"


def loss_fn(params, model_state, batch, key):
    labeled, unlabeled = batch["labeled"], batch["unlabeled"]
    logits = NET.apply({"params": params["student"]}, labeled["audio"])
    supervised = binary_cross_entropy(logits, labeled["labels"], labeled["mask"])
    student, teacher = (predict(params[name], unlabeled["audio"]) for name in sorted(params))
    distance = jnp.square(student - teacher).mean(axis=-1)
    consistency = masked_mean(distance, unlabeled["mask"])
    return supervised + consistency, (model_state, {"consistency": consistency})


def follow_student(state, batch, key):
    student, teacher = state.params["student"], state.params["teacher"]
    teacher = jax.tree.map(lambda t, s: DECAY * t + (1 - DECAY) * s, teacher, student)
    return state.replace(params={"student": student, "teacher": teacher})


@jax.jit
def predict(params, audio):
    return jax.nn.sigmoid(NET.apply({"params": params}, audio))


class TeacherTask(Task):
    """Trains both networks; the teacher is tested and kept."""

    def jobs(self, config):
        return [Job("teacher", {"target": "levels", "seed": 0})]

    def prepare(self, job, context):
        share = row_share(make_mesh(context.settings.train.num_devices))
        sources = {
            name: lambda start, size=size, seed=seed: train_batches(
                ToyTracks(3 * size, seed), CHUNK, batch_size=size, seed=seed, start_step=start,
                rows=share, as_stored=True,
            )
            for name, size, seed in (("labeled", 6, job.seed), ("unlabeled", 20, job.seed + 100))
        }  # fmt: skip
        params = NET.init(jax.random.key(job.seed), jnp.zeros((1, NUM_SAMPLES)))
        validation = ToyTracks(12, seed=7)

        def evaluate(state):
            scores = predict(to_host(state.params["teacher"]), validation.read_starts())
            error = float(np.abs(validation.label_matrix - np.asarray(scores)).mean())
            return {"accuracy": self.accuracy(scores, validation), "error": error}

        return Objective(
            variables={"params": dict.fromkeys(("student", "teacher"), params["params"])},
            loss_fn=loss_fn,
            batches=zip_streams(sources),
            evaluate=evaluate,
            select_by=("error", "min"),
            steps_per_epoch=3,
            is_trainable=is_student,
            update_state=follow_student,
        )

    def accuracy(self, scores, tracks):
        return float(np.mean(np.argmax(scores, axis=1) == tracks.classes))

    def finish(self, job, objective, fit, context):
        best, test = to_host(fit.best_state.params), ToyTracks(12, seed=8)
        accuracy = self.accuracy(predict(best["teacher"], test.read_starts()), test)
        return Outcome(
            [Metric("accuracy", accuracy, chance=1 / NUM_CLASSES)],
            fields={"best_step": fit.best_step},
            exports={"": Export({"params": best}, {"model": "student and teacher"})},
        )
