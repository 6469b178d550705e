"""Projections of parameters, for what follows an update inside the compiled step."""

import jax.numpy as jnp

from musrep_jax.types import Array


def limit_norms(vectors: Array, max_norm: float) -> Array:
    """Returns vectors of which none is longer than a limit; shorter ones stay as they are.

    Args:
        vectors: float (vectors, width).
        max_norm: the largest Euclidean norm.

    Source: the constraint of WSABIE (Weston, Bengio, Usunier, IJCAI 2011).

    Example:
        >>> limit_norms(jnp.array([[3.0, 4.0], [0.3, 0.4]]), 1.0).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.30000001192092896, 0.4000000059604645]]
    """
    norms = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
    return jnp.where(norms > max_norm, vectors * (max_norm / jnp.maximum(norms, max_norm)), vectors)
