"""A task of three streams: an embedding in which tracks of one class are near to each other."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from toy_tracks import CHUNK, NUM_CLASSES, NUM_SAMPLES, ToyTracks

from musrep_jax.data.input.pipeline import crop_batches
from musrep_jax.data.input.samplers import Triplets
from musrep_jax.losses import masked_mean
from musrep_jax.tasks.jobs import Job
from musrep_jax.tasks.task import Export, Metric, Outcome, Task
from musrep_jax.training.objective import Objective
from musrep_jax.training.sharding import make_mesh, row_share, to_host

MARGIN = 0.4


class Encoder(nn.Module):
    """Two layers onto the unit sphere."""

    @nn.compact
    def __call__(self, audio):
        x = nn.Dense(8)(nn.tanh(nn.Dense(12)(8 * audio)))
        return x / jnp.sqrt(jnp.square(x).sum(axis=-1, keepdims=True) + 1e-6)


ENCODER = Encoder()


def loss_fn(params, model_state, batch, key):
    anchor, positive, negative = (
        ENCODER.apply({"params": params["audio"]}, batch[role]["audio"])
        for role in ("anchor", "positive", "negative")
    )
    gap = (anchor * negative).sum(axis=-1) - (anchor * positive).sum(axis=-1)
    loss = masked_mean(nn.softplus(10 * (gap + MARGIN)) / 10, batch["anchor"]["mask"])
    return loss, (model_state, {"gap": masked_mean(gap, batch["anchor"]["mask"])})


@jax.jit
def embed(params, audio):
    return ENCODER.apply({"params": params["audio"]}, audio)


def median_rank(embeddings, classes):
    """Returns the median over tracks of the rank, from 1, of the nearest track of its class."""
    near = np.array(embeddings @ embeddings.T)
    np.fill_diagonal(near, -np.inf)
    order = np.argsort(-near, axis=1)
    return float(np.median(1 + np.argmax(classes[order] == classes[:, None], axis=1)))


class TripletTask(Task):
    """Trains an encoder on triplets; judged by a rank, of which less is better."""

    def jobs(self, config):
        return [Job("triplets", {"target": "levels", "model": "encoder", "seed": 0})]

    def prepare(self, job, context):
        tracks, validation = ToyTracks(16, job.seed), ToyTracks(24, seed=7)
        share = row_share(make_mesh(context.settings.train.num_devices))
        sampler = Triplets(tracks.label_matrix, batch_size=10)
        params = ENCODER.init(jax.random.key(job.seed), jnp.zeros((1, NUM_SAMPLES)))["params"]

        def batches(start_step):
            return crop_batches(
                tracks, CHUNK, sampler, seed=job.seed, start_step=start_step, rows=share,
                as_stored=True,
            )  # fmt: skip

        def evaluate(state):
            embeddings = embed(to_host(state.params), validation.read_starts())
            return {"median_rank": median_rank(embeddings, validation.classes)}

        return Objective(
            variables={"params": {"audio": params}},
            loss_fn=loss_fn,
            batches=batches,
            evaluate=evaluate,
            select_by=("median_rank", "min"),
            steps_per_epoch=2,
        )

    def finish(self, job, objective, fit, context):
        best, test = to_host(fit.best_state.params), ToyTracks(24, seed=8)
        rank = median_rank(embed(best, test.read_starts()), test.classes)
        return Outcome(
            [Metric("median_rank", rank, is_larger_better=False, chance=1 + NUM_CLASSES)],
            fields={"best_step": fit.best_step},
            exports={"": Export({"params": best}, {"model": "encoder"})},
        )
