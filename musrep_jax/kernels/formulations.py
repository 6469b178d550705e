"""Which formulation of an operation is taken: one that is fast on this backend, or the plain one.

A formulation computes what its plain twin computes, values and gradients, to rounding:

    "convolution"       CPU         `cpu_kernels.convolve`           of images
    "attention"         CPU         `cpu_kernels.attend`
    "pooling"           CPU, GPU    `cpu_kernels.max_pool`
    "maximum"           CPU         `cpu_maximum.convolve_maximum`   of a convolution, over bands
    "patches"           GPU         `gpu_kernels.convolve_tall`      long kernels over one channel
    "flash_attention"   GPU         `gpu_kernels.attention_implementation`
    "rows"              GPU         `gpu_kernels.make_last_axis_contiguous`

It is chosen at trace time by the default backend; a CPU takes its own only if there is one device,
because a loop over examples is a loop over all devices' examples. `override_formulations` overrides
the choice.
"""

import contextlib
from collections.abc import Iterator

import jax

BACKENDS: dict[str, tuple[str, ...]] = {
    "convolution": ("cpu",),
    "attention": ("cpu",),
    "pooling": ("cpu", "gpu"),
    "maximum": ("cpu",),
    "patches": ("gpu",),
    "flash_attention": ("gpu",),
    "rows": ("gpu",),
}
"""Name of a formulation -> backends that take it."""

_override: frozenset[str] | None = None


def get_active_formulations() -> frozenset[str]:
    """Returns the names of the formulations that are taken now."""
    if _override is not None:
        return _override
    backend = jax.default_backend()
    if backend == "cpu" and jax.device_count() > 1:
        return frozenset()
    return frozenset(name for name, backends in BACKENDS.items() if backend in backends)


def is_used(name: str) -> bool:
    """Returns whether a formulation is to be taken instead of the plain one.

    Args:
        name: a key of `BACKENDS`.
    """
    return name in get_active_formulations()


@contextlib.contextmanager
def override_formulations(names: frozenset[str] | None) -> Iterator[None]:
    """Within this context, exactly the named formulations are used, on any backend.

    It acts on tracing: what `jax.jit` has traced before stays as it is.

    Args:
        names: some keys of `BACKENDS`; None leaves the choice to the backend.

    Raises:
        ValueError: if there is no such formulation.
    """
    global _override
    unknown = sorted((names or frozenset()) - BACKENDS.keys())
    if unknown:
        raise ValueError(
            f"There is no formulation {unknown[0]!r}; there are {', '.join(BACKENDS)}."
        )
    before, _override = _override, names
    try:
        yield
    finally:
        _override = before


def get_single_run_compiler_options() -> dict[str, int] | None:
    """Returns `compiler_options` of `jax.jit` for a program that runs once, as initialization does.

    Without optimization a CPU's compiler takes less than a third of its time for it
    (short_chunk_resnet: 6 of 20 CPU seconds), and the values are the same to rounding.
    """
    return {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
