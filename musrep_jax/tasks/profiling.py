"""The costs of a tagger: operations per chunk, and tracks scored per second."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core

from musrep_jax.kernels.formulations import override_formulations
from musrep_jax.tasks.scoring import SplitScorer
from musrep_jax.types import PyTree, model_inputs


def profile_scoring(scorer: SplitScorer, variables: PyTree) -> dict[str, Any]:
    """Returns the cost of scoring, measured on a split that was scored before.

    Args:
        scorer: of the split; its programs are compiled already.
        variables: of the model.

    Returns:
        `flops_per_chunk`: of one forward pass with the front end, see `count_flops`.
        `flops_per_second`: of audio. `chunk_seconds`: length of a chunk. `tracks_per_second`: whole
        tracks, all of their chunks, reading of the data included.
    """
    model = scorer.model
    inputs = model_inputs(next(iter(scorer.batches())))
    chunk = jax.ShapeDtypeStruct((1, *inputs.shape[1:]), inputs.dtype)
    flops = count_flops(
        lambda variables, inputs: model.apply(variables, inputs, train=False).logits,
        variables,
        chunk,
    )
    chunk_seconds = model.num_samples / model.sample_rate
    started = time.perf_counter()
    scorer.scores(variables)
    seconds = time.perf_counter() - started
    return {
        "flops_per_chunk": flops,
        "flops_per_second": flops / chunk_seconds,
        "chunk_seconds": chunk_seconds,
        "tracks_per_second": len(scorer.tracks) / seconds,
    }


def count_flops(function: Callable[..., Any], *arguments: Any) -> float:
    """Returns the operations of a function: its products, convolutions and Fourier transforms.

    They are counted in the function as traced, in plain formulations (`models.formulations`), so
    that the number is the same on every backend; XLA's own count takes the body of a loop once,
    however often it runs. Two operations for a multiplication with addition; padding counts as
    data; what is done element by element (a small part) is left out, as is customary.

    Args:
        function: of JAX.
        arguments: arrays, or what has their shapes and types.

    Example:
        >>> import jax.numpy as jnp
        >>> count_flops(lambda a, b: a @ b, jnp.zeros((2, 3)), jnp.zeros((3, 5)))
        60.0
    """
    # A separate function, because JAX caches traces.
    with override_formulations(frozenset()):
        return _count(jax.make_jaxpr(lambda *inputs: function(*inputs))(*arguments).jaxpr)


def _count(jaxpr: core.Jaxpr) -> float:
    """Returns the operations of a traced function."""
    total = 0.0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        inner = [_count(sub) for sub in _inner_functions(equation.params)]
        if name in _OPERATIONS:
            total += _OPERATIONS[name](equation)
        elif name == "scan":
            total += equation.params["length"] * sum(inner)
        elif name == "cond":
            total += max(inner)
        else:
            total += sum(inner)
    return total


def _inner_functions(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """Yields the functions that an operation calls."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, core.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, core.Jaxpr):
                yield item


def _product(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    depth = math.prod(left[axis] for axis in contracted)
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * depth


def _convolution(equation: Any) -> float:
    kernel = equation.invars[1].aval.shape
    num_out = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / num_out


def _fourier_transform(equation: Any) -> float:
    """Returns 5 n log2 n per complex transform and half of it per real one, the usual figure."""
    lengths = equation.params["fft_lengths"]
    size = math.prod(lengths)
    kind = equation.params["fft_type"]
    is_real = "RFFT" in getattr(kind, "name", str(kind))
    shape = equation.invars[0].aval.shape
    num_transforms = math.prod(shape[: len(shape) - len(lengths)])
    return (2.5 if is_real else 5.0) * num_transforms * size * math.log2(size)


_OPERATIONS: dict[str, Callable[[Any], float]] = {
    "dot_general": _product,
    "conv_general_dilated": _convolution,
    "fft": _fourier_transform,
}
