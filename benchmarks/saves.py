"""What it costs to save a training state, and to read it back.

    python benchmarks/saves.py                                   # three models, 20 saves each
    python benchmarks/saves.py --models spectrogram_transformer  # AST-base: 1.4 GB a save
    python benchmarks/saves.py --quick                           # does it run at all

A state has the shapes of a training with Adam, and noise in place of numbers; it is saved with best
weights beside it, as a training does. `blocked` is how long the training waits, the rest is written
beside it. What saves leave behind in memory is seen in `tests/faults/soak.py`.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

# So that it runs from a checkout that is not installed.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

MODELS = "vgg_ish,short_chunk_resnet,tagging_transformer"
NUM_CLASSES = 50


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Returns the command line's settings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=MODELS, help="names, separated by commas")
    parser.add_argument("--saves", type=int, default=20, help="of each model")
    parser.add_argument("--quick", action="store_true", help="one model, three saves")
    settings = parser.parse_args(arguments)
    if settings.quick:
        settings.models, settings.saves = "vgg_ish", 3
    return settings


def make_state(name: str) -> Any:
    """Returns a training state of a model, filled with noise."""
    import jax
    import numpy as np

    from musrep_jax.models import create_model
    from musrep_jax.training.optim import make_optimizer
    from musrep_jax.training.step import create_state

    model = create_model(name, NUM_CLASSES, {})
    tx, noise = make_optimizer({"name": "adam"}, steps_per_epoch=1).tx, np.random.default_rng(0)

    def make() -> Any:
        inputs = np.zeros((1, model.num_samples), np.float32)
        return create_state(model.init(jax.random.key(0), inputs, train=False), tx)

    shapes = jax.eval_shape(make)
    return jax.tree.map(
        lambda leaf: jax.device_put(noise.standard_normal(leaf.shape).astype(leaf.dtype)), shapes
    )


def measure(name: str, num_saves: int) -> dict[str, Any]:
    """Returns a row of the table.

    Args:
        name: of a model.
        num_saves: how often its state is saved.
    """
    import jax

    from musrep_jax.training.checkpoints import TrainCheckpoints

    state = make_state(name)
    best = state.replace(opt_state=None)
    leaves = jax.tree.leaves((state, best))
    blocked, clock, cpu = [], [], []
    with tempfile.TemporaryDirectory() as folder, TrainCheckpoints(folder, {}) as checkpoints:
        for step in range(num_saves):
            start, cpu_start = time.perf_counter(), time.process_time()
            checkpoints.save(step, state, {}, best)
            blocked.append(time.perf_counter() - start)
            checkpoints.wait()
            clock.append(time.perf_counter() - start)
            cpu.append(time.process_time() - cpu_start)
        start = time.perf_counter()
        jax.block_until_ready(checkpoints.restore(state).state)
        restored = time.perf_counter() - start
    return {
        "model": name,
        "arrays": len(leaves),
        "MB": sum(leaf.nbytes for leaf in leaves) / 1e6,
        "blocked s": statistics.median(blocked),
        "s": statistics.median(clock),
        "CPU s": statistics.median(cpu),
        "restore s": restored,
    }


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Prints a table and returns its rows."""
    settings = parse_arguments(arguments)
    rows = []
    for name in settings.models.split(","):
        row = measure(name, settings.saves)
        if not rows:
            print(f"| {' | '.join(row)} |\n|{'---|' * len(row)}")
        cells = (f"{x:.2f}" if isinstance(x, float) else str(x) for x in row.values())
        print(f"| {' | '.join(cells)} |", flush=True)
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
