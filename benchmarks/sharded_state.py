"""Memory per device of a training whose large arrays are split over the devices, or are not.

    python benchmarks/sharded_state.py
    python benchmarks/sharded_state.py --model spectrogram_transformer --batch-size 8 --devices 8

The state is counted from its shapes; what a step needs beyond it is what XLA plans for its compiled
program. No training is run: virtual CPU devices will do.
"""

import argparse

import jax
import jax.numpy as jnp

from musrep_jax.models import create_model
from musrep_jax.tasks import binding
from musrep_jax.training.optim import make_optimizer
from musrep_jax.training.sharding import DATA_AXIS, Layout, make_mesh
from musrep_jax.training.step import create_state, make_train_step

MEBIBYTE = 2**20


def measure(model: str, num_devices: int, batch_size: int, shard_over: int | None) -> list[float]:
    """Returns MiB per device: of the state, and of what a step needs beside it.

    Args:
        model: name of a model, in its published size with 50 classes.
        num_devices: of the mesh.
        batch_size: of the global batch.
        shard_over: see `musrep_jax.training.sharding.Layout`.
    """
    tagger = create_model(model, 50, {})
    layout = Layout(make_mesh(num_devices), shard_over)
    loss_fn, _ = binding.make_loss(tagger, "model", "update")
    optimizer = make_optimizer({"name": "adam"}, steps_per_epoch=1, num_steps=1)
    step = make_train_step(loss_fn, optimizer.tx, layout=None if shard_over is None else layout)

    def create(key: jax.Array) -> jax.Array:
        inputs = jnp.zeros((1, tagger.num_samples))
        return create_state(tagger.init(key, inputs, train=False), optimizer.tx)

    def placed(leaf: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    shapes = jax.eval_shape(create, jax.random.key(0))
    state = jax.tree.map(placed, shapes, layout.shardings(shapes))
    rows = jax.sharding.NamedSharding(layout.mesh, jax.sharding.PartitionSpec(DATA_AXIS))
    batch = {
        "audio": jax.ShapeDtypeStruct((batch_size, tagger.num_samples), "float32", sharding=rows),
        "labels": jax.ShapeDtypeStruct((batch_size, 50), "float32", sharding=rows),
        "mask": jax.ShapeDtypeStruct((batch_size,), "float32", sharding=rows),
    }
    held = sum(
        leaf.dtype.itemsize * int(jnp.prod(jnp.array(leaf.sharding.shard_shape(leaf.shape))))
        for leaf in jax.tree.leaves(state)
    )
    plan = step.lower(state, batch, jax.random.key(0)).compile().memory_analysis()
    return [held / MEBIBYTE, plan.temp_size_in_bytes / MEBIBYTE]


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="spectrogram_transformer")
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--shard-over", type=int, default=100_000, help="bytes")
    words = parser.parse_args()
    if jax.config.jax_num_cpu_devices < words.devices:
        jax.config.update("jax_num_cpu_devices", words.devices)
    print(f"{words.model}, batch {words.batch_size}, {words.devices} devices; MiB per device")
    for name, shard_over in (("whole", None), ("split", words.shard_over)):
        held, working = measure(words.model, words.devices, words.batch_size, shard_over)
        print(f"{name}: state {held:.0f}, a step's own {working:.0f}")


if __name__ == "__main__":
    main()
