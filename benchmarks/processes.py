"""An opponent of `benchmarks/models.py` in a process of its own.

On a CPU our command lines set the heap of the C library for their whole process
(`musrep_jax.runtime.heap`). PyTorch runs beside that in another process, with the heap as its own
users have it, or, as "torch_kept", with ours. It works only when it is asked to, so that the two
never run together.
"""

import argparse
import functools
import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.contestants import NUM_CLASSES, Implementation, make_data, make_torch_implementation


def serve(pipe: Connection, name: str, model: str, settings: argparse.Namespace) -> None:
    """Makes an opponent and runs its steps as they are asked for, until None comes.

    Args:
        pipe: to the process that asks. The first message from here are the opponent's facts, the
            others answers: to "cpu" the CPU seconds of this process, to (step, times) None.
        name: of the opponent; "_kept" at its end sets the heap as our command lines do.
        model: a name of `TORCH_MODELS`.
        settings: of the benchmark.
    """
    import torch

    from benchmarks.torch_models import TORCH_MODELS
    from musrep_jax.models import create_model
    from musrep_jax.runtime.heap import retain_freed_memory

    if name.endswith("_kept"):
        retain_freed_memory()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    tagger = create_model(model, NUM_CLASSES, {"dtype": settings.dtype})
    data = make_data(settings.batch, tagger.num_samples)
    made = make_torch_implementation(
        name.removesuffix("_kept"), TORCH_MODELS[model](tagger), data, settings
    )
    pipe.send(made.facts)
    while (asked := pipe.recv()) is not None:
        if asked == "cpu":
            pipe.send(time.process_time())
        else:
            step, times = asked
            made.run[step](times)
            pipe.send(None)


def make_remote(name: str, model: str, settings: argparse.Namespace) -> Implementation:
    """Returns PyTorch in a process of its own, which ends with this one or with `close`.

    Args:
        name: "torch", "torch_compiled", "torch_kept".
        model: a name of `TORCH_MODELS`.
        settings: of the benchmark.
    """
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, name, model, settings), daemon=True)
    process.start()
    theirs.close()

    def ask(question: Any) -> Any:
        pipe.send(question)
        return pipe.recv()

    def run(step: str, times: int) -> None:
        ask((step, times))

    def close() -> None:
        pipe.send(None)
        process.join()

    facts = pipe.recv()
    steps = {step: functools.partial(run, step) for step in ("forward", "train")}
    return Implementation(
        name, steps, facts=facts, cpu_clock=functools.partial(ask, "cpu"), close=close
    )
