"""What augmentation costs: its share of a train step, and its speed beside audiomentations.

    python benchmarks/augment.py                      # the share, of the compact and the full model
    python benchmarks/augment.py --sizes compact --audiomentations   # needs that package too

CPU seconds, of one thread, because other programs may run beside it; both sides of a ratio run in
turn. The share is that of the chain `published` in a step of the tagging transformer. Beside
audiomentations both sides have the operations that both have, with the same probabilities and
ranges: polarity, noise, gain, high- or low-pass, pitch shift and a room of recorded responses.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

NUM_RESPONSES, RESPONSE_SECONDS = 4, 0.5
PROBABILITIES = {
    "polarity": 0.8, "noise": 0.3, "gain": 0.2, "filter": 0.8, "pitch_shift": 0.4, "room": 0.3,
}  # fmt: skip


def main() -> None:
    """Prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="compact,full")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--audiomentations", action="store_true")
    settings = parser.parse_args()
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
    )
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    rows = []
    for size in filter(None, settings.sizes.split(",")):
        plain, augmented = measure_steps(size, settings.batch, settings.repeats)
        share = 1 - plain / augmented
        rows.append([
            f"train step, {size}", f"{1000 * plain / settings.batch:.0f}",
            f"{1000 * augmented / settings.batch:.0f}", f"{100 * share:.0f} %",
        ])  # fmt: skip
    if settings.audiomentations:
        theirs, ours = measure_libraries(settings.batch, settings.repeats)
        rows.append([
            "audiomentations, ours", f"{1000 * theirs:.1f}", f"{1000 * ours:.1f}",
            f"{theirs / ours:.1f} x",
        ])  # fmt: skip
    print("| what | without, or theirs, ms per example | with, or ours | share, or ratio |")
    print("|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def time_in_turn(runs: list[Callable[[], Any]], repeats: int) -> list[float]:
    """Returns the median CPU seconds of each function; all have run once before."""
    seconds: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    for _ in range(repeats):
        for run, own in zip(runs, seconds, strict=True):
            started = time.process_time()
            run()
            own.append(time.process_time() - started)
    return [statistics.median(own) for own in seconds]


def measure_steps(size: str, batch_size: int, repeats: int) -> tuple[float, float]:
    """Returns CPU seconds of a train step without and with augmentation.

    Args:
        size: "compact" or "full".
        batch_size: of a step.
        repeats: of the measurement.
    """
    import jax
    from musrep_jax.configs.common import COMPACT

    from benchmarks.contestants import NUM_CLASSES, make_data
    from musrep_jax.models import create_model
    from musrep_jax.tasks import binding
    from musrep_jax.tasks.augmentation import Augmentation
    from musrep_jax.training.optim import make_optimizer
    from musrep_jax.training.step import create_state, make_train_step

    name = "tagging_transformer"
    model = create_model(name, NUM_CLASSES, COMPACT[name] if size == "compact" else {})
    audio, labels = make_data(batch_size, model.num_samples)
    batch, key = {"audio": jax.device_put(audio), "labels": labels}, jax.random.key(0)
    variables = jax.jit(lambda: model.init(key, audio, train=False))()
    tx = make_optimizer({"name": "adam"}, steps_per_epoch=1).tx

    def make_run(augmentation: Augmentation) -> Callable[[], Any]:
        loss_fn, _ = binding.make_loss(model, "model", "update", augmentation=augmentation)
        step = make_train_step(loss_fn, tx)
        holder = {"state": create_state(variables, tx)}

        def run() -> None:
            holder["state"], metrics = step(holder["state"], batch, key)
            jax.block_until_ready(metrics)

        return run

    runs = [make_run(Augmentation()), make_run(Augmentation(chain="published"))]
    plain, augmented = time_in_turn(runs, repeats)
    return plain, augmented


def measure_libraries(batch_size: int, repeats: int) -> tuple[float, float]:
    """Returns CPU seconds for a clip of 10 s at 22.05 kHz, of audiomentations and of ours.

    Args:
        batch_size: clips at once; audiomentations takes one by one, and four times as many, since
            it draws each by itself.
        repeats: of the measurement.
    """
    import audiomentations
    import jax
    import numpy as np
    import soundfile

    from musrep_jax.data.audio.responses import read_responses
    from musrep_jax.dsp.augment import Step, compose

    rate, chance = 22_050, PROBABILITIES
    generator = np.random.default_rng(0)
    clips = (0.1 * generator.standard_normal((batch_size, 10 * rate))).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        for index in range(NUM_RESPONSES):
            decay = np.exp(-6.9 * np.arange(int(RESPONSE_SECONDS * rate)) / 5000)
            response = decay * generator.standard_normal(len(decay))
            soundfile.write(os.path.join(folder, f"{index}.wav"), 0.2 * response, rate)
        library = audiomentations
        theirs = library.Compose([
            library.PolarityInversion(p=chance["polarity"]),
            # A standard deviation of .3 to .5 of the clip's.
            library.AddGaussianSNR(6.0, 10.5, p=chance["noise"]),
            library.Gain(-20.0, -1.0, p=chance["gain"]),
            library.OneOf(
                [
                    library.HighPassFilter(200.0, 1200.0, p=1.0),
                    library.LowPassFilter(2200.0, 4000.0, p=1.0),
                ],
                p=chance["filter"],
            ),
            library.PitchShift(-7.0, 7.0, p=chance["pitch_shift"]),
            library.ApplyImpulseResponse(folder, p=chance["room"]),
        ])  # fmt: skip
        steps = [Step(name, probability) for name, probability in chance.items()]
        ours = jax.jit(compose(steps, rate, read_responses(folder, rate)))
        placed, keys = jax.device_put(clips), iter(jax.random.split(jax.random.key(0), 1000))

        def run_theirs() -> None:
            for clip in np.tile(clips, (4, 1)):
                theirs(clip, sample_rate=rate)

        def run_ours() -> None:
            for _ in range(4):
                jax.block_until_ready(ours(next(keys), placed))

        found = time_in_turn([run_theirs, run_ours], repeats)
    return found[0] / (4 * batch_size), found[1] / (4 * batch_size)


if __name__ == "__main__":
    main()
