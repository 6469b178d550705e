"""What a tagger costs: operations per chunk, and tracks scored per second."""

import time
from typing import Any

import jax

from musrep_jax.recipes import binding
from musrep_jax.recipes.scoring import SplitScorer
from musrep_jax.types import PyTree, model_inputs


def profile_scoring(scorer: SplitScorer, variables: PyTree) -> dict[str, Any]:
    """Returns what scoring costs, measured on a split that was scored before.

    Args:
        scorer: of the split; its programs are compiled already.
        variables: of the model.

    Returns:
        `flops_per_chunk` by XLA's own count for one forward pass of the compiled program, front
        end included (None where the backend does not count), and `tracks_per_second`, reading of
        the data included.
    """
    batch = next(iter(scorer.batches()))
    inputs = model_inputs(batch)
    program = binding.make_forward(scorer.model).lower(variables, inputs).compile()
    counted = program.cost_analysis()
    counted = counted[0] if isinstance(counted, list) else counted
    started = time.perf_counter()
    jax.block_until_ready(scorer.scores(variables))
    seconds = time.perf_counter() - started
    flops = (counted or {}).get("flops")
    return {
        "flops_per_chunk": flops / len(inputs) if flops else None,
        "tracks_per_second": len(scorer.tracks) / seconds,
    }
