"""The implementations that `benchmarks/models.py` lets run against each other.

Libraries are imported inside functions: the number of threads is set before XLA counts cores, and
PyTorch is needed only where it is an opponent.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Any

NUM_CLASSES = 50


@dataclasses.dataclass
class Implementation:
    """One implementation of one model.

    Attributes:
        name: "ours", "torch", "torch_compiled", "torch_kept", "peer", "plain" or
            "without_<formulation>".
        run: step ("forward" or "train") -> function that does it a number of times and waits.
        seconds: step -> measured seconds per step.
        cpu_seconds: step -> the same in seconds of CPU time, summed over threads.
        facts: what else is known of it, such as parameters and compile seconds.
        cpu_clock: CPU seconds of the process that it runs in.
        close: ends that process, if it is one of its own.
        peak_bytes: step -> memory of the device that it takes, or None where that is not known.
        program: step -> the compiled program as text, or "".
        release: gives memory that is only kept for the next step back to the device.
    """

    name: str
    run: dict[str, Callable[[int], None]]
    seconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    cpu_seconds: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    cpu_clock: Callable[[], float] = time.process_time
    close: Callable[[], None] = lambda: None
    peak_bytes: Callable[[str], int | None] = lambda step: None
    program: Callable[[str], str] = lambda step: ""
    release: Callable[[], None] = lambda: None


def make_data(batch: int, num_samples: int) -> tuple[Any, Any]:
    """Returns noise float32 (batch, samples) and labels float32 (batch, classes)."""
    import numpy as np

    generator = np.random.default_rng(0)
    audio = 0.1 * generator.standard_normal((batch, num_samples), np.float32)
    return audio, (generator.random((batch, NUM_CLASSES)) < 0.1).astype(np.float32)


def make_jax_implementation(
    name: str, model: Any, formulations: frozenset[str] | None, data: Any
) -> Implementation:
    """Returns our implementation, compiled.

    Args:
        name: of the contestant.
        model: an unbound tagger.
        formulations: the CPU formulations it may use; None leaves the choice to the library.
        data: from `make_data`.
    """
    import jax

    from benchmarks.memory import planned_bytes
    from musrep_jax.kernels.formulations import override_formulations
    from musrep_jax.losses import make_tagging_loss
    from musrep_jax.tasks.binding import make_apply
    from musrep_jax.tasks.profiling import count_flops
    from musrep_jax.training.optim import make_optimizer
    from musrep_jax.training.step import create_state, make_train_step

    audio, labels = (jax.device_put(array) for array in data)
    key = jax.random.key(0)
    tx = make_optimizer({"name": "adam"}, steps_per_epoch=1).tx
    loss_fn = make_tagging_loss(make_apply(model, "update"))
    batch = {"audio": audio, "labels": labels}

    def forward_of(variables: Any, audio: Any) -> Any:
        return model.apply(variables, audio, train=False).logits

    with override_formulations(formulations):
        variables = jax.jit(lambda: model.init(key, audio, train=False))()
        state = create_state(variables, tx)
        started = time.perf_counter()
        forward = jax.jit(forward_of).lower(variables, audio).compile()
        between = time.perf_counter()
        train_step = make_train_step(loss_fn, tx).lower(state, batch, key).compile()
        ended = time.perf_counter()
    flops = count_flops(forward_of, variables, audio)
    programs = {"forward": forward, "train": train_step}
    holder = {"state": state}
    del state

    def run_forward(times: int) -> None:
        for _ in range(times):
            logits = forward(variables, audio)
        jax.block_until_ready(logits)

    def run_train(times: int) -> None:
        for _ in range(times):
            holder["state"], metrics = train_step(holder["state"], batch, key)
        jax.block_until_ready((holder["state"], metrics))

    facts = {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        "forward_gflops_per_example": flops / len(audio) / 1e9,
        "compile_seconds": {"forward": between - started, "train": ended - between},
    }
    return Implementation(
        name,
        {"forward": run_forward, "train": run_train},
        facts=facts,
        peak_bytes=lambda step: planned_bytes(programs[step]),
        program=lambda step: programs[step].as_text(),
    )


def make_torch_implementation(
    name: str, module: Any, data: Any, settings: argparse.Namespace
) -> Implementation:
    """Returns a PyTorch implementation, eager or, if the name says so, by `torch.compile`.

    Args:
        name: "torch", "torch_compiled" or "peer", which returns probabilities.
        module: waveform (batch, samples) -> logits or probabilities (batch, classes).
        data: from `make_data`.
        settings: the dtype; bfloat16 is by autocast, as is usual there.
    """
    import torch
    from torch.nn import functional as F

    device = "cuda" if torch.cuda.is_available() else "cpu"
    audio, labels = (torch.from_numpy(array).to(device) for array in data)
    module = module.to(device)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-4, weight_decay=1e-4)
    call = torch.compile(module) if name == "torch_compiled" else module
    loss_of = F.binary_cross_entropy if name == "peer" else F.binary_cross_entropy_with_logits
    casting = settings.dtype == "bfloat16"

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def run_forward(times: int) -> None:
        module.eval()
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=casting):
            for _ in range(times):
                call(audio)
        wait()

    def run_train(times: int) -> None:
        module.train()
        for _ in range(times):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, torch.bfloat16, enabled=casting):
                output = call(audio)
            loss_of(output.float(), labels).backward()
            optimizer.step()
        wait()

    run = {"forward": run_forward, "train": run_train}

    def peak_bytes(step: str) -> int | None:
        if device != "cuda":
            return None
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        moments = [t for s in optimizer.state.values() for t in s.values() if t.is_cuda]
        kept = [audio, labels, *module.state_dict().values(), *gradients, *moments]
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run[step](1)
        return torch.cuda.max_memory_allocated() - before + sum(t.nbytes for t in kept)

    parameters = sum(p.numel() for p in module.parameters())
    return Implementation(
        name,
        run,
        facts={"parameters": parameters},
        peak_bytes=peak_bytes,
        release=torch.cuda.empty_cache,
    )
