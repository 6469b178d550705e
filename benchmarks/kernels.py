"""Which kernels of a GPU take the time of a step, for `benchmarks/models.py --kernels`."""

import argparse
import collections
import functools
import pathlib
import re
import tempfile
from collections.abc import Callable

from benchmarks.contestants import Implementation

NUM_STEPS = 3


def slowest_kernels(contestants: list[Implementation], settings: argparse.Namespace) -> dict:
    """Returns, for us and `torch.compile`, what the kernels of the last step take, and the slowest.

    Each of those is [name, times per step, microseconds per step, where it comes from].

    Args:
        contestants: that have run before.
        settings: `kernels` is how many are listed.
    """
    found, step = {}, settings.steps[-1]
    for one in contestants:
        if one.name not in ("ours", "torch_compiled"):
            continue
        trace = trace_jax if one.name == "ours" else trace_torch
        totals: dict[str, list[float]] = collections.defaultdict(lambda: [0, 0.0])
        for name, microseconds in trace(functools.partial(one.run[step], NUM_STEPS)):
            totals[name][0] += 1
            totals[name][1] += microseconds
        slowest = sorted(totals.items(), key=lambda item: -item[1][1])[: settings.kernels]
        program = one.program(step)
        found[one.name] = {
            "microseconds": sum(total for _, total in totals.values()) / NUM_STEPS,
            "launches": sum(times for times, _ in totals.values()) / NUM_STEPS,
            "slowest": [
                [name, times / NUM_STEPS, total / NUM_STEPS, origin(name, program)]
                for name, (times, total) in slowest
            ],
        }
    return found


def origin(name: str, program: str) -> str:
    """Returns the shape and the place in the model of an operation of a compiled JAX program.

    Args:
        name: of a kernel; one that XLA has made is called as its operation, with `_` for `.`.
        program: as text.
    """
    for word in name.split():
        operation = "[._]".join(map(re.escape, re.split("[._]", word)))
        line = re.search(rf"^\s*(?:ROOT )?%?{operation} = (.*)$", program, re.MULTILINE)
        if line is not None:
            place = re.search(r'op_name="([^"]*)"', line[1])
            return f"{line[1].split('{')[0][:120]} {place[1] if place else ''}"
    return ""


def trace_jax(run: Callable[[], None]) -> list[tuple[str, float]]:
    """Returns (name, microseconds) of every kernel of a GPU that a JAX program runs."""
    import jax

    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(path))
    events = []
    for plane in data.planes:
        if not plane.name.startswith("/device:GPU"):
            continue
        for line in plane.lines:
            if line.name.startswith("Stream"):
                for event in line.events:
                    stats = {key: value for key, value in event.stats if key == "hlo_op"}
                    name = " ".join(filter(None, (stats.get("hlo_op"), event.name)))
                    events.append((name, event.duration_ns / 1e3))
    return events


def trace_torch(run: Callable[[], None]) -> list[tuple[str, float]]:
    """Returns (name, microseconds) of every kernel of a GPU that a PyTorch program runs."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        run()
    return [
        (event.name, event.device_time_total)
        for event in profiler.events()
        if event.device_type == DeviceType.CUDA
    ]
