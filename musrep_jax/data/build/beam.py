"""The shards of a data set on Apache Beam, where one machine is not enough.

Shards are built by the same code as on one machine, so the result is the same, and a failed
pipeline resumes. All workers must see the building folder at the same path (a shared disk).
"""

import pathlib
from collections.abc import Sequence

from musrep_jax.data.build.lock import BuildInterruptedError
from musrep_jax.data.build.shards import (
    Shard,
    ShardRecipe,
    ShardStats,
    make_shard,
    read_shard_stats,
)

LOCAL_RUNNER = "FnApiRunner"
"""What runs in this process. The `DirectRunner` of Beam 2.68 and later may choose Prism instead,
which it fetches from the network."""


class BeamError(ValueError):
    """Beam is not there, or its options are wrong; the message is one sentence."""


def make_shards_on_beam(
    shards: Sequence[Shard], recipe: ShardRecipe, options: Sequence[str]
) -> list[ShardStats]:
    """Builds the missing shards and returns the contents of all.

    Args:
        shards: of the data set.
        recipe: how they are made; its folder is one that all workers see.
        options: of the pipeline, such as `--runner=FlinkRunner`; without a runner, or with the
            `DirectRunner`, the pipeline runs on this machine.

    Raises:
        BeamError: if Beam is not installed or does not accept the options.
        BuildInterruptedError: if the pipeline fails, or its workers do not see the folder.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
    except ImportError as error:
        raise BeamError(
            'Apache Beam is not installed; install it with pip install "musrep_jax[beam]".'
        ) from error
    folder = pathlib.Path(recipe.folder)
    try:
        parsed = PipelineOptions(list(options))
        standard = parsed.view_as(StandardOptions)
        if standard.runner in (None, "DirectRunner", "direct"):
            standard.runner = LOCAL_RUNNER
        pipeline = beam.Pipeline(options=parsed)
    except (ValueError, SystemExit) as error:
        raise BeamError(
            f"Beam does not accept {' '.join(options)!r}: {str(error).rstrip('.')}."
        ) from error
    todo = [shard for shard in shards if read_shard_stats(folder, shard) is None]
    if todo:
        # One bundle each, so that a runner can spread them.
        shares = pipeline | beam.Create(todo) | beam.Reshuffle()
        shares | beam.Map(_make_shard_in_worker, recipe) | beam.combiners.Count.Globally()
        try:
            pipeline.run().wait_until_finish()
        except Exception as error:
            last = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise BuildInterruptedError(
                f"the Beam pipeline failed ({last[0]}); finished work is kept, and the same "
                "command resumes."
            ) from error
    facts = [read_shard_stats(folder, shard) for shard in shards]
    if None in facts:
        raise BuildInterruptedError(
            f"shard {shards[facts.index(None)].name} did not arrive in {folder}; all workers of "
            "the pipeline must see that folder, on a shared disk."
        )
    return facts


def _make_shard_in_worker(shard: Shard, recipe: ShardRecipe) -> int:
    """Makes a shard in a worker of Beam; returns how many records it holds."""
    if not pathlib.Path(recipe.folder).is_dir():
        raise FileNotFoundError(
            f"this worker does not see {recipe.folder}: put the data sets on a shared disk"
        )
    return make_shard(shard, recipe).num_records
